#include "tests/support/mongo_fail.h"

#include <stdio.h>

#include "tests/support/mongo_inside.h"

static bool configure(const char *uri, const bson_t *command)
{
    bson_error_t why = { 0 };
    bool ok = exj_mongo_admin(uri, command, 10000, NULL, &why);

    if (!ok)
        fprintf(
            stderr,
            "mongo: no fail point: %s; the server has to be started with test commands "
            "(with_mongo --fail-points; mongod --setParameter enableTestCommands=1; "
            "secantusd-py --enable-test-commands)\n",
            why.message);
    return ok;
}

bool exj_test_mongo_fail_on(const char *uri, const exj_test_mongo_fail *f)
{
    bson_t *command, *commands;
    bson_t mode, data, concern;
    bool ok;

    if (f->times && f->skip) { /* a mongod would forget skip and say nothing */
        fprintf(stderr, "mongo: a fail point has times or skip, not both\n");
        return false;
    }
    command = BCON_NEW("configureFailPoint", "failCommand");
    commands = bson_new();
    if (f->times || f->skip) {
        bson_append_document_begin(command, "mode", -1, &mode);
        bson_append_int32(&mode, f->times ? "times" : "skip", -1,
                          f->times ? f->times : f->skip);
        bson_append_document_end(command, &mode);
    } else {
        bson_append_utf8(command, "mode", -1, "alwaysOn", -1);
    }
    for (int i = 0; i < 8 && f->commands[i]; i++) {
        char key[4];

        snprintf(key, sizeof(key), "%d", i);
        bson_append_utf8(commands, key, -1, f->commands[i], -1);
    }
    bson_append_document_begin(command, "data", -1, &data);
    bson_append_array(&data, "failCommands", -1, commands);
    if (f->error_code)
        bson_append_int32(&data, "errorCode", -1, f->error_code);
    if (f->close_connection)
        bson_append_bool(&data, "closeConnection", -1, true);
    if (f->write_concern_code) {
        bson_append_document_begin(&data, "writeConcernError", -1, &concern);
        bson_append_int32(&concern, "code", -1, f->write_concern_code);
        bson_append_utf8(&concern, "errmsg", -1, "told by a fail point", -1);
        bson_append_document_end(&data, &concern);
    }
    if (f->block_ms) {
        bson_append_bool(&data, "blockConnection", -1, true);
        bson_append_int32(&data, "blockTimeMS", -1, f->block_ms);
    }
    if (f->label) {
        bson_t *labels = BCON_NEW("0", BCON_UTF8(f->label));

        bson_append_array(&data, "errorLabels", -1, labels);
        bson_destroy(labels);
    }
    if (f->app_name)
        bson_append_utf8(&data, "appName", -1, f->app_name, -1);
    bson_append_document_end(command, &data);
    ok = configure(uri, command);
    bson_destroy(commands);
    bson_destroy(command);
    return ok;
}

bool exj_test_mongo_fail_off(const char *uri)
{
    bson_t *command = BCON_NEW("configureFailPoint", "failCommand", "mode", "off");
    bool ok = configure(uri, command);

    bson_destroy(command);
    return ok;
}
