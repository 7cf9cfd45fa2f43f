#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make.sh: a Debian 11 (glibc 2.31, python3) below .deps/bullseye, once, by debootstrap from the
# mirror that this machine's apt uses. Silent when it is there. Exit status 77: cannot be, and why.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/.deps/bullseye
packages=python3-minimal,libpython3-stdlib

is_done() { [ "$(cat "$out/.done" 2>/dev/null)" = "$packages" ]; }
no() {
	echo "make.sh: $*" >&2
	exit 77
}

is_done && exit 0
[ "$(id -u)" = 0 ] || no "only root can make a root file system"
command -v debootstrap >/dev/null || no "debootstrap is not installed"
mkdir -p "$root/.deps"
exec 9>"$root/.deps/bullseye.lock"
flock 9
is_done && exit 0

# Both formats of apt's sources; the main archive, not the security one.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
	sed -nE 's/^deb (\[[^]]*\] )?([^ ]*\/debian)\/? .*/\2/p; s/^URIs: *([^ ]*\/debian)\/? *$/\1/p' | head -n 1)
[ -n "$mirror" ] || no "apt has no Debian mirror here"
echo "rootfs: making a Debian 11 in ${out#"$root"/} (about 200 MB, two minutes)"
rm -rf "$out" "$out.new"
log=$(mktemp)
trap 'rm -rf "$log" "$out.new"' EXIT
if ! debootstrap --variant=minbase --include="$packages" bullseye "$out.new" "$mirror" >"$log" 2>&1 9>&-; then
	tail -n 20 "$log" >&2
	no "debootstrap could not make a Debian 11"
fi
rm -rf "$out.new"/var/cache/apt/archives/*.deb "$out.new"/var/lib/apt/lists/*
# What tests mount over: the file system itself stays as it is.
mkdir -p "$out.new/tranche"
: >"$out.new/etc/ld.so.preload"
mv "$out.new" "$out"
echo "$packages" >"$out/.done"
