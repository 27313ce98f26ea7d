#include "core/job/schedule.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/job/field.h"
#include "core/job/record.h"

#define EVERY_MOST_SECONDS 31536000
#define GRACE_MOST_SECONDS 86400
#define LAST_TICK_MS INT64_C(253402300799000) /* 9999-12-31T23:59:59Z */

static const char *const missed_words[] = { "skip", "once", "all" };

const char *exj_missed_word(exj_missed m)
{
    return (size_t)m < sizeof(missed_words) / sizeof(*missed_words) ? missed_words[m]
                                                                    : "unknown";
}

/* ---- reading a document -------------------------------------------------------------- */

static void read_bool(exj_field_reader *r, const json_t *object, const char *path,
                      const char *name, bool *ret)
{
    const json_t *value = json_object_get(object, name);

    if (r->code != EXJ_OK || !value || json_typeof(value) == JSON_NULL)
        return;
    if (json_typeof(value) == JSON_TRUE || json_typeof(value) == JSON_FALSE)
        *ret = json_typeof(value) == JSON_TRUE;
    else
        exj_field_wrong(r, path, name, value, "true or false");
}

static void refuse(exj_field_reader *r, const char *text)
{
    if (r->code == EXJ_OK)
        r->code = exj_err_set(r->err, EXJ_INVALID, "%s", text);
}

/* What a callee said, below the path of the member. */
static void take_code(exj_field_reader *r, exj_code rc, const char *where)
{
    if (rc == EXJ_OK)
        return;
    r->code = rc;
    if (r->err)
        exj_err_prefix(r->err, "%s", where);
}

static void read_missed(exj_field_reader *r, const json_t *payload, exj_schedule *s)
{
    exj_slice word = exj_field_text(r, payload, "payload", "missed");

    for (unsigned i = 0; i < sizeof(missed_words) / sizeof(*missed_words); i++) {
        if (exj_slice_is(word, missed_words[i])) {
            s->missed = (exj_missed)i;
            return;
        }
    }
    if (word.n > 0)
        exj_field_wrong(r, "payload", "missed", json_object_get(payload, "missed"),
                        "\"skip\", \"once\" or \"all\"");
}

/* "2026-01-02T03:04:05Z" or with "+01:00" in place of Z; a fraction of zeros may stand. */
static bool read_instant(const char *text, exj_msec *ret)
{
    int year, month, day, h, m, s, zone_h = 0, zone_m = 0, n = 0;
    char sign = '+';
    int64_t v;

    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &h, &m, &s, &n) != 6 ||
        n != 19 || strspn(text, "0123456789-T:") < 19)
        return false;
    text += n;
    if (*text == '.' && text[1] == '0')
        text += 1 + strspn(text + 1, "0");
    n = 0;
    if (strcmp(text, "Z") != 0 &&
        (sscanf(text, "%c%2d:%2d%n", &sign, &zone_h, &zone_m, &n) != 3 || n != 6 ||
         text[6] != '\0' || (sign != '+' && sign != '-') || strspn(text + 1, "0123456789:") != 5))
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 ||
        day > exj_month_length(year, month) || h < 0 || h > 23 || m < 0 || m > 59 || s < 0 ||
        s > 59 || zone_h > 14 || zone_m > 59)
        return false;
    v = exj_days_of_date(year, month, day) * 86400 + h * 3600 + m * 60 + s;
    v -= (sign == '-' ? -1 : 1) * (zone_h * 3600 + zone_m * 60);
    if (v < 0 || v > LAST_TICK_MS / 1000)
        return false;
    *ret = v * 1000;
    return true;
}

