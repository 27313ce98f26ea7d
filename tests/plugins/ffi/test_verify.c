/* exellix-jobs-ffi-verify: a manifest held against the DWARF of the test library. */
#include "tests/plugins/ffi/host.h"

#include <jansson.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef EXJ_HAS_FFI_VERIFY

static char dir[64];

static void open_room(void)
{
    strcpy(dir, "/tmp/exj-verify-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void close_room(void)
{
    char line[128];

    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    cr_assert_eq(system(line), 0);
}

/* Its exit status; what it says to both ends in *ret (free it). */
static int verify(const char *options, const char *manifest, char **ret)
{
    char path[128], line[512];
    FILE *f;
    size_t n;
    int status;

    snprintf(path, sizeof path, "%s/manifest.json", dir);
    f = fopen(path, "w");
    cr_assert(f && fputs(manifest, f) >= 0 && fclose(f) == 0);
    snprintf(line, sizeof line, "%s/bin/exellix-jobs-ffi-verify %s '%s' 2>&1", EXJ_BINARY_DIR,
             options, path);
    f = popen(line, "r");
    *ret = calloc(1, 65536);
    cr_assert(f && *ret);
    n = fread(*ret, 1, 65535, f);
    (*ret)[n] = 0;
    status = pclose(f);
    cr_assert(WIFEXITED(status), "%s", *ret);
    return WEXITSTATUS(status);
}

static void expect(int status, const char *manifest, const char *part)
{
    char *said;
    int got = verify("", manifest, &said);

    cr_assert_eq(got, status, "%d instead of %d: %s", got, status, said);
    cr_assert(strstr(said, part), "'%s' is not in: %s", part, said);
    free(said);
}

#define DIFFERS(manifest, part) expect(1, manifest, "DIFFERS: " part)
#define SAME(manifest) expect(0, manifest, "checked   sha256:")

TestSuite(ffi_verify, .init = open_room, .fini = close_room);

Test(ffi_verify, what_agrees_is_said_to)
{
    SAME(ECHO("ft_i8", "i8"));
    SAME(ECHO("ft_bool", "bool"));
    SAME(ECHO("ft_u64", "u64"));
    SAME(ECHO("ft_f32", "f32"));
    SAME(ONE("ft_describe", "{\"from\":\"input.a\",\"type\":\"str\"},{\"outStr\":\"r\","
             "\"capacity\":8,\"lengthArg\":2},{\"lengthInOut\":1,\"type\":\"u64\"}",
             "\"type\":\"i32\""));
    SAME(ONE("ft_divide", "{\"value\":1,\"type\":\"i32\"},{\"value\":1,\"type\":\"i32\"},"
             "{\"out\":\"q\",\"type\":\"i32\"},{\"out\":\"r\",\"type\":\"i32\"}",
             "\"type\":\"i32\""));
    SAME(ONE("ft_complain", "{\"value\":\"x\",\"type\":\"str\"},{\"out\":\"why\",\"type\":\"str\","
             "\"owner\":\"free:ft_free\"}", "\"type\":\"i32\""));
    SAME(MANIFEST(POINT, NODE("ft_mirror", "{\"from\":\"input.a\",\"type\":\"struct:point\"}",
                              "\"type\":\"struct:point\"")));
    SAME(MANIFEST(POINT, NODE("ft_scale", "{\"from\":\"input.a\",\"out\":\"p\",\"type\":"
                              "\"struct:point\"},{\"value\":1,\"type\":\"f64\"}",
                              "\"type\":\"void\"")));
    SAME(MANIFEST("\"handles\":{\"c\":{\"close\":\"ft_close\"}},",
                  NODE("ft_open", "{\"value\":1,\"type\":\"i32\"},{\"out\":\"c\","
                       "\"type\":\"handle:c\"}", "\"type\":\"i32\"")));
    SAME(MANIFEST("", "{\"node\":\"n\",\"symbol\":\"ft_sum_all\",\"variadicAfter\":1,\"args\":["
                      "{\"value\":1,\"type\":\"i32\"},{\"value\":1,\"type\":\"i64\"}],"
                      "\"returns\":{\"type\":\"i64\"}}"));
}

Test(ffi_verify, sizes_and_signs_are_compared)
{
    DIFFERS(ECHO("ft_i32", "i64"), "8 bytes in the manifest, 4 in the library");
    DIFFERS(ECHO("ft_i8", "u8"), "unsigned in the manifest, signed in the library");
    DIFFERS(ECHO("ft_u16", "i16"), "signed in the manifest, unsigned in the library");
    DIFFERS(ECHO("ft_f32", "f64"), "a float of 8 bytes");
    DIFFERS(ECHO("ft_bool", "u8"), "an integer in the manifest, none in the library");
    DIFFERS(ECHO("ft_u8", "bool"), "bool in the manifest");
    DIFFERS(ONE("ft_long", "{\"value\":1,\"type\":\"f64\"}", "\"type\":\"f64\""), "a float of 8");
    DIFFERS(ONE("ft_nothing", "", "\"type\":\"i32\""), "the library returns nothing");
    DIFFERS(ONE("ft_add_to", "{\"out\":\"s\",\"type\":\"i32\"},{\"value\":1,\"type\":\"i32\"}",
                "\"type\":\"i32\""), "4 bytes in the manifest, 8 in the library");
}

Test(ffi_verify, pointers_are_told_from_values)
{
    DIFFERS(ONE("ft_i64", "{\"from\":\"input.a\",\"type\":\"str\"}", "\"type\":\"i64\""),
            "a pointer in the manifest, none in the library");
    DIFFERS(ONE("ft_i32", "{\"out\":\"a\",\"type\":\"i32\"}", "\"type\":\"i32\""),
            "a pointer in the manifest, none in the library");
    DIFFERS(ONE("ft_strlen", "{\"value\":1,\"type\":\"u64\"}", "\"type\":\"u64\""),
            "an integer in the manifest, none in the library");
}

Test(ffi_verify, the_number_of_parameters_is_compared)
{
    DIFFERS(ONE("ft_i32", "", "\"type\":\"i32\""), "has 1 parameters; the manifest lists 0");
    DIFFERS(ONE("ft_sum_all", "{\"value\":1,\"type\":\"i32\"}", "\"type\":\"i64\""),
            "is variadic: it needs \"variadicAfter\": 1");
    DIFFERS(MANIFEST("", "{\"node\":\"n\",\"symbol\":\"ft_i32\",\"variadicAfter\":1,\"args\":["
                         "{\"value\":1,\"type\":\"i32\"}],\"returns\":{\"type\":\"i32\"}}"),
            "is not variadic");
}

Test(ffi_verify, structs_are_compared_member_by_member)
{
#define FIELDS(fields) MANIFEST("\"structs\":{\"s\":{\"fields\":[" fields "]}},",          \
                                NODE("ft_norm", "{\"from\":\"input.a\",\"type\":\"struct:s\"}", \
                                     "\"type\":\"f64\""))
#define F(name, type, at) "{\"name\":\"" name "\",\"type\":\"" type "\",\"offset\":" at "}"
    SAME(FIELDS(F("x", "f64", "0") "," F("y", "f64", "8") "," F("weight", "i8", "16") ","
                F("mode", "u32", "20")));
    DIFFERS(FIELDS(F("x", "f64", "0") "," F("y", "f64", "8")), "struct:s has 16 bytes, that of the "
            "library 24");
    DIFFERS(FIELDS(F("x", "f64", "0") "," F("y", "f64", "8") "," F("weight", "i32", "16") ","
                   F("mode", "u32", "20")), "field 'weight': 4 bytes in the manifest, 1 in");
    DIFFERS(FIELDS(F("x", "f32", "0") "," F("z", "f32", "4") "," F("y", "f64", "8") ","
                   F("weight", "i8", "16") "," F("mode", "u32", "20")), "field 'x': a float of 4");
    DIFFERS(MANIFEST("\"structs\":{\"s\":{\"fields\":[" F("a", "u32", "0") "]}},",
                     NODE("ft_bits", "{\"from\":\"input.a\",\"type\":\"struct:s\"}",
                          "\"type\":\"i32\"")), "member 'a' is a bit-field");
    DIFFERS(MANIFEST("\"structs\":{\"s\":{\"fields\":[" F("a", "u32", "0") "]}},",
                     NODE("ft_union", "{\"from\":\"input.a\",\"type\":\"struct:s\"}",
                          "\"type\":\"i32\"")), "a struct in the manifest, none in the library");
    DIFFERS(MANIFEST("\"structs\":{\"s\":{\"fields\":[" F("a", "u32", "0") "]}},",
                     NODE("ft_close", "{\"from\":\"input.a\",\"type\":\"struct:s\",\"by\":"
                          "\"pointer\"}", "\"type\":\"void\"")), "field 'a': unsigned in the");
}

Test(ffi_verify, enumerators_are_compared)
{
#define NAMES(names) MANIFEST("\"enums\":{\"m\":{\"type\":\"u32\",\"names\":{" names "}}},", \
                              NODE("ft_mode", "{\"from\":\"input.a\",\"type\":\"enum:m\"}",  \
                                   "\"type\":\"enum:m\""))
    SAME(NAMES("\"FT_FAST\":0,\"odd\":40"));
    DIFFERS(NAMES("\"FT_FAST\":1"), "FT_FAST is 1 in the manifest, 0 in the library");
    DIFFERS(NAMES("\"slow\":2"), "slow is 2, which no enumerator of the library has");
}

