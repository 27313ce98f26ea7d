/* exellix.sink-file: whole lines, none lost that was accepted, whatever crashes or is full. */
#include "tests/plugins/sinks.h"

#include <sys/file.h>
#include <sys/resource.h>

TestSuite(sink_file, .init = sinks_init, .fini = sinks_fini);

/* The whole file; "" when it is not there. free() it. */
static char *slurp(const char *name)
{
    char path[200], *text = calloc(1, 1 << 20);
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "r");
    if (f) {
        cr_assert_lt(fread(text, 1, (1 << 20) - 1, f), (1u << 20) - 1);
        fclose(f);
    }
    return text;
}

static void holds(const char *name, const char *wanted)
{
    char *text = slurp(name);

    cr_assert_str_eq(text, wanted, "%s", name);
    free(text);
}

static char *batch_of(int number)
{
    char *text = NULL;

    cr_assert(asprintf(&text, BATCH("{\"number\":%d,\"kind\":\"completed\",\"text\":\"%0*d\"}"), number,
                       900, 7) > 0);
    return text;
}

/* Marks in `seen` the numbers of a file of whole lines; how many lines there are. */
static int numbers_in(const char *name, bool *seen, int most)
{
    char *text = slurp(name), *line, *rest = text;
    int n = 0;

    cr_assert(!*text || text[strlen(text) - 1] == '\n', "%s ends in a torn line", name);
    while ((line = strsep(&rest, "\n")) && *line) {
        json_t *o = json_loads(line, 0, NULL);
        int number;

        cr_assert_not_null(o, "%s: %s", name, line);
        number = (int)json_integer_value(json_object_get(o, "number"));
        cr_assert(number >= 0 && number < most);
        seen[number] = true;
        json_decref(o);
        n++;
    }
    free(text);
    return n;
}

/* spec 2.7: Shipped sinks: webhook (HMAC-signed), JSONL file. */
Test(sink_file, each_event_is_a_line_in_the_order_of_the_batches)
{
    struct sink k = file_sink("");

    accepts(&k, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "a", "claimed")));
    accepts(&k, BATCH("{\"number\":3,\n \"kind\":\"completed\"}"));
    sink_close(&k);
    holds("events.jsonl", EVENT(1, "a", "queued") "\n" EVENT(2, "a", "claimed") "\n"
                          "{\"number\":3,  \"kind\":\"completed\"}\n");
}

Test(sink_file, only_chosen_events_are_written)
{
    struct sink k = file_sink("\"events\":[\"failed\"]");

    accepts(&k, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "a", "failed")));
    sink_close(&k);
    holds("events.jsonl", EVENT(2, "a", "failed") "\n");
}

Test(sink_file, a_full_file_is_set_aside_and_so_many_stay)
{
    struct sink k = file_sink("\"maxBytes\":4096,\"keep\":3");
    bool seen[40] = { false };

    for (int n = 0; n < 40; n++) {
        char *batch = batch_of(n);

        accepts(&k, batch);
        free(batch);
    }
    sink_close(&k);
    /* four lines a file; of ten files the last four are there */
    cr_assert_eq(numbers_in("events.jsonl", seen, 40), 4);
    cr_assert_eq(numbers_in("events.jsonl.1", seen, 40), 4);
    cr_assert_eq(numbers_in("events.jsonl.2", seen, 40), 4);
    cr_assert_eq(numbers_in("events.jsonl.3", seen, 40), 4);
    cr_assert_eq(numbers_in("events.jsonl.4", seen, 40), 0);
    for (int n = 0; n < 40; n++)
        cr_assert_eq(seen[n], n >= 24, "%d", n);
}

Test(sink_file, nothing_is_thrown_away_early_when_a_number_is_missing)
{
    struct sink k = file_sink("\"maxBytes\":4096,\"keep\":3");

    spit("events.jsonl.1", "{\"one\":1}\n");
    spit("events.jsonl.3", "{\"three\":3}\n");
    for (int n = 0; n < 5; n++) {
        char *batch = batch_of(n);

        accepts(&k, batch);
        free(batch);
    }
    sink_close(&k);
    holds("events.jsonl.2", "{\"one\":1}\n");
    holds("events.jsonl.3", "{\"three\":3}\n");
}

Test(sink_file, a_batch_that_does_not_fit_on_the_disk_leaves_nothing_behind)
{
    struct sink k = file_sink("");
    struct rlimit was, little = { 1500, RLIM_INFINITY };
    char *batch = batch_of(1);
    exj_call_end end;

    signal(SIGXFSZ, SIG_IGN);
    accepts(&k, batch);
    free(batch);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
    batch = batch_of(2);
    end = sink_call(&k, batch);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
    cr_assert_eq(end.result, EXJ_R_RETRY);
    slice_says(end.error_text, "events.jsonl: cannot be written: File too large");
    {
        bool seen[3] = { false };

        cr_assert_eq(numbers_in("events.jsonl", seen, 3), 1);
        accepts(&k, batch);
        cr_assert_eq(numbers_in("events.jsonl", seen, 3), 2);
    }
    free(batch);
    sink_close(&k);
}

Test(sink_file, a_torn_last_line_is_cut_off_before_anything_is_added)
{
    struct sink k;

    spit("events.jsonl", EVENT(1, "a", "queued") "\n{\"number\":2,\"ki");
    k = file_sink("");
    holds("events.jsonl", EVENT(1, "a", "queued") "\n");
    accepts(&k, BATCH(EVENT(2, "a", "claimed")));
    holds("events.jsonl", EVENT(1, "a", "queued") "\n" EVENT(2, "a", "claimed") "\n");
    sink_close(&k);
    spit("events.jsonl", "{\"number\":1");
    k = file_sink("");
    holds("events.jsonl", "");
    sink_close(&k);
}

