/* Calls through the one door: asynchronous ends, serial plugins, journals, cancellation. */
#include <pthread.h>
#include <time.h>

#include "tests/plugins/guests.h"

/* ---- PENDING -------------------------------------------------------------------------- */

#define ASYNC_BODY                                                                          \
    "struct job *j = malloc(sizeof *j); j->h = h; j->c = c;"                                \
    "if (h->thread_start(h->ctx, later, j) != EXJ_R_OK) return EXJ_R_RETRY;"                \
    "return EXJ_R_PENDING;"
#define ASYNC_MORE                                                                          \
    "struct job { const exj_host *h; exj_call c; };"                                        \
    "static void later(void *p) { struct job j = *(struct job *)p; free(p);"                \
    " j.h->emit(j.h->ctx, j.c, exj_text(ok));"                                              \
    " if (j.h->complete(j.h->ctx, j.c, EXJ_R_OK) != EXJ_R_OK) abort();"                     \
    " if (j.h->emit(j.h->ctx, j.c, exj_text(ok)) == EXJ_R_OK) abort(); }"
#define ASYNC_FLAGS "(EXJ_FLAG_ASYNC | EXJ_FLAG_CONCURRENT)"

struct waiter {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    unsigned done, ok;
};

static void on_done(void *user, exj_call_slot *s, const exj_call_end *end)
{
    struct waiter *w = user;

    (void)s;
    pthread_mutex_lock(&w->mu);
    w->done++;
    w->ok += end->result == EXJ_R_OK && exj_slice_is(end->answer, "{\"status\":\"completed\"}");
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mu);
}

static void wait_for(struct waiter *w, unsigned n)
{
    struct timespec until;
    int late = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&w->mu);
    while (w->done < n && !late)
        late = pthread_cond_timedwait(&w->cond, &w->mu, &until);
    pthread_mutex_unlock(&w->mu);
    cr_assert_eq(w->done, n);
}

Test(calls, pending_ends_once_on_another_thread_and_its_slot_is_used_again)
{
    struct room r = room_open();
    struct waiter w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
    exj_call_ports ports = { .user = &w };
    exj_args a = args_of("{}", RUNTIME);
    exj_call_slot *slots[8];
    exj_instance *i;
    unsigned sent = 0;

    build(&r, "async", "", ENGINE(ASYNC_FLAGS, ASYNC_MORE, ASYNC_BODY));
    i = instance_of(&r, "async", EXJ_KIND_GRAPH_ENGINE);
    for (size_t k = 0; k < 8; k++)
        slots[k] = slot_of(1024);
    for (unsigned round = 0; round < 100; round++) {
        for (size_t k = 0; k < 8; k++) {
            exj_call_end end;

            if (exj_call_run(i, slots[k], &a, &ports, &end, on_done))
                on_done(&w, slots[k], &end); /* it was over before execute returned */
            sent++;
        }
        wait_for(&w, sent);
    }
    cr_assert_eq(w.ok, 800);
    exj_instance_free(i); /* waits for the last threads */
    for (size_t k = 0; k < 8; k++)
        exj_call_slot_free(slots[k]);
    room_close(&r);
}

Test(calls, pending_without_done_is_waited_for)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(1024);
    exj_instance *i;

    build(&r, "async", "", ENGINE(ASYNC_FLAGS, ASYNC_MORE, ASYNC_BODY));
    i = instance_of(&r, "async", EXJ_KIND_GRAPH_ENGINE);
    for (unsigned k = 0; k < 200; k++) {
        exj_call_end end = run_once(i, s, NULL);

        cr_assert_eq(end.result, EXJ_R_OK);
        cr_assert(exj_slice_is(end.answer, "{\"status\":\"completed\"}"));
    }
    exj_call_slot_free(s);
    room_close(&r);
}

Test(calls, cancel_hint_may_complete_the_call_itself)
{
    struct room r = room_open();
    struct waiter w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
    exj_call_ports ports = { .user = &w };
    exj_args a = args_of("{}", RUNTIME);
    exj_call_slot *s = slot_of(1024);
    exj_call_end end;
    exj_instance *i;

    build(&r, "hint", "", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "EXJ_FLAG_ASYNC",
          "static void hint(void *i, exj_call c) { const exj_host *h = i;"
          " if (h->complete(h->ctx, c, EXJ_R_CANCELLED) != EXJ_R_OK) abort(); }",
          "return EXJ_R_PENDING;", ".cancel = hint"));
    i = instance_of(&r, "hint", EXJ_KIND_GRAPH_ENGINE);
    cr_assert_not(exj_call_run(i, s, &a, &ports, &end, on_done));
    cr_assert_eq(w.done, 0);
    exj_call_cancel(s);
    cr_assert_eq(w.done, 1);
    exj_call_cancel(s); /* over: does nothing */
    cr_assert_eq(w.done, 1);
    exj_instance_free(i);
    exj_call_slot_free(s);
    room_close(&r);
}

