/* exellix.source-file: each record once, each bad line with its place, nothing held whole. */
#include "core/base/sha256.h"
#include "tests/plugins/sources.h"

static struct found f;
static struct source plain; /* without config, for most tests */

static void setup(void)
{
    sources_init();
    plain = source_new(SOURCE_FILE_SO, "{}");
}

static void teardown(void)
{
    found_release(&f);
    source_close(&plain);
    sources_fini();
}

TestSuite(source_file, .init = setup, .fini = teardown, .timeout = 100);

/* payload.input of a file of the folder; `more`: further members. */
static const char *input_of(const char *name, const char *format, const char *more)
{
    static char text[2][1200];
    static unsigned next;
    char *to = text[next++ % 2];

    snprintf(to, sizeof text[0], "{\"path\":\"%s\",\"format\":\"%s\"%s%s}", in_folder(name), format,
             *more ? "," : "", more);
    return to;
}

static void scan_file(const char *name, const char *format, const char *more, const char *kind)
{
    scan_all(&plain, &f, kind, input_of(name, format, more));
}

static void jsonl(const char *text, const char *more)
{
    put_file("a.jsonl", text);
    scan_file("a.jsonl", "jsonl", more, "storage");
}

static void csv(const char *text, const char *more)
{
    put_file("a.csv", text);
    scan_file("a.csv", "csv", more, "storage");
}

/* ---- JSON lines --------------------------------------------------------------------------------- */

Test(source_file, each_line_is_a_record)
{
    jsonl("{\"id\":\"a\",\"n\":1}\n\n  {\"n\": 2.5, \"id\": 7, \"tags\": [1, {\"x\": null}]}  \r\n"
          "{\"id\":\"\\u00e9\"}", "\"idField\":\"id\"");
    found_is_good(&f, 3);
    cr_expect_str_eq(f.ids[0], "a");
    cr_expect_str_eq(f.ids[1], "7");
    cr_expect_str_eq(f.ids[2], "\xc3\xa9");
    cr_expect_str_eq(f.records[0], "{\"id\":\"a\",\"n\":1}");
    cr_expect_str_eq(f.records[1], "{\"n\":2.5,\"id\":7,\"tags\":[1,{\"x\":null}]}");
}

Test(source_file, an_empty_file_has_no_records)
{
    jsonl("", "");
    found_is_good(&f, 0);
    csv("", "");
    found_is_good(&f, 0);
    csv("a,b\n", "");
    found_is_good(&f, 0);
}

Test(source_file, without_a_field_the_content_or_the_line_names_a_record)
{
    char *first, first_hash[40], hash[65];

    jsonl("{\"a\":1}\n{\"a\":2}\n{\"a\":1}\n", "");
    found_is_good(&f, 3);
    cr_expect_str_eq(f.ids[0], f.ids[2]);
    cr_expect_str_neq(f.ids[0], f.ids[1]);
    first = strdup(f.ids[0]);
    jsonl("{\"a\":3}\n{\"a\":1}\n", ""); /* moved: the same record */
    found_is_good(&f, 2);
    cr_expect_str_eq(f.ids[1], first);
    snprintf(first_hash, sizeof first_hash, "%s", first);
    free(first);
    exj_sha256_hex("{\"a\":1}", 7, hash); /* what the page says that it is */
    cr_expect_eq(strncmp(first_hash, hash, 32), 0, "%s %s", first_hash, hash);
    jsonl("{\"a\":1}\n\n{\"a\":1}\n", "\"ids\":\"line\"");
    found_is_good(&f, 2);
    cr_expect_str_eq(f.ids[0], "a.jsonl:1");
    cr_expect_str_eq(f.ids[1], "a.jsonl:3");
    csv("x,y\n1,2\n\"1\",2\n", "");
    found_is_good(&f, 2);
    cr_expect_str_eq(f.ids[0], f.ids[1]);
}