static void read_times(exj_field_reader *r, const json_t *payload, exj_schedule *s)
{
    exj_slice cron = exj_field_text(r, payload, "payload", "cron");
    exj_slice anchor = exj_field_text(r, payload, "payload", "anchor");
    exj_slice zone = exj_field_text(r, payload, "payload", "zone");
    int64_t every = 0;

    exj_field_int(r, payload, "payload", "everySeconds", 1, EVERY_MOST_SECONDS, &every);
    if (r->code != EXJ_OK)
        return;
    if ((cron.n > 0) == (every > 0)) {
        refuse(r, cron.n > 0 ? "payload.everySeconds: found beside cron; wanted one of the two"
                             : "payload.cron: missing; wanted cron (\"0 3 * * *\") or "
                               "everySeconds");
        return;
    }
    if (cron.n > 0 && anchor.n > 0)
        refuse(r, "payload.anchor: found beside cron; wanted with everySeconds only");
    if (every > 0 && zone.n > 0)
        refuse(r, "payload.zone: found beside everySeconds, which counts elapsed time; wanted "
                  "with cron only");
    if (anchor.n > 0 && !read_instant(anchor.p, &s->anchor_ms))
        exj_field_wrong(r, "payload", "anchor", json_object_get(payload, "anchor"),
                        "a time of whole seconds from 1970 on such as "
                        "\"2026-01-02T03:04:05Z\" or \"…+01:00\"");
    if (r->code != EXJ_OK)
        return;
    s->every_ms = every * 1000;
    take_code(r, exj_zone_open(zone.n > 0 ? zone : EXJ_SLICE_LITERAL("UTC"), &s->zone, r->err),
              "payload.zone");
    if (cron.n == 0 || r->code != EXJ_OK)
        return;
    take_code(r, exj_cron_parse(cron, &s->cron, r->err), "payload.cron");
    s->cron_text = exj_slice_dup(cron);
    if (!s->cron_text)
        exj_field_nomem(r);
}

static void read_input(exj_field_reader *r, const json_t *start, exj_schedule *s)
{
    const json_t *input = exj_field_object(r, start, "payload.start", "input");

    s->input = exj_field_print(r, input);
    if (r->code == EXJ_OK)
        take_code(r, exj_record_check(exj_slice_of(s->input), r->err), "payload.start.input");
    if (input && s->run)
        refuse(r, "payload.start.input: found beside run, whose records come from the source "
                  "of the matrix; wanted without run only");
}

static void read_start(exj_field_reader *r, const json_t *payload, exj_schedule *s)
{
    static const char *const known[] = { "matrixCatalogId", "graphId", "input", "run", NULL };
    static const char path[] = "payload.start";
    const json_t *o = exj_field_object(r, payload, "payload", "start");

    if (!o)
        refuse(r, "payload.start: missing; an object is wanted");
    if (r->code != EXJ_OK)
        return;
    exj_field_known(r, o, path, known);
    s->matrix_id = exj_field_id(r, o, path, "matrixCatalogId");
    if (!s->matrix_id)
        refuse(r, "payload.start.matrixCatalogId: missing; a string is wanted");
    s->graph_id = exj_field_id(r, o, path, "graphId");
    read_bool(r, o, path, "run", &s->run);
    if (s->run && s->graph_id)
        refuse(r, "payload.start.graphId: found beside run, which runs every graph of the "
                  "matrix; wanted without run only");
    read_input(r, o, s);
}

/* The document's own id; it must be the one that was asked for. */
static void read_id(exj_field_reader *r, const json_t *root, exj_slice expected,
                    exj_schedule *s)
{
    s->schedule_id = exj_field_id(r, root, "", "scheduleId");
    if (r->code != EXJ_OK)
        return;
    if (!s->schedule_id && expected.n > 0) {
        r->code = exj_id_check(expected, "scheduleId", r->err);
        if (r->code != EXJ_OK)
            return;
        s->schedule_id = exj_slice_dup(expected);
        if (!s->schedule_id)
            exj_field_nomem(r);
    }
    if (!s->schedule_id)
        refuse(r, "scheduleId: missing; a string is wanted");
    if (r->code == EXJ_OK && expected.n > 0 && !exj_slice_is(expected, s->schedule_id))
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "scheduleId: found \"%.80s\"; wanted \"%.*s\"", s->schedule_id,
                              (int)(expected.n < 80 ? expected.n : 80), expected.p);
    if (r->code == EXJ_OK && strlen(s->schedule_id) > EXJ_SCHEDULE_ID_BYTES)
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "scheduleId: found %zu bytes; wanted at most %u: the names of "
                              "its ticks are longer",
                              strlen(s->schedule_id), EXJ_SCHEDULE_ID_BYTES);
}

