/* examples/audit/report.c - what an audit found, asked of exellix-jobs itself.
 *
 *   audit-report BINARY MATRIX RUN FOLDER BEGIN MILLISECONDS
 *
 * RUN is the matrix run ("" for none), FOLDER where files of ours lie; the work began
 * at BEGIN (2026-01-31T12:00:00.000Z) and took MILLISECONDS. It runs `BINARY rows list` page by page and `BINARY rows show` for each row
 * that ended since it was asked last; what these said is kept in FOLDER/results.jsonl, so
 * that only new rows are asked for. All findings go to FOLDER/findings.txt, sorted, in the
 * form of `dpkg --verify`.
 *
 * Exit status: 0 all packages were checked, 1 some were not, 2 the report itself failed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "json.h"

extern char **environ;

#define SHOWN_MAX 12 /* findings on the screen */

struct kept {
    char **rows; /* sorted; "row id, line end, finishedAt, NUL, the row" */
    size_t n, cap;
};

struct findings {
    char **lines;
    size_t n, cap;
};

enum outcome_status { COMPLETED, UNFINISHED, FAILED };

/* One row of the run. Only the newest of a package counts: it tells of the version that is
 * there, the others of versions that were. */
struct outcome {
    char *package; /* owned; NAME:ARCH */
    size_t order;  /* of being listed: oldest first */
    enum outcome_status status;
    char *row;     /* owned; what rows show (COMPLETED) or rows list printed */
};

struct report {
    const char *binary, *matrix, *run, *begin;
    char results[PATH_MAX], findings_file[PATH_MAX];
    FILE *keep;
    struct kept kept;
    struct findings findings;
    struct outcome *outcomes;
    size_t outcomes_len, outcomes_cap;
    size_t packages, superseded, fresh, unfinished, failed, unlisted;
    int64_t paths, files, bytes, changed, missing, unreadable;
    char first_error[512];
};

