/* Matrices over files: the real program, the shipped source resolvers in plugin hosts, rows to
 * their ends. */
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "tests/daemon/cli_support.h"

#define FILE_PLUGIN "exellix.source-file"
#define SQL_PLUGIN "exellix.source-sql"

static void setup(void)
{
    cli_setup();
    env[2] = env[3] = NULL;
    cr_assert_eq(mkdir(exj_tmp_path(&tmp, "in"), 0700), 0);
    exj_spit(exj_tmp_path(&tmp, "g.json"),
             "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},\"publicationStatus\":"
             "\"Published\",\"operationalState\":\"Running\"}");
    cr_assert_eq(RUN("apply", "-f", "g.json"), 0, "%s", said_err);
}

TestSuite(sources, .init = setup, .fini = cli_teardown, .timeout = 100);

/* A matrix of the resolver `plugin`; `input` is payload.input. */
static void matrix(const char *kind, const char *plugin, const char *input)
{
    char text[2000];

    snprintf(text, sizeof text,
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"maxAttempts\":1,"
             "\"input\":%s,\"dataSource\":{\"kind\":\"%s\",\"resolver\":\"%s\"}}}",
             input, kind, plugin);
    exj_spit(exj_tmp_path(&tmp, "m.json"), text);
    cr_assert_eq(RUN("apply", "-f", "m.json"), 0, "%s", said_err);
}

/* payload.input of in/NAME. */
static void file_matrix(const char *name, const char *format, const char *more)
{
    char input[900];

    snprintf(input, sizeof input, "{\"path\":\"%s/in/%s\",\"format\":\"%s\"%s%s}", tmp.path, name,
             format, *more ? "," : "", more);
    matrix("storage", FILE_PLUGIN, input);
}

static void lines(const char *name, size_t n, bool csv)
{
    FILE *f = fopen(exj_tmp_path(&tmp, name), "w");

    cr_assert_not_null(f);
    if (csv)
        fprintf(f, "id,text\r\n");
    for (size_t k = 0; k < n; k++)
        fprintf(f, csv ? "%zu,\"two\r\nlines\"\r\n" : "{\"id\":%zu,\"text\":\"one line\"}\n", k);
    cr_assert_eq(fclose(f), 0);
}

static int64_t said(const char *key)
{
    json_t *o = said_json();
    int64_t n = json_integer_value(json_object_get(o, key));

    cr_assert(json_is_integer(json_object_get(o, key)), "no %s in %s", key, said_out);
    json_decref(o);
    return n;
}

static void runs(int status, int64_t rows, int64_t errors)
{
    cr_expect_eq(RUN("run", "--until-idle", "--json"), status, "%s", said_err);
    cr_expect_eq(said("materialized"), rows, "%s", said_out);
    cr_expect_eq(said("completed"), rows, "%s", said_out);
    cr_expect_eq(said("cycleErrors"), errors, "%s", said_out);
}

Test(sources, a_file_of_json_lines_becomes_rows_once)
{
    lines("in/a.jsonl", 2500, false);
    file_matrix("a.jsonl", "jsonl", "\"idField\":\"id\",\"pageRecords\":1000");
    runs(0, 2500, 0);
    runs(0, 0, 0); /* all known */
    lines("in/a.jsonl", 2501, false);
    runs(0, 1, 0);
    cr_assert_eq(RUN("rows", "show", "m||g|2500"), 0, "%s", said_err);
    cr_expect(strstr(said_out, "one line"), "%s", said_out);
}

Test(sources, a_csv_file_becomes_rows)
{
    lines("in/a.csv", 1200, true);
    file_matrix("a.csv", "csv", "\"idField\":\"id\"");
    runs(0, 1200, 0);
    cr_assert_eq(RUN("rows", "show", "m||g|1199"), 0, "%s", said_err);
    cr_expect(strstr(said_out, "two\\r\\nlines"), "%s", said_out);
}

