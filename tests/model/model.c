#include "tests/model/model.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEY_BYTES = 140 };
struct text {
    uint8_t bytes[KEY_BYTES];
    size_t len;
    uint32_t key; /* points: of this key, or MODEL_KEYS for a successor that is no key */
};
static struct text keys[MODEL_KEYS], points[MODEL_POINTS];
static uint32_t n_points, first_key[MODEL_POINTS + 1], point_of[MODEL_KEYS];

static kv_slice text_slice(const struct text *text)
{
    return kv_slice_of(text->bytes, text->len);
}

static int order_texts(const void *a, const void *b)
{
    return kv_slice_compare(text_slice(a), text_slice(b));
}

/* Every string of one to three of three bytes, the smallest and largest among them, and some long ones that differ late. */
static void keys_make(void)
{
    static const uint8_t alphabet[3] = {0x00, 'm', 0xff};
    size_t n = 0;
    for (size_t len = 1; len <= 3; len++)
        for (size_t code = 0, count = len == 1 ? 3 : len == 2 ? 9 : 27; code < count; code++) {
            for (size_t i = 0, rest = code; i < len; i++, rest /= 3)
                keys[n].bytes[i] = alphabet[rest % 3];
            keys[n++].len = len;
        }
    for (size_t i = 0; n < MODEL_KEYS; i++, n++) {
        memset(keys[n].bytes, 'n', sizeof keys[n].bytes);
        keys[n].len = 20 + 13 * (i / 2);
        keys[n].bytes[keys[n].len - 1] = (uint8_t)('a' + i % 2);
    }
    qsort(keys, MODEL_KEYS, sizeof *keys, order_texts);
}

void model_keys_init(void)
{
    keys_make();
    for (uint32_t k = 0; k < MODEL_KEYS; k++) {
        struct text next = keys[k];
        points[n_points] = keys[k];
        points[n_points++].key = k;
        next.bytes[next.len++] = 0;
        next.key = MODEL_KEYS;
        if (model_find_key(text_slice(&next)) < 0)
            points[n_points++] = next;
    }
    qsort(points, n_points, sizeof *points, order_texts);
    for (uint32_t p = n_points, next = MODEL_KEYS; p-- > 0;) {
        if (points[p].key < MODEL_KEYS) {
            next = points[p].key;
            point_of[next] = p;
        }
        first_key[p] = next;
    }
    for (uint32_t p = n_points; p <= MODEL_POINTS; p++)
        first_key[p] = MODEL_KEYS;
}

kv_slice model_key(uint32_t key)
{
    return text_slice(&keys[key % MODEL_KEYS]);
}

kv_slice model_point(uint32_t point)
{
    return text_slice(&points[point % n_points]);
}

uint32_t model_points(void)
{
    return n_points;
}

uint32_t model_point_first_key(uint32_t point)
{
    return first_key[point >= MODEL_POINTS ? MODEL_POINTS : point % n_points];
}

uint32_t model_key_point(uint32_t key)
{
    return point_of[key];
}

