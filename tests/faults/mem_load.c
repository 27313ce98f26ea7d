#include "tests/faults/mem_load.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADERS_N 200

static const char *const records[LOAD_KINDS] = {
    [L_PLAIN] = "{}",
    [L_STEPS] = "{\"steps\":3,\"progress\":2}",
    [L_SIGNAL] = "{\"steps\":1,\"waitSignal\":\"go\"}",
    [L_TIMER] = "{\"waitMs\":20}",
    [L_POLLS] = "{\"polls\":1}",
    [L_RETRIES] = "{\"failTimes\":1}",
    [L_CANCEL] = "{\"waitSignal\":\"never\"}",
};

static const char *const looks[] = {
    "/v1/health", "/v1/health?probe=dependencies", "/v1/version", "/v1/openapi.json",
    "/v1/graphs", "/v1/matrices", "/v1/workers/status", "/v1/configs/graphs",
    "/v1/configs/matrices", "/v1/configs/schedules", "/v1/configs/graphs/g",
    "/v1/configs/matrices/m", "/v1/configs/schedules/s", "/v1/schedules", "/v1/schedules/s?next=3",
    "/v1/rows?limit=20", "/v1/rows?matrixCatalogId=m&status=completed&limit=5",
    "/v1/rows/m%7C%7Cg%7Ce1", "/v1/rows/m%7C%7Cg%7Ce1/journal", "/v1/rows/m%7C%7Cg%7Ce1/events",
    "/v1/rows/m%7C%7Cg%7Ce1/steps?body=true", "/v1/events?limit=20", "/v1/journal/verify?limit=50",
    "/v1/plugins", "/v1/plugins/test-engine", "/v1/plugins/test-engine/history",
    "/v1/plugins/test-engine/versions", "/v1/dead-letters", "/v1/sinks", "/v1/quarantine",
    "/v1/graphs/g/kv",
};

void load_wrong(load *l, const char *format, ...)
{
    va_list ap;

    l->wrong++;
    fprintf(stderr, "%s: WRONG, round %d (%s), seed %" PRIu64 ": ", l->what, l->round,
            l->case_text ? l->case_text : "nothing refused", l->first_seed);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    if (l->ctl && l->ctl->where[0])
        fprintf(stderr, "\n  first refused:%s", l->ctl->where);
    fputc('\n', stderr);
}

unsigned load_any(load *l, unsigned n)
{
    return (unsigned)(exj_test_random(&l->seed) % n);
}

void load_arm(exj_short_of *s, int64_t nth, int64_t in_a_row)
{
    s->nth = nth;
    s->in_a_row = in_a_row;
    s->per_million = 0;
    s->seen = 0;
    s->refused = 0;
    s->armed = 1;
}

void load_disarm(exj_short_of *s)
{
    s->armed = 0;
}

static void disarm(load *l)
{
    if (l->ctl) {
        load_disarm(&l->ctl->memory);
        load_disarm(&l->ctl->threads);
    }
}

/* ---- the folder --------------------------------------------------------------------------- */

static void copy(const char *from, const char *to, unsigned salt)
{
    size_t n;
    char *p = exj_slurp(from, &n), beside[400];
    FILE *f;

    snprintf(beside, sizeof(beside), "%s.new", to);
    f = fopen(beside, "wb");
    if (!n || !f || fwrite(p, 1, n, f) != n || fprintf(f, "#%u", salt) < 0 || fclose(f) != 0 ||
        rename(beside, to) != 0) {
        fprintf(stderr, "mem_load: cannot copy %s to %s\n", from, to);
        abort();
    }
    free(p);
}

static void feed(load *l)
{
    char text[32], beside[300];

    snprintf(text, sizeof(text), "%d", ++l->fed);
    snprintf(beside, sizeof(beside), "%s", exj_tmp_path(&l->d.tmp, "count.new"));
    exj_spit(beside, text);
    rename(beside, exj_tmp_path(&l->d.tmp, "count"));
}

static void open_control(load *l)
{
    char path[300];
    int fd;

    snprintf(path, sizeof(path), "%s", exj_tmp_path(&l->d.tmp, "short"));
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(exj_short)) != 0)
        abort();
    l->ctl = mmap(NULL, sizeof(exj_short), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (l->ctl == MAP_FAILED)
        abort();
    exj_daemon_set(&l->d, "LD_PRELOAD", "%s", EXJ_SHORT_LIBRARY);
    exj_daemon_set(&l->d, "EXJ_TEST_SHORT", "%s", path);
}

