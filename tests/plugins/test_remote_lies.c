/* Plugin hosts that break the rules of the wire: ended, named, and nobody else is harmed. */
#include "tests/plugins/house.h"

/* ---- hosts that lie -------------------------------------------------------------------------- */

/* With EXELLIX_PLUGIN_FAKE set this program, started as a plugin host, is one that misbehaves. */
static exj_wire *fake;

static exj_frame fake_next(void)
{
    struct pollfd p = { .fd = exj_wire_fd(fake), .events = POLLIN };
    exj_frame f;
    exj_code rc;

    while ((rc = exj_wire_receive(fake, &f, NULL)) == EXJ_BUSY)
        poll(&p, 1, LATE_MS);
    if (rc)
        _exit(0);
    return f;
}

static void fake_say(exj_frame_type type, uint64_t call, const exj_buf *b)
{
    exj_slice body = b ? exj_buf_slice(b) : (exj_slice){ "", 0 };

    if (exj_wire_send(fake, type, call, body, NULL) || exj_wire_drain(fake, NULL))
        _exit(0);
}

static void fake_result(uint64_t call, uint32_t result)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, result);
    exj_wire_u32(&b, 1);
    exj_wire_text(&b, exj_slice_of(""));
    exj_wire_text(&b, exj_slice_of(""));
    exj_wire_text(&b, exj_slice_of("fake"));
    exj_wire_u64(&b, 1);
    fake_say(EXJ_F_RESULT, call, &b);
    exj_buf_release(&b);
}

static void fake_texts(exj_frame_type type, uint64_t call, const char *one, const char *two)
{
    exj_buf b = EXJ_BUF_INIT;

    if (type == EXJ_F_LOG)
        exj_wire_u32(&b, 0);
    exj_wire_text(&b, exj_slice_of(one));
    if (two)
        exj_wire_text(&b, exj_slice_of(two));
    fake_say(type, call, &b);
    exj_buf_release(&b);
}

static void fake_start(bool good)
{
    exj_buf b = EXJ_BUF_INIT;

    fake_next();
    exj_wire_u32(&b, good ? EXJ_WIRE_VERSION : 9);
    exj_wire_u32(&b, 0);
    exj_wire_u32(&b, 0);
    fake_say(EXJ_F_HOST_HELLO, 0, &b);
    fake_next();
    exj_buf_reset(&b);
    exj_wire_u32(&b, EXJ_R_OK);
    exj_wire_text(&b, exj_slice_of(""));
    fake_say(EXJ_F_CREATED, 0, &b);
    exj_buf_release(&b);
}

static void fake_raw(const void *bytes, size_t n)
{
    if (send(EXJ_HOST_FD_SOCKET, bytes, n, MSG_NOSIGNAL) < 0)
        _exit(0);
}

static void fake_random(uint64_t x)
{
    for (;;) {
        unsigned char bytes[64];

        for (size_t k = 0; k < sizeof bytes; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            bytes[k] = (unsigned char)(x >> 33) & (x >> 60 ? 0xff : 0);
        }
        if (x >> 63) { /* a head that is well-formed but for its call */
            memset(bytes, 0, EXJ_WIRE_HEAD);
            bytes[0] = 8;
            bytes[4] = (unsigned char)(EXJ_F_HOST_HELLO + (x >> 40) % 20);
        }
        fake_raw(bytes, EXJ_WIRE_HEAD + 8);
    }
}

static void fake_play(const char *mode)
{
    uint64_t first;

    if (!strcmp(mode, "silent"))
        for (;;)
            fake_next();
    if (!strcmp(mode, "early"))
        fake_result(1, EXJ_R_OK);
    if (!strcmp(mode, "refuse")) {
        fake_texts(EXJ_F_REFUSED, 0, "it does not load: no thanks", NULL);
        return;
    }
    fake_start(strcmp(mode, "version") != 0);
    first = fake_next().call;
    if (!strcmp(mode, "unknown"))
        fake_raw("\0\0\0\0\x32\0\0\0\0\0\0\0\0\0\0\0", EXJ_WIRE_HEAD);
    else if (!strcmp(mode, "core"))
        fake_say(EXJ_F_BYE, first, NULL);
    else if (!strcmp(mode, "stranger"))
        fake_result(first ^ 4096, EXJ_R_OK);
    else if (!strcmp(mode, "short"))
        fake_say(EXJ_F_RESULT, first, NULL);
    else if (!strcmp(mode, "large"))
        fake_raw("\xff\xff\xff\xff\x43\0\0\0\0\0\0\0\0\0\0\0", EXJ_WIRE_HEAD);
    else if (!strcmp(mode, "pending"))
        fake_say(EXJ_F_PENDING, first ^ 4096, NULL);
    else if (!strcmp(mode, "emit"))
        fake_texts(EXJ_F_EMIT, first ^ 4096, "{}", NULL);
    else if (!strcmp(mode, "step"))
        fake_texts(EXJ_F_STEP_PUT, 0, "one", "{}");
    else if (!strcmp(mode, "order"))
        fake_result(fake_next().call, EXJ_R_OK);
    else if (!strcmp(mode, "half"))
        fake_raw("\x08\0\0\0\x43\0\0", 7);
    else if (!strcmp(mode, "random"))
        fake_random(strtoull(getenv("EXELLIX_PLUGIN_SEED"), NULL, 0));
    else if (!strcmp(mode, "lie"))
        for (;; first = fake_next().call)
            fake_result(first, EXJ_R_CRASHED);
    else if (!strcmp(mode, "twice"))
        for (;; fake_result(first, EXJ_R_OK))
            ;
    else if (!strcmp(mode, "flood"))
        for (;;)
            fake_texts(EXJ_F_LOG, 0, "again and again", NULL);
    else if (!strcmp(mode, "deaf"))
        for (;;)
            pause();
    else if (!strcmp(mode, "fork")) {
        if (fork() == 0) {
            int fd = open(getenv("EXELLIX_PLUGIN_FIFO"), O_WRONLY);

            for (;;)
                if (fd >= 0)
                    pause();
        }
        fake_result(first, EXJ_R_OK);
        fake_next();
        abort();
    }
    if (!strcmp(mode, "half"))
        return;
    for (;;)
        fake_next();
}

