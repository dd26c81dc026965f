/*
 * kv_bench.c - one workload on one store, in a process of its own: prints one line of JSON. kv.py runs the matrix;
 * badger/main.go knows the same workloads by the same names.
 *
 *   kv_bench --store S --workload W --dir D [--keys N] [--ops N] [--value BYTES] [--batch N] [--threads N]
 *            [--cache-mb N] [--memtable-mb N] [--settle S]
 *
 * Workloads that fill want an empty directory; the others one that `fillrandom` (or `metricsload`) left. CPU is user and
 * system time of the whole process during the measured part: cpu_us_op until the last answer, settled_us_op until
 * the background work behind it has ended too (nothing is asked for by hand; seen from the process's own use of the CPU). Bytes
 * written are the kernel's count (/proc/self/io). Every value read is checked.
 */
#include "bench/kv_backend.h"
#include "bench/kv_gen.h"
#include "kvcore/os/thread.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    METRIC_SERIES = 10000,
    METRIC_SCAN_ROWS = 500,
    SEEK_NEXTS = 50,
    SCAN_ROWS_MAX = 100,
    WRITER_RATE = 20000, /* a second, in readwhilewriting */
    BATCH_MAX = 1000,
    THREADS_MAX = 64,
};

struct bench {
    const struct bench_backend *to;
    void *store, *session;
    struct bench_options options;
    const char *workload;
    uint64_t keys, ops, compact;
    uint64_t key_sum; /* of the numbers of all keys; 0: not known */
    size_t value_len, batch, threads;
    double settle_s;
    /* measured */
    double wall_s, cpu_s, settled_cpu_s, settled_s;
    uint64_t done; /* operations */
    uint64_t written;
    uint32_t *lat_ns; /* NULL: not asked for */
    uint64_t n_lat;
    char extra[512]; /* more JSON members, each with a comma before it */
};

_Noreturn void bench_die(const char *store, const char *what, const char *why)
{
    fprintf(stderr, "kv_bench: %s: %s: %s\n", store, what, why);
    exit(1);
}

/* ---- measuring */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static uint64_t proc_number(const char *path, const char *name)
{
    char line[256];
    uint64_t v = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            v = strtoull(line + strlen(name), NULL, 10);
    if (f)
        fclose(f);
    return v;
}

static uint64_t written_bytes(void)
{
    return proc_number("/proc/self/io", "write_bytes:");
}

static uint64_t dir_bytes(const char *path)
{
    uint64_t sum = 0;
    DIR *d = opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char name[4096];
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (lstat(name, &st) == 0) /* a file may go while we look */
            sum += S_ISDIR(st.st_mode) ? dir_bytes(name) : (uint64_t)st.st_blocks * 512;
    }
    if (d)
        closedir(d);
    return sum;
}

/* Waits until the process has used next to no CPU for half a second: its background work has ended. Returns whether it
 * has; *at_s and *at_cpu: when it was last seen working. */
static bool wait_quiet(double limit_s, double *at_s, double *at_cpu)
{
    const struct timespec tick = {0, 100000000};
    double start = now_s(), last = cpu_s();
    int quiet = 0;
    *at_s = start;
    *at_cpu = last;
    while (quiet < 5 && now_s() - start < limit_s) {
        nanosleep(&tick, NULL);
        double cpu = cpu_s();
        quiet = cpu - last < 0.004 ? quiet + 1 : 0;
        last = cpu;
        if (quiet == 0) {
            *at_s = now_s();
            *at_cpu = cpu;
        }
    }
    return quiet == 5;
}

static void measure_start(struct bench *b)
{
    b->written = written_bytes();
    b->cpu_s = cpu_s();
    b->wall_s = now_s();
}

static void measure_end(struct bench *b)
{
    double end = now_s(), cpu = cpu_s(), quiet_s, quiet_cpu;
    if (b->settle_s > 0)
        wait_quiet(b->settle_s, &quiet_s, &quiet_cpu);
    else {
        quiet_s = end;
        quiet_cpu = cpu;
    }
    b->settled_s = quiet_s - b->wall_s;
    b->settled_cpu_s = quiet_cpu - b->cpu_s;
    b->wall_s = end - b->wall_s;
    b->cpu_s = cpu - b->cpu_s;
    b->written = written_bytes() - b->written;
}

