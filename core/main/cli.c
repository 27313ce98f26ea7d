#include "core/main/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/main/out.h"

#define BIT(id) (UINT64_C(1) << EXJ_CLI_##id)
#define ANYWHERE (BIT(HELP) | BIT(JSON) | BIT(NO_COLOR))

static const struct flag_info {
    const char *name;
    char letter;
    const char *value, *help;
} flag_infos[EXJ_CLI_COUNT] = {
#define EXJ_X(id, name, letter, value, help) { name, letter, value, help },
    EXJ_FLAGS_TABLE(EXJ_X)
#undef EXJ_X
};

static const exj_command commands[] = {
    { "serve", "", 0, 0, 0, "run the worker and its HTTP doors until a signal",
      { "exellix-jobs serve", "exellix-jobs serve --port 9090 --executor my-engine" },
      false, exj_cmd_serve },
    { "run", "", 0, 0, BIT(UNTIL_IDLE) | BIT(MAX) | BIT(MATRIX),
      "do the work that is there, then end",
      { "exellix-jobs run --until-idle", "exellix-jobs run --matrix m1 --max 1000 --json" },
      false, exj_cmd_run },
    { "apply", "", 0, 0, BIT(FILE) | BIT(DRY_RUN),
      "store graph and matrix configs, all or none",
      { "exellix-jobs apply -f configs/ --dry-run", "exellix-jobs apply -f matrix.json" },
      false, exj_cmd_apply },
    { "get graph", "[ID]", 0, 1, 0, "print a graph config, or list them",
      { "exellix-jobs get graph", "exellix-jobs get graph g1" }, false, exj_cmd_get_graph },
    { "get matrix", "[ID]", 0, 1, 0, "print a matrix config, or list them",
      { "exellix-jobs get matrix", "exellix-jobs get matrix m1 --json" }, false,
      exj_cmd_get_matrix },
    { "delete graph", "ID", 1, 1, BIT(DRY_RUN) | BIT(YES), "delete a graph config",
      { "exellix-jobs delete graph g1 --dry-run", "exellix-jobs delete graph g1 --yes" },
      false, exj_cmd_delete_graph },
    { "delete matrix", "ID", 1, 1, BIT(DRY_RUN) | BIT(YES), "delete a matrix config",
      { "exellix-jobs delete matrix m1 --dry-run", "exellix-jobs delete matrix m1 --yes" },
      false, exj_cmd_delete_matrix },
    { "get schedule", "[ID]", 0, 1, 0, "print a schedule, or list them",
      { "exellix-jobs get schedule", "exellix-jobs get schedule nightly --json" }, false,
      exj_cmd_get_schedule },
    { "delete schedule", "ID", 1, 1, BIT(DRY_RUN) | BIT(YES), "delete a schedule",
      { "exellix-jobs delete schedule nightly --dry-run",
        "exellix-jobs delete schedule nightly --yes" },
      false, exj_cmd_delete_schedule },
    { "schedules list", "", 0, 0, BIT(LIMIT) | BIT(AFTER),
      "list schedules with their last and next ticks",
      { "exellix-jobs schedules list", "exellix-jobs schedules list --json" }, false,
      exj_cmd_schedules_list },
    { "schedules show", "ID", 1, 1, BIT(LIMIT), "show a schedule and its next ticks",
      { "exellix-jobs schedules show nightly",
        "exellix-jobs schedules show nightly --limit 30 --json" },
      false, exj_cmd_schedules_show },
    { "schedules pause", "ID", 1, 1, 0, "let no tick fire until it is resumed",
      { "exellix-jobs schedules pause nightly", "exellix-jobs schedules pause nightly --json" },
      false, exj_cmd_schedules_pause },
    { "schedules resume", "ID", 1, 1, 0, "let ticks from now on fire again",
      { "exellix-jobs schedules resume nightly",
        "exellix-jobs schedules resume nightly --json" },
      false, exj_cmd_schedules_resume },
    { "schedules trigger", "ID", 1, 1, 0, "start now what a tick starts",
      { "exellix-jobs schedules trigger nightly",
        "exellix-jobs schedules trigger nightly --json" },
      false, exj_cmd_schedules_trigger },
    { "tick", "", 0, 0, 0, "once, without a daemon: what time brings about",
      { "exellix-jobs tick", "exellix-jobs tick --json && exellix-jobs run --max 1000" }, false,
      exj_cmd_tick },
    { "exec", "ROW", 1, 1, 0, "once, without a daemon: execute one queued row",
      { "exellix-jobs exec 'm1||g1|r1'", "exellix-jobs exec 'm1||g1|r1' --json" }, false,
      exj_cmd_exec },
    { "graphs", "", 0, 0, 0, "list graphs with their states and matrices",
      { "exellix-jobs graphs", "exellix-jobs graphs --json" }, false, exj_cmd_graphs },
    { "matrices", "", 0, 0, 0, "list matrices with their graphs",
      { "exellix-jobs matrices", "exellix-jobs matrices --json" }, false, exj_cmd_matrices },
    { "rows list", "", 0, 0,
      BIT(MATRIX) | BIT(GRAPH) | BIT(RUN) | BIT(STATUS) | BIT(LIMIT) | BIT(AFTER),
      "list rows, oldest first",
      { "exellix-jobs rows list --status failed",
        "exellix-jobs rows list --matrix m1 --limit 20" },
      false, exj_cmd_rows_list },
    { "rows show", "ID", 1, 1, 0, "print one row and its timeline",
      { "exellix-jobs rows show 'm1||g1|r1'", "exellix-jobs rows show 'm1||g1|r1' --json" },
      false, exj_cmd_rows_show },
    { "rows retry", "ID", 1, 1, 0, "queue a failed or blocked row again",
      { "exellix-jobs rows retry 'm1||g1|r1'",
        "exellix-jobs rows retry 'm1||g1|r1' --json" },
      false, exj_cmd_rows_retry },
    { "rows rerun", "ID", 1, 1, BIT(FROM), "run an ended row again, its first steps kept",
      { "exellix-jobs rows rerun 'm1||g1|r1' --from report",
        "exellix-jobs rows rerun 'm1||g1|r1' --json" },
      false, exj_cmd_rows_rerun },
    { "rows cancel", "ID", 1, 1, BIT(REASON), "cancel a row, or ask it to stop if it runs",
      { "exellix-jobs rows cancel 'm1||g1|r1' --reason 'asked twice'",
        "exellix-jobs rows cancel 'm1||g1|r1' --json" },
      false, exj_cmd_rows_cancel },
    { "rows signal", "ID NAME", 2, 2, BIT(FILE), "send a row the signal it waits for",
      { "exellix-jobs rows signal 'm1||g1|r1' approved",
        "echo '{\"by\":\"Ada\"}' | exellix-jobs rows signal 'm1||g1|r1' approved --file -" },
      false, exj_cmd_rows_signal },
    { "journal show", "ID", 1, 1, BIT(LIMIT), "print what happened to a row, oldest first",
      { "exellix-jobs journal show 'm1||g1|r1'",
        "exellix-jobs journal show 'm1||g1|r1' --json" },
      false, exj_cmd_journal_show },
    { "journal verify", "", 0, 0, 0, "hold every row against its journal",
      { "exellix-jobs journal verify", "exellix-jobs journal verify --json" }, false,
      exj_cmd_journal_verify },
    { "check-history", "FILE...", 1, EXJ_CLI_MAX_ARGS, BIT(LEASE_MS),
      "say whether the promises held in what --record wrote",
      { "exellix-jobs check-history history.jsonl",
        "exellix-jobs check-history *.jsonl --data-dir ./data --json" },
      false, exj_cmd_check_history },
    { "snapshots show", "ID", 1, 1, BIT(LIMIT), "print a query snapshot and its first records",
      { "exellix-jobs snapshots show 0b3f1c --limit 3", "exellix-jobs snapshots show 0b3f1c --json" },
      false, exj_cmd_snapshots_show },
    { "trigger", "MATRIX|GRAPH", 1, 1,
      BIT(INPUT) | BIT(ID) | BIT(PRIORITY) | BIT(RUN_AFTER) | BIT(UNIQUE_KEY) | BIT(GRAPH),
      "make a row of each graph of a matrix, or of one graph",
      { "exellix-jobs trigger nightly --input record.json",
        "echo '{\"day\":3}' | exellix-jobs trigger m1 --input - --id day-3 --priority 5" },
      false, exj_cmd_trigger },
    { "events push", "MATRIX", 1, 1, BIT(FILE) | BIT(AUTO_ID),
      "send a file of events, one a line, into a matrix",
      { "exellix-jobs events push orders --file orders.ndjson",
        "zcat orders.gz | exellix-jobs events push orders --file - --json" },
      false, exj_cmd_events_push },
    { "kv list", "GRAPH", 1, 1, BIT(LIMIT) | BIT(AFTER),
      "list what plugins keep for a graph, by key",
      { "exellix-jobs kv list g1", "exellix-jobs kv list g1 --after cursor --json" }, false,
      exj_cmd_kv_list },
    { "kv get", "GRAPH KEY", 2, 2, 0, "print the value of a key",
      { "exellix-jobs kv get g1 cursor", "exellix-jobs kv get g1 cursor --json" }, false,
      exj_cmd_kv_get },
    { "kv delete", "GRAPH KEY", 2, 2, BIT(YES), "remove a key of a graph",
      { "exellix-jobs kv delete g1 cursor --yes", "exellix-jobs kv delete g1 cursor" }, false,
      exj_cmd_kv_delete },
    { "archive", "FILE", 1, 1, BIT(BEFORE) | BIT(MATRIX) | BIT(RESTORE),
      "move ended rows to a file of JSON lines, or bring them back",
      { "exellix-jobs archive old.jsonl --before 30d --matrix m1",
        "exellix-jobs archive old.jsonl --restore" },
      false, exj_cmd_archive },
    { "backup", "DIR", 1, 1, 0, "copy the store into a new folder, also while a worker runs",
      { "exellix-jobs backup /backups/monday", "exellix-jobs backup ./copy --json" }, false,
      exj_cmd_backup },
    { "restore", "DIR", 1, 1, 0, "make the store from a backup; there must be none yet",
      { "exellix-jobs restore /backups/monday --data-dir ./data",
        "exellix-jobs restore ./copy --json" },
      false, exj_cmd_restore },
    { "doctor", "", 0, 0, BIT(FIX), "check the store; --fix, with no worker running, mends it",
      { "exellix-jobs doctor", "exellix-jobs doctor --fix --json" }, false, exj_cmd_doctor },
    { "status", "", 0, 0, BIT(MATRIX), "show what the worker does",
      { "exellix-jobs status", "exellix-jobs status --matrix m1 --json" }, false,
      exj_cmd_status },
    { "pause", "", 0, 0, 0, "stop claiming; what runs goes on",
      { "exellix-jobs pause", "exellix-jobs pause --data-dir ./data" }, false,
      exj_cmd_pause },
    { "resume", "", 0, 0, 0, "claim again",
      { "exellix-jobs resume", "exellix-jobs resume --data-dir ./data" }, false,
      exj_cmd_resume },
    { "plugin list", "", 0, 0, 0, "list plugins, and beside a worker each of their generations",
      { "exellix-jobs plugin list", "exellix-jobs plugin list --plugins-dir ./plugins" },
      false, exj_cmd_plugin_list },
    { "plugin inspect", "NAME", 1, 1, 0, "show what a plugin says about itself",
      { "exellix-jobs plugin inspect stub", "exellix-jobs plugin inspect ./my-engine.so" },
      false, exj_cmd_plugin_inspect },
    { "plugin check", "FILE", 1, 1, BIT(LEVEL) | BIT(CONFIG), "judge a plugin in a process of its own",
      { "exellix-jobs plugin check ./my-engine.so",
        "exellix-jobs plugin check ./my-engine.so --level 4 --json" },
      false, exj_cmd_plugin_check },
    { "plugin new", "engine|resolver NAME", 2, 2, BIT(LANG) | BIT(DIR),
      "start a plugin that builds and passes its test",
      { "exellix-jobs plugin new engine acme.score",
        "exellix-jobs plugin new resolver acme.files --lang rust --dir files" },
      false, exj_cmd_plugin_new },
    { "plugin bench", "FILE", 1, 1, BIT(RECORD) | BIT(CALLS) | BIT(LANE),
      "measure the calls of a plugin",
      { "exellix-jobs plugin bench ./my-engine.so",
        "exellix-jobs plugin bench ./my-engine.so --record record.json --json" },
      false, exj_cmd_plugin_bench },
    { "plugin replay", "[ROW]", 0, 1, BIT(PLUGIN) | BIT(BUNDLE) | BIT(GDB),
      "run a row again, offline, from a bundle",
      { "exellix-jobs plugin replay 'm1||g1|r1' --bundle r1",
        "exellix-jobs plugin replay --bundle r1 --gdb" },
      false, exj_cmd_plugin_replay },
    { "plugin trust", "add FILE|list|remove SHA256", 1, 2, 0,
      "the contents that may be loaded when only listed ones may",
      { "exellix-jobs plugin trust add ./my-engine.so", "exellix-jobs plugin trust list" },
      false, exj_cmd_plugin_trust },
    { "plugin reload", "ID", 1, 1, 0, "look at a plugin's file now: judge, try and take it",
      { "exellix-jobs plugin reload acme.score", "exellix-jobs plugin reload acme.score --json" },
      false, exj_cmd_plugin_reload },
    { "plugin rollback", "ID", 1, 1, 0, "back to the content before, and pin it",
      { "exellix-jobs plugin rollback acme.score",
        "exellix-jobs plugin rollback acme.score --json" },
      false, exj_cmd_plugin_rollback },
    { "plugin trial", "ID [FILE]", 1, 2, 0, "try a content beside the worker; take nothing",
      { "exellix-jobs plugin trial acme.score",
        "exellix-jobs plugin trial acme.score ./my-engine.so --json" },
      false, exj_cmd_plugin_trial },
    { "plugin pin", "ID [SHA256]", 1, 2, 0, "let a plugin not leave a content",
      { "exellix-jobs plugin pin acme.score", "exellix-jobs plugin pin acme.score 9f86d081" },
      false, exj_cmd_plugin_pin },
    { "plugin unpin", "ID", 1, 1, 0, "let new contents in again",
      { "exellix-jobs plugin unpin acme.score", "exellix-jobs plugin unpin acme.score --json" },
      false, exj_cmd_plugin_unpin },
    { "plugin history", "ID", 1, 1, BIT(LIMIT), "what happened to a plugin's versions",
      { "exellix-jobs plugin history acme.score",
        "exellix-jobs plugin history acme.score --limit 10 --json" },
      false, exj_cmd_plugin_history },
    { "plugin versions", "ID", 1, 1, 0, "list the kept copies of a plugin",
      { "exellix-jobs plugin versions acme.score",
        "exellix-jobs plugin versions acme.score --json" },
      false, exj_cmd_plugin_versions },
    { "plugin release", "ID|SHA256", 1, 1, 0, "let a quarantined plugin run again",
      { "exellix-jobs plugin release acme.score", "exellix-jobs plugin release 9f86d081" },
      false, exj_cmd_plugin_release },
    { "dead-letters list", "", 0, 0, BIT(LIMIT) | BIT(AFTER),
      "list the events that a sink gave up after its tries",
      { "exellix-jobs dead-letters list", "exellix-jobs dead-letters list --json" }, false,
      exj_cmd_dead_letters_list },
    { "dead-letters show", "ID", 1, 1, 0, "print one with its event",
      { "exellix-jobs dead-letters show 7", "exellix-jobs dead-letters show 7 --json" }, false,
      exj_cmd_dead_letters_show },
    { "dead-letters replay", "ID", 1, 1, 0, "give it to its sink again, with all its tries",
      { "exellix-jobs dead-letters replay 7", "exellix-jobs dead-letters replay 7 --json" },
      false, exj_cmd_dead_letters_replay },
    { "dead-letters drop", "ID", 1, 1, BIT(YES), "forget one for good",
      { "exellix-jobs dead-letters drop 7 --yes", "exellix-jobs dead-letters drop 7" }, false,
      exj_cmd_dead_letters_drop },
    { "quarantine list", "", 0, 0, BIT(LIMIT) | BIT(AFTER),
      "list plugins and rows that were set aside because they crash",
      { "exellix-jobs quarantine list", "exellix-jobs quarantine list --json" }, false,
      exj_cmd_quarantine_list },
    { "quarantine release", "[ID|SHA256]", 0, 1, BIT(ROW),
      "let a plugin run again, or queue a row again",
      { "exellix-jobs quarantine release acme.score",
        "exellix-jobs quarantine release --row 'm1||g1|r1'" },
      false, exj_cmd_quarantine_release },
    { "ffi verify", "MANIFEST", 1, 1, BIT(NO_DWARF),
      "hold a manifest of exellix.ffi against its libraries",
      { "exellix-jobs ffi verify ./manifest.json",
        "exellix-jobs ffi verify graph.json --json" },
      true, exj_cmd_ffi_verify },
    { "config", "", 0, 0, 0, "print every setting, its value and where it came from",
      { "exellix-jobs config", "exellix-jobs config --json" }, false, exj_cmd_config },
    { "version", "", 0, 0, 0, "print the version",
      { "exellix-jobs version", "exellix-jobs version --json" }, true, exj_cmd_version },
    { "help", "[COMMAND]", 0, 2, 0, "show help",
      { "exellix-jobs help", "exellix-jobs help rows list" }, true, exj_cmd_help },
};
#define COMMANDS (sizeof(commands) / sizeof(*commands))

