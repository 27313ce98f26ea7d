/* Commands about the history of rows: one row with its timeline, its journal, and whether all
 * rows are what their journal says. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/main/bar.h"
#include "core/main/reach.h"

#define DIFFERENCES_SHOWN 1000u
#define TIMELINE "limit=1000"

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static int64_t number_of(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

/* GET /rows/ROW`suffix`?query. EXJ_EXIT_OK: *ret is to be released. */
static exj_exit ask_row(exj_reach *r, const char *suffix, const char *query,
                        exj_answer_json *ret)
{
    exj_buf path = EXJ_BUF_INIT;
    exj_exit status;

    *ret = (exj_answer_json){ 0 };
    exj_buf_add_text(&path, "/rows/");
    exj_add_encoded(&path, r->cli->args[0]);
    exj_buf_add_text(&path, suffix);
    status = path.failed ? exj_fail(r->cli, EXJ_EXIT_FAILED, "out of memory")
                         : exj_ask(r, "GET", path.p, query, (exj_slice){ 0 }, ret);
    exj_buf_release(&path);
    return status;
}

/* ---- the timeline --------------------------------------------------------------------------- */

/* The step that began with this entry and of which nobody knows whether it ran. */
static bool is_ambiguous(const json_t *steps, int64_t entry)
{
    json_t *step;
    size_t i;

    json_array_foreach(steps, i, step)
        if (number_of(step, "event") == entry && strcmp(text_of(step, "state"), "unknown") == 0)
            return true;
    return false;
}

static void add_part(exj_buf *b, const char *before, const char *text)
{
    if (*text)
        exj_buf_printf(b, "%s%s%s", b->n ? " " : "", before, text);
}

/* What an entry says, in words. */
static void describe(exj_buf *b, const json_t *entry, const json_t *steps)
{
    const json_t *bytes = json_object_get(entry, "bytes");
    const json_t *progress = json_object_get(entry, "progress");

    add_part(b, "", text_of(entry, "step"));
    add_part(b, "from ", text_of(entry, "fromStep"));
    add_part(b, "signal ", text_of(entry, "signal"));
    add_part(b, "by ", text_of(entry, "by"));
    add_part(b, "until ", text_of(entry, "until"));
    add_part(b, "not before ", text_of(entry, "runAfter"));
    if (progress)
        exj_buf_printf(b, "%s%.0f %%", b->n ? " " : "", json_number_value(progress) * 100);
    add_part(b, "", text_of(entry, "note"));
    add_part(b, "", text_of(entry, "code"));
    add_part(b, "", text_of(entry, "message"));
    add_part(b, "", text_of(entry, "reason"));
    add_part(b, "", text_of(entry, "text"));
    if (bytes)
        exj_buf_printf(b, " (%" PRId64 " bytes)", (int64_t)json_integer_value(bytes));
    if (strcmp(text_of(entry, "event"), "step_begun") == 0 &&
        is_ambiguous(steps, number_of(entry, "number")))
        exj_buf_printf(b, " - begun at attempt %" PRId64
                          ", never finished: nobody knows whether it ran",
                       number_of(entry, "attempt"));
}

static void print_timeline(const exj_cli *c, const json_t *journal, const json_t *steps)
{
    exj_table t = EXJ_TABLE("TIME", "EVENT", "ATTEMPT", "WHAT");
    exj_buf what = EXJ_BUF_INIT;
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(journal, "entries"), i, entry) {
        exj_buf_reset(&what);
        describe(&what, entry, steps);
        exj_table_add(&t, text_of(entry, "at"));
        exj_table_add(&t, text_of(entry, "event"));
        exj_table_add_number(&t, number_of(entry, "attempt"));
        exj_table_add(&t, what.n ? what.p : "");
        t.failed = t.failed || what.failed;
    }
    exj_buf_release(&what);
    exj_table_print(&t, c->color);
}