Test(sources, the_rows_of_a_database_become_rows)
{
    char input[600];
    sqlite3 *db = NULL;

    cr_assert_eq(sqlite3_open(exj_tmp_path(&tmp, "in/a.db"), &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, name);"
                              "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE "
                              "x < 1500) INSERT INTO t SELECT x, 'row ' || x FROM c",
                              NULL, NULL, NULL), SQLITE_OK);
    snprintf(input, sizeof input, "{\"database\":\"%s/in/a.db\",\"query\":\"SELECT id, name FROM t "
             "WHERE id > ?\",\"params\":[100],\"keyColumn\":\"id\"}", tmp.path);
    matrix("storage", SQL_PLUGIN, input);
    runs(0, 1400, 0);
    cr_assert_eq(sqlite3_exec(db, "INSERT INTO t VALUES(9999, 'late')", NULL, NULL, NULL), SQLITE_OK);
    runs(0, 1, 0);
    cr_assert_eq(RUN("rows", "show", "m||g|9999"), 0, "%s", said_err);
    cr_expect(strstr(said_out, "late"), "%s", said_out);
    sqlite3_close(db);
}

Test(sources, the_operators_root_holds_in_a_plugin_host)
{
    char root[300];

    snprintf(root, sizeof root, "EXELLIX_PLUGIN_SOURCE_ROOT=%s/in", tmp.path);
    env[2] = root;
    lines("in/a.jsonl", 3, false);
    lines("secret.jsonl", 3, false);
    matrix("storage", FILE_PLUGIN, "{\"path\":\"a.jsonl\",\"format\":\"jsonl\"}");
    runs(0, 3, 0);
    file_matrix("../secret.jsonl", "jsonl", "");
    cr_expect_neq(RUN("run", "--until-idle", "--json"), 0);
    cr_expect_eq(said("materialized"), 0, "%s", said_out);
    cr_expect(strstr(said_err, "is refused below a root: EXELLIX_PLUGIN_SOURCE_ROOT"), "%s", said_err);
}

/* In process, where no cage hides it, and in a plugin host, where one does. */
Test(sources, the_workers_own_store_is_no_source)
{
    static const char *const lanes[] = { "EXELLIX_JOBS_PLUGINS_ISOLATION=in-process",
                                         "EXELLIX_JOBS_PLUGINS_ISOLATION=host" };
    char input[600];

    snprintf(input, sizeof input, "{\"database\":\"%s/data/exellix-jobs.db\",\"query\":\"SELECT 1 AS id\","
             "\"idColumn\":\"id\"}", tmp.path);
    matrix("storage", SQL_PLUGIN, input);
    for (size_t k = 0; k < 2; k++) {
        env[2] = lanes[k];
        cr_expect_neq(RUN("run", "--until-idle", "--json"), 0);
        cr_expect_eq(said("materialized"), 0, "%s", said_out);
        cr_expect(strstr(said_err, "exellix-jobs.db: "), "%s", said_err);
        if (k == 0)
            cr_expect(strstr(said_err, "this is a worker's own store"), "%s", said_err);
    }
}

Test(sources, the_files_of_a_folder_become_rows)
{
    lines("in/a.csv", 2, true);
    lines("in/b.csv", 2, true);
    lines("in/c.jsonl", 2, false);
    file_matrix("", "directory", "\"glob\":\"*.csv\"");
    runs(0, 2, 0);
    cr_assert_eq(RUN("rows", "show", "m||g|b.csv"), 0, "%s", said_err);
}

static void bad_lines(const char *policy)
{
    char more[100];

    exj_spit(exj_tmp_path(&tmp, "in/a.jsonl"),
             "{\"id\":1}\n{\"id\":2,}\n{\"id\":3}\nx\n{\"id\":5}\n");
    snprintf(more, sizeof more, "\"idField\":\"id\",\"onBadLine\":\"%s\"", policy);
    file_matrix("a.jsonl", "jsonl", more);
}

Test(sources, a_bad_line_stops_the_cycle_and_is_told)
{
    bad_lines("stop");
    cr_expect_neq(RUN("run", "--until-idle", "--json"), 0);
    cr_expect_eq(said("completed"), 1, "%s", said_out);
    cr_expect_geq(said("cycleErrors"), 1, "%s", said_out);
    cr_expect(strstr(said_err, "in/a.jsonl: line 2, column 9: a name in quotes is wanted"), "%s",
              said_err);
}

