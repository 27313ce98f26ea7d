#include "core/http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/http/acceptor.h"
#include "core/http/exchange.h"
#include "core/http/head.h"
#include "core/http/stream.h"
#include "core/http/unix_path.h"

#define BODY_MAX_DEFAULT (16u * 1024u * 1024u)
#define HEAD_NS 5000000000LL        /* a head must be whole within */
#define CONNECTION_NS 60000000000LL /* everything must be over within */
#define IDLE_SECONDS 15u
#define STOP_SECONDS 5
#define OPEN_MAX_TCP 128u
#define OPEN_MAX_UNIX 32u
#define CONNECTION_MEMORY (64u * 1024u)

/* A socket that libmicrohttpd has; on one list from admission to its end. */
struct open_one {
    struct open_one *next, **link;
    int fd;
    exj_nsec until;
};

struct door {
    exj_server *server;
    struct MHD_Daemon *mhd;
    bool trusted;
};

struct exj_server {
    const exj_api *api;
    size_t body_max;
    char bind[64], machine[256];
    uint16_t port;
    char *unix_path; /* owned; NULL: none */
    dev_t unix_dev;
    ino_t unix_ino;
    struct door doors[EXJ_DOORS_MAX]; /* set before start, then read-only */
    unsigned doors_len;
    exj_acceptor *acceptor;
    exj_nsec look_again; /* acceptor thread only: the latest admission's time is over */

    pthread_mutex_t mu;
    pthread_cond_t changed; /* `open` became empty */
    struct open_one *open;  /* guarded by mu */
};

/* ---- one request -------------------------------------------------------------------------- */

struct request {
    char *target; /* owned; raw, with its query */
    exj_buf body;
    size_t seen; /* of the body, kept or not */
    bool begun, keeps_body, too_large, lacked_memory;
};

static exj_slice header(struct MHD_Connection *c, const char *name)
{
    return exj_slice_of(MHD_lookup_connection_value(c, MHD_HEADER_KIND, name));
}

/* The key sent, by either header. */
static exj_slice sent_key(struct MHD_Connection *c)
{
    exj_slice key = header(c, "x-exellix-jobs-api-key"), bearer;

    if (key.n)
        return key;
    bearer = header(c, "Authorization");
    if (bearer.n < 7 || strncasecmp(bearer.p, "Bearer ", 7) != 0)
        return (exj_slice){ NULL, 0 };
    bearer.p += 7;
    bearer.n -= 7;
    while (bearer.n && bearer.p[0] == ' ')
        bearer.p++, bearer.n--;
    return bearer;
}

/* libmicrohttpd calls this with the target as it came, before it decodes anything. */
static void *request_begin(void *user, const char *target, struct MHD_Connection *c)
{
    struct request *r = calloc(1, sizeof *r);

    (void)user, (void)c;
    if (r)
        r->target = strdup(target);
    return r;
}

static void request_end(void *user, struct MHD_Connection *c, void **con,
                        enum MHD_RequestTerminationCode why)
{
    struct request *r = *con;

    (void)user, (void)c, (void)why;
    if (!r)
        return;
    free(r->target);
    exj_buf_release(&r->body);
    free(r);
    *con = NULL;
}

static size_t keep_escaped(void *user, struct MHD_Connection *c, char *s)
{
    (void)user, (void)c;
    return strlen(s);
}

static bool is_request_id(exj_slice s)
{
    if (s.n == 0 || s.n > 128)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '"')
            return false;
    }
    return true;
}

/* Hands the answer over and empties it. */
static enum MHD_Result reply(struct MHD_Connection *c, exj_response *a)
{
    size_t n = a->body.n;
    char *p = exj_buf_take(&a->body);
    exj_slice id = header(c, "X-Request-Id");
    struct MHD_Response *m;
    enum MHD_Result queued;

    m = p ? MHD_create_response_from_buffer(n, p, MHD_RESPMEM_MUST_FREE)
          : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!m) {
        free(p);
        return MHD_NO;
    }
    MHD_add_response_header(m, "Content-Type", a->content_type);
    MHD_add_response_header(m, "Cache-Control", "no-store");
    MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(m, "Connection", "close");
    if (a->allow)
        MHD_add_response_header(m, "Allow", a->allow);
    if (a->replayed)
        MHD_add_response_header(m, "Idempotent-Replayed", "true");
    if (a->status == 401)
        MHD_add_response_header(m, "WWW-Authenticate", "Bearer");
    if (is_request_id(id))
        MHD_add_response_header(m, "X-Request-Id", id.p);
    queued = MHD_queue_response(c, a->status, m);
    MHD_destroy_response(m);
    return queued;
}

