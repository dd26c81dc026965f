/*
 * Random lives of a database with backups in between, beside a naive model: any backup that is there, restored, says what the model said
 * when it was made; archives that build upon one another too. Seeds are printed, and replay.
 */
#include "kvcore/base/prng.h"
#include "kvcore/os/vfs.h"
#include "tests/support/backup_kit.h"
#include "tests/support/sweep.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { KEYS = 12, OPS = 250, BACKUPS_MAX = OPS, CHAIN_MAX = 4, TEXT = 600 };

struct life {
    struct kv_kit kit;
    struct kv_prng random;
    struct kv_repository repo;
    int values[2][KEYS]; /* 0: absent */
    int counter;
    uint64_t first, last;                 /* backups that are there */
    char *said[BACKUPS_MAX + 1];          /* by number: the content then */
    struct backup_bytes chain[CHAIN_MAX]; /* archives, each upon the one before */
    struct kv_buf receipt;
    char *chain_said[CHAIN_MAX];
    size_t n_chain;
    int copies;
};

static void must(struct life *life, kv_status rc, const char *what)
{
    cr_assert_eq(rc, KV_OK, "%s: %s: %s", what, kv_status_name(rc), life->kit.err.text);
}

static uint64_t pick(struct life *life, uint64_t n)
{
    return kv_prng_below(&life->random, n);
}

static const char *model_text(const struct life *life, char *out)
{
    size_t n = 0;
    for (int space = 0; space < 2; space++) {
        n += (size_t)snprintf(out + n, TEXT - n, "%s", space ? " b:" : "a:");
        for (int k = 0, any = 0; k < KEYS; k++)
            if (life->values[space][k])
                n += (size_t)snprintf(out + n, TEXT - n, "%sk%02d=%d", any++ ? " " : "", k,
                                      life->values[space][k]);
    }
    return out;
}

/* ---- what happens */

static void do_write(struct life *life)
{
    struct kv_batch *batch = NULL;
    uint64_t n = 1 + pick(life, 5);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t space = (uint32_t)pick(life, 2);
        int k = (int)pick(life, KEYS);
        char key[8], value[16];
        snprintf(key, sizeof key, "k%02d", k);
        snprintf(value, sizeof value, "%d", ++life->counter);
        bool gone = pick(life, 3) == 0;
        life->values[space][k] = gone ? 0 : life->counter;
        cr_assert_eq(gone ? kv_batch_delete(batch, space, kv_slice_str(key))
                          : kv_batch_put(batch, space, kv_slice_str(key), kv_slice_str(value)),
                     KV_OK);
    }
    must(life, kv_commit(life->kit.db, batch, NULL, NULL, &life->kit.err), "commit");
    kv_batch_free(batch);
}

static void do_bulk(struct life *life)
{
    struct kv_bulk *bulk = NULL;
    char key[8], value[16];
    must(life, kv_bulk_open(life->kit.db, 0, &bulk, &life->kit.err), "bulk");
    life->counter++;
    snprintf(value, sizeof value, "%d", life->counter);
    for (int k = (int)pick(life, 4); k < KEYS; k += 1 + (int)pick(life, 5)) {
        snprintf(key, sizeof key, "k%02d", k);
        life->values[0][k] = life->counter;
        must(life, kv_bulk_add(bulk, kv_slice_str(key), kv_slice_str(value), &life->kit.err), "bulk");
    }
    must(life, kv_bulk_install(bulk, 0, NULL, &life->kit.err), "bulk");
}

static void do_range_delete(struct life *life)
{
    struct kv_batch *batch = NULL;
    int from = (int)pick(life, KEYS), to = from + 1 + (int)pick(life, 4);
    char lower[8], upper[8];
    snprintf(lower, sizeof lower, "k%02d", from);
    snprintf(upper, sizeof upper, "k%02d", to);
    for (int k = from; k < to && k < KEYS; k++)
        life->values[1][k] = 0;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 1, kv_slice_str(lower), kv_slice_str(upper)), KV_OK);
    must(life, kv_commit(life->kit.db, batch, NULL, NULL, &life->kit.err), "range delete");
    kv_batch_free(batch);
}

static void do_backup(struct life *life)
{
    struct kv_backup_options options = {.repository = &life->repo,
                                        .keep = pick(life, 4) ? 0 : 1 + (uint32_t)pick(life, 4),
                                        .compression = (enum kv_compression)pick(life, 3)};
    struct kv_backup_info info;
    char text[TEXT];
    must(life, kv_backup(life->kit.db, &options, &info, &life->kit.err), "backup");
    cr_assert_eq(info.number, life->last + 1);
    life->last = info.number;
    life->said[info.number] = strdup(model_text(life, text));
    if (life->first == 0)
        life->first = 1;
    if (options.keep && life->last - life->first + 1 > options.keep)
        life->first = life->last - options.keep + 1;
}

static void expect(struct life *life, const char *path, const char *said, const char *what)
{
    struct kv_kit *kit = &life->kit;
    char text[TEXT];
    struct kv_kit other;
    kv_kit_init(&other, kit->vfs);
    other.options = kit->options;
    memcpy(other.spaces, kit->spaces, sizeof other.spaces);
    backup_content_of(&other, path, text, sizeof text);
    cr_assert_str_eq(text, said, "%s\n is   %s\n said %s", what, text, said);
    kv_kit_release(&other);
}

