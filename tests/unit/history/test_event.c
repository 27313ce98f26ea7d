/* A line of a history: what is written is read again, and what is wrong is refused by name. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/json.h"
#include "core/history/event.h"
#include "tests/support/fault.h"

static uint64_t state;

static uint64_t random_u64(void) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t random_count(void)
{
    return random_u64() % 3 ? (int64_t)(random_u64() >> (1 + random_u64() % 63)) : 0;
}

/* Well-formed UTF-8 without NUL, at most `most` bytes. */
static exj_slice random_text(char *to, size_t most)
{
    static const char *const pieces[] = { "a", "Z", "|", "\"", "\\", "\n", "\x01", "\x7f", "é",
                                          "€", "𝄞", "/", "%", "{", "}", ",", ":" };
    size_t n = random_u64() % 4 ? random_u64() % (most + 1) : 0, at = 0;

    while (at < n) {
        const char *p = pieces[random_u64() % (sizeof(pieces) / sizeof(pieces[0]))];

        if (at + strlen(p) > n)
            break;
        memcpy(to + at, p, strlen(p));
        at += strlen(p);
    }
    return (exj_slice){ to, at };
}

static void expect_equal(const exj_hist_event *a, const exj_hist_event *b)
{
    cr_assert_eq(a->t, b->t);
    cr_assert_eq(a->incarnation, b->incarnation);
    cr_assert_eq(a->op, b->op);
    cr_assert_eq(a->phase, b->phase);
    cr_assert_eq(a->id, b->id);
    cr_assert_eq(a->row, b->row);
    cr_assert_eq(a->token, b->token);
    cr_assert_eq(a->attempt, b->attempt);
    cr_assert_eq(a->value, b->value);
    cr_assert_eq(a->generation, b->generation);
    cr_assert(exj_slice_equal(a->actor, b->actor));
    cr_assert(exj_slice_equal(a->job, b->job));
    cr_assert(exj_slice_equal(a->worker, b->worker));
    cr_assert(exj_slice_equal(a->outcome, b->outcome));
    cr_assert(exj_slice_equal(a->to, b->to));
    cr_assert(exj_slice_equal(a->code, b->code));
    cr_assert(exj_slice_equal(a->key, b->key));
    cr_assert(exj_slice_equal(a->digest, b->digest));
}

static exj_slice line_of(exj_buf *b, const exj_hist_event *e)
{
    exj_buf_reset(b);
    cr_assert(exj_hist_format(b, e));
    cr_assert_gt(b->n, 0);
    cr_assert_eq(b->p[b->n - 1], '\n');
    cr_assert_lt(b->n, EXJ_HIST_LINE_MAX);
    cr_assert_null(memchr(b->p, '\n', b->n - 1), "a line has one newline: %s", b->p);
    return (exj_slice){ b->p, b->n - 1 };
}

Test(event, is_read_as_it_was_written)
{
    const char *seed = getenv("EXJ_TEST_SEED");
    char a[8], j[300], w[30], o[10], to[10], c[10], k[90], d[10], texts[EXJ_HIST_LINE_MAX];
    exj_buf b = EXJ_BUF_INIT;
    exj_err err = { 0 };

    state = seed ? strtoull(seed, NULL, 10) : 1;
    fprintf(stderr, "test_event: EXJ_TEST_SEED=%llu\n", (unsigned long long)state);
    for (int i = 0; i < 20000; i++) {
        exj_hist_event back, e = {
            .t = random_count(), .actor = random_text(a, sizeof(a)),
            .incarnation = random_u64() >> random_u64() % 64,
            .op = (exj_hist_op)(random_u64() % EXJ_HIST_OP_COUNT),
            .phase = (exj_hist_phase)(random_u64() % EXJ_HIST_PHASE_COUNT),
            .id = (uint64_t)random_count(), .row = random_count(), .token = random_count(),
            .attempt = (uint32_t)random_count(), .generation = (uint64_t)random_count(),
            .value = random_u64() % 2 ? (int64_t)random_u64() : 0,
            .job = random_text(j, sizeof(j)), .worker = random_text(w, sizeof(w)),
            .outcome = random_text(o, sizeof(o)), .to = random_text(to, sizeof(to)),
            .code = random_text(c, sizeof(c)), .key = random_text(k, sizeof(k)),
            .digest = random_text(d, sizeof(d)),
        };
        exj_slice line = line_of(&b, &e);

        cr_assert_eq(exj_json_check(line, 1, NULL, &err), EXJ_OK, "%s", err.text);
        cr_assert_eq(exj_hist_parse(line, &back, texts, &err), EXJ_OK, "%s: %.*s", err.text,
                     (int)line.n, line.p);
        expect_equal(&e, &back);
    }
    exj_buf_release(&b);
}