static ssize_t stream_read(void *user, uint64_t at, char *p, size_t n)
{
    ssize_t got = exj_stream_read(user, p, n);

    (void)at;
    return got < 0 ? MHD_CONTENT_READER_END_OF_STREAM : got;
}

static void stream_close(void *user)
{
    exj_stream_close(user);
}

/* A stream lasts: its connection is bounded by how long nothing can be sent, not as a whole. */
static enum MHD_Result reply_stream(struct MHD_Connection *c, exj_server *s, exj_response *a)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct open_one *o = i ? i->socket_context : NULL;
    struct MHD_Response *m = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, 16384, stream_read, a->stream, stream_close);
    enum MHD_Result queued;

    if (!m)
        return MHD_NO; /* whoever made the answer releases the stream with it */
    a->stream = NULL;  /* the response's now */
    if (o) {
        pthread_mutex_lock(&s->mu);
        o->until = INT64_MAX;
        pthread_mutex_unlock(&s->mu);
    }
    MHD_add_response_header(m, "Content-Type", a->content_type);
    MHD_add_response_header(m, "Cache-Control", "no-store");
    MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(m, "X-Accel-Buffering", "no");
    MHD_add_response_header(m, "Connection", "close");
    queued = MHD_queue_response(c, a->status, m);
    MHD_destroy_response(m);
    return queued;
}

static enum MHD_Result reply_refusal(struct MHD_Connection *c, unsigned status,
                                     const char *code, const char *text)
{
    exj_response a = { 0 };
    enum MHD_Result queued;

    exj_response_refuse(&a, status, code, text);
    queued = reply(c, &a);
    exj_response_release(&a);
    return queued;
}

struct one_key {
    exj_slice value;
    size_t seen;
};

static enum MHD_Result count_key(void *user, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    struct one_key *k = user;

    (void)kind;
    if (strcasecmp(name, "Idempotency-Key") == 0) {
        k->seen++;
        k->value = exj_slice_of(value ? value : "");
    }
    return MHD_YES;
}

/* p NULL: none. Sent twice it is empty, which nobody takes for a key. */
static exj_slice sent_idempotency_key(struct MHD_Connection *c)
{
    struct one_key k = { { NULL, 0 }, 0 };

    MHD_get_connection_values(c, MHD_HEADER_KIND, count_key, &k);
    return k.seen > 1 ? (exj_slice){ "", 0 } : k.value;
}

static bool changes_things(const char *method)
{
    return strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0;
}

/* The head is here, the body is not. True: answered already, *ret says how that went. */
static bool refuse_early(const struct door *d, struct MHD_Connection *c, const char *method,
                         enum MHD_Result *ret)
{
    const exj_server *s = d->server;
    exj_slice host = header(c, "Host");

    if (d->trusted)
        return false;
    if (host.n && !exj_host_is_allowed(host, s->bind, s->machine)) {
        *ret = reply_refusal(c, 421, "HostNotAllowed",
                             "this Host is not served here: use localhost or the bound "
                             "address");
        return true;
    }
    if (changes_things(method) &&
        exj_request_is_cross_site(header(c, "Origin"), header(c, "Sec-Fetch-Site"), host)) {
        *ret = reply_refusal(c, 403, "CrossSiteRefused",
                             "changes are not taken from pages of other sites");
        return true;
    }
    return false;
}

static enum MHD_Result answer(const struct door *d, struct MHD_Connection *c,
                              const char *method, const struct request *r)
{
    const char *mark = strchr(r->target, '?');
    exj_request q = { .method = method,
                      .path = { r->target, mark ? (size_t)(mark - r->target)
                                                : strlen(r->target) },
                      .query = exj_slice_of(mark ? mark + 1 : NULL),
                      .body = exj_buf_slice(&r->body),
                      .content_type = header(c, "Content-Type"),
                      .trusted = d->trusted,
                      .api_key = sent_key(c),
                      .idempotency_key = sent_idempotency_key(c),
                      .accept = header(c, "Accept"),
                      .last_event_id = header(c, "Last-Event-ID") };
    exj_response a;
    enum MHD_Result queued;

    if (r->too_large)
        return reply_refusal(c, 413, "BodyTooLarge", "the body is too large");
    if (r->lacked_memory)
        return reply_refusal(c, 500, "OutOfMemory", "no memory for the body: send it again");
    exj_api_call(d->server->api, &q, &a);
    queued = a.stream ? reply_stream(c, d->server, &a) : reply(c, &a);
    exj_response_release(&a);
    return queued;
}

