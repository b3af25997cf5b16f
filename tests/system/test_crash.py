# SPDX-License-Identifier: Apache-2.0
"""SIGKILL during fills, and bytes that rot on disk: never a wrong byte, capacity respected."""

import os
import random
import threading

ROUNDS = int(os.environ.get("LARDER_TEST_KILLS", "50"))
CAPACITY = 24 << 20
# Process start to the answer of /readyz, in a debug build on two cores.
READY_S_MAX = 1.0


def allocated(directory):
    return sum(
        os.lstat(os.path.join(folder, name)).st_blocks * 512
        for folder, _, names in os.walk(directory) for name in names)


def test_sigkill_during_fills(origin, bucket, make_larder):
    bodies = {f"file-{at}": os.urandom(2_000_000 + at * 777_777) for at in range(12)}
    for key, body in bodies.items():
        origin.s3.put_object(Bucket=bucket, Key=key, Body=body)
    larder = make_larder({"lake": f"s3://{bucket}"}, capacity="24MiB")
    choice, starts = random.Random(7), []

    def read(s3, key):
        try:
            body = s3.get_object(Bucket="lake", Key=key)["Body"].read()
        except Exception:
            return  # it was killed under us
        assert body == bodies[key], key

    for _ in range(ROUNDS):
        starts.append(larder.start())
        keys = choice.sample(sorted(bodies), 4)
        readers = [threading.Thread(target=read, args=(larder.s3, key)) for key in keys]
        for reader in readers:
            reader.start()
        readers[0].join(choice.uniform(0, 0.25))
        larder.kill()
        for reader in readers:
            reader.join(60)
        assert allocated(larder.cache / "pages") <= CAPACITY
    larder.start()
    for key, body in bodies.items():
        assert larder.s3.get_object(Bucket="lake", Key=key)["Body"].read() == body, key
    assert allocated(larder.cache / "pages") <= CAPACITY
    assert sorted(starts)[len(starts) // 2] < READY_S_MAX, starts


def test_rot_is_never_served(origin, bucket, proxy, larder):
    body = os.urandom(1_000_000)
    origin.s3.put_object(Bucket=bucket, Key="rotten", Body=body)
    larder.cli("load", "/lake/rotten")
    for folder, _, names in os.walk(larder.cache / "pages"):
        for name in names:
            with open(os.path.join(folder, name), "r+b") as file:
                for at in (5, 300_000):
                    file.seek(at)
                    byte = file.read(1)
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 0x10]))
    proxy.reset()
    assert larder.s3.get_object(Bucket="lake", Key="rotten")["Body"].read() == body
    assert larder.metric("larder_pages_corrupt_total") == 2
    assert proxy.bytes() == 2 * 65_536, "only the rotten pages were fetched again"
