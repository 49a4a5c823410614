"""What the benchmarks need is fetched and built here, once, below target/: Debian packages, Apache Kafka by Maven,
librdkafka from the sources that the registry has, the load programs, the null broker, and our own release build."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
ROOT = BENCHES.parent
WORK = ROOT / "target" / "benches"
LOADS = ("produce", "consume", "latency", "first_ack", "group_commit", "paced_commit", "topics", "audit",
         "transactions")
# The crate that carries librdkafka's sources; its own version stands behind the plus.
LIBRDKAFKA = ("rdkafka-sys", "4.10.0+2.12.1")
# What benches/run has built, once it has.
BROKER = NULL = JARS = None


def say(what):
    print(what, file=sys.stderr, flush=True)


def call(command, cwd=ROOT, **env):
    """Runs a step of the preparation; its output is shown when it fails."""
    done = subprocess.run(
        ["nice", *map(str, command)], cwd=cwd, env={**os.environ, **env},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed in {cwd}:\n{done.stdout[-4000:]}")
    return done.stdout


def packages(**wanted):
    """Installs Debian packages whose command is missing."""
    missing = [package for command, package in wanted.items() if not shutil.which(command)]
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    sudo = [] if os.getuid() == 0 else ["sudo"]
    call([*sudo, "apt-get", "update", "-qq"])
    call([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", *missing])


def millstream():
    """Our broker, as it is released. MILLSTREAM names another binary, for comparisons."""
    given = os.environ.get("MILLSTREAM")
    if given:
        return Path(given)
    say("building millstream (release)")
    call(["cargo", "build", "--release", "--locked", "-p", "millstream", "--bins"])
    return target_dir() / "release" / "millstream"


def target_dir():
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def pin():
    """Gives the workspaces of the benchmarks the project's versions; anew only when these have changed."""
    ours, seen = ROOT / "Cargo.lock", WORK / "Cargo.lock"
    theirs = [BENCHES / "Cargo.lock", BENCHES / "micro" / "Cargo.lock"]
    if all(lock.exists() for lock in theirs) and seen.exists() and seen.read_bytes() == ours.read_bytes():
        return
    WORK.mkdir(parents=True, exist_ok=True)
    for lock in [*theirs, seen]:
        shutil.copyfile(ours, lock)


def null_broker():
    say("building the null broker")
    pin()
    call(["cargo", "build", "--release", "-p", "null-broker"], BENCHES, CARGO_TARGET_DIR=str(target_dir()))
    return target_dir() / "release" / "null-broker"


def kafka_jars():
    """Apache Kafka as tests/java/pom.xml pins it; the tests use the same copy."""
    pom, jars = ROOT / "tests" / "java" / "pom.xml", ROOT / "target" / "java" / "jars"
    installed = jars.parent / "installed.xml"
    if not installed.exists() or installed.read_bytes() != pom.read_bytes():
        packages(mvn="maven", java="default-jdk-headless")
        say("installing Apache Kafka")
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
        call(["mvn", "--quiet", "--batch-mode", "--file", pom, copy, f"-DoutputDirectory={jars}"])
        shutil.copyfile(pom, installed)
    packages(java="default-jre-headless")
    return jars


def kafka_version():
    found = sorted((ROOT / "target" / "java" / "jars").glob("kafka-clients-*.jar"))
    return found[-1].stem.removeprefix("kafka-clients-") if found else "unknown"


def librdkafka():
    """A static library, built from the crate's C sources; the crate enters no manifest of ours."""
    copy = WORK / f"librdkafka-{LIBRDKAFKA[1].rpartition('+')[2]}"
    library = copy / "src" / "librdkafka.a"
    if not library.exists():
        packages(make="make", gcc="gcc", **{"g++": "g++"})
        say("building librdkafka")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(crate_sources(*LIBRDKAFKA) / "librdkafka", copy, symlinks=True)
        call(["bash", "./configure", "--disable-ssl", "--disable-gssapi", "--disable-curl", "--disable-zstd",
              "--disable-zlib", "--disable-lz4-ext", "--disable-syslog"], copy)
        call(["make", "-j2", "-C", "src", "librdkafka.a"], copy)
    return library


def crate_sources(name, version):
    """Where cargo keeps a crate's sources; fetched when they are not there."""
    scratch = WORK / "fetch" / name
    (scratch / "src").mkdir(parents=True, exist_ok=True)
    (scratch / "src" / "lib.rs").write_text("")
    (scratch / "Cargo.toml").write_text(
        f'[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\n{name} = "={version}"\n[workspace]\n'
    )
    call(["cargo", "fetch", "--quiet"], scratch)
    done = subprocess.run(
        ["cargo", "metadata", "--format-version=1"], cwd=scratch, capture_output=True, text=True, check=True
    )
    found = [package for package in json.loads(done.stdout)["packages"] if package["name"] == name]
    return Path(found[0]["manifest_path"]).parent


def loads():
    """The load programs, each from one file of benches/load."""
    library, built = librdkafka(), WORK / "bin"
    built.mkdir(parents=True, exist_ok=True)
    headers = [BENCHES / "load" / "load.h", BENCHES / "load" / "kafka.h"]
    for name in LOADS:
        source, binary = BENCHES / "load" / f"{name}.c", built / name
        newest = max(path.stat().st_mtime for path in [source, library, *headers])
        if not binary.exists() or binary.stat().st_mtime < newest:
            call(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-isystem", library.parent,
                  "-o", binary, source, library, "-lpthread", "-lm", "-ldl", "-lrt"])
    return built
