/* tests/bench/limit_steps.c - what SQLite alone gives for rows of durable steps: the same
 * writes, in transactions that form the same way, nothing of ours around them.
 *
 *   limit_steps [DIR [ROWS [WORKERS [STEPS]]]]      default: . 2000 8 10
 *
 * A row of N steps is 2N + 1 writes that somebody waits for before the next may be asked for:
 * the intent and the result of each step, and its outcome (nobody waits for that one), after a
 * claim of 256 rows at once. What bounds them is the flush at each commit, shared by as many
 * writers as wait at that moment. So a fair limit needs the same number of waiting workers,
 * each with a thread of its own, and one writer that takes whatever waits into one commit:
 *
 *   threads   that: WORKERS threads, one writer, a lock and two condition variables
 *   lockstep  one thread, each commit holding one write of each of WORKERS rows: no thread is
 *             ever woken. No program with workers can be as fast; it shows what waking costs
 *
 * Bytes are those of our tables: the step's line, one record of the event stream for each
 * commit (12 bytes an entry and the step's name), the row's pointer to it. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define CLAIM 256
#define WORKERS_MAX 1024

enum what { STEP_BEGUN, STEP_DONE, OUTCOME, CLAIMED };

struct write {
    enum what what;
    int row, step;
    bool done; /* guarded by mu of this write: nobody is woken only to wait for a common lock */
    pthread_mutex_t mu;
    pthread_cond_t over;
    struct write *next;
};

static sqlite3 *db;
static sqlite3_stmt *add, *hot, *claim, *intent, *finish, *last, *leave, *end, *event, *begin,
    *commit;
static int rows, workers, steps;
static long commits, number;

static void fail(const char *what)
{
    fprintf(stderr, "limit_steps: %s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static void sql(const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail(text);
}

static sqlite3_stmt *prepare(const char *text)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK)
        fail(text);
    return st;
}

static void run(sqlite3_stmt *st)
{
    if (sqlite3_step(st) != SQLITE_DONE)
        fail("step");
    sqlite3_reset(st);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_utime.tv_sec + (double)r.ru_utime.tv_usec / 1e6 +
           (double)r.ru_stime.tv_sec + (double)r.ru_stime.tv_usec / 1e6;
}

/* ---- the writes ----------------------------------------------------------------------- */

static void apply(const struct write *w)
{
    char name[16], body[32];
    int n = snprintf(name, sizeof(name), "s%d", w->step);

    switch (w->what) {
    case STEP_BEGUN:
        sqlite3_bind_int(intent, 1, w->row);
        sqlite3_bind_text(intent, 2, name, n, SQLITE_TRANSIENT);
        sqlite3_bind_int64(intent, 3, number);
        run(intent);
        break;
    case STEP_DONE:
        sqlite3_bind_int(finish, 1, w->row);
        sqlite3_bind_text(finish, 2, name, n, SQLITE_TRANSIENT);
        sqlite3_bind_text(finish, 3, body, snprintf(body, sizeof(body), "{\"n\":%d}", w->step),
                          SQLITE_TRANSIENT);
        sqlite3_bind_int64(finish, 4, number);
        run(finish);
        break;
    case OUTCOME:
        sqlite3_bind_int(end, 1, w->row);
        run(end);
        sqlite3_bind_int(leave, 1, w->row);
        run(leave);
        return;
    case CLAIMED:
        sqlite3_bind_int(claim, 1, w->row);
        sqlite3_bind_int(claim, 2, w->row + CLAIM);
        run(claim);
        return;
    }
    sqlite3_bind_int(last, 1, w->row);
    sqlite3_bind_int64(last, 2, number++);
    run(last);
}

static void transact(struct write *first)
{
    char packed[WORKERS_MAX * 16];
    long from = number;
    size_t n = 0;

    run(begin);
    for (struct write *w = first; w; w = w->next, n++) {
        apply(w);
        if (n < WORKERS_MAX)
            memset(packed + n * 15, (int)n, 15);
    }
    sqlite3_bind_int64(event, 1, from);
    sqlite3_bind_blob(event, 2, packed, (int)(n < WORKERS_MAX ? n : WORKERS_MAX) * 15,
                      SQLITE_STATIC);
    number++; /* as if the claim or the outcome had an entry of its own */
    run(event);
    run(commit);
    commits++;
}