Test(source_file, a_bad_line_stops_the_scan_with_file_line_column_and_reason)
{
    static const struct {
        const char *line, *where;
    } bads[] = {
        { "{\"a\":1} x", "a.jsonl: line 2, column 9: something stands behind the object" },
        { "{\"a\":01}", "line 2, column 6: a number may not begin with 0" },
        { "{\"a\" 1}", "line 2, column 6: ':' is wanted after a name" },
        { "{\"a\":1,}", "line 2, column 8: a name in quotes is wanted" },
        { "{\"a\":[1 2]}", "line 2, column 9: ',' or ']' is wanted" },
        { "{\"a\":\"\xff\"}", "line 2, column 7: the byte 0xff is not UTF-8" },
        { "{\"a\":\"x\ty\"}", "line 2, column 8: the control byte 0x09 in a string" },
        { "{\"a\":\"\\x\"}", "line 2, column 7: an escape that is none of" },
        { "{\"a\":\"\\u0000\"}", "line 2, column 7: \\u0000 (NUL) is not allowed" },
        { "{\"a\":\"x}", "line 2, column 6: a string that begins here has no end" },
        { "{\"a\":nul}", "line 2, column 6: no JSON value" },
        { "{\"a\":92233720368547758070}", "line 2, column 6: an integer outside 64 bits" },
        { "{\"a\":1e999}", "line 2, column 6: a number too large" },
        { "[1]", "line 2, column 1: no JSON object" },
        { "{\"a\":1,\"a\":2}", "line 2, column 8: the field \"a\" comes twice" },
        { "{\"\":1}", "line 2, column 2: a field without a name" },
        { "{\"input\":{\"x\":1}}", "line 2, column 2: the wrapper \"input\"" },
        { "{\"raw\":{}}", "line 2, column 2: the wrapper \"raw\"" },
        { "{\"input.raw\":1}", "line 2, column 2: the wrapper \"input.raw\"" },
        { "{\"a\":", "line 2, column 6: the text ends" },
    };

    for (size_t k = 0; k < sizeof bads / sizeof *bads; k++) {
        char text[200];

        snprintf(text, sizeof text, "{\"ok\":1}\n%s\n{\"ok\":2}\n", bads[k].line);
        jsonl(text, "");
        found_fails(&f, EXJ_R_INPUT, "BadLine", bads[k].where);
        cr_expect_eq(f.n, 1u);
        jsonl(text, "\"onBadLine\":\"skip\"");
        found_is_good(&f, 2);
    }
}

Test(source_file, an_id_field_that_is_absent_or_no_name_is_a_bad_line)
{
    char text[700] = "{\"k\":\"", *at = text + strlen(text);

    jsonl("{\"k\":1}\n{\"a\":1}\n", "\"idField\":\"k\"");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "line 2, column 1: no field \"k\" (idField)");
    jsonl("{\"k\":1.5}\n", "\"idField\":\"k\"");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "column 6: the field \"k\" (idField) is neither");
    jsonl("{\"k\":\"\"}\n", "\"idField\":\"k\"");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "wanted 1 to 512 bytes");
    memset(at, 'x', 513);
    strcpy(at + 513, "\"}\n");
    jsonl(text, "\"idField\":\"k\"");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "wanted 1 to 512 bytes");
    csv("k,v\n1,2\n,3\n", "\"idField\":\"k\"");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "line 3, column 1: the column \"k\" (idField)");
}

Test(source_file, a_last_line_without_its_end_waits_for_the_next_cycle_unless_it_is_whole)
{
    jsonl("{\"a\":1}\n{\"a\":", "\"onBadLine\":\"quarantine\"");
    found_is_good(&f, 1);
    cr_expect_eq(lines_in("a.jsonl.bad.jsonl"), 0u);
    grow_file("a.jsonl", "2}\n");
    scan_file("a.jsonl", "jsonl", "\"onBadLine\":\"quarantine\"", "storage");
    found_is_good(&f, 2);
    jsonl("{\"a\":1}\n{\"a\":", "");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "half-written");
    csv("a,b\n1,2\n3", "\"onBadLine\":\"skip\"");
    found_is_good(&f, 1);
    csv("a,b\n1,2\n3,\"4", "\"onBadLine\":\"skip\"");
    found_is_good(&f, 1);
    csv("a,b\n1,2\n3,4", "");
    found_is_good(&f, 2);
}

