#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# F32: no command of a container says a word about the library, whatever it was linked with. The files are mounted
# as a container has them, in a mount namespace of the test's own.
# usage: F32_commands.sh LIBRARY [PROGRAM_OF_MUSL]
set -eu

if [ "${IN_NAMESPACE:-}" != yes ]; then
    unshare -m true 2>/dev/null || { echo "needs a mount namespace of its own"; exit 77; }
    exec env IN_NAMESPACE=yes unshare -m --propagation private "$0" "$@"
fi

library=$1
musl=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$library" "$work/libvgpu.so"
[ -z "$musl" ] || cp "$musl" "$work/musl"
# What the programs need of /etc is nothing, of /run the library.
mount -t tmpfs none /run
mkdir -p /run/tranche/slice
cp "$work/libvgpu.so" /run/tranche/slice/
mount -t tmpfs none /etc
echo /run/tranche/slice/libvgpu.so >/etc/ld.so.preload

# quiet NAME WANT COMMAND...: ends well, without a word of complaint; has the library mapped WANT times (0, 1).
quiet() {
    name=$1 want=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err" || { echo "$name: ended with $?: $(cat "$work/err")"; exit 1; }
    [ ! -s "$work/err" ] || { echo "$name: $(cat "$work/err")"; exit 1; }
    grep -q libvgpu "$work/out" && has=1 || has=0
    [ "$has" = "$want" ] || { echo "$name: the library is there: $has, wanted $want"; exit 1; }
}

quiet glibc 1 cat /proc/self/maps
quiet "an empty environment" 1 env -i /bin/cat /proc/self/maps
quiet "a shell's children" 1 sh -c 'true; cat /proc/self/maps'
# Not reached by a preload, and so not limited: they cannot load the driver's libraries either.
busybox=$(command -v busybox || true)
[ -z "$busybox" ] || quiet static 0 "$busybox" cat /proc/self/maps
if [ -n "$musl" ]; then
    quiet musl 0 "$work/musl"
    # Why no container is told by LD_PRELOAD, which a musl does obey.
    if LD_PRELOAD=/run/tranche/slice/libvgpu.so "$work/musl" >/dev/null 2>&1; then
        echo "musl loads it: then it can be limited too"
        exit 1
    fi
fi
# The other way round: the file alone, which is what the field has seen, is a complaint on each command.
rm /run/tranche/slice/libvgpu.so
cat /proc/self/maps >/dev/null 2>"$work/err"
grep -q 'cannot be preloaded' "$work/err" || { echo "this loader does not obey /etc/ld.so.preload"; exit 77; }
