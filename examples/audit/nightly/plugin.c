/* examples/audit/nightly/plugin.c - audit.nightly: one row is the audit of a machine.
 *
 *   files-0001, files-0002, …   durable steps: so many files each, by whole packages
 *   a wait                      for the signal "approve"
 *   the report                  the row's result
 *
 * Record (a schedule's start.input): {"root":"/", "adminDir":"/var/lib/dpkg"}, both
 * optional; adminDir is var/lib/dpkg below root when it is left out. Model (all
 * optional): {"filesPerStep": 5000, "approvalSeconds": 64800 (0: waits for ever),
 *   "maxListed": 2000 lines in the report}.
 *
 * A step's value says where it ended ("to"), so the next one begins there, in this
 * attempt or in one after a crash, and whatever was installed meanwhile:
 *   {"to":"bash:amd64","last":false,"packages":12,"paths":5120,"files":4077,"bytes":9830,
 *    "changed":1,"missing":0,"unreadable":0,"lines":["??5?????? c /etc/x"]}
 * Nothing else is remembered: the report is the sum of the steps, made anew in each
 * attempt.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../engine/verify.h"

#include <inttypes.h>
#include <limits.h>

#define LISTED_BYTES_MAX (4u << 20) /* of lines; an answer has 8 MiB at most */
#define SIGNAL "approve"

struct nightly {
    const exj_host *host;
    struct dpkg_cache cache;
};

struct totals {
    long steps, packages, paths, files, bytes, changed, missing, unreadable;
    struct text lines; /* JSON array items */
    long listed;
    bool truncated;
};

struct call {
    const exj_host *host;
    exj_call id;
    const exj_args *a;
    char *root, *admin_dir; /* owned */
    long files_per_step, approval_seconds, list_max;
    exj_result stopped; /* why, once it is asked to stop */
    char *to;           /* owned: the last package that was checked; NULL: none yet */
    bool last;          /* no step follows */
    struct totals sum;
};

static exj_result fail(const exj_host *h, exj_call c, exj_result r, const char *code,
                       const char *message)
{
    h->error(h->ctx, c, r, (exj_str){ code, strlen(code) },
             (exj_str){ message, strlen(message) });
    return r;
}

static exj_result no_memory(struct call *c)
{
    return fail(c->host, c->id, EXJ_R_RETRY, "NoMemory", "no memory");
}

static bool stop(void *user)
{
    struct call *c = user;
    int32_t r = c->host->cancelled(c->host->ctx, c->id);

    if (r)
        c->stopped = r;
    return r != 0;
}

static void tell(struct call *c, double at, const struct text *note)
{
    if (!note->failed)
        c->host->progress(c->host->ctx, c->id, at, text_str(note));
}

/* ---- what is asked for ------------------------------------------------------------ */

/* The text of member `name`; a copy of `otherwise` when it is absent; NULL: it is no text
 * or there is no memory. */
static char *text_or(exj_str object, const char *name, const char *otherwise)
{
    exj_str value = json_member(object, name);

    return value.p ? json_string(value) : strdup(otherwise);
}

static bool read_request(struct call *c)
{
    exj_str input = json_member(c->a->runtime, "input");
    struct text below = { 0 };
    size_t n;

    c->files_per_step =
        json_whole(json_member(c->a->model, "filesPerStep"), 1, 1000000, 5000);
    c->approval_seconds =
        json_whole(json_member(c->a->model, "approvalSeconds"), 0, 31536000, 64800);
    c->list_max = json_whole(json_member(c->a->model, "maxListed"), 0, 100000, 2000);
    c->root = text_or(input, "root", "/");
    if (!c->root || c->root[0] != '/')
        return false;
    for (n = strlen(c->root); n > 0 && c->root[n - 1] == '/'; n--)
        c->root[n - 1] = '\0'; /* "/" is "" and a path begins with its own */
    text_add(&below, c->root);
    text_add(&below, "/var/lib/dpkg");
    if (!below.failed)
        c->admin_dir = text_or(input, "adminDir", below.p);
    text_free(&below);
    return c->admin_dir && c->admin_dir[0] == '/';
}

