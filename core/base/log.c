#include "core/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/utf8.h"

#define LINE_BYTES 8192
#define TAIL_BYTES 16 /* room kept for the mark of a cut and the end of the line */

static const char *const level_names[] = { "debug", "info", "warn", "error" };

/* Set before threads start, then read-only. */
static exj_log_level least_level = EXJ_LOG_INFO;
static enum { FORM_UNKNOWN, FORM_TEXT, FORM_JSON } chosen_form = FORM_UNKNOWN;
static void (*diverted)(exj_log_level level, const char *area, const char *message);

void exj_log_divert(void (*to)(exj_log_level level, const char *area, const char *message))
{
    diverted = to;
}

void exj_log_setup(exj_log_level least, bool json)
{
    least_level = least;
    chosen_form = json ? FORM_JSON : FORM_TEXT;
}

bool exj_log_parse_level(const char *name, exj_log_level *ret)
{
    for (size_t i = 0; name && i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret = (exj_log_level)i;
            return true;
        }
    }
    return false;
}

struct line {
    size_t n;
    bool cut;
    char p[LINE_BYTES];
};

static void put(struct line *l, const char *p, size_t n, size_t limit)
{
    if (l->cut || n > limit - l->n) {
        l->cut = true;
        return;
    }
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, strlen(text), LINE_BYTES);
}

/* Nothing that is not printed by a terminal as itself, and in JSON nothing that ends the
 * string: a message quotes what others sent. A message that is too long ends in "…". */
static void put_escaped(struct line *l, const char *text, bool json)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n && !l->cut;) {
        unsigned char c = (unsigned char)text[i];
        unsigned len = exj_utf8_len(text + i, n - i);
        char escape[8];
        int e;

        if (len > 1 || (len == 1 && c >= 0x20 && c != 0x7f &&
                        !(json && (c == '"' || c == '\\')))) {
            put(l, text + i, len, LINE_BYTES - TAIL_BYTES);
            i += len;
            continue;
        }
        if (json && (c == '"' || c == '\\'))
            e = snprintf(escape, sizeof(escape), "\\%c", c);
        else if (json && len == 0)
            e = snprintf(escape, sizeof(escape), "\\\\x%02x", c); /* text: \xNN */
        else if (json)
            e = snprintf(escape, sizeof(escape), "\\u%04x", c);
        else
            e = snprintf(escape, sizeof(escape), "\\x%02x", c);
        put(l, escape, (size_t)e, LINE_BYTES - TAIL_BYTES);
        i++;
    }
    if (l->cut) {
        l->cut = false;
        put_text(l, "\xe2\x80\xa6");
    }
}

void exj_log(exj_log_level level, const char *area, const char *format, ...)
{
    int saved_errno = errno;
    char message[LINE_BYTES], at[EXJ_TIME_TEXT_BYTES], area_cut[65];
    struct line l;
    va_list ap;
    bool json;

    if (level < least_level || level > EXJ_LOG_ERROR)
        return;
    va_start(ap, format);
    if (vsnprintf(message, sizeof(message), format, ap) < 0)
        message[0] = '\0';
    va_end(ap);
    if (diverted) {
        diverted(level, area ? area : "", message);
        errno = saved_errno;
        return;
    }
    json = chosen_form == FORM_JSON || (chosen_form == FORM_UNKNOWN && !isatty(STDERR_FILENO));
    snprintf(area_cut, sizeof(area_cut), "%s", area ? area : "");
    exj_clock_format(exj_clock_wall_ms(), at);

    l.n = 0;
    l.cut = false;
    if (json) {
        put_text(&l, "{\"ts\":\"");
        put_text(&l, at);
        put_text(&l, "\",\"level\":\"");
        put_text(&l, level_names[level]);
        put_text(&l, "\",\"area\":\"");
        put_escaped(&l, area_cut, true);
        put_text(&l, "\",\"msg\":\"");
        put_escaped(&l, message, true);
        put_text(&l, "\"}\n");
    } else {
        at[23] = '\0';
        put_text(&l, at + 11);
        put_text(&l, level >= EXJ_LOG_WARN ? (level == EXJ_LOG_WARN ? " warn  " : " error ")
                                           : (level == EXJ_LOG_INFO ? " info  " : " debug "));
        put_escaped(&l, area_cut, false);
        put_text(&l, ": ");
        put_escaped(&l, message, false);
        put_text(&l, "\n");
    }
    /* A log that cannot be written must not stop the work: no second try. */
    if (write(STDERR_FILENO, l.p, l.n) < 0)
        (void)0;
    errno = saved_errno;
}
