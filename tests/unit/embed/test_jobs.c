/* A worker inside a program: exellix/jobs.h, over a real store in a temporary folder. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/embed/wiring.h"
#include "exellix/jobs.h"

#define IDLE_MS 30000u
#define PLUGIN_HOST EXJ_BINARY_DIR "/bin/exellix-jobs-plugin-host"

static char dir[64], why[512];
static exj_jobs *jobs; /* static: what a test leaves behind stays reachable */

/* ---- plugins of this program ----------------------------------------------------------------- */

/* Executions wait while it is shut. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static bool shut;
static int inside;

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    (void)instance;
}

static exj_result engine_execute(void *instance, exj_call c, const exj_args *a)
{
    static const char answer[] = "{\"status\":\"completed\",\"outputsByNodeId\":{\"n\":{}}}";
    const exj_host *h = instance;

    (void)a;
    pthread_mutex_lock(&gate);
    inside++;
    pthread_cond_broadcast(&moved);
    while (shut)
        pthread_cond_wait(&moved, &gate);
    pthread_mutex_unlock(&gate);
    return h->emit(h->ctx, c, (exj_str){ answer, sizeof answer - 1 });
}

/* payload.input is {"n":COUNT} */
static exj_result source_execute(void *instance, exj_call c, const exj_args *a)
{
    const exj_host *h = instance;
    long n = 0;
    char json[64], *input = strndup(a->model.p, a->model.n);
    const char *digits = input ? strpbrk(input, "0123456789") : NULL;
    exj_result r = EXJ_R_OK;

    n = digits ? strtol(digits, NULL, 10) : 0;
    free(input);
    for (long i = 0; i < n && r == EXJ_R_OK; i++) {
        int len = snprintf(json, sizeof json, "{\"id\":\"r%ld\",\"record\":{\"i\":%ld}}", i, i);

        r = h->emit(h->ctx, c, (exj_str){ json, (uint64_t)len });
    }
    return r;
}

#define PLUGIN(id_, kind_, execute_)                                                       \
    {                                                                                      \
        .size_of = EXJ_SIZE(exj_plugin, destroy), .kind = kind_,                           \
        .flags = EXJ_FLAG_CONCURRENT, .id = id_, .version = "1.0.0", .create = create,     \
        .execute = execute_, .destroy = destroy                                            \
    }
static const exj_plugin engine = PLUGIN("own.engine", EXJ_KIND_GRAPH_ENGINE, engine_execute);
static const exj_plugin source = PLUGIN("own.source", EXJ_KIND_SOURCE_RESOLVER, source_execute);
static const exj_plugin *const both[] = { &engine, &source };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 2, 0, both };

#define GRAPH(id)                                                                          \
    "{\"graphId\":\"" id "\",\"payload\":{\"graphId\":\"" id "\"},"                        \
    "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}"
#define MATRIX(id, graph, n)                                                               \
    "{\"matrixCatalogId\":\"" id "\",\"payload\":{\"input\":{\"n\":" n "},"                \
    "\"graphs\":[\"" graph "\"],\"pollWhenEmptySeconds\":3600,"                            \
    "\"dataSource\":{\"kind\":\"record\",\"resolver\":\"own.source\"}}}"

/* ---- around each test ------------------------------------------------------------------------- */

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%s/exj-embed-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(dir));
}

static void teardown(void)
{
    char line[100];

    exj_jobs_free(jobs);
    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    cr_expect_eq(system(line), 0);
}

TestSuite(jobs, .init = setup, .fini = teardown);

static exj_jobs_options options(uint32_t flags)
{
    exj_jobs_options o = EXJ_JOBS_OPTIONS_INIT;

    o.data_dir = dir;
    o.executor = "own.engine";
    o.flags = flags;
    o.log_level = EXJ_JOBS_LOG_ERROR;
    return o;
}

static void must(exj_jobs_code rc)
{
    cr_assert_eq(rc, EXJ_JOBS_OK, "%d: %s", (int)rc, why);
}

