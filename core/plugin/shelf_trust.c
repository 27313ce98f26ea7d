/* core/plugin/shelf_trust.c - the list of trusted contents, which people edit too. */
#include "core/plugin/shelf_inside.h"

#include <stdlib.h>

#include "core/base/clock.h"

#define NAME_MAX_BYTES 200
#define LINE_MAX_BYTES 400

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Cut the next word from `rest`; blanks around it are gone. */
static exj_slice word(exj_slice *rest)
{
    exj_slice w = { rest->p, 0 };

    while (w.n < rest->n && !is_blank(rest->p[w.n]))
        w.n++;
    rest->p += w.n;
    rest->n -= w.n;
    while (rest->n && is_blank(*rest->p)) {
        rest->p++;
        rest->n--;
    }
    return w;
}

static bool is_date(exj_slice d)
{
    static const char form[] = "dddd-dd-dd";

    if (d.n < sizeof form - 1 || d.n > EXJ_TIME_TEXT_BYTES)
        return false;
    for (size_t k = 0; k < d.n; k++) {
        char want = k < sizeof form - 1 ? form[k] : 'x', c = d.p[k];

        if (want == 'd' ? c < '0' || c > '9'
            : want == '-' ? c != '-' : !strchr("0123456789T:.-+Z", c))
            return false;
    }
    return true;
}

static bool is_name(exj_slice n)
{
    for (size_t k = 0; k < n.n; k++)
        if ((unsigned char)n.p[k] < 0x20 || n.p[k] == 0x7f)
            return false;
    return n.n >= 1 && n.n <= NAME_MAX_BYTES && exj_utf8_is_valid(n) && !is_blank(n.p[0]) &&
           !is_blank(n.p[n.n - 1]);
}

static exj_slice next_line(exj_slice *rest)
{
    const char *end = memchr(rest->p, '\n', rest->n);
    exj_slice line = { rest->p, end ? (size_t)(end - rest->p) : rest->n };
    size_t used = line.n + (end != NULL);

    rest->p += used;
    rest->n -= used;
    return line;
}

