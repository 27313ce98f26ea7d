/* Durable steps through the whole program: a row is killed wherever something durable happens
 * and goes on where it was. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

#define STEPS 10
#define POINTS (4 * STEPS) /* before and after each intent, before and after each commit */

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
    cr_assert(exj_daemon_start(&d));
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(steps, .init = setup, .fini = teardown);

struct ended {
    int seen;
    int64_t attempts;
};

static bool check_row(void *user, const json_t *row)
{
    struct ended *e = user;

    e->seen++;
    cr_expect_str_eq(json_string_value(json_object_get(row, "status")), "completed");
    e->attempts = json_integer_value(json_object_get(row, "attempts"));
    return true;
}

static char *result_of(const char *row)
{
    char path[256];
    json_t *body = NULL;
    char *text;

    snprintf(path, sizeof(path), "/v1/rows/%s", row);
    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &body), 200);
    text = json_dumps(json_object_get(json_object_get(body, "result"), "outputsByNodeId"),
                      JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    json_decref(body);
    return text;
}

static int times_run(const exj_effects *e, const char *matrix, int step)
{
    char name[64];
    int n = 0;

    snprintf(name, sizeof(name), "#s%d", step);
    for (size_t i = 0; i < e->len; i++) {
        const char *at = e->items[i].what == 'S' ? strrchr(e->items[i].job, '#') : NULL;

        n += at && strcmp(at, name) == 0 && !strncmp(e->items[i].job, matrix, strlen(matrix)) &&
             e->items[i].job[strlen(matrix)] == '|';
    }
    return n;
}

/* spec 2.3: Executors record finished steps: `step_get(key)` / `step_put(key, result)`; on a later attempt the stored result is returned and the step is not run again. */
/* spec 2.10: A completed step's result is what every later attempt sees. */
Test(steps, a_row_killed_at_each_durable_point_goes_on_without_running_a_finished_step_again,
     .timeout = 120)
{
    char input[128], matrix[32], row[64], *undisturbed, *result;

    exj_daemon_graph(&d, "g", NULL);
    snprintf(input, sizeof(input), "{\"count\":1,\"record\":{\"steps\":%d}}", STEPS);
    exj_daemon_matrix(&d, "calm", "[\"g\"]", "record", input, "");
    cr_assert(exj_daemon_wait_done(&d, "calm", 1, 10000));
    undisturbed = result_of("calm%7C%7Cg%7Cr-0000000");
    cr_assert(strstr(undisturbed, "55"), "%s", undisturbed);

    for (int point = 1; point <= POINTS; point++) {
        int step = (point + 3) / 4, what = (point - 1) % 4; /* of it: 0 .. 3 */
        struct ended ended = { 0 };
        exj_effects e;

        snprintf(matrix, sizeof(matrix), "m%d", point);
        snprintf(input, sizeof(input), "{\"count\":1,\"record\":{\"steps\":%d,\"killAt\":%d}}",
                 STEPS, point);
        exj_daemon_matrix(&d, matrix, "[\"g\"]", "record", input, ",\"maxAttempts\":3");
        cr_assert_gt(exj_prog_wait(&d.prog, 10000), 0, "point %d: nobody died", point);
        cr_assert(exj_daemon_start(&d));
        cr_assert(exj_daemon_wait_done(&d, matrix, 1, 10000), "point %d", point);
        exj_daemon_rows(&d, matrix, check_row, &ended);
        cr_assert_eq(ended.seen, 1);
        cr_assert_eq(ended.attempts, 2, "point %d: %d attempts", point, (int)ended.attempts);
        exj_effects_read(&d, &e);
        for (int k = 1; k <= STEPS; k++) {
            /* killed after its effect and before its commit, nobody can know: it runs again */
            int wanted = k == step && what == 2 ? 2 : 1;

            cr_assert_eq(times_run(&e, matrix, k), wanted, "point %d: step %d ran %d times",
                         point, k, times_run(&e, matrix, k));
        }
        exj_effects_release(&e);
        snprintf(row, sizeof(row), "%s%%7C%%7Cg%%7Cr-0000000", matrix);
        result = result_of(row);
        cr_assert_str_eq(result, undisturbed, "point %d: %s", point, result);
        free(result);
    }
    free(undisturbed);
}
