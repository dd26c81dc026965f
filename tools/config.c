#include "tools/config.h"
#include "tools/archive.h"
#include "http/json.h"
#include "http/params.h"
#include "http/text.h"
#include "kvcore/base/mem.h"
#include "kvcore/kv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <yaml.h>

enum { FILE_BYTES_MAX = 1 << 20 };

struct setting {
    const char *field, *dashed; /* the flag as it is typed */
    const char *flag;
    enum config_kind kind;
    size_t offset;
    const char *otherwise, *takes, *help;
};
static const struct setting settings[] = {
#define X(field, kind, flag, otherwise, takes, help)                                                         \
    {#field, "--" flag, flag, CONFIG_##kind, offsetof(struct config, field), otherwise, takes, help},
    CONFIG_LIST(X)
#undef X
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

static struct config_value *value_of(struct config *config, const struct setting *s)
{
    return (struct config_value *)(void *)((char *)config + s->offset);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static bool parse_bytes(kv_slice text, int64_t *out)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1},          {"B", 1},     {"KiB", 1 << 10}, {"MiB", 1 << 20},
                 {"GiB", 1 << 30}, {"KB", 1000}, {"MB", 1000000},  {"GB", 1000000000}};
    size_t n = 0;
    uint64_t v;
    while (n < text.len && text.data[n] >= '0' && text.data[n] <= '9')
        n++;
    kv_slice unit = kv_slice_from(text, n);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (!kv_slice_equal(unit, kv_slice_str(units[i].name)))
            continue;
        if (!http_parse_uint(kv_slice_of(text.data, n), INT64_MAX / units[i].bytes, &v) || v == 0)
            return false;
        *out = (int64_t)(v * units[i].bytes);
        return true;
    }
    return false;
}

static bool parse_positive_time(const struct setting *s, kv_slice text, int64_t *out)
{
    if (strstr(s->takes, "|inf") && kv_slice_equal(text, KV_STR("inf"))) {
        *out = INT64_MAX;
        return true;
    }
    if (strstr(s->takes, "|off") && kv_slice_equal(text, KV_STR("off"))) {
        *out = 0;
        return true;
    }
    return http_parse_duration(text, out) == KV_OK && *out > 0;
}

/* One line of a list of rules off the front of *lines. */
static bool take_rule(kv_slice *lines, struct ts_retention_rule *rule)
{
    size_t len = 0;
    while (len < lines->len && lines->data[len] != '\n')
        len++;
    kv_slice line = kv_slice_of(lines->data, len);
    *lines = kv_slice_from(*lines, len + (len < lines->len));
    return http_parse_rule(line, rule) == KV_OK;
}

static bool parse_rules(kv_slice text, int64_t *n)
{
    struct ts_retention_rule rule;
    for (*n = 0; text.len > 0; (*n)++)
        if (*n == CONFIG_RULES_MAX || !take_rule(&text, &rule))
            return false;
    return true;
}

/* Commas between the names; "all" is one. */
static bool parse_features(kv_slice text, int64_t *out)
{
    static const struct {
        const char *name;
        uint32_t bits;
    } known[] = {{"", 0},
                 {"all", (uint32_t)TS_PROMQL_ALL},
                 {"delayed-name-removal", TS_PROMQL_DELAYED_NAME_REMOVAL},
                 {"promql-delayed-name-removal", TS_PROMQL_DELAYED_NAME_REMOVAL},
                 {"experimental-functions", TS_PROMQL_EXPERIMENTAL_FUNCTIONS},
                 {"promql-experimental-functions", TS_PROMQL_EXPERIMENTAL_FUNCTIONS}};
    enum { N_KNOWN = sizeof known / sizeof *known };
    *out = 0;
    for (bool more = true; more;) {
        size_t len = 0, i = 0;
        while (len < text.len && text.data[len] != ',')
            len++;
        while (i < N_KNOWN && !kv_slice_equal(kv_slice_of(text.data, len), kv_slice_str(known[i].name)))
            i++;
        if (i == N_KNOWN)
            return false;
        *out |= known[i].bits;
        more = len < text.len;
        text = kv_slice_from(text, len + more);
    }
    return true;
}

static bool parse_choice(const char *const *names, size_t n, kv_slice text, int64_t *out)
{
    for (size_t i = 0; i < n; i++) {
        if (names[i] && kv_slice_equal(text, kv_slice_str(names[i]))) {
            *out = (int64_t)i;
            return true;
        }
    }
    return false;
}

