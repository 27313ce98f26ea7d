/* Scenarios of reload_switch: the engine stops in the midst, files go and come. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/reload/rig.h"

static rig r;
static exj_err err;

/* ---- 8: the engine stops in the midst ---------------------------------------------------------------- */

static atomic_uint cancelled, ended_orders;

static void *order(void *arg)
{
    exj_err why = { 0 };
    exj_code rc = rig_order(&r, EXJ_ORDER_RELOAD, NULL, NULL, &why);

    (void)arg;
    atomic_fetch_add(&cancelled, rc == EXJ_CANCELLED);
    atomic_fetch_add(&ended_orders, 1);
    if (rc != EXJ_CANCELLED)
        printf("an order: %d %s\n", (int)rc, why.text);
    return NULL;
}

static void stop_with_orders(unsigned first_may_end)
{
    exj_nsec began = exj_clock_mono_ns();
    pthread_t t[4];

    for (unsigned k = 0; k < 4; k++)
        CHECK(pthread_create(&t[k], NULL, order, NULL) == 0);
    poll(NULL, 0, 300); /* the first is being carried out, the others wait */
    CHECK(atomic_load(&ended_orders) == 0);
    CHECK(exj_engine_stop(r.engine, 300) == 0);
    r.engine = NULL;
    for (unsigned k = 0; k < 4; k++)
        pthread_join(t[k], NULL);
    printf("stopped after %lld ms\n", (long long)((exj_clock_mono_ns() - began) / 1000000));
    CHECK(exj_clock_mono_ns() - began < (exj_nsec)20 * 1000000000);
    CHECK(atomic_load(&cancelled) + first_may_end >= 4);
}

/* In the self-test of a trial. */
void rig_stop_trial(const char *lane)
{
    rig_begin(&r, lane, "plain1", 20);
    rig_start_done(&r, 20);
    rig_drop(&r, "test_hangs", "sw", 0);
    stop_with_orders(1);
    rig_end(&r);
}

/* In a trial that does a row again which waits. */
void rig_stop_replay(const char *lane)
{
    char payload[400];

    rig_begin(&r, lane, "plain1", 0);
    snprintf(payload, sizeof(payload), "\"count\":1,\"prefix\":\"long\",\"record\":{\"hold\":\"%s\"}",
             rig_fifo(&r, "gate"));
    rig_matrix(&r, "long", "g", payload);
    rig_start(&r);
    rig_wait_running(&r, 1);
    rig_let(&r, "gate", 1);
    rig_wait_done(&r, 1);
    rig_drop(&r, "plain2", "sw", 0);
    stop_with_orders(1);
    rig_end(&r);
}

static void *stop(void *arg)
{
    (void)arg;
    CHECK(exj_engine_stop(r.engine, 20000) == 0);
    r.engine = NULL;
    return NULL;
}

/* While rows are held; the row they wait for comes back after that. */
void rig_stop_hold(const char *lane)
{
    char payload[400];
    pthread_t t[5];

    rig_begin(&r, lane, "state1", 20);
    rig_start_done(&r, 20);
    snprintf(payload, sizeof(payload), "\"count\":1,\"prefix\":\"long\",\"record\":{\"hold\":\"%s\"}",
             rig_fifo(&r, "gate"));
    rig_matrix(&r, "long", "g", payload);
    rig_wait_running(&r, 1);
    rig_drop(&r, "state2", "sw", 0);
    for (unsigned k = 0; k < 4; k++)
        CHECK(pthread_create(&t[k], NULL, order, NULL) == 0);
    rig_wait_state(&r, "switching");
    CHECK(pthread_create(&t[4], NULL, stop, NULL) == 0);
    WAIT(atomic_load(&ended_orders) == 4);
    CHECK(atomic_load(&cancelled) == 4);
    rig_let(&r, "gate", 1);
    for (unsigned k = 0; k < 5; k++)
        pthread_join(t[k], NULL);
    rig_end(&r);
}

void rig_stop_canary(const char *lane)
{
    rig_begin(&r, lane, "plain1", 2000);
    rig_start_done(&r, 2000);
    rig_drop(&r, "plain2", "sw", 0);
    rig_reload(&r);
    rig_wait_state(&r, "canary");
    rig_feed(&r, 4000);
    rig_end_engine(&r);
    rig_start(&r); /* the file is what counts for the next one */
    rig_wait_version(&r, "2.0.0");
    rig_feed(&r, 4100);
    WAIT(({
        ended *e;
        size_t n = rig_rows(&r, "m", &e), done = 0;

        for (size_t k = 0; k < n; k++)
            done += e[k].status == EXJ_COMPLETED;
        free(e);
        done == 4100;
    }));
    rig_end_engine(&r);
    rig_check_all_good(&r, 4100);
    rig_end(&r);
}

/* ---- 9: a file that goes -------------------------------------------------------------------------- */