Test(source_file, a_line_that_is_too_long_is_a_bad_line_and_the_next_is_read)
{
    char *text = malloc(400000);

    memset(text, 'x', 400000);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + 300000, "\"}\n{\"a\":2}\n", 12);
    jsonl(text, "\"maxLineBytes\":1000");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "line 1, column 1001: longer than maxLineBytes = 1000");
    jsonl(text, "\"maxLineBytes\":1000,\"onBadLine\":\"skip\"");
    found_is_good(&f, 1);
    jsonl(text, "\"onBadLine\":\"skip\"");
    found_is_good(&f, 2);
    jsonl("{\"a\":\"123456\"}\n", "\"maxLineBytes\":16"); /* 14 bytes */
    found_is_good(&f, 1);
    jsonl("{\"a\":\"12345678\"}", "\"maxLineBytes\":16"); /* 16 bytes, no end */
    found_is_good(&f, 1);
    jsonl("{\"a\":\"123456789\"}\n", "\"maxLineBytes\":16,\"onBadLine\":\"skip\"");
    found_is_good(&f, 0);
    free(text);
}

/* ---- CSV ---------------------------------------------------------------------------------------- */

Test(source_file, csv_follows_rfc_4180)
{
    csv("\xef\xbb\xbfid,text\r\n1,\"a,b\"\r\n2,\"say \"\"hi\"\"\"\r\n\r\n3,\"two\nlines\"\r\n4,\r\n",
        "\"idField\":\"id\"");
    found_is_good(&f, 4);
    cr_expect_str_eq(f.records[0], "{\"id\":\"1\",\"text\":\"a,b\"}");
    cr_expect_str_eq(f.records[1], "{\"id\":\"2\",\"text\":\"say \\\"hi\\\"\"}");
    cr_expect_str_eq(f.records[2], "{\"id\":\"3\",\"text\":\"two\\nlines\"}");
    cr_expect_str_eq(f.records[3], "{\"id\":\"4\",\"text\":\"\"}");
}

Test(source_file, csv_has_its_own_delimiter_quote_columns_and_types)
{
    csv("n;x;b;s\n1;-2.5e3;true;'a;''b'\n;;;\n", "\"delimiter\":\";\",\"quote\":\"'\",\"types\":{"
        "\"n\":\"integer\",\"x\":\"number\",\"b\":\"boolean\",\"s\":\"string\"}");
    found_is_good(&f, 2);
    cr_expect_str_eq(f.records[0], "{\"n\":1,\"x\":-2500.0,\"b\":true,\"s\":\"a;'b\"}");
    cr_expect_str_eq(f.records[1], "{\"n\":null,\"x\":null,\"b\":null,\"s\":\"\"}");
    csv("1\t2\n", "\"delimiter\":\"\\t\",\"header\":false,\"columns\":[\"a\",\"b\"]");
    found_is_good(&f, 1);
    cr_expect_str_eq(f.records[0], "{\"a\":\"1\",\"b\":\"2\"}");
    csv("a,b,c\n1,2,3\n", "\"columns\":[\"c\",\"a\"],\"idField\":\"a\"");
    found_is_good(&f, 1);
    cr_expect_str_eq(f.records[0], "{\"c\":\"3\",\"a\":\"1\"}");
    csv("a,b\n\"1\",2\n", "\"quote\":\"\"");
    found_is_good(&f, 1);
    cr_expect_str_eq(f.records[0], "{\"a\":\"\\\"1\\\"\",\"b\":\"2\"}");
}

