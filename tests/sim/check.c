/* After the drain: what must be so whatever happened. */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/job/record.h"
#include "core/run/sinks.h"
#include "core/run/verify.h"
#include "core/store/care.h"

struct seen {
    unsigned rows;
    bool there[SIM_SEQS];
    uint16_t records[SIM_RECORDS]; /* rows of each record that was pushed */
    unsigned completed, sources;
};

static bool has_effect(uint64_t job, int64_t token)
{
    for (unsigned i = 0; i < sim->effects_len; i++)
        if (sim->effects[i].job == job && sim->effects[i].token == token)
            return true;
    return false;
}

static void tell_final(const exj_row_view *r)
{
    exj_buf name = EXJ_BUF_INIT;
    char digest[EXJ_HIST_DIGEST_BYTES] = "";
    exj_hist_event e = { .op = EXJ_HIST_FINAL,
                         .phase = EXJ_HIST_OK,
                         .row = r->seq,
                         .token = r->token,
                         .attempt = r->attempts,
                         .value = r->max_attempts,
                         .to = exj_slice_of(exj_status_name(r->status)) };

    exj_row_name_add(&name, r->matrix, r->run, r->graph, r->record_id);
    e.job = exj_buf_slice(&name);
    if (r->result.n)
        exj_hist_digest(r->result, digest);
    e.digest = exj_slice_of(digest);
    exj_recorder_write(sim->recorder, &e);
    exj_buf_release(&name);
}

static bool look(void *user, const exj_row_view *r)
{
    struct seen *seen = user;
    uint64_t job = sim_job_of(r);
    unsigned n;
    char id[32];

    tell_final(r);
    seen->rows++;
    if (r->seq < SIM_SEQS)
        seen->there[r->seq] = true;
    snprintf(id, sizeof(id), "%.*s", (int)r->record_id.n, r->record_id.p);
    if (exj_slice_is(r->matrix, "m0") && sscanf(id, "r%u", &n) == 1 && n < SIM_RECORDS)
        seen->records[n]++;
    else if (exj_slice_is(r->matrix, "m1"))
        seen->sources++;
    sim_note("end: row %" PRId64 " %s: %s, token %" PRId64 ", attempts %u of %u", r->seq,
             id, exj_status_name(r->status), r->token, r->attempts, r->max_attempts);
    if (r->attempts > r->max_attempts)
        sim_fail("I10: row %" PRId64 ": %u attempts of %u", r->seq, r->attempts,
                 r->max_attempts);
    if (r->status == EXJ_COMPLETED) {
        char by[64];
        long long token = 0;

        seen->completed++;
        snprintf(by, sizeof(by), "%.*s", (int)(r->result.n < 63 ? r->result.n : 63),
                 r->result.p);
        if (strstr(by, "\"stale\""))
            sim_fail("I6: row %" PRId64 ": its result is a stale one", r->seq);
        if (!strstr(by, "\"by\":") ||
            sscanf(strstr(by, "\"by\":"), "\"by\":%lld", &token) != 1)
            sim_note("row %" PRId64 ": result %s", r->seq, by);
        else if (!has_effect(job, token))
            sim_fail("I8: row %" PRId64 ": done with token %lld, and nothing was done",
                     r->seq, token);
    }
    return true;
}

static bool failure(void *user, const exj_failure_view *v)
{
    if (exj_slice_is(v->code, "Stale"))
        sim_fail("I6: row %" PRId64 ": an error of a claim that was over (token %" PRId64
                 ") is written down",
                 *(const int64_t *)user, v->token);
    return true;
}

static void check_failures(void)
{
    exj_err err = { 0 };

    for (int64_t seq = 1; seq <= sim->seqs_most; seq++)
        if (sim->store->v->failure_each(sim->store, seq, 1000, failure, &seq, &err) !=
            EXJ_OK)
            sim_fail("failures: %s", err.text);
}

static void check_sum(void)
{
    exj_buf value = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_code rc = sim->store->v->kv_get(sim->store, EXJ_SLICE_LITERAL("g0"),
                                        EXJ_SLICE_LITERAL("sum"), &value, &err);
    long long sum = rc == EXJ_OK ? strtoll(value.p, NULL, 10) : 0;

    if (rc != EXJ_OK && rc != EXJ_NOT_FOUND)
        sim_fail("sum: %s", err.text);
    if (sum < sim->sum_least || sum > sim->sum_most)
        sim_fail("commands: %lld were done, %" PRId64 " to %" PRId64 " should be", sum,
                 sim->sum_least, sim->sum_most);
    exj_buf_release(&value);
}

/* ---- while it runs
 * ---------------------------------------------------------------------------- */

struct keyed {
    unsigned n;
    struct {
        uint64_t graph_key;
        bool running;
    } unique[512], limited[512];
    unsigned unique_len, limited_len;
};

