#include "core/main/documents.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/main/dotenv.h"

#define MAX_BYTES EXJ_JSON_MAX_BYTES

struct files {
    exj_input_docs *docs;
    void (*tell)(void *user, const char *line);
    void *user;
    bool mistaken;
    exj_err *err; /* not NULL */
};

static exj_code take_file(struct files *r, const char *path)
{
    exj_buf text = EXJ_BUF_INIT;
    exj_code rc;

    if (strcmp(path, "-") == 0)
        rc = exj_read_fd(STDIN_FILENO, "standard input", MAX_BYTES, &text, r->err);
    else
        rc = exj_read_file(path, MAX_BYTES, &text, r->err);
    if (rc == EXJ_OK)
        rc = exj_input_docs_take(r->docs, strcmp(path, "-") == 0 ? "standard input" : path,
                                 exj_buf_slice(&text), r->tell, r->user, r->err);
    exj_buf_release(&text);
    if (rc != EXJ_INVALID || r->err->code != EXJ_OK)
        return rc;
    r->mistaken = true; /* told; the other files may have more to tell */
    return EXJ_OK;
}

static int is_config_name(const struct dirent *d)
{
    static const char *const ends[] = { ".json", ".ndjson", ".jsonl" };
    size_t n = strlen(d->d_name);

    for (size_t i = 0; i < 3; i++) {
        size_t e = strlen(ends[i]);

        if (d->d_name[0] != '.' && n > e && strcmp(d->d_name + n - e, ends[i]) == 0)
            return 1;
    }
    return 0;
}

static exj_code take_folder(struct files *r, const char *path)
{
    struct dirent **names = NULL;
    exj_code rc = EXJ_OK;
    int n = scandir(path, &names, is_config_name, alphasort);

    if (n < 0)
        return exj_err_set(r->err, EXJ_IO, "%s: %s", path, strerror(errno));
    if (n == 0)
        rc = exj_err_set(r->err, EXJ_NOT_FOUND, "%s: no *.json in this folder", path);
    for (int i = 0; i < n; i++) {
        char file[4400];

        snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        if (rc == EXJ_OK)
            rc = take_file(r, file);
        free(names[i]);
    }
    free(names);
    return rc;
}

exj_code exj_input_docs_read(const char *from, exj_input_docs *ret,
                             void (*tell)(void *user, const char *line), void *user,
                             exj_err *err)
{
    exj_err mine = { 0 };
    struct files r = { .docs = ret, .tell = tell, .user = user, .err = err ? err : &mine };
    struct stat st;
    exj_code rc;

    if (strcmp(from, "-") != 0 && stat(from, &st) != 0)
        return exj_err_set(err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "%s: %s", from,
                           strerror(errno));
    rc = strcmp(from, "-") != 0 && S_ISDIR(st.st_mode) ? take_folder(&r, from)
                                                       : take_file(&r, from);
    return rc == EXJ_OK && r.mistaken ? EXJ_INVALID : rc;
}
