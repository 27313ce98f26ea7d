#include "power_cut.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/store/care.h"

#define BATCHES_MOST 60
#define DOCTOR_EVERY 10 /* cuts, about: it takes longer than all the rest */

/* What became of the groups of the batch in which the power went. */
struct ending {
    size_t acked, unknown; /* groups; those after them came to nothing */
};

static uint32_t chance(struct rig *r, uint32_t below)
{
    return (uint32_t)(exj_test_random(&r->random) % below);
}

/* ---- telling
 * ------------------------------------------------------------------------------- */

static void count_acked(struct rig *r, const exj_batch *b, size_t groups)
{
    r->total.acked += groups;
    for (size_t i = 0; i < b->group[groups]; i++) {
        const exj_op *op = b->ops[i];

        if (op->rc == EXJ_OK)
            r->total.kinds[op->kind]++;
        else
            r->total.refused++;
        r->stale = r->stale || op->kind == EXJ_OP_COMMAND_TAKE || op->rc == EXJ_CANCELLED;
    }
}

/* A token that was given once is never given again. */
static bool check_tokens(struct rig *r, const exj_op *op)
{
    size_t most = sizeof(r->tokens) / sizeof(*r->tokens);

    for (size_t i = 0;
         op->kind == EXJ_OP_CLAIM && op->rc == EXJ_OK && i < op->u.claim.ret_len; i++) {
        const exj_claim *c = &op->u.claim.ret[i];

        if ((size_t)c->seq >= most)
            continue;
        if (c->token <= r->tokens[c->seq])
            return rig_wrong(
                r, "row %" PRId64 ": token %" PRId64 " was given, after %" PRId64, c->seq,
                c->token, r->tokens[c->seq]);
        r->tokens[c->seq] = c->token;
    }
    return true;
}

/* Twin does the groups [from, to), and must answer as real did, where real did. */
static bool tell_twin(struct rig *r, size_t from, size_t to, bool compare)
{
    exj_look_sum sum;
    char why[256];

    /* After each group, when it will be asked how many of the last ones are gone. */
    for (size_t g = from; r->fast && g < to; g++) {
        exj_batch_do(&r->same, r->twin.s, g, g + 1);
        if (!exj_look_at(r->twin.look, &sum, why))
            return rig_wrong(r, "twin: %s", why);
        if (r->past_len < PAST_MOST)
            r->past[r->past_len++] = sum.all;
    }
    if (!r->fast)
        exj_batch_do(&r->same, r->twin.s, from, to);
    for (size_t i = r->same.group[from]; i < r->same.group[to]; i++) {
        const exj_op *real = r->batch.ops[i], *twin = r->same.ops[i];

        if (compare && exj_op_answer(real) != exj_op_answer(twin))
            return rig_wrong(r, "%s: the store answered %s (%s), its twin %s (%s)",
                             exj_op_name(real->kind), exj_code_name(real->rc),
                             real->err.text, exj_code_name(twin->rc), twin->err.text);
        if (compare && !check_tokens(r, real))
            return false;
    }
    return true;
}

/* ---- until the power goes
 * ---------------------------------------------------------------------- */

static void let_time_pass(struct rig *r)
{
    int64_t ms = chance(r, 20) ? chance(r, 1500) : 60000 + chance(r, 60000);

    atomic_fetch_add(&r->wall_ms, ms);
    atomic_fetch_add(&r->mono_ms, ms);
}

static struct ending read_fates(struct rig *r)
{
    struct ending e = { 0, 0 };
    size_t g = 0;

    while (g < r->batch.groups && exj_batch_fate(&r->batch, g) == EXJ_FATE_DONE)
        g++;
    e.acked = g;
    while (g < r->batch.groups && exj_batch_fate(&r->batch, g) == EXJ_FATE_UNKNOWN)
        g++;
    e.unknown = g - e.acked;
    for (; g < r->batch.groups; g++) {
        const exj_op *op = exj_batch_failed(&r->batch, g);

        if (!op)
            rig_wrong(r, "a group was acknowledged after one that failed");
        else if (op->rc != EXJ_IO)
            rig_wrong(r, "%s without power answered %s: %s", exj_op_name(op->kind),
                      exj_code_name(op->rc), op->err.text);
    }
    return e;
}

