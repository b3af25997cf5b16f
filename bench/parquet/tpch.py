# SPDX-License-Identifier: Apache-2.0
"""DuckDB's part of `bench parquet`: makes TPC-H as Parquet files, and runs its 22 queries on them.

    tpch.py make SCALE FOLDER       the eight tables, a file each
    tpch.py run PLACE               the queries on PLACE/TABLE.parquet; prints a line of JSON

PLACE is a folder, or `s3://BUCKET` at the server named by BENCH_S3 (HOST:PORT), with the keys of
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Extensions come out of their wheels, not from the net.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import duckdb
import duckdb_extension_httpfs
import duckdb_extension_tpch

TABLES = "customer lineitem nation orders part partsupp region supplier".split()
QUERIES = range(1, 23)


def load(package, name: str) -> str:
    folder = Path(package.__file__).parent / "extensions"
    return f"LOAD '{next(folder.glob(f'*/{name}.duckdb_extension'))}'"


def make(scale: float, folder: Path) -> None:
    with duckdb.connect(str(folder / "scratch.db")) as database:
        database.execute(load(duckdb_extension_tpch, "tpch"))
        database.execute(f"CALL dbgen(sf={scale})")
        for table in TABLES:
            database.execute(f"COPY {table} TO '{folder}/{table}.parquet' (FORMAT parquet)")
    (folder / "scratch.db").unlink()


def run(place: str) -> dict:
    with duckdb.connect() as database:
        database.execute(load(duckdb_extension_tpch, "tpch"))
        if place.startswith("s3://"):
            database.execute(load(duckdb_extension_httpfs, "httpfs"))
            database.execute(
                "CREATE SECRET (TYPE s3, "
                f"KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', "
                f"SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', "
                f"ENDPOINT '{os.environ['BENCH_S3']}', REGION 'us-east-1', "
                "URL_STYLE 'path', USE_SSL false)"
            )
        # Its own cache of remote files would hide the second reading of a table.
        database.execute("SET enable_external_file_cache = false")
        start = time.monotonic()
        for table in TABLES:
            source = f"read_parquet('{place}/{table}.parquet')"
            database.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
        answers = [database.execute(f"PRAGMA tpch({number})").fetchall() for number in QUERIES]
        seconds = time.monotonic() - start
    digest = hashlib.sha256()
    for answer in answers:
        for row in answer:
            digest.update("|".join(map(rounded, row)).encode() + b"\n")
    return {"seconds": seconds, "digest": digest.hexdigest()}


def rounded(value) -> str:
    """Sums of doubles depend on the order in which threads add; six digits do not."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", scale, folder]:
            make(float(scale), Path(folder))
        case ["run", place]:
            print(json.dumps(run(place)))
        case _:
            sys.exit(__doc__)
