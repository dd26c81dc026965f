/* chunk.c - `tidemark chunk`: what each chunk of some series holds and costs, and a summary by codec. */
#include "kvcore/os/clock.h"
#include "tools/cli.h"
#include "tools/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SELECTORS_MAX = 64, KINDS_MAX = 32 };

static const char chunk_usage[] =
    "usage: tidemark chunk ['SELECTOR'...] [--from T] [--to T] [--ref METRIC:SERIES] [--summary] [--data "
    "DIR]\n"
    "Each chunk in the tables of a stopped store (or of a snapshot) that may hold a sample of [from, to]: "
    "the UTC day it lies in, its first\n"
    "and last sample, the commit that wins where chunks overlap, samples, bytes, codecs of times and values, "
    "and how hard was tried\n"
    "(quick, or small: for good). Then a summary by codecs. SELECTOR: up{job=\"x\"}; none: every series. "
    "--ref: the one series with that\n"
    "number, as errors name it. T: unix seconds, 2026-11-21T03:08:03Z, now, now-1h. DIR: ./data\n";

struct kind {
    const char *time_codec, *value_codec;
    bool small;
    uint64_t chunks, samples, bytes;
};
struct explain {
    bool summary_only, one;
    uint32_t metric, series;           /* the one */
    uint32_t last_metric, last_series; /* whose name was printed */
    bool any;
    struct kind kinds[KINDS_MAX]; /* there are fewer pairs of codecs */
    size_t n_kinds;
};

static void count(struct explain *e, const struct ts_chunk_facts *c)
{
    size_t i = 0;
    while (i < e->n_kinds &&
           (strcmp(e->kinds[i].time_codec, c->time_codec) != 0 ||
            strcmp(e->kinds[i].value_codec, c->value_codec) != 0 || e->kinds[i].small != c->small))
        i++;
    if (i == KINDS_MAX)
        i--;
    else if (i == e->n_kinds)
        e->kinds[e->n_kinds++] = (struct kind){c->time_codec, c->value_codec, c->small, 0, 0, 0};
    e->kinds[i].chunks++;
    e->kinds[i].samples += c->samples;
    e->kinds[i].bytes += c->bytes;
}

static kv_status print_name(struct explain *e, const struct ts_chunk_facts *c)
{
    struct kv_buf text = {0};
    if (e->any && e->last_metric == c->metric && e->last_series == c->series)
        return KV_OK;
    kv_status rc = cli_series_text(c->labels, c->n_labels, &text);
    if (rc == KV_OK)
        printf("%.*s  ref=%u:%u\n", (int)text.len, (const char *)text.data, c->metric, c->series);
    kv_buf_release(&text);
    e->last_metric = c->metric;
    e->last_series = c->series;
    return rc;
}

static kv_status each_chunk(void *ctx, const struct ts_chunk_facts *c)
{
    struct explain *e = ctx;
    char window[40], first[40], last[40];
    if (e->one && (c->metric != e->metric || c->series != e->series))
        return KV_OK;
    count(e, c);
    if (e->summary_only)
        return KV_OK;
    kv_status rc = print_name(e, c);
    e->any = true;
    printf("  window=%.10s first=%s last=%s seq=%llu samples=%u bytes=%llu times=%s values=%s effort=%s "
           "bytes_per_sample=%.3f\n",
           cli_time_text(c->window_ms, window), cli_time_text(c->first_ms, first),
           cli_time_text(c->last_ms, last), (unsigned long long)c->seq, c->samples,
           (unsigned long long)c->bytes, c->time_codec, c->value_codec, c->small ? "small" : "quick",
           (double)c->bytes / c->samples);
    return rc < 0                ? rc
           : ferror(stdout) != 0 ? KV_CANCELED /* nobody reads it any more */
                                 : KV_OK;
}

