#!/usr/bin/env bash
# tests/house/rooms.sh [ROOT] - holds every source line that can be held against a rule of
# the house: who includes whom (docs/architecture.md, the table of rooms), where drivers,
# dlopen and exit() may be used, file sizes, names, and paths of somebody's machine.
# Prints one line for each offence and exits 1.
set -uo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/../..}" || exit 2
export LC_ALL=C

list() { # files below the given folders with one of the given endings
  local ends=() e
  for e in $1; do ends+=(-o -name "*.$e"); done
  shift
  find "$@" -type f \( -false "${ends[@]}" \) 2>/dev/null | sort
}

mapfile -t sources < <(list 'c h cc cpp hpp' core sdk plugins examples include)
[ ${#sources[@]} -gt 0 ] || { echo "rooms: no sources below $PWD"; exit 2; }

# ---- includes ---------------------------------------------------------------------------
# A quoted include is resolved as the compiler would (same folder, then the roots), so that
# "../run/engine.h" is no way around the table.
includes() {
  awk '
    function room(path,   p, n) {
      n = split(path, p, "/")
      if (p[1] == "core") return p[2] == "store" && n > 3 ? "core/store/" p[3] : "core/" p[2]
      return p[1]
    }
    function exists(path,   line, r) {
      r = (getline line < path); close(path)
      return r >= 0
    }
    function tidy(path) {
      gsub(/\/\.\//, "/", path); sub(/^\.\//, "", path)
      while (path ~ /[^\/]+\/\.\.\//) sub(/[^\/]+\/\.\.\//, "", path)
      return path
    }
    function resolve(dir, name) {
      if (exists(dir "/" name)) return tidy(dir "/" name)
      if (exists(name)) return tidy(name)
      if (exists("include/" name)) return "include/" name
      if (exists("sdk/include/" name)) return "sdk/include/" name
      return ""
    }
    function bad(why) {
      printf "%s:%d: %s: %s\n", FILENAME, FNR, why, $0
      wrong = 1
    }
    BEGIN {
      may["core/base"] = "core/base"
      may["core/job"] = "core/base core/job"
      may["core/store"] = "core/base core/job core/store"
      may["core/host"] = "core/base core/history core/plugin core/host include"
      may["core/transform"] = "core/base core/plugin core/host core/transform include" # cage.h, border.h
      may["core/plugin"] = "core/base core/plugin include"
      may["core/history"] = "core/base core/job core/store core/history"
      may["core/run"] = "core/base core/job core/store core/history core/plugin core/run core/transform include" # border.h
      may["core/http"] = "core/base core/job core/run core/http"
      may["core/embed"] = "core/base core/job core/store core/history core/plugin core/run core/http core/embed include"
      may["core/main"] = may["core/embed"] " core/main"
      may["include"] = "include"
      may["sdk"] = "include sdk"
      may["plugins"] = "include sdk plugins"
      may["examples"] = "include sdk examples"
      # A third-party or dangerous header, and the only rooms that may have it.
      only["sqlite3.h"] = "core/store/sqlite plugins"
      only["microhttpd.h"] = "core/http"
      only["dlfcn.h"] = "core/plugin core/host plugins"
      only["seccomp.h"] = "core/host"
      only["jq.h"] = "core/transform"
      only["jv.h"] = "core/transform"
      only["ffi.h"] = "core/plugin plugins"
      only["mongoc/mongoc.h"] = "core/store/mongo"
      only["bson/bson.h"] = "core/store/mongo"
      std = " assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp" \
            " signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn" \
            " string tgmath time uchar wchar wctype "
    }
    FNR == 1 {
      dir = FILENAME; sub(/\/[^\/]*$/, "", dir)
      here = room(FILENAME)
      # A backend may what its parent may, and its own folder.
      allowed = " " may[here] " "
      if (here ~ /^core\/store\/./) allowed = " " may["core/store"] " " here " "
      if (!(here in may) && here !~ /^core\/store\/./)
        bad("no such room as " here)
    }
    /^[ \t]*#[ \t]*include/ {
      name = $0
      sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
      open = substr(name, 1, 1); name = substr(name, 2); sub(/[">].*/, "", name)
      if (open != "<" && open != "\"") { bad("an include the checker cannot read"); next }
      if (name in only && index(" " only[name] " ", " " here " ") == 0)
        bad("only " only[name] " may include " name)
      path = resolve(dir, name)
      if (path == "") {
        if (open == "\"") { bad("no such header"); next }
        short = name; sub(/\.h$/, "", short)
        if (here == "include" && index(std, " " short " ") == 0)
          bad("include/ may use standard C headers only")
        if (here == "core/job" && name ~ /^(pthread|unistd|fcntl|poll|dirent)\.h$|^sys\//)
          bad("core/job does no input or output and has no threads")
        next
      }
      to = room(path)
      if (index(allowed, " " to " ") == 0) bad(here " may not include " to)
      # Plugins and examples are strangers to each other.
      if (here == "plugins" || here == "examples") {
        split(FILENAME, a, "/"); split(path, b, "/")
        if (a[1] == b[1] && a[2] != b[2]) bad("one " a[1] " folder may not include another")
      }
    }
    END { exit wrong }' "${sources[@]}"
}

# ---- words ------------------------------------------------------------------------------
# Comments and string literals are blanked first; line numbers stay.
words() {
  awk '
    function bad(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, why, $0; wrong = 1 }
    FNR == 1 { inside = 0; seen_room = FILENAME ~ /^core\/main\// }
    {
      line = $0; out = ""
      while (line != "") {
        if (inside) {
          at = index(line, "*/")
          if (!at) { line = ""; break }
          line = substr(line, at + 2); inside = 0
        } else if (match(line, /"([^"\\]|\\.)*"|\/\*|\/\//)) {
          word = substr(line, RSTART, RLENGTH)
          out = out substr(line, 1, RSTART - 1)
          rest = substr(line, RSTART + RLENGTH)
          if (word == "/*") { inside = 1; line = rest }
          else if (word == "//") line = ""
          else { out = out "\"\""; line = rest }
        } else { out = out line; line = "" }
      }
      if (out ~ /(^|[^A-Za-z0-9_.>])exit[ ]*\(/ && !seen_room)
        bad("only core/main may call exit()")
      if (out ~ /(^|[^A-Za-z0-9_])(exj_)?([a-z0-9]+_)?(process|handle|util|utils)[ ]*\(/)
        bad("a function must be named after what it does")
      if (out ~ /(^|[^A-Za-z0-9_])typedef[ ].*[a-z0-9]_t;/)
        bad("no _t: POSIX keeps it")
      # The rooms below main speak through core/base/log.h or return errors.
      if (FILENAME ~ /^core\/(job|store|plugin|run|http|embed)\// &&
          out ~ /(^|[^A-Za-z0-9_])(printf|puts|putchar|perror)[ ]*\(/)
        bad("only core/main writes to the terminal")
    }
    END { exit wrong }' "${sources[@]}"
}

sizes() {
  local wrong=0 f n
  while read -r n f; do
    [ "$f" = total ] && continue
    if [ "$n" -gt 800 ]; then
      echo "$f: $n lines; past 800, look for the second module inside"
      wrong=1
    fi
  done < <(list 'c h cc cpp sh pml cmake' core sdk plugins examples include tests |
    xargs -d '\n' wc -l)
  while read -r f; do
    echo "$f: a file must be named after its subject"
    wrong=1
  done < <(find core sdk plugins examples include tests -type f 2>/dev/null |
    grep -E '(^|/)(utils?|helpers?|misc|common)\.[a-z]+$')
  return $wrong
}

# A path of somebody's machine works nowhere else. (The pattern must not match itself.)
paths() {
  local found
  found=$(grep -rnIE '(^|[^A-Za-z0-9_.:/-])/(wor[k]|hom[e]/[a-z]+|roo[t]|User[s])/[A-Za-z0-9_.]' \
    core sdk plugins examples include tests docs .ci \
    README.md CHANGELOG.md CMakeLists.txt CMakePresets.json 2>/dev/null)
  [ -z "$found" ] && return 0
  printf 'a path of one machine: %s\n' "$found"
  return 1
}

# The top level is a short list.
top() {
  local wrong=0 f
  for f in *; do
    case $f in
      CMakeLists.txt | CMakePresets.json | core | plugins | sdk | include | examples | tests | \
        docs | README.md | LICENSE | CHANGELOG.md | build) ;;
      *) echo "$f: the top level has no place for it"; wrong=1 ;;
    esac
  done
  return $wrong
}

rc=0
for rule in includes words sizes paths top; do
  $rule || rc=1
done
[ $rc -eq 0 ] && echo "rooms: ${#sources[@]} files keep the rules of the house"
exit $rc