/* ---- finding -------------------------------------------------------------------------- */

/* Do the first `len` words of `c` spell `words`? */
static bool begins_with(const exj_command *c, const char *const *words, unsigned len,
                        bool whole)
{
    const char *at = c->words;

    for (unsigned i = 0; i < len; i++) {
        size_t n = strcspn(at, " ");

        if (strlen(words[i]) != n || memcmp(at, words[i], n) != 0)
            return false;
        at += n + (at[n] == ' ');
    }
    return !whole || !*at;
}

const exj_command *exj_cli_find(const char *const *words, unsigned len)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (begins_with(&commands[i], words, len, true))
            return &commands[i];
    return NULL;
}

static bool is_group(const char *word)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (begins_with(&commands[i], &word, 1, false) && strchr(commands[i].words, ' '))
            return true;
    return false;
}

/* Keeps the nearest of what it is shown. */
struct nearest {
    const char *word;
    char text[64], best[64];
    unsigned least;
};

static void consider(struct nearest *n, const char *candidate, size_t len)
{
    unsigned d;

    if (len >= sizeof(n->text))
        return;
    memcpy(n->text, candidate, len);
    n->text[len] = '\0';
    d = exj_edit_distance(n->word, n->text);
    if (d < n->least) {
        n->least = d;
        memcpy(n->best, n->text, len + 1);
    }
}

