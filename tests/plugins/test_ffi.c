/* exellix.ffi: real functions of a real library, and everything that can go wrong with them. */
#include "tests/plugins/ffi/host.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- outputs ----------------------------------------------------------------------- */

#define DIVIDE(error)                                                                     \
    ONE("ft_divide", "{\"from\":\"input.a\",\"type\":\"i32\"},{\"from\":\"input.b\","      \
        "\"type\":\"i32\"},{\"out\":\"quotient\",\"type\":\"i32\"},"                       \
        "{\"out\":\"rest\",\"type\":\"i32\",\"answer\":false}",                            \
        "\"type\":\"i32\",\"success\":\"== 0\"" error)

Test(ffi, out_scalars_are_named_outputs)
{
    gives(DIVIDE(""), "{\"a\":17,\"b\":5}", "{\"n\":{\"return\":0,\"quotient\":3}}");
    gives(ONE("ft_add_to", "{\"out\":\"sum\",\"from\":\"input.a\",\"type\":\"i64\"},"
              "{\"value\":5,\"type\":\"i32\"}", "\"type\":\"i32\",\"answer\":false"),
          "{\"a\":37}", "{\"n\":{\"sum\":42}}");
}

Test(ffi, errno_or_the_code_explains_a_failure)
{
    refuses(DIVIDE(",\"onError\":\"errno\""), "{\"a\":1,\"b\":0}", EXJ_R_FAILED, "EDOM",
            "node n: ft_divide returned -1 (success is == 0): Numerical argument out of domain");
    refuses(DIVIDE(",\"onError\":\"code\""), "{\"a\":1,\"b\":0}", EXJ_R_FAILED, "Returned-1",
            "ft_divide returned -1");
    refuses(DIVIDE(""), "{\"a\":1,\"b\":0}", EXJ_R_FAILED, "Returned-1", "success is == 0");
}

#define SET_ERRNO(more)                                                                   \
    ONE("ft_set_errno", "{\"from\":\"input.e\",\"type\":\"i32\"}",                         \
        "\"type\":\"i32\",\"success\":\">= 0\",\"onError\":\"errno\"" more)

Test(ffi, a_failure_that_passes_is_worth_another_attempt)
{
    refuses(SET_ERRNO(""), "{\"e\":11}", EXJ_R_RETRY, "EAGAIN", "temporarily unavailable");
    refuses(SET_ERRNO(""), "{\"e\":2}", EXJ_R_FAILED, "ENOENT", "No such file");
    refuses(SET_ERRNO(",\"retry\":true"), "{\"e\":2}", EXJ_R_RETRY, "ENOENT", "No such file");
    refuses(SET_ERRNO(",\"retry\":false"), "{\"e\":11}", EXJ_R_FAILED, "EAGAIN", "unavailable");
    refuses(SET_ERRNO(""), "{\"e\":0}", EXJ_R_FAILED, "FunctionFailed", "returned -1");
    refuses(SET_ERRNO(""), "{\"e\":9999}", EXJ_R_FAILED, "Errno9999", "returned -1");
}

Test(ffi, success_rules_compare_what_is_returned)
{
    static const struct { const char *rule; int good, bad; } rules[] = {
        { "== 3", 3, 4 }, { "!= 3", 4, 3 }, { "> 3", 4, 3 }, { ">= 3", 3, 2 },
        { "< -3", -4, -3 }, { "<= -3", -3, -2 }, { "==3", 3, 4 },
    };

    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++) {
        char model[1024], input[64], said[64];

        snprintf(model, sizeof model, "%s%s%s",
                 "{\"exellixFfi\":1,\"library\":\"" LIB "\",\"functions\":[{\"node\":\"n\","
                 "\"symbol\":\"ft_i32\",\"args\":[{\"from\":\"input.a\",\"type\":\"i32\"}],"
                 "\"returns\":{\"type\":\"i32\",\"success\":\"", rules[k].rule, "\"}}]}");
        snprintf(input, sizeof input, "{\"a\":%d}", rules[k].bad);
        snprintf(said, sizeof said, "Returned%d", rules[k].bad);
        refuses(model, input, EXJ_R_FAILED, said, rules[k].rule);
        snprintf(input, sizeof input, "{\"a\":%d}", rules[k].good);
        snprintf(said, sizeof said, "{\"n\":{\"return\":%d}}", rules[k].good);
        gives(model, input, said);
    }
}