/* ---- threads -------------------------------------------------------------------------- */

struct caller {
    exj_instance *i;
    unsigned calls, ok;
};

static void *call_often(void *p)
{
    struct caller *c = p;
    exj_call_slot *s = slot_of(1024);

    for (unsigned k = 0; k < c->calls; k++)
        c->ok += run_once(c->i, s, NULL).result == EXJ_R_OK;
    exj_call_slot_free(s);
    return NULL;
}

Test(calls, serial_all_is_one_call_at_a_time_over_all_instances)
{
    struct room r = room_open();
    struct caller c[4];
    pthread_t t[4];

    build(&r, "serial", "", ENGINE("EXJ_FLAG_SERIAL_ALL", "#include <sched.h>\nstatic int inside;",
          "if (__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST) != 1) return EXJ_R_FAILED;"
          "sched_yield(); __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST); return " EMIT_OK ";"));
    for (size_t k = 0; k < 4; k++) {
        c[k] = (struct caller){ instance_of(&r, "serial", EXJ_KIND_GRAPH_ENGINE), 500, 0 };
        pthread_create(&t[k], NULL, call_often, &c[k]);
    }
    for (size_t k = 0; k < 4; k++) {
        pthread_join(t[k], NULL);
        cr_assert_eq(c[k].ok, 500);
    }
    room_close(&r);
}

Test(calls, threads_of_the_plugin_are_waited_for)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(1024);
    char flag[128], body[2048];
    exj_instance *i;

    snprintf(flag, sizeof flag, "%s/ended", r.dir);
    snprintf(body, sizeof body, ENGINE("EXJ_FLAG_OWN_THREADS",
          "#include <fcntl.h>\n#include <poll.h>\n#include <unistd.h>\n"
          "static void t(void *p) { (void)p; poll(NULL, 0, 100); close(open(\"%s\", O_CREAT | O_WRONLY, 0600)); }",
          "h->thread_start(h->ctx, t, NULL); return " EMIT_OK ";"), flag);
    build(&r, "threads", "", body);
    i = instance_of(&r, "threads", EXJ_KIND_GRAPH_ENGINE);
    cr_assert_eq(run_once(i, s, NULL).result, EXJ_R_OK);
    exj_instance_free(i);
    cr_assert_eq(access(flag, F_OK), 0);
    exj_call_slot_free(s);
    room_close(&r);
}

/* ---- ports ---------------------------------------------------------------------------- */

struct journal {
    char key[64], body[64];
    unsigned puts;
    exj_code put_answers;
    int32_t cancelled;
};

static exj_code step_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct journal *j = user;

    if (!j->puts || !exj_slice_is(key, j->key))
        return exj_err_set(err, EXJ_NOT_FOUND, "no such step");
    exj_buf_add_text(ret, j->body);
    return EXJ_OK;
}

static exj_code step_put(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    struct journal *j = user;

    if (j->put_answers)
        return exj_err_set(err, j->put_answers, "refused");
    j->puts++;
    snprintf(j->key, sizeof j->key, "%.*s", (int)key.n, key.p);
    snprintf(j->body, sizeof j->body, "%.*s", (int)body.n, body.p);
    return EXJ_OK;
}

static int32_t asked(void *user)
{
    return ((struct journal *)user)->cancelled;
}

#define STEPPER                                                                             \
    ENGINE("0", "#include \"exellix/step.h\"\nstatic int ran;"                              \
           "static exj_result f(void *u, exj_json_out *o) { (void)u; ran++;"                \
           " exj_json_put_i64(o, NULL, ran); return EXJ_R_OK; }",                           \
           "exj_json_out o = EXJ_JSON_OUT_INIT; exj_result e = exj_step(h, c, \"pay\", f, NULL, &o);" \
           "if (e == EXJ_R_OK) e = h->emit(h->ctx, c, exj_json_out_text(&o));"              \
           "exj_json_out_release(&o); return e;")

