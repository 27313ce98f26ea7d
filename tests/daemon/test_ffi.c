/* tests/daemon/test_ffi.c - the example examples/checksum as its script runs it: the program,
 * its plugin host, exellix.ffi in it, zlib in that. And the command `ffi verify`. */
#include "tests/daemon/cli_support.h"

#include <sys/stat.h>
#include <unistd.h>

#define FFI_SO EXJ_BINARY_DIR "/bin/plugins/ffi.so"
#define SOURCE_SO EXJ_BINARY_DIR "/examples/plugins/checksum-source.so"
#define CONFIG EXJ_SOURCE_DIR "/examples/checksum/config"

TestSuite(ffi_example, .init = cli_setup, .fini = cli_teardown);

/* CRC-32 bit by bit: slow, short, and not zlib's. */
static uint32_t crc_of(const char *p, size_t n)
{
    uint32_t crc = UINT32_MAX;

    for (size_t k = 0; k < n; k++) {
        crc ^= (unsigned char)p[k];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void copy_into(const char *folder, const char *file)
{
    char line[1200];

    snprintf(line, sizeof(line), "cp '%s' '%s/'", file, folder);
    cr_assert_eq(system(line), 0);
}

/* The plugins of the example and its configs, pointed at a folder with some files. */
static void set_the_table(void)
{
    static char executor[] = "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP=exellix.ffi";
    char line[2000];

    if (access(FFI_SO, R_OK) != 0)
        cr_skip("built without libffi");
    mkdir(exj_tmp_path(&tmp, "plugins"), 0700);
    mkdir(exj_tmp_path(&tmp, "config"), 0700);
    mkdir(exj_tmp_path(&tmp, "files"), 0700);
    mkdir(exj_tmp_path(&tmp, "files/below"), 0700);
    copy_into(exj_tmp_path(&tmp, "plugins"), FFI_SO);
    copy_into(exj_tmp_path(&tmp, "plugins"), SOURCE_SO);
    copy_into(exj_tmp_path(&tmp, "config"), CONFIG "/graph.json");
    snprintf(line, sizeof(line), "sed 's|/usr/share/common-licenses|%s|' " CONFIG
             "/matrix.json > '%s'", exj_tmp_path(&tmp, "files"),
             exj_tmp_path(&tmp, "config/matrix.json"));
    cr_assert_eq(system(line), 0);
    snprintf(env_plugins, sizeof(env_plugins), "EXELLIX_JOBS_PLUGINS_DIR=%s",
             exj_tmp_path(&tmp, "plugins"));
    env[2] = executor;
}

/* The row of a file: its JSON. The id is looked up in the list. */
static json_t *row_of(const char *name)
{
    char want[300], id[600] = "";
    json_t *row;

    cr_assert_eq(RUN("rows", "list", "--matrix", "checksums"), 0, "%s", said_err);
    snprintf(want, sizeof(want), "checksums||checksum|%s@", name);
    for (char *line = strtok(said_out, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, want, strlen(want)) == 0)
            snprintf(id, sizeof(id), "%.*s", (int)strcspn(line, "\t"), line);
    cr_assert(*id, "no row of %s", name);
    cr_assert_eq(RUN("rows", "show", id, "--json"), 0, "%s", said_err);
    row = json_loads(said_out, 0, NULL);
    cr_assert(row, "%s", said_out);
    return row;
}

static void row_has_crc_of(const char *name, const char *path)
{
    json_t *row = row_of(name);
    json_t *nodes = json_object_get(json_object_get(row, "result"), "outputsByNodeId");
    size_t n;
    char *text = exj_slurp(path, &n);

    cr_assert_eq(json_integer_value(json_object_get(json_object_get(nodes, "read"), "return")),
                 (json_int_t)n, "%s", said_out);
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(nodes, "crc"), "return")),
                 (json_int_t)crc_of(text, n), "%s", said_out);
    free(text);
    json_decref(row);
}

