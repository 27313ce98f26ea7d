/* Lines of a file, a page at a time: JSON and CSV.
 *
 * The cursor of a page says where it ended and what the file was then:
 *   "1 DEV INODE OFFSET LINE RECORDS BAD HEAD BEFORE"
 * HEAD is the hash of the file's first 4 KiB, BEFORE that of the 4 KiB in front of OFFSET (of
 * either, what there is before OFFSET). A file that grew is the same file; one that was replaced,
 * shortened or written anew is told, and the next cycle begins at its beginning. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hash.h"
#include "run.h"

#define WINDOW_FIRST 65536
#define LOOKED_AT 4096
#define HASH_DIGITS 16
#define PAGE_BYTES ((int64_t)64 * 1024 * 1024) /* of the file in one page */
#define ID_LINE_BYTES 24

struct scan {
    exj_src_run *r;
    const char *file;  /* for messages */
    int fd;
    char *window;      /* owned */
    size_t cap, n, at; /* bytes in the window; where the next record begins */
    int64_t offset;    /* of the window's first byte */
    int64_t began;     /* where this call began */
    uint64_t line;     /* in which the next record begins; the first is 1 */
    bool whole;        /* the file's end is in the window */
    bool ended;        /* nothing more to read, or nothing more wanted */
    dev_t dev;
    ino_t ino;
    exj_src_csv_row row;
    exj_src_trouble trouble;
    /* csv: names and types of the columns; `field` of each row they are in */
    struct column {
        char *name; /* owned */
        exj_src_type type;
        size_t field;
    } *columns;
    size_t columns_n, fields_n, id_column;
    char *plain; /* owned; as long as the window: a field without doubled quotes */
};

static exj_result no_memory(struct scan *s)
{
    return exj_src_refuse(s->r, EXJ_R_RETRY, "NoMemory", EXJ_SRC_NO_MEMORY);
}

static int64_t position(const struct scan *s)
{
    return s->offset + (int64_t)s->at;
}

/* ---- the window -------------------------------------------------------------------------------- */

static exj_result replaced(struct scan *s, const char *how)
{
    return exj_src_refuse(s->r, EXJ_R_FAILED, "FileReplaced",
                          "%s: %s while it was read (after line %" PRIu64 "): the next cycle "
                          "begins at its beginning; replace a file by renaming another to its "
                          "name, between two cycles", s->file, how, s->line - 1);
}

/* More of the file behind what is in the window. Only called while !whole. */
static exj_result fill(struct scan *s)
{
    struct stat st;

    if (s->at) {
        memmove(s->window, s->window + s->at, s->n - s->at);
        s->offset += (int64_t)s->at;
        s->n -= s->at;
        s->at = 0;
    }
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : WINDOW_FIRST;
        char *grown = realloc(s->window, cap), *plain;

        if (!grown)
            return no_memory(s);
        s->window = grown;
        plain = s->r->ask->format == EXJ_SRC_CSV ? realloc(s->plain, cap) : NULL;
        if (!plain && s->r->ask->format == EXJ_SRC_CSV)
            return no_memory(s);
        s->plain = plain;
        s->cap = cap;
    }
    for (;;) {
        ssize_t got = pread(s->fd, s->window + s->n, s->cap - s->n, s->offset + (int64_t)s->n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return exj_src_refuse(s->r, EXJ_R_RETRY, "ReadFailed", "%s: cannot be read after line "
                                  "%" PRIu64 ": %s", s->file, s->line - 1, strerrordesc_np(errno));
        s->n += (size_t)got;
        s->whole = got == 0;
        break;
    }
    if (s->whole && (fstat(s->fd, &st) != 0 || st.st_size < s->offset + (int64_t)s->n))
        return replaced(s, "became shorter");
    return EXJ_R_OK;
}

/* The window holds at least `n` bytes from `at` on, or all that there is. */
static exj_result fill_to(struct scan *s, size_t n)
{
    exj_result result = EXJ_R_OK;

    while (result == EXJ_R_OK && !s->whole && s->n - s->at < n)
        result = fill(s);
    return result;
}

