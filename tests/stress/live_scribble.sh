#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# live_scribble.sh BUILD SECONDS: the program of that name on a machine of its own.
set -eu
build=$1 seconds=$2
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC2016 # expanded by the inner shell, where the machine runs
exec "$here/../hook/run.sh" "$build" mem=3Gi floor=104Mi gpus=2xt4 preload= -- bash -c '
	mapfile -t uuids < <("$0/lib/sim/sim-ctl" devices | cut -d" " -f2)
	"$0/bin/stress.live_scribble" "$0/bin/stress.tenant" "$0/lib/libvgpu.so" "$1" \
		3Gi 104Mi "${uuids[@]}"' "$build" "$seconds"
