#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""header_walk.py HOOK CC INCLUDE: every function of the real headers has a class, and the check that
says so notices one that has none, one that nobody declares, and one that is there twice."""
import pathlib
import subprocess
import sys
import tempfile

hook, cc, include = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
exports = (hook / "exports.def").read_text()


def classify(text):
    with tempfile.TemporaryDirectory() as out:
        path = pathlib.Path(out) / "exports.def"
        path.write_text(text)
        return subprocess.run([sys.executable, hook / "classify.py", "--cc", cc, "--include",
                               include, "--out", out, "--exports", path],
                              capture_output=True, text=True)


def refused(text, words):
    run = classify(text)
    assert run.returncode != 0, f"accepted: {words}"
    assert words in run.stderr, run.stderr


run = classify(exports)
assert run.returncode == 0, run.stderr
print(run.stdout.strip())
refused(exports.replace("cuGraphAddMemAllocNode", "", 1), "cuGraphAddMemAllocNode has no class")
refused(exports + "\ncuFutureThing\n", "no header declares cuFutureThing")
refused(exports + "\ncuMemAlloc_v2\n", "cuMemAlloc_v2 has a class already")
refused(exports.replace("[told]", "[irrelevant]", 1), "cuMemGetInfo_v2 has a row and is irrelevant")
refused(exports.replace("cuModuleLoadData ", "", 1) + "\n[charged]\ncuModuleLoadData\n",
        "cuModuleLoadData is charged and has no row")
