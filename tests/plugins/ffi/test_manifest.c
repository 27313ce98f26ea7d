/* The manifest's schema: each mistake is refused before anything is loaded, with its place,
 * what is wrong and what is wanted. */
#include "tests/plugins/ffi/host.h"

#define BAD(model, part) refuses(model, "{}", EXJ_R_INPUT, "ManifestInvalid", part)
#define TOP(members) "{\"exellixFfi\":1,\"library\":\"" LIB "\"," members "}"
#define VOID_F "\"functions\":[{\"node\":\"n\",\"symbol\":\"ft_nothing\",\"args\":[],"    \
               "\"returns\":{\"type\":\"void\"}}]"
#define ARG(arg) ONE("ft_i32", arg, "\"type\":\"i32\"")
#define ARGS(args) ONE("ft_describe", args, "\"type\":\"i32\"")
#define RETURNS(returns) ONE("ft_i32", "{\"value\":1,\"type\":\"i32\"}", returns)

Test(ffi_manifest, is_json_of_version_1)
{
    BAD("", "line 1");
    BAD("[]", "wanted an object");
    BAD("{\"exellixFfi\":1,", "line 1");
    BAD("{\"exellixFfi\":1,\"exellixFfi\":1}", "duplicate");
    BAD("{\"library\":\"a\"}", "is no manifest: \"exellixFfi\":1 is missing");
    BAD("{\"id\":\"g1\",\"nodes\":[]}", "is no manifest");
    BAD("{\"exellixFfi\":2,\"library\":\"a\"}", "\"exellixFfi\" must be 1");
    BAD("{\"exellixFfi\":\"1\",\"library\":\"a\"}", "\"exellixFfi\" must be 1");
    BAD("{\"exellixFfi\":1}", "needs \"library\"");
    BAD(TOP("\"functions\":[]"), "needs \"functions\": a list of 1 to 64");
    BAD(TOP("\"functions\":{}"), "needs \"functions\"");
    BAD(TOP("\"functions\":[7]"), "functions[0]: wanted an object");
    gives(TOP("\"id\":\"x\",\"description\":\"d\",\"isolation\":\"process\"," VOID_F), "{}",
          "{\"n\":{}}");
}

Test(ffi_manifest, unknown_keys_name_the_nearest)
{
    BAD(TOP("\"isolaton\":\"process\"," VOID_F), "unknown key 'isolaton'; did you mean 'isolation'?");
    BAD(TOP("\"zzz\":1," VOID_F), "unknown key 'zzz'; known are exellixFfi, id");
    BAD(ONE("ft_i32", "", "\"type\":\"i32\",\"sucess\":\"any\""),
        "functions[0].returns: unknown key 'sucess'; did you mean 'success'?");
    BAD(MANIFEST("", "{\"nod\":\"n\"}"), "functions[0]: unknown key 'nod'; did you mean 'node'?");
    BAD(ARG("{\"form\":\"input.a\",\"type\":\"i32\"}"),
        "functions[0].args[0]: unknown key 'form'; did you mean 'from'?");
    BAD(ARGS("{\"outBytes\":\"x\",\"capcity\":2}"), "did you mean 'capacity'?");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"i32\",\"capacity\":1}"), "unknown key 'capacity'");
    BAD(TOP("\"enums\":{\"e\":{\"nmes\":{}}}," VOID_F), "enums.e: unknown key 'nmes'");
    BAD(TOP("\"structs\":{\"s\":{\"feilds\":[]}}," VOID_F), "structs.s: unknown key 'feilds'");
    BAD(TOP("\"handles\":{\"h\":{\"clse\":\"f\"}}," VOID_F), "handles.h: unknown key 'clse'");
}

Test(ffi_manifest, isolation_is_always_a_process)
{
    BAD(TOP("\"isolation\":\"in-process\"," VOID_F), "\"isolation\" is always \"process\"");
    BAD(TOP("\"isolation\":false," VOID_F), "\"isolation\" must be a string");
}

