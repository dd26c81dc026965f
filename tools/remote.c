#include "tools/remote.h"
#include "kvcore/base/mem.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <string.h>

enum { ERROR_BYTES_MAX = 64 << 10, STALL_SECONDS = 60, SECONDS_MAX = 300 };

struct remote {
    CURL *curl;
    char *url; /* without a slash at its end */
};

struct answer {
    CURL *curl;
    const struct remote_request *request;
    struct kv_buf error; /* the body of a failure */
    struct kv_err *err;
    kv_status rc; /* of a sink or buffer */
};

kv_status remote_open(const char *url, struct remote **out, struct kv_err *err)
{
    struct remote *remote = kv_zalloc(1, sizeof *remote);
    size_t n = strlen(url);
    if (remote) {
        remote->curl = curl_easy_init();
        remote->url = kv_alloc(n + 1);
    }
    if (!remote || !remote->curl || !remote->url) {
        remote_close(remote);
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory asking %s", url);
    }
    memcpy(remote->url, url, n + 1);
    while (n && remote->url[n - 1] == '/')
        remote->url[--n] = 0;
    *out = remote;
    return KV_OK;
}

void remote_close(struct remote *remote)
{
    if (!remote)
        return;
    curl_easy_cleanup(remote->curl);
    kv_free(remote->url);
    kv_free(remote);
}

static size_t take_bytes(char *data, size_t size, size_t n, void *ctx)
{
    struct answer *a = ctx;
    kv_slice bytes = kv_slice_of(data, size * n);
    long status = 0;
    curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status > 299) { /* a long one is cut */
        (void)!kv_buf_append(&a->error, bytes);
        return bytes.len;
    }
    if (a->request->to)
        a->rc = a->request->to->write(a->request->to->ctx, bytes, a->err);
    else if (a->request->out && (a->rc = kv_buf_append(a->request->out, bytes)) < 0)
        (void)kv_fail(a->err, a->rc, 0, "the answer is longer than %zu bytes", a->request->out->max);
    return a->rc < 0 ? 0 : bytes.len;
}

static void set_up(struct remote *remote, const struct remote_request *request, const char *url,
                   struct curl_slist *headers, struct answer *answer)
{
    CURL *curl = remote->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (strcmp(request->method, "GET") != 0) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.len ? (const char *)request->body.data : "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (!request->to)
        curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    if (request->endless) {
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    } else {
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)SECONDS_MAX);
    }
}

/* Of a status over 299. */
static kv_status refused(const struct remote *remote, const struct answer *a, long status, struct kv_err *err)
{
    kv_status rc = status == 429 || status == 503 ? KV_BUSY : status < 500 ? KV_INVALID : KV_IO;
    cJSON *json = cJSON_ParseWithLength((const char *)a->error.data, a->error.len);
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(json, "error"));
    if (text)
        rc = kv_fail(err, rc, 0, "%s", text);
    else
        rc = kv_fail(err, rc, 0, "%s answered %ld: %.*s", remote->url, status,
                     a->error.len < 100 ? (int)a->error.len : 100, (const char *)a->error.data);
    cJSON_Delete(json);
    return rc;
}

kv_status remote_call(struct remote *remote, const struct remote_request *request, struct kv_err *err)
{
    struct answer answer = {
        .curl = remote->curl, .request = request, .error = {.max = ERROR_BYTES_MAX}, .err = err};
    struct kv_buf url = {0}, header = {0};
    struct curl_slist *headers = NULL;
    kv_status rc;
    if (request->out)
        kv_buf_clear(request->out);
    KV_TRY(kv_buf_printf(&url, "%s%s", remote->url, request->path));
    KV_TRY(kv_buf_append_byte(&url, 0));
    KV_TRY(
        kv_buf_printf(&header, "Content-Type: %s",
                      request->content_type ? request->content_type : "application/x-www-form-urlencoded"));
    KV_TRY(kv_buf_append_byte(&header, 0));
    headers = curl_slist_append(NULL, (const char *)header.data);
    set_up(remote, request, (const char *)url.data, headers, &answer);
    CURLcode code = curl_easy_perform(remote->curl);
    long status = 0;
    curl_easy_getinfo(remote->curl, CURLINFO_RESPONSE_CODE, &status);
    if (answer.rc < 0)
        rc = answer.rc;
    else if (code != CURLE_OK)
        rc = kv_fail(err, KV_IO, 0, "%s: %s", remote->url, curl_easy_strerror(code));
    else if (status > 299)
        rc = refused(remote, &answer, status, err);
out:
    curl_slist_free_all(headers);
    kv_buf_release(&answer.error);
    kv_buf_release(&header);
    kv_buf_release(&url);
    return rc < 0 ? rc : KV_OK;
}

kv_status remote_param(struct remote *remote, struct kv_buf *out, const char *name, const char *value)
{
    char *escaped = curl_easy_escape(remote->curl, value, 0);
    bool first = out->len == 0 || out->data[out->len - 1] == '?';
    kv_status rc = escaped ? kv_buf_printf(out, "%s%s=%s", first ? "" : "&", name, escaped) : KV_NO_MEMORY;
    curl_free(escaped);
    return rc;
}
