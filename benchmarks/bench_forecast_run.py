"""Forecasts at a bar close inside the run: from looking what is due to the written table, on a lake of real bars.

What belongs here: processor and wall time of the asset bodies of `on_forecasts`, at full hours, 33 series and four horizons with a champion
each. What does not: the same without lake (`bench_forecasts`), Dagster's own time and skill.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from altforecast.forecast_params import HORIZONS
from altforecast.tables import BARS
from altforecast.types import Timeframe, Window
from altforecast_io.lake import Scope, month_start, next_month
from altforecast_io.settings import Settings
from altforecast_io.store import models
from altforecast_pipelines.forecast_assets import begin, said
from altforecast_pipelines.forecasts import add_rows
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import Classroom, teach

FILES = {
    "1h": ("binance_perp_1h_2023-01_2025-08", "bybit_perp_1h_2023-11_2025-08", "binance_spot_1h_2024-09_2025-08"),
    "15m": ("bybit_perp_15m_2023-11_2025-08", "binance_spot_15m_2025-01_2025-08"),
}
SERIES, DAYS, HOURS = 33, 40, 14
"""Copies under other names stand in where there are fewer series; short teaching, which changes nothing of what a forecast costs."""
QUARTER, QUARTERS = timedelta(minutes=15), 4


def real_bars(data: Path, timeframe: str) -> pl.DataFrame:
    """The newest DAYS of exactly SERIES series, as the lake holds them."""
    frames = [pl.read_parquet(data / f"{name}.parquet") for name in FILES[timeframe]]
    bars = pl.concat(frames).filter(pl.col("timeframe") == timeframe).unique(["symbol", "exchange", "ts"], keep="first")
    bars = bars.filter(pl.col("ts") >= bars["ts"].max() - timedelta(days=DAYS))
    names = bars.select("symbol", "exchange").unique().sort("symbol", "exchange").rows()
    parts = [bars.filter((pl.col("symbol") == s) & (pl.col("exchange") == e)) for s, e in names[:SERIES]]
    parts += [parts[k % len(names)].with_columns(pl.lit(f"COPY{k}-USDT").alias("symbol")) for k in range(SERIES - len(parts))]
    close = pl.col("ts") + Timeframe(timeframe).duration
    stamps = {"quality": pl.lit("backfilled"), "source": pl.lit("import"), "received_at": close, "known_at": close}
    return pl.concat(parts).with_columns(**stamps).select(pl.col(n).cast(t) for n, t in BARS.schema.items())


def put(house: House, bars: pl.DataFrame, now: datetime) -> None:
    """The clock at `now`, and in the lake every bar that had closed by then."""
    house.clock = lambda: now + timedelta(seconds=5)
    for (timeframe,), rows in bars.filter(pl.col("known_at") <= now).partition_by("timeframe", as_dict=True).items():
        window = Window(month_start(rows["ts"].min()), next_month(rows["ts"].max()))
        house.lake.replace("bars", rows, Scope(window, (Timeframe(timeframe),)), house.provenance("bars", "bench"))


def appoint(house: House, horizon: str) -> None:
    """The newest candidate is champion, whatever it is worth."""
    newest = models.newest_models(house.store, horizon, 1, "lightgbm")[0]
    models.add_event(house.store, models.ModelEvent(horizon, newest.version, models.Event.FORCED, "bench", "to measure"))


def bar_close(house: House, run_id: str) -> dict[str, float]:
    """The bars of one moment: milliseconds of wall and processor, rows, and whether calibrations were renewed."""
    wall, processor = time.perf_counter(), time.process_time()
    refreshes = begin(house, run_id)
    renewed = said(house, "forecast_calibrations", refreshes, run_id, lambda refresh: refresh.renewed()).n_rows
    rows = [refresh.forecasts(house.clock()) for refresh in refreshes if refresh.dues]
    n_rows = sum(add_rows(house, "forecasts", frame, house.provenance("forecasts", run_id)).n_rows for frame in rows)
    took = {"ms": 1e3 * (time.perf_counter() - wall), "processor_ms": 1e3 * (time.process_time() - processor)}
    house.refreshes.clear()
    return {**took, "rows": n_rows, "renewed": renewed}


def main(data: Path) -> None:
    """Teach, appoint, then HOURS bar closes; one JSON line."""
    bars = pl.concat([real_bars(data, timeframe) for timeframe in FILES])
    end = min(part["known_at"].max() for part in bars.partition_by("timeframe"))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.load(base=Path(folder), fetch_exchange_bars=False)
        settings.make_folders()
        house = House(lambda: settings)
        put(house, bars, end - HOURS * QUARTERS * QUARTER)
        room = Classroom(house)
        for family in ("baseline", "lightgbm"):
            for horizon in HORIZONS:
                teach(house, room, horizon, family, "bench", lambda _: None)
        for horizon in HORIZONS:
            appoint(house, horizon)
        found = []
        for left in reversed(range(HOURS * QUARTERS)):
            put(house, bars, end - left * QUARTER)
            took = bar_close(house, str(left))
            found += [took] if left % QUARTERS == 0 else []  # at full hours every horizon speaks
    measured = [one for one in found[1:] if not one["renewed"]]  # the first loads the packs
    wall, processor = ([one[name] for one in measured] for name in ("ms", "processor_ms"))
    line = {
        "series": SERIES, "horizons": len(HORIZONS), "bar_closes": len(measured), "rows_each": measured[-1]["rows"],
        "ms_median": float(np.median(wall)), "ms_p95": float(np.quantile(wall, 0.95)),
        "processor_ms_median": float(np.median(processor)), "processor_ms_p95": float(np.quantile(processor, 0.95)),
        "ms_with_renewal": max((one["ms"] for one in found[1:] if one["renewed"]), default=None),
    }  # fmt: skip
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of Parquet files of bars")
    main(parser.parse_args().data)
