# tests/abi/members.awk - the types of one header, from what `cc -E` made of it.
#
#   awk -v header=PATH_ENDS_WITH -f members.awk
#
# Prints C macros in the order of the header: TYPE(NAME) for each typedef, then, of a struct,
# FIRST(STRUCT, MEMBER), MEMBER(STRUCT, MEMBER)…, LAST(STRUCT, MEMBER). Only lines that come
# from such a PATH count. The header is written so that this can be read: one
# typedef struct NAME { … } NAME; at a time, and nothing nested; else the exit status is 1.
$1 == "#" { ours = index($0, header "\"") > 0; next }
ours { text = text " " $0 }

function name_of(decl,   at) {
    if (match(decl, /\(\*[ ]*[A-Za-z_0-9]+\)/)) { # a callback
        decl = substr(decl, RSTART + 2, RLENGTH - 3)
        gsub(/[ ]/, "", decl)
        return decl
    }
    sub(/\[.*$/, "", decl)
    sub(/[ ]+$/, "", decl)
    match(decl, /[A-Za-z_0-9]+$/)
    return substr(decl, RSTART, RLENGTH)
}

function add(name, member) {
    print (members++ ? "MEMBER(" : "FIRST(") name ", " member ")"
    last = member
}

END {
    wanted = gsub(/typedef /, "typedef ", text)
    while (match(text, /typedef [^;{]*[;{]/)) {
        head = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        types++
        if (head ~ /^typedef struct [A-Za-z_0-9]+ [A-Za-z_0-9]+[ ]*;$/)
            continue # its members are nobody's business
        if (head ~ /;$/) {
            sub(/[ ]*;$/, "", head)
            print "TYPE(" name_of(head) ")"
            continue
        }
        end = index(text, "}")
        body = substr(text, 1, end - 1)
        text = substr(text, end + 1)
        name = substr(text, 1, index(text, ";") - 1)
        gsub(/[ ]/, "", name)
        print "TYPE(" name ")"
        members = 0
        n = split(body, decls, ";")
        for (k = 1; k <= n; k++) {
            if (decls[k] !~ /[A-Za-z]/)
                continue
            if (decls[k] ~ /\(/) {
                add(name, name_of(decls[k]))
                continue
            }
            m = split(decls[k], parts, ",")
            for (j = 1; j <= m; j++)
                add(name, name_of(parts[j]))
        }
        print "LAST(" name ", " last ")"
    }
    exit !(types > 0 && types == wanted)
}
