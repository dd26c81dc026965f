/*
 * Random lives of a store of samples beside a naive one (naive.h). One seed makes one history of operations; every answer is compared. A
 * history that fails is shrunk and printed in a form that --replay reads.
 *
 *   samples_model [--seed N] [--ops M] [--life L]   lives of about L operations from seed N on, until M were played
 *   samples_model --workers ...                     with background workers, the caretaker and the merger
 *   samples_model --print --seed N [--life L]       the history of a seed
 *   samples_model --replay FILE...                  histories
 *   --options K: this option set; --seconds S: no longer than so; --no-shrink
 */
#include "tests/model/child.h"
#include "tests/model/samples/player.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { SHRINK_TRIES = 3000 };

static struct {
    uint64_t seed, ops, life, seconds, options;
    bool workers, print, shrink, replay, fixed_options;
} args = {.seed = 1, .ops = 1000000, .life = 600, .seconds = UINT64_MAX, .shrink = true};

static void make(struct history *history, uint64_t seed, uint32_t options)
{
    *history = (struct history){.options = options, .threads = args.workers ? 2 : 0};
    samples_make(history, seed, args.life);
}

static void play(const struct history *history)
{
    player_run(history, &child_told->played);
    child_told->lives++;
}

static void live_all(void)
{
    uint64_t end = args.seconds == UINT64_MAX ? UINT64_MAX : child_seconds() + args.seconds;
    for (uint64_t seed = args.seed; child_told->played < args.ops && child_seconds() < end; seed++) {
        struct history history;
        child_told->seed = seed;
        child_told->options = args.fixed_options ? args.options
                                                 : (seed * 2654435761u >> 7) % SAMPLES_LIMITED_FROM +
                                                       (seed & 1) * SAMPLES_LIMITED_FROM;
        make(&history, seed, (uint32_t)child_told->options);
        play(&history);
        history_release(&history);
    }
}

static void report_failure(int status)
{
    struct history history;
    printf("FAILED: --seed %" PRIu64 " --life %" PRIu64 " --options %" PRIu64 "%s", child_told->seed,
           args.life, child_told->options, args.workers ? " --workers" : "");
    if (WIFSIGNALED(status))
        printf(" (signal %d)", WTERMSIG(status));
    printf("\n");
    if (!args.shrink)
        return;
    make(&history, child_told->seed, (uint32_t)child_told->options);
    uint64_t began = child_seconds();
    if (!child_fails(&history, true)) {
        printf("it does not fail again by itself\n");
    } else {
        history_shrink(&history, child_fails_quietly, SHRINK_TRIES);
        printf("# shrunk to %zu operations in %" PRIu64 " s\n", history.n, child_seconds() - began);
        history_print(&history, stdout);
        (void)child_fails(&history, false);
    }
    history_release(&history);
}

static int live(void)
{
    uint64_t began = child_seconds();
    int status = child_run(live_all);
    uint64_t took = child_seconds() - began, played = child_told->played, lives = child_told->lives;
    if (status != 0)
        report_failure(status);
    printf("%" PRIu64 " operations in %" PRIu64 " lives, %" PRIu64 " s, from seed %" PRIu64 ": %s\n", played,
           lives, took, args.seed, status ? "FAILED" : "no violation");
    return status != 0;
}

static int usage(const char *arg)
{
    fprintf(stderr, "samples_model: what is %s? The beginning of samples_model.c says what can be asked\n",
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
           child_flag("--workers", argv[*i], true, &args.workers) ||
           child_flag("--print", argv[*i], true, &args.print) ||
           child_flag("--replay", argv[*i], true, &args.replay) ||
           child_flag("--no-shrink", argv[*i], false, &args.shrink);
}

int main(int argc, char **argv)
{
    int failed = 0;
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
