#include "core/embed/documents.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/job/config.h"
#include "core/job/schedule.h"

struct reading {
    exj_input_docs *docs;
    void (*tell)(void *user, const char *line);
    void *user;
    size_t mistakes;
    exj_err *err;
    exj_code fatal; /* EXJ_NOMEM: stop */
};

static void mistake(struct reading *r, const char *where, const char *text)
{
    char line[1024];

    snprintf(line, sizeof(line), "%s: %s", where, text);
    r->mistakes++;
    r->tell(r->user, line);
}

static void out_of_memory(struct reading *r)
{
    r->fatal = exj_err_set(r->err, EXJ_NOMEM, "out of memory");
}

/* What is wrong with a document is a mistake; that there is no memory ends the reading. */
static void refuse(struct reading *r, const char *where, const exj_err *err)
{
    if (err->code == EXJ_NOMEM)
        out_of_memory(r);
    else
        mistake(r, where, err->text);
}

static bool keep(struct reading *r, exj_input_doc doc)
{
    exj_input_docs *d = r->docs;

    if (d->len == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 16;
        exj_input_doc *grown = realloc(d->items, cap * sizeof(*grown));

        if (!grown)
            return false;
        d->items = grown;
        d->cap = cap;
    }
    d->items[d->len++] = doc;
    return true;
}

/* What kind is it? `word` is the kind of the list around it, or NULL. */
static bool find_kind(const json_t *o, const char *word, exj_doc_kind *ret, const char **ret_id,
                      const char **ret_why)
{
    const json_t *graph = json_object_get(o, "graphId");
    const json_t *matrix = json_object_get(o, "matrixCatalogId");
    const json_t *schedule = json_object_get(o, "scheduleId");
    bool is_schedule = schedule && !graph && !matrix && (!word || strncmp(word, "schedule", 8) == 0);
    bool is_graph = graph && (!word || strncmp(word, "graph", 5) == 0);
    bool is_matrix = matrix && (!word || strncmp(word, "matri", 5) == 0);

    if (!json_is_object(o))
        *ret_why = "wanted an object with graphId, matrixCatalogId or scheduleId";
    else if (is_schedule && !json_is_string(schedule))
        *ret_why = "scheduleId: wanted a string";
    else if (is_schedule) {
        *ret = EXJ_DOC_SCHEDULE;
        *ret_id = json_string_value(schedule);
        return true;
    } else if (schedule && (graph || matrix))
        *ret_why = "has scheduleId beside graphId or matrixCatalogId: which one is it?";
    else if (graph && matrix)
        *ret_why = "has both graphId and matrixCatalogId: which one is it?";
    else if (!is_graph && !is_matrix && word)
        *ret_why = "has no id of the kind its list says";
    else if (!is_graph && !is_matrix)
        *ret_why = "has none of graphId (a graph), matrixCatalogId (a matrix) and scheduleId "
                   "(a schedule)";
    else if (!json_is_string(is_graph ? graph : matrix))
        *ret_why = is_graph ? "graphId: wanted a string" : "matrixCatalogId: wanted a string";
    else {
        *ret = is_graph ? EXJ_DOC_GRAPH : EXJ_DOC_MATRIX;
        *ret_id = json_string_value(is_graph ? graph : matrix);
        return true;
    }
    return false;
}

static exj_code check(exj_doc_kind kind, exj_slice text, exj_err *err)
{
    exj_graph_config g = { 0 };
    exj_matrix_config m = { 0 };
    exj_schedule s = { 0 };
    exj_code rc;

    if (kind == EXJ_DOC_SCHEDULE)
        rc = exj_schedule_parse(text, (exj_slice){ 0 }, &s, NULL, err);
    else if (kind == EXJ_DOC_GRAPH)
        rc = exj_graph_config_parse(text, (exj_slice){ 0 }, &g, NULL, err);
    else
        rc = exj_matrix_config_parse(text, (exj_slice){ 0 }, &m, NULL, err);
    exj_graph_config_release(&g);
    exj_matrix_config_release(&m);
    exj_schedule_release(&s);
    return rc;
}

static void take_doc(struct reading *r, const char *where, const json_t *o, const char *word)
{
    exj_input_doc doc = { 0 };
    exj_buf text = EXJ_BUF_INIT;
    const char *id, *why;
    exj_err err = { 0 };

    if (!find_kind(o, word, &doc.kind, &id, &why)) {
        mistake(r, where, why);
        return;
    }
    for (size_t i = 0; i < r->docs->len; i++)
        if (r->docs->items[i].kind == doc.kind && strcmp(r->docs->items[i].id, id) == 0) {
            char twice[700];

            snprintf(twice, sizeof(twice), "\"%.200s\" is also in %.400s", id,
                     r->docs->items[i].where);
            mistake(r, where, twice);
            return;
        }
    if (exj_json_print(o, false, &text, &err) != EXJ_OK) {
        exj_buf_release(&text);
        out_of_memory(r);
        return;
    }
    if (check(doc.kind, exj_buf_slice(&text), &err) != EXJ_OK) {
        refuse(r, where, &err);
        exj_buf_release(&text);
        return;
    }
    doc.where = strdup(where);
    doc.id = strdup(id);
    doc.text = exj_buf_take(&text);
    if (!doc.where || !doc.id || !doc.text || !keep(r, doc)) {
        free(doc.where);
        free(doc.id);
        free(doc.text);
        out_of_memory(r);
    }
    exj_buf_release(&text);
}

