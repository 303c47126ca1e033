#!/usr/bin/env python3
"""Checks rules of Sigma and runs each over lines of events, to see which kinds it finds.

pySigma reads the rules and runs its own checks over them; those that fetch data from elsewhere are left out. Then each
rule becomes a query of SQLite, over a table with the events. Tells what was found as one JSON object: the kinds of events
by the file of the rule, or by "file#name" where a file has several rules; of rules that count, the addresses of what they
counted. EVENTS needs every kind of event once at least,
so that a key that no event has is noticed. Exits with 1 if a rule is at fault and 2 if there was nothing to check.

    pip install -r requirements.txt
    check.py RULES EVENTS
"""

import argparse
import json
import re
import sqlite3
import sys
from collections import Counter
from pathlib import Path

from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.validation import SigmaValidator
from sigma.validators.core import validators


TABLE = "events"
# They fetch the names of techniques from elsewhere. Here a rule may name what its events name, and nothing else.
FETCHING = {"attacktag", "d3_fendtag"}
WANTED = ("id", "title", "status", "description", "author", "date", "level", "falsepositives")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
FILE_NAME = re.compile(r"[a-z0-9_]{6,66}\.yml")


def read_events(path):
    with open(path, encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines if line.strip()]
    for number, event in enumerate(events, 1):
        if not (isinstance(event, dict) and isinstance(event.get("event"), str)):
            raise ValueError(f"line {number} is no event")
    return events


def table_of(events):
    """The events in SQLite: a column for each key, in which texts are compared as Sigma does it, whatever their case."""
    keys = sorted({key for event in events for key in event})
    quoted = {key: "`" + key.replace("`", "``") + "`" for key in keys}
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE TABLE {TABLE} ({', '.join(f'{name} COLLATE NOCASE' for name in quoted.values())})")
    for event in events:
        values = [json.dumps(value) if isinstance(value, (dict, list)) else value for value in event.values()]
        names, places = ", ".join(quoted[key] for key in event), ", ".join("?" for _ in event)
        database.execute(f"INSERT INTO {TABLE} ({names}) VALUES ({places})", values)
    return database, set(keys)


def names_in(rule, backend):
    """Every key of an event that the rule speaks of."""
    yield from rule.fields
    if isinstance(rule, SigmaCorrelationRule):
        yield from rule.group_by or []
        field = getattr(rule.condition, "fieldref", None)
        yield from [field] if isinstance(field, str) else field or []
    else:
        yield from backend.required_fields(rule)


def faults_of(rule, backend, keys):
    """Everything that is wrong with what a rule says of itself, as texts."""
    if not FILE_NAME.fullmatch(rule.source.path.name):
        yield "the name of the file is not of small letters, digits and _"
    for name in WANTED:
        if not getattr(rule, name):
            yield f"there is no {name}"
    if rule.id and not UUID4.fullmatch(str(rule.id)):
        yield f"{rule.id} is no random UUID"
    for tag in rule.tags:
        if tag.namespace != "attack":
            yield f"{tag} is no technique of ATT&CK"
    for name in sorted({name for name in names_in(rule, backend) if name not in keys}):
        yield f"no event has a key {name!r}"
    if not isinstance(rule, SigmaCorrelationRule):
        source = (rule.logsource.category, rule.logsource.product, rule.logsource.service)
        if source != (None, "portcullis", "events"):
            yield f"it is for {source}"
        if not rule.fields:
            yield "there are no fields"


def found_by(rule, backend, database):
    """The numbers of the rows that a rule finds; of one that counts, those that it counted."""
    if isinstance(rule, SigmaCorrelationRule):
        queries, column = backend.convert_correlation_rule(rule), "event_ids"
    else:
        # Of a rule that others count there is the condition alone.
        queries = backend.convert_rule(rule)
        queries = queries or [f"SELECT * FROM {TABLE} WHERE {part}" for part in rule.get_conversion_result()]
        queries, column = [query.replace("SELECT *", "SELECT rowid", 1) for query in queries], "rowid"
    found = set()
    for query in queries:
        cursor = database.execute(query)
        place = [about[0] for about in cursor.description].index(column)
        for row in cursor:
            if column == "rowid":
                found.add(row[place])
            else:
                # Such a row is named "0:12": the twelfth of the first table.
                found.update(int(name.rpartition(":")[2]) for name in json.loads(row[place]))
    return found


