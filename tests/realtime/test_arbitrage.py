"""The engine: when changed books are evaluated, and that every event reaches bus and landing in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest
from prometheus_client import REGISTRY

from altforecast.arbitrage_cut import CutEdge
from altforecast.books import Book, BookState
from altforecast.capture_chance import CaptureChance
from altforecast.opportunities import Opportunity, OpportunityEvent, OpportunityEventKind, OpportunityType
from altforecast.params import ARBITRAGE
from altforecast.scanner import Scanner
from altforecast.trading_terms import TradingTerms
from altforecast_io.bus import OPPORTUNITIES, OPPORTUNITIES_FEED, SPREADS, MemoryBus
from realtime.arbitrage import OUTBOX_MAX, Engine
from tests.realtime.venue_toy import until

pytestmark = pytest.mark.anyio
KIND = OpportunityEventKind


def event(kind: OpportunityEventKind, number: int, reason: str = "") -> OpportunityEvent:
    """An event of opportunity `number`."""
    figures = dict.fromkeys(
        ("buy_vwap", "sell_vwap", "gross_edge_pct", "fees_pct", "slippage_pct", "withdraw_pct", "net_edge_pct", "expected_profit_usdt",
         "available_qty", "optimal_qty", "optimal_profit_usdt"), 1.0,
    )  # fmt: skip
    opportunity = Opportunity(
        id=f"o{number}", type=OpportunityType.SPATIAL, symbol="BTC-USDT", sell_symbol="BTC-USDT", buy_exchange="okx", sell_exchange="x",
        edge_curve=(), risk_flags=(), ts_detected_ms=number, **figures,
    )  # fmt: skip
    return OpportunityEvent(kind, opportunity, number, number, 1.0, number, reason)


class ScriptedScanner:
    """Gives the events that were laid out for its next evaluations."""

    def __init__(self) -> None:
        self.chance = CaptureChance()
        self.script: list[list[OpportunityEvent]] = []
        self.marks: list[str] = []
        self.evaluated_at: list[float] = []
        self.due: int | None = None
        self.error: Exception | None = None

    def set_book(self, book: Book) -> None:
        pass

    def mark(self, book: Book) -> None:
        self.marks.append(book.venue)

    def drop(self, venue: str, symbol: str | None = None) -> None:
        self.marks.append(f"-{venue}")

    def evaluate(self, now_ns: int) -> Sequence[OpportunityEvent]:
        self.evaluated_at.append(asyncio.get_running_loop().time())
        if self.error:
            raise self.error
        return self.script.pop(0) if self.script else []

    def next_due_ns(self) -> int | None:
        due, self.due = self.due, None
        return due

    def cut(self, now_ns: int) -> Sequence[CutEdge]:
        return []

    def close(self, now_ns: int) -> Sequence[OpportunityEvent]:
        return [event(KIND.CLOSED, 9, "shutdown")]


class Kept:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[OpportunityEvent] = []

    def note(self, event: OpportunityEvent) -> None:
        self.events.append(event)


class Stage:
    """A running engine."""

    def __init__(self, coalesce_ms: float) -> None:
        self.scanner, self.bus, self.sink = ScriptedScanner(), MemoryBus(), Kept()
        self.engine = Engine(
            self.scanner, self.bus, coalesce_ms=coalesce_ms, cut_sec=0.01, sink=self.sink,
        )  # fmt: skip
        self.book = Book("okx", "BTC-USDT")

    async def feed(self) -> list[str]:
        return [
            f"{row['event']} {row['id']}" for row in map(orjson.loads, [m.payload for m in await self.bus.recent(OPPORTUNITIES_FEED, 5000)])
        ]


@asynccontextmanager
async def stage(coalesce_ms: float = 1.0) -> AsyncIterator[Stage]:
    """An engine whose tasks end with the block."""
    made = Stage(coalesce_ms)
    running = {asyncio.create_task(made.engine.publish_events()), asyncio.create_task(made.engine.publish_cuts())}
    yield made
    for task in running:
        task.cancel()
    await asyncio.wait(running)


async def test_mark_first_change_is_evaluated_without_waiting() -> None:
    async with stage(coalesce_ms=500.0) as on:
        began = asyncio.get_running_loop().time()
        on.engine.mark(on.book)
        await until(lambda: on.scanner.evaluated_at)
        assert on.scanner.evaluated_at[0] - began < 0.4


async def test_mark_changes_within_the_window_are_evaluated_together() -> None:
    async with stage(coalesce_ms=60.0) as on:
        for _ in range(100):
            on.engine.mark(on.book)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert len(on.scanner.marks) == 100
        gaps = [b - a for a, b in zip(on.scanner.evaluated_at, on.scanner.evaluated_at[1:], strict=False)]
        assert gaps
        assert min(gaps) >= 0.059


async def test_stall_sets_every_book_aside_until_its_next_message() -> None:
    """The real scanner: what waited in the sockets of two venues is stamped as of one moment and was not."""
    now = {"s": 1000.0}
    scanner = Scanner(TradingTerms({}, 0.0, 24.0), ARBITRAGE)
    kept = Kept()
    engine = Engine(
        scanner, MemoryBus(), coalesce_ms=0.0, max_skew_ms=1000.0, sink=kept,
        clock_ns=lambda: round(now["s"] * 1e9), monotonic=lambda: now["s"],
    )  # fmt: skip
    cheap, dear = Book("okx", "BTC-USDT"), Book("kraken", "BTC-USDT")

    def told(book: Book, bid: float) -> None:
        book.load([(bid - n, 5.0) for n in range(12)], [(bid + 1.0 + n, 5.0) for n in range(12)])
        book.state, book.ts_ingest_ns = BookState.LIVE, engine._clock_ns()
        book.n_updates += 1
        engine.mark(book)
        engine.evaluate()

    for book in (cheap, dear):
        engine.set_book(book)
        told(book, 50_000.0)
    assert engine.health()["stalls"] == 0
    now["s"] += 2.5
    told(cheap, 50_000.0)
    told(dear, 51_000.0)
    assert (engine.health()["stalls"], kept.events) == (1, [])
    for _ in range(30):
        now["s"] += 0.08
        told(dear, 51_000.0)
    assert kept.events == [], "what waited is still being read"
    now["s"] += 0.2
    engine.evaluate()
    told(dear, 51_000.0)
    assert kept.events == [], "the other book had no message since"
    told(cheap, 50_000.0)
    assert [event.kind for event in kept.events] == [KIND.OPENED], "both had one, so this one is real"
    now["s"] += 3.0
    engine.evaluate()
    assert [event.kind for event in kept.events] == [KIND.OPENED, KIND.CLOSED]
    assert kept.events[-1].reason == "book_withdrawn"
    await engine.stop()


async def test_stall_of_the_real_loop_is_noticed_and_a_pause_of_the_market_is_none() -> None:
    scanner = ScriptedScanner()
    engine = Engine(scanner, MemoryBus(), max_skew_ms=500.0)
    engine.set_book(Book("okx", "BTC-USDT"))
    await asyncio.sleep(0.5)
    assert scanner.marks == []
    time.sleep(0.8)
    await until(lambda: scanner.marks == ["-okx"])
    engine.mark(Book("okx", "BTC-USDT"))
    assert scanner.marks == ["-okx"]
    await until(lambda: not engine._is_held)
    engine.mark(Book("okx", "BTC-USDT"))
    assert scanner.marks == ["-okx", "okx"]
    await engine.stop()


async def test_events_reach_feed_state_and_sink_in_order() -> None:
    async with stage() as on:
        on.scanner.script = [[event(KIND.OPENED, 1), event(KIND.OPENED, 2), event(KIND.UPDATED, 1), event(KIND.CLOSED, 2, "edge_gone")]]
        on.engine.mark(on.book)
        await until(lambda: len(on.sink.events) == 4)
        await asyncio.sleep(0.01)
        assert await on.feed() == ["opened o1", "opened o2", "updated o1", "closed o2"]
        assert set(await on.bus.state(OPPORTUNITIES)) == {"o1"}
        assert on.engine.n_open == 1


async def test_late_captures_do_not_reopen_a_closed_opportunity() -> None:
    async with stage() as on:
        on.scanner.script = [[event(KIND.OPENED, 1)], [event(KIND.CLOSED, 1, "edge_gone")], [event(KIND.UPDATED, 1)]]
        for n in (1, 2, 3):
            on.engine.drop("okx", None)
            await until(lambda n=n: len(on.sink.events) == n)  # type: ignore[misc]
        await asyncio.sleep(0.01)
        assert await on.bus.state(OPPORTUNITIES) == {}


async def test_pending_captures_are_evaluated_when_due_without_any_change() -> None:
    async with stage() as on:
        on.scanner.due = on.engine._clock_ns() + 50_000_000
        on.engine.mark(on.book)
        await until(lambda: len(on.scanner.evaluated_at) == 2)
        assert on.scanner.evaluated_at[1] - on.scanner.evaluated_at[0] >= 0.045


async def test_outbox_full_drops_the_oldest() -> None:
    async with stage() as on:
        on.scanner.script = [[event(KIND.OPENED, n) for n in range(OUTBOX_MAX + 5)]]
        on.engine.mark(on.book)
        await until(lambda: on.sink.events)
        await asyncio.sleep(0.05)
        feed = await on.feed()
        assert (len(feed), feed[0]) == (OUTBOX_MAX, "opened o5")
        assert len(on.sink.events) == OUTBOX_MAX + 5, "what is kept for ever loses nothing"


async def test_cuts_are_published_at_their_cadence() -> None:
    async with stage() as on:
        await asyncio.sleep(0.05)
        assert list(await on.bus.state(SPREADS)) == ["cut"]


async def test_metrics_tell_whether_the_capture_chances_come_true() -> None:
    async with stage() as on:
        for place in range(10):
            on.scanner.chance.learn("p", 0.15, place < 4, told=0.5)
        await until(lambda: REGISTRY.get_sample_value("capture_chance_outcomes") == 10.0)
        assert REGISTRY.get_sample_value("capture_chance_brier") == pytest.approx(0.25)
        assert REGISTRY.get_sample_value("capture_chance_base_brier") == pytest.approx(0.24)


async def test_stop_closes_the_ledger_and_writes_it() -> None:
    async with stage() as on:
        await on.engine.stop()
        assert await on.feed() == ["closed o9"]
        assert on.sink.events[-1].reason == "shutdown"


async def test_bug_of_the_scanner_ends_the_engine() -> None:
    made = Stage(1.0)
    made.scanner.error = ZeroDivisionError("a bug")
    running = asyncio.create_task(made.engine.publish_events())
    made.engine.mark(made.book)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 5)
    assert made.engine.health()["ok"] is False
