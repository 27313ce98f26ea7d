#!/usr/bin/env bash
# Parsers at borders, state machines and the store under clang's libFuzzer, with the address and
# undefined-behaviour sanitizers. Each tests/fuzz/fuzz_NAME.c is one target.
#
#   tests/fuzz/run.sh [SECONDS] [NAME...]         the corpora, then SECONDS (2) of each target
#   tests/fuzz/run.sh --minutes N [NAME...]       N minutes of each; what it learns is kept in
#                                                 build/fuzz/NAME/found and taken up again
#   tests/fuzz/run.sh --replay [NAME...]          the committed corpora and nothing more
#
# Two targets run at a time. tests/fuzz/corpus/NAME is the corpus, tests/fuzz/NAME.dict the
# dictionary, where there is one. What was found lies in build/fuzz/NAME, and the command that
# repeats it is printed. Lines at the top of a target's source:
#   " * sources: core/main/x.c …"  what it links beside the rooms below main
#   " * flags: -Itests/fuzz/x"     of its own sources
#   " * options: -max_len=512"     of libFuzzer
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

usage() {
  echo "fuzz: $1" >&2
  sed -n 's/^#   \(tests.*\)/  \1/p' "${BASH_SOURCE[0]}" >&2
  exit 2
}
is_number() {
  case $1 in *[!0-9]* | '') return 1 ;; esac
}

mode=short
seconds=2
case ${1:-} in
  --minutes)
    is_number "${2:-}" || usage "--minutes wants a number, not '${2:-}'"
    mode=long
    seconds=$(($2 * 60))
    shift 2
    ;;
  --replay) mode=replay; shift ;;
  -*) usage "unknown option '$1'" ;;
  '') ;;
  *) if is_number "$1"; then seconds=$1; shift; fi ;;
esac
command -v clang >/dev/null || { echo "fuzz: clang is not installed"; exit 2; }

sources=()
for source in tests/fuzz/fuzz_*.c; do
  name=${source##*/fuzz_}
  name=${name%.c}
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] && sources+=("$source")
done
for name in "$@"; do
  [ -f "tests/fuzz/fuzz_$name.c" ] || usage "no target named '$name'"
done

build=$PWD/build/fuzz
mkdir -p "$build" || exit 2
# Stores of targets lie in memory where that is possible.
TMPDIR=$(mktemp -d -p /dev/shm exj-fuzz-XXXXXX 2>/dev/null || mktemp -d "$build/tmp-XXXXXX") || exit 2
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

flags=(-std=c11 -D_GNU_SOURCE "-DEXJ_VERSION=\"fuzz\"" -g1 -O1 -fno-omit-frame-pointer -I. -Iinclude -Isdk/include
  -fsanitize=address,undefined -fno-sanitize-recover=all)
