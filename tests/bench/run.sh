#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make bench: what the hook costs against the bare driver, as a table and as build/bench.jsonl.
#
#   tests/bench/run.sh [--build DIR] [--peer LIBRARY] [--markdown] [--scale PERCENT] [--json FILE]
#                [--only ID]
#     --peer      another preload library beside ours, with HAMi's environment
#     --markdown  writes the table into docs/benchmarks.md instead
#     --only      the loops whose id (rows.def) begins so, and nothing else
#     --scale     percent of repetitions, iterations and live allocations (the smoke test: 1)
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build json='' markdown='' more=()
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$(cd "$2" && pwd); shift ;;
    --peer) more+=(--peer "$(realpath "$2")"); shift ;;
    --scale) more+=(--scale "$2"); shift ;;
    --only) more+=(--only "$2"); shift ;;
    --json) json=$2; shift ;;
    --markdown) markdown=yes ;;
    *) printf 'run.sh: "%s" is not one of --build, --peer, --markdown, --scale, --json, --only\n' "$1" >&2; exit 2 ;;
    esac
    shift
done
json=${json:-$build/bench.jsonl}

dir=$(mktemp -d /dev/shm/tranche-bench-run.XXXXXX)
sim=$build/lib/sim
finish() {
    status=$?
    "$sim/sim-ctl" stop "$dir/machine" >/dev/null 2>&1 || true
    rm -rf "$dir"
    exit $status
}
trap finish EXIT
"$sim/sim-ctl" start "$dir/machine" gpus=h100 --lifetime-pid $$
export TRANCHE_SIM=$dir/machine
strip -o "$dir/stripped.so" "$build/lib/libvgpu.so"

bench() {
    "$build/bin/bench" --worker "$build/bin/bench_worker" --ours "$build/lib/libvgpu.so" \
        --stripped "$dir/stripped.so" --driver "stub=$build/lib/stub" --driver "sim=$sim" \
        --json "$json" ${more[@]+"${more[@]}"} "$@"
}

if [ -z "$markdown" ]; then
    bench
    exit
fi
# Between the two marks stands what was measured last.
bench --markdown >"$dir/table"
page=$root/docs/benchmarks.md
{
    sed '/^<!-- table -->$/q' "$page"
    printf '\nMeasured on %s, %s cores of %s, Linux %s, no GPU.\n\n' "$(date -u +%F)" "$(nproc)" \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(uname -r)"
    cat "$dir/table"
    printf '\n'
    sed -n '/^<!-- end of table -->$/,$p' "$page"
} >"$dir/page"
cat "$dir/page" >"$page"