static struct nearest nearest_to(const char *word)
{
    size_t n = strlen(word);

    return (struct nearest){ .word = word, .least = n < 4 ? 2 : n < 8 ? 3 : 4 };
}

static exj_code unknown_word(const char *group, const char *word, exj_err *err)
{
    struct nearest n = nearest_to(word);

    for (size_t i = 0; i < COMMANDS; i++) {
        const char *w = commands[i].words, *space = strchr(w, ' ');

        if (!group)
            consider(&n, w, strcspn(w, " "));
        else if (space && begins_with(&commands[i], &group, 1, false))
            consider(&n, space + 1, strlen(space + 1));
    }
    if (n.best[0])
        return exj_err_set(err, EXJ_INVALID,
                           "unknown command '%s%s%.80s'; did you mean '%s%s%s'?",
                           group ? group : "", group ? " " : "", word, group ? group : "",
                           group ? " " : "", n.best);
    return exj_err_set(err, EXJ_INVALID,
                       "unknown command '%s%s%.80s'; 'exellix-jobs help' lists them",
                       group ? group : "", group ? " " : "", word);
}

static exj_code missing_word(const char *group, exj_err *err)
{
    char list[256] = "";
    size_t n = 0;

    for (size_t i = 0; i < COMMANDS; i++)
        if (begins_with(&commands[i], &group, 1, false) && strchr(commands[i].words, ' '))
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "",
                                  strchr(commands[i].words, ' ') + 1);
    return exj_err_set(err, EXJ_INVALID, "'%s' needs one of: %s", group, list);
}

