#include "core/history/event.h"

#include <stddef.h>

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/base/utf8.h"

static const char *const op_words[EXJ_HIST_OP_COUNT] = {
    [EXJ_HIST_ENQUEUE] = "enqueue",       [EXJ_HIST_CLAIM] = "claim",
    [EXJ_HIST_RENEW] = "renew",           [EXJ_HIST_STEP] = "step",
    [EXJ_HIST_WRITE] = "write",           [EXJ_HIST_COMPLETE] = "complete",
    [EXJ_HIST_RELEASE] = "release",       [EXJ_HIST_REAP] = "reap",
    [EXJ_HIST_RETRY] = "retry",           [EXJ_HIST_RERUN] = "rerun",
    [EXJ_HIST_CANCEL] = "cancel",         [EXJ_HIST_SIGNAL] = "signal",
    [EXJ_HIST_REMOVE] = "remove",         [EXJ_HIST_TICK] = "tick",
    [EXJ_HIST_COMMAND] = "command",       [EXJ_HIST_EXECUTE] = "execute",
    [EXJ_HIST_GENERATION] = "generation", [EXJ_HIST_CORE] = "core",
    [EXJ_HIST_HOST] = "host",             [EXJ_HIST_EFFECT] = "effect",
    [EXJ_HIST_EVENT] = "event",           [EXJ_HIST_FAULT] = "fault",
    [EXJ_HIST_QUIET] = "quiet",           [EXJ_HIST_SETTINGS] = "settings",
    [EXJ_HIST_FINAL] = "final",
};

static const char *const phase_words[EXJ_HIST_PHASE_COUNT] = {
    [EXJ_HIST_INVOKE] = "invoke",
    [EXJ_HIST_OK] = "ok",
    [EXJ_HIST_FAIL] = "fail",
    [EXJ_HIST_INFO] = "info",
};

enum member_kind { TEXT, I64, COUNT, U32, U64, HEX, OP, PHASE };

struct member {
    const char *name;
    enum member_kind kind;
    bool always;     /* written although 0 or empty, and wanted when read */
    size_t at;       /* in exj_hist_event */
    size_t text_max; /* TEXT: bytes as written, without quotes */
};

#define MEMBER(n, kind, always, max)                                                         \
    {                                                                                        \
        #n, kind, always, offsetof(exj_hist_event, n), max                                   \
    }
/* In the order of a line. A member with all texts at their longest stays below
 * EXJ_HIST_LINE_MAX; a test holds it. To add one: here, in the header, in docs/history.md. */
static const struct member members[] = {
    MEMBER(t, COUNT, true, 0),
    MEMBER(actor, TEXT, true, EXJ_HIST_WORD_MAX),
    MEMBER(incarnation, HEX, true, 0),
    MEMBER(op, OP, true, 0),
    MEMBER(phase, PHASE, true, 0),
    MEMBER(id, U64, false, 0),
    MEMBER(row, COUNT, false, 0),
    MEMBER(token, COUNT, false, 0),
    MEMBER(attempt, U32, false, 0),
    MEMBER(value, I64, false, 0),
    MEMBER(generation, U64, false, 0),
    MEMBER(job, TEXT, false, EXJ_HIST_JOB_MAX),
    MEMBER(worker, TEXT, false, EXJ_HIST_WORKER_MAX),
    MEMBER(outcome, TEXT, false, EXJ_HIST_WORD_MAX),
    MEMBER(to, TEXT, false, EXJ_HIST_WORD_MAX),
    MEMBER(code, TEXT, false, EXJ_HIST_WORD_MAX),
    MEMBER(key, TEXT, false, EXJ_HIST_TEXT_MAX),
    MEMBER(digest, TEXT, false, EXJ_HIST_WORD_MAX),
};
#define MEMBERS (sizeof(members) / sizeof(members[0]))

const char *exj_hist_op_word(exj_hist_op op)
{
    return (unsigned)op < EXJ_HIST_OP_COUNT ? op_words[op] : "?";
}

const char *exj_hist_phase_word(exj_hist_phase phase)
{
    return (unsigned)phase < EXJ_HIST_PHASE_COUNT ? phase_words[phase] : "?";
}

/* ---- writing ------------------------------------------------------------------------ */

static char *put_text(char *to, const char *text)
{
    size_t n = strlen(text);

    memcpy(to, text, n);
    return to + n;
}

