/* core/run/transform.c - see transform.h. One loop over two pipes with one deadline. */
#include "core/run/transform.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/job/record.h"
#include "core/plugin/spawn.h"
#include "core/transform/border.h"

#define CHUNK 65536u
#define LINE_MAX_BYTES (EXJ_RECORD_MAX_BYTES + 8192u) /* a record, its id and what is around them */
#define LOOK_MS 100

struct transform {
    exj_transform_options o; /* with its limits filled in */
    exj_child child;         /* results in `socket`, words in `log` */
    exj_nsec until;
    char *chunk;
    exj_buf line, id, words; /* line: what came of the one that is not yet whole */
    uint64_t bytes, records;
};

/* ---- one line ------------------------------------------------------------------------- */

static exj_code judge(struct transform *t, exj_slice line, exj_err *err)
{
    exj_slice id = { 0 }, record = { 0 };
    exj_json_kind kind;
    exj_json_iter it;
    exj_code rc = exj_json_check(line, EXJ_JSON_MAX_DEPTH, &kind, err);

    if (rc)
        return rc;
    if (kind != EXJ_JSON_OBJECT)
        return exj_err_set(err, EXJ_INVALID,
                           "wanted {\"id\": string, \"record\": object}, found %.*s",
                           (int)(line.n < 60 ? line.n : 60), line.p);
    exj_json_iter_init(&it, line);
    while (exj_json_iter_next(&it)) {
        if (exj_json_key_is(it.key, "id") && it.kind == EXJ_JSON_STRING && !id.n)
            id = it.value;
        else if (exj_json_key_is(it.key, "record") && it.kind == EXJ_JSON_OBJECT && !record.n)
            record = it.value;
        else
            return exj_err_set(err, EXJ_INVALID,
                               "member \"%.*s\": %.*s; wanted id (string) and record (object) "
                               "and nothing else",
                               (int)(it.key.n < 64 ? it.key.n : 64), it.key.n ? it.key.p : "",
                               (int)(it.value.n < 60 ? it.value.n : 60), it.value.p);
    }
    if (!id.n || !record.n)
        return exj_err_set(err, EXJ_INVALID, "it has no %s (%s)", id.n ? "record" : "id",
                           id.n ? "object" : "string");
    exj_buf_reset(&t->id);
    if (!exj_json_unescape(id, &t->id))
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    rc = exj_id_check(exj_buf_slice(&t->id), "record id", err);
    if (!rc)
        rc = exj_record_check(record, err);
    if (!rc && !t->o.visit(t->o.user, exj_buf_slice(&t->id), record, line))
        rc = exj_err_set(err, EXJ_CANCELLED, "stopped");
    return rc;
}

static exj_code take_line(struct transform *t, exj_slice line, exj_err *err)
{
    exj_err why = { 0 };
    exj_code rc;

    if (++t->records > t->o.records)
        return exj_err_set(err, EXJ_FULL,
                           "the transform gave more than %" PRIu64 " records: let it give fewer, "
                           "or raise its limit", t->o.records);
    rc = judge(t, line, &why);
    if (rc == EXJ_INVALID)
        return exj_err_set(err, rc, "record %" PRIu64 " of the transform: %s", t->records, why.text);
    return rc ? exj_err_set(err, rc, "%s", why.text) : EXJ_OK;
}

/* All whole lines of `got`; the rest waits in t->line. */
static exj_code take_bytes(struct transform *t, exj_slice got, exj_err *err)
{
    exj_code rc = EXJ_OK;

    t->bytes += got.n;
    if (t->bytes > t->o.output_bytes)
        return exj_err_set(err, EXJ_FULL,
                           "the transform gave more than %" PRIu64 " bytes: let it give less, or "
                           "raise its limit", t->o.output_bytes);
    while (got.n && !rc) {
        const char *stop = memchr(got.p, '\n', got.n);
        size_t n = stop ? (size_t)(stop - got.p) : got.n;

        if (t->line.n + n > LINE_MAX_BYTES)
            return exj_err_set(err, EXJ_INVALID,
                               "record %" PRIu64 " of the transform has more than %u bytes: send "
                               "a reference to large values instead of the values",
                               t->records + 1, EXJ_RECORD_MAX_BYTES);
        if (!stop || t->line.n) {
            if (!exj_buf_add(&t->line, got.p, n))
                return exj_err_set(err, EXJ_NOMEM, "out of memory");
        }
        if (stop) {
            rc = take_line(t, t->line.n ? exj_buf_slice(&t->line) : (exj_slice){ got.p, n }, err);
            exj_buf_reset(&t->line);
            n++;
        }
        got.p += n;
        got.n -= n;
    }
    return rc;
}

