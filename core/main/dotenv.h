/* core/main/dotenv.h - `.env`: lines of KEY=VALUE.
 *
 *   # comment            export KEY=VALUE        KEY=bare words # comment
 *   KEY='as it is'       KEY="with \" \\ \n \t \$"
 *
 * No expansion. At most 64 KiB and 1000 lines; keys are letters, digits and '_'. The first
 * bad line ends the reading: its number is in the message.
 */
#ifndef EXJ_CORE_MAIN_DOTENV_H
#define EXJ_CORE_MAIN_DOTENV_H

#include "core/base/str.h"

#define EXJ_DOTENV_MAX_BYTES (64u * 1024u)

/* Called for each assignment; key and value are NUL-terminated and borrowed. */
typedef exj_code (*exj_dotenv_visit)(void *user, const char *key, const char *value,
                                     unsigned line, exj_err *err);

/* Errors: EXJ_INVALID ("line 3: …"), EXJ_NOMEM, and what `visit` returns. */
exj_code exj_dotenv_parse(exj_slice text, exj_dotenv_visit visit, void *user, exj_err *err);

/* Whole content of a regular file, at most `max` bytes. Errors: EXJ_NOT_FOUND,
 * EXJ_INVALID (not a regular file, too large), EXJ_IO, EXJ_NOMEM. */
exj_code exj_read_file(const char *path, size_t max, exj_buf *ret, exj_err *err);
/* The same from an open descriptor of any kind. */
exj_code exj_read_fd(int fd, const char *name, size_t max, exj_buf *ret, exj_err *err);

#endif /* EXJ_CORE_MAIN_DOTENV_H */
