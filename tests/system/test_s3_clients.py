# SPDX-License-Identifier: Apache-2.0
"""What real clients read through the S3 face is what they read at the store."""

import datetime
import http.client
import json
import os
import pathlib
import subprocess
import urllib.parse

import duckdb
import pyarrow.fs
import pyarrow.parquet
import polars
import pytest
from botocore.exceptions import ClientError
from conftest import clean_environment, s3_client

ROOT = pathlib.Path(__file__).resolve().parents[2]
ODD_KEYS = ["a//b", "a/", "/a", "a+b %25 ü?#", "x", "x/y", "k/!-_.*'()&$@=;:,", "d/é", "d/日本😀"]


def everything(s3, bucket, **options):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
    return [
        # S3 tells whole seconds; radosgw's listings tell fractions that its HEAD does not.
        (item["Key"], item["Size"], item["ETag"], item["LastModified"].replace(microsecond=0))
        for page in pages for item in page.get("Contents", [])
    ]


def code(function, **arguments):
    try:
        function(**arguments)
        return 200
    except ClientError as error:
        told = error.response
        return told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Code"]


@pytest.fixture
def filled(origin, bucket):
    for key in ODD_KEYS:
        origin.s3.put_object(Bucket=bucket, Key=key, Body=f"content of {key}".encode())
    for at in range(25):
        origin.s3.put_object(Bucket=bucket, Key=f"l/{at:02}/x", Body=b"1")
        origin.s3.put_object(Bucket=bucket, Key=f"l/z{at:02}", Body=b"22")
    origin.s3.put_object(
        Bucket=bucket, Key="meta", Body=b"m" * 200_000, ContentType="text/x-odd",
        CacheControl="max-age=7", ContentEncoding="x-enc", ContentDisposition="inline",
        Metadata={"owner": "larder", "mixed-case": "V 1"},
    )
    return bucket


def test_boto3_objects(origin, filled, larder):
    for key in ODD_KEYS + ["meta"]:
        here, there = (
            s3.get_object(Bucket=name, Key=key)
            for s3, name in ((larder.s3, "lake"), (origin.s3, filled))
        )
        assert here["Body"].read() == there["Body"].read(), key
        for field in ("ETag", "LastModified", "ContentLength", "ContentType", "Metadata",
                      "CacheControl", "ContentEncoding", "ContentDisposition"):
            assert here.get(field) == there.get(field), (key, field)
        head = larder.s3.head_object(Bucket="lake", Key=key)
        assert (head["ETag"], head["Metadata"]) == (there["ETag"], there["Metadata"])


def test_boto3_listings(origin, filled, larder):
    assert everything(larder.s3, "lake") == everything(origin.s3, filled)
    for options in (
        {"Prefix": "l/", "Delimiter": "/"}, {"Prefix": "l/", "Delimiter": "/", "MaxKeys": 7},
        {"Prefix": "l/", "StartAfter": "l/z03"}, {"MaxKeys": 0}, {"Prefix": "nothing"},
        {"Prefix": "l", "Delimiter": "/"}, {"Prefix": "a", "EncodingType": "url"},
        {"Prefix": "l/1", "MaxKeys": 1000},
    ):
        here = larder.s3.list_objects_v2(Bucket="lake", **options)
        there = origin.s3.list_objects_v2(Bucket=filled, **options)
        for field in ("KeyCount", "IsTruncated", "CommonPrefixes", "Prefix", "Delimiter"):
            assert here.get(field) == there.get(field), (options, field)
        # S3 leaves slashes alone where it encodes keys; radosgw encodes them too.
        keys = [[urllib.parse.unquote_plus(item["Key"]) for item in reply.get("Contents", [])]
                if "EncodingType" in options else
                [item["Key"] for item in reply.get("Contents", [])] for reply in (here, there)]
        assert keys[0] == keys[1], options
    for pages in ({"PageSize": 7}, {"PageSize": 3}):
        for method in ("list_objects", "list_objects_v2"):
            seen = [
                [
                    [item["Key"] for page in walk for item in page.get("Contents", [])],
                    [item["Prefix"] for page in walk for item in page.get("CommonPrefixes", [])],
                ]
                for walk in (
                    list(s3.get_paginator(method).paginate(
                        Bucket=name, Prefix="l/", Delimiter="/", PaginationConfig=pages))
                    for s3, name in ((larder.s3, "lake"), (origin.s3, filled))
                )
            ]
            assert seen[0] == seen[1], (method, pages)
    assert [item["Name"] for item in larder.s3.list_buckets()["Buckets"]] == ["lake"]
    larder.s3.head_bucket(Bucket="lake")
    larder.s3.get_bucket_location(Bucket="lake")


