/* [child] `plugin replay`: one call of the plugin in a bundle, offline. Steps and keys come
 * from the bundle and go back into it, into files of their own; nothing else is touched. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/job/outcome.h"
#include "core/main/cmd_plugin.h"
#include "core/plugin/plugin.h"

#define STEPS_MOST 100000u

struct replay {
    const char *dir;
    json_t *steps;   /* {"key":value}: as recorded */
    json_t *commits; /* {"key":value}: of this run */
    json_t *kv;      /* {"key":value}; NULL: the bundle has none */
    unsigned given;  /* steps given back */
    exj_nsec deadline;
};

static const char *in_bundle(const struct replay *p, const char *name)
{
    static char path[4200];

    snprintf(path, sizeof(path), "%s/%s", p->dir, name);
    return path;
}

static int32_t is_cancelled(void *user)
{
    const struct replay *p = user;

    return p->deadline && exj_clock_mono_ns() >= p->deadline ? EXJ_R_DEADLINE : 0;
}

static exj_code get_from(const json_t *object, exj_slice key, exj_buf *ret, exj_err *err)
{
    char *name = exj_slice_dup(key);
    const json_t *v = name ? json_object_get(object, name) : NULL;
    exj_code rc = !name ? exj_err_set(err, EXJ_NOMEM, "out of memory")
                  : !v  ? exj_err_set(err, EXJ_NOT_FOUND, "no \"%.200s\"", name)
                        : exj_json_print(v, false, ret, err);

    free(name);
    return rc;
}

static exj_code put_into(json_t *object, exj_slice key, exj_slice text, exj_err *err)
{
    char *name = exj_slice_dup(key);
    json_t *v = NULL;
    exj_code rc = name ? exj_json_parse(text, &v, err)
                       : exj_err_set(err, EXJ_NOMEM, "out of memory");

    if (rc == EXJ_OK && json_object_set_new(object, name, v))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    free(name);
    return rc;
}

static exj_code step_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct replay *p = user;
    exj_code rc = get_from(p->commits, key, ret, NULL);

    if (rc != EXJ_NOT_FOUND)
        return rc;
    rc = get_from(p->steps, key, ret, err);
    p->given += rc == EXJ_OK;
    return rc;
}

static exj_code step_put(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    struct replay *p = user;
    exj_buf there = EXJ_BUF_INIT;
    exj_code rc = step_get(user, key, &there, NULL);

    exj_buf_release(&there);
    if (rc == EXJ_OK)
        return EXJ_OK; /* the first one stands */
    if (json_object_size(p->commits) >= STEPS_MOST)
        return exj_err_set(err, EXJ_FULL, "over %u steps", STEPS_MOST);
    rc = put_into(p->commits, key, body, err);
    return rc == EXJ_OK ? exj_tool_write_json(in_bundle(p, "commits.json"), p->commits, err) : rc;
}

static exj_code kv_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    return get_from(((struct replay *)user)->kv, key, ret, err);
}

static exj_code kv_put(void *user, exj_slice key, exj_slice text, exj_err *err)
{
    return put_into(((struct replay *)user)->kv, key, text, err);
}

static exj_code kv_remove(void *user, exj_slice key, exj_err *err)
{
    char *name = exj_slice_dup(key);
    exj_code rc = name && json_object_del(((struct replay *)user)->kv, name) == 0
                      ? EXJ_OK
                      : exj_err_set(err, EXJ_NOT_FOUND, "no such key");

    free(name);
    return rc;
}

static exj_code kv_add(void *user, exj_slice key, int64_t delta, int64_t *ret, exj_err *err)
{
    struct replay *p = user;
    char *name = exj_slice_dup(key);
    const json_t *v = name ? json_object_get(p->kv, name) : NULL;
    exj_code rc = EXJ_OK;
    int64_t sum = 0;

    if (!name)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    if ((v && !json_is_integer(v)) ||
        __builtin_add_overflow((int64_t)json_integer_value(v), delta, &sum))
        rc = exj_err_set(err, EXJ_INVALID, "\"%.200s\" is no integer, or the sum does not fit",
                         name);
    else if (json_object_set_new(p->kv, name, json_integer(sum)))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    else
        *ret = sum;
    free(name);
    return rc;
}

