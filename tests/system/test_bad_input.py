# SPDX-License-Identifier: Apache-2.0
"""Wrong input gives one clear sentence and the right code; nothing hangs, nothing panics."""

import os
import socket
import subprocess

import pytest
from conftest import BINARIES, clean_environment


def run(larder):
    """Runs `up` until it refuses."""
    larder.spawn()
    code = larder.process.wait(60)
    return code, larder.log.read_text()


def refused(larder, *words):
    code, said = run(larder)
    assert code != 0, said
    for word in words:
        assert word in said, f"'{word}' is missing in: {said}"
    assert "panicked" not in said
    lines = [line for line in said.splitlines() if line.startswith("larder:") or "error" in line]
    assert len(lines) <= 2, said


MOUNT = '[[mount]]\nname = "lake"\nuri = "s3://{}"\n'


@pytest.mark.parametrize("extra, words", [
    ('freshnes = "5s"\n', ["freshnes", "freshness"]),
    ('freshness = "5 parsecs"\n', ["5 parsecs"]),
    ('[[cache]]\npath = "/tmp/x"\nsize = "10 parsecs"\n', ["10 parsecs"]),
    ('[s3]\nlisen = "127.0.0.1:1"\n', ["lisen", "listen"]),
])
def test_configuration(make_larder, bucket, extra, words):
    refused(make_larder({}, config=MOUNT.format(bucket) + extra), *words)


def test_missing_bucket_and_bad_credentials(make_larder, bucket):
    refused(make_larder({"lake": "s3://no-such-bucket"}), "no-such-bucket")
    wrong = {"AWS_SECRET_ACCESS_KEY": "certainly-not-the-secret"}
    larder = make_larder({"lake": f"s3://{bucket}"}, environment=wrong)
    refused(larder, "lake", "credentials")
    assert "certainly-not-the-secret" not in larder.log.read_text()


def test_port_taken_and_two_on_one_directory(make_larder, larder, bucket):
    second = make_larder({"lake": f"s3://{bucket}"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = second.command()
        at = command.index("--s3") + 1
        command[at] = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {**clean_environment(), **second.environment}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode != 0 and str(taken.getsockname()[1] if taken.fileno() > 0 else "") in done.stderr
    same_cache = make_larder({"lake": f"s3://{bucket}"})
    same_cache.cache = larder.cache
    refused(same_cache, "in use")
    same_state = make_larder({"lake": f"s3://{bucket}"})
    same_state.state = larder.state
    refused(same_state, str(larder.state))
    assert larder.s3.list_buckets()["Buckets"], "the first goes on"


def test_unusable_cache_directory(make_larder, bucket, tmp_path):
    file = tmp_path / "file"
    file.write_text("not a directory")
    larder = make_larder({"lake": f"s3://{bucket}"})
    larder.cache = file
    refused(larder, str(file))


def test_paths_on_the_command_line(larder):
    for arguments in (["cat", "/nowhere/x"], ["cat", "/lake/nothing"], ["stat", "/lake/../etc/passwd"],
                      ["cat", "/lake/" + "k" * 2000], ["cat", "/UPPER/x"]):
        done = larder.cli(*arguments, check=False)
        assert done.returncode not in (0, 101), arguments
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert subprocess.run([BINARIES / "larder", "fly"], capture_output=True).returncode == 2


def test_not_running(tmp_path):
    command = [BINARIES / "larder", "--state", tmp_path / "none", "status"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode not in (0, 101) and "larder up" in done.stderr


def test_a_full_disk_is_only_less_cache(make_larder, origin, bucket, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], check=True)
    try:
        body = os.urandom(6_000_000)
        for at in range(3):
            origin.s3.put_object(Bucket=bucket, Key=f"f{at}", Body=body)
        (disk / "foreign").write_bytes(bytes(5_000_000))
        larder = make_larder({"lake": f"s3://{bucket}"}, capacity="7MiB")
        larder.cache = disk / "cache"
        larder.start()
        for at in range(3):
            assert larder.s3.get_object(Bucket="lake", Key=f"f{at}")["Body"].read() == body
        larder.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
