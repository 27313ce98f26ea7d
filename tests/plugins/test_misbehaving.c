/* Twelve plugins that no host deserves: each is refused before it runs, or contained, with
 * a message that names it and the cause. */
#include "tests/plugins/guests.h"

Test(misbehaving, wrong_major_is_refused_before_loading)
{
    struct room r = room_open();
    exj_err err;

    /* the constructor would kill the test: it must not run */
    build(&r, "major", "-DEXJ_TEST",
          "#include <stdlib.h>\n#include \"exellix/plugin.h\"\n#undef EXJ_ABI_MAJOR\n"
          "#define EXJ_ABI_MAJOR 2u\n"
          "__attribute__((constructor)) static void boom(void) { abort(); }\n"
          "static const exj_bundle b = { 0 };\n"
          "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n");
    err = refusal(&r, "major");
    cr_assert_eq(err.code, EXJ_INVALID);
    says(err.text, "major.so");
    says(err.text, "ABI major: wanted 1, found 2");
    room_close(&r);
}

Test(misbehaving, newer_minor_is_refused_before_loading)
{
    struct room r = room_open();
    exj_err err;
    char wanted[64];

    build(&r, "minor", "",
          "#include <stdlib.h>\n#include \"exellix/plugin.h\"\n#undef EXJ_ABI_MINOR\n"
          "#define EXJ_ABI_MINOR 99u\n"
          "__attribute__((constructor)) static void boom(void) { abort(); }\n"
          "static const exj_bundle b = { 0 };\n"
          "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n");
    err = refusal(&r, "minor");
    says(err.text, "minor.so");
    snprintf(wanted, sizeof wanted, "wanted at most 1.%u, found 1.99", EXJ_ABI_MINOR);
    says(err.text, wanted);
    says(err.text, "newer exellix-jobs");
    room_close(&r);
}

/* The stub cut or zeroed at `at` must be refused and never raise a signal. */
static void cut_stub(const struct room *r, long at, long whole, bool zeros)
{
    exj_probe p;
    exj_err err = { 0 };
    char path[128];

    snprintf(path, sizeof path, "%s/cut.so", r->dir);
    {
        FILE *from = fopen(STUB_SO, "rb"), *to = fopen(path, "wb");
        char *bytes = calloc(1, (size_t)whole);

        cr_assert(from && to && bytes);
        cr_assert_eq(fread(bytes, 1, (size_t)whole, from), (size_t)whole);
        if (zeros)
            memset(bytes + at, 0, (size_t)(whole - at));
        fwrite(bytes, 1, (size_t)(zeros ? whole : at), to);
        fclose(from);
        fclose(to);
        free(bytes);
    }
    cr_assert_eq(exj_probe_file(path, &p, &err), EXJ_INVALID, "%s at %ld of %ld was accepted",
                 zeros ? "zeros" : "cut", at, whole);
    says(err.text, "cut.so");
}

static long size_of_stub(void)
{
    struct stat st;

    cr_assert_eq(stat(STUB_SO, &st), 0);
    return (long)st.st_size;
}

Test(misbehaving, truncated_file_is_refused_at_every_cut)
{
    struct room r = room_open();
    long whole = size_of_stub();

    for (long at = 0; at < whole; at += at < 4096 ? 61 : 509)
        cut_stub(&r, at, whole, false);
    for (long at = whole - 64; at < whole; at++)
        cut_stub(&r, at, whole, false);
    room_close(&r);
}

Test(misbehaving, zero_tail_is_refused_at_every_cut)
{
    struct room r = room_open();
    long whole = size_of_stub();

    for (long at = 0; at < whole - 64; at += at < 4096 ? 61 : 509)
        cut_stub(&r, at, whole, true);
    room_close(&r);
}

Test(misbehaving, truncated_and_zeroed_files_are_refused_by_the_registry_too)
{
    struct room r = room_open();
    exj_err err;

    shell("head -c 9000 '%s' > '%s/short.so'", STUB_SO, r.dir);
    err = refusal(&r, "short");
    says(err.text, "short.so");
    says(err.text, "cut short");
    shell("head -c 9000 '%s' > '%s/zeros.so' && truncate -s %ld '%s/zeros.so'", STUB_SO, r.dir,
          size_of_stub(), r.dir);
    err = refusal(&r, "zeros");
    says(err.text, "zeros.so");
    says(err.text, "zeros");
    room_close(&r);
}

