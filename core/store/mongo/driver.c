#include "core/store/mongo/driver.h"

#include <mongoc/mongoc.h>
#include <pthread.h>

#include "core/base/log.h"

static void log_said(mongoc_log_level_t level, const char *domain, const char *message,
                     void *user)
{
    (void)domain;
    (void)user;
    if (level < MONGOC_LOG_LEVEL_TRACE)
        exj_log(EXJ_LOG_DEBUG, "mongo", "the driver says (%s): %s",
                mongoc_log_level_str(level), message);
}

static void start(void)
{
    mongoc_log_set_handler(log_said, NULL);
    mongoc_init();
}

void exj_mongo_driver_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, start);
}
