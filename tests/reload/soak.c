/* reload_soak RELOADS LANE [SEED] - reloads under full load, good and bad contents mixed.
 *
 * An engine runs rows without end; beside it the plugin's file is replaced again and again, by
 * rename, each time with bytes that never were there before. What must hold: every execution is
 * wholly in one generation, no row fails or is tried twice because of a reload, every bad content
 * is refused and every good one becomes current, and memory does not grow. */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/plugin/remote.h"
#include "core/plugin/shelf.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/reload/heap.h"
#include "tests/support/support.h"

#define ROWS_AT_ONCE 2000

static const struct manner {
    const char *file;
    bool good;
} manners[] = {
    { "good", true },          { "slow", true },         { "fails_test", false },
    { "fails_create", false }, { "ctor_crashes", false }, { "truncated", false },
    { "wrong_note", false },   { "leaks", true }, /* last: not in process, where nothing can
                                                     take back what a plugin lost */
};

static exj_engine *engine;
static exj_store *store;
static char target[600], beside[620], count_file[600], private_dir[600];
static exj_buf bytes[sizeof(manners) / sizeof(*manners)];
static uint64_t seed;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void read_file(const char *path, exj_buf *b)
{
    FILE *f = fopen(path, "rb");
    char part[8192];
    exj_err err = { 0 };
    size_t n;

    CHECK(f);
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        exj_buf_add(b, part, n);
    fclose(f);
}

static void write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    exj_err err = { 0 };

    CHECK(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static void load_contents(void)
{
    for (size_t k = 0; k < sizeof(manners) / sizeof(*manners); k++) {
        const char *from = strcmp(manners[k].file, "truncated") && strcmp(manners[k].file, "wrong_note")
                               ? manners[k].file
                               : "good";
        char path[700];

        snprintf(path, sizeof(path), SOAK_VARIANTS "/%s.so", from);
        read_file(path, &bytes[k]);
        if (!strcmp(manners[k].file, "truncated"))
            bytes[k].n /= 2;
        if (!strcmp(manners[k].file, "wrong_note")) {
            /* the major of the note: the u32 behind its name */
            char *note = memmem(bytes[k].p, bytes[k].n, "exellix\0\1\0\0\0", 12);
            exj_err err = { 0 };

            CHECK(note);
            note[8] = 9;
        }
    }
}

/* Other bytes than ever before: a few behind the end of the ELF file, which nobody reads. */
static void drop(size_t k, unsigned nth)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_err err = { 0 };

    exj_buf_add(&b, bytes[k].p, bytes[k].n);
    exj_buf_printf(&b, "#%u", nth);
    write_file(beside, b.p, b.n);
    CHECK(rename(beside, target) == 0);
    exj_buf_release(&b);
}

static long maps(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    long n = 0;
    int c;

    while (f && (c = getc(f)) != EOF)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

/* ---- what ran ---------------------------------------------------------------------------------- */

struct tally {
    uint64_t rows, bad;
    int64_t last;
};

static bool look_at(void *user, const exj_row_view *r)
{
    struct tally *t = user;
    json_t *answer = NULL, *o;
    const char *began, *ended, *of;

    t->rows++;
    t->last = r->seq;
    if (exj_json_parse(r->result, &answer, NULL) != EXJ_OK || r->attempts != 1)
        goto bad;
    o = json_object_get(answer, "outputsByNodeId");
    began = json_string_value(json_object_get(o, "began"));
    ended = json_string_value(json_object_get(o, "ended"));
    of = json_string_value(json_object_get(o, "instance"));
    if (!began || !ended || !of || strcmp(began, ended) || strcmp(began, of))
        goto bad;
    json_decref(answer);
    return true;
bad:
    fprintf(stderr, "row %.*s, attempts %u: %.*s\n", (int)r->record_id.n, r->record_id.p, r->attempts,
            (int)r->result.n, r->result.p);
    json_decref(answer);
    t->bad++;
    return true;
}

/* More rows for the resolver, so that there is always work. */
static void feed(uint64_t rows)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)rows);
    write_file(count_file, text, strlen(text));
    exj_engine_wake(engine);
}

static void keep_busy(uint64_t *fed)
{
    exj_engine_counts c;

    exj_engine_get_counts(engine, &c);
    if (c.completed + ROWS_AT_ONCE / 2 < *fed)
        return;
    *fed = c.completed + ROWS_AT_ONCE;
    feed(*fed);
}

static void wait_completed(uint64_t n)
{
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)60 * 1000000000;
    exj_err err = { 0 };
    exj_engine_counts c;

    do {
        sched_yield();
        exj_engine_get_counts(engine, &c);
        CHECK(exj_clock_mono_ns() < until);
    } while (c.completed < n);
}