static void take_list(struct reading *r, const char *where, const json_t *list,
                      const char *word)
{
    char place[4400];

    for (size_t i = 0; i < json_array_size(list) && r->fatal == EXJ_OK; i++) {
        snprintf(place, sizeof(place), "%s#%zu", where, i + 1);
        take_doc(r, place, json_array_get(list, i), word);
    }
}

static void take_value(struct reading *r, const char *where, const json_t *v)
{
    const json_t *items = json_object_get(v, "items");
    const json_t *kind = json_object_get(v, "kind");
    const char *word = json_string_value(kind);

    if (json_is_array(v)) {
        take_list(r, where, v, NULL);
    } else if (!items) {
        take_doc(r, where, v, NULL);
    } else if (!json_is_array(items)) {
        mistake(r, where, "items: wanted an array");
    } else if (json_object_size(v) != (kind ? 2u : 1u)) {
        mistake(r, where, "wanted only kind and items beside each other");
    } else if (kind && (!word || (strcmp(word, "graph") && strcmp(word, "graphs") &&
                                  strcmp(word, "matrix") && strcmp(word, "matrices") &&
                                  strcmp(word, "schedule") && strcmp(word, "schedules")))) {
        mistake(r, where, "kind: wanted graph, matrix or schedule");
    } else {
        take_list(r, where, items, word);
    }
}

static exj_slice trim(exj_slice s)
{
    while (s.n && strchr(" \t\r\n", s.p[0]) && s.p[0]) {
        s.p++;
        s.n--;
    }
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]) && s.p[s.n - 1])
        s.n--;
    return s;
}

/* One value a line: the first line is a whole value and something follows it. */
static bool is_ndjson(exj_slice text)
{
    const char *end = memchr(text.p, '\n', text.n);
    exj_slice first = { text.p, end ? (size_t)(end - text.p) : text.n };

    return end && exj_json_check(trim(first), EXJ_JSON_MAX_DEPTH, NULL, NULL) == EXJ_OK;
}

static void take_lines(struct reading *r, const char *where, exj_slice text)
{
    char place[4400];
    size_t at = 0;

    for (unsigned line = 1; at < text.n && r->fatal == EXJ_OK; line++) {
        const char *end = memchr(text.p + at, '\n', text.n - at);
        size_t n = end ? (size_t)(end - text.p) - at : text.n - at;
        exj_slice one = trim((exj_slice){ text.p + at, n });
        exj_err err = { 0 };
        json_t *v = NULL;

        snprintf(place, sizeof(place), "%s:%u", where, line);
        if (one.n && exj_json_parse(one, &v, &err) != EXJ_OK)
            refuse(r, place, &err);
        else if (one.n)
            take_doc(r, place, v, NULL);
        json_decref(v);
        at += n + 1;
    }
}

static void take_text(struct reading *r, const char *where, exj_slice text)
{
    exj_err err = { 0 };
    json_t *v = NULL;

    text = trim(text);
    if (text.n == 0) {
        mistake(r, where, "empty");
    } else if (is_ndjson(text)) {
        take_lines(r, where, text);
    } else if (exj_json_parse(text, &v, &err) != EXJ_OK) {
        refuse(r, where, &err);
    } else {
        take_value(r, where, v);
    }
    json_decref(v);
}

static int graphs_first(const void *a, const void *b)
{
    const exj_input_doc *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return strcmp(x->id, y->id);
}

exj_code exj_input_docs_take(exj_input_docs *d, const char *where, exj_slice text,
                             void (*tell)(void *user, const char *line), void *user,
                             exj_err *err)
{
    struct reading r = { .docs = d, .tell = tell, .user = user, .err = err };

    take_text(&r, where, text);
    if (r.fatal == EXJ_OK && d->len)
        qsort(d->items, d->len, sizeof(*d->items), graphs_first);
    return r.fatal != EXJ_OK ? r.fatal : r.mistakes ? EXJ_INVALID : EXJ_OK;
}

const char *exj_input_doc_path(exj_doc_kind kind)
{
    return kind == EXJ_DOC_GRAPH    ? "/configs/graphs/"
           : kind == EXJ_DOC_MATRIX ? "/configs/matrices/"
                                    : "/configs/schedules/";
}

void exj_input_docs_release(exj_input_docs *d)
{
    for (size_t i = 0; i < d->len; i++) {
        free(d->items[i].where);
        free(d->items[i].id);
        free(d->items[i].text);
    }
    free(d->items);
    *d = (exj_input_docs){ 0 };
}
