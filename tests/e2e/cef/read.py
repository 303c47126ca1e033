#!/usr/bin/env python3
"""Reads lines of CEF (standard input) with pycef, and tells what each has as a JSON line.

pycef takes a line apart: the header, where a key begins and a value ends, and which label belongs to which field; a
labelled field comes back under its label. It leaves what is escaped in a value as it stands there, so that is undone
here, as the format says: an escaped n or r is a line's end, whatever else is escaped is itself. Exits with 1 at the
first line that it takes no event from, and 2 if there was no line.

    pip install -r requirements.txt
    read.py < events.cef
"""

import json
import re
import sys

import pycef

# Older names of two others.
TWICE = ["DeviceName", "DeviceSeverity"]
SEVERITIES = [str(number) for number in range(11)]


def undone(text):
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), text)


def main():
    count = 0
    for number, line in enumerate(sys.stdin.buffer, 1):
        line = line.decode("utf-8").removesuffix("\n")
        # It would look for the beginning anywhere.
        event = pycef.parse(line) if line.startswith("CEF:") else None
        if event is None or event.get("Severity") not in SEVERITIES:
            print(f"line {number}: no event: {line}", file=sys.stderr)
            sys.exit(1)
        print(json.dumps({key: undone(value) for key, value in event.items() if key not in TWICE}))
        count += 1
    sys.exit(0 if count else 2)


if __name__ == "__main__":
    main()
