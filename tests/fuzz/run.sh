#!/usr/bin/env bash
# tests/fuzz/run.sh [SECONDS] [NAME] - builds each tests/fuzz/fuzz_NAME.c with clang's libFuzzer
# under the address and undefined-behaviour sanitizers and runs it for SECONDS (10), first
# over its corpus tests/fuzz/corpus/NAME. What it found stays in build/fuzz/NAME.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
seconds=${1:-10}
only=${2:-}
case $seconds in
  *[!0-9]* | '') echo "fuzz: SECONDS is a number, not '$seconds'" >&2; exit 2 ;;
esac
command -v clang >/dev/null || { echo "fuzz: clang is not installed"; exit 2; }
build=$PWD/build/fuzz
mkdir -p "$build" || exit 2
rc=0
n=0

flags=(-std=c11 -D_GNU_SOURCE "-DEXJ_VERSION=\"fuzz\"" -g1 -O1 -fno-omit-frame-pointer -I. -Iinclude -Isdk/include
  -fsanitize=address,undefined -fno-sanitize-recover=all)
read -r -a cflags < <(pkg-config --cflags jansson sqlite3 libmicrohttpd)
read -r -a libs < <(pkg-config --libs jansson sqlite3 libmicrohttpd)

# The rooms below main, instrumented, once; then one program a target.
rooms() {
  local src obj
  rm -f "$build/librooms.a"
  for src in core/{base,job,store,store/sqlite,plugin,run,http}/*.c; do
    [ -f "$src" ] || continue
    obj=$build/${src//\//_}.o
    [ "$obj" -nt "$src" ] && [ -z "$(find core include -name '*.h' -newer "$obj" -print -quit)" ] && continue
    printf '%s\0%s\0' "$obj" "$src"
  done | xargs -0 -r -n 2 -P 2 clang "${flags[@]}" "${cflags[@]}" -fsanitize=fuzzer-no-link -c -o || return 1
  ar rcs "$build/librooms.a" "$build"/core_*.o
}
rooms || { echo "fuzz: the rooms do not compile"; exit 1; }

for source in tests/fuzz/fuzz_*.c; do
  [ -f "$source" ] || continue
  name=${source##*/fuzz_}
  name=${name%.c}
  [ -z "$only" ] || [ "$only" = "$name" ] || continue
  n=$((n + 1))
  mkdir -p "$build/$name/found"
  # A target outside the rooms names its sources: " * sources: plugins/x/*.c".
  more=()
  for pattern in $(sed -n 's/^ \* sources: //p' "$source"); do
    more+=($pattern)
  done
  clang "${flags[@]}" "${cflags[@]}" -fsanitize=fuzzer -o "$build/$name/fuzz" "$source" "${more[@]}" \
    "$build/librooms.a" "${libs[@]}" -ldl -lm -lpthread || { rc=1; continue; }
  corpus=()
  [ -d "tests/fuzz/corpus/$name" ] && corpus=("tests/fuzz/corpus/$name")
  if timeout -k 5 $((seconds + 60)) "$build/$name/fuzz" -max_total_time="$seconds" -timeout=10 \
    -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$build/$name/" \
    "$build/$name/found" "${corpus[@]}" >"$build/$name/log" 2>&1; then
    echo "fuzz $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name/log") inputs, nothing found"
  else
    echo "fuzz $name: FAILED"
    tail -n 40 "$build/$name/log"
    rc=1
  fi
done
[ $n -gt 0 ] || { echo "fuzz: no target${only:+ named $only}"; exit 1; }
exit $rc
