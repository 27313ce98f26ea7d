/* examples/nightly whole: its documents, applied to a real daemon under a clock that
 * the test sets, over a small package database. It fires at 02:00, is killed among its
 * steps, waits, is approved, and tells a receiver, signed; and again the next night. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "core/base/sha256.h"
#include "tests/support/wall_clock.h"

#define SECRET "the secret of the nightly test"
#define PACKAGES 12
#define STEPS 6 /* two packages each */
#define BODY_MAX (1u << 20)
#define NIGHT_1 "nightly||nightly-audit|nightly-audit@2031-01-14T01:00:00Z"
#define NIGHT_2 "nightly||nightly-audit|nightly-audit@2031-01-15T01:00:00Z"

static exj_daemon d;
static struct wall_clock wall;

/* ---- the receiver ----------------------------------------------------------------- */

/* What docs/sinks.md tells a receiver to do: check the signature, count each number once.
 */
static struct {
    int listener, stop;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t mu;
    json_t *events;     /* by number; guarded by mu, as all below */
    unsigned unsigned_; /* requests whose signature is not ours */
} web;

static bool web_wait(int fd)
{
    struct pollfd p[2] = { { .fd = web.stop, .events = POLLIN },
                           { .fd = fd, .events = POLLIN } };

    return poll(p, 2, 60000) > 0 && !p[0].revents;
}

/* HMAC-SHA256 (RFC 2104) of `text`; the secret is shorter than a block. */
static void hmac_hex(const char *text, char ret[65])
{
    unsigned char pad[2][64], inner[32], outer[32];
    exj_sha256 h;

    for (size_t k = 0; k < 64; k++) {
        unsigned char byte = k < strlen(SECRET) ? (unsigned char)SECRET[k] : 0;

        pad[0][k] = byte ^ 0x36;
        pad[1][k] = byte ^ 0x5c;
    }
    exj_sha256_init(&h);
    exj_sha256_update(&h, pad[0], 64);
    exj_sha256_update(&h, text, strlen(text));
    exj_sha256_final(&h, inner);
    exj_sha256_init(&h);
    exj_sha256_update(&h, pad[1], 64);
    exj_sha256_update(&h, inner, 32);
    exj_sha256_final(&h, outer);
    for (int k = 0; k < 32; k++)
        sprintf(ret + 2 * k, "%02x", outer[k]);
}

static bool is_signed(const char *head, const char *body)
{
    const char *found = strcasestr(head, "X-Exellix-Signature: ");
    char v1[65] = "", wanted[65], *text = NULL;
    long long t = 0;

    if (!found || sscanf(found + 21, "t=%lld,v1=%64[0-9a-f]", &t, v1) != 2 ||
        asprintf(&text, "%lld.%s", t, body) < 0)
        return false;
    hmac_hex(text, wanted);
    free(text);
    return strcmp(v1, wanted) == 0;
}

/* One request. False: the connection is over. */
static bool web_take(int fd, char *all)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    static const char no[] = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
    size_t n = 0, want = 0, k;
    char *body = NULL, number[32];
    json_t *o, *e;
    bool ours;

    while (!body || n < want) {
        ssize_t got = web_wait(fd) ? recv(fd, all + n, BODY_MAX - 1 - n, 0) : 0;

        if (got <= 0)
            return false;
        n += (size_t)got;
        all[n] = '\0';
        if (!body && (body = strstr(all, "\r\n\r\n"))) {
            const char *length = strcasestr(all, "Content-Length: ");

            *body = '\0';
            body += 4;
            want = (size_t)(body - all) + (length ? strtoul(length + 16, NULL, 10) : 0);
        }
    }
    ours = is_signed(all, body);
    pthread_mutex_lock(&web.mu);
    web.unsigned_ += !ours;
    o = ours ? json_loads(body, 0, NULL) : NULL;
    json_array_foreach(json_object_get(o, "events"), k, e)
    {
        snprintf(number, sizeof(number), "%012" JSON_INTEGER_FORMAT,
                 json_integer_value(json_object_get(e, "number")));
        json_object_set(web.events, number, e);
    }
    json_decref(o);
    pthread_mutex_unlock(&web.mu);
    return send(fd, ours ? ok : no, sizeof(ok) - 1, MSG_NOSIGNAL) > 0;
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

