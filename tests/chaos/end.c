/* No more faults: does everything come to rest, and is it as it was answered? */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/chaos/chaos.h"

static const char *const matrices[] = { "n", "f", "o" };
#define MATRICES (sizeof(matrices) / sizeof(*matrices))

struct rest {
    struct client as; /* signals are sent as another client */
    unsigned left;
};

static bool look_at(void *user, const json_t *row)
{
    struct rest *r = user;
    const char *status = chaos_text(row, "status");
    bool waits = !strcmp(status, "suspended"), blocked = !strcmp(status, "blocked");
    char path[300], id[200];
    json_t *o = NULL;

    r->left += waits || blocked || !strcmp(status, "queued") || !strcmp(status, "running");
    if (!waits && !blocked)
        return true;
    snprintf(id, sizeof(id), "%.1s%%7C%%7C%s%%7C%s", chaos_text(row, "matrixCatalogId"),
             chaos_text(row, "graphId"), chaos_text(row, "recordId"));
    if (blocked) { /* it ended its host too often: released, and tried anew */
        snprintf(path, sizeof(path), "/v1/rows/%s/retry", id);
        chaos_ask(&r->as, "POST", path, "{}", &o);
    } else { /* refused where it waits for a time */
        snprintf(path, sizeof(path), "/v1/rows/%s/signals/go", id);
        chaos_ask(&r->as, "POST", path, "{}", &o);
    }
    json_decref(o);
    return true;
}

struct drain {
    struct chaos *c;
    struct rest rest;
    unsigned least;
    int64_t since, ms; /* when it was so few for the first time; how long it may stay so */
};

static bool is_at_rest(void *user)
{
    static const char *const open[] = { "queued", "running", "suspended", "blocked" };
    struct drain *d = user;
    char query[80];

    d->rest.left = 0;
    for (size_t i = 0; i < MATRICES; i++)
        for (size_t k = 0; k < sizeof(open) / sizeof(*open); k++) {
            chaos_release_plugin(d->c);
            snprintf(query, sizeof(query), "&matrixCatalogId=%s&status=%s", matrices[i], open[k]);
            exj_daemon_rows_where(&d->c->d, query, look_at, &d->rest);
        }
    if (d->rest.left < d->least) {
        d->least = d->rest.left;
        d->since = exj_test_now_ms();
    }
    return d->rest.left == 0 || exj_test_now_ms() > d->since + d->ms;
}

bool chaos_drain(struct chaos *c, unsigned ms)
{
    struct drain d = { .c = c, .rest = { .as = { .c = c, .number = 999 } }, .least = UINT32_MAX,
                       .since = exj_test_now_ms(), .ms = ms };

    exj_until(is_at_rest, &d, c->d.prog.pidfd, 100, 3600000);
    if (d.rest.left)
        printf("WRONG: %u rows did not come to rest, and for %u s no other did\n", d.rest.left,
               ms / 1000);
    return d.rest.left == 0;
}

/* ---- the verdict ------------------------------------------------------------------------------ */

struct verdict {
    struct chaos *c;
    unsigned wrong;
    bool **seen; /* by client and row */
};

__attribute__((format(printf, 2, 3)))
static void wrong(struct verdict *v, const char *format, ...)
{
    va_list ap;

    if (v->wrong++ >= 20)
        return;
    va_start(ap, format);
    printf("WRONG: ");
    vprintf(format, ap);
    printf("\n");
    va_end(ap);
}

static bool judge_row(void *user, const json_t *row)
{
    struct verdict *v = user;
    const char *record = chaos_text(row, "recordId"), *status = chaos_text(row, "status");
    unsigned l, k;

    if (sscanf(record, "c%u-%u", &l, &k) != 2)
        return true; /* a schedule's */
    if (l >= v->c->clients_len || k >= v->c->clients[l].rows_len || v->seen[l][k] ||
        !v->c->clients[l].rows[k].there) {
        wrong(v, "row %s was never answered as inserted, or is there twice", record);
        return true;
    }
    v->seen[l][k] = true;
    if (strcmp(status, "completed") != 0 && strcmp(status, "failed") != 0 &&
        !(v->c->clients[l].rows[k].ordered && !strcmp(status, "canceled")))
        wrong(v, "row %s is neither completed nor canceled by anybody", record);
    if (v->c->clients[l].rows[k].canceled && strcmp(status, "canceled") != 0)
        wrong(v, "row %s was answered canceled, and is not", record);
    return true;
}