void load_init(load *l, const char *what, uint64_t seed, bool preload)
{
    char text[600];

    memset(l, 0, sizeof(*l));
    l->what = what;
    l->seed = l->first_seed = seed;
    l->reload_every = 5;
    setvbuf(stdout, NULL, _IOLBF, 0);
    exj_daemon_init(&l->d);
    if (mkdir(exj_tmp_path(&l->d.tmp, "plugins"), 0700) != 0)
        abort();
    copy(EXJ_BINARY_DIR "/tests/plugins/test-source.so",
         exj_tmp_path(&l->d.tmp, "plugins/test-source.so"), 0);
    copy(EXJ_BINARY_DIR "/tests/plugins/test-engine.so",
         exj_tmp_path(&l->d.tmp, "plugins/test-engine.so"), 0);
    copy(EXJ_BINARY_DIR "/bin/plugins/sink-file.so",
         exj_tmp_path(&l->d.tmp, "plugins/sink-file.so"), 0);
    exj_daemon_set(&l->d, "EXELLIX_JOBS_PLUGINS_DIR", "%s", exj_tmp_path(&l->d.tmp, "plugins"));
    exj_daemon_set(&l->d, "EXELLIX_JOBS_PLUGINS_RELOAD", "manual");
    exj_daemon_set(&l->d, "EXELLIX_JOBS_PLUGINS_CANARY_PERCENT", "0");
    exj_daemon_set(&l->d, "EXELLIX_JOBS_LEASE_SECONDS", "2");
    exj_daemon_set(&l->d, "EXELLIX_JOBS_SHUTDOWN_GRACE_SECONDS", "5");
    snprintf(text, sizeof(text),
             "{\"sinks\":[{\"name\":\"file\",\"plugin\":\"exellix.sink-file\","
             "\"firstRetrySeconds\":0.1,\"maxRetrySeconds\":0.5,\"maxAttempts\":100,"
             "\"config\":{\"path\":\"%s\"}}]}", exj_tmp_path(&l->d.tmp, "events.jsonl"));
    exj_spit(exj_tmp_path(&l->d.tmp, "sinks.json"), text);
    exj_daemon_set(&l->d, "EXELLIX_JOBS_SINKS", "%s", exj_tmp_path(&l->d.tmp, "sinks.json"));
    if (preload)
        open_control(l);
}

void load_release(load *l)
{
    if (l->ctl)
        munmap(l->ctl, sizeof(*l->ctl));
    exj_daemon_release(&l->d);
}

/* ---- the worker --------------------------------------------------------------------------- */

static bool has_word(const char *text)
{
    static const char *const words[] = { "memory", "ENOMEM", "thread", "temporarily unavailable",
                                         "Too many open files", "descriptor", "Error 24" };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcasestr(text, words[i]))
            return true;
    return false;
}

void load_start(load *l)
{
    if (!exj_daemon_start(&l->d)) {
        load_wrong(l, "the worker does not start again");
        fprintf(stderr, "%s: nothing can be done without it: giving up\n", l->what);
        exit(1);
    }
    l->restarts++;
}

void load_ended(load *l, int status)
{
    char *said = exj_slurp(l->d.prog.err, NULL);

    l->ended++;
    if ((status <= 0 || status >= 128) && status != 130) /* 130: told to stop while it ended */
        load_wrong(l, "the worker ended with %d (1000 and more: by a signal); it said:\n%s", status,
                   said);
    else if (!has_word(said))
        load_wrong(l, "the worker ended with %d and did not say what it was short of:\n%s", status,
                   said);
    free(said);
}

/* It is not there although it should be: see why, and start it again. */
static void revive(load *l)
{
    int status = exj_prog_wait(&l->d.prog, 8000);

    if (status == -1) {
        char *said = exj_slurp(l->d.prog.err, NULL);

        load_wrong(l, "the worker neither answers nor ends; it said:\n%s", said);
        free(said);
        exj_prog_signal(&l->d.prog, SIGKILL);
        exj_prog_wait(&l->d.prog, 10000);
    } else {
        load_ended(l, status);
    }
    disarm(l);
    load_start(l);
}

