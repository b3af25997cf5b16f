# SPDX-License-Identifier: Apache-2.0
"""Starting and ending the servers of a test: free ports, bounded waits, ends by PID only."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("LARDER_TEST_BINARIES", ROOT / "target" / "debug"))


def binary(name: str) -> str:
    path = BINARIES / name
    assert path.exists(), f"{path} is not built; run `cargo build --workspace --bins`"
    return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment without the credentials, proxies and settings of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", **more}


def wait_until(what: str, condition, seconds: float = 20.0, pause: float = 0.02):
    """Calls `condition` until it gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(pause)


def end(process: subprocess.Popen, seconds: float = 20.0) -> int:
    """SIGTERM, then SIGKILL when that is not enough; the exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
    return process.returncode


def run(command, *, timeout: float = 120, env=None, check: bool = True, **more):
    """Runs a program to its end and returns what it said, as text."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, timeout=timeout, env=env, stdin=subprocess.DEVNULL, **more,
    )
    if check:
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
