#include <inttypes.h>
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include "tests/support/inside.h"
#include "tests/support/mongo_inside.h"
#include "tests/support/mongo_server.h"

/* A process that is killed would leave its counters in /dev/shm for good. */
static void begin(void)
{
    setenv("MONGOC_DISABLE_SHM", "1", 1);
    mongoc_init();
}

void exj_mongo_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, begin);
}

static mongoc_client_t *client_new(const char *uri, unsigned ms, bson_error_t *ret_why)
{
    mongoc_uri_t *u;
    mongoc_client_t *c = NULL;

    exj_mongo_once();
    u = mongoc_uri_new_with_error(uri, ret_why);
    if (u) {
        mongoc_uri_set_option_as_int32(u, MONGOC_URI_SERVERSELECTIONTIMEOUTMS,
                                       (int32_t)ms);
        mongoc_uri_set_option_as_int32(u, MONGOC_URI_CONNECTTIMEOUTMS, (int32_t)ms);
        mongoc_uri_set_option_as_int32(u, MONGOC_URI_SOCKETTIMEOUTMS, (int32_t)ms);
        c = mongoc_client_new_from_uri_with_error(u, ret_why);
    }
    mongoc_uri_destroy(u);
    if (c)
        mongoc_client_set_error_api(c, 2);
    return c;
}

bool exj_mongo_admin(const char *uri, const bson_t *command, unsigned ms, bson_t *reply,
                     bson_error_t *ret_why)
{
    mongoc_client_t *c = client_new(uri, ms, ret_why);
    bool ok = false;

    if (c)
        ok = mongoc_client_command_with_opts(c, "admin", command, NULL, NULL, reply,
                                             ret_why);
    else if (reply)
        bson_init(reply);
    mongoc_client_destroy(c);
    return ok;
}

static const char *text_of(const bson_t *doc, const char *key)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, doc, key) && BSON_ITER_HOLDS_UTF8(&it)
               ? bson_iter_utf8(&it, NULL)
               : NULL;
}

bool exj_test_mongo_ask(const char *uri, char *ret, size_t ret_n)
{
    bson_t *command = BCON_NEW("buildInfo", BCON_INT32(1));
    bson_t reply;
    bson_error_t why = { 0 };
    bool ok = exj_mongo_admin(uri, command, 10000, &reply, &why);
    const char *version = text_of(&reply, "version");
    const char *secantus = text_of(&reply, "secantusVersion");

    if (!ok)
        fprintf(stderr, "mongo: the server did not say what it is: %s\n", why.message);
    else if (secantus)
        snprintf(ret, ret_n, "SecantusDB %s (speaks as MongoDB %s)", secantus,
                 version ? version : "?");
    else
        snprintf(ret, ret_n, "MongoDB %s", version ? version : "?");
    bson_destroy(&reply);
    bson_destroy(command);
    return ok;
}

bool exj_test_mongo_drop(const char *uri, const char *database)
{
    bson_error_t why = { 0 };
    mongoc_client_t *c = client_new(uri, 20000, &why);
    bson_t *command = BCON_NEW("dropDatabase", BCON_INT32(1));
    bool ok = false;

    if (c)
        ok =
            mongoc_client_command_with_opts(c, database, command, NULL, NULL, NULL, &why);
    if (!ok)
        fprintf(stderr, "mongo: database %s was not dropped: %s\n", database,
                why.message);
    bson_destroy(command);
    mongoc_client_destroy(c);
    return ok;
}