static void call_release(struct call *c)
{
    text_free(&c->sum.lines);
    free(c->admin_dir);
    free(c->root);
    free(c->to);
}

/* ---- steps ------------------------------------------------------------------------ */

static void add_lines(struct call *c, exj_str lines)
{
    struct totals *t = &c->sum;
    const char *at = NULL;
    exj_str line;

    while ((line = json_item(lines, &at)).p) {
        if (t->listed >= c->list_max || t->lines.n + line.n > LISTED_BYTES_MAX) {
            t->truncated = true;
            return;
        }
        if (t->lines.n)
            text_add(&t->lines, ",");
        text_add_bytes(&t->lines, line.p, line.n);
        t->listed++;
    }
}

/* A finished step into the report, be it of now or of an attempt that died. */
static exj_result absorb(struct call *c, exj_str step)
{
    const struct {
        const char *name;
        long *sum;
    } numbers[] = { { "packages", &c->sum.packages },    { "paths", &c->sum.paths },
                    { "files", &c->sum.files },          { "bytes", &c->sum.bytes },
                    { "changed", &c->sum.changed },      { "missing", &c->sum.missing },
                    { "unreadable", &c->sum.unreadable } };
    exj_str last = json_member(step, "last"), truncated = json_member(step, "truncated");
    char *to = json_string(json_member(step, "to"));
    size_t i;

    if (!to)
        return no_memory(c);
    free(c->to);
    c->to = to;
    c->last = last.n == 4; /* true */
    c->sum.steps++;
    c->sum.truncated = c->sum.truncated || truncated.n == 4;
    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        *numbers[i].sum +=
            json_whole(json_member(step, numbers[i].name), 0, LONG_MAX / 2, 0);
    add_lines(c, json_member(step, "lines"));
    return c->sum.lines.failed ? no_memory(c) : EXJ_R_OK;
}

/* How many packages come up to and including `to`, "NAME:ARCH". A name, not a number: a
 * package that was installed since moves no other one. */
static size_t after(const struct dpkg_db *db, const char *to)
{
    const char *colon = to ? strchr(to, ':') : NULL; /* a package's name holds none */
    struct db_package key = { .architecture = colon ? colon + 1 : "" };
    char name[256];
    size_t i = 0;

    if (!to)
        return 0;
    snprintf(name, sizeof(name), "%.*s", (int)(colon ? colon - to : 255), to);
    key.name = name;
    while (i < db->packages_len && db_by_name(&db->packages[i], &key) <= 0)
        i++;
    return i;
}

static void write_step(struct text *t, const struct db_package *p, bool last,
                       size_t packages, const struct findings *f)
{
    struct text to = { 0 };

    text_add(&to, p ? p->name : "");
    text_add(&to, ":");
    text_add(&to, p ? p->architecture : "");
    text_add_member(t, "{", "to", to.failed ? "" : to.p);
    text_addf(
        t, ",\"last\":%s,\"packages\":%zu,\"paths\":%zu,\"files\":%zu,\"bytes\":%" PRIu64,
        last ? "true" : "false", packages, f->paths, f->files, f->bytes);
    text_addf(t, ",\"changed\":%zu,\"missing\":%zu,\"unreadable\":%zu,\"truncated\":%s",
              f->changed_len, f->missing_len, f->unreadable_len,
              f->truncated ? "true" : "false");
    text_add(t, ",\"lines\":[");
    text_add_bytes(t, f->lines.p, f->lines.n);
    text_add(t, "]}");
    t->failed = t->failed || to.failed || f->lines.failed;
    text_free(&to);
}

