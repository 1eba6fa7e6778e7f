"""The order flow of the sandbox: books, windows of them, and the prices of planted opportunities."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from altforecast.errors import InputError
from altforecast.symbols import VENUES
from altforecast_sandbox.__main__ import options_of, parse_arguments
from altforecast_sandbox.base_path import MarketPath, RecordedPath, read_points
from altforecast_sandbox.listings import listed_pairs
from altforecast_sandbox.order_flow import OrderFlow
from altforecast_sandbox.plants import TAKER_FEE_BPS, pins_of, plants_of_hour, spatial, triangular, truth
from altforecast_sandbox.resting import Change, RestingBook
from altforecast_sandbox.streams.hub import FlowOptions
from altforecast_sandbox.streams.window import window_change
from tests.io.stream_clients import (
    MARKET,
)

T0 = int(datetime(2026, 3, 5, 9, 0, tzinfo=UTC).timestamp() * 1000)


def flow_of(venue: str, symbol: str, start_ms: int = T0, seed: int = 7) -> OrderFlow:
    """A flow of its own."""
    pair = next(p for p in listed_pairs(venue, 3) if p.symbol == symbol)
    return OrderFlow(seed, venue, pair, MarketPath(MARKET), start_ms)


# ---------------------------------------------------------------- the flow


def test_order_flow_same_seed_same_books() -> None:
    first, second = flow_of("okx", "ETH-USDT"), flow_of("okx", "ETH-USDT")
    times = [T0 + 130 * i for i in range(60)]
    assert [first.step(ms) for ms in times] == [second.step(ms) for ms in times]
    assert first.book == second.book
    assert flow_of("okx", "ETH-USDT", seed=8).book.bids != flow_of("okx", "ETH-USDT").book.bids


@pytest.mark.parametrize("venue", VENUES)
def test_order_flow_books_are_the_sum_of_contiguous_changes(venue: str) -> None:
    flow = flow_of(venue, "SOL-USDT")
    book = RestingBook(
        flow.book.symbol, flow.book.price_digits, flow.book.amount_digits, bids=dict(flow.book.bids), asks=dict(flow.book.asks)
    )
    last = flow.book.last_id
    for i in range(150):
        change = flow.step(T0 + 400 * i)
        assert change.first_id == last + 1
        assert change.last_id >= change.first_id
        last = change.last_id
        book.apply(change)
        assert flow.book.bid_ticks[-1] < flow.book.ask_ticks[0]
        assert len(flow.book.bids) >= 20
        assert len(flow.book.asks) >= 20
    assert (book.bids, book.asks, book.bid_ticks, book.ask_ticks) == (flow.book.bids, flow.book.asks, sorted(book.bids), sorted(book.asks))


def test_order_flow_crossed_heals_with_the_next_step() -> None:
    flow = flow_of("bybit", "BTC-USDT")
    flow.step(T0 + 100, is_crossed=True)
    assert flow.book.bid_ticks[-1] > flow.book.ask_ticks[0]
    flow.step(T0 + 200)
    assert flow.book.bid_ticks[-1] < flow.book.ask_ticks[0]


def test_order_flow_offers_nothing_by_accident_for_an_hour() -> None:
    symbols = ("BTC-USDT", "ETH-USDT", "ETH-BTC", "DOGE-USDT", "TRX-USDT")
    flows = {(v, s): flow_of(v, s) for v in VENUES for s in symbols}
    best, best_triangle = -1.0, -1.0
    for second in range(0, 3_600, 12):
        for flow in flows.values():
            flow.step(T0 + second * 1000)
        for symbol in symbols:
            for buy, sell in permutations(VENUES, 2):
                ask, bid = flows[buy, symbol].book.ask_ticks[0], flows[sell, symbol].book.bid_ticks[-1]
                best = max(best, (bid / ask - 1) * 100 - (TAKER_FEE_BPS[buy] + TAKER_FEE_BPS[sell]) / 100)
        for venue in VENUES:
            plant = triangular(T0, T0 + 1, venue, 1.0)
            best_triangle = max(best_triangle, truth(plant, [flows[venue, leg.symbol].book for leg in plant.legs])["exact_edge_pct"])
    assert best < 0.0
    assert best_triangle < 0.0


def test_recorded_path_plays_there_and_back() -> None:
    path = RecordedPath([(1_000, 100.0), (2_000, 110.0), (4_000, 105.0)], T0, MarketPath(MARKET))
    assert path.log_usdt("BTC", T0) == pytest.approx(4.60517, abs=1e-5)
    assert path.log_usdt("BTC", T0 + 1_000) == path.log_usdt("BTC", T0 + 5_000) == pytest.approx(4.70048, abs=1e-5)
    assert path.log_usdt("BTC", T0 + 6_000) == pytest.approx(4.60517, abs=1e-5)
    assert path.log_usdt("SOL", T0 + 1_000) - path.log_usdt("SOL", T0) == pytest.approx(1.4 * 0.09531, abs=1e-4)


def test_read_points_names_the_wrong_line(tmp_path: Path) -> None:
    file = tmp_path / "path.csv"
    file.write_text("ts_ms,mid\n1000,100.5\n2000,101\n")
    arguments = parse_arguments(["--base-path", str(file), "--book-rate", "0.5", "--extra-symbols", "3", "--plants-per-hour", "9"])
    assert options_of(arguments) == FlowOptions(0.5, 3, 9.0, [(1000, 100.5), (2000, 101.0)])
    with pytest.raises(InputError, match="line 2"):
        read_points(["1,2", "x,3"])


def test_window_change_follows_the_best_levels() -> None:
    rng = random.Random(3)
    for depth in (5, 10, 1000):
        flow = flow_of("kraken", "ETH-USDT")
        client: dict[str, dict[int, int]] = {"b": dict(flow.book.top_bids(depth)), "a": dict(flow.book.top_asks(depth))}
        for i in range(200):
            change = flow.step(T0 + 300 * i + rng.randrange(300))
            for side, rows in zip("ba", window_change(flow.book, change, depth), strict=True):
                for ticks, lots in rows:
                    client[side].pop(ticks, None) if lots == 0 else client[side].update({ticks: lots})
            assert client == {"b": dict(flow.book.top_bids(depth)), "a": dict(flow.book.top_asks(depth))}


def test_resting_book_top_of_an_unknown_level() -> None:
    book = RestingBook("X-Y", 2, 0)
    book.apply(Change("X-Y", 1, 1, 0, ((100, 5), (99, 1)), ((101, 0), (102, 3))))
    assert (book.top_bids(5), book.top_asks(5), book.top_bids(0)) == (((100, 5), (99, 1)), ((102, 3),), ())


# ---------------------------------------------------------------- plants


def test_plants_of_hour_never_overlap_and_repeat() -> None:
    plants = plants_of_hour(7, 480_000, 400.0)
    assert plants == plants_of_hour(7, 480_000, 400.0)
    assert 250 < len(plants) < 480
    assert {p.kind for p in plants} == {"spatial", "triangular"}
    taken: dict[tuple[str, str], int] = {}
    for plant in plants:
        for leg in plant.legs:
            assert taken.get((leg.venue, leg.symbol), 0) <= plant.start_ms
            taken[leg.venue, leg.symbol] = plant.end_ms


@pytest.mark.parametrize(
    "plant",
    [
        spatial(T0, T0 + 5_000, "BTC-USDT", "okx", "bybit", 12.0),
        spatial(T0, T0 + 5_000, "XRP-USDT", "htx", "bitfinex", 30.0, 20_000),
        triangular(T0, T0 + 5_000, "binance", 9.0),
        triangular(T0, T0 + 5_000, "mexc", 25.0, legs=(("ETH-USDT", "ask"), ("ETH-BTC", "bid"), ("BTC-USDT", "bid"))),
    ],
)
def test_pins_of_holds_the_stated_net_edge(plant: Any) -> None:
    path = MarketPath(MARKET)

    def usdt(coin: str) -> float:
        return math.exp(path.log_usdt(coin, T0))

    flows = [flow_of(leg.venue, leg.symbol) for leg in plant.legs]
    for leg, flow, pin in zip(plant.legs, flows, pins_of(plant, flows, T0, usdt), strict=True):
        flow.pins[leg.side] = pin
    edges = []
    for i in range(30):
        for flow in flows:
            flow.step(T0 + 150 * i)
            assert flow.book.bid_ticks[-1] < flow.book.ask_ticks[0]
        edges.append(truth(plant, [flow.book for flow in flows])["net_edge_pct"])
    coarsest = max(1 / min(flow.book.bid_ticks[-1], flow.book.ask_ticks[0]) for flow in flows) * 100
    assert len(set(edges)) == 1
    assert plant.edge_bps / 100 - 1e-9 <= edges[0] <= plant.edge_bps / 100 + 3 * coarsest + 0.001
    for leg, size in zip(plant.legs, truth(plant, [f.book for f in flows])["sizes"], strict=True):
        assert size * usdt(leg.symbol.split("-")[0]) >= plant.money_usdt


def test_apply_micro_goes_on_within_one_millisecond_and_when_the_clock_steps_back() -> None:
    book = RestingBook("X-Y", 2, 0, ts_ms=1_000)
    seen = [book.micro]
    for n, ts_ms in enumerate([1_000] * 500 + [1_001, 1_007, 400]):
        book.apply(Change("X-Y", n, n, ts_ms, ((100, n),), ()))
        seen.append(book.micro)
    assert seen == sorted(set(seen))
    assert (seen[0], seen[-2], seen[-1]) == (1_000_000, 1_007_000, 1_007_001)
