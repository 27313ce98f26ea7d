/* core/store/sqlite/claim.c - what a holder does: claim, finish, renew, release. [writer]
 *
 * Every write of a holder asks for status=running AND its nonce (a finish for its token
 * too), so a claim that is over changes nothing, whatever the clocks said.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* The holder's small number; the last one is remembered: a daemon has one holder. */
static bool find_holder(exj_sqlite *s, const char *name, int64_t *ret)
{
    static const enum exj_sqlite_write order[] = { W_HOLDER_FIND, W_HOLDER_ADD };
    int64_t id = 0;
    char *copy;

    if (!name)
        name = "";
    if (s->holder && s->holder[0] && strcmp(s->holder, name) == 0) {
        *ret = s->holder_id;
        return true;
    }
    copy = strdup(name);
    if (!copy) {
        exj_err_set(&s->err, EXJ_NOMEM, "store %s: out of memory", s->path);
        return false;
    }
    for (size_t i = 0; i < 2 && id == 0; i++) {
        sqlite3_stmt *st = s->st[order[i]];
        int rc;

        exj_sqlite_bind(st, 1, exj_slice_of(name));
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            id = sqlite3_column_int64(st, 0);
            rc = sqlite3_step(st);
        }
        if (rc != SQLITE_DONE) {
            exj_sqlite_fail(s, s->db, "cannot name a holder", &s->err);
            sqlite3_reset(st);
            free(copy);
            return false;
        }
        sqlite3_reset(st);
    }
    free(s->holder);
    s->holder = copy;
    s->holder_id = id;
    *ret = id;
    return true;
}