/* The files of as many packages as make one step. */
static exj_result check_files(struct call *c, const struct dpkg_db *db, struct text *ret)
{
    struct findings f = { .list_max = (size_t)c->list_max };
    size_t from = after(db, c->to), i = from;
    exj_result r = EXJ_R_OK;
    struct db_error e;

    while (r == EXJ_R_OK && i < db->packages_len &&
           (i == from || f.paths < (size_t)c->files_per_step)) {
        switch (verify_package(db, &db->packages[i++], c->root, stop, c, &f, &e)) {
        case VERIFY_DONE:
            break;
        case VERIFY_STOPPED:
            r = c->stopped;
            break;
        case VERIFY_FAILED:
        default:
            r = e.number ? fail(c->host, c->id, EXJ_R_RETRY, "DatabaseUnreadable", e.text)
                         : fail(c->host, c->id, EXJ_R_FAILED, "DatabaseDamaged", e.text);
        }
    }
    if (r == EXJ_R_OK) {
        write_step(ret, i > 0 ? &db->packages[i - 1] : NULL, i == db->packages_len,
                   i - from, &f);
        r = ret->failed ? no_memory(c) : EXJ_R_OK;
    }
    findings_release(&f);
    return r;
}

/* One step: from the journal when it is there, else done and written there. */
static exj_result take_step(struct call *c, const struct dpkg_db *db)
{
    struct text name = { 0 }, value = { 0 }, note = { 0 };
    const exj_host *h = c->host;
    exj_str found;
    exj_result r;

    text_addf(&name, "files-%04ld", c->sum.steps + 1);
    if (name.failed)
        return no_memory(c);
    r = h->journal_lookup(h->ctx, c->id, text_str(&name), &found);
    if (r == EXJ_R_OK) {
        r = absorb(c, found);
        goto out;
    }
    if (r == EXJ_R_MISS)
        r = h->journal_intent(h->ctx, c->id, text_str(&name));
    if (r == EXJ_R_OK)
        r = check_files(c, db, &value);
    if (r == EXJ_R_OK)
        r = h->journal_commit(h->ctx, c->id, text_str(&name), text_str(&value));
    if (r == EXJ_R_OK)
        r = absorb(c, text_str(&value));
    if (r == EXJ_R_OK && !c->last) {
        text_addf(&note, "%ld files of %ld packages", c->sum.files, c->sum.packages);
        tell(c, (double)after(db, c->to) / (double)db->packages_len, &note);
    }
out:
    text_free(&note);
    text_free(&value);
    text_free(&name);
    return r;
}

/* ---- the report ------------------------------------------------------------------- */

/* One line for people; it goes to the row's page and, as an event, to the sinks. */
static void tell_summary(struct call *c, const char *what, const char *who)
{
    const struct totals *t = &c->sum;
    struct text note = { 0 };

    text_add(&note, what);
    text_add(&note, who);
    text_addf(&note,
              ": %ld packages, %ld files: %ld changed, %ld missing, %ld unreadable",
              t->packages, t->files, t->changed, t->missing, t->unreadable);
    tell(c, 1.0, &note);
    text_free(&note);
}

/* `approval`: the signal's payload; p is NULL while it is awaited. */
static exj_result answer(struct call *c, exj_str approval)
{
    const struct totals *s = &c->sum;
    struct text t = { 0 };
    exj_result r;

    text_add(&t, "{\"status\":");
    if (approval.p)
        text_add(&t, "\"completed\"");
    else
        text_add(&t, "\"suspended\",\"signal\":\"" SIGNAL "\"");
    if (!approval.p && c->approval_seconds)
        text_addf(&t, ",\"timeoutSeconds\":%ld", c->approval_seconds);
    text_add(&t, ",\"jobId\":");
    text_add_quoted(&t, c->a->job_id.p, c->a->job_id.n);
    text_addf(
        &t,
        ",\"outputsByNodeId\":{\"report\":{\"packages\":%ld,\"paths\":%ld,\"files\":%ld"
        ",\"bytes\":%ld,\"changed\":%ld,\"missing\":%ld,\"unreadable\":%ld,\"steps\":%ld",
        s->packages, s->paths, s->files, s->bytes, s->changed, s->missing, s->unreadable,
        s->steps);
    text_addf(&t, ",\"truncated\":%s,\"lines\":[", s->truncated ? "true" : "false");
    text_add_bytes(&t, s->lines.p, s->lines.n);
    text_add(&t, "],\"approval\":");
    text_add_bytes(&t, approval.p ? approval.p : "null", approval.p ? approval.n : 4);
    text_add(&t, "}}}");
    r = t.failed ? no_memory(c) : c->host->emit(c->host->ctx, c->id, text_str(&t));
    text_free(&t);
    return r;
}

