/* tests/bench/bench_enqueue.c - rows a second into the store, durable when answered: through the
 * store's operations in this process, and as events over HTTP (a connection a request); one at a
 * time, one at a time by 16 callers, and in batches of 1000. Beside each the limit: bare SQLite
 * that inserts the same rows in transactions of the same size.
 *
 *   bench_enqueue [DIR [SINGLES [ROWS]]]
 *     DIR      where stores are made and removed (default: .); its disk is measured
 *     SINGLES  default 2000, for the lines with one row a request
 *     ROWS     default 100000, for those with batches
 *
 * Records have 300 bytes. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/http/server.h"

#define RECORD_BYTES 300
#define CALLERS_MAX 16
#define BATCH 1000
#define KEY "bench"

static char dir[4096];
static exj_store *store;
static int64_t pool;
static uint16_t port;
static atomic_long next_id; /* ids of all lines, never twice */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_enqueue: %s: %s\n", what, why);
    exit(1);
}

static void check(exj_code rc, const exj_err *err)
{
    if (rc)
        die(exj_code_name(rc), err->text);
}

static double now(void)
{
    return (double)exj_clock_mono_ns() / 1e9;
}

static void make_record(char ret[RECORD_BYTES + 1], long id)
{
    int head = snprintf(ret, RECORD_BYTES + 1, "{\"n\":%ld,\"pad\":\"", id);

    memset(ret + head, 'x', (size_t)(RECORD_BYTES - 2 - head));
    memcpy(ret + RECORD_BYTES - 2, "\"}", 3);
}

/* ---- in process -------------------------------------------------------------------------------- */

struct buffers { /* of one caller */
    exj_insert_item items[BATCH];
    char ids[BATCH][24], records[BATCH][RECORD_BYTES + 1];
    exj_buf http;
};

static void by_store(struct buffers *b, size_t n)
{
    exj_op op = { .kind = EXJ_OP_INSERT };
    exj_err err = { 0 };

    for (size_t i = 0; i < n; i++) {
        long id = atomic_fetch_add(&next_id, 1);

        make_record(b->records[i], id);
        snprintf(b->ids[i], sizeof(b->ids[i]), "r%ld", id);
        b->items[i] = (exj_insert_item){ .record_id = exj_slice_of(b->ids[i]),
                                         .input = { b->records[i], RECORD_BYTES } };
    }
    op.u.insert.pool = pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = b->items;
    op.u.insert.len = n;
    check(exj_store_do(store, &op, &err), &err);
    if (op.u.insert.ret_inserted != n)
        die("insert", "fewer rows than were given");
}

/* ---- over HTTP --------------------------------------------------------------------------------- */

static void by_http(struct buffers *b, size_t n)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char head[300], answer[4096], wanted[32];
    struct iovec { const char *p; size_t n; } parts[2];
    size_t got = 0;
    ssize_t r;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    exj_buf_reset(&b->http);
    for (size_t i = 0; i < n; i++) {
        long id = atomic_fetch_add(&next_id, 1);

        make_record(b->records[0], id);
        exj_buf_printf(&b->http, "{\"id\":\"r%ld\",\"record\":%s}\n", id, b->records[0]);
    }
    parts[0].n = (size_t)snprintf(head, sizeof(head),
                                  "POST /v1/matrices/m/events?brief=true HTTP/1.1\r\n"
                                  "Host: localhost\r\nAuthorization: Bearer " KEY "\r\n"
                                  "Content-Type: application/x-ndjson\r\n"
                                  "Content-Length: %zu\r\n\r\n", b->http.n);
    parts[0].p = head;
    parts[1].p = b->http.p;
    parts[1].n = b->http.n;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        die("connect", "nobody listens");
    for (int i = 0; i < 2; i++) {
        for (size_t sent = 0; sent < parts[i].n; sent += (size_t)r) {
            r = send(fd, parts[i].p + sent, parts[i].n - sent, MSG_NOSIGNAL);
            if (r <= 0)
                die("send", "the server closed");
        }
    }
    while (got < sizeof(answer) - 1 &&
           (r = recv(fd, answer + got, sizeof(answer) - 1 - got, 0)) > 0)
        got += (size_t)r;
    answer[got] = '\0';
    close(fd);
    snprintf(wanted, sizeof(wanted), "\"inserted\":%zu,", n);
    if (!strstr(answer, wanted))
        die("answer", answer);
}

/* ---- the limit --------------------------------------------------------------------------------- */

static sqlite3 *limit_db;
static sqlite3_stmt *limit_row, *limit_hot;
static pthread_mutex_t limit_mu = PTHREAD_MUTEX_INITIALIZER;

static void limit_sql(const char *text)
{
    if (sqlite3_exec(limit_db, text, NULL, NULL, NULL) != SQLITE_OK)
        die(text, sqlite3_errmsg(limit_db));
}

static sqlite3_stmt *limit_prepare(const char *text)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v3(limit_db, text, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) !=
        SQLITE_OK)
        die(text, sqlite3_errmsg(limit_db));
    return st;
}

