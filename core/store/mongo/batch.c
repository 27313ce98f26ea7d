#include "core/store/mongo/batch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/store/mongo/value.h"

/* ---- making -------------------------------------------------------------------------------- */

struct counts {
    int64_t pool;
    int64_t by[EXJ_STATUS_COUNT];
};

struct making {
    bson_t rows, entries;
    uint32_t rows_len, entries_len;
    int64_t next;
    struct counts *counts; /* owned */
    size_t counts_len, counts_cap;
};

static bool count(struct making *m, int64_t pool, int64_t from, int64_t to)
{
    struct counts *c = NULL;

    if (from == to)
        return true;
    for (size_t i = m->counts_len; i-- && !c;)
        if (m->counts[i].pool == pool)
            c = &m->counts[i];
    if (!c) {
        if (m->counts_len == m->counts_cap) {
            size_t cap = m->counts_cap ? m->counts_cap * 2 : 16;
            struct counts *more = realloc(m->counts, cap * sizeof(*more));

            if (!more)
                return false;
            m->counts = more;
            m->counts_cap = cap;
        }
        c = &m->counts[m->counts_len++];
        *c = (struct counts){ .pool = pool };
    }
    if (from >= 0 && from < EXJ_STATUS_COUNT)
        c->by[from]--;
    if (to >= 0 && to < EXJ_STATUS_COUNT)
        c->by[to]++;
    return true;
}

static bool load_entry(const bson_t *e, exj_journal_entry *ret)
{
    int64_t kind = exj_bson_i64(e, "k", -1);

    if (kind < 0 || kind >= EXJ_ENTRY_COUNT)
        return false;
    *ret = (exj_journal_entry){ .kind = (exj_entry_kind)kind,
                                .at = exj_bson_msec(e, "at"),
                                .token = exj_bson_i64(e, "t", 0),
                                .attempt = (uint32_t)exj_bson_i64(e, "a", 0),
                                .value = exj_bson_i64(e, "v", 0),
                                .key = exj_bson_text(e, "key"),
                                .text = exj_bson_text(e, "text") };
    return true;
}

static void add_entry(struct making *m, const exj_journal_entry *e)
{
    char index[16];
    const char *name;
    bson_t doc;

    bson_uint32_to_string(m->entries_len++, &name, index, sizeof(index));
    bson_append_document_begin(&m->entries, name, -1, &doc);
    BSON_APPEND_INT64(&doc, "s", e->seq);
    BSON_APPEND_INT32(&doc, "k", (int32_t)e->kind);
    BSON_APPEND_INT64(&doc, "t", e->token);
    BSON_APPEND_INT64(&doc, "a", e->attempt);
    BSON_APPEND_INT64(&doc, "p", e->previous);
    exj_bson_add_msec(&doc, "at", e->at);
    if (e->value)
        BSON_APPEND_INT64(&doc, "v", e->value);
    if (e->key.n)
        exj_bson_add_text(&doc, "key", e->key);
    if (e->text.n)
        exj_bson_add_text(&doc, "text", e->text);
    bson_append_document_end(&m->entries, &doc);
}

static exj_code is_corrupt(const bson_t *row, exj_err *err)
{
    return exj_err_set(err, EXJ_CORRUPT, "the log of row %" PRId64 " is damaged",
                       exj_bson_i64(row, "seq", 0));
}

