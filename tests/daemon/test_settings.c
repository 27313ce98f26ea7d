/* Settings: five sources, their order, and what is said of a wrong value. */
#include "tests/daemon/cli_support.h"

TestSuite(settings, .init = cli_setup, .fini = cli_teardown);

/* The value and origin `config` shows; false: it did not end well. */
static void show(const char *name, char *value, char *origin, const char *flag)
{
    json_t *o, *s;
    size_t i;

    cr_assert_eq(flag ? RUN("config", "--json", flag) : RUN("config", "--json"), 0, "%s",
                 said_err);
    o = said_json();
    *value = *origin = '\0';
    json_array_foreach(json_object_get(o, "settings"), i, s) {
        const char *v = json_string_value(json_object_get(s, "value"));

        if (strcmp(json_string_value(json_object_get(s, "name")), name) != 0)
            continue;
        snprintf(value, 200, "%s", v ? v : "(none)");
        snprintf(origin, 200, "%s", json_string_value(json_object_get(s, "origin")));
    }
    json_decref(o);
}

Test(settings, flag_beats_environment_beats_dotenv_beats_file_beats_default)
{
    char value[200], origin[200];

    show("PORT", value, origin, NULL);
    cr_expect_str_eq(value, "8080");
    cr_expect_str_eq(origin, "default");

    exj_spit(exj_tmp_path(&tmp, "c.json"), "{\"PORT\": 1001}");
    env[2] = "EXELLIX_JOBS_CONFIG_FILE=c.json";
    show("PORT", value, origin, NULL);
    cr_expect_str_eq(value, "1001");
    cr_expect_str_eq(origin, "c.json");

    exj_spit(exj_tmp_path(&tmp, ".env"), "# ours\nexport PORT='1002'\n");
    show("PORT", value, origin, NULL);
    cr_expect_str_eq(value, "1002");
    cr_expect_str_eq(origin, ".env:2");

    env[3] = "PORT=1003";
    show("PORT", value, origin, NULL);
    cr_expect_str_eq(value, "1003");
    cr_expect_str_eq(origin, "environment");

    show("PORT", value, origin, "--port=1004");
    cr_expect_str_eq(value, "1004");
    cr_expect_str_eq(origin, "flag --port");
}

Test(settings, config_hides_the_key_and_the_password)
{
    env[2] = "EXELLIX_JOBS_API_KEY=topsecret";
    env[3] = "MONGO_URI=mongodb://ann:pass@word@h:1/db";
    cr_assert_eq(RUN("config"), 0);
    cr_expect_null(strstr(said_out, "topsecret"));
    cr_expect_null(strstr(said_out, "word"), "%s", said_out);
    cr_expect_not_null(strstr(said_out, "mongodb://ann:(hidden)@h:1/db"), "%s", said_out);
}

Test(settings, every_name_of_the_spec_is_shown)
{
    static const char *const names[] = {
        "MONGO_URI", "execution_db", "config_db", "PORT", "JOBS_HTTP_PREFIX",
        "MATRIX_WORKER_ID", "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS",
        "EXELLIX_JOBS_GRAPH_SCHEDULABILITY_STRICT", "EXELLIX_JOBS_HTTP_ENABLED",
        "EXELLIX_JOBS_API_KEY", "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP",
        "EXELLIX_JOBS_HOST_BOOTSTRAP", "EXELLIX_JOBS_PLUGINS_DIR",
        "EXELLIX_JOBS_ACTIVIX_SCHEDULER_PROBE",
    };

    cr_assert_eq(RUN("config"), 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        cr_expect_not_null(strstr(said_out, names[i]), "%s is missing", names[i]);
}

Test(settings, a_wrong_value_stops_with_variable_value_and_what_is_allowed)
{
    static const struct {
        const char *pair, *parts[2];
    } cases[] = {
        { "PORT=abc", { "PORT=abc", "0 to 65535" } },
        { "PORT=65536", { "PORT=65536", "0 to 65535" } },
        { "PORT= 80", { "PORT= 80", "whole number" } },
        { "PORT=99999999999999999999", { "PORT=", "0 to 65535" } },
        { "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS=-1", { "CLAIMS=-1", "1 to 1024" } },
        { "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS=0", { "CLAIMS=0", "1 to 1024" } },
        { "EXELLIX_JOBS_HTTP_ENABLED=maybe", { "ENABLED=maybe", "true or false" } },
        { "JOBS_HTTP_PREFIX=v1/", { "PREFIX=v1/", "/v1" } },
        { "EXELLIX_JOBS_DURABILITY=some", { "DURABILITY=some", "full|fast" } },
        { "EXELLIX_JOBS_GRAPH_RUNNING_STATES=Ready,Runing", { "Runing", "NotOperational" } },
        { "EXELLIX_JOBS_LOG_LEVEL=loud", { "LEVEL=loud", "debug|info|warn|error" } },
        { "EXELLIX_JOBS_DATA_DIR=a\nb", { "EXELLIX_JOBS_DATA_DIR", "control" } },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        env[2] = cases[i].pair;
        expect_refusal(RUN("serve"), 2, cases[i].parts[0]);
        cr_expect(strstr(said_err, cases[i].parts[1]) != NULL, "wanted \"%s\" in: %s",
                  cases[i].parts[1], said_err);
    }
}

Test(settings, a_mistake_in_dotenv_is_told_with_its_line)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        { "PORT=1\nnonsense\n", ".env: line 2: wanted KEY=VALUE" },
        { "PORT=\"1\n", ".env: line 1: a quote" },
        { "A='x' y\n", ".env: line 1: text after" },
        { "\nA=\xff\n", ".env: line 2: not UTF-8" },
        { "\n\nPORT=-4\n", "PORT=-4 (.env:3)" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_spit(exj_tmp_path(&tmp, ".env"), cases[i].text);
        expect_refusal(RUN("serve"), 2, cases[i].part);
    }
}

