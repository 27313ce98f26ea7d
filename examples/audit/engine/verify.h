/* examples/audit/engine/verify.h - every file of one package against dpkg's records.
 *
 * The findings are those of `dpkg --verify PACKAGE`, line by line:
 *   - a path that lstat cannot find is missing, conffile or not; any reason but "no such
 *     file" is written behind it;
 *   - a path with a recorded MD5 must be a regular file (else M) with that content (else
 *     5); a content that cannot be opened leaves a ?. The digest comes from
 *     info/PACKAGE.md5sums, else, for a conffile, obsolete or not, from the status file;
 *   - a path without one (directories, most links, anything diverted away) need only exist;
 *   - a diverted path is looked for where the diversion puts it, unless the package is the
 *     one that diverts;
 *   - paths left out at installation (path-exclude) are in the package's list: missing.
 * In one thing we go further: where dpkg gives up (a directory or an unreadable medium in
 * the place of a file with a digest), the path is reported and the rest is checked.
 */
#ifndef AUDIT_VERIFY_H
#define AUDIT_VERIFY_H

#include "../dpkg_db.h"
#include "../json.h"

struct findings {
    struct text lines, changed, missing, unreadable; /* JSON array items, comma between */
    size_t paths, files;                             /* looked at; of these, read */
    uint64_t bytes;                                  /* read */
    size_t changed_len, missing_len, unreadable_len; /* all, also those not listed */
    size_t listed, list_max;
    bool truncated;                                  /* not all are listed */
    bool no_list;                                    /* dpkg has no file list for it */
};

enum verify_end { VERIFY_DONE, VERIFY_STOPPED, VERIFY_FAILED };

/* `stop` is asked between reads. FAILED: *e says why (number 0: the database is damaged).
 * findings_release in every case. */
enum verify_end verify_package(const struct dpkg_db *db, const struct db_package *p,
                               const char *root, bool (*stop)(void *user), void *user,
                               struct findings *f, struct db_error *e);
void findings_release(struct findings *f);

#endif /* AUDIT_VERIFY_H */
