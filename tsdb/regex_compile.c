/*
 * Tree to program (Thompson's construction, in the form of Cox's "Regular Expression Matching: the Virtual
 * Machine Approach", 2009), and the code points to classes: the coarsest partition in which every set of the
 * pattern is a union of classes, found by refining with one set after the other.
 */
#include "kvcore/base/mem.h"
#include "tsdb/regex_internal.h"

#include <stdlib.h>

struct compiler {
    struct ts_rx_tree *tree;
    struct ts_rx_program *program;
    struct kv_err *err;
};

static bool nullable(const struct ts_rx_node *node)
{
    bool any = node->op == TS_RX_ALTERNATE;
    switch (node->op) {
    case TS_RX_RUNE:
    case TS_RX_SET:
        return false;
    case TS_RX_EMPTY:
    case TS_RX_ASSERT:
        return true;
    case TS_RX_REPEAT:
        return node->min == 0 || nullable(node->sub);
    case TS_RX_CAPTURE:
    case TS_RX_CONCAT:
    case TS_RX_ALTERNATE:
        break;
    }
    for (const struct ts_rx_node *sub = node->sub; sub; sub = sub->next)
        if (nullable(sub) == any)
            return any;
    return !any;
}

/* ---- instructions -------------------------------------------------------------------------------------- */

static KV_MUST kv_status emit(struct compiler *c, enum ts_rx_inst_op op, uint32_t arg)
{
    struct ts_rx_program *program = c->program;
    if (program->n_insts == TS_REGEX_PROGRAM_MAX)
        return kv_fail(c->err, KV_LIMIT, 0,
                       "error parsing regexp: expression too large: more than %d instructions",
                       TS_REGEX_PROGRAM_MAX);
    program->insts[program->n_insts++] = (struct ts_rx_inst){.op = (uint8_t)op, .arg = arg};
    return KV_OK;
}

static uint16_t here(const struct compiler *c)
{
    return (uint16_t)c->program->n_insts;
}

/* A split at `at`: on to the instruction behind it, or to `skip`; greedy prefers the former. */
static void split_set(struct compiler *c, uint16_t at, uint16_t enter, uint16_t skip, bool lazy)
{
    struct ts_rx_inst *inst = &c->program->insts[at];
    inst->x = lazy ? skip : enter;
    inst->y = lazy ? enter : skip;
}

static KV_MUST kv_status emit_node(struct compiler *c, const struct ts_rx_node *node);

/* One or more: L: sub; split L, on. */
static KV_MUST kv_status emit_plus(struct compiler *c, const struct ts_rx_node *sub, bool lazy)
{
    uint16_t start = here(c);
    kv_status rc;
    KV_TRY(emit_node(c, sub));
    KV_TRY(emit(c, TS_RX_I_SPLIT, 0));
    split_set(c, (uint16_t)(here(c) - 1), start, here(c), lazy);
out:
    return rc;
}

/* Zero or more. Of something that may be empty it is (sub+)?, which keeps the order of preference right. */
static KV_MUST kv_status emit_star(struct compiler *c, const struct ts_rx_node *sub, bool lazy)
{
    uint16_t start = here(c);
    kv_status rc;
    KV_TRY(emit(c, TS_RX_I_SPLIT, 0));
    if (nullable(sub)) {
        KV_TRY(emit_plus(c, sub, lazy));
    } else {
        KV_TRY(emit_node(c, sub));
        KV_TRY(emit(c, TS_RX_I_JUMP, 0));
        c->program->insts[here(c) - 1].x = start;
    }
    split_set(c, start, (uint16_t)(start + 1), here(c), lazy);
out:
    return rc;
}

/* {min,max}: min copies, then nested optional ones that all skip to the end. */
static KV_MUST kv_status emit_repeat(struct compiler *c, const struct ts_rx_node *node)
{
    kv_status rc = KV_OK;
    int32_t copies = node->max == -1 && node->min > 0 ? node->min - 1 : node->min;
    for (int32_t i = 0; i < copies; i++)
        KV_TRY(emit_node(c, node->sub));
    if (node->max == -1)
        return node->min > 0 ? emit_plus(c, node->sub, node->lazy) : emit_star(c, node->sub, node->lazy);
    uint16_t open = UINT16_MAX; /* splits to be set, linked through x */
    for (int32_t i = node->min; i < node->max; i++) {
        KV_TRY(emit(c, TS_RX_I_SPLIT, 0));
        c->program->insts[here(c) - 1].x = open;
        open = (uint16_t)(here(c) - 1);
        KV_TRY(emit_node(c, node->sub));
    }
    while (open != UINT16_MAX) {
        uint16_t next = c->program->insts[open].x;
        split_set(c, open, (uint16_t)(open + 1), here(c), node->lazy);
        open = next;
    }
out:
    return rc;
}

