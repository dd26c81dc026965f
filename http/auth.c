#include "http/auth.h"
#include "http/text.h"
#include "kvcore/base/mem.h"

#include <sodium.h>

enum { ENTRIES_MAX = 1000, CREDENTIAL_LEN_MAX = 1024 };

struct entry {
    uint8_t sum[crypto_hash_sha256_BYTES]; /* of "basic NAME:PASSWORD" or "bearer TOKEN" */
};
struct http_auth {
    size_t n;
    struct entry entries[ENTRIES_MAX];
};

static void sum_of(kv_slice scheme, kv_slice secret, uint8_t sum[crypto_hash_sha256_BYTES])
{
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, scheme.data, scheme.len);
    crypto_hash_sha256_update(&state, (const unsigned char *)" ", 1);
    crypto_hash_sha256_update(&state, secret.data, secret.len);
    crypto_hash_sha256_final(&state, sum);
    sodium_memzero(&state, sizeof state);
}

/* "name:password" with neither part empty. */
static bool is_pair(kv_slice s)
{
    const uint8_t *colon = s.len ? memchr(s.data, ':', s.len) : NULL;
    return colon && colon > s.data && colon + 1 < s.data + s.len;
}

/* The first word of s, and what is behind the blanks after it. */
static kv_slice take_word(kv_slice *s)
{
    size_t n = 0;
    while (n < s->len && s->data[n] != ' ' && s->data[n] != '\t')
        n++;
    kv_slice word = {s->data, n};
    *s = http_trim(kv_slice_from(*s, n));
    return word;
}

static kv_status add_line(struct http_auth *auth, kv_slice line, unsigned number, struct kv_err *err)
{
    if (line.len && line.data[line.len - 1] == '\r')
        line.len--;
    line = http_trim(line);
    if (line.len == 0 || line.data[0] == '#')
        return KV_OK;
    kv_slice scheme = take_word(&line);
    bool basic = kv_slice_equal(scheme, KV_STR("basic"));
    if (!basic && !kv_slice_equal(scheme, KV_STR("bearer")))
        return kv_fail(err, KV_INVALID, 0,
                       "credentials line %u: expected \"basic NAME:PASSWORD\" or \"bearer TOKEN\"", number);
    if (basic && !is_pair(line))
        return kv_fail(err, KV_INVALID, 0, "credentials line %u: name and password must not be empty",
                       number);
    if (line.len == 0 || line.len > CREDENTIAL_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "credentials line %u: a token has 1 to %d bytes", number,
                       CREDENTIAL_LEN_MAX);
    if (auth->n == ENTRIES_MAX)
        return kv_fail(err, KV_LIMIT, 0, "credentials line %u: more than %d entries", number, ENTRIES_MAX);
    sum_of(scheme, line, auth->entries[auth->n++].sum);
    return KV_OK;
}

kv_status http_auth_new(kv_slice file, struct http_auth **out, struct kv_err *err)
{
    struct http_auth *auth = kv_zalloc(1, sizeof *auth);
    kv_status rc = KV_OK;
    unsigned number = 0;
    if (!auth)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory reading credentials");
    if (sodium_init() < 0)
        rc = kv_fail(err, KV_IO, 0, "the system gave no randomness for reading credentials");
    while (rc == KV_OK && file.len) {
        const uint8_t *newline = memchr(file.data, '\n', file.len);
        kv_slice line = {file.data, newline ? (size_t)(newline - file.data) : file.len};
        file = kv_slice_from(file, line.len + (newline != NULL));
        rc = add_line(auth, line, ++number, err);
    }
    if (rc == KV_OK && auth->n == 0)
        rc = kv_fail(err, KV_INVALID, 0, "the credentials file names nobody");
    if (rc < 0) {
        http_auth_free(auth);
        return rc;
    }
    *out = auth;
    return KV_OK;
}

void http_auth_free(struct http_auth *auth)
{
    if (auth)
        sodium_memzero(auth, sizeof *auth);
    kv_free(auth);
}

static bool known(const struct http_auth *auth, kv_slice scheme, kv_slice secret)
{
    uint8_t sum[crypto_hash_sha256_BYTES];
    unsigned found = 0;
    sum_of(scheme, secret, sum);
    for (size_t i = 0; i < auth->n; i++)
        found |= sodium_memcmp(sum, auth->entries[i].sum, sizeof sum) == 0;
    return found;
}

bool http_auth_check(const struct http_auth *auth, kv_slice header)
{
    uint8_t pair[CREDENTIAL_LEN_MAX];
    kv_slice secret = http_trim(header);
    kv_slice scheme = take_word(&secret);
    if (secret.len == 0 || secret.len > CREDENTIAL_LEN_MAX)
        return false;
    if (http_equal_nocase(scheme, KV_STR("bearer")) || http_equal_nocase(scheme, KV_STR("token")))
        return known(auth, KV_STR("bearer"), secret);
    size_t n = 0;
    if (!http_equal_nocase(scheme, KV_STR("basic")) ||
        sodium_base642bin(pair, sizeof pair, (const char *)secret.data, secret.len, NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return false;
    bool good = is_pair(kv_slice_of(pair, n)) && known(auth, KV_STR("basic"), kv_slice_of(pair, n));
    sodium_memzero(pair, sizeof pair);
    return good;
}
