#include "tests/support/support.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/inside.h"

void exj_daemon_set(exj_daemon *d, const char *name, const char *format, ...)
{
    size_t n = strlen(name), i = 0;
    char *value = NULL, *pair = NULL;
    va_list ap;
    int rc;

    va_start(ap, format);
    rc = vasprintf(&value, format, ap);
    va_end(ap);
    if (rc < 0 || asprintf(&pair, "%s=%s", name, value) < 0)
        exj_support_die("out of memory");
    free(value);
    while (d->env[i] && !(strncmp(d->env[i], name, n) == 0 && d->env[i][n] == '='))
        i++;
    if (i + 1 >= sizeof(d->env) / sizeof(d->env[0]))
        exj_support_die("too many variables");
    free(d->env[i]);
    d->env[i] = pair;
}

void exj_daemon_init(exj_daemon *d)
{
    memset(d, 0, sizeof(*d));
    d->prog.pidfd = -1;
    exj_tmp_make(&d->tmp);
    d->port = exj_free_port();
    exj_daemon_set(d, "PORT", "%u", (unsigned)d->port);
    exj_daemon_set(d, "EXELLIX_JOBS_DATA_DIR", "%s", exj_tmp_path(&d->tmp, "data"));
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_DIR", "%s", EXJ_BINARY_DIR "/tests/plugins");
    /* What these tests look at is the worker; lanes have tests of their own. */
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_ISOLATION", "in-process");
    exj_daemon_set(d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", "test-engine");
    exj_daemon_set(d, "EXELLIX_JOBS_API_KEY", "%s", EXJ_TEST_KEY);
    exj_daemon_set(d, "EXJ_TEST_EFFECTS", "%s", exj_tmp_path(&d->tmp, "effects"));
}

void exj_daemon_spawn(exj_daemon *d)
{
    static const char *const args[] = { "serve", NULL };

    exj_prog_start(&d->prog, &d->tmp, EXJ_BINARY_DIR "/bin/exellix-jobs",
                   (const char *const *)d->env, args);
}

static bool is_ready(void *user)
{
    exj_daemon *d = user;
    exj_reply r;
    bool ready;

    exj_http(d->port, "GET", "/v1/health", NULL, NULL, &r);
    ready = r.status == 200;
    exj_reply_release(&r);
    return ready || !exj_prog_is_running(&d->prog);
}

bool exj_daemon_wait_ready(exj_daemon *d, unsigned ms)
{
    return exj_until(is_ready, d, d->prog.pidfd, 2, ms) && exj_prog_is_running(&d->prog);
}

bool exj_daemon_start(exj_daemon *d)
{
    bool ready;

    exj_daemon_spawn(d);
    ready = exj_daemon_wait_ready(d, 20000);
    if (!ready) {
        char *said = exj_slurp(d->prog.err, NULL);

        fprintf(stderr, "the daemon did not get ready; it said:\n%s\n", said);
        free(said);
    }
    return ready;
}

int exj_daemon_stop(exj_daemon *d, unsigned ms)
{
    exj_prog_signal(&d->prog, SIGTERM);
    return exj_prog_wait(&d->prog, ms);
}

void exj_daemon_release(exj_daemon *d)
{
    if (d->prog.pid > 0) {
        exj_prog_signal(&d->prog, SIGKILL);
        exj_prog_wait(&d->prog, 10000);
    }
    for (size_t i = 0; d->env[i]; i++)
        free(d->env[i]);
    exj_support_clean();
    memset(d, 0, sizeof(*d));
}

int exj_daemon_call(exj_daemon *d, const char *method, const char *path, const char *json,
                    json_t **ret_body)
{
    exj_reply r;
    int status;

    exj_http(d->port, method, path, "x-exellix-jobs-api-key: " EXJ_TEST_KEY "\r\n", json, &r);
    status = r.status;
    if (ret_body)
        *ret_body = exj_reply_json(&r);
    if (status >= 400 && !ret_body)
        fprintf(stderr, "%s %s: %d %s\n", method, path, status, r.body);
    exj_reply_release(&r);
    return status;
}

static void put(exj_daemon *d, const char *what, const char *id, const char *doc)
{
    char path[256];
    int status;

    snprintf(path, sizeof(path), "/v1/configs/%s/%s", what, id);
    status = exj_daemon_call(d, "PUT", path, doc, NULL);
    if (status != 200 && status != 201)
        exj_support_die("PUT %s of %s: status %d", path, doc, status);
}

void exj_daemon_graph(exj_daemon *d, const char *graph, const char *execution)
{
    char *doc;

    if (asprintf(&doc,
                 "{\"graphId\":\"%s\",\"payload\":{\"graphId\":\"%s\",\"execution\":%s},"
                 "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}",
                 graph, graph, execution ? execution : "{}") < 0)
        exj_support_die("out of memory");
    put(d, "graphs", graph, doc);
    free(doc);
}

void exj_daemon_matrix(exj_daemon *d, const char *matrix, const char *graphs,
                       const char *kind, const char *input, const char *more)
{
    char *doc;

    if (asprintf(&doc,
                 "{\"matrixCatalogId\":\"%s\",\"payload\":{\"input\":%s,\"graphs\":%s,"
                 "\"dataSource\":{\"kind\":\"%s\",\"resolver\":\"test-source\"}%s}}",
                 matrix, input, graphs, kind, more) < 0)
        exj_support_die("out of memory");
    put(d, "matrices", matrix, doc);
    free(doc);
}

void exj_daemon_rows(exj_daemon *d, const char *matrix,
                     bool (*visit)(void *user, const json_t *row), void *user)
{
    char query[300];

    snprintf(query, sizeof(query), "%s%s", *matrix ? "&matrixCatalogId=" : "", matrix);
    exj_daemon_rows_where(d, query, visit, user);
}

void exj_daemon_rows_where(exj_daemon *d, const char *query,
                           bool (*visit)(void *user, const json_t *row), void *user)
{
    int64_t after = 0;

    for (;;) {
        json_t *body = NULL, *rows, *next, *row;
        char path[512];
        size_t i;
        bool more = true;

        snprintf(path, sizeof(path), "/v1/rows?limit=1000&after=%" PRId64 "%s", after, query);
        if (exj_daemon_call(d, "GET", path, NULL, &body) != 200)
            exj_support_die("GET %s", path);
        rows = json_object_get(body, "rows");
        next = json_object_get(body, "next");
        json_array_foreach(rows, i, row)
        {
            if (more)
                more = visit(user, row);
        }
        after = json_integer_value(next);
        if (!json_is_integer(next))
            more = false;
        json_decref(body);
        if (!more)
            return;
    }
}

static bool count_row(void *user, const json_t *row)
{
    exj_tally *t = user;
    const char *status = json_string_value(json_object_get(row, "status"));
    struct {
        const char *word;
        int64_t *n;
    } words[] = { { "queued", &t->queued },       { "running", &t->running },
                  { "completed", &t->completed }, { "failed", &t->failed },
                  { "blocked", &t->blocked },     { "suspended", &t->suspended } };

    t->total++;
    for (size_t i = 0; status && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(status, words[i].word) == 0) {
            ++*words[i].n;
            return true;
        }
    }
    t->other++;
    return true;
}