Test(event, has_a_published_spelling)
{
    exj_hist_event e = { .t = 7, .actor = EXJ_SLICE_LITERAL("worker"), .incarnation = 0xab,
                         .op = EXJ_HIST_COMPLETE, .phase = EXJ_HIST_OK, .id = 3, .row = 9,
                         .token = 2, .attempt = 1, .value = -1, .generation = 4,
                         .job = EXJ_SLICE_LITERAL("m||g|r"),
                         .worker = EXJ_SLICE_LITERAL("w"), .outcome = EXJ_SLICE_LITERAL("succeed"),
                         .to = EXJ_SLICE_LITERAL("completed"), .code = EXJ_SLICE_LITERAL("c"),
                         .key = EXJ_SLICE_LITERAL("k"), .digest = EXJ_SLICE_LITERAL("0f") };
    exj_buf b = EXJ_BUF_INIT;

    cr_assert(exj_hist_format(&b, &e));
    cr_expect_str_eq(b.p,
                     "{\"t\":7,\"actor\":\"worker\",\"incarnation\":\"00000000000000ab\","
                     "\"op\":\"complete\",\"phase\":\"ok\",\"id\":3,\"row\":9,\"token\":2,"
                     "\"attempt\":1,\"value\":-1,\"generation\":4,\"job\":\"m||g|r\","
                     "\"worker\":\"w\",\"outcome\":\"succeed\",\"to\":\"completed\","
                     "\"code\":\"c\",\"key\":\"k\",\"digest\":\"0f\"}\n");
    exj_buf_release(&b);
}

Test(event, names_every_operation_and_phase_once)
{
    for (int i = 0; i < EXJ_HIST_OP_COUNT; i++) {
        cr_assert_not_null(exj_hist_op_word((exj_hist_op)i), "operation %d has no word", i);
        for (int k = 0; k < i; k++)
            cr_expect_str_neq(exj_hist_op_word((exj_hist_op)i),
                              exj_hist_op_word((exj_hist_op)k));
    }
    for (int i = 0; i < EXJ_HIST_PHASE_COUNT; i++)
        cr_assert_not_null(exj_hist_phase_word((exj_hist_phase)i));
    cr_expect_str_eq(exj_hist_op_word(EXJ_HIST_OP_COUNT), "?");
    cr_expect_str_eq(exj_hist_phase_word(EXJ_HIST_PHASE_COUNT), "?");
}

/* Every text far too long, of what takes most room. */
Test(event, stays_within_a_line_whatever_it_holds)
{
    static const char *const fill[] = { "x", "\x01", "\"", "\xff", "€", "𝄞" };
    static char big[20000];
    char texts[EXJ_HIST_LINE_MAX];
    exj_buf b = EXJ_BUF_INIT;

    for (size_t f = 0; f < sizeof(fill) / sizeof(fill[0]); f++) {
        exj_hist_event back, e = { .t = INT64_MAX, .incarnation = UINT64_MAX,
                                   .op = EXJ_HIST_GENERATION, .phase = EXJ_HIST_INVOKE,
                                   .id = INT64_MAX, .row = INT64_MAX, .token = INT64_MAX,
                                   .attempt = UINT32_MAX, .value = INT64_MIN,
                                   .generation = INT64_MAX };
        size_t n = 0;
        exj_slice line;

        while (n + 4 <= sizeof(big)) {
            memcpy(big + n, fill[f], strlen(fill[f]));
            n += strlen(fill[f]);
        }
        e.actor = e.job = e.worker = e.outcome = e.to = e.code = e.key = e.digest =
            (exj_slice){ big, n };
        line = line_of(&b, &e);
        cr_assert_eq(exj_hist_parse(line, &back, texts, NULL), EXJ_OK);
        cr_expect(exj_utf8_is_valid(back.job));
        cr_expect_gt(back.job.n, 300);
        cr_expect_leq(back.job.n, EXJ_HIST_JOB_MAX);
        if (f == 4) {
            cr_expect_eq(back.job.n % 3, 0, "a character was cut in two");
            cr_expect_eq(back.key.n, EXJ_HIST_TEXT_MAX / 3 * 3);
        }
        if (f == 5)
            cr_expect_eq(back.key.n % 4, 0, "a character was cut in two");
    }
    exj_buf_release(&b);
}