static void web_open(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof(at);

    memset(&web, 0, sizeof(web));
    web.events = json_object();
    pthread_mutex_init(&web.mu, NULL);
    web.stop = eventfd(0, EFD_CLOEXEC);
    web.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(web.listener, (struct sockaddr *)&at, n), 0);
    cr_assert_eq(listen(web.listener, 16), 0);
    cr_assert_eq(getsockname(web.listener, (struct sockaddr *)&at, &n), 0);
    web.port = ntohs(at.sin_port);
    cr_assert_eq(pthread_create(&web.thread, NULL, web_serve, NULL), 0);
}

static void web_close(void)
{
    uint64_t one = 1;

    cr_assert_eq(write(web.stop, &one, sizeof(one)), (ssize_t)sizeof(one));
    pthread_join(web.thread, NULL);
    close(web.listener);
    close(web.stop);
    json_decref(web.events);
    pthread_mutex_destroy(&web.mu);
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

struct told {
    const char *row, *kind, *text; /* text: part of it */
    unsigned n;                    /* how many different events fit */
};

static bool was_told(void *user)
{
    struct told *t = user;
    const char *number;
    json_t *e;

    t->n = 0;
    pthread_mutex_lock(&web.mu);
    json_object_foreach(web.events, number, e) t->n +=
        !strcmp(text_of(e, "matrixRowId"), t->row) &&
        !strcmp(text_of(e, "kind"), t->kind) &&
        strstr(text_of(e, "text"), t->text) != NULL;
    pthread_mutex_unlock(&web.mu);
    return t->n > 0;
}

/* The receiver learns of it, once. */
static void expect_told(const char *row, const char *kind, const char *text)
{
    struct told t = { row, kind, text, 0 };

    cr_assert(exj_until(was_told, &t, d.prog.pidfd, 20, 30000), "%s: no %s \"%s\" came",
              row, kind, text);
    cr_expect_eq(t.n, 1, "%s: %s \"%s\" came under %u numbers", row, kind, text, t.n);
}

/* ---- packages --------------------------------------------------------------------- */

#define GOOD "good\n"

static const char *file_of(int package)
{
    char name[64];

    snprintf(name, sizeof(name), "root/usr/bin/p%02d", package);
    return exj_tmp_path(&d.tmp, name);
}

static void make_dir(const char *name)
{
    cr_assert_eq(mkdir(exj_tmp_path(&d.tmp, name), 0755), 0, "%s", name);
}

/* A machine of PACKAGES packages, each with a folder and a file that is what it should
 * be. */
static void plant(void)
{
    static const char *const dirs[] = {
        "root",         "root/usr",          "root/usr/bin",          "root/var",
        "root/var/lib", "root/var/lib/dpkg", "root/var/lib/dpkg/info"
    };
    char status[PACKAGES * 160] = "", name[80], text[160], sum[33] = "";
    size_t n = 0;
    FILE *f;

    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
        make_dir(dirs[i]);
    f = popen("printf 'good\\n' | md5sum", "r");
    cr_assert(f && fscanf(f, "%32[0-9a-f]", sum) == 1);
    pclose(f);
    for (int p = 1; p <= PACKAGES; p++) {
        exj_spit(file_of(p), GOOD);
        snprintf(name, sizeof(name), "root/var/lib/dpkg/info/p%02d.list", p);
        snprintf(text, sizeof(text), "/usr/bin\n/usr/bin/p%02d\n", p);
        exj_spit(exj_tmp_path(&d.tmp, name), text);
        snprintf(name, sizeof(name), "root/var/lib/dpkg/info/p%02d.md5sums", p);
        snprintf(text, sizeof(text), "%s  usr/bin/p%02d\n", sum, p);
        exj_spit(exj_tmp_path(&d.tmp, name), text);
        n += (size_t)snprintf(status + n, sizeof(status) - n,
                              "Package: p%02d\nStatus: install ok installed\n"
                              "Architecture: amd64\nVersion: 1\n\n",
                              p);
    }
    exj_spit(exj_tmp_path(&d.tmp, "root/var/lib/dpkg/status"), status);
}

/* ---- the example's documents ------------------------------------------------------ */

static json_t *document(const char *name)
{
    char path[400];
    json_error_t e;
    json_t *o;

    snprintf(path, sizeof(path), EXJ_SOURCE_DIR "/examples/nightly/%s", name);
    o = json_load_file(path, 0, &e);
    cr_assert(o, "%s: %s", path, e.text);
    return o;
}

static void write_down(json_t *o, const char *name)
{
    cr_assert_eq(json_dump_file(o, exj_tmp_path(&d.tmp, name), JSON_INDENT(2)), 0);
    json_decref(o);
}

/* What `name` says, but for what differs from machine to machine. */
static void write_documents(int approval_seconds)
{
    json_t *o = document("config/schedule.json"), *at;

    make_dir("config");
    at =
        json_object_get(json_object_get(json_object_get(o, "payload"), "start"), "input");
    json_object_set_new(at, "root", json_string(exj_tmp_path(&d.tmp, "root")));
    json_object_set_new(at, "adminDir",
                        json_string(exj_tmp_path(&d.tmp, "root/var/lib/dpkg")));
    write_down(o, "config/schedule.json");

    o = document("config/graph.json");
    at = json_object_get(json_object_get(o, "payload"), "model");
    json_object_set_new(at, "filesPerStep", json_integer(2 * PACKAGES / STEPS));
    if (approval_seconds)
        json_object_set_new(at, "approvalSeconds", json_integer(approval_seconds));
    write_down(o, "config/graph.json");
    write_down(document("config/matrix.json"), "config/matrix.json");

    o = document("sinks.json");
    at = json_object_get(json_array_get(json_object_get(o, "sinks"), 0), "config");
    json_object_set_new(at, "url", json_sprintf("http://127.0.0.1:%u/nightly", web.port));
    json_object_set_new(at, "secretFile", json_string(exj_tmp_path(&d.tmp, "secret")));
    write_down(o, "sinks.json");
    exj_spit(exj_tmp_path(&d.tmp, "secret"), SECRET "\n");
    cr_assert_eq(chmod(exj_tmp_path(&d.tmp, "secret"), 0600), 0);
}

static void setup(void)
{
    exj_daemon_init(&d);
    web_open();
    wall_open(&wall, &d.tmp, "2031-01-14T00:30:00Z"); /* half past one in Berlin */
    exj_daemon_set(&d, "LD_PRELOAD", "%s", WALL_CLOCK_LIBRARY);
    exj_daemon_set(&d, "EXJ_TEST_CLOCK", "%s", wall.path);
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_DIR", "%s",
                   EXJ_BINARY_DIR "/examples/plugins:" EXJ_BINARY_DIR "/bin/plugins");
    exj_daemon_set(&d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", "audit.nightly");
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_ISOLATION", "host"); /* what a user has */
    exj_daemon_set(&d, "EXELLIX_JOBS_SINKS", "%s", exj_tmp_path(&d.tmp, "sinks.json"));
    plant();
}

static void teardown(void)
{
    exj_daemon_release(&d);
    web_close();
}

TestSuite(nightly, .init = setup, .fini = teardown, .timeout = 100);

/* The program with these words; it must end well. */
static void run_words(const char *const *args)
{
    exj_prog p;
    int status = exj_prog_run(&p, &d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs",
                              (const char *const *)d.env, args, 20000);
    char *said = exj_slurp(p.err, NULL);

    cr_assert_eq(status, 0, "%s %s: %d: %s", args[0], args[1], status, said);
    free(said);
}

#define RUN(...) run_words((const char *const[]){ __VA_ARGS__, NULL })

/* The clock is set, and the worker looks at it. */
static void set_clock(const char *text)
{
    wall_set(&wall, text);
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL), 200);
}

