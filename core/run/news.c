#include "core/run/news.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/job/record.h"

struct exj_news {
    exj_store *store;
    pthread_mutex_t mu; /* held while they are called */
    exj_news_ear *ears; /* guarded by mu */
};

static void tell(void *user, int64_t last)
{
    exj_news *n = user;

    pthread_mutex_lock(&n->mu);
    for (exj_news_ear *e = n->ears; e; e = e->next)
        e->heard(e->user, last);
    pthread_mutex_unlock(&n->mu);
}

exj_code exj_news_open(exj_store *s, exj_news **ret, exj_err *err)
{
    exj_news *n = calloc(1, sizeof(*n));

    if (!n)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    n->store = s;
    pthread_mutex_init(&n->mu, NULL);
    s->v->listen(s, tell, n);
    *ret = n;
    return EXJ_OK;
}

void exj_news_close(exj_news *n)
{
    if (!n)
        return;
    n->store->v->listen(n->store, NULL, NULL);
    pthread_mutex_destroy(&n->mu);
    free(n);
}

void exj_news_add(exj_news *n, exj_news_ear *ear)
{
    pthread_mutex_lock(&n->mu);
    ear->next = n->ears;
    n->ears = ear;
    pthread_mutex_unlock(&n->mu);
}

void exj_news_remove(exj_news *n, exj_news_ear *ear)
{
    exj_news_ear **at;

    pthread_mutex_lock(&n->mu);
    for (at = &n->ears; *at && *at != ear; at = &(*at)->next)
        ;
    if (*at)
        *at = ear->next;
    pthread_mutex_unlock(&n->mu);
}

/* ---- one event as JSON ---------------------------------------------------------------------- */

/* What the row is after it; NULL: it says nothing of that. */
static const char *status_after(exj_entry_kind k)
{
    switch (k) {
    case EXJ_ENTRY_CLAIMED:
    case EXJ_ENTRY_CANCEL_ASKED:
        return exj_status_word(EXJ_RUNNING);
    case EXJ_ENTRY_COMPLETED: return exj_status_word(EXJ_COMPLETED);
    case EXJ_ENTRY_FAILED:
    case EXJ_ENTRY_LEASE_EXPIRED_DEAD:
        return exj_status_word(EXJ_FAILED);
    case EXJ_ENTRY_BLOCKED: return exj_status_word(EXJ_BLOCKED);
    case EXJ_ENTRY_SUSPENDED: return exj_status_word(EXJ_SUSPENDED);
    case EXJ_ENTRY_CANCELED: return exj_status_word(EXJ_CANCELED);
    case EXJ_ENTRY_DROPPED: return exj_status_word(EXJ_DROPPED);
    case EXJ_ENTRY_QUEUED:
    case EXJ_ENTRY_SCHEDULED:
    case EXJ_ENTRY_RETRYING:
    case EXJ_ENTRY_RESUMED:
    case EXJ_ENTRY_RELEASED:
    case EXJ_ENTRY_LEASE_EXPIRED:
    case EXJ_ENTRY_RETRIED:
    case EXJ_ENTRY_RERUN:
    case EXJ_ENTRY_UNBLOCKED:
        return exj_status_word(EXJ_QUEUED);
    default:
        return NULL;
    }
}

static void add_member(exj_buf *b, const char *name, exj_slice text)
{
    exj_buf_printf(b, ",\"%s\":", name);
    exj_buf_add_json_string(b, text);
}

bool exj_event_add_json(exj_buf *b, const exj_event_view *v)
{
    const exj_journal_entry *e = &v->entry;
    const char *status = status_after(e->kind);
    char at[EXJ_TIME_TEXT_BYTES];
    exj_buf row = EXJ_BUF_INIT;

    exj_clock_format(e->at, at);
    exj_buf_printf(b, "{\"number\":%" PRId64 ",\"kind\":\"%s\",\"at\":\"%s\"", e->number,
                   exj_entry_word(e->kind), at);
    if (v->record_id.n) {
        if (!exj_row_name_add(&row, v->matrix, v->run, v->graph, v->record_id))
            b->failed = true;
        add_member(b, "matrixRowId", exj_buf_slice(&row));
        add_member(b, "matrixCatalogId", v->matrix);
        if (v->run.n)
            add_member(b, "matrixRunId", v->run);
        else
            exj_buf_add_text(b, ",\"matrixRunId\":null");
        add_member(b, "graphId", v->graph);
        exj_buf_release(&row);
    }
    exj_buf_printf(b, ",\"status\":%s%s%s,\"attempt\":%" PRIu32 ",\"token\":%" PRId64,
                   status ? "\"" : "", status ? status : "null", status ? "\"" : "", e->attempt,
                   e->token);
    if (e->value && !exj_entry_has_digest(e->kind))
        exj_buf_printf(b, ",\"value\":%" PRId64, e->value);
    add_member(b, "key", e->key);
    add_member(b, "text", e->text);
    exj_buf_add_char(b, '}');
    return !b->failed;
}
