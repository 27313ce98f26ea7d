/* Large values: out of the database, counted, collected, and never an empty value instead. */
#include "contract.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/sha256.h"
#include "core/store/sqlite/internal.h"

#define LARGE 300000

/* A JSON text of `n` bytes; the same letter gives the same text. */
static exj_slice text_of(char letter, size_t n)
{
    static char room[8][LARGE + 1];
    static unsigned turn;
    char *p = room[turn++ % 8];

    memset(p, letter, n);
    p[0] = p[n - 1] = '"';
    return (exj_slice){ p, n };
}

static void sha_path(const struct fixture *f, exj_slice value, char ret[400], char ret_hash[65])
{
    exj_sha256_hex(value.p, value.n, ret_hash);
    snprintf(ret, 400, "%s/blobs/%.2s/%s", f->dir, ret_hash, ret_hash);
}

static int count_in(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    char path[1024];
    int n = 0;

    while (d && (e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        n += e->d_type == DT_DIR ? count_in(path) : 1;
    }
    if (d)
        closedir(d);
    return n;
}

/* How many values are kept outside of the database. */
static int files(const struct fixture *f)
{
    char path[300];

    snprintf(path, sizeof(path), "%s/blobs", f->dir);
    return count_in(path);
}

static exj_code insert_large(struct fixture *f, int64_t p, const char *id, exj_slice input,
                             exj_insert_item *it, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_INSERT };

    *it = (exj_insert_item){ .record_id = exj_slice_of(id), .input = input };
    op.u.insert.pool = p;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = it;
    op.u.insert.len = 1;
    return exj_store_do(f->s, &op, err);
}

static exj_code finish_large(struct fixture *f, const exj_claim *c, exj_slice result)
{
    exj_outcome o = { .seq = c->seq, .nonce = c->nonce, .token = c->token,
                      .event = EXJ_EV_SUCCEED, .result = result };
    exj_op op = { .kind = EXJ_OP_FINISH };

    op.u.finish.items = &o;
    op.u.finish.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    cr_assert_eq(o.result.p, result.p, "the outcome is its owner's again");
    return o.verdict;
}

static exj_code step_large(struct fixture *f, const exj_claim *c, const char *key,
                           exj_slice body)
{
    exj_op op = { .kind = EXJ_OP_STEP_PUT };

    op.u.step.seq = c->seq;
    op.u.step.nonce = c->nonce;
    op.u.step.token = c->token;
    op.u.step.attempt = c->attempt;
    op.u.step.key = exj_slice_of(key);
    op.u.step.body = body;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    return op.u.step.verdict;
}

static exj_code rerun(struct fixture *f, int64_t seq, const char *step)
{
    exj_op op = { .kind = EXJ_OP_RERUN };

    op.u.rerun.seq = seq;
    op.u.rerun.step = exj_slice_of(step);
    return exj_store_do(f->s, &op, NULL);
}

struct texts {
    exj_buf input, result;
    int rows;
};

static bool keep_texts(void *user, const exj_row_view *r)
{
    struct texts *t = user;

    exj_buf_reset(&t->input);
    exj_buf_reset(&t->result);
    exj_buf_add_slice(&t->input, r->input);
    exj_buf_add_slice(&t->result, r->result);
    t->rows++;
    return true;
}

static void expect_row(struct fixture *f, int64_t seq, exj_slice input, exj_slice result)
{
    exj_row_filter all = { .status = -1, .after_seq = seq - 1, .limit = 1 };
    struct texts t = { 0 };
    exj_err err = { 0 };

    for (int way = 0; way < 2; way++) {
        expect_code(way ? f->s->v->row_page(f->s, &all, keep_texts, &t, &err)
                        : f->s->v->row_by_seq(f->s, seq, keep_texts, &t, &err),
                    EXJ_OK);
        cr_assert(exj_slice_equal(exj_buf_slice(&t.input), input));
        cr_assert(exj_slice_equal(exj_buf_slice(&t.result), result));
    }
    expect_int(t.rows, 2);
    exj_buf_release(&t.input);
    exj_buf_release(&t.result);
}

