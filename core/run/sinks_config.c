/* The file of sinks. */
#include <stdlib.h>

#include "core/run/sinks_inside.h"

struct reading {
    size_t nth;
    exj_err *err;
};

static exj_code wrong(const struct reading *r, const char *member, const char *wanted)
{
    return exj_err_set(r->err, EXJ_INVALID, "sinks[%zu].%s: %s", r->nth, member, wanted);
}

static bool is_name(const char *s)
{
    size_t n = strlen(s);

    return n >= 1 && n <= 64 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static exj_code take_seconds(const struct reading *r, const json_t *v, const char *member,
                             exj_msec *ret)
{
    double d = json_number_value(v);

    if (!json_is_number(v) || d < 0.001 || d > 86400)
        return wrong(r, member, "wanted seconds, 0.001 to 86400");
    *ret = (exj_msec)(d * 1000 + 0.5);
    return EXJ_OK;
}

static exj_code take_member(const struct reading *r, struct sink *s, const char *key,
                            const json_t *v)
{
    const char *text = json_string_value(v);

    if (strcmp(key, "name") == 0) {
        if (!text || !is_name(text))
            return wrong(r, "name", "wanted 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-'");
        s->name = strdup(text);
        return s->name ? EXJ_OK : exj_err_set(r->err, EXJ_NOMEM, "out of memory");
    }
    if (strcmp(key, "plugin") == 0) {
        if (!text || !*text)
            return wrong(r, "plugin", "wanted the id, the name or the path of an event sink");
        s->plugin = strdup(text);
        return s->plugin ? EXJ_OK : exj_err_set(r->err, EXJ_NOMEM, "out of memory");
    }
    if (strcmp(key, "config") == 0) {
        exj_buf b = EXJ_BUF_INIT;

        if (!json_is_object(v))
            return wrong(r, "config", "wanted an object");
        if (exj_json_print(v, false, &b, r->err) == EXJ_OK)
            s->config = exj_buf_take(&b);
        exj_buf_release(&b);
        return s->config ? EXJ_OK : exj_err_set(r->err, EXJ_NOMEM, "out of memory");
    }
    if (strcmp(key, "isolation") == 0)
        return exj_lane_parse(exj_slice_of(text), &s->lane, r->err)
                   ? wrong(r, "isolation", "wanted in-process, host or sandbox")
                   : EXJ_OK;
    if (strcmp(key, "maxAttempts") == 0) {
        json_int_t n = json_integer_value(v);

        if (!json_is_integer(v) || n < 1 || n > 1000)
            return wrong(r, "maxAttempts", "wanted an integer, 1 to 1000");
        s->retry.max_attempts = (uint32_t)n;
        return EXJ_OK;
    }
    if (strcmp(key, "firstRetrySeconds") == 0)
        return take_seconds(r, v, key, &s->retry.initial_ms);
    if (strcmp(key, "maxRetrySeconds") == 0)
        return take_seconds(r, v, key, &s->retry.max_ms);
    if (strcmp(key, "from") == 0) {
        s->from_now = text && strcmp(text, "now") == 0;
        return s->from_now || (text && strcmp(text, "start") == 0)
                   ? EXJ_OK
                   : wrong(r, "from", "wanted start or now");
    }
    if (strcmp(key, "results") == 0) {
        s->results = json_is_true(v);
        return json_is_boolean(v) ? EXJ_OK : wrong(r, "results", "wanted true or false");
    }
    return wrong(r, key, "unknown; wanted name, plugin, config, isolation, maxAttempts, "
                         "firstRetrySeconds, maxRetrySeconds, from, results");
}

static exj_code take_sink(const struct reading *r, exj_sinks *all, struct sink *s, json_t *o)
{
    const char *key;
    json_t *v;
    exj_code rc = EXJ_OK;

    s->all = all;
    s->retry = (exj_retry_policy){ .max_attempts = 10, .initial_ms = 1000, .max_ms = 300000,
                                   .factor = 2, .jitter = 0.5 };
    s->width = EXJ_SINK_EVENTS;
    pthread_mutex_init(&s->mu, NULL);
    {
        pthread_condattr_t a;

        pthread_condattr_init(&a);
        pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
        pthread_cond_init(&s->news, &a);
        pthread_condattr_destroy(&a);
    }
    all->len++; /* release ends it, whatever comes */
    if (!json_is_object(o))
        return exj_err_set(r->err, EXJ_INVALID, "sinks[%zu]: wanted an object", r->nth);
    json_object_foreach(o, key, v)
        if (!rc)
            rc = take_member(r, s, key, v);
    if (rc)
        return rc;
    if (!s->name)
        return wrong(r, "name", "is missing");
    if (!s->plugin)
        return wrong(r, "plugin", "is missing");
    if (s->retry.max_ms < s->retry.initial_ms)
        return wrong(r, "maxRetrySeconds", "wanted no less than firstRetrySeconds");
    for (struct sink *other = all->sinks; other < s; other++)
        if (strcmp(other->name, s->name) == 0)
            return wrong(r, "name", "another sink is called so");
    if (!s->config && !(s->config = strdup("{}")))
        return exj_err_set(r->err, EXJ_NOMEM, "out of memory");
    return EXJ_OK;
}

exj_code exj_sinks_read(exj_sinks *all, exj_slice config, exj_err *err)
{
    json_t *o = NULL, *list, *v;
    struct reading r = { .err = err };
    const char *key;
    exj_code rc = exj_json_parse(config, &o, err);

    if (rc)
        return rc;
    list = json_object_get(o, "sinks");
    if (!json_is_array(list) || json_array_size(list) > EXJ_SINKS_MOST)
        rc = exj_err_set(err, EXJ_INVALID, "wanted {\"sinks\":[…]} with at most %d sinks",
                         EXJ_SINKS_MOST);
    json_object_foreach(o, key, v)
        if (!rc && strcmp(key, "sinks") != 0)
            rc = exj_err_set(err, EXJ_INVALID, "%s: unknown; wanted {\"sinks\":[…]}", key);
    if (!rc && json_array_size(list)) {
        all->sinks = calloc(json_array_size(list), sizeof(*all->sinks));
        if (!all->sinks)
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    for (; !rc && r.nth < json_array_size(list); r.nth++)
        rc = take_sink(&r, all, &all->sinks[r.nth], json_array_get(list, r.nth));
    json_decref(o);
    return rc;
}

void exj_sinks_release(exj_sinks *all)
{
    for (size_t k = 0; k < all->len; k++) {
        struct sink *s = &all->sinks[k];

        exj_call_slot_free(atomic_load(&s->slot));
        exj_instance_free(s->instance);
        exj_guest_release(s->guest);
        for (size_t n = 0; n < s->held_len; n++)
            free(s->held[n].body);
        free(s->held);
        free(s->behind);
        exj_buf_release(&s->runtime);
        exj_buf_release(&s->bodies);
        pthread_cond_destroy(&s->news);
        pthread_mutex_destroy(&s->mu);
        free(s->name);
        free(s->plugin);
        free(s->config);
    }
    free(all->sinks);
    free(all);
}
