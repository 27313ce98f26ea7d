/* BSON to JSON: libbson's iterators walk (they stay inside of the bytes, whatever these say), with
 * one frame a level. */
#include "core/store/mongo/transcode_inside.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/utf8.h"

#define PATH_BYTES 240u
#define UUID_BYTES 16u

struct frame {
    bson_iter_t it;
    const char *key;   /* of the member at hand, borrowed; NULL before the first */
    const char *close; /* what ends it in the text */
    size_t keys;       /* how many keys there were when it opened */
    unsigned weight;   /* levels that it is in the text */
    bool is_array, has_member;
};

struct decoder {
    exj_buf *out;
    size_t base, most;
    unsigned depth, nested, max_nested; /* frames; levels of the text */
    const char *root;   /* key of the value at hand, or NULL: a document */
    const char *origin; /* keys are counted from here */
    exj_bson_keys keys;
    exj_err *err;
    struct frame frames[EXJ_BSON_MAX_DEPTH];
};

/* ---- messages -------------------------------------------------------------------------------- */

/* Append as much of a key as there is room for; what would spoil a message becomes '?'. */
static size_t add_key(char *path, size_t at, const char *key)
{
    size_t n = strlen(key);

    for (size_t i = 0; i < n;) {
        unsigned len = exj_utf8_len(key + i, n - i);
        bool is_odd = len == 0 || (len == 1 && ((unsigned char)key[i] < 0x20 || key[i] == 0x7f));

        if (at + 8 > PATH_BYTES) { /* room for "…" and the NUL */
            memcpy(path + at, "\xe2\x80\xa6", 3);
            return PATH_BYTES;
        }
        if (is_odd)
            path[at++] = '?';
        else
            memcpy(path + at, key + i, len), at += len;
        i += len ? len : 1;
    }
    return at;
}

static void path_of(const struct decoder *d, char ret[PATH_BYTES])
{
    size_t at = 0;
    bool is_first = true;

    memset(ret, 0, PATH_BYTES);
    for (unsigned i = 0; i <= d->depth && at < PATH_BYTES - 8; i++) {
        const char *key = i == 0 ? d->root : d->frames[i - 1].key;

        if (!key)
            continue;
        if (!is_first)
            ret[at++] = '.';
        is_first = false;
        at = add_key(ret, at, key);
    }
}

static exj_code refuse(struct decoder *d, exj_code code, const char *cause)
{
    char path[PATH_BYTES];

    path_of(d, path);
    return exj_err_set(d->err, code, "%s%s%s: %s", path[0] ? "member '" : "the document", path,
                       path[0] ? "'" : "", cause);
}

static exj_code no_memory(struct decoder *d)
{
    return exj_err_set(d->err, EXJ_NOMEM, "out of memory while BSON is made JSON");
}

/* ---- scalars --------------------------------------------------------------------------------- */

static exj_code put(struct decoder *d, const char *p, size_t n)
{
    return exj_buf_add(d->out, p, n) ? EXJ_OK : no_memory(d);
}

static exj_code put_word(struct decoder *d, const char *word)
{
    return put(d, word, strlen(word));
}

/* 0: as it is; a letter: behind a backslash; 1: \u00xx; 2: not ASCII */
static const char escapes[256] = {
    [0] = 1,     1,  1,         1,    1,         1,    1,         1,
    [8] = 'b',   't', 'n',      1,    'f',       'r',  1,         1,
    [16] = 1,    1,  1,         1,    1,         1,    1,         1,
    [24] = 1,    1,  1,         1,    1,         1,    1,         1,
    ['"'] = '"', ['\\'] = '\\', [0x80 ... 0xff] = 2,
};