__attribute__((constructor)) static void play_host(int argc, char **argv)
{
    const char *mode = getenv("EXELLIX_PLUGIN_FAKE");

    if (argc != 4 || !mode || (strcmp(argv[1], "host") && strcmp(argv[1], "sandbox")))
        return;
    if (exj_wire_new(EXJ_HOST_FD_SOCKET, EXJ_WIRE_MAX, &fake, NULL) == EXJ_OK)
        fake_play(mode);
    _exit(0);
}

static struct house *house_with(const char *mode)
{
    struct house *h = house_open(EXJ_LANE_HOST);

    cr_assert_eq(setenv("EXELLIX_PLUGIN_FAKE", mode, 1), 0);
    h->s.host_exe = "/proc/self/exe";
    return h;
}

Test(remote_lies, host_that_breaks_a_rule_is_ended_and_named)
{
    static const struct {
        const char *mode, *says;
    } lies[] = { { "unknown", "unknown type 50" },
                 { "core", "is not a plugin host's to send" },
                 { "stranger", "a RESULT of a call that does not run" },
                 { "short", "a RESULT is cut short" },
                 { "large", "4294967295 bytes" },
                 { "pending", "PENDING of a call that does not run" },
                 { "emit", "for a call that does not run" },
                 { "step", "for a call that does not run" },
                 { "order", "a RESULT of a call that does not run" } };
    struct house *h = house_with("none");

    for (unsigned k = 0; k < sizeof lies / sizeof *lies; k++) {
        bool order = strcmp(lies[k].mode, "order") == 0;
        struct batch *b = batch_new(order ? 2 : 1);

        setenv("EXELLIX_PLUGIN_FAKE", lies[k].mode, 1);
        for (unsigned m = 0; m < b->n; m++)
            one_start(h, &b->all[m]);
        batch_wait(b, 1);
        cr_assert_eq(b->all[0].result, EXJ_R_CRASHED, "%s: %d", lies[k].mode, b->all[0].result);
        says(b->all[0].text, "broke the rules of its connection");
        says(b->all[0].text, lies[k].says);
        while (order && !batch_has(b, 2)) { /* the next host waits for another call for ever */
            exj_remote_kill(h->i);
            poll(NULL, 0, 5);
        }
        batch_free(b);
    }
    house_close(h);
}

Test(remote_lies, result_that_is_the_cores_to_give_is_not_believed)
{
    struct house *h = house_with("lie");
    struct one o = ask(h, "echo");

    cr_assert_eq(o.result, EXJ_R_INTERNAL);
    cr_assert_str_eq(o.code, "UnknownResult");
    cr_assert_eq(h->crashes, 0);
    house_close(h);
}

Test(remote_lies, second_result_ends_the_host_and_not_the_call)
{
    struct house *h = house_with("twice");
    struct one o = ask(h, "echo");

    is_ok(&o, "fake");
    for (unsigned k = 0; look(h).crashes == 0 && k < 1000; k++)
        poll(NULL, 0, 5);
    cr_assert_eq(look(h).crashes, 1);
    cr_assert_eq(h->crashes, 0, "no call was in it");
    house_close(h);
}

Test(remote_lies, host_that_ends_within_a_frame_has_crashed)
{
    struct house *h = house_with("half");
    struct one o = ask(h, "echo");

    cr_assert_eq(o.result, EXJ_R_CRASHED);
    says(o.text, "ended with exit status 0");
    house_close(h);
}

