#!/bin/bash
# One seed, run twice, gives the same trace, byte for byte: also when other seeds ran before it in
# the same process. Usage: same.sh EXJ_SIM SEED...
set -uo pipefail

sim=$1
shift
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
for seed in "$@"; do
    "$sim" --quiet --seed "$seed" --trace "$dir/a" >/dev/null 2>"$dir/err" ||
        { cat "$dir/err"; echo "seed $seed fails"; exit 1; }
    # --trace keeps the last seed that ran
    "$sim" --quiet --seed $((seed - 1)) --seeds 2 --trace "$dir/b" >/dev/null 2>"$dir/err" ||
        { cat "$dir/err"; echo "seed $((seed - 1)) or $seed fails"; exit 1; }
    if ! cmp -s "$dir/a" "$dir/b"; then
        echo "seed $seed: two runs differ:"
        diff "$dir/a" "$dir/b" | head -5
        exit 1
    fi
    echo "seed $seed: $(wc -l <"$dir/a") lines, twice the same"
done
