/* core/plugin/shelf_history.c - what happened to each plugin, one line an event. */
#include "core/plugin/shelf_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SLACK 250u /* lines over the limit before the file is written anew */
#define WHY_BYTES 1000
#define VERSION_BYTES 100
#define DETAILS_BYTES 4000
#define NAME_BYTES (3 * EXJ_SHELF_ID_MAX + 16)

const char *exj_plugin_event_word(exj_plugin_event e)
{
    static const char *const words[] = {
        "loaded", "refused", "trial", "canary", "current", "rolled-back", "drained", "retired",
        "pinned", "unpinned", "quarantined", "released",
    };

    return (size_t)e < sizeof words / sizeof *words ? words[e] : "?";
}

/* "ID.ndjson" in which nothing can leave the folder: other bytes become %XX. */
static void file_name(const char *id, char ret[NAME_BYTES])
{
    size_t n = 0;

    for (const char *p = id; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || *p == '-' || *p == '_' || (*p == '.' && p > id);

        if (plain)
            ret[n++] = *p;
        else
            n += (size_t)sprintf(ret + n, "%%%02X", (unsigned char)*p);
    }
    memcpy(ret + n, ".ndjson", sizeof ".ndjson");
}

static json_t *event_json(const exj_shelf_event *e)
{
    json_t *o = json_pack("{s:I,s:s,s:o,s:s,s:I,s:s,s:o}", "at", (json_int_t)e->at, "id", e->id,
                          "version", exj_shelf_text(e->version, VERSION_BYTES, false), "sha256",
                          e->sha256 ? e->sha256 : "", "generation", (json_int_t)e->generation,
                          "event", exj_plugin_event_word(e->event), "why",
                          exj_shelf_text(e->why, WHY_BYTES, false));

    if (o && e->details) {
        exj_buf b = EXJ_BUF_INIT;

        if (exj_json_print(e->details, false, &b, NULL) == EXJ_OK && b.n <= DETAILS_BYTES)
            json_object_set_new(o, "details", json_deep_copy(e->details));
        exj_buf_release(&b);
    }
    return o;
}