#define HEAD "{\"t\":1,\"actor\":\"w\",\"incarnation\":\"1\",\"op\":\"claim\",\"phase\":\"ok\""

Test(event, refuses_a_bad_line_and_names_the_member)
{
    static const struct { const char *line, *says; } cases[] = {
        { "", "JSON" },
        { "[]", "object" },
        { "7", "object" },
        { HEAD "", "JSON" },
        { HEAD "}x", "JSON" },
        { "{\"actor\":\"w\",\"incarnation\":\"1\",\"op\":\"claim\",\"phase\":\"ok\"}", "\"t\"" },
        { "{\"t\":1,\"incarnation\":\"1\",\"op\":\"claim\",\"phase\":\"ok\"}", "\"actor\"" },
        { "{\"t\":1,\"actor\":\"w\",\"op\":\"claim\",\"phase\":\"ok\"}", "\"incarnation\"" },
        { "{\"t\":1,\"actor\":\"w\",\"incarnation\":\"1\",\"phase\":\"ok\"}", "\"op\"" },
        { "{\"t\":1,\"actor\":\"w\",\"incarnation\":\"1\",\"op\":\"claim\"}", "\"phase\"" },
        { "{\"t\":1,\"actor\":\"w\",\"incarnation\":\"1\",\"op\":\"klaim\",\"phase\":\"ok\"}",
          "\"klaim\"" },
        { "{\"t\":1,\"actor\":\"w\",\"incarnation\":\"1\",\"op\":\"claim\",\"phase\":\"okay\"}",
          "\"okay\"" },
        { "{\"t\":1,\"actor\":\"w\",\"incarnation\":\"1G\",\"op\":\"claim\",\"phase\":\"ok\"}",
          "hexadecimal" },
        { "{\"t\":1,\"actor\":\"w\",\"incarnation\":\"01234567890123456\",\"op\":\"claim\","
          "\"phase\":\"ok\"}", "hexadecimal" },
        { "{\"t\":1,\"actor\":\"w\",\"incarnation\":1,\"op\":\"claim\",\"phase\":\"ok\"}",
          "\"incarnation\": a text" },
        { HEAD ",\"row\":\"7\"}", "\"row\": an integer" },
        { HEAD ",\"row\":7.5}", "\"row\": an integer" },
        { HEAD ",\"row\":-7}", "\"row\": no negative" },
        { HEAD ",\"token\":-1}", "\"token\": no negative" },
        { HEAD ",\"id\":-1}", "\"id\": no negative" },
        { HEAD ",\"row\":9223372036854775808}", "64 bits" },
        { HEAD ",\"attempt\":4294967296}", "\"attempt\": 0 to" },
        { HEAD ",\"job\":null}", "\"job\": a text" },
        { HEAD ",\"key\":\"a\",\"key\":\"b\"}", "\"key\" is there twice" },
        { HEAD ",\"key\":\"a\",\"\\u006bey\":\"b\"}", "\"key\" is there twice" },
    };
    char texts[EXJ_HIST_LINE_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        exj_hist_event e;
        exj_err err = { 0 };

        cr_assert_eq(exj_hist_parse(exj_slice_of(cases[i].line), &e, texts, &err), EXJ_INVALID,
                     "accepted: %s", cases[i].line);
        cr_expect(strstr(err.text, cases[i].says), "%s: said \"%s\"", cases[i].line, err.text);
    }
}

Test(event, refuses_a_line_that_is_too_long)
{
    char line[EXJ_HIST_LINE_MAX], texts[EXJ_HIST_LINE_MAX];
    exj_hist_event e;

    memset(line, ' ', sizeof(line));
    memcpy(line, HEAD "}", sizeof(HEAD));
    cr_expect_eq(exj_hist_parse((exj_slice){ line, sizeof(line) - 1 }, &e, texts, NULL), EXJ_OK);
    cr_expect_eq(exj_hist_parse((exj_slice){ line, sizeof(line) }, &e, texts, NULL),
                 EXJ_INVALID);
}

