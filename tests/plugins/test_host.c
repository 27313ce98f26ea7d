/* The program exellix-jobs-plugin-host alone: this test is its core and says what a core would
 * say, and what none would. */
#include "tests/plugins/host_harness.h"

#define OK_ANSWER "{\"status\":\"completed\"}"

/* ---- beginning ------------------------------------------------------------------------ */

Test(host, started_by_hand_says_what_it_is_for)
{
    struct room r = room_open();
    char path[128], *text = NULL;
    size_t n = 0;
    FILE *f;

    cr_assert_eq(try_shell("'%s' > '%s/out' 2>&1", HOST_EXE, r.dir) >> 8, 2);
    cr_assert_eq(try_shell("'%s' host 10 - 3</dev/null >> '%s/out' 2>&1", HOST_EXE, r.dir) >> 8,
                 2);
    snprintf(path, sizeof path, "%s/out", r.dir);
    f = fopen(path, "r");
    cr_assert(f && getdelim(&text, &n, 0, f) > 0);
    fclose(f);
    says(text, "not by hand");
    says(text, "plugin check");
    free(text);
    room_close(&r);
}

Test(host, hello_is_answered_with_what_the_file_holds)
{
    struct room r = room_open();
    struct kid k;
    exj_wire_reader f;
    char copy[128];

    build(&r, "one", "", ENGINE("EXJ_FLAG_BLOCKING", "", EMIT_OK "; return EXJ_R_OK;"));
    snprintf(copy, sizeof copy, "%s/one.so", r.dir);
    kid_spawn(&k, "host", "2048", "-");
    say_hello(&k, 1, 7, copy);
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_HOST_HELLO)->body };
    cr_assert_eq(exj_wire_get_u32(&f), EXJ_WIRE_VERSION);
    exj_wire_get_u32(&f);
    cr_assert_eq(exj_wire_get_u32(&f), 1, "one plugin");
    cr_assert(exj_slice_is(exj_wire_get_text(&f), "test.guest"));
    cr_assert(exj_slice_is(exj_wire_get_text(&f), "9.8.7"));
    cr_assert_eq(exj_wire_get_u32(&f), EXJ_KIND_GRAPH_ENGINE);
    cr_assert_eq(exj_wire_get_u32(&f), EXJ_FLAG_BLOCKING);
    cr_assert_eq(exj_wire_get_u32(&f), 0);
    cr_assert_eq(exj_wire_get_u32(&f), 0, "no optional member");
    exj_wire_get_text(&f);
    cr_assert(exj_wire_done(&f));
    kid_bye(&k); /* described, never created */
    room_close(&r);
}

Test(host, another_version_is_refused_naming_both)
{
    struct kid k;
    exj_wire_reader f;
    char *text;

    kid_spawn(&k, "host", "2048", "-");
    say_hello(&k, 8, 9, "/nowhere.so");
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_REFUSED)->body };
    text = exj_slice_dup(exj_wire_get_text(&f));
    says(text, "versions 8 to 9");
    says(text, "version 1");
    free(text);
    cr_assert_null(any_of(&k));
    cr_assert_eq(kid_end(&k), 0);
    close(k.crash);
}

Test(host, a_file_that_cannot_be_used_is_refused_with_the_reason)
{
    struct room r = room_open();
    struct kid k;
    exj_wire_reader f;
    char path[128], *text;

    snprintf(path, sizeof path, "%s/short.so", r.dir);
    shell("head -c 9000 '%s' > '%s'", STUB_SO, path);
    kid_spawn(&k, "host", "2048", "-");
    say_hello(&k, 1, 1, path);
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_REFUSED)->body };
    text = exj_slice_dup(exj_wire_get_text(&f));
    says(text, "cut short");
    free(text);
    cr_assert_eq(kid_end(&k), 0);
    close(k.crash);
    room_close(&r);
}

