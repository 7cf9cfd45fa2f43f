#!/usr/bin/env python3
"""Counts what ctest ran: one closing line, and why each skipped test was skipped.

usage: summary.py [--no-skips] LABEL=JUNIT.xml ...
Exit status 1 when a test failed, none ran, or (--no-skips) one was skipped.
"""
import sys
import xml.etree.ElementTree as ElementTree


def reason_of(case):
    """The last line a skipped test printed is its reason."""
    text = case.findtext("system-out") or ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said no reason"


def main(words):
    no_skips = "--no-skips" in words
    passed, failed, skipped = 0, [], []
    for word in words:
        if word == "--no-skips":
            continue
        label, path = word.split("=", 1)
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            name = f"{label}: {case.get('name')}"
            if case.find("failure") is not None or case.get("status") == "fail":
                failed.append(name)
            elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
                skipped.append((name, reason_of(case)))
            else:
                passed += 1
    for name in failed:
        print(f"FAILED   {name}")
    for name, why in skipped:
        print(f"skipped  {name}: {why}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed or (no_skips and skipped) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
