/* The end of a check: records are put to their rows, every invariant is asked, and what
 * was found is told. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/history/check_inside.h"

/* ---- findings --------------------------------------------------------------------- */

const char *exj_check_to_word(unsigned to)
{
    static const char *const words[] = { "?",         "queued",  "waiting", "running",
                                         "completed", "failed",  "blocked", "suspended",
                                         "canceled",  "dropped", "?" };

    return words[to <= TO_OTHER ? to : TO_OTHER];
}

static void add_instant(exj_buf *b, exj_nsec t)
{
    if (t == CHECK_NEVER)
        exj_buf_add_text(b, "?");
    else if (t == CHECK_EVER)
        exj_buf_add_text(b, "no invoke");
    else
        exj_buf_add_i64(b, t);
}

/* "claim token 3 attempt 2 ok by worker/00000000000000aa #17, t 1200..1250" */
static void tell(exj_check *c, exj_buf *b, const check_rec *r)
{
    const check_inc *i = &c->incs[r->inc];
    exj_slice key = exj_check_text(c, r->key), actor = exj_check_text(c, i->actor);

    exj_buf_add_text(b, exj_hist_op_word((exj_hist_op)r->op));
    if (key.n)
        exj_buf_printf(b, " \"%.*s\"", (int)(key.n < 80 ? key.n : 80), key.p);
    if (r->token)
        exj_buf_printf(b, " token %" PRId64, r->token);
    if (r->attempt)
        exj_buf_printf(b, " attempt %" PRIu32, r->attempt);
    exj_buf_printf(b, " %s",
                   check_unknown(r) ? "unknown"
                                    : exj_hist_phase_word((exj_hist_phase)r->phase));
    if (r->to)
        exj_buf_printf(b, " to %s", exj_check_to_word(r->to));
    exj_buf_printf(b, " by %.*s/%016" PRIx64, (int)actor.n, actor.p, i->number);
    if (r->id)
        exj_buf_printf(b, " #%" PRIu64, r->id);
    exj_buf_add_text(b, ", t ");
    add_instant(b, r->t0);
    if (r->t1 != r->t0) {
        exj_buf_add_text(b, "..");
        add_instant(b, r->t1);
    }
}

static bool room_for_finding(exj_check *c)
{
    return exj_check_room((void **)&c->findings, c->findings_len, &c->findings_cap,
                          sizeof *c->findings);
}

