# SPDX-License-Identifier: Apache-2.0
"""Programs on the mount read what lies at the store."""

import hashlib
import os
import pathlib
import sqlite3
import subprocess

import duckdb
import numpy
import pytest
from conftest import is_mounted


@pytest.fixture
def tree(tmp_path):
    """A directory with what programs like to read; also a git repository and a database."""
    tree = tmp_path / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "big.bin").write_bytes(os.urandom(9_000_001))
    (tree / "empty").write_bytes(b"")
    for at in range(120):
        (tree / f"sub/deep/{at:03}.txt").write_text(f"file {at}\n" * at)
    database = sqlite3.connect(tree / "t.db")
    database.execute("create table t as with recursive c(x) as (select 1 union all "
                     "select x + 1 from c where x < 20000) select x, hex(x * 7919) y from c")
    database.commit()
    database.close()
    duckdb.sql(f"copy (select i, i % 10 g from range(100000) t(i)) to '{tree}/t.parquet'")
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    git = lambda *words: subprocess.run(["git", *identity, *words], check=True, capture_output=True)
    git("init", "-q", str(tree / "work"))
    (tree / "work/readme").write_text("hello\n")
    git("-C", str(tree / "work"), "add", ".")
    git("-C", str(tree / "work"), "commit", "-qm", "first")
    return tree


@pytest.fixture
def mounted(origin, bucket, make_larder, tree, tmp_path):
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            origin.s3.upload_file(str(path), bucket, str(path.relative_to(tree)))
    for key in ("odd//name", "both", "both/below", "marker/", "n" * 300):
        origin.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    larder = make_larder({"lake": f"s3://{bucket}"}, fuse=tmp_path / "mnt")
    larder.start()
    assert is_mounted(tmp_path / "mnt")
    yield tmp_path / "mnt" / "lake", larder
    larder.stop()
    assert not is_mounted(tmp_path / "mnt"), "SIGTERM unmounts"
    assert "Not Implemented" not in larder.log.read_text(), "each operation has its own answer"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_programs(mounted, tree, tmp_path):
    mount, _ = mounted
    digest = hashlib.sha256((tree / "big.bin").read_bytes()).hexdigest()
    assert run("sha256sum", mount / "big.bin").split()[0] == digest
    changed = run("rsync", "-rcni", f"{tree}/sub/", f"{mount}/sub/")
    assert not [line for line in changed.splitlines() if line.startswith(">f")], changed
    run("cp", mount / "big.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tree / "big.bin").read_bytes()
    source = os.open(mount / "big.bin", os.O_RDONLY)
    target = os.open(tmp_path / "ranged", os.O_WRONLY | os.O_CREAT)
    try:
        copied = os.copy_file_range(source, target, 100_000, 12_345)
    except OSError:
        copied = os.sendfile(target, source, 12_345, 100_000)
    assert (tmp_path / "ranged").read_bytes() == (tree / "big.bin").read_bytes()[12_345:12_345 + copied]
    run("git", "-c", "safe.directory=*", "clone", "-q", mount / "work", tmp_path / "clone")
    assert (tmp_path / "clone/readme").read_text() == "hello\n"
    database = sqlite3.connect(f"file:{mount}/t.db?mode=ro&immutable=1", uri=True)
    assert database.execute("select count(*), sum(x) from t").fetchone() == (20000, 200010000)
    array = numpy.memmap(mount / "big.bin", dtype=numpy.uint8, mode="r")
    assert bytes(array[5_000_000:5_000_100]) == (tree / "big.bin").read_bytes()[5_000_000:5_000_100]
    assert duckdb.sql(f"select sum(i) from '{mount}/t.parquet' where g = 3").fetchone()[0] == 499980000
    assert (mount / "empty").read_bytes() == b""


def test_names_and_refusals(mounted):
    mount, _ = mounted
    names = sorted(os.listdir(mount))
    assert "both" in names and "n" * 300 not in names and "odd" in names and "marker" in names
    assert os.listdir(mount / "both") == ["below"] and os.listdir(mount / "marker") == []
    with pytest.raises(OSError):
        (mount / "new").write_text("read only")
    with pytest.raises(FileNotFoundError):
        (mount / "nothing").read_bytes()
    assert os.getxattr(mount / "big.bin", "user.larder.version")


def test_the_kernel_keeps_its_pages_while_the_version_stands(mounted, proxy):
    mount, larder = mounted
    first = (mount / "big.bin").read_bytes()
    proxy.reset()
    assert (mount / "big.bin").read_bytes() == first
    assert proxy.requests() == 0


def test_after_sigkill_the_mount_point_can_be_used_again(mounted):
    mount, larder = mounted
    larder.kill()
    larder.start()
    assert pathlib.Path(mount / "empty").exists()
