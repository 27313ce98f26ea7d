/* Event sinks beside the whole worker: what happens reaches a webhook, also over kill -9; what it
 * refuses holds back its own row, becomes a dead letter, and is replayed or dropped. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/store/store.h"
#include "tests/support/support.h"

#define NUMBERS 20000
#define BODY_MAX (2u << 20)

static exj_daemon d;

/* ---- the receiver -------------------------------------------------------------------------------- */

static struct {
    int listener, stop;
    unsigned port;
    pthread_t thread;
    char refused[80];       /* answers 400 to what holds it; empty: to nothing. Guarded by mu */
    pthread_mutex_t mu;
    unsigned times[NUMBERS]; /* how often an event was accepted; guarded by mu, as all below */
    int64_t last[NUMBERS];   /* by record: the last event number that was new */
    char disorder[200];      /* an event of a row that came first after a later one */
    _Atomic int accepted;    /* different ones */
} web;

static bool web_wait(int fd)
{
    struct pollfd p[2] = { { .fd = web.stop, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

    return poll(p, 2, 60000) > 0 && !p[0].revents;
}

static void take_event(const json_t *e)
{
    int64_t number = json_integer_value(json_object_get(e, "number"));
    const char *row = json_string_value(json_object_get(e, "matrixRowId"));
    const char *record = row ? strrchr(row, '-') : NULL;
    long nth = record ? strtol(record + 1, NULL, 10) : 0;

    if (number < 1 || number >= NUMBERS || nth < 0 || nth >= NUMBERS || !row) {
        snprintf(web.disorder, sizeof(web.disorder), "a strange event: %" PRId64 " %s", number,
                 row ? row : "without a row");
        return;
    }
    if (web.times[number]++ == 0) {
        atomic_fetch_add(&web.accepted, 1);
        if (web.last[nth] > number && !web.refused[0])
            snprintf(web.disorder, sizeof(web.disorder), "%s: %" PRId64 " came after %" PRId64, row,
                     number, web.last[nth]);
        web.last[nth] = number;
    }
}

/* False: the connection is over. */
static bool web_take(int fd, char *all)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    static const char no[] = "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n";
    size_t n = 0, want = 0, k;
    char *end = NULL;
    const char *answer = ok;
    json_t *o, *e;

    while (!end || n < want) {
        ssize_t got = web_wait(fd) ? recv(fd, all + n, BODY_MAX - 1 - n, 0) : 0;

        if (got <= 0)
            return false;
        n += (size_t)got;
        all[n] = '\0';
        if (!end && (end = strstr(all, "\r\n\r\n"))) {
            const char *length = strcasestr(all, "Content-Length: ");

            want = (size_t)(end + 4 - all) + (length ? strtoul(length + 16, NULL, 10) : 0);
        }
    }
    pthread_mutex_lock(&web.mu);
    if (web.refused[0] && strstr(end + 4, web.refused)) {
        answer = no;
    } else {
        o = json_loads(end + 4, 0, NULL);
        json_array_foreach(json_object_get(o, "events"), k, e)
            take_event(e);
        json_decref(o);
    }
    pthread_mutex_unlock(&web.mu);
    return send(fd, answer, strlen(answer), MSG_NOSIGNAL) > 0;
}

static void *web_serve(void *arg)
{
    char *all = malloc(BODY_MAX);

    (void)arg;
    while (all && web_wait(web.listener)) {
        int fd = accept4(web.listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            continue;
        while (web_take(fd, all))
            ;
        close(fd);
    }
    free(all);
    return NULL;
}

static void web_refuse(const char *what)
{
    pthread_mutex_lock(&web.mu);
    snprintf(web.refused, sizeof(web.refused), "%s", what);
    pthread_mutex_unlock(&web.mu);
}

static void setup(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof(at);

    memset(&web, 0, sizeof(web));
    pthread_mutex_init(&web.mu, NULL);
    web.stop = eventfd(0, EFD_CLOEXEC);
    web.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(web.listener, (struct sockaddr *)&at, n), 0);
    cr_assert_eq(listen(web.listener, 16), 0);
    cr_assert_eq(getsockname(web.listener, (struct sockaddr *)&at, &n), 0);
    web.port = ntohs(at.sin_port);
    cr_assert_eq(pthread_create(&web.thread, NULL, web_serve, NULL), 0);
    exj_daemon_init(&d);
}

static void teardown(void)
{
    uint64_t one = 1;

    exj_daemon_release(&d);
    cr_assert_eq(write(web.stop, &one, sizeof(one)), (ssize_t)sizeof(one));
    pthread_join(web.thread, NULL);
    close(web.listener);
    close(web.stop);
    pthread_mutex_destroy(&web.mu);
}

TestSuite(sinks, .init = setup, .fini = teardown);

/* `more`: members of the sink; `config`: of its config; each with a leading comma. */
static void use_webhook(const char *more, const char *config)
{
    char text[700];

    snprintf(text, sizeof(text),
             "{\"sinks\":[{\"name\":\"web\",\"plugin\":\"exellix.sink-webhook\"%s,\"config\":{"
             "\"url\":\"http://127.0.0.1:%u/\",\"secret\":\"0123456789abcdef\"%s}}]}",
             more, web.port, config);
    exj_spit(exj_tmp_path(&d.tmp, "sinks.json"), text);
    exj_daemon_set(&d, "EXELLIX_JOBS_SINKS", "%s", exj_tmp_path(&d.tmp, "sinks.json"));
}

static bool took(void *user)
{
    return atomic_load(&web.accepted) >= *(int *)user;
}

static bool visit_last(void *user, const exj_event_view *v)
{
    *(int64_t *)user = v->entry.number;
    cr_expect_gt(web.times[v->entry.number], 0u, "event %" PRId64 " (%s) never came",
                 v->entry.number, exj_entry_word(v->entry.kind));
    return true;
}

/* Every event of the store was accepted by the webhook. The worker must have stopped. */
static int64_t all_came(void)
{
    exj_sqlite_options o = { .dir = exj_tmp_path(&d.tmp, "data"), .read_only = true };
    int64_t last = 0, before;
    exj_err err = { 0 };
    exj_store *s;

    cr_assert_eq(exj_sqlite_open(&o, &s, &err), EXJ_OK, "%s", err.text);
    pthread_mutex_lock(&web.mu);
    do {
        before = last;
        cr_assert_eq(s->v->events(s, last, 1000, visit_last, &last, &err), EXJ_OK, "%s", err.text);
    } while (last > before);
    cr_expect_str_eq(web.disorder, "");
    pthread_mutex_unlock(&web.mu);
    s->v->close(s);
    return last;
}

/* ---- tests ----------------------------------------------------------------------------------------- */

/* spec 2.7: Event sinks (plugins) deliver them at least once, in order per row, in bounded batches; a failing event backs off, and after N tries goes to the dead-letter list, which can be listed and replayed. */
Test(sinks, every_event_reaches_the_webhook_in_order_per_row_also_over_kills)
{
    uint64_t seed = exj_test_seed("sinks");
    int wanted = 3 * 400;

    use_webhook("", "");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", "{\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    exj_daemon_matrix(&d, "m", "[\"g\"]", "storage",
                      "{\"count\":400,\"page\":50,\"record\":{\"sleepMs\":10}}",
                      ",\"maxAttempts\":1000");
    for (int kills = 0; kills < 5; kills++) {
        cr_assert_eq(exj_prog_wait(&d.prog, 50 + (unsigned)(exj_test_random(&seed) % 200)), -1);
        exj_prog_signal(&d.prog, SIGKILL);
        cr_assert_eq(exj_prog_wait(&d.prog, 10000), 1000 + SIGKILL);
        cr_assert(exj_daemon_start(&d));
    }
    cr_assert(exj_daemon_wait_done(&d, "m", 400, 60000));
    cr_assert(exj_until(took, &wanted, -1, 20, 60000), "%d events came", web.accepted);
    /* the last ones are on their way: a status says when it is at the end */
    for (int64_t until = exj_test_now_ms() + 30000, still = 0; still < 5;) {
        int seen = atomic_load(&web.accepted);

        cr_assert_lt(exj_test_now_ms(), until);
        cr_assert_eq(exj_prog_wait(&d.prog, 100), -1);
        still = seen == atomic_load(&web.accepted) ? still + 1 : 0;
    }
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);
    cr_assert_geq(all_came(), wanted);
}

static json_t *dead_letters(void)
{
    json_t *body = NULL;

    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/dead-letters", NULL, &body), 200);
    return body;
}

static bool has_dead(void *user)
{
    json_t *body = dead_letters();
    bool has = json_array_size(json_object_get(body, "deadLetters")) >= *(size_t *)user;

    json_decref(body);
    return has;
}

static bool has_none_held(void *user)
{
    json_t *body = NULL, *s;
    bool none;

    (void)user;
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/sinks", NULL, &body), 200);
    s = json_array_get(json_object_get(body, "sinks"), 0);
    none = json_integer_value(json_object_get(s, "held")) == 0 &&
           json_is_null(json_object_get(s, "error"));
    json_decref(body);
    return none;
}

static int command(const char *const *args, char **ret_out)
{
    exj_prog p;
    int status = exj_prog_run(&p, &d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs",
                              (const char *const *)d.env, args, 60000);

    *ret_out = exj_slurp(p.out, NULL);
    return status;
}

Test(sinks, a_refused_event_becomes_a_dead_letter_that_is_listed_replayed_and_dropped)
{
    json_t *body, *first;
    char path[80], *out;
    int64_t id, second;
    size_t three = 3;
    int others = 3 * 9;

    web_refuse("r-0000003\"");
    use_webhook(",\"maxAttempts\":3,\"firstRetrySeconds\":0.01,\"maxRetrySeconds\":0.05",
                ",\"eventsPerRequest\":1");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "storage", "{\"count\":10}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 10, 30000));
    cr_assert(exj_until(has_dead, &three, -1, 20, 30000), "no dead letters");
    cr_assert(exj_until(took, &others, -1, 20, 30000), "%d events came", web.accepted);

    body = dead_letters();
    first = json_array_get(json_object_get(body, "deadLetters"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(first, "sink")), "web");
    cr_assert_str_eq(json_string_value(json_object_get(first, "kind")), "queued");
    cr_assert_str_eq(json_string_value(json_object_get(first, "error")), "answered 400");
    cr_assert_eq(json_integer_value(json_object_get(first, "tries")), 3);
    id = json_integer_value(json_object_get(first, "id"));
    second = json_integer_value(json_object_get(
        json_array_get(json_object_get(body, "deadLetters"), 1), "id"));
    json_decref(body);

    cr_assert_eq(command((const char *const[]){ "dead-letters", "list", NULL }, &out), 0);
    cr_expect(strstr(out, "answered 400") && strstr(out, "r-0000003"), "%s", out);
    free(out);
    snprintf(path, sizeof(path), "%" PRId64, id);
    cr_assert_eq(command((const char *const[]){ "dead-letters", "show", path, NULL }, &out), 0);
    cr_expect(strstr(out, "\"event\"") && strstr(out, "matrixCatalogId"), "%s", out);
    free(out);

    web_refuse("");
    cr_assert_eq(command((const char *const[]){ "dead-letters", "replay", path, NULL }, &out), 0);
    free(out);
    others++;
    cr_assert(exj_until(took, &others, -1, 20, 30000), "the replayed one did not come");
    snprintf(path, sizeof(path), "/v1/dead-letters/%" PRId64, id);
    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, NULL), 404);
    cr_assert_eq(exj_daemon_call(&d, "POST", strcat(path, "/replay"), NULL, NULL), 404);
    snprintf(path, sizeof(path), "/v1/dead-letters/%" PRId64, second);
    cr_assert_eq(exj_daemon_call(&d, "DELETE", path, NULL, NULL), 200);
    cr_assert_eq(exj_daemon_call(&d, "DELETE", path, NULL, NULL), 404);
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/dead-letters/x", NULL, NULL), 400);
    cr_assert(exj_until(has_none_held, NULL, -1, 20, 30000));
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);
}

