/* The event stream: every change of every row, once, in order, with its commit. */
#include "durable.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/store/sqlite/internal.h"

#define SEQS 64

struct streaming {
    int64_t number, last_of[SEQS];
    char words[SEQS][2048];
    size_t n, stop_after;
};

static bool flow(void *user, const exj_event_view *v)
{
    struct streaming *s = user;
    char *w = s->words[v->entry.seq];
    size_t n = strlen(w);

    cr_assert(v->entry.seq < SEQS);
    cr_assert(v->entry.number == s->number + 1, "after %" PRId64 " came %" PRId64, s->number,
              v->entry.number);
    expect_int(v->entry.previous, s->last_of[v->entry.seq]);
    cr_assert(exj_slice_is(v->matrix, "m") && exj_slice_is(v->graph, "g") && v->record_id.n);
    snprintf(w + n, sizeof(s->words[0]) - n, "%s%s", n ? " " : "",
             exj_entry_word(v->entry.kind));
    s->number = s->last_of[v->entry.seq] = v->entry.number;
    return ++s->n < s->stop_after;
}

/* The whole stream, in pages of `page`, against the journals of the rows. */
static void expect_stream(struct fixture *f, size_t page)
{
    static struct streaming s;
    int64_t first = 9, last = 9, before;

    memset(&s, 0, sizeof(s));
    s.stop_after = SIZE_MAX;
    do {
        before = s.number;
        expect_code(f->s->v->events(f->s, s.number, page, flow, &s, NULL), EXJ_OK);
        cr_assert(s.number - before <= (int64_t)page);
    } while (s.number > before);
    expect_code(f->s->v->events_span(f->s, &first, &last, NULL), EXJ_OK);
    expect_int(first, 1);
    expect_int(last, s.number);
    for (int64_t seq = 1; seq < SEQS; seq++)
        if (s.words[seq][0]) {
            cr_assert_str_eq(words_of(f, seq), s.words[seq]);
            expect_int(look(f, seq).v.last_entry, s.last_of[seq]);
            expect_folds(f, seq);
        }
    /* From the future, and out of bounds. */
    expect_code(f->s->v->events(f->s, last + 1000, 10, flow, &s, NULL), EXJ_OK);
    expect_int(s.number, last);
    expect_code(f->s->v->events(f->s, 0, 0, flow, &s, NULL), EXJ_INVALID);
    expect_code(f->s->v->events(f->s, 0, 10001, flow, &s, NULL), EXJ_INVALID);
    expect_code(f->s->v->journal(f->s, 1, 0, flow, &s, NULL), EXJ_INVALID);
}

static void live(struct fixture *f, int64_t p)
{
    exj_claim c[20];
    exj_reaped r[20];
    char id[16];

    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        insert(f, p, id);
    }
    expect_int(claim(f, p, "w", 1, 20, c), 20);
    for (int i = 0; i < 20; i++) {
        expect_code(step_put(f, &c[i], "s", "1"), EXJ_OK);
        if (i % 5 == 0)
            expect_code(suspend(f, &c[i], EXJ_WAIT_SIGNAL, "go", START + 10), EXJ_OK);
        else if (i % 5 == 1)
            expect_code(finish(f, &c[i], EXJ_EV_FAIL_RETRY, START + 5, "x"), EXJ_OK);
        else if (i % 5 == 2)
            expect_code(progress(f, &c[i], 0.5, "half"), EXJ_OK);
        else if (i % 5 == 3)
            expect_code(finish(f, &c[i], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
        else
            expect_code(cancel(f, c[i].seq, NULL, NULL), EXJ_OK);
    }
    advance(f, LEASE + 1);
    promote(f, NULL);
    reap(f, NULL, 0, r, 20);
}

/* spec 2.7: Every state change appends an event to the outbox in the same transaction as the
 * change.
 * spec 2.10: The event stream contains every state change once or more, in order per row, none
 * missing. */
CONTRACT(stream, numbers_have_no_gaps_and_rows_are_told_in_order)
{
    int64_t p = pool(f, "m", "", "g"), first, last;
    struct streaming *s = calloc(1, sizeof(*s));

    expect_code(f->s->v->events_span(f->s, &first, &last, NULL), EXJ_OK);
    cr_assert(first == 1 && last == 0);
    live(f, p);
    expect_stream(f, 10000);
    expect_stream(f, 7);
    fixture_reopen(f);
    expect_stream(f, 1);
    insert(f, p, "one more");
    expect_stream(f, 10000); /* numbering goes on after a restart */
    s->stop_after = 5;
    expect_code(f->s->v->events(f->s, 0, 10000, flow, s, NULL), EXJ_OK);
    expect_int(s->n, 5); /* a visitor may stop */
    free(s);
}

/* spec 2.3: Order is kept: the journal of a row reads as its history (`queued`, `claimed`,
 * `step`, `progress`, `suspended`, `resumed`, `lease_expired`, `crashed`, `completed` …). */
CONTRACT(stream, a_journal_reads_as_the_history_of_its_row)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert_as(f, p, "a", 0, 9, START + 5);
    exj_reaped r[1];
    exj_claim c;

    advance(f, 5);
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w-7", 1);
    expect_code(release(f, &c), EXJ_OK);
    c = claim_one(f, p, "w-7", 2);
    expect_code(step_begin(f, &c, "s", NULL), EXJ_OK);
    expect_code(step_put(f, &c, "s", "1"), EXJ_OK);
    expect_code(progress(f, &c, 0.5, "half"), EXJ_OK);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, r, 1), 1);
    c = claim_one(f, p, "w-8", 3);
    expect_code(suspend(f, &c, EXJ_WAIT_TIME, NULL, START + 5 * LEASE), EXJ_OK);
    advance(f, 5 * LEASE);
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w-8", 4);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_code(rerun(f, seq, NULL, NULL, NULL, NULL), EXJ_OK);
    expect_words(f, seq,
                 "scheduled claimed released claimed step_begun step progress lease_expired "
                 "claimed suspended step resumed claimed completed rerun");
    fixture_reopen(f);
    expect_stream(f, 3);
}

