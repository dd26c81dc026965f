#include "promqltest.h"

#include "promqltest_compare.h"

#include "kvcore/os/vfs.h"
#include "tsdb/promql/func_table.h"
#include "tsdb/promql/parse.h"
#include "tsdb/promql/print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { MINUTE_MS = 60 * 1000 };

struct runner {
    const char *name;
    void (*each)(void *ctx, const struct promqltest_case *one);
    void *ctx;
    kv_slice *lines; /* trimmed; comments are empty */
    size_t n_lines;
    struct kv_arena arena; /* of the whole file */
    struct kv_vfs *vfs;
    struct kv_env *env;
    struct ts_db *db;
    struct ts_appender *appender;
    bool has_histograms, has_start_times; /* loaded since the last clear, and left out */
    struct promqltest_case one;
};

static bool broken(const struct runner *run, size_t line, const char *format, ...) KV_PRINTF(3, 4);
static bool broken(const struct runner *run, size_t line, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s:%zu: ", run->name, line + 1);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return false;
}

/* ---- the store */

static void store_close(struct runner *run)
{
    ts_appender_free(run->appender);
    if (run->db)
        (void)ts_close_fast(run->db, NULL);
    kv_env_close(run->env);
    kv_vfs_mem_free(run->vfs);
    run->appender = NULL;
    run->db = NULL;
    run->env = NULL;
    run->vfs = NULL;
    run->has_histograms = run->has_start_times = false;
}

static bool store_open(struct runner *run, size_t line)
{
    struct kv_err err = {0};
    struct ts_options options = {.retention_ms = INT64_MAX, .durability = KV_DURABILITY_OS};
    run->vfs = kv_vfs_mem_new();
    struct kv_env_options env = {.vfs = run->vfs, .threads = KV_THREADS_NONE};
    if (!run->vfs || kv_env_open(&env, &run->env, &err) < 0 ||
        ts_open(run->env, "store", &options, &run->db, &err) < 0 ||
        ts_appender_new(run->db, &run->appender) < 0)
        return broken(run, line, "the store does not open: %s", err.text);
    return true;
}

static bool load_series(struct runner *run, size_t line, const struct series_line *series, int64_t gap_ms)
{
    struct kv_err err = {0};
    for (size_t i = 0; i < series->n_values; i++) {
        const struct series_value *value = &series->values[i];
        if (value->omitted || value->histogram)
            continue;
        if (ts_append(run->appender, series->labels, series->n_labels, (int64_t)i * gap_ms, value->value,
                      &err) < 0)
            return broken(run, line, "append: %s", err.text);
    }
    return true;
}

/* ---- words of a line */