static bool guard_holds(exj_sqlite *s, const exj_want *w, bool *ret)
{
    enum exj_sqlite_write which =
        w->guard_kind == EXJ_DOC_GRAPH ? W_GUARD_GRAPH : W_GUARD_MATRIX;
    sqlite3_stmt *st = s->st[which];
    int64_t version = 0;
    int rc;

    exj_sqlite_bind(st, 1, w->guard_id);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        version = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot read a claim's guard", &s->err);
    sqlite3_reset(st);
    *ret = version == w->guard_version;
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* A ready row that a claim looks at. */
struct exj_picked {
    exj_claim claim;
    int64_t last, ckey;
};

/* The first `most` ready rows of the pool into s->picked, as they will be once claimed. */
static bool look_at_ready(exj_sqlite *s, const exj_want *w, int64_t nonce, uint32_t most,
                          uint32_t *ret)
{
    sqlite3_stmt *st = s->st[w->only_seq ? W_READY_ONE : W_READY];
    uint32_t n = 0;
    int rc;

    if (s->picked_cap < most) {
        struct exj_picked *more = realloc(s->picked, most * sizeof(*more));

        if (!more) {
            exj_err_set(&s->err, EXJ_NOMEM, "store %s: out of memory", s->path);
            return false;
        }
        s->picked = more;
        s->picked_cap = most;
    }
    sqlite3_bind_int64(st, 1, w->pool);
    sqlite3_bind_int64(st, 2, most);
    if (w->only_seq)
        sqlite3_bind_int64(st, 3, w->only_seq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        s->picked[n++] = (struct exj_picked){
            .claim = { .seq = sqlite3_column_int64(st, 0),
                       .pool = w->pool,
                       .token = sqlite3_column_int64(st, 1) + 1,
                       .nonce = nonce,
                       .attempt = (uint32_t)sqlite3_column_int64(st, 2) + 1,
                       .max_attempts = (uint32_t)sqlite3_column_int64(st, 3) },
            .last = sqlite3_column_int64(st, 4),
            .ckey = sqlite3_column_int64(st, 5)
        };
    if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for ready rows", &s->err);
    sqlite3_reset(st);
    *ret = n;
    return rc == SQLITE_DONE;
}

static bool park(exj_sqlite *s, const struct exj_picked *p)
{
    bool found;
    exj_live l;

    return exj_sqlite_live(s, p->claim.seq, &l, &found) &&
           exj_sqlite_move(s, &l, EXJ_EV_PARK, 0, (exj_slice){ 0 }, (exj_slice){ 0 }) &&
           exj_sqlite_save(s, &l);
}

/* Claims move through here and not through exj_sqlite_move: they are the one move that is
 * made by the thousand, its guard is in W_READY and W_CLAIM, and its counters are added up. */
static bool claim_one(exj_sqlite *s, const struct exj_picked *p, int64_t holder)
{
    sqlite3_stmt *st = s->st[W_CLAIM];
    int64_t last;
    exj_journal_entry e = { .kind = EXJ_ENTRY_CLAIMED,
                    .previous = p->last,
                    .seq = p->claim.seq,
                    .token = p->claim.token,
                    .attempt = p->claim.attempt,
                    .value = holder };

    if (!exj_sqlite_note(s, e, &last))
        return false;
    sqlite3_bind_int64(st, 1, p->claim.seq);
    sqlite3_bind_int64(st, 2, p->claim.token);
    sqlite3_bind_int64(st, 3, p->claim.attempt);
    sqlite3_bind_int64(st, 7, last);
    return exj_sqlite_run(s, W_CLAIM, "cannot claim a row");
}

#define PARKED_AT_ONCE 4096u /* rows of full keys that one want may set aside */

/* Claim up to `room` rows of the pool into `c`. Rows whose concurrency key is full are parked,
 * so that no later claim has to step over them. */
static bool claim_some(exj_sqlite *s, exj_want *w, uint32_t room, int64_t nonce,
                       int64_t holder, exj_claim *c)
{
    uint32_t parked = 0, n;

    do {
        if (!look_at_ready(s, w, nonce, room - w->got, &n))
            return false;
        for (uint32_t k = 0; k < n; k++) {
            const struct exj_picked *p = &s->picked[k];
            bool may = true;

            if (p->ckey && !exj_sqlite_ckey_enter(s, p->ckey, w->key_cap, &may))
                return false;
            if (!may && !park(s, p))
                return false;
            if (may && !claim_one(s, p, holder))
                return false;
            if (may)
                c[w->got++] = p->claim;
            parked += !may;
        }
        w->ret_more = n && w->got < room;
    } while (w->ret_more && parked < PARKED_AT_ONCE);
    exj_sqlite_count(s, w->pool, EXJ_QUEUED, EXJ_RUNNING, w->got);
    return true;
}

bool exj_sqlite_claim(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_CLAIM];
    int64_t nonce = op->u.claim.nonce, holder = 0;
    size_t n = 0;

    op->u.claim.ret_len = 0;
    op->u.claim.ret_until = 0;
    if (nonce == 0 || op->u.claim.lease_ms <= 0) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID,
                             "a claim needs a nonce and a lease, got %" PRId64
                             " and %" PRId64 " ms",
                             nonce, op->u.claim.lease_ms);
        return true;
    }
    op->u.claim.ret_until = s->now + op->u.claim.lease_ms;
    sqlite3_bind_int64(st, 4, nonce);
    sqlite3_bind_int64(st, 6, op->u.claim.ret_until);
    for (size_t i = 0; i < op->u.claim.wants_len; i++) {
        exj_want *w = &op->u.claim.wants[i];
        uint32_t room = w->want;
        bool allowed = true;

        w->got = 0;
        w->verdict = EXJ_OK;
        w->ret_again = 0;
        w->ret_more = w->ret_parked = false;
        if (!exj_sqlite_has_pool(s, w->pool)) {
            w->verdict = EXJ_NOT_FOUND;
            continue;
        }
        if (w->guard_id.p && !guard_holds(s, w, &allowed))
            return false;
        if (!allowed) {
            w->verdict = EXJ_CONFLICT;
            continue;
        }
        w->ret_parked = s->pools[w->pool].n[EXJ_PARKED] > 0;
        if (s->pools[w->pool].n[EXJ_PARKED] &&
            !exj_sqlite_ckeys_widen(s, w->pool, w->key_cap))
            return false;
        /* The counter spares an index walk for every pool that has nothing. */
        if (w->want == 0 || s->pools[w->pool].n[EXJ_QUEUED] == 0)
            continue;
        if (w->rate && !exj_sqlite_rate(s, w, &room))
            return false;
        if (!room)
            continue;
        if (!holder && !find_holder(s, op->u.claim.holder, &holder))
            return false;
        sqlite3_bind_int64(st, 5, holder);
        if (!claim_some(s, w, room, nonce, holder, op->u.claim.ret + n))
            return false;
        if (w->rate && !exj_sqlite_rate_used(s, w))
            return false;
        if (w->got == w->want || w->got < room)
            w->ret_again = 0; /* what limited it was not the rate */
        w->ret_parked = s->pools[w->pool].n[EXJ_PARKED] > 0;
        n += w->got;
    }
    op->u.claim.ret_len = n;
    return true;
}

/* ---- finish ------------------------------------------------------------------------------- */

static bool is_failure(exj_event e)
{
    return e == EXJ_EV_FAIL_RETRY || e == EXJ_EV_FAIL_DEAD;
}

