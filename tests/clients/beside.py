#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: beside.py MIB COMMAND...: runs COMMAND beside a program that holds MIB of the GPU, and is
told about on standard error: "holder PID". Ends as COMMAND did."""

import pathlib
import signal
import subprocess
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that both children end too
mib, command = sys.argv[1], sys.argv[2:]
alloc = pathlib.Path(__file__).with_name("alloc.py")
holder = subprocess.Popen([sys.executable, alloc, "--step-mib", mib, "--max-mib", mib, "--hold-s", "60"],
                          stdout=subprocess.PIPE, text=True)
try:
    if not any(line.startswith("got 1 ") for line in holder.stdout):
        sys.exit("the holder ended by itself")
    print(f"holder {holder.pid}", file=sys.stderr, flush=True)
    status = subprocess.run(command, check=False).returncode
finally:
    holder.kill()
    holder.wait()
sys.exit(status)
