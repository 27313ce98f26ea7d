/* Experiments 1 to 9 of experiments.h: files that change, and files that are not whole. */
#include <dirent.h>

#include "tests/plugins/experiments.h"

TestSuite(experiments);

/* ---- names and inodes (1 to 5) -------------------------------------------------------------- */

Test(experiments, a_file_replaced_by_rename_is_a_fresh_candidate)
{
    struct room r = room_open();
    exj_guest *old, *fresh, *found;
    exj_instance *i, *j, *k;

    build(&r, "p", "", COUNTING("old"));
    old = guest_of(&r, "p");
    i = alive(old);
    answers(i, "old 1");
    replace(&r, "p", "", COUNTING("new"));
    found = guest_of(&r, "p");
    cr_assert_eq(found, old, "loaded stays loaded until a candidate is published");
    exj_guest_release(found);
    fresh = candidate_of(old);
    j = alive(fresh);
    answers(j, "new 1");
    answers(i, "old 2");
    answers(j, "new 2");
    succeed(old, fresh);
    found = guest_of(&r, "p");
    cr_assert_eq(found, fresh);
    k = alive(found);
    answers(k, "new 3");
    answers(i, "old 3");
    exj_instance_free(i);
    cr_assert_eq(exj_registry_sweep(r.registry, NULL, NULL), 1);
    answers(k, "new 4");
    exj_guest_release(found);
    exj_guest_release(fresh);
    room_close(&r);
}

Test(experiments, links_to_a_loaded_file_share_nothing)
{
    static const char *const links[] = { "ln", "ln -s", "cp" };
    struct room r = room_open();
    exj_instance *i;

    build(&r, "p", "", COUNTING("p"));
    i = instance_of(&r, "p", EXJ_KIND_GRAPH_ENGINE);
    answers(i, "p 1");
    for (unsigned k = 0; k < 3; k++) {
        struct room other = room_open();
        exj_instance *j;

        shell("%s '%s/p.so' '%s/q.so'", links[k], r.dir, other.dir);
        j = instance_of(&other, "q", EXJ_KIND_GRAPH_ENGINE);
        answers(j, "p 1");
        answers(j, "p 2");
        room_close(&other);
    }
    answers(i, "p 2");
    /* in one folder two names of one content are one plugin, not two halves of one */
    shell("ln '%s/p.so' '%s/same.so'", r.dir, r.dir);
    answers(instance_of(&r, "same", EXJ_KIND_GRAPH_ENGINE), "p 3");
    answers(i, "p 4");
    room_close(&r);
}

Test(experiments, content_that_comes_back_is_fresh)
{
    struct room r = room_open();
    exj_guest *a, *b, *again;
    exj_guest_info first, third;
    exj_instance *i;

    build(&r, "p", "", COUNTING("a"));
    shell("cp '%s/p.so' '%s/kept'", r.dir, r.dir);
    a = guest_of(&r, "p");
    i = alive(a);
    answers(i, "a 1");
    answers(i, "a 2");
    exj_instance_free(i);
    exj_guest_describe(a, &first);
    {
        uint64_t generation = first.generation;

        replace(&r, "p", "", COUNTING("b"));
        b = candidate_of(a);
        succeed(a, b);
        cr_assert_eq(exj_registry_sweep(r.registry, NULL, NULL), 1);
        cr_assert_eq(exj_registry_pinned(r.registry), 0);
        shell("mv '%s/kept' '%s/p.so'", r.dir, r.dir);
        again = candidate_of(b);
        exj_guest_describe(again, &third);
        cr_assert_gt(third.generation, generation);
    }
    i = alive(again);
    answers(i, "a 1");
    exj_guest_release(b);
    exj_guest_release(again);
    room_close(&r);
}

/* The names of all private copies there were, one a line. */
static void note_copies(const char *folder, char *seen, size_t cap, unsigned *ret_new)
{
    DIR *d = opendir(folder);

    cr_assert_not_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char line[300];

        if (!strstr(e->d_name, ".so"))
            continue;
        snprintf(line, sizeof line, "\n%s\n", e->d_name);
        if (strstr(seen, line))
            continue;
        cr_assert_lt(strlen(seen) + strlen(line), cap);
        strcat(seen, line);
        ++*ret_new;
    }
    closedir(d);
}