Test(source_file, a_bad_row_is_told_with_its_place_and_the_next_is_read)
{
    static const struct {
        const char *rows, *where;
        size_t good;
    } bads[] = {
        { "1\n", "line 3, column 1: 1 fields where 2 are wanted", 2 },
        { "1,2,3\n", "line 3, column 1: 3 fields where 2 are wanted", 2 },
        { "1,a\"b\n", "line 3, column 4: a quote inside a field", 2 },
        { "1,\"a\" b\n", "line 3, column 6: text behind the closing quote", 2 },
        { "1,\"a\nb\" c\n", "line 4, column 3: text behind the closing quote", 2 },
        { "1,\"a\n2,3\n", "line 3, column 3: the quote that begins here is never closed", 3 },
        { "1,\xff\n", "line 3, column 3: the byte 0xff is not UTF-8", 2 },
        { "1,a\rb\n", "line 3, column 4: a CR that no LF follows", 2 },
        { "1,2.x\n", "line 3, column 3: column \"b\": \"2.x\" is no number", 2 },
    };

    for (size_t k = 0; k < sizeof bads / sizeof *bads; k++) {
        bool typed = strstr(bads[k].where, "column \"b\"");
        char text[100], more[100];

        snprintf(text, sizeof text, "a,b\n0,0\n%s9,9\n", bads[k].rows);
        snprintf(more, sizeof more, "\"types\":{\"b\":\"%s\"}", typed ? "number" : "string");
        csv(text, more);
        found_fails(&f, EXJ_R_INPUT, "BadLine", bads[k].where);
        cr_expect_eq(f.n, 1u);
        strcat(more, ",\"onBadLine\":\"skip\"");
        csv(text, more);
        found_is_good(&f, bads[k].good);
    }
}

Test(source_file, a_header_that_names_no_columns_is_refused_whatever_the_policy)
{
    static const struct {
        const char *text, *more, *why;
    } bads[] = {
        { "a,b,a\n1,2,3\n", "", "two columns have the name \"a\"" },
        { "a,,c\n1,2,3\n", "", "no name for column \"2\"" },
        { "a,\"b\n", "", "never closed: this is the header" },
        { "a,input.raw\n", "", "the column \"input.raw\" is refused" },
        { "a,b\n", "\"idField\":\"id\"", "no column \"id\", which input.idField names" },
        { "a,b\n", "\"columns\":[\"c\"]", "no column \"c\", which input.columns wants" },
        { "a,b\n", "\"types\":{\"c\":\"number\"}", "no column \"c\", which input.types names" },
    };

    for (size_t k = 0; k < sizeof bads / sizeof *bads; k++) {
        char more[200];

        snprintf(more, sizeof more, "\"onBadLine\":\"skip\"%s%s", *bads[k].more ? "," : "",
                 bads[k].more);
        csv(bads[k].text, more);
        found_fails(&f, EXJ_R_INPUT, "BadHeader", bads[k].why);
    }
    csv("\xff\xfe" "a", "");
    found_fails(&f, EXJ_R_INPUT, "NotUtf8", "iconv");
}

/* ---- pages -------------------------------------------------------------------------------------- */

static char *many_lines(size_t n, bool as_csv)
{
    char *text = malloc(n * 60 + 60), *at = text;

    if (as_csv)
        at += sprintf(at, "id,text\n");
    for (size_t k = 0; k < n; k++)
        at += sprintf(at, as_csv ? "%zu,\"line\n%zu\"\n" : "{\"id\":%zu,\"text\":\"line %zu\"}\n", k, k);
    return text;
}

Test(source_file, pages_give_each_record_once_in_order)
{
    for (int as_csv = 0; as_csv < 2; as_csv++) {
        char *text = many_lines(2500, as_csv), id[24];

        put_file("a", text);
        scan_file("a", as_csv ? "csv" : "jsonl", "\"idField\":\"id\",\"pageRecords\":7", "storage");
        found_is_good(&f, 2500);
        cr_expect_eq(f.pages, 358u, "%zu", f.pages);
        for (size_t k = 0; k < f.n; k++) {
            snprintf(id, sizeof id, "%zu", k);
            cr_assert_str_eq(f.ids[k], id);
        }
        scan_file("a", as_csv ? "csv" : "jsonl", "\"idField\":\"id\",\"pageRecords\":7", "record");
        found_is_good(&f, 2500);
        cr_expect_eq(f.pages, 1u);
        free(text);
    }
}

