/* tests/plugins/sinks.h - sinks that are called as the worker calls them, and a small HTTP
 * server on the loopback that answers well, badly, for ever or not at all. */
#ifndef EXJ_TESTS_PLUGINS_SINKS_H
#define EXJ_TESTS_PLUGINS_SINKS_H

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "core/base/sha256.h"
#include "tests/plugins/house.h"

#define WEBHOOK_SO EXJ_BINARY_DIR "/bin/plugins/sink-webhook.so"
#define FILE_SO EXJ_BINARY_DIR "/bin/plugins/sink-file.so"

/* One event of row m||g1|ROW, and a batch of them as it is given and sent on. */
#define EVENT(number, row, kind)                                                            \
    "{\"number\":" #number ",\"kind\":\"" kind "\",\"at\":\"2026-01-31T10:00:00.000Z\","    \
    "\"matrixRowId\":\"m||g1|" row "\",\"graphId\":\"g1\",\"text\":\"\"}"
#define BATCH(events) "{\"sink\":\"s1\",\"events\":[" events "]}"

static char folder[64];

static inline void sinks_init(void)
{
    const char *tmp = getenv("TMPDIR");

    signal(SIGPIPE, SIG_IGN);
    snprintf(folder, sizeof folder, "%s/exj-sinks-XXXXXX",
             tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(folder));
}

static inline void sinks_fini(void)
{
    shell("rm -rf '%s'", folder);
}

static inline int64_t now_ms(void)
{
    return exj_clock_mono_ns() / 1000000;
}

static inline void spit(const char *name, const char *text)
{
    char path[200];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(text, f);
    fclose(f);
}

/* ---- the other side ----------------------------------------------------------------------------- */

enum answer {
    ANSWER_OK, ANSWER_500, ANSWER_429, ANSWER_400_TO_A, ANSWER_REDIRECT, ANSWER_NEVER, ANSWER_10_GB,
    ANSWER_ENDLESS_HEAD, ANSWER_HALF_A_HEAD, ANSWER_HALF_A_BODY, ANSWER_NOTHING, ANSWER_NONSENSE
};

struct request {
    char *head, *body; /* owned */
};

struct server {
    int listener, stop; /* stop: readable when it is time to end */
    unsigned port;
    _Atomic int answer; /* enum answer */
    pthread_t thread;
    struct request requests[64]; /* read by the test after the call that made them */
    _Atomic unsigned n;
    _Atomic int64_t sent;
};

/* False: it is time to end, or LATE_MS passed. */
static inline bool server_wait(const struct server *s, int fd, short events)
{
    struct pollfd p[2] = { { .fd = s->stop, .events = POLLIN }, { .fd = fd, .events = events } };

    return poll(p, fd < 0 ? 1 : 2, LATE_MS) > 0 && !p[0].revents;
}

/* False: whoever asked is gone, or it is time to end. */
static inline bool server_say(struct server *s, int fd, const char *text, size_t n)
{
    while (n) {
        ssize_t w;

        if (!server_wait(s, fd, POLLOUT))
            return false;
        w = send(fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w < 0 && errno != EAGAIN)
            return false;
        if (w > 0) {
            text += w;
            n -= (size_t)w;
            atomic_fetch_add(&s->sent, w);
        }
    }
    return true;
}

static inline bool server_say_text(struct server *s, int fd, const char *text)
{
    return server_say(s, fd, text, strlen(text));
}

static inline void server_flood(struct server *s, int fd, const char *head, char with)
{
    static char part[65536];
    int64_t left = (int64_t)10 << 30;

    memset(part, with, sizeof part);
    if (!server_say_text(s, fd, head))
        return;
    for (; left > 0; left -= (int64_t)sizeof part)
        if (!server_say(s, fd, part, sizeof part))
            return;
}