static uint64_t line_ends(const char *p, size_t n)
{
    uint64_t ends = 0;

    for (const char *at = p; (at = memchr(at, '\n', n - (size_t)(at - p))); at++)
        ends++;
    return ends;
}

static void take(struct scan *s, size_t n)
{
    s->line += line_ends(s->window + s->at, n);
    s->at += n;
}

/* ---- records ------------------------------------------------------------------------------------ */

static exj_result bad(struct scan *s, size_t used, uint64_t bytes)
{
    return exj_src_bad_line(s->r, s->line, &s->trouble, (exj_str){ s->window + s->at, used },
                            bytes);
}

/* A last line without its end that is no record: somebody may still be writing it. */
static exj_result half_written(struct scan *s)
{
    char text[EXJ_SRC_WHY_BYTES];

    s->ended = true;
    if (s->r->ask->on_bad == EXJ_SRC_STOP) {
        size_t n = strlen(s->trouble.reason);

        snprintf(s->trouble.reason + n, sizeof s->trouble.reason - n,
                 " (the last line has no end: half-written?)");
        return bad(s, s->n - s->at, s->n - s->at);
    }
    snprintf(text, sizeof text, "%s: line %" PRIu64 ": the last line has no end and is no record: "
             "left for the next cycle", s->file, s->line);
    s->r->host->log(s->r->host->ctx, s->r->call, EXJ_LOG_LEVEL_INFO, exj_text(text));
    return EXJ_R_OK;
}

/* What names the record, where nothing in it does. */
static void made_id(struct scan *s, exj_str content, char ret[EXJ_SRC_ID_BYTES + 1])
{
    exj_src_hash h;

    if (s->r->ask->ids == EXJ_SRC_BY_LINE) {
        const char *name = strrchr(s->r->ask->path, '/');

        name = name ? name + 1 : s->r->ask->path;
        snprintf(ret, EXJ_SRC_ID_BYTES + 1, "%.*s:%" PRIu64, (int)EXJ_SRC_ID_BYTES - ID_LINE_BYTES,
                 name, s->line);
        return;
    }
    exj_src_hash_begin(&h);
    exj_src_hash_add(&h, content.p, (size_t)content.n);
    exj_src_hash_end(&h, 32, ret);
}

static bool is_id(exj_str id)
{
    for (uint64_t k = 0; k < id.n; k++)
        if ((unsigned char)id.p[k] < 0x20 || id.p[k] == 0x7f)
            return false;
    return id.n >= 1 && id.n <= EXJ_SRC_ID_BYTES;
}

static const char id_wanted[] = "wanted 1 to 512 bytes without control bytes as an id";

/* ---- JSON --------------------------------------------------------------------------------------- */

/* *ret: the field's value as it names the record; owned when *ret_own. */
static exj_result json_id(struct scan *s, exj_str record, char **ret, bool *ret_good)
{
    const char *field = s->r->ask->id_field, *from = s->window + s->at;
    exj_str value;
    int64_t number;
    size_t n = 0, at = (size_t)(record.p - from);
    bool memory = false;

    *ret_good = false;
    if (!exj_json_find(record, field, &value)) {
        exj_src_wrong(&s->trouble, from, at, "no field \"%.80s\" (idField)", field);
        return EXJ_R_OK;
    }
    at = (size_t)(value.p - from);
    if (exj_json_to_i64(value, &number)) {
        *ret = strndup(value.p, (size_t)value.n);
        n = (size_t)value.n;
        memory = !*ret;
    } else if (exj_json_type(value) == '"') {
        *ret = exj_src_text_of(value, &n, &memory);
    }
    if (memory)
        return no_memory(s);
    *ret_good = *ret && is_id((exj_str){ *ret, n });
    if (!*ret)
        exj_src_wrong(&s->trouble, from, at, "the field \"%.80s\" (idField) is neither text nor a "
                                             "whole number", field);
    else if (!*ret_good)
        exj_src_wrong(&s->trouble, from, at, "the field \"%.80s\" (idField): %s", field, id_wanted);
    return EXJ_R_OK;
}

