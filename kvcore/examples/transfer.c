/*
 * transfer DIR - money moves between accounts, by many threads at once, and none is made or lost.
 *
 * A transaction reads and writes as if it ran alone. kv_txn_run begins, runs and commits one, and does it again when another one was
 * faster; the function it is given only says what is to be done.
 */
#include <kvcore/kv.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { ACCOUNTS = 5, OPENING = 100, THREADS = 4, TRANSFERS = 100 };

struct transfer {
    unsigned from, to, amount;
};
static struct kv_db *db;

static kv_slice account(unsigned n, char name[16])
{
    snprintf(name, 16, "account/%u", n);
    return kv_slice_str(name);
}

static kv_status balance_of(struct kv_txn *txn, unsigned n, unsigned *balance, struct kv_err *err)
{
    char name[16], text[16];
    struct kv_pinned got;
    kv_status rc = kv_txn_get(txn, 0, account(n, name), &got, err);
    snprintf(text, sizeof text, "%.*s", KV_ARG(got.value)); /* nothing when it was not found */
    kv_pinned_release(&got);
    *balance = (unsigned)strtoul(text, NULL, 10);
    return rc;
}

static kv_status set_balance(struct kv_txn *txn, unsigned n, unsigned balance, struct kv_err *err)
{
    char name[16], text[16];
    snprintf(text, sizeof text, "%u", balance);
    return kv_txn_put(txn, 0, account(n, name), kv_slice_str(text), err);
}

static kv_status open_accounts(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    kv_status rc = KV_OK;
    (void)ctx;
    for (unsigned i = 0; i < ACCOUNTS && rc >= 0; i++)
        rc = set_balance(txn, i, OPENING, err);
    return rc;
}

/* KV_END, and nothing done: not enough in the account. */
static kv_status move(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    const struct transfer *t = ctx;
    unsigned from, to;
    kv_status rc;
    KV_TRY(balance_of(txn, t->from, &from, err));
    KV_TRY(balance_of(txn, t->to, &to, err));
    if (t->from == t->to || from < t->amount)
        return KV_END;
    KV_TRY(set_balance(txn, t->from, from - t->amount, err));
    KV_TRY(set_balance(txn, t->to, to + t->amount, err));
out:
    return rc;
}

static kv_status audit(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    unsigned balance, *total = ctx;
    kv_status rc = KV_OK;
    *total = 0;
    for (unsigned i = 0; i < ACCOUNTS && rc == KV_OK; i++, *total += balance)
        rc = balance_of(txn, i, &balance, err);
    return rc;
}

static void *work(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    for (int i = 0; i < TRANSFERS; i++) {
        struct kv_err err = {0};
        struct transfer t = {(unsigned)rand_r(&seed) % ACCOUNTS, (unsigned)rand_r(&seed) % ACCOUNTS,
                             (unsigned)rand_r(&seed) % 50};
        kv_status rc = kv_txn_run(db, NULL, 1000, move, &t, NULL, &err);
        if (rc < 0)
            return fprintf(stderr, "transfer: %s: %s\n", kv_status_text(rc), err.text), arg;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const struct kv_space_options space = {.name = "bank"};
    const struct kv_options options = {.spaces = &space, .n_spaces = 1};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    pthread_t threads[THREADS];
    unsigned seeds[THREADS], total = 0;
    void *failed = NULL, *one;
    if (argc != 2)
        return fprintf(stderr, "usage: transfer DIR\n"), 2;
    kv_status rc = kv_env_open(NULL, &env, &err);
    KV_TRY(rc);
    KV_TRY(kv_open(env, argv[1], &options, &db, &err));
    KV_TRY(kv_txn_run(db, NULL, 0, open_accounts, NULL, NULL, &err));
    for (unsigned i = 0; i < THREADS; i++)
        if (seeds[i] = i + 1, pthread_create(&threads[i], NULL, work, &seeds[i]) != 0)
            abort();
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_join(threads[i], &one) == 0 && one)
            failed = one;
    KV_TRY(kv_txn_run(db, &(struct kv_txn_options){.read_only = true}, 0, audit, &total, NULL, &err));
    printf("%d transfers by %d threads: %u in all accounts, as at the start: %s\n", THREADS * TRANSFERS,
           THREADS, total, total == ACCOUNTS * OPENING ? "yes" : "NO");
out:
    if (rc < 0)
        fprintf(stderr, "transfer: %s: %s\n", kv_status_text(rc), err.text);
    if (kv_close(db, &err) < 0)
        fprintf(stderr, "transfer: close: %s\n", err.text);
    kv_env_close(env);
    return rc < 0 || failed || total != ACCOUNTS * OPENING;
}
