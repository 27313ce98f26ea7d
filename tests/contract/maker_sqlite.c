/* The embedded store, by itself and behind the store that records. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contract.h"
#include "core/base/sha256.h"
#include "core/history/recorded_store.h"
#include "core/store/sqlite/internal.h"

static exj_msec fake_wall(void *t)
{
    return ((struct fake_time *)t)->wall_ms;
}

static exj_nsec fake_mono(void *t)
{
    return ((struct fake_time *)t)->mono_ms * 1000000;
}

static exj_code open_sqlite(const char *dir, const char *note, struct fake_time *t,
                            exj_store **ret, exj_err *err)
{
    /* fast: no test here cuts the power */
    exj_sqlite_options o = { .dir = dir, .lock_note = note, .fast = true };
    exj_sqlite_seam seam = { .wall_ms = fake_wall, .mono_ns = fake_mono, .user = t };

    return exj_sqlite_open_seam(&o, &seam, ret, err);
}

/* The same behind the store that records: nobody can tell the difference, and each operation
 * that began has an end. One store at a time is recorded. */
#define RECORDED_MOST (1u << 20)
static struct recording {
    exj_recorder *recorder;
    atomic_uchar state[RECORDED_MOST]; /* by id: 1 begun, 2 ended */
    atomic_uint_least64_t last;
} recording;

static void check_event(void *user, const exj_hist_event *e)
{
    struct recording *r = user;

    cr_assert(e->id > 0 && e->id < RECORDED_MOST);
    if (e->phase == EXJ_HIST_INVOKE) {
        cr_assert_eq(r->state[e->id], 0, "operation %" PRIu64 " begins twice", e->id);
        r->state[e->id] = 1;
        if (e->id > r->last)
            r->last = e->id;
        return;
    }
    cr_assert_neq(r->state[e->id], 0, "%s %" PRIu64 " ends before it begins",
                  exj_hist_op_word(e->op), e->id);
    r->state[e->id] = 2;
    cr_assert(e->phase != EXJ_HIST_OK || e->code.n == 0);
    if (e->op == EXJ_HIST_ENQUEUE && e->phase == EXJ_HIST_OK)
        cr_assert(e->job.n > 4 && e->outcome.n > 0);
}

/* The recorded store was closed: everything that began has ended. */
static void recording_end(void)
{
    if (!recording.recorder)
        return;
    for (uint64_t id = 1; id <= recording.last; id++)
        cr_assert_eq(recording.state[id], 2, "operation %" PRIu64 " has no end", id);
    exj_recorder_close(recording.recorder);
    memset(&recording, 0, sizeof(recording));
}

static exj_code open_recorded(const char *dir, const char *note, struct fake_time *t,
                              exj_store **ret, exj_err *err)
{
    exj_store *inner;
    exj_code rc = open_sqlite(dir, note, t, &inner, err);

    if (rc)
        return rc;
    recording_end(); /* of one that a test closed by itself */
    cr_assert_eq(exj_recorder_open_sink(check_event, &recording, "contract", 1,
                                        &recording.recorder, err), EXJ_OK);
    rc = exj_recorded_store(inner, recording.recorder, ret, err);
    if (rc) {
        inner->v->close(inner);
        recording_end();
    }
    return rc;
}

static void spoil(const char *dir, int64_t seq, exj_slice value, bool cut, char ret_name[80])
{
    char path[1024];

    (void)seq; /* a value is kept once, whoever has it */
    exj_sha256_hex(value.p, value.n, ret_name);
    snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", dir, ret_name, ret_name);
    cr_assert_eq(cut ? truncate(path, 5) : unlink(path), 0, "%s", path);
}

static const struct store_maker list[] = {
    { .name = "sqlite",
      .of_files = true,
      .scale = 1,
      .large_bytes = 64 * 1024,
      .kv_keys = EXJ_STORE_KV_KEYS,
      .kv_bytes = EXJ_STORE_KV_BYTES,
      .open = open_sqlite,
      .spoil = spoil },
    { .name = "recorded sqlite",
      .scale = 1,
      .large_bytes = 64 * 1024,
      .kv_keys = EXJ_STORE_KV_KEYS,
      .kv_bytes = EXJ_STORE_KV_BYTES,
      .open = open_recorded,
      .closed = recording_end,
      .spoil = spoil },
};

const struct store_makers sqlite_makers = { list, sizeof(list) / sizeof(*list) };
