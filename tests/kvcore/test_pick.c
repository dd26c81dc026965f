/*
 * What is merged next, as text: tests/data/picker/NAME.txt draws trees and asks. In one block:
 *   space style=levelled base=1000 multiplier=10 level0_runs=4     (each optional; another line declares another space)
 *   LEVEL #NUMBER SMALLEST..LARGEST BYTES [run=N] [v=MIN-MAX] [entries=N] [deletes=N] [since=N] [expires=N,MIN,MAX]   a table
 *   busy FROM->TO SMALLEST..LARGEST [whole]                        work under way
 *   limits [now=N] [oldest_txn=N]
 *   next                                                           when time makes work
 *   work | levels | range LOWER UPPER [VERSION]                    a question, with the expected answer behind "-> " below it
 * A title (== ...) begins the next block. KV_REWRITE=1 writes the answers of this run into the file instead.
 */
#include "kvcore/db/pick.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_private.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TABLES_MAX = 200, BUSY_MAX = 8, TEXT_MAX = 1 << 16 };

struct scene {
    struct kv_space spaces[2];
    uint32_t n_spaces;
    struct kv_table tables[TABLES_MAX];
    struct kv_tree_add adds[TABLES_MAX];
    size_t n;
    struct kv_claim busy[BUSY_MAX];
    size_t n_busy;
    struct kv_pick_limits limits;
    char words[TEXT_MAX];
    size_t n_words;
};

static size_t cut_one(kv_slice key)
{
    return key.len < 1 ? key.len : 1;
}