static bool count_row(void *user, const exj_row_view *v)
{
    *(size_t *)user += v->input.n;
    return true;
}

/* Readers hold views of their own while the writer goes on. */
static void read_some(struct rig *r)
{
    exj_row_filter f = { .status = -1, .limit = 50 };
    size_t n = 0;

    if (chance(r, 4) == 0)
        r->real.s->v->row_page(r->real.s, &f, count_row, &n, NULL);
}

/* One batch for both. *ret: how it ended; true: all of it was acknowledged. */
static bool do_batch(struct rig *r, struct ending *ret)
{
    uint64_t random = exj_test_random(&r->random);
    char why[256];

    let_time_pass(r);
    if (!exj_look_known(r->twin.look, &r->known, why))
        return rig_wrong(r, "twin: %s", why);
    exj_batch_make(&r->batch, random, &r->known);
    exj_batch_make(&r->same, random, &r->known);
    r->compacted = r->compacted || r->batch.compacts;
    exj_batch_do(&r->batch, r->real.s, 0, r->batch.groups);
    r->total.batches++;
    *ret = read_fates(r);
    count_acked(r, &r->batch, ret->acked);
    r->total.unknown += ret->unknown;
    if (!tell_twin(r, 0, ret->acked, true))
        return false;
    return ret->acked == r->batch.groups;
}

static struct ending load_until_off(struct rig *r, uint32_t batches)
{
    struct ending e = { 0, 0 };

    for (uint32_t i = 0; i < batches && !exj_power_is_off(r->real.disk) && !r->why[0];
         i++) {
        if (!do_batch(r, &e))
            return e;
        read_some(r);
    }
    return (struct ending){ 0, 0 };
}

/* ---- what is left
 * ------------------------------------------------------------------------------- */

static bool reopen(struct rig *r)
{
    exj_err err = { 0 };
    bool again = chance(r, 4) == 0;

    /* The power may go once more while the store looks at what is left. */
    for (int i = 0; i < 3; i++) {
        exj_code rc;

        r->total.files_back += exj_files_on();
        exj_power_on(r->real.disk);
        exj_power_cut_after(r->real.disk,
                            again && i < 2 ? chance(r, 12) : EXJ_POWER_NEVER);
        rc = side_open(r, &r->real, &err);
        if (!exj_power_is_off(r->real.disk)) {
            exj_power_cut_after(r->real.disk, EXJ_POWER_NEVER);
            if (rc == EXJ_OK)
                return true;
            break;
        }
        r->total.open_cuts++;
        r->total.cuts++;
        side_close(&r->real);
        exj_err_clear(&err);
    }
    r->total.corrupt++;
    return rig_wrong(r, "the store does not open: %s", err.text);
}

struct findings {
    int64_t n;
    char first[300];
};

static void found(void *user, const exj_finding *f)
{
    struct findings *x = user;

    if (x->n++ == 0)
        snprintf(x->first, sizeof(x->first), "%s: %s", f->part, f->text);
}

static bool ask_doctor(struct rig *r)
{
    struct findings x = { 0, "" };
    exj_doctor_options o = { .dir = r->real.dir, .found = found, .user = &x };
    exj_doctor_report report;
    exj_err err = { 0 };

    if (exj_sqlite_doctor(&o, &report, &err) != EXJ_OK)
        return rig_wrong(r, "doctor: %s", err.text);
    if (!x.n)
        return true;
    r->total.corrupt++;
    return rig_wrong(r, "doctor finds %" PRId64 ": %s", x.n, x.first);
}

static bool look_real(struct rig *r, exj_look_sum *ret)
{
    exj_look *l;
    uint64_t values = 0;
    char why[256];
    bool good;

    l = exj_look_new(r->real.vfs, r->real.path, why);
    good = l && exj_look_at(l, ret, why) && exj_look_check(l, why) &&
           exj_look_blobs(l, blobs_of(&r->real), &values, why);
    r->total.values += values;
    exj_look_free(l);
    if (!good) {
        r->total.corrupt++;
        return rig_wrong(r, "the store cannot be read: %s", why);
    }
    if (ret->holes && !r->compacted)
        return rig_wrong(r, "%" PRId64 " numbers of the journal are missing", ret->holes);
    return true;
}

