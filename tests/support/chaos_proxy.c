#include "tests/support/chaos_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/chaos_wire.h"
#include "tests/support/inside.h"
#include "tests/support/support.h"

#define CONNS_MAX 256
#define PENDING_MAX 64         /* requests of one connection that wait for a reply */
#define QUEUED_MAX (96u << 20) /* bytes towards one side before the other is not read */

/* A message on its way out. */
struct message {
    struct message *next;
    int64_t from_ms;      /* not before */
    size_t n, sent, stop; /* stop < n: so far, then the connection is cut */
    unsigned drip_ms;     /* > 0: one byte each so long */
    uint8_t bytes[];
};

struct side {
    int fd; /* -1: closed */
    bool connecting, eof;
    uint8_t *in; /* a message under way; owned */
    size_t in_n, in_cap;
    struct message *out; /* owned */
    size_t queued;
};

struct pending {
    uint32_t id;
    exj_proxy_fault fault;
    unsigned ms;
};

struct conn {
    struct side client, server;
    struct pending pending[PENDING_MAX];
    size_t n_pending;
    bool mute, cut;
};

struct exj_proxy {
    pthread_t thread;
    uint16_t port, server_port;
    int wake;           /* eventfd */
    pthread_mutex_t mu; /* all below */
    pthread_cond_t hit;
    int listener; /* -1: refusing */
    bool end, mute;
    uint64_t random;
    exj_proxy_rule rules[EXJ_PROXY_RULES];
    struct {
        uint64_t seen, hits;
    } used[EXJ_PROXY_RULES];
    int n_rules;
    struct conn *conns[CONNS_MAX]; /* owned */
    size_t n_conns;
    exj_proxy_stats stats;
};

/* ---- sockets --------------------------------------------------------------------- */

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int tcp_new(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

    if (fd < 0)
        exj_support_die("proxy: socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    return fd;
}

static int listen_on(uint16_t *port)
{
    struct sockaddr_in a = loopback(*port);
    socklen_t n = sizeof(a);
    int fd = tcp_new();

    if (bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        exj_support_die("proxy: listen on port %u", (unsigned)*port);
    *port = ntohs(a.sin_port);
    return fd;
}

static void side_close(struct side *s, bool reset)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };

    if (s->fd >= 0) {
        if (reset)
            setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(s->fd);
    }
    s->fd = -1;
    while (s->out) {
        struct message *m = s->out;

        s->out = m->next;
        free(m);
    }
    free(s->in);
    s->in = NULL;
    s->in_n = s->in_cap = s->queued = 0;
}

/* ---- messages -------------------------------------------------------------------- */

static struct message *put(struct side *to, const uint8_t *bytes, size_t n,
                           int64_t from_ms)
{
    struct message *m = malloc(sizeof(*m) + n), **at = &to->out;

    if (!m)
        exj_support_die("proxy: out of memory");
    *m = (struct message){ .n = n, .stop = n, .from_ms = from_ms };
    memcpy(m->bytes, bytes, n);
    while (*at)
        at = &(*at)->next;
    *at = m;
    to->queued += n;
    return m;
}

/* False: the connection has to be cut. */
static bool flush(struct side *to, int64_t now)
{
    while (to->out && to->fd >= 0 && !to->connecting) {
        struct message *m = to->out;
        size_t want = (m->drip_ms ? m->sent + 1 : m->stop) - m->sent;
        ssize_t sent;

        if (m->from_ms > now)
            return true;
        sent = want ? send(to->fd, m->bytes + m->sent, want, MSG_NOSIGNAL) : 0;
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        m->sent += (size_t)sent;
        if (m->drip_ms)
            m->from_ms = now + m->drip_ms;
        if (m->sent < m->stop)
            continue;
        if (m->stop < m->n)
            return false;
        to->queued -= m->n;
        to->out = m->next;
        free(m);
    }
    return true;
}

static bool is_handshake(const char *command)
{
    return strcmp(command, "hello") == 0 || strcasecmp(command, "isMaster") == 0;
}

/* The rule that picks this request, or NULL. */
static const exj_proxy_rule *pick(exj_proxy *p, const char *command)
{
    for (int i = 0; i < p->n_rules; i++) {
        const exj_proxy_rule *r = &p->rules[i];
        uint64_t nth;

        if (r->command[0] ? strcmp(r->command, command) != 0 : is_handshake(command))
            continue;
        nth = p->used[i].seen++;
        if (nth < r->skip || (r->times && p->used[i].hits >= r->times))
            continue;
        if (r->permille && exj_test_random(&p->random) % 1000 >= r->permille)
            continue;
        p->used[i].hits++;
        p->stats.faults[r->fault]++;
        pthread_cond_broadcast(&p->hit);
        return r;
    }
    return NULL;
}

