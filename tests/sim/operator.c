/* Who sends records and orders while the workers work, and who writes with claims that
 * are over. */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <string.h>

#include "core/job/record.h"
#include "core/run/admit.h"

#define MS ((int64_t)1000000)

static bool put(exj_store *s, exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_err err = { 0 };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    if (exj_store_do(s, &op, &err) == EXJ_OK)
        return true;
    sim_note("document %s: %s", id, err.text);
    return false;
}

static bool put_graph(exj_store *s, unsigned i, bool running)
{
    /* The seed's own, and the same each time. */
    uint64_t r = sim->o.seed * 31 + i;
    char id[8], text[512], more[128] = "";

    snprintf(id, sizeof(id), "g%u", i);
    if (sim_chance(&r, 40)) {
        snprintf(more, sizeof(more), ",\"timeoutSeconds\":%u",
                 1 + (unsigned)sim_below(&r, 5));
        sim->has_timeouts = true;
    }
    if (sim_chance(&r, 30))
        snprintf(more + strlen(more), sizeof(more) - strlen(more), ",\"concurrency\":%u",
                 1 + (unsigned)sim_below(&r, 2));
    if (sim_chance(&r, 20))
        snprintf(more + strlen(more), sizeof(more) - strlen(more),
                 ",\"rateLimit\":{\"count\":%u,\"perSeconds\":1}",
                 2 + (unsigned)sim_below(&r, 10));
    snprintf(
        text, sizeof(text),
        "{\"graphId\":\"%s\",\"payload\":{\"graphId\":\"%s\",\"execution\":{"
        "\"maxAttempts\":"
        "%u,\"retry\":{\"initialSeconds\":1,\"maxSeconds\":3}%s}},\"publicationStatus\":"
        "\"Published\",\"operationalState\":\"%s\"}",
        id, id, sim->max_attempts, more, running ? "Running" : "Paused");
    return put(s, EXJ_DOC_GRAPH, id, text);
}

bool sim_put_documents(exj_store *s)
{
    char graphs[64] = "", text[512];
    uint64_t r = sim->o.seed * 131;

    sim->keys = (const char *[]){
        "", "", ",\"keys\":{\"concurrency\":\"k\"}", ",\"keys\":{\"unique\":\"k\"}",
        ",\"keys\":{\"concurrency\":\"k\",\"unique\":\"u\"}"
    }[sim_below(&r, 5)];
    for (unsigned i = 0; i < sim->graphs; i++) {
        if (!put_graph(s, i, true))
            return false;
        snprintf(graphs + strlen(graphs), sizeof(graphs) - strlen(graphs), "%s\"g%u\"",
                 i ? "," : "", i);
    }
    snprintf(text, sizeof(text),
             "{\"matrixCatalogId\":\"m0\",\"payload\":{\"graphs\":[%s],\"dataSource\":{"
             "\"kind\":"
             "\"event\"}%s}}",
             graphs, sim->keys);
    if (!put(s, EXJ_DOC_MATRIX, "m0", text))
        return false;
    snprintf(
        text, sizeof(text),
        "{\"matrixCatalogId\":\"m1\",\"payload\":{\"graphs\":[\"g0\"],\"dataSource\":{"
        "\"kind\":\"record\",\"resolver\":\"sim.source\"},\"pollWhenEmptySeconds\":2%s}}",
        strstr(sim->keys, "unique") ? "" : sim->keys);
    if (!put(s, EXJ_DOC_MATRIX, "m1", text))
        return false;
    if (!sim_chance(&r, 40))
        return true;
    return put(
        s, EXJ_DOC_SCHEDULE, "tick",
        "{\"scheduleId\":\"tick\",\"payload\":{\"everySeconds\":7,\"missed\":\"once\","
        "\"start\":{\"matrixCatalogId\":\"m0\",\"graphId\":\"g0\"}}}");
}

/* ---- orders
 * ------------------------------------------------------------------------------------ */

static void rows_changed(void)
{
    for (int i = 0; i < sim->engines_len; i++)
        exj_engine_rows_changed(sim->engines[i]);
}

