# SPDX-License-Identifier: Apache-2.0
"""A running Larder, started as a user starts it: the binary, a configuration file, its own keys."""

import configparser
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from origin import Endpoint
from process import binary, clean_environment, end, free_port, run, wait_until


@dataclass
class Mount:
    """A mount as the configuration file has it; `settings` are further keys, as TOML text."""

    name: str
    uri: str
    endpoint: Endpoint | None = None
    settings: dict[str, str] = field(default_factory=dict)


def is_mounted(place: Path) -> bool:
    """Whether something is mounted there; never touches the place itself, which may hang."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(place) for line in lines)


class Larder:
    """One instance in a directory of its own; it can be killed and started again there."""

    def __init__(self, directory: Path, mounts, *, cache_size="1GiB", fuse=False, general=""):
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.state = directory / "state"
        self.cache = directory / "cache"
        self.mountpoint = directory / "mnt" if fuse else None
        self.s3_url = f"http://127.0.0.1:{free_port()}"
        self.http_url = f"http://127.0.0.1:{free_port()}"
        self.config = directory / "larder.toml"
        self.log = directory / "log"
        self.process = None
        self.mounts = list(mounts)
        self.cache_size = cache_size
        self.general = general
        if self.mountpoint:
            self.mountpoint.mkdir(exist_ok=True)
        self.write_config()

    def write_config(self):
        lines = [f'state = "{self.state}"', self.general, ""]
        lines += [f'[s3]\nlisten = "{self.s3_url.removeprefix("http://")}"',
                  'base_domains = ["localhost"]']
        lines += [f'[http]\nlisten = "{self.http_url.removeprefix("http://")}"']
        if self.mountpoint:
            lines += [f'[fuse]\nmountpoint = "{self.mountpoint}"']
        lines += [f'[[cache]]\npath = "{self.cache}"\nsize = "{self.cache_size}"']
        for mount in self.mounts:
            lines += [f'[[mount]]\nname = "{mount.name}"\nuri = "{mount.uri}"']
            if mount.endpoint:
                keys = self.directory / f"keys-{mount.name}"
                keys.write_text(f"[default]\naws_access_key_id = {mount.endpoint.access}\n"
                                f"aws_secret_access_key = {mount.endpoint.secret}\n")
                lines += [f'endpoint = "{mount.endpoint.url}"', 'region = "us-east-1"',
                          'addressing = "path"', f'credentials_file = "{keys}"']
            lines += [f"{key} = {value}" for key, value in mount.settings.items()]
        self.config.write_text("\n".join(lines) + "\n")

    # --- life ---------------------------------------------------------------------------------

    def spawn(self):
        """Starts the process and returns at once."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [binary("larder"), "up", "--config", str(self.config)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=clean_environment(self.directory, RUST_BACKTRACE="1"),
            )

    def start(self, seconds: float = 30.0) -> float:
        """Starts and waits until /readyz is 200; the seconds it took."""
        self.spawn()
        begin = time.monotonic()
        wait_until("larder is ready", self.is_ready, seconds, pause=0.005)
        return time.monotonic() - begin

    def is_ready(self) -> bool:
        code = self.process.poll()
        assert code is None, f"larder ended with {code}:\n{self.talk()}"
        return self.http_status("/readyz") == 200

    def stop(self) -> int:
        return end(self.process) if self.process else 0

    def kill(self):
        """SIGKILL, and the end of what the kernel still holds of its mount."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def dispose(self):
        """Ends it whatever its state, and unmounts what is left."""
        if self.process and self.process.poll() is None:
            end(self.process)
        if self.mountpoint and is_mounted(self.mountpoint):
            subprocess.run(["fusermount3", "-u", "-z", str(self.mountpoint)], check=False)

    # --- what it says -------------------------------------------------------------------------

    def talk(self) -> str:
        return self.log.read_text(errors="replace")[-20_000:]

    def panicked(self) -> bool:
        return "panicked at" in self.log.read_text(errors="replace")

    def http_status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.http_url + path, timeout=5) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name with labels."""
        with urllib.request.urlopen(self.http_url + "/metrics", timeout=10) as reply:
            text = reply.read().decode()
        samples = (line.rsplit(" ", 1) for line in text.splitlines()
                   if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        return sum(value for sample, value in self.metrics().items()
                   if sample.split("{")[0] == name)

    def cache_bytes(self) -> int:
        """What the cache directory takes on disk, as `du` counts."""
        done = run(["du", "-s", "--block-size=1", self.cache])
        return int(done.stdout.split()[0])

    def backing_files(self) -> list[Path]:
        """The files that hold pages."""
        return [path for path in sorted((self.cache / "pages").rglob("*")) if path.is_file()]

    # --- using it -----------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """Its S3 face with its own keys."""
        keys = configparser.ConfigParser()
        keys.read(self.state / "credentials")
        default = keys["default"]
        return Endpoint(self.s3_url, default["aws_access_key_id"],
                        default["aws_secret_access_key"])

    def client(self, **more):
        return self.endpoint.client(**more)

    def command(self, *words, check=True, timeout=60):
        """Runs `larder WORDS` against this instance."""
        return run([binary("larder"), *words, "--state", self.state], check=check,
                   timeout=timeout, env=clean_environment(self.directory))

    def path(self, *parts: str) -> Path:
        """A path below the mount point, once that is known to be mounted."""
        assert self.mountpoint and is_mounted(self.mountpoint), "nothing is mounted"
        return self.mountpoint.joinpath(*parts)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid: int) -> int:
    """Private memory of a process: what it would give back by ending."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024
