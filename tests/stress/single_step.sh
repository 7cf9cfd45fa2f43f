#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# single_step.sh BUILD fits|refused: the program of that name, on the driver that costs nothing.
set -eu
build=$1
TEST_DIR=$(mktemp -d /dev/shm/single-step.XXXXXX)
trap 'rm -rf "$TEST_DIR"' EXIT
export TEST_DIR LD_LIBRARY_PATH="$build/lib/stub"
"$build/bin/stress.single_step" "$build/bin/stress.single" "$build/lib/libvgpu.so" "$2"
