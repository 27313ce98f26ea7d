#!/usr/bin/env bash
# tests/house/readme.sh ROOT BUILD - the plugin in README.md compiles as it stands there, with
# the command that stands there, has at most thirty lines, and passes `plugin check`.
set -uo pipefail
root=$(cd "${1:?ROOT}" && pwd) || exit 2
build=$(cd "${2:?BUILD}" && pwd) || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT

block() { awk -v kind="$1" '$0 == "```" kind { on = 1; next } on && $0 == "```" { exit } on' "$root/README.md"; }

block c >"$tmp/hello.c"
lines=$(wc -l <"$tmp/hello.c")
[ "$lines" -gt 5 ] && [ "$lines" -le 30 ] || {
  echo "README.md: its plugin has $lines lines"
  exit 1
}
command=$(block sh | grep '^cc ') || {
  echo "README.md: no command that compiles the plugin"
  exit 1
}
ln -s "$root/include" "$tmp/include"
cd "$tmp" || exit 2
bash -c "$command -std=c11 -Wall -Wextra -Werror" || {
  echo "README.md: its plugin does not compile: $command"
  exit 1
}
if [ -x "$build/bin/exellix-jobs" ]; then
  "$build/bin/exellix-jobs" plugin check ./hello.so || {
    echo "README.md: its plugin does not pass the check"
    exit 1
  }
fi
echo "readme: $lines lines of plugin compile and pass"
