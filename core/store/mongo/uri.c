#include "core/store/mongo/uri.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "core/base/hide.h"
#include "core/store/mongo/driver.h"

#define SHOWN_BYTES 200 /* of a URI, in an error */
#define NAME_BYTES 60   /* of an option's name or value, in an error */
#define SELECT_MS 5000
#define CONNECT_MS 3000
#define SOCKET_LEAST_MS 5000
#define SOCKET_FEWEST_MS 250
#define TIMEOUT_MOST_MS 300000

/* ---- the options ----------------------------------------------------------------------- */

enum kind {
    TEXT,   /* anything but nothing */
    NUMBER, /* low..high */
    FLAG,   /* true or false */
    ONLY,   /* one of `words`; `why` says why no other */
    NEVER   /* refused; `why` */
};

struct option {
    const char *name;
    enum kind kind;
    int64_t low, high;
    const char *words, *why;
    const char *note; /* for `store check`, when the flag is true */
};

#define WEAK "anybody on the way can read and change what is sent"
#define PRIMARY "reads must see what was written before them"

static const struct option options[] = {
    { "appName", TEXT, 0, 128, NULL, NULL, NULL },
    { "authMechanism", ONLY, 0, 0,
      "SCRAM-SHA-256|SCRAM-SHA-1|MONGODB-X509|PLAIN|GSSAPI|MONGODB-AWS", NULL, NULL },
    { "authMechanismProperties", TEXT, 0, 0, NULL, NULL, NULL },
    { "authSource", TEXT, 0, 0, NULL, NULL, NULL },
    { "canonicalizeHostname", FLAG, 0, 0, NULL, NULL, NULL },
    { "compressors", TEXT, 0, 0, NULL, NULL, NULL },
    { "connectTimeoutMS", NUMBER, 1, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "directConnection", FLAG, 0, 0, NULL, NULL, NULL },
    { "gssapiServiceName", TEXT, 0, 0, NULL, NULL, NULL },
    { "heartbeatFrequencyMS", NUMBER, 500, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "journal", ONLY, 0, 0, "true", "a write must survive the server", NULL },
    { "loadBalanced", FLAG, 0, 0, NULL, NULL, NULL },
    { "localThresholdMS", NUMBER, 0, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "maxIdleTimeMS", NUMBER, 0, INT32_MAX, NULL, NULL, NULL },
    { "maxPoolSize", NUMBER, 1, 10000, NULL, NULL, NULL },
    { "maxStalenessSeconds", NEVER, 0, 0, NULL, PRIMARY, NULL },
    { "minPoolSize", NEVER, 0, 0, NULL, "the driver closes connections because of it", NULL },
    { "readConcernLevel", ONLY, 0, 0, "local|majority", PRIMARY, NULL },
    { "readPreference", ONLY, 0, 0, "primary", PRIMARY, NULL },
    { "readPreferenceTags", NEVER, 0, 0, NULL, PRIMARY, NULL },
    { "replicaSet", TEXT, 0, 0, NULL, NULL, NULL },
    { "retryReads", FLAG, 0, 0, NULL, NULL, NULL },
    { "retryWrites", FLAG, 0, 0, NULL, NULL,
      "retryWrites=true is not followed: lost answers are read back instead" },
    { "safe", NEVER, 0, 0, NULL, "writes are always acknowledged", NULL },
    { "serverSelectionTimeoutMS", NUMBER, 1, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "serverSelectionTryOnce", FLAG, 0, 0, NULL, NULL, NULL },
    { "slaveOk", NEVER, 0, 0, NULL, PRIMARY, NULL },
    { "socketCheckIntervalMS", NUMBER, 1, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "socketTimeoutMS", NUMBER, 1, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "srvMaxHosts", NUMBER, 0, 1000, NULL, NULL, NULL },
    { "srvServiceName", TEXT, 0, 0, NULL, NULL, NULL },
    { "ssl", FLAG, 0, 0, NULL, NULL, NULL },
    { "sslAllowInvalidCertificates", FLAG, 0, 0, NULL, NULL,
      "sslAllowInvalidCertificates=true: " WEAK },
    { "sslAllowInvalidHostnames", FLAG, 0, 0, NULL, NULL,
      "sslAllowInvalidHostnames=true: " WEAK },
    { "sslCertificateAuthorityFile", TEXT, 0, 0, NULL, NULL, NULL },
    { "sslClientCertificateKeyFile", TEXT, 0, 0, NULL, NULL, NULL },
    { "sslClientCertificateKeyPassword", TEXT, 0, 0, NULL, NULL, NULL },
    { "tls", FLAG, 0, 0, NULL, NULL, NULL },
    { "tlsAllowInvalidCertificates", FLAG, 0, 0, NULL, NULL,
      "tlsAllowInvalidCertificates=true: " WEAK },
    { "tlsAllowInvalidHostnames", FLAG, 0, 0, NULL, NULL,
      "tlsAllowInvalidHostnames=true: " WEAK },
    { "tlsCAFile", TEXT, 0, 0, NULL, NULL, NULL },
    { "tlsCertificateKeyFile", TEXT, 0, 0, NULL, NULL, NULL },
    { "tlsCertificateKeyFilePassword", TEXT, 0, 0, NULL, NULL, NULL },
    { "tlsDisableCertificateRevocationCheck", FLAG, 0, 0, NULL, NULL,
      "tlsDisableCertificateRevocationCheck=true: a certificate that was called back is taken" },
    { "tlsDisableOCSPEndpointCheck", FLAG, 0, 0, NULL, NULL,
      "tlsDisableOCSPEndpointCheck=true: nobody is asked whether a certificate still holds" },
    { "tlsInsecure", FLAG, 0, 0, NULL, NULL, "tlsInsecure=true: " WEAK },
    { "w", ONLY, 0, 0, "majority",
      "what fewer servers have can be undone by a failover after it was acknowledged", NULL },
    { "waitQueueMultiple", NUMBER, 1, 1000, NULL, NULL, NULL },
    { "waitQueueTimeoutMS", NUMBER, 1, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "wTimeoutMS", NUMBER, 1, TIMEOUT_MOST_MS, NULL, NULL, NULL },
    { "zlibCompressionLevel", NUMBER, -1, 9, NULL, NULL, NULL },
};
#define OPTIONS (sizeof(options) / sizeof(*options))