int model_find_key(kv_slice key)
{
    for (int low = 0, high = MODEL_KEYS; low < high;) {
        int middle = (low + high) / 2;
        int c = kv_slice_compare(text_slice(&keys[middle]), key);
        if (c == 0)
            return middle;
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

uint32_t model_bound_first(uint32_t bound)
{
    return bound ? model_point_first_key((bound - 1) % n_points) : 0;
}

uint32_t model_bound_end(uint32_t bound)
{
    return bound ? model_point_first_key((bound - 1) % n_points) : MODEL_KEYS;
}

kv_slice model_value(uint32_t n, uint32_t len, uint8_t out[MODEL_VALUE_MAX])
{
    size_t used = (size_t)snprintf((char *)out, 16, "%u", n);
    uint32_t x = n * 2654435761u + 1;
    for (; used < len && used < MODEL_VALUE_MAX; used++) {
        if (used % 4 == 0)
            x = x * 1664525u + 1013904223u;
        out[used] = (uint8_t)(used & 32 ? '.' : 'a' + (x >> 27));
    }
    return kv_slice_of(out, used);
}

kv_slice model_operand(uint32_t n, uint8_t out[16])
{
    return kv_slice_of(out, (size_t)snprintf((char *)out, 16, "+%u", n));
}

/* ---- the operator: the last bytes of everything behind one another */

struct tail {
    uint8_t bytes[2 * MODEL_FOLDED_MAX];
    size_t len;
};

static void tail_add(struct tail *tail, kv_slice more)
{
    if (more.len > MODEL_FOLDED_MAX)
        more = kv_slice_from(more, more.len - MODEL_FOLDED_MAX);
    memcpy(tail->bytes + tail->len, more.data, more.len);
    tail->len += more.len;
    if (tail->len > MODEL_FOLDED_MAX) {
        memmove(tail->bytes, tail->bytes + tail->len - MODEL_FOLDED_MAX, MODEL_FOLDED_MAX);
        tail->len = MODEL_FOLDED_MAX;
    }
}

static kv_status operator_fold(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands,
                               size_t n, struct kv_buf *out)
{
    struct tail tail = {.len = 0};
    (void)ctx, (void)key;
    if (value && value->len)
        tail_add(&tail, *value);
    for (size_t i = 0; i < n; i++)
        if (operands[i].len)
            tail_add(&tail, operands[i]);
    return kv_buf_append(out, kv_slice_of(tail.bytes, tail.len));
}

const struct kv_merge_operator model_operator = {NULL, operator_fold};

/* ---- changes */

static void *grown(void *old, size_t *capacity, size_t n, size_t size)
{
    if (n < *capacity)
        return old;
    *capacity = *capacity ? *capacity * 2 : 8;
    void *more = kv_realloc(old, *capacity * size);
    KV_ASSERT(more != NULL);
    return more;
}

void model_release(struct model *model)
{
    for (size_t s = 0; s < MODEL_SPACES; s++)
        for (size_t k = 0; k < MODEL_KEYS; k++)
            kv_free(model->keys[s][k].at);
    kv_free(model->ranges);
    kv_free(model->records);
    *model = (struct model){0};
}

void events_add(struct events *events, const struct event *event)
{
    events->at = grown(events->at, &events->capacity, events->n, sizeof *events->at);
    events->at[events->n++] = *event;
}

void model_add(struct model *model, uint32_t space, uint32_t key, const struct event *event)
{
    struct events *events = &model->keys[space][key];
    events_add(events, event);
    events->at[events->n - 1].stamp = model->stamp;
    events->at[events->n - 1].version = model->version;
}

void model_note_range(struct model *model, uint32_t space, uint32_t lower, uint32_t upper)
{
    model->ranges = grown(model->ranges, &model->ranges_capacity, model->n_ranges, sizeof *model->ranges);
    model->ranges[model->n_ranges++] = (struct model_range){space, lower, upper, model->version};
}

void model_add_range(struct model *model, uint32_t space, uint32_t lower, uint32_t upper)
{
    struct event event = {.kind = EVENT_RANGE};
    for (uint32_t k = model_point_first_key(lower); k < model_point_first_key(upper); k++)
        model_add(model, space, k, &event);
    model_note_range(model, space, lower, upper);
}

void model_add_record(struct model *model, uint64_t seq, uint32_t n)
{
    model->records =
        grown(model->records, &model->records_capacity, model->n_records, sizeof *model->records);
    model->records[model->n_records++] = (struct model_record){seq, n};
}

void model_roll_back(struct model *model, uint64_t version)
{
    for (size_t s = 0; s < MODEL_SPACES; s++)
        for (size_t k = 0; k < MODEL_KEYS; k++) {
            struct events *events = &model->keys[s][k];
            while (events->n > 0 && events->at[events->n - 1].version > version)
                events->n--;
        }
    while (model->n_ranges > 0 && model->ranges[model->n_ranges - 1].version > version)
        model->n_ranges--;
    while (model->n_records > 0 && model->records[model->n_records - 1].seq > version)
        model->n_records--;
    model->version = version;
}

void model_forget_load(struct model *model, uint64_t version)
{
    for (size_t s = 0; s < MODEL_SPACES; s++)
        for (size_t k = 0; k < MODEL_KEYS; k++) {
            struct events *events = &model->keys[s][k];
            size_t kept = 0;
            for (size_t i = 0; i < events->n; i++)
                if (events->at[i].kind != EVENT_LOADED || events->at[i].version != version)
                    events->at[kept++] = events->at[i];
            events->n = kept;
        }
}

/* ---- questions */

static bool expired(const struct event *event, uint64_t now_s)
{
    return event->expires_at_s && event->expires_at_s <= now_s;
}

static bool is_put(const struct event *event)
{
    return event->kind == EVENT_PUT || event->kind == EVENT_LOADED;
}

/* How many events of the key there are at the stamp. */
static size_t events_at(const struct events *events, uint64_t stamp)
{
    size_t n = events->n;
    while (n > 0 && events->at[n - 1].stamp > stamp)
        n--;
    return n;
}

/* The newest of n events, and the one its operands apply to (newest itself without any); false: nothing is to be seen. */
static bool look(const struct event *events, size_t n, uint64_t now_s, const struct event **newest,
                 const struct event **base)
{
    size_t i = n;
    if (i == 0)
        return false;
    *newest = &events[--i];
    *base = NULL;
    while (events[i].kind == EVENT_OPERAND && i > 0)
        i--;
    const struct event *at = &events[i];
    if (is_put(at) && !expired(at, now_s))
        *base = at;
    return *base || (*newest)->kind == EVENT_OPERAND;
}

static bool get(const struct event *events, size_t n, uint64_t now_s, struct model_found *out)
{
    const struct event *newest, *base;
    if (!look(events, n, now_s, &newest, &base))
        return false;
    out->version = newest->version;
    out->meta = base ? base->meta : 0;
    out->expires_at_s = base ? base->expires_at_s : 0;
    out->value = (kv_slice){out->bytes, 0};
    if (base)
        out->value = model_value(base->n, base->len, out->bytes);
    if (newest->kind != EVENT_OPERAND)
        return true;
    struct tail tail = {.len = 0};
    if (base)
        tail_add(&tail, out->value);
    const struct event *at = newest; /* back to the oldest operand, then forward */
    while (at > events && at[-1].kind == EVENT_OPERAND)
        at--;
    for (; at <= newest; at++) {
        uint8_t bytes[16];
        tail_add(&tail, model_operand(at->n, bytes));
    }
    memcpy(out->bytes, tail.bytes, tail.len);
    out->value = (kv_slice){out->bytes, tail.len};
    return true;
}

bool model_has(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, uint32_t key,
               uint64_t *version)
{
    const struct events *events = &model->keys[space][key];
    const struct event *newest, *base;
    if (!look(events->at, events_at(events, stamp), now_s, &newest, &base))
        return false;
    *version = newest->version;
    return true;
}

bool model_get(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, uint32_t key,
               struct model_found *out)
{
    const struct events *events = &model->keys[space][key];
    return get(events->at, events_at(events, stamp), now_s, out);
}

bool model_get_over(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, uint32_t key,
                    const struct events *own, struct model_found *out, bool *reads)
{
    const struct events *under = &model->keys[space][key];
    struct events both = {0};
    *reads = true;
    for (size_t i = 0; i < own->n; i++)
        *reads = *reads && own->at[i].kind == EVENT_OPERAND;
    if (!*reads)
        return get(own->at, own->n, now_s, out);
    size_t n = events_at(under, stamp), from = n;
    if (own->n == 0)
        return get(under->at, n, now_s, out);
    while (from > 0 && under->at[from - 1].kind == EVENT_OPERAND)
        from--;
    for (size_t i = from ? from - 1 : 0; i < n; i++)
        events_add(&both, &under->at[i]);
    for (size_t i = 0; i < own->n; i++)
        events_add(&both, &own->at[i]);
    bool has = get(both.at, both.n, now_s, out);
    kv_free(both.at);
    return has;
}

int model_next(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, int from, int first,
               int end, uint64_t since, bool backward)
{
    uint64_t version;
    for (int k = from; k >= first && k < end; k += backward ? -1 : 1)
        if (model_has(model, stamp, now_s, space, (uint32_t)k, &version) && version > since)
            return k;
    return -1;
}

bool model_key_changed(const struct model *model, uint32_t space, uint32_t key, uint64_t version)
{
    const struct events *events = &model->keys[space][key];
    return events->n > 0 && events->at[events->n - 1].version > version;
}

bool model_range_changed(const struct model *model, uint32_t space, uint32_t lower, uint32_t upper,
                         uint64_t version)
{
    uint32_t end = upper >= MODEL_POINTS ? MODEL_KEYS : model_point_first_key(upper);
    for (uint32_t k = model_point_first_key(lower); k < end; k++)
        if (model_key_changed(model, space, k, version))
            return true;
    for (size_t i = model->n_ranges; i-- > 0 && model->ranges[i].version > version;) {
        const struct model_range *range = &model->ranges[i];
        uint32_t low = range->lower > lower ? range->lower : lower;
        uint32_t high = range->upper < upper ? range->upper : upper;
        if (range->space == space && low < high)
            return true;
    }
    return false;
}
