/* exellix.stub - the executor when none is configured (spec 1.4): every row completes with
 * empty outputs. It is also the smallest complete graph engine to read.
 *
 * One instance may be called from many threads: it keeps nothing but the host's table. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/json.h"
#include "exellix/plugin.h"

struct stub {
    const exj_host *host;
};

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    struct stub *s = malloc(sizeof *s);

    (void)config; /* has no settings */
    if (!s)
        return EXJ_R_RETRY;
    s->host = host;
    *instance = s;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    free(instance);
}

static exj_result refuse(struct stub *s, exj_call c, const char *why)
{
    s->host->error(s->host->ctx, c, EXJ_R_INPUT, (exj_str){ "InvalidRequest", 14 },
                   (exj_str){ why, strlen(why) });
    return EXJ_R_INPUT;
}

/* "input fields: subnetId, question", when one of the two is there. */
static void log_fields(struct stub *s, exj_call c, exj_str input)
{
    char line[512] = "input fields: ";
    size_t n = strlen(line);
    exj_json_cursor at = exj_json_members(input);
    exj_str key, value;
    bool wanted = false;

    while (exj_json_next_member(&at, &key, &value)) {
        int w;

        wanted |= exj_json_string_is(key, "subnetId") || exj_json_string_is(key, "question");
        if (key.n < 2 || n + key.n + 3 > sizeof line)
            continue;
        w = snprintf(line + n, sizeof line - n, "%s%.*s", n > 14 ? ", " : "", (int)key.n - 2,
                     key.p + 1);
        n += w > 0 ? (size_t)w : 0;
    }
    if (wanted)
        s->host->log(s->host->ctx, c, EXJ_LOG_LEVEL_INFO, (exj_str){ line, n });
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct stub *s = instance;
    exj_json_out out = EXJ_JSON_OUT_INIT;
    exj_str model_input, input, job_id, job, graph_id, found;
    exj_result r;

    /* The request is {model, runtime}: an `input` beside or above them is refused. */
    if (exj_json_find(a->model, "runtime", &found) ||
        exj_json_find(a->model, "input", &model_input))
        return refuse(s, c, "the request has a top-level `input` or `runtime` in its model; "
                            "wanted exactly { model, runtime }, with the record in "
                            "runtime.input");
    if (exj_json_find(a->runtime, "runtime", &found) || exj_json_find(a->runtime, "model", &found))
        return refuse(s, c, "`runtime` holds a whole request; wanted its jobId, job, input and "
                            "executionMemory");
    if (!exj_json_find(a->runtime, "job", &job) || exj_json_type(job) != '{')
        return refuse(s, c, "runtime.job is missing or no object");
    if (!exj_json_find(a->runtime, "input", &input) || exj_json_type(input) != '{')
        return refuse(s, c, "runtime.input is missing or no object");
    log_fields(s, c, input);

    if (!exj_json_find(a->runtime, "jobId", &job_id) || exj_json_type(job_id) != '"')
        job_id = (exj_str){ "null", 4 };
    if (!exj_json_find(job, "graphId", &graph_id) || exj_json_type(graph_id) != '"')
        graph_id = (exj_str){ "null", 4 };
    exj_json_begin_object(&out);
    exj_json_put_text(&out, "status", "completed");
    exj_json_put_raw(&out, "jobId", job_id);
    exj_json_put_text(&out, "taskId", "stub-task");
    exj_json_put_raw(&out, "graphId", graph_id);
    exj_json_put_raw(&out, "outputsByNodeId", (exj_str){ "{}", 2 });
    exj_json_put_raw(&out, "stepsResponses", (exj_str){ "[]", 2 });
    exj_json_put_raw(&out, "engineSnapshot", (exj_str){ "{}", 2 });
    exj_json_end_object(&out);
    if (out.failed) {
        exj_json_out_release(&out);
        return EXJ_R_RETRY;
    }
    r = s->host->emit(s->host->ctx, c, exj_json_out_text(&out));
    exj_json_out_release(&out);
    return r;
}

static exj_result self_test(void *instance, exj_call c)
{
    (void)instance;
    (void)c;
    return EXJ_R_OK;
}

static exj_result resolve_model(void *instance, exj_call c, exj_str graph_id)
{
    struct stub *s = instance;
    exj_json_out out = EXJ_JSON_OUT_INIT;
    exj_result r = EXJ_R_RETRY;

    exj_json_begin_object(&out);
    exj_json_put_string(&out, "id", graph_id);
    exj_json_put_raw(&out, "nodes", (exj_str){ "[]", 2 });
    exj_json_end_object(&out);
    if (!out.failed)
        r = s->host->emit(s->host->ctx, c, exj_json_out_text(&out));
    exj_json_out_release(&out);
    return r;
}

#define FLAGS (EXJ_FLAG_CONCURRENT | EXJ_FLAG_REPLAYABLE)

static const exj_plugin stub = {
    .size_of = EXJ_SIZE(exj_plugin, resolve_model),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = FLAGS,
    .id = "exellix.stub",
    .version = "1.0.0",
    .describe = EXJ_STR("{\"summary\":\"Completes every row with empty outputs\","
                        "\"config\":{},\"input\":{},\"output\":{}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .self_test = self_test,
    .resolve_model = resolve_model,
};

static const exj_plugin *const plugins[] = { &stub };

static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, FLAGS)
