/* Lanes host and sandbox: guests in other processes, with all the ways in which those end. */
#include <sys/resource.h>

#include "tests/plugins/house.h"

/* ---- the happy path -------------------------------------------------------------------------- */

Test(remote, call_crosses_with_all_its_arguments)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o = ask(h, "args");
    exj_remote_view v = look(h);

    is_ok(&o, "1 1 j-1 r-1 0");
    o = ask_until(h, "args", (uint64_t)exj_clock_mono_ns() + 60000000000u);
    is_ok(&o, "1 1 j-1 r-1 1");
    cr_assert_gt(v.pid, 0);
    cr_assert_neq(v.pid, getpid());
    cr_assert_eq(v.starts, 1);
    cr_assert_eq(v.open, 0);
    o = ask(h, "error");
    cr_assert_eq(o.result, EXJ_R_FAILED);
    cr_assert_str_eq(o.code, "NoGood");
    cr_assert_str_eq(o.text, "it is bad");
    cr_assert_eq(ask(h, "what").result, EXJ_R_UNSUPPORTED);
    house_close(h);
}

Test(remote, call_without_done_is_waited_for)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    exj_call_slot *s = slot_of(1024);
    exj_args a = args_of("{}", "echo this");
    exj_call_ports none = { 0 };
    exj_call_end end = { 0 };

    for (unsigned k = 0; k < 100; k++) {
        cr_assert(exj_call_run(h->i, s, &a, &none, &end, NULL));
        cr_assert_eq(end.result, EXJ_R_OK);
        cr_assert(exj_slice_is(end.answer, "echo this"));
    }
    exj_call_slot_free(s);
    house_close(h);
}

Test(remote, thousand_pipelined_calls_are_answered_in_their_order)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(1000);
    char texts[1000][16];

    for (unsigned k = 0; k < b->n; k++) {
        snprintf(texts[k], sizeof texts[k], "echo %u", k);
        says_runtime(&b->all[k], texts[k]);
    }
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++) {
        is_ok(&b->all[k], texts[k]);
        cr_assert_eq(b->all[k].ends, 1);
        cr_assert_eq(b->all[k].order, k);
    }
    cr_assert_eq(look(h).starts, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, crash_ends_exactly_the_call_that_was_in_it)
{
    struct house *h = house_open(EXJ_LANE_HOST);

    for (unsigned which = 0; which < 20; which += 19 / 2) {
        struct batch *b = batch_new(20);

        says_runtime(&b->all[which], "segv");
        batch_run(h, b);
        for (unsigned k = 0; k < b->n; k++) {
            struct one *o = &b->all[k];

            cr_assert_eq(o->ends, 1);
            if (k != which) {
                is_ok(o, "echo");
                continue;
            }
            cr_assert_eq(o->result, EXJ_R_CRASHED);
            cr_assert_str_eq(o->code, "PluginCrashed");
            says(o->text, "plugin test.guest 9.8.7 crashed with SIGSEGV in execute (sha256 ");
        }
        batch_free(b);
    }
    cr_assert_eq(h->crashes, 3);
    cr_assert_str_eq(h->signal, "SIGSEGV");
    says(h->trace, "guest-1-"); /* the file whose frame it is */
    cr_assert_eq(look(h).crashes, 3);
    cr_assert_eq(look(h).starts, 4);
    house_close(h);
}

Test(remote, every_way_to_die_is_named_and_the_next_call_is_unharmed)
{
    static const struct {
        const char *how, *says;
    } ways[] = { { "abort", "crashed with SIGABRT" },
                 { "exit", "ended with exit status 3" },
                 { "stack", "crashed with SIGSEGV" },
                 { "kill", "was killed by SIGKILL (out of memory?)" },
                 { "close", "closed its connection to the core" },
                 { "garbage", "broke the rules of its connection" } };
    struct house *h = house_open(EXJ_LANE_HOST);

    for (unsigned k = 0; k < sizeof ways / sizeof *ways; k++) {
        struct one o = ask(h, ways[k].how);

        cr_assert_eq(o.result, EXJ_R_CRASHED, "%s: %d %s", ways[k].how, o.result, o.text);
        says(o.text, ways[k].says);
        o = ask(h, "echo");
        is_ok(&o, "echo");
        cr_assert_eq(h->crashes, k + 1);
    }
    house_close(h);
}

