/*
 * kill9.c - the real server, real HTTP, a real disk, and SIGKILL at random moments.
 *
 *   kill9 SERVER DATA_DIR [--kills 20] [--seed N] [--writers 8]
 *
 * Half of the writers speak remote_write, half line protocol. Each owns some series and at any time has one
 * request under way: new samples, samples written again with another value, or a delete of a range of one
 * series. It keeps, for each sample, what was answered and, for the request under way when the server died,
 * what may also be true. One more thread asks for flushes, merges and backups. After each restart (one in three is
 * killed again while it recovers) every sample of every series is read back: each must be what was answered
 * or what the unanswered request would have made of it, and that request must have happened whole or not at
 * all. The first two writers' series are kept for KEEP_MS only and written close to that age, so that they expire: what
 * is older must never be seen again. At the end the repository of backups made under the kills is verified, one more is
 * added, restored, and must answer the same. Exit 0: no sample lost, none invented, none back from the dead.
 */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/thread.h"
#include "tests/support/wire.h"

#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SERIES = 6, SAMPLES_MAX = 60000, BODY_SAMPLES = 60, STEP_MS = 250, WRITERS_MAX = 32 };
enum { EXPIRING = 2, KEEP_MS = 4 * 3600 * 1000, EXPIRY_SLACK_MS = 2000, WRITE_MARGIN_MS = 12000 };
enum action { NOTHING, APPEND, OVERWRITE, DELETE };

#define ABSENT NAN

struct series {
    double *value; /* what was answered last; ABSENT: nothing, or deleted */
    double *maybe; /* what the unanswered request would make of it */
    uint8_t *open; /* whether maybe counts */
    uint32_t n;    /* samples ever sent */
};

struct writer {
    unsigned id;
    struct kv_prng prng;
    struct series series[SERIES];
    uint64_t answered, requests, unanswered, refused;
    kv_thread thread;
};

static struct {
    char url[64];
    int64_t base_ms;
    unsigned writers;
    struct writer writer[WRITERS_MAX];
    uint64_t expired; /* samples seen gone for their age */
    atomic_bool stop;
} run;

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "kill9: %s\n", what);
        exit(1);
    }
}

static bool same(double a, double b)
{
    return (isnan(a) && isnan(b)) || a == b;
}

static bool is_influx(const struct writer *w)
{
    return w->id % 2;
}