static void read_schedule(exj_field_reader *r, const json_t *root, exj_slice id_expected,
                          exj_schedule *s)
{
    static const char *const known[] = { "scheduleId", "version", "payload", "createdAt",
                                         "updatedAt", NULL };
    static const char *const known_payload[] = { "cron",   "everySeconds", "anchor",
                                                 "zone",   "missed",       "maxMissed",
                                                 "graceSeconds", "paused", "start", NULL };
    const json_t *payload;
    int64_t v;

    exj_field_known(r, root, "", known);
    read_id(r, root, id_expected, s);
    exj_field_int(r, root, "", "version", 0, INT64_MAX, &v);
    if (r->strict) { /* what is stored may have come with dates of another kind */
        exj_field_text(r, root, "", "createdAt");
        exj_field_text(r, root, "", "updatedAt");
    }
    payload = exj_field_object(r, root, "", "payload");
    if (!payload)
        refuse(r, "payload: missing; an object is wanted");
    if (r->code != EXJ_OK)
        return;
    exj_field_known(r, payload, "payload", known_payload);
    read_times(r, payload, s);
    read_missed(r, payload, s);
    if (exj_field_int(r, payload, "payload", "maxMissed", 1, EXJ_SCHEDULE_MISSED_MOST, &v))
        s->max_missed = (uint32_t)v;
    exj_field_seconds(r, payload, "payload", "graceSeconds", 0, GRACE_MOST_SECONDS,
                      &s->grace_ms);
    read_bool(r, payload, "payload", "paused", &s->paused);
    read_start(r, payload, s);
}

/* As it is stored: without what the store itself writes, the id in front. */
static exj_code print_canonical(json_t *root, const char *id, exj_buf *b, exj_err *err)
{
    json_t *out = json_object();
    exj_code rc;

    json_object_del(root, "version");
    json_object_del(root, "createdAt");
    json_object_del(root, "updatedAt");
    if (!out || json_object_set_new(out, "scheduleId", json_string(id)) != 0 ||
        json_object_update(out, root) != 0)
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory while printing a document");
    else
        rc = exj_json_print(out, false, b, err);
    json_decref(out);
    return rc;
}

static exj_code schedule_from(exj_slice doc, exj_slice id_expected, bool strict,
                              exj_schedule *ret, exj_buf *ret_canonical, exj_err *err)
{
    exj_schedule s = { .missed = EXJ_MISSED_ONCE, .max_missed = 100, .grace_ms = 60000 };
    exj_field_reader r = { .err = err, .strict = strict };
    json_t *root = NULL;

    r.code = exj_json_parse(doc, &root, err);
    if (r.code == EXJ_OK && json_typeof(root) != JSON_OBJECT)
        refuse(&r, "the document is not a JSON object");
    if (r.code == EXJ_OK)
        read_schedule(&r, root, id_expected, &s);
    if (r.code == EXJ_OK && ret_canonical)
        r.code = print_canonical(root, s.schedule_id, ret_canonical, err);
    json_decref(root);
    if (r.code == EXJ_OK)
        *ret = s;
    else
        exj_schedule_release(&s);
    return r.code;
}

exj_code exj_schedule_parse(exj_slice doc, exj_slice id_expected, exj_schedule *ret,
                            exj_buf *ret_canonical, exj_err *err)
{
    return schedule_from(doc, id_expected, true, ret, ret_canonical, err);
}

exj_code exj_schedule_read(exj_slice doc, exj_schedule *ret, exj_err *err)
{
    return schedule_from(doc, (exj_slice){ 0 }, false, ret, NULL, err);
}

void exj_schedule_release(exj_schedule *s)
{
    free(s->schedule_id);
    free(s->cron_text);
    exj_zone_free(s->zone);
    free(s->matrix_id);
    free(s->graph_id);
    free(s->input);
    *s = (exj_schedule){ 0 };
}

/* ---- ticks --------------------------------------------------------------------------- */