/* ---- time and cancelling ---------------------------------------------------------------------- */

Test(remote, call_that_hangs_is_ended_at_its_deadline)
{
    static const char *const ways[] = { "hang", "deaf" };
    struct house *h = house_open(EXJ_LANE_HOST);

    for (unsigned k = 0; k < 2; k++) {
        exj_nsec from = exj_clock_mono_ns();
        struct one o = ask_until(h, ways[k], in_ms(200));

        cr_assert_eq(o.result, EXJ_R_DEADLINE, "%s: %d %s", ways[k], o.result, o.text);
        cr_assert_str_eq(o.code, "DeadlineExceeded");
        says(o.text, "did not stop within 300 ms of its deadline");
        cr_assert_lt(exj_clock_mono_ns() - from, 10000000000);
        o = ask(h, "echo");
        is_ok(&o, "echo");
    }
    cr_assert_eq(h->crashes, 0, "a deadline is no crash");
    house_close(h);
}

static int32_t gone(void *user)
{
    (void)user;
    return EXJ_R_CANCELLED;
}

Test(remote, call_that_nobody_wants_is_asked_and_then_forced)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(3);
    int pid;

    for (unsigned k = 0; k < 2; k++)
        b->all[k].ports.cancelled = gone;
    says_runtime(&b->all[0], "polite");
    says_runtime(&b->all[1], "hang");
    one_start(h, &b->all[0]);
    batch_wait(b, 1);
    pid = look(h).pid;
    cr_assert_eq(b->all[0].result, EXJ_R_CANCELLED);
    cr_assert_str_eq(b->all[0].code, "");
    cr_assert_gt(pid, 0, "who stops in time keeps the host");
    one_start(h, &b->all[1]);
    one_start(h, &b->all[2]);
    batch_wait(b, 3);
    cr_assert_eq(b->all[1].result, EXJ_R_CANCELLED);
    cr_assert_str_eq(b->all[1].code, "Cancelled");
    is_ok(&b->all[2], "echo");
    cr_assert_neq(look(h).pid, pid);
    batch_free(b);
    house_close(h);
}

static int32_t gone_after_two(void *user)
{
    return batch_has(((struct one *)user)->b, 2) ? EXJ_R_CANCELLED : 0;
}

Test(remote, call_that_nobody_wants_while_it_waits_is_not_begun)
{
    struct house *h = house_open(EXJ_LANE_SANDBOX); /* one call at a time is sent */
    struct batch *b = batch_new(4);

    says_runtime(&b->all[0], "polite");
    b->all[0].ports.cancelled = gone_after_two; /* so it keeps the others waiting */
    for (unsigned k = 1; k < 3; k++) {
        b->all[k].ports.cancelled = gone;
        says_runtime(&b->all[k], "abort");
    }
    batch_run(h, b);
    for (unsigned k = 0; k < 3; k++)
        cr_assert_eq(b->all[k].result, EXJ_R_CANCELLED);
    says(b->all[1].text, "before it began");
    says(b->all[2].text, "before it began");
    is_ok(&b->all[3], "echo");
    cr_assert_eq(h->crashes, 0);
    batch_free(b);
    house_close(h);
}

Test(remote, deadline_begins_when_the_call_begins)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(3);

    /* each waits for its own deadline, 300 ms after it began */
    for (unsigned k = 0; k < 3; k++) {
        says_runtime(&b->all[k], "polite");
        b->all[k].args.deadline_ns = in_ms(300);
    }
    batch_run(h, b);
    for (unsigned k = 0; k < 3; k++) {
        cr_assert_eq(b->all[k].result, EXJ_R_DEADLINE);
        cr_assert_eq(b->all[k].order, k);
    }
    cr_assert_eq(look(h).starts, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, cancel_hint_crosses)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(2);

    says_runtime(&b->all[0], "wait");
    one_start(h, &b->all[0]);
    one_start(h, &b->all[1]); /* when this one has ended, the first is PENDING */
    batch_wait(b, 1);
    is_ok(&b->all[1], "echo");
    exj_call_cancel(b->all[0].slot);
    batch_wait(b, 2);
    cr_assert_eq(b->all[0].result, EXJ_R_CANCELLED);
    cr_assert_eq(look(h).starts, 1);
    batch_free(b);
    house_close(h);
}

