"""Terms of the store reach the engine while it runs; fees as set are the fees that it uses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from altforecast.books import Book, BookState
from altforecast.opportunities import RiskFlag
from altforecast.trading_terms import TradingTerms, TransferTerms
from altforecast_io.bus import MemoryBus
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store, open_store
from altforecast_io.store.transfers import save_terms
from realtime.arbitrage import open_engine, terms_of
from realtime.transfer_terms import REFRESH_S, keep_transfer_terms

pytestmark = pytest.mark.anyio
NOW_MS = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "store").mkdir()
    opened = open_store(f"sqlite:///{tmp_path}/store/altforecast.sqlite", "live")
    yield opened
    opened.close()


def row(fee: float, ts_ms: int = NOW_MS) -> TransferTerms:
    return TransferTerms("kucoin", "ABC", "ETH", fee, 1.0, True, True, None, ts_ms)


async def test_keep_transfer_terms_takes_over_newer_answers_alone(store: Store) -> None:
    terms, revisions, waits = TradingTerms(), [], []
    answers = [None, row(0.5), None, row(0.7, NOW_MS + 1)]

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        revisions.append(terms.revision)
        if not answers:
            raise asyncio.CancelledError
        answer = answers.pop(0)
        if answer is not None:
            save_terms(store, "kucoin", [answer])

    looks: list[int] = []
    with pytest.raises(asyncio.CancelledError):
        await keep_transfer_terms(store, terms, lambda: looks.append(1), sleep=sleep)
    # an answer that is known already does not make the scanner look at everything again
    assert revisions == [0, 0, 1, 1, 2]
    assert waits == [REFRESH_S] * len(looks)
    assert terms.transfer("ABC", "kucoin", "okx", NOW_MS).fee == 0.7


async def test_keep_transfer_terms_changes_what_is_open(store: Store) -> None:
    terms = TradingTerms(uniform_fee_bps=10.0)
    engine = open_engine(Settings.load(), terms, MemoryBus(), None)
    now_ns = NOW_MS * 1_000_000
    for venue, bid, ask in (("kucoin", 99.9, 100.0), ("okx", 101.0, 101.1)):
        engine.set_book(live(venue, bid, ask, now_ns))
    (opened,) = engine.scanner.evaluate(now_ns)
    assert RiskFlag.TRANSFER_COST_UNKNOWN in opened.opportunity.risk_flags
    save_terms(store, "kucoin", [row(0.5)])
    keeping = asyncio.create_task(keep_transfer_terms(store, terms))
    while not terms.revision:
        await asyncio.sleep(0.01)
    keeping.cancel()
    (updated,) = engine.scanner.evaluate(now_ns + 300_000_000)
    assert updated.opportunity.id == opened.opportunity.id
    assert RiskFlag.TRANSFER_COST_UNKNOWN not in updated.opportunity.risk_flags
    assert updated.opportunity.withdraw_pct == pytest.approx(0.5 / 30 * 100)


def live(venue: str, bid: float, ask: float, now_ns: int) -> Book:
    book = Book(venue, "ABC-USDT")
    book.load([(bid, 1000.0), (bid - 1, 1000.0)], [(ask, 1000.0), (ask + 1, 1000.0)])
    book.state, book.ts_ingest_ns = BookState.LIVE, now_ns
    return book


@pytest.mark.parametrize(
    ("chosen", "fees_pct"),
    [
        ({}, 0.2),
        ({"taker_fee_bps": 7.0}, 0.14),
        ({"taker_fees_text": "okx=8,binance=1"}, 0.18),
        ({"taker_fee_bps": 7.0, "taker_fees_text": "okx=8"}, 0.15),
    ],
)
async def test_open_engine_uses_the_fees_that_are_set(chosen: dict[str, float | str], fees_pct: float) -> None:
    settings = Settings.load(**chosen)
    engine = open_engine(settings, terms_of(settings), MemoryBus(), None)
    for venue, bid, ask in (("kucoin", 99.9, 100.0), ("okx", 101.0, 101.1)):
        engine.set_book(live(venue, bid, ask, NOW_MS * 1_000_000))
    (opened,) = engine.scanner.evaluate(NOW_MS * 1_000_000)
    assert opened.opportunity.fees_pct == pytest.approx(fees_pct)
