#include "core/main/dotenv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINES 1000u

static bool is_key_byte(char c, bool first)
{
    return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (!first && c >= '0' && c <= '9');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static size_t skip_blanks(exj_slice l, size_t at)
{
    while (at < l.n && is_blank(l.p[at]))
        at++;
    return at;
}

/* After a closing quote only blanks and a comment may follow. */
static bool is_end(exj_slice l, size_t at)
{
    at = skip_blanks(l, at);
    return at == l.n || l.p[at] == '#';
}

static char unescape(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    default:
        return c;
    }
}

static exj_code parse_value(exj_slice l, size_t at, unsigned line, exj_buf *value,
                            exj_err *err)
{
    char quote = at < l.n ? l.p[at] : '\0';

    exj_buf_reset(value);
    exj_buf_add_text(value, "");
    if (quote != '"' && quote != '\'') {
        size_t end = at;

        while (end < l.n && !(l.p[end] == '#' && (end == at || is_blank(l.p[end - 1]))))
            end++;
        while (end > at && is_blank(l.p[end - 1]))
            end--;
        exj_buf_add(value, l.p + at, end - at);
        return EXJ_OK;
    }
    for (at++; at < l.n && l.p[at] != quote; at++) {
        if (quote == '"' && l.p[at] == '\\') {
            if (++at == l.n)
                break;
            exj_buf_add_char(value, unescape(l.p[at]));
        } else {
            exj_buf_add_char(value, l.p[at]);
        }
    }
    if (at >= l.n)
        return exj_err_set(err, EXJ_INVALID, "line %u: a quote (%c) is not closed", line,
                           quote);
    if (!is_end(l, at + 1))
        return exj_err_set(err, EXJ_INVALID, "line %u: text after the closing quote", line);
    return EXJ_OK;
}

static exj_code parse_line(exj_slice l, unsigned line, exj_buf *key, exj_buf *value,
                           bool *ret_found, exj_err *err)
{
    size_t at = skip_blanks(l, 0), start;

    *ret_found = false;
    if (memchr(l.p, '\0', l.n))
        return exj_err_set(err, EXJ_INVALID, "line %u: a NUL byte", line);
    if (!exj_utf8_is_valid(l))
        return exj_err_set(err, EXJ_INVALID, "line %u: not UTF-8", line);
    if (is_end(l, at))
        return EXJ_OK;
    if (l.n - at > 7 && memcmp(l.p + at, "export", 6) == 0 && is_blank(l.p[at + 6]))
        at = skip_blanks(l, at + 6);
    start = at;
    while (at < l.n && is_key_byte(l.p[at], at == start))
        at++;
    exj_buf_reset(key);
    exj_buf_add(key, l.p + start, at - start);
    if (at == start || at == l.n || l.p[at] != '=')
        return exj_err_set(err, EXJ_INVALID, "line %u: wanted KEY=VALUE, found \"%.*s\"",
                           line, (int)(l.n - start > 40 ? 40 : l.n - start), l.p + start);
    *ret_found = true;
    return parse_value(l, skip_blanks(l, at + 1), line, value, err);
}

exj_code exj_dotenv_parse(exj_slice text, exj_dotenv_visit visit, void *user, exj_err *err)
{
    exj_buf key = EXJ_BUF_INIT, value = EXJ_BUF_INIT;
    exj_code rc = EXJ_OK;
    unsigned line = 0;
    size_t at = 0;

    if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
        at = 3; /* a byte order mark some editors leave */
    while (at < text.n && rc == EXJ_OK) {
        const char *end = memchr(text.p + at, '\n', text.n - at);
        exj_slice l = { text.p + at, end ? (size_t)(end - text.p) - at : text.n - at };
        bool found;

        if (++line > MAX_LINES) {
            rc = exj_err_set(err, EXJ_INVALID, "more than %u lines", MAX_LINES);
            break;
        }
        rc = parse_line(l, line, &key, &value, &found, err);
        if (rc == EXJ_OK && (key.failed || value.failed))
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
        if (rc == EXJ_OK && found)
            rc = visit(user, key.p, value.p, line, err);
        at += l.n + 1;
    }
    exj_buf_release(&key);
    exj_buf_release(&value);
    return rc;
}

exj_code exj_read_fd(int fd, const char *name, size_t max, exj_buf *ret, exj_err *err)
{
    for (;;) {
        ssize_t n;

        if (!exj_buf_reserve(ret, 64 * 1024))
            return exj_err_set(err, EXJ_NOMEM, "%s: out of memory", name);
        n = read(fd, ret->p + ret->n, 64 * 1024);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return exj_err_set(err, EXJ_IO, "%s: %s", name, strerror(errno));
        if (n == 0)
            break;
        ret->n += (size_t)n;
        if (ret->n > max)
            return exj_err_set(err, EXJ_INVALID, "%s: larger than %zu bytes", name, max);
    }
    exj_buf_add_text(ret, ""); /* the NUL at the end */
    return EXJ_OK;
}

exj_code exj_read_file(const char *path, size_t max, exj_buf *ret, exj_err *err)
{
    struct stat st;
    exj_code rc;
    /* O_NONBLOCK: a FIFO of that name must not hold us up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return exj_err_set(err, errno == ENOENT || errno == ENOTDIR ? EXJ_NOT_FOUND : EXJ_IO,
                           "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0)
        rc = exj_err_set(err, EXJ_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = exj_err_set(err, EXJ_INVALID, "%s: not a regular file", path);
    else
        rc = exj_read_fd(fd, path, max, ret, err);
    close(fd);
    return rc;
}
