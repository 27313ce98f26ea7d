/* Copies of the embedded store, and doctor: finds what is planted, mends what can be mended. */
#include "contract.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/sha256.h"
#include "core/store/care.h"
#include "core/store/sqlite/internal.h"

#define LARGE 100000

static char large_text[LARGE + 1];

static exj_slice large(void)
{
    memset(large_text, 'x', LARGE);
    large_text[0] = large_text[LARGE - 1] = '"';
    return (exj_slice){ large_text, LARGE };
}

/* Three rows: completed with a large result and a step, failed, and queued. */
static int64_t fill(struct fixture *f)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c[2];
    exj_outcome o = { .event = EXJ_EV_SUCCEED, .result = large() };
    exj_op op = { .kind = EXJ_OP_FINISH };

    insert(f, p, "a");
    insert(f, p, "b");
    expect_int(claim(f, p, "w", 1, 2, c), 2);
    expect_code(step_put(f, &c[0], "one", "1"), EXJ_OK);
    o.seq = c[0].seq;
    o.nonce = c[0].nonce;
    o.token = c[0].token;
    op.u.finish.items = &o;
    op.u.finish.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_code(finish(f, &c[1], EXJ_EV_FAIL_DEAD, 0, "no"), EXJ_OK);
    insert(f, p, "c");
    return p;
}

static bool keep_result(void *user, const exj_row_view *r)
{
    exj_buf_add_slice(user, r->result);
    return true;
}

static void expect_filled(struct fixture *f, int64_t p)
{
    exj_buf got = EXJ_BUF_INIT;

    expect_int(count(f, p, EXJ_COMPLETED), 1);
    expect_int(count(f, p, EXJ_FAILED), 1);
    expect_int(count(f, p, EXJ_QUEUED), 1);
    expect_code(f->s->v->row_get(f->s, EXJ_SLICE_LITERAL("m"), (exj_slice){ 0 },
                                 EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("a"), keep_result,
                                 &got, NULL),
                EXJ_OK);
    cr_assert(exj_slice_equal(exj_buf_slice(&got), large()));
    exj_buf_release(&got);
}

static void blob_path(const char *dir, char ret[400])
{
    char hash[65];

    exj_sha256_hex(large().p, LARGE, hash);
    snprintf(ret, 400, "%s/blobs/%.2s/%s", dir, hash, hash);
}

static void sql(struct fixture *f, const char *text)
{
    char path[300];
    sqlite3 *db = NULL;
    char *why = NULL;

    f->s->v->close(f->s);
    snprintf(path, sizeof(path), "%s/exellix-jobs.db", f->dir);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &why), SQLITE_OK, "%s: %s", text, why);
    sqlite3_close(db);
}

static void open_again(struct fixture *f)
{
    exj_err err = { 0 };

    cr_assert_eq(f->maker->open(f->dir, "again", &f->time, &f->s, &err), EXJ_OK, "%s", err.text);
}

/* ---- backup ----------------------------------------------------------------------------------- */

static void names(const struct fixture *f, char to[300], char back[300])
{
    snprintf(to, 300, "%s/copy", f->dir);
    snprintf(back, 300, "%s/back", f->dir);
}

CONTRACT(care, a_backup_of_a_store_at_work_is_restored_whole)
{
    struct fixture g = *f;
    int64_t p = fill(f);
    exj_backup_info info;
    char to[300], back[300];
    exj_err err = { 0 };

    names(f, to, back);
    cr_assert_eq(exj_sqlite_backup(f->dir, to, NULL, NULL, &info, &err), EXJ_OK, "%s", err.text);
    expect_int(info.rows, 3);
    expect_int(info.blobs, 1);
    expect_int(info.lost, 0);
    insert(f, p, "later");
    cr_assert_eq(exj_sqlite_restore_backup(to, back, NULL, NULL, &info, &err), EXJ_OK, "%s",
                 err.text);
    expect_int(info.rows, 3);
    snprintf(g.dir, sizeof(g.dir), "%s", back);
    open_again(&g);
    expect_filled(&g, p);
    cr_assert(insert(&g, p, "new"));
    g.s->v->close(g.s);
}

