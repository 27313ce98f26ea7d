/* functions[] of a manifest: arguments, returns, and what they say about each other. */
#include <errno.h>
#include <stdlib.h>

#include "plugins/ffi/manifest_inside.h"
#include "plugins/ffi/value.h"

/* ---- functions that are never called ----------------------------------------------- */

/* A format string decides which arguments a function reads, which no manifest can
 * promise; the others do not come back to their caller in the way a call through libffi
 * needs. */
static const char *why_refused(const char *s)
{
    static const char *const format[] = { "syslog",       "vsyslog",    "err",
                                          "errx",         "warn",       "warnx",
                                          "verr",         "verrx",      "vwarn",
                                          "vwarnx",       "error",      "error_at_line",
                                          "setproctitle", "argp_error", "argp_failure",
                                          "__syslog_chk", "strfmon",    NULL };
    static const char *const jumps[] = { "setjmp",      "_setjmp",      "sigsetjmp",
                                         "__sigsetjmp", "longjmp",      "siglongjmp",
                                         "vfork",       "pthread_exit", "dlclose",
                                         NULL };

    for (const char *const *k = format; *k; k++)
        if (strcmp(*k, s) == 0)
            return "reads its arguments by a format string; wrap it in C";
    if (strstr(s, "printf") || strstr(s, "scanf"))
        return "reads its arguments by a format string; wrap it in C";
    for (const char *const *k = jumps; *k; k++)
        if (strcmp(*k, s) == 0)
            return "cannot be called through libffi without harm";
    return NULL;
}

/* ---- where an argument comes from -------------------------------------------------- */

static bool find_output(exj_ffi_reader *r, const char *at, const exj_ffi_function *f,
                        const char *name, uint32_t *ret)
{
    if (strcmp(name, "return") == 0 && f->returns.type.kind != EXJ_FFI_VOID) {
        *ret = EXJ_FFI_RETURN;
        return true;
    }
    for (uint32_t k = 0; k < f->args_len; k++)
        if (f->args[k].out && strcmp(f->args[k].out, name) == 0) {
            *ret = k;
            return true;
        }
    return exj_ffi_wrong(r, at, "node '%s' puts out no '%.64s'", f->node, name);
}

static bool read_node_source(exj_ffi_reader *r, const char *at, exj_ffi_arg *a)
{
    const char *node = a->from + strlen("nodes."), *dot = strchr(node, '.');
    size_t n = dot ? (size_t)(dot - node) : 0;

    a->source = EXJ_FFI_FROM_NODE;
    if (!dot || n == 0 || !dot[1])
        return exj_ffi_wrong(r, at, "\"from\":\"%.100s\": wanted nodes.NODE.OUTPUT",
                             a->from);
    for (size_t k = 0; k < r->m->functions_len; k++) {
        const exj_ffi_function *f = &r->m->functions[k];

        if (strlen(f->node) == n && memcmp(f->node, node, n) == 0) {
            a->node = (uint32_t)k;
            return find_output(r, at, f, dot + 1, &a->output);
        }
    }
    return exj_ffi_wrong(r, at, "\"from\":\"%.100s\": no earlier node has this name",
                         a->from);
}

static bool check_constant(exj_ffi_reader *r, const char *at, const exj_ffi_arg *a,
                           const char *key)
{
    exj_ffi_arena arena = { 0 };
    exj_ffi_value v;
    exj_ffi_trouble inner = { 0 };
    bool good = exj_ffi_value_read(&a->type, a->nullable, a->value, &arena, &v, &inner);

    exj_ffi_arena_release(&arena);
    if (!good && inner.result == EXJ_R_RETRY) {
        *r->t = inner;
        return false;
    }
    return good || exj_ffi_wrong(r, at, "\"%s\": %.400s", key, inner.text);
}

static bool check_handle_source(exj_ffi_reader *r, const char *at, const exj_ffi_arg *a)
{
    if (a->source == EXJ_FFI_FROM_NODE || (json_is_null(a->value) && a->nullable))
        return true;
    return exj_ffi_wrong(r, at,
                         "a handle comes from an earlier node (nodes.NODE.OUTPUT), or is "
                         "\"value\":null with \"nullable\":true; never from a record");
}

