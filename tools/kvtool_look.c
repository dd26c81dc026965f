/* kvtool scan, histogram, health: what entries a database has, and how it is. */
#include "tools/kvtool.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- scan */

struct scan {
    bool reverse, versions, keys_only, hex;
    uint64_t limit; /* 0: none */
};

static void print_hex(kv_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        printf("%02x", bytes.data[i]);
}

static void print_entry(const struct scan *s, const struct kv_iter *it)
{
    void (*print)(kv_slice) = s->hex ? print_hex : kvtool_print_bytes;
    print(it->key);
    if (s->versions)
        printf(" @%" PRIu64, it->version);
    if (s->versions && it->expires_at_s)
        printf(" expires=%" PRIu64, it->expires_at_s);
    if (it->deleted) {
        printf(" gone");
    } else if (!s->keys_only) {
        putchar(' ');
        print(it->value);
    }
    putchar('\n');
}

static kv_status scan_walk(const struct kvtool_reading *r, const struct scan *s,
                           const struct kv_iter_options *options)
{
    struct kv_iter *it = NULL;
    uint64_t n = 0;
    kv_status rc = kv_iter_open_with(r->db, r->space, options, &it);
    if (rc < 0)
        return rc;
    for (rc = s->reverse ? kv_iter_seek_before(it, (kv_slice){0}) : kv_iter_seek(it, (kv_slice){0});
         rc == KV_OK && (s->limit == 0 || n < s->limit);
         rc = s->reverse ? kv_iter_prev(it) : kv_iter_next(it), n++)
        print_entry(s, it);
    kv_iter_close(it);
    return rc;
}

int kvtool_scan(int argc, char **argv)
{
    struct scan s = {0};
    char *prefix = NULL;
    struct kvtool_reading r = {0};
    struct kv_buf upper = {0};
    struct kv_err err = {0};
    const struct tool_option options[] = {
        {.name = "--prefix", .text = &prefix},       {.name = "--reverse", .flag = &s.reverse},
        {.name = "--versions", .flag = &s.versions}, {.name = "--keys-only", .flag = &s.keys_only},
        {.name = "--hex", .flag = &s.hex},           {.name = "--limit", .number = &s.limit}};
    argc = tool_options(argc, argv, options, sizeof options / sizeof *options);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc < 2 || argc > 4 || (prefix && argc > 2))
        return -1;
    struct kv_iter_options range = {.all_versions = s.versions, .keys_only = s.keys_only, .no_fill = true};
    if (prefix)
        range.lower = kvtool_parse_bytes(prefix);
    if (argc > 2)
        range.lower = kvtool_parse_bytes(argv[2]);
    if (argc > 3)
        range.upper = kvtool_parse_bytes(argv[3]);
    kv_status rc = KV_OK;
    if (prefix)
        KV_TRY(kv_prefix_end(range.lower, &upper));
    if (prefix)
        range.upper = kv_buf_slice(&upper);
    KV_TRY(kvtool_reading_open(argv[0], argv[1], &r, &err));
    KV_TRY(scan_walk(&r, &s, &range));
out:
    kvtool_reading_close(&r);
    kv_buf_release(&upper);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

/* ---- histogram */

enum { BUCKETS = 33 };

/* By powers of two: bucket 0 holds 0, bucket n holds 2^(n-1) to 2^n - 1. */
struct histogram {
    uint64_t count[BUCKETS], n, sum, max;
};

static void histogram_add(struct histogram *h, uint64_t value)
{
    int bucket = value ? 64 - __builtin_clzll(value) : 0;
    h->count[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    h->n++;
    h->sum += value;
    h->max = value > h->max ? value : h->max;
}

static void histogram_print(const struct histogram *h, const char *what)
{
    printf("%s: n=%" PRIu64 " mean=%.1f max=%" PRIu64 "\n", what, h->n,
           h->n ? (double)h->sum / (double)h->n : 0, h->max);
    for (int i = 0; i < BUCKETS; i++)
        if (h->count[i])
            printf("  %10" PRIu64 " to %-10" PRIu64 " %10" PRIu64 " %5.1f %%\n",
                   i ? (uint64_t)1 << (i - 1) : 0, i ? ((uint64_t)1 << i) - 1 : 0, h->count[i],
                   100 * (double)h->count[i] / (double)h->n);
}

struct counts {
    struct histogram keys, values, versions;
    uint64_t gone, expiring;
};

static kv_status count_entries(const struct kvtool_reading *r, struct counts *c)
{
    const struct kv_iter_options options = {.all_versions = true, .no_fill = true};
    struct kv_buf last = {0};
    struct kv_iter *it = NULL;
    uint64_t versions = 0;
    kv_status rc;
    KV_TRY(kv_iter_open_with(r->db, r->space, &options, &it));
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
        if (versions == 0 || !kv_slice_equal(it->key, kv_buf_slice(&last))) {
            if (versions)
                histogram_add(&c->versions, versions);
            versions = 0;
            histogram_add(&c->keys, it->key.len);
            kv_buf_clear(&last);
            KV_TRY(kv_buf_append(&last, it->key));
        }
        versions++;
        c->gone += it->deleted;
        c->expiring += it->expires_at_s != 0;
        if (!it->deleted)
            histogram_add(&c->values, it->value.len);
    }
    if (versions)
        histogram_add(&c->versions, versions);
out:
    kv_iter_close(it);
    kv_buf_release(&last);
    return rc;
}

static kv_status print_levels(const struct kvtool_reading *r)
{
    struct kv_level_stats levels[KV_LEVELS_MAX];
    kv_status rc = kv_levels(r->db, r->space, levels);
    for (int i = 0; rc == KV_OK && i < KV_LEVELS_MAX; i++)
        if (levels[i].tables)
            printf("level %d: tables=%" PRIu64 " bytes=%" PRIu64 " entries=%" PRIu64 " deletions=%" PRIu64
                   "\n",
                   i, levels[i].tables, levels[i].bytes, levels[i].entries, levels[i].deletions);
    return rc;
}

int kvtool_histogram(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct counts c = {0};
    struct kv_err err = {0};
    argc = tool_options(argc, argv, NULL, 0);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc != 2)
        return -1;
    kv_status rc;
    KV_TRY(kvtool_reading_open(argv[0], argv[1], &r, &err));
    KV_TRY(count_entries(&r, &c));
    histogram_print(&c.keys, "bytes of a key");
    histogram_print(&c.values, "bytes of a value");
    histogram_print(&c.versions, "versions of a key");
    printf("deleted or expired: %" PRIu64 ", with an expiry: %" PRIu64 "\n", c.gone, c.expiring);
    KV_TRY(print_levels(&r));
out:
    kvtool_reading_close(&r);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

/* ---- health */

int kvtool_health(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_health_report report;
    struct kv_buf text = {0};
    struct kv_err err = {0};
    argc = tool_options(argc, argv, NULL, 0);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc != 1)
        return -1;
    kv_status rc;
    KV_TRY(kvtool_reading_open(argv[0], NULL, &r, &err));
    kv_health_report(r.db, &report);
    KV_TRY(kv_health_text(&report, &text));
    fwrite(text.data, 1, text.len, stdout);
out:
    kvtool_reading_close(&r);
    kv_buf_release(&text);
    return rc < 0 ? kvtool_trouble(&err, rc) : report.sound ? 0 : EXIT_FINDINGS;
}
