/* exellix.source-sql: each row once, page by page, and nothing but reading. */
#include "tests/plugins/sources.h"

#include <sqlite3.h>

static struct found f;
static struct source plain; /* without config, for most tests */

static void setup(void)
{
    sources_init();
    plain = source_new(SOURCE_SQL_SO, "{}");
}

static void teardown(void)
{
    found_release(&f);
    source_close(&plain);
    sources_fini();
}

TestSuite(source_sql, .init = setup, .fini = teardown, .timeout = 100);

static void sql(const char *name, const char *text)
{
    sqlite3 *db = NULL;
    char *why = NULL;

    cr_assert_eq(sqlite3_open(in_folder(name), &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(db);
}

#define NUMBERS(n)                                                                          \
    "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT);"                                    \
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < " #n ")"      \
    "INSERT INTO t SELECT x, 'row ' || x FROM c;"

static const char *input_of(const char *query, const char *more)
{
    static char text[2][2000];
    static unsigned next;
    char *to = text[next++ % 2];

    snprintf(to, sizeof text[0], "{\"database\":\"%s\",\"query\":\"%s\"%s%s}", in_folder("a.db"),
             query, *more ? "," : "", more);
    return to;
}

static void select_all(const char *query, const char *more)
{
    scan_all(&plain, &f, "storage", input_of(query, more));
}

Test(source_sql, pages_give_each_row_once_in_the_order_of_the_key)
{
    char id[24];

    sql("a.db", NUMBERS(2500));
    for (int record = 0; record < 2; record++) {
        scan_all(&plain, &f, record ? "record" : "storage",
                 input_of("SELECT * FROM t; -- all ;", "\"keyColumn\":\"id\",\"pageRecords\":7"));
        found_is_good(&f, 2500);
        cr_expect_eq(f.pages, record ? 1u : 358u, "%zu", f.pages);
        for (size_t k = 0; k < f.n; k++) {
            snprintf(id, sizeof id, "%zu", k + 1);
            cr_assert_str_eq(f.ids[k], id);
        }
    }
    cr_expect_str_eq(f.records[6], "{\"id\":7,\"name\":\"row 7\"}");
    select_all("SELECT name FROM t WHERE id > ? AND id < ?2 -- some", "\"params\":[2490,2499],"
        "\"keyColumn\":\"name\",\"pageRecords\":3");
    found_is_good(&f, 8);
    cr_expect_str_eq(f.ids[7], "row 2498");
    select_all("SELECT * FROM t WHERE id <= 1300", "\"idColumn\":\"id\"");
    found_is_good(&f, 1300);
    cr_expect_eq(f.pages, 1u);
    select_all("SELECT * FROM t WHERE 0", "\"keyColumn\":\"id\"");
    found_is_good(&f, 0);
}

Test(source_sql, keys_of_every_type_are_paged)
{
    sql("a.db", "CREATE TABLE t(k, n);"
                "INSERT INTO t VALUES(-1.5,1),(0,2),(1e300,3),(9223372036854775807,4),('',5),('a',6),"
                "('A',7),('b''\"%w',8),('\xc3\xa9',9),(x'',10),(x'00ff',11),(2.0,12),(3,13);");
    select_all("SELECT * FROM t", "\"keyColumn\":\"k\",\"idColumn\":\"n\",\"pageRecords\":1");
    found_is_good(&f, 13);
    sql("a.db", "CREATE TABLE c(k TEXT COLLATE NOCASE, n);"
                "INSERT INTO c VALUES('a',1),('A',2),('b',3),('B',4);");
    select_all("SELECT * FROM c", "\"keyColumn\":\"k\",\"idColumn\":\"n\",\"pageRecords\":1");
    found_is_good(&f, 4);
}

Test(source_sql, a_key_that_is_not_unique_or_null_is_refused_before_a_row_is_lost)
{
    sql("a.db", "CREATE TABLE t(k, n); INSERT INTO t VALUES(1,1),(2,2),(2,3),(3,4);");
    for (int page = 1; page < 5; page++) {
        char more[100];

        snprintf(more, sizeof more, "\"keyColumn\":\"k\",\"idColumn\":\"n\",\"pageRecords\":%d", page);
        select_all("SELECT * FROM t", more);
        found_fails(&f, EXJ_R_INPUT, "BadKey", "rows 2 and 3 have the same value in \"k\"");
    }
    sql("a.db", "UPDATE t SET k = 2.0 WHERE n = 3");
    select_all("SELECT * FROM t", "\"keyColumn\":\"k\",\"idColumn\":\"n\",\"pageRecords\":2");
    found_fails(&f, EXJ_R_INPUT, "BadKey", "rows 2 and 3 have the same value");
    sql("a.db", "UPDATE t SET k = NULL WHERE n = 3");
    select_all("SELECT * FROM t", "\"keyColumn\":\"k\",\"idColumn\":\"n\"");
    found_fails(&f, EXJ_R_INPUT, "BadKey", "row 1: column \"k\" (keyColumn) is NULL");
}

Test(source_sql, each_type_becomes_json)
{
    sql("a.db", NUMBERS(1));
    select_all("SELECT 1 AS id, 9223372036854775807 AS i, 0.1 AS r, 5.0 AS w, 1e300 AS h, 'a\\\"\xc3\xa9\\n' AS t, "
        "x'00ff10' AS b, NULL AS n, x'' AS e, '' AS s", "\"idColumn\":\"id\"");
    found_is_good(&f, 1);
    cr_expect_str_eq(f.records[0], "{\"id\":1,\"i\":9223372036854775807,\"r\":0.1,\"w\":5.0,\"h\":1e300,"
                     "\"t\":\"a\\\"\xc3\xa9\\n\",\"b\":\"AP8Q\",\"n\":null,\"e\":\"\",\"s\":\"\"}");
    select_all("SELECT 1 AS id, 3 AS n UNION ALL SELECT 2, 9e999 UNION ALL SELECT 3, 4", "\"idColumn\":\"id\"");
    found_fails(&f, EXJ_R_INPUT, "BadRow", "row 2: column \"n\": an infinite number");
    select_all("SELECT 1 AS id, 3 AS n UNION ALL SELECT 2, 9e999 UNION ALL SELECT 3, 4",
        "\"idColumn\":\"id\",\"onBadRow\":\"skip\"");
    cr_expect_eq(f.result, EXJ_R_OK);
    cr_expect_eq(f.n, 2u);
    select_all("SELECT 1 AS id, CAST(x'ff' AS TEXT) AS t", "\"idColumn\":\"id\"");
    found_fails(&f, EXJ_R_INPUT, "BadRow", "column \"t\": a text that is no UTF-8");
    select_all("SELECT 1 AS id, 'abcdef' AS t", "\"idColumn\":\"id\",\"maxTextBytes\":5");
    found_fails(&f, EXJ_R_INPUT, "BadRow", "column \"t\": longer than input.maxTextBytes");
    select_all("SELECT 1 AS id, zeroblob(700000) AS a, zeroblob(700000) AS b", "\"idColumn\":\"id\"");
    found_fails(&f, EXJ_R_INPUT, "BadRow", "a record of more than 1048576 bytes");
    select_all("SELECT NULL AS id", "\"idColumn\":\"id\"");
    found_fails(&f, EXJ_R_INPUT, "BadRow", "column \"id\" (idColumn): wanted a whole number");
    select_all("SELECT 1.5 AS id", "\"idColumn\":\"id\"");
    found_fails(&f, EXJ_R_INPUT, "BadRow", "column \"id\" (idColumn)");
    select_all("SELECT ?1 AS id, ? AS a, ? AS b, ? AS c, ? AS d", "\"idColumn\":\"id\",\"params\":[\"x\\u00e9\","
        "1.5,true,null,-3]");
    found_is_good(&f, 1);
    cr_expect_str_eq(f.records[0], "{\"id\":\"x\xc3\xa9\",\"a\":1.5,\"b\":1,\"c\":null,\"d\":-3}");
}

Test(source_sql, a_query_that_is_none_is_refused)
{
    static const struct {
        const char *query, *more, *code, *why;
    } bads[] = {
        { "SELEC 1", "", "QueryWrong", "input.query: near \"SELEC\": syntax error" },
        { "SELECT * FROM none", "", "QueryWrong", "no such table: none" },
        { "SELECT 1 AS id; SELECT 2", "", "QueryWrong", "more than one statement" },
        { "SELECT 1 AS id; DROP TABLE t", "", "QueryWrong", "more than one statement" },
        { "-- nothing", "", "QueryWrong", "there is no statement" },
        { "SELECT 1 AS x", "", "QueryWrong", "no column \"id\", which input.idColumn names" },
        { "SELECT 1 AS id", ",\"keyColumn\":\"k\"", "QueryWrong", "no column \"k\", which input.keyColumn" },
        { "SELECT 1 AS id, 2 AS a, 3 AS a", "", "QueryWrong", "two columns have the name \"a\"" },
        { "SELECT 1 AS id, 2 AS 'input.raw'", "", "QueryWrong", "may not have the name \"input.raw\"" },
        { "SELECT ? AS id", "", "QueryWrong", "has 1 parameters and input.params 0" },
        { "SELECT 1 AS id) UNION SELECT (2", "", "QueryWrong", "syntax error" },
        { "EXPLAIN SELECT 1 AS id", "", "QueryWrong", "wanted a SELECT" },
        { "INSERT INTO t VALUES(99,'x') RETURNING id", "", "NotAllowed", "a source may only read" },
        { "UPDATE t SET name = ''", "", "NotAllowed", "a source may only read" },
        { "DELETE FROM t", "", "NotAllowed", "a source may only read" },
        { "DROP TABLE t", "", "NotAllowed", "a source may only read" },
        { "PRAGMA query_only=OFF", "", "NotAllowed", "a source may only read" },
        { "SELECT * FROM pragma_database_list", "", "NotAllowed", "a source may only read" },
        { "ATTACH '/tmp/x.db' AS x", "", "NotAllowed", "a source may only read" },
        { "VACUUM INTO '/tmp/x.db'", "", "QueryWrong", "wanted a SELECT" },
        { "SELECT load_extension('x') AS id", "", "NotAllowed", "a source may only read" },
        { "CREATE TEMP TABLE x(y)", "", "NotAllowed", "a source may only read" },
        { "BEGIN", "", "NotAllowed", "a source may only read" },
    };

    sql("a.db", NUMBERS(3));
    for (size_t k = 0; k < sizeof bads / sizeof *bads; k++) {
        char more[100];

        snprintf(more, sizeof more, "\"idColumn\":\"id\"%s", bads[k].more);
        select_all(bads[k].query, more);
        cr_expect_eq(f.result, EXJ_R_INPUT, "%s: %d %s", bads[k].query, (int)f.result, f.text);
        cr_expect_str_eq(f.code, bads[k].code, "%s: %s", bads[k].query, f.text);
        says(f.text, bads[k].why);
    }
    select_all("SELECT * FROM t", "\"idColumn\":\"id\"");
    found_is_good(&f, 3);
}

Test(source_sql, an_input_is_judged_and_says_what_is_wanted)
{
    static const struct {
        const char *input, *why;
    } bads[] = {
        { "7", "payload.input: wanted an object" },
        { "{}", "input.database is missing" },
        { "{\"database\":\"/x\"}", "input.query is missing" },
        { "{\"database\":\"/x\",\"query\":\"SELECT 1\"}", "input.idColumn is missing" },
        { "{\"database\":\"/x\",\"querry\":\"\"}", "\"querry\" is no member; wanted database, query" },
        { "{\"database\":\"\",\"query\":\"\"}", "input.database: \"\": wanted a text" },
        { "{\"database\":\"/x\",\"params\":{}}", "input.params: {}: wanted a list" },
        { "{\"database\":\"/x\",\"params\":[[]]}", "input.params: []: wanted texts" },
        { "{\"database\":\"/x\",\"maxRows\":0}", "input.maxRows: 0: wanted 1 to" },
        { "{\"database\":\"/x\",\"onBadRow\":\"quarantine\"}", "wanted stop or skip" },
        { "{\"database\":\"/x\",\"database\":\"/y\"}", "input.database stands there twice" },
        { "{\"database\":\"x\",\"query\":\"SELECT 1\",\"idColumn\":\"1\"}", "x: wanted an absolute path" },
        { "{\"database\":\"/nowhere/x\",\"query\":\"SELECT 1\",\"idColumn\":\"1\"}", "/nowhere/x: no such file" },
        { "{\"database\":\"/dev/null\",\"query\":\"SELECT 1\",\"idColumn\":\"1\"}", "/dev/null: wanted a regular file" },
    };

    for (size_t k = 0; k < sizeof bads / sizeof *bads; k++) {
        scan_all(&plain, &f, "storage", bads[k].input);
        cr_expect(f.result == EXJ_R_INPUT || f.result == EXJ_R_FAILED, "%s", bads[k].input);
        says(f.text, bads[k].why);
    }
    put_file("a.db", "this is a text and no database, however long it is made to be by its author, "
                     "who goes on and on until there is more than a page of it");
    select_all("SELECT 1 AS id", "\"idColumn\":\"id\"");
    found_fails(&f, EXJ_R_FAILED, "NotADatabase", "a.db: no SQLite database");
}

Test(source_sql, the_workers_own_store_is_refused_by_every_name)
{
    char input[500];

    cr_assert_eq(mkdir(in_folder("data"), 0700), 0);
    sql("data/exellix-jobs.db", NUMBERS(1));
    put_file("data/exellix-jobs.lock", "");
    cr_assert_eq(symlink("data/exellix-jobs.db", in_folder("a.db")), 0);
    select_all("SELECT * FROM t", "\"idColumn\":\"id\"");
    found_fails(&f, EXJ_R_FAILED, "OwnStore", "this is a worker's own store");
    snprintf(input, sizeof input, "{\"database\":\"%s/data/../data//exellix-jobs.db\",\"query\":\"SELECT * "
             "FROM t\",\"idColumn\":\"id\"}", folder);
    scan_all(&plain, &f, "storage", input);
    found_fails(&f, EXJ_R_FAILED, "OwnStore", "exellix-jobs backup");
    unlink(in_folder("data/exellix-jobs.lock")); /* a backup has none */
    select_all("SELECT * FROM t", "\"idColumn\":\"id\"");
    found_is_good(&f, 1);
}

Test(source_sql, no_path_leads_out_of_a_root)
{
    char config[200], input[300];
    static const char *const ways[] = { "../a.db", "link", "x/../../a.db" };
    struct source s;

    cr_assert_eq(mkdir(in_folder("root"), 0700), 0);
    cr_assert_eq(mkdir(in_folder("root/x"), 0700), 0);
    sql("a.db", NUMBERS(1));
    sql("root/in.db", NUMBERS(2));
    cr_assert_eq(symlink("../a.db", in_folder("root/link")), 0);
    snprintf(config, sizeof config, "{\"root\":\"%s/root\"}", folder);
    s = source_new(SOURCE_SQL_SO, config);
    scan_all(&s, &f, "storage", "{\"database\":\"in.db\",\"query\":\"SELECT * FROM t\",\"idColumn\":\"id\"}");
    found_is_good(&f, 2);
    for (size_t k = 0; k < 3; k++) {
        snprintf(input, sizeof input, "{\"database\":\"%s\",\"query\":\"SELECT 1 AS id\",\"idColumn\":\"id\"}",
                 ways[k]);
        scan_all(&s, &f, "storage", input);
        found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "lies outside of the root");
    }
    scan_all(&s, &f, "storage", input_of("SELECT 1 AS id", "\"idColumn\":\"id\""));
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "lies outside of the root");
    source_close(&s);
}

