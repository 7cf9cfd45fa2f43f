#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# limiter.sh BUILD matrix|windows|rate|judge|same|tables: the reduced matrix of `tranche bench limiter`, on simulated
# GPUs in virtual time; a failure prints the cells beyond their bounds.
set -eu
build=$1
bench=("$build/bin/tranche" bench limiter)
work=$(mktemp -d /dev/shm/bench-limiter.XXXXXX)
trap 'rm -rf "$work"' EXIT

case $2 in
matrix)
    # Each workload at three quotas, alone and beside others; then more processes and more devices.
    failed=0
    "${bench[@]}" --quick --check-shares --neighbours 0,1 --quota 10,80 --processes 1 || failed=1
    "${bench[@]}" --quick --check-shares --workload 200us,5ms,100ms,500ms,mixed,bursty,cooperative --neighbours 3 \
        --quota 33 --processes 1 || failed=1
    "${bench[@]}" --quick --check-shares --workload 5ms,graph500,mixed --neighbours 0,1 --quota 33 \
        --processes 2,8 || failed=1
    "${bench[@]}" --quick --check-shares --workload 5ms --neighbours 1 --quota 33 --processes 1 --gpus 2,4 ||
        failed=1
    # What a whole window tells: processes that queue, and streams at a small share.
    "${bench[@]}" --check-shares --workload 100ms --neighbours 3 --quota 20 --processes 8 || failed=1
    # And what NVML rounds: eight processes of a quarter of a percent, and of more than that in long kernels.
    "${bench[@]}" --check-shares --workload 200us --neighbours 3 --quota 95 --processes 8 || failed=1
    "${bench[@]}" --check-shares --workload 5ms --neighbours 1 --quota 5 --processes 8 || failed=1
    # A kernel that takes 1 ms or an eighth of it: whole runs of them are longer than predicted, and nobody else's fault.
    "${bench[@]}" --check-shares --workload varied:1ms --neighbours 0 --quota 20,50 --processes 1,8 || failed=1
    "${bench[@]}" --check-shares --workload streams4,200us --neighbours 0 --quota 5,95 --processes 1,8 || failed=1
    exit $failed
    ;;
windows)
    # Second by second: kernels up to 20 ms.
    failed=0
    "${bench[@]}" --check --workload 200us,5ms,mixed,graph500,cooperative,streams4 --quota 10,50,80 \
        --neighbours 0,1 --processes 1 --seconds 20 || failed=1
    "${bench[@]}" --check --workload streams4 --quota 33 --neighbours 3 --processes 2 || failed=1
    "${bench[@]}" --check --workload 5ms --quota 33 --neighbours 1,3 --processes 8 || failed=1
    # Turns of 32 processes in the spans; and a kernel that takes 1 ms or an eighth of it.
    "${bench[@]}" --check --workload cooperative --quota 10 --neighbours 3 --processes 8 || failed=1
    "${bench[@]}" --check --workload 200us --quota 20 --neighbours 3 --processes 8 || failed=1
    "${bench[@]}" --check --workload varied:1ms,varied:100us --quota 20 --neighbours 1 --processes 1 || failed=1
    exit $failed
    ;;
rate)
    # I6, end to end: windows of every length. Of kernels that vary only after warm-up and of one process: until a
    # key knows them, and where processes are in each other's spans, more is in flight than was charged.
    rate=("${bench[@]}" --rate --json)
    {
        "${rate[@]}" --workload 200us,5ms,mixed,graph500 --quota 20,80 --neighbours 0,1 --processes 1,2,8
        "${rate[@]}" --workload 10us,cooperative,streams4,training --quota 20 --neighbours 0,1 --processes 1,8
        "${rate[@]}" --workload 200us,5ms --quota 50 --neighbours 3 --processes 1,2,8
        "${rate[@]}" --workload varied:1ms --quota 20,50,80 --neighbours 0,1 --processes 1
    } >"$work/cells"
    python3 - "$work/cells" <<'PY'
import json, sys
cells = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
assert len(cells) == 76, f"{len(cells)} cells"
failed = 0
for cell in cells:
    varies = cell["workload"].startswith("varied:")
    for part in ["beyond_rate"] if varies else ["beyond_rate", "beyond_rate_first"]:
        had = cell[part]
        if had["ms"] > had["allowed_ms"]:
            print(cell["workload"], cell["asked"], "%", cell["processes"], "p", cell["neighbours"], "n:", part, had)
            failed += 1
sys.exit(f"{failed} beyond the bound" if failed else 0)
PY
    ;;
judge)
    # A library that limits nothing is found out, and so is its plot.
    status=0
    "${bench[@]}" --check --peer "$build/lib/libpeer_idle.so" --workload 200us --quota 50 --neighbours 0,1 \
        --processes 1 --json --svg "$work/plot.svg" >"$work/cells" 2>"$work/sum" || status=$?
    [ "$status" = 1 ] || { echo "status $status for a limiter that limits nothing"; exit 1; }
    python3 - "$work/cells" "$work/plot.svg" <<'PY'
import json, sys, xml.dom.minidom
cells = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
alone, beside = cells
assert alone["asked"] == 50 and alone["got"] > 95 and alone["error"] > 45, alone
# Two that ask for half each have it by the GPU's turns, whoever limits them.
assert abs(beside["got"] - 50) < 2 and abs(beside["neighbours_got"][0] - 50) < 2, beside
assert all(cell["reach"] > 95 and cell["window_s"] >= 9.9 for cell in cells), cells
assert len(xml.dom.minidom.parse(sys.argv[2]).getElementsByTagName("circle")) >= 4
PY
    ;;
tables)
    # What make bench makes of it.
    "$(dirname "$0")/matrix.sh" --build "$build" --json "$work/cells" --svg "$work/plot.svg" \
        --only "--workload 5ms,bursty --quota 20,50 --neighbours 0 --processes 1" >"$work/tables" 2>"$work/sum"
    [ "$(wc -l <"$work/cells")" = 4 ] || { cat "$work/sum"; exit 1; }
    for row in '| 5ms | 2 |' '| bursty | 2 |' '| \*\*all\*\* | 4 |'; do
        [ "$(grep -c "^$row" "$work/tables")" = 1 ] || { cat "$work/tables"; exit 1; }
    done
    ;;
same)
    # Deterministic by seed: everything but how long it took.
    for i in 1 2; do
        "${bench[@]}" --workload mixed --quota 33 --neighbours 1 --processes 2 --seconds 5 --json 2>/dev/null |
            sed 's/,"real_s".*//' >"$work/$i"
    done
    cmp "$work/1" "$work/2"
    "${bench[@]}" --workload mixed --quota 33 --neighbours 1 --processes 2 --seconds 5 --json --seed 2 \
        2>/dev/null | sed 's/,"real_s".*//' >"$work/3"
    ! cmp -s "$work/1" "$work/3"
    ;;
esac
