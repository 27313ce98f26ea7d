/* A store that a target may change as it likes: each input finds it as `fill` left it. It lies under
 * $TMPDIR and goes with the process. Call store_fresh before an input, and set kept.dirty when
 * something may have been changed: only then is it made again. */
#ifndef EXJ_TESTS_FUZZ_KEPT_STORE_H
#define EXJ_TESTS_FUZZ_KEPT_STORE_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/store/store.h"

static struct {
    char first[200], now[200]; /* as it was filled; what is used */
    exj_store *store;
    bool dirty;
} kept;

static void must(bool holds)
{
    if (!holds)
        abort();
}

static int drop_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void drop_dir(const char *dir)
{
    nftw(dir, drop_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void store_end(void)
{
    if (kept.store)
        kept.store->v->close(kept.store);
    kept.store = NULL;
    drop_dir(kept.first);
    drop_dir(kept.now);
}

static void temp_folder(char ret[200])
{
    const char *base = getenv("TMPDIR");

    snprintf(ret, 200, "%.150s/exj-fuzz-XXXXXX", base && *base ? base : "/tmp");
    must(mkdtemp(ret) != NULL);
}

static exj_store *open_at(const char *dir)
{
    exj_sqlite_options o = { .dir = dir, .lock_note = "fuzz", .fast = true };
    exj_store *s = NULL;
    exj_err err = { 0 };

    if (exj_sqlite_open(&o, &s, &err) != EXJ_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return s;
}

static void copy_files(const char *from, const char *to)
{
    DIR *d = opendir(from);
    struct dirent *e;

    must(d != NULL);
    while ((e = readdir(d))) {
        char a[500], b[500];
        struct stat st;
        int in, out;

        snprintf(a, sizeof a, "%s/%s", from, e->d_name);
        snprintf(b, sizeof b, "%s/%s", to, e->d_name);
        if (stat(a, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        in = open(a, O_RDONLY | O_CLOEXEC);
        out = open(b, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        must(in >= 0 && out >= 0);
        while (sendfile(out, in, NULL, 1 << 20) > 0)
            ;
        close(in);
        close(out);
    }
    closedir(d);
}

/* Accepts inputs one after the other. */
static exj_store *store_fresh(void (*fill)(exj_store *s))
{
    if (!kept.first[0]) {
        exj_store *s;

        temp_folder(kept.first);
        atexit(store_end);
        s = open_at(kept.first);
        fill(s);
        s->v->close(s);
    }
    if (kept.store && !kept.dirty)
        return kept.store;
    if (kept.store) {
        kept.store->v->close(kept.store);
        drop_dir(kept.now);
    }
    temp_folder(kept.now);
    copy_files(kept.first, kept.now);
    kept.store = open_at(kept.now);
    kept.dirty = false;
    return kept.store;
}

static void go(exj_store *s, exj_op *op)
{
    exj_err err = { 0 };

    if (exj_store_do(s, op, &err) != EXJ_OK) {
        fprintf(stderr, "op %d: %s\n", (int)op->kind, err.text);
        abort();
    }
}

#endif /* EXJ_TESTS_FUZZ_KEPT_STORE_H */
