/* Two moody sinks, a store that now and then fails to save what they did (or saves it and does
 * not say so), dead letters that are replayed while others are delivered, workers that stop in
 * the middle of a delivery, and rows that come and end all the while. Every event arrives at
 * least once at both, and those of a row in order, but for the dead letters. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/sinks.h"
#include "core/store/sqlite/internal.h"
#include "tests/race/rows.h"
#include "tests/support/support.h"

#define FEEDERS 2
#define ROUNDS 12
#define EVENTS (3 * FEEDERS * ROUNDS * ROWS_AT_ONCE)
#define SINKS 2
#define STOPS 12

static exj_store *store;
static const exj_store_vtable *real;
static exj_registry *plugins;
static exj_news *news;
static int64_t pool;
static exj_err err; /* none */
static exj_tmp tmp;
static atomic_bool over;
static _Atomic exj_msec moved; /* the store's clock */
static atomic_uint saves, unsaved, untold, unread, replayed;
static atomic_bool was_dead[SINKS][EVENTS + 1];
static int64_t row_of[EVENTS + 1];

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static exj_sinks *sinks; /* guarded by mu; NULL: stopped */

static const char *const names[SINKS] = { "one", "two" };

/* ---- the store and its clock -------------------------------------------------------------------- */

static exj_msec wall(void *user)
{
    (void)user;
    return exj_clock_wall_ms() + atomic_load(&moved);
}

static exj_nsec mono(void *user)
{
    (void)user;
    return exj_clock_mono_ns() + atomic_load(&moved) * 1000000;
}

struct told {
    void (*done)(exj_op *op);
    void *user;
};

static void say_unknown(exj_op *op)
{
    struct told *t = op->user;

    op->done = t->done;
    op->user = t->user;
    free(t);
    op->rc = exj_err_set(&op->err, EXJ_UNKNOWN, "the answer got lost");
    op->done(op);
}

static void submit(exj_store *s, exj_op *first)
{
    unsigned n = first->kind == EXJ_OP_SINK_SAVE ? atomic_fetch_add(&saves, 1) + 1 : 1;

    if (n % 9 == 0) {
        atomic_fetch_add(&unsaved, 1);
        first->rc = exj_err_set(&first->err, EXJ_IO, "the disk has a bad day");
        first->done(first);
        return;
    }
    if (n % 7 == 0) {
        struct told *t = malloc(sizeof(*t));

        CHECK(t);
        atomic_fetch_add(&untold, 1);
        *t = (struct told){ first->done, first->user };
        first->done = say_unknown;
        first->user = t;
    }
    real->submit(s, first);
}

static exj_code fail_some_reads(exj_err *why)
{
    if (atomic_fetch_add(&unread, 1) % 23)
        return EXJ_OK;
    return exj_err_set(why, EXJ_IO, "the disk cannot be read");
}

static exj_code events(exj_store *s, int64_t after, size_t limit, exj_event_visit visit,
                       void *user, exj_err *why)
{
    exj_code rc = fail_some_reads(why);

    return rc ? rc : real->events(s, after, limit, visit, user, why);
}

static exj_code undelivered(exj_store *s, exj_slice sink, size_t limit,
                            exj_undelivered_visit visit, void *user, exj_err *why)
{
    exj_code rc = fail_some_reads(why);

    return rc ? rc : real->undelivered(s, sink, limit, visit, user, why);
}

/* ---- who disturbs --------------------------------------------------------------------------------- */

static void *feed(void *arg)
{
    char prefix[16];

    for (int k = 0; k < ROUNDS; k++) {
        snprintf(prefix, sizeof(prefix), "%s-%d", k % 3 ? "good" : "dead", (int)(intptr_t)arg);
        rows_insert(store, pool, prefix, k * ROWS_AT_ONCE, k % 3 ? ROWS_AT_ONCE : 3);
        if (k % 3 == 0)
            rows_insert(store, pool, "more", (int)(intptr_t)arg * 10000 + k * ROWS_AT_ONCE,
                        ROWS_AT_ONCE - 3);
        while (rows_finish(store, pool) > ROWS_AT_ONCE / 2)
            ;
        /* some are stopped while there is work */
        for (int y = 0; y < 200; y++)
            sched_yield();
    }
    return NULL;
}

static void wake(void)
{
    pthread_mutex_lock(&mu);
    exj_sinks_wake(sinks);
    json_decref(exj_sinks_status(sinks));
    pthread_mutex_unlock(&mu);
}

struct letters {
    size_t sink, n;
    int64_t ids[100];
};

