#include "tests/support/store_look.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/sqlite/internal.h"

static const struct {
    const char *name, *sql; /* sql NULL: all of it, by its first columns */
} tables[EXJ_LOOK_TABLES] = {
    { "exj_meta", "SELECT * FROM exj_meta WHERE key IN ('schema', 'last_removed')"
                  " ORDER BY key" },
    { "exellix_graph_configs", NULL },
    { "exellix_matrix_configs", NULL },
    { "exellix_schedule_configs", NULL },
    { "exj_pools", NULL },
    { "exellix_execution_matrix_rows", NULL },
    { "exj_hot", NULL },
    { "exj_aside", NULL },
    { "exj_results", NULL },
    { "exellix_execution_matrix_failures", NULL },
    { "exellix_execution_matrix_snapshots", NULL },
    { "exj_journal", NULL },
    { "exj_holders", NULL },
    { "exj_gone", NULL },
    { "exj_kv", NULL },
    { "exj_kv_graphs", NULL },
    { "exj_retried", NULL },
    { "exj_extras", NULL },
    { "exj_unique", NULL },
    { "exj_ckeys", NULL },
    { "exj_rates", NULL },
    { "exj_waits", NULL },
    { "exj_signals", NULL },
    { "exj_progress", NULL },
    { "exj_commands", "SELECT * FROM exj_commands WHERE status<>0 ORDER BY key" },
    { "exj_blobs", "SELECT * FROM exj_blobs WHERE refs>0 ORDER BY hash" },
    { "exj_past", NULL },
    { "exj_sinks", NULL },
    { "exj_held", NULL },
    { "exj_dead", NULL },
    { "exj_schedules", NULL },
    { "exj_runs", NULL },
    { "exj_events", "SELECT first, n, at, body FROM exj_events ORDER BY first" },
};

enum ask { A_HOT, A_ENDED, A_POOLS, A_DOCS, A_DEAD, A_TAKEN, A_LAST, A_COUNT };

static const char *const asks[A_COUNT] = {
    "SELECT seq, pool, fence, nonce, 0, status, attempts FROM exj_hot ORDER BY seq",
    "SELECT t.seq, r.pool, t.fence, t.nonce, t.at, t.status, t.attempts FROM exj_results "
    "t"
    " JOIN exellix_execution_matrix_rows r ON r.seq=t.seq ORDER BY t.seq",
    "SELECT id FROM exj_pools ORDER BY id LIMIT 16",
    "SELECT id, 0, version, 0 FROM exellix_graph_configs UNION ALL"
    " SELECT id, 1, version, 0 FROM exellix_matrix_configs UNION ALL"
    " SELECT c.id, 2, c.version, coalesce(s.turn, 0) FROM exellix_schedule_configs c"
    " LEFT JOIN exj_schedules s ON s.id=c.id ORDER BY 2, 1 LIMIT 16",
    "SELECT id FROM exj_dead ORDER BY id LIMIT 16",
    "SELECT key, owner FROM exj_commands WHERE status=0 ORDER BY key LIMIT 8",
    "SELECT max(first+n)-1 FROM exj_events",
};

struct exj_look {
    sqlite3 *db;
    sqlite3_stmt *table[EXJ_LOOK_TABLES], *ask[A_COUNT];
};

static bool tell(exj_look *l, const char *what, char ret_why[256])
{
    snprintf(ret_why, 256, "%s: %s (%d)", what, sqlite3_errmsg(l->db),
             sqlite3_extended_errcode(l->db));
    return false;
}

exj_look *exj_look_new(const char *vfs, const char *path, char ret_why[256])
{
    exj_look *l = calloc(1, sizeof(*l));
    bool good;

    if (!l)
        abort();
    good = sqlite3_open_v2(path, &l->db, SQLITE_OPEN_READONLY, vfs) == SQLITE_OK ||
           tell(l, path, ret_why);
    if (good)
        sqlite3_exec(l->db, "PRAGMA temp_store=MEMORY", NULL, NULL, NULL);
    for (size_t i = 0; good && i < EXJ_LOOK_TABLES; i++) {
        char sql[120];

        snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY 1, 2", tables[i].name);
        if (sqlite3_prepare_v2(l->db, tables[i].sql ? tables[i].sql : sql, -1,
                               &l->table[i], NULL) != SQLITE_OK)
            good = tell(l, tables[i].name, ret_why);
    }
    for (size_t i = 0; good && i < A_COUNT; i++)
        if (sqlite3_prepare_v2(l->db, asks[i], -1, &l->ask[i], NULL) != SQLITE_OK)
            good = tell(l, asks[i], ret_why);
    if (good)
        return l;
    exj_look_free(l);
    return NULL;
}