static void rename_over(size_t page)
{
    if (page == 2)
        shell("cp '%s' '%s.new' && mv '%s.new' '%s'", in_folder("a"), in_folder("a"), in_folder("a"),
              in_folder("a"));
}

static void write_anew(size_t page)
{
    char *text = many_lines(100, false);

    text[7] = 'x'; /* {"id":x */
    if (page == 2)
        put_file("a", text);
    free(text);
}

static void shorten(size_t page)
{
    if (page == 2)
        cr_assert_eq(truncate(in_folder("a"), 40), 0);
}

static void append(size_t page)
{
    if (page == 2)
        grow_file("a", "{\"id\":\"more\"}\n");
}

static void remove_it(size_t page)
{
    if (page == 2)
        unlink(in_folder("a"));
}

Test(source_file, a_file_that_was_replaced_during_a_scan_is_noticed)
{
    static const struct {
        void (*change)(size_t page);
        const char *code, *says;
    } changes[] = {
        { rename_over, "FileReplaced", "was replaced by another file while it was read (after line 20)" },
        { write_anew, "FileReplaced", "was written anew while it was read" },
        { shorten, "FileReplaced", "became shorter while it was read" },
        { remove_it, "FileMissing", "no such file or folder" },
    };
    char *text = many_lines(100, false);

    for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
        put_file("a", text);
        f.between = changes[k].change;
        scan_file("a", "jsonl", "\"idField\":\"id\",\"pageRecords\":10", "storage");
        found_fails(&f, EXJ_R_FAILED, changes[k].code, changes[k].says);
        cr_expect_eq(f.n, 20u);
    }
    put_file("a", text);
    f.between = append; /* that is no replacement */
    scan_file("a", "jsonl", "\"idField\":\"id\",\"pageRecords\":10", "storage");
    found_is_good(&f, 101);
    f.between = NULL;
    free(text);
}

Test(source_file, a_cursor_of_somebody_else_is_refused)
{
    put_file("a", "{\"a\":1}\n");
    for (int k = 0; k < 4; k++) {
        static const char *const bads[] = { "\"\"", "\"7\"", "\"1 1 1 -1 1 1 1 0 0\"",
                                            "\"1 1 1 1 0 1 1 0123456789abcdef 0123456789abcdef\"" };

        found_release(&f);
        snprintf(f.cursor, sizeof f.cursor, "%s", bads[k]);
        one_page(&plain, &f, "storage", input_of("a", "jsonl", ""));
        found_fails(&f, EXJ_R_INPUT, "BadCursor", "is none of this plugin's");
    }
}

Test(source_file, it_stops_when_no_more_is_wanted_and_fails_when_a_record_is_refused)
{
    char *text = many_lines(100, false);

    put_file("a", text);
    f.stop_at = 5;
    scan_file("a", "jsonl", "", "storage");
    cr_expect_eq(f.result, EXJ_R_CANCELLED);
    cr_expect_eq(f.n, 5u);
    f.stop_at = 0;
    f.refuse_at = 4;
    scan_file("a", "jsonl", "\"onBadLine\":\"skip\"", "storage");
    found_fails(&f, EXJ_R_INPUT, "RecordRefused", "line 4, or one before it");
    f.refuse_at = 0;
    free(text);
}

/* ---- quarantine ---------------------------------------------------------------------------------- */