CONTRACT(care, a_backup_or_a_store_that_is_there_is_not_written_over)
{
    exj_backup_info info;
    char to[300], back[300];
    exj_err err = { 0 };

    fill(f);
    names(f, to, back);
    expect_code(exj_sqlite_backup(f->dir, to, NULL, NULL, &info, NULL), EXJ_OK);
    expect_code(exj_sqlite_backup(f->dir, to, NULL, NULL, &info, &err), EXJ_CONFLICT);
    cr_assert(strstr(err.text, to), "%s", err.text);
    exj_err_clear(&err);
    expect_code(exj_sqlite_restore_backup(to, f->dir, NULL, NULL, &info, &err), EXJ_BUSY);
    exj_err_clear(&err);
    expect_code(exj_sqlite_restore_backup(to, back, NULL, NULL, &info, NULL), EXJ_OK);
    expect_code(exj_sqlite_restore_backup(to, back, NULL, NULL, &info, &err), EXJ_CONFLICT);
    exj_err_clear(&err);
    expect_code(exj_sqlite_restore_backup(f->dir, back, NULL, NULL, &info, &err), EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, "backup.json"), "%s", err.text);
    expect_code(exj_sqlite_backup(back + 1, to, NULL, NULL, &info, NULL), EXJ_NOT_FOUND);
}

CONTRACT(care, a_damaged_backup_is_refused_and_leaves_no_store)
{
    exj_backup_info info;
    char to[300], back[300], path[400];
    exj_err err = { 0 };
    FILE *file;

    fill(f);
    names(f, to, back);
    expect_code(exj_sqlite_backup(f->dir, to, NULL, NULL, &info, NULL), EXJ_OK);
    snprintf(path, sizeof(path), "%s/exellix-jobs.db", to);
    file = fopen(path, "r+");
    cr_assert(file && fseek(file, 5000, SEEK_SET) == 0 && fputc('!', file) == '!');
    fclose(file);
    expect_code(exj_sqlite_restore_backup(to, back, NULL, NULL, &info, &err), EXJ_CORRUPT);
    cr_assert(strstr(err.text, path), "%s", err.text);
    snprintf(path, sizeof(path), "%s/exellix-jobs.db", back);
    cr_assert_eq(access(path, F_OK), -1);
}

CONTRACT(care, a_backup_without_one_of_its_values_is_refused)
{
    exj_backup_info info;
    char to[300], back[300], path[400], db[400];
    exj_err err = { 0 };

    fill(f);
    names(f, to, back);
    expect_code(exj_sqlite_backup(f->dir, to, NULL, NULL, &info, NULL), EXJ_OK);
    blob_path(to, path);
    cr_assert_eq(unlink(path), 0);
    expect_code(exj_sqlite_restore_backup(to, back, NULL, NULL, &info, &err), EXJ_CORRUPT);
    cr_assert(strstr(err.text, path), "%s", err.text);
    snprintf(db, sizeof(db), "%s/exellix-jobs.db", back);
    cr_assert_eq(access(db, F_OK), -1);
}

CONTRACT(care, what_the_store_had_lost_is_told_by_its_backup)
{
    exj_backup_info info;
    char to[300], back[300], path[400];

    fill(f);
    names(f, to, back);
    blob_path(f->dir, path);
    cr_assert_eq(unlink(path), 0);
    expect_code(exj_sqlite_backup(f->dir, to, NULL, NULL, &info, NULL), EXJ_OK);
    expect_int(info.lost, 1);
    cr_assert(strstr(info.first_lost.text, path), "%s", info.first_lost.text);
    expect_code(exj_sqlite_restore_backup(to, back, NULL, NULL, &info, NULL), EXJ_OK);
    expect_int(info.lost, 1);
}

static bool stop_at_once(void *user, const char *what, int64_t done, int64_t total)
{
    (void)user;
    (void)what;
    (void)done;
    (void)total;
    return false;
}

