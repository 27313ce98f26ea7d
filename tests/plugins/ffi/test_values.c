/* Values from JSON to C and back, type by type, through a real call. */
#include "tests/plugins/ffi/host.h"

#define IN(symbol, type, value, out) gives(ECHO(symbol, type), "{\"a\":" value "}", "{\"n\":{\"return\":" out "}}")
#define NOT(symbol, type, value, part)                                                    \
    refuses(ECHO(symbol, type), "{\"a\":" value "}", EXJ_R_INPUT, "InputInvalid", part)

Test(ffi_values, whole_numbers_reach_both_ends_of_their_width)
{
    IN("ft_i8", "i8", "-128", "-128");
    IN("ft_i8", "i8", "127", "127");
    IN("ft_u8", "u8", "255", "255");
    IN("ft_i16", "i16", "-32768", "-32768");
    IN("ft_i16", "i16", "32767", "32767");
    IN("ft_u16", "u16", "65535", "65535");
    IN("ft_i32", "i32", "-2147483648", "-2147483648");
    IN("ft_i32", "i32", "2147483647", "2147483647");
    IN("ft_u32", "u32", "4294967295", "4294967295");
    IN("ft_i64", "i64", "-9007199254740992", "-9007199254740992");
    IN("ft_u64", "u64", "9007199254740992", "9007199254740992");
    IN("ft_u64", "u64", "0", "0");
}

Test(ffi_values, numbers_out_of_range_are_refused_by_name_and_range)
{
    NOT("ft_i8", "i8", "-129", "-129 does not fit i8 (-128 to 127)");
    NOT("ft_i8", "i8", "128", "128 does not fit i8");
    NOT("ft_u8", "u8", "-1", "-1 does not fit u8 (0 to 255)");
    NOT("ft_u8", "u8", "256", "does not fit u8");
    NOT("ft_i16", "i16", "32768", "does not fit i16");
    NOT("ft_u16", "u16", "65536", "does not fit u16");
    NOT("ft_i32", "i32", "2147483648", "does not fit i32");
    NOT("ft_u32", "u32", "4294967296", "does not fit u32");
    NOT("ft_u64", "u64", "-1", "does not fit u64");
    NOT("ft_i8", "i8", "1.5", "1.5 is not a whole number");
    NOT("ft_i8", "i8", "\"1\"", "wanted a whole number (i8), found a string");
    NOT("ft_i8", "i8", "true", "found a boolean");
    NOT("ft_i8", "i8", "null", "wanted i8, found null");
    NOT("ft_i8", "i8", "[1]", "found an array");
    NOT("ft_i8", "i8", "128", "node n, argument 0 (input.a)");
}

Test(ffi_values, beyond_2_to_the_53rd_numbers_are_strings_both_ways)
{
    IN("ft_u64", "u64", "\"18446744073709551615\"", "\"18446744073709551615\"");
    IN("ft_i64", "i64", "\"-9223372036854775808\"", "\"-9223372036854775808\"");
    IN("ft_i64", "i64", "\"9007199254740993\"", "\"9007199254740993\"");
    IN("ft_i64", "i64", "\"12\"", "12");
    NOT("ft_i64", "i64", "9007199254740993", "beyond 2^53");
    NOT("ft_i64", "i64", "-9007199254740993", "write it as a string of digits");
    NOT("ft_u64", "u64", "18446744073709551615", "string of digits");
    NOT("ft_u64", "u64", "\"18446744073709551616\"", "does not fit u64");
    NOT("ft_i64", "i64", "\"9223372036854775808\"", "does not fit i64");
    NOT("ft_i64", "i64", "\"0x10\"", "no whole number");
    NOT("ft_i64", "i64", "\"\"", "no whole number");
    NOT("ft_i64", "i64", "\"-\"", "no whole number");
    NOT("ft_i64", "i64", "\" 1\"", "no whole number");
    NOT("ft_i64", "i64", "1e300", "beyond 2^53");
}