/* ---- rows
 * ---------------------------------------------------------------------------------------
 */

/* GET of the row, or below it; NULL: there is none. New reference. */
static json_t *look(const char *row, const char *below)
{
    char path[400] = "/v1/rows/";
    size_t n = strlen(path);
    json_t *o = NULL;

    for (const char *p = row; *p; p++)
        n += (size_t)snprintf(path + n, sizeof(path) - n,
                              strchr("|@:", *p) ? "%%%02X" : "%c", (unsigned char)*p);
    snprintf(path + n, sizeof(path) - n, "%s", below);
    if (exj_daemon_call(&d, "GET", path, NULL, &o) == 200)
        return o;
    json_decref(o);
    return NULL;
}

struct awaited {
    const char *row, *status;
};

static bool is_status(void *user)
{
    struct awaited *a = user;
    json_t *o = look(a->row, "");
    bool is = o && strcmp(text_of(o, "status"), a->status) == 0;

    json_decref(o);
    return is;
}

static void wait_row(const char *row, const char *status)
{
    struct awaited a = { row, status };

    cr_assert(exj_until(is_status, &a, d.prog.pidfd, 20, 30000), "row %s never became %s",
              row, status);
}

/* How many entries of a kind the row's journal has, of a step or (NULL) of all. */
static int entries(const char *row, const char *kind, const char *step)
{
    json_t *o = look(row, "/journal"), *e;
    size_t i;
    int n = 0;

    json_array_foreach(json_object_get(o, "entries"), i, e) n +=
        !strcmp(text_of(e, "event"), kind) &&
        (!step || !strcmp(text_of(e, "step"), step));
    json_decref(o);
    return n;
}

