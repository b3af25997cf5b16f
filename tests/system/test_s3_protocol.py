# SPDX-License-Identifier: Apache-2.0
"""The S3 face against the origin, request by request: the same request goes to both, and status,
body, entity tag, dates, metadata and listings have to be the same.

Where radosgw is known to differ from the S3 documentation, the documentation is what is tested.
"""

import hashlib
import http.client
import os
import time
import urllib.parse
from datetime import timedelta

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ODD_KEYS = [
    "a//b", "a/", "/a", "a+b %25 ü?#", "x", "x/y", "k/../e", "k/./e", "..", "tab\tnew\nline",
    "k/ü日本😀", "k/e\u0301", "k/!-_.*'()&$@=;:,?#[]{}^~|\\\"<>`", "k/100%25%2F%", "k/" + "n" * 900,
]
BIG = os.urandom(5 * 1024 * 1024 + 17)
# What a client sees of an object, beside its bytes.
TOLD = ["ETag", "LastModified", "ContentLength", "ContentType", "ContentEncoding", "ContentRange",
        "ContentDisposition", "ContentLanguage", "CacheControl", "Metadata", "AcceptRanges"]


@pytest.fixture
def sides(origin, bucket, larder):
    """The same bucket at the origin and through Larder: (client, bucket name) twice."""
    client = origin.s3
    client.put_object(
        Bucket=bucket, Key="big", Body=BIG, Metadata={"foo": "bar", "mixed-case": "V 1"},
        ContentType="text/x-odd", CacheControl="max-age=7", ContentEncoding="x-enc",
        ContentDisposition="inline", ContentLanguage="de",
    )
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    client.put_object(Bucket=bucket, Key="plain", Body=b"hello")
    return (client, bucket), (larder.s3, "lake")


def answer(call, **arguments):
    """Status, error code and all that is told about the object."""
    try:
        reply = call(**arguments)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return status, error.response["Error"]["Code"], None
    told = {name: reply[name] for name in TOLD if name in reply}
    body = reply["Body"].read() if "Body" in reply else None
    return reply["ResponseMetadata"]["HTTPStatusCode"], told, body


def both(sides, operation: str, **arguments):
    """The two answers to one request."""
    return [answer(getattr(client, operation), Bucket=bucket, **arguments)
            for client, bucket in sides]


def same(sides, operation: str, **arguments):
    """The one answer that both give, cold and warm."""
    direct, cold = both(sides, operation, **arguments)
    assert cold == direct, arguments
    warm = both(sides[1:], operation, **arguments)[0]
    assert warm == direct, arguments
    return direct


def test_objects_are_what_they_are_at_the_store(sides):
    for key in ("big", "empty", "plain"):
        assert same(sides, "head_object", Key=key)[0] == 200
        status, told, body = same(sides, "get_object", Key=key)
        assert status == 200 and told["ContentLength"] == len(body)
    assert same(sides, "get_object", Key="big")[2] == BIG


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
def test_odd_keys_are_different_reachable_objects(sides, key):
    client, bucket = sides[0]
    for other in ODD_KEYS:
        client.put_object(Bucket=bucket, Key=other, Body=other.encode())
    status, _, body = same(sides, "get_object", Key=key)
    assert (status, body) == (200, key.encode())
    assert same(sides, "head_object", Key=key)[0] == 200
    assert same(sides, "get_object", Key=key, Range="bytes=0-0")[2] == key.encode()[:1]


def test_ranges(sides):
    length = len(BIG)
    for wish, expected in {
        "bytes=0-0": BIG[:1], "bytes=5-1004": BIG[5:1005], f"bytes={length - 3}-": BIG[-3:],
        "bytes=-10": BIG[-10:], f"bytes={length - 9}-{length + 99}": BIG[-9:],
        "bytes=65535-65536": BIG[65535:65537], "bytes=1048576-3145727": BIG[1 << 20:3 << 20],
        f"bytes=-{length + 5}": BIG,
    }.items():
        status, told, body = same(sides, "get_object", Key="big", Range=wish)
        assert status == 206 and body == expected and told["ContentRange"], wish
    for wish in (f"bytes={length}-", "bytes=99999999-100000000"):
        assert same(sides, "get_object", Key="big", Range=wish)[:2] == (416, "InvalidRange")
    # Behind the documentation of S3: what is no range is ignored.
    for wish in ("bytes=9-3", "bytes=abc", "pages=1-2", "bytes=0-1,4-5"):
        status, _, body = both(sides[1:], "get_object", Key="big", Range=wish)[0]
        assert (status, body == BIG) == (200, True), wish


