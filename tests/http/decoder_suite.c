/* decoder_suite.c - what every decoder must do, run on each: that is what makes the seam true. */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tests/support/http_world.h"
#include "tests/support/row_log.h"

#include <criterion/criterion.h>
#include <stdlib.h>

struct subject {
    const char *name;
    kv_status (*make)(struct http_decoder **out);
    kv_slice (*good)(void); /* a body of three rows with one sample each */
};

static kv_slice good_influx(void)
{
    return KV_STR("m,a=1 v=1 1000000\nm,a=2 v=2 2000000\nn,a=1 w=3 3000000\n");
}

static kv_slice good_prom_write(void)
{
    static struct pb_writer body;
    if (!body.out.len) {
        pb_series(&body, "__name__=m_v,a=1", (int64_t[]){1}, (double[]){1}, 1);
        pb_series(&body, "__name__=m_v,a=2", (int64_t[]){2}, (double[]){2}, 1);
        pb_series(&body, "__name__=n_w,a=1", (int64_t[]){3}, (double[]){3}, 1);
    }
    return kv_buf_slice(&body.out);
}

static kv_slice good_json_lines(void)
{
    return KV_STR("{\"metric\":{\"__name__\":\"m_v\",\"a\":\"1\"},\"values\":[1],\"timestamps\":[1]}\n"
                  "{\"metric\":{\"__name__\":\"m_v\",\"a\":\"2\"},\"values\":[2],\"timestamps\":[2]}\n"
                  "{\"metric\":{\"__name__\":\"n_w\",\"a\":\"1\"},\"values\":[3],\"timestamps\":[3]}\n");
}

static kv_slice good_prom_text(void)
{
    return KV_STR("m_v{a=\"1\"} 1 1\nm_v{a=\"2\"} 2 2\nn_w{a=\"1\"} 3 3\n");
}

static const struct subject subjects[] = {{"influx", http_influx_new, good_influx},
                                          {"prom_write", http_prom_write_new, good_prom_write},
                                          {"json_lines", http_json_lines_new, good_json_lines},
                                          {"prom_text", http_prom_text_new, good_prom_text}};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static struct http_decoder *decoder;
static struct row_log rows;

#define EACH_SUBJECT(s)                                                                                      \
    for (const struct subject *s = subjects; s < subjects + SUBJECTS; s++)                                   \
        for (bool open = subject_open(s); open; open = subject_close())

static bool subject_open(const struct subject *s)
{
    row_log_init(&rows);
    cr_assert_eq(s->make(&decoder), KV_OK);
    cr_assert_str_eq(decoder->ops->name, s->name);
    return true;
}

static bool subject_close(void)
{
    row_log_release(&rows);
    http_decoder_free(decoder);
    return false;
}

Test(decoder_suite, the_same_data_gives_the_same_rows)
{
    EACH_SUBJECT(s)
    {
        const char *log = row_log_decode(&rows, decoder, s->good(), NULL, NULL);
        cr_assert_str_eq(log,
                         "1 {__name__=\"m_v\",a=\"1\"} 1@1\n2 {__name__=\"m_v\",a=\"2\"} 2@2\n3 "
                         "{__name__=\"n_w\",a=\"1\"} 3@3\n",
                         "%s", s->name);
        cr_assert(rows.report.rows == 3 && rows.report.samples == 3 && rows.report.rejected == 0);
    }
}

Test(decoder_suite, a_sink_that_fails_stops_it_and_is_passed_on)
{
    EACH_SUBJECT(s)
    {
        for (size_t nth = 1; nth <= 3; nth++) {
            kv_status rc;
            rows.fail_at = nth;
            row_log_decode(&rows, decoder, s->good(), NULL, &rc);
            cr_assert_eq(rc, KV_NO_MEMORY, "%s", s->name);
            cr_assert_eq(rows.rows, nth);
        }
        rows.fail_at = 0;
        kv_status rc;
        row_log_decode(&rows, decoder, s->good(), NULL, &rc);
        cr_assert_eq(rc, KV_OK, "usable afterwards");
    }
}