/* ---- its life ------------------------------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int in_memory(const char *name, exj_slice text)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    size_t at = 0;

    while (fd >= 0 && at < text.n) {
        ssize_t n = write(fd, text.p + at, text.n - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close_fd(&fd);
            break;
        }
        at += (size_t)n;
    }
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0)
        close_fd(&fd);
    return fd;
}

static exj_code start(struct transform *t, exj_transform_input input, exj_err *err)
{
    int results[2] = { -1, -1 }, words[2] = { -1, -1 }, text = -1, own = -1;
    char memory[16], seconds[16], name[] = "exellix-jobs-transform";
    char *argv[] = { name, memory, seconds, NULL };
    exj_code rc;

    snprintf(memory, sizeof memory, "%u", t->o.memory_mb);
    snprintf(seconds, sizeof seconds, "%u", t->o.seconds);
    text = in_memory("exellix-jq", t->o.program);
    own = input.fd < 0 ? in_memory("exellix-input", input.text) : -1;
    if (text < 0 || (input.fd < 0 && own < 0) || pipe2(results, O_CLOEXEC | O_NONBLOCK) < 0 ||
        pipe2(words, O_CLOEXEC | O_NONBLOCK) < 0 ||
        fcntl(results[1], F_SETFL, 0) < 0 || fcntl(words[1], F_SETFL, 0) < 0) {
        rc = exj_err_set(err, EXJ_IO, "cannot start a transform: %s", strerror(errno));
    } else {
        int fds[EXJ_TRANSFORM_FD_WORDS + 1] = { own >= 0 ? own : input.fd, results[1], -1 };

        fds[EXJ_TRANSFORM_FD_PROGRAM] = text;
        fds[EXJ_TRANSFORM_FD_WORDS] = words[1];
        rc = exj_spawn("transform program", t->o.exe, argv, fds, sizeof fds / sizeof *fds,
                       &t->child, err);
    }
    t->child.socket = results[0];
    t->child.log = words[0];
    close_fd(&results[1]);
    close_fd(&words[1]);
    close_fd(&text);
    close_fd(&own);
    return rc;
}

/* Read what is there. False: that was the end. */
static bool read_some(struct transform *t, int fd, exj_slice *ret)
{
    ssize_t n = read(fd, t->chunk, CHUNK);

    *ret = (exj_slice){ t->chunk, n > 0 ? (size_t)n : 0 };
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void read_words(struct transform *t)
{
    exj_slice got;

    while (read_some(t, t->child.log, &got) && got.n)
        if (t->words.n + got.n <= EXJ_TRANSFORM_WORDS_MAX)
            exj_buf_add_slice(&t->words, got);
}

static exj_code too_long(const struct transform *t, exj_err *err)
{
    return exj_err_set(err, EXJ_FULL,
                       "the transform ran longer than %u s and was ended: make it faster, or raise "
                       "its limit", t->o.seconds);
}

/* Until the results end. */
static exj_code listen_to(struct transform *t, exj_err *err)
{
    exj_code rc = EXJ_OK;

    for (;;) {
        struct pollfd p = { .fd = t->child.socket, .events = POLLIN };
        exj_nsec left = (t->until - exj_clock_mono_ns() + 999999) / 1000000;
        exj_slice got;

        if (left <= 0)
            return too_long(t, err);
        if (t->o.cancelled && t->o.cancelled(t->o.user))
            return exj_err_set(err, EXJ_CANCELLED, "stopped");
        if (poll(&p, 1, left < LOOK_MS ? (int)left : LOOK_MS) <= 0)
            continue;
        if (!read_some(t, t->child.socket, &got))
            return EXJ_OK;
        rc = take_bytes(t, got, err);
        if (rc)
            return rc;
    }
}

/* What its end means; it has said all it had to say. */
static exj_code judge_end(struct transform *t, exj_err *err)
{
    exj_nsec left = (t->until - exj_clock_mono_ns()) / 1000000;
    exj_child_fate fate = exj_child_reap(&t->child, left > 0 ? (int)left : 0);
    const char *words;
    char name[32];

    read_words(t);
    words = t->words.n ? t->words.p : "it does not say why";
    if (fate.forced || (!fate.exited && fate.status == SIGXCPU))
        return too_long(t, err);
    if (!fate.exited) {
        exj_signal_name(fate.status, name, sizeof name);
        return exj_err_set(err, EXJ_INVALID, "the transform died of %s%s", name,
                           fate.status == SIGKILL
                               ? ", which did not come from us: has the machine no memory left?"
                               : ": jq could not bear the program (recursion or values nested too "
                                 "deep?)");
    }
    switch (fate.status) {
    case EXJ_TRANSFORM_DONE:
        return t->line.n ? exj_err_set(err, EXJ_BUG, "the transform ended inside of a line")
                         : EXJ_OK;
    case EXJ_TRANSFORM_NOT_JQ:
        return exj_err_set(err, EXJ_INVALID, "the transform is not a jq program: %s", words);
    case EXJ_TRANSFORM_FAILED:
        return exj_err_set(err, EXJ_INVALID, "the transform failed %s", words);
    case EXJ_TRANSFORM_INPUT:
        return exj_err_set(err, EXJ_INVALID, "the transform cannot take its input: %s", words);
    case EXJ_TRANSFORM_MEMORY:
        return exj_err_set(err, EXJ_FULL,
                           "the transform needed more than %u MiB of memory: let it hold less at "
                           "once (not `[., inputs]`), or raise its limit", t->o.memory_mb);
    case EXJ_TRANSFORM_UNSAFE:
        return exj_err_set(err, EXJ_UNSUPPORTED, "no transform can run here: %s", words);
    default:
        return exj_err_set(err, EXJ_IO,
                           "the transform program '%s' ended with status %d: install it and "
                           "exellix-jobs from one release", t->o.exe, fate.status);
    }
}

static exj_code check_options(exj_transform_options *o, exj_err *err)
{
    if (!o->exe)
        return exj_err_set(err, EXJ_UNSUPPORTED,
                           "no transform can run here: this worker does not know where "
                           "exellix-jobs-transform is");
    if (o->program.n < 1 || o->program.n > EXJ_TRANSFORM_PROGRAM_MAX)
        return exj_err_set(err, EXJ_INVALID, "the transform has %zu bytes; wanted 1 to %u",
                           o->program.n, EXJ_TRANSFORM_PROGRAM_MAX);
    if (memchr(o->program.p, 0, o->program.n) || !exj_utf8_is_valid(o->program))
        return exj_err_set(err, EXJ_INVALID, "the transform is not UTF-8 text");
    o->memory_mb = o->memory_mb ? o->memory_mb : EXJ_TRANSFORM_MEMORY_MB;
    o->seconds = o->seconds ? o->seconds : EXJ_TRANSFORM_SECONDS;
    o->output_bytes = o->output_bytes ? o->output_bytes : EXJ_TRANSFORM_OUTPUT_BYTES;
    o->records = o->records ? o->records : EXJ_TRANSFORM_RECORDS;
    if (o->memory_mb < 32 || o->memory_mb > 1024)
        return exj_err_set(err, EXJ_INVALID, "memory of a transform: %u MiB; wanted 32 to 1024",
                           o->memory_mb);
    if (o->seconds > 3600)
        return exj_err_set(err, EXJ_INVALID, "time of a transform: %u s; wanted 1 to 3600",
                           o->seconds);
    return EXJ_OK;
}

exj_code exj_transform_run(const exj_transform_options *o, exj_transform_input input,
                           exj_err *err)
{
    struct transform t = { .o = *o, .child = EXJ_CHILD_NONE };
    exj_code rc = check_options(&t.o, err);

    if (rc)
        return rc;
    t.chunk = malloc(CHUNK);
    rc = t.chunk ? start(&t, input, err) : exj_err_set(err, EXJ_NOMEM, "out of memory");
    t.until = exj_clock_mono_ns() + (exj_nsec)t.o.seconds * 1000000000;
    if (!rc)
        rc = listen_to(&t, err);
    if (!rc)
        rc = judge_end(&t, err);
    exj_child_end(&t.child);
    free(t.chunk);
    exj_buf_release(&t.line);
    exj_buf_release(&t.id);
    exj_buf_release(&t.words);
    return rc;
}
