/* make test: one good record, one bad one. */
#include "host.h"

static char runtime[1 << 20];

static const char *runtime_of(const char *record)
{
    snprintf(runtime, sizeof runtime,
             "{\"jobId\":\"test||test|r-1\",\"job\":{\"matrixRowId\":\"test||test|r-1\","
             "\"matrixCatalogId\":\"test\",\"matrixRunId\":null,\"graphId\":\"test\","
             "\"attempt\":1},\"input\":%s,\"executionMemory\":{}}",
             record);
    return runtime;
}

int main(int argc, char **argv)
{
    const exj_plugin *p = exellix_plugin_v1(EXJ_ABI_MINOR)->plugins[0];
    char *record = test_file(argc > 1 ? argv[1] : "test/record.json");
    struct test_host h;
    exj_str answer, status;

    test_host_init(&h);
    EXPECT(test_run(&h, p, "{\"id\":\"test\",\"nodes\":[]}", runtime_of(record)) == EXJ_R_OK);
    EXPECT(h.emits == 1);
    answer = exj_text(h.emits ? h.emitted[0] : "");
    printf("  answer: %s\n", answer.p);
    EXPECT(exj_json_find(answer, "status", &status) &&
           exj_json_string_is(status, "completed"));

    test_host_next_attempt(&h);
    EXPECT(test_run(&h, p, "{\"id\":\"test\",\"nodes\":[]}", runtime_of("{}")) == EXJ_R_INPUT);
    EXPECT(h.emits == 0);
    EXPECT(strcmp(h.error_code, "NameMissing") == 0);

    test_host_release(&h);
    free(record);
    puts(test_failures ? "test: failed" : "test: ok");
    return test_failures != 0;
}
