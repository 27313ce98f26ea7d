/* exellix.sink-webhook - events as signed POSTs to an address (docs/sinks.md). */
#include <stdio.h>

#include "exellix/plugin.h"
#include "exellix/sink.h"
#include "post.h"

struct sink {
    const exj_host *host;
    exj_webhook_config config;
    exj_poster *poster;
    exj_sink_batch batch;
    size_t group[EXJ_SINK_EVENTS]; /* events of the request that is made now */
    size_t group_n;
    exj_json_out body;
    exj_call call; /* the one that runs */
};

static void refuse(const exj_host *h, exj_call c, exj_result r, const char *code, const char *why)
{
    h->error(h->ctx, c, r, exj_text(code), exj_text(why));
}

static void destroy(void *instance)
{
    struct sink *s = instance;

    exj_poster_free(s->poster);
    exj_webhook_config_release(&s->config);
    exj_json_out_release(&s->body);
    free(s);
    curl_global_cleanup();
}

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    struct sink *s = calloc(1, sizeof *s);
    char why[EXJ_WEBHOOK_WHY_BYTES];

    if (!s)
        return EXJ_R_RETRY;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(s);
        return EXJ_R_RETRY;
    }
    s->host = host;
    if (!exj_webhook_config_read(config, &s->config, why)) {
        refuse(host, 0, EXJ_R_INPUT, "InvalidConfig", why);
        destroy(s);
        return EXJ_R_INPUT;
    }
    s->poster = exj_poster_new(&s->config);
    if (!s->poster) {
        destroy(s);
        return EXJ_R_RETRY;
    }
    if (s->config.secret_is_open)
        host->log(host->ctx, 0, EXJ_LOG_LEVEL_WARN,
                  exj_text("config.secretFile can be read by everybody on this machine"));
    *instance = s;
    return EXJ_R_OK;
}

static int32_t stop(void *user)
{
    const struct sink *s = user;

    return s->host->cancelled(s->host->ctx, s->call);
}

/* ---- one request --------------------------------------------------------------------------- */

/* The next events from `at` on that are wanted and do not wait behind a failed one. */
static size_t gather(struct sink *s, size_t at)
{
    s->group_n = 0;
    for (; at < s->batch.n && s->group_n < s->config.per_request; at++)
        if (exj_sink_wants(&s->config.filter, &s->batch.events[at]) &&
            !exj_sink_is_behind(&s->batch, at))
            s->group[s->group_n++] = at;
    return at;
}

/* {"sink":…,"events":[…]}; false: no memory. */
static bool write_body(struct sink *s)
{
    static const exj_str null = EXJ_STR("null");

    exj_json_out_reset(&s->body);
    exj_json_begin_object(&s->body);
    exj_json_put_raw(&s->body, "sink", s->batch.sink.n ? s->batch.sink : null);
    exj_json_put_array(&s->body, "events");
    for (size_t k = 0; k < s->group_n; k++)
        exj_json_put_raw(&s->body, NULL, s->batch.events[s->group[k]].json);
    exj_json_end_array(&s->body);
    exj_json_end_object(&s->body);
    return !s->body.failed;
}

static void send_group(struct sink *s, uint64_t deadline_ns, exj_post_answer *ret)
{
    char events[80];
    const char *const headers[] = { events };

    snprintf(events, sizeof events, "X-Exellix-Events: %lld-%lld",
             (long long)s->batch.events[s->group[0]].number,
             (long long)s->batch.events[s->group[s->group_n - 1]].number);
    if (write_body(s)) {
        exj_poster_send(s->poster, exj_json_out_text(&s->body), headers, 1, deadline_ns, stop, s,
                        ret);
    } else {
        *ret = (exj_post_answer){ 0 };
        snprintf(ret->text, sizeof ret->text, "out of memory");
    }
    if (!ret->accepted)
        for (size_t k = 0; k < s->group_n; k++)
            exj_sink_fail(&s->batch, s->group[k], ret->text, ret->retry_after);
}

/* ---- a batch --------------------------------------------------------------------------------- */

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct sink *s = instance;
    const char *why = exj_sink_read(a->runtime, &s->batch);
    exj_post_answer answer = { .accepted = true };
    bool any = false; /* something was accepted */
    size_t at = 0;

    if (why) {
        refuse(s->host, c, EXJ_R_INPUT, "InvalidRequest", why);
        return EXJ_R_INPUT;
    }
    s->call = c;
    /* One that says no to these may take the next; one that cannot be reached, is too busy or
     * broken is left in peace. */
    while (at < s->batch.n && (answer.accepted || answer.reached)) {
        at = gather(s, at);
        if (!s->group_n)
            break;
        send_group(s, a->deadline_ns, &answer);
        any |= answer.accepted;
    }
    if (answer.stopped && !any)
        return answer.stopped;
    for (; at < s->batch.n; at++)
        if (exj_sink_wants(&s->config.filter, &s->batch.events[at]))
            exj_sink_fail(&s->batch, at, answer.stopped ? "stopped" : answer.text,
                          answer.retry_after);
    return exj_sink_answer(s->host, c, &s->batch);
}

static void cancel(void *instance, exj_call c)
{
    struct sink *s = instance;

    (void)c;
    exj_poster_wake(s->poster);
}

#define FLAGS EXJ_FLAG_BLOCKING

static const exj_plugin plugin = {
    .size_of = EXJ_SIZE(exj_plugin, cancel),
    .kind = EXJ_KIND_EVENT_SINK,
    .flags = FLAGS,
    .id = "exellix.sink-webhook",
    .version = "1.0.0",
    .describe = EXJ_STR(
        "{\"summary\":\"Posts events to an address, signed with HMAC-SHA256\",\"config\":{"
        "\"url\":\"https://…; http only to this machine\","
        "\"secret\":\"16 to 4096 bytes; signs each request\","
        "\"secretFile\":\"a file that holds the secret, instead\","
        "\"timeoutSeconds\":\"of a whole request, 1 to 300 (10)\","
        "\"connectTimeoutSeconds\":\"1 to 300 (5)\","
        "\"eventsPerRequest\":\"1 to 100 (100)\","
        "\"headers\":\"more headers: {\\\"Authorization\\\":\\\"…\\\"}\","
        "\"allowInsecure\":\"http to other machines, too (false)\","
        "\"events\":\"only these kinds: [\\\"completed\\\"] (all)\","
        "\"graphs\":\"only of these graphs: [\\\"g1\\\"] (all)\"},"
        "\"input\":{},\"output\":{}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .cancel = cancel,
};

static const exj_plugin *const plugins[] = { &plugin };

static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_EVENT_SINK, FLAGS)
