/* Sets of code points: built from ranges, named classes and case folding, then made canonical. */
#include "tsdb/regex_internal.h"
#include "tsdb/regex_unicode.h"

#include <stdlib.h>

static struct ts_rx_range *class_ranges(const struct ts_rx_class *class, size_t *n)
{
    *n = class->ranges.len / sizeof(struct ts_rx_range);
    return (struct ts_rx_range *)(void *)class->ranges
        .data; /* kv_buf's memory comes from the heap: aligned */
}

kv_status ts_rx_class_add(struct ts_rx_class *class, uint32_t lo, uint32_t hi)
{
    struct ts_rx_range range = {lo, hi};
    return kv_buf_append(&class->ranges, kv_slice_of(&range, sizeof range));
}

kv_status ts_rx_class_add_set(struct ts_rx_class *class, const struct ts_rx_class *other)
{
    return kv_buf_append(&class->ranges, kv_buf_slice(&other->ranges));
}

static int range_order(const void *a, const void *b)
{
    const struct ts_rx_range *x = a, *y = b;
    return x->lo != y->lo ? (x->lo > y->lo) - (x->lo < y->lo) : (x->hi > y->hi) - (x->hi < y->hi);
}

void ts_rx_class_canonical(struct ts_rx_class *class)
{
    size_t n, kept = 0;
    struct ts_rx_range *r = class_ranges(class, &n);
    if (n == 0)
        return;
    qsort(r, n, sizeof *r, range_order);
    for (size_t i = 1; i < n; i++) {
        if (r[i].lo <= r[kept].hi + 1) {
            if (r[i].hi > r[kept].hi)
                r[kept].hi = r[i].hi;
        } else {
            r[++kept] = r[i];
        }
    }
    class->ranges.len = (kept + 1) * sizeof *r;
}

kv_status ts_rx_class_negate(struct ts_rx_class *class)
{
    struct ts_rx_class out = {0};
    size_t n;
    kv_status rc = KV_OK;
    ts_rx_class_canonical(class);
    const struct ts_rx_range *r = class_ranges(class, &n);
    uint32_t next = 0;
    for (size_t i = 0; i < n; i++) {
        if (r[i].lo > next)
            KV_TRY(ts_rx_class_add(&out, next, r[i].lo - 1));
        next = r[i].hi + 1;
    }
    if (next <= TS_RUNE_MAX)
        KV_TRY(ts_rx_class_add(&out, next, TS_RUNE_MAX));
    class->ranges.len = 0;
    rc = ts_rx_class_add_set(class, &out);
out:
    kv_buf_release(&out.ranges);
    return rc;
}

/* Adds the code points of [lo, hi] that lie on the run (first, stride, n), each moved by delta. */
static kv_status fold_range(struct ts_rx_class *class, struct ts_rx_range r, uint32_t first,
                            const struct ts_unicode_fold *run, int32_t delta)
{
    uint32_t last = first + (uint32_t)(run->n - 1) * run->stride;
    if (r.hi < first || r.lo > last)
        return KV_OK;
    uint32_t at =
        r.lo <= first ? first : first + (r.lo - first + run->stride - 1u) / run->stride * run->stride;
    uint32_t end = r.hi < last ? r.hi : last;
    if (at > end)
        return KV_OK;
    if (run->stride == 1)
        return ts_rx_class_add(class, at + (uint32_t)delta, end + (uint32_t)delta);
    kv_status rc = KV_OK;
    for (; rc == KV_OK && at <= end; at += run->stride)
        rc = ts_rx_class_add(class, at + (uint32_t)delta, at + (uint32_t)delta);
    return rc;
}

