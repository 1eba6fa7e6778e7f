"""A small seeded lake and apps over it.

What belongs here: fixtures of the serving tests. What does not: tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from altforecast import CODE_VERSION
from altforecast.tables import TABLES
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import Lake, Scope
from altforecast_io.provenance import Input, Provenance
from altforecast_io.settings import Settings
from altforecast_io.store import keys
from altforecast_io.store.engine import Store, open_store
from altforecast_serving.app import create_app

START = datetime(2025, 6, 20, tzinfo=UTC)
END = datetime(2025, 8, 1, tzinfo=UTC)
BTC, ETH, ETH_BYBIT = Series("binance", "BTC-USDT"), Series("binance", "ETH-USDT"), Series("bybit", "ETH-USDT")
USDT_D = Series("cryptocap", "USDT.D")
SECRET = "test-secret-of-the-webhook"


def bars_of(series: Series, timeframe: Timeframe, n: int, seed: int, start: datetime = START) -> pl.DataFrame:
    """Seeded random-walk bars in the schema of the table."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    opened = np.concatenate([[100.0], close[:-1]])
    ts = [start + i * timeframe.duration for i in range(n)]
    frame = pl.DataFrame({"ts": ts, "open": opened, "close": close}).with_columns(
        symbol=pl.lit(series.symbol), exchange=pl.lit(series.exchange), timeframe=pl.lit(timeframe.value),
        high=pl.max_horizontal("open", "close") * 1.002, low=pl.min_horizontal("open", "close") * 0.998,
        volume=pl.Series(rng.uniform(1, 10, n)), quality=pl.lit("observed"), source=pl.lit("import"),
        received_at=pl.lit(END), known_at=pl.col("ts") + timeframe.duration,
    )  # fmt: skip
    return typed("bars", frame)


