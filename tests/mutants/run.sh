#!/usr/bin/env bash
# tests/mutants/run.sh [--all] [--list] [NAME...] - is every planted bug found?
#
# Builds the tree with the bugs of tests/mutants/plants/ (plant.sh) into build/mutants. Without a
# bug every command must pass; then each bug is switched on alone, and its commands are run in turn
# until one finds it. --all runs all of its commands. Prints what found it and in how long; exits 1
# when a bug is not found.
set -uo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
plants=$PWD/tests/mutants/plants
all=no
only=()
for word in "$@"; do
  case $word in
    --all) all=yes ;;
    --list) for p in "$plants"/*; do printf '%-24s %s\n' "${p##*/}" "$(sed -n 's/^what: //p' "$p")"; done; exit 0 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "mutants: unknown argument '$word'; there are --all, --list and names of bugs" >&2; exit 2 ;;
    *) [ -f "$plants/$word" ] || { echo "mutants: no bug is named '$word'; --list shows them" >&2; exit 2; }
       only+=("$word") ;;
  esac
done
[ ${#only[@]} -gt 0 ] || for p in "$plants"/*; do only+=("${p##*/}"); done
build=$PWD/build/mutants
mkdir -p "$build" || exit 2
bash tests/mutants/plant.sh "$build/tree" || exit 1

commands() { sed -n 's/^by: //p' "$plants/$1"; }
mapfile -t every < <(for n in "${only[@]}"; do commands "$n"; done | sort -u)
mapfile -t targets < <(printf '%s\n' "${every[@]}" | cut -d' ' -f1 | sort -u)

echo "building ${#targets[@]} programs with ${#only[@]} bugs"
{ cmake -S "$build/tree" -B "$build/out" -G Ninja -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_C_FLAGS_DEBUG=-O1 ${EXJ_LAUNCHER:+-DCMAKE_C_COMPILER_LAUNCHER=$EXJ_LAUNCHER} &&
  cmake --build "$build/out" -j 2 --target "${targets[@]##*/}"; } >"$build/build.log" 2>&1 || {
  tail -n 40 "$build/build.log"
  echo "mutants: the tree with the bugs does not build; all of it is in $build/build.log"
  exit 1
}
cd "$build/out" || exit 2
rc=0
log=$build/last.log

now() { date +%s%N; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", (b - a) / 1e9 }'; }
# try MUTANT COMMAND SECONDS: sets $took; 0: it passed.
try() {
  local began status
  began=$(now)
  # shellcheck disable=SC2086
  (EXJ_MUTANT=$1 timeout -k 5 "$3" $2; exit $?) >"$log" 2>&1
  status=$?
  took="$(seconds "$began" "$(now)") s"
  [ $status -eq 124 ] && took="$took, it hung"
  return $status
}

declare -A clean # how many seconds a command may take with a bug: many more than without
for command in "${every[@]}"; do
  try '' "$command" 90
  status=$?
  clean[$command]=$((6 + 3 * ${took%%.*}))
  if [ $status -ne 0 ]; then
    tail -n 30 "$log"
    echo "no bug                   NOT CLEAN: $command ($took)"
    rc=1
  fi
done
[ $rc -eq 0 ] || { echo "mutants: without a bug everything must pass"; exit 1; }
echo "no bug                   ${#every[@]} commands pass"
found=0
for name in "${only[@]}"; do
  by=
  while IFS= read -r command; do
    if try "$name" "$command" "${clean[$command]}"; then
      [ $all = yes ] && printf '%-24s not found by %s (%s)\n' "$name" "$command" "$took"
      continue
    fi
    by=$command
    printf '%-24s found by %s (%s)\n' "$name" "$command" "$took"
    [ $all = yes ] || break
  done < <(commands "$name")
  if [ -n "$by" ]; then
    found=$((found + 1))
  else
    printf '%-24s NOT FOUND: %s\n' "$name" "$(sed -n 's/^what: //p' "$plants/$name")"
    rc=1
  fi
done
echo "mutants: $found of ${#only[@]} bugs found"
exit $rc
