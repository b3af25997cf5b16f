# SPDX-License-Identifier: Apache-2.0
"""Cache directories that come, go and fail while Larder runs; every byte is compared with the origin.

The disks are loop devices with small ext4 images, which needs root.
"""

import json
import os
import subprocess
import time

import pytest
from conftest import WAIT_S, call, is_mounted

SIZE = 64 << 20
BODY = 1_500_000


class Disk:
    """A file system of its own on a loop device."""

    def __init__(self, directory):
        self.image, self.path = directory / "disk.img", directory / "disk"
        self.path.mkdir()
        self.make()

    def make(self):
        with open(self.image, "wb") as image:
            image.truncate(SIZE)
        self.run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", self.image)
        self.run("mount", "-o", "loop,errors=remount-ro", self.image, self.path)

    def run(self, *command):
        subprocess.run(command, check=True, timeout=60, capture_output=True)

    def remount(self, how):
        self.run("mount", "-o", f"remount,{how}", self.path)

    def unmount(self, *how):
        self.run("umount", *how, self.path)

    def cut(self):
        """The device ends early now: whatever lies behind answers with I/O errors."""
        listed = subprocess.run(["losetup", "--noheadings", "--output", "NAME", "-j", self.image],
                                check=True, timeout=60, capture_output=True, text=True)
        os.truncate(self.image, 1 << 20)
        self.run("losetup", "--set-capacity", listed.stdout.strip())


@pytest.fixture
def disk(tmp_path):
    try:
        made = Disk(tmp_path)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"a loop device with ext4 can't be had here: {error}")
    yield made
    if is_mounted(made.path):
        made.unmount("--lazy")


class Lake:
    """Objects with known bytes, read through Larder."""

    def __init__(self, origin, bucket, larder):
        self.origin, self.bucket, self.larder, self.bodies = origin, bucket, larder, {}

    def read_new(self, count):
        for _ in range(count):
            key = f"object-{len(self.bodies)}"
            self.bodies[key] = os.urandom(BODY)
            self.origin.s3.put_object(Bucket=self.bucket, Key=key, Body=self.bodies[key])
            self.read(key)

    def read(self, key):
        got = self.larder.s3.get_object(Bucket="lake", Key=key)["Body"].read()
        assert got == self.bodies[key], key

    def read_all(self):
        for key in self.bodies:
            self.read(key)


def state_of(larder, directory):
    disks = json.loads(larder.cli("--json", "cache", "list").stdout)
    return next(disk for disk in disks if disk["directory"] == str(directory))


def wait_for(what, holds):
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < 2 * WAIT_S, f"in vain: {what}"
        time.sleep(0.2)


def fill(lake, larder, cache):
    """Reads new objects until some lie in that directory; which one goes where is by chance."""
    def there():
        lake.read_new(2)
        return state_of(larder, cache)["resident_bytes"] > BODY

    wait_for("pages go there", there)


def test_a_directory_is_added_drained_and_taken_away(origin, bucket, make_larder, disk):
    larder = make_larder({"lake": f"s3://{bucket}"}, capacity="40MiB")
    larder.start()
    lake = Lake(origin, bucket, larder)
    lake.read_new(4)
    cache = disk.path / "cache"
    assert larder.cli("cache", "drain", cache, check=False).returncode == 3
    larder.cli("cache", "add", f"{cache}:40MiB")
    fill(lake, larder, cache)
    larder.cli("cache", "drain", cache)
    lake.read_all()
    wait_for("it is drained", lambda: state_of(larder, cache)["state"] == "drained")
    disk.unmount()  # nothing is open there any more
    lake.read_new(4)
    lake.read_all()
    assert not (disk.path / "cache").exists()
    assert state_of(larder, cache)["resident_bytes"] == 0
    disk.run("mount", "-o", "loop", disk.image, disk.path)
    larder.cli("cache", "resume", cache)
    wait_for("it serves", lambda: state_of(larder, cache)["state"] == "serving")
    fill(lake, larder, cache)
    lake.read_all()
    larder.stop()


def test_a_disk_with_io_errors_leaves_service_and_another_takes_its_place(
        origin, bucket, make_larder, disk):
    larder = make_larder({"lake": f"s3://{bucket}"}, capacity="200MiB")
    larder.start()
    lake = Lake(origin, bucket, larder)
    cache = disk.path / "cache"
    larder.cli("cache", "add", f"{cache}:48MiB")
    fill(lake, larder, cache)
    disk.cut()

    def is_out():
        lake.read_new(2)
        lake.read_all()
        return larder.metric("larder_cache_directory_faults_total") > 0

    wait_for("the fault is noticed", is_out)
    assert larder.ready(), "a failing disk is no reason to leave"
    told = state_of(larder, cache)
    assert told["state"] == "faulty" and told["fault"], told
    call(f"{larder.http}/metrics")
    assert larder.metric("larder_cache_directories_out") == 1
    doctor = larder.cli("doctor", check=False)
    assert f"larder cache resume {cache}" in doctor.stdout and doctor.returncode == 1
    assert larder.cli("cache", "resume", cache, check=False).returncode != 0
    lake.read_all()
    disk.unmount("--lazy")
    disk.image.unlink()
    disk.make()
    larder.cli("cache", "resume", cache)
    wait_for("it serves", lambda: state_of(larder, cache)["state"] == "serving")
    fill(lake, larder, cache)
    lake.read_all()
    call(f"{larder.http}/metrics")
    assert larder.metric("larder_cache_directories_out") == 0
    larder.stop()


def test_a_read_only_disk_leaves_service_and_comes_back_with_its_pages(
        origin, bucket, proxy, make_larder, disk):
    larder = make_larder({"lake": f"s3://{bucket}"}, config='[[mount]]\nname = "lake"\n'
                         f'uri = "s3://{bucket}"\nfreshness = "immutable"\n', capacity="200MiB")
    larder.start()
    lake = Lake(origin, bucket, larder)
    cache = disk.path / "cache"
    larder.cli("cache", "add", f"{cache}:48MiB")
    fill(lake, larder, cache)
    def is_read_only():
        try:
            disk.remount("ro")
        except subprocess.CalledProcessError:
            return False  # a page is just being written
        return True

    wait_for("it is read-only", is_read_only)

    def is_out():
        lake.read_new(1)
        return state_of(larder, cache)["state"] == "faulty"

    wait_for("the fault is noticed", is_out)
    assert larder.ready()
    assert larder.cli("cache", "resume", cache, check=False).returncode != 0
    disk.remount("rw")
    larder.cli("cache", "resume", cache)
    wait_for("it serves", lambda: state_of(larder, cache)["state"] == "serving")
    assert state_of(larder, cache)["resident_bytes"] > BODY, "its pages are still there"
    lake.read_all()
    # All is resident by now, on one disk or the other: nothing is asked of the store.
    proxy.reset()
    lake.read_all()
    assert proxy.requests() == 0
    larder.stop()