Test(decoder_suite, an_empty_body_is_no_rows)
{
    EACH_SUBJECT(s)
    {
        kv_status rc;
        cr_assert_str_eq(row_log_decode(&rows, decoder, (kv_slice){(const uint8_t *)"", 0}, NULL, &rc), "");
        cr_assert_eq(rc, KV_OK);
    }
}

Test(decoder_suite, equal_series_have_equal_identities_in_one_body_and_the_next)
{
    EACH_SUBJECT(s)
    {
        struct kv_buf twice = {0};
        cr_assert_eq(kv_buf_append(&twice, s->good()), KV_OK);
        cr_assert_eq(kv_buf_append(&twice, s->good()), KV_OK);
        const char *log = row_log_decode(&rows, decoder, kv_buf_slice(&twice), NULL, NULL);
        cr_assert(strstr(log, "6 {__name__=\"n_w\",a=\"1\"} 3@3\n"), "%s", log);
        kv_buf_release(&twice);
    }
}

Test(decoder_suite, garbage_neither_crashes_nor_hangs_it)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 3);
    EACH_SUBJECT(s)
    {
        kv_slice good = s->good();
        for (int round = 0; round < 20000; round++) {
            uint8_t *bytes = malloc(good.len);
            memcpy(bytes, good.data, good.len);
            for (uint64_t flips = 1 + kv_prng_below(&prng, 4); flips; flips--)
                bytes[kv_prng_below(&prng, good.len)] = (uint8_t)kv_prng_next(&prng);
            size_t n = kv_prng_below(&prng, good.len + 1);
            uint8_t *exact = malloc(n ? n : 1); /* so that a sanitizer sees a read past the end */
            memcpy(exact, bytes, n);
            row_log_decode(&rows, decoder, kv_slice_of(exact, n), NULL, NULL);
            free(exact);
            free(bytes);
        }
    }
}

static size_t allocations_left;
static bool fail_later(size_t size)
{
    (void)size;
    return allocations_left-- == 0;
}

Test(decoder_suite, a_failed_allocation_is_reported)
{
    for (const struct subject *s = subjects; s < subjects + SUBJECTS; s++) {
        allocations_left = 0;
        kv_mem_should_fail = fail_later;
        struct http_decoder *d = NULL;
        kv_status rc = s->make(&d);
        kv_mem_should_fail = NULL;
        cr_assert_eq(rc, KV_NO_MEMORY);
        cr_assert_null(d);
    }
}

static bool failed_any;
static bool fail_from(size_t size)
{
    (void)size;
    failed_any |= allocations_left == 0;
    return allocations_left == 0 || allocations_left-- == 0;
}

static kv_status no_label(struct ts_label_sink *sink, kv_slice name, kv_slice value)
{
    (void)sink, (void)name, (void)value;
    return KV_OK;
}
static kv_status ask_labels(struct http_decode_sink *sink, const struct ts_row *row)
{
    struct ts_label_sink labels = {no_label};
    (void)sink;
    return row->labels(row->labels_ctx, row, &labels);
}
static void no_reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                      uint64_t samples, const char *text)
{
    (void)sink, (void)position, (void)reason, (void)samples;
    cr_assert_fail("%s", text);
}

Test(decoder_suite, a_failed_allocation_within_a_body_is_reported_and_the_next_body_read)
{
    struct http_decode_sink sink = {ask_labels, no_reject, NULL};
    struct http_decode_report report;
    struct kv_err err;
    for (const struct subject *s = subjects; s < subjects + SUBJECTS; s++) {
        bool fired = true;
        kv_slice good = s->good();
        for (size_t nth = 0; fired; nth++) {
            struct http_decoder *d = NULL;
            cr_assert_eq(s->make(&d), KV_OK);
            allocations_left = nth;
            failed_any = false;
            kv_mem_should_fail = fail_from; /* and all later ones: a decoder may try another way */
            kv_status rc = http_decode(d, good, &(struct http_decode_options){0}, &sink, &report, &err);
            kv_mem_should_fail = NULL;
            fired = failed_any;
            cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK, "%s, allocation %zu: %s", s->name, nth,
                         kv_status_name(rc));
            cr_assert_eq(http_decode(d, good, &(struct http_decode_options){0}, &sink, &report, &err), KV_OK);
            http_decoder_free(d);
        }
    }
}
