/* What the engine says in a history (core/history/event.h): which rows it executed on which
 * generation of a plugin, from when until when that was there, and its own start and end.
 * Claims and outcomes are recorded by the store. Without a recorder: a branch each. */
#include <unistd.h>

#include "core/run/inside.h"

static exj_hist_event execution_event(const struct execution *x, exj_hist_phase phase)
{
    const exj_claim *c = &x->row->claim;

    return (exj_hist_event){ .op = EXJ_HIST_EXECUTE,
                             .phase = phase,
                             .id = x->record_id,
                             .row = c->seq,
                             .token = c->token,
                             .attempt = c->attempt,
                             .generation = x->row->deck->generation };
}

void exj_run_record_call(struct execution *x)
{
    exj_recorder *r = x->engine->o.record;
    exj_hist_event e;

    x->record_id = exj_recorder_id(r);
    if (!r)
        return;
    e = execution_event(x, EXJ_HIST_INVOKE);
    e.job = exj_buf_slice(&x->name);
    e.worker = exj_slice_of(x->engine->o.worker_id);
    exj_recorder_write(r, &e);
}

void exj_run_record_call_end(struct execution *x, const exj_call_end *end)
{
    exj_hist_event e;

    if (!x->record_id)
        return;
    e = execution_event(x, EXJ_HIST_OK);
    x->record_id = 0;
    switch (end->result) {
    case EXJ_R_NOT_STARTED:
        e.phase = EXJ_HIST_FAIL;
        e.code = EXJ_SLICE_LITERAL("not_started");
        break;
    case EXJ_R_CRASHED:
        e.phase = EXJ_HIST_FAIL;
        e.code = EXJ_SLICE_LITERAL("crashed");
        break;
    case EXJ_R_DEADLINE:
    case EXJ_R_CANCELLED: /* it may have been ended by force, or may have come back by itself */
        e.phase = EXJ_HIST_FAIL;
        e.code = end->result == EXJ_R_DEADLINE ? EXJ_SLICE_LITERAL("deadline")
                                               : EXJ_SLICE_LITERAL("cancelled");
        break;
    default:
        e.key = end->error_code;
        if (exj_slice_is(end->error_code, "HostDied")) { /* beside another's crash */
            e.phase = EXJ_HIST_FAIL;
            e.code = EXJ_SLICE_LITERAL("host_died");
        }
        break;
    }
    exj_recorder_write(x->engine->o.record, &e);
}

static void write_generation(const exj_engine *e, uint64_t generation, const char *id,
                             exj_slice outcome)
{
    exj_hist_event line = { .op = EXJ_HIST_GENERATION,
                            .phase = EXJ_HIST_OK,
                            .generation = generation,
                            .key = exj_slice_of(id),
                            .outcome = outcome };

    exj_recorder_write(e->o.record, &line);
}

void exj_run_record_ready(const exj_engine *e, const struct deck *d)
{
    exj_guest_info i;

    if (!e->o.record)
        return;
    exj_guest_describe(d->guest, &i);
    write_generation(e, d->generation, i.id, EXJ_SLICE_LITERAL("ready"));
}

void exj_run_record_draining(const exj_engine *e, const struct deck *d)
{
    exj_guest_info i;

    if (!e->o.record)
        return;
    exj_guest_describe(d->guest, &i);
    write_generation(e, d->generation, i.id, EXJ_SLICE_LITERAL("draining"));
}

void exj_run_record_gone(void *engine, const exj_guest_info *i)
{
    const exj_engine *e = engine;

    if (e->o.record && i->state == EXJ_GEN_RETIRED) /* else it could not be closed */
        write_generation(e, i->generation, i->id, EXJ_SLICE_LITERAL("unmapped"));
}

void exj_run_record_core(const exj_engine *e, const char *outcome)
{
    exj_hist_event line = { .op = EXJ_HIST_CORE,
                            .phase = EXJ_HIST_OK,
                            .value = getpid(),
                            .worker = exj_slice_of(e->o.worker_id),
                            .outcome = exj_slice_of(outcome) };

    exj_recorder_write(e->o.record, &line);
}
