#include "tsdb/regex.h"

#include "kvcore/base/mem.h"
#include "tsdb/regex_internal.h"
#include "tsdb/regex_unicode.h"

kv_status ts_regex_compile(kv_slice pattern, struct ts_regex **out, struct kv_err *err)
{
    struct kv_arena scratch = {0};
    struct ts_rx_tree tree = {.arena = &scratch};
    struct ts_regex *regex = NULL;
    kv_status rc;
    if (pattern.len > TS_REGEX_PATTERN_LEN_MAX)
        return kv_fail(err, KV_LIMIT, 0, "error parsing regexp: expression too large: %zu bytes, at most %d",
                       pattern.len, TS_REGEX_PATTERN_LEN_MAX);
    KV_TRY(ts_rx_parse(pattern, &tree, err));
    regex = kv_zalloc(1, sizeof *regex);
    if (!regex) {
        rc = KV_NO_MEMORY;
        goto out;
    }
    KV_TRY(ts_rx_hint_make(&tree, &regex->arena, &regex->hint));
    KV_TRY(ts_rx_compile(&tree, &regex->arena, &regex->program, err));
    regex->n_captures = tree.n_captures;
    regex->names = kv_arena_zalloc(&regex->arena, tree.n_captures + 1, sizeof *regex->names);
    for (size_t i = 1; regex->names && i <= tree.n_captures; i++)
        if (!(regex->names[i] = kv_arena_copy(&regex->arena, tree.names[i])).data)
            regex->names = NULL;
    if (!regex->names) {
        rc = KV_NO_MEMORY;
        goto out;
    }
    KV_TRY(ts_rx_matcher_new(&regex->program, &regex->matcher));
    *out = regex;
    regex = NULL;
out:
    if (rc == KV_NO_MEMORY)
        rc = kv_fail(err, rc, 0, "out of memory compiling a regular expression");
    ts_regex_free(regex);
    kv_arena_release(&scratch);
    return rc;
}

void ts_regex_free(struct ts_regex *regex)
{
    if (!regex)
        return;
    ts_rx_matcher_free(regex->matcher);
    kv_arena_release(&regex->arena);
    kv_free(regex);
}

