/* labelset.c - label sets as operators change them. All are merges over sorted lists. */
#include "tsdb/query/labelset.h"

#include "tsdb/promql/print.h"

#include <stdlib.h>

bool ts_label_is_metadata(kv_slice name)
{
    return name.len == 8 && name.data[0] == '_' &&
           (memcmp(name.data, "__name__", 8) == 0 || memcmp(name.data, "__type__", 8) == 0 ||
            memcmp(name.data, "__unit__", 8) == 0);
}

size_t ts_labels_drop_name(const struct ts_label *labels, size_t n, struct ts_label *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!ts_label_is_metadata(labels[i].name))
            out[kept++] = labels[i];
    return kept;
}

static int name_compare(const void *a, const void *b)
{
    return kv_slice_compare(*(const kv_slice *)a, *(const kv_slice *)b);
}

kv_status ts_name_list_make(const kv_slice *names, size_t n, const kv_slice *extra, struct ts_pool *pool,
                            struct ts_name_list *out)
{
    size_t total = n + (extra ? 1 : 0);
    kv_slice *sorted = ts_pool_alloc(pool, (total ? total : 1) * sizeof(*sorted));
    if (!sorted)
        return ts_pool_status(pool);
    if (n)
        memcpy(sorted, names, n * sizeof(*sorted));
    if (extra)
        sorted[n] = *extra;
    qsort(sorted, total, sizeof(*sorted), name_compare);
    size_t kept = 0;
    for (size_t i = 0; i < total; i++)
        if (kept == 0 || !kv_slice_equal(sorted[kept - 1], sorted[i]))
            sorted[kept++] = sorted[i];
    *out = (struct ts_name_list){sorted, kept};
    return KV_OK;
}

bool ts_name_list_has(const struct ts_name_list *list, kv_slice name)
{
    for (size_t i = 0; i < list->n; i++) /* lists are a handful of names */
        if (kv_slice_equal(list->names[i], name))
            return true;
    return false;
}

static bool project_keeps(const struct ts_name_list *list, bool keep, kv_slice name)
{
    if (keep)
        return ts_name_list_has(list, name);
    return !kv_slice_equal(name, TS_METRIC_NAME) && !ts_name_list_has(list, name);
}

size_t ts_labels_project(const struct ts_label *labels, size_t n, const struct ts_name_list *list, bool keep,
                         struct ts_label *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (project_keeps(list, keep, labels[i].name))
            out[kept++] = labels[i];
    return kept;
}

static kv_status key_add(const struct ts_label *label, struct kv_buf *out)
{
    kv_status rc = kv_buf_append_lp(out, label->name);
    return rc < 0 ? rc : kv_buf_append_lp(out, label->value);
}

kv_status ts_labels_key(const struct ts_label *labels, size_t n, const struct ts_name_list *list, bool keep,
                        struct kv_buf *out)
{
    kv_status rc = KV_OK;
    kv_buf_clear(out);
    if (keep && list->n == 0)
        return KV_OK;
    for (size_t i = 0; i < n; i++)
        if (project_keeps(list, keep, labels[i].name))
            KV_TRY(key_add(&labels[i], out));
out:
    return rc;
}

kv_status ts_labels_key_all(const struct ts_label *labels, size_t n, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    kv_buf_clear(out);
    for (size_t i = 0; i < n; i++)
        KV_TRY(key_add(&labels[i], out));
out:
    return rc;
}

size_t ts_labels_set(struct ts_label *labels, size_t n, kv_slice name, kv_slice value)
{
    size_t at = 0;
    while (at < n && kv_slice_compare(labels[at].name, name) < 0)
        at++;
    bool found = at < n && kv_slice_equal(labels[at].name, name);
    if (value.len == 0) {
        if (found)
            memmove(&labels[at], &labels[at + 1], (n - at - 1) * sizeof(*labels));
        return n - (found ? 1 : 0);
    }
    if (!found) {
        memmove(&labels[at + 1], &labels[at], (n - at) * sizeof(*labels));
        labels[at].name = name;
        n++;
    }
    labels[at].value = value;
    return n;
}

static bool name_is_plain(kv_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.len > 0;
}

kv_status ts_labels_print(const struct ts_label *labels, size_t n, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, '{'));
    for (size_t i = 0; i < n; i++) {
        if (i)
            KV_TRY(kv_buf_append(out, KV_STR(", ")));
        KV_TRY(name_is_plain(labels[i].name) ? kv_buf_append(out, labels[i].name)
                                             : ts_print_quoted(labels[i].name, out));
        KV_TRY(kv_buf_append_byte(out, '='));
        KV_TRY(ts_print_quoted(labels[i].value, out));
    }
    KV_TRY(kv_buf_append_byte(out, '}'));
out:
    return rc;
}

kv_status ts_name_drop(struct ts_name_drop *drop, struct ts_column *column)
{
    size_t dropped = 0;
    if (drop->run->delayed_names) {
        column->drop_name = true;
        return KV_OK;
    }
    for (size_t i = 0; i < column->n_labels; i++)
        dropped += ts_label_is_metadata(column->labels[i].name);
    if (dropped == 0)
        return KV_OK;
    if (dropped == 1 && ts_label_is_metadata(column->labels[0].name)) { /* nearly always */
        column->labels++;
        column->n_labels--;
        return KV_OK;
    }
    kv_status rc =
        ts_run_grow(drop->run, (void **)&drop->labels, &drop->room, column->n_labels, sizeof(*drop->labels));
    if (rc < 0)
        return rc;
    column->n_labels = ts_labels_drop_name(column->labels, column->n_labels, drop->labels);
    column->labels = drop->labels;
    return KV_OK;
}

void ts_name_drop_release(struct ts_name_drop *drop)
{
    ts_run_shrink(drop->run, (void **)&drop->labels, &drop->room, sizeof(*drop->labels));
}
