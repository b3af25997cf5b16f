# SPDX-License-Identifier: Apache-2.0
"""Makes the data of the demonstration: TPC-H as Parquet, small files and a few larger ones.

Made once and kept; what it shall be is written beside it, and when that changes it is made anew.
"""

import json
import random
import shutil
from pathlib import Path

import duckdb
import duckdb_extension_httpfs
import duckdb_extension_tpch

SHAPE = {"scale": 0.2, "small": 2000, "small_bytes": 16 << 10, "large": 8, "large_bytes": 16 << 20}
TABLES = "customer lineitem nation orders part partsupp region supplier".split()


def extension(package, name: str) -> str:
    """The statement that loads an extension from inside its wheel, without any download."""
    folder = Path(package.__file__).parent / "extensions"
    return f"LOAD '{next(folder.glob(f'*/{name}.duckdb_extension'))}'"


LOAD_TPCH = extension(duckdb_extension_tpch, "tpch")
LOAD_HTTPFS = extension(duckdb_extension_httpfs, "httpfs")


def make(place: Path) -> None:
    """Fills `place`, unless it holds the data already."""
    stamp = place.with_suffix(".json")
    if stamp.exists() and json.loads(stamp.read_text()) == SHAPE:
        return
    print(f"making data in {place} (once)")
    shutil.rmtree(place, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    for folder in ("tpch", "small", "large"):
        (place / folder).mkdir(parents=True)
    with duckdb.connect() as database:
        database.execute(LOAD_TPCH)
        database.execute(f"CALL dbgen(sf={SHAPE['scale']})")
        for table in TABLES:
            target = place / "tpch" / f"{table}.parquet"
            database.execute(f"COPY {table} TO '{target}' (FORMAT parquet)")
    source = random.Random(9710)
    for number in range(SHAPE["small"]):
        length = source.randrange(SHAPE["small_bytes"])
        (place / "small" / f"{number:04}.bin").write_bytes(source.randbytes(length))
    for number in range(SHAPE["large"]):
        (place / "large" / f"{number}.bin").write_bytes(source.randbytes(SHAPE["large_bytes"]))
    stamp.write_text(json.dumps(SHAPE))