Test(settings, an_unknown_name_of_ours_in_dotenv_is_a_warning_with_the_nearest)
{
    exj_spit(exj_tmp_path(&tmp, ".env"), "OTHER=1\nEXELLIX_JOBS_API_KY=x\n");
    cr_expect_eq(RUN("config"), 0);
    cr_expect_eq(lines_of(said_err), 1, "%s", said_err);
    cr_expect_not_null(strstr(said_err, ".env:2"));
    cr_expect_not_null(strstr(said_err, "did you mean EXELLIX_JOBS_API_KEY"), "%s", said_err);
}

Test(settings, dotenv_reads_quotes_comments_and_escapes)
{
    char value[200], origin[200];

    exj_spit(exj_tmp_path(&tmp, ".env"),
             "\xef\xbb\xbf" "config_db = bad\n");
    expect_refusal(RUN("config"), 2, "line 1");
    exj_spit(exj_tmp_path(&tmp, ".env"),
             "config_db=a#b # comment\nexecution_db=\"x \\\"y\\\" $HOME\"\r\n"
             "MATRIX_WORKER_ID='w #1'\n");
    show("config_db", value, origin, NULL);
    cr_expect_str_eq(value, "a#b");
    show("execution_db", value, origin, NULL);
    cr_expect_str_eq(value, "x \"y\" $HOME");
    show("MATRIX_WORKER_ID", value, origin, NULL);
    cr_expect_str_eq(value, "w #1");
}

Test(settings, the_config_file_has_closed_keys_and_is_checked)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        { "{\"PRT\":1}", "did you mean PORT" },
        { "{\"PORT\":1.5}", "wanted a string, a whole number or a boolean" },
        { "{\"PORT\":[1]}", "PORT: wanted" },
        { "[]", "wanted a JSON object" },
        { "{\"PORT\":1", "c.json: " },
        { "{\"PORT\":70000}", "PORT=70000 (c.json)" },
        { "{\"EXELLIX_JOBS_CONFIG_FILE\":\"d.json\"}", "cannot name another" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_spit(exj_tmp_path(&tmp, "c.json"), cases[i].text);
        expect_refusal(RUN("config", "--config-file", "c.json"), 2, cases[i].part);
    }
    expect_refusal(RUN("config", "--config-file", "absent.json"), 2, "absent.json");
}

Test(settings, what_this_build_cannot_do_is_refused_not_ignored)
{
    env[2] = "MONGO_URI=mongodb://u:hunter2@h/db";
    expect_refusal(RUN("serve"), 1, "MongoDB store is not part of this build yet");
    cr_expect_null(strstr(said_err, "hunter2"));
    expect_refusal(RUN("graphs"), 1, "MONGO_URI");
    expect_refusal(RUN("doctor"), 1, "doctor knows only the embedded store");
    expect_refusal(RUN("backup", "b"), 1, "backup knows only the embedded store");
    expect_refusal(RUN("restore", "b"), 1, "restore knows only the embedded store");
    cr_expect_null(strstr(said_err, "hunter2"));
}

Test(settings, an_empty_value_counts_as_not_set)
{
    char value[200], origin[200];

    env[2] = "PORT=";
    show("PORT", value, origin, NULL);
    cr_expect_str_eq(value, "8080");
    cr_expect_str_eq(origin, "default");
}

Test(settings, booleans_stand_alone_or_with_a_value_behind_the_sign)
{
    char value[200], origin[200];

    show("EXELLIX_JOBS_GRAPH_SCHEDULABILITY_STRICT", value, origin, "--strict");
    cr_expect_str_eq(value, "true");
    show("EXELLIX_JOBS_HTTP_ENABLED", value, origin, "--http=no");
    cr_expect_str_eq(value, "no");
    expect_refusal(RUN("config", "--http=nope"), 2, "EXELLIX_JOBS_HTTP_ENABLED=nope");
}