Test(sink_file, a_file_of_somebody_else_is_left_alone)
{
    char config[200];

    spit("notes.txt", "first\nsecond without an end");
    snprintf(config, sizeof config, "{\"path\":\"%s/notes.txt\"}", folder);
    is_refused(FILE_SO, config, "none of ours");
    holds("notes.txt", "first\nsecond without an end");
}

Test(sink_file, a_file_that_was_renamed_is_made_anew)
{
    struct sink k = file_sink("");

    accepts(&k, BATCH(EVENT(1, "a", "queued")));
    shell("mv '%s/events.jsonl' '%s/taken'", folder, folder);
    accepts(&k, BATCH(EVENT(2, "a", "claimed")));
    sink_close(&k);
    holds("taken", EVENT(1, "a", "queued") "\n");
    holds("events.jsonl", EVENT(2, "a", "claimed") "\n");
}

Test(sink_file, a_second_writer_waits_for_another_try)
{
    struct sink k = file_sink("");
    char path[200];
    exj_call_end end;
    int fd;

    snprintf(path, sizeof path, "%s/events.jsonl", folder);
    fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(flock(fd, LOCK_EX), 0);
    end = sink_call(&k, BATCH(EVENT(1, "a", "queued")));
    cr_assert_eq(end.result, EXJ_R_RETRY);
    slice_says(end.error_text, "somebody else writes to it");
    close(fd);
    accepts(&k, BATCH(EVENT(1, "a", "queued")));
    sink_close(&k);
}

Test(sink_file, its_config_is_judged_and_the_file_opened_at_once)
{
    char config[300];
    static const char *const cases[][2] = {
        { "{}", "config.path is missing" },
        { "{\"path\":\"events.jsonl\"}", "config.path: wanted an absolute path" },
        { "{\"path\":\"/nowhere/at/all/x\"}", "/nowhere/at/all/x: cannot open it: No such file" },
        { "{\"path\":\"/dev/null\"}", "/dev/null: wanted a regular file" },
        { "{\"path\":\"/tmp/x\",\"maxBytes\":100}", "config.maxBytes: wanted" },
        { "{\"path\":\"/tmp/x\",\"keep\":0}", "config.keep: wanted 1 to 1000" },
        { "{\"path\":\"/tmp/x\",\"keep\":1001}", "config.keep: wanted 1 to 1000" },
        { "{\"path\":\"/tmp/x\",\"events\":7}", "config.events: wanted a list" },
        { "{\"path\":\"/tmp/x\",\"rotate\":7}", "config: unknown member; wanted path" },
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        is_refused(FILE_SO, cases[k][0], cases[k][1]);
    snprintf(config, sizeof config, "{\"path\":\"%s\"}", folder);
    is_refused(FILE_SO, config, "cannot open it");
}

/* A child appends and says, after each batch, that it was accepted; it is killed in the
 * middle of it. What it said is there. */
Test(sink_file, what_was_accepted_survives_a_kill)
{
    bool seen[4000];
    int accepted[2];

    for (int round = 0; round < 5; round++) {
        struct sink k;
        char *last = NULL, line[32];
        int highest = -1, n = 0;
        FILE *said;
        pid_t child;

        memset(seen, 0, sizeof seen);
        shell("rm -f '%s'/events.jsonl*", folder);
        cr_assert_eq(pipe2(accepted, O_CLOEXEC), 0);
        child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            k = file_sink("\"maxBytes\":20000,\"keep\":1000");
            for (n = 0; n < 4000; n++) {
                char *batch = batch_of(n);

                if (sink_call(&k, batch).result != EXJ_R_OK)
                    _exit(1);
                free(batch);
                dprintf(accepted[1], "%d\n", n);
            }
            _exit(0);
        }
        close(accepted[1]);
        said = fdopen(accepted[0], "r");
        while (fgets(line, sizeof line, said)) {
            highest = atoi(line);
            if (highest == 20 + round * 7)
                kill(child, SIGKILL);
        }
        fclose(said);
        cr_assert_eq(waitpid(child, NULL, 0), child);
        cr_assert_geq(highest, 20);
        k = file_sink(""); /* cuts off what is torn */
        sink_close(&k);
        numbers_in("events.jsonl", seen, 4000);
        for (int nth = 1; nth < 1000; nth++) {
            cr_assert(asprintf(&last, "events.jsonl.%d", nth) > 0);
            if (numbers_in(last, seen, 4000) == 0)
                nth = 1000;
            free(last);
        }
        for (n = 0; n <= highest; n++)
            cr_assert(seen[n], "number %d of %d was accepted and is gone", n, highest);
    }
}

Test(sink_file, in_a_plugin_host_it_does_the_same)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    struct sink k;
    char config[300];

    snprintf(config, sizeof config, "{\"path\":\"%s/events.jsonl\",\"maxBytes\":4096}", folder);
    k = sink_open(h->r.registry, FILE_SO, config);
    for (int n = 0; n < 10; n++) {
        char *batch = batch_of(n);

        accepts(&k, batch);
        free(batch);
    }
    sink_drop(&k);
    house_close(h);
    {
        bool seen[10] = { false };

        cr_assert_eq(numbers_in("events.jsonl", seen, 10) + numbers_in("events.jsonl.1", seen, 10) +
                         numbers_in("events.jsonl.2", seen, 10), 10);
    }
}
