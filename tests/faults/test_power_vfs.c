/* Is the disk of power_vfs.h as hard as a real one, and no harder? Plain SQLite on it. */
#include "tests/support/power_vfs.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/support.h"

#define PATH "/disk/a.db"

static sqlite3 *open_db(const char *sync)
{
    sqlite3 *db = NULL;
    char sql[200];

    snprintf(
        sql, sizeof(sql),
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; PRAGMA wal_autocheckpoint=7;"
        "CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, x)",
        sync);
    cr_assert(sqlite3_open(PATH, &db) == SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return db;
    sqlite3_close(db);
    return NULL;
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int64_t n = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

static bool is_whole(sqlite3 *db)
{
    return db && number(db, "SELECT count(*) FROM pragma_integrity_check"
                            " WHERE integrity_check<>'ok'") == 0;
}

/* Commit until the power goes; the newest number that SQLite said was there. */
static int64_t commit_until_off(exj_power *p, sqlite3 *db, int64_t last)
{
    char sql[200];

    while (!exj_power_is_off(p)) {
        snprintf(sql, sizeof(sql), "INSERT INTO t VALUES(%" PRId64 ", zeroblob(%d))",
                 last + 1, (int)(last % 5000));
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
            break;
        last++;
        number(db, "SELECT sum(length(x)) FROM t");
    }
    return last;
}

struct result {
    int lost, broken;
};

static struct result cut_often(const char *sync, int cuts)
{
    uint64_t seed = exj_test_seed("power_vfs");
    exj_power *p = exj_power_new("cuts", true, seed);
    struct result r = { 0, 0 };
    int64_t last = 0;

    for (int i = 0; i < cuts; i++) {
        sqlite3 *db = open_db(sync);
        int64_t there;
        bool whole;

        exj_power_cut_after(p, exj_test_random(&seed) % 60);
        last = db ? commit_until_off(p, db, last) : last;
        exj_power_cut(p);
        sqlite3_close(db);
        exj_power_on(p);
        db = open_db(sync);
        there = db ? number(db, "SELECT coalesce(max(n), 0) FROM t") : -1;
        whole = is_whole(db) && number(db, "SELECT count(*) FROM t") == there;
        r.broken += !whole;
        r.lost += there >= 0 && there < last;
        last = there;
        sqlite3_close(db);
        if (!whole) {
            exj_power_wipe(p);
            last = 0;
        }
    }
    exj_power_free(p);
    return r;
}

Test(power_vfs, a_synced_commit_is_there_after_every_cut)
{
    struct result r = cut_often("FULL", 200);

    cr_assert(r.lost == 0 && r.broken == 0, "lost %d, broken %d", r.lost, r.broken);
}

Test(power_vfs, a_commit_that_was_not_synced_can_be_lost_and_breaks_nothing)
{
    struct result r = cut_often("NORMAL", 200);

    cr_assert(r.lost > 20 && r.broken == 0, "lost %d, broken %d", r.lost, r.broken);
}

Test(power_vfs, a_database_that_is_never_synced_breaks)
{
    struct result r = cut_often("OFF", 200);

    cr_assert(r.broken > 0, "lost %d, broken %d", r.lost, r.broken);
}

Test(power_vfs, connections_of_one_process_see_each_other)
{
    exj_power *p = exj_power_new("shared", true, 1);
    sqlite3 *a = open_db("FULL"), *b = open_db("FULL");

    cr_assert(sqlite3_exec(b, "BEGIN", NULL, NULL, NULL) == SQLITE_OK);
    cr_assert(number(b, "SELECT count(*) FROM t") == 0);
    cr_assert(sqlite3_exec(a, "INSERT INTO t VALUES(1, 1)", NULL, NULL, NULL) ==
              SQLITE_OK);
    cr_assert(number(b, "SELECT count(*) FROM t") == 0, "its view has changed");
    cr_assert(sqlite3_exec(b, "COMMIT", NULL, NULL, NULL) == SQLITE_OK);
    cr_assert(number(b, "SELECT count(*) FROM t") == 1);
    cr_assert(sqlite3_exec(a, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK);
    cr_assert(sqlite3_exec(b, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_BUSY);
    sqlite3_close(a);
    sqlite3_close(b);
    exj_power_free(p);
}

Test(power_vfs, the_call_that_was_named_fails_and_no_other)
{
    exj_power *p = exj_power_new("fails", true, 1);
    sqlite3 *db = open_db("FULL");

    exj_power_fail(p, EXJ_POWER_WRITE, 1, false, EXJ_POWER_SHORT);
    cr_assert(sqlite3_exec(db, "INSERT INTO t VALUES(1, 1)", NULL, NULL, NULL) ==
              SQLITE_FULL);
    cr_assert(sqlite3_exec(db, "INSERT INTO t VALUES(1, 1)", NULL, NULL, NULL) ==
              SQLITE_OK);
    cr_assert(exj_power_heal(p) > 1);
    exj_power_fail(p, EXJ_POWER_SYNC, 1, true, EXJ_POWER_IOERR);
    cr_assert(sqlite3_exec(db, "INSERT INTO t VALUES(2, 1)", NULL, NULL, NULL) ==
              SQLITE_IOERR);
    cr_assert(sqlite3_exec(db, "INSERT INTO t VALUES(2, 1)", NULL, NULL, NULL) ==
              SQLITE_IOERR);
    exj_power_heal(p);
    cr_assert(sqlite3_exec(db, "INSERT INTO t VALUES(2, 1)", NULL, NULL, NULL) ==
              SQLITE_OK);
    cr_assert(is_whole(db));
    sqlite3_close(db);
    exj_power_free(p);
}

Test(power_vfs, what_was_saved_can_be_put_back)
{
    exj_power *p = exj_power_new("images", true, 1);
    sqlite3 *db = open_db("FULL");
    exj_power_image *image;
    unsigned char *bytes;
    size_t n = 0;

    sqlite3_close(db);
    image = exj_power_save(p);
    db = open_db("FULL");
    cr_assert(sqlite3_exec(db, "INSERT INTO t VALUES(1, 1)", NULL, NULL, NULL) ==
              SQLITE_OK);
    sqlite3_close(db);
    exj_power_load(p, image);
    exj_power_image_free(image);
    bytes = exj_power_get(p, PATH, &n);
    cr_assert(bytes && n > 512);
    db = open_db("FULL");
    cr_assert(number(db, "SELECT count(*) FROM t") == 0);
    sqlite3_close(db);
    bytes[0] ^= 1;
    exj_power_put(p, PATH, bytes, n);
    cr_assert(open_db("FULL") == NULL, "a file that is no database was opened");
    free(bytes);
    exj_power_free(p);
}
