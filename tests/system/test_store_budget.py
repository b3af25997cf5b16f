# SPDX-License-Identifier: Apache-2.0
"""The budget towards a store, counted at the proxy: rates that were set, a store that asks to slow
down, a reader beside a job, a rare slow reply. Order and counts are asserted; time only where the
rate itself is the promise."""

import concurrent.futures
import json
import os
import subprocess
import time

import pytest
from conftest import BINARIES, WAIT_S, clean_environment

RATE = 10
SLOW_DOWN = {"status": {"code": 503, "body": "<Error><Code>SlowDown</Code></Error>"}}


def put(origin, bucket, count, name="many/{:04}"):
    """So many small objects; answers their bodies by key."""
    bodies = {name.format(at): os.urandom(2_000) for at in range(count)}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: origin.s3.put_object(Bucket=bucket, Key=one[0], Body=one[1]),
                      bodies.items()))
    return bodies


def mount(bucket, proxy, **settings):
    lines = [f'uri = "s3://{bucket}"', f'endpoint = "{proxy.url}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return '[[mount]]\nname = "lake"\n' + "\n".join(lines) + "\n"


@pytest.fixture
def loading():
    """Starts `larder load` in the background; what still runs at the end is ended."""
    running = []

    def start(larder, path):
        command = [BINARIES / "larder", "--json", "--state", larder.state, "load", path]
        load = subprocess.Popen(
            command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        running.append(load)
        return load

    yield start
    for load in running:
        if load.poll() is None:
            load.kill()
        load.communicate()


def until(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def answered(proxy):
    """Whose requests the store has answered, in that order."""
    paths = [json.loads(line)["path"] for line in proxy.log.read_text().splitlines()]
    return [path.split("?")[0] for path in paths]


def test_a_job_keeps_to_the_rate_and_a_reader_does_not_wait_behind_it(
    origin, bucket, proxy, make_larder, loading
):
    for job in "abc":
        put(origin, bucket, 60, name=job + "/{:04}")
    origin.s3.put_object(Bucket=bucket, Key="wanted", Body=b"now")
    larder = make_larder({}, config=mount(bucket, proxy, max_requests_per_second=RATE))
    larder.start()
    proxy.reset()
    begun = time.monotonic()
    loads = [loading(larder, f"/lake/{job}/") for job in "abc"]

    def waiting():
        return larder.metric("larder_store_waiting", mount="lake", **{"class": "bulk"})

    until(lambda: waiting() >= 40)
    before = proxy.requests()
    assert larder.s3.get_object(Bucket="lake", Key="wanted")["Body"].read() == b"now"
    assert [load.poll() for load in loads] == [None] * 3, "the jobs are far from their ends"
    # Four seconds' worth may pass before the reader has come to Larder at all; forty waited.
    place = answered(proxy).index(f"/{bucket}/wanted")
    assert place < before + 40, f"{place} were answered before it, {before} when it was asked"
    until(lambda: proxy.requests() >= 5 * RATE)
    for _ in range(20):
        # The time is taken after the count, so the count may only be too small.
        requests, passed = proxy.requests(), time.monotonic() - begun
        assert requests <= RATE * passed + RATE / 10 + 2, f"{requests} in {passed} s"
        time.sleep(0.05)


def test_bytes_come_at_the_rate_that_was_set(origin, bucket, proxy, make_larder):
    body = os.urandom(3_000_000)
    origin.s3.put_object(Bucket=bucket, Key="file", Body=body)
    larder = make_larder({}, config=mount(bucket, proxy, max_bytes_per_second="1MB"))
    larder.start()
    begun = time.monotonic()
    assert larder.s3.get_object(Bucket="lake", Key="file")["Body"].read() == body
    assert time.monotonic() - begun > 2.5


def test_a_store_that_asks_to_slow_down_is_asked_less_and_nothing_fails(
    origin, bucket, proxy, larder, loading
):
    put(origin, bucket, 400)
    proxy.faults({"match": {"method": "GET", "path_contains": "many/", "nth": 60},
                  "action": SLOW_DOWN})
    load = loading(larder, "/lake/many/")
    until(lambda: larder.metric("larder_store_request_limit_per_second") > 0)
    until(lambda: larder.metric("larder_store_throttled_total", mount="lake") >= 20)
    # Without a pause between them, sixteen files at once would be thousands by now.
    limit = larder.metric("larder_store_request_limit_per_second")
    assert limit < 1000
    refused = proxy.stats()["faults"]
    assert refused < 200, f"{refused} refusals"
    # A reader's request is refused as well, waits as the store asks for, and has its answer.
    proxy.faults({"match": {"method": "GET", "path_contains": "many/", "times": 6},
                  "action": SLOW_DOWN})
    assert len(larder.s3.get_object(Bucket="lake", Key="many/0399")["Body"].read()) == 2_000
    told, said = load.communicate(timeout=120)
    assert load.returncode == 0, said
    last = json.loads(told.splitlines()[-1])
    assert (last["files_loaded"], last["files_failed"]) == (400, 0), last
    proxy.reset()
    assert len(larder.s3.get_object(Bucket="lake", Key="many/0001")["Body"].read()) == 2_000
    assert "GET" not in proxy.stats()["methods"], "what was loaded is here"


def test_a_refusal_of_head_has_no_code_and_means_the_same(origin, bucket, proxy, larder):
    origin.s3.put_object(Bucket=bucket, Key="file", Body=b"x")
    proxy.faults({"match": {"method": "HEAD", "path_contains": "file", "times": 1},
                  "action": {"status": {"code": 503, "body": ""}}})
    assert larder.s3.head_object(Bucket="lake", Key="file")["ContentLength"] == 1
    assert larder.metric("larder_store_throttled_total", mount="lake") == 1
    assert larder.metric("larder_store_request_limit_per_second") > 0


def test_a_rare_slow_reply_is_asked_for_a_second_time(origin, bucket, proxy, larder):
    put(origin, bucket, 400)
    origin.s3.put_object(Bucket=bucket, Key="rare", Body=b"quick")
    larder.cli("load", "/lake/many/")
    proxy.reset()
    # Longer than any time-out of Larder's: without a second request it would be tried again.
    proxy.faults({"match": {"method": "GET", "path_contains": "rare", "times": 1},
                  "action": {"delay": {"ms": 120_000}}})
    assert larder.s3.get_object(Bucket="lake", Key="rare")["Body"].read() == b"quick"
    assert larder.metric("larder_store_hedges_won_total", mount="lake") == 1
    assert larder.metric("larder_store_requests_total", outcome="cancelled") == 1
    stats = proxy.stats()
    assert (stats["faults"], stats["requests"]) == (1, 2), "and no more than that"
