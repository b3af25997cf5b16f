# SPDX-License-Identifier: Apache-2.0
"""What the demonstration reads, by S3 and by files. Each returns what it read in comparable form,
so that a wrong byte ends the demonstration instead of making it look fast."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3
import duckdb
from botocore.config import Config

from data import LOAD_HTTPFS, LOAD_TPCH, SHAPE, TABLES

BUCKET = "lake"
QUERIES = (1, 3, 6, 9, 18)
THREADS = 4
CHUNK = 1 << 20


@dataclass(frozen=True)
class Endpoint:
    """A place that speaks S3, and a key pair for it."""

    address: str
    access: str
    secret: str

    def client(self):
        settings = Config(
            max_pool_connections=THREADS,
            s3={"addressing_style": "path"},
            retries={"max_attempts": 1},
        )
        return boto3.client(
            "s3", endpoint_url=f"http://{self.address}", config=settings, region_name="us-east-1",
            aws_access_key_id=self.access, aws_secret_access_key=self.secret,
        )


def small_by_s3(endpoint: Endpoint) -> str:
    """All small files, several at a time."""
    client = endpoint.client()

    def read(number: int) -> bytes:
        return client.get_object(Bucket=BUCKET, Key=f"small/{number:04}.bin")["Body"].read()

    with ThreadPoolExecutor(THREADS) as pool:
        return _digest(pool.map(read, range(SHAPE["small"])))


def large_by_s3(endpoint: Endpoint) -> str:
    """The large files, one after the other."""
    client = endpoint.client()
    bodies = (
        client.get_object(Bucket=BUCKET, Key=f"large/{number}.bin")["Body"]
        for number in range(SHAPE["large"])
    )
    return _digest(chunk for body in bodies for chunk in body.iter_chunks(CHUNK))


def large_by_mount(mount: Path) -> str:
    """The large files as files. The kernel is asked to forget them, so that Larder is read."""
    return _digest(
        chunk
        for number in range(SHAPE["large"])
        for chunk in _chunks(mount / BUCKET / "large" / f"{number}.bin")
    )


def queries_by_s3(endpoint: Endpoint) -> str:
    """TPC-H by DuckDB's own S3 client."""
    secret = (
        f"CREATE SECRET (TYPE s3, KEY_ID '{endpoint.access}', SECRET '{endpoint.secret}', "
        f"ENDPOINT '{endpoint.address}', REGION 'us-east-1', URL_STYLE 'path', USE_SSL false)"
    )
    return _queries(f"s3://{BUCKET}/tpch", [LOAD_HTTPFS, secret])


def queries_by_mount(mount: Path) -> str:
    """TPC-H by DuckDB on files."""
    return _queries(str(mount / BUCKET / "tpch"), [])


def _queries(place: str, before: list[str]) -> str:
    # A database of its own, and its cache of remote files off: each run reads the data anew.
    with duckdb.connect() as database:
        for statement in [LOAD_TPCH, *before, "SET enable_external_file_cache = false"]:
            database.execute(statement)
        for table in TABLES:
            source = f"read_parquet('{place}/{table}.parquet')"
            database.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
        answers = [database.execute(f"PRAGMA tpch({number})").fetchall() for number in QUERIES]
    # Sums of doubles depend on the order in which threads add; six digits do not.
    def rounded(value):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    return _digest(
        "|".join(map(rounded, row)).encode() for answer in answers for row in answer
    )


def _chunks(path: Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := os.read(descriptor, CHUNK):
            yield chunk
    finally:
        os.close(descriptor)


def _digest(chunks) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