/* ---- with threads ----------------------------------------------------------------------- */

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct write *head, **tail = &head;
static bool over;
static int next_row = 1;

static void hand_in(struct write *w)
{
    w->next = NULL;
    w->done = false;
    pthread_mutex_lock(&mu);
    if (!head)
        pthread_cond_signal(&work);
    *tail = w;
    tail = &w->next;
    pthread_mutex_unlock(&mu);
}

static void wait_for(struct write *w)
{
    pthread_mutex_lock(&w->mu);
    while (!w->done)
        pthread_cond_wait(&w->over, &w->mu);
    pthread_mutex_unlock(&w->mu);
}

static int take_row(void)
{
    int row;

    pthread_mutex_lock(&mu);
    row = next_row++;
    pthread_mutex_unlock(&mu);
    return row;
}

static void *worker(void *unused)
{
    struct write w = { .mu = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER };
    struct write ended = { .mu = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER,
                           .done = true };

    (void)unused;
    while ((w.row = take_row()) <= rows) {
        if (w.row % CLAIM == 1) {
            w.what = CLAIMED;
            hand_in(&w);
            wait_for(&w);
        }
        for (w.step = 1; w.step <= steps; w.step++)
            for (w.what = STEP_BEGUN; w.what <= STEP_DONE; w.what++) {
                hand_in(&w);
                wait_for(&w);
            }
        wait_for(&ended); /* of the row before: long there */
        ended.row = w.row;
        ended.what = OUTCOME;
        hand_in(&ended);
    }
    wait_for(&ended);
    return NULL;
}

static void *writer(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&mu);
    for (;;) {
        struct write *first;

        while (!head && !over)
            pthread_cond_wait(&work, &mu);
        if (!head)
            break;
        first = head;
        head = NULL;
        tail = &head;
        pthread_mutex_unlock(&mu);
        transact(first);
        while (first) {
            struct write *w = first;

            first = w->next;
            pthread_mutex_lock(&w->mu);
            w->done = true;
            pthread_cond_signal(&w->over);
            pthread_mutex_unlock(&w->mu);
        }
        pthread_mutex_lock(&mu);
    }
    pthread_mutex_unlock(&mu);
    return NULL;
}

static void with_threads(void)
{
    pthread_t all[WORKERS_MAX], one;

    pthread_create(&one, NULL, writer, NULL);
    for (int i = 0; i < workers; i++)
        pthread_create(&all[i], NULL, worker, NULL);
    for (int i = 0; i < workers; i++)
        pthread_join(all[i], NULL);
    pthread_mutex_lock(&mu);
    over = true;
    pthread_cond_signal(&work);
    pthread_mutex_unlock(&mu);
    pthread_join(one, NULL);
}

/* ---- with none ---------------------------------------------------------------------------- */

static void in_lockstep(void)
{
    static struct write w[WORKERS_MAX + 1];

    for (int row = 1; row <= rows; row += workers) {
        int n = rows - row + 1 < workers ? rows - row + 1 : workers;

        for (int k = 0; k <= 2 * steps; k++) {
            for (int i = 0; i < n; i++)
                w[i] = (struct write){ .what = k == 2 * steps ? OUTCOME
                                               : k % 2       ? STEP_DONE
                                                             : STEP_BEGUN,
                                       .row = row + i,
                                       .step = k / 2 + 1,
                                       .next = i + 1 < n ? &w[i + 1] : NULL };
            if (!k && (row - 1) / CLAIM != (row - 1 - workers) / CLAIM) {
                w[n] = (struct write){ .what = CLAIMED, .row = row };
                w[n - 1].next = &w[n];
            }
            transact(w);
        }
    }
}

