/* Every route over a real store, with whatever path, query, headers and body: answers are well-formed
 * and never a 500; a command with an Idempotency-Key that was done is answered again with the same
 * bytes. The input is one to six requests, parted by the byte 0x1e:
 *
 *   METHOD TARGET          headers, one letter each: K Idempotency-Key, L Last-Event-ID,
 *   K:some key             A Accept, T Content-Type, P the operator's key over TCP
 *   <empty line>
 *   body
 * options: -max_len=1500 */
#include "kept_store.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/http/api.h"
#include "core/run/metrics.h"

#define KEY "correct horse battery staple"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static exj_api api;

/* ---- what the store holds -------------------------------------------------------------------- */

static const char graph_doc[] =
    "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"execution\":{\"priority\":20}},"
    "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}";
static const char matrix_doc[] =
    "{\"matrixCatalogId\":\"m1\",\"payload\":{\"graphs\":[\"g1\",\"g2\"],\"dataSource\":{\"kind\":"
    "\"event\"},\"keys\":{\"unique\":\"u\",\"concurrency\":\"c\"}}}";
static const char schedule_doc[] =
    "{\"scheduleId\":\"s1\",\"payload\":{\"cron\":\"0 3 * * *\",\"start\":{\"matrixCatalogId\":"
    "\"m1\"}}}";

static void put_doc(exj_store *s, exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    go(s, &op);
}

static void step(exj_store *s, exj_op_kind kind, const exj_claim *c, const char *key)
{
    exj_op op = { .kind = kind };

    op.u.step.seq = c->seq;
    op.u.step.nonce = c->nonce;
    op.u.step.token = c->token;
    op.u.step.attempt = c->attempt;
    op.u.step.key = exj_slice_of(key);
    op.u.step.body = exj_slice_of(kind == EXJ_OP_STEP_PUT ? "{\"a\":[1]}" : NULL);
    go(s, &op);
}

/* r0 runs, r1 completed, r2 failed, r3 blocked, r4 waits for a signal, r5 canceled, the rest wait. */
static void fill_rows(exj_store *s)
{
    static const char *const ids[] = { "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7" };
    static const exj_event ends[] = { EXJ_EV_SUCCEED, EXJ_EV_FAIL_DEAD, EXJ_EV_BLOCK,
                                      EXJ_EV_SUSPEND, EXJ_EV_CANCEL };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_insert_item items[8] = { 0 };
    exj_want want = { .want = 6 };
    exj_outcome o[5] = { 0 };
    exj_claim c[6];

    op.u.pool.matrix = EXJ_SLICE_LITERAL("m1");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g1");
    go(s, &op);
    want.pool = op.u.pool.ret_pool;
    for (size_t i = 0; i < 8; i++)
        items[i] = (exj_insert_item){ .record_id = exj_slice_of(ids[i]),
                                      .input = EXJ_SLICE_LITERAL("{\"q\":\"why?\"}") };
    op = (exj_op){ .kind = EXJ_OP_INSERT };
    op.u.insert.pool = want.pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = items;
    op.u.insert.len = 8;
    go(s, &op);
    op = (exj_op){ .kind = EXJ_OP_CLAIM };
    op.u.claim.wants = &want;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w-1";
    op.u.claim.nonce = 77;
    op.u.claim.lease_ms = 86400000;
    op.u.claim.ret = c;
    go(s, &op);
    must(op.u.claim.ret_len == 6);
    step(s, EXJ_OP_STEP_PUT, &c[1], "load");
    step(s, EXJ_OP_STEP_BEGIN, &c[1], "send");
    step(s, EXJ_OP_STEP_PUT, &c[4], "load");
    for (size_t i = 0; i < 5; i++)
        o[i] = (exj_outcome){ .seq = c[i + 1].seq, .nonce = 77, .token = c[i + 1].token,
                              .event = ends[i], .wait = EXJ_WAIT_SIGNAL };
    o[0].result = EXJ_SLICE_LITERAL("{\"status\":\"completed\"}");
    o[1].error_code = o[2].error_code = EXJ_SLICE_LITERAL("E_TEST");
    o[2].signal = o[3].signal = EXJ_SLICE_LITERAL("go");
    op = (exj_op){ .kind = EXJ_OP_FINISH };
    op.u.finish.items = o;
    op.u.finish.len = 5;
    go(s, &op);
}

static void fill(exj_store *s)
{
    exj_sink_item dead = { .fate = EXJ_SINK_DEAD, .number = 1, .seq = 1, .tries = 3,
                           .error = EXJ_SLICE_LITERAL("down"),
                           .body = EXJ_SLICE_LITERAL("{\"number\":1}") };
    exj_op op = { .kind = EXJ_OP_KV_PUT };

    put_doc(s, EXJ_DOC_GRAPH, "g1", graph_doc);
    put_doc(s, EXJ_DOC_MATRIX, "m1", matrix_doc);
    put_doc(s, EXJ_DOC_SCHEDULE, "s1", schedule_doc);
    fill_rows(s);
    op.u.kv.graph = EXJ_SLICE_LITERAL("g1");
    op.u.kv.key = EXJ_SLICE_LITERAL("k");
    op.u.kv.value = EXJ_SLICE_LITERAL("7");
    go(s, &op);
    op = (exj_op){ .kind = EXJ_OP_SINK_SAVE };
    op.u.sink.name = EXJ_SLICE_LITERAL("hook");
    op.u.sink.position = 1;
    op.u.sink.items = &dead;
    op.u.sink.len = 1;
    go(s, &op);
}