static exj_code put_text(struct decoder *d, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    exj_buf *out = d->out;
    size_t done = 0, i = 0; /* bytes [done, i) are as they are and not yet there */

    if (!exj_buf_reserve(out, n + 2))
        return no_memory(d);
    exj_buf_add_char(out, '"');
    for (;;) {
        char how, text[6] = "\\u00";
        unsigned char c;
        unsigned len;

        while (i < n && escapes[(unsigned char)p[i]] == 0)
            i++;
        if (i == n)
            break;
        c = (unsigned char)p[i];
        how = escapes[c];
        if (how == 2) {
            len = exj_utf8_len(p + i, n - i);
            if (len == 0)
                return refuse(d, EXJ_INVALID, "bytes that are not UTF-8");
            i += len;
            continue;
        }
        if (c == 0)
            return refuse(d, EXJ_INVALID, "a NUL in a string");
        exj_buf_add(out, p + done, i - done);
        done = ++i;
        text[1] = how == 1 ? 'u' : how;
        text[4] = hex[c >> 4];
        text[5] = hex[c & 15];
        exj_buf_add(out, text, how == 1 ? 6 : 2);
    }
    exj_buf_add(out, p + done, n - done);
    return exj_buf_add_char(out, '"') ? EXJ_OK : no_memory(d);
}

static exj_code put_c_text(struct decoder *d, const char *text)
{
    return put_text(d, text, strlen(text));
}

static exj_code put_integer(struct decoder *d, int64_t v)
{
    return exj_buf_add_i64(d->out, v) ? EXJ_OK : no_memory(d);
}

static exj_code put_real(struct decoder *d, double v)
{
    char text[EXJ_REAL_TEXT_BYTES];

    if (!__builtin_isfinite(v))
        return refuse(d, EXJ_INVALID, __builtin_isnan(v)
                                          ? "NaN is no number of JSON; write null instead"
                                          : "an infinite number; JSON has none, write null instead");
    return put(d, text, exj_real_text(v, text));
}

static exj_code put_date(struct decoder *d, int64_t ms)
{
    char text[EXJ_TIME_TEXT_BYTES];

    exj_clock_format(ms, text);
    return put_c_text(d, text);
}

/* Does a decimal of that spelling come back from the double nearest to it? */
static bool fits_double(const char *spelled, double v)
{
    size_t n = 0, zeros = 0; /* digits; those at their end */

    for (const char *p = spelled; *p && *p != 'E' && *p != 'e'; p++) {
        if (*p < '0' || *p > '9' || (n == 0 && *p == '0'))
            continue;
        n++;
        zeros = *p == '0' ? zeros + 1 : 0;
    }
    return n == 0 || (n - zeros <= DBL_DIG && (v >= DBL_MIN || v <= -DBL_MIN));
}

static exj_code put_decimal(struct decoder *d, const bson_decimal128_t *decimal)
{
    char text[BSON_DECIMAL128_STRING];
    exj_buf spare = EXJ_BUF_INIT;
    exj_json_kind kind;
    exj_code rc;
    double v;

    bson_decimal128_to_string(decimal, text);
    /* Not finite, or too large an integer or double: no JSON of ours. */
    if (exj_json_check(exj_slice_of(text), 1, &kind, NULL) != EXJ_OK)
        return put_c_text(d, text);
    if (kind == EXJ_JSON_INTEGER && strcmp(text, "-0") != 0)
        return put_word(d, text);
    if (!exj_real_parse(exj_slice_of(text), &spare, &v))
        rc = no_memory(d);
    else
        rc = fits_double(text, v) ? put_real(d, v) : put_c_text(d, text);
    exj_buf_release(&spare);
    return rc;
}

