#include <criterion/criterion.h>

#include "core/plugin/load.h"

static void cleans(const char *from, size_t n, size_t cap, const char *wanted)
{
    char to[64];

    cr_assert_eq(exj_clean_text(from, n, to, cap), strlen(wanted));
    cr_assert_str_eq(to, wanted);
}

Test(text, keeps_utf8_and_replaces_the_rest)
{
    cleans("a\xc3\xa4\xf0\x9f\x98\x80", 7, 64, "a\xc3\xa4\xf0\x9f\x98\x80");
    cleans("a\xff\xc0\x80\xed\xa0\x80z", 8, 64, "a??????z");
    cleans("a\n\0\x1b[", 5, 64, "a   [");
    cleans(NULL, 5, 64, "");
}

Test(text, is_cut_between_characters)
{
    cleans("ab\xc3\xa4", 4, 4, "ab"); /* room for one of two bytes */
    cleans("ab\xc3\xa4", 4, 5, "ab\xc3\xa4");
    cleans("ab\xc3", 3, 64, "ab?"); /* and never read past the end */
}

Test(copy_name, knows_its_own_only)
{
    cr_assert(exj_is_copy_name("stub-1-0123456789abcdef.so"));
    cr_assert(exj_is_copy_name("my_plug.in-207-0123456789abcdef.so"));
    cr_assert_not(exj_is_copy_name("stub.so"));
    cr_assert_not(exj_is_copy_name("0123456789abcdef.so"));
    cr_assert_not(exj_is_copy_name("-0123456789abcdef.so"));
    cr_assert_not(exj_is_copy_name("stub-0123456789abcdef.so"));
    cr_assert_not(exj_is_copy_name("stub-x-0123456789abcdef.so"));
    cr_assert_not(exj_is_copy_name("stub-1-0123456789ABCDEF.so"));
    cr_assert_not(exj_is_copy_name("stub-1-0123456789abcdef.so.bak"));
}
