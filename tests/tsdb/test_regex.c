/* Regular expressions: Go's syntax and errors, RE2's vectors (../shared/conformance/regexp), and the
 * bounds. */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tsdb/regex_internal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct ts_regex *must_compile(const char *pattern)
{
    struct ts_regex *regex = NULL;
    struct kv_err err = {0};
    cr_assert_eq(ts_regex_compile(kv_slice_str(pattern), &regex, &err), KV_OK, "%s: %s", pattern, err.text);
    return regex;
}

static bool matches(const char *pattern, const char *text)
{
    struct ts_regex *regex = must_compile(pattern);
    kv_slice t = kv_slice_str(text), group;
    bool fast = ts_regex_matches(regex, t);
    bool automaton = ts_rx_matcher_matches(regex->matcher, t);
    cr_expect_eq(fast, automaton, "short cut of %s on %s", pattern, text);
    cr_expect_eq(fast, ts_regex_groups(regex, t, &group, 1), "groups of %s on %s", pattern, text);
    ts_regex_free(regex);
    return fast;
}

Test(regex, whole_texts_match)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "a", true},
        {"a", "ab", false},
        {"a|b|cd", "cd", true},
        {"a|b|cd", "c", false},
        {".*", "", true},
        {".*", "x\ny", true},
        {".+", "", false},
        {".+", "\xc3\xa9", true},
        {".+.+", "\xc3\xa9", false},
        {"(?-s).*", "x\ny", false},
        {"foo.*", "foo", true},
        {"foo.+", "foo", false},
        {"foo.+", "foox", true},
        {".*foo", "xfoo", true},
        {".+foo", "foo", false},
        {".*foo.*", "xfooy", true},
        {".+foo.+", "foofoofoo", true},
        {".+foo.+", "foofoo", false},
        {"foo.*bar", "foobar", true},
        {"foo.*bar", "foo", false},
        {"fo(o|p)x?", "fop", true},
        {"fo(o|p)x?", "foox", true},
        {"fo(o|p)x?", "fo", false},
        {"^foo$", "foo", true},
        {"(^foo$)", "foo", true},
        {"a^b", "ab", false},
        {"(?i)straSSe", "STRASSE", true},
        {"(?i)k", "\xe2\x84\xaa", true}, /* Kelvin sign */
        {"(?i)[^k]", "\xe2\x84\xaa", false},
        {"(?i:a)b", "Ab", true},
        {"(?i:a)b", "AB", false},
        {"[[:alpha:]]+", "abZ", true},
        {"[[:^alpha:]]+", "12", true},
        {"[a-c-]+", "a-b", true},
        {"[]a]+", "]a", true},
        {"\\pL+", "h\xc3\xa9llo", true},
        {"\\p{Greek}", "\xce\xb1", true},
        {"\\P{Greek}", "\xce\xb1", false},
        {"\\p{^Greek}", "a", true},
        {"(?i)\\p{Lu}", "a", true},
        {"\\d{2,3}", "12", true},
        {"\\d{2,3}", "1234", false},
        {"a{0}", "", true},
        {"a{,2}", "a{,2}", true},
        {"x{2}{", "xx{", true},
        {"\\Qa.b\\E+", "a.bbb", true},
        {"\\Qa.b", "a.b", true},
        {"\\x41\\x{1F600}\\101",
         "A\xf0\x9f\x98\x80"
         "A",
         true},
        {"a\\b b", "a b", true},
        {"a\\Bb", "ab", true},
        {"a\\bb", "ab", false},
        {"(?m)a$\\n^b", "a\nb", true},
        {"a$\\n^b", "a\nb", false},
        {"(?U)a+", "aaa", true},
        {"(|a)+", "aaa", true},
        {"(a*)*b", "aab", true},
        {"[^\\x00-\\x{10FFFF}]", "a", false},
        {"host-(0[1-9]|1[0-9]).example", "host-17xexample", true},
        {"\xff?", "", false}, /* does not compile; below */
    };
    for (size_t i = 0; i + 1 < sizeof cases / sizeof cases[0]; i++)
        cr_expect_eq(matches(cases[i].pattern, cases[i].text), cases[i].matches, "%s on %s", cases[i].pattern,
                     cases[i].text);
}

