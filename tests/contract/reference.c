#include "reference.h"

#include <stdlib.h>

#define ROWS_MAX 400
#define POOLS 3 /* the last two are of one graph */
#define KEYS 3
#define NAMES 3
#define ROW_STEPS 60
#define TOKENS 512

struct model_step {
    char key[24];
    bool done;
};

struct model_row {
    int64_t seq, token, nonce;
    int pool, ckey, ukey; /* keys: -1 none */
    exj_msec until, run_after; /* run_after of a suspended row: 0 never */
    int32_t priority;
    uint32_t attempts, most;
    exj_status status;
    bool asked;
    exj_wait_kind wait;
    int signal; /* of a wait; -1: none */
    int kept[NAMES];
    struct model_step steps[ROW_STEPS + 4];
    size_t steps_len;
    int64_t ended_nonce, ended_token; /* of the outcome that ended it */
    bool failed[TOKENS], suspended[TOKENS]; /* the holder of that claim said so, and it stood */
};

struct model_key {
    bool known;
    uint32_t cap, running;
};

static struct model_row model[ROWS_MAX];
static size_t model_len;
static struct model_key keys[POOLS][KEYS]; /* by graph */
static uint32_t widened[POOLS];
static int64_t pools[POOLS];
/* 0: each claim has a cap of its own. When a cap that grew is seen is a store's own choice: one
 * that is shared is asked for the same all the time. */
static uint32_t same_cap;
static uint32_t (*draw)(uint32_t below);
static int64_t newest_nonce;
static exj_claim earlier; /* of a while ago: most writes that name it are late */
static const char *const names[NAMES] = { "x", "y", "x:2" };

static uint32_t chance(uint32_t below)
{
    return draw(below);
}

static int graph_of(int pool)
{
    return pool ? 1 : 0;
}

static struct model_row *by_seq(int64_t seq)
{
    for (size_t i = 0; i < model_len; i++)
        if (model[i].seq == seq)
            return &model[i];
    cr_assert(false, "row %" PRId64 " is not in the model", seq);
    return NULL;
}

static size_t in_status(int pool, exj_status s)
{
    size_t n = 0;

    for (size_t i = 0; i < model_len; i++)
        n += model[i].pool == pool && model[i].status == s;
    return n;
}

/* ---- keys ----------------------------------------------------------------------------------- */

static void let_in(int graph, int key, int64_t room)
{
    for (int p = 0; p < POOLS; p++)
        for (int64_t n = graph_of(p) == graph ? room : 0; n > 0; n--) {
            struct model_row *best = NULL;

            for (size_t i = 0; i < model_len; i++)
                if (model[i].pool == p && model[i].status == EXJ_PARKED &&
                    model[i].ckey == key && (!best || model[i].priority > best->priority))
                    best = &model[i];
            if (best)
                best->status = EXJ_QUEUED;
        }
}

/* The row leaves `running`, or the queue without running. */
static void move_to(struct model_row *r, exj_status to)
{
    struct model_key *k = r->ckey < 0 ? NULL : &keys[graph_of(r->pool)][r->ckey];
    exj_status from = r->status;

    r->status = to;
    if (k && from == EXJ_RUNNING) {
        k->running--;
        let_in(graph_of(r->pool), r->ckey, k->running < k->cap);
    } else if (k && from == EXJ_QUEUED && to != EXJ_PARKED && to != EXJ_RUNNING) {
        let_in(graph_of(r->pool), r->ckey, k->running < k->cap);
    }
    if (from == EXJ_RUNNING)
        r->asked = false;
    if (to != EXJ_SUSPENDED && to != EXJ_BLOCKED)
        r->signal = -1;
}

static bool enter(int graph, int key, uint32_t cap)
{
    struct model_key *k = &keys[graph][key];
    bool may = k->running < cap;
    uint32_t had = k->cap;

    k->cap = cap;
    k->running += may;
    if (cap > had)
        let_in(graph, key, (int64_t)cap - k->running);
    return may;
}

