#!/bin/sh
# Installs what is missing to build and test Tranche on Debian 12, and nothing else.
# Silent when nothing is missing. Everything from the Python index is pinned by hash.
#
#   scripts/setup.sh build    compilers, cmake, the CUDA driver headers
#   scripts/setup.sh demo     the above, and ffmpeg
#   scripts/setup.sh test     the above, and what the tests, checks and a Kubernetes node need
#   scripts/setup.sh cluster  "build", and what a Kubernetes node runs on
set -eu

cd "$(dirname "$0")/.."
what=${1:-build}
deps=.deps

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

case $what in
build | demo | test | cluster) ;;
*) die "\"$what\" is not one of build, demo, test, cluster" ;;
esac

build_packages="gcc libc6-dev cmake ninja-build pkg-config python3 python3-venv python3-pip ca-certificates libjansson-dev libcmocka-dev libcurl4-openssl-dev libevent-dev libgrpc-dev libprotobuf-c-dev libyaml-dev protobuf-c-compiler"
demo_packages="ffmpeg python3.11 python3.11-venv"
test_packages="clang clang-tidy clang-format libclang-rt-14-dev cppcheck shellcheck debootstrap musl-tools util-linux procps binutils gdb"
cluster_packages="runc containernetworking-plugins busybox-static iproute2 openssl util-linux mount"

missing_packages() {
    for p in "$@"; do
        # shellcheck disable=SC2016 # ${Status} is dpkg's, not the shell's
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$p"
    done
}

install_packages() {
    # shellcheck disable=SC2086 # a list of words
    missing=$(missing_packages $1)
    [ -n "$missing" ] || return 0
    say "installing by apt: $missing"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "these packages are missing and only root can install them: $missing"
        as_root=sudo
    fi
    log=$(mktemp)
    # shellcheck disable=SC2086
    if ! { $as_root apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
        cat "$log" >&2
        die "apt could not install: $missing"
    fi
    rm -f "$log"
}

# The wheels hold the headers as plain files: unpacked, not installed, so no Python environment is touched.
install_headers() {
    stamp=$deps/cuda/.from-$(cksum <scripts/cuda-headers.txt | cut -d' ' -f1)
    [ -e "$stamp" ] && return 0
    say "fetching the pinned CUDA driver headers into $deps/cuda"
    rm -rf $deps/cuda
    mkdir -p $deps/cuda/wheels $deps/cuda/include
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        -r scripts/cuda-headers.txt -d $deps/cuda/wheels || die "the Python package index did not answer"
    for w in "$deps"/cuda/wheels/*.whl; do
        python3 -m zipfile -e "$w" $deps/cuda/tree
    done
    cp $deps/cuda/tree/nvidia/cu13/include/*.h $deps/cuda/include/
    rm -rf $deps/cuda/tree $deps/cuda/wheels
    : >"$stamp"
}

install_packages "$build_packages"
install_headers
case $what in
demo) install_packages "$demo_packages" ;;
test) install_packages "$demo_packages $test_packages $cluster_packages" ;;
cluster) install_packages "$cluster_packages" ;;
esac