static exj_code unknown_flag(const exj_command *c, const char *shown, exj_err *err)
{
    struct nearest n = nearest_to(shown + strspn(shown, "-"));

    for (int i = 0; i < EXJ_CLI_COUNT; i++)
        if (!c || ((c->flags | ANYWHERE) & (UINT64_C(1) << i)))
            consider(&n, flag_infos[i].name, strlen(flag_infos[i].name));
    for (int i = 0; i < EXJ_SETTING_COUNT; i++)
        if (exj_setting_infos[i].flag)
            consider(&n, exj_setting_infos[i].flag, strlen(exj_setting_infos[i].flag));
    if (n.best[0])
        return exj_err_set(err, EXJ_INVALID, "unknown flag '%.80s'; did you mean '--%s'?",
                           shown, n.best);
    return exj_err_set(err, EXJ_INVALID, "unknown flag '%.80s'; 'exellix-jobs %s%s' lists them",
                       shown, c ? c->words : "help", c ? " --help" : "");
}

/* ---- parsing ---------------------------------------------------------------------------- */

struct parser {
    int argc, at;
    char **argv;
    exj_cli *cli;
    const char *words[2];
    unsigned words_len;
};

static exj_code flag_value(struct parser *p, const char *shown, const char *inside,
                           const char **ret, exj_err *err)
{
    if (inside) {
        *ret = inside;
        return EXJ_OK;
    }
    if (p->at + 1 >= p->argc)
        return exj_err_set(err, EXJ_INVALID, "flag '%.80s' needs a value", shown);
    *ret = p->argv[++p->at];
    return EXJ_OK;
}

