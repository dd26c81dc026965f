#include "tests/support/row_log.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct http_decoder *decoder;
static struct row_log rows;
static const struct http_decode_options ms = {.now_ms = 1000, .unit_ns = 1000000},
                                        seconds = {.now_ms = 1000, .unit_ns = 1000000000};

static void open_decoder(void)
{
    row_log_init(&rows);
    cr_assert_eq(http_prom_text_new(&decoder), KV_OK);
}
static void close_decoder(void)
{
    row_log_release(&rows);
    http_decoder_free(decoder);
}
TestSuite(prom_text, .init = open_decoder, .fini = close_decoder);

static const char *decoded(const char *body, const struct http_decode_options *options)
{
    kv_status rc;
    const char *text = row_log_decode(&rows, decoder, kv_slice_str(body), options, &rc);
    cr_assert_eq(rc, KV_OK, "%s", rows.err.text);
    return text;
}

Test(prom_text, samples_with_and_without_labels_and_times)
{
    cr_assert_str_eq(
        decoded("up 1\nup{} 2 5\nup { a = \"b\" , c=\"d\", } 3 -7\r\n\n  a:b_c9\t4\t8  ", &ms),
        "1 {__name__=\"up\"} 1000@1\n2 {__name__=\"up\"} 5@2\n3 {__name__=\"up\",a=\"b\",c=\"d\"} -7@3\n"
        "5 {__name__=\"a:b_c9\"} 8@4\n");
    cr_assert_eq(rows.report.rejected, 0);
}

Test(prom_text, names_may_stand_in_quotes)
{
    cr_assert_str_eq(
        decoded("{\"http.requests\",\"le.x\"=\"1\",b=\"2\"} 1 1\n{b=\"2\"} 1 1\nup{\"a\"=\"b\"} 1 1\n", &ms),
        "1 {__name__=\"http.requests\",b=\"2\",le.x=\"1\"} 1@1\n2 {b=\"2\"} 1@1\n3 {__name__=\"up\",a=\"b\"} "
        "1@1\n");
}

Test(prom_text, escapes_of_values_are_undone)
{
    cr_assert_str_eq(decoded("m{a=\"\\\\ \\\" \\n \\x {}\"} 1 1", &ms),
                     "1 {__name__=\"m\",a=\"\\ \" \n \\x {}\"} 1@1\n");
}

Test(prom_text, values_have_words_too)
{
    const char *log = decoded("m +Inf 1\nm -inf 2\nm NaN 3\nm 1e3 4\nm -0.5 5\n", &ms);
    cr_assert(strstr(log, "1@+Inf") && strstr(log, "2@-Inf") && strstr(log, "3@NaN") &&
                  strstr(log, "4@1000") && strstr(log, "5@-0.5"),
              "%s", log);
}

Test(prom_text, open_metrics_has_seconds_families_and_exemplars)
{
    cr_assert_str_eq(
        decoded(
            "# HELP m_total some \\n help\n# TYPE m_total counter\n# UNIT m_total bytes\n"
            "m_total 1 1700000000.123 # {trace=\"x\"} 1 2\nm_total 2 1700000000\nm_total 3 1.7e9\n"
            "m_total 4 -0.001\nm_total 5 1.5\nm_total 6 1.0019\n# just a comment\n# TYPE n gauge\n# EOF\n",
            &seconds),
        "metadata m_total counter \"some \\n help\" \"bytes\"\n"
        "4 {__name__=\"m_total\"} 1700000000123@1\n5 {__name__=\"m_total\"} 1700000000000@2\n"
        "6 {__name__=\"m_total\"} 1700000000000@3\n7 {__name__=\"m_total\"} -1@4\n"
        "8 {__name__=\"m_total\"} 1500@5\n9 {__name__=\"m_total\"} 1001@6\n"
        "metadata n gauge \"\" \"\"\n");
    cr_assert(rows.report.exemplars == 1 && rows.report.metadata == 2);
}

Test(prom_text, a_line_that_is_wrong_is_refused_with_its_place_and_the_next_is_read)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"1up 1", "1:1: expected a metric's name"},
        {"up", "1:3: expected a number"},
        {"up x", "1:4: expected a number"},
        {"up 1e999", "1:4: expected a number"},
        {"up 1 2.5", "1:6: expected a time in milliseconds"},
        {"up 1 9223372036854775808", "1:6: expected a time"},
        {"up 1 2 3", "1:8: unexpected byte"},
        {"up{a=\"b\"}1", "1:10: expected a blank"},
        {"up{a=\"b\" 1", "1:10: expected ',' or '}'"},
        {"up{a=b} 1", "1:6: expected '\"'"},
        {"up{a} 1", "1:5: expected '='"},
        {"up{=\"b\"} 1", "1:4: expected a label's name"},
        {"up{a=\"b", "1:8: unclosed quote"},
        {"up{a=\"b\\", "unclosed quote"},
        {"up{\"x\"} 1", "a second name"},
        {"{\"x\",\"y\"} 1", "a second name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[400];
        snprintf(body, sizeof body, "%s\nup 7 7\n", cases[i].line);
        const char *log = decoded(body, &ms);
        cr_assert(strstr(log, "reject 1 malformed 1 line 1:") && strstr(log, cases[i].why), "%s: %s",
                  cases[i].line, log);
        cr_assert(strstr(log, "2 {__name__=\"up\"} 7@7\n"), "%s: %s", cases[i].line, log);
    }
}
