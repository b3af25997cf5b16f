# SPDX-License-Identifier: Apache-2.0
"""A store behind TLS: nginx with a throw-away authority, in front of the real origin."""

import os
import socket
import subprocess
import time

import pytest
from conftest import WAIT_S, free_port

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        location / {{
            proxy_pass {origin};
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""
CONFIG = """
[[mount]]
name = "lake"
uri = "s3://{bucket}"
endpoint = "{endpoint}"
ca_file = "{ca}"
"""


def openssl(folder, *arguments):
    command = ["openssl", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=WAIT_S)


def authority(folder, name):
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    return folder / f"{name}.pem"


@pytest.fixture
def tls(origin, tmp_path):
    """The folder with `good.pem` and `other.pem`, and the HTTPS address of the origin."""
    folder = tmp_path / "tls"
    folder.mkdir()
    authority(folder, "good")
    authority(folder, "other")
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key",
            "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "good.pem", "-CAkey", "good.key",
            "-CAcreateserial", "-days", "2", "-out", "server.pem", "-extfile", "names")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, origin=origin.url))
    server = subprocess.Popen(["nginx", "-e", folder / "error.log", "-c", config])
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.05)
        yield folder, f"https://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(WAIT_S)


def test_the_authority_of_a_mount_is_trusted(origin, bucket, make_larder, tls):
    folder, endpoint = tls
    body = os.urandom(1_000_000)
    origin.s3.put_object(Bucket=bucket, Key="file", Body=body)
    config = CONFIG.format(bucket=bucket, endpoint=endpoint, ca=folder / "good.pem")
    larder = make_larder({}, config=config)
    larder.start()
    assert larder.s3.get_object(Bucket="lake", Key="file")["Body"].read() == body


def test_another_authority_is_one_clear_sentence(bucket, make_larder, tls):
    folder, endpoint = tls
    config = CONFIG.format(bucket=bucket, endpoint=endpoint, ca=folder / "other.pem")
    larder = make_larder({}, config=config)
    larder.start()
    failed = larder.cli("cat", "/lake/file", check=False)
    assert failed.returncode == 6
    sentence = failed.stderr.strip()
    assert len(sentence.splitlines()) == 1 and "ca_file" in sentence, sentence
    assert f"the certificate of {endpoint} is not accepted" in sentence
