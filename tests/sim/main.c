/* exj_sim: the command line. Seeds run in child processes, so that code that falls over
 * (a signal, an assertion) is a seed that failed and not the end of the search. */
#include "tests/sim/sim.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STORE "store"
#define JOBS_MAX 64
#define SEED_SECONDS 120 /* one that takes longer spins */

static const char help[] =
    "exj_sim - workers, their store and its disk in a simulated world\n"
    "\n"
    "  exj_sim [--seed N] [--seeds N | --seconds S]    search (default: one seed)\n"
    "  exj_sim --seed N [--faults LIST] [--rows N] [--horizon MS]    one seed again\n"
    "\n"
    "  --seed N       begin here; without it: drawn and printed\n"
    "  --seeds N      so many seeds, N, N+1, ...\n"
    "  --seconds S    as many as fit into S seconds\n"
    "  --trace FILE   write what happens, line by line (of the last seed that ran)\n"
    "  --shrink       make a seed that fails shorter: fewer faults, rows, less time\n"
    "  --first        stop at the first seed that fails\n"
    "  --jobs N       processes at once (1)\n"
    "  --json         the summary as JSON\n"
    "  --quiet        no line for each seed\n"
    "  --faults LIST  only these of the seed's faults: 0,3,7 or none\n"
    "  --rows N       at most so many records are pushed\n"
    "  --horizon MS   virtual time before the drain\n"
    "\n"
    "Exit status: 0 all is well, 1 a seed failed, 2 a mistake in the command line.\n";

struct setup {
    uint64_t seed, seeds, keep;
    unsigned seconds, jobs, rows, horizon_ms;
    bool has_seed, shrink, json, quiet, first;
    const char *trace;
};

/* What a child leaves for its parent to see. */
struct report {
    sim_totals t;
    uint64_t at; /* seed that runs now, or that ended it */
    bool runs;   /* inside a seed */
    uint64_t failed[64];
    unsigned failed_len;
    char dir[200];
};

static double now_s(void)
{
    struct timespec t;

    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print_keep(FILE *to, uint64_t keep)
{
    const char *comma = "";

    if (keep == UINT64_MAX)
        return;
    fprintf(to, " --faults ");
    if (!keep)
        fprintf(to, "none");
    for (unsigned i = 0; i < 64; i++)
        if (keep >> i & 1) {
            fprintf(to, "%s%u", comma, i);
            comma = ",";
        }
}

static void print_command(FILE *to, uint64_t seed, uint64_t keep, unsigned rows,
                          unsigned horizon_ms)
{
    fprintf(to, "exj_sim --seed %" PRIu64, seed);
    print_keep(to, keep);
    if (rows)
        fprintf(to, " --rows %u", rows);
    if (horizon_ms)
        fprintf(to, " --horizon %u", horizon_ms);
    fprintf(to, "\n");
}

/* ---- a child
 * -------------------------------------------------------------------------------- */

/* A folder for the lock file and the like; empty but for a file in the place of the
 * store, since some ask whether there is one before they open it. */
static void make_folder(char *ret, size_t cap)
{
    const char *base = getenv("TMPDIR");
    char path[300];
    int fd;

    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(ret, cap, "%s/exj-sim-XXXXXX", base);
    if (!mkdtemp(ret)) {
        perror("exj_sim: mkdtemp");
        exit(2);
    }
    snprintf(path, sizeof(path), "%s/" STORE, ret);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/" STORE "/exellix-jobs.db", ret);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    /* Messages name the store's folder: it has the same name in every run. */
    if (chdir(ret) < 0) {
        perror("exj_sim: chdir");
        exit(2);
    }
}

static bool run_one(const struct setup *u, struct report *r, uint64_t seed)
{
    /* Also when nobody wants it, so that it has the same descriptor in any case. */
    FILE *trace = fopen(u->trace ? u->trace : "/dev/null", "we");
    bool ok;

    if (!trace) {
        perror("exj_sim: --trace");
        _exit(2);
    }
    sim->trace = u->trace ? trace : NULL;
    sim->o = (sim_options){ .seed = seed,
                            .rows = u->rows,
                            .horizon_ms = u->horizon_ms,
                            .keep = u->keep,
                            .dir = STORE };
    r->at = seed;
    r->runs = true;
    alarm(SEED_SECONDS);
    ok = sim_seed();
    alarm(0);
    r->runs = false;
    r->t = sim->t;
    if (!ok) {
        fflush(stdout);
        fprintf(stderr, "seed %" PRIu64 " FAILED in life %u: %s\n  again: ", seed,
                sim->life, sim->why);
        print_command(stderr, seed, u->keep, u->rows, u->horizon_ms);
        if (strstr(sim->why, "deadlock") || strstr(sim->why, "no end"))
            sim_dump(stderr);
    }
    if (!u->quiet)
        printf("seed %" PRIu64 " %s digest %016" PRIx64
               " lives %u faults %u virtual %.1f s\n",
               seed, ok ? "ok" : "FAILED", sim->digest, sim->life, sim->next_fault,
               (double)(sim->mono_ns - 1000000000000) / 1e9);
    fclose(trace);
    return ok;
}

static void remove_folder(const char *dir)
{
    char command[400];

    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "exj_sim: %s is left behind\n", dir);
}