void exj_look_free(exj_look *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < EXJ_LOOK_TABLES; i++)
        sqlite3_finalize(l->table[i]);
    for (size_t i = 0; i < A_COUNT; i++)
        sqlite3_finalize(l->ask[i]);
    sqlite3_close_v2(l->db);
    free(l);
}

/* ---- sums
 * ------------------------------------------------------------------------------------ */

/* Eight bytes at a time (the tail padded), each mixed in: it tells contents apart, no
 * more. */
static void mix(uint64_t *h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;

        memcpy(&word, p + i, n - i < 8 ? n - i : 8);
        *h = (*h ^ word) * 0x9e3779b97f4a7c15u;
        *h ^= *h >> 29;
    }
    *h = (*h ^ n) * 0xbf58476d1ce4e5b9u;
    *h ^= *h >> 32;
}

static void mix_number(uint64_t *h, int64_t v)
{
    mix(h, &v, sizeof(v));
}

static void mix_row(uint64_t *h, sqlite3_stmt *st)
{
    for (int c = 0; c < sqlite3_column_count(st); c++) {
        int type = sqlite3_column_type(st, c);

        mix_number(h, type);
        if (type == SQLITE_INTEGER)
            mix_number(h, sqlite3_column_int64(st, c));
        else if (type != SQLITE_NULL) {
            const void *p = sqlite3_column_blob(st, c);

            mix(h, p, (size_t)sqlite3_column_bytes(st, c));
        }
    }
}

static void mix_entry(uint64_t *h, const exj_journal_entry *e, exj_msec at)
{
    int64_t all[] = { e->number, e->previous,         at,     e->seq, e->token,
                      e->value,  (int64_t)e->attempt, e->kind };

    mix(h, all, sizeof(all));
    mix(h, e->key.p, e->key.n);
    mix(h, e->text.p, e->text.n);
}

/* The numbers that the journal has given away count too, and those it cannot read. */
static void mix_events(uint64_t *h, sqlite3_stmt *st, exj_look_sum *sum, int64_t *next)
{
    int64_t first = sqlite3_column_int64(st, 0), n = sqlite3_column_int64(st, 1);
    exj_slice body = { sqlite3_column_blob(st, 3), (size_t)sqlite3_column_bytes(st, 3) };
    exj_events_iter it;
    exj_journal_entry e;

    exj_events_iter_init(&it, body, first, n);
    while (exj_events_iter_next(&it, &e)) {
        mix_entry(h, &e, sqlite3_column_int64(st, 2));
        sum->entries++;
        sum->holes += e.number - *next;
        *next = e.number + 1;
    }
    if (it.corrupt)
        mix_number(h, -1);
}

bool exj_look_at(exj_look *l, exj_look_sum *ret, char ret_why[256])
{
    bool good = true;

    *ret = (exj_look_sum){ 0 };
    /* One view of all tables. */
    sqlite3_exec(l->db, "BEGIN", NULL, NULL, NULL);
    for (size_t i = 0; i < EXJ_LOOK_TABLES && good; i++) {
        bool events = i == EXJ_LOOK_TABLES - 1;
        sqlite3_stmt *st = l->table[i];
        int64_t next = 1;
        int step;

        while ((step = sqlite3_step(st)) == SQLITE_ROW) {
            if (events)
                mix_events(&ret->table[i], st, ret, &next);
            else
                mix_row(&ret->table[i], st);
            ret->rows++;
        }
        good = step == SQLITE_DONE || tell(l, tables[i].name, ret_why);
        sqlite3_reset(st);
        mix(&ret->all, &ret->table[i], sizeof(ret->table[i]));
    }
    sqlite3_exec(l->db, "COMMIT", NULL, NULL, NULL);
    return good;
}

bool exj_look_check(exj_look *l, char ret_why[256])
{
    sqlite3_stmt *st = NULL;
    bool good = sqlite3_prepare_v2(l->db, "PRAGMA integrity_check(1)", -1, &st, NULL) ==
                    SQLITE_OK &&
                sqlite3_step(st) == SQLITE_ROW;

    if (!good)
        tell(l, "integrity_check", ret_why);
    else if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
        good = snprintf(ret_why, 256, "%s", (const char *)sqlite3_column_text(st, 0)) < 0;
    sqlite3_finalize(st);
    return good;
}

