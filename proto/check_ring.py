#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks proto/ring.json by a second implementation of the placement function.

Written from proto/README.md and the XXH3 specification, with the standard library alone (XXH3-64
is written out below), so that it shares no code with the Rust ring. Exits 1 at a difference.
"""

import functools
import json
import pathlib
import sys

M32, M64 = (1 << 32) - 1, (1 << 64) - 1

# ---- XXH3, 64 bits, seed 0 (doc/xxhash_spec.md of Cyan4973/xxHash) ----

P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MX1, MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8"
    "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364ea"
    "c5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b"
    "16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")


def u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def fold(a, b):
    product = a * b
    return (product & M64) ^ (product >> 64)


def xxh3_avalanche(h):
    h ^= h >> 37
    h = h * MX1 & M64
    return h ^ (h >> 32)


def xxh64_avalanche(h):
    h ^= h >> 33
    h = h * P64_2 & M64
    h ^= h >> 29
    h = h * P64_3 & M64
    return h ^ (h >> 32)


def rotate(x, by):
    return (x << by | x >> (64 - by)) & M64


def mix16(data, at, secret_at):
    low = u64(data, at) ^ u64(SECRET, secret_at)
    high = u64(data, at + 8) ^ u64(SECRET, secret_at + 8)
    return fold(low, high)


def xxh3_short(data):
    n = len(data)
    if n == 0:
        return xxh64_avalanche(u64(SECRET, 56) ^ u64(SECRET, 64))
    if n <= 3:
        mixed = data[n - 1] | n << 8 | data[0] << 16 | data[n >> 1] << 24
        return xxh64_avalanche((u32(SECRET, 0) ^ u32(SECRET, 4)) ^ mixed)
    if n <= 8:
        value = (u32(data, n - 4) + (u32(data, 0) << 32)) & M64
        value ^= u64(SECRET, 8) ^ u64(SECRET, 16)
        value ^= rotate(value, 49) ^ rotate(value, 24)
        value = value * MX2 & M64
        value ^= ((value >> 35) + n) & M64
        value = value * MX2 & M64
        return value ^ (value >> 28)
    low = u64(data, 0) ^ (u64(SECRET, 24) ^ u64(SECRET, 32))
    high = u64(data, n - 8) ^ (u64(SECRET, 40) ^ u64(SECRET, 48))
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return xxh3_avalanche((n + swapped + high + fold(low, high)) & M64)


def xxh3_medium(data):
    n = len(data)
    sum_ = n * P64_1
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            sum_ += mix16(data, 16 * i, 32 * i)
            sum_ += mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return xxh3_avalanche(sum_ & M64)
    for i in range(8):
        sum_ += mix16(data, 16 * i, 16 * i)
    sum_ = xxh3_avalanche(sum_ & M64)
    for i in range(8, n // 16):
        sum_ += mix16(data, 16 * i, 16 * (i - 8) + 3)
    sum_ += mix16(data, n - 16, 136 - 17)
    return xxh3_avalanche(sum_ & M64)


def accumulate(lanes, data, at, secret_at):
    for i in range(8):
        value = u64(data, at + 8 * i)
        keyed = value ^ u64(SECRET, secret_at + 8 * i)
        lanes[i ^ 1] = (lanes[i ^ 1] + value) & M64
        lanes[i] = (lanes[i] + (keyed & M32) * (keyed >> 32)) & M64


def xxh3_long(data):
    n = len(data)
    lanes = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    stripes = (len(SECRET) - 64) // 8
    block = 64 * stripes
    blocks = (n - 1) // block
    for b in range(blocks):
        for s in range(stripes):
            accumulate(lanes, data, b * block + 64 * s, 8 * s)
        for i in range(8):
            lane = lanes[i] ^ lanes[i] >> 47 ^ u64(SECRET, len(SECRET) - 64 + 8 * i)
            lanes[i] = lane * P32_1 & M64
    for s in range((n - 1 - block * blocks) // 64):
        accumulate(lanes, data, blocks * block + 64 * s, 8 * s)
    accumulate(lanes, data, n - 64, len(SECRET) - 64 - 7)
    sum_ = n * P64_1
    for i in range(4):
        low = lanes[2 * i] ^ u64(SECRET, 11 + 16 * i)
        high = lanes[2 * i + 1] ^ u64(SECRET, 11 + 16 * i + 8)
        sum_ += fold(low, high)
    return xxh3_avalanche(sum_ & M64)


def xxh3_64(data):
    if len(data) <= 16:
        return xxh3_short(data)
    return xxh3_medium(data) if len(data) <= 240 else xxh3_long(data)


# ---- The placement function (proto/README.md) ----

SLOT_BITS, OWNERS_MAX, WEIGHT_MAX = 16, 3, 1 << 24
GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return z ^ z >> 31


def cost(draw):
    draw |= 1
    whole = draw.bit_length() - 1
    mantissa = (draw << (63 - whole)) >> 32
    log = whole
    for _ in range(32):
        mantissa = mantissa * mantissa >> 31
        bit = mantissa >> 32
        mantissa >>= bit
        log = log << 1 | bit
    return (64 << 32) - log


def owners(slot, members):
    """The ids of the cheapest members, cheapest first; `members` maps ids to weights."""
    draws = []
    for member, weight in members.items():
        draw = mix(mix((member + GOLDEN) & M64) ^ mix(slot * GOLDEN & M64))
        draws.append((cost(draw), min(max(weight, 1), WEIGHT_MAX), member))

    def compare(a, b):
        left, right = a[0] * b[1], b[0] * a[1]
        return (left > right) - (left < right) or (a[2] > b[2]) - (a[2] < b[2])

    return [draw[2] for draw in sorted(draws, key=functools.cmp_to_key(compare))[:OWNERS_MAX]]


def slot_of(key):
    return xxh3_64(key) >> (64 - SLOT_BITS)


def segment_key(entry):
    return bytes.fromhex(entry["file"]) + entry["segment"].to_bytes(4, "big")


def directory_key(entry):
    return entry["mount"].encode() + b"\0" + entry["directory"].encode()


def main():
    golden = json.loads(pathlib.Path(__file__).with_name("ring.json").read_text(encoding="utf-8"))
    if (golden["slot_bits"], golden["owners_max"]) != (SLOT_BITS, OWNERS_MAX):
        sys.exit("ring.json has other limits than this program")
    checked, wrong = 0, 0
    for case in golden["cases"]:
        members = {int(member["id"], 16): member["weight"] for member in case["members"]}
        keyed = [(segment_key(entry), entry) for entry in case["segments"]]
        keyed += [(directory_key(entry), entry) for entry in case["directories"]]
        for key, entry in keyed:
            slot = slot_of(key)
            found = slot, [f"{owner:016x}" for owner in owners(slot, members)]
            checked += 1
            if found != (entry["slot"], entry["owners"]):
                wrong += 1
                print(f"{case['name']}: {entry} is {found} here", file=sys.stderr)
    print(f"{checked} placements checked, {wrong} differ")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
