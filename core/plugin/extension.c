/* core/plugin/extension.c - exellix.kv/1 and exellix.metrics/1 on the plugin's side. */
#include "core/plugin/extension.h"

#include <math.h>

#include "core/base/json.h"
#include "core/base/log.h"
#include "core/plugin/guest.h"
#include "exellix/ext/kv.h"
#include "exellix/ext/metrics.h"

#define NAME_MAX_BYTES 64u
#define LABEL_MAX_BYTES 32u
#define VALUE_MAX_BYTES 128u
#define LARGEST 1e15 /* a counter above it would lose whole numbers */

static bool text_is_sane(exj_str s)
{
    return (s.p || s.n == 0) && s.n <= SIZE_MAX / 4;
}

static exj_slice slice_of(exj_str s)
{
    return (exj_slice){ s.p, (size_t)s.n };
}

/* What a code of a port or a check means to the plugin. Breaking a rule is a misdeed; what
 * the world did is not. */
static exj_result judge(exj_instance *i, const char *what, exj_code code, const exj_err *err)
{
    switch (code) {
    case EXJ_OK:
        return EXJ_R_OK;
    case EXJ_NOT_FOUND:
        return EXJ_R_MISS;
    case EXJ_FENCED:
    case EXJ_CANCELLED:
        return EXJ_R_CANCELLED;
    case EXJ_UNSUPPORTED:
        return EXJ_R_UNSUPPORTED;
    case EXJ_INVALID:
        exj_misdeed(i, "%s: %s", what, err->text);
        return EXJ_R_INPUT;
    case EXJ_REFUSED:
        exj_misdeed(i, "%s: %s", what, err->text);
        return EXJ_R_FAILED;
    case EXJ_NOMEM:
    case EXJ_FULL:
    case EXJ_BUSY:
        return EXJ_R_RETRY;
    default:
        exj_log(EXJ_LOG_ERROR, "plugin", "%s: %s: %s", i->guest->id, what, err->text);
        return EXJ_R_INTERNAL;
    }
}

/* ---- exellix.kv/1 --------------------------------------------------------------------------- */

static exj_code check_key(exj_str key, exj_err *err)
{
    if (!text_is_sane(key) || key.n == 0 || key.n > EXJ_KV_KEY_MAX)
        return exj_err_set(err, EXJ_INVALID, "a key has 1 to %u bytes, not %llu",
                           EXJ_KV_KEY_MAX, (unsigned long long)key.n);
    if (!exj_utf8_is_valid(slice_of(key)))
        return exj_err_set(err, EXJ_INVALID, "a key is UTF-8, this one of %u bytes is not",
                           (unsigned)key.n);
    for (size_t k = 0; k < key.n; k++)
        if ((unsigned char)key.p[k] < 0x20 || key.p[k] == 0x7f)
            return exj_err_set(err, EXJ_INVALID, "a key has no control bytes; byte %zu is %u",
                               k, (unsigned)(unsigned char)key.p[k]);
    return EXJ_OK;
}

static exj_result kv_get(void *ctx, exj_call c, exj_str key, exj_str *ret)
{
    exj_call_slot *s = exj_call_enter(ctx, c, "kv get");
    const exj_call_ports *ports;
    exj_err err = { 0 };
    exj_code rc;
    exj_buf *value;

    if (!s)
        return EXJ_R_INTERNAL;
    ports = exj_call_ports_of(s);
    value = exj_call_lock(s);
    exj_buf_reset(value);
    rc = check_key(key, &err);
    if (!rc && !ports->kv_get)
        rc = EXJ_UNSUPPORTED;
    if (!rc)
        rc = ports->kv_get(ports->user, slice_of(key), value, &err);
    if (!rc && ret)
        *ret = (exj_str){ value->p ? value->p : "", value->n };
    exj_call_unlock(s);
    exj_call_leave(s);
    return judge(ctx, "kv get", rc, &err);
}

