/* One shelf from many threads, two shelves on one folder, and a watch that other threads
 * wake while files come and go. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/plugin/shelf.h"
#include "core/plugin/watch.h"
#include "tests/support/support.h"

#define THREADS 4
#define ROUNDS 25
#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NOW 1780000000000

#define CHECK(what)                                                                       \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what);      \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

static exj_shelf *shelves[2];
static exj_watch *watch;
static exj_tmp tmp;
static char last[300];
static atomic_int over;

static void *use_shelf(void *user)
{
    unsigned me = *(unsigned *)user;
    exj_shelf *s = shelves[me % 2];
    char id[20], sha[65], found[65];

    snprintf(id, sizeof id, "id%u", me);
    for (unsigned k = 0; k < ROUNDS; k++) {
        exj_shelf_event e = { .at = NOW, .id = "all", .generation = k, .event = EXJ_PE_TRIAL };
        exj_shelf_crash c = { .sha256 = A, .id = id, .at = NOW + (exj_msec)k * 100000 };
        bool yes = false;
        json_t *list = NULL;

        snprintf(sha, sizeof sha, "%064x", me * 1000 + k);
        CHECK(exj_shelf_history_add(s, &e, NULL) == EXJ_OK);
        CHECK(exj_shelf_trust_add(s, sha, id, NOW, NULL) == EXJ_OK);
        CHECK(exj_shelf_trust_has(s, sha, &yes, NULL) == EXJ_OK && yes);
        CHECK(exj_shelf_pin(s, id, sha, NOW, NULL) == EXJ_OK);
        CHECK(exj_shelf_pinned(s, id, found, NULL) == EXJ_OK && strcmp(found, sha) == 0);
        CHECK(exj_shelf_crash_add(s, &c, NULL, NULL) == EXJ_OK);
        CHECK(exj_shelf_is_quarantined(s, sha, &yes, NULL, NULL) == EXJ_OK && !yes);
        CHECK(exj_shelf_history(s, "all", 3, &list, NULL) == EXJ_OK);
        json_decref(list);
    }
    return NULL;
}

static void *wake(void *user)
{
    (void)user;
    for (int k = 0; k < 300; k++) {
        if (k % 2)
            exj_watch_wake(watch);
        else
            exj_watch_look(watch);
    }
    if (atomic_fetch_add(&over, 1) == 1)
        exj_spit(last, "text");
    exj_watch_look(watch);
    return NULL;
}

int main(void)
{
    const char *dirs[] = { NULL, NULL };
    exj_watch_config config = { .quiet_ms = 20, .poll_ms = 60000 };
    unsigned numbers[THREADS];
    pthread_t t[THREADS], waker[2];
    json_t *list = NULL;
    bool seen = false;

    exj_tmp_make(&tmp);
    dirs[0] = tmp.path;
    snprintf(last, sizeof last, "%s", exj_tmp_path(&tmp, "last.so"));
    for (int k = 0; k < 2; k++)
        CHECK(exj_shelf_new(exj_tmp_path(&tmp, "plugins"), NULL, &shelves[k], NULL) == EXJ_OK);
    CHECK(exj_watch_new(dirs, &config, &watch, NULL) == EXJ_OK);
    for (unsigned k = 0; k < THREADS; k++) {
        numbers[k] = k;
        CHECK(pthread_create(&t[k], NULL, use_shelf, &numbers[k]) == 0);
    }
    for (int k = 0; k < 2; k++)
        CHECK(pthread_create(&waker[k], NULL, wake, NULL) == 0);
    for (int64_t until = exj_test_now_ms() + 60000; !seen && exj_test_now_ms() < until;) {
        exj_file_changes got = { 0 };

        CHECK(exj_watch_wait(watch, 1000, &got, NULL) == EXJ_OK);
        seen = got.len > 0;
        exj_file_changes_release(&got);
    }
    CHECK(seen);
    for (unsigned k = 0; k < THREADS; k++)
        pthread_join(t[k], NULL);
    for (int k = 0; k < 2; k++)
        pthread_join(waker[k], NULL);
    CHECK(atomic_load(&over) == 2);
    CHECK(exj_shelf_history(shelves[0], "all", 0, &list, NULL) == EXJ_OK);
    CHECK(json_array_size(list) == THREADS * ROUNDS);
    json_decref(list);
    CHECK(exj_shelf_trust_list(shelves[1], &list, NULL) == EXJ_OK);
    CHECK(json_array_size(list) == THREADS * ROUNDS);
    json_decref(list);
    exj_watch_free(watch);
    exj_shelf_free(shelves[0]);
    exj_shelf_free(shelves[1]);
    exj_support_clean();
    return 0;
}
