"""The job transfer_terms against the stand-ins, and what the scanner makes of what it stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from altforecast.books import Book, BookState
from altforecast.opportunities import Opportunity, RiskFlag
from altforecast.params import ArbitrageParams
from altforecast.scanner import Scanner
from altforecast.trading_terms import TradingTerms
from altforecast_io.exchanges import connection
from altforecast_io.store.transfers import all_terms, answered_at
from altforecast_pipelines.definitions import build_definitions
from altforecast_pipelines.ingest import open_instance
from altforecast_pipelines.resources import House
from altforecast_pipelines.transfers import DUE_AFTER, config_of, due, transfer_terms_schedule
from altforecast_sandbox.market import Market
from tests.stand_in import NOON, StandIn, running

VENUES = "kucoin,htx,bitget,kraken"
FLAG = RiskFlag


@pytest.fixture(scope="module")
def outside() -> Iterator[StandIn]:
    connection._MARKETS.clear()
    with running(Market(7)) as stand_in:
        yield stand_in


@pytest.fixture
def make(outside: StandIn, tmp_path: Path) -> Callable[..., House]:
    def house(**overrides: Any) -> House:
        settings = outside.settings(tmp_path, **({"book_venues": VENUES} | overrides))
        settings.make_folders()
        return House(lambda: settings, outside.clock)

    return house


def run_job(house: House, *venues: str) -> dict[str, Any]:
    """Run the job as the daemon would; the metadata of its op."""
    job = build_definitions(overrides={"house": house}).resolve_job_def("transfer_terms")
    with open_instance(house.settings) as instance:
        done = job.execute_in_process(instance=instance, run_config=config_of(venues))
        assert done.success
        (output,) = (e.step_output_data for e in done.all_events if e.event_type_value == "STEP_OUTPUT")
    return {name: value.value for name, value in output.metadata.items()}


def found(terms: TradingTerms, base: str, buy: str, sell: str) -> Opportunity | None:
    """What the scanner opens where a coin is bought at 100 on one venue and sold at 101 on another."""
    now_ns = int(NOON.timestamp()) * 1_000_000_000
    scanner = Scanner(terms, ArbitrageParams())
    for venue, bid, ask in ((buy, 99.9, 100.0), (sell, 101.0, 101.1)):
        book = Book(venue, f"{base}-USDT")
        book.load([(bid, 1000.0), (bid - 1, 1000.0)], [(ask, 1000.0), (ask + 1, 1000.0)])
        book.state, book.ts_ingest_ns = BookState.LIVE, now_ns
        scanner.set_book(book)
    events = scanner.evaluate(now_ns)
    return events[0].opportunity if events else None


def terms_of(house: House, **changes: Any) -> TradingTerms:
    """What a realtime process would know after its next look at the store."""
    terms = TradingTerms(uniform_fee_bps=10.0, **changes)
    terms.set_transfers(all_terms(house.store))
    return terms


def test_transfer_terms_change_flags_and_costs(make: Callable[..., House]) -> None:
    house = make()
    before = terms_of(house)
    assumed = found(before, "XRP", "kucoin", "bitget")
    assert assumed is not None
    assert assumed.risk_flags == (FLAG.TRANSFER_COST_UNKNOWN,)
    assert assumed.withdraw_pct == pytest.approx(5.0 / 3000 * 100)
    assert found(before, "TWIN", "kucoin", "bitget") is not None

    account = run_job(house)
    assert account["venues"]["kraken"] == "needs a key"
    assert account["venues"]["kucoin"].endswith("coins")
    assert account["rows"] == len(all_terms(house.store))
    assert set(answered_at(house.store)) == {"kucoin", "htx", "bitget"}

    after = terms_of(house)
    known = found(after, "XRP", "kucoin", "bitget")
    assert known is not None
    assert known.risk_flags == ()
    assert known.withdraw_pct == pytest.approx(0.2 / 30 * 100)
    # 5 USDT were assumed; 0.2 coins are bought and not sold
    assert known.expected_profit_usdt - assumed.expected_profit_usdt == pytest.approx(5.0 - 0.2 * 101.0 * 0.999)
    shut = {pair: found(after, *pair) for pair in (("LTC", "kucoin", "bitget"), ("SOL", "kucoin", "bitget"), ("DOGE", "bitget", "htx"))}
    flags = {pair: one.risk_flags if one else None for pair, one in shut.items()}
    assert flags == {
        ("LTC", "kucoin", "bitget"): (FLAG.WITHDRAWAL_CLOSED,), ("SOL", "kucoin", "bitget"): (FLAG.DEPOSIT_CLOSED,),
        ("DOGE", "bitget", "htx"): (FLAG.DEPOSIT_CLOSED,),
    }  # fmt: skip
    # a venue that needs a key: the fee of the side that is known counts where it is the one that withdraws
    assert found(after, "XRP", "kucoin", "kraken").risk_flags == ()  # type: ignore[union-attr]
    assert found(after, "XRP", "kraken", "kucoin").risk_flags == (FLAG.TRANSFER_COST_UNKNOWN,)  # type: ignore[union-attr]
    # one ticker, two contracts: flagged, and proven to be two coins, so never compared
    way = after.transfer("TWIN", "kucoin", "bitget", int(NOON.timestamp() * 1000))
    assert (FLAG.ASSET_UNMATCHED in way.flags, way.is_other_coin) == (True, True)
    assert found(after, "TWIN", "kucoin", "bitget") is None
    assert found(after, "TWIN", "bitget", "okx").risk_flags[0] is FLAG.ASSET_UNMATCHED  # type: ignore[union-attr]
    # a day later nobody asked again
    late = found(terms_of(house, max_age_hours=-1.0), "XRP", "kucoin", "bitget")
    assert late is not None
    assert late.risk_flags == (FLAG.TRANSFER_STALE,)


def test_transfer_terms_one_venue_that_fails_stops_no_other(make: Callable[..., House], outside: StandIn) -> None:
    addresses = ",".join(p for p in make().settings.exchange_base_urls_text.split(",") if not p.startswith("htx="))
    house = make(exchange_base_urls_text=addresses)
    account = run_job(house)
    assert "htx" in account["venues"]["htx"]
    assert set(answered_at(house.store)) == {"kucoin", "bitget"}


def test_transfer_terms_asks_only_the_venues_it_is_told(make: Callable[..., House]) -> None:
    house = make()
    assert set(run_job(house, "bitget")["venues"]) == {"bitget", "kraken"}
    assert set(answered_at(house.store)) == {"bitget"}


def test_due_names_those_that_never_answered_or_long_ago() -> None:
    now = datetime.fromisoformat("2026-03-01T12:00:00Z")
    answered = {"kucoin": now - DUE_AFTER, "htx": now - DUE_AFTER + timedelta(seconds=1)}
    assert due(["kucoin", "htx", "bitget"], answered, now) == ["kucoin", "bitget"]


def test_transfer_terms_schedule_asks_the_venues_that_are_due(make: Callable[..., House]) -> None:
    def tick(house: House) -> Any:
        context = dg.build_schedule_context(scheduled_execution_time=NOON, resources={"house": house})
        return transfer_terms_schedule(context)

    house = make()
    run_job(house, "bitget")
    assert tick(house).run_config == config_of(["kucoin", "htx"])
    assert isinstance(tick(make(book_venues="kraken")), dg.SkipReason)
    assert isinstance(tick(make(arbitrage_enable=False)), dg.SkipReason)