exj_tally exj_daemon_tally(exj_daemon *d, const char *matrix)
{
    exj_tally t = { 0 };

    exj_daemon_rows(d, matrix, count_row, &t);
    return t;
}

double exj_daemon_metric(exj_daemon *d, const char *name, const char *labels)
{
    exj_reply r;
    double sum = -1;
    size_t n = strlen(name);

    exj_http(d->port, "GET", "/v1/metrics", NULL, NULL, &r);
    for (char *line = r.body, *end; line && *line; line = end) {
        char *space;

        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = '\0';
        if (strncmp(line, name, n) != 0 || (line[n] != '{' && line[n] != ' '))
            continue;
        space = strrchr(line, ' ');
        if (!space || (labels && !strstr(line, labels)))
            continue;
        sum = (sum < 0 ? 0 : sum) + strtod(space, NULL);
    }
    exj_reply_release(&r);
    return sum;
}

struct wanted {
    exj_daemon *d;
    const char *name, *labels;
    double value;
    int64_t total;
};

static bool metric_reached(void *user)
{
    struct wanted *w = user;

    return exj_daemon_metric(w->d, w->name, w->labels) >= w->value;
}

bool exj_daemon_wait_metric(exj_daemon *d, const char *name, const char *labels,
                            double value, unsigned ms)
{
    struct wanted w = { .d = d, .name = name, .labels = labels, .value = value };

    return exj_until(metric_reached, &w, d->prog.pidfd, 10, ms);
}

static bool rows_done(void *user)
{
    struct wanted *w = user;
    exj_tally t = exj_daemon_tally(w->d, w->name);

    return t.total >= w->total && t.queued == 0 && t.running == 0;
}

bool exj_daemon_wait_done(exj_daemon *d, const char *matrix, int64_t total, unsigned ms)
{
    struct wanted w = { .d = d, .name = matrix, .total = total };

    return exj_until(rows_done, &w, d->prog.pidfd, total > 2000 ? 200 : 20, ms);
}

void exj_effects_read(const exj_daemon *d, exj_effects *ret)
{
    size_t cap = 1024;
    char *line, *rest;

    *ret = (exj_effects){ .text = exj_slurp(exj_tmp_path(&d->tmp, "effects"), NULL),
                          .items = malloc(cap * sizeof(exj_effect)) };
    if (!ret->items)
        exj_support_die("out of memory");
    for (rest = ret->text; (line = strsep(&rest, "\n"));) {
        exj_effect e = { 0 };
        char *word;

        /* a last line without its end belongs to a write that never happened whole */
        if (!rest || !*line)
            continue;
        word = strsep(&line, " ");
        e.what = word[0];
        e.job = strsep(&line, " ");
        if (!e.job || !line ||
            sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNd64, &e.token, &e.attempt,
                   &e.at_ns) != 3)
            exj_support_die("effects: a line that the engine did not write");
        if (ret->len == cap) {
            exj_effect *more = realloc(ret->items, (cap *= 2) * sizeof(exj_effect));

            if (!more)
                exj_support_die("out of memory");
            ret->items = more;
        }
        ret->items[ret->len++] = e;
    }
}

void exj_effects_release(exj_effects *e)
{
    free(e->items);
    free(e->text);
    *e = (exj_effects){ 0 };
}

int exj_effects_most_at_once(const exj_effects *e, const char *part)
{
    int now = 0, most = 0;

    /* Each line is one O_APPEND write, so lines stand in the order of their writes: a
     * begin is written after its execution began, an end before it ended, so what is
     * counted here is never more than what really ran at once. */
    for (size_t i = 0; i < e->len; i++) {
        if (!strstr(e->items[i].job, part))
            continue;
        now += e->items[i].what == 'B' ? 1 : -1;
        most = now > most ? now : most;
    }
    return most;
}