CONTRACT(care, a_backup_that_is_stopped_leaves_nothing)
{
    exj_backup_info info;
    char to[300], back[300];
    struct dirent *e;
    DIR *d;

    fill(f);
    names(f, to, back);
    expect_code(exj_sqlite_backup(f->dir, to, stop_at_once, NULL, &info, NULL), EXJ_CANCELLED);
    d = opendir(f->dir);
    while ((e = readdir(d)) != NULL)
        cr_assert(strncmp(e->d_name, "copy", 4) != 0, "%s", e->d_name);
    closedir(d);
}

/* ---- doctor ------------------------------------------------------------------------------------ */

struct told {
    char text[4000];
    size_t n;
};

static void keep_finding(void *user, const exj_finding *g)
{
    struct told *t = user;

    t->n += (size_t)snprintf(t->text + t->n, sizeof(t->text) - t->n, "%s: %s\n", g->part, g->text);
}

static exj_doctor_report doctor(struct fixture *f, bool fix, struct told *t)
{
    exj_doctor_options o = { .dir = f->dir, .fix = fix, .found = keep_finding, .user = t };
    exj_doctor_report r;
    exj_err err = { 0 };

    *t = (struct told){ .n = 0 };
    cr_assert_eq(exj_sqlite_doctor(&o, &r, &err), EXJ_OK, "%s", err.text);
    return r;
}

CONTRACT(care, doctor_finds_nothing_in_a_healthy_store_also_beside_a_worker)
{
    struct told t;
    exj_doctor_report r;
    exj_doctor_options fix = { .dir = f->dir, .fix = true };
    exj_err err = { 0 };

    fill(f);
    r = doctor(f, false, &t);
    cr_assert_eq(r.findings, 0, "%s", t.text);
    expect_int(r.rows, 3);
    expect_int(r.blobs, 1);
    cr_assert(r.entries >= 8);
    expect_code(exj_sqlite_doctor(&fix, &r, &err), EXJ_BUSY);
    f->s->v->close(f->s);
    r = doctor(f, true, &t);
    cr_assert_eq(r.findings, 0, "%s", t.text);
    open_again(f);
}

struct planted {
    const char *sql, *says;
    bool mends;
};

static const struct planted planted[] = {
    { "UPDATE exj_pools SET n3=7", "counters: 1 pools count their rows that are completed", true },
    { "DROP INDEX exj_hot_ready", "schema: index exj_hot_ready is missing", true },
    { "DROP TRIGGER exj_blobs_drop_results", "trigger exj_blobs_drop_results is missing", true },
    { "INSERT INTO exj_retried VALUES(99, 1)", "1 notes of retries of rows that are not there",
      true },
    { "INSERT INTO exj_journal(seq, step, fence, attempt, at, body) VALUES(99, 's', 1, 1, 1, '1')",
      "1 steps of rows that are not there", true },
    { "UPDATE exj_blobs SET refs=5", "blobs: 1 blobs are counted otherwise", true },
    { "DELETE FROM exj_blobs", "blobs: 1 blobs are counted otherwise", true },
    { "INSERT INTO exj_blobs VALUES('" "0123456789012345678901234567890123456789012345678901234567890123"
      "', 5, 1)", "counted although nothing points to them", true },
    { "UPDATE exj_results SET last=1 WHERE status=3", "it points to entry 1", true },
    { "DELETE FROM exj_hot WHERE status=0", "it is neither queued nor ended; its journal says it was "
      "queued", true },
    { "UPDATE exj_results SET status=7 WHERE status=4; UPDATE exj_pools SET n4=0, n7=1", "it is canceled, attempt 1", false },
    { "DELETE FROM exj_results WHERE status=4; UPDATE exj_pools SET n4=0", "bring it back from a backup", false },
    { "UPDATE exj_events SET body=x'ff' WHERE first=1", "is damaged from entry 1", false },
    { "INSERT INTO exj_ckeys(graph, key, cap, running) VALUES('g', 'k', 1, 3)",
      "concurrency keys count other rows", true },
    { "INSERT INTO exj_kv_graphs VALUES('g', 3, 3)", "graphs count other keys", true },
    { "INSERT INTO exj_unique VALUES('g', 'k', 99, 0, 1)", "unique keys are held for rows", true },
    { "UPDATE exellix_execution_matrix_rows SET input=replace(input, 'a', 'q')"
      " WHERE record_id='a'", "its input is not what was inserted", false },
    { "UPDATE exellix_execution_matrix_rows SET created_at=created_at+1", "inserted at another time",
      false },
    { "UPDATE exj_results SET error_text='nn' WHERE status=4", "its error is not what was written",
      false },
    { "UPDATE exj_results SET at=at+1 WHERE status=4", "it ended at another time", false },
    { "UPDATE exj_hot SET max_attempts=9", "how often it may be tried is not what", false },
};