static void take_body(const struct door *d, struct request *r, const char *data, size_t n)
{
    r->seen += n;
    if (!r->keeps_body)
        return;
    r->too_large = r->seen > d->server->body_max;
    r->lacked_memory = !r->too_large && !exj_buf_add(&r->body, data, n);
    if (r->too_large || r->lacked_memory) {
        r->keeps_body = false;
        exj_buf_release(&r->body);
    }
}

static enum MHD_Result request_step(void *user, struct MHD_Connection *c, const char *url,
                                    const char *method, const char *version,
                                    const char *data, size_t *data_n, void **con)
{
    const struct door *d = user;
    struct request *r = *con;
    enum MHD_Result done;

    (void)url, (void)version;
    if (!r || !r->target)
        return MHD_NO; /* no memory */
    if (!r->begun) {
        r->begun = true;
        if (refuse_early(d, c, method, &done))
            return done;
        /* Who may not change anything need not make us keep what he sends: the router
         * refuses him without looking at it. */
        r->keeps_body = d->trusted || exj_key_fits(d->server->api, sent_key(c));
        return MHD_YES;
    }
    if (*data_n) {
        take_body(d, r, data, *data_n);
        *data_n = 0;
        /* A chunked body has no length to judge it by; its end is awaited for a while. */
        return r->seen > 4 * d->server->body_max ? MHD_NO : MHD_YES;
    }
    return answer(d, c, method, r);
}

/* ---- connections -------------------------------------------------------------------------- */

static void connection_changed(void *user, struct MHD_Connection *c, void **socket_context,
                               enum MHD_ConnectionNotificationCode what)
{
    exj_server *s = user;
    struct open_one *o;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *i =
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);

        o = calloc(1, sizeof *o);
        *socket_context = o;
        if (!o)
            return; /* then only the idle time bounds it */
        o->fd = i ? i->connect_fd : -1;
        o->until = exj_clock_mono_ns() + CONNECTION_NS;
        pthread_mutex_lock(&s->mu);
        o->next = s->open;
        if (o->next)
            o->next->link = &o->next;
        o->link = &s->open;
        s->open = o;
        pthread_mutex_unlock(&s->mu);
        return;
    }
    o = *socket_context;
    if (!o)
        return;
    pthread_mutex_lock(&s->mu);
    *o->link = o->next;
    if (o->next)
        o->next->link = o->link;
    if (!s->open)
        pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
    free(o);
    *socket_context = NULL;
}

/* The descriptor is still the connection's: it is closed only after connection_changed. */
static exj_nsec sweep(void *user, exj_nsec now)
{
    exj_server *s = user;
    exj_nsec next = 0;

    pthread_mutex_lock(&s->mu);
    for (struct open_one *o = s->open; o; o = o->next) {
        if (o->until <= now) {
            shutdown(o->fd, SHUT_RDWR);
            o->until = now + CONNECTION_NS;
        }
        if (!next || o->until < next)
            next = o->until;
    }
    pthread_mutex_unlock(&s->mu);
    /* One admitted just now may not be on the list yet. */
    return !next && s->look_again > now ? s->look_again : next;
}

static void admit(void *user, unsigned door, int fd, const struct sockaddr *from,
                  socklen_t from_len)
{
    exj_server *s = user;

    s->look_again = exj_clock_mono_ns() + CONNECTION_NS + 1000000000LL;
    /* On failure (too many are open) it has closed fd. */
    if (MHD_add_connection(s->doors[door].mhd, fd, from, from_len) != MHD_YES)
        exj_log(EXJ_LOG_DEBUG, "http", "a connection was not taken: %s", strerror(errno));
}

/* ---- listening ---------------------------------------------------------------------------- */

