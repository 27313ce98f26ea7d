#!/usr/bin/env bash
# tests/chaos/run.sh [--minutes N | --seconds N] [--kills N] [--clients N] [--seed S]
#                    [--store sqlite] [--build DIR] [--keep]
#
# One worker with everything it can do - plugins in its process and in hosts, reloads, schedules,
# signals, cancels, retries, reruns, a sink - under every fault at once: kill -9 and stops of worker
# and hosts, a clock that jumps, a disk that is full or broken. Then the faults end; what is left to
# do is done; and the store, its journal, the sink and the recorded history are held against what
# was answered. Prints verdict, seed and counts; leaves nothing behind but with --keep.
#
# Builds what it needs into build/release, or takes what is in DIR.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
build=
args=()
while [ $# -gt 0 ]; do
  case $1 in
    --store)
      [ "${2:-}" = sqlite ] || { echo "chaos: the store '${2:-}' is not known; there is: sqlite" >&2; exit 2; }
      shift ;;
    --build) build=${2:?chaos: --build wants a folder}; shift ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) args+=("$1") ;;
  esac
  shift
done
if [ -z "$build" ]; then
  build=build/release
  mkdir -p build
  { cmake --preset release && cmake --build --preset release -j 2 --target chaos; } >build/chaos.log 2>&1 || {
    tail -n 30 build/chaos.log
    echo "chaos: it does not build; all of it is in build/chaos.log" >&2
    exit 1
  }
fi
[ -x "$build/tests/chaos/chaos" ] || { echo "chaos: no $build/tests/chaos/chaos: build the target 'chaos' first" >&2; exit 2; }
exec "$build/tests/chaos/chaos" "${args[@]}"
