/* Texts and numbers that say when: instants, priorities, back-off and rate limits. Two readers of an
 * instant agree, what is read is written as it was, and no sum overflows.
 * The first byte says which: 'r' rates, 'b' back-off, else a text. */
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/job/keys.h"
#include "core/job/rate.h"
#include "core/job/retry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static const uint8_t *left;
static size_t left_n;

static void take(void *to, size_t n)
{
    memset(to, 0, n);
    memcpy(to, left, n < left_n ? n : left_n);
    left += n < left_n ? n : left_n;
    left_n -= n < left_n ? n : left_n;
}

static void instant(exj_slice text)
{
    char written[EXJ_TIME_TEXT_BYTES], *quoted;
    exj_msec at = -1, again = -1;
    exj_json_kind kind;
    exj_err err = { 0 };
    int32_t priority;
    bool good = exj_clock_parse(text, &at);

    if (good) {
        must(at >= 0 && at < INT64_C(253402300800000));
        exj_clock_format(at, written);
        must(strlen(written) == 24 && memcmp(written, text.p, 19) == 0);
        must(exj_clock_parse(exj_slice_of(written), &again) && again == at);
    }
    must((exj_instant_of_text(text, "it", &again, &err) == EXJ_OK) || err.text[0]);
    must(!good || again == at);
    if (exj_json_check(text, 4, &kind, NULL) == EXJ_OK) {
        exj_slice key = { 0 };
        char *owned = NULL;

        if (exj_instant_of_json(text, kind, "it", &again, NULL) == EXJ_OK)
            must(again >= 0);
        if (exj_priority_of_json(text, kind, "it", &priority, NULL) == EXJ_OK)
            must(priority >= -EXJ_PRIORITY_LIMIT && priority <= EXJ_PRIORITY_LIMIT);
        if (exj_key_of_json(text, kind, "it", &key, &owned, NULL) == EXJ_OK)
            must(key.n >= 1 && key.n <= EXJ_KEY_MAX_BYTES && exj_utf8_is_valid(key));
        free(owned);
    }
    quoted = malloc(text.n + 2);
    must(quoted != NULL);
    memcpy(quoted + 1, text.p, text.n);
    quoted[0] = quoted[text.n + 1] = '"';
    if (good) {
        again = -1;
        must(exj_instant_of_json((exj_slice){ quoted, text.n + 2 }, EXJ_JSON_STRING, "it", &again,
                                 NULL) == EXJ_OK);
        must(again == at);
    }
    free(quoted);
}

static void back_off(void)
{
    exj_retry_policy p;
    exj_retry_verdict v;
    uint32_t attempt;
    exj_msec now;
    uint64_t chance;

    take(&p, sizeof p);
    take(&attempt, sizeof attempt);
    take(&now, sizeof now);
    take(&chance, sizeof chance);
    v = exj_retry_decide(&p, attempt, chance & 1, now, chance);
    must(v.dead == (!(chance & 1) || attempt >= p.max_attempts));
    must(v.dead || v.run_after > now || now == INT64_MAX);
}

/* Claims at many moments of one period: never more at once than the rate, and over the period no more
 * than a burst and what the gap between two starts (whole nanoseconds) lets through. */
static void rates(void)
{
    uint32_t rate;
    int64_t sum = 0, most;
    uint16_t step;
    int64_t now = INT64_C(1700000000000000000), tat = 0, begun = now;
    exj_msec rate_ms;

    take(&rate, sizeof rate);
    take(&step, sizeof step);
    rate_ms = 1 + step * INT64_C(1318); /* up to a day */
    rate = 1 + rate % EXJ_RATE_MAX;
    most = rate + rate_ms * 1000000 / (rate_ms * 1000000 / rate);
    take(&tat, sizeof tat);
    if (tat < 0)
        tat = 0;
    while (left_n && now - begun < rate_ms * 1000000) {
        uint8_t b;
        uint32_t room, n;

        take(&b, 1);
        now += (int64_t)b * b * rate_ms;
        if (now - begun >= rate_ms * 1000000)
            break;
        tat = exj_rate_settle(tat, now, rate_ms);
        must(tat <= now + rate_ms * 1000000);
        room = exj_rate_room(tat, now, rate, rate_ms, b * 5000u);
        must(room <= rate && room <= b * 5000u);
        n = room;
        tat = exj_rate_take(tat, now, rate, rate_ms, n);
        sum += n;
        must(sum <= most);
        if (room < b * 5000u)
            must(exj_rate_next(tat, rate, rate_ms) > now);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy;

    if (size < 2)
        return 0;
    left = data + 1;
    left_n = size - 1;
    if (data[0] == 'b') {
        back_off();
    } else if (data[0] == 'r') {
        rates();
    } else {
        copy = malloc(size - 1); /* of exact length: one byte too far is seen */
        must(copy != NULL);
        memcpy(copy, data + 1, size - 1);
        instant((exj_slice){ copy, size - 1 });
        free(copy);
    }
    return 0;
}
