/* check-history: reads histories, and says whether the promises held
 * (core/history/check.h). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/history/check.h"
#include "core/job/record.h"
#include "core/main/progress.h"
#include "core/main/reach.h"

#define ROOM_BYTES (1u << 20) /* of a file at once; at least a line */
#define ROWS_AT_ONCE 1000u

struct reading {
    exj_cli *c;
    exj_check *check;
    exj_progress progress;
    exj_err err;
    char *room;
    bool finals_of_store; /* those of the files are left out */
    exj_nsec last_t;
    int64_t done, total; /* bytes */
    uint64_t incomplete; /* lines without their end */
    bool interrupted;
};

/* ---- files ------------------------------------------------------------------------ */

static exj_code take_event(struct reading *r, const exj_hist_event *e)
{
    if (e->t > r->last_t)
        r->last_t = e->t;
    if (r->finals_of_store && e->op == EXJ_HIST_FINAL)
        return EXJ_OK;
    return exj_check_add(r->check, e, &r->err);
}

static exj_code take_line(struct reading *r, const char *path, uint64_t number,
                          exj_slice line)
{
    char texts[EXJ_HIST_LINE_MAX];
    exj_hist_event e;
    exj_err why = { 0 };
    exj_code rc;

    if (!line.n)
        return EXJ_OK;
    rc = exj_hist_parse(line, &e, texts, &why);
    if (rc != EXJ_OK && exj_hist_is_torn(line)) {
        /* Its process was killed while it wrote; behind it may stand what another one wrote
         * that shares the file. */
        r->incomplete++;
        line = exj_hist_behind_torn(line);
        if (!line.n)
            return EXJ_OK;
        exj_err_clear(&why);
        rc = exj_hist_parse(line, &e, texts, &why);
    }
    rc = rc == EXJ_OK ? take_event(r, &e) : exj_err_set(&r->err, rc, "%s", why.text);
    if (rc != EXJ_OK)
        exj_err_prefix(&r->err, "%s:%" PRIu64, path, number);
    return rc;
}

/* What stands behind the last newline: its process was killed while it wrote, or it is
 * whole. */
static void take_rest(struct reading *r, exj_slice line)
{
    char texts[EXJ_HIST_LINE_MAX];
    exj_hist_event e;

    if (exj_hist_parse(line, &e, texts, NULL) != EXJ_OK)
        r->incomplete++;
    else
        take_event(r, &e);
}

static exj_code read_lines(struct reading *r, int fd, const char *path)
{
    size_t have = 0;
    uint64_t number = 0;
    exj_code rc = EXJ_OK;

    while (rc == EXJ_OK) {
        ssize_t n = read(fd, r->room + have, ROOM_BYTES - have);
        size_t from = 0;
        char *end;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return exj_err_set(&r->err, EXJ_IO, "cannot read %s: %s", path,
                               strerror(errno));
        if (n == 0)
            break;
        have += (size_t)n;
        r->done += n;
        while (rc == EXJ_OK && (end = memchr(r->room + from, '\n', have - from))) {
            size_t at = (size_t)(end - r->room);

            rc = take_line(r, path, ++number, (exj_slice){ r->room + from, at - from });
            from = at + 1;
        }
        memmove(r->room, r->room + from, have - from);
        have -= from;
        if (rc == EXJ_OK && have >= EXJ_HIST_LINE_MAX)
            rc = exj_err_set(&r->err, EXJ_INVALID,
                             "%s:%" PRIu64
                             ": a line of more than %u bytes; is it a history?",
                             path, number + 1, EXJ_HIST_LINE_MAX);
        if (!exj_progress_tell(&r->progress, "bytes", r->done, r->total)) {
            r->interrupted = true;
            return exj_err_set(&r->err, EXJ_CANCELLED, "interrupted");
        }
    }
    if (rc == EXJ_OK && have)
        take_rest(r, (exj_slice){ r->room, have });
    return r->err.code != EXJ_OK ? r->err.code : rc;
}

static exj_code read_file(struct reading *r, const char *path)
{
    exj_code rc;
    int fd;

    if (strcmp(path, "-") == 0)
        return read_lines(r, STDIN_FILENO, "standard input");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return exj_err_set(&r->err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO,
                           "cannot open %s: %s", path, strerror(errno));
    rc = read_lines(r, fd, path);
    close(fd);
    return rc;
}

