#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# file.sh HOOK PROGRAM [ARGUMENT]...: the hook in /etc/ld.so.preload changes nothing for PROGRAM,
# whatever loader it has or has not. In a mount namespace: the machine's own file is not touched.
set -eu
if [ "${1-}" != enter ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "skipped: only root can make a mount namespace"
		exit 77
	fi
	if [ ! -x "$2" ]; then
		echo "skipped: ${2##*/} was not built, its compiler is not here"
		exit 77
	fi
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	made=
	[ -e /etc/ld.so.preload ] || { : >/etc/ld.so.preload && made=1; }
	unshare -m --propagation private "$0" enter "$dir" "$@"
	[ -z "$made" ] || [ -s /etc/ld.so.preload ] || rm -f /etc/ld.so.preload
	exit 0
fi
dir=$2 hook=$3
shift 3
run() {
	status=0
	"$@" >"$dir/$name.out" 2>"$dir/$name.err" || status=$?
	echo "exit status $status" >>"$dir/$name.out"
}
name=bare
run "$@"
echo "$hook" >"$dir/preload"
mount --bind "$dir/preload" /etc/ld.so.preload
grep -q "$hook" /proc/self/maps # an ordinary program has it: the file works
name=hooked
run "$@"
diff "$dir/bare.out" "$dir/hooked.out"
diff "$dir/bare.err" "$dir/hooked.err"
cat "$dir/hooked.out"