static exj_result json_record(struct scan *s, exj_str line)
{
    char made[EXJ_SRC_ID_BYTES + 1], *own = NULL;
    exj_result result = EXJ_R_OK;
    bool good = true;
    exj_str record, inside = line;

    while (inside.n && (inside.p[inside.n - 1] == '\n' || inside.p[inside.n - 1] == '\r'))
        inside.n--; /* where the text ends is where the line does */
    if (!exj_src_json_record(inside, &record, &s->trouble))
        return line.n && line.p[line.n - 1] == '\n' ? bad(s, (size_t)line.n, line.n)
                                                    : half_written(s);
    if (s->r->ask->id_field)
        result = json_id(s, record, &own, &good);
    else
        made_id(s, record, made);
    if (result == EXJ_R_OK)
        result = good ? exj_src_yield(s->r, exj_text(own ? own : made), record, s->line)
                      : bad(s, (size_t)line.n, line.n);
    free(own);
    return result;
}

static bool is_blank(exj_str line)
{
    for (uint64_t k = 0; k < line.n; k++)
        if (!strchr(" \t\r\n", line.p[k]) || !line.p[k])
            return false;
    return true;
}

/* The next line is longer than is allowed: it goes by without being kept. */
static exj_result too_long(struct scan *s)
{
    size_t most = (size_t)s->r->ask->line_bytes;
    uint64_t bytes = 0, line = s->line;
    exj_result result;
    exj_src_trouble t = { .column = most + 1 };
    char *head;
    const char *end;

    snprintf(t.reason, sizeof t.reason, "longer than maxLineBytes = %zu", most);
    head = strndup(s->window + s->at, most < EXJ_SRC_BAD_TEXT ? most : EXJ_SRC_BAD_TEXT);
    if (!head)
        return no_memory(s);
    for (;;) {
        end = memchr(s->window + s->at, '\n', s->n - s->at);
        bytes += (end ? (size_t)(end - s->window) : s->n) - s->at;
        take(s, end ? (size_t)(end - s->window) + 1 - s->at : s->n - s->at);
        if (end || s->whole)
            break;
        result = fill_to(s, 1);
        if (result == EXJ_R_OK)
            result = exj_src_stopped(s->r);
        if (result != EXJ_R_OK)
            goto out;
    }
    result = exj_src_bad_line(s->r, line, &t, exj_text(head), bytes);
out:
    free(head);
    return result;
}

static exj_result next_json(struct scan *s)
{
    size_t most = (size_t)s->r->ask->line_bytes;
    exj_result result = fill_to(s, 1);
    const char *end = NULL;
    exj_str line;

    while (result == EXJ_R_OK) {
        end = s->n > s->at ? memchr(s->window + s->at, '\n', s->n - s->at) : NULL;
        if (end || s->whole || s->n - s->at > most + 1)
            break;
        result = fill_to(s, s->n - s->at + 1);
    }
    if (result != EXJ_R_OK)
        return result;
    line = (exj_str){ s->window + s->at, end ? (size_t)(end - s->window) + 1 - s->at : s->n - s->at };
    s->ended = line.n == 0;
    if (line.n > most + 1 || (!end && line.n > most))
        return too_long(s);
    result = is_blank(line) ? EXJ_R_OK : json_record(s, line);
    if (result == EXJ_R_OK && !s->ended)
        take(s, (size_t)line.n);
    return result;
}

/* ---- CSV ---------------------------------------------------------------------------------------- */

/* The next row into s->row. *ret_got MORE: there is none. */
static exj_result read_row(struct scan *s, exj_src_got *ret_got)
{
    size_t most = (size_t)s->r->ask->line_bytes;
    exj_result result = fill_to(s, 1);

    *ret_got = EXJ_SRC_MORE;
    while (result == EXJ_R_OK && s->n > s->at) {
        *ret_got = exj_src_csv_read(&s->r->ask->csv, s->window + s->at, s->n - s->at, s->whole,
                                    &s->row, &s->trouble);
        if (*ret_got != EXJ_SRC_MORE || s->n - s->at > most + 1)
            break;
        /* Twice as much, so that a long row is not read again for every few bytes. */
        result = fill_to(s, 2 * (s->n - s->at));
    }
    return result;
}

