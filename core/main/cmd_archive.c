/* archive: ended rows go to a file of JSON lines, and come back from one.
 *
 * A line is one row: {"format":1,"row":{…},"input":…,"result":…,"steps":{KEY:result,…}}; "row" has
 * the rest, with the steps' and failed attempts' facts and the journal. Rows are removed when the
 * file is on disk, and only those that still are as they were written.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/main/archive_line.h"
#include "core/main/progress.h"
#include "core/main/reach.h"

#define REMOVE_AT_ONCE 100u
#define LINE_MAX_BYTES ((size_t)1 << 30)

struct archive {
    exj_cli *c;
    exj_store *store;
    exj_progress progress;
    FILE *file;
    exj_err err;
    exj_code rc;
    exj_buf line;
    exj_msec before;
    exj_slice matrix;   /* empty: all */
    int64_t *pools;     /* owned; of that matrix */
    size_t pools_len;
    exj_removal *rows;  /* owned; chosen */
    size_t len, cap;
    int64_t after;
    size_t looked;
};

static bool fail(struct archive *a, exj_code rc, const char *text)
{
    a->rc = exj_err_set(&a->err, rc, "%s", text);
    return false;
}

static bool no_memory(struct archive *a)
{
    return fail(a, EXJ_NOMEM, "out of memory");
}

/* ---- choosing ----------------------------------------------------------------------------------- */

/* "30d", "12h", "2026-01-31" or "2026-01-31T12:00:00Z". */
static bool parse_before(const char *text, exj_msec now, exj_msec *ret)
{
    char full[64], *end;
    long long n = strtoll(text, &end, 10);

    if (n > 0 && n < 100000 && (!strcmp(end, "d") || !strcmp(end, "h"))) {
        *ret = now - n * (*end == 'd' ? 86400000 : 3600000);
        return true;
    }
    if (strlen(text) == 10) {
        snprintf(full, sizeof(full), "%sT00:00:00Z", text);
        text = full;
    }
    return exj_clock_parse(exj_slice_of(text), ret);
}

static bool keep_pool(void *user, const exj_pool_info *p)
{
    struct archive *a = user;
    int64_t *more;

    if (a->matrix.n && !exj_slice_equal(a->matrix, p->matrix))
        return true;
    more = realloc(a->pools, (a->pools_len + 1) * sizeof(*more));
    if (!more)
        return no_memory(a);
    a->pools = more;
    a->pools[a->pools_len++] = p->pool;
    return true;
}

static bool is_wanted(const struct archive *a, int64_t pool)
{
    for (size_t i = 0; i < a->pools_len; i++)
        if (a->pools[i] == pool)
            return true;
    return false;
}

static bool choose(void *user, const exj_ended_view *v)
{
    struct archive *a = user;

    a->after = v->seq;
    a->looked++;
    if (v->finished_at >= a->before || !exj_status_is_terminal(v->status) ||
        !is_wanted(a, v->pool))
        return true;
    if (a->len == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 1024;
        exj_removal *more = realloc(a->rows, cap * sizeof(*more));

        if (!more)
            return no_memory(a);
        a->rows = more;
        a->cap = cap;
    }
    a->rows[a->len++] = (exj_removal){ .seq = v->seq, .token = v->token,
                                       .finished_at = v->finished_at };
    return true;
}

static exj_code choose_all(struct archive *a)
{
    exj_code rc = a->store->v->pools(a->store, keep_pool, a, &a->err);

    do {
        a->looked = 0;
        if (!rc && !a->rc)
            rc = a->store->v->ended(a->store, a->after, a->before, 1000, choose, a, &a->err);
    } while (!rc && !a->rc && a->looked == 1000);
    return rc ? rc : a->rc;
}

/* ---- writing -------------------------------------------------------------------------------------- */

static void add_text(exj_buf *b, const char *key, exj_slice text)
{
    if (!text.n)
        return;
    exj_buf_printf(b, ",\"%s\":", key);
    exj_buf_add_json_string(b, text);
}

struct values {
    exj_buf input, result, steps;
    struct archive *a;
    bool any;
};

