/* core/store/sqlite/events.c - the journal of all rows: packed by the writer, read by others.
 *
 * All entries of one transaction are one record of exj_events, so an entry costs some ten
 * bytes and no tree walk of its own. A record covers the numbers [first, first+n); its body
 * is the entries, one after another:
 *
 *     skip     numbers left out before this one (rows that are gone)
 *     kind     one byte
 *     seq      difference to the entry before, zigzag
 *     back     number - previous; 0: the row's first
 *     token, attempt
 *     marks    one byte: 1 value, 2 key, 4 text follow
 *     value    zigzag           key, text    length, bytes
 *
 * Whole numbers are LEB128 (7 bits a byte, low first). A row points to its newest entry
 * (`last` in exj_hot or exj_results), each entry to the one before: that chain is the row's
 * journal, and needs no index.
 */
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/store/sqlite/internal.h"

#define MARK_VALUE 1u
#define MARK_KEY 2u
#define MARK_TEXT 4u

/* ---- packing ---------------------------------------------------------------------------- */

static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static char *put(char *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (char)(v | 0x80);
        v >>= 7;
    }
    *p++ = (char)v;
    return p;
}

bool exj_events_pack(exj_buf *b, exj_events_pack_state *at, const exj_journal_entry *e)
{
    exj_slice key = exj_utf8_clip(e->key, EXJ_ENTRY_KEY_MAX),
              text = exj_utf8_clip(e->text, EXJ_ENTRY_TEXT_MAX);
    char head[80], *p = head;

    p = put(p, (uint64_t)(e->number - at->number));
    *p++ = (char)e->kind;
    p = put(p, zigzag((int64_t)((uint64_t)e->seq - (uint64_t)at->seq)));
    p = put(p, (uint64_t)(e->previous ? e->number - e->previous : 0));
    p = put(p, (uint64_t)e->token);
    p = put(p, e->attempt);
    *p++ = (char)((e->value ? MARK_VALUE : 0) | (key.n ? MARK_KEY : 0) |
                  (text.n ? MARK_TEXT : 0));
    if (e->value)
        p = put(p, zigzag(e->value));
    if (key.n)
        p = put(p, key.n);
    exj_buf_add(b, head, (size_t)(p - head));
    exj_buf_add_slice(b, key);
    if (text.n) {
        p = put(head, text.n);
        exj_buf_add(b, head, (size_t)(p - head));
        exj_buf_add_slice(b, text);
    }
    at->number = e->number + 1;
    at->seq = e->seq;
    return !b->failed;
}

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

int64_t exj_events_digest(exj_slice text)
{
    uint64_t h = text.n, word = 0;

    if (!text.n || text.p[0] == '@')
        return 0;
    for (; text.n >= 8; text.p += 8, text.n -= 8) {
        memcpy(&word, text.p, 8);
        h = mix(h, le64toh(word));
    }
    word = 0;
    memcpy(&word, text.p, text.n);
    h = mix(h, le64toh(word));
    return (int64_t)(h >> 38 | 1u << 26);
}

struct cursor {
    const unsigned char *p, *end;
    bool bad;
};

static uint64_t take(struct cursor *c)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (c->p == c->end)
            break;
        v |= (uint64_t)(*c->p & 0x7f) << shift;
        if (!(*c->p++ & 0x80))
            return v;
    }
    c->bad = true;
    return 0;
}

static unsigned take_byte(struct cursor *c)
{
    if (c->p == c->end) {
        c->bad = true;
        return 0;
    }
    return *c->p++;
}

static exj_slice take_text(struct cursor *c)
{
    uint64_t n = take(c);
    exj_slice s = { (const char *)c->p, (size_t)n };

    if (c->bad || n > (size_t)(c->end - c->p)) {
        c->bad = true;
        return (exj_slice){ NULL, 0 };
    }
    c->p += n;
    return s;
}

