/*
 * Random lives of a database beside a naive model of it (model.h). One seed makes one history of operations and one set of options; every
 * answer is compared. A history that fails is shrunk and printed in a form that --replay reads.
 *
 *   kv_model [--seed N] [--ops M] [--life L]   lives of about L operations from seed N on, until M were played
 *   kv_model --options-sweep ...               each history under 24 option sets: the same answers, to the bit
 *   kv_model --workers ...                     with background workers
 *   kv_model --committers ...                  instead: threads that commit at once (committers.h)
 *   kv_model --print --seed N [--life L]       the history of a seed
 *   kv_model --replay FILE...                  histories
 *   --options K: this option set; --seconds S: no longer than so; --no-shrink
 */
#include "kvcore/base/assert.h"
#include "tests/model/committers.h"
#include "tests/model/player.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SWEEP_SETS = 24, SHRINK_TRIES = 3000, REPLAY_SECONDS = 60 };

static struct {
    uint64_t seed, ops, life, seconds, options;
    bool sweep, workers, committers, print, shrink, replay, fixed_options;
} args = {.seed = 1, .ops = 1000000, .life = 3000, .seconds = UINT64_MAX, .shrink = true};

/* What the children tell the parent. */
static volatile struct {
    uint64_t seed, options, hash, played, lives;
} * told;

static uint64_t seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static void make(struct history *history, uint64_t seed, uint32_t options)
{
    *history = (struct history){.options = options, .threads = args.workers ? 2 : 0};
    history_make(history, seed, args.life, args.sweep);
}

static void play(const struct history *history)
{
    uint64_t played = 0;
    told->hash = player_run(history, &played);
    told->played += played;
    told->lives++;
}

/* ---- a history in a process of its own */

static bool fails_in(const struct history *history, bool quiet)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    KV_ASSERT(child >= 0);
    if (child == 0) {
        if (quiet && !freopen("/dev/null", "w", stderr))
            _exit(2);
        alarm(REPLAY_SECONDS);
        play(history);
        _exit(0);
    }
    pid_t ended = waitpid(child, &status, 0);
    KV_ASSERT(ended == child);
    if (!quiet && WIFSIGNALED(status))
        fprintf(stderr, "ended by signal %d\n", WTERMSIG(status));
    return status != 0;
}

static bool fails_quietly(const struct history *history)
{
    return fails_in(history, true);
}

static uint64_t hash_first;

/* Are there two option sets that answer differently? */
static bool differs(const struct history *history)
{
    struct history other = *history;
    if (fails_in(history, true))
        return false;
    uint64_t first = told->hash;
    other.options = (uint32_t)hash_first;
    return !fails_in(&other, true) && told->hash != first;
}

static int replay(const char *path)
{
    struct history history;
    if (!history_read(&history, path))
        return 1;
    bool failed = fails_in(&history, false);
    printf("%s: %zu operations, %s\n", path, history.n, failed ? "FAILED" : "as expected");
    history_release(&history);
    return failed;
}

/* ---- many lives in one child; when one fails, the parent takes it apart */

static void live_sweep(uint64_t seed)
{
    uint64_t first = 0;
    for (uint32_t set = 0; set < SWEEP_SETS; set++) {
        struct history history;
        told->options = set;
        make(&history, seed, set);
        play(&history);
        history_release(&history);
        if (set == 0)
            first = told->hash;
        if (told->hash != first) {
            fprintf(stderr, "option sets 0 and %u answer differently\n", set);
            exit(4);
        }
    }
}

static void live_all(void)
{
    uint64_t end = args.seconds == UINT64_MAX ? UINT64_MAX : seconds_now() + args.seconds;
    for (uint64_t seed = args.seed; told->played < args.ops && seconds_now() < end; seed++) {
        told->seed = seed;
        told->options = args.fixed_options ? args.options : (seed * 2654435761u >> 7) % 100000;
        if (args.committers) {
            told->played += committers_run(seed, (uint32_t)told->options, args.life / 10);
            told->lives++;
            continue;
        }
        if (args.sweep) {
            live_sweep(seed);
            continue;
        }
        struct history history;
        make(&history, seed, (uint32_t)told->options);
        play(&history);
        history_release(&history);
    }
    _exit(0);
}