Test(ffi, an_enum_names_the_failure)
{
    refuses(MANIFEST(POINT, NODE("ft_result", "{\"value\":40,\"type\":\"i32\"}",
                                 "\"type\":\"enum:mode\",\"success\":\"== 0\"")),
            "{}", EXJ_R_FAILED, "odd", "returned 40 (odd)");
}

#define DESCRIBE(kind, capacity)                                                          \
    ONE("ft_describe", "{\"from\":\"input.a\",\"type\":\"str\"},{\"" kind "\":\"reason\","  \
        "\"capacity\":" capacity ",\"lengthArg\":2},{\"lengthInOut\":1,\"type\":\"u64\"}",  \
        "\"type\":\"i32\",\"success\":\"== 0\",\"onError\":\"errno\"")

Test(ffi, out_buffers_take_the_length_the_function_tells)
{
    gives(DESCRIBE("outStr", "5"), "{\"a\":\"hello\"}",
          "{\"n\":{\"return\":0,\"reason\":\"hello\"}}");
    gives(DESCRIBE("outBytes", "5"), "{\"a\":\"hell\"}",
          "{\"n\":{\"return\":0,\"reason\":\"aGVsbA==\"}}");
    refuses(DESCRIBE("outStr", "4"), "{\"a\":\"hello\"}", EXJ_R_FAILED, "ERANGE",
            "it asks for 5 bytes of 'reason', whose capacity is 4");
    refuses(ONE("ft_lies", "{\"outBytes\":\"x\",\"capacity\":8,\"lengthArg\":1},"
                "{\"lengthInOut\":0,\"type\":\"u64\"}", "\"type\":\"i32\""),
            "{}", EXJ_R_FAILED, "OutTooSmall", "asks for 108 bytes; \"capacity\" is 8");
}

#define COPY(returns)                                                                     \
    ONE("ft_copy", "{\"outStr\":\"to\",\"capacity\":8},{\"capacityOf\":0,\"type\":\"u64\"}," \
        "{\"from\":\"input.a\",\"type\":\"str\"}", returns)

Test(ffi, out_text_without_a_length_ends_at_its_nul)
{
    gives(COPY("\"type\":\"i32\",\"answer\":false"), "{\"a\":\"seven77\"}",
          "{\"n\":{\"to\":\"seven77\"}}");
    refuses(COPY("\"type\":\"i32\",\"success\":\">= 0\""), "{\"a\":\"eight888\"}", EXJ_R_FAILED,
            "Returned-1", "ft_copy returned -1");
    refuses(ONE("ft_fill", "{\"outStr\":\"to\",\"capacity\":8},{\"capacityOf\":0,"
                "\"type\":\"u64\"}", "\"type\":\"void\""), "{}", EXJ_R_FAILED, "OutTooSmall",
            "no terminating NUL");
    gives(ONE("ft_fill", "{\"outBytes\":\"to\",\"capacity\":6},{\"capacityOf\":0,"
              "\"type\":\"u64\"}", "\"type\":\"void\""), "{}", "{\"n\":{\"to\":\"eHh4eHh4\"}}");
}

#define READ                                                                              \
    ONE("ft_read", "{\"outBytes\":\"data\",\"capacity\":6,\"lengthFrom\":\"return\"},"     \
        "{\"capacityOf\":0,\"type\":\"u64\"},{\"from\":\"input.n\",\"type\":\"i32\"}",     \
        "\"type\":\"i64\"")

