/*
 * loadgen.c - a seeded source of metrics that writes them to any server of the benches: what TSBS's devops
 * generator is to Go tools.
 *
 *   loadgen write --url URL --protocol rw|influx --profile cpu|mixed [--hosts 1000] [--start UNIX_S]
 * [--seconds 21600] [--step 10]
 *                 [--connections 2] [--samples 10000] [--seed 1] [--churn SECONDS]
 *
 * cpu: 10 integer random walks in [0, 100] a host. mixed: 16 a host: counters, gauges with 2 or 3 decimals,
 * byte counts, full-precision latencies, constants, up. Each series has 10 labels besides its name. The same
 * seed gives the same samples whatever the protocol or the number of connections. With --churn each host has a label more, pod,
 * which changes every so many seconds of sample time, and so do all series. Prints one line of JSON: samples,
 * bodies, bytes sent, seconds, failures.
 */
#include "bench/loadgen_values.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"

#include <curl/curl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    const char *url;
    const struct profile *profile;
    bool influx;
    unsigned hosts, step_s, connections, samples_per_body;
    int64_t start_s, seconds;
    int64_t churn_s; /* 0: no label pod */
    uint64_t seed;
};

struct sender {
    const struct options *options;
    unsigned first_host, hosts;
    double *state;        /* [hosts][fields] */
    struct kv_prng *prng; /* one a host, so that hosts do not depend on who sends them */
    struct kv_buf *tags;  /* a host's tags, in the protocol's form, without the name */
    int64_t pods;         /* the generation of pods in them */
    struct kv_buf body, packed, scratch;
    CURL *curl;
    uint64_t samples, bodies, bytes, failures;
    kv_thread thread;
};

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "loadgen: %s\n", what);
        exit(1);
    }
}

/* ---- labels */

static const char *const label_names[] = {
    "arch",    "datacenter",          "hostname",        "os",  "rack", "region",
    "service", "service_environment", "service_version", "team"};
enum { LABELS = sizeof label_names / sizeof label_names[0], POD_BEFORE = 4 };

static void label_value(unsigned host, unsigned label, char *out, size_t size)
{
    static const char *const regions[] = {"us-east-1",      "us-west-1",      "us-west-2",
                                          "eu-west-1",      "eu-central-1",   "ap-southeast-1",
                                          "ap-southeast-2", "ap-northeast-1", "sa-east-1"};
    static const char *const oses[] = {"Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"};
    static const char *const teams[] = {"SF", "NYC", "LON", "CHI"};
    unsigned h = host * 2654435761u;
    switch (label) {
    case 0:
        snprintf(out, size, "%s", h >> 7 & 1 ? "x64" : "x86");
        break;
    case 1:
        snprintf(out, size, "%s%c", regions[h % 9], 'a' + (int)(h >> 9) % 3);
        break;
    case 2:
        snprintf(out, size, "host_%u", host);
        break;
    case 3:
        snprintf(out, size, "%s", oses[(h >> 11) % 3]);
        break;
    case 4:
        snprintf(out, size, "%u", (h >> 13) % 100);
        break;
    case 5:
        snprintf(out, size, "%s", regions[h % 9]);
        break;
    case 6:
        snprintf(out, size, "%u", (h >> 15) % 20);
        break;
    case 7:
        snprintf(out, size, "%s", (h >> 17) % 3 ? "production" : "test");
        break;
    case 8:
        snprintf(out, size, "%u", (h >> 19) % 2);
        break;
    default:
        snprintf(out, size, "%s", teams[(h >> 21) % 4]);
        break;
    }
}

static void pb_bytes(struct kv_buf *out, unsigned field, kv_slice bytes)
{
    need(kv_buf_append_varint(out, field << 3 | 2) >= 0 && kv_buf_append_lp(out, bytes) >= 0, "memory");
}

static void pb_label(struct kv_buf *out, struct kv_buf *scratch, const char *name, const char *value)
{
    kv_buf_clear(scratch);
    pb_bytes(scratch, 1, kv_slice_str(name));
    pb_bytes(scratch, 2, kv_slice_str(value));
    pb_bytes(out, 1, kv_buf_slice(scratch));
}

static void make_tag(struct sender *s, unsigned i, const char *name, const char *value)
{
    if (s->options->influx)
        need(kv_buf_printf(&s->tags[i], ",%s=%s", name, value) >= 0, "memory");
    else
        pb_label(&s->tags[i], &s->scratch, name, value);
}

static void make_tags(struct sender *s, unsigned i)
{
    char value[64];
    kv_buf_clear(&s->tags[i]);
    for (unsigned l = 0; l < LABELS; l++) {
        if (s->options->churn_s && l == POD_BEFORE) { /* names like a deployment's: no order in them */
            uint64_t id = ((uint64_t)s->pods << 32 | (s->first_host + i)) * UINT64_C(0x9e3779b97f4a7c15);
            snprintf(value, sizeof value, "app-%010" PRIx64, id >> 24);
            make_tag(s, i, "pod", value);
        }
        label_value(s->first_host + i, l, value, sizeof value);
        make_tag(s, i, label_names[l], value);
    }
}