static bool read_source(exj_ffi_reader *r, const char *at, const json_t *o,
                        exj_ffi_arg *a)
{
    const json_t *value = json_object_get(o, "value"),
                 *fallback = json_object_get(o, "default");

    if (!exj_ffi_text(r, at, o, "from", false, 2 * EXJ_FFI_NAME_MAX + 8, &a->from) ||
        !exj_ffi_bool(r, at, o, "nullable", &a->nullable))
        return false;
    if (value && (a->from || fallback))
        return exj_ffi_wrong(r, at, "has \"value\" and \"%s\"; one of them is enough",
                             a->from ? "from" : "default");
    a->value = value ? value : fallback;
    if (value) {
        a->source = EXJ_FFI_FROM_VALUE;
    } else if (!a->from) {
        return true; /* an output only; its caller knows whether that is enough */
    } else if (strncmp(a->from, "input.", 6) == 0 && a->from[6]) {
        a->source = EXJ_FFI_FROM_INPUT;
        a->field = a->from + 6;
    } else if (strncmp(a->from, "memory.", 7) == 0 && a->from[7]) {
        a->source = EXJ_FFI_FROM_MEMORY;
        a->field = a->from + 7;
    } else if (strncmp(a->from, "nodes.", 6) == 0) {
        if (fallback)
            return exj_ffi_wrong(r, at,
                                 "an output of a node is always there: no \"default\"");
        if (!read_node_source(r, at, a))
            return false;
    } else {
        return exj_ffi_wrong(r, at,
                             "\"from\":\"%.100s\": wanted input.FIELD, memory.NAME or "
                             "nodes.NODE.OUTPUT",
                             a->from);
    }
    if (a->type.kind == EXJ_FFI_HANDLE)
        return check_handle_source(r, at, a);
    if (a->source == EXJ_FFI_FROM_NODE) {
        const exj_ffi_type *from =
            exj_ffi_output_type(&r->m->functions[a->node], a->output);
        char have[160], want[160];

        if (exj_ffi_fits(from, &a->type))
            return true;
        exj_ffi_type_name(from, have, sizeof have);
        exj_ffi_type_name(&a->type, want, sizeof want);
        return exj_ffi_wrong(r, at, "%.100s is %s, which is no %s", a->from, have, want);
    }
    return !a->value || check_constant(r, at, a, value ? "value" : "default");
}

/* ---- owners ------------------------------------------------------------------------ */

static bool read_owner(exj_ffi_reader *r, const char *at, const json_t *o,
                       exj_ffi_owner *ret, const char **ret_free)
{
    const char *s = NULL;

    if (!exj_ffi_text(r, at, o, "owner", false, EXJ_FFI_NAME_MAX + 8, &s))
        return false;
    if (!s)
        return exj_ffi_wrong(r, at,
                             "needs \"owner\" of the memory: \"borrowed\", \"static\" or "
                             "\"free:SYMBOL\"");
    if (strcmp(s, "borrowed") == 0) {
        *ret = EXJ_FFI_BORROWED;
    } else if (strcmp(s, "static") == 0) {
        *ret = EXJ_FFI_STATIC;
    } else if (strncmp(s, "free:", 5) == 0) {
        *ret = EXJ_FFI_FREE;
        *ret_free = s + 5;
        return exj_ffi_symbol(r, at, "owner free:", s + 5);
    } else {
        return exj_ffi_wrong(r, at,
                             "\"owner\":\"%.64s\": wanted \"borrowed\", \"static\" or "
                             "\"free:SYMBOL\"",
                             s);
    }
    return true;
}

/* ---- arguments --------------------------------------------------------------------- */

static bool is_pointer_kind(exj_ffi_kind k)
{
    return k == EXJ_FFI_STR || k == EXJ_FFI_BYTES || k == EXJ_FFI_HANDLE;
}

static bool read_answer_flag(exj_ffi_reader *r, const char *at, const json_t *o,
                             bool *ret_hidden)
{
    bool answer = true;

    if (!exj_ffi_bool(r, at, o, "answer", &answer))
        return false;
    *ret_hidden = !answer;
    return true;
}

