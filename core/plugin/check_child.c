/* core/plugin/check_child.c - the half of `plugin check` that may crash.
 *
 * Speaks in lines of JSON on what was fd 1 when it began: {"phase":…} before each step, so
 * that the parent can say where a crash happened, {"finding":{…}}, {"plugin":{…}} and
 * {"sha256":…}. Fd 1 itself then goes to standard error: a plugin that prints must not
 * speak for us.
 */
#include "core/plugin/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/plugin/lint.h"
#include "core/plugin/load.h"

#define SAMPLE_NS ((exj_nsec)2 * 1000 * 1000 * 1000)
#define ANSWER_MAX (8u * 1024u * 1024u)

static int report_fd = 1;
static bool failed;

static void say_take(json_t *line)
{
    exj_buf b = EXJ_BUF_INIT;

    if (line && exj_json_print(line, false, &b, NULL) == EXJ_OK && exj_buf_add_char(&b, '\n')) {
        for (size_t at = 0; at < b.n;) {
            ssize_t n = write(report_fd, b.p + at, b.n - at);

            if (n < 0 && errno != EINTR)
                break;
            at += n > 0 ? (size_t)n : 0;
        }
    }
    exj_buf_release(&b);
    json_decref(line);
}

static void phase(const char *name, const char *id)
{
    say_take(json_pack("{s:s++}", "phase", name, *id ? " of " : "", id));
}

static void find(const char *level, const char *code, const char *fix, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void find(const char *level, const char *code, const char *fix, const char *format, ...)
{
    char raw[700], text[700];
    va_list ap;

    va_start(ap, format);
    vsnprintf(raw, sizeof raw, format, ap);
    va_end(ap);
    exj_clean_text(raw, strlen(raw), text, sizeof text);
    failed |= strcmp(level, "fail") == 0;
    say_take(json_pack("{s:{s:s,s:s,s:s,s:s}}", "finding", "level", level, "code", code, "message",
                       text, "fix", fix));
}

/* ---- from the file alone -------------------------------------------------------------- */

static void lint_file(const char *file)
{
    exj_lint *l = malloc(sizeof *l);
    exj_err err = { 0 };
    char why[200];

    if (!l || exj_lint_file(file, l, &err) != EXJ_OK) {
        find("fail", "Unreadable", "", "%s", l ? err.text : "out of memory");
    } else {
        for (unsigned k = 0; k < l->findings_len; k++)
            find(l->findings[k].level, l->findings[k].code, l->findings[k].fix, "%s",
                 l->findings[k].message);
        exj_lint_why(l, why, sizeof why);
        find("ok", "ReloadClass", "", "an old version of it would be %s", why);
    }
    free(l);
}

/* ---- by running it -------------------------------------------------------------------- */

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
        find("fail", "AnswerNotJson", "emit one JSON object",
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
        find("ok", "SampleCall", "", "%s: answers an empty record", g->id);
    else
        find("fail", "AnswerStatus", "emit \"status\" as one of completed, failed, blocked, "
             "suspended", "%s: the answer has no such status: %.200s", g->id, answer.p);
}

static void sample_call(exj_instance *i, exj_call_slot *slot)
{
    const exj_guest *g = exj_instance_guest(i);
    struct sample s = { 0 };
    exj_call_ports ports = { .user = &s };
    exj_args a = { .attempt = 1, .deadline_ns = (uint64_t)(exj_clock_mono_ns() + SAMPLE_NS),
                   .token = 1 };
    bool engine = g->vt.kind == EXJ_KIND_GRAPH_ENGINE;
    exj_call_end end;

    a.job_id = str_of("check-1");
    a.record_id = str_of("check-1");
    if (engine) {
        a.model = str_of("{\"id\":\"check\",\"nodes\":[]}");
        a.runtime = str_of("{\"jobId\":\"check-1\",\"job\":{\"matrixRowId\":\"1\","
                           "\"matrixCatalogId\":\"check\",\"matrixRunId\":null,"
                           "\"graphId\":\"check\",\"attempt\":1},\"input\":{},"
                           "\"executionMemory\":{}}");
    } else {
        ports.emit = sample_emit;
        a.model = str_of("{}");
        a.runtime = str_of("{\"matrixCatalogId\":\"check\",\"matrixRunId\":null,"
                           "\"kind\":\"record\",\"cursor\":null,\"config\":{}}");
    }
    exj_call_run(i, slot, &a, &ports, &end, NULL);
    if (s.wrong)
        find("fail", "RecordWrong", "see the source resolver part of plugin.h", "%s: %s", g->id,
             s.err.text);
    else if (end.result == EXJ_R_INTERNAL || exj_slice_is(end.error_code, "AnswerTooLarge"))
        find("fail", "SampleCall", "", "%s: %.*s: %.*s", g->id, (int)end.error_code.n,
             end.error_code.p, (int)end.error_text.n, end.error_text.p);
    else if (end.result != EXJ_R_OK && end.result != EXJ_R_CANCELLED)
        find("ok", "SampleCall", "", "%s: refuses an empty record: %.*s %.*s", g->id,
             (int)end.error_code.n, end.error_code.p, (int)end.error_text.n, end.error_text.p);
    else if (engine && end.result == EXJ_R_OK)
        judge_answer(g, end.answer);
    else
        find("ok", "SampleCall", "", "%s: yields %u records with an empty config", g->id,
             s.records);
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
    phase("self_test", g->id);
    exj_call_other(i, slot, &none, run_self_test, NULL, &end);
    if (end.result == EXJ_R_OK || end.result == EXJ_R_UNSUPPORTED)
        find("ok", "SelfTest", "", "%s: self_test passes", g->id);
    else
        find("fail", "SelfTest", "", "%s: self_test answers %d: %.*s: %.*s", g->id,
             (int)end.result, (int)end.error_code.n, end.error_code.p, (int)end.error_text.n,
             end.error_text.p);
}

static void check_guest(exj_guest *g)
{
    exj_instance *i = NULL;
    exj_call_slot *slot = NULL;
    exj_err err = { 0 };
    json_t *flags = json_array();
    static const struct { uint32_t bit; const char *name; } names[] = {
        { EXJ_FLAG_CONCURRENT, "concurrent" }, { EXJ_FLAG_SERIAL_ALL, "serialAll" },
        { EXJ_FLAG_BLOCKING, "blocking" },     { EXJ_FLAG_OWN_THREADS, "ownThreads" },
        { EXJ_FLAG_ASYNC, "async" },           { EXJ_FLAG_REPLAYABLE, "replayable" },
    };

    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (g->vt.flags & names[k].bit)
            json_array_append_new(flags, json_string(names[k].name));
    say_take(json_pack("{s:{s:s,s:s,s:s,s:o}}", "plugin", "id", g->id, "version", g->version,
                       "kind", g->vt.kind == EXJ_KIND_GRAPH_ENGINE ? "graph-engine"
                                                                   : "source-resolver",
                       "flags", flags));
    if (g->describe.n == 0)
        find("warn", "NoDescription", "set describe: {\"summary\":\"…\",\"config\":{…}}",
             "%s describes neither itself nor its config", g->id);
    phase("create", g->id);
    if (exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err) != EXJ_OK) {
        find("warn", "CreateFails", "accept an empty config, or say in describe what is needed",
             "%s", err.text);
        return;
    }
    if (exj_call_slot_new(ANSWER_MAX, &slot, &err) != EXJ_OK) {
        find("fail", "NoMemory", "", "%s", err.text);
        return;
    }
    self_test(i, slot);
    phase("execute", g->id);
    sample_call(i, slot);
    phase("destroy", g->id);
    exj_instance_free(i);
    exj_call_slot_free(slot);
}

