#include "core/job/record.h"

#include <stdlib.h>

#include "core/base/json.h"

#define QUOTE_BYTES 64 /* of a stranger's value in a message */

static int quote_len(exj_slice s)
{
    return (int)(s.n < QUOTE_BYTES ? s.n : QUOTE_BYTES);
}

static const char *quote_of(exj_slice s)
{
    return s.n ? s.p : "";
}

exj_code exj_record_check(exj_slice record, exj_err *err)
{
    exj_json_kind kind;
    exj_json_iter it;
    uint32_t fields = 0;
    exj_code rc;

    if (record.n > EXJ_RECORD_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID,
                           "the record has %zu bytes; at most %u are allowed: send a "
                           "reference to large values instead of the values",
                           record.n, EXJ_RECORD_MAX_BYTES);
    rc = exj_json_check(record, EXJ_JSON_MAX_DEPTH, &kind, err);
    if (rc != EXJ_OK) {
        exj_err_prefix(err, "record");
        return rc;
    }
    if (kind != EXJ_JSON_OBJECT)
        return exj_err_set(err, EXJ_INVALID, "the record is not a JSON object: send one "
                                             "flat object of named fields");
    exj_json_iter_init(&it, record);
    while (exj_json_iter_next(&it)) {
        if (++fields > EXJ_RECORD_MAX_FIELDS)
            return exj_err_set(err, EXJ_INVALID,
                               "the record has more than %u fields: send fewer",
                               EXJ_RECORD_MAX_FIELDS);
        if (it.key.n == 0)
            return exj_err_set(err, EXJ_INVALID,
                               "the record has a field without a name: name it");
        if (it.kind == EXJ_JSON_OBJECT && exj_json_key_is(it.key, "input"))
            return exj_err_set(err, EXJ_INVALID,
                               "nested `input` is refused: a record is flat, send its fields "
                               "at the top level instead of inside `input`");
        if (it.kind == EXJ_JSON_OBJECT && exj_json_key_is(it.key, "raw"))
            return exj_err_set(err, EXJ_INVALID,
                               "an `input.raw` wrapper is refused: send the fields inside "
                               "`raw` at the top level");
        if (exj_json_key_is(it.key, "input.raw"))
            return exj_err_set(err, EXJ_INVALID,
                               "an `input.raw` wrapper is refused: send its fields at the "
                               "top level, each under its own name");
    }
    return EXJ_OK;
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

exj_code exj_id_check(exj_slice id, const char *what, exj_err *err)
{
    if (id.n == 0)
        return exj_err_set(err, EXJ_INVALID, "%s is empty; 1 to %u bytes are wanted", what,
                           EXJ_ID_MAX_BYTES);
    if (id.n > EXJ_ID_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID,
                           "%s \"%.*s…\" has %zu bytes; at most %u are allowed", what,
                           quote_len(id), id.p, id.n, EXJ_ID_MAX_BYTES);
    for (size_t i = 0; i < id.n; i++)
        if (is_control(id.p[i]))
            return exj_err_set(err, EXJ_INVALID,
                               "%s \"%.*s\" holds the control byte 0x%02x at %zu", what,
                               (int)(i < QUOTE_BYTES ? i : QUOTE_BYTES), id.p,
                               (unsigned)(unsigned char)id.p[i], i);
    if (!exj_utf8_is_valid(id))
        return exj_err_set(err, EXJ_INVALID, "%s \"%.*s\" is not UTF-8", what, quote_len(id),
                           id.p);
    return EXJ_OK;
}

static bool needs_escape(char c)
{
    return c == '%' || c == '|' || is_control(c);
}

static void add_part(exj_buf *b, exj_slice part)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t done = 0, i;

    for (i = 0; i < part.n; i++) {
        unsigned char c = (unsigned char)part.p[i];
        char escape[3] = { '%', hex[c >> 4], hex[c & 15] };

        if (!needs_escape(part.p[i]))
            continue;
        exj_buf_add(b, part.p + done, i - done);
        exj_buf_add(b, escape, sizeof(escape));
        done = i + 1;
    }
    if (i > done)
        exj_buf_add(b, part.p + done, i - done);
}

bool exj_row_name_add(exj_buf *b, exj_slice matrix, exj_slice run, exj_slice graph,
                      exj_slice record)
{
    add_part(b, matrix);
    exj_buf_add_char(b, '|');
    add_part(b, run);
    exj_buf_add_char(b, '|');
    add_part(b, graph);
    exj_buf_add_char(b, '|');
    add_part(b, record);
    return !b->failed;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that "%XX" at `at` stands for; -1 when it is not the spelling we give. */
static int unescape(exj_slice name, size_t at)
{
    int high, low, v;

    if (name.n - at < 3)
        return -1;
    high = hex_digit(name.p[at + 1]);
    low = hex_digit(name.p[at + 2]);
    v = high * 16 + low;
    return high >= 0 && low >= 0 && v > 0 && needs_escape((char)v) ? v : -1;
}

exj_code exj_row_name_parse(exj_slice name, exj_row_name *ret, exj_err *err)
{
    char *parts[4], *out;
    unsigned part = 0;

    /* Each part ends in a NUL where its bar was: one byte more than the name is enough. */
    out = exj_slice_dup(name);
    if (!out)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    parts[0] = out;
    for (size_t at = 0; at < name.n; at++) {
        char c = name.p[at];

        if (c == '|') {
            if (part == 3)
                goto invalid;
            *out++ = '\0';
            parts[++part] = out;
        } else if (c == '%') {
            int v = unescape(name, at);

            if (v < 0)
                goto invalid;
            *out++ = (char)v;
            at += 2;
        } else if (is_control(c)) {
            goto invalid;
        } else {
            *out++ = c;
        }
    }
    *out = '\0';
    if (part != 3 || !*parts[0] || !*parts[2] || !*parts[3] || !exj_utf8_is_valid(name))
        goto invalid;
    *ret = (exj_row_name){ parts[0], parts[1], parts[2], parts[3] };
    return EXJ_OK;
invalid:
    free(parts[0]);
    return exj_err_set(err, EXJ_INVALID,
                       "\"%.*s\" is not the name of a row; matrix|run|graph|record is wanted, "
                       "with %% | and control bytes as %%XX",
                       quote_len(name), quote_of(name));
}

void exj_row_name_release(exj_row_name *n)
{
    free(n->matrix);
    *n = (exj_row_name){ 0 };
}
