# SPDX-License-Identifier: Apache-2.0
"""Rot on the disk that nobody reads: the scrubber finds it, says so, and no reader meets it."""

import json
import os
import time

from conftest import WAIT_S, call

PAGE = 65_536
LENGTH = 1_000_000
# One page a file, for neighbouring gaps may be fetched by one request, with what lies between.
ROTTEN = (4,)


def flip(directory):
    """Flips a bit in some pages of the backing files; answers how many files there are."""
    count = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            count += 1
            with open(os.path.join(folder, name), "r+b") as file:
                for page in ROTTEN:
                    file.seek(page * PAGE + 77)
                    byte = file.read(1)
                    file.seek(page * PAGE + 77)
                    file.write(bytes([byte[0] ^ 0x10]))
    return count


def test_rot_that_nobody_reads_is_found_and_fetched_anew(origin, bucket, proxy, make_larder):
    bodies = {f"file-{at}": os.urandom(LENGTH) for at in range(5)}
    for key, body in bodies.items():
        origin.s3.put_object(Bucket=bucket, Key=key, Body=body)
    config = ('[scrub]\nrate = "1GiB"\n[[mount]]\nname = "lake"\n'
              f'uri = "s3://{bucket}"\nfreshness = "immutable"\n')
    larder = make_larder({"lake": f"s3://{bucket}"}, config=config)
    larder.start()
    larder.cli("load", "/lake")
    larder.stop()
    files = flip(larder.cache / "pages")
    assert files == len(bodies)
    larder.start()
    rotten = files * len(ROTTEN)
    begun = time.monotonic()
    while larder.metric("larder_pages_rotten_total") < rotten:
        assert time.monotonic() - begun < 2 * WAIT_S, larder.log.read_text()[-4000:]
        time.sleep(0.2)
    while True:
        call(f"{larder.http}/api/v1/status")
        if larder.metric("larder_scrub_passed_seconds") > 0:
            break
        assert time.monotonic() - begun < 2 * WAIT_S, "the pass does not end"
        time.sleep(0.2)
    assert larder.metric("larder_pages_scrubbed_bytes_total") > 4 * LENGTH
    disk = json.loads(larder.cli("--json", "cache", "list").stdout)[0]
    assert disk["scrub"]["rotten_pages"] == rotten and disk["scrub"]["last_pass_age_s"] < 600
    assert f"{rotten} pages were rotten" in larder.cli("status").stdout
    doctor = larder.cli("doctor", check=False).stdout
    assert f"{rotten} pages that nobody read were rotten" in doctor, doctor
    proxy.reset()
    for key, body in bodies.items():
        assert larder.s3.get_object(Bucket="lake", Key=key)["Body"].read() == body
    assert proxy.bytes() == rotten * PAGE, "only what was rotten"
    assert larder.metric("larder_pages_corrupt_total") == rotten, "no reader met any of it"
    larder.stop()


def test_a_rate_of_zero_is_off(make_larder, bucket):
    larder = make_larder({"lake": f"s3://{bucket}"}, config='[scrub]\nrate = "0"\n')
    larder.start()
    disk = json.loads(larder.cli("--json", "cache", "list").stdout)[0]
    assert disk["scrub"] is None
    threads = os.listdir(f"/proc/{larder.process.pid}/task")
    names = [open(f"/proc/{larder.process.pid}/task/{thread}/comm").read() for thread in threads]
    assert "larder-fill\n" in names and "larder-scrub\n" not in names, names
    larder.stop()