static void open_worker(uint32_t flags)
{
    exj_jobs_options o = options(flags);

    must(exj_jobs_open(&o, &jobs, why, sizeof why));
    must(exj_jobs_add_plugins(jobs, "own", &bundle, why, sizeof why));
}

static void apply(const char *json)
{
    must(exj_jobs_apply(jobs, json, strlen(json), why, sizeof why));
}

static exj_jobs_counts counts(void)
{
    exj_jobs_counts n = EXJ_JOBS_COUNTS_INIT;

    exj_jobs_get_counts(jobs, &n);
    return n;
}

static void refused(exj_jobs_code rc, exj_jobs_code wanted, const char *part)
{
    cr_expect_eq(rc, wanted, "wanted %d, got %d: %s", (int)wanted, (int)rc, why);
    cr_expect_not_null(strstr(why, part), "wanted \"%s\" in: %s", part, why);
}

struct answer {
    uint32_t status;
    char text[4096];
};

static void take(void *user, uint32_t status, const char *answer, size_t bytes)
{
    struct answer *a = user;

    a->status = status;
    snprintf(a->text, sizeof a->text, "%.*s", (int)bytes, answer);
}

static struct answer ask(const char *method, const char *path, const char *query)
{
    struct answer a = { 0 };

    must(exj_jobs_ask(jobs, method, path, query, NULL, 0, take, &a, why, sizeof why));
    return a;
}

static void set_gate(bool to)
{
    pthread_mutex_lock(&gate);
    shut = to;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&gate);
}

static void wait_inside(int n)
{
    pthread_mutex_lock(&gate);
    while (inside < n)
        pthread_cond_wait(&moved, &gate);
    pthread_mutex_unlock(&gate);
}

/* ---- the ordinary way -------------------------------------------------------------------------- */

Test(jobs, rows_of_a_static_source_go_through_a_static_executor)
{
    exj_jobs_counts n;
    struct answer row;

    open_worker(EXJ_JOBS_ONCE);
    apply("[" GRAPH("g") "," MATRIX("m", "g", "25") "]");
    must(exj_jobs_start(jobs, why, sizeof why));
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    n = counts();
    cr_expect_eq(n.scanned, 25);
    cr_expect_eq(n.materialized, 25);
    cr_expect_eq(n.completed, 25);
    cr_expect_eq(n.failed + n.open + n.executing + n.source_errors, 0);
    must(exj_jobs_health(jobs, why, sizeof why));
    row = ask("GET", "/rows", "status=completed&limit=1");
    cr_expect_eq(row.status, 200);
    cr_expect_not_null(strstr(row.text, "\"recordId\":\"r0\""), "%s", row.text);
    must(exj_jobs_stop(jobs, 1000, NULL));
    must(exj_jobs_stop(jobs, 1000, NULL)); /* again: nothing to do */
}

Test(jobs, what_is_applied_while_it_runs_is_seen_before_it_is_idle)
{
    open_worker(0);
    must(exj_jobs_start(jobs, why, sizeof why));
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    apply("[" GRAPH("g") "," MATRIX("m", "g", "7") "]");
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    cr_expect_eq(counts().completed, 7);
    apply(MATRIX("m", "g", "9")); /* two more in the same source */
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    cr_expect_eq(counts().completed, 9);
}

Test(jobs, a_store_that_is_opened_again_has_its_rows)
{
    open_worker(EXJ_JOBS_ONCE);
    apply("[" GRAPH("g") "," MATRIX("m", "g", "3") "]");
    must(exj_jobs_start(jobs, why, sizeof why));
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    exj_jobs_free(jobs);
    jobs = NULL;
    open_worker(EXJ_JOBS_ONCE);
    must(exj_jobs_start(jobs, why, sizeof why));
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    cr_expect_eq(counts().scanned, 3);
    cr_expect_eq(counts().materialized, 0);
}

