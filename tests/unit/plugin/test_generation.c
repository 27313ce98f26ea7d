/* The life of generations in a registry put together by hand: no file is loaded. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <string.h>

#include "core/plugin/registry.h"

static exj_registry r;
static exj_plugin_file files[4];
static exj_guest guests[4];
static char id[] = "a", version[] = "1";

/* Four generations of a.so, the newest (3) first in the list. */
static void make(void)
{
    pthread_mutex_init(&r.mu, NULL);
    pthread_mutex_init(&r.loading, NULL);
    for (int i = 3; i >= 0; i--) {
        guests[i] = (exj_guest){ .registry = &r, .file = &files[i], .id = id,
                                 .version = version, .path = "/p/a.so",
                                 .lane = EXJ_LANE_HOST };
        files[i] = (exj_plugin_file){ .source = strdup("/p/a.so"), .loaded = true,
                                      .guests = &guests[i], .guests_len = 1,
                                      .lane = EXJ_LANE_HOST, .number = (uint64_t)i + 1 };
        files[i].next = i < 3 ? &files[i + 1] : NULL;
    }
    r.files = &files[0];
}

static void end(void)
{
    for (int i = 0; i < 4; i++)
        free(files[i].source);
}

TestSuite(generation, .init = make, .fini = end);

Test(generation, each_state_has_a_word)
{
    cr_expect_str_eq(exj_gen_word(EXJ_GEN_TRIAL), "trial");
    cr_expect_str_eq(exj_gen_word(EXJ_GEN_RETIRED), "retired");
    cr_expect_str_eq(exj_gen_word((exj_gen_state)99), "unknown");
}

Test(generation, there_is_one_current_one_a_source_and_lane)
{
    for (int i = 0; i < 4; i++)
        files[i].state = EXJ_GEN_CURRENT;
    files[1].lane = EXJ_LANE_IN_PROCESS;
    files[2].loaded = false;
    exj_guest_set_state(&guests[0], EXJ_GEN_CURRENT);
    cr_expect_eq(files[0].state, EXJ_GEN_CURRENT);
    cr_expect_eq(files[1].state, EXJ_GEN_CURRENT); /* of another lane */
    cr_expect_eq(files[2].state, EXJ_GEN_CURRENT); /* never loaded */
    cr_expect_eq(files[3].state, EXJ_GEN_DRAINING);
    free(files[3].source);
    files[3].source = strdup("/p/b.so");
    files[3].state = EXJ_GEN_CURRENT;
    exj_guest_set_state(&guests[0], EXJ_GEN_CURRENT);
    cr_expect_eq(files[3].state, EXJ_GEN_CURRENT); /* of another source */
    exj_guest_set_state(&guests[0], EXJ_GEN_DRAINING);
    cr_expect_eq(files[3].state, EXJ_GEN_CURRENT);
    cr_expect_eq(files[0].state, EXJ_GEN_DRAINING);
}

Test(generation, the_current_ones_of_a_source_are_held)
{
    exj_guest *held[4];

    for (int i = 0; i < 4; i++)
        files[i].state = EXJ_GEN_CURRENT;
    files[0].loaded = false;
    files[1].is_static = true;
    files[2].state = EXJ_GEN_DRAINING;
    cr_assert_eq(exj_registry_hold_current(&r, "/p/a.so", held, 4), 1);
    cr_expect_eq(held[0], &guests[3]);
    cr_expect_eq(files[3].holds, 1);
    cr_expect_eq(exj_registry_hold_current(&r, "/p/b.so", held, 4), 0);
    files[0].loaded = true;
    cr_expect_eq(exj_registry_hold_current(&r, "/p/a.so", held, 1), 1); /* no more than fit */
    cr_expect_eq(held[0], &guests[0]);
    exj_guest_release(held[0]);
    cr_expect_eq(files[0].holds, 0);
    exj_guest_release(NULL);
}

/* Inside a plugin host there is no registry. */
Test(generation, without_a_registry_nothing_is_counted)
{
    exj_instance i = { .guest = &guests[0] };

    guests[0].registry = NULL;
    exj_registry_add_instance(NULL, &i);
    exj_registry_drop_instance(NULL, &i);
    exj_registry_end_use(&guests[0]);
    exj_guest_release(&guests[0]);
    cr_expect_eq(files[0].uses, 0);
    cr_expect_eq(files[0].holds, 0);
}

Test(generation, instances_come_and_go_in_any_order)
{
    exj_instance i[3] = { { .guest = &guests[0] }, { .guest = &guests[0] },
                          { .guest = &guests[0] } };

    for (int k = 0; k < 3; k++)
        exj_registry_add_instance(&r, &i[k]);
    cr_expect_eq(files[0].uses, 3);
    exj_registry_drop_instance(&r, &i[1]);
    cr_expect_eq(r.instances, &i[2]);
    cr_expect_eq(i[2].next, &i[0]);
    exj_registry_drop_instance(&r, &i[2]);
    exj_registry_drop_instance(&r, &i[0]);
    cr_expect_null(r.instances);
    for (int k = 0; k < 3; k++)
        exj_registry_end_use(&guests[0]);
    cr_expect_eq(files[0].uses, 0);
}

