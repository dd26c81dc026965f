#include "http/inflate.h"
#include "http/text.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"

#include <libdeflate.h>
#include <snappy-c.h>
#include <zstd.h>

enum {
    DEFLATE_RATIO_MAX = 1032, /* 258 bytes out of 2 bits */
    SNAPPY_RATIO_MAX = 22,    /* a copy of 64 bytes takes 3 */
    GUESS_RATIO = 4,          /* first guess where the format does not say */
    GUESS_RATIO_MAX = 32,     /* and where it may lie */
    ZSTD_STEP = 256 << 10,
};

struct http_inflater {
    struct libdeflate_decompressor *deflate;
    ZSTD_DCtx *zstd;
};

/* One call's bounds and output. */
struct target {
    size_t max;
    const struct http_inflate_account *account;
    struct kv_buf *out;
    struct kv_err *err;
};

kv_status http_inflater_new(struct http_inflater **out)
{
    *out = kv_zalloc(1, sizeof **out); /* codecs are made when first needed */
    return *out ? KV_OK : KV_NO_MEMORY;
}

void http_inflater_free(struct http_inflater *inflater)
{
    if (!inflater)
        return;
    libdeflate_free_decompressor(inflater->deflate);
    ZSTD_freeDCtx(inflater->zstd);
    kv_free(inflater);
}

kv_status http_coding_parse(kv_slice header, enum http_coding *out)
{
    static const struct {
        const char *name;
        enum http_coding coding;
    } codings[] = {{"", HTTP_IDENTITY},   {"identity", HTTP_IDENTITY}, {"gzip", HTTP_GZIP},
                   {"x-gzip", HTTP_GZIP}, {"deflate", HTTP_DEFLATE},   {"snappy", HTTP_SNAPPY},
                   {"zstd", HTTP_ZSTD}};
    header = http_trim(header);
    for (size_t i = 0; i < sizeof codings / sizeof *codings; i++) {
        if (http_equal_nocase(header, kv_slice_str(codings[i].name))) {
            *out = codings[i].coding;
            return KV_OK;
        }
    }
    return KV_UNSUPPORTED;
}

static kv_status too_large(const struct target *t)
{
    return kv_fail(t->err, KV_LIMIT, 0, "inflated body is over the limit of %zu bytes", t->max);
}