Test(ffi_verify, who_writes_where_is_compared)
{
    DIFFERS(ONE("ft_sum", "{\"outBytes\":\"b\",\"capacity\":8},{\"capacityOf\":0,"
                "\"type\":\"u64\"}", "\"type\":\"u64\""), "the library only reads through this");
    DIFFERS(ONE("ft_scale", "{\"from\":\"input.a\",\"type\":\"bytes\"},{\"value\":1,"
                "\"type\":\"f64\"}", "\"type\":\"void\""), "bytes in the manifest, a pointer to "
            "something else");
}

Test(ffi_verify, symbols_that_are_missing_or_data_differ)
{
    DIFFERS(ONE("ft_none", "", "\"type\":\"void\""), "the library has no function of this name");
    DIFFERS(ONE("ft_data", "", "\"type\":\"void\""), "is data in the library");
    DIFFERS(ONE("ft_new_text", "{\"value\":\"\",\"type\":\"str\"}",
                "\"type\":\"str\",\"owner\":\"free:ft_alive_now\""),
            "must have one parameter, a pointer");
    DIFFERS(ONE("ft_new_text", "{\"value\":\"\",\"type\":\"str\"}",
                "\"type\":\"str\",\"owner\":\"free:ft_i32\""), "its parameter is no pointer");
}