Test(ffi_manifest, libraries_are_absolute_or_bare)
{
    BAD("{\"exellixFfi\":1,\"library\":\"./lib.so\"," VOID_F "}", "write an absolute path");
    BAD("{\"exellixFfi\":1,\"library\":\"\"," VOID_F "}", "\"library\" has 0 bytes");
    BAD("{\"exellixFfi\":1,\"library\":\"a\\u0000b\"," VOID_F "}", "control character");
    BAD("{\"exellixFfi\":1,\"library\":\"a\\nb\"," VOID_F "}", "control character");
    BAD("{\"exellixFfi\":1,\"library\":\"libz.so.1\",\"sha256\":"
        "\"0000000000000000000000000000000000000000000000000000000000000000\"," VOID_F "}",
        "\"library\" must be an absolute path, not 'libz.so.1'");
    BAD(TOP("\"sha256\":\"abc\"," VOID_F), "64 digits 0-9 a-f");
}

Test(ffi_manifest, names_are_checked)
{
    BAD(MANIFEST("", "{\"node\":\"a b\",\"symbol\":\"f\",\"args\":[],\"returns\":{\"type\":\"void\"}}"),
        "the name 'a b' must be");
    BAD(MANIFEST("", "{\"node\":\"a\",\"symbol\":\"f()\",\"args\":[],\"returns\":{\"type\":\"void\"}}"),
        "symbol 'f()' is no name of a C function");
    BAD(MANIFEST("", NODE("ft_nothing", "", "\"type\":\"void\"") ","
                     NODE("ft_nothing", "", "\"type\":\"void\"")), "two nodes are named 'n'");
    BAD(ONE("ft_divide", "{\"out\":\"q\",\"type\":\"i32\"},{\"out\":\"q\",\"type\":\"i32\"}",
            "\"type\":\"i32\""), "two outputs are named 'q'");
    BAD(ONE("ft_divide", "{\"out\":\"return\",\"type\":\"i32\"}", "\"type\":\"i32\""),
        "an output named 'return'");
    BAD(MANIFEST("", "{\"node\":\"n\",\"symbol\":\"f\",\"returns\":{\"type\":\"void\"}}"),
        "needs \"args\"");
    BAD(MANIFEST("", "{\"node\":\"n\",\"symbol\":\"f\",\"args\":[]}"), "needs \"returns\"");
}

Test(ffi_manifest, types_are_known)
{
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"int32\"}"), "unknown type 'int32'; did you mean 'i32'?");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"something\"}"), "known are void, bool");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"enum:none\"}"), "\"enums\" has no 'none'");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"struct:none\"}"), "\"structs\" has no 'none'");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"handle:none\"}"), "\"handles\" has no 'none'");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"struct\"}"), "type 'struct' needs a name");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"void\"}"), "no argument is of type void");
    BAD(ARG("{\"from\":\"input.a\"}"), "needs \"type\"");
    BAD(ARG("{\"type\":\"i32\"}"), "needs one of from, value, out");
}