static KV_MUST kv_status emit_alternate(struct compiler *c, const struct ts_rx_node *node)
{
    uint16_t open = UINT16_MAX; /* jumps to the end, linked through x */
    kv_status rc = KV_OK;
    for (const struct ts_rx_node *sub = node->sub; sub; sub = sub->next) {
        uint16_t split = here(c);
        if (sub->next)
            KV_TRY(emit(c, TS_RX_I_SPLIT, 0));
        KV_TRY(emit_node(c, sub));
        if (!sub->next)
            break;
        KV_TRY(emit(c, TS_RX_I_JUMP, 0));
        c->program->insts[here(c) - 1].x = open;
        open = (uint16_t)(here(c) - 1);
        split_set(c, split, (uint16_t)(split + 1), here(c), false);
    }
    while (open != UINT16_MAX) {
        uint16_t next = c->program->insts[open].x;
        c->program->insts[open].x = here(c);
        open = next;
    }
out:
    return rc;
}

static KV_MUST kv_status emit_rune(struct compiler *c, uint32_t rune)
{
    struct ts_rx_class class = {0};
    uint32_t index;
    kv_status rc;
    KV_TRY(ts_rx_class_add(&class, rune, rune));
    KV_TRY(ts_rx_tree_set(c->tree, &class, &index));
    rc = emit(c, TS_RX_I_SET, index);
out:
    kv_buf_release(&class.ranges);
    return rc;
}

static KV_MUST kv_status emit_node(struct compiler *c, const struct ts_rx_node *node)
{
    kv_status rc = KV_OK;
    bool kept = node->op == TS_RX_CAPTURE && node->arg < TS_REGEX_GROUPS_MAX;
    switch (node->op) {
    case TS_RX_EMPTY:
        return KV_OK;
    case TS_RX_RUNE:
        return emit_rune(c, node->arg);
    case TS_RX_SET:
        return emit(c, TS_RX_I_SET, node->arg);
    case TS_RX_ASSERT:
        c->program->has_asserts = true;
        return emit(c, TS_RX_I_ASSERT, node->arg);
    case TS_RX_REPEAT:
        return emit_repeat(c, node);
    case TS_RX_ALTERNATE:
        return emit_alternate(c, node);
    case TS_RX_CAPTURE:
    case TS_RX_CONCAT:
        break;
    }
    if (kept)
        KV_TRY(emit(c, TS_RX_I_SAVE, 2 * node->arg));
    for (const struct ts_rx_node *sub = node->sub; sub; sub = sub->next)
        KV_TRY(emit_node(c, sub));
    if (kept)
        KV_TRY(emit(c, TS_RX_I_SAVE, 2 * node->arg + 1));
out:
    return rc;
}

/* ---- classes of code points ---------------------------------------------------------------------------- */

