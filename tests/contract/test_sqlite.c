/* What only the embedded store promises: its directory, its file, its disk. */
#include "durable.h"

#include <errno.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "core/store/sqlite/internal.h"

static exj_code open_at(const char *dir, const char *note, const exj_sqlite_seam *seam,
                        exj_store **ret, exj_err *err)
{
    exj_sqlite_options o = { .dir = dir, .lock_note = note };

    return exj_sqlite_open_seam(&o, seam, ret, err);
}

static void run_sql(const char *dir, const char *sql)
{
    char path[512];
    sqlite3 *db = NULL;
    char *text = NULL;

    snprintf(path, sizeof(path), "%s/%s", dir, EXJ_SQLITE_FILE);
    cr_assert(sqlite3_open(path, &db) == SQLITE_OK);
    cr_assert(sqlite3_exec(db, sql, NULL, NULL, &text) == SQLITE_OK, "%s", text);
    sqlite3_close(db);
}

Test(sqlite, a_second_opening_is_refused_and_names_the_holder)
{
    char dir[256];
    exj_store *s = NULL, *t = NULL;
    exj_err err = { 0 };
    exj_buf note = EXJ_BUF_INIT;

    temp_dir(dir, sizeof(dir));
    expect_code(exj_sqlite_holder(dir, &note, NULL), EXJ_NOT_FOUND);
    expect_code(open_at(dir, "pid 4711 worker w-1", NULL, &s, NULL), EXJ_OK);
    expect_code(open_at(dir, "another", NULL, &t, &err), EXJ_BUSY);
    cr_assert(strstr(err.text, "pid 4711 worker w-1"), "%s", err.text);
    expect_code(exj_sqlite_holder(dir, &note, NULL), EXJ_OK);
    cr_assert(exj_slice_is(exj_buf_slice(&note), "pid 4711 worker w-1"));
    s->v->close(s);
    expect_code(exj_sqlite_holder(dir, &note, NULL), EXJ_NOT_FOUND);
    expect_code(open_at(dir, "another", NULL, &t, NULL), EXJ_OK);
    t->v->close(t);
    exj_buf_release(&note);
    remove_dir(dir);
}

/* ---- one connection writes --------------------------------------------------------------- */

static sqlite3_vfs counting;
static int (*real_open)(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret);
static _Atomic int opened;

static int counted_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret)
{
    opened += (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READWRITE)) ==
              (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READWRITE);
    return real_open(vfs, name, f, flags, ret);
}

/* A second one that checkpoints meets the bug of older SQLites by which the log is
 * begun anew while it is read. */
Test(sqlite, no_other_connection_is_opened_for_writing)
{
    struct fixture f = { .maker = sqlite_makers.list };
    exj_sqlite_seam seam = { .vfs = "counting" };
    int before;

    counting = *sqlite3_vfs_find(NULL);
    real_open = counting.xOpen;
    counting.xOpen = counted_open;
    counting.zName = "counting";
    cr_assert(sqlite3_vfs_register(&counting, 0) == SQLITE_OK);
    temp_dir(f.dir, sizeof(f.dir));
    expect_code(open_at(f.dir, "n", &seam, &f.s, NULL), EXJ_OK);
    before = opened;
    cr_assert(before > 0);
    insert(&f, pool(&f, "m", "", "g"), "r");
    f.s->v->close(f.s);
    expect_int(opened, before);
    remove_dir(f.dir);
}

Test(sqlite, a_newer_schema_is_refused_with_both_numbers)
{
    char dir[256];
    exj_store *s = NULL;
    exj_err err = { 0 };
    char known[32];

    snprintf(known, sizeof(known), "up to %d", EXJ_SQLITE_SCHEMA);
    temp_dir(dir, sizeof(dir));
    expect_code(open_at(dir, "n", NULL, &s, NULL), EXJ_OK);
    s->v->close(s);
    run_sql(dir, "UPDATE exj_meta SET value=99 WHERE key='schema'");
    expect_code(open_at(dir, "n", NULL, &s, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, "99") && strstr(err.text, known), "%s", err.text);
    remove_dir(dir);
}

