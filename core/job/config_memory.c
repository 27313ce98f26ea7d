#include "core/job/config_memory.h"

#include <stdio.h>
#include <string.h>

#include "core/job/record.h"

/* What mappedInput says about one name. */
struct mapping {
    const char *name;  /* borrowed from the item; NULL: the item says nothing we know */
    const char *from;  /* the record's field; NULL: `value` */
    const json_t *value;
};

static struct mapping mapping_of(const json_t *item)
{
    struct mapping m = { 0 };
    const json_t *name;

    if (json_typeof(item) == JSON_STRING) {
        m.name = m.from = json_string_value(item);
        return m;
    }
    name = json_object_get(item, "name");
    if (!json_is_string(name))
        return m;
    m.from = json_string_value(json_object_get(item, "from"));
    m.value = json_object_get(item, "value");
    if (m.from || m.value)
        m.name = json_string_value(name);
    return m;
}

static void check_mapped_items(exj_field_reader *r, const json_t *items)
{
    char where[48];

    if (json_array_size(items) > EXJ_RECORD_MAX_FIELDS)
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "payload.mappedInput: %zu items; at most %u are allowed",
                              json_array_size(items), EXJ_RECORD_MAX_FIELDS);
    for (size_t i = 0; i < json_array_size(items) && r->code == EXJ_OK; i++) {
        const json_t *item = json_array_get(items, i);

        if (r->strict && !mapping_of(item).name) {
            snprintf(where, sizeof(where), "mappedInput[%zu]", i);
            exj_field_wrong(r, "payload", where, item,
                            "a field name, {\"name\",\"value\"} or {\"name\",\"from\"}");
        }
    }
}

void exj_memory_read(exj_field_reader *r, const json_t *payload, exj_graph_config *c)
{
    const json_t *entry = exj_field_object(r, payload, "payload", "graphEntry");
    json_t *inputs = json_object_get(entry, "inputs");
    json_t *mapped = json_object_get(payload, "mappedInput");
    json_t *memory = NULL;

    if (json_is_null(mapped))
        mapped = NULL;
    if (mapped && json_typeof(mapped) != JSON_ARRAY && json_typeof(mapped) != JSON_OBJECT)
        exj_field_wrong(r, "payload", "mappedInput", mapped, "an array or an object");
    if (json_is_array(mapped))
        check_mapped_items(r, mapped);
    if (r->code != EXJ_OK)
        return;
    memory = json_object();
    if (!memory || (json_is_object(inputs) && json_object_update(memory, inputs) != 0) ||
        (json_is_object(mapped) && json_object_update(memory, mapped) != 0))
        goto nomem;
    for (size_t i = 0; i < json_array_size(mapped); i++) {
        struct mapping m = mapping_of(json_array_get(mapped, i));

        if (m.name && m.from)
            c->memory_needs_record = true;
        else if (m.name && json_object_set(memory, m.name,
                                           (json_t *)(uintptr_t)m.value) != 0)
            goto nomem;
    }
    c->memory = exj_field_print(r, memory);
    c->mapped_input = json_incref(mapped);
    json_decref(memory);
    return;
nomem:
    json_decref(memory);
    exj_field_nomem(r);
}

static bool find_member(exj_slice object, const char *name, exj_slice *ret)
{
    exj_json_iter it;

    exj_json_iter_init(&it, object);
    while (exj_json_iter_next(&it)) {
        if (exj_json_key_is(it.key, name)) {
            *ret = it.value;
            return true;
        }
    }
    return false;
}

/* Does an item set `key` (escaped) from this record? */
static bool is_set_by_record(const json_t *items, exj_slice key, exj_slice record)
{
    exj_slice value;

    for (size_t i = 0; i < json_array_size(items); i++) {
        struct mapping m = mapping_of(json_array_get(items, i));

        if (m.name && m.from && exj_json_key_is(key, m.name) &&
            find_member(record, m.from, &value))
            return true;
    }
    return false;
}

exj_code exj_memory_seed_add(const exj_graph_config *g, exj_slice record, exj_buf *b,
                             exj_err *err)
{
    exj_slice fixed = exj_slice_of(g->memory);
    const char *comma = "";
    size_t before = b->n;
    exj_json_iter it;

    if (!g->memory_needs_record) {
        if (fixed.n > 0 ? exj_buf_add_slice(b, fixed) : exj_buf_add_text(b, "{}"))
            return EXJ_OK;
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    exj_buf_add_char(b, '{');
    exj_json_iter_init(&it, fixed);
    while (exj_json_iter_next(&it)) {
        if (is_set_by_record(g->mapped_input, it.key, record))
            continue;
        exj_buf_add_text(b, comma);
        exj_buf_add(b, it.key.p - 1, it.key.n + 2); /* with its quotes */
        exj_buf_add_char(b, ':');
        exj_buf_add_slice(b, it.value);
        comma = ",";
    }
    for (size_t i = 0; i < json_array_size(g->mapped_input); i++) {
        struct mapping m = mapping_of(json_array_get(g->mapped_input, i));
        bool is_last = true;
        exj_slice value;

        if (!m.name || !m.from || !find_member(record, m.from, &value))
            continue;
        for (size_t k = i + 1; k < json_array_size(g->mapped_input) && is_last; k++) {
            struct mapping later = mapping_of(json_array_get(g->mapped_input, k));
            exj_slice ignored;

            is_last = !(later.name && later.from && strcmp(later.name, m.name) == 0 &&
                        find_member(record, later.from, &ignored));
        }
        if (!is_last)
            continue;
        exj_buf_add_text(b, comma);
        exj_buf_add_json_string(b, exj_slice_of(m.name));
        exj_buf_add_char(b, ':');
        exj_buf_add_slice(b, value);
        comma = ",";
    }
    if (!exj_buf_add_char(b, '}')) {
        b->n = before;
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    return EXJ_OK;
}