struct judged {
    const char *shown;
    exj_err *err;
    exj_buf *notes;
    bool given[OPTIONS];
    int64_t number[OPTIONS];
};

__attribute__((format(printf, 2, 3))) static exj_code wrong(struct judged *j,
                                                            const char *format, ...)
{
    char why[EXJ_ERR_TEXT_BYTES];
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, sizeof(why), format, ap);
    va_end(ap);
    return exj_err_set(j->err, EXJ_INVALID, "%.*s: %s", SHOWN_BYTES, j->shown, why);
}

static size_t option_at(const char *name)
{
    size_t i = 0;

    while (i < OPTIONS && strcasecmp(options[i].name, name) != 0)
        i++;
    return i;
}

static bool given(const struct judged *j, const char *name, int64_t *ret)
{
    size_t i = option_at(name);

    if (j->given[i] && ret)
        *ret = j->number[i];
    return j->given[i];
}

static const char *nearest(const char *name)
{
    char lower[NAME_BYTES + 1];
    const char *best = NULL;
    unsigned least = 5; /* farther is no help */
    size_t n = 0;

    for (; name[n] && n < NAME_BYTES; n++)
        lower[n] = (char)tolower((unsigned char)name[n]);
    lower[n] = '\0';
    for (size_t i = 0; i < OPTIONS; i++) {
        char other[NAME_BYTES + 1];
        unsigned d;

        for (n = 0; options[i].name[n]; n++)
            other[n] = (char)tolower((unsigned char)options[i].name[n]);
        other[n] = '\0';
        d = exj_edit_distance(lower, other);
        if (d < least && d < n) {
            least = d;
            best = options[i].name;
        }
    }
    return best;
}