union any_address {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static exj_code parse_bind(const char *text, uint16_t port, union any_address *ret,
                           socklen_t *ret_len, bool *ret_loopback, exj_err *err)
{
    memset(ret, 0, sizeof *ret);
    if (strcmp(text, "localhost") == 0)
        text = "127.0.0.1";
    if (inet_pton(AF_INET, text, &ret->v4.sin_addr) == 1) {
        ret->v4.sin_family = AF_INET;
        ret->v4.sin_port = htons(port);
        *ret_len = sizeof ret->v4;
        *ret_loopback = (ntohl(ret->v4.sin_addr.s_addr) >> 24) == 127;
        return EXJ_OK;
    }
    if (inet_pton(AF_INET6, text, &ret->v6.sin6_addr) == 1) {
        ret->v6.sin6_family = AF_INET6;
        ret->v6.sin6_port = htons(port);
        *ret_len = sizeof ret->v6;
        *ret_loopback = IN6_IS_ADDR_LOOPBACK(&ret->v6.sin6_addr);
        return EXJ_OK;
    }
    return exj_err_set(err, EXJ_INVALID,
                       "cannot listen on \"%s\": an IPv4 or IPv6 address is wanted", text);
}

static exj_code listen_tcp(exj_server *s, const exj_server_options *o, int *ret, exj_err *err)
{
    union any_address a;
    socklen_t n;
    bool loopback = false;
    int fd, one = 1;
    exj_code rc = parse_bind(s->bind, o->port, &a, &n, &loopback, err);

    if (rc != EXJ_OK)
        return rc;
    if (!loopback && (!o->api->api_key || !o->api->api_key[0]))
        return exj_err_set(err, EXJ_REFUSED,
                           "will not listen on %s, which is not loopback, without "
                           "EXELLIX_JOBS_API_KEY", s->bind);
    fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return exj_err_set(err, EXJ_IO, "socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &a.sa, n) || listen(fd, 128) || getsockname(fd, &a.sa, &n)) {
        rc = errno == EADDRINUSE
                 ? exj_err_set(err, EXJ_BUSY, "%s port %u is in use by another program",
                               s->bind, o->port)
                 : exj_err_set(err, EXJ_IO, "cannot listen on %s port %u: %s", s->bind,
                               o->port, strerror(errno));
        close(fd);
        return rc;
    }
    s->port = ntohs(a.sa.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    *ret = fd;
    return EXJ_OK;
}

/* Remove what a dead daemon left; never a file that is no socket, nor a live one's. */
static exj_code clear_stale(const char *path, const struct sockaddr_un *a, exj_err *err)
{
    struct stat st;
    int fd;
    bool alive;

    if (lstat(path, &st))
        return errno == ENOENT ? EXJ_OK
                               : exj_err_set(err, EXJ_IO, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return exj_err_set(err, EXJ_BUSY, "%s is there already and no socket", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return exj_err_set(err, EXJ_IO, "socket: %s", strerror(errno));
    alive = connect(fd, (const struct sockaddr *)a, sizeof *a) == 0 || errno == EAGAIN;
    close(fd);
    if (alive)
        return exj_err_set(err, EXJ_BUSY, "another daemon listens at %s", path);
    if (unlink(path) && errno != ENOENT)
        return exj_err_set(err, EXJ_IO, "%s: %s", path, strerror(errno));
    return EXJ_OK;
}

static exj_code listen_unix(exj_server *s, const char *path, int *ret, exj_err *err)
{
    struct sockaddr_un a;
    struct stat st;
    int fd = -1, dir = -1;
    exj_code rc = exj_unix_address(path, &a, &dir, err);

    if (rc == EXJ_OK)
        rc = clear_stale(path, &a, err);
    if (rc != EXJ_OK)
        goto out;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Linux makes the file with the mode of the descriptor: it is never open to others,
     * not for a moment, and the process's umask is left alone. */
    if (fd < 0 || fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)&a, sizeof a) ||
        chmod(path, 0600) || listen(fd, 64) || lstat(path, &st)) {
        rc = exj_err_set(err, errno == EADDRINUSE ? EXJ_BUSY : EXJ_IO,
                         "cannot listen at %s: %s", path, strerror(errno));
        goto out;
    }
    s->unix_path = strdup(path);
    if (!s->unix_path) {
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
        unlink(path);
        goto out;
    }
    s->unix_dev = st.st_dev;
    s->unix_ino = st.st_ino;
    *ret = fd;
    fd = -1;
out:
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    return rc;
}

/* Not if somebody put another one in its place. */
static void remove_unix(const exj_server *s)
{
    struct stat st;

    if (s->unix_path && lstat(s->unix_path, &st) == 0 && st.st_dev == s->unix_dev &&
        st.st_ino == s->unix_ino)
        unlink(s->unix_path);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void library_says(void *user, const char *format, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void library_says(void *user, const char *format, va_list ap)
{
    char text[512];
    size_t n;

    (void)user;
    vsnprintf(text, sizeof text, format, ap);
    n = strlen(text);
    while (n && text[n - 1] == '\n')
        text[--n] = '\0';
    exj_log(EXJ_LOG_DEBUG, "http", "%s", text);
}

static exj_code door_open(exj_server *s, bool trusted, exj_err *err)
{
    struct door *d = &s->doors[s->doors_len];

    /* A thread a connection: an order to a plugin may take long, and nobody else shall wait for
     * it, least of all a health check. */
    d->server = s;
    d->trusted = trusted;
    d->mhd = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
            MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG,
        0, NULL, NULL, request_step, d, MHD_OPTION_EXTERNAL_LOGGER, library_says, NULL,
        MHD_OPTION_URI_LOG_CALLBACK, request_begin, NULL, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escaped, NULL, MHD_OPTION_NOTIFY_COMPLETED, request_end, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, connection_changed, s, MHD_OPTION_CONNECTION_LIMIT,
        trusted ? OPEN_MAX_UNIX : OPEN_MAX_TCP, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!d->mhd)
        return exj_err_set(err, EXJ_IO, "cannot start the HTTP library: %s", strerror(errno));
    s->doors_len++;
    return EXJ_OK;
}

static void server_free(exj_server *s)
{
    for (unsigned i = 0; i < s->doors_len; i++)
        MHD_stop_daemon(s->doors[i].mhd);
    remove_unix(s);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mu);
    free(s->unix_path);
    free(s);
}

static exj_server *server_new(const exj_server_options *o)
{
    exj_server *s = calloc(1, sizeof *s);
    pthread_condattr_t monotonic;

    if (!s)
        return NULL;
    s->api = o->api;
    s->body_max = o->body_max ? o->body_max : BODY_MAX_DEFAULT;
    snprintf(s->bind, sizeof s->bind, "%s", o->bind ? o->bind : "127.0.0.1");
    if (gethostname(s->machine, sizeof s->machine - 1))
        s->machine[0] = '\0';
    pthread_mutex_init(&s->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return s;
}

exj_code exj_server_start(const exj_server_options *o, exj_server **ret, exj_err *err)
{
    exj_server *s = server_new(o);
    exj_acceptor_options a = { .head_time = HEAD_NS, .admit = admit, .sweep = sweep,
                               .user = s };
    sigset_t all, before;
    exj_code rc = EXJ_OK;

    if (!s)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    a.body_max = s->body_max;
    /* Signals are the main thread's: threads made here inherit that they are blocked. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (o->tcp) {
        rc = listen_tcp(s, o, &a.listeners[a.doors], err);
        if (rc == EXJ_OK) {
            a.doors++;
            rc = door_open(s, false, err);
        }
    }
    if (rc == EXJ_OK && o->unix_path) {
        rc = listen_unix(s, o->unix_path, &a.listeners[a.doors], err);
        if (rc == EXJ_OK) {
            a.doors++;
            rc = door_open(s, true, err);
        }
    }
    if (rc == EXJ_OK)
        rc = exj_acceptor_start(&a, &s->acceptor, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != EXJ_OK) {
        for (unsigned i = 0; i < a.doors; i++)
            close(a.listeners[i]);
        server_free(s);
        return rc;
    }
    *ret = s;
    return EXJ_OK;
}

uint16_t exj_server_port(const exj_server *s)
{
    return s->port;
}

void exj_server_stop(exj_server *s)
{
    struct timespec until;

    if (!s)
        return;
    exj_acceptor_stop(s->acceptor);
    if (s->api->streams)
        exj_streams_end(s->api->streams);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_SECONDS;
    pthread_mutex_lock(&s->mu);
    while (s->open && pthread_cond_timedwait(&s->changed, &s->mu, &until) == 0)
        ;
    pthread_mutex_unlock(&s->mu);
    server_free(s);
}