/* Fast: is it what twin was some groups ago? `acked`: how many sums there were when all
 * that was acknowledged was told. */
static bool find_lost(struct rig *r, const exj_look_sum *real, size_t acked)
{
    for (size_t i = r->past_len; r->fast && i-- > 0;)
        if (r->past[i] == real->all) {
            r->total.lost_cuts += i + 1 < acked;
            r->total.lost_groups += i + 1 < acked ? acked - 1 - i : 0;
            return true;
        }
    return false;
}

/* What was being done, for whoever looks into it. */
static void tell_batch(const struct rig *r, const struct ending *e)
{
    fprintf(stderr,
            "power_cut: the last batch: %zu groups, %zu acknowledged, %zu unknown\n",
            r->batch.groups, e->acked, e->unknown);
    for (size_t i = 0; i < r->batch.len; i++)
        fprintf(stderr, "power_cut:   %s: %s%s%s\n", exj_op_name(r->batch.ops[i]->kind),
                exj_code_name(r->batch.ops[i]->rc), r->batch.ops[i]->rc ? ": " : "",
                r->batch.ops[i]->rc ? r->batch.ops[i]->err.text : "");
}

/* Real against twin. False: they are not the same any more. */
static bool compare(struct rig *r, const struct ending *e)
{
    exj_look_sum real, twin;
    char names[600], why[256];
    size_t acked = r->past_len;

    if (!look_real(r, &real))
        return false;
    if (!exj_look_at(r->twin.look, &twin, why))
        return rig_wrong(r, "twin: %s", why);
    if (real.all == twin.all)
        return true;
    exj_look_differ(&real, &twin, names, sizeof(names));
    if (e->unknown) {
        r->stale = true;
        if (!tell_twin(r, e->acked, e->acked + e->unknown, false) ||
            !exj_look_at(r->twin.look, &twin, why))
            return rig_wrong(r, "twin: %s", why);
        if (real.all == twin.all) {
            r->total.unknown_applied += e->unknown;
            return true;
        }
    }
    if (find_lost(r, &real, acked))
        return false;
    r->total.wrong++;
    tell_batch(r, e);
    return rig_wrong(r, "after the cut it is not what was acknowledged: %s", names);
}

/* What an opening forgets is forgotten by both: commands in progress, and numbers that
 * were taken and not used. */
static bool reopen_twin(struct rig *r)
{
    exj_err err = { 0 };

    if (!r->stale && !r->wide)
        return true;
    r->stale = false;
    r->twin.s->v->close(r->twin.s);
    r->twin.s = NULL;
    return side_open(r, &r->twin, &err) == EXJ_OK || rig_wrong(r, "twin: %s", err.text);
}

bool rig_round(struct rig *r)
{
    uint64_t *where = &r->total.load_cuts;
    struct ending e = { 0, 0 };
    uint32_t how = chance(r, 10);

    if (how < 7) { /* at some call of the load */
        uint64_t n = chance(r, how < 3 ? 40 : 400);

        if (chance(r, 3))
            exj_power_cut_after(r->real.disk, n);
        else
            exj_power_cut_at_sync_after(r->real.disk, n);
        e = load_until_off(r, BATCHES_MOST);
    } else { /* while it closes, or at rest */
        e = load_until_off(r, 1 + chance(r, 8));
        if (how < 9 && !r->why[0]) {
            exj_power_cut_after(r->real.disk, chance(r, 150));
            where = &r->total.close_cuts;
        }
    }
    if (r->why[0])
        return false;
    if (how == 9 || (how < 7 && !exj_power_is_off(r->real.disk))) {
        exj_power_cut(r->real.disk);
        where = &r->total.idle_cuts;
    }
    side_close(&r->real);
    exj_power_cut(r->real.disk); /* nothing, when it is off already */
    r->total.cuts++;
    ++*where;
    return reopen(r) && compare(r, &e) && (chance(r, DOCTOR_EVERY) || ask_doctor(r)) &&
           reopen_twin(r);
}