static bool write_row(void *user, const exj_row_view *r)
{
    struct values *v = user;
    exj_buf *b = &v->a->line;

    exj_buf_add_text(b, "{\"format\":1,\"row\":{\"matrix\":");
    exj_buf_add_json_string(b, r->matrix);
    add_text(b, "run", r->run);
    add_text(b, "graph", r->graph);
    add_text(b, "record", r->record_id);
    exj_buf_printf(b,
                   ",\"status\":\"%s\",\"priority\":%" PRId32 ",\"attempts\":%" PRIu32
                   ",\"maxAttempts\":%" PRIu32 ",\"token\":%" PRId64 ",\"createdAt\":%" PRId64
                   ",\"finishedAt\":%" PRId64,
                   exj_status_word(r->status), r->priority, r->attempts, r->max_attempts, r->token,
                   r->created_at, r->finished_at);
    add_text(b, "errorCode", r->error_code);
    add_text(b, "errorText", r->error_text);
    add_text(b, "uniqueKey", r->unique_key);
    add_text(b, "concurrencyKey", r->concurrency_key);
    add_text(b, "snapshot", r->snapshot);
    exj_buf_add_slice(&v->input, r->input);
    exj_buf_add_slice(&v->result, r->result);
    return true;
}

static bool write_step(void *user, const exj_step_view *s)
{
    struct values *v = user;
    exj_buf *b = &v->a->line;

    exj_buf_printf(b, "%s{\"key\":", v->any ? "," : "");
    exj_buf_add_json_string(b, s->key);
    exj_buf_printf(b,
                   ",\"done\":%s,\"token\":%" PRId64 ",\"number\":%" PRId64 ",\"attempt\":%" PRIu32
                   ",\"beganAt\":%" PRId64 ",\"at\":%" PRId64 "}",
                   s->done ? "true" : "false", s->token, s->number, s->attempt, s->began_at, s->at);
    if (s->done) {
        exj_buf_add_text(&v->steps, v->steps.n ? "," : "");
        exj_buf_add_json_string(&v->steps, s->key);
        exj_buf_add_char(&v->steps, ':');
        exj_buf_add_slice(&v->steps, s->body);
    }
    v->any = true;
    return true;
}

static bool write_failure(void *user, const exj_failure_view *f)
{
    struct values *v = user;
    exj_buf *b = &v->a->line;

    exj_buf_printf(b, "%s{\"token\":%" PRId64 ",\"attempt\":%" PRIu32 ",\"at\":%" PRId64,
                   v->any ? "," : "", f->token, f->attempt, f->at);
    add_text(b, "code", f->code);
    add_text(b, "text", f->text);
    exj_buf_add_char(b, '}');
    v->any = true;
    return true;
}

static bool write_entry(void *user, const exj_event_view *e)
{
    struct values *v = user;
    exj_buf *b = &v->a->line;

    exj_buf_printf(b,
                   "%s{\"kind\":\"%s\",\"number\":%" PRId64 ",\"at\":%" PRId64 ",\"token\":%" PRId64
                   ",\"attempt\":%" PRIu32 ",\"value\":%" PRId64,
                   v->any ? "," : "", exj_entry_word(e->entry.kind), e->entry.number, e->entry.at,
                   e->entry.token, e->entry.attempt, e->entry.value);
    add_text(b, "key", e->entry.key);
    add_text(b, "text", e->entry.text);
    exj_buf_add_char(b, '}');
    v->any = true;
    return true;
}

