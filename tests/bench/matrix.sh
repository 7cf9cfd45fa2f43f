#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make bench: the whole matrix of `tranche bench limiter` on simulated GPUs in virtual time, as lines of
# JSON, a plot and a table.
#
#   tests/bench/matrix.sh [--build DIR] [--json FILE] [--svg FILE] [--seed N] [--markdown] [--check] [--only OPTIONS]
#     --json      build/limiter.jsonl     --svg       build/limiter.svg
#     --markdown  writes the table into docs/benchmarks.md, the plot to docs/limiter.svg
#     --check     exit status 1 when a number is beyond its bound
#     --only "--quota 50 --neighbours 0"      less than the whole: for tests of this script
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build json='' svg='' markdown='' check='' seed=1 only=()
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$(cd "$2" && pwd); shift ;;
    --json) json=$2; shift ;;
    --svg) svg=$2; shift ;;
    --seed) seed=$2; shift ;;
    --markdown) markdown=yes ;;
    --check) check=--check ;;
    --only) read -ra only <<<"$2"; shift ;;
    *) printf 'matrix.sh: "%s" is not one of --build, --json, --svg, --seed, --markdown, --check, --only\n' "$1" >&2; exit 2 ;;
    esac
    shift
done
json=${json:-$build/limiter.jsonl}
[ -z "$markdown" ] || svg=${svg:-$root/docs/limiter.svg}
svg=${svg:-$build/limiter.svg}
table=$(mktemp)
trap 'rm -f "$table"' EXIT

failed=0
started=$SECONDS
bench() {
    "$build/bin/tranche" bench limiter --json --seed "$seed" $check "$@" || failed=1
}
bench --svg "$svg" ${only[@]+"${only[@]}"} >"$json"
if [ ${#only[@]} -eq 0 ]; then
    bench --gpus 2,4 --processes 1 --quota 20,50,80 --neighbours 0,1 \
        --workload 200us,5ms,mixed,graph500,training >>"$json"
fi
took=$((SECONDS - started))

python3 "$root/tests/bench/limiter_table.py" "$json" >"$table"
if [ -z "$markdown" ]; then
    cat "$table"
    printf '\n%s and %s, in %s s.\n' "$json" "$svg" "$took"
    exit $failed
fi
page=$root/docs/benchmarks.md
{
    sed '/^<!-- limiter -->$/q' "$page"
    printf '\nMeasured on %s with seed %s, %s cores, in %s min %s s%s.\n\n' "$(date -u +%F)" "$seed" "$(nproc)" \
        $((took / 60)) $((took % 60)) "${only[*]:+ (only \`${only[*]}\`)}"
    printf '![asked and got](%s)\n\n' "$(realpath --relative-to="$root/docs" "$svg")"
    cat "$table"
    printf '\n'
    sed -n '/^<!-- end of limiter -->$/,$p' "$page"
} >"$table.page"
cat "$table.page" >"$page"
rm -f "$table.page"
exit $failed