static exj_code signal_row(exj_store *s, int64_t seq)
{
    exj_op op = { .kind = EXJ_OP_SIGNAL };
    exj_code rc;

    op.u.signal.seq = seq;
    op.u.signal.name = EXJ_SLICE_LITERAL("go");
    op.u.signal.body = EXJ_SLICE_LITERAL("{}");
    rc = exj_store_do(s, &op, NULL);
    if (rc == EXJ_OK) {
        sim->t.signals++;
        rows_changed();
    }
    return rc;
}

static void push(exj_store *s)
{
    exj_admission *a = NULL;
    exj_err err = { 0 };
    unsigned n = 1 + (unsigned)sim_below(&sim->rng_load, 4), first = sim->records_len;

    if (sim->records_len + n > sim->rows || sim->records_len + n > SIM_RECORDS)
        return;
    if (exj_admission_open_id(s, sim->engines[0], EXJ_SLICE_LITERAL("m0"),
                              (exj_slice){ 0 }, &a, &err) != EXJ_OK) {
        sim_note("push: %s", err.text);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        sim_record *r = &sim->records[sim->records_len++];
        exj_admit_options o = { 0 };
        char record[64];

        snprintf(r->id, sizeof(r->id), "r%u", sim->records_len - 1);
        snprintf(record, sizeof(record), "{\"n\":%u,\"k\":\"k%u\",\"u\":\"u%u\"}",
                 sim->records_len, (unsigned)sim_below(&sim->rng_load, 3),
                 (unsigned)sim_below(&sim->rng_load, 9));
        o.has_priority = sim_chance(&sim->rng_load, 30);
        o.priority = (int32_t)sim_below(&sim->rng_load, 5);
        if (sim_chance(&sim->rng_load, 15))
            o.run_after = s->v->now(s) + (exj_msec)sim_below(&sim->rng_load, 5000);
        exj_admission_add(a, exj_slice_of(r->id), exj_slice_of(record), &o, &err);
    }
    if (exj_admission_submit(a, &err) == EXJ_OK)
        for (unsigned i = 0; i < n; i++) {
            sim->records[first + i].acked = true;
            for (size_t g = 0; g < exj_admission_graphs(a); g++)
                sim->records[first + i].rows +=
                    exj_admission_item(a, g, i)->verdict == EXJ_OK;
        }
    else
        sim_note("push: %s", err.text);
    for (size_t g = 0; g < exj_admission_graphs(a) && sim_chance(&sim->rng_load, 30); g++)
        if (sim->records[first].acked && exj_admission_item(a, g, 0)->verdict == EXJ_OK)
            signal_row(s,
                       exj_admission_item(a, g, 0)->seq); /* it may not wait for it yet */
    exj_admission_free(a);
    for (int i = 1; i < sim->engines_len; i++)
        exj_engine_wake(sim->engines[i]);
}

uint64_t sim_job_of(const exj_row_view *r)
{
    exj_buf name = EXJ_BUF_INIT;
    uint64_t h = 0;

    if (exj_row_name_add(&name, r->matrix, r->run, r->graph, r->record_id))
        h = sim_hash(name.p, name.n);
    exj_buf_release(&name);
    return h;
}

struct picked {
    int64_t seq, token;
    exj_status status;
    uint64_t job;
    bool any_signal;
};

static bool take_row(void *user, const exj_row_view *r)
{
    struct picked *p = user;

    p->seq = r->seq;
    p->status = r->status;
    p->token = r->token;
    p->any_signal = r->signal.n == 0;
    p->job = sim_job_of(r);
    return false;
}

static void retry_row(exj_store *s, int64_t seq)
{
    exj_op op = { .kind = EXJ_OP_RETRY };

    op.u.retry.seq = seq;
    if (exj_store_do(s, &op, NULL) == EXJ_OK)
        rows_changed();
}

static bool has_run_since(const struct picked *p)
{
    return sim->seqs[p->seq].token > p->token;
}

