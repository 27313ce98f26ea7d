/* bit_flips: a store whose files were damaged is refused, or told of, or answers as
 * before.
 *
 * In copies of a store with content (its database; its database and log, as after a loss
 * of power) one bit is flipped, or a page is zeroed, or a file is cut short. Then doctor
 * looks, the store is opened, and everything is read. A damage is
 *
 *     told       doctor has a finding or refuses, or opening or reading fails
 *     harmless   everything reads as it was written
 *     cut short  what reads is the store as of an earlier commit: damage in the log,
 * which to SQLite is the end of it silent     something reads otherwise, and nobody says
 * so
 *
 * Silent damage is counted by the column that it is in: SQLite keeps no checksums of
 * pages, so what nothing else in the store repeats can change unseen. Where a row stands
 * must not: in the columns of NEVER below it is a failure.
 *
 * Usage: bit_flips [--flips N] [--seed S] [--json]. Exit status: 0, 1 failed, 2 usage.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/care.h"
#include "core/store/sqlite/internal.h"
#include "tests/support/power_vfs.h"
#include "tests/support/store_load.h"
#include "tests/support/store_look.h"
#include "tests/support/support.h"

#define START 1700000000000
#define COLUMNS 24
#define COMMITS 40

static const char *const NEVER[] = {
    "exellix_execution_matrix_rows.seq",
    "exellix_execution_matrix_rows.pool",
    "exellix_execution_matrix_rows.record_id",
    "exj_hot.seq",
    "exj_hot.pool",
    "exj_hot.status",
    "exj_hot.attempts",
    "exj_hot.fence",
    "exj_hot.last",
    "exj_results.seq",
    "exj_results.status",
    "exj_results.attempts",
    "exj_results.fence",
    "exj_results.last",
};

struct cell {
    char name[64]; /* "table.column" */
    uint64_t n;
};

struct flips {
    exj_tmp tmp;
    char dir[240], path[300], log[310];
    exj_power *disk;
    exj_power_image *rest, *crash; /* closed; with a log */
    exj_look_sum rest_sum, crash_sum;
    uint64_t columns[2][EXJ_LOOK_TABLES][COLUMNS]; /* of rest and crash */
    uint64_t commits[COMMITS]; /* sums on the way from rest to crash */
    size_t commits_len;
    exj_batch batch;
    exj_known known;
    atomic_int_least64_t ms;
    uint64_t random;
    uint64_t told, by_doctor, by_opening, by_reading, harmless, cut_short, silent, bad;
    struct cell cells[128];
    size_t cells_len;
};

