# SPDX-License-Identifier: Apache-2.0
"""Bytes for tests: cheap to make, different for every seed, and telling where they came from."""

import hashlib
import struct


def pseudo_random(seed: str, length: int) -> bytes:
    """`length` bytes that no two seeds share."""
    return hashlib.shake_128(seed.encode()).digest(length)


CELL = 64


def stamped(version: int, length: int) -> bytes:
    """Cells of 64 bytes, each naming the version, its own place and a checksum of both.

    Any mixture of two versions, any shift and any hole shows in the first cell that is wrong.
    """
    cells = bytearray()
    head = struct.pack("<QQ", version, length)
    digest = hashlib.blake2b(head, digest_size=32).digest()
    for place in range(0, length, CELL):
        cells += head + struct.pack("<QQ", place, place ^ 0x5DEECE66D) + digest
    return bytes(cells[:length])