static exj_result csv_value(struct scan *s, const struct column *c, exj_str text, size_t at,
                            bool *ret_good)
{
    exj_json_out *o = &s->r->record;
    bool empty = text.n == 0;

    *ret_good = true;
    if (c->type == EXJ_SRC_STRING) {
        exj_json_put_string(o, c->name, text);
    } else if (empty) {
        exj_json_put_null(o, c->name);
    } else if (c->type == EXJ_SRC_BOOLEAN) {
        bool value;

        *ret_good = exj_json_to_bool(text, &value);
        exj_json_put_raw(o, c->name, text);
    } else {
        *ret_good = exj_src_is_number(text, c->type == EXJ_SRC_INTEGER);
        exj_json_put_raw(o, c->name, text);
    }
    if (!*ret_good)
        exj_src_wrong(&s->trouble, s->window + s->at, at, "column \"%.60s\": \"%.*s\" is %s",
                      c->name, text.n < 40 ? (int)text.n : 40, text.p,
                      c->type == EXJ_SRC_BOOLEAN   ? "neither true nor false"
                      : c->type == EXJ_SRC_INTEGER ? "no whole number of 64 bits"
                                                   : "no number as JSON writes it");
    return o->failed ? no_memory(s) : EXJ_R_OK;
}

static exj_result csv_record(struct scan *s)
{
    const char *row = s->window + s->at;
    char made[EXJ_SRC_ID_BYTES + 1];
    exj_result result = EXJ_R_OK;
    exj_str text, id = { NULL, 0 };
    bool good = true;

    if (s->row.n != s->fields_n) {
        exj_src_wrong(&s->trouble, row, 0, "%zu fields where %zu are wanted", s->row.n,
                      s->fields_n);
        return s->row.is_open && s->row.n < s->fields_n ? half_written(s)
                                                        : bad(s, s->row.used, s->row.used);
    }
    exj_json_out_reset(&s->r->record);
    exj_json_begin_object(&s->r->record);
    for (size_t k = 0; k < s->columns_n && good && result == EXJ_R_OK; k++) {
        const exj_src_field *f = &s->row.fields[s->columns[k].field];

        result = csv_value(s, &s->columns[k], exj_src_csv_text(&s->r->ask->csv, row, f, s->plain),
                           f->at, &good);
    }
    exj_json_end_object(&s->r->record);
    if (result != EXJ_R_OK)
        return result;
    text = exj_json_out_text(&s->r->record);
    if (good && text.n > EXJ_SRC_RECORD_BYTES)
        good = exj_src_wrong(&s->trouble, row, 0, "a record of more than %u bytes",
                             EXJ_SRC_RECORD_BYTES);
    if (good && s->r->ask->id_field) {
        const exj_src_field *f = &s->row.fields[s->id_column];

        id = exj_src_csv_text(&s->r->ask->csv, row, f, s->plain);
        if (!is_id(id))
            good = exj_src_wrong(&s->trouble, row, f->at, "the column \"%.80s\" (idField): %s",
                                 s->r->ask->id_field, id_wanted);
    } else if (good) {
        made_id(s, text, made);
        id = exj_text(made);
    }
    if (!good)
        return s->row.is_open ? half_written(s) : bad(s, s->row.used, s->row.used);
    return exj_src_yield(s->r, id, text, s->line);
}

static exj_result next_csv(struct scan *s)
{
    exj_src_got got;
    exj_result result = read_row(s, &got);

    if (result != EXJ_R_OK)
        return result;
    if (s->n == s->at) {
        s->ended = true;
        return EXJ_R_OK;
    }
    if (got == EXJ_SRC_MORE || s->row.used > (size_t)s->r->ask->line_bytes + 2)
        return too_long(s);
    if (got == EXJ_SRC_BAD)
        result = s->row.is_open ? half_written(s) : bad(s, s->row.used, s->row.used);
    else if (s->row.n > 1 || s->row.fields[0].n || s->row.fields[0].at)
        result = csv_record(s);
    if (result == EXJ_R_OK && !s->ended)
        take(s, s->row.used);
    return result;
}