Test(ffi_values, whole_reals_are_whole_numbers)
{
    IN("ft_i32", "i32", "3.0", "3");
    IN("ft_i32", "i32", "-2e3", "-2000");
}

Test(ffi_values, narrow_returns_keep_their_sign)
{
    IN("ft_negate", "i8", "1", "-1");
    IN("ft_negate", "i8", "127", "-127");
    IN("ft_negate", "i8", "-128", "-128");
    IN("ft_i16", "i16", "-2", "-2");
    IN("ft_i32", "i32", "-3", "-3");
}

Test(ffi_values, booleans_are_true_and_false_alone)
{
    IN("ft_bool", "bool", "true", "true");
    IN("ft_bool", "bool", "false", "false");
    NOT("ft_bool", "bool", "1", "wanted true or false");
    NOT("ft_bool", "bool", "\"true\"", "found a string");
}

Test(ffi_values, floats_are_finite)
{
    IN("ft_f64", "f64", "0.1", "0.1");
    IN("ft_f64", "f64", "1e308", "1e+308");
    IN("ft_f64", "f64", "-3", "-3");
    IN("ft_f64", "f64", "0.30000000000000004", "0.30000000000000004");
    IN("ft_f32", "f32", "0.1", "0.1");
    IN("ft_f32", "f32", "3.4e38", "3.4e+38");
    NOT("ft_f32", "f32", "3.5e38", "does not fit f32");
    NOT("ft_f64", "f64", "1e999", "overflow");
    NOT("ft_f64", "f64", "\"1\"", "wanted a number (f64)");
    refuses(ONE("ft_infinite", "", "\"type\":\"f64\""), "{}", EXJ_R_FAILED, "ResultUnfit",
            "node n, what ft_infinite returned: inf is not finite");
}

#define TEXT(from) ONE("ft_strlen", from, "\"type\":\"u64\"")
#define A_STR "{\"from\":\"input.a\",\"type\":\"str\"}"

Test(ffi_values, text_is_a_c_string)
{
    gives(TEXT(A_STR), "{\"a\":\"h\\u00e9llo\"}", "{\"n\":{\"return\":6}}");
    gives(TEXT(A_STR), "{\"a\":\"\"}", "{\"n\":{\"return\":0}}");
    refuses(TEXT(A_STR), "{\"a\":\"a\\u0000b\"}", EXJ_R_INPUT, "InputInvalid",
            "U+0000 in it, which ends a C string");
    refuses(TEXT(A_STR), "{\"a\":7}", EXJ_R_INPUT, "InputInvalid", "wanted text (str)");
    refuses(TEXT(A_STR), "{\"b\":7}", EXJ_R_INPUT, "InputInvalid", "the record has no 'a'");
    refuses(TEXT("{\"from\":\"memory.x\",\"type\":\"str\"}"), "{}", EXJ_R_INPUT, "InputInvalid",
            "the execution memory has no 'x'");
    gives(TEXT("{\"from\":\"memory.m\",\"type\":\"str\"}"), "{}", "{\"n\":{\"return\":4}}");
}

Test(ffi_values, null_and_absent_follow_nullable_and_default)
{
    static const char nullable[] = "{\"a\":null}";

    gives(TEXT("{\"from\":\"input.a\",\"type\":\"str\",\"nullable\":true}"), nullable,
          "{\"n\":{\"return\":999}}");
    gives(TEXT("{\"value\":null,\"type\":\"str\",\"nullable\":true}"), nullable,
          "{\"n\":{\"return\":999}}");
    gives(TEXT("{\"from\":\"input.a\",\"type\":\"str\",\"default\":\"four\"}"), nullable,
          "{\"n\":{\"return\":4}}");
    gives(TEXT("{\"from\":\"input.a\",\"type\":\"str\",\"default\":\"four\"}"), "{}",
          "{\"n\":{\"return\":4}}");
    refuses(TEXT(A_STR), nullable, EXJ_R_INPUT, "InputInvalid", "wanted str, found null");
}

