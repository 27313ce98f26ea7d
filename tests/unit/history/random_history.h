/* tests/unit/history/random_history.h - correct histories by chance: a small store in memory,
 * workers that claim, renew, stop, are killed and are late, and operators. Each operation takes
 * effect at one instant between its invoke and its end, and some ends are never written. */
#ifndef EXJ_TESTS_UNIT_HISTORY_RANDOM_HISTORY_H
#define EXJ_TESTS_UNIT_HISTORY_RANDOM_HISTORY_H

#include "core/history/check.h"

#define LINES_MOST 20000
#define ROWS_MOST 40
#define WORKERS 4
#define TEXT 40

struct line { /* an event that owns its texts */
    exj_hist_event e;
    char job[TEXT], key[TEXT];
    uint64_t digest;
    char digest_text[20];
    size_t nth;
    bool gone;
};

struct row {
    int64_t seq, token;
    char to[12];
    int holder;      /* worker; -1: none */
    uint64_t of;     /* its incarnation */
    exj_nsec until;  /* of the lease */
    uint32_t attempts, most;
    bool asked, removed;
    uint64_t steps[2], result;
};

struct worker {
    uint64_t incarnation, next_id;
    exj_nsec free_at;
    int64_t pid;
    int held[4];       /* rows */
    int64_t tokens[4]; /* as it knows them */
    bool worked[4];
    int len;
};

struct history {
    struct line *lines;
    size_t len;
    struct row rows[ROWS_MOST];
    int rows_len;
    struct worker workers[WORKERS + 1]; /* the last one enqueues, and gives orders */
    uint64_t state;
    exj_nsec now;      /* all has happened that is before it */
    int64_t entry;     /* of the stream */
    bool faults, busy; /* busy: rows are still enqueued, and operators give orders */
    uint64_t next_incarnation;
};

