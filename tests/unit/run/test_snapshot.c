/* The files of snapshots: whole or not there, never written again, and every failure is said. */
#include "tests/support/fault.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "core/base/sha256.h"
#include "core/run/snapshot.h"
#include "tests/unit/plugin/folder.h"

static struct folder dir;

static void begin(void)
{
    dir = folder_make();
}

static void end(void)
{
    folder_drop(&dir);
}

TestSuite(snapshot, .init = begin, .fini = end);

#define A "{\"id\":\"a\",\"record\":{}}"
#define B "{\"id\":\"b\",\"record\":{\"n\":1}}"

static exj_spool *spool_of(const char *const *lines)
{
    exj_spool *s = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_spool_new(dir.path, 1 << 20, "the snapshot", "a.b", &s, &err), EXJ_OK, "%s",
                 err.text);
    for (; *lines; lines++)
        cr_assert_eq(exj_spool_add(s, exj_slice_of(*lines), &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_spool_end(s, &err), EXJ_OK);
    return s;
}

static exj_snapshot_about about_of(const char *matrix)
{
    exj_snapshot_about a = { .at = 7, .query_bytes = 9, .query_records = 3, .transformed = true };

    a.matrix = strdup(matrix);
    a.run = strdup("");
    snprintf(a.query_sha256, sizeof a.query_sha256, "%064d", 5);
    return a;
}

static void keep(const char *const *lines, char *ret_id)
{
    exj_spool *s = spool_of(lines);
    exj_snapshot_about a = about_of("m");
    exj_err err = { 0 };

    cr_assert_eq(exj_snapshot_keep(s, &a, &err), EXJ_OK, "%s", err.text);
    snprintf(ret_id, EXJ_SNAPSHOT_ID_BYTES, "%s", a.id);
    exj_spool_free(s);
    exj_snapshot_about_release(&a);
}

static int files_named(const char *beginning)
{
    DIR *d = opendir(dir.path);
    struct dirent *e;
    int n = 0;

    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.' && strncmp(e->d_name, beginning, strlen(beginning)) == 0;
    if (d)
        closedir(d);
    return n;
}

static const char *path_of(const char *name, const char *ending)
{
    static char path[300];

    snprintf(path, sizeof path, "%s/%s%s", dir.path, name, ending);
    return path;
}

struct seen {
    exj_buf text;
    size_t lines, stop_after;
};

static bool see(void *user, exj_slice line)
{
    struct seen *s = user;

    exj_buf_add_slice(&s->text, line);
    exj_buf_add_char(&s->text, '|');
    return ++s->lines != s->stop_after;
}

