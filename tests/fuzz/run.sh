#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make fuzz: every target for RUNS inputs (default 10^6). With clang, by libFuzzer, which looks
# for inputs that reach new code; else by our own driver. Inputs that it finds are kept in
# build/fuzz/found; one that breaks something is in build/fuzz/crash-*.
set -eu
cd "$(dirname "$0")/../.."
runs=${RUNS:-1000000}
corpus=$PWD/tests/fuzz/corpus
targets='image amounts values slice_files annotations kube_stream kubelet node_settings inject records report agent_config'
calls=4000
failed=0

say() { printf '\n== %s\n' "$*"; }

if command -v clang >/dev/null && [ -d "$(clang -print-resource-dir)/lib/linux" ]; then
	scripts/build.sh build/fuzz -DCMAKE_C_COMPILER=clang
	suffix=_libfuzzer
else
	scripts/build.sh build/fuzz
	suffix=
fi
cd build/fuzz
for target in $targets; do
	say "$target: $runs inputs"
	if [ -n "$suffix" ]; then
		mkdir -p "found/$target"
		"bin/fuzz_$target$suffix" -runs="$runs" -max_len=4096 -timeout=20 -verbosity=0 \
			-print_final_stats=1 "found/$target" "$corpus/$target" || failed=1
	else
		FUZZ_KEEP=$PWD/crash-$target "bin/fuzz_$target" "$runs" "$(date +%s)" \
			"$corpus/$target" || failed=1
	fi
done
first=$(date +%s)
count=$(((runs + calls - 1) / calls))
say "differential: $count sequences of $calls calls"
mapfile -t seeds < <(seq "$first" $((first + count - 1)))
../../tests/fuzz/differential.sh "$PWD" $calls "${seeds[@]}" || failed=1
# A scribble is an input here: some 30 000 a second.
say "live_scribble: $runs inputs"
../../tests/stress/live_scribble.sh "$PWD" $((runs / 30000 + 3)) || failed=1
exit $failed
