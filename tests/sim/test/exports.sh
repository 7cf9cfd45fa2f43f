#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# exports.sh LIBRARY SYMBOLS CC INCLUDE: the library exports what the table says, no more and no
# less, and every function that the driver's header declares, however it is compiled.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export LC_ALL=C
nm -D --defined-only "$1" | awk '{ print $3 }' | sort >"$dir/exported"
awk '$2 < 14000 { print $1 }' "$2" | sort >"$dir/table"
diff "$dir/table" "$dir/exported" || {
	echo "the exports (>) differ from the table (<)"
	exit 1
}
for define in X __CUDA_API_VERSION_INTERNAL CUDA_API_PER_THREAD_DEFAULT_STREAM; do
	# Static inline functions and function types are not exports; everything else that is
	# followed by a parenthesis is.
	"$3" -E -P -D$define "$4/cuda.h" | tr '\n' ' ' | sed 's/static inline[^{]*{[^}]*{[^}]*}[^}]*}//g' |
		grep -o 'CUresult *cu[A-Z][A-Za-z0-9_]* *(' | tr -d ' (' | sed 's/^CUresult//' | sort -u
done | sort -u >"$dir/declared"
[ "$(wc -l <"$dir/declared")" -gt 600 ]
missing=$(comm -23 "$dir/declared" "$dir/exported")
[ -z "$missing" ] || {
	echo "declared and not exported: $missing"
	exit 1
}
echo "$(wc -l <"$dir/exported") exports, $(wc -l <"$dir/declared") declared in cuda.h"