Test(source_file, bad_lines_are_put_aside_once_however_often_the_file_is_scanned)
{
    char *text;
    json_t *o;

    for (int k = 0; k < 3; k++) {
        jsonl("{\"a\":1}\nnot json\n{\"a\":\xff}\n{\"a\":3}\nnot json\n", "\"onBadLine\":\"quarantine\"");
        found_is_good(&f, 2);
        cr_expect_eq(lines_in("a.jsonl.bad.jsonl"), 3u);
    }
    text = file_text("a.jsonl.bad.jsonl");
    o = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    cr_assert_not_null(o);
    cr_expect_str_eq(json_string_value(json_object_get(o, "text")), "not json");
    cr_expect_eq(json_integer_value(json_object_get(o, "line")), 2);
    cr_expect_eq(json_integer_value(json_object_get(o, "column")), 1);
    cr_expect_str_eq(json_string_value(json_object_get(o, "file")), in_folder("a.jsonl"));
    says(json_string_value(json_object_get(o, "reason")), "no JSON object");
    says(text, "\"base64\":\"eyJhIjr/fQ==\"");
    json_decref(o);
    free(text);
    grow_file("a.jsonl", "bad again\n");
    scan_file("a.jsonl", "jsonl", "\"onBadLine\":\"quarantine\",\"pageRecords\":1", "storage");
    found_is_good(&f, 2);
    cr_expect_eq(lines_in("a.jsonl.bad.jsonl"), 4u);
}

Test(source_file, bad_lines_go_into_the_file_that_is_named)
{
    char more[300];

    snprintf(more, sizeof more, "\"onBadLine\":\"quarantine\",\"quarantineFile\":\"%s\"",
             in_folder("bad"));
    put_file("bad", "a torn line");
    csv("a,b\n1\n2,3\n", more);
    found_is_good(&f, 1);
    cr_expect_eq(lines_in("bad"), 2u);
    cr_expect_neq(access(in_folder("a.csv.bad.jsonl"), F_OK), 0);
    snprintf(more, sizeof more, "\"onBadLine\":\"quarantine\",\"quarantineFile\":\"/nowhere/bad\"");
    csv("a,b\n1\n2,3\n", more);
    found_fails(&f, EXJ_R_FAILED, "NotPutAside", "/nowhere/bad: no such file or folder");
    snprintf(more, sizeof more, "\"onBadLine\":\"quarantine\",\"quarantineFile\":\"%s\"",
             in_folder("bad"));
    cr_assert_eq(truncate(in_folder("bad"), 64 << 20), 0);
    csv("a,b\n7\n2,3\n", more);
    found_fails(&f, EXJ_R_FAILED, "NotPutAside", "full of bad lines");
}

/* ---- folders ------------------------------------------------------------------------------------- */

Test(source_file, the_files_of_a_folder_come_sorted_page_by_page)
{
    char path[400], text[40];

    cr_assert_eq(mkdir(in_folder("d"), 0700), 0);
    cr_assert_eq(mkdir(in_folder("d/sub.txt"), 0700), 0);
    cr_assert_eq(symlink("/etc/passwd", in_folder("d/link.txt")), 0);
    put_file("d/.hidden.txt", "x");
    put_file("d/other.log", "x");
    for (int k = 25; k > 0; k--) {
        snprintf(path, sizeof path, "d/f%02d.txt", k);
        snprintf(text, sizeof text, "text %d", k);
        put_file(path, text);
    }
    scan_file("d", "directory", "\"glob\":\"*.txt\",\"pageRecords\":4,\"text\":true", "storage");
    found_is_good(&f, 25);
    cr_expect_eq(f.pages, 7u);
    for (int k = 0; k < 25; k++) {
        snprintf(text, sizeof text, "f%02d.txt", k + 1);
        cr_expect_str_eq(f.ids[k], text);
    }
    snprintf(path, sizeof path, "{\"path\":\"%s/d/f01.txt\",\"name\":\"f01.txt\",\"size\":6,"
             "\"modifiedAt\":\"20", folder);
    says(f.records[0], path);
    says(f.records[0], "Z\",\"text\":\"text 1\"}");
    scan_file("d", "directory", "\"pageRecords\":4,\"ids\":\"version\"", "record");
    found_is_good(&f, 26);
    says(f.ids[0], "f01.txt@");
    scan_file("d", "directory", "\"text\":true,\"maxTextBytes\":6", "storage");
    says(f.records[24], "\"text\":null"); /* "text 25" */
    put_file("d/bad\nname", "");
    scan_file("d", "directory", "\"pageRecords\":4", "storage");
    found_fails(&f, EXJ_R_INPUT, "BadLine", "control byte 0x0a");
    scan_file("d", "directory", "\"onBadLine\":\"skip\"", "storage");
    found_is_good(&f, 26);
}