void exj_test_mongo_database(const char *of, char ret[static 64])
{
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        exj_support_die("getrandom");
    snprintf(ret, 64, "exjt_%.20s_%016" PRIx64, of, random);
    for (char *p = ret; *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_", *p))
            *p = '_';
}

/* A URI in its parts, each a piece of the text:
 * scheme://[user@]hosts[/[database]][?options]. */
struct parts {
    const char *user, *hosts, *database, *options;
    int user_n, hosts_n, database_n;
    bool srv;
};

static bool split(const char *uri, struct parts *ret)
{
    const char *start = strstr(uri, "://"), *end, *at = NULL;

    if (!start)
        return false;
    *ret = (struct parts){ .srv = strncmp(uri, "mongodb+srv", 11) == 0 };
    start += 3;
    end = start + strcspn(start, "/?");
    for (const char *p = start; p < end; p++)
        if (*p == '@')
            at = p;
    if (at) {
        ret->user = start;
        ret->user_n = (int)(at + 1 - start); /* with the @ */
    }
    ret->hosts = at ? at + 1 : start;
    ret->hosts_n = (int)(end - ret->hosts);
    if (*end == '/') {
        ret->database = end + 1;
        ret->database_n = (int)strcspn(end + 1, "?");
        end += 1 + ret->database_n;
    }
    ret->options = *end == '?' ? end + 1 : "";
    return true;
}

static bool has_option(const char *options, const char *name, size_t name_n)
{
    for (const char *p = options; p && *p; p = strchr(p, '&') ? strchr(p, '&') + 1 : NULL)
        if (strncasecmp(p, name, name_n) == 0 && p[name_n] == '=')
            return true;
    return false;
}

/* The text of a URI under way; too long is remembered. */
struct builder {
    char text[EXJ_TEST_MONGO_URI_MAX];
    size_t n;
    char glue; /* before the next option */
};

static void put(struct builder *b, const char *text, size_t n)
{
    if (n > 0 && b->n + n < sizeof(b->text))
        memcpy(b->text + b->n, text, n);
    b->n += n;
}

static void put_option(struct builder *b, const char *text, size_t n)
{
    put(b, &b->glue, 1);
    put(b, text, n);
    b->glue = '&';
}

static bool join(const struct parts *p, const char *hosts, size_t hosts_n,
                 const char *database, const char *more,
                 char ret[static EXJ_TEST_MONGO_URI_MAX])
{
    struct builder b = { .glue = '?' };
    bson_error_t why = { 0 };
    mongoc_uri_t *u;

    put(&b, p->srv ? "mongodb+srv://" : "mongodb://", p->srv ? 14 : 10);
    put(&b, p->user, (size_t)p->user_n);
    put(&b, hosts, hosts_n);
    put(&b, "/", 1);
    if (database)
        put(&b, database, strlen(database));
    /* The user is one of the database that the URI had: another name must not change it.
     */
    if (p->user && !has_option(p->options, "authSource", 10) &&
        !has_option(more, "authSource", 10)) {
        put_option(&b, "authSource=", 11);
        put(&b, p->database_n ? p->database : "admin",
            p->database_n ? (size_t)p->database_n : 5);
    }
    for (const char *o = p->options; *o;) {
        size_t n = strcspn(o, "&");

        if (!has_option(more, o, strcspn(o, "=&")))
            put_option(&b, o, n);
        o += n + (o[n] == '&');
    }
    if (more && *more)
        put_option(&b, more, strlen(more));
    if (b.n >= sizeof(b.text)) {
        fprintf(stderr, "mongo: a URI of %zu bytes does not fit %zu\n", b.n,
                sizeof(b.text));
        return false;
    }
    b.text[b.n] = '\0';
    exj_mongo_once();
    u = mongoc_uri_new_with_error(b.text, &why);
    if (!u) {
        fprintf(stderr, "mongo: not a URI: %s\n", why.message);
        return false;
    }
    mongoc_uri_destroy(u);
    memcpy(ret, b.text, b.n + 1);
    return true;
}

bool exj_test_mongo_uri(const char *uri, const char *database, const char *options,
                        char ret[static EXJ_TEST_MONGO_URI_MAX])
{
    struct parts p;

    return split(uri, &p) && join(&p, p.hosts, (size_t)p.hosts_n, database, options, ret);
}

bool exj_test_mongo_via(const char *uri, uint16_t port,
                        char ret[static EXJ_TEST_MONGO_URI_MAX])
{
    struct parts p;
    char host[32], name[64];
    char *without;
    bool ok;

    if (!split(uri, &p) || p.database_n >= (int)sizeof(name))
        return false;
    p.srv = false;
    snprintf(host, sizeof(host), "127.0.0.1:%u", (unsigned)port);
    snprintf(name, sizeof(name), "%.*s", p.database_n, p.database ? p.database : "");
    /* With a set's name the driver would go on to the hosts that the set tells of. */
    without = strdup(p.options);
    if (!without)
        exj_support_die("out of memory");
    for (char *o = without; *o;) {
        size_t n = strcspn(o, "&");

        if (strncasecmp(o, "replicaSet=", 11) == 0)
            memmove(o, o + n + (o[n] == '&'), strlen(o + n + (o[n] == '&')) + 1);
        else
            o += n + (o[n] == '&');
    }
    p.options = without;
    ok = join(&p, host, strlen(host), name, "directConnection=true", ret);
    free(without);
    return ok;
}
