"""The board: which books may be used, what is remembered, what listeners and the bus are told."""

from __future__ import annotations

import orjson
import pytest
from prometheus_client import REGISTRY

from altforecast.book_health import HealthRules, Step
from altforecast.books import Book, BookState
from altforecast_io.bus import BOOKS, VENUE_STATES, MemoryBus
from altforecast_io.exchanges.feed_limits import LIMITS, planned_age_s, shards, symbols_on
from altforecast_io.exchanges.sessions.session import Fault, FaultReason
from realtime.board import FAULTS_KEPT, Board, Link
from realtime.publishing import Publisher, venue_json

pytestmark = pytest.mark.anyio
S = 1_000_000_000


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def set_book(self, book: Book) -> None:
        self.calls.append(("set", book.venue, book.symbol))

    def mark(self, book: Book) -> None:
        self.calls.append(("mark", book.venue, book.symbol))

    def drop(self, venue: str, symbol: str | None) -> None:
        self.calls.append(("drop", venue, str(symbol)))


class Scene:
    """A board with two venues, a clock that stands still, and connections that remember why they were broken off."""

    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * S
        self.board = Board(HealthRules(), lambda: self.now_ns)
        self.told = Told()
        self.board.listen(self.told)
        self.broken: list[tuple[str, Fault]] = []
        self.books: dict[str, Book] = {}
        self.links: dict[str, Link] = {}
        for venue in ("kraken", "okx"):
            self.board.open_venue(venue, "native", ("BTC-USD",))
            self.links[venue] = self.board.link(venue, f"{venue}#0", lambda fault, v=venue: self.broken.append((v, fault)))  # type: ignore[misc]
            self.renew(venue)
        self.told.calls.clear()

    def renew(self, venue: str) -> None:
        """A new session, live at once."""
        book = self.books[venue] = Book(venue, "BTC-USD")
        self.board.step(self.links[venue], Step.DIALLED)
        self.board.adopt(self.links[venue], {"BTC-USD": book})
        self.board.step(self.links[venue], Step.OPENED)
        book.load([(100.0 - n, 1.0) for n in range(20)], [(101.0 + n, 1.0) for n in range(20)])
        book.state = BookState.LIVE
        self.update(venue)

    def update(self, venue: str, lag_ms: int = 30) -> None:
        """One message of a venue now."""
        book, link = self.books[venue], self.links[venue]
        book.ts_ingest_ns = link.last_frame_ns = self.now_ns
        book.ts_event_ms = self.now_ns // 1_000_000 - lag_ms
        book.n_updates += 1
        link.frames += 1
        self.board.changed(book)

    def pass_s(self, seconds: float) -> None:
        """Time passes and the board looks."""
        self.now_ns += round(seconds * S)
        self.board.sweep()


def test_changed_marks_and_makes_the_connection_live() -> None:
    scene = Scene()
    scene.update("kraken")
    assert scene.told.calls == [("mark", "kraken", "BTC-USD")]
    assert scene.links["kraken"].state is BookState.LIVE
    assert scene.board.take_dirty() == set(scene.books.values())
    assert scene.board.take_dirty() == set()


def test_changed_ignores_a_book_of_a_replaced_session() -> None:
    scene = Scene()
    old = scene.books["kraken"]
    scene.renew("kraken")
    scene.told.calls.clear()
    scene.board.changed(old)
    assert scene.told.calls == []
    assert old not in scene.board.take_dirty()


def test_changed_crossed_for_two_messages_breaks_off_and_is_not_marked() -> None:
    scene = Scene()
    scene.books["kraken"].apply([(101.5, 1.0)], [])
    scene.update("kraken")
    assert scene.broken == []
    scene.told.calls.clear()
    scene.update("kraken")
    assert [(venue, fault.reason) for venue, fault in scene.broken] == [("kraken", FaultReason.CROSSED)]
    assert scene.told.calls == []


