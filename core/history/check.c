#include "core/history/check.h"

#include <stdlib.h>

#include "core/history/check_inside.h"

#define TEXT_BLOCK 65536u

/* ---- tables ----------------------------------------------------------------------- */

uint64_t exj_check_hash(const void *p, size_t n)
{
    const unsigned char *s = p;
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, w;

    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    for (; n; s++, n--)
        h = (h ^ *s) * 0x100000001b3u;
    h ^= h >> 29;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 32;
}

static bool grow(check_table *t, const void *user,
                 uint64_t (*hash_of)(const void *user, uint32_t index))
{
    size_t cap = t->cap ? t->cap * 2 : 64, at;
    uint32_t *slots = calloc(cap, sizeof *slots);

    if (!slots)
        return false;
    for (size_t i = 0; i < t->cap; i++)
        if (t->slots[i]) {
            at = (size_t)hash_of(user, t->slots[i] - 1) & (cap - 1);
            while (slots[at])
                at = (at + 1) & (cap - 1);
            slots[at] = t->slots[i];
        }
    free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return true;
}

uint32_t *exj_check_slot(check_table *t, uint64_t hash,
                         bool (*same)(const void *user, uint32_t index, const void *key),
                         const void *user, const void *key,
                         uint64_t (*hash_of)(const void *user, uint32_t index))
{
    size_t at;

    if ((t->len + 1) * 2 > t->cap && !grow(t, user, hash_of))
        return NULL;
    at = (size_t)hash & (t->cap - 1);
    while (t->slots[at] && !same(user, t->slots[at] - 1, key))
        at = (at + 1) & (t->cap - 1);
    return &t->slots[at];
}

bool exj_check_room(void **list, size_t len, size_t *cap, size_t each)
{
    size_t more = *cap ? *cap * 2 : 64;
    void *p;

    if (len < *cap)
        return true;
    p = realloc(*list, more * each);
    if (!p)
        return false;
    *list = p;
    *cap = more;
    return true;
}

/* ---- texts ------------------------------------------------------------------------ */

static bool same_text(const void *user, uint32_t index, const void *key)
{
    const exj_check *c = user;

    return exj_slice_equal(c->texts.at[index], *(const exj_slice *)key);
}

static uint64_t hash_of_text(const void *user, uint32_t index)
{
    const exj_check *c = user;

    return exj_check_hash(c->texts.at[index].p, c->texts.at[index].n);
}

exj_slice exj_check_text(const exj_check *c, uint32_t id)
{
    return id < c->texts.len ? c->texts.at[id] : (exj_slice){ "", 0 };
}

static char *text_room(check_texts *t, size_t n)
{
    size_t want = sizeof(void *) + (n > TEXT_BLOCK ? n : TEXT_BLOCK);
    char *p;

    if (t->room_left < n || !t->room) {
        void **block = malloc(want);

        if (!block)
            return NULL;
        *block = t->blocks;
        t->blocks = block;
        t->room = (char *)(block + 1);
        t->room_left = want - sizeof(void *);
    }
    p = t->room;
    t->room += n;
    t->room_left -= n;
    return p;
}

uint32_t exj_check_intern(exj_check *c, exj_slice s)
{
    check_texts *t = &c->texts;
    uint32_t *slot;
    char *p;

    if (!s.n)
        return 0;
    slot = exj_check_slot(&t->table, exj_check_hash(s.p, s.n), same_text, c, &s,
                          hash_of_text);
    if (!slot)
        return CHECK_NONE;
    if (*slot)
        return *slot - 1;
    if (!exj_check_room((void **)&t->at, t->len, &t->cap, sizeof *t->at) ||
        !(p = text_room(t, s.n)))
        return CHECK_NONE;
    memcpy(p, s.p, s.n);
    t->at[t->len] = (exj_slice){ p, s.n };
    *slot = ++t->len;
    t->table.len++;
    return t->len - 1;
}

/* ---- incarnations, rows ----------------------------------------------------------- */

struct inc_key {
    uint64_t number;
    uint64_t actor;
};

static bool same_inc(const void *user, uint32_t index, const void *key)
{
    const exj_check *c = user;
    const struct inc_key *k = key;

    return c->incs[index].number == k->number && c->incs[index].actor == k->actor;
}

static uint64_t hash_of_inc(const void *user, uint32_t index)
{
    const exj_check *c = user;
    struct inc_key k = { c->incs[index].number, c->incs[index].actor };

    return exj_check_hash(&k, sizeof k);
}

