/* tests/support/power_inside.h - what power_disk.c (files and what a cut leaves of them)
 * and power_vfs.c (SQLite's methods) share. Everything here wants the disk's lock. */
#ifndef EXJ_TESTS_POWER_INSIDE_H
#define EXJ_TESTS_POWER_INSIDE_H

#include <pthread.h>
#include <sqlite3.h>

#include "tests/support/power_vfs.h"

#define EXJ_POWER_SECTOR 512
#define EXJ_POWER_FILES 64
#define EXJ_POWER_REGIONS 64

/* A sector that was written since the last sync. */
struct unsynced {
    int64_t sector;
    int lo, hi;                          /* the bytes that were written */
    unsigned char was[EXJ_POWER_SECTOR]; /* what is on the platter */
};

struct inode {
    int refs;            /* names and open files; 0: gone */
    unsigned char *data; /* owned; zero from `size` to `cap` */
    int64_t size, cap;
    int64_t synced_size;
    struct unsynced *todo; /* owned */
    int64_t todo_len, todo_cap;
    int32_t *at; /* owned; by sector: index in todo + 1, 0: none */
    int64_t at_len;

    int shared;                          /* locks of the file */
    struct handle *reserved, *exclusive; /* borrowed */
    struct shm *shm;                     /* owned by its users */
};

struct shm {
    int users;
    char *region[EXJ_POWER_REGIONS]; /* owned */
    int readers[SQLITE_SHM_NLOCK];
    bool writer[SQLITE_SHM_NLOCK];
};

struct name {
    char *path;                 /* owned; NULL: free place */
    struct inode *now, *synced; /* NULL: not there */
};

struct exj_power {
    sqlite3_vfs vfs;
    pthread_mutex_t mu;
    struct name names[EXJ_POWER_FILES];
    uint64_t random;
    uint64_t era; /* grows with each cut: older files are dead */
    int open;
    bool off;
    uint64_t left, changes; /* until the cut; made */
    bool at_sync;           /* the cut waits for a sync */
    unsigned fail_calls;
    uint64_t fail_nth, fail_seen;
    bool fail_on;
    exj_power_how fail_how;
    exj_power_tally tally;
};

struct handle {
    sqlite3_file base; /* first */
    exj_power *disk;
    struct inode *node;
    char *path; /* owned; NULL: a temporary file */
    uint64_t era;
    bool delete_on_close, sync_folder;
    int lock;
    struct shm *shm;
    unsigned shm_shared, shm_mine; /* bits of locks that we have */
};

void *exj_power_need(void *p);
uint64_t exj_power_draw(exj_power *p, uint64_t below);
void exj_power_let_go(struct inode *n);
struct name *exj_power_find(exj_power *p, const char *path);
struct name *exj_power_find_or_add(exj_power *p, const char *path);
void exj_power_forget_name(struct name *n);
void exj_power_point(struct inode **at, struct inode *to);
void exj_power_write_bytes(exj_power *p, struct inode *n, const void *bytes, int64_t at,
                           int64_t len);
void exj_power_set_size(exj_power *p, struct inode *n, int64_t size);
void exj_power_sync_bytes(struct inode *n);
void exj_power_sync_folder(exj_power *p, const char *path);
bool exj_power_fails(exj_power *p, unsigned call);
bool exj_power_may_change(exj_power *p, unsigned call);
/* Fills p->vfs, but for its name. */
void exj_power_methods(exj_power *p);

#endif /* EXJ_TESTS_POWER_INSIDE_H */