/* ---- what is refused ------------------------------------------------------------------------------ */

Test(source_file, an_input_is_judged_and_says_what_is_wanted)
{
    static const struct {
        const char *input, *why;
    } bads[] = {
        { "[]", "payload.input: wanted an object" },
        { "{}", "input.path is missing" },
        { "{\"path\":\"/x\"}", "input.format is missing" },
        { "{\"path\":\"/x\",\"format\":\"xml\"}", "input.format: \"xml\": wanted one of jsonl, csv, directory" },
        { "{\"path\":\"\",\"format\":\"csv\"}", "input.path: \"\": wanted a text of 1 to" },
        { "{\"path\":\"a\\u0001\",\"format\":\"csv\"}", "without control bytes" },
        { "{\"path\":7,\"format\":\"csv\"}", "input.path: 7" },
        { "{\"path\":\"x\",\"format\":\"csv\"}", "x: wanted an absolute path, or a root" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"glob\":\"*\"}", "\"glob\" is no member of format csv; wanted format, path" },
        { "{\"path\":\"/x\",\"format\":\"jsonl\",\"types\":{}}", "\"types\" is no member of format jsonl" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"path\":\"/y\"}", "input.path stands there twice" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"onBadLine\":\"no\"}", "wanted one of stop, skip, quarantine" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"pageRecords\":0}", "input.pageRecords: 0: wanted 1 to 5000" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"maxLineBytes\":1048577}", "wanted 16 to 1048576" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"delimiter\":\";;\"}", "input.delimiter: \";;\": wanted one character" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"delimiter\":\"\\n\"}", "wanted one character" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"quote\":\",\"}", "are the same" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"header\":false}", "input.columns is missing" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"columns\":[\"a\",\"a\"]}", "a comes twice" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"types\":{\"a\":\"date\"}}", "wanted one of string, number, integer, boolean" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"idField\":\"a\",\"ids\":\"line\"}", "wanted one of them" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"quarantineFile\":\"/y\"}", "wanted only with" },
        { "{\"path\":\"/x\",\"format\":\"csv\",\"onBadLine\":\"quarantine\",\"quarantineFile\":\"/x\"}", "is the file that is read" },
        { "{\"path\":\"/x\",\"format\":\"directory\",\"glob\":\"a/b\"}", "without '/'" },
        { "{\"path\":\"/x\",\"format\":\"directory\",\"ids\":\"line\"}", "wanted one of name, version" },
        { "{\"path\":\"/x\",\"format\":\"directory\",\"text\":1}", "wanted true or false" },
        { "{\"path\":\"/nowhere/x\",\"format\":\"csv\"}", "/nowhere/x: no such file or folder" },
        { "{\"path\":\"/dev/null\",\"format\":\"csv\"}", "/dev/null: wanted a regular file" },
        { "{\"path\":\"/usr\",\"format\":\"csv\"}", "or \"format\": \"directory\"" },
        { "{\"path\":\"/dev/null\",\"format\":\"directory\"}", "/dev/null: a part of the path is no folder" },
    };
    for (size_t k = 0; k < sizeof bads / sizeof *bads; k++) {
        scan_all(&plain, &f, "storage", bads[k].input);
        cr_expect(f.result == EXJ_R_INPUT || f.result == EXJ_R_FAILED, "%s", bads[k].input);
        says(f.text, bads[k].why);
    }
}