Test(sinks, a_file_of_sinks_that_is_wrong_ends_the_start_and_says_why)
{
    static const char *const cases[][2] = {
        { "{\"sinks\":7}", "wanted {\"sinks\":[" },
        { "{\"sinks\":[{\"name\":\"a b\",\"plugin\":\"x\"}]}", "sinks[0].name: wanted 1 to 64" },
        { "{\"sinks\":[{\"name\":\"a\"}]}", "sinks[0].plugin: is missing" },
        { "{\"sinks\":[{\"name\":\"a\",\"plugin\":\"x\"},{\"name\":\"a\",\"plugin\":\"x\"}]}",
          "sinks[1].name: another sink is called so" },
        { "{\"sinks\":[{\"name\":\"a\",\"plugin\":\"x\",\"tries\":3}]}", "sinks[0].tries: unknown" },
        { "{\"sinks\":[{\"name\":\"a\",\"plugin\":\"x\",\"maxAttempts\":0}]}", "1 to 1000" },
        { "{\"sinks\":[{\"name\":\"a\",\"plugin\":\"x\",\"from\":\"then\"}]}", "start or now" },
        { "{\"sinks\":[", "event sinks" },
    };

    exj_daemon_set(&d, "EXELLIX_JOBS_SINKS", "%s", exj_tmp_path(&d.tmp, "sinks.json"));
    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        char *said;

        exj_spit(exj_tmp_path(&d.tmp, "sinks.json"), cases[k][0]);
        cr_assert(!exj_daemon_start(&d), "%s", cases[k][0]);
        said = exj_slurp(d.prog.err, NULL);
        cr_expect_not_null(strstr(said, cases[k][1]), "%s: %s", cases[k][0], said);
        free(said);
    }
}

/* A sink whose plugin cannot be made costs nothing else. */
Test(sinks, a_sink_that_cannot_start_leaves_the_rows_alone)
{
    json_t *body = NULL;

    exj_spit(exj_tmp_path(&d.tmp, "sinks.json"),
             "{\"sinks\":[{\"name\":\"a\",\"plugin\":\"acme.none\"},"
             "{\"name\":\"b\",\"plugin\":\"exellix.sink-file\",\"config\":{\"path\":\"x\"}}]}");
    exj_daemon_set(&d, "EXELLIX_JOBS_SINKS", "%s", exj_tmp_path(&d.tmp, "sinks.json"));
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "storage", "{\"count\":10}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 10, 30000));
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/sinks", NULL, &body), 200);
    cr_expect_not_null(strstr(json_string_value(json_object_get(
                                  json_array_get(json_object_get(body, "sinks"), 1), "error")),
                              "wanted an absolute path"));
    json_decref(body);
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);
}
