#include "core/main/bar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define WIDTH_MAX 30

void exj_bar_init(exj_bar *b, bool on, bool color, exj_nsec now)
{
    const char *term = getenv("TERM");

    *b = (exj_bar){ .on = on, .color = color, .started = now, .said = now, .rated = now,
                    .unit = "rows" };
    b->live = on && isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

uint64_t exj_bar_done(const exj_engine_counts *c)
{
    return c->completed + c->failed + c->blocked + c->suspended;
}

static void measure(exj_bar *b, uint64_t done, exj_nsec now)
{
    double seconds = (double)(now - b->rated) / (double)SECOND, fresh;

    if (seconds < 0.15)
        return;
    fresh = (double)(done - b->rated_done) / seconds;
    b->rate = b->rate > 0 ? 0.8 * b->rate + 0.2 * fresh : fresh;
    b->rated = now;
    b->rated_done = done;
}

/* "1h02m", "3m20s", "7s" */
static void format_span(double seconds, char *ret, size_t cap)
{
    unsigned long s = seconds > 359999 ? 359999 : (unsigned long)seconds;

    if (s >= 3600)
        snprintf(ret, cap, "%luh%02lum", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(ret, cap, "%lum%02lus", s / 60, s % 60);
    else
        snprintf(ret, cap, "%lus", s);
}

static int terminal_width(void)
{
    struct winsize w = { 0 };

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

static void draw_live(exj_bar *b, const exj_engine_counts *c, uint64_t done, uint64_t total,
                      const char *eta)
{
    char line[256], blocks[WIDTH_MAX * 3 + 1] = "";
    double part = total ? (double)done / (double)total : 0;
    int fill = (int)(part * WIDTH_MAX), columns = terminal_width(), n;

    for (int i = 0; i < WIDTH_MAX; i++)
        strcat(blocks, i < fill ? "=" : i == fill ? ">" : " ");
    n = snprintf(line, sizeof(line),
                 "[%s] %3d%% %" PRIu64 "/%" PRIu64 "%s %s  %.0f/s  %s%s", blocks,
                 (int)(part * 100), done, total, c->scanning ? "+" : "", b->unit, b->rate,
                 c->scanning ? "scanning" : "eta ", c->scanning ? "" : eta);
    if (c->failed && n > 0 && (size_t)n < sizeof(line))
        snprintf(line + n, sizeof(line) - (size_t)n, "  %" PRIu64 " failed", c->failed);
    fprintf(stderr, "\r\033[K%s%.*s%s", b->color ? "\033[36m" : "",
            columns > 1 ? columns - 1 : 1, line, b->color ? "\033[0m" : "");
    fflush(stderr);
    b->drawn = true;
}

void exj_bar_draw(exj_bar *b, const exj_engine_counts *c, exj_nsec now)
{
    uint64_t done = exj_bar_done(c);
    uint64_t total = done + (c->open > 0 ? (uint64_t)c->open : 0);
    char eta[32] = "?";

    if (!b->on)
        return;
    measure(b, done, now);
    if (b->rate > 0.01)
        format_span((double)(total - done) / b->rate, eta, sizeof(eta));
    if (b->live && now - b->started >= SECOND / 2) {
        draw_live(b, c, done, total, eta);
    } else if (!b->live && now - b->said >= 10 * SECOND) {
        b->said = now;
        fprintf(stderr, "%" PRIu64 "/%" PRIu64 "%s %s, %.0f/s, eta %s, %" PRIu64 " failed\n",
                done, total, c->scanning ? "+" : "", b->unit, b->rate, c->scanning ? "?" : eta,
                c->failed);
    }
}

void exj_bar_clear(exj_bar *b)
{
    if (b->drawn)
        fputs("\r\033[K", stderr);
    fflush(stderr);
    b->drawn = false;
}
