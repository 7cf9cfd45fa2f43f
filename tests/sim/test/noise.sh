#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# noise.sh LIBRARY_DIR PROGRAM: equal seeds and ranks see equal times, others do not.
set -eu
libraries=$1 program=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export TRANCHE_SIM_CLOCK=virtual TRANCHE_SIM_NOISE_PCT=10
run() { # NAME SEED RANK
	"$(dirname "$0")/machine.sh" "$libraries" TRANCHE_SIM_SEED="$2" TRANCHE_SIM_RANK="$3" -- \
		env LD_PRELOAD="$libraries/libsimtime.so" "$program" >"$dir/$1"
}
run first 1 0
run again 1 0
run seed 2 0
run rank 1 1
cmp "$dir/first" "$dir/again"
if cmp -s "$dir/first" "$dir/seed" || cmp -s "$dir/first" "$dir/rank"; then
	echo "another seed or rank saw the same times"
	exit 1
fi
