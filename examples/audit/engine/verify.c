#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "verify.h"

#include "md5.h"

#define READ_BYTES (64u * 1024u)
#define LISTED_BYTES_MAX (1024u * 1024u) /* of findings written out, over all lists */

/* What is recorded about one path. */
struct record {
    const char *path;    /* without its first slash */
    const char *digest;  /* from md5sums, or NULL */
    const char *conf;    /* from the Conffiles field, or NULL */
    size_t order;
};

struct records {
    struct record *list; /* by path, one for each */
    size_t n, cap;
};

struct verifier {
    const struct dpkg_db *db;
    const struct db_package *package;
    const char *root;
    struct records records;
    struct text path; /* root and path */
    unsigned char *buffer;
    bool (*stop)(void *user);
    void *user;
    struct findings *f;
};

static bool records_add(struct records *r, const char *path, const char *digest,
                        const char *conf)
{
    struct record *list;
    size_t cap;

    if (r->n == r->cap) {
        cap = r->cap ? r->cap * 2 : 256;
        list = realloc(r->list, cap * sizeof(*list));
        if (!list)
            return false;
        r->list = list;
        r->cap = cap;
    }
    r->list[r->n] = (struct record){ path, digest, conf, r->n };
    r->n++;
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct record *)a)->path, ((const struct record *)b)->path);
}

static int by_path_and_order(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    int d = by_path(a, b);

    return d ? d : x->order < y->order ? -1 : x->order > y->order;
}

/* One record a path: the last digest counts, but the first conffile hash. */
static void records_settle(struct records *r)
{
    struct record *to, *from;
    size_t i, n = 0;

    if (r->n == 0)
        return;
    qsort(r->list, r->n, sizeof(*r->list), by_path_and_order);
    for (i = 0; i < r->n; i++) {
        from = &r->list[i];
        to = n ? &r->list[n - 1] : NULL;
        if (!to || strcmp(to->path, from->path) != 0) {
            r->list[n++] = *from;
            continue;
        }
        if (from->digest)
            to->digest = from->digest;
        if (!to->conf)
            to->conf = from->conf;
    }
    r->n = n;
}

static void cut_slash(char *line, char *end)
{
    if (end > line + 1 && end[-1] == '/')
        end[-1] = '\0';
}

/* "32 hex digits, two blanks, path" a line. */
static bool read_digests(struct verifier *v, char *text, const char *file,
                         struct db_error *e)
{
    char *line = text, *end;

    for (; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end)
            return db_fail(e, 0, "the final newline is missing in", file);
        if (end - line < 35 || line[32] != ' ' || line[33] != ' ')
            return db_fail(e, 0, "a line without digest and path in", file);
        line[32] = *end = '\0';
        cut_slash(line + 34, end);
        if (!records_add(&v->records, db_bare_path(line + 34), line, NULL))
            return db_fail(e, ENOMEM, "cannot keep", file);
    }
    return true;
}

/* Cut the last word off [line, *end); NULL when that leaves nothing. */
static char *take_last_word(char *line, char **end)
{
    char *p = *end;

    while (p > line && p[-1] == ' ')
        p--;
    *end = p;
    while (p > line && p[-1] != ' ')
        p--;
    if (p <= line + 1)
        return NULL;
    **end = '\0';
    *end = p - 1;
    return p;
}

/* " path hash [obsolete] [remove-on-upgrade]" a line; a path may hold blanks. */
static bool read_conffiles(struct verifier *v, char *text, struct db_error *e)
{
    char *line = text, *next, *end, *word;

    for (; line; line = next) {
        next = strchr(line, '\n');
        end = next ? next++ : line + strlen(line);
        line += strspn(line, " ");
        if (line >= end)
            continue;
        word = take_last_word(line, &end);
        if (word && strcmp(word, "remove-on-upgrade") == 0)
            word = take_last_word(line, &end);
        if (word && strcmp(word, "obsolete") == 0)
            word = take_last_word(line, &end);
        if (!word)
            return db_fail(e, 0, "a conffile without hash in the status of",
                           v->package->name);
        *end = '\0';
        if (!records_add(&v->records, db_bare_path(line), NULL, word))
            return db_fail(e, ENOMEM, "cannot keep the conffiles of", v->package->name);
    }
    return true;
}

/* ---- one path --------------------------------------------------------------------------- */

static void list_item(struct findings *f, struct text *list, const char *p, size_t n)
{
    if (list->n)
        text_add(list, ",");
    text_add_quoted(list, p, n);
    f->listed += n;
}

static void report(struct verifier *v, const char *marks, bool conf, const char *path,
                   const char *reason, struct text *list, size_t *count)
{
    struct findings *f = v->f;
    struct text line = { 0 };

    (*count)++;
    if (*count > f->list_max || f->listed > LISTED_BYTES_MAX) {
        f->truncated = true;
        return;
    }
    text_add(&line, marks);
    text_add(&line, conf ? " c /" : "   /");
    text_add(&line, path);
    if (reason) {
        text_add(&line, " (");
        text_add(&line, reason);
        text_add(&line, ")");
    }
    if (line.failed) {
        f->lines.failed = true;
    } else {
        list_item(f, &f->lines, line.p, line.n);
        list_item(f, list, v->path.p + v->path.n - strlen(path) - 1, strlen(path) + 1);
    }
    text_free(&line);
}

enum digest_end { DIGEST_SAME, DIGEST_OTHER, DIGEST_UNREADABLE, DIGEST_STOPPED };

