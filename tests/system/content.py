# SPDX-License-Identifier: Apache-2.0
"""Bytes for tests: cheap to make, different for every seed, and telling where they came from."""

import hashlib
import struct

import numpy


def pseudo_random(seed: str, length: int) -> bytes:
    """`length` bytes that no two seeds share."""
    return hashlib.shake_128(seed.encode()).digest(length)


CELL = 64


def stamped(version: int, length: int) -> bytes:
    """Cells of 64 bytes, each naming the version, the length, its own place and a digest of them.

    Any mixture of two versions, any shift and any hole shows in the first cell that is wrong.
    """
    digest = hashlib.blake2b(struct.pack("<QQ", version, length), digest_size=32).digest()
    count = -(-length // CELL)
    cells = numpy.empty((count, CELL // 8), dtype="<u8")
    cells[:, 0], cells[:, 1] = version, length
    cells[:, 2] = numpy.arange(count, dtype="<u8") * CELL
    cells[:, 3] = cells[:, 2] ^ numpy.uint64(0x5DEECE66D)
    cells[:, 4:] = numpy.frombuffer(digest, dtype="<u8")
    return cells.tobytes()[:length]
