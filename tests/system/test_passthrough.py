# SPDX-License-Identifier: Apache-2.0
"""Files that lie whole in the cache are read by the kernel itself, with the same answers."""

import os
import time

import pytest
from conftest import is_mounted

MIB = 1 << 20


def eventually(what, condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within four seconds: {what}")


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


@pytest.fixture
def mounted(make_larder, tree, tmp_path):
    larder = make_larder({"lake": f"file://{tree}"}, fuse=tmp_path / "mnt", capacity="256MiB")
    larder.start()
    assert is_mounted(tmp_path / "mnt")
    if "passthrough=\"on\"" not in larder.log.read_text():
        pytest.skip("this machine has no FUSE passthrough")
    return tmp_path / "mnt" / "lake", larder


def passed(larder):
    return larder.metric("larder_face_requests_total", face="fuse", operation="passthrough")


def reads(larder):
    return larder.metric("larder_face_requests_total", face="fuse", operation="read")


def test_a_resident_file_is_read_by_the_kernel(mounted, tree):
    mount, larder = mounted
    body = os.urandom(9 * MIB + 77)
    (tree / "file").write_bytes(body)
    (tree / "small").write_bytes(b"tiny")
    for name in ("file", "small"):
        larder.cli("load", f"/lake/{name}")
    assert (mount / "small").read_bytes() == b"tiny"
    eventually("closed", lambda: (mount / "file").read_bytes() == body and passed(larder) > 0)
    before = reads(larder)
    with open(mount / "file", "rb") as one, open(mount / "file", "rb") as two:
        two.seek(5 * MIB)
        assert two.read(1000) == body[5 * MIB:5 * MIB + 1000]
        assert one.read() == body
    assert reads(larder) == before, "no read came to larder"


def test_what_is_open_outlives_eviction_and_overwriting(mounted, tree):
    mount, larder = mounted
    body = os.urandom(20 * MIB)
    (tree / "file").write_bytes(body)
    larder.cli("load", "/lake/file")
    eventually("passed", lambda: (mount / "file").read_bytes() == body and passed(larder) > 0)
    with open(mount / "file", "rb") as held:
        for at in range(12):
            (tree / f"other-{at}").write_bytes(os.urandom(32 * MIB))
            larder.cli("load", f"/lake/other-{at}")
        (tree / "file").write_bytes(b"new")
        larder.cli("free", "/lake/file")
        assert held.read() == body
    eventually("the new version", lambda: (mount / "file").read_bytes() == b"new")


def test_rot_before_the_open_is_never_served(mounted, tree):
    mount, larder = mounted
    body = os.urandom(3 * MIB)
    (tree / "file").write_bytes(body)
    larder.cli("load", "/lake/file")
    eventually("passed", lambda: (mount / "file").read_bytes() == body and passed(larder) > 0)
    pages = [path for path in larder.cache.rglob("*") if path.is_file()
             and path.stat().st_size == len(body)]
    assert len(pages) == 1
    with open(pages[0], "r+b") as cached:
        cached.seek(1_000_000)
        byte = cached.read(1)[0]
        cached.seek(1_000_000)
        cached.write(bytes([byte ^ 4]))
    # The kernel drops what it holds of the inode when it is opened anew.
    for _ in range(3):
        assert (mount / "file").read_bytes() == body
    assert larder.metric("larder_pages_corrupt_total") == 1