static exj_code write_one(struct archive *a, int64_t seq)
{
    const exj_store_vtable *s = a->store->v;
    struct values v = { .a = a };
    exj_buf *b = &a->line;
    exj_code rc;

    exj_buf_reset(b);
    rc = s->row_by_seq(a->store, seq, write_row, &v, &a->err);
    exj_buf_add_text(b, ",\"steps\":[");
    if (!rc)
        rc = s->step_each(a->store, seq, write_step, &v, &a->err);
    exj_buf_add_text(b, "],\"failures\":[");
    v.any = false;
    if (!rc)
        rc = s->failure_each(a->store, seq, 1000, write_failure, &v, &a->err);
    exj_buf_add_text(b, "],\"journal\":[");
    v.any = false;
    if (!rc)
        rc = s->journal(a->store, seq, 100000, write_entry, &v, &a->err);
    exj_buf_add_text(b, "]},\"input\":");
    exj_buf_add_slice(b, exj_buf_slice(&v.input));
    if (v.result.n)
        exj_buf_add_text(b, ",\"result\":");
    exj_buf_add_slice(b, exj_buf_slice(&v.result));
    exj_buf_add_text(b, ",\"steps\":{");
    exj_buf_add_slice(b, exj_buf_slice(&v.steps));
    exj_buf_add_text(b, "}}");
    if (!rc && (b->failed || v.input.failed || v.result.failed || v.steps.failed))
        rc = exj_err_set(&a->err, EXJ_NOMEM, "out of memory");
    if (!rc && exj_json_check(exj_buf_slice(b), EXJ_ARCHIVE_DEPTH, NULL, &a->err) != EXJ_OK) {
        exj_err_prefix(&a->err, "row %" PRId64 " holds what is no JSON", seq);
        rc = a->err.code = EXJ_CORRUPT;
    }
    if (!rc && (fwrite(b->p, 1, b->n, a->file) != b->n || putc('\n', a->file) == EOF))
        rc = exj_err_set(&a->err, EXJ_IO, "cannot write: %s", strerror(errno));
    exj_buf_release(&v.input);
    exj_buf_release(&v.result);
    exj_buf_release(&v.steps);
    return rc;
}

