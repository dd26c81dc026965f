/*
 * regex_internal.h - what the files of the regular expression engine share: tree, program, and the passes
 * between them.
 *
 *     regex_parse.c    text -> tree (explicit stack; Go's errors)
 *     regex_class.c    sets of code points
 *     regex_hint.c     tree -> short cuts: literals, prefix, suffix, containment
 *     regex_compile.c  tree -> program over classes of code points that no set of the pattern tells apart
 *     regex_match.c    lazy DFA, NFA, groups
 *     regex.c          the public face
 *
 * Depth: the tree is at most about four times TS_REGEX_NESTING_MAX deep, so passes over it may recurse;
 * nothing recurses on the text.
 */
#ifndef TS_REGEX_INTERNAL_H
#define TS_REGEX_INTERNAL_H

#include "kvcore/base/arena.h"
#include "kvcore/os/thread.h"
#include "tsdb/regex.h"

#include <stdatomic.h>

enum {
    TS_REGEX_PATTERN_LEN_MAX = 4096,
    TS_REGEX_PROGRAM_MAX = 10000, /* instructions */
    TS_REGEX_REPEAT_MAX = 1000,
    TS_REGEX_NESTING_MAX = 100,
    TS_REGEX_DFA_BYTES_MAX = 1 << 20,
    TS_REGEX_SLOTS_MAX = 1 << 20, /* instructions x group ends, of one pass for groups */
    TS_REGEX_LITERALS_MAX = 1000, /* an alternation is taken for literals up to so many */
    TS_REGEX_LITERAL_BYTES_MAX = 64 << 10,
    TS_RUNE_MAX = 0x10ffff,
    TS_RUNE_BAD = 0xfffd, /* what a byte that is not UTF-8 counts as */
};

/* ---- sets of code points ------------------------------------------------------------------------------- */

struct ts_rx_range {
    uint32_t lo, hi; /* both inclusive */
};
struct ts_rx_set { /* canonical: sorted, disjoint, not touching */
    struct ts_rx_range *ranges;
    size_t n;
};
/* A set being built: ranges in any order. */
struct ts_rx_class {
    struct kv_buf ranges; /* of struct ts_rx_range */
};
KV_MUST kv_status ts_rx_class_add(struct ts_rx_class *class, uint32_t lo, uint32_t hi);
KV_MUST kv_status ts_rx_class_add_set(struct ts_rx_class *class, const struct ts_rx_class *other);
void ts_rx_class_canonical(struct ts_rx_class *class);
KV_MUST kv_status ts_rx_class_negate(struct ts_rx_class *class);
/* Adds everything that simple case folding makes equal to a member. */
KV_MUST kv_status ts_rx_class_fold(struct ts_rx_class *class);
/* kind: d, s, w (Perl). */
KV_MUST kv_status ts_rx_class_add_perl(struct ts_rx_class *class, char kind);
/* name: "alpha", ... KV_NOT_FOUND: no such POSIX class. */
KV_MUST kv_status ts_rx_class_add_posix(struct ts_rx_class *class, kv_slice name);
/* name: "L", "Lu", "Greek", "Any". KV_NOT_FOUND: no such category or script. */
KV_MUST kv_status ts_rx_class_add_unicode(struct ts_rx_class *class, kv_slice name);

/* Decodes one code point at the front of text (not empty): TS_RUNE_BAD and one byte where it is not UTF-8. */
uint32_t ts_rx_rune(kv_slice text, size_t *len);
/* room for 4 */
size_t ts_rx_rune_encode(uint32_t rune, uint8_t *out);

/* ---- tree ---------------------------------------------------------------------------------------------- */

