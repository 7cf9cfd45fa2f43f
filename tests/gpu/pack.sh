#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make gpu-test: packs the checks for a machine with a real driver, no network and no compiler, with
# what the simulator answers to the same programs. pack.sh [BUILD]: BUILD/gpu-test.tar.gz
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
max_bytes=$((64 * 1024 * 1024))
work=$(mktemp -d)
sim=$build/lib/sim machine=
finish() {
    status=$?
    [ -z "$machine" ] || "$sim/sim-ctl" stop "$machine" >/dev/null 2>&1 || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT

out=$work/gpu-test
mkdir -p "$out/bin" "$out/lib" "$out/expected"
for program in gpu_probe gpu_judge; do
    strip -o "$out/bin/$program" "$build/gpu/$program"
done
strip -o "$out/bin/tranche" "$build/gpu/gpu_tranche"
strip -o "$out/bin/bench" "$build/bin/bench"
strip -o "$out/bin/bench_worker" "$build/bin/bench_worker"
strip -o "$out/lib/libvgpu.so" "$build/lib/libvgpu.so"
cp "$root/tests/clients/data/cudart-13.0-lookups.txt" "$out/lookups.txt"
cp "$root/tests/gpu/run.sh" "$out/run.sh"

# Nothing packed may need a newer C library than the oldest machine has.
newest=$(readelf -V "$out"/bin/* "$out"/lib/* | grep -o 'GLIBC_2\.[0-9.]*' | sort -Vu | tail -n 1)
if [ "$(printf '%s\nGLIBC_2.31\n' "$newest" | sort -V | tail -n 1)" != GLIBC_2.31 ]; then
    echo "pack.sh: a packed program needs $newest, at most GLIBC_2.31 is allowed" >&2
    exit 1
fi

# record FILE SETTING... -- PART...: what a simulated machine answers.
record() {
    file=$out/expected/$1
    shift
    settings=()
    while [ "$1" != -- ]; do
        settings+=("$1")
        shift
    done
    shift
    machine=$work/machine
    "$sim/sim-ctl" start "$machine" "${settings[@]}" --lifetime-pid $$
    : >"$file"
    for part; do
        # shellcheck disable=SC2086 # a part and its argument
        if ! env -i PATH="$PATH" LD_LIBRARY_PATH="$sim" TRANCHE_SIM="$machine" \
            "$out/bin/gpu_probe" $part >>"$file"; then
            echo "pack.sh: gpu_probe $part failed on the simulator (${settings[*]})" >&2
            exit 1
        fi
    done
    "$sim/sim-ctl" stop "$machine"
    rm -rf "$machine"
    machine=
}

for version in 12.0 12.2 12.4 12.5 12.6 12.8 12.9 13.0 13.1 13.5; do
    record "driver-$version" "driver=$version" gpus=h100 -- identity "lookups $out/lookups.txt" calls
done
for model in h100 h200 b200 a100-40 a100-80 v100 t4 a10 l4 l40s rtx4090; do
    record "model-$model" "gpus=$model" -- identity memory
done

# Under another name until it is whole.
tar -C "$work" -czf "$build/gpu-test.tar.gz.part" gpu-test
size=$(stat -c %s "$build/gpu-test.tar.gz.part")
if [ "$size" -ge "$max_bytes" ]; then
    rm -f "$build/gpu-test.tar.gz.part"
    echo "pack.sh: $size bytes, $max_bytes are too many" >&2
    exit 1
fi
mv "$build/gpu-test.tar.gz.part" "$build/gpu-test.tar.gz"
printf '%s: %s KiB, needs %s. On the machine: tar xf gpu-test.tar.gz && gpu-test/run.sh\n' \
    "$build/gpu-test.tar.gz" $((size / 1024)) "$newest"
