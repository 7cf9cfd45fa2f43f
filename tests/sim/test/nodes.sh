#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# nodes.sh LIBRARY_DIR SEEN [enter]: on a machine with nodes=1 a process sees the devices whose nodes it can
# open in /dev: all, some, or, without /dev/nvidiactl or in the wrong hands, none. SEEN prints what it sees.
set -eu
libraries=$1 seen=$2

if [ "${3-}" != enter ]; then
	[ "$(id -u)" = 0 ] || { echo "skipped: only root can make device nodes"; exit 77; }
	exec unshare -m --propagation private "$0" "$libraries" "$seen" enter
fi

dir=$(mktemp -d)
trap 'umount -l /dev 2>/dev/null; "$libraries/sim-ctl" stop "$dir/machine" >/dev/null 2>&1; rm -rf "$dir"' EXIT
mount -t tmpfs -o mode=0755 none /dev
mknod -m 666 /dev/null c 1 3
"$libraries/sim-ctl" start "$dir/machine" gpus=3xa100-40 nodes=1 --lifetime-pid $$
chmod 755 "$dir" "$dir/machine"
export TRANCHE_SIM=$dir/machine LD_LIBRARY_PATH=$libraries
"$libraries/sim-ctl" devices | cut -d' ' -f2 >"$dir/uuids"
mapfile -t uuids <"$dir/uuids"

# sees WHAT COMMAND...: it prints these lines.
sees() {
	local got
	got=$("${@:2}")
	[ "$got" = "$1" ] || {
		printf 'with %s\nwanted\n%s\ngot\n%s\n' "$(echo /dev/*)" "$1" "$got"
		exit 1
	}
}
refused=$'cuda refused 100\nnvml refused 9'
sees "$refused" "$seen"
mknod -m 666 /dev/nvidia1 c 195 1
sees "$refused" "$seen"
mknod -m 666 /dev/nvidiactl c 195 255
sees $'cuda '"${uuids[1]}"$'\nnvml '"${uuids[1]}" "$seen"
mknod -m 600 /dev/nvidia0 c 195 0
: >/dev/nvidia2 # a file is no device
sees $'cuda '"${uuids[0]}"$'\ncuda '"${uuids[1]}"$'\nnvml '"${uuids[0]}"$'\nnvml '"${uuids[1]}" "$seen"
sees $'cuda '"${uuids[1]}"$'\nnvml '"${uuids[0]}"$'\nnvml '"${uuids[1]}" env CUDA_VISIBLE_DEVICES=1 "$seen"
rm /dev/nvidia1
sees $'cuda '"${uuids[0]}"$'\nnvml '"${uuids[0]}" "$seen"
rm /dev/nvidia0
sees 'cuda refused 100' "$seen"
"$libraries/sim-ctl" memory >"$dir/memory" # whoever looks at the machine from outside needs no node
[ "$(wc -l <"$dir/memory")" = 3 ]
