# report.awk - reads exceptions.txt, scope.txt and what `gcov -b -c -t` says of each file
# in scope; prints a table and what is not covered. Ends with 1 when more of a file is neither
# covered nor excepted than scope.txt says, or when an exception is not true any more.
#
#   awk -v root=DIR/ -v list=1 -f report.awk exceptions.txt scope.txt gcov.out
#
# list=1 prints each branch that is excepted or still without a test, too.

function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t\r]+$/, "", s); return s }
function complain(text) { complaints[++complaints_len] = text }

# ---- exceptions.txt: lines "FILE FUNCTION", each with "N  source text" (or "0-N"), then
# "why: reason" for all since the last reason ----
FILENAME == ARGV[1] {
    if ($0 ~ /^[ \t]*(#|$)/)
        next
    if ($0 ~ /^[^ \t]/) {
        at_file = $1; at_function = $2
    } else if ($1 == "why:") {
        if (NF < 4)
            complain("exceptions.txt:" FNR ": a reason is wanted")
        if (!pending)
            complain("exceptions.txt:" FNR ": a reason without a source line above it")
        for (i = 1; i <= pending; i++)
            reason[waiting[i]] = trim(substr($0, index($0, "why:") + 4))
        pending = 0
    } else if ($1 ~ /^[0-9]+(-[0-9]+)?$/) {
        text = trim(substr($0, index($0, $1) + length($1)))
        key = at_file SUBSEP at_function SUBSEP text
        if (key in most)
            complain("exceptions.txt:" FNR ": the same line of the same function twice")
        n = split($1, range, "-")
        least[key] = range[1] + 0
        most[key] = range[n] + 0
        where[key] = FNR
        waiting[++pending] = key
    } else
        complain("exceptions.txt:" FNR ": wanted \"FILE FUNCTION\", \"  COUNT  source " \
                 "text\" or \"  why: reason\"")
    next
}

FILENAME == ARGV[2] {
    if ($0 ~ /^[ \t]*(#|$)/)
        next
    if ($0 ~ /^core\//) {
        files[++files_len] = $1
        in_scope[$1] = 1
        owed[$1] = $2 + 0
    } else
        heading[files_len + 1] = $0
    next
}

# ---- gcov ----
/^ +-: +0:Source:/ {
    file = $0
    sub(/^ +-: +0:Source:/, "", file)
    if (index(file, root) == 1)
        file = substr(file, length(root) + 1)
    wanted = (file in in_scope)
    if (wanted && (file in seen))
        complain(file ": compiled more than once; the figures would be of one copy only")
    if (wanted)
        seen[file] = 1
    in_function = ""
    next
}
/^function / {
    in_function = $2
    sub(/\.(part|isra|constprop).*/, "", in_function)
    if (wanted && $4 == 0)
        missing(in_function "()", in_function "() is never called")
    next
}
/^branch / {
    if (!wanted)
        next
    branches[file]++
    if ($0 ~ /never executed/ || $4 == 0)
        missing(source, "")
    else
        taken[file]++
    next
}
/^(call|unconditional) / { next }
/^ *[^:]+: *[0-9]+:/ {
    if (!wanted)
        next
    count = trim(substr($0, 1, index($0, ":") - 1))
    rest = substr($0, index($0, ":") + 1)
    line = trim(substr(rest, 1, index(rest, ":") - 1))
    source = trim(substr(rest, index(rest, ":") + 1))
    if (count == "-" || line == 0)
        next
    lines[file]++
    if (count !~ /^[#=]/)
        hit[file]++
    next
}

function missing(text, what,   key) {
    key = file SUBSEP in_function SUBSEP text
    open[key]++
    if (!(key in first)) {
        order[++order_len] = key
        first[key] = what ? what : line ": " text
    }
}

END {
    for (k = 1; k <= order_len; k++) {
        key = order[k]
        split(key, part, SUBSEP)
        allowed = (key in most) ? most[key] : 0
        excepted[part[1]] += open[key] < allowed ? open[key] : allowed
        if (open[key] > allowed) {
            bad[part[1]] += open[key] - allowed
            hole_of[++holes_len] = part[1]
            holes[holes_len] = sprintf("%s: %s: %d not taken%s: %s", part[1], part[2], \
                open[key], allowed ? " (" allowed " excepted)" : "", first[key])
        }
    }
    for (key in most) {
        split(key, part, SUBSEP)
        if (!(part[1] in in_scope))
            complain("exceptions.txt:" where[key] ": " part[1] " is not in scope.txt")
        else if (open[key] < least[key])
            complain(sprintf("exceptions.txt:%d: %s, %s: %d not taken, the exception says " \
                "%d: make it smaller or take it away: %s", where[key], part[1], part[2], \
                open[key], least[key], part[3]))
        if (!(key in reason))
            complain("exceptions.txt:" where[key] ": no reason given")
    }
    printf "%-34s %15s %17s %9s %7s\n", "file", "lines", "branches", "excepted", "missing"
    for (k = 1; k <= files_len; k++) {
        f = files[k]
        if (k in heading)
            row_end(heading[k])
        if (!(f in seen)) {
            complain(f ": gcov knows nothing of it: is it built by the targets of run.sh?")
            continue
        }
        row(f, lines[f], hit[f], branches[f], taken[f], excepted[f], bad[f])
        l += lines[f]; h += hit[f]; b += branches[f]; t += taken[f]
        e += excepted[f]; m += bad[f]
        if (bad[f] > owed[f])
            complain(sprintf("%s: %d branches have no test, scope.txt allows %d", f, bad[f], \
                owed[f]))
    }
    row("all", l, h, b, t, e, m)
    for (k = 1; k <= holes_len; k++)
        if (list || bad[hole_of[k]] > owed[hole_of[k]])
            print holes[k]
    if (list)
        for (k = 1; k <= order_len; k++)
            if (order[k] in most) {
                split(order[k], part, SUBSEP)
                printf "excepted: %s: %s: %s\n    %s\n", part[1], part[2], part[3], \
                    reason[order[k]]
            }
    for (k = 1; k <= complaints_len; k++)
        print complaints[k]
    printf "%d branches: %d taken, %d excepted with a reason, %d without a test yet\n", b, t, \
        e, m
    exit complaints_len ? 1 : 0
}

function row_end(title) { printf "%s\n", title }
function share(n, of) { return of ? sprintf("%.1f%%", int(1000 * n / of) / 10) : "-" }
function row(name, l, h, b, t, e, m) {
    printf "  %-32s %7s %5d/%-5d %7s %5d/%-5d %5d %7d\n", name, share(h, l), h, l, \
        share(t, b), t, b, e, m
}
