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
#   a "!" behind the kind: so many states that it pays to let the compiler optimise
table() {
  grep -v '^ *#' <<'END'
lease   holds -      three-attempts        -DMAX=3
lease   holds -      crash,claim-undone    -DCRASHES=1 -DUNDOS=1
lease   holds -      late-claim,crash      -DLATES=1 -DCRASHES=1
lease   holds -      release,cancel        -DRELEASES=1 -DCANCELS=1
lease   holds! -     retry-by-two          -DRETRIES=1
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
lease   stuck ends   NO_REAP               -DCRASHES=1
cancel  holds! -     two-cancels,crash     -DCRASHES=1
cancel  holds! -     signals,parked        -DSIGNALS=1 -DPARKS=1 -DCLAIMS=3
cancel  holds! -     retry-of-canceled     -DRETRIES=1 -DCLAIMS=3
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
reload  holds -      a-load-fails          -DFAILS=1
reload  holds! -     canary,put-back       -DCANARIES=1 -DBACKS=1 -DFAILS=1
reload  holds -      state-carried         -DSTATEFUL=1
reload  live! freed canary,trial-fails    -DCANARIES=1 -DFAILS=1 -DCONTENTS=1
reload  found MAPPED COUNT_LATE
reload  found COUNTED NO_DRAIN
reload  found MAPPED SWEEP_BLIND
reload  found MAPPED FIND_THEN_HOLD
reload  found LIVE1  FAILED_DROPS          -DFAILS=1
reload  found STATE  CARRY_RUNNING         -DSTATEFUL=1
reload  found LIVE1  TWO_RELOADERS
reload  stuck freed  KEEP_BAD              -DCANARIES=1 -DCONTENTS=1
reload  stuck freed  HOLD_FOREVER          -DFAILS=1 -DCONTENTS=1
host    holds -      three-deaths,async    -DDEATHS=3 -DASYNC=1
host    holds! -     deadline,quarantine   -DDEATHS=2 -DLATES=1 -DCRASHES_MAX=2 -DASYNC=1
host    holds -      sandbox,next-is-ready -DDEATHS=3 -DAHEAD=1 -DCRASHES_MAX=2
host    live  ends   two-deaths            -DDEATHS=2 -DCRASHES_MAX=2
host    found BEGUN  ONE_WIRE
host    found MATCH  MATCH_BY_ORDER        -DASYNC=1
host    found OWNED  DROP_SENT
host    found BEGUN  SEND_AGAIN
host    found BLAME  BLAME_LAST
host    found OWNED  LOSE_PENDING          -DASYNC=1
host    found BEGUN  RESULT_LATER
host    found BEGUN  NOT_ALL_HEARD
host    found LATE   HEAR_THE_LATE         -DLATES=1
host    found BUDGET NO_QUARANTINE         -DDEATHS=3 -DCRASHES_MAX=2
host    found BUDGET AHEAD_STAYS           -DAHEAD=1 -DDEATHS=2 -DCRASHES_MAX=2
host    found BUDGET ROW_UNCOUNTED         -DDEATHS=2
host    stuck ends   WAITS_FOREVER         -DDEATHS=2 -DCRASHES_MAX=2
journal holds -      crash,second-writer   -DCRASHES=1 -DTWICE=1
journal holds -      crash,rerun           -DCRASHES=1 -DRERUNS=1
journal live  ends   crash,rerun           -DCRASHES=1 -DRERUNS=1 -DEXPIRIES=0 -DSTEPS=2
journal found ONCE   SECOND_WRITES         -DTWICE=1
journal found CHAIN  KEEP_LATER            -DRERUNS=1
journal found REPLAY DROP_ALL              -DRERUNS=1
journal found CHAIN  DROP_LATER            -DRERUNS=1
journal found FENCE  PUT_BLIND
journal found FENCE  BEGIN_BLIND
journal found AGAIN  NO_BEGIN              -DCRASHES=1
journal found REPLAY RUN_AGAIN             -DCRASHES=1
journal found REPLAY SHORTCUT_ATTEMPT      -DRERUNS=1
journal found VIEW   RERUN_NO_TOKEN        -DRERUNS=1
journal stuck ends   NO_REAP               -DCRASHES=1 -DEXPIRIES=0
cron    holds -      crash,latest          -DCRASHES=1 -DLATEST=1 -DPAUSES=2
cron    holds! -     pause,edit,anew       -DPAUSES=2 -DEDITS=1 -DDELETES=1
cron    holds -      start-fails,crash     -DFAILS=1 -DCRASHES=1 -DPAUSES=2
cron    live  fires  start-fails,crash     -DFAILS=1 -DCRASHES=1
cron    found ONCE   NO_TURN
cron    found STALE  NO_VERSION            -DEDITS=1
cron    found STALE  VERSIONS_REPEAT       -DDELETES=1
cron    found MISSED NOTE_FIRST            -DCRASHES=1
cron    found ONCE   ROWS_FIRST            -DCRASHES=1
cron    found MISSED IN_MEMORY             -DCRASHES=1
cron    found PAUSED PAUSE_NO_TURN         -DPAUSES=2
cron    found PAUSED RESUME_FIRES          -DPAUSES=2
cron    found MISSED FAILURE_SKIPS         -DFAILS=1
cron    stuck fires  NO_RETRY              -DFAILS=1
END
}

# ---- the table of moves -----------------------------------------------------------------

if ! gcc -std=c11 -D_GNU_SOURCE -I"$root" -o "$tmp/table" "$here/table.c" \
    "$root/core/job/state.c" || ! "$tmp/table" >"$tmp/moves.pml"; then
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
  [[ $kind == *! ]] && opt=-O1 kind=${kind%!}
  case $kind in
    holds) what="$name" ;;
    found) set -- "-D$name" "$@"; what="mutant $name" ;;
    live) flags=-DNFAIR=4 args='-a -f'; set -- -DLIVE "$@"; what="$name" ;;
    stuck) flags=-DNFAIR=4 args='-a -f'; set -- -DLIVE "-D$name" "$@"; what="mutant $name" ;;
  esac
  mkdir -p "$dir" && cd "$dir" || return 1
  # shellcheck disable=SC2086
  if spin "$@" -a "$here/$model.pml" >log 2>&1 &&
      gcc -w $opt $flags -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=1500 -o pan pan.c >>log 2>&1; then
    out=$(timeout 150 ./pan -m200000 $args 2>&1) || out+=$'\n'"the search was ended"
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
