/* core/plugin/remote_host.c - one plugin host: its start, what it prints, and how it
 * died. */
#include "core/plugin/remote_inside.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/log.h"

#define ANSWER_MAX (EXJ_WIRE_MAX - 64u * 1024u) /* leaves room for the other fields */
#define LINES_A_SECOND 100u
/* A host whose socket is closed has so long to end by itself: the kernel closes it before it
 * tells the exit status, and on a busy machine much may run between the two. */
#define DYING_MS 1000
#define START_MS 10000u

exj_nsec exj_rhost_start_ns(const exj_remote_settings *s)
{
    return (exj_nsec)(s->start_ms ? s->start_ms : START_MS) * 1000000;
}

static void tell_start(exj_rhost *h, const char *id)
{
    if (!h->settings->host_seen)
        return;
    h->seen_pid = h->child.pid;
    h->settings->host_seen(h->settings->record_user, id, h->seen_pid, "start");
}

static void tell_end(exj_rhost *h, const char *outcome)
{
    if (h->seen_pid)
        h->settings->host_seen(h->settings->record_user, "", h->seen_pid, outcome);
    h->seen_pid = 0;
}

exj_code exj_rhost_start(const exj_remote_settings *s, exj_lane lane, const char *copy,
                         const char *shown, const char *id, exj_rhost **ret, exj_err *err)
{
    exj_rhost *h = calloc(1, sizeof *h);
    exj_buf hello = EXJ_BUF_INIT;
    exj_code rc;

    if (!h)
        return exj_err_set(err, EXJ_NOMEM, "plugin host of '%s': out of memory", shown);
    h->settings = s;
    h->child = EXJ_CHILD_NONE;
    rc = exj_spawn_host(s, lane, &h->child, err);
    if (!rc)
        tell_start(h, id);
    if (!rc)
        rc = exj_wire_new(h->child.socket, EXJ_WIRE_MAX, &h->wire, err);
    if (!rc) {
        h->child.socket = -1; /* the wire's now */
        exj_wire_u32(&hello, EXJ_WIRE_VERSION);
        exj_wire_u32(&hello, EXJ_WIRE_VERSION);
        exj_wire_u32(&hello, ANSWER_MAX);
        exj_wire_text(&hello, exj_slice_of(copy));
        exj_wire_text(&hello, exj_slice_of(shown));
        exj_wire_text(&hello, exj_slice_of(id));
        if (hello.failed || exj_wire_send(h->wire, EXJ_F_HELLO, 0, exj_buf_slice(&hello),
                                          NULL) == EXJ_NOMEM)
            rc = exj_err_set(err, EXJ_NOMEM, "plugin host of '%s': out of memory", shown);
        /* when it is gone already, reading tells how */
    }
    exj_buf_release(&hello);
    if (rc) {
        exj_rhost_free(h);
        return rc;
    }
    h->until = exj_clock_mono_ns() + exj_rhost_start_ns(s);
    *ret = h;
    return EXJ_OK;
}

void exj_rhost_free(exj_rhost *h)
{
    if (!h)
        return;
    exj_child_end(&h->child);
    tell_end(h, "exit");
    exj_wire_free(h->wire);
    exj_buf_release(&h->model);
    free(h);
}

/* ---- what it prints --------------------------------------------------------------- */

static void end_line(exj_rhost *h, const char *id)
{
    exj_nsec now = exj_clock_mono_ns();
    char text[EXJ_LINE_BYTES];

    if (now - h->lines_since >= 1000000000) {
        if (h->lines_dropped)
            exj_log(EXJ_LOG_WARN, "plugin",
                    "%s: %u more lines were printed and are not shown", id,
                    h->lines_dropped);
        h->lines_since = now;
        h->lines = h->lines_dropped = 0;
    }
    if (h->lines < LINES_A_SECOND) {
        size_t n = exj_clean_text(h->line, h->line_n, text, sizeof text);

        if (n || h->line_cut)
            exj_log(EXJ_LOG_INFO, "plugin", "%s: %s%s", id, text,
                    h->line_cut ? " …" : "");
        h->lines++;
    } else {
        h->lines_dropped++;
    }
    h->line_n = 0;
    h->line_cut = false;
}

