/*
 * join.c - binary operators between two vectors. Both sides are taken whole and sorted into match groups (the
 * series that agree on the matching labels); a group with one series on each side, which is nearly every
 * group, is one loop over two columns. Elsewhere it goes step by step, since what may match many times over
 * may differ at every step.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/query/binary.h"
#include "tsdb/query/labelset.h"

enum { ONE = 0, MANY = 1 }; /* sides. One-to-one: the right is the one side. */

struct match_group {
    uint32_t first[2], count[2]; /* slices of order[side] */
};

struct join_op {
    struct ts_operator op;
    struct ts_operator *left, *right;
    struct ts_name_list names;
    struct ts_keys keys;
    struct ts_pool pool;
    struct ts_rows rows[2]; /* ONE, MANY; for set operators ONE is right, MANY is left */
    uint32_t *group_of[2];  /* of each row */
    uint32_t *order[2];     /* rows by group */
    struct match_group *groups;
    struct ts_rows result;
    struct ts_keys result_keys; /* rows of result by labels */
    uint64_t *stamps;           /* of each result row: the last group and step it was matched in */
    size_t stamps_room;
    uint64_t stamp;
    struct join_memo {
        const struct ts_column *one;
        size_t row;
    } * memos;         /* of each many row: its result with the one it was last matched with */
    uint8_t *presence; /* set operators, group by group: whether the other side has a value at the step */
    struct ts_label *scratch;
    size_t scratch_room;
    double *column;
    size_t at;
    bool started;
};

static const struct ts_matching *join_matching(const struct join_op *self)
{
    return &self->op.expr->binary.matching;
}
static bool join_swapped(const struct join_op *self)
{
    return join_matching(self)->card == TS_CARD_ONE_TO_MANY;
}

/* ---- match groups */

static kv_status groups_number(struct join_op *self, int side)
{
    struct ts_rows *rows = &self->rows[side];
    kv_status rc = KV_OK;
    self->group_of[side] = ts_pool_alloc(&self->pool, (rows->n + 1) * sizeof(uint32_t));
    self->order[side] = ts_pool_alloc(&self->pool, (rows->n + 1) * sizeof(uint32_t));
    if (!self->group_of[side] || !self->order[side])
        return ts_pool_status(&self->pool);
    for (size_t i = 0; i < rows->n; i++) {
        size_t index;
        bool is_new;
        KV_TRY(ts_labels_key(rows->items[i].labels, rows->items[i].n_labels, &self->names,
                             join_matching(self)->on, &self->keys.scratch));
        KV_TRY(ts_keys_put(&self->keys, kv_buf_slice(&self->keys.scratch), &index, &is_new));
        self->group_of[side][i] = (uint32_t)index;
    }
out:
    return ts_run_status(self->op.run, rc, NULL);
}

static void groups_order(struct join_op *self, int side)
{
    uint32_t at = 0;
    for (size_t i = 0; i < self->rows[side].n; i++)
        self->groups[self->group_of[side][i]].count[side]++;
    for (size_t g = 0; g < self->keys.n; g++) {
        self->groups[g].first[side] = at;
        at += self->groups[g].count[side];
        self->groups[g].count[side] = 0;
    }
    for (size_t i = 0; i < self->rows[side].n; i++) {
        struct match_group *group = &self->groups[self->group_of[side][i]];
        self->order[side][group->first[side] + group->count[side]++] = (uint32_t)i;
    }
}

static kv_status groups_make(struct join_op *self)
{
    kv_status rc;
    KV_TRY(groups_number(self, ONE));
    KV_TRY(groups_number(self, MANY));
    self->groups = ts_pool_alloc(&self->pool, (self->keys.n + 1) * sizeof(*self->groups));
    if (!self->groups)
        return ts_pool_status(&self->pool);
    memset(self->groups, 0, (self->keys.n + 1) * sizeof(*self->groups));
    groups_order(self, ONE);
    groups_order(self, MANY);
out:
    return rc;
}

/* ---- result labels */

/* What a match of these two series is called. many or one may be NULL: filled in. Into scratch; answers the
 * count. */