def test_boto3_ranges_and_conditions(origin, filled, larder):
    body = b"m" * 200_000
    s3, get = larder.s3, {"Bucket": "lake", "Key": "meta"}
    for asked, start, end in (("0-0", 0, 1), ("65535-65536", 65535, 65537), ("-10", 199_990, 200_000),
                              ("199999-999999", 199_999, 200_000), ("100000-", 100_000, 200_000)):
        reply = s3.get_object(Range=f"bytes={asked}", **get)
        assert reply["Body"].read() == body[start:end]
        assert reply["ContentRange"] == f"bytes {start}-{end - 1}/200000"
    assert code(s3.get_object, Range="bytes=200000-", **get) == (416, "InvalidRange")
    head = s3.head_object(**get)
    etag, modified, hour = head["ETag"], head["LastModified"], datetime.timedelta(hours=1)
    assert code(s3.get_object, IfMatch=etag, **get) == 200
    assert code(s3.get_object, IfMatch='"0"', **get)[0] == 412
    assert code(s3.get_object, IfNoneMatch=etag, **get)[0] == 304
    assert code(s3.head_object, IfNoneMatch=etag, **get)[0] == 304
    assert code(s3.get_object, IfNoneMatch='"0"', **get) == 200
    assert code(s3.get_object, IfModifiedSince=modified, **get)[0] == 304
    assert code(s3.get_object, IfUnmodifiedSince=modified - hour, **get)[0] == 412
    told = s3.get_object(ResponseContentType="text/plain", ResponseCacheControl="no-store", **get)
    assert (told["ContentType"], told["CacheControl"]) == ("text/plain", "no-store")
    headers = told["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-larder-cache"] in ("hit", "miss", "part") and int(headers["age"]) >= 0


def test_parts_of_an_object_where_the_store_tells(origin, filled, larder):
    assert code(larder.s3.get_object, Bucket="lake", Key="meta", PartNumber=1) == code(
        origin.s3.get_object, Bucket=filled, Key="meta", PartNumber=1)


def test_signatures(origin, filled, larder):
    get = {"Bucket": "lake", "Key": "meta"}
    assert code(s3_client(larder.url, larder.access, "wrong").get_object, **get) == (
        403, "SignatureDoesNotMatch")
    assert code(s3_client(larder.url, "nobody", larder.secret).get_object, **get) == (
        403, "InvalidAccessKeyId")
    for secret, expected in ((larder.secret, 200), ("wrong", 403)):
        client = s3_client(larder.url, larder.access, secret)
        url = client.generate_presigned_url("get_object", Params=get, ExpiresIn=60)
        assert raw(larder, urllib.parse.urlsplit(url).path + "?" + urllib.parse.urlsplit(url).query
                   )[0] == expected
    assert raw(larder, "/lake/meta")[0] == 403, "anonymous access is off"
    assert " ERROR " not in larder.log.read_text(), "strangers can't fill the log"
    status, body = raw(larder, "/lake/meta", {"Authorization": "AWS4-HMAC-SHA256 Credential=x"})
    assert status in (400, 403) and b"<Code>" in body