static void replace(size_t page)
{
    if (page == 2)
        shell("cp '%s' '%s.new' && mv '%s.new' '%s'", in_folder("a.db"), in_folder("a.db"),
              in_folder("a.db"), in_folder("a.db"));
}

static void insert(size_t page)
{
    if (page == 2)
        sql("a.db", "INSERT INTO t VALUES(-1,'behind'),(1000,'before')");
}

Test(source_sql, a_database_may_be_written_but_not_replaced_during_a_scan)
{
    sql("a.db", "PRAGMA journal_mode=WAL;" NUMBERS(50));
    f.between = insert;
    select_all("SELECT * FROM t", "\"keyColumn\":\"id\",\"pageRecords\":10");
    found_is_good(&f, 51);
    f.between = replace;
    select_all("SELECT * FROM t", "\"keyColumn\":\"id\",\"pageRecords\":10");
    found_fails(&f, EXJ_R_FAILED, "FileReplaced", "was replaced by another file while it was read (after row 20)");
    f.between = NULL;
    for (int k = 0; k < 4; k++) {
        static const char *const bads[] = { "\"\"", "\"7\"", "\"1 1 1 1 x\"", "\"garbage\"" };

        found_release(&f);
        snprintf(f.cursor, sizeof f.cursor, "%s", bads[k]);
        one_page(&plain, &f, "storage", input_of("SELECT * FROM t", "\"keyColumn\":\"id\""));
        found_fails(&f, EXJ_R_INPUT, "BadCursor", "is none of this plugin's");
    }
}

