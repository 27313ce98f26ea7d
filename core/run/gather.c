/* Ask a matrix's source once: the resolver is called, what it emits becomes rows in every pool of
 * the run, by way of a snapshot where the matrix wants one. When to ask: cycle.c. */
#include "core/run/gather.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/record.h"
#include "core/run/snapshot.h"
#include "core/run/transform.h"

#define FLUSH_RECORDS 512u
#define FLUSH_BYTES (512u * 1024u)
#define REFUSALS_LOGGED 5u

struct target { /* a pool to insert into, as it was when the cycle began */
    struct pool *pool;
    int32_t priority;
    uint32_t max_attempts;
    exj_insert_item *items;
    exj_op op;
};

struct scan {
    struct matrix *m;
    exj_engine *e;
    struct target *targets;
    size_t targets_len;
    exj_buf arena; /* ids and records of this flush */
    struct span {
        size_t id_at, id_n, record_at, record_n;
    } records[FLUSH_RECORDS];
    exj_row_keys keys[FLUSH_RECORDS]; /* of those, while they are inserted */
    size_t len;
    exj_buf plain, cursor; /* the id being read; where the next page begins */
    bool has_next;
    exj_spool *spool;       /* query-snapshot: where the query's result goes, not into rows */
    exj_spool *shaped;      /* and what its transform makes of it */
    bool transforms;        /* what goes into the spool need not be records: jq makes them */
    exj_slice snapshot;     /* the id of what rows are made of; empty: of no snapshot */
    uint64_t scanned, inserted, refused;
    exj_err err; /* the first failure of this cycle */
};

/* ---- inserting ---------------------------------------------------------------------------- */

/* Insert what `to` holds. A shared store that does not answer is asked until it does: the source
 * would have to be asked for the same records again. False: it failed, or the loop must end. */
static bool insert_into(struct matrix *m, struct target *to, unsigned *ret_asked)
{
    exj_engine *e = m->engine;
    enum store_said said = STORE_PASSES;
    exj_nsec pause = 0;

    for (*ret_asked = 0; said == STORE_PASSES; ++*ret_asked) {
        if (*ret_asked) {
            exj_nsec until;
            bool end;

            pause = exj_run_longer_pause(pause);
            until = exj_clock_mono_ns() + pause;
            pthread_mutex_lock(&e->mu);
            while (!(end = exj_run_must_end_locked(m)) &&
                   exj_run_wait_locked(e, &e->cycle, until))
                ;
            pthread_mutex_unlock(&e->mu);
            if (end)
                return false;
        }
        exj_err_clear(&to->op.err);
        exj_store_do(e->o.store, &to->op, NULL);
        said = exj_run_store_said(e, "inserts", &to->op);
    }
    return said == STORE_OK;
}

/* Everything collected so far into every target, in one commit. */
static bool insert_all(struct scan *s)
{
    exj_engine *e = s->e;
    uint64_t before = s->inserted;
    exj_msec due = 0;

    for (size_t t = 0; t < s->targets_len && s->len; t++) {
        struct target *to = &s->targets[t];
        unsigned asked = 0;

        for (size_t i = 0; i < s->len; i++)
            to->items[i] = (exj_insert_item){
                .record_id = { s->arena.p + s->records[i].id_at, s->records[i].id_n },
                .input = { s->arena.p + s->records[i].record_at, s->records[i].record_n },
                .has_priority = s->keys[i].has_priority,
                .priority = s->keys[i].priority,
                .run_after = s->keys[i].run_after,
                .unique_key = s->keys[i].unique,
                .unique_ms = s->keys[i].unique.n ? s->m->config.keys.unique_ms : 0,
                .concurrency_key = s->keys[i].concurrency
            };
        to->op = (exj_op){ .kind = EXJ_OP_INSERT };
        to->op.u.insert.pool = to->pool->id;
        to->op.u.insert.priority = to->priority;
        to->op.u.insert.max_attempts = to->max_attempts;
        to->op.u.insert.snapshot = s->snapshot;
        to->op.u.insert.items = to->items;
        to->op.u.insert.len = s->len;
        if (!insert_into(s->m, to, &asked)) {
            exj_err_set(&s->err, to->op.rc, "%s", to->op.err.text);
            return false;
        }
        s->inserted += to->op.u.insert.ret_inserted;
        for (size_t i = 0; i < s->len; i++)
            if (to->items[i].verdict == EXJ_OK && to->items[i].status == EXJ_WAITING &&
                (!due || to->items[i].run_after < due))
                due = to->items[i].run_after;
        pthread_mutex_lock(&e->mu);
        e->counts.materialized += to->op.u.insert.ret_inserted;
        /* What a lost answer was about had come already, and does not count. */
        if (to->op.u.insert.ret_inserted || asked > 1) {
            to->pool->maybe_work = true;
            pthread_cond_signal(&e->claim);
        }
        pthread_mutex_unlock(&e->mu);
    }
    if (due)
        exj_engine_rows_due(e, due);
    if (s->inserted != before)
        exj_series_add(s->m->m_materialized, (double)(s->inserted - before));
    s->scanned += s->len;
    pthread_mutex_lock(&e->mu);
    e->counts.scanned += s->len;
    pthread_mutex_unlock(&e->mu);
    s->len = 0;
    exj_buf_reset(&s->arena);
    return true;
}

