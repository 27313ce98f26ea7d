/* tests/daemon/cli_support.h - start the real program with a command line and look at what it
 * said. Each test has a folder of its own, which is also the working folder. */
#ifndef EXJ_TESTS_DAEMON_CLI_SUPPORT_H
#define EXJ_TESTS_DAEMON_CLI_SUPPORT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

#define PROGRAM EXJ_BINARY_DIR "/bin/exellix-jobs"

static exj_tmp tmp;
static char env_data[300], env_plugins[300];
static const char *env[8];
static char *said_out, *said_err; /* of the last run */

static inline void cli_setup(void)
{
    exj_tmp_make(&tmp);
    snprintf(env_data, sizeof(env_data), "EXELLIX_JOBS_DATA_DIR=%s",
             exj_tmp_path(&tmp, "data"));
    snprintf(env_plugins, sizeof(env_plugins), "EXELLIX_JOBS_PLUGINS_DIR=%s",
             EXJ_BINARY_DIR "/tests/plugins");
    env[0] = env_data;
    env[1] = env_plugins;
}

static inline void cli_teardown(void)
{
    free(said_out);
    free(said_err);
    exj_support_clean();
}

static int run_args(const char *const *args)
{
    exj_prog p;
    int status = exj_prog_run(&p, &tmp, PROGRAM, env, args, 60000);

    free(said_out);
    free(said_err);
    said_out = exj_slurp(p.out, NULL);
    said_err = exj_slurp(p.err, NULL);
    return status;
}

/* Exit status of the program with these words. */
#define RUN(...) run_args((const char *const[]){ __VA_ARGS__, NULL })

static size_t lines_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* It ended with `status`, said nothing as data, and one line that holds `part`. */
static inline void expect_refusal(int status, int wanted, const char *part)
{
    cr_expect_eq(status, wanted, "status %d, wanted %d; it said: %s", status, wanted, said_err);
    cr_expect_str_empty(said_out, "data: %s", said_out);
    cr_expect_eq(lines_of(said_err), 1, "not one line: %s", said_err);
    cr_expect(strstr(said_err, part) != NULL, "wanted \"%s\" in: %s", part, said_err);
}

static inline json_t *said_json(void)
{
    json_t *o = json_loads(said_out, JSON_DECODE_ANY, NULL);

    cr_assert_not_null(o, "not JSON: %s", said_out);
    return o;
}

#endif /* EXJ_TESTS_DAEMON_CLI_SUPPORT_H */