Test(ffi_manifest, sources_are_checked)
{
    BAD(ARG("{\"from\":\"record.a\",\"type\":\"i32\"}"), "wanted input.FIELD, memory.NAME or");
    BAD(ARG("{\"from\":\"input.\",\"type\":\"i32\"}"), "wanted input.FIELD");
    BAD(ARG("{\"from\":\"nodes.x\",\"type\":\"i32\"}"), "wanted nodes.NODE.OUTPUT");
    BAD(ARG("{\"from\":\"nodes.n.return\",\"type\":\"i32\"}"), "no earlier node has this name");
    BAD(MANIFEST("", "{\"node\":\"a\",\"symbol\":\"ft_nothing\",\"args\":[],\"returns\":{"
                     "\"type\":\"void\"}}," NODE("ft_i32", "{\"from\":\"nodes.a.return\","
                     "\"type\":\"i32\"}", "\"type\":\"i32\"")), "node 'a' puts out no 'return'");
    BAD(MANIFEST("", "{\"node\":\"a\",\"symbol\":\"ft_f64\",\"args\":[{\"value\":1,"
                     "\"type\":\"f64\"}],\"returns\":{\"type\":\"f64\"}},"
                     NODE("ft_i32", "{\"from\":\"nodes.a.return\",\"type\":\"i32\"}",
                          "\"type\":\"i32\"")), "nodes.a.return is f64, which is no i32");
    BAD(ARG("{\"from\":\"input.a\",\"value\":1,\"type\":\"i32\"}"), "has \"value\" and \"from\"");
    BAD(ARG("{\"value\":300,\"type\":\"i8\"}"), "\"value\": 300 does not fit i8");
    BAD(ARG("{\"from\":\"input.a\",\"default\":\"x\",\"type\":\"i8\"}"),
        "\"default\": wanted a whole number");
    BAD(ARG("{\"value\":\"a\\u0000b\",\"type\":\"str\"}"), "U+0000 in it");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"i32\",\"nullable\":true}"), "a i32 has no NULL");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"str\",\"by\":\"pointer\"}"), "a pointer already");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"i32\",\"by\":\"name\"}"), "\"by\" is");
    BAD(ARG("{\"from\":\"input.a\",\"type\":\"i32\",\"closes\":true}"), "\"closes\" is for handles");
    BAD(MANIFEST("\"handles\":{\"h\":{}},", NODE("ft_count", "{\"from\":\"input.a\","
                 "\"type\":\"handle:h\"}", "\"type\":\"i32\"")), "never from a record");
}

Test(ffi_manifest, buffers_and_lengths_belong_together)
{
    BAD(ARGS("{\"outBytes\":\"x\"}"), "needs \"capacity\"");
    BAD(ARGS("{\"outBytes\":\"x\",\"capacity\":0}"), "\"capacity\" must be a whole number from 1");
    BAD(ARGS("{\"outBytes\":\"x\",\"capacity\":99999999999}"), "\"capacity\" must be");
    BAD(ARGS("{\"outBytes\":\"x\",\"capacity\":8,\"lengthArg\":4}"), "there are 1 arguments");
    BAD(ARGS("{\"outBytes\":\"x\",\"capacity\":8,\"lengthArg\":1},{\"value\":1,\"type\":\"u64\"}"),
        "\"lengthArg\" 1 must be an \"out\" of an integer type");
    BAD(ARGS("{\"outBytes\":\"x\",\"capacity\":8,\"lengthFrom\":\"errno\"}"), "only be \"return\"");
    BAD(ARGS("{\"outBytes\":\"x\",\"capacity\":8,\"lengthFrom\":\"return\",\"lengthArg\":0}"),
        "one is enough");
    BAD(ONE("f", "{\"outBytes\":\"x\",\"capacity\":8,\"lengthFrom\":\"return\"}", "\"type\":\"f64\""),
        "but f64 is returned");
    BAD(ARGS("{\"lengthOf\":0,\"type\":\"u64\"}"), "must be about a str or bytes argument");
    BAD(ARGS("{\"lengthOf\":3,\"type\":\"u64\"}"), "is about argument 3; there are 1");
    BAD(ARGS("{\"value\":1,\"type\":\"i32\"},{\"capacityOf\":0,\"type\":\"u64\"}"),
        "argument 0 is no \"outBytes\"");
    BAD(ARGS("{\"value\":1,\"type\":\"i32\"},{\"lengthInOut\":0,\"type\":\"u64\"}"),
        "argument 0 is no \"outBytes\"");
    BAD(ARGS("{\"value\":\"x\",\"type\":\"str\"},{\"lengthOf\":0,\"type\":\"f64\"}"),
        "needs an integer type");
    BAD(ARGS("{\"out\":\"x\",\"type\":\"bytes\"}"), "take \"outBytes\" with a capacity");
    BAD(ARGS("{\"out\":\"x\",\"type\":\"str\"}"), "needs \"owner\"");
    BAD(ARGS("{\"out\":\"x\",\"type\":\"i32\",\"owner\":\"static\"}"), "\"owner\" is for text only");
}

