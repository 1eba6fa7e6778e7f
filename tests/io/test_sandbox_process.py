"""The sandbox as its users start it: one process of servers, the history writer, the sender."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import polars as pl
import pytest

from altforecast.symbols import VENUES
from altforecast_sandbox.clock import ScaledClock, parse_moment
from altforecast_sandbox.history import COLUMNS, write_history
from altforecast_sandbox.market import Market
from altforecast_sandbox.services import service_urls, venue_urls

END = datetime(2026, 11, 21, 9, 3, 20, tzinfo=UTC)
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def servers() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "altforecast_sandbox", "--seed", "3", "--start", "2026-11-21T09:00:00Z", "--speed", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    yield process, json.loads(process.stdout.readline())
    process.kill()
    process.wait(10)
    process.stdout.close()


def read(url: str) -> Any:
    with urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def test_process_announces_serves_and_stops(servers: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    process, ready = servers
    assert ready["ready"]
    assert set(ready["venues"]) == set(VENUES)
    now_ms = read(ready["venues"]["binance"] + "/api/v3/time")["serverTime"]
    assert 0 <= now_ms / 1000 - datetime(2026, 11, 21, 9, tzinfo=UTC).timestamp() < 3600
    assert read(ready["coingecko"] + "/api/v3/global")["data"]["updated_at"] <= now_ms / 1000
    assert read(ready["alternative_me"] + "/fng/")["data"][0]["timestamp"] == "1795219200"
    assert read(ready["base_url"] + "/_health") == {"status": "ok", "seed": 3}
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_service_urls_are_prefixes() -> None:
    assert venue_urls("http://h:1/")["okx"] == "http://h:1/okx"
    assert service_urls("http://h:1")["coingecko"] == "http://h:1/coingecko"


def test_scaled_clock_runs_faster() -> None:
    start, real = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
    assert ScaledClock(start, real, 60.0, lambda: real + timedelta(seconds=2))() == start + timedelta(minutes=2)


def test_write_history_holds_closed_bars_of_every_series(tmp_path: Path) -> None:
    paths = write_history(Market(7), tmp_path / "new" / "history", END - timedelta(days=3), END, END - timedelta(days=10))
    assert sorted(p.name for p in paths) == sorted(f"{e}_{t}.parquet" for e in ("binance", "cryptocap") for t in ("15m", "1h", "4h", "1d"))
    frames = {p.stem: pl.read_parquet(p) for p in paths}
    for name, frame in frames.items():
        timeframe = name.split("_")[1]
        assert tuple(frame.columns) == COLUMNS
        assert frame["ts"].dtype == pl.Datetime("ms", "UTC")
        assert frame.select("exchange", "symbol", "timeframe", "ts").is_unique().all()
        last = frame["ts"].max()
        assert isinstance(last, datetime)
        assert last + timedelta(minutes={"15m": 15, "1h": 60, "4h": 240, "1d": 1440}[timeframe]) <= END
    assert set(frames["binance_1h"]["symbol"]) >= {"BTC-USDT", "ETH-BTC"}
    assert set(frames["cryptocap_1d"]["symbol"]) == {"TOTAL2", "TOTAL3", "BTC.D", "USDT.D"}
    assert frames["cryptocap_1d"].filter(symbol="BTC.D").height == 9
    assert frames["cryptocap_1h"].filter(symbol="BTC.D").height == 239
    assert frames["cryptocap_15m"].filter(symbol="BTC.D").height == 287
    assert frames["cryptocap_15m"].filter(symbol="TOTAL2")["ts"].max() == datetime(2026, 11, 21, 8, 45, tzinfo=UTC)


def test_write_history_same_seed_same_bars(tmp_path: Path) -> None:
    first, second = (write_history(Market(5), tmp_path / name, END - timedelta(days=1), END) for name in ("a", "b"))
    assert all(pl.read_parquet(a).equals(pl.read_parquet(b)) for a, b in zip(first, second, strict=True))


def test_sender_process_delivers_and_stops(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def scenario() -> tuple[int, str]:
        from aiohttp import web

        async def take(request: web.Request) -> web.Response:
            got.append(await request.read())
            return web.Response()

        app = web.Application()
        app.add_routes([web.post("/webhook", take)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        after = (datetime.now(UTC) - timedelta(minutes=31)).isoformat()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"
        words = ["-m", "altforecast_sandbox.tradingview", "--seed", "7", "--url", url, "--secret", "s3cret", "--after", after]
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY)
        async with asyncio.timeout(60):
            while len(got) < 8:
                await asyncio.sleep(0.1)
        process.terminate()
        out, _ = await process.communicate()
        await runner.cleanup()
        return process.returncode or 0, out.decode()

    code, out = asyncio.run(scenario())
    assert code == 0
    assert "accepted" in out
    assert "s3cret" not in out
    assert {json.loads(body)["token"] for body in got} == {"s3cret"}


def test_parse_moment_without_zone_is_utc() -> None:
    assert parse_moment("2026-11-21T09:00") == datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert parse_moment("2026-11-21T10:00:00+01:00") == datetime(2026, 11, 21, 9, tzinfo=UTC)
    with pytest.raises(ValueError, match="isoformat"):
        parse_moment("noon")