def typed(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame cast to a table's schema."""
    schema = TABLES[table].schema
    return frame.select(pl.col(c).cast(t) for c, t in schema.items())


def put(lake: Lake, table: str, frame: pl.DataFrame, *timeframes: Timeframe, run_id: str = "run-1", inputs: tuple[Input, ...] = ()) -> None:
    """Write rows as a pipeline would."""
    window = Window(START.replace(day=1), END + timedelta(days=1))
    record = Provenance(table, run_id, CODE_VERSION, lake.environment, END, inputs)
    lake.replace(table, typed(table, frame), Scope(window, timeframes), record)


def _like(bars: pl.DataFrame, **columns: Any) -> pl.DataFrame:
    base = bars.select("ts", "symbol", "exchange", "timeframe", "known_at")
    return base.with_columns(**{k: v if isinstance(v, pl.Expr | pl.Series) else pl.lit(v) for k, v in columns.items()})


def indicators_of(bars: pl.DataFrame) -> pl.DataFrame:
    """Plausible numbers, null in the first rows, where warm-up would be."""
    names = [c for c in TABLES["indicators"].schema if c not in ("ts", "symbol", "exchange", "timeframe", "known_at")]
    numbers = {name: pl.when(pl.int_range(pl.len()) < 20).then(None).otherwise(50.0 + i) for i, name in enumerate(names)}
    return _like(bars, **numbers)


def divergence_rows(bars: pl.DataFrame) -> pl.DataFrame:
    """Every 40th bar opens an event; the first three quarters of them end 10 bars later."""
    opened = bars[20::40]
    common: dict[str, Any] = {
        "p1_ts": pl.col("ts") - timedelta(hours=20), "p2_ts": pl.col("ts") - timedelta(hours=5), "p1_price": 100.0, "p2_price": 99.0,
        "p1_osc": 30.0, "p2_osc": 35.0, "confirm_price": 105.0, "invalidate_price": 98.0, "is_line_of_sight": True,
    }  # fmt: skip
    ids = pl.Series([f"event-{bars['timeframe'][0]}-{i:03d}" for i in range(opened.height)])
    kinds = pl.Series([("regular_bullish", "hidden_bearish")[i % 2] for i in range(opened.height)])
    active = _like(opened, id=ids, oscillator="rsi", kind=kinds, status="active", active_at=pl.col("known_at"), **common)
    ended = active.head(opened.height * 3 // 4).with_columns(
        pl.col("ts") + timedelta(hours=10), pl.col("known_at") + timedelta(hours=10), status=pl.lit("confirmed")
    )
    return pl.concat([active, ended])


def pivot_rows(bars: pl.DataFrame) -> pl.DataFrame:
    """A low at every 20th bar."""
    some = bars[10::20]
    return _like(some, pivot_ts=pl.col("ts") - timedelta(hours=5), side="low", price=99.0, rsi_14=31.0, macd=0.1, obv=5.0, atr_14=1.5)


def level_rows(bars: pl.DataFrame) -> pl.DataFrame:
    """Three levels: one opened early and carried, one touched, one evicted."""
    rows = []
    for name, at, event, price in (
        ("level-a", 5, "opened", 95.0), ("level-b", 30, "opened", 101.0), ("level-c", 40, "opened", 120.0),
        ("level-b", 60, "touched", 101.5),
        ("level-c", 80, "evicted", 120.0), ("level-a", 264, "carried", 95.0), ("level-b", 264, "carried", 101.5),
    ):  # fmt: skip
        bar = bars[at]
        rows.append(_like(
            bar, id=name, event=event, price=price, band=0.4, side="support" if price < 100 else "resistance", n_pivots=1, n_touches=2,
            n_breaks=0, strength=1.5, distance_atr=(100 - price) / 2, first_touch_ts=pl.col("ts"), last_touch_ts=pl.col("ts"),
            n_bars_since_touch=0,
        ))  # fmt: skip
    return pl.concat(rows)


def evidence_rows() -> pl.DataFrame:
    """Two kinds measured, at two as-of times."""
    base: dict[str, Any] = {
        "timeframe": "1h", "n": 400, "n_control": 9000, "hit_frac": 0.49, "base_frac": 0.48, "lift_pp": 1.0, "ci_low_pp": -2.0,
        "ci_high_pp": 4.0, "p_value": 0.5, "is_significant": False, "verdict": "not better than base rate",
    }  # fmt: skip
    rows = []
    for ts, n in ((datetime(2025, 7, 1, tzinfo=UTC), 300), (datetime(2025, 7, 20, tzinfo=UTC), 400)):
        rows.append({**base, "ts": ts, "known_at": ts, "signal": "divergence", "oscillator": "rsi", "kind": "regular_bullish", "n": n})
        rows.append({**base, "ts": ts, "known_at": ts, "signal": "level", "oscillator": "", "kind": "bounce", "n": n})
    return pl.DataFrame(rows)


def regime_rows(hours: int = 48) -> pl.DataFrame:
    """Two days of neutral hours, the last one degraded."""
    ts = [END - timedelta(hours=hours - i) for i in range(hours)]
    numbers = {
        f"{k}_{m}": [0.1 * j] * hours
        for k in ("z", "contribution")
        for j, m in enumerate(("total3", "total2", "btc_d", "usdt_d", "ethbtc"))
    }
    return pl.DataFrame({
        "ts": ts, "score": [0.2] * hours, "state": ["neutral"] * hours, "pending_state": ["neutral"] * hours, "pending_bars": [1] * hours,
        **numbers, "n_inputs": [5] * (hours - 1) + [4], "is_degraded": [False] * (hours - 1) + [True],
        "missing": [""] * (hours - 1) + ["ETHBTC"], "known_at": [t + timedelta(hours=1) for t in ts],
    })  # fmt: skip


def report_rows() -> pl.DataFrame:
    """Two hours of two lines."""
    rows = []
    for ts in (END - timedelta(hours=2), END - timedelta(hours=1)):
        for metric in ("USDT.D", "BTC"):
            arrows = {f"arrow_{t}": "up" for t in ("15m", "1h", "4h", "24h")}
            numbers = {f"{k}_{t}{s}": 0.5 for k, s in (("change", "_pct"), ("z", "")) for t in ("15m", "1h", "4h", "24h")}
            line = f"{metric}: line of {ts:%H}"
            rows.append({"ts": ts, "metric": metric, **arrows, **numbers, "line": line, "regime": "neutral", "is_degraded": False,
                         "known_at": ts + timedelta(hours=1)})  # fmt: skip
    return pl.DataFrame(rows)


def fill(lake: Lake) -> None:
    """All tables that the API reads."""
    h1 = pl.concat([bars_of(s, Timeframe.H1, n, i) for i, (s, n) in enumerate(((BTC, 900), (ETH, 300), (ETH_BYBIT, 200), (USDT_D, 100)))])
    put(lake, "bars", h1, Timeframe.H1, inputs=(Input("import", "seeded.csv"),))
    put(lake, "bars", bars_of(BTC, Timeframe.M15, 700, 9), Timeframe.M15)
    btc = h1.filter(pl.col("symbol") == "BTC-USDT").sort("ts")
    version = lake.files("bars", "1h")[-1].provenance().data_version
    from_bars = (Input("lake", "bars@1h@2025-07", version),)
    put(lake, "indicators", indicators_of(btc), Timeframe.H1, run_id="run-2", inputs=from_bars)
    put(lake, "pivots", pivot_rows(btc), Timeframe.H1, run_id="run-2", inputs=(Input("lake", "indicators@1h@2025-07"),))
    put(lake, "divergences", divergence_rows(btc), Timeframe.H1, run_id="run-3", inputs=(Input("lake", "pivots@1h@2025-07"),))
    put(lake, "levels", level_rows(btc), Timeframe.H1, run_id="run-3")
    put(lake, "evidence", evidence_rows(), run_id="run-4")
    put(lake, "regime", regime_rows(), run_id="run-5")
    put(lake, "market_report", report_rows(), run_id="run-5")


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of an empty home, whatever the environment says."""

    def make(**overrides: Any) -> Settings:
        return Settings.load(**{"base": tmp_path, "database_url_override": "", "secret_webhook_token": SECRET, **overrides})

    return make


@pytest.fixture
def empty(make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    """An app over an empty lake."""
    with TestClient(create_app(make_settings()), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def lake(make_settings: Callable[..., Settings]) -> Lake:
    """The seeded lake."""
    settings = make_settings()
    settings.make_folders()
    made = Lake(settings.lake_dir, settings.environment)
    fill(made)
    return made


@pytest.fixture
def client(lake: Lake, make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    """An app over the seeded lake."""
    with TestClient(create_app(make_settings()), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def make_key(make_settings: Callable[..., Settings]) -> Callable[..., str]:
    """Makes an API key as the command line does, and gives its secret."""

    def make(*scopes: str) -> str:
        settings = make_settings()
        settings.make_folders()
        store = open_store(settings.database_url, settings.environment)
        try:
            return keys.create(store, "tester", scopes).secret
        finally:
            store.close()

    return make


FORECAST_NOW = datetime(2025, 7, 27, 12, 20, tzinfo=UTC)
"""Twenty minutes after the newest 1h bar of BTC has closed."""


@contextmanager
def client_of(settings: Settings) -> Iterator[TestClient]:
    """An app over a home, at FORECAST_NOW."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.app.state.services.clock = lambda: FORECAST_NOW  # type: ignore[attr-defined]
        yield client


@contextmanager
def store_of(settings: Settings) -> Iterator[Store]:
    """The store of a home."""
    with closing(open_store(settings.database_url, settings.environment)) as store:
        yield store


@pytest.fixture(scope="session")
def forecast_template(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake with forecasts and a champion at every horizon; nobody writes to it."""
    from tests.serving.forecast_rows import add_models, fill_forecasts  # needs `put` of this module

    settings = Settings.load(base=tmp_path_factory.mktemp("forecasts"), database_url_override="", secret_webhook_token=SECRET)
    settings.make_folders()
    lake = Lake(settings.lake_dir, settings.environment)
    fill(lake)
    fill_forecasts(lake)
    with store_of(settings) as store:
        add_models(store)
    return settings


@pytest.fixture(scope="session")
def told(forecast_template: Settings) -> Iterator[TestClient]:
    """An app over the template, only to be read."""
    with client_of(forecast_template) as client:
        yield client


@pytest.fixture(scope="session")
def forecast_lake(forecast_template: Settings) -> Lake:
    """The lake of the template, only to be read."""
    return Lake(forecast_template.lake_dir, forecast_template.environment)


@pytest.fixture
def forecast_home(forecast_template: Settings, make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """A copy of the template to write to."""
    shutil.copytree(forecast_template.base, tmp_path, dirs_exist_ok=True)
    return make_settings()
