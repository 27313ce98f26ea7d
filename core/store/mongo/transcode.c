/* JSON to BSON: one walk over a checked text. The bytes are written here and not by libbson, which
 * corrects the length of every document around each value that it appends, and cannot say
 * that it has no memory. */
#include "core/store/mongo/transcode_inside.h"

#include <endian.h>
#include <stdlib.h>

#define INDEX_BYTES 10u /* digits of an array's index; a text has fewer than 10^8 items */
#define FEW_KEYS 24u    /* compared each with each */

enum { /* of BSON's types, those that are ours */
    TYPE_DOUBLE = 0x01,
    TYPE_TEXT = 0x02,
    TYPE_DOCUMENT = 0x03,
    TYPE_ARRAY = 0x04,
    TYPE_BOOL = 0x08,
    TYPE_NULL = 0x0a,
    TYPE_INT64 = 0x12,
};

/* ---- limits and keys ------------------------------------------------------------------------- */

static size_t bounded(size_t given, size_t most)
{
    return given == 0 || given > most ? most : given;
}

exj_bson_limits exj_bson_limits_of(const exj_bson_limits *given)
{
    exj_bson_limits l = given ? *given : (exj_bson_limits){ 0 };

    l.depth = (unsigned)bounded(l.depth, EXJ_BSON_MAX_DEPTH);
    l.bson_bytes = bounded(l.bson_bytes, EXJ_BSON_MAX_BYTES);
    l.text_bytes = bounded(l.text_bytes, EXJ_BSON_MAX_TEXT_BYTES);
    return l;
}

bool exj_bson_keys_add(exj_bson_keys *k, exj_bson_key key)
{
    if (k->len == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 32;
        exj_bson_key *all = realloc(k->all, cap * sizeof(*all));

        if (!all)
            return false;
        k->all = all;
        k->cap = cap;
    }
    k->all[k->len++] = key;
    return true;
}

static bool same_key(const exj_bson_key *a, const exj_bson_key *b, const char *base)
{
    return a->n == b->n && memcmp(base + a->at, base + b->at, a->n) == 0;
}

static int compare_keys(const void *one, const void *other, void *base)
{
    const exj_bson_key *a = one, *b = other;
    const char *p = base;
    int c;

    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    c = memcmp(p + a->at, p + b->at, a->n);
    return c ? c : a->at < b->at ? -1 : 1; /* equal ones as they came */
}

bool exj_bson_keys_close(exj_bson_keys *k, size_t from, const char *base, exj_bson_key *ret)
{
    exj_bson_key *all = k->all + from;
    size_t n = k->len - from;
    bool found = false;

    k->len = from;
    if (n <= FEW_KEYS) {
        for (size_t i = 1; i < n && !found; i++)
            for (size_t j = 0; j < i && !found; j++)
                if (same_key(&all[i], &all[j], base)) {
                    *ret = all[i];
                    found = true;
                }
        return found;
    }
    qsort_r(all, n, sizeof(*all), compare_keys, (void *)(uintptr_t)base);
    for (size_t i = 1; i < n; i++)
        if (same_key(&all[i], &all[i - 1], base) && (!found || all[i].at < ret->at)) {
            *ret = all[i];
            found = true;
        }
    return found;
}

/* ---- the walk -------------------------------------------------------------------------------- */

struct level {
    size_t start; /* where its length goes, in out */
    size_t keys;  /* how many keys there were when it opened */
    bool is_object;
    uint8_t index_n;
    char index[INDEX_BYTES]; /* of an array: the next item's key */
};

struct encoder {
    exj_slice text; /* checked: what follows relies on its grammar */
    size_t at;
    exj_buf *out;
    size_t base, most; /* where the document begins in out; its bytes */
    unsigned depth;
    struct level levels[EXJ_BSON_MAX_DEPTH + 1]; /* and the document around a value */
    exj_bson_keys keys;
    exj_buf spare;
    exj_err *err;
};

