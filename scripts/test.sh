#!/bin/sh
# make test: installs what is needed, builds with gcc, runs every test; builds again with
# AddressSanitizer and UndefinedBehaviorSanitizer and runs the unit tests there. On CI (CI=true)
# a skipped test is a failure.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
strict=
[ "${CI:-}" = true ] && strict=--no-skips

say() { printf '\n== %s\n' "$*"; }

# Runs the tests of build directory $1 into $1/junit.xml; the result is judged by summary.py alone.
run_tests() {
    dir=$1
    shift
    rm -f "$dir/junit.xml"
    (cd "$dir" && ctest --output-on-failure --no-tests=error --output-junit "$root/$dir/junit.xml" "$@") || true
}

scripts/setup.sh test
say "build (gcc), and the programs of a Kubernetes node beside it"
# Where they cannot be built (no root, no Go) the tests that need them say so.
tests/cluster/ctl.py build &
cluster=$!
scripts/build.sh build
say "build (gcc, address and undefined behaviour sanitizers)"
scripts/build.sh build/asan -DTR_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug
wait "$cluster" || true
say "tests"
run_tests build -j "$(nproc)"
say "tests (address and undefined behaviour sanitizers)"
run_tests build/asan -j "$(nproc)" -L 'unit|fuzz'
say "result"
# shellcheck disable=SC2086 # empty or one word
python3 scripts/summary.py $strict gcc=build/junit.xml sanitized=build/asan/junit.xml
