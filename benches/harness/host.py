"""One broker and its load in a world of their own: a network namespace, and one group of the scheduler.

Started by `arms.Arm`, in a session of its own. Takes a command as a line of JSON on standard input, answers with one on
standard output: {"ok": …} or {"error": …}. When its input ends, so does all that it started. Linux hands out the
processor by sessions (sched_autogroup): broker and load belong to one, or the load of others would decide between them.
"""

import ctypes
import fcntl
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
REPORTED = Path("/sys/module/page_reporting/parameters/reported_kib")


def die_with_parent():
    """For a process that begins: whoever ends its parent, however, ends it too."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def isolate():
    """Makes the namespace usable, and this session first among those who want the processor; says what was granted."""
    granted = {"own_network": os.environ.get("BENCH_OWN_NETWORK") == "1", "priority": False}
    if granted["own_network"]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            name = struct.pack("16sH14x", b"lo", 0)
            flags = struct.unpack("16sH14x", fcntl.ioctl(handle, 0x8913, name))[1]
            fcntl.ioctl(handle, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))
        try:
            Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
        except OSError:
            pass
    try:
        Path("/proc/self/autogroup").write_text("-20")
        granted["priority"] = True
    except OSError:
        pass
    granted["congestion"] = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return granted


def broker_cpu(pid):
    """Seconds in user space and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def thread_cpu(pid):
    """Seconds of each kind of thread, by name; those of numbered ones together."""
    used = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, rest = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        fields, name = rest.split(), re.sub(r"[-#\s]*\d+.*$", "", name)
        used[name] = used.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICKS
    return used


def children_cpu():
    """Seconds of all programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_mb(pid):
    """What is resident now and was at most, in MB of 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = {name: int(value) for name, value in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.M)}
    return {name: value * 1024 / 1e6 for name, value in kib.items()}


def machine():
    """What the machine itself did so far: stolen and busy seconds, memory given back to the host."""
    fields = [int(field) / TICKS for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    busy = sum(fields[:3]) + sum(fields[5:8])
    reported = int(REPORTED.read_text()) if REPORTED.exists() else 0
    return {"stolen_s": fields[7], "busy_s": busy, "reported_mib": reported / 1024}


class Host:
    """The broker that runs, if any, and other programs that run beside it."""

    def __init__(self):
        self.broker = None
        self.beside = {}

    def free_ports(self, count):
        """Ports that nobody uses in this namespace."""
        handles = [socket.socket() for _ in range(count)]
        for handle in handles:
            handle.bind(("127.0.0.1", 0))
        ports = [handle.getsockname()[1] for handle in handles]
        for handle in handles:
            handle.close()
        return ports

    def start(self, command, log, marker, port, patience=300, ack=None):
        """Starts the broker and waits until its log has `marker`, or its port answers. With `ack`: the program that
        tells when it first acknowledged a record; the times that took are given, in milliseconds."""
        watcher = None
        if ack:
            watcher = subprocess.Popen(ack, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       preexec_fn=die_with_parent)
            watcher.stdout.readline()
        begin = time.monotonic_ns()
        with open(log, "ab") as out:
            from_byte = out.tell()
            self.broker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                           preexec_fn=die_with_parent)
        if watcher:
            said, complaint = watcher.communicate(timeout=patience)
            if watcher.returncode != 0:
                raise RuntimeError(f"{complaint}; see {log}")
            told = json.loads(said)
            return {name[:-3] + "_ms": (at - begin) / 1e6 for name, at in told.items()}
        while not self.is_up(log, from_byte, marker, port):
            if self.broker.poll() is not None or time.monotonic_ns() - begin > patience * 1e9:
                raise RuntimeError(f"the broker did not start; see {log}")
            time.sleep(0.005)
        return {"started_ms": (time.monotonic_ns() - begin) / 1e6}

    def is_up(self, log, from_byte, marker, port):
        if marker:
            with open(log, "rb") as said:
                said.seek(from_byte)
                return marker.encode() in said.read()
        with socket.socket() as handle:
            return handle.connect_ex(("127.0.0.1", port)) == 0

    def load(self, command, patience=600):
        """Runs a load to its end; what it printed, and what broker and machine did meanwhile."""
        pid = self.broker.pid
        try:
            # From here on the peak counts anew.
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            pass
        user, system = broker_cpu(pid)
        threads = thread_cpu(pid)
        before, own, begin = machine(), children_cpu(), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False,
                              preexec_fn=die_with_parent)
        took, after, own = time.monotonic() - begin, machine(), children_cpu() - own
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}{done.stdout[-300:]}")
        user_after, system_after = broker_cpu(pid)
        threads = {name: used - threads.get(name, 0) for name, used in thread_cpu(pid).items()}
        resident = memory_mb(pid)
        said = done.stdout.strip()
        return {
            **(json.loads(said.splitlines()[-1]) if said else {}),
            "broker_user_s": user_after - user,
            "broker_sys_s": system_after - system,
            "broker_threads_s": {name: used for name, used in threads.items() if used > 0},
            "rss_mb": resident["VmRSS"],
            "rss_peak_mb": resident["VmHWM"],
            "reported_mib": after["reported_mib"] - before["reported_mib"],
            "stolen_s": after["stolen_s"] - before["stolen_s"],
            # What neither broker nor load has computed, others have, or the kernel for whomever.
            "others_s": after["busy_s"] - before["busy_s"] - own - (user_after - user) - (system_after - system),
            "wall_s": took,
            "load_1m": os.getloadavg()[0],
        }

    def idle(self, seconds):
        """What the broker needs when nobody asks for anything."""
        user, system = broker_cpu(self.broker.pid)
        time.sleep(seconds)
        user_after, system_after = broker_cpu(self.broker.pid)
        resident = memory_mb(self.broker.pid)
        used = user_after - user + system_after - system
        return {"idle_cpu_percent": 100 * used / seconds, "rss_mb": resident["VmRSS"]}

    def begin(self, name, command):
        """Starts a load that runs beside what follows."""
        self.beside[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                             preexec_fn=die_with_parent)

    def end(self, name, patience=600):
        """Waits for it, and gives what it printed."""
        process = self.beside.pop(name)
        said, complaint = process.communicate(timeout=patience)
        if process.returncode != 0:
            raise RuntimeError(f"{name}: {complaint.strip()[-1000:]}")
        return json.loads(said.strip().splitlines()[-1])

    def stop(self, how="TERM", patience=300):
        """Ends the broker and tells how long it took."""
        begin = time.monotonic()
        if self.broker is not None:
            self.broker.send_signal(getattr(signal, f"SIG{how}"))
            self.broker.wait(patience)
            self.broker = None
        return {"stopped_s": time.monotonic() - begin}

    def close(self):
        for process in [self.broker, *self.beside.values()]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def main():
    host = Host()
    try:
        print(json.dumps({"ok": isolate()}), flush=True)
        for line in sys.stdin:
            call = json.loads(line)
            try:
                answer = {"ok": getattr(host, call["do"])(*call["args"], **call["options"])}
            except Exception as error:  # Whatever it is, the one who asked must know.
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        host.close()


if __name__ == "__main__":
    main()