static exj_code add_row(struct making *m, const bson_t *row, exj_err *err)
{
    int64_t seq = exj_bson_i64(row, "seq", 0), pool = exj_bson_i64(row, "pool", 0);
    int64_t last = exj_bson_i64(row, "last", 0);
    bson_t of_row, ids, view;
    bson_iter_t it, each;
    char index[16];
    const char *name;
    uint32_t n = 0;
    exj_code rc = EXJ_OK;

    if (!exj_bson_find(row, "log", &it) || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &each) || seq <= 0 || pool <= 0)
        return is_corrupt(row, err);
    bson_uint32_to_string(m->rows_len++, &name, index, sizeof(index));
    bson_append_document_begin(&m->rows, name, -1, &of_row);
    BSON_APPEND_INT64(&of_row, "s", seq);
    BSON_APPEND_INT32(&of_row, "b", (int32_t)exj_bson_i64(row, "b", 0));
    BSON_APPEND_ARRAY_BEGIN(&of_row, "ids", &ids);
    while (!rc && bson_iter_next(&each)) {
        exj_journal_entry e;
        const uint8_t *p;
        uint32_t len;
        bson_iter_t id;

        if (!BSON_ITER_HOLDS_DOCUMENT(&each)) {
            rc = is_corrupt(row, err);
            break;
        }
        bson_iter_document(&each, &len, &p);
        if (!bson_init_static(&view, p, len) || !exj_bson_find(&view, "id", &id) ||
            !BSON_ITER_HOLDS_OID(&id)) {
            rc = is_corrupt(row, err);
            break;
        }
        bson_uint32_to_string(n++, &name, index, sizeof(index));
        bson_append_oid(&ids, name, -1, bson_iter_oid(&id));
        if (!count(m, pool, exj_bson_i64(&view, "from", -1), exj_bson_i64(&view, "to", -1)))
            rc = exj_err_set(err, EXJ_NOMEM, "no memory for a batch of the journal");
        if (!exj_bson_has(&view, "k"))
            continue;
        if (!load_entry(&view, &e)) {
            rc = is_corrupt(row, err);
            break;
        }
        e.seq = seq;
        e.previous = last;
        last = m->next++;
        add_entry(m, &e);
    }
    bson_append_array_end(&of_row, &ids);
    BSON_APPEND_INT64(&of_row, "last", last);
    bson_append_document_end(&m->rows, &of_row);
    return rc;
}

static void add_counts(const struct making *m, bson_t *ret)
{
    char index[16];
    const char *name;
    bson_t all, one, by;

    BSON_APPEND_ARRAY_BEGIN(ret, "c", &all);
    for (size_t i = 0; i < m->counts_len; i++) {
        bson_uint32_to_string((uint32_t)i, &name, index, sizeof(index));
        bson_append_document_begin(&all, name, -1, &one);
        BSON_APPEND_INT64(&one, "p", m->counts[i].pool);
        BSON_APPEND_ARRAY_BEGIN(&one, "d", &by);
        for (uint32_t k = 0; k < EXJ_STATUS_COUNT; k++) {
            bson_uint32_to_string(k, &name, index, sizeof(index));
            bson_append_int64(&by, name, -1, m->counts[i].by[k]);
        }
        bson_append_array_end(&one, &by);
        bson_append_document_end(&all, &one);
    }
    bson_append_array_end(ret, &all);
}

exj_code exj_mbatch_make(const bson_t *const *rows, size_t len, int64_t id, int64_t first,
                         exj_msec now, bson_t *ret, size_t *ret_rows, int64_t *ret_end,
                         exj_err *err)
{
    struct making m = { .next = first };
    exj_code rc = EXJ_OK;
    size_t n = 0;

    bson_init(&m.rows);
    bson_init(&m.entries);
    while (!rc && n < len && n < EXJ_MBATCH_ROWS && m.entries_len < EXJ_MBATCH_ENTRIES &&
           m.entries.len + m.rows.len < EXJ_MBATCH_BYTES)
        rc = add_row(&m, rows[n++], err);
    if (!rc) {
        BSON_APPEND_INT64(ret, "_id", id);
        BSON_APPEND_INT64(ret, "first", first);
        BSON_APPEND_INT64(ret, "end", m.next);
        exj_bson_add_msec(ret, "at", now);
        BSON_APPEND_ARRAY(ret, "rows", &m.rows);
        BSON_APPEND_ARRAY(ret, "e", &m.entries);
        add_counts(&m, ret);
        *ret_rows = n;
        *ret_end = m.next;
    }
    free(m.counts);
    bson_destroy(&m.rows);
    bson_destroy(&m.entries);
    return rc;
}

