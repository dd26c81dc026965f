/*
 * Pattern text to tree: RE2 syntax as Go's regexp/syntax takes it with its Perl flags and "dot matches
 * newline", with its error texts. Open groups are frames on an explicit stack; a repetition wraps the last
 * item of the innermost frame in place.
 */
#include "tsdb/regex_internal.h"

#include <inttypes.h>

enum { FOLD = 1, MULTI_LINE = 2, DOT_NEWLINE = 4, LAZY = 8 };

struct frame {
    struct ts_rx_node *alternatives, **alternatives_end; /* finished ones */
    struct ts_rx_node *items, *last;                     /* of the one being read */
    uint32_t capture;                                    /* 0: none */
    unsigned flags;                                      /* to be restored behind the group */
};

struct parser {
    kv_slice whole, in; /* in: what is left */
    struct ts_rx_tree *tree;
    struct kv_err *err;
    unsigned flags;
    size_t depth;
    size_t names_capacity;
    struct frame frames[TS_REGEX_NESTING_MAX + 1];
};

static KV_MUST kv_status fail(struct parser *p, const char *what, kv_slice where)
{
    return kv_fail(p->err, KV_INVALID, 0, "error parsing regexp: %s: `%.*s`", what, KV_ARG(where));
}

/* The text from `from` (a tail of the pattern) up to what is left. */
static kv_slice read_since(const struct parser *p, kv_slice from)
{
    return (kv_slice){from.data, from.len - p->in.len};
}

static KV_MUST kv_status take_rune(struct parser *p, uint32_t *rune)
{
    size_t len;
    *rune = ts_rx_rune(p->in, &len);
    if (*rune == TS_RUNE_BAD && len == 1)
        return fail(p, "invalid UTF-8", p->in);
    p->in = kv_slice_from(p->in, len);
    return KV_OK;
}

static KV_MUST kv_status check_utf8(struct parser *p, kv_slice text)
{
    for (size_t len; text.len > 0; text = kv_slice_from(text, len))
        if (ts_rx_rune(text, &len) == TS_RUNE_BAD && len == 1)
            return fail(p, "invalid UTF-8", text);
    return KV_OK;
}

static bool at(const struct parser *p, size_t i, char c)
{
    return p->in.len > i && p->in.data[i] == (uint8_t)c;
}

/* ---- tree building ------------------------------------------------------------------------------------- */

static struct ts_rx_node *node_new(struct parser *p, enum ts_rx_op op, uint32_t arg)
{
    struct ts_rx_node *node = kv_arena_zalloc(p->tree->arena, 1, sizeof *node);
    if (node) {
        node->op = op;
        node->arg = arg;
    }
    return node;
}

static KV_MUST kv_status push(struct parser *p, struct ts_rx_node *node)
{
    struct frame *f = &p->frames[p->depth];
    if (!node)
        return KV_NO_MEMORY;
    if (f->last)
        f->last->next = node;
    else
        f->items = node;
    f->last = node;
    return KV_OK;
}

kv_status ts_rx_tree_set(struct ts_rx_tree *tree, const struct ts_rx_class *class, uint32_t *index)
{
    size_t bytes = class->ranges.len, n = bytes / sizeof(struct ts_rx_range);
    for (size_t i = 0; i < tree->n_sets; i++) {
        if (tree->sets[i].n == n &&
            (n == 0 || memcmp(tree->sets[i].ranges, class->ranges.data, bytes) == 0)) {
            *index = (uint32_t)i;
            return KV_OK;
        }
    }
    if (tree->n_sets == tree->sets_capacity) {
        size_t capacity = tree->sets_capacity ? tree->sets_capacity * 2 : 8;
        struct ts_rx_set *sets = kv_arena_zalloc(tree->arena, capacity, sizeof *sets);
        if (!sets)
            return KV_NO_MEMORY;
        if (tree->n_sets)
            memcpy(sets, tree->sets, tree->n_sets * sizeof *sets);
        tree->sets = sets;
        tree->sets_capacity = capacity;
    }
    struct ts_rx_range *ranges = kv_arena_alloc(tree->arena, bytes ? bytes : 1);
    if (!ranges)
        return KV_NO_MEMORY;
    if (bytes)
        memcpy(ranges, class->ranges.data, bytes);
    tree->sets[tree->n_sets] = (struct ts_rx_set){ranges, n};
    *index = (uint32_t)tree->n_sets++;
    return KV_OK;
}