static bool count_entry(void *user, const exj_event_view *v)
{
    int64_t *seen = user;

    seen[0]++;
    seen[1] = v->entry.number;
    return true;
}

CONTRACT(stream, a_long_journal_shows_its_newest_entries)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a"), seen[2] = { 0, 0 };
    exj_claim c = claim_one(f, p, "w", 1);

    for (int i = 0; i < 300; i++)
        expect_code(progress(f, &c, i / 300.0, "on"), EXJ_OK);
    expect_code(f->s->v->journal(f->s, seq, 10, count_entry, seen, NULL), EXJ_OK);
    expect_int(seen[0], 10);
    expect_int(seen[1], 302);
    expect_folds(f, seq);
    seen[0] = 0;
    expect_code(f->s->v->journal(f->s, NO_ROW, 10, count_entry, seen, NULL), EXJ_OK);
    expect_int(seen[0], 0);
}

CONTRACT(stream, long_texts_are_clipped_at_a_whole_character)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    char note[2001] = "x";
    exj_claim c = claim_one(f, p, "w", 1);

    for (int i = 1; i < 1999; i += 2)
        memcpy(note + i, "\xc3\xa9", 3);
    expect_code(progress(f, &c, 0.5, note), EXJ_OK);
    expect_int(strlen(newest(f, seq).text), 511);
    cr_assert(exj_utf8_is_valid(exj_slice_of(newest(f, seq).text)));
}

/* ---- who listens -------------------------------------------------------------------------- */

struct news {
    exj_store *s;
    pthread_mutex_t mu;
    int64_t last, calls, unread;
};

static void hear(void *user, int64_t last)
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
    pthread_mutex_unlock(&n->mu);
}

CONTRACT(stream, whoever_listens_hears_after_each_commit_with_entries)
{
    int64_t p = pool(f, "m", "", "g"), seq, calls;
    struct news n = { .s = f->s, .mu = PTHREAD_MUTEX_INITIALIZER };
    exj_claim c;

    f->s->v->listen(f->s, hear, &n);
    seq = insert(f, p, "a");
    expect_int(n.last, look(f, seq).v.last_entry);
    expect_int(n.calls, 1);
    c = claim_one(f, p, "w", 1);
    expect_int(n.last, look(f, seq).v.last_entry);
    calls = n.calls;
    expect_code(renew(f, &c, LEASE), EXJ_OK); /* no entry: no news */
    expect_code(put(f, EXJ_DOC_GRAPH, "g", 0, "{}", NULL), EXJ_OK);
    expect_code(retry(f, seq, NULL), EXJ_REFUSED);
    expect_int(n.calls, calls);
    f->s->v->listen(f->s, NULL, NULL);
    insert(f, p, "b");
    expect_int(n.calls, calls);
    expect_int(n.unread, 0);
}

/* ---- commits that fail -------------------------------------------------------------------- */

static exj_store *open_at(const char *dir, const exj_sqlite_seam *seam)
{
    exj_sqlite_options o = { .dir = dir, .lock_note = "stream" };
    exj_store *s = NULL;
    exj_err err = { 0 };

    cr_assert(exj_sqlite_open_seam(&o, seam, &s, &err) == EXJ_OK, "%s", err.text);
    return s;
}

static exj_code insert_big(struct fixture *f, int64_t p, const char *id)
{
    static char big[60000]; /* less than what goes into files */
    exj_insert_item it = { .record_id = exj_slice_of(id), .input = { big, sizeof(big) } };
    exj_op op = { .kind = EXJ_OP_INSERT };

    memset(big, 'x', sizeof(big));
    op.u.insert.pool = p;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    return exj_store_do(f->s, &op, NULL);
}

