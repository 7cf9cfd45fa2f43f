#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the keeper costs: its processor time and anonymous memory with many slices on one device, all
# of which may borrow: none with a program, each with one that sleeps, and one of them working, so that
# it borrows and all others are looked at for whom it must make way.
#
#   tests/bench/keeper.sh [--build DIR] [--slices N] [--seconds S] [--check]
#     --check  fails above 1 % of one core or 8 MiB of anonymous memory
set -eu

# Slices of others on this machine cost looks too: as root, a place for slices of its own.
if [ "$(id -u)" = 0 ] && [ -z "${TRANCHE_BENCH_ALONE:-}" ]; then
    export TRANCHE_BENCH_ALONE=yes
    # shellcheck disable=SC2016
    exec unshare --mount -- sh -c 'mkdir -p /run/tranche && mount -t tmpfs none /run/tranche &&
        mount -t tmpfs none /dev/shm && exec "$0" "$@"' "$0" "$@"
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build slices=64 seconds=20 check=''
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$(cd "$2" && pwd); shift ;;
    --slices) slices=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --check) check=yes ;;
    *) printf 'keeper.sh: "%s" is not one of --build, --slices, --seconds, --check\n' "$1" >&2; exit 2 ;;
    esac
    shift
done

dir=$(mktemp -d)
sim=$build/lib/sim
runs=() workers=()
end_runs() {
    exec 9>&-
    if [ ${#workers[@]} -gt 0 ]; then kill "${workers[@]}"; fi
    workers=()
    if [ ${#runs[@]} -gt 0 ]; then wait "${runs[@]}" || true; fi
    runs=()
}
finish() {
    status=$?
    end_runs
    "$sim/sim-ctl" stop "$dir/machine" >/dev/null 2>&1 || true
    rm -rf "$dir"
    exit $status
}
trap finish EXIT
"$sim/sim-ctl" start "$dir/machine" gpus=h100 --lifetime-pid $$
export TRANCHE_SIM=$dir/machine LD_LIBRARY_PATH=$sim
mkfifo "$dir/stay"

keeper_of() { # RUN: the process beside it, if it is one that works
    local pid children
    read -r -a children <"/proc/$1/task/$1/children" || true
    for pid in "${children[@]}"; do
        if [ "$(cat "/proc/$pid/comm")" = tranche-keeper ]; then echo "$pid"; fi
    done
}

# Nanoseconds on a processor, of all threads.
busy_ns() { awk '{ sum += $1 } END { printf "%d\n", sum }' /proc/"$1"/task/*/schedstat; }

measure() { # WHAT HOW_MANY_WORK COMMAND...
    local what=$1 working=$2 leader='' most=0 pid run before after begin program
    shift 2
    exec 9<>"$dir/stay"
    for ((i = 0; i < slices; i++)); do
        program=("$@")
        if [ "$i" -ge $((slices - working)) ]; then
            program=("$build/bin/cli.spinner" 2000)
        fi
        "$build/bin/tranche" run --quiet --name "bench-$$-$what-$i" --cores 1 --cores-max 100 -- \
            "${program[@]}" <"$dir/stay" >/dev/null 9>&- &
        runs+=($!)
        if [ "$i" -ge $((slices - working)) ]; then workers+=($!); fi
    done
    sleep $((3 + slices / 10))
    # The one that keeps is the one that has worked most.
    for run in "${runs[@]}"; do
        for pid in $(keeper_of "$run"); do
            before=$(busy_ns "$pid")
            if [ "$before" -gt "$most" ]; then most=$before leader=$pid; fi
        done
    done
    before=$(busy_ns "$leader") begin=$(date +%s%N)
    sleep "$seconds"
    after=$(busy_ns "$leader")
    awk -v what="$what" -v n="$slices" -v busy=$((after - before)) -v wall=$(($(date +%s%N) - begin)) \
        -v check="$check" '
        $1 == "RssAnon:" { kib = $2 }
        END {
            printf "keeper, %d slices %s: %.2f %% of one core, %.2f MiB anonymous\n", n, what, 100 * busy / wall, kib / 1024
            exit check && (busy / wall > 0.01 || kib > 8192)
        }' "/proc/$leader/status" || failed=yes
    end_runs
}

failed=''
measure "without-programs" 0 cat
measure "with-a-program-each" 0 "$build/bin/cli.tenant" - 16
measure "one-of-which-borrows" 1 "$build/bin/cli.tenant" - 16
[ -z "$failed" ]
