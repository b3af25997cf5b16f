# SPDX-License-Identifier: Apache-2.0
"""Real parts for the system tests: an S3 server, the store proxy that counts, and Larder itself.

Everything listens on free ports of the loopback, lives in a scratch directory, and is ended by
its process id whatever happens to the test.
"""

import configparser
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import boto3
import pytest
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("LARDER_TEST_BINARIES", ROOT / "target" / "debug"))
# Where `./check` wants to find the origin, to end it should this process not come to it.
ORIGIN_NOTE = os.environ.get("LARDER_TEST_ORIGIN_NOTE")
WAIT_S = 30


def free_port(count=1):
    """The first of `count` ports in a row that are free now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        if first + count > 65_000:
            continue
        taken = []
        for port in range(first, first + count):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    taken.append(port)
        if not taken:
            return first


def s3_client(url, access, secret, **options):
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        retries={"max_attempts": 0},
        max_pool_connections=128,
        read_timeout=90,
        **options,
    )
    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=access, aws_secret_access_key=secret,
        region_name="us-east-1", config=config,
    )


def call(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, method=method, data=data)
    with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
        return reply.read().decode()


class Origin:
    """radosgw: keeps every key apart and checks signatures."""

    access, secret = "larder", "larder-secret"

    def __init__(self, directory):
        self.directory, self.port = directory, free_port(3)
        self.url = f"http://127.0.0.1:{self.port}"
        if ORIGIN_NOTE:
            pathlib.Path(ORIGIN_NOTE).write_text(f"{directory} {self.port}\n")
        self._script("start")
        self.s3 = s3_client(self.url, self.access, self.secret)
        self.buckets = 0
        self.tokens = None

    def _script(self, what):
        script = ROOT / "tests" / "testbed" / "radosgw.sh"
        command = ["bash", script, self.directory, str(self.port), what]
        subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)

    def bucket(self):
        self.buckets += 1
        name = f"origin-{self.buckets}"
        self.s3.create_bucket(Bucket=name)
        return name

    def temporary_keys(self):
        """A set of keys with a session token, valid for 15 minutes."""
        if self.tokens is None:
            policy = {"Effect": "Allow", "Action": ["sts:*", "s3:*"], "Resource": ["*"]}
            document = json.dumps({"Version": "2012-10-17", "Statement": [policy]})
            self.client("iam").put_user_policy(
                UserName="larder", PolicyName="tokens", PolicyDocument=document
            )
            self.tokens = self.client("sts")
        return self.tokens.get_session_token(DurationSeconds=900)["Credentials"]

    def client(self, service):
        return boto3.client(
            service, endpoint_url=self.url, aws_access_key_id=self.access,
            aws_secret_access_key=self.secret, region_name="us-east-1",
        )

    def environment(self):
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }

    def stop(self):
        self._script("stop")
        shutil.rmtree(self.directory, ignore_errors=True)
        if ORIGIN_NOTE:
            pathlib.Path(ORIGIN_NOTE).unlink(missing_ok=True)


class Proxy:
    """The store proxy: what Larder really asks of the store is counted here."""

    def __init__(self, origin_url, log):
        command = [BINARIES / "store-proxy", "--origin", origin_url, "--log", log]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told = json.loads(self.process.stdout.readline())
        self.url, self.control = f"http://{told['listen']}", f"http://{told['control']}"
        self.log = log

    def stats(self):
        return json.loads(call(f"{self.control}/stats"))

    def reset(self):
        call(f"{self.control}/reset", "POST")

    def delay(self, **wish):
        call(f"{self.control}/delay", "POST", wish)

    def faults(self, *rules):
        call(f"{self.control}/faults", "POST", list(rules))

    def requests(self):
        return self.stats()["requests"]

    def bytes(self):
        return self.stats()["reply_bytes"]

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_S)


class Larder:
    """One Larder with its own state, cache and ports."""

    def __init__(self, directory, mounts, environment, **options):
        self.directory = pathlib.Path(directory)
        self.state, self.cache = self.directory / "state", self.directory / "cache"
        self.mounts, self.environment = mounts, environment
        self.capacity = options.pop("capacity", "1GiB")
        self.config = options.pop("config", None)
        self.fuse = options.pop("fuse", None)
        # What starts it, for example as another user; and the binary that this user can reach.
        self.prefix = options.pop("prefix", [])
        self.binary = options.pop("binary", BINARIES / "larder")
        assert not options, options
        self.log = self.directory / "larder.log"
        self.process = None

    def command(self):
        self.s3_port, self.http_port = free_port(), free_port()
        command = [*self.prefix, self.binary, "up", "--state", self.state]
        command += ["--cache", f"{self.cache}:{self.capacity}"]
        for name, uri in self.mounts.items():
            command += ["--mount", f"{name}={uri}"]
        command += ["--s3", f"127.0.0.1:{self.s3_port}", "--http", f"127.0.0.1:{self.http_port}"]
        if self.config is not None:
            path = self.directory / "larder.toml"
            path.write_text(self.config)
            command += ["--config", path]
        if self.fuse is not None:
            with contextlib.suppress(FileExistsError):  # also where a dead mount lies there
                os.mkdir(self.fuse)
            command += ["--fuse", self.fuse]
        return command

    def spawn(self):
        command = self.command()
        environment = {**clean_environment(), **self.environment}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )
        return self

    def start(self):
        """Starts it and answers how many seconds it took until it was ready."""
        begun = time.monotonic()
        self.spawn()
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() - begun > WAIT_S:
                raise AssertionError(f"larder did not get ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self.s3_port}"
        self.http = f"http://127.0.0.1:{self.http_port}"
        keys = configparser.ConfigParser()
        keys.read(self.state / "credentials")
        self.access = keys["default"]["aws_access_key_id"]
        self.secret = keys["default"]["aws_secret_access_key"]
        self.s3 = s3_client(self.url, self.access, self.secret)
        seconds = time.monotonic() - begun
        self.settle()
        return seconds

    def settle(self):
        """Waits until every store has answered the one question of a start, which is asked
        behind: from here on a test may count requests. A store that is down is not waited for
        for long."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            status = json.loads(call(f"{self.http}/api/v1/status"))
            mounts = [mount for worker in status["workers"] for mount in worker["mounts"]]
            if all(mount["store_requests"] or mount["last_error"] for mount in mounts):
                return
            time.sleep(0.02)

    def ready(self):
        try:
            call(f"http://127.0.0.1:{self.http_port}/readyz")
            return True
        except OSError:
            return False

    def metric(self, name, **labels):
        """The sum of a metric over all label sets that fit."""
        total = 0.0
        for line in call(f"{self.http}/metrics").splitlines():
            head, _, value = line.rpartition(" ")
            bare, _, told = head.partition("{")
            fits = all(f'{key}="{wish}"' in told for key, wish in labels.items())
            if bare == name and fits:
                total += float(value)
        return total

    def cli(self, *arguments, check=True, text=True):
        command = [BINARIES / "larder", "--state", self.state, *arguments]
        done = subprocess.run(
            command, capture_output=True, timeout=120, env=clean_environment(), text=text
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def aws_environment(self):
        return {
            **clean_environment(),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.state / "credentials"),
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def is_mounted(path):
    """Whether something is mounted there; does not touch the place, which may hang."""
    table = pathlib.Path("/proc/self/mountinfo").read_text()
    return any(line.split()[4] == str(path) for line in table.splitlines())


def clean_environment():
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
    return {key: os.environ[key] for key in keep if key in os.environ}


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    server = Origin(tmp_path_factory.mktemp("origin"))
    yield server
    server.stop()


@pytest.fixture
def bucket(origin):
    return origin.bucket()


@pytest.fixture
def proxy(origin, tmp_path):
    running = Proxy(origin.url, tmp_path / "requests.log")
    yield running
    running.stop()


@pytest.fixture
def make_larder(origin, proxy, tmp_path):
    """A factory: `make_larder({"lake": "s3://bucket"}, capacity=…, config=…, fuse=…)`."""
    made = []

    def make(mounts, **options):
        directory = tmp_path / f"larder-{len(made)}"
        directory.mkdir()
        environment = {"AWS_ENDPOINT_URL": proxy.url, **origin.environment()}
        environment.update(options.pop("environment", {}))
        larder = Larder(directory, mounts, environment, **options)
        made.append(larder)
        return larder

    yield make
    for larder in made:
        larder.stop()
        if larder.fuse is not None and is_mounted(larder.fuse):
            # Killed by its test: a dead mount would hang whoever looks below the scratch folder.
            subprocess.run(["fusermount3", "-u", "-z", str(larder.fuse)], check=False)
        log = larder.log.read_text() if larder.log.exists() else ""
        assert "panicked" not in log, log[-4000:]


@pytest.fixture
def larder(make_larder, bucket):
    """One Larder over a fresh bucket mounted as `lake`."""
    running = make_larder({"lake": f"s3://{bucket}"})
    running.start()
    return running