static bool read_in(exj_ffi_reader *r, const char *at, const json_t *o, exj_ffi_arg *a)
{
    static const char *const known[] = { "from", "value",    "default", "type",
                                         "by",   "nullable", "closes",  NULL };
    const char *by = "value";

    if (!exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_read_type(r, at, o, "type", &a->type) ||
        !exj_ffi_text(r, at, o, "by", false, 16, &by) ||
        !exj_ffi_bool(r, at, o, "closes", &a->closes) || !read_source(r, at, o, a))
        return false;
    if (a->source == EXJ_FFI_FROM_NOTHING)
        return exj_ffi_wrong(r, at, "\"default\" stands beside \"from\", never alone");
    if (a->type.kind == EXJ_FFI_VOID)
        return exj_ffi_wrong(r, at, "no argument is of type void");
    if (strcmp(by, "pointer") == 0)
        a->role = EXJ_FFI_IN_POINTER;
    else if (strcmp(by, "value") != 0)
        return exj_ffi_wrong(r, at, "\"by\" is \"value\" or \"pointer\"");
    if (a->role == EXJ_FFI_IN_POINTER && is_pointer_kind(a->type.kind))
        return exj_ffi_wrong(r, at, "a %s is a pointer already: no \"by\"",
                             exj_ffi_kind_name(a->type.kind));
    if (a->nullable && a->role == EXJ_FFI_IN && !is_pointer_kind(a->type.kind))
        return exj_ffi_wrong(r, at,
                             "\"nullable\" is for str, bytes, handles and \"by\":"
                             "\"pointer\": a %s has no NULL",
                             exj_ffi_kind_name(a->type.kind));
    if (a->closes && a->type.kind != EXJ_FFI_HANDLE)
        return exj_ffi_wrong(r, at, "\"closes\" is for handles");
    return true;
}

static bool read_out(exj_ffi_reader *r, const char *at, const json_t *o, exj_ffi_arg *a)
{
    static const char *const known[] = { "out",     "type",  "from",   "value",
                                         "default", "owner", "answer", NULL };

    a->role = EXJ_FFI_OUT;
    if (!exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_text(r, at, o, "out", true, EXJ_FFI_NAME_MAX, &a->out) ||
        !exj_ffi_name(r, at, a->out) || !exj_ffi_read_type(r, at, o, "type", &a->type) ||
        !read_answer_flag(r, at, o, &a->hidden))
        return false;
    if (a->type.kind == EXJ_FFI_VOID || a->type.kind == EXJ_FFI_BYTES)
        return exj_ffi_wrong(r, at,
                             "\"out\" of type %s: take \"outBytes\" with a capacity, or "
                             "returns of type bytes",
                             exj_ffi_kind_name(a->type.kind));
    if (is_pointer_kind(a->type.kind) &&
        (json_object_get(o, "from") || json_object_get(o, "value")))
        return exj_ffi_wrong(r, at, "a %s is either read or written, not both",
                             exj_ffi_kind_name(a->type.kind));
    if (a->type.kind == EXJ_FFI_STR)
        return read_owner(r, at, o, &a->owner, &a->free_with);
    if (json_object_get(o, "owner"))
        return exj_ffi_wrong(r, at, "\"owner\" is for text only");
    return read_source(r, at, o, a);
}

static bool read_buffer(exj_ffi_reader *r, const char *at, const json_t *o,
                        const char *key, exj_ffi_kind kind, exj_ffi_arg *a)
{
    const char *const known[] = { key,          "capacity", "lengthArg",
                                  "lengthFrom", "answer",   NULL };
    const char *from = NULL;
    int64_t capacity = 0, length = EXJ_FFI_NO_INDEX;

    a->role = EXJ_FFI_OUT_BUFFER;
    a->type.kind = kind;
    if (!exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_text(r, at, o, key, true, EXJ_FFI_NAME_MAX, &a->out) ||
        !exj_ffi_name(r, at, a->out) ||
        !exj_ffi_number(r, at, o, "capacity", 1, EXJ_FFI_CAPACITY_MAX, &capacity) ||
        !exj_ffi_number(r, at, o, "lengthArg", 0, EXJ_FFI_ARGS_MAX - 1, &length) ||
        !exj_ffi_text(r, at, o, "lengthFrom", false, 16, &from) ||
        !read_answer_flag(r, at, o, &a->hidden))
        return false;
    if (!capacity)
        return exj_ffi_wrong(r, at,
                             "needs \"capacity\": how many bytes the function may write");
    if (from && strcmp(from, "return") != 0)
        return exj_ffi_wrong(r, at, "\"lengthFrom\" can only be \"return\"");
    if (from && length != EXJ_FFI_NO_INDEX)
        return exj_ffi_wrong(r, at,
                             "has \"lengthArg\" and \"lengthFrom\"; one is enough");
    a->capacity = (uint32_t)capacity;
    a->length = from ? EXJ_FFI_RETURN : (uint32_t)length;
    return true;
}

