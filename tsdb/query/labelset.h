/*
 * labelset.h - label sets as operators change them: names dropped, groups, join signatures, labels set.
 *
 * Every set is sorted by name. Results that need an array of their own are made in a pool; the bytes are
 * shared.
 * Threads    any, as their arguments.
 * Failure    NULL from a pool (ts_pool_status), statuses elsewhere.
 */
#ifndef TS_LABELSET_H
#define TS_LABELSET_H

#include "tsdb/label.h"
#include "tsdb/query/op.h"

/* __name__, __type__, __unit__: what "dropping the name" drops. */
bool ts_label_is_metadata(kv_slice name);
/* Writes the set without metadata labels to out (room for n; may be labels itself); answers the count. */
size_t ts_labels_drop_name(const struct ts_label *labels, size_t n, struct ts_label *out);

/* A list of names, sorted, without repeats: of by(), without(), on(), ignoring(). */
struct ts_name_list {
    const kv_slice *names;
    size_t n;
};
KV_MUST kv_status ts_name_list_make(const kv_slice *names, size_t n, const kv_slice *extra,
                                    struct ts_pool *pool, struct ts_name_list *out);
bool ts_name_list_has(const struct ts_name_list *list, kv_slice name);

/* The labels in list (keep) or not in list (!keep); !keep also drops __name__. out has room for n. Answers
 * the count. */
size_t ts_labels_project(const struct ts_label *labels, size_t n, const struct ts_name_list *list, bool keep,
                         struct ts_label *out);
/* The same as key bytes, in *out (cleared first): equal exactly when the projected sets are equal. */
KV_MUST kv_status ts_labels_key(const struct ts_label *labels, size_t n, const struct ts_name_list *list,
                                bool keep, struct kv_buf *out);
/* The whole set as key bytes. */
KV_MUST kv_status ts_labels_key_all(const struct ts_label *labels, size_t n, struct kv_buf *out);
/* Sets name to value, or removes it when value is empty, in an array with room for n + 1. Answers the count.
 */
size_t ts_labels_set(struct ts_label *labels, size_t n, kv_slice name, kv_slice value);
/* As Prometheus prints a set: {__name__="up", job="x"}. */
KV_MUST kv_status ts_labels_print(const struct ts_label *labels, size_t n, struct kv_buf *out);

/* Drops the names of lent columns, now or (delayed names) by a mark. Its own array serves the rare set whose
 * name does not come first. {.run = run} is a valid one. */
struct ts_name_drop {
    struct ts_run *run;
    struct ts_label *labels;
    size_t room;
};
KV_MUST kv_status ts_name_drop(struct ts_name_drop *drop, struct ts_column *column);
void ts_name_drop_release(struct ts_name_drop *drop);

#endif
