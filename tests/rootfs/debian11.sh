#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# debian11.sh BUILD TENANT [enter]: the hook in a Debian 11 (glibc 2.31), by its /etc/ld.so.preload.
# The machine and the slice are made outside; the root file system is mounted read-only in a mount
# namespace of the test's own, and what the test puts into it is gone with that.
set -eu
build=$1 tenant=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)/.deps/bullseye

if [ "${3-}" != enter ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "skipped: only root can enter another root file system"
		exit 77
	fi
	if ! "$here/make.sh"; then
		echo "skipped: no Debian 11 here, see above"
		exit 77
	fi
	exec "$here/../hook/run.sh" "$build" mem=1Gi preload= -- unshare -m --propagation private \
		"$0" "$build" "$tenant" enter
fi

inside=$TEST_DIR/root
mkdir "$inside"
mount --bind "$root" "$inside"
mount -o remount,bind,ro "$inside"
mount -t proc proc "$inside/proc"
mount --rbind /dev "$inside/dev"
mount -t tmpfs none "$inside/tranche"
cp -r "$build/lib/libvgpu.so" "$build/lib/sim" "$tenant" "$here/look.py" "$inside/tranche"
echo /tranche/libvgpu.so >"$TEST_DIR/preload"
mount --bind "$TEST_DIR/preload" "$inside/etc/ld.so.preload"
unset LD_LIBRARY_PATH LD_PRELOAD

# try STATUS LINES COMMAND...: it ends so, prints so much, and nobody says anything on stderr.
try() {
	local want=$1 lines=$2 status=0
	shift 2
	chroot "$inside" "$@" >"$TEST_DIR/out" 2>"$TEST_DIR/err" || status=$?
	if [ "$status" != "$want" ] || [ -s "$TEST_DIR/err" ] || [ "$(cat "$TEST_DIR/out")" != "$lines" ]; then
		echo "$*: exit status $status"
		cat "$TEST_DIR/out" "$TEST_DIR/err"
		exit 1
	fi
}

driver=LD_LIBRARY_PATH=/tranche/sim
try 0 '' /bin/true
try 0 '' /usr/bin/env LD_BIND_NOW=1 /bin/true
try 0 2.31 /usr/bin/python3 -c 'import os; print(os.confstr("CS_GNU_LIBC_VERSION").split()[1])'
try 3 'no driver: libcuda.so.1: cannot open shared object file: No such file or directory' \
	"/tranche/$(basename "$tenant")" 1
try 0 "ok 256
refused 2 1024
info $((768 << 20)) $((1 << 30)) 0" /usr/bin/env $driver "/tranche/$(basename "$tenant")" 256 1024
try 0 'limited through libdl.so.2' /usr/bin/env $driver /usr/bin/python3 /tranche/look.py
echo "Debian 11: $(ls "$inside"/lib/*-linux-gnu/libc-2.*)"
