/* core/store/sqlite/limit.c - unique keys, concurrency keys, rates, overflow. [writer] */
#include "core/job/rate.h"
#include "core/store/sqlite/internal.h"

/* ---- unique keys: one row of a graph at a time --------------------------------------------- */

bool exj_sqlite_unique_taken(exj_sqlite *s, int64_t pool, exj_slice key, int64_t seq,
                             int64_t *ret_by)
{
    sqlite3_stmt *st = s->st[W_UNIQUE];
    int rc;

    sqlite3_bind_int64(st, 1, pool);
    exj_sqlite_bind(st, 2, key);
    sqlite3_bind_int64(st, 3, seq);
    sqlite3_bind_int64(st, 4, s->now);
    rc = sqlite3_step(st);
    *ret_by = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for a unique key", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

bool exj_sqlite_unique_take(exj_sqlite *s, int64_t pool, exj_slice key, int64_t seq,
                            exj_msec until)
{
    sqlite3_stmt *st = s->st[W_UNIQUE_SET];

    sqlite3_bind_int64(st, 1, pool);
    exj_sqlite_bind(st, 2, key);
    sqlite3_bind_int64(st, 3, seq);
    sqlite3_bind_int64(st, 4, until);
    return exj_sqlite_run(s, W_UNIQUE_SET, "cannot take a unique key");
}

bool exj_sqlite_unique_back(exj_sqlite *s, int64_t pool, exj_slice key, int64_t seq)
{
    sqlite3_stmt *st = s->st[W_UNIQUE_KEEP];

    sqlite3_bind_int64(st, 1, pool);
    exj_sqlite_bind(st, 2, key);
    sqlite3_bind_int64(st, 3, seq);
    if (!exj_sqlite_run(s, W_UNIQUE_KEEP, "cannot take a unique key again"))
        return false;
    return sqlite3_changes(s->db) || exj_sqlite_unique_take(s, pool, key, seq, 0);
}

bool exj_sqlite_unique_end(exj_sqlite *s, const exj_live *l)
{
    sqlite3_stmt *drop = s->st[W_UNIQUE_DROP], *end = s->st[W_UNIQUE_END];

    sqlite3_bind_int64(drop, 1, l->pool);
    sqlite3_bind_int64(drop, 2, l->seq);
    sqlite3_bind_int64(drop, 3, s->now);
    sqlite3_bind_int64(end, 1, l->pool);
    sqlite3_bind_int64(end, 2, l->seq);
    return exj_sqlite_run(s, W_UNIQUE_DROP, "cannot free a unique key") &&
           exj_sqlite_run(s, W_UNIQUE_END, "cannot end a unique key");
}

/* ---- concurrency keys: so many rows of a key at once ----------------------------------------- */

bool exj_sqlite_ckey_id(exj_sqlite *s, int64_t pool, exj_slice key, int64_t *ret)
{
    static const enum exj_sqlite_write order[] = { W_CKEY_FIND, W_CKEY_ADD };

    *ret = 0;
    for (size_t i = 0; i < 2 && *ret == 0; i++) {
        sqlite3_stmt *st = s->st[order[i]];
        int rc;

        sqlite3_bind_int64(st, 1, pool);
        exj_sqlite_bind(st, 2, key);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            *ret = sqlite3_column_int64(st, 0);
            rc = sqlite3_step(st);
        }
        if (rc != SQLITE_DONE)
            exj_sqlite_fail(s, s->db, "cannot name a concurrency key", &s->err);
        sqlite3_reset(st);
        if (rc != SQLITE_DONE)
            return false;
    }
    return true;
}

static bool ckey_read(exj_sqlite *s, int64_t ckey, int64_t *ret_cap, int64_t *ret_running)
{
    sqlite3_stmt *st = s->st[W_CKEY];
    int rc;

    sqlite3_bind_int64(st, 1, ckey);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *ret_cap = sqlite3_column_int64(st, 0);
        *ret_running = sqlite3_column_int64(st, 1);
    } else {
        exj_sqlite_fail(s, s->db, "cannot look at a concurrency key", &s->err);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW;
}

