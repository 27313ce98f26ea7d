#!/usr/bin/env bash
# tests/house/guide.sh ROOT BUILD - does what docs/plugin-guide.md says: every block ```sh of
# the page, in its order, in an empty folder, with the program installed from BUILD. Blocks
# ```sh cargo run where cargo is. The C on the page stands in the plugin that it speaks of.
set -uo pipefail
root=$(cd "${1:?ROOT}" && pwd) || exit 2
build=$(cd "${2:?BUILD}" && pwd) || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
for name in $(compgen -e EXELLIX_JOBS_); do unset "$name"; done

cmake --install "$build" --prefix "$tmp/prefix" >"$tmp/install.log" 2>&1 || {
  tail -n 20 "$tmp/install.log"
  echo "guide: $build cannot be installed"
  exit 1
}
export PATH="$tmp/prefix/bin:$PATH" TMPDIR="$tmp/tmp" MAKEFLAGS=
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/prefix" -name exellix-plugin.pc)")
export PKG_CONFIG_PATH
mkdir "$TMPDIR"

# follow PAGE FOLDER: run its blocks there. Skipped ones are told; other kinds of sh block are
# a mistake of the page.
follow() {
  local page=$1 folder=$2 kinds='^sh$' skipped=0
  if command -v cargo >/dev/null && cargo --version >/dev/null 2>&1; then
    kinds='^sh( cargo)?$'
  else
    skipped=$(grep -c '^```sh cargo$' "$page")
  fi
  if grep -nE '^ *```(sh|bash|shell|console)' "$page" | grep -vE ':```sh( cargo)?$'; then
    echo "guide: a block that would not be run"
    return 1
  fi
  awk -v kinds="$kinds" '
    /^```/ && on { on = 0; next }
    on { print; next }
    /^```/ { kind = substr($0, 4); on = kind ~ kinds
             if (on) printf "\n: line %d\n", NR }' "$page" >"$folder.sh"
  grep -q . "$folder.sh" || { echo "guide: no commands in $page"; return 1; }
  mkdir "$folder" || return 1
  if ! (cd "$folder" && timeout -k 5 120 bash -euo pipefail -x "$folder.sh") \
    >"$folder.log" 2>&1 </dev/null; then
    tail -n 40 "$folder.log"
    return 1
  fi
  [ "$skipped" -eq 0 ] || echo "guide: SKIPPED $skipped blocks: no cargo here"
}

# It can fail: at a command, at the end of a pipe, at a block of another kind.
n=0
for words in $'```sh\nfalse\n```' $'```sh\nfalse | cat\n```' $'```bash\ntrue\n```' \
  $'```sh\ntrue\n```\n\n```sh\nno-such-command\n```' 'no block'; do
  n=$((n + 1))
  printf '%s\n' "$words" >"$tmp/planted$n.md"
  follow "$tmp/planted$n.md" "$tmp/planted$n" >/dev/null && {
    echo "guide: not noticed: $words"
    exit 1
  }
done

page=$root/docs/plugin-guide.md
follow "$page" "$tmp/guide" || {
  echo "guide: $page: a command on it failed"
  exit 1
}

# The first C block, line by line, is in the new plugin.
awk '/^```c$/ && !seen { on = seen = 1; next } /^```/ { on = 0 } on' "$page" >"$tmp/said.c"
[ -s "$tmp/said.c" ] || { echo "guide: $page shows no C"; exit 1; }
while IFS= read -r line; do
  grep -qxF -- "$line" "$tmp/guide/acme.hello/plugin.c" || {
    echo "guide: $page shows a line that 'plugin new' does not write: $line"
    exit 1
  }
done <"$tmp/said.c"
echo "guide: $(grep -c '^```sh' "$page") blocks, $(grep -cE '^(exellix-jobs|make|cc) ' "$tmp/guide.sh") commands work as the page says"
