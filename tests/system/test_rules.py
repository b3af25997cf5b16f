# SPDX-License-Identifier: Apache-2.0
"""Rules by path: what is cached, what stays, what goes; changed while Larder runs, by SIGHUP."""

import json
import os
import signal
import time

from conftest import WAIT_S

LENGTH = 300_000


class Lake:
    """Objects with known bytes, read through a Larder whose configuration file changes."""

    def __init__(self, origin, bucket, proxy, make_larder, rules, capacity="1GiB"):
        self.origin, self.bucket, self.proxy, self.bodies = origin, bucket, proxy, {}
        self.mount = f'[[mount]]\nname = "lake"\nuri = "s3://{bucket}"\nfreshness = "immutable"\n'
        self.larder = make_larder(
            {"lake": f"s3://{bucket}"}, config=self.mount + rules, capacity=capacity)
        self.larder.start()

    def put(self, *keys):
        for key in keys:
            self.bodies[key] = os.urandom(LENGTH)
            self.origin.s3.put_object(Bucket=self.bucket, Key=key, Body=self.bodies[key])

    def load(self, *keys):
        for key in keys:
            self.larder.cli("load", f"/lake/{key}")

    def fetched(self, *keys):
        """Reads objects and answers how many bytes the store sent for that."""
        self.proxy.reset()
        for key in keys:
            got = self.larder.s3.get_object(Bucket="lake", Key=key)["Body"].read()
            assert got == self.bodies[key], key
        return self.proxy.bytes()

    def rule(self, key):
        told = json.loads(self.larder.cli("--json", "explain", f"/lake/{key}").stdout)
        return told["rule"], told["resident_bytes"]

    def hang_up(self, rules):
        (self.larder.directory / "larder.toml").write_text(self.mount + rules)
        self.larder.process.send_signal(signal.SIGHUP)

    def log(self):
        return self.larder.log.read_text()


def wait_for(what, holds):
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < 2 * WAIT_S, f"in vain: {what}"
        time.sleep(0.1)


def test_rules_change_at_sighup_and_explain_names_them(origin, bucket, proxy, make_larder):
    lake = Lake(origin, bucket, proxy, make_larder,
                '[[rules]]\npath = "/lake/tmp"\ncache = false\n'
                '[[rules]]\npath = "/lake/hot"\npin = "10MiB"\npriority = "high"\n')
    lake.put("tmp/a", "hot/a", "cold/a", "hotter")
    lake.load("hot/a", "cold/a", "hotter")
    assert lake.fetched("hot/a", "cold/a", "hotter") == 0
    assert lake.fetched("tmp/a", "tmp/a") == 2 * LENGTH
    assert lake.rule("hotter")[0] is None
    rule, resident = lake.rule("hot/a")
    assert (rule["path"], rule["pin_bytes"], resident) == ("/lake/hot", 10 << 20, LENGTH)
    assert "rule       /lake/hot: pin 10 MiB, priority high" in lake.larder.cli(
        "explain", "/lake/hot/a").stdout
    assert "never cached" in lake.larder.cli("status").stdout

    # A file that is wrong leaves the rules as they are and says why.
    for wrong, why in [
        ('[[rules]]\npath = "/lake/hot"\npin = "ten"\n', "'ten' is not a size"),
        ('[[rules]]\npath = "/pond"\ncache = false\n', "rule /pond: there is no such mount"),
        ('[[rules]]\npath = "/lake"\npin = "2GiB"\n', "the cache directories hold 1 GiB"),
        ("[[rules]\n", "larder.toml:"),
    ]:
        lake.hang_up(wrong)
        wait_for(why, lambda: why in lake.log())
        line = next(line for line in lake.log().splitlines() if why in line)
        assert "the rules stay as they were" in line, line
        assert lake.rule("hot/a")[0]["pin_bytes"] == 10 << 20

    # What was cached is dropped, what was not is kept from now on.
    lake.hang_up('[[rules]]\npath = "/lake/hot"\ncache = false\n'
                 '[[rules]]\npath = "/lake/tmp"\nquota_files = 1\n')
    wait_for("the file goes", lambda: lake.rule("hot/a")[1] == 0)
    lake.put("tmp/b")
    lake.load("tmp/a", "tmp/b")
    assert lake.rule("tmp/a")[1] + lake.rule("tmp/b")[1] == LENGTH
    assert lake.fetched("cold/a") == 0, "what has no rule is as it was"
    # All rules go; after a restart there are still none.
    lake.hang_up("")
    wait_for("there are no rules", lambda: lake.rule("tmp/b")[0] is None)
    lake.larder.config = lake.mount
    lake.larder.stop()
    lake.larder.start()
    lake.load("hot/a")
    assert lake.fetched("hot/a", "tmp/b", "cold/a") == 0
    assert "the rules were read again" in lake.log()


def test_what_is_pinned_stays_and_low_goes_first(origin, bucket, proxy, make_larder):
    rules = ('[[rules]]\npath = "/lake/hot"\npin = "4MiB"\n'
             '[[rules]]\npath = "/lake/bulk"\npriority = "low"\n')
    lake = Lake(origin, bucket, proxy, make_larder, rules, capacity="12MiB")
    hot = [f"hot/{at}" for at in range(10)]
    some = [f"some/{at}" for at in range(10)]
    bulk = [f"bulk/{at}" for at in range(60)]
    lake.put(*hot, *some, *bulk)
    lake.load("hot", "some")
    lake.load("bulk")
    assert lake.fetched(*hot, *some) == 0, "60 files of low priority took nothing from others"
    lake.larder.stop()
    lake.larder.start()
    more = [f"more/{at}" for at in range(60)]
    lake.put(*more)
    lake.load("more")
    assert lake.fetched(*hot) == 0, "also after a restart"
    assert all(lake.rule(key)[1] == 0 for key in bulk[:5] + bulk[-5:])
    lake.larder.stop()


def test_a_file_past_its_time_is_fetched_again_and_its_room_given_back(
        origin, bucket, proxy, make_larder):
    lake = Lake(origin, bucket, proxy, make_larder, '[[rules]]\npath = "/lake/day"\nttl = "4s"\n')
    lake.put("day/a", "day/b", "ever")
    lake.load("day/a", "day/b", "ever")

    def held():
        status = json.loads(lake.larder.cli("--json", "status").stdout)
        return status["workers"][0]["rules"][0]["resident_files"]

    wait_for("the room is given back", lambda: held() == 0)
    assert lake.fetched("day/a", "ever") == LENGTH
    lake.larder.stop()