Test(misbehaving, file_without_the_symbol_is_refused)
{
    struct room r = room_open();
    exj_err err;

    build(&r, "nosymbol", "-fvisibility=hidden",
          "#define exellix_plugin_v1 some_other_name\n#include \"exellix/plugin.h\"\n"
          "static const exj_bundle b = { 0 };\n"
          "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n");
    err = refusal(&r, "nosymbol");
    says(err.text, "nosymbol.so");
    says(err.text, "exports no exellix_plugin_v1");
    room_close(&r);
}

Test(misbehaving, file_without_a_note_is_refused)
{
    struct room r = room_open();
    exj_err err;

    build(&r, "nonote", "", "int exellix_plugin_v1(void); int exellix_plugin_v1(void) { return 0; }\n");
    err = refusal(&r, "nonote");
    says(err.text, "nonote.so");
    says(err.text, "no exellix note");
    room_close(&r);
}

Test(misbehaving, null_member_is_refused_by_name)
{
    struct room r = room_open();
    exj_err err;

    build(&r, "null", "", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0", "", "return EXJ_R_OK;",
                                        ".execute = NULL"));
    err = refusal(&r, "null");
    says(err.text, "null.so");
    says(err.text, "test.guest 9.8.7");
    says(err.text, "execute is NULL");
    room_close(&r);
}

Test(misbehaving, texts_that_are_not_utf8_are_refused_or_cleaned)
{
    struct room r = room_open();
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;
    exj_err err;

    build(&r, "badid", "", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0", "",
                                         "return EXJ_R_OK;", ".id = \"caf\\xe9\""));
    err = refusal(&r, "badid");
    says(err.text, "badid.so");
    says(err.text, "caf?");
    says(err.text, "0xe9");
    build(&r, "badversion", "", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0", "",
                                              "return EXJ_R_OK;", ".version = \"1.\\xff\""));
    err = refusal(&r, "badversion");
    says(err.text, "test.guest");
    says(err.text, "version '1.?' is not UTF-8");

    build(&r, "badtext", "", ENGINE("0", "",
          "h->log(h->ctx, c, 1, exj_text(\"log \\xff\\xfe\"));"
          "h->error(h->ctx, c, EXJ_R_FAILED, exj_text(\"Code\\xc0\"), exj_text(\"text \\xff end\"));"
          "h->error(h->ctx, c, EXJ_R_FAILED, exj_text(\"Code\\xc0\"), exj_text(\"t\\xe4st \\x01 e\\xcc\\x81\"));"
          "return EXJ_R_FAILED;"));
    i = instance_of(&r, "badtext", EXJ_KIND_GRAPH_ENGINE);
    s = slot_of(1024);
    end = run_once(i, s, NULL);
    cr_assert_eq(end.result, EXJ_R_FAILED);
    cr_assert(exj_slice_is(end.error_code, "Code?"));
    cr_assert(exj_slice_is(end.error_text, "t?st   e\xcc\x81"), "%.*s", (int)end.error_text.n,
              end.error_text.p);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, emit_after_return_touches_nothing)
{
    struct room r = room_open();
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;
    uint64_t before;

    build(&r, "late", "", ENGINE("0", "static exj_call old;",
          "if (old && h->emit(h->ctx, old, exj_text(\"stale\")) != EXJ_R_INTERNAL) return EXJ_R_FAILED;"
          "if (old && h->cancelled(h->ctx, old) == 0) return EXJ_R_FAILED;"
          "old = c; return " EMIT_OK ";"));
    i = instance_of(&r, "late", EXJ_KIND_GRAPH_ENGINE);
    s = slot_of(1024);
    cr_assert_eq(run_once(i, s, NULL).result, EXJ_R_OK);
    before = exj_plugin_misdeeds();
    end = run_once(i, s, NULL);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer, "{\"status\":\"completed\"}"));
    cr_assert_eq(end.emits, 1);
    cr_assert_eq(exj_plugin_misdeeds(), before + 2);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, double_completion_is_contained)
{
    struct room r = room_open();
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;
    uint64_t before = exj_plugin_misdeeds();

    /* completes and returns OK as well */
    build(&r, "twice", "", ENGINE("EXJ_FLAG_ASYNC", "",
          EMIT_OK "; h->complete(h->ctx, c, EXJ_R_OK); return EXJ_R_OK;"));
    i = instance_of(&r, "twice", EXJ_KIND_GRAPH_ENGINE);
    s = slot_of(1024);
    end = run_once(i, s, NULL);
    cr_assert_eq(end.result, EXJ_R_INTERNAL);
    cr_assert(exj_slice_is(end.error_code, "DoubleCompletion"));
    slice_says(end.error_text, "test.guest 9.8.7");
    cr_assert_gt(exj_plugin_misdeeds(), before);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, second_complete_is_refused_and_the_first_stands)
{
    struct room r = room_open();
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;
    uint64_t before = exj_plugin_misdeeds();

    build(&r, "twice2", "", ENGINE("EXJ_FLAG_ASYNC", "",
          EMIT_OK "; if (h->complete(h->ctx, c, EXJ_R_OK) != EXJ_R_OK) abort();"
          "if (h->complete(h->ctx, c, EXJ_R_FAILED) != EXJ_R_INTERNAL) abort();"
          "return EXJ_R_PENDING;"));
    i = instance_of(&r, "twice2", EXJ_KIND_GRAPH_ENGINE);
    s = slot_of(1024);
    end = run_once(i, s, NULL);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert_eq(exj_plugin_misdeeds(), before + 1);
    exj_call_slot_free(s);
    room_close(&r);
}