void exj_rhost_print(exj_rhost *h, const char *id)
{
    char bytes[4096];
    ssize_t n = 0;

    for (unsigned k = 0; k < 16 && h->child.log >= 0;
         k++) { /* then others have their turn */
        n = read(h->child.log, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        for (ssize_t at = 0; at < n; at++) {
            if (bytes[at] == '\n')
                end_line(h, id);
            else if (h->line_n + 1 < sizeof h->line)
                h->line[h->line_n++] = bytes[at];
            else
                h->line_cut = true;
        }
    }
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        if (h->line_n)
            end_line(h, id);
        close(h->child.log);
        h->child.log = -1;
    }
}

/* ---- how it died ------------------------------------------------------------------ */

/* What the crash handler left. It is the host's memory: nothing in it is believed. */
static void read_crash(exj_rhost *h, exj_death *d)
{
    char text[EXJ_CRASH_TEXT];
    exj_crash crash;
    size_t from = 0;
    ssize_t n;

    if (pread(h->child.crash, &crash, sizeof crash, 0) != (ssize_t)sizeof crash ||
        crash.signal == 0 || crash.signal > 64)
        return;
    d->signal = crash.signal;
    d->call = crash.call;
    if (crash.bytes > sizeof text)
        crash.bytes = sizeof text;
    n = pread(h->child.crash, text, crash.bytes, (off_t)sizeof crash);
    for (size_t at = 0; n > 0 && at <= (size_t)n; at++) { /* lines become "a < b < c" */
        if (at < (size_t)n && text[at] != '\n')
            continue;
        if (at > from && d->trace_n + 8 < sizeof d->trace) {
            if (d->trace_n) {
                memcpy(d->trace + d->trace_n, " < ", 3);
                d->trace_n += 3;
            }
            d->trace_n += exj_clean_text(text + from, at - from, d->trace + d->trace_n,
                                         sizeof d->trace - d->trace_n);
        }
        from = at + 1;
    }
}

void exj_rhost_autopsy(exj_rhost *h, const char *id, const char *rule, exj_death *ret)
{
    exj_child_fate fate;
    /* Only its own end is worth waiting for. `ending` needs no lock: the pump has taken it off
     * the lists, nobody else writes it any more. */
    bool by_itself = !rule[0] && !h->ending && !atomic_load(&h->our_fault);

    memset(ret, 0, sizeof *ret);
    fate = exj_child_reap(&h->child, by_itself ? DYING_MS : 0);
    tell_end(h, by_itself || rule[0] ? "crash" : "exit");
    exj_rhost_print(h, id);
    read_crash(h, ret);
    if (rule[0]) {
        snprintf(ret->name, sizeof ret->name, "broken wire");
        snprintf(ret->what, sizeof ret->what,
                 "broke the rules of its connection (%.180s)", rule);
    } else if (ret->signal) {
        exj_signal_name((int)ret->signal, ret->name, sizeof ret->name);
        snprintf(ret->what, sizeof ret->what, "crashed with %s", ret->name);
    } else if (fate.forced) {
        snprintf(ret->name, sizeof ret->name, "closed connection");
        snprintf(ret->what, sizeof ret->what, "closed its connection to the core");
    } else if (fate.exited) {
        snprintf(ret->name, sizeof ret->name, "exit status %d", fate.status);
        snprintf(ret->what, sizeof ret->what, "ended with exit status %d", fate.status);
    } else {
        ret->signal = (uint32_t)fate.status;
        exj_signal_name(fate.status, ret->name, sizeof ret->name);
        if (fate.status == SIGKILL)
            snprintf(ret->what, sizeof ret->what,
                     "was killed by SIGKILL (out of memory?)");
        else
            snprintf(ret->what, sizeof ret->what, "crashed with %s", ret->name);
    }
}
