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