def test_withdraw_empties_drops_and_remembers() -> None:
    scene = Scene()
    scene.board.withdraw(scene.links["kraken"], Fault(FaultReason.GAP, "BTC-USD", "7 is followed by 9"))
    book = scene.books["kraken"]
    assert (book.state, book.bid_keys, book.ask_keys) == (BookState.SUSPECT, [], [])
    assert scene.told.calls == [("drop", "kraken", "BTC-USD")]
    record = scene.board.venues["kraken"]
    assert (record.gaps, record.state) == (1, BookState.SUSPECT)
    assert record.last_fault is not None
    assert record.last_fault.fault.detail == "7 is followed by 9"
    assert scene.books["okx"].state is BookState.LIVE


def test_faults_are_bounded() -> None:
    scene = Scene()
    for _ in range(FAULTS_KEPT + 10):
        scene.board.note_fault("kraken", Fault(FaultReason.DISCONNECTED, None, ""))
    assert len(scene.board.faults) == FAULTS_KEPT


def test_refuse_concerns_its_symbol_until_it_is_asked_for_again() -> None:
    scene = Scene()
    scene.board.refuse(scene.links["kraken"], Fault(FaultReason.REFUSED, "BTC-USD", "no such pair"))
    shown = venue_json(scene.board, scene.board.venues["kraken"], 40.0)
    assert shown["symbols"] == {"BTC-USD": "refused"}
    assert "no such pair" in shown["note"]
    scene.renew("kraken")
    assert venue_json(scene.board, scene.board.venues["kraken"], 40.0)["symbols"] == {"BTC-USD": "live"}


def test_sweep_breaks_off_only_the_silent_venue() -> None:
    scene = Scene()
    for _ in range(41):
        scene.pass_s(0.25)
        scene.update("okx")
    assert {venue for venue, _ in scene.broken} == {"kraken"}
    assert scene.broken[0][1].reason is FaultReason.STALE


def test_sweep_finds_a_clock_that_runs_away_and_judges_the_next_connection_anew() -> None:
    scene = Scene()
    for n in range(100):
        scene.pass_s(0.25)
        scene.update("kraken", lag_ms=30 + 250 * n)
        scene.update("okx")
        if scene.broken:
            break
    assert [(v, f.reason) for v, f in scene.broken] == [("kraken", FaultReason.CLOCK)]
    scene.board.withdraw(scene.links["kraken"], scene.broken.pop()[1])
    scene.renew("kraken")
    scene.pass_s(6)
    assert scene.broken == []


def test_sweep_knows_rates_and_ages() -> None:
    scene = Scene()
    for _ in range(200):
        scene.now_ns += S // 10
        scene.update("kraken")
        scene.update("okx")
        scene.board.sweep()
    record = scene.board.venues["kraken"]
    assert record.messages_per_s == pytest.approx(10.0, rel=0.05)
    scene.now_ns += S
    assert scene.board.age_ms("kraken", scene.now_ns) == 1000.0


async def test_publisher_tells_only_what_changed() -> None:
    scene, bus = Scene(), MemoryBus()
    publisher = Publisher(scene.board, bus, hz=4, fees_bps={"kraken": 40.0})
    assert await publisher.publish_books() == 2
    assert await publisher.publish_books() == 0
    scene.update("okx")
    scene.board.withdraw(scene.links["kraken"], Fault(FaultReason.GAP, None, "hole"))
    assert await publisher.publish_books() == 2
    books = {key: orjson.loads(value) for key, value in (await bus.state(BOOKS)).items()}
    okx, kraken = books["okx BTC-USD"], books["kraken BTC-USD"]
    assert (okx["is_healthy"], okx["bids"][0], okx["asks"][0]) == (True, [100.0, 1.0], [101.0, 1.0])
    assert len(okx["bids"]) == 20
    assert okx["ts_ingest"].endswith("Z")
    assert (kraken["is_healthy"], kraken["bids"], kraken["meta"]["state"]) == (False, [], "suspect")


