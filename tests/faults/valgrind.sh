#!/usr/bin/env bash
# tests/faults/valgrind.sh BUILD - the daemon's whole life and a plugin host's under valgrind.
#
#   bash tests/faults/valgrind.sh build/release
#
# Start, documents, rows with steps, waits and signals, a cycle, a snapshot, sinks, every GET
# route, commands, reloads, stop; then the same with the plugins in hosts. 0 errors, 0 blocks
# lost (definite and indirect) in any process. About 30 s. BUILD must not be one of a sanitizer.
set -uo pipefail

build=${1:-build/release}
limit=${EXJ_VALGRIND_SECONDS:-150} # of one of the two runs
build=$(cd "$build" 2>/dev/null && pwd) || {
  echo "valgrind.sh: no build folder '${1:-build/release}': give one, such as build/release" >&2
  exit 2
}
[ -x "$build/tests/faults/life_daemon" ] && [ -x "$build/bin/exellix-jobs" ] || {
  echo "valgrind.sh: $build has no tests/faults/life_daemon: build it first" >&2
  exit 2
}
command -v valgrind >/dev/null || {
  echo "valgrind.sh: valgrind is not installed (Debian package valgrind)" >&2
  exit 2
}
if nm -D "$build/bin/exellix-jobs" 2>/dev/null | grep -q '__[alt]san_init'; then
  echo "SKIPPED: valgrind.sh: $build is built with a sanitizer, which does the same"
  exit 0
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
bad=0
total=0

for lane in in-process host; do
  rounds=$([ "$lane" = host ] && echo 1 || echo 2) # the second reloads
  rm -f "$logs"/vg.*
  EXJ_TEST_WRAPPER="valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect
    --errors-for-leak-kinds=definite,indirect --error-exitcode=99 --trace-children=yes
    --trace-children-skip=*/exellix-jobs-transform --child-silent-after-fork=yes
    --keep-debuginfo=yes --num-callers=30 --fair-sched=yes --vgdb=no
    --suppressions=$here/valgrind.supp --log-file=$logs/vg.%p" \
    timeout "$limit" "$build/tests/faults/life_daemon" --isolation "$lane" \
    --rounds "$rounds" >"$logs/out" 2>&1
  rc=$?
  files=0
  for log in "$logs"/vg.*; do
    [ -e "$log" ] || continue
    files=$((files + 1))
    # "--PID--" are remarks on system calls that it does not know (landlock, seccomp): the
    # cage of a plugin host says itself that it is not closed then.
    if grep -q '^==' "$log"; then
      bad=$((bad + 1))
      echo "---- valgrind, lane $lane: $(basename "$log")"
      grep '^==' "$log" | head -n 120
    fi
  done
  total=$((total + files))
  if [ $rc -ne 0 ]; then
    bad=$((bad + 1))
    echo "---- life_daemon --isolation $lane: exit $rc"
  fi
  if [ $rc -ne 0 ] || [ "$files" -eq 0 ]; then
    tail -n 40 "$logs/out"
  fi
  [ "$files" -gt 0 ] || { echo "valgrind.sh: no process ran under valgrind" >&2; bad=$((bad + 1)); }
  tail -n 1 "$logs/out"
done
echo "valgrind: $total processes, $bad with errors or lost blocks"
[ "$bad" -eq 0 ]
