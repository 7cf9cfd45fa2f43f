# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: other limits for containers that run, by hand."""
import os
import signal

from rig import GIB, Node, case, equal, expect


@case
def a_pod_made_anew_is_resized_at_once(build):
    """As a StatefulSet's: the slice of the one before it is there for some seconds more."""
    with Node(build) as node:
        agent = node.ready_agent()
        node.run_pod("w-0", {"a": [(0, 3000, 30)], "b": [(0, 1000, 0)]})
        node.end_pod("w-0")
        node.run_pod("w-0", {"a": [(0, 2000, 20)]})
        equal(len(agent.ask(do="slices")["slices"]), 3, "slices, those of before too")
        for name in ("default/w-0/a", "default/w-0"):
            told = agent.ask(do="set", slice=name, memory="2Gi")
            expect(told["ok"], f"{name}: {told}")
        equal((told["before"][0]["limit_bytes"], told["before"][0]["cores"]), (2 * GIB, 20), "of the new one")


@case
def a_person_is_told_that_the_agent_hangs(build):
    with Node(build) as node:
        agent = node.ready_agent()
        os.kill(agent.child.pid, signal.SIGSTOP)
        try:
            status, text = node.tranche("status")
        finally:
            os.kill(agent.child.pid, signal.SIGCONT)
        expect(status == 1 and "has not answered for 20 seconds" in text, f"{status} {text}")