static uint32_t inc_at(exj_check *c, const exj_hist_event *e)
{
    struct inc_key k = { e->incarnation, exj_check_intern(c, e->actor) };
    check_inc *i;
    uint32_t *slot;

    if (c->incs_len && same_inc(c, c->incs_len - 1, &k))
        return c->incs_len - 1;
    slot = exj_check_slot(&c->incs_table, exj_check_hash(&k, sizeof k), same_inc, c, &k,
                          hash_of_inc);
    if (!slot || k.actor == CHECK_NONE)
        return CHECK_NONE;
    if (*slot)
        return *slot - 1;
    if (!exj_check_room((void **)&c->incs, c->incs_len, &c->incs_cap, sizeof *c->incs))
        return CHECK_NONE;
    i = &c->incs[c->incs_len];
    *i = (check_inc){ .number = e->incarnation,
                      .actor = (uint32_t)k.actor,
                      .started_at = CHECK_NEVER,
                      .stopped_at = CHECK_NEVER,
                      .killed_at = CHECK_NEVER,
                      .last_t = CHECK_EVER };
    for (int op = 0; op < EXJ_HIST_OP_COUNT; op++) {
        i->wild0[op] = CHECK_NEVER;
        i->wild1[op] = CHECK_EVER;
    }
    *slot = ++c->incs_len;
    c->incs_table.len++;
    return c->incs_len - 1;
}

static bool same_row(const void *user, uint32_t index, const void *key)
{
    return ((const exj_check *)user)->rows[index].seq == *(const int64_t *)key;
}

static uint64_t hash_of_row(const void *user, uint32_t index)
{
    const exj_check *c = user;

    return exj_check_hash(&c->rows[index].seq, sizeof(int64_t));
}

uint32_t exj_check_row_at(exj_check *c, int64_t seq)
{
    uint32_t *slot = exj_check_slot(&c->rows_table, exj_check_hash(&seq, sizeof seq),
                                    same_row, c, &seq, hash_of_row);

    if (!slot)
        return CHECK_NONE;
    if (*slot)
        return *slot - 1;
    if (!exj_check_room((void **)&c->rows, c->rows_len, &c->rows_cap, sizeof *c->rows))
        return CHECK_NONE;
    c->rows[c->rows_len] = (check_row){ .seq = seq };
    *slot = ++c->rows_len;
    c->rows_table.len++;
    return c->rows_len - 1;
}

/* ---- reading events --------------------------------------------------------------- */

