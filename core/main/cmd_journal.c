/* Commands about the history of rows: one row with its timeline, its journal, and whether all
 * rows are what their journal says. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/job/record.h"
#include "core/main/bar.h"
#include "core/main/reach.h"
#include "core/run/verify.h"

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

/* ---- verify ---------------------------------------------------------------------------------
 *
 * Done here, in a store that is open for reading only, beside a worker too: it takes long where
 * there are many rows, and no worker should do it meanwhile. */

#define ROWS_AT_ONCE 100000u

struct sum {
    int64_t rows, before, different;
    json_t *differences; /* owned; the first DIFFERENCES_SHOWN */
    bool failed;
};

static bool count_pool(void *user, const exj_pool_info *p)
{
    int64_t *sum = user;

    for (int i = 0; i < EXJ_STATUS_COUNT; i++)
        *sum += p->counts[i];
    return true;
}

static bool add_difference(void *user, const exj_row_view *r, const char *what)
{
    struct sum *s = user;
    exj_buf name = EXJ_BUF_INIT;

    if (!exj_row_name_add(&name, r->matrix, r->run, r->graph, r->record_id) ||
        json_array_append_new(s->differences, json_pack("{s:o,s:s}", "matrixRowId",
                                                        exj_json_text(exj_buf_slice(&name)),
                                                        "what", what)))
        s->failed = true;
    exj_buf_release(&name);
    return !s->failed && json_array_size(s->differences) < DIFFERENCES_SHOWN;
}

static exj_code verify_all(const exj_cli *c, exj_store *store, struct sum *s, exj_err *err)
{
    exj_engine_counts counts = { 0 };
    exj_verified v = { 0 };
    int64_t total = 0;
    exj_code rc = store->v->pools(store, count_pool, &total, err);
    exj_bar bar;

    exj_bar_init(&bar, !c->json && isatty(STDERR_FILENO), exj_out_color(c), exj_clock_mono_ns());
    do {
        exj_verify_visit visit =
            json_array_size(s->differences) < DIFFERENCES_SHOWN ? add_difference : NULL;

        counts.completed = (uint64_t)s->rows;
        counts.open = total > s->rows ? total - s->rows : 0;
        exj_bar_draw(&bar, &counts, exj_clock_mono_ns());
        if (rc == EXJ_OK)
            rc = exj_verify_rows(store, v.next, ROWS_AT_ONCE, visit, s, &v, err);
        s->rows += v.rows;
        s->before += v.before;
        s->different += v.different;
    } while (rc == EXJ_OK && v.next);
    exj_bar_clear(&bar);
    if (rc == EXJ_OK && s->failed)
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    return rc;
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
    exj_tell(c, "%" PRId64 " rows, %" PRId64 " from before the journal: %" PRId64 " differ",
             s->rows, s->before, s->different);
}

static exj_exit print_sum_json(const exj_cli *c, const struct sum *s)
{
    json_t *o = json_pack("{s:I,s:I,s:I,s:O}", "rows", (json_int_t)s->rows, "beforeTheJournal",
                          (json_int_t)s->before, "different", (json_int_t)s->different,
                          "differences", s->differences);
    exj_exit status = o ? exj_out_json(c, o, false)
                        : exj_fail(c, EXJ_EXIT_FAILED, "out of memory");

    json_decref(o);
    return status;
}

exj_exit exj_cmd_journal_verify(exj_cli *c)
{
    exj_sqlite_options o = { .dir = exj_settings_text(&c->settings, EXJ_SET_DATA_DIR),
                             .read_only = true };
    struct sum s = { .differences = json_array() };
    exj_store *store = NULL;
    exj_exit status = EXJ_EXIT_OK;
    exj_err err = { 0 };

    if (!s.differences)
        return exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
    if (exj_settings_support(&c->settings, &err) != EXJ_OK ||
        exj_sqlite_open(&o, &store, &err) != EXJ_OK ||
        verify_all(c, store, &s, &err) != EXJ_OK)
        status = exj_fail_err(c, &err);
    else if (c->json)
        status = print_sum_json(c, &s);
    else
        print_sum(c, &s);
    if (status == EXJ_EXIT_OK && s.different)
        status = EXJ_EXIT_FAILED;
    if (store)
        store->v->close(store);
    json_decref(s.differences);
    return exj_out_finish(c, status);
}
