#include "kvcore/db/version.h"
#include "kvcore/db/db.h"
#include "kvcore/db/tree_iter.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

static size_t cut_one(kv_slice key)
{
    return key.len < 1 ? key.len : 1;
}

static void cut_kit(struct kv_kit *kit)
{
    kv_kit_init(kit, NULL);
    kit->spaces[0].cut_len = cut_one;
    kv_kit_must_open(kit);
}

static void load(struct kv_kit *kit, const char *keys)
{
    char copy[64], *list[16];
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", keys);
    for (char *at = strtok(copy, " "); at; at = strtok(NULL, " "))
        list[n++] = at;
    kv_kit_bulk(kit, 0, (const char *const *)list, n, "v", 0);
}

/* "cut: run run" with each run its tables' smallest keys. */
static const char *draw(const struct kv_tree *tree, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < tree->n_cuts; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s%.*s:", i ? "; " : "", KV_ARG(tree->cuts[i].prefix));
        for (size_t k = 0; k < tree->cuts[i].n_runs; k++)
            for (size_t t = 0; t < tree->cuts[i].runs[k].n; t++)
                n += (size_t)snprintf(out + n, size - n, "%s%.*s", t ? "+" : " ",
                                      KV_ARG(tree->cuts[i].runs[k].items[t].properties->smallest));
    }
    return out;
}

Test(version, tables_are_grouped_by_cut_and_run_newest_first)
{
    struct kv_kit kit;
    char text[256];
    cut_kit(&kit);
    load(&kit, "a1 a2 c1");
    load(&kit, "a0 b5");
    load(&kit, "a3");
    cr_assert_str_eq(draw(&kit.db->view->version->trees[0], text, sizeof text), "a: a3 a0 a1; b: b5; c: c1");
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR("a"), KV_STR("b"), &kit.err), KV_OK);
    cr_assert_str_eq(draw(&kit.db->view->version->trees[0], text, sizeof text), "a: a0; b: b5; c: c1");
    kv_kit_reopen(&kit);
    cr_assert_str_eq(draw(&kit.db->view->version->trees[0], text, sizeof text), "a: a0; b: b5; c: c1");
    kv_kit_release(&kit);
}

Test(version, ranges_find_the_cuts_they_touch)
{
    struct kv_kit kit;
    size_t first, last;
    cut_kit(&kit);
    load(&kit, "a1 a9 c1 c9 e1 e9");
    const struct kv_tree *tree = &kit.db->view->version->trees[0];
    static const struct {
        const char *lower, *upper;
        size_t first, last;
    } cases[] = {
        {"", "", 0, 3},   {"a1", "a10", 0, 1}, {"a91", "c1", 1, 1}, {"a9", "c1", 0, 1}, {"a9", "c10", 0, 2},
        {"b", "", 1, 3},  {"b", "d", 1, 2},    {"f", "", 3, 3},     {"", "a1", 0, 0},   {"", "a10", 0, 1},
        {"e9", "", 2, 3}, {"e91", "", 3, 3},   {"d", "b", 2, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_tree_cut_range(tree, kv_slice_str(cases[i].lower), kv_slice_str(cases[i].upper), &first, &last);
        cr_assert(first == cases[i].first && last == cases[i].last, "[%s,%s): %zu %zu", cases[i].lower,
                  cases[i].upper, first, last);
    }
    kv_kit_release(&kit);
}

Test(version, another_cut_function_than_the_one_written_with_is_refused)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    load(&kit, "a1 b1");
    kv_kit_close(&kit);
    kit.spaces[0].cut_len = cut_one;
    cr_assert_eq(kv_kit_open(&kit), KV_CORRUPT);
    cr_assert(strstr(kit.err.text, "cut"));
    kit.spaces[0].cut_len = NULL;
    kv_kit_must_open(&kit);
    kv_kit_release(&kit);
}