/* Private copies of the plugin: one a generation that is not gone from the process yet, be it
 * that it drains, that its trial was just now, or that its hosts still end. */
static unsigned generations(void)
{
    DIR *d = opendir(private_dir);
    const struct dirent *f;
    exj_err err = { 0 };
    unsigned n = 0;

    CHECK(d);
    while ((f = readdir(d)))
        n += strncmp(f->d_name, "soak-", 5) == 0;
    closedir(d);
    return n;
}

/* Until every row that was fed is done, the resolver's pass is over, and only the current
 * generation is left. */
static void settle(uint64_t fed)
{
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)60 * 1000000000;
    exj_engine_counts c;
    exj_err err = { 0 };
    bool calm;

    wait_completed(fed);
    do {
        json_t *list = exj_engine_executors(engine), *x;
        size_t i;

        exj_engine_get_counts(engine, &c);
        calm = !c.scanning;
        json_array_foreach(list, i, x)
            calm &= !strcmp(json_string_value(json_object_get(x, "state")), "current") &&
                    json_array_size(json_object_get(x, "draining")) == 0;
        json_decref(list);
        CHECK(exj_clock_mono_ns() < until);
        sched_yield();
    } while (!calm || generations() > 1);
}

/* ---- memory ------------------------------------------------------------------------------------ */

#define RESTS_MAX 256u /* of a stretch */

/* What was in use at each rest of a stretch of the run. Buffers that are used again (outboxes,
 * the seats of a bite) are larger at one rest and smaller at the next: what is usual in one
 * stretch is compared with what is usual in another. */
struct stretch {
    long bytes[RESTS_MAX], blocks[RESTS_MAX], maps[RESTS_MAX];
    unsigned n;
};

static void rest(unsigned nth, uint64_t fed, struct stretch *s)
{
    exj_err err = { 0 };
    exj_heap h;

    CHECK(s->n < RESTS_MAX);
    settle(fed);
    if (exj_heap_count(&h))
        printf("%u: at rest %ld kB in %ld blocks; SQLite %ld kB; %ld maps\n", nth, h.bytes / 1024,
               h.blocks, h.sqlite_bytes / 1024, maps());
    s->bytes[s->n] = h.bytes;
    s->blocks[s->n] = h.blocks;
    s->maps[s->n++] = maps();
}

static int by_size(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;

    return (x > y) - (x < y);
}

/* The median; sorts. */
static long usual(long *v, unsigned n)
{
    qsort(v, n, sizeof(*v), by_size);
    return v[n / 2];
}

static void keep_quiet(exj_log_level level, const char *area, const char *message)
{
    (void)level, (void)area, (void)message; /* a refusal a reload, as expected */
}

