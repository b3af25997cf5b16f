# SPDX-License-Identifier: Apache-2.0
"""The command line, as a person and as a script use it."""

import json
import os


def test_a_round_through_the_commands(origin, bucket, larder):
    body = os.urandom(400_000)
    for key in ("d/one", "d/two", "e"):
        origin.s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert larder.cli("ls", "/lake").stdout.split() == ["d/", "e"]
    assert larder.cli("cat", "/lake/d/one", text=False).stdout == body
    told = json.loads(larder.cli("--json", "stat", "/lake/d/one").stdout)
    assert "400000" in json.dumps(told)
    lines = larder.cli("--json", "load", "/lake").stdout.strip().splitlines()
    last = json.loads(lines[-1])
    assert last["done"] and last["files_loaded"] == 3 and last["files_failed"] == 0
    explained = json.loads(larder.cli("--json", "explain", "/lake/e").stdout)
    assert explained["resident_pages"] == explained["total_pages"] == 7
    larder.cli("free", "--recursive", "/lake/d/")
    explained = json.loads(larder.cli("--json", "explain", "/lake/d/one").stdout)
    assert explained["resident_pages"] == 0
    status = json.loads(larder.cli("--json", "status").stdout)
    assert "lake" in json.dumps(status)
    larder.cli("doctor", check=False)
    for shell in ("bash", "zsh", "fish"):
        assert "larder" in larder.cli("completions", shell).stdout
    assert ".TH" in larder.cli("man").stdout
