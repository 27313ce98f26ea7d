/* core/plugin/guest.h - what the files of this room know of a guest; nobody else's.
 *
 * Memory: a registry owns its files, a file its guests, a guest's registry its instances.
 * Threads: see each field.
 */
#ifndef EXJ_CORE_PLUGIN_GUEST_H
#define EXJ_CORE_PLUGIN_GUEST_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/plugin/lane.h"
#include "core/plugin/plugin.h"
#include "core/plugin/remote.h"

/* Judge an open file; `shown` is its name in messages. Reads with pread only. */
exj_code exj_probe_fd(int fd, const char *shown, exj_probe *ret, exj_err *err);

/* Durations in buckets of an eighth of a power of two, 2^0 to 2^40 ns. */
#define EXJ_TIME_BUCKETS 328u

struct exj_guest {
    /* set at load, then read-only */
    exj_registry *registry;
    struct exj_plugin_file *file;
    const char *path;   /* of the source; borrowed from the file */
    const char *sha256; /* borrowed from the file */
    uint32_t abi_minor;
    exj_plugin vt;      /* our copy: members the plugin does not have are NULL */
    char *id, *version; /* owned */
    exj_slice describe; /* owned copy */
    exj_lane lane;      /* IN_PROCESS: vt is the plugin's; else vt is core/plugin/remote.c's */
    const char *copy;   /* the private copy; borrowed from the file */
    uint32_t index;     /* in the bundle */
    const exj_remote_settings *remote; /* how its hosts are started; NULL: in process */
    /* EXJ_FLAG_SERIAL_ALL: at most one call at a time. A flag and not a held mutex,
     * because a PENDING call is ended by another thread than the one that began it. */
    pthread_mutex_t serial_mu;
    pthread_cond_t serial_free;
    bool serial_busy; /* guarded by serial_mu */
    atomic_uint_fast64_t calls, errors, crashes;
    atomic_uint times[EXJ_TIME_BUCKETS];
};

struct exj_instance {
    exj_guest *guest; /* set before create, then read-only */
    void *self;       /* what create made */
    exj_host host;    /* this instance's own table; ctx is the instance */
    atomic_uint misdeeds;
    pthread_mutex_t mu;
    pthread_cond_t calm; /* one of these fell to 0: */
    unsigned pending;    /* guarded by mu: calls that nobody waits for */
    unsigned threads;    /* guarded by mu: started by thread_start and not over */
    bool creating;       /* guarded by mu: error() with call 0 is kept */
    char error[EXJ_ERR_TEXT_BYTES / 2]; /* guarded by mu: what error() said in create */
    exj_instance *next, **link; /* guarded by the registry's lock */
};

/* Append printable UTF-8 of at most `cap` - 1 bytes to `ret` (NUL-terminated): bytes that
 * are not UTF-8 become '?', control bytes a space. Returns the length. */
size_t exj_clean_text(const char *p, uint64_t n, char *ret, size_t cap);

/* Count and log what a plugin should not have done. `i` may be NULL. */
void exj_misdeed(exj_instance *i, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Give what is to be logged of them to `to` instead: inside a plugin host. Set before threads
 * start. */
void exj_misdeed_divert(void (*to)(const char *text));

/* Fill the table that create is given. */
void exj_host_fill(exj_instance *i);

/* One call of a function other than execute, waited for. `what` is for messages. */
typedef exj_result (*exj_call_body)(exj_instance *i, exj_call c, const void *user);
void exj_call_other(exj_instance *i, exj_call_slot *s, const exj_call_ports *ports,
                    exj_call_body body, const void *user, exj_call_end *ret);

/* The registry's list of instances; being in it is a use of the generation, which goes on
 * until exj_registry_end_use. */
void exj_registry_add_instance(exj_registry *r, exj_instance *i);
void exj_registry_drop_instance(exj_registry *r, exj_instance *i);
void exj_registry_end_use(exj_guest *g);

#endif /* EXJ_CORE_PLUGIN_GUEST_H */
