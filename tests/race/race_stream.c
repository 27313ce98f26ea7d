/* Many readers of the event stream, fast, slow and choosy, while rows come and end, ears come
 * and go, and more streams are asked for than there may be. In the end all is closed down while
 * they wait. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/http/stream.h"
#include "tests/race/rows.h"
#include "tests/support/support.h"

#define FEEDERS 2
#define ROUNDS 12
#define READERS 9
#define GRABBERS 3

static exj_store *store;
static exj_news *news;
static exj_streams *streams;
static int64_t pool;
static exj_err err; /* none */
static atomic_bool over;
static atomic_int open_now, refused;
static _Atomic int64_t seen[READERS];
static _Atomic uint64_t events_read;

static void *feed(void *arg)
{
    char prefix[16];

    snprintf(prefix, sizeof(prefix), "f%d", (int)(intptr_t)arg);
    for (int k = 0; k < ROUNDS; k++) {
        rows_insert(store, pool, prefix, k * ROWS_AT_ONCE, ROWS_AT_ONCE);
        while (rows_finish(store, pool) > ROWS_AT_ONCE / 2)
            ;
    }
    return NULL;
}

enum taste { ALL, FROM_NOW, ONE_ROW, ONE_GRAPH, NO_GRAPH, TASTES };

struct lines {
    char text[200]; /* the line that is not at its end; longer ones are cut */
    size_t n;
    int64_t last;
    uint64_t ids;
    enum taste taste;
};

static void take_line(struct lines *l)
{
    int64_t id;

    if (sscanf(l->text, "id: %" SCNd64, &id) != 1)
        return;
    CHECK(id > l->last);
    if (l->taste == ALL || l->taste == ONE_GRAPH)
        CHECK(id == l->last + 1); /* nothing is missing */
    CHECK(l->taste != NO_GRAPH);
    l->last = id;
    l->ids++;
}

static void take_bytes(struct lines *l, const char *p, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (p[k] == '\n') {
            l->text[l->n] = '\0';
            take_line(l);
            l->n = 0;
        } else if (l->n + 1 < sizeof(l->text)) {
            l->text[l->n++] = p[k];
        }
}

static exj_stream_wish wish_of(enum taste taste)
{
    exj_stream_wish w = { .after = taste == FROM_NOW ? -1 : 0 };

    if (taste == ONE_ROW)
        w.seq = 1;
    if (taste == ONE_GRAPH || taste == NO_GRAPH)
        w.graph = taste == NO_GRAPH ? EXJ_SLICE_LITERAL("other") : EXJ_SLICE_LITERAL("g");
    return w;
}

/* Reads to the end of the server. */
static void *read_all(void *arg)
{
    int at = (int)(intptr_t)arg;
    struct lines l = { .taste = (enum taste)(at % TASTES) };
    exj_stream_wish wish = wish_of(l.taste);
    size_t room = at < TASTES ? 4096 : 7; /* the slow one takes few bytes at a time */
    exj_stream *s = NULL;
    char bytes[4096];
    ssize_t n;

    CHECK(exj_stream_open(streams, &wish, &s, &err) == EXJ_OK);
    atomic_fetch_add(&open_now, 1);
    while ((n = exj_stream_read(s, bytes, room)) > 0) {
        CHECK((size_t)n <= room);
        take_bytes(&l, bytes, (size_t)n);
        atomic_store(&seen[at], l.last);
        if (room < sizeof(bytes))
            sched_yield();
    }
    CHECK(n == -1);
    atomic_fetch_sub(&open_now, 1);
    exj_stream_close(s);
    atomic_fetch_add(&events_read, l.ids);
    if (l.taste == ONE_ROW)
        CHECK(l.ids == 3); /* queued, claimed, completed */
    return NULL;
}

/* Takes what places there are, and leaves again. */
static void *grab(void *arg)
{
    exj_stream *held[EXJ_STREAMS_MAX];

    (void)arg;
    while (!atomic_load(&over)) {
        size_t n = 0;
        exj_code rc = EXJ_OK;

        while (n < EXJ_STREAMS_MAX && rc == EXJ_OK) {
            exj_stream_wish wish = wish_of(n % 2 ? ALL : FROM_NOW);
            exj_err why = { 0 };

            rc = exj_stream_open(streams, &wish, &held[n], &why);
            CHECK(rc == EXJ_OK || rc == EXJ_BUSY);
            if (rc == EXJ_OK) {
                CHECK(atomic_fetch_add(&open_now, 1) < (int)EXJ_STREAMS_MAX);
                n++;
            }
        }
        atomic_fetch_add(&refused, rc == EXJ_BUSY);
        while (n) {
            char some[100];

            n--;
            CHECK(exj_stream_read(held[n], some, sizeof(some)) > 0); /* its greeting */
            atomic_fetch_sub(&open_now, 1);
            exj_stream_close(held[n]);
        }
        sched_yield();
    }
    return NULL;
}

