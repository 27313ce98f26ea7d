#include "contract.h"

#include <criterion/hooks.h>
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- stores ---------------------------------------------------------------------------------- */

extern const struct store_makers mongo_makers __attribute__((weak));

static const struct store_makers *const kinds[] = { &sqlite_makers, &mongo_makers };

static bool is_tried(const struct store_maker *m)
{
    const char *wanted = getenv("EXJ_CONTRACT_STORE");

    return wanted && wanted[0] ? strstr(m->name, wanted) != NULL : !m->needs_server;
}

const struct store_maker *maker_at(size_t i)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
        for (size_t n = 0; kinds[k] && n < kinds[k]->len; n++)
            if (is_tried(&kinds[k]->list[n]) && i-- == 0)
                return &kinds[k]->list[n];
    return NULL;
}

/* What is tried is said, and a store that cannot be had is not passed over. */
ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
    (void)set;
    if (!maker_at(0)) {
        fprintf(stderr, "contract: this program knows no store \"%s\": EXJ_CONTRACT_STORE is a part"
                        " of the name of one\n", getenv("EXJ_CONTRACT_STORE"));
        exit(1);
    }
    for (size_t i = 0; maker_at(i); i++) {
        const struct store_maker *m = maker_at(i);
        const char *why = m->missing ? m->missing() : NULL;
        struct fixture f;
        exj_store_health h;

        if (why) {
            fprintf(stderr, "contract: store \"%s\" cannot be had: %s\n", m->name, why);
            exit(1);
        }
        fixture_open(&f, m);
        f.s->v->health(f.s, &h);
        fprintf(stderr, "contract: store \"%s\", %s, schema %d\n", m->name, h.backend,
                h.schema_version);
        fixture_close(&f);
    }
}

/* ---- fixture --------------------------------------------------------------------------------- */

void temp_dir(char *ret, size_t cap)
{
    const char *base = getenv("TMPDIR");

    snprintf(ret, cap, "%s/exj-contract-XXXXXX", base && base[0] ? base : "/tmp");
    cr_assert(mkdtemp(ret) != NULL, "cannot make %s", ret);
}

void remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    char path[1024];

    while (d && (e = readdir(d)) != NULL) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (unlink(path) < 0)
            remove_dir(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

static exj_store *open_store(struct fixture *f, const char *note)
{
    exj_store *s = NULL;
    exj_err err = { 0 };
    exj_code rc = f->maker->open(f->dir, note, &f->time, &s, &err);

    cr_assert(rc == EXJ_OK, "open \"%s\": %s", f->maker->name, err.text);
    return s;
}

static void store_is_closed(const struct fixture *f)
{
    if (f->maker->closed)
        f->maker->closed();
}

void fixture_open(struct fixture *f, const struct store_maker *m)
{
    memset(f, 0, sizeof(*f));
    f->maker = m;
    f->time.wall_ms = START;
    f->time.mono_ms = 1000;
    temp_dir(f->dir, sizeof(f->dir));
    f->s = open_store(f, "the contract suite");
}

void fixture_reopen(struct fixture *f)
{
    f->s->v->close(f->s);
    store_is_closed(f);
    f->s = open_store(f, "the contract suite");
}

exj_store *fixture_second(struct fixture *f)
{
    cr_assert(f->maker->shared, "one worker at a time has a store \"%s\" open", f->maker->name);
    return open_store(f, "a second worker");
}

void fixture_close(struct fixture *f)
{
    f->s->v->close(f->s);
    store_is_closed(f);
    if (f->maker->wipe)
        f->maker->wipe(f->dir);
    remove_dir(f->dir);
}

unsigned scaled(const struct fixture *f, unsigned n)
{
    return n / f->maker->scale;
}

void advance(struct fixture *f, exj_msec ms)
{
    f->time.wall_ms += ms;
    f->time.mono_ms += ms;
}

/* ---- shorthands ------------------------------------------------------------------------------ */

static void go(struct fixture *f, exj_op *op)
{
    exj_err err = { 0 };
    exj_code rc = exj_store_do(f->s, op, &err);

    cr_assert(rc == EXJ_OK, "op %d: %s: %s", (int)op->kind, exj_code_name(rc), err.text);
}

int64_t pool(struct fixture *f, const char *matrix, const char *run, const char *graph)
{
    exj_op op = { .kind = EXJ_OP_POOL };

    op.u.pool.matrix = exj_slice_of(matrix);
    op.u.pool.run = exj_slice_of(run);
    op.u.pool.graph = exj_slice_of(graph);
    go(f, &op);
    return op.u.pool.ret_pool;
}

int64_t insert_as(struct fixture *f, int64_t in, const char *id, int32_t priority,
                  uint32_t max_attempts, exj_msec run_after)
{
    char input[128];
    exj_insert_item it = { .record_id = exj_slice_of(id), .run_after = run_after };
    exj_op op = { .kind = EXJ_OP_INSERT };

    snprintf(input, sizeof(input), "{\"id\":\"%s\"}", id);
    it.input = exj_slice_of(input);
    op.u.insert.pool = in;
    op.u.insert.priority = priority;
    op.u.insert.max_attempts = max_attempts;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    go(f, &op);
    expect_int(op.u.insert.ret_inserted, it.verdict == EXJ_OK);
    if (it.verdict == EXJ_OK)
        return it.seq;
    expect_code(it.verdict, EXJ_CONFLICT);
    return 0;
}

int64_t insert(struct fixture *f, int64_t in, const char *id)
{
    return insert_as(f, in, id, 0, 3, 0);
}

size_t claim(struct fixture *f, int64_t from, const char *holder, int64_t nonce, uint32_t want,
             exj_claim *ret)
{
    exj_want w = { .pool = from, .want = want };
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.wants = &w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = holder;
    op.u.claim.nonce = nonce;
    op.u.claim.lease_ms = LEASE;
    op.u.claim.ret = ret;
    go(f, &op);
    expect_code(w.verdict, EXJ_OK);
    expect_int(w.got, op.u.claim.ret_len);
    return op.u.claim.ret_len;
}

exj_claim claim_one(struct fixture *f, int64_t from, const char *holder, int64_t nonce)
{
    exj_claim c = { 0 };

    expect_int(claim(f, from, holder, nonce, 1, &c), 1);
    expect_int(c.nonce, nonce);
    return c;
}

exj_code finish(struct fixture *f, const exj_claim *c, exj_event e, exj_msec run_after,
                const char *text)
{
    exj_outcome o = { .seq = c->seq,
                      .nonce = c->nonce,
                      .token = c->token,
                      .event = e,
                      .run_after = run_after };
    exj_op op = { .kind = EXJ_OP_FINISH };

    if (e == EXJ_EV_FAIL_RETRY || e == EXJ_EV_FAIL_DEAD || e == EXJ_EV_BLOCK) {
        o.error_code = EXJ_SLICE_LITERAL("E_TEST");
        o.error_text = exj_slice_of(text);
    } else {
        o.result = exj_slice_of(text);
    }
    op.u.finish.items = &o;
    op.u.finish.len = 1;
    go(f, &op);
    return o.verdict;
}

static exj_code held(struct fixture *f, exj_op_kind kind, const exj_claim *c, exj_msec lease_ms)
{
    exj_held h = { .seq = c->seq, .nonce = c->nonce };
    exj_op op = { .kind = kind };

    op.u.held.items = &h;
    op.u.held.len = 1;
    op.u.held.lease_ms = lease_ms;
    go(f, &op);
    return h.verdict;
}

exj_code renew(struct fixture *f, const exj_claim *c, exj_msec lease_ms)
{
    return held(f, EXJ_OP_RENEW, c, lease_ms);
}

exj_code release(struct fixture *f, const exj_claim *c)
{
    return held(f, EXJ_OP_RELEASE, c, 0);
}

exj_code step_put(struct fixture *f, const exj_claim *c, const char *key, const char *body)
{
    exj_op op = { .kind = EXJ_OP_STEP_PUT };

    op.u.step.seq = c->seq;
    op.u.step.nonce = c->nonce;
    op.u.step.token = c->token;
    op.u.step.attempt = c->attempt;
    op.u.step.key = exj_slice_of(key);
    op.u.step.body = exj_slice_of(body);
    go(f, &op);
    return op.u.step.verdict;
}

exj_code retry(struct fixture *f, int64_t seq, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_RETRY };

    op.u.retry.seq = seq;
    return exj_store_do(f->s, &op, err);
}

