/* Large values: whole whatever their size, whoever else has the same, and never an empty value
 * instead. */
#include "large.h"

#include <pthread.h>

CONTRACT(large, inputs_results_and_steps_come_back_whatever_their_size)
{
    int64_t p = pool(f, "m", "", "g"), nonce = 1;
    size_t limit = f->maker->large_bytes;
    int64_t seqs[3];
    int rows = 0;

    for (size_t n = limit - 1; n <= limit + 1; n++) {
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
        expect_code(f->s->v->step_each(f->s, c.seq, keep_body, &got, NULL), EXJ_OK);
        cr_assert(exj_slice_equal(exj_buf_slice(&got), step));
        expect_code(finish_large(f, &c, result), EXJ_OK);
        expect_texts(f, c.seq, input, result);
        seqs[rows++] = c.seq;
        exj_buf_release(&arena);
        exj_buf_release(&got);
    }
    fixture_reopen(f);
    rows = 0;
    for (size_t n = limit - 1; n <= limit + 1; n++)
        expect_texts(f, seqs[rows++], text_of('i', n), text_of('r', n));
}

static bool step_entry(void *user, const exj_event_view *v)
{
    if (v->entry.kind == EXJ_ENTRY_STEP)
        *(int64_t *)user = v->entry.value;
    return true;
}

CONTRACT(large, the_journal_tells_the_true_size_of_a_step)
{
    int64_t p = pool(f, "m", "", "g"), bytes = 0;
    exj_claim c;

    insert(f, p, "r");
    c = claim_one(f, p, "w", 1);
    expect_code(step_large(f, &c, "a", large_text(f, 's')), EXJ_OK);
    expect_code(f->s->v->journal(f->s, c.seq, 100, step_entry, &bytes, NULL), EXJ_OK);
    expect_int(bytes, large_of(f));
}

CONTRACT(large, the_same_value_stays_as_long_as_a_row_has_it)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = large_text(f, 'v');
    exj_claim c[2];

    insert(f, p, "a");
    insert(f, p, "b");
    expect_int(claim(f, p, "w", 1, 2, c), 2);
    expect_code(finish_large(f, &c[0], v), EXJ_OK);
    expect_code(finish_large(f, &c[1], v), EXJ_OK);
    expect_code(rerun(f, c[0].seq, NULL, NULL, NULL, NULL), EXJ_OK);
    expect_texts(f, c[0].seq, EXJ_SLICE_LITERAL("{\"id\":\"a\"}"), EXJ_SLICE_LITERAL(""));
    expect_texts(f, c[1].seq, EXJ_SLICE_LITERAL("{\"id\":\"b\"}"), v);
    fixture_reopen(f);
    expect_texts(f, c[1].seq, EXJ_SLICE_LITERAL("{\"id\":\"b\"}"), v);
}

CONTRACT(large, what_did_not_land_is_nowhere)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = large_text(f, 'v');
    exj_buf got = EXJ_BUF_INIT;
    exj_insert_item it;
    exj_claim c;

    insert(f, p, "a");
    expect_code(insert_large(f, p, "a", v, &it, NULL), EXJ_OK); /* it is there already */
    expect_code(it.verdict, EXJ_CONFLICT);
    c = claim_one(f, p, "w", 1);
    c.nonce++;
    expect_code(finish_large(f, &c, v), EXJ_FENCED);
    expect_code(step_large(f, &c, "s", v), EXJ_FENCED);
    expect_code(f->s->v->step_get(f->s, c.seq, EXJ_SLICE_LITERAL("s"), &got, NULL), EXJ_NOT_FOUND);
    c.nonce--;
    expect_code(step_large(f, &c, "s", v), EXJ_OK);
    c.nonce++;
    expect_code(finish_large(f, &c, v), EXJ_FENCED); /* and the step keeps its value */
    expect_texts(f, c.seq, EXJ_SLICE_LITERAL("{\"id\":\"a\"}"), EXJ_SLICE_LITERAL(""));
    expect_code(f->s->v->step_get(f->s, c.seq, EXJ_SLICE_LITERAL("s"), &got, NULL), EXJ_OK);
    cr_assert(exj_slice_equal(exj_buf_slice(&got), v));
    exj_buf_release(&got);
}

