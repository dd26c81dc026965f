#include "tools/progress.h"
#include "kvcore/os/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define DRAW_NS UINT64_C(200000000)
#define SAY_NS  UINT64_C(10000000000)

void progress_begin(struct progress *progress, const char *what)
{
    uint64_t now = kv_clock_mono_ns(kv_clock_system());
    *progress =
        (struct progress){.what = what, .began_ns = now, .said_ns = now, .terminal = isatty(STDERR_FILENO)};
}

static void draw(struct progress *progress, const struct kv_progress *at, double seconds)
{
    enum { WIDTH = 30 };
    double part = at->bytes ? (double)at->bytes_done / (double)at->bytes : 0;
    double rate = seconds > 0 ? (double)at->bytes_done / seconds : 0;
    char cells[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++)
        cells[i] = i < part * WIDTH ? '#' : '.';
    cells[WIDTH] = 0;
    progress->open = true;
    if (!at->bytes)
        fprintf(stderr, "\r%s %.1f MB  %.1f MB/s   ", progress->what, (double)at->bytes_done / 1e6,
                rate / 1e6);
    else
        fprintf(stderr, "\r%s [%s] %3.0f%%  %.1f MB/s", progress->what, cells, part * 100, rate / 1e6);
    if (rate > 0 && at->bytes > at->bytes_done) {
        uint64_t left = (uint64_t)((double)(at->bytes - at->bytes_done) / rate);
        fprintf(stderr, "  %" PRIu64 ":%02" PRIu64 " left ", left / 60, left % 60);
    } else {
        fprintf(stderr, "             ");
    }
}

static void show_bar(struct progress *progress, const struct kv_progress *at, uint64_t now)
{
    bool last = at->bytes && at->bytes_done >= at->bytes;
    if (!last && now - progress->said_ns <= DRAW_NS)
        return;
    if (last && progress->tenth == 10)
        return; /* it was drawn */
    draw(progress, at, (double)(now - progress->began_ns) / 1e9);
    progress->said_ns = now;
    progress->tenth = last ? 10 : 0;
    if (last)
        progress_end(progress);
}

static void show_line(struct progress *progress, const struct kv_progress *at, uint64_t now)
{
    double seconds = (double)(now - progress->began_ns) / 1e9;
    if (at->bytes && at->bytes_done * 10 / at->bytes > progress->tenth) {
        progress->tenth = at->bytes_done * 10 / at->bytes;
        fprintf(stderr, "%s %" PRIu64 "%% %" PRIu64 " of %" PRIu64 " bytes, %.1f s\n", progress->what,
                progress->tenth * 10, at->bytes_done, at->bytes, seconds);
    } else if (!at->bytes && now - progress->said_ns > SAY_NS) {
        progress->said_ns = now;
        fprintf(stderr, "%s %" PRIu64 " bytes, %.1f s\n", progress->what, at->bytes_done, seconds);
    }
}

kv_status progress_show(void *ctx, const struct kv_progress *at)
{
    struct progress *progress = ctx;
    uint64_t now = kv_clock_mono_ns(kv_clock_system());
    if (progress->terminal)
        show_bar(progress, at, now);
    else
        show_line(progress, at, now);
    return KV_OK;
}

void progress_end(struct progress *progress)
{
    if (progress->open)
        fputc('\n', stderr);
    progress->open = false;
}
