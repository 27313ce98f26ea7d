/* `plugin bench`: how long a call of a plugin takes on each lane, with a small and a large
 * record: one call after another, from one thread. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/record.h"
#include "core/main/cmd_plugin.h"
#include "core/plugin/plugin.h"
#include "core/plugin/remote.h"

#define CALLS_DEFAULT 20000
#define CALLS_MOST 10000000
#define WARM_UP 100
#define RUN_NS ((exj_nsec)3 * 1000 * 1000 * 1000)
#define TIMEOUT_MS 60000u
#define ANSWER_MAX (8u * 1024u * 1024u)

/* ---- [child] ---------------------------------------------------------------------------- */

struct bench {
    exj_instance *instance;
    exj_call_slot *slot;
    const char *lane;
    bool engine;
    size_t calls;
    int64_t *took; /* ns of each call, room for `calls` */
};

static exj_result take_record(void *user, exj_slice json)
{
    (void)user, (void)json;
    return EXJ_R_OK;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double rounded(double v)
{
    return (double)(int64_t)(v * 100 + 0.5) / 100;
}

/* The plugin's input around `record`: what the worker would hand over. */
static bool wrap(const struct bench *b, exj_slice record, exj_buf *model, exj_buf *runtime)
{
    if (b->engine) {
        exj_buf_add_text(model, "{\"id\":\"bench\",\"nodes\":[]}");
        exj_buf_add_text(runtime,
                         "{\"jobId\":\"bench||bench|1\",\"job\":{\"matrixRowId\":"
                         "\"bench||bench|1\",\"matrixCatalogId\":\"bench\",\"matrixRunId\":null,"
                         "\"graphId\":\"bench\",\"attempt\":1},\"input\":");
        exj_buf_add_slice(runtime, record);
        exj_buf_add_text(runtime, ",\"executionMemory\":{}}");
    } else {
        exj_buf_add_slice(model, record);
        exj_buf_add_text(runtime, "{\"matrixCatalogId\":\"bench\",\"matrixRunId\":null,"
                                  "\"kind\":\"record\",\"cursor\":null,\"config\":{}}");
    }
    return !model->failed && !runtime->failed;
}

/* New reference; NULL: no memory. */
static json_t *measure(struct bench *b, exj_slice record)
{
    exj_buf model = EXJ_BUF_INIT, runtime = EXJ_BUF_INIT;
    exj_call_ports ports = { .emit = b->engine ? NULL : take_record };
    exj_args a = { .size_of = EXJ_SIZE(exj_args, token), .attempt = 1, .token = 1,
                   .deadline_ns = UINT64_MAX };
    exj_nsec began = 0, until = 0;
    size_t n = 0, failed = 0;
    exj_call_end end = { 0 };
    char error[400] = "";
    json_t *o = NULL;

    if (!wrap(b, record, &model, &runtime))
        goto out;
    a.model = (exj_str){ model.p, model.n };
    a.runtime = (exj_str){ runtime.p, runtime.n };
    a.job_id = (exj_str){ "bench||bench|1", 14 };
    a.record_id = (exj_str){ "1", 1 };
    for (size_t k = 0; k < WARM_UP && k < b->calls; k++)
        exj_call_run(b->instance, b->slot, &a, &ports, &end, NULL);
    began = exj_clock_mono_ns();
    until = began + RUN_NS;
    while (n < b->calls) {
        exj_nsec from = exj_clock_mono_ns(), to;

        exj_call_run(b->instance, b->slot, &a, &ports, &end, NULL);
        to = exj_clock_mono_ns();
        b->took[n++] = to - from;
        if (end.result != EXJ_R_OK && failed++ == 0)
            snprintf(error, sizeof(error), "%.*s: %.*s", (int)end.error_code.n,
                     end.error_code.p ? end.error_code.p : "", (int)end.error_text.n,
                     end.error_text.p ? end.error_text.p : "");
        if (to >= until)
            break;
    }
    until = exj_clock_mono_ns();
    qsort(b->took, n, sizeof(*b->took), by_size);
    o = json_pack("{s:s,s:I,s:I,s:I,s:f,s:f,s:f,s:s?}", "lane", b->lane, "bytes", (json_int_t)record.n, "calls",
                  (json_int_t)n, "failed", (json_int_t)failed, "callsPerSecond",
                  until > began ? rounded((double)n * 1e9 / (double)(until - began)) : 0.0,
                  "p50us",
                  rounded((double)b->took[n / 2] / 1e3), "p99us",
                  rounded((double)b->took[n - 1 - n / 100] / 1e3), "error", failed ? error : NULL);
out:
    exj_buf_release(&model);
    exj_buf_release(&runtime);
    return o;
}

/* A flat record of about `bytes` bytes. */
static bool make_record(size_t bytes, exj_buf *b)
{
    static const char head[] = "{\"id\":\"r-1\",\"name\":\"Ada\",\"text\":\"";

    exj_buf_reset(b);
    exj_buf_add_text(b, head);
    while (b->n + 2 < bytes && !b->failed)
        exj_buf_add_char(b, (char)('a' + b->n % 26));
    return exj_buf_add_text(b, "\"}");
}

/* exellix-jobs-plugin-host, beside this program. */
static void find_host(char *ret, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", ret, cap - 1);
    char *slash;

    ret[n > 0 ? n : 0] = '\0';
    slash = strrchr(ret, '/');
    n = slash ? slash - ret : 0;
    snprintf(ret + n, cap - (size_t)n, "/exellix-jobs-plugin-host");
}

static exj_code open_guest(const char *file, exj_lane lane, const exj_remote_settings *remote,
                           exj_registry **ret_registry, exj_guest **ret, exj_err *err)
{
    exj_registry_options o = { .lane = lane, .remote = remote };
    exj_err why = { 0 };
    exj_code rc = exj_registry_open(&o, ret_registry, err);

    if (rc != EXJ_OK)
        return rc;
    if (exj_registry_find_lane(*ret_registry, file, EXJ_KIND_GRAPH_ENGINE, lane, ret, &why) ==
            EXJ_OK ||
        exj_registry_find_lane(*ret_registry, file, EXJ_KIND_SOURCE_RESOLVER, lane, ret, NULL) ==
            EXJ_OK)
        return EXJ_OK;
    return exj_err_set(err, why.code, "%s", why.text);
}

/* FILE CALLS LANE RECORD */
static json_t *bench_file(const char *const *args, exj_err *err)
{
    static const size_t sizes[] = { 300, 65536 };
    json_t *runs = json_array(), *o = NULL;
    exj_buf record = EXJ_BUF_INIT;
    exj_registry *r = NULL;
    exj_guest *g = NULL;
    char host_exe[PATH_MAX];
    exj_remote_settings remote = { .host_exe = host_exe, .idle_ms = 60000, .grace_ms = 5000 };
    exj_lane lane = EXJ_LANE_IN_PROCESS;
    exj_guest_info info;
    struct bench b = { .lane = args[2], .calls = (size_t)strtoul(args[1], NULL, 10) };

    b.took = calloc(b.calls, sizeof(*b.took));
    if (!b.took || !runs) {
        exj_err_set(err, EXJ_NOMEM, "out of memory");
        goto out;
    }
    find_host(host_exe, sizeof(host_exe));
    if (exj_lane_parse(exj_slice_of(args[2]), &lane, err) != EXJ_OK ||
        open_guest(args[0], lane, &remote, &r, &g, err) != EXJ_OK)
        goto out;
    exj_guest_describe(g, &info);
    b.engine = info.kind == EXJ_KIND_GRAPH_ENGINE;
    if (exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &b.instance, err) != EXJ_OK ||
        exj_call_slot_new(ANSWER_MAX, &b.slot, err) != EXJ_OK)
        goto out;
    if (args[3][0] == '{')
        exj_buf_add_text(&record, args[3]);
    else if (args[3][0] && exj_tool_read(args[3], EXJ_RECORD_MAX_BYTES, &record, err) != EXJ_OK)
        goto out;
    if (args[3][0]) {
        json_array_append_new(runs, measure(&b, exj_buf_slice(&record)));
    } else {
        for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++)
            if (make_record(sizes[k], &record))
                json_array_append_new(runs, measure(&b, exj_buf_slice(&record)));
    }
    o = json_pack("{s:s,s:s,s:s,s:s,s:O}", "file", args[0], "id", info.id, "version",
                  info.version, "sha256", info.sha256, "runs", runs);