/* A record that cannot get its keys was refused when it came: what fails here is memory. */
static bool flush(struct scan *s)
{
    size_t read = 0, len = s->len;
    bool good = true;

    for (; read < len && good; read++) {
        exj_slice record = { s->arena.p + s->records[read].record_at, s->records[read].record_n };

        good = exj_row_keys_read(&s->m->config.keys, record, &s->keys[read], &s->err) == EXJ_OK;
    }
    good = good && insert_all(s);
    for (size_t i = 0; i < read; i++)
        exj_row_keys_release(&s->keys[i]);
    return good;
}

static exj_result refuse(struct scan *s, const exj_err *why)
{
    if (s->refused++ < REFUSALS_LOGGED)
        exj_log(EXJ_LOG_WARN, "cycle", "matrix %s: record refused: %s", s->m->id, why->text);
    exj_err_set(&s->err, why->code, "%s", why->text);
    return EXJ_R_INPUT;
}

/* Leaves the plain id in s->plain. */
static exj_result check_record(struct scan *s, exj_slice id, exj_slice record)
{
    exj_row_keys keys = { 0 };
    exj_err err = { 0 };
    bool good;

    exj_buf_reset(&s->plain);
    if (!exj_json_unescape(id, &s->plain))
        return EXJ_R_INTERNAL;
    good = exj_id_check(exj_buf_slice(&s->plain), "record id", &err) == EXJ_OK &&
           exj_record_check(record, &err) == EXJ_OK &&
           exj_row_keys_read(&s->m->config.keys, record, &keys, &err) == EXJ_OK;
    exj_row_keys_release(&keys);
    if (!good) {
        exj_err_prefix(&err, "record %.*s", (int)(id.n < 80 ? id.n : 80), id.p);
        return refuse(s, &err);
    }
    return EXJ_R_OK;
}

/* One line of the query's result. One that is wrong ends it: half a result is none. */
static exj_result spool_emission(struct scan *s, exj_slice json, exj_slice id, exj_slice record)
{
    if (!s->transforms && check_record(s, id, record) != EXJ_R_OK)
        return EXJ_R_CANCELLED;
    /* line breaks stand between the tokens of JSON, never inside of one */
    exj_buf_reset(&s->plain);
    exj_buf_add_slice(&s->plain, json);
    if (s->plain.failed) {
        exj_err_set(&s->err, EXJ_NOMEM, "out of memory");
        return EXJ_R_INTERNAL;
    }
    for (size_t k = 0; k < s->plain.n; k++)
        if (s->plain.p[k] == '\n' || s->plain.p[k] == '\r')
            s->plain.p[k] = ' ';
    return exj_spool_add(s->spool, exj_buf_slice(&s->plain), &s->err) == EXJ_OK
               ? EXJ_R_OK
               : EXJ_R_CANCELLED;
}

