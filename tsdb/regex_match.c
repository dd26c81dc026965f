/*
 * Matching. A DFA state is the set of instructions that consume, assert or match, reached before the next
 * code point is known, plus what stands in front (for assertions, which are resolved once the next class is
 * known). States and their transitions are made when first needed, under the lock, and published through
 * atomic pointers, so known transitions cost no lock. They are never thrown away: past
 * TS_REGEX_DFA_BYTES_MAX, or when memory is short, texts that need a new state finish as an NFA simulation
 * under the lock.
 */
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"
#include "tsdb/regex_internal.h"

struct state {
    struct state *chain; /* of the hash table */
    uint64_t hash;
    uint8_t front;     /* enum ts_rx_beside */
    bool matches_here; /* at the end of the text */
    uint16_t n;
    uint16_t *pcs;                  /* sorted */
    _Atomic(struct state *) next[]; /* by class */
};

enum { BUCKETS = 256 };

struct thread_list { /* of the pass for groups: threads in order of preference */
    uint16_t *pcs;
    size_t n;
    size_t *slots; /* n_slots for each */
};

struct ts_rx_matcher {
    const struct ts_rx_program *program;
    _Atomic(struct state *) start;
    kv_mutex lock; /* everything below */
    struct state *buckets[BUCKETS];
    size_t bytes;
    uint32_t *marks; /* instruction visited in round `round` */
    uint32_t round;
    struct {
        uint16_t pc;
        uint16_t slot; /* UINT16_MAX: visit pc; else restore this slot */
        size_t old;
    } * stack; /* one entry for each instruction and one for each SAVE can be open */
    uint16_t *pcs[2];
    struct thread_list lists[2]; /* slots: only with groups */
};

/* ---- following instructions that consume nothing ------------------------------------------------------- */

static void round_next(struct ts_rx_matcher *m)
{
    if (++m->round == 0) {
        memset(m->marks, 0, m->program->n_insts * sizeof *m->marks);
        m->round = 1;
    }
}

static bool assert_holds(uint32_t assert, uint8_t front, uint8_t behind)
{
    bool boundary = (front == TS_RX_LETTER) != (behind == TS_RX_LETTER);
    switch (assert) {
    case TS_RX_BEGIN_TEXT:
        return front == TS_RX_EDGE;
    case TS_RX_END_TEXT:
        return behind == TS_RX_EDGE;
    case TS_RX_BEGIN_LINE:
        return front == TS_RX_EDGE || front == TS_RX_NEWLINE;
    case TS_RX_END_LINE:
        return behind == TS_RX_EDGE || behind == TS_RX_NEWLINE;
    case TS_RX_WORD:
        return boundary;
    default:
        return !boundary;
    }
}

/* Appends to out what pc leads to without consuming. Assertions are passed when the surroundings are known
 * and they hold, else kept. */
static size_t follow(struct ts_rx_matcher *m, uint16_t pc, bool known, uint8_t front, uint8_t behind,
                     uint16_t *out, size_t n)
{
    size_t depth = 0;
    m->stack[depth++].pc = pc;
    while (depth > 0) {
        pc = m->stack[--depth].pc;
        if (m->marks[pc] == m->round)
            continue;
        m->marks[pc] = m->round;
        const struct ts_rx_inst *inst = &m->program->insts[pc];
        switch (inst->op) {
        case TS_RX_I_SPLIT:
            m->stack[depth++].pc = inst->y;
            m->stack[depth++].pc = inst->x;
            break;
        case TS_RX_I_JUMP:
            m->stack[depth++].pc = inst->x;
            break;
        case TS_RX_I_SAVE:
            m->stack[depth++].pc = (uint16_t)(pc + 1);
            break;
        case TS_RX_I_ASSERT:
            if (!known)
                out[n++] = pc;
            else if (assert_holds(inst->arg, front, behind))
                m->stack[depth++].pc = (uint16_t)(pc + 1);
            break;
        default:
            out[n++] = pc;
        }
    }
    return n;
}