static void judge_rows(struct verdict *v)
{
    struct chaos *c = v->c;

    v->seen = calloc(c->clients_len, sizeof(*v->seen));
    for (unsigned l = 0; v->seen && l < c->clients_len; l++)
        v->seen[l] = calloc(c->clients[l].rows_most, 1);
    for (size_t i = 0; i < MATRICES; i++)
        exj_daemon_rows(&c->d, matrices[i], judge_row, v);
    for (unsigned l = 0; l < c->clients_len; l++) {
        if (c->clients[l].wrong[0])
            wrong(v, "%s", c->clients[l].wrong);
        for (unsigned k = 0; k < c->clients[l].rows_len; k++) {
            if (c->clients[l].rows[k].there && !v->seen[l][k])
                wrong(v, "row c%u-%u was answered as inserted, and is lost", l, k);
        }
        free(v->seen[l]);
    }
    free(v->seen);
    if (c->reader_wrong[0])
        wrong(v, "%s", c->reader_wrong);
}

/* Those that it could not take are held for another try, behind its position. */
static bool sink_has_all(void *user)
{
    struct chaos *c = user;
    json_t *o = NULL, *sink;
    bool all;

    exj_daemon_call(&c->d, "GET", "/v1/sinks", NULL, &o);
    sink = json_array_get(json_object_get(o, "sinks"), 0);
    all = json_integer_value(json_object_get(sink, "position")) >= atomic_load(&c->read_to) &&
          json_is_integer(json_object_get(sink, "held")) &&
          json_integer_value(json_object_get(sink, "held")) == 0;
    json_decref(o);
    return all;
}

/* Each event once or more; those of a row for the first time in their order. */
static void judge_sink(struct verdict *v)
{
    int64_t last = atomic_load(&v->c->read_to), missing = 0;
    bool *seen = calloc((size_t)last + 2, 1);
    char *text = exj_slurp(v->c->sink_path, NULL), *at, *line;

    for (line = text; seen && (at = strchr(line, '\n')) != NULL; line = at + 1) {
        json_t *o = json_loadb(line, (size_t)(at - line), 0, NULL);
        int64_t number = json_integer_value(json_object_get(o, "number"));

        if (number > 0 && number <= last)
            seen[number] = true;
        json_decref(o);
    }
    for (int64_t n = 1; seen && n <= last; n++)
        missing += !seen[n];
    if (missing)
        wrong(v, "%" PRId64 " of %" PRId64 " events never reached the sink", missing, last);
    free(text);
    free(seen);
}

static void must_pass(struct verdict *v, const char *const *args, bool shows)
{
    exj_prog p;
    int status = exj_prog_run(&p, &v->c->d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs",
                              (const char *const *)v->c->d.env, args, 1800000);
    char *said = exj_slurp(p.out, NULL), *complaint = exj_slurp(p.err, NULL);

    if (status || shows)
        printf("%s%s", said, status ? complaint : "");
    if (status)
        wrong(v, "exellix-jobs %s did not pass", args[0]);
    free(said);
    free(complaint);
}

unsigned chaos_judge(struct chaos *c)
{
    struct verdict v = { .c = c };
    json_t *o = NULL;

    judge_rows(&v);
    if (exj_daemon_call(&c->d, "GET", "/v1/journal/verify", NULL, &o) != 200 ||
        json_integer_value(json_object_get(o, "rows")) == 0 ||
        json_integer_value(json_object_get(o, "different")) != 0)
        wrong(&v, "rows are not what their journal tells");
    json_decref(o);
    atomic_store(&c->over, true);
    pthread_join(c->reader, NULL);
    if (!exj_until(sink_has_all, c, c->d.prog.pidfd, 20, 60000))
        wrong(&v, "the sink did not catch up with the events");
    if (exj_daemon_stop(&c->d, 30000) != 0)
        wrong(&v, "the worker did not stop with status 0");
    judge_sink(&v);
    exj_daemon_set(&c->d, "LD_PRELOAD", "%s", "");
    must_pass(&v, (const char *const[]){ "doctor", NULL }, false);
    must_pass(&v,
              (const char *const[]){ "check-history", c->history_path, "--data-dir",
                                     exj_tmp_path(&c->d.tmp, "data"), NULL },
              true);
    return v.wrong;
}