static bool is_outcome(exj_event e)
{
    return is_failure(e) || e == EXJ_EV_SUCCEED || e == EXJ_EV_BLOCK || e == EXJ_EV_SUSPEND ||
           e == EXJ_EV_CANCEL;
}

/* Is what the statement looks for of this claim? *ret_was: the status it gives. */
static bool find_mine(exj_sqlite *s, enum exj_sqlite_write which, const exj_outcome *o,
                      bool *ret_found, int *ret_was)
{
    sqlite3_stmt *st = s->st[which];
    int rc;

    sqlite3_bind_int64(st, 1, o->seq);
    sqlite3_bind_int64(st, 2, o->nonce);
    sqlite3_bind_int64(st, 3, o->token);
    rc = sqlite3_step(st);
    *ret_found = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW)
        *ret_was = sqlite3_column_int(st, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for an earlier outcome", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* The claim is over. Did this very outcome end it, in an answer that was lost? The outcome may
 * have become another one (event_of). */
static bool judge_late(exj_sqlite *s, exj_outcome *o)
{
    exj_status to = EXJ_RUNNING;
    bool found = false;
    int was = 0;

    exj_state_move(EXJ_RUNNING, o->event, &to, NULL); /* checked by the caller */
    o->verdict = EXJ_FENCED;
    if (o->nonce == 0)
        return true;
    if (!find_mine(s, W_RESULT_MINE, o, &found, &was))
        return false;
    if (found && (was == (int)to || (was == EXJ_CANCELED && o->event != EXJ_EV_SUCCEED) ||
                  (was == EXJ_FAILED && is_failure(o->event)))) {
        o->verdict = EXJ_OK;
        o->to = (exj_status)was;
        return true;
    }
    if (is_failure(o->event) || o->event == EXJ_EV_SUSPEND) {
        if (!find_mine(s, is_failure(o->event) ? W_FAILURE_MINE : W_SNAPSHOT_MINE, o, &found,
                       &was))
            return false;
        o->verdict = found ? EXJ_OK : EXJ_FENCED;
        o->to = to;
    }
    return true;
}

static bool snapshot(exj_sqlite *s, const exj_outcome *o)
{
    sqlite3_stmt *st = s->st[W_SNAPSHOT_ADD];

    sqlite3_bind_int64(st, 1, o->seq);
    sqlite3_bind_int64(st, 2, o->token);
    sqlite3_bind_int64(st, 3, s->now);
    exj_sqlite_bind(st, 4, o->result);
    sqlite3_bind_int64(st, 5, o->nonce);
    return exj_sqlite_run(s, W_SNAPSHOT_ADD, "cannot write a snapshot");
}

static bool block_on(exj_sqlite *s, const exj_outcome *o)
{
    sqlite3_stmt *st = s->st[W_WAIT_SET];

    sqlite3_bind_int64(st, 1, o->seq);
    sqlite3_bind_int64(st, 2, (int)EXJ_WAIT_SIGNAL);
    exj_sqlite_bind(st, 3, o->signal);
    return exj_sqlite_run(s, W_WAIT_SET, "cannot note a wait");
}

/* What an outcome means once the row is looked at: it never gets more attempts than it was
 * inserted with, and one that was asked to stop does not go on. */
static exj_event event_of(const exj_outcome *o, const exj_live *l)
{
    if (l->flags & EXJ_LIVE_CANCEL && o->event != EXJ_EV_SUCCEED)
        return EXJ_EV_CANCEL;
    if (o->event == EXJ_EV_FAIL_RETRY && l->attempts >= l->max_attempts)
        return EXJ_EV_FAIL_DEAD;
    return o->event;
}

static bool finish_one(exj_sqlite *s, exj_outcome *o)
{
    static const exj_slice none = { NULL, 0 };
    exj_live l;
    exj_event event;
    bool held;

    if (!exj_sqlite_held(s, o->seq, o->nonce, o->token, &l, &held))
        return false;
    if (!held)
        return judge_late(s, o);
    event = event_of(o, &l);
    o->verdict = EXJ_OK;
    if (o->crashed && !exj_sqlite_tell(s, &l, EXJ_ENTRY_CRASHED, 0, o->error_code, o->error_text))
        return false;
    if (is_failure(o->event) &&
        !exj_sqlite_add_failure(s, l.seq, l.token, l.attempts, o->nonce, o->error_code,
                                o->error_text))
        return false;
    if (event == EXJ_EV_SUSPEND) {
        if (!snapshot(s, o) || !exj_sqlite_suspend(s, &l, o))
            return false;
        o->to = l.status;
        return true;
    }
    if (!exj_sqlite_move(s, &l, event,
                         event == EXJ_EV_FAIL_RETRY ? o->run_after
                                                    : exj_events_digest(o->result),
                         event == EXJ_EV_SUCCEED ? none : o->error_code,
                         event == EXJ_EV_SUCCEED ? none : o->error_text))
        return false;
    o->to = l.status;
    if (event == EXJ_EV_FAIL_RETRY) {
        l.run_after = o->run_after;
        l.nonce = 0;
        l.holder = 0;
        l.until = 0;
        return exj_sqlite_save(s, &l);
    }
    return exj_sqlite_end(s, &l, o->nonce, o->error_code, o->error_text, o->result) &&
           (event != EXJ_EV_BLOCK || !o->signal.n || block_on(s, o));
}

static int by_seq(const void *a, const void *b)
{
    int64_t x = (*(exj_outcome *const *)a)->seq, y = (*(exj_outcome *const *)b)->seq;

    return (x > y) - (x < y);
}

/* Neighbouring rows share pages: results are written in the order of seq, however they
 * came in. *ret stays NULL when they came in order. */
static bool sort_outcomes(exj_sqlite *s, exj_outcome *items, size_t len, exj_outcome ***ret)
{
    size_t i = 1;

    while (i < len && items[i - 1].seq < items[i].seq)
        i++;
    if (i >= len)
        return true;
    if (s->order_cap < len) {
        exj_outcome **order = realloc(s->order, len * sizeof(exj_outcome *));

        if (!order) {
            exj_err_set(&s->err, EXJ_NOMEM, "store %s: out of memory", s->path);
            return false;
        }
        s->order = order;
        s->order_cap = len;
    }
    for (i = 0; i < len; i++)
        s->order[i] = &items[i];
    qsort(s->order, len, sizeof(exj_outcome *), by_seq);
    *ret = s->order;
    return true;
}

bool exj_sqlite_finish(exj_sqlite *s, exj_op *op)
{
    exj_outcome *items = op->u.finish.items, **order = NULL;
    size_t len = op->u.finish.len;

    for (size_t i = 0; i < len; i++)
        if (!is_outcome(items[i].event)) {
            op->rc = exj_err_set(&op->err, EXJ_INVALID, "\"%s\" is no outcome of an attempt",
                                 exj_event_word(items[i].event));
            return true;
        }
    if (!sort_outcomes(s, items, len, &order))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!finish_one(s, order ? order[i] : &items[i]))
            return false;
    return true;
}