static bool has_step(exj_store *s, int64_t seq)
{
    exj_buf body = EXJ_BUF_INIT;
    bool has = s->v->step_get(s, seq, EXJ_SLICE_LITERAL("step-1"), &body, NULL) == EXJ_OK;

    exj_buf_release(&body);
    return has && sim->seqs[seq].over;
}

static void order_a_row(exj_store *s)
{
    struct picked p = { 0 };
    int64_t seq = 1 + (int64_t)sim_below(&sim->rng_load, (uint64_t)sim->seqs_most + 1);
    exj_op op = { .kind = EXJ_OP_CANCEL };

    if (s->v->row_by_seq(s, seq, take_row, &p, NULL) != EXJ_OK || p.seq != seq)
        return;
    switch (sim_below(&sim->rng_load, 6)) {
    case 0:
        op.u.cancel.seq = seq;
        op.u.cancel.why = EXJ_SLICE_LITERAL("the seed says so");
        if (exj_store_do(s, &op, NULL) == EXJ_OK && op.u.cancel.ret_to == EXJ_RUNNING)
            for (int i = 0; i < sim->engines_len; i++)
                exj_engine_cancel_row(sim->engines[i], seq);
        break;
    case 1:
        retry_row(s, seq);
        break;
    case 2:
        for (unsigned tries = 0; tries < 10 && !has_step(s, seq); tries++)
            seq = 1 + (int64_t)sim_below(&sim->rng_load, (uint64_t)sim->seqs_most + 1);
        if (s->v->row_by_seq(s, seq, take_row, &p, NULL) != EXJ_OK || p.seq != seq)
            return;
        op = (exj_op){ .kind = EXJ_OP_RERUN };
        op.u.rerun.seq = seq;
        if (sim_chance(&sim->rng_load, 70))
            op.u.rerun.step = EXJ_SLICE_LITERAL("step-1");
        sim_forget_steps(p.job);
        if (exj_store_do(s, &op, NULL) == EXJ_OK) {
            rows_changed();
            sim_forget_steps(p.job);
            if (op.u.rerun.step.n && !has_run_since(&p))
                sim_step_dropped(p.job, "step-1");
        }
        break;
    default:
        signal_row(s, seq);
    }
}

/* A command that comes with a key, perhaps for the second time: its sum is added once. Or
 * one whose group is refused: nothing of it is. */
static void command(exj_store *s)
{
    static const uint8_t fingerprint[32] = { 1 };
    exj_op ops[3] = { { .kind = EXJ_OP_COMMAND_TAKE },
                      { .kind = EXJ_OP_KV_ADD },
                      { .kind = EXJ_OP_COMMAND_KEEP } };
    bool refused = sim_chance(&sim->rng_load, 30);
    unsigned n = (unsigned)sim_below(&sim->rng_load, SIM_COMMANDS);
    char key[32];
    exj_code rc;

    snprintf(key, sizeof(key), "%s-%u", refused ? "no" : "yes", n);
    for (unsigned i = 0; i < 3; i += 2) {
        ops[i].u.command.key = exj_slice_of(key);
        memcpy(ops[i].u.command.fingerprint, fingerprint, sizeof(fingerprint));
        ops[i].u.command.keep_ms = 30 * 86400000ll;
        ops[i].u.command.status = 200;
        ops[i].u.command.body = EXJ_SLICE_LITERAL("{}");
    }
    ops[0].u.command.owner = ops[2].u.command.owner =
        (int64_t)(sim_random(&sim->rng_load) >> 1 | 1);
    ops[1].u.kv.graph = EXJ_SLICE_LITERAL("g0");
    ops[1].u.kv.key = EXJ_SLICE_LITERAL("sum");
    ops[1].u.kv.delta = 1;
    if (refused) /* no such row */
        ops[2] = (exj_op){ .kind = EXJ_OP_RETRY, .u.retry.seq = SIM_SEQS - 1 };
    ops[0].next = &ops[1];
    ops[1].next = &ops[2];
    sim->sum_most += !refused; /* until it is known not to have been */
    rc = exj_store_do_group(s, ops, NULL);
    if (refused && rc == EXJ_OK)
        sim_fail("a group with an order for no row is done");
    if (!refused && rc == EXJ_OK && sim->commands[n])
        sim_fail("I18: the command %s is done again", key);
    if (rc == EXJ_BUSY) /* its group is done or not */
        sim_fail("I18: nobody works on the command %s: %s", key, ops[0].err.text);
    sim->commands[n] |= !refused && rc == EXJ_OK;
    if (!refused && rc == EXJ_OK)
        sim->sum_least++;
    else if (!refused && rc != EXJ_UNKNOWN && rc != EXJ_IO)
        sim->sum_most--;
    sim_note("command %s: %s", key, exj_code_name(rc));
    exj_buf_release(&ops[0].u.command.ret_body);
}