void rig_gone(const char *lane)
{
    char path[300];
    exj_err why;

    rig_begin(&r, lane, "plain1", 20);
    r.o.manual_reload = false;
    r.o.canary_percent = 0;
    rig_start_done(&r, 20);
    snprintf(path, sizeof(path), "%s/plugins/sw.so", r.tmp.path);
    CHECK(unlink(path) == 0);
    poll(NULL, 0, 700); /* it is noticed */
    rig_refused(&r, &why);
    CHECK(strstr(why.text, "sw.so"));
    rig_feed(&r, 60);
    rig_wait_done(&r, 60);
    rig_wait_version(&r, "1.0.0");
    rig_drop(&r, "plain2", "sw", 0);
    rig_wait_version(&r, "2.0.0");
    rig_feed(&r, 100);
    rig_wait_done(&r, 100);
    rig_check_all_good(&r, 100);
    rig_end(&r);
}

/* ---- 10: noticed by itself -------------------------------------------------------------------------- */

static uint64_t rows_fed;

static bool row_of(const char *version)
{
    ended *e;
    bool has;
    size_t n;

    rig_feed(&r, ++rows_fed);
    rig_wait_done(&r, rows_fed);
    n = rig_rows(&r, "m", &e);
    has = !strcmp(e[n - 1].version, version);
    free(e);
    return has;
}

void rig_watch(const char *lane)
{
    char path[300], sha[65];
    exj_nsec began, took;
    unsigned before;
    json_t *x;

    rig_begin(&r, lane, "plain1", rows_fed = 20);
    r.o.manual_reload = false;
    r.o.canary_percent = 0;
    rig_start_done(&r, 20);
    rig_drop(&r, "plain2", "sw", 0);
    began = exj_clock_mono_ns();
    WAIT(row_of("2.0.0"));
    took = (exj_clock_mono_ns() - began) / 1000000;
    printf("a row on the new version %lld ms after the rename\n", (long long)took);
    CHECK(took < 5000);

    /* Touched, and written again as it is: nothing. */
    before = rig_count_events(&r, "trial");
    snprintf(path, sizeof(path), "%s/plugins/sw.so", r.tmp.path);
    CHECK(utimensat(AT_FDCWD, path, NULL, 0) == 0);
    poll(NULL, 0, 700);
    rig_drop(&r, "plain2", "sw", 0);
    poll(NULL, 0, 700);
    CHECK(rig_count_events(&r, "trial") == before && rig_count_events(&r, "current") == 1 &&
          rig_count_events(&r, "refused") == 0);

    for (unsigned n = 1; n <= 20; n++) {
        rig_drop(&r, n % 2 ? "plain1" : "plain2", "sw", n);
        poll(NULL, 0, 20);
    }
    rig_sha(&r, "sw", sha);
    WAIT((x = rig_executor(&r), before = !strcmp(sha, json_string_value(json_object_get(
                                              json_object_get(x, "current"), "sha256"))),
          json_decref(x), before));
    CHECK(rig_count_events(&r, "current") <= 4);
    CHECK(row_of("2.0.0"));
    rig_check_all_good(&r, rows_fed);
    rig_end(&r);
}

/* A config map: the folder's file is a link, and what it leads through is turned over. */
static void put_map(const char *variant, const char *folder)
{
    char from[700], to[700];
    char *bytes;
    size_t n;
    FILE *f;

    CHECK(mkdir(exj_tmp_path(&r.tmp, folder), 0700) == 0);
    snprintf(from, sizeof(from), RIG_VARIANTS "/%s.so", variant);
    snprintf(to, sizeof(to), "%s/%s/sw.so", r.tmp.path, folder);
    bytes = exj_slurp(from, &n);
    f = fopen(to, "wb");
    CHECK(n && f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
    free(bytes);
}

void rig_config_map(const char *lane)
{
    exj_err why;

    rig_make(&r, lane);
    r.o.manual_reload = false;
    r.o.canary_percent = 0;
    put_map("plain1", "plugins/..one");
    CHECK(symlink("..one", exj_tmp_path(&r.tmp, "plugins/..data")) == 0);
    CHECK(symlink("..data/sw.so", exj_tmp_path(&r.tmp, "plugins/sw.so")) == 0);
    rig_feed(&r, rows_fed = 20);
    rig_start_done(&r, 20);
    for (unsigned n = 0; n < 3; n++) {
        char folder[40], old[300];
        const char *version = n % 2 ? "1.0.0" : "2.0.0";

        snprintf(folder, sizeof(folder), "plugins/..next%u", n);
        put_map(n % 2 ? "plain1" : "plain2", folder);
        CHECK(symlink(folder + 8, exj_tmp_path(&r.tmp, "plugins/..data_tmp")) == 0);
        CHECK(rename(exj_tmp_path(&r.tmp, "plugins/..data_tmp"),
                     exj_tmp_path(&r.tmp, "plugins/..data")) == 0);
        snprintf(old, sizeof(old), n ? "plugins/..next%u" : "plugins/..one", n - 1);
        snprintf(folder, sizeof(folder), "%s/sw.so", old);
        CHECK(unlink(exj_tmp_path(&r.tmp, folder)) == 0);
        CHECK(rmdir(exj_tmp_path(&r.tmp, old)) == 0);
        WAIT(row_of(version));
    }
    CHECK(rig_order(&r, EXJ_ORDER_ROLL_BACK, NULL, NULL, &why) == EXJ_OK);
    rig_wait_version(&r, "1.0.0");
    rig_end(&r);
}