/* ---- reading ------------------------------------------------------------------------------- */

bool exj_mbatch_iter_init(exj_mbatch_iter *it, const bson_t *batch)
{
    bson_iter_t all;

    *it = (exj_mbatch_iter){ .number = exj_bson_i64(batch, "first", 0) };
    it->corrupt = it->number <= 0 || !exj_bson_find(batch, "e", &all) ||
                  !BSON_ITER_HOLDS_ARRAY(&all) || !bson_iter_recurse(&all, &it->at);
    return !it->corrupt;
}

static bool view_of(const bson_iter_t *it, bson_t *ret)
{
    const uint8_t *p;
    uint32_t len;

    if (!BSON_ITER_HOLDS_DOCUMENT(it))
        return false;
    bson_iter_document(it, &len, &p);
    return bson_init_static(ret, p, len);
}

bool exj_mbatch_iter_next(exj_mbatch_iter *it, exj_journal_entry *ret)
{
    bson_t view;

    if (it->corrupt || !bson_iter_next(&it->at))
        return false;
    if (!view_of(&it->at, &view) || !load_entry(&view, ret)) {
        it->corrupt = true;
        return false;
    }
    ret->seq = exj_bson_i64(&view, "s", 0);
    ret->previous = exj_bson_i64(&view, "p", 0);
    /* Where rows are gone, an entry says its number. */
    it->number = exj_bson_i64(&view, "n", it->number);
    ret->number = it->number++;
    return true;
}

/* The row's part of the batch: the ids of its entries. */
static bool find_row(const bson_t *batch, int64_t seq, bson_t *ret_row)
{
    bson_iter_t it, each;

    if (!exj_bson_find(batch, "rows", &it) || !bson_iter_recurse(&it, &each))
        return false;
    while (bson_iter_next(&each))
        if (view_of(&each, ret_row) && exj_bson_i64(ret_row, "s", 0) == seq)
            return true;
    return false;
}

static bool is_in(const bson_t *of_row, const bson_oid_t *id)
{
    bson_iter_t it, each;

    if (!exj_bson_find(of_row, "ids", &it) || !bson_iter_recurse(&it, &each))
        return false;
    while (bson_iter_next(&each))
        if (BSON_ITER_HOLDS_OID(&each) && bson_oid_equal(bson_iter_oid(&each), id))
            return true;
    return false;
}

void exj_mbatch_kept(const bson_t *batch, const bson_t *row, exj_mbatch_keep visit, void *user)
{
    int64_t seq = exj_bson_i64(row, "seq", 0);
    exj_mbatch_iter numbers;
    exj_journal_entry numbered;
    bson_iter_t it, each, id, body;
    bson_t of_row, entry;

    if (!find_row(batch, seq, &of_row) || !exj_bson_find(row, "log", &it) ||
        !BSON_ITER_HOLDS_ARRAY(&it) || !bson_iter_recurse(&it, &each) ||
        !exj_mbatch_iter_init(&numbers, batch))
        return;
    while (bson_iter_next(&each)) {
        exj_mkept k = { .seq = seq };

        /* The row's entries stand in the batch in the order of its log. */
        if (!view_of(&each, &entry) || !exj_bson_find(&entry, "id", &id) ||
            !BSON_ITER_HOLDS_OID(&id) || !is_in(&of_row, bson_iter_oid(&id)) ||
            !load_entry(&entry, &k.entry))
            continue;
        do
            if (!exj_mbatch_iter_next(&numbers, &numbered))
                return;
        while (numbered.seq != seq);
        k.number = numbered.number;
        if (exj_bson_find(&entry, "body", &body) && view_of(&body, &k.body) && !visit(user, &k))
            return;
    }
}