Test(snapshot, what_was_kept_is_read_back_and_named_by_its_content)
{
    char id[EXJ_SNAPSHOT_ID_BYTES], hash[65];
    struct seen s = { 0 };
    exj_snapshot_about a = { 0 };
    exj_err err = { 0 };
    struct stat st;

    keep((const char *[]){ A, B, NULL }, id);
    exj_sha256_hex(A "\n" B "\n", strlen(A "\n" B "\n"), hash);
    cr_assert_str_eq(id, hash);
    cr_assert_eq(exj_snapshot_each(dir.path, id, see, &s, &err), EXJ_OK, "%s", err.text);
    cr_assert_str_eq(s.text.p, A "|" B "|");
    exj_buf_reset(&s.text);
    s = (struct seen){ .text = s.text, .stop_after = 1 };
    cr_assert_eq(exj_snapshot_each(dir.path, id, see, &s, &err), EXJ_OK);
    cr_assert_eq(s.lines, 1);
    exj_buf_release(&s.text);

    cr_assert_eq(exj_snapshot_check(dir.path, id, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_snapshot_read(dir.path, id, &a, &err), EXJ_OK, "%s", err.text);
    cr_assert_str_eq(a.id, id);
    cr_assert_str_eq(a.matrix, "m");
    cr_assert_str_eq(a.run, "");
    cr_assert_eq(a.at, 7);
    cr_assert_eq(a.records, 2);
    cr_assert_eq(a.bytes, strlen(A B) + 2);
    cr_assert_eq(a.query_bytes, 9);
    cr_assert_eq(a.query_records, 3);
    cr_assert(a.transformed);
    exj_snapshot_about_release(&a);
    cr_assert_eq(stat(path_of(id, ".jsonl"), &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0400, "it is not written again");
    cr_assert_eq(files_named("tmp-"), 0);
}

Test(snapshot, the_same_content_is_the_same_snapshot)
{
    char first[EXJ_SNAPSHOT_ID_BYTES], second[EXJ_SNAPSHOT_ID_BYTES];
    exj_spool *s;
    exj_snapshot_about a = about_of("another"), read = { 0 };
    exj_err err = { 0 };

    keep((const char *[]){ A, NULL }, first);
    s = spool_of((const char *[]){ A, NULL });
    cr_assert_eq(exj_snapshot_keep(s, &a, &err), EXJ_OK, "%s", err.text);
    cr_assert_str_eq(a.id, first);
    exj_spool_free(s);
    exj_snapshot_about_release(&a);
    cr_assert_eq(exj_snapshot_read(dir.path, first, &read, &err), EXJ_OK);
    cr_assert_str_eq(read.matrix, "m", "who took it first");
    exj_snapshot_about_release(&read);
    keep((const char *[]){ A, B, NULL }, second);
    cr_assert_str_neq(first, second);
    cr_assert_eq(files_named(""), 4);
}

Test(snapshot, lines_of_every_length_stay_what_they_are)
{
    static const size_t lengths[] = { 1, 65534, 65535, 65536, 65537, 200000, 1 };
    char *lines[8] = { NULL }, id[EXJ_SNAPSHOT_ID_BYTES];
    struct seen s = { 0 };
    exj_err err = { 0 };
    size_t at = 0;

    for (size_t k = 0; k < 7; k++) {
        lines[k] = malloc(lengths[k] + 1);
        memset(lines[k], (int)('a' + k), lengths[k]);
        lines[k][lengths[k]] = 0;
    }
    keep((const char *const *)lines, id);
    cr_assert_eq(exj_snapshot_each(dir.path, id, see, &s, &err), EXJ_OK);
    cr_assert_eq(s.lines, 7);
    for (size_t k = 0; k < 7; k++) {
        cr_assert(memcmp(s.text.p + at, lines[k], lengths[k]) == 0);
        at += lengths[k];
        cr_assert_eq(s.text.p[at++], '|');
        free(lines[k]);
    }
    cr_assert_eq(exj_snapshot_check(dir.path, id, &err), EXJ_OK);
    exj_buf_release(&s.text);
    keep((const char *[]){ NULL }, id);
    s = (struct seen){ 0 };
    cr_assert_eq(exj_snapshot_each(dir.path, id, see, &s, &err), EXJ_OK);
    cr_assert_eq(s.lines, 0);
}

Test(snapshot, a_bound_is_named_with_what_raises_it)
{
    exj_spool *s = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_spool_new(dir.path, 6, "the query's result", "x.maxBytes", &s, &err), EXJ_OK);
    cr_assert_eq(exj_spool_add(s, exj_slice_of("1234"), &err), EXJ_OK);
    cr_assert_eq(exj_spool_add(s, exj_slice_of("1"), &err), EXJ_FULL);
    cr_assert_str_eq(err.text, "the query's result has more than 6 bytes: let it be smaller, or "
                               "raise x.maxBytes");
    cr_assert_eq(exj_spool_bytes(s), 5);
    cr_assert_eq(exj_spool_records(s), 1);
    exj_spool_free(s);
    cr_assert_eq(files_named(""), 0);
}

Test(snapshot, what_was_not_kept_leaves_nothing)
{
    exj_spool *s = spool_of((const char *[]){ A, NULL });
    exj_err err = { 0 };
    int fd = -1;
    char c;

    cr_assert_eq(exj_spool_reader(s, &fd, &err), EXJ_OK);
    cr_assert_eq(read(fd, &c, 1), 1);
    cr_assert_eq(write(fd, &c, 1), -1, "who reads it could write it");
    close(fd);
    exj_spool_free(s);
    exj_spool_free(NULL);
    cr_assert_eq(files_named(""), 0);
    /* a worker that was killed leaves its file: the next one sweeps */
    close(open(path_of("tmp-abcdef", ""), O_CREAT | O_WRONLY, 0600));
    close(open(path_of("other", ""), O_CREAT | O_WRONLY, 0600));
    exj_snapshot_sweep(dir.path);
    exj_snapshot_sweep("/nowhere/at/all");
    cr_assert_eq(files_named(""), 1);
}

Test(snapshot, one_that_is_missing_or_harmed_is_named)
{
    char id[EXJ_SNAPSHOT_ID_BYTES];
    exj_snapshot_about a = { 0 };
    exj_err err = { 0 };
    struct seen s = { 0 };
    int fd;

    keep((const char *[]){ A, NULL }, id);
    chmod(path_of(id, ".jsonl"), 0600);
    fd = open(path_of(id, ".jsonl"), O_WRONLY);
    cr_assert_eq(pwrite(fd, "x", 1, 3), 1);
    close(fd);
    cr_assert_eq(exj_snapshot_check(dir.path, id, &err), EXJ_CORRUPT);
    cr_assert(strstr(err.text, id), "%s", err.text);
    keep((const char *[]){ A, NULL }, id); /* the same content again puts it right */
    exj_err_clear(&err);
    cr_assert_eq(exj_snapshot_check(dir.path, id, &err), EXJ_OK, "%s", err.text);
    unlink(path_of(id, ".jsonl"));
    cr_assert_eq(exj_snapshot_check(dir.path, id, &err), EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, id), "%s", err.text);
    exj_err_clear(&err);
    cr_assert_eq(exj_snapshot_each(dir.path, id, see, &s, &err), EXJ_NOT_FOUND);
    unlink(path_of(id, ".json"));
    exj_err_clear(&err);
    cr_assert_eq(exj_snapshot_read(dir.path, id, &a, &err), EXJ_NOT_FOUND);
    fd = open(path_of(id, ".json"), O_WRONLY | O_CREAT, 0600);
    cr_assert_eq(write(fd, "{\"snap", 6), 6);
    close(fd);
    exj_err_clear(&err);
    cr_assert_eq(exj_snapshot_read(dir.path, id, &a, &err), EXJ_CORRUPT, "%s", err.text);
    cr_assert(exj_snapshot_id_is_valid(exj_slice_of(id)));
    id[5] = '/';
    cr_assert(!exj_snapshot_id_is_valid(exj_slice_of(id)));
    cr_assert(!exj_snapshot_id_is_valid(exj_slice_of("abc")));
}

