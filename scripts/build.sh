#!/bin/sh
# Builds into build/ (or DIR), quietly: scripts/build.sh [DIR] [cmake options...]
set -eu

cd "$(dirname "$0")/.."
dir=${1:-build}
[ $# -gt 0 ] && shift
log=$dir/build.log

mkdir -p "$dir"
if ! { cmake -G Ninja -S . -B "$dir" "$@" && ninja -C "$dir"; } >"$log" 2>&1; then
    grep -E 'error:|undefined reference|FAILED|CMake Error' "$log" | head -40 >&2 || true
    printf 'build: failed; all of it is in %s\n' "$log" >&2
    exit 1
fi
