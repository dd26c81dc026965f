/*
 * kvtool bench, bank. bench gives quick numbers of this machine and disk, nothing to compare stores by (make bench-kv does that). bank moves
 * money between accounts by many threads at once; the sum never changes, whatever is killed meanwhile.
 */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "tools/kvtool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct own {
    struct kv_env *env;
    struct kv_db *db;
};

static kv_status own_open(const char *path, const char *space, uint32_t separate, bool must_exist,
                          struct own *own, struct kv_err *err)
{
    const struct kv_space_options spaces = {
        .name = space, .style = KV_STYLE_LEVELLED, .value_separate_bytes = separate};
    const struct kv_options options = {
        .spaces = &spaces, .n_spaces = 1, .must_exist = must_exist, .key = *kvtool_key()};
    kv_status rc = kv_env_open(NULL, &own->env, err);
    return rc < 0 ? rc : kv_open(own->env, path, &options, &own->db, err);
}

static kv_status own_close(struct own *own, kv_status rc, struct kv_err *err)
{
    kv_status closed = kv_close(own->db, rc >= 0 ? err : NULL);
    kv_env_close(own->env);
    return rc < 0 ? rc : closed;
}

/* ---- bench */

enum { BATCH = 100 };

struct bench {
    struct kv_db *db;
    uint64_t n, value_bytes, began_ns;
    struct kv_prng prng;
    uint8_t *value;
};

static kv_slice key_of(uint64_t i, char text[24])
{
    snprintf(text, 24, "%016" PRIu64, i);
    return kv_slice_of(text, 16);
}

static void told(struct bench *b, const char *what, uint64_t n)
{
    double seconds = (double)(kv_clock_mono_ns(kv_clock_system()) - b->began_ns) / 1e9;
    printf("%-10s %10" PRIu64 " entries  %8.3f s  %10.0f a second\n", what, n, seconds,
           seconds > 0 ? (double)n / seconds : 0);
    fflush(stdout);
    b->began_ns = kv_clock_mono_ns(kv_clock_system());
}

