# SPDX-License-Identifier: Apache-2.0
"""The real S3 server that everything is compared with, and S3 clients of it and of Larder.

ORIGIN_URL, ORIGIN_ACCESS and ORIGIN_SECRET name a server that runs already; without them
radosgw is started from `tests/testbed` and ended with the session.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from process import ROOT, free_port, run

SCRIPT = ROOT / "tests" / "testbed" / "radosgw.sh"
# Where `./check` finds what to end should this process not come to it.
NOTE = ROOT / ".run" / "origin"


@dataclass(frozen=True)
class Endpoint:
    """An S3 server and the keys to it."""

    url: str
    access: str
    secret: str

    def client(self, **more):
        """A boto3 client without retries, so that what it says is what the server said."""
        settings = {"addressing_style": "path"} | more.pop("s3", {})
        config = Config(
            s3=settings, signature_version="s3v4", retries={"total_max_attempts": 1},
            connect_timeout=10, read_timeout=60, max_pool_connections=80,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required", **more,
        )
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=config,
            aws_access_key_id=self.access, aws_secret_access_key=self.secret,
        )

    def environment(self) -> dict[str, str]:
        """What AWS clients read."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


class Origin(Endpoint):
    """The S3 server that holds the data."""

    def new_bucket(self) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def drop_bucket(self, name: str):
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if keys:
                client.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
        with suppress(client.exceptions.ClientError):
            client.delete_bucket(Bucket=name)


def running():
    """Yields the origin; starts and ends one if the environment names none."""
    access = os.environ.get("ORIGIN_ACCESS", "larder")
    secret = os.environ.get("ORIGIN_SECRET", "larder-secret")
    if url := os.environ.get("ORIGIN_URL"):
        yield Origin(url, access, secret)
        return
    # Ceph's sockets need a short path.
    directory = Path(tempfile.mkdtemp(prefix="larder-origin-"))
    port = free_port()
    NOTE.parent.mkdir(exist_ok=True)
    NOTE.write_text(f"{directory} {port}\n")
    try:
        run([SCRIPT, directory, port, "start"], timeout=300)
        yield Origin(f"http://127.0.0.1:{port}", access, secret)
    finally:
        stop = [str(SCRIPT), str(directory), str(port), "stop"]
        subprocess.run(stop, timeout=90, check=False, stdout=subprocess.DEVNULL)
        shutil.rmtree(directory, ignore_errors=True)
        NOTE.unlink(missing_ok=True)
