# SPDX-License-Identifier: Apache-2.0
"""Larder as a user who may not do everything: directories that are somebody else's end the start
with one sentence and the code for *denied*; what a user may do works without root."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import BINARIES, WAIT_S, is_mounted

USAGE, DENIED = 2, 5
NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]
# fusermount3 has to become root for a moment, so this one may not forbid it.
NOBODY_WHO_MOUNTS = NOBODY[:-1]
NAMESPACE = """
set -e
mount -t tmpfs none "$1"
mknod -m 666 "$1/fuse" c 10 229
mount --bind "$1/fuse" /dev/fuse
shift
exec "$@"
"""


@pytest.fixture(scope="module")
def room():
    """A folder that every user can reach, which pytest's own is not, with the binary in it."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="larder-users-"))
    place.chmod(0o755)
    with contextlib.suppress(OSError):
        os.link(BINARIES / "larder", place / "larder")
    if not (place / "larder").exists():
        shutil.copy(BINARIES / "larder", place / "larder")
    yield place
    shutil.rmtree(place)


@pytest.fixture
def make_nobodys(room, make_larder, bucket):
    """A factory of Larders that run as `nobody`, each with its own folder."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")

    def make(**options):
        options.setdefault("prefix", NOBODY)
        larder = make_larder({"lake": f"s3://{bucket}"}, binary=room / "larder", **options)
        own = pathlib.Path(tempfile.mkdtemp(prefix="own-", dir=room))
        shutil.chown(own, "nobody", "nogroup")
        larder.directory, larder.state, larder.cache = own, own / "state", own / "cache"
        return larder

    return make


def refused(larder, *words, code=DENIED):
    larder.spawn()
    assert larder.process.wait(WAIT_S) == code, larder.log.read_text()
    said = [line for line in larder.log.read_text().splitlines() if line.startswith("larder:")]
    assert len(said) == 1, said
    for word in words:
        assert word in said[0], said[0]


def roots_own(room, name):
    """A directory in which only root can write."""
    place = room / name
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    return place


def test_directories_of_somebody_else(room, make_nobodys):
    theirs = roots_own(room, "theirs")
    larder = make_nobodys()
    larder.cache = theirs
    refused(larder, str(theirs), "not writable by this user")
    larder = make_nobodys()
    larder.state = theirs
    refused(larder, str(theirs), "denied")
    larder = make_nobodys()
    larder.state = theirs / "below"
    refused(larder, str(theirs / "below"), "denied")
    assert list(theirs.iterdir()) == [], "nothing was left behind there"


def test_files_that_can_not_be_read(room, make_nobodys):
    secret = roots_own(room, "secret") / "keys"
    secret.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = hunter2\n")
    secret.chmod(0o600)
    larder = make_nobodys(config=f'[s3]\ncredentials_files = ["{secret}"]\n')
    refused(larder, str(secret), "denied")
    assert "hunter2" not in larder.log.read_text()
    hidden = roots_own(room, "hidden")
    hidden.chmod(0o700)
    larder = make_nobodys()
    larder.mounts = {"data": f"file://{hidden}"}
    refused(larder, "mount data", "give it the right")


def test_what_a_user_may_do_works(origin, bucket, make_nobodys):
    origin.s3.put_object(Bucket=bucket, Key="file", Body=b"hello")
    larder = make_nobodys()
    larder.start()
    assert larder.s3.get_object(Bucket="lake", Key="file")["Body"].read() == b"hello"
    assert larder.state.stat().st_mode & 0o777 == 0o700
    larder.stop()
    assert larder.process.returncode == 0


def can_mount(room):
    """Why users can't mount here, if they can't."""
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed"
    folder = roots_own(room, "device")
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", NAMESPACE, "sh", folder, *NOBODY_WHO_MOUNTS,
         "sh", "-c", ": <>/dev/fuse"], capture_output=True, text=True, timeout=WAIT_S)
    return tried.stderr.strip() or None if tried.returncode else None


def test_a_mount_by_a_user(origin, bucket, room, make_nobodys):
    """In a mount name space of its own, where /dev/fuse is open to all as on most machines."""
    reason = can_mount(room)
    if reason is not None:
        pytest.skip(f"no user can mount here: {reason}")
    origin.s3.put_object(Bucket=bucket, Key="d/file", Body=b"hello")
    mountpoint = roots_own(room, "mnt")
    prefix = ["unshare", "--mount", "sh", "-c", NAMESPACE, "sh", roots_own(room, "device")]
    prefix += NOBODY_WHO_MOUNTS
    larder = make_nobodys(prefix=prefix, fuse=mountpoint)
    refused(larder, str(mountpoint), "no write access", code=USAGE)
    shutil.chown(mountpoint, "nobody", "nogroup")
    larder = make_nobodys(prefix=prefix, fuse=mountpoint)
    larder.start()

    def inside(*command):
        enter = ["nsenter", f"--mount=/proc/{larder.process.pid}/ns/mnt", *NOBODY]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=WAIT_S)

    assert inside("cat", mountpoint / "lake/d/file").stdout == "hello"
    assert inside("touch", mountpoint / "lake/d/new").returncode != 0
    assert not is_mounted(mountpoint), "the name space is its own"
    larder.stop()
    assert larder.process.returncode == 0
    assert "unmounted" in larder.log.read_text()
