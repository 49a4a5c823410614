"""A broker under floods: usage: floods.py BINARY [SECONDS]. Ends with 0 when the bars hold.

Starts BINARY's broker with a budget of 512 MiB and, over loopback, up to 10,000 idle connections (fewer where few files
may be open: the broker leaves connections ten of sixteen), readers that ask for 50 MB at a time and take them
slowly, half frames (100 MB announced, little sent) and batches that unfold hugely, by each codec that can. Meanwhile one honest client, a process of its own, produces and fetches small
batches. Bars: the broker's resident memory stays below the budget and a fifth; the honest client's 99th percentile
stays within five times that of a quiet broker; no bomb is taken, and each kind is unfolded as far as is allowed, not
refused before; the broker lives. Standard library only.
"""

import asyncio
import gzip
import os
import pathlib
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

BUDGET = 512 << 20
IDLE, SLOW, HALF, BOMBS = 10_000, 1_000, 200, 4
MESSAGE_TOO_LARGE, NOT_ENOUGH_REPLICAS = 10, 19
BULK_BYTES = 192 << 20
TOPICS = ["quiet", "bulk", "bombs"]


# Kafka's wire, as much as is needed: old, inflexible versions.


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def frame(key, version, body, number=1):
    head = struct.pack(">hhi", key, version, number) + string("floods")
    return struct.pack(">i", len(head) + len(body)) + head + body


CASTAGNOLI = []
for index in range(256):
    value = index
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    CASTAGNOLI.append(value)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = CASTAGNOLI[(value ^ byte) & 255] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def record(value):
    body = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def batch(records, codec=0, count=1):
    now = int(time.time() * 1000)
    rest = struct.pack(">hiqqqhii", codec, count - 1, now, now, -1, -1, -1, count) + records
    rest = struct.pack(">IB", crc32c(rest), 0)[:4] + rest
    return struct.pack(">qiiB", 0, len(rest) + 5, -1, 2) + rest


def produce(topic, batch_bytes, version=3):
    data = struct.pack(">ii", 0, len(batch_bytes)) + batch_bytes
    body = struct.pack(">hhi", -1, -1, 10_000) + struct.pack(">i", 1) + string(topic)
    return frame(0, version, body + struct.pack(">i", 1) + data)


def fetch(topic, offset, bytes_max, wait_ms=100):
    body = struct.pack(">iiiib", -1, wait_ms, 1, bytes_max, 0) + struct.pack(">i", 1) + string(topic)
    return frame(1, 4, body + struct.pack(">iiqi", 1, 0, offset, bytes_max))


def create(topic):
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">ihiii", 1, 1, 0, 0, 10_000)[:14]
    return frame(19, 2, body + struct.pack(">ib", 10_000, 0))


async def answer(reader):
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)


async def ask(port, request):
    reader, writer = await connect(port)
    writer.write(request)
    got = await asyncio.wait_for(answer(reader), 60)
    writer.close()
    return got


# The honest client, in a process of its own.


