#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# machine.sh LIBRARY_DIR [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
# Runs PROGRAM on the simulated driver of LIBRARY_DIR with a machine of its own, gone afterwards.
# DRIVER=12.4 (or newer) is that driver: its library as well as its machine.
set -eu
libraries=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/machine"
while [ "$1" != -- ]; do
	case $1 in
	DRIVER=newer)
		export TRANCHE_SIM_NEWER=1
		version=newer
		;;
	DRIVER=*)
		version=${1#DRIVER=}
		export TRANCHE_SIM_DRIVER="$version"
		;;
	*) export "${1?}" ;;
	esac
	shift
done
shift
if [ -n "${version:-}" ]; then
	mkdir "$dir/lib"
	"$libraries/sim-older" "$libraries/libcuda.so.1" "$dir/lib/libcuda.so.1" "$version"
	export TRANCHE_SIM_KERNEL="$libraries/sim-kernel"
	libraries=$dir/lib
fi
# The machine must not outlive the directory it lives in for long.
export TRANCHE_SIM="$dir/machine" TRANCHE_SIM_LINGER_MS=200
LD_LIBRARY_PATH=$libraries "$@"