static char *put_hex(char *to, uint64_t v)
{
    *to++ = '"';
    for (int shift = 60; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[v >> shift & 15];
    *to++ = '"';
    return to;
}

/* One character of `s` at `at` as JSON; *ret_n: how many bytes of s it was. */
static size_t spell(char to[8], exj_slice s, size_t at, size_t *ret_n)
{
    unsigned char c = (unsigned char)s.p[at];
    unsigned n = exj_utf8_len(s.p + at, s.n - at);

    *ret_n = n ? n : 1;
    if (n == 0 || c == 0) { /* NUL is no character of our JSON (core/base/json.h) */
        memcpy(to, "\xef\xbf\xbd", 3);
        return 3;
    }
    if (c == '"' || c == '\\') {
        to[0] = '\\';
        to[1] = (char)c;
        return 2;
    }
    if (c < 0x20) {
        memcpy(to, "\\u00", 4);
        to[4] = (char)('0' + (c >> 4));
        to[5] = "0123456789abcdef"[c & 15];
        return 6;
    }
    memcpy(to, s.p + at, n);
    return n;
}

/* Clipped before the first character that does not fit `most` bytes: the same text is
 * always clipped in the same place, so that clipped names still compare. */
static char *put_string(char *to, exj_slice s, size_t most)
{
    char one[8];
    size_t room = most, at = 0, n, took;

    *to++ = '"';
    while (at < s.n) {
        unsigned char c = (unsigned char)s.p[at];

        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            if (room == 0)
                break;
            *to++ = (char)c;
            room--;
            at++;
            continue;
        }
        n = spell(one, s, at, &took);
        if (n > room)
            break;
        memcpy(to, one, n);
        to += n;
        room -= n;
        at += took;
    }
    *to++ = '"';
    return to;
}

static bool is_left_out(const struct member *m, const char *field)
{
    switch (m->kind) {
    case TEXT:
        return ((const exj_slice *)(const void *)field)->n == 0;
    case U32:
        return *(const uint32_t *)(const void *)field == 0;
    case OP:
    case PHASE:
        return false;
    default:
        return *(const int64_t *)(const void *)field == 0;
    }
}

bool exj_hist_format(exj_buf *b, const exj_hist_event *e)
{
    char *to;

    if (!exj_buf_reserve(b, EXJ_HIST_LINE_MAX - 1)) /* which adds one for the NUL */
        return false;
    to = b->p + b->n;
    *to++ = '{';
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct member *m = &members[i];
        const char *field = (const char *)e + m->at;
        uint64_t number;

        if (!m->always && is_left_out(m, field))
            continue;
        if (i > 0)
            *to++ = ',';
        *to++ = '"';
        to = put_text(to, m->name);
        *to++ = '"';
        *to++ = ':';
        switch (m->kind) {
        case TEXT:
            to = put_string(to, *(const exj_slice *)(const void *)field, m->text_max);
            break;
        case I64:
        case COUNT:
            to += exj_i64_text(*(const int64_t *)(const void *)field, to);
            break;
        case U32:
            to += exj_i64_text(*(const uint32_t *)(const void *)field, to);
            break;
        case U64: /* integers of our JSON have 63 bits */
            number = *(const uint64_t *)(const void *)field & INT64_MAX;
            to += exj_i64_text((int64_t)number, to);
            break;
        case HEX:
            to = put_hex(to, *(const uint64_t *)(const void *)field);
            break;
        case OP:
            *to++ = '"';
            to = put_text(to, exj_hist_op_word(e->op));
            *to++ = '"';
            break;
        case PHASE:
            *to++ = '"';
            to = put_text(to, exj_hist_phase_word(e->phase));
            *to++ = '"';
            break;
        }
    }
    *to++ = '}';
    *to++ = '\n';
    *to = '\0';
    b->n = (size_t)(to - b->p);
    return true;
}

/* ---- reading ------------------------------------------------------------------------ */

static const struct member *find_member(exj_slice escaped)
{
    if (memchr(escaped.p, '\\', escaped.n)) {
        for (size_t i = 0; i < MEMBERS; i++)
            if (exj_json_key_is(escaped, members[i].name))
                return &members[i];
        return NULL;
    }
    for (size_t i = 0; i < MEMBERS; i++)
        if (members[i].name[0] == escaped.p[0] && exj_slice_is(escaped, members[i].name))
            return &members[i];
    return NULL;
}

#define QUOTE_BYTES 64u

static exj_code refuse(exj_err *err, const struct member *m, const char *wanted,
                       exj_slice found)
{
    return exj_err_set(err, EXJ_INVALID, "member \"%s\": %s is wanted, not %.*s", m->name,
                       wanted, (int)(found.n < QUOTE_BYTES ? found.n : QUOTE_BYTES), found.p);
}

/* A checked integer of at most 64 bits. */
static int64_t integer_of(exj_slice s)
{
    bool negative = s.p[0] == '-';
    uint64_t v = 0;

    for (size_t i = negative; i < s.n; i++)
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    return (int64_t)(negative ? 0 - v : v);
}

/* The meaning of a quoted string, into what is left of the caller's room: a meaning is
 * never longer than its spelling, so the room of a line is enough for all of them. */
static exj_slice take_text(exj_slice quoted, exj_buf *room)
{
    size_t from = room->n;

    if (memchr(quoted.p, '\\', quoted.n))
        exj_json_unescape(quoted, room);
    else
        exj_buf_add(room, quoted.p + 1, quoted.n - 2);
    return (exj_slice){ room->p + from, room->n - from };
}

static bool word_index(exj_slice text, const char *const *words, unsigned count, unsigned *ret)
{
    for (unsigned i = 0; i < count; i++)
        if (exj_slice_is(text, words[i])) {
            *ret = i;
            return true;
        }
    return false;
}