def raw(larder, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", larder.s3_port, timeout=30)
    connection.request("GET", path, headers=headers or {})
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_what_is_not_there(filled, larder):
    s3 = larder.s3
    assert code(s3.get_object, Bucket="lake", Key="nothing") == (404, "NoSuchKey")
    assert code(s3.get_object, Bucket="nothing", Key="x") == (404, "NoSuchBucket")
    assert code(s3.get_object, Bucket="lake", Key="k" * 2000) == (400, "KeyTooLongError")
    assert code(s3.put_object, Bucket="lake", Key="x", Body=b"")[0] == 501
    assert code(s3.delete_object, Bucket="lake", Key="x")[0] == 501


def test_aws_cli(origin, filled, larder, tmp_path):
    aws = [ROOT / ".tools/clients/bin/aws", "s3"]
    run = {"env": larder.aws_environment(), "timeout": 120, "capture_output": True, "text": True}
    listed = subprocess.run([*aws, "ls", "--recursive", "s3://lake/l/"], **run)
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 50
    synced = subprocess.run([*aws, "sync", "s3://lake/l", tmp_path / "l"], **run)
    assert synced.returncode == 0, synced.stderr
    assert (tmp_path / "l/z07").read_bytes() == b"22"
    copied = subprocess.run([*aws, "cp", "s3://lake/a+b %25 ü?#", "-"], **run)
    assert copied.stdout == "content of a+b %25 ü?#"


def test_rclone(origin, filled, larder, tmp_path):
    config = tmp_path / "rclone.conf"
    remotes = (("here", larder.url, larder.access, larder.secret),
               ("there", origin.url, origin.access, origin.secret))
    config.write_text("".join(
        f"[{name}]\ntype = s3\nprovider = Other\nendpoint = {url}\naccess_key_id = {access}\n"
        f"secret_access_key = {secret}\nregion = us-east-1\n" for name, url, access, secret in remotes))
    command = ["rclone", "--config", config, "check", "--download", "here:lake/l", f"there:{filled}/l"]
    run = {"timeout": 120, "capture_output": True, "text": True, "env": clean_environment()}
    done = subprocess.run(command, **run)
    assert done.returncode == 0 and "0 differences found" in done.stderr, done.stderr


def test_s3fs(origin, filled, larder):
    script = (
        "import json, os, s3fs\n"
        "fs = s3fs.S3FileSystem(endpoint_url=os.environ['AWS_ENDPOINT_URL'])\n"
        "with fs.open('lake/meta') as f:\n"
        "    f.seek(65000); part = f.read(1000)\n"
        "print(json.dumps([fs.cat('lake/a+b %25 ü?#').decode(), part.decode(), len(fs.find('lake/l'))]))"
    )
    done = subprocess.run(
        [ROOT / ".tools/s3fs/bin/python", "-c", script], timeout=120, capture_output=True,
        text=True, env=larder.aws_environment())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["content of a+b %25 ü?#", "m" * 1000, 50]


@pytest.fixture
def parquet(origin, bucket, tmp_path):
    path = tmp_path / "t.parquet"
    query = "select i as id, (i * 7919) % 1000 as v, 'name-' || i as name from range(400000) t(i)"
    duckdb.sql(f"copy ({query}) to '{path}' (format parquet, row_group_size 50000)")
    origin.s3.upload_file(str(path), bucket, "t/part-0.parquet")
    return path


def test_parquet_readers(parquet, larder):
    here = pyarrow.fs.S3FileSystem(
        access_key=larder.access, secret_key=larder.secret, region="us-east-1",
        endpoint_override=larder.url.removeprefix("http://"), scheme="http")
    table = pyarrow.parquet.read_table("lake/t/part-0.parquet", filesystem=here)
    assert table.equals(pyarrow.parquet.read_table(parquet))
    options = {
        "aws_access_key_id": larder.access, "aws_secret_access_key": larder.secret,
        "aws_region": "us-east-1", "aws_endpoint_url": larder.url, "aws_allow_http": "true"}
    frame = polars.scan_parquet("s3://lake/t/part-0.parquet", storage_options=options)
    total = frame.filter(polars.col("v") < 10).select(polars.col("id").sum()).collect().item()
    question = "select sum(id) from '{}' where v < 10"
    expected = duckdb.sql(question.format(parquet)).fetchone()[0]
    assert total == expected
    database = duckdb_with_s3(larder)
    assert database.sql(question.format("s3://lake/t/*.parquet")).fetchone()[0] == expected


def duckdb_with_s3(larder):
    database = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    import duckdb_extension_httpfs

    folder = pathlib.Path(duckdb_extension_httpfs.__file__).parent
    extension = next(folder.rglob("httpfs.duckdb_extension"))
    database.execute(f"load '{extension}'")
    database.execute(
        f"create secret (type s3, key_id '{larder.access}', secret '{larder.secret}', region "
        f"'us-east-1', endpoint '127.0.0.1:{larder.s3_port}', url_style 'path', use_ssl false)")
    return database