static uint64_t draw(struct history *h, uint64_t below)
{
    uint64_t z = h->state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

static struct line *add(struct history *h, exj_nsec t, const char *actor, uint64_t incarnation,
                        exj_hist_op op, exj_hist_phase phase)
{
    struct line *l = &h->lines[h->len];

    cr_assert_lt(h->len, (size_t)LINES_MOST);
    *l = (struct line){ .nth = h->len++ };
    l->e = (exj_hist_event){ .t = t, .actor = exj_slice_of(actor), .incarnation = incarnation,
                             .op = op, .phase = phase };
    return l;
}

/* ---- operations ------------------------------------------------------------------------- */

struct op { /* one that is under way */
    struct history *h;
    struct worker *w;
    exj_hist_op kind;
    uint64_t id;
    exj_nsec t0, at, t1; /* at: it takes effect */
    bool lost;           /* its end is never written */
};

static struct op begin(struct history *h, struct worker *w, exj_hist_op kind)
{
    struct op o = { .h = h, .w = w, .kind = kind, .id = ++w->next_id };

    o.at = h->now += 1 + (exj_nsec)draw(h, 60);
    o.t0 = o.at - 1 - (exj_nsec)draw(h, 200);
    if (o.t0 <= w->free_at)
        o.t0 = w->free_at + 1;
    if (o.at <= o.t0)
        o.at = h->now = o.t0 + 1;
    o.t1 = o.at + 1 + (exj_nsec)draw(h, 200);
    w->free_at = o.t1;
    return o;
}

static struct line *said(struct op *o, exj_hist_phase phase)
{
    struct line *l = add(o->h, phase == EXJ_HIST_INVOKE ? o->t0 : o->t1, "worker",
                         o->w->incarnation, o->kind, phase);

    l->e.id = o->id;
    l->gone = o->lost && phase != EXJ_HIST_INVOKE;
    return l;
}

static struct line *said_of(struct op *o, exj_hist_phase phase, const struct row *r, int64_t token)
{
    struct line *l = said(o, phase);

    l->e.row = r->seq;
    l->e.token = token;
    return l;
}

static void name(struct line *l, const struct row *r)
{
    snprintf(l->job, sizeof l->job, "m||g|r%lld", (long long)r->seq);
}

static void entry(struct history *h, exj_nsec t, const struct row *r, const char *kind)
{
    struct line *l = add(h, t + 300, "reader", 99, EXJ_HIST_EVENT, EXJ_HIST_OK);

    l->e.value = ++h->entry;
    l->e.row = r->seq;
    l->e.token = r->token;
    snprintf(l->key, sizeof l->key, "%s", kind);
}

static void become(struct row *r, const char *to)
{
    snprintf(r->to, sizeof r->to, "%s", to);
    if (strcmp(to, "running") != 0)
        r->holder = -1;
}

static bool is(const struct row *r, const char *to)
{
    return !r->removed && strcmp(r->to, to) == 0;
}

static void enqueue(struct history *h, struct worker *w)
{
    struct op o = begin(h, w, EXJ_HIST_ENQUEUE);
    struct row *r = &h->rows[h->rows_len++];
    struct line *l;

    *r = (struct row){ .seq = h->rows_len, .most = 2 + (uint32_t)draw(h, 4), .holder = -1 };
    become(r, "queued");
    said(&o, EXJ_HIST_INVOKE);
    l = said_of(&o, EXJ_HIST_OK, r, 0);
    name(l, r);
    l->e.outcome = EXJ_SLICE_LITERAL("new");
    l->e.to = EXJ_SLICE_LITERAL("queued");
    l->e.value = r->most;
    entry(h, o.at, r, "queued");
}

static void claim(struct history *h, struct worker *w, bool lost)
{
    struct op o = begin(h, w, EXJ_HIST_CLAIM);
    int got = 0;

    o.lost = lost;
    said(&o, EXJ_HIST_INVOKE);
    for (int i = 0; i < h->rows_len && got < 2 && w->len < 4; i++) {
        struct row *r = &h->rows[i];
        struct line *l;

        if (!is(r, "queued"))
            continue;
        become(r, "running");
        r->token++;
        r->attempts++;
        r->holder = (int)(w - h->workers);
        r->of = w->incarnation;
        r->until = o.at + 2000;
        l = said_of(&o, EXJ_HIST_OK, r, r->token);
        l->e.attempt = r->attempts;
        entry(h, o.at, r, "claimed");
        w->held[w->len] = i;
        w->tokens[w->len] = r->token;
        w->worked[w->len++] = false;
        got++;
    }
    if (!got)
        said(&o, EXJ_HIST_OK);
}

static bool holds(const struct worker *w, const struct row *r, int64_t token)
{
    return is(r, "running") && r->of == w->incarnation && r->token == token;
}

static void drop(struct worker *w, int at)
{
    w->len--;
    w->held[at] = w->held[w->len];
    w->tokens[at] = w->tokens[w->len];
    w->worked[at] = w->worked[w->len];
}

static void refused(struct op *o, const struct row *r, int64_t token, const char *code)
{
    said_of(o, EXJ_HIST_FAIL, r, token)->e.code = exj_slice_of(code);
}

/* What stands between a failed attempt and the next one. */
static const char *after_failure(const struct row *r)
{
    return r->asked ? "canceled" : r->attempts >= r->most ? "failed" : "queued";
}

static void complete(struct history *h, struct worker *w, int at, bool lost)
{
    static const char *const outcomes[] = { "succeed", "fail_retry", "suspend", "succeed" };
    struct row *r = &h->rows[w->held[at]];
    struct op o = begin(h, w, EXJ_HIST_COMPLETE);
    int64_t token = w->tokens[at];
    uint64_t which = draw(h, 4), digest = draw(h, 1u << 30) + 1;
    bool does = holds(w, r, token);
    struct line *l;

    o.lost = lost;
    said_of(&o, EXJ_HIST_INVOKE, r, token);
    drop(w, at);
    if (!does) {
        refused(&o, r, token, "fenced");
        return;
    }
    if (which == 1)
        become(r, after_failure(r));
    else if (which == 2) {
        become(r, r->asked ? "canceled" : "suspended");
        r->attempts -= !r->asked;
    } else {
        become(r, "completed");
        r->result = digest;
    }
    l = said_of(&o, EXJ_HIST_OK, r, token);
    l->e.outcome = exj_slice_of(outcomes[which]);
    snprintf(l->key, sizeof l->key, "%s", r->to); /* keeps the word; see seal() */
    if (is(r, "completed"))
        l->digest = digest;
    entry(h, o.at, r, is(r, "queued") ? "retrying" : r->to);
}

static void work(struct history *h, struct worker *w, int at)
{
    struct row *r = &h->rows[w->held[at]];
    uint64_t id = ++w->next_id;

    if (w->worked[at])
        return;
    w->worked[at] = true;
    for (int phase = 0; phase < 2; phase++) {
        struct line *l = add(h, w->free_at += 1 + (exj_nsec)draw(h, 20), "executor", w->incarnation,
                             EXJ_HIST_EFFECT, phase ? EXJ_HIST_OK : EXJ_HIST_INVOKE);

        l->e.id = id;
        l->e.token = w->tokens[at];
        name(l, r);
    }
}

static void write(struct history *h, struct worker *w, int at)
{
    struct row *r = &h->rows[w->held[at]];
    bool step = draw(h, 2);
    struct op o = begin(h, w, step ? EXJ_HIST_STEP : EXJ_HIST_RENEW);
    int64_t token = w->tokens[at];
    unsigned key = (unsigned)draw(h, 2);
    uint64_t digest = draw(h, 1u << 30) + 1;
    struct line *l = said_of(&o, EXJ_HIST_INVOKE, r, token);

    if (step)
        snprintf(l->key, sizeof l->key, "s%u", key);
    if (!holds(w, r, token)) {
        refused(&o, r, token, "fenced");
        drop(w, at);
    } else if (step && r->steps[key]) {
        refused(&o, r, token, "conflict");
    } else {
        r->until = o.at + 2000;
        l = said_of(&o, EXJ_HIST_OK, r, token);
        if (step)
            l->digest = r->steps[key] = digest;
    }
}

static void release(struct history *h, struct worker *w, int at)
{
    struct row *r = &h->rows[w->held[at]];
    struct op o = begin(h, w, EXJ_HIST_RELEASE);
    int64_t token = w->tokens[at];

    said_of(&o, EXJ_HIST_INVOKE, r, token);
    if (!holds(w, r, token)) {
        refused(&o, r, token, "fenced");
    } else {
        become(r, r->asked ? "canceled" : "queued");
        r->attempts -= !r->asked;
        said_of(&o, EXJ_HIST_OK, r, token);
        entry(h, o.at, r, r->asked ? "canceled" : "released");
    }
    drop(w, at);
}

static void reap(struct history *h, struct worker *w, bool lost)
{
    struct op o = begin(h, w, EXJ_HIST_REAP);
    bool any = false;

    o.lost = lost;
    said(&o, EXJ_HIST_INVOKE);
    for (int i = 0; i < h->rows_len; i++) {
        struct row *r = &h->rows[i];
        struct line *l;

        if (!is(r, "running") || r->until >= o.at)
            continue;
        become(r, after_failure(r));
        l = said_of(&o, EXJ_HIST_OK, r, r->token);
        snprintf(l->key, sizeof l->key, "%s", r->to);
        entry(h, o.at, r, "lease_expired");
        any = true;
    }
    if (!any)
        said(&o, EXJ_HIST_OK);
}

static void order(struct history *h, struct worker *w)
{
    static const exj_hist_op kinds[] = { EXJ_HIST_CANCEL, EXJ_HIST_RETRY, EXJ_HIST_RERUN,
                                         EXJ_HIST_SIGNAL, EXJ_HIST_REMOVE };
    exj_hist_op kind = kinds[draw(h, 5)];
    struct row *r = &h->rows[draw(h, (uint64_t)h->rows_len)];
    struct op o = begin(h, w, kind);
    bool ended = is(r, "completed") || is(r, "failed") || is(r, "canceled");
    struct line *l;

    said_of(&o, EXJ_HIST_INVOKE, r, 0);
    if (kind == EXJ_HIST_CANCEL && !ended && !r->removed) {
        if (is(r, "running"))
            r->asked = true;
        else
            become(r, "canceled");
        l = said_of(&o, EXJ_HIST_OK, r, 0);
        snprintf(l->key, sizeof l->key, "%s", r->to);
        entry(h, o.at, r, is(r, "running") ? "cancel_asked" : "canceled");
        return;
    }
    if ((kind == EXJ_HIST_RETRY && ended && !is(r, "completed")) ||
        (kind == EXJ_HIST_RERUN && ended && r->token)) {
        if (kind == EXJ_HIST_RERUN) {
            r->token++;
            r->steps[0] = r->steps[1] = 0;
        }
        become(r, "queued");
        r->attempts = 0;
        r->asked = false;
        said_of(&o, EXJ_HIST_OK, r, 0);
        entry(h, o.at, r, kind == EXJ_HIST_RERUN ? "rerun" : "retried");
    } else if (kind == EXJ_HIST_SIGNAL && is(r, "suspended")) {
        become(r, "queued");
        said_of(&o, EXJ_HIST_OK, r, 0);
        entry(h, o.at, r, "resumed");
    } else if (kind == EXJ_HIST_REMOVE && ended && h->faults && draw(h, 4) == 0) {
        r->removed = true;
        said_of(&o, EXJ_HIST_OK, r, 0);
    } else {
        refused(&o, r, 0, "refused");
    }
}

/* ---- life -------------------------------------------------------------------------------- */

static void tell(struct history *h, exj_hist_op op, const char *outcome, int64_t value)
{
    struct line *l = add(h, h->now += 1, "driver", 77, op, EXJ_HIST_OK);

    l->e.outcome = exj_slice_of(outcome);
    l->e.value = value;
}

static void start(struct history *h, struct worker *w)
{
    struct line *l;

    *w = (struct worker){ .incarnation = ++h->next_incarnation, .free_at = h->now };
    w->pid = 1000 + (int64_t)w->incarnation;
    l = add(h, h->now += 1, "worker", w->incarnation, EXJ_HIST_CORE, EXJ_HIST_OK);
    l->e.outcome = EXJ_SLICE_LITERAL("start");
    l->e.value = w->pid;
    w->free_at = h->now;
}

static void stop(struct history *h, const struct worker *w)
{
    struct line *l = add(h, h->now += 1, "worker", w->incarnation, EXJ_HIST_CORE, EXJ_HIST_OK);

    l->e.outcome = EXJ_SLICE_LITERAL("stop");
}

/* In the middle of an operation, done or not; its end is not written. */
static void kill_worker(struct history *h, struct worker *w)
{
    if (w->len && draw(h, 2)) {
        work(h, w, 0);
        complete(h, w, 0, true);
    } else if (draw(h, 2))
        claim(h, w, true);
    else
        reap(h, w, true);
    if (h->now < w->free_at)
        h->now = w->free_at;
    tell(h, EXJ_HIST_FAULT, "kill", w->pid);
    start(h, w);
}

static void act(struct history *h)
{
    struct worker *w = &h->workers[draw(h, WORKERS)];
    uint64_t what = draw(h, 100);
    int at = w->len ? (int)draw(h, (uint64_t)w->len) : 0;

    if (h->faults && what < 2) {
        kill_worker(h, w);
    } else if (h->faults && what < 4) { /* stands still past its lease */
        tell(h, EXJ_HIST_FAULT, "stop", w->pid);
        w->free_at = h->now + 2500;
    } else if (what < 10) {
        reap(h, w, false);
    } else if (h->busy && what < 22 && h->rows_len < ROWS_MOST) {
        enqueue(h, &h->workers[WORKERS]);
    } else if (h->busy && what < 30 && h->rows_len) {
        order(h, &h->workers[WORKERS]);
    } else if (what < 55 || !w->len) {
        claim(h, w, false);
    } else if (what < 60) {
        if (!w->worked[at])
            release(h, w, at);
    } else if (what < 75) {
        work(h, w, at);
        write(h, w, at);
    } else {
        work(h, w, at);
        complete(h, w, at, false);
    }
}

static bool is_drained(const struct history *h)
{
    for (int i = 0; i < h->rows_len; i++)
        if (is(&h->rows[i], "queued") || is(&h->rows[i], "running"))
            return false;
    return true;
}

static int by_t(const void *a, const void *b)
{
    const struct line *x = a, *y = b;

    if (x->e.t != y->e.t)
        return x->e.t < y->e.t ? -1 : 1;
    return (x->nth > y->nth) - (x->nth < y->nth);
}

/* Points the events at the texts of their lines, at last. */
static void seal(struct line *l)
{
    bool is_to = l->e.op == EXJ_HIST_COMPLETE || l->e.op == EXJ_HIST_REAP ||
                 l->e.op == EXJ_HIST_CANCEL || l->e.op == EXJ_HIST_FINAL;

    l->e.job = exj_slice_of(l->job);
    if (is_to && l->key[0])
        l->e.to = exj_slice_of(l->key);
    else
        l->e.key = exj_slice_of(l->key);
    if (l->digest) {
        snprintf(l->digest_text, sizeof l->digest_text, "%016llx", (unsigned long long)l->digest);
        l->e.digest = exj_slice_of(l->digest_text);
    }
}

static void history_make(struct history *h, uint64_t seed, bool faults)
{
    *h = (struct history){ .state = seed, .faults = faults, .busy = true };
    h->lines = calloc(LINES_MOST, sizeof *h->lines);
    cr_assert(h->lines);
    h->now = 1000;
    tell(h, EXJ_HIST_SETTINGS, "", 60000);
    for (int i = 0; i <= WORKERS; i++)
        start(h, &h->workers[i]);
    for (int i = 0; i < 5; i++)
        enqueue(h, &h->workers[WORKERS]);
    for (int i = 0; i < 600; i++)
        act(h);
    h->faults = h->busy = false;
    for (int i = 0; i <= WORKERS; i++)
        if (h->now < h->workers[i].free_at)
            h->now = h->workers[i].free_at;
    tell(h, EXJ_HIST_QUIET, "", 0);
    for (int i = 0; i < 20000 && !is_drained(h); i++)
        act(h);
    cr_assert(is_drained(h));
    h->now += 10000;
    for (int i = 0; i <= WORKERS; i++)
        stop(h, &h->workers[i]);
    for (int i = 0; i < h->rows_len; i++) {
        const struct row *r = &h->rows[i];
        struct line *l;

        if (r->removed)
            continue;
        l = add(h, h->now += 1, "driver", 77, EXJ_HIST_FINAL, EXJ_HIST_OK);
        l->e.row = r->seq;
        l->e.token = r->token;
        l->e.attempt = r->attempts;
        l->e.value = r->most;
        name(l, r);
        snprintf(l->key, sizeof l->key, "%s", r->to);
        if (is(r, "completed"))
            l->digest = r->result;
    }
    qsort(h->lines, h->len, sizeof *h->lines, by_t);
    for (size_t i = 0; i < h->len; i++)
        seal(&h->lines[i]);
}

static void history_release(struct history *h)
{
    free(h->lines);
}

#endif /* EXJ_TESTS_UNIT_HISTORY_RANDOM_HISTORY_H */
