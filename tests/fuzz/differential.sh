#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# differential.sh BUILD STEPS SEED...: each seed's calls bare and under the hook, in a slice
# without a limit; every result and every output must be the same.
set -eu
build=$1 steps=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for seed; do
	"$here/../hook/run.sh" "$build" gpus=2xh100 seed=1 preload= -- \
		"$build/bin/fuzz.sequence" "$seed" "$steps" >"$out/bare"
	"$here/../hook/run.sh" "$build" mem=none gpus=2xh100 seed=1 -- \
		"$build/bin/fuzz.sequence" "$seed" "$steps" >"$out/hook" ||
		echo "under the hook: status $?" >>"$out/hook"
	if ! cmp -s "$out/bare" "$out/hook"; then
		echo "seed $seed: the hook and the bare driver differ:"
		diff "$out/bare" "$out/hook" | head -n 12
		line=$(cmp "$out/bare" "$out/hook" | sed 's/.*line //')
		echo "line $line, after:"
		head -n "$line" "$out/bare" | tail -n 12
		exit 1
	fi
	[ "$(wc -l <"$out/bare")" -gt $((steps / 2)) ]
done
echo "$# sequences of $steps calls: no difference"