static void report_failure(int status)
{
    struct history history;
    bool differently = WIFEXITED(status) && WEXITSTATUS(status) == 4;
    printf("FAILED: --seed %" PRIu64 " --life %" PRIu64 " --options %" PRIu64 "%s%s", told->seed, args.life,
           told->options,
           args.committers ? " --committers"
           : args.sweep    ? " --options-sweep"
                           : "",
           args.workers ? " --workers" : "");
    if (WIFSIGNALED(status))
        printf(" (signal %d)", WTERMSIG(status));
    printf("\n");
    if (!args.shrink || args.committers)
        return;
    make(&history, told->seed, (uint32_t)told->options);
    uint64_t began = seconds_now();
    hash_first = 0;
    if (differently ? !differs(&history) : !fails_in(&history, true)) {
        printf("it does not fail again by itself\n");
    } else {
        history_shrink(&history, differently ? differs : fails_quietly, SHRINK_TRIES);
        printf("# shrunk to %zu operations in %" PRIu64 " s\n", history.n, seconds_now() - began);
        history_print(&history, stdout);
        (void)fails_in(&history, false);
    }
    history_release(&history);
}

static int live(void)
{
    int status = 0;
    uint64_t began = seconds_now();
    fflush(NULL);
    pid_t child = fork();
    KV_ASSERT(child >= 0);
    if (child == 0)
        live_all();
    pid_t ended = waitpid(child, &status, 0);
    KV_ASSERT(ended == child);
    uint64_t took = seconds_now() - began, played = told->played, lives = told->lives;
    if (status != 0)
        report_failure(status);
    printf("%" PRIu64 " operations in %" PRIu64 " lives, %" PRIu64 " s, from seed %" PRIu64 "%s: %s\n",
           played, lives, took, args.seed, args.sweep ? ", each under 24 option sets" : "",
           status ? "FAILED" : "no violation");
    return status != 0;
}

/* ---- command line */

static bool number_option(const char *name, char **argv, int argc, int *i, uint64_t *out)
{
    if (strcmp(argv[*i], name) != 0 || *i + 1 >= argc)
        return false;
    *out = strtoull(argv[++*i], NULL, 10);
    return true;
}

static bool flag_option(const char *name, const char *arg, bool value, bool *out)
{
    if (strcmp(name, arg) != 0)
        return false;
    *out = value;
    return true;
}

static int usage(const char *arg)
{
    fprintf(stderr, "kv_model: what is %s? The beginning of tests/model/kv_model.c says what can be asked\n",
            arg);
    return 2;
}

static bool option(char **argv, int argc, int *i)
{
    if (number_option("--options", argv, argc, i, &args.options))
        return args.fixed_options = true;
    return number_option("--seed", argv, argc, i, &args.seed) ||
           number_option("--ops", argv, argc, i, &args.ops) ||
           number_option("--life", argv, argc, i, &args.life) ||
           number_option("--seconds", argv, argc, i, &args.seconds) ||
           flag_option("--options-sweep", argv[*i], true, &args.sweep) ||
           flag_option("--workers", argv[*i], true, &args.workers) ||
           flag_option("--committers", argv[*i], true, &args.committers) ||
           flag_option("--print", argv[*i], true, &args.print) ||
           flag_option("--replay", argv[*i], true, &args.replay) ||
           flag_option("--no-shrink", argv[*i], false, &args.shrink);
}

int main(int argc, char **argv)
{
    int failed = 0;
    model_keys_init();
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KV_ASSERT((const void *)told != MAP_FAILED);
    for (int i = 1; i < argc; i++) {
        if (option(argv, argc, &i))
            continue;
        if (!args.replay)
            return usage(argv[i]);
        failed += replay(argv[i]);
    }
    if (args.print) {
        struct history history;
        make(&history, args.seed, (uint32_t)args.options);
        history_print(&history, stdout);
        history_release(&history);
    } else if (!args.replay) {
        failed = live();
    }
    return failed != 0;
}
