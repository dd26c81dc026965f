/*
 * exemplar.h - exemplars: the newest of the whole store, in a ring by number. All of it is in memory; each is also an
 * entry of the series space, put (and the one it pushes out removed) in the commit of the samples it came with.
 * Page: tsdb/docs/exemplars.md.
 *
 * A commit with exemplars, as the appender drives it:
 *
 *     ts_exemplar_list_add(...)      checks one by itself, keeps its bytes
 *     ts_exemplars_prepare(...)      under the commit lock: drops repeats and what is out of order in its series,
 *                                    numbers the rest, puts them; nobody sees them yet
 *     ts_exemplars_undo(...)         the commit failed, newest first
 *     ts_exemplars_publish(...)      it is durable: readers see them
 *
 * Threads    any; one lock, a leaf, held over memory only. A list belongs to one thread.
 */
#ifndef TS_EXEMPLAR_H
#define TS_EXEMPLAR_H

#include "tsdb/postings.h"
#include "tsdb/series.h"

enum { TS_EXEMPLARS_MAX_DEFAULT = 100000, TS_EXEMPLAR_CHARACTERS_MAX = 128 };

struct ts_exemplars;
/* max 0: none are kept. */
KV_MUST kv_status ts_exemplars_new(uint32_t max, struct ts_exemplars **out);
void ts_exemplars_free(struct ts_exemplars *exemplars); /* NULL is fine */
/* Reads what is stored, into an empty one. may_write: removes what is past max (it was larger before). */
KV_MUST kv_status ts_exemplars_load(struct ts_exemplars *exemplars, struct kv_db *kv, bool may_write,
                                    struct kv_err *err);

/* Of one request. {0} is a valid empty one. */
struct ts_exemplar_list {
    struct kv_buf bytes; /* as they are stored, each behind its length; refs may be provisional */
    size_t n;
    uint64_t first, taken; /* numbers, once prepared */
};
/* KV_INVALID: the labels are too long (names and values more than TS_EXEMPLAR_CHARACTERS_MAX characters), not UTF-8, or
 * given twice. */
KV_MUST kv_status ts_exemplar_list_add(struct ts_exemplar_list *list, uint64_t ref,
                                       const struct ts_exemplar *exemplar);
void ts_exemplar_list_clear(struct ts_exemplar_list *list, size_t bytes_kept);
void ts_exemplar_list_release(struct ts_exemplar_list *list);

/* On a negative answer nothing is taken. resolver: has prepared. */
KV_MUST kv_status ts_exemplars_prepare(struct ts_exemplars *exemplars, struct ts_exemplar_list *list,
                                       const struct ts_resolver *resolver, struct kv_batch *batch);
void ts_exemplars_undo(struct ts_exemplars *exemplars, struct ts_exemplar_list *list);
void ts_exemplars_publish(struct ts_exemplars *exemplars, const struct ts_exemplar_list *list);

/* Adds to *set the series that have exemplars in [from_ms, to_ms]. */
KV_MUST kv_status ts_exemplars_series(struct ts_exemplars *exemplars, int64_t from_ms, int64_t to_ms,
                                      struct ts_refset *set);
/* Those of one series in the range, oldest first, in arena. */
KV_MUST kv_status ts_exemplars_of(struct ts_exemplars *exemplars, uint64_t ref, int64_t from_ms,
                                  int64_t to_ms, struct kv_arena *arena, struct ts_exemplar **out, size_t *n);
uint64_t ts_exemplars_count(struct ts_exemplars *exemplars);

#endif