void *sim_operator(void *arg)
{
    exj_store *s = arg;

    while (!sim->stopping && !sim->draining) {
        unsigned what = (unsigned)sim_below(&sim->rng_load, 100);

        if (what < 40) {
            push(s);
        } else if (what < 75) {
            order_a_row(s);
        } else if (what < 81) {
            put_graph(s, (unsigned)sim_below(&sim->rng_load, sim->graphs),
                      sim_chance(&sim->rng_load, 60));
            for (int i = 0; i < sim->engines_len; i++)
                exj_engine_wake(sim->engines[i]);
        } else if (what < 94) {
            command(s);
        } else if (what < 97) {
            exj_engine *e =
                sim->engines[sim_below(&sim->rng_load, (uint64_t)sim->engines_len)];

            if (exj_engine_is_paused(e))
                exj_engine_resume(e);
            else
                exj_engine_pause(e);
        }
        sim_sleep((int64_t)sim_below(&sim->rng_load, 800) * MS);
    }
    sim->operators--;
    return NULL;
}

/* A claim that is over; best one whose row somebody else holds now. */
static sim_old pick_old(void)
{
    sim_old old = { 0 };

    for (unsigned tries = 0; tries < 2 * SIM_OLD; tries++) {
        const sim_seq *r;

        old = sim->old[sim_below(&sim->rng_load, SIM_OLD)];
        r = &sim->seqs[old.seq];
        if (old.seq && r->nonce != old.nonce && (r->holds || tries > SIM_OLD))
            break;
    }
    return old;
}

/* Each of these must be refused, but where the claim is the newest after all: then it is
 * let be. */