/* ---- bodies */

static void add_rw(struct sender *s, unsigned i, size_t field, double value, int64_t time_ms)
{
    const struct profile *p = s->options->profile;
    char name[96];
    uint64_t bits;
    struct kv_buf series = {0}, sample = {0};
    snprintf(name, sizeof name, "%s_%s", p->measurement, p->fields[field].field);
    pb_label(&series, &s->scratch, "__name__", name);
    memcpy(&bits, &value, sizeof bits);
    need(kv_buf_append(&series, kv_buf_slice(&s->tags[i])) >= 0 &&
             kv_buf_append_byte(&sample, 1 << 3 | 1) >= 0 && kv_buf_append_fixed64(&sample, bits) >= 0 &&
             kv_buf_append_byte(&sample, 2 << 3) >= 0 &&
             kv_buf_append_varint(&sample, (uint64_t)time_ms) >= 0,
         "memory");
    pb_bytes(&series, 2, kv_buf_slice(&sample));
    pb_bytes(&s->body, 1, kv_buf_slice(&series));
    kv_buf_release(&series);
    kv_buf_release(&sample);
}

static void add_number(struct kv_buf *out, double v)
{
    if (v == floor(v) && fabs(v) < 1e15)
        need(kv_buf_printf(out, "%.0fi", v) >= 0, "memory");
    else
        for (int digits = 1; digits <= 17; digits++) {
            char text[40];
            snprintf(text, sizeof text, "%.*g", digits, v);
            if (strtod(text, NULL) == v) {
                need(kv_buf_append(out, kv_slice_str(text)) >= 0, "memory");
                return;
            }
        }
}

static void add_host(struct sender *s, unsigned i, int64_t time_ms)
{
    const struct profile *p = s->options->profile;
    double *state = s->state + i * p->n;
    if (s->options->influx)
        need(kv_buf_printf(&s->body, "%s%.*s", p->measurement, KV_ARG(kv_buf_slice(&s->tags[i]))) >= 0,
             "memory");
    for (size_t f = 0; f < p->n; f++) {
        state[f] = next_value(p->fields[f].kind, state[f], &s->prng[i]);
        if (s->options->influx) {
            need(kv_buf_printf(&s->body, "%c%s=", f ? ',' : ' ', p->fields[f].field) >= 0, "memory");
            add_number(&s->body, state[f]);
        } else {
            add_rw(s, i, f, state[f], time_ms);
        }
    }
    if (s->options->influx)
        need(kv_buf_printf(&s->body, " %" PRId64 "000000\n", time_ms) >= 0, "memory");
}

/* ---- sending */

static size_t swallow(char *data, size_t size, size_t n, void *ctx)
{
    (void)data;
    (void)ctx;
    return size * n;
}

static void send_body(struct sender *s, uint64_t samples)
{
    struct kv_buf *body = &s->body;
    if (!s->options->influx) {
        size_t len = snappy_max_compressed_length(s->body.len);
        kv_buf_clear(&s->packed);
        uint8_t *out = kv_buf_extend(&s->packed, len);
        need(out && snappy_compress((const char *)s->body.data, s->body.len, (char *)out, &len) == SNAPPY_OK,
             "snappy");
        s->packed.len = len;
        body = &s->packed;
    }
    curl_easy_setopt(s->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
    curl_easy_setopt(s->curl, CURLOPT_POSTFIELDS, (char *)body->data);
    long status = 0;
    CURLcode code = curl_easy_perform(s->curl);
    if (code == CURLE_OK)
        curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        if (s->failures++ == 0)
            fprintf(stderr, "loadgen: %s answered %ld (%s)\n", s->options->url, status,
                    curl_easy_strerror(code));
    } else {
        s->samples += samples;
    }
    s->bodies++;
    s->bytes += body->len;
    kv_buf_clear(&s->body);
}

static void sender_run(void *ctx)
{
    struct sender *s = ctx;
    const struct options *o = s->options;
    uint64_t in_body = 0;
    for (int64_t t = o->start_s; t < o->start_s + o->seconds; t += o->step_s) {
        if (o->churn_s && s->pods != t / o->churn_s) {
            s->pods = t / o->churn_s;
            for (unsigned i = 0; i < s->hosts; i++)
                make_tags(s, i);
        }
        for (unsigned i = 0; i < s->hosts; i++) {
            add_host(s, i, t * 1000);
            in_body += o->profile->n;
            if (in_body >= o->samples_per_body) {
                send_body(s, in_body);
                in_body = 0;
            }
        }
    }
    if (in_body)
        send_body(s, in_body);
}

