/* core/base/zone.h - time zones by name, and the calendar they rest on.
 *
 * A zone is read once from the system's tz database (TZif files of version 2 or later,
 * RFC 9636, with the rule in the footer for times after the table) and never changes: a
 * newer database is seen by whoever opens the zone again. Nothing here touches TZ, tzset or
 * any other state of the process.
 *
 * Time:    seconds since 1970-01-01T00:00:00; "utc" counts UTC, "local" what the clock on
 *          the wall shows, as if it were UTC. local = utc + offset. Every instant within
 *          ± EXJ_ZONE_SECONDS_MOST is allowed, all others are taken to be that bound.
 * Memory:  exj_zone_open gives a zone of its own to the caller; exj_zone_free ends it.
 * Threads: a zone is read-only after open: any thread, no lock.
 */
#ifndef EXJ_CORE_BASE_ZONE_H
#define EXJ_CORE_BASE_ZONE_H

#include "core/base/err.h"

#define EXJ_ZONE_NAME_BYTES 64             /* longest name, with its NUL */
#define EXJ_ZONE_FILE_BYTES (64u * 1024u)  /* a larger file is refused */
#define EXJ_ZONE_SECONDS_MOST INT64_C(1000000000000) /* about 31,000 years */
#define EXJ_ZONE_FOLDER "/usr/share/zoneinfo"        /* Debian package tzdata */

typedef struct exj_zone exj_zone;

/* "UTC" needs no file. Errors: EXJ_INVALID (bad or unknown name; the text has the nearest
 * known one, or says that tzdata is missing), EXJ_CORRUPT (the file is not a well-formed
 * TZif; says where), EXJ_IO, EXJ_NOMEM. */
exj_code exj_zone_open(exj_slice name, exj_zone **ret, exj_err *err);
/* The same from another folder than EXJ_ZONE_FOLDER; "UTC" still needs no file. */
exj_code exj_zone_open_in(const char *folder, exj_slice name, exj_zone **ret, exj_err *err);
/* The zone `name` from the bytes of its file. Errors: EXJ_INVALID (no TZif at all),
 * EXJ_CORRUPT, EXJ_NOMEM. */
exj_code exj_zone_parse(exj_slice name, exj_slice file, exj_zone **ret, exj_err *err);
void exj_zone_free(exj_zone *z); /* NULL is accepted */

const char *exj_zone_name(const exj_zone *z); /* borrowed from the zone */
/* Seconds to add to UTC, positive east of Greenwich. */
int32_t exj_zone_offset(const exj_zone *z, int64_t utc);

/* A stretch of time without a change; two neighbours may have the same offset. */
typedef struct exj_zone_span {
    int64_t from, until; /* utc; [from, until). INT64_MIN, INT64_MAX: no end */
    int32_t offset;
} exj_zone_span;
exj_zone_span exj_zone_span_at(const exj_zone *z, int64_t utc);

typedef enum exj_local_kind {
    EXJ_LOCAL_UNIQUE, /* first == last: the instant */
    EXJ_LOCAL_GAP,    /* the clock never shows it; first == last: first instant after the gap */
    EXJ_LOCAL_TWICE   /* first and last of the (two or more) instants that show it */
} exj_local_kind;
typedef struct exj_local_found {
    exj_local_kind kind;
    int64_t first, last; /* utc */
} exj_local_found;
exj_local_found exj_zone_find_local(const exj_zone *z, int64_t local);

/* The Gregorian calendar, for all years. */
typedef struct exj_date {
    int64_t year;
    int32_t month, day; /* 1..12, 1..31 */
} exj_date;
int64_t exj_days_of_date(int64_t year, int32_t month, int32_t day); /* since 1970-01-01 */
exj_date exj_date_of_days(int64_t days);
int32_t exj_month_length(int64_t year, int32_t month);
int32_t exj_weekday_of_days(int64_t days); /* 0: Sunday */

#endif /* EXJ_CORE_BASE_ZONE_H */