Test(host, create_that_fails_answers_with_what_error_said)
{
    struct room r = room_open();
    struct kid k;
    exj_wire_reader f;
    char copy[128], *text;

    build(&r, "fails", "",
          "#include \"exellix/json.h\"\n#include \"exellix/plugin.h\"\n"
          "static exj_result create(const exj_host *h, exj_str c, void **i) { (void)c; (void)i;"
          " h->error(h->ctx, 0, EXJ_R_FAILED, exj_text(\"NoKey\"), exj_text(\"key is missing\"));"
          " return EXJ_R_FAILED; }\n"
          "static exj_result execute(void *i, exj_call c, const exj_args *a)"
          " { (void)i; (void)c; (void)a; return EXJ_R_OK; }\n"
          "static void destroy(void *i) { (void)i; }\n"
          "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy), .kind = 1,"
          " .id = \"test.fails\", .version = \"1\", .create = create, .execute = execute,"
          " .destroy = destroy };\nstatic const exj_plugin *const ps[] = { &p };\n"
          "static const exj_bundle b = { EXJ_SIZE(exj_bundle, plugins), 0, 1, 0, ps };\n"
          "EXJ_PLUGIN_EXPORT(b, 2u, 0)\n");
    snprintf(copy, sizeof copy, "%s/fails.so", r.dir);
    kid_spawn(&k, "host", "2048", "-");
    say_hello(&k, 1, 1, copy);
    next_of(&k, EXJ_F_HOST_HELLO);
    say_create(&k, "{}");
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_CREATED)->body };
    cr_assert_eq(exj_wire_get_u32(&f), EXJ_R_FAILED);
    text = exj_slice_dup(exj_wire_get_text(&f));
    cr_assert_str_eq(text, "NoKey: key is missing");
    free(text);
    kid_bye(&k);
    room_close(&r);
}

/* ---- calls ------------------------------------------------------------------------------- */

