/* core/run/news.h - "something happened": the store's one listener, for many.
 *
 * Threads: add and remove from any thread; `heard` runs on the store's writer thread, must be
 * short and must call nothing of this. Once remove has returned it does not run any more.
 */
#ifndef EXJ_CORE_RUN_NEWS_H
#define EXJ_CORE_RUN_NEWS_H

#include "core/store/store.h"

typedef struct exj_news exj_news;

typedef struct exj_news_ear {
    void (*heard)(void *user, int64_t last); /* the newest event's number */
    void *user;
    struct exj_news_ear *next; /* the list's */
} exj_news_ear;

/* Takes the store's listener. Errors: EXJ_NOMEM. */
exj_code exj_news_open(exj_store *s, exj_news **ret, exj_err *err);
void exj_news_close(exj_news *n); /* accepts NULL; no ear may be left */
void exj_news_add(exj_news *n, exj_news_ear *ear); /* borrowed until it is removed */
void exj_news_remove(exj_news *n, exj_news_ear *ear);

/* One event as sinks and streams show it:
 *   {"number","kind","at","matrixRowId","matrixCatalogId","matrixRunId":null|"…","graphId",
 *    "status":null|"…","attempt","token","value"?,"key","text"}
 * The names are missing when the row is gone. False: no memory. */
bool exj_event_add_json(exj_buf *b, const exj_event_view *v);

#endif /* EXJ_CORE_RUN_NEWS_H */