Test(remote_lies, host_that_is_never_ready_is_named)
{
    static const struct {
        const char *mode, *says;
    } lies[] = { { "silent", "not ready after 200 ms" },
                 { "version", "it speaks version 9" },
                 { "early", "while it is started" },
                 { "refuse", "no thanks" } };

    for (unsigned k = 0; k < sizeof lies / sizeof *lies; k++) {
        struct house *h = house_with(lies[k].mode);
        struct one o;

        h->s.start_ms = 200;
        o = ask(h, "echo");
        cr_assert_eq(o.result, EXJ_R_RETRY);
        cr_assert_str_eq(o.code, "HostStart");
        says(o.text, lies[k].says);
        house_close(h);
    }
}

Test(remote_lies, file_that_no_host_describes_is_refused)
{
    static const struct {
        const char *mode, *says;
    } lies[] = { { "silent", "not ready after 200 ms" },
                 { "version", "it speaks version 9" },
                 { "early", "a frame of type 67 before HELLO" },
                 { "refuse", "no thanks" } };

    for (unsigned k = 0; k < sizeof lies / sizeof *lies; k++) {
        struct house *h = house_new(EXJ_LANE_HOST);
        exj_err err;

        build(&h->r, "guest", "", ENGINE("0", "", "return " EMIT_OK ";"));
        setenv("EXELLIX_PLUGIN_FAKE", lies[k].mode, 1);
        h->s.host_exe = "/proc/self/exe";
        h->s.start_ms = 200;
        err = refusal(&h->r, "guest");
        says(err.text, lies[k].says);
        house_close(h);
    }
}

Test(remote_lies, random_bytes_end_the_host_and_nothing_else)
{
    uint64_t seed = (uint64_t)time(NULL) * 1000003u;
    struct house *h = house_with("random");
    char text[32];

    if (getenv("EXJ_TEST_SEED"))
        seed = strtoull(getenv("EXJ_TEST_SEED"), NULL, 0);
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    for (unsigned k = 0; k < 40; k++) {
        struct one o;

        snprintf(text, sizeof text, "%llu", (unsigned long long)seed + k);
        setenv("EXELLIX_PLUGIN_SEED", text, 1);
        o = ask_until(h, "echo", in_ms(5000));
        cr_assert_eq(o.result, EXJ_R_CRASHED, "%d %s", o.result, o.text);
        setenv("EXELLIX_PLUGIN_FAKE", "lie", 1); /* a call that ends well ends the back-off */
        cr_assert_eq(ask(h, "echo").result, EXJ_R_INTERNAL);
        exj_remote_kill(h->i);
        setenv("EXELLIX_PLUGIN_FAKE", "random", 1);
    }
    house_close(h);
}

Test(remote_lies, host_that_floods_or_does_not_listen_is_ended_at_the_deadline)
{
    static const char *const modes[] = { "flood", "deaf" };

    for (unsigned k = 0; k < 2; k++) {
        struct house *h = house_with(modes[k]);
        struct batch *b = batch_new(40);
        size_t n = 60000;
        char *text = calloc(1, n);

        exj_log_setup(EXJ_LOG_INFO, true);
        for (unsigned m = 0; m < b->n; m++) {
            b->all[m].args.runtime = (exj_str){ text, n };
            b->all[m].args.deadline_ns = in_ms(300);
        }
        for (unsigned m = 0; m < b->n; m++)
            one_start(h, &b->all[m]);
        batch_wait(b, 1);
        cr_assert_eq(b->all[0].result, EXJ_R_DEADLINE);
        setenv("EXELLIX_PLUGIN_FAKE", "lie", 1); /* who waited behind it is answered */
        batch_wait_for_all(b);
        cr_assert_eq(b->all[39].result, EXJ_R_INTERNAL);
        batch_free(b);
        free(text);
        house_close(h);
    }
}

Test(remote_lies, children_of_a_dead_host_die_with_it)
{
    struct house *h = house_with("fork");
    char fifo[128];
    struct pollfd p;
    struct one o;

    snprintf(fifo, sizeof fifo, "%s/fifo", h->r.dir);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    p = (struct pollfd){ .fd = open(fifo, O_RDONLY | O_NONBLOCK), .events = POLLIN };
    setenv("EXELLIX_PLUGIN_FIFO", fifo, 1);
    o = ask(h, "echo");
    is_ok(&o, "fake");
    {
        int w = open(fifo, O_WRONLY); /* so that there is a writer from now on */

        o = ask(h, "echo"); /* the host dies of it */
        cr_assert_eq(o.result, EXJ_R_CRASHED);
        close(w);
    }
    p.events = 0;
    cr_assert_eq(poll(&p, 1, LATE_MS), 1, "what it forked goes on");
    cr_assert(p.revents & POLLHUP);
    close(p.fd);
    house_close(h);
}
