/* core/base/log.h - one line an event, to standard error.
 *
 * Text form on a terminal ("12:00:01.123 info  store: opened …"), else one JSON object a
 * line: {"ts","level","area","msg"}. Control bytes and broken UTF-8 in a message are
 * escaped; a line is at most 8 KiB. Threads: any; a line is written with one write(2).
 */
#ifndef EXJ_CORE_BASE_LOG_H
#define EXJ_CORE_BASE_LOG_H

#include "core/base/types.h"

typedef enum exj_log_level {
    EXJ_LOG_DEBUG, EXJ_LOG_INFO, EXJ_LOG_WARN, EXJ_LOG_ERROR
} exj_log_level;

/* Set before threads start. Defaults: INFO; text when standard error is a terminal. */
void exj_log_setup(exj_log_level least, bool json);
bool exj_log_parse_level(const char *name, exj_log_level *ret); /* debug info warn error */
void exj_log(exj_log_level level, const char *area, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Give every message that is not below the least level to `to` instead of writing it; NULL:
 * write again. Set before threads start. */
void exj_log_divert(void (*to)(exj_log_level level, const char *area, const char *message));

#endif /* EXJ_CORE_BASE_LOG_H */
