#!/usr/bin/env bash
# tests/model/run.sh [MODEL | --accept-table] - checks the models with spin: every scenario of
# a model must hold, and every mutant must be found by the property named beside it. Two
# searches run at a time; all models take less than a minute. A search that ended early, found
# something else than it should or did not build is a failure.
#
# Before that, moves.pml (the table of moves that the models of a row's life include) is
# compared with what core/job/state.c says; --accept-table writes it anew.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
only=${1:-}
command -v spin >/dev/null || { echo "model: spin is not installed (apt-get install spin)"; exit 2; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT

# MODEL  KIND  PROPERTY  NAME  DEFINES
#   holds  all assertions, and no deadlock      found  the mutant NAME breaks PROPERTY
#   live   PROPERTY under weak fairness         stuck  the mutant NAME breaks that one
table() {
  grep -v '^ *#' <<'END'
lease   holds -      three-attempts        -DMAX=3
lease   holds -      crash,claim-undone    -DCRASHES=1 -DUNDOS=1
lease   holds -      late-claim,crash      -DLATES=1 -DCRASHES=1
lease   holds -      release,cancel        -DRELEASES=1 -DCANCELS=1
lease   holds -      retry-by-two          -DRETRIES=1
lease   live  ends   fair,one-crash        -DCRASHES=1
lease   found I7     NO_OWNER              -DCRASHES=1
lease   found I7     NO_STATUS             -DCRASHES=1
lease   found I3     NO_MAX                -DCRASHES=1
lease   found I1     FENCE_ONLY            -DUNDOS=1
lease   found I5     REAP_BLIND            -DCRASHES=1
lease   found I7     RENEW_BLIND           -DCRASHES=1
lease   found I3     RELEASE_COUNTS        -DRELEASES=1
lease   found I6     ACK_BLIND             -DCRASHES=1
lease   found I4     RETRY_BLIND           -DRETRIES=1
cancel  holds -      two-cancels,crash     -DCRASHES=1
cancel  holds -      signals,parked        -DSIGNALS=1 -DPARKS=1 -DCLAIMS=3
cancel  holds -      retry-of-canceled     -DRETRIES=1 -DCLAIMS=3
cancel  live  ends   executor-never-ends   -DLONG -DCRASHES=1 -DCLAIMS=3
cancel  found I11    CLAIM_BLIND
cancel  found I11    PROMOTE_BLIND
cancel  found I11    FAIL_FORGETS
cancel  found I11    REAP_FORGETS          -DCRASHES=1
cancel  found I11    RELEASE_FORGETS
cancel  found I11    SUSPEND_FORGETS
cancel  found I4     CANCEL_ENDED
cancel  found ASKED  RETRY_KEEPS_MARK      -DRETRIES=1
cancel  found TOLD   LATE_IS_MINE
cancel  stuck ends   RENEW_SILENT          -DLONG -DCLAIMS=2
END
}

# ---- the table of moves -----------------------------------------------------------------

if ! gcc -std=c11 -D_GNU_SOURCE -I"$root" -o "$tmp/table" "$here/table.c" \
    "$root/core/job/state.c" "$root/core/base/err.c" || ! "$tmp/table" >"$tmp/moves.pml"; then
  echo "model: table.c cannot print the table of core/job/state.c"
  exit 1
fi
if [ "$only" = --accept-table ]; then
  cp "$tmp/moves.pml" "$here/moves.pml"
  exit
fi
if ! diff -u "$here/moves.pml" "$tmp/moves.pml"; then
  echo "model: moves.pml is not the table of core/job/state.c; look whether the models still"
  echo "       mean what the store does, then: tests/model/run.sh --accept-table"
  exit 1
fi
echo "model: moves.pml is the table of core/job/state.c"

# ---- one search -------------------------------------------------------------------------

# search DIR MODEL KIND PROPERTY NAME DEFINES...: prints its line; false: not as it should be.
search() {
  local dir=$1 model=$2 kind=$3 property=$4 name=$5 began=$EPOCHREALTIME
  local opt=-O0 flags='-DSAFETY -DNOFAIR' args='' out states errors why verdict good=1 what
  shift 5
  case $kind in
    holds) opt=-O1 what="$name" ;;
    found) set -- "-D$name" "$@"; what="mutant $name" ;;
    live) opt=-O1 flags=-DNFAIR=4 args='-a -f'; set -- -DLIVE "$@"; what="$name" ;;
    stuck) flags=-DNFAIR=4 args='-a -f'; set -- -DLIVE "-D$name" "$@"; what="mutant $name" ;;
  esac
  mkdir -p "$dir" && cd "$dir" || return 1
  # shellcheck disable=SC2086
  if spin "$@" -a "$here/$model.pml" >log 2>&1 &&
      gcc -w $opt $flags -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=1500 -o pan pan.c >>log 2>&1; then
    out=$(timeout 60 ./pan -m200000 $args 2>&1) || out+=$'\n'"the search was ended"
  else
    out=$(cat log)
  fi
  states=$(awk '/states, stored/ { print $1; exit }' <<<"$out")
  errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' <<<"$out" | head -n 1)
  why=$(grep -oE 'assertion violated .*|invalid end state.*|acceptance cycle.*|non-progress.*|max search depth too small|the search was ended|reached -DMEMLIM.*|[Ee]rror[: ].*' \
        <<<"$(grep -vE 'errors:|(cycles|violations|states)[[:space:]]*[+-]' <<<"$out")" |
        head -n 1)
  verdict="BROKEN: ${why:-no verdict}"
  case $kind in
    holds | live)
      [ "${errors:-1}" = 0 ] && [ -z "$why" ] && good=0
      [ $kind = live ] && ! grep -q 'cycles[[:space:]]*+ (fairness enabled)' <<<"$out" && good=1
      [ $good = 0 ] && verdict=holds
      [ $kind = live ] && verdict+=" ($property, weak fairness)"
      ;;
    found)
      grep -qE "^assertion violated [( ]*$property&&" <<<"$why" && good=0
      [ $good = 0 ] && verdict="found by $property" || verdict="NOT FOUND by $property: ${why:-holds}"
      ;;
    stuck)
      [[ $why == 'acceptance cycle'* ]] && good=0
      [ $good = 0 ] && verdict="found by $property" || verdict="NOT FOUND by $property: ${why:-holds}"
      ;;
  esac
  printf '%-8s %-28s %9s states %5.1f s  %s\n' "$model" "$what" "${states:-?}" \
    "$(awk "BEGIN { print $EPOCHREALTIME - $began }")" "$verdict"
  cd / && rm -rf "$dir"
  return $good
}