static bool is_word_of(const char *text, const char *words)
{
    size_t n = strlen(text);

    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL)
        if (strcspn(w, "|") == n && strncasecmp(w, text, n) == 0)
            return true;
    return false;
}

static exj_code judge_value(struct judged *j, size_t i, const char *value)
{
    const struct option *o = &options[i];
    char *end;

    if (o->kind == NEVER)
        return wrong(j, "the option %s cannot be used: %s; leave it out", o->name, o->why);
    if (!*value)
        return wrong(j, "the option %s has no value", o->name);
    switch (o->kind) {
    case NUMBER:
        errno = 0;
        j->number[i] = strtoll(value, &end, 10);
        if (errno || *end || !strchr("-0123456789", *value) || j->number[i] < o->low ||
            j->number[i] > o->high)
            return wrong(j, "%s=%.*s: wanted a whole number from %" PRId64 " to %" PRId64,
                         o->name, NAME_BYTES, value, o->low, o->high);
        break;
    case FLAG:
        if (strcasecmp(value, "true") != 0 && strcasecmp(value, "false") != 0)
            return wrong(j, "%s=%.*s: wanted true or false", o->name, NAME_BYTES, value);
        j->number[i] = strcasecmp(value, "true") == 0;
        if (j->number[i] && o->note)
            exj_buf_printf(j->notes, "%s\n", o->note);
        break;
    case ONLY:
        if (!is_word_of(value, o->words))
            return wrong(j, "%s=%.*s: wanted %s%s%s", o->name, NAME_BYTES, value, o->words,
                         o->why ? ": " : "", o->why ? o->why : "");
        break;
    case TEXT:
        if (o->high && strlen(value) > (size_t)o->high)
            return wrong(j, "%s: at most %" PRId64 " bytes", o->name, o->high);
        break;
    case NEVER:
        break;
    }
    return EXJ_OK;
}

static exj_code judge_options(struct judged *j, char *p)
{
    for (char *next; p && *p; p = next) {
        char *value;
        size_t i;
        exj_code rc;

        next = strchr(p, '&');
        if (next)
            *next++ = '\0';
        value = strchr(p, '=');
        if (!value) /* what stands here may be the rest of a password: not quoted */
            return wrong(j, "behind '?' each option is NAME=VALUE, split by '&'");
        *value++ = '\0';
        i = option_at(p);
        if (i == OPTIONS) {
            const char *near = nearest(p);

            /* One that a later driver knows is its own affair. */
            if (mongoc_uri_option_is_int32(p) || mongoc_uri_option_is_int64(p) ||
                mongoc_uri_option_is_bool(p) || mongoc_uri_option_is_utf8(p))
                continue;
            return wrong(j, "%.*s is no option%s%s%s", NAME_BYTES, p,
                         near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
        }
        if (j->given[i])
            return wrong(j, "the option %s is given twice", options[i].name);
        rc = judge_value(j, i, value);
        if (rc != EXJ_OK)
            return rc;
        j->given[i] = true;
    }
    return EXJ_OK;
}

/* ---- user, hosts ----------------------------------------------------------------------- */

static exj_code judge_userinfo(struct judged *j, const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n);
    size_t user = colon ? (size_t)(colon - p) : n;

    if (user == 0)
        return wrong(j, "no user's name in front of '@'");
    for (size_t i = 0; i < n; i++) {
        const char *part = i < user ? "user's name" : "password";

        if (i != user && strchr(":/?#[]@", p[i]))
            return wrong(j, "the %s has a bare '%c' in it: write %%%02X", part, p[i],
                         (unsigned)(unsigned char)p[i]);
        if (p[i] == '%' && (i + 2 >= n || !isxdigit((unsigned char)p[i + 1]) ||
                            !isxdigit((unsigned char)p[i + 2])))
            return wrong(j, "the %s has a bare '%%' in it: write %%25", part);
    }
    if (colon && user + 1 == n)
        return wrong(j, "the password is empty: write mongodb://USER:PASSWORD@HOST");
    return EXJ_OK;
}

