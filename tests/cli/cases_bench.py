# SPDX-License-Identifier: Apache-2.0
"""Cases: what `tranche bench limiter` refuses before it measures, and what it leaves."""
from harness import *  # noqa: F403


def refuses(machine, words, *says):
    """Status 2 and a sentence that has SAYS, before anything was measured."""
    done = machine.run("bench", *words)
    equal((done.returncode, done.stdout), (2, ""), f"{words}: {done.stderr}")
    expect(done.stderr.startswith("tranche: ") and done.stderr.count("\n") == 1, f"{words}: {done.stderr!r}")
    for part in says:
        expect(part in done.stderr, f"{words}: {done.stderr!r} does not say {part!r}")


@case
def bench_neighbours_need_a_share(machine):
    for quota in ("99", "100"):
        refuses(machine, ["limiter", "--quota", quota, "--neighbours", "3"], f"--quota {quota}", "--neighbours 3")
    done = machine.run("bench", "limiter", "--quota", "100", "--neighbours", "0,1", "--workload", "200us", "--processes",
                       "1", "--seconds", "1", "--json")
    equal((done.returncode, done.stdout.count("\n")), (0, 1), done.stderr)
    expect("--neighbours 1: 0 % is left" in done.stderr, done.stderr)