static void do_restore(struct life *life)
{
    char path[24], what[32];
    if (life->last == 0)
        return;
    uint64_t number = life->first + pick(life, life->last - life->first + 1);
    snprintf(path, sizeof path, "copy%d", life->copies++);
    snprintf(what, sizeof what, "backup %d", (int)number);
    must(life, backup_restore(&life->kit, &life->repo, number, path), what);
    expect(life, path, life->said[number], what);
}

static void do_archive(struct life *life)
{
    char text[TEXT];
    if (life->n_chain == CHAIN_MAX) {
        for (size_t i = 0; i < CHAIN_MAX; i++) {
            backup_bytes_release(&life->chain[i]);
            free(life->chain_said[i]);
            life->chain[i] = (struct backup_bytes){0};
        }
        life->n_chain = 0;
        kv_buf_clear(&life->receipt);
    }
    struct kv_buf next = {0};
    struct kv_sink sink = backup_bytes_sink(&life->chain[life->n_chain]);
    struct kv_backup_options options = {
        .archive = &sink, .base = kv_buf_slice(&life->receipt), .receipt = &next};
    must(life, kv_backup(life->kit.db, &options, NULL, &life->kit.err), "archive");
    life->chain_said[life->n_chain++] = strdup(model_text(life, text));
    kv_buf_release(&life->receipt);
    life->receipt = next;
}

static void do_unarchive(struct life *life)
{
    struct kv_source sources[CHAIN_MAX];
    char path[24];
    if (life->n_chain == 0)
        return;
    size_t n = 1 + (size_t)pick(life, life->n_chain);
    struct kv_restore_options options = {.archives = sources, .n_archives = n};
    for (size_t i = 0; i < n; i++)
        sources[i] = backup_bytes_source(&life->chain[i]);
    snprintf(path, sizeof path, "copy%d", life->copies++);
    must(life, kv_restore(life->kit.env, path, &options, NULL, &life->kit.err), "archives");
    expect(life, path, life->chain_said[n - 1], "archives");
}

static void do_forget(struct life *life)
{
    if (life->last <= life->first)
        return;
    must(life, kv_backup_remove(life->kit.env, &life->repo, life->first, &life->kit.err), "forget");
    life->first++;
}

static void do_one(struct life *life)
{
    struct kv_kit *kit = &life->kit;
    uint64_t what = pick(life, 31);
    if (what < 12)
        do_write(life);
    else if (what < 15)
        must(life, kv_flush(kit->db, &kit->err), "flush");
    else if (what < 16)
        must(life, kv_merge_range(kit->db, (uint32_t)pick(life, 2), KV_STR(""), KV_STR(""), &kit->err),
             "merge");
    else if (what < 17)
        do_bulk(life);
    else if (what < 19)
        do_range_delete(life);
    else if (what < 22)
        do_backup(life);
    else if (what < 24)
        do_restore(life);
    else if (what < 26)
        do_archive(life);
    else if (what < 27)
        do_unarchive(life);
    else if (what < 28)
        do_forget(life);
    else if (what < 29)
        kv_kit_reopen(kit);
    else if (what < 30)
        kv_kit_crash(kit); /* everything was answered */
    else
        kv_kit_work_all(kit);
}

/* ---- lives with different options */

static void live(uint64_t seed)
{
    static const uint8_t master[KV_MASTER_KEY_LEN] = "a master key of thirty-two bytes";
    struct life *life = calloc(1, sizeof *life);
    struct kv_vfs *elsewhere = kv_vfs_mem_new();
    char text[TEXT], said[TEXT];
    fprintf(stderr, "seed %d\n", (int)seed);
    kv_prng_init(&life->random, seed);
    kv_kit_init(&life->kit, NULL);
    life->repo = (struct kv_repository){.path = "backups", .vfs = seed % 2 ? elsewhere : NULL};
    life->kit.options.log_file_bytes = seed % 3 ? 1024 : 0;
    life->kit.spaces[1].style = seed % 4 < 2 ? KV_STYLE_RUNS : KV_STYLE_LEVELLED;
    if (seed % 5 == 0)
        life->kit.options.key.master_key = master;
    kv_kit_must_open(&life->kit);
    for (int i = 0; i < OPS; i++) {
        do_one(life);
        if (i % 16 == 0) {
            struct kv_restore_options all = {.repository = &life->repo};
            cr_assert_str_eq(backup_content(&life->kit, text, sizeof text), model_text(life, said),
                             "operation %d", i);
            if (life->last)
                must(life, kv_backup_verify(life->kit.env, &all, NULL, NULL, &life->kit.err), "verify");
        }
    }
    for (uint64_t n = life->first; n && n <= life->last; n++) { /* all that are left */
        char path[24];
        snprintf(path, sizeof path, "copy%d", life->copies++);
        must(life, backup_restore(&life->kit, &life->repo, n, path), "at the end");
        expect(life, path, life->said[n], "at the end");
    }
    kv_kit_release(&life->kit);
    for (size_t i = 0; i <= BACKUPS_MAX; i++)
        free(life->said[i]);
    for (size_t i = 0; i < life->n_chain; i++) {
        backup_bytes_release(&life->chain[i]);
        free(life->chain_said[i]);
    }
    kv_buf_release(&life->receipt);
    kv_vfs_mem_free(elsewhere);
    free(life);
}

Test(backup_model, any_backup_restored_is_what_the_model_was_then, .timeout = 600)
{
    for (uint64_t seed = 1; seed <= (sweep_all() ? 400 : 20); seed++)
        live(seed);
}