Test(host, a_call_is_answered_with_result_and_answer)
{
    struct room r = room_open();
    struct kid k;
    struct result end;

    build(&r, "ok", "", ENGINE("0", "", EMIT_OK "; return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "ok", NULL);
    say_call(&k, 4097, "{}", RUNTIME, 0);
    end = next_result(&k);
    cr_assert_eq(end.call, 4097);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert_eq(end.emits, 1);
    cr_assert(exj_slice_is(end.answer, OK_ANSWER));
    cr_assert_gt(end.took_ns, 0);
    kid_bye(&k);
    room_close(&r);
}

/* Answers with what it was given. */
#define ECHO                                                                                \
    "char t[4096]; int n = snprintf(t, sizeof t, \"%.*s|%.*s|%.*s|%.*s|%u|%llu|%d\","       \
    " (int)(a->model.n < 900 ? a->model.n : 900), a->model.p, (int)a->runtime.n,"           \
    " a->runtime.p, (int)a->job_id.n, a->job_id.p, (int)a->record_id.n, a->record_id.p,"    \
    " a->attempt, (unsigned long long)a->token, a->deadline_ns == UINT64_MAX);\n"           \
    "h->error(h->ctx, c, 2, exj_text(\"Echo\"), (exj_str){ t, (uint64_t)n });"              \
    "return EXJ_R_FAILED;"

Test(host, pipelined_calls_are_answered_in_order_and_share_a_model)
{
    struct room r = room_open();
    struct kid k;

    build(&r, "echo", "", ENGINE("0", "#include <stdio.h>", ECHO));
    kid_ready(&k, &r, "host", "echo", NULL);
    for (uint64_t c = 1; c <= 200; c++) {
        char runtime[40];

        snprintf(runtime, sizeof runtime, "r%llu", (unsigned long long)c);
        say_call(&k, c, c == 1 ? "first" : c == 101 ? "second" : NULL, runtime, 0);
    }
    for (uint64_t c = 1; c <= 200; c++) {
        struct result end = next_result(&k);
        char wanted[200];

        snprintf(wanted, sizeof wanted, "%s|r%llu|job-1|record-1|1|77|1",
                 c < 101 ? "first" : "second", (unsigned long long)c);
        cr_assert_eq(end.call, c);
        cr_assert_eq(end.result, EXJ_R_FAILED);
        cr_assert(exj_slice_is(end.code, "Echo"));
        cr_assert(exj_slice_is(end.text, wanted), "%.*s", (int)end.text.n, end.text.p);
    }
    kid_bye(&k);
    room_close(&r);
}

Test(host, a_model_of_one_mebibyte_comes_by_memfd_and_so_does_its_answer)
{
    struct room r = room_open();
    struct kid k;
    struct result end;
    size_t n = HOST_ANSWER_MAX;
    char *model = malloc(n + 1);

    cr_assert_not_null(model);
    memset(model, 'm', n);
    model[n] = 0;
    build(&r, "large", "", ENGINE("0", "", "h->emit(h->ctx, c, a->model); return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "large", NULL);
    say_call(&k, 1, model, RUNTIME, 0);
    say_call(&k, 2, NULL, RUNTIME, 0);
    for (uint64_t c = 1; c <= 2; c++) {
        end = next_result(&k);
        cr_assert_eq(end.call, c);
        cr_assert_eq(end.result, EXJ_R_OK);
        cr_assert_not_null(k.frame.map);
        cr_assert(exj_slice_equal(end.answer, (exj_slice){ model, n }));
    }
    free(model);
    kid_bye(&k);
    room_close(&r);
}

/* Records are on their way while the next ones are made: so many at most. */
Test(host, a_resolver_runs_ahead_of_the_verdicts_and_stops_when_told)
{
    enum { AHEAD = 32 };
    struct room r = room_open();
    struct kid k;
    struct result end;
    exj_wire_reader f;

    build(&r, "source", "",
          PLUGIN_AROUND("EXJ_KIND_SOURCE_RESOLVER", "0", "",
                        "for (;;) { exj_result e = h->emit(h->ctx, c, exj_text(\"{}\"));"
                        " if (e) return e; }", ""));
    kid_ready(&k, &r, "host", "source", NULL);
    say_call(&k, 5, "{}", RUNTIME, 0);
    for (unsigned n = 0; n < AHEAD + 9; n++) {
        f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_EMIT)->body };
        cr_assert_eq(k.frame.call, 5);
        cr_assert(exj_slice_is(exj_wire_get_text(&f), "{}"));
        if (n + 1 >= AHEAD) /* no more come before the first is answered */
            say_reply(&k, 5, EXJ_R_OK, (exj_slice){ 0 });
    }
    /* The tenth is refused; what is on its way gets the same answer. */
    for (unsigned n = 0; n < AHEAD - 1; n++)
        say_reply(&k, 5, EXJ_R_CANCELLED, (exj_slice){ 0 });
    next_of(&k, EXJ_F_EMIT); /* made before the refusal was read */
    say_reply(&k, 5, EXJ_R_CANCELLED, (exj_slice){ 0 });
    end = next_result(&k);
    cr_assert_eq(end.result, EXJ_R_CANCELLED);
    kid_bye(&k);
    room_close(&r);
}

Test(host, questions_of_the_journal_wait_for_their_reply)
{
    struct room r = room_open();
    struct kid k;
    exj_wire_reader f;
    struct result end;

    build(&r, "steps", "",
          ENGINE("0", "",
                 "exj_str s; exj_result x = h->journal_lookup(h->ctx, c, exj_text(\"a\"), &s);\n"
                 "if (x != EXJ_R_MISS) return EXJ_R_FAILED;\n"
                 "if (h->journal_commit(h->ctx, c, exj_text(\"a\"), exj_text(\"[1]\")))"
                 " return EXJ_R_FAILED;\n"
                 "if (h->journal_lookup(h->ctx, c, exj_text(\"a\"), &s)) return EXJ_R_FAILED;\n"
                 "h->emit(h->ctx, c, s); return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "steps", NULL);
    say_call(&k, 9, "{}", RUNTIME, 0);
    say_call(&k, 10, NULL, RUNTIME, 0); /* what comes between stays in its place */
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_STEP_GET)->body };
    cr_assert(exj_slice_is(exj_wire_get_text(&f), "a"));
    say_reply(&k, 9, EXJ_NOT_FOUND, exj_slice_of("no such step"));
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_STEP_PUT)->body };
    cr_assert(exj_slice_is(exj_wire_get_text(&f), "a"));
    cr_assert(exj_slice_is(exj_wire_get_text(&f), "[1]"));
    say_reply(&k, 9, EXJ_OK, (exj_slice){ 0 });
    next_of(&k, EXJ_F_STEP_GET);
    say_reply(&k, 9, EXJ_OK, exj_slice_of("[1]"));
    end = next_result(&k);
    cr_assert_eq(end.call, 9);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer, "[1]"));
    next_of(&k, EXJ_F_STEP_GET);
    cr_assert_eq(k.frame.call, 10);
    say_reply(&k, 10, EXJ_OK, exj_slice_of("{}"));
    cr_assert_eq(next_result(&k).result, EXJ_R_FAILED);
    kid_bye(&k);
    room_close(&r);
}