Test(stream, a_commit_that_finds_no_memory_leaves_no_entry_and_no_hole)
{
    struct fixture f;
    int64_t p, calls;
    struct news n = { .mu = PTHREAD_MUTEX_INITIALIZER };

    fixture_open(&f, sqlite_makers.list);
    n.s = f.s;
    p = pool(&f, "m", "", "g");
    insert(&f, p, "a");
    f.s->v->listen(f.s, hear, &n);
    sqlite3_hard_heap_limit64(sqlite3_memory_used() + 4096);
    expect_code(insert_big(&f, p, "big"), EXJ_NOMEM);
    sqlite3_hard_heap_limit64(0);
    calls = n.calls;
    expect_int(calls, 0);
    expect_stream(&f, 100);
    insert(&f, p, "b");
    expect_int(n.last, 2);
    expect_stream(&f, 100);
    f.s->v->listen(f.s, NULL, NULL);
    fixture_close(&f);
}

Test(stream, a_full_disk_leaves_no_entry_and_no_hole)
{
    struct fixture f = { .maker = sqlite_makers.list };
    exj_sqlite_seam seam = { .max_pages = 300 };
    exj_code rc = EXJ_OK;
    int64_t p, seq, n = 0;
    char id[16];
    exj_claim c;

    temp_dir(f.dir, sizeof(f.dir));
    f.s = open_at(f.dir, &seam);
    p = pool(&f, "m", "", "g");
    seq = insert_as(&f, p, "first", 9, 3, 0);
    c = claim_one(&f, p, "w", 1);
    while (rc == EXJ_OK && n < SEQS - 2) {
        snprintf(id, sizeof(id), "big%d", (int)n++);
        rc = insert_big(&f, p, id);
    }
    expect_code(rc, EXJ_FULL);
    expect_stream(&f, 10);
    expect_code(progress(&f, &c, 0.5, "small"), EXJ_OK);
    expect_int(look(&f, seq).v.last_entry, 2 + n); /* n - 1 rows came in, then this */
    expect_stream(&f, 10);
    fixture_close(&f);
}

/* A file system whose writes fail from a moment on. */
static atomic_bool broken;
static const sqlite3_io_methods *real[2];
static sqlite3_io_methods ours[2];

static int write_or_fail(sqlite3_file *file, const void *p, int n, sqlite3_int64 at)
{
    const sqlite3_io_methods *m = file->pMethods;

    if (atomic_load(&broken))
        return SQLITE_IOERR_WRITE;
    return real[m == &ours[1]]->xWrite(file, p, n, at);
}

static int sync_or_fail(sqlite3_file *file, int flags)
{
    const sqlite3_io_methods *m = file->pMethods;

    return atomic_load(&broken) ? SQLITE_IOERR_FSYNC : real[m == &ours[1]]->xSync(file, flags);
}

static sqlite3_vfs *plain;

static int open_ours(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    int rc = plain->xOpen(plain, name, file, flags, out);
    int i = flags & SQLITE_OPEN_MAIN_DB ? 0 : 1; /* others have no locks */

    (void)vfs;
    if (rc == SQLITE_OK && file->pMethods) {
        real[i] = file->pMethods;
        ours[i] = *file->pMethods;
        ours[i].xWrite = write_or_fail;
        ours[i].xSync = sync_or_fail;
        file->pMethods = &ours[i];
    }
    return rc;
}

Test(stream, a_commit_that_the_disk_refuses_leaves_rows_and_stream_alike)
{
    struct fixture f = { .maker = sqlite_makers.list };
    static sqlite3_vfs vfs;
    exj_sqlite_seam seam = { .vfs = "breaks" };
    exj_insert_item it = { .record_id = EXJ_SLICE_LITERAL("c"),
                           .input = EXJ_SLICE_LITERAL("{}") };
    exj_op op = { .kind = EXJ_OP_INSERT };
    int64_t p;

    plain = sqlite3_vfs_find(NULL);
    vfs = *plain;
    vfs.zName = "breaks";
    vfs.xOpen = open_ours;
    sqlite3_vfs_register(&vfs, 0);
    temp_dir(f.dir, sizeof(f.dir));
    f.s = open_at(f.dir, &seam);
    p = pool(&f, "m", "", "g");
    insert(&f, p, "a");
    insert(&f, p, "b");
    atomic_store(&broken, true);
    op.u.insert.pool = p;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    expect_code(exj_store_do(f.s, &op, NULL), EXJ_UNKNOWN);
    expect_code(exj_store_do(f.s, &op, NULL), EXJ_IO); /* from here on nothing is tried */
    expect_stream(&f, 100);
    expect_int(look(&f, 1).v.seq, 1);
    f.s->v->close(f.s);
    atomic_store(&broken, false);
    f.s = open_at(f.dir, NULL);
    expect_stream(&f, 100);
    it.verdict = EXJ_BUG;
    expect_code(exj_store_do(f.s, &op, NULL), EXJ_OK); /* whichever way it went: idempotent */
    expect_stream(&f, 100);
    expect_int(count(&f, p, EXJ_QUEUED), 3);
    fixture_close(&f);
}
