#include <criterion/criterion.h>
#include <string.h>

#include "tests/support/chaos_wire.h"
#include "tests/support/support.h"

/* {ping: 1} */
#define PING "\x0f\0\0\0\x10ping\0\x01\0\0\0\0"

static size_t message(uint8_t *p, uint32_t op, const char *body, size_t n)
{
    uint32_t length = (uint32_t)(EXJ_WIRE_HEADER + n);

    memcpy(p, &length, 4); /* the tests' machines are little-endian */
    memcpy(p + 4, &(uint32_t){ 7 }, 4);
    memcpy(p + 8, &(uint32_t){ 5 }, 4);
    memcpy(p + 12, &op, 4);
    memcpy(p + EXJ_WIRE_HEADER, body, n);
    return length;
}

#define COMMAND(op, body, ret)                                                           \
    exj_wire_command(m, message(m, op, body, sizeof(body) - 1), ret)

Test(wire, names_the_command_of_a_message)
{
    uint8_t m[256];
    char name[32];

    COMMAND(2013, "\0\0\0\0\0" PING, name);
    cr_assert_str_eq(name, "ping");
    cr_assert_eq(exj_wire_id(m), 7);
    cr_assert_eq(exj_wire_reply_to(m), 5);
    /* a sequence of documents before the body */
    COMMAND(2013, "\0\0\0\0\x01\x06\0\0\0x\0\0" PING, name);
    cr_assert_str_eq(name, "ping");
    COMMAND(2004, "\0\0\0\0admin.$cmd\0\0\0\0\0\xff\xff\xff\xff" PING, name);
    cr_assert_str_eq(name, "ping");
    COMMAND(2012, "\0\0\0\0\0" PING, name);
    cr_assert_str_eq(name, "");
}

Test(wire, tells_lengths_and_refuses_what_is_no_message)
{
    cr_assert_eq(exj_wire_length((const uint8_t *)"\x20\0\0", 3), 0);
    cr_assert_eq(exj_wire_length((const uint8_t *)"\x20\0\0\0", 4), 32);
    cr_assert_eq(exj_wire_length((const uint8_t *)"\x0f\0\0\0", 4), SIZE_MAX);
    cr_assert_eq(exj_wire_length((const uint8_t *)"GET / HTTP", 10), SIZE_MAX);
}

Test(wire, any_bytes_give_a_name_or_none)
{
    uint64_t random = exj_test_seed("wire");
    char name[32];

    for (int i = 0; i < 20000; i++) {
        size_t n = exj_test_random(&random) % 64;
        uint8_t *m = malloc(n ? n : 1); /* of exactly this size, for the sanitizer */

        cr_assert(m);
        for (size_t k = 0; k < n; k++)
            m[k] = (uint8_t)(exj_test_random(&random) % (k % 3 ? 256 : 8));
        if (n > 14)
            memcpy(m + 12, i % 2 ? "\xdd\x07" : "\xd4\x07", 2);
        exj_wire_command(m, n, name);
        cr_assert_lt(strlen(name), sizeof(name));
        free(m);
    }
}
