/* A row's document: read whoever wrote it, moved by the table, written as one guarded update. */
#include <criterion/criterion.h>

#include "core/store/mongo/row.h"
#include "core/store/mongo/value.h"

#define NOW 1700000000000

static const exj_slice none = { NULL, 0 };

static bson_t *from_text(const char *json)
{
    bson_error_t why;
    bson_t *d = bson_new_from_json((const uint8_t *)json, -1, &why);

    cr_assert_not_null(d, "%s", why.message);
    return d;
}

static bson_t *queued(void)
{
    bson_t *d = from_text(
        "{\"_id\": 7, \"seq\": 7, \"pool\": 2, \"rev\": 4, \"status\": \"queued\","
        " \"matrixCatalogId\": \"m\", \"matrixRunId\": null, \"graphId\": \"g\","
        " \"matrixRowId\": \"r1\", \"rank\": -5, \"maxAttempts\": 3, \"attempts\": 1,"
        " \"token\": 9, \"last\": 12, \"done\": {\"id\": 77, \"token\": 9,"
        " \"at\": {\"$date\": 1699999999000}}, \"theirs\": {\"x\": 1}}");

    BSON_APPEND_INT32(d, "b", exj_mrow_bucket(7));
    return d;
}

static exj_mrow load(bson_t *d)
{
    exj_err err = { 0 };
    exj_mrow r;

    cr_assert_eq(exj_mrow_load(d, &r, &err), EXJ_OK, "%s", err.text);
    bson_destroy(d);
    return r;
}

Test(mongo_row, buckets_are_sixteen_and_all_are_used)
{
    int seen[16] = { 0 };

    for (int64_t seq = 1; seq <= 1600; seq++) {
        int32_t b = exj_mrow_bucket(seq);

        cr_assert(b >= 0 && b < 16);
        seen[b]++;
    }
    for (int b = 0; b < 16; b++)
        cr_expect(seen[b] > 50, "bucket %d has %d of 1600", b, seen[b]);
}

Test(mongo_row, what_a_document_says_is_read)
{
    exj_mrow r = load(queued());

    cr_expect_eq(r.seq, 7);
    cr_expect_eq(r.pool, 2);
    cr_expect_eq(r.rev, 4);
    cr_expect_eq(r.tx, 0);
    cr_expect_eq(r.status, EXJ_QUEUED);
    cr_expect(exj_slice_is(r.graph, "g") && exj_slice_is(r.record_id, "r1") && !r.run.n);
    cr_expect_eq(r.rank, -5);
    cr_expect_eq(r.attempts, 1);
    cr_expect_eq(r.token, 9);
    cr_expect_eq(r.nonce, 0);
    cr_expect_eq(r.done_nonce, 77);
    cr_expect_eq(r.done_at, 1699999999000);
    cr_expect_eq(r.last, 12);
    exj_mrow_release(&r);
}

Test(mongo_row, numbers_and_instants_are_read_as_other_tools_write_them)
{
    bson_t *d = from_text(
        "{\"seq\": 7.0, \"pool\": {\"$numberInt\": \"2\"}, \"rev\": {\"$numberLong\": \"1\"},"
        " \"status\": \"waiting\", \"runAfter\": \"2023-11-14T22:13:20.500Z\","
        " \"createdAt\": 1700000000000, \"maxAttempts\": 3.0}");
    exj_mrow r;

    BSON_APPEND_DOUBLE(d, "b", exj_mrow_bucket(7));
    r = load(d);
    cr_expect_eq(r.seq, 7);
    cr_expect_eq(r.status, EXJ_WAITING);
    cr_expect_eq(r.run_after, 1700000000500);
    cr_expect_eq(r.created_at, 1700000000000);
    cr_expect_eq(r.max_attempts, 3);
    exj_mrow_release(&r);
}

Test(mongo_row, a_number_with_a_fraction_or_out_of_range_is_none)
{
    bson_t *d = from_text("{\"a\": 1.5, \"b\": 1e300, \"c\": -9223372036854775808.0,"
                          " \"d\": 9223372036854775808.0, \"e\": \"3\", \"f\": {\"g\": 4}}");

    cr_expect_eq(exj_bson_i64(d, "a", -1), -1);
    cr_expect_eq(exj_bson_i64(d, "b", -1), -1);
    cr_expect_eq(exj_bson_i64(d, "c", -1), INT64_MIN);
    cr_expect_eq(exj_bson_i64(d, "d", -1), -1);
    cr_expect_eq(exj_bson_i64(d, "e", -1), -1);
    cr_expect_eq(exj_bson_i64(d, "f.g", -1), 4);
    cr_expect_eq(exj_bson_i64(d, "f.h", -1), -1);
    bson_destroy(d);
}

