#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD CLAIM: one claim about the pacer, on a simulated machine with a virtual clock of its own.
set -eu
build=$1
sim=$build/lib/sim
dir=$(mktemp -d /dev/shm/pacer.XXXXXX)
finish() {
	status=$?
	if [ -s "$dir/machine/clock.error" ]; then
		cat "$dir/machine/clock.error" >&2
		status=1
	fi
	"$sim/sim-ctl" stop "$dir/machine" >/dev/null 2>&1 || true
	rm -rf "$dir"
	exit $status
}
trap finish EXIT
"$sim/sim-ctl" start "$dir/machine" gpus=4xh100 clock=virtual noise_seed=1 noise_pct=3 --lifetime-pid $$
export TRANCHE_SIM=$dir/machine PACER_DIR=$dir PACER_BUILD=$build
export TRANCHE_SIM_RANK=0 LD_LIBRARY_PATH=$sim
env LD_PRELOAD="$sim/libsimtime.so" "$build/bin/pacer.claims" "$2"
