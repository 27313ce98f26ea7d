/* tests/bench/bench_transcode.c - JSON as BSON and back: ours beside libbson's extended JSON.
 *
 *   bench_transcode [MILLISECONDS a turn (default 200)]
 *
 * MB of JSON text in a second of processor time, each the median of five turns taken in between each other, and ours
 * as a multiple of libbson's. libbson's text is another one (doubles in full, spaces), so its
 * time is divided by our text's bytes, too. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/store/mongo/transcode.h"

#define TURNS 5

static int64_t turn_ns = 200000000;

static void need(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "bench_transcode: %s\n", what);
        exit(1);
    }
}

typedef struct work {
    exj_slice text; /* canonical */
    bson_t *doc;
    exj_buf scratch;
} work;

static void ours_in(work *w)
{
    bson_t b = BSON_INITIALIZER;

    need(exj_bson_from_json(w->text, NULL, &b, NULL) == EXJ_OK, "a text was refused");
    bson_destroy(&b);
}

static void encode_only(work *w)
{
    exj_buf_reset(&w->scratch);
    need(exj_bson_encode(w->text, NULL, &w->scratch, NULL) == EXJ_OK, "a text was refused");
}

static void theirs_in(work *w)
{
    bson_t *b = bson_new_from_json((const uint8_t *)w->text.p, (ssize_t)w->text.n, NULL);

    need(b != NULL, "libbson refused a text");
    bson_destroy(b);
}

static void ours_out(work *w)
{
    exj_buf_reset(&w->scratch);
    need(exj_bson_to_json(w->doc, NULL, &w->scratch, NULL) == EXJ_OK, "a document was refused");
}

static void theirs_out(work *w)
{
    char *text = bson_as_relaxed_extended_json(w->doc, NULL);

    need(text != NULL, "libbson refused a document");
    bson_free(text);
}

static int64_t processor_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double measure(work *w, void (*what)(work *))
{
    int64_t begin = processor_ns(), now;
    uint64_t n = 0;

    do {
        for (unsigned i = 0; i < 16; i++) /* the clock has its price */
            what(w);
        n += 16;
        now = processor_ns();
    } while (now - begin < turn_ns);
    return (double)n * (double)w->text.n * 1e3 / (double)(now - begin);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void line(const char *name, exj_buf *json)
{
    static void (*const calls[])(work *) = { encode_only, ours_in, theirs_in, ours_out, theirs_out };
    double seen[5][TURNS];
    work w = { .doc = bson_new() };
    exj_buf canonical = EXJ_BUF_INIT;

    need(exj_bson_from_json(exj_buf_slice(json), NULL, w.doc, NULL) == EXJ_OK, "a text was refused");
    need(exj_bson_to_json(w.doc, NULL, &canonical, NULL) == EXJ_OK, "a document was refused");
    w.text = exj_buf_slice(&canonical);
    for (unsigned t = 0; t < TURNS; t++)
        for (unsigned c = 0; c < 5; c++)
            seen[c][t] = measure(&w, calls[c]);
    for (unsigned c = 0; c < 5; c++)
        qsort(seen[c], TURNS, sizeof(double), by_size);
    printf("%-22s %8zu B   encode %6.0f MB/s   to bson_t %6.0f (x %4.1f)   to JSON %6.0f (x %4.1f)\n",
           name, w.text.n, seen[0][TURNS / 2], seen[1][TURNS / 2],
           seen[1][TURNS / 2] / seen[2][TURNS / 2], seen[3][TURNS / 2],
           seen[3][TURNS / 2] / seen[4][TURNS / 2]);
    fflush(stdout);
    exj_buf_release(&w.scratch);
    exj_buf_release(&canonical);
    exj_buf_release(json);
    bson_destroy(w.doc);
}

static void add_row(exj_buf *b, unsigned i)
{
    exj_buf_printf(b, "{\"id\":\"row-%06u\",\"graphId\":\"daily-prices\",\"priority\":%u,\"enabled\":true,"
                      "\"parent\":null,\"price\":%u.%02u,\"ratio\":0.%u5,\"tags\":[\"a\",\"bb\",\"ccc\"],"
                      "\"customer\":{\"name\":\"J\xc3\xb6rg Example\",\"street\":\"Long Street %u\","
                      "\"zip\":\"%05u\",\"note\":\"says \\\"hello\\\"\\nand goes\"},"
                      "\"seen\":[%u,%u,%u,%u]}",
                   i, i % 10, i % 1000, i % 100, i % 977, i % 321, i % 100000, i, i * 7, i * 77,
                   i * 777);
}

int main(int argc, char **argv)
{
    long ms = argc > 1 ? strtol(argv[1], NULL, 10) : 200;
    exj_buf b = EXJ_BUF_INIT;

    if (ms < 1 || ms > 60000) {
        fprintf(stderr, "usage: bench_transcode [MILLISECONDS of 1 to 60000]\n");
        return 2;
    }
    turn_ns = ms * 1000000;
    add_row(&b, 123456);
    line("one row", &b);
    exj_buf_add_text(&b, "{\"rows\":[");
    for (unsigned i = 0; i < 1000; i++) {
        if (i > 0)
            exj_buf_add_char(&b, ',');
        add_row(&b, i);
    }
    exj_buf_add_text(&b, "]}");
    line("1000 rows", &b);
    exj_buf_add_text(&b, "{\"text\":\"");
    for (unsigned i = 0; i < 1000; i++)
        exj_buf_add_text(&b, "The quick brown fox jumps over the lazy dog, again and again. ");
    exj_buf_add_text(&b, "\"}");
    line("one long text", &b);
    exj_buf_add_text(&b, "{\"v\":[");
    for (unsigned i = 0; i < 2000; i++)
        exj_buf_printf(&b, "%s%u.%03u", i ? "," : "", i * 37 % 1000, i * 7919 % 1000);
    exj_buf_add_text(&b, "]}");
    line("doubles of 3 decimals", &b);
    exj_buf_add_text(&b, "{\"v\":[");
    for (unsigned i = 0; i < 2000; i++)
        exj_buf_printf(&b, "%s%.17g", i ? "," : "", 1.0 / (i + 3));
    exj_buf_add_text(&b, "]}");
    line("doubles of 17 digits", &b);
    return 0;
}
