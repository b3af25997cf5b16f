# SPDX-License-Identifier: Apache-2.0
"""A thousand slow readers stay within the memory budget, and others still get through."""

import os
import socket
import urllib.parse

CONNECTIONS = 1000
BUDGET = 64 << 20
CONFIG = 'memory_budget = "64MiB"\n[[mount]]\nname = "lake"\nuri = "s3://{}"\n'


def resident_memory(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def test_a_thousand_slow_readers(origin, bucket, make_larder):
    body = os.urandom(32 << 20)
    origin.s3.put_object(Bucket=bucket, Key="big", Body=body)
    origin.s3.put_object(Bucket=bucket, Key="small", Body=b"tiny")
    larder = make_larder({}, config=CONFIG.format(bucket))
    larder.start()
    larder.cli("load", "/lake/big")
    before = resident_memory(larder.process.pid)
    url = larder.s3.generate_presigned_url(
        "get_object", Params={"Bucket": "lake", "Key": "big"}, ExpiresIn=600)
    path = urllib.parse.urlsplit(url)
    request = f"GET {path.path}?{path.query} HTTP/1.1\r\nHost: {path.netloc}\r\n\r\n".encode()
    slow = []
    try:
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", larder.s3_port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request)
            slow.append(connection)
        heads = sum(connection.recv(12).startswith(b"HTTP/1.1 200") for connection in slow[:20])
        assert heads == 20
        assert larder.metric("larder_memory_used_bytes") <= BUDGET
        grown = resident_memory(larder.process.pid) - before
        # Beside the budget: stacks, connection state and the allocator's slack.
        assert grown <= BUDGET + CONNECTIONS * 96 * 1024, f"grew by {grown >> 20} MiB"
    finally:
        for connection in slow:
            connection.close()
    assert larder.s3.get_object(Bucket="lake", Key="small")["Body"].read() == b"tiny"