int load_ask(load *l, const char *method, const char *path, const char *json, json_t **ret)
{
    char headers[HEADERS_N];
    int64_t end = exj_test_now_ms() + 20000;
    int silent = 0;

    snprintf(headers, sizeof(headers), "x-exellix-jobs-api-key: %s\r\nIdempotency-Key: k%d\r\n",
             EXJ_TEST_KEY, l->keys);
    l->keys += strcmp(method, "GET") != 0;
    for (;;) {
        exj_reply r;
        json_t *o;
        bool again;

        exj_http(l->d.port, method, path, strcmp(method, "GET") ? headers : NULL, json, &r);
        l->requests++;
        o = exj_reply_json(&r);
        if (r.status == 0) {
            l->unanswered++;
            if (!exj_prog_is_running(&l->d.prog) || ++silent == 20) {
                revive(l);
                silent = 0;
            }
        } else {
            silent = 0;
            l->refused_5xx += r.status >= 500;
            if (!o && r.body_n)
                load_wrong(l, "%s %s: %d with a body that is not JSON: %.200s", method, path,
                           r.status, r.body);
        }
        again = r.status == 0 || r.status >= 500 ||
                (r.status == 409 && o &&
                 !strcmp(json_string_value(json_object_get(o, "code")) ?: "", "in_progress"));
        if (!again || exj_test_now_ms() > end) {
            int status = r.status;

            if (again)
                load_wrong(l, "%s %s: still %d %s", method, path, r.status,
                           r.body ? r.body : "");
            exj_reply_release(&r);
            if (ret)
                *ret = o;
            else
                json_decref(o);
            return status;
        }
        json_decref(o);
        exj_reply_release(&r);
        poll(NULL, 0, 2);
    }
}

static void must(load *l, const char *method, const char *path, const char *json, int a, int b)
{
    json_t *o = NULL;
    int status = load_ask(l, method, path, json, &o);

    if (status != a && status != b) {
        char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

        load_wrong(l, "%s %s: %d %s", method, path, status, text ? text : "");
        free(text);
    }
    json_decref(o);
}

/* ---- one round ---------------------------------------------------------------------------- */

static const char graph_doc[] =
    "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\",\"execution\":"
    "{\"timeoutSeconds\":%d,\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}},"
    "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}";

static void put_graph(load *l)
{
    char doc[500];

    snprintf(doc, sizeof(doc), graph_doc, 100 + l->round);
    must(l, "PUT", "/v1/configs/graphs/g", doc, 200, 201);
}

void load_configs(load *l)
{
    char doc[900];

    put_graph(l);
    must(l, "PUT", "/v1/configs/matrices/m",
         "{\"matrixCatalogId\":\"m\",\"payload\":{\"input\":{},\"graphs\":[\"g\"],"
         "\"maxAttempts\":50,\"dataSource\":{\"kind\":\"event\"}}}", 200, 201);
    for (int k = 0; k < 2; k++) {
        char path[60];

        snprintf(doc, sizeof(doc),
                 "{\"matrixCatalogId\":\"%s\",\"payload\":{\"input\":{\"countFile\":\"%s\"},"
                 "\"graphs\":[\"g\"],\"maxAttempts\":50,\"pollWhenEmptySeconds\":0.1,"
                 "\"dataSource\":{\"kind\":\"%s\",\"resolver\":\"test-source\"}}}",
                 k ? "q" : "r", exj_tmp_path(&l->d.tmp, "count"), k ? "query-snapshot" : "record");
        snprintf(path, sizeof(path), "/v1/configs/matrices/%s", k ? "q" : "r");
        feed(l);
        must(l, "PUT", path, doc, 200, 201);
    }
    must(l, "PUT", "/v1/configs/schedules/s",
         "{\"scheduleId\":\"s\",\"payload\":{\"cron\":\"0 0 1 1 *\",\"start\":"
         "{\"matrixCatalogId\":\"m\"}}}", 200, 201);
}

static void push(load *l)
{
    char body[2000], *at = body;
    int first = (int)l->rows_len;
    json_t *o = NULL, *e;
    size_t i;

    if (l->rows_len + LOAD_KINDS > LOAD_ROWS_MAX)
        return;
    at += sprintf(at, "[");
    for (int k = 0; k < LOAD_KINDS; k++) {
        l->rows[l->rows_len++].kind = (uint8_t)k;
        at += sprintf(at, "%s{\"id\":\"e%d\",\"record\":%s}", k ? "," : "", first + k, records[k]);
    }
    sprintf(at, "]");
    if (load_ask(l, "POST", "/v1/matrices/m/events", body, &o) != 200)
        load_wrong(l, "a push was not taken");
    json_array_foreach(json_object_get(o, "events"), i, e) {
        const char *status = json_string_value(json_object_get(e, "status"));

        if (!status || strcmp(status, "inserted") != 0)
            load_wrong(l, "e%d is %s", first + (int)i, status ? status : "without a status");
        l->rows[first + (int)i].there = true;
    }
    json_decref(o);
}