Test(regex, errors_are_worded_as_by_go)
{
    static const struct {
        const char *pattern, *error;
    } cases[] = {
        {"(", "missing closing ): `(`"},
        {"a(b", "missing closing ): `a(b`"},
        {")", "unexpected ): `)`"},
        {"a)b", "unexpected ): `a)b`"},
        {"*", "missing argument to repetition operator: `*`"},
        {"a|*", "missing argument to repetition operator: `*`"},
        {"(+?)", "missing argument to repetition operator: `+?`"},
        {"a**", "invalid nested repetition operator: `**`"},
        {"a*+?", "invalid nested repetition operator: `*+?`"},
        {"a{2}{3}", "invalid nested repetition operator: `{2}{3}`"},
        {"a{2000}", "invalid repeat count: `{2000}`"},
        {"a{1,0}", "invalid repeat count: `{1,0}`"},
        {"a{99999999999}", "invalid repeat count: `{99999999999}`"},
        {"(a{0,1000}){0,1000}", "invalid repeat count: `{0,1000}`"},
        {"(?=x)", "invalid or unsupported Perl syntax: `(?=`"},
        {"(?!x)", "invalid or unsupported Perl syntax: `(?!`"},
        {"(?i", "invalid or unsupported Perl syntax: `(?i`"},
        {"(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"},
        {"(?P<n", "invalid named capture: `(?P<n`"},
        {"(?P<x y>a)", "invalid named capture: `(?P<x y>`"},
        {"(?P<>a)", "invalid named capture: `(?P<>`"},
        {"\\1", "invalid escape sequence: `\\1`"},
        {"\\8", "invalid escape sequence: `\\8`"},
        {"\\x", "invalid escape sequence: `\\x`"},
        {"\\x{110000}", "invalid escape sequence: `\\x{110000`"},
        {"\\C", "invalid escape sequence: `\\C`"},
        {"\\", "trailing backslash at end of expression: ``"},
        {"a\\", "trailing backslash at end of expression: ``"},
        {"[a", "missing closing ]: `[a`"},
        {"x[]a", "missing closing ]: `[]a`"},
        {"[b-a]", "invalid character class range: `b-a`"},
        {"[[:foo:]]", "invalid character class range: `[:foo:]`"},
        {"\\p{Foo}", "invalid character class range: `\\p{Foo}`"},
        {"\\pX", "invalid character class range: `\\pX`"},
        {"a\xff", "invalid UTF-8: `\xff`"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ts_regex *regex = NULL;
        struct kv_err err = {0};
        char expected[300];
        snprintf(expected, sizeof expected, "error parsing regexp: %s", cases[i].error);
        cr_expect_eq(ts_regex_compile(kv_slice_str(cases[i].pattern), &regex, &err), KV_INVALID, "%s",
                     cases[i].pattern);
        cr_expect_str_eq(err.text, expected);
    }
}

Test(regex, bounds_are_reported)
{
    struct ts_regex *regex = NULL;
    struct kv_err err = {0};
    static char text[5000];
    memset(text, 'a', sizeof text);
    cr_expect_eq(ts_regex_compile(kv_slice_of(text, sizeof text), &regex, &err), KV_LIMIT);
    memset(text, '(', 200);
    memset(text + 200, ')', 200);
    cr_expect_eq(ts_regex_compile(kv_slice_of(text, 400), &regex, &err), KV_LIMIT);
    cr_expect_eq(ts_regex_compile(
                     KV_STR("((ab){10}c){90}((ab){10}c){90}((ab){10}c){90}((ab){10}c){90}((ab){10}c){90}"),
                     &regex, &err),
                 KV_LIMIT);
    cr_expect_null(regex);
}

Test(regex, a_full_state_cache_does_not_change_answers)
{
    /* The DFA of this one has 2^16 states. */
    struct ts_regex *regex = must_compile("[ab]*a[ab]{15}");
    struct kv_prng prng;
    kv_prng_init(&prng, 7);
    for (int i = 0; i < 2000; i++) {
        char text[64];
        size_t n = 16 + kv_prng_below(&prng, 40);
        for (size_t k = 0; k < n; k++)
            text[k] = kv_prng_below(&prng, 2) ? 'a' : 'b';
        cr_assert_eq(ts_regex_matches(regex, kv_slice_of(text, n)), text[n - 16] == 'a');
    }
    ts_regex_free(regex);
}

Test(regex, time_stays_linear_where_backtracking_explodes)
{
    char text[4096];
    memset(text, 'a', sizeof text);
    struct ts_regex *regex = must_compile("(a*)*(a|aa)*(a+)+b");
    cr_expect_not(ts_regex_matches(regex, kv_slice_of(text, sizeof text)));
    kv_slice groups[4];
    cr_expect_not(ts_regex_groups(regex, kv_slice_of(text, sizeof text), groups, 4));
    ts_regex_free(regex);
}

Test(regex, templates_expand_as_in_go)
{
    struct ts_regex *regex = must_compile("(?P<first>[a-z]+)-(\\d+)(x)?");
    kv_slice groups[8];
    cr_assert(ts_regex_groups(regex, KV_STR("node-17"), groups, 8));
    static const struct {
        const char *template, *out;
    } cases[] = {
        {"$1", "node"},   {"${2}x", "17x"},       {"$first/$2", "node/17"}, {"$2x", ""},       {"$$1", "$1"},
        {"$", "$"},       {"${1", "${1"},         {"$3|$9|$nope|", "|||"},  {"$0", "node-17"}, {"$01", ""},
        {"a$-b", "a$-b"}, {"${first}s", "nodes"}, {"plain", "plain"},       {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kv_buf out = {0};
        cr_assert_eq(ts_regex_expand(regex, kv_slice_str(cases[i].template), groups, 8, &out), KV_OK);
        cr_expect(kv_slice_equal(kv_buf_slice(&out), kv_slice_str(cases[i].out)), "%s: %.*s",
                  cases[i].template, KV_ARG(kv_buf_slice(&out)));
        kv_buf_release(&out);
    }
    ts_regex_free(regex);
}

Test(regex, hints_say_what_an_index_can_use)
{
    struct ts_regex_hint hint;
    struct ts_regex *regex = must_compile("web-(1|2|[34])");
    ts_regex_hint(regex, &hint);
    cr_expect_eq(hint.n_literals, 4);
    cr_expect(kv_slice_equal(hint.literals[3], KV_STR("web-4")));
    ts_regex_free(regex);
    regex = must_compile("web-.*[0-9]");
    ts_regex_hint(regex, &hint);
    cr_expect_eq(hint.n_literals, 0);
    cr_expect(kv_slice_equal(hint.prefix, KV_STR("web-")));
    cr_expect_not(hint.nullable);
    ts_regex_free(regex);
    regex = must_compile(".*");
    ts_regex_hint(regex, &hint);
    cr_expect(hint.any && hint.nullable);
    ts_regex_free(regex);
}

static int allocations_left;
static bool fail_when_used_up(size_t size)
{
    (void)size;
    return allocations_left-- <= 0;
}

Test(regex, any_failing_allocation_is_reported)
{
    kv_status rc = KV_NO_MEMORY;
    for (int n = 0; rc != KV_OK; n++) {
        struct ts_regex *regex = NULL;
        allocations_left = n;
        kv_mem_should_fail = fail_when_used_up;
        rc = ts_regex_compile(KV_STR("(?i)web-(?P<x>\\pL+|[0-9a-f]{3})|b.*"), &regex, NULL);
        kv_mem_should_fail = NULL;
        cr_assert(rc == KV_OK || rc == KV_NO_MEMORY);
        ts_regex_free(regex);
        cr_assert_lt(n, 10000);
    }
}

/* ---- RE2's vectors ------------------------------------------------------------------------------------- */

/* A line `"..."` with Go's escapes. */
static kv_slice unquote(char *line)
{
    uint8_t *out = (uint8_t *)line;
    size_t n = 0;
    for (char *p = line + 1; *p && *p != '"'; p++) {
        if (*p != '\\') {
            out[n++] = (uint8_t)*p;
            continue;
        }
        p++;
        if (*p == 'x') {
            char hex[3] = {p[1], p[2], 0};
            out[n++] = (uint8_t)strtoul(hex, NULL, 16);
            p += 2;
        } else if (*p == 'u' || *p == 'U') {
            char hex[9] = {0};
            int digits = *p == 'u' ? 4 : 8;
            memcpy(hex, p + 1, (size_t)digits);
            n += ts_rx_rune_encode((uint32_t)strtoul(hex, NULL, 16), out + n);
            p += digits;
        } else if (*p >= '0' && *p <= '7') {
            char oct[4] = {p[0], p[1], p[2], 0};
            out[n++] = (uint8_t)strtoul(oct, NULL, 8);
            p += 2;
        } else {
            static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
            const char *at = strchr(from, *p);
            out[n++] = (uint8_t)(at ? to[at - from] : *p);
        }
    }
    return kv_slice_of(out, n);
}

struct vectors {
    char *strings[512];
    kv_slice texts[512];
    size_t n_texts, checked, regexps, skipped;
    struct ts_regex *regex;
    char pattern[1024];
};

/* The first of four results: the whole text, first match preferred: "-" or "0-1 0-1 -". */
static void check_result(struct vectors *v, kv_slice text, const char *result)
{
    kv_slice groups[TS_REGEX_GROUPS_MAX];
    bool expected = result[0] != '-';
    cr_assert_eq(ts_regex_matches(v->regex, text), expected, "%s on \"%.*s\"", v->pattern, KV_ARG(text));
    cr_assert_eq(ts_regex_groups(v->regex, text, groups, TS_REGEX_GROUPS_MAX), expected, "groups of %s",
                 v->pattern);
    for (size_t g = 0; expected && *result && *result != ';' && *result != '\n'; g++) {
        if (*result == '-') {
            cr_assert_null(groups[g].data, "group %zu of %s on \"%.*s\"", g, v->pattern, KV_ARG(text));
            result++;
        } else {
            char *end;
            size_t from = strtoul(result, &end, 10), to = strtoul(end + 1, &end, 10);
            const uint8_t *base = groups[0].data;
            cr_assert(groups[g].data && (size_t)(groups[g].data - base) == from && groups[g].len == to - from,
                      "group %zu of %s on \"%.*s\"", g, v->pattern, KV_ARG(text));
            result = end;
        }
        result += *result == ' ';
    }
    v->checked++;
}

static void regexp_line(struct vectors *v, char *line)
{
    kv_slice pattern = unquote(line);
    struct kv_err err = {0};
    ts_regex_free(v->regex);
    v->regex = NULL;
    /* RE2 wrote the file without "dot matches newline"; \C is not in Go's syntax. */
    int n = snprintf(v->pattern, sizeof v->pattern, "(?-s:%.*s)", KV_ARG(pattern));
    kv_status rc = ts_regex_compile(kv_slice_of(v->pattern, (size_t)n), &v->regex, &err);
    bool any_byte = strstr(v->pattern, "\\C") != NULL;
    cr_assert(rc == KV_OK || any_byte, "%s: %s", v->pattern, err.text);
    v->regexps += rc == KV_OK;
    v->skipped += any_byte;
}

static void run_vectors(FILE *in, size_t every)
{
    static struct vectors v;
    char *line = NULL;
    size_t capacity = 0, at = 0, seen = 0;
    bool strings = false;
    while (getline(&line, &capacity, in) > 0) {
        if (strncmp(line, "strings", 7) == 0) {
            for (size_t i = 0; i < v.n_texts; i++)
                free(v.strings[i]);
            v.n_texts = 0;
            strings = true;
        } else if (strncmp(line, "regexps", 7) == 0) {
            strings = false;
        } else if (line[0] == '"' && strings) {
            cr_assert_lt(v.n_texts, 512);
            v.strings[v.n_texts] = strdup(line);
            v.texts[v.n_texts] = unquote(v.strings[v.n_texts]);
            v.n_texts++;
        } else if (line[0] == '"') {
            at = 0;
            if (seen++ % every == 0) {
                regexp_line(&v, line);
            } else {
                ts_regex_free(v.regex);
                v.regex = NULL;
            }
        } else if ((line[0] == '-' || (line[0] >= '0' && line[0] <= '9'))) {
            cr_assert_lt(at, v.n_texts);
            if (v.regex)
                check_result(&v, v.texts[at], line);
            at++;
        }
    }
    cr_assert_gt(v.checked, 0);
    fprintf(stderr, "regexp vectors: %zu expressions, %zu results, %zu with \\C skipped\n", v.regexps,
            v.checked, v.skipped);
    ts_regex_free(v.regex);
    for (size_t i = 0; i < v.n_texts; i++)
        free(v.strings[i]);
    free(line);
}

Test(regex, agrees_with_re2_search_vectors)
{
    FILE *in = fopen("../shared/conformance/regexp/re2-search.txt", "r");
    if (!in) {
        fprintf(stderr, "SKIPPED: ../shared/conformance/regexp is absent\n");
        return;
    }
    run_vectors(in, 1);
    fclose(in);
}

Test(regex, agrees_with_re2_exhaustive_vectors)
{
    FILE *there = fopen("../shared/conformance/regexp/re2-exhaustive.txt.bz2", "r");
    FILE *in = there ? popen("bzcat ../shared/conformance/regexp/re2-exhaustive.txt.bz2", "r") : NULL;
    int first = in ? fgetc(in) : EOF;
    if (first == EOF) {
        fprintf(stderr, "SKIPPED: ../shared/conformance/regexp or bzcat is absent\n");
    } else {
        const char *every = getenv("REGEX_VECTORS_EVERY"); /* 1: all of them */
        run_vectors(in, every ? strtoul(every, NULL, 10) : 5);
    }
    if (in)
        pclose(in);
    if (there)
        fclose(there);
}