def test_conditions(sides):
    client, bucket = sides[0]
    head = client.head_object(Bucket=bucket, Key="plain")
    tag, when, hour = head["ETag"], head["LastModified"], timedelta(hours=1)
    for operation in ("get_object", "head_object"):
        for condition, status in [
            ({"IfMatch": tag}, 200), ({"IfMatch": '"0"'}, 412),
            ({"IfNoneMatch": tag}, 304), ({"IfNoneMatch": '"0"'}, 200),
            ({"IfModifiedSince": when}, 304), ({"IfModifiedSince": when - hour}, 200),
            ({"IfUnmodifiedSince": when}, 200), ({"IfUnmodifiedSince": when - hour}, 412),
        ]:
            found = same(sides, operation, Key="plain", **condition)[0]
            assert found == status, (operation, condition)


def test_conditions_work_together_as_documented(sides):
    client, bucket = sides[0]
    head = client.head_object(Bucket=bucket, Key="plain")
    tag, when, hour = head["ETag"], head["LastModified"], timedelta(hours=1)
    for condition, status in [
        ({"IfMatch": tag, "IfUnmodifiedSince": when - hour}, 200),
        ({"IfNoneMatch": tag, "IfModifiedSince": when - hour}, 304),
    ]:
        assert both(sides[1:], "get_object", Key="plain", **condition)[0][0] == status, condition


def test_response_overrides_and_parts(sides):
    status, told, _ = same(
        sides, "get_object", Key="big", ResponseContentType="a/b", ResponseCacheControl="no-store",
        ResponseContentDisposition="attachment", ResponseContentEncoding="identity",
        ResponseContentLanguage="fr",
    )
    assert status == 200 and told["ContentType"] == "a/b"
    status, told, body = both(sides[1:], "get_object", Key="plain", PartNumber=1)[0]
    assert (status, body, told["ContentRange"]) == (206, b"hello", "bytes 0-4/5")
    assert both(sides[1:], "get_object", Key="plain", PartNumber=2)[0][0] == 416


def test_multipart_objects_keep_their_tag(sides):
    client, bucket = sides[0]
    parts = [os.urandom(5 << 20), os.urandom(1000)]
    upload = client.create_multipart_upload(Bucket=bucket, Key="mp")["UploadId"]
    tags = [client.upload_part(Bucket=bucket, Key="mp", UploadId=upload, PartNumber=number,
                               Body=part)["ETag"] for number, part in enumerate(parts, 1)]
    listed = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    client.complete_multipart_upload(Bucket=bucket, Key="mp", UploadId=upload,
                                     MultipartUpload={"Parts": listed})
    status, told, body = same(sides, "get_object", Key="mp")
    assert status == 200 and told["ETag"].endswith('-2"') and body == b"".join(parts)


# --- listings -----------------------------------------------------------------------------------


def entries(page):
    # Whole seconds: that is what S3 tells; radosgw adds a fraction.
    contents = [(entry["Key"], entry["Size"], entry["ETag"],
                 entry["LastModified"].replace(microsecond=0),
                 entry.get("StorageClass")) for entry in page.get("Contents", [])]
    return contents, [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]


def pages(client, bucket, operation, **arguments):
    pages = list(client.get_paginator(operation).paginate(Bucket=bucket, **arguments))
    found = [entries(page) for page in pages]
    return [entry for page in found for entry in page[0]], [p for page in found for p in page[1]]


@pytest.fixture
def tree(sides):
    client, bucket = sides[0]
    keys = [f"l/{i:03}/x{j}" for i in range(40) for j in range(2)] + [f"l/z{i}" for i in range(15)]
    for key in keys + ODD_KEYS + ["o/a", "o/a-b", "o/a/b", "o/a.b", "o/B", "o/é"]:
        client.put_object(Bucket=bucket, Key=key, Body=b"q")
    return sides


def test_listings_in_pages(tree):
    for operation in ("list_objects_v2", "list_objects"):
        for arguments in (
            {}, {"Prefix": "l/"}, {"Prefix": "l/", "Delimiter": "/"}, {"Delimiter": "/"},
            {"Prefix": "l/0", "Delimiter": "x"}, {"Prefix": "o/"}, {"Prefix": "nothing"},
            {"Prefix": "a+b %"}, {"Prefix": "k/", "Delimiter": "/"},
        ):
            for size in (7, 1000):
                paging = {"PaginationConfig": {"PageSize": size}}
                direct, through = (pages(client, bucket, operation, **arguments, **paging)
                                   for client, bucket in tree)
                assert through == direct, (operation, arguments, size)


def test_single_pages_say_the_same(tree):
    fields = ["KeyCount", "MaxKeys", "IsTruncated", "Prefix", "Delimiter", "StartAfter",
              "EncodingType"]
    for arguments in (
        {"MaxKeys": 0}, {"MaxKeys": 1}, {"Prefix": "l/", "Delimiter": "/", "MaxKeys": 5},
        {"StartAfter": "l/z3"}, {"Prefix": "l/", "StartAfter": "l/zzz"},
        {"EncodingType": "url", "Prefix": "k/"}, {"Prefix": "l/00", "Delimiter": "/"},
        {"StartAfter": "a//b"}, {"StartAfter": "nosuchkey", "MaxKeys": 3},
    ):
        direct, through = (client.list_objects_v2(Bucket=bucket, **arguments)
                           for client, bucket in tree)
        if "EncodingType" in arguments:
            # Which harmless characters are escaped is the server's choice.
            for page in (direct, through):
                for entry in page["Contents"]:
                    entry["Key"] = urllib.parse.unquote(entry["Key"])
        assert entries(through) == entries(direct), arguments
        told = [{name: page.get(name) for name in fields} for page in (direct, through)]
        assert told[1] == told[0], arguments
        assert through["Name"] == "lake"


