/* What a row's quarantine needs of a store: how often did it fail for one reason, and which
 * rows were set aside for one. */
#include <stdio.h>

#include "contract.h"

static exj_code finish_as(struct fixture *f, const exj_claim *c, exj_event e, const char *code)
{
    exj_outcome o = { .seq = c->seq,
                      .nonce = c->nonce,
                      .token = c->token,
                      .event = e,
                      .error_code = exj_slice_of(code),
                      .error_text = EXJ_SLICE_LITERAL("SIGSEGV in acme.score 1.2.0") };
    exj_op op = { .kind = EXJ_OP_FINISH };

    op.u.finish.items = &o;
    op.u.finish.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    return o.verdict;
}

static uint32_t crashes(struct fixture *f, int64_t seq)
{
    uint32_t n = 4711;

    expect_code(f->s->v->failure_count(f->s, seq, EXJ_SLICE_LITERAL("PluginCrashed"), &n, NULL),
                EXJ_OK);
    return n;
}

/* Claim the only row that is ready and end its attempt so. */
static void attempt(struct fixture *f, int64_t p, int64_t nonce, exj_event e, const char *code)
{
    exj_claim c;

    promote(f, NULL);
    c = claim_one(f, p, "w", nonce);
    expect_code(finish_as(f, &c, e, code), EXJ_OK);
}

