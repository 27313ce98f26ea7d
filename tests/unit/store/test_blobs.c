/* Large values by hash: whole or not there, whatever the disk does and whenever we crash. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/store/blobs.h"
#include "tests/support/fault.h"

#define VALUE_BYTES 200000

static char dir[64], blobs_dir[80];
static exj_blobs *b;
static char *value;

static exj_slice the_value(void)
{
    return (exj_slice){ value, VALUE_BYTES };
}

static void open_blobs(const exj_blobs_seam *seam)
{
    exj_err err = { 0 };

    cr_assert_eq(exj_blobs_new(blobs_dir, false, seam, &b, &err), EXJ_OK, "%s", err.text);
}

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/exj-blobs-XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(blobs_dir, sizeof blobs_dir, "%s/blobs", dir);
    value = malloc(VALUE_BYTES);
    for (size_t i = 0; i < VALUE_BYTES; i++)
        value[i] = (char)('a' + i * 31 % 26);
    open_blobs(NULL);
}

static void teardown(void)
{
    char command[128];

    exj_blobs_free(b);
    free(value);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(blobs, .init = setup, .fini = teardown);

static exj_blob_ref put(exj_slice v)
{
    exj_blob_ref ref = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_blobs_put(b, v, &ref, &err), EXJ_OK, "%s", err.text);
    exj_blobs_unpin(b, ref.hash);
    return ref;
}

static void file_of(const exj_blob_ref *ref, char ret[200])
{
    snprintf(ret, 200, "%s/%.2s/%s", blobs_dir, ref->hash, ref->hash);
}

static void expect_value(const exj_blob_ref *ref, exj_slice wanted)
{
    exj_buf got = EXJ_BUF_INIT;
    exj_err err = { 0 };

    exj_buf_add_text(&got, "before ");
    cr_assert_eq(exj_blobs_get(b, ref, &got, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(got.n, wanted.n + 7);
    cr_assert_eq(memcmp(got.p + 7, wanted.p, wanted.n), 0);
    exj_buf_release(&got);
    cr_assert_eq(exj_blobs_check(b, ref, NULL), EXJ_OK);
}

/* A get fails, names value and file, and gives nothing. */
static void expect_gone(const exj_blob_ref *ref, const char *word)
{
    exj_buf got = EXJ_BUF_INIT;
    exj_err err = { 0 };
    char path[200];

    file_of(ref, path);
    cr_assert_eq(exj_blobs_get(b, ref, &got, &err), EXJ_CORRUPT);
    cr_assert_eq(err.code, EXJ_CORRUPT);
    cr_assert_eq(got.n, 0);
    cr_assert(strstr(err.text, ref->hash), "%s", err.text);
    cr_assert(strstr(err.text, path), "%s", err.text);
    cr_assert(strstr(err.text, word), "%s", err.text);
    exj_buf_release(&got);
}

struct seen {
    size_t values, bytes;
};

static bool count(void *user, const exj_blob_ref *ref)
{
    struct seen *s = user;

    s->values++;
    s->bytes += (size_t)ref->bytes;
    return true;
}

static struct seen look(void)
{
    struct seen s = { 0 };

    cr_assert_eq(exj_blobs_each(b, count, &s, NULL), EXJ_OK);
    return s;
}

/* Files of any name in one folder of the blobs. */
static int files_in(const char *folder)
{
    char command[200];
    int n = -1;
    FILE *f;

    snprintf(command, sizeof command, "find '%s/%s' -type f 2>/dev/null | wc -l", blobs_dir,
             folder);
    f = popen(command, "r");
    cr_assert(f && fscanf(f, "%d", &n) == 1);
    pclose(f);
    return n;
}

Test(blobs, a_value_comes_back_as_it_was_put)
{
    exj_blob_ref ref = put(the_value());
    exj_blob_ref other = put(EXJ_SLICE_LITERAL("\"x\""));

    cr_assert_eq(ref.bytes, VALUE_BYTES);
    expect_value(&ref, the_value());
    expect_value(&other, EXJ_SLICE_LITERAL("\"x\""));
    exj_blobs_free(b);
    open_blobs(NULL);
    expect_value(&ref, the_value());
}

