#!/usr/bin/env bash
# tests/mongo/install_server.sh - gives the tests a MongoDB server where there is none.
#
#   bash tests/mongo/install_server.sh [--force] [FOLDER]     FOLDER: build/mongo-venv
#
# Installs SecantusDB (requirements.txt) into a virtual environment of Python, which needs
# Debian's python3-venv and the package index that pip is set up for. Does nothing when
# EXELLIX_TEST_MONGODB_URI, EXELLIX_TEST_MONGOD or EXELLIX_TEST_SECANTUSD is set, when a
# mongod is on PATH, or when it was done before; --force does it in any case.
# EXELLIX_TEST_PYTHON names another python3 (3.11 or newer). Its output goes to
# FOLDER.log. Exit: 0 there is a server; 1 there is none, and it says what to do.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1

force=no
folder=
for word in "$@"; do
  case $word in
    --force) force=yes ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "install_server.sh: unknown argument '$word'; did you mean --force?" >&2; exit 2 ;;
    *) folder=$word ;;
  esac
done
folder=${folder:-$here/../../build/mongo-venv}

if [ $force = no ]; then
  for name in EXELLIX_TEST_MONGODB_URI EXELLIX_TEST_MONGOD EXELLIX_TEST_SECANTUSD; do
    [ -z "${!name:-}" ] || { echo "mongo server: as $name says"; exit 0; }
  done
  if found=$(command -v mongod); then
    echo "mongo server: $found"
    exit 0
  fi
fi

mkdir -p "$(dirname "$folder")" || exit 1
folder=$(cd "$(dirname "$folder")" && pwd)/$(basename "$folder")
log=$folder.log
stamp=$folder/installed.txt
program=$folder/bin/secantusd-py
wanted=$here/requirements.txt

# Two builds at once install it once.
exec 9>"$folder.lock" || exit 1
command -v flock >/dev/null && flock 9
if [ $force = no ] && [ -x "$program" ]; then
  # One without a stamp was made by somebody else: it is his.
  if [ ! -f "$stamp" ] || cmp -s "$wanted" "$stamp"; then
    echo "mongo server: $program"
    exit 0
  fi
fi

fail() {
  [ ! -f "$log" ] || { echo "---- the end of $log:"; tail -n 15 "$log"; echo "----"; } >&2
  echo "install_server.sh: $*" >&2
  echo "or give the tests another server: EXELLIX_TEST_MONGODB_URI=mongodb://...," \
    "or EXELLIX_TEST_MONGOD=/path/of/mongod" >&2
  exit 1
}

# The system's own before another one on PATH: the packages are chosen for it.
python=
for p in "${EXELLIX_TEST_PYTHON:-}" /usr/bin/python3 python3; do
  [ -n "$p" ] && command -v "$p" >/dev/null && "$p" -c '
import sys
sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { python=$p; break; }
done
: >"$log" || exit 1
[ -n "$python" ] || fail "no python3 of 3.11 or newer; install python3 and python3-venv"
"$python" -c 'import venv, ensurepip' >>"$log" 2>&1 ||
  fail "$python has no venv module; install Debian's package python3-venv"

if [ -e "$folder" ]; then
  [ -f "$folder/pyvenv.cfg" ] || [ -f "$stamp" ] ||
    fail "$folder is there and is no virtual environment; name another"
  rm -rf "$folder"
fi
# The stamp comes first: it says whose folder this is. An empty one is never wanted.
mkdir -p "$folder" && : >"$stamp" || exit 1
"$python" -m venv "$folder" >>"$log" 2>&1 ||
  fail "$python -m venv $folder failed; is Debian's package python3-venv there?"
# Wheels only: a machine without a compiler or Python's headers is to do.
timeout 300 "$folder/bin/python3" -m pip --disable-pip-version-check --no-input install \
  --quiet --only-binary :all: --no-deps -r "$wanted" >>"$log" 2>&1 ||
  fail "pip could not install $wanted; it needs a package index (network, or pip's own" \
    "settings: index-url, find-links)"
"$program" --help 2>>"$log" >/dev/null || fail "$program does not run"
cp "$wanted" "$stamp" || exit 1
echo "mongo server: $program"