static exj_code no_memory(struct encoder *e)
{
    return exj_err_set(e->err, EXJ_NOMEM, "out of memory while JSON is made BSON");
}

static char peek(const struct encoder *e)
{
    return e->at < e->text.n ? e->text.p[e->at] : '\0';
}

static void skip_space(struct encoder *e)
{
    for (char c = peek(e); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = peek(e))
        e->at++;
}

/* To the next member, or the end, of what is open. */
static void skip_comma(struct encoder *e)
{
    skip_space(e);
    if (peek(e) == ',') {
        e->at++;
        skip_space(e);
    }
}

/* The string at hand with its quotes; steps over it. */
static exj_slice take_string(struct encoder *e)
{
    const char *start = e->text.p + e->at, *end = e->text.p + e->text.n, *p = start + 1;
    const char *quote = memchr(p, '"', (size_t)(end - p)), *slash;

    /* The quote is looked for again only where it was part of an escape: linear. */
    while (quote && (slash = memchr(p, '\\', (size_t)(quote - p))) != NULL) {
        p = slash + 2;
        if (quote < p)
            quote = p < end ? memchr(p, '"', (size_t)(end - p)) : NULL;
    }
    e->at = quote ? (size_t)(quote + 1 - e->text.p) : e->text.n;
    return (exj_slice){ start, (size_t)(e->text.p + e->at - start) };
}