static bool note_letter(void *user, const exj_dead_view *v)
{
    struct letters *l = user;

    CHECK(exj_slice_is(v->sink, names[l->sink]));
    CHECK(v->number >= 1 && v->number <= EVENTS);
    atomic_store(&was_dead[l->sink][v->number], true);
    l->ids[l->n++] = v->id;
    return true;
}

/* Rests and back-offs pass quickly, and what is dead comes again. */
static void *move_time(void *arg)
{
    (void)arg;
    for (unsigned turn = 0; !atomic_load(&over); turn++) {
        for (size_t k = 0; turn % 16 == 0 && k < SINKS; k++) {
            struct letters l = { .sink = k };

            CHECK(real->dead_page(store, exj_slice_of(names[k]), 0, 100, note_letter, &l,
                                  &err) == EXJ_OK);
            for (size_t n = 0; n < l.n; n++) {
                exj_op op = { .kind = EXJ_OP_DEAD_REPLAY };

                op.u.dead.id = l.ids[n];
                CHECK(exj_store_do(store, &op, &err) == EXJ_OK);
                atomic_fetch_add(&replayed, 1);
            }
        }
        atomic_fetch_add(&moved, 100);
        wake();
        for (int y = 0; y < 50; y++)
            sched_yield();
    }
    return NULL;
}

static void start(void)
{
    exj_buf config = EXJ_BUF_INIT;
    exj_sinks *s = NULL;

    exj_buf_add_text(&config, "{\"sinks\":[");
    for (size_t k = 0; k < SINKS; k++)
        exj_buf_printf(&config,
                       "%s{\"name\":\"%s\",\"plugin\":\"race-sink\",\"isolation\":\"in-process\","
                       "\"maxAttempts\":4,\"firstRetrySeconds\":1,\"maxRetrySeconds\":2,"
                       "\"config\":{\"log\":\"%s/%s.log\",\"cure\":\"%s/cure\"}}",
                       k ? "," : "", names[k], tmp.path, names[k], tmp.path);
    exj_buf_add_text(&config, "]}");
    CHECK(!config.failed);
    CHECK(exj_sinks_open(store, plugins, exj_buf_slice(&config), &s, &err) == EXJ_OK);
    CHECK(exj_sinks_start(s, news, &err) == EXJ_OK);
    exj_buf_release(&config);
    pthread_mutex_lock(&mu);
    sinks = s;
    pthread_mutex_unlock(&mu);
}

static void stop(void)
{
    exj_sinks *s;

    pthread_mutex_lock(&mu);
    s = sinks;
    sinks = NULL;
    pthread_mutex_unlock(&mu);
    CHECK(exj_sinks_stop(s, 60000) == 0);
}

/* ---- in the end ----------------------------------------------------------------------------------- */

static bool never(void *user, const exj_dead_view *v)
{
    (void)v;
    *(bool *)user = true;
    return false;
}

static bool still(void *user, const exj_undelivered_view *v)
{
    (void)v;
    *(bool *)user = true;
    return false;
}

/* The store is asked what is held, and after the dead: what was replayed is held in the store
 * before its sink knows. */
static bool never_held(void *user, const exj_undelivered_view *v)
{
    (void)v;
    *(bool *)user = true;
    return false;
}

/* For certain only while nothing is replayed. */
static bool is_all_delivered(void *user)
{
    bool left = false;
    json_t *list, *one;
    size_t k;

    (void)user;
    for (k = 0; k < SINKS; k++) /* this first: what is held may die, but not the other way */
        CHECK(real->undelivered(store, exj_slice_of(names[k]), 1, never_held, &left, &err) ==
              EXJ_OK);
    for (k = 0; k < SINKS; k++)
        CHECK(real->dead_page(store, exj_slice_of(names[k]), 0, 1, never, &left, &err) == EXJ_OK);
    for (k = 0; k < SINKS; k++)
        CHECK(real->undelivered(store, exj_slice_of(names[k]), 1, still, &left, &err) == EXJ_OK);
    list = exj_sinks_status(sinks);
    json_array_foreach(list, k, one)
        left |= json_integer_value(json_object_get(one, "position")) < EVENTS ||
                json_integer_value(json_object_get(one, "held")) > 0;
    json_decref(list);
    return !left;
}

static bool is_some_delivered(void *user)
{
    int64_t *wanted = user;
    json_t *list = exj_sinks_status(sinks);
    int64_t n = json_integer_value(json_object_get(json_array_get(list, 0), "delivered"));

    json_decref(list);
    return n >= *wanted;
}

