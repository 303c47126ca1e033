#!/usr/bin/env python3
"""Checks lines of OCSF events (standard input) against the schema that each names.

What it knows of the schema comes from `ocsf-json-schema`, which carries the export of schema.ocsf.io for 1.8.0; nothing
is fetched. Beyond what that package puts into its JSON Schemas, the rules of the schema that span several attributes are
checked here. Exits with 1 if a line is at fault and 2 if there was no line.

    pip install -r requirements.txt
    validate.py [--recommended] < events.jsonl
"""

import argparse
import functools
import json
import re
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema


VERSION = "1.8.0"


@functools.cache
def compiled():
    return get_ocsf_schema(VERSION)


@functools.cache
def by_uid():
    return {c["uid"]: (name, c) for name, c in compiled()["classes"].items()}


@functools.cache
def validator(name, profiles):
    schema = OcsfJsonSchemaEmbedded(compiled()).get_class_schema(name, list(profiles))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def no_twice(pairs):
    seen = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"key {key!r} is there twice")
        seen[key] = value
    return seen


def no_constant(word):
    raise ValueError(f"{word} is no JSON")


def faults(event):
    """Everything that is wrong with one event, as texts."""
    if not isinstance(event, dict):
        yield "no object"
        return
    uid = event.get("class_uid")
    known = by_uid().get(uid) if type(uid) is int else None
    if known is None:
        yield f"class_uid: {uid!r} is no class of {VERSION}"
        return
    name, cls = known
    metadata = event.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    profiles = metadata.get("profiles", [])
    if not (isinstance(profiles, list) and all(isinstance(profile, str) for profile in profiles)):
        yield "metadata.profiles: no list of names"
        profiles = []
    for profile in profiles:
        if profile not in cls["profiles"]:
            yield f"metadata.profiles: {profile!r} is no profile of {name}"
    if len(set(profiles)) != len(profiles):
        yield "metadata.profiles: one is there twice"
    for error in validator(name, tuple(sorted(set(profiles)))).iter_errors(event):
        yield f"{error.json_path}: {error.message[:300]}"
    if metadata.get("version") != VERSION:
        yield f"metadata.version: {metadata.get('version')!r} is not {VERSION!r}"
    for profile in profiles:
        ours = [key for key, a in cls["attributes"].items() if profile in (a.get("profiles") or ())]
        if ours and not any(key in event for key in ours):
            yield f"metadata.profiles: {profile!r} is named and none of its attributes is there"
    if type(event.get("activity_id")) is int:
        wanted = uid * 100 + event["activity_id"]
        if event.get("type_uid") != wanted:
            yield f"type_uid: {event.get('type_uid')!r} is not {wanted}"
    yield from walk(event, cls, "$")
    yield from observables(event)


def walk(node, kind, path):
    """What spans two attributes of one object, and whether texts and numbers are what the schema means by them."""
    attributes = kind["attributes"]
    for key, value in node.items():
        about = attributes.get(key)
        if about is None:
            continue  # The JSON Schema knows it is a stranger, or that strangers are welcome.
        here = f"{path}.{key}"
        if "@deprecated" in about:
            yield f"{here}: deprecated"
        items = value if about.get("is_array") and isinstance(value, list) else [value]
        if isinstance(value, list) and not value:
            yield f"{here}: empty"
        enum, sibling = about.get("enum"), about.get("sibling")
        for item in items:
            if item is None or item == "":
                yield f"{here}: empty"
            if enum and sibling:
                word, caption = node.get(sibling), enum.get(str(item), {}).get("caption")
                if item == 99 and not word:
                    yield f"{here}: 99 without a {sibling}"
                if item != 99 and word is not None and word != caption:
                    yield f"{path}.{sibling}: {word!r} is not the caption {caption!r} of {item!r}"
            if type(item) is int and about["type"] == "timestamp_t" and not 946_684_800_000 <= item < 4_102_444_800_000:
                yield f"{here}: {item!r} is no time in milliseconds of this century"
            if type(item) is int and about["type"] == "integer_t" and not -(2**31) <= item < 2**31:
                yield f"{here}: {item!r} does not fit 32 bits, which is what readers take for an integer"
            if about["type"] == "object_t" and isinstance(item, dict):
                yield from walk(item, compiled()["objects"][about["object_type"]], here)


def at(event, pointer):
    """What an observable points at; raises LookupError if there is nothing."""
    node = event
    for key, place in re.findall(r"([^.\[\]]+)(?:\[(\d*)\])?", pointer):
        node = node[key]
        if isinstance(node, list):
            node = node[int(place or 0)]
    return node


def observables(event):
    listed = event.get("observables", [])
    for index, observable in enumerate(listed if isinstance(listed, list) else []):
        here = f"$.observables[{index}]"
        try:
            found = at(event, observable.get("name", ""))
        except (LookupError, TypeError, AttributeError):
            yield f"{here}: nothing is at {observable!r}"
            continue
        if not isinstance(found, dict) and observable.get("value") != str(found):
            yield f"{here}: {observable.get('value')!r} is not {found!r}"


def lacking(event):
    _, cls = by_uid()[event["class_uid"]]
    profiles = event["metadata"].get("profiles", [])
    for key, about in cls["attributes"].items():
        of = about.get("profiles") or ()
        if about["requirement"] == "recommended" and key not in event and (not of or set(of) & set(profiles)):
            if "@deprecated" not in about:
                yield key


def main():
    parser = argparse.ArgumentParser(description="Checks lines of OCSF events.")
    parser.add_argument("--recommended", action="store_true", help="tell which recommended attributes are never there")
    asked = parser.parse_args()
    count, wrong, counted, absent = 0, 0, {}, {}
    for number, line in enumerate(sys.stdin.buffer, 1):
        count += 1
        try:
            event = json.loads(line.decode("utf-8"), object_pairs_hook=no_twice, parse_constant=no_constant)
            found = list(faults(event))
        except (ValueError, TypeError) as fault:
            event, found = None, [str(fault)]
        for fault in found:
            print(f"line {number}: {fault}", file=sys.stderr)
        wrong += bool(found)
        if not found:
            uid = event["class_uid"]
            counted[uid] = counted.get(uid, 0) + 1
            missing = set(lacking(event))
            absent[uid] = absent.get(uid, missing) & missing
    classes = ", ".join(f"{uid}: {number}" for uid, number in sorted(counted.items()))
    print(f"{count} lines, {wrong} at fault ({classes})")
    if asked.recommended:
        for uid, keys in sorted(absent.items()):
            print(f"{uid} never has: {' '.join(sorted(keys))}")
    sys.exit(1 if wrong else 0 if count else 2)


if __name__ == "__main__":
    main()
