/* What the end of an execution means for its row. */
#include <malloc.h>

#include "tests/support/fault.h"
#include "tests/unit/run/hand_engine.h"

TestSuite(outbox, .init = hand_make, .fini = hand_end);

/* ---- from the end of a call to an outcome ------------------------------------------------- */

static exj_outcome got;
static char got_text[4][256]; /* result, code, text, signal */

static void keep_outcome(exj_op *op)
{
    const exj_outcome *o = &op->u.finish.items[0];
    const exj_slice *texts[] = { &o->result, &o->error_code, &o->error_text, &o->signal };

    got = *o;
    for (int i = 0; i < 4; i++)
        snprintf(got_text[i], sizeof(got_text[i]), "%.*s", (int)texts[i]->n,
                 texts[i]->n ? texts[i]->p : "");
    op->u.finish.items[0].to = EXJ_COMPLETED;
    op->u.finish.items[0].verdict = EXJ_OK;
}

/* Is the plugin to blame? What was stored is in `got`. */
static bool end_row(const exj_call_end *end, uint32_t attempt)
{
    struct deck deck = { .label = (char[]){ "x" } };
    struct batch *b = hand_batch(1);
    struct outbox *box;
    bool blamed;

    b->rows[0].claim.attempt = attempt;
    b->rows[0].deck = attempt > 1 ? &deck : NULL; /* who ran it is known, or only configured */
    hand->answer = keep_outcome;
    pthread_mutex_lock(&hand->e.mu);
    box = exj_box_take_locked(&hand->e);
    pthread_mutex_unlock(&hand->e.mu);
    cr_assert(box);
    box->pool = &hand->pool;
    blamed = exj_box_add(box, &b->rows[0], end);
    exj_box_submit(box);
    cr_assert_eq(got.seq, 1);
    cr_assert_eq(got.nonce, 7);
    cr_assert_eq(hand->e.outstanding, 0);
    return blamed;
}

static exj_call_end said(exj_result result, const char *answer)
{
    return (exj_call_end){ .result = result, .emits = answer != NULL,
                           .answer = answer ? exj_slice_of(answer) : (exj_slice){ 0 } };
}

Test(outbox, an_answer_becomes_what_it_says)
{
    static const struct {
        const char *answer;
        exj_event event;
        exj_msec run_after; /* -1: some delay */
        const char *code, *text, *signal;
        bool blamed;
    } cases[] = {
        { "{\"status\":\"completed\"}", EXJ_EV_SUCCEED, 0, "", "", "", false },
        { "{\"status\":\"failed\"}", EXJ_EV_FAIL_RETRY, -1, "GraphFailed", "", "", true },
        { "{\"status\":\"failed\",\"error\":{\"code\":\"a\\u0041\",\"message\":\"b\\n\"}}",
          EXJ_EV_FAIL_RETRY, -1, "aA", "b\n", "", true },
        { "{\"status\":\"failed\",\"error\":{\"code\":\"Final\"}}", EXJ_EV_FAIL_DEAD, 0, "Final",
          "", "", true },
        { "{\"status\":\"blocked\"}", EXJ_EV_BLOCK, 0, "GraphFailed", "", "", false },
        { "{\"status\":\"blocked\",\"signal\":\"s\"}", EXJ_EV_BLOCK, 0, "GraphFailed", "", "s",
          false },
        { "{\"status\":\"suspended\",\"signal\":\"\\u0073\"}", EXJ_EV_SUSPEND, 0, "", "", "s",
          false },
        { "{\"status\":\"suspended\",\"signal\":\"s\",\"timeoutSeconds\":2}", EXJ_EV_SUSPEND,
          NOW_MS + 2000, "", "", "s", false },
        { "{\"status\":\"suspended\",\"pollAfter\":0}", EXJ_EV_SUSPEND, NOW_MS, "", "", "",
          false },
        { "{\"status\":\"suspended\",\"resumeAt\":7}", EXJ_EV_SUSPEND, 7, "", "", "", false },
        { "{\"status\":\"suspended\",\"resumeAt\":\"1970-01-01T00:00:00Z\"}", EXJ_EV_SUSPEND, 1,
          "", "", "", false },
        { "{\"status\":\"odd\"}", EXJ_EV_FAIL_RETRY, -1, "AnswerRefused",
          "plugin x: answer refused: answer: `status` must be \"completed\", \"failed\", "
          "\"blocked\" or \"suspended\", found \"odd\"", "", true },
    };
    char *final[] = { (char[]){ "Final" } };

    hand->spec.eff.final_errors = final;
    hand->spec.eff.final_errors_len = 1;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_call_end end = said(EXJ_R_OK, cases[i].answer);

        cr_expect_eq(end_row(&end, 1), cases[i].blamed, "%s", cases[i].answer);
        cr_expect_eq(got.event, cases[i].event, "%s", cases[i].answer);
        if (cases[i].run_after >= 0)
            cr_expect_eq(got.run_after, cases[i].run_after, "%s", cases[i].answer);
        else
            cr_expect_gt(got.run_after, NOW_MS, "%s", cases[i].answer);
        cr_expect_str_eq(got_text[1], cases[i].code);
        cr_expect_str_eq(got_text[2], cases[i].text);
        cr_expect_str_eq(got_text[3], cases[i].signal);
        cr_expect_not(got.crashed);
    }
}

