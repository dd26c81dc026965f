/*
 * label.h - label sets: canonical order, bytes, comparison.
 *
 * A canonical set is sorted by name (bytes), names unique and not empty, no empty values. Its canonical bytes
 * are, for each label in order, varint length + name, varint length + value: what the registry stores and
 * what identity hashes are made from.
 */
#ifndef TS_LABEL_H
#define TS_LABEL_H

#include "kvcore/base/arena.h"
#include "tsdb/ts.h"

#define TS_METRIC_NAME KV_STR("__name__")

/* Sorts by name. Answers false when two labels share a name. Empty values must be gone already. */
bool ts_labels_sort(struct ts_label *labels, size_t n);
/* Order of two canonical sets as Prometheus sorts results: label by label, name then value, a prefix first.
 */
int ts_labels_compare(const struct ts_label *a, size_t na, const struct ts_label *b, size_t nb);
/* The value, or an empty slice when the label is absent. Any canonical set. */
kv_slice ts_labels_get(const struct ts_label *labels, size_t n, kv_slice name);
/* Appends the canonical bytes. */
KV_MUST kv_status ts_labels_encode(const struct ts_label *labels, size_t n, struct kv_buf *out);
/* Reads canonical bytes into labels allocated from arena; slices point into bytes. KV_CORRUPT unless
 * canonical. */
KV_MUST kv_status ts_labels_decode(kv_slice bytes, struct kv_arena *arena, struct ts_label **labels,
                                   size_t *n);
/* Valid UTF-8 without NUL (RFC 3629: no surrogates, no overlong forms). */
bool ts_utf8_valid(kv_slice text);

#endif
