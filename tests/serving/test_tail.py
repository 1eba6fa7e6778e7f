"""The tail of the inbox: when it is read again, and what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from altforecast.types import Series, Timeframe
from altforecast_io.sources.tradingview import Alert, parse_alert
from altforecast_io.store import inbox
from altforecast_io.store.engine import Store, open_store
from altforecast_serving.queries.tail import MAX_AGE_S, REFRESH_AFTER_S, CountingInboxWriter, TailReader
from tests.serving.conftest import BTC, SECRET
from tests.serving.test_bars import alert

TS = datetime(2025, 8, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/tail.sqlite")
    yield opened
    opened.close()


def parsed(hours: int, close: str = "101") -> Alert:
    import orjson

    body = orjson.dumps(alert(TS + timedelta(hours=hours), close))
    return parse_alert(body, secret=SECRET, path_token=None, now=datetime.now(UTC), tv_btc_symbol="BINANCE:BTCUSDT")


def opens(reader_tail: object) -> list[datetime]:
    frame = reader_tail.of(BTC, Timeframe.H1)  # type: ignore[attr-defined]
    return [] if frame is None else frame["ts"].to_list()


@pytest.mark.anyio
async def test_tail_shows_what_this_process_stored_at_once(store: Store) -> None:
    now = [0.0]
    writer = CountingInboxWriter(store)
    writer.start()
    reader = TailReader(store, writer, lambda: now[0])
    assert opens(await reader.fresh()) == []
    await writer.submit(parsed(0))
    assert opens(await reader.fresh()) == [TS]
    await reader.close()
    writer.stop()


@pytest.mark.anyio
async def test_tail_shows_what_another_process_stored_within_its_age(store: Store) -> None:
    now = [0.0]
    reader = TailReader(store, None, lambda: now[0])
    assert opens(await reader.fresh()) == []
    inbox.append(store, [inbox.Delivery(parsed(0))])
    now[0] = REFRESH_AFTER_S / 2
    assert opens(await reader.fresh()) == []
    now[0] = REFRESH_AFTER_S * 1.5
    assert opens(await reader.fresh()) == []
    await reader.close()
    assert opens(await reader.fresh()) == [TS]
    inbox.mark_built(store, 1, "run")
    now[0] += MAX_AGE_S
    assert opens(await reader.fresh()) == []


@pytest.mark.anyio
async def test_tail_newest_content_of_a_bar_wins_and_keeps_its_numbers(store: Store) -> None:
    inbox.append(store, [inbox.Delivery(parsed(1)), inbox.Delivery(parsed(0)), inbox.Delivery(parsed(1, "101.5"))])
    tail = await TailReader(store, None, lambda: 0.0).fresh()
    frame = tail.of(Series("binance", "BTC-USDT"), Timeframe.H1)
    assert frame is not None
    assert frame["ts"].to_list() == [TS, TS + timedelta(hours=1)]
    assert frame["close"].to_list() == [float(Decimal(101)), 101.5]
    assert frame["known_at"].to_list() == [TS + timedelta(hours=1), TS + timedelta(hours=2)]
    assert tail.series == {BTC: [Timeframe.H1]}
