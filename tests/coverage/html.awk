# html.awk - one page a file of what `gcov -b -c -t` says: lines that were not run are red,
# lines with a branch that was not taken are yellow.
function escaped(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); return s }
function flush_line() {
    if (held != "")
        printf "<span class=\"%s\">%s</span>\n", open ? "half" : kind, held >page
    held = ""; open = 0
}
function flush_page() {
    flush_line()
    if (page != "") {
        print "</pre>" >page
        close(page)
    }
    page = ""
}
BEGIN {
    style = "<!doctype html><meta charset=\"utf-8\"><style>pre span{display:block}" \
            ".none{background:#fcc}.half{background:#ffb}</style>"
    index_page = dir "/index.html"
    print style "<ul>" >index_page
}
FILENAME == ARGV[1] { if ($0 ~ /^core\//) in_scope[$1] = 1; next }
/^ +-: +0:Source:/ {
    flush_page()
    file = $0
    sub(/^ +-: +0:Source:/, "", file)
    if (index(file, root) == 1)
        file = substr(file, length(root) + 1)
    if (file in in_scope) {
        name = file
        gsub(/\//, "-", name)
        page = dir "/" name ".html"
        print style "<h1>" file "</h1><pre>" >page
        print "<li><a href=\"" name ".html\">" file "</a>" >index_page
    }
    next
}
page == "" { next }
/^branch / { if ($0 ~ /never executed/ || $4 == 0) open = 1; next }
/^(function|call|unconditional) / { next }
/^ *[^:]+: *[0-9]+:/ {
    flush_line()
    kind = $0 ~ /^ *[#=]/ ? "none" : "run"
    held = escaped($0)
}
END { flush_page() }