Test(generation, what_is_built_in_or_cannot_be_read_has_no_candidate)
{
    exj_guest *g = NULL;
    exj_err err = { 0 };

    files[0].is_static = true;
    cr_expect_eq(exj_guest_candidate(&guests[0], NULL, EXJ_LANE_DEFAULT, &g, &err), EXJ_CONFLICT);
    cr_expect(strstr(err.text, "plugin a is part of the program"), "%s", err.text);
    files[0].is_static = false;
    guests[0].path = "/nowhere/a.so";
    cr_expect_neq(exj_guest_candidate(&guests[0], NULL, EXJ_LANE_DEFAULT, &g, NULL), EXJ_OK);
    cr_expect_null(g);
}

/* In process, and not to be closed: it stays mapped, is told so, and is not tried again. */
static unsigned told;

static void see(void *user, const exj_guest_info *i)
{
    (void)user;
    cr_expect_eq(i->state, EXJ_GEN_PINNED);
    told++;
}

Test(generation, what_cannot_be_unmapped_is_pinned)
{
    static const exj_gen_state over[] = { EXJ_GEN_DRAINING, EXJ_GEN_TRIAL, EXJ_GEN_CANARY };

    for (int i = 0; i < 4; i++) {
        files[i].state = i < 3 ? over[i] : EXJ_GEN_CURRENT;
        files[i].library = (void *)&r; /* not closable: it is never looked at */
    }
    cr_expect_eq(exj_registry_sweep(&r, see, NULL), 3);
    cr_expect_eq(told, 3);
    cr_expect_eq(exj_registry_pinned(&r), 3);
    cr_expect_eq(exj_registry_sweep(&r, see, NULL), 0);
    files[0].state = EXJ_GEN_DRAINING;
    files[0].holds = 1;
    files[1].state = EXJ_GEN_DRAINING;
    files[1].uses = 1;
    files[2].state = EXJ_GEN_DRAINING;
    files[2].is_static = true;
    files[3].state = EXJ_GEN_DRAINING;
    files[3].loaded = false;
    cr_expect_eq(exj_registry_sweep(&r, NULL, NULL), 0);
    files[0].holds = 0;
    cr_expect_eq(exj_registry_sweep(&r, NULL, NULL), 1); /* nobody wants to know */
}

/* Closed, it is still there: somebody else has it mapped, too. */
Test(generation, what_stays_mapped_after_it_was_closed_is_pinned)
{
    static char libc[] = "libc.so.6";

    files[0].state = EXJ_GEN_DRAINING;
    files[0].library = dlopen(libc, RTLD_NOW);
    cr_assert_not_null(files[0].library);
    files[0].closable = true;
    files[0].copy = libc;
    for (int i = 1; i < 4; i++)
        files[i].state = EXJ_GEN_CURRENT;
    cr_expect_eq(exj_registry_sweep(&r, see, NULL), 1);
    cr_expect_eq(told, 1);
    cr_expect_null(files[0].library);
    cr_expect_eq(exj_registry_pinned(&r), 1);
}

/* ---- measures ------------------------------------------------------------------------------- */

Test(generation, times_are_told_within_an_eighth)
{
    static const int64_t times[] = { -5, 0, 3, 7, 8, 9, 1000, 123456789, 1000000000000,
                                     INT64_MAX };

    for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++) {
        exj_guest g = { 0 };
        exj_guest_stats s;

        exj_guest_look(&g, &s);
        cr_expect_eq(s.p50_ns, 0);
        exj_guest_count(&g, times[i], i % 2, i == 2);
        exj_guest_look(&g, &s);
        cr_expect_eq(s.calls, 1);
        cr_expect_eq(s.errors, i % 2);
        cr_expect_eq(s.crashes, i == 2);
        if (times[i] <= 0) {
            cr_expect_eq(s.p50_ns, 0);
        } else if (times[i] < (int64_t)1 << 41) {
            cr_expect_geq((int64_t)s.p50_ns, times[i]);
            cr_expect_leq((int64_t)s.p50_ns, times[i] + times[i] / 8);
        }
        cr_expect_eq(s.p99_ns, s.p50_ns);
    }
}

Test(generation, one_slow_call_in_a_hundred_is_not_the_ninety_ninth)
{
    exj_guest g = { 0 };
    exj_guest_stats s;

    for (int i = 0; i < 99; i++)
        exj_guest_count(&g, 5, false, false);
    exj_guest_count(&g, 1000000, false, false);
    exj_guest_look(&g, &s);
    cr_expect_eq(s.p50_ns, 5);
    cr_expect_eq(s.p99_ns, 5);
    exj_guest_count(&g, 1000000, false, false);
    exj_guest_look(&g, &s);
    cr_expect_gt(s.p99_ns, 999999);
}
