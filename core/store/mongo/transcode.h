/* core/store/mongo/transcode.h - JSON texts as BSON, and BSON as JSON texts.
 *
 * What users hand in is JSON, and what MongoDB keeps is BSON. libbson's own translation
 * ("extended JSON") interprets what users wrote ({"$date": …}), rounds, and turns some texts into
 * what is no JSON; so the two ways are ours:
 *
 *     JSON                            BSON            note
 *     object, array                   document, array members in the order in which they stand
 *     string                          UTF-8           NUL is no part of our texts
 *     integer                         int64           always, also 5
 *     any other number (1.0, 1e3)     double          the nearest
 *     true, false, null               bool, null
 *
 * Keys that begin with $, that hold a dot or that are empty are data like any other.
 *
 * CANONICAL FORM. exj_bson_to_json writes: no space; members in the order of the document;
 * integers as their digits; doubles with the fewest digits whose nearest decimal reads back as the
 * same double, always with a point or an exponent (1.0, -0.0, 0.1, 1e17, 5e-324; an exponent
 * where printf's %.17g has one: from 1e17 on and below 0.0001); in strings \" \\ \b \f \n \r \t,
 * \u00xx (small letters) for other bytes below 0x20, and everything else as it is.
 * For every text t that is accepted: what exj_bson_to_json makes of exj_bson_from_json's document
 * is t in canonical form, which is the same JSON value and comes out as itself. For every
 * document b of the types above whose arrays have the keys 0, 1, 2, …: what
 * exj_bson_from_json makes of exj_bson_to_json's text is b, byte for byte.
 * exj_json_print's form (core/base/json.h) differs in two things: doubles have 17 digits there
 * (0.10000000000000001), and \u00XX has capital letters. A text in canonical form is at most four
 * times as long as it came, plus a few bytes.
 *
 * DOCUMENTS OF OTHERS may hold every type of BSON, and may be read:
 *
 *     int32                           integer
 *     double NaN, infinity            refused
 *     Date                            "2026-01-02T03:04:05.678Z", always with milliseconds; a year
 *                                     outside of 0 to 9999 has as many digits as it needs
 *     ObjectId                        24 hexadecimal digits, as a string
 *     Decimal128                      an integer of 64 bits that is spelled without a point or an
 *                                     exponent: integer. At most 15 digits, in the range of
 *                                     doubles: the number, as a double. Else its text, as a
 *                                     string ("NaN" too)
 *     binary                          base64 (RFC 4648, with =), as a string
 *     binary, subtype 4 of 16 bytes   "01234567-89ab-cdef-0123-456789abcdef". Subtype 3, whose
 *                                     order of bytes nobody knows, is base64
 *     timestamp                       {"$timestamp":{"t":SECONDS,"i":NUMBER}}
 *     regular expression              {"$regularExpression":{"pattern":"…","options":"…"}}
 *     code; with scope                {"$code":"…"}; {"$code":"…","$scope":{…}}
 *     symbol                          string
 *     DBPointer                       {"$dbPointer":{"$ref":"…","$id":"24 digits"}}
 *     MinKey, MaxKey                  {"$minKey":1}, {"$maxKey":1}
 *     undefined                       null
 *     keys of arrays                  not looked at: the items come in their order
 *
 * These are no round trips: what came out of a Date is written back as a string. So nobody may
 * write a whole document of others back; the store changes its own fields only ($set), and every
 * other field stays as it is.
 *
 * What comes out passes exj_json_check and exj_json_parse, so a document is refused, naming the
 * path of the culprit (input.items.3.name), when it holds: bytes in a string or a key that are not
 * UTF-8, a NUL in a string, a key twice in one object, a double that is not finite, more levels than
 * allowed.
 *
 * WHAT A STORE HAS TO KNOW. libmongoc refuses empty keys, in inserts and updates, unless it is called
 * with {"validate": false}. In an update that is a pipeline, values that are somebody's data
 * belong into $literal: servers would take keys and strings with $ for operators and fields.
 * A MongoDB before 5.0 refuses keys that begin with $ in some writes, and every version does so
 * at the top of a document in updates: somebody's data is a field's value, never the document.
 *
 * Bounds:  a text has at most EXJ_JSON_MAX_BYTES; the rest is in exj_bson_limits. Time and memory are
 *          linear in the text or the document, but for the keys of large objects (sorted).
 * Errors:  EXJ_INVALID (the text or the document is refused, see above), EXJ_CORRUPT (the bytes are
 *          no BSON), EXJ_NOMEM. Messages name the byte of the text or the path in the document.
 *          On failure the outputs are as before (an exj_buf has its old length; its
 *          `failed` stays set without memory).
 * Memory:  ours fails as EXJ_NOMEM; libbson's own ends the program (bson_malloc), which happens
 *          only where a bson_t grows. exj_bson_encode uses none of it.
 * Numbers: do not depend on the locale.
 * Threads: functions only; no state.
 */
#ifndef EXJ_CORE_STORE_MONGO_TRANSCODE_H
#define EXJ_CORE_STORE_MONGO_TRANSCODE_H

#include <bson/bson.h>

#include "core/base/json.h"

#define EXJ_BSON_MAX_DEPTH EXJ_JSON_MAX_DEPTH
#define EXJ_BSON_MAX_BYTES (15u * 1024u * 1024u)          /* a server takes 16 MiB */
#define EXJ_BSON_MAX_TEXT_BYTES (4u * EXJ_JSON_MAX_BYTES + 64u) /* any accepted text, canonical */

/* 0 in a member, or NULL for all of them: the most there is (above). */
typedef struct exj_bson_limits {
    unsigned depth;    /* of objects and arrays in the value; a scalar has 0. At most
                        * EXJ_BSON_MAX_DEPTH */
    size_t bson_bytes; /* of the whole document that a text becomes, or is put into */
    size_t text_bytes; /* of the text that a document becomes */
} exj_bson_limits;

/* Append the bytes of a BSON document with the members of `object` (a JSON object) to `out`;
 * bson_init_static makes a bson_t of them. */
exj_code exj_bson_encode(exj_slice object, const exj_bson_limits *limits, exj_buf *out,
                         exj_err *err);

/* Append the members of `object` (a JSON object) to `b`, which is initialised. Whether `b` had
 * such keys already is not looked at. */
exj_code exj_bson_from_json(exj_slice object, const exj_bson_limits *limits, bson_t *b,
                            exj_err *err);

/* Append `value` (any JSON value) to `b` under `key` (ours: UTF-8; copied). */
exj_code exj_bson_append_json(bson_t *b, const char *key, exj_slice value,
                              const exj_bson_limits *limits, exj_err *err);

/* Append `b` as a JSON object to `out`. */
exj_code exj_bson_to_json(const bson_t *b, const exj_bson_limits *limits, exj_buf *out,
                          exj_err *err);

/* Append the value that `at` stands on (bson_iter_next or _find was true) to `out`. Paths in
 * messages begin with its key. */
exj_code exj_bson_value_to_json(const bson_iter_t *at, const exj_bson_limits *limits,
                                exj_buf *out, exj_err *err);

#endif /* EXJ_CORE_STORE_MONGO_TRANSCODE_H */