static exj_code take_flag(struct parser *p, int id, const char *shown, const char *inside,
                          exj_err *err)
{
    if (!flag_infos[id].value) {
        if (inside)
            return exj_err_set(err, EXJ_INVALID, "flag '--%s' takes no value",
                               flag_infos[id].name);
        p->cli->flags[id] = "";
        return EXJ_OK;
    }
    return flag_value(p, shown, inside, &p->cli->flags[id], err);
}

static exj_code take_setting(struct parser *p, exj_setting id, const char *shown,
                             const char *inside, exj_err *err)
{
    const char *value = inside;
    exj_code rc;

    /* A boolean may stand alone: --strict; its value only follows '='. */
    if (exj_setting_infos[id].kind == EXJ_SETTING_BOOL)
        value = inside ? inside : "true";
    else if ((rc = flag_value(p, shown, inside, &value, err)) != EXJ_OK)
        return rc;
    return exj_settings_set_flag(&p->cli->settings, id, value, err);
}

static exj_code take_long(struct parser *p, const char *arg, exj_err *err)
{
    const char *name = arg + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const char *inside = eq ? eq + 1 : NULL;
    char shown[96];

    snprintf(shown, sizeof(shown), "--%.*s", (int)(n > 80 ? 80 : n), name);
    for (int i = 0; i < EXJ_CLI_COUNT; i++)
        if (strlen(flag_infos[i].name) == n && memcmp(flag_infos[i].name, name, n) == 0)
            return take_flag(p, i, shown, inside, err);
    for (int i = 0; i < EXJ_SETTING_COUNT; i++) {
        const char *flag = exj_setting_infos[i].flag;

        if (flag && strlen(flag) == n && memcmp(flag, name, n) == 0)
            return take_setting(p, (exj_setting)i, shown, inside, err);
    }
    return unknown_flag(p->cli->command, shown, err);
}