/* ---- PENDING --------------------------------------------------------------------------------- */

Test(remote, pending_calls_complete_from_threads)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(100);

    for (unsigned k = 0; k < b->n; k++)
        says_runtime(&b->all[k], "later");
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++)
        is_ok(&b->all[k], "{\"status\":\"completed\"}");
    batch_free(b);
    house_close(h);
}

Test(remote, of_several_pending_calls_the_named_one_is_to_blame)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(3);
    unsigned retried = 0, crashed = 0;

    says_runtime(&b->all[0], "wait");
    says_runtime(&b->all[1], "wait");
    says_runtime(&b->all[2], "segv");
    batch_run(h, b);
    for (unsigned k = 0; k < 3; k++) {
        crashed += b->all[k].result == EXJ_R_CRASHED;
        retried += b->all[k].result == EXJ_R_RETRY && strcmp(b->all[k].code, "HostDied") == 0;
    }
    cr_assert_eq(b->all[2].result, EXJ_R_CRASHED);
    cr_assert_eq(crashed, 1);
    cr_assert_eq(retried, 2);
    cr_assert_eq(h->crashes, 1);
    batch_free(b);
    house_close(h);
}

/* ---- what a call may ask ---------------------------------------------------------------------- */

struct rows {
    struct one *o; /* first: ports.user */
    unsigned seen, until;
};

static exj_result take_row(void *user, exj_slice json)
{
    struct rows *w = user;
    char wanted[32];

    snprintf(wanted, sizeof wanted, "{\"id\":\"%u\"}", w->seen);
    if (!exj_slice_is(json, wanted))
        return EXJ_R_INPUT;
    return ++w->seen == w->until ? EXJ_R_CANCELLED : EXJ_R_OK;
}

Test(remote, resolver_emits_ten_thousand_rows_or_as_many_as_are_wanted)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    exj_call_slot *s = slot_of(1 << 20);
    struct rows w = { .until = 0 };
    exj_call_ports ports = { .user = &w, .emit = take_row };
    exj_args a = args_of("{}", "rows");
    exj_call_end end = { 0 };

    build(&h->r, "guest", "", PLUGIN_AROUND("EXJ_KIND_SOURCE_RESOLVER", FLAGS, MORE, BODY, HOOKS));
    h->i = instance_of(&h->r, "guest", EXJ_KIND_SOURCE_RESOLVER);
    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert_eq(w.seen, 10000);
    cr_assert_eq(end.emits, 10000);
    w = (struct rows){ .until = 5000 };
    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    cr_assert_eq(end.result, EXJ_R_CANCELLED);
    cr_assert_eq(w.seen, 5000);
    exj_call_slot_free(s);
    house_close(h);
}

struct journal {
    char body[64];
    unsigned gets, puts;
};

static exj_code step_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct journal *j = user;

    j->gets++;
    if (!exj_slice_is(key, "one") || !j->body[0])
        return exj_err_set(err, EXJ_NOT_FOUND, "no such step");
    return exj_buf_add_text(ret, j->body) ? EXJ_OK : EXJ_NOMEM;
}

static exj_code step_put(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    struct journal *j = user;

    (void)err;
    j->puts++;
    cr_assert(exj_slice_is(key, "one"));
    snprintf(j->body, sizeof j->body, "%.*s", (int)body.n, body.p);
    return EXJ_OK;
}

Test(remote, journal_steps_cross)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    exj_call_slot *s = slot_of(1024);
    struct journal j = { "", 0, 0 };
    exj_call_ports ports = { .user = &j, .step_get = step_get, .step_put = step_put };
    exj_args a = args_of("{}", "step");
    exj_call_end end = { 0 };

    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    cr_assert_eq(end.result, EXJ_R_OK);
    slice_says(end.answer, "stored");
    cr_assert_str_eq(j.body, "{\"k\":1}");
    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    slice_says(end.answer, "{\"k\":1}");
    cr_assert_eq(j.gets, 2);
    cr_assert_eq(j.puts, 1);
    exj_call_slot_free(s);
    house_close(h);
}