Test(ffi_manifest, returns_are_checked)
{
    BAD(RETURNS("\"type\":\"str\""), "needs \"owner\" of the memory");
    BAD(RETURNS("\"type\":\"str\",\"owner\":\"mine\""), "\"owner\":\"mine\"");
    BAD(RETURNS("\"type\":\"str\",\"owner\":\"free:\""), "is no name of a C function");
    BAD(RETURNS("\"type\":\"i32\",\"owner\":\"static\""), "\"owner\" is for str and bytes");
    BAD(RETURNS("\"type\":\"bytes\",\"owner\":\"static\""), "bytes need \"lengthArg\"");
    BAD(RETURNS("\"type\":\"i32\",\"lengthArg\":0"), "\"lengthArg\" is for bytes");
    BAD(RETURNS("\"type\":\"i32\",\"success\":\"non-null\""), "\"non-null\" is for str");
    BAD(RETURNS("\"type\":\"i32\",\"success\":\"= 0\""), "wanted any, non-null, or one of");
    BAD(RETURNS("\"type\":\"i32\",\"success\":\"== x\""), "wanted any, non-null, or one of");
    BAD(RETURNS("\"type\":\"i32\",\"success\":\"== 1 \""), "wanted any, non-null, or one of");
    BAD(RETURNS("\"type\":\"f64\",\"success\":\"== 0\""), "compares a number, and f64 is none");
    BAD(RETURNS("\"type\":\"void\",\"success\":\"== 0\""), "void is none");
    BAD(RETURNS("\"type\":\"i32\",\"onError\":\"errno\""), "\"onError\" without \"success\"");
    BAD(RETURNS("\"type\":\"i32\",\"success\":\"== 0\",\"onError\":\"log\""), "wanted \"errno\"");
}

Test(ffi_manifest, enums_structs_and_handles_are_checked)
{
    BAD(TOP("\"enums\":[]," VOID_F), "\"enums\" must be an object");
    BAD(TOP("\"enums\":{\"e\":{\"names\":{}}}," VOID_F), "at least one");
    BAD(TOP("\"enums\":{\"e\":{\"names\":{\"a\":1.5}}}," VOID_F), "\"a\" must be a whole number");
    BAD(TOP("\"enums\":{\"e\":{\"type\":\"u8\",\"names\":{\"a\":256}}}," VOID_F), "from 0 to 255");
    BAD(TOP("\"enums\":{\"e\":{\"type\":\"f64\",\"names\":{\"a\":1}}}," VOID_F), "integer type");
    BAD(TOP("\"structs\":{\"s\":{\"fields\":[]}}," VOID_F), "needs \"fields\"");
    BAD(TOP("\"structs\":{\"s\":{\"fields\":[{\"name\":\"a\",\"type\":\"i32\"}]}}," VOID_F),
        "structs.s.fields[0]: needs \"offset\"; the C layout gives 0");
    BAD(TOP("\"structs\":{\"s\":{\"fields\":[{\"name\":\"a\",\"type\":\"i8\",\"offset\":0},"
            "{\"name\":\"b\",\"type\":\"i32\",\"offset\":1}]}}," VOID_F),
        "\"offset\" is 1, but the C layout of the fields before it gives 4");
    BAD(TOP("\"structs\":{\"s\":{\"size\":5,\"fields\":[{\"name\":\"a\",\"type\":\"i32\","
            "\"offset\":0},{\"name\":\"b\",\"type\":\"i8\",\"offset\":4}]}}," VOID_F),
        "\"size\" is 5, but the C layout of its fields gives 8");
    BAD(TOP("\"structs\":{\"s\":{\"fields\":[{\"name\":\"a\",\"type\":\"str\",\"offset\":0}]}}," VOID_F),
        "'str' needs glue in C");
    BAD(TOP("\"structs\":{\"s\":{\"fields\":[{\"name\":\"a\",\"type\":\"i8\",\"offset\":0},"
            "{\"name\":\"a\",\"type\":\"i8\",\"offset\":1}]}}," VOID_F), "two fields 'a'");
    BAD(TOP("\"handles\":{\"h\":{\"close\":\"1x\"}}," VOID_F), "close '1x' is no name");
}