/* ---- columns ------------------------------------------------------------------------------------ */

static exj_result bad_header(struct scan *s, const char *what, const char *name, const char *fix)
{
    return exj_src_refuse(s->r, EXJ_R_INPUT, "BadHeader", "%s: line 1: %s\"%.80s\"%s", s->file,
                          what, name, fix);
}

static exj_result add_column(struct scan *s, exj_str name, size_t field)
{
    const exj_src_columns *types = &s->r->ask->types;
    struct column *c = &s->columns[s->columns_n];

    *c = (struct column){ .name = strndup(name.p, (size_t)name.n), .field = field };
    if (!c->name)
        return no_memory(s);
    s->columns_n++;
    for (size_t k = 0; k < types->n; k++)
        if (strcmp(types->at[k].name, c->name) == 0)
            c->type = types->at[k].type;
    return EXJ_R_OK;
}

static struct column *find_column(const struct scan *s, const char *name)
{
    for (size_t k = 0; k < s->columns_n; k++)
        if (strcmp(s->columns[k].name, name) == 0)
            return &s->columns[k];
    return NULL;
}

/* Of the first row, which is in s->row. */
static exj_result name_columns(struct scan *s)
{
    const char *row = s->window + s->at;
    exj_result result = EXJ_R_OK;
    char number[24];

    s->fields_n = s->row.n;
    for (size_t k = 0; k < s->row.n && result == EXJ_R_OK; k++) {
        exj_str name = exj_src_csv_text(&s->r->ask->csv, row, &s->row.fields[k], s->plain);

        snprintf(number, sizeof number, "%zu", k + 1);
        if (name.n == 0)
            return bad_header(s, "no name for column ", number, ": name each column");
        if (name.n > EXJ_SRC_ID_BYTES)
            return bad_header(s, "a name of more than 512 bytes for column ", number, "");
        if (name.n == 9 && memcmp(name.p, "input.raw", 9) == 0)
            return bad_header(s, "the column ", "input.raw", " is refused: a record is flat");
        result = add_column(s, name, k);
        for (size_t m = 0; m + 1 < s->columns_n; m++)
            if (strcmp(s->columns[m].name, s->columns[s->columns_n - 1].name) == 0)
                return bad_header(s, "two columns have the name ", s->columns[m].name,
                                  ": give one another name");
    }
    return result;
}

/* Only those that were asked for, in that order. */
static exj_result choose_columns(struct scan *s)
{
    const exj_src_columns *wanted = &s->r->ask->columns;

    for (size_t k = 0; k < wanted->n; k++) {
        struct column *c = find_column(s, wanted->at[k].name), swap;

        if (!c)
            return bad_header(s, "no column ", wanted->at[k].name, ", which input.columns wants");
        swap = s->columns[k];
        s->columns[k] = *c;
        *c = swap;
    }
    for (size_t k = wanted->n; wanted->n && k < s->columns_n; k++)
        free(s->columns[k].name);
    if (wanted->n)
        s->columns_n = wanted->n;
    return EXJ_R_OK;
}

static exj_result check_columns(struct scan *s)
{
    const exj_src_ask *a = s->r->ask;
    const struct column *c = a->id_field ? find_column(s, a->id_field) : NULL;

    if (a->id_field && !c)
        return bad_header(s, "no column ", a->id_field, ", which input.idField names");
    s->id_column = c ? c->field : 0;
    for (size_t k = 0; k < a->types.n; k++)
        if (!find_column(s, a->types.at[k].name))
            return bad_header(s, "no column ", a->types.at[k].name, ", which input.types names");
    return EXJ_R_OK;
}

