# SPDX-License-Identifier: Apache-2.0
"""Claims about programs as they are run: how a script of them states one, and how ctest asks for one by its name."""
import os
import sys
import time

CASES = {}


def case(function):
    """A claim: a ctest of its own, by its name."""
    CASES[function.__name__] = function
    return function


class Cannot(Exception):
    """Not on this machine, and why; no fault of what is tested."""


def expect(truth, what):
    """WHAT, of this and of wait_for: a text, or a function that makes one."""
    if not truth:
        raise AssertionError(what() if callable(what) else what)


def equal(got, want, what=""):
    expect(got == want, f"{what}: got {got!r}, want {want!r}")


def wait_for(truth, seconds, what):
    """The first result of TRUTH() that is true."""
    end = time.monotonic() + seconds
    while not (result := truth()):
        expect(time.monotonic() <= end, lambda: f"waited {seconds} s for {what() if callable(what) else what}")
        time.sleep(0.05)
    return result


def main(run=lambda claim, build: claim(build)):
    """A script's exit status: of `--list`, or of RUN of the claim that is named, in the build folder before it."""
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
        return 0
    build, name = sys.argv[1:]
    try:
        run(CASES[name], os.path.abspath(build))
    except Cannot as why:
        print(f"skipped: {why}")
        return 77
    return 0
