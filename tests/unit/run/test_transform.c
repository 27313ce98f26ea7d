/* jq in a process of its own: what it sees, what it may give, and what ends it. */
#include "tests/support/fault.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/run/transform.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define PROGRAM EXJ_BINARY_DIR "/bin/exellix-jobs-transform"

struct run {
    exj_transform_options o;
    exj_err err;
    exj_buf lines; /* "id record\n" of each visit */
    size_t visits, stop_after;
    unsigned asked;
};

static bool take(void *user, exj_slice id, exj_slice record, exj_slice line)
{
    struct run *r = user;

    cr_assert(line.n > id.n + record.n);
    if (r->lines.n < 4096) {
        exj_buf_add_slice(&r->lines, id);
        exj_buf_add_char(&r->lines, ' ');
        exj_buf_add_slice(&r->lines, record);
        exj_buf_add_char(&r->lines, '\n');
    }
    return ++r->visits != r->stop_after;
}

static struct run make(const char *jq)
{
    return (struct run){ .o = { .exe = PROGRAM, .program = exj_slice_of(jq), .visit = take } };
}

static int open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* Whatever happens: no process and no descriptor is left of it. */
static exj_code run_on(struct run *r, exj_transform_input input)
{
    static bool warm;
    int before, left;
    exj_code rc;

    r->o.user = r;
    before = open_fds();
    rc = exj_transform_run(&r->o, input, &r->err);
    left = open_fds();
    cr_assert(warm ? left == before : left <= before + 2, "%d descriptors, then %d", before, left);
    warm = true;
    cr_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a process is left");
    cr_assert_eq(rc, r->err.code);
    return rc;
}

static exj_code run(struct run *r, const char *input)
{
    return run_on(r, (exj_transform_input){ .fd = -1, .text = exj_slice_of(input) });
}

static void gives(const char *jq, const char *input, const char *lines)
{
    struct run r = make(jq);

    cr_assert_eq(run(&r, input), EXJ_OK, "%s: %s", jq, r.err.text);
    cr_assert_str_eq(r.lines.p ? r.lines.p : "", lines, "%s", jq);
    exj_buf_release(&r.lines);
}

static void refuses(struct run r, const char *input, exj_code code, const char *words)
{
    exj_nsec began = exj_clock_mono_ns();
    exj_code rc = run(&r, input);

    cr_assert_eq(rc, code, "%.*s: %s: %s", (int)(r.o.program.n < 80 ? r.o.program.n : 80),
                 r.o.program.p, exj_code_name(rc), r.err.text);
    cr_assert(strstr(r.err.text, words), "'%s' is not in '%s'", words, r.err.text);
    cr_assert_lt(exj_clock_mono_ns() - began, (exj_nsec)10 * 1000000000);
    exj_buf_release(&r.lines);
}

#define A "{\"id\":\"a\",\"record\":{\"n\":1}}"
#define B "{\"id\":\"b\",\"record\":{\"n\":2,\"list\":[1,{\"x\":null}],\"t\":\"\\u00fc\\\"\"}}"

Test(transform, a_program_runs_once_for_each_value)
{
    gives(".", A "\n" B "\n", "a {\"n\":1}\nb {\"n\":2,\"list\":[1,{\"x\":null}],\"t\":\"ü\\\"\"}\n");
    gives(".", " " A A, "a {\"n\":1}\na {\"n\":1}\n");
    gives("select(.record.n == 2) | .record |= {n}", A B, "b {\"n\":2}\n");
    gives(".record.n as $n | range(2) | {id: \"\\(.)-\\($n)\", record: {of: $n}}", A,
          "0-1 {\"of\":1}\n1-1 {\"of\":1}\n");
    gives("empty", A B, "");
    gives(".", "", "");
}

Test(transform, inputs_takes_the_values_that_follow)
{
    gives("[., inputs] | {id: \"all\", record: {sum: (map(.record.n) | add)}}", A B,
          "all {\"sum\":3}\n");
    gives("[., inputs] | group_by(.k) | .[] | {id: .[0].k, record: {n: length}}",
          "{\"k\":\"x\"}{\"k\":\"y\"}{\"k\":\"x\"}", "x {\"n\":2}\ny {\"n\":1}\n");
    refuses(make("input"), A, EXJ_INVALID, "`input` found no more values");
}

