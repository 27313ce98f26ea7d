/* examples/embed/words.h - two plugins that are part of a program, and the documents that put
 * them to work on the words of a file.
 *
 *   words.source   (a source resolver) reads a text file; each word is a record:
 *                  {"id":"the","record":{"word":"the","times":17}}
 *   words.measure  (a graph engine) answers each with its letters in order, the key under
 *                  which anagrams meet: {"letters":3,"sorted":"eht"}
 */
#ifndef WORDS_H
#define WORDS_H

#include "exellix/json.h"
#include "exellix/plugin.h"

#define WORDS_ENGINE "words.measure"
#define WORDS_MATRIX "words"

extern const exj_bundle words_bundle;

/* Append a graph and a matrix that read `file`, as a JSON array. */
void words_documents(const char *file, exj_json_out *out);

#endif /* WORDS_H */