/* One host of the list. `alone`: no user's part, so that this may be one whose host was
 * forgotten; then it is not quoted. */
static exj_code judge_host(struct judged *j, const char *p, size_t n, bool srv, bool alone)
{
    const char *port = NULL, *bracket = n && *p == '[' ? memchr(p, ']', n) : NULL;
    size_t name = n;

    if (n && *p == '[' && !bracket)
        return wrong(j, "an address in brackets wants its ']', as in [::1]:27017");
    if (bracket) {
        name = (size_t)(bracket + 1 - p);
        if (name < n && p[name] != ':')
            return wrong(j, "behind ']' stands a port or nothing, as in [::1]:27017");
    } else if (memchr(p, ':', n)) {
        name = (size_t)((const char *)memchr(p, ':', n) - p);
    }
    if (name < n)
        port = p + name + 1;
    if (name == 0)
        return wrong(j, "a host's name is missing: write mongodb://HOST:PORT");
    for (size_t i = 0; i < name; i++)
        if ((unsigned char)p[i] <= ' ' || strchr("\"'<>\\^`{|}#", p[i]))
            return wrong(j, "the host %.*s has a '%c' in it", (int)(name < 60 ? name : 60), p,
                         isprint((unsigned char)p[i]) ? p[i] : '?');
    if (port) {
        size_t digits = strspn(port, "0123456789"), len = n - name - 1;
        long value = digits == len && len && len <= 5 ? strtol(port, NULL, 10) : 0;

        if (srv)
            return wrong(j, "mongodb+srv:// takes one name without a port");
        if (value < 1 || value > 65535)
            return alone && digits != len
                       ? wrong(j, "behind ':' a port is wanted, 1 to 65535; if that is a "
                                  "password, the host is missing: "
                                  "mongodb://USER:PASSWORD@HOST")
                       : wrong(j, "the port of %.*s must be a number from 1 to 65535",
                               (int)(name < 60 ? name : 60), p);
    }
    return EXJ_OK;
}

static exj_code judge_hosts(struct judged *j, const char *p, size_t n, bool srv, bool alone)
{
    if (n == 0)
        return wrong(j, "no host: write mongodb://HOST:PORT");
    if (srv && memchr(p, ',', n))
        return wrong(j, "mongodb+srv:// takes one name without a port");
    for (size_t at = 0;;) {
        const char *comma = memchr(p + at, ',', n - at);
        size_t len = comma ? (size_t)(comma - p) - at : n - at;
        exj_code rc = judge_host(j, p + at, len, srv, alone);

        if (rc != EXJ_OK)
            return rc;
        if (!comma)
            return EXJ_OK;
        at += len + 1;
    }
}

static exj_code judge_scheme(struct judged *j, const char *text, bool *ret_srv,
                             const char **ret_rest)
{
    static const char plain[] = "mongodb://", srv[] = "mongodb+srv://";

    *ret_srv = strncmp(text, srv, sizeof(srv) - 1) == 0;
    if (!*ret_srv && strncmp(text, plain, sizeof(plain) - 1) != 0)
        return wrong(j, "it must begin with mongodb:// or mongodb+srv://");
    *ret_rest = text + (*ret_srv ? sizeof(srv) : sizeof(plain)) - 1;
    return EXJ_OK;
}

