#!/usr/bin/env bash
# tests/coverage/run.sh - branch coverage of the rules, the lease, the journal and reload.
#
#   bash tests/coverage/run.sh           build, run, print the table
#   bash tests/coverage/run.sh --list    and each branch without a test, with the reason
#   bash tests/coverage/run.sh --html    and one annotated page a file in build/coverage/html
#
# scope.txt names the files. Every branch in them must be taken by one of the tests below,
# or stand in exceptions.txt with its reason; a function that is never called counts as a
# branch that is not taken. Where scope.txt has a number behind a file, so many of its
# branches may still be without a test: it may only become smaller. The exit status is 0
# only then, and when every exception is still needed.
#
# gcc counts without optimisation, so that each branch is the source's own. With NDEBUG: an
# assert() is a statement about our own mistakes, which no test can make false; counted, it
# would be a branch that is never taken and that nobody could do anything about. The tests'
# own assertions are not assert() and stay. What is built here is not installed; needs gcc
# (gcov comes with it), awk, and what the tests need.
set -uo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

list=0
html=no
for word in "$@"; do
  case $word in
    --list) list=1 ;;
    --html) html=yes ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "tests/coverage/run.sh: unknown argument '$word'; wanted --list or --html" >&2
       exit 2 ;;
  esac
done

here=tests/coverage
build=build/coverage
mkdir -p "$build" || exit 1
say() { printf '%s\n' "$*"; }
die() { say "tests/coverage/run.sh: $*" >&2; exit 1; }
export LC_ALL=C
SECONDS=0

# ---- what runs: a target and its arguments, one a line ----------------------------------------
programs() {
  local t s lane
  for t in tests/unit/{job,store}/test_*.c tests/unit/run/test_{admit,deck,orders,reload,retire,schedules,trial,verify,verify_odd}.c \
    tests/unit/run/test_{claimer,keeper,outbox}.c tests/unit/plugin/test_{candidate,generation,notice,shelf,shelf_keep,shelf_memory}.c \
    tests/unit/http/test_{api,command,events_in,plugin_past,quarantine,steps}.c; do
    [ -f "$t" ] || continue
    s=${t#tests/unit/}
    say "unit_${s%%/*}_$(basename "$t" .c) -j1 --timeout 120"
  done
  for t in tests/contract/test_*.c; do
    say "contract_$(basename "$t" .c) -j1 --timeout 120"
  done
  for s in engine cancel fenced renew parked remote schedules embed; do
    say "race_$s"
  done
  for s in $(sed -n '/^foreach(scenario/,/)$/p' tests/reload/CMakeLists.txt |
    tr -d '()' | sed 's/^foreachscenario//'); do
    for lane in in-process host; do
      say "reload_switch $s $lane"
    done
  done
  say "reload_switch canary_window in-process"
}

# ---- build ------------------------------------------------------------------------------------
launcher=
command -v ccache >/dev/null && launcher=ccache
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_C_COMPILER=gcc \
  -DCMAKE_C_COMPILER_LAUNCHER="$launcher" -DCMAKE_C_FLAGS="-O0 -g1 -DNDEBUG" \
  -DCMAKE_EXE_LINKER_FLAGS=--coverage \
  -DCMAKE_PROJECT_exellix-jobs_INCLUDE="$PWD/$here/flags.cmake" >"$build/build.log" 2>&1 ||
  { tail -n 20 "$build/build.log"; die "cmake failed; its output is in $build/build.log"; }
programs >"$build/programs.txt"
mapfile -t targets < <(cut -d' ' -f1 "$build/programs.txt" | sort -u)
ninja -C "$build" -j2 "${targets[@]}" >"$build/build.log" 2>&1 ||
  { tail -n 40 "$build/build.log"; die "the build failed; its output is in $build/build.log"; }
built=$SECONDS

# ---- run --------------------------------------------------------------------------------------
find "$build" -name '*.gcda' -delete
rm -rf "$build/logs"
mkdir -p "$build/logs"
run_one() {
  local words=("$@") log status
  log="$EXJ_COVER_LOGS/$(printf '%s' "$*" | tr -c 'a-zA-Z0-9_\n' '-').log"
  # Criterion runs each test in a process of its own, which must not write to our terminal.
  timeout 180 "$(find "$EXJ_COVER_BUILD/tests" -name "${words[0]}" -type f -perm -u+x | head -n 1)" \
    "${words[@]:1}" >"$log" 2>&1
  status=$?
  [ $status -eq 0 ] || { echo "$* (exit status $status)" >>"$EXJ_COVER_LOGS/failed"; }
}
export -f run_one
export EXJ_COVER_BUILD=$PWD/$build EXJ_COVER_LOGS=$PWD/$build/logs
xargs -P4 -I{} bash -c 'run_one {}' <"$build/programs.txt"
if [ -f "$build/logs/failed" ]; then
  sort "$build/logs/failed"
  die "tests failed, so the figures would not be true; their output is in $build/logs"
fi
ran=$((SECONDS - built))

# ---- figures ----------------------------------------------------------------------------------
notes=()
while read -r f; do
  room=${f#core/}
  notes+=("$build/CMakeFiles/exj_${room%%/*}.dir/$f.gcno")
done < <(grep -o '^core/[^ ]*' "$here/scope.txt")
gcov -b -c -t "${notes[@]}" >"$build/gcov.out" 2>"$build/gcov.err" ||
  { tail -n 5 "$build/gcov.err"; die "gcov failed: does its version fit gcc's?"; }
awk -v root="$PWD/" -v list="$list" -f "$here/report.awk" "$here/exceptions.txt" \
  "$here/scope.txt" "$build/gcov.out"
status=$?
if [ $html = yes ]; then
  mkdir -p "$build/html"
  awk -v root="$PWD/" -v dir="$build/html" -f "$here/html.awk" "$here/scope.txt" \
    "$build/gcov.out"
  say "pages: $build/html/index.html"
fi
say "coverage: built in $built s, ran in $ran s"
[ $status -eq 0 ] ||
  say "coverage: write the test that takes the branch, take the branch out, or add it to" \
    "$here/exceptions.txt with its reason"
exit $status
