/* Plugins that do everything wrong, on the lanes host and sandbox of the real program: the
 * worker lives on, no other row is harmed, and the evil row ends as docs/isolation.md says.
 *
 * Each deed has a copy of the plugin and two graphs: of 51 records one is evil in graph "g", and
 * the same 51 are harmless in graph "h", all through the same plugin hosts. */
#include <criterion/criterion.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/base/sha256.h"
#include "tests/daemon/evil_support.h"

#define RECORDS 51
#define EVIL_AT 20

enum end {
    SET_ASIDE, /* blocked with Quarantined after three crashes */
    FAILS,     /* failed with `code` */
    COMPLETES  /* and tells what it tried */
};

struct deed {
    const char *name;
    enum end end;
    int attempts;
    const char *code, *says; /* says: in the error's text, or in the answer */
    const char *execution;   /* more members of the graph's execution; NULL */
    bool (*check)(json_t *deed);
    bool traced; /* its error shows where it died */
};

static exj_daemon d;

/* ---- one row ------------------------------------------------------------------------------ */

struct look {
    const struct deed *deed;
    char evil[256];
    unsigned good;
    json_t *shown; /* of the evil row */
};

static void contains(const struct deed *deed, const char *text, const char *part)
{
    cr_assert(text && strstr(text, part), "%s: wanted \"%s\" in: %s", deed->name, part, text);
}

static bool visit(void *user, const json_t *row)
{
    struct look *l = user;
    const char *name = json_string_value(json_object_get(row, "matrixRowId"));
    const char *graph = json_string_value(json_object_get(row, "graphId"));
    const char *record = json_string_value(json_object_get(row, "recordId"));
    char evil_record[24];

    snprintf(evil_record, sizeof(evil_record), "r-%07d", EVIL_AT);
    if (graph[0] == 'g' && strcmp(record, evil_record) == 0) {
        snprintf(l->evil, sizeof(l->evil), "%s", name);
        return true;
    }
    cr_assert_str_eq(json_string_value(json_object_get(row, "status")), "completed",
                     "%s: the good row %s: %s", l->deed->name, name, json_dumps(row, 0));
    /* A host that is ended for one of its PENDING rows takes the others with it: one that was in
     * it just then is done again (core/plugin/remote.h, "HostDied"). */
    if (strcmp(l->deed->name, "pending") == 0 &&
        json_integer_value(json_object_get(row, "attempts")) == 2) {
        json_t *whole = row_whole(&d, name);
        char *text = json_dumps(json_object_get(whole, "failures"), 0);

        contains(l->deed, text, "HostDied");
        free(text);
        json_decref(whole);
    } else {
        cr_assert_eq(json_integer_value(json_object_get(row, "attempts")), 1,
                     "%s: the good row %s: %s", l->deed->name, name, json_dumps(row, 0));
    }
    l->good++;
    return true;
}

static void sha_start(unsigned number, char ret[13])
{
    char path[64], hex[65], *bytes;
    size_t n = 0;

    snprintf(path, sizeof(path), "plugins/evil-engine-%04u.so", number);
    bytes = exj_slurp(exj_tmp_path(&d.tmp, path), &n);
    exj_sha256_hex(bytes, n, hex);
    free(bytes);
    snprintf(ret, 13, "%.12s", hex);
}