/* The journal and the steps of the row. EXJ_EXIT_OK: both are to be released. */
static exj_exit ask_history(exj_reach *r, const char *query, exj_answer_json *ret_journal,
                            exj_answer_json *ret_steps)
{
    exj_exit status = ask_row(r, "/journal", query, ret_journal);

    if (status == EXJ_EXIT_OK) {
        status = ask_row(r, "/steps", "", ret_steps);
        if (status != EXJ_EXIT_OK)
            exj_answer_json_release(ret_journal);
    }
    return status;
}

exj_exit exj_cmd_journal_show(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json journal, steps;
    exj_err err = { 0 };
    char query[48] = "";
    exj_exit status;
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 10000, 1000, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    snprintf(query, sizeof query, "limit=%" PRId64, n);
    status = ask_history(&r, query, &journal, &steps);
    if (status == EXJ_EXIT_OK) {
        const json_t *list = json_object_get(steps.body, "steps");

        if (!c->json)
            print_timeline(c, journal.body, list);
        else if (json_object_set_new(journal.body, "steps", json_incref(json_object_get(steps.body, "steps"))))
            status = exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
        else
            status = exj_out_json(c, journal.body, false);
        exj_answer_json_release(&journal);
        exj_answer_json_release(&steps);
    }
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

/* ---- one row -------------------------------------------------------------------------------- */

/* A line "name value"; a value that is not there, or null, gives none. */
static void add_fact(exj_table *t, const char *name, const json_t *value)
{
    exj_buf text = EXJ_BUF_INIT;

    if (!value || json_is_null(value) || (json_is_array(value) && !json_array_size(value)) ||
        json_is_false(value))
        return;
    exj_table_add(t, name);
    if (json_is_string(value)) {
        exj_table_add(t, json_string_value(value));
    } else {
        t->failed = t->failed || exj_json_print(value, false, &text, NULL) != EXJ_OK;
        exj_table_add(t, text.p);
    }
    exj_buf_release(&text);
}

static void print_row(const exj_cli *c, const json_t *row)
{
    static const char *const facts[] = {
        "status", "priority", "lease", "createdAt", "runAfter", "resumeAt", "waitsFor",
        "finishedAt", "cancelAsked", "progress", "uniqueKey", "concurrencyKey", "snapshot",
        "signalsKept", "notes", "input", "result", "error",
    };
    exj_table t = EXJ_TABLE("ROW", "");
    char attempts[48];

    snprintf(attempts, sizeof attempts, "%" PRId64 " of %" PRId64, number_of(row, "attempts"),
             number_of(row, "maxAttempts"));
    add_fact(&t, "row", json_object_get(row, "matrixRowId"));
    exj_table_add(&t, "attempts");
    exj_table_add(&t, attempts);
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        add_fact(&t, facts[i], json_object_get(row, facts[i]));
    exj_table_print(&t, c->color);
}

exj_exit exj_cmd_rows_show(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json row, journal, steps;
    exj_exit status = ask_row(&r, "", "", &row);

    if (status == EXJ_EXIT_OK && c->json)
        status = exj_out_json(c, row.body, false);
    else if (status == EXJ_EXIT_OK) {
        status = ask_history(&r, TIMELINE, &journal, &steps);
        if (status == EXJ_EXIT_OK) {
            print_row(c, row.body);
            putchar('\n');
            print_timeline(c, journal.body, json_object_get(steps.body, "steps"));
            exj_answer_json_release(&journal);
            exj_answer_json_release(&steps);
        }
    }
    exj_answer_json_release(&row);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

/* ---- verify --------------------------------------------------------------------------------- */

struct sum {
    int64_t rows, before, changing, different;
    json_t *differences; /* owned; the first DIFFERENCES_SHOWN */
};

/* How many rows there are; 0: not known, the bar does without. */
static int64_t count_rows(exj_reach *r)
{
    exj_answer_json a;
    exj_err err = { 0 };
    int64_t sum = 0;
    json_t *matrix, *n;
    const char *word;
    size_t i;

    if (exj_call_api(r, "GET", "/matrices", "", (exj_slice){ 0 }, &a, &err) != EXJ_OK)
        return 0;
    json_array_foreach(json_object_get(a.body, "matrices"), i, matrix)
        json_object_foreach(json_object_get(matrix, "counts"), word, n)
            sum += (int64_t)json_integer_value(n);
    exj_answer_json_release(&a);
    return sum;
}

static bool add_page(struct sum *s, const json_t *page)
{
    json_t *d;
    size_t i;

    s->rows += number_of(page, "rows");
    s->before += number_of(page, "beforeTheJournal");
    s->changing += number_of(page, "changing");
    json_array_foreach(json_object_get(page, "differences"), i, d) {
        s->different++;
        if (json_array_size(s->differences) < DIFFERENCES_SHOWN &&
            json_array_append(s->differences, d))
            return false;
    }
    return true;
}

static exj_exit verify_all(exj_reach *r, struct sum *s)
{
    const exj_cli *c = r->cli;
    exj_engine_counts counts = { 0 };
    exj_exit status = EXJ_EXIT_OK;
    char query[64] = "limit=1000";
    json_t *next = NULL;
    int64_t total;
    exj_answer_json a;
    exj_bar bar;

    exj_bar_init(&bar, !c->json && isatty(STDERR_FILENO), exj_out_color(c), exj_clock_mono_ns());
    total = bar.on ? count_rows(r) : 0;
    do {
        status = exj_ask(r, "GET", "/journal/verify", query, (exj_slice){ 0 }, &a);
        if (status != EXJ_EXIT_OK)
            break;
        if (!add_page(s, a.body))
            status = exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
        next = json_object_get(a.body, "next");
        snprintf(query, sizeof query, "limit=1000&after=%" PRId64,
                 (int64_t)json_integer_value(next));
        next = json_is_integer(next) ? next : NULL;
        counts.completed = (uint64_t)s->rows;
        counts.open = total > s->rows ? total - s->rows : 0;
        exj_bar_draw(&bar, &counts, exj_clock_mono_ns());
        exj_answer_json_release(&a);
    } while (status == EXJ_EXIT_OK && next);
    exj_bar_clear(&bar);
    return status;
}

static void print_sum(const exj_cli *c, const struct sum *s)
{
    exj_table t = EXJ_TABLE("ROW", "WHAT");
    json_t *d;
    size_t i;

    json_array_foreach(s->differences, i, d) {
        exj_table_add(&t, text_of(d, "matrixRowId"));
        exj_table_add(&t, text_of(d, "what"));
    }
    exj_table_print(&t, c->color);
    exj_tell(c, "%" PRId64 " rows, %" PRId64 " from before the journal, %" PRId64
                " that changed all the while: %" PRId64 " differ", s->rows, s->before,
             s->changing, s->different);
}

exj_exit exj_cmd_journal_verify(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    struct sum s = { .differences = json_array() };
    exj_exit status = s.differences ? verify_all(&r, &s)
                                    : exj_fail(c, EXJ_EXIT_FAILED, "out of memory");

    if (status == EXJ_EXIT_OK && c->json) {
        json_t *o = json_pack("{s:I,s:I,s:I,s:I,s:O}", "rows", (json_int_t)s.rows,
                              "beforeTheJournal", (json_int_t)s.before, "changing",
                              (json_int_t)s.changing, "different", (json_int_t)s.different,
                              "differences", s.differences);

        status = o ? exj_out_json(c, o, false)
                   : exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
        json_decref(o);
    } else if (status == EXJ_EXIT_OK) {
        print_sum(c, &s);
    }
    if (status == EXJ_EXIT_OK && s.different)
        status = EXJ_EXIT_FAILED;
    json_decref(s.differences);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}
