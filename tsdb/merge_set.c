#include "tsdb/merge_set.h"
#include "kvcore/base/mem.h"

void ts_merge_set_release(struct ts_merge_set *set)
{
    ts_columns_release(&set->samples);
    ts_columns_release(&set->merged);
    ts_columns_release(&set->next);
    ts_columns_release(&set->source);
    kv_free(set->pieces);
    ts_chunk_memo_release(&set->memo);
    *set = (struct ts_merge_set){0};
}

static void set_erase(struct ts_merge_set *set, size_t start, uint64_t seq, const struct ts_tombstone *tombs,
                      size_t n_tombs)
{
    struct ts_columns piece = {set->samples.times_ms + start, set->samples.values + start,
                               set->samples.n - start, set->samples.n - start};
    for (size_t i = 0; i < n_tombs && piece.n > 0; i++) {
        if (tombs[i].seq > seq)
            ts_columns_drop(&piece, 0, tombs[i].from_ms, tombs[i].to_ms + (tombs[i].to_ms < INT64_MAX));
    }
    set->samples.n = start + piece.n;
}

kv_status ts_merge_set_piece(struct ts_merge_set *set, size_t start, uint64_t seq,
                             const struct ts_tombstone *tombs, size_t n_tombs)
{
    if (n_tombs > 0)
        set_erase(set, start, seq, tombs, n_tombs);
    if (set->samples.n == start)
        return KV_OK;
    struct ts_piece *pieces = kv_grow(set->pieces, &set->capacity, set->n_pieces + 1, sizeof *pieces);
    if (!pieces)
        return KV_NO_MEMORY;
    set->pieces = pieces;
    const int64_t *times = set->samples.times_ms;
    if (start > 0 && times[start] <= times[start - 1] && (!set->overlap || times[start] < set->overlap_ms)) {
        set->overlap = true;
        set->overlap_ms = times[start];
    }
    set->pieces[set->n_pieces++] = (struct ts_piece){start, set->samples.n - start, seq};
    return KV_OK;
}

kv_status ts_merge_set_chunk(struct ts_merge_set *set, kv_slice chunk, uint64_t seq, int64_t from_ms,
                             int64_t to_ms, const struct ts_tombstone *tombs, size_t n_tombs, size_t *decoded)
{
    size_t start = set->samples.n, n = 0;
    kv_status rc = ts_columns_reserve(&set->samples, TS_CHUNK_SAMPLES_MAX);
    if (rc == KV_OK)
        rc = ts_chunk_decode_next(chunk, from_ms, to_ms, &set->memo, set->samples.times_ms + start,
                                  set->samples.values + start, &n);
    if (rc < 0)
        return rc;
    if (decoded)
        *decoded = n;
    set->samples.n += n;
    return ts_merge_set_piece(set, start, seq, tombs, n_tombs);
}

/* By sequence; equal ones stay in order. */
static void set_sort(struct ts_piece *pieces, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct ts_piece piece = pieces[i];
        size_t j = i;
        for (; j > 0 && pieces[j - 1].seq > piece.seq; j--)
            pieces[j] = pieces[j - 1];
        pieces[j] = piece;
    }
}

/* Pieces of one sequence that follow each other in time are one source; *i: the first piece, then the one
 * behind the last. */
static kv_status set_source(struct ts_merge_set *set, size_t *i)
{
    const struct ts_piece *first = &set->pieces[*i];
    set->source.n = 0;
    for (; *i < set->n_pieces; (*i)++) {
        const struct ts_piece *piece = &set->pieces[*i];
        if (set->source.n > 0 && (piece->seq != first->seq || set->samples.times_ms[piece->start] <=
                                                                  set->source.times_ms[set->source.n - 1]))
            break;
        kv_status rc = ts_columns_reserve(&set->source, piece->n);
        if (rc < 0)
            return rc;
        memcpy(set->source.times_ms + set->source.n, set->samples.times_ms + piece->start,
               piece->n * sizeof(int64_t));
        memcpy(set->source.values + set->source.n, set->samples.values + piece->start,
               piece->n * sizeof(double));
        set->source.n += piece->n;
    }
    return KV_OK;
}

kv_status ts_merge_set_resolve(struct ts_merge_set *set)
{
    if (!set->overlap)
        return KV_OK;
    size_t p = 0;
    while (set->samples.times_ms[set->pieces[p].start + set->pieces[p].n - 1] < set->overlap_ms)
        p++;
    size_t start = set->pieces[p].start;
    set_sort(set->pieces + p, set->n_pieces - p);
    set->merged.n = 0;
    uint64_t seq = 0;
    for (size_t i = p; i < set->n_pieces;) {
        seq = set->pieces[i].seq;
        kv_status rc = set_source(set, &i);
        if (rc == KV_OK)
            rc = ts_columns_merge(&set->merged, &set->source, &set->next);
        if (rc < 0)
            return rc;
        struct ts_columns swap = set->merged;
        set->merged = set->next;
        set->next = swap;
    }
    memcpy(set->samples.times_ms + start, set->merged.times_ms, set->merged.n * sizeof(int64_t));
    memcpy(set->samples.values + start, set->merged.values, set->merged.n * sizeof(double));
    set->samples.n = start + set->merged.n;
    set->pieces[p] = (struct ts_piece){start, set->merged.n, seq};
    set->n_pieces = p + 1;
    set->overlap = false;
    return KV_OK;
}
