"""confluent-kafka (librdkafka) against a broker: usage: confluent_client.py HOST:PORT

Produces with every codec, keys and headers; consumes in a group of two with a rebalance; runs
transactions of which the aborted one stays invisible to read_committed; and walks through the admin
client. Prints "ok" at the end.
"""

import sys
import time
import uuid

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

BOOTSTRAP = sys.argv[1]
DEADLINE = 60


def topic(partitions):
    name = f"confluent-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    return name


def producer(**settings):
    return Producer({"bootstrap.servers": BOOTSTRAP, **settings})


def read_all(name, count, isolation="read_committed"):
    """Reads `count` records, then makes sure that no further one comes for a while."""
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP,
        "group.id": uuid.uuid4().hex,
        "auto.offset.reset": "earliest",
        "isolation.level": isolation,
        "enable.auto.commit": False,
    })
    partitions = consumer.list_topics(name).topics[name].partitions
    consumer.assign([TopicPartition(name, p, 0) for p in partitions])
    got, quiet, end = [], 0, time.monotonic() + DEADLINE
    while (len(got) < count or quiet < 3) and time.monotonic() < end:
        message = consumer.poll(0.3)
        if message is None:
            quiet += len(got) >= count
            continue
        if message.error():
            raise KafkaException(message.error())
        got.append(message)
    consumer.close()
    return got


def codecs():
    name, sent = topic(1), []
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        client = producer(**{"compression.type": codec, "acks": "all", "enable.idempotence": True})
        for n in range(200):
            key, value = f"{codec}-{n}", f"value {n} " * 20
            client.produce(name, value, key, headers=[("codec", codec), ("codec", b"\x00")])
            sent.append((key, value))
        assert client.flush(30) == 0
    got = read_all(name, len(sent))
    assert [(m.key().decode(), m.value().decode()) for m in got] == sent
    for message in got:
        codec = message.key().decode().split("-")[0]
        assert message.headers() == [("codec", codec.encode()), ("codec", b"\x00")], message.headers()
    assert [m.offset() for m in got] == list(range(len(sent)))


def group_of_two():
    name = topic(4)
    client = producer(acks="all")
    for n in range(400):
        client.produce(name, str(n), str(n), partition=n % 4)
    assert client.flush(30) == 0
    group = uuid.uuid4().hex
    seen, owned = [], {}

    def member(who):
        consumer = Consumer({
            "bootstrap.servers": BOOTSTRAP,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
        })
        keep = lambda _, partitions: owned.__setitem__(who, {p.partition for p in partitions})
        drop = lambda _, partitions: owned.__setitem__(who, set())
        consumer.subscribe([name], on_assign=keep, on_revoke=drop)
        return consumer

    def poll(*members):
        for one in members:
            message = one.poll(0.1)
            if message is not None and not message.error():
                seen.append(int(message.value()))

    def until(condition, *members):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, (owned, len(set(seen)))
            poll(*members)

    first = member("first")
    until(lambda: owned.get("first") == {0, 1, 2, 3}, first)
    second = member("second")
    shared = lambda: (
        len(owned.get("first", ())) == 2
        and len(owned.get("second", ())) == 2
        and owned["first"] | owned["second"] == {0, 1, 2, 3}
    )
    until(shared, first, second)
    until(lambda: set(seen) == set(range(400)), first, second)
    first.close()
    until(lambda: owned["second"] == {0, 1, 2, 3}, second)
    second.close()


def transactions():
    source, target = topic(1), topic(2)
    plain = producer()
    for n in range(10):
        plain.produce(source, str(n))
    assert plain.flush(30) == 0
    client = producer(**{"transactional.id": uuid.uuid4().hex})
    client.init_transactions(30)
    for attempt, commit in enumerate([False, True, False, True]):
        client.begin_transaction()
        for n in range(50):
            client.produce(target, f"{attempt}-{n}", partition=n % 2)
        client.flush(30)
        client.commit_transaction(30) if commit else client.abort_transaction(30)
    want = sorted(f"{attempt}-{n}" for attempt in (1, 3) for n in range(50))
    assert sorted(m.value().decode() for m in read_all(target, 100)) == want
    assert len(read_all(target, 200, "read_uncommitted")) == 200

    # Offsets in a transaction: consume, transform, produce, exactly once.
    group = uuid.uuid4().hex
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    })
    consumer.subscribe([source])
    got, end = [], time.monotonic() + DEADLINE
    while len(got) < 10 and time.monotonic() < end:
        message = consumer.poll(0.5)
        if message is not None and not message.error():
            got.append(message)
    assert len(got) == 10
    for commit, offset in [(False, 3), (True, 7)]:
        client.begin_transaction()
        client.produce(target, "with offsets")
        offsets = [TopicPartition(source, 0, offset)]
        client.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
        client.commit_transaction(30) if commit else client.abort_transaction(30)
    committed = consumer.committed([TopicPartition(source, 0)], 30)
    assert committed[0].offset == 7, committed
    consumer.close()


def administration():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    one = lambda futures: list(futures.values())[0].result(30)
    name = topic(2)
    first = TopicPartition(name, 0)
    try:
        one(admin.create_topics([NewTopic(name, 1, 1)]))
        raise AssertionError("a topic created twice")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
    assert len(admin.describe_cluster().result(30).nodes) == 1
    one(admin.create_partitions([NewPartitions(name, 3)]))
    described = one(admin.describe_topics(TopicCollection([name])))
    assert [it.id for it in described.partitions] == [0, 1, 2], described.partitions

    resource = lambda **entry: ConfigResource(
        ResourceType.TOPIC, name,
        incremental_configs=[ConfigEntry(**entry)] if entry else None,
    )
    for operation, value, want in [("SET", "1000", "1000"), ("DELETE", None, "604800000")]:
        change = resource(name="retention.ms", value=value, incremental_operation=AlterConfigOpType[operation])
        one(admin.incremental_alter_configs([change]))
        assert one(admin.describe_configs([resource()]))["retention.ms"].value == want

    client = producer()
    for n in range(10):
        client.produce(name, str(n), partition=0)
    assert client.flush(30) == 0
    assert one(admin.delete_records([TopicPartition(name, 0, 4)])).low_watermark == 4
    for spec, want in [(OffsetSpec.earliest(), 4), (OffsetSpec.latest(), 10)]:
        assert one(admin.list_offsets({first: spec})).offset == want

    group = uuid.uuid4().hex
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group})
    consumer.commit(offsets=[TopicPartition(name, 0, 5)], asynchronous=False)
    consumer.close()
    assert group in {it.group_id for it in admin.list_consumer_groups().result(30).valid}
    assert one(admin.describe_consumer_groups([group])).state == ConsumerGroupState.EMPTY
    one(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 6)])]))
    offsets = one(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [first])]))
    assert offsets.topic_partitions[0].offset == 6, offsets
    one(admin.delete_consumer_groups([group]))

    acl = ResourceType.TOPIC, name, ResourcePatternType.LITERAL, "User:bob", "*", AclOperation.READ, AclPermissionType.DENY
    one(admin.create_acls([AclBinding(*acl)]))
    assert admin.describe_acls(AclBindingFilter(*acl)).result(30) == [AclBinding(*acl)]
    assert one(admin.delete_acls([AclBindingFilter(*acl)])) == [AclBinding(*acl)]
    assert admin.describe_acls(AclBindingFilter(*acl)).result(30) == []
    one(admin.delete_topics([name]))
    assert name not in admin.list_topics(timeout=30).topics


for part in [codecs, group_of_two, transactions, administration]:
    part()
    print(f"{part.__name__} ok", flush=True)
print("ok")