Test(sqlite, somebody_elses_database_is_refused)
{
    char dir[256];
    exj_store *s = NULL;

    temp_dir(dir, sizeof(dir));
    run_sql(dir, "CREATE TABLE theirs(x)");
    expect_code(open_at(dir, "n", NULL, &s, NULL), EXJ_REFUSED);
    remove_dir(dir);
}

Test(sqlite, a_file_that_is_no_database_is_corrupt)
{
    char dir[256], path[512];
    exj_store *s = NULL;
    FILE *file;

    temp_dir(dir, sizeof(dir));
    snprintf(path, sizeof(path), "%s/%s", dir, EXJ_SQLITE_FILE);
    file = fopen(path, "w");
    for (int i = 0; i < 5000; i++)
        fputs("not a database ", file);
    fclose(file);
    expect_code(open_at(dir, "n", NULL, &s, NULL), EXJ_CORRUPT);
    remove_dir(dir);
}

/* A store of version 1 as its program left it: one row of each kind. */
static const char version_1[] =
    "CREATE TABLE exj_meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO exj_meta VALUES('schema', 1), ('clock', 1600000000000);"
    "CREATE TABLE exellix_graph_configs(id TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " body TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
    "CREATE TABLE exellix_matrix_configs(id TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " body TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
    "INSERT INTO exellix_graph_configs VALUES('g', 4, '{}', 1, 2);"
    "CREATE TABLE exj_pools(id INTEGER PRIMARY KEY, matrix TEXT NOT NULL, run TEXT NOT NULL,"
    " graph TEXT NOT NULL, n0 INTEGER NOT NULL DEFAULT 0, n1 INTEGER NOT NULL DEFAULT 0,"
    " n2 INTEGER NOT NULL DEFAULT 0, n3 INTEGER NOT NULL DEFAULT 0,"
    " n4 INTEGER NOT NULL DEFAULT 0, n5 INTEGER NOT NULL DEFAULT 0,"
    " n6 INTEGER NOT NULL DEFAULT 0, n7 INTEGER NOT NULL DEFAULT 0,"
    " n8 INTEGER NOT NULL DEFAULT 0, UNIQUE(matrix, run, graph)) STRICT;"
    "INSERT INTO exj_pools(id, matrix, run, graph, n0, n4) VALUES(1, 'm', '', 'g', 1, 1);"
    "CREATE TABLE exellix_execution_matrix_rows(seq INTEGER PRIMARY KEY,"
    " pool INTEGER NOT NULL, record_id TEXT NOT NULL, priority INTEGER NOT NULL,"
    " max_attempts INTEGER NOT NULL, created_at INTEGER NOT NULL, input TEXT NOT NULL,"
    " UNIQUE(pool, record_id)) STRICT;"
    "INSERT INTO exellix_execution_matrix_rows VALUES(1, 1, 'dead', 0, 1, 5, '{}'),"
    " (2, 1, 'ready', 0, 3, 5, '{}');"
    "CREATE TABLE exj_hot(seq INTEGER PRIMARY KEY, pool INTEGER NOT NULL,"
    " status INTEGER NOT NULL, rank INTEGER NOT NULL, run_after INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, max_attempts INTEGER NOT NULL, fence INTEGER NOT NULL,"
    " nonce INTEGER NOT NULL, holder INTEGER NOT NULL, until INTEGER NOT NULL) STRICT;"
    "CREATE INDEX exj_hot_ready ON exj_hot(pool, rank) WHERE status=0;"
    "CREATE INDEX exj_hot_waiting ON exj_hot(run_after) WHERE status=1;"
    "CREATE INDEX exj_hot_leases ON exj_hot(until) WHERE status=2;"
    "INSERT INTO exj_hot VALUES(2, 1, 0, 0, 0, 0, 3, 0, 0, 0, 0);"
    "CREATE TABLE exj_results(seq INTEGER PRIMARY KEY, status INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, fence INTEGER NOT NULL, nonce INTEGER NOT NULL,"
    " at INTEGER NOT NULL, error_code TEXT NOT NULL, error_text TEXT NOT NULL,"
    " body TEXT NOT NULL) STRICT;"
    "INSERT INTO exj_results VALUES(1, 4, 1, 6, 77, 9, 'E', 'text', '');"
    "CREATE TABLE exellix_execution_matrix_failures(seq INTEGER NOT NULL,"
    " fence INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL,"
    " code TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY(seq, fence)) STRICT, WITHOUT ROWID;"
    "INSERT INTO exellix_execution_matrix_failures VALUES(1, 6, 1, 9, 'E', 'text');"
    "CREATE TABLE exellix_execution_matrix_snapshots(seq INTEGER NOT NULL,"
    " fence INTEGER NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL,"
    " PRIMARY KEY(seq, fence, n)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exj_journal(seq INTEGER NOT NULL, step TEXT NOT NULL,"
    " fence INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL,"
    " body TEXT NOT NULL, PRIMARY KEY(seq, step)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exj_holders(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;";