Test(ffi, out_bytes_take_the_length_from_the_return)
{
    gives(READ, "{\"n\":3}", "{\"n\":{\"return\":3,\"data\":\"AAEC\"}}");
    gives(READ, "{\"n\":0}", "{\"n\":{\"return\":0,\"data\":\"\"}}");
    refuses(READ, "{\"n\":7}", EXJ_R_FAILED, "OutTooSmall", "asks for 7 bytes");
    refuses(READ, "{\"n\":-1}", EXJ_R_FAILED, "ResultUnfit", "the length is -1");
}

Test(ffi, writing_beyond_a_buffer_is_noticed)
{
    refuses(ONE("ft_overrun", "{\"outBytes\":\"to\",\"capacity\":8},{\"capacityOf\":0,"
                "\"type\":\"u64\"}", "\"type\":\"void\""), "{}", EXJ_R_FAILED, "OutOverrun",
            "argument 0 (to): ft_overrun wrote beyond its end");
    /* A parameter that is wider than the manifest says. */
    refuses(ONE("ft_add_to", "{\"out\":\"sum\",\"type\":\"i32\",\"value\":0},"
                "{\"value\":-1,\"type\":\"i32\"}", "\"type\":\"i32\""), "{}", EXJ_R_FAILED,
            "OutOverrun", "the manifest is wrong about ft_add_to");
}

/* ---- text that the library owns ---------------------------------------------------- */

Test(ffi, returned_text_is_copied_and_its_owner_respected)
{
    struct guest g = guest_open();
    struct said s = { 0 };

    gives(ONE("ft_static_name", "{\"value\":0,\"type\":\"i32\"}",
              "\"type\":\"str\",\"owner\":\"static\""), "{}",
          "{\"n\":{\"return\":\"static name\"}}");
    gives(ONE("ft_static_name", "{\"value\":-1,\"type\":\"i32\"}",
              "\"type\":\"str\",\"owner\":\"borrowed\""), "{}", "{\"n\":{\"return\":null}}");
    refuses(ONE("ft_static_name", "{\"value\":-1,\"type\":\"i32\"}",
                "\"type\":\"str\",\"owner\":\"borrowed\",\"success\":\"non-null\""), "{}",
            EXJ_R_FAILED, "FunctionFailed", "returned null (success is non-null)");
    refuses(ONE("ft_static_name", "{\"value\":9,\"type\":\"i32\"}",
                "\"type\":\"str\",\"owner\":\"static\""), "{}", EXJ_R_FAILED, "ResultUnfit",
            "not UTF-8; take it as bytes");
    ask_into(&g, MANIFEST("", "{\"node\":\"a\",\"symbol\":\"ft_new_text\",\"args\":["
                          "{\"value\":\"x\",\"type\":\"str\"}],\"returns\":{\"type\":\"str\","
                          "\"owner\":\"free:ft_free\"}},{\"node\":\"b\","
                          "\"symbol\":\"ft_alive_now\",\"args\":[],\"returns\":{"
                          "\"type\":\"i32\"}}"), "{}", &s);
    cr_assert_eq(s.result, EXJ_R_OK, "%s", s.text);
    cr_assert_str_eq(s.answer, "{\"a\":{\"return\":\"<x>\"},\"b\":{\"return\":0}}");
    free(s.answer);
    guest_close(&g);
}

Test(ffi, returned_bytes_take_their_length_from_an_argument)
{
    gives(ONE("ft_new_bytes", "{\"value\":4,\"type\":\"u32\"},{\"out\":\"n\",\"type\":\"u32\"}",
              "\"type\":\"bytes\",\"lengthArg\":1,\"owner\":\"free:ft_free\""), "{}",
          "{\"n\":{\"return\":\"//79/A==\",\"n\":4}}");
}

#define COMPLAIN                                                                          \
    ONE("ft_complain", "{\"from\":\"input.a\",\"type\":\"str\"},{\"out\":\"why\","         \
        "\"type\":\"str\",\"owner\":\"free:ft_free\"}", "\"type\":\"i32\",\"success\":\"== 0\"")

Test(ffi, text_put_out_is_part_of_the_error)
{
    gives(COMPLAIN, "{\"a\":\"\"}", "{\"n\":{\"return\":0,\"why\":\"<>\"}}");
    refuses(COMPLAIN, "{\"a\":\"bad luck\"}", EXJ_R_FAILED, "Returned1", "; why: <bad luck>");
}

