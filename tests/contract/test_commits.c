/* Commits of the embedded store that fail leave neither an entry nor a hole in the stream. */
#include <sqlite3.h>

#include "stream.h"

#include "core/store/sqlite/internal.h"

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

Test(commits, a_commit_that_finds_no_memory_leaves_no_entry_and_no_hole)
{
    struct fixture f;
    int64_t p, calls;
    struct news n = { HEARD_NOTHING };

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

Test(commits, a_full_disk_leaves_no_entry_and_no_hole)
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
    while (rc == EXJ_OK && n < STREAM_ROWS - 2) {
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

Test(commits, a_commit_that_the_disk_refuses_leaves_rows_and_stream_alike)
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