static bool read_length(exj_ffi_reader *r, const char *at, const json_t *o,
                        const char *key, exj_ffi_role role, exj_ffi_arg *a)
{
    const char *const known[] = { key, "type", NULL };
    int64_t target = -1;

    a->role = role;
    if (!exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_read_type(r, at, o, "type", &a->type) ||
        !exj_ffi_number(r, at, o, key, 0, EXJ_FFI_ARGS_MAX - 1, &target))
        return false;
    if (!exj_ffi_is_integer(a->type.kind))
        return exj_ffi_wrong(r, at, "\"%s\" needs an integer type, i8 to u64", key);
    a->target = (uint32_t)target;
    return true;
}

static bool read_arg(exj_ffi_reader *r, const char *at, const json_t *o, exj_ffi_arg *a)
{
    static const char *const roles[] = {
        "from",     "value",      "out",         "outBytes", "outStr",
        "lengthOf", "capacityOf", "lengthInOut", "type",     "default",
        "by",       "nullable",   "closes",      "owner",    "answer",
        "capacity", "lengthArg",  "lengthFrom",  NULL
    };

    a->length = EXJ_FFI_NO_INDEX;
    if (json_object_get(o, "outBytes"))
        return read_buffer(r, at, o, "outBytes", EXJ_FFI_BYTES, a);
    if (json_object_get(o, "outStr"))
        return read_buffer(r, at, o, "outStr", EXJ_FFI_STR, a);
    if (json_object_get(o, "lengthOf"))
        return read_length(r, at, o, "lengthOf", EXJ_FFI_LENGTH_OF, a);
    if (json_object_get(o, "capacityOf"))
        return read_length(r, at, o, "capacityOf", EXJ_FFI_CAPACITY_OF, a);
    if (json_object_get(o, "lengthInOut"))
        return read_length(r, at, o, "lengthInOut", EXJ_FFI_LENGTH_IN_OUT, a);
    if (json_object_get(o, "out"))
        return read_out(r, at, o, a);
    if (json_object_get(o, "from") || json_object_get(o, "value"))
        return read_in(r, at, o, a);
    return exj_ffi_keys(r, at, o, roles) &&
           exj_ffi_wrong(r, at,
                         "needs one of from, value, out, outBytes, outStr, lengthOf, "
                         "capacityOf, lengthInOut");
}

/* ---- returns ----------------------------------------------------------------------- */

static bool read_rule(exj_ffi_reader *r, const char *at, exj_ffi_returns *ret)
{
    static const struct {
        const char *op;
        exj_ffi_rule rule;
    } ops[] = {
        { "==", EXJ_FFI_EQ }, { "!=", EXJ_FFI_NE }, { "<=", EXJ_FFI_LE },
        { ">=", EXJ_FFI_GE }, { "<", EXJ_FFI_LT },  { ">", EXJ_FFI_GT },
    };
    const char *s = ret->success;
    exj_ffi_kind k = ret->type.kind;
    char *end;

    if (strcmp(s, "any") == 0)
        return true;
    if (strcmp(s, "non-null") == 0) {
        ret->rule = EXJ_FFI_NON_NULL;
        return is_pointer_kind(k) ||
               exj_ffi_wrong(r, at, "\"non-null\" is for str, bytes and handles, not %s",
                             exj_ffi_kind_name(k));
    }
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        size_t n = strlen(ops[i].op);

        if (strncmp(s, ops[i].op, n) != 0)
            continue;
        if (!exj_ffi_is_integer(k) && k != EXJ_FFI_ENUM && k != EXJ_FFI_BOOL)
            return exj_ffi_wrong(r, at, "\"%.32s\" compares a number, and %s is none", s,
                                 exj_ffi_kind_name(k));
        s += n;
        s += *s == ' ';
        errno = 0;
        ret->rule = ops[i].rule;
        ret->bound = strtoll(s, &end, 10);
        if (errno || end == s || *end || strspn(s, "-0123456789") != strlen(s))
            break;
        return true;
    }
    return exj_ffi_wrong(r, at,
                         "\"success\":\"%.32s\": wanted any, non-null, or one of == != < "
                         "<= > >= and a whole number",
                         ret->success);
}

