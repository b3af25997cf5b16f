# SPDX-License-Identifier: Apache-2.0
"""The store does not answer: what is resident stays readable as promised, the rest fails soon."""

import os
import time

import pytest
from botocore.exceptions import ClientError

CONFIG = '[[mount]]\nname = "lake"\nuri = "s3://{}"\nfreshness = "2s"\n{}'


@pytest.mark.parametrize("grace", [False, True])
def test_an_outage(origin, bucket, proxy, make_larder, tmp_path, grace):
    body = os.urandom(300_000)
    origin.s3.put_object(Bucket=bucket, Key="kept", Body=body)
    extra = 'stale_if_error = "10m"\n' if grace else ""
    larder = make_larder({}, config=CONFIG.format(bucket, extra), fuse=tmp_path / "mnt")
    larder.start()
    larder.cli("load", "/lake/kept")
    on_mount = tmp_path / "mnt" / "lake" / "kept"
    assert on_mount.read_bytes() == body
    proxy.faults({"match": {}, "action": "drop"})
    assert larder.s3.get_object(Bucket="lake", Key="kept")["Body"].read() == body, "still fresh"
    time.sleep(2.5)
    if grace:
        reply = larder.s3.get_object(Bucket="lake", Key="kept")
        assert reply["Body"].read() == body
        assert reply["ResponseMetadata"]["HTTPHeaders"]["x-larder-cache"] == "stale"
        assert on_mount.read_bytes() == body
        return
    begun = time.monotonic()
    with pytest.raises(ClientError) as refused:
        larder.s3.get_object(Bucket="lake", Key="kept")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    with pytest.raises(OSError):
        (tmp_path / "mnt" / "lake" / "never-seen").read_bytes()
    failed = larder.cli("cat", "/lake/never-seen", check=False)
    assert failed.returncode != 0 and len(failed.stderr.strip().splitlines()) == 1
    assert time.monotonic() - begun < 120, "each of the three waits has a bound"
    proxy.faults()
    assert larder.s3.get_object(Bucket="lake", Key="kept")["Body"].read() == body, "and back"