static KV_MUST kv_status push_class(struct parser *p, struct ts_rx_class *class)
{
    uint32_t index;
    ts_rx_class_canonical(class);
    kv_status rc = ts_rx_tree_set(p->tree, class, &index);
    return rc < 0 ? rc : push(p, node_new(p, TS_RX_SET, index));
}

static KV_MUST kv_status push_rune(struct parser *p, uint32_t rune)
{
    struct ts_rx_class class = {0};
    kv_status rc;
    if (!(p->flags & FOLD))
        return push(p, node_new(p, TS_RX_RUNE, rune));
    KV_TRY(ts_rx_class_add(&class, rune, rune));
    KV_TRY(ts_rx_class_fold(&class));
    if (class.ranges.len == sizeof(struct ts_rx_range) &&
        memcmp(class.ranges.data, &(struct ts_rx_range){rune, rune}, sizeof(struct ts_rx_range)) == 0)
        rc = push(p, node_new(p, TS_RX_RUNE, rune));
    else
        rc = push_class(p, &class);
out:
    kv_buf_release(&class.ranges);
    return rc;
}

/* What the innermost frame has read since its last '|', as one node. */
static struct ts_rx_node *close_items(struct parser *p)
{
    struct frame *f = &p->frames[p->depth];
    struct ts_rx_node *node = f->items;
    if (!node)
        node = node_new(p, TS_RX_EMPTY, 0);
    else if (node->next) {
        node = node_new(p, TS_RX_CONCAT, 0);
        if (node)
            node->sub = f->items;
    }
    f->items = f->last = NULL;
    return node;
}

static KV_MUST kv_status add_alternative(struct parser *p)
{
    struct frame *f = &p->frames[p->depth];
    struct ts_rx_node *node = close_items(p);
    if (!node)
        return KV_NO_MEMORY;
    if (!f->alternatives)
        f->alternatives_end = &f->alternatives;
    *f->alternatives_end = node;
    f->alternatives_end = &node->next;
    return KV_OK;
}

/* The innermost frame as one node; the frame is left empty. */
static struct ts_rx_node *close_frame(struct parser *p)
{
    struct frame *f = &p->frames[p->depth];
    if (!f->alternatives)
        return close_items(p);
    if (add_alternative(p) < 0)
        return NULL;
    struct ts_rx_node *node = node_new(p, TS_RX_ALTERNATE, 0);
    if (node)
        node->sub = f->alternatives;
    return node;
}

static KV_MUST kv_status open_frame(struct parser *p, uint32_t capture, unsigned flags_after)
{
    if (p->depth == TS_REGEX_NESTING_MAX)
        return kv_fail(p->err, KV_LIMIT, 0,
                       "error parsing regexp: expression nests too deeply: more than %d groups",
                       TS_REGEX_NESTING_MAX);
    p->frames[++p->depth] = (struct frame){.capture = capture, .flags = flags_after};
    return KV_OK;
}

static KV_MUST kv_status open_capture(struct parser *p, kv_slice name)
{
    struct ts_rx_tree *tree = p->tree;
    if (tree->n_captures + 1 >= p->names_capacity) {
        size_t capacity = p->names_capacity ? p->names_capacity * 2 : 8;
        kv_slice *names = kv_arena_zalloc(tree->arena, capacity, sizeof *names);
        if (!names)
            return KV_NO_MEMORY;
        if (tree->n_captures)
            memcpy(names, tree->names, (tree->n_captures + 1) * sizeof *names);
        tree->names = names;
        p->names_capacity = capacity;
    }
    tree->names[++tree->n_captures] = kv_arena_copy(tree->arena, name);
    if (!tree->names[tree->n_captures].data)
        return KV_NO_MEMORY;
    return open_frame(p, (uint32_t)tree->n_captures, p->flags);
}

