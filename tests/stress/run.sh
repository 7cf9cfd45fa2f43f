#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make soak SECONDS=n: the stress tests again and again for that long (SOAK_SECONDS here; default
# 600), each time with other random numbers. A round that has begun is finished.
set -eu
limit=${SOAK_SECONDS:-600}
cd "$(dirname "$0")/../.."
build=${BUILD:-$PWD/build}
begin=$(date +%s)
rounds=0
left() { echo $((begin + limit - $(date +%s))); }

kills() {
	tests/hook/run.sh "$build" mem=7680Mi floor=104Mi gpus=2xt4 preload= -- \
		"$build/bin/stress.random_kills" "$build/bin/stress.tenant" \
		"$build/lib/libvgpu.so" 7680Mi 104Mi "$1"
}

while [ "$(left)" -gt 0 ]; do
	kills 4000
	tests/stress/live_scribble.sh "$build" 20
	if [ $rounds = 0 ]; then
		tests/stress/single_step.sh "$build" fits
		if [ "$limit" -ge 600 ]; then
			tests/stress/single_step.sh "$build" refused
		fi
	fi
	rounds=$((rounds + 1))
done
echo "$rounds rounds in $(($(date +%s) - begin)) seconds"