Test(outbox, a_call_that_failed_is_named)
{
    static const struct {
        exj_result result;
        const char *code;
        bool again, blamed;
    } cases[] = {
        { EXJ_R_FAILED, "ExecutorFailed", false, true },
        { EXJ_R_RETRY, "ExecutorRetry", true, true },
        { EXJ_R_CANCELLED, "Cancelled", true, false },
        { EXJ_R_DEADLINE, "DeadlineExceeded", true, true },
        { EXJ_R_INPUT, "InputRefused", false, false },
        { EXJ_R_UNSUPPORTED, "Unsupported", false, true },
        { EXJ_R_INTERNAL, "ExecutorInternal", true, true },
    };
    exj_call_end end;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        end = said(cases[i].result, NULL);
        cr_expect_eq(end_row(&end, 1), cases[i].blamed, "%s", cases[i].code);
        cr_expect_eq(got.event, cases[i].again ? EXJ_EV_FAIL_RETRY : EXJ_EV_FAIL_DEAD);
        cr_expect_str_eq(got_text[1], cases[i].code);
        end.error_code = EXJ_SLICE_LITERAL("Own");
        end.error_text = EXJ_SLICE_LITERAL("words");
        end_row(&end, 1);
        cr_expect_str_eq(got_text[1], "Own");
        cr_expect_str_eq(got_text[2], "plugin x: words");
        end.error_text = EXJ_SLICE_LITERAL("plugin x does not answer");
        end_row(&end, 1);
        cr_expect_str_eq(got_text[2], "plugin x does not answer");
        end.error_text = EXJ_SLICE_LITERAL("plugin x: no");
        end_row(&end, 1);
        cr_expect_str_eq(got_text[2], "plugin x: no");
        end.error_text = EXJ_SLICE_LITERAL("plugin xy is another");
        end_row(&end, 1);
        cr_expect_str_eq(got_text[2], "plugin x: plugin xy is another");
    }
    end.error_text = EXJ_SLICE_LITERAL("quite other words");
    end_row(&end, 1);
    cr_expect_str_eq(got_text[2], "plugin x: quite other words");
    end.error_text = EXJ_SLICE_LITERAL("pl");
    end_row(&end, 1);
    cr_expect_str_eq(got_text[2], "plugin x: pl");
    end = said(EXJ_R_OK, NULL);
    end_row(&end, 3); /* the last attempt */
    cr_expect_eq(got.event, EXJ_EV_FAIL_DEAD);
    cr_expect_str_eq(got_text[2], "plugin x: returned without an answer");
    end = said(EXJ_R_OK, "{\"status\":\"completed\"}");
    end.emits = 2;
    end_row(&end, 1);
    cr_expect_str_eq(got_text[1], "NoAnswer");
    cr_expect_str_eq(got_text[2], "plugin x: answered more than once");
}

Test(outbox, a_row_that_crashes_its_host_is_set_aside_at_last)
{
    exj_call_end end = said(EXJ_R_CRASHED, NULL);

    hand->crashes = 1;
    end_row(&end, 1);
    cr_expect_eq(got.event, EXJ_EV_FAIL_RETRY);
    cr_expect_eq(got.run_after, NOW_MS);
    cr_expect(got.crashed);
    hand->crashes = 2;
    end_row(&end, 1);
    cr_expect_eq(got.event, EXJ_EV_BLOCK);
    cr_expect_eq(got.run_after, 0);
    cr_expect_str_eq(got_text[1], "Quarantined");
    hand->crashes = 0;
    end_row(&end, 3); /* no attempt is left */
    cr_expect_eq(got.event, EXJ_EV_BLOCK);
    /* How often is not known: as if it was the first time. */
    hand->crashes = 99;
    hand->count_rc = EXJ_IO;
    end_row(&end, 1);
    cr_expect_eq(got.event, EXJ_EV_FAIL_RETRY);
    cr_expect(strstr(hand->said, "crashes of row 1"), "%s", hand->said);
}

