/* tests/bench/limit.c - what SQLite alone gives for the work of one row: the bare
 * transactions of claim and outcome, one commit a batch, nothing of ours around them.
 *
 *   limit [DIR [ROWS]]
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256

static sqlite3 *db;

static void sql(const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fprintf(stderr, "limit: %s: %s\n", text, sqlite3_errmsg(db));
        exit(1);
    }
}

static sqlite3_stmt *prepare(const char *text)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK) {
        fprintf(stderr, "limit: %s: %s\n", text, sqlite3_errmsg(db));
        exit(1);
    }
    return st;
}

static void run(sqlite3_stmt *st)
{
    if (sqlite3_step(st) != SQLITE_DONE) {
        fprintf(stderr, "limit: %s\n", sqlite3_errmsg(db));
        exit(1);
    }
    sqlite3_reset(st);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int rows = argc > 2 ? atoi(argv[2]) : 200000;
    char dir[4096], path[4200], input[301], result[101];
    static const char *const ends[] = { "", "-wal", "-shm" };
    sqlite3_stmt *ready, *take, *leave, *end, *add, *hot;
    sqlite3_int64 seq[BATCH];
    double at;
    int done = 0;

    snprintf(dir, sizeof(dir), "%s/limit-XXXXXX", argc > 1 ? argv[1] : ".");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    snprintf(path, sizeof(path), "%s/limit.db", dir);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                                       SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return 1;
    sql("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=16000;"
        "PRAGMA cache_size=-12288; PRAGMA secure_delete=OFF;"
        "CREATE TABLE row_data(seq INTEGER PRIMARY KEY, input TEXT NOT NULL) STRICT;"
        "CREATE TABLE hot(seq INTEGER PRIMARY KEY, status INT, fence INT, nonce INT, until INT)"
        " STRICT; CREATE INDEX ready ON hot(seq) WHERE status=0;"
        "CREATE INDEX leases ON hot(until) WHERE status=2;"
        "CREATE TABLE results(seq INTEGER PRIMARY KEY, fence INT, nonce INT, at INT, body TEXT)"
        " STRICT");
    add = prepare("INSERT INTO row_data VALUES(?1, ?2)");
    hot = prepare("INSERT INTO hot VALUES(?1, 0, 0, 0, 0)");
    ready = prepare("SELECT seq FROM hot INDEXED BY ready WHERE status=0 ORDER BY seq LIMIT 256");
    take = prepare("UPDATE hot SET status=2, fence=fence+1, nonce=?2, until=?3 WHERE seq=?1");
    leave = prepare("DELETE FROM hot WHERE seq=?1 AND status=2 AND nonce=?2");
    end = prepare("INSERT INTO results VALUES(?1, 1, ?2, 1700000000000, ?3)");
    for (int i = 0; i < 300; i++)
        input[i] = 'x';
    for (int i = 0; i < 100; i++)
        result[i] = 'y';

    at = now();
    for (int i = 0; i < rows; i++) {
        if (i % 1000 == 0)
            sql("BEGIN IMMEDIATE");
        sqlite3_bind_int64(add, 1, i + 1);
        sqlite3_bind_text(add, 2, input, 300, SQLITE_STATIC);
        run(add);
        sqlite3_bind_int64(hot, 1, i + 1);
        run(hot);
        if (i % 1000 == 999 || i == rows - 1)
            sql("COMMIT");
    }
    printf("SQLite %s, synchronous=FULL\n", sqlite3_libversion());
    printf("insert, 1000 rows a commit:        %8.0f rows/s\n", rows / (now() - at));

    at = now();
    for (sqlite3_int64 nonce = 1, n = 0; done < rows || n; nonce++) {
        sql("BEGIN IMMEDIATE");
        for (int i = 0; i < n; i++) { /* the outcomes of the batch before */
            sqlite3_bind_int64(leave, 1, seq[i]);
            sqlite3_bind_int64(leave, 2, nonce - 1);
            run(leave);
            sqlite3_bind_int64(end, 1, seq[i]);
            sqlite3_bind_int64(end, 2, nonce - 1);
            sqlite3_bind_text(end, 3, result, 100, SQLITE_STATIC);
            run(end);
        }
        for (n = 0; sqlite3_step(ready) == SQLITE_ROW;)
            seq[n++] = sqlite3_column_int64(ready, 0);
        sqlite3_reset(ready);
        for (int i = 0; i < n; i++) {
            sqlite3_bind_int64(take, 1, seq[i]);
            sqlite3_bind_int64(take, 2, nonce);
            sqlite3_bind_int64(take, 3, 1700000060000 + nonce);
            run(take);
        }
        sql("COMMIT");
        done += (int)n;
    }
    printf("claim + outcome, %d rows a commit: %8.0f rows/s\n", BATCH, rows / (now() - at));

    sqlite3_finalize(add);
    sqlite3_finalize(hot);
    sqlite3_finalize(ready);
    sqlite3_finalize(take);
    sqlite3_finalize(leave);
    sqlite3_finalize(end);
    sqlite3_close(db);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/limit.db%s", dir, ends[i]);
        unlink(path);
    }
    rmdir(dir);
    return 0;
}
