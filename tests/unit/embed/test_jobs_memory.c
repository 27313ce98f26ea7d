/* A worker inside a program that runs out of memory: each allocation fails once, is told, and
 * leaves nothing behind. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "exellix/jobs.h"
#include "tests/support/fault.h"

static char dir[64], why[512];

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)h, (void)config, (void)instance;
    return EXJ_R_OK;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    (void)instance, (void)c, (void)a;
    return EXJ_R_FAILED;
}

static void destroy(void *instance)
{
    (void)instance;
}

static const exj_plugin engine = { .size_of = EXJ_SIZE(exj_plugin, destroy),
                                   .kind = EXJ_KIND_GRAPH_ENGINE, .id = "own.engine",
                                   .version = "1", .create = create, .execute = execute,
                                   .destroy = destroy };
static const exj_plugin *const list[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0, list };

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%s/exj-embed-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(dir));
}

static void teardown(void)
{
    char line[100];

    exj_fault_disarm();
    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    cr_expect_eq(system(line), 0);
}

TestSuite(jobs_memory, .init = setup, .fini = teardown);

static exj_jobs_options options(void)
{
    static const char *const dirs[] = { "/absent/one", "/absent/two", NULL };
    exj_jobs_options o = EXJ_JOBS_OPTIONS_INIT;

    o.data_dir = dir;
    o.plugin_dirs = dirs;
    o.executor = "own.engine";
    o.log_level = EXJ_JOBS_LOG_ERROR;
    return o;
}

static exj_jobs *open_worker(void)
{
    exj_jobs_options o = options();
    exj_jobs *j = NULL;

    cr_assert_eq(exj_jobs_open(&o, &j, why, sizeof why), EXJ_JOBS_OK, "%s", why);
    return j;
}

Test(jobs_memory, open_fails_whole_or_not_at_all)
{
    exj_jobs_options o = options();
    exj_jobs *j = NULL;
    long n, failed = 0;

    exj_jobs_free(open_worker()); /* the store is there from now on */
    for (n = 1; n < 10000; n++) {
        exj_jobs_code rc;

        *why = '\0';
        exj_fault_arm(n);
        rc = exj_jobs_open(&o, &j, why, sizeof why);
        if (exj_fault_disarm() < n) {
            cr_expect_eq(rc, EXJ_JOBS_OK, "%s", why);
            break;
        }
        if (rc == EXJ_JOBS_OK) { /* what failed was not needed, such as a line of the log */
            exj_jobs_free(j);
            j = NULL;
            continue;
        }
        cr_assert_eq(rc, EXJ_JOBS_NOMEM, "allocation %ld: %d %s", n, (int)rc, why);
        cr_assert_not_null(strstr(why, "memory"), "allocation %ld: %s", n, why);
        cr_assert_null(j);
        failed++;
    }
    cr_expect_gt(failed, 10);
    exj_jobs_free(j);
}

Test(jobs_memory, plugins_that_could_not_be_added_may_be_added_again)
{
    exj_jobs *j = open_worker();
    long n;

    for (n = 1; n < 10000; n++) {
        exj_jobs_code rc;

        exj_fault_arm(n);
        rc = exj_jobs_add_plugins(j, "own", &bundle, why, sizeof why);
        if (exj_fault_disarm() < n) {
            cr_expect_eq(rc, EXJ_JOBS_OK, "%s", why);
            break;
        }
        cr_assert_eq(rc, EXJ_JOBS_NOMEM, "allocation %ld: %d %s", n, (int)rc, why);
    }
    cr_expect_gt(n, 4);
    exj_jobs_free(j);
}

static void take(void *user, uint32_t status, const char *answer, size_t bytes)
{
    (void)answer, (void)bytes;
    *(uint32_t *)user = status;
}

/* A document that could not be applied was not; what was applied is there. */
Test(jobs_memory, documents_are_applied_or_the_failure_is_told)
{
    static const char graph[] =
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}";
    exj_jobs *j = open_worker();
    exj_jobs_code rc = EXJ_JOBS_OK;
    uint32_t status = 0;
    long n;

    for (n = 1; n < 10000; n++) {
        *why = '\0';
        exj_fault_arm(n);
        rc = exj_jobs_apply(j, graph, sizeof graph - 1, why, sizeof why);
        if (exj_fault_disarm() < n)
            break;
        if (rc == EXJ_JOBS_OK) /* what failed was not needed, such as room to grow */
            break;
        cr_assert(rc == EXJ_JOBS_NOMEM || rc == EXJ_JOBS_IO, "allocation %ld: %d %s", n, (int)rc,
                  why);
        cr_assert_neq(*why, '\0');
    }
    cr_expect_eq(rc, EXJ_JOBS_OK, "%s", why);
    cr_expect_gt(n, 5);
    cr_assert_eq(exj_jobs_ask(j, "GET", "/configs/graphs/g", NULL, NULL, 0, take, &status, why,
                              sizeof why), EXJ_JOBS_OK);
    cr_expect_eq(status, 200);
    exj_jobs_free(j);
}