void exj_events_iter_init(exj_events_iter *it, exj_slice body, int64_t first, int64_t n)
{
    *it = (exj_events_iter){ .rest = body, .at = { .number = first }, .end = first };
    if (first > 0 && n > 0 && n <= INT64_MAX - first)
        it->end += n; /* else no entry fits: corrupt */
}

bool exj_events_iter_next(exj_events_iter *it, exj_journal_entry *ret)
{
    struct cursor c = { (const unsigned char *)it->rest.p,
                        (const unsigned char *)it->rest.p + it->rest.n, false };
    uint64_t back, skip;
    unsigned marks;

    if (!it->rest.n || it->corrupt)
        return false;
    *ret = (exj_journal_entry){ 0 };
    skip = take(&c);
    ret->kind = (exj_entry_kind)take_byte(&c);
    ret->seq = (int64_t)((uint64_t)it->at.seq + (uint64_t)unzigzag(take(&c)));
    back = take(&c);
    ret->token = (int64_t)take(&c);
    ret->attempt = (uint32_t)take(&c);
    marks = take_byte(&c);
    if (marks & MARK_VALUE)
        ret->value = unzigzag(take(&c));
    if (marks & MARK_KEY)
        ret->key = take_text(&c);
    if (marks & MARK_TEXT)
        ret->text = take_text(&c);
    if (c.bad || marks > 7 || ret->kind >= EXJ_ENTRY_COUNT ||
        skip >= (uint64_t)(it->end - it->at.number)) {
        it->corrupt = true;
        return false;
    }
    ret->number = it->at.number + (int64_t)skip;
    if (back > (uint64_t)ret->number) {
        it->corrupt = true;
        return false;
    }
    ret->previous = back ? ret->number - (int64_t)back : 0;
    it->at.number = ret->number + 1;
    it->at.seq = ret->seq;
    it->rest = (exj_slice){ (const char *)c.p, (size_t)(c.end - c.p) };
    return true;
}

/* ---- writing [writer] --------------------------------------------------------------------- */

bool exj_sqlite_note(exj_sqlite *s, exj_journal_entry e, int64_t *ret_number)
{
    e.number = s->next_number++;
    if (!exj_events_pack(&s->entries, &s->entries_at, &e)) {
        exj_err_set(&s->err, EXJ_NOMEM, "store %s: no memory for the journal", s->path);
        return false;
    }
    *ret_number = e.number;
    return true;
}

void exj_sqlite_begin_events(exj_sqlite *s)
{
    exj_buf_reset(&s->entries);
    s->next_number = s->packed_number = s->saved_number;
    s->entries_at = (exj_events_pack_state){ .number = s->next_number };
}

bool exj_sqlite_flush_events(exj_sqlite *s, exj_msec at)
{
    sqlite3_stmt *st = s->st[W_EVENTS_ADD];
    bool good;

    if (s->next_number == s->packed_number)
        return true;
    sqlite3_bind_int64(st, 1, s->packed_number);
    sqlite3_bind_int64(st, 2, s->next_number - s->packed_number);
    sqlite3_bind_int64(st, 3, at);
    sqlite3_bind_blob64(st, 4, s->entries.p, s->entries.n, SQLITE_STATIC);
    good = exj_sqlite_run(s, W_EVENTS_ADD, "cannot write the journal");
    exj_buf_reset(&s->entries);
    s->packed_number = s->next_number;
    s->entries_at = (exj_events_pack_state){ .number = s->next_number };
    return good;
}

bool exj_sqlite_save_events(exj_sqlite *s)
{
    return exj_sqlite_flush_events(s, s->now);
}

void exj_sqlite_tell_events(exj_sqlite *s)
{
    if (s->next_number == s->saved_number)
        return;
    s->saved_number = s->next_number;
    pthread_mutex_lock(&s->listen_mu);
    if (s->news)
        s->news(s->news_user, s->saved_number - 1);
    pthread_mutex_unlock(&s->listen_mu);
}

/* ---- reading [any thread] ------------------------------------------------------------------- */