static exj_msec wall(void *user)
{
    return atomic_load(&((struct flips *)user)->ms);
}

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fprintf(stderr, "bit_flips: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

static uint32_t chance(struct flips *f, uint64_t below)
{
    return (uint32_t)(exj_test_random(&f->random) % below);
}

static exj_code open_store(struct flips *f, exj_store **ret, exj_err *err)
{
    exj_sqlite_options o = { .dir = f->dir, .lock_note = "bit_flips" };
    exj_sqlite_seam seam = { .wall_ms = wall, .user = f, .wal_bytes = 1 << 30 };

    return exj_sqlite_open_seam(&o, &seam, ret, err);
}

/* ---- a store with content
 * ---------------------------------------------------------------------- */

static void look(struct flips *f, exj_look_sum *ret)
{
    char why[256];
    exj_look *l = exj_look_new(NULL, f->path, why);

    if (!l || !exj_look_at(l, ret, why) || !exj_look_known(l, &f->known, why))
        die("%s", why);
    exj_look_free(l);
}

static void load(struct flips *f, exj_store *s, int batches)
{
    exj_look_sum sum;

    for (int i = 0; i < batches; i++) {
        atomic_fetch_add(&f->ms, 300);
        look(f, &sum);
        exj_batch_make(&f->batch, exj_test_random(&f->random), &f->known);
        exj_batch_do(&f->batch, s, 0, f->batch.groups);
    }
}

static uint64_t mix(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return (h ^ n) * 0x9e3779b97f4a7c15u;
}

/* One number for each column of each table. */
static void sum_columns(struct flips *f, uint64_t ret[EXJ_LOOK_TABLES][COLUMNS])
{
    sqlite3 *db = NULL;

    memset(ret, 0, sizeof(uint64_t) * EXJ_LOOK_TABLES * COLUMNS);
    if (sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        die("%s", sqlite3_errmsg(db));
    for (size_t t = 0; t < EXJ_LOOK_TABLES; t++) {
        sqlite3_stmt *st = NULL;
        char sql[120];

        /* Opening forgets the commands in progress. */
        snprintf(sql, sizeof(sql), "SELECT * FROM %s NOT INDEXED%s", exj_look_name(t),
                 strcmp(exj_look_name(t), "exj_commands") ? "" : " WHERE status<>0");
        if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
            continue;
        while (sqlite3_step(st) == SQLITE_ROW)
            for (int c = 0; c < sqlite3_column_count(st) && c < COLUMNS; c++) {
                const void *p = sqlite3_column_blob(st, c);

                ret[t][c] = mix(ret[t][c], p, (size_t)sqlite3_column_bytes(st, c));
            }
        sqlite3_finalize(st);
    }
    sqlite3_close(db);
}

static void make_store(struct flips *f)
{
    exj_err err = { 0 };
    exj_look_sum sum;
    exj_store *s;

    if (open_store(f, &s, &err) != EXJ_OK)
        die("%s", err.text);
    load(f, s, 200);
    s->v->close(s);
    exj_spit(f->path, ""); /* where doctor looks for it; the bytes are on our disk */
    f->rest = exj_power_save(f->disk);
    look(f, &f->rest_sum);
    sum_columns(f, f->columns[0]);
    if (open_store(f, &s, &err) != EXJ_OK)
        die("%s", err.text);
    for (; f->commits_len < COMMITS; f->commits_len++) {
        look(f, &sum);
        f->commits[f->commits_len] = sum.all;
        load(f, s, 1);
    }
    exj_power_cut(f->disk); /* all of it is synced, so all of it is there */
    s->v->close(s);
    exj_power_on(f->disk);
    f->crash = exj_power_save(f->disk);
    look(f, &f->crash_sum);
    sum_columns(f, f->columns[1]);
}

/* ---- damage
 * ---------------------------------------------------------------------------------- */

/* *ret_what: what was done, for a message. True: to the log. */
static bool damage(struct flips *f, bool crash, char ret_what[120])
{
    bool log = crash && chance(f, 2);
    const char *path = log ? f->log : f->path;
    unsigned char *bytes;
    size_t n = 0, at, page = 4096;
    unsigned bit = chance(f, 8);
    uint32_t how = chance(f, 20);

    exj_power_load(f->disk, crash ? f->crash : f->rest);
    bytes = exj_power_get(f->disk, path, &n);
    if (!bytes || n < page)
        die("%s has %zu bytes", path, n);
    at = chance(f, n);
    /* Mostly where there is something. */
    for (int i = 0; i < 40 && !bytes[at] && how < 16; i++)
        at = chance(f, n);
    if (how < 18) {
        bytes[at] ^= (unsigned char)(1u << bit);
        snprintf(ret_what, 120, "%s: bit %u of byte %zu", log ? "log" : "database", bit,
                 at);
    } else if (how == 18) {
        at = at / page * page;
        memset(bytes + at, 0, n - at < page ? n - at : page);
        snprintf(ret_what, 120, "%s: zeroes from byte %zu", log ? "log" : "database", at);
    } else {
        n = chance(f, 2) ? at : at / page * page;
        snprintf(ret_what, 120, "%s: cut to %zu bytes", log ? "log" : "database", n);
    }
    exj_power_put(f->disk, path, bytes, n);
    free(bytes);
    return log;
}

static bool on_row(void *user, const exj_row_view *v)
{
    (void)v;
    ++*(size_t *)user;
    return true;
}

static bool on_event(void *user, const exj_event_view *v)
{
    (void)v;
    ++*(size_t *)user;
    return true;
}

/* Through the store, as its users do. False: it says that something is wrong. */
static bool read_all(exj_store *s)
{
    exj_row_filter filter = { .status = -1, .limit = 1000 };
    size_t n = 0;

    return s->v->row_page(s, &filter, on_row, &n, NULL) == EXJ_OK &&
           s->v->events(s, 0, 10000, on_event, &n, NULL) == EXJ_OK;
}

static void on_finding(void *user, const exj_finding *finding)
{
    (void)finding;
    ++*(size_t *)user;
}

static bool doctor_tells(struct flips *f)
{
    size_t n = 0;
    exj_doctor_options o = { .dir = f->dir, .found = on_finding, .user = &n };
    exj_doctor_report report;

    return exj_sqlite_doctor(&o, &report, NULL) != EXJ_OK || n > 0;
}

/* ---- verdicts
 * --------------------------------------------------------------------------------- */

static void count_cell(struct flips *f, const char *table, const char *column)
{
    char name[64];
    size_t i = 0;

    snprintf(name, sizeof(name), "%s.%s", table, column);
    while (i < f->cells_len && strcmp(f->cells[i].name, name) != 0)
        i++;
    if (i == sizeof(f->cells) / sizeof(*f->cells))
        return;
    if (i == f->cells_len)
        snprintf(f->cells[f->cells_len++].name, sizeof(f->cells[0].name), "%s", name);
    f->cells[i].n++;
}

static bool may_never(const char *table, const char *column)
{
    char name[64];

    snprintf(name, sizeof(name), "%s.%s", table, column);
    for (size_t i = 0; i < sizeof(NEVER) / sizeof(*NEVER); i++)
        if (strcmp(NEVER[i], name) == 0)
            return true;
    return false;
}

/* Which columns changed? */
static void blame(struct flips *f, bool crash, const char *what)
{
    uint64_t now[EXJ_LOOK_TABLES][COLUMNS];
    sqlite3 *db = NULL;
    bool bad = false;

    sum_columns(f, now);
    sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READONLY, NULL);
    for (size_t t = 0; t < EXJ_LOOK_TABLES; t++) {
        sqlite3_stmt *st = NULL;
        char sql[120];

        snprintf(sql, sizeof(sql), "SELECT * FROM %s", exj_look_name(t));
        sqlite3_prepare_v2(db, sql, -1, &st, NULL);
        for (int c = 0; st && c < sqlite3_column_count(st) && c < COLUMNS; c++) {
            const char *column = sqlite3_column_name(st, c);

            if (now[t][c] == f->columns[crash][t][c])
                continue;
            count_cell(f, exj_look_name(t), column);
            if (!may_never(exj_look_name(t), column))
                continue;
            bad = true;
            fprintf(stderr, "bit_flips: nobody tells of %s, in %s.%s\n", what,
                    exj_look_name(t), column);
        }
        sqlite3_finalize(st);
    }
    sqlite3_close(db);
    f->bad += bad;
}

static bool is_a_commit(const struct flips *f, uint64_t sum)
{
    for (size_t i = 0; i < f->commits_len; i++)
        if (f->commits[i] == sum)
            return true;
    return false;
}

static void flip(struct flips *f)
{
    bool crash = chance(f, 3) == 0, log, doctor, opened, read;
    const exj_look_sum *was = crash ? &f->crash_sum : &f->rest_sum;
    exj_look_sum now = { .all = 0 };
    exj_store *s = NULL;
    exj_look *l = NULL;
    char what[120], why[256];

    log = damage(f, crash, what);
    doctor = doctor_tells(f);
    opened = open_store(f, &s, NULL) == EXJ_OK;
    read = opened && read_all(s);
    if (read) {
        l = exj_look_new(NULL, f->path, why);
        read = l && exj_look_at(l, &now, why);
        exj_look_free(l);
    }
    if (doctor || !opened || !read) {
        f->told++;
        f->by_doctor += doctor;
        f->by_opening += !opened;
        f->by_reading += opened && !read;
    } else if (now.all == was->all) {
        f->harmless++;
    } else if (log && is_a_commit(f, now.all)) {
        f->cut_short++;
    } else {
        f->silent++;
        blame(f, crash, what);
    }
    if (s)
        s->v->close(s);
}

static uint64_t number(const char *text)
{
    return text ? strtoull(text, NULL, 10) : 0;
}

int main(int argc, char **argv)
{
    struct flips *f = calloc(1, sizeof(*f));
    uint64_t n = 200, seed = 0;
    int64_t began = exj_test_now_ms();
    bool json = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--flips") == 0 && i + 1 < argc)
            n = number(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = number(argv[++i]);
        else if (strcmp(argv[i], "--json") == 0)
            json = true;
        else
            n = 0;
    }
    if (!f || !n) {
        fprintf(stderr, "usage: bit_flips [--flips N] [--seed S] [--json]\n");
        return 2;
    }
    if (!seed)
        seed = exj_test_seed("bit_flips");
    f->random = seed;
    exj_sqlite_own_process();
    f->disk = exj_power_new("bit_flips", true, seed);
    atomic_store(&f->ms, START);
    exj_tmp_make(&f->tmp);
    snprintf(f->dir, sizeof(f->dir), "%s", f->tmp.path);
    snprintf(f->path, sizeof(f->path), "%s/" EXJ_SQLITE_FILE, f->dir);
    snprintf(f->log, sizeof(f->log), "%s-wal", f->path);
    exj_batch_init(&f->batch, 0);
    make_store(f);
    for (uint64_t i = 0; i < n; i++)
        flip(f);
    printf(json ? "{\"verdict\":\"%s\",\"flips\":%" PRIu64 ",\"told\":%" PRIu64
                  ",\"by_doctor\":%" PRIu64 ",\"by_opening\":%" PRIu64
                  ",\"by_reading\":%" PRIu64 ",\"harmless\":%" PRIu64
                  ",\"cut_short\":%" PRIu64 ",\"silent\":%" PRIu64 ",\"bad\":%" PRIu64
                  ",\"seconds\":%.1f,\"seed\":%" PRIu64 "}\n"
                : "bit_flips: %s: %" PRIu64 " damages: %" PRIu64 " told (%" PRIu64
                  " by doctor, %" PRIu64 " by opening, %" PRIu64 " by reading), %" PRIu64
                  " harmless, %" PRIu64 " cut the log short, %" PRIu64 " silent (%" PRIu64
                  " where none may be); %.1f s; seed %" PRIu64 "\n",
           f->bad ? "FAILED" : "ok", n, f->told, f->by_doctor, f->by_opening,
           f->by_reading, f->harmless, f->cut_short, f->silent, f->bad,
           (double)(exj_test_now_ms() - began) / 1000, seed);
    for (size_t i = 0; !json && i < f->cells_len; i++)
        printf("bit_flips: silent %" PRIu64 " times in %s\n", f->cells[i].n,
               f->cells[i].name);
    n = f->bad;
    exj_power_image_free(f->rest);
    exj_power_image_free(f->crash);
    exj_power_free(f->disk);
    exj_batch_release(&f->batch);
    exj_support_clean();
    free(f);
    return n ? 1 : 0;
}