Test(jobs, a_paused_worker_claims_nothing_until_it_is_resumed)
{
    open_worker(0);
    must(exj_jobs_start(jobs, why, sizeof why));
    exj_jobs_pause(jobs);
    apply("[" GRAPH("g") "," MATRIX("m", "g", "5") "]");
    cr_expect_eq(exj_jobs_wait_idle(jobs, 300), EXJ_JOBS_BUSY);
    exj_jobs_error(jobs, why, sizeof why);
    cr_expect_str_eq(why, "not idle after 300 ms");
    cr_expect_eq(counts().claimed, 0);
    cr_expect_eq(counts().paused, 1);
    exj_jobs_resume(jobs);
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    cr_expect_eq(counts().completed, 5);
    cr_expect_eq(counts().paused, 0);
}

Test(jobs, two_workers_live_in_one_process_with_a_folder_each)
{
    exj_jobs_options o = options(EXJ_JOBS_ONCE);
    exj_jobs *other = NULL;
    char second[80];

    open_worker(EXJ_JOBS_ONCE);
    refused(exj_jobs_open(&o, &other, why, sizeof why), EXJ_JOBS_BUSY, "embedded worker");
    cr_expect_null(other);
    snprintf(second, sizeof second, "%s/second", dir);
    o.data_dir = second;
    must(exj_jobs_open(&o, &other, why, sizeof why));
    must(exj_jobs_add_plugins(other, "own", &bundle, why, sizeof why));
    apply("[" GRAPH("g") "," MATRIX("m", "g", "4") "]");
    must(exj_jobs_start(other, why, sizeof why));
    must(exj_jobs_start(jobs, why, sizeof why));
    must(exj_jobs_wait_idle(other, IDLE_MS));
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    exj_jobs_free(other);
    cr_expect_eq(counts().completed, 4);
}

/* ---- doors ------------------------------------------------------------------------------------- */

static bool listens(uint32_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (const struct sockaddr *)&to, sizeof to) == 0;

    close(fd);
    return ok;
}

