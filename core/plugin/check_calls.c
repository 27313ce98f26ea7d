/* core/plugin/check_calls.c - grade 4 of `plugin check`: its own self_test, a good call, wrong
 * ones, one that is cancelled, one that is late, many at once. In the child that may crash. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/plugin/check_inside.h"

#define SAMPLE_NS ((exj_nsec)2 * 1000 * 1000 * 1000)
#define SLOW_NS ((exj_nsec)1000 * 1000 * 1000)
#define ANSWER_MAX (8u * 1024u * 1024u)
#define THREADS 4
#define THREAD_CALLS 50

struct sample {
    uint32_t records;
    bool wrong;
    exj_err err;
};

static exj_result sample_emit(void *user, exj_slice json)
{
    struct sample *s = user;
    exj_json_kind kind;
    exj_json_iter it;
    bool id = false, record = false, next = false;

    if (exj_json_check(json, EXJ_JSON_MAX_DEPTH, &kind, &s->err) != EXJ_OK ||
        kind != EXJ_JSON_OBJECT) {
        exj_err_set(&s->err, EXJ_INVALID, "wanted an object");
        s->wrong = true;
        return EXJ_R_INPUT;
    }
    exj_json_iter_init(&it, json);
    while (exj_json_iter_next(&it)) {
        id |= exj_json_key_is(it.key, "id") && it.kind == EXJ_JSON_STRING;
        record |= exj_json_key_is(it.key, "record") && it.kind == EXJ_JSON_OBJECT;
        next |= exj_json_key_is(it.key, "next");
    }
    if (!next && !(id && record)) {
        exj_err_set(&s->err, EXJ_INVALID,
                    "wanted {\"id\":\"…\",\"record\":{…}} or {\"next\":…}, found %.*s",
                    json.n < 100 ? (int)json.n : 100, json.p);
        s->wrong = true;
        return EXJ_R_INPUT;
    }
    return ++s->records < 10 ? EXJ_R_OK : EXJ_R_CANCELLED;
}

static exj_str str_of(const char *s)
{
    return (exj_str){ s, strlen(s) };
}

static void judge_answer(const exj_guest *g, exj_slice answer)
{
    exj_json_kind kind;
    exj_json_iter it;
    exj_err err = { 0 };
    bool status = false;

    if (exj_json_check(answer, EXJ_JSON_MAX_DEPTH, &kind, &err) || kind != EXJ_JSON_OBJECT) {
        exj_check_find("fail", "AnswerNotJson", "emit one JSON object",
             "%s: the answer is no JSON object: %s", g->id, err.text);
        return;
    }
    exj_json_iter_init(&it, answer);
    while (exj_json_iter_next(&it))
        if (exj_json_key_is(it.key, "status"))
            status = exj_slice_is(it.value, "\"completed\"") ||
                     exj_slice_is(it.value, "\"failed\"") ||
                     exj_slice_is(it.value, "\"blocked\"") ||
                     exj_slice_is(it.value, "\"suspended\"");
    if (status)
        exj_check_find("ok", "SampleCall", "", "%s: answers an empty record", g->id);
    else
        exj_check_find("fail", "AnswerStatus", "emit \"status\" as one of completed, failed, blocked, "
             "suspended", "%s: the answer has no such status: %.200s", g->id, answer.p);
}

/* What a sink says about events that it did not keep; "" when it can be read. */
static const char *wrong_in_failed(exj_slice answer)
{
    static const char form[] = "wanted {\"failed\":[{\"number\":…,\"error\":\"…\"}]}";
    exj_json_kind kind;
    json_t *o = NULL, *list, *f;
    const char *why = "";
    size_t k;

    if (exj_json_check(answer, EXJ_JSON_MAX_DEPTH, &kind, NULL) != EXJ_OK ||
        exj_json_parse(answer, &o, NULL) != EXJ_OK)
        return "no JSON";
    list = json_object_get(o, "failed");
    if (!json_is_object(o) || (list && !json_is_array(list)))
        why = form;
    json_array_foreach(list, k, f)
        if (!json_is_integer(json_object_get(f, "number")) ||
            !json_is_string(json_object_get(f, "error")))
            why = form;
    json_decref(o);
    return why;
}