Test(blobs, the_directory_is_made_by_the_first_put_alone)
{
    struct stat st;

    cr_assert_eq(look().values, 0);
    cr_assert_eq(stat(blobs_dir, &st), -1);
    put(the_value());
    cr_assert_eq(stat(blobs_dir, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
}

Test(blobs, the_same_content_is_one_file)
{
    exj_blob_ref one = put(the_value()), two = put(the_value());

    cr_assert_str_eq(one.hash, two.hash);
    cr_assert_eq(look().values, 1);
    cr_assert_eq(files_in("."), 1);
}

Test(blobs, an_empty_value_is_a_value)
{
    exj_blob_ref ref = put((exj_slice){ 0 });

    expect_value(&ref, (exj_slice){ "", 0 });
}

/* spec 2.3: Missing blob: an error that names it; never an empty result. */
Test(blobs, a_missing_value_is_an_error_that_names_it)
{
    exj_blob_ref ref = put(the_value());
    char path[200];

    file_of(&ref, path);
    cr_assert_eq(unlink(path), 0);
    expect_gone(&ref, "missing");
    cr_assert_eq(exj_blobs_check(b, &ref, NULL), EXJ_NOT_FOUND);
}

Test(blobs, a_value_that_was_changed_or_cut_is_an_error_that_names_it)
{
    exj_blob_ref ref = put(the_value());
    char path[200];
    int fd;

    file_of(&ref, path);
    fd = open(path, O_WRONLY);
    cr_assert_eq(pwrite(fd, "!", 1, VALUE_BYTES / 2), 1);
    expect_gone(&ref, "damaged");
    cr_assert_eq(exj_blobs_check(b, &ref, NULL), EXJ_CORRUPT);
    cr_assert_eq(ftruncate(fd, VALUE_BYTES - 1), 0);
    expect_gone(&ref, "199999 bytes, not 200000");
    cr_assert_eq(exj_blobs_check(b, &ref, NULL), EXJ_CORRUPT);
    close(fd);
}

Test(blobs, a_damaged_value_that_is_put_again_is_put_right)
{
    exj_blob_ref ref = put(the_value());
    char path[200];

    file_of(&ref, path);
    cr_assert_eq(truncate(path, 10), 0);
    put(the_value());
    expect_value(&ref, the_value());
}

Test(blobs, a_name_that_is_no_hash_never_reaches_the_disk)
{
    exj_blob_ref ref = { .hash = "../../../../etc/passwd", .bytes = 10 };
    exj_buf got = EXJ_BUF_INIT;

    cr_assert_eq(exj_blobs_get(b, &ref, &got, NULL), EXJ_CORRUPT);
    cr_assert_eq(exj_blobs_remove(b, ref.hash, NULL), EXJ_CORRUPT);
    memset(ref.hash, 'A', 64);
    cr_assert_eq(exj_blobs_get(b, &ref, &got, NULL), EXJ_CORRUPT);
    memset(ref.hash, 'a', 64);
    ref.bytes = -1;
    cr_assert_eq(exj_blobs_get(b, &ref, &got, NULL), EXJ_CORRUPT);
    ref.bytes = EXJ_BLOB_MAX_BYTES + 1;
    cr_assert_eq(exj_blobs_get(b, &ref, &got, NULL), EXJ_CORRUPT);
    cr_assert_eq(got.n, 0);
    exj_buf_release(&got);
}

Test(blobs, files_that_are_no_values_are_not_visited)
{
    exj_blob_ref ref = put(the_value());
    char path[200], other[300];

    file_of(&ref, path);
    snprintf(other, sizeof other, "%s.old", path);
    cr_assert_eq(link(path, other), 0);
    snprintf(other, sizeof other, "%s/lost", blobs_dir);
    cr_assert_eq(mkdir(other, 0700), 0);
    cr_assert_eq(look().values, 1);
    cr_assert_eq(look().bytes, VALUE_BYTES);
}

Test(blobs, what_is_removed_is_gone_and_removing_it_again_is_fine)
{
    exj_blob_ref ref = put(the_value());

    cr_assert_eq(exj_blobs_remove(b, ref.hash, NULL), EXJ_OK);
    cr_assert_eq(exj_blobs_remove(b, ref.hash, NULL), EXJ_OK);
    expect_gone(&ref, "missing");
}

Test(blobs, what_was_put_and_not_let_go_of_is_not_removed)
{
    exj_blob_ref one, two;

    cr_assert_eq(exj_blobs_put(b, the_value(), &one, NULL), EXJ_OK);
    cr_assert_eq(exj_blobs_put(b, the_value(), &two, NULL), EXJ_OK);
    cr_assert_eq(exj_blobs_remove(b, one.hash, NULL), EXJ_BUSY);
    exj_blobs_unpin(b, one.hash);
    cr_assert_eq(exj_blobs_remove(b, one.hash, NULL), EXJ_BUSY);
    expect_value(&one, the_value());
    exj_blobs_unpin(b, two.hash);
    cr_assert_eq(exj_blobs_remove(b, one.hash, NULL), EXJ_OK);
}

Test(blobs, who_only_reads_writes_nothing)
{
    exj_blob_ref ref = put(the_value()), again;
    exj_blobs *reader = NULL;
    exj_buf got = EXJ_BUF_INIT;

    cr_assert_eq(exj_blobs_new(blobs_dir, true, NULL, &reader, NULL), EXJ_OK);
    cr_assert_eq(exj_blobs_put(reader, the_value(), &again, NULL), EXJ_REFUSED);
    cr_assert_eq(exj_blobs_remove(reader, ref.hash, NULL), EXJ_REFUSED);
    cr_assert_eq(exj_blobs_get(reader, &ref, &got, NULL), EXJ_OK);
    exj_buf_release(&got);
    exj_blobs_free(reader);
}

/* ---- the disk fails ------------------------------------------------------------------------ */

static size_t write_most; /* bytes one write takes; */
static long write_room;   /* and all of them together; then ENOSPC. < 0: no end */
static int write_error;
static int calls, fail_at; /* the fail_at-th fsync or rename fails */

static ssize_t short_write(int fd, const void *p, size_t n)
{
    if (write_error || write_room == 0) {
        errno = write_error ? write_error : ENOSPC;
        return -1;
    }
    if (n > write_most)
        n = write_most;
    if (write_room > 0 && n > (size_t)write_room)
        n = (size_t)write_room;
    if (write_room > 0)
        write_room -= (long)n;
    return write(fd, p, n);
}

static int bad_fsync(int fd)
{
    if (++calls == fail_at) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

static int bad_rename(const char *from, const char *to)
{
    if (++calls == fail_at) {
        errno = EIO;
        return -1;
    }
    return rename(from, to);
}

static const exj_blobs_seam bad_disk = { short_write, bad_fsync, bad_rename };

static void open_bad_disk(size_t most, long room, int error)
{
    write_most = most;
    write_room = room;
    write_error = error;
    calls = 0;
    fail_at = 0;
    exj_blobs_free(b);
    open_blobs(&bad_disk);
}

static ino_t synced; /* the file that fsync was called for at last, folders aside */
static bool renamed_unsynced;

static int watched_fsync(int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        synced = st.st_ino;
    return fsync(fd);
}

static int watched_rename(const char *from, const char *to)
{
    struct stat st;

    renamed_unsynced |= stat(from, &st) != 0 || st.st_ino != synced;
    return rename(from, to);
}

Test(blobs, a_value_is_on_the_disk_before_it_has_its_name)
{
    static const exj_blobs_seam watched = { .fsync = watched_fsync, .rename = watched_rename };

    exj_blobs_free(b);
    open_blobs(&watched);
    put(the_value());
    cr_assert_neq(synced, 0);
    cr_assert_not(renamed_unsynced);
}

Test(blobs, short_writes_make_a_whole_value)
{
    exj_blob_ref ref;

    open_bad_disk(777, -1, 0);
    ref = put(the_value());
    expect_value(&ref, the_value());
}

Test(blobs, a_full_disk_leaves_nothing_half_visible)
{
    exj_blob_ref ref = { .bytes = -7 };

    for (long room = 0; room < VALUE_BYTES; room += VALUE_BYTES / 5) {
        exj_err err = { 0 };

        open_bad_disk(50000, room, 0);
        cr_assert_eq(exj_blobs_put(b, the_value(), &ref, &err), EXJ_FULL);
        cr_assert(strstr(err.text, "No space left"), "%s", err.text);
        cr_assert(strstr(err.text, blobs_dir), "%s", err.text);
        cr_assert_eq(ref.bytes, -7);
        cr_assert_eq(files_in("."), 0);
    }
    open_bad_disk(50000, -1, EDQUOT);
    cr_assert_eq(exj_blobs_put(b, the_value(), &ref, NULL), EXJ_FULL);
    open_bad_disk(50000, -1, 0); /* room again */
    ref = put(the_value());
    expect_value(&ref, the_value());
    cr_assert_eq(exj_blobs_remove(b, ref.hash, NULL), EXJ_OK, "a failed put has pinned it");
}

Test(blobs, every_step_that_fails_is_an_error_and_leaves_no_half)
{
    exj_blob_ref ref = { 0 };
    int steps = 0;
    bool done = false;

    while (!done) {
        exj_err err = { 0 };
        exj_code rc;

        open_bad_disk(VALUE_BYTES, -1, 0);
        fail_at = ++steps;
        rc = exj_blobs_put(b, the_value(), &ref, &err);
        done = calls < fail_at;
        if (done) {
            cr_assert_eq(rc, EXJ_OK);
            break;
        }
        cr_assert_eq(rc, EXJ_IO, "step %d: %d %s", steps, rc, err.text);
        cr_assert_eq(files_in("new"), 0);
        if (look().values) /* renamed, and the last sync failed: whole, and pinned by nobody */
            cr_assert_eq(look().bytes, VALUE_BYTES);
    }
    cr_assert_geq(steps, 6); /* two folders and their parents, file, rename, folder */
    exj_blobs_unpin(b, ref.hash);
    expect_value(&ref, the_value());
}

/* ---- crashes ------------------------------------------------------------------------------- */

static ssize_t crash_write(int fd, const void *p, size_t n)
{
    if (++calls == fail_at)
        _exit(write(fd, p, n / 2) > 0 ? 9 : 8);
    return write(fd, p, n);
}

static int crash_fsync(int fd)
{
    if (++calls == fail_at)
        _exit(9);
    return fsync(fd);
}

static int crash_rename(const char *from, const char *to)
{
    if (++calls == fail_at)
        _exit(9);
    return rename(from, to);
}

Test(blobs, a_crash_between_any_two_steps_leaves_a_whole_value_or_none)
{
    exj_blob_ref ref = put(the_value());
    int status = 0, halves = 0;

    for (int at = 1; at < 50; at++) {
        static const exj_blobs_seam crash = { crash_write, crash_fsync, crash_rename };
        pid_t child;

        cr_assert_eq(exj_blobs_remove(b, ref.hash, NULL), EXJ_OK);
        exj_blobs_free(b);
        child = fork();
        if (child == 0) {
            calls = 0;
            fail_at = at;
            if (exj_blobs_new(blobs_dir, false, &crash, &b, NULL) != EXJ_OK)
                _exit(7);
            _exit(exj_blobs_put(b, the_value(), &ref, NULL) == EXJ_OK ? 0 : 6);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status));
        halves += files_in("new");
        open_blobs(NULL);
        cr_assert_eq(files_in("new"), 0, "what was half-written stays");
        if (look().values)
            expect_value(&ref, the_value());
        else
            expect_gone(&ref, "missing");
        if (WEXITSTATUS(status) == 0)
            break;
        cr_assert_eq(WEXITSTATUS(status), 9);
        ref = put(the_value());
        expect_value(&ref, the_value());
    }
    cr_assert_eq(WEXITSTATUS(status), 0);
    cr_assert_geq(halves, 2);
}

Test(blobs, lack_of_memory_changes_nothing)
{
    exj_blob_ref ref = { .bytes = -7 };
    exj_code rc;

    for (long n = 1;; n++) {
        exj_fault_arm(n);
        rc = exj_blobs_put(b, the_value(), &ref, NULL);
        if (exj_fault_disarm() < n)
            break;
        if (rc == EXJ_OK) { /* the check of what is there is only a short cut */
            exj_blobs_unpin(b, ref.hash);
            cr_assert_eq(exj_blobs_remove(b, ref.hash, NULL), EXJ_OK);
        } else {
            cr_assert_eq(rc, EXJ_NOMEM);
            cr_assert_eq(files_in("."), 0);
        }
    }
    cr_assert_eq(rc, EXJ_OK);
    exj_blobs_unpin(b, ref.hash);
    for (long n = 1;; n++) {
        exj_buf got = EXJ_BUF_INIT;

        exj_fault_arm(n);
        rc = exj_blobs_get(b, &ref, &got, NULL);
        if (exj_fault_disarm() < n) {
            exj_buf_release(&got);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM);
        exj_buf_release(&got);
    }
    cr_assert_eq(rc, EXJ_OK);
    for (long n = 1;; n++) {
        exj_blobs *other = NULL;

        exj_fault_arm(n);
        rc = exj_blobs_new(blobs_dir, false, NULL, &other, NULL);
        if (exj_fault_disarm() < n) {
            exj_blobs_free(other);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM);
    }
    cr_assert_eq(rc, EXJ_OK);
}

/* ---- all at once ---------------------------------------------------------------------------- */

static atomic_bool stop;
static char put_failed[] = "a put failed", was_removed[] = "a pinned value was removed";

static void *keep_removing(void *hash)
{
    while (!atomic_load(&stop))
        exj_blobs_remove(b, hash, NULL);
    return NULL;
}

static void *keep_putting(void *user)
{
    (void)user;
    for (int i = 0; i < 100; i++) {
        exj_blob_ref ref;

        if (exj_blobs_put(b, EXJ_SLICE_LITERAL("the value"), &ref, NULL) != EXJ_OK)
            return put_failed;
        /* Ours now, whoever wants it gone. */
        if (exj_blobs_check(b, &ref, NULL) != EXJ_OK)
            return was_removed;
        exj_blobs_unpin(b, ref.hash);
    }
    return NULL;
}

Test(blobs, a_value_put_again_while_it_is_being_removed_is_not_lost)
{
    exj_blob_ref ref = put(EXJ_SLICE_LITERAL("the value"));
    pthread_t remover, putters[3];
    void *said;

    atomic_store(&stop, false);
    cr_assert_eq(pthread_create(&remover, NULL, keep_removing, ref.hash), 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&putters[i], NULL, keep_putting, NULL), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(pthread_join(putters[i], &said), 0);
        cr_assert_null(said, "%s", (const char *)said);
    }
    atomic_store(&stop, true);
    pthread_join(remover, NULL);
}