static bool audit_row(void *user, const exj_row_view *r)
{
    struct keyed *k = user;
    uint64_t graph = sim_hash(r->graph.p, r->graph.n) * 31;
    bool over = r->status == EXJ_COMPLETED || r->status == EXJ_FAILED ||
                r->status == EXJ_CANCELED || r->status == EXJ_DROPPED;

    k->n++;
    if (r->unique_key.n && !over && k->unique_len < 512) {
        uint64_t h = graph ^ sim_hash(r->unique_key.p, r->unique_key.n);

        for (unsigned i = 0; i < k->unique_len; i++)
            if (k->unique[i].graph_key == h)
                sim_fail(
                    "two rows that have not ended have the unique key %.*s (row %" PRId64
                    ")",
                    (int)r->unique_key.n, r->unique_key.p, r->seq);
        k->unique[k->unique_len++].graph_key = h;
    }
    if (r->concurrency_key.n && r->status == EXJ_RUNNING && k->limited_len < 512) {
        uint64_t h = graph ^ sim_hash(r->concurrency_key.p, r->concurrency_key.n);

        for (unsigned i = 0; i < k->limited_len; i++)
            if (k->limited[i].graph_key == h)
                sim_fail(
                    "two rows run at once with the concurrency key %.*s (row %" PRId64
                    ")",
                    (int)r->concurrency_key.n, r->concurrency_key.p, r->seq);
        k->limited[k->limited_len++].graph_key = h;
    }
    return true;
}

void *sim_audit(void *arg)
{
    exj_store *s = arg;

    while (!sim->stopping && !sim->draining) {
        exj_row_filter f = { .status = -1, .limit = 1000 };
        struct keyed *k = calloc(1, sizeof(*k));

        if (!k)
            abort();
        s->v->row_page(s, &f, audit_row, k,
                       NULL); /* one view of all: there are not so many */
        free(k);
        sim_sleep((int64_t)(500 + sim_below(&sim->rng_load, 2500)) * 1000000);
    }
    sim->operators--;
    return NULL;
}

/* ---- afterwards
 * ------------------------------------------------------------------------------- */

static bool differs(void *user, const exj_row_view *row, const char *what)
{
    (void)user;
    sim_fail("journal: row %" PRId64 ": %s", row->seq, what);
    return false;
}

static void found(void *user, const exj_finding *f)
{
    (void)user;
    sim_fail("doctor: %s: %s", f->part, f->text);
}

static bool event(void *user, const exj_event_view *v)
{
    int64_t *last = user;

    if (v->entry.number <= *last)
        sim_fail("I16: event %" PRId64 " comes after %" PRId64, v->entry.number, *last);
    *last = v->entry.number;
    exj_recorder_write(
        sim->recorder,
        &(exj_hist_event){ .op = EXJ_HIST_EVENT,
                           .phase = EXJ_HIST_OK,
                           .row = v->entry.seq,
                           .token = v->entry.token,
                           .value = v->entry.number,
                           .key = exj_slice_of(exj_entry_word(v->entry.kind)) });
    if (v->entry.number < (int64_t)sizeof(sim->delivered) &&
        !sim->delivered[v->entry.number])
        sim_fail("sink: event %" PRId64 " (%s of row %" PRId64 ") never came",
                 v->entry.number, exj_entry_word(v->entry.kind), v->entry.seq);
    return true;
}

static void check_events(void)
{
    int64_t last = 0, before;
    exj_err err = { 0 };

    do {
        before = last;
        if (sim->store->v->events(sim->store, last, 1000, event, &last, &err) != EXJ_OK)
            sim_fail("events: %s", err.text);
    } while (last != before);
}

void sim_check_end(void)
{
    struct seen *seen = calloc(1, sizeof(*seen));
    exj_row_filter f = { .status = -1, .limit = 1000 };
    exj_verified verified;
    exj_doctor_report report;
    exj_doctor_options doctor = { .dir = sim->o.dir, .found = found };
    exj_err err = { 0 };
    unsigned before;

    if (!seen)
        abort();
    do {
        before = seen->rows;
        if (sim->store->v->row_page(sim->store, &f, look, seen, &err) != EXJ_OK)
            sim_fail("rows: %s", err.text);
        for (f.after_seq = SIM_SEQS - 1; f.after_seq && !seen->there[f.after_seq];)
            f.after_seq--;
    } while (seen->rows != before);
    for (int64_t seq = 1; seq <= sim->seqs_most; seq++)
        if (sim->seqs[seq].acked && !seen->there[seq])
            sim_fail("I1: row %" PRId64 " was acknowledged and is lost", seq);
    for (unsigned i = 0; i < sim->records_len; i++) {
        if (sim->records[i].acked && seen->records[i] != sim->records[i].rows)
            sim_fail("I1: record %s was acknowledged and has %u rows of %u",
                     sim->records[i].id, seen->records[i], sim->records[i].rows);
        if (seen->records[i] && seen->records[i] != sim->graphs &&
            !strstr(sim->keys, "unique"))
            sim_fail("group: record %s has %u rows of %u", sim->records[i].id,
                     seen->records[i], sim->graphs);
    }
    if (seen->sources != sim->source_rows)
        sim_fail("source: %u rows of %u records", seen->sources, sim->source_rows);
    if (exj_verify_rows(sim->store, 0, EXJ_VERIFY_ROWS_MAX, differs, NULL, &verified,
                        &err) != EXJ_OK)
        sim_fail("verify: %s", err.text);
    check_events();
    check_failures();
    check_sum();
    if (exj_sqlite_doctor(&doctor, &report, &err) != EXJ_OK)
        sim_fail("doctor: %s", err.text);
    sim_note("checked %u rows, %u completed", seen->rows, seen->completed);
    free(seen);
}