static const char *result_word(exj_result r)
{
    static const char *const words[] = { "ok", "pending", "failed", "retry", "cancelled",
                                         "deadline", "input", "unsupported", "internal" };

    return r >= 0 && (size_t)r < sizeof(words) / sizeof(*words) ? words[r] : "unknown";
}

/* What the worker would make of it: a status, and an error or null. */
static json_t *judge(const struct replay *p, const exj_call_end *end, exj_nsec took)
{
    exj_answer answer = EXJ_ANSWER_FAILED;
    static const char *const statuses[] = { "completed", "failed", "blocked", "suspended" };
    exj_slice code = end->error_code, text = end->error_text;
    exj_slice quoted_code = { 0 }, quoted_text = { 0 };
    exj_buf plain_code = EXJ_BUF_INIT, plain_text = EXJ_BUF_INIT;
    json_t *shown = NULL, *error = json_null();
    exj_err why = { 0 };
    bool failed = true;
    json_t *o;

    if (end->answer.n && exj_json_parse(end->answer, &shown, NULL) != EXJ_OK)
        shown = exj_utf8_is_valid(end->answer)
                    ? json_stringn(end->answer.p, end->answer.n)
                    : json_string("(bytes that are not UTF-8)");
    if (end->result == EXJ_R_OK) {
        if (end->emits != 1) {
            code = EXJ_SLICE_LITERAL("NoAnswer");
            text = end->emits ? EXJ_SLICE_LITERAL("answered more than once")
                              : EXJ_SLICE_LITERAL("returned without an answer");
        } else if (exj_answer_check(end->answer, &answer, &quoted_code, &quoted_text, NULL, &why)) {
            code = EXJ_SLICE_LITERAL("AnswerRefused");
            text = exj_slice_of(why.text);
        } else {
            failed = answer == EXJ_ANSWER_FAILED;
            code = EXJ_SLICE_LITERAL("GraphFailed");
            if (quoted_code.n && exj_json_unescape(quoted_code, &plain_code))
                code = exj_buf_slice(&plain_code);
            if (quoted_text.n && exj_json_unescape(quoted_text, &plain_text))
                text = exj_buf_slice(&plain_text);
        }
    }
    if (failed) {
        json_decref(error);
        error = json_pack("{s:s%,s:s%}", "code", code.n ? code.p : "", code.n, "message",
                          text.n ? text.p : "", text.n);
    }
    o = json_pack("{s:s,s:s,s:o,s:o,s:i,s:i,s:f}", "status",
                  failed ? "failed" : statuses[answer], "result", result_word(end->result),
                  "error", error ? error : json_null(), "answer", shown ? shown : json_null(),
                  "stepsGiven", (int)p->given, "stepsCommitted",
                  (int)json_object_size(p->commits), "milliseconds", (double)(took / 1000) / 1e3);
    exj_buf_release(&plain_code);
    exj_buf_release(&plain_text);
    return o;
}

static exj_code read_text(const struct replay *p, const char *name, exj_buf *ret, exj_err *err)
{
    return exj_tool_read(in_bundle(p, name), EXJ_JSON_MAX_BYTES, ret, err);
}

static exj_str str_of(const char *text)
{
    return (exj_str){ text, strlen(text) };
}

