#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# failures.sh BUILD CASE: policy pages, state files and environments that cannot be used. Inside
# run.sh it is called again with the machine up.
set -eu
build=$1 case=$2
if [ -z "${TEST_DIR:-}" ]; then
	exec "$(dirname "$0")/run.sh" "$build" preload= -- "$0" "$build" "$case"
fi
init=$build/bin/hook.init hook=$build/lib/libvgpu.so
uuid=$("$build/lib/sim/sim-ctl" devices | cut -d' ' -f2)
slice=$TEST_DIR/slice state=$TEST_DIR/env.cache
mkdir "$slice"
run() { # VARIABLE... -- ARGUMENTS of init
	local variables=()
	while [ "$1" != -- ]; do
		variables+=("$1")
		shift
	done
	shift
	env CUDA_DEVICE_MEMORY_SHARED_CACHE="$state" TRANCHE_TRACE="$TEST_DIR/trace" "${variables[@]}" LD_PRELOAD="$hook" "$init" "$@"
}
slice() {
	rm -f "$slice"/*
	"$build/bin/mkslice" "$slice" 1Gi 0 - "$uuid"
}
other() { # where the last one met the others
	sed -n 's|.*: slot [0-9]* of \(/dev/shm/tranche-[0-9a-f]*\)$|\1|p' "$TEST_DIR/trace" | tail -n 1
}
policy=TRANCHE_POLICY=$slice/policy
limit=CUDA_DEVICE_MEMORY_LIMIT

case $case in
page)
	slice && run "$policy" -- 0 1024
	run "$policy" $limit=512m -- 0 512      # the environment lowers
	run "$policy" $limit=4g -- 0 1024       # and does not raise
	run "$policy" CUDA_DISABLE_CONTROL=true -- 0 1024
	run "$policy" $limit=lots -- 800
	printf garbage >"$slice/policy" && run "$policy" -- 800
	head -c 200000 /dev/urandom >"$slice/policy" && run "$policy" -- 800
	rm "$slice/policy" && run "$policy" -- 800 # named and not there
	mkdir "$slice/policy" && run "$policy" -- 800
	rmdir "$slice/policy"
	;;
state)
	slice && rm "$slice/state" && run "$policy" -- 800
	slice && printf garbage >"$slice/state" && run "$policy" -- 800
	slice && truncate -s 4096 "$slice/state" && run "$policy" -- 800
	slice && rm "$slice/state" && ln -s /dev/zero "$slice/state" && run "$policy" -- 800
	slice && cp "$slice/state" "$TEST_DIR/old" && slice && run "$policy" -- 0 1024
	printf '\1' | dd of="$slice/state" bs=1 seek=16 conv=notrunc status=none
	run "$policy" -- 800 # of another slice
	;;
environment)
	run "$limit=2g" -- 0 2048
	run "$limit=2GiB" -- 0 2048
	run "$limit=1.5g" -- 0 1536
	run "$limit=3000M" -- 0 3000
	run "$limit=0100m" -- 0 100 # decimal
	for bad in -1 10x 1e9 '' 99999999999999999999 0x10 ' ' m; do
		run "$limit=$bad" -- 800
		run "${limit}_0=$bad" -- 800
		run "$limit=$bad" CUDA_DISABLE_CONTROL=true -- 0
	done
	run "${limit}_x=1g" -- 800
	run "$limit=0.0001k" -- 800 # less than a byte is not everything
	run "$limit=4g" "${limit}_0=1g" -- 0 1024
	run "$limit=4g" "${limit}_1=1g" -- 0 4096
	run "$limit=4g" "${limit}_1=1g" CUDA_VISIBLE_DEVICES="$uuid" -- 0 1024 # which one is unknown
	run "$limit=2g" CUDA_VISIBLE_DEVICES=0 -- 0 2048
	run CUDA_DEVICE_SM_LIMIT=abc -- 800
	run "$limit=0" -- 0
	run -- 0
	;;
meeting)
	# A file of another kind stays as it is; all processes meet elsewhere.
	printf 'somebody else' >"$state"
	run "$limit=2g" -- 0 2048
	[ "$(cat "$state")" = 'somebody else' ]
	first=$(other)
	[ -s "$first" ]
	run "$limit=2g" -- 0 2048
	[ "$(other)" = "$first" ]
	rm -f "$first" "$state"
	state=$TEST_DIR/no/such/directory/file
	run "$limit=2g" -- 0 2048
	[ "$(other)" != "$first" ]
	rm -f "$(other)"
	# A relative name is no place: not another file in every directory.
	state=relative.cache
	mkdir "$TEST_DIR/a" "$TEST_DIR/b"
	(cd "$TEST_DIR/a" && run "$limit=2g" -- 0 2048)
	first=$(other)
	(cd "$TEST_DIR/b" && run "$limit=2g" -- 0 2048)
	[ -s "$first" ] && [ "$(other)" = "$first" ]
	[ ! -e "$TEST_DIR/a/$state" ] && [ ! -e "$TEST_DIR/b/$state" ]
	rm -f "$first"
	state=$TEST_DIR/fresh.cache
	for _ in 1 2 3 4 5 6 7 8; do run "$limit=2g" -- 0 2048 & done
	wait
	[ "$(stat -c %s "$state")" -le $((1024 * 1024)) ]
	;;
overlay)
	[ "$(id -u)" = 0 ] || { echo "skipped: needs root to mount overlayfs"; exit 77; }
	mkdir "$TEST_DIR"/{lower,upper,work,merged}
	export -f run slice
	export slice state policy limit init hook build uuid TEST_DIR
	# shellcheck disable=SC2016 # the inner shell expands
	unshare -m bash -eu -c '
		mount -t overlay overlay -o "lowerdir=$TEST_DIR/lower,upperdir=$TEST_DIR/upper,workdir=$TEST_DIR/work" "$TEST_DIR/merged" || exit 77
		slice=$TEST_DIR/merged policy=TRANCHE_POLICY=$TEST_DIR/merged/policy
		slice
		run "$policy" -- 800
		state=$TEST_DIR/merged/env.cache
		run "$limit=2g" -- 0 2048
		[ ! -e "$state" ]' || { r=$?; [ $r = 77 ] && echo "skipped: overlayfs cannot be mounted here"; exit $r; }
	rm -f "$(other)"
	;;
fixed)
	[ "$(id -u)" = 0 ] || { echo "skipped: needs root to bind ld.so.preload"; exit 77; }
	slice
	echo "$hook" >"$TEST_DIR/ld.so.preload"
	export init hook slice TEST_DIR TRANCHE_SIM LD_LIBRARY_PATH
	# shellcheck disable=SC2016 # the inner shell expands
	unshare -m bash -eu -c '
		mount -t tmpfs none /run
		mkdir -p /run/tranche/slice/ro
		cp "$slice/policy" /run/tranche/slice/ro/policy
		mount -t tmpfs none /mnt
		cp -a /etc /mnt/etc && mount --bind /mnt/etc /etc
		cp "$TEST_DIR/ld.so.preload" /etc/ld.so.preload
		env -i TRANCHE_SIM="$TRANCHE_SIM" LD_LIBRARY_PATH="$LD_LIBRARY_PATH" "$init" 0 1024
		env -i TRANCHE_POLICY=/none TRANCHE_SIM="$TRANCHE_SIM" LD_LIBRARY_PATH="$LD_LIBRARY_PATH" "$init" 0 1024'
	;;
esac
echo "as it should be: $case"
