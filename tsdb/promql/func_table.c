/* func_table.c - the rows, and finding one by name. */
#include "tsdb/promql/func_table.h"

static const struct ts_func funcs[] = {
#define X(id_, name_, args_, variadic_, returns_, experimental_)                                             \
    {.id = TS_FUNC_##id_,                                                                                    \
     .name = (name_),                                                                                        \
     .args = (args_),                                                                                        \
     .variadic = (variadic_),                                                                                \
     .returns = TS_TYPE_##returns_,                                                                          \
     .experimental = (experimental_)},
    TS_FUNC_LIST(X)
#undef X
};

const struct ts_func *ts_func_find(kv_slice name)
{
    for (size_t i = 0; i < TS_FUNCS; i++)
        if (kv_slice_equal(kv_slice_str(funcs[i].name), name))
            return &funcs[i];
    return NULL;
}

const struct ts_func *ts_func_get(enum ts_func_id id)
{
    return &funcs[id];
}

enum ts_value_type ts_func_arg_type(char letter)
{
    switch (letter) {
    case 'v':
        return TS_TYPE_VECTOR;
    case 'm':
        return TS_TYPE_MATRIX;
    case 's':
        return TS_TYPE_SCALAR;
    case 't':
        return TS_TYPE_STRING;
    default:
        return TS_TYPE_NONE;
    }
}
