/* Matrices of kind query-snapshot in the whole program: rows name the snapshot they were made
 * from, and what a query or a program of jq does wrong harms nobody else. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/sha256.h"
#include "tests/support/support.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define MOST 16

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(snapshot, .init = setup, .fini = teardown);

/* `source`: members of dataSource, with a leading comma, or "". */
static int put_matrix(const char *matrix, const char *input, const char *source)
{
    char *doc, path[200];
    json_t *body = NULL;
    int status;

    cr_assert(asprintf(&doc,
                       "{\"matrixCatalogId\":\"%s\",\"payload\":{\"input\":%s,\"graphs\":[\"g\"],"
                       "\"pollWhenEmptySeconds\":0.1,\"dataSource\":{\"kind\":\"query-snapshot\","
                       "\"resolver\":\"test-source\"%s}}}",
                       matrix, input, source) > 0);
    snprintf(path, sizeof(path), "/v1/configs/matrices/%s", matrix);
    status = exj_daemon_call(&d, "PUT", path, doc, &body);
    json_decref(body);
    free(doc);
    return status;
}

/* The snapshots that the rows of a matrix name, and how many name each. */
struct named {
    char id[MOST][80];
    long rows[MOST];
    size_t len;
};

static bool note_row(void *user, const json_t *row)
{
    struct named *n = user;
    const char *id = json_string_value(json_object_get(row, "snapshot"));
    size_t k;

    cr_assert(id && strlen(id) == 64, "a row without a snapshot");
    for (k = 0; k < n->len && strcmp(n->id[k], id) != 0; k++)
        ;
    cr_assert_lt(k, MOST);
    snprintf(n->id[k], sizeof(n->id[k]), "%s", id);
    n->rows[k]++;
    if (k == n->len)
        n->len++;
    return true;
}

static struct named named_by(const char *matrix)
{
    struct named n = { 0 };

    exj_daemon_rows(&d, matrix, note_row, &n);
    return n;
}

static bool has_error(void *user)
{
    const char *const *want = user;
    char path[200];
    json_t *body = NULL;
    char *text;
    bool found;

    snprintf(path, sizeof(path), "/v1/workers/status?matrixCatalogId=%s", want[0]);
    exj_daemon_call(&d, "GET", path, NULL, &body);
    text = json_dumps(body, 0);
    found = text && strstr(text, want[1]);
    free(text);
    json_decref(body);
    return found;
}

static void fails_with(const char *matrix, const char *words)
{
    const char *want[2] = { matrix, words };

    if (!exj_until(has_error, want, d.prog.pidfd, 50, 100000)) {
        char *log = exj_slurp(d.prog.err, NULL);

        cr_assert_fail("'%s' was not said; the log: %s", words, log);
    }
}

/* Neither a program of ours nor a file half written is left. */
static int files_named(const char *beginning)
{
    DIR *dir = opendir(exj_tmp_path(&d.tmp, "data/snapshots"));
    struct dirent *e;
    int n = 0;

    while (dir && (e = readdir(dir)))
        n += strncmp(e->d_name, beginning, strlen(beginning)) == 0;
    if (dir)
        closedir(dir);
    return n;
}

Test(snapshot, rows_name_the_snapshot_they_were_made_from)
{
    struct named n;
    json_t *body = NULL, *first;
    char path[200];

    cr_assert_eq(put_matrix("m", "{\"count\":2500,\"page\":1000}",
                            ",\"transform\":{\"jq\":\"select(.record.n % 2 == 0) | "
                            ".record.half = .record.n / 2\"}"), 201);
    cr_assert(exj_daemon_wait_done(&d, "m", 1250, 20000));
    n = named_by("m");
    cr_assert_eq(n.len, 1);
    cr_assert_eq(n.rows[0], 1250);

    snprintf(path, sizeof(path), "/v1/snapshots/%s?limit=2", n.id[0]);
    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &body), 200);
    cr_expect_str_eq(json_string_value(json_object_get(body, "matrixCatalogId")), "m");
    cr_expect_str_eq(json_string_value(json_object_get(body, "sha256")), n.id[0]);
    cr_expect_eq(json_integer_value(json_object_get(body, "records")), 1250);
    cr_expect(json_is_true(json_object_get(body, "transformed")));
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(body, "query"), "records")),
                 2500);
    first = json_object_get(body, "first");
    cr_assert_eq(json_array_size(first), 2);
    cr_expect_eq(json_integer_value(json_object_get(
                     json_object_get(json_array_get(first, 1), "record"), "half")), 1);
    json_decref(body);
    cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    cr_expect_eq(files_named("tmp-"), 0);
}