/* ---- renew, release ------------------------------------------------------------------------- */

bool exj_sqlite_renew(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_RENEW];

    sqlite3_bind_int64(st, 3, s->now + op->u.held.lease_ms);
    for (size_t i = 0; i < op->u.held.len; i++) {
        exj_held *h = &op->u.held.items[i];
        int rc;

        h->verdict = EXJ_FENCED;
        h->ret_cancel = false;
        sqlite3_bind_int64(st, 1, h->seq);
        sqlite3_bind_int64(st, 2, h->nonce);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            h->verdict = EXJ_OK;
            h->ret_cancel = sqlite3_column_int64(st, 0) & EXJ_LIVE_CANCEL;
            rc = sqlite3_step(st);
        }
        if (rc != SQLITE_DONE)
            exj_sqlite_fail(s, s->db, "cannot renew a lease", &s->err);
        sqlite3_reset(st);
        if (rc != SQLITE_DONE)
            return false;
    }
    return true;
}

bool exj_sqlite_release(exj_sqlite *s, exj_op *op)
{
    static const exj_slice none = { NULL, 0 };

    for (size_t i = 0; i < op->u.held.len; i++) {
        exj_held *h = &op->u.held.items[i];
        exj_live l;
        bool found;

        if (!exj_sqlite_live(s, h->seq, &l, &found))
            return false;
        found = found && l.status == EXJ_RUNNING && l.nonce == h->nonce && h->nonce != 0;
        h->verdict = found ? EXJ_OK : EXJ_FENCED;
        if (!found)
            continue;
        if (l.flags & EXJ_LIVE_CANCEL) { /* it was asked to stop before it had begun */
            if (!exj_sqlite_move(s, &l, EXJ_EV_CANCEL, 0, none, none) ||
                !exj_sqlite_end(s, &l, 0, EXJ_SLICE_LITERAL("Canceled"), none, none))
                return false;
            continue;
        }
        if (!exj_sqlite_move(s, &l, EXJ_EV_RELEASE, 0, none, none))
            return false;
        if (l.attempts)
            l.attempts--;
        l.nonce = 0;
        l.holder = 0;
        l.until = 0;
        if (!exj_sqlite_save(s, &l))
            return false;
    }
    return true;
}