static exj_slice trim(exj_slice s)
{
    while (s.n && is_blank(*s.p)) {
        s.p++;
        s.n--;
    }
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

static exj_code wrong(unsigned line, exj_slice text, const char *why, exj_err *err)
{
    return exj_err_set(err, EXJ_INVALID, "trusted: line %u: %s; wanted SHA256 DATE NAME, found "
                       "'%.*s'", line, why, text.n < 100 ? (int)text.n : 100, text.p);
}

exj_code exj_shelf_parse_trusted(exj_shelf_doc *d, exj_slice text, exj_err *err)
{
    json_t *root = json_object();
    char *copy = strndup(text.n ? text.p : "", text.n);
    exj_slice rest = text;
    exj_code rc = EXJ_OK;

    if (!root || !copy)
        rc = exj_shelf_no_memory(err);
    for (unsigned line = 1; !rc && rest.n; line++) {
        exj_slice whole = trim(next_line(&rest)), left = whole, sha, date;
        char key[65];

        if (whole.n == 0 || whole.p[0] == '#')
            continue;
        sha = word(&left);
        date = word(&left);
        if (whole.n > LINE_MAX_BYTES) {
            rc = wrong(line, whole, "longer than 400 bytes", err);
        } else if (sha.n != 64 || (memcpy(key, sha.p, 64), key[64] = '\0', !exj_is_sha256(key))) {
            rc = wrong(line, whole, "does not begin with 64 digits of 0-9 and a-f", err);
        } else if (!is_date(date)) {
            rc = wrong(line, whole, "the date is not like 2026-01-31", err);
        } else if (!is_name(left)) {
            rc = wrong(line, whole, "the name is not 1 to 200 printable bytes of UTF-8", err);
        } else if (json_object_get(root, key)) {
            rc = wrong(line, whole, "a second line for this SHA-256", err);
        } else if (json_object_size(root) == EXJ_SHELF_TRUSTED_MAX) {
            rc = wrong(line, whole, "more than 4096 entries", err);
        } else {
            json_t *e = json_pack("{s:s%,s:s%}", "date", date.p, date.n, "name", left.p, left.n);

            if (!e || json_object_set_new(root, key, e))
                rc = exj_shelf_no_memory(err);
        }
    }
    if (rc) {
        json_decref(root);
        free(copy);
        return rc;
    }
    d->root = root;
    d->text = copy;
    return EXJ_OK;
}

/* The lines without that of `sha256`, which may be absent. */
static bool copy_without(const char *text, const char *sha256, exj_buf *b)
{
    exj_slice rest = exj_slice_of(text);

    while (rest.n) {
        exj_slice whole = next_line(&rest), line = trim(whole);

        if (line.n >= 64 && memcmp(line.p, sha256, 64) == 0)
            continue;
        exj_buf_add_slice(b, whole);
        exj_buf_add_char(b, '\n');
    }
    return !b->failed;
}

/* Make the text in `b` the list. */
static exj_code put_text(exj_shelf *s, exj_buf *b, exj_err *err)
{
    exj_shelf_doc *d = &s->trusted;
    exj_code rc;

    if (!s->folder) {
        exj_shelf_doc fresh = *d;

        rc = d->parse(&fresh, (exj_slice){ b->p ? b->p : "", b->n }, err);
        if (!rc) {
            json_decref(d->root);
            free(d->text);
            *d = fresh;
        }
        return rc;
    }
    free(d->text);
    d->text = exj_buf_take(b);
    if (!d->text && !(d->text = strdup("")))
        return exj_shelf_undo(s, d, err);
    return exj_shelf_save(s, d, err);
}

exj_code exj_shelf_trust_add(exj_shelf *s, const char *sha256, const char *name, exj_msec now,
                             exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    char date[EXJ_TIME_TEXT_BYTES];
    exj_code rc = exj_shelf_check_sha(sha256, err);

    if (!rc && !is_name(exj_slice_of(name)))
        rc = exj_err_set(err, EXJ_INVALID, "name '%.80s': wanted 1 to %d printable bytes of UTF-8 "
                         "without blanks at its ends", name ? name : "", NAME_MAX_BYTES);
    if (rc)
        return rc;
    rc = exj_shelf_enter(s, true, &s->trusted, err);
    if (rc)
        return rc;
    exj_clock_format(now, date);
    if (json_object_size(s->trusted.root) == EXJ_SHELF_TRUSTED_MAX &&
        !json_object_get(s->trusted.root, sha256))
        rc = exj_err_set(err, EXJ_FULL, "all %u entries of the trust list are in use; remove some",
                         EXJ_SHELF_TRUSTED_MAX);
    else if (!copy_without(s->trusted.text, sha256, &b) ||
             !exj_buf_printf(&b, "%s %s %s\n", sha256, date, name))
        rc = exj_shelf_no_memory(err);
    else
        rc = put_text(s, &b, err);
    exj_shelf_leave(s, true);
    exj_buf_release(&b);
    return rc;
}

exj_code exj_shelf_trust_remove(exj_shelf *s, const char *sha256, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_code rc = exj_shelf_check_sha(sha256, err);

    if (!rc)
        rc = exj_shelf_enter(s, true, &s->trusted, err);
    if (rc)
        return rc;
    if (!json_object_get(s->trusted.root, sha256))
        rc = exj_err_set(err, EXJ_NOT_FOUND, "%s is not in the trust list", sha256);
    else if (!copy_without(s->trusted.text, sha256, &b))
        rc = exj_shelf_no_memory(err);
    else
        rc = put_text(s, &b, err);
    exj_shelf_leave(s, true);
    exj_buf_release(&b);
    return rc;
}

exj_code exj_shelf_trust_has(exj_shelf *s, const char *sha256, bool *ret, exj_err *err)
{
    exj_code rc = exj_shelf_check_sha(sha256, err);

    *ret = false;
    if (!rc)
        rc = exj_shelf_enter(s, false, &s->trusted, err);
    if (rc)
        return rc;
    *ret = json_object_get(s->trusted.root, sha256) != NULL;
    exj_shelf_leave(s, false);
    return EXJ_OK;
}

exj_code exj_shelf_trust_list(exj_shelf *s, json_t **ret, exj_err *err)
{
    json_t *list = json_array(), *e;
    const char *sha;
    exj_code rc = list ? exj_shelf_enter(s, false, &s->trusted, err) : exj_shelf_no_memory(err);

    if (rc) {
        json_decref(list);
        return rc;
    }
    json_object_foreach(s->trusted.root, sha, e)
        if (json_array_append_new(list, json_pack("{s:s,s:O,s:O}", "sha256", sha, "date",
                                                  json_object_get(e, "date"), "name",
                                                  json_object_get(e, "name"))))
            rc = EXJ_NOMEM;
    exj_shelf_leave(s, false);
    if (rc) {
        json_decref(list);
        return exj_shelf_no_memory(err);
    }
    *ret = list;
    return EXJ_OK;
}
