#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check.sh SAMPLES: Prometheus' own parsers and promtool's linter on what SAMPLES writes. Status 77: the
# reader cannot be built here, and why. It is promtext.go, not promtool: the same code for this (promlint,
# textparse), but 10 modules and seconds instead of some hundred and five minutes of processor time. Where there
# is a promtool on the PATH (`go build github.com/prometheus/prometheus/cmd/promtool`) it is asked, too.
set -eu

samples=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

no() {
	echo "promtext: $*" >&2
	exit 77
}

command -v go >/dev/null || no "Go 1.21 or later is needed to build it"
[ "$(printf '%s\n' go1.21 "$(go env GOVERSION)" | sort -V | head -n 1)" = go1.21 ] || no "Go is older than 1.21"
(cd "$here" && CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$out/promtext" .) || no "it could not be built"

"$samples" "$out"
# The older names of HAMi are not ours to mend: camel case, units in the middle.
(cd "$out" && ./promtext usual.prom usual.om empty.prom empty.om hostile.om legacy.om &&
	./promtext -n legacy.prom hostile.prom)

if command -v promtool >/dev/null; then
	for each in usual empty; do
		promtool check metrics <"$out/$each.prom"
	done
	echo "promtool finds nothing wrong, either"
fi

# It does find what it is there for.
printf '# HELP a_total x\n# TYPE a_total counter\na_total{b="c"} 1\na_total{b="c"} 2\n' >"$out/twice.prom"
printf '# HELP a x.\n# TYPE a counter\na 1\n' >"$out/name.prom"
sed '/# EOF/d' "$out/usual.om" >"$out/end.om"
for bad in twice.prom name.prom end.om; do
	if "$out/promtext" "$out/$bad" >"$out/says"; then
		echo "promtext: found nothing wrong with $bad"
		exit 1
	fi
done