/* At the beginning of the file. *ret_none: it has no header yet, there is nothing to read. */
static exj_result read_header(struct scan *s, bool *ret_none)
{
    const exj_src_ask *a = s->r->ask;
    exj_result result = EXJ_R_OK;
    exj_src_got got = EXJ_SRC_MORE;

    *ret_none = false;
    if (a->header)
        result = read_row(s, &got);
    if (result != EXJ_R_OK)
        return result;
    if (a->header && s->n == s->at) {
        *ret_none = true;
        return EXJ_R_OK;
    }
    if (a->header && got != EXJ_SRC_ROW)
        return exj_src_refuse(s->r, EXJ_R_INPUT, "BadHeader", "%s: line %" PRIu64 ", column %zu: %s: "
                              "this is the header that names the columns", s->file,
                              1 + (got == EXJ_SRC_BAD ? s->trouble.line : 0),
                              got == EXJ_SRC_BAD ? s->trouble.column : 1,
                              got == EXJ_SRC_BAD ? s->trouble.reason : "longer than maxLineBytes");
    s->columns = calloc(a->header ? s->row.n : a->columns.n, sizeof *s->columns);
    if (!s->columns)
        return no_memory(s);
    if (a->header) {
        result = name_columns(s);
        if (result == EXJ_R_OK)
            result = choose_columns(s);
        take(s, s->row.used);
    } else {
        s->fields_n = a->columns.n;
        for (size_t k = 0; k < a->columns.n && result == EXJ_R_OK; k++)
            result = add_column(s, exj_text(a->columns.at[k].name), k);
    }
    return result == EXJ_R_OK ? check_columns(s) : result;
}

/* ---- from page to page --------------------------------------------------------------------------- */

/* The hash of `n` bytes of the file from `at` on. */
static bool hash_part(const struct scan *s, int64_t at, size_t n, char ret[HASH_DIGITS + 1])
{
    char part[LOOKED_AT];
    exj_src_hash h;
    ssize_t got;

    do
        got = pread(s->fd, part, n, at);
    while (got < 0 && errno == EINTR);
    exj_src_hash_begin(&h);
    exj_src_hash_add(&h, part, got > 0 ? (size_t)got : 0);
    exj_src_hash_end(&h, HASH_DIGITS, ret);
    return got == (ssize_t)n;
}

/* Both, of what there is before `offset`. */
static bool look_back(const struct scan *s, int64_t offset, char head[HASH_DIGITS + 1],
                      char before[HASH_DIGITS + 1])
{
    size_t n = offset < LOOKED_AT ? (size_t)offset : LOOKED_AT;

    return hash_part(s, 0, n, head) && hash_part(s, offset - (int64_t)n, n, before);
}

static exj_result give_cursor(struct scan *s)
{
    char head[HASH_DIGITS + 1], before[HASH_DIGITS + 1], text[250];
    int64_t at = position(s);

    if (!look_back(s, at, head, before))
        return replaced(s, "became shorter");
    snprintf(text, sizeof text, "1 %ju %ju %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s %s",
             (uintmax_t)s->dev, (uintmax_t)s->ino, at, s->line, s->r->records, s->r->bad, head,
             before);
    exj_json_out_reset(&s->r->out);
    exj_json_begin_object(&s->r->out);
    exj_json_put_text(&s->r->out, "next", text);
    exj_json_end_object(&s->r->out);
    return s->r->out.failed ? no_memory(s)
                            : s->r->host->emit(s->r->host->ctx, s->r->call,
                                               exj_json_out_text(&s->r->out));
}

/* Go on where the cursor says, if the file is still that file. */
static exj_result take_cursor(struct scan *s)
{
    char head[HASH_DIGITS + 1], before[HASH_DIGITS + 1], was_head[HASH_DIGITS + 1],
        was_before[HASH_DIGITS + 1], text[256] = "", end = 0;
    uintmax_t dev, ino;
    int64_t offset;
    struct stat st;

    if (s->r->cursor.n >= 2 && s->r->cursor.n < sizeof text)
        memcpy(text, s->r->cursor.p + 1, (size_t)s->r->cursor.n - 2);
    if (sscanf(text, "1 %ju %ju %" SCNd64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %16[0-9a-f] %16[0-9a-f]%c",
               &dev, &ino, &offset, &s->line, &s->r->records, &s->r->bad, was_head, was_before,
               &end) != 8 ||
        offset < 0 || s->line < 1)
        return exj_src_refuse(s->r, EXJ_R_INPUT, "BadCursor",
                              "the cursor \"%.100s\" is none of this plugin's", text);
    if (dev != (uintmax_t)s->dev || ino != (uintmax_t)s->ino)
        return replaced(s, "was replaced by another file");
    if (fstat(s->fd, &st) != 0 || st.st_size < offset)
        return replaced(s, "became shorter");
    if (!look_back(s, offset, head, before) || strcmp(head, was_head) != 0 ||
        strcmp(before, was_before) != 0)
        return replaced(s, "was written anew");
    s->offset = s->began = offset;
    s->n = s->at = 0;
    s->whole = false;
    return EXJ_R_OK;
}

