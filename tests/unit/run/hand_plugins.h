/* tests/unit/run/hand_plugins.h - guests, files and a shelf without a disk. The linker takes the
 * functions below for those of core/plugin, so that a test says what each of them answers.
 * One program includes it once; it takes nothing else of that room. */
#ifndef EXJ_TESTS_HAND_PLUGINS_H
#define EXJ_TESTS_HAND_PLUGINS_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/plugin/shelf.h"
#include "core/run/inside.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SHA_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

struct exj_guest {
    exj_guest_info i;
    int held;
};

struct exj_instance {
    exj_guest *guest;
};

/* What is on the disk: contents by path. */
struct hand_file {
    const char *path, *sha256;
};

static struct {
    struct hand_file files[4];
    exj_guest *found, *candidate;   /* what finding and loading give */
    exj_code find_rc, candidate_rc; /* or why they do not */
    char candidate_path[100];       /* what was loaded last */
    const char *pinned;             /* a content; NULL: none */
    exj_code pinned_rc;
    const char *kept;               /* where the copy of what is pinned is; NULL: none is */
    exj_code keep_rc;               /* of a copy that is to be kept */
    unsigned keeps;
    unsigned instances, instances_most, created; /* now; no more are made; since the start */
    exj_code instance_rc;           /* why not */
    unsigned sweeps;
    const exj_guest *swept;         /* what every sweep tells of; NULL: none */
    char said[1024];                /* what was logged last */
} plug = { .instances_most = 100, .instance_rc = EXJ_INVALID };

/* Nothing of it is looked into. */
#define HAND_SHELF ((exj_shelf *)(void *)&plug)
#define HAND_REGISTRY ((exj_registry *)(void *)&plug)

static inline void hand_plugins_log(exj_log_level level, const char *area, const char *message)
{
    (void)level, (void)area;
    snprintf(plug.said, sizeof(plug.said), "%s", message);
}

exj_code exj_registry_find_lane(exj_registry *r, const char *name, uint32_t kind, exj_lane lane,
                                exj_guest **ret, exj_err *err)
{
    (void)r, (void)kind, (void)lane;
    if (plug.find_rc)
        return exj_err_set(err, plug.find_rc, "no plugin %s", name);
    plug.found->held++;
    *ret = plug.found;
    return EXJ_OK;
}

void exj_guest_describe(const exj_guest *g, exj_guest_info *ret)
{
    *ret = g->i;
}

void exj_guest_release(exj_guest *g)
{
    if (g)
        g->held--;
}

exj_code exj_guest_candidate(exj_guest *current, const char *path, exj_lane lane,
                             exj_guest **ret, exj_err *err)
{
    (void)lane;
    snprintf(plug.candidate_path, sizeof(plug.candidate_path), "%s",
             path ? path : current->i.path);
    if (plug.candidate_rc)
        return exj_err_set(err, plug.candidate_rc, "cannot be loaded");
    plug.candidate->held++;
    *ret = plug.candidate;
    return EXJ_OK;
}

void exj_guest_set_state(exj_guest *g, exj_gen_state s)
{
    g->i.state = s;
}

uint32_t exj_registry_sweep(exj_registry *r,
                            void (*visit)(void *user, const exj_guest_info *i), void *user)
{
    (void)r;
    plug.sweeps++;
    if (visit && plug.swept)
        visit(user, &plug.swept->i);
    return plug.swept != NULL;
}

exj_code exj_probe_file(const char *path, exj_probe *ret, exj_err *err)
{
    for (size_t k = 0; k < sizeof(plug.files) / sizeof(*plug.files); k++)
        if (plug.files[k].path && !strcmp(plug.files[k].path, path)) {
            *ret = (exj_probe){ .bytes = 1 };
            snprintf(ret->sha256, sizeof(ret->sha256), "%s", plug.files[k].sha256);
            return EXJ_OK;
        }
    return exj_err_set(err, EXJ_IO, "%s: no such file", path);
}

exj_code exj_instance_new(exj_guest *g, exj_slice config, exj_instance **ret, exj_err *err)
{
    exj_instance *i = NULL;

    (void)config;
    if (plug.instances == plug.instances_most)
        return exj_err_set(err, plug.instance_rc, "create failed");
    i = calloc(1, sizeof(*i));
    if (!i)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    i->guest = g;
    plug.instances++;
    plug.created++;
    *ret = i;
    return EXJ_OK;
}

void exj_instance_free(exj_instance *i)
{
    if (i)
        plug.instances--;
    free(i);
}

exj_code exj_shelf_pinned(exj_shelf *s, const char *id, char ret_sha256[65], exj_err *err)
{
    (void)s;
    snprintf(ret_sha256, 65, "%s", plug.pinned && !plug.pinned_rc ? plug.pinned : "");
    return plug.pinned_rc ? exj_err_set(err, plug.pinned_rc, "the pin of %s cannot be read", id)
                          : EXJ_OK;
}

exj_code exj_shelf_keep(exj_shelf *s, const char *file, const char *sha256, const char *family,
                        exj_msec now, exj_err *err)
{
    (void)s, (void)file, (void)sha256, (void)family, (void)now;
    plug.keeps++;
    return plug.keep_rc ? exj_err_set(err, plug.keep_rc, "no room") : EXJ_OK;
}

const char *exj_gen_word(exj_gen_state s)
{
    return s == EXJ_GEN_CURRENT ? "current" : s == EXJ_GEN_CANARY ? "canary" : "another";
}

char *exj_shelf_path_of(exj_shelf *s, const char *sha256)
{
    (void)s, (void)sha256;
    return plug.kept ? strdup(plug.kept) : NULL;
}

#endif /* EXJ_TESTS_HAND_PLUGINS_H */
