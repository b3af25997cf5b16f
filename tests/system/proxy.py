# SPDX-License-Identifier: Apache-2.0
"""The store proxy (`bench/src/proxy`) between Larder and the origin: counts and breaks requests."""

import json
import subprocess
import urllib.request
from pathlib import Path

from process import binary, end, wait_until


class StoreProxy:
    """One running proxy. `url` is where Larder connects."""

    def __init__(self, origin_url: str, directory: Path):
        self.log = directory / "proxy.jsonl"
        self.process = subprocess.Popen(
            [binary("store-proxy"), "--origin", origin_url, "--log", str(self.log)],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        )
        line = self.process.stdout.readline()
        assert line, f"the store proxy ended with {self.process.wait(10)}"
        addresses = json.loads(line)
        self.url = f"http://{addresses['listen']}"
        self.control = f"http://{addresses['control']}"

    def _ask(self, method: str, path: str, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.loads(reply.read())

    def stats(self) -> dict:
        return self._ask("GET", "/stats")

    def reset(self):
        """Sets the figures to zero once nothing is under way, and forgets the log."""
        wait_until("requests to the store end", lambda: self.stats()["in_flight"] == 0)
        self._ask("POST", "/reset")
        self.log.write_text("")

    def requests(self) -> list[dict]:
        """One line per request that ended since the last reset."""
        return [json.loads(line) for line in self.log.read_text(errors="replace").splitlines()
                if line.startswith("{")]

    def break_with(self, *rules: dict):
        self._ask("POST", "/faults", list(rules))

    def heal(self):
        self._ask("DELETE", "/faults")

    def slow_down(self, delay_ms: float = 0, bytes_per_s: int = 0):
        self._ask("POST", "/delay", {"delay_ms": delay_ms, "bytes_per_s": bytes_per_s})

    def go_away(self):
        """The store is down: every connection is closed without a reply."""
        self.break_with({"action": "drop"})

    def stop(self):
        end(self.process)