static bool note_row(void *user, const exj_event_view *v)
{
    int64_t *n = user;

    CHECK(v->entry.number == *n + 1 && v->entry.number <= EVENTS);
    *n = v->entry.number;
    row_of[*n] = v->entry.seq;
    return true;
}

/* At each line, what came before it of its row was there already. */
static void check_log(size_t sink)
{
    static bool came[EVENTS + 1];
    static int64_t before[EVENTS + 1]; /* the number before it of the same row; 0: none */
    static int64_t newest_of[EVENTS + 1];
    char name[20], *text, *line, *rest;
    uint64_t again = 0;
    size_t n;

    memset(came, 0, sizeof(came));
    memset(newest_of, 0, sizeof(newest_of));
    for (int64_t k = 1; k <= EVENTS; k++) {
        CHECK(row_of[k] >= 1 && row_of[k] <= EVENTS);
        before[k] = newest_of[row_of[k]];
        newest_of[row_of[k]] = k;
    }
    snprintf(name, sizeof(name), "%s.log", names[sink]);
    text = exj_slurp(exj_tmp_path(&tmp, name), &n);
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        int64_t k = strtoll(line, NULL, 10);

        CHECK(k >= 1 && k <= EVENTS);
        again += came[k];
        came[k] = true;
        for (int64_t b = before[k]; b; b = before[b])
            if (!came[b] && !atomic_load(&was_dead[sink][b])) {
                fprintf(stderr, "sink %s: event %" PRId64 " came before %" PRId64 "\n",
                        names[sink], k, b);
                abort();
            }
    }
    free(text);
    for (int64_t k = 1; k <= EVENTS; k++)
        if (!came[k]) {
            fprintf(stderr, "sink %s: event %" PRId64 " never came\n", names[sink], k);
            abort();
        }
    printf("race_sinks: sink %s: %d events, %" PRIu64 " came again\n", names[sink], EVENTS, again);
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/race-plugins", NULL };
    exj_sqlite_seam seam = { .wall_ms = wall, .mono_ns = mono };
    pthread_t feeders[FEEDERS], mover;
    exj_store_vtable spy;
    int64_t n = 0;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open_seam(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &seam,
                               &store, &err) == EXJ_OK);
    real = store->v;
    spy = *real;
    spy.submit = submit;
    spy.events = events;
    spy.undelivered = undelivered;
    store->v = &spy;
    CHECK(exj_registry_new(dirs, NULL, &plugins, &err) == EXJ_OK);
    CHECK(exj_news_open(store, &news, &err) == EXJ_OK);
    pool = rows_pool(store, "g");
    for (int k = 0; k < FEEDERS; k++)
        CHECK(!pthread_create(&feeders[k], NULL, feed, (void *)(intptr_t)k));
    CHECK(!pthread_create(&mover, NULL, move_time, NULL));
    for (int k = 0; k < STOPS; k++) {
        int64_t some = 10 * k; /* the first is stopped as soon as it has begun */

        start();
        CHECK(exj_until(is_some_delivered, &some, -1, 1, 60000));
        stop();
        if (k == STOPS / 2)
            exj_spit(exj_tmp_path(&tmp, "cure"), "");
    }
    for (int k = 0; k < FEEDERS; k++)
        pthread_join(feeders[k], NULL);
    while (rows_finish(store, pool))
        ;
    CHECK(rows_newest_event(store) == EVENTS);
    start();
    for (;;) {
        CHECK(exj_until(is_all_delivered, NULL, -1, 5, 120000));
        atomic_store(&over, true);
        pthread_join(mover, NULL);
        if (is_all_delivered(NULL))
            break;
        atomic_store(&over, false); /* the last one was just replayed */
        CHECK(!pthread_create(&mover, NULL, move_time, NULL));
    }
    stop();
    for (int64_t last = -1; last != n;) {
        last = n;
        CHECK(real->events(store, n, 1000, note_row, &n, &err) == EXJ_OK);
    }
    CHECK(n == EVENTS);
    for (size_t k = 0; k < SINKS; k++)
        check_log(k);
    CHECK(atomic_load(&unsaved) && atomic_load(&untold) && atomic_load(&replayed));
    printf("race_sinks: %u saves, %u failed, %u untold, %u dead letters replayed\n",
           atomic_load(&saves), atomic_load(&unsaved), atomic_load(&untold),
           atomic_load(&replayed));
    exj_news_close(news);
    exj_registry_free(plugins);
    store->v->close(store);
    exj_support_clean();
    return 0;
}