static void measure(const char *name, const char *base, void (*way)(void))
{
    char dir[4096], path[4200];
    static const char *const ends[] = { "", "-wal", "-shm" };
    double at, used;

    snprintf(dir, sizeof(dir), "%s/limit-steps-XXXXXX", base);
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
    snprintf(path, sizeof(path), "%s/limit.db", dir);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                                       SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        fail(path);
    sql(getenv("EXJ_BENCH_FAST") ? "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"
                                 : "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
    sql("PRAGMA wal_autocheckpoint=16000; PRAGMA cache_size=-12288;"
        "CREATE TABLE row_data(seq INTEGER PRIMARY KEY, input TEXT NOT NULL) STRICT;"
        "CREATE TABLE hot(seq INTEGER PRIMARY KEY, status INT, fence INT, nonce INT, until INT,"
        " last INT) STRICT; CREATE INDEX ready ON hot(seq) WHERE status=0;"
        "CREATE INDEX leases ON hot(until) WHERE status=2;"
        "CREATE TABLE results(seq INTEGER PRIMARY KEY, fence INT, nonce INT, at INT, body TEXT)"
        " STRICT;"
        "CREATE TABLE journal(seq INTEGER NOT NULL, step TEXT NOT NULL, fence INTEGER NOT NULL,"
        " attempt INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL, done INT,"
        " number INT, began_at INT, PRIMARY KEY(seq, step)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE events(first INTEGER PRIMARY KEY, at INT, body BLOB) STRICT");
    begin = prepare("BEGIN IMMEDIATE");
    commit = prepare("COMMIT");
    add = prepare("INSERT INTO row_data VALUES(?1, '{\"steps\":10}')");
    hot = prepare("INSERT INTO hot VALUES(?1, 0, 0, 0, 0, 0)");
    claim = prepare("UPDATE hot SET status=2, fence=1, nonce=4611686018427387904,"
                    " until=1700000060000 WHERE status=0 AND seq>=?1 AND seq<?2");
    intent = prepare("INSERT INTO journal VALUES(?1, ?2, 1, 1, 0, '', 0, ?3, 1700000000000)");
    finish = prepare("UPDATE journal SET at=1700000000000, body=?3, done=1, number=?4"
                     " WHERE seq=?1 AND step=?2");
    last = prepare("UPDATE hot SET last=?2 WHERE seq=?1");
    leave = prepare("DELETE FROM hot WHERE seq=?1");
    end = prepare("INSERT INTO results VALUES(?1, 1, 4611686018427387904, 1700000000000,"
                  " '{\"status\":\"completed\",\"taskId\":\"test\"}')");
    event = prepare("INSERT INTO events VALUES(?1, 1700000000000, ?2)");
    sql("BEGIN");
    for (int i = 1; i <= rows; i++) {
        sqlite3_bind_int(add, 1, i);
        run(add);
        sqlite3_bind_int(hot, 1, i);
        run(hot);
    }
    sql("COMMIT");
    commits = 0;
    number = 1;
    used = cpu();
    at = now();
    way();
    at = now() - at;
    used = cpu() - used;
    printf("limit     %-8s %8.0f rows/s, %8.0f steps/s, %6.0f commits/s, %.1f us of processor "
           "a row\n",
           name, rows / at, (double)rows * steps / at, (double)commits / at, used * 1e6 / rows);
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_finalize(add);
    sqlite3_finalize(hot);
    sqlite3_finalize(claim);
    sqlite3_finalize(intent);
    sqlite3_finalize(finish);
    sqlite3_finalize(last);
    sqlite3_finalize(leave);
    sqlite3_finalize(end);
    sqlite3_finalize(event);
    sqlite3_close(db);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/limit.db%s", dir, ends[i]);
        unlink(path);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    const char *base = argc > 1 ? argv[1] : ".";

    rows = argc > 2 ? atoi(argv[2]) : 2000;
    workers = argc > 3 ? atoi(argv[3]) : 8;
    steps = argc > 4 ? atoi(argv[4]) : 10;
    if (rows < 1 || workers < 1 || workers > WORKERS_MAX || steps < 1) {
        fprintf(stderr, "usage: limit_steps [DIR [ROWS [WORKERS [STEPS]]]]\n");
        return 2;
    }
    measure("lockstep", base, in_lockstep);
    measure("threads", base, with_threads);
    return 0;
}
