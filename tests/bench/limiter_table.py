#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""limiter_table.py FILE.jsonl...: what `tranche bench limiter --json` wrote, as tables in Markdown.

By workload, by how many there were, and the cells that are furthest beyond what is allowed. Prints; the
exit status is 1 only when there is no cell at all.
"""
import json
import sys

WORST = 10


def name(cell):
    return (f"{cell['workload']} at {cell['asked']} %, {cell['processes']} p, {cell['neighbours']} n"
            + (f", {cell['gpus']} GPUs" if cell["gpus"] > 1 else ""))


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def row(label, cells):
    """Of what was measured; windows and stalls where they are judged."""
    worst = max(cells, key=lambda cell: cell["error"])
    windows = [cell["worst_1s_off"] for cell in cells if "worst_1s_off" in cell]
    stalls = [cell["stall_ms"] / cell["stall_allowed_ms"] for cell in cells if "worst_1s_off" in cell]
    beyond = sum(cell["error"] > cell["allowed"] for cell in cells)
    return (f"| {label} | {len(cells)} | {mean(cell['error'] for cell in cells):.2f} | {worst['error']:.2f} | "
            f"{worst['asked']} %, {worst['processes']} p, {worst['neighbours']} n | {beyond} | "
            + (f"{max(windows):.1f} | {100 * max(stalls):.0f} % |" if windows else "| |"))


def table(title, groups):
    print(f"| {title} | Cells | Mean error | Worst | where | Beyond | 1 s off | Stall |")
    print("|---|---:|---:|---:|---|---:|---:|---:|")
    for label, cells in groups:
        if cells:
            print(row(label, cells))
    print()


def grouped(cells, key):
    values = list(dict.fromkeys(cell[key] for cell in cells))
    return [(value, [cell for cell in cells if cell[key] == value]) for value in values]


def print_worst(cells):
    over = sorted((cell for cell in cells if cell["error"] > cell["allowed"]),
                  key=lambda cell: cell["allowed"] - cell["error"])
    if not over:
        print("No cell is beyond what is allowed.")
        return
    print(f"| Furthest beyond ({min(WORST, len(over))} of {len(over)}) | Got | Should | Error | Allowed |")
    print("|---|---:|---:|---:|---:|")
    for cell in over[:WORST]:
        print(f"| {name(cell)} | {cell['got']:.2f} % | {cell['target']:.2f} % | {cell['error']:.2f} | "
              f"{cell['allowed']:.2f} |")


def main(paths):
    cells = []
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            cells += [json.loads(line) for line in lines]
    measured = [cell for cell in cells if "failed" not in cell]
    if not measured:
        print("no cell was measured", file=sys.stderr)
        return 1
    table("Workload", grouped(measured, "workload") + [("**all**", measured)])
    table("Neighbours", grouped(measured, "neighbours"))
    table("Processes", grouped(measured, "processes"))
    table("GPUs", grouped(measured, "gpus"))
    print_worst(measured)
    for cell in cells:
        if "failed" in cell:
            print(f"\nNot measured: {name(cell)}: {cell['failed']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
