#!/usr/bin/env python3
"""Fails on a file over 600 lines or a function over 60. usage: sizes.py FILE..."""
import re
import sys

FILE_LINES = 600
FUNCTION_LINES = 60


def long_functions(lines):
    """A function is what stands between a '{' and a '}' in the first column."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            if re.match(r"}\s*$", line) and number - start - 1 > FUNCTION_LINES:
                yield start, number - start - 1
            start = None


def main(paths):
    failed = False
    for path in paths:
        with open(path, encoding="utf-8") as source:
            lines = source.read().splitlines()
        if len(lines) > FILE_LINES:
            print(f"{path}: {len(lines)} lines, at most {FILE_LINES}")
            failed = True
        for start, length in long_functions(lines):
            print(f"{path}:{start}: a function of {length} lines, at most {FUNCTION_LINES}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
