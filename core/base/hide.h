/* core/base/hide.h - an address as people may see it: without its password.
 *
 * Every text that names a URI (logs, errors, `config`, `store check`) goes through here.
 * What is hidden is chosen for safety: of an address that is not well formed, more than the
 * password may be hidden, never less.
 */
#ifndef EXJ_CORE_BASE_HIDE_H
#define EXJ_CORE_BASE_HIDE_H

#include "core/base/str.h"

/* Append `uri` with "(hidden)" in the place of
 *  - its password: from the first ':' of the user's part to the last '@' of the text, so that
 *    a password with a bare '@', '/' or '?' in it stays hidden too;
 *  - what stands where a port should be and is no number ("mongodb://ann:secret", the host
 *    forgotten);
 *  - values of options whose name has "password" or "properties" in it.
 * False, and ret->failed, on lack of memory. */
bool exj_hide_password(const char *uri, exj_buf *ret);

#endif /* EXJ_CORE_BASE_HIDE_H */
