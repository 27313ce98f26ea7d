/* exellix-jobs: reads the command line and the settings, runs one command, exits. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/main/cmd_plugin.h"
#include "core/main/out.h"
#include "core/plugin/check.h"
#include "core/store/store.h"

extern char **environ;

static void warn(const char *line)
{
    fprintf(stderr, "exellix-jobs: warning: %s\n", line);
}

/* One that only asks must not tell of the store it opened: that is for workers. */
static void quiet_unless_asked(const exj_settings *s)
{
    if (s->at[EXJ_SET_LOG_LEVEL].origin == EXJ_FROM_DEFAULT)
        exj_log_setup(EXJ_LOG_WARN, !isatty(STDERR_FILENO));
}

static exj_exit run_command(exj_cli *c)
{
    exj_err err = { 0 };

    if (!c->command->no_settings) {
        exj_code rc = exj_settings_load(&c->settings, environ, ".env", warn, &err);

        if (rc != EXJ_OK)
            return exj_fail(c, rc == EXJ_NOMEM ? EXJ_EXIT_FAILED : EXJ_EXIT_USAGE, "%s",
                            err.text);
        exj_log_from_settings(&c->settings);
        if (c->command->run != exj_cmd_serve)
            quiet_unless_asked(&c->settings);
    }
    c->color = exj_out_color(c);
    return c->command->run(c);
}

int main(int argc, char **argv)
{
    exj_cli cli = { 0 };
    exj_err err = { 0 };
    exj_exit status;

    if (argc == 5 && strcmp(argv[1], EXJ_PLUGIN_CHECK_WORD) == 0)
        return exj_plugin_check_child(argv[2], atoi(argv[3]), argv[4]);
    if (argc > 2 && strcmp(argv[1], EXJ_TOOL_BENCH_WORD) == 0)
        return exj_tool_bench_child((const char *const *)argv + 2, argc - 2);
    if (argc > 2 && strcmp(argv[1], EXJ_TOOL_REPLAY_WORD) == 0)
        return exj_tool_replay_child((const char *const *)argv + 2, argc - 2);

    signal(SIGPIPE, SIG_IGN);  /* a closed pipe is an error of write, told in one line */
    mallopt(M_ARENA_MAX, 2);   /* many threads, little memory */
    exj_sqlite_own_process();

    if (exj_cli_parse(argc, argv, &cli, &err) != EXJ_OK) {
        status = exj_fail(&cli, EXJ_EXIT_USAGE, "%s", err.text);
    } else if (cli.flags[EXJ_CLI_HELP]) {
        exj_cli_help(cli.command);
        status = exj_out_finish(&cli, EXJ_EXIT_OK);
    } else if (!cli.command) {
        status = exj_fail(&cli, EXJ_EXIT_USAGE,
                          "no command given; 'exellix-jobs help' lists them");
    } else {
        status = run_command(&cli);
    }
    exj_settings_release(&cli.settings);
    return (int)status;
}
