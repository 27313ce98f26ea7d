/* `.env` files: keys and values without NUL, lines in order, values no longer than their line, and
 * what is written again quoted is read as the same.
 * sources: core/main/dotenv.c */
#include <stdlib.h>

#include "core/main/dotenv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

struct seen {
    unsigned line, n;
    size_t bytes;
    exj_buf again;
};

static exj_code take(void *user, const char *key, const char *value, unsigned line, exj_err *err)
{
    struct seen *s = user;

    must(line > s->line && line <= 1000 && *key);
    must(strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
         strlen(key));
    must(*key < '0' || *key > '9');
    must(exj_utf8_is_valid(exj_slice_of(value)));
    s->line = line;
    s->n++;
    s->bytes += strlen(key) + strlen(value) + 1;
    exj_buf_printf(&s->again, "%s=\"", key);
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            exj_buf_add_text(&s->again, "\\n");
        else if (*c == '"' || *c == '\\')
            exj_buf_printf(&s->again, "\\%c", *c);
        else
            exj_buf_add_char(&s->again, *c);
    }
    exj_buf_add_text(&s->again, "\"\n");
    if (s->n == 500)
        return exj_err_set(err, EXJ_REFUSED, "enough");
    return EXJ_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* of exact length: one byte too far is seen */
    struct seen one = { .again = EXJ_BUF_INIT }, two = { .again = EXJ_BUF_INIT };
    exj_err err = { 0 };
    exj_code rc;

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    rc = exj_dotenv_parse((exj_slice){ copy, size }, take, &one, &err);
    must(rc == EXJ_OK || rc == EXJ_INVALID || (rc == EXJ_REFUSED && one.n == 500));
    must(rc == EXJ_OK || (rc == err.code && err.text[0]));
    must(one.bytes <= size);
    rc = exj_dotenv_parse(exj_buf_slice(&one.again), take, &two, NULL);
    must(rc == EXJ_OK || (rc == EXJ_REFUSED && two.n == 500));
    must(one.n == two.n && exj_slice_equal(exj_buf_slice(&one.again), exj_buf_slice(&two.again)));
    exj_buf_release(&one.again);
    exj_buf_release(&two.again);
    free(copy);
    return 0;
}