Test(mongo_row, a_damaged_document_is_named)
{
    static const char *const bad[] = {
        "{\"seq\": 0, \"pool\": 2, \"rev\": 1, \"status\": \"queued\", \"matrixRowId\": \"r1\"}",
        "{\"seq\": 7, \"pool\": 0, \"rev\": 1, \"status\": \"queued\", \"matrixRowId\": \"r1\"}",
        "{\"seq\": 7, \"pool\": 2, \"rev\": 0, \"status\": \"queued\", \"matrixRowId\": \"r1\"}",
        "{\"seq\": 7, \"pool\": 2, \"rev\": 1, \"status\": \"eaten\", \"matrixRowId\": \"r1\"}",
        "{\"seq\": 7, \"pool\": 2, \"rev\": 1, \"matrixRowId\": \"r1\"}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        bson_t *d = from_text(bad[i]);
        exj_err err = { 0 };
        exj_mrow r;

        BSON_APPEND_INT32(d, "b", exj_mrow_bucket(7));
        cr_expect_eq(exj_mrow_load(d, &r, &err), EXJ_CORRUPT, "%s", bad[i]);
        cr_expect(strstr(err.text, "r1"), "%s", err.text);
        bson_destroy(d);
    }
}

Test(mongo_row, a_row_in_the_wrong_bucket_is_damaged)
{
    bson_t *d = from_text("{\"seq\": 7, \"pool\": 2, \"rev\": 1, \"status\": \"queued\"}");
    exj_err err = { 0 };
    exj_mrow r;

    BSON_APPEND_INT32(d, "b", exj_mrow_bucket(7) ^ 1);
    cr_expect_eq(exj_mrow_load(d, &r, &err), EXJ_CORRUPT);
    bson_destroy(d);
}

Test(mongo_row, a_claim_is_one_update_under_what_was_read)
{
    exj_mrow r = load(queued());
    bson_t guard = BSON_INITIALIZER, update = BSON_INITIALIZER;
    exj_err err = { 0 };

    r.token++;
    r.attempts++;
    cr_assert_eq(exj_mrow_move(&r, EXJ_EV_CLAIM, 3, none, none, NULL, NOW, &err), EXJ_OK);
    r.nonce = 4711;
    r.holder = EXJ_SLICE_LITERAL("w-1");
    r.claimed_at = NOW;
    r.until = NOW + 60000;
    exj_mrow_guard(&r, &guard);
    cr_expect_eq(exj_bson_i64(&guard, "seq", 0), 7);
    cr_expect_eq(exj_bson_i64(&guard, "rev", 0), 4);
    cr_expect(!exj_bson_has(&guard, "tx"));
    exj_mrow_update(&r, &update);
    cr_expect(exj_slice_is(exj_bson_text(&update, "$set.status"), "running"));
    cr_expect_eq(exj_bson_i64(&update, "$set.token", 0), 10);
    cr_expect_eq(exj_bson_i64(&update, "$set.attempts", 0), 2);
    cr_expect_eq(exj_bson_i64(&update, "$set.claim.id", 0), 4711);
    cr_expect(exj_slice_is(exj_bson_text(&update, "$set.claim.holder"), "w-1"));
    cr_expect_eq(exj_bson_msec(&update, "$set.claim.until"), NOW + 60000);
    cr_expect_eq(exj_bson_i64(&update, "$inc.rev", 0), 1);
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.k", -1), EXJ_ENTRY_CLAIMED);
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.t", 0), 10);
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.a", 0), 2);
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.v", 0), 3);
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.from", -1), EXJ_QUEUED);
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.to", -1), EXJ_RUNNING);
    cr_expect(!exj_bson_has(&update, "$set.theirs"), "what is not ours is not written");
    bson_destroy(&guard);
    bson_destroy(&update);
    exj_mrow_release(&r);
}

Test(mongo_row, what_ended_a_claim_is_remembered_and_the_claim_is_gone)
{
    bson_t *d = queued(), update = BSON_INITIALIZER;
    exj_err err = { 0 };
    exj_mrow r = load(d);

    r.status = EXJ_RUNNING;
    r.nonce = 4711;
    r.token = 10;
    r.cancel_asked = true;
    cr_assert_eq(exj_mrow_move(&r, EXJ_EV_SUCCEED, 0, none, none, NULL, NOW, &err), EXJ_OK);
    exj_mrow_end_claim(&r, NOW);
    exj_mrow_update(&r, &update);
    cr_expect(exj_slice_is(exj_bson_text(&update, "$set.status"), "completed"));
    cr_expect_eq(exj_bson_i64(&update, "$set.done.id", 0), 4711);
    cr_expect_eq(exj_bson_i64(&update, "$set.done.token", 0), 10);
    cr_expect_eq(exj_bson_msec(&update, "$set.done.at"), NOW);
    cr_expect(exj_bson_has(&update, "$unset.claim"));
    cr_expect(exj_bson_has(&update, "$unset.cancelAsked"));
    bson_destroy(&update);
    exj_mrow_release(&r);
}