/* Without its text an outcome would lie: the row is tried again. */
Test(outbox, lack_of_memory_for_a_text_is_a_retry_and_nothing_else)
{
    static const char *const answers[] = {
        "{\"status\":\"completed\",\"outputsByNodeId\":{\"a\":1}}",
        "{\"status\":\"suspended\",\"signal\":\"a signal's long name\"}",
        "{\"status\":\"failed\",\"error\":{\"code\":\"some code\",\"message\":\""
        "so many words that they need more memory than the code did, whatever a buffer begins "
        "with: 100 bytes, 200 bytes, and some more to be on the safe side of it for all time\"}}",
    };
    unsigned retried = 0;

    for (size_t i = 0; i < 3; i++) {
        for (long n = 1;; n++) {
            exj_call_end end = said(EXJ_R_OK, answers[i]);
            struct batch *b = hand_batch(1);
            struct outbox *box = calloc(1, sizeof(*box));
            bool reached;

            box->engine = &hand->e;
            box->pool = &hand->pool;
            hand->answer = keep_outcome;
            exj_fault_arm(n);
            exj_box_add(box, &b->rows[0], &end);
            reached = exj_fault_disarm() >= n;
            cr_assert_eq(box->len, 1);
            exj_box_submit(box);
            if (!reached)
                break;
            if (got.event == EXJ_EV_FAIL_RETRY && got.run_after == NOW_MS + 1000) {
                cr_expect_str_eq(got_text[0], "");
                cr_expect_str_eq(got_text[1], "");
                retried++;
            }
        }
        cr_expect_eq(got.event, i == 0 ? EXJ_EV_SUCCEED
                                       : i == 1 ? EXJ_EV_SUSPEND : EXJ_EV_FAIL_RETRY);
    }
    cr_expect_geq(retried, 3);
}

/* ---- what the store said ------------------------------------------------------------------- */

static exj_status to[4];
static exj_code verdicts[4];

static void answer_each(exj_op *op)
{
    for (size_t i = 0; i < op->u.finish.len; i++) {
        op->u.finish.items[i].to = to[i];
        op->u.finish.items[i].verdict = verdicts[i];
    }
}

static void finish_four(const char *answer)
{
    exj_call_end end = said(EXJ_R_OK, answer);
    struct batch *b = hand_batch(4);
    struct outbox *box;

    hand->answer = answer_each;
    pthread_mutex_lock(&hand->e.mu);
    box = exj_box_take_locked(&hand->e);
    pthread_mutex_unlock(&hand->e.mu);
    cr_assert(box);
    box->pool = &hand->pool;
    for (int i = 0; i < 4; i++)
        exj_box_add(box, &b->rows[i], &end);
    exj_box_submit(box);
}

