#include "tests/reload/rig.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/log.h"

static void keep_quiet(exj_log_level level, const char *area, const char *message)
{
    if (getenv("RIG_LOUD"))
        fprintf(stderr, "%d %s: %s\n", (int)level, area, message);
}

void rig_breathe(exj_nsec until, const char *file, int line, const char *what)
{
    if (exj_clock_mono_ns() >= until) {
        fprintf(stderr, "%s:%d: not in time: %s\n", file, line, what);
        abort();
    }
    poll(NULL, 0, 2);
}

static const char *plugin_path(rig *r, const char *to)
{
    char name[100];

    snprintf(name, sizeof(name), "plugins/%s.so", to);
    return exj_tmp_path(&r->tmp, name);
}

void rig_drop(rig *r, const char *file, const char *to, unsigned salt)
{
    char from[700], beside[300];
    exj_err err = { 0 };
    char *bytes;
    size_t n;
    FILE *f;

    snprintf(from, sizeof(from), RIG_VARIANTS "/%s.so", file);
    bytes = exj_slurp(from, &n);
    CHECK(n > 0);
    snprintf(beside, sizeof(beside), "%s/plugins/.%s.new", r->tmp.path, to);
    f = fopen(beside, "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n && fprintf(f, "#%u", salt) > 0 && fclose(f) == 0);
    CHECK(rename(beside, plugin_path(r, to)) == 0);
    free(bytes);
}

void rig_sha(rig *r, const char *to, char ret[65])
{
    exj_err err = { 0 };
    exj_probe p;

    CHECK(exj_probe_file(plugin_path(r, to), &p, &err) == EXJ_OK);
    snprintf(ret, 65, "%s", p.sha256);
}

void rig_make(rig *r, const char *lane)
{
    exj_err err = { 0 };

    setvbuf(stdout, NULL, _IOLBF, 0);
    exj_log_divert(keep_quiet);
    *r = (rig){ .remote = { .host_exe = EXJ_BINARY_DIR "/bin/exellix-jobs-plugin-host",
                            .idle_ms = 30000, .grace_ms = 500 } };
    r->o = (exj_engine_options){ .worker_id = "switch", .executor = "sw", .max_concurrent = 4,
                                 .exclusive_store = true, .manual_reload = true,
                                 .canary_percent = 10, .trial_rows = 3, .poll_ms = 1000 };
    CHECK(exj_lane_parse(exj_slice_of(lane), &r->ro.lane, &err) == EXJ_OK);
    exj_tmp_make(&r->tmp);
    CHECK(mkdir(exj_tmp_path(&r->tmp, "plugins"), 0700) == 0);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = exj_tmp_path(&r->tmp, "data"),
                                                 .fast = true },
                          &r->store, &err) == EXJ_OK);
    exj_spit(exj_tmp_path(&r->tmp, "count"), "0");
    put(r->store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\","
        "\"execution\":{\"retry\":{\"initialSeconds\":0.1,\"jitter\":0}}},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    rig_matrix(r, "m", "g", "");
}

void rig_matrix(rig *r, const char *id, const char *graph, const char *payload)
{
    char body[1500];

    snprintf(body, sizeof(body),
             "{\"matrixCatalogId\":\"%s\",\"payload\":{\"graphs\":[\"%s\"],\"maxAttempts\":3,"
             "\"input\":{%s%s%s%s},\"pollWhenEmptySeconds\":0.1,"
             "\"dataSource\":{\"kind\":\"record\",\"resolver\":\"test-source\"}}}",
             id, graph, *payload ? payload : "\"countFile\":\"", *payload ? "" : r->tmp.path,
             *payload ? "" : "/count", *payload ? "" : "\"");
    put(r->store, EXJ_DOC_MATRIX, id, body);
    if (r->engine)
        exj_engine_wake(r->engine);
}

void rig_start(rig *r)
{
    static const char *dirs[3];
    static char plugins[300], shelf[300];
    exj_err err = { 0 };

    snprintf(plugins, sizeof(plugins), "%s/plugins", r->tmp.path);
    snprintf(shelf, sizeof(shelf), "%s/shelf", r->tmp.path);
    dirs[0] = plugins;
    dirs[1] = EXJ_BINARY_DIR "/tests/plugins";
    r->ro.remote = &r->remote;
    r->ro.dirs = dirs;
    r->o.plugin_dirs = dirs;
    r->o.store = r->store;
    CHECK(exj_shelf_new(shelf, NULL, &r->o.shelf, &err) == EXJ_OK);
    CHECK(exj_registry_open(&r->ro, &r->o.plugins, &err) == EXJ_OK);
    r->o.metrics = exj_metrics_new();
    CHECK(exj_engine_start(&r->o, &r->engine, &err) == EXJ_OK);
}