static exj_code take_short(struct parser *p, const char *arg, exj_err *err)
{
    for (int i = 0; i < EXJ_CLI_COUNT; i++)
        if (flag_infos[i].letter && flag_infos[i].letter == arg[1]) {
            const char *rest = arg[2] == '=' ? arg + 3 : arg[2] ? arg + 2 : NULL;

            return take_flag(p, i, arg, rest, err);
        }
    return unknown_flag(p->cli->command, arg, err);
}

static exj_code take_word(struct parser *p, const char *word, exj_err *err)
{
    exj_cli *c = p->cli;

    if (!c->command) {
        p->words[p->words_len++] = word;
        c->command = exj_cli_find(p->words, p->words_len);
        if (c->command)
            return EXJ_OK;
        if (p->words_len == 1 && is_group(word))
            return EXJ_OK;
        return unknown_word(p->words_len == 2 ? p->words[0] : NULL, word, err);
    }
    if (c->args_len == c->command->max_args)
        return exj_err_set(err, EXJ_INVALID, "'%s' takes %s; '%.80s' is too much",
                           c->command->words,
                           c->command->max_args ? c->command->args : "no arguments", word);
    c->args[c->args_len++] = word;
    return EXJ_OK;
}

static bool takes(const exj_command *c, int flag)
{
    return (c->flags | ANYWHERE) & (UINT64_C(1) << flag);
}