static bool read_returns(exj_ffi_reader *r, const char *at, const json_t *o,
                         exj_ffi_returns *ret)
{
    static const char *const known[] = { "type",  "success", "onError",   "owner",
                                         "retry", "answer",  "lengthArg", NULL };
    const char *on_error = NULL;
    int64_t length = EXJ_FFI_NO_INDEX;
    bool retry = false, text;

    ret->success = "any";
    ret->retry = -1;
    if (!exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_read_type(r, at, o, "type", &ret->type) ||
        !exj_ffi_text(r, at, o, "success", false, 40, &ret->success) ||
        !exj_ffi_text(r, at, o, "onError", false, 16, &on_error) ||
        !exj_ffi_bool(r, at, o, "retry", &retry) ||
        !exj_ffi_number(r, at, o, "lengthArg", 0, EXJ_FFI_ARGS_MAX - 1, &length) ||
        !read_answer_flag(r, at, o, &ret->hidden) || !read_rule(r, at, ret))
        return false;
    if (json_object_get(o, "retry"))
        ret->retry = retry;
    ret->length = (uint32_t)length;
    text = ret->type.kind == EXJ_FFI_STR || ret->type.kind == EXJ_FFI_BYTES;
    ret->error_is_errno = is_pointer_kind(ret->type.kind);
    if (on_error && strcmp(on_error, "errno") == 0)
        ret->error_is_errno = true;
    else if (on_error && strcmp(on_error, "code") == 0 &&
             !is_pointer_kind(ret->type.kind))
        ret->error_is_errno = false;
    else if (on_error)
        return exj_ffi_wrong(
            r, at,
            "\"onError\":\"%.16s\": wanted \"errno\", or \"code\" when a "
            "number is returned",
            on_error);
    if (on_error && ret->rule == EXJ_FFI_ANY)
        return exj_ffi_wrong(r, at,
                             "\"onError\" without \"success\": any return is a success");
    if (text)
        return read_owner(r, at, o, &ret->owner, &ret->free_with);
    if (json_object_get(o, "owner"))
        return exj_ffi_wrong(r, at, "\"owner\" is for str and bytes");
    return true;
}

/* ---- what one argument says of another --------------------------------------------- */

static bool check_length(exj_ffi_reader *r, const char *at, const exj_ffi_function *f,
                         uint32_t buffer, uint32_t length)
{
    const exj_ffi_arg *l;

    if (length >= f->args_len)
        return exj_ffi_wrong(r, at, "\"lengthArg\" is %u; there are %u arguments", length,
                             f->args_len);
    l = &f->args[length];
    if (l->role == EXJ_FFI_LENGTH_IN_OUT && l->target == buffer)
        return true;
    if (l->role == EXJ_FFI_OUT && exj_ffi_is_integer(l->type.kind))
        return true;
    return exj_ffi_wrong(r, at,
                         "\"lengthArg\" %u must be an \"out\" of an integer type or the "
                         "\"lengthInOut\" of this buffer",
                         length);
}

static bool check_arg(exj_ffi_reader *r, const char *at, const exj_ffi_function *f,
                      uint32_t k)
{
    const exj_ffi_arg *a = &f->args[k], *target;

    if (a->role == EXJ_FFI_OUT_BUFFER) {
        if (a->length == EXJ_FFI_RETURN && !exj_ffi_is_integer(f->returns.type.kind))
            return exj_ffi_wrong(r, at, "\"lengthFrom\":\"return\", but %s is returned",
                                 exj_ffi_kind_name(f->returns.type.kind));
        return a->length >= EXJ_FFI_NO_INDEX || check_length(r, at, f, k, a->length);
    }
    if (a->role < EXJ_FFI_LENGTH_OF)
        return true;
    if (a->target >= f->args_len)
        return exj_ffi_wrong(r, at, "is about argument %u; there are %u", a->target,
                             f->args_len);
    target = &f->args[a->target];
    if (a->role == EXJ_FFI_LENGTH_OF)
        return (target->role == EXJ_FFI_IN && (target->type.kind == EXJ_FFI_STR ||
                                               target->type.kind == EXJ_FFI_BYTES)) ||
               exj_ffi_wrong(r, at,
                             "\"lengthOf\" %u must be about a str or bytes argument",
                             a->target);
    return target->role == EXJ_FFI_OUT_BUFFER ||
           exj_ffi_wrong(r, at, "argument %u is no \"outBytes\" or \"outStr\"",
                         a->target);
}