static bool hex_of(exj_slice text, uint64_t *ret)
{
    uint64_t v = 0;

    if (text.n == 0 || text.n > 16)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];

        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *ret = v;
    return true;
}

static exj_code take_number(const struct member *m, const exj_json_iter *it, char *field,
                            exj_err *err)
{
    int64_t v;

    if (it->kind != EXJ_JSON_INTEGER)
        return refuse(err, m, "an integer", it->value);
    v = integer_of(it->value);
    if (m->kind == U32) {
        if (v < 0 || v > UINT32_MAX)
            return refuse(err, m, "0 to 4294967295", it->value);
        *(uint32_t *)(void *)field = (uint32_t)v;
        return EXJ_OK;
    }
    if (m->kind != I64 && v < 0)
        return refuse(err, m, "no negative number", it->value);
    *(int64_t *)(void *)field = v;
    return EXJ_OK;
}

static exj_code take_member(const struct member *m, const exj_json_iter *it, exj_hist_event *e,
                            exj_buf *room, exj_err *err)
{
    char *field = (char *)e + m->at;
    exj_slice text;
    unsigned index;

    if (m->kind == I64 || m->kind == COUNT || m->kind == U32 || m->kind == U64)
        return take_number(m, it, field, err);
    if (it->kind != EXJ_JSON_STRING)
        return refuse(err, m, "a text", it->value);
    text = take_text(it->value, room);
    switch (m->kind) {
    case HEX:
        if (!hex_of(text, (uint64_t *)(void *)field))
            return refuse(err, m, "1 to 16 digits of lower-case hexadecimal", it->value);
        break;
    case OP:
        if (!word_index(text, op_words, EXJ_HIST_OP_COUNT, &index))
            return refuse(err, m, "an operation of docs/history.md", it->value);
        e->op = (exj_hist_op)index;
        break;
    case PHASE:
        if (!word_index(text, phase_words, EXJ_HIST_PHASE_COUNT, &index))
            return refuse(err, m, "invoke, ok, fail or info", it->value);
        e->phase = (exj_hist_phase)index;
        break;
    default:
        *(exj_slice *)(void *)field = text;
        break;
    }
    return EXJ_OK;
}

exj_code exj_hist_parse(exj_slice line, exj_hist_event *ret, char texts[EXJ_HIST_LINE_MAX],
                        exj_err *err)
{
    exj_buf room = { .p = texts, .cap = EXJ_HIST_LINE_MAX };
    exj_hist_event e = { 0 };
    exj_json_kind kind;
    exj_json_iter it;
    uint32_t seen = 0;
    exj_code rc;

    if (line.n >= EXJ_HIST_LINE_MAX)
        return exj_err_set(err, EXJ_INVALID, "a line of %zu bytes; fewer than %u are wanted",
                           line.n, EXJ_HIST_LINE_MAX);
    rc = exj_json_check(line, 8, &kind, err);
    if (rc != EXJ_OK)
        return rc;
    if (kind != EXJ_JSON_OBJECT)
        return exj_err_set(err, EXJ_INVALID, "a line is a JSON object");
    exj_json_iter_init(&it, line);
    while (exj_json_iter_next(&it)) {
        const struct member *m = find_member(it.key);
        uint32_t bit;

        if (!m)
            continue;
        bit = 1u << (m - members);
        if (seen & bit)
            return exj_err_set(err, EXJ_INVALID, "member \"%s\" is there twice", m->name);
        seen |= bit;
        rc = take_member(m, &it, &e, &room, err);
        if (rc != EXJ_OK)
            return rc;
    }
    for (size_t i = 0; i < MEMBERS; i++)
        if (members[i].always && !(seen & 1u << i))
            return exj_err_set(err, EXJ_INVALID, "member \"%s\" is missing", members[i].name);
    *ret = e;
    return EXJ_OK;
}

/* Every line begins so; inside a text its quotes would be escaped. */
#define LINE_HEAD "{\"t\":"

exj_slice exj_hist_behind_torn(exj_slice line)
{
    const size_t n = sizeof(LINE_HEAD) - 1;

    for (size_t at = line.n >= n ? line.n - n : 0; at > 0; at--)
        if (memcmp(line.p + at, LINE_HEAD, n) == 0)
            return (exj_slice){ line.p + at, line.n - at };
    return (exj_slice){ 0 };
}

bool exj_hist_is_torn(exj_slice line)
{
    const size_t n = sizeof(LINE_HEAD) - 1;

    return line.n > 0 && memcmp(line.p, LINE_HEAD, line.n < n ? line.n : n) == 0 &&
           exj_json_check(line, 8, NULL, NULL) != EXJ_OK;
}

void exj_hist_digest(exj_slice of, char ret[EXJ_HIST_DIGEST_BYTES])
{
    char hex[65];

    exj_sha256_hex(of.p, of.n, hex);
    memcpy(ret, hex, EXJ_HIST_DIGEST_BYTES - 1);
    ret[EXJ_HIST_DIGEST_BYTES - 1] = '\0';
}
