/* make test: every record of the query, and a host that has had enough. */
#include "host.h"

#define RUNTIME                                                                            \
    "{\"matrixCatalogId\":\"test\",\"matrixRunId\":null,\"kind\":\"record\","               \
    "\"cursor\":null,\"config\":{}}"

int main(int argc, char **argv)
{
    const exj_plugin *p = exellix_plugin_v1(EXJ_ABI_MINOR)->plugins[0];
    char *query = test_file(argc > 1 ? argv[1] : "test/query.json");
    struct test_host h;
    exj_str id, record;

    test_host_init(&h);
    EXPECT(test_run(&h, p, query, RUNTIME) == EXJ_R_OK);
    EXPECT(h.emits == 3);
    for (unsigned i = 0; i < h.emits; i++) {
        printf("  record: %s\n", h.emitted[i]);
        EXPECT(exj_json_find(exj_text(h.emitted[i]), "id", &id) && exj_json_type(id) == '"');
        EXPECT(exj_json_find(exj_text(h.emitted[i]), "record", &record) &&
               exj_json_type(record) == '{');
    }

    test_host_next_attempt(&h);
    h.emits_most = 1;
    EXPECT(test_run(&h, p, query, RUNTIME) == EXJ_R_CANCELLED);
    EXPECT(h.emits == 1);

    test_host_release(&h);
    free(query);
    puts(test_failures ? "test: failed" : "test: ok");
    return test_failures != 0;
}