static bool parse_durability(kv_slice text, struct config_value *v)
{
    static const char *const names[] = {
        [KV_DURABILITY_GROUP] = "group", [KV_DURABILITY_ALWAYS] = "always", [KV_DURABILITY_OS] = "os"};
    static const char interval[] = "interval=";
    if (!kv_slice_has_prefix(text, kv_slice_str(interval)))
        return parse_choice(names, sizeof names / sizeof *names, text, &v->number);
    v->number = KV_DURABILITY_INTERVAL;
    return http_parse_duration(kv_slice_from(text, sizeof interval - 1), &v->extra) == KV_OK &&
           v->extra >= 10 && v->extra <= 60000;
}

static bool parse_value(const struct setting *s, kv_slice text, struct config_value *v)
{
    static const char *const levels[] = {
        [KV_LOG_DEBUG] = "debug", [KV_LOG_INFO] = "info", [KV_LOG_WARN] = "warn", [KV_LOG_ERROR] = "error"};
    static const char *const booleans[] = {"false", "true"};
    uint64_t count;
    switch (s->kind) {
    case CONFIG_TEXT:
        return http_utf8_valid(text);
    case CONFIG_BOOL:
        return parse_choice(booleans, 2, text, &v->number);
    case CONFIG_COUNT:
        v->number = 0;
        if (strstr(s->takes, "|off") && kv_slice_equal(text, KV_STR("off")))
            return true;
        if (!http_parse_uint(text, UINT32_MAX, &count) || count == 0)
            return false;
        v->number = (int64_t)count;
        return true;
    case CONFIG_BYTES:
        return (strstr(s->takes, "|off") && kv_slice_equal(text, KV_STR("off"))) ||
               (strstr(s->takes, "|auto") && kv_slice_equal(text, KV_STR("auto"))) ||
               parse_bytes(text, &v->number);
    case CONFIG_TIME:
        return parse_positive_time(s, text, &v->number);
    case CONFIG_DURABILITY:
        return parse_durability(text, v);
    case CONFIG_LEVEL:
        return parse_choice(levels, 4, text, &v->number);
    case CONFIG_RULES:
        return parse_rules(text, &v->number);
    case CONFIG_FEATURES:
        return parse_features(text, &v->number);
    }
    return false;
}

static const char *takes(const struct setting *s)
{
    switch (s->kind) {
    case CONFIG_TEXT:
        return "UTF-8 text";
    case CONFIG_BOOL:
        return "true or false";
    case CONFIG_COUNT:
        return strstr(s->takes, "|off") ? "a whole number from 1 to 4294967295, or off"
                                        : "a whole number from 1 to 4294967295";
    case CONFIG_BYTES:
        return strstr(s->takes, "|off")    ? "a size above 0, like 64GiB, or off"
               : strstr(s->takes, "|auto") ? "a size above 0, like 1GiB, or auto"
                                           : "a size above 0, like 64MiB";
    case CONFIG_TIME:
        return strstr(s->takes, "|inf")   ? "a time above 0, like 30d, or inf"
               : strstr(s->takes, "|off") ? "a time above 0, like 15s, or off"
                                          : "a time above 0, like 5m";
    case CONFIG_RULES:
        return "SELECTOR=TIME, like {job=\"batch\"}=7d or up=inf (at most 63)";
    case CONFIG_FEATURES:
        return "all, or delayed-name-removal and experimental-functions with a comma between";
    default:
        return s->takes;
    }
}

/* Of a text that parse_rules takes. Answers how many. */
static size_t read_rules(kv_slice lines, struct ts_retention_rule out[CONFIG_RULES_MAX])
{
    size_t n = 0;
    while (lines.len > 0 && n < CONFIG_RULES_MAX)
        (void)take_rule(&lines, &out[n++]);
    return n;
}

/* Sets s from text unless something stronger set it before. from: "flag --x", "environment TIDEMARK_X", "file:line". */
static kv_status set(struct config *config, const struct setting *s, const char *from, const char *text,
                     struct kv_err *err)
{
    struct config_value *v = value_of(config, s), parsed = {0};
    if (!parse_value(s, kv_slice_str(text), &parsed))
        return kv_fail(err, KV_INVALID, 0, "%s: \"%.60s\" will not do, it takes %s", from, text, takes(s));
    if (s->kind == CONFIG_RULES) {
        struct kv_err why = {0};
        struct ts_retention_rule rules[CONFIG_RULES_MAX];
        kv_status rc = ts_retention_check(rules, read_rules(kv_slice_str(text), rules), &why);
        if (rc < 0)
            return kv_fail(err, rc, 0, "%s: %.300s", from, why.text);
    }
    if (v->text)
        return KV_OK;
    if (!(parsed.text = kv_dup_str(text)))
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory reading the configuration");
    *v = parsed;
    return KV_OK;
}