static bool unique_taken(const struct model_row *r)
{
    for (size_t i = 0; i < model_len; i++)
        if (&model[i] != r && r->ukey >= 0 && model[i].ukey == r->ukey &&
            graph_of(model[i].pool) == graph_of(r->pool) &&
            !exj_status_is_terminal(model[i].status))
            return true;
    return false;
}

/* ---- steps ---------------------------------------------------------------------------------- */

static struct model_step *find_step(struct model_row *r, const char *key)
{
    for (size_t i = 0; i < r->steps_len; i++)
        if (strcmp(r->steps[i].key, key) == 0)
            return &r->steps[i];
    return NULL;
}

static void put_step(struct model_row *r, const char *key, bool done)
{
    struct model_step *old = find_step(r, key), s = { .done = done };

    snprintf(s.key, sizeof(s.key), "%s", key);
    if (old) {
        memmove(old, old + 1, (size_t)(r->steps + r->steps_len - old - 1) * sizeof(*old));
        r->steps_len--;
    }
    r->steps[r->steps_len++] = s;
}

static void hear(struct model_row *r, const char *base)
{
    size_t n = strlen(base), times = 0;
    char key[24];

    for (size_t i = 0; i < r->steps_len; i++)
        times += strncmp(r->steps[i].key, base, n) == 0 &&
                 (!r->steps[i].key[n] || r->steps[i].key[n] == ':');
    do {
        snprintf(key, sizeof(key), times ? "%s:%zu" : "%s", base, times + 1);
        times++;
    } while (find_step(r, key));
    put_step(r, key, true);
}

static void hear_signal(struct model_row *r, int name)
{
    char base[24];

    snprintf(base, sizeof(base), "signal:%s", names[name]);
    hear(r, base);
}

/* ---- operations ------------------------------------------------------------------------------- */

static void drop_oldest(int pool)
{
    struct model_row *oldest = NULL;

    for (size_t i = 0; i < model_len && !oldest; i++)
        if (model[i].pool == pool &&
            (model[i].status == EXJ_QUEUED || model[i].status == EXJ_WAITING ||
             model[i].status == EXJ_PARKED))
            oldest = &model[i];
    if (oldest) {
        oldest->ended_nonce = 0;
        move_to(oldest, EXJ_DROPPED);
    }
}

static void try_insert(struct fixture *f, int pool, exj_msec now)
{
    static const char *const words[] = { "k0", "k1", "k2" };
    struct model_row *r = &model[model_len];
    exj_overflow_rule rule = { .on = chance(4) == 0, .drop = chance(2),
                               .cap = 1 + chance(30), .max_queue = chance(25) };
    exj_insert_item it = { .has_priority = true };
    size_t waits = in_status(pool, EXJ_QUEUED) + in_status(pool, EXJ_WAITING) +
                   in_status(pool, EXJ_PARKED), runs = in_status(pool, EXJ_RUNNING);
    exj_op op = { .kind = EXJ_OP_INSERT };
    bool drop = rule.on && rule.drop && waits + runs >= rule.cap;
    bool drop_one = rule.on && !rule.drop &&
                    (int64_t)(waits + 1) - (runs < rule.cap ? (int64_t)(rule.cap - runs) : 0) >
                        (int64_t)rule.max_queue;
    char id[32];

    if (model_len == ROWS_MAX)
        return;
    snprintf(id, sizeof(id), "r%zu", model_len);
    *r = (struct model_row){ .pool = pool, .signal = -1,
                             .priority = (int32_t)chance(3) - 1,
                             .most = 1 + chance(4),
                             .ckey = (int)chance(KEYS + 1) - 1,
                             .ukey = (int)chance(4 * KEYS) - 3 * KEYS,
                             .run_after = chance(3) ? 0 : now + 1 + chance(5000) };
    if (r->ukey < 0)
        r->ukey = -1;
    r->status = r->run_after ? EXJ_WAITING : EXJ_QUEUED;
    it.record_id = exj_slice_of(id);
    it.input = EXJ_SLICE_LITERAL("{}");
    it.priority = r->priority;
    it.run_after = r->run_after;
    it.concurrency_key = exj_slice_of(r->ckey < 0 ? NULL : words[r->ckey]);
    it.unique_key = exj_slice_of(r->ukey < 0 ? NULL : words[r->ukey]);
    op.u.insert.pool = pools[pool];
    op.u.insert.max_attempts = r->most;
    op.u.insert.overflow = rule;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    if (unique_taken(r)) {
        expect_code(it.verdict, EXJ_BUSY);
        cr_assert(unique_taken(r) && by_seq(it.seq)->ukey == r->ukey);
        return;
    }
    expect_code(it.verdict, EXJ_OK);
    expect_int(op.u.insert.ret_dropped, drop || drop_one);
    r->seq = it.seq;
    model_len++;
    if (drop)
        r->status = EXJ_DROPPED;
    else if (r->ckey >= 0 && !keys[graph_of(pool)][r->ckey].known)
        keys[graph_of(pool)][r->ckey] = (struct model_key){ .known = true, .cap = 1 };
    if (drop_one)
        drop_oldest(pool);
    expect_int(it.status, r->status);
    expect_int(insert(f, pools[pool], id), 0);
}

