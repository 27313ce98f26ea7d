/* Work that is pushed from the command line: one record, or a file of events. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/job/keys.h"
#include "core/job/record.h"
#include "core/main/bar.h"
#include "core/main/dotenv.h"
#include "core/main/reach.h"

#define LINES_AT_ONCE 1000u
#define BYTES_AT_ONCE (4u * 1024u * 1024u)
#define LINE_MAX_BYTES (2u * 1024u * 1024u) /* a record of the largest size fits, escaped */
#define REJECTIONS_TOLD 20u
#define REJECTIONS_KEPT 1000u /* for --json */
#define PUSH_TIMEOUT_MS 60000u

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static size_t number_of(const json_t *o, const char *key)
{
    return (size_t)json_integer_value(json_object_get(o, key));
}

/* ---- trigger ---------------------------------------------------------------------------------- */

static void add_member(exj_buf *b, const char *name, const char *text)
{
    if (!text)
        return;
    exj_buf_printf(b, ",\"%s\":", name);
    exj_buf_add_json_string(b, exj_slice_of(text));
}

/* The body: what the flags say, and the record of --input. */
static exj_exit make_body(exj_cli *c, exj_buf *b)
{
    const char *input = c->flags[EXJ_CLI_INPUT], *after = c->flags[EXJ_CLI_RUN_AFTER];
    exj_buf record = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_exit status = EXJ_EXIT_OK;
    exj_code rc = EXJ_OK;
    exj_msec at;
    int64_t priority;

    if (exj_cli_number(c, EXJ_CLI_PRIORITY, -EXJ_PRIORITY_LIMIT, EXJ_PRIORITY_LIMIT, 0,
                       &priority, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    if (after && exj_instant_of_text(exj_slice_of(after), "--run-after", &at, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    if (input && strcmp(input, "-") == 0)
        rc = exj_read_fd(STDIN_FILENO, "standard input", LINE_MAX_BYTES, &record, &err);
    else if (input)
        rc = exj_read_file(input, LINE_MAX_BYTES, &record, &err);
    if (rc != EXJ_OK) {
        status = exj_fail_err(c, &err);
    } else if (input && exj_record_check(exj_buf_slice(&record), &err) != EXJ_OK) {
        status = exj_fail(c, EXJ_EXIT_INVALID, "%s: %s", input, err.text);
    } else {
        exj_buf_add_text(b, "{\"record\":");
        exj_buf_add_slice(b, input ? exj_buf_slice(&record) : EXJ_SLICE_LITERAL("{}"));
        add_member(b, "id", c->flags[EXJ_CLI_ID]);
        add_member(b, "uniqueKey", c->flags[EXJ_CLI_UNIQUE_KEY]);
        if (c->flags[EXJ_CLI_PRIORITY])
            exj_buf_printf(b, ",\"priority\":%" PRId64, priority);
        if (after)
            exj_buf_printf(b, ",\"runAfter\":%" PRId64, at);
        exj_buf_add_char(b, '}');
        if (b->failed)
            status = exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
    }
    exj_buf_release(&record);
    return status;
}

static exj_exit call(exj_reach *r, const char *base, const char *query, const exj_buf *body,
                     exj_answer_json *ret)
{
    exj_cli const *c = r->cli;
    exj_buf path = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_exit status = EXJ_EXIT_OK;

    exj_buf_add_text(&path, base);
    exj_add_encoded(&path, c->args[0]);
    exj_buf_add_text(&path, "/trigger");
    if (path.failed)
        status = exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
    else if (exj_call_api(r, "POST", path.p, query, exj_buf_slice(body), ret, &err) != EXJ_OK)
        status = exj_fail_err(c, &err);
    exj_buf_release(&path);
    return status;
}

static bool is_no_config(const exj_answer_json *a)
{
    const char *code = text_of(a->body, "code");

    return a->status == 404 && code && strcmp(code, "ConfigStoreNotFoundError") == 0;
}

static exj_exit print_triggered(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("ROW", "STATUS");
    const char *status = text_of(body, "status");
    json_t *row;
    size_t i;

    if (c->json) {
        exj_out_json(c, body, false);
    } else {
        json_array_foreach(json_object_get(body, "rows"), i, row) {
            exj_table_add(&t, text_of(row, "matrixRowId"));
            exj_table_add(&t, text_of(row, "status"));
        }
        exj_table_print(&t, c->color);
    }
    /* A row that was there already is what a repeated command wants. */
    return status && (!strcmp(status, "inserted") || !strcmp(status, "duplicate"))
               ? EXJ_EXIT_OK
               : EXJ_EXIT_CONFLICT;
}

exj_exit exj_cmd_trigger(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf body = EXJ_BUF_INIT, query = EXJ_BUF_INIT;
    exj_answer_json a = { 0 };
    exj_exit status = make_body(c, &body);

    if (status != EXJ_EXIT_OK)
        goto out;
    if (c->flags[EXJ_CLI_GRAPH]) {
        exj_buf_add_text(&query, "graphId=");
        exj_add_encoded(&query, c->flags[EXJ_CLI_GRAPH]);
    }
    status = call(&r, "/matrices/", query.n ? query.p : "", &body, &a);
    if (status == EXJ_EXIT_OK && is_no_config(&a) && !query.n) { /* a graph, then */
        exj_answer_json_release(&a);
        status = call(&r, "/graphs/", "", &body, &a);
        if (status == EXJ_EXIT_OK && is_no_config(&a)) {
            status = exj_fail(c, EXJ_EXIT_NOT_FOUND,
                              "there is no matrix \"%.200s\", and no matrix names a graph "
                              "\"%.200s\"",
                              c->args[0], c->args[0]);
            goto out;
        }
    }
    if (status == EXJ_EXIT_OK)
        status = a.status < 400 ? print_triggered(c, a.body) : exj_answer_fail(c, &a);
out:
    exj_answer_json_release(&a);
    exj_buf_release(&query);
    exj_buf_release(&body);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

/* ---- events push ------------------------------------------------------------------------------- */

static const char *const sums[] = { "received", "inserted",       "duplicates",
                                    "dropped",  "uniqueKeyTaken", "droppedOlder",
                                    "rejectedCount" };
enum { RECEIVED, INSERTED, DUPLICATES, DROPPED, KEY_TAKEN, DROPPED_OLDER, REJECTED, SUMS };

struct push {
    exj_cli *c;
    exj_reach reach;
    FILE *in;
    int64_t bytes_all; /* of the file; 0: not known */
    int64_t bytes;     /* read so far */
    exj_buf path, query, batch;
    size_t line;       /* the one being read, from 1 */
    size_t first;      /* line of the batch */
    size_t lines;      /* in the batch */
    size_t sum[SUMS];
    json_t *rejected;  /* the first of them, with their lines in the file */
    exj_bar bar;
};

static void reject(struct push *p, size_t line, const char *message)
{
    if (p->sum[REJECTED]++ < REJECTIONS_TOLD && !p->c->json) {
        exj_bar_clear(&p->bar);
        fprintf(stderr, "line %zu: %s\n", line, message);
    }
    if (json_array_size(p->rejected) < REJECTIONS_KEPT)
        json_array_append_new(p->rejected, json_pack("{s:I,s:s}", "line", (json_int_t)line,
                                                     "message", message));
}

static void show(struct push *p)
{
    exj_engine_counts n = { .completed = p->sum[RECEIVED] - p->sum[REJECTED],
                            .failed = p->sum[REJECTED], .scanning = !p->bytes_all };

    /* How many are to come, if they are as long as those before. */
    if (p->bytes_all && p->bytes)
        n.open = (int64_t)((double)p->sum[RECEIVED] * (double)(p->bytes_all - p->bytes) /
                           (double)p->bytes);
    exj_bar_draw(&p->bar, &n, exj_clock_mono_ns());
}

static void add_up(struct push *p, const json_t *body)
{
    json_t *bad;
    size_t i, named = 0;

    for (int s = 0; s < REJECTED; s++)
        p->sum[s] += number_of(body, sums[s]);
    json_array_foreach(json_object_get(body, "rejected"), i, bad) {
        const char *message = text_of(bad, "message");

        reject(p, p->first + number_of(bad, "line") - 1, message ? message : "wrong");
        named++;
    }
    p->sum[REJECTED] += number_of(body, "rejectedCount") - named;
}

/* Send what was collected. */
static exj_exit flush(struct push *p)
{
    exj_answer_json a = { 0 };
    exj_exit status = EXJ_EXIT_OK;
    const char *code;
    exj_err err = { 0 };

    if (!p->batch.n)
        return EXJ_EXIT_OK;
    if (p->batch.failed)
        return exj_fail(p->c, EXJ_EXIT_FAILED, "out of memory");
    if (exj_call_api(&p->reach, "POST", p->path.p, p->query.p, exj_buf_slice(&p->batch), &a,
                     &err) != EXJ_OK) {
        exj_bar_clear(&p->bar);
        status = exj_fail_err(p->c, &err);
    } else if (a.status < 300) {
        add_up(p, a.body);
    } else {
        code = text_of(a.body, "code");
        if (code && strcmp(code, "EventsRejected") == 0) { /* all of this batch */
            p->sum[RECEIVED] += number_of(a.body, "rejectedCount");
            add_up(p, a.body);
        } else {
            exj_bar_clear(&p->bar);
            status = exj_answer_fail(p->c, &a);
        }
    }
    exj_answer_json_release(&a);
    exj_buf_reset(&p->batch);
    p->lines = 0;
    show(p);
    return status;
}

/* One line with its end into the batch. False: the file is over. */
static bool read_line(struct push *p)
{
    size_t start = p->batch.n, n = 0;
    bool blank = true;
    int ch;

    while ((ch = getc_unlocked(p->in)) != EOF) {
        n++;
        if (ch == '\n')
            break;
        blank = blank && (ch == ' ' || ch == '\t' || ch == '\r');
        if (n <= LINE_MAX_BYTES)
            exj_buf_add_char(&p->batch, (char)ch);
    }
    p->bytes += (int64_t)n;
    if (!n)
        return false;
    if (n > LINE_MAX_BYTES) {
        char text[96];

        p->batch.n = start;
        p->sum[RECEIVED]++;
        snprintf(text, sizeof(text), "%zu bytes; at most %u are allowed", n, LINE_MAX_BYTES);
        reject(p, p->line, text);
        blank = true;
    }
    /* Blank ones stay: lines are counted. */
    if (blank)
        p->batch.n = start;
    exj_buf_add_char(&p->batch, '\n');
    p->lines++;
    return true;
}

static exj_exit push_all(struct push *p)
{
    exj_exit status = EXJ_EXIT_OK;
    bool more = true;

    for (p->line = 1, p->first = 1; more && status == EXJ_EXIT_OK; p->line++) {
        if (!p->lines)
            p->first = p->line;
        more = read_line(p);
        if (!more || p->lines == LINES_AT_ONCE || p->batch.n > BYTES_AT_ONCE)
            status = flush(p);
    }
    if (status == EXJ_EXIT_OK && ferror(p->in))
        status = exj_fail(p->c, EXJ_EXIT_FAILED, "%s: %s", p->c->flags[EXJ_CLI_FILE],
                          strerror(errno));
    return status;
}

static void print_sums(struct push *p)
{
    json_t *o;

    if (p->c->json) {
        o = json_object();
        for (int s = 0; s < SUMS; s++)
            json_object_set_new(o, sums[s], json_integer((json_int_t)p->sum[s]));
        json_object_set(o, "rejected", p->rejected);
        exj_out_json(p->c, o, false);
        json_decref(o);
        return;
    }
    printf("%zu events: %zu inserted, %zu duplicate, %zu dropped, %zu with a taken key, %zu "
           "wrong%s\n",
           p->sum[RECEIVED], p->sum[INSERTED], p->sum[DUPLICATES], p->sum[DROPPED],
           p->sum[KEY_TAKEN], p->sum[REJECTED],
           p->sum[REJECTED] > REJECTIONS_TOLD ? " (the first 20 were named)" : "");
}

static exj_exit open_file(struct push *p)
{
    const char *from = p->c->flags[EXJ_CLI_FILE];
    struct stat st;

    if (!from)
        return exj_fail(p->c, EXJ_EXIT_USAGE,
                        "'events push' needs --file FILE, one event a line; - reads standard "
                        "input");
    p->in = strcmp(from, "-") == 0 ? stdin : fopen(from, "re");
    if (!p->in)
        return exj_fail(p->c, errno == ENOENT ? EXJ_EXIT_NOT_FOUND : EXJ_EXIT_FAILED,
                        "%s: %s", from, strerror(errno));
    if (fstat(fileno(p->in), &st) == 0 && S_ISDIR(st.st_mode))
        return exj_fail(p->c, EXJ_EXIT_USAGE, "%s is a folder; a file is wanted", from);
    if (fstat(fileno(p->in), &st) == 0 && S_ISREG(st.st_mode))
        p->bytes_all = st.st_size;
    return EXJ_EXIT_OK;
}

exj_exit exj_cmd_events_push(exj_cli *c)
{
    struct push p = { .c = c, .reach = EXJ_REACH_INIT(c), .rejected = json_array() };
    exj_exit status;

    p.reach.timeout_ms = PUSH_TIMEOUT_MS;
    p.reach.content_type = "application/x-ndjson";
    exj_bar_init(&p.bar, !c->json, !c->flags[EXJ_CLI_NO_COLOR], exj_clock_mono_ns());
    p.bar.unit = "events";
    exj_buf_add_text(&p.path, "/matrices/");
    exj_add_encoded(&p.path, c->args[0]);
    exj_buf_add_text(&p.path, "/events");
    exj_buf_printf(&p.query, "brief=true%s", c->flags[EXJ_CLI_AUTO_ID] ? "&autoId=true" : "");
    status = !p.rejected || p.path.failed || p.query.failed
                 ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                 : open_file(&p);
    if (status == EXJ_EXIT_OK) {
        status = push_all(&p);
        exj_bar_clear(&p.bar);
        if (status != EXJ_EXIT_OK && p.sum[RECEIVED] && !c->flags[EXJ_CLI_AUTO_ID])
            exj_tell(c, "%zu events were taken; pushing the file again does those no second "
                        "time", p.sum[RECEIVED] - p.sum[REJECTED]);
        print_sums(&p);
        if (status == EXJ_EXIT_OK && p.sum[REJECTED])
            status = EXJ_EXIT_INVALID;
    }
    if (p.in && p.in != stdin)
        fclose(p.in);
    json_decref(p.rejected);
    exj_buf_release(&p.path);
    exj_buf_release(&p.query);
    exj_buf_release(&p.batch);
    exj_reach_release(&p.reach);
    return exj_out_finish(c, status);
}
