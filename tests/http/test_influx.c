#include "tests/support/row_log.h"
#include "kvcore/base/number.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct http_decoder *decoder;
static struct row_log rows;

static void open_decoder(void)
{
    row_log_init(&rows);
    cr_assert_eq(http_influx_new(&decoder), KV_OK);
}

static void close_decoder(void)
{
    row_log_release(&rows);
    http_decoder_free(decoder);
}

TestSuite(influx, .init = open_decoder, .fini = close_decoder);

static const char *decoded(const char *body)
{
    kv_status rc;
    const char *text = row_log_decode(&rows, decoder, kv_slice_str(body), NULL, &rc);
    cr_assert_eq(rc, KV_OK, "%s", rows.err.text);
    return text;
}

Test(influx, metric_is_measurement_and_field_and_tags_are_labels)
{
    cr_assert_str_eq(decoded("cpu,host=a,dc=x idle=12.5,user=3i 1500000000\n"),
                     "1 {__name__=\"cpu_idle\",dc=\"x\",host=\"a\"} 1500@12.5\n"
                     "1 {__name__=\"cpu_user\",dc=\"x\",host=\"a\"} 1500@3\n");
    cr_assert_str_eq(decoded("m v=1"), "1 {__name__=\"m_v\"} 1000@1\n");
    cr_assert_str_eq(decoded("m=x,a=b v=1"), "1 {__name__=\"m=x_v\",a=\"b\"} 1000@1\n");
}

Test(influx, values_of_every_kind_become_doubles)
{
    cr_assert_str_eq(
        decoded("m a=1,b=-2i,c=18446744073709551615u,d=t,e=False,f=.5,g=1.,h=1e3,i=-0"),
        "1 {__name__=\"m_a\"} 1000@1\n1 {__name__=\"m_b\"} 1000@-2\n"
        "1 {__name__=\"m_c\"} 1000@18446744073709552000\n1 {__name__=\"m_d\"} 1000@1\n"
        "1 {__name__=\"m_e\"} 1000@0\n1 {__name__=\"m_f\"} 1000@0.5\n1 {__name__=\"m_g\"} 1000@1\n"
        "1 {__name__=\"m_h\"} 1000@1000\n1 {__name__=\"m_i\"} 1000@-0\n");
    cr_assert_str_eq(decoded("m v=9223372036854775807i,w=-9223372036854775808i"),
                     "1 {__name__=\"m_v\"} 1000@9223372036854776000\n"
                     "1 {__name__=\"m_w\"} 1000@-9223372036854776000\n");
}

Test(influx, strings_are_skipped_and_counted)
{
    cr_assert_str_eq(decoded("m a=\"x, y=\\\"1\\\"\",v=2 1000000\nm s=\"two\nlines\"\nn v=1"),
                     "1 {__name__=\"m_v\"} 1@2\n4 {__name__=\"n_v\"} 1000@1\n");
    cr_assert_eq(rows.report.strings_skipped, 2);
    cr_assert_eq(rows.report.rejected, 0);
}

Test(influx, escapes_are_undone_in_names_and_values)
{
    cr_assert_str_eq(decoded("my\\ m\\,x,ta\\=g=a\\ b\\,c\\=d,back=s\\lash f\\ 1=1"),
                     "1 {__name__=\"my m,x_f 1\",back=\"s\\lash\",ta=g=\"a b,c=d\"} 1000@1\n");
}

Test(influx, comments_blank_lines_and_crlf_are_accepted)
{
    cr_assert_str_eq(decoded("# c\r\n\r\n   \nm v=1 1000000\r\n  n,a=b  v=2  2000000  \r\n\n"),
                     "4 {__name__=\"m_v\"} 1@1\n5 {__name__=\"n_v\",a=\"b\"} 2@2\n");
    cr_assert_str_eq(decoded(""), "");
}