CONTRACT(large, a_rerun_keeps_the_steps_before_it_whole)
{
    int64_t p = pool(f, "m", "", "g");
    exj_buf got = EXJ_BUF_INIT;
    exj_claim c;

    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    expect_code(step_large(f, &c, "one", large_text(f, '1')), EXJ_OK);
    expect_code(step_large(f, &c, "two", large_text(f, '2')), EXJ_OK);
    expect_code(finish_large(f, &c, large_text(f, 'r')), EXJ_OK);
    expect_code(rerun(f, c.seq, "two", NULL, NULL, NULL), EXJ_OK);
    cr_assert_str_eq(steps_of(f, c.seq), "one");
    expect_code(f->s->v->step_get(f->s, c.seq, EXJ_SLICE_LITERAL("one"), &got, NULL), EXJ_OK);
    cr_assert(exj_slice_equal(exj_buf_slice(&got), large_text(f, '1')));
    c = claim_one(f, p, "w", 2);
    expect_code(step_large(f, &c, "two", large_text(f, '3')), EXJ_OK);
    exj_buf_reset(&got);
    expect_code(f->s->v->step_get(f->s, c.seq, EXJ_SLICE_LITERAL("two"), &got, NULL), EXJ_OK);
    cr_assert(exj_slice_equal(exj_buf_slice(&got), large_text(f, '3')));
    exj_buf_release(&got);
}

/* spec 2.3: Missing blob: an error that names it; never an empty result. */
CONTRACT(large, a_missing_value_is_an_error_that_names_blob_and_row)
{
    int64_t p = pool(f, "m", "", "g");
    exj_slice v = large_text(f, 'v'), input = large_text(f, 'i');
    char hash[80], row_name[40];
    exj_buf got = EXJ_BUF_INIT;
    exj_insert_item it;
    struct texts t = { 0 };
    exj_row_filter all = { .status = -1, .limit = 10 };
    exj_claim c;
    exj_loaded in;

    expect_code(insert_large(f, p, "a", input, &it, NULL), EXJ_OK);
    c = claim_one(f, p, "w", 1);
    expect_code(step_large(f, &c, "s", v), EXJ_OK);
    f->maker->spoil(f->dir, c.seq, v, false, hash);
    snprintf(row_name, sizeof(row_name), "row %" PRId64, c.seq);
    for (int way = 0; way < 2; way++) {
        exj_err err = { 0 };

        expect_code(way ? f->s->v->step_each(f->s, c.seq, keep_body, &got, &err)
                        : f->s->v->step_get(f->s, c.seq, EXJ_SLICE_LITERAL("s"), &got, &err),
                    EXJ_CORRUPT);
        cr_assert(strstr(err.text, hash) && strstr(err.text, "missing") &&
                      strstr(err.text, row_name),
                  "%s", err.text);
        expect_int(got.n, 0);
    }
    f->maker->spoil(f->dir, c.seq, input, true, hash);
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

CONTRACT(large, a_value_that_looks_like_a_reference_is_none)
{
    int64_t p = pool(f, "m", "", "g");
    char fake[100];
    exj_claim c;

    snprintf(fake, sizeof(fake), "@%064d:10", 7);
    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    expect_code(finish_large(f, &c, exj_slice_of(fake)), EXJ_OK);
    expect_texts(f, c.seq, EXJ_SLICE_LITERAL("{\"id\":\"a\"}"), exj_slice_of(fake));
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

CONTRACT(large, a_value_that_goes_and_comes_again_is_never_lost_to_who_reads)
{
    struct churn ch = { .f = f, .pool = pool(f, "m", "", "g"), .value = large_text(f, 'v') };
    int64_t nonce = 1;
    pthread_t reader;
    exj_claim c[2];

    insert(f, ch.pool, "a");
    insert(f, ch.pool, "b");
    cr_assert_eq(pthread_create(&reader, NULL, keep_looking, &ch), 0);
    for (unsigned i = 0; i < scaled(f, 30); i++) {
        expect_int(claim(f, ch.pool, "w", nonce++, 2, c), 2);
        expect_code(finish_large(f, &c[0], ch.value), EXJ_OK);
        expect_code(finish_large(f, &c[1], ch.value), EXJ_OK);
        expect_code(rerun(f, c[0].seq, NULL, NULL, NULL, NULL), EXJ_OK);
        expect_code(rerun(f, c[1].seq, NULL, NULL, NULL, NULL), EXJ_OK);
    }
    atomic_store(&ch.stop, true);
    pthread_join(reader, NULL);
    cr_assert_eq(ch.wrong[0], '\0', "%s", ch.wrong);
}

CONTRACT(large, a_large_payload_of_a_signal_stays_whole_inside_the_step_it_becomes)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "r");
    exj_claim c = claim_one(f, p, "w", 7);
    exj_outcome o = { .seq = c.seq, .nonce = c.nonce, .token = c.token,
                      .event = EXJ_EV_SUSPEND, .wait = EXJ_WAIT_SIGNAL,
                      .signal = EXJ_SLICE_LITERAL("go") };
    exj_op op = { .kind = EXJ_OP_FINISH };
    exj_slice body = large_text(f, 'p');
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
    expect_int((int64_t)got.n, large_of(f) + 12);
    cr_assert_eq(memcmp(got.p, "{\"payload\":\"", 12), 0);
    cr_assert_eq(memcmp(got.p + 11, body.p, body.n), 0);
    exj_buf_release(&got);
}