static void lat_want(struct bench *b)
{
    b->lat_ns = calloc(b->ops + 1, sizeof *b->lat_ns);
    b->n_lat = 0;
}

static int lat_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* ---- pieces of workloads */

static void check(bool ok, struct bench *b, const char *what)
{
    if (!ok)
        bench_die(b->to->name, b->workload, what);
}

/* A writer's own keys and values of one batch. */
struct writer {
    struct bench *b;
    void *session;
    size_t n;
    struct bench_entry entries[BATCH_MAX];
    uint8_t keys[BATCH_MAX][GEN_KEY_LEN];
    uint8_t *values;
};

static struct writer *writer_new(struct bench *b, void *session)
{
    struct writer *w = calloc(1, sizeof *w);
    w->b = b;
    w->session = session;
    w->values = malloc(b->batch * (b->value_len + 256));
    return w;
}

static void writer_free(struct writer *w)
{
    free(w->values);
    free(w);
}

static void writer_flush(struct writer *w)
{
    if (w->n)
        w->b->to->write(w->session, w->entries, w->n);
    w->n = 0;
}

static void writer_put(struct writer *w, uint64_t i, uint64_t generation)
{
    uint8_t *room = w->values + w->n * (w->b->value_len + 256);
    w->entries[w->n] =
        (struct bench_entry){gen_key(w->keys[w->n], i), gen_value(room, i, generation, w->b->value_len)};
    if (++w->n == w->b->batch)
        writer_flush(w);
}

static void writer_delete(struct writer *w, uint64_t i)
{
    w->entries[w->n] = (struct bench_entry){gen_key(w->keys[w->n], i), {0}};
    if (++w->n == w->b->batch)
        writer_flush(w);
}

static void get_one(struct bench *b, uint64_t i)
{
    uint8_t key[GEN_KEY_LEN];
    kv_slice value = {0};
    check(b->to->get(b->session, gen_key(key, i), &value) && gen_value_of(value, i, b->value_len), b,
          "a key is missing or has another's value");
}

static uint64_t key_number(kv_slice key)
{
    uint64_t i = 0;
    for (size_t at = 0; at < key.len; at++)
        i = i * 10 + (uint64_t)(key.data[at] - '0');
    return i;
}

static uint64_t scan_some(struct bench *b, uint64_t from, uint64_t rows_max)
{
    uint8_t key[GEN_KEY_LEN];
    struct bench_entry e;
    uint64_t rows = 0;
    void *it = b->to->iter(b->session, (kv_slice){0}, (kv_slice){0});
    for (bool on = b->to->seek(it, gen_key(key, from), &e); on; on = b->to->next(it, &e)) {
        check(e.value.len == b->value_len && (rows || kv_get_fixed64(e.value.data) == key_number(e.key)), b,
              "a row has another's value");
        if (++rows == rows_max)
            break;
    }
    b->to->iter_end(it);
    return rows;
}

static uint64_t scan_all(struct bench *b, bool reverse)
{
    struct bench_entry e;
    uint64_t rows = 0, sum = 0;
    void *it = b->to->iter(b->session, (kv_slice){0}, (kv_slice){0});
    if (reverse)
        for (bool on = b->to->last(it, &e); on; on = b->to->prev(it, &e), rows++)
            sum += kv_get_fixed64(e.value.data);
    else
        for (bool on = b->to->seek(it, (kv_slice){0}, &e); on; on = b->to->next(it, &e), rows++)
            sum += kv_get_fixed64(e.value.data);
    b->to->iter_end(it);
    check(sum == b->key_sum || b->key_sum == 0, b, "the rows do not add up");
    return rows;
}

/* What a reader has read before it is measured. */
static void warm(struct bench *b)
{
    check(scan_all(b, false) == b->keys, b, "rows are missing");
    for (uint64_t j = 0; j < b->keys / 20; j++)
        get_one(b, gen_mix(j + 77) % b->keys);
}

/* ---- workloads */

static void fill(struct bench *b, bool shuffled)
{
    struct writer *w = writer_new(b, b->session);
    measure_start(b);
    for (uint64_t j = 0; j < b->keys; j++)
        writer_put(w, shuffled ? gen_shuffle(j, b->keys) : j, 0);
    writer_flush(w);
    b->done = b->keys;
    measure_end(b);
    writer_free(w);
}

