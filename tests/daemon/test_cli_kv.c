/* The kv commands, without a daemon. */
#include "cli_support.h"

static void setup(void)
{
    cli_setup();
    exj_spit(exj_tmp_path(&tmp, "g.json"),
             "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
             "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    exj_spit(exj_tmp_path(&tmp, "m.json"),
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"input\":{\"count\":1,\"record\":"
             "{\"then\":\"keep\"}},\"graphs\":[\"g\"],\"dataSource\":{\"kind\":\"record\","
             "\"resolver\":\"test-source\"}}}");
    cr_assert_eq(RUN("apply", "-f", "g.json"), 0, "%s", said_err);
    cr_assert_eq(RUN("apply", "-f", "m.json"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle", "--executor", "kv-engine"), 0, "%s", said_err);
}

TestSuite(cli_kv, .init = setup, .fini = cli_teardown);

Test(cli_kv, lists_one_line_a_key_and_goes_on_where_it_stopped)
{
    json_t *o;

    cr_assert_eq(RUN("kv", "list", "g"), 0, "%s", said_err);
    cr_expect_eq(lines_of(said_out), 2);
    cr_expect(strstr(said_out, "last\t{\"record\":\"r-0000000\"}\t") == said_out, "%s", said_out);
    cr_expect(strstr(said_out, "\trows\t") || strstr(said_out, "\nrows\t1\t"), "%s", said_out);
    cr_expect(strstr(said_out, "\tm||g|r-0000000\n"), "%s", said_out);
    cr_assert_eq(RUN("kv", "list", "g", "--limit", "1"), 0);
    cr_expect(strstr(said_err, "--after 'last'"), "%s", said_err);
    cr_assert_eq(RUN("kv", "list", "g", "--after", "last", "--json"), 0);
    o = said_json();
    cr_expect_eq(json_array_size(json_object_get(o, "keys")), 1);
    json_decref(o);
    cr_assert_eq(RUN("kv", "list", "nobody"), 0);
    cr_expect_str_empty(said_out);
}

Test(cli_kv, prints_a_value_as_json)
{
    json_t *o;

    cr_assert_eq(RUN("kv", "get", "g", "last"), 0, "%s", said_err);
    o = said_json();
    cr_expect_str_eq(json_string_value(json_object_get(o, "record")), "r-0000000");
    json_decref(o);
    expect_refusal(RUN("kv", "get", "g", "lost"), 3, "has no key \"lost\"");
    expect_refusal(RUN("kv", "get", "g"), 2, "KEY");
}

Test(cli_kv, deletes_only_when_sure)
{
    expect_refusal(RUN("kv", "delete", "g", "rows"), 2, "--yes");
    cr_assert_eq(RUN("kv", "get", "g", "rows"), 0);
    cr_expect_str_eq(said_out, "1\n");
    cr_assert_eq(RUN("kv", "delete", "g", "rows", "--yes"), 0, "%s", said_err);
    cr_expect_str_eq(said_out, "rows of graph g deleted\n");
    expect_refusal(RUN("kv", "delete", "g", "rows", "--yes"), 3, "has no key \"rows\"");
}
