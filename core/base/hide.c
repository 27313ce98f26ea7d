#include "core/base/hide.h"

#include <strings.h>

#define HIDDEN "(hidden)"

/* Behind "scheme://", or the text itself where no scheme can be seen. */
static const char *behind_scheme(const char *uri)
{
    size_t n = strspn(uri, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

    return strncmp(uri + n, "://", 3) == 0 ? uri + n + 3 : uri;
}

static bool is_port(const char *p)
{
    size_t n = strspn(p, "0123456789");

    return n > 0 && n <= 5 && (p[n] == '\0' || strchr(",/?", p[n]));
}

/* The first ':' of the hosts that no port follows, and that no "[::1]" holds; NULL: none. */
static const char *strange_colon(const char *hosts)
{
    bool bracket = false;

    for (const char *p = hosts; *p && !strchr("/?", *p); p++) {
        if (*p == '[')
            bracket = true;
        else if (*p == ']')
            bracket = false;
        else if (*p == ':' && !bracket && !is_port(p + 1))
            return p;
    }
    return NULL;
}

static bool is_secret(const char *name, size_t n)
{
    static const char *const words[] = { "password", "properties" };

    for (size_t w = 0; w < sizeof(words) / sizeof(*words); w++) {
        size_t m = strlen(words[w]);

        for (size_t i = 0; i + m <= n; i++)
            if (strncasecmp(name + i, words[w], m) == 0)
                return true;
    }
    return false;
}

static void add_options(const char *p, exj_buf *ret)
{
    while (*p) {
        size_t n = strcspn(p, "&;"), name = strcspn(p, "=&;");

        if (name < n && is_secret(p, name)) {
            exj_buf_add(ret, p, name + 1);
            exj_buf_add_text(ret, HIDDEN);
        } else {
            exj_buf_add(ret, p, n);
        }
        p += n;
        if (*p)
            exj_buf_add_char(ret, *p++);
    }
}

bool exj_hide_password(const char *uri, exj_buf *ret)
{
    const char *start = behind_scheme(uri), *at = strrchr(start, '@'), *colon, *rest = uri;

    colon = at ? memchr(start, ':', (size_t)(at - start)) : strange_colon(start);
    if (colon) {
        exj_buf_add(ret, uri, (size_t)(colon + 1 - uri));
        exj_buf_add_text(ret, HIDDEN);
        rest = at;
        /* An '@' behind a '?' may stand in the middle of an option's value. */
        if (at && memchr(start, '?', (size_t)(at - start)))
            rest = strchr(at, '&');
        if (!rest)
            rest = "";
    }
    if (colon && *rest != '@') {
        add_options(rest, ret);
    } else {
        size_t n = strcspn(rest, "?");

        exj_buf_add(ret, rest, n);
        add_options(rest + n, ret);
    }
    return !ret->failed;
}
