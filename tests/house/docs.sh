#!/usr/bin/env bash
# tests/house/docs.sh [ROOT] - the pages name what there is: every route of core/http/api.c stands
# in openapi.json with its methods and, as every error code, in docs/http-api.md; every command of
# core/main/cli.c and every flag in docs/cli.md; every page in docs/README.md. What a page links
# exists.
# Prints one line for each thing that is missing and exits 1.
set -uo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/../..}" || exit 2
export LC_ALL=C
rc=0

missing() { # WHAT FILE
  echo "$2: does not name $1"
  rc=1
}

# Every line of $1 that $2 has not, and the other way round: who has it, who has not.
compare() { # A NAME_OF_A B NAME_OF_B
  local line
  while IFS= read -r line; do missing "$line, which $2 has" "$4"; done < <(comm -23 "$1" "$3")
  while IFS= read -r line; do missing "$line, which $4 has" "$2"; done < <(comm -13 "$1" "$3")
}

tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT

# ---- routes -----------------------------------------------------------------------------
# "GET /rows/:" and so on, of the table in api.c: the handlers say which methods there are.
awk '
  /^static const struct route routes\[\]/ { on = 1 }
  on && match($0, /\{ "\/[^"]*"/) { path = substr($0, RSTART + 3, RLENGTH - 4) }
  on && path != "" {
    line = $0
    while (match(line, /\[M_[A-Z]+\]/)) {
      print substr(line, RSTART + 3, RLENGTH - 4) " " path
      line = substr(line, RSTART + RLENGTH)
    }
  }
  on && /^\};/ { exit }' core/http/api.c | sort -u >"$tmp/routed"
awk '
  match($0, /^    "\/[^"]*": \{/) {
    path = substr($0, 6); sub(/".*/, "", path); gsub(/\{[A-Za-z0-9]+\}/, ":", path)
  }
  match($0, /^      "(get|put|post|patch|delete)": /) {
    method = substr($0, 8); sub(/".*/, "", method)
    print toupper(method) " " path
  }' core/http/openapi.json | sort -u >"$tmp/described"
for f in routed described; do
  [ -s "$tmp/$f" ] || { echo "docs: no route was $f: does the checker still read the table?"; exit 2; }
done
compare "$tmp/routed" core/http/api.c "$tmp/described" core/http/openapi.json

# The page names a variable as :name, and several endings of one path as `/a/b`, `/c`.
grep -o '`[^`]*`' docs/http-api.md | tr -d '`' | sed -E 's/\\//g; s/^[A-Z]+ //; s/[?[].*//' |
  sed -E 's#:[A-Za-z0-9]+#:#g' | grep '^/' | sort -u >"$tmp/page"
while read -r path; do
  grep -Fxq -- "$path" "$tmp/page" && continue
  grep -Fxq -- "/${path##*/}" "$tmp/page" && continue # an ending of the path before it
  missing "$path" docs/http-api.md
done < <(cut -d' ' -f2 "$tmp/routed" | sort -u)

# What a program may compare: the codes of errors.
cat core/http/*.c | tr '\n' ' ' |
  grep -oE '(exj_answer_error|[a-z_]*refus[a-z]*)\([^,"]+, *([0-9]+, *)?"[A-Za-z_]+"|code = "[A-Za-z_]+"' |
  sed -E 's/.*"([A-Za-z_]+)"$/\1/' | sort -u >"$tmp/codes"
[ -s "$tmp/codes" ] || { echo "docs: no error code was found"; exit 2; }
while read -r code; do
  grep -Fq "\`$code\`" docs/http-api.md || missing "the code $code" docs/http-api.md
done <"$tmp/codes"

# ---- commands ---------------------------------------------------------------------------
awk '
  /^static const exj_command commands\[\]/ { on = 1 }
  on && match($0, /^    \{ "[a-z -]+", "/) {
    word = substr($0, 8); sub(/".*/, "", word); print word
  }
  on && /^\};/ { exit }' core/main/cli.c >"$tmp/commands"
[ -s "$tmp/commands" ] || { echo "docs: no command was found: does the checker still read the table?"; exit 2; }
sed 's/\\|/|/g' docs/cli.md >"$tmp/cli.md" # a table's way to write a bar
while read -r group word; do
  grep -Eq "\`([^\`]*\|)?$group${word:+ ([^\`]*\|)?$word}([] \`|[]|\$)" "$tmp/cli.md" ||
    missing "the command $group${word:+ $word}" docs/cli.md
done <"$tmp/commands"
while read -r flag; do
  grep -Eq -- "--$flag([^a-z-]|\$)" docs/cli.md || missing "the flag --$flag" docs/cli.md
done < <(awk '
  /define EXJ_FLAGS_TABLE/ { on = 1 }
  on && match($0, /X\([A-Z_]+, "[a-z-]+"/) {
    name = substr($0, RSTART, RLENGTH); gsub(/^[^"]*"|"$/, "", name); print name
  }
  on && !/\\$/ { exit }' core/main/cli.h)

# ---- pages ------------------------------------------------------------------------------
for page in docs/*.md; do
  name=${page#docs/}
  [ "$name" = README.md ] && continue
  grep -Fq "($name)" docs/README.md || missing "$name" docs/README.md
done
while IFS=: read -r page target; do
  target=${target%%#*}
  [ -n "$target" ] || continue
  [ -e "$(dirname "$page")/$target" ] || { echo "$page: links $target, which is not there"; rc=1; }
done < <(grep -oE '\]\([^) ]+\)' README.md CHANGELOG.md docs/*.md examples/*/README.md \
  tests/bench/README.md | sed -E 's/\]\(//; s/\)$//' | grep -vE ':(https?|mailto):')

[ $rc -eq 0 ] && echo "docs: $(wc -l <"$tmp/routed") routes, $(wc -l <"$tmp/commands") commands and" \
  "$(ls docs/*.md | wc -l) pages are named where they must be"
exit $rc