static void check_error(const struct deed *deed, unsigned number, const json_t *row)
{
    const json_t *error = json_object_get(row, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *text = json_string_value(json_object_get(error, "message"));
    char id[24], sha[13];

    cr_assert(code && strcmp(code, deed->code) == 0, "%s: %s: %s", deed->name, code, text);
    contains(deed, text, deed->says);
    snprintf(id, sizeof(id), "evil-engine-%04u 6.6.6", number);
    contains(deed, text, id);
    cr_assert_null(strstr(strstr(text, id) + 1, id), "%s is named twice: %s", id, text);
    if (deed->end != SET_ASIDE)
        return;
    sha_start(number, sha);
    contains(deed, text, sha);
    if (deed->traced)
        contains(deed, text, ".so+0x"); /* a place of the backtrace */
}

static void check_deed(const struct deed *deed, unsigned number)
{
    struct look l = { .deed = deed };
    const char *status;
    char matrix[24];

    snprintf(matrix, sizeof(matrix), "m%u", number);
    exj_daemon_rows(&d, matrix, visit, &l);
    cr_assert_eq(l.good, 2 * RECORDS - 1, "%s: %u good rows", deed->name, l.good);
    cr_assert(*l.evil);
    l.shown = row_whole(&d, l.evil);
    status = json_string_value(json_object_get(l.shown, "status"));
    cr_assert_str_eq(status, deed->end == SET_ASIDE ? "blocked"
                             : deed->end == FAILS   ? "failed"
                                                    : "completed",
                     "%s: %s", deed->name, json_dumps(l.shown, 0));
    cr_assert_eq(json_integer_value(json_object_get(l.shown, "attempts")), deed->attempts,
                 "%s: %s", deed->name, json_dumps(l.shown, 0));
    if (deed->end == COMPLETES) {
        const json_t *tried = json_object_get(deed_of(l.shown), "tried");

        if (deed->says)
            contains(deed, json_string_value(tried), deed->says);
        if (deed->check)
            cr_assert(deed->check(deed_of(l.shown)), "%s: %s", deed->name,
                      json_dumps(deed_of(l.shown), 0));
    } else {
        check_error(deed, number, l.shown);
    }
    json_decref(l.shown);
}

/* ---- a daemon of them --------------------------------------------------------------------- */

static void put_graphs(const struct deed *deed, unsigned number)
{
    char graph[24], execution[300];

    snprintf(execution, sizeof(execution),
             "{\"executor\":\"evil-engine-%04u\",\"retry\":{\"initialSeconds\":0,"
             "\"maxSeconds\":0}%s}",
             number, deed->execution ? deed->execution : "");
    for (const char *kind = "gh"; *kind; kind++) {
        snprintf(graph, sizeof(graph), "%c%u", *kind, number);
        exj_daemon_graph(&d, graph, execution);
    }
}

static void put_deed(const struct deed *deed, unsigned number)
{
    char matrix[24], graphs[64], input[1200];

    snprintf(matrix, sizeof(matrix), "m%u", number);
    snprintf(graphs, sizeof(graphs), "[\"g%u\",\"h%u\"]", number, number);
    snprintf(input, sizeof(input),
             "{\"count\":%d,\"record\":{\"deed\":\"%s\",\"at\":%d,\"store\":\"%s\",\"link\":\"%s\"}}",
             RECORDS, deed->name, EVIL_AT, exj_tmp_path(&d.tmp, "data"),
             exj_tmp_path(&d.tmp, "link"));
    exj_daemon_matrix(&d, matrix, graphs, "record", input,
                      deed->end == SET_ASIDE ? ",\"maxAttempts\":9" : ",\"maxAttempts\":2");
}

/* What a plugin might have changed in the worker itself. */
static void look_at_worker(char ret[1024])
{
    char path[64], here[512] = "", *status, *umask_line;

    snprintf(path, sizeof(path), "/proc/%d/cwd", (int)d.prog.pid);
    cr_assert(readlink(path, here, sizeof(here) - 1) > 0);
    snprintf(path, sizeof(path), "/proc/%d/status", (int)d.prog.pid);
    status = exj_slurp(path, NULL);
    umask_line = strstr(status, "Umask:");
    cr_assert_not_null(umask_line);
    snprintf(ret, 1024, "%s %.12s", here, umask_line);
    free(status);
}

/* Connections of ours may take a moment to close. */
static bool holds_no_more(void *user)
{
    const unsigned *before = user;

    return count_fds(d.prog.pid, NULL) <= *before;
}

static void run_deeds(const char *lane, const struct deed *deeds, unsigned n)
{
    char before[1024], after[1024], matrix[24];
    unsigned fds;
    int64_t completed = 0;
    char graphs[400] = "";

    evil_init(&d, lane, n);
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_MEMORY_MB", "512");
    cr_assert(exj_daemon_start(&d));
    cr_assert_eq(symlink(exj_tmp_path(&d.tmp, "data/exellix-jobs.db"),
                         exj_tmp_path(&d.tmp, "link")), 0);
    /* Each plugin has run once, well, before what the worker holds is counted. */
    for (unsigned k = 0; k < n; k++) {
        put_graphs(&deeds[k], k);
        snprintf(graphs + strlen(graphs), sizeof(graphs) - strlen(graphs), "%s\"h%u\"",
                 k ? "," : "[", k);
    }
    strcat(graphs, "]");
    exj_daemon_matrix(&d, "warm", graphs, "record", "{\"count\":1,\"record\":{}}", "");
    cr_assert(exj_daemon_wait_done(&d, "warm", n, 60000));
    cr_assert(wait_alone(&d), "idle hosts stay");
    look_at_worker(before);
    fds = count_fds(d.prog.pid, NULL);

    for (unsigned k = 0; k < n; k++)
        put_deed(&deeds[k], k);
    for (unsigned k = 0; k < n; k++) {
        snprintf(matrix, sizeof(matrix), "m%u", k);
        cr_assert(exj_daemon_wait_done(&d, matrix, 2 * RECORDS, 100000), "%s does not end",
                  deeds[k].name);
        check_deed(&deeds[k], k);
        completed += 2 * RECORDS - (deeds[k].end != COMPLETES);
    }
    cr_assert(exj_prog_is_running(&d.prog), "the worker died");
    cr_assert(exj_daemon_wait_ready(&d, 5000), "the worker is not well");
    cr_assert_float_eq(exj_daemon_metric(&d, "matrix_claims_completed_total",
                                         "status=\"completed\""),
                       (double)(completed + n), 0.1, "not once each");
    look_at_worker(after);
    cr_assert_str_eq(before, after);
    cr_assert(wait_alone(&d), "%u processes of the hosts are left", count_offspring(&d));
    if (!exj_until(holds_no_more, &fds, d.prog.pidfd, 50, 5000)) {
        char *list = NULL;
        unsigned fds_after = count_fds(d.prog.pid, &list);

        cr_assert_fail("%u descriptors before, %u after:\n%s", fds, fds_after, list);
    }
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);
    cr_assert_eq(count_offspring(&d), 0);
    exj_daemon_release(&d);
}