void exj_check_broken(exj_check *c, unsigned invariant, const char *anomaly,
                      const check_row *r, const check_rec *a, const check_rec *b,
                      const char *format, ...)
{
    exj_check_finding *f;
    exj_buf t = EXJ_BUF_INIT;
    exj_slice job;
    char text[512];
    va_list ap;

    c->report.lines[invariant].findings++;
    if (c->kept[invariant] >= c->o.findings_most)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (r) {
        job = exj_check_text(c, r->job);
        exj_buf_printf(&t, "row %" PRId64, r->seq);
        if (job.n)
            exj_buf_printf(&t, " (%.*s)", (int)(job.n < 200 ? job.n : 200), job.p);
        exj_buf_add_text(&t, ": ");
    }
    exj_buf_add_text(&t, text);
    if (a) {
        exj_buf_add_text(&t, "; ");
        tell(c, &t, a);
    }
    if (b) {
        exj_buf_add_text(&t, "; ");
        tell(c, &t, b);
    }
    if (t.failed || !room_for_finding(c)) {
        exj_buf_release(&t);
        c->failed = true;
        return;
    }
    c->kept[invariant]++;
    f = &c->findings[c->findings_len++];
    *f = (exj_check_finding){ .invariant = invariant,
                              .anomaly = anomaly,
                              .row = r ? r->seq : 0,
                              .text = exj_buf_take(&t) };
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

void exj_check_spread_of(uint64_t *values, size_t n, exj_check_spread *ret)
{
    *ret = (exj_check_spread){ .n = n };
    if (!n)
        return;
    qsort(values, n, sizeof *values, by_value);
    ret->p50 = values[(n - 1) / 2];
    ret->p99 = values[(n - 1) - (n - 1) / 100];
    ret->max = values[n - 1];
}

/* ---- what is not known ------------------------------------------------------------ */

#define KILL_TAKES 1000000000 /* ns from its line to the end of the process */

static void note_wild(exj_check *c, const check_rec *r)
{
    check_inc *i = &c->incs[r->inc];
    check_wild *w = &c->wild[r->op];

    if (w->len == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 16;
        exj_nsec *t0 = realloc(w->t0, cap * sizeof *t0), *t1;

        if (t0)
            w->t0 = t0;
        t1 = t0 ? realloc(w->t1, cap * sizeof *t1) : NULL;
        if (!t1) {
            c->failed = true;
            return;
        }
        w->t1 = t1;
        w->cap = cap;
    }
    w->t0[w->len] = r->t0;
    w->t1[w->len++] = r->t1;
    if (r->t0 < i->wild0[r->op])
        i->wild0[r->op] = r->t0;
    if (r->t1 > i->wild1[r->op])
        i->wild1[r->op] = r->t1;
}

static int by_time(const void *a, const void *b)
{
    exj_nsec x = *(const exj_nsec *)a, y = *(const exj_nsec *)b;

    return (x > y) - (x < y);
}

static size_t count_up_to(const exj_nsec *t, size_t len, exj_nsec most)
{
    size_t low = 0, high = len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (t[mid] <= most)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint64_t exj_check_wild(const exj_check *c, unsigned op, exj_nsec low, exj_nsec high)
{
    const check_wild *w = &c->wild[op];
    size_t begun, over;

    if (!w->len)
        return 0;
    begun = count_up_to(w->t0, w->len, high);
    over = low == CHECK_EVER ? 0 : count_up_to(w->t1, w->len, low - 1);
    return begun > over ? begun - over : 0;
}

static void note_unknown(exj_check *c)
{
    for (size_t i = 0; i < c->recs_len; i++) {
        check_rec *r = check_at(c, i);
        exj_nsec killed = c->incs[r->inc].killed_at;

        if (!check_unknown(r) || r->op == EXJ_HIST_EFFECT || r->op == EXJ_HIST_EXECUTE)
            continue;
        if (killed != CHECK_NEVER && killed >= r->t0)
            r->t1 = killed + KILL_TAKES; /* what did not happen by then never will */
        c->report.counts.unknown++;
        if (!r->row)
            note_wild(c, r);
    }
    for (uint32_t i = 0; i < c->incs_len; i++) {
        check_rec *r = c->incs[i].last;

        /* Killed between two ends of one operation? */
        if (!c->incs[i].stopped && r && r->many && r->row)
            note_wild(c, r);
    }
    for (int op = 0; op < EXJ_HIST_OP_COUNT && !c->failed; op++)
        if (c->wild[op].len) {
            qsort(c->wild[op].t0, c->wild[op].len, sizeof(exj_nsec), by_time);
            qsort(c->wild[op].t1, c->wild[op].len, sizeof(exj_nsec), by_time);
        }
}

/* ---- one pass over all records ---------------------------------------------------- */

static void count_ok(exj_check *c, const check_rec *r)
{
    exj_check_counts *n = &c->report.counts;

    switch ((exj_hist_op)r->op) {
    case EXJ_HIST_ENQUEUE:
        n->enqueued += r->outcome != W_EXISTING;
        if (r->row && r->outcome != W_EXISTING && r->row < c->first_new)
            c->first_new = r->row;
        break;
    case EXJ_HIST_CLAIM:
        n->claims += r->row != 0;
        break;
    case EXJ_HIST_RENEW:
        n->renewals++;
        break;
    case EXJ_HIST_STEP:
        n->steps++;
        break;
    case EXJ_HIST_COMPLETE:
        n->completes++;
        n->completed += r->to == TO_COMPLETED;
        break;
    case EXJ_HIST_RELEASE:
        n->releases++;
        break;
    case EXJ_HIST_REAP:
        n->expiries += r->row != 0;
        break;
    case EXJ_HIST_RETRY:
        n->retries++;
        break;
    case EXJ_HIST_RERUN:
        n->reruns++;
        break;
    case EXJ_HIST_CANCEL:
        n->cancels++;
        break;
    case EXJ_HIST_REMOVE:
        n->removed++;
        break;
    default:
        break;
    }
}

static void note_fault(exj_check *c, const check_rec *r)
{
    exj_check_counts *n = &c->report.counts;

    if (r->outcome == W_KILL) {
        n->kills++;
        for (uint32_t i = 0; i < c->incs_len; i++)
            if (r->value && c->incs[i].pid == r->value && c->incs[i].started_at < r->t0 &&
                !(c->incs[i].stopped && c->incs[i].stopped_at < r->t0) &&
                r->t0 < c->incs[i].killed_at)
                c->incs[i].killed_at = r->t0;
    } else if (r->outcome == W_STOP)
        n->stops++;
    else
        n->other_faults++;
}

static void note_world(exj_check *c, const check_rec *r)
{
    exj_check_counts *n = &c->report.counts;

    switch ((exj_hist_op)r->op) {
    case EXJ_HIST_FAULT:
        note_fault(c, r);
        break;
    case EXJ_HIST_QUIET:
        if (c->quiet == CHECK_NEVER || r->t0 > c->quiet)
            c->quiet = r->t0;
        break;
    case EXJ_HIST_SETTINGS:
        if (!c->o.lease_ms && r->value > 0 && r->value < INT64_MAX / 1000000)
            c->lease = r->value * 1000000;
        if (r->attempt && r->token > 0)
            c->in_flight = r->attempt * (uint64_t)r->token + (uint64_t)r->token;
        c->ordered = r->key;
        break;
    case EXJ_HIST_FINAL:
        n->finals++;
        if (r->t0 > c->final_t)
            c->final_t = r->t0;
        break;
    case EXJ_HIST_HOST:
        n->host_crashes += r->outcome == W_CRASH;
        break;
    case EXJ_HIST_EFFECT:
        n->effects++;
        break;
    case EXJ_HIST_EXECUTE:
        if (!r->generation)
            break; /* as its host saw it, once more */
        n->executions++;
        c->incs[r->inc].executes = true;
        break;
    default:
        break;
    }
}

/* "matrix|run|graph" of "matrix|run|graph|record" */
static exj_slice graph_of(exj_slice job)
{
    size_t bars = 0;

    for (size_t i = 0; i < job.n; i++)
        if (job.p[i] == '|' && ++bars == 3)
            return (exj_slice){ job.p, i };
    return (exj_slice){ "", 0 };
}

static bool is_of_row(const check_rec *r)
{
    return r->op < EXJ_HIST_TICK || r->op == EXJ_HIST_FINAL ||
           r->op == EXJ_HIST_EXECUTE || r->op == EXJ_HIST_EFFECT;
}

static bool name_jobs(exj_check *c)
{
    uint32_t jobs = c->texts.len;

    c->graph_of_job = calloc(jobs, sizeof *c->graph_of_job);
    c->row_of_job = malloc(jobs * sizeof *c->row_of_job);
    if (!c->graph_of_job || !c->row_of_job)
        return false;
    for (uint32_t i = 0; i < jobs; i++)
        c->row_of_job[i] = CHECK_NONE;
    for (size_t i = 0; i < c->recs_len; i++) {
        check_rec *r = check_at(c, i);
        check_row *row;

        if (r->row <= 0 || !is_of_row(r))
            continue;
        r->row_at = exj_check_row_at(c, r->row);
        if (r->row_at == CHECK_NONE)
            return false;
        row = &c->rows[r->row_at];
        if (!r->job)
            continue;
        if (!row->job)
            row->job = r->job;
        if (c->row_of_job[r->job] == CHECK_NONE)
            c->row_of_job[r->job] = r->row_at;
        if (!c->graph_of_job[r->job])
            c->graph_of_job[r->job] =
                exj_check_intern(c, graph_of(exj_check_text(c, r->job)));
        if (c->graph_of_job[r->job] == CHECK_NONE)
            return false;
    }
    c->graph_has_effect = calloc(c->texts.len, sizeof *c->graph_has_effect);
    if (!c->graph_has_effect)
        return false;
    for (size_t i = 0; i < c->recs_len; i++) {
        check_rec *r = check_at(c, i);

        if (r->row_at == CHECK_NONE && r->job && is_of_row(r))
            r->row_at = c->row_of_job[r->job];
        if (r->op == EXJ_HIST_EFFECT && r->row_at != CHECK_NONE)
            c->graph_has_effect[c->graph_of_job[c->rows[r->row_at].job]] = true;
    }
    return true;
}

/* The records of each row, row after row. */
static bool put_to_rows(exj_check *c)
{
    size_t at = 0;

    for (size_t i = 0; i < c->recs_len; i++)
        if (check_at(c, i)->row_at != CHECK_NONE)
            c->rows[check_at(c, i)->row_at].n++;
    for (uint32_t i = 0; i < c->rows_len; i++) {
        c->rows[i].first = at;
        at += c->rows[i].n;
        if (c->rows[i].n > c->work_cap)
            c->work_cap = c->rows[i].n;
        c->rows[i].n = 0;
    }
    c->by_row = malloc((at + 1) * sizeof *c->by_row);
    c->work = malloc((c->work_cap + 1) * sizeof(check_rec *));
    if (!c->by_row || !c->work)
        return false;
    for (size_t i = 0; i < c->recs_len; i++) {
        check_rec *r = check_at(c, i);

        if (r->row_at != CHECK_NONE) {
            check_row *row = &c->rows[r->row_at];

            c->by_row[row->first + row->n++] = r;
        }
    }
    return true;
}

static bool prepare(exj_check *c)
{
    exj_check_counts *n = &c->report.counts;

    for (size_t i = 0; i < c->recs_len; i++) {
        const check_rec *r = check_at(c, i);

        if (r->phase == EXJ_HIST_OK)
            count_ok(c, r);
        else if (r->phase == EXJ_HIST_FAIL && r->code == C_FENCED)
            n->refusals++;
        note_world(c, r);
    }
    note_unknown(c);
    if (c->failed)
        return false;
    if (c->o.lease_ms > 0 && c->o.lease_ms < INT64_MAX / 1000000)
        c->lease = c->o.lease_ms * 1000000;
    for (uint32_t i = 0; i < c->incs_len; i++) {
        n->cores += c->incs[i].started;
        n->crashed_cores += c->incs[i].started && !c->incs[i].stopped;
    }
    if (!name_jobs(c) || !put_to_rows(c))
        return false;
    n->rows = c->rows_len;
    return true;
}

/* ---- the report ------------------------------------------------------------------- */

static const struct {
    const char *title, *never;
} words[EXJ_CHECK_LAST + 1] = {
    [1] = { "what was enqueued is there",
            "no acknowledged row with the rows of the end" },
    [2] = { "every row was enqueued by someone", "no row is younger than the history" },
    [3] = { "every row comes to one end, and stays there",
            "no rows of the end after a QUIET" },
    [4] = { "at most one outcome is accepted",
            "no claim ended that was not the row's only one" },
    [5] = { "a token is given once", "no row was claimed twice" },
    [6] = { "what a claim that is over writes is refused", "no stale write was refused" },
    [7] = { "nothing else is refused", "no write was refused" },
    [8] = { "what is done was worked on", "no effect or execution of a completed row" },
    [9] = { "an effect is repeated for a reason only",
            "no effect of a row that was claimed twice" },
    [10] = { "attempts are counted and bounded", "no second attempt, no dead row" },
    [11] = { "a canceled row is not claimed again", "no row was canceled" },
    [12] = { "first come, first served", "no SETTINGS with workers and rows of a claim" },
    [13] = { "a killed worker's rows come back in time",
             "no KILL of a worker that held rows, or no lease is known" },
    [14] = { "an execution is of one generation, and it stays",
             "no generation was unmapped where something was executed" },
    [15] = { "nothing stands still", "no time after a QUIET with a known lease" },
    [16] = { "a reader misses nothing unsaid", "no reader of the event stream" },
    [17] = { "a finished step stays", "no later attempt met a finished step" },
    [18] = { "a command runs once for its key", "no command came twice" },
    [19] = { "a tick fires once", "no schedule fired" },
};

static int by_invariant(const void *a, const void *b)
{
    const exj_check_finding *x = a, *y = b;

    if (x->invariant != y->invariant)
        return x->invariant < y->invariant ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static exj_check_verdict judge(const exj_check *c)
{
    const exj_check_counts *n = &c->report.counts;

    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++)
        if (c->report.lines[i].findings)
            return EXJ_CHECK_INVALID;
    if (!n->completed || !(n->kills + n->stops + n->other_faults + n->refusals +
                           n->expiries + n->host_crashes))
        return EXJ_CHECK_UNKNOWN;
    return EXJ_CHECK_VALID;
}

exj_code exj_check_finish(exj_check *c, exj_check_report *ret, exj_err *err)
{
    if (!c->failed && !prepare(c))
        c->failed = true;
    if (!c->failed)
        exj_check_rows(c);
    if (!c->failed)
        exj_check_world(c);
    if (!c->failed)
        exj_check_stream(c);
    if (c->failed)
        return exj_err_set(err, EXJ_NOMEM,
                           "out of memory while a history of %" PRIu64
                           " events was checked",
                           c->report.counts.events);
    if (c->findings_len)
        qsort(c->findings, c->findings_len, sizeof *c->findings, by_invariant);
    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++) {
        c->report.lines[i].title = words[i].title;
        if (!c->report.lines[i].tried && !c->report.lines[i].findings)
            c->report.lines[i].not_tested = words[i].never;
    }
    c->report.findings = c->findings;
    c->report.findings_len = c->findings_len;
    c->report.lease_ms = c->lease / 1000000;
    c->report.verdict = judge(c);
    *ret = c->report;
    return EXJ_OK;
}
