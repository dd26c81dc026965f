#include "kvcore/db/values.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/version.h"
#include "kvcore/vlog/large.h"

#include <inttypes.h>
#include <stdlib.h>

static int order_segments(const void *a, const void *b)
{
    uint64_t x = kv_segment_number(((const struct kv_value_segment *)a)->segment),
             y = kv_segment_number(((const struct kv_value_segment *)b)->segment);
    return (x > y) - (x < y);
}

static struct kv_value_segment *values_at(const struct kv_values *values, uint64_t number)
{
    size_t low = 0, high = values->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (kv_segment_number(values->list[middle].segment) < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < values->n && kv_segment_number(values->list[low].segment) == number ? &values->list[low]
                                                                                     : NULL;
}

const struct kv_value_segment *kv_values_find(const struct kv_values *values, uint64_t number)
{
    return values_at(values, number);
}

static kv_status values_count_table(struct kv_values *values, const struct kv_tree_item *item,
                                    struct kv_err *err)
{
    uint64_t number, bytes;
    for (kv_slice refs = item->properties->value_refs; refs.len;) {
        if (kv_take_varint(&refs, &number) < 0 || kv_take_varint(&refs, &bytes) < 0)
            return kv_fail(err, KV_CORRUPT, 0, "table %06" PRIu64 ": bad references to the value log",
                           item->number);
        struct kv_value_segment *at = values_at(values, number);
        if (!at)
            return kv_fail(err, KV_CORRUPT, 0,
                           "table %06" PRIu64 " points into value log %06" PRIu64 ".vlg, which is not there",
                           item->number, number);
        at->live += bytes;
    }
    return KV_OK;
}

static kv_status values_count(struct kv_values *values, const struct kv_version *version, struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (uint32_t s = 0; s < version->n_spaces; s++)
        for (size_t i = 0; i < version->trees[s].n_items && rc == KV_OK; i++)
            rc = values_count_table(values, &version->trees[s].items[i], err);
    return rc;
}

kv_status kv_values_make(struct kv_values *out, const struct kv_values *base, struct kv_segment *const *adds,
                         size_t n_adds, const struct kv_version *version, uint64_t log_floor,
                         struct kv_err *err)
{
    size_t n = (base ? base->n : 0) + n_adds, kept = 0;
    struct kv_values all = {.list = kv_zalloc(n, sizeof *all.list)};
    if (!all.list)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory describing the value log");
    for (size_t i = 0; base && i < base->n; i++)
        all.list[all.n++].segment = kv_segment_ref(base->list[i].segment);
    for (size_t i = 0; i < n_adds; i++)
        all.list[all.n++].segment = kv_segment_ref(adds[i]);
    if (all.n > 1)
        qsort(all.list, all.n, sizeof *all.list, order_segments);
    kv_status rc = values_count(&all, version, err);
    bool keep = kv_version_damaged(version, NULL);
    for (size_t i = 0; i < all.n; i++) {
        uint64_t log_seq = kv_segment_log_seq(all.list[i].segment);
        if (rc == KV_OK && (keep || all.list[i].live > 0 || (log_seq > 0 && log_seq >= log_floor)))
            all.list[kept++] = all.list[i];
        else
            kv_segment_unref(all.list[i].segment);
    }
    all.n = kept;
    if (rc == KV_OK)
        *out = all;
    else
        kv_free(all.list);
    return rc;
}

void kv_values_release(struct kv_values *values)
{
    for (size_t i = 0; i < values->n; i++)
        kv_segment_unref(values->list[i].segment);
    kv_free(values->list);
    *values = (struct kv_values){0};
}

uint64_t kv_values_sparse(const struct kv_values *values, kv_slice refs)
{
    uint64_t number, bytes, sum = 0;
    while (refs.len && kv_take_varint(&refs, &number) == KV_OK && kv_take_varint(&refs, &bytes) == KV_OK) {
        const struct kv_value_segment *at = kv_values_find(values, number);
        if (at && kv_value_segment_sparse(at))
            sum += bytes;
    }
    return sum;
}

/* The segment that the pointer leads into. */
static kv_status values_locate(const struct kv_values *values, kv_slice bytes, struct kv_pointer *pointer,
                               struct kv_segment **segment, struct kv_err *err)
{
    if (kv_pointer_take(&bytes, pointer) < 0 || bytes.len)
        return kv_fail(err, KV_CORRUPT, 0, "a malformed pointer into the value log");
    const struct kv_value_segment *at = kv_values_find(values, pointer->segment);
    if (!at)
        return kv_fail(err, KV_CORRUPT, 0, "a pointer into value log %06" PRIu64 ".vlg, which is not there",
                       pointer->segment);
    *segment = at->segment;
    return KV_OK;
}

kv_status kv_values_fetch(const struct kv_values *values, kv_slice bytes, bool fill, struct kv_block **out,
                          struct kv_err *err)
{
    struct kv_pointer pointer = {0};
    struct kv_segment *segment = NULL;
    *out = NULL;
    kv_status rc = values_locate(values, bytes, &pointer, &segment, err);
    if (rc < 0)
        return rc;
    return pointer.value_len ? kv_large_read_whole(segment, &pointer, out, err)
                             : kv_segment_read(segment, &pointer, fill, out, err);
}

kv_status kv_values_verify(const struct kv_values *values, kv_slice bytes, struct kv_err *err)
{
    struct kv_pointer pointer = {0};
    struct kv_segment *segment = NULL;
    struct kv_large *large = NULL;
    kv_status rc = values_locate(values, bytes, &pointer, &segment, err);
    if (rc < 0)
        return rc;
    if (!pointer.value_len)
        rc = kv_segment_verify(segment, &pointer, err);
    else if ((rc = kv_large_open(segment, &pointer, &large, err)) == KV_OK)
        rc = kv_large_verify(large, err);
    kv_large_close(large);
    return rc;
}

kv_status kv_values_verify_table(const struct kv_values *values, struct kv_table *table, uint64_t *bytes,
                                 struct kv_err *err)
{
    const struct kv_table_iter_options all = {.no_fill = true, .uncounted = true, .err = err};
    struct kv_entry_iter *it = NULL;
    kv_status rc;
    if (kv_table_properties(table)->value_refs.len == 0)
        return KV_OK;
    KV_TRY(kv_table_iter_open(table, &all, &it));
    for (rc = kv_entry_iter_seek(it, (kv_slice){0}, KV_VERSION_MAX); rc == KV_OK;
         rc = kv_entry_iter_next(it)) {
        struct kv_attrs attrs;
        struct kv_pointer pointer = {0};
        kv_slice at = it->value;
        if (it->kind != KV_KIND_POINTER)
            continue;
        KV_TRY(kv_attrs_take(&at, &attrs));
        KV_TRY(kv_values_verify(values, at, err));
        KV_TRY(kv_pointer_take(&at, &pointer));
        if (bytes)
            *bytes += pointer.len;
    }
out:
    kv_entry_iter_close(it);
    return rc == KV_END ? KV_OK : rc;
}