Test(influx, times_are_floored_to_milliseconds)
{
    static const struct {
        int64_t unit_ns;
        const char *time, *ms;
    } cases[] = {{1, "1999999", "1"},
                 {1, "-1", "-1"},
                 {1, "-1000000", "-1"},
                 {1, "-1000001", "-2"},
                 {1000, "1999", "1"},
                 {1000, "-1", "-1"},
                 {1000000, "7", "7"},
                 {1000000000, "2", "2000"},
                 {60000000000, "1", "60000"},
                 {3600000000000, "-1", "-3600000"},
                 {1, "9223372036854775807", "9223372036854"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[64], expected[64];
        struct http_decode_options options = {.unit_ns = cases[i].unit_ns};
        snprintf(body, sizeof body, "m v=1 %s", cases[i].time);
        snprintf(expected, sizeof expected, "1 {__name__=\"m_v\"} %s@1\n", cases[i].ms);
        cr_assert_str_eq(row_log_decode(&rows, decoder, kv_slice_str(body), &options, NULL), expected);
    }
    struct http_decode_options hours = {.unit_ns = 3600000000000};
    row_log_decode(&rows, decoder, KV_STR("m v=1 9223372036854775807"), &hours, NULL);
    cr_assert_eq(rows.report.rejected, 1);
}

Test(influx, an_empty_tag_value_is_passed_on_as_an_empty_label)
{
    cr_assert_str_eq(decoded("m,a=,b=1 v=1"), "1 {__name__=\"m_v\",a=\"\",b=\"1\"} 1000@1\n");
}

Test(influx, good_lines_around_a_bad_one_are_kept)
{
    cr_assert_str_eq(decoded("a v=1\nb v=\nc v=3\n"),
                     "1 {__name__=\"a_v\"} 1000@1\n"
                     "reject 2 malformed 1 line 2:5: no value behind a field key\n"
                     "3 {__name__=\"c_v\"} 1000@3\n");
    cr_assert_eq(rows.report.rejected, 1);
    cr_assert_eq(rows.report.samples, 2);
}

Test(influx, a_bad_line_leaves_none_of_its_fields)
{
    cr_assert_str_eq(decoded("a v=1,w=2,x=bad"), "reject 1 malformed 1 line 1:13: expected a field value\n");
}

Test(influx, rows_of_one_line_share_the_first_identity_piece)
{
    cr_assert_str_eq(decoded("a,b=c v=1"), "1 {__name__=\"a_v\",b=\"c\"} 1000@1\n");
}

/* ---- the corpus of the protocol's authors
 * -------------------------------------------------------------------------- */

static uint8_t *base64(const char *text, size_t *n)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *out = malloc(strlen(text) + 1);
    unsigned bits = 0, have = 0;
    *n = 0;
    for (; *text && *text != '='; text++) {
        bits = bits << 6 | (unsigned)(strchr(alphabet, *text) - alphabet);
        have += 6;
        if (have >= 8)
            out[(*n)++] = (uint8_t)(bits >> (have -= 8));
    }
    return out;
}

/* A string or {"binary": base64} of the corpus. */
static uint8_t *corpus_bytes(const cJSON *item, size_t *n)
{
    if (cJSON_IsObject(item))
        return base64(cJSON_GetObjectItem(item, "binary")->valuestring, n);
    *n = strlen(item->valuestring);
    return (uint8_t *)strdup(item->valuestring);
}

/* What we should log for the points of an entry: rows in order, no strings. */
static void expected_rows(const cJSON *points, struct kv_buf *out)
{
    const cJSON *point, *tag, *field;
    cJSON_ArrayForEach(point, points)
    {
        size_t name_len, len;
        uint8_t *name = corpus_bytes(cJSON_GetObjectItem(point, "name"), &name_len);
        cJSON_ArrayForEach(field, cJSON_GetObjectItem(point, "fields"))
        {
            const cJSON *value = cJSON_GetObjectItem(field, "value")->child;
            if (strcmp(value->string, "string") == 0 || strcmp(value->string, "binary") == 0)
                continue;
            uint8_t *key = corpus_bytes(cJSON_GetObjectItem(field, "key"), &len);
            double v = cJSON_IsBool(value) ? cJSON_IsTrue(value) : value->valuedouble;
            char number[KV_DOUBLE_LEN_MAX];
            int number_len = (int)kv_double_format(v, number);
            cr_assert_eq(kv_buf_printf(out, "{__name__=\"%.*s_%.*s\"", (int)name_len, name, (int)len, key),
                         KV_OK);
            free(key);
            cJSON_ArrayForEach(tag, cJSON_GetObjectItem(point, "tags"))
            {
                size_t value_len;
                uint8_t *tag_key = corpus_bytes(cJSON_GetObjectItem(tag, "key"), &len);
                uint8_t *tag_value = corpus_bytes(cJSON_GetObjectItem(tag, "value"), &value_len);
                cr_assert_eq(
                    kv_buf_printf(out, ",%.*s=\"%.*s\"", (int)len, tag_key, (int)value_len, tag_value),
                    KV_OK);
                free(tag_key);
                free(tag_value);
            }
            cr_assert_eq(kv_buf_printf(out, "} @%.*s\n", number_len, number), KV_OK);
        }
        free(name);
    }
    cr_assert_eq(kv_buf_append_byte(out, 0), KV_OK);
}