/* One record of the next flush. */
static exj_result add_record(struct scan *s, exj_slice id, exj_slice record)
{
    exj_result r = check_record(s, id, record);
    struct span *sp;

    if (r != EXJ_R_OK)
        return r;
    if ((s->len == FLUSH_RECORDS || s->arena.n + record.n > FLUSH_BYTES) && !flush(s))
        return EXJ_R_CANCELLED;
    sp = &s->records[s->len];
    sp->id_at = s->arena.n;
    sp->id_n = s->plain.n;
    exj_buf_add_slice(&s->arena, exj_buf_slice(&s->plain));
    sp->record_at = s->arena.n;
    sp->record_n = record.n;
    exj_buf_add_slice(&s->arena, record);
    if (s->arena.failed) {
        exj_err_set(&s->err, EXJ_NOMEM, "out of memory");
        return EXJ_R_INTERNAL;
    }
    s->len++;
    return EXJ_R_OK;
}

/* What a resolver emits: {"id","record"} or {"next"}. */
static exj_result take_emission(void *user, exj_slice json)
{
    struct scan *s = user;
    exj_json_iter it;
    exj_json_kind kind;
    exj_slice id = { 0 }, record = { 0 }, next = { 0 };
    exj_err err = { 0 };

    if (exj_run_must_end(s->m) || (s->spool && s->err.code))
        return EXJ_R_CANCELLED;
    if (exj_json_check(json, EXJ_JSON_MAX_DEPTH, &kind, &err) != EXJ_OK)
        return refuse(s, &err);
    if (kind != EXJ_JSON_OBJECT) {
        exj_err_set(&err, EXJ_INVALID, "a resolver emits {\"id\",\"record\"} or {\"next\"}");
        return refuse(s, &err);
    }
    exj_json_iter_init(&it, json);
    while (exj_json_iter_next(&it)) {
        if (exj_json_key_is(it.key, "id") && it.kind == EXJ_JSON_STRING) {
            id = it.value;
        } else if (exj_json_key_is(it.key, "record") && it.kind == EXJ_JSON_OBJECT) {
            record = it.value;
        } else if (exj_json_key_is(it.key, "next") && it.kind == EXJ_JSON_STRING) {
            next = it.value;
        } else {
            exj_err_set(&err, EXJ_INVALID,
                        "member \"%.*s\": wanted id (string), record (object) or next "
                        "(string)",
                        (int)(it.key.n < 64 ? it.key.n : 64), it.key.p);
            return refuse(s, &err);
        }
    }
    if (next.n && !id.n && !record.n) {
        exj_buf_reset(&s->cursor);
        s->has_next = exj_json_unescape(next, &s->cursor);
        return s->has_next ? EXJ_R_OK : EXJ_R_INTERNAL;
    }
    if (!id.n || !record.n) {
        exj_err_set(&err, EXJ_INVALID, "a record needs id (string) and record (object)");
        return refuse(s, &err);
    }
    return s->spool ? spool_emission(s, json, id, record) : add_record(s, id, record);
}

static int32_t scan_cancelled(void *user)
{
    struct scan *s = user;

    return exj_run_must_end(s->m) ? EXJ_R_CANCELLED : 0;
}

/* ---- asking -------------------------------------------------------------------------------- */

static void write_runtime(exj_buf *b, const struct matrix *m, const exj_matrix_config *c,
                          const exj_buf *cursor, bool has_cursor)
{
    exj_buf_reset(b);
    exj_buf_add_text(b, "{\"matrixCatalogId\":");
    exj_buf_add_json_string(b, exj_slice_of(m->id));
    exj_buf_add_text(b, ",\"matrixRunId\":");
    if (c->run_id[0])
        exj_buf_add_json_string(b, exj_slice_of(c->run_id));
    else
        exj_buf_add_text(b, "null");
    exj_buf_printf(b, ",\"kind\":\"%s\",\"cursor\":",
                   c->source == EXJ_SOURCE_RECORD ? "record" : "storage");
    if (has_cursor)
        exj_buf_add_json_string(b, exj_buf_slice(cursor));
    else
        exj_buf_add_text(b, "null");
    exj_buf_add_text(b, ",\"config\":");
    exj_buf_add_text(b, c->resolver_config ? c->resolver_config : "{}");
    exj_buf_add_char(b, '}');
}

