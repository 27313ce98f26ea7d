/* Lines of a history: what is read is written and read again as the same, in one line of bounded
 * length; a torn line hides no whole one behind it; and the checker judges any history without
 * harm. */
#include <stdlib.h>

#include "core/history/check.h"
#include "core/history/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool same(const exj_hist_event *a, const exj_hist_event *b)
{
    return a->t == b->t && a->incarnation == b->incarnation && a->op == b->op &&
           a->phase == b->phase && a->id == b->id && a->row == b->row && a->token == b->token &&
           a->attempt == b->attempt && a->value == b->value && a->generation == b->generation &&
           exj_slice_equal(a->actor, b->actor) && exj_slice_equal(a->job, b->job) &&
           exj_slice_equal(a->worker, b->worker) && exj_slice_equal(a->outcome, b->outcome) &&
           exj_slice_equal(a->to, b->to) && exj_slice_equal(a->code, b->code) &&
           exj_slice_equal(a->key, b->key) && exj_slice_equal(a->digest, b->digest);
}

static bool read_line(exj_slice line, exj_hist_event *e, char texts[EXJ_HIST_LINE_MAX])
{
    exj_err err = { 0 };
    exj_code rc = exj_hist_parse(line, e, texts, &err);

    must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
    if (rc)
        return false;
    must(e->op < EXJ_HIST_OP_COUNT && e->phase < EXJ_HIST_PHASE_COUNT);
    must(e->row >= 0 && e->token >= 0 && e->id <= INT64_MAX);
    return true;
}

static void read_write_read(const exj_hist_event *first)
{
    static char texts[EXJ_HIST_LINE_MAX], again[EXJ_HIST_LINE_MAX];
    exj_buf one = EXJ_BUF_INIT, two = EXJ_BUF_INIT;
    exj_hist_event e, f;
    exj_slice line;

    must(exj_hist_format(&one, first) && one.n <= EXJ_HIST_LINE_MAX);
    line = exj_buf_slice(&one);
    must(line.p[line.n - 1] == '\n' && !memchr(line.p, '\n', line.n - 1));
    line.n--;
    must(read_line(line, &e, texts));
    must(exj_hist_format(&two, &e));
    must(exj_slice_equal(exj_buf_slice(&one), exj_buf_slice(&two)));
    two.n--;
    must(read_line(exj_buf_slice(&two), &f, again) && same(&e, &f));
    exj_buf_release(&one);
    exj_buf_release(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const exj_check_options options = { .lease_ms = 1000, .findings_most = 3 };
    char *copy = malloc(size ? size : 1); /* of exact length: one byte too far is seen */
    static char texts[EXJ_HIST_LINE_MAX];
    exj_slice rest = { copy, size };
    exj_check *check = exj_check_new(&options);
    exj_check_report report;

    must(copy && check);
    if (size)
        memcpy(copy, data, size);
    while (rest.n) {
        const char *end = memchr(rest.p, '\n', rest.n);
        exj_slice line = { rest.p, end ? (size_t)(end - rest.p) : rest.n };
        exj_hist_event e;

        rest.p += line.n + (end != NULL);
        rest.n -= line.n + (end != NULL);
        if (!read_line(line, &e, texts)) {
            exj_slice behind = exj_hist_behind_torn(line);

            must(behind.n < line.n || !line.n);
            if (!behind.n || !read_line(behind, &e, texts))
                continue;
        }
        read_write_read(&e);
        must(exj_check_add(check, &e, NULL) == EXJ_OK);
    }
    free(copy); /* the check has copies */
    must(exj_check_finish(check, &report, NULL) == EXJ_OK);
    must(exj_check_verdict_word(report.verdict)[0]);
    must((report.verdict == EXJ_CHECK_INVALID) == (report.findings_len > 0));
    for (size_t i = 0; i < report.findings_len; i++) {
        must(report.findings[i].invariant >= 1 && report.findings[i].invariant <= EXJ_CHECK_LAST);
        must(report.findings[i].anomaly[0] && report.findings[i].text[0]);
    }
    exj_check_free(check);
    return 0;
}
