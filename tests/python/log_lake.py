"""log_lake on a copy of this machine's logs: usage: log_lake.py BINARY DIRECTORY

Counts the lake's rows with pyarrow and DuckDB against what `zcat -f` gives for the same files, twice:
the second run must add nothing. Prints "ok" at the end.
"""

import collections
import gzip
import os
import pathlib
import shutil
import subprocess
import sys

import duckdb
import pyarrow.dataset

BINARY, ROOT = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
LOGS, LAKE = ROOT / "logs", ROOT / "lake"


def copy_logs():
    """This machine's logs, and a few of the kinds that it may lack."""
    shutil.copytree("/var/log", LOGS, symlinks=True, ignore_dangling_symlinks=True)
    extra = LOGS / "extra"
    extra.mkdir()
    access = '10.0.0.{n} - - [21/Nov/2025:10:{m:02}:00 +0000] "GET /{n} HTTP/1.1" {s} 5 "-" "-"\n'
    lines = [access.format(n=n, m=n % 60, s=[200, 404, 500][n % 3]) for n in range(5000)]
    (extra / "access.log").write_text("".join(lines[2000:]))
    with gzip.open(extra / "access.log.1.gz", "wt") as rotated:
        rotated.writelines(lines[:2000])
    (extra / "app.log").write_text(
        "".join(f'{{"ts": {1763700000 + n}, "level": "warn", "msg": "m{n}"}}\n' for n in range(3000))
    )
    (extra / "unterminated.log").write_bytes(b"one\ntwo\nthree \xff without an end")
    (extra / "empty.log").write_bytes(b"")
    (extra / "binary.log").write_bytes(b"\x00\x01\x02" * 100)


def expected():
    """Lines by file, as `zcat -f` gives them; of text files alone."""
    counts = {}
    for path in sorted(LOGS.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = subprocess.run(["zcat", "-f", str(path)], capture_output=True, check=True).stdout
        if b"\0" in data[: 64 << 10] or not data:
            continue
        counts[str(path)] = data.count(b"\n") + (not data.endswith(b"\n"))
    return counts


def run():
    command = [BINARY, str(LOGS), "--lake", str(LAKE), "--data-dir", str(ROOT / "data")]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, flush=True)


def by_pyarrow():
    table = pyarrow.dataset.dataset(LAKE / "logs.parsed", partitioning="hive").to_table()
    places = list(zip(table["_partition"].to_pylist(), table["_offset"].to_pylist()))
    assert len(places) == len(set(places)), "an offset is in the lake twice"
    return dict(collections.Counter(table["file"].to_pylist()))


def by_duckdb():
    files = f"read_parquet('{LAKE}/logs.parsed/**/*.parquet', hive_partitioning=true)"
    return dict(duckdb.sql(f"SELECT file, count(*) FROM {files} GROUP BY file").fetchall())


def per_minute():
    """The newest count of each key, summed by file: what the counting came to."""
    files = f"read_parquet('{LAKE}/logs.per_minute/**/*.parquet', hive_partitioning=true)"
    newest = f"SELECT file, _key, arg_max(count, _offset) AS count FROM {files} GROUP BY ALL"
    return dict(duckdb.sql(f"SELECT file, sum(count)::BIGINT FROM ({newest}) GROUP BY file").fetchall())


copy_logs()
want = expected()
assert sum(want.values()) > 8000
for attempt in ["first", "second"]:
    run()
    for read in [by_pyarrow, by_duckdb, per_minute]:
        got = read()
        differ = {f: (want.get(f), got.get(f)) for f in want | got if want.get(f) != got.get(f)}
        assert not differ, f"{attempt} run, {read.__name__}: wanted and got {differ}"
    print(f"{attempt} run: {sum(want.values())} lines of {len(want)} files, each once", flush=True)
print("ok")
