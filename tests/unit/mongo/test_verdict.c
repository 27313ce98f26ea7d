#include "core/store/mongo/verdict.h"

#include <criterion/criterion.h>
#include <mongoc/mongoc.h>

#define SERVER MONGOC_ERROR_SERVER
#define R EXJ_MONGO_READ
#define ONE EXJ_MONGO_WRITE_ONE
#define MANY EXJ_MONGO_WRITE_MANY

/* What is meant for a read, for a write of one document and for one of many. */
static void means(uint32_t domain, uint32_t code, exj_code read, exj_code one, exj_code many)
{
    cr_expect_eq(exj_mongo_verdict(domain, code, 0, R), read, "read %u/%u is %s", domain, code,
                 exj_code_name(exj_mongo_verdict(domain, code, 0, R)));
    cr_expect_eq(exj_mongo_verdict(domain, code, 0, ONE), one, "one %u/%u is %s", domain, code,
                 exj_code_name(exj_mongo_verdict(domain, code, 0, ONE)));
    cr_expect_eq(exj_mongo_verdict(domain, code, 0, MANY), many, "many %u/%u is %s", domain,
                 code, exj_code_name(exj_mongo_verdict(domain, code, 0, MANY)));
}

Test(mongo_verdict, a_server_that_is_not_primary_applied_nothing_of_one_write)
{
    static const uint32_t codes[] = { 10107, 13435, 10058 };

    for (size_t i = 0; i < 3; i++)
        means(SERVER, codes[i], EXJ_IO, EXJ_IO, EXJ_UNKNOWN);
}

