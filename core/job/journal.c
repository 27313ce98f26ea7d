#include "core/job/journal.h"

#include <inttypes.h>

#define NO_MOVE EXJ_EV_COUNT

/* Each kind of entry: its word, and the move that it tells of. */
static const struct {
    const char *word;
    exj_event event;
} kinds[EXJ_ENTRY_COUNT] = {
    [EXJ_ENTRY_QUEUED] = { "queued", NO_MOVE },
    [EXJ_ENTRY_SCHEDULED] = { "scheduled", NO_MOVE },
    [EXJ_ENTRY_CLAIMED] = { "claimed", EXJ_EV_CLAIM },
    [EXJ_ENTRY_COMPLETED] = { "completed", EXJ_EV_SUCCEED },
    [EXJ_ENTRY_RETRYING] = { "retrying", EXJ_EV_FAIL_RETRY },
    [EXJ_ENTRY_FAILED] = { "failed", EXJ_EV_FAIL_DEAD },
    [EXJ_ENTRY_BLOCKED] = { "blocked", EXJ_EV_BLOCK },
    [EXJ_ENTRY_SUSPENDED] = { "suspended", EXJ_EV_SUSPEND },
    [EXJ_ENTRY_RESUMED] = { "resumed", EXJ_EV_RESUME },
    [EXJ_ENTRY_RELEASED] = { "released", EXJ_EV_RELEASE },
    [EXJ_ENTRY_LEASE_EXPIRED] = { "lease_expired", EXJ_EV_REAP },
    [EXJ_ENTRY_LEASE_EXPIRED_DEAD] = { "lease_expired_dead", EXJ_EV_REAP_DEAD },
    [EXJ_ENTRY_RETRIED] = { "retried", EXJ_EV_RETRY },
    [EXJ_ENTRY_RERUN] = { "rerun", EXJ_EV_RERUN },
    [EXJ_ENTRY_CANCEL_ASKED] = { "cancel_asked", EXJ_EV_CANCEL_ASK },
    [EXJ_ENTRY_CANCELED] = { "canceled", EXJ_EV_CANCEL },
    [EXJ_ENTRY_DROPPED] = { "dropped", EXJ_EV_DROP },
    [EXJ_ENTRY_UNBLOCKED] = { "unblocked", EXJ_EV_UNBLOCK },
    [EXJ_ENTRY_STEP_BEGUN] = { "step_begun", NO_MOVE },
    [EXJ_ENTRY_STEP] = { "step", NO_MOVE },
    [EXJ_ENTRY_PROGRESS] = { "progress", NO_MOVE },
    [EXJ_ENTRY_SIGNAL] = { "signal", NO_MOVE },
    [EXJ_ENTRY_CRASHED] = { "crashed", NO_MOVE },
};

const char *exj_entry_word(exj_entry_kind k)
{
    return (unsigned)k < EXJ_ENTRY_COUNT ? kinds[k].word : "unknown";
}

exj_code exj_entry_parse(exj_slice word, exj_entry_kind *ret, exj_err *err)
{
    char all[EXJ_ERR_TEXT_BYTES / 2] = "";
    size_t at = 0;

    for (unsigned i = 0; i < EXJ_ENTRY_COUNT; i++) {
        size_t n = strlen(kinds[i].word);

        if (exj_slice_is(word, kinds[i].word)) {
            *ret = (exj_entry_kind)i;
            return EXJ_OK;
        }
        if (at + n + 3 < sizeof(all)) {
            memcpy(all + at, ", ", 2);
            memcpy(all + at + 2, kinds[i].word, n + 1);
            at += n + 2;
        }
    }
    return exj_err_set(err, EXJ_INVALID, "event \"%.*s\" is unknown; allowed: %s",
                       (int)(word.n < 64 ? word.n : 64), word.n ? word.p : "", all + 2);
}

bool exj_entry_event(exj_entry_kind k, exj_event *ret)
{
    if ((unsigned)k >= EXJ_ENTRY_COUNT || kinds[k].event == NO_MOVE)
        return false;
    *ret = kinds[k].event;
    return true;
}

bool exj_entry_of(exj_event e, exj_entry_kind *ret)
{
    for (unsigned i = 0; i < EXJ_ENTRY_COUNT; i++)
        if (kinds[i].event == e && e != NO_MOVE) {
            *ret = (exj_entry_kind)i;
            return true;
        }
    return false;
}

static exj_code wrong(exj_err *err, const exj_journal_entry *e, const char *what)
{
    return exj_err_set(err, EXJ_CORRUPT, "entry %" PRId64 " (%s): %s", e->number,
                       exj_entry_word(e->kind), what);
}

/* How the count of attempts goes on. False: the entry's own count does not fit. */
static bool count_attempt(exj_journal_view *v, const exj_journal_entry *e)
{
    switch (e->kind) {
    case EXJ_ENTRY_CLAIMED:
        return e->attempt == ++v->attempts;
    case EXJ_ENTRY_RELEASED:
    case EXJ_ENTRY_SUSPENDED: /* neither counts */
        if (e->attempt != v->attempts)
            return false;
        v->attempts -= v->attempts > 0;
        return true;
    case EXJ_ENTRY_RETRIED:
    case EXJ_ENTRY_RERUN:
    case EXJ_ENTRY_UNBLOCKED:
        v->attempts = 0;
        return e->attempt == 0;
    default:
        return e->attempt == v->attempts;
    }
}

exj_code exj_journal_apply(exj_journal_view *v, const exj_journal_entry *e, exj_err *err)
{
    exj_status to = v->status;
    exj_event event;

    if (e->previous != v->last || e->number <= v->last)
        return wrong(err, e, "it does not follow the row's entry before it");
    if (!v->known) {
        if (e->kind != EXJ_ENTRY_QUEUED && e->kind != EXJ_ENTRY_SCHEDULED)
            return wrong(err, e, "a row begins with \"queued\" or \"scheduled\"");
        v->known = true;
        v->status = EXJ_QUEUED;
        v->last = e->number;
        return EXJ_OK;
    }
    if (e->kind == EXJ_ENTRY_QUEUED || e->kind == EXJ_ENTRY_SCHEDULED)
        return wrong(err, e, "the row was inserted before");
    if (exj_entry_event(e->kind, &event) && exj_state_move(v->status, event, &to, err) != EXJ_OK) {
        exj_err_prefix(err, "%s", exj_entry_word(e->kind));
        if (err)
            err->code = EXJ_CORRUPT;
        return EXJ_CORRUPT;
    }
    if (e->kind == EXJ_ENTRY_CLAIMED || e->kind == EXJ_ENTRY_RERUN) {
        if (e->token != v->token + 1)
            return wrong(err, e, "its token is not the one after the last");
    } else if (e->token != v->token) {
        return wrong(err, e, "its token is not that of the newest claim");
    }
    if (!count_attempt(v, e))
        return wrong(err, e, "its attempt is out of order");
    v->token = e->token;
    v->status = to == EXJ_WAITING ? EXJ_QUEUED : to; /* being parked has no entry */
    v->last = e->number;
    return EXJ_OK;
}
