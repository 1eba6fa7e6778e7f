"""Reading while the pipelines write: every answer is of one version, and no answer fails."""

from __future__ import annotations

import threading

import polars as pl
from starlette.testclient import TestClient

from altforecast.types import Timeframe
from altforecast_io.lake import Lake
from tests.serving.conftest import BTC, START, bars_of, put

ROUNDS = 12


def test_read_bars_during_replacement_sees_old_or_new_never_a_mixture(client: TestClient, lake: Lake) -> None:
    frames = [bars_of(BTC, Timeframe.M5, 600, 3).with_columns(close=pl.lit(float(v)), low=pl.lit(0.5), high=pl.lit(500.0)) for v in (1, 2)]
    put(lake, "bars", frames[0], Timeframe.M5)
    failures: list[str] = []

    def write() -> None:
        for i in range(ROUNDS):
            put(lake, "bars", frames[(i + 1) % 2], Timeframe.M5, run_id=f"round-{i}")

    writer = threading.Thread(target=write)
    writer.start()
    # From memory, and from the month file: both begin on 20 June, so each page lies within one file.
    questions = ({"limit": 400}, {"limit": 590}, {"limit": 50, "order": "asc", "from": START.isoformat()})
    while writer.is_alive():
        for params in questions:
            response = client.get("/api/bars/BTC/5m", params=params)
            closes = {row["close"] for row in response.json().get("data", [])}
            if response.status_code != 200 or len(closes) != 1 or response.json()["count"] != params["limit"]:
                failures.append(f"{response.status_code} {closes} {response.json().get('count')}")
    writer.join()
    assert failures == []
    assert client.get("/api/bars/BTC/5m").json()["lineage"]["run_id"] == f"round-{ROUNDS - 1}"


def test_many_readers_at_once_are_all_answered(client: TestClient) -> None:
    statuses: list[int] = []

    def read(i: int) -> None:
        for url in ("/api/stats", "/api/divergences", f"/api/bars?limit={600 + i}", "/api/levels/BTC/1h"):
            statuses.append(client.get(url).status_code)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 32
