/* core/store/sqlite/rows.c - pools, their counters, and rows coming in. [writer] */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdlib.h>

static bool grow_pools(exj_sqlite *s, int64_t id)
{
    int64_t cap = s->pools_cap ? s->pools_cap : 64;
    exj_pool_counts *pools;
    int64_t *dirty;

    if (id < s->pools_cap)
        return true;
    while (cap <= id)
        cap *= 2;
    pools = realloc(s->pools, (size_t)cap * sizeof(*pools));
    if (pools)
        s->pools = pools;
    dirty = realloc(s->dirty, (size_t)cap * sizeof(*dirty));
    if (dirty)
        s->dirty = dirty;
    if (!pools || !dirty) {
        exj_err_set(&s->err, EXJ_NOMEM, "store %s: no memory for %" PRId64 " pools", s->path,
                    cap);
        return false;
    }
    memset(pools + s->pools_cap, 0, (size_t)(cap - s->pools_cap) * sizeof(*pools));
    s->pools_cap = cap;
    return true;
}

bool exj_sqlite_load_pools(exj_sqlite *s)
{
    sqlite3_stmt *st = NULL;
    int rc;
    bool good = false;

    s->pools_len = s->pools_were = 1;
    if (sqlite3_prepare_v2(s->db,
                           "SELECT id, n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 FROM exj_pools"
                           " ORDER BY id",
                           -1, &st, NULL) != SQLITE_OK)
        goto out;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(st, 0);

        if (!grow_pools(s, id))
            goto out;
        for (int i = 0; i < EXJ_STATUS_COUNT; i++)
            s->pools[id].n[i] = s->pools[id].was[i] = sqlite3_column_int64(st, 1 + i);
        s->pools_len = s->pools_were = id + 1;
    }
    good = rc == SQLITE_DONE;
out:
    if (!good)
        exj_sqlite_fail(s, s->db, "cannot read the pools", &s->err);
    sqlite3_finalize(st);
    return good;
}

bool exj_sqlite_save_pools(exj_sqlite *s)
{
    for (int64_t i = 0; i < s->dirty_len; i++) {
        sqlite3_stmt *st = s->st[W_POOL_COUNTS];
        const exj_pool_counts *p = &s->pools[s->dirty[i]];

        sqlite3_bind_int64(st, 1, s->dirty[i]);
        for (int k = 0; k < EXJ_STATUS_COUNT; k++)
            sqlite3_bind_int64(st, 2 + k, p->n[k]);
        if (!exj_sqlite_run(s, W_POOL_COUNTS, "cannot write the counters"))
            return false;
    }
    return true;
}

void exj_sqlite_settle_pools(exj_sqlite *s, bool committed)
{
    for (int64_t i = 0; i < s->dirty_len; i++) {
        exj_pool_counts *p = &s->pools[s->dirty[i]];

        memcpy(committed ? p->was : p->n, committed ? p->n : p->was, sizeof(p->n));
        p->dirty = false;
    }
    s->dirty_len = 0;
    for (int64_t i = 1; !committed && i < s->pools_len; i++)
        s->pools[i].key_cap = 0; /* that keys were widened may have been rolled back */
    if (committed)
        s->pools_were = s->pools_len;
    else
        s->pools_len = s->pools_were;
}

bool exj_sqlite_has_pool(const exj_sqlite *s, int64_t pool)
{
    return pool > 0 && pool < s->pools_len;
}

void exj_sqlite_count(exj_sqlite *s, int64_t pool, int from, int to, int64_t by)
{
    exj_pool_counts *p = &s->pools[pool];

    if (by == 0)
        return;
    if (from >= 0)
        p->n[from] -= by;
    if (to >= 0)
        p->n[to] += by;
    if (!p->dirty) {
        p->dirty = true;
        s->dirty[s->dirty_len++] = pool;
    }
}

