#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# two_slices.sh BUILD [machine setting]...: two programs of two slices start together on one device
# (F19). Each one's numbers are its own, and each ledger names the right pid: nothing is inferred
# from what else changed at that moment.
set -eu
build=$1
shift
sim=$build/lib/sim
dir=$(mktemp -d /dev/shm/hook-test.XXXXXX)
finish() {
	status=$?
	"$sim/sim-ctl" stop "$dir/machine" >/dev/null 2>&1 || true
	rm -rf "$dir"
	exit $status
}
trap finish EXIT
"$sim/sim-ctl" start "$dir/machine" "$@" --lifetime-pid $$
export TRANCHE_SIM=$dir/machine
uuid=$("$sim/sim-ctl" devices | cut -d' ' -f2 | head -n 1)
mkdir "$dir/a" "$dir/b"
"$build/bin/mkslice" "$dir/a" 1Gi 100Mi - "$uuid"
"$build/bin/mkslice" "$dir/b" 2Gi 100Mi - "$uuid"

# Both wait for the file `go`, then start the driver at the same moment.
start() {
	exec env TRANCHE_POLICY="$dir/$1/policy" LD_LIBRARY_PATH="$sim" LD_PRELOAD="$build/lib/libvgpu.so" \
		"$build/bin/hook.own_numbers" "$2" "$3" "$dir/go" "$dir/$1/ready" "$dir/done"
}
start a 1024 300 &
a=$!
start b 2048 700 &
b=$!
touch "$dir/go"
for _ in $(seq 1000); do
	[ -e "$dir/a/ready" ] && [ -e "$dir/b/ready" ] && break
	sleep 0.02
done
check() { # slice pid bytes
	dump=$("$build/bin/ledger_dump" "$dir/$1/state")
	python3 - "$dump" "$2" "$3" <<-'END'
		import json, sys
		slots = json.loads(sys.argv[1])["slots"]
		pid, used = int(sys.argv[2]), int(sys.argv[3]) << 20
		assert len(slots) == 1, slots
		assert slots[0]["pid"] == pid, slots
		assert used in [m["used"] for m in slots[0]["devices"]], slots
	END
}
check a $a 300
check b $b 700
touch "$dir/done"
wait $a
wait $b