static size_t ready(int pool, struct model_row **ret, size_t most)
{
    size_t n = 0;

    for (int32_t priority = 1; priority >= -1; priority--)
        for (size_t i = 0; i < model_len && n < most; i++)
            if (model[i].pool == pool && model[i].status == EXJ_QUEUED &&
                model[i].priority == priority)
                ret[n++] = &model[i];
    return n;
}

static void try_claim(struct fixture *f, int pool, exj_msec now)
{
    exj_want w = { .pool = pools[pool], .want = 1 + chance(8),
                   .key_cap = same_cap ? same_cap : 1 + chance(2) };
    struct model_row *picked[8], *got[8];
    int graph = graph_of(pool);
    size_t n, got_len = 0, len;
    exj_claim c[8];

    newest_nonce++;
    len = claim_want(f, &w, newest_nonce, c);
    if (in_status(pool, EXJ_PARKED) && widened[pool] != w.key_cap) {
        for (int k = 0; k < KEYS; k++)
            if (keys[graph][k].known && keys[graph][k].cap < w.key_cap) {
                keys[graph][k].cap = w.key_cap;
                let_in(graph, k, (int64_t)w.key_cap - keys[graph][k].running);
            }
        widened[pool] = w.key_cap;
    }
    do {
        n = ready(pool, picked, w.want - got_len);
        for (size_t i = 0; i < n; i++) {
            struct model_row *r = picked[i];

            if (r->ckey >= 0 && !enter(graph, r->ckey, w.key_cap)) {
                r->status = EXJ_PARKED;
                continue;
            }
            r->status = EXJ_RUNNING;
            r->nonce = newest_nonce;
            r->until = now + LEASE;
            r->token++;
            r->attempts++;
            got[got_len++] = r;
        }
    } while (n && got_len < w.want);
    expect_int(len, got_len);
    for (size_t i = 0; i < len; i++) {
        expect_int(c[i].seq, got[i]->seq);
        expect_int(c[i].token, got[i]->token);
        expect_int(c[i].attempt, got[i]->attempts);
    }
}

static void end(struct model_row *r, exj_status to, int64_t nonce)
{
    r->ended_nonce = nonce;
    r->ended_token = r->token;
    move_to(r, to);
}

/* The model's answer to an outcome of a claim that holds its row. */
static void end_attempt(struct model_row *r, exj_event e, const exj_outcome *o, int signal)
{
    exj_status to = EXJ_RUNNING;

    if (e == EXJ_EV_FAIL_RETRY || e == EXJ_EV_FAIL_DEAD)
        r->failed[r->token] = true;
    if (r->asked && e != EXJ_EV_SUCCEED)
        e = EXJ_EV_CANCEL;
    if (e == EXJ_EV_FAIL_RETRY && r->attempts >= r->most)
        e = EXJ_EV_FAIL_DEAD;
    exj_state_move(EXJ_RUNNING, e, &to, NULL);
    if (to == EXJ_WAITING) {
        r->run_after = o->run_after;
        move_to(r, to);
    } else if (to == EXJ_SUSPENDED) {
        r->suspended[r->token] = true;
        r->attempts--;
        r->run_after = o->run_after;
        move_to(r, to);
        r->wait = o->wait;
        r->signal = signal;
        if (signal >= 0 && r->kept[signal]) {
            r->kept[signal]--;
            hear_signal(r, signal);
            r->run_after = 0;
            move_to(r, EXJ_QUEUED);
        }
    } else {
        end(r, to, r->nonce);
        if (to == EXJ_BLOCKED)
            r->signal = signal;
    }
}

