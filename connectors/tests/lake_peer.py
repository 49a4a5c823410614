"""The other side of the lake's tests: an S3 server, and readers that are not ours.

    lake_peer.py serve               prints the endpoint, serves until stdin ends
    lake_peer.py rows ENDPOINT PATH  prints what pyarrow finds below PATH of the server, as JSON
    lake_peer.py duckdb SQL          prints what DuckDB answers, a row a line
"""

import json
import sys


def serve():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="bucket")
    print(endpoint, flush=True)
    sys.stdin.read()
    server.stop()


def rows(endpoint, path):
    import pyarrow.dataset as dataset
    from pyarrow import fs

    s3 = fs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        endpoint_override=endpoint,
        region="us-east-1",
        scheme="http",
    )
    table = dataset.dataset(path, filesystem=s3, format="parquet", partitioning="hive").to_table()
    pairs = list(zip(table["_partition"].to_pylist(), table["_offset"].to_pylist()))
    print(
        json.dumps(
            {
                "columns": [f"{field.name}: {field.type}" for field in table.schema],
                "rows": len(pairs),
                "distinct": len(set(pairs)),
                "offsets": sorted(offset for _, offset in pairs),
                "value_bytes": sum(len(v or b"") for v in table["value"].to_pylist())
                if "value" in table.column_names
                else 0,
            }
        )
    )


def duckdb(sql):
    import duckdb

    for row in duckdb.connect().execute(sql).fetchall():
        print(*("-" if value is None else value for value in row), sep=" | ")


{"serve": serve, "rows": rows, "duckdb": duckdb}[sys.argv[1]](*sys.argv[2:])
