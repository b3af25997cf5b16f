# SPDX-License-Identifier: Apache-2.0
"""Each fault a store can have, through both data faces: a bounded wait, the right bytes or an
error, and nothing wrong kept. `docs/reliability.md` is the table of these tests."""

import os
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

LENGTH = 2_000_000
# What a fault that goes on may cost at most: four bodies of ten seconds, and pauses.
BOUND_S = 55
# On the mount the same may come twice: a failed read-ahead is followed by the read itself.
MOUNT_BOUND_S = 2 * BOUND_S
REFUSALS = (BotoCoreError, ClientError, OSError)


@pytest.fixture
def body():
    return os.urandom(LENGTH)


@pytest.fixture
def larder(origin, bucket, make_larder, tmp_path, body):
    origin.s3.put_object(Bucket=bucket, Key="file", Body=body)
    running = make_larder({"lake": f"s3://{bucket}"}, fuse=tmp_path / "mnt")
    running.start()
    return running


def by_s3(larder, **options):
    return larder.s3.get_object(Bucket="lake", Key="file", **options)["Body"].read()


def by_fuse(larder):
    return (larder.fuse / "lake" / "file").read_bytes()


def hurt(proxy, action, **match):
    proxy.faults({"match": {"method": "GET", "path_contains": "file", **match}, "action": action})


def heals(larder, proxy, body):
    """Without the fault both faces give the origin's bytes; then the cache alone does."""
    proxy.faults()
    assert by_s3(larder) == body
    assert by_fuse(larder) == body
    proxy.faults({"match": {}, "action": "drop"})
    assert by_s3(larder) == body, "what was kept is right"


FAULTS = {
    "500": {"status": {"code": 500, "body": ""}},
    "503": {"status": {"code": 503, "body": ""}},
    "slow_down": {"status": {"code": 503, "body": "<Error><Code>SlowDown</Code></Error>"}},
    "trickle": {"slow": {"bytes_per_s": 1}},
    "stall": {"stall_after": {"bytes": 500_000, "ms": 600_000}},
    "reset": {"cut_after": {"bytes": 700_000}},
    "truncated": {"truncate": {"bytes": 100_001}},
    "no_reply": "drop",
}


@pytest.mark.parametrize("read", [by_s3, by_fuse])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_not_noticed(larder, proxy, body, fault, read):
    proxy.reset()
    hurt(proxy, FAULTS[fault], times=1)
    begun = time.monotonic()
    assert read(larder) == body
    assert time.monotonic() - begun < BOUND_S / 2
    assert proxy.stats()["faults"] == 1, "the fault was met"
    # A reset throws away what lay unread in the socket, at most all that had come.
    again = 700_000 if fault == "reset" else 1_000
    assert proxy.bytes() < LENGTH + again, "it went on at the byte reached"
    heals(larder, proxy, body)


@pytest.mark.parametrize("read", [by_s3, by_fuse])
@pytest.mark.parametrize("fault", ["500", "slow_down", "trickle", "no_reply"])
def test_a_fault_that_stays_is_an_error_in_bounded_time(larder, proxy, body, fault, read):
    hurt(proxy, FAULTS[fault])
    begun = time.monotonic()
    with pytest.raises(REFUSALS):
        read(larder)
    assert time.monotonic() - begun < (BOUND_S if read is by_s3 else MOUNT_BOUND_S)
    heals(larder, proxy, body)


@pytest.mark.parametrize("action", ["wrong_range", {"wrong_length": {"less": 5}}])
def test_a_range_that_lies_is_asked_for_again(larder, proxy, body, action):
    hurt(proxy, action, times=1)
    assert by_s3(larder, Range="bytes=65536-1999999") == body[65536:]
    heals(larder, proxy, body)


def test_a_length_other_than_the_listing_told_is_refused(larder, proxy, body):
    larder.s3.list_objects_v2(Bucket="lake")
    hurt(proxy, {"wrong_length": {"less": 5}}, times=1)
    with pytest.raises(REFUSALS):
        by_s3(larder)
    heals(larder, proxy, body)


def test_the_whole_where_a_part_was_asked(origin, bucket, larder, proxy, body):
    origin.s3.put_object_acl(Bucket=bucket, Key="file", ACL="public-read")
    hurt(proxy, "whole_for_range", times=1)
    assert by_s3(larder, Range="bytes=300000-399999") == body[300_000:400_000]
    heals(larder, proxy, body)


def test_a_body_of_another_version_is_never_joined(larder, proxy, body):
    proxy.faults(
        {"match": {"method": "GET", "path_contains": "file", "times": 1},
         "action": {"cut_after": {"bytes": 700_000}}},
        {"match": {"method": "GET", "path_contains": "file", "times": 1},
         "action": "other_version"},
    )
    with pytest.raises(REFUSALS):
        by_s3(larder)
    assert proxy.stats()["faults"] == 2
    heals(larder, proxy, body)
