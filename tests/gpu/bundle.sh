#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bundle.sh BUILD: packs the bundle and runs it in an empty environment on the simulated driver, as if
# that were the machine's own. There the simulator's answers must agree with what was recorded.
set -eu -o pipefail
build=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /dev/shm/gpu-bundle.XXXXXX)
sim=$build/lib/sim
finish() {
    status=$?
    "$sim/sim-ctl" stop "$work/machine" >/dev/null 2>&1 || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT

"$here/pack.sh" "$build"
tar -C "$work" -xzf "$build/gpu-test.tar.gz"
"$sim/sim-ctl" start "$work/machine" gpus=l4 --lifetime-pid $$
env -i PATH=/usr/bin:/bin HOME="$work" LD_LIBRARY_PATH="$sim" TRANCHE_SIM="$work/machine" GPU_TEST_SCALE=1 \
    GPU_TEST_LIMITER="--workload 5ms --quota 50 --processes 1 --neighbours 0,1 --seconds 3" GPU_TEST_LEASES=no \
    GPU_TEST_JUDGE=no "$work/gpu-test/run.sh" "$work/results" | tee "$work/said"
grep -q 'NVIDIA L4, CUDA 13.5' "$work/said"
grep -qE '^  same: 4[0-9][0-9] steps compared, 0 disagree' "$work/said"
# The same program on the same simulated model: nothing may differ from what was recorded but the
# device of the look-ups' recording (an H100).
grep -A 1 'device against the simulated .*model-l4' "$work/said" | grep -qE 'expected: [0-9]+ steps compared, 0 disagree'

# The kit of limiters ran in real time, and measured: coarse, as others work on this machine too.
awk -F '"got":' 'NF != 2 || $2 + 0 < 25 || $2 + 0 > 65 { bad = 1; print } END { exit bad || NR != 2 }' \
    "$work/results/limiter.jsonl"
[ "$(grep -c '^| 5ms |' "$work/results/limiter.md")" = 2 ]

# Without a driver it says so, and skips.
status=0
env -i PATH=/usr/bin:/bin "$work/gpu-test/run.sh" "$work/none" >"$work/said" 2>&1 || status=$?
if [ "$status" != 77 ]; then
    # A machine with a real driver: it has just run there.
    grep -q '== result' "$work/said"
fi