static uint8_t word_of(exj_slice s, const char *const *words, size_t len, uint8_t other)
{
    if (!s.n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if (words[i] && exj_slice_is(s, words[i]))
            return (uint8_t)i;
    return other;
}

static uint8_t to_of(exj_slice s)
{
    static const char *const words[] = {
        [TO_QUEUED] = "queued",       [TO_WAITING] = "waiting",
        [TO_RUNNING] = "running",     [TO_COMPLETED] = "completed",
        [TO_FAILED] = "failed",       [TO_BLOCKED] = "blocked",
        [TO_SUSPENDED] = "suspended", [TO_CANCELED] = "canceled",
        [TO_DROPPED] = "dropped",
    };

    if (exj_slice_is(s, "parked"))
        return TO_WAITING;
    return word_of(s, words, sizeof words / sizeof words[0], TO_OTHER);
}

static uint8_t outcome_of(exj_slice s)
{
    static const char *const words[] = {
        [W_NEW] = "new",
        [W_EXISTING] = "existing",
        [W_SUCCEED] = "succeed",
        [W_FAIL_RETRY] = "fail_retry",
        [W_FAIL_DEAD] = "fail_dead",
        [W_BLOCK] = "block",
        [W_SUSPEND] = "suspend",
        [W_CANCEL] = "cancel",
        [W_TAKEN] = "taken",
        [W_REPLAYED] = "replayed",
        [W_READY] = "ready",
        [W_DRAINING] = "draining",
        [W_UNMAPPED] = "unmapped",
        [W_START] = "start",
        [W_STOP] = "stop",
        [W_EXIT] = "exit",
        [W_CRASH] = "crash",
        [W_GAP] = "gap",
        [W_KILL] = "kill",
        [W_RESTORED] = "restored",
        [W_KEPT] = "kept",
        [W_KEY_DROPPED] = "dropped",
    };

    return word_of(s, words, sizeof words / sizeof words[0], W_OTHER);
}

static uint8_t code_of(exj_slice s)
{
    static const char *const words[] = {
        [C_FENCED] = "fenced", [C_CONFLICT] = "conflict"
    };

    return word_of(s, words, sizeof words / sizeof words[0], C_OTHER);
}

/* The first 16 digits; a text that is no number counts by its bytes. Never 0 for a text.
 */
static uint64_t digest_of(exj_slice s)
{
    uint64_t v = 0;

    if (!s.n)
        return 0;
    for (size_t i = 0; i < s.n && i < 16; i++) {
        char ch = s.p[i];
        unsigned d = ch >= '0' && ch <= '9'   ? (unsigned)(ch - '0')
                     : ch >= 'a' && ch <= 'f' ? (unsigned)(ch - 'a') + 10
                                              : 16;

        if (d == 16)
            return exj_check_hash(s.p, s.n) | 1;
        v = v << 4 | d;
    }
    return v ? v : 1;
}

static check_rec *new_rec(exj_check *c)
{
    size_t chunk = c->recs_len >> 14;

    if (!(c->recs_len & 16383)) {
        if (!exj_check_room((void **)&c->chunks, chunk, &c->chunks_cap, sizeof *c->chunks))
            return NULL;
        c->chunks[chunk] = malloc(16384 * sizeof(check_rec));
        if (!c->chunks[chunk])
            return NULL;
    }
    return check_at(c, c->recs_len++);
}

struct op_key {
    uint64_t id;
    uint64_t inc;
};

static bool same_op(const void *user, uint32_t index, const void *key)
{
    const check_rec *r = check_at(user, index);
    const struct op_key *k = key;

    return r->id == k->id && r->inc == k->inc;
}

static uint64_t hash_of_op(const void *user, uint32_t index)
{
    const check_rec *r = check_at(user, index);
    struct op_key k = { r->id, r->inc };

    return exj_check_hash(&k, sizeof k);
}

/* Lines that are no operations: what they tell is true at their time. */
static bool is_point(exj_hist_op op)
{
    switch (op) {
    case EXJ_HIST_GENERATION:
    case EXJ_HIST_CORE:
    case EXJ_HIST_HOST:
    case EXJ_HIST_EVENT:
    case EXJ_HIST_FAULT:
    case EXJ_HIST_QUIET:
    case EXJ_HIST_SETTINGS:
    case EXJ_HIST_FINAL:
        return true;
    default:
        return false;
    }
}

static bool add_entry(exj_check *c, const exj_hist_event *e)
{
    check_entry *p;

    if (!exj_check_room((void **)&c->entries, c->entries_len, &c->entries_cap,
                        sizeof *c->entries))
        return false;
    p = c->entries + c->entries_len;
    *p = (check_entry){ .number = e->value,
                        .row = e->row,
                        .token = e->token,
                        .t = e->t,
                        .reader = exj_check_intern(c, e->actor),
                        .kind = exj_check_intern(c, e->key),
                        .nth = (uint32_t)c->entries_len,
                        .gap = exj_slice_is(e->outcome, "gap") };
    c->entries_len++;
    return p->reader != CHECK_NONE && p->kind != CHECK_NONE;
}

/* What the end of an operation tells beside what its invoke told. */
static void fill(check_rec *r, const exj_hist_event *e, uint32_t job, uint32_t key)
{
    r->phase = (uint8_t)e->phase;
    if (e->row)
        r->row = e->row;
    if (e->token)
        r->token = e->token;
    if (e->attempt)
        r->attempt = e->attempt;
    if (e->value)
        r->value = e->value;
    if (job)
        r->job = job;
    if (key)
        r->key = key;
    if (e->digest.n)
        r->digest = digest_of(e->digest);
    if (e->outcome.n)
        r->outcome = outcome_of(e->outcome);
    if (e->to.n)
        r->to = to_of(e->to);
    if (e->code.n)
        r->code = code_of(e->code);
}

static void note_core(exj_check *c, const exj_hist_event *e, uint32_t inc)
{
    check_inc *i = &c->incs[inc];

    if (e->op != EXJ_HIST_CORE)
        return;
    if (exj_slice_is(e->outcome, "start")) {
        i->started = true;
        i->started_at = e->t;
        i->pid = e->value;
    } else if (exj_slice_is(e->outcome, "stop")) {
        i->stopped = true;
        i->stopped_at = e->t;
    }
}

/* The record that this line makes or ends. *ret NULL with true: the line only told of
 * another. */
static bool place(exj_check *c, const exj_hist_event *e, uint32_t inc, check_rec **ret)
{
    struct op_key k = { e->id, inc };
    check_rec *r, *first = NULL;
    uint32_t *slot = NULL;

    if (e->id && !is_point(e->op)) {
        slot = exj_check_slot(&c->pending, exj_check_hash(&k, sizeof k), same_op, c, &k,
                              hash_of_op);
        if (!slot)
            return false;
        if (*slot)
            first = check_at(c, *slot - 1);
    }
    if (first && e->phase != EXJ_HIST_INVOKE && !first->ended && first->op == e->op) {
        first->ended = true;
        *ret = first;
        return true;
    }
    r = new_rec(c);
    if (!r)
        return false;
    *r = (check_rec){ .t0 = e->t,
                      .t1 = e->t,
                      .op = (uint8_t)e->op,
                      .inc = inc,
                      .id = e->id,
                      .row_at = CHECK_NONE,
                      .generation = e->generation };
    if (e->phase == EXJ_HIST_INVOKE)
        r->many = !e->row;
    else if (first) {
        r->t0 = first->t0; /* one more row of the same operation */
        r->many = first->many;
        r->job = first->job;
        r->ended = true;
    } else if (!is_point(e->op)) {
        r->t0 = CHECK_EVER;
        r->ended = true;
        c->report.counts.unpaired++;
    }
    if (slot && !*slot) {
        *slot = (uint32_t)c->recs_len;
        c->pending.len++;
    }
    *ret = r;
    return true;
}

static exj_code out_of_memory(exj_check *c, exj_err *err)
{
    c->failed = true;
    return exj_err_set(err, EXJ_NOMEM, "out of memory after %llu events",
                       (unsigned long long)c->report.counts.events);
}

exj_code exj_check_add(exj_check *c, const exj_hist_event *e, exj_err *err)
{
    uint32_t inc, job, key;
    check_rec *r = NULL;

    if (c->failed)
        return out_of_memory(c, err);
    c->report.counts.events++;
    if (e->t > c->last_t)
        c->last_t = e->t;
    if (e->op == EXJ_HIST_EVENT)
        return add_entry(c, e) ? EXJ_OK : out_of_memory(c, err);
    inc = inc_at(c, e);
    job = exj_check_intern(c, e->job);
    key = exj_check_intern(c, e->key);
    if (inc == CHECK_NONE || job == CHECK_NONE || key == CHECK_NONE ||
        !place(c, e, inc, &r))
        return out_of_memory(c, err);
    note_core(c, e, inc);
    if (e->t > c->incs[inc].last_t)
        c->incs[inc].last_t = e->t;
    fill(r, e, job, key);
    if (e->phase == EXJ_HIST_INVOKE || e->phase == EXJ_HIST_INFO)
        r->t1 = CHECK_NEVER;
    else
        r->t1 = e->t;
    if (e->generation && e->phase != EXJ_HIST_INVOKE && r->generation != e->generation &&
        e->op == EXJ_HIST_EXECUTE)
        r->value = (int64_t)e->generation; /* it ended in another one: I14 */
    if (e->phase != EXJ_HIST_INVOKE && !is_point(e->op))
        c->incs[inc].last = r;
    return EXJ_OK;
}

/* ---- life ------------------------------------------------------------------------- */

exj_check *exj_check_new(const exj_check_options *o)
{
    exj_check *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    if (o)
        c->o = *o;
    if (!c->o.findings_most)
        c->o.findings_most = 20;
    if (c->o.restart_ms <= 0)
        c->o.restart_ms = 10000;
    c->last_t = CHECK_EVER;
    c->quiet = CHECK_NEVER;
    c->final_t = CHECK_EVER;
    c->first_new = INT64_MAX;
    c->texts.at = calloc(64, sizeof *c->texts.at);
    if (!c->texts.at) {
        free(c);
        return NULL;
    }
    c->texts.cap = 64;
    c->texts.at[0] = (exj_slice){ "", 0 };
    c->texts.len = 1;
    return c;
}

void exj_check_free(exj_check *c)
{
    if (!c)
        return;
    for (size_t i = 0; i << 14 < c->recs_len; i++)
        free(c->chunks[i]);
    while (c->texts.blocks) {
        void *next = *(void **)c->texts.blocks;

        free(c->texts.blocks);
        c->texts.blocks = next;
    }
    for (size_t i = 0; i < c->findings_len; i++)
        free((void *)(uintptr_t)c->findings[i].text);
    free(c->findings);
    free(c->chunks);
    free(c->texts.at);
    free(c->texts.table.slots);
    free(c->pending.slots);
    free(c->incs);
    free(c->incs_table.slots);
    free(c->rows);
    free(c->rows_table.slots);
    free(c->entries);
    free(c->by_row);
    free(c->row_of_job);
    free(c->graph_has_effect);
    free(c->graph_of_job);
    free(c->work);
    for (int op = 0; op < EXJ_HIST_OP_COUNT; op++) {
        free(c->wild[op].t0);
        free(c->wild[op].t1);
    }
    exj_check_across_free(c);
    exj_buf_release(&c->text);
    free(c);
}

const char *exj_check_verdict_word(exj_check_verdict v)
{
    static const char *const words[] = { "valid", "invalid", "unknown" };

    return (unsigned)v < 3 ? words[v] : "unknown";
}