Test(snapshot, what_is_to_be_done_is_remembered_for_each_matrix_and_run)
{
    char id[EXJ_SNAPSHOT_ID_BYTES], other[EXJ_SNAPSHOT_ID_BYTES], got[EXJ_SNAPSHOT_ID_BYTES];
    exj_err err = { 0 };
    DIR *d;
    struct dirent *e;

    keep((const char *[]){ A, NULL }, id);
    keep((const char *[]){ B, NULL }, other);
    cr_assert_eq(exj_snapshot_todo_get(dir.path, "m", "", got, NULL), EXJ_NOT_FOUND);
    cr_assert_eq(exj_snapshot_todo_put(dir.path, "m", "", id, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_snapshot_todo_put(dir.path, "m", "r/../1", other, &err), EXJ_OK);
    cr_assert_eq(exj_snapshot_todo_get(dir.path, "m", "", got, &err), EXJ_OK);
    cr_assert_str_eq(got, id);
    cr_assert_eq(exj_snapshot_todo_get(dir.path, "m", "r/../1", got, &err), EXJ_OK);
    cr_assert_str_eq(got, other);
    cr_assert_eq(exj_snapshot_todo_get(dir.path, "mr/../1", "", got, NULL), EXJ_NOT_FOUND);
    cr_assert_eq(exj_snapshot_todo_put(dir.path, "m", "", other, &err), EXJ_OK);
    cr_assert_eq(exj_snapshot_todo_get(dir.path, "m", "", got, &err), EXJ_OK);
    cr_assert_str_eq(got, other);
    cr_assert_eq(exj_snapshot_todo_done(dir.path, "m", "", &err), EXJ_OK);
    cr_assert_eq(exj_snapshot_todo_done(dir.path, "m", "", &err), EXJ_OK, "twice is no harm");
    cr_assert_eq(exj_snapshot_todo_get(dir.path, "m", "", got, NULL), EXJ_NOT_FOUND);
    d = opendir(dir.path);
    while (d && (e = readdir(d)))
        if (strncmp(e->d_name, "todo-", 5) == 0) {
            FILE *f = fopen(path_of(e->d_name, ""), "w");

            fputs("{\"snapshot\":\"../../etc/passwd\"}", f);
            fclose(f);
        }
    closedir(d);
    cr_assert_eq(exj_snapshot_todo_get(dir.path, "m", "r/../1", got, &err), EXJ_CORRUPT);
}

Test(snapshot, a_disk_that_takes_no_more_is_said)
{
    struct rlimit small = { 100000, 100000 };
    exj_spool *s = NULL;
    exj_err err = { 0 };
    char line[1000];
    exj_code rc = EXJ_OK;

    memset(line, 'x', sizeof line);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0); /* this test has a process of its own */
    cr_assert_eq(exj_spool_new(dir.path, 1 << 20, "x", "y", &s, &err), EXJ_OK);
    for (int k = 0; k < 500 && !rc; k++)
        rc = exj_spool_add(s, (exj_slice){ line, sizeof line }, &err);
    cr_assert_eq(rc, EXJ_IO);
    cr_assert(strstr(err.text, "cannot write"), "%s", err.text);
    exj_spool_free(s);
    cr_assert_eq(files_named(""), 0);
}

