"""Levels as the API shows them: brought up to the newest bar known at the moment asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from altforecast.types import Series, Timeframe
from altforecast_io.lake import Lake
from tests.serving.conftest import BTC, ETH, START, level_rows, put

HOUR = timedelta(hours=1)


def bar_at(lake: Lake, series: Series, moment: datetime | None = None) -> dict[str, Any]:
    """The last bar closed at the moment, read from the month files."""
    bars = lake.read("bars", Timeframe.H1, series=frozenset({series}))
    return bars.filter(pl.lit(True) if moment is None else pl.col("known_at") <= moment).row(-1, named=True)


def levels(client: TestClient, symbol: str = "BTC", **params: Any) -> dict[str, dict[str, Any]]:
    rows = client.get(f"/api/levels/{symbol}/1h", params=params).json()["data"]
    assert [abs(r["distance_atr"]) for r in rows] == sorted(abs(r["distance_atr"]) for r in rows)
    return {r["id"]: r for r in rows}


@pytest.mark.parametrize("hours", [None, 700.0, 300.5, 45.0])
def test_read_levels_show_the_newest_bar_of_the_moment(lake: Lake, client: TestClient, hours: float | None) -> None:
    """The newest 500 of 900 bars are in memory, so the last two moments are answered from month files."""
    moment = None if hours is None else START + hours * HOUR
    bar = bar_at(lake, BTC, moment)
    atr = lake.read("indicators", Timeframe.H1).filter(pl.col("ts") == bar["ts"])["atr_14"][0]
    found = levels(client, **({} if moment is None else {"as_of": moment.isoformat()}))
    assert found
    for row in found.values():
        since = (bar["ts"] - datetime.fromisoformat(row["last_touch_ts"])) // HOUR
        assert row["distance_atr"] == pytest.approx((bar["close"] - row["price"]) / atr)
        assert row["band"] == pytest.approx(0.25 * atr)
        assert row["n_bars_since_touch"] == since
        assert row["strength"] == pytest.approx(2 * 0.5 ** (since / 500))


def test_read_levels_name_the_bars_they_rest_on(client: TestClient) -> None:
    answer = client.get("/api/levels/BTC/1h").json()
    assert datetime.fromisoformat(answer["lineage"]["known_at"]) == START + 900 * HOUR
    assert {"levels", "bars", "indicators"} <= {part["part"].split("@")[0] for part in answer["lineage"]["parts"]}


def test_read_levels_without_indicators_keep_their_band(lake: Lake, client: TestClient) -> None:
    eth = lake.read("bars", Timeframe.H1, series=frozenset({ETH}))
    put(lake, "levels", level_rows(eth), Timeframe.H1)
    found = levels(client, "ETH-USDT", exchange="binance")
    close = bar_at(lake, ETH)["close"]
    assert {row["band"] for row in found.values()} == {0.4}
    assert found["level-a"]["distance_atr"] == pytest.approx((close - 95.0) * 0.25 / 0.4)
    assert found["level-a"]["n_bars_since_touch"] == 299 - 264