/* Room for n bytes was reserved. */
static void put(exj_buf *b, const void *p, size_t n)
{
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_u32_at(exj_buf *b, size_t at, size_t v)
{
    uint32_t le = htole32((uint32_t)v);

    memcpy(b->p + at, &le, sizeof(le));
}

static exj_code open_level(struct encoder *e, bool is_object)
{
    struct level *l = &e->levels[e->depth];

    if (!exj_buf_reserve(e->out, 4))
        return no_memory(e);
    *l = (struct level){ .start = e->out->n, .keys = e->keys.len, .is_object = is_object,
                         .index_n = 1, .index = "0" };
    put(e->out, "\0\0\0", 4);
    e->depth++;
    return EXJ_OK;
}

static exj_code close_level(struct encoder *e)
{
    struct level *l = &e->levels[--e->depth];
    exj_bson_key twice;

    if (!exj_buf_reserve(e->out, 1))
        return no_memory(e);
    put(e->out, "", 1);
    put_u32_at(e->out, l->start, e->out->n - l->start);
    if (l->is_object && e->keys.len > l->keys + 1 &&
        exj_bson_keys_close(&e->keys, l->keys, e->out->p + e->base, &twice))
        return exj_err_set(e->err, EXJ_INVALID, "not valid JSON at byte %u: duplicate object key",
                           twice.told);
    e->keys.len = l->keys;
    return EXJ_OK;
}

static void next_index(struct level *l)
{
    for (unsigned i = l->index_n; i-- > 0;) {
        if (++l->index[i] <= '9')
            return;
        l->index[i] = '0';
    }
    memmove(l->index + 1, l->index, l->index_n++);
    l->index[0] = '1';
}

/* Its type, which only its value tells, and its key; steps to its value. */
static exj_code put_key(struct encoder *e, struct level *l)
{
    exj_buf *out = e->out;
    exj_bson_key key;
    exj_slice quoted;

    if (!l->is_object) {
        if (!exj_buf_reserve(out, 1 + INDEX_BYTES + 1))
            return no_memory(e);
        put(out, "", 1);
        put(out, l->index, l->index_n);
        put(out, "", 1);
        next_index(l);
        return EXJ_OK;
    }
    key.told = (uint32_t)e->at;
    quoted = take_string(e);
    if (!exj_buf_reserve(out, quoted.n + 2))
        return no_memory(e);
    put(out, "", 1);
    key.at = (uint32_t)(out->n - e->base);
    if (!exj_json_unescape(quoted, out))
        return no_memory(e);
    key.n = (uint32_t)(out->n - e->base - key.at);
    put(out, "", 1);
    if (!exj_bson_keys_add(&e->keys, key))
        return no_memory(e);
    skip_space(e);
    e->at++; /* the colon */
    skip_space(e);
    return EXJ_OK;
}

static exj_code put_string(struct encoder *e)
{
    exj_slice quoted = take_string(e);
    exj_buf *out = e->out;
    size_t at = out->n;

    if (!exj_buf_reserve(out, 4 + quoted.n + 1))
        return no_memory(e);
    put(out, "\0\0\0", 4);
    if (!exj_json_unescape(quoted, out))
        return no_memory(e);
    put(out, "", 1);
    put_u32_at(out, at, out->n - at - 4);
    return EXJ_OK;
}

static int64_t integer_of(exj_slice s)
{
    bool is_negative = s.p[0] == '-';
    uint64_t v = 0;

    for (size_t i = is_negative; i < s.n; i++)
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    return (int64_t)(is_negative ? 0 - v : v);
}

static exj_code put_number(struct encoder *e, size_t type_at)
{
    const char *p = e->text.p;
    size_t from = e->at, at = from;
    bool is_real = false;
    exj_slice spelled;
    uint64_t bits;

    for (; at < e->text.n; at++) {
        char c = p[at];

        if (c == '.' || c == 'e' || c == 'E')
            is_real = true;
        else if (c != '-' && c != '+' && (c < '0' || c > '9'))
            break;
    }
    spelled = (exj_slice){ p + from, at - from };
    if (spelled.n == 0)
        return exj_err_set(e->err, EXJ_BUG, "no JSON value at byte %zu of a checked text", from);
    e->at = at;
    if (is_real) {
        double v;

        if (!exj_real_parse(spelled, &e->spare, &v))
            return no_memory(e);
        memcpy(&bits, &v, sizeof(bits));
    } else {
        bits = (uint64_t)integer_of(spelled);
    }
    if (!exj_buf_reserve(e->out, sizeof(bits)))
        return no_memory(e);
    bits = htole64(bits);
    put(e->out, &bits, sizeof(bits));
    e->out->p[type_at] = is_real ? TYPE_DOUBLE : TYPE_INT64;
    return EXJ_OK;
}

/* The value at hand, whose type goes to `type_at`; an object or array is opened. */
static exj_code put_value(struct encoder *e, size_t type_at)
{
    char c = peek(e), *type = e->out->p + type_at;

    switch (c) {
    case '{':
    case '[':
        *type = c == '{' ? TYPE_DOCUMENT : TYPE_ARRAY;
        e->at++;
        return open_level(e, c == '{');
    case '"':
        *type = TYPE_TEXT;
        return put_string(e);
    case 't':
    case 'f':
        *type = TYPE_BOOL;
        e->at += c == 't' ? 4 : 5;
        return exj_buf_add_char(e->out, c == 't') ? EXJ_OK : no_memory(e);
    case 'n':
        *type = TYPE_NULL;
        e->at += 4;
        return EXJ_OK;
    default:
        return put_number(e, type_at);
    }
}

/* With the bytes that close what is open. */
static exj_code check_size(struct encoder *e)
{
    if (e->out->n - e->base + e->depth <= e->most)
        return EXJ_OK;
    return exj_err_set(e->err, EXJ_INVALID,
                       "JSON at byte %zu: as BSON it would have more than %zu bytes; make it "
                       "smaller, or store parts of it elsewhere", e->at, e->most);
}

/* Until no more than `depth` levels are open. */
static exj_code walk(struct encoder *e, unsigned depth)
{
    exj_code rc = EXJ_OK;

    while (rc == EXJ_OK && e->depth > depth) {
        struct level *l = &e->levels[e->depth - 1];
        size_t type_at = e->out->n;

        skip_comma(e);
        if (peek(e) == (l->is_object ? '}' : ']')) {
            e->at++;
            rc = close_level(e);
            continue;
        }
        rc = put_key(e, l);
        if (rc == EXJ_OK)
            rc = put_value(e, type_at);
        if (rc == EXJ_OK)
            rc = check_size(e);
    }
    return rc;
}

/* The document {key: value} around the value at hand. */
static exj_code put_alone(struct encoder *e, const char *key)
{
    exj_code rc = open_level(e, true);
    size_t type_at = e->out->n;

    if (rc != EXJ_OK)
        return rc;
    if (!exj_buf_add_char(e->out, '\0') || !exj_buf_add(e->out, key, strlen(key) + 1))
        return no_memory(e);
    rc = put_value(e, type_at);
    if (rc == EXJ_OK)
        rc = check_size(e);
    if (rc == EXJ_OK)
        rc = walk(e, 1);
    return rc == EXJ_OK ? close_level(e) : rc;
}

/* `key` NULL: the text is an object, and the document. `before`: bytes of the limit that are
 * taken. */
static exj_code encode(exj_slice text, const char *key, const exj_bson_limits *limits,
                       size_t before, exj_buf *out, exj_err *err)
{
    exj_bson_limits l = exj_bson_limits_of(limits);
    struct encoder e = { .text = text, .out = out, .base = out->n, .err = err };
    exj_json_kind kind;
    exj_code rc;

    if (text.n > EXJ_JSON_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID, "JSON of %zu bytes; at most %u are allowed", text.n,
                           EXJ_JSON_MAX_BYTES);
    rc = exj_json_check(text, l.depth, &kind, err);
    if (rc != EXJ_OK)
        return rc;
    if (!key && kind != EXJ_JSON_OBJECT)
        return exj_err_set(err, EXJ_INVALID, "a document must be a JSON object, not %.40s",
                           kind == EXJ_JSON_ARRAY    ? "an array"
                           : kind == EXJ_JSON_STRING ? "a string"
                                                     : "a number, true, false or null");
    e.most = l.bson_bytes > before ? l.bson_bytes - before : 0;
    skip_space(&e);
    if (!exj_buf_reserve(out, text.n + text.n / 4)) { /* most documents, at once */
        rc = no_memory(&e);
    } else if (key) {
        rc = put_alone(&e, key);
    } else {
        e.at++; /* the brace */
        rc = open_level(&e, true);
        if (rc == EXJ_OK)
            rc = check_size(&e);
        if (rc == EXJ_OK)
            rc = walk(&e, 0);
    }
    if (rc != EXJ_OK)
        out->n = e.base;
    if (out->p)
        out->p[out->n] = '\0';
    free(e.keys.all);
    exj_buf_release(&e.spare);
    return rc;
}

exj_code exj_bson_encode(exj_slice object, const exj_bson_limits *limits, exj_buf *out,
                         exj_err *err)
{
    return encode(object, NULL, limits, 0, out, err);
}

static exj_code append(bson_t *b, const char *key, exj_slice text, const exj_bson_limits *limits,
                       exj_err *err)
{
    exj_buf bytes = EXJ_BUF_INIT;
    bson_t doc;
    exj_code rc;

    /* Two empty documents are one: what frames the new one is not counted twice. */
    rc = encode(text, key, limits, b->len > 5 ? b->len - 5 : 0, &bytes, err);
    if (rc == EXJ_OK && (!bson_init_static(&doc, (const uint8_t *)bytes.p, bytes.n) ||
                         !bson_concat(b, &doc)))
        rc = exj_err_set(err, EXJ_BUG, "libbson refuses to append %zu bytes to a document of %u",
                         bytes.n, b->len);
    exj_buf_release(&bytes);
    return rc;
}

exj_code exj_bson_from_json(exj_slice object, const exj_bson_limits *limits, bson_t *b,
                            exj_err *err)
{
    return append(b, NULL, object, limits, err);
}

exj_code exj_bson_append_json(bson_t *b, const char *key, exj_slice value,
                              const exj_bson_limits *limits, exj_err *err)
{
    return append(b, key, value, limits, err);
}