static bool keep_step(void *user, const exj_step_view *v)
{
    exj_buf_add_slice(user, v->body);
    return true;
}

CONTRACT(blobs, inputs_results_and_steps_come_back_whatever_their_size)
{
    int64_t p = pool(f, "m", "", "g"), nonce = 1;

    for (size_t n = 65535; n <= 65537; n++) {
        exj_slice input = text_of('i', n), result = text_of('r', n), step = text_of('s', n);
        exj_claim c;
        exj_insert_item it;
        exj_loaded in;
        exj_buf arena = EXJ_BUF_INIT, got = EXJ_BUF_INIT;
        char id[20];

        snprintf(id, sizeof(id), "r%zu", n);
        expect_code(insert_large(f, p, id, input, &it, NULL), EXJ_OK);
        cr_assert_eq(it.input.p, input.p, "the item is its owner's again");
        c = claim_one(f, p, "w", nonce++);
        expect_code(f->s->v->load(f->s, &c, 1, &in, &arena, NULL), EXJ_OK);
        cr_assert(exj_slice_is(in.record_id, id));
        cr_assert(exj_slice_equal(in.input, input));
        expect_code(step_large(f, &c, "a", step), EXJ_OK);
        expect_code(step_large(f, &c, "a", text_of('x', n)), EXJ_CONFLICT);
        expect_code(f->s->v->step_get(f->s, c.seq, EXJ_SLICE_LITERAL("a"), &got, NULL), EXJ_OK);
        cr_assert(exj_slice_equal(exj_buf_slice(&got), step));
        exj_buf_reset(&got);
        expect_code(f->s->v->step_each(f->s, c.seq, keep_step, &got, NULL), EXJ_OK);
        cr_assert(exj_slice_equal(exj_buf_slice(&got), step));
        expect_code(finish_large(f, &c, result), EXJ_OK);
        expect_row(f, c.seq, input, result);
        exj_buf_release(&arena);
        exj_buf_release(&got);
    }
    expect_int(files(f), 3); /* of the largest row alone */
    fixture_reopen(f);
    expect_int(files(f), 3);
}

static bool step_entry(void *user, const exj_event_view *v)
{
    if (v->entry.kind == EXJ_ENTRY_STEP)
        *(int64_t *)user = v->entry.value;
    return true;
}

CONTRACT(blobs, the_journal_tells_the_true_size_of_a_step)
{
    int64_t p = pool(f, "m", "", "g"), bytes = 0;
    exj_claim c;

    insert(f, p, "r");
    c = claim_one(f, p, "w", 1);
    expect_code(step_large(f, &c, "a", text_of('s', LARGE)), EXJ_OK);
    expect_code(f->s->v->journal(f->s, c.seq, 100, step_entry, &bytes, NULL), EXJ_OK);
    expect_int(bytes, LARGE);
}

CONTRACT(blobs, the_same_value_is_kept_once_and_as_long_as_anything_points_to_it)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = text_of('v', LARGE);
    exj_claim c[2];

    insert(f, p, "a");
    insert(f, p, "b");
    expect_int(claim(f, p, "w", 1, 2, c), 2);
    expect_code(finish_large(f, &c[0], v), EXJ_OK);
    expect_code(finish_large(f, &c[1], v), EXJ_OK);
    expect_int(files(f), 1);
    expect_code(rerun(f, c[0].seq, ""), EXJ_OK);
    expect_int(files(f), 1);
    expect_row(f, c[1].seq, EXJ_SLICE_LITERAL("{\"id\":\"b\"}"), v);
    expect_code(rerun(f, c[1].seq, ""), EXJ_OK);
    expect_int(files(f), 0);
}

