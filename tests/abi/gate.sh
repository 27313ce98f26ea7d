#!/usr/bin/env bash
# tests/abi/gate.sh HEADER - is the plugin ABI in HEADER what was promised?
#
#   gate.sh HEADER [--kept DIR] [--changelog FILE]     judge; a line for each gate
#   gate.sh HEADER [...] --header                      all gates but the last
#   gate.sh HEADER [...] --accept                      keep a new minor (docs/plugin-abi.md)
#
# DIR has frozen/ and baseline/ (this folder), FILE is CHANGELOG.md. Gates:
#   anchor   abidiff of a library that mentions every type against the kept description
#   types    every member, callback and constant has the type that its minor promised
#   offsets  offsets, sizes and macros are, to the byte, those that were kept
#   shape    structs begin with size_of and have no padding
#   minor    EXJ_ABI_MINOR, the kept files and CHANGELOG.md tell the same story
#   kept     what is kept of all minors is complete, untouched, and each only adds
# The exit status is 0 when all of them hold, else 1; 2 when they could not be asked.
set -uo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 2
header='' kept=$here changelog=$here/../../CHANGELOG.md accept=no history=yes
while [ $# -gt 0 ]; do
  case $1 in
    --kept) kept=${2:?DIR}; shift ;;
    --changelog) changelog=${2:?FILE}; shift ;;
    --accept) accept=yes ;;
    --header) history=no ;;
    -*) echo "gate.sh: unknown option '$1': wanted --kept, --changelog, --header or --accept" >&2; exit 2 ;;
    *) header=$1 ;;
  esac
  shift
done
[ -f "$header" ] || { echo "gate.sh: no header '$header'" >&2; exit 2; }
for tool in abidw abidiff; do
  command -v $tool >/dev/null || {
    echo "gate.sh: no $tool: apt-get install abigail-tools" >&2
    exit 2
  }
done
header=$(realpath "$header") kept=$(realpath "$kept") changelog=$(realpath "$changelog")
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
failed=0
minors=0 # how many are kept
while [ -f "$kept/baseline/plugin_1_$minors.layout" ]; do minors=$((minors + 1)); done
newest=$((minors - 1))

say() { # GATE, what is wrong on standard input: nothing is well
  local text
  text=$(head -n 40)
  if [ -z "$text" ]; then
    echo "$1: ok"
  else
    echo "$1: FAIL"
    sed 's/^/    /' <<<"$text"
    failed=1
  fi
}

# What can be read from one header, into the folder $tmp/NAME.
study() { # NAME HEADER
  local at=$tmp/$1
  mkdir -p "$at/exellix" && cp "$2" "$at/exellix/plugin.h" || exit 2
  (
    cd "$at" || exit 2
    echo '#include "exellix/plugin.h"' >border.h
    cc -std=c11 -E -I. -x c border.h -o header.i &&
      awk -v header=exellix/plugin.h -f "$here/members.awk" header.i >list.inc &&
      cc -std=c11 -Wall -Wextra -Werror -I. "$here/layout.c" -o layout &&
      ./layout >numbers && { ./layout judge >shape; true; } &&
      cc -std=c11 -E -dM -I. -x c border.h |
      awk '$2 ~ /^(EXJ_|EXELLIX_)/ {
             name = $2; value = $0; sub(/^#define [^ ]+ ?/, "", value)
             kind = value ~ /^(-?[0-9]+u?|".*")$/ ? "constant" : "macro"
             print kind, name, value }' | sort >macros &&
      cat numbers macros >all &&
      cp "$here/anchor.c" "$here/types.c" . &&
      cc -std=c11 -g -O0 -fPIC -shared -fvisibility=hidden -I. anchor.c -o anchor.so
  ) >"$at/why" 2>&1
}

minor_of() { awk '$2 == "EXJ_ABI_MINOR" { sub(/u$/, "", $3); print $3 }' "$tmp/$1/macros"; }

# Everything minors 0..LAST promised, asked of a header.
promises() { # NAME LAST COMPILER...
  local k cc
  for ((k = 0; k <= $2; k++)); do
    echo "#include \"$kept/frozen/types_1_$k.h\""
  done >"$tmp/$1/promises.inc"
  for cc in "${@:3}"; do
    command -v $cc >/dev/null || continue
    (cd "$tmp/$1" && $cc -std=c11 -Wall -Wextra -I. -fsyntax-only types.c 2>&1) |
      grep -E 'error:' | sed "s/^[^:]*:[0-9:]* /$cc: /"
  done
}

same_abi() { # BASELINE NAME: silence, or what abidiff says
  local rc
  if ! grep -q "architecture='elf-amd-x86_64'" "$1" || [ "$(uname -m)" = x86_64 ]; then
    abidiff --no-show-locs "$1" "$tmp/$2/anchor.so" >"$tmp/abidiff" 2>&1
    rc=$?
    [ $rc -eq 0 ] || { echo "abidiff answers $rc:"; cat "$tmp/abidiff"; }
  fi
}