Test(mongo_verdict, an_interrupted_write_is_in_doubt)
{
    static const uint32_t codes[] = { 6, 7, 50, 89, 91, 189, 202, 262, 9001, 11600, 11601, 11602 };

    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        means(SERVER, codes[i], EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
}

Test(mongo_verdict, a_code_that_nobody_knows_is_in_doubt)
{
    for (uint32_t code = 60000; code < 60010; code++)
        means(SERVER, code, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
    means(SERVER, 0, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
    means(99, 1, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
}

Test(mongo_verdict, what_is_not_allowed_stays_so)
{
    static const uint32_t codes[] = { 9, 13, 20, 26, 27, 59, 72, 73, 85, 86, 115, 291, 40324 };

    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        means(SERVER, codes[i], EXJ_REFUSED, EXJ_REFUSED, EXJ_REFUSED);
    cr_expect_not_null(strstr(exj_mongo_advice(SERVER, 13, 0), "readWrite"));
}

Test(mongo_verdict, a_document_is_refused_but_those_before_it_may_be_done)
{
    static const uint32_t codes[] = { 2, 14, 66, 121, 10334, 17419 };

    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        means(SERVER, codes[i], EXJ_REFUSED, EXJ_REFUSED, EXJ_UNKNOWN);
}

Test(mongo_verdict, a_bad_hint_is_refused_before_anything_is_done)
{
    cr_expect_eq(exj_mongo_verdict(SERVER, 2, EXJ_MONGO_LABEL_HINT, MANY), EXJ_REFUSED);
    cr_expect_not_null(strstr(exj_mongo_advice(SERVER, 2, EXJ_MONGO_LABEL_HINT), "store init"));
}

Test(mongo_verdict, a_duplicate_key_is_a_conflict)
{
    means(SERVER, 11000, EXJ_CONFLICT, EXJ_CONFLICT, EXJ_UNKNOWN);
    means(SERVER, 11001, EXJ_CONFLICT, EXJ_CONFLICT, EXJ_UNKNOWN);
}

Test(mongo_verdict, a_write_concern_that_was_not_met_is_in_doubt)
{
    means(MONGOC_ERROR_WRITE_CONCERN, 64, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
    means(MONGOC_ERROR_WRITE_CONCERN, 79, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
    means(MONGOC_ERROR_WRITE_CONCERN, 10107, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
}

Test(mongo_verdict, a_connection_that_never_stood_carried_nothing)
{
    means(MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_NAME_RESOLUTION, EXJ_IO, EXJ_IO, EXJ_IO);
    means(MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT, EXJ_IO, EXJ_IO, EXJ_IO);
    means(MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_NOT_ESTABLISHED, EXJ_IO, EXJ_IO, EXJ_IO);
    means(MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE, EXJ_IO, EXJ_IO,
          EXJ_IO);
}

Test(mongo_verdict, a_connection_that_broke_is_in_doubt)
{
    means(MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN);
    means(MONGOC_ERROR_PROTOCOL, MONGOC_ERROR_PROTOCOL_INVALID_REPLY, EXJ_IO, EXJ_UNKNOWN,
          EXJ_UNKNOWN);
}

Test(mongo_verdict, a_refused_login_applied_nothing)
{
    means(SERVER, 18, EXJ_IO, EXJ_IO, EXJ_IO);
    means(MONGOC_ERROR_CLIENT, MONGOC_ERROR_CLIENT_AUTHENTICATE, EXJ_IO, EXJ_IO, EXJ_IO);
    means(MONGOC_ERROR_SCRAM, MONGOC_ERROR_SCRAM_PROTOCOL_ERROR, EXJ_IO, EXJ_IO, EXJ_IO);
    means(MONGOC_ERROR_SASL, 1, EXJ_IO, EXJ_IO, EXJ_IO);
    cr_expect_not_null(
        strstr(exj_mongo_advice(MONGOC_ERROR_CLIENT, MONGOC_ERROR_CLIENT_AUTHENTICATE, 0),
               "authSource"));
}

Test(mongo_verdict, a_server_too_old_is_refused)
{
    means(MONGOC_ERROR_PROTOCOL, MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION, EXJ_REFUSED,
          EXJ_REFUSED, EXJ_REFUSED);
    means(MONGOC_ERROR_COMMAND, MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION, EXJ_REFUSED,
          EXJ_REFUSED, EXJ_REFUSED);
}

Test(mongo_verdict, our_own_mistakes_are_called_so)
{
    means(MONGOC_ERROR_COMMAND, MONGOC_ERROR_COMMAND_INVALID_ARG, EXJ_BUG, EXJ_BUG, EXJ_BUG);
    means(MONGOC_ERROR_BSON, MONGOC_ERROR_BSON_INVALID, EXJ_BUG, EXJ_BUG, EXJ_BUG);
    means(MONGOC_ERROR_CLIENT, MONGOC_ERROR_CLIENT_TOO_BIG, EXJ_REFUSED, EXJ_REFUSED,
          EXJ_REFUSED);
}

Test(mongo_verdict, labels_say_what_the_code_does_not)
{
    cr_expect_eq(exj_mongo_verdict(SERVER, 10107, EXJ_MONGO_LABEL_RETRYABLE, ONE), EXJ_UNKNOWN);
    cr_expect_eq(exj_mongo_verdict(SERVER, 11602, EXJ_MONGO_LABEL_NO_WRITES, ONE), EXJ_IO);
    cr_expect_eq(exj_mongo_verdict(SERVER, 11602,
                                   EXJ_MONGO_LABEL_NO_WRITES | EXJ_MONGO_LABEL_RETRYABLE, MANY),
                 EXJ_IO);
    cr_expect_eq(exj_mongo_verdict(MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET,
                                   EXJ_MONGO_LABEL_NO_WRITES, ONE),
                 EXJ_UNKNOWN);
    cr_expect_eq(exj_mongo_verdict(SERVER, 13, EXJ_MONGO_LABEL_RETRYABLE, ONE), EXJ_REFUSED);
    cr_expect_eq(exj_mongo_verdict(SERVER, 10107, EXJ_MONGO_LABEL_RETRYABLE, R), EXJ_IO);
}

Test(mongo_verdict, a_read_is_never_in_doubt_and_nothing_is_ever_right)
{
    for (uint32_t domain = 0; domain < 25; domain++)
        for (uint32_t code = 0; code < 20000; code++)
            for (uint32_t labels = 0; labels < 8; labels++) {
                exj_code read = exj_mongo_verdict(domain, code, labels, R);
                exj_code many = exj_mongo_verdict(domain, code, labels, MANY);

                cr_assert(read != EXJ_UNKNOWN && read != EXJ_OK && many != EXJ_OK);
                cr_assert(many != EXJ_CONFLICT, "%u/%u", domain, code);
            }
}

Test(mongo_verdict, the_graver_of_two_is_the_one_that_must_be_read_back)
{
    cr_expect_eq(exj_mongo_graver(EXJ_OK, EXJ_OK), EXJ_OK);
    cr_expect_eq(exj_mongo_graver(EXJ_OK, EXJ_CONFLICT), EXJ_CONFLICT);
    cr_expect_eq(exj_mongo_graver(EXJ_IO, EXJ_CONFLICT), EXJ_IO);
    cr_expect_eq(exj_mongo_graver(EXJ_IO, EXJ_REFUSED), EXJ_REFUSED);
    cr_expect_eq(exj_mongo_graver(EXJ_UNKNOWN, EXJ_REFUSED), EXJ_UNKNOWN);
    cr_expect_eq(exj_mongo_graver(EXJ_OK, EXJ_NOMEM), EXJ_NOMEM);
}
