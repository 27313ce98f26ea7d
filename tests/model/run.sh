#!/usr/bin/env bash
# tests/model/run.sh - checks lease.pml with spin: the protocol must hold in every scenario,
# and every mutant must be found in the scenario named beside it. Under a minute.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v spin >/dev/null || { echo "model: spin is not installed"; exit 2; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
rc=0

# search OPTIMIZE PAN-ARGUMENTS DEFINES...: sets $states, $errors ("?": ended early) and
# $why, the first thing that went wrong.
search() {
  local opt=$1 args=$2 out
  shift 2
  cd "$tmp" && rm -f pan.* ./pan
  states='?' errors='?' why=''
  spin "$@" -a "$here/lease.pml" >spin.log 2>&1 || { cat spin.log; return; }
  # shellcheck disable=SC2086
  gcc -w "$opt" $pan_flags -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=1500 -o pan pan.c || return
  out=$(timeout 40 ./pan -m200000 $args 2>&1)
  grep -qE 'max search depth too small|Search not completed' <<<"$out" &&
    ! grep -q 'wrote .*trail' <<<"$out" && return
  states=$(awk '/states, stored/ { print $1; exit }' <<<"$out")
  errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' <<<"$out" | head -n 1)
  states=${states:-?} errors=${errors:-?}
  why=$(grep -oE 'assertion violated .*|invalid end state|acceptance cycle' <<<"$out" | head -n 1)
}

report() { printf '%-34s %9s states  %s\n' "$1" "$states" "$2"; }

holds() {
  local name=$1
  shift
  pan_flags='-DSAFETY -DNOFAIR' search -O1 '' "$@"
  if [ "$errors" = 0 ]; then
    report "$name" holds
  else
    report "$name" "BROKEN (errors: $errors)"
    rc=1
  fi
}

found() {
  local name=$1
  shift
  pan_flags='-DSAFETY -DNOFAIR' search -O0 '' "-D$name" "$@"
  if [ "$errors" != 0 ] && [[ $why == 'assertion violated'* ]]; then
    report "mutant $name" "found: $why"
  else
    report "mutant $name" "NOT FOUND (errors: $errors)"
    rc=1
  fi
}

holds 'three attempts' -DMAX=3
holds 'crash, claim undone' -DCRASHES=1 -DUNDOS=1
holds 'late claim, crash' -DLATES=1 -DCRASHES=1
holds 'release, cancel' -DRELEASES=1 -DCANCELS=1
holds 'retry by two operators' -DRETRIES=1

found NO_OWNER -DCRASHES=1
found NO_STATUS -DCRASHES=1
found NO_MAX -DCRASHES=1
found FENCE_ONLY -DUNDOS=1
found REAP_BLIND -DCRASHES=1
found RENEW_BLIND -DCRASHES=1
found RELEASE_COUNTS -DRELEASES=1
found ACK_BLIND -DCRASHES=1
found RETRY_BLIND -DRETRIES=1

# I10: with fair workers, clock and reaper, and one crash, the row ends and stays ended.
pan_flags='-DNFAIR=4' search -O1 '-a -f' -DLIVE -DCRASHES=1
if [ "$errors" = 0 ]; then
  report 'the row ends (fair, one crash)' holds
else
  report 'the row ends (fair, one crash)' "BROKEN (errors: $errors)"
  rc=1
fi

[ $rc -eq 0 ] && echo "model: every scenario holds, every mutant was found"
exit $rc