static bool has_begun_4(void *user)
{
    return entries(user, "step_begun", "files-0004") > 0;
}

static json_t *report_of(const char *row)
{
    json_t *o = look(row, ""), *report;

    cr_assert_not_null(o, "no row %s", row);
    report = json_incref(json_object_get(
        json_object_get(json_object_get(o, "result"), "outputsByNodeId"), "report"));
    json_decref(o);
    cr_assert(json_is_object(report), "no report in %s", row);
    return report;
}

/* The receiver has the whole report, as the row has it. */
static void expect_report_told(const char *row)
{
    json_t *report = report_of(row), *e, *told = NULL;
    const char *number;

    expect_told(row, "completed", "");
    pthread_mutex_lock(&web.mu);
    json_object_foreach(web.events, number, e) if (!strcmp(text_of(e, "matrixRowId"), row) &&
                                                   !strcmp(text_of(e, "kind"), "completed"))
        told = json_incref(json_object_get(
            json_object_get(json_object_get(e, "result"), "outputsByNodeId"), "report"));
    pthread_mutex_unlock(&web.mu);
    cr_expect(told && json_equal(told, report), "%s: the receiver has no report", row);
    json_decref(told);
    json_decref(report);
}

static void expect_report(const char *row, const char *lines, const char *approval)
{
    json_t *report = report_of(row);
    char *found = json_dumps(json_object_get(report, "lines"), JSON_COMPACT);
    char *by =
        json_dumps(json_object_get(report, "approval"), JSON_COMPACT | JSON_ENCODE_ANY);

    cr_expect_eq(json_integer_value(json_object_get(report, "packages")), PACKAGES);
    cr_expect_eq(json_integer_value(json_object_get(report, "steps")), STEPS);
    cr_expect_str_eq(found, lines);
    cr_expect_str_eq(by, approval);
    free(found);
    free(by);
    json_decref(report);
}

static void approve(const char *row, const char *payload)
{
    exj_spit(exj_tmp_path(&d.tmp, "payload"), payload);
    RUN("rows", "signal", row, "approve", "--file", exj_tmp_path(&d.tmp, "payload"));
}

/* ---- tests
 * --------------------------------------------------------------------------------------
 */

Test(nightly, it_fires_at_two_survives_a_kill_waits_for_approval_and_tells_the_receiver)
{
    char row[] = NIGHT_1, name[20];

    write_documents(0);
    cr_assert(exj_daemon_start(&d));
    RUN("apply", "-f", exj_tmp_path(&d.tmp, "config"));
    set_clock("2031-01-14T00:59:58Z");
    cr_assert_null(look(NIGHT_1, ""), "it is not two o'clock yet");

    /* p03 changed, p05 gone; and p07 is so large that the night would not do for it, so
     * we know where the worker is when it is killed: among the files of step 4 */
    exj_spit(file_of(3), "bad\n");
    cr_assert_eq(unlink(file_of(5)), 0);
    cr_assert_eq(truncate(file_of(7), (off_t)1 << 38), 0);
    set_clock("2031-01-14T01:00:00Z");
    cr_assert(exj_until(has_begun_4, row, d.prog.pidfd, 20, 20000), "no step 4");
    exj_prog_signal(&d.prog, SIGKILL);
    cr_assert_eq(exj_prog_wait(&d.prog, 10000), 1000 + SIGKILL);

    /* What changes in files of finished steps is not seen any more; in others it is. */
    exj_spit(file_of(2), "bad\n");
    exj_spit(file_of(7), GOOD);
    exj_spit(file_of(11), "bad\n");
    cr_assert(exj_daemon_start(&d));
    wait_row(NIGHT_1, "suspended");
    for (int k = 1; k <= STEPS; k++) {
        snprintf(name, sizeof(name), "files-%04d", k);
        cr_expect_eq(entries(NIGHT_1, "step_begun", name), k == 4 ? 2 : 1,
                     "step %d ran %d times", k, entries(NIGHT_1, "step_begun", name));
        cr_expect_eq(entries(NIGHT_1, "step", name), 1);
    }
    expect_told(NIGHT_1, "progress",
                "waits for approval: 12 packages, 11 files: 2 changed, 1 "
                "missing, 0 unreadable");
    expect_told(NIGHT_1, "suspended", "");

    approve(NIGHT_1, "{\"by\":\"anna\",\"ticket\":7}");
    wait_row(NIGHT_1, "completed");
    expect_report(NIGHT_1,
                  "[\"??5??????   /usr/bin/p03\",\"missing     /usr/bin/p05\","
                  "\"??5??????   /usr/bin/p11\"]",
                  "{\"by\":\"anna\",\"ticket\":7}");
    expect_told(NIGHT_1, "progress",
                "approved by anna: 12 packages, 11 files: 2 changed");
    expect_report_told(NIGHT_1);
    cr_expect_eq(entries(NIGHT_1, "step_begun", NULL), STEPS + 1,
                 "nothing was read again");

    /* The next night is a run of its own, and sees what came after the last. */
    set_clock("2031-01-15T00:59:58Z");
    cr_expect_eq(exj_daemon_tally(&d, "nightly").total, 1, "one row a night");
    set_clock("2031-01-15T01:00:00Z");
    wait_row(NIGHT_2, "suspended");
    approve(NIGHT_2, "{\"by\":\"bert\"}");
    wait_row(NIGHT_2, "completed");
    expect_report(NIGHT_2,
                  "[\"??5??????   /usr/bin/p02\",\"??5??????   /usr/bin/p03\","
                  "\"missing     /usr/bin/p05\",\"??5??????   /usr/bin/p11\"]",
                  "{\"by\":\"bert\"}");
    expect_report_told(NIGHT_2);
    expect_told(NIGHT_2, "progress",
                "approved by bert: 12 packages, 11 files: 3 changed");
    cr_expect_eq(exj_daemon_tally(&d, "nightly").total, 2);
    cr_expect_eq(entries(NIGHT_1, "completed", NULL), 1, "the first night is over");
    cr_expect_eq(web.unsigned_, 0);
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
}