/* ---- nodes and handles ------------------------------------------------------------- */

#define COUNTER(close) "\"handles\":{\"counter\":{" close "}},"
#define CLOSES "\"close\":\"ft_close\""
#define OPEN                                                                              \
    "{\"node\":\"open\",\"symbol\":\"ft_open\",\"args\":[{\"from\":\"input.start\","       \
    "\"type\":\"i32\"},{\"out\":\"c\",\"type\":\"handle:counter\"}],"                      \
    "\"returns\":{\"type\":\"i32\",\"success\":\"== 0\",\"answer\":false}}"
#define COUNT(node, more)                                                                 \
    "{\"node\":\"" node "\",\"symbol\":\"ft_count\",\"args\":[{\"from\":\"nodes.open.c\","   \
    "\"type\":\"handle:counter\"" more "},{\"value\":5,\"type\":\"i32\"}],"                 \
    "\"returns\":{\"type\":\"i32\"}}"
#define END                                                                               \
    "{\"node\":\"end\",\"symbol\":\"ft_end\",\"args\":[{\"from\":\"nodes.open.c\","        \
    "\"type\":\"handle:counter\",\"closes\":true}],\"returns\":{\"type\":\"i32\"}}"
#define ALIVE                                                                             \
    "{\"node\":\"n\",\"symbol\":\"ft_alive_now\",\"args\":[],\"returns\":{\"type\":\"i32\"}}"

#define FIRST(symbol, arg, returns)                                                       \
    "{\"node\":\"a\",\"symbol\":\"" symbol "\",\"args\":[" arg "],\"returns\":{" returns "}},"

Test(ffi, a_handle_is_passed_on_and_closed_at_the_end)
{
    struct guest g = guest_open();
    struct said s = { 0 };

    ask_into(&g, MANIFEST(COUNTER(CLOSES), OPEN "," COUNT("one", "") "," COUNT("two", "")),
             "{\"start\":1}", &s);
    cr_assert_str_eq(s.answer, "{\"open\":{\"c\":\"handle:counter#1\"},\"one\":{\"return\":6},"
                               "\"two\":{\"return\":11}}");
    ask_into(&g, MANIFEST("", ALIVE), "{}", &s);
    cr_assert_str_eq(s.answer, "{\"n\":{\"return\":0}}");
    /* A later node fails: the handle is closed all the same. */
    ask_into(&g, MANIFEST(COUNTER(CLOSES), OPEN "," NODE("ft_i8", "{\"from\":\"input.x\","
                          "\"type\":\"i8\"}", "\"type\":\"i8\"")), "{\"start\":1}", &s);
    cr_assert_eq(s.result, EXJ_R_INPUT);
    s.code[0] = 0;
    ask_into(&g, MANIFEST("", ALIVE), "{}", &s);
    cr_assert_str_eq(s.answer, "{\"n\":{\"return\":0}}");
    free(s.answer);
    guest_close(&g);
}

Test(ffi, a_handle_that_a_node_closes_is_over)
{
    gives(MANIFEST(COUNTER(CLOSES), OPEN "," END "," ALIVE), "{\"start\":1}",
          "{\"open\":{\"c\":\"handle:counter#1\"},\"end\":{\"return\":0},\"n\":{\"return\":0}}");
    refuses(MANIFEST(COUNTER(CLOSES), OPEN "," END "," COUNT("late", "")), "{\"start\":1}",
            EXJ_R_FAILED, "HandleClosed", "handle:counter#1 was closed by an earlier node");
    refuses(MANIFEST(COUNTER(CLOSES), OPEN), "{\"start\":-1}", EXJ_R_FAILED, "Returned22",
            "ft_open returned 22");
}

