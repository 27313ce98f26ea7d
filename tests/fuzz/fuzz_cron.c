/* Cron expressions and the files of time zones: whatever is accepted gives ticks in order of
 * time, the same forwards and backwards. The first byte says what the rest is. */
#include <stdlib.h>

#include "core/job/cron.h"
#include "core/job/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const exj_cron *c, const exj_zone *z, exj_msec from)
{
    exj_msec at = from, next, back;

    for (int i = 0; i < 4 && exj_cron_next(c, z, at, &next); i++, at = next) {
        if (next <= at || next % 1000 != 0)
            abort();
        if (!exj_cron_previous(c, z, next + 1, &back) || back != next)
            abort();
        if (i > 0 && (!exj_cron_previous(c, z, next, &back) || back != at))
            abort();
    }
}

static void walk_zone(exj_slice file)
{
    static const char *const texts[] = { "30 2 * * *", "*/7 * * * *", "0 0 29 2 *" };
    exj_zone *z = NULL;
    exj_cron c;

    if (exj_zone_parse(EXJ_SLICE_LITERAL("fuzz"), file, &z, NULL) != EXJ_OK)
        return;
    for (int i = 0; i < 3; i++) {
        exj_msec at = INT64_C(1000000000000) * i, next;

        if (exj_cron_parse(exj_slice_of(texts[i]), &c, NULL) != EXJ_OK)
            abort();
        for (int k = 0; k < 4 && exj_cron_next(&c, z, at, &next); k++, at = next)
            if (next <= at)
                abort();
        exj_cron_previous(&c, z, at, &next);
    }
    exj_zone_free(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static exj_zone *berlin, *utc;
    exj_slice text;
    exj_schedule s = { 0 };
    exj_cron c;

    if (size == 0)
        return 0;
    if (!utc && (exj_zone_open(EXJ_SLICE_LITERAL("UTC"), &utc, NULL) != EXJ_OK ||
                 exj_zone_open(EXJ_SLICE_LITERAL("Europe/Berlin"), &berlin, NULL) != EXJ_OK))
        abort();
    text = (exj_slice){ (const char *)data + 1, size - 1 };
    if (data[0] == 'z') {
        walk_zone(text);
    } else if (data[0] == 's') {
        if (exj_schedule_parse(text, EXJ_SLICE_LITERAL("s"), &s, NULL, NULL) == EXJ_OK) {
            exj_schedule_verdict v;
            exj_msec ticks[4];

            exj_schedule_due(&s, INT64_C(1700000000000), INT64_C(1800000000000), ticks, 4, &v);
            if (v.fire > 4 || (v.has_next && v.next_tick <= v.last_tick))
                abort();
        }
        exj_schedule_release(&s);
    } else if (exj_cron_parse(text, &c, NULL) == EXJ_OK) {
        walk(&c, utc, INT64_C(1774742400000));
        walk(&c, berlin, INT64_C(1774742400000)); /* 2026-03-29 and its 23 hours */
        walk(&c, berlin, INT64_C(1792886400000)); /* 2026-10-25 and its 25 hours */
    }
    return 0;
}