size_t reap(struct fixture *f, const char *all_but, exj_msec grace_ms, exj_reaped *ret,
            size_t limit)
{
    exj_op op = { .kind = EXJ_OP_REAP };

    op.u.reap.all_but = all_but;
    op.u.reap.grace_ms = grace_ms;
    op.u.reap.ret = ret;
    op.u.reap.limit = limit;
    go(f, &op);
    return op.u.reap.ret_len;
}

size_t promote(struct fixture *f, exj_msec *ret_next_due)
{
    exj_op op = { .kind = EXJ_OP_PROMOTE };

    op.u.promote.limit = 1000;
    go(f, &op);
    if (ret_next_due)
        *ret_next_due = op.u.promote.ret_next_due;
    return op.u.promote.ret_promoted;
}

static exj_code doc(struct fixture *f, exj_op_kind op_kind, exj_doc_kind kind, const char *id,
                    int64_t expected, const char *body, int64_t *ret_version)
{
    exj_op op = { .kind = op_kind };
    exj_code rc;

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = expected;
    op.u.doc.body = exj_slice_of(body);
    rc = exj_store_do(f->s, &op, NULL);
    if (ret_version)
        *ret_version = op.u.doc.ret_version;
    return rc;
}

exj_code put(struct fixture *f, exj_doc_kind kind, const char *id, int64_t expected,
             const char *body, int64_t *ret_version)
{
    return doc(f, EXJ_OP_DOC_PUT, kind, id, expected, body, ret_version);
}

exj_code drop(struct fixture *f, exj_doc_kind kind, const char *id, int64_t expected,
              int64_t *ret_version)
{
    return doc(f, EXJ_OP_DOC_DELETE, kind, id, expected, NULL, ret_version);
}

static void copy(char *to, size_t cap, exj_slice from)
{
    snprintf(to, cap, "%.*s", (int)from.n, from.n ? from.p : "");
}

static bool keep_row(void *user, const exj_row_view *v)
{
    struct row *r = user;

    r->v = *v;
    copy(r->input, sizeof(r->input), v->input);
    copy(r->result, sizeof(r->result), v->result);
    copy(r->holder, sizeof(r->holder), v->holder);
    copy(r->code, sizeof(r->code), v->error_code);
    copy(r->text, sizeof(r->text), v->error_text);
    return true;
}

struct row row(struct fixture *f, const char *matrix, const char *run, const char *graph,
               const char *id)
{
    struct row r = { .v.seq = -1 };
    exj_err err = { 0 };
    exj_code rc = f->s->v->row_get(f->s, exj_slice_of(matrix), exj_slice_of(run),
                                   exj_slice_of(graph), exj_slice_of(id), keep_row, &r, &err);

    cr_assert(rc == EXJ_OK, "row %s: %s", id, err.text);
    return r;
}

struct counting {
    int64_t pool, *ret;
};

static bool keep_counts(void *user, const exj_pool_info *p)
{
    struct counting *c = user;

    if (p->pool != c->pool)
        return true;
    memcpy(c->ret, p->counts, sizeof(p->counts));
    return false;
}

void counts(struct fixture *f, int64_t of, int64_t ret[EXJ_STATUS_COUNT])
{
    struct counting c = { of, ret };

    memset(ret, 0, EXJ_STATUS_COUNT * sizeof(*ret));
    expect_code(f->s->v->pools(f->s, keep_counts, &c, NULL), EXJ_OK);
}

int64_t count(struct fixture *f, int64_t of, exj_status status)
{
    int64_t all[EXJ_STATUS_COUNT];

    counts(f, of, all);
    return all[status];
}