Test(sqlite, a_store_of_version_1_is_brought_up_to_date_and_goes_on)
{
    struct fixture f = { .maker = sqlite_makers.list };
    exj_err err = { 0 };
    exj_claim c;
    exj_store_health h;
    int64_t version;

    temp_dir(f.dir, sizeof(f.dir));
    run_sql(f.dir, version_1);
    cr_assert(open_at(f.dir, "n", NULL, &f.s, &err) == EXJ_OK, "%s", err.text);
    expect_code(f.s->v->health(f.s, &h), EXJ_OK);
    expect_int(h.schema_version, EXJ_SQLITE_SCHEMA);
    expect_int(row(&f, "m", "", "g", "dead").v.status, EXJ_FAILED);
    expect_int(count(&f, 1, EXJ_FAILED), 1);
    c = claim_one(&f, 1, "w", 5);
    expect_int(c.seq, 2);
    expect_code(finish(&f, &c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);
    expect_code(finish(&f, &c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);
    expect_code(retry(&f, 1, NULL), EXJ_OK);
    c = claim_one(&f, 1, "w", 6);
    expect_int(c.token, 7);
    expect_code(drop(&f, EXJ_DOC_GRAPH, "g", 4, NULL), EXJ_OK);
    expect_code(put(&f, EXJ_DOC_GRAPH, "g", 0, "{}", &version), EXJ_OK);
    expect_int(version, 5);
    expect_int(insert(&f, 1, "new"), 3);
    fixture_close(&f);
}

/* What version 2's program added to that, and what it left there: a row that crashed its
 * plugin once, one that is set aside, and one that an operator retried in those days. */
static const char version_2_adds[] =
    "ALTER TABLE exellix_execution_matrix_failures ADD COLUMN nonce INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE exj_gone(kind INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,"
    " PRIMARY KEY(kind, id)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX exj_results_ended ON exj_results(status) WHERE status<>3;"
    "UPDATE exj_meta SET value=2 WHERE key='schema';"
    "INSERT INTO exj_gone VALUES(0, 'old', 8);"
    "INSERT INTO exellix_execution_matrix_failures VALUES(2, 0, 1, 9, 'PluginCrashed', 't', 3);"
    "INSERT INTO exellix_execution_matrix_rows VALUES(3, 1, 'aside', 0, 3, 5, '{}');"
    "INSERT INTO exj_results VALUES(3, 5, 2, 2, 78, 9, 'Quarantined', 'SIGSEGV', '');"
    "UPDATE exj_pools SET n5=1 WHERE id=1;";

static bool note_seq(void *user, const exj_row_view *v)
{
    *(int64_t *)user = v->seq;
    return true;
}

Test(sqlite, a_store_of_version_2_is_brought_up_to_date_and_goes_on)
{
    struct fixture f = { .maker = sqlite_makers.list };
    exj_row_filter page = { .status = EXJ_BLOCKED, .limit = 10,
                            .error_code = EXJ_SLICE_LITERAL("Quarantined") };
    exj_op op = { .kind = EXJ_OP_KV_ADD };
    exj_err err = { 0 };
    exj_store_health h;
    exj_claim c;
    uint32_t n = 9;
    int64_t seq = 0, version;

    temp_dir(f.dir, sizeof(f.dir));
    run_sql(f.dir, version_1);
    run_sql(f.dir, version_2_adds);
    cr_assert(open_at(f.dir, "n", NULL, &f.s, &err) == EXJ_OK, "%s", err.text);
    expect_code(f.s->v->health(f.s, &h), EXJ_OK);
    expect_int(h.schema_version, EXJ_SQLITE_SCHEMA);
    expect_code(f.s->v->row_page(f.s, &page, note_seq, &seq, NULL), EXJ_OK);
    expect_int(seq, 3);
    expect_code(f.s->v->failure_count(f.s, 2, EXJ_SLICE_LITERAL("PluginCrashed"), &n, NULL),
                EXJ_OK);
    expect_int(n, 1);
    c = claim_one(&f, 1, "w", 5);
    expect_int(c.seq, 2);
    op.u.kv.graph = exj_slice_of("g");
    op.u.kv.key = exj_slice_of("total");
    op.u.kv.seq = c.seq;
    op.u.kv.nonce = c.nonce;
    op.u.kv.token = c.token;
    op.u.kv.delta = 4;
    cr_assert(exj_store_do(f.s, &op, &err) == EXJ_OK, "%s", err.text);
    expect_int(op.u.kv.ret_sum, 4);
    expect_code(retry(&f, 3, NULL), EXJ_OK);
    expect_int(count(&f, 1, EXJ_BLOCKED), 0);
    expect_code(put(&f, EXJ_DOC_GRAPH, "old", 0, "{}", &version), EXJ_OK);
    expect_int(version, 9);
    fixture_close(&f);
}

/* What version 3's program added: keys and values, and, what had no way out in its days, a
 * row that is suspended; one that is running, with a finished step; one that waits. */
static const char version_3_adds[] =
    "CREATE TABLE exj_kv(id INTEGER PRIMARY KEY, graph TEXT NOT NULL, key TEXT NOT NULL,"
    " value TEXT NOT NULL, at INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " UNIQUE(graph, key)) STRICT;"
    "CREATE TABLE exj_kv_graphs(graph TEXT PRIMARY KEY, keys INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exj_retried(seq INTEGER PRIMARY KEY, fence INTEGER NOT NULL) STRICT;"
    "CREATE INDEX exj_results_blocked ON exj_results(error_code) WHERE status=5;"
    "UPDATE exj_meta SET value=3 WHERE key='schema';"
    "INSERT INTO exj_holders VALUES(1, 'old-worker');"
    "INSERT INTO exellix_execution_matrix_rows VALUES(4, 1, 'suspended', 2, 3, 5, '{}'),"
    " (5, 1, 'running', 0, 3, 5, '{}'), (6, 1, 'waiting', 0, 3, 5, '{}');"
    "INSERT INTO exj_results VALUES(4, 6, 2, 5, 79, 9, '', '', '');"
    "INSERT INTO exellix_execution_matrix_snapshots VALUES(4, 5, 0, 9, '{\"at\":3}');"
    "INSERT INTO exj_hot VALUES(5, 1, 2, 0, 0, 1, 3, 1, 80, 1, 1600000000500),"
    " (6, 1, 1, 0, 1600000000500, 1, 3, 1, 0, 0, 0);"
    "INSERT INTO exj_journal VALUES(5, 'old', 1, 1, 9, '\"kept\"');"
    "UPDATE exj_pools SET n1=1, n2=1, n6=1 WHERE id=1;";

Test(sqlite, a_store_of_version_3_is_brought_up_to_date_and_its_suspended_rows_wait_for_a_signal)
{
    struct fixture f = { .maker = sqlite_makers.list };
    int64_t first = 0, last = 0;
    bool delivered = false;
    exj_store_health h;
    exj_err err = { 0 };
    exj_reaped r[2];
    struct seen s;
    exj_claim c;

    temp_dir(f.dir, sizeof(f.dir));
    run_sql(f.dir, version_1);
    run_sql(f.dir, version_2_adds);
    run_sql(f.dir, version_3_adds);
    cr_assert(open_at(f.dir, "n", NULL, &f.s, &err) == EXJ_OK, "%s", err.text);
    expect_code(f.s->v->health(f.s, &h), EXJ_OK);
    expect_int(h.schema_version, EXJ_SQLITE_SCHEMA);
    expect_code(f.s->v->events_span(f.s, &first, &last, NULL), EXJ_OK);
    expect_int(last, 0); /* of what happened before nothing is told */
    s = look(&f, 4);
    expect_int(s.v.status, EXJ_SUSPENDED);
    expect_int(s.v.attempts, 1); /* a wait is no attempt */
    expect_int(s.v.token, 5);
    expect_int(s.v.priority, 2);
    expect_int(count(&f, 1, EXJ_SUSPENDED), 1);
    /* Time does not bring it back; any signal does. */
    expect_int(promote(&f, NULL), 1);
    expect_int(status_of(&f, 6), EXJ_QUEUED);
    expect_int(status_of(&f, 4), EXJ_SUSPENDED);
    expect_code(signal_to(&f, 4, "whatever", "1", &delivered, NULL), EXJ_OK);
    cr_assert(delivered);
    c = claim_one(&f, 1, "w", 5);
    expect_int(c.seq, 4); /* its priority came along */
    expect_int(c.token, 6);
    expect_int(c.attempt, 2);
    cr_assert_str_eq(step_body(&f, 4, "signal:whatever"), "{\"payload\":1}");
    expect_code(finish(&f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    /* What ran is reaped, its step stays. */
    expect_int(reap(&f, NULL, 0, r, 2), 1);
    expect_int(r[0].seq, 5);
    cr_assert_str_eq(step_body(&f, 5, "old"), "\"kept\"");
    expect_code(cancel(&f, 5, NULL, NULL), EXJ_OK);
    expect_int(count(&f, 1, EXJ_CANCELED), 1);
    fixture_reopen(&f);
    expect_int(count(&f, 1, EXJ_COMPLETED), 1);
    fixture_close(&f);
}

Test(sqlite, an_upgrade_that_finds_no_room_leaves_the_older_store_whole)
{
    struct fixture f = { .maker = sqlite_makers.list };
    exj_sqlite_seam seam = { .max_pages = 1 }; /* no more than it has */
    exj_store_health h;
    exj_err err = { 0 };

    temp_dir(f.dir, sizeof(f.dir));
    run_sql(f.dir, version_1);
    run_sql(f.dir, version_2_adds);
    expect_code(open_at(f.dir, "n", &seam, &f.s, &err), EXJ_FULL);
    cr_assert(strstr(err.text, "schema 2 to 3"), "%s", err.text);
    expect_code(exj_sqlite_open(&(exj_sqlite_options){ .dir = f.dir, .read_only = true }, &f.s,
                                &err),
                EXJ_REFUSED); /* still of version 2 */
    expect_code(open_at(f.dir, "n", NULL, &f.s, NULL), EXJ_OK);
    expect_code(f.s->v->health(f.s, &h), EXJ_OK);
    expect_int(h.schema_version, EXJ_SQLITE_SCHEMA);
    expect_int(row(&f, "m", "", "g", "aside").v.status, EXJ_BLOCKED);
    fixture_close(&f);
}

Test(sqlite, a_reader_of_an_older_file_asks_for_the_worker_to_start_once)
{
    char dir[256];
    exj_store *s = NULL;
    exj_err err = { 0 };

    temp_dir(dir, sizeof(dir));
    run_sql(dir, version_1);
    run_sql(dir, version_2_adds);
    expect_code(exj_sqlite_open(&(exj_sqlite_options){ .dir = dir, .read_only = true }, &s,
                                &err),
                EXJ_REFUSED);
    cr_assert(strstr(err.text, "version 2") && strstr(err.text, "start the worker once"), "%s",
              err.text);
    remove_dir(dir);
}

Test(sqlite, a_reader_beside_the_writer_sees_rows_and_writes_nothing)
{
    struct fixture f;
    exj_store *r = NULL;
    exj_op op = { .kind = EXJ_OP_PROMOTE };

    fixture_open(&f, sqlite_makers.list);
    insert(&f, pool(&f, "m", "", "g"), "a");
    expect_code(exj_sqlite_open(&(exj_sqlite_options){ .dir = f.dir, .read_only = true }, &r,
                                NULL),
                EXJ_OK);
    expect_code(exj_store_do(r, &op, NULL), EXJ_REFUSED);
    f.s->v->close(f.s);
    f.s = r;
    expect_int(row(&f, "m", "", "g", "a").v.status, EXJ_QUEUED);
    fixture_close(&f);
}

/* spec 2.10: An acknowledged outcome survives `kill -9` of every process and, with the
 * durable setting, loss of power. */
Test(sqlite, everything_answered_is_there_after_a_restart)
{
    struct fixture f;
    exj_claim c;
    int64_t p;

    fixture_open(&f, sqlite_makers.list);
    p = pool(&f, "m", "", "g");
    insert(&f, p, "a");
    insert(&f, p, "b");
    c = claim_one(&f, p, "w", 3);
    expect_code(finish(&f, &c, EXJ_EV_SUCCEED, 0, "\"kept\""), EXJ_OK);
    fixture_reopen(&f);
    cr_assert_str_eq(row(&f, "m", "", "g", "a").result, "\"kept\"");
    expect_int(count(&f, p, EXJ_QUEUED), 1);
    expect_int(pool(&f, "m", "", "g"), p);
    cr_assert(insert(&f, p, "c") > c.seq);
    expect_int(insert(&f, p, "b"), 0);
    fixture_close(&f);
}

/* ---- a disk that is full, a memory that is short ------------------------------------------------ */

/* One damaged entry must not keep all that is due behind it waiting for ever. */
Test(sqlite, entries_of_rows_that_are_not_aside_do_not_hold_up_the_others)
{
    struct fixture f;
    exj_msec next;
    int64_t p;

    fixture_open(&f, sqlite_makers.list);
    p = pool(&f, "m", "", "g");
    insert(&f, p, "ready"); /* seq 1 */
    insert_as(&f, p, "later", 0, 3, START + 1000);
    fixture_reopen(&f);
    f.s->v->close(f.s);
    run_sql(f.dir, "INSERT INTO exj_aside(seq, pool, status, at, ckey, rank) VALUES"
                   "(1, 1, 1, 1, 0, 0), (99, 1, 6, 1, 0, 0), (98, 1, 1, 1, 0, 0)");
    expect_code(f.maker->open(f.dir, "n", &f.time, &f.s, NULL), EXJ_OK);
    advance(&f, 2000);
    promote(&f, &next);
    expect_int(next, 0);
    expect_int(count(&f, p, EXJ_QUEUED), 2);
    expect_int(count(&f, p, EXJ_WAITING), 0);
    expect_int(promote(&f, &next), 0);
    fixture_close(&f);
}

static exj_code insert_big(exj_store *s, int64_t p, int i)
{
    static char big[50001];
    char id[32];
    exj_insert_item it = { .input = { big, 50000 } };
    exj_op op = { .kind = EXJ_OP_INSERT };

    memset(big, 'x', 50000);
    snprintf(id, sizeof(id), "big%d", i);
    it.record_id = exj_slice_of(id);
    op.u.insert.pool = p;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    return exj_store_do(s, &op, NULL);
}

static void fill_and_go_on(struct fixture *f)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;
    exj_code rc = EXJ_OK;
    int n = 0;

    insert_as(f, p, "small", 9, 3, 0);
    c = claim_one(f, p, "w", 1);
    while (rc == EXJ_OK && n < 2000)
        rc = insert_big(f->s, p, n++);
    expect_code(rc, EXJ_FULL);
    expect_int(count(f, p, EXJ_QUEUED), n - 1); /* nothing half-written */
    expect_code(insert_big(f->s, p, n), EXJ_FULL); /* and again: refused, not failed */
    expect_int(row(f, "m", "", "g", "small").v.status, EXJ_RUNNING);
    expect_int(row(f, "m", "", "g", "small").v.token, c.token);
}

Test(sqlite, a_file_that_may_not_grow_says_full_and_loses_nothing)
{
    struct fixture f = { .maker = sqlite_makers.list };
    exj_sqlite_seam seam = { .max_pages = 200 };
    exj_claim c;

    temp_dir(f.dir, sizeof(f.dir));
    expect_code(open_at(f.dir, "n", &seam, &f.s, NULL), EXJ_OK);
    fill_and_go_on(&f);
    c = (exj_claim){ .seq = row(&f, "m", "", "g", "small").v.seq, .token = 1, .nonce = 1 };
    expect_code(renew(&f, &c, LEASE), EXJ_OK);
    fixture_close(&f);
}

Test(sqlite, a_full_file_system_says_full_and_loses_nothing)
{
    struct fixture f = { .maker = sqlite_makers.list };

    temp_dir(f.dir, sizeof(f.dir));
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", f.dir, "tmpfs", 0, "size=2m") < 0) {
        fprintf(stderr, "skipped: mounting a small tmpfs: %s\n", strerror(errno));
        remove_dir(f.dir);
        return;
    }
    expect_code(open_at(f.dir, "n", NULL, &f.s, NULL), EXJ_OK);
    fill_and_go_on(&f);
    f.s->v->close(f.s);
    expect_code(open_at(f.dir, "n", NULL, &f.s, NULL), EXJ_OK);
    expect_int(row(&f, "m", "", "g", "small").v.status, EXJ_RUNNING);
    f.s->v->close(f.s);
    umount(f.dir);
    rmdir(f.dir);
}

Test(sqlite, lack_of_memory_changes_nothing_and_passes)
{
    struct fixture f;
    int64_t p;
    exj_code rc;

    fixture_open(&f, sqlite_makers.list);
    p = pool(&f, "m", "", "g");
    sqlite3_hard_heap_limit64(sqlite3_memory_used() + 4096);
    rc = insert_big(f.s, p, 1);
    sqlite3_hard_heap_limit64(0);
    expect_code(rc, EXJ_NOMEM);
    expect_int(count(&f, p, EXJ_QUEUED), 0);
    expect_code(insert_big(f.s, p, 1), EXJ_OK);
    fixture_close(&f);
}

static exj_code kv_put(exj_store *s, const char *key, exj_slice value)
{
    exj_op op = { .kind = EXJ_OP_KV_PUT };

    op.u.kv.graph = EXJ_SLICE_LITERAL("g");
    op.u.kv.key = exj_slice_of(key);
    op.u.kv.value = value;
    return exj_store_do(s, &op, NULL);
}

Test(sqlite, a_key_that_finds_no_room_on_disk_or_in_memory_leaves_the_old_value)
{
    static char big[60001];
    struct fixture f = { .maker = sqlite_makers.list };
    exj_sqlite_seam seam = { .max_pages = 100 };
    exj_buf got = EXJ_BUF_INIT;
    exj_code rc = EXJ_OK;
    char key[16];

    memset(big, '1', 60000);
    temp_dir(f.dir, sizeof(f.dir));
    expect_code(open_at(f.dir, "n", &seam, &f.s, NULL), EXJ_OK);
    expect_code(kv_put(f.s, "old", EXJ_SLICE_LITERAL("1")), EXJ_OK);
    sqlite3_hard_heap_limit64(sqlite3_memory_used() + 2048);
    rc = kv_put(f.s, "old", (exj_slice){ big, 60000 });
    sqlite3_hard_heap_limit64(0);
    expect_code(rc, EXJ_NOMEM);
    for (int i = 0; rc != EXJ_FULL && i < 50; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        rc = kv_put(f.s, key, (exj_slice){ big, 60000 });
    }
    expect_code(rc, EXJ_FULL);
    expect_code(kv_put(f.s, "old", (exj_slice){ big, 60000 }), EXJ_FULL);
    expect_code(f.s->v->kv_get(f.s, EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("old"), &got,
                               NULL),
                EXJ_OK);
    cr_assert(exj_slice_is(exj_buf_slice(&got), "1"));
    exj_buf_release(&got);
    fixture_close(&f);
}

Test(sqlite, a_directory_that_cannot_be_made_is_named)
{
    exj_store *s = NULL;
    exj_err err = { 0 };

    expect_code(open_at("/dev/null/store", "n", NULL, &s, &err), EXJ_IO);
    cr_assert(strstr(err.text, "/dev/null"), "%s", err.text);
}
