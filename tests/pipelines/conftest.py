"""Houses in temporary folders and seeded bars for the pipeline tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from altforecast.symbols import metric_series, series_metric
from altforecast.tables import BARS
from altforecast.types import Metric, Series, Timeframe
from altforecast_io.landing import write_landing
from altforecast_io.settings import Settings
from altforecast_io.sources.tradingview import Alert
from altforecast_io.store import inbox
from altforecast_pipelines.ingest import job, open_instance
from altforecast_pipelines.jobs import QUIET
from altforecast_pipelines.resources import House
from altforecast_pipelines.sensors import inbox_sensor

NOW = datetime(2024, 5, 2, 12, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2024, 4, 20, tzinfo=UTC)
BTC, ETHBTC = metric_series(Metric.BTC), metric_series(Metric.ETHBTC)
USDT_D = metric_series(Metric.USDT_D)
OTHER = Series("bybit", "SOL-USDT")
SERIES = (BTC, ETHBTC, USDT_D, OTHER)


def random_bars(
    series: Series, timeframe: Timeframe, start: datetime = START, end: datetime = END, received_at: datetime = END, seed: int = 3
) -> pl.DataFrame:
    """A seeded random walk; index series have no volume."""
    n = int((end - start) / timeframe.duration)
    random = np.random.default_rng([seed, timeframe.ms, sum(series.symbol.encode())])
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, n)))
    open_ = np.append(100.0, close[:-1])
    wick = 1 + random.uniform(0, 0.004, n)
    ts = pl.datetime_range(start, end, timeframe.duration, closed="left", time_unit="ms", eager=True)
    volume = pl.Series([None] * n, dtype=pl.Float64) if series.exchange == "cryptocap" else pl.Series(random.uniform(1, 9, n))
    return pl.DataFrame(
        {
            "ts": ts, "symbol": series.symbol, "exchange": series.exchange, "timeframe": timeframe.value, "open": open_,
            "high": np.maximum(open_, close) * wick, "low": np.minimum(open_, close) / wick, "close": close, "volume": volume,
            "quality": "backfilled", "source": "import", "received_at": received_at, "known_at": ts + timeframe.duration,
        },
        schema=BARS.schema,
    )  # fmt: skip


def all_bars() -> pl.DataFrame:
    """Four series on 1h and 4h, nearly four months."""
    return pl.concat([random_bars(s, tf) for s in SERIES for tf in (Timeframe.H1, Timeframe.H4)])


def alert(series: Series, timeframe: Timeframe, ts: datetime, price: str = "100", received_at: datetime | None = None) -> Alert:
    """An alert with a plain bar."""
    value = Decimal(price)
    metric = series_metric(series) or Metric.BTC
    return Alert(
        metric, series, timeframe, ts, value, value + 1, value - 1, value, Decimal(5), received_at or ts + timeframe.duration, "{}"
    )


@pytest.fixture
def make_house(tmp_path: Path) -> Callable[[str], House]:
    """A house in a folder of its own, with a clock that stands at NOW."""

    def make(name: str) -> House:
        settings = Settings.load(base=tmp_path / name, fetch_exchange_bars=False)
        settings.make_folders()
        return House(lambda: settings, lambda: NOW)

    return make


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sensors look once instead of waiting."""
    monkeypatch.setattr("altforecast_pipelines.sensors.WAIT_S", 0.0)


@pytest.fixture
def house(make_house: Callable[[str], House]) -> House:
    """An empty house."""
    return make_house("home")


def land(house: House, bars: pl.DataFrame, name: str = "seed") -> None:
    """Bars into the landing area."""
    write_landing(house.lake.root, name, bars)


def deliver(house: House, *alerts: Alert) -> list[inbox.Receipt]:
    """Alerts into the inbox."""
    return inbox.append(house.store, [inbox.Delivery(a) for a in alerts])


HOUR = timedelta(hours=1)


def tick_inbox(house: House, cursor: str | None = None) -> dg.SensorResult:
    """One tick of the inbox sensor that does not wait."""
    with open_instance(house.settings) as instance:
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        result = inbox_sensor(context, house=house)
    assert isinstance(result, dg.SensorResult)
    return result


def run_requests(house: House, requests: Sequence[dg.RunRequest] | None) -> list[dg.ExecuteInProcessResult]:
    """Run what a sensor asked for, as the daemon would: same job, same tags."""
    results = []
    with open_instance(house.settings) as instance:
        for request in requests or ():
            results.append(
                job(house).execute_in_process(run_config=QUIET, instance=instance, tags=dict(request.tags), raise_on_error=False)
            )
    return results
