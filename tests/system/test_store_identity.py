# SPDX-License-Identifier: Apache-2.0
"""Keys from a machine's role: stand-ins for the metadata service and the token service hand out
temporary keys that the origin itself has issued, so a signature made with them is really checked."""

import datetime
import http.server
import json
import os
import threading
import time
import urllib.parse

import pytest

XML = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{AccessKeyId}</AccessKeyId><SecretAccessKey>{SecretAccessKey}</SecretAccessKey>
<SessionToken>{SessionToken}</SessionToken><Expiration>{Expiration}</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


class Identity:
    """Both services on one port. `lifetimes` says how long each set of keys claims to live."""

    def __init__(self, origin, lifetimes):
        self.origin, self.lifetimes, self.served, self.seen = origin, list(lifetimes), [], []
        identity = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, text, status=200):
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_PUT(self):
                self.answer("metadata-token")

            def do_GET(self):
                if self.headers.get("x-aws-ec2-metadata-token") != "metadata-token":
                    return self.answer("", 401)
                if self.path.endswith("/security-credentials/"):
                    return self.answer("the-role")
                keys = identity.issue()
                told = {"Code": "Success", "Token": keys.pop("SessionToken"), **keys}
                self.answer(json.dumps(told))

            def do_POST(self):
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                identity.seen.append(dict(urllib.parse.parse_qsl(form)))
                self.answer(XML.format(**identity.issue()))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def issue(self):
        keys = self.origin.temporary_keys()
        lifetime = self.lifetimes[min(len(self.served), len(self.lifetimes) - 1)]
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=lifetime)
        self.served.append(keys["AccessKeyId"])
        return {**keys, "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.fixture
def make_identity(origin):
    made = []

    def make(*lifetimes):
        origin.temporary_keys()  # its clients are made here and not while a request waits
        made.append(Identity(origin, lifetimes))
        return made[-1]

    yield make
    for identity in made:
        identity.server.shutdown()
        identity.server.server_close()


@pytest.fixture
def without_keys(make_larder, bucket, tmp_path):
    """A Larder that has no keys of its own, started with these variables."""

    def start(**environment):
        larder = make_larder({"lake": f"s3://{bucket}"})
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del larder.environment[name]
        larder.environment.update(HOME=str(tmp_path), **environment)
        larder.start()
        return larder

    return start


def test_a_web_identity_signs(origin, bucket, make_identity, without_keys, tmp_path):
    body = os.urandom(300_000)
    origin.s3.put_object(Bucket=bucket, Key="file", Body=body)
    token = tmp_path / "token"
    token.write_text("who-i-am\n")
    identity = make_identity(900)
    larder = without_keys(
        AWS_ROLE_ARN="arn:aws:iam::1:role/reader", AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
        AWS_ENDPOINT_URL_STS=identity.url,
    )
    assert larder.s3.get_object(Bucket="lake", Key="file")["Body"].read() == body
    assert identity.seen[0]["WebIdentityToken"] == "who-i-am"
    assert identity.seen[0]["RoleArn"].endswith("role/reader")


def test_instance_metadata_signs_and_is_renewed_before_it_expires(
    origin, bucket, make_identity, without_keys
):
    for key in ("one", "two", "three"):
        origin.s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    identity = make_identity(120, 900)
    larder = without_keys(AWS_EC2_METADATA_SERVICE_ENDPOINT=identity.url)
    assert larder.s3.get_object(Bucket="lake", Key="one")["Body"].read() == b"one"
    assert len(identity.served) == 1
    # The chain is asked once in five seconds, also by keys that end soon.
    time.sleep(5.5)
    assert larder.s3.get_object(Bucket="lake", Key="two")["Body"].read() == b"two"
    # Behind that read: nobody waits for keys while those in use still serve.
    patience = time.monotonic() + 60
    while len(set(identity.served)) < 2 and time.monotonic() < patience:
        time.sleep(0.1)
    assert len(set(identity.served)) == 2, "renewed while in use"
    time.sleep(5.5)
    assert larder.s3.get_object(Bucket="lake", Key="three")["Body"].read() == b"three"
    assert len(identity.served) == 2, "keys that live on are kept"