static int by_bytes(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static void print_kind(const char *time, const char *value, const char *effort, const struct kind *k,
                       uint64_t all_bytes)
{
    printf("%-8s %-8s %-6s %10llu %12llu %12llu %8.3f %6.1f%%\n", time, value, effort,
           (unsigned long long)k->chunks, (unsigned long long)k->samples, (unsigned long long)k->bytes,
           k->samples ? (double)k->bytes / (double)k->samples : 0,
           all_bytes ? 100 * (double)k->bytes / (double)all_bytes : 0);
}

static void print_summary(struct explain *e, uint64_t head_samples)
{
    struct kind all = {0};
    for (size_t i = 0; i < e->n_kinds; i++) {
        all.chunks += e->kinds[i].chunks;
        all.samples += e->kinds[i].samples;
        all.bytes += e->kinds[i].bytes;
    }
    if (e->n_kinds > 1)
        qsort(e->kinds, e->n_kinds, sizeof e->kinds[0], by_bytes);
    printf("%-8s %-8s %-6s %10s %12s %12s %8s %7s\n", "times", "values", "effort", "chunks", "samples",
           "bytes", "B/sample", "bytes%");
    for (size_t i = 0; i < e->n_kinds; i++)
        print_kind(e->kinds[i].time_codec, e->kinds[i].value_codec, e->kinds[i].small ? "small" : "quick",
                   &e->kinds[i], all.bytes);
    print_kind("all", "", "", &all, all.bytes);
    if (head_samples)
        printf("and %llu samples of the store are in its log, in no chunk yet\n",
               (unsigned long long)head_samples);
}

static int explain_store(struct explain *e, const char *data, const struct ts_walk_options *walk)
{
    const struct kv_env_options env_options = {.threads = KV_THREADS_NONE};
    const struct ts_options options = {.read_only = true, .must_exist = true, .retention_ms = INT64_MAX};
    struct kv_env *env = NULL;
    struct ts_db *db = NULL;
    struct kv_err err = {0};
    struct ts_query_err query_err = {0};
    struct ts_stats stats;
    kv_status rc = kv_env_open(&env_options, &env, &err);
    if (rc == KV_OK)
        rc = ts_open(env, data, &options, &db, &err);
    if (rc == KV_OK && (rc = ts_chunks(db, walk, each_chunk, e, &query_err)) < 0)
        (void)kv_fail(&err, rc, 0, "%.239s", query_err.text);
    if (rc == KV_OK) {
        ts_stats(db, &stats);
        print_summary(e, stats.head_samples);
    }
    if (db)
        (void)ts_close_fast(db, NULL);
    kv_env_close(env);
    return rc < 0 ? cli_failed(&err, rc) : 0;
}

int cli_chunk(int argc, char **argv)
{
    char *from = NULL, *to = NULL, *ref = NULL, *data = NULL;
    bool help = false;
    struct explain e = {0};
    struct ts_walk_options walk = {.from_ms = INT64_MIN, .to_ms = INT64_MAX};
    kv_slice selectors[SELECTORS_MAX];
    const struct tool_option options[] = {
        {.name = "--from", .text = &from}, {.name = "--to", .text = &to},
        {.name = "--ref", .text = &ref},   {.name = "--data", .text = &data},
        {.name = "--help", .flag = &help}, {.name = "--summary", .flag = &e.summary_only}};
    int n = tool_options(argc, argv, options, sizeof options / sizeof *options), used = 0;
    int64_t now = kv_clock_wall_ms(kv_clock_system());
    if (help || n < 0 || n > SELECTORS_MAX) {
        fputs(n < 0 ? "" : chunk_usage, help ? stdout : stderr);
        return help ? 0 : 2;
    }
    if ((from && !cli_time(from, now, &walk.from_ms)) || (to && !cli_time(to, now, &walk.to_ms))) {
        fprintf(stderr,
                "tidemark: --from and --to take a time: unix seconds, 2026-11-21T03:08:03Z, now-1h\n");
        return 2;
    }
    if (walk.to_ms < walk.from_ms) {
        fprintf(stderr, "tidemark: --to is before --from\n");
        return 2;
    }
    e.one = ref != NULL;
    if (ref && (sscanf(ref, "%u:%u%n", &e.metric, &e.series, &used) != 2 || ref[used])) {
        fprintf(stderr, "tidemark: --ref takes METRIC:SERIES, two numbers\n");
        return 2;
    }
    for (int i = 0; i < n; i++)
        selectors[i] = kv_slice_str(argv[i]);
    walk.selectors = selectors;
    walk.n_selectors = (size_t)n;
    return explain_store(&e, data ? data : "./data", &walk);
}
