#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lookups.sh BUILD MODE LOOKUPS [machine setting]...: look-ups are the same with the hook.
#   same    line by line
#   split   the driver's cuGetProcAddress gives other pointers than dlsym: the hook knows its rows
set -eu
build=$1 mode=$2 lookups=$3
shift 3
here=$(dirname "$0")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
ask() {
	"$here/run.sh" "$build" "$@" -- "$build/bin/hook.lookups" \
		"$(find "$build/tests/sim/cuda" -name symbols.txt)" "$lookups"
}
ask mem=1Gi cores=100 "$@" >"$out/hooked"
if [ "$mode" = same ]; then
	ask preload= "$@" >"$out/bare"
else
	# The names that an ordinary driver has for them; only rows are exchanged.
	ask preload= >"$out/all"
	grep -E ": .* (cu\w+)$" "$out/all" | grep -wFf "$build/hook/exports.txt" >"$out/bare"
	grep -wFf "$build/hook/exports.txt" "$out/hooked" >"$out/rows"
	mv "$out/rows" "$out/hooked"
	rows=$(cat "$build/hook/exports.txt")
	for file in bare hooked; do
		awk -v rows="$rows" 'BEGIN { n = split(rows, r, "\n"); for (i = 1; i <= n; i++) row[r[i]] }
			$NF in row' "$out/$file" >"$out/$file.rows"
		mv "$out/$file.rows" "$out/$file"
	done
fi
diff "$out/bare" "$out/hooked" | head -n 20 >&2 || true
cmp "$out/bare" "$out/hooked"
[ "$(wc -l <"$out/hooked")" -gt 100 ]
echo "look-ups compared: $(wc -l <"$out/hooked")"