Test(remote, model_of_a_megabyte_is_the_same_until_it_changes)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(30);
    size_t n = 1 << 20;
    char *first = malloc(n), *second = malloc(n);

    memset(first, 'a', n);
    memset(second, 'b', n);
    for (unsigned k = 0; k < b->n; k++) {
        says_runtime(&b->all[k], k == 10 ? "segv" : "model");
        b->all[k].args.model = (exj_str){ k < 20 ? first : second, n };
    }
    b->all[29].args.model.n = 0;
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++)
        if (k == 10) /* the next host knows no model yet */
            cr_assert_eq(b->all[k].result, EXJ_R_CRASHED);
        else
            is_ok(&b->all[k], k < 20 ? "1048576 a" : k < 29 ? "1048576 b" : "0 -");
    batch_free(b);
    free(first);
    free(second);
    house_close(h);
}

Test(remote, answer_of_a_gibibyte_is_refused_and_harms_nobody)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o = ask(h, "huge");

    cr_assert_eq(o.result, EXJ_R_FAILED, "%d %s %s", o.result, o.code, o.text);
    cr_assert_str_eq(o.code, "AnswerTooLarge");
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_eq(look(h).starts, 1);
    house_close(h);
}

Test(remote, record_that_is_too_large_is_refused_before_it_is_sent)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(1);
    char *text = calloc(1, EXJ_WIRE_MAX);

    b->all[0].args.runtime = (exj_str){ text, EXJ_WIRE_MAX };
    batch_run(h, b);
    cr_assert_eq(b->all[0].result, EXJ_R_INPUT);
    cr_assert_str_eq(b->all[0].code, "RecordTooLarge");
    cr_assert_eq(look(h).starts, 0);
    free(text);
    batch_free(b);
    house_close(h);
}

/* ---- other functions ---------------------------------------------------------------------------- */

static exj_result call_self_test(exj_instance *i, exj_call c, const void *user)
{
    (void)user;
    return i->guest->vt.self_test(i->self, c);
}

static exj_result call_save(exj_instance *i, exj_call c, const void *user)
{
    (void)user;
    return i->guest->vt.save_state(i->self, c);
}

Test(remote, optional_functions_work_from_afar)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    static const exj_call_ports none = { 0 };
    exj_call_slot *s = slot_of(1024);
    const exj_plugin *vt = &exj_instance_guest(h->i)->vt;
    exj_buf model = EXJ_BUF_INIT;
    exj_call_end end = { 0 };
    exj_err err = { 0 };
    struct one o;

    cr_assert_eq(exj_instance_model(h->i, EXJ_SLICE_LITERAL("g9"), &model, &err), EXJ_OK, "%s",
                 err.text);
    cr_assert(exj_slice_is(exj_buf_slice(&model), "{\"id\":\"g9\"}"));
    exj_buf_release(&model);
    cr_assert_eq(exj_instance_model(h->i, EXJ_SLICE_LITERAL("none"), &model, &err), EXJ_NOT_FOUND);
    exj_call_other(h->i, s, &none, call_self_test, NULL, &end);
    cr_assert_eq(end.result, EXJ_R_OK);
    exj_call_other(h->i, s, &none, call_save, NULL, &end);
    cr_assert_eq(end.result, EXJ_R_OK);
    slice_says(end.answer, "new");
    cr_assert_eq(vt->load_state(h->i->self, 6, (exj_str)EXJ_STR("old")), EXJ_R_INPUT);
    cr_assert_eq(vt->load_state(h->i->self, 7, (exj_str)EXJ_STR("kept")), EXJ_R_OK);
    o = ask(h, "state");
    is_ok(&o, "kept");
    cr_assert_eq(ask(h, "abort").result, EXJ_R_CRASHED);
    o = ask(h, "state"); /* each host that follows is given it */
    is_ok(&o, "kept");
    exj_call_slot_free(s);
    house_close(h);
}

/* ---- hosts come and go --------------------------------------------------------------------------- */

