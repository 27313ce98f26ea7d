/* core/plugin/generation.c - the life of a generation: trial, canary, current, draining, gone.
 * See plugin.h and registry.h (locks). */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/plugin/registry.h"

const char *exj_gen_word(exj_gen_state s)
{
    static const char *const words[] = { "trial", "canary", "current",
                                         "draining", "pinned", "retired" };

    return (unsigned)s < sizeof words / sizeof *words ? words[s] : "unknown";
}

/* ---- holding ---------------------------------------------------------------------------- */

void exj_guest_release(exj_guest *g)
{
    if (!g || !g->registry)
        return;
    pthread_mutex_lock(&g->registry->mu);
    g->file->holds--;
    pthread_mutex_unlock(&g->registry->mu);
}

void exj_registry_add_instance(exj_registry *r, exj_instance *i)
{
    if (!r)
        return; /* inside a plugin host */
    pthread_mutex_lock(&r->mu);
    i->guest->file->uses++;
    i->next = r->instances;
    i->link = &r->instances;
    if (i->next)
        i->next->link = &i->next;
    r->instances = i;
    pthread_mutex_unlock(&r->mu);
}

void exj_registry_drop_instance(exj_registry *r, exj_instance *i)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mu);
    *i->link = i->next;
    if (i->next)
        i->next->link = i->link;
    pthread_mutex_unlock(&r->mu);
}

void exj_registry_end_use(exj_guest *g)
{
    if (!g->registry)
        return;
    pthread_mutex_lock(&g->registry->mu);
    g->file->uses--;
    pthread_mutex_unlock(&g->registry->mu);
}

/* ---- candidates ---------------------------------------------------------------------------- */

static exj_guest *same_plugin(exj_plugin_file *f, const exj_guest *g)
{
    for (size_t k = 0; k < f->guests_len; k++)
        if (f->guests[k].vt.kind == g->vt.kind && strcmp(f->guests[k].id, g->id) == 0)
            return &f->guests[k];
    return NULL;
}

/* A living generation of this content. */
static exj_plugin_file *living_locked(exj_registry *r, const char *source, exj_lane lane,
                                      const char *sha256)
{
    for (exj_plugin_file *f = r->files; f; f = f->next)
        if (f->loaded && f->lane == lane && f->state != EXJ_GEN_PINNED &&
            strcmp(f->source, source) == 0 && strcmp(f->probe.sha256, sha256) == 0)
            return f;
    return NULL;
}

static exj_code hold_plugin_locked(exj_plugin_file *f, const exj_guest *current, exj_guest **ret,
                                   exj_err *err)
{
    exj_guest *g = same_plugin(f, current);

    if (!g)
        return exj_err_set(err, EXJ_INVALID, "%s: no longer holds the plugin %s (%s)", f->source,
                           current->id, exj_kind_name(current->vt.kind));
    f->holds++;
    *ret = g;
    return EXJ_OK;
}

exj_code exj_guest_candidate(exj_guest *current, const char *path, exj_lane lane,
                             exj_guest **ret, exj_err *err)
{
    exj_registry *r = current->registry;
    exj_plugin_file *f, *living;
    exj_probe probe;
    exj_code rc;

    if (current->file->is_static)
        return exj_err_set(err, EXJ_CONFLICT, "plugin %s is part of the program", current->id);
    if (lane == EXJ_LANE_DEFAULT)
        lane = current->lane;
    if (!path)
        path = current->path;
    pthread_mutex_lock(&r->loading);
    f = NULL;
    rc = exj_probe_file(path, &probe, err);
    if (rc)
        goto out;
    if (lane == current->lane && !strcmp(probe.sha256, current->sha256)) {
        rc = exj_err_set(err, EXJ_CONFLICT, "%s: the content is that of generation %llu", path,
                         (unsigned long long)current->file->number);
        goto out;
    }
    pthread_mutex_lock(&r->mu);
    living = living_locked(r, current->path, lane, probe.sha256);
    if (living)
        rc = hold_plugin_locked(living, current, ret, err);
    pthread_mutex_unlock(&r->mu);
    if (living)
        goto out;
    if (lane == EXJ_LANE_IN_PROCESS && exj_registry_pinned(r) >= EXJ_PINNED_MAX) {
        rc = exj_err_set(err, EXJ_FULL, "%s: %u old versions stay mapped in this process, which is the "
                         "most: restart the worker, or choose isolation host for its graphs", path,
                         EXJ_PINNED_MAX);
        goto out;
    }
    f = calloc(1, sizeof *f);
    if (!f || !(f->source = strdup(current->path))) {
        rc = exj_err_set(err, EXJ_NOMEM, "%s: out of memory", path);
        goto out;
    }
    f->lane = lane;
    rc = exj_registry_load(r, f, path, err);
    if (rc)
        goto out;
    pthread_mutex_lock(&r->mu);
    rc = hold_plugin_locked(f, current, ret, err);
    if (!rc) {
        f->state = EXJ_GEN_TRIAL;
        f->next = r->files;
        r->files = f;
        f = NULL;
    }
    pthread_mutex_unlock(&r->mu);
out:
    pthread_mutex_unlock(&r->loading);
    if (f && f->copy)
        unlink(f->copy);
    exj_plugin_file_free(f);
    return rc;
}

