/* tests/support/support.h - what tests of the whole program share.
 *
 * A temporary folder, programs that are watched through a pidfd, a small HTTP client, and
 * waiting on conditions with a deadline. Whatever a test leaves behind (folders, programs)
 * is ended by exj_support_clean, which also runs at exit; a program dies with the test
 * that started it.
 *
 * Errors:  what fails for reasons that are not the subject of a test (no fork, no folder)
 *          prints a line and aborts; there is nothing for the test to decide.
 * Memory:  texts in exj_reply and from exj_slurp are owned by the caller.
 * Threads: one thread of a test uses this at a time.
 */
#ifndef EXJ_TESTS_SUPPORT_H
#define EXJ_TESTS_SUPPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Kills programs still running and removes temporary folders. For .fini of a suite. */
void exj_support_clean(void);

/* ---- folders and files ---------------------------------------------------------------- */

typedef struct exj_tmp {
    char path[200];
} exj_tmp;

void exj_tmp_make(exj_tmp *ret);
/* "<folder>/<name>", in one of eight buffers that are used in turn. */
const char *exj_tmp_path(const exj_tmp *t, const char *name);
void exj_spit(const char *path, const char *text);
char *exj_slurp(const char *path, size_t *ret_n); /* "" when absent; free() it */

/* ---- time and waiting ----------------------------------------------------------------- */

int64_t exj_test_now_ms(void); /* monotonic */
/* The seed of a randomised test: EXJ_TEST_SEED, else random; printed to stderr. */
uint64_t exj_test_seed(const char *of);
uint64_t exj_test_random(uint64_t *state); /* splitmix64 */
/* Ask `is` every `step_ms` until it is true or `ms` passed (false). Between two questions
 * it waits on `fd` (readable ends the wait at once; -1: none), so that a program that ends
 * does not cost a whole step. */
bool exj_until(bool (*is)(void *user), void *user, int fd, unsigned step_ms, unsigned ms);

/* ---- programs ------------------------------------------------------------------------- */

typedef struct exj_prog {
    pid_t pid;  /* 0: none */
    int pidfd;
    char out[256], err[256]; /* files with what it said; err is appended to */
} exj_prog;

/* Start `file` with `args` (NULL-terminated, without argv[0]) and exactly `env` besides
 * PATH, TMPDIR (= t), HOME (= t), the sanitizers' options and EXJ_MUTANT (tests/mutants).
 * Works in folder t. */
void exj_prog_start(exj_prog *p, const exj_tmp *t, const char *file, const char *const *env,
                    const char *const *args);
bool exj_prog_is_running(exj_prog *p);
void exj_prog_signal(exj_prog *p, int sig);
/* Exit status (0..255), 1000 + signal, or -1: still running after `ms`. */
int exj_prog_wait(exj_prog *p, unsigned ms);
/* start + wait. */
int exj_prog_run(exj_prog *p, const exj_tmp *t, const char *file, const char *const *env,
                 const char *const *args, unsigned ms);
int64_t exj_prog_rss_kb(const exj_prog *p);      /* VmRSS; -1: gone */
int64_t exj_prog_peak_rss_kb(const exj_prog *p); /* VmHWM */
int64_t exj_prog_cpu_ms(const exj_prog *p);      /* user + system */

/* ---- HTTP ------------------------------------------------------------------------------ */

uint16_t exj_free_port(void); /* on 127.0.0.1 */

typedef struct exj_reply {
    int status;  /* 0: no answer */
    char *head;  /* owned: status line and headers */
    char *body;  /* owned, NUL-terminated */
    size_t body_n;
} exj_reply;

/* One request, one answer, over TCP to 127.0.0.1. `headers`: lines ending "\r\n", or NULL. */
void exj_http(uint16_t port, const char *method, const char *path, const char *headers,
              const char *body, exj_reply *ret);
void exj_reply_release(exj_reply *r);
/* The value of a header in one of four buffers; NULL: absent. */
const char *exj_reply_header(const exj_reply *r, const char *name);
json_t *exj_reply_json(const exj_reply *r); /* new reference; NULL: not JSON */

