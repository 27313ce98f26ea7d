#include "core/job/state.h"

static const char *const status_words[EXJ_STATUS_COUNT] = {
    [EXJ_QUEUED] = "queued",       [EXJ_WAITING] = "queued",
    [EXJ_RUNNING] = "running",     [EXJ_COMPLETED] = "completed",
    [EXJ_FAILED] = "failed",       [EXJ_BLOCKED] = "blocked",
    [EXJ_SUSPENDED] = "suspended", [EXJ_CANCELED] = "canceled",
    [EXJ_DROPPED] = "dropped",     [EXJ_PARKED] = "queued",
};

static const char *const event_words[EXJ_EV_COUNT] = {
    [EXJ_EV_PROMOTE] = "promote",       [EXJ_EV_CLAIM] = "claim",
    [EXJ_EV_SUCCEED] = "succeed",       [EXJ_EV_FAIL_RETRY] = "fail with attempts left",
    [EXJ_EV_FAIL_DEAD] = "fail for good", [EXJ_EV_BLOCK] = "block",
    [EXJ_EV_SUSPEND] = "suspend",       [EXJ_EV_RELEASE] = "release",
    [EXJ_EV_REAP] = "reap",             [EXJ_EV_REAP_DEAD] = "reap for good",
    [EXJ_EV_RETRY] = "retry",           [EXJ_EV_CANCEL] = "cancel",
    [EXJ_EV_DROP] = "drop",             [EXJ_EV_RESUME] = "resume",
    [EXJ_EV_PARK] = "park",             [EXJ_EV_UNPARK] = "unpark",
    [EXJ_EV_UNBLOCK] = "be released by a signal",
    [EXJ_EV_RERUN] = "run again",       [EXJ_EV_CANCEL_ASK] = "be asked to stop",
};

/* Where each event leads, and from where it may (bit i: status i). One target an event:
 * what a row becomes never depends on what it was. */
static const struct {
    uint32_t from;
    exj_status to;
} moves[EXJ_EV_COUNT] = {
    [EXJ_EV_PROMOTE] = { 1u << EXJ_WAITING, EXJ_QUEUED },
    [EXJ_EV_CLAIM] = { 1u << EXJ_QUEUED, EXJ_RUNNING },
    [EXJ_EV_SUCCEED] = { 1u << EXJ_RUNNING, EXJ_COMPLETED },
    [EXJ_EV_FAIL_RETRY] = { 1u << EXJ_RUNNING, EXJ_WAITING },
    [EXJ_EV_FAIL_DEAD] = { 1u << EXJ_RUNNING, EXJ_FAILED },
    [EXJ_EV_BLOCK] = { 1u << EXJ_RUNNING, EXJ_BLOCKED },
    [EXJ_EV_SUSPEND] = { 1u << EXJ_RUNNING, EXJ_SUSPENDED },
    [EXJ_EV_RELEASE] = { 1u << EXJ_RUNNING, EXJ_QUEUED },
    [EXJ_EV_REAP] = { 1u << EXJ_RUNNING, EXJ_QUEUED },
    [EXJ_EV_REAP_DEAD] = { 1u << EXJ_RUNNING, EXJ_FAILED },
    [EXJ_EV_RETRY] = { 1u << EXJ_FAILED | 1u << EXJ_BLOCKED | 1u << EXJ_CANCELED |
                           1u << EXJ_DROPPED,
                       EXJ_QUEUED },
    [EXJ_EV_CANCEL] = { 1u << EXJ_QUEUED | 1u << EXJ_WAITING | 1u << EXJ_PARKED |
                            1u << EXJ_RUNNING | 1u << EXJ_BLOCKED | 1u << EXJ_SUSPENDED,
                        EXJ_CANCELED },
    [EXJ_EV_DROP] = { 1u << EXJ_QUEUED | 1u << EXJ_WAITING | 1u << EXJ_PARKED, EXJ_DROPPED },
    [EXJ_EV_RESUME] = { 1u << EXJ_SUSPENDED, EXJ_QUEUED },
    [EXJ_EV_PARK] = { 1u << EXJ_QUEUED, EXJ_PARKED },
    [EXJ_EV_UNPARK] = { 1u << EXJ_PARKED, EXJ_QUEUED },
    [EXJ_EV_UNBLOCK] = { 1u << EXJ_BLOCKED, EXJ_QUEUED },
    [EXJ_EV_RERUN] = { 1u << EXJ_COMPLETED | 1u << EXJ_FAILED | 1u << EXJ_CANCELED |
                           1u << EXJ_DROPPED,
                       EXJ_QUEUED },
    [EXJ_EV_CANCEL_ASK] = { 1u << EXJ_RUNNING, EXJ_RUNNING },
};

const char *exj_status_word(exj_status s)
{
    return (unsigned)s < EXJ_STATUS_COUNT ? status_words[s] : "unknown";
}

const char *exj_status_name(exj_status s)
{
    return s == EXJ_WAITING ? "waiting" : s == EXJ_PARKED ? "parked" : exj_status_word(s);
}

exj_code exj_status_parse(exj_slice word, exj_status *ret, exj_err *err)
{
    for (unsigned i = 0; i < EXJ_STATUS_COUNT; i++) {
        if (i != EXJ_WAITING && i != EXJ_PARKED && exj_slice_is(word, status_words[i])) {
            *ret = (exj_status)i;
            return EXJ_OK;
        }
    }
    return exj_err_set(err, EXJ_INVALID,
                       "status \"%.*s\" is unknown; allowed: queued, running, completed, "
                       "failed, blocked, suspended, canceled, dropped",
                       (int)(word.n < 64 ? word.n : 64), word.n ? word.p : "");
}

const char *exj_event_word(exj_event e)
{
    return (unsigned)e < EXJ_EV_COUNT ? event_words[e] : "unknown";
}

bool exj_status_is_terminal(exj_status s)
{
    return s == EXJ_COMPLETED || s == EXJ_FAILED || s == EXJ_CANCELED || s == EXJ_DROPPED;
}

/* The statuses in `from`, in words, for a message. */
static void list_statuses(uint32_t from, char *ret, size_t ret_bytes)
{
    size_t at = 0;

    ret[0] = '\0';
    for (unsigned i = 0; i < EXJ_STATUS_COUNT; i++) {
        const char *word = exj_status_name((exj_status)i);
        size_t n = strlen(word);

        if (!(from >> i & 1) || at + n + 3 > ret_bytes)
            continue;
        if (at > 0) {
            memcpy(ret + at, ", ", 2);
            at += 2;
        }
        memcpy(ret + at, word, n + 1);
        at += n;
    }
}

exj_code exj_state_move(exj_status from, exj_event event, exj_status *ret, exj_err *err)
{
    char allowed[128];

    if ((unsigned)from >= EXJ_STATUS_COUNT || (unsigned)event >= EXJ_EV_COUNT)
        return exj_err_set(err, EXJ_REFUSED, "no such status (%d) or event (%d)", (int)from,
                           (int)event);
    if (moves[event].from >> from & 1) {
        *ret = moves[event].to;
        return EXJ_OK;
    }
    list_statuses(moves[event].from, allowed, sizeof(allowed));
    return exj_err_set(err, EXJ_REFUSED,
                       "a row that is %s cannot %s; that is for rows that are: %s",
                       exj_status_name(from),
                       event_words[event], allowed);
}