/* Room for `capacity` bytes in all, paid for. */
static kv_status target_grow(struct target *t, size_t capacity)
{
    kv_status rc;
    if (t->account && (rc = t->account->grow(t->account->ctx, capacity)) < 0)
        return kv_fail(t->err, rc, 0, "no share of the memory for bodies was free");
    if (capacity > t->out->len && kv_buf_reserve(t->out, capacity - t->out->len) < 0)
        return kv_fail(t->err, KV_NO_MEMORY, 0, "out of memory inflating the body");
    return KV_OK;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- gzip, deflate
 * ----------------------------------------------------------------------------------------------- */

enum deflate_form { FORM_GZIP, FORM_ZLIB, FORM_RAW };

static enum libdeflate_result deflate_once(struct http_inflater *inflater, enum deflate_form form,
                                           kv_slice in, uint8_t *to, size_t room, size_t *used, size_t *made)
{
    switch (form) {
    case FORM_GZIP:
        return libdeflate_gzip_decompress_ex(inflater->deflate, in.data, in.len, to, room, used, made);
    case FORM_ZLIB:
        return libdeflate_zlib_decompress_ex(inflater->deflate, in.data, in.len, to, room, used, made);
    default:
        return libdeflate_deflate_decompress_ex(inflater->deflate, in.data, in.len, to, room, used, made);
    }
}

/* One member of in; the output grows by doubling, never past what in could hold nor past the maximum. */
static kv_status deflate_member(struct http_inflater *inflater, enum deflate_form form, kv_slice in,
                                struct target *t, size_t guess, size_t *used)
{
    size_t made = 0;
    size_t reachable = in.len > SIZE_MAX / DEFLATE_RATIO_MAX ? SIZE_MAX : in.len * DEFLATE_RATIO_MAX;
    size_t bound = smaller(reachable, t->max - t->out->len);
    for (size_t room = smaller(guess, bound);; room = smaller(room > bound / 2 ? bound : room * 2, bound)) {
        kv_status rc = target_grow(t, t->out->len + room);
        if (rc < 0)
            return rc;
        /* libdeflate wants a place even for nothing */
        if (kv_buf_reserve(t->out, 1) < 0)
            return kv_fail(t->err, KV_NO_MEMORY, 0, "out of memory inflating the body");
        switch (deflate_once(inflater, form, in, t->out->data + t->out->len, room, used, &made)) {
        case LIBDEFLATE_SUCCESS:
            t->out->len += made;
            return KV_OK;
        case LIBDEFLATE_INSUFFICIENT_SPACE:
            if (room < bound)
                break;
            if (bound == reachable)
                return kv_fail(t->err, KV_INVALID, 0, "body is not valid %s",
                               form == FORM_GZIP ? "gzip" : "deflate");
            return too_large(t);
        default:
            return kv_fail(t->err, KV_INVALID, 0, "body is not valid %s: truncated or damaged",
                           form == FORM_GZIP ? "gzip" : "deflate");
        }
    }
}

static kv_status inflate_deflate(struct http_inflater *inflater, bool gzip, kv_slice in, struct target *t)
{
    if (!inflater->deflate && !(inflater->deflate = libdeflate_alloc_decompressor()))
        return kv_fail(t->err, KV_NO_MEMORY, 0, "out of memory inflating the body");
    /* HTTP's "deflate" is the zlib form; some senders leave its header out. */
    bool zlib = in.len >= 2 && (in.data[0] & 15) == 8 && (in.data[0] * 256 + in.data[1]) % 31 == 0;
    enum deflate_form form = gzip ? FORM_GZIP : zlib ? FORM_ZLIB : FORM_RAW;
    do {
        /* The last four bytes of gzip are the length of its last member, if it tells the truth. */
        size_t guess = in.len * GUESS_RATIO;
        if (gzip && in.len >= 18)
            guess = smaller(kv_get_fixed32(in.data + in.len - 4), in.len * GUESS_RATIO_MAX);
        size_t used = 0;
        kv_status rc = deflate_member(inflater, form, in, t, guess ? guess : 64, &used);
        if (rc < 0)
            return rc;
        in = kv_slice_from(in, used);
    } while (gzip && in.len);
    return in.len ? kv_fail(t->err, KV_INVALID, 0, "%zu bytes behind the end of the compressed body", in.len)
                  : KV_OK;
}

/* ---- snappy
 * ------------------------------------------------------------------------------------------------------ */

static kv_status inflate_snappy(kv_slice in, struct target *t)
{
    size_t n = 0;
    if (in.len >= 10 && memcmp(in.data, "\xff\x06\x00\x00sNaPpY", 10) == 0)
        return kv_fail(t->err, KV_INVALID, 0,
                       "body is snappy's framing format; the block format is expected");
    if (snappy_uncompressed_length((const char *)in.data, in.len, &n) != SNAPPY_OK)
        return kv_fail(t->err, KV_INVALID, 0, "body is not valid snappy: no length at its start");
    if (n > t->max)
        return too_large(t);
    if (n > in.len * SNAPPY_RATIO_MAX)
        return kv_fail(t->err, KV_INVALID, 0, "body is not valid snappy: it claims %zu bytes out of %zu", n,
                       in.len);
    kv_status rc = target_grow(t, n);
    if (rc < 0)
        return rc;
    size_t made = n;
    char none;
    if (snappy_uncompress((const char *)in.data, in.len, n ? (char *)t->out->data : &none, &made) !=
            SNAPPY_OK ||
        made != n)
        return kv_fail(t->err, KV_INVALID, 0, "body is not valid snappy: truncated or damaged");
    t->out->len = n;
    return KV_OK;
}

/* ---- zstd
 * -------------------------------------------------------------------------------------------------------- */

static kv_status zstd_invalid(const struct target *t, const char *why)
{
    return kv_fail(t->err, KV_INVALID, 0, "body is not valid zstd: %s", why);
}

/* One frame, streamed so that the window limit holds. */
static kv_status zstd_frame(struct http_inflater *inflater, ZSTD_inBuffer *in, struct target *t)
{
    for (;;) {
        size_t step = smaller(ZSTD_STEP, t->max - t->out->len);
        if (t->out->capacity - t->out->len > step)
            step = smaller(t->out->capacity, t->max) - t->out->len;
        kv_status rc = target_grow(t, t->out->len + step);
        if (rc < 0)
            return rc;
        uint8_t none;
        ZSTD_outBuffer out = {step ? t->out->data + t->out->len : &none, step, 0};
        size_t left = ZSTD_decompressStream(inflater->zstd, &out, in);
        if (ZSTD_isError(left))
            return zstd_invalid(t, ZSTD_getErrorName(left));
        t->out->len += out.pos;
        if (left == 0)
            return KV_OK;
        if (out.pos < out.size && in->pos == in->size)
            return zstd_invalid(t, "truncated");
        if (out.pos == 0 && t->out->len == t->max)
            return too_large(t);
    }
}

static kv_status inflate_zstd(struct http_inflater *inflater, kv_slice in, struct target *t)
{
    if (!inflater->zstd && !(inflater->zstd = ZSTD_createDCtx()))
        return kv_fail(t->err, KV_NO_MEMORY, 0, "out of memory inflating the body");
    for (ZSTD_inBuffer at = {in.data, in.len, 0}; at.pos < at.size;) {
        kv_slice frame = kv_slice_from(in, at.pos);
        if (frame.len < 5 || kv_get_fixed32(frame.data) != 0xfd2fb528u)
            return zstd_invalid(t, "no frame where one should begin (skippable frames are refused)");
        if (ZSTD_getDictID_fromFrame(frame.data, frame.len) != 0)
            return zstd_invalid(t, "it needs a dictionary");
        unsigned long long claimed = ZSTD_getFrameContentSize(frame.data, frame.len);
        if (claimed == ZSTD_CONTENTSIZE_ERROR)
            return zstd_invalid(t, "bad frame header");
        if (claimed != ZSTD_CONTENTSIZE_UNKNOWN && claimed > t->max - t->out->len)
            return too_large(t);
        ZSTD_DCtx_reset(inflater->zstd, ZSTD_reset_session_and_parameters);
        ZSTD_DCtx_setParameter(inflater->zstd, ZSTD_d_windowLogMax, HTTP_ZSTD_WINDOW_LOG_MAX);
        kv_status rc = zstd_frame(inflater, &at, t);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

kv_status http_inflate(struct http_inflater *inflater, enum http_coding coding, kv_slice in, size_t max,
                       const struct http_inflate_account *account, struct kv_buf *out, struct kv_err *err)
{
    struct target t = {max, account, out, err};
    kv_buf_clear(out);
    if (in.len == 0)
        return kv_fail(err, KV_INVALID, 0, "compressed body is empty");
    switch (coding) {
    case HTTP_GZIP:
    case HTTP_DEFLATE:
        return inflate_deflate(inflater, coding == HTTP_GZIP, in, &t);
    case HTTP_SNAPPY:
        return inflate_snappy(in, &t);
    case HTTP_ZSTD:
        return inflate_zstd(inflater, in, &t);
    default:
        return kv_fail(err, KV_INVALID, 0, "no content coding to undo");
    }
}
