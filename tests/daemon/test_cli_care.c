/* backup, restore and doctor from the command line, beside a running worker. */
#include "cli_support.h"

TestSuite(cli_care, .init = cli_setup, .fini = cli_teardown);

static void fill(void)
{
    exj_spit(exj_tmp_path(&tmp, "c.json"),
             "[{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"operationalState\":\"Ready\","
             "\"payload\":{\"graphId\":\"g\"}},"
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"input\":{\"count\":2},"
             "\"dataSource\":{\"kind\":\"record\",\"resolver\":\"test-source\"}}}]");
    cr_assert_eq(RUN("apply", "-f", "c.json"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle"), 0, "%s", said_err);
    cr_assert(strstr(said_out, "2 completed"), "%s", said_out);
}

static bool is_up(void *user)
{
    (void)user;
    return RUN("status") == 0;
}

static json_int_t number(const char *key)
{
    json_t *o = json_loads(said_out, 0, NULL);
    json_int_t n;

    cr_assert(o, "%s", said_out);
    n = json_integer_value(json_object_get(o, key));
    json_decref(o);
    return n;
}

Test(cli_care, a_backup_restored_elsewhere_has_the_same_rows)
{
    char listed[20000];

    fill();
    cr_assert_eq(RUN("rows", "list"), 0);
    snprintf(listed, sizeof listed, "%s", said_out);
    cr_assert_eq(RUN("backup", "copy", "--json"), 0, "%s", said_err);
    cr_assert_eq(number("rows"), 2);
    cr_assert_eq(RUN("backup", "copy"), 5);
    cr_assert(strstr(said_err, "copy is there already"), "%s", said_err);
    cr_assert_eq(RUN("restore", "copy"), 5, "there is a store");
    cr_assert_eq(RUN("restore", "copy", "--data-dir", "other"), 0, "%s", said_err);
    cr_assert_eq(RUN("rows", "list", "--data-dir", "other"), 0);
    cr_assert_str_eq(said_out, listed);
    cr_assert_eq(RUN("restore", "nothing", "--data-dir", "third"), 3);
    cr_assert_eq(RUN("doctor", "--data-dir", "other"), 0, "%s%s", said_out, said_err);
    cr_assert(strstr(said_out, "2 rows") && strstr(said_out, "all is well"), "%s", said_out);
}

Test(cli_care, doctor_needs_a_store)
{
    cr_assert_eq(RUN("doctor"), 3);
    cr_assert(strstr(said_err, "no store"), "%s", said_err);
    cr_assert_eq(RUN("backup", "copy"), 3);
}

Test(cli_care, beside_a_worker_backup_and_doctor_read_and_fix_is_refused)
{
    exj_prog serve;

    fill();
    exj_prog_start(&serve, &tmp, PROGRAM, env,
                   (const char *const[]){ "serve", "--http=false", NULL });
    cr_assert(exj_until(is_up, NULL, serve.pidfd, 50, 20000), "%s", said_err);
    cr_assert_eq(RUN("doctor"), 0, "%s%s", said_out, said_err);
    cr_assert_eq(RUN("doctor", "--fix"), 7);
    cr_assert(strstr(said_err, "pid"), "%s", said_err);
    cr_assert_eq(RUN("backup", "copy", "--json"), 0, "%s", said_err);
    cr_assert_eq(number("rows"), 2);
    exj_prog_signal(&serve, 15);
    cr_assert_eq(exj_prog_wait(&serve, 20000), 0);
    cr_assert_eq(RUN("doctor", "--fix", "--json"), 0, "%s%s", said_out, said_err);
    cr_assert_eq(number("found"), 0);
}

Test(cli_care, archived_rows_leave_and_come_back_whole)
{
    char row[20000], id[200];
    char *file;
    json_t *was, *is;

    fill();
    cr_assert_eq(RUN("rows", "list"), 0);
    snprintf(id, sizeof id, "%.*s", (int)strcspn(said_out, "\t"), said_out);
    cr_assert_eq(RUN("rows", "show", id, "--json"), 0, "%s", said_err);
    snprintf(row, sizeof row, "%s", said_out);
    cr_assert_eq(RUN("archive", "old.jsonl"), 2);
    cr_assert_eq(RUN("archive", "old.jsonl", "--before", "yesterday"), 2);
    cr_assert(strstr(said_err, "'yesterday'"), "%s", said_err);
    cr_assert_eq(RUN("archive", "none.jsonl", "--before", "1h", "--json"), 0, "%s", said_err);
    cr_assert_eq(number("removed"), 0);
    cr_assert_eq(RUN("archive", "other.jsonl", "--before", "2999-01-01", "--matrix", "x", "--json"),
                 0);
    cr_assert_eq(number("removed"), 0);
    cr_assert_eq(RUN("archive", "old.jsonl", "--before", "2999-01-01", "--json"), 0, "%s",
                 said_err);
    cr_assert_eq(number("removed"), 2);
    file = exj_slurp(exj_tmp_path(&tmp, "old.jsonl"), NULL);
    cr_assert_eq(lines_of(file), 2);
    cr_assert(strstr(file, "\"kind\":\"claimed\""), "%s", file);
    free(file);
    cr_assert_eq(RUN("archive", "old.jsonl", "--before", "2999-01-01"), 5);
    cr_assert_eq(RUN("rows", "show", id), 3);
    cr_assert_eq(RUN("run", "--until-idle"), 0, "the records are there still");
    cr_assert_eq(RUN("rows", "list"), 0);
    cr_assert_eq(lines_of(said_out), 0, "and do not run again: %s", said_out);
    cr_assert_eq(RUN("archive", "old.jsonl", "--restore", "--json"), 0, "%s", said_err);
    cr_assert_eq(number("restored"), 2);
    cr_assert_eq(RUN("rows", "list"), 0);
    cr_assert_eq(lines_of(said_out), 2);
    cr_assert_eq(RUN("rows", "show", id, "--json"), 0);
    was = json_loads(row, 0, NULL);
    is = json_loads(said_out, 0, NULL);
    for (size_t i = 0; i < 5; i++) {
        static const char *const same[] = { "status", "attempts", "createdAt", "finishedAt",
                                            "result" };

        cr_assert(json_equal(json_object_get(was, same[i]), json_object_get(is, same[i])), "%s: %s",
                  same[i], said_out);
    }
    json_decref(was);
    json_decref(is);
    cr_assert_eq(RUN("doctor"), 0, "%s", said_out);
    cr_assert_eq(RUN("archive", "old.jsonl", "--restore", "--json"), 0);
    cr_assert_eq(number("restored"), 0);
    cr_assert_eq(number("there"), 2);
    exj_spit(exj_tmp_path(&tmp, "bad.jsonl"), "{\"format\":1,\"row\":{},\"input\":1}\n");
    cr_assert_eq(RUN("archive", "bad.jsonl", "--restore"), 6);
    cr_assert(strstr(said_err, "line 1"), "%s", said_err);
    exj_spit(exj_tmp_path(&tmp, "bad.jsonl"),
             "{\"format\":1,\"row\":{\"matrix\":\"m\",\"graph\":\"g\",\"record\":\"r\","
             "\"status\":\"failed\",\"maxAttempts\":1,\"attempts\":-1},\"input\":{}}\n");
    cr_assert_eq(RUN("archive", "bad.jsonl", "--restore"), 6);
    cr_assert(strstr(said_err, "attempts: a whole number"), "%s", said_err);
    exj_spit(exj_tmp_path(&tmp, "bad.jsonl"),
             "{\"format\":1,\"row\":{\"matrix\":\"m\",\"graph\":\"g\",\"record\":\"r\","
             "\"status\":\"failed\",\"maxAttempts\":1,\"failures\":[{\"token\":1},{\"token\":1}]},"
             "\"input\":{}}\n");
    cr_assert_eq(RUN("archive", "bad.jsonl", "--restore"), 6);
    cr_assert(strstr(said_err, "failures: a token"), "%s", said_err);
    exj_spit(exj_tmp_path(&tmp, "bad.jsonl"),
             "{\"format\":1,\"row\":{\"matrix\":\"m\",\"graph\":\"g\",\"record\":\"r\","
             "\"status\":\"failed\",\"maxAttempts\":1,\"steps\":[{\"key\":\"a\"},{\"key\":\"a\"}]},"
             "\"input\":{}}\n");
    cr_assert_eq(RUN("archive", "bad.jsonl", "--restore"), 6);
    cr_assert(strstr(said_err, "step \"a\" is there twice"), "%s", said_err);
}