enum ts_rx_op {
    TS_RX_EMPTY,
    TS_RX_RUNE,
    TS_RX_SET,
    TS_RX_ASSERT,
    TS_RX_CAPTURE,
    TS_RX_REPEAT, /* * is {0,-1}, + is {1,-1}, ? is {0,1} */
    TS_RX_CONCAT,
    TS_RX_ALTERNATE,
};
enum ts_rx_assert {
    TS_RX_BEGIN_TEXT = 1,
    TS_RX_END_TEXT = 2,
    TS_RX_BEGIN_LINE = 4,
    TS_RX_END_LINE = 8,
    TS_RX_WORD = 16,
    TS_RX_NOT_WORD = 32,
};
struct ts_rx_node {
    enum ts_rx_op op;
    bool lazy;        /* REPEAT */
    uint32_t arg;     /* RUNE: code point; SET: index; ASSERT: one of ts_rx_assert; CAPTURE: number from 1 */
    int32_t min, max; /* REPEAT; max -1: without end */
    struct ts_rx_node *next; /* sibling */
    struct ts_rx_node *sub;  /* first child */
};
struct ts_rx_tree {
    struct kv_arena *arena;
    struct ts_rx_node *root;
    struct ts_rx_set *sets; /* each once */
    size_t n_sets, sets_capacity;
    kv_slice *names; /* of captures, empty if unnamed; [0] is unused */
    size_t n_captures;
};
KV_MUST kv_status ts_rx_parse(kv_slice pattern, struct ts_rx_tree *tree, struct kv_err *err);
/* The index of a canonical class in tree->sets. */
KV_MUST kv_status ts_rx_tree_set(struct ts_rx_tree *tree, const struct ts_rx_class *class, uint32_t *index);

/* ---- short cuts ---------------------------------------------------------------------------------------- */

enum ts_rx_shape {
    TS_RX_GENERAL = 0,
    TS_RX_LITERALS, /* text is one of literals */
    TS_RX_AFFIX,    /* before literal after: each of the two nothing, anything, or anything but nothing */
};
enum ts_rx_gap { TS_RX_GAP_NONE = 0, TS_RX_GAP_ANY, TS_RX_GAP_SOME };
struct ts_rx_hint {
    enum ts_rx_shape shape;
    kv_slice *literals; /* sorted, each once */
    size_t n_literals;
    enum ts_rx_gap before, after;
    kv_slice literal;
    kv_slice prefix, suffix; /* every match begins, ends with */
};
KV_MUST kv_status ts_rx_hint_make(const struct ts_rx_tree *tree, struct kv_arena *arena,
                                  struct ts_rx_hint *hint);

/* ---- program ------------------------------------------------------------------------------------------- */

enum ts_rx_inst_op { TS_RX_I_SET, TS_RX_I_ASSERT, TS_RX_I_SPLIT, TS_RX_I_JUMP, TS_RX_I_SAVE, TS_RX_I_MATCH };
/* All but SPLIT, JUMP and MATCH go on at the next instruction. */
struct ts_rx_inst {
    uint8_t op;
    uint16_t x, y; /* SPLIT: first choice and second; JUMP: x */
    uint32_t arg;  /* SET: index; ASSERT; SAVE: slot */
};
/* What stands beside a position, for assertions. */
enum ts_rx_beside { TS_RX_OTHER = 0, TS_RX_LETTER, TS_RX_NEWLINE, TS_RX_EDGE };
struct ts_rx_program {
    struct ts_rx_inst *insts;
    size_t n_insts;
    size_t n_slots; /* 2 * groups kept */
    bool has_asserts;
    uint32_t *starts;  /* code points at which a new class of code points begins; [0] is 0 */
    uint16_t *classes; /* class of each interval */
    size_t n_intervals, n_classes;
    uint8_t *beside;     /* of each class */
    uint64_t *members;   /* bit matrix: set x class */
    size_t member_words; /* a set's row */
    uint16_t ascii[128]; /* class of each */
};
KV_MUST kv_status ts_rx_compile(struct ts_rx_tree *tree, struct kv_arena *arena,
                                struct ts_rx_program *program, struct kv_err *err);
static inline bool ts_rx_set_has(const struct ts_rx_program *program, uint32_t set, uint32_t class)
{
    return program->members[set * program->member_words + class / 64] >> (class % 64) & 1;
}
uint32_t ts_rx_class_of(const struct ts_rx_program *program, uint32_t rune);

/* ---- matching ------------------------------------------------------------------------------------------ */

struct ts_rx_matcher;
KV_MUST kv_status ts_rx_matcher_new(const struct ts_rx_program *program, struct ts_rx_matcher **out);
void ts_rx_matcher_free(struct ts_rx_matcher *matcher);
bool ts_rx_matcher_matches(struct ts_rx_matcher *matcher, kv_slice text);
/* ends: program->n_slots offsets, SIZE_MAX where unset. */
bool ts_rx_matcher_groups(struct ts_rx_matcher *matcher, kv_slice text, size_t *ends);

struct ts_regex {
    struct kv_arena arena; /* program, hints and names */
    struct ts_rx_program program;
    struct ts_rx_hint hint;
    kv_slice *names;
    size_t n_captures;
    struct ts_rx_matcher *matcher;
};

#endif