bool exj_look_blobs(exj_look *l, const char *folder, uint64_t *ret_n, char ret_why[256])
{
    exj_blobs *blobs = NULL;
    sqlite3_stmt *st = NULL;
    exj_err err = { 0 };
    bool good = exj_blobs_new(folder, true, NULL, &blobs, &err) == EXJ_OK;
    int step = SQLITE_DONE;

    *ret_n = 0;
    sqlite3_prepare_v2(l->db, "SELECT hash, bytes FROM exj_blobs WHERE refs>0", -1, &st,
                       NULL);
    while (good && (step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_blob_ref ref = { .bytes = sqlite3_column_int64(st, 1) };

        snprintf(ref.hash, sizeof(ref.hash), "%s",
                 (const char *)sqlite3_column_text(st, 0));
        good = exj_blobs_check(blobs, &ref, &err) == EXJ_OK;
        ++*ret_n;
    }
    if (!good)
        snprintf(ret_why, 256, "%.250s", err.text);
    else if (step != SQLITE_DONE)
        good = tell(l, "exj_blobs", ret_why);
    sqlite3_finalize(st);
    exj_blobs_free(blobs);
    return good;
}

const char *exj_look_name(size_t table)
{
    return tables[table].name;
}

void exj_look_differ(const exj_look_sum *a, const exj_look_sum *b, char *ret, size_t cap)
{
    size_t n = 0;

    ret[0] = '\0';
    for (size_t i = 0; i < EXJ_LOOK_TABLES; i++)
        if (a->table[i] != b->table[i] && n < cap)
            n += (size_t)snprintf(ret + n, cap - n, "%s%s", n ? " " : "", tables[i].name);
}

/* ---- what is known
 * --------------------------------------------------------------------------- */

static void know_row(exj_known *k, sqlite3_stmt *st, bool hot)
{
    if (k->rows_len < EXJ_KNOWN_MOST)
        k->rows[k->rows_len++] = (exj_known_row){
            .seq = sqlite3_column_int64(st, 0),
            .pool = sqlite3_column_int64(st, 1),
            .token = sqlite3_column_int64(st, 2),
            .nonce = sqlite3_column_int64(st, 3),
            .at = sqlite3_column_int64(st, 4),
            .status = sqlite3_column_int(st, 5),
            .attempts = (uint32_t)sqlite3_column_int64(st, 6),
            .hot = hot,
        };
}

static void know_doc(exj_known *k, sqlite3_stmt *st)
{
    size_t i = k->docs_len++;

    snprintf(k->docs[i].id, sizeof(k->docs[i].id), "%s",
             (const char *)sqlite3_column_text(st, 0));
    k->docs[i].kind = sqlite3_column_int(st, 1);
    k->docs[i].version = sqlite3_column_int64(st, 2);
    k->docs[i].turn = sqlite3_column_int64(st, 3);
}

static void know(exj_known *k, enum ask which, sqlite3_stmt *st)
{
    switch (which) {
    case A_HOT:
    case A_ENDED:
        know_row(k, st, which == A_HOT);
        break;
    case A_POOLS:
        k->pools[k->pools_len++] = sqlite3_column_int64(st, 0);
        break;
    case A_DOCS:
        know_doc(k, st);
        break;
    case A_DEAD:
        k->dead[k->dead_len++] = sqlite3_column_int64(st, 0);
        break;
    case A_TAKEN:
        snprintf(k->taken[k->taken_len].key, sizeof(k->taken[0].key), "%s",
                 (const char *)sqlite3_column_text(st, 0));
        k->taken[k->taken_len++].owner = sqlite3_column_int64(st, 1);
        break;
    default:
        k->last_entry = sqlite3_column_int64(st, 0);
        break;
    }
}

bool exj_look_known(exj_look *l, exj_known *ret, char ret_why[256])
{
    bool good = true;

    ret->rows_len = ret->pools_len = ret->docs_len = ret->dead_len = ret->taken_len = 0;
    ret->last_entry = 0;
    for (size_t i = 0; i < A_COUNT && good; i++) {
        int step;

        while ((step = sqlite3_step(l->ask[i])) == SQLITE_ROW)
            know(ret, (enum ask)i, l->ask[i]);
        good = step == SQLITE_DONE || tell(l, asks[i], ret_why);
        sqlite3_reset(l->ask[i]);
    }
    return good;
}
