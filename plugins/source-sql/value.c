/* What SQLite holds, as JSON; and keys, as texts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"

/* UTF-8 without NUL? */
static bool is_text(const unsigned char *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t len = p[at] < 0x80 ? 1 : p[at] < 0xc2 ? 0 : p[at] < 0xe0 ? 2 : p[at] < 0xf0 ? 3 : p[at] < 0xf5 ? 4 : 0;

        if (len == 0 || len > n - at || p[at] == 0)
            return false;
        for (size_t k = 1; k < len; k++)
            if ((p[at + k] & 0xc0) != 0x80)
                return false;
        if ((p[at] == 0xe0 && p[at + 1] < 0xa0) || (p[at] == 0xed && p[at + 1] > 0x9f) ||
            (p[at] == 0xf0 && p[at + 1] < 0x90) || (p[at] == 0xf4 && p[at + 1] > 0x8f))
            return false;
        at += len;
    }
    return true;
}

/* The shortest digits that are this number; with a point, so that it stays a real. */
static void put_real(exj_json_out *o, const char *name, double v)
{
    char text[40];

    for (int digits = 15; digits <= 17; digits++) {
        sqlite3_snprintf(sizeof text, text, "%!.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    if (!strpbrk(text, ".e"))
        strcat(text, ".0");
    exj_json_put_raw(o, name, exj_text(text));
}

static void put_base64(exj_json_out *o, const char *name, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    exj_json_put_raw(o, name, exj_text("\""));
    for (size_t k = 0; k < n; k += 3) {
        size_t left = n - k < 3 ? n - k : 3;
        uint32_t v = 0;
        char four[4];

        for (size_t m = 0; m < 3; m++)
            v = v << 8 | (m < left ? p[k + m] : 0u);
        for (size_t m = 0; m < 4; m++)
            four[m] = m <= left ? digits[v >> (18 - 6 * m) & 63] : '=';
        exj_json_add_(o, four, 4);
    }
    exj_json_add_(o, "\"", 1);
}

bool exj_sql_put_value(exj_sql_run *r, sqlite3_stmt *s, int at, char why[EXJ_SQL_WHY_BYTES])
{
    const char *name = sqlite3_column_name(s, at);
    int type = sqlite3_column_type(s, at);
    const unsigned char *p;
    const char *wrong = NULL;
    size_t n;

    if (type == SQLITE_INTEGER) {
        exj_json_put_i64(&r->record, name, sqlite3_column_int64(s, at));
    } else if (type == SQLITE_NULL) {
        exj_json_put_null(&r->record, name);
    } else if (type == SQLITE_FLOAT) {
        double v = sqlite3_column_double(s, at);

        if (isfinite(v))
            put_real(&r->record, name, v);
        else
            wrong = "an infinite number, which JSON has not: leave it out with CASE or nullif()";
    } else {
        p = type == SQLITE_TEXT ? sqlite3_column_text(s, at) : sqlite3_column_blob(s, at);
        n = (size_t)sqlite3_column_bytes(s, at);
        if (!p && n) {
            snprintf(why, EXJ_SQL_WHY_BYTES, EXJ_SQL_NO_MEMORY);
            return false;
        }
        if (n > (size_t)r->ask->text_bytes)
            wrong = "longer than input.maxTextBytes: take a part of it with substr()";
        else if (type == SQLITE_BLOB)
            put_base64(&r->record, name, p, n);
        else if (!is_text(p, n))
            wrong = "a text that is no UTF-8, or holds a NUL: select hex() of it, or "
                    "CAST(… AS BLOB)";
        else
            exj_json_put_string(&r->record, name, (exj_str){ (const char *)p, n });
    }
    if (wrong)
        snprintf(why, EXJ_SQL_WHY_BYTES, "column \"%.80s\": %s", name, wrong);
    return !wrong;
}

/* ---- keys --------------------------------------------------------------------------------------- */

bool exj_sql_key_write(exj_json_out *ret, sqlite3_stmt *s, int at, char why[EXJ_SQL_WHY_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    int type = sqlite3_column_type(s, at);
    const unsigned char *p;
    double real;
    char text[48] = "";
    size_t n;

    exj_json_out_reset(ret);
    if (type == SQLITE_NULL) {
        snprintf(why, EXJ_SQL_WHY_BYTES, "is NULL: rows without a key cannot be paged; leave them "
                                         "out (WHERE … IS NOT NULL) or name another column");
        return false;
    }
    if (type == SQLITE_INTEGER) {
        snprintf(text, sizeof text, "i%lld", (long long)sqlite3_column_int64(s, at));
    } else if (type == SQLITE_FLOAT) {
        real = sqlite3_column_double(s, at);
        if (fabs(real) < 9e15 && real >= floor(real) && real <= floor(real)) /* 1.0 is 1 */
            snprintf(text, sizeof text, "i%lld", (long long)real);
        else
            snprintf(text, sizeof text, "r%a", real);
    } else {
        p = sqlite3_column_blob(s, at);
        n = (size_t)sqlite3_column_bytes(s, at);
        if (n > EXJ_SQL_NAME_BYTES) {
            snprintf(why, EXJ_SQL_WHY_BYTES, "has %zu bytes; at most %d are wanted of a key", n,
                     EXJ_SQL_NAME_BYTES);
            return false;
        }
        exj_json_add_(ret, type == SQLITE_TEXT ? "t" : "b", 1);
        for (size_t k = 0; k < n; k++) {
            char two[2] = { hex[p[k] >> 4], hex[p[k] & 15] };

            exj_json_add_(ret, two, 2);
        }
    }
    exj_json_add_(ret, text, strlen(text));
    exj_json_add_(ret, "", 1); /* NUL-terminated */
    if (ret->failed)
        snprintf(why, EXJ_SQL_WHY_BYTES, EXJ_SQL_NO_MEMORY);
    return !ret->failed;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool exj_sql_key_bind(sqlite3_stmt *s, int at, const char *key, bool *ret_memory)
{
    exj_str number = { key + 1, strlen(key + 1) };
    unsigned char bytes[EXJ_SQL_NAME_BYTES + 1];
    size_t n = strlen(key + 1) / 2;
    int64_t whole;
    double real;
    char *end;
    int rc = SQLITE_MISUSE;

    *ret_memory = false;
    if (*key == 'i' && exj_json_to_i64(number, &whole)) {
        rc = sqlite3_bind_int64(s, at, whole);
    } else if (*key == 'r' && number.n) {
        real = strtod(key + 1, &end);
        rc = *end ? SQLITE_MISUSE : sqlite3_bind_double(s, at, real);
    } else if ((*key == 't' || *key == 'b') && n <= EXJ_SQL_NAME_BYTES && number.n % 2 == 0) {
        for (size_t k = 0; k < n; k++) {
            int high = digit(key[1 + 2 * k]), low = digit(key[2 + 2 * k]);

            if (high < 0 || low < 0)
                return false;
            bytes[k] = (unsigned char)(high << 4 | low);
        }
        rc = *key == 't' ? sqlite3_bind_text(s, at, (const char *)bytes, (int)n, SQLITE_TRANSIENT)
                         : sqlite3_bind_blob(s, at, bytes, (int)n, SQLITE_TRANSIENT);
    }
    *ret_memory = rc == SQLITE_NOMEM;
    return rc == SQLITE_OK;
}

int exj_sql_param_bind(sqlite3_stmt *s, int at, exj_str value)
{
    int64_t whole;
    char digits[64];
    bool memory;
    size_t n;
    char *text;
    int rc;

    switch (exj_json_type(value)) {
    case 't':
    case 'f':
        return sqlite3_bind_int(s, at, *value.p == 't');
    case 'n':
        return sqlite3_bind_null(s, at);
    case '0':
        if (exj_json_to_i64(value, &whole))
            return sqlite3_bind_int64(s, at, whole);
        snprintf(digits, sizeof digits, "%.*s", value.n < 63 ? (int)value.n : 63, value.p);
        return sqlite3_bind_double(s, at, strtod(digits, NULL));
    default:
        text = exj_sql_text_of(value, &n, &memory);
        if (!text)
            return memory ? SQLITE_NOMEM : SQLITE_MISMATCH;
        rc = sqlite3_bind_text(s, at, text, (int)n, SQLITE_TRANSIENT);
        free(text);
        return rc;
    }
}
