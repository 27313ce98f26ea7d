/* examples/audit/source/plugin.c - audit.packages: one record for each Debian package
 * that has files on a machine, or in a folder that holds one.
 *
 * Input (the matrix's payload.input, all optional):
 *   {"root":"/", "adminDir":"/var/lib/dpkg", "pageSize":200}
 * adminDir is "var/lib/dpkg" below root when it is not given. Emits
 *   {"id":"NAME:ARCH=VERSION",
 *    "record":{"package","version","architecture","status","adminDir","root"}}
 * for every package that `dpkg --verify` looks at: all but the not-installed.
 *
 * Kind "storage" asks page by page. The cursor is the name of the last package, not its
 * number, so a package that comes or goes between two pages moves no other one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../dpkg_db.h"
#include "../json.h"

struct source {
    const exj_host *host;
    struct dpkg_cache cache;
};

static exj_result fail(const exj_host *h, exj_call c, exj_result r, const char *code,
                       const char *message)
{
    h->error(h->ctx, c, r, (exj_str){ code, strlen(code) },
             (exj_str){ message, strlen(message) });
    return r;
}

/* The text of member `name`; a copy of `otherwise` when it is absent; NULL: it is no text
 * or there is no memory. */
static char *text_or(exj_str object, const char *name, const char *otherwise)
{
    exj_str value = json_member(object, name);

    return value.p && !json_is(value, "") ? json_string(value) : strdup(otherwise);
}

/* How many packages come up to and including the one that the cursor "NAME:ARCH" names. */
static size_t after(const struct dpkg_db *db, char *cursor)
{
    char *colon = strchr(cursor, ':'); /* a package's name holds none */
    struct db_package key = { .name = cursor, .architecture = "" };
    size_t low = 0, high = db->packages_len, middle;

    if (colon) {
        *colon = '\0';
        key.architecture = colon + 1;
    }
    while (low < high) {
        middle = low + (high - low) / 2;
        if (db_by_name(&db->packages[middle], &key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static exj_result emit_record(const exj_host *h, exj_call c, struct text *t,
                              const struct db_package *p, const char *root,
                              const char *admin_dir)
{
    struct text id = { 0 };
    exj_result r;

    text_add(&id, p->name);
    text_add(&id, ":");
    text_add(&id, p->architecture);
    text_add(&id, "=");
    text_add(&id, p->version);
    t->n = 0;
    text_add_member(t, "{", "id", id.failed ? "" : id.p);
    text_add(t, ",\"record\":");
    text_add_member(t, "{", "package", p->name);
    text_add_member(t, ",", "version", p->version);
    text_add_member(t, ",", "architecture", p->architecture);
    text_add_member(t, ",", "status", p->status);
    text_add_member(t, ",", "adminDir", admin_dir);
    text_add_member(t, ",", "root", root);
    text_add(t, "}}");
    r = id.failed || t->failed ? fail(h, c, EXJ_R_RETRY, "NoMemory", "no memory")
                               : h->emit(h->ctx, c, text_str(t));
    text_free(&id);
    return r;
}

static exj_result emit_next(const exj_host *h, exj_call c, struct text *t,
                            const struct db_package *last)
{
    struct text cursor = { 0 };
    exj_result r;

    text_add(&cursor, last->name);
    text_add(&cursor, ":");
    text_add(&cursor, last->architecture);
    t->n = 0;
    text_add_member(t, "{", "next", cursor.failed ? "" : cursor.p);
    text_add(t, "}");
    r = cursor.failed || t->failed ? fail(h, c, EXJ_R_RETRY, "NoMemory", "no memory")
                                   : h->emit(h->ctx, c, text_str(t));
    text_free(&cursor);
    return r;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct source *s = instance;
    const exj_host *h = s->host;
    bool paged = json_is(json_member(a->runtime, "kind"), "storage");
    char *cursor = json_string(json_member(a->runtime, "cursor"));
    char *root = text_or(a->model, "root", "/"), *admin_dir = NULL;
    struct dpkg_db *db = NULL;
    struct text t = { 0 }, below = { 0 };
    struct db_error e;
    exj_result r;
    size_t i, end, page;

    if (root) {
        text_add(&below, root);
        while (below.n > 0 && below.p[below.n - 1] == '/')
            below.n--;
        text_add(&below, "/var/lib/dpkg");
        admin_dir = below.failed ? NULL : text_or(a->model, "adminDir", below.p);
    }
    if (!admin_dir || root[0] != '/' || admin_dir[0] != '/') {
        r = fail(h, c, EXJ_R_INPUT, "InputInvalid",
                 "payload.input.root and .adminDir must be absolute paths");
        goto out;
    }
    db = dpkg_cache_get(&s->cache, admin_dir, &e);
    if (!db) {
        r = fail(h, c, EXJ_R_FAILED, "DatabaseUnreadable", e.text);
        goto out;
    }
    i = cursor ? after(db, cursor) : 0;
    end = db->packages_len;
    page = (size_t)json_whole(json_member(a->model, "pageSize"), 1, 5000, 200);
    if (paged && end - i > page)
        end = i + page;
    for (r = EXJ_R_OK; i < end && r == EXJ_R_OK; i++) {
        r = h->cancelled(h->ctx, c);
        if (r == EXJ_R_OK)
            r = emit_record(h, c, &t, &db->packages[i], root, admin_dir);
    }
    if (r == EXJ_R_OK && end > 0 && end < db->packages_len)
        r = emit_next(h, c, &t, &db->packages[end - 1]);
out:
    dpkg_db_unref(db);
    text_free(&t);
    text_free(&below);
    free(admin_dir);
    free(root);
    free(cursor);
    return r;
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    struct source *s = calloc(1, sizeof(*s));

    (void)config;
    if (!s)
        return fail(h, 0, EXJ_R_RETRY, "NoMemory", "no memory");
    s->host = h;
    dpkg_cache_init(&s->cache);
    *instance = s;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    struct source *s = instance;

    dpkg_cache_release(&s->cache);
    free(s);
}

#define FLAGS (EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING)

static const exj_plugin packages_plugin = {
    .size_of = sizeof(exj_plugin),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = FLAGS,
    .id = "audit.packages",
    .version = "1.0.0",
    .describe = EXJ_STR("{\"summary\":\"the Debian packages of a machine or a folder\","
                        "\"input\":{\"root\":\"string\",\"adminDir\":\"string\","
                        "\"pageSize\":\"number\"}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
};

static const exj_plugin *const plugins[] = { &packages_plugin };
static const exj_bundle bundle = {
    .size_of = sizeof(exj_bundle),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, FLAGS)