static kv_status result_labels(struct join_op *self, const struct ts_column *many,
                               const struct ts_column *one, size_t *count)
{
    const struct ts_binary *how = &self->op.expr->binary;
    const struct ts_matching *matching = &how->matching;
    const struct ts_column *base = many ? many : one; /* a filled side has the matching labels alone */
    KV_ASSERT(base);
    size_t room = (many ? many->n_labels : 0) + (one ? one->n_labels : 0) + matching->n_include + 1;
    kv_status rc =
        ts_run_grow(self->op.run, (void **)&self->scratch, &self->scratch_room, room, sizeof(*self->scratch));
    if (rc < 0)
        return rc;
    size_t n = base->n_labels;
    if (n)
        memcpy(self->scratch, base->labels, n * sizeof(*self->scratch));
    if (!many)
        n = ts_labels_project(self->scratch, n, &self->names, matching->on, self->scratch);
    bool drops = !ts_op_is_comparison(how->op) || (how->returns_bool && !self->op.run->delayed_names);
    if (drops)
        n = ts_labels_drop_name(self->scratch, n, self->scratch);
    if (matching->card == TS_CARD_ONE_TO_ONE) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (ts_name_list_has(&self->names, self->scratch[i].name) == matching->on)
                self->scratch[kept++] = self->scratch[i];
        n = kept;
    }
    for (size_t i = 0; i < matching->n_include; i++) {
        kv_slice value = {NULL, 0};
        if (one)
            value = ts_labels_get(one->labels, one->n_labels, matching->include[i]);
        else if (matching->on == ts_name_list_has(&self->names, matching->include[i]))
            value = ts_labels_get(many->labels, many->n_labels, matching->include[i]);
        n = ts_labels_set(self->scratch, n, matching->include[i], value);
    }
    *count = n;
    return KV_OK;
}

/* The row that a match of these two belongs to. */
static kv_status result_row(struct join_op *self, const struct ts_column *many, const struct ts_column *one,
                            size_t *row, bool *is_new)
{
    size_t n;
    kv_status rc;
    KV_TRY(result_labels(self, many, one, &n));
    KV_TRY(ts_labels_key_all(self->scratch, n, &self->result_keys.scratch));
    KV_TRY(ts_keys_put(&self->result_keys, kv_buf_slice(&self->result_keys.scratch), row, is_new));
    if (*is_new) {
        struct ts_column made = {self->scratch, n, false, self->column};
        made.drop_name = self->op.run->delayed_names && self->op.expr->binary.returns_bool;
        ts_column_fill(self->column, self->op.grid.n, ts_absent());
        KV_TRY(ts_rows_add(&self->result, &made, self->op.grid.n));
        KV_TRY(ts_run_grow(self->op.run, (void **)&self->stamps, &self->stamps_room, *row + 1,
                           sizeof(*self->stamps)));
        self->stamps[*row] = 0;
    }
out:
    return ts_run_status(self->op.run, rc, NULL);
}

/* ---- failures */

static bool any_at(const struct ts_rows *rows, size_t step)
{
    for (size_t i = 0; i < rows->n; i++)
        if (!ts_is_absent(rows->items[i].values[step]))
            return true;
    return false;
}

static kv_status fail_duplicate(struct join_op *self, const struct ts_column *a, const struct ts_column *b)
{
    struct kv_buf group = {.max = 4096}, first = {.max = 4096}, second = {.max = 4096};
    kv_status rc;
    KV_TRY(ts_run_grow(self->op.run, (void **)&self->scratch, &self->scratch_room, a->n_labels + 1,
                       sizeof(*self->scratch)));
    size_t n =
        ts_labels_project(a->labels, a->n_labels, &self->names, join_matching(self)->on, self->scratch);
    KV_TRY(ts_labels_print(self->scratch, n, &group));
    KV_TRY(ts_labels_print(a->labels, a->n_labels, &first));
    KV_TRY(ts_labels_print(b->labels, b->n_labels, &second));
    bool ordered = kv_slice_compare(kv_buf_slice(&first), kv_buf_slice(&second)) <= 0;
    rc = ts_run_fail(
        self->op.run, TS_QUERY_EXECUTION, KV_INVALID,
        "found duplicate series for the match group %.*s on the %s hand-side of the operation: [%.*s, "
        "%.*s];many-to-many matching not allowed: matching labels must be unique on one side",
        KV_ARG(kv_buf_slice(&group)), join_swapped(self) ? "left" : "right",
        KV_ARG(kv_buf_slice(ordered ? &first : &second)), KV_ARG(kv_buf_slice(ordered ? &second : &first)));
out:
    kv_buf_release(&group);
    kv_buf_release(&first);
    kv_buf_release(&second);
    return ts_run_status(self->op.run, rc, NULL);
}