Test(ffi, a_handle_that_comes_back_is_closed_once)
{
    struct guest g = guest_open();
    struct said s = { 0 };

    ask_into(&g, MANIFEST(COUNTER(CLOSES), OPEN ",{\"node\":\"same\",\"symbol\":\"ft_same\","
                          "\"args\":[{\"from\":\"nodes.open.c\",\"type\":\"handle:counter\"}],"
                          "\"returns\":{\"type\":\"handle:counter\"}}"), "{\"start\":1}", &s);
    cr_assert_str_eq(s.answer, "{\"open\":{\"c\":\"handle:counter#1\"},"
                               "\"same\":{\"return\":\"handle:counter#1\"}}");
    ask_into(&g, MANIFEST("", ALIVE), "{}", &s);
    cr_assert_str_eq(s.answer, "{\"n\":{\"return\":0}}");
    free(s.answer);
    guest_close(&g);
}

Test(ffi, a_function_that_writes_into_its_argument_changes_no_other_output)
{
    gives(MANIFEST("", FIRST("ft_new_text", "{\"value\":\"x\",\"type\":\"str\"}",
                             "\"type\":\"str\",\"owner\":\"free:ft_free\"")
                   NODE("ft_shout", "{\"from\":\"nodes.a.return\",\"type\":\"str\"}",
                        "\"type\":\"void\"")), "{}",
          "{\"a\":{\"return\":\"<x>\"},\"n\":{}}");
}

Test(ffi, a_null_handle_goes_nowhere)
{
    refuses(MANIFEST(COUNTER(CLOSES), "{\"node\":\"open\",\"symbol\":\"ft_make\",\"args\":["
                     "{\"value\":-1,\"type\":\"i32\"}],\"returns\":{\"type\":\"handle:counter\"}},"
                     "{\"node\":\"n\",\"symbol\":\"ft_count\",\"args\":["
                     "{\"from\":\"nodes.open.return\",\"type\":\"handle:counter\"},"
                     "{\"value\":5,\"type\":\"i32\"}],\"returns\":{\"type\":\"i32\"}}"),
            "{}", EXJ_R_FAILED, "ResultUnfit", "node open gave null");
}

Test(ffi, outputs_of_a_node_are_arguments_of_the_next)
{
    gives(MANIFEST("", FIRST("ft_i64", "{\"value\":7,\"type\":\"i64\"}", "\"type\":\"i64\"")
                   NODE("ft_negate", "{\"from\":\"nodes.a.return\",\"type\":\"i8\"}",
                        "\"type\":\"i8\"")),
          "{}", "{\"a\":{\"return\":7},\"n\":{\"return\":-7}}");
    refuses(MANIFEST("", FIRST("ft_i64", "{\"value\":700,\"type\":\"i64\"}", "\"type\":\"i64\"")
                     NODE("ft_negate", "{\"from\":\"nodes.a.return\",\"type\":\"i8\"}",
                          "\"type\":\"i8\"")),
            "{}", EXJ_R_INPUT, "InputInvalid",
            "node n, argument 0 (nodes.a.return): 700 does not fit i8");
    gives(MANIFEST("", FIRST("ft_new_text", "{\"value\":\"xy\",\"type\":\"str\"}",
                             "\"type\":\"str\",\"owner\":\"free:ft_free\",\"answer\":false")
                   NODE("ft_sum", "{\"from\":\"nodes.a.return\",\"type\":\"bytes\"},"
                        "{\"lengthOf\":0,\"type\":\"u64\"}", "\"type\":\"u64\"")),
          "{}", "{\"a\":{},\"n\":{\"return\":363}}");
    refuses(MANIFEST("", FIRST("ft_fill", "{\"outBytes\":\"b\",\"capacity\":4},{\"value\":2,"
                               "\"type\":\"u64\"}", "\"type\":\"void\"")
                     NODE("ft_strlen", "{\"from\":\"nodes.a.b\",\"type\":\"str\"}",
                          "\"type\":\"u64\"")),
            "{}", EXJ_R_INPUT, "InputInvalid", "the bytes have a NUL in them");
}