static void sender_init(struct sender *s, const struct options *o, unsigned index)
{
    unsigned first = (unsigned)((uint64_t)o->hosts * index / o->connections);
    unsigned end = (unsigned)((uint64_t)o->hosts * (index + 1) / o->connections);
    *s = (struct sender){.options = o, .first_host = first, .hosts = end - first, .curl = curl_easy_init()};
    s->state = kv_zalloc((size_t)s->hosts * o->profile->n, sizeof *s->state);
    s->prng = kv_zalloc(s->hosts, sizeof *s->prng);
    s->tags = kv_zalloc(s->hosts, sizeof *s->tags);
    need(s->curl && s->state && s->prng && s->tags, "memory");
    for (unsigned i = 0; i < s->hosts; i++) {
        kv_prng_init(&s->prng[i], o->seed * 1000003 + first + i);
        for (size_t f = 0; f < o->profile->n; f++)
            s->state[i * o->profile->n + f] = start_value(o->profile->fields[f].kind, &s->prng[i]);
        make_tags(s, i);
    }
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (o->influx) {
        headers = curl_slist_append(headers, "Content-Type: text/plain; charset=utf-8");
    } else {
        headers = curl_slist_append(headers, "Content-Type: application/x-protobuf");
        headers = curl_slist_append(headers, "Content-Encoding: snappy");
        headers = curl_slist_append(headers, "X-Prometheus-Remote-Write-Version: 0.1.0");
    }
    curl_easy_setopt(s->curl, CURLOPT_URL, o->url);
    curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, swallow);
    curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->curl, CURLOPT_TIMEOUT, 300L);
}

static const struct profile *find_profile(const char *name)
{
    for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++)
        if (strcmp(profiles[i].name, name) == 0)
            return &profiles[i];
    need(false, "--profile is cpu or mixed");
    return NULL;
}

static struct options read_options(int argc, char **argv)
{
    static const struct option longs[] = {
        {"url", 1, NULL, 'u'},   {"protocol", 1, NULL, 'p'},    {"profile", 1, NULL, 'f'},
        {"hosts", 1, NULL, 'h'}, {"start", 1, NULL, 's'},       {"seconds", 1, NULL, 'd'},
        {"step", 1, NULL, 't'},  {"connections", 1, NULL, 'c'}, {"samples", 1, NULL, 'n'},
        {"seed", 1, NULL, 'r'},  {"churn", 1, NULL, 'C'},       {NULL, 0, NULL, 0}};
    struct options o = {.profile = &profiles[0],
                        .hosts = 1000,
                        .step_s = 10,
                        .connections = 2,
                        .samples_per_body = 10000,
                        .seconds = 21600,
                        .seed = 1};
    o.start_s = kv_clock_wall_ms(kv_clock_system()) / 1000 / 3600 * 3600 - o.seconds;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 'u':
            o.url = optarg;
            break;
        case 'p':
            o.influx = strcmp(optarg, "influx") == 0;
            break;
        case 'f':
            o.profile = find_profile(optarg);
            break;
        case 'h':
            o.hosts = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 's':
            o.start_s = strtoll(optarg, NULL, 10);
            break;
        case 'd':
            o.seconds = strtoll(optarg, NULL, 10);
            break;
        case 't':
            o.step_s = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            o.connections = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            o.samples_per_body = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'C':
            o.churn_s = strtoll(optarg, NULL, 10);
            break;
        case 'r':
            o.seed = strtoull(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }
    need(o.url && o.hosts && o.step_s && o.connections && o.connections <= o.hosts && o.samples_per_body,
         "usage: loadgen write --url URL --protocol rw|influx --profile cpu|mixed ...");
    return o;
}

int main(int argc, char **argv)
{
    need(argc > 1 && strcmp(argv[1], "write") == 0, "usage: loadgen write --url URL ...");
    struct options o = read_options(argc - 1, argv + 1);
    curl_global_init(CURL_GLOBAL_ALL);
    struct sender *senders = kv_zalloc(o.connections, sizeof *senders);
    need(senders, "memory");
    for (unsigned i = 0; i < o.connections; i++)
        sender_init(&senders[i], &o, i);
    uint64_t begin = kv_clock_mono_ns(kv_clock_system());
    for (unsigned i = 0; i < o.connections; i++)
        need(kv_thread_start(&senders[i].thread, "sender", 0, sender_run, &senders[i]) >= 0, "thread");
    uint64_t samples = 0, bodies = 0, bytes = 0, failures = 0;
    for (unsigned i = 0; i < o.connections; i++) {
        kv_thread_join(&senders[i].thread);
        samples += senders[i].samples;
        bodies += senders[i].bodies;
        bytes += senders[i].bytes;
        failures += senders[i].failures;
    }
    double seconds = (double)(kv_clock_mono_ns(kv_clock_system()) - begin) / 1e9;
    printf("{\"samples\":%" PRIu64 ",\"bodies\":%" PRIu64 ",\"bytes\":%" PRIu64
           ",\"seconds\":%.3f,\"failures\":%" PRIu64 ",\"start_s\":%" PRId64 ",\"end_s\":%" PRId64 "}\n",
           samples, bodies, bytes, seconds, failures, o.start_s, o.start_s + o.seconds);
    return failures ? 1 : 0;
}