CONTRACT(blobs, what_did_not_land_leaves_nothing_behind)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = text_of('v', LARGE);
    exj_insert_item it;
    exj_claim c;

    insert(f, p, "a");
    expect_code(insert_large(f, p, "a", v, &it, NULL), EXJ_OK); /* it is there already */
    expect_code(it.verdict, EXJ_CONFLICT);
    expect_int(files(f), 0);
    c = claim_one(f, p, "w", 1);
    c.nonce++;
    expect_code(finish_large(f, &c, v), EXJ_FENCED);
    expect_code(step_large(f, &c, "s", v), EXJ_FENCED);
    expect_int(files(f), 0);
    c.nonce--;
    expect_code(step_large(f, &c, "s", v), EXJ_OK);
    c.nonce++;
    expect_code(finish_large(f, &c, v), EXJ_FENCED); /* and the step keeps its value */
    expect_int(files(f), 1);
}

CONTRACT(blobs, steps_that_a_rerun_forgets_take_their_values_with_them)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;

    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    expect_code(step_large(f, &c, "one", text_of('1', LARGE)), EXJ_OK);
    expect_code(step_large(f, &c, "two", text_of('2', LARGE)), EXJ_OK);
    expect_code(step_large(f, &c, "three", text_of('3', LARGE)), EXJ_OK);
    expect_code(finish_large(f, &c, text_of('r', LARGE)), EXJ_OK);
    expect_int(files(f), 4);
    expect_code(rerun(f, c.seq, "two"), EXJ_OK);
    expect_int(files(f), 1);
}

CONTRACT(blobs, a_snapshot_of_a_suspended_row_is_kept_and_counted)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = text_of('v', LARGE);
    exj_outcome o = { .event = EXJ_EV_SUSPEND, .run_after = START + 1000, .result = v };
    exj_op op = { .kind = EXJ_OP_FINISH };
    exj_claim c;

    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    o.seq = c.seq;
    o.nonce = c.nonce;
    o.token = c.token;
    op.u.finish.items = &o;
    op.u.finish.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_code(o.verdict, EXJ_OK);
    expect_int(files(f), 1);
}

CONTRACT(blobs, the_value_of_a_blocked_row_goes_when_the_row_goes_on_or_is_canceled)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = text_of('v', LARGE);

    for (int way = 0; way < 2; way++) {
        exj_outcome o = { .event = EXJ_EV_BLOCK, .result = v };
        exj_op op = { .kind = EXJ_OP_FINISH };
        exj_claim c;

        insert(f, p, way ? "a" : "b");
        c = claim_one(f, p, "w", 1 + way);
        o.seq = c.seq;
        o.nonce = c.nonce;
        o.token = c.token;
        op.u.finish.items = &o;
        op.u.finish.len = 1;
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
        expect_code(o.verdict, EXJ_OK);
        expect_int(files(f), 1);
        op = (exj_op){ .kind = way ? EXJ_OP_CANCEL : EXJ_OP_SIGNAL };
        if (way) {
            op.u.cancel.seq = c.seq;
        } else {
            op.u.signal.seq = c.seq;
            op.u.signal.name = EXJ_SLICE_LITERAL("go");
            op.u.signal.body = EXJ_SLICE_LITERAL("1");
        }
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
        expect_int(files(f), 0);
        if (!way) { /* out of the way of the second */
            c = claim_one(f, p, "w", 9);
            expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "{}"), EXJ_OK);
        }
    }
}

