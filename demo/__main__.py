# SPDX-License-Identifier: Apache-2.0
"""The demonstration behind ./up: a store, a proxy that counts, Larder, readers, one table.

    readers ──► Larder (9710) ──► store proxy (9730, counts and delays) ──► store (9720)
       └────────── directly ─────────────▲
"""

import argparse
import configparser
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOM = ROOT / ".run" / "demo"
STORE, STORE_HTTP = "127.0.0.1:9720", "127.0.0.1:9723"
PROXY, CONTROL = "127.0.0.1:9730", "127.0.0.1:9731"
S3, HTTP = "127.0.0.1:9710", "127.0.0.1:9711"
RADOSGW = ("larder", "larder-secret")

# The demonstration must not meet the credentials or proxies of whoever runs it.
for name in list(os.environ):
    if name.startswith(("AWS_", "LARDER_")) or name.lower().endswith("_proxy"):
        del os.environ[name]

import data  # noqa: E402
import readers  # noqa: E402
from readers import BUCKET, Endpoint  # noqa: E402
from servers import Broken, Counter, Server  # noqa: E402


def main() -> int:
    arguments = argparse.ArgumentParser(prog="up")
    arguments.add_argument("--binaries", type=Path, required=True)
    arguments.add_argument("--store", choices=("larder", "radosgw"), default="larder")
    arguments.add_argument("--delay", default="10ms")
    arguments.add_argument("--once", action="store_true")
    arguments = arguments.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    ROOM.mkdir(parents=True, exist_ok=True)
    demo = Demo(arguments)
    try:
        with (ROOM / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Broken("another ./up runs here; end it first") from None
            try:
                demo.run()
            finally:
                demo.stop()
    except KeyboardInterrupt:
        return 130
    except (Broken, subprocess.SubprocessError) as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    return 0


class Demo:
    """Everything that runs, in the order in which it starts."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.larder_binary = arguments.binaries / "larder"
        self.store = Server(ROOM, "store")
        self.proxy = Server(ROOM, "proxy")
        self.larder = Server(ROOM, "larder")
        self.counter = Counter(CONTROL)
        self.mount = ROOM / "mnt"
        self.rows = []

    def run(self) -> None:
        self.stop()  # what a killed demonstration left behind
        data.make(ROOM / "data")
        print(f"starting the store ({self.arguments.store}), the proxy and Larder", flush=True)
        self.start_radosgw() if self.arguments.store == "radosgw" else self.start_second_larder()
        self.start_proxy()
        self.start_larder()
        self.measure()
        self.print_table()
        if not self.arguments.once:
            self.print_addresses()
            self.stay()

    def stay(self) -> None:
        """Until ^C, SIGTERM, or the end of one of the servers."""
        while True:
            time.sleep(1)
            for server in (self.larder, self.proxy, self.store):
                if server.process and server.process.poll() is not None:
                    raise Broken(f"the {server.name} ended: {server.last_words()}")

    def stop(self) -> None:
        for server in (self.larder, self.proxy, self.store):
            server.stop()
        if (ROOM / "radosgw").exists():
            self.radosgw("stop")
            shutil.rmtree(ROOM / "radosgw", ignore_errors=True)

    # --- the servers -----------------------------------------------------------------------

    def start_second_larder(self) -> None:
        state = ROOM / "store"
        self.store.start([
            self.larder_binary, "up", "--state", state, "--cache", f"{state}/cache:1GiB",
            "--mount", f"{BUCKET}=file://{ROOM}/data", "--s3", STORE, "--http", STORE_HTTP,
        ], STORE, STORE_HTTP)
        self.store.wait_until(f"http://{STORE_HTTP}/readyz")
        # Its own cache is filled first, so that the first reader pays for nothing but distance.
        command = [self.larder_binary, "load", f"/{BUCKET}", "--state", state, "--json"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        self.store_keys = keys_in(state / "credentials")

    def start_radosgw(self) -> None:
        self.radosgw("start")
        self.store_keys = RADOSGW
        client = Endpoint(STORE, *RADOSGW).client()
        client.create_bucket(Bucket=BUCKET)
        files = [path for path in (ROOM / "data").rglob("*") if path.is_file()]

        def upload(path: Path) -> None:
            key = str(path.relative_to(ROOM / "data"))
            client.upload_file(str(path), BUCKET, key)

        with ThreadPoolExecutor(readers.THREADS) as pool:
            list(pool.map(upload, files))

    def radosgw(self, operation: str) -> None:
        script, port = ROOT / "tests/testbed/radosgw.sh", STORE.rpartition(":")[2]
        command = [script, ROOM / "radosgw", port, operation]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=900)

    def start_proxy(self) -> None:
        requests = ROOM / "requests.log"
        requests.unlink(missing_ok=True)
        self.proxy.start([
            self.arguments.binaries / "store-proxy", "--origin", f"http://{STORE}",
            "--listen", PROXY, "--control", CONTROL, "--delay", self.arguments.delay,
            "--log", requests,
        ], PROXY, CONTROL)
        self.proxy.wait_until(f"http://{CONTROL}/stats")

    def start_larder(self) -> None:
        # Cold means cold: what is known and what is kept go, the key pair stays.
        state = ROOM / "larder"
        for place in (state / "cache", state / "meta"):
            shutil.rmtree(place, ignore_errors=True)
        state.mkdir(mode=0o700, exist_ok=True)
        store_keys = state / "store-keys"
        store_keys.touch(mode=0o600)
        access, secret = self.store_keys
        store_keys.write_text(
            f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
        )
        settings = state / "larder.toml"
        settings.write_text(
            f'[[mount]]\nname = "{BUCKET}"\nuri = "s3://{BUCKET}"\nendpoint = "http://{PROXY}"\n'
            f'credentials_file = "{store_keys}"\nfreshness = "10m"\n'
        )
        fuse = []
        if os.access("/dev/fuse", os.W_OK):
            try:
                self.mount.mkdir(exist_ok=True)
            except OSError:
                pass  # after a kill a dead mount is here, which Larder takes away itself
            fuse = ["--fuse", self.mount]
        else:
            self.mount = None
            print("up: /dev/fuse cannot be opened here, so there is no mount and no row for it")
        self.larder.start([
            self.larder_binary, "up", "--config", settings, "--state", state,
            "--cache", f"{state}/cache:2GiB", "--s3", S3, "--http", HTTP, *fuse,
        ], S3, HTTP)
        self.larder.wait_until(f"http://{HTTP}/readyz")
        self.larder_keys = keys_in(state / "credentials")

    # --- the readings ----------------------------------------------------------------------

    def measure(self) -> None:
        store = Endpoint(PROXY, *self.store_keys)
        larder = Endpoint(S3, *self.larder_keys)
        small = f"{data.SHAPE['small']} small files, boto3 ×4"
        tpch = f"TPC-H {', '.join(map(str, readers.QUERIES))}, DuckDB"
        megabytes = data.SHAPE["large"] * data.SHAPE["large_bytes"] >> 20
        large = f"{megabytes} MiB in {data.SHAPE['large']} files"
        for what, read in ((tpch, readers.queries_by_s3), (small, readers.small_by_s3)):
            self.read(what, "directly", read, store)
            self.read(what, "by S3, cold", read, larder)
            self.read(what, "by S3, warm", read, larder)
        self.read(large, "directly", readers.large_by_s3, store)
        if self.mount:
            self.read(large, "by files, cold", readers.large_by_mount, self.mount)
            self.read(large, "by files, warm", readers.large_by_mount, self.mount)
            self.read(large, "by S3 after files", readers.large_by_s3, larder)
            self.read(tpch, "by files after S3", readers.queries_by_mount, self.mount)

    def read(self, what: str, how: str, read, place) -> None:
        print(f"reading: {what}, {how}", flush=True)
        self.counter.reset()
        start = time.monotonic()
        seen = read(place)
        seconds = time.monotonic() - start
        requests, received = self.counter.read()
        first = next((row for row in self.rows if row["what"] == what), None)
        if first and first["seen"] != seen:
            raise Broken(f"{what}, {how}: not the bytes that the store gives")
        self.rows.append({
            "what": what, "how": how, "seen": seen, "seconds": seconds,
            "requests": requests, "mebibytes": received / (1 << 20),
        })

    # --- what is printed -------------------------------------------------------------------

    def print_table(self) -> None:
        width = max(len(row["what"]) for row in self.rows)
        line = f"\n{'what':{width}}  {'how':17}  seconds  requests to store  MiB from store"
        print(line + "\n" + "-" * (len(line) - 1))
        before = None
        for row in self.rows:
            what = "" if row["what"] == before else row["what"]
            before = row["what"]
            print(
                f"{what:{width}}  {row['how']:17}  {row['seconds']:7.2f}  "
                f"{row['requests']:17}  {row['mebibytes']:14.1f}"
            )
        print(
            f"\nThe store is {self.arguments.delay} away; requests and bytes are counted by a "
            "proxy before the store\n"
            f"and stand, one a line, in {ROOM}/requests.log. Each row read the same as the first "
            "of its kind.\nAfter another face a little is left to ask: the content type of each "
            "object, which S3 clients want\nand listings do not tell (HEAD), and what the kernel "
            "reads ahead of DuckDB.",
            flush=True,
        )

    def print_addresses(self) -> None:
        keys = ROOM / "larder" / "credentials"
        print(f"\nLarder runs:  S3 http://{S3}   HTTP http://{HTTP}/metrics")
        if self.mount:
            print(f"files:        {self.mount}/{BUCKET}")
        print(f"try:          AWS_SHARED_CREDENTIALS_FILE={keys} \\")
        print(f"              AWS_ENDPOINT_URL=http://{S3} aws s3 ls s3://{BUCKET}/")
        print(f"              {self.larder_binary} --state {ROOM}/larder status")
        print("^C ends everything.", flush=True)


def keys_in(path: Path) -> tuple[str, str]:
    """The key pair of the default profile."""
    profiles = configparser.ConfigParser(interpolation=None)
    profiles.read(path)
    profile = profiles["default"]
    return profile["aws_access_key_id"], profile["aws_secret_access_key"]


if __name__ == "__main__":
    sys.exit(main())