static int64_t bytes_of(const exj_cli *c)
{
    struct stat st;
    int64_t n = 0;

    for (unsigned i = 0; i < c->args_len; i++)
        if (strcmp(c->args[i], "-") != 0 && stat(c->args[i], &st) == 0 &&
            S_ISREG(st.st_mode))
            n += st.st_size;
    return n;
}

/* ---- the store of the end --------------------------------------------------------- */

struct rows {
    struct reading *r;
    int64_t after;
    size_t n;
    exj_code rc;
};

static bool take_row(void *user, const exj_row_view *v)
{
    struct rows *s = user;
    exj_buf job = EXJ_BUF_INIT;
    char digest[EXJ_HIST_DIGEST_BYTES];
    exj_hist_event e = { .t = s->r->last_t + 1,
                         .actor = EXJ_SLICE_LITERAL("store"),
                         .op = EXJ_HIST_FINAL,
                         .phase = EXJ_HIST_OK,
                         .row = v->seq,
                         .token = v->token,
                         .attempt = v->attempts,
                         .value = v->max_attempts,
                         .to = exj_slice_of(exj_status_word(v->status)) };

    s->after = v->seq;
    s->n++;
    if (v->result.n) {
        exj_hist_digest(v->result, digest);
        e.digest = exj_slice_of(digest);
    }
    if (!exj_row_name_add(&job, v->matrix, v->run, v->graph, v->record_id)) {
        s->rc = exj_err_set(&s->r->err, EXJ_NOMEM, "out of memory");
    } else {
        if (job.n <=
            EXJ_HIST_JOB_MAX / 2) /* no recorder clipped it; else its number is enough */
            e.job = exj_buf_slice(&job);
        s->rc = exj_check_add(s->r->check, &e, &s->r->err);
    }
    exj_buf_release(&job);
    return s->rc == EXJ_OK;
}

static exj_code read_store(struct reading *r)
{
    exj_sqlite_options o = { .dir = exj_settings_text(&r->c->settings, EXJ_SET_DATA_DIR),
                             .read_only = true };
    exj_row_filter f = { .status = -1, .limit = ROWS_AT_ONCE };
    struct rows s = { .r = r };
    exj_store *store = NULL;
    exj_code rc;

    if ((rc = exj_settings_support(&r->c->settings, &r->err)) != EXJ_OK ||
        (rc = exj_sqlite_open(&o, &store, &r->err)) != EXJ_OK)
        return rc;
    do {
        s.n = 0;
        f.after_seq = s.after;
        rc = store->v->row_page(store, &f, take_row, &s, &r->err);
        if (rc == EXJ_OK)
            rc = s.rc;
    } while (rc == EXJ_OK && s.n == ROWS_AT_ONCE);
    store->v->close(store);
    return rc;
}