static kv_status fail_ambiguous(struct join_op *self)
{
    return ts_run_fail(
        self->op.run, TS_QUERY_EXECUTION, KV_INVALID,
        join_matching(self)->card == TS_CARD_ONE_TO_ONE
            ? "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
            : "multiple matches for labels: grouping labels must ensure unique matches");
}

/* ---- a group with one series on each side */

static kv_status result_join(struct join_op *self, size_t row)
{
    double *into = self->result.items[row].values;
    for (size_t i = 0; i < self->op.grid.n; i++) {
        if (ts_is_absent(self->column[i]))
            continue;
        if (!ts_is_absent(into[i]))
            return ts_run_fail(self->op.run, TS_QUERY_EXECUTION, KV_INVALID,
                               "vector cannot contain metrics with the same labelset");
        into[i] = self->column[i];
    }
    return KV_OK;
}

static kv_status join_pair(struct join_op *self, const struct ts_column *many, const struct ts_column *one)
{
    const struct ts_binary *how = &self->op.expr->binary;
    const double *left = join_swapped(self) ? one->values : many->values;
    const double *right = join_swapped(self) ? many->values : one->values;
    size_t row = 0;
    bool is_new;
    kv_status rc = result_row(self, many, one, &row, &is_new);
    if (rc < 0)
        return rc;
    ts_columns_binary(how->op, how->returns_bool, left, right, left, self->column, self->op.grid.n);
    return result_join(self, row);
}

/* ---- any group, step by step */

static const struct ts_column *group_row(const struct join_op *self, const struct match_group *group,
                                         int side, uint32_t i)
{
    return &self->rows[side].items[self->order[side][group->first[side] + i]];
}

/* The one side's series at this step: NULL when none has a value. */
static kv_status step_one(struct join_op *self, const struct match_group *group, size_t step,
                          const struct ts_column **out)
{
    const struct ts_matching *matching = join_matching(self);
    *out = NULL;
    for (uint32_t i = 0; i < group->count[ONE]; i++) {
        const struct ts_column *row = group_row(self, group, ONE, i);
        if (ts_is_absent(row->values[step]))
            continue;
        if (*out && (matching->fills_left || matching->fills_right || any_at(&self->rows[MANY], step)))
            return fail_duplicate(self, *out, row);
        *out = row;
    }
    return KV_OK;
}

/* As result_row, remembered: most series meet the same partner at every step. */
static kv_status memo_row(struct join_op *self, const struct ts_column *many, const struct ts_column *one,
                          size_t *row)
{
    bool is_new;
    struct join_memo *memo = many ? &self->memos[many - self->rows[MANY].items] : NULL;
    if (memo && memo->one == one && memo->row != SIZE_MAX) {
        *row = memo->row;
        return KV_OK;
    }
    kv_status rc = result_row(self, many, one, row, &is_new);
    if (rc == KV_OK && memo)
        *memo = (struct join_memo){one, *row};
    return rc;
}

static kv_status step_match(struct join_op *self, const struct ts_column *many, const struct ts_column *one,
                            size_t step)
{
    const struct ts_binary *how = &self->op.expr->binary;
    double many_value = many ? many->values[step] : how->matching.fill_left;
    double one_value = one ? one->values[step] : how->matching.fill_right;
    double left = join_swapped(self) ? one_value : many_value,
           right = join_swapped(self) ? many_value : one_value;
    double value = ts_scalar_binary(how->op, left, right);
    size_t row = 0;
    kv_status rc = memo_row(self, many, one, &row);
    if (rc < 0)
        return rc;
    if (self->stamps[row] == self->stamp)
        return fail_ambiguous(self);
    self->stamps[row] = self->stamp;
    if (ts_op_is_comparison(how->op) && !how->returns_bool) {
        if (value == 0)
            return KV_OK;
        value = left;
    }
    if (!ts_is_absent(self->result.items[row].values[step]))
        return ts_run_fail(self->op.run, TS_QUERY_EXECUTION, KV_INVALID,
                           "vector cannot contain metrics with the same labelset");
    self->result.items[row].values[step] = value;
    return KV_OK;
}