static exj_code put_base64(struct decoder *d, const uint8_t *p, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t i = 0;
    char *to;

    if (!exj_buf_reserve(d->out, (n + 2) / 3 * 4 + 2))
        return no_memory(d);
    to = d->out->p + d->out->n;
    *to++ = '"';
    for (; i < n; i += 3) {
        size_t left = n - i;
        uint32_t bits = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                        (left > 2 ? p[i + 2] : 0u);

        *to++ = letters[bits >> 18];
        *to++ = letters[bits >> 12 & 63];
        *to++ = left > 1 ? letters[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? letters[bits & 63] : '=';
    }
    *to++ = '"';
    d->out->n = (size_t)(to - d->out->p);
    return put(d, NULL, 0);
}

static exj_code put_binary(struct decoder *d, const bson_iter_t *it)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = NULL;
    bson_subtype_t subtype;
    char text[2 * UUID_BYTES + 4];
    uint32_t n = 0;
    size_t at = 0;

    bson_iter_binary(it, &subtype, &n, &p);
    if (subtype != BSON_SUBTYPE_UUID || n != UUID_BYTES)
        return put_base64(d, p, n);
    for (size_t i = 0; i < UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        text[at++] = hex[p[i] >> 4];
        text[at++] = hex[p[i] & 15];
    }
    return put_text(d, text, at);
}

static exj_code put_oid(struct decoder *d, const bson_oid_t *oid)
{
    char text[25];

    bson_oid_to_string(oid, text);
    return put_c_text(d, text);
}

/* ---- objects --------------------------------------------------------------------------------- */

/* Are `weight` more levels allowed here? */
static exj_code check_depth(struct decoder *d, unsigned weight)
{
    char cause[64];

    if (d->nested + weight <= d->max_nested)
        return EXJ_OK;
    snprintf(cause, sizeof(cause), "nested deeper than %u", d->max_nested);
    return refuse(d, EXJ_INVALID, cause);
}

/* What is neither text nor number in JSON becomes an object of its own: `before` … `after`. */
static exj_code put_wrapped(struct decoder *d, const char *before, const char *text, size_t n,
                            const char *after)
{
    exj_code rc = put_word(d, before);

    if (rc == EXJ_OK)
        rc = put_text(d, text, n);
    return rc == EXJ_OK ? put_word(d, after) : rc;
}

static exj_code put_timestamp(struct decoder *d, const bson_iter_t *it)
{
    uint32_t seconds = 0, number = 0;
    exj_code rc = check_depth(d, 2);

    if (rc != EXJ_OK)
        return rc;
    bson_iter_timestamp(it, &seconds, &number);
    return exj_buf_printf(d->out, "{\"$timestamp\":{\"t\":%u,\"i\":%u}}", seconds, number)
               ? EXJ_OK
               : no_memory(d);
}

static exj_code put_regex(struct decoder *d, const bson_iter_t *it)
{
    const char *options = "", *pattern = bson_iter_regex(it, &options);
    exj_code rc = check_depth(d, 2);

    if (rc == EXJ_OK)
        rc = put_wrapped(d, "{\"$regularExpression\":{\"pattern\":", pattern, strlen(pattern),
                         ",\"options\":");
    return rc == EXJ_OK ? put_wrapped(d, "", options, strlen(options), "}}") : rc;
}

static exj_code put_db_pointer(struct decoder *d, const bson_iter_t *it)
{
    const char *collection = "";
    const bson_oid_t *oid = NULL;
    uint32_t n = 0;
    exj_code rc = check_depth(d, 2);

    if (rc != EXJ_OK)
        return rc;
    bson_iter_dbpointer(it, &n, &collection, &oid);
    if (n > 0 && collection[n - 1] == '\0') /* some versions of libbson count it */
        n--;
    rc = put_wrapped(d, "{\"$dbPointer\":{\"$ref\":", collection, n, ",\"$id\":");
    if (rc == EXJ_OK)
        rc = put_oid(d, oid);
    return rc == EXJ_OK ? put_word(d, "}}") : rc;
}

static exj_code put_code(struct decoder *d, const bson_iter_t *it)
{
    uint32_t n = 0;
    const char *code = bson_iter_code(it, &n);
    exj_code rc = check_depth(d, 1);

    return rc == EXJ_OK ? put_wrapped(d, "{\"$code\":", code, n, "}") : rc;
}