#define SUM(type)                                                                         \
    ONE("ft_sum", "{\"from\":\"input.a\",\"type\":\"" type "\"},{\"lengthOf\":0,\"type\":\"u64\"}", \
        "\"type\":\"u64\"")

Test(ffi_values, bytes_are_base64_and_a_length)
{
    gives(SUM("bytes"), "{\"a\":\"AAEC/w==\"}", "{\"n\":{\"return\":258}}");
    gives(SUM("bytes"), "{\"a\":\"AAEC\"}", "{\"n\":{\"return\":3}}");
    gives(SUM("bytes"), "{\"a\":\"\"}", "{\"n\":{\"return\":0}}");
    gives(SUM("str"), "{\"a\":\"ab\"}", "{\"n\":{\"return\":195}}");
    refuses(SUM("bytes"), "{\"a\":\"AAE\"}", EXJ_R_INPUT, "InputInvalid", "not base64");
    refuses(SUM("bytes"), "{\"a\":\"AA=A\"}", EXJ_R_INPUT, "InputInvalid", "not base64");
    refuses(SUM("bytes"), "{\"a\":\"A===\"}", EXJ_R_INPUT, "InputInvalid", "not base64");
    refuses(SUM("bytes"), "{\"a\":\"AB==\"}", EXJ_R_INPUT, "InputInvalid", "not base64");
    refuses(SUM("bytes"), "{\"a\":\"A-_A\"}", EXJ_R_INPUT, "InputInvalid", "not base64");
    refuses(SUM("bytes"), "{\"a\":[0]}", EXJ_R_INPUT, "InputInvalid", "wanted base64");
}

Test(ffi_values, a_length_must_fit_its_parameter)
{
    static const char m[] = ONE("ft_sum_short", "{\"from\":\"input.a\",\"type\":\"str\"},"
                                "{\"lengthOf\":0,\"type\":\"u8\"}", "\"type\":\"u64\"");
    char input[400] = "{\"a\":\"";

    memset(input + 6, '\1' + ' ', 255);
    strcpy(input + 6 + 255, "\"}");
    gives(m, input, "{\"n\":{\"return\":8415}}");
    memset(input + 6, '!', 256);
    strcpy(input + 6 + 256, "\"}");
    refuses(m, input, EXJ_R_INPUT, "InputInvalid", "256 does not fit u8");
}

#define MODE(symbol, in, out)                                                             \
    MANIFEST(POINT, NODE(symbol, "{\"from\":\"input.a\",\"type\":\"" in "\"}",             \
                         "\"type\":\"" out "\""))

Test(ffi_values, enums_go_by_name)
{
    gives(MODE("ft_mode", "enum:mode", "enum:mode"), "{\"a\":\"odd\"}",
          "{\"n\":{\"return\":\"odd\"}}");
    gives(MODE("ft_mode", "enum:mode", "u32"), "{\"a\":\"odd\"}", "{\"n\":{\"return\":40}}");
    gives(MODE("ft_result", "i32", "enum:mode"), "{\"a\":1}", "{\"n\":{\"return\":\"safe\"}}");
    gives(MODE("ft_result", "i32", "enum:mode"), "{\"a\":17}", "{\"n\":{\"return\":17}}");
    refuses(MODE("ft_mode", "enum:mode", "u32"), "{\"a\":\"fats\"}", EXJ_R_INPUT, "InputInvalid",
            "enum:mode has no 'fats'; the nearest is 'fast'");
    refuses(MODE("ft_mode", "enum:mode", "u32"), "{\"a\":1}", EXJ_R_INPUT, "InputInvalid",
            "wanted the name of an enum:mode");
}

#define P34 "{\"a\":{\"x\":3,\"y\":4,\"weight\":-2,\"mode\":\"odd\"}}"

