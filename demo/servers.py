# SPDX-License-Identifier: Apache-2.0
"""Starts and ends the servers of the demonstration.

Each has a PID file that also holds the start time of its process. The two name one process for
good, so the next start ends exactly what a killed demonstration left behind and nothing else.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_SECONDS = 60
STOP_SECONDS = 15


class Broken(Exception):
    """Something did not start or does not answer; the message is one sentence for the user."""


def born(pid: int) -> str | None:
    """The start time of a process in clock ticks; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class Server:
    """One process with its log and its PID file in `room`."""

    def __init__(self, room: Path, name: str):
        self.name, self.process = name, None
        self.pid_file, self.log = room / f"{name}.pid", room / f"{name}.log"

    def start(self, command: list, *addresses: str) -> None:
        """Starts it where `addresses` are free: a stranger's answer must not pass for its own."""
        self.stop()
        for address in addresses:
            host, _, port = address.rpartition(":")
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    raise Broken(f"{address}, which the {self.name} needs, is taken; free it")
        with self.log.open("wb") as log:
            # A session of its own: ^C reaches the demonstration alone, which ends all in order.
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        self.pid_file.write_text(f"{self.process.pid} {born(self.process.pid)}\n")

    def wait_until(self, url: str) -> None:
        """Waits until `url` answers 200."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Broken(f"{self.name} ended at its start: {self.last_words()}")
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise Broken(f"{self.name} is not ready after {READY_SECONDS} s; see {self.log}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it said nothing; see {self.log}"

    def stop(self) -> None:
        """Ends what the PID file names: SIGTERM, a bounded wait, SIGKILL."""
        try:
            pid, start = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + STOP_SECONDS
            if born(int(pid)) == start:
                os.kill(int(pid), signal_number)
            while born(int(pid)) == start and time.monotonic() < end:
                if self.process is not None:
                    self.process.poll()
                time.sleep(0.05)
        self.pid_file.unlink(missing_ok=True)


class Counter:
    """The control port of the store proxy."""

    def __init__(self, address: str):
        self.url = f"http://{address}"

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.url}/reset", data=b"", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def read(self) -> tuple[int, int]:
        """Requests and bytes of replies since the last reset."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=10) as reply:
            stats = json.load(reply)
        return stats["requests"], stats["reply_bytes"]