/* Has the command a flag of its own by the name of this setting's? Then that is what it says. */
static bool is_hidden(const exj_command *c, int setting)
{
    for (int i = 0; i < EXJ_CLI_COUNT; i++)
        if (takes(c, i) && exj_setting_infos[setting].flag &&
            !strcmp(flag_infos[i].name, exj_setting_infos[setting].flag))
            return true;
    return false;
}

/* A flag that this command has not, though another has it, may be the name of a setting. */
static exj_code give_to_settings(exj_cli *c, exj_err *err)
{
    for (int i = 0; i < EXJ_CLI_COUNT; i++) {
        const char *value = c->flags[i];

        if (!value || takes(c->command, i))
            continue;
        for (int k = 0; k < EXJ_SETTING_COUNT; k++)
            if (exj_setting_infos[k].flag &&
                !strcmp(flag_infos[i].name, exj_setting_infos[k].flag)) {
                exj_code rc = exj_settings_set_flag(&c->settings, (exj_setting)k, value, err);

                if (rc != EXJ_OK)
                    return rc;
                c->flags[i] = NULL;
            }
    }
    return EXJ_OK;
}

/* Flags may come before the command, so what fits is only known at the end. */
static exj_code check_fit(const struct parser *p, exj_err *err)
{
    exj_cli *c = p->cli;
    exj_code rc;

    if (c->flags[EXJ_CLI_HELP])
        return EXJ_OK;
    if (!c->command && p->words_len)
        return missing_word(p->words[0], err);
    if (!c->command)
        return EXJ_OK;
    rc = give_to_settings(c, err);
    if (rc != EXJ_OK)
        return rc;
    for (int i = 0; i < EXJ_CLI_COUNT; i++)
        if (c->flags[i] && !takes(c->command, i))
            return exj_err_set(err, EXJ_INVALID, "'%s' has no flag '--%s'",
                               c->command->words, flag_infos[i].name);
    if (c->args_len < c->command->min_args)
        return exj_err_set(err, EXJ_INVALID, "'%s' needs %s", c->command->words,
                           c->command->args);
    return EXJ_OK;
}

exj_code exj_cli_parse(int argc, char **argv, exj_cli *ret, exj_err *err)
{
    struct parser p = { .argc = argc, .at = 1, .argv = argv, .cli = ret };
    bool only_words = false;

    for (; p.at < argc; p.at++) {
        const char *arg = argv[p.at];
        exj_code rc;

        if (only_words || arg[0] != '-' || !arg[1]) {
            rc = take_word(&p, arg, err);
        } else if (strcmp(arg, "--") == 0) {
            only_words = true;
            continue;
        } else if (arg[1] == '-') {
            rc = take_long(&p, arg, err);
        } else {
            rc = take_short(&p, arg, err);
        }
        if (rc != EXJ_OK)
            return rc;
    }
    ret->json = ret->flags[EXJ_CLI_JSON] != NULL;
    return check_fit(&p, err);
}