static void judge_failed(const exj_guest *g, exj_slice answer)
{
    const char *why = answer.n ? wrong_in_failed(answer) : "";

    if (*why)
        exj_check_find("fail", "AnswerFailed", "see the event sink part of plugin.h",
                       "%s: %s, found %.*s", g->id, why, answer.n < 100 ? (int)answer.n : 100,
                       answer.p);
    else
        exj_check_find("ok", "SampleCall", "", "%s: %s one event", g->id,
                       answer.n ? "answers about" : "takes");
}

/* One call, and what came of it. */
struct call {
    struct sample sample;
    exj_call_ports ports;
    exj_args args;
    exj_call_end end;
    exj_nsec took;
};

#define RUNTIME(input)                                                                     \
    "{\"jobId\":\"check-1\",\"job\":{\"matrixRowId\":\"1\","                                  \
    "\"matrixCatalogId\":\"check\",\"matrixRunId\":null,\"graphId\":\"check\","               \
    "\"attempt\":1},\"input\":" input ",\"executionMemory\":{}}"
#define CURSOR(cursor)                                                                     \
    "{\"matrixCatalogId\":\"check\",\"matrixRunId\":null,\"kind\":\"record\","            \
    "\"cursor\":" cursor ",\"config\":{}}"

#define EVENTS(list) "{\"sink\":\"check\",\"events\":" list "}"
#define EVENT                                                                              \
    "{\"number\":1,\"kind\":\"completed\",\"at\":\"2026-01-31T10:00:00.000Z\","             \
    "\"matrixRowId\":\"check||check|1\",\"matrixCatalogId\":\"check\","                     \
    "\"matrixRunId\":null,\"graphId\":\"check\",\"status\":\"completed\",\"attempt\":1,"     \
    "\"token\":1,\"key\":\"\",\"text\":\"\"}"

static bool is_engine(const exj_instance *i)
{
    return i->guest->vt.kind == EXJ_KIND_GRAPH_ENGINE;
}

static bool is_sink(const exj_instance *i)
{
    return i->guest->vt.kind == EXJ_KIND_EVENT_SINK;
}

static void run_call(exj_instance *i, exj_call_slot *slot, struct call *c, const char *model,
                     const char *runtime)
{
    exj_nsec began = exj_clock_mono_ns();

    c->ports.user = &c->sample;
    if (!is_engine(i) && !is_sink(i))
        c->ports.emit = sample_emit;
    c->args.size_of = EXJ_SIZE(exj_args, token);
    c->args.attempt = 1;
    c->args.token = 1;
    if (!c->args.deadline_ns)
        c->args.deadline_ns = (uint64_t)(began + SAMPLE_NS);
    c->args.model = str_of(model);
    c->args.runtime = str_of(runtime);
    c->args.job_id = str_of("check-1");
    c->args.record_id = str_of("check-1");
    exj_call_run(i, slot, &c->args, &c->ports, &c->end, NULL);
    c->took = exj_clock_mono_ns() - began;
}

static void run_sample(exj_instance *i, exj_call_slot *slot, struct call *c)
{
    if (is_engine(i))
        run_call(i, slot, c, "{\"id\":\"check\",\"nodes\":[]}", RUNTIME("{}"));
    else if (is_sink(i))
        run_call(i, slot, c, "", EVENTS("[" EVENT "]"));
    else
        run_call(i, slot, c, "{}", CURSOR("null"));
}

/* A call that no plugin may end like this, whatever it was given. */
static bool is_broken(const struct call *c)
{
    return c->sample.wrong || c->end.result == EXJ_R_INTERNAL ||
           exj_slice_is(c->end.error_code, "AnswerTooLarge");
}

static void find_broken(const exj_guest *g, const char *code, const char *what,
                        const struct call *c)
{
    if (c->sample.wrong)
        exj_check_find("fail", "RecordWrong", "see the source resolver part of plugin.h",
                       "%s: %s%s", g->id, what, c->sample.err.text);
    else
        exj_check_find("fail", code, "", "%s: %s%.*s: %.*s", g->id, what,
                       (int)c->end.error_code.n, c->end.error_code.p, (int)c->end.error_text.n,
                       c->end.error_text.p);
}