static bool check_names(exj_ffi_reader *r, const char *at, const exj_ffi_function *f)
{
    for (uint32_t k = 0; k < f->args_len; k++) {
        if (!f->args[k].out)
            continue;
        if (strcmp(f->args[k].out, "return") == 0)
            return exj_ffi_wrong(r, at,
                                 "an output named 'return' hides what is returned");
        for (uint32_t j = 0; j < k; j++)
            if (f->args[j].out && strcmp(f->args[j].out, f->args[k].out) == 0)
                return exj_ffi_wrong(r, at, "two outputs are named '%s'", f->args[k].out);
    }
    return true;
}

/* What C passes to "...": nothing narrower than int, no float. And no text as the last
 * fixed argument: that is the shape of a format string, whatever the function is called.
 */
static bool check_variadic(exj_ffi_reader *r, const char *at, const exj_ffi_function *f)
{
    const exj_ffi_arg *last;

    if (!f->variadic)
        return true;
    if (f->fixed > f->args_len)
        return exj_ffi_wrong(r, at, "\"variadicAfter\" is %u; there are %u arguments",
                             f->fixed, f->args_len);
    last = &f->args[f->fixed - 1];
    if (last->role == EXJ_FFI_IN && last->type.kind == EXJ_FFI_STR)
        return exj_ffi_wrong(r, at,
                             "a variadic function whose last fixed argument is text "
                             "reads a format string or a list; wrap it in C");
    for (uint32_t k = f->fixed; k < f->args_len; k++) {
        const exj_ffi_arg *a = &f->args[k];
        exj_ffi_kind kind =
            a->type.kind == EXJ_FFI_ENUM ? a->type.en->underlying : a->type.kind;

        if (a->role != EXJ_FFI_IN && a->role != EXJ_FFI_LENGTH_OF &&
            a->role != EXJ_FFI_CAPACITY_OF)
            continue;
        if (kind == EXJ_FFI_F32)
            return exj_ffi_wrong(r, at,
                                 "argument %u: C passes a float to \"...\" as a double; "
                                 "write f64",
                                 k);
        if (kind >= EXJ_FFI_BOOL && kind <= EXJ_FFI_U16)
            return exj_ffi_wrong(
                r, at, "argument %u: C passes %s to \"...\" as an int; write i32", k,
                exj_ffi_kind_name(kind));
        if (kind == EXJ_FFI_STRUCT)
            return exj_ffi_wrong(r, at, "argument %u: no struct by value in \"...\"", k);
    }
    return true;
}

/* ---- functions --------------------------------------------------------------------- */

static bool read_head(exj_ffi_reader *r, const char *at, const json_t *o,
                      exj_ffi_function *f)
{
    static const char *const known[] = { "node",       "symbol",        "library",
                                         "args",       "returns",       "threadSafe",
                                         "deadlineMs", "variadicAfter", "description",
                                         NULL };
    const char *why, *description;
    int64_t deadline = 0, fixed = 0;

    f->library = r->m->libraries[0].name;
    if (!exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_text(r, at, o, "node", true, EXJ_FFI_NAME_MAX, &f->node) ||
        !exj_ffi_name(r, at, f->node) ||
        !exj_ffi_text(r, at, o, "symbol", true, EXJ_FFI_NAME_MAX, &f->symbol) ||
        !exj_ffi_symbol(r, at, "symbol", f->symbol) ||
        !exj_ffi_text(r, at, o, "library", false, 1024, &f->library) ||
        !exj_ffi_text(r, at, o, "description", false, 4096, &description) ||
        !exj_ffi_bool(r, at, o, "threadSafe", &f->thread_safe) ||
        !exj_ffi_number(r, at, o, "deadlineMs", 1, 86400000, &deadline) ||
        !exj_ffi_number(r, at, o, "variadicAfter", 1, EXJ_FFI_ARGS_MAX, &fixed))
        return false;
    f->deadline_ms = (uint32_t)deadline;
    f->variadic = fixed > 0;
    f->fixed = (uint32_t)fixed;
    why = why_refused(f->symbol);
    if (why)
        return exj_ffi_wrong(r, at, "symbol '%s' %s", f->symbol, why);
    for (size_t k = 0; k < r->m->functions_len; k++)
        if (strcmp(r->m->functions[k].node, f->node) == 0)
            return exj_ffi_wrong(r, at, "two nodes are named '%s'", f->node);
    return exj_ffi_add_library(r, at, f->library, NULL);
}