Test(outbox, what_the_store_made_of_rows_is_counted)
{
    exj_engine *e = &hand->e;

    to[0] = EXJ_COMPLETED;
    to[1] = EXJ_BLOCKED;
    to[2] = EXJ_COMPLETED;
    verdicts[2] = EXJ_FENCED;
    to[3] = EXJ_QUEUED; /* the signal was there before it */
    e->starved = true;
    hand->pool.maybe_work = false;
    finish_four("{\"status\":\"completed\"}");
    cr_expect_eq(e->counts.completed, 1);
    cr_expect_eq(e->counts.blocked, 1);
    cr_expect_eq(e->counts.fenced, 1);
    cr_expect_eq(e->counts.suspended, 1);
    cr_expect_eq(e->outstanding, 0);
    cr_expect_not(e->starved);
    cr_expect(hand->pool.maybe_work);
    cr_expect(strstr(hand->said, "row 3: outcome of token 1 refused"), "%s", hand->said);

    memset(verdicts, 0, sizeof(verdicts));
    to[0] = to[1] = EXJ_WAITING;
    to[2] = EXJ_FAILED;
    to[3] = EXJ_CANCELED;
    e->next_due = 0;
    finish_four("{\"status\":\"failed\"}");
    cr_expect_eq(e->counts.retried, 2);
    cr_expect_eq(e->counts.failed, 1);
    cr_expect_eq(e->counts.canceled, 1);
    cr_expect_gt(e->next_due, NOW_MS);
    e->next_due = 5; /* sooner than what these rows wait for */
    finish_four("{\"status\":\"failed\"}");
    cr_expect_eq(e->next_due, 5);
    to[0] = to[1] = to[2] = to[3] = EXJ_SUSPENDED;
    e->next_due = NOW_MS * 2;
    finish_four("{\"status\":\"suspended\",\"signal\":\"s\"}"); /* no time at all */
    cr_expect_eq(e->next_due, NOW_MS * 2);
    finish_four("{\"status\":\"suspended\",\"resumeAt\":99}");
    cr_expect_eq(e->next_due, 99);
    hand->pool.completed[EXJ_COMPLETED] = NULL; /* of no graph that is counted */
    to[0] = to[1] = to[2] = to[3] = EXJ_COMPLETED;
    hand->pool.ready = 100; /* others run and are ready: nobody is woken for these */
    hand->pool.uncommitted = e->outstanding = 1;
    finish_four("{\"status\":\"completed\"}");
    cr_expect_eq(e->outstanding, 1);
    e->outstanding = 0;
    finish_four("{\"status\":\"completed\"}");
    cr_expect_eq(e->outstanding, 0);
    hand->gate.parked = 1; /* a row waits for a place of its key */
    hand->pool.parked = true;
    hand->pool.maybe_work = false;
    finish_four("{\"status\":\"completed\"}");
    cr_expect(hand->pool.maybe_work);
}

Test(outbox, the_soonest_time_of_a_box_is_what_is_due_next)
{
    static const char *const answers[] = {
        "{\"status\":\"suspended\",\"resumeAt\":70}", "{\"status\":\"suspended\",\"resumeAt\":50}",
        "{\"status\":\"suspended\",\"resumeAt\":90}", "{\"status\":\"suspended\",\"signal\":\"s\"}",
    };
    struct batch *b = hand_batch(4);
    struct outbox *box;

    to[0] = to[1] = to[2] = to[3] = EXJ_SUSPENDED;
    hand->answer = answer_each;
    pthread_mutex_lock(&hand->e.mu);
    box = exj_box_take_locked(&hand->e);
    pthread_mutex_unlock(&hand->e.mu);
    cr_assert(box);
    box->pool = &hand->pool;
    for (int i = 0; i < 4; i++) {
        exj_call_end end = said(EXJ_R_OK, answers[i]);

        exj_box_add(box, &b->rows[i], &end);
    }
    exj_box_submit(box);
    cr_expect_eq(hand->e.next_due, 50);
    cr_expect_eq(hand->e.counts.suspended, 4);
}

Test(outbox, a_store_that_fails_counts_nothing_and_stops_claims)
{
    exj_engine *e = &hand->e;

    hand->rc = EXJ_IO;
    finish_four("{\"status\":\"completed\"}");
    cr_expect(e->failed);
    cr_expect_eq(e->counts.completed, 0);
    cr_expect_eq(e->outstanding, 0);
    cr_expect(strstr(hand->said, "the store refused outcomes"), "%s", hand->said);
}

static void retry_now(bool expected)
{
    pthread_mutex_lock(&hand->e.mu);
    hand->e.late_at = expected;
    cr_expect_eq(exj_box_retry_locked(&hand->e), expected);
    pthread_mutex_unlock(&hand->e.mu);
}