bool exj_schedule_next(const exj_schedule *s, exj_msec after, exj_msec *ret)
{
    exj_msec tick = s->anchor_ms;

    if (s->every_ms == 0)
        return exj_cron_next(&s->cron, s->zone, after, ret);
    if (after > LAST_TICK_MS)
        return false;
    if (after >= tick)
        tick += ((after - tick) / s->every_ms + 1) * s->every_ms;
    if (tick > LAST_TICK_MS)
        return false;
    *ret = tick;
    return true;
}

/* The last tick in [from, before). */
static bool previous_from(const exj_schedule *s, exj_msec from, exj_msec before, exj_msec *ret)
{
    exj_msec tick;

    if (s->every_ms == 0) {
        if (!exj_cron_previous(&s->cron, s->zone, before, &tick))
            return false;
    } else {
        if (before > LAST_TICK_MS)
            before = LAST_TICK_MS + 1;
        if (before <= s->anchor_ms)
            return false;
        tick = before - 1 - (before - 1 - s->anchor_ms) % s->every_ms;
    }
    if (tick < from)
        return false;
    *ret = tick;
    return true;
}

/* How many ticks there are in [from, before). */
static void count_skipped(const exj_schedule *s, exj_msec from, exj_msec before,
                          exj_schedule_verdict *v)
{
    exj_msec first, last;

    if (!previous_from(s, from, before, &last))
        return;
    if (s->every_ms > 0) {
        if (exj_schedule_next(s, from - 1, &first))
            v->skipped += (uint64_t)((last - first) / s->every_ms) + 1;
        return;
    }
    do {
        if (v->skipped == EXJ_SCHEDULE_COUNT_MOST) {
            v->skipped_is_least = true;
            return;
        }
        v->skipped++;
    } while (previous_from(s, from, last, &last));
}

/* Of the missed ticks in [from, edge): the first that fires after all, or `edge`. */
static exj_msec first_made_up(const exj_schedule *s, exj_msec from, exj_msec edge, exj_msec now)
{
    uint32_t wanted = s->missed == EXJ_MISSED_ALL ? s->max_missed : 1;
    exj_msec tick = edge, found;

    if (s->missed == EXJ_MISSED_SKIP)
        return edge;
    if (s->missed == EXJ_MISSED_ONCE && exj_schedule_next(s, edge - 1, &found) && found <= now)
        return edge;
    while (wanted-- > 0 && previous_from(s, from, tick, &found))
        tick = found;
    return tick;
}

void exj_schedule_due(const exj_schedule *s, exj_msec last_tick, exj_msec now,
                      exj_msec *ticks, size_t cap, exj_schedule_verdict *ret)
{
    exj_schedule_verdict v = { .last_tick = last_tick };
    exj_msec from, edge, tick;

    assert(cap >= 1);
    /* Nothing ticks outside of these, and no sum below overflows. */
    last_tick = last_tick < -1 ? -1 : last_tick;
    if (now > LAST_TICK_MS)
        now = LAST_TICK_MS;
    from = last_tick < LAST_TICK_MS ? last_tick + 1 : LAST_TICK_MS + 1;
    if (now < from)
        goto out;
    edge = s->paused ? now + 1 : now - s->grace_ms;
    if (edge < from)
        edge = from;
    tick = s->paused ? edge : first_made_up(s, from, edge, now);
    count_skipped(s, from, tick, &v);
    previous_from(s, from, tick, &v.last_tick); /* stays when nothing is skipped */
    for (exj_msec after = tick - 1;
         !s->paused && exj_schedule_next(s, after, &tick) && tick <= now; after = tick) {
        if (v.fire == cap) {
            v.more = true;
            break;
        }
        ticks[v.fire++] = v.last_tick = tick;
    }
out:
    v.has_next = exj_schedule_next(s, v.last_tick, &v.next_tick);
    *ret = v;
}

bool exj_schedule_tick_name(const exj_schedule *s, exj_msec tick, exj_buf *b)
{
    char text[EXJ_TIME_TEXT_BYTES];

    exj_clock_format(tick, text);
    /* Ticks are whole seconds: "…05.000Z" is written "…05Z". */
    return exj_buf_printf(b, "%s@%.19sZ", s->schedule_id, text);
}