out:
    exj_instance_free(b.instance);
    exj_call_slot_free(b.slot);
    exj_guest_release(g);
    exj_registry_free(r);
    exj_buf_release(&record);
    json_decref(runs);
    free(b.took);
    return o;
}

int exj_tool_bench_child(const char *const *args, int len)
{
    int fd = exj_tool_take_stdout();
    exj_err err = { 0 };
    json_t *o;

    if (len != 4)
        return 2;
    exj_log_setup(EXJ_LOG_ERROR, false); /* a line for each call would be what is measured */
    o = bench_file(args, &err);
    if (!o)
        o = json_pack("{s:s,s:i}", "refused", err.code ? err.text : "out of memory", "code",
                      (int)err.code);
    exj_tool_say(fd, o);
    json_decref(o);
    return 0;
}

/* ---- the command ------------------------------------------------------------------------ */

static void add_real(exj_table *t, const json_t *o, const char *key, int digits)
{
    char text[48];

    snprintf(text, sizeof(text), "%.*f", digits, json_number_value(json_object_get(o, key)));
    exj_table_add(t, text);
}

static void print_runs(exj_cli *c, const json_t *said)
{
    exj_table t = EXJ_TABLE("LANE", "BYTES", "CALLS", "CALLS/S", "P50 US", "P99 US", "FAILED");
    json_t *run;
    size_t i;

    json_array_foreach(json_object_get(said, "runs"), i, run) {
        const char *error = json_string_value(json_object_get(run, "error"));

        exj_table_add(&t, json_string_value(json_object_get(run, "lane")));
        exj_table_add_number(&t, json_integer_value(json_object_get(run, "bytes")));
        exj_table_add_number(&t, json_integer_value(json_object_get(run, "calls")));
        add_real(&t, run, "callsPerSecond", 0);
        add_real(&t, run, "p50us", 2);
        add_real(&t, run, "p99us", 2);
        exj_table_add_number(&t, json_integer_value(json_object_get(run, "failed")));
        if (error)
            exj_tell(c, "first failure: %s; --record gives it one that it takes", error);
    }
    exj_table_print(&t, c->color);
}