static exj_result refuse(struct call *c, const char *code, const char *who,
                         const char *reason)
{
    struct text t = { 0 };
    exj_result r;

    text_add(&t, who);
    text_add(&t, reason);
    text_add(&t, "; `exellix-jobs rows rerun ROW --from signal:" SIGNAL
                 "` asks again, the files "
                 "are not read again");
    r = t.failed ? no_memory(c) : fail(c->host, c->id, EXJ_R_FAILED, code, t.p);
    text_free(&t);
    return r;
}

/* What became of the wait: {"payload":…} or {"timeout":true}; no such step: wait. */
static exj_result settle(struct call *c)
{
    static const exj_str step = EXJ_STR("signal:" SIGNAL);
    const exj_host *h = c->host;
    exj_str found, payload, approved;
    char *by = NULL;
    exj_result r;

    r = h->journal_lookup(h->ctx, c->id, step, &found);
    if (r == EXJ_R_MISS) {
        tell_summary(c, "waits for approval", "");
        return answer(c, (exj_str){ NULL, 0 });
    }
    if (r != EXJ_R_OK)
        return r;
    payload = json_member(found, "payload");
    if (!payload.p)
        return refuse(c, "NotApproved", "nobody", " approved the report in time");
    by = json_string(json_member(payload, "by"));
    approved = json_member(payload, "approved");
    if (approved.n == 5 && !memcmp(approved.p, "false", 5)) {
        r = refuse(c, "Rejected", by ? by : "somebody", " rejected the report");
    } else {
        tell_summary(c, "approved by ", by ? by : "somebody");
        r = answer(c, payload);
    }
    free(by);
    return r;
}

/* ---- the plugin ------------------------------------------------------------------- */

static exj_result execute(void *instance, exj_call id, const exj_args *a)
{
    struct nightly *n = instance;
    struct call c = { .host = n->host, .id = id, .a = a };
    struct dpkg_db *db = NULL;
    struct db_error e;
    exj_result r;

    if (!read_request(&c)) {
        r = fail(c.host, id, EXJ_R_INPUT, "InputInvalid",
                 "root and adminDir of the record must be absolute paths");
        goto out;
    }
    db = dpkg_cache_get(&n->cache, c.admin_dir, &e);
    if (!db) {
        r = fail(c.host, id, EXJ_R_RETRY, "DatabaseUnreadable", e.text);
        goto out;
    }
    do {
        r = take_step(&c, db);
    } while (r == EXJ_R_OK && !c.last);
    if (r == EXJ_R_OK)
        r = settle(&c);
out:
    dpkg_db_unref(db);
    call_release(&c);
    return r;
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    struct nightly *n = calloc(1, sizeof(*n));

    (void)config; /* nothing to set: records and models say all */
    if (!n)
        return fail(h, 0, EXJ_R_RETRY, "NoMemory", "no memory");
    n->host = h;
    dpkg_cache_init(&n->cache);
    *instance = n;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    struct nightly *n = instance;

    dpkg_cache_release(&n->cache);
    free(n);
}

#define FLAGS (EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING)

static const exj_plugin nightly_plugin = {
    .size_of = sizeof(exj_plugin),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = FLAGS,
    .id = "audit.nightly",
    .version = "1.0.0",
    .describe =
        EXJ_STR("{\"summary\":\"checks every file of every Debian package in durable"
                " steps and waits until somebody approves the report\","
                "\"input\":{\"root\":\"string\",\"adminDir\":\"string\"}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
};

static const exj_plugin *const plugins[] = { &nightly_plugin };
static const exj_bundle bundle = {
    .size_of = sizeof(exj_bundle),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, FLAGS)
