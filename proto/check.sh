#!/bin/sh
# Are the .proto files the upstream ones? First against the checksums of upstream.txt, then
# against the Go module itself. 77 when there is no Go or it cannot have the module.
set -eu
cd "$(dirname "$0")"

module=$(awk '$1 == "module" { print $2 "@" $3 }' upstream.txt)
sum=$(awk '$1 == "module" { print $4 }' upstream.txt)
files() { awk 'NF == 3 && $1 ~ /^[0-9a-f]+$/' upstream.txt; }

[ "$(files | wc -l)" = "$(find . -name '*.proto' | wc -l)" ] || {
    echo "upstream.txt does not name every .proto file here"
    exit 1
}
files | awk '{ print $1 "  " $2 }' | sha256sum --check --strict --quiet

command -v go >/dev/null || {
    echo "checksums agree; no Go here to get $module with"
    exit 77
}
answer=$(cd / && timeout 120 go mod download -json "$module" 2>&1) || {
    echo "checksums agree; Go cannot have $module here: $(printf '%s' "$answer" | tr '\n' ' ')"
    exit 77
}
field() { printf '%s\n' "$answer" | sed -n "s/^[[:space:]]*\"$1\": \"\(.*\)\",*\$/\1/p"; }
[ "$(field Sum)" = "$sum" ] || {
    echo "the module's checksum is $(field Sum), not $sum"
    exit 1
}
dir=$(field Dir)
files | while read -r _ here there; do
    cmp "$here" "$dir/$there"
done
echo "as in $module"
