/* The event stream when memory is short: what is sent is true and nothing is left out; a stream
 * that cannot go on ends, and gives back its place. */
#include "core/http/stream.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/fault.h"

#define ROWS 12

static char dir[64];
static exj_store *store;
static exj_news *news;
static exj_streams *streams;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void setup(void)
{
    exj_op pool = { .kind = EXJ_OP_POOL }, op = { .kind = EXJ_OP_INSERT };
    exj_insert_item items[ROWS];
    char ids[ROWS][8];
    exj_err err = { 0 };

    snprintf(dir, sizeof(dir), "/tmp/exj-stream-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(exj_sqlite_open(&(exj_sqlite_options){ .dir = dir, .fast = true }, &store, &err),
                 EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_news_open(store, &news, &err), EXJ_OK);
    cr_assert_eq(exj_streams_open(store, news, &streams, &err), EXJ_OK);
    pool.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    pool.u.pool.graph = EXJ_SLICE_LITERAL("g");
    cr_assert_eq(exj_store_do(store, &pool, &err), EXJ_OK, "%s", err.text);
    for (int k = 0; k < ROWS; k++) {
        snprintf(ids[k], sizeof(ids[k]), "r%d", k);
        items[k] = (exj_insert_item){ .record_id = exj_slice_of(ids[k]),
                                      .input = EXJ_SLICE_LITERAL("{}") };
    }
    op.u.insert.pool = pool.u.pool.ret_pool;
    op.u.insert.max_attempts = 1;
    op.u.insert.items = items;
    op.u.insert.len = ROWS;
    cr_assert_eq(exj_store_do(store, &op, &err), EXJ_OK, "%s", err.text);
}

static void teardown(void)
{
    exj_streams_close(streams);
    exj_news_close(news);
    store->v->close(store);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(stream, .init = setup, .fini = teardown);

/* Read until all events are there, or the stream ends. */
static exj_code read_all(char *ret, size_t cap, exj_err *err)
{
    exj_stream_wish wish = { .graph = EXJ_SLICE_LITERAL("g") };
    exj_stream *s = NULL;
    exj_code rc = exj_stream_open(streams, &wish, &s, err);
    size_t n = 0;
    ssize_t got = 1;

    ret[0] = '\0';
    if (rc != EXJ_OK)
        return rc;
    while (got > 0 && !strstr(ret, "id: 12\n")) {
        got = exj_stream_read(s, ret + n, cap - 1 - n);
        n += got > 0 ? (size_t)got : 0;
        ret[n] = '\0';
    }
    exj_stream_close(s);
    return got > 0 ? EXJ_OK : EXJ_NOMEM;
}

Test(stream, sends_nothing_false_when_memory_is_short)
{
    static char whole[20000], text[20000];
    exj_stream *held[EXJ_STREAMS_MAX];
    exj_stream_wish wish = { 0 };
    exj_err err = { 0 };
    long n;

    cr_assert_eq(read_all(whole, sizeof(whole), &err), EXJ_OK, "%s", err.text);
    for (n = 1; n < 10000; n++) {
        exj_code rc;
        bool tried;

        exj_fault_arm(n);
        rc = read_all(text, sizeof(text), &err);
        tried = exj_fault_disarm() >= n;
        cr_assert_eq(strncmp(whole, text, strlen(text)), 0, "%ld: %s", n, text);
        cr_assert(rc == EXJ_OK || rc == EXJ_NOMEM, "%ld: %d", n, rc);
        cr_assert(rc != EXJ_OK || strcmp(text, whole) == 0, "%ld: %s", n, text);
        if (!tried)
            break;
    }
    cr_assert_gt(n, 3);
    for (size_t k = 0; k < EXJ_STREAMS_MAX; k++) /* every place was given back */
        cr_assert_eq(exj_stream_open(streams, &wish, &held[k], &err), EXJ_OK);
    cr_assert_eq(exj_stream_open(streams, &wish, &held[0], &err), EXJ_BUSY);
    for (size_t k = 0; k < EXJ_STREAMS_MAX; k++)
        exj_stream_close(held[k]);
}

static exj_code fail_events(exj_store *s, int64_t after, size_t limit, exj_event_visit visit,
                            void *user, exj_err *err)
{
    (void)s, (void)after, (void)limit, (void)visit, (void)user;
    return exj_err_set(err, EXJ_IO, "the disk cannot be read");
}

Test(stream, ends_when_the_store_cannot_be_read)
{
    const exj_store_vtable *real = store->v;
    exj_store_vtable broken = *real;
    exj_stream_wish wish = { 0 };
    exj_stream *s = NULL;
    exj_err err = { 0 };
    char text[100];

    broken.events = fail_events;
    cr_assert_eq(exj_stream_open(streams, &wish, &s, &err), EXJ_OK);
    store->v = &broken;
    cr_assert_gt(exj_stream_read(s, text, sizeof(text)), 0); /* its greeting */
    cr_assert_eq(exj_stream_read(s, text, sizeof(text)), -1);
    cr_assert_eq(exj_stream_read(s, text, sizeof(text)), -1);
    exj_stream_close(s);
    store->v = real;
}

static bool take_end(void *user, const exj_row_view *v)
{
    *(exj_removal *)user = (exj_removal){ .seq = v->seq,
                                          .token = v->token,
                                          .finished_at = v->finished_at };
    return true;
}

/* Every row is canceled, removed, and leaves the journal. */
static void prune_all(void)
{
    exj_removal gone[ROWS] = { 0 };
    exj_op op;
    exj_err err = { 0 };

    for (int k = 0; k < ROWS; k++) {
        op = (exj_op){ .kind = EXJ_OP_CANCEL };
        op.u.cancel.seq = k + 1;
        cr_assert_eq(exj_store_do(store, &op, &err), EXJ_OK, "%s", err.text);
        cr_assert_eq(store->v->row_by_seq(store, k + 1, take_end, &gone[k], &err), EXJ_OK);
    }
    op = (exj_op){ .kind = EXJ_OP_REMOVE };
    op.u.remove.items = gone;
    op.u.remove.len = ROWS;
    cr_assert_eq(exj_store_do(store, &op, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(op.u.remove.ret_removed, ROWS);
    op = (exj_op){ .kind = EXJ_OP_COMPACT };
    op.u.compact.limit = 10000;
    cr_assert_eq(exj_store_do(store, &op, &err), EXJ_OK, "%s", err.text);
    cr_assert_gt(op.u.compact.ret_dropped, 0);
}

Test(stream, says_what_was_pruned_before_its_reader_came_to_it)
{
    exj_stream_wish wish = { 0 };
    exj_stream *s = NULL;
    exj_err err = { 0 };
    char text[4096] = "";
    int64_t first, last;
    ssize_t n;

    cr_assert_eq(exj_stream_open(streams, &wish, &s, &err), EXJ_OK, "%s", err.text);
    prune_all();
    cr_assert_eq(store->v->events_span(store, &first, &last, &err), EXJ_OK);
    cr_assert_gt(first, 1);
    for (size_t at = 0; !strstr(text, "}\n\n"); at += (size_t)n) {
        n = exj_stream_read(s, text + at, sizeof(text) - 1 - at);
        cr_assert_gt(n, 0);
        text[at + (size_t)n] = '\0';
    }
    cr_expect(strstr(text, "event: gap\ndata: {\"from\":1,"), "%s", text);
    exj_stream_close(s);
}
