#include "tsdb/query/top.h"
#include "kvcore/base/mem.h"

#include <stdlib.h>

static int count_order(const struct ts_count *a, const struct ts_count *b)
{
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    int c = kv_slice_compare(a->name, b->name);
    return c ? c : kv_slice_compare(a->value, b->value);
}

static int largest_first(const void *a, const void *b)
{
    return count_order(a, b);
}

/* An entry's bytes are one piece of memory: days, name, value. */
static void count_free(struct ts_count *count)
{
    kv_free(count->by_day ? (void *)(uintptr_t)count->by_day : (void *)(uintptr_t)count->name.data);
}

static size_t count_bytes(const struct ts_count *count, size_t n_days)
{
    return n_days * sizeof(uint64_t) + count->name.len + count->value.len + 1;
}

static kv_status count_copy(const struct ts_count *from, size_t n_days, struct ts_budget *budget,
                            struct ts_count *to)
{
    size_t bytes = count_bytes(from, n_days);
    kv_status rc = budget ? ts_budget_bytes(budget, (int64_t)bytes) : KV_OK;
    if (rc < 0)
        return rc;
    uint8_t *memory = kv_alloc(bytes);
    if (!memory)
        return KV_NO_MEMORY;
    uint8_t *text = memory + n_days * sizeof(uint64_t);
    if (n_days > 0)
        memcpy(memory, from->by_day, n_days * sizeof(uint64_t));
    memcpy(text, from->name.data, from->name.len);
    if (from->value.len > 0)
        memcpy(text + from->name.len, from->value.data, from->value.len);
    *to = (struct ts_count){kv_slice_of(text, from->name.len),
                            kv_slice_of(text + from->name.len, from->value.len), from->count,
                            n_days > 0 ? (const uint64_t *)(const void *)memory : NULL};
    return KV_OK;
}

static void swap(struct ts_count *a, struct ts_count *b)
{
    struct ts_count c = *a;
    *a = *b;
    *b = c;
}

/* A parent comes after its children in the order of answers: the one to go first is on top. */
static void sift_up(struct ts_top *top, size_t i)
{
    for (; i > 0 && count_order(&top->at[i], &top->at[(i - 1) / 2]) > 0; i = (i - 1) / 2)
        swap(&top->at[i], &top->at[(i - 1) / 2]);
}

static void sift_down(struct ts_top *top)
{
    for (size_t i = 0, child; (child = 2 * i + 1) < top->n; i = child) {
        if (child + 1 < top->n && count_order(&top->at[child + 1], &top->at[child]) > 0)
            child++;
        if (count_order(&top->at[child], &top->at[i]) <= 0)
            return;
        swap(&top->at[i], &top->at[child]);
    }
}

kv_status ts_top_offer(struct ts_top *top, kv_slice name, kv_slice value, uint64_t count,
                       const uint64_t *days, size_t n_days)
{
    const struct ts_count offered = {name, value, count, days};
    struct ts_count copy;
    n_days = days ? n_days : 0;
    if (count == 0 || top->max == 0 || (top->n == top->max && count_order(&offered, &top->at[0]) >= 0))
        return KV_OK;
    kv_status rc = count_copy(&offered, n_days, top->budget, &copy);
    if (rc < 0)
        return rc;
    if (top->n == top->max) {
        if (top->budget)
            (void)!ts_budget_bytes(top->budget, -(int64_t)count_bytes(&top->at[0], n_days));
        count_free(&top->at[0]);
        top->at[0] = copy;
        sift_down(top);
        return KV_OK;
    }
    struct ts_count *at = kv_grow(top->at, &top->capacity, top->n + 1, sizeof *at);
    if (!at) {
        count_free(&copy);
        return KV_NO_MEMORY;
    }
    top->at = at;
    top->at[top->n++] = copy;
    sift_up(top, top->n - 1);
    return KV_OK;
}

struct ts_count_list ts_top_take(struct ts_top *top)
{
    struct ts_count_list list = {top->at, top->n};
    if (list.n > 1)
        qsort(list.at, list.n, sizeof *list.at, largest_first);
    top->at = NULL;
    top->n = top->capacity = 0;
    return list;
}

void ts_count_list_release(struct ts_count_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        count_free(&list->at[i]);
    kv_free(list->at);
    *list = (struct ts_count_list){0};
}

void ts_top_release(struct ts_top *top)
{
    struct ts_count_list list = ts_top_take(top);
    ts_count_list_release(&list);
}
