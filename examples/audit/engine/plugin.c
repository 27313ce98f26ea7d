/* examples/audit/engine/plugin.c - audit.verify: the graph engine of the audit.
 *
 * One row is one package. The answer's outputsByNodeId.verify tells what was found:
 *   {"package","architecture","version","paths","files","bytes","changedCount",
 *    "missingCount","unreadableCount","truncated","changed":[…],"missing":[…],
 *    "unreadable":[…],"lines":["??5?????? c /etc/x",…]}
 * A package that was removed or upgraded since the row was made is answered with
 * "superseded": the version that is there has a row of its own.
 * Model (all optional): {"maxListed": 5000}: at most so many findings of a sort are listed;
 * the counts always count all.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "verify.h"

#include <inttypes.h>

struct audit {
    const exj_host *host;
    struct dpkg_cache cache;
};

/* What one call asks for. */
struct request {
    char *package, *architecture, *version, *admin_dir, *root, *graph; /* owned */
    size_t list_max;
};

struct call {
    const exj_host *host;
    exj_call id;
    exj_result stopped; /* why, once it is asked to stop */
};

static exj_result fail(const exj_host *h, exj_call c, exj_result r, const char *code,
                       const char *message)
{
    h->error(h->ctx, c, r, (exj_str){ code, strlen(code) },
             (exj_str){ message, strlen(message) });
    return r;
}

static bool stop(void *user)
{
    struct call *c = user;
    int32_t r = c->host->cancelled(c->host->ctx, c->id);

    if (r)
        c->stopped = r;
    return r != 0;
}

static void request_release(struct request *q)
{
    free(q->package);
    free(q->architecture);
    free(q->version);
    free(q->admin_dir);
    free(q->root);
    free(q->graph);
}

static bool request_read(const exj_args *a, struct request *ret)
{
    exj_str input = json_member(a->runtime, "input");
    struct request q = { 0 };
    size_t n;

    q.package = json_string(json_member(input, "package"));
    q.architecture = json_string(json_member(input, "architecture"));
    q.version = json_string(json_member(input, "version"));
    q.root = json_string(json_member(input, "root"));
    q.admin_dir = json_string(json_member(input, "adminDir"));
    q.graph = json_string(json_member(json_member(a->runtime, "job"), "graphId"));
    q.list_max = (size_t)json_whole(json_member(a->model, "maxListed"), 0, 100000, 5000);
    *ret = q;
    if (!q.package || !q.architecture || !q.version || !q.root || !q.admin_dir)
        return false;
    for (n = strlen(q.root); n > 0 && q.root[n - 1] == '/'; n--)
        q.root[n - 1] = '\0'; /* "/" is "" and a path begins with its own */
    return true;
}

static void add_list(struct text *t, const char *name, const struct text *items)
{
    text_addf(t, ",\"%s\":[", name);
    text_add_bytes(t, items->p, items->n);
    text_add(t, "]");
    t->failed = t->failed || items->failed;
}

static exj_result answer(struct call *c, const exj_args *a, const struct request *q,
                         const struct findings *f, const char *now)
{
    struct text t = { 0 };
    exj_result r;

    text_add(&t, "{\"status\":\"completed\",\"jobId\":");
    text_add_quoted(&t, a->job_id.p, a->job_id.n);
    if (q->graph)
        text_add_member(&t, ",", "graphId", q->graph);
    text_add(&t, ",\"outputsByNodeId\":{\"verify\":");
    text_add_member(&t, "{", "package", q->package);
    text_add_member(&t, ",", "architecture", q->architecture);
    text_add_member(&t, ",", "version", q->version);
    if (now)
        text_add_member(&t, ",", "superseded", now);
    if (f->no_list)
        text_add(&t, ",\"note\":\"dpkg has no list of its files\"");
    text_addf(&t, ",\"paths\":%zu,\"files\":%zu,\"bytes\":%" PRIu64, f->paths, f->files,
              f->bytes);
    text_addf(&t, ",\"changedCount\":%zu,\"missingCount\":%zu,\"unreadableCount\":%zu",
              f->changed_len, f->missing_len, f->unreadable_len);
    text_addf(&t, ",\"truncated\":%s", f->truncated ? "true" : "false");
    add_list(&t, "changed", &f->changed);
    add_list(&t, "missing", &f->missing);
    add_list(&t, "unreadable", &f->unreadable);
    add_list(&t, "lines", &f->lines);
    text_add(&t, "}}}");
    r = t.failed ? fail(c->host, c->id, EXJ_R_RETRY, "NoMemory", "no memory for the answer")
                 : c->host->emit(c->host->ctx, c->id, text_str(&t));
    text_free(&t);
    return r;
}

static exj_result execute(void *instance, exj_call id, const exj_args *a)
{
    struct audit *audit = instance;
    struct call c = { audit->host, id, EXJ_R_OK };
    struct findings f = { 0 };
    struct request q = { 0 };
    struct dpkg_db *db = NULL;
    const struct db_package *p;
    const char *superseded = NULL;
    struct db_error e;
    exj_result r;

    if (!request_read(a, &q)) {
        r = fail(c.host, id, EXJ_R_INPUT, "RecordIncomplete",
                 "package, architecture, version, root and adminDir must be texts");
        goto out;
    }
    f.list_max = q.list_max;
    db = dpkg_cache_get(&audit->cache, q.admin_dir, &e);
    if (!db) {
        r = fail(c.host, id, EXJ_R_RETRY, "DatabaseUnreadable", e.text);
        goto out;
    }
    p = dpkg_db_find(db, q.package, q.architecture);
    if (!p)
        superseded = "removed";
    else if (strcmp(p->version, q.version) != 0)
        superseded = p->version;
    if (!superseded) {
        switch (verify_package(db, p, q.root, stop, &c, &f, &e)) {
        case VERIFY_DONE:
            break;
        case VERIFY_STOPPED:
            r = c.stopped;
            goto out;
        case VERIFY_FAILED:
        default:
            r = e.number ? fail(c.host, id, EXJ_R_RETRY, "DatabaseUnreadable", e.text)
                         : fail(c.host, id, EXJ_R_FAILED, "DatabaseDamaged", e.text);
            goto out;
        }
    }
    r = answer(&c, a, &q, &f, superseded);
out:
    findings_release(&f);
    dpkg_db_unref(db);
    request_release(&q);
    return r;
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    struct audit *audit = calloc(1, sizeof(*audit));

    (void)config; /* nothing to set: rows name their database */
    if (!audit)
        return fail(h, 0, EXJ_R_RETRY, "NoMemory", "no memory");
    audit->host = h;
    dpkg_cache_init(&audit->cache);
    *instance = audit;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    struct audit *audit = instance;

    dpkg_cache_release(&audit->cache);
    free(audit);
}

#define FLAGS (EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING)

static const exj_plugin verify_plugin = {
    .size_of = sizeof(exj_plugin),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = FLAGS,
    .id = "audit.verify",
    .version = "1.0.0",
    .describe = EXJ_STR("{\"summary\":\"checks every file of a Debian package against the"
                        " digests dpkg recorded\",\"input\":{\"package\":\"string\","
                        "\"architecture\":\"string\",\"version\":\"string\","
                        "\"root\":\"string\",\"adminDir\":\"string\"}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
};

static const exj_plugin *const plugins[] = { &verify_plugin };
static const exj_bundle bundle = {
    .size_of = sizeof(exj_bundle),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, FLAGS)