static void call_failed(struct scan *s, const char *resolver, const exj_call_end *end)
{
    exj_err_set(&s->err, EXJ_REFUSED, "source resolver %s failed: %.*s%s%.*s", resolver,
                (int)(end->error_code.n < 64 ? end->error_code.n : 64),
                end->error_code.n ? end->error_code.p : "", end->error_text.n ? ": " : "",
                (int)(end->error_text.n < 300 ? end->error_text.n : 300),
                end->error_text.n ? end->error_text.p : "");
    if (!end->error_code.n && !end->error_text.n)
        exj_err_prefix(&s->err, "result %d", (int)end->result);
}

static exj_code take_number(void *user, const exj_plugin_sample *m, exj_err *err)
{
    struct scan *s = user;

    return exj_metrics_guest(s->e->o.metrics, m, err);
}

static void ask(struct scan *s, const exj_matrix_config *c)
{
    exj_engine *e = s->e;
    exj_guest *guest = NULL;
    exj_instance *instance = NULL;
    exj_call_slot *slot = NULL;
    exj_buf runtime = EXJ_BUF_INIT, last = EXJ_BUF_INIT;
    exj_call_ports ports = { .user = s, .emit = take_emission, .cancelled = scan_cancelled,
                             .metric = take_number };
    bool has_cursor = false;

    if (!c->resolver) {
        exj_err_set(&s->err, EXJ_INVALID,
                    "payload.dataSource.resolver is missing: name the source resolver");
        return;
    }
    if (exj_registry_find(e->o.plugins, c->resolver, EXJ_KIND_SOURCE_RESOLVER, &guest,
                          &s->err) != EXJ_OK ||
        exj_instance_new(guest,
                         exj_slice_of(c->resolver_config ? c->resolver_config : "{}"),
                         &instance, &s->err) != EXJ_OK ||
        exj_call_slot_new(EXJ_RECORD_MAX_BYTES * 2, &slot, &s->err) != EXJ_OK)
        goto out;

    do {
        exj_args args = { .size_of = EXJ_SIZE(exj_args, token), .attempt = 1 };
        exj_call_end end = { 0 };

        s->has_next = false;
        write_runtime(&runtime, s->m, c, &s->cursor, has_cursor);
        if (runtime.failed) {
            exj_err_set(&s->err, EXJ_NOMEM, "out of memory");
            break;
        }
        args.deadline_ns = UINT64_MAX;
        args.model = (exj_str){ c->input, strlen(c->input) };
        args.runtime = (exj_str){ runtime.p, runtime.n };
        args.job_id = args.record_id = (exj_str){ s->m->id, strlen(s->m->id) };
        exj_call_run(instance, slot, &args, &ports, &end, NULL);
        if (s->spool && s->err.code)
            break;
        if (end.result != EXJ_R_OK && !exj_run_must_end(s->m)) {
            call_failed(s, c->resolver, &end);
            flush(s); /* what came before the failure is good */
            break;
        }
        if (!flush(s) || exj_run_must_end(s->m))
            break;
        if (s->has_next && has_cursor && last.n == s->cursor.n &&
            !memcmp(last.p, s->cursor.p, last.n)) {
            exj_err_set(&s->err, EXJ_INVALID,
                        "source resolver %s gave the same cursor twice", c->resolver);
            break;
        }
        exj_buf_reset(&last);
        exj_buf_add_slice(&last, exj_buf_slice(&s->cursor));
        has_cursor = s->has_next;
    } while (s->has_next && c->source != EXJ_SOURCE_RECORD);
out:
    exj_call_slot_free(slot);
    exj_instance_free(instance);
    exj_guest_release(guest);
    exj_buf_release(&runtime);
    exj_buf_release(&last);
}

/* ---- query-snapshot ------------------------------------------------------------------------ */

static bool is_unwanted(void *scan)
{
    struct scan *s = scan;

    return exj_run_must_end(s->m);
}

static bool keep_line(void *scan, exj_slice id, exj_slice record, exj_slice line)
{
    struct scan *s = scan;

    (void)id, (void)record;
    return exj_spool_add(s->shaped, line, &s->err) == EXJ_OK;
}