Test(sources, bad_lines_are_skipped_and_told)
{
    bad_lines("skip");
    runs(0, 3, 0);
    cr_expect(strstr(said_err, "line 4, column 1: no JSON object"), "%s", said_err);
    cr_expect(strstr(said_err, "2 bad lines so far, skipped; 3 records"), "%s", said_err);
}

Test(sources, bad_lines_are_put_aside_once)
{
    char *text;

    bad_lines("quarantine");
    runs(0, 3, 0);
    runs(0, 0, 0);
    text = exj_slurp(exj_tmp_path(&tmp, "in/a.jsonl.bad.jsonl"), NULL);
    cr_expect_eq(lines_of(text), 2u, "%s", text);
    cr_expect(strstr(text, "\"line\":2,\"column\":9,\"reason\":\"a name in quotes is wanted\""),
              "%s", text);
    free(text);
}

Test(sources, a_snapshot_of_a_file_is_whole_or_none)
{
    char input[400];

    snprintf(input, sizeof input, "{\"path\":\"%s/in/a.jsonl\",\"format\":\"jsonl\"}", tmp.path);
    lines("in/a.jsonl", 1500, false);
    matrix("query-snapshot", FILE_PLUGIN, input);
    runs(0, 1500, 0);
    exj_spit(exj_tmp_path(&tmp, "in/a.jsonl"), "{\"id\":\"new\"}\nx\n");
    cr_expect_neq(RUN("run", "--until-idle", "--json"), 0);
    cr_expect_eq(said("materialized"), 0, "half a snapshot is none: %s", said_out);
}

/* ---- a file that changes ------------------------------------------------------------------------ */

static bool has_rows(void *daemon)
{
    return exj_daemon_metric(daemon, "matrix_rows_materialized_total", NULL) > 0;
}

static bool is_told(void *daemon)
{
    char *text = exj_slurp(((exj_daemon *)daemon)->prog.err, NULL);
    bool told = strstr(text, "was replaced by another file while it was read") != NULL;

    free(text);
    return told;
}

/* Two files of which each has its own names for records: never half of the one and half of the
 * other in one cycle. */
Test(sources, a_file_that_is_replaced_in_the_middle_of_a_scan_is_told_and_read_anew)
{
    char body[900];
    exj_daemon d;
    exj_tally t;

    lines("in/a.jsonl", 20000, false);
    exj_spit(exj_tmp_path(&tmp, "in/b.jsonl"), "{\"id\":\"new-1\"}\n{\"id\":\"new-2\"}\n");
    exj_daemon_init(&d);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    snprintf(body, sizeof body,
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"pollWhenEmptySeconds\":0.1,"
             "\"input\":{\"path\":\"%s/in/a.jsonl\",\"format\":\"jsonl\",\"idField\":\"id\","
             "\"pageRecords\":2},\"dataSource\":{\"kind\":\"storage\",\"resolver\":\"" FILE_PLUGIN
             "\"}}}", tmp.path);
    cr_assert_eq(exj_daemon_call(&d, "PUT", "/v1/configs/matrices/m", body, NULL) / 100, 2);
    cr_assert(exj_until(has_rows, &d, d.prog.pidfd, 2, 20000));
    cr_assert_eq(rename(exj_tmp_path(&tmp, "in/b.jsonl"), exj_tmp_path(&tmp, "in/a.jsonl")), 0);
    cr_assert(exj_until(is_told, &d, d.prog.pidfd, 20, 20000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_lt(t.total, 20000);
    exj_daemon_release(&d);
}

/* ---- the page ------------------------------------------------------------------------------------ */

Test(sources, the_matrices_on_the_page_are_accepted)
{
    char *page = exj_slurp(EXJ_SOURCE_DIR "/docs/sources.md", NULL), *at = page, *end;
    unsigned n = 0;

    while ((at = strstr(at, "\n```json\n"))) {
        at += strlen("\n```json\n");
        end = strstr(at, "\n```\n");
        cr_assert_not_null(end);
        *end = '\0';
        exj_spit(exj_tmp_path(&tmp, "m.json"), at);
        cr_expect_eq(RUN("apply", "-f", "m.json"), 0, "%s\n%s", at, said_err);
        at = end + 1;
        n++;
    }
    cr_expect_geq(n, 4u);
    free(page);
}