/* The text of the history, its newest EXJ_SHELF_FILE_MAX bytes; empty when there is none. */
static exj_code read_file(exj_shelf *s, const char *name, exj_buf *b, exj_err *err)
{
    int fd = openat(s->history_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    exj_code rc = EXJ_OK;

    if (fd < 0 && errno == ENOENT)
        return EXJ_OK;
    if (fd < 0)
        return exj_err_set(err, EXJ_IO, "%s/history/%s: %s", s->folder, name, strerror(errno));
    rc = exj_shelf_read_fd(fd, name, EXJ_SHELF_FILE_MAX, b, err);
    close(fd);
    return rc;
}

/* The text from the beginning of its last `lines` lines on; *ret_lines: how many it has. */
static exj_slice last_lines(exj_slice text, unsigned lines, unsigned *ret_lines)
{
    size_t from = 0;
    unsigned n = 0;

    for (size_t at = text.n; at-- > 0;)
        if (text.p[at] == '\n' && at + 1 < text.n && ++n == lines && !from)
            from = at + 1;
    *ret_lines = n + (text.n > 0);
    return (exj_slice){ text.p + from, text.n - from };
}

/* Write the newest lines anew when there are too many. */
static exj_code shorten(exj_shelf *s, const char *name, unsigned *ret_lines, size_t *ret_bytes,
                        exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_slice left;
    exj_code rc = read_file(s, name, &b, err);

    if (!rc) {
        left = last_lines((exj_slice){ b.p ? b.p : "", b.n }, EXJ_SHELF_HISTORY_MAX, ret_lines);
        *ret_bytes = b.n;
        if (*ret_lines > EXJ_SHELF_HISTORY_MAX + SLACK) {
            rc = exj_shelf_replace(s, s->history_dir, name, left, err);
            *ret_lines = EXJ_SHELF_HISTORY_MAX;
            *ret_bytes = left.n;
        }
    } else if (rc == EXJ_INVALID) { /* grew beyond all measure: nobody reads that */
        exj_err_clear(err);
        *ret_lines = 0;
        *ret_bytes = 0;
        rc = exj_shelf_replace(s, s->history_dir, name, (exj_slice){ "", 0 }, err);
    }
    exj_buf_release(&b);
    return rc;
}

/* Append the line in one write; a line that was cut by a crash is ended first. */
static exj_code append(exj_shelf *s, const char *name, exj_slice line, off_t *ret_was,
                       exj_err *err)
{
    int fd = openat(s->history_dir, name,
                    O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    char last = '\n';
    exj_code rc = EXJ_OK;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        (st.st_size && pread(fd, &last, 1, st.st_size - 1) != 1) ||
        (last != '\n' && write(fd, "\n", 1) != 1) ||
        write(fd, line.p, line.n) != (ssize_t)line.n)
        rc = exj_err_set(err, EXJ_IO, "%s/history/%s: %s", s->folder, name, strerror(errno));
    else
        *ret_was = st.st_size + (last != '\n');
    if (fd >= 0)
        close(fd);
    return rc;
}

/* What we believe to be in the file; false when somebody else wrote to it. */
static bool remembered(exj_shelf *s, const char *id, off_t was, unsigned *ret_lines)
{
    const json_t *e = json_object_get(s->history, id);

    *ret_lines = (unsigned)json_integer_value(json_object_get(e, "lines"));
    return e && json_integer_value(json_object_get(e, "bytes")) == (json_int_t)was;
}

static exj_code add_to_file(exj_shelf *s, const char *id, const json_t *event, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    char name[NAME_BYTES];
    unsigned lines;
    size_t bytes;
    off_t was = 0;
    exj_code rc = exj_json_print(event, false, &b, err);

    if (!rc && !exj_buf_add_char(&b, '\n'))
        rc = exj_shelf_no_memory(err);
    file_name(id, name);
    if (!rc)
        rc = append(s, name, exj_buf_slice(&b), &was, err);
    if (!rc) {
        bytes = (size_t)was + b.n;
        if (!remembered(s, id, was, &lines) || ++lines > EXJ_SHELF_HISTORY_MAX + SLACK)
            rc = shorten(s, name, &lines, &bytes, err);
        if (!rc) /* when that fails it is counted anew */
            json_object_set_new(s->history, id, json_pack("{s:I,s:I}", "lines", (json_int_t)lines,
                                                          "bytes", (json_int_t)bytes));
    }
    exj_buf_release(&b);
    return rc;
}

static exj_code add_to_memory(exj_shelf *s, const char *id, json_t *event, exj_err *err)
{
    json_t *list = json_object_get(s->history, id);

    if (!list && json_object_set_new(s->history, id, list = json_array()))
        return exj_shelf_no_memory(err);
    if (json_array_append(list, event))
        return exj_shelf_no_memory(err);
    while (json_array_size(list) > EXJ_SHELF_HISTORY_MAX)
        json_array_remove(list, 0);
    return EXJ_OK;
}

exj_code exj_shelf_history_add(exj_shelf *s, const exj_shelf_event *e, exj_err *err)
{
    json_t *event = NULL;
    exj_code rc = exj_shelf_check_id(e->id, err);

    if (!rc && e->sha256 && *e->sha256)
        rc = exj_shelf_check_sha(e->sha256, err);
    if (rc)
        return rc;
    event = event_json(e);
    if (!event)
        return exj_shelf_no_memory(err);
    rc = exj_shelf_enter(s, true, NULL, err);
    if (!rc) {
        rc = s->folder ? add_to_file(s, e->id, event, err) : add_to_memory(s, e->id, event, err);
        exj_shelf_leave(s, true);
    }
    json_decref(event);
    return rc;
}

/* Append the events of the text to `list`, newest first. */
static exj_code read_events(exj_slice text, size_t limit, json_t *list, exj_err *err)
{
    while (text.n && json_array_size(list) < limit) {
        exj_slice line = text;
        json_t *e = NULL;
        const char *nl;
        exj_code rc;

        if (text.p[text.n - 1] == '\n')
            line.n = --text.n;
        nl = memrchr(text.p, '\n', text.n);
        if (nl) {
            line.p = nl + 1;
            line.n = (size_t)(text.p + text.n - line.p);
        }
        text.n -= line.n;
        rc = line.n ? exj_json_parse(line, &e, NULL) : EXJ_INVALID;
        if (rc == EXJ_NOMEM)
            return exj_shelf_no_memory(err);
        if (rc != EXJ_OK) /* half a line, by a crash */
            continue;
        if (!json_is_object(e) || !json_is_string(json_object_get(e, "event")))
            json_decref(e);
        else if (json_array_append_new(list, e))
            return exj_shelf_no_memory(err);
    }
    return EXJ_OK;
}

exj_code exj_shelf_history(exj_shelf *s, const char *id, size_t limit, json_t **ret,
                           exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    json_t *list = NULL;
    exj_code rc = exj_shelf_check_id(id, err);

    if (limit == 0 || limit > EXJ_SHELF_HISTORY_MAX)
        limit = EXJ_SHELF_HISTORY_MAX;
    if (!rc && !(list = json_array()))
        rc = exj_shelf_no_memory(err);
    if (!rc)
        rc = exj_shelf_enter(s, false, NULL, err);
    if (rc)
        goto out;
    if (s->folder) {
        char name[NAME_BYTES];

        file_name(id, name);
        rc = read_file(s, name, &b, err);
    } else {
        const json_t *all = json_object_get(s->history, id);

        for (size_t k = json_array_size(all); k-- > 0 && json_array_size(list) < limit;)
            if (json_array_append_new(list, json_deep_copy(json_array_get(all, k))))
                rc = exj_shelf_no_memory(err);
    }
    exj_shelf_leave(s, false);
    if (!rc && b.n)
        rc = read_events(exj_buf_slice(&b), limit, list, err);
out:
    exj_buf_release(&b);
    if (rc)
        json_decref(list);
    else
        *ret = list;
    return rc;
}