Test(experiments, copies_never_use_a_name_twice)
{
    const unsigned rounds = 30;
    struct room r = { 0 };
    char private_dir[128], seen[16384] = "\n";
    exj_guest *g, *next;
    exj_err err = { 0 };
    unsigned names = 0;

    strcpy(r.dir, "/tmp/exj-test-XXXXXX");
    cr_assert_not_null(mkdtemp(r.dir));
    snprintf(private_dir, sizeof private_dir, "%s/copies", r.dir);
    {
        const char *dirs[] = { r.dir, NULL };

        cr_assert_eq(exj_registry_new(dirs, private_dir, &r.registry, &err), EXJ_OK, "%s", err.text);
    }
    build(&r, "one", "", COUNTING("one"));
    build(&r, "two", "", COUNTING("two"));
    shell("cd '%s' && mkdir kept && mv one.so two.so kept && cp kept/one.so p.so", r.dir);
    g = guest_of(&r, "p");
    note_copies(private_dir, seen, sizeof seen, &names);
    for (unsigned k = 0; k < rounds; k++) { /* the same two contents, over and over */
        exj_instance *i;

        shell("cd '%s' && cp kept/%s.so fresh && mv fresh p.so", r.dir, k % 2 ? "one" : "two");
        next = candidate_of(g);
        i = alive(next);
        answers(i, k % 2 ? "one 1" : "two 1");
        exj_instance_free(i);
        note_copies(private_dir, seen, sizeof seen, &names);
        cr_assert_eq(names, k + 2, "a name was used again");
        succeed(g, next);
        cr_assert_eq(exj_registry_sweep(r.registry, NULL, NULL), 1);
        g = next;
    }
    exj_guest_release(g);
    room_close(&r);
}

Test(experiments, a_name_that_was_unlinked_gives_the_new_file)
{
    struct room r = room_open();
    exj_guest *old, *fresh;
    exj_instance *i, *j;
    exj_err err = { 0 };

    build(&r, "p", "", COUNTING("old"));
    old = guest_of(&r, "p");
    i = alive(old);
    shell("rm '%s/p.so'", r.dir);
    answers(i, "old 1");
    cr_assert_neq(exj_guest_candidate(old, NULL, EXJ_LANE_DEFAULT, &fresh, &err), EXJ_OK);
    says(err.text, "p.so");
    build(&r, "p", "", COUNTING("new"));
    fresh = candidate_of(old);
    j = alive(fresh);
    answers(j, "new 1");
    answers(i, "old 2");
    exj_guest_release(old);
    exj_guest_release(fresh);
    room_close(&r);
}

/* ---- a live file is changed in place (6) ------------------------------------------------------ */

struct caller {
    exj_instance *i;
    atomic_bool stop;
    atomic_uint calls;
};

static void *call_on(void *user)
{
    struct caller *c = user;
    exj_call_slot *s = slot_of(4096);

    while (!atomic_load(&c->stop)) {
        cr_assert_eq(run_once(c->i, s, NULL).result, EXJ_R_OK);
        atomic_fetch_add(&c->calls, 1);
    }
    exj_call_slot_free(s);
    return NULL;
}

/* Until the caller has run some more rows. */
static void let_it_run(struct caller *c)
{
    unsigned from = atomic_load(&c->calls);
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)20 * 1000000000;

    while (atomic_load(&c->calls) < from + 50) {
        cr_assert_lt(exj_clock_mono_ns(), until, "no row runs");
        poll(NULL, 0, 1);
    }
}

Test(experiments, a_live_file_cut_or_overwritten_kills_nobody)
{
    static const char *const harm[] = {
        "truncate -s 0 p.so",
        "truncate -s 4096 kept/cut.so; cat kept/cut.so > p.so",
        "cat kept/other.so > p.so",
        "cp -f kept/other.so p.so",
        "dd if=/dev/zero of=p.so bs=4096 count=8 conv=notrunc status=none",
        "cp -f kept/mine.so p.so; strip p.so",
        "cp --remove-destination kept/other.so p.so",
        "install kept/mine.so p.so",
        "rm p.so; mkdir p.so; rmdir p.so",
    };
    struct room r = room_open();
    struct caller c = { 0 };
    pthread_t id;

    build(&r, "p", "", COUNTING("p"));
    build(&r, "other", "", COUNTING("other"));
    shell("cd '%s' && mkdir kept && mv other.so kept && cp p.so kept/mine.so && cp p.so kept/cut.so",
          r.dir);
    c.i = instance_of(&r, "p", EXJ_KIND_GRAPH_ENGINE);
    cr_assert_eq(pthread_create(&id, NULL, call_on, &c), 0);
    for (size_t k = 0; k < sizeof harm / sizeof *harm; k++) {
        let_it_run(&c);
        shell("cd '%s' && %s", r.dir, harm[k]);
        let_it_run(&c); /* a signal would end this test */
    }
    atomic_store(&c.stop, true);
    pthread_join(id, NULL);
    room_close(&r);
}

/* ---- files that are not whole (7, 8) ---------------------------------------------------------- */

#define CUTS 439

/* `bytes` with the tail from `at` gone, or zero. */
static void spoil(const char *path, const char *bytes, size_t whole, size_t at, bool zeros)
{
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f);
    cr_assert_eq(fwrite(bytes, 1, at, f), at);
    for (size_t k = at; zeros && k < whole; k++)
        fputc(0, f);
    cr_assert_eq(fclose(f), 0);
}

