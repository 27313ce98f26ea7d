#!/usr/bin/env bash
# tests/abi/edits.sh - breaks copies of plugin.h on purpose and demands that gate.sh says so.
#
# First the header as it is: all gates hold. Then each deliberate edit, with the very gates
# that must fail: a gate that stops seeing what it was made for fails here. Last, what may
# grow: an append is refused alone and with any part of its papers, and passes with all.
set -uo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 2
header=$here/../../include/exellix/plugin.h
changelog=$here/../../CHANGELOG.md
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
bad=0
n=0

judge() { # HEADER [OPTIONS]: the gates that fail, in order; "none". All is told to $said
  local rc fails
  bash "$here/gate.sh" "$@" >"$said" 2>&1
  rc=$?
  fails=$(sed -nE 's/^([a-z]+): FAIL$/\1/p' "$said" | tr '\n' ' ')
  fails=${fails% }
  case $rc in
    0) [ -z "$fails" ] && echo none || echo "exit 0 with $fails" ;;
    1) [ -n "$fails" ] && echo "$fails" || echo "exit 1, no gate" ;;
    *) echo "exit $rc" ;;
  esac
}

expect() { # WHAT WANTED FOUND
  n=$((n + 1))
  if [ "$2" = "$3" ]; then
    echo "ok: $1: $3"
  else
    echo "WRONG: $1: wanted $2, found $3"
    sed 's/^/    /' "$said"
    bad=$((bad + 1))
  fi
}

