# SPDX-License-Identifier: Apache-2.0
"""Records which pages TPC-H's queries read: DuckDB on Parquet files, through Larder's S3 face.

    record.py SCALE FOLDER TRACE    makes the files in FOLDER unless they are there, writes TRACE

LARDER and STORE_PROXY name the two programs. The proxy stands before the S3 face and logs each
request; requests become ranges of pages of 64 KiB. `bench policy` reads TRACE (see
`bench/src/policy/tpch.rs`): the pages of the tables one after the other, then for each query the
number of its ranges and the ranges, all numbers as LEB128:

    tables, {pages of the table}, {ranges, {table, zigzag(first - end of that table's last), pages}}
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import duckdb_extension_httpfs
import duckdb_extension_tpch
from tpch import QUERIES, TABLES, load, make

PAGE = 64 << 10


def number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def start(home: Path, folder: Path) -> tuple:
    """Larder on the files, and the proxy before it; the proxy's address and the log."""
    environment = {name: value for name, value in os.environ.items() if "AWS_" not in name}
    for part in ("state", "cache"):
        (home / part).mkdir()
    ports = "127.0.0.1:19400", "127.0.0.1:19401"
    larder = subprocess.Popen(
        [os.environ["LARDER"], "up", "--state", home / "state", "--cache"]
        + [f"{home / 'cache'}:64GiB", "--mount", f"tpch=file://{folder}"]
        + ["--s3", ports[0], "--http", ports[1]],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(home / "larder.log").open("w"),
    )
    log = home / "requests.jsonl"
    proxy = subprocess.Popen(
        [os.environ["STORE_PROXY"], "--origin", f"http://{ports[0]}", "--log", log],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    listen = json.loads(proxy.stdout.readline())["listen"]
    return (larder, proxy), listen, log


def wait_for(path: Path) -> None:
    for _ in range(300):
        if path.is_file() and path.stat().st_size:
            return time.sleep(2)
        time.sleep(0.2)
    sys.exit(f"{path} did not appear")


def ranges(lines: list) -> list:
    found = []
    for line in map(json.loads, lines):
        if line["method"] != "GET" or not line["range"] or line["status"] != 206:
            continue
        first, last = line["range"].removeprefix("bytes=").split("-")
        table = Path(line["path"].split("?")[0]).stem
        if table in TABLES and first and last:
            start, end = int(first) // PAGE, int(last) // PAGE + 1
            found.append((TABLES.index(table), start, end - start))
    return found


def record(folder: Path, home: Path) -> list:
    """For each query, the ranges it reads."""
    processes, listen, log = start(home, folder)
    try:
        wait_for(home / "state" / "credentials")
        keys = dict(
            line.replace(" ", "").split("=", 1)
            for line in (home / "state" / "credentials").read_text().splitlines()
            if "=" in line
        )
        queries = []
        with duckdb.connect() as database:
            database.execute(load(duckdb_extension_tpch, "tpch"))
            database.execute(load(duckdb_extension_httpfs, "httpfs"))
            database.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{keys['aws_access_key_id']}', "
                f"SECRET '{keys['aws_secret_access_key']}', ENDPOINT '{listen}', "
                "REGION 'us-east-1', URL_STYLE 'path', USE_SSL false)"
            )
            database.execute("SET enable_external_file_cache = false")
            for table in TABLES:
                source = f"read_parquet('s3://tpch/{table}.parquet')"
                database.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
            seen = len(log.read_text().splitlines())
            for query in QUERIES:
                database.execute(f"PRAGMA tpch({query})").fetchall()
                time.sleep(0.3)
                lines = log.read_text().splitlines()
                queries.append(ranges(lines[seen:]))
                seen = len(lines)
        return queries
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def write(folder: Path, queries: list, trace: Path) -> None:
    pages = [-(-(folder / f"{table}.parquet").stat().st_size // PAGE) for table in TABLES]
    out = bytearray(number(len(pages)) + b"".join(map(number, pages)))
    ends = [0] * len(pages)
    for query in queries:
        out += number(len(query))
        for table, first, count in query:
            out += number(table) + number(zigzag(first - ends[table])) + number(count)
            ends[table] = first + count
    trace.write_bytes(out)
    print(f"{sum(map(len, queries))} ranges, {len(out)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    scale, folder, trace = float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    if not (folder / "lineitem.parquet").is_file():
        make(scale, folder)
    with tempfile.TemporaryDirectory() as home:
        write(folder, record(folder, Path(home)), trace)