static kv_status join_step(struct join_op *self, const struct match_group *group, size_t step)
{
    const struct ts_matching *matching = join_matching(self);
    const struct ts_column *one;
    size_t matches = 0;
    kv_status rc;
    self->stamp++;
    KV_TRY(step_one(self, group, step, &one));
    for (uint32_t i = 0; i < group->count[MANY]; i++) {
        const struct ts_column *many = group_row(self, group, MANY, i);
        if (ts_is_absent(many->values[step]) || (!one && !matching->fills_right))
            continue;
        if (matches++ && matching->card == TS_CARD_ONE_TO_ONE)
            return fail_ambiguous(self);
        KV_TRY(step_match(self, many, one, step));
    }
    if (!matches && one && matching->fills_left)
        KV_TRY(step_match(self, NULL, one, step));
out:
    return rc;
}

/* One series on the one side: each of the many is a pair of columns, unless two of them come out alike. */
static kv_status join_fan(struct join_op *self, const struct match_group *group, bool *done)
{
    const struct ts_column *one = group_row(self, group, ONE, 0);
    kv_status rc = KV_OK;
    *done = true;
    for (uint32_t i = 0; i < group->count[MANY]; i++) {
        const struct ts_column *many = group_row(self, group, MANY, i);
        struct join_memo *memo = &self->memos[many - self->rows[MANY].items];
        bool is_new;
        memo->one = one;
        KV_TRY(result_row(self, many, one, &memo->row, &is_new));
        *done = *done && is_new;
    }
    for (uint32_t i = 0; i < group->count[MANY] && *done; i++) {
        const struct ts_column *many = group_row(self, group, MANY, i);
        KV_TRY(join_pair(self, many, one));
    }
out:
    return rc;
}

static kv_status join_group(struct join_op *self, const struct match_group *group)
{
    const struct ts_matching *matching = join_matching(self);
    bool fills = matching->fills_left || matching->fills_right, done = false;
    kv_status rc = KV_OK;
    if (!fills && group->count[ONE] == 1 && group->count[MANY] == 1)
        return join_pair(self, group_row(self, group, MANY, 0), group_row(self, group, ONE, 0));
    if (!fills && group->count[ONE] == 1 && matching->card != TS_CARD_ONE_TO_ONE)
        KV_TRY(join_fan(self, group, &done));
    for (size_t i = 0; i < self->op.grid.n && !done; i++)
        KV_TRY(join_step(self, group, i));
out:
    return rc;
}

static kv_status join_groups(struct join_op *self)
{
    kv_status rc = KV_OK;
    self->memos = ts_pool_alloc(&self->pool, (self->rows[MANY].n + 1) * sizeof(*self->memos));
    if (!self->memos)
        return ts_pool_status(&self->pool);
    for (size_t i = 0; i < self->rows[MANY].n; i++)
        self->memos[i] = (struct join_memo){NULL, SIZE_MAX};
    for (size_t g = 0; g < self->keys.n; g++) {
        KV_TRY(ts_run_samples(self->op.run, self->op.grid.n));
        KV_TRY(join_group(self, &self->groups[g]));
    }
out:
    return rc;
}

/* ---- set operators */

/* Where each group's series of that side have a value. */
static kv_status presence_make(struct join_op *self, int side)
{
    size_t n = self->op.grid.n;
    if (self->keys.n > SIZE_MAX / n || !(self->presence = ts_pool_alloc(&self->pool, self->keys.n * n + 1)))
        return ts_run_status(self->op.run, KV_NO_MEMORY, NULL);
    memset(self->presence, 0, self->keys.n * n);
    for (size_t i = 0; i < self->rows[side].n; i++)
        for (size_t k = 0; k < n; k++)
            self->presence[self->group_of[side][i] * n + k] |=
                !ts_is_absent(self->rows[side].items[i].values[k]);
    return KV_OK;
}

