/* power_cut [--cuts N] [--seed S] [--fast] [--json]
 *
 * Cuts the power of the embedded store N times, under a load of operations of every kind,
 * and holds what is left against what was acknowledged (power_cut.h). With --fast the
 * store syncs less (its `fast` option): then cuts must lose acknowledged operations,
 * which shows that this program can find it, and must break nothing.
 *
 * Exit status: 0 all is as promised; 1 it is not; 2 the arguments are wrong.
 */
#include "power_cut.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUTS_OF_A_WORLD 25

static void usage(void)
{
    fprintf(stderr, "usage: power_cut [--cuts N] [--seed S] [--fast] [--json]\n");
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end = NULL;
    uint64_t n = text ? strtoull(text, &end, 10) : 0;

    if (!text || !*text || *end)
        usage();
    return n;
}

/* Kinds of operations that were never acknowledged: they are not tested. */
static size_t missing(const struct rig *r)
{
    size_t n = 0;

    for (int k = 0; k < EXJ_OP_COUNT; k++)
        if (!r->total.kinds[k]) {
            fprintf(stderr, "power_cut: not tested: %s\n", exj_op_name((exj_op_kind)k));
            n++;
        }
    return n;
}

static void print(const struct rig *r, const char *verdict, uint64_t seed, int64_t ms,
                  bool json)
{
    const struct totals *t = &r->total;
    exj_power_tally p = exj_power_tell(r->real.disk);
    double rate = ms ? (double)t->cuts * 1000 / (double)ms : 0;

    if (json)
        printf("{\"verdict\":\"%s\",\"fast\":%s,\"cuts\":%" PRIu64 ",\"acked\":%" PRIu64
               ",\"unknown\":%" PRIu64 ",\"unknown_applied\":%" PRIu64
               ",\"lost_cuts\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"corrupt\":%" PRIu64
               ",\"wrong\":%" PRIu64 ",\"sectors_kept\":%" PRIu64
               ",\"sectors_dropped\":%" PRIu64 ",\"sectors_torn\":%" PRIu64
               ",\"cuts_per_s\":%.1f,\"seed\":%" PRIu64 "}\n",
               verdict, r->fast ? "true" : "false", t->cuts, t->acked, t->unknown,
               t->unknown_applied, t->lost_cuts, t->lost_groups, t->corrupt, t->wrong,
               p.kept, p.dropped, p.torn, rate, seed);
    else
        printf("power_cut: %s%s: %" PRIu64 " cuts (%" PRIu64 " in the load, %" PRIu64
               " while closing, %" PRIu64 " while opening, %" PRIu64 " at rest), %" PRIu64
               " acknowledged, %" PRIu64 " unknown (%" PRIu64
               " were applied), lost %" PRIu64 " in %" PRIu64 " cuts, corrupt %" PRIu64
               ", otherwise wrong %" PRIu64 "; sectors %" PRIu64 " kept, %" PRIu64
               " dropped, %" PRIu64 " torn; %" PRIu64
               " changes of files taken back, %" PRIu64
               " large values looked at; %.0f cuts/s; seed %" PRIu64 "\n",
               verdict, r->fast ? " (fast)" : "", t->cuts, t->load_cuts, t->close_cuts,
               t->open_cuts, t->idle_cuts, t->acked, t->unknown, t->unknown_applied,
               t->lost_groups, t->lost_cuts, t->corrupt, t->wrong, p.kept, p.dropped,
               p.torn, t->files_back, t->values, rate, seed);
}

static void run(struct rig *r, uint64_t cuts)
{
    while (!r->why[0] && r->total.cuts < cuts) {
        uint64_t until = r->total.cuts + CUTS_OF_A_WORLD;

        if (!rig_begin_world(r))
            return;
        while (r->total.cuts < until && r->total.cuts < cuts && rig_round(r))
            ;
        rig_end_world(r);
    }
}

int main(int argc, char **argv)
{
    struct rig *r = calloc(1, sizeof(*r));
    uint64_t cuts = 2000, seed = 0;
    bool fast = false, json = false, good;
    int64_t began;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--cuts") == 0)
            cuts = number(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = number(argv[++i]);
        else if (strcmp(argv[i], "--fast") == 0)
            fast = true;
        else if (strcmp(argv[i], "--json") == 0)
            json = true;
        else
            usage();
    }
    if (!r)
        return 1;
    if (!seed)
        seed = exj_test_seed("power_cut");
    exj_sqlite_own_process();
    rig_init(r, seed, fast);
    began = exj_test_now_ms();
    run(r, cuts);
    good = !r->why[0] && !r->total.corrupt && !r->total.wrong &&
           (fast ? r->total.lost_cuts > 0 || cuts < 100 : r->total.lost_cuts == 0) &&
           (cuts < 1000 || fast || missing(r) == 0);
    print(r, good ? "ok" : "FAILED", seed, exj_test_now_ms() - began, json);
    if (r->why[0])
        fprintf(stderr,
                "power_cut: %s\npower_cut: again with: power_cut --cuts %" PRIu64
                " --seed %" PRIu64 "%s\n",
                r->why, r->total.cuts, seed, fast ? " --fast" : "");
    rig_release(r);
    exj_support_clean();
    free(r);
    return good ? 0 : 1;
}
