/* RFC 4180: quotes, doubled quotes, line ends inside quotes, CRLF or LF. What the standard does
 * not allow is refused, with its place, and not guessed at. */
#include "text.h"

/* What reads the fields of one row. */
struct walk {
    const exj_src_csv_rule *rule;
    const char *p;
    size_t n, at;
    bool whole;
    exj_src_csv_row *row;
    exj_src_trouble *t;
};

enum step { STEP_FIELD, STEP_ROW, STEP_BAD, STEP_MORE };

/* After the next line end from `at` on, or all; false: it is further on. */
static bool next_line(const struct walk *w, size_t at, size_t *ret)
{
    const char *end = at < w->n ? memchr(w->p + at, '\n', w->n - at) : NULL;

    *ret = end ? (size_t)(end - w->p) + 1 : w->n;
    return end || w->whole;
}

/* The row is wrong at byte `at`; the next one begins in the line after `from`. */
static enum step wrong(struct walk *w, size_t at, size_t from, const char *why)
{
    if (!next_line(w, from, &w->row->used))
        return STEP_MORE;
    w->row->is_open = w->row->used == w->n && (w->n == 0 || w->p[w->n - 1] != '\n');
    exj_src_wrong(w->t, w->p, at, "%s", why);
    return STEP_BAD;
}

/* At what ends a field. */
static enum step read_end(struct walk *w, size_t field_at)
{
    if (w->at == w->n) {
        if (!w->whole)
            return STEP_MORE;
        w->row->is_open = true;
        w->row->used = w->n;
        return STEP_ROW;
    }
    if (w->p[w->at] == w->rule->delimiter) {
        w->at++;
        return STEP_FIELD;
    }
    if (w->p[w->at] == '\n') {
        w->row->used = w->at + 1;
        return STEP_ROW;
    }
    if (w->p[w->at] == '\r') {
        if (w->at + 1 == w->n) {
            if (!w->whole)
                return STEP_MORE;
            w->row->is_open = true;
            w->row->used = w->n;
            return STEP_ROW;
        }
        if (w->p[w->at + 1] == '\n') {
            w->row->used = w->at + 2;
            return STEP_ROW;
        }
        return wrong(w, w->at, w->at, "a CR that no LF follows: put the field into quotes");
    }
    if (w->p[field_at] == w->rule->quote && w->rule->quote)
        return wrong(w, w->at, w->at, "text behind the closing quote of a field");
    return wrong(w, w->at, w->at, "a quote inside a field without quotes: put the field into "
                                  "quotes and double the quotes in it");
}

static enum step read_quoted(struct walk *w, exj_src_field *f)
{
    size_t from = w->at++;

    f->at = w->at;
    for (;;) {
        const char *q = w->at < w->n ? memchr(w->p + w->at, w->rule->quote, w->n - w->at) : NULL;

        if (!q) {
            if (!w->whole)
                return STEP_MORE;
            /* Only its first line is lost: the quote may have been a slip. */
            return wrong(w, from, 0, "the quote that begins here is never closed");
        }
        w->at = (size_t)(q - w->p) + 1;
        if (w->at == w->n && !w->whole)
            return STEP_MORE;
        if (w->at == w->n || w->p[w->at] != w->rule->quote)
            break;
        f->doubled = true;
        w->at++;
    }
    f->n = w->at - 1 - f->at;
    return read_end(w, from);
}

static enum step read_plain(struct walk *w, exj_src_field *f)
{
    size_t from = w->at;

    f->at = from;
    while (w->at < w->n) {
        char c = w->p[w->at];

        if (c == w->rule->delimiter || c == '\n' || c == '\r' || (c == w->rule->quote && c))
            break;
        w->at++;
    }
    f->n = w->at - from;
    return read_end(w, from);
}

exj_src_got exj_src_csv_read(const exj_src_csv_rule *rule, const char *p, size_t n, bool whole,
                             exj_src_csv_row *ret, exj_src_trouble *t)
{
    struct walk w = { .rule = rule, .p = p, .n = n, .whole = whole, .row = ret, .t = t };
    enum step s = STEP_FIELD;
    size_t bad;

    ret->n = 0;
    ret->used = 0;
    ret->is_open = false;
    while (s == STEP_FIELD) {
        exj_src_field *f = &ret->fields[ret->n];

        if (ret->n == EXJ_SRC_FIELDS) {
            s = wrong(&w, w.at, w.at, "more fields than a record may have");
            break;
        }
        *f = (exj_src_field){ 0 };
        ret->n++;
        s = w.at < n && rule->quote && p[w.at] == rule->quote ? read_quoted(&w, f)
                                                              : read_plain(&w, f);
    }
    if (s == STEP_ROW && !exj_src_is_text(p, ret->used, &bad)) {
        exj_src_wrong(t, p, bad, p[bad] ? "the byte 0x%02x is not UTF-8" : "a NUL byte (0x%02x)",
                      (unsigned)(unsigned char)p[bad]);
        return EXJ_SRC_BAD;
    }
    return s == STEP_ROW ? EXJ_SRC_ROW : s == STEP_BAD ? EXJ_SRC_BAD : EXJ_SRC_MORE;
}

exj_str exj_src_csv_text(const exj_src_csv_rule *rule, const char *row, const exj_src_field *f,
                         char *buf)
{
    const char *p = row + f->at;
    size_t n = 0;

    if (!f->doubled)
        return (exj_str){ p, f->n };
    for (size_t k = 0; k < f->n; k++) {
        buf[n++] = p[k];
        if (p[k] == rule->quote)
            k++; /* the second of two */
    }
    return (exj_str){ buf, n };
}