static int u32_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static size_t interval_of(const struct ts_rx_program *program, uint32_t rune)
{
    size_t lo = 0, hi = program->n_intervals; /* starts[lo] <= rune < starts[hi] */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (program->starts[mid] <= rune)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

uint32_t ts_rx_class_of(const struct ts_rx_program *program, uint32_t rune)
{
    return rune < 128 ? program->ascii[rune] : program->classes[interval_of(program, rune)];
}

/* Where some set begins or ends. */
static KV_MUST kv_status find_intervals(const struct ts_rx_tree *tree, struct kv_arena *arena,
                                        struct ts_rx_program *program)
{
    size_t n = 1, kept = 1;
    for (size_t i = 0; i < tree->n_sets; i++)
        n += 2 * tree->sets[i].n;
    uint32_t *starts = kv_arena_alloc(arena, n * sizeof *starts);
    if (!starts)
        return KV_NO_MEMORY;
    starts[0] = 0;
    n = 1;
    for (size_t i = 0; i < tree->n_sets; i++) {
        for (size_t k = 0; k < tree->sets[i].n; k++) {
            starts[n++] = tree->sets[i].ranges[k].lo;
            starts[n++] = tree->sets[i].ranges[k].hi + 1;
        }
    }
    qsort(starts, n, sizeof *starts, u32_order);
    for (size_t i = 1; i < n; i++)
        if (starts[i] != starts[kept - 1] && starts[i] <= TS_RUNE_MAX)
            starts[kept++] = starts[i];
    program->starts = starts;
    program->n_intervals = kept;
    return KV_OK;
}

/* Splits every class that the set (whose intervals are marked in inside) cuts in two. */
static void refine(struct ts_rx_program *program, const uint8_t *inside, uint16_t *renamed, uint8_t *seen)
{
    size_t n = program->n_classes;
    memset(seen, 0, n);
    for (size_t i = 0; i < program->n_intervals; i++)
        seen[program->classes[i]] |= inside[i] ? 2 : 1;
    for (size_t k = 0; k < n; k++)
        renamed[k] = seen[k] == 3 ? (uint16_t)program->n_classes++ : (uint16_t)k;
    for (size_t i = 0; i < program->n_intervals; i++)
        if (inside[i])
            program->classes[i] = renamed[program->classes[i]];
}

static void mark_set(const struct ts_rx_program *program, const struct ts_rx_set *set, uint8_t *inside)
{
    memset(inside, 0, program->n_intervals);
    for (size_t k = 0; k < set->n; k++)
        for (size_t i = interval_of(program, set->ranges[k].lo);
             i < program->n_intervals && program->starts[i] <= set->ranges[k].hi; i++)
            inside[i] = 1;
}

static KV_MUST kv_status fill_members(const struct ts_rx_tree *tree, struct kv_arena *arena,
                                      struct ts_rx_program *program, uint8_t *inside)
{
    program->member_words = (program->n_classes + 63) / 64;
    program->members =
        kv_arena_zalloc(arena, tree->n_sets * program->member_words + 1, sizeof *program->members);
    program->beside = kv_arena_zalloc(arena, program->n_classes, 1);
    if (!program->members || !program->beside)
        return KV_NO_MEMORY;
    for (size_t s = 0; s < tree->n_sets; s++) {
        mark_set(program, &tree->sets[s], inside);
        for (size_t i = 0; i < program->n_intervals; i++)
            if (inside[i])
                program->members[s * program->member_words + program->classes[i] / 64] |=
                    UINT64_C(1) << (program->classes[i] % 64);
    }
    for (uint32_t c = 0; c < 128; c++) {
        bool letter = c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        program->ascii[c] = program->classes[interval_of(program, c)];
        if (program->has_asserts) /* only then do classes tell letters and newlines apart */
            program->beside[program->ascii[c]] = letter      ? TS_RX_LETTER
                                                 : c == '\n' ? TS_RX_NEWLINE
                                                             : TS_RX_OTHER;
    }
    return KV_OK;
}

static KV_MUST kv_status add_beside_sets(struct ts_rx_tree *tree)
{
    struct ts_rx_class class = {0};
    uint32_t index;
    kv_status rc;
    KV_TRY(ts_rx_class_add(&class, '\n', '\n'));
    KV_TRY(ts_rx_tree_set(tree, &class, &index));
    kv_buf_clear(&class.ranges);
    KV_TRY(ts_rx_class_add_perl(&class, 'w'));
    ts_rx_class_canonical(&class);
    rc = ts_rx_tree_set(tree, &class, &index);
out:
    kv_buf_release(&class.ranges);
    return rc;
}

static KV_MUST kv_status make_classes(struct ts_rx_tree *tree, struct kv_arena *arena,
                                      struct ts_rx_program *program)
{
    uint8_t *inside = NULL, *seen = NULL;
    uint16_t *renamed = NULL;
    kv_status rc = KV_OK;
    if (program->has_asserts)
        KV_TRY(add_beside_sets(tree));
    KV_TRY(find_intervals(tree, arena, program));
    program->classes = kv_arena_zalloc(arena, program->n_intervals, sizeof *program->classes);
    inside = kv_zalloc(program->n_intervals, 1);
    seen = kv_zalloc(program->n_intervals + 1, 1);
    renamed = kv_zalloc(program->n_intervals + 1, sizeof *renamed);
    rc = program->classes && inside && seen && renamed ? KV_OK : KV_NO_MEMORY;
    if (rc < 0)
        goto out;
    program->n_classes = 1;
    for (size_t s = 0; s < tree->n_sets; s++) {
        mark_set(program, &tree->sets[s], inside);
        refine(program, inside, renamed, seen);
    }
    rc = fill_members(tree, arena, program, inside);
out:
    kv_free(renamed);
    kv_free(seen);
    kv_free(inside);
    return rc;
}

kv_status ts_rx_compile(struct ts_rx_tree *tree, struct kv_arena *arena, struct ts_rx_program *program,
                        struct kv_err *err)
{
    struct compiler c = {tree, program, err};
    kv_status rc;
    *program = (struct ts_rx_program){0};
    struct ts_rx_inst *scratch = kv_arena_alloc(tree->arena, TS_REGEX_PROGRAM_MAX * sizeof *scratch);
    if (!scratch)
        return KV_NO_MEMORY;
    program->insts = scratch;
    KV_TRY(emit_node(&c, tree->root));
    KV_TRY(emit(&c, TS_RX_I_MATCH, 0));
    program->insts = kv_arena_alloc(arena, program->n_insts * sizeof *scratch);
    if (!program->insts)
        return KV_NO_MEMORY;
    memcpy(program->insts, scratch, program->n_insts * sizeof *scratch);
    size_t groups = tree->n_captures < TS_REGEX_GROUPS_MAX ? tree->n_captures + 1 : TS_REGEX_GROUPS_MAX;
    program->n_slots = 2 * groups;
    if (tree->n_captures > 0 && program->n_insts * program->n_slots > TS_REGEX_SLOTS_MAX)
        return kv_fail(err, KV_LIMIT, 0,
                       "error parsing regexp: expression too large: %zu instructions with %zu groups",
                       program->n_insts, groups);
    rc = make_classes(tree, arena, program);
out:
    return rc;
}