Test(ffi, cancellation_is_asked_between_nodes)
{
    static const char m[] = MANIFEST("", FIRST("ft_nothing", "", "\"type\":\"void\"")
                                     NODE("ft_nothing", "", "\"type\":\"void\""));
    struct guest g = guest_open();
    struct said s = { .cancel_from = 2 };

    ask_into(&g, m, "{}", &s);
    cr_assert_eq(s.result, EXJ_R_CANCELLED);
    cr_assert_eq(s.emitted, 0);
    cr_assert(strstr(s.text, "before node n"), "%s", s.text);
    guest_close(&g);
}

/* ---- variadic ---------------------------------------------------------------------- */

#define VARIADIC(symbol, args, returns)                                                   \
    MANIFEST("", "{\"node\":\"n\",\"symbol\":\"" symbol "\",\"variadicAfter\":1,\"args\":[" args \
                 "],\"returns\":{\"type\":\"" returns "\"}}")

Test(ffi, variadic_functions_take_the_shape_that_is_listed)
{
    gives(VARIADIC("ft_sum_all", "{\"value\":3,\"type\":\"i32\"},{\"value\":1,\"type\":\"i64\"},"
                   "{\"value\":\"-5000000000000000000\",\"type\":\"i64\"},{\"value\":20,"
                   "\"type\":\"i64\"}", "i64"), "{}",
          "{\"n\":{\"return\":\"-4999999999999999979\"}}");
    gives(VARIADIC("ft_pick", "{\"from\":\"input.w\",\"type\":\"i32\"},{\"value\":-4,"
                   "\"type\":\"i32\"},{\"value\":2.5,\"type\":\"f64\"},{\"value\":\"abc\","
                   "\"type\":\"str\"}", "f64"), "{\"w\":0}", "{\"n\":{\"return\":-4}}");
    gives(VARIADIC("ft_pick", "{\"from\":\"input.w\",\"type\":\"i32\"},{\"value\":-4,"
                   "\"type\":\"i32\"},{\"value\":2.5,\"type\":\"f64\"},{\"value\":\"abc\","
                   "\"type\":\"str\"}", "f64"), "{\"w\":1}", "{\"n\":{\"return\":2.5}}");
}

/* ---- libraries --------------------------------------------------------------------- */

#define IN_LIBRARY(library, symbol)                                                       \
    "{\"exellixFfi\":1,\"library\":\"" library "\",\"functions\":["                        \
    NODE(symbol, "", "\"type\":\"void\"") "]}"

Test(ffi, libraries_and_symbols_that_are_not_there_are_named)
{
    refuses(IN_LIBRARY("/nowhere/libnone.so", "f"), "{}", EXJ_R_FAILED, "LibraryMissing",
            "/nowhere/libnone.so");
    refuses(IN_LIBRARY("libexellix-none.so.7", "f"), "{}", EXJ_R_FAILED, "LibraryMissing",
            "libexellix-none.so.7");
    refuses(IN_LIBRARY("/etc/passwd", "f"), "{}", EXJ_R_FAILED, "LibraryUnfit", "/etc/passwd");
    refuses(IN_LIBRARY(LIB, "ft_none"), "{}", EXJ_R_FAILED, "SymbolMissing",
            "has no function ft_none");
    refuses(IN_LIBRARY(LIB, "ft_data"), "{}", EXJ_R_FAILED, "SymbolUnfit",
            "ft_data in " LIB " is data, not a function");
    refuses(IN_LIBRARY(LIB, "malloc_trim"), "{}", EXJ_R_FAILED, "SymbolUnfit",
            "name that as the library");
    refuses(ONE("ft_new_text", "{\"value\":\"\",\"type\":\"str\"}",
                "\"type\":\"str\",\"owner\":\"free:ft_gone\""), "{}", EXJ_R_FAILED,
            "SymbolMissing", "ft_gone");
    refuses(MANIFEST(COUNTER("\"close\":\"ft_shut\""), OPEN), "{}", EXJ_R_FAILED,
            "SymbolMissing", "ft_shut");
}