/* A further line of a list that was given before. */
static kv_status add_line(struct config *config, const struct setting *s, const char *from, const char *text,
                          struct kv_err *err)
{
    struct config_value *v = value_of(config, s), before = *v;
    struct kv_buf lines = {0};
    kv_status rc = kv_buf_printf(&lines, "%s\n%s", before.text, text);
    if (rc >= 0)
        rc = kv_buf_append_byte(&lines, 0);
    *v = (struct config_value){0};
    rc = rc < 0 ? kv_fail(err, rc, 0, "out of memory reading the configuration")
                : set(config, s, from, (const char *)lines.data, err);
    kv_buf_release(&lines);
    if (rc < 0)
        *v = before;
    else
        kv_free(before.text);
    return rc;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* Edit distance, cut at both ends of the lengths that matter here. */
static size_t distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    size_t row[MAX + 1], n = strlen(b);
    if (n > MAX || strlen(a) > MAX)
        return MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

static const char *nearest(const char *name)
{
    const char *best = settings[0].flag;
    for (size_t i = 1; i < N_SETTINGS; i++)
        if (distance(name, settings[i].flag) < distance(name, best))
            best = settings[i].flag;
    return best;
}

/* name with `from` replaced by `to`, cut to fit. */
static void respell(const char *name, char from, char to, char out[64])
{
    snprintf(out, 64, "%s", name);
    for (char *c = out; *c; c++)
        *c = *c == from ? to : *c;
}

static const struct setting *find(const char *flag)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (strcmp(settings[i].flag, flag) == 0)
            return &settings[i];
    return NULL;
}

/* ---- sources ----------------------------------------------------------------------------------------------------- */

static kv_status read_flags(int argc, char **argv, struct config *config, bool *help, struct kv_err *err)
{
    for (int i = 0; i < argc; i++) {
        char name[64], from[80];
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
            return KV_OK;
        }
        if (strncmp(argv[i], "--", 2) != 0)
            return kv_fail(err, KV_INVALID, 0,
                           "unexpected argument \"%.60s\"; settings are given as --NAME VALUE", argv[i]);
        const char *equals = strchr(argv[i], '=');
        snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - argv[i] - 2) : 60, argv[i] + 2);
        const struct setting *s = find(name);
        if (!s)
            return kv_fail(err, KV_INVALID, 0, "unknown flag --%s (nearest: --%s); --help lists them", name,
                           nearest(name));
        snprintf(from, sizeof from, "flag --%s", name);
        bool is_switch = s->kind == CONFIG_BOOL && !equals;
        if (!equals && !is_switch && i + 1 == argc)
            return kv_fail(err, KV_INVALID, 0, "%s: a value is missing, it takes %s", from, takes(s));
        const char *text = is_switch ? "true" : equals ? equals + 1 : argv[++i];
        bool again = value_of(config, s)->text != NULL;
        if (again && s->kind != CONFIG_RULES)
            return kv_fail(err, KV_INVALID, 0, "%s is given more than once", from);
        kv_status rc = again ? add_line(config, s, from, text, err) : set(config, s, from, text, err);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

static kv_status read_environment(struct config *config, char *(*getenv_fn)(const char *name),
                                  struct kv_err *err)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        char name[64], from[96], key[80];
        respell(settings[i].flag, '-', '_', name);
        for (char *c = name; *c; c++)
            *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
        snprintf(key, sizeof key, "TIDEMARK_%s", name);
        const char *text = getenv_fn(key);
        snprintf(from, sizeof from, "environment %s", key);
        kv_status rc = text ? set(config, &settings[i], from, text, err) : KV_OK;
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

static kv_status yaml_next(yaml_parser_t *parser, const char *path, yaml_event_t *event, struct kv_err *err)
{
    if (yaml_parser_parse(parser, event))
        return KV_OK;
    return kv_fail(err, KV_INVALID, 0, "%.100s:%zu: %s", path, parser->problem_mark.line + 1,
                   parser->problem ? parser->problem : "not YAML");
}