/* Members to what they fold to, then everything that folds to a member: the whole orbits. */
kv_status ts_rx_class_fold(struct ts_rx_class *class)
{
    for (int inverse = 0; inverse <= 1; inverse++) {
        size_t n;
        ts_rx_class_canonical(class);
        (void)class_ranges(class, &n);
        for (size_t i = 0; i < n; i++) {
            size_t all;
            struct ts_rx_range r = class_ranges(class, &all)[i]; /* adding may move them */
            for (size_t k = 0; k < ts_unicode_n_folds; k++) {
                const struct ts_unicode_fold *f = &ts_unicode_folds[k];
                kv_status rc = inverse ? fold_range(class, r, f->lo + (uint32_t)f->delta, f, -f->delta)
                                       : fold_range(class, r, f->lo, f, f->delta);
                if (rc < 0)
                    return rc;
            }
        }
    }
    ts_rx_class_canonical(class);
    return KV_OK;
}

static kv_status class_add_pairs(struct ts_rx_class *class, const char *pairs)
{
    kv_status rc = KV_OK;
    for (; rc == KV_OK && *pairs; pairs += 2)
        rc = ts_rx_class_add(class, (uint8_t)pairs[0], (uint8_t)pairs[1]);
    return rc;
}

kv_status ts_rx_class_add_perl(struct ts_rx_class *class, char kind)
{
    return class_add_pairs(class, kind == 'd' ? "09" : kind == 's' ? "\t\n\f\r  " : "09AZ__az");
}

kv_status ts_rx_class_add_posix(struct ts_rx_class *class, kv_slice name)
{
    static const struct {
        const char *name, *pairs; /* first and last of each range */
    } classes[] = {
        {"alnum", "09AZaz"},
        {"alpha", "AZaz"},
        {"blank", "\t\t  "},
        {"digit", "09"},
        {"graph", "!~"},
        {"lower", "az"},
        {"print", " ~"},
        {"punct", "!/:@[`{~"},
        {"space", "\t\r  "},
        {"upper", "AZ"},
        {"word", "09AZ__az"},
        {"xdigit", "09AFaf"},
        {"cntrl", "\x01\x1f\x7f\x7f"},
        {"ascii", "\x01\x7f"},
    };
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (!kv_slice_equal(name, kv_slice_str(classes[i].name)))
            continue;
        kv_status rc = class_add_pairs(class, classes[i].pairs);
        bool has_nul = classes[i].pairs[0] == '\x01'; /* a NUL cannot stand in the table's strings */
        return rc == KV_OK && has_nul ? ts_rx_class_add(class, 0, 0) : rc;
    }
    return KV_NOT_FOUND;
}

static kv_status class_add_range(void *ctx, uint32_t lo, uint32_t hi)
{
    return ts_rx_class_add(ctx, lo, hi);
}

kv_status ts_rx_class_add_unicode(struct ts_rx_class *class, kv_slice name)
{
    if (kv_slice_equal(name, KV_STR("Any")))
        return ts_rx_class_add(class, 0, TS_RUNE_MAX);
    return ts_unicode_class(name, class_add_range, class);
}

uint32_t ts_rx_rune(kv_slice text, size_t *len)
{
    const uint8_t *p = text.data;
    *len = 1;
    if (p[0] < 0x80)
        return p[0];
    size_t n = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (n == 0 || n > text.len)
        return TS_RUNE_BAD;
    uint32_t rune = p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return TS_RUNE_BAD;
        rune = rune << 6 | (p[i] & 0x3f);
    }
    bool overlong = (n == 3 && rune < 0x800) || (n == 4 && rune < 0x10000);
    if (overlong || rune > TS_RUNE_MAX || (rune >= 0xd800 && rune <= 0xdfff))
        return TS_RUNE_BAD;
    *len = n;
    return rune;
}

size_t ts_rx_rune_encode(uint32_t rune, uint8_t *out)
{
    if (rune < 0x80) {
        out[0] = (uint8_t)rune;
        return 1;
    }
    size_t n = rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, rune >>= 6)
        out[i] = (uint8_t)(0x80 | (rune & 0x3f));
    out[0] = (uint8_t)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | rune);
    return n;
}