static exj_code write_all(struct archive *a, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    exj_code rc = EXJ_OK;

    if (fd < 0)
        return exj_err_set(&a->err, errno == EEXIST ? EXJ_CONFLICT : EXJ_IO,
                           errno == EEXIST ? "%s is there already: name a file that is not"
                                           : "cannot write %s", path);
    a->file = fdopen(fd, "w");
    if (!a->file) {
        close(fd);
        rc = exj_err_set(&a->err, EXJ_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < a->len && !rc; i++) {
        rc = write_one(a, a->rows[i].seq);
        if (!rc && !exj_progress_tell(&a->progress, "rows written", (int64_t)i, (int64_t)a->len))
            rc = exj_err_set(&a->err, EXJ_CANCELLED, "stopped; nothing was removed");
    }
    if (!rc && (fflush(a->file) != 0 || fsync(fd) < 0))
        rc = exj_err_set(&a->err, EXJ_IO, "cannot write %s: %s", path, strerror(errno));
    if (a->file)
        fclose(a->file);
    if (rc)
        unlink(path);
    return rc;
}

static exj_code remove_all(struct archive *a, size_t *ret)
{
    exj_code rc = EXJ_OK;

    *ret = 0;
    for (size_t i = 0; i < a->len && !rc; i += REMOVE_AT_ONCE) {
        exj_op op = { .kind = EXJ_OP_REMOVE };

        op.u.remove.items = a->rows + i;
        op.u.remove.len = a->len - i < REMOVE_AT_ONCE ? a->len - i : REMOVE_AT_ONCE;
        rc = exj_store_do(a->store, &op, &a->err);
        *ret += rc ? 0 : op.u.remove.ret_removed;
        /* Not to be stopped any more: file and store would both have the rest. */
        exj_progress_tell(&a->progress, "rows removed", (int64_t)i, (int64_t)a->len);
    }
    return rc;
}

/* ---- coming back ------------------------------------------------------------------------------------ */

static exj_code restore_line(struct archive *a, exj_slice line, bool *ret_back)
{
    exj_archive_line p = EXJ_ARCHIVE_LINE_INIT;
    exj_op pool = { .kind = EXJ_OP_POOL }, op = { .kind = EXJ_OP_RESTORE };
    exj_code rc = exj_archive_line_parse(line, &p, &a->err);

    *ret_back = false;
    if (!rc) {
        pool.u.pool.matrix = p.matrix;
        pool.u.pool.run = p.run;
        pool.u.pool.graph = p.graph;
        rc = exj_store_do(a->store, &pool, &a->err);
    }
    if (!rc) {
        op.u.restore.pool = pool.u.pool.ret_pool;
        op.u.restore.row = &p.row;
        rc = exj_store_do(a->store, &op, &a->err);
        *ret_back = !rc && op.u.restore.ret_seq != 0;
    }
    exj_archive_line_release(&p);
    return rc;
}

static exj_code restore_all(struct archive *a, const char *path, size_t *ret_back,
                            size_t *ret_there)
{
    size_t cap = 0, number = 0;
    char *line = NULL;
    ssize_t n;
    exj_code rc = EXJ_OK;

    *ret_back = *ret_there = 0;
    a->file = fopen(path, "re");
    if (!a->file)
        return exj_err_set(&a->err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "%s: %s", path,
                           strerror(errno));
    while (!rc && (n = getline(&line, &cap, a->file)) >= 0) {
        bool back = false;

        number++;
        if ((size_t)n > LINE_MAX_BYTES)
            rc = exj_err_set(&a->err, EXJ_INVALID, "too long");
        else
            rc = restore_line(a, (exj_slice){ line, (size_t)n - (line[n - 1] == '\n') }, &back);
        if (rc)
            break;
        *(back ? ret_back : ret_there) += 1;
        if (!exj_progress_tell(&a->progress, "rows restored", (int64_t)number, (int64_t)number))
            rc = exj_err_set(&a->err, EXJ_CANCELLED, "stopped; run it again to go on");
    }
    if (rc && rc != EXJ_CANCELLED)
        exj_err_prefix(&a->err, "%s, line %zu (rows of the lines before it are back; run it again "
                       "to go on)", path, number);
    if (!rc && ferror(a->file))
        rc = exj_err_set(&a->err, EXJ_IO, "cannot read %s: %s", path, strerror(errno));
    free(line);
    fclose(a->file);
    return rc;
}

/* ---- the command ------------------------------------------------------------------------------------ */

static exj_exit say(exj_cli *c, const char *path, const char *verb, size_t n, const char *other,
                    size_t m)
{
    if (c->json) {
        json_t *body = json_pack("{s:s,s:I,s:I}", "file", path, verb, (json_int_t)n, other,
                                 (json_int_t)m);

        exj_out_json(c, body, false);
        json_decref(body);
    } else {
        printf("%s: %zu rows %s, %zu %s\n", path, n, verb, m, other);
    }
    return exj_out_finish(c, EXJ_EXIT_OK);
}

exj_exit exj_cmd_archive(exj_cli *c)
{
    const char *path = c->args[0], *before = c->flags[EXJ_CLI_BEFORE];
    bool restore = c->flags[EXJ_CLI_RESTORE] != NULL;
    struct archive a = { .c = c, .matrix = exj_slice_of(c->flags[EXJ_CLI_MATRIX]) };
    size_t n = 0, m = 0;
    char note[80];
    exj_code rc;

    if (restore == (before != NULL))
        return exj_fail(c, EXJ_EXIT_USAGE, "one of --before TIME and --restore is wanted");
    if (before && !parse_before(before, exj_clock_wall_ms(), &a.before))
        return exj_fail(c, EXJ_EXIT_USAGE, "--before '%.60s': wanted a time such as 30d, 12h, "
                        "2026-01-31 or 2026-01-31T12:00:00Z", before);
    snprintf(note, sizeof(note), "pid %ld command archive", (long)getpid());
    rc = exj_open_store(&c->settings, note, &a.store, &a.err);
    if (rc == EXJ_BUSY)
        return exj_fail(c, EXJ_EXIT_UNREACHABLE,
                        "%s; archive needs the store for itself: stop the worker, or let "
                        "payload.retention of the matrix remove old rows", a.err.text);
    if (rc)
        return exj_fail_err(c, &a.err);
    exj_progress_begin(&a.progress, c);
    if (restore) {
        rc = restore_all(&a, path, &n, &m);
    } else {
        rc = choose_all(&a);
        if (!rc)
            rc = write_all(&a, path);
        m = a.len;
        if (!rc)
            rc = remove_all(&a, &n);
    }
    exj_progress_end(&a.progress);
    a.store->v->close(a.store);
    free(a.pools);
    free(a.rows);
    exj_buf_release(&a.line);
    if (rc)
        return exj_fail_err(c, &a.err);
    return restore ? say(c, path, "restored", n, "there", m)
                   : say(c, path, "removed", n, "written", m);
}
