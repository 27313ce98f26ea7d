/* The SDK as an author meets it: installed into a prefix that knows nothing of our tree. */
#include "tests/plugins/guests.h"

#include "exellix/json.h"

static void install_sdk(const struct room *r)
{
    shell("DESTDIR= cmake -DCMAKE_INSTALL_PREFIX='%s/prefix' -P %s/sdk/cmake_install.cmake "
          "> '%s/install.log'", r->dir, EXJ_BINARY_DIR, r->dir);
}

#define ENGINE_C "/share/exellix-jobs/template/c/engine.c"
#define PKG_CONFIG "PKG_CONFIG_PATH=$(dirname $(find '%s/prefix' -name exellix-plugin.pc)) "

Test(sdk, plugin_builds_from_an_installed_prefix_with_pkg_config)
{
    struct room r = room_open();
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;
    exj_args a;
    const exj_call_ports none = { 0 };

    install_sdk(&r);
    shell("cd '%s' && sed 's/@NAME@/acme.hello/' prefix" ENGINE_C " >x.c && export " PKG_CONFIG
          " && cc $(pkg-config --cflags exellix-plugin) -shared -fPIC x.c -o x.so", r.dir, r.dir);
    i = instance_of(&r, "acme.hello", EXJ_KIND_GRAPH_ENGINE);
    s = slot_of(4096);
    a = args_of("{}", "{\"jobId\":\"j\",\"job\":{},\"input\":{\"name\":\"Ada\"}}");
    cr_assert(exj_call_run(i, s, &a, &none, &end, NULL));
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer,
              "{\"status\":\"completed\",\"outputsByNodeId\":{\"hello\":{\"greeted\":\"Ada\"}}}"));
    exj_call_slot_free(s);
    room_close(&r);
}

Test(sdk, plugin_builds_with_the_cmake_package)
{
    struct room r = room_open();

    install_sdk(&r);
    shell("mkdir '%s/p' && cd '%s/p' && sed 's/@NAME@/acme.hello/' ../prefix" ENGINE_C " >plugin.c && "
          "printf 'cmake_minimum_required(VERSION 3.20)\\nproject(p C)\\n"
          "find_package(exellix-plugin REQUIRED)\\n"
          "exellix_jobs_add_plugin(greeter SOURCES plugin.c)\\n' > CMakeLists.txt && "
          "cmake -S . -B b -DCMAKE_PREFIX_PATH='%s/prefix' > log && cmake --build b > log && "
          "cp b/greeter.so ..", r.dir, r.dir, r.dir);
    cr_assert_not_null(instance_of(&r, "greeter", EXJ_KIND_GRAPH_ENGINE));
    room_close(&r);
}

Test(sdk, headers_compile_as_c11_and_cxx17_without_a_warning)
{
    struct room r = room_open();
    static const char *const lines[] = {
        "gcc -std=c11 -x c", "g++ -std=c++17 -x c++", "clang -std=c11 -x c",
        "clang++ -std=c++17 -x c++",
    };

    shell("cat > '%s/h.c' <<'END'\n#include \"exellix/plugin.h\"\n#include \"exellix/step.h\"\n"
          "#include \"exellix/json.h\"\nstatic const exj_bundle b = { 0, 0, 0, 0, NULL };\n"
          "static exj_result f(void *u, exj_json_out *o) { (void)u; exj_json_put_null(o, NULL); return 0; }\n"
          "EXJ_EXTERN_C_ EXJ_PLUGIN_VISIBLE exj_result use(const exj_host *h, exj_json_out *o);\n"
          "EXJ_EXTERN_C_ EXJ_PLUGIN_VISIBLE exj_result use(const exj_host *h, exj_json_out *o)\n"
          "{ return EXJ_HAS(h, exj_host, extension) ? exj_step(h, 1, \"a\", f, NULL, o) : 1; }\n"
          "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\nEND\n", r.dir);
    for (size_t k = 0; k < sizeof lines / sizeof *lines; k++)
        if (try_shell("command -v $(echo %s | cut -d' ' -f1) > '%s/which'", lines[k], r.dir) == 0)
            shell("%s -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -I%s/include "
                  "-I%s/sdk/include -fPIC -shared '%s/h.c' -o '%s/h.out'",
                  lines[k], EXJ_SOURCE_DIR, EXJ_SOURCE_DIR, r.dir, r.dir);
    room_close(&r);
}