Test(ffi_values, structs_pass_by_value_and_by_pointer)
{
    gives(MODE("ft_norm", "struct:point", "f64"), P34, "{\"n\":{\"return\":-10}}");
    gives(MODE("ft_mirror", "struct:point", "struct:point"), P34,
          "{\"n\":{\"return\":{\"x\":4,\"y\":3,\"weight\":2,\"mode\":\"odd\"}}}");
    gives(MANIFEST(POINT, NODE("ft_norm_at", "{\"from\":\"input.a\",\"type\":\"struct:point\","
                               "\"by\":\"pointer\"}", "\"type\":\"f64\"")), P34,
          "{\"n\":{\"return\":-10}}");
    gives(MANIFEST(POINT, NODE("ft_norm_at", "{\"from\":\"input.a\",\"type\":\"struct:point\","
                               "\"by\":\"pointer\",\"nullable\":true}", "\"type\":\"f64\"")),
          "{\"a\":null}", "{\"n\":{\"return\":-1}}");
    gives(MANIFEST(POINT, NODE("ft_scale", "{\"from\":\"input.a\",\"out\":\"p\","
                               "\"type\":\"struct:point\"},{\"value\":10,\"type\":\"f64\"}",
                               "\"type\":\"void\"")), P34,
          "{\"n\":{\"p\":{\"x\":30,\"y\":40,\"weight\":-2,\"mode\":\"odd\"}}}");
}

Test(ffi_values, small_structs_come_back_in_a_register)
{
    gives(MANIFEST("\"structs\":{\"small\":{\"size\":4,\"fields\":["
                   "{\"name\":\"a\",\"type\":\"i8\",\"offset\":0},"
                   "{\"name\":\"b\",\"type\":\"i16\",\"offset\":2}]}},",
                   NODE("ft_small", "{\"value\":-5,\"type\":\"i8\"},{\"value\":-600,"
                        "\"type\":\"i16\"}", "\"type\":\"struct:small\"")), "{}",
          "{\"n\":{\"return\":{\"a\":-5,\"b\":-600}}}");
}

Test(ffi_values, struct_objects_have_exactly_the_fields)
{
    static const char m[] = MODE("ft_norm", "struct:point", "f64");

    refuses(m, "{\"a\":{\"x\":3,\"y\":4,\"weight\":1}}", EXJ_R_INPUT, "InputInvalid",
            "struct:point lacks its field 'mode'");
    refuses(m, "{\"a\":{\"x\":3,\"y\":4,\"weight\":1,\"mode\":\"odd\",\"z\":1}}", EXJ_R_INPUT,
            "InputInvalid", "struct:point has no field 'z'");
    refuses(m, "{\"a\":{\"x\":3,\"y\":4,\"weight\":200,\"mode\":\"odd\"}}", EXJ_R_INPUT,
            "InputInvalid", "field 'weight': 200 does not fit i8");
    refuses(m, "{\"a\":[3,4]}", EXJ_R_INPUT, "InputInvalid", "wanted an object (struct:point)");
}

Test(ffi_values, ten_arguments_of_all_widths_arrive)
{
    gives(ONE("ft_mix", "{\"value\":-1,\"type\":\"i8\"},{\"value\":20,\"type\":\"u16\"},"
              "{\"value\":0.5,\"type\":\"f32\"},{\"value\":-300,\"type\":\"i64\"},"
              "{\"value\":0.25,\"type\":\"f64\"},{\"value\":true,\"type\":\"bool\"},"
              "{\"value\":4000000000,\"type\":\"u32\"},{\"value\":-7,\"type\":\"i16\"},"
              "{\"value\":200,\"type\":\"u8\"},{\"value\":-1000000,\"type\":\"i32\"}",
              "\"type\":\"f64\""), "{}", "{\"n\":{\"return\":3998999913.75}}");
}
