#!/usr/bin/env bash
# tests/abi/ext.sh INCLUDE [--kept DIR] [--accept] - the other headers of the border.
#
# INCLUDE is the folder that holds exellix/. Of every header below it, the shape: structs
# begin with size_of and have no padding. Of every extension (exellix/ext/NAME.h, whose id
# "exellix.NAME/REVISION" it defines): types and offsets are those that are kept of that
# revision in DIR/ext (tests/abi). --accept keeps what an extension has gained, or a new
# one; it refuses what was lost or moved: that is another revision. Read the report of
# abidiff that it prints: a callback may only be new.
set -uo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 2
include='' kept=$here accept=no
while [ $# -gt 0 ]; do
  case $1 in
    --kept) kept=${2:?DIR}; shift ;;
    --accept) accept=yes ;;
    -*) echo "ext.sh: unknown option '$1': wanted --kept or --accept" >&2; exit 2 ;;
    *) include=$1 ;;
  esac
  shift
done
[ -f "$include/exellix/plugin.h" ] || { echo "ext.sh: no exellix/plugin.h in '$include'" >&2; exit 2; }
for tool in abidw abidiff; do
  command -v $tool >/dev/null || {
    echo "ext.sh: no $tool: apt-get install abigail-tools" >&2
    exit 2
  }
done
include=$(realpath "$include") kept=$(realpath "$kept")
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
failed=0
n=0
bad() {
  echo "$1: $2"
  [ $# -lt 3 ] || sed 's/^/    /' "$3"
  failed=1
}

while read -r header; do
  short=${header#"$include/"}
  n=$((n + 1))
  at=$tmp/$n
  mkdir "$at" || exit 2
  (
    cd "$at" || exit 2
    echo "#include \"$short\"" >border.h
    # plugin.h is always there: the macros of layout.c are its own
    [ "$short" = exellix/plugin.h ] || sed -i '1i #include "exellix/plugin.h"' border.h
    cc -std=c11 -E -I"$include" -x c border.h -o header.i &&
      awk -v "header=$short" -f "$here/members.awk" header.i >list.inc &&
      cc -std=c11 -DONLY_TYPES -Wall -Wextra -Wno-unused -Werror -I. -I"$include" "$here/layout.c" -o layout &&
      ./layout >numbers && { ./layout judge >shape; true; } &&
      cp "$here/anchor.c" . &&
      cc -std=c11 -DONLY_TYPES -g -O0 -fPIC -shared -fvisibility=hidden -I. -I"$include" anchor.c -o anchor.so &&
      cc -std=c11 -E -dM -I"$include" -x c "$header" |
      awk -v id="EXJ_EXT_" 'index($2, id) == 1 && $3 ~ /^"exellix\.[a-z0-9_]+\/[0-9]+"$/ {
            gsub(/"|exellix\./, "", $3); sub(/\//, "_", $3); print $3 }' >id
  ) >"$at/why" 2>&1 || { bad "$short" "cannot be read" "$at/why"; continue; }
  [ -s "$at/shape" ] && bad "$short" "shape" "$at/shape"
  case $short in exellix/ext/*) ;; *) continue ;; esac

  id=$(cat "$at/id")
  [ "$(wc -w <<<"$id")" = 1 ] || { bad "$short" "wanted one #define EXJ_EXT_NAME \"exellix.name/revision\""; continue; }
  was=$kept/ext/$id
  if [ $accept = yes ]; then
    if [ -f "$was.layout" ]; then
      sed -E 's/^(type [^ ]+) size .*/\1/' "$at/numbers" | sort >"$at/now"
      sed -E 's/^(type [^ ]+) size .*/\1/' "$was.layout" | sort | comm -23 - "$at/now" >"$at/lost"
      if [ -s "$at/lost" ]; then
        bad "$short" "lost or moved: give it another revision" "$at/lost"
        continue
      fi
      abidiff --no-show-locs "$was.abixml" "$at/anchor.so" >"$at/diff" 2>&1 || cat "$at/diff"
    fi
    mkdir -p "$kept/ext" && cp "$at/numbers" "$was.layout" &&
      abidw --no-show-locs --no-comp-dir-path --no-corpus-path "$at/anchor.so" >"$was.abixml" || exit 2
    echo "kept: $id"
    continue
  fi
  if ! [ -f "$was.layout" ] || ! [ -f "$was.abixml" ]; then
    bad "$short" "revision $id is not kept: bash tests/abi/ext.sh include --accept"
    continue
  fi
  diff "$was.layout" "$at/numbers" >"$at/diff" || bad "$short" "offsets are not those of $id" "$at/diff"
  if ! grep -q "architecture='elf-amd-x86_64'" "$was.abixml" || [ "$(uname -m)" = x86_64 ]; then
    abidiff --no-show-locs "$was.abixml" "$at/anchor.so" >"$at/diff" 2>&1 ||
      bad "$short" "types are not those of $id" "$at/diff"
  fi
done < <(find "$include/exellix" -name '*.h' | sort)

[ $n -gt 0 ] || { echo "ext.sh: no header" >&2; exit 2; }
[ $failed -eq 0 ] && echo "ext: $n headers have the shape, extensions are as they are kept"
exit $failed