static kv_slice take_word(kv_slice *rest)
{
    size_t n = 0;
    while (rest->len > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t'))
        *rest = kv_slice_from(*rest, 1);
    while (n < rest->len && rest->data[n] != ' ' && rest->data[n] != '\t')
        n++;
    kv_slice word = kv_slice_of(rest->data, n);
    *rest = kv_slice_from(*rest, n);
    return word;
}

static kv_slice trim(kv_slice text)
{
    while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t' || text.data[0] == '\r'))
        text = kv_slice_from(text, 1);
    while (text.len > 0 && strchr(" \t\r", text.data[text.len - 1]))
        text.len--;
    return text;
}

static bool take_the_word(kv_slice *rest, const char *word)
{
    return kv_slice_equal(take_word(rest), kv_slice_str(word));
}

static bool take_time(kv_slice *rest, int64_t *ms)
{
    return series_duration_parse(take_word(rest), ms);
}

/* from A to B step C */
static bool take_range(kv_slice *rest, struct eval_case *eval)
{
    return take_the_word(rest, "from") && take_time(rest, &eval->start_ms) && take_the_word(rest, "to") &&
           take_time(rest, &eval->end_ms) && take_the_word(rest, "step") && take_time(rest, &eval->step_ms);
}

/* ---- load and clear */

static bool run_load(struct runner *run, size_t *at)
{
    size_t line = *at;
    kv_slice rest = run->lines[line];
    kv_slice command = take_word(&rest);
    struct ts_append_result result;
    struct kv_err err = {0};
    char why[256];
    int64_t gap_ms;
    if (!take_time(&rest, &gap_ms))
        return broken(run, line, "bad step");
    if (kv_slice_equal(command, KV_STR("load_with_nhcb")))
        run->has_histograms = true;
    for (*at = line + 1; *at < run->n_lines && run->lines[*at].len > 0; *at += 1) {
        struct series_line series;
        if (!series_line_parse(run->lines[*at], &run->arena, &series, why))
            return broken(run, *at, "%s", why);
        run->has_histograms |= series.has_histogram;
        run->has_start_times |= series.start_times;
        if (!load_series(run, *at, &series, gap_ms))
            return false;
    }
    if (ts_commit(run->appender, &result, &err) < 0)
        return broken(run, line, "commit: %s", err.text);
    if (result.rejected > 0)
        return broken(run, line, "%" PRIu64 " samples rejected: %s", result.rejected, result.rejects[0].text);
    return true;
}

/* ---- eval: reading */

static bool add_expect(struct runner *run, struct eval_case *eval, struct expect_text text)
{
    if (eval->n_texts == eval->texts_capacity) {
        size_t capacity = eval->texts_capacity ? eval->texts_capacity * 2 : 8;
        struct expect_text *bigger = kv_arena_zalloc(&run->arena, capacity, sizeof *bigger);
        if (!bigger)
            return false;
        if (eval->n_texts)
            memcpy(bigger, eval->texts, eval->n_texts * sizeof *bigger);
        eval->texts = bigger;
        eval->texts_capacity = capacity;
    }
    eval->texts[eval->n_texts++] = text;
    return true;
}

static bool parse_expect(struct runner *run, size_t line, kv_slice rest, struct eval_case *eval)
{
    static const char *const kinds[] = {"warn", "no_warn", "info", "no_info", "fail"};
    struct expect_text text = {.any = true};
    kv_slice kind = take_word(&rest);
    if (kv_slice_equal(kind, KV_STR("ordered"))) {
        eval->ordered = true;
        return true;
    }
    size_t i = 0;
    while (i < EXPECT_KINDS && !kv_slice_equal(kind, kv_slice_str(kinds[i])))
        i++;
    if (i == EXPECT_KINDS)
        return broken(run, line, "bad expect");
    text.kind = (enum expect_kind)i;
    rest = trim(rest);
    if (rest.len > 0) {
        text.any = false;
        text.is_regex = kv_slice_has_prefix(rest, KV_STR("regex:"));
        if (!text.is_regex && !kv_slice_has_prefix(rest, KV_STR("msg:")))
            return broken(run, line, "bad expect");
        text.text = trim(kv_slice_from(rest, text.is_regex ? 6 : 4));
    }
    return add_expect(run, eval, text);
}

/* expect string "..." or `...`: read as the language reads a string. */
static bool parse_expect_string(struct runner *run, size_t line, kv_slice rest, struct eval_case *eval)
{
    struct ts_tree tree = {0};
    if (ts_parse(trim(rest), 0, &run->arena, &tree, NULL) < 0 || tree.root->kind != TS_EXPR_STRING)
        return broken(run, line, "bad expect string");
    eval->wants_string = true;
    eval->string = tree.root->string;
    ts_tree_release(&tree);
    return true;
}

static bool add_series(struct runner *run, size_t line, struct eval_case *eval)
{
    char why[256];
    if (eval->n_series == eval->series_capacity) {
        size_t capacity = eval->series_capacity ? eval->series_capacity * 2 : 8;
        struct series_line *bigger = kv_arena_zalloc(&run->arena, capacity, sizeof *bigger);
        if (!bigger)
            return false;
        if (eval->n_series)
            memcpy(bigger, eval->series, eval->n_series * sizeof *bigger);
        eval->series = bigger;
        eval->series_capacity = capacity;
    }
    if (!series_line_parse(run->lines[line], &run->arena, &eval->series[eval->n_series], why))
        return broken(run, line, "%s", why);
    eval->n_series++;
    return true;
}

/* Answers 1 to go on, 0 when the eval ends with this line, -1 when the file is broken. */
static int parse_eval_line(struct runner *run, size_t line, struct eval_case *eval)
{
    kv_slice text = run->lines[line];
    if (kv_slice_has_prefix(text, KV_STR("expected_fail_message")))
        return add_expect(run, eval,
                          (struct expect_text){EXPECT_FAIL, false, false, trim(kv_slice_from(text, 21))})
                   ? 0
                   : -1;
    if (kv_slice_has_prefix(text, KV_STR("expected_fail_regexp")))
        return add_expect(run, eval,
                          (struct expect_text){EXPECT_FAIL, false, true, trim(kv_slice_from(text, 20))})
                   ? 0
                   : -1;
    if (kv_slice_has_prefix(text, KV_STR("expect range vector"))) {
        kv_slice rest = kv_slice_from(text, 19);
        eval->is_matrix = true;
        return take_range(&rest, eval) ? 1 : broken(run, line, "bad range vector") - 1;
    }
    if (kv_slice_has_prefix(text, KV_STR("expect string")))
        return parse_expect_string(run, line, kv_slice_from(text, 13), eval) ? 1 : -1;
    if (kv_slice_has_prefix(text, KV_STR("expect ")))
        return parse_expect(run, line, kv_slice_from(text, 7), eval) ? 1 : -1;
    if (series_number_parse(text, &eval->scalar)) {
        eval->wants_scalar = true;
        return 0;
    }
    return add_series(run, line, eval) ? 1 : -1;
}

/* The first line, and the old forms eval_fail, eval_warn, eval_info, eval_ordered. */
static bool parse_eval_head(struct runner *run, size_t line, struct eval_case *eval)
{
    kv_slice rest = run->lines[line], command = take_word(&rest), kind = take_word(&rest);
    enum expect_kind expects = EXPECT_KINDS;
    eval->range = kv_slice_equal(kind, KV_STR("range"));
    eval->ordered = kv_slice_equal(command, KV_STR("eval_ordered"));
    if (kv_slice_equal(command, KV_STR("eval_fail")))
        expects = EXPECT_FAIL;
    else if (kv_slice_equal(command, KV_STR("eval_warn")))
        expects = EXPECT_WARN;
    else if (kv_slice_equal(command, KV_STR("eval_info")))
        expects = EXPECT_INFO;
    if (expects != EXPECT_KINDS && !add_expect(run, eval, (struct expect_text){.kind = expects, .any = true}))
        return false;
    bool ok =
        eval->range ? take_range(&rest, eval) : take_the_word(&rest, "at") && take_time(&rest, &eval->end_ms);
    eval->query = trim(rest);
    return (ok && eval->query.len > 0) || broken(run, line, "bad eval");
}

static bool parse_eval(struct runner *run, size_t *at, struct eval_case *eval)
{
    size_t line = *at;
    *eval = (struct eval_case){.line = (int)line + 1};
    if (!parse_eval_head(run, line, eval))
        return false;
    for (*at = line + 1; *at < run->n_lines && run->lines[*at].len > 0; *at += 1) {
        int goes_on = parse_eval_line(run, *at, eval);
        if (goes_on < 0)
            return false;
        if (goes_on == 0) {
            *at += 1;
            break;
        }
    }
    return true;
}

/* ---- eval: asking */

struct asked {
    kv_slice query;
    bool range;
    int64_t start_ms, end_ms, step_ms;
};

static kv_status ask(struct runner *run, const struct asked *asked, struct ts_result **out,
                     struct ts_query_err *err)
{
    struct ts_query_options options = {.range = asked->range,
                                       .start_ms = asked->start_ms,
                                       .end_ms = asked->end_ms,
                                       .step_ms = asked->step_ms,
                                       .features = (uint32_t)TS_PROMQL_ALL};
    memset(err, 0, sizeof *err);
    *out = NULL;
    return ts_query(run->db, asked->query, &options, out, err);
}

/* False: the case is decided (failed or not yet). */
static bool conclude(struct runner *run, bool ok, const struct asked *asked, const char *why)
{
    if (ok)
        return true;
    run->one.outcome = PROMQLTEST_FAILED;
    snprintf(run->one.why, sizeof run->one.why, "%.600s [%.300s at %" PRId64 "..%" PRId64 "]", why,
             (const char *)asked->query.data, asked->start_ms, asked->end_ms);
    return false;
}

static bool conclude_error(struct runner *run, const struct eval_case *eval, const struct asked *asked,
                           const struct ts_query_err *err)
{
    char why[1024];
    if (err->code == KV_UNSUPPORTED) {
        run->one.outcome = PROMQLTEST_NOT_YET;
        snprintf(run->one.why, sizeof run->one.why, "%.200s", err->text);
        return false;
    }
    if (eval_expects(eval, EXPECT_FAIL))
        return conclude(run, eval_compare_failure(eval, err->text, why), asked, why);
    snprintf(why, sizeof why, "error: %.800s", err->text);
    return conclude(run, false, asked, why);
}

/* The query itself, in the form it was written. */
static bool check_asked(struct runner *run, const struct eval_case *eval, const struct asked *asked)
{
    static struct ts_query_err err;
    struct ts_result *result = NULL;
    char why[1024] = "";
    if (ask(run, asked, &result, &err) < 0)
        return conclude_error(run, eval, asked, &err);
    bool ok = !eval_expects(eval, EXPECT_FAIL);
    if (!ok)
        snprintf(why, sizeof why, "expected an error, got none");
    ok = ok && eval_compare_notes(eval, result, why) && eval_compare(eval, result, why);
    ts_result_free(result);
    return conclude(run, ok, asked, why);
}

static bool depends_on_range(kv_slice query)
{
    static const char *const words[] = {"start()", "end()", "range()", "step()"};
    for (size_t i = 0; i < 4; i++)
        if (memmem(query.data, query.len, words[i], strlen(words[i])))
            return true;
    return false;
}

/* An instant query again as the middle of three steps. */
static bool check_middle(struct runner *run, const struct eval_case *eval, const struct asked *instant)
{
    static struct ts_query_err err;
    struct asked asked = {instant->query, true, instant->end_ms - MINUTE_MS, instant->end_ms + MINUTE_MS,
                          MINUTE_MS};
    struct ts_result *result = NULL;
    char why[1024] = "";
    if (eval->is_matrix || eval->wants_string || depends_on_range(asked.query) ||
        eval_expects(eval, EXPECT_FAIL))
        return true;
    if (ask(run, &asked, &result, &err) < 0) {
        snprintf(why, sizeof why, "error as a range query: %.800s", err.text);
        return conclude(run, false, &asked, why);
    }
    bool ok = eval->ordered || eval_compare_middle(eval, result, instant->end_ms, why);
    ts_result_free(result);
    return conclude(run, ok, &asked, why);
}

/* Functions whose answer changes with the time of evaluation though their arguments do not. */
static bool is_time_bound(enum ts_func_id id)
{
    switch (id) {
    case TS_FUNC_DAYS_IN_MONTH:
    case TS_FUNC_DAY_OF_MONTH:
    case TS_FUNC_DAY_OF_WEEK:
    case TS_FUNC_DAY_OF_YEAR:
    case TS_FUNC_END:
    case TS_FUNC_HOUR:
    case TS_FUNC_MINUTE:
    case TS_FUNC_MONTH:
    case TS_FUNC_YEAR:
    case TS_FUNC_PREDICT_LINEAR:
    case TS_FUNC_RANGE:
    case TS_FUNC_START:
    case TS_FUNC_STEP:
    case TS_FUNC_TIME:
    case TS_FUNC_TIMESTAMP:
        return true;
    default:
        return false;
    }
}

/* Puts "@ time_ms" on every selector and subquery that has none and stands in no subquery that has one. False: the expression is time bound. */
static bool pin(struct ts_expr *expr, int64_t time_ms, bool pinned)
{
    struct ts_time_shift *shift = NULL;
    struct ts_expr *child;
    if (expr->kind == TS_EXPR_CALL && is_time_bound(expr->call.func->id))
        return false;
    if (expr->kind == TS_EXPR_VECTOR)
        shift = &expr->vector.shift;
    else if (expr->kind == TS_EXPR_SUBQUERY)
        shift = &expr->subquery.shift;
    if (shift && !pinned && shift->at != TS_AT_TIME) {
        shift->at = TS_AT_TIME;
        shift->at_ms = time_ms;
    }
    for (size_t i = 0; (child = ts_expr_child(expr, i)); i++)
        if (!pin(child, time_ms, pinned || expr->kind == TS_EXPR_SUBQUERY))
            return false;
    return true;
}

static bool check_pinned(struct runner *run, const struct eval_case *eval)
{
    struct kv_arena arena = {0};
    struct ts_tree tree = {0};
    struct kv_buf text = {0};
    int64_t at = eval->end_ms;
    int64_t times[] = {-10 * at, 0, at / 5, at, 10 * at}, zero_times[] = {-1000, 0, 1000};
    size_t n = at == 0 ? 3 : 5;
    bool ok = true;
    if (ts_parse(eval->query, 0, &arena, &tree, NULL) == KV_OK && pin(tree.root, at, false) &&
        ts_print(tree.root, &text) == KV_OK && kv_buf_append_byte(&text, 0) == KV_OK) {
        text.len--;
        for (size_t i = 0; ok && i < n; i++) {
            int64_t time_ms = at == 0 ? zero_times[i] : times[i];
            struct asked asked = {kv_buf_slice(&text), false, time_ms, time_ms, 0};
            ok = check_asked(run, eval, &asked) && check_middle(run, eval, &asked);
        }
    }
    ts_tree_release(&tree);
    kv_arena_release(&arena);
    kv_buf_release(&text);
    return ok;
}

/* What a failed case lacks, if the reason is known from the file itself. */
static void explain(struct runner *run, const struct eval_case *eval)
{
    bool histograms = run->has_histograms;
    for (size_t i = 0; i < eval->n_series; i++)
        histograms |= eval->series[i].has_histogram;
    if (run->one.outcome != PROMQLTEST_FAILED || (!histograms && !run->has_start_times))
        return;
    run->one.outcome = PROMQLTEST_NOT_YET;
    snprintf(run->one.why, sizeof run->one.why, "%s", histograms ? "native histograms" : "start timestamps");
}

static bool run_eval(struct runner *run, size_t *at)
{
    struct eval_case eval;
    if (!parse_eval(run, at, &eval))
        return false;
    kv_slice query = kv_arena_copy(&run->arena, eval.query); /* NUL-terminated */
    struct asked asked = {query, eval.range, eval.range ? eval.start_ms : eval.end_ms, eval.end_ms,
                          eval.step_ms};
    run->one = (struct promqltest_case){.file = run->name,
                                        .line = eval.line,
                                        .query = (const char *)query.data,
                                        .outcome = PROMQLTEST_PASSED};
    if (check_asked(run, &eval, &asked) && !eval.range && check_middle(run, &eval, &asked))
        check_pinned(run, &eval);
    for (size_t i = 0; run->one.outcome == PROMQLTEST_PASSED && i < eval.n_series; i++)
        if (eval.series[i].has_histogram) { /* floats only were compared */
            run->one.outcome = PROMQLTEST_FAILED;
            snprintf(run->one.why, sizeof run->one.why, "expects histograms");
        }
    explain(run, &eval);
    run->each(run->ctx, &run->one);
    return true;
}

/* ---- files */

static bool split_lines(struct runner *run, kv_slice text)
{
    size_t n = 1;
    for (size_t i = 0; i < text.len; i++)
        n += text.data[i] == '\n';
    run->lines = kv_arena_zalloc(&run->arena, n, sizeof *run->lines);
    while (run->lines) {
        const uint8_t *end = text.len ? memchr(text.data, '\n', text.len) : NULL;
        size_t len = end ? (size_t)(end - text.data) : text.len;
        kv_slice line = trim(kv_slice_of(text.data, len));
        run->lines[run->n_lines++] = line.len > 0 && line.data[0] == '#' ? (kv_slice){0} : line;
        if (!end)
            break;
        text = kv_slice_from(text, len + 1);
    }
    return run->lines != NULL;
}

static bool run_lines(struct runner *run)
{
    for (size_t at = 0; at < run->n_lines;) {
        kv_slice line = run->lines[at];
        bool ok;
        if (line.len == 0) {
            at++;
            continue;
        }
        if (kv_slice_has_prefix(line, KV_STR("load"))) {
            ok = run_load(run, &at);
        } else if (kv_slice_has_prefix(line, KV_STR("eval"))) {
            ok = run_eval(run, &at);
        } else if (kv_slice_equal(line, KV_STR("clear"))) {
            store_close(run);
            ok = store_open(run, at++);
        } else {
            ok = broken(run, at, "unknown command");
        }
        if (!ok)
            return false;
    }
    return true;
}

bool promqltest_run_text(const char *name, kv_slice text,
                         void (*each)(void *ctx, const struct promqltest_case *one), void *ctx)
{
    struct runner run = {.name = name, .each = each, .ctx = ctx};
    bool ok = split_lines(&run, text) && store_open(&run, 0) && run_lines(&run);
    store_close(&run);
    kv_arena_release(&run.arena);
    return ok;
}

static bool read_file(const char *path, struct kv_buf *out)
{
    FILE *file = fopen(path, "rb");
    size_t got = 1;
    while (file && got > 0) {
        char piece[4096];
        got = fread(piece, 1, sizeof piece, file);
        if (kv_buf_append(out, kv_slice_of(piece, got)) < 0)
            break;
    }
    if (!file) {
        perror(path);
        return false;
    }
    fclose(file);
    return got == 0;
}

bool promqltest_run(const char *path, void (*each)(void *ctx, const struct promqltest_case *one), void *ctx)
{
    const char *slash = strrchr(path, '/');
    struct kv_buf text = {0};
    bool ok = read_file(path, &text) &&
              promqltest_run_text(slash ? slash + 1 : path, kv_buf_slice(&text), each, ctx);
    kv_buf_release(&text);
    return ok;
}

/* ---- the list */

bool promqltest_list_read(const char *path, struct promqltest_list *out)
{
    struct kv_buf text = {0};
    bool ok = read_file(path, &text);
    for (kv_slice rest = kv_buf_slice(&text); ok && rest.len > 0;) {
        const uint8_t *end = memchr(rest.data, '\n', rest.len);
        size_t len = end ? (size_t)(end - rest.data) : rest.len;
        kv_slice line = trim(kv_slice_of(rest.data, len));
        rest = kv_slice_from(rest, end ? len + 1 : len);
        if (line.len == 0 || line.data[0] == '#' || line.len >= sizeof out->keys[0])
            continue;
        if (out->n == out->capacity) {
            out->capacity = out->capacity ? out->capacity * 2 : 64;
            out->keys = realloc(out->keys, out->capacity * sizeof *out->keys);
            if (!out->keys)
                abort();
        }
        snprintf(out->keys[out->n++], sizeof out->keys[0], "%.*s", KV_ARG(line));
    }
    kv_buf_release(&text);
    return ok;
}

bool promqltest_list_has(const struct promqltest_list *list, const char *file, int line)
{
    char key[96];
    snprintf(key, sizeof key, "%s:%d", file, line);
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->keys[i], key) == 0)
            return true;
    return false;
}

void promqltest_list_release(struct promqltest_list *list)
{
    free(list->keys);
    *list = (struct promqltest_list){0};
}