/* Seeds from `first` on, each `step`-th, until `until` or the end. */
static void child(const struct setup *u, struct report *r, uint64_t first, uint64_t end,
                  uint64_t step, double until)
{
    char dir[200];
    bool ok = true;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever kills the search ends all of it */
    make_folder(dir, sizeof(dir));
    snprintf(r->dir, sizeof(r->dir), "%s", dir);
    sim_world_open();
    sim->t = r->t;
    sim->first_fd = dup(STDERR_FILENO); /* the lowest that is free: the trace's; */
    close(sim->first_fd++);             /* what comes behind belongs to lives */
    sim_world_mark();
    for (uint64_t seed = first; seed < end && (!until || now_s() < until); seed += step) {
        if (run_one(u, r, seed))
            continue;
        ok = false;
        if (r->failed_len < 64)
            r->failed[r->failed_len++] = seed;
        if (r->failed_len >= (u->first ? 1 : 10))
            break;
    }
    fflush(stdout);
    remove_folder(dir);
    _exit(ok ? 0 : 1);
}

static void *shared(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("exj_sim: mmap");
        exit(2);
    }
    return p;
}

/* A child ended. True: there is more for it to do, from r->at on. */
static bool is_to_go_on(struct report *r, int status, const struct setup *u)
{
    if (WIFEXITED(status) && !r->runs)
        return false;
    fprintf(stderr,
            "seed %" PRIu64 " FAILED: the program ended with %s %d\n  again: ", r->at,
            WIFSIGNALED(status) ? "signal" : "status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    print_command(stderr, r->at, u->keep, u->rows, u->horizon_ms);
    remove_folder(r->dir);
    r->t.seeds++;
    r->t.failed++;
    if (r->failed_len < 64)
        r->failed[r->failed_len++] = r->at;
    r->runs = false;
    return r->failed_len < (u->first ? 1 : 10);
}

/* ---- shrinking
 * ------------------------------------------------------------------------------- */

static bool fails(struct setup u, struct report *r)
{
    pid_t pid;
    int status = 0, null;

    memset(r, 0, sizeof(*r));
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        u.trace = NULL;
        child(&u, r, u.seed, u.seed + 1, 1, 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return false;
    if (r->runs)
        remove_folder(r->dir);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void shrink(struct setup u)
{
    struct report *r = shared(sizeof(*r));
    unsigned tries = 0;

    if (!fails(u, r)) {
        printf("seed %" PRIu64 " does not fail when it is alone\n", u.seed);
        return;
    }
    for (unsigned size = 32; size; size /= 2) { /* leave out so many faults at a time */
        for (unsigned i = 0; i < 64; i += size) {
            struct setup less = u;

            for (unsigned k = i; k < i + size && k < 64; k++)
                less.keep &= ~((uint64_t)1 << k);
            if (less.keep != u.keep && (tries++, fails(less, r)))
                u = less;
        }
    }
    for (unsigned most = 32; most; most /= 2) {
        struct setup less = u;

        less.rows = most;
        tries++;
        if (fails(less, r))
            u = less;
    }
    for (unsigned ms = 20000; ms >= 250; ms = ms * 3 / 4) {
        struct setup less = u;

        less.horizon_ms = ms;
        tries++;
        if (fails(less, r))
            u = less;
    }
    printf("shorter (%u tries): ", tries);
    print_command(stdout, u.seed, u.keep, u.rows, u.horizon_ms);
}

/* ---- all
 * -------------------------------------------------------------------------------------
 */

static void add(sim_totals *to, const sim_totals *from)
{
    uint64_t *a = (uint64_t *)to;
    const uint64_t *b = (const uint64_t *)from;

    for (size_t i = 0; i < sizeof(*to) / sizeof(uint64_t); i++)
        a[i] += b[i];
}

static void summary(const struct setup *u, const sim_totals *t, double took)
{
    const char *comma = "";

    if (u->json) {
        printf("{\"seed\":%" PRIu64 ",\"seeds\":%" PRIu64 ",\"failed\":%" PRIu64
               ",\"executions\":%" PRIu64
               ",\"virtualSeconds\":%.1f,\"seconds\":%.2f,\"faults\":{",
               u->seed, t->seeds, t->failed, t->executions, (double)t->virtual_ns / 1e9,
               took);
        for (unsigned i = 0; i < SIM_KINDS; i++, comma = ",")
            printf("%s\"%s\":%" PRIu64, comma, sim_fault_words[i], t->hit[i]);
        printf("},\"lives\":%" PRIu64 ",\"staleTried\":%" PRIu64
               ",\"staleRefused\":%" PRIu64 ",\"fenced\":%" PRIu64 ",\"reaped\":%" PRIu64
               "}\n",
               t->lives, t->stale_tried, t->stale_refused, t->fenced, t->reaped);
        return;
    }
    printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64
           " failed, in %.1f s (%.1f ms a seed)\n",
           t->seeds, u->seed, t->failed, took,
           t->seeds ? took * 1000 / (double)t->seeds : 0);
    printf("  %" PRIu64 " executions in %" PRIu64 " lives, %" PRIu64
           " operations of the store, %" PRIu64 " switches, %" PRIu64 " disk accesses\n",
           t->executions, t->lives, t->ops, t->switches, t->accesses);
    printf("  %.1f virtual hours, %.0f times real time\n", (double)t->virtual_ns / 3.6e12,
           took > 0 ? (double)t->virtual_ns / 1e9 / took : 0);
    printf("  faults that struck:");
    for (unsigned i = 0; i < SIM_KINDS; i++, comma = ",")
        printf("%s %s %" PRIu64, comma, sim_fault_words[i], t->hit[i]);
    printf("\n  sectors dropped %" PRIu64 ", torn %" PRIu64 "; leases over %" PRIu64
           "; refusals %" PRIu64 "; stale writes tried %" PRIu64 ", refused %" PRIu64
           "\n",
           t->dropped, t->torn, t->reaped, t->fenced, t->stale_tried, t->stale_refused);
    printf("  steps %" PRIu64 ", replayed %" PRIu64 "; suspended %" PRIu64
           ", signals %" PRIu64 ", cancels %" PRIu64 ", retries %" PRIu64
           ", reruns %" PRIu64 "; events to the sink %" PRIu64 "\n",
           t->steps, t->replayed_steps, t->suspended, t->signals, t->cancels, t->retries,
           t->reruns, t->sink_events);
    printf("  invariants tried:");
    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++)
        printf("%s I%u %" PRIu64, i > 1 ? "," : "", i, t->tried[i]);
    printf("\n");
}

static int run(const struct setup *u)
{
    struct report *r = shared(JOBS_MAX * sizeof(*r));
    pid_t pids[JOBS_MAX] = { 0 };
    double began = now_s(), until = u->seconds ? began + u->seconds : 0;
    uint64_t end = u->seconds ? UINT64_MAX : u->seed + u->seeds;
    sim_totals all = { 0 };
    unsigned left = u->jobs;

    fflush(NULL);
    for (unsigned i = 0; i < u->jobs; i++) {
        r[i].at = u->seed + i;
        if ((pids[i] = fork()) == 0)
            child(u, &r[i], u->seed + i, end, u->jobs, until);
    }
    while (left) {
        int status;
        pid_t pid = wait(&status);

        for (unsigned i = 0; i < u->jobs; i++) {
            if (pids[i] != pid)
                continue;
            if (is_to_go_on(&r[i], status, u)) {
                if ((pids[i] = fork()) == 0)
                    child(u, &r[i], r[i].at + u->jobs, end, u->jobs, until);
            } else {
                left--;
            }
        }
    }
    for (unsigned i = 0; i < u->jobs; i++)
        add(&all, &r[i].t);
    summary(u, &all, now_s() - began);
    for (unsigned i = 0; i < u->jobs && u->shrink; i++)
        for (unsigned k = 0; k < r[i].failed_len && k < 1; k++) {
            struct setup one = *u;

            one.seed = r[i].failed[k];
            shrink(one);
        }
    return all.failed ? 1 : 0;
}

static bool parse_faults(const char *text, uint64_t *ret)
{
    char *end;

    *ret = 0;
    if (!strcmp(text, "none"))
        return true;
    for (;;) {
        unsigned long n = strtoul(text, &end, 10);

        if (end == text || n > 63)
            return false;
        *ret |= (uint64_t)1 << n;
        if (!*end)
            return true;
        if (*end != ',')
            return false;
        text = end + 1;
    }
}

static bool parse_number(const char *text, uint64_t most, uint64_t *ret)
{
    char *end;

    *ret = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && *ret <= most;
}

int main(int argc, char **argv)
{
    enum {
        SEED,
        SEEDS,
        SECONDS,
        TRACE,
        SHRINK,
        JOBS,
        JSON,
        QUIET,
        FAULTS,
        ROWS,
        HORIZON,
        FIRST,
        HELP
    };
    static const struct option options[] = {
        { "seed", 1, NULL, SEED },       { "seeds", 1, NULL, SEEDS },
        { "seconds", 1, NULL, SECONDS }, { "trace", 1, NULL, TRACE },
        { "shrink", 0, NULL, SHRINK },   { "jobs", 1, NULL, JOBS },
        { "json", 0, NULL, JSON },       { "quiet", 0, NULL, QUIET },
        { "faults", 1, NULL, FAULTS },   { "rows", 1, NULL, ROWS },
        { "horizon", 1, NULL, HORIZON }, { "help", 0, NULL, HELP },
        { "first", 0, NULL, FIRST },     { NULL, 0, NULL, 0 },
    };
    struct setup u = { .seeds = 1, .jobs = 1, .keep = UINT64_MAX };
    uint64_t n = 0;
    bool ok = true;
    int c;

    while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case SEED:
            ok = u.has_seed = parse_number(optarg, UINT64_MAX - 1, &u.seed);
            break;
        case SEEDS:
            ok = parse_number(optarg, UINT32_MAX, &u.seeds);
            break;
        case SECONDS:
            ok = parse_number(optarg, 1000000, &n);
            u.seconds = (unsigned)n;
            break;
        case JOBS:
            ok = parse_number(optarg, JOBS_MAX, &n) && n;
            u.jobs = (unsigned)n;
            break;
        case ROWS:
            ok = parse_number(optarg, SIM_RECORDS, &n);
            u.rows = (unsigned)n;
            break;
        case HORIZON:
            ok = parse_number(optarg, 10000000, &n);
            u.horizon_ms = (unsigned)n;
            break;
        case FAULTS:
            ok = parse_faults(optarg, &u.keep);
            break;
        case TRACE:
            u.trace = optarg;
            break;
        case SHRINK:
            u.shrink = true;
            break;
        case JSON:
            u.json = true;
            break;
        case FIRST:
            u.first = true;
            break;
        case QUIET:
            u.quiet = true;
            break;
        case HELP:
            fputs(help, stdout);
            return 0;
        default:
            ok = false;
        }
    }
    if (!ok || optind < argc) {
        fprintf(stderr, "exj_sim: %s is not understood; try --help\n",
                optind < argc ? argv[optind] : argv[optind - 1]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (u.trace && *u.trace != '/') { /* the runs have a folder of their own */
        char *here = getcwd(NULL, 0), *path = NULL;

        if (!here || asprintf(&path, "%s/%s", here, u.trace) < 0) {
            perror("exj_sim: --trace");
            return 2;
        }
        u.trace = path;
    }
    if (!u.has_seed) {
        u.seed = (uint64_t)(now_s() * 1000) % 1000000000;
        printf("seeds from %" PRIu64 "\n", u.seed);
    }
    return run(&u);
}