static void try_finish(struct fixture *f, struct model_row *r, const exj_claim *c, exj_msec now)
{
    static const exj_event events[] = { EXJ_EV_SUCCEED, EXJ_EV_FAIL_RETRY, EXJ_EV_FAIL_DEAD,
                                        EXJ_EV_BLOCK, EXJ_EV_SUSPEND, EXJ_EV_SUSPEND,
                                        EXJ_EV_CANCEL };
    exj_outcome o = { .seq = c->seq, .nonce = c->nonce, .token = c->token,
                      .event = events[chance(7)], .run_after = now + 1 + chance(3000) };
    bool fails = o.event == EXJ_EV_FAIL_RETRY || o.event == EXJ_EV_FAIL_DEAD, mine;
    exj_op op = { .kind = EXJ_OP_FINISH };
    exj_status to = EXJ_RUNNING;
    int signal = -1;

    if (r->steps_len > ROW_STEPS - 8 && o.event == EXJ_EV_SUSPEND)
        return;
    if (o.event == EXJ_EV_SUSPEND) {
        o.wait = (exj_wait_kind)chance(3);
        if (o.wait == EXJ_WAIT_SIGNAL) {
            signal = (int)chance(NAMES);
            if (chance(2))
                o.run_after = 0;
        }
    } else if (o.event == EXJ_EV_BLOCK && chance(2)) {
        signal = (int)chance(NAMES);
    }
    o.signal = exj_slice_of(signal < 0 ? NULL : names[signal]);
    if (fails || o.event == EXJ_EV_BLOCK)
        o.error_code = EXJ_SLICE_LITERAL("E_TEST");
    o.crashed = fails && chance(4) == 0;
    op.u.finish.items = &o;
    op.u.finish.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    if (r->status == EXJ_RUNNING && r->nonce == c->nonce && r->token == c->token) {
        expect_code(o.verdict, EXJ_OK);
        end_attempt(r, o.event, &o, signal);
        expect_int(o.to, r->status);
        return;
    }
    exj_state_move(EXJ_RUNNING, o.event, &to, NULL);
    mine = c->nonce && r->ended_nonce == c->nonce && r->ended_token == c->token &&
           (r->status == to || (r->status == EXJ_CANCELED && o.event != EXJ_EV_SUCCEED) ||
            (r->status == EXJ_FAILED && fails));
    if (c->nonce && fails)
        mine |= r->failed[c->token];
    if (c->nonce && o.event == EXJ_EV_SUSPEND)
        mine |= r->suspended[c->token];
    expect_code(o.verdict, mine ? EXJ_OK : EXJ_FENCED);
}

static void try_reap(struct fixture *f, exj_msec now)
{
    static exj_reaped r[ROWS_MAX];
    size_t n = reap(f, NULL, 0, r, ROWS_MAX), over = 0;

    for (size_t i = 0; i < model_len; i++)
        over += model[i].status == EXJ_RUNNING && model[i].until < now;
    expect_int(n, over);
    for (size_t i = 0; i < n; i++) {
        struct model_row *m = by_seq(r[i].seq);
        exj_status to = m->asked                  ? EXJ_CANCELED
                        : m->attempts >= m->most ? EXJ_FAILED
                                                 : EXJ_QUEUED;

        cr_assert(m->status == EXJ_RUNNING && m->until < now);
        end(m, to, 0);
        expect_int(r[i].to, to);
    }
}