static void fillseq(struct bench *b)
{
    fill(b, false);
}

static void fillrandom(struct bench *b)
{
    fill(b, true);
    if (b->compact && b->to->compact)
        b->to->compact(b->store);
}

struct sync_thread {
    struct bench *b;
    kv_thread thread;
    uint64_t first, n;
    uint32_t *lat_ns;
};

static void fillsync_run(void *ctx)
{
    struct sync_thread *t = ctx;
    struct writer *w = writer_new(t->b, t->b->to->session(t->b->store));
    for (uint64_t j = 0; j < t->n; j++) {
        double start = now_s();
        writer_put(w, gen_shuffle(t->first + j, t->b->keys), 0);
        writer_flush(w);
        t->lat_ns[j] = (uint32_t)((now_s() - start) * 1e9);
    }
    t->b->to->session_end(w->session);
    writer_free(w);
}

static void fillsync(struct bench *b)
{
    struct sync_thread threads[THREADS_MAX] = {0};
    uint64_t each = b->ops / b->threads;
    b->settle_s = 0;
    lat_want(b);
    measure_start(b);
    for (size_t i = 0; i < b->threads; i++) {
        threads[i] =
            (struct sync_thread){.b = b, .first = i * each, .n = each, .lat_ns = b->lat_ns + i * each};
        check(kv_thread_start(&threads[i].thread, "writer", 0, fillsync_run, &threads[i]) == KV_OK, b,
              "no thread");
    }
    for (size_t i = 0; i < b->threads; i++)
        kv_thread_join(&threads[i].thread);
    b->done = b->n_lat = each * b->threads;
    measure_end(b);
}

static void overwrite(struct bench *b)
{
    struct writer *w = writer_new(b, b->session);
    measure_start(b);
    for (uint64_t j = 0; j < b->ops; j++)
        writer_put(w, gen_mix(j + 5) % b->keys, j + 1);
    writer_flush(w);
    b->done = b->ops;
    measure_end(b);
    writer_free(w);
}

static void readrandom(struct bench *b)
{
    warm(b);
    measure_start(b);
    for (uint64_t j = 0; j < b->ops; j++)
        get_one(b, gen_mix(j + 1) % b->keys);
    b->done = b->ops;
    measure_end(b);
}

static void readmissing(struct bench *b)
{
    uint8_t key[GEN_KEY_LEN];
    kv_slice value;
    warm(b);
    measure_start(b);
    for (uint64_t j = 0; j < b->ops; j++)
        check(!b->to->get(b->session, gen_key_missing(key, gen_mix(j + 2) % b->keys), &value), b,
              "a key that is not");
    b->done = b->ops;
    measure_end(b);
}

static void seekrandom(struct bench *b)
{
    warm(b);
    measure_start(b);
    for (uint64_t j = 0; j < b->ops; j++)
        scan_some(b, gen_mix(j + 3) % b->keys, SEEK_NEXTS + 1);
    b->done = b->ops;
    measure_end(b);
}

static void scan(struct bench *b, bool reverse)
{
    warm(b);
    measure_start(b);
    for (b->done = 0; b->done < b->ops || b->done == 0;)
        b->done += scan_all(b, reverse);
    measure_end(b);
}

static void scanforward(struct bench *b)
{
    scan(b, false);
}

static void scanreverse(struct bench *b)
{
    if (b->to->prev)
        scan(b, true);
}

struct beside {
    struct bench *b;
    _Atomic bool stop;
    uint64_t written;
};

static void beside_run(void *ctx)
{
    struct beside *beside = ctx;
    struct bench *b = beside->b;
    const struct timespec tick = {0, 500000};
    struct writer *w = writer_new(b, b->to->session(b->store));
    double start = now_s();
    while (!beside->stop) {
        for (uint64_t due = (uint64_t)((now_s() - start) * WRITER_RATE); beside->written < due;
             beside->written++)
            writer_put(w, gen_mix(beside->written + 9) % b->keys, beside->written + 1);
        nanosleep(&tick, NULL);
    }
    writer_flush(w);
    b->to->session_end(w->session);
    writer_free(w);
}