static KV_MUST kv_status close_group(struct parser *p)
{
    if (p->depth == 0)
        return fail(p, "unexpected )", p->whole);
    struct ts_rx_node *node = close_frame(p);
    struct frame closed = p->frames[p->depth--];
    if (!node)
        return KV_NO_MEMORY;
    p->flags = closed.flags;
    struct ts_rx_node *group = node_new(p, closed.capture ? TS_RX_CAPTURE : TS_RX_CONCAT, closed.capture);
    if (group)
        group->sub = node;
    return push(p, group);
}

/* ---- repetition ---------------------------------------------------------------------------------------- */

/* Whether nested counts multiply to at most n. */
static bool repeat_fits(const struct ts_rx_node *node, int32_t n)
{
    if (node->op == TS_RX_REPEAT && !(node->max == -1 && node->min < 2)) {
        int32_t m = node->max < 0 ? node->min : node->max;
        if (m > n)
            return false;
        if (m == 0)
            return true;
        n /= m;
    }
    for (const struct ts_rx_node *sub = node->sub; sub; sub = sub->next)
        if (!repeat_fits(sub, n))
            return false;
    return true;
}

/* before: the pattern from the operator on. previous: from an operator right before it on, or empty. */
static KV_MUST kv_status repeat(struct parser *p, int32_t min, int32_t max, kv_slice before,
                                kv_slice previous)
{
    struct ts_rx_node *last = p->frames[p->depth].last;
    kv_slice operator= read_since(p, before);
    bool lazy = (p->flags & LAZY) != 0;
    if (at(p, 0, '?')) {
        p->in = kv_slice_from(p->in, 1);
        lazy = !lazy;
        operator= read_since(p, before);
    }
    if (previous.len > 0)
        return fail(p, "invalid nested repetition operator", read_since(p, previous));
    if (!last)
        return fail(p, "missing argument to repetition operator", operator);
    struct ts_rx_node *sub = node_new(p, TS_RX_EMPTY, 0);
    if (!sub)
        return KV_NO_MEMORY;
    *sub = *last;
    *last = (struct ts_rx_node){.op = TS_RX_REPEAT, .lazy = lazy, .min = min, .max = max, .sub = sub};
    if ((min >= 2 || max >= 2) && !repeat_fits(last, TS_REGEX_REPEAT_MAX))
        return fail(p, "invalid repeat count", operator);
    return KV_OK;
}

/* Digits without a leading zero; -1 for what is far too large. False: there is no number. */
static bool take_number(kv_slice *in, int32_t *number)
{
    size_t n = 0;
    int32_t value = 0;
    while (n < in->len && in->data[n] >= '0' && in->data[n] <= '9') {
        if (value >= 0)
            value = value >= 100000000 ? -1 : value * 10 + (in->data[n] - '0');
        n++;
    }
    if (n == 0 || (n > 1 && in->data[0] == '0'))
        return false;
    *number = value;
    *in = kv_slice_from(*in, n);
    return true;
}

/* {n} {n,} {n,m}. False: not a repetition, then '{' stands for itself. */
static bool take_counts(kv_slice *in, int32_t *min, int32_t *max)
{
    kv_slice s = kv_slice_from(*in, 1);
    if (!take_number(&s, min))
        return false;
    *max = *min;
    if (s.len > 0 && s.data[0] == ',') {
        s = kv_slice_from(s, 1);
        if (s.len > 0 && s.data[0] == '}')
            *max = -1;
        else if (!take_number(&s, max))
            return false;
        else if (*max < 0)
            *min = -1; /* too large */
    }
    if (s.len == 0 || s.data[0] != '}')
        return false;
    *in = kv_slice_from(s, 1);
    return true;
}

static KV_MUST kv_status parse_counts(struct parser *p, kv_slice previous, bool *repeated)
{
    kv_slice before = p->in;
    int32_t min, max;
    *repeated = take_counts(&p->in, &min, &max);
    if (!*repeated) {
        p->in = kv_slice_from(before, 1);
        return push_rune(p, '{');
    }
    if (min < 0 || min > TS_REGEX_REPEAT_MAX || max > TS_REGEX_REPEAT_MAX || (max >= 0 && min > max))
        return fail(p, "invalid repeat count", read_since(p, before));
    return repeat(p, min, max, before, previous);
}

/* ---- escapes ------------------------------------------------------------------------------------------- */

