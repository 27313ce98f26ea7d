#!/usr/bin/env bash
# tests/run.sh - the test command: installs what is missing, builds, runs everything.
#
#   bash tests/run.sh           everything; about 25 minutes on two cores
#   bash tests/run.sh --quick   the release build only
#
# The last line is "N passed, N failed"; the exit status is 0 only when something passed
# and nothing failed. Logs stay in build/logs.
set -uo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

quick=no
for word in "$@"; do
  case $word in
    --quick) quick=yes ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "tests/run.sh: unknown argument '$word'; did you mean --quick?" >&2; exit 2 ;;
  esac
done

PACKAGES="gcc g++ libc6-dev clang libclang-rt-14-dev binutils make cmake ninja-build pkg-config
  libjansson-dev libsqlite3-dev libmicrohttpd-dev libcriterion-dev libffi-dev
  libdw-dev libseccomp-dev libjq-dev libmongoc-dev libcurl4-openssl-dev libssl-dev spin valgrind faketime curl python3-venv
  ca-certificates file procps abigail-tools tzdata"
JOBS=2  # compilers
TESTS=3 # tests: most of them wait most of the time
LOGS=build/logs
passed=0
failed=0
declare -A lanes=()
SECONDS=0
mkdir -p "$LOGS" || exit 1
rm -f "$LOGS"/*.log "$LOGS"/sanitizer.*

say() { printf '%s\n' "$*"; }

# ---- what is missing ------------------------------------------------------------------
install_missing() {
  local missing=() p as_root=()
  command -v dpkg-query >/dev/null || {
    say "not a Debian system: install by hand: $PACKAGES"
    return 0
  }
  for p in $PACKAGES; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
      missing+=("$p")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  say "installing: ${missing[*]}"
  { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy \
      --no-install-recommends install "${missing[@]}"; } >"$LOGS/apt.log" 2>&1 || {
    tail -n 20 "$LOGS/apt.log"
    say "tests/run.sh: apt-get failed; its output is in $LOGS/apt.log"
    return 1
  }
}

# ---- steps ------------------------------------------------------------------------------
# step NAME SECONDS COMMAND...: run it, bounded; keep its output; show the end on failure.
step() {
  local name=$1 limit=$2 began=$SECONDS rc
  shift 2
  timeout -k 10 "$limit" "$@" >"$LOGS/$name.log" 2>&1
  rc=$?
  if [ $rc -ne 0 ]; then
    say "---- $name: exit $rc; the end of $LOGS/$name.log:"
    tail -n 60 "$LOGS/$name.log"
    say "----"
  fi
  say "$(printf '%-16s %s  %3d s' "$name" "$([ $rc -eq 0 ] && echo ok || echo FAILED)" \
    $((SECONDS - began)))"
  return $rc
}

# A check of its own counts as one test.
check() {
  if step "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

# The same, and the last lines of what it said are shown: what was tried, with its seeds.
proof() {
  local lines=$1
  shift
  check "$@" && tail -n "$lines" "$LOGS/$1.log" | sed 's/^/    /'
}

# lane NAME FUNCTION: its proofs run in the background; `join NAME` waits, shows and counts.
lane() {
  (passed=0 failed=0
   "$2" >"$LOGS/$1.said" 2>&1
   echo "$passed $failed" >"$LOGS/$1.counts") &
  lanes[$1]=$!
}

join() {
  local counts=(0 1)
  wait "${lanes[$1]}"
  cat "$LOGS/$1.said"
  read -r -a counts <"$LOGS/$1.counts"
  passed=$((passed + counts[0]))
  failed=$((failed + counts[1]))
}

build() {
  step "build-$1" 900 bash -ec '
    cmake --preset "$1"
    cmake --build --preset "$1" -j "$2"' build "$1" "$JOBS" && return 0
  failed=$((failed + 1))
  return 1
}

# Counts what ran: each Criterion test, and each other program as one.
count() {
  awk '
    /^[0-9]+\/[0-9]+ Test(ing)?: / { seen = 0 }
    / Synthesis: / {
      seen = 1
      n = split($0, f, /[^0-9]+/); k = 0
      for (i = 1; i <= n; i++) if (f[i] != "") v[++k] = f[i]
      good += v[2]; bad += v[3] + v[4]
      ok = v[3] + v[4] == 0
    }
    /^Test Passed\.$/ { if (!seen) good++; seen = 0 }
    /^Test (Failed|Timeout)/ { if (!seen || ok) bad++; seen = 0 }
    END { print good + 0, bad + 0 }' "$1"
}

# suite PRESET SECONDS CTEST-ARGUMENTS...
suite() {
  local preset=$1 limit=$2 log counts rc
  shift 2
  log=build/$preset/Testing/Temporary/LastTest.log
  rm -f "$log"
  step "test-$preset" "$limit" ctest --preset "$preset" --timeout 300 -j "$TESTS" \
    --no-tests=error "$@"
  rc=$?
  read -r -a counts < <([ -f "$log" ] && count "$log" || echo 0 0)
  # Criterion counts a skipped test as passed; here it is said and not counted.
  if [ -f "$log" ] && grep -q 'SKIPPED' "$log"; then
    grep 'SKIPPED' "$log" | sort | uniq -c
    counts[0]=$((counts[0] - $(grep -c '^SKIPPED: ' "$log")))
  fi
  if [ $rc -ne 0 ] && [ "${counts[1]}" -eq 0 ]; then
    counts[1]=1
  fi
  passed=$((passed + counts[0]))
  failed=$((failed + counts[1]))
}

busy_proofs() {
  local t=build/release/tests
  proof 20 sim 180 $t/sim/exj_sim --seconds 60 --jobs 1 --quiet
  proof 2 power-cut 240 $t/faults/power_cut --cuts 2000
  proof 2 power-cut-fast 120 $t/faults/power_cut --cuts 200 --fast
  proof 2 store-io 120 $t/faults/store_io
  proof 4 bit-flips 120 $t/faults/bit_flips --flips 200
  proof 2 mem-jobs 240 $t/faults/mem_jobs --stride 40
}

install_missing || { say "0 passed, 1 failed"; exit 1; }

if build release; then
  suite release 900
fi

if [ $quick = no ]; then
  # Proof (docs/reliability.md): short forms; the long ones are commands of their own. What
  # keeps a core busy runs beside what mostly waits.
  if [ -d build/release/tests ]; then
    lane busy busy_proofs
    proof 60 chaos 300 build/release/tests/chaos/chaos --kills 300 --seconds 120
    proof 2 mem-daemon 180 build/release/tests/faults/mem_daemon --points 60
    proof 2 fd-daemon 120 build/release/tests/faults/fd_daemon
    proof 2 clock-daemon 120 build/release/tests/faults/clock_daemon
    proof 2 clock-faketime 120 build/release/tests/faults/clock_daemon --clock faketime
    proof 2 valgrind 240 bash tests/faults/valgrind.sh build/release
    join busy
  fi
  proof 3 model 300 bash tests/model/run.sh
  proof 60 mutants 600 bash tests/mutants/run.sh
  proof 50 coverage 600 bash tests/coverage/run.sh

  if build clang; then
    suite clang 300 -R '^unit_'
  fi

  # Criterion passes a test whose leak the sanitizer reports: a report is a failure.
  if build asan; then
    export ASAN_OPTIONS="log_path=$PWD/$LOGS/sanitizer.asan:detect_leaks=1"
    export UBSAN_OPTIONS="log_path=$PWD/$LOGS/sanitizer.ubsan:print_stacktrace=1"
    suite asan 900 -LE 'house|bench|abi'
    unset ASAN_OPTIONS UBSAN_OPTIONS
    check asan-silence 10 bash -c '
      shopt -s nullglob
      set -- "$1"/sanitizer.*
      [ $# -eq 0 ] || { cat -- "$@"; exit 1; }' silence "$LOGS"
  fi

  # Criterion does not live with the thread sanitizer: tests/race has plain programs.
  if [ -f tests/race/CMakeLists.txt ] && build tsan; then
    export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1"
    suite tsan 300 -LE 'house|bench'
    unset TSAN_OPTIONS
  fi

  if compgen -G 'tests/fuzz/fuzz_*.c' >/dev/null; then
    check fuzz 420 bash tests/fuzz/run.sh
  fi
fi

say "total $((SECONDS / 60)) min $((SECONDS % 60)) s"
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