/* ---- the daemon ------------------------------------------------------------------------ */

#define EXJ_TEST_KEY "test-key"

typedef struct exj_daemon {
    exj_tmp tmp;
    uint16_t port;
    exj_prog prog;
    char *env[40]; /* owned "NAME=value"; NULL-terminated */
} exj_daemon;

/* A folder, a port, and the environment: test plugins, data in the folder, EXJ_TEST_KEY,
 * the test engine as executor. Nothing is started. */
void exj_daemon_init(exj_daemon *d);
void exj_daemon_set(exj_daemon *d, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Start `serve` and wait until GET /v1/health answers 200. False: it ended, or 20 s. */
bool exj_daemon_start(exj_daemon *d);
void exj_daemon_spawn(exj_daemon *d);               /* without waiting */
bool exj_daemon_wait_ready(exj_daemon *d, unsigned ms);
/* SIGTERM and wait; the exit status as exj_prog_wait gives it. */
int exj_daemon_stop(exj_daemon *d, unsigned ms);
void exj_daemon_release(exj_daemon *d); /* kills it if it runs, removes the folder */

/* With the key. `json` may be NULL. Returns the status; *ret_body (may be NULL) a new
 * reference or NULL. */
int exj_daemon_call(exj_daemon *d, const char *method, const char *path, const char *json,
                    json_t **ret_body);
/* PUT a schedulable graph; `execution` is the JSON of payload.execution or NULL. */
void exj_daemon_graph(exj_daemon *d, const char *graph, const char *execution);
/* PUT a matrix of `graphs` (JSON array); `input` and `more` (members, with a leading
 * comma, or "") go into the payload; kind "record" or "storage". */
void exj_daemon_matrix(exj_daemon *d, const char *matrix, const char *graphs,
                       const char *kind, const char *input, const char *more);

typedef struct exj_tally {
    int64_t queued, running, completed, failed, blocked, suspended, other, total;
} exj_tally;
/* Counts all rows of `matrix` ("" : all) by paging GET /rows. */
exj_tally exj_daemon_tally(exj_daemon *d, const char *matrix);
/* Visit every row document; return false to stop. */
void exj_daemon_rows(exj_daemon *d, const char *matrix,
                     bool (*visit)(void *user, const json_t *row), void *user);
/* Those that a query names: "&status=queued&matrixCatalogId=m". */
void exj_daemon_rows_where(exj_daemon *d, const char *query,
                           bool (*visit)(void *user, const json_t *row), void *user);
/* The sum of a metric over all series whose labels contain `labels` (NULL: all);
 * -1: the metric is not there. */
double exj_daemon_metric(exj_daemon *d, const char *name, const char *labels);
/* Wait until the sum of a metric is at least `value`. */
bool exj_daemon_wait_metric(exj_daemon *d, const char *name, const char *labels,
                            double value, unsigned ms);
/* Wait until `total` rows of the matrix exist and none is queued or running. */
bool exj_daemon_wait_done(exj_daemon *d, const char *matrix, int64_t total, unsigned ms);

/* ---- what the test engine wrote --------------------------------------------------------- */

/* One line of the effects file: "B <job> <token> <attempt> <ns>" at the beginning of an
 * execution, "E …" at its end. */
typedef struct exj_effect {
    char what; /* 'B' or 'E' */
    char *job; /* inside exj_effects.text */
    int64_t token, attempt, at_ns;
} exj_effect;

typedef struct exj_effects {
    char *text; /* owned */
    exj_effect *items;
    size_t len;
} exj_effects;

void exj_effects_read(const exj_daemon *d, exj_effects *ret);
void exj_effects_release(exj_effects *e);
/* The most executions that were open at once among jobs whose name contains `part`. */
int exj_effects_most_at_once(const exj_effects *e, const char *part);

#endif /* EXJ_TESTS_SUPPORT_H */
