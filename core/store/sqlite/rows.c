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
                           "SELECT id, n0, n1, n2, n3, n4, n5, n6, n7, n8 FROM exj_pools"
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

bool exj_sqlite_insert(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *row = s->st[W_ROW_ADD], *hot = s->st[W_HOT_ADD];
    int64_t pool = op->u.insert.pool;
    int64_t added[2] = { 0, 0 };

    op->u.insert.ret_inserted = 0;
    if (!exj_sqlite_has_pool(s, pool)) {
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no pool %" PRId64, pool);
        return true;
    }
    sqlite3_bind_int64(row, 2, pool);
    sqlite3_bind_int64(row, 4, op->u.insert.priority);
    sqlite3_bind_int64(row, 5, op->u.insert.max_attempts);
    sqlite3_bind_int64(row, 6, s->now);
    sqlite3_bind_int64(hot, 2, pool);
    sqlite3_bind_int64(hot, 4, -(int64_t)op->u.insert.priority);
    sqlite3_bind_int64(hot, 6, op->u.insert.max_attempts);
    sqlite3_bind_int64(hot, 7, 0);
    for (size_t i = 0; i < op->u.insert.len; i++) {
        exj_insert_item *it = &op->u.insert.items[i];
        exj_status status = it->run_after > s->now ? EXJ_WAITING : EXJ_QUEUED;

        sqlite3_bind_int64(row, 1, s->next_seq);
        exj_sqlite_bind(row, 3, it->record_id);
        exj_sqlite_bind(row, 7, it->input);
        if (!exj_sqlite_run(s, W_ROW_ADD, "cannot insert a row"))
            return false;
        if (sqlite3_changes(s->db) == 0) {
            it->verdict = EXJ_CONFLICT;
            it->seq = 0;
            continue;
        }
        sqlite3_bind_int64(hot, 1, s->next_seq);
        sqlite3_bind_int64(hot, 3, (int)status);
        sqlite3_bind_int64(hot, 5, it->run_after);
        if (!exj_sqlite_run(s, W_HOT_ADD, "cannot queue a row"))
            return false;
        it->verdict = EXJ_OK;
        it->seq = s->next_seq++;
        added[status]++;
    }
    exj_sqlite_count(s, pool, -1, EXJ_QUEUED, added[EXJ_QUEUED]);
    exj_sqlite_count(s, pool, -1, EXJ_WAITING, added[EXJ_WAITING]);
    op->u.insert.ret_inserted = (size_t)(added[0] + added[1]);
    return true;
}