async def honest(port, seconds):
    """Times of a small produce and of the fetch that follows, in milliseconds; and the failures."""
    writer = None
    times, failures, offset = [], 0, None
    # One of four is more than a broker reads before it claims room for it.
    small, larger = [produce("quiet", batch(record(b"x" * size))) for size in (100, 20_000)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if writer is None:
                reader, writer = await connect(port)
            began = time.monotonic()
            writer.write(larger if len(times) % 8 == 6 else small)
            got = await asyncio.wait_for(answer(reader), 30)
            # Correlation, one topic and its name, one partition, its index, error and offset.
            at = 4 + 4 + 2 + len("quiet") + 4 + 4
            code, offset = struct.unpack_from(">hq", got, at)
            assert code == 0, code
            times.append((time.monotonic() - began) * 1000)
            began = time.monotonic()
            writer.write(fetch("quiet", offset, 50_000))
            got = await asyncio.wait_for(answer(reader), 30)
            assert len(got) > 150, "the record is there"
            times.append((time.monotonic() - began) * 1000)
        except (AssertionError, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            failures += 1
            if failures <= 5:
                print(f"honest client: {error!r}", file=sys.stderr)
            if writer is not None:
                writer.close()
                writer = None
        await asyncio.sleep(0.005)
    return times, failures


def honest_process(port, seconds):
    command = [sys.executable, __file__, "--honest", str(port), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told(process):
    out, _ = process.communicate()
    p50, p99, largest, count, failures = map(float, out.split())
    return {"p50": p50, "p99": p99, "max": largest, "count": int(count), "failures": int(failures)}


# The floods.


async def idle(port, counts):
    try:
        reader, writer = await connect(port)
        counts["idle"] += 1
        await reader.read(1)
    except OSError:
        pass
    counts["idle closed"] += 1


async def slow(port, counts):
    """Asks for 50 MB, takes 16 KiB of them a second, and comes again when it is closed."""
    while True:
        try:
            reader, writer = await connect(port)
            writer.write(fetch("bulk", 0, 50_000_000))
            counts["slow"] += 1
            while await reader.read(16 << 10):
                await asyncio.sleep(1)
            writer.close()
        except OSError:
            pass
        counts["slow closed"] += 1
        await asyncio.sleep(1)


async def half(port, counts, number):
    """Announces 100 MB. Some send next to nothing, some 64 KiB, some 1 KiB a second."""
    while True:
        try:
            reader, writer = await connect(port)
            writer.write(struct.pack(">ihh", 100 << 20, 0, 3) + bytes([60, 64 << 10, 8 << 10][number % 3]))
            counts["half"] += 1
            while True:
                await asyncio.sleep(1)
                if number % 3 == 2:
                    writer.write(bytes(1024))
                if writer.is_closing() or reader.at_eof():
                    break
        except OSError:
            pass
        counts["half closed"] += 1
        await asyncio.sleep(0.5)


def lz4_zeros(mib):
    """A frame of LZ4, in blocks of 4 MiB: one literal, one match of all that follows it, five literals."""
    more, rest = divmod((4 << 20) - 6 - 19, 255)
    block = b"\x1f\0\x01\0" + b"\xff" * more + bytes([rest]) + b"\x50" + bytes(5)
    block = struct.pack("<I", len(block)) + block
    return struct.pack("<I", 0x184D2204) + b"\x60\x70\0" + block * (mib // 4) + bytes(4)


def bombs():
    """Batches of less than a MiB that unfold to 80 MiB and more, by codec. Version 8 knows zstd, and tells why not."""
    folded = gzip.compress(bytes(400 << 20), 9)
    # One frame of zstd: a window of 2 GiB is declared, then blocks of one repeated byte, 128 KiB each.
    blocks = struct.pack("<I", (128 << 10) << 3 | 1 << 1)[:3] + b"\0"
    zstd = struct.pack("<I", 0xFD2FB528) + b"\0" + bytes([21 << 3]) + blocks * 3200
    zstd += struct.pack("<I", 0 << 3 | 1)[:3]
    by_codec = {"gzip": (folded, 1), "lz4": (lz4_zeros(80), 3), "zstd": (zstd, 4)}
    return {name: produce("bombs", batch(*it), 8) for name, it in by_codec.items()}


def refusal(answer):
    """The error of one partition, and why: an answer of version 8 without errors of records."""
    at = 4 + 4 + 2 + len("bombs") + 4 + 4
    code, _, _, _, errors, length = struct.unpack_from(">hqqqih", answer, at)
    assert errors == 0, "a bomb has no records"
    return code, answer[at + 32 :][: max(length, 0)].decode()


async def defuse(port, requests):
    """While nothing else happens: each bomb is refused by who unfolds it, at the size that a batch may have."""
    for name, request in requests.items():
        code, why = refusal(await ask(port, request))
        assert code == MESSAGE_TOO_LARGE, (name, code, why)
        assert why.endswith(f"{name}: more than {64 << 20} bytes when decompressed"), (name, why)


async def bomb(port, counts, requests):
    while True:
        try:
            reader, writer = await connect(port)
            for name, request in requests.items():
                writer.write(request)
                code, _ = refusal(await answer(reader))
                what = {MESSAGE_TOO_LARGE: "unfolded", NOT_ENOUGH_REPLICAS: "put off"}.get(code, f"error {code}")
                counts[f"bombs {what}, {name}"] = counts.get(f"bombs {what}, {name}", 0) + 1
                await asyncio.sleep(0.5)
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            counts["bombs closed"] += 1
            await asyncio.sleep(0.5)


async def fill(port):
    value = os.urandom(900_000)
    request = produce("bulk", batch(record(value)))
    reader, writer = await connect(port)
    for _ in range(BULK_BYTES // len(value)):
        writer.write(request)
        got = await answer(reader)
        (code,) = struct.unpack_from(">h", got, 4 + 4 + 2 + len("bulk") + 4 + 4)
        assert code == 0, code
    writer.close()


def resident(pid, key="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


async def flood(broker, port, seconds, requests, idle_count):
    counts = dict.fromkeys(["idle", "idle closed", "slow", "slow closed", "half", "half closed"], 0)
    counts |= dict.fromkeys([f"bombs unfolded, {name}" for name in requests] + ["bombs closed"], 0)
    tasks = []
    for number in range(idle_count):
        tasks.append(asyncio.create_task(idle(port, counts)))
        if number % 200 == 199:
            await asyncio.sleep(0.05)
    print(f"idle connections: {counts['idle']}, resident {resident(broker.pid) >> 20} MiB", flush=True)
    tasks += [asyncio.create_task(slow(port, counts)) for _ in range(SLOW)]
    tasks += [asyncio.create_task(half(port, counts, number)) for number in range(HALF)]
    tasks += [asyncio.create_task(bomb(port, counts, requests)) for _ in range(BOMBS)]
    await asyncio.sleep(3)
    client = honest_process(port, seconds)
    peak = 0
    while client.poll() is None:
        peak = max(peak, resident(broker.pid))
        await asyncio.sleep(0.2)
    loaded = told(client)
    peak = max(peak, resident(broker.pid, "VmHWM"))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return loaded, peak, counts


def pool(metrics):
    page = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10).read().decode()
    return [line for line in page.splitlines() if "memorypool" in line and not line.startswith("#")]


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(binary, directory, port, metrics):
    command = [binary, "--log", "error", "broker", "--data-dir", directory, "--listen", f"127.0.0.1:{port}"]
    for setting in [f"memory.budget.bytes={BUDGET}", f"metrics.listener=127.0.0.1:{metrics}"]:
        command += ["--set", setting]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


async def ready(port):
    for _ in range(300):
        try:
            _, writer = await connect(port)
            return writer.close()
        except OSError:
            await asyncio.sleep(0.1)
    sys.exit("the broker does not listen")


async def main(binary, seconds):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # All but the idle ones come again when they are closed, some before the broker has noticed.
    idle_count = min(IDLE, most // 16 * 10 - SLOW - HALF - 300)
    if idle_count < 1000:
        sys.exit(f"{most} open files are too few: raise `ulimit -Hn`")
    port, metrics = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        broker = start(binary, directory, port, metrics)
        try:
            await ready(port)
            for topic in TOPICS:
                await ask(port, create(topic))
            await fill(port)
            requests = bombs()
            await defuse(port, requests)
            client = honest_process(port, seconds)
            while client.poll() is None:
                await asyncio.sleep(0.2)
            quiet = told(client)
            print(f"quiet: {quiet}", flush=True)
            loaded, peak, counts = await flood(broker, port, seconds, requests, idle_count)
            print(f"under load: {loaded}\nfloods: {counts}\nafter it:", *pool(metrics), sep="\n  ")
            is_alive = broker.poll() is None
        finally:
            broker.terminate()
            try:
                broker.wait(20)
            except subprocess.TimeoutExpired:
                broker.kill()
                broker.wait()
    bombed = {what: count for what, count in counts.items() if what.startswith("bombs ") and "," in what}
    bars = {
        f"resident at most {peak >> 20} MiB of {BUDGET * 12 // 10 >> 20}": peak <= BUDGET * 12 // 10,
        f"p99 {loaded['p99']:.2f} ms of {5 * quiet['p99']:.2f}": loaded["p99"] <= 5 * quiet["p99"],
        f"{loaded['failures']} failures of the honest client": loaded["failures"] == 0,
        f"each of {sum(bombed.values())} bombs was refused as too large, or put off": all(
            bombed[f"bombs unfolded, {name}"] for name in requests
        )
        and not any("error" in what for what in bombed),
        "the broker lives": is_alive,
    }
    for bar, holds in bars.items():
        print("holds:" if holds else "FAILS:", bar)
    return all(bars.values())


if __name__ == "__main__":
    if sys.argv[1] == "--honest":
        times, failures = asyncio.run(honest(int(sys.argv[2]), float(sys.argv[3])))
        cuts = statistics.quantiles(times or [float("inf")] * 2, n=100)
        print(cuts[49], cuts[98], max(times, default=0), len(times), failures)
        sys.exit(0)
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 30
    sys.exit(0 if asyncio.run(main(sys.argv[1], seconds)) else 1)
