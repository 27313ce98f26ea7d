/* core/transform/main.c - the program exellix-jobs-transform: one jq program over one stream of
 * JSON values, caged, in a process of its own. Started by core/run/transform.c only, with the
 * descriptors of border.h.
 *
 * jq is Turing-complete, cannot be interrupted and has no limits of its own: time is kept by who
 * started us, memory by the cage. Nothing of jq is used before the cage is closed.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jv.h> /* before jq.h, which needs it */
#include <jq.h>

#include "core/host/cage.h"
#include "core/transform/border.h"

#define CHUNK 65536u
#define EXACT 9007199254740992ll /* 2^53: whole numbers above it are not exact in jq */

struct machine {
    jq_state *jq;
    struct jv_parser *parser;
    char *chunk;         /* CHUNK bytes, what the parser reads from */
    bool at_end;         /* of the input */
    uint64_t values;     /* taken from it */
    char *out;           /* CHUNK bytes, not yet written */
    size_t out_n;
    char words[EXJ_TRANSFORM_WORDS_MAX]; /* what jq says of a program that does not compile */
    size_t words_n;
    /* The number that goes on at the end of the chunk, and where in a text we are. */
    char number[24];
    size_t number_n;
    uint64_t bytes;
    bool in_text, escaped, whole;
};

static void write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t wrote = write(fd, p, n);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            _exit(EXJ_TRANSFORM_FAILED); /* nobody listens any more */
        p += wrote;
        n -= (size_t)wrote;
    }
}

