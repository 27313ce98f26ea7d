/* A recorder: what is written is there, whole, and nothing that fails stops the work. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/history/recorder.h"
#include "tests/support/fault.h"

static void path_of(char ret[256])
{
    const char *base = getenv("TMPDIR");
    int fd;

    snprintf(ret, 256, "%s/exj-recorder-XXXXXX", base && base[0] ? base : "/tmp");
    fd = mkstemp(ret);
    cr_assert_geq(fd, 0);
    close(fd);
}

/* Calls visit for each line; returns how many. */
static size_t lines_of(const char *path, void (*visit)(void *user, const exj_hist_event *e),
                       void *user)
{
    char texts[EXJ_HIST_LINE_MAX], *line = NULL;
    FILE *f = fopen(path, "re");
    size_t cap = 0, lines = 0;
    exj_hist_event e;
    exj_err err = { 0 };
    ssize_t n;

    cr_assert_not_null(f);
    while ((n = getline(&line, &cap, f)) > 0) {
        cr_assert_eq(exj_hist_parse((exj_slice){ line, (size_t)n - 1 }, &e, texts, &err), EXJ_OK,
                     "%s: %s", err.text, line);
        if (visit)
            visit(user, &e);
        lines++;
    }
    free(line);
    fclose(f);
    return lines;
}

static int logged;

static void count_log(exj_log_level level, const char *area, const char *message)
{
    cr_expect_eq(level, EXJ_LOG_WARN);
    cr_expect_str_eq(area, "history");
    cr_expect(strstr(message, "No space left"), "%s", message);
    logged++;
}

Test(recorder, records_nothing_when_there_is_none)
{
    exj_recorder_batch b = { .n = 0 };
    exj_hist_event e = { .op = EXJ_HIST_QUIET };

    exj_recorder_write(NULL, &e);
    exj_recorder_add(NULL, &b, &e);
    exj_recorder_flush(NULL, &b);
    cr_expect_eq(exj_recorder_id(NULL), 0);
    cr_expect_eq(exj_recorder_lost(NULL), 0);
    cr_expect_eq(exj_recorder_fd(NULL), -1);
    exj_recorder_close(NULL);
}

static void expect_core(void *user, const exj_hist_event *e)
{
    exj_nsec *last = user;

    cr_expect(exj_slice_is(e->actor, "worker"));
    cr_expect_neq(e->incarnation, 0);
    cr_expect_geq(e->t, *last);
    *last = e->t;
    cr_expect_eq(e->op, EXJ_HIST_CORE);
}

Test(recorder, appends_to_a_file_of_its_owner)
{
    exj_hist_event e = { .op = EXJ_HIST_CORE, .phase = EXJ_HIST_OK };
    exj_nsec last = 1;
    exj_recorder *r;
    struct stat st;
    char path[256];

    path_of(path);
    unlink(path);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(exj_recorder_open(path, "worker", &r, NULL), EXJ_OK);
        cr_expect_eq(exj_recorder_id(r), 1);
        cr_expect_eq(exj_recorder_id(r), 2);
        exj_recorder_write(r, &e);
        exj_recorder_close(r);
    }
    cr_expect_eq(lines_of(path, expect_core, &last), 2);
    cr_assert_eq(stat(path, &st), 0);
    cr_expect_eq(st.st_mode & 0777, 0600);
    unlink(path);
}

Test(recorder, says_what_is_wrong)
{
    char long_name[EXJ_HIST_WORD_MAX + 2];
    exj_err err = { 0 };
    exj_recorder *r = NULL;

    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    cr_expect_eq(exj_recorder_open("/nowhere/at/all", "worker", &r, &err), EXJ_IO);
    cr_expect(strstr(err.text, "/nowhere/at/all"), "%s", err.text);
    cr_expect_eq(exj_recorder_open("/dev/null", "", &r, NULL), EXJ_INVALID);
    cr_expect_eq(exj_recorder_open("/dev/null", NULL, &r, NULL), EXJ_INVALID);
    cr_expect_eq(exj_recorder_open("/dev/null", "\xff", &r, NULL), EXJ_INVALID);
    cr_expect_eq(exj_recorder_open("/dev/null", long_name, &r, NULL), EXJ_INVALID);
    cr_expect_eq(exj_recorder_open_fd(-1, "host", &r, NULL), EXJ_INVALID);
    cr_expect_eq(exj_recorder_open_fd(9999, "host", &r, NULL), EXJ_INVALID);
    cr_expect_null(r);
    exj_fault_arm(1);
    cr_expect_eq(exj_recorder_open("/dev/null", "worker", &r, NULL), EXJ_NOMEM);
    exj_fault_disarm();
    cr_expect_null(r);
}

