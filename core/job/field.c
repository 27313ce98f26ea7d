#include "core/job/field.h"

#include <math.h>
#include <stdio.h>

#include "core/job/record.h"

static const char *dot(const char *path)
{
    return *path ? "." : "";
}

void exj_field_nomem(exj_field_reader *r)
{
    if (r->code == EXJ_OK)
        r->code = exj_err_set(r->err, EXJ_NOMEM, "out of memory while reading a document");
}

void exj_field_wrong(exj_field_reader *r, const char *path, const char *name,
                     const json_t *value, const char *wanted)
{
    char text[96] = { 0 };
    size_t n;

    if (r->code != EXJ_OK)
        return;
    if (json_typeof(value) == JSON_STRING) {
        snprintf(text, sizeof(text), "\"%.80s\"", json_string_value(value));
    } else {
        n = json_dumpb(value, text, sizeof(text) - 4, JSON_ENCODE_ANY | JSON_COMPACT);
        if (n > sizeof(text) - 4) /* what did not fit was left out piece by piece */
            memcpy(text + strlen(text), "...", 4);
    }
    r->code = exj_err_set(r->err, EXJ_INVALID, "%s%s%s: found %s; wanted %s", path, dot(path),
                          name, text, wanted);
}

void exj_field_known(exj_field_reader *r, const json_t *object, const char *path,
                     const char *const *known)
{
    json_t *members = json_incref((json_t *)(uintptr_t)object);
    const char *key;
    json_t *value;

    json_object_foreach(members, key, value) {
        const char *nearest = NULL;
        unsigned best = 64;
        size_t i = 0;

        if (!r->strict || r->code != EXJ_OK)
            break;
        for (; known[i] && strcmp(known[i], key) != 0; i++) {
            unsigned d = exj_edit_distance(key, known[i]);

            if (d < best) {
                best = d;
                nearest = known[i];
            }
        }
        if (known[i])
            continue;
        if (!nearest)
            nearest = known[0];
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "%s%s%.*s: unknown key; did you mean \"%s\"?", path, dot(path),
                              128, key, nearest);
    }
    json_decref(members);
}

static json_t *find(const exj_field_reader *r, const json_t *object, const char *name)
{
    json_t *value = r->code == EXJ_OK && object ? json_object_get(object, name) : NULL;

    return json_is_null(value) ? NULL : value;
}

json_t *exj_field_object(exj_field_reader *r, const json_t *object, const char *path,
                         const char *name)
{
    json_t *value = find(r, object, name);

    if (value && json_typeof(value) != JSON_OBJECT) {
        exj_field_wrong(r, path, name, value, "an object");
        return NULL;
    }
    return value;
}

json_t *exj_field_array(exj_field_reader *r, const json_t *object, const char *path,
                        const char *name)
{
    json_t *value = find(r, object, name);

    if (value && json_typeof(value) != JSON_ARRAY) {
        exj_field_wrong(r, path, name, value, "an array");
        return NULL;
    }
    return value;
}

exj_slice exj_field_text(exj_field_reader *r, const json_t *object, const char *path,
                         const char *name)
{
    json_t *value = find(r, object, name);

    if (!value)
        return (exj_slice){ 0 };
    if (json_typeof(value) != JSON_STRING || json_string_length(value) == 0) {
        exj_field_wrong(r, path, name, value, "a string that is not empty");
        return (exj_slice){ 0 };
    }
    return (exj_slice){ json_string_value(value), json_string_length(value) };
}

char *exj_field_id(exj_field_reader *r, const json_t *object, const char *path,
                   const char *name)
{
    exj_slice text = exj_field_text(r, object, path, name);
    char where[EXJ_FIELD_PATH_BYTES];
    char *copy;

    if (text.n == 0)
        return NULL;
    snprintf(where, sizeof(where), "%s%s%s", path, dot(path), name);
    r->code = exj_id_check(text, where, r->err);
    if (r->code != EXJ_OK)
        return NULL;
    copy = exj_slice_dup(text);
    if (!copy)
        exj_field_nomem(r);
    return copy;
}

bool exj_field_int(exj_field_reader *r, const json_t *object, const char *path,
                   const char *name, int64_t least, int64_t most, int64_t *ret)
{
    json_t *value = find(r, object, name);
    char wanted[96];

    if (!value)
        return false;
    if (json_typeof(value) != JSON_INTEGER || json_integer_value(value) < least ||
        json_integer_value(value) > most) {
        snprintf(wanted, sizeof(wanted), "a whole number from %lld to %lld", (long long)least,
                 (long long)most);
        exj_field_wrong(r, path, name, value, wanted);
        return false;
    }
    *ret = json_integer_value(value);
    return true;
}

bool exj_field_real(exj_field_reader *r, const json_t *object, const char *path,
                    const char *name, double least, double most, double *ret)
{
    json_t *value = find(r, object, name);
    char wanted[96];
    double v;

    if (!value)
        return false;
    v = json_number_value(value);
    if ((json_typeof(value) != JSON_INTEGER && json_typeof(value) != JSON_REAL) ||
        !(v >= least && v <= most)) {
        snprintf(wanted, sizeof(wanted), "a number from %.10g to %.10g", least, most);
        exj_field_wrong(r, path, name, value, wanted);
        return false;
    }
    *ret = v;
    return true;
}

bool exj_field_seconds(exj_field_reader *r, const json_t *object, const char *path,
                       const char *name, double least, double most, exj_msec *ret)
{
    double seconds;

    if (!exj_field_real(r, object, path, name, least, most, &seconds))
        return false;
    /* 0.1 s is 100 ms, not 101: what a double adds below a microsecond is not meant. */
    *ret = (exj_msec)ceil(seconds * 1000 - 1e-3);
    if (*ret == 0 && seconds > 0)
        *ret = 1;
    return true;
}

char *exj_field_print(exj_field_reader *r, const json_t *value)
{
    exj_buf b = EXJ_BUF_INIT;

    if (r->code != EXJ_OK)
        return NULL;
    if (value)
        r->code = exj_json_print(value, false, &b, r->err);
    else if (!exj_buf_add_text(&b, "{}"))
        exj_field_nomem(r);
    if (r->code != EXJ_OK) {
        exj_buf_release(&b);
        return NULL;
    }
    return exj_buf_take(&b);
}