void rig_end_engine(rig *r)
{
    exj_err err = { 0 };

    if (r->engine)
        CHECK(exj_engine_stop(r->engine, 20000) == 0);
    r->engine = NULL;
    exj_registry_free(r->o.plugins);
    exj_metrics_free(r->o.metrics);
    exj_shelf_free(r->o.shelf);
    r->o.plugins = NULL;
    r->o.metrics = NULL;
    r->o.shelf = NULL;
}

void rig_end(rig *r)
{
    rig_end_engine(r);
    r->store->v->close(r->store);
    exj_support_clean();
}

void rig_feed(rig *r, uint64_t rows)
{
    char text[32];
    char beside[300];
    exj_err err = { 0 };

    r->fed = rows;
    snprintf(text, sizeof(text), "%llu", (unsigned long long)rows);
    snprintf(beside, sizeof(beside), "%s/count.new", r->tmp.path);
    exj_spit(beside, text);
    CHECK(rename(beside, exj_tmp_path(&r->tmp, "count")) == 0);
    if (r->engine)
        exj_engine_wake(r->engine);
}

exj_code rig_order(rig *r, exj_plugin_order order, const char *what, json_t **ret, exj_err *err)
{
    json_t *report = NULL;
    exj_code rc = exj_engine_order(r->engine, order, "sw", what, &report, err);

    if (rc == EXJ_OK && ret)
        *ret = report;
    else
        json_decref(report);
    return rc;
}

/* ---- waiting ---------------------------------------------------------------------------------- */

void rig_wait_done(rig *r, uint64_t rows)
{
    exj_engine_counts c;

    WAIT((exj_engine_get_counts(r->engine, &c), c.completed + c.failed + c.blocked >= rows));
}

json_t *rig_executor(rig *r)
{
    json_t *list = exj_engine_executors(r->engine), *x, *found = NULL;
    size_t i;

    json_array_foreach(list, i, x)
        if (!strcmp(json_string_value(json_object_get(x, "executor")), "sw"))
            found = json_incref(x);
    json_decref(list);
    return found;
}

static bool is_calm(rig *r)
{
    json_t *x = rig_executor(r);
    bool calm = !strcmp(json_string_value(json_object_get(x, "state")), "current") &&
                json_array_size(json_object_get(x, "draining")) == 0;

    json_decref(x);
    return calm;
}

void rig_wait_calm(rig *r)
{
    WAIT(is_calm(r));
}

static bool is_state(rig *r, const char *state)
{
    json_t *x = rig_executor(r);
    bool is = !strcmp(json_string_value(json_object_get(x, "state")), state);

    json_decref(x);
    return is;
}

void rig_wait_state(rig *r, const char *state)
{
    WAIT(is_state(r, state));
}

static unsigned running(rig *r)
{
    json_t *x = rig_executor(r), *o = json_object_get(x, "current");
    unsigned n = (unsigned)json_integer_value(json_object_get(o, "running"));

    json_decref(x);
    return n;
}

void rig_wait_running(rig *r, unsigned rows)
{
    WAIT(running(r) == rows);
}

static bool is_version(rig *r, const char *version)
{
    json_t *x = rig_executor(r), *o = json_object_get(x, "current");
    bool is = !strcmp(json_string_value(json_object_get(o, "version")), version);

    json_decref(x);
    return is;
}

void rig_wait_version(rig *r, const char *version)
{
    WAIT(is_version(r, version));
}

/* ---- looking ---------------------------------------------------------------------------------- */

struct list {
    ended *items;
    size_t n, room;
    int64_t last;
};

static bool take_row(void *user, const exj_row_view *v)
{
    struct list *l = user;
    json_t *answer = NULL, *stamp;
    const char *version;
    exj_err err = { 0 };
    ended *e;

    if (l->n == l->room) {
        l->room = l->room ? l->room * 2 : 256;
        l->items = realloc(l->items, l->room * sizeof(*l->items));
        CHECK(l->items);
    }
    e = &l->items[l->n++];
    *e = (ended){ .attempts = v->attempts, .status = v->status };
    snprintf(e->id, sizeof(e->id), "%.*s", (int)v->record_id.n, v->record_id.p);
    snprintf(e->code, sizeof(e->code), "%.*s", (int)v->error_code.n, v->error_code.p);
    if (v->result.n && exj_json_parse(v->result, &answer, NULL) == EXJ_OK) {
        stamp = json_object_get(answer, "engineSnapshot");
        version = json_string_value(json_object_get(stamp, "version"));
        snprintf(e->version, sizeof(e->version), "%s", version ? version : "");
        e->who = (unsigned long)json_integer_value(json_object_get(stamp, "who"));
        e->count = (unsigned long)json_integer_value(json_object_get(stamp, "count"));
    }
    json_decref(answer);
    l->last = v->seq;
    return true;
}

