# SPDX-License-Identifier: Apache-2.0
"""A start that can't work ends soon, with one sentence that says what to do and the code that
scripts branch on."""

import os
import socket
import subprocess

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
    ('[s3]\nlisten = "nowhere"\n', ["larder.toml:5:", "s3.listen", "nowhere", "127.0.0.1:9710"]),
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


def test_a_credentials_file_that_gives_nothing(make_larder, bucket, tmp_path):
    (tmp_path / "empty.keys").write_text("[other]\n")
    for name, words in (("none.keys", ["can't be read"]), ("empty.keys", ["no key pair", "'default'"])):
        file = tmp_path / name
        config = MOUNT.format(bucket) + f'credentials_file = "{file}"\n'
        environment = {"AWS_EC2_METADATA_DISABLED": "true"}
        refused(make_larder({}, config=config, environment=environment), DENIED, str(file), *words)


def test_a_bucket_of_another_region(make_larder, proxy, bucket):
    body = ("<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message>"
            "<Region>eu-central-9</Region></Error>")
    proxy.faults({"match": {}, "action": {"status": {"code": 400, "body": body}}})
    refused(make_larder({"lake": f"s3://{bucket}"}), USAGE, bucket, 'set region = "eu-central-9"')


@pytest.mark.parametrize("flag, value, words", [
    ("--s3", "localhost", ["s3.listen", "'localhost'", "127.0.0.1:9710"]),
    ("--s3", "203.0.113.5:9710", ["no address 203.0.113.5", "--s3"]),
    ("--http", "203.0.113.5:9711", ["no address 203.0.113.5", "--http"]),
    ("--http", "same", ["s3.listen and http.listen are both", "its own port"]),
    ("--mount", "lake=file:///tmp", ["lake is given twice"]),
    ("--cache", "same", ["given twice"]),
    ("--cache", "other name", ["given twice, by two names"]),
    ("--cache", "/tmp/x:10XB", ["'10XB' is not a size", "10GiB"]),
])
def test_flags_that_can_not_be(make_larder, bucket, flag, value, words):
    larder = make_larder({"lake": f"s3://{bucket}"})
    command = larder.command()
    if flag in ("--s3", "--http"):
        other = command[command.index("--s3") + 1]
        command[command.index(flag) + 1] = other if value == "same" else value
    else:
        folder = larder.cache.parent / "elsewhere" / ".." / larder.cache.name
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        values = {"same": f"{larder.cache}:2GiB", "other name": f"{folder}:2GiB"}
        command += [flag, values.get(value, value)]
    larder.command = lambda: command
    refused(larder, USAGE, *words)


def test_places_that_are_read_only_or_mounted(make_larder, bucket, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", place], check=True)
    try:
        larder = make_larder({"lake": f"s3://{bucket}"})
        larder.cache = place / "cache"
        refused(larder, DENIED, str(larder.cache), "read-only", "another directory")
        larder = make_larder({"lake": f"s3://{bucket}"})
        larder.state = place / "state"
        refused(larder, DENIED, str(larder.state), "--state")
        refused(make_larder({"lake": f"s3://{bucket}"}, fuse=place), TAKEN, str(place), "umount")
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    larder = make_larder({"lake": f"s3://{bucket}"})
    larder.state = tmp_path / "file"
    larder.state.write_text("x")
    refused(larder, USAGE, str(larder.state), "is a file", "--state")


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
