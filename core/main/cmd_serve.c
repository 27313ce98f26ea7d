/* serve: the worker until a signal. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/main/worker.h"

#define LOOK_MS 500 /* how soon a store that failed ends the process */

static void say_start(const exj_worker *w)
{
    const exj_settings *s = w->settings;
    exj_buf executor = EXJ_BUF_INIT;
    bool stub = false;

    exj_log(EXJ_LOG_INFO, "main", "exellix-jobs %s, worker %s, pid %ld", EXJ_VERSION,
            exj_settings_text(s, EXJ_SET_WORKER_ID), (long)getpid());
    exj_log(EXJ_LOG_INFO, "main", "store %s (%s, durability %s)", w->wiring.health.where,
            w->wiring.health.backend, exj_settings_text(s, EXJ_SET_DURABILITY));
    exj_log(EXJ_LOG_INFO, "main", "plugins %s", exj_settings_text(s, EXJ_SET_PLUGINS_DIR));
    exj_engine_executor(w->wiring.engine, &executor, &stub);
    if (!stub) /* the engine has said so loudly */
        exj_log(EXJ_LOG_INFO, "main", "executor %s, %s at once",
                executor.p ? executor.p : "?", exj_settings_text(s, EXJ_SET_MAX_CLAIMS));
    exj_buf_release(&executor);
    if (exj_settings_number(s, EXJ_SET_HTTP)) {
        const char *prefix = exj_settings_text(s, EXJ_SET_PREFIX);

        exj_log(EXJ_LOG_INFO, "main", "listening on http://%s:%u%s and %s",
                exj_settings_text(s, EXJ_SET_BIND), exj_server_port(w->wiring.server),
                prefix ? prefix : "", w->socket);
    } else {
        exj_log(EXJ_LOG_INFO, "main", "HTTP is off; listening on %s", w->socket);
    }
}

/* Until a signal (its number) or the store failed (0). */
static int wait_for_end(const exj_worker *w, int signals)
{
    for (;;) {
        exj_engine_counts counts;
        int sig = exj_signals_wait(signals, LOOK_MS);

        if (sig)
            return sig;
        exj_engine_get_counts(w->wiring.engine, &counts);
        if (counts.store_failed)
            return 0;
    }
}

exj_exit exj_cmd_serve(exj_cli *c)
{
    exj_worker_options o = {
        .command = "serve",
        .serves = true,
    };
    exj_worker w;
    exj_err err = { 0 };
    uint32_t left;
    int signals = exj_signals_open(), sig;

    if (signals < 0)
        return exj_fail(c, EXJ_EXIT_FAILED, "cannot watch signals");
    if (exj_worker_open(&w, &c->settings, &o, &err) != EXJ_OK) {
        close(signals);
        return exj_fail_err(c, &err);
    }
    say_start(&w);
    exj_service_notify("READY=1");

    sig = wait_for_end(&w, signals);
    exj_service_notify("STOPPING=1");
    exj_signals_arm_exit();
    if (sig)
        exj_log(EXJ_LOG_INFO, "main", "%s: stopping; again to stop at once",
                sig == SIGINT ? "SIGINT" : "SIGTERM");
    else
        exj_log(EXJ_LOG_ERROR, "main", "the store failed: ending, so that a restart finds it");
    left = exj_worker_close(&w);
    if (left) {
        exj_log(EXJ_LOG_WARN, "main", "%u executions outlasted the grace: left to their leases",
                left);
        fflush(NULL);
        _exit(sig ? EXJ_EXIT_OK : EXJ_EXIT_FAILED); /* they still run: no atexit under them */
    }
    exj_log(EXJ_LOG_INFO, "main", "stopped");
    close(signals);
    return sig ? EXJ_EXIT_OK : EXJ_EXIT_FAILED;
}
