"""The workloads W1 to W10: which load, on which brokers, and what is asked of us.

A case is measured by trials: each puts one load on one arm and gives numbers by name. Bounds say what the numbers must
be: `floor` is what we never go below, `goal` what we work for. Against another arm a bound is of the advantage: how many
times better we are, whether better means more or less; without one it is of our own number.
"""

import os
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Callable

BULK = ("linger.ms=50", "batch.size=1000000", "acks=-1")
BATCHES = ("linger.ms=5", "batch.size=16384", "acks=-1")
SINGLE = ("linger.ms=0", "batch.num.messages=1", "max.in.flight=5", "acks=-1")
PROMPT = ("linger.ms=0", "acks=-1", "queue.buffering.max.messages=1000000")
RATE, CPU, REQUEST_CPU = "records_per_s", "cpu_s_per_gb", "cpu_us_per_request"
BROKERS = ("ours", "kafka", "null")
DURABLE = ("ours-durable", "kafka-durable", "raw")


@dataclass(frozen=True)
class Bound:
    """What is asked of a metric; of its advantage over `against`, if that is named."""

    metric: str
    floor: float | None = None
    goal: float | None = None
    against: str | None = None


@dataclass(frozen=True)
class Scale:
    """How large trials are."""

    quick: bool
    log_gb: float

    def records(self, full):
        return max(full // 10, 1) if self.quick else full

    def seconds(self, full):
        return max(full / 6, 2) if self.quick else full

    def gb(self):
        return 0.2 if self.quick else self.log_gb


@dataclass
class Case:
    """One load; `trial(arm, scale)` runs it once."""

    workload: str
    name: str
    trial: Callable
    arms: tuple = BROKERS
    bounds: tuple = ()
    # What an arm needs before its first trial; then it keeps its data over all of them.
    prepare: Callable | None = None
    # Bytes that a trial writes at most: that much memory is made warm before it.
    growth: int = 0
    # A trial starts the broker itself, from nothing.
    starts_itself: bool = False
    # Too slow for many rounds: so many at most.
    rounds_max: int = 100
    is_quick: bool = True
    metrics: tuple = ()
    # Our arms that the bounds are asked of; none: the first.
    judged: tuple = ()
    names: count = field(default_factory=count)

    def topic(self):
        return f"{self.workload.lower()}-{next(self.names)}"


def never_slower(rate_goal=None, cpu_floor=None, cpu_goal=None, null_goal=None, cpu=CPU):
    bounds = [Bound(RATE, 1.0, rate_goal, "kafka"), Bound(cpu, cpu_floor or 1.0, cpu_goal, "kafka")]
    return tuple(bounds + ([Bound(RATE, None, null_goal, "null")] if null_goal else []))


def produce(case, records, settings, partitions=1, size=1024, **load):
    """A trial that produces to a topic of its own."""

    def trial(arm, scale):
        topic, keys = case().topic(), [f"load.{name}={value}" for name, value in load.items()]
        arm.create(topic, partitions)
        result = arm.load("produce", topic, f"load.count={scale.records(records)}", f"load.size={size}",
                          f"load.partitions={partitions}", *keys, *settings)
        arm.delete(topic)
        return result

    return trial


def producing(workload, name, records, settings, partitions=1, size=1024, load=None, **about):
    """A case of producing."""
    case = Case(workload, name, None, growth=int(records * size * 1.1), **about)
    case.trial = produce(lambda: case, records, settings, partitions, size, **(load or {}))
    return case


def w1():
    bounds = never_slower(2.0, 3.0, 4.0, 0.85)
    bulk = (*bounds, Bound(CPU, None, 0.40))
    return [
        producing("W1", "1 partition, 1 producer", 1_000_000, BULK, bounds=bulk),
        producing("W1", "1 partition, 1 producer, idempotent", 1_000_000, (*BULK, "enable.idempotence=true"),
                  bounds=bulk, is_quick=False),
        producing("W1", "8 partitions, 2 producers", 1_000_000, BULK, 8, load={"producers": 2}, bounds=bulk),
        producing("W1", "lines of JSON, lz4", 3_000_000, (*BULK, "compression.type=lz4"), size=220, load={"json": 1},
                  bounds=never_slower(), is_quick=False),
    ]


def w2():
    bounds = never_slower(2.7, 3.0, 4.0, 0.85)
    return [
        producing("W2", "1 partition", 600_000, BATCHES, bounds=bounds),
        producing("W2", "keyed, 100 partitions", 400_000, BATCHES, 100, load={"keyed": 1}, bounds=bounds),
    ]


def w3():
    bounds = (*never_slower(4.0, 3.0, None, None, REQUEST_CPU), Bound(REQUEST_CPU, None, 15.0))
    return [
        producing("W3", f"{n} connection{'s' if n > 1 else ''}", 150_000, SINGLE, load={"producers": n}, bounds=bounds,
                  is_quick=n < 256)
        for n in (1, 16, 256)
    ]


def w4():
    return [
        producing("W4", "1 producer", 6_000_000, BULK, size=100, bounds=never_slower(1.0, None, 3.5)),
        producing("W4", "4 producers, 4 partitions", 6_000_000, BULK, 4, 100, {"producers": 4},
                  bounds=never_slower(1.0, None, 3.5)),
    ]


def w5():
    return [reading("1 consumer", 1), reading("4 consumers, 4 partitions", 4), reading("1 consumer, cold", 1, True)]


def reading(name, consumers, is_cold=False):
    """A case of reading a whole topic, which all trials share."""

    def records(scale):
        return 150_000 if scale.quick else 3_000_000

    def prepare(arm, scale):
        arm.create("w5", consumers)
        arm.load("produce", "w5", f"load.count={records(scale)}", f"load.partitions={consumers}", *BULK)

    def trial(arm, scale):
        if is_cold:
            forget_pages(arm.dir)
        return arm.load("consume", "w5", f"load.count={records(scale)}", f"load.partitions={consumers}",
                        f"load.consumers={consumers}")

    bounds = never_slower(1.8, 3.0, 4.0) if not is_cold else never_slower()
    return Case("W5", name, trial, prepare=prepare, bounds=bounds, is_quick=not is_cold)


def forget_pages(directory):
    """Has the kernel drop what it keeps of these files in memory."""
    os.sync()
    for path in Path(directory).rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def latency(workload, name, rate, seconds, partitions=1, producers=1, **about):
    """A case of an open loop."""
    case = Case(workload, name, None, growth=int(rate * seconds * 1100), **about)

    def trial(arm, scale):
        if arm.name == "raw":
            return arm.paced_commit(rate, scale.seconds(seconds))
        topic = case.topic()
        arm.create(topic, partitions)
        result = arm.load("latency", topic, f"load.rate={rate}", f"load.seconds={scale.seconds(seconds)}",
                          f"load.partitions={partitions}", f"load.producers={producers}", *PROMPT)
        arm.delete(topic)
        return result

    case.trial = trial
    case.metrics = ("e2e_p50_us", "e2e_p99_us", "e2e_p999_us", "ack_p50_us", "ack_p99_us", REQUEST_CPU)
    return case


def tails(kafka_floor, kafka_goal=None, most_us=None):
    return (
        Bound("e2e_p99_us", kafka_floor, kafka_goal, "kafka"),
        Bound("e2e_p99_us", None, None, "null"),
        Bound("e2e_p50_us", None, 1 / 1.5, "null"),
        *([Bound("e2e_p99_us", None, most_us)] if most_us else []),
    )


def w6():
    return [
        latency("W6", "100 records/s", 100, 20, bounds=tails(1.0), is_quick=False),
        latency("W6", "1,000 records/s", 1_000, 60, bounds=tails(4.0)),
        latency("W6", "10,000 records/s", 10_000, 20, bounds=tails(10.0, 100.0, 1000.0)),
        latency("W6", "20,000 records/s", 20_000, 20, bounds=tails(1.0), is_quick=False),
        latency("W6", "10,000 records/s, 100 producers, 100 partitions", 10_000, 20, 100, 100, bounds=tails(1.0),
                is_quick=False),
    ]


def w7():
    return [
        *(durable(n, is_quick=n == 1) for n in (1, 16, 100)),
        latency("W7", "1,000 records/s", 1_000, 20, arms=DURABLE, bounds=durable_tails()),
        latency("W7", "10,000 records/s", 10_000, 20, arms=DURABLE,
                bounds=(*durable_tails(), Bound("ack_p99_us", None, 3000.0))),
    ]


def durable_tails():
    return (Bound("e2e_p99_us", 1.0, None, "kafka"), Bound("ack_p50_us", None, None, "raw"),
            Bound("ack_p99_us", None, None, "raw"))


def durable(partitions, is_quick):
    """Bulk with a sync before each acknowledgement, beside the disk's own group commit of 1 MiB, and ourselves without."""
    bounds = (Bound(RATE, 1.0, 10.0, "kafka"), Bound("mb_per_s", 0.5, None, "raw"), Bound(RATE, None, 0.8, "ours"))
    case = Case("W7", f"bulk, {partitions} partition{'s' if partitions > 1 else ''}", None, growth=1_100_000_000,
                arms=(*DURABLE, "ours"), bounds=bounds, is_quick=is_quick)
    bulk = produce(lambda: case, 1_000_000, BULK, partitions)

    def trial(arm, scale):
        return arm.group_commit(1 << 20, scale.records(1_000_000) << 10) if arm.name == "raw" else bulk(arm, scale)

    case.trial = trial
    return case


def w8():
    return [growth(n) for n in (1, 10, 100, 1_000, 10_000)] + [
        latency("W8", f"{n} clients at 10 records/s each", 10 * n, 20, 1, n, bounds=(Bound("e2e_p99_us", 1.0, None, "kafka"),),
                is_quick=False)
        for n in (1, 10, 100)
    ]


GROWTH = ("create_s", "create_cpu_s", "first_records_s", "first_records_cpu_s", "empty_rss_mb", "rss_mb", RATE, CPU, "restart_ms", "killed_restart_ms")


def growth(partitions):
    """Creates, fills, restarts and kills a broker of so many partitions."""

    def trial(arm, scale):
        arm.start()
        created = arm.create("w8", partitions)
        empty = arm.ask("idle", 1)
        # The first record of each partition has a price of its own.
        first = arm.load("produce", "w8", "load.count=0", f"load.partitions={partitions}", *BATCHES)
        loaded = arm.load("produce", "w8", f"load.count={scale.records(400_000)}", f"load.partitions={partitions}", *BATCHES)
        if arm.name == "null":
            return loaded
        stopped = arm.stop()
        restarted = arm.start_timed("w8", partitions - 1)
        arm.load("produce", "w8", f"load.count={partitions}", f"load.partitions={partitions}", *BATCHES)
        arm.stop("KILL")
        killed = arm.start_timed("w8", partitions - 1)
        return {**loaded, "create_s": created["leaders_s"], "create_reply_s": created["reply_s"],
                "create_cpu_s": created["broker_user_s"] + created["broker_sys_s"],
                "first_records_s": first["first_s"], "first_records_cpu_s": first["broker_user_s"] + first["broker_sys_s"],
                "empty_rss_mb": empty["rss_mb"], "stop_s": stopped["stopped_s"],
                "restart_ms": restarted["acked_ms"], "killed_restart_ms": killed["acked_ms"]}

    bounds = [Bound(RATE, 1.0, None, "kafka"), Bound("create_s", 1.0, None, "kafka")]
    if partitions == 10_000:
        bounds += [Bound("create_s", 5.0, 3.0), Bound("empty_rss_mb", 300.0, 150.0), Bound("killed_restart_ms", 5000.0, 2000.0)]
    return Case("W8", f"{partitions:,} partition{'s' if partitions > 1 else ''}", trial, starts_itself=True, rounds_max=3,
                bounds=tuple(bounds), is_quick=partitions in (1, 100, 1_000), metrics=GROWTH,
                arms=BROKERS if partitions < 1_000 else BROKERS[:2])


def w9():
    return [cold_start(), recovery()]


def cold_start():
    def trial(arm, scale):
        started = arm.start_timed("w9")
        return {**started, **arm.ask("idle", scale.seconds(20))}

    bounds = (Bound("acked_ms", 100.0, 50.0), Bound("acked_ms", 1.0, None, "kafka"), Bound("rss_mb", 30.0, None))
    return Case("W9", "start with nothing", trial, starts_itself=True, bounds=bounds,
                metrics=("listens_ms", "acked_ms", "rss_mb", "idle_cpu_percent"))


def recovery():
    """Kills a broker with a log of some GB under load; counts what it had acknowledged and has lost, or has twice."""

    def trial(arm, scale):
        arm.start()
        arm.create("w9")
        arm.create("w9-counted")
        filled = int(scale.gb() * 1e9 / 1024)
        full = arm.load("produce", "w9", f"load.count={filled}", *BULK)
        ledger = str(arm.dir.parent / f"{arm.name}.ledger")
        arm.begin("produce", "w9-counted", "load.count=20000000", f"load.seconds={8 if scale.quick else 20}",
                  f"load.ledger={ledger}", "enable.idempotence=true", *BULK)
        arm.ask("idle", 2)
        arm.stop("KILL")
        started = arm.start_timed("w9")
        arm.end("produce")
        audited = arm.load("audit", "w9-counted", 1, ledger)
        os.unlink(ledger)
        return {**started, "full_rss_mb": full["rss_mb"], "full_rss_peak_mb": full["rss_peak_mb"], "log_gb": scale.gb(),
                **{name: audited[name] for name in ("acked", "seen", "lost", "duplicated")}}

    bounds = (Bound("acked_ms", 1000.0, 300.0), Bound("acked_ms", 1.0, 40.0, "kafka"), Bound("lost", 0.0, 0.0),
              Bound("duplicated", 0.0, 0.0), Bound("full_rss_mb", 100.0, None))
    return Case("W9", "kill -9 under load", trial, starts_itself=True, arms=BROKERS[:2], rounds_max=3, bounds=bounds,
                metrics=("log_gb", "acked_ms", "full_rss_mb", "acked", "lost", "duplicated"))


# A commit waits for all that is queued: no more of it than keeps five requests under way. More than a GB or so
# in a trial would need memory that is cold.
STEADY = ("linger.ms=5", "batch.size=1000000", "queue.buffering.max.messages=5000", "load.stretch_ms=300")
EXACTLY_ONCE = ("ours", "ours-durable", "kafka", "kafka-durable")


def w10():
    return [
        one_record(1),
        one_record_prompt("our client", by_our_client),
        one_record_prompt("Java's client", by_javas_client),
        one_record(100),
        *(commits_every(ms) for ms in (10, 100)),
        *(copying(ms, 1) for ms in (10, 100)),
    ]


def transact(arm, topic, scale, *settings, seconds=10):
    """So many seconds of transactions; for `null` with the client's own imitation of a broker: what it takes by itself."""
    imitation = ("load.imitation=1",) if arm.name == "null" else ()
    return arm.load("transactions", topic, f"load.seconds={scale.seconds(seconds)}", *settings, *imitation)


def one_record(producers):
    bounds = (Bound("transaction_p50_us", 1200.0, 700.0), Bound("transaction_p99_us", None, 3000.0),
              Bound("transaction_p50_us", 1.0, 4.0, "kafka"), Bound("transaction_p99_us", 1.0, 9.0, "kafka"),
              Bound("transaction_p50_us", None, None, "null"))
    case = Case("W10", f"one record each, {producers} producer{'s' if producers > 1 else ''}", None,
                arms=(*EXACTLY_ONCE, "null") if producers == 1 else EXACTLY_ONCE,
                bounds=bounds if producers == 1 else bounds[2:], is_quick=producers == 1, judged=EXACTLY_ONCE[:2],
                metrics=("transaction_p50_us", "transaction_p99_us", "commit_p50_us", "e2e_p50_us", "e2e_p99_us", RATE))

    def trial(arm, scale):
        topic = case.topic()
        arm.create(topic)
        found = transact(arm, topic, scale, "load.mode=single", f"load.producers={producers}", "linger.ms=0")
        # The imitation is slow with consumers.
        return {name: value for name, value in found.items() if arm.name != "null" or not name.startswith("e2e")}

    case.trial = trial
    return case


def by_our_client(arm, scale, _topic):
    told = arm.bench("transactions", "--seconds", scale.seconds(10))
    return {**told, **{f"transaction_{name}_us": told[f"latency_{name}_us"] for name in ("p50", "p99", "p999")}}


def by_javas_client(arm, scale, topic):
    arm.create(topic)
    return arm.java_load("Transactions", topic, scale.seconds(9))


def one_record_prompt(client, measure):
    """By another client: librdkafka lets a millisecond pass before it tells the broker of a transaction's partition."""
    bounds = (Bound("transaction_p50_us", 1200.0, 700.0), Bound("transaction_p99_us", None, 3000.0),
              Bound("transaction_p50_us", 1.0, 4.0, "kafka"), Bound("transaction_p99_us", 1.0, 9.0, "kafka"))
    case = Case("W10", f"one record each, 1 producer, {client}", None, arms=EXACTLY_ONCE, bounds=bounds,
                judged=EXACTLY_ONCE[:2], metrics=("transaction_p50_us", "transaction_p99_us", RATE))
    case.trial = lambda arm, scale: measure(arm, scale, case.topic())
    return case


BY_TIME = (RATE, "plain_per_s", "share", "commit_p50_us", "commit_max_us")


def share_left(ms):
    return (Bound("share", 0.95, 0.97),) if ms == 100 else ()


def commits_every(ms):
    """Bulk with a commit every so often, in turn with bulk without: `share` is what the commits leave."""
    bounds = (Bound(RATE, 1.0, None, "kafka"), Bound("share", None, None, "null"), *share_left(ms))
    case = Case("W10", f"bulk, a commit every {ms} ms", None, arms=(*EXACTLY_ONCE[:3], "null"), bounds=bounds,
                judged=EXACTLY_ONCE[:2], growth=1_300_000_000, metrics=BY_TIME)

    def trial(arm, scale):
        topic = case.topic()
        arm.create(topic)
        found = transact(arm, topic, scale, "load.mode=interval", f"load.interval_ms={ms}",
                         "load.warm_seconds=0", *STEADY, seconds=1)
        arm.delete(topic)
        return found

    case.trial = trial
    return case


def copying(ms, producers):
    """Read, process, write: what was read is part of the transaction."""
    case = Case("W10", f"read and write, a commit every {ms} ms", None, arms=EXACTLY_ONCE[:3], judged=EXACTLY_ONCE[:2],
                bounds=(Bound(RATE, 1.0, None, "kafka"), *share_left(ms)), is_quick=ms == 100,
                growth=1_300_000_000, metrics=BY_TIME)

    def prepare(arm, scale):
        arm.create("w10-input")
        arm.load("produce", "w10-input", f"load.count={1_000_000 if scale.quick else 2_000_000}", *BULK)

    def trial(arm, scale):
        topic = case.topic()
        arm.create(topic)
        found = transact(arm, topic, scale, "load.mode=copy", "load.input=w10-input", f"load.interval_ms={ms}",
                         f"load.producers={producers}", "load.warm_seconds=0.3", *STEADY, seconds=1.2)
        arm.delete(topic)
        return found

    case.prepare, case.trial = prepare, trial
    return case


WORKLOADS = {
    "W1": ("Bulk in", w1),
    "W2": ("Default batches", w2),
    "W3": ("Request rate", w3),
    "W4": ("Tiny messages", w4),
    "W5": ("Catching up", w5),
    "W6": ("Latency", w6),
    "W7": ("Durable", w7),
    "W8": ("Growth", w8),
    "W9": ("Start and recovery", w9),
    "W10": ("Transactions", w10),
}