/* A row by hand: `exellix-jobs trigger`, with `root` as the machine's root. */
static const char *trigger(const char *root)
{
    char input[700];

    snprintf(input, sizeof(input), "{\"root\":\"%s\"}", root);
    exj_spit(exj_tmp_path(&d.tmp, "input"), input);
    RUN("trigger", "nightly", "--id", "by-hand", "--input",
        exj_tmp_path(&d.tmp, "input"));
    return "nightly||nightly-audit|by-hand";
}

Test(nightly, a_rejected_report_fails_and_may_be_shown_again_without_a_file_being_read)
{
    const char *row;

    write_documents(0);
    cr_assert(exj_daemon_start(&d));
    RUN("apply", "-f", exj_tmp_path(&d.tmp, "config"));
    row = trigger(exj_tmp_path(&d.tmp, "root"));
    wait_row(row, "suspended");
    approve(row, "{\"by\":\"bert\",\"approved\":false}");
    wait_row(row, "failed");
    expect_told(row, "failed",
                "bert rejected the report; `exellix-jobs rows rerun ROW --from "
                "signal:approve` asks again");
    RUN("rows", "rerun", row, "--from", "signal:approve");
    wait_row(row, "suspended");
    approve(row, "{}");
    wait_row(row, "completed");
    expect_report(row, "[]", "{}");
    expect_told(row, "progress",
                "approved by somebody: 12 packages, 12 files: 0 changed");
    cr_expect_eq(entries(row, "step_begun", NULL), STEPS, "nothing was read again");
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
}

Test(nightly, a_report_that_nobody_approves_in_time_fails_and_says_so)
{
    const char *row;

    write_documents(3600);
    cr_assert(exj_daemon_start(&d));
    RUN("apply", "-f", exj_tmp_path(&d.tmp, "config"));
    row = trigger(exj_tmp_path(&d.tmp, "root"));
    wait_row(row, "suspended");
    set_clock("2031-01-14T01:45:00Z");
    wait_row(row, "failed");
    expect_told(row, "failed", "nobody approved the report in time");
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
}

Test(nightly, what_cannot_be_read_fails_with_a_reason_and_no_step)
{
    const char *row;

    write_documents(0);
    cr_assert(exj_daemon_start(&d));
    RUN("apply", "-f", exj_tmp_path(&d.tmp, "config"));
    row = trigger("not/absolute");
    wait_row(row, "failed");
    expect_told(row, "failed", "must be absolute paths");
    cr_expect_eq(entries(row, "step_begun", NULL), 0);

    /* a list that was cut short: dpkg's own words for what is wrong */
    exj_spit(exj_tmp_path(&d.tmp, "root/var/lib/dpkg/info/p06.list"), "/usr/bin");
    set_clock("2031-01-14T01:00:00Z");
    wait_row(NIGHT_1, "failed");
    expect_told(NIGHT_1, "failed", "the final newline is missing in");
    cr_expect_eq(entries(NIGHT_1, "step", NULL), 2, "what was finished before stays");
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
}