size_t rig_rows(rig *r, const char *matrix, ended **ret)
{
    exj_row_filter f = { .matrix = exj_slice_of(matrix), .status = -1, .limit = 1000 };
    struct list l = { 0 };
    exj_err err = { 0 };
    size_t before;

    do {
        before = l.n;
        CHECK(r->store->v->row_page(r->store, &f, take_row, &l, &err) == EXJ_OK);
        f.after_seq = l.last;
    } while (l.n - before == f.limit);
    *ret = l.items;
    return l.n;
}

static unsigned count_events(rig *r, const char *event, const char *version, const char *why)
{
    json_t *list = NULL, *e;
    exj_err err = { 0 };
    unsigned n = 0;
    size_t i;

    CHECK(exj_shelf_history(r->o.shelf, "sw", 0, &list, &err) == EXJ_OK);
    json_array_foreach(list, i, e)
        n += !strcmp(json_string_value(json_object_get(e, "event")), event) &&
             (!version || !strcmp(json_string_value(json_object_get(e, "version")), version)) &&
             (!why || strstr(json_string_value(json_object_get(e, "why")), why));
    json_decref(list);
    return n;
}

bool rig_has_event(rig *r, const char *event, const char *version, const char *why)
{
    return count_events(r, event, version, why) > 0;
}

unsigned rig_count_events(rig *r, const char *event)
{
    return count_events(r, event, NULL, NULL);
}

static bool count_one(void *user, const exj_guest_info *i)
{
    *(unsigned *)user += i->loaded && !strcmp(i->id, "sw");
    return true;
}

unsigned rig_generations(rig *r)
{
    unsigned n = 0;

    exj_registry_each(r->o.plugins, false, count_one, &n, NULL);
    return n;
}

/* ---- rows that wait ---------------------------------------------------------------------------- */

const char *rig_fifo(rig *r, const char *name)
{
    const char *path = exj_tmp_path(&r->tmp, name);
    exj_err err = { 0 };

    CHECK(mkfifo(path, 0600) == 0);
    return path;
}

void rig_let(rig *r, const char *name, unsigned rows)
{
    int fd = open(exj_tmp_path(&r->tmp, name), O_RDWR | O_CLOEXEC);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    exj_err err = { 0 };

    CHECK(fd >= 0);
    for (unsigned n = 0; n < rows; n++)
        CHECK(write(fd, "x", 1) == 1);
    WAIT(poll(&p, 1, 0) == 0); /* they are read: what is in a FIFO goes with its last descriptor */
    close(fd);
}

/* ---- together ---------------------------------------------------------------------------------- */

/* A first good version runs and did `rows` rows. */
void rig_begin(rig *r, const char *lane, const char *first, uint64_t rows)
{
    rig_make(r, lane);
    rig_drop(r, first, "sw", 0);
    rig_feed(r, rows);
}

void rig_start_done(rig *r, uint64_t rows)
{
    rig_start(r);
    rig_wait_done(r, rows);
}

void rig_reload(rig *r)
{
    exj_err why = { 0 };

    if (rig_order(r, EXJ_ORDER_RELOAD, NULL, NULL, &why) != EXJ_OK) {
        fprintf(stderr, "reload: %s\n", why.text);
        abort();
    }
}

exj_code rig_refused(rig *r, exj_err *why)
{
    exj_err err = { 0 };
    exj_code rc;

    *why = (exj_err){ 0 };
    rc = rig_order(r, EXJ_ORDER_RELOAD, NULL, NULL, why);
    CHECK(rc != EXJ_OK && why->text[0]);
    return rc;
}

/* All completed at the first attempt. */
void rig_check_all_good(rig *r, uint64_t rows)
{
    exj_err err = { 0 };
    ended *e;
    size_t n = rig_rows(r, "m", &e);

    CHECK(n == rows);
    for (size_t k = 0; k < n; k++)
        CHECK(e[k].status == EXJ_COMPLETED && e[k].attempts == 1);
    free(e);
}
