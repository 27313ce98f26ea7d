/* tests/support/mongo_inside.h - between the files of tests/support/mongo_*.c only. */
#ifndef EXJ_TESTS_SUPPORT_MONGO_INSIDE_H
#define EXJ_TESTS_SUPPORT_MONGO_INSIDE_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

/* One command on database "admin" of a server, by a client of its own that connects
 * directly and waits `ms` at most. `reply` is always initialised; NULL: not wanted. On
 * false `ret_why` has the error. */
bool exj_mongo_admin(const char *uri, const bson_t *command, unsigned ms, bson_t *reply,
                     bson_error_t *ret_why);
/* mongoc_init, once in a process. */
void exj_mongo_once(void);

#endif /* EXJ_TESTS_SUPPORT_MONGO_INSIDE_H */