/* Rows of one side, each step kept where the other side has (or has not) a match. */
static kv_status set_mask(struct join_op *self, int side, bool wanted)
{
    kv_status rc = presence_make(self, 1 - side);
    for (size_t i = 0; rc == KV_OK && i < self->rows[side].n; i++) {
        struct ts_column row = self->rows[side].items[i];
        const uint8_t *present = self->presence + self->group_of[side][i] * self->op.grid.n;
        for (size_t k = 0; k < self->op.grid.n; k++)
            self->column[k] = (present[k] != 0) == wanted ? row.values[k] : ts_absent();
        row.values = self->column;
        if ((rc = ts_run_samples(self->op.run, self->op.grid.n)) < 0)
            return rc;
        if (!ts_column_empty(self->column, self->op.grid.n) &&
            (rc = ts_rows_add(&self->result, &row, self->op.grid.n)) < 0)
            return rc;
    }
    return rc;
}

static kv_status set_operate(struct join_op *self)
{
    kv_status rc;
    switch (self->op.expr->binary.op) {
    case TS_OP_AND:
        return set_mask(self, MANY, true);
    case TS_OP_UNLESS:
        return set_mask(self, MANY, false);
    default: /* or: everything of the left, and of the right what the left lacks */
        for (size_t i = 0; i < self->rows[MANY].n; i++)
            KV_TRY(ts_rows_add(&self->result, &self->rows[MANY].items[i], self->op.grid.n));
        rc = set_mask(self, ONE, false);
        break;
    }
out:
    return rc;
}

/* ---- the operator */

static kv_status join_start(struct join_op *self)
{
    bool swapped = join_swapped(self);
    kv_status rc;
    self->started = true;
    if (!(self->column = ts_pool_column(&self->pool, self->op.grid.n)))
        return ts_pool_status(&self->pool);
    KV_TRY(ts_rows_collect(&self->rows[swapped ? ONE : MANY], self->left));
    KV_TRY(ts_rows_collect(&self->rows[swapped ? MANY : ONE], self->right));
    KV_TRY(groups_make(self));
    rc = ts_op_is_set(self->op.expr->binary.op) ? set_operate(self) : join_groups(self);
out:
    return rc;
}

static kv_status join_next(struct ts_operator *op, struct ts_column *out)
{
    struct join_op *self = (struct join_op *)op;
    kv_status rc;
    if (!self->started && (rc = join_start(self)) < 0)
        return rc;
    while (self->at < self->result.n) {
        *out = self->result.items[self->at++];
        if (!ts_column_empty(out->values, op->grid.n))
            return KV_OK;
    }
    return KV_END;
}

static void join_close(struct ts_operator *op)
{
    struct join_op *self = (struct join_op *)op;
    ts_run_shrink(op->run, (void **)&self->scratch, &self->scratch_room, sizeof(*self->scratch));
    ts_run_shrink(op->run, (void **)&self->stamps, &self->stamps_room, sizeof(*self->stamps));
    ts_rows_release(&self->rows[ONE]);
    ts_rows_release(&self->rows[MANY]);
    ts_rows_release(&self->result);
    ts_keys_release(&self->keys);
    ts_keys_release(&self->result_keys);
    ts_pool_release(&self->pool);
    ts_operator_close(self->left);
    ts_operator_close(self->right);
    kv_free(self);
}

static const struct ts_operator_ops join_ops = {join_next, join_close};

kv_status ts_op_join(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                     struct ts_operator *left, struct ts_operator *right, struct ts_operator **out)
{
    const struct ts_binary *how = &expr->binary;
    struct join_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&join_ops, run, grid, expr, false};
    ts_keys_init(&self->keys, run);
    ts_keys_init(&self->result_keys, run);
    ts_pool_init(&self->pool, run);
    ts_rows_init(&self->rows[ONE], run);
    ts_rows_init(&self->rows[MANY], run);
    ts_rows_init(&self->result, run);
    kv_status rc =
        ts_name_list_make(how->matching.labels, how->matching.n_labels, NULL, &self->pool, &self->names);
    if (rc < 0) {
        join_close(&self->op);
        return rc;
    }
    if (how->op == TS_OP_AND || how->op == TS_OP_UNLESS)
        self->op.one_name = left->one_name;
    else if (!ts_op_is_set(how->op))
        self->op.one_name = !ts_op_is_comparison(how->op) || (how->returns_bool && !run->delayed_names);
    self->left = left;
    self->right = right;
    if (how->op != TS_OP_OR) {
        *out = &self->op;
        return KV_OK;
    }
    rc = ts_op_merge(&self->op, out); /* one series may come from the left now and from the right then */
    if (rc < 0) {
        self->left = self->right = NULL;
        join_close(&self->op);
    }
    return rc;
}