static const char *bare(const char *symbol)
{
    static char text[1024];

    snprintf(text, sizeof text,
             "{\"exellixFfi\":1,\"library\":\"" BARE "\",\"functions\":[{\"node\":\"n\","
             "\"symbol\":\"%s\",\"args\":[],\"returns\":{\"type\":\"void\"}}]}", symbol);
    return text;
}

Test(ffi_verify, without_dwarf_it_says_how_to_get_it)
{
    expect(2, bare("ft_nothing"), "build the library with -g");
    expect(2, bare("ft_nothing"), "unknown: no DWARF to compare with");
    expect(1, bare("ft_none"), "the library has no function of this name");
}

Test(ffi_verify, dwarf_in_a_separate_file_is_found)
{
    char line[1600], model[1024];

    snprintf(line, sizeof line,
             "cd '%s' && mkdir .debug && objcopy --only-keep-debug '%s' .debug/lib.debug && "
             "cp '%s' lib.so && strip lib.so && objcopy --add-gnu-debuglink=.debug/lib.debug lib.so",
             dir, LIB, LIB);
    cr_assert_eq(system(line), 0);
    snprintf(model, sizeof model,
             "{\"exellixFfi\":1,\"library\":\"%s/lib.so\",\"functions\":[%s]}", dir,
             NODE("ft_i32", "{\"value\":1,\"type\":\"i64\"}", "\"type\":\"i32\""));
    DIFFERS(model, "8 bytes in the manifest, 4 in the library");
}

