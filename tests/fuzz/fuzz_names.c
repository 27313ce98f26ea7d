/* Names from outside: series of plugins' metrics, names of rows, percent-encoded parts of a target.
 * What is let through can be written into a line of metrics, spelled again, and is UTF-8 without
 * control bytes. */
#include <stdlib.h>

#include "core/http/exchange.h"
#include "core/job/record.h"
#include "core/plugin/extension.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool is_plain(exj_slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return exj_utf8_is_valid(s);
}

static bool is_name_byte(char c, bool first)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (!first && c >= '0' && c <= '9');
}

/* name{a="x",b="y"} as a reader of metrics has it. */
static void read_series(exj_slice s)
{
    size_t i = 0, from;

    must(is_plain(s));
    for (from = i; i < s.n && is_name_byte(s.p[i], i == from); i++)
        ;
    must(i > from);
    if (i == s.n)
        return;
    must(s.p[i++] == '{');
    for (;;) {
        for (from = i; i < s.n && is_name_byte(s.p[i], i == from); i++)
            ;
        must(i > from && i + 2 < s.n && s.p[i] == '=' && s.p[i + 1] == '"');
        for (i += 2; i < s.n && s.p[i] != '"'; i++)
            if (s.p[i] == '\\')
                must(++i < s.n && s.p[i] && strchr("\\\"n", s.p[i]));
        must(++i < s.n);
        if (s.p[i] == '}')
            break;
        must(s.p[i++] == ',');
    }
    must(i + 1 == s.n);
}

static void row_name(exj_slice text)
{
    exj_row_name n = { 0 };
    exj_buf again = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_code rc = exj_row_name_parse(text, &n, &err);

    must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
    if (rc)
        return;
    must(exj_row_name_add(&again, exj_slice_of(n.matrix), exj_slice_of(n.run),
                          exj_slice_of(n.graph), exj_slice_of(n.record)));
    must(exj_slice_equal(exj_buf_slice(&again), text)); /* one spelling a row */
    must(*n.matrix && *n.graph && *n.record);
    exj_row_name_release(&n);
    exj_buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* of exact length: one byte too far is seen */
    exj_slice text = { copy, size }, decoded;
    exj_buf arena = EXJ_BUF_INIT;
    exj_err err = { 0 };

    must(copy && exj_buf_reserve(&arena, size + 1));
    if (size)
        memcpy(copy, data, size);
    if (exj_series_check(text, &err) == EXJ_OK)
        read_series(text);
    else
        must(err.code == EXJ_INVALID && err.text[0]);
    row_name(text);
    if (exj_id_check(text, "it", NULL) == EXJ_OK)
        must(size >= 1 && size <= EXJ_ID_MAX_BYTES && is_plain(text));
    if (exj_percent_decode(text, size & 1, &arena, &decoded))
        must(is_plain(decoded) && decoded.n <= size);
    exj_buf_release(&arena);
    free(copy);
    return 0;
}
