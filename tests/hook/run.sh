#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD [key=value]... -- PROGRAM [ARGUMENT]...
#
# A simulated machine and a slice of it for one test program, and nothing left of them afterwards.
#   mem=LIMIT floor=BYTES   a policy page with these for every device (or devices=N: the first N)
#   cores=PERCENT           ... in an armed slice, of the GPUs' time
#   preload=LIST            what is preloaded; @ is the hook (default), empty: nothing
#   env:NAME=VALUE          a variable of the program; %d in VALUE is the test's own directory
#   anything else           a setting of the machine (sim-ctl start)
set -eu
build=$1
shift
mem='' cores=- floor=0 devices=16 preload=@ machine=() variables=()
while [ "$1" != -- ]; do
	case $1 in
	mem=*) mem=${1#*=} ;;
	cores=*) cores=${1#*=} ;;
	floor=*) floor=${1#*=} ;;
	devices=*) devices=${1#*=} ;;
	preload=*) preload=${1#*=} ;;
	env:*) variables+=("${1#env:}") ;;
	*) machine+=("$1") ;;
	esac
	shift
done
shift

dir=$(mktemp -d /dev/shm/hook-test.XXXXXX)
sim=$build/lib/sim
finish() {
	status=$?
	"$sim/sim-ctl" stop "$dir/machine" >/dev/null 2>&1 || true
	rm -rf "$dir"
	exit $status
}
trap finish EXIT
"$sim/sim-ctl" start "$dir/machine" ${machine[@]+"${machine[@]}"} --lifetime-pid $$
export TRANCHE_SIM=$dir/machine TEST_DIR=$dir TEST_BUILD=$build
if [ -n "$mem" ]; then
	mapfile -t uuids < <("$sim/sim-ctl" devices | cut -d' ' -f2 | head -n "$devices")
	"$build/bin/mkslice" "$dir" "$mem" "$floor" "$cores" "${uuids[@]}"
	variables+=("TRANCHE_POLICY=$dir/policy")
fi
hook=$build/lib/libvgpu.so
env "${variables[@]//%d/$dir}" LD_LIBRARY_PATH="$sim" LD_PRELOAD="${preload//@/$hook}" "$@"
