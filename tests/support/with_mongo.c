/* tests/support/with_mongo.c - runs a command with a MongoDB server (mongo_server.h).
 *
 *   with_mongo [--nodes 3] [--fail-points] [--sync-on-commit] [--auth] [--] COMMAND...
 *
 * The command finds EXJ_TEST_MONGO_URI and EXJ_TEST_MONGO_SERVER (a line for people) in
 * its environment; the first line of the output names the server. It dies with
 * with_mongo, and the server too. The exit status is the command's; 128 + signal; 2:
 * wrong arguments; 3: there is no server.
 *
 * Inside another with_mongo whose server can do what is wanted, no other one is started.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/mongo_server.h"

static volatile sig_atomic_t child;

static void pass_on(int sig)
{
    if (child > 0)
        kill((pid_t)child, sig);
}

static int usage(const char *word)
{
    fprintf(stderr,
            "with_mongo: \"%s\" is not understood\n"
            "usage: with_mongo [--nodes 1|3] [--fail-points] [--sync-on-commit] [--auth] "
            "[--] COMMAND...\n",
            word);
    return 2;
}

/* "nodes=1 fail-points=1 sync=0 auth=0": what the server of an outer with_mongo can do.
 */
static bool outer_will_do(const exj_test_mongo_opts *o)
{
    const char *can = getenv("EXJ_TEST_MONGO_CAN"), *uri = getenv("EXJ_TEST_MONGO_URI");
    int nodes, fail_points, sync, auth;

    return uri && *uri && can &&
           sscanf(can, "nodes=%d fail-points=%d sync=%d auth=%d", &nodes, &fail_points,
                  &sync, &auth) == 4 &&
           nodes >= o->nodes && fail_points >= o->fail_points &&
           sync >= o->sync_on_commit && auth == o->auth;
}

static void tell(const exj_test_mongo *m)
{
    char can[80];

    snprintf(can, sizeof(can), "nodes=%d fail-points=%d sync=%d auth=%d",
             m->opts.nodes > 1 ? m->opts.nodes : 1, m->opts.fail_points,
             m->opts.sync_on_commit, m->opts.auth);
    setenv("EXJ_TEST_MONGO_URI", m->uri, 1);
    setenv("EXJ_TEST_MONGO_SERVER", m->server, 1);
    setenv("EXJ_TEST_MONGO_CAN", can, 1);
    /* libmongoc of a process that is killed would leave a file in /dev/shm for good. */
    setenv("MONGOC_DISABLE_SHM", "1", 1);
}

static int run(char **argv)
{
    struct sigaction on = { .sa_handler = pass_on };
    pid_t parent = getpid(), pid;
    int status;

    for (size_t i = 0; i < 3; i++)
        sigaction((const int[]){ SIGINT, SIGTERM, SIGHUP }[i], &on, NULL);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(126);
        execvp(argv[0], argv);
        fprintf(stderr, "with_mongo: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    if (pid < 0) {
        perror("with_mongo: fork");
        return 126;
    }
    child = pid;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 126;
    child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    exj_test_mongo_opts o = { .nodes = 1 };
    exj_test_mongo m;
    int i, rc;

    for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--nodes") == 0 && i + 1 < argc) {
            o.nodes = atoi(argv[++i]);
            if (o.nodes != 1 && o.nodes != 3)
                return usage(argv[i]);
        } else if (strcmp(argv[i], "--fail-points") == 0) {
            o.fail_points = true;
        } else if (strcmp(argv[i], "--sync-on-commit") == 0) {
            o.sync_on_commit = true;
        } else if (strcmp(argv[i], "--auth") == 0) {
            o.auth = true;
        } else {
            return usage(argv[i]);
        }
    }
    if (i >= argc)
        return usage("no command");
    if (outer_will_do(&o)) {
        printf("mongo: %s\n", getenv("EXJ_TEST_MONGO_SERVER"));
        return run(argv + i);
    }
    if (!exj_test_mongo_start(&m, &o))
        return 3;
    printf("mongo: %s; started in %lld ms\n", m.server, (long long)m.start_ms);
    tell(&m);
    rc = run(argv + i);
    exj_test_mongo_end(&m);
    return rc;
}