Test(event, passes_over_members_of_others)
{
    char texts[EXJ_HIST_LINE_MAX];
    exj_hist_event e;

    cr_assert_eq(exj_hist_parse(exj_slice_of(HEAD ",\"mine\":{\"row\":[1,{}]},\"row\":5}"), &e,
                                texts, NULL), EXJ_OK);
    cr_expect_eq(e.row, 5);
}

Test(event, says_when_there_is_no_memory)
{
    exj_hist_event e = { .op = EXJ_HIST_QUIET };
    exj_buf b = EXJ_BUF_INIT;

    exj_fault_arm(1);
    cr_expect_not(exj_hist_format(&b, &e));
    exj_fault_disarm();
    cr_expect(b.failed);
    exj_buf_reset(&b);
    cr_expect(exj_hist_format(&b, &e));
    exj_buf_reset(&b);
    exj_fault_arm(1);
    cr_expect(exj_hist_format(&b, &e), "there was room");
    cr_expect_eq(exj_fault_disarm(), 0);
    exj_buf_release(&b);
}

Test(event, is_found_behind_the_remains_of_a_torn_line)
{
    char texts[EXJ_HIST_LINE_MAX];
    exj_hist_event e;
    exj_slice torn = exj_slice_of("{\"t\":17,\"actor\":\"ho" HEAD ",\"row\":5}"), whole;

    cr_assert_eq(exj_hist_parse(torn, &e, texts, NULL), EXJ_INVALID);
    cr_expect(exj_hist_is_torn(torn));
    cr_expect(exj_hist_is_torn(exj_slice_of("{\"")));
    cr_expect_not(exj_hist_is_torn(exj_slice_of("")));
    cr_expect_not(exj_hist_is_torn(exj_slice_of("{x")));
    cr_expect_not(exj_hist_is_torn(exj_slice_of(HEAD "}")));
    whole = exj_hist_behind_torn(torn);
    cr_assert_eq(exj_hist_parse(whole, &e, texts, NULL), EXJ_OK);
    cr_expect_eq(e.row, 5);
    cr_expect_eq(exj_hist_behind_torn(exj_slice_of(HEAD)).n, 0);
    cr_expect_eq(exj_hist_behind_torn(exj_slice_of("{\"t\"")).n, 0);
    cr_expect_eq(exj_hist_behind_torn(exj_slice_of("")).n, 0);
    /* A text that looks like one has its quotes escaped. */
    cr_expect_eq(exj_hist_behind_torn(exj_slice_of("{\"t\":1,\"key\":\"{\\\"t\\\":\"")).n, 0);
}

Test(event, has_the_digest_of_a_result)
{
    char hex[EXJ_HIST_DIGEST_BYTES];

    exj_hist_digest(exj_slice_of("abc"), hex);
    cr_expect_str_eq(hex, "ba7816bf8f01cfea");
}

/* docs/history.md has a row for each operation, with an example that can be read. */
Test(event, is_published_with_an_example_of_each_operation)
{
    char *line = NULL, text[EXJ_HIST_LINE_MAX], texts[EXJ_HIST_LINE_MAX];
    FILE *f = fopen(EXJ_SOURCE_DIR "/docs/history.md", "re");
    bool seen[EXJ_HIST_OP_COUNT] = { false };
    size_t cap = 0, seen_len = 0;

    cr_assert_not_null(f);
    while (getline(&line, &cap, f) > 0) {
        const char *from = strstr(line, "`{\"op\":"), *end = strrchr(line, '`');
        exj_hist_event e;
        exj_err err = { 0 };
        char word[40];
        size_t n;

        if (!from)
            continue;
        n = (size_t)snprintf(text, sizeof(text),
                             "{\"t\":1,\"actor\":\"a\",\"incarnation\":\"1\",");
        for (from += 2; from < end; from++) /* bars are escaped in a table */
            if (*from != '\\' || from[1] != '|')
                text[n++] = *from;
        cr_assert_eq(exj_hist_parse((exj_slice){ text, n }, &e, texts, &err), EXJ_OK,
                     "docs/history.md: %s: %.*s", err.text, (int)n, text);
        snprintf(word, sizeof(word), "| `%s` |", exj_hist_op_word(e.op));
        cr_expect(strstr(line, word) == line, "the example is not of %s", word);
        cr_expect_not(seen[e.op], "%s is there twice", word);
        seen_len += !seen[e.op];
        seen[e.op] = true;
    }
    cr_expect_eq(seen_len, EXJ_HIST_OP_COUNT, "an operation is not in docs/history.md");
    free(line);
    fclose(f);
}