/* spec 2.3: Missing blob: an error that names it; never an empty result. */
CONTRACT(blobs, a_missing_value_is_an_error_that_names_blob_and_row)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = text_of('v', LARGE), input = text_of('i', LARGE);
    char path[400], hash[65], row_name[40];
    exj_buf got = EXJ_BUF_INIT;
    exj_insert_item it;
    struct texts t = { 0 };
    exj_row_filter all = { .status = -1, .limit = 10 };
    exj_claim c;
    exj_loaded in;

    expect_code(insert_large(f, p, "a", input, &it, NULL), EXJ_OK);
    c = claim_one(f, p, "w", 1);
    expect_code(step_large(f, &c, "s", v), EXJ_OK);
    sha_path(f, v, path, hash);
    cr_assert_eq(unlink(path), 0);
    snprintf(row_name, sizeof(row_name), "row %" PRId64, c.seq);
    for (int way = 0; way < 2; way++) {
        exj_err err = { 0 };

        expect_code(way ? f->s->v->step_each(f->s, c.seq, keep_step, &got, &err)
                        : f->s->v->step_get(f->s, c.seq, EXJ_SLICE_LITERAL("s"), &got, &err),
                    EXJ_CORRUPT);
        cr_assert(strstr(err.text, hash) && strstr(err.text, "missing") &&
                      strstr(err.text, row_name),
                  "%s", err.text);
        expect_int(got.n, 0);
    }
    sha_path(f, input, path, hash);
    cr_assert_eq(truncate(path, 5), 0);
    for (int way = 0; way < 3; way++) {
        exj_err err = { 0 };

        expect_code(way == 0   ? f->s->v->load(f->s, &c, 1, &in, &got, &err)
                    : way == 1 ? f->s->v->row_by_seq(f->s, c.seq, keep_texts, &t, &err)
                               : f->s->v->row_page(f->s, &all, keep_texts, &t, &err),
                    EXJ_CORRUPT);
        cr_assert(strstr(err.text, hash) && strstr(err.text, "damaged") &&
                      strstr(err.text, row_name),
                  "%s", err.text);
    }
    expect_int(t.rows, 0);
    exj_buf_release(&got);
}