static bool ckey_write(exj_sqlite *s, int64_t ckey, int64_t cap, int64_t running)
{
    sqlite3_stmt *st = s->st[W_CKEY_SET];

    sqlite3_bind_int64(st, 1, ckey);
    sqlite3_bind_int64(st, 2, cap);
    sqlite3_bind_int64(st, 3, running);
    return exj_sqlite_run(s, W_CKEY_SET, "cannot change a concurrency key");
}

/* The number that the statement gives; 0: there is none. */
static bool parked(exj_sqlite *s, enum exj_sqlite_write which, int64_t ckey, int64_t pool,
                   int64_t *ret)
{
    sqlite3_stmt *st = s->st[which];
    int rc;

    sqlite3_bind_int64(st, 1, ckey);
    sqlite3_bind_int64(st, 2, pool);
    rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for parked rows", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool unpark_in(exj_sqlite *s, int64_t ckey, int64_t pool, int64_t room)
{
    while (room-- > 0) {
        int64_t seq;
        bool found;
        exj_live l;

        if (!parked(s, W_PARKED, ckey, pool, &seq))
            return false;
        if (!seq)
            return true;
        if (!exj_sqlite_live(s, seq, &l, &found) ||
            !exj_sqlite_move(s, &l, EXJ_EV_UNPARK, 0, (exj_slice){ 0 }, (exj_slice){ 0 }) ||
            !exj_sqlite_save(s, &l))
            return false;
    }
    return true;
}

/* Let parked rows in while there is room; `room` may be more than there are. Each pool gets
 * as many: one of them may belong to a matrix that nobody claims from. Those that come too
 * late are parked again by their claim. So, as long as rows of a key are parked in a pool, its
 * ready ones and all that run are together at least as many as the key has places. */
static bool unpark(exj_sqlite *s, int64_t ckey, int64_t room)
{
    int64_t pool = 0;

    do {
        if (room <= 0)
            return true;
        if (!parked(s, W_PARKED_POOL, ckey, pool, &pool) ||
            (pool && !unpark_in(s, ckey, pool, room)))
            return false;
    } while (pool);
    return true;
}

bool exj_sqlite_ckey_enter(exj_sqlite *s, int64_t ckey, uint32_t cap, bool *ret_entered)
{
    int64_t had = 0, running = 0, most = cap ? cap : 1;

    if (!ckey_read(s, ckey, &had, &running))
        return false;
    *ret_entered = running < most;
    if (!*ret_entered && had == most)
        return true;
    if (!ckey_write(s, ckey, most, running + *ret_entered))
        return false;
    /* The cap grew: those that were parked under the old one come along. */
    return most <= had || unpark(s, ckey, most - running - 1);
}

#define WIDEN_AT_ONCE 256

bool exj_sqlite_ckeys_widen(exj_sqlite *s, int64_t pool, uint32_t cap)
{
    sqlite3_stmt *st = s->st[W_CKEYS_NARROW];
    int64_t ids[WIDEN_AT_ONCE], had, running, most = cap ? cap : 1;
    exj_pool_counts *p = &s->pools[pool];
    int n = 0, rc;

    if (p->key_cap == (uint32_t)most)
        return true;
    sqlite3_bind_int64(st, 1, pool);
    sqlite3_bind_int64(st, 2, most);
    sqlite3_bind_int64(st, 3, WIDEN_AT_ONCE);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        ids[n++] = sqlite3_column_int64(st, 0);
    if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for concurrency keys", &s->err);
    sqlite3_reset(st);
    if (rc != SQLITE_DONE)
        return false;
    for (int i = 0; i < n; i++)
        if (!ckey_read(s, ids[i], &had, &running) || !ckey_write(s, ids[i], most, running) ||
            !unpark(s, ids[i], most - running))
            return false;
    if (n < WIDEN_AT_ONCE) /* else the next claim goes on */
        p->key_cap = (uint32_t)most;
    return true;
}

bool exj_sqlite_ckey_leave(exj_sqlite *s, int64_t ckey)
{
    int64_t cap = 0, running = 0;

    if (!ckey_read(s, ckey, &cap, &running))
        return false;
    if (running > 0)
        running--;
    return ckey_write(s, ckey, cap, running) && unpark(s, ckey, running < cap);
}

bool exj_sqlite_ckey_pass(exj_sqlite *s, int64_t ckey)
{
    int64_t cap = 0, running = 0;

    return ckey_read(s, ckey, &cap, &running) && unpark(s, ckey, running < cap);
}

/* ---- rates --------------------------------------------------------------------------------------- */

static bool rate_read(exj_sqlite *s, int64_t pool, int64_t *ret_tat)
{
    sqlite3_stmt *st = s->st[W_RATE];
    int rc;

    sqlite3_bind_int64(st, 1, pool);
    rc = sqlite3_step(st);
    *ret_tat = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look at a rate", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool rate_write(exj_sqlite *s, int64_t pool, int64_t tat)
{
    sqlite3_stmt *st = s->st[W_RATE_SET];

    sqlite3_bind_int64(st, 1, pool);
    sqlite3_bind_int64(st, 2, tat);
    return exj_sqlite_run(s, W_RATE_SET, "cannot note a rate");
}

bool exj_sqlite_rate(exj_sqlite *s, exj_want *w, uint32_t *ret_room)
{
    int64_t was = 0, tat;

    if (!rate_read(s, w->pool, &was))
        return false;
    tat = exj_rate_settle(was, s->now * 1000000, w->rate_ms);
    if (tat != was && !rate_write(s, w->pool, tat))
        return false;
    *ret_room = exj_rate_room(tat, s->now * 1000000, w->rate, w->rate_ms, w->want);
    if (*ret_room < w->want) {
        int64_t after = exj_rate_take(tat, s->now * 1000000, w->rate, w->rate_ms, *ret_room);

        w->ret_again = (exj_rate_next(after, w->rate, w->rate_ms) + 999999) / 1000000;
        if (w->ret_again <= s->now)
            w->ret_again = s->now + 1;
    }
    return true;
}

bool exj_sqlite_rate_used(exj_sqlite *s, exj_want *w)
{
    int64_t tat = 0;

    if (!w->got)
        return true;
    if (!rate_read(s, w->pool, &tat))
        return false;
    return rate_write(s, w->pool,
                      exj_rate_take(tat, s->now * 1000000, w->rate, w->rate_ms, w->got));
}

/* ---- overflow ------------------------------------------------------------------------------------ */

void exj_sqlite_overflow(const exj_sqlite *s, const exj_op *op, const int64_t added[2],
                         bool *ret_drop, bool *ret_drop_oldest)
{
    const exj_overflow_rule *o = &op->u.insert.overflow;
    const int64_t *n = s->pools[op->u.insert.pool].n;
    int64_t waiting = n[EXJ_QUEUED] + n[EXJ_WAITING] + n[EXJ_PARKED] + added[EXJ_QUEUED] +
                      added[EXJ_WAITING];
    int64_t free = (int64_t)o->cap - n[EXJ_RUNNING];

    *ret_drop = *ret_drop_oldest = false;
    if (!o->on)
        return;
    if (o->drop)
        *ret_drop = waiting + n[EXJ_RUNNING] >= (int64_t)o->cap;
    else /* rows that have a place are not in the queue */
        *ret_drop_oldest = waiting + 1 - (free > 0 ? free : 0) > (int64_t)o->max_queue;
}

bool exj_sqlite_drop_oldest(exj_sqlite *s, int64_t pool, int64_t *ret_seq)
{
    static const exj_slice why = EXJ_SLICE_LITERAL("the queue is full (maxQueue)");
    static const exj_slice code = EXJ_SLICE_LITERAL("Dropped");
    sqlite3_stmt *st = s->st[W_OLDEST];
    int64_t seq = 0;
    exj_live l;
    bool found;
    int rc;

    *ret_seq = 0;
    sqlite3_bind_int64(st, 1, pool);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        seq = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for the oldest row", &s->err);
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE;
    *ret_seq = seq;
    return exj_sqlite_live(s, seq, &l, &found) &&
           exj_sqlite_move(s, &l, EXJ_EV_DROP, 0, code, why) &&
           exj_sqlite_end(s, &l, 0, code, why, (exj_slice){ 0 });
}
