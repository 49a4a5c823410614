"""confluent-kafka (librdkafka) with group.protocol=consumer (KIP-848): usage: ... HOST:PORT

Members come and go and nobody reads what another still reads; offsets are committed by epoch, also
in transactions; static members come back; expressions follow topics; groups are described, listed,
changed and deleted; groups change their protocol while they are empty and while they are not.
Prints "ok" at the end.
"""

import sys
import time
import uuid

from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupType, KafkaException, Producer
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

BOOTSTRAP = sys.argv[1]
DEADLINE = 60
ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})


def topic(partitions, name=None):
    name = name or f"consumer-{uuid.uuid4().hex[:8]}"
    ADMIN.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    return name


def fill(name, partitions, count):
    client = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all"})
    for n in range(count):
        client.produce(name, str(n), str(n), partition=n % partitions)
    assert client.flush(30) == 0


class Group:
    """Members of one group, each with what it owns; and all that they have read."""

    def __init__(self, **settings):
        self.id = uuid.uuid4().hex
        self.settings = settings
        self.members, self.owned, self.seen, self.changes = {}, {}, [], {}

    def join(self, who, topics, protocol="consumer", **settings):
        consumer = Consumer({
            "bootstrap.servers": BOOTSTRAP,
            "group.id": self.id,
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 1000,
            **({"group.protocol": "consumer"} if protocol == "consumer" else {
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": protocol,
            }),
            **self.settings,
            **settings,
        })
        self.owned[who], self.changes[who] = set(), 0

        def names(partitions):
            self.changes[who] += 1
            return {(p.topic, p.partition) for p in partitions}

        def gain(consumer, partitions):
            if protocol == "consumer" or protocol == "cooperative-sticky":
                self.owned[who] |= names(partitions)
                consumer.incremental_assign(partitions)
            else:
                self.owned[who] = names(partitions)
                consumer.assign(partitions)
            self.check()

        def lose(consumer, partitions):
            if protocol == "consumer" or protocol == "cooperative-sticky":
                self.owned[who] -= names(partitions)
                consumer.incremental_unassign(partitions)
            else:
                self.owned[who] = set()
                consumer.unassign()

        consumer.subscribe(topics, on_assign=gain, on_revoke=lose)
        self.members[who] = consumer
        return consumer

    def check(self):
        everything = [p for owned in self.owned.values() for p in owned]
        assert len(everything) == len(set(everything)), self.owned

    def leave(self, who):
        self.members.pop(who).close()
        self.owned.pop(who, None)

    def poll(self):
        for consumer in list(self.members.values()):
            message = consumer.poll(0.05)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            self.seen.append(int(message.value()))

    def until(self, condition, seconds=DEADLINE):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.owned, len(set(self.seen)))
            self.poll()

    def sizes(self):
        return sorted(len(owned) for owned in self.owned.values())

    def describe(self):
        return ADMIN.describe_consumer_groups([self.id])[self.id].result(30)


def members_come_and_go():
    name = topic(4)
    fill(name, 4, 400)
    group = Group()
    group.join("first", [name])
    group.until(lambda: group.sizes() == [4])
    group.join("second", [name])
    group.until(lambda: group.sizes() == [2, 2])
    group.until(lambda: set(group.seen) == set(range(400)))
    described = group.describe()
    assert described.state == ConsumerGroupState.STABLE, described.state
    assert described.type == ConsumerGroupType.CONSUMER, described.type
    assert described.partition_assignor == "uniform", described.partition_assignor
    assigned = {
        frozenset((p.topic, p.partition) for p in member.assignment.topic_partitions)
        for member in described.members
    }
    assert assigned == {frozenset(owned) for owned in group.owned.values()}, assigned
    group.join("third", [name])
    group.until(lambda: group.sizes() == [1, 1, 2])
    group.leave("first")
    group.until(lambda: group.sizes() == [2, 2])
    ADMIN.create_partitions([NewPartitions(name, 6)])[name].result(30)
    group.until(lambda: group.sizes() == [3, 3])
    group.leave("second")
    group.until(lambda: group.sizes() == [6])
    group.leave("third")
    # Who comes later goes on where they were: each had committed when it left.
    seen = len(group.seen)
    group.join("fourth", [name])
    group.until(lambda: group.sizes() == [6])
    end = time.monotonic() + 2
    group.until(lambda: end < time.monotonic())
    assert len(group.seen) == seen, (seen, len(group.seen))
    group.leave("fourth")


def assignors():
    name, other = topic(3), topic(3)
    group = Group(**{"group.remote.assignor": "range"})
    group.join("a", [name, other])
    group.join("b", [name, other])
    group.until(lambda: group.sizes() == [2, 4])
    for owned in group.owned.values():
        indices = lambda wanted: {p for t, p in owned if t == wanted}
        assert indices(name) == indices(other), group.owned
    assert group.describe().partition_assignor == "range"
    group.leave("a")
    group.leave("b")


def static_members():
    name = topic(2)
    group = Group()
    group.join("one", [name], **{"group.instance.id": "one"})
    group.join("two", [name], **{"group.instance.id": "two"})
    group.until(lambda: group.sizes() == [1, 1])
    owned, changes = set(group.owned["one"]), group.changes["two"]
    group.leave("one")
    end = time.monotonic() + 2
    group.until(lambda: end < time.monotonic())
    group.join("one", [name], **{"group.instance.id": "one"})
    group.until(lambda: group.owned["one"] == owned)
    assert group.changes["two"] == changes, "nobody else notices"
    group.leave("one")
    group.leave("two")


