/* Background workers: what runs beside what, and at what time. */
#include "kvcore/db/env.h"

#include <criterion/criterion.h>

struct counting {
    struct kv_env *env;
    kv_mutex mutex;
    kv_cond changed;
    int begun, running, most;
    bool hold; /* pieces wait until it is false */
};

static bool count_piece(void *ctx)
{
    struct counting *c = ctx;
    kv_mutex_lock(&c->mutex);
    c->begun++;
    c->running++;
    if (c->running > c->most)
        c->most = c->running;
    kv_cond_broadcast(&c->changed);
    while (c->hold)
        kv_cond_wait(&c->changed, &c->mutex);
    c->running--;
    kv_mutex_unlock(&c->mutex);
    return false;
}

static void counting_init(struct counting *c)
{
    *c = (struct counting){0};
    kv_mutex_init(&c->mutex);
    kv_cond_init(&c->changed);
}

static void counting_release(struct counting *c)
{
    kv_cond_release(&c->changed);
    kv_mutex_release(&c->mutex);
}

static void wait_begun(struct counting *c, int n)
{
    kv_mutex_lock(&c->mutex);
    while (c->begun < n)
        kv_cond_wait(&c->changed, &c->mutex);
    kv_mutex_unlock(&c->mutex);
}

static void let_go(struct counting *c)
{
    kv_mutex_lock(&c->mutex);
    c->hold = false;
    kv_cond_broadcast(&c->changed);
    kv_mutex_unlock(&c->mutex);
}

Test(env, slow_jobs_leave_the_last_worker_to_urgent_ones, .timeout = 60)
{
    struct kv_env_options options = {.threads = 3};
    struct kv_env *env = NULL;
    struct counting slow, urgent;
    struct kv_env_job merge, flush;
    counting_init(&slow);
    counting_init(&urgent);
    slow.hold = true;
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    kv_env_job_init(&merge, true, 8, count_piece, &slow);
    kv_env_job_init(&flush, false, 1, count_piece, &urgent);
    kv_env_job_kick(env, &merge);
    wait_begun(&slow, 1);
    kv_env_job_kick(env, &merge);
    wait_begun(&slow, 2);         /* side by side */
    kv_env_job_kick(env, &merge); /* would be the third */
    kv_env_job_kick(env, &flush);
    wait_begun(&urgent, 1);
    let_go(&slow);
    wait_begun(&slow, 3);
    kv_env_job_stop(env, &merge);
    kv_env_job_stop(env, &flush);
    cr_assert_eq(slow.most, 2);
    kv_env_close(env);
    counting_release(&slow);
    counting_release(&urgent);
}

Test(env, a_single_worker_runs_everything_in_turns, .timeout = 60)
{
    struct kv_env_options options = {.threads = 1};
    struct kv_env *env = NULL;
    struct counting counting;
    struct kv_env_job merge, flush;
    counting_init(&counting);
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    kv_env_job_init(&merge, true, 8, count_piece, &counting);
    kv_env_job_init(&flush, false, 1, count_piece, &counting);
    kv_env_job_kick(env, &merge);
    wait_begun(&counting, 1);
    kv_env_job_kick(env, &flush);
    wait_begun(&counting, 2);
    kv_env_job_stop(env, &merge);
    kv_env_job_stop(env, &flush);
    cr_assert_eq(counting.most, 1);
    kv_env_close(env);
    counting_release(&counting);
}

Test(env, a_job_can_be_kicked_at_a_time_to_come_by_idle_workers, .timeout = 60)
{
    struct kv_env_options options = {.threads = 2};
    struct kv_env *env = NULL;
    struct counting soon, never;
    struct kv_env_job job, other;
    counting_init(&soon);
    counting_init(&never);
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    kv_env_job_init(&job, true, 1, count_piece, &soon);
    kv_env_job_init(&other, true, 1, count_piece, &never);
    uint64_t at = kv_clock_mono_ns(kv_env_clock(env)) + 20000000;
    kv_env_job_at(env, &other, at);
    kv_env_job_at(env, &other, 0); /* not after all */
    kv_env_job_at(env, &job, at + (uint64_t)3600 * 1000000000);
    kv_env_job_at(env, &job, at); /* in its place */
    wait_begun(&soon, 1);
    cr_assert(kv_clock_mono_ns(kv_env_clock(env)) >= at);
    kv_env_job_at(env, &job, at + (uint64_t)3600 * 1000000000); /* still waiting at the end */
    kv_env_job_stop(env, &job);
    kv_env_job_stop(env, &other);
    cr_assert_eq(never.begun, 0);
    kv_env_close(env);
    counting_release(&soon);
    counting_release(&never);
}

Test(env, an_environment_in_memory_leaves_nothing_behind)
{
    struct kv_env_options options = {.in_memory = true, .threads = KV_THREADS_NONE};
    const struct kv_space_options space = {.name = "s"};
    const struct kv_options db_options = {.spaces = &space, .n_spaces = 1};
    for (int life = 0; life < 2; life++) {
        struct kv_env *env = NULL;
        struct kv_err err = {0};
        cr_assert_eq(kv_env_open(&options, &env, &err), KV_OK, "%s", err.text);
        for (int again = 0; again < 2; again++) {
            struct kv_db *db = NULL;
            struct kv_batch *batch = NULL;
            struct kv_pinned got;
            cr_assert_eq(kv_open(env, "no/such/place", &db_options, &db, &err), KV_OK, "%s", err.text);
            cr_assert_eq(kv_get(db, NULL, 0, KV_STR("k"), &got, &err), again ? KV_OK : KV_NOT_FOUND);
            kv_pinned_release(&got);
            cr_assert_eq(kv_batch_new(&batch), KV_OK);
            cr_assert_eq(kv_batch_put(batch, 0, KV_STR("k"), KV_STR("v")), KV_OK);
            cr_assert_eq(kv_commit(db, batch, NULL, NULL, &err), KV_OK, "%s", err.text);
            cr_assert_eq(kv_flush(db, &err), KV_OK);
            kv_batch_free(batch);
            cr_assert_eq(kv_close(db, &err), KV_OK);
        }
        kv_env_close(env);
    }
    struct kv_env *env = NULL;
    options.vfs = kv_vfs_posix();
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_INVALID);
}
