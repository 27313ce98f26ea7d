/* examples/embed/embed.c - a worker inside a program of one's own.
 *
 *   embed FILE [DATA_DIR]
 *
 * Each word of FILE becomes a row, a static executor measures it, and the program prints how
 * many there were and the ten most frequent. With a DATA_DIR the rows are kept: a second run
 * does only the words that are new. Without one they go with the program.
 *
 *   cc embed.c words.c $(pkg-config --cflags --libs exellix-jobs) -o embed
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "words.h"

#include <dirent.h>
#include <inttypes.h>
#include <unistd.h>

#include "exellix/jobs.h"

#define TOP 10
#define IDLE_MS 600000u
#define GRACE_MS 30000u

struct row {
    char word[80], sorted[80];
    int64_t times, letters;
};

struct report {
    exj_jobs *jobs;
    struct row top[TOP]; /* most frequent first */
    size_t top_len;
    int64_t next;        /* where the page ended; -1: it was the last */
    bool failed;
};

/* ---- results: the API of the daemon, without HTTP ------------------------------------------ */

static bool text_at(exj_str object, const char *key, char *ret, size_t cap)
{
    exj_str value;
    char *text = exj_json_find(object, key, &value) ? exj_json_to_text(value, NULL) : NULL;

    snprintf(ret, cap, "%s", text ? text : "");
    free(text);
    return *ret != 0;
}

static bool number_at(exj_str object, const char *key, int64_t *ret)
{
    exj_str value;

    return exj_json_find(object, key, &value) && exj_json_to_i64(value, ret);
}

static void place(struct report *r, const struct row *row)
{
    size_t at = r->top_len;

    while (at > 0 && r->top[at - 1].times < row->times)
        at--;
    if (at == TOP)
        return;
    if (r->top_len < TOP)
        r->top_len++;
    memmove(&r->top[at + 1], &r->top[at], (r->top_len - 1 - at) * sizeof *row);
    r->top[at] = *row;
}

/* GET /rows/ID: {"input":{…},"result":{"outputsByNodeId":{"measure":{…}}},…} */
static void take_row(void *user, uint32_t status, const char *answer, size_t bytes)
{
    exj_str all = { answer, bytes }, input, result, nodes, measure;
    struct report *r = user;
    struct row row;

    if (status != 200 || !exj_json_find(all, "input", &input) ||
        !exj_json_find(all, "result", &result) ||
        !exj_json_find(result, "outputsByNodeId", &nodes) ||
        !exj_json_find(nodes, "measure", &measure) ||
        !text_at(input, "word", row.word, sizeof row.word) ||
        !text_at(measure, "sorted", row.sorted, sizeof row.sorted) ||
        !number_at(input, "times", &row.times) || !number_at(measure, "letters", &row.letters))
        r->failed = true;
    else
        place(r, &row);
}

static void ask_row(struct report *r, const char *id)
{
    char path[1024] = "/rows/";
    size_t n = strlen(path);

    for (; *id && n < sizeof path - 4; id++)
        n += (size_t)snprintf(path + n, sizeof path - n, "%%%02X", (unsigned char)*id);
    if (exj_jobs_ask(r->jobs, "GET", path, NULL, NULL, 0, take_row, r, NULL, 0) != EXJ_JOBS_OK)
        r->failed = true;
}

/* GET /rows: {"rows":[{"matrixRowId":…},…],"next":N|null} */
static void take_page(void *user, uint32_t status, const char *answer, size_t bytes)
{
    exj_str all = { answer, bytes }, rows, row;
    struct report *r = user;
    exj_json_cursor walk;
    char id[400];

    if (status != 200 || !exj_json_find(all, "rows", &rows)) {
        r->failed = true;
        return;
    }
    if (!number_at(all, "next", &r->next))
        r->next = -1;
    for (walk = exj_json_elements(rows); exj_json_next_element(&walk, &row);)
        if (text_at(row, "matrixRowId", id, sizeof id))
            ask_row(r, id);
}

static bool report(exj_jobs *jobs)
{
    struct report r = { .jobs = jobs };
    exj_jobs_counts n = EXJ_JOBS_COUNTS_INIT;
    char query[128];

    exj_jobs_get_counts(jobs, &n);
    printf("%" PRIu64 " words, %" PRIu64 " new: %" PRIu64 " completed, %" PRIu64 " failed\n",
           n.scanned, n.materialized, n.completed, n.failed);
    while (r.next >= 0 && !r.failed) {
        snprintf(query, sizeof query,
                 "matrixCatalogId=" WORDS_MATRIX "&status=completed&limit=1000&after=%" PRId64,
                 r.next);
        if (exj_jobs_ask(jobs, "GET", "/rows", query, NULL, 0, take_page, &r, NULL, 0) !=
            EXJ_JOBS_OK)
            r.failed = true;
    }
    for (size_t i = 0; i < r.top_len; i++)
        printf("%6" PRId64 "  %-16s %2" PRId64 " letters  %s\n", r.top[i].times, r.top[i].word,
               r.top[i].letters, r.top[i].sorted);
    return !r.failed && n.failed == 0 && n.source_errors == 0;
}

/* ---- the worker ------------------------------------------------------------------------------ */

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "embed: %s: %s\n", what, why);
    return 1;
}

static int run(exj_jobs *jobs, const char *file)
{
    exj_json_out documents = EXJ_JSON_OUT_INIT;
    char why[512] = "";
    exj_jobs_code rc;

    words_documents(file, &documents);
    rc = documents.failed ? EXJ_JOBS_NOMEM
                          : exj_jobs_add_plugins(jobs, "words", &words_bundle, why, sizeof why);
    if (rc == EXJ_JOBS_OK)
        rc = exj_jobs_apply(jobs, documents.p, documents.n, why, sizeof why);
    exj_json_out_release(&documents);
    if (rc == EXJ_JOBS_OK)
        rc = exj_jobs_start(jobs, why, sizeof why);
    if (rc != EXJ_JOBS_OK)
        return complain("cannot start", why);
    if (exj_jobs_wait_idle(jobs, IDLE_MS) != EXJ_JOBS_OK) {
        exj_jobs_error(jobs, why, sizeof why);
        return complain("the work did not end", why);
    }
    return report(jobs) ? 0 : complain(file, "not every word was done; see above");
}

static void remove_folder(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    char path[4400];

    while (d && (e = readdir(d))) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            remove(path); /* the store's files, and an empty folder */
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    exj_jobs_options o = EXJ_JOBS_OPTIONS_INIT;
    const char *tmp = getenv("TMPDIR");
    char file[4096], own[4096], why[512];
    exj_jobs *jobs = NULL;
    int status;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: embed FILE [DATA_DIR]\n");
        return 2;
    }
    if (!realpath(argv[1], file)) {
        perror(argv[1]);
        return 1;
    }
    snprintf(own, sizeof own, "%s/embed-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (argc == 2 && !mkdtemp(own)) {
        perror(own);
        return 1;
    }
    o.data_dir = argc == 3 ? argv[2] : own;
    o.executor = WORDS_ENGINE;
    o.flags = EXJ_JOBS_ONCE;
    if (exj_jobs_open(&o, &jobs, why, sizeof why) != EXJ_JOBS_OK) {
        status = complain("cannot open", why);
    } else {
        status = run(jobs, file);
        if (exj_jobs_stop(jobs, GRACE_MS, NULL) != EXJ_JOBS_OK)
            status = complain("cannot stop", "executions still run");
        exj_jobs_free(jobs);
    }
    if (argc == 2)
        remove_folder(own);
    return status;
}