/* The query's result through the matrix's jq program, into s->shaped. */
static exj_code shape(struct scan *s, const exj_snapshot_rule *rule)
{
    exj_transform_options o = {
        .exe = s->e->o.transform_exe,
        .program = exj_slice_of(rule->jq),
        .memory_mb = rule->memory_mb,
        .seconds = rule->seconds,
        .output_bytes = rule->bytes,
        .records = rule->records,
        .cancelled = is_unwanted,
        .visit = keep_line,
        .user = s,
    };
    exj_transform_input input = { .fd = -1 };
    exj_err why = { 0 };
    exj_code rc = exj_spool_reader(s->spool, &input.fd, &s->err);

    if (!rc)
        rc = exj_spool_new(s->e->o.snapshots_dir, rule->bytes, "the snapshot",
                           "payload.dataSource.transform.maxBytes", &s->shaped, &s->err);
    if (!rc) {
        rc = exj_transform_run(&o, input, &why);
        exj_err_set(&s->err, why.code, "%s", why.text); /* unless keep_line said why */
    }
    if (!rc)
        rc = exj_spool_end(s->shaped, &s->err);
    if (input.fd >= 0)
        close(input.fd);
    return rc;
}

/* Ask, shape, keep; what stays to be done is noted before anything is done with it. */
static exj_code take_snapshot(struct scan *s, const exj_matrix_config *c, char *ret_id)
{
    const char *dir = s->e->o.snapshots_dir;
    exj_snapshot_about about = { .matrix = s->m->id, .run = c->run_id,
                                 .at = exj_clock_wall_ms(), .transformed = c->snapshot.jq };
    exj_code rc = exj_spool_new(dir, c->snapshot.query_bytes, "the query's result",
                                "payload.dataSource.maxBytes", &s->spool, &s->err);

    s->transforms = c->snapshot.jq;
    if (!rc) {
        ask(s, c);
        rc = s->err.code ? s->err.code : exj_run_must_end(s->m) ? EXJ_CANCELLED : EXJ_OK;
    }
    if (!rc)
        rc = exj_spool_end(s->spool, &s->err);
    if (!rc) {
        about.query_bytes = exj_spool_bytes(s->spool);
        about.query_records = exj_spool_records(s->spool);
        memcpy(about.query_sha256, exj_spool_sha256(s->spool), sizeof about.query_sha256);
        rc = c->snapshot.jq ? shape(s, &c->snapshot) : EXJ_OK;
    }
    if (!rc)
        rc = exj_snapshot_keep(s->shaped ? s->shaped : s->spool, &about, &s->err);
    if (!rc)
        rc = exj_snapshot_todo_put(dir, s->m->id, c->run_id, about.id, &s->err);
    if (!rc)
        memcpy(ret_id, about.id, sizeof about.id);
    exj_spool_free(s->spool);
    exj_spool_free(s->shaped);
    s->spool = s->shaped = NULL;
    return rc;
}

static bool insert_line(void *scan, exj_slice line)
{
    struct scan *s = scan;
    exj_slice id = { 0 }, record = { 0 };
    exj_json_iter it;
    exj_err err = { 0 };

    if (s->len == 0 && exj_run_must_end(s->m))
        return false;
    if (exj_json_check(line, EXJ_JSON_MAX_DEPTH, NULL, &err) != EXJ_OK) {
        refuse(s, &err);
        return false;
    }
    exj_json_iter_init(&it, line);
    while (exj_json_iter_next(&it)) {
        if (exj_json_key_is(it.key, "id"))
            id = it.value;
        else if (exj_json_key_is(it.key, "record"))
            record = it.value;
    }
    return add_record(s, id, record) == EXJ_OK;
}

/* A snapshot of which not all rows were made, because somebody stopped us, comes first: rows of
 * one snapshot are made wholly before the query is asked again. */