Test(recorder, counts_what_a_full_disk_refuses_and_goes_on)
{
    exj_hist_event e = { .op = EXJ_HIST_QUIET };
    exj_recorder_batch b = { .n = 0 };
    exj_recorder *r;

    exj_log_divert(count_log);
    cr_assert_eq(exj_recorder_open("/dev/full", "worker", &r, NULL), EXJ_OK);
    for (int i = 0; i < 3; i++)
        exj_recorder_write(r, &e);
    for (int i = 0; i < 4; i++)
        exj_recorder_add(r, &b, &e);
    exj_recorder_flush(r, &b);
    cr_expect_eq(exj_recorder_lost(r), 7);
    cr_expect_eq(logged, 1, "the first is logged, and it alone");
    exj_recorder_close(r);
    exj_log_divert(NULL);
}

/* A pipe that is nearly full takes the head of a line: its end must not swallow the next. */
Test(recorder, ends_a_line_that_was_cut_short)
{
    exj_hist_event e = { .op = EXJ_HIST_QUIET };
    char fill[4096], got[256], path[256], *last;
    exj_recorder *r;
    int fd;
    off_t size;

    path_of(path);
    fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    cr_assert_eq(exj_recorder_open_fd(fd, "worker", &r, NULL), EXJ_OK);
    memset(fill, 'x', sizeof(fill));
    exj_recorder_write(r, &e);
    size = lseek(fd, 0, SEEK_END);
    exj_recorder_write(r, &e);
    cr_expect_eq(exj_recorder_lost(r), 0);
    cr_expect_eq(lseek(fd, 0, SEEK_END), 2 * size);
    exj_recorder_close(r);
    unlink(path);

    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    cr_assert_eq(exj_recorder_open_fd(ends[1], "worker", &r, NULL), EXJ_OK);
    exj_recorder_batch *b = calloc(1, sizeof(*b));
    cr_assert_not_null(b);
    while (exj_recorder_lost(r) == 0) { /* beyond PIPE_BUF a pipe takes a part */
        for (int i = 0; i < 100; i++)
            exj_recorder_add(r, b, &e);
        exj_recorder_flush(r, b);
    }
    while (read(ends[0], fill, sizeof(fill)) > 0)
        ;
    exj_recorder_write(r, &e);
    ssize_t n = read(ends[0], got, sizeof(got) - 1);
    cr_assert_gt(n, 1);
    got[n] = '\0';
    cr_expect_eq(got[0], '\n', "the torn line was not ended: %s", got);
    last = strrchr(got, '{');
    cr_expect_eq(last, got + 1);
    exj_recorder_close(r);
    close(ends[0]);
    free(b);
}

#define WRITERS 4
#define EACH 2000

static void *write_many(void *recorder)
{
    exj_recorder *r = recorder;
    exj_recorder_batch b = { .n = 0 };

    for (int i = 0; i < EACH; i++) {
        exj_hist_event e = { .op = EXJ_HIST_EFFECT, .phase = EXJ_HIST_OK,
                             .id = exj_recorder_id(r), .job = EXJ_SLICE_LITERAL("m||g|r") };

        if (i % 2) {
            exj_recorder_write(r, &e);
        } else {
            exj_recorder_add(r, &b, &e);
            if (i % 100 == 98)
                exj_recorder_flush(r, &b);
        }
    }
    exj_recorder_flush(r, &b);
    return NULL;
}

static void mark_id(void *user, const exj_hist_event *e)
{
    char *seen = user;

    cr_assert_geq(e->id, 1);
    cr_assert_leq(e->id, WRITERS * EACH);
    cr_assert_not(seen[e->id - 1], "an id was given twice");
    seen[e->id - 1] = 1;
}

Test(recorder, keeps_the_lines_of_many_threads_whole)
{
    static char seen[WRITERS * EACH];
    pthread_t threads[WRITERS];
    exj_recorder *r;
    char path[256];

    path_of(path);
    cr_assert_eq(exj_recorder_open(path, "worker", &r, NULL), EXJ_OK);
    for (int i = 0; i < WRITERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, write_many, r), 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    exj_recorder_close(r);
    cr_expect_eq(lines_of(path, mark_id, seen), WRITERS * EACH);
    unlink(path);
}

static void keep_event(void *user, const exj_hist_event *e)
{
    exj_hist_event *to = user;

    *to = *e;
}

Test(recorder, gives_whole_events_to_a_sink)
{
    exj_hist_event got = { 0 }, e = { .op = EXJ_HIST_REAP, .row = 4 };
    exj_recorder_batch b = { .n = 0 };
    exj_recorder *r;

    cr_assert_eq(exj_recorder_open_sink(keep_event, &got, "sim", 77, &r, NULL), EXJ_OK);
    exj_recorder_write(r, &e);
    cr_expect_eq(got.row, 4);
    cr_expect_eq(got.incarnation, 77);
    cr_expect(exj_slice_is(got.actor, "sim"));
    cr_expect_gt(got.t, 0);
    e.row = 5;
    exj_recorder_add(r, &b, &e);
    cr_expect_eq(got.row, 5);
    exj_recorder_flush(r, &b);
    cr_expect_eq(exj_recorder_fd(r), -1);
    exj_recorder_close(r);
}
