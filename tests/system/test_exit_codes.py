# SPDX-License-Identifier: Apache-2.0
"""A start that can't work ends soon, with one sentence that says what to do and the code that
scripts branch on."""

import socket

import pytest

USAGE, NOT_FOUND, DENIED, TAKEN = 2, 3, 5, 7
MOUNT = '[[mount]]\nname = "lake"\nuri = "s3://{}"\n'


def refused(larder, code, *words):
    """Starts, waits for the end, and looks at what was said."""
    larder.spawn()
    assert larder.process.wait(60) == code, larder.log.read_text()
    said = [line for line in larder.log.read_text().splitlines() if line.startswith("larder:")]
    assert len(said) == 1, said
    for word in words:
        assert word in said[0], said[0]


@pytest.mark.parametrize("extra, words", [
    ('freshnes = "5s"\n', ["larder.toml:4:", "did you mean 'freshness'"]),
    ('freshness = "5 parsecs"\n', ["larder.toml:4:", "5 parsecs", "60s"]),
    ('stale_if_error = 5\n', ["larder.toml:4:", "stale_if_error"]),
    ('[s3]\nlisten = "nowhere"\n', ["larder.toml:5:", "s3.listen", "address:port"]),
    ('[[cache]]\npath = "x"\nsize = "10 parsecs"\n', ["10 parsecs"]),
    ('x = = 3\n', ["larder.toml:4:"]),
    ('[[mount]]\nname = "lake"\nuri = "file:///tmp"\n', ["lake"]),
    ('[[mount]]\nname = "nouri"\n', ["uri"]),
])
def test_mistakes_in_the_configuration_name_their_line(make_larder, bucket, extra, words):
    refused(make_larder({}, config=MOUNT.format(bucket) + extra), USAGE, *words)


@pytest.mark.parametrize("mounts, code, words", [
    ({"lake": "ftp://x/y"}, USAGE, ["ftp://x/y", "s3://bucket"]),
    ({"LAKE": "file:///tmp"}, USAGE, ["LAKE", "a-z"]),
    ({"lake": "file:///nowhere/at/all"}, NOT_FOUND, ["/nowhere/at/all"]),
    ({"lake": "s3://no-such-bucket"}, NOT_FOUND, ["no-such-bucket"]),
])
def test_mounts_that_can_not_be(make_larder, mounts, code, words):
    refused(make_larder(mounts), code, *words)


def test_credentials(make_larder, bucket, tmp_path):
    wrong = {"AWS_SECRET_ACCESS_KEY": "certainly-not-the-secret"}
    larder = make_larder({"lake": f"s3://{bucket}"}, environment=wrong)
    refused(larder, DENIED, "credentials")
    assert "certainly-not-the-secret" not in larder.log.read_text()
    none = {"AWS_SECRET_ACCESS_KEY": "", "AWS_ACCESS_KEY_ID": "", "HOME": str(tmp_path),
            "AWS_EC2_METADATA_DISABLED": "true"}
    refused(make_larder({"lake": f"s3://{bucket}"}, environment=none), DENIED,
            "AWS_ACCESS_KEY_ID", "anonymous")


def test_what_another_process_has(make_larder, bucket, tmp_path):
    mounts = {"lake": f"s3://{bucket}"}
    first = make_larder(mounts, fuse=tmp_path / "mnt")
    first.start()
    second = make_larder(mounts)
    second.cache = first.cache
    refused(second, TAKEN, str(first.cache), f"pid {first.process.pid}")
    second = make_larder(mounts)
    second.state = first.state
    refused(second, TAKEN, str(first.state), f"pid {first.process.pid}")
    refused(make_larder(mounts, fuse=tmp_path / "mnt"), TAKEN, str(tmp_path / "mnt"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        second = make_larder(mounts)
        words = second.command()
        words[words.index("--s3") + 1] = address
        second.command = lambda: words
        refused(second, TAKEN, address)
    assert first.s3.list_buckets()["Buckets"], "the first goes on"


def test_mount_points_that_can_not_be(make_larder, bucket, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    for place, word in (("full", "not empty"), ("file", "not a directory")):
        larder = make_larder({"lake": f"s3://{bucket}"}, fuse=tmp_path / place)
        larder.spawn()
        assert larder.process.wait(60) not in (0, 101)
        assert word in larder.log.read_text()
    assert (tmp_path / "full" / "x").read_text() == "x"


@pytest.mark.parametrize("words, code", [
    (["cat", "/nowhere/x"], NOT_FOUND), (["cat", "/lake/nothing"], NOT_FOUND),
    (["stat", "/lake/../etc/passwd"], NOT_FOUND), (["cat", "/lake/" + "k" * 2000], USAGE),
    (["cat", "/UPPER/x"], USAGE), (["load", "/lake/none"], NOT_FOUND),
    (["ls", "/lake/none"], NOT_FOUND), (["fly"], USAGE), (["cat", "/lake/x", "--offset", "z"], USAGE),
])
def test_commands(larder, words, code):
    done = larder.cli(*words, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    if code != USAGE:
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
