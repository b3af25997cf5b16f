# SPDX-License-Identifier: Apache-2.0
"""What the store is asked: counted at the proxy, not by Larder; and Larder's metrics agree."""

import concurrent.futures
import os
import random
import time

import pytest


def total_requests(larder):
    return larder.metric("larder_store_requests_total")


def test_a_warm_read_asks_nothing_and_the_metrics_agree(origin, bucket, proxy, larder):
    body = os.urandom(3_000_000)
    origin.s3.put_object(Bucket=bucket, Key="big", Body=body)
    origin.s3.put_object(Bucket=bucket, Key="small", Body=b"tiny")
    proxy.reset()
    before = total_requests(larder)
    for key, expected in (("big", body), ("small", b"tiny")):
        for _ in range(3):
            assert larder.s3.get_object(Bucket="lake", Key=key)["Body"].read() == expected
        larder.s3.head_object(Bucket="lake", Key=key)
    stats = proxy.stats()
    assert stats["requests"] == 2, "one request for each cold GET, and no HEAD before it"
    assert total_requests(larder) - before == 2
    assert larder.metric("larder_store_read_bytes_total") == len(body) + 4


def test_a_restart_keeps_the_cache(origin, bucket, proxy, larder):
    body = os.urandom(5_000_000)
    origin.s3.put_object(Bucket=bucket, Key="kept", Body=body)
    larder.cli("load", "/lake/kept")
    larder.stop()
    larder.start()
    proxy.reset()
    assert larder.s3.get_object(Bucket="lake", Key="kept")["Body"].read() == body
    assert proxy.requests() == 0


def test_a_stampede_fetches_each_byte_once(origin, bucket, proxy, larder):
    body = os.urandom(20_000_000)
    origin.s3.put_object(Bucket=bucket, Key="cold", Body=body)
    proxy.reset()
    proxy.delay(delay_ms=20, bytes_per_s=100_000_000)

    def read(_):
        return larder.s3.get_object(Bucket="lake", Key="cold")["Body"].read() == body

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        assert all(pool.map(read, range(64)))
    assert proxy.bytes() == len(body)
    assert proxy.requests() == 1


def test_a_thousand_random_cold_readers_fetch_each_page_once(origin, bucket, proxy, larder):
    body = os.urandom(16 << 20)
    origin.s3.put_object(Bucket=bucket, Key="cold", Body=body)
    larder.s3.head_object(Bucket="lake", Key="cold")
    proxy.reset()
    proxy.delay(delay_ms=20, bytes_per_s=100_000_000)
    numbers = random.Random(3)
    starts = [numbers.randrange(len(body)) for _ in range(1000)]
    spans = [(start, min(start + numbers.randint(1, 200_000), len(body))) for start in starts]

    def read(span):
        start, end = span
        reply = larder.s3.get_object(Bucket="lake", Key="cold", Range=f"bytes={start}-{end - 1}")
        return reply["Body"].read() == body[start:end]

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        assert all(pool.map(read, spans))
    touched = {page for start, end in spans for page in range(start >> 16, ((end - 1) >> 16) + 1)}
    assert proxy.bytes() == len(touched) << 16


def test_what_has_arrived_of_a_page_is_given_at_once(origin, bucket, proxy, larder):
    body = os.urandom(60_000)
    origin.s3.put_object(Bucket=bucket, Key="slow", Body=body)
    stall = {"stall_after": {"bytes": 20_000, "ms": 4000}}
    proxy.faults({"match": {"method": "GET", "times": 1}, "action": stall})
    start = time.monotonic()
    reply = larder.s3.get_object(Bucket="lake", Key="slow")["Body"]
    first = reply.read(20_000)
    seconds = time.monotonic() - start
    assert first + reply.read() == body
    assert seconds < 3 < time.monotonic() - start, "the store stalled behind the first bytes"


def test_random_cold_reads_fetch_pages_not_blocks(origin, bucket, proxy, larder):
    body = os.urandom(16 << 20)
    origin.s3.put_object(Bucket=bucket, Key="cold", Body=body)
    larder.s3.head_object(Bucket="lake", Key="cold")
    proxy.reset()
    asked = 0
    for page in (7, 200, 31, 90, 91, 255):
        start = page << 16
        reply = larder.s3.get_object(Bucket="lake", Key="cold", Range=f"bytes={start}-{start + 65535}")
        assert reply["Body"].read() == body[start:start + 65536]
        asked += 65536
    assert proxy.bytes() == asked


@pytest.mark.parametrize("action", [
    {"cut_after": {"bytes": 700_000}}, {"truncate": {"bytes": 100_001}},
    {"status": {"code": 503, "body": "", "retry_after": 0}}, "drop", "wrong_range",
    {"stall_after": {"bytes": 500_000, "ms": 1500}},
])
def test_a_fault_of_the_store_is_repaired(origin, bucket, proxy, larder, action):
    body = os.urandom(2_000_000)
    origin.s3.put_object(Bucket=bucket, Key="file", Body=body)
    span = {"Range": "bytes=65536-1999999"} if action == "wrong_range" else {}
    proxy.faults({"match": {"method": "GET", "path_contains": "file", "times": 1}, "action": action})
    try:
        got = larder.s3.get_object(Bucket="lake", Key="file", **span)["Body"].read()
        assert got == (body[65536:] if span else body)
    except Exception:
        assert action == "wrong_range", "a reply that lies may be refused, not repaired"
    proxy.faults()
    assert larder.s3.get_object(Bucket="lake", Key="file")["Body"].read() == body