static exj_result kv_put(void *ctx, exj_call c, exj_str key, exj_str json)
{
    exj_call_slot *s = exj_call_enter(ctx, c, "kv put");
    const exj_call_ports *ports;
    exj_err err = { 0 };
    exj_code rc;

    if (!s)
        return EXJ_R_INTERNAL;
    ports = exj_call_ports_of(s);
    rc = check_key(key, &err);
    if (!rc && (!text_is_sane(json) || json.n > EXJ_KV_VALUE_MAX))
        rc = exj_err_set(&err, EXJ_INVALID, "key \"%.*s\": a value has %u bytes at most, not %llu",
                         (int)key.n, key.p, EXJ_KV_VALUE_MAX, (unsigned long long)json.n);
    if (!rc)
        rc = exj_json_check(slice_of(json), EXJ_JSON_MAX_DEPTH, NULL, &err);
    if (!rc && !ports->kv_put)
        rc = EXJ_UNSUPPORTED;
    if (!rc)
        rc = ports->kv_put(ports->user, slice_of(key), slice_of(json), &err);
    exj_call_leave(s);
    return judge(ctx, "kv put", rc, &err);
}

static exj_result kv_remove(void *ctx, exj_call c, exj_str key)
{
    exj_call_slot *s = exj_call_enter(ctx, c, "kv remove");
    const exj_call_ports *ports;
    exj_err err = { 0 };
    exj_code rc;

    if (!s)
        return EXJ_R_INTERNAL;
    ports = exj_call_ports_of(s);
    rc = check_key(key, &err);
    if (!rc && !ports->kv_remove)
        rc = EXJ_UNSUPPORTED;
    if (!rc)
        rc = ports->kv_remove(ports->user, slice_of(key), &err);
    exj_call_leave(s);
    return judge(ctx, "kv remove", rc, &err);
}

static exj_result kv_add(void *ctx, exj_call c, exj_str key, int64_t delta, int64_t *ret)
{
    exj_call_slot *s = exj_call_enter(ctx, c, "kv add");
    const exj_call_ports *ports;
    exj_err err = { 0 };
    int64_t sum = 0;
    exj_code rc;

    if (!s)
        return EXJ_R_INTERNAL;
    ports = exj_call_ports_of(s);
    rc = check_key(key, &err);
    if (!rc && !ports->kv_add)
        rc = EXJ_UNSUPPORTED;
    if (!rc)
        rc = ports->kv_add(ports->user, slice_of(key), delta, &sum, &err);
    if (!rc && ret)
        *ret = sum;
    exj_call_leave(s);
    return judge(ctx, "kv add", rc, &err);
}

static const exj_ext_kv kv_table = { .size_of = EXJ_SIZE(exj_ext_kv, add),
                                     .get = kv_get,
                                     .put = kv_put,
                                     .remove = kv_remove,
                                     .add = kv_add };

/* ---- exellix.metrics/1 ---------------------------------------------------------------------- */

/* Bytes of a name at `at`; 0: there is none. */
static size_t name_at(exj_slice s, size_t at)
{
    size_t n = 0;

    while (at + n < s.n) {
        char c = s.p[at + n];

        if (!(c >= 'a' && c <= 'z') && c != '_' && !(n > 0 && c >= '0' && c <= '9'))
            break;
        n++;
    }
    return n;
}