CONTRACT(quarantine, failures_are_counted_by_code_and_row)
{
    int64_t p = pool(f, "m", "", "g"), a = insert_as(f, p, "a", 0, 9, 0), b;

    expect_int(crashes(f, a), 0);
    expect_int(crashes(f, NO_ROW), 0);
    attempt(f, p, 1, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    attempt(f, p, 2, EXJ_EV_FAIL_RETRY, "Timeout");
    attempt(f, p, 3, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    expect_int(crashes(f, a), 2);
    attempt(f, p, 4, EXJ_EV_FAIL_DEAD, "PluginCrashed");
    expect_int(crashes(f, a), 3);
    b = insert(f, p, "b");
    expect_int(crashes(f, b), 0);
    fixture_reopen(f);
    expect_int(crashes(f, a), 3);
}

struct failures_seen {
    char codes[200]; /* "B2 A1 " */
    size_t most, n;
    int64_t token;
    exj_msec at;
    bool falling;
};

static bool see_failure(void *user, const exj_failure_view *v)
{
    struct failures_seen *s = user;

    s->falling = s->falling && (!s->n || v->token < s->token);
    s->token = v->token;
    s->at = v->at;
    snprintf(s->codes + strlen(s->codes), sizeof s->codes - strlen(s->codes), "%.*s%u ",
             (int)v->code.n, v->code.p, v->attempt);
    return ++s->n < s->most;
}

static struct failures_seen failures(struct fixture *f, int64_t seq, size_t limit, size_t most)
{
    struct failures_seen s = { .most = most, .falling = true };

    expect_code(f->s->v->failure_each(f->s, seq, limit, see_failure, &s, NULL), EXJ_OK);
    cr_assert(s.falling);
    return s;
}

CONTRACT(quarantine, failures_are_shown_newest_first_over_a_retry)
{
    int64_t p = pool(f, "m", "", "g"), a = insert_as(f, p, "a", 0, 9, 0);
    exj_op retry = { .kind = EXJ_OP_RETRY, .u.retry.seq = a };
    exj_err err = { 0 };
    size_t n = 0;

    cr_assert_str_eq(failures(f, a, 10, 10).codes, "");
    cr_assert_str_eq(failures(f, NO_ROW, 10, 10).codes, "");
    attempt(f, p, 1, EXJ_EV_FAIL_RETRY, "A");
    attempt(f, p, 2, EXJ_EV_FAIL_DEAD, "B");
    cr_assert_str_eq(failures(f, a, 10, 10).codes, "B2 A1 ");
    cr_assert_gt(failures(f, a, 10, 10).at, 0);
    expect_code(exj_store_do(f->s, &retry, NULL), EXJ_OK);
    attempt(f, p, 3, EXJ_EV_FAIL_DEAD, "C");
    cr_assert_str_eq(failures(f, a, 10, 10).codes, "C1 B2 A1 ");
    cr_assert_str_eq(failures(f, a, 2, 10).codes, "C1 B2 ");
    cr_assert_str_eq(failures(f, a, 10, 1).codes, "C1 ");
    for (size_t limit = 0; limit <= 1001; limit += 1001) {
        expect_code(f->s->v->failure_each(f->s, a, limit, see_failure, &n, &err), EXJ_INVALID);
        cr_assert(strstr(err.text, "1 to 1000"), "%s", err.text);
        exj_err_clear(&err);
    }
}

CONTRACT(quarantine, an_attempt_given_back_is_no_crash)
{
    int64_t p = pool(f, "m", "", "g"), a = insert_as(f, p, "a", 0, 9, 0);
    exj_claim c;

    attempt(f, p, 1, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    promote(f, NULL);
    c = claim_one(f, p, "w", 2);
    expect_code(release(f, &c), EXJ_OK);
    expect_int(crashes(f, a), 1);
    attempt(f, p, 3, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    expect_int(crashes(f, a), 2);
}

CONTRACT(quarantine, an_operators_retry_starts_the_count_anew)
{
    int64_t p = pool(f, "m", "", "g"), a = insert_as(f, p, "a", 0, 9, 0);

    attempt(f, p, 1, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    attempt(f, p, 2, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    attempt(f, p, 3, EXJ_EV_BLOCK, "Quarantined");
    expect_int(crashes(f, a), 2);
    expect_code(retry(f, a, NULL), EXJ_OK);
    expect_int(crashes(f, a), 0);
    attempt(f, p, 4, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    expect_int(crashes(f, a), 1);
    attempt(f, p, 5, EXJ_EV_BLOCK, "Quarantined");
    expect_code(retry(f, a, NULL), EXJ_OK);
    expect_int(crashes(f, a), 0);
    fixture_reopen(f);
    expect_int(crashes(f, a), 0);
}

CONTRACT(quarantine, a_retry_that_is_refused_changes_no_count)
{
    int64_t p = pool(f, "m", "", "g"), a = insert_as(f, p, "a", 0, 9, 0);

    attempt(f, p, 1, EXJ_EV_FAIL_RETRY, "PluginCrashed");
    expect_code(retry(f, a, NULL), EXJ_REFUSED);
    expect_int(crashes(f, a), 1);
}

struct seen {
    int64_t seq[16];
    size_t n;
};

static bool note(void *user, const exj_row_view *v)
{
    struct seen *s = user;

    expect_int(v->status, EXJ_BLOCKED);
    cr_assert(exj_slice_is(v->error_code, "Quarantined"));
    cr_assert(v->error_text.n && v->input.n);
    s->seq[s->n++] = v->seq;
    return true;
}

CONTRACT(quarantine, rows_set_aside_are_listed_by_their_code)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "n", "r", "h"), seq[8];
    exj_row_filter page = { .status = EXJ_BLOCKED, .limit = 10,
                            .error_code = EXJ_SLICE_LITERAL("Quarantined") };
    struct seen s = { .n = 0 };

    for (int i = 0; i < 8; i++) {
        char id[8];

        snprintf(id, sizeof(id), "r%d", i);
        seq[i] = insert(f, i < 6 ? p : q, id);
        attempt(f, i < 6 ? p : q, i + 1, i == 5 ? EXJ_EV_FAIL_DEAD : EXJ_EV_BLOCK,
                i % 3 == 0 ? "NeedsApproval" : "Quarantined");
    }
    /* 1, 2, 4 of p and 7 of q; 5 failed with the same code, 0, 3, 6 wait for somebody */
    expect_code(f->s->v->row_page(f->s, &page, note, &s, NULL), EXJ_OK);
    expect_int(s.n, 4);
    expect_int(s.seq[0], seq[1]);
    expect_int(s.seq[3], seq[7]);
    page.matrix = exj_slice_of("m");
    page.limit = 2;
    s.n = 0;
    expect_code(f->s->v->row_page(f->s, &page, note, &s, NULL), EXJ_OK);
    expect_int(s.n, 2);
    expect_int(s.seq[1], seq[2]);
    page.after_seq = seq[2];
    s.n = 0;
    expect_code(f->s->v->row_page(f->s, &page, note, &s, NULL), EXJ_OK);
    expect_int(s.n, 1);
    expect_int(s.seq[0], seq[4]);
    expect_code(retry(f, seq[4], NULL), EXJ_OK);
    s.n = 0;
    expect_code(f->s->v->row_page(f->s, &page, note, &s, NULL), EXJ_OK);
    expect_int(s.n, 0);
}

static bool count_one(void *user, const exj_row_view *v)
{
    (void)v;
    ++*(int *)user;
    return true;
}

CONTRACT(quarantine, a_code_filters_every_status_that_has_codes)
{
    int64_t p = pool(f, "m", "", "g");
    exj_row_filter page = { .status = EXJ_FAILED, .limit = 10,
                            .error_code = EXJ_SLICE_LITERAL("A") };
    exj_err err = { 0 };
    int n = 0;

    insert(f, p, "a");
    attempt(f, p, 1, EXJ_EV_FAIL_DEAD, "A");
    insert(f, p, "b");
    attempt(f, p, 2, EXJ_EV_FAIL_DEAD, "B");
    expect_code(f->s->v->row_page(f->s, &page, count_one, &n, NULL), EXJ_OK);
    expect_int(n, 1);
    page.error_code = (exj_slice){ 0 };
    n = 0;
    expect_code(f->s->v->row_page(f->s, &page, count_one, &n, NULL), EXJ_OK);
    expect_int(n, 2);
    page.error_code = EXJ_SLICE_LITERAL("A");
    for (page.status = -1; page.status <= EXJ_COMPLETED; page.status++)
        expect_code(f->s->v->row_page(f->s, &page, count_one, &n, &err), EXJ_INVALID);
    cr_assert(strstr(err.text, "blocked"), "%s", err.text);
}