# edit WHAT WANTED SED-SCRIPT: on a copy of the header; judged below, two at a time.
edits=()
edit() {
  local at=$tmp/edit${#edits[@]}
  edits+=("$1|$2")
  mkdir "$at" || exit 2
  sed -E "$3" "$header" >"$at/plugin.h"
  cmp -s "$header" "$at/plugin.h" && echo "the edit changes nothing any more: $3" >"$at/found"
}

judge_edits() {
  local k from
  for from in 0 1; do
    for ((k = from; k < ${#edits[@]}; k += 2)); do
      said=$tmp/edit$k/said
      [ -s "$tmp/edit$k/found" ] || judge "$tmp/edit$k/plugin.h" --header >"$tmp/edit$k/found"
    done &
  done
  wait
  for k in "${!edits[@]}"; do
    said=$tmp/edit$k/said
    touch "$said"
    expect "${edits[k]%|*}" "${edits[k]#*|}" "$(cat "$tmp/edit$k/found")"
  done
}
said=$tmp/said

expect "the header as it is" none "$(judge "$header")"
sed -E 's|^/\* A call in progress\.|/* A call that is going on.|; s|^    (exj_str job_id;) .*|    \1|' \
  "$header" >"$tmp/edited.h"
expect "other comments" none "$(judge "$tmp/edited.h")"

# 1. append
edit "append a callback to exj_host" "anchor offsets" \
  's|^\} exj_host;|    void (*later)(void *ctx);\n&|'
edit "append a number to exj_args" "anchor offsets" 's|^\} exj_args;|    uint64_t later;\n&|'
edit "append a callback to exj_plugin" "anchor offsets" \
  's|^\} exj_plugin;|    void (*later)(void *instance);\n&|'
edit "append to exj_bundle" "anchor offsets" 's|^\} exj_bundle;|    const void *later;\n&|'
edit "append to exj_str, which may not grow" "anchor offsets" 's|^\} exj_str;|    uint64_t later;\n&|'
edit "append half a word: padding" "anchor offsets shape" 's|^\} exj_args;|    uint32_t later;\n&|'
edit "append a flag" "offsets" 's|^#define EXJ_FLAG_ASYNC .*|&\n#define EXJ_FLAG_LATER 64u|'
edit "append a struct without size_of" "anchor offsets shape" \
  's|^typedef const exj_bundle|typedef struct exj_later {\n    uint64_t at;\n} exj_later;\n\n&|'
# 2. reorder
edit "reorder exj_args: texts of one type" "anchor offsets" \
  's|^    exj_str job_id; .*|    exj_str record_id;|; t; s|^    exj_str record_id;|    exj_str job_id;|'
edit "reorder exj_host: callbacks of one type" "anchor offsets" \
  's|\(\*journal_intent\)|(*journal_swap)|; s|\(\*emit\)|(*journal_intent)|; s|\(\*journal_swap\)|(*emit)|'
edit "reorder exj_bundle: numbers" "anchor offsets" \
  's|uint32_t size_of, abi_minor, n, reserved|uint32_t size_of, n, abi_minor, reserved|'
edit "reorder exj_bundle: size_of is no longer first" "anchor offsets shape" \
  's|uint32_t size_of, abi_minor, n, reserved|uint32_t abi_minor, size_of, n, reserved|'
# 3. change a signature
edit "change a signature: what it is given" "anchor types" 's|exj_call c, double at, |exj_call c, float at, |'
edit "change a signature: one thing more" "anchor types" \
  's|\(\*destroy\)\(void \*instance\)|(*destroy)(void *instance, exj_call c)|'
edit "change a signature: what it answers" "anchor types" 's|int32_t \(\*cancelled\)|void (*cancelled)|'
edit "change a signature: const" "types" 's|const exj_args \*a\)|exj_args *a)|'
edit "change the entry's signature" "anchor types offsets" 's|uint32_t host_minor|uint64_t host_minor|'
# 4. narrow
edit "narrow a number" "anchor types offsets shape" 's|uint64_t deadline_ns|uint32_t deadline_ns|'
edit "narrow the last number" "anchor types offsets shape" 's|uint64_t token|uint32_t token|'
edit "narrow a typedef" "anchor types offsets" 's|typedef uint64_t exj_call|typedef uint32_t exj_call|'
# 5. flip a sign
edit "flip the sign of a number" "anchor types" 's|uint32_t attempt|int32_t attempt|'
edit "flip the sign of size_of" "anchor types shape" \
  's|^    uint32_t size_of;|    int32_t size_of;|'
edit "flip the sign of a typedef" "anchor types" 's|typedef int32_t exj_result|typedef uint32_t exj_result|'
edit "flip the sign of a flag" "types offsets" 's|EXJ_FLAG_ASYNC 16u|EXJ_FLAG_ASYNC 16|'
# 6. renumber
edit "renumber two results" "types offsets" \
  's|EXJ_R_RETRY 3 |EXJ_R_RETRY 4 |; s|EXJ_R_CANCELLED 4 |EXJ_R_CANCELLED 3 |'
edit "renumber a flag of the newest minor" "types offsets" 's|REPLAYABLE 32u|REPLAYABLE 64u|'
edit "renumber the kind of the note" "types offsets" 's|EXJ_NOTE_TYPE 1u|EXJ_NOTE_TYPE 2u|'
# 7. insert
edit "insert a callback" "anchor offsets" 's|^    void \(\*progress\)|    void (*later)(void *ctx);\n&|'
edit "insert a number into a hole of two" "anchor offsets shape" 's|^    uint64_t deadline_ns|    uint32_t later;\n&|'
edit "insert a result: all after it move" "types offsets" \
  's|EXJ_R_INTERNAL 8 |EXJ_R_LATER 8\n#define EXJ_R_INTERNAL 9 |; s|EXJ_R_MISS 9 |EXJ_R_MISS 10 |'
# 8. delete (layout.c or the promises may not compile: that is a refusal as well)
edit "delete a callback" "anchor types offsets" '/\(\*journal_intent\)/d'
edit "delete the last member" "anchor types offsets" '/exj_result \(\*resolve_model\)/d'
edit "delete a number" "anchor types offsets" 's|size_of, kind, flags, state_version|size_of, kind|'
edit "delete a flag" "types offsets" '/^#define EXJ_FLAG_BLOCKING/d'
edit "delete the note's owner" "types offsets" '/^#define EXJ_NOTE_OWNER/d'
edit "delete a type" "header types" '/^typedef const exj_bundle/d; s|sizeof\(exj_entry\)|0|; s|^(#define EXJ_KIND_GRAPH_ENGINE) 1u|\1 exj_gone|'
# and code that plugins are compiled from
edit "another EXJ_SIZE" "offsets" 's|^#define EXJ_SIZE\(T, last\) .*|#define EXJ_SIZE(T, last) ((uint32_t)sizeof(T))|'
edit "another entry" "anchor types offsets" 's|exellix_plugin_v1\(|exellix_plugin_v2(|'
edit "another major" "types offsets" 's|EXJ_ABI_MAJOR 1u|EXJ_ABI_MAJOR 2u|'
edit "a minor that nobody kept" "minor" 's|EXJ_ABI_MINOR [0-9]+u|EXJ_ABI_MINOR 9u|'
edit "a minor that goes back" "minor" 's|EXJ_ABI_MINOR [0-9]+u|EXJ_ABI_MINOR 0u|'

judge_edits
said=$tmp/said

# ---- growth: the change, its minor, its changelog line, what is kept of it ---------------
old=$(sed -nE 's/^#define EXJ_ABI_MINOR ([0-9]+)u$/\1/p' "$header")
new=$((old + 1))
append='s|^\} exj_host;|    exj_result (*later)(void *ctx, exj_call c); /* since the next minor */\n&|'
sed -E "$append" "$header" >"$tmp/append.h"
sed -E "$append; s|EXJ_ABI_MINOR ${old}u|EXJ_ABI_MINOR ${new}u|" "$header" >"$tmp/append_minor.h"
{ cat "$changelog"; echo "- Plugin ABI minor $new: \`exj_host.later\`."; } >"$tmp/changelog"
mkdir "$tmp/plain" && cp -r "$here/frozen" "$here/baseline" "$tmp/plain" || exit 2
promise() { echo 'CALLBACK(exj_host, later, int32_t, (void *, uint64_t))' >"$1/frozen/types_1_$new.h"; }
cp -r "$tmp/plain" "$tmp/whole" && promise "$tmp/whole" || exit 2

expect "append and minor" "anchor offsets minor" \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/plain" --header)"
expect "append and changelog" "anchor offsets" \
  "$(judge "$tmp/append.h" --kept "$tmp/plain" --changelog "$tmp/changelog" --header)"
expect "append, minor and changelog" "anchor offsets minor" \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/plain" --changelog "$tmp/changelog" --header)"
expect "accept without a changelog line" "exit 1, no gate" \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/whole" --accept)"
expect "accept without a minor" "exit 1, no gate" \
  "$(judge "$tmp/append.h" --kept "$tmp/whole" --changelog "$tmp/changelog" --accept)"
expect "accept without a promise" "exit 1, no gate" \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/plain" --changelog "$tmp/changelog" --accept)"
expect "append, minor, changelog, kept" none \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/whole" --changelog "$tmp/changelog" --accept)"
expect "the same again" none \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/whole" --changelog "$tmp/changelog")"
expect "kept and minor, no changelog" minor \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/whole" --header)"
expect "kept, no minor" minor \
  "$(judge "$tmp/append.h" --kept "$tmp/whole" --changelog "$tmp/changelog" --header)"
expect "the header without what is kept" "anchor types offsets minor" \
  "$(judge "$header" --kept "$tmp/whole" --changelog "$tmp/changelog" --header)"

# The kept files of the minor that is there, overwritten with the grown struct.
cp -r "$tmp/plain" "$tmp/over" || exit 2
for f in layout abixml; do cp "$tmp/whole/baseline/plugin_1_$new.$f" "$tmp/over/baseline/plugin_1_$old.$f"; done
sed -i "s/EXJ_ABI_MINOR ${new}u/EXJ_ABI_MINOR ${old}u/" "$tmp/over/baseline/plugin_1_$old.layout"
expect "append, kept in the place of the old" kept \
  "$(judge "$tmp/append.h" --kept "$tmp/over" --changelog "$tmp/changelog")"

# A break with all its papers is still a break.
sed -E "s|EXJ_ABI_MINOR ${old}u|EXJ_ABI_MINOR ${new}u|; s|exj_str job_id; .*|exj_str record_id;|; t
  s|exj_str record_id;|exj_str job_id;|" "$header" >"$tmp/break.h"
cp -r "$tmp/plain" "$tmp/broken" && echo '/* nothing new */' >"$tmp/broken/frozen/types_1_$new.h"
expect "reorder, minor, changelog, kept" kept \
  "$(judge "$tmp/break.h" --kept "$tmp/broken" --changelog "$tmp/changelog" --accept)"
# A growth whose promise forgets the new member.
cp -r "$tmp/plain" "$tmp/silent" && echo '/* nothing new */' >"$tmp/silent/frozen/types_1_$new.h"
expect "append with all papers but its promise" kept \
  "$(judge "$tmp/append_minor.h" --kept "$tmp/silent" --changelog "$tmp/changelog" --accept)"
# A kept header that was lost.
cp -r "$tmp/plain" "$tmp/lost" && rm "$tmp/lost/frozen/plugin_1_0.h"
expect "a header of an old minor is gone" kept "$(judge "$header" --kept "$tmp/lost")"

# ---- extensions: a revision only grows --------------------------------------------------
cp -r "$here/../../include" "$tmp/include" && mkdir "$tmp/ext_kept" && cp -r "$here/ext" "$tmp/ext_kept" || exit 2
find "$tmp/include" -name '*.h' ! -name plugin.h ! -name kv.h -delete
kv=$tmp/include/exellix/ext/kv.h
ext() { # WHAT WANTED(0 holds, 1 refused) SAYS SED-SCRIPT [OPTIONS]: on the header of kv
  local what=$1 wanted=$2 says=$3 script=$4 rc
  shift 4
  sed -E "$script" "$here/../../include/exellix/ext/kv.h" >"$kv"
  [ -z "$script" ] || ! cmp -s "$kv" "$here/../../include/exellix/ext/kv.h" || says="the edit changes nothing"
  bash "$here/ext.sh" "$tmp/include" --kept "$tmp/ext_kept" "$@" >"$said" 2>&1
  rc=$?
  grep -qF "$says" "$said" || rc="$rc without: $says"
  expect "extension: $what" "$wanted" "$rc"
}
grow='s|^\} exj_ext_kv;|    exj_result (*later)(void *ctx, exj_call c);\n&|'
ext "as it is" 0 "as they are kept" ''
ext "append" 1 "offsets are not those of kv_1" "$grow"
ext "change a signature" 1 "types are not those of kv_1" 's|int64_t delta|int32_t delta|'
ext "reorder" 1 "offsets are not those of kv_1" 's|\(\*put\)|(*x)|; s|\(\*remove\)|(*put)|; s|\(\*x\)|(*remove)|'
ext "no size_of" 1 "wanted uint32_t size_of" 's|uint32_t size_of, reserved|uint64_t reserved|'
ext "padding" 1 "padding" 's|uint32_t size_of, reserved|uint32_t size_of|'
ext "another revision that nobody kept" 1 "revision kv_2 is not kept" 's|exellix.kv/1|exellix.kv/2|'
ext "accept a reorder" 1 "lost or moved" 's|\(\*put\)|(*x)|; s|\(\*remove\)|(*put)|; s|\(\*x\)|(*remove)|' --accept
ext "accept an append" 0 "kept: kv_1" "$grow" --accept
ext "the append, kept" 0 "as they are kept" "$grow"

echo "edits: $n judged, $bad wrong"
[ $bad -eq 0 ]
