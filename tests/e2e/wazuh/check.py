#!/usr/bin/env python3
"""Checks rules of Wazuh as far as that goes without one, and tells which level each kind of event has with them.

The file is read as XML; ids, parents, names of fields and expressions are looked at, and each line of EVENTS is led through
the tree of rules as the manual of Wazuh describes it: of the children of a rule that is met the one with the highest level
comes first. Rules that count are left out. Tells one JSON object with the level by the kind of event. Exits with 1 if a rule is
at fault.

    check.py RULES EVENTS
"""

import json
import re
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

# Wazuh has elements of its own for these, and refuses <field> for them.
OWN = {"action", "data", "dstip", "dstport", "dstuser", "extra_data", "id", "protocol", "srcip", "srcport", "srcuser"}
OWN |= {"status", "system_name", "url", "user"}
KNOWN = {"decoded_as", "description", "different_field", "field", "group", "if_matched_sid", "if_sid", "mitre", "same_field"}


def text_of(rule, name):
    found = rule.find(name)
    return None if found is None else found.text


def look_at(rule, known, keys):
    """Whether a rule can be read and asks for what there is."""
    number, level = int(rule.get("id")), int(rule.get("level"))
    assert 100200 <= number <= 100299 and number not in known, f"{number} is taken, or none of ours"
    assert 0 <= level <= 16, f"{number}: level {level}"
    assert {part.tag for part in rule} <= KNOWN, f"{number}: {[part.tag for part in rule]}"
    assert text_of(rule, "description"), f"{number} says nothing"
    for name in ("if_sid", "if_matched_sid"):
        for parent in (text_of(rule, name) or "").split(","):
            assert not parent or int(parent) in known, f"{number} is below {parent}, which does not come before it"
    counts = rule.get("frequency") is not None
    assert counts == (text_of(rule, "if_matched_sid") is not None), f"{number} counts nothing"
    for field in rule.findall("field"):
        assert field.get("name") in keys - OWN and field.get("type") == "pcre2", f"{number}: {field.attrib}"
        re.compile(field.text)
    for field in rule.findall("same_field") + rule.findall("different_field"):
        assert counts and field.text in keys - OWN, f"{number}: {field.text}"
    for name in re.findall(r"\$\((\w+)\)", text_of(rule, "description")):
        assert name in keys, f"{number} tells {name}, which no event has"
    return number


def met(rule, children, event):
    """The last rule that an event meets, from this one on."""
    for field in rule.findall("field"):
        value = event.get(field.get("name"))
        if value is None or not re.search(field.text, str(value)):
            return None
    for child in children.get(int(rule.get("id")), []):
        found = met(child, children, event)
        if found is not None:
            return found
    return rule


def main(rules, lines):
    events = [json.loads(line) for line in Path(lines).read_text(encoding="utf-8").splitlines()]
    keys = {key for event in events for key in event}
    known, children = {}, {}
    for rule in xml.parse(rules).getroot():
        number = look_at(rule, known, keys)
        known[number] = rule
        if rule.get("frequency") is None:
            for parent in (text_of(rule, "if_sid") or "0").split(","):
                children.setdefault(int(parent), []).append(rule)
    for below in children.values():
        # What is not to be told at all is asked before everything else.
        below.sort(key=lambda rule: -(int(rule.get("level")) or 99))
    levels = {}
    for event in events:
        found = next(filter(None, (met(rule, children, event) for rule in children[0])), None)
        assert found is not None, f"no rule is for {event['event']}"
        techniques = {part.text for part in found.findall("mitre/id")}
        assert techniques <= set(event.get("attack", "").split()), f"{found.get('id')}: {event['event']} has other techniques"
        level = int(found.get("level"))
        levels[event["event"]] = min(level, levels.get(event["event"], level))
    print(json.dumps(levels))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (AssertionError, OSError, ValueError, re.error, xml.ParseError) as fault:
        sys.exit(f"{sys.argv[1]}: {fault}")
