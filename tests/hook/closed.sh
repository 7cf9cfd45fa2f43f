#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# closed.sh BUILD: what Allocate gives a container allows nothing, also with an empty environment
# (F17), until PreStartContainer arms it; then just what it says.
set -eu
build=$1
if [ "$(id -u)" != 0 ]; then
	echo "skipped: needs root to mount a slice"
	exit 77
fi
dir=$(mktemp -d /dev/shm/hook-test.XXXXXX)
sim=$build/lib/sim
finish() {
	status=$?
	"$sim/sim-ctl" stop "$dir/machine" >/dev/null 2>&1 || true
	rm -rf "$dir"
	exit $status
}
trap finish EXIT
"$sim/sim-ctl" start "$dir/machine" gpus=2xh100 --lifetime-pid $$
export TRANCHE_SIM=$dir/machine
mapfile -t uuids < <("$sim/sim-ctl" devices | cut -d' ' -f2)
mkdir "$dir/slices"
name=$("$build/bin/mkalloc" "$dir/slices")
export build dir sim name uuid=${uuids[1]}
# shellcheck disable=SC2016 # the inner shell expands
unshare -m --propagation private bash -eu -c '
	mount -t tmpfs none /run
	mkdir -p /run/tranche/slice/ro /run/tranche/slice/rw
	mount --bind "$dir/slices/$name/ro" /run/tranche/slice/ro
	mount -o remount,bind,ro /run/tranche/slice/ro
	mount --bind "$dir/slices/$name/rw" /run/tranche/slice/rw
	inside() {
		env -i TRANCHE_SIM="$TRANCHE_SIM" LD_LIBRARY_PATH="$sim" LD_PRELOAD="$build/lib/libvgpu.so" "$@"
	}
	inside "$build/bin/hook.closed"
	"$build/bin/mkalloc" "$dir/slices" "$name" "$uuid" 1000 30 >/dev/null
	inside CUDA_VISIBLE_DEVICES=1 "$build/bin/hook.init" 0 1000
	if inside CUDA_VISIBLE_DEVICES=1 "$build/bin/hook.closed" 2>/dev/null; then exit 1; fi
	inside CUDA_VISIBLE_DEVICES=0 "$build/bin/hook.closed" # the other card is not its own
'
echo "closed until armed"