Test(care, doctor_finds_what_is_planted_and_mends_what_can_be_mended)
{
    for (size_t i = 0; i < sizeof(planted) / sizeof(*planted); i++) {
        struct fixture f;
        struct told t;
        exj_doctor_report r;
        int64_t p;

        fixture_open(&f, sqlite_makers.list);
        p = fill(&f);
        sql(&f, planted[i].sql);
        r = doctor(&f, false, &t);
        cr_assert(strstr(t.text, planted[i].says), "%s: %s", planted[i].sql, t.text);
        expect_int(r.fixed, 0);
        cr_assert_eq(r.fixable > 0, planted[i].mends, "%s: %s", planted[i].sql, t.text);
        r = doctor(&f, true, &t);
        cr_assert(strstr(t.text, planted[i].says), "%s: %s", planted[i].sql, t.text);
        expect_int(r.fixed, r.fixable);
        r = doctor(&f, false, &t);
        cr_assert_eq(r.fixable, 0, "%s: %s", planted[i].sql, t.text);
        if (planted[i].mends) {
            cr_assert_eq(r.findings, 0, "%s: %s", planted[i].sql, t.text);
            open_again(&f);
            expect_filled(&f, p);
            f.s->v->close(f.s);
        }
        remove_dir(f.dir);
    }
}

CONTRACT(care, doctor_tells_of_blobs_that_are_missing_damaged_or_nobodys)
{
    char path[400], stray[400], hash[65];
    struct told t;
    exj_doctor_report r;
    FILE *file;

    fill(f);
    f->s->v->close(f->s);
    blob_path(f->dir, path);
    exj_sha256_hex("stray", 5, hash);
    snprintf(stray, sizeof(stray), "%s/blobs/%.2s", f->dir, hash);
    mkdir(stray, 0700);
    snprintf(stray, sizeof(stray), "%s/blobs/%.2s/%s", f->dir, hash, hash);
    file = fopen(stray, "w");
    cr_assert(file && fputs("stray", file) >= 0);
    fclose(file);
    r = doctor(f, false, &t);
    cr_assert(strstr(t.text, "1 files of 5 bytes that nothing points to"), "%s", t.text);
    expect_int(r.findings, 1);
    r = doctor(f, true, &t);
    expect_int(r.fixed, 1);
    cr_assert_eq(access(stray, F_OK), -1);
    cr_assert_eq(access(path, F_OK), 0);
    cr_assert_eq(truncate(path, 3), 0);
    r = doctor(f, false, &t);
    cr_assert(strstr(t.text, "row 1: blob") && strstr(t.text, "damaged"), "%s", t.text);
    cr_assert_eq(unlink(path), 0);
    r = doctor(f, true, &t);
    cr_assert(strstr(t.text, "row 1: blob") && strstr(t.text, "missing"), "%s", t.text);
    expect_int(r.fixable, 0);
    open_again(f);
}

CONTRACT(care, doctor_without_a_store_says_so)
{
    exj_doctor_options o = { .dir = "/nonexistent/folder" };
    exj_doctor_report r;
    exj_err err = { 0 };

    (void)f;
    expect_code(exj_sqlite_doctor(&o, &r, &err), EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, o.dir), "%s", err.text);
}
