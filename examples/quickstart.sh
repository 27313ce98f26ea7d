#!/bin/bash
# examples/quickstart.sh: from a fresh clone to work done, in one command.
#
# Installs what is missing, builds, drops the two plugins of examples/audit into a plugins
# directory, applies a graph and a matrix, and lets exellix-jobs check every file of every
# Debian package of this machine against what dpkg recorded. It only reads the machine;
# all that it writes lies in the work folder.
set -u -o pipefail

usage() {
  cat <<'END'
Usage: bash examples/quickstart.sh [--again] [--root DIR] [--admindir DIR] [--work DIR]
  --again         check all packages again, as a new matrix run; without it only packages
                  that were installed or upgraded since are checked
  --root DIR      the machine to check (default /)
  --admindir DIR  its dpkg database (default ROOT/var/lib/dpkg)
  --work DIR      where plugins, configs and store go (default build/quickstart)
END
}

say() { printf '%s\n' "$*"; }
die() {
  printf 'quickstart: %s\n' "$*" >&2
  exit 1
}

again= root=/ admindir= work=
while [ $# -gt 0 ]; do
  case $1 in
    --again) again=1 ;;
    --root | --admindir | --work)
      [ $# -ge 2 ] || die "$1 needs a folder"
      [ -n "$2" ] || die "$1 needs a folder, not an empty text"
      [ "$1" = --work ] || [ -d "$2" ] || die "$1 $2: no such folder"
      name=${1#--}
      printf -v "$name" '%s' "$(realpath -m -- "$2")"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      die "unknown word '$1'"
      ;;
  esac
  shift
done

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
build=$here/build/quickstart-release
work=${work:-$here/build/quickstart}
admindir=${admindir:-${root%/}/var/lib/dpkg}
[ -r "$admindir/status" ] ||
  die "$admindir/status cannot be read: is there a Debian system below $root?"
case $root$admindir in
  *[\"\\]* | *$'\n'*) die "folders with quotes, backslashes or line ends are not supported" ;;
esac

# ---- what is missing ------------------------------------------------------------------
packages="gcc libc6-dev cmake ninja-build pkg-config libjansson-dev libsqlite3-dev
  libmicrohttpd-dev libseccomp-dev libjq-dev libmongoc-dev tzdata"
missing=()
if command -v dpkg-query >/dev/null; then
  for p in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
      missing+=("$p")
  done
else
  say "No apt here; these are needed: $packages"
fi
mkdir -p "$work/plugins" "$work/config" "$work/data" || die "cannot make $work"

# quiet NAME COMMAND...: its output goes to a log, which is shown when it fails.
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
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
    die "not root and no sudo: install these by hand: ${missing[*]}"
  quiet apt-update "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update
  quiet apt-install "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy \
    --no-install-recommends install "${missing[@]}"
fi

# ---- build ------------------------------------------------------------------------------
# A folder of its own: build/release belongs to the tests, which want everything.
[ -x "$build/bin/exellix-jobs" ] || say "Building into ${build#"$here"/}"
quiet configure cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DEXJ_TESTS=OFF
quiet build cmake --build "$build" --target exellix-jobs exellix-jobs-plugin-host \
  example_audit_source example_audit_engine audit-report
jobs=$build/bin/exellix-jobs

# A new file each time, never written over: a running worker may have the old one open.
install -m 755 "$build"/examples/plugins/audit-{source,engine}.so "$work/plugins/" ||
  die "cannot install the plugins into $work/plugins"

# ---- what to check ------------------------------------------------------------------------
# Another machine or database makes a new run by itself: rows are named by package and
# version, which say nothing about where they lie.
target="$root $admindir"
run=
[ -f "$work/run" ] && run=$(cat "$work/run")
if [ -n "$again" ] || { [ -f "$work/target" ] && [ "$(cat "$work/target")" != "$target" ]; }; then
  run=run-$(date -u +%Y%m%dT%H%M%S.%N)
fi
install -m 644 "$here/examples/audit/config/graph.json" "$work/config/" &&
  awk -v root="$root" -v admindir="$admindir" -v run="$run" '
    /"input":/ {
      printf "    \"input\": { \"root\": \"%s\", \"adminDir\": \"%s\" },\n", root, admindir
      if (run != "")
        printf "    \"matrixRunId\": \"%s\",\n", run
      next
    }
    { print }' "$here/examples/audit/config/matrix.json" >"$work/config/matrix.json" ||
  die "cannot write $work/config"

unset MONGO_URI
export EXELLIX_JOBS_PLUGINS_DIR=$work/plugins
export EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP=audit-engine
export EXELLIX_JOBS_DATA_DIR=$work/data
export EXELLIX_JOBS_LOG_LEVEL=${EXELLIX_JOBS_LOG_LEVEL:-warn}

# ---- run ------------------------------------------------------------------------------------
"$jobs" apply -f "$work/config" || die "the configs in $work/config were not accepted"
printf '%s\n' "$run" >"$work/run" && printf '%s\n' "$target" >"$work/target" ||
  die "cannot write into $work"
say "Checking the packages of $root"
began=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ) begin=$(date +%s%N)
"$jobs" run --until-idle
status=$?
# 8: it ran, but some rows are dead; the report says which.
[ $status -eq 0 ] || [ $status -eq 8 ] || die "exellix-jobs run ended with status $status"
took=$((($(date +%s%N) - begin) / 1000000))

"$build/bin/audit-report" "$jobs" debian-audit "$run" "$work" "$began" "$took"
case $? in
  0) ;;
  1) die "some packages could not be checked (see above); a second run tries no dead row
again, '$jobs rows retry ID' does" ;;
  *) die "the results could not be read" ;;
esac

printf -v data %q "$work/data"
printf -v plugins %q "$work/plugins"
printf -v program %q "$jobs"
cat <<END

The store is $data. What to try next:
  bash examples/quickstart.sh             once more: only what was installed meanwhile
  bash examples/quickstart.sh --again     all of it again, as a new matrix run
or look around yourself:
  export EXELLIX_JOBS_DATA_DIR=$data
  export EXELLIX_JOBS_PLUGINS_DIR=$plugins
  export EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP=audit-engine
  $program rows list --matrix debian-audit
  $program serve
The plugins are examples/audit/source and examples/audit/engine.
END