def tag_fault(rule, events):
    """What a rule says of ATT&CK and its events do not, or the other way round."""
    told = {str(tag).removeprefix("attack.") for tag in rule.tags}
    known = {word.lower() for event in events for word in event.get("attack", "").split()}
    if events and told != known:
        return f"its tags are {sorted(told)}, and its events have {sorted(known)}"
    return None


def load(files):
    """The rules of some files, and what is wrong with them as texts."""
    loaded, faults = [], []
    for path in files:
        try:
            rules = SigmaCollection.load_ruleset([path], collect_errors=True, resolve_references=False)
        except Exception as why:  # It is no YAML, or no rule at all.
            faults.append(f"{path.name}: {why}")
            continue
        if not rules.rules:
            faults.append(f"{path.name}: there is no rule in it")
        found = [*rules.errors, *(why for rule in rules for why in rule.errors)]
        faults.extend(f"{path.name}: {why}" for why in dict.fromkeys(str(why) for why in found))
        loaded.append(rules)
    rules = SigmaCollection.merge(loaded, resolve_references=False)
    if faults:
        return rules, faults
    try:
        rules.resolve_rule_references()
    except SigmaError as why:
        return rules, [str(why)]
    checks = [check for name, check in validators.items() if name not in FETCHING]
    for issue in SigmaValidator(checks).validate_rules(rules):
        faults.append(f"{' '.join(rule.source.path.name for rule in issue.rules)}: {issue}")
    return rules, faults


def names_of(rules):
    """What each rule is told by: its file, or its file and its name where that has several."""
    files = Counter(rule.source.path.name for rule in rules)
    return {
        id(rule): rule.source.path.name if files[rule.source.path.name] == 1 else f"{rule.source.path.name}#{rule.name}"
        for rule in rules
    }


def run(rules, events):
    """The kinds of events that each rule finds, and what is wrong with the rules as texts."""
    told, faults, names = {}, [], names_of(rules)
    database, keys = table_of(events)
    backend = sqliteBackend(table=TABLE, timestamp_field="ts")
    # Those that are counted come before those that count.
    for rule in sorted(rules, key=lambda rule: isinstance(rule, SigmaCorrelationRule)):
        name = names[id(rule)]
        if name in told:
            faults.append(f"{name}: there are two of that name")
        told[name] = []
        try:
            numbers = found_by(rule, backend, database)
        except (SigmaError, sqlite3.Error, NotImplementedError) as why:
            faults.append(f"{name}: {why}")
            continue
        faults.extend(f"{name}: {text}" for text in faults_of(rule, backend, keys))
        hit = [events[number - 1] for number in sorted(numbers)]
        counts = isinstance(rule, SigmaCorrelationRule)
        told[name] = sorted({event["ip" if counts else "event"] for event in hit})
        if wrong := tag_fault(rule, hit):
            faults.append(f"{name}: {wrong}")
    return told, faults


def main():
    parser = argparse.ArgumentParser(description="Checks rules of Sigma and runs each over lines of events.")
    parser.add_argument("rules", type=Path, help="the folder with the rules")
    parser.add_argument("events", type=Path, help="the file with the events, as JSON lines")
    asked = parser.parse_args()
    try:
        events = read_events(asked.events)
    except (OSError, ValueError) as why:
        print(f"{asked.events}: {why}", file=sys.stderr)
        sys.exit(2)
    files = sorted(asked.rules.glob("**/*.yml"))
    if not (files and events):
        print(f"{len(files)} files of rules and {len(events)} events: nothing to check", file=sys.stderr)
        sys.exit(2)
    told = {}
    rules, faults = load(files)
    if not faults:
        told, faults = run(rules, events)
    for text in faults:
        print(text, file=sys.stderr)
    if faults:
        sys.exit(1)
    print(json.dumps(dict(sorted(told.items()))))


if __name__ == "__main__":
    main()