static bool complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool complain(const char *format, ...)
{
    va_list args;

    fputs("audit-report: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return false;
}

static bool keep_text(char ***list, size_t *n, size_t *cap, char *text)
{
    char **bigger;

    if (!text)
        return complain("out of memory");
    if (*n == *cap) {
        *cap = *cap ? *cap * 2 : 1024;
        bigger = realloc(*list, *cap * sizeof(**list));
        if (!bigger)
            return complain("out of memory");
        *list = bigger;
    }
    (*list)[(*n)++] = text;
    return true;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What `argv` prints; false when it fails. */
static bool run(const char *const *argv, struct text *ret)
{
    posix_spawn_file_actions_t actions;
    char buffer[65536];
    ssize_t n;
    int pipes[2], status, rc;
    pid_t pid;

    ret->n = 0;
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return complain("pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    /* posix_spawn promises not to write to argv; its type is older than const. */
    rc = posix_spawn(&pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    if (rc) {
        close(pipes[0]);
        return complain("%s: %s", argv[0], strerror(rc));
    }
    while ((n = read(pipes[0], buffer, sizeof(buffer))) > 0 || (n < 0 && errno == EINTR))
        text_add_bytes(ret, buffer, n > 0 ? (size_t)n : 0);
    close(pipes[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (ret->failed)
        return complain("out of memory");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return complain("%s %s %s failed", argv[0], argv[1], argv[2]);
    return true;
}

static int64_t number(exj_str object, const char *name)
{
    return json_whole(json_member(object, name), 0, LONG_MAX, 0);
}

static bool is_of_this_run(const struct report *r, exj_str row)
{
    exj_str run_id = json_member(row, "matrixRunId");
    char *text = json_string(run_id);
    bool same = strcmp(text ? text : "", r->run) == 0;

    free(text);
    return same;
}

/* Count one completed row as `rows show` printed it. */
static bool count_row(struct report *r, exj_str row)
{
    exj_str verify = json_member(
        json_member(json_member(row, "result"), "outputsByNodeId"), "verify");
    exj_str lines = json_member(verify, "lines"), line;
    const char *at = NULL;
    size_t listed = 0;
    int64_t found;

    if (!verify.p)
        return complain("a completed row holds no result of audit-engine: %.*s",
                        (int)(row.n < 200 ? row.n : 200), row.p);
    r->packages++;
    if (json_member(verify, "superseded").p)
        r->superseded++;
    r->paths += number(verify, "paths");
    r->files += number(verify, "files");
    r->bytes += number(verify, "bytes");
    r->changed += number(verify, "changedCount");
    r->missing += number(verify, "missingCount");
    r->unreadable += number(verify, "unreadableCount");
    found = number(verify, "changedCount") + number(verify, "missingCount") +
            number(verify, "unreadableCount");
    for (line = json_item(lines, &at); line.p; line = json_item(lines, &at), listed++) {
        if (!keep_text(&r->findings.lines, &r->findings.n, &r->findings.cap,
                       json_string(line)))
            return false;
    }
    r->unlisted += (size_t)found - listed;
    return true;
}

/* What tells one outcome of a row from another: its id and when it ended. */
static bool add_key(struct text *t, exj_str row)
{
    char *id = json_string(json_member(row, "matrixRowId"));
    char *finished = json_string(json_member(row, "finishedAt"));
    bool ok = id && finished;

    if (ok) {
        text_add(t, id);
        text_add(t, "\n");
        text_add(t, finished);
    }
    free(id);
    free(finished);
    return ok;
}

/* Read what earlier reports kept and open the file to keep more. A last line that was cut
 * short is taken away. */
static bool open_kept(struct report *r)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    off_t whole = 0;
    bool ok = true;

    r->keep = fopen(r->results, "a+e");
    if (!r->keep)
        return complain("%s: %s", r->results, strerror(errno));
    rewind(r->keep);
    while (ok && (n = getline(&line, &cap, r->keep)) > 0 && line[n - 1] == '\n') {
        exj_str row = { line, (uint64_t)n - 1 };
        struct text t = { 0 };

        whole += n;
        if (!is_of_this_run(r, row) || !add_key(&t, row)) {
            text_free(&t);
            continue;
        }
        text_add_bytes(&t, "", 1);
        text_add_bytes(&t, row.p, row.n);
        ok = keep_text(&r->kept.rows, &r->kept.n, &r->kept.cap, t.failed ? NULL : t.p);
    }
    free(line);
    if (r->kept.n)
        qsort(r->kept.rows, r->kept.n, sizeof(*r->kept.rows), by_text);
    if (ok && (fflush(r->keep) || ftruncate(fileno(r->keep), whole)))
        ok = complain("%s: %s", r->results, strerror(errno));
    return ok;
}

static void note_error(struct report *r, exj_str row)
{
    char *id = json_string(json_member(row, "matrixRowId"));
    char *message = json_string(json_member(json_member(row, "error"), "message"));

    if (!r->first_error[0])
        snprintf(r->first_error, sizeof(r->first_error), "%s: %s", id ? id : "?",
                 message ? message : "no reason given");
    free(message);
    free(id);
}

/* Keep an outcome; `row` is copied. */
static bool add_outcome(struct report *r, exj_str listed, enum outcome_status status,
                        exj_str row)
{
    struct outcome o = { .order = r->outcomes_len, .status = status }, *bigger;
    size_t cap = r->outcomes_cap ? r->outcomes_cap * 2 : 1024;

    if (r->outcomes_len == r->outcomes_cap) {
        bigger = realloc(r->outcomes, cap * sizeof(*bigger));
        if (!bigger)
            return complain("out of memory");
        r->outcomes = bigger;
        r->outcomes_cap = cap;
    }
    o.package = json_string(json_member(listed, "recordId"));
    o.row = strndup(row.p, row.n);
    if (!o.package || !o.row) {
        free(o.package);
        free(o.row);
        return complain("a row without recordId");
    }
    o.package[strcspn(o.package, "=")] = '\0';
    r->outcomes[r->outcomes_len++] = o;
    return true;
}

static int by_package_and_order(const void *a, const void *b)
{
    const struct outcome *x = a, *y = b;
    int d = strcmp(x->package, y->package);

    return d ? d : x->order < y->order ? -1 : x->order > y->order;
}

static bool count_outcomes(struct report *r)
{
    struct outcome *o = r->outcomes;
    size_t i, n = r->outcomes_len;
    bool ok = true;

    if (n)
        qsort(o, n, sizeof(*o), by_package_and_order);
    for (i = 0; ok && i < n; i++) {
        exj_str row = { o[i].row, strlen(o[i].row) };

        if (i + 1 < n && strcmp(o[i].package, o[i + 1].package) == 0)
            continue;
        if (o[i].status == COMPLETED) {
            ok = count_row(r, row);
        } else {
            r->failed += o[i].status == FAILED;
            r->unfinished += o[i].status == UNFINISHED;
            note_error(r, row);
        }
    }
    return ok;
}

/* Ask for a completed row that is new to us and keep what is said. */
static bool take_new_row(struct report *r, exj_str listed, const char *id)
{
    struct text shown = { 0 };
    bool ok = run((const char *[]){ r->binary, "rows", "show", id, "--json", NULL }, &shown);

    while (ok && shown.n > 0 && shown.p[shown.n - 1] == '\n')
        shown.n--;
    if (ok && memchr(shown.p, '\n', shown.n))
        ok = complain("rows show --json printed more than a line");
    ok = ok && add_outcome(r, listed, COMPLETED, text_str(&shown));
    if (ok && fprintf(r->keep, "%.*s\n", (int)shown.n, shown.p) < 0)
        ok = complain("%s: %s", r->results, strerror(errno));
    text_free(&shown);
    return ok;
}

static bool take_row(struct report *r, exj_str row)
{
    char *id = json_string(json_member(row, "matrixRowId")), **found = NULL;
    exj_str status = json_member(row, "status");
    char *finished = json_string(json_member(row, "finishedAt"));
    struct text key = { 0 };
    bool ok = id != NULL;

    if (!ok) {
        complain("a row without matrixRowId");
    } else if (!is_of_this_run(r, row)) {
        /* another run's */
    } else if (!json_is(status, "completed")) {
        bool waits = json_is(status, "queued") || json_is(status, "running");

        ok = add_outcome(r, row, waits ? UNFINISHED : FAILED, row);
    } else {
        r->fresh += finished && strcmp(finished, r->begin) >= 0;
        if (add_key(&key, row) && !key.failed && r->kept.n)
            found = bsearch(&key.p, r->kept.rows, r->kept.n, sizeof(*found), by_text);
        if (found) {
            const char *kept = *found + key.n + 1;

            ok = add_outcome(r, row, COMPLETED, (exj_str){ kept, strlen(kept) });
        } else {
            ok = take_new_row(r, row, id);
        }
    }
    text_free(&key);
    free(finished);
    free(id);
    return ok;
}

static bool take_rows(struct report *r)
{
    char after[32] = "0";
    struct text page = { 0 };
    exj_str rows, row;
    const char *at;
    bool ok = true;
    int64_t next = 0;

    do {
        ok = run((const char *[]){ r->binary, "rows", "list", "--json", "--matrix",
                                   r->matrix, "--limit", "1000", "--after", after, NULL },
                 &page);
        if (!ok)
            break;
        rows = json_member(text_str(&page), "rows");
        if (!rows.p) {
            ok = complain("rows list printed something else");
            break;
        }
        at = NULL;
        for (row = json_item(rows, &at); ok && row.p; row = json_item(rows, &at))
            ok = take_row(r, row);
        next = json_whole(json_member(text_str(&page), "next"), 1, LONG_MAX, 0);
        snprintf(after, sizeof(after), "%" PRId64, next);
    } while (ok && next > 0);
    text_free(&page);
    return ok;
}

static bool write_findings(struct report *r)
{
    FILE *f = fopen(r->findings_file, "we");
    size_t i;

    if (!f)
        return complain("%s: %s", r->findings_file, strerror(errno));
    if (r->findings.n)
        qsort(r->findings.lines, r->findings.n, sizeof(*r->findings.lines), by_text);
    for (i = 0; i < r->findings.n; i++)
        fprintf(f, "%s\n", r->findings.lines[i]);
    if (ferror(f) | fclose(f))
        return complain("%s: cannot be written", r->findings_file);
    return true;
}

static void print_summary(const struct report *r, long milliseconds)
{
    double seconds = (double)(milliseconds > 0 ? milliseconds : 1) / 1000.0;
    size_t i;

    printf("\n  packages    %zu", r->packages);
    if (r->superseded)
        printf(" (%zu of them removed or replaced before they were looked at)",
               r->superseded);
    printf("\n  files       %" PRId64 " read, of %" PRId64 " paths\n", r->files, r->paths);
    printf("  bytes       %" PRId64 " (%.1f MiB)\n", r->bytes,
           (double)r->bytes / (1024.0 * 1024.0));
    printf("  changed     %" PRId64 "\n  missing     %" PRId64 "\n  unreadable  %" PRId64 "\n",
           r->changed, r->missing, r->unreadable);
    if (r->fresh)
        printf("  this run    %zu rows in %.1f s: %.1f rows/s\n", r->fresh, seconds,
               (double)r->fresh / seconds);
    else
        printf("  this run    nothing new, in %.2f s\n", seconds);
    if (r->failed + r->unfinished)
        printf("  NOT CHECKED %zu failed, %zu not ended; the first: %s\n", r->failed,
               r->unfinished, r->first_error);
    if (r->findings.n)
        printf("\nFindings, as dpkg --verify writes them:\n");
    for (i = 0; i < r->findings.n && i < SHOWN_MAX; i++)
        printf("  %s\n", r->findings.lines[i]);
    if (r->findings.n > SHOWN_MAX)
        printf("  and %zu more in %s\n", r->findings.n - SHOWN_MAX, r->findings_file);
    if (r->unlisted)
        printf("  %zu findings are counted but not listed (maxListed of the graph)\n",
               r->unlisted);
}

static void report_release(struct report *r)
{
    size_t i;

    for (i = 0; i < r->kept.n; i++)
        free(r->kept.rows[i]);
    free(r->kept.rows);
    for (i = 0; i < r->findings.n; i++)
        free(r->findings.lines[i]);
    free(r->findings.lines);
    for (i = 0; i < r->outcomes_len; i++) {
        free(r->outcomes[i].package);
        free(r->outcomes[i].row);
    }
    free(r->outcomes);
}

int main(int argc, char **argv)
{
    struct report r = { 0 };
    bool ok;

    if (argc != 7) {
        fputs("usage: audit-report BINARY MATRIX RUN FOLDER BEGIN MILLISECONDS\n",
              stderr);
        return 2;
    }
    r.binary = argv[1];
    r.matrix = argv[2];
    r.run = argv[3];
    r.begin = argv[5];
    snprintf(r.results, sizeof(r.results), "%s/results.jsonl", argv[4]);
    snprintf(r.findings_file, sizeof(r.findings_file), "%s/findings.txt", argv[4]);
    ok = open_kept(&r) && take_rows(&r) && count_outcomes(&r) && write_findings(&r);
    if (r.keep && fclose(r.keep) != 0)
        ok = complain("%s: cannot be written", r.results);
    if (ok)
        print_summary(&r, strtol(argv[6], NULL, 10));
    ok = ok && (r.packages > 0 || complain("no package was checked"));
    report_release(&r);
    return !ok ? 2 : r.failed + r.unfinished > 0;
}