Test(ffi, functions_of_several_libraries_make_one_graph)
{
    gives(MANIFEST("", FIRST("ft_new_text", "{\"value\":\"ab\",\"type\":\"str\"}",
                             "\"type\":\"str\",\"owner\":\"free:ft_free\"")
                   "{\"node\":\"n\",\"symbol\":\"strlen\",\"library\":\"libc.so.6\",\"args\":["
                   "{\"from\":\"nodes.a.return\",\"type\":\"str\"}],\"returns\":{"
                   "\"type\":\"u64\"}}"), "{}",
          "{\"a\":{\"return\":\"<ab>\"},\"n\":{\"return\":4}}");
}

static void digest_of(const char *path, char ret[65])
{
    char line[1024];
    FILE *f;

    snprintf(line, sizeof line, "sha256sum '%s'", path);
    f = popen(line, "r");
    cr_assert(f && fscanf(f, "%64s", ret) == 1);
    pclose(f);
}

static void with_digest(char *ret, size_t cap, const char *path, const char *digest)
{
    snprintf(ret, cap, "{\"exellixFfi\":1,\"library\":\"%s\",\"sha256\":\"%s\",\"functions\":[%s]}",
             path, digest, NODE("ft_alive_now", "", "\"type\":\"i32\""));
}

Test(ffi, the_digest_of_the_file_is_checked_before_it_is_loaded)
{
    char model[2048], digest[65];

    digest_of(LIB, digest);
    with_digest(model, sizeof model, LIB, digest);
    gives(model, "{}", "{\"n\":{\"return\":0}}");
    digest[0] = digest[0] == '0' ? '1' : '0';
    with_digest(model, sizeof model, LIB, digest);
    refuses(model, "{}", EXJ_R_FAILED, "LibraryChanged", "the manifest says");
    with_digest(model, sizeof model, "/nowhere/lib.so", digest);
    refuses(model, "{}", EXJ_R_FAILED, "LibraryMissing", "No such file");
    with_digest(model, sizeof model, "/tmp", digest);
    refuses(model, "{}", EXJ_R_FAILED, "LibraryUnfit", "is no file");
}

Test(ffi, a_library_replaced_under_a_running_host_is_not_called_by_its_new_digest)
{
    char dir[] = "/tmp/exj-ffi-XXXXXX", path[64], line[1024], model[2048], digest[65];
    struct guest g = guest_open();
    struct said s = { 0 };

    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/lib.so", dir);
    snprintf(line, sizeof line, "cp '%s' '%s'", LIB, path);
    cr_assert_eq(system(line), 0);
    digest_of(path, digest);
    with_digest(model, sizeof model, path, digest);
    ask_into(&g, model, "{}", &s);
    cr_assert_eq(s.result, EXJ_R_OK, "%s", s.text);
    snprintf(line, sizeof line, "cp '%s' '%s.new' && mv '%s.new' '%s'", BARE, path, path, path);
    cr_assert_eq(system(line), 0);
    digest_of(path, digest);
    with_digest(model, sizeof model, path, digest);
    ask_into(&g, model, "{}", &s);
    cr_assert_eq(s.result, EXJ_R_RETRY);
    cr_assert_str_eq(s.code, "LibraryChanged");
    cr_assert(strstr(s.text, "replaced after this plugin host had loaded it"), "%s", s.text);
    free(s.answer);
    guest_close(&g);
    snprintf(line, sizeof line, "rm -r '%s'", dir);
    cr_assert_eq(system(line), 0);
}

/* ---- the engine -------------------------------------------------------------------- */

Test(ffi, it_declares_itself_and_passes_its_self_test)
{
    struct guest g = guest_open();
    struct said s = { 0 };

    cr_assert_str_eq(g.plugin->id, "exellix.ffi");
    cr_assert_eq(g.plugin->kind, EXJ_KIND_GRAPH_ENGINE);
    cr_assert_eq(g.plugin->self_test(g.instance, (exj_call)(uintptr_t)&s), EXJ_R_OK);
    guest_close(&g);
}

