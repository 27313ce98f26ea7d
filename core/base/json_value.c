/* Values of jansson. It is trusted with trees of values and their printing, not with reading: where
 * its lexer (2.14) has no memory it drops a character and goes on, which ends in another text, an
 * assertion or a write beyond a block. So texts are read here, after exj_json_check. */
#include "core/base/json.h"

#include <locale.h>
#include <stdlib.h>

#include "core/base/utf8.h"

/* ---- without memory ------------------------------------------------------------------------
 *
 * Who builds a value member by member learns of a lost one only if every call is looked at. So
 * jansson's allocations go through here, and this thread remembers that one failed. */
static __thread bool was_short;
static json_malloc_t inner_malloc;
static json_free_t inner_free;

static void *watched_malloc(size_t n)
{
    void *p = inner_malloc ? inner_malloc(n) : malloc(n);

    was_short |= !p;
    return p;
}

static void watched_free(void *p)
{
    if (inner_free)
        inner_free(p);
    else
        free(p);
}

/* Before main, so that nothing was allocated otherwise. A program around us that set functions
 * of its own even earlier keeps them. */
__attribute__((constructor)) static void watch_jansson(void)
{
    json_get_alloc_funcs(&inner_malloc, &inner_free);
    if (inner_free == free) {
        inner_malloc = NULL;
        inner_free = NULL;
    }
    json_set_alloc_funcs(watched_malloc, watched_free);
}

void exj_json_told_short(void)
{
    was_short = false;
}

/* ---- reading ------------------------------------------------------------------------------- */

struct reader {
    const char *p; /* a checked text: what follows relies on its grammar */
    size_t n, at;
    exj_buf text; /* of the string or number at hand */
    exj_err *err;
    bool is_duplicate; /* told; else no value is for lack of memory */
};

static json_t *read_value(struct reader *r);

static char peek(const struct reader *r)
{
    return r->at < r->n ? r->p[r->at] : '\0';
}

static void skip_space(struct reader *r)
{
    for (char c = peek(r); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = peek(r))
        r->at++;
}

/* To the next item of a container, or its end. */
static void skip_comma(struct reader *r)
{
    skip_space(r);
    if (peek(r) == ',')
        r->at++;
    skip_space(r);
}

/* The string at hand into r->text. */
static bool read_string(struct reader *r)
{
    size_t start = r->at++;

    while (r->at < r->n && r->p[r->at] != '"')
        r->at += r->p[r->at] == '\\' ? 2 : 1;
    r->at++;
    exj_buf_reset(&r->text);
    return exj_json_unescape((exj_slice){ r->p + start, r->at - start }, &r->text);
}

static bool read_member(struct reader *r, json_t *o)
{
    size_t start = r->at;
    char *key = read_string(r) ? exj_buf_take(&r->text) : NULL;
    bool good = false;

    if (key && json_object_get(o, key)) {
        exj_err_set(r->err, EXJ_INVALID, "not valid JSON at byte %zu: duplicate object key",
                    start);
        r->is_duplicate = true;
    } else if (key) {
        skip_space(r);
        r->at++; /* the colon */
        good = json_object_set_new_nocheck(o, key, read_value(r)) == 0;
    }
    free(key);
    return good;
}

static json_t *read_container(struct reader *r, json_t *into, char end)
{
    r->at++;
    skip_space(r);
    while (into && peek(r) != end) {
        if (!(end == '}' ? read_member(r, into)
                         : json_array_append_new(into, read_value(r)) == 0)) {
            json_decref(into);
            return NULL;
        }
        skip_comma(r);
    }
    r->at++;
    return into;
}

static json_t *read_number(struct reader *r)
{
    size_t start = r->at;
    char *point;

    while (r->at < r->n && strchr("0123456789-+.eE", r->p[r->at]))
        r->at++;
    exj_buf_reset(&r->text);
    if (!exj_buf_add(&r->text, r->p + start, r->at - start))
        return NULL;
    if (!strpbrk(r->text.p, ".eE"))
        return json_integer(strtoll(r->text.p, NULL, 10));
    point = strchr(r->text.p, '.');
    if (point) /* strtod wants what the locale writes */
        *point = *localeconv()->decimal_point;
    return json_real(strtod(r->text.p, NULL));
}

static json_t *read_word(struct reader *r)
{
    char c = peek(r);

    r->at += c == 'f' ? 5 : 4;
    return c == 't' ? json_true() : c == 'f' ? json_false() : json_null();
}

static json_t *read_value(struct reader *r)
{
    skip_space(r);
    switch (peek(r)) {
    case '{': return read_container(r, json_object(), '}');
    case '[': return read_container(r, json_array(), ']');
    case '"':
        return read_string(r) ? json_stringn_nocheck(r->text.p ? r->text.p : "", r->text.n) : NULL;
    case 't':
    case 'f':
    case 'n': return read_word(r);
    default: return read_number(r);
    }
}

exj_code exj_json_parse(exj_slice text, json_t **ret, exj_err *err)
{
    struct reader r = { .p = text.p, .n = text.n, .err = err };
    bool before = was_short;
    json_t *value;
    exj_code rc;

    if (text.n > EXJ_JSON_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID, "JSON of %zu bytes; at most %u are allowed",
                           text.n, EXJ_JSON_MAX_BYTES);
    rc = exj_json_check(text, EXJ_JSON_MAX_DEPTH, NULL, err);
    if (rc != EXJ_OK)
        return rc;
    value = read_value(&r);
    exj_buf_release(&r.text);
    was_short = before || (!value && !r.is_duplicate); /* told here, if somebody listens */
    if (r.is_duplicate)
        return EXJ_INVALID;
    if (!value)
        return exj_err_set(err, EXJ_NOMEM, "out of memory while parsing JSON");
    *ret = value;
    return EXJ_OK;
}

/* ---- printing ------------------------------------------------------------------------------ */

static int print_piece(const char *p, size_t n, void *ctx)
{
    return exj_buf_add(ctx, p, n) ? 0 : -1;
}

exj_code exj_json_print(const json_t *value, bool sorted, exj_buf *b, exj_err *err)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | (sorted ? JSON_SORT_KEYS : 0u);
    size_t before = b->n;

    if (!value && !was_short)
        return exj_err_set(err, EXJ_BUG, "no JSON value to print");
    if (was_short || json_dump_callback(value, print_piece, b, flags) != 0) {
        was_short = false; /* whoever asked knows now */
        b->n = before;
        if (b->p)
            b->p[before] = '\0';
        return exj_err_set(err, EXJ_NOMEM, "out of memory while printing JSON");
    }
    return EXJ_OK;
}

json_t *exj_json_text(exj_slice s)
{
    json_t *ret = exj_utf8_is_valid(s) ? json_stringn_nocheck(s.p ? s.p : "", s.n) : NULL;
    exj_buf quoted = EXJ_BUF_INIT, clean = EXJ_BUF_INIT;

    if (!ret && !exj_utf8_is_valid(s) && exj_buf_add_json_string(&quoted, s) &&
        exj_json_unescape(exj_buf_slice(&quoted), &clean))
        ret = json_stringn_nocheck(clean.p ? clean.p : "", clean.n);
    exj_buf_release(&quoted);
    exj_buf_release(&clean);
    return ret;
}
