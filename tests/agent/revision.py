#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cmake/revision.cmake: what a build says it is built from. usage: revision.py CMAKE SCRIPT"""
import os
import re
import shutil
import subprocess
import sys
import tempfile


def main(cmake, script):
    with tempfile.TemporaryDirectory() as folder:
        source, out = f"{folder}/source", f"{folder}/out/revision.c"
        os.mkdir(source)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "SOURCE_DATE"))}
        env.update(GIT_CEILING_DIRECTORIES=folder, GIT_COMMITTER_DATE="2026-03-01T01:30:00+02:00", HOME=folder)

        def git(*words):
            who = ["-c", "user.name=n", "-c", "user.email=e@example"]
            subprocess.run(["git", "-C", source, *who, *words], env=env, check=True, stdout=subprocess.DEVNULL)

        def told(of=source, **more):
            subprocess.run([cmake, f"-DSOURCE={of}", f"-DOUT={out}", "-P", script], env={**env, **more}, check=True)
            with open(out, encoding="utf-8") as text:
                return tuple(re.findall(r'"(.*)";', text.read()))

        assert told() == ("unknown", "unknown"), told()
        assert told(SOURCE_DATE_EPOCH="86400") == ("unknown", "1970-01-02T00:00:00Z"), told()
        if not shutil.which("git"):
            print("without git there is no more to see")
            return 77
        git("init", "-q")
        with open(f"{source}/file", "w", encoding="utf-8") as file:
            file.write("1")
        git("add", ".")
        git("commit", "-qm", "one")
        revision, date = told()
        assert re.fullmatch("[0-9a-f]{12}", revision), revision
        assert date == "2026-02-28T23:30:00Z", date
        before = os.stat(out).st_mtime_ns
        assert told() == (revision, date) and os.stat(out).st_mtime_ns == before, "the same is not written again"
        with open(f"{source}/file", "w", encoding="utf-8") as file:
            file.write("other")
        assert told() == (f"{revision}-dirty", date), told()
        os.mkdir(f"{source}/inside")
        assert told(of=f"{source}/inside") == ("unknown", "unknown"), "somebody else's repository"
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