Test(remote, host_killed_from_outside_is_replaced)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(2);
    struct one o = ask(h, "echo");
    int pid = look(h).pid;

    is_ok(&o, "echo");
    kill(pid, SIGKILL);
    wait_gone(pid);
    for (unsigned k = 0; look(h).pid == pid && k < 1000; k++)
        poll(NULL, 0, 5);
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_eq(h->crashes, 0, "no call was in it");

    says_runtime(&b->all[0], "wait");
    one_start(h, &b->all[0]);
    one_start(h, &b->all[1]);
    batch_wait(b, 1);
    kill(look(h).pid, SIGKILL);
    batch_wait(b, 2);
    cr_assert_eq(b->all[0].result, EXJ_R_CRASHED);
    says(b->all[0].text, "SIGKILL");
    cr_assert_eq(h->crashes, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, idle_host_goes_and_comes_again)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o;
    int pid;

    h->s.idle_ms = 20;
    o = ask(h, "pid");
    pid = atoi(o.answer);
    cr_assert_gt(pid, 0);
    wait_gone(pid);
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_eq(look(h).starts, 2);
    cr_assert_eq(look(h).crashes, 0);
    house_close(h);
}

Test(remote, sandbox_is_one_process_a_call)
{
    struct house *h = house_open(EXJ_LANE_SANDBOX);
    struct batch *b = batch_new(10);

    for (unsigned k = 0; k < b->n; k++)
        says_runtime(&b->all[k], k == 4 ? "segv" : k == 7 ? "later" : "pid");
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++) {
        if (k == 4) {
            cr_assert_eq(b->all[k].result, EXJ_R_CRASHED);
            continue;
        }
        cr_assert_eq(b->all[k].result, EXJ_R_OK, "%s", b->all[k].text);
        for (unsigned m = 0; m < k; m++)
            cr_assert_str_neq(b->all[m].answer, b->all[k].answer);
    }
    cr_assert_eq(h->crashes, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, sandbox_is_started_ahead)
{
    struct house *h = house_open(EXJ_LANE_SANDBOX);
    struct one o;
    int pid;

    exj_remote_warm(h->i);
    for (unsigned k = 0; look(h).pid == 0 && k < 1000; k++)
        poll(NULL, 0, 5);
    pid = look(h).pid;
    cr_assert_gt(pid, 0);
    o = ask(h, "pid");
    cr_assert_eq(atoi(o.answer), pid);
    house_close(h);
}

Test(remote, sandbox_started_ahead_is_not_used_once_its_plugin_is_in_quarantine)
{
    struct house *h = house_open(EXJ_LANE_SANDBOX);
    struct batch *b = batch_new(1);
    struct one o;

    says_runtime(&b->all[0], "hang");
    one_start(h, &b->all[0]);
    for (unsigned k = 0; look(h).starts < 2 && k < 2000; k++)
        poll(NULL, 0, 5);
    cr_assert_eq(look(h).starts, 2, "one that runs and one ahead");
    pthread_mutex_lock(&h->mu);
    h->quarantined = true; /* as the crash that is coming would make it */
    pthread_mutex_unlock(&h->mu);
    exj_remote_kill(h->i);
    batch_wait(b, 1);
    cr_assert_eq(b->all[0].result, EXJ_R_CRASHED);
    o = ask(h, "echo");
    cr_assert_eq(o.result, EXJ_R_NOT_STARTED, "result %d", o.result);
    cr_assert_str_eq(o.code, "Quarantined");
    batch_free(b);
    house_close(h);
}

Test(remote, host_that_cannot_be_started_says_why_and_gives_rows_back)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o;

    h->s.host_exe = "/nowhere/exellix-jobs-plugin-host";
    for (unsigned k = 0; k < 4; k++) {
        o = ask(h, "echo");
        cr_assert_eq(o.result, k < 2 ? EXJ_R_RETRY : EXJ_R_NOT_STARTED);
        cr_assert_str_eq(o.code, "HostStart");
        says(o.text, "/nowhere/exellix-jobs-plugin-host");
        says(o.text, "No such file");
    }
    h->s.host_exe = HOST_EXE;
    o = ask(h, "echo");
    is_ok(&o, "echo");
    house_close(h);
}

Test(remote, host_that_finds_no_descriptor_says_what_to_raise)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct rlimit before, none;
    struct one o;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    o = ask(h, "echo");
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    cr_assert_eq(o.result, EXJ_R_RETRY);
    cr_assert_str_eq(o.code, "HostStart");
    says(o.text, "raise the limit of open files");
    o = ask(h, "echo");
    is_ok(&o, "echo");
    house_close(h);
}