Test(transform, what_is_no_jq_is_refused_in_the_words_of_jq)
{
    refuses(make(".a |\n.b foo"), A, EXJ_INVALID,
            "not a jq program: syntax error, unexpected IDENT");
    refuses(make(".a |\n.b foo"), A, EXJ_INVALID, "line 2");
    refuses(make("nosuch"), A, EXJ_INVALID, "nosuch/0 is not defined at <top-level>, line 1");
    refuses(make("\"abc"), A, EXJ_INVALID, "line 1");
    refuses(make("import \"a\" as a; ."), A, EXJ_INVALID, "module not found: a");
    refuses(make("include \"/etc/passwd\"; ."), A, EXJ_INVALID, "module not found");
    refuses(make("import \"/etc/passwd\" as $a; ."), A, EXJ_INVALID, "module not found");
    refuses(make(""), A, EXJ_INVALID, "has 0 bytes; wanted 1 to 65536");
    refuses(make("\"\xff\""), A, EXJ_INVALID, "not UTF-8");
}

Test(transform, an_error_names_the_value_it_happened_at)
{
    refuses(make(".id | error"), A B, EXJ_INVALID, "failed at input value 1: a");
    refuses(make("if .id == \"b\" then .id.x else . end"), A B, EXJ_INVALID,
            "at input value 2: Cannot index string with string \"x\"");
    refuses(make("error({why: 1})"), A, EXJ_INVALID, "{\"why\":1}");
    refuses(make("\"no more\" | halt_error"), A, EXJ_INVALID, "no more");
    refuses(make("error(\"two\\nlines\")"), A, EXJ_INVALID, "two lines");
    gives("., halt", A B, "a {\"n\":1}\n");
}

Test(transform, a_program_that_loops_is_ended_at_its_time)
{
    static const char *const loops[] = {
        "def f: f; f", "last(range(1e15))", "[limit(1; repeat(empty))]"
    };

    for (size_t k = 0; k < sizeof loops / sizeof *loops; k++) {
        struct run r = make(loops[k]);

        r.o.seconds = 1;
        refuses(r, A, EXJ_FULL, "ran longer than 1 s");
    }
}

Test(transform, a_program_that_writes_for_ever_is_ended_too)
{
    struct run r = make("repeat(.)");

    r.o.output_bytes = 1 << 20;
    refuses(r, A, EXJ_FULL, "gave more than 1048576 bytes");
    r = make("repeat(.)");
    r.o.records = 1000;
    refuses(r, A, EXJ_FULL, "gave more than 1000 records");
}

Test(transform, a_program_that_eats_memory_is_ended_at_its_limit)
{
    static const char *const hogs[] = { "[range(1e9)]", "def f: 1 + f; f",
                                        "reduce range(1e9) as $i (\"x\"; . + .)",
                                        "[recurse({a: ., b: .})]" };

    if (SANITIZED)
        cr_skip_test("a sanitizer maps more than any limit");
    for (size_t k = 0; k < sizeof hogs / sizeof *hogs; k++) {
        struct run r = make(hogs[k]);

        r.o.memory_mb = 64;
        refuses(r, A, EXJ_FULL, "needed more than 64 MiB");
    }
}

Test(transform, values_nested_without_end_end_the_program_and_nothing_else)
{
    struct run r = make("reduce range(1e6) as $i (0; [.]) | {id: \"x\", record: {a: .}}");
    exj_code rc;

    r.o.seconds = 5;
    rc = run(&r, A);
    cr_assert(rc == EXJ_INVALID || rc == EXJ_FULL, "%s: %s", exj_code_name(rc), r.err.text);
    cr_assert_eq(r.visits, 0);
    exj_buf_release(&r.lines);
}

Test(transform, each_result_is_held_to_the_rules_of_records)
{
    refuses(make("., {id: \"x\", record: {input: {a: 1}}}"), A, EXJ_INVALID,
            "record 2 of the transform: nested `input` is refused");
    refuses(make("{id: \"x\", record: {raw: {a: 1}}}"), A, EXJ_INVALID, "`input.raw` wrapper");
    refuses(make(".record"), A, EXJ_INVALID, "record 1 of the transform: member \"n\"");
    refuses(make(".id"), A, EXJ_INVALID, "found \"a\"");
    refuses(make("{id: 7, record: {}}"), A, EXJ_INVALID, "member \"id\": 7; wanted id (string)");
    refuses(make("{id: \"x\"}"), A, EXJ_INVALID, "it has no record (object)");
    refuses(make("{record: {}}"), A, EXJ_INVALID, "it has no id (string)");
    refuses(make("{id: \"\", record: {}}"), A, EXJ_INVALID, "record id");
    refuses(make(". + {more: 1}"), A, EXJ_INVALID, "member \"more\": 1");
    refuses(make("{id: \"\\u0000\", record: {}}"), A, EXJ_INVALID, "record 1 of the transform");
    refuses(make("{id: \"x\", record: {a: (\"y\" * 1100000)}}"), A, EXJ_INVALID,
            "record 1 of the transform has more than 1048576 bytes");
}