#define ON_BOTH_LANES(name, deeds)                                                         \
    Test(evil, name##_in_a_host)                                                           \
    {                                                                                      \
        run_deeds("host", deeds, sizeof(deeds) / sizeof((deeds)[0]));                      \
    }                                                                                      \
    Test(evil, name##_in_a_sandbox)                                                        \
    {                                                                                      \
        run_deeds("sandbox", deeds, sizeof(deeds) / sizeof((deeds)[0]));                   \
    }

/* ---- dying -------------------------------------------------------------------------------- */

#define DIES_AT(name, says) { name, SET_ASIDE, 3, "Quarantined", says, NULL, NULL, true }
#define DIES(name, says) { name, SET_ASIDE, 3, "Quarantined", says, NULL, NULL, false }

static const struct deed by_signal[] = {
    DIES_AT("segv", "SIGSEGV"),
    DIES_AT("abort", "SIGABRT"),
    DIES_AT("stack", "SIGSEGV"),
    DIES("masked-segv", "SIGSEGV"),
    DIES("usr1", "SIGUSR1"),
    DIES("kill9", "SIGKILL"),
#if !SANITIZED /* a sanitizer has words of its own for these, and needs all the memory */
    DIES_AT("double-free", "SIGABRT"),
    DIES_AT("oom", "SIGSEGV"),
#endif
};
ON_BOTH_LANES(plugins_that_die_of_a_signal_harm_their_own_row_only, by_signal)

static const struct deed by_exit[] = {
    DIES("exit0", "ended with exit status 0"),
    DIES("exit3", "ended with exit status 3"),
    DIES("_exit", "ended with exit status 7"),
    DIES("close", "in execute"),
    DIES("close-and-wait", "closed its connection"),
    DIES("close-and-exit", "ended with exit status 9"),
    DIES("garbage", "broke the rules of its connection"),
};
ON_BOTH_LANES(plugins_that_end_their_host_harm_their_own_row_only, by_exit)

/* ---- not coming back ---------------------------------------------------------------------- */

#define LATE(name)                                                                         \
    {                                                                                      \
        name, FAILS, 2, "DeadlineExceeded", "deadline", ",\"timeoutSeconds\":1", NULL, false \
    }

static const struct deed late[] = { LATE("loop"), LATE("deaf"), LATE("pending") };
ON_BOTH_LANES(plugins_that_do_not_come_back_are_ended_at_the_deadline, late)

/* ---- answers ------------------------------------------------------------------------------ */

static const struct deed loud[] = {
    { "nonsense", FAILS, 2, "AnswerRefused", "answer refused", NULL, NULL, false },
    { "print", COMPLETES, 1, NULL, NULL, NULL, NULL, false },
    { "log", COMPLETES, 1, NULL, NULL, NULL, NULL, false },
};
ON_BOTH_LANES(plugins_that_say_too_much_are_cut_short, loud)

/* ---- doors -------------------------------------------------------------------------------- */

/* Asked of the kernel, not of the cage: who has them must get them. */
static bool has_landlock(void)
{
    return syscall(444 /* landlock_create_ruleset */, NULL, 0, 1 /* which version? */) >= 1;
}

/* Mounts of one's own, which nobody else sees? Not in most containers, nor for users in a
 * chroot. */
static bool has_mounts(void)
{
    pid_t child = fork();
    int status = 0;

    cr_assert_geq(child, 0);
    if (child == 0) {
        bool good = unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;

        good = good && mount(NULL, "/proc", NULL, MS_SLAVE, NULL) == 0 &&
               mount("/", "/proc", NULL, MS_BIND | MS_REC, NULL) == 0;
        _exit(good ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* What docs/isolation.md says is open here; NULL: nothing. */
static const char *open_door;

static bool nothing_worked(json_t *deed)
{
    const char *tried = json_string_value(json_object_get(deed, "tried"));
    const char *ok = tried ? strstr(tried, "=OK") : NULL;
    size_t n = open_door ? strlen(open_door) : 0;

    if (ok && n && ok - tried >= (ptrdiff_t)n && memcmp(ok - n, open_door, n) == 0)
        ok = strstr(ok + 3, "=OK");
    if (ok)
        fprintf(stderr, "evil: this worked: …%.*s\n", 100,
                ok - tried > 90 ? ok - 90 : tried);
    return tried && strlen(tried) > 20 && !ok;
}

static bool many(json_t *deed)
{
    return json_integer_value(json_object_get(deed, "number")) >= 20;
}

static bool all_signals_came(json_t *deed)
{
    const char *tried = json_string_value(json_object_get(deed, "tried"));

    return !strstr(tried, "parent=OK") && !strstr(tried, "all=OK") &&
           !strstr(tried, "init=OK") && !strstr(tried, "queue=OK") &&
           !strstr(tried, "tgkill=OK") &&
           json_integer_value(json_object_get(deed, "number")) == 20000;
}

#define TRIES(name, says, check) { name, COMPLETES, 1, NULL, says, NULL, check, false }

static const struct deed doors[] = { /* "store" is the first: it may be left out */
    TRIES("store", "exellix-jobs.db=E", nothing_worked),
    TRIES("ptrace", "attach=EPERM", nothing_worked),
    TRIES("exec", "execve=EPERM", nothing_worked),
    TRIES("forks", "fork=EPERM", nothing_worked),
    TRIES("storm", "parent=EPERM", all_signals_came),
    TRIES("fds", "dup=EMFILE", many),
    TRIES("threads", NULL, many),
    TRIES("manners", NULL, NULL),
#if !SANITIZED
    TRIES("hunger", "malloc=ENOMEM", many),
#endif
};

static void run_doors(const char *lane)
{
    bool mounts = has_mounts(), hides = mounts || has_landlock();
    unsigned n = sizeof(doors) / sizeof(doors[0]);

    open_door = NULL;
    if (!hides) {
        fprintf(stderr, "\n*** SKIPPED: this kernel has neither Landlock nor mount namespaces "
                "for us: the store cannot be hidden from plugins here%s ***\n\n",
                geteuid() ? ", nor the worker's memory" : "");
        open_door = geteuid() ? " mem" : NULL;
    } else if (!mounts && strcmp(lane, "host") == 0) {
        fprintf(stderr, "\n*** SKIPPED: no mount namespace here: a plugin on lane host can "
                "connect to the worker's local socket ***\n\n");
        open_door = " socket-of-the-worker";
    }
    run_deeds(lane, hides ? doors : doors + 1, hides ? n : n - 1);
}

Test(evil, plugins_that_reach_for_others_get_an_error_in_a_host)
{
    run_doors("host");
}

Test(evil, plugins_that_reach_for_others_get_an_error_in_a_sandbox)
{
    run_doors("sandbox");
}
