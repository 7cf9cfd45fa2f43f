#!/bin/sh
# run.sh BUILD: the device plugin with a kubelet of the real one's own parts (main.go), which is
# built into BUILD. 77 where Go is missing, old, or cannot have the modules.
set -eu
build=$1
cd "$(dirname "$0")"

skip() {
    echo "$*"
    exit 77
}

command -v go >/dev/null || skip "no Go here"
version=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go\([0-9]*\.[0-9]*\).*/\1/')
[ "$(printf '1.24\n%s\n' "$version" | sort -V | head -n 1)" = 1.24 ] || skip "Go $version is older than 1.24"
timeout 300 go mod download 2>"$build/kubelet-go.log" || skip "Go cannot have the modules: $(tail -n 1 "$build/kubelet-go.log")"
CGO_ENABLED=0 go build -o "$build/bin/kubelet-go" .
TEST_KUBELET=$build/bin/kubelet-go "$build/bin/unit.deviceplugin.idle"