static bool read_function(exj_ffi_reader *r, const char *at, const json_t *o,
                          exj_ffi_function *f)
{
    json_t *args, *arg;
    char inner[EXJ_FFI_PATH_MAX];
    size_t k;

    if (!read_head(r, at, o, f))
        return false;
    args = json_object_get(o, "args");
    if (!json_is_array(args) || json_array_size(args) > EXJ_FFI_ARGS_MAX)
        return exj_ffi_wrong(r, at,
                             "needs \"args\": a list of at most %u, one for each "
                             "parameter of %s",
                             EXJ_FFI_ARGS_MAX, f->symbol);
    f->args = exj_ffi_many(r, json_array_size(args), sizeof *f->args);
    if (!f->args)
        return false;
    json_array_foreach(args, k, arg)
    {
        snprintf(inner, sizeof inner, "%s.args[%zu]", at, k);
        if (!json_is_object(arg))
            return exj_ffi_wrong(r, inner, "wanted an object");
        if (!read_arg(r, inner, arg, &f->args[k]))
            return false;
        f->args_len++;
    }
    snprintf(inner, sizeof inner, "%s.returns", at);
    if (!json_object_get(o, "returns"))
        return exj_ffi_wrong(r, at, "needs \"returns\": {\"type\":…}, be it void");
    if (!read_returns(r, inner, json_object_get(o, "returns"), &f->returns))
        return false;
    if (f->returns.type.kind == EXJ_FFI_BYTES && f->returns.length == EXJ_FFI_NO_INDEX)
        return exj_ffi_wrong(r, inner,
                             "bytes need \"lengthArg\": the out argument with their "
                             "number");
    if (f->returns.type.kind != EXJ_FFI_BYTES && f->returns.length != EXJ_FFI_NO_INDEX)
        return exj_ffi_wrong(r, inner, "\"lengthArg\" is for bytes");
    if (f->returns.type.kind == EXJ_FFI_BYTES &&
        !check_length(r, inner, f, EXJ_FFI_NO_INDEX, f->returns.length))
        return false;
    for (uint32_t i = 0; i < f->args_len; i++) {
        snprintf(inner, sizeof inner, "%s.args[%u]", at, i);
        if (!check_arg(r, inner, f, i))
            return false;
    }
    return check_names(r, at, f) && check_variadic(r, at, f);
}

bool exj_ffi_read_functions(exj_ffi_reader *r, const json_t *list)
{
    char at[EXJ_FFI_PATH_MAX];

    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > EXJ_FFI_FUNCTIONS_MAX)
        return exj_ffi_wrong(r, "", "needs \"functions\": a list of 1 to %u",
                             EXJ_FFI_FUNCTIONS_MAX);
    r->m->functions = exj_ffi_many(r, json_array_size(list), sizeof *r->m->functions);
    if (!r->m->functions)
        return false;
    for (size_t k = 0; k < json_array_size(list); k++) {
        exj_ffi_function *f = &r->m->functions[k];

        snprintf(at, sizeof at, "functions[%zu]", k);
        if (!read_function(r, at, json_array_get(list, k), f)) {
            free(f->args); /* not counted yet */
            return false;
        }
        r->m->functions_len++;
    }
    return true;
}

const exj_ffi_type *exj_ffi_output_type(const exj_ffi_function *f, uint32_t output)
{
    return output == EXJ_FFI_RETURN ? &f->returns.type : &f->args[output].type;
}
