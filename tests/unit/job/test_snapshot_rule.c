/* dataSource.transform and dataSource.maxBytes in matrix documents. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/job/config.h"

static exj_code parse(const char *source, exj_matrix_config *ret, exj_err *err)
{
    char doc[400];

    snprintf(doc, sizeof doc,
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"dataSource\":%s}}", source);
    return exj_matrix_config_parse(exj_slice_of(doc), (exj_slice){ 0 }, ret, NULL, err);
}

static void refuses(const char *source, const char *words)
{
    exj_matrix_config c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(parse(source, &c, &err), EXJ_INVALID, "%s", source);
    cr_assert(strstr(err.text, words), "'%s' is not in '%s'", words, err.text);
    exj_matrix_config_release(&c);
}

#define KIND "\"kind\":\"query-snapshot\""

Test(snapshot_rule, what_is_not_said_has_a_default)
{
    exj_matrix_config c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(parse("{" KIND "}", &c, &err), EXJ_OK, "%s", err.text);
    cr_assert_null(c.snapshot.jq);
    cr_assert_eq(c.snapshot.query_bytes, 256u << 20);
    exj_matrix_config_release(&c);
    cr_assert_eq(parse("{" KIND ",\"transform\":{\"jq\":\".\"}}", &c, &err), EXJ_OK, "%s", err.text);
    cr_assert_str_eq(c.snapshot.jq, ".");
    cr_assert_eq(c.snapshot.memory_mb, 256);
    cr_assert_eq(c.snapshot.seconds, 30);
    cr_assert_eq(c.snapshot.bytes, 64u << 20);
    cr_assert_eq(c.snapshot.records, 1000000);
    exj_matrix_config_release(&c);
}

Test(snapshot_rule, what_is_said_is_taken)
{
    exj_matrix_config c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(parse("{" KIND ",\"maxBytes\":4294967296,\"transform\":{\"jq\":\"[.]\",\"memoryMB\":32,"
                       "\"timeoutSeconds\":3600,\"maxBytes\":1024,\"maxRecords\":1}}", &c, &err),
                 EXJ_OK, "%s", err.text);
    cr_assert_eq(c.snapshot.query_bytes, 4294967296ull);
    cr_assert_eq(c.snapshot.memory_mb, 32);
    cr_assert_eq(c.snapshot.seconds, 3600);
    cr_assert_eq(c.snapshot.bytes, 1024);
    cr_assert_eq(c.snapshot.records, 1);
    exj_matrix_config_release(&c);
}

Test(snapshot_rule, what_is_wrong_is_named)
{
    refuses("{" KIND ",\"transform\":{}}", "payload.dataSource.transform.jq: found 0 bytes");
    refuses("{" KIND ",\"transform\":\".\"}", "payload.dataSource.transform");
    refuses("{" KIND ",\"transform\":{\"jq\":7}}", "payload.dataSource.transform.jq");
    refuses("{" KIND ",\"transform\":{\"jq\":\".\",\"memory\":64}}", "memoryMB");
    refuses("{" KIND ",\"transform\":{\"jq\":\".\",\"memoryMB\":5000}}", "5000");
    refuses("{" KIND ",\"transform\":{\"jq\":\".\",\"timeoutSeconds\":0}}", "timeoutSeconds");
    refuses("{" KIND ",\"transform\":{\"jq\":\".\",\"maxBytes\":2000000000}}", "2000000000");
    refuses("{" KIND ",\"transform\":{\"jq\":\".\",\"maxRecords\":0}}", "maxRecords");
    refuses("{" KIND ",\"maxBytes\":5}", "payload.dataSource.maxBytes");
    refuses("{\"kind\":\"record\",\"transform\":{\"jq\":\".\"}}",
            "payload.dataSource.transform: only kind query-snapshot has it");
    refuses("{\"kind\":\"storage\",\"maxBytes\":100000}",
            "payload.dataSource.maxBytes: only kind query-snapshot has it");
}
