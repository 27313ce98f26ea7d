#include "stream.h"

#include <time.h>

#define SOON_S 10

/* ---- the whole stream ---------------------------------------------------------------------- */

struct told_row {
    int64_t seq, last;
    char words[2048];
};

struct streaming {
    struct told_row rows[STREAM_ROWS]; /* in the order in which they came */
    size_t rows_len;
    int64_t number;
};

static struct told_row *row_of(struct streaming *s, int64_t seq)
{
    for (size_t i = 0; i < s->rows_len; i++)
        if (s->rows[i].seq == seq)
            return &s->rows[i];
    cr_assert_lt(s->rows_len, STREAM_ROWS, "more rows than a stream is looked at for");
    s->rows[s->rows_len].seq = seq;
    return &s->rows[s->rows_len++];
}

static bool flow(void *user, const exj_event_view *v)
{
    struct streaming *s = user;
    struct told_row *r = row_of(s, v->entry.seq);
    size_t n = strlen(r->words);

    cr_assert(v->entry.number == s->number + 1, "after %" PRId64 " came %" PRId64, s->number,
              v->entry.number);
    expect_int(v->entry.previous, r->last);
    cr_assert(exj_slice_is(v->matrix, "m") && exj_slice_is(v->graph, "g") && v->record_id.n);
    snprintf(r->words + n, sizeof(r->words) - n, "%s%s", n ? " " : "",
             exj_entry_word(v->entry.kind));
    s->number = r->last = v->entry.number;
    return true;
}

void expect_stream(struct fixture *f, size_t page)
{
    static struct streaming s;
    int64_t first = 9, last = 9, before = 0;

    memset(&s, 0, sizeof(s));
    expect_code(f->s->v->events_span(f->s, &first, &last, NULL), EXJ_OK);
    s.number = first - 1; /* nothing was removed: the stream begins where it is whole */
    for (;;) {
        expect_code(f->s->v->events(f->s, before, page, flow, &s, NULL), EXJ_OK);
        cr_assert(s.number - (before ? before : first - 1) <= (int64_t)page);
        if (s.number == before || s.number < first)
            break;
        before = s.number;
    }
    expect_int(last, s.number);
    for (size_t i = 0; i < s.rows_len; i++) {
        const struct told_row *r = &s.rows[i];

        cr_assert_str_eq(words_of(f, r->seq), r->words);
        expect_int(look(f, r->seq).v.last_entry, r->last);
        expect_folds(f, r->seq);
    }
    /* From the future, and out of bounds. */
    expect_code(f->s->v->events(f->s, last + 1000, 10, flow, &s, NULL), EXJ_OK);
    expect_int(s.number, last);
    expect_code(f->s->v->events(f->s, 0, 0, flow, &s, NULL), EXJ_INVALID);
    expect_code(f->s->v->events(f->s, 0, 10001, flow, &s, NULL), EXJ_INVALID);
    expect_code(f->s->v->journal(f->s, s.rows[0].seq, 0, flow, &s, NULL), EXJ_INVALID);
}

/* ---- who listens --------------------------------------------------------------------------- */

bool count_entry(void *user, const exj_event_view *v)
{
    int64_t *seen = user;

    seen[0]++;
    seen[1] = v->entry.number;
    return true;
}

void hear(void *user, int64_t last)
{
    struct news *n = user;
    int64_t seen[2] = { 0, 0 };

    /* It is committed: who reads now finds it. */
    n->s->v->events(n->s, last - 1, 1, count_entry, seen, NULL);
    pthread_mutex_lock(&n->mu);
    n->unread += seen[1] != last;
    n->calls++;
    cr_assert(last > n->last);
    n->last = last;
    pthread_cond_signal(&n->more);
    pthread_mutex_unlock(&n->mu);
}

void expect_heard(struct fixture *f, struct news *n, int64_t last)
{
    struct timespec until;
    int64_t heard;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += f->maker->shared ? SOON_S : 0;
    pthread_mutex_lock(&n->mu);
    while (n->last < last && f->maker->shared &&
           pthread_cond_timedwait(&n->more, &n->mu, &until) == 0)
        continue;
    heard = n->last;
    pthread_mutex_unlock(&n->mu);
    expect_int(heard, last);
}
