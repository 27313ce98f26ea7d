/* core/base/str.h - a growing byte buffer and printing into it.
 *
 * Errors: appending reports lack of memory by its result AND by `failed`, which stays
 * set until clear, so that a run of appends may be checked once at its end.
 * Memory:  p is owned and always NUL-terminated once something was appended.
 * Threads: one owner at a time.
 */
#ifndef EXJ_CORE_BASE_STR_H
#define EXJ_CORE_BASE_STR_H

#include "core/base/err.h"

typedef struct exj_buf {
    char *p; /* owned; NULL before the first append */
    size_t n, cap;
    bool failed;
} exj_buf;

#define EXJ_BUF_INIT ((exj_buf){ 0 })

void exj_buf_release(exj_buf *b);         /* frees; b is as EXJ_BUF_INIT */
void exj_buf_reset(exj_buf *b);           /* keeps the memory, n = 0, failed = false */
bool exj_buf_reserve(exj_buf *b, size_t more);
bool exj_buf_add(exj_buf *b, const char *p, size_t n);
bool exj_buf_add_slice(exj_buf *b, exj_slice s);
bool exj_buf_add_text(exj_buf *b, const char *text);
bool exj_buf_add_char(exj_buf *b, char c);
bool exj_buf_add_i64(exj_buf *b, int64_t v);
/* Its digits, without a NUL; how many bytes. */
#define EXJ_I64_BYTES 24u
size_t exj_i64_text(int64_t v, char ret[EXJ_I64_BYTES]);
bool exj_buf_printf(exj_buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Append `s` as a JSON string with its quotes; control bytes are escaped and bytes that
 * are not UTF-8 become U+FFFD. */
bool exj_buf_add_json_string(exj_buf *b, exj_slice s);
/* The text so far, borrowed; never NULL p after a successful append. */
exj_slice exj_buf_slice(const exj_buf *b);
/* Moves the memory out; the caller frees with free(). NULL if nothing was appended. */
char *exj_buf_take(exj_buf *b);

/* Copy of a slice with a NUL; free() it. NULL on lack of memory. */
char *exj_slice_dup(exj_slice s);

/* True when every byte belongs to well-formed UTF-8 (no surrogates, no overlong forms). */
bool exj_utf8_is_valid(exj_slice s);
/* At most `most` bytes of it, ending at a whole character. */
exj_slice exj_utf8_clip(exj_slice s, size_t most);

/* Smallest number of edits (insert, delete, replace, swap of neighbours) from a to b;
 * inputs longer than 63 bytes give 64. For "did you mean". */
unsigned exj_edit_distance(const char *a, const char *b);

#endif /* EXJ_CORE_BASE_STR_H */
