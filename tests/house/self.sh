#!/usr/bin/env bash
# tests/house/self.sh - shows that the checkers can fail: plants one offence at a time in a
# copy of the tree and expects it to be refused with the words given.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
rc=0
n=0

fresh() {
  rm -rf "$tmp/tree"
  mkdir "$tmp/tree" &&
    cp -r "$root/core" "$root/sdk" "$root/plugins" "$root/examples" "$root/include" "$tmp/tree/" &&
    mkdir -p "$tmp/tree/tests" "$tmp/tree/docs"
}

# plant WORDS FILE LINE: FILE (made or grown by LINE) must be refused with WORDS.
plant() {
  local words=$1 file=$2 line=$3 out
  fresh || exit 2
  mkdir -p "$(dirname "$tmp/tree/$file")"
  printf '%s\n' "$line" >>"$tmp/tree/$file"
  n=$((n + 1))
  if out=$(bash "$here/rooms.sh" "$tmp/tree"); then
    echo "not noticed: '$line' in $file"
    rc=1
  elif ! grep -qF "$words" <<<"$out"; then
    echo "'$line' in $file: wanted '$words', got:"
    echo "$out"
    rc=1
  fi
}

fresh || exit 2
bash "$here/rooms.sh" "$tmp/tree" || { echo "the copy itself does not pass"; exit 1; }

plant 'core/base may not include core/job' core/base/planted.c '#include "core/job/state.h"'
plant 'core/job may not include core/store' core/job/planted.c '#include "core/store/store.h"'
plant 'core/store may not include core/run' core/store/planted.c '#include "../run/engine.h"'
plant 'core/plugin may not include core/job' core/plugin/planted.c '#  include "core/job/state.h"'
plant 'core/run may not include core/http' core/run/planted.c '#include "core/http/server.h"'
plant 'core/http may not include core/store' core/http/planted.c '#include "core/store/store.h"'
plant 'core/http may not include core/embed' core/http/planted.c '#include "core/embed/wiring.h"'
plant 'core/embed may not include core/main' core/embed/planted.c '#include "core/main/settings.h"'
plant 'core/http may not include core/plugin' core/http/planted.h '#include <core/plugin/plugin.h>'
plant 'no such header' core/store/mongo/planted.c '#include "core/store/sqlite/absent.h"'
plant 'plugins may not include core/base' plugins/stub/planted.c '#include "core/base/str.h"'
plant 'sdk may not include core/job' sdk/planted.c '#include "core/job/state.h"'
plant 'include/ may use standard C headers only' include/exellix/planted.h '#include <pthread.h>'
plant 'only core/store/sqlite plugins may include sqlite3.h' core/run/planted.c '#include <sqlite3.h>'
plant 'only core/http may include microhttpd.h' core/main/planted.c '#include <microhttpd.h>'
plant 'core/host may not include core/run' core/host/planted.c '#include "core/run/engine.h"'
plant 'core/plugin may not include core/host' core/plugin/planted.c '#include "core/host/link.h"'
plant 'only core/host may include seccomp.h' core/plugin/planted.c '#include <seccomp.h>'
plant 'only core/transform may include jq.h' core/run/planted.c '#include <jq.h>'
plant 'core/transform may not include core/job' core/transform/planted.c '#include "core/job/state.h"'
plant 'only core/plugin core/host plugins may include dlfcn.h' core/run/planted.c '#include <dlfcn.h>'
plant 'core/job does no input or output' core/job/planted.c '#include <pthread.h>'
plant 'only core/main may call exit()' core/run/planted.c 'void f(void) { exit(1); }'
plant 'named after what it does' core/run/planted.c 'static int process(int a);'
plant 'named after what it does' core/run/planted.c 'int exj_row_handle(int a);'
plant 'no _t: POSIX keeps it' core/base/planted.h 'typedef unsigned row_t;'
plant 'only core/main writes to the terminal' core/store/planted.c 'void f(void) { printf("x"); }'
plant '801 lines' core/base/planted.c "$(yes '/* */' | head -n 801)"
plant 'named after its subject' core/base/util.c '/* */'
plant 'planted.c:1' core/base/planted.c '/* see /wor''k/main/notes */'
plant 'no place for it' notes.txt 'x'

