#include "core/base/err.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/json.h"
#include "core/base/utf8.h"

static const char *const code_names[] = {
    [EXJ_OK] = "EXJ_OK",
    [EXJ_NOMEM] = "EXJ_NOMEM",
    [EXJ_INVALID] = "EXJ_INVALID",
    [EXJ_NOT_FOUND] = "EXJ_NOT_FOUND",
    [EXJ_CONFLICT] = "EXJ_CONFLICT",
    [EXJ_FENCED] = "EXJ_FENCED",
    [EXJ_FULL] = "EXJ_FULL",
    [EXJ_BUSY] = "EXJ_BUSY",
    [EXJ_REFUSED] = "EXJ_REFUSED",
    [EXJ_UNSUPPORTED] = "EXJ_UNSUPPORTED",
    [EXJ_CANCELLED] = "EXJ_CANCELLED",
    [EXJ_IO] = "EXJ_IO",
    [EXJ_UNKNOWN] = "EXJ_UNKNOWN",
    [EXJ_CORRUPT] = "EXJ_CORRUPT",
    [EXJ_BUG] = "EXJ_BUG",
};

const char *exj_code_name(exj_code code)
{
    if ((size_t)code >= sizeof(code_names) / sizeof(code_names[0]))
        return "EXJ_?";
    return code_names[code];
}

/* Texts quote what others sent: whatever that was, the message stays UTF-8. `was_cut` tells
 * that a broken character at the very end is our doing and is left away. */
static void make_utf8(char *text, bool was_cut)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n;) {
        unsigned len = exj_utf8_len(text + i, n - i);

        if (len > 0) {
            i += len;
        } else if (was_cut && n - i < 4 && (unsigned char)text[i] >= 0xc2) {
            text[i] = '\0';
            return;
        } else {
            text[i++] = '?';
        }
    }
}

exj_code exj_err_set(exj_err *err, exj_code code, const char *format, ...)
{
    va_list ap;
    int n;

    if (code == EXJ_NOMEM && err)
        exj_json_told_short();
    if (!err || err->code != EXJ_OK)
        return code;
    va_start(ap, format);
    n = vsnprintf(err->text, sizeof(err->text), format, ap);
    va_end(ap);
    if (n < 0)
        err->text[0] = '\0';
    err->code = code;
    make_utf8(err->text, n >= (int)sizeof(err->text));
    return code;
}

exj_code exj_err_prefix(exj_err *err, const char *format, ...)
{
    char old[EXJ_ERR_TEXT_BYTES];
    va_list ap;
    size_t at, room;
    int n;

    if (!err || err->code == EXJ_OK)
        return EXJ_OK;
    memcpy(old, err->text, sizeof(old));
    old[sizeof(old) - 1] = '\0';
    va_start(ap, format);
    n = vsnprintf(err->text, sizeof(err->text), format, ap);
    va_end(ap);
    if (n < 0)
        err->text[0] = '\0';
    at = strlen(err->text);
    room = sizeof(err->text) - at;
    n = snprintf(err->text + at, room, ": %s", old);
    make_utf8(err->text, n >= 0 && (size_t)n >= room);
    return err->code;
}

void exj_err_clear(exj_err *err)
{
    if (err) {
        err->code = EXJ_OK;
        err->text[0] = '\0';
    }
}