def test_version_one_markers(tree):
    (client, bucket), (through, lake) = tree
    for arguments in ({"Marker": "l/z3"}, {"Marker": "l/", "Delimiter": "/"},
                      {"Prefix": "l/", "Delimiter": "/", "MaxKeys": 5}, {"MaxKeys": 0}):
        direct = client.list_objects(Bucket=bucket, **arguments)
        found = through.list_objects(Bucket=lake, **arguments)
        assert entries(found) == entries(direct), arguments
        assert found["IsTruncated"] == direct["IsTruncated"], arguments
        # S3 gives NextMarker only with a delimiter.
        if arguments.get("Delimiter"):
            assert found.get("NextMarker") == direct.get("NextMarker"), arguments


# --- buckets, signatures, styles ----------------------------------------------------------------


def test_buckets(bucket, make_larder, tmp_path):
    (tmp_path / "files").mkdir()
    larder = make_larder({"lake": f"s3://{bucket}", "disk": f"file://{tmp_path / 'files'}"})
    larder.start()
    client = larder.s3
    assert [entry["Name"] for entry in client.list_buckets()["Buckets"]] == ["disk", "lake"]
    client.head_bucket(Bucket="lake")
    assert "LocationConstraint" in client.get_bucket_location(Bucket="lake")
    assert answer(client.head_bucket, Bucket="nosuch")[0] == 404
    assert answer(client.get_object, Bucket="nosuch", Key="x")[:2] == (404, "NoSuchBucket")
    assert answer(client.get_object, Bucket="lake", Key="x")[:2] == (404, "NoSuchKey")
    assert answer(client.list_objects_v2, Bucket="nosuch")[:2] == (404, "NoSuchBucket")


def test_what_is_not_served_says_so(sides):
    client, lake = sides[1]
    for operation, arguments in {
        "put_object": {"Key": "new", "Body": b"x"}, "delete_object": {"Key": "plain"},
        "copy_object": {"Key": "new", "CopySource": {"Bucket": lake, "Key": "plain"}},
        "create_multipart_upload": {"Key": "new"}, "get_object_tagging": {"Key": "plain"},
        "list_object_versions": {}, "get_bucket_policy": {}, "delete_bucket": {},
        "delete_objects": {"Delete": {"Objects": [{"Key": "plain"}]}},
    }.items():
        found = answer(getattr(client, operation), Bucket=lake, **arguments)
        assert found[:2] == (501, "NotImplemented"), operation
    direct, bucket = sides[0]
    assert direct.get_object(Bucket=bucket, Key="plain")["Body"].read() == b"hello"


def fetch(url: str, **headers):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers=headers)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_presigned(sides):
    client, lake = sides[1]
    for key in ("plain", "big"):
        url = client.generate_presigned_url("get_object", Params={"Bucket": lake, "Key": key})
        assert fetch(url)[0] == 200
        assert fetch(url.replace("X-Amz-Signature=", "X-Amz-Signature=0"))[0] in (400, 403)
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": lake, "Key": "plain", "ResponseContentType": "a/b"})
    assert fetch(url)[1] == b"hello"


def test_virtual_host_style(origin, bucket, make_larder):
    origin.s3.put_object(Bucket=bucket, Key="plain", Body=b"hello")
    larder = make_larder({"lake": f"s3://{bucket}"}, config='[s3]\nbase_domains = ["localhost"]\n')
    larder.start()
    host = f"lake.localhost:{larder.s3_port}"
    request = AWSRequest(method="GET", url=f"http://{host}/plain")
    request.headers["x-amz-content-sha256"] = hashlib.sha256(b"").hexdigest()
    keys = Credentials(larder.access, larder.secret)
    S3SigV4Auth(keys, "s3", "eu-west-1").add_auth(request)
    headers = dict(request.headers.items()) | {"Host": host}
    assert fetch(f"{larder.url}/plain", **headers) == (200, b"hello")


def test_replies_tell_hit_or_miss(sides):
    client, lake = sides[1]

    def header(name):
        reply = client.get_object(Bucket=lake, Key="big")
        reply["Body"].read()
        return reply["ResponseMetadata"]["HTTPHeaders"].get(name)

    assert header("x-larder-cache") == "miss"
    # Pages are kept behind the reader: the next one may still meet some on their way to disk.
    assert header("x-larder-cache") in ("part", "hit")
    end = time.monotonic() + 10
    while header("x-larder-cache") != "hit":
        assert time.monotonic() < end
    assert int(header("age")) < 60
