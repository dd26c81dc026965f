#include "tests/support/wire.h"

#include "kvcore/base/coding.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void need(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void pb_bytes(struct kv_buf *out, unsigned field, kv_slice bytes)
{
    need(kv_buf_append_varint(out, field << 3 | 2) >= 0 && kv_buf_append_lp(out, bytes) >= 0, "memory");
}

void wire_rw_series(struct kv_buf *request, const char *const *labels, size_t n_labels,
                    const int64_t *times_ms, const double *values, size_t n)
{
    struct kv_buf series = {0}, part = {0};
    for (size_t i = 0; i < n_labels; i++) {
        kv_buf_clear(&part);
        pb_bytes(&part, 1, kv_slice_str(labels[2 * i]));
        pb_bytes(&part, 2, kv_slice_str(labels[2 * i + 1]));
        pb_bytes(&series, 1, kv_buf_slice(&part));
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        kv_buf_clear(&part);
        need(kv_buf_append_byte(&part, 1 << 3 | 1) >= 0 && kv_buf_append_fixed64(&part, bits) >= 0 &&
                 kv_buf_append_byte(&part, 2 << 3) >= 0 &&
                 kv_buf_append_varint(&part, (uint64_t)times_ms[i]) >= 0,
             "memory");
        pb_bytes(&series, 2, kv_buf_slice(&part));
    }
    pb_bytes(request, 1, kv_buf_slice(&series));
    kv_buf_release(&series);
    kv_buf_release(&part);
}

void wire_snappy(const struct kv_buf *request, struct kv_buf *out)
{
    size_t len = snappy_max_compressed_length(request->len);
    kv_buf_clear(out);
    uint8_t *at = kv_buf_extend(out, len);
    need(at && snappy_compress((const char *)request->data, request->len, (char *)at, &len) == SNAPPY_OK,
         "snappy");
    out->len = len;
}

struct curl_slist *wire_rw_headers(void)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    headers = curl_slist_append(headers, "Content-Type: application/x-protobuf");
    headers = curl_slist_append(headers, "Content-Encoding: snappy");
    return curl_slist_append(headers, "X-Prometheus-Remote-Write-Version: 0.1.0");
}

static size_t collect(char *data, size_t size, size_t n, void *ctx)
{
    if (ctx)
        need(kv_buf_append(ctx, kv_slice_of(data, size * n)) >= 0, "memory");
    return size * n;
}

long wire_http(CURL *curl, const char *url, struct curl_slist *headers, const struct kv_buf *body,
               struct kv_buf *reply)
{
    long status = 0;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 120L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    if (body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->data ? (const char *)body->data : "");
    }
    if (curl_easy_perform(curl) != CURLE_OK)
        return 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

void wire_escape(const char *text, struct kv_buf *out)
{
    for (const char *p = text; *p; p++)
        if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9'))
            need(kv_buf_append_byte(out, (uint8_t)*p) >= 0, "memory");
        else
            need(kv_buf_printf(out, "%%%02X", (unsigned char)*p) >= 0, "memory");
}

unsigned wire_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    need(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    need(getsockname(fd, (struct sockaddr *)&address, &len) == 0, "getsockname");
    close(fd);
    return ntohs(address.sin_port);
}

pid_t wire_spawn(char *const *argv, const char *log)
{
    pid_t child = fork();
    need(child >= 0, "fork");
    if (child > 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a harness that dies leaves no server behind */
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(126);
    execv(argv[0], argv);
    _exit(127);
}

double wire_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool wire_wait_ready(const char *url, pid_t child, double seconds)
{
    CURL *curl = curl_easy_init();
    double deadline = wire_now() + seconds;
    bool ready = false;
    while (!ready && wire_now() < deadline && waitpid(child, NULL, WNOHANG) == 0) {
        ready = wire_http(curl, url, NULL, NULL, NULL) == 200;
        if (!ready)
            usleep(2000);
    }
    curl_easy_cleanup(curl);
    return ready;
}