/* The rest of a list, one line for each of its items. */
static kv_status yaml_lines(yaml_parser_t *parser, const char *path, const char *from, struct kv_buf *lines,
                            struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (bool done = false; rc >= 0 && !done;) {
        yaml_event_t event = {0};
        if ((rc = yaml_next(parser, path, &event, err)) < 0)
            return rc;
        done = event.type == YAML_SEQUENCE_END_EVENT;
        if (event.type == YAML_SCALAR_EVENT)
            rc = kv_buf_printf(lines, "%s%s", lines->len ? "\n" : "", (const char *)event.data.scalar.value);
        else if (!done)
            rc = kv_fail(err, KV_INVALID, 0, "%s: expected a list of values", from);
        yaml_event_delete(&event);
    }
    return rc < 0 ? rc : kv_buf_append_byte(lines, 0);
}

/* One key and its value. seen: keys of this file so far. */
static kv_status yaml_pair(struct config *config, const char *path, yaml_parser_t *parser,
                           const yaml_event_t *key, const yaml_event_t *value, bool seen[N_SETTINGS],
                           struct kv_err *err)
{
    char flag[64], from[160];
    const char *name = (const char *)key->data.scalar.value;
    size_t line = key->start_mark.line + 1;
    respell(name, '_', '-', flag);
    const struct setting *s = strchr(name, '-') ? NULL : find(flag);
    snprintf(from, sizeof from, "%.100s:%zu: %s", path, line, name);
    if (!s || strcmp(flag, "config") == 0) {
        char known[64];
        respell(nearest(flag), '-', '_', known);
        return kv_fail(err, KV_INVALID, 0, "%.100s:%zu: unknown key \"%.40s\" (nearest: %s)", path, line,
                       name, known);
    }
    if (seen[s - settings])
        return kv_fail(err, KV_INVALID, 0, "%s is given more than once", from);
    seen[s - settings] = true;
    if (value->type == YAML_SEQUENCE_START_EVENT && s->kind == CONFIG_RULES) {
        struct kv_buf lines = {0};
        kv_status rc = yaml_lines(parser, path, from, &lines, err);
        if (rc >= 0)
            rc = set(config, s, from, (const char *)lines.data, err);
        kv_buf_release(&lines);
        return rc;
    }
    if (value->type != YAML_SCALAR_EVENT)
        return kv_fail(err, KV_INVALID, 0, "%s: expected one value", from);
    return set(config, s, from, (const char *)value->data.scalar.value, err);
}

static kv_status yaml_settings(struct config *config, const char *path, yaml_parser_t *parser,
                               struct kv_err *err)
{
    bool seen[N_SETTINGS] = {0};
    yaml_event_t event = {0}, key = {0};
    bool in_mapping = false, have_key = false, done = false;
    kv_status rc = KV_OK;
    while (rc == KV_OK && !done && (rc = yaml_next(parser, path, &event, err)) == KV_OK) {
        if (!in_mapping) {
            in_mapping = event.type == YAML_MAPPING_START_EVENT;
            done = event.type == YAML_STREAM_END_EVENT;
            bool preamble = event.type == YAML_STREAM_START_EVENT ||
                            event.type == YAML_DOCUMENT_START_EVENT || event.type == YAML_DOCUMENT_END_EVENT;
            bool empty = event.type == YAML_SCALAR_EVENT && event.data.scalar.length == 0;
            if (!in_mapping && !done && !preamble && !empty)
                rc = kv_fail(err, KV_INVALID, 0, "%.100s:%zu: expected \"key: value\" lines", path,
                             event.start_mark.line + 1);
        } else if (have_key) {
            rc = yaml_pair(config, path, parser, &key, &event, seen, err);
            yaml_event_delete(&key);
            have_key = false;
        } else if (event.type == YAML_SCALAR_EVENT) {
            key = event;
            have_key = true;
            continue; /* kept: not deleted */
        } else if (event.type == YAML_MAPPING_END_EVENT) {
            in_mapping = false;
        } else {
            rc = kv_fail(err, KV_INVALID, 0, "%.100s:%zu: expected a key", path, event.start_mark.line + 1);
        }
        yaml_event_delete(&event);
    }
    if (have_key)
        yaml_event_delete(&key);
    return rc;
}

kv_status config_read_yaml(struct config *config, const char *path, kv_slice text, struct kv_err *err)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory reading %.100s", path);
    yaml_parser_set_input_string(&parser, text.data, text.len);
    kv_status rc = yaml_settings(config, path, &parser, err);
    yaml_parser_delete(&parser);
    return rc;
}

