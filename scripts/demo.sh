#!/bin/sh
# make demo: two programs that nobody here wrote, ffmpeg and numba, share one GPU, each in a slice of
# its memory; then two programs that each want all of the GPU's time get 70 and 30 percent of it. On a
# machine without an NVIDIA driver the GPU is a simulated one; device memory and copies are real there
# and time passes as it would, kernels compute nothing.
set -eu

cd "$(dirname "$0")/.."
scripts/setup.sh demo
scripts/build.sh
tests/clients/venv.sh

tranche=build/bin/tranche
python=.deps/clients/bin/python
work=$(mktemp -d)
sim=
pids=

finish() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    [ -z "$sim" ] || build/lib/sim/sim-ctl stop "$TRANCHE_SIM" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT INT TERM

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows a command as a person would type it, then runs it.
show() {
    printf '$ %s\n' "$*" | sed "s|$tranche|tranche|"
    "$@"
}

if ! $tranche doctor 2>/dev/null | grep -q '^ok *GPU'; then
    sim=--sim
    export TRANCHE_SIM="$work/machine"
    mkdir "$TRANCHE_SIM"
    echo "No NVIDIA driver here: the GPU is a simulated NVIDIA H100 with 80 GB."
fi

# Uploads 4K frames and keeps them all, until the memory of its slice is full.
video() {
    show $tranche run $sim --mem 2Gi --name video -- ffmpeg -loglevel error -init_hw_device cuda=gpu \
        -filter_hw_device gpu -f lavfi -i color=size=3840x2160 -frames:v 2000 \
        -vf format=nv12,hwupload_cuda,reverse -f null - </dev/null || true
}

# What a person may type into a notebook: take 256 MiB at a time until refused, later once more.
cat >"$work/session.py" <<'PYTHON'
import sys
from numba import cuda
import numpy as np

held = []

def fill():
    try:
        while True:
            held.append(cuda.device_array(256 << 20, dtype=np.uint8))
    except cuda.cudadrv.driver.CudaAPIError as error:
        free, total = cuda.current_context().get_memory_info()
        print(f"numba: sees {total >> 20} MiB in all, holds {len(held) * 256} MiB, then: {error}", flush=True)

fill()
sys.stdin.readline()
fill()
PYTHON

title "1. ffmpeg in a slice of 2 GiB: it fails where its slice ends, with the driver's own error"
video

title "2. numba in a slice of 3 GiB on the same GPU, at the same time as another ffmpeg"
mkfifo "$work/input"
printf '$ tranche run %s --mem 3Gi --name notebook -- python session.py &\n' "$sim"
# shellcheck disable=SC2086 # sim is empty or one word
$tranche run $sim --mem 3Gi --name notebook -- $python "$work/session.py" <"$work/input" >"$work/notebook" 2>&1 &
notebook=$!
pids=$notebook
exec 3>"$work/input"
i=0
until grep -q numba: "$work/notebook" || [ $i -gt 300 ]; do
    sleep 0.1
    i=$((i + 1))
done
cat "$work/notebook"
video

title "3. the slices as the host sees them"
show $tranche ps

title "4. the notebook's slice grows while its program runs"
show $tranche set notebook --mem 5Gi
echo >&3
exec 3>&-
wait "$notebook" || true
tail -n +2 "$work/notebook"

title "5. two programs that each want all of the GPU's time: 70 and 30 percent"
# Kernels of 5 ms, always some of them queued ahead, until it is ended.
spin() {
    name=$1
    shift
    # shellcheck disable=SC2016 # the dollar is the prompt
    printf '$ tranche run %s %s --name %s -- cli.spinner &\n' "$sim" "$*" "$name"
    # shellcheck disable=SC2086 # sim is empty or one word
    $tranche run $sim "$@" --name "$name" -- build/bin/cli.spinner 5000 >"$work/$name" 2>&1 &
    pids="$pids $!"
}
spin large --cores 70
large=$!
spin small --cores 30 --cores-max 100
small=$!
sleep 10 # both have started, and NVML has told what their turns on the GPU are worth
# What tranche says; and what the simulated GPU itself, which knows nothing of slices, says of the same seconds.
look() {
    [ -z "$sim" ] || build/lib/sim/sim-ctl busy --json >"$work/before"
    show $tranche top --once --interval 4s
    [ -z "$sim" ] || build/lib/sim/sim-ctl busy --json | python3 -c '
import json, sys
before, now = json.load(open(sys.argv[1])), json.load(sys.stdin)
was = {p["pid"]: p["busy_ns"] for p in before["devices"][0]["processes"]}
shares = [100 * (p["busy_ns"] - was.get(p["pid"], 0)) / (now["now_ns"] - before["now_ns"])
          for p in now["devices"][0]["processes"]]
print("the GPU was busy for each program, by its own books:", ", ".join(f"{s:.1f}%" for s in sorted(shares)))
' "$work/before"
}
look

title "6. one ends; the other may borrow what is idle now, at once"
kill "$large"
# shells tell of a job that was ended; so does what it printed itself
wait "$large" 2>/dev/null || true
grep '^tranche:' "$work/large" || true
look

title "7. less, while it runs"
show $tranche set small --cores 10 --cores-max 10
look
kill "$small"
wait "$small" 2>/dev/null || true
grep '^tranche:' "$work/small" || true
