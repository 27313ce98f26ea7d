#!/bin/bash
# examples/checksum/run.sh [FOLDER]: zlib's crc32 over every file of a folder (examples/audit),
# called by a manifest, and the same numbers from gzip beside it.
#
# Installs what is missing and builds first. It only reads FOLDER; what it writes lies in
# build/checksum.
set -u -o pipefail

say() { printf '%s\n' "$*"; }
die() {
  printf 'checksum: %s\n' "$*" >&2
  exit 1
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
case ${1-} in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ $# -le 1 ] || die "one folder, not $#"
folder=$(realpath -- "${1:-$here/examples/audit}") && [ -d "$folder" ] || die "$1: no such folder"
case $folder in *[\"\\\&\|]* | *$'\n'*) die "no quotes, backslashes, & or | in the name of the folder" ;; esac
build=${CHECKSUM_BUILD:-$here/build/checksum-release}
work=${CHECKSUM_WORK:-$here/build/checksum}

# ---- what is missing ------------------------------------------------------------------
packages="gcc libc6-dev cmake ninja-build pkg-config libjansson-dev libsqlite3-dev
  libmicrohttpd-dev libseccomp-dev libffi-dev zlib1g gzip"
missing=()
if command -v dpkg-query >/dev/null; then
  for p in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
fi
mkdir -p "$work/plugins" "$work/config" || die "cannot make $work"
quiet() {
  local log=$work/$1.log
  shift
  "$@" >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    die "this failed: $* (all of it: $log)"
  }
}
if [ ${#missing[@]} -gt 0 ]; then
  say "Installing ${missing[*]}"
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  quiet apt-update "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update
  quiet apt-install "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy \
    --no-install-recommends install "${missing[@]}"
fi

# ---- build ----------------------------------------------------------------------------
if [ -z "${CHECKSUM_BUILD-}" ]; then
  [ -x "$build/bin/exellix-jobs" ] || say "Building into ${build#"$here"/}"
  quiet configure cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DEXJ_TESTS=OFF
  quiet build cmake --build "$build" --target exellix-jobs exellix-jobs-plugin-host plugin_ffi \
    example_checksum_source
fi
jobs=$build/bin/exellix-jobs
install -m 755 "$build/bin/plugins/ffi.so" "$build/examples/plugins/checksum-source.so" \
  "$work/plugins/" || die "cannot install the plugins into $work/plugins"

# ---- run --------------------------------------------------------------------------------
rm -rf "$work/data"
install -m 644 "$here/examples/checksum/config/graph.json" "$work/config/" &&
  sed "s|\"root\": \"[^\"]*\"|\"root\": \"$folder\"|" "$here/examples/checksum/config/matrix.json" \
    >"$work/config/matrix.json" || die "cannot write $work/config"
unset MONGO_URI
export EXELLIX_JOBS_PLUGINS_DIR=$work/plugins EXELLIX_JOBS_DATA_DIR=$work/data
export EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP=exellix.ffi
export EXELLIX_JOBS_LOG_LEVEL=${EXELLIX_JOBS_LOG_LEVEL:-warn}

"$jobs" apply -f "$work/config" >/dev/null || die "the configs in $work/config were not accepted"
"$jobs" run --until-idle
status=$?
# 8: it ran, but some files failed; they are told below.
[ $status -eq 0 ] || [ $status -eq 8 ] || die "exellix-jobs run ended with status $status"

# ---- compare with gzip, which writes a CRC-32 of its own behind what it packed --------------
wrong=0 same=0
printf '%-10s %-10s %s\n' zlib gzip file
while IFS=$'\t' read -r id _; do
  row=$("$jobs" rows show "$id" --json) || die "row $id cannot be read"
  name=$(sed -n 's/.*"name":"\([^"]*\)".*/\1/p' <<<"$row")
  crc=$(sed -n 's/.*"crc":{"return":\([0-9]*\)}.*/\1/p' <<<"$row")
  theirs=$(gzip -c -- "$folder/$name" | tail -c 8 | od -An -N4 -tu4 | tr -d ' ')
  if [ -n "$crc" ]; then
    printf '%08x   %08x   %s\n' "$crc" "$theirs" "$name"
  else
    printf '%-10s %08x   %s: %s\n' failed "$theirs" "$name" \
      "$(sed -n 's/.*"message":"\([^"]*\)".*/\1/p' <<<"$row")"
  fi
  if [ "$crc" = "$theirs" ]; then same=$((same + 1)); else wrong=$((wrong + 1)); fi
done < <("$jobs" rows list --matrix checksums --limit 1000)
say "$same files agree, $wrong do not"
[ $wrong -eq 0 ] && [ $same -gt 0 ]