static bool literals_have(const struct ts_rx_hint *hint, kv_slice text)
{
    size_t lo = 0, hi = hint->n_literals;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = kv_slice_compare(hint->literals[mid], text);
        if (c == 0)
            return true;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* gap literal gap. A gap of at least one code point is a gap of at least one byte: literal and text meet at
 * whole code points. */
static bool affix_matches(const struct ts_rx_hint *hint, kv_slice text)
{
    kv_slice literal = hint->literal;
    size_t before = hint->before == TS_RX_GAP_SOME, after = hint->after == TS_RX_GAP_SOME;
    if (text.len < before + literal.len + after)
        return false;
    if (literal.len == 0)
        return hint->before != TS_RX_GAP_NONE || hint->after != TS_RX_GAP_NONE || text.len == 0;
    const uint8_t *last = text.data + text.len - literal.len;
    if (hint->before == TS_RX_GAP_NONE)
        return memcmp(text.data, literal.data, literal.len) == 0 &&
               (hint->after != TS_RX_GAP_NONE || text.len == literal.len);
    if (hint->after == TS_RX_GAP_NONE)
        return memcmp(last, literal.data, literal.len) == 0;
    return memmem(text.data + before, text.len - before - after, literal.data, literal.len) != NULL;
}

static bool has_suffix(kv_slice text, kv_slice suffix)
{
    return text.len >= suffix.len &&
           (suffix.len == 0 || memcmp(text.data + text.len - suffix.len, suffix.data, suffix.len) == 0);
}

bool ts_regex_matches(const struct ts_regex *regex, kv_slice text)
{
    const struct ts_rx_hint *hint = &regex->hint;
    if (hint->shape == TS_RX_LITERALS)
        return literals_have(hint, text);
    if (hint->shape == TS_RX_AFFIX)
        return affix_matches(hint, text);
    if (!kv_slice_has_prefix(text, hint->prefix) || !has_suffix(text, hint->suffix))
        return false;
    return ts_rx_matcher_matches(regex->matcher, text);
}

bool ts_regex_groups(const struct ts_regex *regex, kv_slice text, kv_slice *groups, size_t n_groups)
{
    size_t ends[2 * TS_REGEX_GROUPS_MAX];
    bool has_groups = regex->program.n_slots > 2;
    if (has_groups ? !ts_rx_matcher_groups(regex->matcher, text, ends) : !ts_regex_matches(regex, text))
        return false;
    for (size_t i = 0; i < n_groups; i++) {
        groups[i] = (kv_slice){0};
        if (i > 0 && 2 * i + 1 < regex->program.n_slots && ends[2 * i] != SIZE_MAX &&
            ends[2 * i + 1] != SIZE_MAX)
            groups[i] = kv_slice_of(text.len ? (const char *)text.data + ends[2 * i] : "",
                                    ends[2 * i + 1] - ends[2 * i]);
    }
    if (n_groups > 0)
        groups[0] = kv_slice_of(text.len ? (const void *)text.data : "", text.len);
    return true;
}

/* ---- templates ----------------------------------------------------------------------------------------- */

struct rune_test {
    uint32_t rune;
    bool in;
};

static kv_status rune_test_range(void *ctx, uint32_t lo, uint32_t hi)
{
    struct rune_test *test = ctx;
    test->in = test->in || (test->rune >= lo && test->rune <= hi);
    return KV_OK;
}

/* A letter, a digit or '_', as Unicode has them. */
static bool name_rune(uint32_t rune)
{
    struct rune_test test = {rune, false};
    if (rune < 128)
        return rune == '_' || (rune >= '0' && rune <= '9') || (rune >= 'A' && rune <= 'Z') ||
               (rune >= 'a' && rune <= 'z');
    if (ts_unicode_class(KV_STR("L"), rune_test_range, &test) < 0 ||
        ts_unicode_class(KV_STR("Nd"), rune_test_range, &test) < 0)
        return false;
    return test.in;
}

/* Behind a '$': name or {name}. False: there is none, and the '$' stands for itself. */
static bool take_name(kv_slice *in, kv_slice *name)
{
    bool brace = in->len > 0 && in->data[0] == '{';
    kv_slice at = kv_slice_from(*in, brace ? 1 : 0);
    size_t n = 0, len;
    while (n < at.len && name_rune(ts_rx_rune(kv_slice_from(at, n), &len)))
        n += len;
    if (n == 0 || (brace && (n == at.len || at.data[n] != '}')))
        return false;
    *name = (kv_slice){at.data, n};
    *in = kv_slice_from(at, n + (brace ? 1 : 0));
    return true;
}

/* A number without leading zeros, or -1. */
static int32_t name_number(kv_slice name)
{
    int32_t number = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] < '0' || name.data[i] > '9' || number >= 100000000)
            return -1;
        number = number * 10 + (name.data[i] - '0');
    }
    return name.data[0] == '0' && name.len > 1 ? -1 : number;
}

static kv_slice group_named(const struct ts_regex *regex, kv_slice name, const kv_slice *groups,
                            size_t n_groups)
{
    int32_t number = name_number(name);
    if (number >= 0)
        return (size_t)number < n_groups ? groups[number] : (kv_slice){0};
    for (size_t i = 1; i <= regex->n_captures && i < n_groups; i++)
        if (groups[i].data && kv_slice_equal(regex->names[i], name))
            return groups[i];
    return (kv_slice){0};
}

kv_status ts_regex_expand(const struct ts_regex *regex, kv_slice template, const kv_slice *groups,
                          size_t n_groups, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    kv_slice name;
    while (template.len > 0) {
        const uint8_t *dollar = memchr(template.data, '$', template.len);
        size_t plain = dollar ? (size_t)(dollar - template.data) : template.len;
        KV_TRY(kv_buf_append(out, (kv_slice){template.data, plain}));
        template = kv_slice_from(template, plain + (dollar ? 1 : 0));
        if (!dollar)
            break;
        if (template.len > 0 && template.data[0] == '$') {
            template = kv_slice_from(template, 1);
            KV_TRY(kv_buf_append_byte(out, '$'));
        } else if (take_name(&template, &name)) {
            KV_TRY(kv_buf_append(out, group_named(regex, name, groups, n_groups)));
        } else {
            KV_TRY(kv_buf_append_byte(out, '$'));
        }
    }
out:
    return rc;
}

void ts_regex_hint(const struct ts_regex *regex, struct ts_regex_hint *out)
{
    const struct ts_rx_hint *hint = &regex->hint;
    *out = (struct ts_regex_hint){.prefix = hint->prefix};
    if (hint->shape == TS_RX_LITERALS) {
        out->literals = hint->literals;
        out->n_literals = hint->n_literals;
    }
    out->any = hint->shape == TS_RX_AFFIX && hint->literal.len == 0;
    out->nullable = ts_regex_matches(regex, KV_STR(""));
}
