#include "plugins/ffi/run_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

bool exj_ffi_fail(exj_ffi_call *r, exj_result result, const char *code,
                  const char *format, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return exj_ffi_trouble_set(&r->trouble, result, code, "%s", text);
}

bool exj_ffi_fail_at(exj_ffi_frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = k == EXJ_FFI_RETURN ? NULL : &fr->f->args[k];
    const char *what = !a ? "return" : a->out ? a->out : a->from ? a->from : "value";
    exj_ffi_trouble inner = fr->run->trouble;

    if (!a)
        return exj_ffi_fail(fr->run, inner.result, inner.code,
                            "node %s, what %s returned: %.450s", fr->f->node,
                            fr->f->symbol, inner.text);
    return exj_ffi_fail(fr->run, inner.result, inner.code,
                        "node %s, argument %u (%.100s): %.400s", fr->f->node, k, what,
                        inner.text);
}

bool exj_ffi_no_memory(exj_ffi_call *r)
{
    return exj_ffi_fail(r, EXJ_R_RETRY, "NoMemory", "no memory");
}

/* ---- the call ---------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool call_function(exj_ffi_frame *fr)
{
    const exj_ffi_type *type = &fr->f->returns.type;
    size_t n =
        exj_ffi_size_of(type) > sizeof(ffi_arg) ? exj_ffi_size_of(type) : sizeof(ffi_arg);
    void *slot = exj_ffi_arena_take(&fr->run->arena, n);
    int64_t began;
    bool good;

    if (!slot)
        return exj_ffi_no_memory(fr->run);
    if (!fr->f->thread_safe)
        pthread_mutex_lock(&fr->ready->library->mu);
    began = fr->f->deadline_ms ? now_ms() : 0;
    errno = 0;
    /* A cif is only read here. */
    ffi_call((ffi_cif *)(uintptr_t)&fr->ready->cif, fr->ready->code, slot, fr->values);
    fr->saved_errno = errno;
    /* Before new handles are taken: one may have the address of the one that is over. */
    for (uint32_t k = 0; k < fr->f->args_len; k++)
        if (fr->f->args[k].closes && fr->in[k].form == EXJ_FFI_V_HANDLE)
            fr->run->held[fr->in[k].handle - 1].open = false;
    good = exj_ffi_guards_hold(fr) && exj_ffi_take_texts(fr, slot);
    if (!fr->f->thread_safe)
        pthread_mutex_unlock(&fr->ready->library->mu);
    if (fr->f->deadline_ms && now_ms() - began > fr->f->deadline_ms) {
        char text[300];
        int len =
            snprintf(text, sizeof text, "node %.100s took %lld ms; its deadlineMs is %u",
                     fr->f->node, (long long)(now_ms() - began), fr->f->deadline_ms);

        fr->run->h->log(fr->run->h->ctx, fr->run->c, EXJ_LOG_LEVEL_WARN,
                        (exj_str){ text, (uint64_t)len });
    }
    return good;
}

static bool run_function(exj_ffi_call *r, size_t index)
{
    const exj_ffi_function *f = &r->program->manifest->functions[index];
    exj_ffi_frame fr = { .run = r, .f = f, .ready = &r->program->functions[index] };

    r->outputs[index] = fr.out =
        exj_ffi_arena_take(&r->arena, (f->args_len + 1) * sizeof *fr.out);
    if (!fr.out)
        return exj_ffi_no_memory(r);
    if (!exj_ffi_set_args(&fr) || !exj_ffi_held_reserve(r, f) || !call_function(&fr))
        return false;
    return exj_ffi_succeeded(&fr) ? exj_ffi_take_outputs(&fr)
                                  : exj_ffi_explain_failure(&fr);
}

/* ---- the answer -------------------------------------------------------------------- */

static bool write_node(exj_ffi_call *r, size_t index, exj_json_out *o)
{
    const exj_ffi_function *f = &r->program->manifest->functions[index];
    exj_ffi_frame fr = { .run = r, .f = f };
    const exj_ffi_value *out = r->outputs[index];

    exj_json_put_object(o, f->node);
    if (f->returns.type.kind != EXJ_FFI_VOID && !f->returns.hidden &&
        !exj_ffi_value_write(o, "return", &f->returns.type, &out[f->args_len],
                             &r->trouble))
        return exj_ffi_fail_at(&fr, EXJ_FFI_RETURN);
    for (uint32_t k = 0; k < f->args_len; k++)
        if (f->args[k].out && !f->args[k].hidden &&
            !exj_ffi_value_write(o, f->args[k].out, &f->args[k].type, &out[k],
                                 &r->trouble))
            return exj_ffi_fail_at(&fr, k);
    exj_json_end_object(o);
    return true;
}

static bool emit_answer(exj_ffi_call *r)
{
    exj_json_out o = EXJ_JSON_OUT_INIT;
    exj_result result;
    bool good = true;

    exj_json_begin_object(&o);
    exj_json_put_text(&o, "status", "completed");
    exj_json_put_object(&o, "outputsByNodeId");
    for (size_t k = 0; good && k < r->program->manifest->functions_len; k++)
        good = write_node(r, k, &o);
    exj_json_end_object(&o);
    exj_json_end_object(&o);
    if (good && o.failed)
        good = exj_ffi_no_memory(r);
    if (good) {
        result = r->h->emit(r->h->ctx, r->c, exj_json_out_text(&o));
        if (result != EXJ_R_OK)
            good = exj_ffi_fail(
                r, result, "AnswerRefused",
                "the host did not take the answer of %zu bytes; \"answer\":false keeps a "
                "large output out of it",
                o.n);
    }
    exj_json_out_release(&o);
    return good;
}

static bool run_all(exj_ffi_call *r)
{
    size_t n = r->program->manifest->functions_len;
    int32_t stop;

    r->outputs = exj_ffi_arena_take(&r->arena, n * sizeof *r->outputs);
    if (!r->outputs)
        return exj_ffi_no_memory(r);
    for (size_t k = 0; k < n; k++) {
        stop = r->h->cancelled(r->h->ctx, r->c);
        if (stop)
            return exj_ffi_fail(
                r, stop, stop == EXJ_R_DEADLINE ? "Deadline" : "Cancelled",
                "stopped before node %.100s", r->program->manifest->functions[k].node);
        if (!run_function(r, k))
            return false;
    }
    return true;
}

exj_result exj_ffi_run(const exj_host *h, exj_call c, const exj_ffi_program *p,
                       const exj_args *a)
{
    exj_ffi_call r = { .h = h, .c = c, .args = a, .program = p };
    bool good;

    exj_json_find(a->runtime, "input", &r.input);
    exj_json_find(a->runtime, "executionMemory", &r.memory);
    good = run_all(&r);
    /* Before the answer: a row is not done while its file is not closed. */
    exj_ffi_held_close_all(&r);
    good = good && emit_answer(&r);
    exj_ffi_arena_release(&r.arena);
    if (good)
        return EXJ_R_OK;
    h->error(h->ctx, c, r.trouble.result, exj_text(r.trouble.code),
             exj_text(r.trouble.text));
    return r.trouble.result;
}