static void try_promote(struct fixture *f, exj_msec now)
{
    exj_msec next, wanted = 0;
    size_t n = promote(f, &next), due = 0;

    for (size_t i = 0; i < model_len; i++) {
        struct model_row *r = &model[i];

        if ((r->status != EXJ_WAITING && r->status != EXJ_SUSPENDED) || !r->run_after)
            continue;
        if (r->run_after > now) {
            if (!wanted || r->run_after < wanted)
                wanted = r->run_after;
            continue;
        }
        if (r->status == EXJ_SUSPENDED && r->wait == EXJ_WAIT_SIGNAL)
            hear_signal(r, r->signal);
        else if (r->status == EXJ_SUSPENDED && r->wait == EXJ_WAIT_TIME)
            hear(r, "timer");
        r->run_after = 0;
        move_to(r, EXJ_QUEUED);
        due++;
    }
    expect_int(n, due);
    expect_int(next, wanted);
}

/* An ended row comes back, if the table and its unique key allow it. */
static exj_code come_back(struct model_row *r, exj_event e)
{
    exj_status to = r->status;
    exj_code rc = exj_state_move(r->status, e, &to, NULL);

    if (!rc && unique_taken(r))
        rc = EXJ_REFUSED;
    if (!rc) {
        move_to(r, to);
        r->attempts = 0;
        r->ended_nonce = 0;
        r->run_after = 0;
        if (r->ckey >= 0 && !keys[graph_of(r->pool)][r->ckey].known)
            keys[graph_of(r->pool)][r->ckey] = (struct model_key){ .known = true, .cap = 1 };
    }
    return rc;
}

static void try_rerun(struct fixture *f, struct model_row *r)
{
    size_t from = chance(2) && r->steps_len ? chance((uint32_t)r->steps_len) : 0;
    bool whole = chance(2), unknown = !whole && (chance(5) == 0 || !r->steps_len);
    const char *step = whole ? NULL : unknown ? "none" : r->steps[from].key;
    size_t dropped = 0, kept = 0;
    exj_status to;
    exj_code got = rerun(f, r->seq, step, &dropped, &kept, NULL),
             wanted = exj_state_move(r->status, EXJ_EV_RERUN, &to, NULL);

    if (!wanted && r->token == 0)
        wanted = EXJ_REFUSED;
    if (!wanted && unknown)
        wanted = EXJ_NOT_FOUND;
    if (!wanted)
        wanted = come_back(r, EXJ_EV_RERUN);
    expect_code(got, wanted);
    if (wanted)
        return;
    r->token++;
    r->nonce = 0;
    expect_int(kept, whole ? 0 : from);
    expect_int(dropped, r->steps_len - kept);
    r->steps_len = kept;
}

static void try_cancel(struct fixture *f, struct model_row *r)
{
    exj_status to = EXJ_QUEUED;
    exj_code wanted = exj_state_move(r->status, EXJ_EV_CANCEL, &to, NULL), got;

    got = cancel(f, r->seq, &to, NULL);
    expect_code(got, wanted);
    if (wanted)
        return;
    expect_int(to, r->status == EXJ_RUNNING ? EXJ_RUNNING : EXJ_CANCELED);
    if (r->status == EXJ_RUNNING)
        r->asked = true;
    else
        end(r, EXJ_CANCELED, 0);
}

static void try_signal(struct fixture *f, struct model_row *r)
{
    int name = (int)chance(NAMES), kept = 0;
    exj_code wanted = EXJ_OK, got;
    bool delivered = false, was_delivered = false;

    if (r->steps_len > ROW_STEPS - 8)
        return;
    got = signal_to(f, r->seq, names[name], "7", &delivered, NULL);
    for (int i = 0; i < NAMES; i++)
        kept += r->kept[i];
    if (exj_status_is_terminal(r->status)) {
        wanted = EXJ_REFUSED;
    } else if (r->status == EXJ_BLOCKED) {
        wanted = r->signal >= 0 && r->signal != name ? EXJ_REFUSED
                                                     : come_back(r, EXJ_EV_UNBLOCK);
        was_delivered = !wanted;
    } else if (r->status == EXJ_SUSPENDED && r->wait == EXJ_WAIT_SIGNAL && r->signal == name) {
        was_delivered = true;
        r->run_after = 0;
        move_to(r, EXJ_QUEUED);
    } else if (kept == EXJ_STORE_SIGNALS_KEPT) {
        wanted = EXJ_REFUSED;
    } else {
        r->kept[name]++;
    }
    if (was_delivered)
        hear_signal(r, name);
    expect_code(got, wanted);
    expect_int(delivered, was_delivered);
}