/* A mark of the encoding at the beginning of the file. */
static exj_result skip_bom(struct scan *s)
{
    exj_result result = fill_to(s, 3);
    const unsigned char *p = (const unsigned char *)s->window;

    if (result != EXJ_R_OK)
        return result;
    if (s->n >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff)))
        return exj_src_refuse(s->r, EXJ_R_INPUT, "NotUtf8", "%s: it is UTF-16; wanted UTF-8: "
                              "iconv -f utf-16 -t utf-8 makes one of the other", s->file);
    if (s->n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        take(s, 3);
    return EXJ_R_OK;
}

static exj_result open_file(struct scan *s)
{
    char why[EXJ_SRC_WHY_BYTES];
    struct stat st;
    bool missing;

    s->fd = exj_src_place_open(s->r->place, s->r->ask->path, O_RDONLY, &missing, why);
    if (s->fd < 0)
        return exj_src_refuse(s->r, EXJ_R_FAILED, missing ? "FileMissing" : "FileNotOpened", "%s",
                              why);
    if (fstat(s->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return exj_src_refuse(s->r, EXJ_R_INPUT, "NotAFile", "%s: %s", s->file,
                              S_ISDIR(st.st_mode)
                                  ? "a folder; wanted a file, or \"format\": \"directory\""
                                  : "wanted a regular file");
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    (void)posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return EXJ_R_OK;
}

static bool page_is_full(const struct scan *s)
{
    return s->r->pages && ((int64_t)s->r->here >= s->r->ask->page ||
                           position(s) - s->began >= PAGE_BYTES);
}

static exj_result scan(struct scan *s)
{
    exj_result result = open_file(s);
    bool none = false;

    s->line = 1;
    if (result == EXJ_R_OK)
        result = skip_bom(s);
    if (result == EXJ_R_OK && s->r->ask->format == EXJ_SRC_CSV)
        result = read_header(s, &none);
    if (result == EXJ_R_OK && s->r->cursor.n)
        result = take_cursor(s);
    while (result == EXJ_R_OK && !none && !s->ended && !page_is_full(s)) {
        result = exj_src_stopped(s->r);
        if (result == EXJ_R_OK)
            result = s->r->ask->format == EXJ_SRC_CSV ? next_csv(s) : next_json(s);
    }
    if (result == EXJ_R_OK && !none && !s->ended)
        result = fill_to(s, 1); /* is there anything for another page? */
    if (result == EXJ_R_OK)
        result = exj_src_settle(s->r);
    if (result == EXJ_R_OK && !none && !s->ended && s->n > s->at)
        result = give_cursor(s);
    return result;
}

exj_result exj_src_scan_lines(exj_src_run *r)
{
    struct scan *s = calloc(1, sizeof *s);
    exj_result result;

    if (!s)
        return exj_src_refuse(r, EXJ_R_RETRY, "NoMemory", EXJ_SRC_NO_MEMORY);
    s->r = r;
    s->fd = -1;
    s->file = exj_src_path_end(r->ask->path);
    result = scan(s);
    if (s->fd >= 0)
        close(s->fd);
    for (size_t k = 0; k < s->columns_n; k++)
        free(s->columns[k].name);
    free(s->columns);
    free(s->window);
    free(s->plain);
    free(s);
    return result;
}