static bool ascii_word(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static int hex_digit(uint32_t c)
{
    if (c >= '0' && c <= '9')
        return (int)c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (int)c - 'a' + 10 : -1;
}

/* Behind "\x". False: malformed; what was looked at is taken off. */
static KV_MUST kv_status take_hex(struct parser *p, uint32_t *rune, bool *ok)
{
    uint32_t c, value = 0;
    kv_status rc = KV_OK;
    *ok = false;
    if (p->in.len == 0)
        return KV_OK;
    KV_TRY(take_rune(p, &c));
    if (c != '{') {
        int high = hex_digit(c), low = -1;
        if (p->in.len > 0) {
            KV_TRY(take_rune(p, &c));
            low = hex_digit(c);
        }
        *ok = high >= 0 && low >= 0;
        *rune = *ok ? (uint32_t)(high * 16 + low) : 0;
        return KV_OK;
    }
    for (int digits = 0; p->in.len > 0; digits++) {
        KV_TRY(take_rune(p, &c));
        if (c == '}') {
            *ok = digits > 0;
            *rune = value;
            break;
        }
        int digit = hex_digit(c);
        if (digit < 0 || (value = value * 16 + (uint32_t)digit) > TS_RUNE_MAX)
            break;
    }
out:
    return rc;
}

/* One escaped code point; p->in stands at the backslash. */
static KV_MUST kv_status take_escape(struct parser *p, uint32_t *rune)
{
    static const char names[] = "afnrtv", values[] = "\a\f\n\r\t\v";
    kv_slice start = p->in;
    uint32_t c;
    bool ok = false;
    kv_status rc;
    p->in = kv_slice_from(p->in, 1);
    if (p->in.len == 0)
        return fail(p, "trailing backslash at end of expression", KV_STR(""));
    KV_TRY(take_rune(p, &c));
    bool octal_next = p->in.len > 0 && p->in.data[0] >= '0' && p->in.data[0] <= '7';
    if (c < 0x80 && !ascii_word(c)) {
        *rune = c;
        return KV_OK;
    }
    if (c == '0' || (c >= '1' && c <= '7' && octal_next)) {
        *rune = c - '0';
        for (int i = 1; i < 3 && p->in.len > 0 && p->in.data[0] >= '0' && p->in.data[0] <= '7'; i++) {
            *rune = *rune * 8 + (p->in.data[0] - '0');
            p->in = kv_slice_from(p->in, 1);
        }
        return KV_OK;
    }
    if (c == 'x') {
        KV_TRY(take_hex(p, rune, &ok));
        if (ok)
            return KV_OK;
    }
    for (size_t i = 0; names[i]; i++) {
        if (c == (uint32_t)names[i]) {
            *rune = (uint32_t)values[i];
            return KV_OK;
        }
    }
    rc = fail(p, "invalid escape sequence", read_since(p, start));
out:
    return rc;
}

/* ---- classes ------------------------------------------------------------------------------------------- */

/* Adds part to class: folded if the flags say so, then negated if asked. */
static KV_MUST kv_status class_add_part(struct parser *p, struct ts_rx_class *class, struct ts_rx_class *part,
                                        bool negate)
{
    kv_status rc = KV_OK;
    if (p->flags & FOLD)
        KV_TRY(ts_rx_class_fold(part));
    if (negate)
        KV_TRY(ts_rx_class_negate(part));
    rc = ts_rx_class_add_set(class, part);
out:
    return rc;
}

/* \pL \p{Greek} \P{^Lu}; *took says whether there was one. */
static KV_MUST kv_status take_unicode_class(struct parser *p, struct ts_rx_class *class, bool *took)
{
    struct ts_rx_class part = {0};
    kv_slice start = p->in, name, sequence;
    uint32_t c;
    kv_status rc = KV_OK;
    *took = at(p, 0, '\\') && (at(p, 1, 'p') || at(p, 1, 'P'));
    if (!*took)
        return KV_OK;
    bool negate = at(p, 1, 'P');
    p->in = kv_slice_from(p->in, 2);
    if (p->in.len == 0)
        return fail(p, "invalid character class range", start);
    KV_TRY(take_rune(p, &c));
    sequence = read_since(p, start);
    name = kv_slice_from(sequence, 2);
    if (c == '{') {
        const uint8_t *end = memchr(start.data, '}', start.len);
        KV_TRY(check_utf8(p, end ? (kv_slice){start.data, (size_t)(end - start.data)} : start));
        if (!end)
            return fail(p, "invalid character class range", start);
        sequence = (kv_slice){start.data, (size_t)(end - start.data) + 1};
        name = (kv_slice){start.data + 3, sequence.len - 4};
        p->in = kv_slice_from(start, sequence.len);
    }
    if (name.len > 0 && name.data[0] == '^') {
        negate = !negate;
        name = kv_slice_from(name, 1);
    }
    KV_TRY(ts_rx_class_add_unicode(&part, name));
    rc = rc == KV_NOT_FOUND ? fail(p, "invalid character class range", sequence)
                            : class_add_part(p, class, &part, negate);
out:
    kv_buf_release(&part.ranges);
    return rc;
}

/* \d \D \s \S \w \W */
static KV_MUST kv_status take_perl_class(struct parser *p, struct ts_rx_class *class, bool *took)
{
    *took = p->in.len >= 2 && p->in.data[0] == '\\' && p->in.data[1] != 0 && strchr("dDsSwW", p->in.data[1]);
    if (!*took)
        return KV_OK;
    struct ts_rx_class part = {0};
    char kind = (char)(p->in.data[1] | 0x20);
    kv_status rc;
    KV_TRY(ts_rx_class_add_perl(&part, kind));
    rc = class_add_part(p, class, &part, p->in.data[1] != (uint8_t)kind);
    p->in = kv_slice_from(p->in, 2);
out:
    kv_buf_release(&part.ranges);
    return rc;
}

/* [:alpha:] [:^alpha:] */
static KV_MUST kv_status take_posix_class(struct parser *p, struct ts_rx_class *class, bool *took)
{
    *took = false;
    if (p->in.len < 3 || !at(p, 0, '[') || !at(p, 1, ':'))
        return KV_OK;
    const uint8_t *end = memmem(p->in.data + 2, p->in.len - 2, ":]", 2);
    if (!end)
        return KV_OK;
    struct ts_rx_class part = {0};
    kv_slice all = {p->in.data, (size_t)(end - p->in.data) + 2};
    kv_slice name = {all.data + 2, all.len - 4};
    bool negate = name.len > 0 && name.data[0] == '^';
    kv_status rc;
    KV_TRY(ts_rx_class_add_posix(&part, negate ? kv_slice_from(name, 1) : name));
    if (rc == KV_NOT_FOUND) {
        rc = fail(p, "invalid character class range", all);
        goto out;
    }
    rc = class_add_part(p, class, &part, negate);
    p->in = kv_slice_from(p->in, all.len);
    *took = true;
out:
    kv_buf_release(&part.ranges);
    return rc;
}

static KV_MUST kv_status take_class_rune(struct parser *p, kv_slice whole_class, uint32_t *rune)
{
    if (p->in.len == 0)
        return fail(p, "missing closing ]", whole_class);
    return at(p, 0, '\\') ? take_escape(p, rune) : take_rune(p, rune);
}

static KV_MUST kv_status take_class_range(struct parser *p, kv_slice whole_class, struct ts_rx_class *class)
{
    struct ts_rx_class part = {0};
    kv_slice start = p->in;
    uint32_t lo = 0, hi;
    kv_status rc;
    KV_TRY(take_class_rune(p, whole_class, &lo));
    hi = lo;
    if (p->in.len >= 2 && at(p, 0, '-') && !at(p, 1, ']')) {
        p->in = kv_slice_from(p->in, 1);
        KV_TRY(take_class_rune(p, whole_class, &hi));
        if (hi < lo)
            return fail(p, "invalid character class range", read_since(p, start));
    }
    KV_TRY(ts_rx_class_add(&part, lo, hi));
    rc = class_add_part(p, class, &part, false);
out:
    kv_buf_release(&part.ranges);
    return rc;
}

static KV_MUST kv_status parse_class(struct parser *p)
{
    struct ts_rx_class class = {0};
    kv_slice whole = p->in;
    kv_status rc = KV_OK;
    p->in = kv_slice_from(p->in, 1);
    bool negate = at(p, 0, '^');
    if (negate)
        p->in = kv_slice_from(p->in, 1);
    for (bool first = true; first || !at(p, 0, ']'); first = false) {
        bool took;
        KV_TRY(take_posix_class(p, &class, &took));
        if (!took)
            KV_TRY(take_unicode_class(p, &class, &took));
        if (!took)
            KV_TRY(take_perl_class(p, &class, &took));
        if (!took)
            KV_TRY(take_class_range(p, whole, &class));
    }
    p->in = kv_slice_from(p->in, 1);
    if (negate)
        KV_TRY(ts_rx_class_negate(&class));
    rc = push_class(p, &class);
out:
    kv_buf_release(&class.ranges);
    return rc;
}

/* ---- groups -------------------------------------------------------------------------------------------- */

/* (?P<name> and (?<name>; skip: where the name begins. */
static KV_MUST kv_status parse_named(struct parser *p, size_t skip)
{
    kv_slice start = p->in;
    const uint8_t *end = memchr(start.data, '>', start.len);
    kv_status rc = KV_OK;
    if (!end) {
        KV_TRY(check_utf8(p, start));
        return fail(p, "invalid named capture", start);
    }
    kv_slice whole = {start.data, (size_t)(end - start.data) + 1};
    kv_slice name = {start.data + skip, whole.len - 1 - skip};
    KV_TRY(check_utf8(p, name));
    bool valid = name.len > 0;
    for (size_t i = 0; i < name.len; i++)
        valid = valid && (ascii_word(name.data[i]) || name.data[i] == '_');
    if (!valid)
        return fail(p, "invalid named capture", whole);
    p->in = kv_slice_from(p->in, whole.len);
    rc = open_capture(p, name);
out:
    return rc;
}

/* (?flags) (?flags:  where flags are letters of imsU, those behind '-' cleared. */
static KV_MUST kv_status parse_flags(struct parser *p)
{
    kv_slice start = p->in;
    unsigned set = 0, clear = 0;
    bool minus = false, any = false;
    kv_status rc = KV_OK;
    uint32_t c;
    p->in = kv_slice_from(p->in, 2);
    while (p->in.len > 0) {
        KV_TRY(take_rune(p, &c));
        unsigned flag = c == 'i'   ? FOLD
                        : c == 'm' ? MULTI_LINE
                        : c == 's' ? DOT_NEWLINE
                        : c == 'U' ? LAZY
                                   : 0;
        if (flag) {
            *(minus ? &clear : &set) |= flag;
            any = true;
        } else if (c == '-' && !minus) {
            minus = true;
            any = false;
        } else if ((c == ':' || c == ')') && (!minus || any)) {
            unsigned before = p->flags;
            p->flags = (before | set) & ~clear;
            return c == ':' ? open_frame(p, 0, before) : KV_OK;
        } else {
            break;
        }
    }
    rc = fail(p, "invalid or unsupported Perl syntax", read_since(p, start));
out:
    return rc;
}

static KV_MUST kv_status parse_open(struct parser *p)
{
    if (p->in.len > 4 && at(p, 1, '?') && at(p, 2, 'P') && at(p, 3, '<'))
        return parse_named(p, 4);
    if (p->in.len > 3 && at(p, 1, '?') && at(p, 2, '<'))
        return parse_named(p, 3);
    if (at(p, 1, '?'))
        return parse_flags(p);
    p->in = kv_slice_from(p->in, 1);
    return open_capture(p, KV_STR(""));
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static KV_MUST kv_status parse_quoted(struct parser *p)
{
    const uint8_t *end;
    kv_status rc = KV_OK;
    p->in = kv_slice_from(p->in, 2);
    end = p->in.len ? memmem(p->in.data, p->in.len, "\\E", 2) : NULL;
    const uint8_t *stop = end ? end : p->in.data + p->in.len;
    while (rc == KV_OK && p->in.data < stop) {
        uint32_t c;
        KV_TRY(take_rune(p, &c));
        rc = push_rune(p, c);
    }
    if (end)
        p->in = kv_slice_from(p->in, 2);
out:
    return rc;
}

static KV_MUST kv_status parse_backslash(struct parser *p)
{
    struct ts_rx_class class = {0};
    uint32_t c = 0, assert = 0;
    bool took;
    kv_status rc;
    if (at(p, 1, 'Q'))
        return parse_quoted(p);
    if (at(p, 1, 'C'))
        return fail(p, "invalid escape sequence", (kv_slice){p->in.data, 2});
    assert = at(p, 1, 'A')   ? TS_RX_BEGIN_TEXT
             : at(p, 1, 'z') ? TS_RX_END_TEXT
             : at(p, 1, 'b') ? TS_RX_WORD
             : at(p, 1, 'B') ? TS_RX_NOT_WORD
                             : 0;
    if (assert) {
        p->in = kv_slice_from(p->in, 2);
        return push(p, node_new(p, TS_RX_ASSERT, assert));
    }
    KV_TRY(take_unicode_class(p, &class, &took));
    if (!took)
        KV_TRY(take_perl_class(p, &class, &took));
    if (took) {
        rc = push_class(p, &class);
        goto out;
    }
    KV_TRY(take_escape(p, &c));
    rc = push_rune(p, c);
out:
    kv_buf_release(&class.ranges);
    return rc;
}

static KV_MUST kv_status parse_dot(struct parser *p)
{
    struct ts_rx_class class = {0};
    kv_status rc;
    if (p->flags & DOT_NEWLINE) {
        KV_TRY(ts_rx_class_add(&class, 0, TS_RUNE_MAX));
    } else {
        KV_TRY(ts_rx_class_add(&class, 0, '\n' - 1));
        KV_TRY(ts_rx_class_add(&class, '\n' + 1, TS_RUNE_MAX));
    }
    rc = push_class(p, &class);
out:
    kv_buf_release(&class.ranges);
    return rc;
}

/* One item. *previous: where a repetition that ends here began; empty if the item is none. */
static KV_MUST kv_status parse_item(struct parser *p, kv_slice *previous)
{
    kv_slice before = p->in, last_repeat = *previous;
    uint32_t c = p->in.data[0];
    bool multi = (p->flags & MULTI_LINE) != 0, repeated = false;
    kv_status rc = KV_OK;
    *previous = (kv_slice){0};
    if (strchr("*+?|)^$.", (int)c) && c != 0)
        p->in = kv_slice_from(p->in, 1);
    switch (c) {
    case '(':
        return parse_open(p);
    case '|':
        return add_alternative(p);
    case ')':
        return close_group(p);
    case '^':
        return push(p, node_new(p, TS_RX_ASSERT, multi ? TS_RX_BEGIN_LINE : TS_RX_BEGIN_TEXT));
    case '$':
        return push(p, node_new(p, TS_RX_ASSERT, multi ? TS_RX_END_LINE : TS_RX_END_TEXT));
    case '.':
        return parse_dot(p);
    case '[':
        return parse_class(p);
    case '\\':
        return parse_backslash(p);
    case '*':
    case '+':
    case '?':
        rc = repeat(p, c == '+', c == '?' ? 1 : -1, before, last_repeat);
        repeated = true;
        break;
    case '{':
        rc = parse_counts(p, last_repeat, &repeated);
        break;
    default:
        rc = take_rune(p, &c);
        return rc < 0 ? rc : push_rune(p, c);
    }
    if (repeated)
        *previous = before;
    return rc;
}

kv_status ts_rx_parse(kv_slice pattern, struct ts_rx_tree *tree, struct kv_err *err)
{
    struct parser *p = kv_arena_zalloc(tree->arena, 1, sizeof *p);
    kv_slice previous = {0};
    kv_status rc = KV_OK;
    if (!p)
        return KV_NO_MEMORY;
    p->whole = p->in = pattern;
    p->tree = tree;
    p->err = err;
    p->flags = DOT_NEWLINE;
    while (p->in.len > 0)
        KV_TRY(parse_item(p, &previous));
    if (p->depth > 0)
        return fail(p, "missing closing )", pattern);
    tree->root = close_frame(p);
    rc = tree->root ? KV_OK : KV_NO_MEMORY;
out:
    return rc;
}