/* The instructions in `in` with assertions resolved, in out. */
static size_t resolve(struct ts_rx_matcher *m, const uint16_t *in, size_t n_in, uint8_t front, uint8_t behind,
                      uint16_t *out)
{
    size_t n = 0;
    round_next(m);
    for (size_t i = 0; i < n_in; i++)
        n = follow(m, in[i], true, front, behind, out, n);
    return n;
}

/* One step over a code point of `class`: from pcs (in m->pcs[0] or a state) to m->pcs[1]. */
static size_t step(struct ts_rx_matcher *m, const uint16_t *in, size_t n_in, uint8_t front, uint32_t class)
{
    const struct ts_rx_program *program = m->program;
    size_t n = 0;
    if (program->has_asserts) {
        n_in = resolve(m, in, n_in, front, program->beside[class], m->lists[0].pcs);
        in = m->lists[0].pcs;
    }
    round_next(m);
    for (size_t i = 0; i < n_in; i++) {
        const struct ts_rx_inst *inst = &program->insts[in[i]];
        if (inst->op == TS_RX_I_SET && ts_rx_set_has(program, inst->arg, class))
            n = follow(m, (uint16_t)(in[i] + 1), false, 0, 0, m->pcs[1], n);
    }
    return n;
}

static bool accepts(struct ts_rx_matcher *m, const uint16_t *in, size_t n_in, uint8_t front)
{
    size_t n = resolve(m, in, n_in, front, TS_RX_EDGE, m->lists[0].pcs);
    for (size_t i = 0; i < n; i++)
        if (m->program->insts[m->lists[0].pcs[i]].op == TS_RX_I_MATCH)
            return true;
    return false;
}

/* ---- DFA
 * ---------------------------------------------------------------------------------------------------------
 */

static uint32_t take_class(const struct ts_rx_program *program, kv_slice *text)
{
    size_t len = 1;
    uint8_t byte = text->data[0];
    uint32_t class = byte < 128 ? program->ascii[byte] : ts_rx_class_of(program, ts_rx_rune(*text, &len));
    *text = kv_slice_from(*text, len);
    return class;
}

static void sort_pcs(uint16_t *pcs, size_t n)
{
    for (size_t gap = n / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < n; i++) {
            uint16_t moved = pcs[i];
            size_t j = i;
            for (; j >= gap && pcs[j - gap] > moved; j -= gap)
                pcs[j] = pcs[j - gap];
            pcs[j] = moved;
        }
    }
}

/* The state of n instructions in m->pcs[1]; NULL when there is no room for it. */
static struct state *state_of(struct ts_rx_matcher *m, size_t n, uint8_t front)
{
    size_t n_classes = m->program->n_classes;
    sort_pcs(m->pcs[1], n);
    uint64_t hash = kv_hash64(kv_slice_of(m->pcs[1], n * sizeof(uint16_t)), front);
    struct state **bucket = &m->buckets[hash % BUCKETS];
    for (struct state *s = *bucket; s; s = s->chain)
        if (s->hash == hash && s->front == front && s->n == n &&
            memcmp(s->pcs, m->pcs[1], n * sizeof(uint16_t)) == 0)
            return s;
    size_t size = sizeof(struct state) + n_classes * sizeof(struct state *) + n * sizeof(uint16_t);
    struct state *s = m->bytes + size <= TS_REGEX_DFA_BYTES_MAX ? kv_alloc(size) : NULL;
    if (!s)
        return NULL;
    m->bytes += size;
    *s = (struct state){.chain = *bucket, .hash = hash, .front = front, .n = (uint16_t)n};
    for (size_t i = 0; i < n_classes; i++)
        atomic_init(&s->next[i], NULL);
    s->pcs = (uint16_t *)(void *)((uint8_t *)s + sizeof(struct state) + n_classes * sizeof(struct state *));
    memcpy(s->pcs, m->pcs[1], n * sizeof(uint16_t));
    s->matches_here = accepts(m, s->pcs, n, front);
    *bucket = s;
    return s;
}