# What minor K has that the next one lost or changed. A struct may have grown; the code of
# a macro may be another; the minor is.
lost() { # LAYOUT LAYOUT
  grep -hvE '^macro |^constant EXJ_ABI_MINOR ' "$1" |
    sed -E 's/^(type [^ ]+) size .*/\1/' | sort >"$tmp/older"
  sed -E 's/^(type [^ ]+) size .*/\1/' "$2" | sort | comm -23 "$tmp/older" -
}

kept_minor() { # K: what is wrong with what is kept of minor K
  local k=$1 f
  for f in "frozen/plugin_1_$k.h" "frozen/types_1_$k.h" "frozen/stub_1_$k.c" "baseline/plugin_1_$k.abixml"; do
    [ -s "$kept/$f" ] || { echo "minor $k: $f is missing"; return; }
  done
  study "minor$k" "$kept/frozen/plugin_1_$k.h" || {
    echo "minor $k: frozen/plugin_1_$k.h cannot be read:"; cat "$tmp/minor$k/why"; return; }
  [ "$(minor_of "minor$k")" = "$k" ] || echo "minor $k: frozen/plugin_1_$k.h says it is minor $(minor_of "minor$k")"
  diff "$kept/baseline/plugin_1_$k.layout" "$tmp/minor$k/all" >"$tmp/diff" || {
    echo "minor $k: baseline/plugin_1_$k.layout is not that of frozen/plugin_1_$k.h (minors are never edited):"
    cat "$tmp/diff"; }
  same_abi "$kept/baseline/plugin_1_$k.abixml" "minor$k"
  promises "minor$k" "$k" gcc | sed "s/^/minor $k: /"
  # every member and constant is promised by somebody
  sed -nE 's/^member ([^ ]+)\.([^ ]+) .*/\1, \2/p; s/^constant ([^ ]+) .*/\1/p' "$tmp/minor$k/all" |
    grep -vxE 'EXJ_ABI_MINOR|exj_note, name' | sort >"$tmp/wanted"
  sed -nE 's/^(MEMBER|CALLBACK)\(([^,]+, [^,]+),.*/\2/p; s/^(NUMBER|TEXT)\(([^,]+),.*/\2/p' \
    "$kept/frozen/types_1_"*.h | sort | comm -23 "$tmp/wanted" - |
    sed "s/^/minor $k: frozen\/types_1_$k.h does not promise /"
  [ "$k" -eq 0 ] || lost "$kept/baseline/plugin_1_$((k - 1)).layout" \
    "$kept/baseline/plugin_1_$k.layout" | sed "s/^/minor $k lost or changed: /"
}

if ! study now "$header"; then
  echo "header: FAIL"
  head -n 20 "$tmp/now/why" | sed 's/^/    /'
  # The promises may still say which member it was.
  mkdir -p "$tmp/now" && cp "$here/types.c" "$tmp/now" && say types < <(promises now "$newest" gcc clang)
  exit 1
fi
minor=$(minor_of now)

told() { # K: CHANGELOG.md tells of minor K
  grep -qiE "plugin ABI minor $1([^0-9]|$)" "$changelog"
}

if [ $accept = yes ]; then
  [ "$minor" = "$minors" ] || {
    echo "gate.sh: minors 0 to $newest are kept: wanted EXJ_ABI_MINOR ${minors}u, found ${minor}u" >&2
    exit 1
  }
  [ "$minor" -eq 0 ] || told "$minor" || {
    echo "gate.sh: $changelog does not say \"Plugin ABI minor $minor\"" >&2
    exit 1
  }
  [ -s "$kept/frozen/types_1_$minor.h" ] || {
    echo "gate.sh: write frozen/types_1_$minor.h first: what this minor adds" >&2
    exit 1
  }
  mkdir -p "$kept/baseline" &&
    cp "$header" "$kept/frozen/plugin_1_$minor.h" &&
    cp "$here/../../plugins/stub/stub.c" "$kept/frozen/stub_1_$minor.c" &&
    abidw --no-show-locs --no-comp-dir-path --no-corpus-path "$tmp/now/anchor.so" \
      >"$kept/baseline/plugin_1_$minor.abixml" &&
    cp "$tmp/now/all" "$kept/baseline/plugin_1_$minor.layout" || exit 2
  echo "kept: minor $minor"
  newest=$minor
fi
[ "$newest" -ge 0 ] || { echo "gate.sh: nothing is kept in $kept/baseline" >&2; exit 2; }

say anchor < <(same_abi "$kept/baseline/plugin_1_$newest.abixml" now)
say types < <(promises now "$newest" gcc clang)
say offsets < <(diff <(grep -v '^constant EXJ_ABI_MINOR ' "$kept/baseline/plugin_1_$newest.layout") \
  <(grep -v '^constant EXJ_ABI_MINOR ' "$tmp/now/all") | grep '^[<>]' |
  sed 's/^</kept: /; s/^>/found:/')
say shape <"$tmp/now/shape"
say minor < <(
  [ "$minor" = "$newest" ] || echo "EXJ_ABI_MINOR is ${minor}u, the newest that is kept is $newest"
  for ((k = 1; k <= newest || k <= minor; k++)); do
    told "$k" || echo "CHANGELOG.md does not say \"Plugin ABI minor $k\""
  done
)
[ $history = no ] || say kept < <(for ((k = 0; k <= newest; k++)); do kept_minor "$k"; done)
exit $failed