exj_code exj_cli_number(const exj_cli *c, exj_flag flag, int64_t low, int64_t high,
                        int64_t fallback, int64_t *ret, exj_err *err)
{
    const char *text = c->flags[flag];
    char *end;
    intmax_t v;

    if (!text) {
        *ret = fallback;
        return EXJ_OK;
    }
    errno = 0;
    v = strtoimax(text, &end, 10);
    if (errno || end == text || *end || strspn(text, "-0123456789") != strlen(text) ||
        v < low || v > high)
        return exj_err_set(err, EXJ_INVALID,
                           "--%s=%.80s: wanted a whole number from %" PRId64 " to %" PRId64,
                           flag_infos[flag].name, text, low, high);
    *ret = v;
    return EXJ_OK;
}

/* ---- help ----------------------------------------------------------------------------- */

static void print_flag(char letter, const char *name, const char *value, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "%c%c%s--%s%s%s", letter ? '-' : ' ', letter ? letter : ' ',
             letter ? ", " : "  ", name, value ? " " : "", value ? value : "");
    printf("  %-36s %s\n", left, help);
}

static void help_overview(void)
{
    printf("exellix-jobs %s - durable jobs, executors written in anything\n\n"
           "Usage: exellix-jobs COMMAND [ARGUMENTS] [FLAGS]\n\nCommands:\n",
           EXJ_VERSION);
    for (size_t i = 0; i < COMMANDS; i++) {
        char left[64];

        snprintf(left, sizeof(left), "%s %s", commands[i].words, commands[i].args);
        printf("  %-22s %s\n", left, commands[i].help);
    }
    printf("\nEvery command works beside a running daemon and without one.\n"
           "'exellix-jobs COMMAND --help' shows its flags, settings and examples.\n\n"
           "Exit status: 0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 changed by\n"
           "another, 6 did not pass its checks, 7 no daemon or store held by another, 8 some\n"
           "rows dead, 124 timed out, 130 interrupted.\n");
}

void exj_cli_help(const exj_command *c)
{
    if (!c) {
        help_overview();
        return;
    }
    printf("exellix-jobs %s - %s\n\nUsage: exellix-jobs %s%s%s [FLAGS]\n\nFlags:\n", c->words,
           c->help, c->words, *c->args ? " " : "", c->args);
    for (int i = 0; i < EXJ_CLI_COUNT; i++)
        if ((c->flags | ANYWHERE) & (UINT64_C(1) << i))
            print_flag(flag_infos[i].letter, flag_infos[i].name, flag_infos[i].value,
                       flag_infos[i].help);
    if (!c->no_settings) {
        printf("\nSettings (each is also a variable, see 'exellix-jobs config'):\n");
        for (int i = 0; i < EXJ_SETTING_COUNT; i++) {
            const exj_setting_info *s = &exj_setting_infos[i];

            if (s->flag && !is_hidden(c, i))
                print_flag(0, s->flag, s->kind == EXJ_SETTING_BOOL ? NULL : "VALUE", s->help);
        }
    }
    printf("\nExamples:\n  %s\n  %s\n", c->examples[0], c->examples[1]);
}

exj_exit exj_cmd_help(exj_cli *c)
{
    const exj_command *about = NULL;
    exj_err err = { 0 };

    if (c->args_len) {
        about = exj_cli_find(c->args, c->args_len);
        if (!about && c->args_len == 1 && is_group(c->args[0]))
            missing_word(c->args[0], &err);
        else if (!about)
            unknown_word(c->args_len == 2 && is_group(c->args[0]) ? c->args[0] : NULL,
                         c->args[c->args_len == 2 && is_group(c->args[0])], &err);
        if (!about)
            return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    }
    exj_cli_help(about);
    return EXJ_EXIT_OK;
}
