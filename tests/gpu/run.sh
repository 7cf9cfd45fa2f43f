#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the checks of this bundle against the NVIDIA driver of this machine: bare, behind the hook,
# and against what the simulator said when it was packed. gpu-test/run.sh [OUTPUT_DIRECTORY]
# The results stay there. Exit status: 0 everything holds, 1 something does not, 77 no driver.
#   GPU_TEST_SCALE    percent of the repetitions of costs (20)
#   GPU_TEST_LIMITER  options of `tranche bench limiter` (--quick: half an hour); "no": left out
#   GPU_TEST_LEASES   options of the same with --leases (--quick: ten minutes); "no": left out
#   GPU_TEST_JUDGE    "no": shares beyond their bounds are told and no failure
set -u

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/results}
probe=$here/bin/gpu_probe
judge=$here/bin/gpu_judge
failed=0
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf '  FAILED: %s\n' "$*"
    failed=$((failed + 1))
}
# value STEP FILE
value() { sed -n "s/^{\"step\":\"$1\",.*\"value\":\"\\(.*\\)\"}\$/\\1/p" "$2" | head -n 1; }
# sliced LIMIT PROGRAM...: the program in a slice; the closing line of `tranche run` goes to a file.
sliced() {
    limit=$1
    shift
    "$here/bin/tranche" run --mem "$limit" --device 0 -- "$@" 2>>"$out/tranche.log"
}

say "this machine"
: >"$out/tranche.log"
"$probe" identity >"$out/identity"
status=$?
if [ $status -ne 0 ]; then
    echo "no usable driver here (status $status): nothing can be checked"
    exit $status
fi
device=$(value identity.name "$out/identity")
driver=$(value identity.driver "$out/identity")
total=$(value identity.total "$out/identity")
printf '  %s, CUDA %s, %s bytes, Linux %s\n' "$device" "$driver" "$total" "$(uname -r)"
total_mib=$((total / 1048576))
most=$((total_mib * 9 / 10))Mi

say "look-ups of the CUDA runtime and calls: bare against hooked (E2)"
for part in "lookups $here/lookups.txt" calls; do
    name=${part%% *}
    # shellcheck disable=SC2086 # a part and its argument
    "$probe" $part >"$out/bare.$name" || fail "$name, bare: status $?"
    # shellcheck disable=SC2086
    sliced "$most" "$probe" $part >"$out/hooked.$name" || fail "$name, hooked: status $?"
    "$judge" same "$out/bare.$name" "$out/hooked.$name" || fail "$name: the hook changes an answer"
done

say "memory of every kind: what the driver takes against what the ledger says (E6)"
"$probe" memory >"$out/bare.memory" || fail "memory, bare: status $?"
sliced "$most" "$probe" memory >"$out/hooked.memory" || fail "memory, hooked: status $?"
"$judge" ledger "$out/bare.memory" "$out/hooked.memory" || fail "ledger and driver disagree (bare | hooked; bytes by CUDA, by NVML)"

say "limits"
limit_mib=4096
[ $total_mib -gt 8192 ] || limit_mib=1024
sliced ${limit_mib}Mi "$probe" limits $((limit_mib * 1048576)) >"$out/hooked.limits" || fail "limits: status $?"
sed 's/^/  /' "$out/hooked.limits"
[ "$(grep -c '"result":0' "$out/hooked.limits")" = 8 ] || fail "a limit is not exact, or not told"

say "teardown after SIGKILL, microseconds: the driver's and the ledger's (E8)"
chunks=$((total_mib * 8 / 10 / 64))
chunks_bytes=$((chunks * 64 * 1048576))
for bytes in $((64 * 1048576)) "$chunks_bytes"; do
    "$probe" kill "$bytes" >"$out/bare.kill.$bytes" || fail "kill $bytes, bare: status $?"
    sliced "$most" "$probe" kill "$bytes" >"$out/hooked.kill.$bytes" || fail "kill $bytes, hooked: status $?"
    printf '  %s bytes: NVML %s, CUDA %s; ledger %s\n' "$bytes" \
        "$(value kill.nvml_back_us "$out/bare.kill.$bytes")" \
        "$(value kill.cuda_back_us "$out/bare.kill.$bytes")" \
        "$(value kill.cuda_back_us "$out/hooked.kill.$bytes")"
done