Test(mongo_row, a_move_that_is_not_in_the_table_changes_nothing)
{
    exj_mrow r = load(queued());
    exj_err err = { 0 };

    cr_expect_eq(exj_mrow_move(&r, EXJ_EV_SUCCEED, 0, none, none, NULL, NOW, &err), EXJ_REFUSED);
    cr_expect_eq(r.status, EXJ_QUEUED);
    cr_expect_null(r.log);
    exj_mrow_release(&r);
}

Test(mongo_row, a_move_that_nobody_sees_is_in_the_log_for_the_counts)
{
    bson_t *d = queued(), update = BSON_INITIALIZER;
    exj_err err = { 0 };
    exj_mrow r = load(d);

    r.status = EXJ_WAITING;
    cr_assert_eq(exj_mrow_move(&r, EXJ_EV_PROMOTE, 0, none, none, NULL, NOW, &err), EXJ_OK);
    exj_mrow_update(&r, &update);
    cr_expect(!exj_bson_has(&update, "$push.log.$each.0.k"));
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.from", -1), EXJ_WAITING);
    cr_expect_eq(exj_bson_i64(&update, "$push.log.$each.0.to", -1), EXJ_QUEUED);
    bson_destroy(&update);
    exj_mrow_release(&r);
}

Test(mongo_row, a_locked_row_is_written_by_its_transaction_alone)
{
    bson_t *d = queued(), guard = BSON_INITIALIZER, update = BSON_INITIALIZER;
    exj_mrow r;

    BSON_APPEND_INT64(d, "tx", 99);
    r = load(d);
    cr_expect_eq(r.tx, 99);
    exj_mrow_guard(&r, &guard);
    cr_expect_eq(exj_bson_i64(&guard, "tx", 0), 99);
    exj_mrow_update(&r, &update);
    cr_expect(exj_bson_has(&update, "$unset.tx"));
    bson_destroy(&guard);
    bson_destroy(&update);
    exj_mrow_release(&r);
}

/* What a new row's document says is what is read from it again. */
Test(mongo_row, a_new_row_comes_back_as_it_was)
{
    exj_mrow r = { .seq = 41, .pool = 3, .rank = 2, .max_attempts = 5, .created_at = NOW,
                   .matrix = EXJ_SLICE_LITERAL("m"), .run = EXJ_SLICE_LITERAL("r"),
                   .graph = EXJ_SLICE_LITERAL("g"), .record_id = EXJ_SLICE_LITERAL("a"),
                   .unique_key = EXJ_SLICE_LITERAL("u"), .concurrency_key = EXJ_SLICE_LITERAL("c"),
                   .snapshot = EXJ_SLICE_LITERAL("s"), .status = EXJ_SUSPENDED,
                   .run_after = EXJ_MROW_NEVER, .waits = true, .wait = EXJ_WAIT_SIGNAL,
                   .signal = EXJ_SLICE_LITERAL("go"), .retried_token = 4, .token = 4 };
    bson_t *d = bson_new();
    exj_mrow b;

    exj_mrow_tell(&r, EXJ_ENTRY_QUEUED, 5, none, none, NULL, NOW);
    exj_mrow_document(&r, d);
    exj_mrow_release(&r);
    b = load(d);
    cr_expect_eq(b.seq, 41);
    cr_expect_eq(b.rev, 1);
    cr_expect_eq(b.bucket, exj_mrow_bucket(41));
    cr_expect(exj_slice_is(b.run, "r") && exj_slice_is(b.unique_key, "u") &&
              exj_slice_is(b.concurrency_key, "c") && exj_slice_is(b.snapshot, "s"));
    cr_expect_eq(b.status, EXJ_SUSPENDED);
    cr_expect_eq(b.run_after, EXJ_MROW_NEVER);
    cr_expect(b.waits && b.wait == EXJ_WAIT_SIGNAL && exj_slice_is(b.signal, "go"));
    cr_expect_eq(b.retried_token, 4);
    cr_expect_eq(b.log_len, 1);
    cr_expect_eq(b.max_attempts, 5);
    exj_mrow_release(&b);
}

Test(mongo_row, every_word_of_the_table_is_read_again)
{
    exj_status s;
    bool staged;

    for (int i = 0; i < EXJ_STATUS_COUNT; i++) {
        cr_expect_eq(exj_mrow_status(exj_slice_of(exj_status_name((exj_status)i)), &s, &staged),
                     EXJ_OK);
        cr_expect(s == (exj_status)i && !staged);
    }
    cr_expect_eq(exj_mrow_status(EXJ_SLICE_LITERAL("staged"), &s, &staged), EXJ_OK);
    cr_expect(staged);
    cr_expect_eq(exj_mrow_status(none, &s, &staged), EXJ_INVALID);
}
