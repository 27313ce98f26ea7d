/* What the store makes of rows and entries that somebody else changed in its file. */
#include "contract.h"

#include "core/store/sqlite/internal.h"

static bool count_event(void *user, const exj_event_view *v)
{
    ++*(int64_t *)user;
    return v->record_id.n > 0;
}

/* In the file itself; the writer is idle. */
static void poke(struct fixture *f, const char *sql)
{
    exj_sqlite *s = (exj_sqlite *)f->s;

    cr_assert_eq(sqlite3_exec(s->db, sql, NULL, NULL, NULL), SQLITE_OK, "%s: %s", sql,
                 sqlite3_errmsg(s->db));
}

CONTRACT(damaged, a_row_that_runs_without_a_nonce_is_nobodys)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;

    insert(f, p, "1");
    c = claim_one(f, p, "h", 3);
    poke(f, "UPDATE exj_hot SET nonce=0");
    c.nonce = 0;
    expect_code(release(f, &c), EXJ_FENCED);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "{}"), EXJ_FENCED);
    expect_int(count(f, p, EXJ_RUNNING), 1);
}

CONTRACT(damaged, a_row_that_runs_without_an_attempt_is_given_back)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;

    insert(f, p, "1");
    c = claim_one(f, p, "h", 3);
    poke(f, "UPDATE exj_hot SET attempts=0");
    expect_code(release(f, &c), EXJ_OK);
    expect_int(row(f, "m", "", "g", "1").v.attempts, 0);
}

/* Entries of what is due whose rows are something else: nobody waits behind them. */
CONTRACT(damaged, what_is_due_and_is_not_there_is_dropped)
{
    int64_t p = pool(f, "m", "", "g"), gone, running, promoted;
    char sql[400];
    exj_msec due;
    exj_claim c;

    gone = insert_as(f, p, "1", 0, 1, START + 1000);
    running = insert(f, p, "2");
    c = claim_one(f, p, "h", 3);
    expect_int(c.seq, running);
    promoted = insert_as(f, p, "3", 0, 1, START + 1000);
    snprintf(sql, sizeof(sql),
             "UPDATE exj_aside SET status=6 WHERE seq=%" PRId64 ";"
             "DELETE FROM exj_hot WHERE seq=%" PRId64 ";"
             "INSERT INTO exj_aside(seq, pool, status, at, ckey, rank)"
             " VALUES(%" PRId64 ", %" PRId64 ", 6, 1, 0, 0);"
             "UPDATE exj_hot SET status=0 WHERE seq=%" PRId64,
             gone, gone, running, p, promoted);
    poke(f, sql);
    advance(f, 2000);
    expect_int(promote(f, &due), 3);
    expect_int(due, 0);
    expect_int(promote(f, &due), 0);
    expect_int(row(f, "m", "", "g", "2").v.status, EXJ_RUNNING);
}

CONTRACT(damaged, a_journal_that_is_damaged_is_told_and_not_guessed)
{
    static const char *const damage[] = {
        "UPDATE exj_events SET body=x'ff'",
        "UPDATE exj_events SET body=x'00630000000000'", /* of no kind */
        "DELETE FROM exj_events WHERE first=3",
        "UPDATE exj_hot SET last=1 WHERE seq=2", /* an entry of row 1 */
        "UPDATE exj_events SET n=0",
        "DELETE FROM exj_events",
    };
    int64_t p = pool(f, "m", "", "g");
    exj_err err = { 0 };

    insert(f, p, "1");
    insert(f, p, "2");
    claim_one(f, p, "h", 3);
    claim_one(f, p, "h", 4);
    for (size_t i = 0; i < sizeof(damage) / sizeof(*damage); i++) {
        int64_t n = 0;

        poke(f, "CREATE TABLE kept AS SELECT * FROM exj_events;"
                "CREATE TABLE kept_hot AS SELECT seq, last FROM exj_hot");
        poke(f, damage[i]);
        expect_code(f->s->v->journal(f->s, i == 2 ? 1 : 2, 1000, count_event, &n, &err),
                    EXJ_CORRUPT);
        cr_expect(strstr(err.text, "run exellix-jobs doctor"), "%s", err.text);
        exj_err_clear(&err);
        if (i < 2)
            expect_code(f->s->v->events(f->s, 0, 1000, count_event, &n, NULL), EXJ_CORRUPT);
        poke(f, "DELETE FROM exj_events; INSERT INTO exj_events SELECT * FROM kept;"
                "UPDATE exj_hot SET last=(SELECT last FROM kept_hot k WHERE k.seq=exj_hot.seq);"
                "DROP TABLE kept; DROP TABLE kept_hot");
        expect_code(f->s->v->journal(f->s, 2, 1000, count_event, &n, &err), EXJ_OK);
    }
}
