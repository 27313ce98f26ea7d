#!/usr/bin/env bash
# tests/house/links.sh BUILD - holds what was linked against the table of rooms: which room
# uses which symbols, what a room's unit tests link, what a plugin exports, what the binary
# needs and how it is hardened. BUILD is a finished, uninstrumented build folder.
set -uo pipefail
build=${1:?BUILD}
cd "$build" || exit 2
export LC_ALL=C
rc=0
bad() {
  echo "$*"
  rc=1
}

declare -A may=(
  [base]="base"
  [job]="base job"
  [store]="base job store"
  [mongo]="base job store mongo"
  [history]="base job store history"
  [plugin]="base plugin"
  [run]="base job store history plugin run"
  [http]="base job store history plugin run http" # it holds the handles that core/run/engine.h names
  [embed]="base job store history plugin run http embed"
)
# Undefined symbols by pattern, and the only rooms that may have them.
declare -A only=(
  ['sqlite3_[a-z0-9_]*']="store"
  ['MHD_[a-z_]*']="http"
  ['dl(open|sym|close|mopen)']="plugin"
  ['mongoc_[a-z0-9_]*|bson_[a-z0-9_]*']="mongo"
  ['jq_[a-z_]*|jv_[a-z_]*']=""
  ['exit']=""
)
allows() { case " $1 " in *" $2 "*) true ;; *) false ;; esac }

declare -A home=()
rooms=0
for room in "${!may[@]}"; do
  [ -f "libexj_$room.a" ] || continue
  rooms=$((rooms + 1))
  while read -r symbol; do
    home[$symbol]=$room
  done < <(nm -g --defined-only "libexj_$room.a" 2>/dev/null | awk 'NF == 3 { print $3 }')
done
[ $rooms -gt 0 ] || { echo "links: no room in $build"; exit 2; }

for room in "${!may[@]}"; do
  [ -f "libexj_$room.a" ] || continue
  while read -r symbol; do
    there=${home[$symbol]:-}
    if [ -n "$there" ] && ! allows "${may[$room]}" "$there"; then
      bad "room $room uses $symbol of room $there"
    fi
    for pattern in "${!only[@]}"; do
      if [[ $symbol =~ ^($pattern)$ ]] && ! allows "${only[$pattern]}" "$room"; then
        bad "room $room uses $symbol; only (${only[$pattern]}) may"
      fi
    done
  done < <(nm -u "libexj_$room.a" 2>/dev/null | awk 'NF == 2 { print $2 }' | sort -u)
  while read -r symbol; do
    case $symbol in
      exj_* | _*) ;;
      *) bad "room $room defines $symbol without our prefix" ;;
    esac
  done < <(nm -g --defined-only "libexj_$room.a" 2>/dev/null | awk 'NF == 3 { print $3 }')
done

# What a room's unit tests link: that room and what it may use (run and http also link what
# the rooms they use bring with them).
declare -A links=(
  [base]="base" [job]="base job" [store]="base job store" [mongo]="base job store mongo"
  [plugin]="base plugin"
  [history]="base job store history" [run]="base job store history plugin run"
  [http]="base job store history plugin run http"
  [embed]="base job store history plugin run http embed"
)
tests=0
if [ -f build.ninja ] && command -v ninja >/dev/null; then
  for t in $(ninja -t targets all | sed -n 's/^tests\/\(unit_[A-Za-z0-9_]*\):.*EXECUTABLE.*/\1/p'); do
    room=${t#unit_}
    room=${room%%_*}
    tests=$((tests + 1))
    for lib in $(ninja -t commands "tests/$t" | tail -n 1 | grep -oE 'libexj_[a-z]+\.a|libexellix-jobs\.a' | sort -u); do
      lib=${lib#libexj_}
      lib=${lib%.a}
      [ "$lib" = fault ] && continue # tests/support: lets allocations fail; no room
      allows "${links[$room]:-}" "$lib" || bad "$t links room $lib"
    done
  done
fi

plugins=0
for so in bin/plugins/*.so examples/plugins/*.so; do
  [ -f "$so" ] || continue
  plugins=$((plugins + 1))
  exported=$(nm -D --defined-only "$so" | awk '{ print $NF }' | tr '\n' ' ')
  [ "$exported" = "exellix_plugin_v1 " ] || bad "$so exports: $exported"
  needed=$(readelf -d "$so" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -E 'exellix|sqlite|microhttpd|mongoc')
  case ${so##*/}:$needed in # what a source reads with
    source-sql.so:libsqlite3.so.0) needed= ;;
  esac
  [ -z "$needed" ] || bad "$so needs $needed"
  notes=$(readelf -n "$so" 2>/dev/null)
  grep -q exellix <<<"$notes" || bad "$so has no exellix note"
done

# What a program of ours may need, and how it is hardened.
declare -A needs=(
  [exellix-jobs]="libjansson.so libsqlite3.so libmicrohttpd.so libm.so libc.so"
  [exellix-jobs-plugin-host]="libjansson.so libseccomp.so libm.so libc.so"
  [exellix-jobs-transform]="libjq.so libseccomp.so libc.so"
)
for program in "${!needs[@]}"; do
  [ -f "bin/$program" ] || continue
  dynamic=$(readelf -d "bin/$program")
  headers=$(readelf -lW "bin/$program")
  for lib in $(sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' <<<"$dynamic"); do
    case $lib in
      ld-linux*) ;;
      *) allows "${needs[$program]}" "${lib%.so.*}.so" || bad "$program needs $lib" ;;
    esac
  done
  grep -q 'BIND_NOW\|FLAGS.*NOW' <<<"$dynamic" || bad "$program: not linked with -z now"
  grep -q 'PIE' <<<"$dynamic" || bad "$program: not position independent"
  grep -q 'GNU_RELRO' <<<"$headers" || bad "$program: no relro"
  grep -E 'GNU_STACK.*RWE' <<<"$headers" && bad "$program: executable stack"
  symbols=$(nm -D "bin/$program")
  grep -q '__stack_chk_fail' <<<"$symbols" || bad "$program: no stack protector"
  nm -D --defined-only "bin/$program" | grep -E ' exj_| exellix_' && bad "$program exports our symbols"
done
# The programs beside the worker hold no code of the rooms that they may not use.
for program in exellix-jobs-plugin-host exellix-jobs-transform; do
  [ -f "bin/$program" ] || continue
  for room in job store run http; do
    for symbol in "${!home[@]}"; do
      [ "${home[$symbol]}" = "$room" ] && echo " $symbol\$"
    done >"$build/links.tmp"
    nm "bin/$program" | grep -qf "$build/links.tmp" &&
      bad "$program holds code of room $room"
  done
  rm -f "$build/links.tmp"
done

[ $rc -eq 0 ] && echo "links: $rooms rooms, $tests unit tests, $plugins plugins keep to the table"
exit $rc