static kv_status bench_fill(struct bench *b, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    char key[24];
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    for (uint64_t i = 0; i < b->n; i++) {
        for (uint64_t k = 0; k < b->value_bytes / 2; k++) /* half of it compresses */
            b->value[k] = (uint8_t)kv_prng_next(&b->prng);
        KV_TRY(kv_batch_put(batch, 0, key_of(i, key), kv_slice_of(b->value, b->value_bytes)));
        if (kv_batch_count(batch) == BATCH || i + 1 == b->n) {
            KV_TRY(kv_commit(b->db, batch, NULL, NULL, err));
            kv_batch_clear(batch);
        }
    }
    told(b, "fill", b->n);
    KV_TRY(kv_flush(b->db, err));
    told(b, "flush", b->n);
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status bench_read(struct bench *b, struct kv_err *err)
{
    struct kv_pinned got;
    char key[24];
    for (uint64_t i = 0; i < b->n; i++) {
        kv_status rc = kv_get(b->db, NULL, 0, key_of(kv_prng_below(&b->prng, b->n), key), &got, err);
        kv_pinned_release(&got);
        if (rc != KV_OK)
            return rc < 0 ? rc : kv_fail(err, KV_CORRUPT, 0, "an entry that was written is not there");
    }
    told(b, "read", b->n);
    return KV_OK;
}

static kv_status bench_scan(struct bench *b, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    uint64_t n = 0;
    kv_status rc = kv_iter_open(b->db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it);
    if (rc < 0)
        return rc;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        n++;
    kv_iter_close(it);
    told(b, "scan", n);
    return rc < 0 || n == b->n
               ? rc
               : kv_fail(err, KV_CORRUPT, 0, "%" PRIu64 " of %" PRIu64 " entries are there", n, b->n);
}

int kvtool_bench(int argc, char **argv)
{
    struct bench b = {.n = 100000, .value_bytes = 100};
    uint64_t separate = 0;
    struct own own = {0};
    struct kv_err err = {0};
    const struct tool_option options[] = {{.name = "--entries", .number = &b.n},
                                          {.name = "--value-bytes", .number = &b.value_bytes},
                                          {.name = "--separate", .number = &separate}};
    argc = tool_options(argc, argv, options, 3);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc != 1 || b.n < 1 || b.value_bytes < 1 || b.value_bytes > KV_VALUE_LEN_MAX / 16 ||
        separate > KV_VALUE_LEN_MAX)
        return -1;
    kv_prng_init(&b.prng, 1);
    kv_status rc;
    b.value = kv_zalloc(1, b.value_bytes);
    if (!b.value) {
        rc = kv_fail(&err, KV_NO_MEMORY, 0, "a value of %" PRIu64 " bytes", b.value_bytes);
        goto out;
    }
    KV_TRY(own_open(argv[0], "kvtool_bench", (uint32_t)separate, false, &own, &err));
    b.db = own.db;
    b.began_ns = kv_clock_mono_ns(kv_clock_system());
    KV_TRY(bench_fill(&b, &err));
    KV_TRY(bench_read(&b, &err));
    KV_TRY(bench_scan(&b, &err));
out:
    kv_free(b.value);
    rc = own_close(&own, rc, &err);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

/* ---- bank */

enum { OPENING = 1000, ACCOUNTS_MAX = 1000000, THREADS_MAX = 64 };

struct bank {
    struct kv_db *db;
    uint64_t accounts, seconds, until_ns;
};
struct teller {
    struct bank *bank;
    kv_thread thread;
    struct kv_prng prng;
    uint64_t done;
    uint64_t from, to, amount;
    kv_status rc;
    struct kv_err err;
};

static kv_status balance_put(struct kv_txn *txn, uint64_t account, uint64_t balance, struct kv_err *err)
{
    char key[24], text[24];
    snprintf(text, sizeof text, "%" PRIu64, balance);
    return kv_txn_put(txn, 0, key_of(account, key), kv_slice_str(text), err);
}

static kv_status balance_get(struct kv_txn *txn, uint64_t account, uint64_t *balance, struct kv_err *err)
{
    struct kv_pinned got;
    char key[24], text[24];
    kv_status rc = kv_txn_get(txn, 0, key_of(account, key), &got, err);
    snprintf(text, sizeof text, "%.*s", KV_ARG(got.value));
    kv_pinned_release(&got);
    *balance = strtoull(text, NULL, 10);
    return rc != KV_NOT_FOUND ? rc : kv_fail(err, KV_CORRUPT, 0, "account %" PRIu64 " is gone", account);
}

static kv_status bank_found(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    const struct bank *bank = ctx;
    kv_status rc = KV_OK;
    for (uint64_t i = 0; i < bank->accounts && rc >= 0; i++)
        rc = balance_put(txn, i, OPENING, err);
    return rc;
}

static kv_status bank_move(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    const struct teller *t = ctx;
    uint64_t from, to;
    kv_status rc;
    KV_TRY(balance_get(txn, t->from, &from, err));
    KV_TRY(balance_get(txn, t->to, &to, err));
    if (from < t->amount)
        return KV_END;
    KV_TRY(balance_put(txn, t->from, from - t->amount, err));
    KV_TRY(balance_put(txn, t->to, to + t->amount, err));
out:
    return rc;
}

static void teller_run(void *arg)
{
    struct teller *t = arg;
    while (t->rc >= 0 && kv_clock_mono_ns(kv_clock_system()) < t->bank->until_ns) {
        t->from = kv_prng_below(&t->prng, t->bank->accounts);
        t->to = (t->from + 1 + kv_prng_below(&t->prng, t->bank->accounts - 1)) % t->bank->accounts;
        t->amount = kv_prng_below(&t->prng, OPENING / 2);
        t->rc = kv_txn_run(t->bank->db, NULL, 10000, bank_move, t, NULL, &t->err);
        t->done += t->rc >= 0;
    }
}

/* Counts accounts and money at one moment. */
static kv_status bank_sum(struct kv_db *db, uint64_t *accounts, uint64_t *sum)
{
    struct kv_iter *it = NULL;
    char text[24];
    kv_status rc = kv_iter_open(db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it);
    *accounts = *sum = 0;
    if (rc < 0)
        return rc;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it), ++*accounts) {
        snprintf(text, sizeof text, "%.*s", KV_ARG(it->value));
        *sum += strtoull(text, NULL, 10);
    }
    kv_iter_close(it);
    return rc;
}

