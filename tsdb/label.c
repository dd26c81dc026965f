#include "tsdb/label.h"

#include "kvcore/base/coding.h"

#include <stdlib.h>

static int label_order(const void *a, const void *b)
{
    return kv_slice_compare(((const struct ts_label *)a)->name, ((const struct ts_label *)b)->name);
}

/* Senders mostly sort already: one pass finds out, insertion repairs a few, qsort the rest. */
bool ts_labels_sort(struct ts_label *labels, size_t n)
{
    if (n > 64)
        qsort(labels, n, sizeof *labels, label_order);
    for (size_t i = 1; i < n; i++) {
        struct ts_label moved = labels[i];
        size_t j = i;
        for (; j > 0 && label_order(&moved, &labels[j - 1]) < 0; j--)
            labels[j] = labels[j - 1];
        labels[j] = moved;
    }
    for (size_t i = 1; i < n; i++)
        if (kv_slice_equal(labels[i - 1].name, labels[i].name))
            return false;
    return true;
}

int ts_labels_compare(const struct ts_label *a, size_t na, const struct ts_label *b, size_t nb)
{
    for (size_t i = 0; i < na && i < nb; i++) {
        int c = kv_slice_compare(a[i].name, b[i].name);
        if (c == 0)
            c = kv_slice_compare(a[i].value, b[i].value);
        if (c != 0)
            return c;
    }
    return (na > nb) - (na < nb);
}

kv_slice ts_labels_get(const struct ts_label *labels, size_t n, kv_slice name)
{
    for (size_t i = 0; i < n; i++)
        if (kv_slice_equal(labels[i].name, name))
            return labels[i].value;
    return (kv_slice){0};
}

kv_status ts_labels_encode(const struct ts_label *labels, size_t n, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n; i++) {
        KV_TRY(kv_buf_append_lp(out, labels[i].name));
        KV_TRY(kv_buf_append_lp(out, labels[i].value));
    }
out:
    return rc;
}

static KV_MUST kv_status labels_take(kv_slice *bytes, struct ts_label *label)
{
    if (kv_take_lp(bytes, &label->name) < 0 || kv_take_lp(bytes, &label->value) < 0)
        return KV_CORRUPT;
    return label->name.len > 0 && label->value.len > 0 ? KV_OK : KV_CORRUPT;
}

kv_status ts_labels_decode(kv_slice bytes, struct kv_arena *arena, struct ts_label **labels, size_t *n)
{
    size_t count = 0;
    struct ts_label label;
    for (kv_slice in = bytes; in.len > 0; count++)
        if (labels_take(&in, &label) < 0)
            return KV_CORRUPT;
    struct ts_label *out = kv_arena_zalloc(arena, count ? count : 1, sizeof *out);
    if (!out)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        kv_status rc = labels_take(&bytes, &out[i]);
        if (rc < 0 || (i > 0 && kv_slice_compare(out[i - 1].name, out[i].name) >= 0))
            return KV_CORRUPT;
    }
    *labels = out;
    *n = count;
    return KV_OK;
}

/* Length of the well-formed sequence at p (RFC 3629), 0 if there is none. */
static size_t utf8_len(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    size_t len = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (len == 0 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((lead == 0xe0 && p[1] < 0xa0) || (lead == 0xed && p[1] > 0x9f) || (lead == 0xf0 && p[1] < 0x90) ||
        (lead == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

bool ts_utf8_valid(kv_slice text)
{
    size_t i = 0;
    while (i < text.len) {
        if (text.data[i] < 0x80) {
            if (text.data[i++] == 0)
                return false;
            continue;
        }
        size_t len = utf8_len(text.data + i, text.len - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}