static void try_step(struct fixture *f, struct model_row *r, const exj_claim *c, bool holds)
{
    struct model_step *s;
    char key[8];
    bool begin = chance(2), again = false, done;
    exj_code got;

    if (r->steps_len > ROW_STEPS)
        return;
    snprintf(key, sizeof(key), "s%u", chance(5));
    s = find_step(r, key);
    done = s && s->done;
    got = begin ? step_begin(f, c, key, &again) : step_put(f, c, key, "[1]");
    expect_code(got, !holds ? EXJ_FENCED : done ? EXJ_CONFLICT : EXJ_OK);
    expect_int(again, begin && holds && s && !done);
    if (holds && !done)
        put_step(r, key, !begin);
}

/* ---- what the store says of itself -------------------------------------------------------------- */

static struct {
    exj_journal_view view[ROWS_MAX]; /* as in `model` */
    int64_t number, touched[4096];
    size_t touched_len;
} told;

static bool fold_one(void *user, const exj_event_view *v)
{
    exj_err err = { 0 };

    (void)user;
    cr_assert(v->entry.number == told.number + 1); /* none is gone */
    told.number = v->entry.number;
    cr_assert(exj_journal_apply(&told.view[by_seq(v->entry.seq) - model], &v->entry, &err) ==
                  EXJ_OK,
              "%s", err.text);
    told.touched[told.touched_len++] = v->entry.seq;
    return told.touched_len < sizeof(told.touched) / sizeof(told.touched[0]);
}

static void expect_row(const struct model_row *m, const exj_row_view *v)
{
    const exj_journal_view *t = &told.view[m - model];
    exj_status s = v->status == EXJ_WAITING || v->status == EXJ_PARKED ? EXJ_QUEUED : v->status;

    expect_int(v->status, m->status);
    expect_int(v->token, m->token);
    expect_int(v->attempts, m->attempts);
    expect_int(v->max_attempts, m->most);
    expect_int(v->cancel_asked, m->asked);
    if (m->status == EXJ_RUNNING)
        expect_int(v->lease_until, m->until);
    cr_assert(t->status == s && t->token == v->token && t->attempts == v->attempts &&
                  t->last == v->last_entry,
              "row %" PRId64 " is %s, its entries say %s", v->seq, exj_status_name(s),
              exj_status_name(t->status));
}

/* The entries that came since, folded, against the rows they tell of. */
static void fold_news(struct fixture *f)
{
    told.touched_len = 0;
    expect_code(f->s->v->events(f->s, told.number, 4096, fold_one, NULL, NULL), EXJ_OK);
    for (size_t i = 0; i < told.touched_len; i++) {
        struct seen s = look(f, told.touched[i]);

        expect_row(by_seq(s.v.seq), &s.v);
    }
}

struct scan {
    int64_t last, counts[POOLS][EXJ_STATUS_COUNT];
    size_t n;
};

static bool scan_row(void *user, const exj_row_view *v)
{
    struct scan *s = user;

    expect_row(by_seq(v->seq), v);
    for (int i = 0; i < POOLS; i++)
        if (pools[i] == v->pool)
            s->counts[i][v->status]++;
    s->last = v->seq;
    s->n++;
    return true;
}