say "costs of calls, bare and hooked (E1)"
"$probe" costs >"$out/bare.costs" || fail "costs, bare: status $?"
sliced "$most" "$probe" costs >"$out/hooked.costs" || fail "costs, hooked: status $?"
# shellcheck disable=SC2013 # a step's name is one word
for step in $(sed -n 's/^{"step":"\(cost[^"]*\)".*/\1/p' "$out/bare.costs"); do
    printf '  %-36s %14s %14s\n' "$step" "$(value "$step" "$out/bare.costs")" "$(value "$step" "$out/hooked.costs")"
done

say "what the hook adds (scale ${GPU_TEST_SCALE:-20} %)"
"$here/bin/bench" --worker "$here/bin/bench_worker" --ours "$here/lib/libvgpu.so" \
    --driver "real=${LD_LIBRARY_PATH:-}" --json "$out/bench.jsonl" --scale "${GPU_TEST_SCALE:-20}" ||
    fail "not every row could be measured"

# limiter NAME WHAT OPTIONS: one JSON line a cell or number, and what people read on the screen.
limiter() {
    name=$1 what=$2
    shift 2
    case " $* " in *" no "*) return 0 ;; esac
    say "$what (tranche bench limiter $*)"
    # shellcheck disable=SC2068 # options, a word each
    "$here/bin/tranche" bench limiter --gpu --json --check $@ >"$out/$name.jsonl" 2>"$out/$name.sum"
    status=$?
    sed 's/^/  /' "$out/$name.sum"
    if [ ! -s "$out/$name.jsonl" ]; then
        fail "$what: nothing was measured"
    elif [ $status -ne 0 ] && [ "${GPU_TEST_JUDGE:-yes}" != no ]; then
        fail "$what: beyond the bounds"
    fi
}
# shellcheck disable=SC2086 # options, a word each
limiter limiter "shares of the GPU's time: asked against got" ${GPU_TEST_LIMITER:---quick}
# shellcheck disable=SC2086
limiter leases "borrowing, priorities, and what being measured costs" --leases ${GPU_TEST_LEASES:---quick}

# A page to keep (docs/measurements): what was measured, as tables.
json() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p"; }
{
    printf '# Shares of time on %s\n\nCUDA %s, Linux %s, %s.\n\n' "$device" "$driver" "$(uname -r)" "$(date -u +%F)"
    printf '| Workload | Processes | Neighbours | Asked | Got | Reach alone | Error | Allowed | 1 s off |\n'
    printf '|---|---:|---:|---:|---:|---:|---:|---:|---:|\n'
    [ ! -f "$out/limiter.jsonl" ] || while IFS= read -r line; do
        printf '|'
        for key in workload processes neighbours asked got reach error allowed worst_1s_off; do
            printf ' %s |' "$(printf '%s\n' "$line" | json "$key")"
        done
        printf '\n'
    done <"$out/limiter.jsonl"
    printf '\n| What | Workload | Measured | At most | Unit | Of |\n|---|---|---:|---:|---|---:|\n'
    [ ! -f "$out/leases.jsonl" ] || while IFS= read -r line; do
        printf '| %s |' "$(printf '%s\n' "$line" | sed 's/.*"what":"\([^"]*\)".*/\1/')"
        for key in workload value at_most unit count; do
            printf ' %s |' "$(printf '%s\n' "$line" | json "$key")"
        done
        printf '\n'
    done <"$out/leases.jsonl"
} >"$out/limiter.md"

say "where the simulator and this driver disagree (simulator | driver; no failure)"
expected=
for file in "$here"/expected/driver-*; do
    version=${file##*/driver-}
    newest=$(printf '%s\n%s\n' "$version" "$driver" | sort -V | tail -n 1)
    if [ "$newest" = "$driver" ]; then
        expected=$(printf '%s\n%s\n' "${expected:-0}" "$version" | sort -V | tail -n 1)
    fi
done
if [ -n "$expected" ]; then
    cat "$out/identity" "$out/bare.lookups" "$out/bare.calls" >"$out/bare.driver"
    printf '  driver %s against the simulated %s:\n' "$driver" "$expected"
    "$judge" expected "$here/expected/driver-$expected" "$out/bare.driver"
else
    printf '  driver %s is older than every recorded one\n' "$driver"
fi
model=$(grep -lF "\"value\":\"$device\"" "$here"/expected/model-* | head -n 1)
cat "$out/identity" "$out/bare.memory" >"$out/bare.model"
printf '  device against the simulated %s:\n' "${model:-h100 (no such model)}"
"$judge" expected "${model:-$here/expected/model-h100}" "$out/bare.model"

say "result"
printf '%s checks failed; everything measured is in %s\n' "$failed" "$out"
[ "$failed" -eq 0 ]
