#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build.sh [SET...]: the programs of a Kubernetes node and its control plane, into .deps/cluster/bin, each set
# once for a state of its go.mod and go.sum (which pin every module by hash). Without a set: all of
# them. Silent when there is nothing to do. Exit status 77: they cannot be built here, and why.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/.deps/cluster
version=v1.34.4 # what kubectl and Helm see of the API server; the version of k8s.io/kubernetes

no() {
	echo "cluster: $*" >&2
	exit 77
}

packages_of() {
	case $1 in
	etcd) echo go.etcd.io/etcd/server/v3 ;; # comes out as "server"
	kubernetes)
		printf 'k8s.io/kubernetes/cmd/%s ' kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl
		echo ./cdi-plugin
		;;
	containerd) printf 'github.com/containerd/containerd/v2/cmd/%s ' containerd containerd-shim-runc-v2 ctr ;;
	*) no "\"$1\" is not one of etcd, kubernetes, containerd" ;;
	esac
}

state_of() { cat "$here/build.sh" "$here/build/$1"/go.* "$here/build/$1"/*/*.go 2>/dev/null | cksum; }
is_built() { [ "$(cat "$out/$1.built" 2>/dev/null)" = "$(state_of "$1")" ]; }

# Go 1.21 and later fetch the toolchain that a go.mod asks for where they are older than it.
have_go() {
	command -v go >/dev/null || return 1
	[ "$(printf '%s\n' go1.21 "$(go env GOVERSION)" | sort -V | head -n 1)" = go1.21 ]
}

# Into a folder of its own first: a program that runs cannot be written, but its name can be given to another.
build_set() {
	local packages flags seconds=$SECONDS
	echo "cluster: building $1 from Go modules"
	flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
	flags+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
	read -ra packages <<<"$(packages_of "$1")"
	rm -rf "$out/new"
	mkdir -p "$out/bin" "$out/new"
	(cd "$here/build/$1" && CGO_ENABLED=0 nice -n 10 go build -mod=readonly -trimpath -ldflags "$flags" -o "$out/new/" \
		"${packages[@]}") >"$out/$1.log" 2>&1 9>&- || {
		tail -n 20 "$out/$1.log" >&2
		no "$1 could not be built; all of it is in .deps/cluster/$1.log"
	}
	[ ! -e "$out/new/server" ] || mv "$out/new/server" "$out/new/etcd"
	mv "$out/new"/* "$out/bin/"
	rmdir "$out/new"
	state_of "$1" >"$out/$1.built"
	echo "cluster: built $1 in $((SECONDS - seconds)) s"
}

[ $# -gt 0 ] || set -- etcd kubernetes containerd
missing=
for set in "$@"; do
	is_built "$set" || missing+=" $set"
done
[ -n "$missing" ] || exit 0
have_go || no "Go 1.21 or later is needed to build the cluster's programs"
mkdir -p "$out"
exec 9>"$out/lock"
flock 9
for set in $missing; do
	is_built "$set" || build_set "$set"
done