/* What is in an answer is judged by the caller; this room hands it over unchanged. */
Test(misbehaving, answer_that_breaks_the_schema_reaches_the_judge_whole)
{
    struct room r = room_open();
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;

    build(&r, "schema", "", ENGINE("0", "",
          "return h->emit(h->ctx, c, exj_text(\"{\\\"status\\\":\\\"splendid\\\"}\"));"));
    i = instance_of(&r, "schema", EXJ_KIND_GRAPH_ENGINE);
    s = slot_of(1024);
    end = run_once(i, s, NULL);
    cr_assert(exj_slice_is(end.answer, "{\"status\":\"splendid\"}"));
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, failing_create_names_plugin_version_and_cause)
{
    struct room r = room_open();
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_err err = { 0 };

    build(&r, "create", "", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0",
          "static exj_result no(const exj_host *h, exj_str config, void **i) { (void)config; (void)i;"
          "h->error(h->ctx, 0, EXJ_R_INPUT, exj_text(\"NoModel\"), exj_text(\"model.bin \\xff is missing\"));"
          "return EXJ_R_INPUT; }", "return EXJ_R_OK;", ".create = no"));
    cr_assert_eq(exj_registry_find(r.registry, "create", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK);
    cr_assert_eq(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_INVALID);
    cr_assert_null(i);
    says(err.text, "plugin test.guest 9.8.7: create answered INPUT: NoModel: model.bin ? is missing");
    room_close(&r);
}

Test(misbehaving, answer_of_64_mib_is_refused_and_costs_no_memory)
{
    struct room r = room_open();
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;

    build(&r, "huge", "", ENGINE("0", "",
          "size_t n = 64u << 20; char *t = calloc(1, n); exj_str s; exj_result e;"
          "memset(t, ' ', n); s.p = t; s.n = n; e = h->emit(h->ctx, c, s); free(t);"
          "return e == EXJ_R_INPUT ? EXJ_R_OK : EXJ_R_FAILED;"));
    i = instance_of(&r, "huge", EXJ_KIND_GRAPH_ENGINE);
    s = slot_of(8u << 20);
    end = run_once(i, s, NULL);
    cr_assert_eq(end.result, EXJ_R_FAILED);
    cr_assert(exj_slice_is(end.error_code, "AnswerTooLarge"));
    slice_says(end.error_text, "plugin test.guest 9.8.7");
    cr_assert_eq(end.answer.n, 0);
    exj_call_slot_free(s);
    room_close(&r);
}