Test(calls, step_runs_once_over_attempts)
{
    struct room r = room_open();
    struct journal j = { .puts = 0 };
    exj_call_ports ports = { .user = &j, .step_get = step_get, .step_put = step_put,
                             .cancelled = asked };
    exj_call_slot *s = slot_of(1024);
    exj_instance *i;

    build(&r, "step", "", STEPPER);
    i = instance_of(&r, "step", EXJ_KIND_GRAPH_ENGINE);
    cr_assert(exj_slice_is(run_once(i, s, &ports).answer, "1"));
    cr_assert_str_eq(j.key, "pay");
    cr_assert(exj_slice_is(run_once(i, s, &ports).answer, "1"));
    cr_assert_eq(j.puts, 1);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(calls, step_of_a_row_that_is_not_ours_does_not_run)
{
    struct room r = room_open();
    struct journal j = { .cancelled = EXJ_R_CANCELLED };
    exj_call_ports ports = { .user = &j, .step_get = step_get, .step_put = step_put,
                             .cancelled = asked };
    exj_call_slot *s = slot_of(1024);
    exj_instance *i;

    build(&r, "step", "", STEPPER);
    i = instance_of(&r, "step", EXJ_KIND_GRAPH_ENGINE);
    cr_assert_eq(run_once(i, s, &ports).result, EXJ_R_CANCELLED);
    cr_assert_eq(j.puts, 0);
    j.cancelled = 0;
    j.put_answers = EXJ_FENCED;
    cr_assert_eq(run_once(i, s, &ports).result, EXJ_R_CANCELLED);
    j.put_answers = EXJ_CONFLICT; /* stands already: fine */
    cr_assert_eq(run_once(i, s, &ports).result, EXJ_R_OK);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(calls, journal_refuses_nameless_steps_and_what_is_not_json)
{
    struct room r = room_open();
    struct journal j = { .puts = 0 };
    exj_call_ports ports = { .user = &j, .step_get = step_get, .step_put = step_put };
    exj_call_slot *s = slot_of(1024);

    build(&r, "journal", "", ENGINE("0", "",
          "exj_str none = { NULL, 5 }, got;"
          "if (h->journal_commit(h->ctx, c, exj_text(\"a\"), exj_text(\"{oops\")) != EXJ_R_INPUT) return EXJ_R_FAILED;"
          "if (h->journal_commit(h->ctx, c, exj_text(\"\"), exj_text(\"1\")) != EXJ_R_INPUT) return EXJ_R_FAILED;"
          "if (h->journal_lookup(h->ctx, c, none, &got) != EXJ_R_INPUT) return EXJ_R_FAILED;"
          "if (h->journal_lookup(h->ctx, c, exj_text(\"a\"), &got) != EXJ_R_MISS) return EXJ_R_FAILED;"
          "if (h->emit(h->ctx, c, none) != EXJ_R_INPUT) return EXJ_R_FAILED;"
          "return " EMIT_OK ";"));
    cr_assert_eq(run_once(instance_of(&r, "journal", EXJ_KIND_GRAPH_ENGINE), s, &ports).result,
                 EXJ_R_OK);
    cr_assert_eq(j.puts, 0);
    exj_call_slot_free(s);
    room_close(&r);
}

static exj_result take_three(void *user, exj_slice json)
{
    unsigned *n = user;

    cr_assert(exj_slice_is(json, "{\"id\":\"1\",\"record\":{}}"));
    return ++*n < 3 ? EXJ_R_OK : EXJ_R_CANCELLED;
}

Test(calls, resolver_emits_until_no_more_is_wanted)
{
    struct room r = room_open();
    unsigned n = 0;
    exj_call_ports ports = { .user = &n, .emit = take_three };
    exj_call_slot *s = slot_of(1024);
    exj_call_end end;

    build(&r, "source", "", PLUGIN_AROUND("EXJ_KIND_SOURCE_RESOLVER", "0", "",
          "for (;;) { exj_result e = h->emit(h->ctx, c, exj_text(\"{\\\"id\\\":\\\"1\\\",\\\"record\\\":{}}\"));"
          " if (e) return e; }", ""));
    end = run_once(instance_of(&r, "source", EXJ_KIND_SOURCE_RESOLVER), s, &ports);
    cr_assert_eq(end.result, EXJ_R_CANCELLED);
    cr_assert_eq(n, 3);
    cr_assert_eq(end.emits, 3);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(calls, warm_slot_keeps_its_memory_and_gives_back_what_was_large)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(4u << 20);
    const char *first;
    exj_instance *i;

    build(&r, "plain", "", ENGINE("0", "", "return " EMIT_OK ";"));
    i = instance_of(&r, "plain", EXJ_KIND_GRAPH_ENGINE);
    first = run_once(i, s, NULL).answer.p;
    for (unsigned k = 0; k < 1000; k++)
        cr_assert_eq(run_once(i, s, NULL).answer.p, first);
    exj_call_slot_free(s);
    room_close(&r);
}