Test(snapshot, the_same_result_is_the_same_snapshot_and_another_one_another)
{
    char input[400], file[256], path[256];
    struct named n;
    struct stat st;

    snprintf(file, sizeof(file), "%s", exj_tmp_path(&d.tmp, "count"));
    exj_spit(file, "10");
    snprintf(input, sizeof(input), "{\"countFile\":\"%s\"}", file);
    cr_assert_eq(put_matrix("m", input, ""), 201);
    cr_assert(exj_daemon_wait_done(&d, "m", 10, 10000));
    cr_assert(exj_daemon_wait_metric(&d, "matrix_worker_cycles_total", "empty=\"true\"", 3, 10000));
    cr_expect_eq(named_by("m").len, 1);
    exj_spit(file, "15");
    cr_assert(exj_daemon_wait_done(&d, "m", 15, 10000));
    n = named_by("m");
    cr_assert_eq(n.len, 2);
    cr_expect_eq(n.rows[0] + n.rows[1], 15);
    cr_expect(n.rows[0] == 10 || n.rows[0] == 5);
    snprintf(path, sizeof(path), "data/snapshots/%s.jsonl", n.id[0]);
    cr_assert_eq(stat(exj_tmp_path(&d.tmp, path), &st), 0);
    cr_expect_eq(st.st_mode & 0222, 0, "a snapshot is not written again");
}

Test(snapshot, a_program_that_loops_is_ended_and_others_go_on)
{
    cr_assert_eq(put_matrix("loops", "{\"count\":5}",
                            ",\"transform\":{\"jq\":\"def f: f; f\",\"timeoutSeconds\":1}"), 201);
    cr_assert_eq(put_matrix("fine", "{\"count\":5}", ""), 201);
    cr_assert(exj_daemon_wait_done(&d, "fine", 5, 10000));
    fails_with("loops", "the transform ran longer than 1 s");
    cr_expect_eq(exj_daemon_tally(&d, "loops").total, 0);
}

Test(snapshot, a_program_that_eats_memory_is_ended_and_others_go_on)
{
    if (SANITIZED)
        cr_skip_test("a sanitizer maps more than any limit");
    cr_assert_eq(put_matrix("hog", "{\"count\":5}",
                            ",\"transform\":{\"jq\":\"[range(1e9)]\",\"memoryMB\":64}"), 201);
    cr_assert_eq(put_matrix("fine", "{\"count\":5}", ""), 201);
    fails_with("hog", "the transform needed more than 64 MiB of memory");
    cr_assert(exj_daemon_wait_done(&d, "fine", 5, 10000));
    cr_expect_eq(exj_daemon_tally(&d, "hog").total, 0);
}

Test(snapshot, a_result_of_two_hundred_megabytes_is_refused_in_flat_memory)
{
    int64_t before = exj_prog_peak_rss_kb(&d.prog), after;
    long bound = SANITIZED ? 20971520 : 209715200; /* it takes its time there */
    char source[100], words[200], input[2100];

    snprintf(source, sizeof(source), ",\"maxBytes\":%ld", bound);
    snprintf(words, sizeof(words), "the query's result has more than %ld bytes: let it be smaller, "
             "or raise payload.dataSource.maxBytes", bound);
    snprintf(input, sizeof(input), "{\"count\":1000000000,\"page\":20000,\"pad\":3000,"
             "\"record\":{\"text\":\"%01900d\"}}", 0);
    cr_assert_eq(put_matrix("big", input, source), 201);
    fails_with("big", words);
    after = exj_prog_peak_rss_kb(&d.prog);
    if (!SANITIZED)
        cr_expect_lt(after - before, 48 * 1024, "%ld kB before, %ld kB after", (long)before,
                     (long)after);
    cr_expect_eq(exj_daemon_tally(&d, "big").total, 0);
}

Test(snapshot, a_snapshot_has_bounds_of_its_own)
{
    cr_assert_eq(put_matrix("bytes", "{\"count\":500}",
                            ",\"transform\":{\"jq\":\".\",\"maxBytes\":2000}"), 201);
    cr_assert_eq(put_matrix("records", "{\"count\":500}",
                            ",\"transform\":{\"jq\":\".\",\"maxRecords\":499}"), 201);
    fails_with("bytes", "gave more than 2000 bytes");
    fails_with("records", "gave more than 499 records");
    cr_expect_eq(exj_daemon_tally(&d, "bytes").total, 0);
    cr_expect_eq(exj_daemon_tally(&d, "records").total, 0);
}

Test(snapshot, what_is_wrong_with_a_program_or_a_record_is_said)
{
    cr_assert_eq(put_matrix("words", "{\"count\":5}", ",\"transform\":{\"jq\":\".a | foo(\"}"), 201);
    cr_assert_eq(put_matrix("deep", "{\"count\":5}",
                            ",\"transform\":{\"jq\":\"{id, record: {input: .record}}\"}"), 201);
    cr_assert_eq(put_matrix("raw", "{\"count\":5,\"badAt\":3}", ""), 201);
    fails_with("words", "the transform is not a jq program: syntax error");
    fails_with("deep", "record 1 of the transform: nested `input` is refused");
    fails_with("raw", "nested `input` is refused");
    cr_expect_eq(exj_daemon_tally(&d, "").total, 0, "half a result made rows");
    cr_assert_eq(put_matrix("none", "{\"count\":5}", ",\"transform\":{}"), 400);
    cr_assert_eq(put_matrix("much", "{\"count\":5}",
                            ",\"transform\":{\"jq\":\".\",\"memoryMB\":5000}"), 400);
}

