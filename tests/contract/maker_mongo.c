/* The MongoDB store, on the server that the program was started with (tests/support/with_mongo.c).
 * A fixture's data are two databases, named after its folder. */
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "core/store/mongo/client.h"
#include "core/store/mongo/mongo.h"

static exj_msec fake_now(void *t)
{
    return ((struct fake_time *)t)->wall_ms;
}

static void names_of(const char *dir, char exec[80], char config[80])
{
    const char *name = strrchr(dir, '/');

    snprintf(exec, 80, "run%s", name ? name + 1 : dir);
    snprintf(config, 80, "conf%s", name ? name + 1 : dir);
}

static exj_code open_mongo(const char *dir, const char *note, struct fake_time *t, exj_store **ret,
                           exj_err *err)
{
    char exec[80], config[80];
    exj_mstore_options o = { .uri = getenv("EXJ_TEST_MONGO_URI"), .execution_db = exec,
                             .config_db = config, .lease_ms = LEASE, .init = true };
    exj_mstore_seam seam = { .now_ms = fake_now, .user = t };

    (void)note;
    names_of(dir, exec, config);
    return exj_mstore_open(&o, &seam, ret, err);
}

static void wipe(const char *dir)
{
    char exec[80], config[80];

    names_of(dir, exec, config);
    for (int i = 0; i < 2; i++) {
        bson_t drop = BSON_INITIALIZER, reply;
        exj_mongo *m;
        exj_mongo_client *c;

        cr_assert_eq(exj_mongo_open(getenv("EXJ_TEST_MONGO_URI"), LEASE, 1, &m, NULL), EXJ_OK);
        cr_assert_eq(exj_mongo_client_take(m, &c, NULL), EXJ_OK);
        BSON_APPEND_INT32(&drop, "dropDatabase", 1);
        exj_mongo_write(c, i ? exec : config, &drop, EXJ_MONGO_WRITE_MANY, EXJ_MONGO_MAJORITY,
                        &reply, NULL);
        bson_destroy(&reply);
        bson_destroy(&drop);
        exj_mongo_client_give(c);
        exj_mongo_close(m);
    }
}

static const char *missing(void)
{
    return getenv("EXJ_TEST_MONGO_URI") ? NULL : "no server: start it by with_mongo";
}

static const struct store_maker list[] = {
    { .name = "mongodb",
      .shared = true,
      .needs_server = true,
      .scale = 10,
      .large_bytes = 256 * 1024,
      .kv_keys = 100,
      .kv_bytes = 1 << 20,
      .missing = missing,
      .open = open_mongo,
      .wipe = wipe },
};

const struct store_makers mongo_makers = { list, sizeof(list) / sizeof(*list) };