# ---- all of them, two at a time ---------------------------------------------------------

began=$EPOCHREALTIME
n=0 shown=0 running=0 failed=0

show() { # what is ready, in the order of the table
  while [ -e "$tmp/$((shown + 1)).rc" ]; do
    shown=$((shown + 1))
    cat "$tmp/$shown.line"
    [ "$(cat "$tmp/$shown.rc")" = 0 ] || failed=$((failed + 1))
  done
}

while read -r model kind property name defines; do
  [ -n "$only" ] && [ "$only" != "$model" ] && continue
  n=$((n + 1))
  # shellcheck disable=SC2086
  (
    search "$tmp/$n" "$model" "$kind" "$property" "$name" $defines >"$tmp/$n.line" 2>&1
    echo $? >"$tmp/$n.new" && mv "$tmp/$n.new" "$tmp/$n.rc"
  ) &
  running=$((running + 1))
  if [ $running -ge 2 ]; then
    wait -n
    running=$((running - 1))
    show
  fi
done < <(table)
wait
show
if [ $n -eq 0 ]; then
  echo "model: no model \"$only\"; there are: $(table | awk '{ print $1 }' | uniq | xargs)"
  exit 2
fi
[ $shown -eq $n ] || failed=$((failed + n - shown))
awk -v n=$n -v failed=$failed -v s="$(awk "BEGIN { print $EPOCHREALTIME - $began }")" 'BEGIN {
  printf "model: %d searches in %.0f s, %d not as they should be", n, s, failed
  print failed ? "" : ": every scenario holds, every mutant was found"
  exit failed != 0
}'