bool exj_sqlite_pool(exj_sqlite *s, exj_op *op)
{
    static const enum exj_sqlite_write order[] = { W_POOL_FIND, W_POOL_ADD };
    int64_t id = 0;

    for (size_t i = 0; i < 2 && id == 0; i++) {
        sqlite3_stmt *st = s->st[order[i]];
        int rc;

        exj_sqlite_bind(st, 1, op->u.pool.matrix);
        exj_sqlite_bind(st, 2, op->u.pool.run);
        exj_sqlite_bind(st, 3, op->u.pool.graph);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            id = sqlite3_column_int64(st, 0);
            rc = sqlite3_step(st); /* an insert is done only after its last step */
        }
        if (rc != SQLITE_DONE) {
            exj_sqlite_fail(s, s->db, "cannot find or make a pool", &s->err);
            sqlite3_reset(st);
            return false;
        }
        sqlite3_reset(st);
    }
    if (!grow_pools(s, id))
        return false;
    if (id >= s->pools_len)
        s->pools_len = id + 1;
    op->u.pool.ret_pool = id;
    return true;
}

/* The row of that record; 0: there is none. */
static bool find_record(exj_sqlite *s, int64_t pool, exj_slice record_id, int64_t *ret_seq)
{
    sqlite3_stmt *st = s->st[W_ROW_FIND];
    int rc;

    *ret_seq = 0;
    sqlite3_bind_int64(st, 1, pool);
    exj_sqlite_bind(st, 2, record_id);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret_seq = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot find a row", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* *ret_taken: the unique key is a row's. A record that is there already is no rival: what it
 * is told does not depend on its keys. */
static bool check_unique(exj_sqlite *s, int64_t pool, exj_insert_item *it, bool *ret_taken)
{
    int64_t by = 0, seq = 0;

    *ret_taken = false;
    if (!it->unique_key.n)
        return true;
    if (!exj_sqlite_unique_taken(s, pool, it->unique_key, 0, &by) ||
        (by && !find_record(s, pool, it->record_id, &seq)) ||
        (by && !seq && !exj_sqlite_is_past(s, pool, it->record_id, &seq)))
        return false;
    *ret_taken = by && !seq;
    if (*ret_taken) {
        it->verdict = EXJ_BUSY;
        it->seq = by;
    }
    return true;
}

static bool add_extras(exj_sqlite *s, const exj_op *op, const exj_insert_item *it, int64_t seq)
{
    sqlite3_stmt *st = s->st[W_EXTRAS_ADD];

    if (!it->unique_key.n && !it->concurrency_key.n && !op->u.insert.snapshot.n)
        return true;
    sqlite3_bind_int64(st, 1, seq);
    exj_sqlite_bind(st, 2, it->unique_key);
    exj_sqlite_bind(st, 3, it->concurrency_key);
    exj_sqlite_bind(st, 4, op->u.insert.snapshot);
    return exj_sqlite_run(s, W_EXTRAS_ADD, "cannot note what a row carries") &&
           (!it->unique_key.n ||
            exj_sqlite_unique_take(s, op->u.insert.pool, it->unique_key, seq,
                                   it->unique_ms ? s->now + it->unique_ms : 0));
}

static bool find_existing(exj_sqlite *s, exj_op *op, exj_insert_item *it)
{
    it->verdict = EXJ_CONFLICT;
    it->seq = 0;
    return !op->u.insert.find_existing ||
           find_record(s, op->u.insert.pool, it->record_id, &it->seq);
}

/* Queue the row that was just inserted, or drop it. */
static bool queue_row(exj_sqlite *s, exj_op *op, exj_insert_item *it, bool drop)
{
    static const exj_slice code = EXJ_SLICE_LITERAL("Dropped");
    static const exj_slice why = EXJ_SLICE_LITERAL("too many rows are queued and running "
                                                   "(overflow: drop)");
    sqlite3_stmt *hot = s->st[W_HOT_ADD];
    bool later = it->run_after > s->now;
    exj_journal_entry e = { .kind = later ? EXJ_ENTRY_SCHEDULED : EXJ_ENTRY_QUEUED,
                    .seq = s->next_seq,
                    .value = later ? it->run_after : exj_events_digest(it->input) };
    int64_t last, ckey = 0, rank;
    exj_live l;

    it->status = later ? EXJ_WAITING : EXJ_QUEUED;
    if (!exj_sqlite_note(s, e, &last) || !add_extras(s, op, it, s->next_seq) ||
        !exj_sqlite_point(s, it->input))
        return false;
    if (drop) {
        l = (exj_live){ .seq = s->next_seq,
                        .pool = op->u.insert.pool,
                        .status = it->status,
                        .flags = it->unique_key.n ? EXJ_LIVE_UNIQUE : 0,
                        .last = last };
        exj_sqlite_count(s, l.pool, -1, (int)l.status, 1);
        it->status = EXJ_DROPPED;
        return exj_sqlite_move(s, &l, EXJ_EV_DROP, 0, code, why) &&
               exj_sqlite_end(s, &l, 0, code, why, (exj_slice){ 0 });
    }
    if (it->concurrency_key.n &&
        !exj_sqlite_ckey_id(s, op->u.insert.pool, it->concurrency_key, &ckey))
        return false;
    sqlite3_bind_int64(hot, 1, s->next_seq);
    sqlite3_bind_int64(hot, 2, op->u.insert.pool);
    sqlite3_bind_int64(hot, 3, (int)it->status);
    rank = -(int64_t)(it->has_priority ? it->priority : op->u.insert.priority);
    sqlite3_bind_int64(hot, 4, rank);
    sqlite3_bind_int64(hot, 5, it->run_after);
    sqlite3_bind_int64(hot, 6, op->u.insert.max_attempts);
    sqlite3_bind_int64(hot, 7, 0);
    sqlite3_bind_int64(hot, 8, last);
    sqlite3_bind_int64(hot, 9, it->unique_key.n ? EXJ_LIVE_UNIQUE : 0);
    sqlite3_bind_int64(hot, 10, ckey);
    if (!exj_sqlite_run(s, W_HOT_ADD, "cannot queue a row"))
        return false;
    l = (exj_live){ .seq = s->next_seq,
                    .pool = op->u.insert.pool,
                    .status = it->status,
                    .run_after = it->run_after,
                    .ckey = ckey,
                    .rank = rank };
    return !later || exj_sqlite_put_aside(s, &l);
}

bool exj_sqlite_insert(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *row = s->st[W_ROW_ADD];
    int64_t pool = op->u.insert.pool;
    int64_t added[2] = { 0, 0 };

    op->u.insert.ret_inserted = op->u.insert.ret_dropped = 0;
    if (!exj_sqlite_has_pool(s, pool)) {
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no pool %" PRId64, pool);
        return true;
    }
    sqlite3_bind_int64(row, 2, pool);
    sqlite3_bind_int64(row, 5, op->u.insert.max_attempts);
    sqlite3_bind_int64(row, 6, s->now);
    for (size_t i = 0; i < op->u.insert.len; i++) {
        exj_insert_item *it = &op->u.insert.items[i];
        bool taken, drop, drop_oldest;
        int64_t dropped = 0;

        if (!check_unique(s, pool, it, &taken))
            return false;
        if (taken)
            continue;
        if (!exj_sqlite_is_past(s, pool, it->record_id, &it->seq))
            return false;
        if (it->seq) { /* it ran, and was removed since */
            it->verdict = EXJ_CONFLICT;
            continue;
        }
        sqlite3_bind_int64(row, 1, s->next_seq);
        exj_sqlite_bind(row, 3, it->record_id);
        sqlite3_bind_int64(row, 4, it->has_priority ? it->priority : op->u.insert.priority);
        exj_sqlite_bind(row, 7, it->input);
        if (!exj_sqlite_run(s, W_ROW_ADD, "cannot insert a row"))
            return false;
        if (sqlite3_changes(s->db) == 0) {
            if (!find_existing(s, op, it))
                return false;
            continue;
        }
        exj_sqlite_overflow(s, op, added, &drop, &drop_oldest);
        if (!queue_row(s, op, it, drop))
            return false;
        it->verdict = EXJ_OK;
        it->seq = s->next_seq++;
        op->u.insert.ret_inserted++;
        op->u.insert.ret_dropped += drop;
        if (!drop)
            added[it->status]++;
        if (drop_oldest) {
            /* The counters have to know the new row: it may be the one to go. */
            exj_sqlite_count(s, pool, -1, EXJ_QUEUED, added[EXJ_QUEUED]);
            exj_sqlite_count(s, pool, -1, EXJ_WAITING, added[EXJ_WAITING]);
            added[EXJ_QUEUED] = added[EXJ_WAITING] = 0;
            if (!exj_sqlite_drop_oldest(s, pool, &dropped))
                return false;
            op->u.insert.ret_dropped += dropped != 0;
            if (dropped == it->seq)
                it->status = EXJ_DROPPED;
        }
    }
    exj_sqlite_count(s, pool, -1, EXJ_QUEUED, added[EXJ_QUEUED]);
    exj_sqlite_count(s, pool, -1, EXJ_WAITING, added[EXJ_WAITING]);
    return true;
}