def expressions():
    prefix = uuid.uuid4().hex[:8]
    first = topic(1, f"{prefix}-orders-1")
    topic(1, f"{prefix}-else")
    group = Group()
    group.join("a", [f"^{prefix}-orders-.*"])
    group.until(lambda: group.owned["a"] == {(first, 0)})
    second = topic(2, f"{prefix}-orders-2")
    group.until(lambda: group.owned["a"] == {(first, 0), (second, 0), (second, 1)})
    group.leave("a")


def offsets_in_transactions():
    source, target = topic(1), topic(1)
    fill(source, 1, 10)
    group = Group(**{"enable.auto.commit": False, "isolation.level": "read_committed"})
    consumer = group.join("a", [source])
    group.until(lambda: len(group.seen) == 10)
    client = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": uuid.uuid4().hex})
    client.init_transactions(30)
    stale = consumer.consumer_group_metadata()
    for commit, offset in [(False, 3), (True, 7)]:
        client.begin_transaction()
        client.produce(target, "with offsets")
        offsets = [TopicPartition(source, 0, offset)]
        client.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
        client.commit_transaction(30) if commit else client.abort_transaction(30)
    committed = consumer.committed([TopicPartition(source, 0)], 30)
    assert committed[0].offset == 7, committed
    # Once it has left, what it was entitled to is worth nothing.
    group.leave("a")
    client.begin_transaction()
    try:
        client.send_offsets_to_transaction([TopicPartition(source, 0, 9)], stale, 30)
        client.commit_transaction(30)
        raise AssertionError("a member that left committed offsets")
    except KafkaException:
        client.abort_transaction(30)


def administration():
    name, other = topic(1), topic(1)
    fill(name, 1, 10)
    group = Group()
    group.join("a", [name])
    group.until(lambda: len(group.seen) == 10)
    group.members["a"].commit(asynchronous=False)
    listed = lambda **filters: {
        g.group_id: g for g in ADMIN.list_consumer_groups(**filters).result(30).valid
    }
    ours = listed(types={ConsumerGroupType.CONSUMER})[group.id]
    assert (ours.type, ours.state) == (ConsumerGroupType.CONSUMER, ConsumerGroupState.STABLE)
    assert group.id not in listed(types={ConsumerGroupType.CLASSIC})
    change = lambda topic, offset: ADMIN.alter_consumer_group_offsets([
        ConsumerGroupTopicPartitions(group.id, [TopicPartition(topic, 0, offset)])
    ])[group.id].result(30)
    refused = 0
    for attempt in [lambda: change(name, 3), lambda: ADMIN.delete_consumer_groups([group.id])[group.id].result(30)]:
        try:
            done = attempt()
            refused += done is not None and any(p.error for p in done.topic_partitions)
        except KafkaException:
            refused += 1
    assert refused == 2, "a group with members is changed by its members alone"
    group.leave("a")
    change(name, 3)
    found = ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group.id)])
    found = found[group.id].result(30).topic_partitions
    assert [(p.topic, p.offset) for p in found] == [(name, 3)], found
    assert group.describe().state == ConsumerGroupState.EMPTY
    ADMIN.delete_consumer_groups([group.id])[group.id].result(30)
    assert group.id not in listed()


def empty_groups_change_their_protocol():
    name = topic(2)
    fill(name, 2, 20)
    group = Group()
    group.join("a", [name], protocol="range")
    group.until(lambda: len(set(group.seen)) == 20)
    group.leave("a")
    seen = len(group.seen)
    group.join("b", [name])
    group.until(lambda: group.sizes() == [2])
    group.leave("b")
    group.join("c", [name], protocol="cooperative-sticky")
    group.until(lambda: group.sizes() == [2])
    end = time.monotonic() + 2
    group.until(lambda: end < time.monotonic())
    group.leave("c")
    assert len(group.seen) == seen, "offsets stay"


def members_change_their_protocol_one_by_one(classic="cooperative-sticky"):
    name = topic(4)
    fill(name, 4, 400)
    group = Group()
    group.join("a", [name], protocol=classic)
    group.join("b", [name], protocol=classic)
    group.until(lambda: group.sizes() == [2, 2])
    group.join("c", [name])
    group.until(lambda: group.sizes() == [1, 1, 2])
    assert group.describe().type == ConsumerGroupType.CONSUMER
    group.leave("a")
    group.until(lambda: group.sizes() == [2, 2])
    group.join("d", [name])
    group.until(lambda: group.sizes() == [1, 1, 2])
    group.leave("b")
    group.until(lambda: group.sizes() == [2, 2])
    group.until(lambda: set(group.seen) == set(range(400)))
    # And back.
    group.join("e", [name], protocol=classic)
    group.until(lambda: group.sizes() == [1, 1, 2])
    group.leave("c")
    group.leave("d")
    group.until(lambda: group.sizes() == [4])
    assert group.describe().type == ConsumerGroupType.CLASSIC
    group.leave("e")


def members_that_give_all_up_to_rebalance_change_their_protocol_too():
    members_change_their_protocol_one_by_one("range")


PARTS = [
    members_come_and_go, assignors, static_members, expressions, offsets_in_transactions,
    administration, empty_groups_change_their_protocol, members_change_their_protocol_one_by_one,
    members_that_give_all_up_to_rebalance_change_their_protocol_too,
]
wanted = sys.argv[2:]
for part in PARTS:
    if not wanted or part.__name__ in wanted:
        part()
        print(f"{part.__name__} ok", flush=True)
print("ok")
