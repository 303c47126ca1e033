#!/usr/bin/env python3
"""Reads requests of OTLP/HTTP in JSON (standard input, one a line) with the types of the OpenTelemetry project.

A field that the types do not have, a value of another type or an identifier of another length is a fault. Writes each log record
as a line of JSON, as a collector has it: its resource, name, times, severity, body, attributes and trace. Exits with 1 at the first
fault, and with 2 if there was no record.

    pip install -r requirements.txt
    read.py < requests.jsonl
"""

import base64
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

# Identifiers are hexadecimal in OTLP, and base64 in the JSON of Protocol Buffers: that is the one difference between the two.
IDENTIFIERS = {"traceId": 16, "spanId": 8}


def to_base64(told):
    """The same request with identifiers as the library wants them."""
    if isinstance(told, list):
        return [to_base64(one) for one in told]
    if not isinstance(told, dict):
        return told
    made = {}
    for name, value in told.items():
        if name in IDENTIFIERS:
            octets = bytes.fromhex(value)
            if len(octets) not in (0, IDENTIFIERS[name]):
                raise ValueError(f"{name} has {len(octets)} octets")
            value = base64.b64encode(octets).decode("ascii")
        made[name] = to_base64(value)
    return made


def attributes_of(pairs):
    """Attributes by their keys, each with its value; a key that is there twice is a fault."""
    made = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind not in ("string_value", "int_value") or pair.key in made:
            raise ValueError(f"the attribute {pair.key}: {kind}")
        made[pair.key] = getattr(pair.value, kind)
    return made


def records_of(line):
    """The records of a request."""
    request = json_format.ParseDict(to_base64(json.loads(line)), ExportLogsServiceRequest())
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield {
                    "resource": attributes_of(resource.resource.attributes),
                    "scope": scope.scope.name,
                    "name": record.event_name,
                    "nanos": [record.time_unix_nano, record.observed_time_unix_nano],
                    "severity": SeverityNumber.Name(record.severity_number),
                    "severity_text": record.severity_text,
                    "body": record.body.string_value,
                    "attributes": attributes_of(record.attributes),
                    "trace": record.trace_id.hex(),
                }


def main():
    count = 0
    for number, line in enumerate(sys.stdin, 1):
        try:
            for record in records_of(line):
                print(json.dumps(record))
                count += 1
        except Exception as why:  # The library has an error of its own for each fault.
            print(f"line {number}: {why}", file=sys.stderr)
            sys.exit(1)
    sys.exit(0 if count else 2)


if __name__ == "__main__":
    main()