static uint64_t number_after(const char *line, const char *name, uint64_t otherwise)
{
    const char *at = strstr(line, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : otherwise;
}

static kv_slice keep_word(struct scene *s, const char *from, size_t len)
{
    char *to = s->words + s->n_words;
    cr_assert(s->n_words + len <= sizeof s->words);
    memcpy(to, from, len);
    s->n_words += len;
    return kv_slice_of(to, len);
}

static void take_range(struct scene *s, const char *word, kv_slice *smallest, kv_slice *largest)
{
    const char *dots = strstr(word, "..");
    cr_assert_not_null(dots, "%s", word);
    *smallest = keep_word(s, word, (size_t)(dots - word));
    *largest = keep_word(s, dots + 2, strcspn(dots + 2, " \n"));
}

static void add_space(struct scene *s, const char *line)
{
    struct kv_space *space = &s->spaces[s->n_spaces++];
    *space = (struct kv_space){.style = strstr(line, "style=levelled") ? KV_STYLE_LEVELLED : KV_STYLE_RUNS,
                               .cut_len = strstr(line, "cuts") ? cut_one : NULL,
                               .base_bytes = number_after(line, "base=", 1000),
                               .multiplier = (uint32_t)number_after(line, "multiplier=", 10),
                               .level0_runs = (uint32_t)number_after(line, "level0_runs=", 4),
                               .deletions_age_s = number_after(line, "age=", 1000)};
}

static void add_table(struct scene *s, const char *line)
{
    struct kv_table *table = &s->tables[s->n];
    struct kv_table_properties *p = &table->properties;
    char word[80];
    unsigned level;
    cr_assert_eq(sscanf(line, "%u #%" SCNu64 " %79s %" SCNu64, &level, &table->number, word, &p->file_bytes),
                 4, "%s", line);
    take_range(s, word, &p->smallest, &p->largest);
    p->entries = p->keys = number_after(line, "entries=", p->file_bytes);
    p->deletes = number_after(line, "deletes=", 0);
    p->deletes_since_s = number_after(line, "since=", 0);
    p->version_min = number_after(line, "v=", table->number);
    const char *range = strstr(line, "v=");
    p->version_max =
        range && strchr(range, '-') ? strtoull(strchr(range, '-') + 1, NULL, 10) : p->version_min;
    const char *expires = strstr(line, "expires=");
    if (expires)
        cr_assert_eq(sscanf(expires, "expires=%" SCNu64 ",%" SCNu64 ",%" SCNu64, &p->expiring,
                            &p->expiry_min_s, &p->expiry_max_s),
                     3);
    atomic_init(&table->refs, 1000);
    s->adds[s->n++] = (struct kv_tree_add){.space = s->n_spaces - 1,
                                           .level = level,
                                           .run = number_after(line, "run=", table->number),
                                           .table = table};
}

static void add_busy(struct scene *s, const char *line)
{
    struct kv_claim *claim = &s->busy[s->n_busy];
    char word[80];
    cr_assert_eq(sscanf(line, "busy %" SCNu32 "->%" SCNu32 " %79s", &claim->pick.from, &claim->pick.to, word),
                 3);
    take_range(s, word, &claim->pick.span_smallest, &claim->pick.span_largest);
    claim->pick.whole = strstr(line, "whole");
    claim->next = s->n_busy ? &s->busy[s->n_busy - 1] : NULL;
    s->n_busy++;
}

static void tell_pick(const struct kv_version *version, const struct kv_pick *pick, char *out, size_t size)
{
    static const char *const kinds[] = {"merge", "move", "drop"};
    static const char *const whys[] = {"runs", "level0", "size", "dead", "range"};
    const struct kv_tree *tree = &version->trees[pick->space];
    const struct kv_cut *cut = &tree->cuts[pick->cut];
    size_t n = (size_t)snprintf(out, size, "-> %s why=%s", kinds[pick->kind], whys[pick->why]);
    if (version->n_spaces > 1)
        n += (size_t)snprintf(out + n, size - n, " space=%u", pick->space);
    if (tree->n_cuts > 1)
        n += (size_t)snprintf(out + n, size - n, " cut=%.*s", KV_ARG(cut->prefix));
    n += (size_t)snprintf(out + n, size - n, " %u->%u%s:", pick->from, pick->to, pick->whole ? " whole" : "");
    for (uint32_t level = 0; level < KV_LEVELS_MAX; level++)
        for (size_t i = 0; i < cut->n_runs; i++) {
            size_t first, last;
            if (cut->runs[i].level != level)
                continue;
            kv_pick_inputs(pick, &cut->runs[i], &first, &last);
            for (; first < last; first++)
                n += (size_t)snprintf(out + n, size - n, " %u#%" PRIu64, level,
                                      cut->runs[i].items[first].number);
        }
    snprintf(out + n, size - n, " span=%.*s..%.*s bytes=%" PRIu64 "\n", KV_ARG(pick->span_smallest),
             KV_ARG(pick->span_largest), pick->bytes);
}

static void tell_levels(const struct kv_version *version, const struct scene *s, const struct kv_claim *busy,
                        char *out, size_t size)
{
    struct kv_pick_levels levels;
    kv_pick_levels(&version->trees[0], 0, &s->spaces[0], busy, &levels);
    size_t n =
        (size_t)snprintf(out, size, "-> base=%u excess=%" PRIu64 " targets", levels.base, levels.excess);
    for (uint32_t i = 0; i < KV_LEVELS_MAX; i++)
        n += (size_t)snprintf(out + n, size - n, " %" PRIu64, levels.target[i]);
    n += (size_t)snprintf(out + n, size - n, " scores");
    for (uint32_t i = 0; i < KV_LEVELS_MAX; i++)
        n += (size_t)snprintf(out + n, size - n, " %.2f", levels.score[i]);
    snprintf(out + n, size - n, "\n");
}

static bool answer(struct scene *s, const char *line, char *out, size_t size)
{
    struct kv_version *version = NULL;
    struct kv_tree_change change = {.adds = s->adds, .n_adds = s->n};
    struct kv_err err = {0};
    struct kv_pick pick;
    const struct kv_claim *busy = s->n_busy ? &s->busy[s->n_busy - 1] : NULL;
    char word[80], lower[80] = "", upper[80] = "";
    uint64_t at = UINT64_MAX;
    if (sscanf(line, "%79s", word) != 1 || (strcmp(word, "work") != 0 && strcmp(word, "levels") != 0 &&
                                            strcmp(word, "range") != 0 && strcmp(word, "next") != 0))
        return false;
    cr_assert_eq(kv_version_make(NULL, s->n_spaces, s->spaces, &change, &version, &err), KV_OK, "%s",
                 err.text);
    if (strcmp(word, "levels") == 0) {
        tell_levels(version, s, busy, out, size);
    } else if (strcmp(word, "next") == 0) {
        uint64_t next = kv_pick_next_s(version, s->spaces, s->limits.now_s);
        snprintf(out, size, next == UINT64_MAX ? "-> never\n" : "-> %" PRIu64 "\n", next);
    } else if (strcmp(word, "work") == 0) {
        if (kv_pick_work(version, s->spaces, &s->limits, busy, &pick))
            tell_pick(version, &pick, out, size);
        else
            snprintf(out, size, "-> nothing\n");
    } else {
        sscanf(line, "range %79s %79s %" SCNu64, lower, upper, &at);
        kv_slice low = strcmp(lower, "-") == 0 ? (kv_slice){0} : kv_slice_str(lower);
        kv_slice high = strcmp(upper, "-") == 0 ? (kv_slice){0} : kv_slice_str(upper);
        kv_status rc = kv_pick_range(version, 0, &s->spaces[0], low, high, at, &s->limits, busy, &pick);
        if (rc == KV_OK)
            tell_pick(version, &pick, out, size);
        else
            snprintf(out, size, "-> %s\n", rc == KV_END ? "nothing" : "busy");
    }
    kv_version_unref(version);
    return true;
}

static void scene_line(struct scene *s, const char *line)
{
    if (strncmp(line, "==", 2) == 0)
        *s = (struct scene){.limits = {.oldest_txn = UINT64_MAX}};
    else if (strncmp(line, "space", 5) == 0)
        add_space(s, line);
    else if (strncmp(line, "busy", 4) == 0)
        add_busy(s, line);
    else if (strncmp(line, "limits", 6) == 0)
        s->limits = (struct kv_pick_limits){number_after(line, "now=", 0),
                                            number_after(line, "oldest_txn=", UINT64_MAX),
                                            (uint32_t)number_after(line, "blocked=", 0)};
    else if (line[0] >= '0' && line[0] <= '9')
        add_table(s, line);
}

static void play(const char *name)
{
    static struct scene scene;
    static char given[TEXT_MAX], said[TEXT_MAX];
    char path[128], line[512], told[2048];
    size_t n_given = 0, n_said = 0;
    snprintf(path, sizeof path, "tests/data/picker/%s.txt", name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    while (fgets(line, sizeof line, file)) {
        n_given += (size_t)snprintf(given + n_given, sizeof given - n_given, "%s", line);
        if (strncmp(line, "->", 2) == 0)
            continue;
        n_said += (size_t)snprintf(said + n_said, sizeof said - n_said, "%s", line);
        scene_line(&scene, line);
        if (answer(&scene, line, told, sizeof told))
            n_said += (size_t)snprintf(said + n_said, sizeof said - n_said, "%s", told);
    }
    fclose(file);
    if (getenv("KV_REWRITE")) {
        file = fopen(path, "w");
        cr_assert_not_null(file);
        fwrite(said, 1, n_said, file);
        fclose(file);
        return;
    }
    cr_assert_str_eq(said, given, "%s: KV_REWRITE=1 writes the answers of today", path);
}

Test(pick, levels_aim_at_a_share_of_the_deepest)
{
    play("levels");
}

Test(pick, level_0_is_merged_moved_or_kept_together)
{
    play("level0");
}

Test(pick, a_level_over_its_target_gives_the_table_that_costs_least)
{
    play("size");
}

Test(pick, deletions_and_expired_entries_go_down_until_they_are_gone)
{
    play("dead");
}

Test(pick, work_under_way_is_kept_clear_of)
{
    play("busy");
}

Test(pick, runs_past_eight_become_one_in_the_cut_with_the_most)
{
    play("runs");
}

Test(pick, a_range_goes_to_the_bottom_step_by_step)
{
    play("range");
}