Test(snapshot, a_folder_that_cannot_be_made_is_named)
{
    exj_spool *s = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_spool_new("/proc/nowhere/deep", 100, "x", "y", &s, &err), EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, "/proc/nowhere/deep"), "%s", err.text);
    exj_err_clear(&err);
    cr_assert_eq(exj_spool_new("/dev/null", 100, "x", "y", &s, &err), EXJ_IO);
}

/* Everything once, for each allocation that may fail. */
static exj_code all_of_it(exj_err *err)
{
    static const char line[] = A;
    exj_spool *s = NULL;
    exj_snapshot_about a = { .matrix = (char[]){ "m" }, .run = (char[]){ "" } }, read = { 0 };
    struct seen seen = { 0 };
    char id[EXJ_SNAPSHOT_ID_BYTES];
    exj_code rc = exj_spool_new(dir.path, 1000, "x", "y", &s, err);

    if (!rc)
        rc = exj_spool_add(s, exj_slice_of(line), err);
    if (!rc)
        rc = exj_spool_end(s, err);
    if (!rc)
        rc = exj_snapshot_keep(s, &a, err);
    exj_spool_free(s);
    if (!rc)
        rc = exj_snapshot_todo_put(dir.path, "m", "", a.id, err);
    if (!rc)
        rc = exj_snapshot_todo_get(dir.path, "m", "", id, err);
    if (!rc)
        rc = exj_snapshot_check(dir.path, id, err);
    if (!rc)
        rc = exj_snapshot_each(dir.path, id, see, &seen, err);
    exj_buf_release(&seen.text);
    if (!rc)
        rc = exj_snapshot_read(dir.path, id, &read, err);
    exj_snapshot_about_release(&read);
    if (!rc)
        rc = exj_snapshot_todo_done(dir.path, "m", "", err);
    return rc;
}

Test(snapshot, every_allocation_may_fail)
{
    long n = 1;

    for (;; n++) {
        exj_err err = { 0 };
        exj_code rc;

        cr_assert_lt(n, 500);
        exj_fault_arm(n);
        rc = all_of_it(&err);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK, "%s", err.text);
            break;
        }
        cr_assert(rc == EXJ_NOMEM || rc == EXJ_OK, "allocation %ld: %s: %s", n, exj_code_name(rc),
                  err.text); /* OK: `seen`, which is the test's */
        cr_assert_eq(files_named("tmp-"), 0);
    }
    cr_assert_gt(n, 10);
}