static void cut_everywhere(bool zeros)
{
    struct room r = room_open();
    char path[128], *bytes;
    exj_guest *g = NULL;
    size_t whole, refused = 0;
    exj_err err;
    exj_probe p;
    FILE *f;

    /* 400 KB of data and of code that refers to it, as a plugin that is not a toy */
    build(&r, "p", "-O0",
          COUNTING_WITH("0", "static const char table[200000] = \"x\"; static char writable[200000] = \"y\";"
                        "const char *tables(int k) { return k ? table : writable; }",
                        "tables(1)"));
    snprintf(path, sizeof path, "%s/p.so", r.dir);
    f = fopen(path, "r");
    cr_assert_not_null(f);
    fseek(f, 0, SEEK_END);
    whole = (size_t)ftell(f);
    bytes = malloc(whole);
    rewind(f);
    cr_assert(bytes && fread(bytes, 1, whole, f) == whole);
    fclose(f);
    cr_assert_gt(whole, 400000);
    cr_assert_eq(exj_probe_file(path, &p, &err), EXJ_OK);
    for (unsigned k = 0; k < CUTS; k++) {
        size_t at = whole * k / CUTS;

        spoil(path, bytes, whole, at, zeros);
        err = (exj_err){ 0 };
        refused += exj_probe_file(path, &p, &err) == EXJ_INVALID;
        says(err.text, "p.so");
    }
    cr_assert_eq(refused, CUTS, "%zu of %d were refused", refused, CUTS);
    /* the same through the door, where dlopen would follow */
    for (unsigned k = 1; k < CUTS; k += 17) {
        spoil(path, bytes, whole, whole * k / CUTS, zeros);
        err = refusal(&r, "p");
        says(err.text, "p.so");
    }
    spoil(path, bytes, whole, whole, false);
    err = (exj_err){ 0 };
    cr_assert_eq(exj_registry_find(r.registry, "p", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK, "%s",
                 err.text);
    /* and beside a living generation */
    for (unsigned k = 1; k < CUTS; k += 17) {
        exj_guest *fresh = NULL;

        spoil(path, bytes, whole, whole * k / CUTS, zeros);
        err = (exj_err){ 0 };
        cr_assert_eq(exj_guest_candidate(g, NULL, EXJ_LANE_DEFAULT, &fresh, &err), EXJ_INVALID);
    }
    answers(alive(g), "x 1");
    exj_guest_release(g);
    free(bytes);
    room_close(&r);
}

Test(experiments, a_partial_file_is_refused_at_every_cut)
{
    cut_everywhere(false);
}

Test(experiments, a_file_with_a_tail_of_zeros_is_refused_at_every_cut)
{
    cut_everywhere(true);
}

/* ---- before any of its code runs (9) ----------------------------------------------------------- */

#define TRAP                                                                                \
    "__attribute__((constructor)) static void trap(void) { __builtin_trap(); }"             \
    "static void (*resolve(void))(void) { __builtin_trap(); }"                              \
    "__attribute__((ifunc(\"resolve\"))) void chosen(void);"

static bool visit_error(void *user, const exj_guest_info *i)
{
    if (i->error)
        snprintf(user, 200, "%s", i->error);
    return true;
}

Test(experiments, a_trapping_constructor_costs_us_nothing)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    struct room *r = &h->r;
    char listed[200] = "";
    exj_guest *g = NULL;
    exj_err err = { 0 };
    exj_probe p;
    char path[128];

    build(r, "p", "", COUNTING_WITH("0", TRAP, "\"trap\""));
    snprintf(path, sizeof path, "%s/p.so", r->dir);
    cr_assert_eq(exj_probe_file(path, &p, &err), EXJ_OK, "%s", err.text); /* the note was read */
    cr_assert_eq(p.abi_major, EXJ_ABI_MAJOR);
    cr_assert_eq(exj_registry_each(r->registry, false, visit_error, listed, &err), EXJ_OK);
    cr_assert_str_eq(listed, "", "looking is not loading");
    /* on the host lane it costs a throw-away process */
    cr_assert_eq(exj_registry_find(r->registry, "p", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_INVALID);
    says(err.text, "p.so");
    says(err.text, "SIGILL");
    /* one that is refused by its note is not even loaded in process: we would be dead */
    replace(r, "p", "", "#include \"exellix/plugin.h\"\n#undef EXJ_ABI_MAJOR\n"
            "#define EXJ_ABI_MAJOR 9u\n" COUNTING_WITH("0", TRAP, "\"trap\""));
    err = (exj_err){ 0 };
    cr_assert_eq(exj_registry_find_lane(r->registry, "p", EXJ_KIND_GRAPH_ENGINE,
                                        EXJ_LANE_IN_PROCESS, &g, &err), EXJ_INVALID);
    says(err.text, "major");
    house_close(h);
}
