/* The readers of plugins/source-file. Rows of CSV: whatever the text, a row ends further on, its
 * fields lie in it, it is the same however much of the text is at hand, and written anew it is read
 * again as what it was. Lines of JSON: what is taken for a record is one for the worker, too.
 * The first byte chooses: JSON, or the delimiter and quote of CSV.
 *
 * sources: plugins/source-file/csv.c plugins/source-file/json_record.c
 * options: -max_len=2048
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/job/record.h"
#include "plugins/source-file/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(x)                                                                          \
    do {                                                                                  \
        if (!(x))                                                                         \
            abort();                                                                      \
    } while (0)

static exj_src_csv_row row, part, again;

static void check_trouble(const exj_src_trouble *t)
{
    HOLDS(t->reason[0] && strlen(t->reason) < EXJ_SRC_REASON_BYTES);
}

/* ---- CSV ---------------------------------------------------------------------------------------- */

static bool same(const exj_src_csv_row *a, const exj_src_csv_row *b)
{
    return a->n == b->n && a->used == b->used &&
           memcmp(a->fields, b->fields, a->n * sizeof *a->fields) == 0;
}

/* With less of the text the answer is the same, or "more". */
static void check_parts(const exj_src_csv_rule *rule, const char *p, size_t n, exj_src_got whole)
{
    exj_src_trouble t;

    for (size_t m = 0; m < n; m += 1 + n / 16) {
        exj_src_got got = exj_src_csv_read(rule, p, m, false, &part, &t);

        HOLDS(got == EXJ_SRC_MORE || (got == whole && part.used == row.used));
        HOLDS(got != EXJ_SRC_ROW || same(&part, &row));
    }
}

/* Written as RFC 4180 wants it, a row is read as the same fields. */
static void check_again(const exj_src_csv_rule *rule, const char *p)
{
    char *text = malloc(2 * row.used + 3 * row.n + 2), *buf = malloc(2 * row.used + 1),
         *back = malloc(2 * row.used + 1);
    exj_src_trouble t;
    size_t n = 0;

    HOLDS(text && buf && back);
    for (size_t k = 0; k < row.n; k++) {
        exj_str s = exj_src_csv_text(rule, p, &row.fields[k], buf);

        HOLDS(s.n <= row.fields[k].n && row.fields[k].at + row.fields[k].n <= row.used);
        if (k)
            text[n++] = rule->delimiter;
        text[n++] = rule->quote;
        for (uint64_t c = 0; c < s.n; c++) {
            if (s.p[c] == rule->quote)
                text[n++] = rule->quote;
            text[n++] = s.p[c];
        }
        text[n++] = rule->quote;
    }
    text[n++] = '\n';
    HOLDS(exj_src_csv_read(rule, text, n, false, &again, &t) == EXJ_SRC_ROW);
    HOLDS(again.used == n && again.n == row.n && !again.is_open);
    for (size_t k = 0; k < row.n; k++) {
        exj_str was = exj_src_csv_text(rule, p, &row.fields[k], buf);
        exj_str is = exj_src_csv_text(rule, text, &again.fields[k], back);

        HOLDS(was.n == is.n && memcmp(was.p, is.p, (size_t)is.n) == 0);
    }
    free(text);
    free(buf);
    free(back);
}

static void csv(const exj_src_csv_rule *rule, const char *p, size_t n)
{
    while (n) {
        exj_src_trouble t = { 0 };
        exj_src_got got = exj_src_csv_read(rule, p, n, true, &row, &t);

        HOLDS(got != EXJ_SRC_MORE && row.used > 0 && row.used <= n);
        if (got == EXJ_SRC_BAD) {
            check_trouble(&t);
            HOLDS(t.column >= 1);
        }
        check_parts(rule, p, n, got);
        if (got == EXJ_SRC_ROW && rule->quote)
            check_again(rule, p);
        p += row.used;
        n -= row.used;
    }
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static void json(const char *p, size_t n)
{
    exj_src_trouble t = { 0 };
    exj_err err = { 0 };
    exj_str record;

    if (exj_src_json_record((exj_str){ p, n }, &record, &t)) {
        HOLDS(record.p >= p && record.p + record.n <= p + n);
        HOLDS(exj_record_check((exj_slice){ record.p, (size_t)record.n }, &err) == EXJ_OK);
        return;
    }
    check_trouble(&t);
    HOLDS(t.column >= 1);
    /* Where we are stricter. */
    HOLDS(exj_record_check((exj_slice){ p, n }, NULL) != EXJ_OK || strstr(t.reason, "comes twice") ||
          strstr(t.reason, "nested deeper") || strstr(t.reason, "too large for a double"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const exj_src_csv_rule rules[] = { { ',', '"' }, { ';', '\'' }, { '\t', '\0' } };
    char *text;

    if (size == 0)
        return 0;
    text = malloc(size); /* to the byte: a reader that goes too far is seen */
    HOLDS(text);
    memcpy(text, data + 1, size - 1);
    if (data[0] % 4 == 0)
        json(text, size - 1);
    else
        csv(&rules[data[0] % 4 - 1], text, size - 1);
    free(text);
    return 0;
}