static exj_code judge_text(struct judged *j, const char *text)
{
    const char *p = text, *at, *path;
    bool srv;
    char *copy;
    exj_code rc = judge_scheme(j, text, &srv, &p);

    if (rc != EXJ_OK)
        return rc;
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return wrong(j, "it has a control byte in it");
    path = p + strcspn(p, "/?");
    at = memrchr(p, '@', (size_t)(path - p));
    if (!at) {
        /* "ann:p/w@h": what looks like a path is the rest of a password. */
        if (strchr(path, '@'))
            return wrong(j, "the user's name or password has a bare '%c' in it: write %%%02X",
                         *path, (unsigned)*path);
    } else {
        rc = judge_userinfo(j, p, (size_t)(at - p));
        if (rc != EXJ_OK)
            return rc;
        p = at + 1;
        /* Nothing of what may be a password is looked at, and quoted, as an option. */
        if (strchr(path, '@'))
            return wrong(j, "the password has a bare '@' in it, or an option: write %%40");
    }
    rc = judge_hosts(j, p, (size_t)(path - p), srv, !at);
    if (rc != EXJ_OK)
        return rc;
    if (*path == '?')
        return wrong(j, "between the hosts and '?' a '/' is wanted");
    path = strchr(path, '?');
    if (!path)
        return EXJ_OK;
    copy = strdup(path + 1);
    if (!copy)
        return exj_err_set(j->err, EXJ_NOMEM, "out of memory");
    rc = judge_options(j, copy);
    free(copy);
    return rc;
}

/* ---- what the store needs -------------------------------------------------------------- */

static exj_code choose_times(struct judged *j, exj_msec lease_ms, exj_mongo_uri *u)
{
    exj_msec most = lease_ms > SOCKET_LEAST_MS ? lease_ms : SOCKET_LEAST_MS;

    u->select_ms = SELECT_MS;
    given(j, "serverSelectionTimeoutMS", &u->select_ms);
    u->connect_ms = CONNECT_MS;
    given(j, "connectTimeoutMS", &u->connect_ms);
    u->socket_ms = lease_ms / 3 > SOCKET_LEAST_MS ? lease_ms / 3 : SOCKET_LEAST_MS;
    if (given(j, "socketTimeoutMS", &u->socket_ms) &&
        (u->socket_ms < SOCKET_FEWEST_MS || u->socket_ms > most))
        return wrong(j, "socketTimeoutMS=%" PRId64 ": wanted %d to %" PRId64
                        ", so that a lost answer is noticed within a lease",
                     u->socket_ms, SOCKET_FEWEST_MS, most);
    u->wtimeout_ms = u->socket_ms > 4000 ? u->socket_ms - 2000 : u->socket_ms / 2;
    if (given(j, "wTimeoutMS", &u->wtimeout_ms) && u->wtimeout_ms >= u->socket_ms)
        return wrong(j, "wTimeoutMS=%" PRId64 ": wanted less than socketTimeoutMS=%" PRId64
                        ", so that the server can still say so",
                     u->wtimeout_ms, u->socket_ms);
    return EXJ_OK;
}

static exj_code choose_clients(struct judged *j, uint32_t clients, exj_mongo_uri *u)
{
    int64_t most = clients;

    if (given(j, "maxPoolSize", &most) && most < (int64_t)clients)
        return wrong(j, "maxPoolSize=%" PRId64 ": the store keeps %" PRIu32 " connections", most,
                     clients);
    u->clients = (uint32_t)most;
    return EXJ_OK;
}

