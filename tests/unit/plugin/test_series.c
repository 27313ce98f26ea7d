/* What a plugin may call a series: exj_series_check. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/plugin/extension.h"
#include "exellix/ext/kv.h"
#include "exellix/ext/metrics.h"

static exj_code judged(const char *text, exj_err *err)
{
    return exj_series_check(exj_slice_of(text), err);
}

Test(series, good_ones_are_taken)
{
    static const char *const good[] = {
        "a", "_", "pages_total", "p2", "a{b=\"\"}", "a{b=\"x\",c=\"y\"}", "a{b=\"1\",ba=\"2\"}",
        "a{b=\"with \\\"quotes\\\", \\\\ and \\n\"}", "a{b=\"},{\"}", "a{_=\"\xc3\xa4\"}",
        "a{a=\"\",b=\"\",c=\"\",d=\"\"}", "bucket", "sum_x",
    };

    for (size_t k = 0; k < sizeof good / sizeof *good; k++) {
        exj_err err = { 0 };

        cr_assert_eq(judged(good[k], &err), EXJ_OK, "%s: %s", good[k], err.text);
    }
}

Test(series, bad_ones_are_refused_and_the_text_says_why)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        { "", "begins with a name" },
        { "A", "begins with a name" },
        { "1a", "begins with a name" },
        { "{a=\"1\"}", "begins with a name" },
        { "a b", "followed by" },
        { "a-b", "followed by" },
        { "a\xc3\xa4", "followed by" },
        { "a_bucket", "must not end in" },
        { "a_sum", "must not end in" },
        { "a_count{b=\"1\"}", "must not end in" },
        { "a{", "a label has a name" },
        { "a{}", "a label has a name" },
        { "a{B=\"1\"}", "a label has a name" },
        { "a{b=\"1\",}", "a label has a name" },
        { "a{b", "is written" },
        { "a{b=", "is written" },
        { "a{b=1}", "is written" },
        { "a{b=\"", "is written" },
        { "a{b=\"\\", "is written" },
        { "a{b=\"\\t\"}", "is written" },
        { "a{b=\"line\nline\"}", "is written" },
        { "a{b=\"1\"", "} that ends it" },
        { "a{b=\"1\"}x", "} that ends it" },
        { "a{b=\"1\" ,c=\"2\"}", "} that ends it" },
        { "a{b=\"1\",b=\"2\"}", "ascending" },
        { "a{c=\"1\",b=\"2\"}", "ascending" },
        { "a{ba=\"1\",b=\"2\"}", "ascending" },
        { "a{plugin=\"other\"}", "the host's" },
        { "a{le=\"1\"}", "the host's" },
        { "a{a=\"\",b=\"\",c=\"\",d=\"\",e=\"\"}", "4 labels" },
        { "a{b=\"\xff\"}", "UTF-8" },
        { "a{b=\"\xc3\"}", "UTF-8" },
    };

    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        exj_err err = { 0 };

        cr_assert_eq(judged(bad[k].text, &err), EXJ_INVALID, "\"%s\" was taken", bad[k].text);
        cr_assert(strstr(err.text, bad[k].why), "\"%s\": %s", bad[k].text, err.text);
    }
}

Test(series, lengths_are_bounded_to_the_byte)
{
    char text[400];
    exj_err err = { 0 };

    snprintf(text, sizeof text, "%064d", 0);
    memset(text, 'n', 64);
    cr_assert_eq(judged(text, NULL), EXJ_OK);
    snprintf(text + 64, sizeof text - 64, "n");
    cr_assert_eq(judged(text, &err), EXJ_INVALID);
    cr_assert(strstr(err.text, "64"), "%s", err.text);

    snprintf(text, sizeof text, "a{%032d=\"1\"}", 0);
    memset(text + 2, 'l', 32);
    cr_assert_eq(judged(text, NULL), EXJ_OK);
    snprintf(text, sizeof text, "a{%033d=\"1\"}", 0);
    memset(text + 2, 'l', 33);
    cr_assert_eq(judged(text, NULL), EXJ_INVALID);

    snprintf(text, sizeof text, "a{b=\"%0128d\"}", 0);
    cr_assert_eq(judged(text, NULL), EXJ_OK);
    snprintf(text, sizeof text, "a{b=\"%0129d\"}", 0);
    cr_assert_eq(judged(text, NULL), EXJ_INVALID);
}

/* Every cut and every changed byte of a good one: no read beyond the end (each text lies in a
 * block of its own size), and what is taken prints as one line without a stray quote. */
Test(series, what_is_taken_is_one_line_of_prometheus)
{
    static const char good[] = "pages_total{code=\"2\\\"0\\\\\",site=\"a\\n\"}";
    const char *given = getenv("EXJ_SEED");
    uint64_t x = given ? strtoull(given, NULL, 10) : exj_random_u64();

    fprintf(stderr, "series: EXJ_SEED=%llu\n", (unsigned long long)x);
    x |= 1;
    for (unsigned round = 0; round < 20000; round++) {
        size_t n = round < sizeof good ? round : sizeof good - 1;
        char *block = malloc(n ? n : 1);

        memcpy(block, good, n);
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        if (round >= sizeof good)
            block[x % n] = (char)(x >> 32);
        if (exj_series_check((exj_slice){ block, n }, NULL) == EXJ_OK) {
            unsigned quotes = 0;

            for (size_t k = 0; k < n; k++) {
                cr_assert((unsigned char)block[k] >= 0x20);
                if (block[k] == '\\')
                    k++;
                else
                    quotes += block[k] == '"';
            }
            cr_assert(quotes % 2 == 0);
            cr_assert(quotes == 0 || block[n - 1] == '}');
        }
        free(block);
    }
}

Test(series, extensions_are_found_by_their_whole_id)
{
    const exj_ext_kv *kv = exj_extension_find(EXJ_EXT_KV);
    const exj_ext_metrics *m = exj_extension_find(EXJ_EXT_METRICS);

    cr_assert(kv && EXJ_HAS(kv, exj_ext_kv, get) && EXJ_HAS(kv, exj_ext_kv, add));
    cr_assert(m && EXJ_HAS(m, exj_ext_metrics, counter_add) &&
              EXJ_HAS(m, exj_ext_metrics, observe_seconds));
    cr_assert_null(exj_extension_find(NULL));
    cr_assert_null(exj_extension_find(""));
    cr_assert_null(exj_extension_find("exellix.kv/2"));
    cr_assert_null(exj_extension_find("exellix.kv"));
    cr_assert_null(exj_extension_find("exellix.http/1"));
}
