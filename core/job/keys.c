#include "core/job/keys.h"

#include <stdlib.h>

#include "core/base/clock.h"

#define INSTANT_MAX_MS 253402300799999 /* the end of the year 9999 */
#define QUOTE_BYTES 64                 /* of a stranger's value in a message */

static int quote_len(exj_slice s)
{
    return (int)(s.n < QUOTE_BYTES ? s.n : QUOTE_BYTES);
}

void exj_key_fields_release(exj_key_fields *f)
{
    free(f->unique);
    free(f->concurrency);
    free(f->priority);
    free(f->run_after);
    *f = (exj_key_fields){ 0 };
}

void exj_row_keys_release(exj_row_keys *k)
{
    free(k->owned[0]);
    free(k->owned[1]);
    *k = (exj_row_keys){ 0 };
}

static exj_code check_key(exj_slice key, const char *what, exj_err *err)
{
    if (key.n == 0)
        return exj_err_set(err, EXJ_INVALID, "%s is empty; 1 to %u bytes are wanted, or null",
                           what, EXJ_KEY_MAX_BYTES);
    if (key.n > EXJ_KEY_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID, "%s has %zu bytes; at most %u are allowed", what,
                           key.n, EXJ_KEY_MAX_BYTES);
    return EXJ_OK;
}

exj_code exj_key_of_json(exj_slice value, exj_json_kind kind, const char *what, exj_slice *ret,
                         char **ret_owned, exj_err *err)
{
    exj_buf plain = EXJ_BUF_INIT;
    exj_slice key = value;
    exj_code rc;

    *ret_owned = NULL;
    if (kind != EXJ_JSON_STRING && kind != EXJ_JSON_INTEGER && kind != EXJ_JSON_REAL)
        return exj_err_set(err, EXJ_INVALID, "%s: found %.*s; a text or a number is wanted",
                           what, quote_len(value), value.p);
    if (kind == EXJ_JSON_STRING) {
        key = (exj_slice){ value.p + 1, value.n - 2 };
        if (memchr(key.p, '\\', key.n)) {
            if (!exj_json_unescape(value, &plain)) {
                exj_buf_release(&plain);
                return exj_err_set(err, EXJ_NOMEM, "out of memory");
            }
            key = exj_buf_slice(&plain);
        }
    }
    rc = check_key(key, what, err);
    if (rc == EXJ_OK) {
        *ret = key;
        *ret_owned = exj_buf_take(&plain);
    }
    exj_buf_release(&plain);
    return rc;
}

/* Checked JSON integers fit. */
static int64_t integer_of(exj_slice digits)
{
    char text[32] = { 0 };

    memcpy(text, digits.p, digits.n < sizeof(text) - 1 ? digits.n : sizeof(text) - 1);
    return strtoll(text, NULL, 10);
}

exj_code exj_priority_of_json(exj_slice value, exj_json_kind kind, const char *what,
                              int32_t *ret, exj_err *err)
{
    int64_t v = kind == EXJ_JSON_INTEGER ? integer_of(value) : EXJ_PRIORITY_LIMIT + 1;

    if (v < -EXJ_PRIORITY_LIMIT || v > EXJ_PRIORITY_LIMIT)
        return exj_err_set(err, EXJ_INVALID,
                           "%s: found %.*s; a whole number from -%d to %d is wanted", what,
                           quote_len(value), value.p, EXJ_PRIORITY_LIMIT, EXJ_PRIORITY_LIMIT);
    *ret = (int32_t)v;
    return EXJ_OK;
}

exj_code exj_instant_of_text(exj_slice text, const char *what, exj_msec *ret, exj_err *err)
{
    exj_msec at = 0;
    bool good = text.n > 0 && text.n < 16;

    for (size_t i = 0; i < text.n && good; i++)
        good = text.p[i] >= '0' && text.p[i] <= '9';
    if (good)
        at = integer_of(text);
    else if (!exj_clock_parse(text, &at))
        at = -1;
    if (at < 0 || at > INSTANT_MAX_MS)
        return exj_err_set(err, EXJ_INVALID,
                           "%s: found \"%.*s\"; wanted an instant such as "
                           "2026-01-02T03:04:05Z, or milliseconds since 1970",
                           what, quote_len(text), text.n ? text.p : "");
    *ret = at;
    return EXJ_OK;
}

exj_code exj_instant_of_json(exj_slice value, exj_json_kind kind, const char *what,
                             exj_msec *ret, exj_err *err)
{
    if (kind == EXJ_JSON_STRING)
        value = (exj_slice){ value.p + 1, value.n - 2 };
    else if (kind != EXJ_JSON_INTEGER)
        return exj_err_set(err, EXJ_INVALID,
                           "%s: found %.*s; wanted an instant such as "
                           "\"2026-01-02T03:04:05Z\", or milliseconds since 1970",
                           what, quote_len(value), value.p);
    return exj_instant_of_text(value, what, ret, err);
}

static bool is_field(const char *name, const exj_json_iter *it)
{
    return name && exj_json_key_is(it->key, name);
}

exj_code exj_row_keys_read(const exj_key_fields *f, exj_slice record, exj_row_keys *ret,
                           exj_err *err)
{
    exj_code rc = EXJ_OK;
    exj_json_iter it;

    *ret = (exj_row_keys){ 0 };
    if (!f->unique && !f->concurrency && !f->priority && !f->run_after)
        return EXJ_OK;
    exj_json_iter_init(&it, record);
    while (rc == EXJ_OK && exj_json_iter_next(&it)) {
        if (it.kind == EXJ_JSON_NULL)
            continue;
        if (is_field(f->unique, &it)) {
            free(ret->owned[0]);
            rc = exj_key_of_json(it.value, it.kind, f->unique, &ret->unique, &ret->owned[0],
                                 err);
        }
        if (rc == EXJ_OK && is_field(f->concurrency, &it)) {
            free(ret->owned[1]);
            rc = exj_key_of_json(it.value, it.kind, f->concurrency, &ret->concurrency,
                                 &ret->owned[1], err);
        }
        if (rc == EXJ_OK && is_field(f->priority, &it)) {
            rc = exj_priority_of_json(it.value, it.kind, f->priority, &ret->priority, err);
            ret->has_priority = rc == EXJ_OK;
        }
        if (rc == EXJ_OK && is_field(f->run_after, &it))
            rc = exj_instant_of_json(it.value, it.kind, f->run_after, &ret->run_after, err);
    }
    return rc;
}
