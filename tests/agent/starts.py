#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent's loop works for one PreStartContainer of many at once, and of that for gRPC alone: the same number of
calls with ids that were never offered, which are refused without more.

usage: starts.py BUILD_DIR [--starts N] [--rounds N]
"""
import argparse
import sys
import time

from measure import p99
from rig import Cannot, Node, equal

SETTLE_S = 0.5  # what is left to do after the last answer


def loop_ns(agent):
    """Nanoseconds that the agent's first thread has run: it is the loop."""
    with open(f"/proc/{agent.child.pid}/task/{agent.child.pid}/schedstat", encoding="ascii") as text:
        return int(text.read().split()[0])


def at_once(node, agent, all_ids, is_good):
    """(ms of the loop for each call, p99 of the calls' own ms)"""
    before = loop_ns(agent)
    answers = node.kubelet.replay("PreStartContainer", all_ids)
    time.sleep(SETTLE_S)
    equal([granted for _, granted in answers], [is_good] * len(all_ids), "starts that were granted")
    return (loop_ns(agent) - before) / 1e6 / len(all_ids), p99([ms for ms, _ in answers])


def measure(build, starts):
    with Node(build, gpus="2xh100", split_count=200, log_level="info") as node:
        agent = node.ready_agent(400)
        made = [node.place(f"p{i:03}", {"a": [(i % 2, 200 + i, 0)]})["a"]["ids"] for i in range(starts)]
        time.sleep(2)
        idle = loop_ns(agent)
        time.sleep(SETTLE_S)
        idle = (loop_ns(agent) - idle) / 1e6
        for what, all_ids, is_good in (("starts", made, True), ("refusals", [[f"GPU-none-{i}"] for i in range(starts)], False)):
            each, late = at_once(node, agent, all_ids, is_good)
            print(f"{starts} {what:<9} {each:.3f} ms of the loop for each, p99 {late:.1f} ms", flush=True)
        print(f"idle: {idle:.2f} ms of the loop in {SETTLE_S} s")


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("build")
    words.add_argument("--starts", type=int, default=200)
    words.add_argument("--rounds", type=int, default=3)
    asked = words.parse_args()
    try:
        for _ in range(asked.rounds):
            measure(asked.build, asked.starts)
    except Cannot as why:
        print(f"skipped: {why}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