/* ---- requests -------------------------------------------------------------------------------- */

static exj_slice take_line(exj_slice *rest)
{
    const char *end = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    exj_slice line = { rest->p, end ? (size_t)(end - rest->p) : rest->n };

    rest->p += line.n + (end != NULL);
    rest->n -= line.n + (end != NULL);
    return line;
}

/* What the door before the router lets through. */
static bool is_target(exj_slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '#')
            return false;
    return s.n && s.p[0] == '/';
}

static bool is_value(exj_slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
            return false;
    return true;
}

static bool parse(exj_slice text, exj_request *q, char method[33])
{
    exj_slice line = take_line(&text), target;
    const char *blank = line.n ? memchr(line.p, ' ', line.n) : NULL, *mark;

    *q = (exj_request){ .trusted = true };
    if (!blank || blank == line.p || blank - line.p > 32)
        return false;
    snprintf(method, 33, "%.*s", (int)(blank - line.p), line.p);
    q->method = method;
    target = (exj_slice){ blank + 1, line.n - (size_t)(blank - line.p) - 1 };
    if (!is_target(target))
        return false;
    mark = memchr(target.p, '?', target.n);
    q->path = (exj_slice){ target.p, mark ? (size_t)(mark - target.p) : target.n };
    if (mark)
        q->query = (exj_slice){ mark + 1, target.n - q->path.n - 1 };
    while (text.n && (line = take_line(&text)).n) {
        exj_slice value = { line.p + 2, line.n - 2 };

        if (line.n < 2 || line.p[1] != ':' || !is_value(value))
            return false;
        switch (line.p[0]) {
        case 'K':
            q->idempotency_key = value;
            break;
        case 'L':
            q->last_event_id = value;
            break;
        case 'A':
            q->accept = value;
            break;
        case 'T':
            q->content_type = value;
            break;
        case 'P':
            q->trusted = false;
            q->api_key = value;
            break;
        default:
            return false;
        }
    }
    q->body = text;
    return true;
}

static void look_at(const exj_request *q, const exj_response *r)
{
    exj_slice body = exj_buf_slice(&r->body);
    json_t *o;

    must(r->status >= 200 && r->status < 600 && r->status != 500 && !r->stream);
    must((r->status == 405) == (r->allow != NULL));
    must(exj_utf8_is_valid(body));
    if (!r->content_type || strncmp(r->content_type, "application/json", 16) != 0) {
        must(r->status == 200);
        return;
    }
    must(exj_json_check(body, 64 + EXJ_JSON_MAX_DEPTH, NULL, NULL) == EXJ_OK);
    if (r->status < 400)
        return;
    o = json_loadb(body.p, body.n, 0, NULL);
    must(json_integer_value(json_object_get(o, "statusCode")) == r->status);
    must(json_string_length(json_object_get(o, "code")) > 0);
    must(json_is_string(json_object_get(o, "message")));
    must(q->method != NULL);
    json_decref(o);
}

static void call(const exj_request *q)
{
    bool changes = strcmp(q->method, "GET") != 0 && strcmp(q->method, "HEAD") != 0;
    exj_response r, again;

    exj_api_call(&api, q, &r);
    look_at(q, &r);
    kept.dirty |= changes && r.status < 400;
    if (changes && q->idempotency_key.p && r.status < 400) {
        exj_api_call(&api, q, &again);
        look_at(q, &again);
        must(again.replayed && again.status == r.status);
        must(exj_slice_equal(exj_buf_slice(&again.body), exj_buf_slice(&r.body)));
        exj_response_release(&again);
    }
    exj_response_release(&r);
}

static void no_log(exj_log_level level, const char *area, const char *message)
{
    (void)level, (void)area, (void)message;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* of exact length: one byte too far is seen */
    exj_slice rest = { copy, size };

    must(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    if (!api.metrics) {
        exj_log_divert(no_log);
        api = (exj_api){ .metrics = exj_metrics_new(), .prefix = "/v1", .api_key = KEY,
                         .worker_id = "w-1", .build_id = "b-1",
                         .started = exj_clock_mono_ns() };
    }
    api.store = store_fresh(fill);
    for (int n = 0; n < 6 && rest.n; n++) {
        const char *end = memchr(rest.p, 0x1e, rest.n);
        exj_slice one = { rest.p, end ? (size_t)(end - rest.p) : rest.n };
        char method[33];
        exj_request q;

        rest.p += one.n + (end != NULL);
        rest.n -= one.n + (end != NULL);
        if (parse(one, &q, method))
            call(&q);
    }
    free(copy);
    return 0;
}