static void from_snapshot(struct scan *s, const exj_matrix_config *c)
{
    const char *dir = s->e->o.snapshots_dir;
    char id[EXJ_SNAPSHOT_ID_BYTES];
    exj_err why = { 0 };
    exj_code rc;

    if (!dir) {
        exj_err_set(&s->err, EXJ_UNSUPPORTED, "this worker keeps no snapshots");
        return;
    }
    rc = exj_snapshot_todo_get(dir, s->m->id, c->run_id, id, &why);
    if (!rc)
        rc = exj_snapshot_check(dir, id, &why);
    else if (rc == EXJ_NOT_FOUND)
        exj_err_clear(&why);
    if (why.code)
        exj_log(EXJ_LOG_ERROR, "cycle", "matrix %s: its rows cannot be finished: %s; the query is "
                "asked again", s->m->id, why.text);
    if (rc && take_snapshot(s, c, id) != EXJ_OK)
        return;
    s->snapshot = exj_slice_of(id);
    exj_snapshot_each(dir, id, insert_line, s, &s->err);
    if (!s->err.code && !exj_run_must_end(s->m) && flush(s))
        exj_snapshot_todo_done(dir, s->m->id, c->run_id, &s->err);
    s->snapshot = (exj_slice){ 0 };
}

static void gather(struct scan *s, const exj_matrix_config *c)
{
    switch (c->source) {
    case EXJ_SOURCE_RECORD:
    case EXJ_SOURCE_STORAGE:
        ask(s, c);
        return;
    case EXJ_SOURCE_SNAPSHOT:
        from_snapshot(s, c);
        return;
    case EXJ_SOURCE_EVENT:
        return; /* rows come through the ingress */
    }
}

/* ---- one pass ------------------------------------------------------------------------------ */

/* Pools of the run that may take rows now. */
static bool takes_rows(const struct scan *s, const struct pool *p, const char *run)
{
    return exj_run_pool_is_ours(s->m, p) && !strcmp(p->run_id, run) && p->spec &&
           p->spec->schedulable;
}

static bool choose_targets_locked(struct scan *s, const char *run)
{
    size_t n = 0;

    for (struct pool *p = s->e->pools; p; p = p->next)
        n += takes_rows(s, p, run);
    if (!n)
        return false;
    s->targets = calloc(n, sizeof(*s->targets));
    if (!s->targets)
        return false;
    for (struct pool *p = s->e->pools; p; p = p->next) {
        struct target *t = &s->targets[s->targets_len];

        if (!takes_rows(s, p, run))
            continue;
        t->items = malloc(FLUSH_RECORDS * sizeof(*t->items));
        if (!t->items)
            return false;
        t->pool = p;
        t->priority = p->spec->eff.priority;
        t->max_attempts = p->spec->eff.retry.max_attempts;
        s->targets_len++;
    }
    return true;
}

bool exj_run_gather(struct matrix *m, char *run, uint64_t *ret_inserted)
{
    exj_engine *e = m->engine;
    struct scan *s = calloc(1, sizeof(*s));
    exj_matrix_config c;
    uint64_t refused = 0;
    bool targets;
    exj_err err = { 0 };

    *ret_inserted = 0;
    if (!s)
        return false;
    s->m = m;
    s->e = e;
    pthread_mutex_lock(&e->mu);
    exj_run_take_config_locked(m);
    c = m->config; /* only this thread replaces it */
    if (run)
        c.run_id = run;
    targets = choose_targets_locked(s, c.run_id);
    m->scanning = true;
    m->last_started = exj_clock_wall_ms();
    pthread_mutex_unlock(&e->mu);

    if (targets)
        gather(s, &c);

    *ret_inserted = s->inserted;
    refused = s->refused;
    err = s->err;
    if (err.code)
        exj_log(EXJ_LOG_ERROR, "cycle", "matrix %s: %s%s", m->id, err.text,
                refused > 1 ? " (and more records refused)" : "");
    for (size_t t = 0; t < s->targets_len; t++)
        free(s->targets[t].items);
    free(s->targets);
    exj_buf_release(&s->arena);
    exj_buf_release(&s->plain);
    exj_buf_release(&s->cursor);
    free(s);

    pthread_mutex_lock(&e->mu);
    m->scanning = false;
    m->last_error = err;
    if (err.code)
        e->counts.cycle_errors++;
    pthread_mutex_unlock(&e->mu);
    return targets && !err.code && !exj_run_must_end(m);
}
