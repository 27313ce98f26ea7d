/* Every allocation of a source resolver fails once: the call is given back for another attempt,
 * nothing is lost, told twice or left behind. Built once for each resolver, which is linked in so
 * that its allocations pass through the fault. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exellix/json.h"
#include "exellix/plugin.h"
#include "tests/support/fault.h"

#ifdef SOURCE_SQL
#include <sqlite3.h>
#endif

const exj_bundle *exellix_plugin_v1(uint32_t host_minor);

static char folder[64];

/* One call, as a host hears of it. Nothing here allocates. */
struct heard {
    size_t records;
    char cursor[600], code[64];
};
static struct heard heard;

static void on_log(void *ctx, exj_call c, int32_t level, exj_str message)
{
    (void)ctx, (void)c, (void)level, (void)message;
}

static void on_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str message)
{
    (void)ctx, (void)c, (void)r, (void)message;
    snprintf(heard.code, sizeof heard.code, "%.*s", (int)code.n, code.p);
}

static int32_t on_cancelled(void *ctx, exj_call c)
{
    (void)ctx, (void)c;
    return 0;
}

static exj_result on_emit(void *ctx, exj_call c, exj_str json)
{
    exj_str next;

    (void)ctx, (void)c;
    if (exj_json_find(json, "next", &next))
        snprintf(heard.cursor, sizeof heard.cursor, "%.*s", (int)next.n, next.p);
    else
        heard.records++;
    return EXJ_R_OK;
}

static const void *no_extension(void *ctx, const char *id)
{
    (void)ctx, (void)id;
    return NULL;
}

static const exj_host host = { .size_of = EXJ_SIZE(exj_host, extension), .log = on_log,
                               .error = on_error, .cancelled = on_cancelled, .emit = on_emit,
                               .extension = no_extension };

/* A whole scan; the result of the first call that failed. */
static exj_result scan(const char *config, const char *input)
{
    const exj_plugin *p = exellix_plugin_v1(EXJ_ABI_MINOR)->plugins[0];
    exj_result r;
    void *instance;

    heard = (struct heard){ 0 };
    r = p->create(&host, exj_text(config), &instance);
    if (r != EXJ_R_OK)
        return r;
    do {
        char runtime[700];
        exj_args a = { .size_of = sizeof a, .attempt = 1, .deadline_ns = UINT64_MAX };

        snprintf(runtime, sizeof runtime, "{\"kind\":\"storage\",\"cursor\":%s}",
                 *heard.cursor ? heard.cursor : "null");
        heard.cursor[0] = '\0';
        a.model = exj_text(input);
        a.runtime = exj_text(runtime);
        r = p->execute(instance, 1, &a);
    } while (r == EXJ_R_OK && *heard.cursor);
    p->destroy(instance);
    return r;
}

static void each_allocation_fails(const char *config, const char *input, size_t records)
{
    long n, seen;

    for (n = 1;; n++) {
        exj_result r;

        exj_fault_arm(n);
        r = scan(config, input);
        seen = exj_fault_disarm();
        if (seen < n) {
            cr_assert_eq(r, EXJ_R_OK, "%d %s", (int)r, heard.code);
            cr_assert_eq(heard.records, records);
            break;
        }
        cr_assert_eq(r, EXJ_R_RETRY, "allocation %ld: %d %s", n, (int)r, heard.code);
        cr_assert(!*heard.code || strcmp(heard.code, "NoMemory") == 0, "%s", heard.code);
        cr_assert_eq(scan(config, input), EXJ_R_OK);
        cr_assert_eq(heard.records, records);
    }
    cr_assert_gt(n, 5);
}

static void setup(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/exj-sources-XXXXXX",
             base && strlen(base) < 40 ? base : "/tmp");
    cr_assert_not_null(mkdtemp(folder));
}

static const char *in_folder(const char *name)
{
    static char paths[4][200];
    static unsigned next;
    char *to = paths[next++ % 4];

    snprintf(to, sizeof paths[0], "%s/%s", folder, name);
    return to;
}

static void teardown(void)
{
    static const char *const names[] = { "a", "a.bad.jsonl", "b", "d/1", "d/2", "d/3" };

    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        unlink(in_folder(names[k]));
    rmdir(in_folder("d"));
    cr_assert_eq(rmdir(folder), 0);
}

TestSuite(source_memory, .init = setup, .fini = teardown, .timeout = 100);

#ifndef SOURCE_SQL

static void put_file(const char *name, const char *text)
{
    FILE *f = fopen(in_folder(name), "w");

    cr_assert_not_null(f);
    fputs(text, f);
    cr_assert_eq(fclose(f), 0);
}

Test(source_memory, of_json_lines_with_a_quarantine)
{
    char config[100], input[500], line[300];
    unsigned n = 0;
    FILE *f;

    put_file("a", "{\"id\":\"x\",\"n\":1}\nbad\n{\"id\":2}\n{\"id\":3}\nbad\n\n{\"id\":4}\n");
    snprintf(config, sizeof config, "{\"root\":\"%s\"}", folder);
    snprintf(input, sizeof input, "{\"path\":\"a\",\"format\":\"jsonl\",\"idField\":\"id\",\"pageRecords\":2,"
             "\"onBadLine\":\"quarantine\",\"quarantineFile\":\"a.bad.jsonl\"}");
    each_allocation_fails(config, input, 4);
    f = fopen(in_folder("a.bad.jsonl"), "r");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f))
        n++;
    fclose(f);
    cr_assert_eq(n, 2, "%u lines were put aside", n);
}

Test(source_memory, of_csv)
{
    char input[500];

    put_file("b", "id,n,text\n1,2,\"a \"\"b\"\"\"\n2,,\n3,4,x\n");
    snprintf(input, sizeof input, "{\"path\":\"%s\",\"format\":\"csv\",\"columns\":[\"text\",\"n\"],\"types\":{"
             "\"n\":\"integer\"},\"pageRecords\":2,\"onBadLine\":\"skip\"}", in_folder("b"));
    each_allocation_fails("{}", input, 3);
}

Test(source_memory, of_a_folder)
{
    char input[300];

    cr_assert_eq(mkdir(in_folder("d"), 0700), 0);
    put_file("d/1", "one");
    put_file("d/2", "two");
    put_file("d/3", "three");
    snprintf(input, sizeof input, "{\"path\":\"%s\",\"format\":\"directory\",\"glob\":\"?\",\"text\":true,"
             "\"pageRecords\":2}", in_folder("d"));
    each_allocation_fails("{}", input, 3);
}

#else

Test(source_memory, of_a_query)
{
    char config[100], input[500];
    sqlite3 *db = NULL;

    cr_assert_eq(sqlite3_open(in_folder("a"), &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "CREATE TABLE t(k, b); INSERT INTO t VALUES('a',x'00'),('b',1.5),('c',3)",
                              NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    snprintf(config, sizeof config, "{\"root\":\"%s\"}", folder);
    snprintf(input, sizeof input, "{\"database\":\"a\",\"query\":\"SELECT * FROM t WHERE k <> ?\",\"params\":["
             "\"x\"],\"keyColumn\":\"k\",\"pageRecords\":2}");
    each_allocation_fails(config, input, 3);
}

#endif