Test(remote, plugin_in_quarantine_is_not_started)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o;

    h->quarantined = true;
    o = ask(h, "echo");
    cr_assert_eq(o.result, EXJ_R_NOT_STARTED);
    cr_assert_str_eq(o.code, "Quarantined");
    says(o.text, "it is in quarantine");
    cr_assert_eq(look(h).starts, 0);
    h->quarantined = false;
    o = ask(h, "echo");
    is_ok(&o, "echo");
    house_close(h);
}

Test(remote, crashes_in_a_row_make_the_next_start_wait)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    exj_nsec from;
    struct one o;

    for (unsigned k = 0; k < 5; k++)
        cr_assert_eq(ask(h, "abort").result, EXJ_R_CRASHED);
    from = exj_clock_mono_ns(); /* at most 20 ms of these 80 are over */
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_gt(exj_clock_mono_ns() - from, 40000000);
    cr_assert_eq(ask(h, "abort").result, EXJ_R_CRASHED);
    o = ask(h, "echo"); /* a good call was between them */
    is_ok(&o, "echo");
    house_close(h);
}

Test(remote, create_that_fails_is_told)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    struct one o;

    build(&h->r, "sad", "",
          "#include <string.h>\n#include \"exellix/json.h\"\n#include \"exellix/plugin.h\"\n"
          "static exj_result create(const exj_host *h, exj_str config, void **i)"
          "{ (void)config; (void)i; h->error(h->ctx, 0, EXJ_R_INPUT, exj_text(\"NoUrl\"),"
          " exj_text(\"url is missing\")); return EXJ_R_INPUT; }\n"
          "static void destroy(void *i) { (void)i; }\n"
          "static exj_result execute(void *i, exj_call c, const exj_args *a)"
          "{ (void)i; (void)c; (void)a; return EXJ_R_OK; }\n"
          "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy),"
          " .kind = EXJ_KIND_GRAPH_ENGINE, .id = \"test.sad\", .version = \"1\","
          " .create = create, .execute = execute, .destroy = destroy };\n"
          "static const exj_plugin *const ps[] = { &p };\n"
          "static const exj_bundle b = { .size_of = EXJ_SIZE(exj_bundle, plugins),"
          " .abi_minor = EXJ_ABI_MINOR, .n = 1, .plugins = ps };\n"
          "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n");
    h->i = instance_of(&h->r, "sad", EXJ_KIND_GRAPH_ENGINE);
    o = ask(h, "echo");
    cr_assert_eq(o.result, EXJ_R_RETRY);
    cr_assert_str_eq(o.code, "HostStart");
    says(o.text, "url is missing");
    cr_assert_eq(h->crashes, 0);
    house_close(h);
}

Test(remote, file_whose_constructor_crashes_is_refused)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    exj_err err;

    build(&h->r, "boom", "",
          ENGINE("0", "__attribute__((constructor)) static void boom(void)"
                      "{ *(volatile int *)16 = 1; }", "return " EMIT_OK ";"));
    err = refusal(&h->r, "boom");
    says(err.text, "boom");
    says(err.text, "SIGSEGV");
    house_close(h);
}

/* ---- what a plugin prints -------------------------------------------------------------------- */

static unsigned lines_seen, long_lines, hellos, dropped_notes;
static pthread_mutex_t lines_mu = PTHREAD_MUTEX_INITIALIZER;

static void count_line(exj_log_level level, const char *area, const char *message)
{
    (void)level;
    (void)area;
    pthread_mutex_lock(&lines_mu);
    lines_seen += strncmp(message, "test.guest: line ", 17) == 0;
    hellos += strcmp(message, "test.guest: hello from inside") == 0;
    dropped_notes += strstr(message, "more lines were printed") != NULL;
    if (strncmp(message, "test.guest: yyyy", 16) == 0) {
        long_lines++;
        cr_assert_lt(strlen(message), 1100);
        says(message, "…");
    }
    pthread_mutex_unlock(&lines_mu);
}

Test(remote, lines_that_a_plugin_prints_are_logged_within_bounds)
{
    struct house *h;
    struct one o;

    exj_log_divert(count_line);
    h = house_open(EXJ_LANE_HOST);
    o = ask(h, "print");
    is_ok(&o, "{\"status\":\"completed\"}");
    house_close(h);
    cr_assert_eq(hellos, 1);
    cr_assert_eq(long_lines, 1);
    cr_assert_gt(lines_seen, 50);
    cr_assert_leq(lines_seen, 300); /* 100 a second */
    exj_log_divert(NULL);
}