static struct state *start_state(struct ts_rx_matcher *m)
{
    round_next(m);
    size_t n = follow(m, 0, false, 0, 0, m->pcs[1], 0);
    struct state *s = state_of(m, n, m->program->has_asserts ? TS_RX_EDGE : TS_RX_OTHER);
    atomic_store_explicit(&m->start, s, memory_order_release);
    return s;
}

/* The rest of the text without new states. front_pcs are in m->pcs[1]. */
static bool simulate(struct ts_rx_matcher *m, size_t n, uint8_t front, kv_slice text)
{
    while (text.len > 0 && n > 0) {
        uint32_t class = take_class(m->program, &text);
        uint16_t *swap = m->pcs[0];
        m->pcs[0] = m->pcs[1];
        m->pcs[1] = swap;
        n = step(m, m->pcs[0], n, front, class);
        front = m->program->beside[class];
    }
    return n > 0 && accepts(m, m->pcs[1], n, front);
}

/* Makes the transition of s (NULL: into the start) that is missing. *next NULL: no room; then *matches is the
 * answer for the whole text. */
static struct state *transition(struct ts_rx_matcher *m, struct state *s, kv_slice text, bool *matches)
{
    struct state *next;
    kv_mutex_lock(&m->lock);
    if (!s) {
        next = start_state(m);
        if (!next) {
            round_next(m);
            size_t n = follow(m, 0, false, 0, 0, m->pcs[1], 0);
            *matches = simulate(m, n, m->program->has_asserts ? TS_RX_EDGE : TS_RX_OTHER, text);
        }
    } else {
        uint32_t class = take_class(m->program, &text);
        size_t n = step(m, s->pcs, s->n, s->front, class);
        next = state_of(m, n, m->program->beside[class]);
        if (next)
            atomic_store_explicit(&s->next[class], next, memory_order_release);
        else
            *matches = simulate(m, n, m->program->beside[class], text);
    }
    kv_mutex_unlock(&m->lock);
    return next;
}

bool ts_rx_matcher_matches(struct ts_rx_matcher *m, kv_slice text)
{
    bool matches = false;
    struct state *s = atomic_load_explicit(&m->start, memory_order_acquire);
    if (!s)
        s = transition(m, NULL, text, &matches);
    while (s && text.len > 0 && s->n > 0) {
        kv_slice before = text;
        uint32_t class = take_class(m->program, &text);
        struct state *next = atomic_load_explicit(&s->next[class], memory_order_acquire);
        s = next ? next : transition(m, s, before, &matches);
    }
    return s ? s->matches_here : matches;
}

/* ---- groups -------------------------------------------------------------------------------------------- */

/*
 * Adds the threads that pc leads to, in order of preference, each with its slots. slots is worked on in place
 * and is as before at the end.
 */
static void threads_add(struct ts_rx_matcher *m, struct thread_list *list, uint16_t pc, size_t *slots,
                        size_t offset, uint8_t front, uint8_t behind)
{
    size_t depth = 0, n_slots = m->program->n_slots;
    m->stack[depth].slot = UINT16_MAX;
    m->stack[depth++].pc = pc;
    while (depth > 0) {
        depth--;
        if (m->stack[depth].slot != UINT16_MAX) {
            slots[m->stack[depth].slot] = m->stack[depth].old;
            continue;
        }
        pc = m->stack[depth].pc;
        if (m->marks[pc] == m->round)
            continue;
        m->marks[pc] = m->round;
        const struct ts_rx_inst *inst = &m->program->insts[pc];
        uint16_t next = inst->op == TS_RX_I_JUMP || inst->op == TS_RX_I_SPLIT ? inst->x : (uint16_t)(pc + 1);
        if (inst->op == TS_RX_I_SET || inst->op == TS_RX_I_MATCH) {
            list->pcs[list->n] = pc;
            memcpy(list->slots + list->n++ * n_slots, slots, n_slots * sizeof *slots);
            continue;
        }
        if (inst->op == TS_RX_I_ASSERT && !assert_holds(inst->arg, front, behind))
            continue;
        if (inst->op == TS_RX_I_SPLIT) {
            m->stack[depth].slot = UINT16_MAX;
            m->stack[depth++].pc = inst->y;
        } else if (inst->op == TS_RX_I_SAVE) {
            m->stack[depth].slot = (uint16_t)inst->arg;
            m->stack[depth++].old = slots[inst->arg];
            slots[inst->arg] = offset;
        }
        m->stack[depth].slot = UINT16_MAX;
        m->stack[depth++].pc = next;
    }
}

