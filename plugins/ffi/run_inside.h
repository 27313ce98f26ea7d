/* plugins/ffi/run_inside.h - one call of the engine from the inside: what held.c,
 * arguments.c, results.c and run.c share.
 *
 * Functions that return bool have said in call->trouble what went wrong when it is false.
 *
 * Threads: one call is one thread. */
#ifndef EXJ_PLUGINS_FFI_RUN_INSIDE_H
#define EXJ_PLUGINS_FFI_RUN_INSIDE_H

#include "plugins/ffi/run.h"

#define EXJ_FFI_GUARD_BYTES 32 /* behind all that a function writes into */
#define EXJ_FFI_GUARD_BYTE 0xa5

/* A pointer of the library's, named by its place in this table and its type. */
typedef struct exj_ffi_held {
    void *p;
    const exj_ffi_handle *type;
    bool open;
} exj_ffi_held;

typedef struct exj_ffi_call {
    const exj_host *h;
    exj_call c;
    const exj_args *args;
    const exj_ffi_program *program;
    exj_ffi_arena arena;
    exj_ffi_trouble trouble;
    exj_str input, memory;   /* objects of the runtime; empty: absent */
    exj_ffi_value **outputs; /* of each function: one an argument, then the return */
    exj_ffi_held *held;
    uint32_t held_len, held_cap;
} exj_ffi_call;

/* One function being called. */
typedef struct exj_ffi_frame {
    exj_ffi_call *run;
    const exj_ffi_function *f;
    const exj_ffi_ready *ready;
    union slot {
        unsigned char bytes[16];
        void *p;
    } slots[EXJ_FFI_ARGS_MAX];
    void *values[EXJ_FFI_ARGS_MAX]; /* what ffi_call takes */
    void *memory[EXJ_FFI_ARGS_MAX]; /* what a pointer points to */
    exj_ffi_value in[EXJ_FFI_ARGS_MAX];
    exj_ffi_value *out;     /* = run->outputs[this] */
    exj_ffi_value returned; /* before text is copied: V_NULL or its number */
    int saved_errno;
} exj_ffi_frame;

bool exj_ffi_fail(exj_ffi_call *r, exj_result result, const char *code,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Puts "node score, argument 0 (input.text): " before what is said already; `k` may be
 * EXJ_FFI_RETURN. Always false, as is the next. */
bool exj_ffi_fail_at(exj_ffi_frame *fr, uint32_t k);
bool exj_ffi_no_memory(exj_ffi_call *r);
/* A NUL-terminated copy in the arena. */
bool exj_ffi_copy_text(exj_ffi_call *r, const char *p, uint64_t n, exj_ffi_value *ret);

/* ---- held.c: pointers of libraries */

/* Room for what a function can put out, made before it is called: afterwards a handle
 * that finds no place would never be closed. */
bool exj_ffi_held_reserve(exj_ffi_call *r, const exj_ffi_function *f);
void exj_ffi_held_add(exj_ffi_call *r, void *p, const exj_ffi_handle *type,
                      exj_ffi_value *ret);
/* The last opened first; the table ends with it. */
void exj_ffi_held_close_all(exj_ffi_call *r);

/* ---- arguments.c: fills slots, values, memory and in */

bool exj_ffi_set_args(exj_ffi_frame *fr);

/* ---- results.c: after ffi_call */

bool exj_ffi_guards_hold(exj_ffi_frame *fr);
/* What must be read before the next caller enters the library: text, handles, the return.
 */
bool exj_ffi_take_texts(exj_ffi_frame *fr, void *slot);
bool exj_ffi_succeeded(const exj_ffi_frame *fr);
bool exj_ffi_explain_failure(exj_ffi_frame *fr); /* always false */
bool exj_ffi_take_outputs(exj_ffi_frame *fr);

#endif /* EXJ_PLUGINS_FFI_RUN_INSIDE_H */
