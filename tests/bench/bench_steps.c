/* tests/bench/bench_steps.c - rows of durable steps through the whole engine, in one process:
 * claim -> each step looked for, begun, committed -> durable outcome.
 *
 *   bench_steps [DIR [ROWS [WORKERS [STEPS]]]]
 *     DIR      where the store is made and removed (default: .); its disk is measured
 *     ROWS     default 2000
 *     WORKERS  default 8: rows that wait for a flush at once share it
 *     STEPS    default 10 a row
 *
 * limit_steps runs before and after it with the same numbers, because the disk's mood changes:
 * the ratios are to the mean of both. All of them do the same writes, so rows a second compare
 * what transactions do.
 * With EXJ_BENCH_FAST=1 the store runs with synchronous=NORMAL, and says so. */
#include <inttypes.h>
#include <unistd.h>

#include "tests/bench/rig.h"

struct seen {
    int64_t steps, open;
};

static bool count_step(void *user, const exj_step_view *v)
{
    struct seen *seen = user;

    seen->steps += v->done;
    seen->open += !v->done;
    return true;
}

/* The first and the last row's steps are all there. */
static void check_steps(exj_store *s, int64_t rows, int64_t steps)
{
    for (int i = 0; i < 2; i++) {
        struct seen seen = { 0, 0 };
        exj_err err = { 0 };

        rig_check(s->v->step_each(s, i ? rows : 1, count_step, &seen, &err), &err);
        if (seen.steps != steps || seen.open) {
            fprintf(stderr, "bench_steps: row %" PRId64 " has %" PRId64 " steps, %" PRId64
                    " are open\n", i ? rows : 1, seen.steps, seen.open);
            exit(1);
        }
    }
}

struct limit {
    double lockstep, threads; /* rows/s, summed up */
    int runs;
};

/* What the bare transactions reach on the same disk. Not beside us: nothing is added. */
static void run_limit(struct limit *l, const char *dir, int64_t rows, unsigned workers,
                      int64_t steps)
{
    char self[400], command[1200], line[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    FILE *f;

    if (n <= 0)
        return;
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(command, sizeof(command), "%s/limit_steps", self);
    if (access(command, X_OK) != 0)
        return;
    snprintf(command, sizeof(command), "'%s/limit_steps' '%s' %" PRId64 " %u %" PRId64, self, dir,
             rows, workers, steps);
    fflush(stdout);
    f = popen(command, "re");
    if (!f)
        return;
    while (fgets(line, sizeof(line), f)) {
        const char *lockstep = strstr(line, "lockstep"), *threads = strstr(line, "threads");

        fputs(line, stdout);
        l->lockstep += lockstep ? strtod(lockstep + strlen("lockstep"), NULL) : 0;
        l->threads += threads ? strtod(threads + strlen("threads"), NULL) : 0;
    }
    l->runs += pclose(f) == 0;
}

int main(int argc, char **argv)
{
    const char *base = argc > 1 ? argv[1] : ".";
    int64_t rows = argc > 2 ? strtoll(argv[2], NULL, 10) : 2000;
    int64_t steps = argc > 4 ? strtoll(argv[4], NULL, 10) : 10;
    unsigned workers = argc > 3 ? (unsigned)atoi(argv[3]) : 8;
    exj_store_health before, after;
    struct rig rig;
    char record[80];
    exj_err err = { 0 };
    exj_nsec began, took;
    struct limit limit = { 0, 0, 0 };
    double cpu, rate;

    if (rows < 1 || steps < 1 || !workers ||
        !rig_open(&rig, base, "test-engine", workers)) {
        fprintf(stderr, "usage: bench_steps [DIR [ROWS [WORKERS [STEPS]]]]\n");
        return 2;
    }
    run_limit(&limit, base, rows, workers, steps);
    /* "then": it answers without reading its steps once more. */
    snprintf(record, sizeof(record), "{\"steps\":%" PRId64 ",\"then\":\"completed\"}", steps);
    rig_insert(&rig, rows, record);
    rig_check(rig.o.store->v->health(rig.o.store, &before), &err);
    cpu = rig_cpu();
    began = exj_clock_mono_ns();
    rig_start(&rig);
    if (!exj_engine_wait_idle(rig.engine, began + 600000000000)) {
        fprintf(stderr, "bench_steps: not idle after 600 s\n");
        return 1;
    }
    took = exj_clock_mono_ns() - began;
    cpu = rig_cpu() - cpu;
    rig_check(rig.o.store->v->health(rig.o.store, &after), &err);
    exj_engine_stop(rig.engine, 10000);
    if (rig_count(&rig, EXJ_COMPLETED) != rows) {
        fprintf(stderr, "bench_steps: %" PRId64 " of %" PRId64 " rows completed\n",
                rig_count(&rig, EXJ_COMPLETED), rows);
        return 1;
    }
    check_steps(rig.o.store, rows, steps);
    rate = (double)rows * 1e9 / (double)took;
    printf("engine             %8.0f rows/s, %8.0f steps/s, %6.0f commits/s, %.1f us of processor "
           "a row; %" PRId64 " rows of %" PRId64 " steps in %.2f s, %u workers, %.1f operations a "
           "commit, %s\n",
           rate, rate * (double)steps,
           (double)(after.commits - before.commits) * 1e9 / (double)took,
           cpu * 1e6 / (double)rows, rows, steps, (double)took / 1e9, workers,
           (double)(after.ops - before.ops) / (double)(after.commits - before.commits),
           rig.so.fast ? "synchronous=NORMAL" : "synchronous=FULL");
    rig_close(&rig);
    run_limit(&limit, base, rows, workers, steps);
    if (limit.runs)
        printf("ratio     %.2f of the limit's lockstep, %.2f of its threads\n",
               rate * limit.runs / limit.lockstep, rate * limit.runs / limit.threads);
    else
        printf("ratio     unknown: the limit program is not beside this one\n");
    return 0;
}
