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
#include "tests/model/child.h"
#include "tests/model/committers.h"
#include "tests/model/player.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SWEEP_SETS = 24, SHRINK_TRIES = 3000 };

static struct {
    uint64_t seed, ops, life, seconds, options;
    bool sweep, workers, committers, print, shrink, replay, fixed_options;
} args = {.seed = 1, .ops = 1000000, .life = 3000, .seconds = UINT64_MAX, .shrink = true};

static void make(struct history *history, uint64_t seed, uint32_t options)
{
    *history = (struct history){.options = options, .threads = args.workers ? 2 : 0};
    history_make(history, seed, args.life, args.sweep);
}

static void play(const struct history *history)
{
    uint64_t played = 0;
    child_told->hash = player_run(history, &played);
    child_told->played += played;
    child_told->lives++;
}

static uint64_t hash_first;

/* Are there two option sets that answer differently? */
static bool differs(const struct history *history)
{
    struct history other = *history;
    if (child_fails(history, true))
        return false;
    uint64_t first = child_told->hash;
    other.options = (uint32_t)hash_first;
    return !child_fails(&other, true) && child_told->hash != first;
}

/* ---- many lives in one child; when one fails, the parent takes it apart */

static void live_sweep(uint64_t seed)
{
    uint64_t first = 0;
    for (uint32_t set = 0; set < SWEEP_SETS; set++) {
        struct history history;
        child_told->options = set;
        make(&history, seed, set);
        play(&history);
        history_release(&history);
        if (set == 0)
            first = child_told->hash;
        if (child_told->hash != first) {
            fprintf(stderr, "option sets 0 and %u answer differently\n", set);
            exit(4);
        }
    }
}

static void live_all(void)
{
    uint64_t end = args.seconds == UINT64_MAX ? UINT64_MAX : child_seconds() + args.seconds;
    for (uint64_t seed = args.seed; child_told->played < args.ops && child_seconds() < end; seed++) {
        child_told->seed = seed;
        child_told->options = args.fixed_options ? args.options : (seed * 2654435761u >> 7) % 100000;
        if (args.committers) {
            child_told->played += committers_run(seed, (uint32_t)child_told->options, args.life / 10);
            child_told->lives++;
            continue;
        }
        if (args.sweep) {
            live_sweep(seed);
            continue;
        }
        struct history history;
        make(&history, seed, (uint32_t)child_told->options);
        play(&history);
        history_release(&history);
    }
    _exit(0);
}

static void report_failure(int status)
{
    struct history history;
    bool differently = WIFEXITED(status) && WEXITSTATUS(status) == 4;
    printf("FAILED: --seed %" PRIu64 " --life %" PRIu64 " --options %" PRIu64 "%s%s", child_told->seed,
           args.life, child_told->options,
           args.committers ? " --committers"
           : args.sweep    ? " --options-sweep"
                           : "",
           args.workers ? " --workers" : "");
    if (WIFSIGNALED(status))
        printf(" (signal %d)", WTERMSIG(status));
    printf("\n");
    if (!args.shrink || args.committers)
        return;
    make(&history, child_told->seed, (uint32_t)child_told->options);
    uint64_t began = child_seconds();
    hash_first = 0;
    if (differently ? !differs(&history) : !child_fails(&history, true)) {
        printf("it does not fail again by itself\n");
    } else {
        history_shrink(&history, differently ? differs : child_fails_quietly, SHRINK_TRIES);
        printf("# shrunk to %zu operations in %" PRIu64 " s\n", history.n, child_seconds() - began);
        history_print(&history, stdout);
        (void)child_fails(&history, false);
    }
    history_release(&history);
}

static int live(void)
{
    int status = 0;
    uint64_t began = child_seconds();
    status = child_run(live_all);
    uint64_t took = child_seconds() - began, played = child_told->played, lives = child_told->lives;
    if (status != 0)
        report_failure(status);
    printf("%" PRIu64 " operations in %" PRIu64 " lives, %" PRIu64 " s, from seed %" PRIu64 "%s: %s\n",
           played, lives, took, args.seed, args.sweep ? ", each under 24 option sets" : "",
           status ? "FAILED" : "no violation");
    return status != 0;
}

/* ---- command line */

static int usage(const char *arg)
{
    fprintf(stderr, "kv_model: what is %s? The beginning of tests/model/kv_model.c says what can be asked\n",
            arg);
    return 2;
}

static bool option(char **argv, int argc, int *i)
{
    if (child_number("--options", argv, argc, i, &args.options))
        return args.fixed_options = true;
    return child_number("--seed", argv, argc, i, &args.seed) ||
           child_number("--ops", argv, argc, i, &args.ops) ||
           child_number("--life", argv, argc, i, &args.life) ||
           child_number("--seconds", argv, argc, i, &args.seconds) ||
           child_flag("--options-sweep", argv[*i], true, &args.sweep) ||
           child_flag("--workers", argv[*i], true, &args.workers) ||
           child_flag("--committers", argv[*i], true, &args.committers) ||
           child_flag("--print", argv[*i], true, &args.print) ||
           child_flag("--replay", argv[*i], true, &args.replay) ||
           child_flag("--no-shrink", argv[*i], false, &args.shrink);
}

int main(int argc, char **argv)
{
    int failed = 0;
    model_keys_init();
    child_init(play);
    for (int i = 1; i < argc; i++) {
        if (option(argv, argc, &i))
            continue;
        if (!args.replay)
            return usage(argv[i]);
        failed += child_replay(argv[i]);
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
