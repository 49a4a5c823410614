"""aiokafka against a broker: usage: aiokafka_client.py HOST:PORT. Prints "ok" at the end."""

import asyncio
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

BOOTSTRAP = sys.argv[1]
DEADLINE = 60


async def topic(partitions):
    name = f"aiokafka-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1)])
    await admin.close()
    return name


async def take(reader, count):
    got, quiet = [], 0
    while len(got) < count or quiet < 3:
        batches = await reader.getmany(timeout_ms=300)
        quiet += not batches and len(got) >= count
        for records in batches.values():
            got.extend(records)
    return got


async def produce_and_consume():
    name = await topic(1)
    sent = []
    for codec in [None, "gzip"]:
        async with AIOKafkaProducer(
            bootstrap_servers=BOOTSTRAP, acks="all", compression_type=codec, enable_idempotence=True
        ) as client:
            for n in range(100):
                key, value, headers = f"{codec}-{n}".encode(), b"v" * 100, [("n", str(n).encode())]
                await client.send(name, value, key, headers=headers)
                sent.append((key, value, tuple(headers)))
            await client.flush()
    async with AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", enable_auto_commit=False
    ) as reader:
        reader.assign([TopicPartition(name, 0)])
        got = await take(reader, len(sent))
    assert [(m.key, m.value, m.headers) for m in got] == sent


async def group_of_two():
    name, group = await topic(4), uuid.uuid4().hex
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all") as client:
        for n in range(200):
            await client.send_and_wait(name, str(n).encode(), partition=n % 4)
    seen = set()

    def member():
        return AIOKafkaConsumer(
            name,
            bootstrap_servers=BOOTSTRAP,
            group_id=group,
            auto_offset_reset="earliest",
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
        )

    async def until(condition, *members):
        while not condition():
            for one in members:
                for records in (await one.getmany(timeout_ms=100)).values():
                    seen.update(int(record.value) for record in records)

    first, second = member(), member()
    await first.start()
    await until(lambda: len(first.assignment()) == 4, first)
    await second.start()
    shared = lambda: len(first.assignment()) == 2 and len(second.assignment()) == 2
    await until(shared, first, second)
    await until(lambda: seen == set(range(200)), first, second)
    await first.stop()
    await until(lambda: len(second.assignment()) == 4, second)
    await second.stop()


async def transactions():
    name = await topic(1)
    async with AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP, transactional_id=uuid.uuid4().hex
    ) as client:
        for attempt, commit in enumerate([False, True, False, True]):
            await client.begin_transaction()
            for n in range(20):
                await client.send_and_wait(name, f"{attempt}-{n}".encode())
            await (client.commit_transaction() if commit else client.abort_transaction())
    for isolation, attempts in [("read_committed", [1, 3]), ("read_uncommitted", [0, 1, 2, 3])]:
        async with AIOKafkaConsumer(
            bootstrap_servers=BOOTSTRAP,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level=isolation,
        ) as reader:
            reader.assign([TopicPartition(name, 0)])
            want = [f"{attempt}-{n}".encode() for attempt in attempts for n in range(20)]
            assert [m.value for m in await take(reader, len(want))] == want, isolation


async def administration():
    name, group = await topic(2), uuid.uuid4().hex
    first = TopicPartition(name, 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    assert len((await admin.describe_cluster())["brokers"]) == 1
    await admin.create_partitions({name: NewPartitions(3)})
    assert len((await admin.describe_topics([name]))[0]["partitions"]) == 3
    settings = {"retention.ms": "1000"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, settings)])
    described = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, settings)])
    assert [entry[:2] for entry in described[0].resources[0][4]] == [("retention.ms", "1000")]
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all") as client:
        for n in range(10):
            await client.send_and_wait(name, str(n).encode(), partition=0)
    assert await admin.delete_records({first: RecordsToDelete(4)}) == {first: 4}
    async with AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP, group_id=group, enable_auto_commit=False
    ) as reader:
        reader.assign([first])
        assert await reader.beginning_offsets([first]) == {first: 4}
        assert await reader.end_offsets([first]) == {first: 10}
        await reader.commit({first: 5})
    assert group in {listed[0] for listed in await admin.list_consumer_groups()}
    assert (await admin.list_consumer_group_offsets(group))[first].offset == 5
    await admin.delete_topics([name])
    assert name not in await admin.list_topics()
    await admin.close()


async def main():
    for part in [produce_and_consume, group_of_two, transactions, administration]:
        await asyncio.wait_for(part(), DEADLINE)
        print(f"{part.__name__} ok", flush=True)


asyncio.run(main())
print("ok")
