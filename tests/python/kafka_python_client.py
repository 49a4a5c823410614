"""kafka-python against a broker: usage: kafka_python_client.py HOST:PORT. Prints "ok" at the end."""

import sys
import time
import uuid

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

BOOTSTRAP = sys.argv[1]
DEADLINE = 60


def topic(partitions):
    name = f"kafka-python-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(name=name, num_partitions=partitions, replication_factor=1)])
    admin.close()
    return name


def consumer(*topics, **settings):
    return KafkaConsumer(
        *topics, bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", **settings
    )


def take(client, count):
    got, quiet, end = [], 0, time.monotonic() + DEADLINE
    while (len(got) < count or quiet < 3) and time.monotonic() < end:
        batches = client.poll(timeout_ms=300)
        quiet += not batches and len(got) >= count
        for records in batches.values():
            got.extend(records)
    return got


def produce_and_consume():
    name = topic(1)
    sent = []
    for codec in [None, "gzip"]:
        client = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", compression_type=codec)
        for n in range(100):
            key, value = f"{codec}-{n}".encode(), b"value" * 30
            client.send(name, value, key, headers=[("n", str(n).encode())])
            sent.append((key, value, [("n", str(n).encode())]))
        client.flush(30)
        client.close()
    reader = consumer(enable_auto_commit=False)
    reader.assign([TopicPartition(name, 0)])
    got = take(reader, len(sent))
    assert [(m.key, m.value, list(m.headers)) for m in got] == sent
    reader.close()


def group_of_two():
    name, group = topic(4), uuid.uuid4().hex
    client = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all")
    for n in range(200):
        client.send(name, str(n).encode(), partition=n % 4)
    client.flush(30)
    client.close()
    settings = dict(group_id=group, session_timeout_ms=6000, heartbeat_interval_ms=500)
    seen = set()

    def until(condition, *members):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, ([m.assignment() for m in members], len(seen))
            for member in members:
                for records in member.poll(timeout_ms=100).values():
                    seen.update(int(record.value) for record in records)

    first = consumer(name, **settings)
    until(lambda: len(first.assignment()) == 4, first)
    second = consumer(name, **settings)
    until(lambda: len(first.assignment()) == 2 and len(second.assignment()) == 2, first, second)
    until(lambda: seen == set(range(200)), first, second)
    first.close()
    until(lambda: len(second.assignment()) == 4, second)
    second.close()


def transactions():
    name = topic(1)
    client = KafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=uuid.uuid4().hex)
    client.init_transactions()
    for attempt, commit in enumerate([False, True, False, True]):
        client.begin_transaction()
        for n in range(20):
            client.send(name, f"{attempt}-{n}".encode())
        client.flush(30)
        client.commit_transaction() if commit else client.abort_transaction()
    client.close()
    for isolation, attempts in [("read_committed", [1, 3]), ("read_uncommitted", [0, 1, 2, 3])]:
        reader = consumer(enable_auto_commit=False, isolation_level=isolation)
        reader.assign([TopicPartition(name, 0)])
        want = [f"{attempt}-{n}".encode() for attempt in attempts for n in range(20)]
        assert [m.value for m in take(reader, len(want))] == want, isolation
        reader.close()


for part in [produce_and_consume, group_of_two, transactions]:
    part()
    print(f"{part.__name__} ok", flush=True)
print("ok")