struct ear {
    exj_news_ear ear;
    atomic_bool there;
    _Atomic int64_t last;
};

static void heard(void *user, int64_t last)
{
    struct ear *e = user;

    CHECK(atomic_load(&e->there));
    CHECK(last >= atomic_load(&e->last));
    atomic_store(&e->last, last);
}

/* Once remove has returned, an ear hears nothing any more. */
static void *listen_and_leave(void *arg)
{
    struct ear ears[5];

    (void)arg;
    while (!atomic_load(&over)) {
        for (int k = 0; k < 5; k++) {
            ears[k].ear = (exj_news_ear){ .heard = heard, .user = &ears[k] };
            atomic_store(&ears[k].last, 0);
            atomic_store(&ears[k].there, true);
            exj_news_add(news, &ears[k].ear);
        }
        sched_yield();
        for (int k = 0; k < 5; k++) {
            int at = k * 2 % 5;

            exj_news_remove(news, &ears[at].ear);
            atomic_store(&ears[at].there, false);
        }
    }
    return NULL;
}

static bool have_all_seen_all(void *user)
{
    int64_t newest = *(int64_t *)user;

    for (int k = 0; k < READERS; k++)
        if ((k % TASTES == ALL || k % TASTES == ONE_GRAPH) && atomic_load(&seen[k]) < newest)
            return false;
    return true;
}

static void at_most_so_many(void)
{
    exj_stream *held[EXJ_STREAMS_MAX], *more;
    exj_stream_wish wish = { 0 };
    exj_err why = { 0 };

    for (size_t k = 0; k < EXJ_STREAMS_MAX; k++)
        CHECK(exj_stream_open(streams, &wish, &held[k], &err) == EXJ_OK);
    CHECK(exj_stream_open(streams, &wish, &more, &why) == EXJ_BUSY);
    exj_stream_close(held[0]);
    CHECK(exj_stream_open(streams, &wish, &held[0], &err) == EXJ_OK);
    for (size_t k = 0; k < EXJ_STREAMS_MAX; k++)
        exj_stream_close(held[k]);
}

int main(void)
{
    pthread_t feeders[FEEDERS], readers[READERS], grabbers[GRABBERS], ears;
    exj_stream_wish wish = { 0 };
    exj_stream *late = NULL;
    exj_err why = { 0 };
    int64_t newest;
    exj_tmp tmp;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &store,
                          &err) == EXJ_OK);
    CHECK(exj_news_open(store, &news, &err) == EXJ_OK);
    CHECK(exj_streams_open(store, news, &streams, &err) == EXJ_OK);
    pool = rows_pool(store, "g");
    at_most_so_many();
    for (int k = 0; k < READERS; k++)
        CHECK(!pthread_create(&readers[k], NULL, read_all, (void *)(intptr_t)k));
    while (atomic_load(&open_now) < READERS) /* they have their places before others come */
        sched_yield();
    for (int k = 0; k < GRABBERS; k++)
        CHECK(!pthread_create(&grabbers[k], NULL, grab, NULL));
    CHECK(!pthread_create(&ears, NULL, listen_and_leave, NULL));
    for (int k = 0; k < FEEDERS; k++)
        CHECK(!pthread_create(&feeders[k], NULL, feed, (void *)(intptr_t)k));
    for (int k = 0; k < FEEDERS; k++)
        pthread_join(feeders[k], NULL);
    while (rows_finish(store, pool))
        ;
    atomic_store(&over, true);
    for (int k = 0; k < GRABBERS; k++)
        pthread_join(grabbers[k], NULL);
    pthread_join(ears, NULL);
    newest = rows_newest_event(store);
    CHECK(newest == 3 * FEEDERS * ROUNDS * ROWS_AT_ONCE);
    CHECK(exj_until(have_all_seen_all, &newest, -1, 5, 120000));

    exj_streams_end(streams); /* they wait for news now */
    for (int k = 0; k < READERS; k++)
        pthread_join(readers[k], NULL);
    CHECK(exj_stream_open(streams, &wish, &late, &why) == EXJ_CANCELLED);
    CHECK(atomic_load(&open_now) == 0);
    exj_streams_close(streams);
    exj_news_close(news);
    store->v->close(store);
    printf("race_stream: %" PRId64 " events, %" PRIu64 " read, %d times too many streams\n",
           newest, atomic_load(&events_read), atomic_load(&refused));
    exj_support_clean();
    return 0;
}