static void readwhilewriting(struct bench *b)
{
    struct beside beside = {.b = b};
    kv_thread thread = {0};
    b->settle_s = 0;
    lat_want(b);
    warm(b);
    check(kv_thread_start(&thread, "writer", 0, beside_run, &beside) == KV_OK, b, "no thread");
    measure_start(b);
    for (uint64_t j = 0; j < b->ops; j++) {
        double start = now_s();
        get_one(b, gen_mix(j + 4) % b->keys);
        b->lat_ns[j] = (uint32_t)((now_s() - start) * 1e9);
    }
    b->done = b->n_lat = b->ops;
    measure_end(b);
    beside.stop = true;
    kv_thread_join(&thread);
    snprintf(b->extra, sizeof b->extra, ",\"beside_writes\":%" PRIu64, beside.written);
}

/* update, scan, insert: per cent; the rest are reads. */
static void ycsb(struct bench *b, unsigned update, unsigned scan_share, unsigned insert)
{
    struct gen_zipf zipf;
    struct writer *w = writer_new(b, b->session);
    uint64_t inserted = 0, rows = 0;
    gen_zipf_init(&zipf, b->keys);
    warm(b);
    measure_start(b);
    for (uint64_t j = 0; j < b->ops; j++) {
        uint64_t r = gen_mix(j * 3 + 11), at = gen_zipf_key(&zipf, gen_mix(j * 3 + 12)), kind = r % 100;
        if (kind < update)
            writer_put(w, at, j + 1);
        else if (kind < update + insert)
            writer_put(w, b->keys + inserted++, 0);
        else if (kind < update + insert + scan_share)
            rows += scan_some(b, at, 1 + gen_mix(j * 3 + 13) % SCAN_ROWS_MAX);
        else
            get_one(b, at);
    }
    b->done = b->ops;
    measure_end(b);
    writer_free(w);
    snprintf(b->extra, sizeof b->extra, ",\"rows\":%" PRIu64, rows);
}

static void ycsba(struct bench *b)
{
    ycsb(b, 50, 0, 0);
}
static void ycsbb(struct bench *b)
{
    ycsb(b, 5, 0, 0);
}
static void ycsbc(struct bench *b)
{
    ycsb(b, 0, 0, 0);
}
static void ycsbe(struct bench *b)
{
    ycsb(b, 0, 95, 5);
}

/* A row of every series at each step, as agents send them. */
static void metricsload(struct bench *b)
{
    struct writer *w = writer_new(b, b->session);
    uint64_t bytes = 0;
    measure_start(b);
    for (uint64_t i = 0; i < b->keys; i++) {
        size_t len = gen_metric_value_len(i);
        w->entries[w->n] =
            (struct bench_entry){gen_metric_key(w->keys[w->n], i % METRIC_SERIES, i / METRIC_SERIES),
                                 gen_value(w->values + w->n * (b->value_len + 256), i, 0, len)};
        bytes += GEN_KEY_LEN + len;
        if (++w->n == b->batch)
            writer_flush(w);
    }
    writer_flush(w);
    b->done = b->keys;
    measure_end(b);
    writer_free(w);
    snprintf(b->extra, sizeof b->extra, ",\"user_bytes\":%" PRIu64, bytes);
}

static uint64_t metrics_scan_one(struct bench *b, uint64_t series, uint64_t from)
{
    uint8_t lower[GEN_KEY_LEN], upper[GEN_KEY_LEN];
    struct bench_entry e;
    uint64_t rows = 0, sum = 0;
    kv_slice low = gen_metric_key(lower, series, from), high = gen_metric_key(upper, series, UINT32_MAX);
    void *it = b->to->iter(b->session, low, high);
    for (bool on = b->to->seek(it, low, &e); on && kv_slice_compare(e.key, high) < 0;
         on = b->to->next(it, &e), rows++)
        sum += kv_get_fixed64(e.value.data) % METRIC_SERIES != series;
    b->to->iter_end(it);
    check(sum == 0, b, "a row of another series");
    return rows;
}

static void metricsscan(struct bench *b)
{
    uint64_t steps = b->keys / METRIC_SERIES, from = steps > METRIC_SCAN_ROWS ? steps - METRIC_SCAN_ROWS : 0;
    for (uint64_t s = 0; s < METRIC_SERIES; s++)
        check(metrics_scan_one(b, s, from) == steps - from, b, "rows are missing");
    measure_start(b);
    for (uint64_t j = 0; j < b->ops; j++)
        metrics_scan_one(b, gen_mix(j + 6) % METRIC_SERIES, from);
    b->done = b->ops;
    measure_end(b);
}