static void limit_open(void)
{
    char path[4200];

    snprintf(path, sizeof(path), "%s/limit.db", dir);
    if (sqlite3_open(path, &limit_db) != SQLITE_OK)
        die(path, sqlite3_errmsg(limit_db));
    limit_sql("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=16000;"
              "PRAGMA cache_size=-12288;"
              "CREATE TABLE rows(seq INTEGER PRIMARY KEY, pool INT, record TEXT, input TEXT,"
              " UNIQUE(pool, record)) STRICT;"
              "CREATE TABLE hot(seq INTEGER PRIMARY KEY, pool INT, status INT, rank INT) STRICT;"
              "CREATE INDEX ready ON hot(pool, rank, seq) WHERE status=0");
    limit_row = limit_prepare("INSERT INTO rows VALUES(?1, 1, ?2, ?3)");
    limit_hot = limit_prepare("INSERT INTO hot VALUES(?1, 1, 0, 0)");
}

static void by_limit(struct buffers *b, size_t n)
{
    pthread_mutex_lock(&limit_mu);
    limit_sql("BEGIN IMMEDIATE");
    for (size_t i = 0; i < n; i++) {
        long id = atomic_fetch_add(&next_id, 1);

        make_record(b->records[0], id);
        snprintf(b->ids[0], sizeof(b->ids[0]), "r%ld", id);
        sqlite3_bind_int64(limit_row, 1, id + 1);
        sqlite3_bind_text(limit_row, 2, b->ids[0], -1, SQLITE_STATIC);
        sqlite3_bind_text(limit_row, 3, b->records[0], RECORD_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(limit_hot, 1, id + 1);
        if (sqlite3_step(limit_row) != SQLITE_DONE || sqlite3_step(limit_hot) != SQLITE_DONE)
            die("limit", sqlite3_errmsg(limit_db));
        sqlite3_reset(limit_row);
        sqlite3_reset(limit_hot);
    }
    limit_sql("COMMIT");
    pthread_mutex_unlock(&limit_mu);
}

/* ---- lines ------------------------------------------------------------------------------------- */

struct caller {
    pthread_t thread;
    void (*enqueue)(struct buffers *b, size_t n);
    size_t at_once;
    long requests;
};

static void *call(void *user)
{
    struct caller *c = user;
    struct buffers *b = calloc(1, sizeof(*b));

    if (!b)
        die("memory", "none");
    for (long i = 0; i < c->requests; i++)
        c->enqueue(b, c->at_once);
    exj_buf_release(&b->http);
    free(b);
    return NULL;
}

/* Rows a second. */
static double rate(void (*enqueue)(struct buffers *b, size_t n), unsigned callers,
                   size_t at_once, long rows)
{
    struct caller c[CALLERS_MAX];
    long requests = rows / (long)(at_once * callers);
    double began = now();

    if (requests < 1)
        requests = 1;
    for (unsigned i = 0; i < callers; i++) {
        c[i] = (struct caller){ .enqueue = enqueue, .at_once = at_once, .requests = requests };
        if (pthread_create(&c[i].thread, NULL, call, &c[i]) != 0)
            die("thread", "none");
    }
    for (unsigned i = 0; i < callers; i++)
        pthread_join(c[i].thread, NULL);
    return (double)requests * (double)(at_once * callers) / (now() - began);
}

static void line(const char *what, unsigned callers, size_t at_once, long rows)
{
    /* In turn on the same disk; what the limit commits with one caller it cannot with more. */
    double limit = rate(by_limit, 1, at_once, at_once == 1 ? rows / (long)callers : rows);
    double in_process = rate(by_store, callers, at_once, rows);
    double http = rate(by_http, callers, at_once, rows);

    printf("%-30s %10.0f %10.0f (%.2f) %10.0f (%.2f)\n", what, limit, in_process,
           in_process / limit, http, http / limit);
    fflush(stdout);
}

/* ---- the whole --------------------------------------------------------------------------------- */

static void put(exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_err err = { 0 };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    check(exj_store_do(store, &op, &err), &err);
}

int main(int argc, char **argv)
{
    long singles = argc > 2 ? atol(argv[2]) : 2000, rows = argc > 3 ? atol(argv[3]) : 100000;
    exj_sqlite_options so = { .dir = dir, .lock_note = "bench" };
    exj_api api = { .prefix = "/v1", .api_key = KEY, .worker_id = "bench", .build_id = "bench" };
    exj_server_options o = { .api = &api, .tcp = true, .bind = "127.0.0.1" };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_server *server = NULL;
    exj_err err = { 0 };
    char command[4300];

    exj_log_setup(EXJ_LOG_WARN, false);
    snprintf(dir, sizeof(dir), "%s/bench-enqueue-XXXXXX", argc > 1 ? argv[1] : ".");
    if (!mkdtemp(dir))
        die(dir, "cannot be made");
    check(exj_sqlite_open(&so, &store, &err), &err);
    api.store = store;
    api.started = exj_clock_mono_ns();
    put(EXJ_DOC_GRAPH, "g", "{\"graphId\":\"g\",\"publicationStatus\":\"Published\","
                            "\"operationalState\":\"Ready\"}");
    put(EXJ_DOC_MATRIX, "m", "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
                             "\"dataSource\":{\"kind\":\"event\"}}}");
    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    check(exj_store_do(store, &op, &err), &err);
    pool = op.u.pool.ret_pool;
    check(exj_server_start(&o, &server, &err), &err);
    port = exj_server_port(server);
    limit_open();

    printf("rows/s, durable when answered      limit     in process          HTTP\n");
    line("one a request, 1 caller", 1, 1, singles);
    line("one a request, 16 callers", CALLERS_MAX, 1, singles);
    line("1000 a request, 1 caller", 1, BATCH, rows);

    exj_server_stop(server);
    sqlite3_finalize(limit_row);
    sqlite3_finalize(limit_hot);
    sqlite3_close(limit_db);
    store->v->close(store);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : 1;
}
