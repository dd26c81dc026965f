#include "tsdb/query/prove.h"
#include "kvcore/base/mem.h"
#include "tsdb/db.h"
#include "tsdb/query/scan.h"
#include "tsdb/thin.h"

/* The members that have no sample at or after floor_ms in the range, added to *absent. */
static kv_status prove_class(const struct ts_prove *p, const struct ts_select *select,
                             const struct ts_refset *members, int64_t floor_ms, struct ts_refset *absent)
{
    struct ts_refset unsure = {0}, certain = {0};
    uint64_t *refs = NULL;
    size_t n = 0;
    int64_t from_ms = floor_ms > select->from_ms ? floor_ms : select->from_ms;
    int64_t start_ms = ts_window_start_ms(ts_window_of(from_ms));
    const struct ts_tombstones *tombs = p->pin->tombstones;
    kv_status rc;
    if (from_ms > select->to_ms)
        return ts_refset_or(absent, members);
    if (floor_ms > select->from_ms || (floor_ms == select->from_ms && floor_ms > start_ms)) {
        struct ts_select later = *select;
        later.refine = NULL;
        later.from_ms = floor_ms > start_ms ? start_ms + TS_WINDOW_MS : start_ms;
        KV_TRY(ts_index_select_refs(p->db->registry, &later, &certain, p->err));
        KV_TRY(ts_refset_or(&unsure, members));
        ts_refset_andnot(&unsure, &certain);
    }
    for (size_t i = 0; tombs && i < tombs->n; i++) {
        const struct ts_tombstone *t = &tombs->items[i];
        if (t->window >= ts_window_of(from_ms) && t->window <= ts_window_of(select->to_ms) &&
            ts_refset_has(members, t->ref))
            KV_TRY(ts_refset_add(&unsure, t->ref, NULL));
    }
    KV_TRY(ts_refset_refs(&unsure, &refs, &n));
    if (n > 0)
        rc = ts_scan_absent(p->db, p->pin, select, refs, n, from_ms, absent, p->err);
out:
    kv_free(refs);
    ts_refset_release(&unsure);
    ts_refset_release(&certain);
    return rc;
}

kv_status ts_prove(void *ctx, const struct ts_select *select, struct ts_refset *set)
{
    const struct ts_prove *p = ctx;
    const struct ts_rules *rules = p->db->rules;
    struct ts_refset rest = {0}, members = {0}, absent = {0};
    int64_t highest_ms = ts_rules_highest_ms(rules, p->clock_ms);
    kv_status rc = KV_OK;
    if (ts_refset_count(set) == 0)
        return KV_OK;
    if (select->from_ms >= highest_ms) { /* no rule hides more than another */
        rc = prove_class(p, select, set, highest_ms, &absent);
    } else {
        KV_TRY(ts_refset_or(&rest, set));
        for (size_t c = 0; c < ts_rules_classes(rules); c++) {
            KV_TRY(ts_thin_take(p->db, rules, select, c, &rest, &members, p->err));
            KV_TRY(prove_class(p, select, &members, ts_rules_floor_ms(rules, c, p->clock_ms), &absent));
            ts_refset_release(&members);
        }
    }
    if (rc == KV_OK)
        ts_refset_andnot(set, &absent);
out:
    ts_refset_release(&rest);
    ts_refset_release(&members);
    ts_refset_release(&absent);
    return rc;
}