size_t exj_registry_hold_current(exj_registry *r, const char *path, exj_guest **ret,
                                 size_t room)
{
    size_t n = 0;

    pthread_mutex_lock(&r->mu);
    for (exj_plugin_file *f = r->files; f && n < room; f = f->next)
        if (f->loaded && !f->is_static && f->state == EXJ_GEN_CURRENT && !strcmp(f->source, path)) {
            f->holds++;
            ret[n++] = &f->guests[0];
        }
    pthread_mutex_unlock(&r->mu);
    return n;
}

bool exj_registry_has_hosts(const exj_registry *r)
{
    return r->o.remote != NULL;
}

void exj_guest_set_state(exj_guest *g, exj_gen_state s)
{
    exj_registry *r = g->registry;

    pthread_mutex_lock(&r->loading);
    pthread_mutex_lock(&r->mu);
    for (exj_plugin_file *f = r->files; f && s == EXJ_GEN_CURRENT; f = f->next)
        if (f != g->file && f->loaded && f->state == EXJ_GEN_CURRENT && f->lane == g->file->lane &&
            !strcmp(f->source, g->file->source))
            f->state = EXJ_GEN_DRAINING;
    g->file->state = s;
    pthread_mutex_unlock(&r->mu);
    pthread_mutex_unlock(&r->loading);
}

/* ---- the end ------------------------------------------------------------------------------- */

/* Unmap it if nothing can be left behind. True: it is gone from the process. */
static bool unmap(exj_plugin_file *f)
{
    void *still;

    if (!f->library) {
        unlink(f->copy);
        return true;
    }
    if (!f->closable)
        return false;
    dlclose(f->library);
    f->library = NULL;
    still = dlopen(f->copy, RTLD_NOW | RTLD_NOLOAD);
    if (still) {
        dlclose(still);
        exj_log(EXJ_LOG_WARN, "plugin", "%s: generation %llu stays mapped after dlclose", f->source,
                (unsigned long long)f->number);
        return false;
    }
    unlink(f->copy);
    return true;
}

uint32_t exj_registry_sweep(exj_registry *r,
                            void (*visit)(void *user, const exj_guest_info *i), void *user)
{
    exj_plugin_file *over = NULL, **at;
    uint32_t n = 0;

    pthread_mutex_lock(&r->loading);
    pthread_mutex_lock(&r->mu);
    for (at = &r->files; *at;) {
        exj_plugin_file *f = *at;

        if (!f->loaded || f->is_static || f->holds || f->uses ||
            (f->state != EXJ_GEN_DRAINING && f->state != EXJ_GEN_TRIAL &&
             f->state != EXJ_GEN_CANARY)) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        f->next = over;
        over = f;
    }
    pthread_mutex_unlock(&r->mu);
    while (over) {
        exj_plugin_file *f = over;
        bool gone = unmap(f);

        over = f->next;
        n++;
        f->state = gone ? EXJ_GEN_RETIRED : EXJ_GEN_PINNED;
        for (size_t k = 0; visit && k < f->guests_len; k++) {
            exj_guest_info info;

            exj_guest_describe(&f->guests[k], &info);
            visit(user, &info);
        }
        if (gone) {
            exj_plugin_file_free(f);
            continue;
        }
        pthread_mutex_lock(&r->mu); /* threads of it may still hold our tables */
        r->pinned++;
        f->next = r->files;
        r->files = f;
        pthread_mutex_unlock(&r->mu);
    }
    pthread_mutex_unlock(&r->loading);
    return n;
}

uint32_t exj_registry_pinned(exj_registry *r)
{
    uint32_t n;

    pthread_mutex_lock(&r->mu);
    n = r->pinned;
    pthread_mutex_unlock(&r->mu);
    return n;
}

/* ---- measures ------------------------------------------------------------------------------ */

/* 0..7: as they are; then eight buckets for each power of two. */
static unsigned bucket_of(int64_t ns)
{
    unsigned log;

    if (ns < 8)
        return ns < 0 ? 0 : (unsigned)ns;
    log = 63u - (unsigned)__builtin_clzll((unsigned long long)ns);
    if (log > 40)
        return EXJ_TIME_BUCKETS - 1;
    return (log - 2) * 8 + (unsigned)(ns >> (log - 3) & 7);
}

static uint64_t top_of(unsigned bucket)
{
    if (bucket < 8)
        return bucket;
    return ((uint64_t)(8 + bucket % 8 + 1) << (bucket / 8 - 1)) - 1;
}

void exj_guest_count(exj_guest *g, int64_t ns, bool failed, bool crashed)
{
    atomic_fetch_add_explicit(&g->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&g->times[bucket_of(ns)], 1, memory_order_relaxed);
    if (failed)
        atomic_fetch_add_explicit(&g->errors, 1, memory_order_relaxed);
    if (crashed)
        atomic_fetch_add_explicit(&g->crashes, 1, memory_order_relaxed);
}

void exj_guest_look(const exj_guest *g, exj_guest_stats *ret)
{
    uint64_t all = 0, seen = 0;

    *ret = (exj_guest_stats){ .calls = atomic_load(&g->calls),
                              .errors = atomic_load(&g->errors),
                              .crashes = atomic_load(&g->crashes) };
    for (unsigned b = 0; b < EXJ_TIME_BUCKETS; b++)
        all += atomic_load_explicit(&g->times[b], memory_order_relaxed);
    for (unsigned b = 0; b < EXJ_TIME_BUCKETS && all; b++) {
        seen += atomic_load_explicit(&g->times[b], memory_order_relaxed);
        if (!ret->p50_ns && seen * 2 >= all)
            ret->p50_ns = top_of(b);
        if (seen * 100 >= all * 99) {
            ret->p99_ns = top_of(b);
            break;
        }
    }
}