static void deletehalf(struct bench *b)
{
    struct writer *w = writer_new(b, b->session);
    double at_s, at_cpu;
    uint64_t before = dir_bytes(b->options.dir), after;
    double settle_s = b->settle_s;
    b->settle_s = 0;
    measure_start(b);
    for (uint64_t j = 0; j < b->keys; j++) {
        uint64_t i = gen_shuffle(j, b->keys);
        if (i % 2 == 0)
            writer_delete(w, i);
    }
    writer_flush(w);
    b->done = b->keys / 2;
    measure_end(b);
    after = dir_bytes(b->options.dir);
    double start = now_s(), cpu = cpu_s();
    bool quiet = wait_quiet(settle_s, &at_s, &at_cpu);
    b->settled_s = b->wall_s + at_s - start;
    b->settled_cpu_s = b->cpu_s + at_cpu - cpu;
    writer_free(w);
    uint64_t settled = dir_bytes(b->options.dir);
    b->key_sum = 0;
    check(scan_all(b, false) >= b->keys / 2, b, "rows that were not deleted are missing");
    snprintf(b->extra, sizeof b->extra,
             ",\"disk_before\":%" PRIu64 ",\"disk_after\":%" PRIu64 ",\"disk_settled\":%" PRIu64
             ",\"live_bytes\":%" PRIu64 ",\"quiet\":%s",
             before, after, settled, (b->keys - b->keys / 2) * (GEN_KEY_LEN + b->value_len),
             quiet ? "true" : "false");
}

static void reopen(struct bench *b)
{
    uint64_t rss = proc_number("/proc/self/status", "VmRSS:");
    double opened = b->wall_s, cpu = b->cpu_s; /* main measured them */
    get_one(b, b->keys / 2);
    b->done = 1;
    snprintf(b->extra, sizeof b->extra, ",\"open_ms\":%.3f,\"open_cpu_ms\":%.3f,\"rss_open_kb\":%" PRIu64,
             opened * 1e3, cpu * 1e3, rss);
}

static const struct workload {
    const char *name;
    void (*run)(struct bench *b);
    bool fills;
} workloads[] = {
    {"fillseq", fillseq, true},
    {"fillrandom", fillrandom, true},
    {"fillsync", fillsync, true},
    {"overwrite", overwrite, false},
    {"readrandom", readrandom, false},
    {"readmissing", readmissing, false},
    {"seekrandom", seekrandom, false},
    {"scanforward", scanforward, false},
    {"scanreverse", scanreverse, false},
    {"readwhilewriting", readwhilewriting, false},
    {"ycsba", ycsba, false},
    {"ycsbb", ycsbb, false},
    {"ycsbc", ycsbc, false},
    {"ycsbe", ycsbe, false},
    {"metricsload", metricsload, true},
    {"metricsscan", metricsscan, false},
    {"deletehalf", deletehalf, false},
    {"open", reopen, false},
};

/* ---- the program */

static void report(struct bench *b, const char *note)
{
    struct rusage u;
    char lat[96] = "";
    getrusage(RUSAGE_SELF, &u);
    if (b->n_lat) {
        qsort(b->lat_ns, b->n_lat, sizeof *b->lat_ns, lat_order);
        snprintf(lat, sizeof lat, ",\"p50_us\":%.2f,\"p99_us\":%.2f", b->lat_ns[b->n_lat / 2] / 1e3,
                 b->lat_ns[b->n_lat * 99 / 100] / 1e3);
    }
    double ops = b->done ? (double)b->done : 1;
    printf("{\"workload\":\"%s\",\"store\":\"%s\",\"note\":\"%s\",\"keys\":%" PRIu64
           ",\"value\":%zu,\"batch\":%zu,\"threads\":%zu,\"cache_mb\":%" PRIu64 ",\"ops\":%" PRIu64
           ",\"wall_s\":%.4f,\"ops_s\":%.0f,\"cpu_us_op\":%.4f,\"settled_us_op\":%.4f,\"settled_s\":%.2f%s"
           ",\"peak_rss_mb\":%.1f,\"written_bytes\":%" PRIu64 ",\"disk_bytes\":%" PRIu64 "%s}\n",
           b->workload, b->to->name, note, b->keys, b->value_len, b->batch, b->threads,
           b->options.cache_bytes >> 20, b->done, b->wall_s, b->wall_s > 0 ? (double)b->done / b->wall_s : 0,
           b->cpu_s / ops * 1e6, b->settled_cpu_s / ops * 1e6, b->settled_s, lat, (double)u.ru_maxrss / 1024,
           b->written, dir_bytes(b->options.dir), b->extra);
}

