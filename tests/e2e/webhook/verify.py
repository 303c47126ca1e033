#!/usr/bin/env python3
"""Checks requests of a webhook (standard input) with the library of those who made Standard Webhooks.

A line of the input is a request, as JSON: {"headers": {"webhook-id": …}, "body": "…"}. The library looks at the clock:
a request may be five minutes old. Beyond what it checks, the body has to be what the standard says of one: an object with
a type, a timestamp and data. Tells how many were right. Exits with 1 at the first that is not, and 2 if there was no line
or the secret can not be used.

    pip install -r requirements.txt
    verify.py SECRET < requests.jsonl
"""

import argparse
import json
import sys

from standardwebhooks import Webhook


def fault_of(line, webhook):
    """What is wrong with a request, as a text; nothing if it is right."""
    try:
        request = json.loads(line.decode("utf-8"))
        headers, body = request["headers"], request["body"]
    except (ValueError, LookupError, TypeError) as why:
        return f"no request: {why!r}"
    if not isinstance(headers, dict) or not all(isinstance(text, str) for text in [*headers.values(), body]):
        return "no request: headers and body are no texts"
    try:
        told = webhook.verify(body, headers)
    except Exception as why:  # What it raises for a signature that is no base64 is no error of its own.
        return f"{type(why).__name__}: {why}"
    if not (isinstance(told, dict) and isinstance(told.get("type"), str) and isinstance(told.get("timestamp"), str)):
        return "the body has no type or no timestamp"
    if not isinstance(told.get("data"), dict):
        return "the body has no data"
    return None


def main():
    parser = argparse.ArgumentParser(description="Checks requests of a webhook.")
    parser.add_argument("secret", help="what they were signed with: whsec_ and base64")
    asked = parser.parse_args()
    try:
        webhook = Webhook(asked.secret)
    except Exception as why:  # Each fault of a secret has an error of another kind.
        print(f"the secret: {why}", file=sys.stderr)
        sys.exit(2)
    count = 0
    for number, line in enumerate(sys.stdin.buffer, 1):
        if fault := fault_of(line, webhook):
            print(f"line {number}: {fault}", file=sys.stderr)
            sys.exit(1)
        count += 1
    print(f"verified {count}")
    sys.exit(0 if count else 2)


if __name__ == "__main__":
    main()