void exj_sqlite_listen(exj_store *base, void (*news)(void *user, int64_t last), void *user)
{
    exj_sqlite *s = (exj_sqlite *)base;

    pthread_mutex_lock(&s->listen_mu);
    s->news = news;
    s->news_user = user;
    pthread_mutex_unlock(&s->listen_mu);
}

/* A reader with the two statements that events need, in one view of the store. */
struct look {
    exj_sqlite *s;
    exj_reader *r;
    sqlite3_stmt *batch, *name;
};

static exj_code look_begin(struct look *l, exj_sqlite *s, enum exj_sqlite_read which,
                           exj_err *err)
{
    exj_code rc;

    l->s = s;
    rc = exj_sqlite_read_begin(s, which, &l->r, &l->batch, err);
    if (rc)
        return rc;
    rc = exj_sqlite_read_also(s, l->r, R_ROW_NAME, &l->name, err);
    if (!rc)
        rc = exj_sqlite_exec(s, l->r->db, "BEGIN", err);
    if (rc)
        exj_sqlite_read_end(s, l->r, l->batch, SQLITE_DONE, NULL);
    return rc;
}

static exj_code look_end(struct look *l, int step, exj_err *err)
{
    exj_code rc = EXJ_OK;

    if (step != SQLITE_ROW && step != SQLITE_DONE)
        rc = exj_sqlite_fail(l->s, l->r->db, "cannot read the journal", err);
    sqlite3_reset(l->batch);
    sqlite3_reset(l->name);
    sqlite3_exec(l->r->db, "ROLLBACK", NULL, NULL, NULL);
    exj_sqlite_read_end(l->s, l->r, l->batch, SQLITE_DONE, NULL);
    return rc;
}

static exj_code is_corrupt(const exj_sqlite *s, int64_t number, exj_err *err)
{
    return exj_err_set(err, EXJ_CORRUPT,
                       "store %s: the journal is damaged at entry %" PRId64
                       ": run exellix-jobs doctor",
                       s->path, number);
}

/* Show one entry with the name of its row. *ret_step: what SQLite said last. */
static bool show(struct look *l, const exj_journal_entry *e, exj_event_visit visit, void *user,
                 int *ret_step)
{
    exj_event_view v = { .entry = *e };
    bool more;

    sqlite3_bind_int64(l->name, 1, e->seq);
    *ret_step = sqlite3_step(l->name);
    if (*ret_step == SQLITE_ROW) {
        v.pool = sqlite3_column_int64(l->name, 0);
        v.matrix = exj_sqlite_column(l->name, 1);
        v.run = exj_sqlite_column(l->name, 2);
        v.graph = exj_sqlite_column(l->name, 3);
        v.record_id = exj_sqlite_column(l->name, 4);
    }
    more = (*ret_step == SQLITE_ROW || *ret_step == SQLITE_DONE) && visit(user, &v);
    sqlite3_reset(l->name);
    return more;
}