/* ---- and some more -------------------------------------------------------------------- */

Test(misbehaving, pending_without_the_flag_is_internal)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(1024);
    exj_call_end end;

    build(&r, "pending", "", ENGINE("0", "", "return EXJ_R_PENDING;"));
    end = run_once(instance_of(&r, "pending", EXJ_KIND_GRAPH_ENGINE), s, NULL);
    cr_assert_eq(end.result, EXJ_R_INTERNAL);
    cr_assert(exj_slice_is(end.error_code, "PendingNotFlagged"));
    slice_says(end.error_text, "test.guest 9.8.7");
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, engine_that_answers_nothing_or_nonsense_is_internal)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(1024);
    exj_call_end end;

    build(&r, "silent", "", ENGINE("0", "", "return a->attempt == 1 ? EXJ_R_OK : 77;"));
    end = run_once(instance_of(&r, "silent", EXJ_KIND_GRAPH_ENGINE), s, NULL);
    cr_assert_eq(end.result, EXJ_R_INTERNAL);
    cr_assert(exj_slice_is(end.error_code, "NoAnswer"));
    build(&r, "odd", "", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0", "", "return 77;",
                                       ".id = \"test.odd\""));
    end = run_once(instance_of(&r, "odd", EXJ_KIND_GRAPH_ENGINE), s, NULL);
    cr_assert_eq(end.result, EXJ_R_INTERNAL);
    cr_assert(exj_slice_is(end.error_code, "UnknownResult"));
    slice_says(end.error_text, "77");
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, second_answer_is_refused_and_the_first_stands)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(1024);
    exj_call_end end;

    build(&r, "two", "", ENGINE("0", "", EMIT_OK ";"
          "if (h->emit(h->ctx, c, exj_text(\"{}\")) != EXJ_R_INTERNAL) abort(); return EXJ_R_OK;"));
    end = run_once(instance_of(&r, "two", EXJ_KIND_GRAPH_ENGINE), s, NULL);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer, "{\"status\":\"completed\"}"));
    cr_assert_eq(end.emits, 2);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, made_up_calls_and_calls_of_others_are_refused)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(1024);
    uint64_t before = exj_plugin_misdeeds();

    build(&r, "madeup", "", ENGINE("0", "",
          "for (exj_call k = 1; k < 5000; k += 7)"
          " if (h->emit(h->ctx, k, exj_text(\"{}\")) != EXJ_R_INTERNAL) abort();"
          "if (h->emit(h->ctx, c + 4096, exj_text(\"{}\")) != EXJ_R_INTERNAL) abort();"
          "if (h->emit(h->ctx, UINT64_MAX, exj_text(\"{}\")) != EXJ_R_INTERNAL) abort();"
          "return " EMIT_OK ";"));
    cr_assert_eq(run_once(instance_of(&r, "madeup", EXJ_KIND_GRAPH_ENGINE), s, NULL).result, EXJ_R_OK);
    cr_assert_gt(exj_plugin_misdeeds(), before + 700);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(misbehaving, text_relocations_programs_and_foreign_machines_are_refused)
{
    struct room r = room_open();
    exj_err err;

    shell("cp '%s' '%s/arch.so' && printf '\\377\\000' | dd of='%s/arch.so' bs=1 seek=18 conv=notrunc status=none",
          STUB_SO, r.dir, r.dir);
    err = refusal(&r, "arch");
    says(err.text, "ELF machine");
    says(err.text, "found 255");
    shell("echo hello, I am a text > '%s/text.so'", r.dir);
    says(refusal(&r, "text").text, "text.so");
    shell("echo 'int main(void){return 0;}' > '%s/prog.c' && cc -pie -fPIE -o '%s/prog.so' '%s/prog.c'", r.dir, r.dir,
          r.dir);
    says(refusal(&r, "prog").text, "prog.so");
    shell("mkfifo '%s/fifo.so'", r.dir);
    says(refusal(&r, "fifo").text, "regular");
    room_close(&r);
}