Test(host, several_threads_of_one_call_ask_at_once_and_each_gets_its_answer)
{
    struct room r = room_open();
    struct kid k;
    struct result end;

    build(&r, "many", "",
          ENGINE("EXJ_FLAG_OWN_THREADS",
                 "#include \"exellix/ext/kv.h\"\n#include <stdio.h>\n"
                 "struct t { const exj_host *h; exj_call c; int n; int bad; };\n"
                 "static void *run(void *p) { struct t *t = p;\n"
                 " const exj_ext_kv *kv = t->h->extension(t->h->ctx, EXJ_EXT_KV);\n"
                 " for (int k = 0; k < 50; k++) { int64_t s = -1;\n"
                 "  if (kv->add(t->h->ctx, t->c, exj_text(\"n\"), t->n * 1000 + k, &s) ||"
                 " s != -(t->n * 1000 + k)) t->bad++; }\n"
                 " return NULL; }",
                 "struct t t[6]; pthread_t id[6]; int bad = 0;\n"
                 "for (int k = 0; k < 6; k++) { t[k] = (struct t){ h, c, k, 0 };"
                 " pthread_create(&id[k], NULL, run, &t[k]); }\n"
                 "for (int k = 0; k < 6; k++) { pthread_join(id[k], NULL); bad += t[k].bad; }\n"
                 EMIT_OK "; return bad ? EXJ_R_FAILED : EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "many", NULL);
    say_call(&k, 3, "{}", RUNTIME, 0);
    for (unsigned n = 0; n < 300; n++) {
        exj_wire_reader f = { .left = next_of(&k, EXJ_F_KV_ADD)->body };
        exj_buf sum = EXJ_BUF_INIT;

        exj_wire_get_text(&f);
        exj_wire_u64(&sum, 0 - exj_wire_get_u64(&f)); /* the answer tells whose it is */
        cr_assert(exj_wire_done(&f));
        say_reply(&k, 3, EXJ_OK, exj_buf_slice(&sum));
        exj_buf_release(&sum);
    }
    end = next_result(&k);
    cr_assert_eq(end.result, EXJ_R_OK);
    kid_bye(&k);
    room_close(&r);
}

/* ---- stopping, later answers ------------------------------------------------------------ */

#define WAIT_UNTIL_CANCELLED                                                                \
    "int32_t why; h->progress(h->ctx, c, 0.5, exj_text(\"waits\"));\n"                      \
    "while (!(why = h->cancelled(h->ctx, c))) usleep(500); return why;"

Test(host, a_cancelled_call_sees_the_reason_and_its_hint)
{
    struct room r = room_open();
    struct kid k;
    struct result end;

    build(&r, "waits", "",
          PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0",
                        "#include <semaphore.h>\nstatic sem_t hint;\n"
                        "static void cancel(void *i, exj_call c)"
                        " { (void)i; (void)c; sem_post(&hint); }\n",
                        "h->progress(h->ctx, c, 0.5, exj_text(\"waits\")); sem_wait(&hint);\n"
                        "return h->cancelled(h->ctx, c);",
                        ".cancel = cancel"));
    kid_ready(&k, &r, "host", "waits", NULL);
    say_call(&k, 1, "{}", RUNTIME, 0);
    say_call(&k, 2, NULL, RUNTIME, 0);
    next_of(&k, EXJ_F_PROGRESS); /* it has begun */
    say_cancel(&k, 1, EXJ_R_CANCELLED);
    end = next_result(&k);
    cr_assert_eq(end.call, 1);
    cr_assert_eq(end.result, EXJ_R_CANCELLED);
    next_of(&k, EXJ_F_PROGRESS);
    say_cancel(&k, 2, EXJ_R_DEADLINE);
    cr_assert_eq(next_result(&k).result, EXJ_R_DEADLINE);
    kid_bye(&k);
    room_close(&r);
}

Test(host, a_call_cancelled_before_it_came_sees_it_at_once)
{
    struct room r = room_open();
    struct kid k;

    build(&r, "polls", "", ENGINE("0", "#include <unistd.h>", WAIT_UNTIL_CANCELLED));
    kid_ready(&k, &r, "host", "polls", NULL);
    say_cancel(&k, 8, EXJ_R_CANCELLED);
    say_call(&k, 8, "{}", RUNTIME, 0);
    next_of(&k, EXJ_F_PROGRESS);
    cr_assert_eq(next_result(&k).result, EXJ_R_CANCELLED);
    kid_bye(&k);
    room_close(&r);
}

Test(host, a_deadline_is_counted_from_the_beginning_of_the_call)
{
    struct room r = room_open();
    struct kid k;
    struct result end;

    build(&r, "polls", "",
          ENGINE("0", "#include <unistd.h>",
                 "struct timespec n; clock_gettime(CLOCK_MONOTONIC, &n);\n"
                 "uint64_t now = (uint64_t)n.tv_sec * 1000000000u + (uint64_t)n.tv_nsec;\n"
                 "if (a->deadline_ns < now || a->deadline_ns - now > 50000000u) return 2;\n"
                 WAIT_UNTIL_CANCELLED));
    kid_ready(&k, &r, "host", "polls", NULL);
    for (uint64_t c = 1; c <= 3; c++) /* the second waits for the first: its clock stands */
        say_call(&k, c, c == 1 ? "{}" : NULL, RUNTIME, 50000000);
    for (uint64_t c = 1; c <= 3; c++) {
        next_of(&k, EXJ_F_PROGRESS);
        end = next_result(&k);
        cr_assert_eq(end.result, EXJ_R_DEADLINE, "call %llu: %d", (unsigned long long)c,
                     end.result);
        cr_assert_geq(end.took_ns, 50000000);
    }
    kid_bye(&k);
    room_close(&r);
}

Test(host, a_pending_call_lets_the_next_begin_and_is_answered_later)
{
    struct room r = room_open();
    struct kid k;
    struct result end;
    bool pending[3] = { false }, answered[3] = { false };

    /* the even calls wait for the odd one, which completes them */
    build(&r, "later", "",
          ENGINE("EXJ_FLAG_ASYNC",
                 "#include <stdio.h>\nstatic exj_call kept[2]; static int n; static const exj_host *H;\n"
                 "static void *finish(void *p) { (void)p; for (int k = 0; k < 2; k++) {"
                 " H->emit(H->ctx, kept[k], exj_text(ok)); H->complete(H->ctx, kept[k], 0); }"
                 " return NULL; }\n",
                 "H = h; if (n < 2) { kept[n++] = c; return EXJ_R_PENDING; }\n"
                 "pthread_t id; pthread_create(&id, NULL, finish, NULL); pthread_detach(id);\n"
                 EMIT_OK "; return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "later", NULL);
    for (uint64_t c = 0; c < 3; c++)
        say_call(&k, 100 + c, c == 0 ? "{}" : NULL, RUNTIME, 0);
    for (unsigned left = 5; left; left--) {
        const exj_frame *f = any_of(&k);

        cr_assert_not_null(f);
        cr_assert(f->call >= 100 && f->call < 103);
        if (f->type == EXJ_F_PENDING) {
            cr_assert_not(answered[f->call - 100], "PENDING after RESULT");
            pending[f->call - 100] = true;
        } else {
            cr_assert_eq(f->type, EXJ_F_RESULT);
            end = read_result(f);
            cr_assert_eq(end.result, EXJ_R_OK);
            cr_assert(exj_slice_is(end.answer, OK_ANSWER));
            answered[end.call - 100] = true;
        }
    }
    cr_assert(pending[0] && pending[1] && !pending[2]);
    cr_assert(answered[0] && answered[1] && answered[2]);
    kid_bye(&k);
    room_close(&r);
}

Test(host, a_call_completed_before_execute_returns_never_says_pending_after_its_result)
{
    struct room r = room_open();
    struct kid k;

    build(&r, "race", "",
          ENGINE("EXJ_FLAG_ASYNC",
                 "static const exj_host *H; static exj_call C;\n"
                 "static void *finish(void *p) { (void)p; H->emit(H->ctx, C, exj_text(ok));"
                 " H->complete(H->ctx, C, 0); return NULL; }\n",
                 "pthread_t id; H = h; C = c; pthread_create(&id, NULL, finish, NULL);\n"
                 "if (c & 4096) pthread_join(id, NULL); else pthread_detach(id);\n"
                 "return EXJ_R_PENDING;"));
    kid_ready(&k, &r, "host", "race", NULL);
    for (uint64_t c = 1; c <= 300; c++) {
        bool over = false;

        say_call(&k, c, c == 1 ? "{}" : NULL, RUNTIME, 0);
        while (!over) {
            const exj_frame *f = any_of(&k);

            cr_assert_not_null(f);
            cr_assert_eq(f->call, c, "a frame of call %llu after its RESULT",
                         (unsigned long long)f->call);
            cr_assert(f->type == EXJ_F_PENDING || f->type == EXJ_F_RESULT);
            over = f->type == EXJ_F_RESULT;
        }
    }
    kid_bye(&k);
    room_close(&r);
}

/* ---- what else a plugin has ------------------------------------------------------------- */

Test(host, state_model_and_test_have_orders_of_their_own)
{
    struct room r = room_open();
    struct kid k;
    struct result end;
    exj_buf b = EXJ_BUF_INIT;

    build(&r, "more", "",
          PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0",
                        "static exj_result save(void *i, exj_call c) { const exj_host *h = i;"
                        " return h->emit(h->ctx, c, exj_text(\"[7]\")); }\n"
                        "static exj_result load(void *i, uint32_t v, exj_str s) { (void)i;"
                        " return v == 3 && s.n == 4 ? EXJ_R_OK : EXJ_R_INPUT; }\n"
                        "static exj_result test(void *i, exj_call c) { const exj_host *h = i;"
                        " h->error(h->ctx, c, 2, exj_text(\"Bad\"), exj_text(\"no\"));"
                        " return EXJ_R_FAILED; }\n"
                        "static exj_result model(void *i, exj_call c, exj_str g) {"
                        " const exj_host *h = i; if (g.n != 2) return EXJ_R_MISS;"
                        " return h->emit(h->ctx, c, g); }\n",
                        EMIT_OK "; return EXJ_R_OK;",
                        ".save_state = save, .load_state = load, .self_test = test,"
                        " .resolve_model = model"));
    kid_ready(&k, &r, "host", "more", NULL);
    say(&k, EXJ_F_SAVE, 1, &b);
    end = next_result(&k);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer, "[7]"));
    exj_wire_u32(&b, 3);
    exj_wire_text(&b, exj_slice_of("abcd"));
    say(&k, EXJ_F_LOAD, 2, &b);
    cr_assert_eq(next_result(&k).result, EXJ_R_OK);
    say(&k, EXJ_F_TEST, 3, &b);
    end = next_result(&k);
    cr_assert_eq(end.result, EXJ_R_FAILED);
    cr_assert(exj_slice_is(end.code, "Bad"));
    exj_wire_text(&b, exj_slice_of("g1"));
    say(&k, EXJ_F_MODEL, 4, &b);
    end = next_result(&k);
    cr_assert(exj_slice_is(end.answer, "g1"));
    exj_wire_text(&b, exj_slice_of("other"));
    say(&k, EXJ_F_MODEL, 5, &b);
    cr_assert_eq(next_result(&k).result, EXJ_R_MISS);
    kid_bye(&k);
    room_close(&r);
}