Test(jobs, opens_the_doors_that_were_asked_for_and_no_others)
{
    exj_request q = { .method = "GET", .path = EXJ_SLICE_LITERAL("/v1/workers/status"),
                      .trusted = true };
    exj_response answer = { 0 };
    char socket_path[100];
    exj_err err = { 0 };
    uint32_t port;

    snprintf(socket_path, sizeof socket_path, "%s/exellix-jobs.sock", dir);
    open_worker(EXJ_JOBS_ONCE);
    must(exj_jobs_start(jobs, why, sizeof why));
    cr_expect_eq(exj_jobs_port(jobs), 0);
    cr_expect_neq(access(socket_path, F_OK), 0);
    exj_jobs_free(jobs);
    open_worker(EXJ_JOBS_ONCE | EXJ_JOBS_HTTP | EXJ_JOBS_SOCKET);
    must(exj_jobs_start(jobs, why, sizeof why));
    port = exj_jobs_port(jobs);
    cr_assert_neq(port, 0);
    cr_expect(listens(port));
    cr_assert_eq(exj_client_call(socket_path, &q, 5000, &answer, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(answer.status, 200);
    exj_response_release(&answer);
    must(exj_jobs_stop(jobs, 1000, NULL));
    cr_expect_not(listens(port));
}

Test(jobs, a_door_that_cannot_be_opened_ends_the_start_and_nothing_runs)
{
    exj_jobs_options o = options(EXJ_JOBS_HTTP);

    o.bind = "0.0.0.0";
    must(exj_jobs_open(&o, &jobs, why, sizeof why));
    must(exj_jobs_add_plugins(jobs, "own", &bundle, why, sizeof why));
    refused(exj_jobs_start(jobs, why, sizeof why), EXJ_JOBS_REFUSED, "0.0.0.0");
    cr_expect_eq(exj_jobs_port(jobs), 0);
    cr_expect_eq(exj_jobs_wait_idle(jobs, 0), EXJ_JOBS_REFUSED);
}

/* ---- plugin files -------------------------------------------------------------------------------- */

/* An engine that answers with the process it runs in. */
static const char pid_engine[] =
    "#include <stdio.h>\n#include <unistd.h>\n#include \"exellix/plugin.h\"\n"
    "static exj_result create(const exj_host *h, exj_str c, void **i)\n"
    "{ (void)c; *i = (void *)h; return EXJ_R_OK; }\n"
    "static void destroy(void *i) { (void)i; }\n"
    "static exj_result execute(void *i, exj_call c, const exj_args *a)\n"
    "{ const exj_host *h = i; char t[200]; (void)a;\n"
    "  int n = snprintf(t, sizeof t, \"{\\\"status\\\":\\\"completed\\\",\"\n"
    "    \"\\\"outputsByNodeId\\\":{\\\"pid\\\":%ld}}\", (long)getpid());\n"
    "  return h->emit(h->ctx, c, (exj_str){ t, (uint64_t)n }); }\n"
    "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy),\n"
    "  .kind = EXJ_KIND_GRAPH_ENGINE, .id = \"test.pid\", .version = \"1\",\n"
    "  .create = create, .execute = execute, .destroy = destroy };\n"
    "static const exj_plugin *const ps[] = { &p };\n"
    "static const exj_bundle b = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0, ps };\n"
    "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n";

static void build_pid_engine(char *ret_folder, size_t cap)
{
    char line[1000], path[120];
    FILE *f;

    snprintf(ret_folder, cap, "%s/plugins-of-mine", dir);
    cr_assert_eq(mkdir(ret_folder, 0700), 0);
    snprintf(path, sizeof path, "%s/pid.c", ret_folder);
    f = fopen(path, "we");
    cr_assert_not_null(f);
    fputs(pid_engine, f);
    cr_assert_eq(fclose(f), 0);
    snprintf(line, sizeof line, "cc -std=gnu11 -shared -fPIC -I%s/include '%s' -o '%s/pid.so'",
             EXJ_SOURCE_DIR, path, ret_folder);
    cr_assert_eq(system(line), 0);
}

/* The process that did row `nth`. */
static json_int_t pid_of_row(size_t nth)
{
    json_t *list = json_loads(ask("GET", "/rows", NULL).text, 0, NULL), *row;
    const char *id = json_string_value(json_object_get(
        json_array_get(json_object_get(list, "rows"), nth), "matrixRowId"));
    exj_buf path = EXJ_BUF_INIT;
    json_int_t pid;

    cr_assert_not_null(id);
    exj_buf_add_text(&path, "/rows/");
    exj_add_encoded(&path, id);
    row = json_loads(ask("GET", path.p, NULL).text, 0, NULL);
    pid = json_integer_value(json_object_get(
        json_object_get(json_object_get(row, "result"), "outputsByNodeId"), "pid"));
    cr_assert_gt(pid, 0);
    exj_buf_release(&path);
    json_decref(list);
    json_decref(row);
    return pid;
}

/* Three rows of a static source, done by a plugin file. */
static void do_rows(const char *host, const char *isolation)
{
    char folder[100];
    const char *const dirs[] = { folder, NULL };
    exj_jobs_options o = options(EXJ_JOBS_ONCE);

    build_pid_engine(folder, sizeof folder);
    o.plugin_dirs = dirs;
    o.executor = "test.pid";
    o.max_concurrent = 1;
    o.plugin_host = host;
    o.isolation = isolation;
    must(exj_jobs_open(&o, &jobs, why, sizeof why));
    must(exj_jobs_add_plugins(jobs, "own", &bundle, why, sizeof why));
    apply("[" GRAPH("g") "," MATRIX("m", "g", "3") "]");
    must(exj_jobs_start(jobs, why, sizeof why));
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    cr_assert_eq(counts().completed, 3);
}

Test(jobs, a_plugin_file_runs_in_process_where_there_is_no_plugin_host)
{
    do_rows(NULL, NULL);
    cr_expect_eq(pid_of_row(0), getpid());
    cr_expect_eq(pid_of_row(2), getpid());
}

Test(jobs, a_plugin_file_runs_in_one_host_where_there_is_one)
{
    do_rows(PLUGIN_HOST, NULL);
    cr_expect_neq(pid_of_row(0), getpid());
    cr_expect_eq(pid_of_row(0), pid_of_row(2));
}

Test(jobs, a_plugin_file_runs_in_a_sandbox_for_each_row_when_told_to)
{
    do_rows(PLUGIN_HOST, "sandbox");
    cr_expect_neq(pid_of_row(0), getpid());
    cr_expect_neq(pid_of_row(0), pid_of_row(2));
}

/* ---- what is refused ---------------------------------------------------------------------------- */

Test(jobs, an_option_out_of_its_bounds_is_refused_by_name)
{
    static const char *const names[] = { "size_of", "size_of", "flags", "data_dir", "data_dir",
                                         "max_concurrent", "prefetch", "lease_ms", "lease_ms",
                                         "port", "log_level", "wanted plugin_host", "absent-host",
                                         "isolation \"cellar\"" };
    exj_jobs_options o[sizeof names / sizeof *names];

    for (size_t i = 0; i < sizeof o / sizeof *o; i++)
        o[i] = options(0);
    o[1].size_of = 8;
    o[2].flags = 1u << 31;
    o[3].data_dir = NULL;
    o[4].data_dir = "";
    o[5].max_concurrent = 1025;
    o[6].prefetch = 8193;
    o[7].lease_ms = 999;
    o[8].lease_ms = 900001;
    o[9].port = 65536;
    o[10].log_level = 4;
    o[11].isolation = "host";
    o[12].plugin_host = "./absent-host";
    o[13].plugin_host = PLUGIN_HOST;
    o[13].isolation = "cellar";
    for (size_t i = 0; i < sizeof o / sizeof *o; i++) {
        *why = '\0';
        refused(exj_jobs_open(i ? &o[i] : NULL, &jobs, why, sizeof why), EXJ_JOBS_INVALID,
                names[i]);
        cr_assert_null(jobs, "%s", names[i]);
    }
}

Test(jobs, options_of_an_older_program_are_shorter)
{
    size_t bytes = EXJ_SIZE(exj_jobs_options, executor);
    exj_jobs_options now = options(0), *o = malloc(bytes);

    now.size_of = (uint32_t)bytes;
    memcpy(o, &now, bytes); /* reading on would leave the allocation */
    must(exj_jobs_open(o, &jobs, why, sizeof why));
    free(o);
    must(exj_jobs_add_plugins(jobs, "own", &bundle, why, sizeof why));
    must(exj_jobs_start(jobs, why, sizeof why));
}

Test(jobs, counts_of_an_older_program_are_shorter)
{
    exj_jobs_counts n;

    open_worker(EXJ_JOBS_ONCE);
    apply("[" GRAPH("g") "," MATRIX("m", "g", "2") "]");
    must(exj_jobs_start(jobs, why, sizeof why));
    must(exj_jobs_wait_idle(jobs, IDLE_MS));
    memset(&n, 0x5a, sizeof n);
    n.size_of = EXJ_SIZE(exj_jobs_counts, materialized);
    exj_jobs_get_counts(jobs, &n);
    cr_expect_eq(n.materialized, 2);
    cr_expect_eq(n.claimed, 0x5a5a5a5a5a5a5a5aull);
}

Test(jobs, an_executor_that_is_not_there_is_told_and_may_be_added_then)
{
    exj_jobs_options o = options(EXJ_JOBS_ONCE);

    must(exj_jobs_open(&o, &jobs, why, sizeof why));
    refused(exj_jobs_start(jobs, why, sizeof why), EXJ_JOBS_NOT_FOUND, "own.engine");
    must(exj_jobs_add_plugins(jobs, "own", &bundle, why, sizeof why));
    must(exj_jobs_start(jobs, why, sizeof why));
    refused(exj_jobs_start(jobs, why, sizeof why), EXJ_JOBS_REFUSED, "started already");
    refused(exj_jobs_add_plugins(jobs, "more", &bundle, why, sizeof why), EXJ_JOBS_REFUSED,
            "before the start");
}

Test(jobs, a_bundle_is_judged_and_a_name_is_taken_once)
{
    exj_bundle bad = bundle;

    open_worker(0);
    refused(exj_jobs_add_plugins(jobs, "own", &bundle, why, sizeof why), EXJ_JOBS_CONFLICT,
            "taken");
    bad.n = 0;
    refused(exj_jobs_add_plugins(jobs, "bad", &bad, why, sizeof why), EXJ_JOBS_INVALID,
            "bad: bundle: n");
    exj_jobs_error(jobs, why, sizeof why);
    cr_expect_not_null(strstr(why, "bad: bundle: n"), "%s", why);
}

Test(jobs, documents_are_applied_all_or_not_at_all)
{
    static const struct {
        const char *json, *part;
    } bad[] = {
        { "[" GRAPH("a") ",{\"x\":1}]", "documents#2" },
        { "[" GRAPH("a") "," GRAPH("a") "]", "\"a\"" },
        { "[" GRAPH("a"), "ends inside an array" },
        { "[" GRAPH("a") ",{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":7}}]", "graphs" },
    };

    open_worker(0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refused(exj_jobs_apply(jobs, bad[i].json, strlen(bad[i].json), why, sizeof why),
                EXJ_JOBS_INVALID, bad[i].part);
        cr_expect_eq(ask("GET", "/configs/graphs/a", NULL).status, 404, "%s", bad[i].json);
    }
    refused(exj_jobs_apply(jobs, "", 0, why, sizeof why), EXJ_JOBS_INVALID, "found nothing");
    apply(GRAPH("a"));
    cr_expect_eq(ask("GET", "/configs/graphs/a", NULL).status, 200);
}