static void await_reply(struct conn *c, const exj_proxy_rule *r, uint32_t id)
{
    /* A client sends one request at a time: so many mean that replies never came. */
    if (c->n_pending == PENDING_MAX)
        memmove(c->pending, c->pending + 1, --c->n_pending * sizeof(c->pending[0]));
    c->pending[c->n_pending++] =
        (struct pending){ .id = id, .fault = r->fault, .ms = r->ms };
}

static void on_request(exj_proxy *p, struct conn *c, const uint8_t *bytes, size_t n,
                       int64_t now)
{
    const exj_proxy_rule *r;
    char command[32];

    p->stats.requests++;
    exj_wire_command(bytes, n, command);
    r = pick(p, command);
    if (!r) {
        put(&c->server, bytes, n, 0);
        return;
    }
    switch (r->fault) {
    case EXJ_PROXY_CUT:
        c->cut = true;
        break;
    case EXJ_PROXY_TORN_REQUEST:
        put(&c->server, bytes, n, 0)->stop = n / 2;
        break;
    case EXJ_PROXY_MUTE:
        c->mute = true;
        break;
    case EXJ_PROXY_DELAY:
        put(&c->server, bytes, n, now + r->ms);
        break;
    default:
        await_reply(c, r, exj_wire_id(bytes));
        put(&c->server, bytes, n, 0);
    }
}

static void on_reply(exj_proxy *p, struct conn *c, const uint8_t *bytes, size_t n,
                     int64_t now)
{
    struct pending *w = NULL, is;
    struct message *m;

    p->stats.replies++;
    for (size_t i = 0; i < c->n_pending; i++)
        if (c->pending[i].id == exj_wire_reply_to(bytes))
            w = &c->pending[i];
    if (!w) {
        put(&c->client, bytes, n, 0);
        return;
    }
    is = *w;
    *w = c->pending[--c->n_pending];
    switch (is.fault) {
    case EXJ_PROXY_CUT_REPLY:
        c->cut = true;
        break;
    case EXJ_PROXY_MUTE_REPLY:
        c->mute = true;
        break;
    case EXJ_PROXY_TORN_REPLY:
        put(&c->client, bytes, n, 0)->stop = n / 2;
        break;
    default:
        m = put(&c->client, bytes, n,
                is.fault == EXJ_PROXY_DELAY_REPLY ? now + is.ms : 0);
        if (is.fault == EXJ_PROXY_DRIP)
            m->drip_ms = is.ms ? is.ms : 1;
    }
}

/* Reads what is there and passes on whole messages; sets eof or cut. */
static void receive(exj_proxy *p, struct conn *c, struct side *from, int64_t now)
{
    ssize_t got;
    size_t at = 0, n;

    if (from->in_cap - from->in_n < 65536) {
        uint8_t *more = realloc(from->in, from->in_cap * 2 + 131072);

        if (!more)
            exj_support_die("proxy: out of memory");
        from->in = more;
        from->in_cap = from->in_cap * 2 + 131072;
    }
    got = recv(from->fd, from->in + from->in_n, from->in_cap - from->in_n, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        from->eof = true;
        c->cut = c->cut || (got < 0 && from == &c->server);
        return;
    }
    from->in_n += (size_t)got;
    for (; (n = exj_wire_length(from->in + at, from->in_n - at)) != 0; at += n) {
        if (n == SIZE_MAX) {
            c->cut = true;
            return;
        }
        if (n > from->in_n - at)
            break;
        if (c->mute || c->cut)
            continue;
        if (from == &c->client)
            on_request(p, c, from->in + at, n, now);
        else
            on_reply(p, c, from->in + at, n, now);
    }
    memmove(from->in, from->in + at, from->in_n - at);
    from->in_n -= at;
}

/* ---- connections ----------------------------------------------------------------- */