Test(host, log_lines_and_misdeeds_reach_the_core)
{
    struct room r = room_open();
    struct kid k;
    exj_wire_reader f;
    char *text;

    build(&r, "talks", "",
          ENGINE("0", "#include <stdio.h>",
                 "h->log(h->ctx, c, EXJ_LOG_LEVEL_WARN, exj_text(\"hello\"));\n"
                 "printf(\"printed\\n\"); " EMIT_OK ";" EMIT_OK "; return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "talks", NULL);
    say_call(&k, 6, "{}", RUNTIME, 0);
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_LOG)->body };
    cr_assert_eq(k.frame.call, 6);
    cr_assert_eq(exj_wire_get_u32(&f), EXJ_LOG_LEVEL_WARN);
    cr_assert(exj_slice_is(exj_wire_get_text(&f), "hello"));
    f = (exj_wire_reader){ .left = next_of(&k, EXJ_F_MISDEED)->body };
    text = exj_slice_dup(exj_wire_get_text(&f));
    says(text, "second answer");
    free(text);
    next_of(&k, EXJ_F_RESULT);
    kid_bye(&k);
    says(k.printed, "printed");
    room_close(&r);
}

/* ---- a core that breaks the rules ---------------------------------------------------------- */

static void broken_core(exj_frame_type type, const char *bytes, size_t n, const char *wanted)
{
    struct room r = room_open();
    struct kid k;

    build(&r, "ok", "", ENGINE("0", "", EMIT_OK "; return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "ok", NULL);
    exj_wire_send(k.wire, type, 1, (exj_slice){ bytes, n }, NULL);
    cr_assert_null(any_of(&k));
    cr_assert_eq(kid_end(&k), 1);
    says(k.printed, wanted);
    close(k.crash);
    room_close(&r);
}

Test(host, a_malformed_frame_from_the_core_ends_it_with_a_message)
{
    broken_core(EXJ_F_CALL, "abc", 3, "malformed CALL of 3 bytes");
    broken_core(EXJ_F_REPLY, "\0\0\0\0\0\0\0\0", 8, "asked nothing");
    broken_core(EXJ_F_RESULT, "", 0, "may not send");
    broken_core(EXJ_F_HELLO, "", 0, "may not send");
    broken_core(EXJ_F_CREATE, "\0\0\0\0\0\0\0\0", 8, "malformed CREATE");
}

Test(host, bytes_that_are_no_frame_end_it_with_a_message)
{
    struct kid k;

    kid_spawn(&k, "host", "2048", "-");
    cr_assert_eq(write(exj_wire_fd(k.wire), "GET / HTTP/1.1\r\n\r\n", 18), 18);
    cr_assert_eq(kid_end(&k), 1);
    says(k.printed, "exellix-jobs-plugin-host: plugin host connection: a frame");
    close(k.crash);
}

Test(host, a_core_that_goes_away_ends_it_quietly)
{
    struct room r = room_open();
    struct kid k;

    build(&r, "ok", "", ENGINE("0", "", EMIT_OK "; return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "ok", NULL);
    shutdown(exj_wire_fd(k.wire), SHUT_RDWR);
    cr_assert_eq(kid_end(&k), 0, "%s", k.printed);
    cr_assert_str_eq(k.printed, "");
    close(k.crash);
    room_close(&r);
}

Test(host, a_core_that_goes_away_ends_a_call_that_never_ends)
{
    struct room r = room_open();
    struct kid k;

    build(&r, "loops", "", ENGINE("0", "static volatile int go = 1;",
                                  "h->progress(h->ctx, c, 0.0, exj_text(\"begun\"));"
                                  "while (go) ; return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "loops", NULL);
    say_call(&k, 1, "{}", RUNTIME, 0);
    next_of(&k, EXJ_F_PROGRESS);
    close(k.cancel);
    k.cancel = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for kid_end to close */
    cr_assert_eq(kid_end(&k), 0, "%s", k.printed);
    close(k.crash);
    room_close(&r);
}