Test(ffi_example, files_get_the_checksum_zlib_gives_them)
{
    const char *big;
    FILE *f;

    set_the_table();
    exj_spit(exj_tmp_path(&tmp, "files/empty"), "");
    exj_spit(exj_tmp_path(&tmp, "files/below/hello"), "hello, world\n");
    exj_spit(exj_tmp_path(&tmp, "files/umlaut \xc3\xa4"), "x");
    copy_into(exj_tmp_path(&tmp, "files"), FFI_SO);
    big = exj_tmp_path(&tmp, "files/too-big");
    f = fopen(big, "w");
    cr_assert(f && fclose(f) == 0 && truncate(big, 16777216) == 0);

    cr_assert_eq(RUN("apply", "-f", "config"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle"), 8, "%s", said_err); /* one row is dead */
    cr_assert(strstr(said_out, "4 completed, 1 failed"), "%s", said_out);
    row_has_crc_of("empty", exj_tmp_path(&tmp, "files/empty"));
    row_has_crc_of("below/hello", exj_tmp_path(&tmp, "files/below/hello"));
    row_has_crc_of("umlaut \xc3\xa4", exj_tmp_path(&tmp, "files/umlaut \xc3\xa4"));
    row_has_crc_of("ffi.so", FFI_SO);
    json_decref(row_of("too-big"));
    cr_assert(strstr(said_out, "node whole: feof returned 0 (success is != 0)"), "%s", said_out);
}

Test(ffi_example, a_file_that_is_gone_is_explained_by_errno)
{
    char line[1200];
    json_t *row;

    set_the_table();
    exj_spit(exj_tmp_path(&tmp, "files/a"), "a");
    /* The manifest looks for another file than the record names. */
    snprintf(line, sizeof(line), "sed -i 's|{ \"from\": \"input.path\"|{ \"value\": \"/nowhere/a\"|' '%s'",
             exj_tmp_path(&tmp, "config/graph.json"));
    cr_assert_eq(system(line), 0);
    cr_assert_eq(RUN("apply", "-f", "config"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle"), 8, "%s", said_err);
    row = row_of("a");
    cr_assert(strstr(said_out, "ENOENT"), "%s", said_out);
    cr_assert(strstr(said_out, "fopen returned null (success is non-null): No such file"), "%s",
              said_out);
    json_decref(row);
}

Test(ffi_example, the_worker_survives_a_manifest_that_lies)
{
    static const char lie[] =
        "{\"graphId\":\"checksum\",\"payload\":{\"graphId\":\"checksum\",\"model\":{"
        "\"exellixFfi\":1,\"library\":\"libc.so.6\",\"functions\":[{\"node\":\"n\","
        "\"symbol\":\"strlen\",\"args\":[{\"value\":\"8\",\"type\":\"u64\"}],"
        "\"returns\":{\"type\":\"u64\"}}]}},\"publicationStatus\":\"Published\","
        "\"operationalState\":\"Running\"}";

    int status;

#ifdef __SANITIZE_ADDRESS__
    cr_skip("the sanitizer of the host would report the crash that is planned");
#endif
    set_the_table();
    exj_spit(exj_tmp_path(&tmp, "files/a"), "a");
    exj_spit(exj_tmp_path(&tmp, "config/graph.json"), lie);
    cr_assert_eq(RUN("apply", "-f", "config"), 0, "%s", said_err);
    status = RUN("run", "--until-idle");
    cr_assert(status == 0 || status == 8, "%d: %s", status, said_err); /* it ended by itself */
    json_decref(row_of("a"));
    cr_assert(!strstr(said_out, "\"status\":\"completed\""), "%s", said_out);
    cr_assert(strstr(said_out, "SIGSEGV"), "%s", said_out);
}

Test(ffi_command, verify_reads_a_manifest, .init = cli_setup, .fini = cli_teardown)
{
    int status;

    if (access(EXJ_BINARY_DIR "/bin/exellix-jobs-ffi-verify", X_OK) != 0) {
        cr_assert_eq(RUN("ffi", "verify", CONFIG "/graph.json"), 3);
        cr_assert(strstr(said_err, "libdw-dev"), "%s", said_err);
        return;
    }
    cr_assert_eq(RUN("ffi", "verify", "--no-dwarf", CONFIG "/graph.json"), 0, "%s", said_err);
    cr_assert(strstr(said_out, "well formed: 4 functions"), "%s", said_out);
    /* 2 where libc and zlib have no debug packages, which is almost everywhere. */
    status = RUN("ffi", "verify", "--json", CONFIG "/graph.json");
    cr_assert(status == 2 || status == 0, "%d: %s %s", status, said_out, said_err);
    cr_assert(strstr(said_out, "\"symbol\":\"fclose\""), "%s", said_out);
    cr_assert_eq(RUN("ffi", "verify"), 2);
    cr_assert(strstr(said_err, "'ffi verify' needs MANIFEST"), "%s", said_err);
    cr_assert_eq(RUN("ffi", "verify", "nowhere.json"), 1);
    cr_assert(strstr(said_err, "nowhere.json: No such file"), "%s", said_err);
}
