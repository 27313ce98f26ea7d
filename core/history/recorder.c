#include "core/history/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"

struct exj_recorder {
    /* set when it is made, then read-only */
    int fd; /* owned; -1: a sink */
    void (*sink)(void *user, const exj_hist_event *e);
    void *user;
    char actor[EXJ_HIST_WORD_MAX + 1];
    exj_slice actor_slice; /* of `actor` */
    uint64_t incarnation;

    /* atomic, relaxed: nothing else follows from them */
    atomic_uint_least64_t ids, lost;
    atomic_bool torn; /* the last line in the file may lack its newline */
};

static exj_code make(const char *actor, exj_recorder **ret, exj_err *err)
{
    exj_slice a = exj_slice_of(actor);
    exj_recorder *r = NULL;

    if (a.n == 0 || a.n > EXJ_HIST_WORD_MAX || !exj_utf8_is_valid(a))
        return exj_err_set(err, EXJ_INVALID,
                           "a history's actor is a text of 1 to %u bytes, not \"%s\"",
                           EXJ_HIST_WORD_MAX, actor ? actor : "");
    r = calloc(1, sizeof(*r));
    if (!r)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    memcpy(r->actor, a.p, a.n);
    r->actor_slice = (exj_slice){ r->actor, a.n };
    r->fd = -1;
    *ret = r;
    return EXJ_OK;
}

exj_code exj_recorder_open(const char *path, const char *actor, exj_recorder **ret, exj_err *err)
{
    exj_recorder *r = NULL;
    exj_code rc;

    rc = make(actor, &r, err);
    if (rc != EXJ_OK)
        return rc;
    r->incarnation = exj_random_u64();
    r->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (r->fd < 0) {
        rc = exj_err_set(err, EXJ_IO, "cannot write the history %s: %s", path, strerror(errno));
        free(r);
        return rc;
    }
    *ret = r;
    return EXJ_OK;
}

exj_code exj_recorder_open_fd(int fd, const char *actor, exj_recorder **ret, exj_err *err)
{
    exj_recorder *r = NULL;
    exj_code rc;

    if (fd < 0 || fcntl(fd, F_GETFD) < 0)
        return exj_err_set(err, EXJ_INVALID, "no descriptor %d to write a history to", fd);
    rc = make(actor, &r, err);
    if (rc != EXJ_OK)
        return rc;
    r->incarnation = exj_random_u64();
    r->fd = fd;
    *ret = r;
    return EXJ_OK;
}

exj_code exj_recorder_open_sink(void (*sink)(void *user, const exj_hist_event *e), void *user,
                                const char *actor, uint64_t incarnation, exj_recorder **ret,
                                exj_err *err)
{
    exj_recorder *r = NULL;
    exj_code rc = make(actor, &r, err);

    if (rc != EXJ_OK)
        return rc;
    r->sink = sink;
    r->user = user;
    r->incarnation = incarnation;
    *ret = r;
    return EXJ_OK;
}

void exj_recorder_close(exj_recorder *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

uint64_t exj_recorder_id(exj_recorder *r)
{
    return r ? atomic_fetch_add_explicit(&r->ids, 1, memory_order_relaxed) + 1 : 0;
}

uint64_t exj_recorder_lost(const exj_recorder *r)
{
    return r ? atomic_load_explicit(&r->lost, memory_order_relaxed) : 0;
}

int exj_recorder_fd(const exj_recorder *r)
{
    return r ? r->fd : -1;
}

static void lose(exj_recorder *r, size_t lines, const char *why)
{
    if (atomic_fetch_add_explicit(&r->lost, lines, memory_order_relaxed) == 0)
        exj_log(EXJ_LOG_WARN, "history",
                "a line cannot be written (%s): the history has holes from here on, the work "
                "goes on",
                why);
}

static void write_lines(exj_recorder *r, const char *p, size_t n, size_t lines)
{
    size_t done = 0;

    /* End what a full disk cut short, so that it does not swallow this line. A space between
     * two writes is no harm: a reader passes over empty lines. */
    if (atomic_load_explicit(&r->torn, memory_order_relaxed) &&
        atomic_exchange_explicit(&r->torn, false, memory_order_relaxed) &&
        write(r->fd, "\n", 1) != 1)
        atomic_store_explicit(&r->torn, true, memory_order_relaxed);
    while (done < n) {
        ssize_t got = write(r->fd, p + done, n - done);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            const char *why = got < 0 ? strerror(errno) : "nothing was written";

            for (size_t i = 0; i < done; i++)
                lines -= p[i] == '\n';
            if (done > 0)
                atomic_store_explicit(&r->torn, true, memory_order_relaxed);
            lose(r, lines, why);
            return;
        }
        done += (size_t)got;
    }
}

/* Sign the event, and give it to the sink where there is one. True: it still has to be written. */
static bool is_for_file(exj_recorder *r, exj_hist_event *e)
{
    if (!r)
        return false;
    e->t = exj_clock_mono_ns();
    e->actor = r->actor_slice;
    e->incarnation = r->incarnation;
    if (r->sink)
        r->sink(r->user, e);
    return !r->sink;
}

void exj_recorder_write(exj_recorder *r, exj_hist_event *e)
{
    char line[EXJ_HIST_LINE_MAX];
    exj_buf b = { .p = line, .cap = sizeof(line) };

    if (!is_for_file(r, e))
        return;
    exj_hist_format(&b, e); /* there is room: it cannot fail */
    write_lines(r, line, b.n, 1);
}

void exj_recorder_add(exj_recorder *r, exj_recorder_batch *b, exj_hist_event *e)
{
    exj_buf line;

    if (!is_for_file(r, e))
        return;
    if (sizeof(b->room) - b->n < EXJ_HIST_LINE_MAX)
        exj_recorder_flush(r, b);
    line = (exj_buf){ .p = b->room + b->n, .cap = sizeof(b->room) - b->n };
    exj_hist_format(&line, e);
    b->n += line.n;
    b->lines++;
}

void exj_recorder_flush(exj_recorder *r, exj_recorder_batch *b)
{
    if (r && b->n > 0)
        write_lines(r, b->room, b->n, b->lines);
    b->n = b->lines = 0;
}
