#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tranche` as a user meets it, on a simulated machine of the test's own.

usage: cases.py BUILD_DIR CASE     one claim each; exit status 77: cannot run here, and why
       cases.py --list             names of the cases
"""
import sys

import cases_bench  # noqa: F401 (its cases register themselves)
import cases_keeper  # noqa: F401
import cases_slice  # noqa: F401
import cases_time  # noqa: F401
import cases_values  # noqa: F401
from harness import Machine, main


def on_machine(claim, build):
    gpus = "2xh100" if "several_devices" in claim.__name__ else "h100"
    with Machine(build, gpus) as machine:
        claim(machine)


if __name__ == "__main__":
    sys.exit(main(on_machine))