static bool ends_in(exj_slice s, const char *tail)
{
    size_t n = strlen(tail);

    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

/* Where the quoted value that begins at `at` ends (behind its quote); 0: it does not, or it
 * is too long or holds what it must not. */
static size_t value_end(exj_slice s, size_t at)
{
    size_t k = at + 1;

    if (at >= s.n || s.p[at] != '"')
        return 0;
    for (; k < s.n && s.p[k] != '"'; k++) {
        if ((unsigned char)s.p[k] < 0x20 || s.p[k] == 0x7f)
            return 0;
        if (s.p[k] == '\\') {
            k++;
            if (k == s.n || (s.p[k] != '\\' && s.p[k] != '"' && s.p[k] != 'n'))
                return 0;
        }
    }
    return k < s.n && k - at - 1 <= VALUE_MAX_BYTES ? k + 1 : 0;
}

static bool comes_after(exj_slice name, exj_slice before)
{
    size_t n = name.n < before.n ? name.n : before.n;
    int order = n ? memcmp(name.p, before.p, n) : 0;

    return order > 0 || (order == 0 && name.n > before.n);
}

static exj_code bad_series(exj_slice s, const char *why, exj_err *err)
{
    char shown[160];

    exj_clean_text(s.p, s.n, shown, sizeof shown);
    return exj_err_set(err, EXJ_INVALID, "series \"%s\": %s", shown, why);
}

exj_code exj_series_check(exj_slice s, exj_err *err)
{
    exj_slice before = { "", 0 };
    size_t at = name_at(s, 0), labels = 0;
    exj_slice name = { s.p, at };

    if (at == 0 || at > NAME_MAX_BYTES)
        return bad_series(s, "it begins with a name [a-z_][a-z0-9_]* of 1 to 64 bytes", err);
    if (ends_in(name, "_bucket") || ends_in(name, "_sum") || ends_in(name, "_count"))
        return bad_series(s, "a name must not end in _bucket, _sum or _count", err);
    if (at == s.n)
        return EXJ_OK;
    if (s.p[at] != '{')
        return bad_series(s, "a name [a-z0-9_] is followed by nothing or by {label=\"value\"}", err);
    do {
        exj_slice label = { s.p + at + 1, name_at(s, at + 1) };

        at += 1 + label.n;
        if (label.n == 0 || label.n > LABEL_MAX_BYTES)
            return bad_series(s, "a label has a name [a-z_][a-z0-9_]* of 1 to 32 bytes", err);
        if (exj_slice_is(label, "plugin") || exj_slice_is(label, "le"))
            return bad_series(s, "the labels plugin and le are the host's", err);
        if (!comes_after(label, before))
            return bad_series(s, "labels come in ascending order, each once", err);
        if (++labels > EXJ_METRIC_LABELS)
            return bad_series(s, "4 labels are the most", err);
        before = label;
        at = at < s.n && s.p[at] == '=' ? value_end(s, at + 1) : 0;
        if (at == 0)
            return bad_series(s, "a label is written name=\"value\", the value at most 128 bytes, "
                                 "with \\\\, \\\" and \\n for those three", err);
    } while (at < s.n && s.p[at] == ',');
    if (at + 1 != s.n || s.p[at] != '}')
        return bad_series(s, "labels are followed by , or by a } that ends it", err);
    if (!exj_utf8_is_valid(s))
        return bad_series(s, "its values are not UTF-8", err);
    return EXJ_OK;
}

static exj_result sample(void *ctx, exj_call c, exj_str series, exj_sample_kind kind,
                         double value, const char *what)
{
    exj_instance *i = ctx;
    exj_call_slot *s = exj_call_enter(i, c, what);
    const exj_call_ports *ports;
    exj_err err = { 0 };
    exj_code rc;

    if (!s)
        return EXJ_R_INTERNAL;
    ports = exj_call_ports_of(s);
    if (!text_is_sane(series))
        rc = exj_err_set(&err, EXJ_INVALID, "a series at NULL");
    else
        rc = exj_series_check(slice_of(series), &err);
    if (!rc && (!isfinite(value) ||
                (kind != EXJ_SAMPLE_GAUGE && !(value >= 0.0 && value <= LARGEST))))
        rc = exj_err_set(&err, EXJ_INVALID, "%g for %.*s: %s", value, (int)series.n, series.p,
                         kind == EXJ_SAMPLE_GAUGE ? "a gauge is finite" : "0 to 1e15 are allowed");
    if (!rc && !ports->metric)
        rc = EXJ_UNSUPPORTED;
    if (!rc) {
        exj_plugin_sample m = { .plugin = exj_slice_of(i->guest->id),
                                .kind = kind,
                                .series = slice_of(series),
                                .value = value };

        rc = ports->metric(ports->user, &m, &err);
    }
    exj_call_leave(s);
    return judge(i, what, rc, &err);
}

static exj_result counter_add(void *ctx, exj_call c, exj_str series, double by)
{
    return sample(ctx, c, series, EXJ_SAMPLE_COUNTER, by, "counter_add");
}

static exj_result gauge_set(void *ctx, exj_call c, exj_str series, double value)
{
    return sample(ctx, c, series, EXJ_SAMPLE_GAUGE, value, "gauge_set");
}

static exj_result observe_seconds(void *ctx, exj_call c, exj_str series, double seconds)
{
    return sample(ctx, c, series, EXJ_SAMPLE_SECONDS, seconds, "observe_seconds");
}

static const exj_ext_metrics metrics_table = {
    .size_of = EXJ_SIZE(exj_ext_metrics, observe_seconds),
    .counter_add = counter_add,
    .gauge_set = gauge_set,
    .observe_seconds = observe_seconds,
};

/* ---- by id ------------------------------------------------------------------------------------ */

const void *exj_extension_find(const char *id)
{
    if (id && strcmp(id, EXJ_EXT_KV) == 0)
        return &kv_table;
    if (id && strcmp(id, EXJ_EXT_METRICS) == 0)
        return &metrics_table;
    return NULL;
}