# Another backend's header exists only in the copy.
fresh
mkdir -p "$tmp/tree/core/store/mongo" "$tmp/tree/core/store/sqlite"
echo '#define A 1' >"$tmp/tree/core/store/sqlite/planted.h"
echo '#include "core/store/sqlite/planted.h"' >"$tmp/tree/core/store/mongo/planted.c"
n=$((n + 1))
out=$(bash "$here/rooms.sh" "$tmp/tree")
grep -q 'core/store/mongo may not include core/store/sqlite' <<<"$out" || {
  echo "not noticed: a backend that includes another"
  rc=1
}
# A call inside a comment or a text is none.
fresh
printf '/* exit(1) */ static const char *const a = "exit(2)"; // exit(3)\n' >"$tmp/tree/core/base/planted.c"
n=$((n + 1))
bash "$here/rooms.sh" "$tmp/tree" >/dev/null || {
  echo "a word in a comment was taken for a call"
  rc=1
}
# A header that needs another one first.
fresh
echo 'size_t exj_planted(void);' >"$tmp/tree/core/base/planted.h"
n=$((n + 1))
bash "$here/headers.sh" "$tmp/tree" >/dev/null 2>&1 && {
  echo "not noticed: a header that does not stand alone"
  rc=1
}
# A page that does not name what there is.
unnamed() { # WORDS FILE SED-SCRIPT
  local out
  fresh || exit 2
  cp -r "$root/docs" "$root/tests" "$root/README.md" "$root/CHANGELOG.md" "$root/LICENSE" "$tmp/tree/"
  sed -i -E "$3" "$tmp/tree/$2"
  n=$((n + 1))
  out=$(bash "$here/docs.sh" "$tmp/tree") && { echo "not noticed: $1"; rc=1; return; }
  grep -qF "$1" <<<"$out" || { echo "$2 by '$3': wanted '$1', got: $out"; rc=1; }
}
unnamed 'openapi.json: does not name GET /sinks' core/http/openapi.json 's#^    "/sinks": #    "/sunk": #'
unnamed 'api.c: does not name PATCH /version' core/http/openapi.json '/^    "\/version"/,/^    \}/s/"get"/"patch"/'
unnamed 'http-api.md: does not name /rows/:/cancel' docs/http-api.md 's#/cancel`#/cancle`#'
unnamed 'http-api.md: does not name the code StepNotFound' docs/http-api.md 's/StepNotFound/StepLost/'
unnamed 'cli.md: does not name the command kv get' docs/cli.md 's/kv get/kv got/'
unnamed 'cli.md: does not name the flag --dry-run' docs/cli.md 's/--dry-run/--dry/g'
unnamed 'README.md: does not name sinks.md' docs/README.md '/sinks\.md/d'
unnamed 'links absent.md, which is not there' README.md '$a [nothing](absent.md)'
# Rooms that use what they may not, as archives.
mkdir -p "$tmp/build"
for pair in 'base:int exj_planted_base(void) { return 1; }' \
  'job:int exj_planted_store(void); int exj_planted_job(void) { return exj_planted_store(); }' \
  'store:int exj_planted_store(void) { return 1; }' \
  'run:int sqlite3_planted(void); int exj_planted_run(void) { return sqlite3_planted(); }' \
  'plugin:int planted(void) { return 1; }'; do
  room=${pair%%:*}
  printf '%s\n' "${pair#*:}" | gcc -x c -c -o "$tmp/build/$room.o" - &&
    ar rcs "$tmp/build/libexj_$room.a" "$tmp/build/$room.o"
done
out=$(bash "$here/links.sh" "$tmp/build")
for words in 'room job uses exj_planted_store of room store' \
  'room run uses sqlite3_planted' 'room plugin defines planted without our prefix'; do
  n=$((n + 1))
  grep -qF "$words" <<<"$out" || {
    echo "not noticed: $words"
    rc=1
  }
done

[ $rc -eq 0 ] && echo "self: $n planted offences, each told apart"
exit $rc