/* The log without positions and times, tags in the order of the line: what the corpus says in full. */
static void comparable(const char *log, struct kv_buf *out)
{
    for (const char *line = log; *line;) {
        const char *end = strchr(line, '\n'), *labels = strchr(line, '{'), *at = end;
        while (at > line && *at != '@')
            at--;
        const char *space = at;
        while (space > labels && *space != ' ')
            space--;
        cr_assert_eq(
            kv_buf_printf(out, "%.*s%.*s", (int)(space + 1 - labels), labels, (int)(end + 1 - at), at),
            KV_OK);
        line = end + 1;
    }
    cr_assert_eq(kv_buf_append_byte(out, 0), KV_OK);
}

/* Entries InfluxDB refuses and we take, or the other way round, each with its reason. */
static bool we_differ(const char *error)
{
    /* DESIGN: an empty tag value is no label. */
    return strstr(error, "expected tag value") != NULL;
}

Test(influx, agrees_with_the_corpus_of_the_protocol)
{
    FILE *f = fopen("../shared/conformance/line-protocol/corpus-half.json", "rb");
    if (!f) {
        fprintf(stderr, "SKIPPED: influx corpus: ../shared/conformance/line-protocol is not there\n");
        cr_skip_test("no corpus");
    }
    static char text[4 << 20];
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    /* cJSON's strings end at a NUL; another control byte is as bad. */
    for (char *nul = text; (nul = strstr(nul, "\\u0000"));)
        nul[5] = '1';
    cJSON *corpus = cJSON_Parse(text);
    cr_assert(corpus);
    int good = 0, bad = 0, differ = 0;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, cJSON_GetObjectItem(corpus, "decode"))
    {
        const cJSON *result = cJSON_GetObjectItem(cJSON_GetObjectItem(entry, "output"), "result");
        const cJSON *error = cJSON_GetObjectItem(cJSON_GetObjectItem(entry, "output"), "error");
        size_t n;
        uint8_t *body = corpus_bytes(cJSON_GetObjectItem(cJSON_GetObjectItem(entry, "input"), "text"), &n);
        struct http_decode_options options = {.now_ms = 0};
        kv_status rc;
        const char *log = row_log_decode(&rows, decoder, kv_slice_of(body, n), &options, &rc);
        bool refused = rc < 0 || rows.report.rejected || strstr(log, "BAD LABELS");
        if (error && !refused && we_differ(error->valuestring)) {
            differ++;
        } else if (error) {
            cr_expect(refused, "%s taken: %.*s (%s)", entry->string, (int)n, body, error->valuestring);
            bad++;
        } else {
            struct kv_buf ours = {0}, theirs = {0};
            comparable(log, &ours);
            expected_rows(result, &theirs);
            cr_expect(!refused, "%s refused: %.*s: %s", entry->string, (int)n, body, log);
            if (!refused)
                cr_expect_str_eq((char *)ours.data, (char *)theirs.data, "%s", entry->string);
            kv_buf_release(&ours);
            kv_buf_release(&theirs);
            good++;
        }
        free(body);
    }
    cJSON_Delete(corpus);
    printf("line protocol corpus: %d taken, %d refused, %d differ on purpose\n", good, bad, differ);
    cr_assert(good > 100 && bad > 1000);
}
