#!/usr/bin/env bash
# tests/house/headers.sh [ROOT] - every header compiles alone: ours as C11, the public ones
# as strict C11 and C++17 with gcc and clang, where they are there.
set -uo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/../..}" || exit 2
rc=0
n=0
warn=(-Wall -Wextra -Wundef -Werror -fsyntax-only -I. -Iinclude -Isdk/include)
read -r -a others < <(pkg-config --cflags libmongoc-1.0 | sed 's/-I/-isystem /g') # core/store/mongo
alone() { # HEADER COMPILER...
  local h=$1
  shift
  n=$((n + 1))
  printf '#include "%s"\n' "$h" | "$@" - || {
    echo "$h does not stand alone: $*"
    rc=1
  }
}
for h in $(find core -name '*.h' | sort); do
  alone "$h" gcc -std=c11 -D_GNU_SOURCE "${warn[@]}" "${others[@]}" -x c
done
for h in $(find include sdk/include -name '*.h' 2>/dev/null | sort); do
  short=${h#sdk/}
  short=${short#include/}
  for cc in gcc clang; do
    command -v $cc >/dev/null && alone "$short" $cc -std=c11 -pedantic "${warn[@]}" -x c
  done
  for cc in g++ clang++; do
    command -v $cc >/dev/null && alone "$short" $cc -std=c++17 -pedantic "${warn[@]}" -x c++
  done
done
[ $n -gt 0 ] || { echo "headers: none found below $PWD"; exit 2; }
[ $rc -eq 0 ] && echo "headers: $n compilations, each header alone"
exit $rc
