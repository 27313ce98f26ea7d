#include "tests/support/mongo_server.h"

#include <arpa/inet.h>
#include <bson/bson.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/inside.h"
#include "tests/support/mongo_inside.h"

#define START_MS 60000
#define TRIES 5 /* of ports that somebody else took meanwhile */
#define SERVERS_MAX 8

static exj_test_mongo *servers[SERVERS_MAX]; /* to be ended at exit */
static pid_t servers_owner;

static void end_all(void)
{
    if (servers_owner != getpid())
        return;
    for (int i = 0; i < SERVERS_MAX; i++)
        if (servers[i])
            exj_test_mongo_end(servers[i]);
}

static void remember(exj_test_mongo *m)
{
    if (servers_owner != getpid()) {
        memset(servers, 0, sizeof(servers));
        servers_owner = getpid();
        atexit(end_all);
    }
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (!servers[i]) {
            servers[i] = m;
            return;
        }
    }
    exj_support_die("more than %d servers", SERVERS_MAX);
}

/* ---- which server ---------------------------------------------------------------- */

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool on_path(const char *name, char *ret, size_t ret_n)
{
    const char *p = getenv("PATH");

    while (p && *p) {
        int n = (int)strcspn(p, ":");

        snprintf(ret, ret_n, "%.*s/%s", n, p, name);
        if (n > 0 && is_program(ret))
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

/* A program named by a variable has to be there: who sets it means it. */
static bool named(const char *variable, char *ret, size_t ret_n, bool *ret_wrong)
{
    const char *path = getenv(variable);

    if (!path || !*path)
        return false;
    snprintf(ret, ret_n, "%s", path);
    *ret_wrong = !is_program(path);
    if (*ret_wrong)
        fprintf(stderr,
                "mongo: %s=\"%s\" is not a program; set the path of one, or unset it\n",
                variable, path);
    return !*ret_wrong;
}

static bool choose(exj_test_mongo *m)
{
    const char *uri = getenv("EXELLIX_TEST_MONGODB_URI");
    bool wrong = false;

    if (uri && *uri) {
        m->kind = EXJ_TEST_MONGO_OWN;
        return exj_test_mongo_uri(uri, NULL, NULL, m->uri);
    }
    m->kind = EXJ_TEST_MONGO_MONGOD;
    if (named("EXELLIX_TEST_MONGOD", m->program, sizeof(m->program), &wrong))
        return true;
    if (wrong)
        return false;
    if (on_path("mongod", m->program, sizeof(m->program)))
        return true;
    m->kind = EXJ_TEST_MONGO_SECANTUS;
    if (named("EXELLIX_TEST_SECANTUSD", m->program, sizeof(m->program), &wrong))
        return true;
    if (wrong)
        return false;
    snprintf(m->program, sizeof(m->program), "%s", EXJ_MONGO_VENV "/bin/secantusd-py");
    if (is_program(m->program))
        return true;
    fprintf(
        stderr,
        "mongo: there is no MongoDB server to test against. One of these gives one:\n"
        "  1. EXELLIX_TEST_MONGODB_URI=mongodb://... : a server that runs already;\n"
        "  2. EXELLIX_TEST_MONGOD=/path/of/mongod, or mongod on PATH: tests start it;\n"
        "  3. bash tests/mongo/install_server.sh : installs SecantusDB as %s\n"
        "     (or EXELLIX_TEST_SECANTUSD=/path/of/secantusd-py).\n",
        m->program);
    return false;
}

/* ---- starting one node ----------------------------------------------------------- */

/* Not from the range that the kernel gives to outgoing connections: a server that is
 * killed and started again on its port must find it free. */
static uint16_t free_port(void)
{
    uint64_t random = (uint64_t)exj_test_now_ms() ^ ((uint64_t)getpid() << 20);

    for (int i = 0; i < 200; i++) {
        uint16_t port = (uint16_t)(17000 + exj_test_random(&random) % 15000);
        struct sockaddr_in a = { .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

        if (fd >= 0)
            close(fd);
        if (ok)
            return port;
    }
    exj_support_die("no free port");
}

static bool accepts(uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

static void show_end(const char *path)
{
    size_t n;
    char *text = exj_slurp(path, &n);
    const char *from = text;

    if (n > 2000) {
        from = strchr(text + n - 2000, '\n');
        from = from ? from + 1 : text + n - 2000;
    }
    if (*from)
        fprintf(stderr, "%s", from);
    free(text);
}

static void node_path(const exj_test_mongo *m, int node, const char *name, char ret[400])
{
    snprintf(ret, 400, "%s/%s%d", m->tmp.path, name, node);
}

static void spawn(exj_test_mongo *m, int node, bool auth)
{
    static const char *const env[] = { "PYTHONUNBUFFERED=1", "OPENBLAS_NUM_THREADS=1",
                                       NULL };
    exj_test_mongo_node *at = &m->nodes[node];
    const char *args[32];
    char port[8], data[400], key[400];
    size_t n = 0;

    snprintf(port, sizeof(port), "%u", (unsigned)at->port);
    node_path(m, node, "data", data);
    node_path(m, 0, "key", key);
    args[n++] = "--port";
    args[n++] = port;
    if (m->kind == EXJ_TEST_MONGO_SECANTUS) {
        args[n++] = "--host";
        args[n++] = "127.0.0.1";
        args[n++] = "--storage-path";
        args[n++] = data;
        args[n++] = "--cache-size";
        args[n++] = "256M";
        if (m->opts.fail_points)
            args[n++] = "--enable-test-commands";
        if (m->opts.sync_on_commit)
            args[n++] = "--sync-on-commit";
        if (auth)
            args[n++] = "--auth";
    } else {
        args[n++] = "--bind_ip";
        args[n++] = "127.0.0.1";
        args[n++] = "--nounixsocket";
        args[n++] = "--dbpath";
        args[n++] = data;
        args[n++] = "--replSet";
        args[n++] = "exj";
        args[n++] = "--oplogSize";
        args[n++] = "128";
        args[n++] = "--wiredTigerCacheSizeGB";
        args[n++] = "0.25";
        args[n++] = "--setParameter";
        args[n++] = "diagnosticDataCollectionEnabled=false";
        if (m->opts.fail_points) {
            args[n++] = "--setParameter";
            args[n++] = "enableTestCommands=1";
        }
        if (auth) {
            args[n++] = "--auth";
            args[n++] = "--keyFile";
            args[n++] = key;
        }
    }
    args[n] = NULL;
    exj_prog_start(&at->prog, &m->tmp, m->program, env, args);
    exj_support_forget(
        at->prog.pid); /* exj_support_clean of some daemon must not end it */
    at->stopped = false;
}

static bool answers(exj_test_mongo_node *at)
{
    bson_t *command;
    bson_error_t why;
    char uri[80];
    bool ok;

    if (!accepts(at->port))
        return false;
    snprintf(uri, sizeof(uri), "mongodb://127.0.0.1:%u/?directConnection=true",
             (unsigned)at->port);
    command = BCON_NEW("ping", BCON_INT32(1));
    ok = exj_mongo_admin(uri, command, 2000, NULL, &why) ||
         why.code == 13; /* "requires authentication" is an answer too */
    bson_destroy(command);
    return ok;
}

static bool answers_or_ended(void *user)
{
    exj_test_mongo_node *at = user;

    return !exj_prog_is_running(&at->prog) || answers(at);
}

/* A node that runs and answers. When it ends at once, its port may have been taken. */
static bool start_node(exj_test_mongo *m, int node, bool auth, bool may_move)
{
    exj_test_mongo_node *at = &m->nodes[node];
    int64_t end = exj_test_now_ms() + START_MS;

    for (int i = 0; i < TRIES && exj_test_now_ms() < end; i++) {
        if (may_move)
            at->port = free_port();
        spawn(m, node, auth);
        exj_until(answers_or_ended, at, at->prog.pidfd, 10, START_MS);
        /* Somebody else's server may answer there: ours has to be alive after it. */
        if (answers(at) && exj_prog_is_running(&at->prog))
            return true;
        fprintf(stderr, "mongo: %s did not start on port %u%s; it said:\n", m->program,
                (unsigned)at->port,
                exj_prog_is_running(&at->prog) ? "" : " (it ended by itself)");
        show_end(at->prog.out);
        show_end(at->prog.err);
        exj_prog_signal(&at->prog, SIGKILL);
        exj_prog_wait(&at->prog, 10000);
    }
    return false;
}

static void end_node(exj_test_mongo_node *at, bool gently)
{
    if (at->prog.pid <= 0)
        return;
    if (at->stopped || !gently)
        exj_prog_signal(&at->prog, SIGKILL);
    else
        exj_prog_signal(&at->prog, SIGTERM);
    if (exj_prog_wait(&at->prog, 5000) == -1) {
        exj_prog_signal(&at->prog, SIGKILL);
        exj_prog_wait(&at->prog, 10000);
    }
    at->stopped = false;
}

/* ---- the set and the user -------------------------------------------------------- */

static void node_uri(const exj_test_mongo *m, int node, bool with_user, char ret[200])
{
    snprintf(ret, 200, "mongodb://%s127.0.0.1:%u/?directConnection=true",
             with_user ? EXJ_TEST_MONGO_USER ":" EXJ_TEST_MONGO_PASSWORD "@" : "",
             (unsigned)m->nodes[node].port);
}

static bool initiate(exj_test_mongo *m)
{
    bson_t *members = bson_new(), *command;
    bson_error_t why = { 0 };
    char uri[200];
    bool ok;

    for (int i = 0; i < m->n_nodes; i++) {
        bson_t *member;
        char key[4], host[32];

        snprintf(key, sizeof(key), "%d", i);
        snprintf(host, sizeof(host), "127.0.0.1:%u", (unsigned)m->nodes[i].port);
        member = BCON_NEW("_id", BCON_INT32(i), "host", BCON_UTF8(host));
        bson_append_document(members, key, -1, member);
        bson_destroy(member);
    }
    command =
        BCON_NEW("replSetInitiate", "{", "_id", "exj", "members", BCON_ARRAY(members),
                 "settings", "{", "electionTimeoutMillis", BCON_INT32(2000),
                 "heartbeatIntervalMillis", BCON_INT32(500), "}", "}");
    node_uri(m, 0, false, uri);
    ok = exj_mongo_admin(uri, command, 20000, NULL, &why);
    if (!ok)
        fprintf(stderr, "mongo: replSetInitiate: %s\n", why.message);
    bson_destroy(command);
    bson_destroy(members);
    return ok;
}

static bool create_user(exj_test_mongo *m, int node)
{
    bson_t *command =
        BCON_NEW("createUser", EXJ_TEST_MONGO_USER, "pwd", EXJ_TEST_MONGO_PASSWORD,
                 "roles", "[", "{", "role", "root", "db", "admin", "}", "]");
    bson_error_t why = { 0 };
    char uri[200];
    bool ok;

    node_uri(m, node, false, uri);
    ok = exj_mongo_admin(uri, command, 20000, NULL, &why);
    if (!ok)
        fprintf(stderr, "mongo: createUser: %s\n", why.message);
    bson_destroy(command);
    return ok;
}

static bool is_primary(exj_test_mongo *m, int node)
{
    bson_t *command, reply;
    bson_iter_t it;
    bson_error_t why;
    char uri[200];
    bool ok;

    if (m->nodes[node].prog.pid <= 0 || m->nodes[node].stopped)
        return false;
    node_uri(m, node, false, uri);
    command = BCON_NEW("hello", BCON_INT32(1));
    ok = exj_mongo_admin(uri, command, 1000, &reply, &why) &&
         bson_iter_init_find(&it, &reply, "isWritablePrimary") && bson_iter_as_bool(&it);
    bson_destroy(&reply);
    bson_destroy(command);
    return ok;
}

int exj_test_mongo_primary(exj_test_mongo *m)
{
    for (int i = 0; i < m->n_nodes; i++)
        if (is_primary(m, i))
            return i;
    return -1;
}

static bool has_primary(void *user)
{
    return exj_test_mongo_primary(user) >= 0;
}

bool exj_test_mongo_wait_primary(exj_test_mongo *m, unsigned ms)
{
    return exj_until(has_primary, m, -1, 20, ms);
}

static void write_key(const exj_test_mongo *m)
{
    char path[400];

    node_path(m, 0, "key", path);
    exj_spit(path, "ZXhlbGxpeGpvYnN0ZXN0a2V5\n");
    if (chmod(path, 0400) != 0)
        exj_support_die("chmod %s", path);
}

static bool start_all(exj_test_mongo *m)
{
    bool mongod = m->kind == EXJ_TEST_MONGO_MONGOD;

    for (int i = 0; i < m->n_nodes; i++) {
        char path[400];

        node_path(m, i, "data", path);
        if (mkdir(path, 0700) != 0)
            exj_support_die("mkdir %s", path);
    }
    if (mongod && m->opts.auth)
        write_key(m);
    for (int i = 0; i < m->n_nodes; i++)
        if (!start_node(m, i, mongod && m->opts.auth, true))
            return false;
    if (mongod && !initiate(m))
        return false;
    if (!exj_test_mongo_wait_primary(m, START_MS)) {
        fprintf(stderr, "mongo: no primary after %d s\n", START_MS / 1000);
        return false;
    }
    if (m->opts.auth && !create_user(m, exj_test_mongo_primary(m)))
        return false;
    if (m->opts.auth && !mongod) {
        /* Its users are made while it lets everybody in. */
        end_node(&m->nodes[0], true);
        return start_node(m, 0, true, false) && exj_test_mongo_wait_primary(m, START_MS);
    }
    return true;
}

/* ---- the whole ------------------------------------------------------------------- */

static void make_uri(exj_test_mongo *m)
{
    const char *user =
        m->opts.auth ? EXJ_TEST_MONGO_USER ":" EXJ_TEST_MONGO_PASSWORD "@" : "";

    if (m->n_nodes == 1)
        node_uri(m, 0, m->opts.auth, m->uri);
    else
        snprintf(m->uri, sizeof(m->uri),
                 "mongodb://%s127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u/?replicaSet=exj",
                 user, (unsigned)m->nodes[0].port, (unsigned)m->nodes[1].port,
                 (unsigned)m->nodes[2].port);
}

/* Turning off what is not on changes nothing, and is refused where there is nothing. */
static bool has_fail_points(const exj_test_mongo *m)
{
    bson_t *command = BCON_NEW("configureFailPoint", "failCommand", "mode", "off");
    bson_error_t why;
    bool ok = exj_mongo_admin(m->uri, command, 10000, NULL, &why);

    bson_destroy(command);
    return ok;
}

bool exj_test_mongo_start(exj_test_mongo *m, const exj_test_mongo_opts *opts)
{
    int64_t began = exj_test_now_ms();
    char what[100], *version;
    bool ok;

    memset(m, 0, sizeof(*m));
    if (opts)
        m->opts = *opts;
    for (int i = 0; i < EXJ_TEST_MONGO_NODES; i++)
        m->nodes[i].prog.pidfd = -1;
    if (!choose(m))
        return false;
    if (m->kind != EXJ_TEST_MONGO_OWN) {
        m->n_nodes = m->kind == EXJ_TEST_MONGO_MONGOD && m->opts.nodes == 3 ? 3 : 1;
        exj_tmp_make(&m->tmp);
        exj_support_forget_tmp(&m->tmp);
        remember(m);
        ok = start_all(m);
        if (!ok) {
            exj_test_mongo_end(m);
            return false;
        }
        make_uri(m);
        m->can_kill = true;
        m->can_elect = m->n_nodes > 1;
    }
    if (!exj_test_mongo_ask(m->uri, what, sizeof(what))) {
        exj_test_mongo_end(m);
        return false;
    }
    m->fail_points = m->opts.fail_points && has_fail_points(m);
    snprintf(m->server, sizeof(m->server), "%s, %s", what,
             m->kind == EXJ_TEST_MONGO_OWN ? "the operator's (EXELLIX_TEST_MONGODB_URI)"
             : m->n_nodes == 3             ? "a replica set of three"
                                           : "one node");
    version = strchr(what, ' ');
    snprintf(m->version, sizeof(m->version), "%.*s", (int)strcspn(version + 1, " "),
             version + 1);
    m->start_ms = exj_test_now_ms() - began;
    return true;
}

void exj_test_mongo_end(exj_test_mongo *m)
{
    for (int i = 0; i < m->n_nodes; i++)
        end_node(&m->nodes[i], false); /* its data goes too: no need to be gentle */
    if (m->tmp.path[0])
        exj_support_remove_tree(m->tmp.path);
    m->tmp.path[0] = '\0';
    m->n_nodes = 0;
    m->can_kill = m->can_elect = false;
    if (servers_owner == getpid())
        for (int i = 0; i < SERVERS_MAX; i++)
            if (servers[i] == m)
                servers[i] = NULL;
}

void exj_test_mongo_kill_9(exj_test_mongo *m, int node)
{
    exj_prog_signal(&m->nodes[node].prog, SIGKILL);
    if (m->nodes[node].prog.pid > 0)
        exj_prog_wait(&m->nodes[node].prog, 20000);
    m->nodes[node].stopped = false;
}

void exj_test_mongo_stop(exj_test_mongo *m, int node)
{
    siginfo_t info;

    if (m->nodes[node].prog.pid <= 0)
        return;
    exj_prog_signal(&m->nodes[node].prog, SIGSTOP);
    /* On a busy machine a thread of it may go on answering for a while. */
    while (waitid(P_PID, (id_t)m->nodes[node].prog.pid, &info,
                  WSTOPPED | WEXITED | WNOWAIT) < 0)
        if (errno != EINTR)
            exj_support_die("waitid");
    m->nodes[node].stopped = true;
}

void exj_test_mongo_cont(exj_test_mongo *m, int node)
{
    exj_prog_signal(&m->nodes[node].prog, SIGCONT);
    m->nodes[node].stopped = false;
}

bool exj_test_mongo_restart(exj_test_mongo *m, int node)
{
    if (m->nodes[node].prog.pid > 0)
        exj_test_mongo_kill_9(m, node);
    return start_node(m, node, m->opts.auth, false) &&
           (m->n_nodes > 1 || exj_test_mongo_wait_primary(m, START_MS));
}

const char *exj_test_mongo_shared(const exj_test_mongo_opts *opts)
{
    static exj_test_mongo own;
    const char *uri = getenv("EXJ_TEST_MONGO_URI");

    if (uri && *uri)
        return uri;
    if (!exj_test_mongo_start(&own, opts))
        return NULL;
    fprintf(stderr, "mongo: %s, started in %lld ms\n", own.server,
            (long long)own.start_ms);
    setenv("EXJ_TEST_MONGO_URI", own.uri, 1);
    setenv("EXJ_TEST_MONGO_SERVER", own.server, 1);
    return own.uri;
}