static void order_rows(load *l)
{
    char path[120];

    for (int64_t k = l->rows_len - LOAD_KINDS; k < l->rows_len; k++) {
        bool is_signal = l->rows[k].kind == L_SIGNAL;

        if (!is_signal && l->rows[k].kind != L_CANCEL)
            continue;
        snprintf(path, sizeof(path), "/v1/rows/m%%7C%%7Cg%%7Ce%" PRId64 "/%s", k,
                 is_signal ? "signals/go" : "cancel");
        must(l, "POST", path, is_signal ? "{\"n\":1}" : "{\"reason\":\"told\"}", 200, 200);
    }
}

static void command(load *l, const char *const *args)
{
    const char *env[40];
    size_t n = 0;
    exj_prog p;
    int rc;

    for (size_t i = 0; l->d.env[i]; i++)
        if (strncmp(l->d.env[i], "LD_PRELOAD=", 11) != 0)
            env[n++] = l->d.env[i];
    env[n] = NULL;
    rc = exj_prog_run(&p, &l->d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs", env, args, 20000);
    if (rc == -1 || rc >= 128)
        load_wrong(l, "exellix-jobs %s: %d", args[0], rc);
}

void load_round(load *l, void (*midway)(load *l))
{
    l->round++;
    put_graph(l);
    push(l);
    feed(l);
    must(l, "POST", "/v1/workers/resume", NULL, 200, 200);
    order_rows(l);
    if (midway)
        midway(l);
    must(l, "POST", "/v1/schedules/s/trigger", NULL, 200, 200);
    if (l->reload_every && l->round % l->reload_every == 0) {
        copy(EXJ_BINARY_DIR "/tests/plugins/test-engine.so",
             exj_tmp_path(&l->d.tmp, "plugins/test-engine.so"), (unsigned)l->round);
        /* 409: it runs already; the first answer, after it was done, found no memory. */
        must(l, "POST", "/v1/plugins/test-engine/reload", NULL, 200, 409);
    }
    for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
        must(l, "GET", looks[i], NULL, 200, 200);
    if (exj_daemon_metric(&l->d, "matrix_claims_completed_total", NULL) < -1)
        abort();
    if (l->round % 8 == 0)
        command(l, (const char *const[]){ "status", "--json", NULL });
}

/* ---- what must be ------------------------------------------------------------------------- */

struct settled {
    load *l;
    int64_t seen, open;
    bool tell;
    char example[400];
};

static void look_at_row(struct settled *s, const json_t *row)
{
    const char *id = json_string_value(json_object_get(row, "recordId"));
    const char *matrix = json_string_value(json_object_get(row, "matrixCatalogId"));
    const char *status = json_string_value(json_object_get(row, "status"));
    const char *want = "completed", *message;
    bool *told = NULL;

    if (!id || !status || !matrix)
        return;
    s->seen++;
    if (!strcmp(matrix, "m") && id[0] == 'e') {
        long k = strtol(id + 1, NULL, 10);

        if (k < 0 || k >= s->l->rows_len)
            return;
        if (s->l->rows[k].kind == L_CANCEL)
            want = "canceled";
        if (s->l->rows[k].told) /* was told once */
            return;
        told = &s->l->rows[k].told;
    }
    if (strcmp(status, want) != 0) {
        if (s->tell && told)
            *told = true;
        s->open++;
        message = json_string_value(json_object_get(json_object_get(row, "error"), "message"));
        snprintf(s->example, sizeof(s->example), "%s|%s is %s, not %s (%.120s)", matrix, id, status,
                 want, message ? message : "no error");
    }
}

/* All rows, as exj_daemon_rows, but of a worker that may end meanwhile. False: it did not
 * answer all of it. */
static bool walk(struct settled *s)
{
    int64_t after = 0;
    bool more = true;

    s->seen = s->open = 0;
    while (more) {
        json_t *body = NULL, *next, *row;
        char path[100];
        size_t i;

        snprintf(path, sizeof(path), "/v1/rows?limit=1000&after=%" PRId64, after);
        if (exj_daemon_call(&s->l->d, "GET", path, NULL, &body) != 200) {
            json_decref(body);
            return false;
        }
        json_array_foreach(json_object_get(body, "rows"), i, row)
            look_at_row(s, row);
        next = json_object_get(body, "next");
        more = json_is_integer(next);
        after = json_integer_value(next);
        json_decref(body);
    }
    return true;
}

static int64_t rows_wanted(const load *l)
{
    int64_t n = 2 * l->fed + l->round; /* two sources, and the schedule once a round */

    for (int64_t k = 0; k < l->rows_len; k++)
        n += l->rows[k].there;
    return n;
}

static bool is_settled(void *user)
{
    struct settled *s = user;

    if (!exj_prog_is_running(&s->l->d.prog))
        return true;
    return walk(s) && s->open == 0 && s->seen >= rows_wanted(s->l);
}

bool load_settle(load *l, unsigned ms)
{
    struct settled s = { .l = l };

    disarm(l);
    if (!exj_prog_is_running(&l->d.prog))
        revive(l);
    exj_until(is_settled, &s, l->d.prog.pidfd, 10, ms);
    /* One whose store failed ends when what runs has ended or its grace is over. */
    if (!s.seen)
        exj_until(is_settled, &s, l->d.prog.pidfd, 10, 15000);
    if (!exj_prog_is_running(&l->d.prog)) {
        revive(l);
        exj_until(is_settled, &s, l->d.prog.pidfd, 10, ms);
    }
    if (s.open == 0 && s.seen >= rows_wanted(l))
        return true;
    s.tell = true;
    walk(&s);
    load_wrong(l, "after %u ms %" PRId64 " rows of %" PRId64 " are there, %" PRId64
               " not as they must be: %s", ms, s.seen, rows_wanted(l), s.open, s.example);
    return false;
}

static void judge_sink(load *l)
{
    size_t n;
    char *text = exj_slurp(exj_tmp_path(&l->d.tmp, "events.jsonl"), &n), name[60];

    for (int64_t k = 0; k < l->rows_len; k++) {
        const char *at = text;
        bool ended = false;

        if (!l->rows[k].there)
            continue;
        snprintf(name, sizeof(name), "\"m||g|e%" PRId64 "\"", k);
        while (!ended && (at = strstr(at, name))) {
            const char *from = at, *end = strchr(at, '\n');
            size_t len = end ? (size_t)(end - from) : strlen(from);

            ended = memmem(from, len, "\"status\":\"completed\"", 20) ||
                    memmem(from, len, "\"status\":\"canceled\"", 19);
            at += strlen(name);
        }
        if (!ended) {
            load_wrong(l, "the sink never heard of the end of e%" PRId64, k);
            break;
        }
    }
    free(text);
}

static bool is_delivered(void *user)
{
    load *l = user;
    json_t *o = NULL, *e = NULL, *s;
    int64_t last, position;

    exj_daemon_call(&l->d, "GET", "/v1/events?after=0&limit=1", NULL, &e);
    exj_daemon_call(&l->d, "GET", "/v1/sinks", NULL, &o);
    s = json_array_get(json_object_get(o, "sinks"), 0);
    last = json_integer_value(json_object_get(e, "last"));
    position = json_integer_value(json_object_get(s, "position"));
    if (json_integer_value(json_object_get(s, "dead")) != 0)
        load_wrong(l, "a dead letter");
    json_decref(o);
    json_decref(e);
    return last > 0 && position >= last;
}

void load_judge(load *l)
{
    json_t *o = NULL;
    exj_prog doctor;
    int status;

    l->case_text = "the end";
    if (!exj_until(is_delivered, l, l->d.prog.pidfd, 20, 30000))
        load_wrong(l, "the sink does not get to the end");
    if (exj_daemon_call(&l->d, "GET", "/v1/journal/verify", NULL, &o) != 200 ||
        json_integer_value(json_object_get(o, "rows")) < rows_wanted(l) ||
        json_integer_value(json_object_get(o, "different")) != 0)
        load_wrong(l, "the journal does not verify");
    json_decref(o);
    status = exj_daemon_stop(&l->d, 60000);
    if (status != 0)
        load_wrong(l, "the stop: %d", status);
    judge_sink(l);
    status = exj_prog_run(&doctor, &l->d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs",
                          (const char *const *)l->d.env,
                          (const char *const[]){ "doctor", NULL }, 60000);
    if (status != 0) {
        char *said = exj_slurp(doctor.out, NULL);

        load_wrong(l, "doctor: %d %s", status, said);
        free(said);
    }
}