static uint8_t beside_next(const struct ts_rx_program *program, kv_slice text)
{
    return text.len ? program->beside[take_class(program, &text)] : TS_RX_EDGE;
}

static bool groups_locked(struct ts_rx_matcher *m, kv_slice text, size_t *ends)
{
    const struct ts_rx_program *program = m->program;
    size_t n_slots = program->n_slots;
    struct thread_list *now = &m->lists[0], *then = &m->lists[1];
    kv_slice rest = text;
    uint8_t front = TS_RX_EDGE;
    for (size_t i = 0; i < n_slots; i++)
        ends[i] = SIZE_MAX;
    round_next(m);
    now->n = 0;
    threads_add(m, now, 0, ends, 0, front, beside_next(program, rest));
    while (rest.len > 0 && now->n > 0) {
        uint32_t class = take_class(program, &rest);
        front = program->beside[class];
        uint8_t behind = beside_next(program, rest);
        round_next(m);
        then->n = 0;
        for (size_t i = 0; i < now->n; i++) {
            const struct ts_rx_inst *inst = &program->insts[now->pcs[i]];
            if (inst->op == TS_RX_I_SET && ts_rx_set_has(program, inst->arg, class))
                threads_add(m, then, (uint16_t)(now->pcs[i] + 1), now->slots + i * n_slots,
                            text.len - rest.len, front, behind);
        }
        struct thread_list *swap = now;
        now = then;
        then = swap;
    }
    for (size_t i = 0; i < now->n && rest.len == 0; i++) {
        if (program->insts[now->pcs[i]].op != TS_RX_I_MATCH)
            continue;
        memcpy(ends, now->slots + i * n_slots, n_slots * sizeof *ends);
        return true;
    }
    return false;
}

bool ts_rx_matcher_groups(struct ts_rx_matcher *m, kv_slice text, size_t *ends)
{
    kv_mutex_lock(&m->lock);
    bool matches = groups_locked(m, text, ends);
    kv_mutex_unlock(&m->lock);
    return matches;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

kv_status ts_rx_matcher_new(const struct ts_rx_program *program, struct ts_rx_matcher **out)
{
    size_t n = program->n_insts;
    struct ts_rx_matcher *m = kv_zalloc(1, sizeof *m);
    if (!m)
        return KV_NO_MEMORY;
    m->program = program;
    kv_mutex_init(&m->lock);
    m->marks = kv_zalloc(n, sizeof *m->marks);
    m->stack = kv_zalloc(3 * n + 2, sizeof *m->stack);
    bool ok = m->marks && m->stack;
    for (int i = 0; i < 2; i++) {
        m->pcs[i] = kv_zalloc(n, sizeof *m->pcs[i]);
        m->lists[i].pcs = kv_zalloc(n, sizeof *m->lists[i].pcs);
        m->lists[i].slots = program->n_slots > 2 ? kv_zalloc(n * program->n_slots, sizeof(size_t)) : NULL;
        ok = ok && m->pcs[i] && m->lists[i].pcs && (program->n_slots <= 2 || m->lists[i].slots);
    }
    if (!ok) {
        ts_rx_matcher_free(m);
        return KV_NO_MEMORY;
    }
    *out = m;
    return KV_OK;
}

void ts_rx_matcher_free(struct ts_rx_matcher *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct state *s = m->buckets[i], *chain; s; s = chain) {
            chain = s->chain;
            kv_free(s);
        }
    }
    for (int i = 0; i < 2; i++) {
        kv_free(m->pcs[i]);
        kv_free(m->lists[i].pcs);
        kv_free(m->lists[i].slots);
    }
    kv_free(m->stack);
    kv_free(m->marks);
    kv_mutex_release(&m->lock);
    kv_free(m);
}
