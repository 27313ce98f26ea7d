#include "core/base/log.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/json.h"

/* What one call writes to standard error. */
static size_t capture(bool json, const char *message, char *ret, size_t ret_bytes)
{
    int fds[2], kept = dup(STDERR_FILENO);
    ssize_t n;

    cr_assert_eq(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    exj_log_setup(EXJ_LOG_INFO, json);
    exj_log(EXJ_LOG_DEBUG, "test", "not seen");
    exj_log(EXJ_LOG_WARN, "test", "%s", message);
    dup2(kept, STDERR_FILENO);
    close(fds[1]);
    n = read(fds[0], ret, ret_bytes - 1);
    close(fds[0]);
    close(kept);
    ret[n < 0 ? 0 : n] = '\0';
    return n < 0 ? 0 : (size_t)n;
}

Test(log, a_json_line_is_json_whatever_the_message)
{
    char line[16384], big[20000];
    json_t *v = NULL;
    exj_err err = { 0 };
    size_t n = capture(true, "a\"b\\c\n\x1b[31m\xff \xc3\xa4", line, sizeof(line));

    cr_assert_eq(exj_json_parse((exj_slice){ line, n }, &v, &err), EXJ_OK, "%s: %s", err.text,
                 line);
    cr_expect_str_eq(json_string_value(json_object_get(v, "msg")),
                     "a\"b\\c\n\x1b[31m\\xff \xc3\xa4");
    cr_expect_str_eq(json_string_value(json_object_get(v, "level")), "warn");
    json_decref(v);

    memset(big, '"', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    n = capture(true, big, line, sizeof(line));
    cr_expect_leq(n, 8192);
    cr_expect_eq(line[n - 1], '\n');
    v = NULL;
    cr_expect_eq(exj_json_parse((exj_slice){ line, n }, &v, &err), EXJ_OK, "%s", err.text);
    json_decref(v);
}

Test(log, a_text_line_holds_no_control_bytes)
{
    char line[4096];
    size_t n = capture(false, "one\ntwo\x1b", line, sizeof(line));

    cr_assert_gt(n, 0);
    cr_expect_eq(line[n - 1], '\n');
    line[n - 1] = '\0';
    cr_expect_null(strchr(line, '\n'));
    cr_expect(strstr(line, " warn  test: one\\x0atwo\\x1b"), "%s", line);
}