/* False: the connection is to be closed. */
static inline bool server_answer(struct server *s, int fd, const struct request *r)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    switch ((enum answer)s->answer) {
    case ANSWER_OK:
        return server_say_text(s, fd, ok);
    case ANSWER_500:
        return server_say_text(s, fd, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    case ANSWER_429:
        return server_say_text(s, fd, "HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
    case ANSWER_400_TO_A:
        return server_say_text(s, fd, strstr(r->body, "g1|a\"")
                                          ? "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n" : ok);
    case ANSWER_REDIRECT:
        return server_say_text(s, fd, "HTTP/1.1 302 No\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n");
    case ANSWER_NEVER:
        server_wait(s, -1, 0);
        return false;
    case ANSWER_10_GB:
        server_flood(s, fd, "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n", 'x');
        return false;
    case ANSWER_ENDLESS_HEAD:
        for (int k = 0; k < 1000000; k++)
            if (!server_say_text(s, fd, k ? "X-A: 0123456789012345678901234567890123456789\r\n"
                                          : "HTTP/1.1 200 OK\r\n"))
                break;
        return false;
    case ANSWER_HALF_A_HEAD:
        server_say_text(s, fd, "HTTP/1.1 20");
        return false;
    case ANSWER_HALF_A_BODY:
        server_say_text(s, fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        return false;
    case ANSWER_NONSENSE:
        server_say_text(s, fd, "what?\r\n\r\n");
        return false;
    case ANSWER_NOTHING:
        return false;
    }
    return false;
}

/* One request; false: the connection is over. */
static inline bool server_take(struct server *s, int fd)
{
    size_t n = 0, cap = 2 << 20, want = 0;
    char *all = calloc(1, cap), *end = NULL;
    struct request r = { 0 };

    while (!end || n < want) {
        ssize_t got = server_wait(s, fd, POLLIN) ? recv(fd, all + n, cap - 1 - n, 0) : 0;

        if (got <= 0) {
            free(all);
            return false;
        }
        n += (size_t)got;
        all[n] = '\0';
        if (!end && (end = strstr(all, "\r\n\r\n"))) {
            const char *length = strcasestr(all, "Content-Length: ");

            want = (size_t)(end + 4 - all) + (length ? strtoul(length + 16, NULL, 10) : 0);
        }
    }
    r.head = strndup(all, (size_t)(end + 2 - all));
    r.body = strdup(end + 4);
    free(all);
    if (s->n < sizeof s->requests / sizeof *s->requests) {
        s->requests[s->n] = r;
        atomic_fetch_add(&s->n, 1);
    }
    return server_answer(s, fd, &r);
}

static inline void *server_serve(void *arg)
{
    struct server *s = arg;

    while (server_wait(s, s->listener, POLLIN)) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            continue;
        while (server_take(s, fd))
            ;
        close(fd);
    }
    return NULL;
}

/* One connection at a time: what the webhook keeps open is closed with it. */
static inline void server_open(struct server *s, enum answer answer)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof at;

    memset(s, 0, sizeof *s);
    s->answer = answer;
    s->stop = eventfd(0, EFD_CLOEXEC);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(s->stop >= 0 && s->listener >= 0);
    cr_assert_eq(bind(s->listener, (struct sockaddr *)&at, n), 0);
    cr_assert_eq(listen(s->listener, 16), 0);
    cr_assert_eq(getsockname(s->listener, (struct sockaddr *)&at, &n), 0);
    s->port = ntohs(at.sin_port);
    cr_assert_eq(pthread_create(&s->thread, NULL, server_serve, s), 0);
}

static inline void server_close(struct server *s)
{
    uint64_t one = 1;

    cr_assert_eq(write(s->stop, &one, sizeof one), (ssize_t)sizeof one);
    pthread_join(s->thread, NULL);
    close(s->listener);
    close(s->stop);
    for (unsigned k = 0; k < s->n; k++) {
        free(s->requests[k].head);
        free(s->requests[k].body);
    }
}

/* HMAC (RFC 2104) by hand: whoever receives the request has no more than the documentation. */
static inline void hmac_hex(const char *secret, const char *text, char ret[65])
{
    unsigned char key[64] = { 0 }, pad[64], inner[32], outer[32];
    exj_sha256 h;

    cr_assert_leq(strlen(secret), sizeof key);
    memcpy(key, secret, strlen(secret));
    for (int k = 0; k < 64; k++)
        pad[k] = key[k] ^ 0x36;
    exj_sha256_init(&h);
    exj_sha256_update(&h, pad, 64);
    exj_sha256_update(&h, text, strlen(text));
    exj_sha256_final(&h, inner);
    for (int k = 0; k < 64; k++)
        pad[k] = key[k] ^ 0x5c;
    exj_sha256_init(&h);
    exj_sha256_update(&h, pad, 64);
    exj_sha256_update(&h, inner, 32);
    exj_sha256_final(&h, outer);
    for (int k = 0; k < 32; k++)
        sprintf(ret + 2 * k, "%02x", outer[k]);
}

static inline void signature_is(const struct request *r, const char *secret)
{
    const char *found = strstr(r->head, "X-Exellix-Signature: ");
    long long t = 0;
    char v1[65] = "", wanted[65], *signed_text = NULL;

    cr_assert_not_null(found, "%s", r->head);
    cr_assert_eq(sscanf(found, "X-Exellix-Signature: t=%lld,v1=%64[0-9a-f]\r\n", &t, v1), 2, "%s",
                 found);
    cr_assert(t > (long long)time(NULL) - 60 && t <= (long long)time(NULL), "t=%lld", t);
    cr_assert(asprintf(&signed_text, "%lld.%s", t, r->body) > 0);
    hmac_hex(secret, signed_text, wanted);
    cr_assert_str_eq(v1, wanted);
    free(signed_text);
}

/* ---- sinks --------------------------------------------------------------------------------------- */

