/* tests/plugins/experiments.h - what test_experiments*.c share.
 *
 * The loader of Linux was asked 26 questions before the plugin ABI was designed. Each is a
 * test of OUR code now: the same result, or a better one. Where a row only measures, a program
 * of tests/bench prints it.
 *
 *  1 same path, file replaced by rename, old one open   a_file_replaced_by_rename_is_a_fresh_candidate
 *  2 hard link, symlink to a loaded file                links_to_a_loaded_file_share_nothing
 *  3 copy under a unique name                           content_that_comes_back_is_fresh
 *  4 a name (or /proc/self/fd/N) used again             copies_never_use_a_name_twice
 *  5 unlinked, then the same name again                 a_name_that_was_unlinked_gives_the_new_file
 *  6 live file cut or overwritten in place              a_live_file_cut_or_overwritten_kills_nobody
 *  7 loading a partial copy                             a_partial_file_is_refused_at_every_cut
 *  8 the probe with pread only                          a_partial_file_is_refused_at_every_cut
 *  9 note before dlopen, trapping constructor           a_trapping_constructor_costs_us_nothing
 * 10 what survives dlclose                              what_survives_is_pinned_and_counted
 * 11 threads, keys, handlers at dlclose                 code_that_may_be_entered_later_stays
 * 12 a namespace for each generation                    twenty_generations_live_at_once
 * 13 static TLS of kept generations                     static_tls_ends_in_an_error_that_names_it
 * 14 symbol collision                                   helpers_of_the_same_name_do_not_meet
 * 15 undefined symbol                                   an_undefined_symbol_is_refused_at_load
 * 16 constructor joins a thread that dlopens            a_constructor_that_waits_for_the_loader_is_bounded
 * 17 siglongjmp out of a crash                          a_crash_inside_our_log_leaves_no_lock
 * 18 cost of a reload                                   measured: bench_reload
 * 19 reload under load                                  tests/reload; measured: bench_reload
 * 20 never unmapping                                    measured: bench_reload
 * 21 cost of a call                                     measured: bench_lanes
 * 22 round trip out of process                          measured: bench_lanes
 * 23 start of a host, a crash in it                     measured: bench_lanes, bench_crash
 * 24 noexec mount                                       a_folder_without_exec_is_named
 * 25 sizeof as the size field                           a_size_ends_at_the_last_member
 * 26 lint from the file alone                           lint_sees_all_of_it_in_the_file
 */
#ifndef EXJ_TESTS_PLUGINS_EXPERIMENTS_H
#define EXJ_TESTS_PLUGINS_EXPERIMENTS_H

#include "tests/plugins/house.h"

/* A plugin "test.guest" that answers "WORD N": N counts its calls since it was loaded. */
#define COUNTING_WITH(flags, more, word)                                                    \
    ENGINE(flags, "#include <stdio.h>\n" more "\nstatic int count;\n",                      \
           "char t[64]; snprintf(t, sizeof t, \"%s %d\", " word ", ++count);"               \
           " return h->emit(h->ctx, c, exj_text(t));")
#define COUNTING(word) COUNTING_WITH("0", "", "\"" word "\"")

__attribute__((unused)) static exj_guest *guest_of(const struct room *r, const char *name)
{
    exj_guest *g = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_find(r->registry, name, EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK,
                 "%s", err.text);
    return g;
}

/* The content that the file of `g` has now, held. */
__attribute__((unused)) static exj_guest *candidate_of(exj_guest *g)
{
    exj_guest *fresh = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_guest_candidate(g, NULL, EXJ_LANE_DEFAULT, &fresh, &err), EXJ_OK, "%s",
                 err.text);
    return fresh;
}

__attribute__((unused)) static exj_instance *alive(exj_guest *g)
{
    exj_instance *i = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_OK, "%s", err.text);
    return i;
}

/* One call in process; its answer must be `wanted`. */
__attribute__((unused)) static void answers(exj_instance *i, const char *wanted)
{
    exj_call_slot *s = slot_of(4096);
    exj_call_end end = run_once(i, s, NULL);
    char *answer;

    cr_assert_eq(end.result, EXJ_R_OK, "result %d", end.result);
    answer = exj_slice_dup(end.answer);
    cr_assert_str_eq(answer, wanted);
    free(answer);
    exj_call_slot_free(s);
}

/* Build `source` as NAME.so beside its place and move it there: a new inode. */
__attribute__((unused)) static void replace(const struct room *r, const char *name,
                                            const char *flags, const char *source)
{
    build(r, "fresh", flags, source);
    shell("mv '%s/fresh.so' '%s/%s.so'", r->dir, r->dir, name);
}

/* `fresh` is current from now on, and nobody of ours holds `old` any more. */
__attribute__((unused)) static void succeed(exj_guest *old, exj_guest *fresh)
{
    exj_guest_set_state(fresh, EXJ_GEN_CURRENT);
    exj_guest_release(old);
}

#endif /* EXJ_TESTS_PLUGINS_EXPERIMENTS_H */
