#!/usr/bin/env bash
# tests/mutants/plant.sh DEST - a copy of the tree in DEST, with every bug of tests/mutants/plants/
# planted into it. Each sleeps until EXJ_MUTANT names it. The tree itself has none of them, so no
# other build can have one.
#
# A plant is a file named after its bug:
#
#     what: one line, for people
#     breaks: the invariants or sentences that it breaks
#     by: a command that finds it, from the build folder; several lines: tried in turn
#     @ core/path/file.c
#     -lines that stand in the file exactly once
#     +what takes their place; asks exj_mutant("NAME")
#
# Files that did not change keep their time, so that DEST builds again quickly.
set -uo pipefail
[ $# -eq 1 ] || { echo "usage: plant.sh DEST" >&2; exit 2; }
mkdir -p "$1" || exit 2
dest=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
plants=$PWD/tests/mutants/plants
new=$dest.new
rm -rf "$new"
mkdir -p "$new" || exit 2
cp -a CMakeLists.txt CMakePresets.json LICENSE core examples include plugins sdk tests docs "$new/" || exit 2
cp -a README.md CHANGELOG.md "$new/" 2>/dev/null

rc=0
names=()
for plant in "$plants"/*; do
  name=${plant##*/}
  names+=("$name")
  for word in what breaks by; do
    grep -q "^$word: ." "$plant" || { echo "$name: has no line \"$word: …\""; rc=1; }
  done
  awk -v root="$new" -v name="$name" '
    function apply(   text, line, at, rest) {
      if (file == "") return
      text = ""
      while ((getline line < (root "/" file)) > 0) text = text line "\n"
      close(root "/" file)
      if (text == "") { printf "%s: no file %s\n", name, file; bad = 1; return }
      at = index(text, old)
      if (old == "" || !at) {
        printf "%s: %s has no such lines:\n%s\n", name, file, old; bad = 1; return
      }
      rest = substr(text, at + length(old))
      if (index(rest, old)) {
        printf "%s: %s has these lines more than once:\n%s\n", name, file, old; bad = 1; return
      }
      if (index(put, "exj_mutant(\"" name "\")")) planned = 1
      text = substr(text, 1, at - 1) put rest
      if (!index(text, "#include \"core/base/mutant.h\"\n"))
        text = "#include \"core/base/mutant.h\"\n" text
      printf "%s", text > (root "/" file)
      close(root "/" file)
      old = put = ""
    }
    /^@ / { apply(); file = substr($0, 3); old = put = ""; next }
    /^-/ { if (put != "") apply(); old = old (old == "" ? "" : "\n") substr($0, 2); next }
    /^\+/ { put = put (put == "" ? "" : "\n") substr($0, 2); next }
    END {
      apply()
      if (!bad && !planned) { printf "%s: nothing asks exj_mutant(\"%s\")\n", name, name; bad = 1 }
      exit bad
    }' "$plant" || rc=1
done
[ ${#names[@]} -gt 0 ] || { echo "plant: no plants in $plants"; rc=1; }

cp tests/mutants/mutant.h "$new/core/base/mutant.h"
{
  cat tests/mutants/mutant.c
  echo 'const char *const exj_mutants[] = {'
  printf '    "%s",\n' "${names[@]}"
  echo '    NULL'
  echo '};'
} >"$new/core/base/mutant.c"
[ $rc -eq 0 ] || { rm -rf "$new"; exit $rc; }

# Hand over what differs.
(cd "$new" && find . -type f) | sort >"$dest.files"
while IFS= read -r f; do
  cmp -s "$new/$f" "$dest/$f" && continue
  mkdir -p "$dest/$(dirname "$f")" && cp -a "$new/$f" "$dest/$f" && touch "$dest/$f"
done <"$dest.files"
(cd "$dest" && find . -type f) | sort | comm -13 "$dest.files" - | (cd "$dest" && xargs -r -d '\n' rm -f)
rm -rf "$new" "$dest.files"
echo "plant: ${#names[@]} bugs in $dest"
