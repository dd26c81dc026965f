/* What kv_repair makes of a damaged directory (damage_kit.h). */
#include "kvcore/base/assert.h"
#include "tests/support/damage_kit.h"
#include "tests/support/kv_kit.h"

#include <stdio.h>
#include <stdlib.h>

static char wrong[1200];

/* Did the key ever have it? */
static bool was_there(const struct damage_world *world, uint32_t space, int key, kv_slice value, uint8_t meta)
{
    for (uint64_t seq = 0; seq <= world->last_seq; seq++) {
        uint16_t at = world->states[seq].at[space][key];
        const struct damage_value *is = at ? &world->values[at - 1] : NULL;
        if (is && is->meta == meta && kv_slice_equal(value, kv_slice_of(is->text, is->len)))
            return true;
    }
    return false;
}

/* Operands of which some are lost: "+4+9" behind a value that was there, or behind nothing; each number once, in order. */
static bool may_be_folded(const struct damage_world *world, int key, kv_slice value)
{
    const char *text = (const char *)value.data;
    size_t base = 0;
    while (base < value.len && text[base] != '+')
        base++;
    bool known = base == 0;
    for (uint64_t seq = 0; seq <= world->last_seq && !known; seq++) {
        uint16_t at = world->states[seq].at[2][key];
        const struct damage_value *is = at ? &world->values[at - 1] : NULL;
        known = is && is->len >= base && memcmp(is->text, text, base) == 0;
    }
    long last = -1;
    for (size_t i = base; i < value.len && known;) {
        long n = 0;
        size_t digits = 0;
        for (i++; i < value.len && text[i] >= '0' && text[i] <= '9' && digits < 6; i++, digits++)
            n = n * 10 + text[i] - '0';
        known = digits > 0 && n > last && (i == value.len || text[i] == '+');
        last = n;
    }
    return known;
}

static void judge_value(const struct damage_world *world, uint32_t space, kv_slice name, kv_slice value,
                        uint8_t meta)
{
    int key = name.len == 3 && name.data[0] == 'k' ? (name.data[1] - '0') * 10 + name.data[2] - '0' : -1;
    if (key < 0 || key >= DAMAGE_KEYS)
        snprintf(wrong, sizeof wrong, "repaired: a key \"%.*s\" in space %u", KV_ARG(name), space);
    else if (!was_there(world, space, key, value, meta) && !(space == 2 && may_be_folded(world, key, value)))
        snprintf(wrong, sizeof wrong, "repaired: %u/%.*s has \"%.*s\", which it never had", space,
                 KV_ARG(name), KV_ARG(value));
}

static void judge_space(struct kv_kit *kit, const struct damage_world *world, uint32_t space, bool back)
{
    struct kv_iter *it = NULL;
    kv_status rc = kv_iter_open(kit->db, NULL, space, (kv_slice){0}, (kv_slice){0}, &it);
    if (rc == KV_OK)
        rc = back ? kv_iter_seek_before(it, (kv_slice){0}) : kv_iter_seek(it, (kv_slice){0});
    for (; rc == KV_OK && !wrong[0]; rc = back ? kv_iter_prev(it) : kv_iter_next(it))
        judge_value(world, space, it->key, it->value, it->meta);
    kv_iter_close(it);
    if (rc < 0)
        snprintf(wrong, sizeof wrong, "repaired: a scan of space %u: %s", space, kv_status_name(rc));
}

static kv_status repair(struct kv_kit *kit)
{
    struct kv_env_options options = {
        .vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE, .cache_bytes = 1 << 20};
    struct kv_repair_options how = {
        .spaces = kit->spaces, .n_spaces = kit->options.n_spaces, .key = kit->options.key};
    struct kv_env *env = NULL;
    KV_ASSERT(kv_env_open(&options, &env, NULL) == KV_OK);
    kit->err.text[0] = 0;
    kv_status rc = kv_repair(env, "db", &how, NULL, &kit->err);
    kv_env_close(env);
    return rc;
}

/* Nothing of it can be read without its keys, or it says it is of a later version. */
static bool may_refuse(const struct damage_world *world, kv_status rc)
{
    return rc == KV_TOO_NEW || rc == KV_UNSUPPORTED || rc == KV_MISSING ||
           (world->encrypted && (rc == KV_CORRUPT || rc == KV_WRONG_KEY));
}

const char *damage_repair(const struct damage_world *world, const struct damage_dir *changed)
{
    struct kv_kit kit;
    wrong[0] = 0;
    damage_world_kit(world, &kit, NULL);
    damage_dir_store(changed, kit.own, "db");
    kv_status rc = repair(&kit);
    if (rc < 0 && !may_refuse(world, rc))
        snprintf(wrong, sizeof wrong, "repair: %s: %s", kv_status_name(rc), kit.err.text);
    for (int round = 0; round < 2 && rc == KV_OK && !wrong[0]; round++) {
        kv_status opened = kv_kit_open(&kit);
        if (opened < 0) {
            snprintf(wrong, sizeof wrong, "repaired, and does not open: %s", kit.err.text);
            break;
        }
        for (uint32_t space = 0; space < DAMAGE_SPACES && !wrong[0]; space++)
            judge_space(&kit, world, space, round == 1);
        if (round == 0 && !wrong[0] && kv_flush(kit.db, &kit.err) < 0)
            snprintf(wrong, sizeof wrong, "repaired: flush: %s", kit.err.text);
        if (kv_kit_close(&kit) < 0 && !wrong[0])
            snprintf(wrong, sizeof wrong, "repaired: close: %s", kit.err.text);
    }
    if (rc == KV_OK && !wrong[0] && (rc = repair(&kit)) < 0)
        snprintf(wrong, sizeof wrong, "a second repair: %s: %s", kv_status_name(rc), kit.err.text);
    kv_kit_release(&kit);
    return wrong[0] ? wrong : NULL;
}