int main(int argc, char **argv)
{
    unsigned reloads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 500;
    exj_remote_settings remote = { .host_exe = EXJ_BINARY_DIR "/bin/exellix-jobs-plugin-host",
                                   .idle_ms = 30000, .grace_ms = 2000 };
    exj_registry_options ro = { .remote = &remote };
    exj_engine_options o = { .worker_id = "soak", .executor = "soak", .max_concurrent = 4,
                             .exclusive_store = true, .manual_reload = true, .canary_percent = 10,
                             .trial_rows = 3 };
    unsigned took = 0, refused = 0;
    struct tally tally = { 0 };
    exj_row_filter filter = { .status = EXJ_COMPLETED, .limit = 1000 };
    uint64_t fed = ROWS_AT_ONCE;
    unsigned every = reloads < 1000 ? reloads / 4 : reloads <= 250000 ? 250 : reloads / 1000;
    static struct stretch quarter[4];
    long half_bytes, half_blocks, half_maps, end_bytes, end_blocks, end_maps;
    exj_heap heap;
    exj_nsec began;
    exj_engine_counts c;
    exj_err err = { 0 };
    exj_tmp tmp;
    char document[900];

    exj_heap_begin();
    CHECK(reloads >= 4); /* there is a half way */
    CHECK(exj_lane_parse(exj_slice_of(argc > 2 ? argv[2] : "in-process"), &ro.lane, &err) == EXJ_OK);
    seed = argc > 3 ? strtoull(argv[3], NULL, 10) : exj_random_u64();
    printf("seed %llu\n", (unsigned long long)seed);
    seed |= 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    exj_log_divert(keep_quiet);
    exj_tmp_make(&tmp);
    CHECK(mkdir(exj_tmp_path(&tmp, "plugins"), 0700) == 0);
    snprintf(target, sizeof(target), "%s/plugins/soak.so", tmp.path);
    snprintf(beside, sizeof(beside), "%s/plugins/.soak.new", tmp.path);
    snprintf(count_file, sizeof(count_file), "%s/count", tmp.path);
    snprintf(private_dir, sizeof(private_dir), "%s/private", tmp.path);
    load_contents();
    drop(0, 0);
    write_file(count_file, "2000", 4);

    ro.dirs = (const char *const[]){ exj_tmp_path(&tmp, "plugins"), EXJ_BINARY_DIR "/tests/plugins", NULL };
    ro.private_dir = private_dir;
    o.plugin_dirs = ro.dirs;
    CHECK(exj_shelf_new(exj_tmp_path(&tmp, "shelf"), NULL, &o.shelf, &err) == EXJ_OK);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = exj_tmp_path(&tmp, "data"), .fast = true },
                          &store, &err) == EXJ_OK);
    CHECK(exj_registry_open(&ro, &o.plugins, &err) == EXJ_OK);
    o.metrics = exj_metrics_new();
    o.store = store;
    put(store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    snprintf(document, sizeof(document),
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"maxAttempts\":1,"
             "\"input\":{\"countFile\":\"%s\"},\"pollWhenEmptySeconds\":0.1,"
             "\"dataSource\":{\"kind\":\"record\",\"resolver\":\"test-source\"}}}",
             count_file);
    put(store, EXJ_DOC_MATRIX, "m", document);
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    wait_completed(100);

    began = exj_clock_mono_ns();
    for (unsigned n = 1; n <= reloads; n++) {
        size_t k = next_random() % (sizeof(manners) / sizeof(*manners) -
                                    (ro.lane == EXJ_LANE_IN_PROCESS));
        json_t *report = NULL;
        exj_err why = { 0 };
        exj_code rc;

        keep_busy(&fed);
        drop(k, n);
        rc = exj_engine_order(engine, EXJ_ORDER_RELOAD, "soak", NULL, &report, &why);
        json_decref(report);
        if (manners[k].good != (rc == EXJ_OK)) {
            fprintf(stderr, "reload %u of a %s content: %s\n", n, manners[k].file, why.text);
            abort();
        }
        took += rc == EXJ_OK;
        refused += rc != EXJ_OK;
        if (n == reloads || n % every == 0)
            rest(n, fed, &quarter[(uint64_t)(n - 1) * 4 / reloads]);
    }
    half_bytes = usual(quarter[1].bytes, quarter[1].n);
    half_blocks = usual(quarter[1].blocks, quarter[1].n);
    half_maps = usual(quarter[1].maps, quarter[1].n);
    end_bytes = usual(quarter[3].bytes, quarter[3].n);
    end_blocks = usual(quarter[3].blocks, quarter[3].n);
    end_maps = usual(quarter[3].maps, quarter[3].n);
    exj_engine_get_counts(engine, &c);
    printf("%u reloads in %.1f s, %u refused; %llu rows meanwhile\n", took + refused,
           (double)(exj_clock_mono_ns() - began) / 1e9, refused, (unsigned long long)c.completed);
    if (exj_heap_count(&heap))
        printf("usual at rest: second quarter %ld kB in %ld blocks, last quarter %ld kB (%+.2f %%) in "
               "%ld blocks; %ld maps, then %ld\n", half_bytes / 1024, half_blocks, end_bytes / 1024,
               100.0 * (double)(end_bytes - half_bytes) / (double)half_bytes, end_blocks, half_maps,
               end_maps);
    CHECK(exj_engine_stop(engine, 20000) == 0);

    do {
        uint64_t before = tally.rows;

        CHECK(store->v->row_page(store, &filter, look_at, &tally, &err) == EXJ_OK);
        if (tally.rows - before < filter.limit)
            break;
        filter.after_seq = tally.last;
    } while (true);
    printf("%llu rows looked at\n", (unsigned long long)tally.rows);
    CHECK(tally.bad == 0 && c.failed == 0 && c.retried == 0);
    CHECK(tally.rows >= c.completed);
    /* Generations go as they come. The sanitizers keep what is freed, and map for themselves. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(end_maps <= half_maps + 40);
    if (reloads >= 4000) /* shorter ones end before every pool of buffers has its size */
        CHECK(end_bytes <= half_bytes + half_bytes / 100 + 32 * 1024);
    /* Beside reloads nothing makes blocks that stay: one lost in ten reloads would show. Of the
     * other lanes a call has buffers in each seat, and seats come as bites grow. */
    if (reloads >= 500 && ro.lane == EXJ_LANE_IN_PROCESS)
        CHECK(end_blocks <= half_blocks + 24);
#endif
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    exj_shelf_free(o.shelf);
    store->v->close(store);
    for (size_t k = 0; k < sizeof(manners) / sizeof(*manners); k++)
        exj_buf_release(&bytes[k]);
    exj_support_clean();
    return 0;
}