static bool set_all(const struct judged *j, exj_mongo_uri *u)
{
    mongoc_write_concern_t *wc = mongoc_write_concern_new();
    bool ok = true;

    mongoc_write_concern_set_wmajority(wc, (int32_t)u->wtimeout_ms);
    if (given(j, "journal", NULL))
        mongoc_write_concern_set_journal(wc, true);
    mongoc_uri_set_write_concern(u->uri, wc);
    mongoc_write_concern_destroy(wc);
    if (!given(j, "appName", NULL))
        ok = mongoc_uri_set_appname(u->uri, EXJ_MONGO_APPNAME) && ok;
    ok = mongoc_uri_set_option_as_bool(u->uri, MONGOC_URI_RETRYWRITES, false) && ok;
    if (!given(j, "retryReads", NULL))
        ok = mongoc_uri_set_option_as_bool(u->uri, MONGOC_URI_RETRYREADS, false) && ok;
    if (!given(j, "waitQueueTimeoutMS", NULL))
        ok = mongoc_uri_set_option_as_int32(u->uri, MONGOC_URI_WAITQUEUETIMEOUTMS,
                                            (int32_t)u->select_ms) &&
             ok;
    ok = mongoc_uri_set_option_as_int32(u->uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS,
                                        (int32_t)u->select_ms) &&
         ok;
    ok = mongoc_uri_set_option_as_int32(u->uri, MONGOC_URI_CONNECTTIMEOUTMS,
                                        (int32_t)u->connect_ms) &&
         ok;
    ok = mongoc_uri_set_option_as_int32(u->uri, MONGOC_URI_SOCKETTIMEOUTMS,
                                        (int32_t)u->socket_ms) &&
         ok;
    return mongoc_uri_set_option_as_int32(u->uri, MONGOC_URI_MAXPOOLSIZE,
                                          (int32_t)u->clients) &&
           ok;
}

static char *list_hosts(const mongoc_uri_t *uri)
{
    const char *srv = mongoc_uri_get_srv_hostname(uri);
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_add_text(&b, srv ? srv : "");
    for (const mongoc_host_list_t *h = mongoc_uri_get_hosts(uri); h; h = h->next)
        exj_buf_printf(&b, "%s%s", b.n ? "," : "", h->host_and_port);
    if (b.failed)
        exj_buf_release(&b);
    return exj_buf_take(&b);
}

exj_code exj_mongo_uri_judge(const char *text, exj_msec lease_ms, uint32_t clients,
                             exj_mongo_uri *ret, exj_err *err)
{
    exj_buf shown = EXJ_BUF_INIT, notes = EXJ_BUF_INIT;
    struct judged j = { .err = err, .notes = &notes };
    exj_mongo_uri u = { 0 };
    bson_error_t why = { 0 };
    const char *user;
    exj_code rc;

    exj_buf_add_text(&notes, "");
    exj_buf_add_text(&shown, "");
    if (!exj_hide_password(text, &shown) || notes.failed) {
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
        goto out;
    }
    for (size_t i = 0; i < shown.n; i++)
        if ((unsigned char)shown.p[i] < 0x20 || shown.p[i] == 0x7f)
            shown.p[i] = '?';
    j.shown = shown.p;
    exj_mongo_driver_start();
    rc = judge_text(&j, text);
    if (rc == EXJ_OK)
        rc = choose_times(&j, lease_ms, &u);
    if (rc == EXJ_OK)
        rc = choose_clients(&j, clients, &u);
    if (rc != EXJ_OK)
        goto out;
    u.uri = mongoc_uri_new_with_error(text, &why);
    /* The driver's words may hold any part of the URI: taken only where that has no secret. */
    if (!u.uri) {
        rc = wrong(&j, "%s", strcmp(shown.p, text) == 0 ? why.message
                                                         : "the driver does not accept it");
        goto out;
    }
    if (!set_all(&j, &u)) {
        rc = wrong(&j, "the driver does not take what the store needs");
        goto out;
    }
    user = mongoc_uri_get_username(u.uri);
    u.user = user ? strdup(user) : NULL;
    u.hosts = list_hosts(u.uri);
    u.shown = exj_buf_take(&shown);
    u.notes = exj_buf_take(&notes);
    if ((user && !u.user) || !u.hosts || !u.shown || !u.notes) {
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
        goto out;
    }
    *ret = u;
    u = (exj_mongo_uri){ 0 };
out:
    exj_mongo_uri_release(&u);
    exj_buf_release(&shown);
    exj_buf_release(&notes);
    return rc;
}

void exj_mongo_uri_release(exj_mongo_uri *u)
{
    if (u->uri)
        mongoc_uri_destroy(u->uri);
    free(u->shown);
    free(u->hosts);
    free(u->user);
    free(u->notes);
    *u = (exj_mongo_uri){ 0 };
}
