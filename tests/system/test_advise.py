# SPDX-License-Identifier: Apache-2.0
"""What the cache costs and saves, and what another size of it would."""

import json
import os
import random

from conftest import call

# Each request and each byte costs one.
PRICED = """
[[mount]]
name = "lake"
uri = "s3://replaced-by-the-flag"
price_per_million_requests = 1_000_000
price_per_gib = 1_073_741_824
"""


def status(larder):
    (worker,) = json.loads(larder.cli("--json", "status").stdout)["workers"]
    return worker["mounts"][0]


def advice(larder):
    return json.loads(larder.cli("--json", "advise").stdout)


def test_status_and_metrics_tell_what_was_paid_and_what_was_not(origin, bucket, make_larder):
    larder = make_larder({"lake": f"s3://{bucket}"}, config=PRICED)
    larder.start()
    body = os.urandom(300_000)
    origin.s3.put_object(Bucket=bucket, Key="a", Body=body)
    larder.cli("load", "/lake/a")
    loaded = status(larder)
    assert loaded["loaded_bytes"] == len(body)
    assert (loaded["reads"], loaded["cost_avoided"]) == (0, loaded["avoided_requests"])
    for _ in range(3):
        assert larder.s3.get_object(Bucket="lake", Key="a")["Body"].read() == body
    told = status(larder)
    assert (told["reads"], told["reads_hit"]) == (3, 3)
    assert told["cache_read_bytes"] == 3 * len(body)
    assert told["avoided_requests"] == loaded["avoided_requests"] + 3
    assert told["cost"] == told["store_requests"] + told["store_read_bytes"]
    assert told["cost_avoided"] == told["avoided_requests"] + 3 * len(body)
    assert larder.metric("larder_store_cost", mount="lake") == told["cost"]
    assert larder.metric("larder_store_cost_avoided", mount="lake") == told["cost_avoided"]
    table = larder.cli("status").stdout
    for word in ("HITS", "100.0%", "FETCHED / MISSED", "COST AVOIDED"):
        assert word in table, table


def test_without_prices_nothing_has_a_cost(origin, bucket, larder):
    origin.s3.put_object(Bucket=bucket, Key="a", Body=b"abc")
    larder.s3.get_object(Bucket="lake", Key="a")["Body"].read()
    told = status(larder)
    assert (told["cost"], told["cost_avoided"]) == (None, None)
    assert "larder_store_cost{" not in call(f"{larder.http}/metrics")
    said = larder.cli("advise").stdout
    assert "too little traffic to say" in said and "× 2" not in said


def test_advice_comes_true(origin, bucket, proxy, make_larder):
    """What twice the cache is said to save is what a Larder with twice the cache saves."""
    files = 400  # of one page: with their overhead 27 MiB
    for number in range(files):
        origin.s3.put_object(Bucket=bucket, Key=f"{number}", Body=os.urandom(65_536))
    popular = random.Random(7)
    wanted = [popular.randrange(1 + popular.randrange(files)) for _ in range(2_500)]

    def requests_of_reads(capacity):
        larder = make_larder({"lake": f"s3://{bucket}"}, config=PRICED, capacity=capacity)
        larder.start()
        before = proxy.requests()
        for number in wanted:
            reply = larder.s3.get_object(Bucket="lake", Key=f"{number}")
            assert len(reply["Body"].read()) == 65_536
        return proxy.requests() - before, larder

    asked, larder = requests_of_reads("16MiB")
    told = advice(larder)
    assert told["verdict"] == "enough", told
    assert (told["reads"], told["sampled_reads"], told["sample_rate"]) == (2_500, 2_500, 1.0)
    half, present, twice, four = told["sizes"]
    assert [size["scale"] for size in told["sizes"]] == [0.5, 1.0, 2.0, 4.0]
    assert present["capacity_bytes"] == 16 << 20
    ratios = [size["miss_ratio_by_requests"] for size in told["sizes"]]
    assert ratios[0] > ratios[1] > ratios[2] >= ratios[3] > 0, told
    assert abs(ratios[1] - asked / len(wanted)) < 0.03, (ratios, asked)
    assert half["saved"]["cost"] < 0 == present["saved"]["cost"] < twice["saved"]["cost"]
    saved = twice["saved"]
    assert saved["cost"] == saved["requests"] + saved["bytes"]
    assert saved["bytes"] == saved["requests"] * 65_536
    assert twice["mounts"] == [{"mount": "lake", **saved}]
    table = larder.cli("advise").stdout
    assert "as it is" in table and "× 4" in table and str(saved["requests"]) in table, table
    asked_with_twice, _ = requests_of_reads("32MiB")
    came_true = asked - asked_with_twice
    assert abs(came_true - saved["requests"]) < 0.03 * len(wanted), (came_true, saved)