static enum digest_end check_digest(struct verifier *v, const char *path,
                                    const char *wanted)
{
    enum digest_end end = DIGEST_UNREADABLE;
    struct md5 md5;
    struct stat st;
    char digest[33];
    ssize_t got = -1;
    /* A pipe or device in the place of a file must not hold us up: not blocking. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return end;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        goto out;
    md5_init(&md5);
    for (;;) {
        if (v->stop(v->user)) {
            end = DIGEST_STOPPED;
            goto out;
        }
        got = read(fd, v->buffer, READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        md5_add(&md5, v->buffer, (size_t)got);
        v->f->bytes += (uint64_t)got;
    }
    if (got < 0)
        goto out;
    v->f->files++;
    md5_end(&md5, digest);
    end = strcmp(digest, wanted) == 0 ? DIGEST_SAME : DIGEST_OTHER;
out:
    close(fd);
    return end;
}

static enum verify_end check_path(struct verifier *v, const char *listed)
{
    const char *path = dpkg_db_placed(v->db, v->package->name, listed);
    struct record key = { .path = path };
    const struct record *r = NULL;
    struct findings *f = v->f;
    const char *wanted;
    struct stat st;
    enum digest_end end;
    bool regular, conf;
    char marks[] = "?????????";

    if (v->records.n)
        r = bsearch(&key, v->records.list, v->records.n, sizeof(key), by_path);
    conf = r && r->conf;
    wanted = !r ? NULL : r->digest ? r->digest : r->conf;
    f->paths++;
    v->path.n = 0;
    text_add(&v->path, v->root);
    text_add(&v->path, "/");
    text_add(&v->path, path);
    if (v->path.failed)
        return VERIFY_FAILED;

    if (lstat(v->path.p, &st) < 0) {
        report(v, "missing  ", conf, path,
               errno == ENOENT ? NULL : strerrordesc_np(errno), &f->missing,
               &f->missing_len);
        return VERIFY_DONE;
    }
    if (!wanted)
        return VERIFY_DONE;
    regular = S_ISREG(st.st_mode);
    end = check_digest(v, v->path.p, wanted);
    if (end == DIGEST_STOPPED)
        return VERIFY_STOPPED;
    marks[1] = regular ? '?' : 'M';
    marks[2] = end == DIGEST_SAME ? '.' : end == DIGEST_OTHER ? '5' : '?';
    if (end == DIGEST_UNREADABLE)
        report(v, marks, conf, path, NULL, &f->unreadable, &f->unreadable_len);
    else if (!regular || end == DIGEST_OTHER)
        report(v, marks, conf, path, NULL, &f->changed, &f->changed_len);
    return VERIFY_DONE;
}

/* Every line of info/PACKAGE.list. */
static enum verify_end check_list(struct verifier *v, char *text, const char *file,
                                  struct db_error *e)
{
    enum verify_end end = VERIFY_DONE;
    char *line = text, *stop;

    for (; *line && end == VERIFY_DONE; line = stop + 1) {
        if (v->stop(v->user))
            return VERIFY_STOPPED;
        stop = strchr(line, '\n');
        if (!stop || stop == line) {
            db_fail(e, 0, stop ? "an empty line in" : "the final newline is missing in",
                    file);
            return VERIFY_FAILED;
        }
        *stop = '\0';
        cut_slash(line, stop);
        end = check_path(v, db_bare_path(line));
        if (end == VERIFY_FAILED)
            db_fail(e, ENOMEM, "cannot check the files of", file);
    }
    return end;
}

enum verify_end verify_package(const struct dpkg_db *db, const struct db_package *p,
                               const char *root, bool (*stop)(void *user), void *user,
                               struct findings *f, struct db_error *e)
{
    struct verifier v = { .db = db, .package = p, .root = root, .stop = stop,
                          .user = user, .f = f };
    char list_file[4400], digests_file[4400];
    char *list = NULL, *digests = NULL, *conffiles = NULL;
    enum verify_end end = VERIFY_FAILED;
    size_t bytes;

    if (!dpkg_db_info_path(db, p, "list", list_file, sizeof(list_file)) ||
        !dpkg_db_info_path(db, p, "md5sums", digests_file, sizeof(digests_file))) {
        db_fail(e, ENAMETOOLONG, "cannot read", db->admin_dir);
        goto out;
    }
    if (!db_slurp(list_file, &list, &bytes)) {
        f->no_list = errno == ENOENT;
        if (f->no_list)
            end = VERIFY_DONE; /* dpkg: "assuming package has no files" */
        else
            db_fail(e, errno, "cannot read", list_file);
        goto out;
    }
    if (!db_slurp(digests_file, &digests, &bytes) && errno != ENOENT) {
        db_fail(e, errno, "cannot read", digests_file);
        goto out;
    }
    /* A copy: reading cuts it up, and the snapshot is shared. */
    conffiles = p->conffiles ? strdup(p->conffiles) : NULL;
    v.buffer = malloc(READ_BYTES);
    if (!v.buffer || (p->conffiles && !conffiles)) {
        db_fail(e, ENOMEM, "cannot check", p->name);
        goto out;
    }
    if ((digests && !read_digests(&v, digests, digests_file, e)) ||
        (conffiles && !read_conffiles(&v, conffiles, e)))
        goto out;
    records_settle(&v.records);
    end = check_list(&v, list, list_file, e);
out:
    free(v.records.list);
    free(v.buffer);
    text_free(&v.path);
    free(conffiles);
    free(digests);
    free(list);
    return end;
}

void findings_release(struct findings *f)
{
    text_free(&f->lines);
    text_free(&f->changed);
    text_free(&f->missing);
    text_free(&f->unreadable);
}