Test(snapshot, one_that_is_not_there_is_a_clear_404)
{
    json_t *body = NULL;

    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/snapshots/..%2Fexellix-jobs.db", NULL, &body), 404);
    cr_expect_str_eq(json_string_value(json_object_get(body, "code")), "SnapshotNotFound");
    json_decref(body);
    cr_assert_eq(exj_daemon_call(&d, "GET",
                                 "/v1/snapshots/0123456789012345678901234567890123456789012345678901"
                                 "234567890123", NULL, NULL), 404);
}

/* Killed while rows are made of a large snapshot: the next start makes the rest of the same. */
Test(snapshot, what_was_interrupted_goes_on_from_the_same_snapshot)
{
    char input[400], file[256];
    struct named n;

    snprintf(file, sizeof(file), "%s", exj_tmp_path(&d.tmp, "count"));
    exj_spit(file, "12000");
    snprintf(input, sizeof(input), "{\"countFile\":\"%s\"}", file);
    cr_assert_eq(put_matrix("m", input, ",\"transform\":{\"jq\":\".\"}"), 201);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_rows_materialized_total", NULL, 1, 20000));
    exj_prog_signal(&d.prog, SIGKILL);
    exj_prog_wait(&d.prog, 5000);
    if (files_named("todo-") == 0)
        cr_skip_test("it was done before it was killed");
    exj_spit(file, "10"); /* the query gives something else now */
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_done(&d, "m", 12000, 40000));
    n = named_by("m");
    cr_expect_eq(n.len, 1, "rows of %zu snapshots", n.len);
    cr_expect_eq(n.rows[0], 12000);
}

/* Killed at any moment, again and again, while the query's answer grows: no row without its
 * snapshot, no snapshot that is not what its name says, nothing half written left. */
Test(snapshot, whenever_it_is_killed_every_row_has_a_whole_snapshot)
{
    uint64_t random = exj_test_seed("whenever_it_is_killed");
    char input[400], file[256], count[32], path[300], hash[65];
    struct named n;

    snprintf(file, sizeof(file), "%s", exj_tmp_path(&d.tmp, "count"));
    exj_spit(file, "2000");
    snprintf(input, sizeof(input), "{\"countFile\":\"%s\"}", file);
    cr_assert_eq(put_matrix("m", input, ",\"transform\":{\"jq\":\".\"}"), 201);
    for (int k = 1; k <= 8; k++) {
        exj_prog_wait(&d.prog, (unsigned)(exj_test_random(&random) % 500));
        exj_prog_signal(&d.prog, SIGKILL);
        exj_prog_wait(&d.prog, 5000);
        snprintf(count, sizeof(count), "%d", 2000 + 100 * k);
        exj_spit(file, count);
        cr_assert(exj_daemon_start(&d));
    }
    cr_assert(exj_daemon_wait_done(&d, "m", 2800, 40000));
    n = named_by("m");
    for (size_t k = 0; k < n.len; k++) {
        char *text;
        size_t bytes;

        snprintf(path, sizeof(path), "data/snapshots/%s.jsonl", n.id[k]);
        text = exj_slurp(exj_tmp_path(&d.tmp, path), &bytes);
        exj_sha256_hex(text, bytes, hash);
        cr_expect_str_eq(hash, n.id[k]);
        free(text);
    }
    cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    cr_expect_eq(files_named("tmp-"), 0);
}

Test(snapshot, the_command_line_shows_one_with_and_without_a_worker)
{
    char id[80], env[300];
    const char *const envs[] = { env, NULL };

    snprintf(env, sizeof(env), "EXELLIX_JOBS_DATA_DIR=%s", exj_tmp_path(&d.tmp, "data"));
    cr_assert_eq(put_matrix("m", "{\"count\":7}", ""), 201);
    cr_assert(exj_daemon_wait_done(&d, "m", 7, 10000));
    snprintf(id, sizeof(id), "%s", named_by("m").id[0]);
    for (int k = 0; k < 2; k++) {
        const char *const args[] = { "snapshots", "show", id, "--limit", "2", NULL };
        exj_prog p;
        char *said;

        cr_assert_eq(exj_prog_run(&p, &d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs", envs, args, 20000),
                     0);
        said = exj_slurp(p.out, NULL);
        cr_expect(strstr(said, id) && strstr(said, "matrix    m\n") &&
                      strstr(said, "records   7 (") && strstr(said, "{\"id\":\"r-0000001\""),
                  "%s", said);
        free(said);
        if (!k)
            cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    }
}