int exj_plugin_check_child(const char *file)
{
    exj_registry *r = NULL;
    exj_plugin_file *f = NULL;
    exj_probe probe;
    exj_err err = { 0 };
    char *path = realpath(file, NULL);
    int fd = fcntl(1, F_DUPFD_CLOEXEC, 3);

    if (fd >= 0) {
        report_fd = fd;
        dup2(2, 1);
    }
    phase("probe", "");
    if (!path) {
        find("fail", "Unreadable", "", "%s: %s", file, strerror(errno));
        goto out;
    }
    if (exj_probe_file(path, &probe, &err) != EXJ_OK) {
        find("fail", "Refused", "", "%s", err.text);
        goto out;
    }
    say_take(json_pack("{s:s}", "sha256", probe.sha256));
    find("ok", "Probe", "", "ABI %u.%u, %llu bytes", probe.abi_major, probe.abi_minor,
         (unsigned long long)probe.bytes);
    lint_file(path);
    phase("load", "");
    if (exj_registry_new(NULL, NULL, &r, &err) != EXJ_OK ||
        exj_registry_open_file(r, path, &f, &err) != EXJ_OK) {
        find("fail", "Refused", "", "%s", err.text);
        goto out;
    }
    find("ok", "Load", "", "loads; %zu plugin(s)", f->guests_len);
    for (size_t k = 0; k < f->guests_len; k++)
        check_guest(&f->guests[k]);
    if (exj_plugin_misdeeds())
        find("fail", "Misbehaves", "see the messages on standard error",
             "did %llu things that the ABI forbids", (unsigned long long)exj_plugin_misdeeds());
    phase("exit", "");
out:
    exj_registry_free(r);
    free(path);
    return failed ? 1 : 0;
}
