#include "core/store/mongo/value.h"

#include <math.h>

#include "core/base/clock.h"

bool exj_bson_find(const bson_t *d, const char *name, bson_iter_t *ret)
{
    bson_iter_t top;

    if (!bson_iter_init(&top, d))
        return false;
    if (strchr(name, '.'))
        return bson_iter_find_descendant(&top, name, ret);
    *ret = top;
    return bson_iter_find(ret, name);
}

bool exj_bson_has(const bson_t *d, const char *name)
{
    bson_iter_t it;

    return exj_bson_find(d, name, &it) && !BSON_ITER_HOLDS_NULL(&it);
}

bool exj_bson_iter_i64(const bson_iter_t *it, int64_t *ret)
{
    double real;

    if (BSON_ITER_HOLDS_INT32(it) || BSON_ITER_HOLDS_INT64(it)) {
        *ret = bson_iter_as_int64(it);
        return true;
    }
    if (!BSON_ITER_HOLDS_DOUBLE(it))
        return false;
    real = bson_iter_double(it);
    /* 2^63 is a double, the greatest int64 is none. */
    if (!(real >= -0x1p63 && real < 0x1p63) || trunc(real) != real)
        return false;
    *ret = (int64_t)real;
    return true;
}

int64_t exj_bson_i64(const bson_t *d, const char *name, int64_t nothing)
{
    bson_iter_t it;
    int64_t v;

    return exj_bson_find(d, name, &it) && exj_bson_iter_i64(&it, &v) ? v : nothing;
}

exj_msec exj_bson_msec(const bson_t *d, const char *name)
{
    bson_iter_t it;
    exj_msec at = 0;

    if (!exj_bson_find(d, name, &it))
        return 0;
    if (BSON_ITER_HOLDS_DATE_TIME(&it))
        return bson_iter_date_time(&it);
    if (BSON_ITER_HOLDS_UTF8(&it))
        return exj_clock_parse(exj_bson_iter_text(&it), &at) ? at : 0;
    return exj_bson_iter_i64(&it, &at) ? at : 0;
}

double exj_bson_real(const bson_t *d, const char *name, double nothing)
{
    bson_iter_t it;

    if (!exj_bson_find(d, name, &it) ||
        !(BSON_ITER_HOLDS_INT32(&it) || BSON_ITER_HOLDS_INT64(&it) || BSON_ITER_HOLDS_DOUBLE(&it)))
        return nothing;
    return bson_iter_as_double(&it);
}

bool exj_bson_bool(const bson_t *d, const char *name)
{
    bson_iter_t it;

    return exj_bson_find(d, name, &it) && bson_iter_as_bool(&it);
}

exj_slice exj_bson_iter_text(const bson_iter_t *it)
{
    uint32_t n = 0;
    const char *p = NULL;

    if (BSON_ITER_HOLDS_UTF8(it))
        p = bson_iter_utf8(it, &n);
    else if (BSON_ITER_HOLDS_SYMBOL(it))
        p = bson_iter_symbol(it, &n);
    return (exj_slice){ p, p ? n : 0 };
}

exj_slice exj_bson_text(const bson_t *d, const char *name)
{
    bson_iter_t it;

    return exj_bson_find(d, name, &it) ? exj_bson_iter_text(&it) : (exj_slice){ NULL, 0 };
}

void exj_bson_add_text(bson_t *d, const char *name, exj_slice text)
{
    bson_append_utf8(d, name, -1, text.p ? text.p : "", (int)text.n);
}

void exj_bson_add_msec(bson_t *d, const char *name, exj_msec at)
{
    bson_append_date_time(d, name, -1, at);
}