static kv_status read_file(struct config *config, struct kv_err *err)
{
    struct kv_buf text = {0};
    const char *path = config->config.text;
    struct stat st;
    kv_status rc = KV_OK;
    if (!path || !*path)
        return KV_OK;
    FILE *f = fopen(path, "rb");
    if (!f)
        return kv_fail(err, KV_MISSING, errno, "cannot read the configuration %.120s: %s", path,
                       strerror(errno));
    if (fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode))
        rc = kv_fail(err, KV_INVALID, 0, "the configuration %.120s is not a file", path);
    else if (st.st_size > FILE_BYTES_MAX)
        rc = kv_fail(err, KV_LIMIT, 0, "the configuration %.120s is over %d bytes", path, FILE_BYTES_MAX);
    uint8_t *to = rc == KV_OK ? kv_buf_extend(&text, (size_t)st.st_size + 1) : NULL;
    if (to) {
        text.len = fread(to, 1, (size_t)st.st_size, f);
        rc = config_read_yaml(config, path, kv_buf_slice(&text), err);
    }
    fclose(f);
    kv_buf_release(&text);
    return rc;
}

kv_status config_load(int argc, char **argv, char *(*getenv_fn)(const char *name), struct config *out,
                      bool *help, struct kv_err *err)
{
    kv_status rc;
    *out = (struct config){0};
    *help = false;
    KV_TRY(read_flags(argc, argv, out, help, err));
    if (*help)
        return KV_OK;
    KV_TRY(read_environment(out, getenv_fn, err));
    KV_TRY(read_file(out, err));
    for (size_t i = 0; i < N_SETTINGS; i++)
        KV_TRY(set(out, &settings[i], "default", settings[i].otherwise, err));
    if (out->backup_dir.text[0])
        KV_TRY(archive_outside(out->backup_dir.text, out->data.text, err));
    return KV_OK;
out:
    config_release(out);
    return rc;
}

void config_release(struct config *config)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        kv_free(value_of(config, &settings[i])->text);
    *config = (struct config){0};
}

size_t config_rules(const struct config *config, struct ts_retention_rule *out)
{
    return read_rules(kv_slice_str(config->retention_rules.text), out);
}

kv_status config_help(struct kv_buf *out)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        char flag[80];
        snprintf(flag, sizeof flag, "--%s %s", s->flag, s->takes);
        kv_status rc = kv_buf_printf(out, "  %-48s %s%s%s%s\n", flag, s->help, *s->otherwise ? " [" : "",
                                     s->otherwise, *s->otherwise ? "]" : "");
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

const char *config_flag_of(kv_slice field)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (kv_slice_equal(field, kv_slice_str(settings[i].field)))
            return settings[i].dashed;
    return NULL;
}

kv_status config_json(const struct config *config, struct kv_buf *out)
{
    struct http_json json;
    http_json_init(&json, out);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *text = value_of((struct config *)(uintptr_t)config, &settings[i])->text;
        http_json_raw(&json, kv_slice_str(i ? "," : "{"));
        http_json_str(&json, settings[i].flag);
        HTTP_JSON_RAW(&json, ":");
        http_json_str(&json, text ? text : "");
    }
    HTTP_JSON_RAW(&json, "}");
    return json.failed;
}

kv_status config_yaml(const struct config *config, struct kv_buf *out)
{
    struct http_json json;
    http_json_init(&json, out);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const char *text = value_of((struct config *)(uintptr_t)config, &settings[i])->text;
        char key[64];
        if (!text || !*text || strcmp(settings[i].flag, "config") == 0)
            continue;
        respell(settings[i].flag, '-', '_', key);
        http_json_raw(&json, kv_slice_str(key));
        http_json_raw(&json, kv_slice_str(settings[i].kind == CONFIG_RULES ? ":\n" : ": "));
        for (kv_slice rest = kv_slice_str(text); rest.len > 0;) { /* a string of JSON is one of YAML */
            size_t len = settings[i].kind == CONFIG_RULES ? strcspn((const char *)rest.data, "\n") : rest.len;
            if (settings[i].kind == CONFIG_RULES)
                HTTP_JSON_RAW(&json, "  - ");
            http_json_string(&json, kv_slice_of(rest.data, len));
            HTTP_JSON_RAW(&json, "\n");
            rest = kv_slice_from(rest, len + (len < rest.len));
        }
    }
    return json.failed;
}