static int64_t time_of(uint32_t n)
{
    return run.base_ms + (int64_t)n * STEP_MS;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The first sample that a writer may touch now. */
static uint32_t lowest_of(const struct writer *w)
{
    if (w->id >= EXPIRING)
        return 0;
    return (uint32_t)((now_ms() - KEEP_MS + WRITE_MARGIN_MS - run.base_ms) / STEP_MS) + 1;
}

/* ---- one request */

struct request {
    enum action action;
    unsigned series;
    uint32_t first, n;
    double values[BODY_SAMPLES];
};

static struct request choose(struct writer *w)
{
    struct request r = {.action = APPEND, .series = (unsigned)kv_prng_below(&w->prng, SERIES)};
    struct series *s = &w->series[r.series];
    uint64_t dice = kv_prng_below(&w->prng, 100);
    uint32_t lowest = lowest_of(w), written = s->n > lowest ? s->n - lowest : 0;
    if (written > 100 && dice < 30)
        r.action = dice < 10 ? DELETE : OVERWRITE;
    r.n = 1 + (uint32_t)kv_prng_below(&w->prng, BODY_SAMPLES);
    if (r.action == APPEND && s->n + r.n > SAMPLES_MAX)
        r.action = OVERWRITE;
    r.first = s->n > lowest ? s->n : lowest;
    if (r.action != APPEND)
        r.first = lowest + (uint32_t)kv_prng_below(&w->prng, written - BODY_SAMPLES);
    for (uint32_t i = 0; i < r.n; i++) /* never NaN; sometimes with decimals */
        r.values[i] = (double)kv_prng_below(&w->prng, 1 << 24) / (dice % 2 ? 1 : 8);
    return r;
}

static void make_body(const struct writer *w, const struct request *r, struct kv_buf *body,
                      struct kv_buf *scratch)
{
    char name[32], label[16];
    snprintf(name, sizeof name, "k9_w%u_v", w->id);
    snprintf(label, sizeof label, "%u", r->series);
    kv_buf_clear(body);
    if (is_influx(w)) {
        for (uint32_t i = 0; i < r->n; i++)
            need(kv_buf_printf(body, "k9_w%u,s=%u v=%.17g %" PRId64 "\n", w->id, r->series, r->values[i],
                               time_of(r->first + i)) >= 0,
                 "memory");
        return;
    }
    const char *labels[] = {"__name__", name, "s", label};
    int64_t times[BODY_SAMPLES];
    for (uint32_t i = 0; i < r->n; i++)
        times[i] = time_of(r->first + i);
    kv_buf_clear(scratch);
    wire_rw_series(scratch, labels, 2, times, r->values, r->n);
    wire_snappy(scratch, body);
}

static long send_request(struct writer *w, const struct request *r, CURL *curl, struct curl_slist *headers,
                         struct kv_buf *body, struct kv_buf *scratch)
{
    char url[512];
    if (r->action != DELETE) {
        make_body(w, r, body, scratch);
        snprintf(url, sizeof url, "%s%s", run.url, is_influx(w) ? "/write?precision=ms" : "/api/v1/write");
        return wire_http(curl, url, is_influx(w) ? NULL : headers, body, NULL);
    }
    char selector[64];
    snprintf(selector, sizeof selector, "k9_w%u_v{s=\"%u\"}", w->id, r->series);
    kv_buf_clear(scratch);
    wire_escape(selector, scratch);
    snprintf(url, sizeof url, "%s/api/v1/admin/tsdb/delete_series?match[]=%.*s&start=%.3f&end=%.3f", run.url,
             KV_ARG(kv_buf_slice(scratch)), (double)time_of(r->first) / 1e3,
             (double)time_of(r->first + r->n - 1) / 1e3);
    kv_buf_clear(body);
    return wire_http(curl, url, NULL, body, NULL);
}

static void writer_run(void *ctx)
{
    struct writer *w = ctx;
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = wire_rw_headers();
    struct kv_buf body = {0}, scratch = {0};
    while (!atomic_load(&run.stop)) {
        struct request r = choose(w);
        struct series *s = &w->series[r.series];
        long status = send_request(w, &r, curl, headers, &body, &scratch);
        w->requests++;
        bool done = status >= 200 && status < 300;
        if (status >= 400) {
            w->refused++;
            need(status == 503, "a sound request was refused with something other than 503");
            continue;
        }
        for (uint32_t i = r.first; i < r.first + r.n; i++) {
            double v = r.action == DELETE ? ABSENT : r.values[i - r.first];
            if (done) {
                s->value[i] = v;
            } else {
                s->maybe[i] = v;
                s->open[i] = 1;
            }
        }
        if (r.action == APPEND)
            s->n = r.first + r.n;
        if (done) {
            w->answered++;
        } else {
            w->unanswered++; /* the server is gone: nothing more until it is back and looked at */
            break;
        }
    }
    kv_buf_release(&body);
    kv_buf_release(&scratch);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
}

static void flusher_run(void *ctx)
{
    struct kv_prng *prng = ctx;
    CURL *curl = curl_easy_init();
    char url[128];
    struct kv_buf empty = {0};
    while (!atomic_load(&run.stop)) {
        usleep((useconds_t)(20000 + kv_prng_below(prng, 200000)));
        static const char *const asked[] = {"flush", "flush", "flush?settle=1", "backup"};
        snprintf(url, sizeof url, "%s/api/v1/admin/%s", run.url, asked[kv_prng_below(prng, 4)]);
        if (wire_http(curl, url, NULL, &empty, NULL) == 0)
            break;
    }
    curl_easy_cleanup(curl);
}

/* ---- reading back */

/* Reads one series into got[SAMPLES_MAX], ABSENT where there is none. */
static void read_series(CURL *curl, const struct writer *w, unsigned series, double *got)
{
    struct kv_buf query = {0}, reply = {0};
    char text[128];
    for (uint32_t i = 0; i < SAMPLES_MAX; i++)
        got[i] = ABSENT;
    snprintf(text, sizeof text, "k9_w%u_v{s=\"%u\"}[%us]", w->id, series, SAMPLES_MAX * STEP_MS / 1000 + 10);
    need(kv_buf_printf(&query, "%s/api/v1/query?time=%.3f&query=", run.url,
                       (double)time_of(SAMPLES_MAX) / 1e3) >= 0,
         "memory");
    wire_escape(text, &query);
    need(kv_buf_append_byte(&query, 0) >= 0, "memory");
    long status = wire_http(curl, (const char *)query.data, NULL, NULL, &reply);
    need(kv_buf_append_byte(&reply, 0) >= 0, "memory");
    if (status != 200) {
        fprintf(stderr, "kill9: %s answered %ld: %.300s\n", text, status, (char *)reply.data);
        exit(1);
    }
    char *at = strstr((char *)reply.data, "\"values\":[");
    for (at = at ? at + 10 : NULL; at && *at == '['; at = *at == ',' ? at + 1 : at) {
        int64_t ms = llround(strtod(at + 1, &at) * 1000) - run.base_ms;
        need(*at == ',' && at[1] == '"', "the reply is not in Prometheus's form");
        double v = strtod(at + 2, &at);
        at += 2; /* "] */
        need(ms % STEP_MS == 0 && ms >= 0 && ms / STEP_MS < SAMPLES_MAX, "a sample nobody sent: its time");
        got[ms / STEP_MS] = v;
    }
    kv_buf_release(&query);
    kv_buf_release(&reply);
}

/* floors: where the samples that are kept began before they were read, and behind that. */
static unsigned check_series(const struct writer *w, struct series *s, unsigned series, const double *got,
                             const int64_t *floors)
{
    unsigned bad = 0, applied = 0, missed = 0;
    for (uint32_t i = 0; i < SAMPLES_MAX; i++) {
        if (w->id < EXPIRING && time_of(i) < floors[1] + EXPIRY_SLACK_MS) {
            bool gone = time_of(i) < floors[0] - EXPIRY_SLACK_MS;
            if (gone && !isnan(got[i]) && bad++ < 5)
                fprintf(stderr, "kill9: w%u s%u n%u: read %.17g, which has expired\n", w->id, series, i,
                        got[i]);
            run.expired += isnan(got[i]) && !isnan(s->value[i]);
            if (gone || isnan(got[i])) {
                s->value[i] = ABSENT;
                s->open[i] = 0;
                continue;
            }
        }
        bool kept = same(got[i], s->value[i]), changed = s->open[i] && same(got[i], s->maybe[i]);
        if (!kept && !changed && bad++ < 5)
            fprintf(stderr, "kill9: w%u s%u n%u: read %.17g, answered %.17g, maybe %s%.17g\n", w->id, series,
                    i, got[i], s->value[i], s->open[i] ? "" : "(none) ", s->maybe[i]);
        if (s->open[i] && !same(s->value[i], s->maybe[i])) {
            applied += changed;
            missed += kept;
        }
        s->value[i] = got[i];
        s->open[i] = 0;
    }
    if (applied && missed) {
        fprintf(stderr, "kill9: w%u s%u: an unanswered request was stored in part: %u yes, %u no\n", w->id,
                series, applied, missed);
        bad++;
    }
    return bad;
}

static unsigned check_all(void)
{
    CURL *curl = curl_easy_init();
    double *got = kv_zalloc(SAMPLES_MAX, sizeof *got);
    unsigned bad = 0;
    for (unsigned i = 0; i < run.writers; i++)
        for (unsigned s = 0; s < SERIES; s++) {
            int64_t floors[2] = {now_ms() - KEEP_MS, 0};
            read_series(curl, &run.writer[i], s, got);
            floors[1] = now_ms() - KEEP_MS;
            bad += check_series(&run.writer[i], &run.writer[i].series[s], s, got, floors);
        }
    kv_free(got);
    curl_easy_cleanup(curl);
    return bad;
}

/* ---- the server's lives */

static pid_t start_server(const char *server, const char *data)
{
    char listen[32], log[512], backups[512];
    unsigned port = wire_free_port();
    snprintf(run.url, sizeof run.url, "http://127.0.0.1:%u", port);
    snprintf(listen, sizeof listen, "127.0.0.1:%u", port);
    snprintf(log, sizeof log, "%s.log", data);
    snprintf(backups, sizeof backups, "%s.backups", data);
    const char *argv[] = {server,
                          "serve",
                          "--data",
                          data,
                          "--listen",
                          listen,
                          "--self-metrics",
                          "off",
                          "--retention-rule",
                          "{__name__=~\"k9_w[01]_v\"}=4h",
                          "--backup-dir",
                          backups,
                          "--backup-keep",
                          "3",
                          NULL};
    return wire_spawn((char *const *)(uintptr_t)argv, log);
}

static void kill_server(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    need(waitpid(child, &status, 0) == child, "waitpid");
    need(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
         "the server ended by itself before it was killed");
}

static pid_t recover(const char *server, const char *data, struct kv_prng *prng, double *slowest)
{
    char url[96];
    for (;;) {
        double begin = wire_now();
        pid_t child = start_server(server, data);
        if (kv_prng_below(prng, 3) == 0) { /* again, while it recovers */
            usleep((useconds_t)kv_prng_below(prng, 60000));
            kill_server(child);
            continue;
        }
        snprintf(url, sizeof url, "%s/-/ready", run.url);
        if (!wire_wait_ready(url, child, 60)) {
            fprintf(stderr, "kill9: the server is not ready after a kill; see %s.log\n", data);
            exit(1);
        }
        *slowest = fmax(*slowest, wire_now() - begin);
        return child;
    }
}

/* Writers run against the server until it is killed under them. */
static void one_life(pid_t child, struct kv_prng *prng)
{
    struct kv_prng flusher_prng;
    kv_thread flusher = {0};
    kv_prng_init(&flusher_prng, kv_prng_next(prng));
    atomic_store(&run.stop, false);
    for (unsigned i = 0; i < run.writers; i++)
        need(kv_thread_start(&run.writer[i].thread, "writer", 0, writer_run, &run.writer[i]) >= 0, "thread");
    need(kv_thread_start(&flusher, "flusher", 0, flusher_run, &flusher_prng) >= 0, "thread");
    usleep((useconds_t)(50000 + kv_prng_below(prng, 900000)));
    kill_server(child);
    atomic_store(&run.stop, true);
    for (unsigned i = 0; i < run.writers; i++)
        kv_thread_join(&run.writer[i].thread);
    kv_thread_join(&flusher);
}

/* Runs a command to its end. */
static void must_run(const char *const *argv, const char *log)
{
    int status;
    pid_t child = wire_spawn((char *const *)(uintptr_t)argv, log);
    need(waitpid(child, &status, 0) == child, "waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "kill9: %s %s failed; see %s\n", argv[0], argv[1], log);
        exit(1);
    }
}

/* The store is stopped: a backup more, all of them verified, restored, and asked. */
static unsigned check_backup(const char *server, const char *data)
{
    char backups[512], copy[512], log[600];
    struct kv_prng calm;
    double slowest = 0;
    snprintf(backups, sizeof backups, "%s.backups", data);
    snprintf(copy, sizeof copy, "%s.copy", data);
    snprintf(log, sizeof log, "%s.log", copy);
    must_run((const char *const[]){server, "backup", "--data", data, backups, NULL}, log);
    must_run((const char *const[]){server, "backup", "--verify", backups, NULL}, log);
    must_run((const char *const[]){server, "restore", backups, "--data", copy, NULL}, log);
    kv_prng_init(&calm, 1);
    pid_t child = recover(server, copy, &calm, &slowest);
    unsigned bad = check_all();
    kill_server(child);
    if (bad)
        fprintf(stderr, "kill9: %u samples wrong in the restored backup\n", bad);
    return bad;
}

static void writer_init(struct writer *w, unsigned id, uint64_t seed)
{
    w->id = id;
    kv_prng_init(&w->prng, seed * 31 + id);
    for (unsigned s = 0; s < SERIES; s++) {
        struct series *series = &w->series[s];
        series->value = kv_zalloc(SAMPLES_MAX, sizeof(double));
        series->maybe = kv_zalloc(SAMPLES_MAX, sizeof(double));
        series->open = kv_zalloc(SAMPLES_MAX, 1);
        need(series->value && series->maybe && series->open, "memory");
        for (uint32_t i = 0; i < SAMPLES_MAX; i++)
            series->value[i] = ABSENT;
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: kill9 SERVER DATA_DIR [--kills N] [--seed N] [--writers N]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"kills", 1, NULL, 'k'}, {"seed", 1, NULL, 's'}, {"writers", 1, NULL, 'w'}, {NULL, 0, NULL, 0}};
    unsigned kills = 20, bad = 0;
    uint64_t seed = (uint64_t)time(NULL), answered = 0, unanswered = 0, refused = 0;
    run.writers = 8;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'k')
            kills = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 's')
            seed = strtoull(optarg, NULL, 10);
        else if (c == 'w')
            run.writers = (unsigned)strtoul(optarg, NULL, 10);
        else
            return usage();
    }
    if (argc - optind != 2 || run.writers < 1 || run.writers > WRITERS_MAX)
        return usage();
    const char *server = argv[optind], *data = argv[optind + 1];
    struct kv_prng prng;
    double slowest = 0;
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_ALL);
    kv_prng_init(&prng, seed);
    run.base_ms = ((int64_t)time(NULL) - 5 * 3600) * 1000;
    for (unsigned i = 0; i < run.writers; i++)
        writer_init(&run.writer[i], i, seed);
    printf("seed %" PRIu64 "\n", seed);
    pid_t child = recover(server, data, &prng, &slowest);
    for (unsigned k = 0; k < kills && !bad; k++) {
        one_life(child, &prng);
        child = recover(server, data, &prng, &slowest);
        bad = check_all();
        if (bad)
            fprintf(stderr, "kill9: %u samples wrong after kill %u, seed %" PRIu64 "\n", bad, k + 1, seed);
    }
    kill_server(child);
    bad += check_backup(server, data);
    for (unsigned i = 0; i < run.writers; i++) {
        answered += run.writer[i].answered;
        unanswered += run.writer[i].unanswered;
        refused += run.writer[i].refused;
    }
    printf("%u kills: %" PRIu64 " requests answered, %" PRIu64 " cut off, %" PRIu64 " refused, %" PRIu64
           " samples expired; slowest start %.2f s; %s\n",
           kills, answered, unanswered, refused, run.expired, slowest,
           bad ? "FAILED" : "nothing lost, invented or resurrected, nor in the restored backup");
    return bad ? 1 : 0;
}