static json_t *replay(struct replay *p, const json_t *about, bool no_deadline, exj_err *err)
{
    exj_call_ports ports = { .user = p, .cancelled = is_cancelled, .step_get = step_get,
                             .step_put = step_put };
    exj_args a = { .size_of = EXJ_SIZE(exj_args, token), .deadline_ns = UINT64_MAX };
    exj_buf model = EXJ_BUF_INIT, runtime = EXJ_BUF_INIT, own_model = EXJ_BUF_INIT;
    const char *row = json_string_value(json_object_get(about, "row"));
    const char *record = json_string_value(json_object_get(about, "recordId"));
    const char *graph = json_string_value(json_object_get(about, "graphId"));
    int64_t timeout = json_integer_value(json_object_get(about, "timeoutMs"));
    char file[4200], copies[4200];
    exj_registry_options rules = { .dirs = (const char *const[]){ p->dir, NULL },
                                   .private_dir = copies, .throw_away = true };
    exj_registry *r = NULL;
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_call_slot *slot = NULL;
    exj_call_end end = { 0 };
    exj_guest_info info;
    exj_nsec began;
    json_t *o = NULL;

    snprintf(file, sizeof(file), "%s", in_bundle(p, "plugin.so"));
    snprintf(copies, sizeof(copies), "%s", in_bundle(p, "loaded"));
    if (!row || !record || !graph) {
        exj_err_set(err, EXJ_INVALID, "%s: row, recordId or graphId is missing",
                    in_bundle(p, "bundle.json"));
        goto out;
    }
    /* Copies stay in the bundle: gdb reads symbols from them. */
    if (exj_registry_open(&rules, &r, err) != EXJ_OK ||
        exj_registry_find(r, file, EXJ_KIND_GRAPH_ENGINE, &g, err) != EXJ_OK ||
        exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, err) != EXJ_OK ||
        exj_call_slot_new(EXJ_ANSWER_MAX_BYTES, &slot, err) != EXJ_OK ||
        read_text(p, "model.json", &model, err) != EXJ_OK ||
        read_text(p, "runtime.json", &runtime, err) != EXJ_OK)
        goto out;
    if (exj_instance_model(i, exj_slice_of(graph), &own_model, NULL) == EXJ_OK) {
        exj_buf_reset(&model); /* the plugin's own goes first, as in the worker */
        exj_buf_add_slice(&model, exj_buf_slice(&own_model));
    }
    if (p->kv) {
        ports.kv_get = kv_get;
        ports.kv_put = kv_put;
        ports.kv_remove = kv_remove;
        ports.kv_add = kv_add;
    }
    began = exj_clock_mono_ns();
    if (timeout > 0 && !no_deadline) {
        p->deadline = began + timeout * 1000000;
        a.deadline_ns = (uint64_t)p->deadline;
    }
    a.attempt = (uint32_t)json_integer_value(json_object_get(about, "attempt"));
    a.token = (uint64_t)json_integer_value(json_object_get(about, "token"));
    a.model = (exj_str){ model.p, model.n };
    a.runtime = (exj_str){ runtime.p, runtime.n };
    a.job_id = str_of(row);
    a.record_id = str_of(record);
    exj_call_run(i, slot, &a, &ports, &end, NULL);
    o = judge(p, &end, exj_clock_mono_ns() - began);
    exj_guest_describe(g, &info);
    json_object_set_new(o, "plugin", json_pack("{s:s,s:s,s:s}", "id", info.id, "version",
                                               info.version, "sha256", info.sha256));
    if (p->kv)
        exj_tool_write_json(in_bundle(p, "kv-after.json"), p->kv, NULL);
out:
    exj_instance_free(i);
    exj_call_slot_free(slot);
    exj_registry_free(r);
    exj_buf_release(&model);
    exj_buf_release(&runtime);
    exj_buf_release(&own_model);
    return o;
}

/* DIR [no-deadline]: with the second word a debugger holds it, and people read what it says. */
int exj_tool_replay_child(const char *const *args, int len)
{
    bool debugged = len == 2 && strcmp(args[1], "no-deadline") == 0;
    struct replay p = { .dir = args[0], .commits = json_object() };
    int fd = exj_tool_take_stdout();
    json_t *about = NULL, *o = NULL;
    exj_err err = { 0 };

    if (len < 1 || len > 2)
        return 2;
    remove(in_bundle(&p, "commits.json"));
    remove(in_bundle(&p, "kv-after.json"));
    if (exj_tool_read_json(in_bundle(&p, "bundle.json"), &about, &err) == EXJ_OK &&
        exj_tool_read_json(in_bundle(&p, "steps.json"), &p.steps, &err) == EXJ_OK) {
        exj_tool_read_json(in_bundle(&p, "kv.json"), &p.kv, NULL); /* may be absent */
        o = replay(&p, about, debugged, &err);
    }
    if (!o)
        o = json_pack("{s:s,s:i}", "refused", err.code ? err.text : "out of memory", "code",
                      (int)err.code);
    exj_tool_say(fd, o);
    if (debugged)
        dprintf(fd, "\n");
    json_decref(o);
    json_decref(about);
    json_decref(p.steps);
    json_decref(p.commits);
    json_decref(p.kv);
    return 0;
}