async def test_publisher_venues_hold_every_field_and_clear_takes_all_off() -> None:
    scene, bus = Scene(), MemoryBus()
    scene.board.open_venue("gemini", "off", note="no stand-in")
    scene.board.closed(scene.links["okx"], "gap")
    publisher = Publisher(scene.board, bus, hz=4, fees_bps={"kraken": 40.0})
    await publisher.publish_venues()
    venues = {key: orjson.loads(value) for key, value in (await bus.state(VENUE_STATES)).items()}
    assert set(venues["kraken"]) == {
        "venue", "feed", "state", "n_symbols", "n_live", "n_connections", "messages_per_s", "lag_ms", "age_ms", "reconnects", "gaps",
        "last_fault", "taker_fee_bps", "symbols", "note",
    }  # fmt: skip
    assert (venues["kraken"]["state"], venues["kraken"]["n_live"], venues["kraken"]["taker_fee_bps"]) == ("live", 1, 40.0)
    assert (venues["gemini"]["state"], venues["gemini"]["note"]) == ("off", "no stand-in")
    assert (venues["okx"]["state"], venues["okx"]["reconnects"]) == ("backoff", {"gap": 1})
    await publisher.publish_books()
    await publisher.clear()
    assert await bus.state(BOOKS) == {}
    assert await bus.state(VENUE_STATES) == {}


@pytest.mark.parametrize("venue", sorted(LIMITS))
def test_limits_split_and_stagger(venue: str) -> None:
    limits = LIMITS[venue]
    symbols = [f"C{n}-USDT" for n in range(120)]
    parts = shards(limits, symbols)
    assert sorted(s for part in parts for s in part) == sorted(symbols)
    assert max(len(part) for part in parts) <= limits.symbols_per_connection
    ages = [planned_age_s(limits, n) for n in range(10)]
    assert len(set(ages)) == 10
    assert max(ages) < (24 if venue != "bitstamp" else 90 * 24) * 3600
    assert shards(limits, ()) == []


def test_symbols_on_asks_dollars_where_dollars_are_traded() -> None:
    wanted = ("BTC-USDT", "BTC-USD", "ETH-BTC", "BTC-USDC", "BTC-KRW")
    assert symbols_on(LIMITS["binance"], wanted) == ("BTC-USDT", "ETH-BTC", "BTC-USDC")
    assert symbols_on(LIMITS["coinbase"], wanted) == ("BTC-USDT", "BTC-USD", "ETH-BTC")
    assert symbols_on(LIMITS["upbit"], wanted) == ("BTC-USDT", "ETH-BTC", "BTC-KRW")
    assert symbols_on(LIMITS["binance"], wanted, traded={"BTC-USD"}) == ("BTC-USD",)


def test_metrics_count_what_the_board_saw() -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    before = value("orderbook_gap_events_total", venue="kraken"), value("ws_reconnects_total", venue="kraken", reason="gap")
    crossed, messages = value("crossed_total", venue="okx"), value("book_messages_total", venue="okx")
    scene = Scene()
    scene.board.withdraw(scene.links["kraken"], Fault(FaultReason.GAP, "BTC-USD", "hole"))
    scene.board.closed(scene.links["kraken"], "gap")
    scene.board.note_fault("okx", Fault(FaultReason.CROSSED, "BTC-USD", "bid above ask"))
    scene.pass_s(0.25)
    assert value("orderbook_gap_events_total", venue="kraken") == before[0] + 1
    assert value("ws_reconnects_total", venue="kraken", reason="gap") == before[1] + 1
    assert value("crossed_total", venue="okx") == crossed + 1
    assert value("book_messages_total", venue="okx") == messages + 1
    assert value("book_age_ms", venue="okx") == 250.0
    assert value("live_books", venue="kraken") == 0.0
    assert value("md_lag_ms_count", venue="okx") > 0


def test_changed_a_book_that_is_crossed_for_now_is_judged_again_and_breaks_nothing() -> None:
    scene = Scene()
    scene.books["okx"].state = BookState.SYNCING
    scene.board.dirty.clear()
    scene.board.changed(scene.books["okx"])
    assert scene.told.calls == [("mark", "okx", "BTC-USD")]
    assert scene.books["okx"] in scene.board.dirty
    assert scene.broken == []