Test(jobs, a_wrong_question_is_an_answer_and_a_path_that_is_none_an_error)
{
    open_worker(0);
    cr_expect_eq(ask("GET", "/nowhere", NULL).status, 404);
    cr_expect_eq(ask("DELETE", "/rows", NULL).status, 405);
    refused(exj_jobs_ask(jobs, "GET", "rows", NULL, NULL, 0, take, NULL, why, sizeof why),
            EXJ_JOBS_INVALID, "path");
}

Test(jobs, before_the_start_there_is_nothing_to_wait_for)
{
    open_worker(0);
    cr_expect_eq(exj_jobs_wait_idle(jobs, 0), EXJ_JOBS_REFUSED);
    refused(exj_jobs_health(jobs, why, sizeof why), EXJ_JOBS_REFUSED, "not started");
    cr_expect_eq(counts().open, 0);
    exj_jobs_pause(jobs);
    exj_jobs_resume(jobs);
    must(exj_jobs_stop(jobs, 0, NULL));
}

/* ---- the end ------------------------------------------------------------------------------------ */

Test(jobs, stop_waits_for_what_runs)
{
    open_worker(EXJ_JOBS_ONCE);
    apply("[" GRAPH("g") "," MATRIX("m", "g", "1") "]");
    set_gate(true);
    must(exj_jobs_start(jobs, why, sizeof why));
    wait_inside(1);
    cr_expect_eq(counts().executing, 1);
    set_gate(false);
    must(exj_jobs_stop(jobs, IDLE_MS, NULL));
    cr_expect_not_null(strstr(ask("GET", "/rows", NULL).text, "\"completed\""));
}

Test(jobs, what_outlasts_the_grace_is_counted_and_keeps_its_memory)
{
    uint32_t left = 0;

    open_worker(EXJ_JOBS_ONCE);
    apply("[" GRAPH("g") "," MATRIX("m", "g", "1") "]");
    set_gate(true);
    must(exj_jobs_start(jobs, why, sizeof why));
    wait_inside(1);
    cr_expect_eq(exj_jobs_stop(jobs, 50, &left), EXJ_JOBS_BUSY);
    cr_expect_eq(left, 1);
    exj_jobs_error(jobs, why, sizeof why);
    cr_expect_not_null(strstr(why, "1 executions outlasted"), "%s", why);
}