/* Say why and end. One line, whatever jq or the input put into it. */
__attribute__((format(printf, 2, 3), noreturn)) static void end(int code, const char *format, ...)
{
    char text[EXJ_TRANSFORM_WORDS_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    write_all(EXJ_TRANSFORM_FD_WORDS, text, strlen(text));
    _exit(code);
}

static void out_of_memory(void *none)
{
    (void)none;
    _exit(EXJ_TRANSFORM_MEMORY); /* no words: they may need memory */
}

static void *room(size_t n)
{
    void *p = malloc(n);

    if (!p)
        out_of_memory(NULL);
    return p;
}

/* ---- the input -------------------------------------------------------------------------- */

static void judge_number(struct machine *m)
{
    long long value;

    m->number[m->number_n] = 0;
    errno = 0;
    value = strtoll(m->number, NULL, 10);
    if (m->whole && m->number_n >= 16 &&
        (errno || m->number_n == sizeof m->number - 1 || value > EXACT || value < -EXACT))
        end(EXJ_TRANSFORM_INPUT,
            "before byte %llu of the input: the whole number %s%s would not stay what it is: jq "
            "keeps 53 bits (up to %lld); send it as a string",
            (unsigned long long)m->bytes, m->number,
            m->number_n == sizeof m->number - 1 ? "…" : "", EXACT);
    m->number_n = 0;
}

/* jq makes doubles of all numbers. A long identifier would become another one, silently: that is
 * refused here, where its digits can still be seen. */
static void look_at_numbers(struct machine *m, const char *p, size_t n)
{
    for (size_t k = 0; k < n; k++, m->bytes++) {
        char c = p[k];

        if (m->in_text) {
            if (m->escaped)
                m->escaped = false;
            else if (c == '\\')
                m->escaped = true;
            else if (c == '"')
                m->in_text = false;
        } else if ((c >= '0' && c <= '9') || c == '-') {
            if (!m->number_n)
                m->whole = true;
            if (m->number_n < sizeof m->number - 1)
                m->number[m->number_n++] = c;
        } else if (m->number_n && (c == '.' || c == 'e' || c == 'E' || c == '+')) {
            m->whole = false;
        } else {
            if (m->number_n)
                judge_number(m);
            m->in_text = c == '"';
        }
    }
}

static void read_chunk(struct machine *m)
{
    ssize_t n;

    do
        n = read(EXJ_TRANSFORM_FD_INPUT, m->chunk, CHUNK);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        end(EXJ_TRANSFORM_INPUT, "the input cannot be read: %s", strerror(errno));
    m->at_end = n == 0;
    look_at_numbers(m, m->chunk, (size_t)n);
    if (m->at_end && m->number_n)
        judge_number(m);
    jv_parser_set_buf(m->parser, m->chunk, (int)n, !m->at_end);
}

/* The next value; invalid without a message at the end. */
static jv next_input(jq_state *jq, void *user)
{
    struct machine *m = user;

    (void)jq;
    for (;;) {
        jv value = jv_parser_next(m->parser);

        if (jv_is_valid(value)) {
            m->values++;
            return value;
        }
        if (jv_invalid_has_msg(jv_copy(value))) {
            jv text = jv_invalid_get_msg(value);

            end(EXJ_TRANSFORM_INPUT, "the input is not JSON after value %llu: %s",
                (unsigned long long)m->values,
                jv_get_kind(text) == JV_KIND_STRING ? jv_string_value(text) : "?");
        }
        jv_free(value);
        if (m->at_end)
            return jv_invalid();
        read_chunk(m);
    }
}

/* ---- the output ------------------------------------------------------------------------- */

static void put(struct machine *m, const char *p, size_t n)
{
    while (n) {
        size_t fits = CHUNK - m->out_n < n ? CHUNK - m->out_n : n;

        memcpy(m->out + m->out_n, p, fits);
        m->out_n += fits;
        p += fits;
        n -= fits;
        if (m->out_n == CHUNK) {
            write_all(EXJ_TRANSFORM_FD_RESULTS, m->out, m->out_n);
            m->out_n = 0;
        }
    }
}

static void put_value(struct machine *m, jv value)
{
    jv text = jv_dump_string(value, 0);

    put(m, jv_string_value(text), (size_t)jv_string_length_bytes(jv_copy(text)));
    put(m, "\n", 1);
    jv_free(text);
}

/* ---- jq ---------------------------------------------------------------------------------- */

/* jq's words without what is meant for a shell. */
static void keep_words(void *user, jv said)
{
    static const char *const noise[] = { "jq: error: ", " (Unix shell quoting issues?)" };
    struct machine *m = user;
    jv text = jq_format_error(said);
    const char *p = jv_string_value(text);

    if (strstr(p, " compile error")) { /* "jq: 2 compile errors" */
        jv_free(text);
        return;
    }
    if (m->words_n && m->words_n + 3 < sizeof m->words) {
        memcpy(m->words + m->words_n, "; ", 2);
        m->words_n += 2;
    }
    while (*p && m->words_n + 1 < sizeof m->words) {
        size_t skip = 0;

        for (size_t k = 0; k < sizeof noise / sizeof *noise && !skip; k++)
            if (strncmp(p, noise[k], strlen(noise[k])) == 0)
                skip = strlen(noise[k]);
        if (skip)
            p += skip;
        else
            m->words[m->words_n++] = *p++;
    }
    while (m->words_n && strchr(" \n\t", m->words[m->words_n - 1]))
        m->words_n--;
    m->words[m->words_n] = 0;
    jv_free(text);
}

static void swallow(void *user, jv said)
{
    (void)user;
    jv_free(said);
}

/* `text` is taken. */
__attribute__((noreturn)) static void failed(const struct machine *m, jv text)
{
    if (jv_get_kind(text) != JV_KIND_STRING)
        text = jv_dump_string(text, 0);
    if (strcmp(jv_string_value(text), "break") == 0) /* what `input` says at the end */
        end(EXJ_TRANSFORM_FAILED, "after input value %llu: `input` found no more values; `inputs` "
            "ends without an error", (unsigned long long)m->values);
    end(EXJ_TRANSFORM_FAILED, "at input value %llu: %.1500s", (unsigned long long)m->values,
        jv_string_value(text));
}

static void check_halt(struct machine *m)
{
    jv status, text;

    if (!jq_halted(m->jq))
        return;
    status = jq_get_exit_code(m->jq);
    text = jq_get_error_message(m->jq);
    if (jv_get_kind(status) == JV_KIND_NUMBER && jv_number_value(status) != 0)
        failed(m, jv_is_valid(text) ? text : jv_string("halt_error"));
    jv_free(status);
    jv_free(text);
}

static void run(struct machine *m)
{
    jv value, result;

    while (!jq_halted(m->jq) && jv_is_valid(value = next_input(m->jq, m))) {
        jq_start(m->jq, value, 0);
        while (jv_is_valid(result = jq_next(m->jq)))
            put_value(m, result);
        check_halt(m);
        if (jv_invalid_has_msg(jv_copy(result)))
            failed(m, jv_invalid_get_msg(result));
        jv_free(result);
    }
    write_all(EXJ_TRANSFORM_FD_RESULTS, m->out, m->out_n);
}

static char *read_program(void)
{
    char *text = room(EXJ_TRANSFORM_PROGRAM_MAX + 1);
    size_t n = 0;
    ssize_t got;

    do {
        got = read(EXJ_TRANSFORM_FD_PROGRAM, text + n, EXJ_TRANSFORM_PROGRAM_MAX - n);
        n += got > 0 ? (size_t)got : 0;
    } while (got > 0 || (got < 0 && errno == EINTR));
    text[n] = 0;
    return text;
}

static int explain(const char *program)
{
    fprintf(stderr,
            "%s runs the jq text of a matrix of kind query-snapshot and is started by the worker, "
            "not by hand.\n", program);
    return 2;
}

/* What must hold before foreign text is run, from what the cage reached. */
static void close_cage(uint32_t memory_mb, uint32_t seconds)
{
    const uint32_t needed = EXJ_CAGE_NO_NEW_PRIVS | EXJ_CAGE_LIMITS | EXJ_CAGE_SECCOMP;
    struct rlimit cpu = { seconds, seconds + 1 }; /* should who keeps the time be stopped */
    exj_cage cage = { .sandbox = true, .memory_mb = memory_mb };
    static char *no_environment[1];
    uint32_t reached;

    environ = no_environment; /* jq shows it to its program, and walks through NULL: $ENV */
    setrlimit(RLIMIT_CPU, &cpu);
    reached = exj_cage_close(&cage);
    if ((reached & needed) != needed)
        end(EXJ_TRANSFORM_UNSAFE,
            "this kernel does not offer what keeps a jq program in bounds:%s%s%s",
            reached & EXJ_CAGE_NO_NEW_PRIVS ? "" : " no_new_privs",
            reached & EXJ_CAGE_LIMITS ? "" : " limits",
            reached & EXJ_CAGE_SECCOMP ? "" : " seccomp");
}

int main(int argc, char **argv)
{
    struct machine m = { 0 };
    unsigned long memory_mb = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned long seconds = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    struct stat st;
    char *program;

    if (!memory_mb || !seconds || fstat(EXJ_TRANSFORM_FD_WORDS, &st) < 0)
        return explain(argv[0] ? argv[0] : "exellix-jobs-transform");
    exj_cage_begin(EXJ_TRANSFORM_FD_WORDS);
    close_cage((uint32_t)memory_mb, (uint32_t)seconds);
    m.chunk = room(CHUNK);
    m.out = room(CHUNK);
    program = read_program();
    jv_nomem_handler(out_of_memory, NULL);
    m.jq = jq_init();
    m.parser = jv_parser_new(0);
    if (!m.jq || !m.parser)
        out_of_memory(NULL);
    jq_set_nomem_handler(m.jq, out_of_memory, NULL); /* jq_init leaves it to chance */
    jq_set_error_cb(m.jq, keep_words, &m);
    jq_set_debug_cb(m.jq, swallow, NULL);
    jq_set_input_cb(m.jq, next_input, &m); /* without one `input` calls what is not there */
    jq_set_attr(m.jq, jv_string("JQ_LIBRARY_PATH"), jv_array()); /* `import` finds nothing */
    if (!jq_compile(m.jq, program))
        end(EXJ_TRANSFORM_NOT_JQ, "%s", m.words_n ? m.words : "jq does not say why");
    run(&m);
    _exit(EXJ_TRANSFORM_DONE);
}
