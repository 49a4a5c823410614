"""kafka-python against a broker: usage: kafka_python_client.py HOST:PORT. Prints "ok" at the end."""

import sys
import threading
import time
import uuid

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    NewTopic,
    OffsetSpec,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

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

    class Member(threading.Thread):
        """Polls in a thread of its own, as members of a group do."""

        def __init__(self):
            super().__init__(daemon=True)
            self.client, self.owned, self.ends = consumer(name, **settings), 0, False
            self.start()

        def run(self):
            while not self.ends:
                for records in self.client.poll(timeout_ms=1000).values():
                    seen.update(int(record.value) for record in records)
                self.owned = len(self.client.assignment())
            self.client.close()

        def leave(self):
            self.ends = True
            self.join(DEADLINE)

    def until(condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, (first.owned, second and second.owned, len(seen))
            time.sleep(0.05)

    first, second = Member(), None
    until(lambda: first.owned == 4)
    second = Member()
    until(lambda: first.owned == 2 and second.owned == 2)
    until(lambda: seen == set(range(200)))
    first.leave()
    until(lambda: second.owned == 4)
    second.leave()


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


def administration():
    name, group = topic(2), uuid.uuid4().hex
    first = TopicPartition(name, 0)
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    try:
        admin.create_topics([NewTopic(name=name, num_partitions=1, replication_factor=1)])
        raise AssertionError("a topic created twice")
    except TopicAlreadyExistsError:
        pass
    assert len(admin.describe_cluster()["brokers"]) == 1
    admin.create_partitions({name: 3})
    assert len(admin.describe_topics([name])[0]["partitions"]) == 3
    topic_settings = lambda settings: [ConfigResource(ConfigResourceType.TOPIC, name, settings)]
    admin.alter_configs(topic_settings({"retention.ms": "1000"}))
    described = admin.describe_configs(topic_settings(None), config_filter="all")
    assert described["topic"][name]["retention.ms"]["value"] == "1000", described
    client = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all")
    for n in range(10):
        client.send(name, str(n).encode(), partition=0)
    client.flush(30)
    client.close()
    assert admin.delete_records({first: 4})[first]["low_watermark"] == 4
    for spec, want in [(OffsetSpec.EARLIEST, 4), (OffsetSpec.LATEST, 10)]:
        assert admin.list_partition_offsets({first: spec})[first].offset == want
    reader = consumer(group_id=group, enable_auto_commit=False)
    reader.assign([first])
    reader.commit({first: OffsetAndMetadata(5, "", -1)})
    reader.close()
    assert group in {it["group_id"] for it in admin.list_groups()}
    assert admin.describe_groups([group])[group]["group_state"] == "Empty"
    assert admin.list_group_offsets({group: None})[group][first].offset == 5
    admin.delete_groups([group])
    pattern = ResourcePattern(ResourceType.TOPIC, name)
    acl = ACL("User:bob", "*", ACLOperation.READ, ACLPermissionType.DENY, pattern)
    assert admin.create_acls([acl])["succeeded"] == [acl]
    assert admin.describe_acls(acl)[0] == [acl]
    assert admin.delete_acls([acl])[0][1] == [acl]
    assert admin.describe_acls(acl)[0] == []
    admin.delete_topics([name])
    assert name not in admin.list_topics()
    admin.close()


for part in [produce_and_consume, group_of_two, transactions, administration]:
    part()
    print(f"{part.__name__} ok", flush=True)
print("ok")