Test(ffi_verify, files_that_are_missing_or_other_are_named)
{
    expect(1, "{\"exellixFfi\":1,\"library\":\"/nowhere/l.so\",\"functions\":["
              NODE("f", "", "\"type\":\"void\"") "]}", "library /nowhere/l.so is not there");
    expect(1, "{\"exellixFfi\":1,\"library\":\"/etc/passwd\",\"functions\":["
              NODE("f", "", "\"type\":\"void\"") "]}", "/etc/passwd");
    expect(1, "{\"exellixFfi\":1,\"library\":\"" LIB "\",\"sha256\":\""
              "0000000000000000000000000000000000000000000000000000000000000000\","
              "\"functions\":[" NODE("ft_nothing", "", "\"type\":\"void\"") "]}",
           "the manifest says 0000");
    expect(1, "{\"exellixFfi\":1}", "needs \"library\"");
    expect(1, "[", "line 1");
}

Test(ffi_verify, the_manifest_alone_needs_no_library)
{
    static const char m[] = "{\"exellixFfi\":1,\"library\":\"/nowhere/l.so\",\"functions\":["
                            NODE("f", "", "\"type\":\"void\"") "]}";
    char *said;

    cr_assert_eq(verify("--no-dwarf", m, &said), 0);
    cr_assert(strstr(said, "well formed: 1 functions; nothing was compared"), "%s", said);
    free(said);
    cr_assert_eq(verify("--no-dwarf", "{\"exellixFfi\":1,\"libary\":\"x\"}", &said), 1);
    cr_assert(strstr(said, "did you mean 'library'?"), "%s", said);
    free(said);
    cr_assert_eq(verify("--nodwarf", m, &said), 1);
    cr_assert(strstr(said, "'--nodwarf' is too much"), "%s", said);
    free(said);
}

static json_t *verify_json(const char *manifest, int status)
{
    char *said;
    json_t *j;

    cr_assert_eq(verify("--json", manifest, &said), status, "%s", said);
    j = json_loads(said, 0, NULL);
    cr_assert(j, "%s", said);
    free(said);
    return j;
}

Test(ffi_verify, json_has_the_same_and_a_digest_that_tells_changes)
{
    json_t *a = verify_json(ECHO("ft_i32", "i32"), 0), *b = verify_json(ECHO("ft_i32", "i32"), 0),
           *c = verify_json(ECHO("ft_i32", "u32"), 1), *d = verify_json("{}", 1);
    const char *digest = json_string_value(json_object_get(a, "digest"));

    cr_assert_str_eq(json_string_value(json_object_get(a, "result")), "same");
    cr_assert_str_eq(json_string_value(json_object_get(c, "result")), "differs");
    cr_assert_str_eq(json_string_value(json_object_get(d, "result")), "wrong");
    cr_assert_eq(json_array_size(json_object_get(a, "lines")), 3);
    cr_assert_eq(strlen(digest), 64);
    cr_assert_str_eq(digest, json_string_value(json_object_get(b, "digest")));
    cr_assert_str_neq(digest, json_string_value(json_object_get(c, "digest")));
    json_decref(a);
    json_decref(b);
    json_decref(c);
    json_decref(d);
}

Test(ffi_verify, a_graph_config_holds_its_manifest)
{
    expect(1, "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\",\"model\":"
              ECHO("ft_i32", "i64") "}}", "8 bytes in the manifest, 4 in the library");
}

#else

Test(ffi_verify, is_not_built_here)
{
    cr_skip("libdw is not installed");
}

#endif