static void sample_call(exj_instance *i, exj_call_slot *slot)
{
    const exj_guest *g = i->guest;
    struct call c = { 0 };

    run_sample(i, slot, &c);
    if (is_broken(&c))
        find_broken(g, "SampleCall", "", &c);
    else if (c.end.result != EXJ_R_OK && c.end.result != EXJ_R_CANCELLED)
        exj_check_find("ok", "SampleCall", "", "%s: refuses %s: %.*s %.*s", g->id,
                       is_sink(i) ? "one event" : "an empty record", (int)c.end.error_code.n, c.end.error_code.p, (int)c.end.error_text.n,
                       c.end.error_text.p);
    else if (is_engine(i) && c.end.result == EXJ_R_OK)
        judge_answer(g, c.end.answer);
    else if (is_sink(i))
        judge_failed(g, c.end.answer);
    else
        exj_check_find("ok", "SampleCall", "", "%s: yields %u records with an empty config",
                       g->id, c.sample.records);
}

static exj_result run_self_test(exj_instance *i, exj_call c, const void *user)
{
    (void)user;
    return i->guest->vt.self_test(i->self, c);
}

static void self_test(exj_instance *i, exj_call_slot *slot)
{
    static const exj_call_ports none = { 0 };
    const exj_guest *g = exj_instance_guest(i);
    exj_call_end end;

    if (!g->vt.self_test)
        return;
    exj_check_phase("self_test", g->id);
    exj_call_other(i, slot, &none, run_self_test, NULL, &end);
    if (end.result == EXJ_R_OK || end.result == EXJ_R_UNSUPPORTED)
        exj_check_find("ok", "SelfTest", "", "%s: self_test passes", g->id);
    else
        exj_check_find("fail", "SelfTest", "", "%s: self_test answers %d: %.*s: %.*s", g->id,
             (int)end.result, (int)end.error_code.n, end.error_code.p, (int)end.error_text.n,
             end.error_text.p);
}


/* ---- what a plugin must survive ----------------------------------------------------------- */

/* Records are JSON when they come, but of any shape. A refusal is as good as an answer. */
static void wrong_input(exj_instance *i, exj_call_slot *slot)
{
    static const char *const engines[][2] = {
        { "{}", "{}" },
        { "{\"id\":\"check\",\"nodes\":null}", RUNTIME("{\"id\":1,\"name\":[[]],\"text\":{}}") },
        { "{\"id\":\"check\",\"nodes\":[]}",
          RUNTIME("{\"id\":\"\",\"name\":\"\",\"text\":\"\",\"path\":\"\",\"n\":-1e308}") },
        { "{\"id\":\"check\",\"nodes\":[]}",
          RUNTIME("{\"id\":\"\\u0001\\\"\\\\\",\"name\":\"%s%n\",\"path\":\"../../x\",\"n\":"
                  "9223372036854775807,\"a\":true,\"b\":null}") },
        { "{\"id\":\"check\",\"nodes\":[]}",
          RUNTIME("{\"name\":\"\\ud83d\\ude00\",\"deep\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]"
                  "]]]]]]]]]]]]]]]]]]]]]}") },
    };
    static const char *const resolvers[][2] = {
        { "{}", "{}" },
        { "{\"names\":7,\"path\":\"\",\"count\":-1,\"record\":null}", CURSOR("\"\"") },
        { "{\"names\":[1,null,[]],\"path\":\"\\u0001\",\"count\":1e308}", CURSOR("\"garbage\"") },
        { "{\"names\":{},\"query\":[[[[]]]],\"dir\":\"/nowhere/at/all\"}", CURSOR("\"99999\"") },
    };
    static const char *const sinks[][2] = {
        { "", "{}" },
        { "", EVENTS("null") },
        { "", EVENTS("[]") },
        { "", EVENTS("[1,null,[],{},{\"number\":\"1\",\"kind\":7,\"at\":[],\"graphId\":{}}]") },
        { "", EVENTS("[{\"number\":9223372036854775807,\"kind\":\"\\u0001%s%n\","
                     "\"matrixRowId\":\"../../x\",\"text\":\"\\ud83d\\ude00\"}]") },
    };
    const exj_guest *g = i->guest;
    const char *const(*inputs)[2] = is_engine(i) ? engines : is_sink(i) ? sinks : resolvers;
    size_t n = is_engine(i) ? sizeof engines / sizeof *engines
               : is_sink(i) ? sizeof sinks / sizeof *sinks
                            : sizeof resolvers / sizeof *resolvers;
    size_t refused = 0;

    exj_check_phase("wrong input", g->id);
    for (size_t k = 0; k < n; k++) {
        const char *const *in = inputs[k];
        struct call c = { 0 };
        char what[80];

        run_call(i, slot, &c, in[0], in[1]);
        snprintf(what, sizeof what, "with wrong input %zu: ", k + 1);
        if (is_broken(&c)) {
            find_broken(g, "WrongInput", what, &c);
            return;
        }
        refused += c.end.result != EXJ_R_OK;
    }
    exj_check_find("ok", "WrongInput", "", "%s: refuses %zu of %zu wrong inputs", g->id, refused,
                   n);
}