Test(ffi_manifest, format_string_functions_are_refused_by_name_and_by_shape)
{
    static const char *const names[] = { "printf", "fprintf", "snprintf", "vsnprintf", "asprintf",
                                         "__printf_chk", "sscanf", "dprintf", "wprintf", "syslog",
                                         "err", "warnx", "error", "g_strdup_printf" };

    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char model[512];

        snprintf(model, sizeof model,
                 "{\"exellixFfi\":1,\"library\":\"libc.so.6\",\"functions\":[{\"node\":\"n\","
                 "\"symbol\":\"%s\",\"args\":[],\"returns\":{\"type\":\"i32\"}}]}", names[k]);
        BAD(model, "reads its arguments by a format string");
    }
    BAD(MANIFEST("", "{\"node\":\"n\",\"symbol\":\"my_log\",\"variadicAfter\":2,\"args\":["
                     "{\"value\":1,\"type\":\"i32\"},{\"from\":\"input.a\",\"type\":\"str\"},"
                     "{\"value\":1,\"type\":\"i32\"}],\"returns\":{\"type\":\"void\"}}"),
        "whose last fixed argument is text");
    BAD(ONE("longjmp", "", "\"type\":\"void\""), "cannot be called through libffi without harm");
}

#define VARIADIC(after, arg)                                                              \
    MANIFEST("", "{\"node\":\"n\",\"symbol\":\"ft_sum_all\",\"variadicAfter\":" after ",\"args\":[" \
                 "{\"value\":1,\"type\":\"i32\"}," arg "],\"returns\":{\"type\":\"i64\"}}")

Test(ffi_manifest, variadic_arguments_have_the_types_c_promotes_to)
{
    BAD(VARIADIC("1", "{\"value\":1,\"type\":\"i8\"}"), "C passes i8 to \"...\" as an int");
    BAD(VARIADIC("1", "{\"value\":1,\"type\":\"u16\"}"), "C passes u16");
    BAD(VARIADIC("1", "{\"value\":true,\"type\":\"bool\"}"), "C passes bool");
    BAD(VARIADIC("1", "{\"value\":1,\"type\":\"f32\"}"), "as a double; write f64");
    BAD(VARIADIC("3", "{\"value\":1,\"type\":\"i64\"}"), "\"variadicAfter\" is 3; there are 2");
    BAD(VARIADIC("0", "{\"value\":1,\"type\":\"i64\"}"), "from 1 to 32");
}

Test(ffi_manifest, a_manifest_has_its_limits)
{
    char *big = malloc(1100000), *at = big;

    at += sprintf(at, "{\"exellixFfi\":1,\"library\":\"l\",\"functions\":[");
    for (int k = 0; k < 65; k++)
        at += sprintf(at, "%s{\"node\":\"n%d\",\"symbol\":\"f\",\"args\":[],\"returns\":{"
                          "\"type\":\"void\"}}", k ? "," : "", k);
    sprintf(at, "]}");
    BAD(big, "a list of 1 to 64");
    memset(big, ' ', 1100000 - 1);
    big[1100000 - 1] = 0;
    BAD(big, "at most 1048576 are read");
    free(big);
}