/* ---- json.h --------------------------------------------------------------------------- */

static exj_str of(const char *s)
{
    return exj_text(s);
}

static bool is(exj_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

Test(sdk_json, finds_members_by_meaning_not_by_spelling)
{
    exj_str v;

    cr_assert(exj_json_find(of(" {\"a\":1, \"b\\u0063\" : [1,{\"x\":\"]\"}] ,\"n\":null}"), "bc", &v));
    cr_assert(is(v, "[1,{\"x\":\"]\"}]"));
    cr_assert(exj_json_find(of("{\"n\":null}"), "n", &v));
    cr_assert_eq(exj_json_type(v), 'n');
    cr_assert_not(exj_json_find(of("{\"a\":{\"b\":1}}"), "b", &v));
    cr_assert_not(exj_json_find(of("[\"b\"]"), "b", &v));
    cr_assert_not(exj_json_find(of(""), "b", &v));
}

Test(sdk_json, reads_values)
{
    int64_t i;
    bool b;
    char *t = exj_json_to_text(of("\"a\\n\\u00e4\\ud83d\\ude00\\\"\""), NULL);

    cr_assert_str_eq(t, "a\n\xc3\xa4\xf0\x9f\x98\x80\"");
    free(t);
    cr_assert_null(exj_json_to_text(of("\"\\u0000\""), NULL));
    cr_assert_null(exj_json_to_text(of("\"\\ud83d\""), NULL));
    cr_assert_null(exj_json_to_text(of("\"\\"), NULL));
    cr_assert(exj_json_to_i64(of("-9223372036854775808"), &i) && i == INT64_MIN);
    cr_assert(exj_json_to_i64(of("9223372036854775807"), &i) && i == INT64_MAX);
    cr_assert_not(exj_json_to_i64(of("9223372036854775808"), &i));
    cr_assert_not(exj_json_to_i64(of("1.5"), &i));
    cr_assert_not(exj_json_to_i64(of("-"), &i));
    cr_assert(exj_json_to_bool(of("false"), &b) && !b);
}

Test(sdk_json, readers_never_leave_a_broken_text)
{
    static const char text[] = "{\"a\":[1,\"x\\u00e4\\\"\",{\"b\":{}}],\"c\":-1.5e3,\"d\":\"\"}";

    for (size_t n = 0; n < sizeof text; n++) {
        char *cut = malloc(n ? n : 1); /* exact, so that a sanitizer sees a step too far */
        exj_json_cursor c;
        exj_str k, v;

        memcpy(cut, text, n);
        c = exj_json_members((exj_str){ cut, n });
        while (exj_json_next_member(&c, &k, &v)) {
            exj_json_cursor e = exj_json_elements(v);
            exj_str element;

            free(exj_json_to_text(v, NULL));
            while (exj_json_next_element(&e, &element))
                exj_json_find(element, "b", &k);
        }
        free(cut);
    }
}

Test(sdk_json, writes_commas_and_escapes)
{
    exj_json_out o = EXJ_JSON_OUT_INIT;

    exj_json_begin_object(&o);
    exj_json_put_text(&o, "a\"", "x\n\x01\\");
    exj_json_put_array(&o, "l");
    exj_json_put_i64(&o, NULL, -5);
    exj_json_begin_object(&o);
    exj_json_end_object(&o);
    exj_json_put_bool(&o, NULL, true);
    exj_json_end_array(&o);
    exj_json_put_null(&o, "z");
    exj_json_end_object(&o);
    cr_assert(is(exj_json_out_text(&o),
                 "{\"a\\\"\":\"x\\u000a\\u0001\\\\\",\"l\":[-5,{},true],\"z\":null}"));
    cr_assert_not(o.failed);
    exj_json_end_object(&o);
    cr_assert(o.failed);
    exj_json_out_release(&o);
}