static int32_t say_cancelled(void *user)
{
    (void)user;
    return EXJ_R_CANCELLED;
}

static int32_t say_late(void *user)
{
    (void)user;
    return EXJ_R_DEADLINE;
}

/* Asked to stop before it began: it may answer all the same, but soon. */
static void stopped_call(exj_instance *i, exj_call_slot *slot, bool late)
{
    struct call c = { .ports = { .cancelled = late ? say_late : say_cancelled } };
    const char *word = late ? "Deadline" : "Cancel";

    if (late)
        c.args.deadline_ns = 1;
    exj_check_phase(late ? "a late call" : "a cancelled call", i->guest->id);
    run_sample(i, slot, &c);
    if (is_broken(&c))
        find_broken(i->guest, word, late ? "past its deadline: " : "cancelled: ", &c);
    else if (c.took > SLOW_NS)
        exj_check_find("warn", word, "ask cancelled() at least every 100 ms, or offer cancel",
                       "%s: needed %lld ms to end a call that was %s", i->guest->id,
                       (long long)(c.took / 1000000), late ? "late" : "cancelled");
    else
        exj_check_find("ok", word, "", "%s: a call that is %s ends within %lld ms", i->guest->id,
                       late ? "late" : "cancelled", (long long)(c.took / 1000000) + 1);
}

struct many {
    pthread_t thread;
    exj_instance *instance;
    bool started, broken;
};

static void *call_often(void *arg)
{
    struct many *m = arg;
    exj_call_slot *slot = NULL;

    if (exj_call_slot_new(ANSWER_MAX, &slot, NULL) != EXJ_OK)
        return NULL;
    for (int k = 0; k < THREAD_CALLS && !m->broken; k++) {
        struct call c = { 0 };

        run_sample(m->instance, slot, &c);
        m->broken = is_broken(&c);
    }
    exj_call_slot_free(slot);
    return NULL;
}

/* It says that one instance stands many threads. */
static void many_calls(exj_instance *i)
{
    struct many m[THREADS] = { 0 };
    bool broken = false;

    if (!(i->guest->vt.flags & EXJ_FLAG_CONCURRENT))
        return;
    exj_check_phase("calls at once", i->guest->id);
    for (int k = 0; k < THREADS; k++) {
        m[k].instance = i;
        m[k].started = pthread_create(&m[k].thread, NULL, call_often, &m[k]) == 0;
    }
    for (int k = 0; k < THREADS; k++)
        if (m[k].started) {
            pthread_join(m[k].thread, NULL);
            broken |= m[k].broken;
        }
    if (broken)
        exj_check_find("fail", "Concurrent", "lock what calls share, or drop EXJ_FLAG_CONCURRENT",
                       "%s: calls at once fail that succeed alone", i->guest->id);
    else
        exj_check_find("ok", "Concurrent", "", "%s: %d threads in one instance", i->guest->id,
                       THREADS);
}

void exj_check_calls(exj_instance *i, exj_call_slot *slot)
{
    self_test(i, slot);
    exj_check_phase("execute", i->guest->id);
    sample_call(i, slot);
    wrong_input(i, slot);
    stopped_call(i, slot, false);
    stopped_call(i, slot, true);
    many_calls(i);
}