static void ask_below(const char *config, const char *path)
{
    struct source s = source_new(SOURCE_FILE_SO, config);
    char input[700];

    snprintf(input, sizeof input, "{\"path\":\"%s\",\"format\":\"jsonl\",\"idField\":\"a\"}", path);
    scan_all(&s, &f, "storage", input);
    source_close(&s);
}

Test(source_file, no_path_leads_out_of_a_root)
{
    char config[200], path[300];

    cr_assert_eq(mkdir(in_folder("root"), 0700), 0);
    cr_assert_eq(mkdir(in_folder("root/in"), 0700), 0);
    put_file("root/in/a", "{\"a\":1}\n");
    put_file("secret", "{\"a\":\"secret\"}\n");
    cr_assert_eq(symlink("../secret", in_folder("root/link")), 0);
    cr_assert_eq(symlink("..", in_folder("root/up")), 0);
    snprintf(config, sizeof config, "{\"root\":\"%s/root\"}", folder);
    ask_below(config, "in/a");
    found_is_good(&f, 1);
    ask_below(config, ".//in//./a");
    found_is_good(&f, 1);
    ask_below(config, in_folder("root/in/a"));
    found_is_good(&f, 1);
    ask_below(config, "../secret");
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "\"..\" is refused below a root: config.root");
    ask_below(config, "in/../../secret");
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "\"..\" is refused");
    ask_below(config, "link");
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "a symbolic link");
    ask_below(config, "up/secret");
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "a symbolic link");
    ask_below(config, in_folder("secret"));
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "lies outside of config.root");
    snprintf(path, sizeof path, "%s/root2", folder);
    ask_below(config, path);
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "lies outside of config.root");
    /* The operator's root is the outer one. */
    setenv("EXELLIX_PLUGIN_SOURCE_ROOT", in_folder("root"), 1);
    ask_below("{}", "in/a");
    found_is_good(&f, 1);
    ask_below("{}", in_folder("secret"));
    found_fails(&f, EXJ_R_FAILED, "FileNotOpened", "lies outside of EXELLIX_PLUGIN_SOURCE_ROOT");
    unsetenv("EXELLIX_PLUGIN_SOURCE_ROOT");
}

static void config_is_refused(const char *config, const char *why)
{
    exj_registry *r = sources_registry();
    exj_instance *i = NULL;
    exj_guest *g = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_find(r, SOURCE_FILE_SO, EXJ_KIND_SOURCE_RESOLVER, &g, &err), EXJ_OK);
    cr_expect_neq(exj_instance_new(g, exj_slice_of(config), &i, &err), EXJ_OK, "%s", config);
    says(err.text, why);
    exj_guest_release(g);
    exj_registry_free(r);
}

Test(source_file, its_config_is_judged)
{
    config_is_refused("{\"path\":\"/x\"}", "\"path\" is no member; wanted root");
    config_is_refused("{\"root\":\"x\"}", "wanted the absolute path of a folder");
    config_is_refused("{\"root\":\"/x/../y\"}", "without \"..\"");
    setenv("EXELLIX_PLUGIN_SOURCE_ROOT", "/srv/in", 1);
    config_is_refused("{\"root\":\"/srv/inside\"}", "lies outside of EXELLIX_PLUGIN_SOURCE_ROOT");
    unsetenv("EXELLIX_PLUGIN_SOURCE_ROOT");
}

Test(source_file, in_a_plugin_host_it_does_the_same)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    struct source s = source_open(h->r.registry, SOURCE_FILE_SO, "{}");
    char *text = many_lines(300, false);

    put_file("a", text);
    grow_file("a", "oops\n");
    for (int k = 0; k < 2; k++) {
        scan_all(&s, &f, "storage", input_of("a", "jsonl", "\"idField\":\"id\",\"pageRecords\":100,"
                                                           "\"onBadLine\":\"quarantine\""));
        found_is_good(&f, 300);
        cr_expect_eq(f.pages, 4u);
        cr_expect_eq(lines_in("a.bad.jsonl"), 1u);
    }
    source_close(&s);
    house_close(h);
    free(text);
}