/* Did at least one call of each run succeed? */
static bool worked(const json_t *said)
{
    json_t *run;
    size_t i;

    json_array_foreach(json_object_get(said, "runs"), i, run)
        if (json_integer_value(json_object_get(run, "failed")) >=
            json_integer_value(json_object_get(run, "calls")))
            return false;
    return json_array_size(json_object_get(said, "runs")) > 0;
}

static exj_exit check_record(exj_cli *c, const char *record)
{
    exj_buf text = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_code rc = EXJ_OK;

    if (record[0] == '{')
        exj_buf_add_text(&text, record);
    else
        rc = exj_tool_read(record, EXJ_RECORD_MAX_BYTES, &text, &err);
    if (rc == EXJ_OK && (rc = exj_record_check(exj_buf_slice(&text), &err)) != EXJ_OK)
        exj_err_prefix(&err, "--record");
    exj_buf_release(&text);
    return rc == EXJ_OK ? EXJ_EXIT_OK : exj_fail_err(c, &err);
}

/* One child a lane: what one leaves behind must not slow the next. */
static exj_exit bench_lane(exj_cli *c, const char *file, const char *calls, const char *lane,
                           const char *record, json_t **ret)
{
    exj_tool_end end = { 0 };
    exj_err err = { 0 };
    exj_exit status = EXJ_EXIT_OK;
    const char *refused;

    if (exj_tool_child(c->settings.exe, EXJ_TOOL_BENCH_WORD,
                       (const char *const[]){ file, calls, lane, record, NULL }, TIMEOUT_MS, &end,
                       &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    refused = json_string_value(json_object_get(end.said, "refused"));
    if (refused) {
        exj_err_set(&err, (exj_code)json_integer_value(json_object_get(end.said, "code")), "%s",
                    refused);
        status = exj_fail_err(c, &err);
    } else if (!end.said) {
        status = exj_fail(c, end.in_time ? EXJ_EXIT_FAILED : EXJ_EXIT_TIMEOUT,
                          "%s %s while it was measured; 'exellix-jobs plugin check' says where",
                          file, end.text);
    } else if (*ret) {
        json_array_extend(json_object_get(*ret, "runs"), json_object_get(end.said, "runs"));
    } else {
        *ret = json_incref(end.said);
    }
    json_decref(end.said);
    return status;
}

exj_exit exj_cmd_plugin_bench(exj_cli *c)
{
    static const char *const lanes[] = { "in-process", "host", "sandbox" };
    const char *record = c->flags[EXJ_CLI_RECORD] ? c->flags[EXJ_CLI_RECORD] : "";
    const char *only = c->flags[EXJ_CLI_LANE];
    bool known = !only;
    json_t *said = NULL;
    exj_err err = { 0 };
    exj_exit status = EXJ_EXIT_OK;
    char calls[32];
    char *file;
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_CALLS, 1, CALLS_MOST, CALLS_DEFAULT, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    for (size_t k = 0; k < sizeof(lanes) / sizeof(*lanes); k++)
        known |= only && strcmp(only, lanes[k]) == 0;
    if (!known)
        return exj_fail(c, EXJ_EXIT_USAGE, "--lane=%.80s: wanted in-process, host or sandbox",
                        only);
    if (*record && (status = check_record(c, record)) != EXJ_EXIT_OK)
        return status;
    file = exj_tool_find_plugin(c, c->args[0]);
    if (!file)
        return exj_fail(c, EXJ_EXIT_NOT_FOUND,
                        "no file \"%s\", neither here nor in the plugins directories",
                        c->args[0]);
    snprintf(calls, sizeof(calls), "%" PRId64, n);
    for (size_t k = 0; k < sizeof(lanes) / sizeof(*lanes) && status == EXJ_EXIT_OK; k++)
        if (!only || strcmp(only, lanes[k]) == 0)
            status = bench_lane(c, file, calls, lanes[k], record, &said);
    if (said && status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, said, false);
        else
            print_runs(c, said);
        if (status == EXJ_EXIT_OK && !worked(said))
            status = c->json ? EXJ_EXIT_FAILED
                             : exj_fail(c, EXJ_EXIT_FAILED, "%s: every call failed", file);
    }
    json_decref(said);
    free(file);
    return exj_out_finish(c, status);
}
