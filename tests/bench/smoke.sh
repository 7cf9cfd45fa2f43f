#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# smoke.sh BUILD: the harness runs end to end with tiny counts and tells every row. No timing is
# judged here.
set -eu
build=$1
here=$(dirname "$0")
out=$(mktemp)
trap 'rm -f "$out" "$out.json"' EXIT
"$here/run.sh" --build "$build" --scale 1 --json "$out.json" --peer "$build/lib/libvgpu.so" >"$out"

# One row for every loop on both drivers (those limited in time: on one), and the rows that are no
# loops.
loops=$(grep -c '^BENCH_LOOP(' "$here/rows.def")
timed=$(grep -cE '^BENCH_LOOP\(.*, (ARMED|LIMITED), ' "$here/rows.def")
want=$((2 * loops - timed + 6))
got=$(wc -l <"$out.json")
[ "$got" = "$want" ] || { echo "$got rows of $want in the JSON"; cat "$out"; exit 1; }
python3 - "$out.json" <<'PY'
import json, sys
sized = 0
for line in open(sys.argv[1], encoding="utf-8"):
    row = json.loads(line)
    assert row["repetitions"] >= 1 and row["at_most"] > 0, row
    assert row["missed"] == (row["added"] > row["at_most"]), row
    if row["kind"] == "size":
        sized += 1
        assert row["ours"] > 0, row
    else:
        assert row["bare"] > 0 and row["ours"] > 0 and "peer_added" in row, row
assert sized == 2, sized
PY
# A wrong request is refused with its name.
if "$here/run.sh" --nonsense 2>"$out"; then exit 1; fi
grep -q -- '--nonsense' "$out"
