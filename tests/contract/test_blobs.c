/* Large values of the embedded store: out of the database, counted, collected. */
#include "large.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/sha256.h"
#include "core/store/sqlite/internal.h"

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

CONTRACT(blobs, only_what_is_above_the_limit_is_in_files)
{
    int64_t p = pool(f, "m", "", "g"), nonce = 1;
    size_t limit = f->maker->large_bytes;

    for (size_t n = limit - 1; n <= limit + 1; n++) {
        exj_insert_item it;
        exj_claim c;
        char id[20];

        snprintf(id, sizeof(id), "r%zu", n);
        expect_code(insert_large(f, p, id, text_of('i', n), &it, NULL), EXJ_OK);
        c = claim_one(f, p, "w", nonce++);
        expect_code(step_large(f, &c, "a", text_of('s', n)), EXJ_OK);
        expect_code(finish_large(f, &c, text_of('r', n)), EXJ_OK);
    }
    expect_int(files(f), 3); /* of the largest row alone */
    fixture_reopen(f);
    expect_int(files(f), 3);
}

CONTRACT(blobs, the_same_value_is_kept_once_and_as_long_as_anything_points_to_it)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = large_text(f, 'v');
    exj_claim c[2];

    insert(f, p, "a");
    insert(f, p, "b");
    expect_int(claim(f, p, "w", 1, 2, c), 2);
    expect_code(finish_large(f, &c[0], v), EXJ_OK);
    expect_code(finish_large(f, &c[1], v), EXJ_OK);
    expect_int(files(f), 1);
    expect_code(rerun(f, c[0].seq, NULL, NULL, NULL, NULL), EXJ_OK);
    expect_int(files(f), 1);
    expect_texts(f, c[1].seq, EXJ_SLICE_LITERAL("{\"id\":\"b\"}"), v);
    expect_code(rerun(f, c[1].seq, NULL, NULL, NULL, NULL), EXJ_OK);
    expect_int(files(f), 0);
}

CONTRACT(blobs, what_did_not_land_leaves_nothing_behind)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = large_text(f, 'v');
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
    expect_code(step_large(f, &c, "one", large_text(f, '1')), EXJ_OK);
    expect_code(step_large(f, &c, "two", large_text(f, '2')), EXJ_OK);
    expect_code(step_large(f, &c, "three", large_text(f, '3')), EXJ_OK);
    expect_code(finish_large(f, &c, large_text(f, 'r')), EXJ_OK);
    expect_int(files(f), 4);
    expect_code(rerun(f, c.seq, "two", NULL, NULL, NULL), EXJ_OK);
    expect_int(files(f), 1);
}

CONTRACT(blobs, a_snapshot_of_a_suspended_row_is_kept_and_counted)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = large_text(f, 'v');
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
    exj_slice v = large_text(f, 'v');

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

/* spec 2.3: Receipts (final results) and large values live in the blob store (a directory, or GridFS on MongoDB) above a size limit; the row holds the reference, hash and length. */
CONTRACT(blobs, the_row_holds_reference_hash_and_length)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = large_text(f, 'v');
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
    expect_int(st.st_size, large_of(f));
    f->s->v->close(f->s); /* nobody else may have the file open in the store's process */
    snprintf(db, sizeof(db), "%s/exellix-jobs.db", f->dir);
    snprintf(wanted, sizeof(wanted), "@%s:%zu", hash, large_of(f));
    cr_assert_eq(sqlite3_open(db, &look), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(look,
                                    "SELECT t.body, b.bytes, b.refs FROM exj_results t JOIN"
                                    " exj_blobs b ON b.hash=substr(t.body, 2, 64)",
                                    -1, &q, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    cr_assert_str_eq((const char *)sqlite3_column_text(q, 0), wanted);
    expect_int(sqlite3_column_int64(q, 1), large_of(f));
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
    expect_code(insert_large(f, p, "a", large_text(f, 'v'), &it, &err), EXJ_IO);
    cr_assert(strstr(err.text, path), "%s", err.text);
    expect_int(count(f, p, EXJ_QUEUED), 0);
    cr_assert_eq(unlink(path), 0);
    expect_code(insert_large(f, p, "a", large_text(f, 'v'), &it, NULL), EXJ_OK);
    expect_int(count(f, p, EXJ_QUEUED), 1);
}
