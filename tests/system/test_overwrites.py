# SPDX-License-Identifier: Apache-2.0
"""An object is overwritten while it is read: wholly one version, or a clear error."""

import os
import random
import threading

from botocore.exceptions import BotoCoreError, ClientError

ROUNDS = int(os.environ.get("LARDER_TEST_OVERWRITES", "1000"))
SIZES = [0, 1, 100, 4096, 65_535, 65_536, 65_537, 200_000, 1_000_000]
CONFIG = '[[mount]]\nname = "lake"\nuri = "s3://{}"\nfreshness = "10ms"\n'


def content(round_number, size):
    """Cells of 16 bytes, each telling the round that wrote it and the size it wrote."""
    return (b"%05d/%09d;" % (round_number, size) * (size // 16 + 1))[:size]


def check(body):
    """Whether these bytes are the whole of one round; short ones can only tell their prefix."""
    if len(body) < 16:
        return
    round_number, size = int(body[:5]), int(body[6:15])
    assert size == len(body), f"{len(body)} bytes of a version that has {size}"
    assert body == content(round_number, size), "a mixture of two versions"


def test_no_reader_sees_two_versions(origin, bucket, make_larder):
    larder = make_larder({}, config=CONFIG.format(bucket))
    larder.start()
    origin.s3.put_object(Bucket=bucket, Key="file", Body=content(0, 1000))
    done, failures, whole = threading.Event(), [], []

    def read():
        while not done.is_set():
            try:
                check(larder.s3.get_object(Bucket="lake", Key="file")["Body"].read())
                whole.append(1)
            except (ClientError, BotoCoreError):
                pass  # a clear error is allowed, a mixture is not
            except AssertionError as error:
                failures.append(str(error))
                return

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    choice = random.Random(4)
    big = {ROUNDS // 3: 100 << 20, ROUNDS // 2: 20 << 20}
    for number in range(1, ROUNDS + 1):
        size = big.get(number) or choice.choice(SIZES)
        origin.s3.put_object(Bucket=bucket, Key="file", Body=content(number, size))
    done.set()
    for reader in readers:
        reader.join(120)
    assert not failures, failures[:3]
    assert len(whole) > ROUNDS / 10, f"only {len(whole)} reads were answered"
