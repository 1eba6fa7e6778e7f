"""How fast bar files are checked and staged, against merely reading them and writing them again.

What belongs here: one ratio per kind of file, printed as JSON lines. What does not: correctness (tests/io/test_importer.py).
Run: `python -m benchmarks.bench_import [rows]`; rows defaults to 1,000,000 in ten series of minutes.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from altforecast_io.clock import utc_now
from altforecast_io.importer import import_paths
from altforecast_io.lake import Lake

N_SERIES = 10


def market(n_rows: int) -> pl.DataFrame:
    """Random-walk minute bars of ten symbols in our own columns."""
    per = n_rows // N_SERIES
    rng = np.random.default_rng(7)
    start = datetime(2015, 1, 1, tzinfo=UTC)
    step = pl.duration(minutes=pl.int_range(per))
    frames = []
    for n in range(N_SERIES):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, per)))
        opened = np.roll(close, 1)
        opened[0] = 100.0
        high, low = np.maximum(opened, close) * 1.0001, np.minimum(opened, close) * 0.9999
        columns = {"open": opened, "high": high, "low": low, "close": close, "volume": rng.exponential(5, per)}
        ts = (pl.lit(start) + step).cast(pl.Datetime("ms", "UTC")).alias("ts")
        fixed = {"exchange": "binance", "timeframe": "1m"}
        named = [pl.lit(v).alias(k) for k, v in fixed.items()]
        frames.append(pl.DataFrame(columns).select(ts, pl.lit(f"C{n}X-USDT").alias("symbol"), pl.all(), *named))
    return pl.concat(frames)


def measure(path: Path, folder: Path) -> dict[str, float | int | str]:
    """Seconds of the import and of reading and writing alone, and their ratio."""
    is_csv = path.suffix == ".csv"
    begin = time.perf_counter()
    frame = pl.read_csv(path, try_parse_dates=True) if is_csv else pl.read_parquet(path)
    frame.write_parquet(folder / "copy.parquet", compression="zstd")
    plain, rows = time.perf_counter() - begin, frame.height
    del frame
    begin = time.perf_counter()
    report = import_paths([path], Lake(folder / f"lake-{path.suffix[1:]}", "live"), utc_now)
    taken = time.perf_counter() - begin
    assert report.totals()["accepted"] == rows
    return {
        "benchmark": "import", "format": path.suffix[1:], "rows": rows, "seconds": round(taken, 2), "read_write_seconds": round(plain, 2),
        "ratio": round(taken / plain, 2), "rows_per_s": round(rows / taken),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip


def main() -> None:
    """Measure Parquet and CSV once each."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        market(n_rows).write_parquet(folder / "bars.parquet")
        print(json.dumps(measure(folder / "bars.parquet", folder)))
        pl.scan_parquet(folder / "bars.parquet").with_columns(pl.col("ts").dt.to_string("%Y-%m-%dT%H:%M:%SZ")).sink_csv(folder / "bars.csv")
        print(json.dumps(measure(folder / "bars.csv", folder)))


if __name__ == "__main__":
    main()