read -r -a cflags < <(pkg-config --cflags jansson sqlite3 libmicrohttpd libmongoc-1.0)
read -r -a libs < <(pkg-config --libs jansson sqlite3 libmicrohttpd libmongoc-1.0)
stamp="$(clang --version | head -n 1) ${flags[*]} ${cflags[*]}"
if [ "$(cat "$build/stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -f "$build"/*.o "$build"/librooms.a
  printf '%s' "$stamp" >"$build/stamp"
fi

# The rooms below main, instrumented, once; then one program a target.
newest_header=$(find core include sdk/include -name '*.h' -printf '%T@ %p\n' | sort -rn | sed -n '1s/^[^ ]* //p')
rooms() {
  local src obj old=() all=()
  for src in core/{base,job,store,store/sqlite,history,plugin,run,http}/*.c; do
    obj=$build/${src//\//_}.o
    all+=("$obj")
    [ "$obj" -nt "$src" ] && [ "$obj" -nt "$newest_header" ] && continue
    old+=("$obj" "$src")
  done
  if [ ${#old[@]} -gt 0 ]; then
    printf '%s\0' "${old[@]}" | xargs -0 -n 2 -P 2 \
      clang "${flags[@]}" "${cflags[@]}" -fsanitize=fuzzer-no-link -c -o || return 1
  fi
  [ ${#old[@]} -eq 0 ] && [ "$(ar t "$build/librooms.a" 2>/dev/null | wc -l)" = ${#all[@]} ] && return 0
  rm -f "$build/librooms.a" # it may hold what is no source any more
  ar rcs "$build/librooms.a" "${all[@]}"
}
rooms || { echo "fuzz: the rooms do not compile"; exit 1; }

words_of() { # WORD FILE: what the target's source says behind " * WORD: "
  sed -n "1,40s/^ \* $1: //p" "$2" | sed 's,[*]/,,'
}

compile() { # SOURCE NAME
  local program=$build/$2/fuzz more=() own=() src
  mkdir -p "$build/$2/found"
  for src in $(words_of sources "$1"); do
    more+=($src)
  done
  read -r -a own < <(words_of flags "$1")
  if [ "$program" -nt "$build/librooms.a" ] && [ "$program" -nt "$1" ] &&
    [ -z "$(find "${more[@]}" tests/fuzz tests/contract tests/support core/main plugins -maxdepth 2 \
      -name '*.[ch]' ! -name 'fuzz_*.c' -newer "$program" -print -quit 2>/dev/null)" ]; then
    return 0
  fi
  clang "${flags[@]}" "${own[@]}" "${cflags[@]}" -fsanitize=fuzzer -o "$program" "$1" "${more[@]}" \
    "$build/librooms.a" "${libs[@]}" -ldl -lm -lpthread
}

stat_of() { # NAME LOG
  sed -n "s/^stat::$1: *//p" "$2"
}

one() { # SOURCE: prints one line, or what was found
  local source=$1 name dir log options=() corpus=() words=() rc edges found
  name=${source##*/fuzz_}
  name=${name%.c}
  dir=$build/$name
  log=$dir/log
  compile "$source" "$name" || { echo "fuzz $name: does not compile"; return 1; }
  [ -d "tests/fuzz/corpus/$name" ] && corpus=("tests/fuzz/corpus/$name")
  [ -f "tests/fuzz/$name.dict" ] && options+=("-dict=tests/fuzz/$name.dict")
  read -r -a words < <(words_of options "$source")
  options+=("${words[@]}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
    "-artifact_prefix=$dir/")
  case $mode in
    replay) options+=(-runs=0) ;;
    short)
      rm -rf "$dir/short"
      mkdir "$dir/short"
      corpus=("$dir/short" "${corpus[@]}")
      options+=("-max_total_time=$seconds")
      ;;
    long)
      corpus=("$dir/found" "${corpus[@]}")
      options+=("-max_total_time=$seconds")
      ;;
  esac
  timeout -k 5 $((seconds + 120)) "$dir/fuzz" "${options[@]}" "${corpus[@]}" >"$log" 2>&1
  rc=$?
  edges=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  if [ $rc -eq 0 ]; then
    printf 'fuzz %-10s %9s inputs %7s/s %6s edges  found nothing\n' "$name" \
      "$(stat_of number_of_executed_units "$log")" "$(stat_of average_exec_per_sec "$log")" "${edges:-?}"
    return 0
  fi
  found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  tail -n 40 "$log"
  if [ -n "$found" ]; then
    echo "fuzz $name: FAILED after ${edges:-?} edges; the input is $found; to repeat it:"
    echo "  TMPDIR=/tmp $dir/fuzz $found"
  elif [ $rc -ge 124 ]; then
    echo "fuzz $name: FAILED: it was stopped after $((seconds + 120)) s (exit status $rc); its log is $log"
  else
    echo "fuzz $name: FAILED with exit status $rc; its log is $log"
  fi
  return 1
}

rc=0
running=0
for source in "${sources[@]}"; do
  (said=$(one "$source"); one_rc=$?; printf '%s\n' "$said"; exit $one_rc) &
  running=$((running + 1))
  if [ $running -eq 2 ]; then
    wait -n || rc=1
    running=1
  fi
done
while [ $running -gt 0 ]; do
  wait -n || rc=1
  running=$((running - 1))
done
[ ${#sources[@]} -gt 0 ] || { echo "fuzz: no target"; exit 1; }
exit $rc