struct sink {
    exj_registry *registry; /* NULL: somebody else's */
    exj_guest *guest;
    exj_instance *instance;
    exj_call_slot *slot;
    exj_call_ports ports;
};

/* In a registry of somebody else; drop it before that is freed. */
static inline struct sink sink_open(exj_registry *r, const char *file, const char *config)
{
    struct sink k = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_find(r, file, EXJ_KIND_EVENT_SINK, &k.guest, &err), EXJ_OK, "%s",
                 err.text);
    cr_assert_eq(exj_instance_new(k.guest, exj_slice_of(config), &k.instance, &err), EXJ_OK, "%s",
                 err.text);
    k.slot = slot_of(1 << 20);
    return k;
}

static inline void sink_drop(struct sink *k)
{
    exj_call_slot_free(k->slot);
    exj_instance_free(k->instance);
    exj_guest_release(k->guest);
}

static inline exj_registry *registry_new(void)
{
    const char *dirs[] = { EXJ_BINARY_DIR "/bin/plugins", NULL };
    exj_registry *r = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_new(dirs, NULL, &r, &err), EXJ_OK, "%s", err.text);
    return r;
}

static inline struct sink sink_new(const char *file, const char *config)
{
    exj_registry *r = registry_new();
    struct sink k = sink_open(r, file, config);

    k.registry = r;
    return k;
}

static inline void sink_close(struct sink *k)
{
    sink_drop(k);
    exj_registry_free(k->registry);
}

/* `more`: further members of the config. */
static inline struct sink webhook(const struct server *s, const char *more)
{
    char config[600];

    snprintf(config, sizeof config, "{\"url\":\"http://127.0.0.1:%u/hook\"%s%s}", s->port,
             *more ? "," : "", more);
    return sink_new(WEBHOOK_SO, config);
}

static inline struct sink file_sink(const char *more)
{
    char config[600];

    snprintf(config, sizeof config, "{\"path\":\"%s/events.jsonl\"%s%s}", folder,
             *more ? "," : "", more);
    return sink_new(FILE_SO, config);
}

static inline exj_call_end sink_call(struct sink *k, const char *runtime)
{
    exj_args a = args_of("", runtime);
    exj_call_end end = { 0 };

    cr_assert(exj_call_run(k->instance, k->slot, &a, &k->ports, &end, NULL));
    return end;
}

static inline void accepts(struct sink *k, const char *runtime)
{
    exj_call_end end = sink_call(k, runtime);

    cr_assert_eq(end.result, EXJ_R_OK, "%d %.*s: %.*s", (int)end.result, (int)end.error_code.n,
                 end.error_code.p, (int)end.error_text.n, end.error_text.p);
    cr_assert_eq(end.answer.n, 0u, "%.*s", (int)end.answer.n, end.answer.p);
}

/* All `n` events failed, the first of them with such a text and time. */
static inline void fails(struct sink *k, const char *runtime, const char *error, int retry_after,
                         size_t n)
{
    exj_call_end end = sink_call(k, runtime);
    json_t *o, *f;

    cr_assert_eq(end.result, EXJ_R_OK, "%d", (int)end.result);
    o = json_loadb(end.answer.p ? end.answer.p : "", end.answer.n, 0, NULL);
    cr_assert_not_null(o, "it was accepted");
    cr_assert_eq(json_array_size(json_object_get(o, "failed")), n, "%.*s", (int)end.answer.n,
                 end.answer.p);
    f = json_array_get(json_object_get(o, "failed"), 0);
    says(json_string_value(json_object_get(f, "error")), error);
    cr_assert_eq(json_integer_value(json_object_get(f, "retryAfterSeconds")), retry_after);
    json_decref(o);
}

static inline exj_code create(const char *file, const char *config, exj_err *err)
{
    exj_registry *r = registry_new();
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_code rc = exj_registry_find(r, file, EXJ_KIND_EVENT_SINK, &g, err);

    cr_assert_eq(rc, EXJ_OK, "%s", err->text);
    rc = exj_instance_new(g, exj_slice_of(config), &i, err);
    exj_instance_free(i);
    exj_guest_release(g);
    exj_registry_free(r);
    return rc;
}

static inline void is_refused(const char *file, const char *config, const char *part)
{
    exj_err err = { 0 };

    cr_assert_neq(create(file, config, &err), EXJ_OK, "%s", config);
    cr_expect_not_null(strstr(err.text, part), "%s: '%s' does not say '%s'", config, err.text,
                       part);
}

static inline void is_created(const char *file, const char *config)
{
    exj_err err = { 0 };

    cr_expect_eq(create(file, config, &err), EXJ_OK, "%s: %s", config, err.text);
}

/* `user`: when it began. */
static inline int32_t cancelled_after_a_while(void *user)
{
    return now_ms() - *(int64_t *)user > 200 ? EXJ_R_CANCELLED : 0;
}

#endif /* EXJ_TESTS_PLUGINS_SINKS_H */