static int bank_verdict(uint64_t accounts, uint64_t sum)
{
    bool right = accounts > 0 && sum == accounts * OPENING;
    printf("%" PRIu64 " accounts hold %" PRIu64 ", %s\n", accounts, sum,
           right      ? "as they should"
           : accounts ? "which is WRONG"
                      : "so there is no bank");
    return right ? 0 : EXIT_FINDINGS;
}

static kv_status bank_work(struct bank *bank, uint64_t n, struct kv_err *err)
{
    struct teller *tellers = kv_zalloc((size_t)n, sizeof *tellers);
    kv_status rc = KV_OK;
    if (!tellers)
        return kv_fail(err, KV_NO_MEMORY, 0, "%" PRIu64 " threads", n);
    uint64_t started = 0, done = 0, accounts, sum;
    for (; rc == KV_OK && started < n; started++) {
        tellers[started].bank = bank;
        kv_prng_init(&tellers[started].prng, started + 1);
        rc = kv_thread_start(&tellers[started].thread, "teller", 0, teller_run, &tellers[started]);
    }
    started -= rc < 0 && started > 0;
    while (rc >= 0 && kv_clock_mono_ns(kv_clock_system()) < bank->until_ns) { /* looked at while they work */
        rc = bank_sum(bank->db, &accounts, &sum);
        if (rc >= 0 && bank->accounts * OPENING != sum)
            rc = kv_fail(err, KV_CORRUPT, 0, "%" PRIu64 " accounts hold %" PRIu64 " in between", accounts,
                         sum);
        kv_clock_sleep_ns(kv_clock_system(), 50000000);
    }
    for (uint64_t i = 0; i < started; i++) {
        kv_thread_join(&tellers[i].thread);
        done += tellers[i].done;
        if (tellers[i].rc < 0 && rc >= 0) {
            rc = tellers[i].rc;
            *err = tellers[i].err;
        }
    }
    kv_free(tellers);
    printf("%" PRIu64 " transfers by %" PRIu64 " threads in %" PRIu64 " s\n", done, n, bank->seconds);
    return rc < 0 ? rc : KV_OK;
}

static int bank_run(const char *dir, struct bank *bank, uint64_t threads)
{
    struct own own = {0};
    struct kv_err err = {0};
    uint64_t accounts = 0, sum = 0;
    kv_status rc;
    KV_TRY(own_open(dir, "kvtool_bank", 0, false, &own, &err));
    bank->db = own.db;
    KV_TRY(bank_sum(bank->db, &accounts, &sum));
    if (accounts)
        bank->accounts = accounts; /* one that is there goes on */
    else
        KV_TRY(kv_txn_run(bank->db, NULL, 0, bank_found, bank, NULL, &err));
    bank->until_ns = kv_clock_mono_ns(kv_clock_system()) + bank->seconds * 1000000000;
    KV_TRY(bank_work(bank, threads, &err));
    KV_TRY(bank_sum(bank->db, &accounts, &sum));
out:
    rc = own_close(&own, rc, &err);
    return rc < 0 ? kvtool_trouble(&err, rc) : bank_verdict(accounts, sum);
}

static int bank_verify(const char *dir)
{
    struct own own = {0};
    struct kv_err err = {0};
    uint64_t accounts = 0, sum = 0;
    kv_status rc;
    KV_TRY(own_open(dir, "kvtool_bank", 0, true, &own, &err));
    KV_TRY(bank_sum(own.db, &accounts, &sum));
out:
    rc = own_close(&own, rc, &err);
    return rc < 0 ? kvtool_trouble(&err, rc) : bank_verdict(accounts, sum);
}

int kvtool_bank(int argc, char **argv)
{
    struct bank bank = {.accounts = 100, .seconds = 10};
    uint64_t threads = 4;
    const struct tool_option options[] = {{.name = "--accounts", .number = &bank.accounts},
                                          {.name = "--seconds", .number = &bank.seconds},
                                          {.name = "--threads", .number = &threads}};
    argc = tool_options(argc, argv, options, 3);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc != 2 || bank.accounts < 2 || bank.accounts > ACCOUNTS_MAX || threads < 1 ||
        threads > THREADS_MAX)
        return -1;
    if (strcmp(argv[0], "run") == 0)
        return bank_run(argv[1], &bank, threads);
    return strcmp(argv[0], "verify") == 0 ? bank_verify(argv[1]) : -1;
}
