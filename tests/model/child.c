#include "tests/model/child.h"
#include "kvcore/base/assert.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REPLAY_SECONDS = 60 };

volatile struct child_told *child_told;
static void (*child_play)(const struct history *history);

void child_init(void (*play)(const struct history *history))
{
    child_told = mmap(NULL, sizeof *child_told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KV_ASSERT((const void *)child_told != MAP_FAILED);
    child_play = play;
}

uint64_t child_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

int child_run(void (*run)(void))
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    KV_ASSERT(child >= 0);
    if (child == 0) {
        run();
        _exit(0);
    }
    pid_t ended = waitpid(child, &status, 0);
    KV_ASSERT(ended == child);
    return status;
}

static const struct history *child_history;
static bool child_quiet;

static void play_one(void)
{
    if (child_quiet && !freopen("/dev/null", "w", stderr))
        _exit(2);
    alarm(REPLAY_SECONDS);
    child_play(child_history);
}

bool child_fails(const struct history *history, bool quiet)
{
    child_history = history;
    child_quiet = quiet;
    int status = child_run(play_one);
    if (!quiet && WIFSIGNALED(status))
        fprintf(stderr, "ended by signal %d\n", WTERMSIG(status));
    return status != 0;
}

bool child_fails_quietly(const struct history *history)
{
    return child_fails(history, true);
}

int child_replay(const char *path)
{
    struct history history;
    if (!history_read(&history, path))
        return 1;
    bool failed = child_fails(&history, false);
    printf("%s: %zu operations, %s\n", path, history.n, failed ? "FAILED" : "as expected");
    history_release(&history);
    return failed;
}

bool child_number(const char *name, char **argv, int argc, int *i, uint64_t *out)
{
    if (strcmp(argv[*i], name) != 0 || *i + 1 >= argc)
        return false;
    *out = strtoull(argv[++*i], NULL, 10);
    return true;
}

bool child_flag(const char *name, const char *arg, bool value, bool *out)
{
    if (strcmp(name, arg) != 0)
        return false;
    *out = value;
    return true;
}