Test(ffi, a_deadline_that_is_missed_is_told)
{
    static const char m[] =
        MANIFEST("", "{\"node\":\"n\",\"symbol\":\"usleep\",\"library\":\"libc.so.6\","
                     "\"deadlineMs\":1,\"args\":[{\"value\":5000,\"type\":\"u32\"}],"
                     "\"returns\":{\"type\":\"i32\",\"success\":\"== 0\"}}");
    struct guest g = guest_open();
    struct said s = { 0 };

    ask_into(&g, m, "{}", &s);
    cr_assert_eq(s.result, EXJ_R_OK);
    cr_assert_eq(s.logged, 1);
    free(s.answer);
    guest_close(&g);
}

Test(ffi, an_answer_the_host_refuses_is_an_error)
{
    struct guest g = guest_open();
    struct said s = { .refuse = EXJ_R_INPUT };

    ask_into(&g, MANIFEST("", ALIVE), "{}", &s);
    cr_assert_eq(s.result, EXJ_R_INPUT);
    cr_assert_str_eq(s.code, "AnswerRefused");
    guest_close(&g);
}

Test(ffi, more_manifests_than_are_kept_all_work)
{
    struct guest g = guest_open();

    for (int round = 0; round < 2; round++)
        for (int k = 0; k < 100; k++) {
            struct said s = { 0 };
            char model[1024], want[64];

            snprintf(model, sizeof model,
                     "{\"exellixFfi\":1,\"library\":\"%s\",\"functions\":[{\"node\":\"n\","
                     "\"symbol\":\"ft_i32\",\"args\":[{\"value\":%d,\"type\":\"i32\"}],"
                     "\"returns\":{\"type\":\"i32\"}}]}", LIB, k);
            snprintf(want, sizeof want, "{\"n\":{\"return\":%d}}", k);
            ask_into(&g, model, "{}", &s);
            cr_assert_str_eq(s.answer, want);
            free(s.answer);
        }
    guest_close(&g);
}

/* ---- the page -------------------------------------------------------------------------- */

Test(ffi, the_example_of_the_page_gives_what_the_page_says)
{
    static char page[65536];
    FILE *f = fopen(EXJ_SOURCE_DIR "/docs/ffi.md", "r");
    size_t n = f ? fread(page, 1, sizeof page - 1, f) : 0;
    char *from = strstr(page, "```json\n"), *end = from ? strstr(from + 8, "```") : NULL;
    json_t *graph, *model;
    char *text;

    cr_assert(f && fclose(f) == 0 && n > 0 && end);
    graph = json_loadb(from + 8, (size_t)(end - from - 8), 0, NULL);
    model = json_object_get(json_object_get(graph, "payload"), "model");
    text = json_dumps(model, JSON_COMPACT);
    cr_assert(text, "the first JSON of docs/ffi.md is no graph");
    cr_assert(strstr(page, "{\"crc\":{\"return\":907060870}}"));
    gives(text, "{\"text\":\"hello\"}", "{\"crc\":{\"return\":907060870}}");
    free(text);
    json_decref(graph);
}

/* ---- threads ----------------------------------------------------------------------- */

struct caller {
    const struct guest *g;
    const char *model;
    int most;
};

static void *call_often(void *arg)
{
    struct caller *c = arg;

    for (int k = 0; k < 200; k++) {
        struct said s = { 0 };
        int seen = 0;

        ask_into(c->g, c->model, "{}", &s);
        if (!s.answer || sscanf(s.answer, "{\"n\":{\"return\":%d}}", &seen) != 1)
            seen = 1000;
        c->most = seen > c->most ? seen : c->most;
        free(s.answer);
    }
    return NULL;
}

Test(ffi, a_function_that_is_not_thread_safe_runs_alone)
{
    struct guest g = guest_open();
    struct caller callers[4];
    pthread_t threads[4];

    for (int k = 0; k < 4; k++) {
        callers[k] = (struct caller){ &g, ONE("ft_alone", "", "\"type\":\"i32\""), 0 };
        cr_assert_eq(pthread_create(&threads[k], NULL, call_often, &callers[k]), 0);
    }
    for (int k = 0; k < 4; k++) {
        pthread_join(threads[k], NULL);
        cr_assert_eq(callers[k].most, 1, "%d at once", callers[k].most);
    }
    guest_close(&g);
}