void *sim_stale(void *arg)
{
    exj_store *s = arg;

    /* Nothing happens between picking and writing: the holder might tell of its end meanwhile. */
    for (; !sim->stopping && !sim->draining;
         sim_sleep((int64_t)sim_below(&sim->rng_load, 300) * MS)) {
        sim_old old = pick_old();
        exj_op op = { .kind = EXJ_OP_FINISH };
        exj_outcome end = { .seq = old.seq,
                            .nonce = old.nonce,
                            .token = old.token,
                            .event = EXJ_EV_SUCCEED,
                            .result = EXJ_SLICE_LITERAL("\"stale\"") };
        static const exj_event events[] = { EXJ_EV_SUCCEED, EXJ_EV_FAIL_RETRY,
                                            EXJ_EV_FAIL_DEAD, EXJ_EV_SUSPEND };
        exj_held h = { .seq = old.seq, .nonce = old.nonce };
        exj_code verdict = EXJ_FENCED;

        if (!old.seq || sim->seqs[old.seq].nonce == old.nonce ||
            sim->seqs[old.seq].accepted_nonce == old.nonce)
            continue;
        switch (old.told ? 1 + sim_below(&sim->rng_load, 5)
                         : sim_below(&sim->rng_load, 6)) {
        case 0:
            end.event = events[sim_below(&sim->rng_load, 4)];
            if (end.event == EXJ_EV_FAIL_RETRY || end.event == EXJ_EV_FAIL_DEAD) {
                end.error_code = end.error_text = EXJ_SLICE_LITERAL("Stale");
                end.result = (exj_slice){ 0 };
            }
            op.u.finish.items = &end;
            op.u.finish.len = 1;
            break;
        case 1:
        case 2:
            op.kind = sim_chance(&sim->rng_load, 50) ? EXJ_OP_RENEW : EXJ_OP_RELEASE;
            op.u.held.items = &h;
            op.u.held.len = 1;
            op.u.held.lease_ms = 60000;
            break;
        case 3:
            op.kind = EXJ_OP_PROGRESS;
            op.u.progress.seq = old.seq;
            op.u.progress.nonce = old.nonce;
            op.u.progress.token = old.token;
            op.u.progress.at = 0.5;
            break;
        case 4:
            op.kind = EXJ_OP_KV_PUT;
            op.u.kv.graph = EXJ_SLICE_LITERAL("g0");
            op.u.kv.key = EXJ_SLICE_LITERAL("stale");
            op.u.kv.value = EXJ_SLICE_LITERAL("1");
            op.u.kv.seq = old.seq;
            op.u.kv.nonce = old.nonce;
            op.u.kv.token = old.token;
            break;
        default:
            op.kind =
                sim_chance(&sim->rng_load, 50) ? EXJ_OP_STEP_PUT : EXJ_OP_STEP_BEGIN;
            op.u.step.seq = old.seq;
            op.u.step.nonce = old.nonce;
            op.u.step.token = old.token;
            op.u.step.attempt = 1;
            op.u.step.key = EXJ_SLICE_LITERAL("stale");
            op.u.step.body = EXJ_SLICE_LITERAL("\"stale\"");
        }
        if (exj_store_do(s, &op, NULL) != EXJ_OK && op.rc != EXJ_FENCED)
            continue; /* the disk is full, or so */
        sim->t.stale_tried++;
        verdict = op.kind == EXJ_OP_FINISH     ? end.verdict
                  : op.kind == EXJ_OP_PROGRESS ? op.u.progress.verdict
                  : op.kind == EXJ_OP_KV_PUT   ? op.rc
                  : op.kind == EXJ_OP_RENEW || op.kind == EXJ_OP_RELEASE
                      ? h.verdict
                      : op.u.step.verdict;
        sim->t.stale_refused += verdict == EXJ_FENCED;
        if (verdict != EXJ_FENCED)
            sim_fail("I6: row %" PRId64 ": operation %d with token %" PRId64
                     ", which is over, is answered %s",
                     old.seq, (int)op.kind, old.token, exj_code_name(verdict));
    }
    sim->operators--;
    return NULL;
}

/* ---- the drain
 * ------------------------------------------------------------------------------------ */

struct open_rows {
    struct picked rows[200];
    unsigned n;
    int64_t last;
};

static bool take_open(void *user, const exj_row_view *r)
{
    struct open_rows *o = user;

    o->last = r->seq;
    if (r->status == EXJ_COMPLETED || r->status == EXJ_FAILED ||
        r->status == EXJ_CANCELED || r->status == EXJ_DROPPED)
        return true;
    take_row(&o->rows[o->n++], r);
    return o->n < 200;
}

bool sim_drain(exj_store *s)
{
    struct open_rows o = { 0 };
    exj_row_filter f = { .status = -1, .limit = 1000 };

    if (s->v->row_page(s, &f, take_open, &o, NULL) != EXJ_OK)
        return false;
    for (unsigned i = 0; i < o.n; i++) {
        if (o.rows[i].status == EXJ_BLOCKED && o.rows[i].any_signal && i % 2)
            retry_row(s, o.rows[i].seq);
        else if (o.rows[i].status == EXJ_BLOCKED || o.rows[i].status == EXJ_SUSPENDED)
            signal_row(s, o.rows[i].seq);
    }
    return o.n == 0;
}

/* Everything that stands still for an operator's sake goes on. */
bool sim_resume_all(exj_store *s)
{
    bool ok = sim_put_documents(s);

    for (int i = 0; i < sim->engines_len; i++) {
        exj_engine_resume(sim->engines[i]);
        exj_engine_wake(sim->engines[i]);
    }
    return ok;
}