exj_code exj_sqlite_events(exj_store *base, int64_t after, size_t limit, exj_event_visit visit,
                           void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    struct look l;
    size_t shown = 0;
    int step = SQLITE_DONE, named = SQLITE_DONE;
    exj_code rc;

    if (limit < 1 || limit > 10000)
        return exj_err_set(err, EXJ_INVALID, "%zu events: 1 to 10000 are allowed", limit);
    rc = look_begin(&l, s, R_EVENTS, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(l.batch, 1, after);
    while (!rc && shown < limit && (step = sqlite3_step(l.batch)) == SQLITE_ROW) {
        exj_events_iter it;
        exj_journal_entry e;
        bool more = true;

        exj_events_iter_init(&it,
                             (exj_slice){ sqlite3_column_blob(l.batch, 3),
                                          (size_t)sqlite3_column_bytes(l.batch, 3) },
                             sqlite3_column_int64(l.batch, 0), sqlite3_column_int64(l.batch, 1));
        while (more && shown < limit && exj_events_iter_next(&it, &e)) {
            if (e.number <= after)
                continue;
            e.at = sqlite3_column_int64(l.batch, 2);
            more = show(&l, &e, visit, user, &named);
            shown++;
        }
        if (it.corrupt)
            rc = is_corrupt(s, it.at.number, err);
        if (!more)
            break;
    }
    if (named != SQLITE_ROW && named != SQLITE_DONE)
        step = named;
    if (rc)
        look_end(&l, SQLITE_DONE, NULL);
    else
        rc = look_end(&l, step, err);
    return rc;
}

/* Find the entry `number`; its texts live until the batch statement moves. */
static exj_code find_entry(struct look *l, int64_t number, exj_journal_entry *ret, exj_err *err)
{
    exj_events_iter it;
    int step;

    sqlite3_reset(l->batch);
    sqlite3_bind_int64(l->batch, 1, number);
    step = sqlite3_step(l->batch);
    if (step == SQLITE_ROW) {
        exj_events_iter_init(&it,
                             (exj_slice){ sqlite3_column_blob(l->batch, 3),
                                          (size_t)sqlite3_column_bytes(l->batch, 3) },
                             sqlite3_column_int64(l->batch, 0),
                             sqlite3_column_int64(l->batch, 1));
        while (exj_events_iter_next(&it, ret))
            if (ret->number == number) {
                ret->at = sqlite3_column_int64(l->batch, 2);
                return EXJ_OK;
            }
    } else if (step != SQLITE_DONE) {
        return exj_sqlite_fail(l->s, l->r->db, "cannot read the journal", err);
    }
    return is_corrupt(l->s, number, err);
}

exj_code exj_sqlite_journal(exj_store *base, int64_t seq, size_t limit, exj_event_visit visit,
                            void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    int64_t *numbers = NULL, at = 0;
    size_t n = 0, cap = 0;
    struct look l;
    exj_reader *r;
    sqlite3_stmt *st;
    exj_journal_entry e;
    int step = SQLITE_DONE;
    exj_code rc;

    if (limit < 1 || limit > 100000)
        return exj_err_set(err, EXJ_INVALID, "%zu entries: 1 to 100000 are allowed", limit);
    rc = exj_sqlite_read_begin(s, R_LAST, &r, &st, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, seq);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        at = sqlite3_column_int64(st, 0);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (rc || !at)
        return rc;
    rc = look_begin(&l, s, R_BATCH_OF, err);
    if (rc)
        return rc;
    while (!rc && at && n < limit) {
        if (n == cap) {
            int64_t *more = realloc(numbers, (cap = cap ? cap * 2 : 64) * sizeof(*more));

            if (!more) {
                rc = exj_err_set(err, EXJ_NOMEM, "store %s: no memory for a journal", s->path);
                break;
            }
            numbers = more;
        }
        numbers[n++] = at;
        rc = find_entry(&l, at, &e, err);
        if (!rc && e.seq != seq) /* e.previous is below at: so it was packed */
            rc = is_corrupt(s, at, err);
        at = rc ? 0 : e.previous;
    }
    step = SQLITE_DONE;
    while (!rc && n--) {
        rc = find_entry(&l, numbers[n], &e, err);
        if (!rc && !show(&l, &e, visit, user, &step))
            break;
    }
    free(numbers);
    if (rc)
        look_end(&l, SQLITE_DONE, NULL);
    else
        rc = look_end(&l, step, err);
    return rc;
}

exj_code exj_sqlite_events_span(exj_store *base, int64_t *ret_first, int64_t *ret_last,
                                exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_EVENTS_SPAN, &r, &st, err);

    if (rc)
        return rc;
    *ret_first = 1;
    *ret_last = 0;
    step = sqlite3_step(st);
    if (step == SQLITE_ROW) {
        *ret_first = sqlite3_column_int64(st, 0);
        *ret_last = sqlite3_column_int64(st, 1);
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}