Test(transform, numbers_that_jq_would_change_are_refused)
{
    gives(".", "{\"id\":\"a\",\"record\":{\"n\":9007199254740992,\"m\":-9007199254740992,\"f\":0.25}}",
          "a {\"n\":9007199254740992,\"m\":-9007199254740992,\"f\":0.25}\n");
    gives(".", "{\"id\":\"90071992547409931234\",\"record\":{\"t\":\"\\\"9007199254740993\"}}",
          "90071992547409931234 {\"t\":\"\\\"9007199254740993\"}\n");
    refuses(make("."), "{\"id\":\"a\",\"record\":{\"n\":9007199254740993}}", EXJ_INVALID,
            "the whole number 9007199254740993 would not stay what it is");
    refuses(make("empty"), "[-123456789012345678901234567890]", EXJ_INVALID, "send it as a string");
}

Test(transform, input_that_is_no_json_is_refused)
{
    refuses(make("."), A "{\"id\":", EXJ_INVALID, "is not JSON after value 1");
    refuses(make("empty"), A "\nnonsense\n", EXJ_INVALID, "is not JSON after value 1");
}

Test(transform, a_program_sees_nothing_of_the_worker)
{
    setenv("EXELLIX_PLUGIN_SECRET", "s3cret", 1);
    gives("{id: \"env\", record: {n: (env | length), m: ($ENV | length)}}", A,
          "env {\"n\":0,\"m\":0}\n");
    gives("stderr | debug | .", A, "a {\"n\":1}\n");
    gives("{id: \"f\", record: {f: input_filename, s: get_search_list}}", A,
          "f {\"f\":null,\"s\":[]}\n");
    gives("{id: \"t\", record: {t: (0 | localtime | mktime)}}", A, "t {\"t\":0}\n");
}

static bool after_three(void *user)
{
    struct run *r = user;

    return ++r->asked > 3;
}

Test(transform, it_stops_when_nobody_wants_it_any_more)
{
    struct run r = make("def f: f; f");

    r.o.cancelled = after_three;
    refuses(r, A, EXJ_CANCELLED, "stopped");
    r = make("repeat(.)");
    r.stop_after = 10;
    refuses(r, A, EXJ_CANCELLED, "stopped");
}

Test(transform, what_cannot_be_started_says_so)
{
    struct run r = make(".");

    r.o.exe = "/nowhere/exellix-jobs-transform";
    refuses(r, A, EXJ_IO, "'/nowhere/exellix-jobs-transform': No such file or directory (it is "
                          "installed beside exellix-jobs)");
    r = make(".");
    r.o.exe = NULL;
    refuses(r, A, EXJ_UNSUPPORTED, "does not know where exellix-jobs-transform is");
    r = make(".");
    r.o.exe = "/bin/false";
    refuses(r, A, EXJ_IO, "'/bin/false' ended with status 1");
    r = make(".");
    r.o.memory_mb = 4096;
    refuses(r, A, EXJ_INVALID, "4096 MiB; wanted 32 to 1024");
    r = make(".");
    r.o.seconds = 3601;
    refuses(r, A, EXJ_INVALID, "3601 s; wanted 1 to 3600");
}

Test(transform, a_hundred_thousand_records_stream_through_a_file)
{
    struct run r = make(".");
    int fd = memfd_create("input", MFD_CLOEXEC);
    FILE *f = fdopen(dup(fd), "w");

    cr_assert(f);
    for (int k = 0; k < 100000; k++)
        fprintf(f, "{\"id\":\"r-%d\",\"record\":{\"n\":%d,\"text\":\"some text of it\"}}\n", k, k);
    fclose(f);
    lseek(fd, 0, SEEK_SET);
    cr_assert_eq(run_on(&r, (exj_transform_input){ .fd = fd }), EXJ_OK, "%s", r.err.text);
    cr_assert_eq(r.visits, 100000);
    close(fd);
    exj_buf_release(&r.lines);
}

static bool only_count(void *user, exj_slice id, exj_slice record, exj_slice line)
{
    struct run *r = user;

    (void)id, (void)record, (void)line;
    r->visits++;
    return true;
}

Test(transform, every_allocation_may_fail)
{
    for (long n = 1;; n++) {
        struct run r = make(".");
        exj_code rc;

        cr_assert_lt(n, 100);
        r.o.visit = only_count;
        exj_fault_arm(n);
        rc = run(&r, A B);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK, "%s", r.err.text);
            cr_assert_eq(r.visits, 2);
            cr_assert_gt(n, 2);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM, "allocation %ld: %s: %s", n, exj_code_name(rc), r.err.text);
    }
}