/* ---- the report ------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t at;
} counts[] = {
#define COUNT(json, member)                                                              \
    {                                                                                    \
        json, offsetof(exj_check_counts, member)                                         \
    }
    COUNT("events", events),
    COUNT("rows", rows),
    COUNT("olderRows", older),
    COUNT("finalRows", finals),
    COUNT("enqueued", enqueued),
    COUNT("claims", claims),
    COUNT("renewals", renewals),
    COUNT("outcomes", completes),
    COUNT("completed", completed),
    COUNT("steps", steps),
    COUNT("replays", replays),
    COUNT("refusals", refusals),
    COUNT("expiries", expiries),
    COUNT("releases", releases),
    COUNT("retries", retries),
    COUNT("reruns", reruns),
    COUNT("cancels", cancels),
    COUNT("removed", removed),
    COUNT("effects", effects),
    COUNT("executions", executions),
    COUNT("reloads", reloads),
    COUNT("kills", kills),
    COUNT("stops", stops),
    COUNT("otherFaults", other_faults),
    COUNT("cores", cores),
    COUNT("crashedCores", crashed_cores),
    COUNT("crashedHosts", host_crashes),
    COUNT("unknownOutcomes", unknown),
    COUNT("endsWithoutInvoke", unpaired),
    COUNT("streamEntries", entries),
    COUNT("streamReaders", readers),
#undef COUNT
};
#define COUNTS (sizeof counts / sizeof counts[0])

static uint64_t count_at(const exj_check_report *p, size_t i)
{
    return *(const uint64_t *)(const void *)((const char *)&p->counts + counts[i].at);
}

static const char *result_of(const exj_check_line *l)
{
    return l->findings ? "violated" : l->not_tested ? "not tested" : "ok";
}

static bool add_spread(json_t *o, const char *name, const exj_check_spread *s)
{
    json_t *v =
        json_pack("{s:I,s:I,s:I,s:I}", "n", (json_int_t)s->n, "p50", (json_int_t)s->p50,
                  "p99", (json_int_t)s->p99, "max", (json_int_t)s->max);

    return json_object_set_new(o, name, v) == 0;
}

static json_t *invariants_of(const exj_check_report *p)
{
    json_t *list = json_array();

    for (unsigned i = 1; list && i <= EXJ_CHECK_LAST; i++) {
        const exj_check_line *l = &p->lines[i];
        char id[8];
        json_t *o;

        snprintf(id, sizeof id, "I%u", i);
        o = json_pack("{s:s,s:s,s:s,s:I,s:I}", "id", id, "title", l->title, "result",
                      result_of(l), "findings", (json_int_t)l->findings, "tried",
                      (json_int_t)l->tried);
        if (o && l->not_tested)
            json_object_set_new(o, "notTested", json_string(l->not_tested));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *findings_of(const exj_check_report *p)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < p->findings_len; i++) {
        const exj_check_finding *f = &p->findings[i];
        char id[8];

        snprintf(id, sizeof id, "I%u", f->invariant);
        json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:s}", "invariant", id,
                                              "anomaly", f->anomaly, "row",
                                              (json_int_t)f->row, "text", f->text));
    }
    return list;
}

static exj_exit print_json(const struct reading *r, const exj_check_report *p)
{
    json_t *o = json_object(), *n = json_object();
    exj_exit status;
    bool good = o && n &&
                json_object_set_new(o, "verdict",
                                    json_string(exj_check_verdict_word(p->verdict))) == 0;

    for (size_t i = 0; good && i < COUNTS; i++)
        good = json_object_set_new(n, counts[i].name,
                                   json_integer((json_int_t)count_at(p, i))) == 0;
    good = good &&
           json_object_set_new(n, "incompleteLines",
                               json_integer((json_int_t)r->incomplete)) == 0 &&
           json_object_set(o, "counts", n) == 0 &&
           json_object_set_new(o, "invariants", invariants_of(p)) == 0 &&
           json_object_set_new(o, "findings", findings_of(p)) == 0 &&
           json_object_set_new(o, "leaseMs", json_integer(p->lease_ms)) == 0 &&
           add_spread(o, "overtaken", &p->overtaken) &&
           add_spread(o, "recoveryUs", &p->recovery_us) &&
           add_spread(o, "reclaimUs", &p->reclaim_us);
    status = good ? exj_out_json(r->c, o, false)
                  : exj_fail(r->c, EXJ_EXIT_FAILED, "out of memory");
    json_decref(n);
    json_decref(o);
    return status;
}

static void print_findings(const exj_cli *c, const exj_check_report *p)
{
    exj_table t = EXJ_TABLE("BROKEN", "ANOMALY", "WHERE");
    char id[8];

    for (size_t i = 0; i < p->findings_len; i++) {
        const exj_check_finding *f = &p->findings[i];

        snprintf(id, sizeof id, "I%u", f->invariant);
        exj_table_add(&t, id);
        exj_table_add(&t, f->anomaly);
        exj_table_add(&t, f->text);
    }
    exj_table_print(&t, c->color);
    if (p->findings_len)
        putchar('\n');
}

static void print_invariants(const exj_cli *c, const exj_check_report *p)
{
    exj_table t = EXJ_TABLE("", "RESULT", "FOUND", "TRIED", "WHAT");
    exj_buf what = EXJ_BUF_INIT;
    char id[8];

    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++) {
        const exj_check_line *l = &p->lines[i];

        snprintf(id, sizeof id, "I%u", i);
        exj_buf_reset(&what);
        exj_buf_add_text(&what, l->title);
        if (l->not_tested)
            exj_buf_printf(&what, " (%s)", l->not_tested);
        exj_table_add(&t, id);
        exj_table_add(&t, result_of(l));
        exj_table_add_number(&t, (int64_t)l->findings);
        exj_table_add_number(&t, (int64_t)l->tried);
        exj_table_add(&t, what.p);
    }
    exj_buf_release(&what);
    exj_table_print(&t, c->color);
    putchar('\n');
}

static void add_measure(exj_table *t, const char *name, const exj_check_spread *s)
{
    char text[128];

    if (!s->n)
        return;
    snprintf(text, sizeof text,
             "p50 %" PRIu64 ", p99 %" PRIu64 ", max %" PRIu64 " of %" PRIu64, s->p50,
             s->p99, s->max, s->n);
    exj_table_add(t, name);
    exj_table_add(t, text);
}

static void print_counts(const struct reading *r, const exj_check_report *p)
{
    exj_table t = EXJ_TABLE("COUNT", "");

    for (size_t i = 0; i < COUNTS; i++)
        if (count_at(p, i)) {
            exj_table_add(&t, counts[i].name);
            exj_table_add_number(&t, (int64_t)count_at(p, i));
        }
    if (r->incomplete) {
        exj_table_add(&t, "incompleteLines");
        exj_table_add_number(&t, (int64_t)r->incomplete);
    }
    add_measure(&t, "overtaken", &p->overtaken);
    add_measure(&t, "recoveryUs", &p->recovery_us);
    add_measure(&t, "reclaimUs", &p->reclaim_us);
    exj_table_print(&t, r->c->color);
}

static void print_verdict(const exj_check_report *p)
{
    uint64_t findings = 0;
    unsigned untested = 0;

    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++) {
        findings += p->lines[i].findings;
        untested += p->lines[i].not_tested != NULL;
    }
    printf("\n%s: ", exj_check_verdict_word(p->verdict));
    if (p->verdict == EXJ_CHECK_UNKNOWN)
        printf("nothing is broken, but %s",
               p->counts.completed ? "no fault ever hit; " : "no row was completed; ");
    else
        printf("%" PRIu64 " findings; ", findings);
    printf("%u of %u not tested\n", untested, EXJ_CHECK_LAST);
}

static exj_exit print_report(const struct reading *r, const exj_check_report *p)
{
    exj_exit status = EXJ_EXIT_OK;

    if (r->c->json) {
        status = print_json(r, p);
    } else {
        print_findings(r->c, p);
        print_invariants(r->c, p);
        print_counts(r, p);
        print_verdict(p);
    }
    if (status == EXJ_EXIT_OK)
        status = p->verdict == EXJ_CHECK_VALID     ? EXJ_EXIT_OK
                 : p->verdict == EXJ_CHECK_INVALID ? EXJ_EXIT_FAILED
                                                   : EXJ_EXIT_PARTIAL;
    return status;
}

static exj_code read_all(struct reading *r)
{
    exj_code rc = EXJ_OK;

    exj_progress_begin(&r->progress, r->c);
    for (unsigned i = 0; i < r->c->args_len && rc == EXJ_OK; i++)
        rc = read_file(r, r->c->args[i]);
    exj_progress_end(&r->progress);
    if (rc == EXJ_OK && r->finals_of_store)
        rc = read_store(r);
    return rc;
}

exj_exit exj_cmd_check_history(exj_cli *c)
{
    exj_check_options o = { 0 };
    exj_check_report report;
    struct reading r = { .c = c,
                         .total = bytes_of(c),
                         .finals_of_store =
                             c->settings.at[EXJ_SET_DATA_DIR].origin == EXJ_FROM_FLAG };
    exj_exit status;

    if (exj_cli_number(c, EXJ_CLI_LEASE_MS, 1, 86400000, 0, &o.lease_ms, &r.err) !=
        EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", r.err.text);
    r.room = malloc(ROOM_BYTES);
    r.check = exj_check_new(&o);
    if (!r.room || !r.check)
        status = exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
    else if (read_all(&r) != EXJ_OK ||
             exj_check_finish(r.check, &report, &r.err) != EXJ_OK)
        status = r.interrupted ? EXJ_EXIT_INTERRUPTED : exj_fail_err(c, &r.err);
    else
        status = print_report(&r, &report);
    exj_check_free(r.check);
    free(r.room);
    return exj_out_finish(c, status);
}
