/* func_math.c - functions of one value: each maps a column in place. */
#include "tsdb/query/func.h"

#include <math.h>

/* Go's math.Min and math.Max: NaN wins over all but the infinity of the direction, and -0 is less than 0. */
static double min_of(double a, double b)
{
    if (isinf(a) && a < 0)
        return a;
    if (isinf(b) && b < 0)
        return b;
    if (isnan(a) || isnan(b))
        return NAN;
    if (a == 0 && a == b)
        return signbit(a) ? a : b;
    return a < b ? a : b;
}
static double max_of(double a, double b)
{
    return -min_of(-a, -b);
}
static double sign_of(double v)
{
    return v < 0 ? -1 : v > 0 ? 1 : v;
}

/* One function: v is the value, p[0] and p[1] the columns of its scalars, i the step. */
#define MAP(name, result)                                                                                    \
    static void apply_##name(const struct ts_grid *grid, double *values, const double *const *p)             \
    {                                                                                                        \
        (void)p;                                                                                             \
        for (size_t i = 0; i < grid->n; i++) {                                                               \
            double v = values[i];                                                                            \
            if (!ts_is_absent(v))                                                                            \
                values[i] = (result);                                                                        \
        }                                                                                                    \
    }

MAP(abs, fabs(v))
MAP(acos, acos(v))
MAP(acosh, acosh(v))
MAP(asin, asin(v))
MAP(asinh, asinh(v))
MAP(atan, atan(v))
MAP(atanh, atanh(v))
MAP(ceil, ceil(v))
MAP(clamp, p[1][i] < p[0][i] ? ts_absent() : max_of(p[0][i], min_of(p[1][i], v)))
MAP(clamp_max, max_of(-INFINITY, min_of(p[0][i], v)))
MAP(clamp_min, max_of(p[0][i], min_of(INFINITY, v)))
MAP(cos, cos(v))
MAP(cosh, cosh(v))
MAP(deg, v * 180 / M_PI)
MAP(exp, exp(v))
MAP(floor, floor(v))
MAP(ln, log(v))
MAP(log10, log10(v))
MAP(log2, log2(v))
MAP(max_of, max_of(v, p[0][i]))
MAP(min_of, min_of(v, p[0][i]))
MAP(rad, v *M_PI / 180)
MAP(round, floor(v + 0.5))
MAP(round_to, floor(v *(1.0 / p[0][i]) + 0.5) / (1.0 / p[0][i])) /* the inverse: fewer surprises at 0.1 */
MAP(sgn, sign_of(v))
MAP(sin, sin(v))
MAP(sinh, sinh(v))
MAP(sqrt, sqrt(v))
MAP(tan, tan(v))
MAP(tanh, tanh(v))

static const struct ts_map_fn map_fns[TS_FUNCS] = {
    [TS_FUNC_ABS] = {apply_abs, 0},
    [TS_FUNC_ACOS] = {apply_acos, 0},
    [TS_FUNC_ACOSH] = {apply_acosh, 0},
    [TS_FUNC_ASIN] = {apply_asin, 0},
    [TS_FUNC_ASINH] = {apply_asinh, 0},
    [TS_FUNC_ATAN] = {apply_atan, 0},
    [TS_FUNC_ATANH] = {apply_atanh, 0},
    [TS_FUNC_CEIL] = {apply_ceil, 0},
    [TS_FUNC_CLAMP] = {apply_clamp, 2},
    [TS_FUNC_CLAMP_MAX] = {apply_clamp_max, 1},
    [TS_FUNC_CLAMP_MIN] = {apply_clamp_min, 1},
    [TS_FUNC_COS] = {apply_cos, 0},
    [TS_FUNC_COSH] = {apply_cosh, 0},
    [TS_FUNC_DEG] = {apply_deg, 0},
    [TS_FUNC_EXP] = {apply_exp, 0},
    [TS_FUNC_FLOOR] = {apply_floor, 0},
    [TS_FUNC_LN] = {apply_ln, 0},
    [TS_FUNC_LOG10] = {apply_log10, 0},
    [TS_FUNC_LOG2] = {apply_log2, 0},
    [TS_FUNC_MAX_OF] = {apply_max_of, 1},
    [TS_FUNC_MIN_OF] = {apply_min_of, 1},
    [TS_FUNC_RAD] = {apply_rad, 0},
    [TS_FUNC_ROUND] = {apply_round, 0},
    [TS_FUNC_SGN] = {apply_sgn, 0},
    [TS_FUNC_SIN] = {apply_sin, 0},
    [TS_FUNC_SINH] = {apply_sinh, 0},
    [TS_FUNC_SQRT] = {apply_sqrt, 0},
    [TS_FUNC_TAN] = {apply_tan, 0},
    [TS_FUNC_TANH] = {apply_tanh, 0},
};

static kv_status make_map(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                          struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    static const struct ts_map_fn round_to = {apply_round_to, 1};
    const struct ts_map_fn *fn = &map_fns[call->call.func->id];
    if (call->call.func->id == TS_FUNC_ROUND && n_args > 1)
        fn = &round_to;
    return ts_op_map(run, grid, call, args[0], args + 1, fn, out);
}

ts_func_maker ts_func_math_maker(enum ts_func_id id)
{
    return map_fns[id].apply ? make_map : NULL;
}