/* Nothing that was executed is forgotten, however often the store is asked. */
Test(outbox, what_a_shared_store_does_not_take_goes_to_it_again)
{
    exj_engine *e = &hand->e;
    const char *answer = "{\"status\":\"completed\",\"outputsByNodeId\":{}}";

    hand->v.shared = true;
    hand->rc = EXJ_UNKNOWN;
    finish_four(answer);
    cr_expect_not(e->failed);
    cr_expect_eq(e->outstanding, 4);
    cr_expect_eq(hand->pool.uncommitted, 4);
    cr_expect_eq(e->late_pause, 50000000);
    cr_expect_gt(e->late_at, exj_clock_mono_ns() - 1000000000);
    cr_expect(strstr(hand->said, "the store did not do outcomes"), "%s", hand->said);
    finish_four(answer); /* waits with the others */
    cr_expect_eq(e->outstanding, 8);
    cr_expect_eq(e->late_pause, 50000000);
    e->late_at = exj_clock_mono_ns() + (exj_nsec)3600 * 1000000000;
    pthread_mutex_lock(&e->mu);
    cr_expect_not(exj_box_retry_locked(e)); /* not yet */
    pthread_mutex_unlock(&e->mu);
    cr_expect_eq(hand->seen[EXJ_OP_FINISH], 2);
    retry_now(true);
    cr_expect_eq(hand->seen[EXJ_OP_FINISH], 4);
    cr_expect_eq(e->late_pause, 100000000);
    cr_expect_eq(e->outstanding, 8);
    hand->rc = EXJ_OK;
    hand->answer = keep_outcome;
    to[0] = to[1] = to[2] = to[3] = EXJ_COMPLETED;
    retry_now(true);
    cr_expect_str_eq(got_text[0], answer);
    cr_expect_eq(got.nonce, 7);
    cr_expect_eq(e->outstanding, 0);
    cr_expect_eq(hand->pool.uncommitted, 0);
    cr_expect_eq(e->counts.completed, 2); /* keep_outcome says it of the first of each box */
    cr_expect_eq(e->late_pause, 0);
    cr_expect_null(e->batches);
    retry_now(false);
}

Test(outbox, what_is_late_at_the_end_is_left_to_its_lease)
{
    exj_engine *e = &hand->e;

    hand->v.shared = true;
    hand->rc = EXJ_IO;
    exj_box_give_up(e); /* none is late */
    cr_expect_str_empty(hand->said);
    e->gives_up = false;
    finish_four("{\"status\":\"completed\"}");
    cr_expect_eq(e->outstanding, 4);
    exj_box_give_up(e);
    cr_expect_eq(e->outstanding, 0);
    cr_expect_eq(e->counts.completed, 0);
    cr_expect(strstr(hand->said, "the outcomes of 4 rows"), "%s", hand->said);
    finish_four("{\"status\":\"completed\"}"); /* was on its way */
    cr_expect_eq(e->outstanding, 0);
    cr_expect_null(e->late);
    cr_expect_not(e->failed);
}

/* ---- boxes ---------------------------------------------------------------------------------- */

Test(outbox, no_more_boxes_are_kept_than_are_of_use)
{
    exj_engine *e = &hand->e;
    struct outbox *boxes[3];

    exj_fault_arm(1);
    cr_expect_not(exj_box_spare(e));
    exj_fault_disarm();
    pthread_mutex_lock(&e->mu);
    exj_fault_arm(1);
    cr_expect_null(exj_box_take_locked(e));
    exj_fault_disarm();
    for (int i = 0; i < 3; i++)
        boxes[i] = exj_box_take_locked(e);
    exj_box_give_locked(e, NULL);
    for (int i = 0; i < 3; i++)
        exj_box_give_locked(e, boxes[i]);
    pthread_mutex_unlock(&e->mu);
    cr_expect_eq(e->outboxes_len, 2);
}

/* Where there are enough of them, a box that was answered is gone: nothing of it is read then. */
Test(outbox, a_box_that_is_not_kept_was_read_before)
{
    static const exj_call_end end = { .result = EXJ_R_OK, .emits = true,
                                      .answer = { "{\"status\":\"completed\"}", 22 } };
    exj_engine *e = &hand->e;
    struct outbox *boxes[3];

    mallopt(M_PERTURB, 0x55); /* what is freed is overwritten */
    hand->answer = keep_outcome;
    e->late_pause = 4711;
    pthread_mutex_lock(&e->mu);
    for (int i = 0; i < 3; i++)
        boxes[i] = exj_box_take_locked(e);
    exj_box_give_locked(e, boxes[0]);
    exj_box_give_locked(e, boxes[1]);
    pthread_mutex_unlock(&e->mu);
    boxes[2]->pool = &hand->pool;
    exj_box_add(boxes[2], &hand_batch(1)->rows[0], &end);
    exj_box_submit(boxes[2]);
    cr_expect_eq(e->outboxes_len, 2);
    cr_expect_eq(e->late_pause, 0, "the store took it");
    cr_expect_eq(e->outstanding, 0);
}
