/* An event sink with moods: now and then it fails, is slow, says that it failed although it did
 * not, or is cancelled. What it took is written, one "NUMBER" a line, to config.log.
 *
 * Events "claimed" of rows called "dead-…" are refused until the file config.cure is there. */
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exellix/json.h"
#include "exellix/plugin.h"
#include "exellix/sink.h"

struct sink {
    const exj_host *host;
    char *log, *cure; /* owned */
    unsigned calls;
    exj_sink_batch batch;
};

static void destroy(void *instance)
{
    struct sink *s = instance;

    free(s->log);
    free(s->cure);
    free(s);
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    struct sink *s = calloc(1, sizeof *s);
    exj_str log, cure;

    if (!s)
        return EXJ_R_FAILED;
    s->host = h;
    if (exj_json_find(config, "log", &log))
        s->log = exj_json_to_text(log, NULL);
    if (exj_json_find(config, "cure", &cure))
        s->cure = exj_json_to_text(cure, NULL);
    if (!s->log || !s->cure) {
        destroy(s);
        return EXJ_R_INPUT;
    }
    *instance = s;
    return EXJ_R_OK;
}

static bool refuses(const struct sink *s, const exj_sink_event *e, bool cured)
{
    if (!cured && exj_json_string_is(e->kind, "claimed") && memmem(e->row.p, e->row.n, "dead-", 5))
        return true;
    return ((uint64_t)e->number * 0x9e3779b97f4a7c15u + s->calls * 0x632be59bd9b4e019u) >> 59 == 7;
}

/* One write, so that it is there whole. */
static bool write_down(const struct sink *s)
{
    char text[EXJ_SINK_EVENTS * 24];
    size_t n = 0;
    int fd = open(s->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    bool ok;

    for (size_t k = 0; k < s->batch.n; k++)
        if (!s->batch.events[k].failed)
            n += (size_t)snprintf(text + n, sizeof text - n, "%lld\n",
                                  (long long)s->batch.events[k].number);
    ok = fd >= 0 && write(fd, text, n) == (ssize_t)n;
    if (fd >= 0)
        close(fd);
    return ok;
}

static exj_result fail(const struct sink *s, exj_call c, const char *why)
{
    s->host->error(s->host->ctx, c, EXJ_R_RETRY, exj_text("Moody"), exj_text(why));
    return EXJ_R_RETRY;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct sink *s = instance;
    exj_sink_batch *b = &s->batch;
    bool cured = access(s->cure, F_OK) == 0;
    const char *why = exj_sink_read(a->runtime, b);
    unsigned mood = s->calls++;

    if (why)
        return fail(s, c, why);
    if (mood % 17 == 3)
        return fail(s, c, "not in the mood");
    if (mood % 5 == 2)
        for (int k = 0; k < 5; k++) {
            if (s->host->cancelled(s->host->ctx, c))
                return EXJ_R_CANCELLED;
            poll(NULL, 0, 1); /* it works */
        }
    for (size_t k = 0; k < b->n; k++)
        if (exj_sink_is_behind(b, k) || refuses(s, &b->events[k], cured))
            exj_sink_fail(b, k, "not this one", mood % 3);
    if (!write_down(s))
        return fail(s, c, "cannot write");
    if (mood % 19 == 5)
        return fail(s, c, "it was written, but who knows that");
    return exj_sink_answer(s->host, c, b);
}

static const exj_plugin sink = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_EVENT_SINK,
    .id = "race-sink",
    .version = "1.0.0",
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &sink };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0, plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_EVENT_SINK, 0)