static void run(struct bench *b, const struct workload *w)
{
    char note[128];
    b->workload = w->name;
    b->options.sync = strcmp(w->name, "fillsync") == 0;
    b->options.read = !w->fills;
    b->options.data_bytes = b->keys * (GEN_KEY_LEN + b->value_len);
    b->key_sum = b->keys * (b->keys - 1) / 2;
    if (b->ops == 0)
        b->ops = b->keys;
    measure_start(b);
    b->store = b->to->open(&b->options);
    b->cpu_s = cpu_s() - b->cpu_s;
    b->wall_s = now_s() - b->wall_s;
    b->session = b->to->session(b->store);
    snprintf(note, sizeof note, "%s", b->to->note(b->store));
    w->run(b);
    b->to->session_end(b->session);
    double start = now_s();
    b->to->close(b->store);
    size_t len = strlen(b->extra);
    snprintf(b->extra + len, sizeof b->extra - len, ",\"close_s\":%.3f", now_s() - start);
    report(b, note);
    free(b->lat_ns);
}

static uint64_t number(const char *text, const char *option, uint64_t min, uint64_t max)
{
    char *end;
    uint64_t v = strtoull(text, &end, 10);
    if (*end || v < min || v > max)
        bench_die("kv_bench", option, "out of range");
    return v;
}

static bool option(struct bench *b, const char *name, const char *v)
{
    if (strcmp(name, "--keys") == 0)
        b->keys = number(v, name, 1, UINT64_C(10000000000));
    else if (strcmp(name, "--ops") == 0)
        b->ops = number(v, name, 1, UINT64_C(10000000000));
    else if (strcmp(name, "--value") == 0)
        b->value_len = number(v, name, 16, GEN_VALUE_MAX);
    else if (strcmp(name, "--batch") == 0)
        b->batch = number(v, name, 1, BATCH_MAX);
    else if (strcmp(name, "--threads") == 0)
        b->threads = number(v, name, 1, THREADS_MAX);
    else if (strcmp(name, "--cache-mb") == 0)
        b->options.cache_bytes = number(v, name, 1, 1 << 20) << 20;
    else if (strcmp(name, "--memtable-mb") == 0)
        b->options.memtable_bytes = number(v, name, 1, 4096) << 20;
    else if (strcmp(name, "--settle") == 0)
        b->settle_s = (double)number(v, name, 0, 3600);
    else if (strcmp(name, "--compact") == 0)
        b->compact = number(v, name, 0, 1);
    else if (strcmp(name, "--dir") == 0)
        b->options.dir = v;
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    static const struct bench_backend *const stores[] = {&bench_tidemark, &bench_rocksdb, &bench_leveldb,
                                                         &bench_lmdb, &bench_wiredtiger};
    struct bench b = {.keys = 1000000, .value_len = 100, .batch = 1, .threads = 1, .settle_s = 30};
    const struct workload *workload = NULL;
    b.options = (struct bench_options){.cache_bytes = 256 << 20, .memtable_bytes = 64 << 20};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--store") == 0) {
            for (size_t k = 0; k < sizeof stores / sizeof stores[0]; k++)
                if (strcmp(stores[k]->name, argv[i + 1]) == 0)
                    b.to = stores[k];
        } else if (strcmp(argv[i], "--workload") == 0) {
            for (size_t k = 0; k < sizeof workloads / sizeof workloads[0]; k++)
                if (strcmp(workloads[k].name, argv[i + 1]) == 0)
                    workload = &workloads[k];
        } else if (!option(&b, argv[i], argv[i + 1]))
            bench_die("kv_bench", argv[i], "no such option");
    }
    if (!b.to || !workload || !b.options.dir || argc % 2 == 0)
        bench_die("kv_bench", "usage", "--store NAME --workload NAME --dir DIR [...]");
    run(&b, workload);
    return 0;
}
