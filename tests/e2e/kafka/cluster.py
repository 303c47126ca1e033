#!/usr/bin/env python3
"""A little cluster of Kafka, the one that librdkafka has inside for tests, and somebody who reads from it.

Three brokers on ports of their own, and a topic with four partitions. Tells their addresses as one JSON array; then, for each
line "read COUNT" on standard input, the next so many records of the topic as JSON lines. Ends with its input.

    pip install -r requirements.txt
    cluster.py TOPIC
"""

import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition

PATIENCE = 20


def text(octets):
    return None if octets is None else octets.decode()


def main(topic):
    # The cluster lives as long as this. What it says of itself goes to standard error.
    cluster = Producer({"test.mock.num.brokers": 3, "log_level": 0})
    # A topic begins with its first record.
    cluster.produce(topic, b"the beginning")
    if cluster.flush(PATIENCE) != 0:
        sys.exit("the cluster does not answer")
    about = cluster.list_topics(timeout=PATIENCE)
    brokers = [f"{broker.host}:{broker.port}" for broker in about.brokers.values()]
    reader = Consumer({"bootstrap.servers": ",".join(brokers), "group.id": "reader", "log_level": 0})
    reader.assign([TopicPartition(topic, number, 0) for number in about.topics[topic].partitions])
    first = reader.poll(PATIENCE)
    if first is None or first.error():
        sys.exit("what was written is not there")
    print(json.dumps(brokers), flush=True)
    for line in sys.stdin:
        for _ in range(int(line.removeprefix("read "))):
            record = reader.poll(PATIENCE)
            if record is None or record.error():
                sys.exit("there are no more records")
            headers = {name: text(value) for name, value in record.headers() or []}
            told = {"key": text(record.key()), "value": text(record.value()), "headers": headers, "partition": record.partition()}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