#define ENDLESS "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT "

Test(source_sql, what_is_too_much_is_bounded)
{
    int64_t began = exj_clock_mono_ns();

    sql("a.db", NUMBERS(20));
    select_all("SELECT * FROM t", "\"keyColumn\":\"id\",\"pageRecords\":6,\"maxRows\":15");
    found_fails(&f, EXJ_R_INPUT, "TooManyRows", "more than input.maxRows = 15");
    cr_expect_eq(f.n, 15u);
    select_all("SELECT * FROM t", "\"keyColumn\":\"id\",\"pageRecords\":6,\"maxRows\":20");
    found_is_good(&f, 20);
    select_all(ENDLESS "count(*) AS id FROM c", "\"idColumn\":\"id\",\"timeoutSeconds\":1");
    found_fails(&f, EXJ_R_FAILED, "QueryTooSlow", "a page needed more than 1 s");
    cr_expect_lt(exj_clock_mono_ns() - began, 20 * INT64_C(1000000000));
    f.stop_at = 5;
    select_all(ENDLESS "x AS id FROM c", "\"idColumn\":\"id\"");
    cr_expect_eq(f.result, EXJ_R_CANCELLED);
    f.stop_at = 0;
    f.refuse_at = 3;
    select_all("SELECT * FROM t", "\"keyColumn\":\"id\"");
    found_fails(&f, EXJ_R_INPUT, "RecordRefused", "row 3, or one before it");
    f.refuse_at = 0;
}

Test(source_sql, in_a_plugin_host_it_does_the_same)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    struct source s = source_open(h->r.registry, SOURCE_SQL_SO, "{}");

    sql("a.db", "PRAGMA journal_mode=WAL;" NUMBERS(300));
    scan_all(&s, &f, "storage", input_of("SELECT * FROM t", "\"keyColumn\":\"id\",\"pageRecords\":100"));
    found_is_good(&f, 300);
    cr_expect_eq(f.pages, 3u);
    source_close(&s);
    house_close(h);
}