void reference_compare(struct fixture *f)
{
    exj_row_filter page = { .status = -1, .limit = 100 };
    struct scan s = { 0 };
    size_t before;

    do {
        before = s.n;
        page.after_seq = s.last;
        expect_code(f->s->v->row_page(f->s, &page, scan_row, &s, NULL), EXJ_OK);
    } while (s.n > before);
    expect_int(s.n, model_len);
    for (int i = 0; i < POOLS; i++) {
        int64_t kept[EXJ_STATUS_COUNT];

        counts(f, pools[i], kept);
        for (int k = 0; k < EXJ_STATUS_COUNT; k++)
            expect_int(kept[k], s.counts[i][k]);
    }
    for (size_t i = 0; i < model_len; i++) {
        struct model_row *r = &model[i];
        char wanted[2048] = "";

        for (size_t k = 0; k < r->steps_len; k++)
            snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), "%s%s%s",
                     k ? " " : "", r->steps[k].key, r->steps[k].done ? "" : "?");
        cr_assert_str_eq(steps_of(f, r->seq), wanted);
        expect_folds(f, r->seq);
    }
}

void reference_step(struct fixture *f)
{
    int p = (int)chance(POOLS);
    struct model_row *r = model_len ? &model[chance((uint32_t)model_len)] : NULL;
    exj_msec now = f->s->v->now(f->s);
    uint32_t what = chance(100);
    exj_claim c = { 0 };
    bool holds;

    if (r) /* mostly the claim that stands; at times one of long ago */
        c = (exj_claim){ .seq = r->seq, .token = r->token, .nonce = r->nonce,
                         .attempt = r->attempts };
    if (chance(8) == 0 && earlier.seq && r) {
        c = earlier;
        r = by_seq(c.seq);
    } else if (chance(4) == 0) {
        earlier = c;
    }
    if (r && r->token >= TOKENS - 1)
        return;
    holds = r && r->status == EXJ_RUNNING && r->nonce == c.nonce && r->token == c.token &&
            c.nonce != 0;
    if (what < 12) {
        try_insert(f, p, now);
    } else if (what < 32) {
        try_claim(f, p, now);
    } else if (!r) {
        return;
    } else if (what < 54) {
        try_finish(f, r, &c, now);
    } else if (what < 58) {
        expect_code(renew(f, &c, LEASE), holds ? EXJ_OK : EXJ_FENCED);
        if (holds)
            r->until = now + LEASE;
    } else if (what < 61) {
        expect_code(release(f, &c), holds ? EXJ_OK : EXJ_FENCED);
        if (holds && r->asked) {
            end(r, EXJ_CANCELED, 0);
        } else if (holds) {
            r->attempts--;
            move_to(r, EXJ_QUEUED);
        }
    } else if (what < 64) {
        try_reap(f, now);
    } else if (what < 69) {
        try_promote(f, now);
    } else if (what < 74) {
        exj_code got = retry(f, r->seq, NULL);

        expect_code(got, come_back(r, EXJ_EV_RETRY));
    } else if (what < 78) {
        try_rerun(f, r);
    } else if (what < 81) {
        try_cancel(f, r);
    } else if (what < 87) {
        try_signal(f, r);
    } else if (what < 93) {
        try_step(f, r, &c, holds);
    } else if (what < 96) {
        expect_code(progress(f, &c, 0.5, "half"), holds ? EXJ_OK : EXJ_FENCED);
    } else {
        advance(f, chance(LEASE / 4));
    }
    fold_news(f);
}

void reference_begin(struct fixture *f, uint32_t (*draw_)(uint32_t below))
{
    int64_t first;

    draw = draw_;
    same_cap = f->maker->shared ? 1 + chance(2) : 0;
    newest_nonce = 0;
    earlier = (exj_claim){ 0 };
    model_len = 0;
    memset(keys, 0, sizeof(keys));
    memset(widened, 0, sizeof(widened));
    memset(&told, 0, sizeof(told));
    expect_code(f->s->v->events_span(f->s, &first, &told.number, NULL), EXJ_OK);
    cr_assert(first > told.number, "there are entries before there are rows");
    pools[0] = pool(f, "m", "", "g0");
    pools[1] = pool(f, "m", "", "g1");
    pools[2] = pool(f, "n", "r", "g1");
}

void reference_reopen(struct fixture *f)
{
    fixture_reopen(f);
    memset(widened, 0, sizeof(widened));
    reference_compare(f);
}
