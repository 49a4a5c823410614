"""The brokers that are compared, each an arm: how it is started, with which settings, in a world of its own.

Settings are the defaults of each, but for what makes the comparison fair: the same disk, one JVM heap of 1 GB that is
touched before the start, and the same promise. Kafka acknowledges what the kernel has; so does `ours`, by
`flush.mode=async`. `ours-durable` is our default, which acknowledges what is on disk; `kafka-durable` is Kafka with
`flush.messages=1`. What Kafka deletes leaves the disk after a second: each trial has a topic of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .host import die_with_parent

HOST = Path(__file__).resolve().parent / "host.py"
JVM = ["-Xms1g", "-Xmx1g", "-XX:+AlwaysPreTouch", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
       "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]
# What its distribution's config/server.properties sets for a single node.
KAFKA_SETTINGS = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.segment.delete.delay.ms=1000
"""


class Failed(Exception):
    """Something in the arm's world went wrong; the text says what."""


class Arm:
    """One broker: started, stopped, killed, put under load."""

    name = ""
    # A fresh start costs nothing, and the only topic should be empty.
    is_fresh_each_trial = False
    marker = None

    def __init__(self, tools, data, settings=()):
        self.tools, self.settings = tools, list(settings)
        self.dir = Path(data) / self.name
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.log = tools.WORK / "logs" / f"{self.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        self.host, self.granted = open_host()
        self.port, self.controller_port = self.ask("free_ports", 2)
        self.is_up = False
        self.prepare()

    def prepare(self):
        """What is to be done once, before the first start."""

    def command(self):
        raise NotImplementedError

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def ask(self, what, *args, **options):
        """Has the host do something, and gives its answer."""
        self.host.stdin.write(json.dumps({"do": what, "args": args, "options": options}) + "\n")
        self.host.stdin.flush()
        line = self.host.stdout.readline()
        if not line:
            raise Failed(f"{self.name}: its host is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer["ok"]

    def start(self):
        self.is_up = True
        return self.ask("start", self.command(), str(self.log), self.marker, self.port)

    def start_timed(self, topic, partition=0, patience=300):
        """Starts it; milliseconds until it listens, and until it has acknowledged a record to this partition."""
        ack = [self.program("first_ack"), str(self.port), topic, str(partition), str(patience)]
        self.is_up = True
        return self.ask("start", self.command(), str(self.log), None, self.port, patience=patience + 10, ack=ack)

    def stop(self, how="TERM"):
        self.is_up = False
        return self.ask("stop", how)

    def program(self, name):
        return str(self.tools.WORK / "bin" / name)

    def load(self, program, *args, patience=900):
        """Runs a load program to its end: what it printed, and what the broker needed for it."""
        return self.ask("load", [self.program(program), self.bootstrap, *map(str, args)], patience=patience)

    def bench(self, workload, *args):
        """Runs a workload of our own client, `millstream bench`: what it printed, and what the broker needed for it."""
        command = [str(self.tools.BROKER or self.tools.millstream()), "bench", workload, "--output", "json"]
        return self.ask("load", [*command, "--bootstrap", self.bootstrap, *map(str, args)])

    def java_load(self, program, *args):
        """The same with Java's client: a load program that is one file of Java."""
        jars = self.tools.JARS or self.tools.kafka_jars()
        source = str(self.tools.BENCHES / "load" / f"{program}.java")
        return self.ask("load", ["java", "-Xms256m", "-Xmx256m", "-cp", f"{jars}/*", source, self.bootstrap, *map(str, args)])

    def begin(self, program, *args):
        self.ask("begin", program, [self.program(program), self.bootstrap, *map(str, args)])

    def end(self, program):
        return self.ask("end", program)

    def create(self, topic, partitions=1, topics=0):
        return self.load("topics", "create", topic, partitions, topics)

    def delete(self, topic, topics=0):
        return self.load("topics", "delete", topic, topics)

    def clean(self):
        """Takes its data away; it must not run."""
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.prepare()

    def close(self):
        self.host.stdin.close()
        self.host.wait(60)
        shutil.rmtree(self.dir, ignore_errors=True)


class Ours(Arm):
    """Millstream with Kafka's promise: what the kernel has is acknowledged."""

    name = "ours"
    marker = "broker started: "
    flush_mode = "async"

    def command(self):
        settings = [f"flush.mode={self.flush_mode}", *self.settings]
        command = [str(self.tools.BROKER), "broker", "--data-dir", str(self.dir), "--listen", self.bootstrap]
        return command + [word for setting in settings for word in ("--set", setting)]


class OursDurable(Ours):
    """Millstream as it comes: what is on disk is acknowledged."""

    name = "ours-durable"
    flush_mode = "ack"


class Kafka(Arm):
    """Apache Kafka in KRaft mode, broker and controller in one process, as its quick start runs it."""

    name = "kafka"
    marker = "Kafka Server started"

    def prepare(self):
        text = KAFKA_SETTINGS.format(port=self.port, controller_port=self.controller_port, data=self.dir / "data")
        (self.dir / "server.properties").write_text(text + "\n".join(self.settings) + "\n")
        java = self.java([], "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c")
        self.tools.call([*java, self.dir / "server.properties"])

    def java(self, options, *arguments):
        return ["java", *options, "-cp", f"{self.tools.JARS}/*", *arguments]

    def command(self):
        return self.java(JVM, "kafka.Kafka", str(self.dir / "server.properties"))


class KafkaDurable(Kafka):
    """Kafka that syncs after each batch."""

    name = "kafka-durable"

    def __init__(self, tools, data, settings=()):
        super().__init__(tools, data, ["log.flush.interval.messages=1", *settings])


class Null(Arm):
    """The limit: see benches/null."""

    name = "null"
    is_fresh_each_trial = True
    partitions = 1

    def command(self):
        return [str(self.tools.NULL), str(self.port), str(self.dir), str(self.partitions)]

    def create(self, topic, partitions=1, topics=0):
        """Every topic is the same one, with as many partitions as it was started with."""
        if self.partitions != partitions:
            self.partitions = partitions
            if self.is_up:
                self.stop("KILL")
                self.start()
        return {}

    def delete(self, topic, topics=0):
        return {}


class Raw(Null):
    """Not a broker: the disk's own group commit, of which a broker that syncs can at best reach all."""

    name = "raw"

    def group_commit(self, piece_bytes, total_bytes):
        command = [self.program("group_commit"), str(self.dir / "commits"), str(piece_bytes), str(total_bytes)]
        return self.ask("load", command)

    def paced_commit(self, rate, seconds):
        command = [self.program("paced_commit"), str(self.dir / "commits"), str(rate), str(seconds)]
        return self.ask("load", command)


ARMS = {arm.name: arm for arm in (Ours, OursDurable, Kafka, KafkaDurable, Null, Raw)}


def open_host():
    """A host in a network namespace of its own, where that is permitted; and what it was granted."""
    unshare = ["unshare", "-n"] if os.getuid() == 0 else ["unshare", "-rn"]
    own = subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0
    host = subprocess.Popen(
        [*(unshare if own else []), sys.executable, str(HOST)], text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "BENCH_OWN_NETWORK": "1" if own else "0"},
        preexec_fn=die_with_parent,
    )
    return host, json.loads(host.stdout.readline())["ok"]