/* spec 2.3: Receipts (final results) and large values live in the blob store (a directory, or GridFS on MongoDB) above a size limit; the row holds the reference, hash and length. */
CONTRACT(blobs, the_row_holds_reference_hash_and_length)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = text_of('v', LARGE);
    char path[400], hash[65], wanted[100], db[300];
    struct stat st;
    sqlite3 *look = NULL;
    sqlite3_stmt *q = NULL;
    exj_claim c;

    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    expect_code(finish_large(f, &c, v), EXJ_OK);
    sha_path(f, v, path, hash);
    cr_assert_eq(stat(path, &st), 0);
    expect_int(st.st_size, LARGE);
    f->s->v->close(f->s); /* nobody else may have the file open in the store's process */
    snprintf(db, sizeof(db), "%s/exellix-jobs.db", f->dir);
    snprintf(wanted, sizeof(wanted), "@%s:%d", hash, LARGE);
    cr_assert_eq(sqlite3_open(db, &look), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(look,
                                    "SELECT t.body, b.bytes, b.refs FROM exj_results t JOIN"
                                    " exj_blobs b ON b.hash=substr(t.body, 2, 64)",
                                    -1, &q, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    cr_assert_str_eq((const char *)sqlite3_column_text(q, 0), wanted);
    expect_int(sqlite3_column_int64(q, 1), LARGE);
    expect_int(sqlite3_column_int64(q, 2), 1);
    sqlite3_finalize(q);
    sqlite3_close(look);
    expect_code(f->maker->open(f->dir, "again", &f->time, &f->s, NULL), EXJ_OK);
}

CONTRACT(blobs, a_directory_that_cannot_be_written_refuses_the_value_and_applies_nothing)
{
    int64_t p = pool(f, "m", "", "g");
    exj_insert_item it;
    exj_err err = { 0 };
    char path[300];
    FILE *file;

    snprintf(path, sizeof(path), "%s/blobs", f->dir);
    file = fopen(path, "w"); /* a file in its place: root would not mind permissions */
    cr_assert(file);
    fclose(file);
    expect_code(insert_large(f, p, "a", text_of('v', LARGE), &it, &err), EXJ_IO);
    cr_assert(strstr(err.text, path), "%s", err.text);
    expect_int(count(f, p, EXJ_QUEUED), 0);
    cr_assert_eq(unlink(path), 0);
    expect_code(insert_large(f, p, "a", text_of('v', LARGE), &it, NULL), EXJ_OK);
    expect_int(count(f, p, EXJ_QUEUED), 1);
}

CONTRACT(blobs, a_value_that_looks_like_a_reference_is_none)
{
    int64_t p = pool(f, "m", "", "g");
    char fake[100];
    exj_claim c;

    snprintf(fake, sizeof(fake), "@%064d:10", 7);
    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    expect_code(finish_large(f, &c, exj_slice_of(fake)), EXJ_OK);
    expect_row(f, c.seq, EXJ_SLICE_LITERAL("{\"id\":\"a\"}"), exj_slice_of(fake));
}

/* ---- all at once ---------------------------------------------------------------------------- */

struct churn {
    struct fixture *f;
    int64_t pool;
    exj_slice value;
    atomic_bool stop;
    char wrong[300];
};

static bool look_at_result(void *user, const exj_row_view *r)
{
    struct churn *ch = user;

    if (r->result.n && !exj_slice_equal(r->result, ch->value))
        snprintf(ch->wrong, sizeof(ch->wrong), "another result of %zu bytes", r->result.n);
    return true;
}

static void *keep_looking(void *user)
{
    struct churn *ch = user;

    while (!atomic_load(&ch->stop)) {
        exj_row_filter all = { .status = -1, .limit = 100 };
        exj_err err = { 0 };

        if (ch->f->s->v->row_page(ch->f->s, &all, look_at_result, ch, &err) != EXJ_OK)
            snprintf(ch->wrong, sizeof(ch->wrong), "%s", err.text);
    }
    return NULL;
}

CONTRACT(blobs, a_value_that_goes_and_comes_again_is_never_lost_to_who_reads)
{
    struct churn ch = { .f = f, .pool = pool(f, "m", "", "g"), .value = text_of('v', LARGE) };
    int64_t nonce = 1;
    pthread_t reader;
    exj_claim c[2];

    insert(f, ch.pool, "a");
    insert(f, ch.pool, "b");
    cr_assert_eq(pthread_create(&reader, NULL, keep_looking, &ch), 0);
    for (int i = 0; i < 30; i++) {
        expect_int(claim(f, ch.pool, "w", nonce++, 2, c), 2);
        expect_code(finish_large(f, &c[0], ch.value), EXJ_OK);
        expect_code(finish_large(f, &c[1], ch.value), EXJ_OK);
        expect_code(rerun(f, c[0].seq, ""), EXJ_OK);
        expect_code(rerun(f, c[1].seq, ""), EXJ_OK);
    }
    atomic_store(&ch.stop, true);
    pthread_join(reader, NULL);
    cr_assert_eq(ch.wrong[0], '\0', "%s", ch.wrong);
    expect_int(files(f), 0);
}

CONTRACT(blobs, a_large_payload_of_a_signal_stays_whole_inside_the_step_it_becomes)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "r");
    exj_claim c = claim_one(f, p, "w", 7);
    exj_outcome o = { .seq = c.seq, .nonce = c.nonce, .token = c.token,
                      .event = EXJ_EV_SUSPEND, .wait = EXJ_WAIT_SIGNAL,
                      .signal = EXJ_SLICE_LITERAL("go") };
    exj_op op = { .kind = EXJ_OP_FINISH };
    exj_slice body = text_of('p', LARGE);
    exj_buf got = EXJ_BUF_INIT;

    op.u.finish.items = &o;
    op.u.finish.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    op = (exj_op){ .kind = EXJ_OP_SIGNAL };
    op.u.signal.seq = seq;
    op.u.signal.name = EXJ_SLICE_LITERAL("go");
    op.u.signal.body = body;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    cr_assert(op.u.signal.ret_delivered);
    expect_code(f->s->v->step_get(f->s, seq, EXJ_SLICE_LITERAL("signal:go"), &got, NULL), EXJ_OK);
    expect_int((int64_t)got.n, LARGE + 12);
    cr_assert_eq(memcmp(got.p, "{\"payload\":\"", 12), 0);
    cr_assert_eq(memcmp(got.p + 11, body.p, body.n), 0);
    exj_buf_release(&got);
}