/* MinKey, MaxKey. */
static exj_code put_marker(struct decoder *d, const char *text)
{
    exj_code rc = check_depth(d, 1);

    return rc == EXJ_OK ? put_word(d, text) : rc;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static exj_code open_frame(struct decoder *d, const uint8_t *data, uint32_t n,
                           const struct frame *like, const char *open)
{
    exj_code rc = check_depth(d, like->weight);
    struct frame *f = &d->frames[d->depth];

    if (rc != EXJ_OK)
        return rc;
    /* It compares the length inside with n, and wants a NUL at the end: without that, an
     * iterator's end could not be told from a key that does not end. */
    if (!bson_iter_init_from_data(&f->it, data, n))
        return refuse(d, EXJ_CORRUPT, "bytes that are no BSON document");
    f->key = NULL;
    f->close = like->close;
    f->keys = d->keys.len;
    f->weight = like->weight;
    f->is_array = like->is_array;
    f->has_member = false;
    d->depth++;
    d->nested += like->weight;
    return put_word(d, open);
}

static const struct frame an_object = { .close = "}", .weight = 1 };
static const struct frame an_array = { .close = "]", .weight = 1, .is_array = true };
static const struct frame a_scope = { .close = "}}", .weight = 2 };

static exj_code open_scope(struct decoder *d, const bson_iter_t *it)
{
    uint32_t code_n = 0, n = 0;
    const uint8_t *data = NULL;
    const char *code = bson_iter_codewscope(it, &code_n, &n, &data);
    exj_code rc = check_depth(d, 2);

    if (rc == EXJ_OK)
        rc = put_wrapped(d, "{\"$code\":", code, code_n, ",\"$scope\":");
    return rc == EXJ_OK ? open_frame(d, data, n, &a_scope, "{") : rc;
}

static exj_code open_value(struct decoder *d, const bson_iter_t *it, bool is_array)
{
    const uint8_t *data = NULL;
    uint32_t n = 0;

    if (is_array)
        bson_iter_array(it, &n, &data);
    else
        bson_iter_document(it, &n, &data);
    return open_frame(d, data, n, is_array ? &an_array : &an_object, is_array ? "[" : "{");
}

static exj_code put_value(struct decoder *d, const bson_iter_t *it)
{
    bson_decimal128_t decimal;
    const char *text;
    uint32_t n = 0;

    switch (bson_iter_type(it)) {
    case BSON_TYPE_DOUBLE:
        return put_real(d, bson_iter_double(it));
    case BSON_TYPE_UTF8:
        text = bson_iter_utf8(it, &n);
        return put_text(d, text, n);
    case BSON_TYPE_SYMBOL:
        text = bson_iter_symbol(it, &n);
        return put_text(d, text, n);
    case BSON_TYPE_DOCUMENT:
        return open_value(d, it, false);
    case BSON_TYPE_ARRAY:
        return open_value(d, it, true);
    case BSON_TYPE_BINARY:
        return put_binary(d, it);
    case BSON_TYPE_NULL:
    case BSON_TYPE_UNDEFINED:
        return put(d, "null", 4);
    case BSON_TYPE_OID:
        return put_oid(d, bson_iter_oid(it));
    case BSON_TYPE_BOOL:
        return put_word(d, bson_iter_bool(it) ? "true" : "false");
    case BSON_TYPE_DATE_TIME:
        return put_date(d, bson_iter_date_time(it));
    case BSON_TYPE_REGEX:
        return put_regex(d, it);
    case BSON_TYPE_DBPOINTER:
        return put_db_pointer(d, it);
    case BSON_TYPE_CODE:
        return put_code(d, it);
    case BSON_TYPE_CODEWSCOPE:
        return open_scope(d, it);
    case BSON_TYPE_INT32:
        return put_integer(d, bson_iter_int32(it));
    case BSON_TYPE_TIMESTAMP:
        return put_timestamp(d, it);
    case BSON_TYPE_INT64:
        return put_integer(d, bson_iter_int64(it));
    case BSON_TYPE_DECIMAL128:
        bson_iter_decimal128(it, &decimal);
        return put_decimal(d, &decimal);
    case BSON_TYPE_MAXKEY:
        return put_marker(d, "{\"$maxKey\":1}");
    case BSON_TYPE_MINKEY:
        return put_marker(d, "{\"$minKey\":1}");
    case BSON_TYPE_EOD:
    default:
        return refuse(d, EXJ_CORRUPT, "a value of a type that BSON does not have");
    }
}

/* The comma and the key in front of the member at hand. */
static exj_code put_key(struct decoder *d, struct frame *f)
{
    exj_bson_key key;
    exj_code rc;

    if (f->has_member && !exj_buf_add_char(d->out, ','))
        return no_memory(d);
    f->has_member = true;
    if (f->is_array)
        return EXJ_OK;
    rc = put_c_text(d, f->key);
    if (rc != EXJ_OK)
        return rc;
    key.at = key.told = (uint32_t)(f->key - d->origin);
    key.n = (uint32_t)strlen(f->key);
    if (!exj_bson_keys_add(&d->keys, key))
        return no_memory(d);
    return put(d, ":", 1);
}

static exj_code close_frame(struct decoder *d, struct frame *f)
{
    exj_bson_key twice;

    if (f->it.err_off != 0) {
        f->key = NULL;
        return refuse(d, EXJ_CORRUPT, "bytes that are no BSON, or a value of an unknown type");
    }
    if (!f->is_array && d->keys.len > f->keys + 1 &&
        exj_bson_keys_close(&d->keys, f->keys, d->origin, &twice)) {
        f->key = d->origin + twice.at;
        return refuse(d, EXJ_INVALID, "two members of that name in one object");
    }
    d->keys.len = f->keys;
    d->nested -= f->weight;
    d->depth--;
    return put_word(d, f->close);
}

static exj_code walk(struct decoder *d)
{
    exj_code rc = EXJ_OK;

    while (rc == EXJ_OK && d->depth > 0) {
        struct frame *f = &d->frames[d->depth - 1];

        if (!bson_iter_next(&f->it)) {
            rc = close_frame(d, f);
            continue;
        }
        f->key = bson_iter_key(&f->it);
        rc = put_key(d, f);
        if (rc == EXJ_OK)
            rc = put_value(d, &f->it);
        if (rc == EXJ_OK && d->out->n - d->base > d->most)
            break;
    }
    if (rc == EXJ_OK && d->out->n - d->base > d->most) {
        char cause[80];

        snprintf(cause, sizeof(cause), "up to here the JSON has more than %zu bytes", d->most);
        rc = refuse(d, EXJ_INVALID, cause);
    }
    return rc;
}

static exj_code finish(struct decoder *d, exj_code rc)
{
    if (rc == EXJ_OK)
        rc = walk(d);
    if (rc != EXJ_OK) {
        d->out->n = d->base;
        if (d->out->p)
            d->out->p[d->base] = '\0';
    }
    free(d->keys.all);
    return rc;
}

static void begin(struct decoder *d, const exj_bson_limits *limits, exj_buf *out, exj_err *err)
{
    exj_bson_limits l = exj_bson_limits_of(limits);

    /* Not cleared: the frames are large, and each is filled when it opens. */
    d->out = out;
    d->base = out->n;
    d->most = l.text_bytes;
    d->depth = d->nested = 0;
    d->max_nested = l.depth;
    d->root = d->origin = NULL;
    d->keys = (exj_bson_keys){ 0 };
    d->err = err;
}

exj_code exj_bson_to_json(const bson_t *b, const exj_bson_limits *limits, exj_buf *out,
                          exj_err *err)
{
    const uint8_t *data = bson_get_data(b);
    struct decoder d;

    begin(&d, limits, out, err);
    d.origin = (const char *)data;
    return finish(&d, open_frame(&d, data, b->len, &an_object, "{"));
}

exj_code exj_bson_value_to_json(const bson_iter_t *at, const exj_bson_limits *limits,
                                exj_buf *out, exj_err *err)
{
    struct decoder d;

    begin(&d, limits, out, err);
    d.root = d.origin = bson_iter_key(at);
    return finish(&d, put_value(&d, at));
}