static void take_client(exj_proxy *p)
{
    struct sockaddr_in a = loopback(p->server_port);
    int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1;
    struct conn *c;

    if (fd < 0)
        return;
    if (p->n_conns == CONNS_MAX) {
        close(fd);
        return;
    }
    c = calloc(1, sizeof(*c));
    if (!c)
        exj_support_die("proxy: out of memory");
    c->client.fd = fd;
    c->mute = p->mute;
    c->server.fd = tcp_new();
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(c->server.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c->server.connecting = true;
    if (connect(c->server.fd, (struct sockaddr *)&a, sizeof(a)) != 0 &&
        errno != EINPROGRESS)
        c->cut = true;
    p->conns[p->n_conns++] = c;
    p->stats.connections++;
}

static void conn_free(struct conn *c)
{
    side_close(&c->client, c->cut);
    side_close(&c->server, c->cut);
    free(c);
}

/* What poll is to tell of a side. */
static short events(const struct conn *c, bool of_server, int64_t now, int64_t *next)
{
    const struct side *s = of_server ? &c->server : &c->client;
    const struct side *other = of_server ? &c->client : &c->server;
    short e = 0;

    if (s->fd < 0)
        return 0;
    if (!s->eof && !s->connecting && other->queued < QUEUED_MAX)
        e |= POLLIN;
    if (s->connecting)
        e |= POLLOUT;
    if (s->out && !s->connecting && !c->mute) {
        if (s->out->from_ms <= now)
            e |= POLLOUT;
        else if (s->out->from_ms < *next)
            *next = s->out->from_ms;
    }
    return e;
}

static void connected(struct conn *c)
{
    socklen_t n = sizeof(int);
    int why = 0;

    c->server.connecting = false;
    if (getsockopt(c->server.fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0 || why != 0)
        c->cut = true;
}

/* Its work after poll. False: it is over. */
static bool serve(exj_proxy *p, struct conn *c, short client, short server, int64_t now)
{
    if (c->server.connecting && server)
        connected(c);
    if (!c->cut && c->client.fd >= 0 && (client & (POLLIN | POLLHUP | POLLERR)) &&
        !c->client.eof)
        receive(p, c, &c->client, now);
    if (!c->cut && !c->server.connecting && (server & (POLLIN | POLLHUP | POLLERR)) &&
        !c->server.eof)
        receive(p, c, &c->server, now);
    if (!c->cut && !c->mute)
        c->cut = !flush(&c->server, now) || !flush(&c->client, now);
    if (c->cut)
        return false;
    /* A client that gave up: what it sent still reaches the server, late as it may be. */
    if (c->client.eof && c->client.fd >= 0)
        side_close(&c->client, false);
    if (c->client.fd < 0)
        return c->server.out && !c->mute && !c->server.eof;
    /* A server that is gone: what it said is delivered. Muted, nobody learns of its end.
     */
    return !c->server.eof || c->mute || c->client.out;
}

static void *run(void *user)
{
    exj_proxy *p = user;
    struct pollfd fds[2 + 2 * CONNS_MAX];

    for (;;) {
        int64_t now, next = INT64_MAX;
        int listener, wait = -1;
        size_t n = 2, conns;
        uint64_t woken;

        pthread_mutex_lock(&p->mu);
        if (p->end) {
            pthread_mutex_unlock(&p->mu);
            return NULL;
        }
        now = exj_test_now_ms();
        listener = p->listener;
        fds[0] = (struct pollfd){ .fd = p->wake, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = listener, .events = POLLIN };
        conns = p->n_conns;
        for (size_t i = 0; i < conns; i++) {
            struct conn *c = p->conns[i];

            /* A side that nothing is wanted of would report its end for ever. */
            for (int s = 0; s < 2; s++) {
                short e = events(c, s, now, &next);
                int fd = s ? c->server.fd : c->client.fd;

                fds[n++] = (struct pollfd){ .fd = e ? fd : -1, .events = e };
            }
        }
        pthread_mutex_unlock(&p->mu);
        if (next != INT64_MAX)
            wait = next - now > INT_MAX ? INT_MAX : (int)(next - now);
        if (poll(fds, (nfds_t)n, wait) < 0 && errno != EINTR)
            exj_support_die("proxy: poll");

        pthread_mutex_lock(&p->mu);
        if (fds[0].revents && read(p->wake, &woken, sizeof(woken)) < 0 && errno != EAGAIN)
            exj_support_die("proxy: eventfd");
        now = exj_test_now_ms();
        for (size_t i = conns; i-- > 0;) {
            if (!serve(p, p->conns[i], fds[2 + 2 * i].revents, fds[3 + 2 * i].revents,
                       now)) {
                conn_free(p->conns[i]);
                p->conns[i] = p->conns[--p->n_conns];
            }
        }
        if (fds[1].revents && p->listener == listener && listener >= 0)
            take_client(p);
        pthread_mutex_unlock(&p->mu);
    }
}

/* ---- the outside ----------------------------------------------------------------- */

static void wake(exj_proxy *p)
{
    uint64_t one = 1;

    if (write(p->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
        exj_support_die("proxy: eventfd");
}

exj_proxy *exj_proxy_start(uint16_t server_port, uint16_t port, uint64_t seed)
{
    exj_proxy *p = calloc(1, sizeof(*p));
    pthread_condattr_t monotonic;

    if (!p)
        exj_support_die("proxy: out of memory");
    p->server_port = server_port;
    p->port = port;
    p->random = seed;
    fprintf(stderr, "proxy: seed %" PRIu64 "\n", seed);
    p->listener = listen_on(&p->port);
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&p->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->hit, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (p->wake < 0 || pthread_create(&p->thread, NULL, run, p) != 0)
        exj_support_die("proxy: start");
    return p;
}

uint16_t exj_proxy_port(const exj_proxy *p)
{
    return p->port;
}

void exj_proxy_end(exj_proxy *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mu);
    p->end = true;
    pthread_mutex_unlock(&p->mu);
    wake(p);
    pthread_join(p->thread, NULL);
    for (size_t i = 0; i < p->n_conns; i++) {
        p->conns[i]->cut = true;
        conn_free(p->conns[i]);
    }
    if (p->listener >= 0)
        close(p->listener);
    close(p->wake);
    pthread_cond_destroy(&p->hit);
    pthread_mutex_destroy(&p->mu);
    free(p);
}

int exj_proxy_add(exj_proxy *p, const exj_proxy_rule *rule)
{
    int id = -1;

    pthread_mutex_lock(&p->mu);
    if (p->n_rules < EXJ_PROXY_RULES) {
        id = p->n_rules++;
        p->rules[id] = *rule;
        p->used[id].seen = p->used[id].hits = 0;
    }
    pthread_mutex_unlock(&p->mu);
    return id;
}

uint64_t exj_proxy_hits(exj_proxy *p, int rule)
{
    uint64_t hits;

    pthread_mutex_lock(&p->mu);
    hits = rule >= 0 && rule < p->n_rules ? p->used[rule].hits : 0;
    pthread_mutex_unlock(&p->mu);
    return hits;
}

bool exj_proxy_wait_hits(exj_proxy *p, int rule, uint64_t hits, unsigned ms)
{
    struct timespec end;
    bool there;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += (long)(ms % 1000) * 1000000L;
    end.tv_sec += end.tv_nsec / 1000000000L;
    end.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&p->mu);
    while (!(there = rule >= 0 && rule < p->n_rules && p->used[rule].hits >= hits))
        if (pthread_cond_timedwait(&p->hit, &p->mu, &end) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&p->mu);
    return there;
}

static void refuse(exj_proxy *p, bool on)
{
    if (on && p->listener >= 0) {
        shutdown(p->listener, SHUT_RDWR); /* now, though a poll still holds it */
        close(p->listener);
        p->listener = -1;
    } else if (!on && p->listener < 0) {
        p->listener = listen_on(&p->port);
    }
}

void exj_proxy_clear(exj_proxy *p)
{
    pthread_mutex_lock(&p->mu);
    p->n_rules = 0;
    p->mute = false;
    refuse(p, false);
    pthread_mutex_unlock(&p->mu);
    wake(p);
}

void exj_proxy_cut_all(exj_proxy *p)
{
    pthread_mutex_lock(&p->mu);
    for (size_t i = 0; i < p->n_conns; i++)
        p->conns[i]->cut = true;
    pthread_mutex_unlock(&p->mu);
    wake(p);
}

void exj_proxy_refuse(exj_proxy *p, bool on)
{
    pthread_mutex_lock(&p->mu);
    refuse(p, on);
    pthread_mutex_unlock(&p->mu);
    wake(p);
}

void exj_proxy_mute(exj_proxy *p, bool on)
{
    pthread_mutex_lock(&p->mu);
    p->mute = on;
    for (size_t i = 0; on && i < p->n_conns; i++)
        p->conns[i]->mute = true;
    pthread_mutex_unlock(&p->mu);
    wake(p);
}

exj_proxy_stats exj_proxy_look(exj_proxy *p)
{
    exj_proxy_stats s;

    pthread_mutex_lock(&p->mu);
    s = p->stats;
    s.open = p->n_conns;
    pthread_mutex_unlock(&p->mu);
    return s;
}

static const char *const names[EXJ_PROXY_FAULTS] = {
    [EXJ_PROXY_CUT] = "cut",
    [EXJ_PROXY_CUT_REPLY] = "cut-reply",
    [EXJ_PROXY_TORN_REQUEST] = "torn-request",
    [EXJ_PROXY_TORN_REPLY] = "torn-reply",
    [EXJ_PROXY_DELAY] = "delay",
    [EXJ_PROXY_DELAY_REPLY] = "delay-reply",
    [EXJ_PROXY_MUTE] = "mute",
    [EXJ_PROXY_MUTE_REPLY] = "mute-reply",
    [EXJ_PROXY_DRIP] = "drip",
};

const char *exj_proxy_fault_name(exj_proxy_fault f)
{
    return f < EXJ_PROXY_FAULTS ? names[f] : "?";
}

exj_proxy_fault exj_proxy_fault_by_name(const char *name)
{
    int f = 0;

    while (f < EXJ_PROXY_FAULTS && strcmp(names[f], name) != 0)
        f++;
    return (exj_proxy_fault)f;
}
