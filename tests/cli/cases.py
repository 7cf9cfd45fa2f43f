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
from harness import CASES, Machine, Skip


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
        return 0
    build, name = sys.argv[1:]
    gpus = "2xh100" if "several_devices" in name else "h100"
    with Machine(build, gpus) as machine:
        try:
            CASES[name](machine)
        except Skip as why:
            print(why)
            return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
