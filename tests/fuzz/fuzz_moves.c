/* Streams of entries of one row: the journal's fold against a table written down here a second
 * time. Entries are made to fit from what the fold says, save where the input spoils a field: then
 * they must be refused, and the view stays as it was. Terminal is for ever, except by an operator.
 * Three bytes an entry: kind, what is spoilt, with what. */
#include <stdlib.h>
#include <string.h>

#include "core/job/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* ---- the table, once more ------------------------------------------------------------------ */

#define IS(s) (1u << EXJ_##s)
#define OPEN (IS(QUEUED) | IS(WAITING) | IS(PARKED))
#define OVER (IS(COMPLETED) | IS(FAILED) | IS(CANCELED) | IS(DROPPED))

static uint32_t allowed_from(exj_event e)
{
    switch (e) {
    case EXJ_EV_PROMOTE:
        return IS(WAITING);
    case EXJ_EV_CLAIM:
    case EXJ_EV_PARK:
        return IS(QUEUED);
    case EXJ_EV_UNPARK:
        return IS(PARKED);
    case EXJ_EV_SUCCEED:
    case EXJ_EV_FAIL_RETRY:
    case EXJ_EV_FAIL_DEAD:
    case EXJ_EV_BLOCK:
    case EXJ_EV_SUSPEND:
    case EXJ_EV_RELEASE:
    case EXJ_EV_REAP:
    case EXJ_EV_REAP_DEAD:
    case EXJ_EV_CANCEL_ASK:
        return IS(RUNNING);
    case EXJ_EV_RETRY:
        return (OVER & ~IS(COMPLETED)) | IS(BLOCKED);
    case EXJ_EV_RERUN:
        return OVER;
    case EXJ_EV_CANCEL:
        return OPEN | IS(RUNNING) | IS(BLOCKED) | IS(SUSPENDED);
    case EXJ_EV_DROP:
        return OPEN;
    case EXJ_EV_RESUME:
        return IS(SUSPENDED);
    case EXJ_EV_UNBLOCK:
        return IS(BLOCKED);
    case EXJ_EV_COUNT:
        break;
    }
    return 0;
}

/* Any status and any event, also such as do not exist. */
static void move(int from, int event)
{
    exj_status to = EXJ_STATUS_COUNT;
    exj_err err = { 0 };
    exj_code rc = exj_state_move((exj_status)from, (exj_event)event, &to, &err);
    bool exist = from >= 0 && from < EXJ_STATUS_COUNT && event >= 0 && event < EXJ_EV_COUNT;

    must((rc == EXJ_OK) == (exist && (allowed_from((exj_event)event) >> from & 1)));
    if (rc) {
        must(rc == EXJ_REFUSED && to == EXJ_STATUS_COUNT && err.text[0]);
        return;
    }
    must((unsigned)to < EXJ_STATUS_COUNT);
    if (exj_status_is_terminal((exj_status)from))
        must(to == EXJ_QUEUED && (event == EXJ_EV_RETRY || event == EXJ_EV_RERUN));
}

/* ---- entries ------------------------------------------------------------------------------- */

static exj_journal_entry fitting(const exj_journal_view *v, exj_entry_kind kind)
{
    exj_journal_entry e = { .kind = kind, .number = v->last + 1, .previous = v->last, .seq = 1,
                            .token = v->token, .attempt = v->attempts };

    if (kind == EXJ_ENTRY_CLAIMED || kind == EXJ_ENTRY_RERUN)
        e.token++;
    if (kind == EXJ_ENTRY_CLAIMED)
        e.attempt++;
    if (kind == EXJ_ENTRY_RETRIED || kind == EXJ_ENTRY_RERUN || kind == EXJ_ENTRY_UNBLOCKED)
        e.attempt = 0;
    return e;
}

/* Change one field; returns whether it does not fit any more. */
static bool spoil(exj_journal_entry *e, const exj_journal_view *v, uint8_t field, int8_t with)
{
    exj_journal_entry was = *e;

    switch (field) {
    case 1:
        e->number = (int64_t)((uint64_t)e->number + (uint64_t)with);
        return e->number <= v->last;
    case 2:
        e->previous += with;
        return e->previous != was.previous;
    case 3:
        e->token += with;
        return v->known && e->token != was.token;
    case 4:
        e->attempt = (uint32_t)((int)e->attempt + with);
        return v->known && e->attempt != was.attempt;
    case 5:
        e->number = with < 0 ? INT64_MIN : INT64_MAX;
        return with < 0;
    default:
        return false;
    }
}

static void apply(exj_journal_view *v, exj_entry_kind kind, uint8_t field, int8_t with)
{
    exj_journal_view before = *v;
    exj_journal_entry e;
    bool begins = kind == EXJ_ENTRY_QUEUED || kind == EXJ_ENTRY_SCHEDULED, fits;
    exj_event event = EXJ_EV_COUNT;
    exj_status to = v->status;
    exj_err err = { 0 };
    exj_code rc;

    if (v->last >= INT64_MAX - 200 || v->attempts > UINT32_MAX - 200)
        return; /* numbers end here */
    e = fitting(v, kind);
    fits = !spoil(&e, v, field, with) && begins != v->known;
    if (exj_entry_event(kind, &event)) {
        fits &= allowed_from(event) >> v->status & 1;
        exj_state_move(v->status, event, &to, NULL);
    }
    rc = exj_journal_apply(v, &e, &err);
    must((rc == EXJ_OK) == fits);
    if (rc) {
        must(rc == EXJ_CORRUPT && err.code == rc && err.text[0]);
        *v = before; /* after an error nobody goes on with it */
        return;
    }
    if (!before.known) {
        must(v->known && v->status == EXJ_QUEUED && v->attempts == 0 && v->token == 0);
    } else {
        must(v->status == (to == EXJ_WAITING || to == EXJ_PARKED ? EXJ_QUEUED : to));
        must(v->token >= before.token && v->token <= before.token + 1);
        if (exj_status_is_terminal(before.status) && v->status != before.status)
            must(kind == EXJ_ENTRY_RETRIED || kind == EXJ_ENTRY_RERUN);
        if (kind == EXJ_ENTRY_CLAIMED)
            must(v->token == before.token + 1 && v->attempts == before.attempts + 1);
    }
    must(v->last == e.number);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exj_journal_view v = { 0 };

    for (size_t i = 0; i + 3 <= size; i += 3) {
        move((int8_t)data[i + 1] % 16, (int8_t)data[i]);
        must(exj_entry_word((exj_entry_kind)data[i])[0]);
        if (data[i] < EXJ_ENTRY_COUNT) {
            exj_slice word = exj_slice_of(exj_entry_word((exj_entry_kind)data[i]));
            exj_entry_kind again;

            must(exj_entry_parse(word, &again, NULL) == EXJ_OK && again == data[i]);
            apply(&v, again, data[i + 1] % 8, (int8_t)data[i + 2]);
        }
    }
    if (size) {
        exj_slice word = { (const char *)data, size };
        exj_entry_kind kind;
        exj_status status;
        exj_err err = { 0 };

        must(exj_entry_parse(word, &kind, &err) == EXJ_OK || err.text[0]);
        err = (exj_err){ 0 };
        must(exj_status_parse(word, &status, &err) == EXJ_OK || err.text[0]);
    }
    return 0;
}
