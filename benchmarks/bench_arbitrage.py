"""The arbitrage engine: cost of one book update against a numpy full scan and against decoding, triangles against enumeration.

What belongs here: CPU of the engine alone, all in one run. What does not: sessions (`bench_book_sessions`), sockets.
Run: python -m benchmarks.bench_arbitrage [--data <folder with recordings/>]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from altforecast.arbitrage import Costs, best_size
from altforecast.books import Book, BookState
from altforecast.params import ArbitrageParams
from altforecast.scanner import Scanner
from altforecast.symbols import VENUES
from altforecast.trading_terms import TradingTerms
from altforecast.triangles import find_triangles
from altforecast_io.bus import MemoryBus
from realtime.arbitrage import Engine
from realtime.books import GC_THRESHOLDS

LEVELS, SYMBOLS, UPDATES, ROUNDS = 50, 200, 3000, 7
SHIFT = 20
"""Frames by which each virtual venue of the recording lags the one before: two seconds."""
BUSY = ArbitrageParams(withdraw_cost_usdt=0.0, min_net_edge_pct=0.02)
NOW_NS = 1_700_000_000_000_000_000
Floats = NDArray[np.float64]


def fill(book: Book, rng: random.Random, mid: float) -> None:
    """A live book of 50 levels a side."""
    bids = [(mid * (1 - 0.0001 * (i + rng.random())), rng.expovariate(1.0) * 500 / mid) for i in range(1, LEVELS + 1)]
    asks = [(mid * (1 + 0.0001 * (i + rng.random())), rng.expovariate(1.0) * 500 / mid) for i in range(1, LEVELS + 1)]
    book.load(bids, asks)
    book.state, book.ts_ingest_ns = BookState.LIVE, NOW_NS


def market(rng: random.Random) -> tuple[list[Book], list[float]]:
    """14 venues x 200 symbols; mids differ by 0.05 % between venues."""
    mids = [rng.lognormvariate(2, 2) for _ in range(SYMBOLS)]
    books = [Book(v, f"S{s:03d}-USDT") for s in range(SYMBOLS) for v in VENUES]
    for book in books:
        fill(book, rng, mids[int(book.symbol[1:4])] * (1 + rng.gauss(0, 0.0005)))
    return books, mids


def incremental(
    books: list[Book], rng: random.Random, terms: TradingTerms, params: ArbitrageParams, step_ns: int = 20_000
) -> tuple[float, float, int]:
    """(median and p99 microseconds of mark + evaluate of one moved book, opportunities that are open)."""
    scanner = Scanner(terms, params)
    for book in books:
        book.ts_ingest_ns = NOW_NS
        scanner.set_book(book)
    scanner.evaluate(NOW_NS)
    now, spent = NOW_NS, []
    for _ in range(UPDATES):
        book = rng.choice(books)
        now += step_ns
        book.ts_ingest_ns = now
        book.bid_keys[-1] *= 1 + rng.gauss(0, 1e-6)
        began = time.perf_counter_ns()
        scanner.mark(book)
        scanner.evaluate(now)
        scanner.next_due_ns()
        spent.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(spent), statistics.quantiles(spent, n=100)[98], len(scanner.open_opportunities())


def frame_to_published(folder: Path, books: list[Book]) -> dict[str, Any]:
    """From a real frame to its opportunities on the bus, in process: p50 and p99 of frames that published something.

    The BTCUSDT recording plays on 14 virtual venues, each two seconds behind the one before, at zero fees, beside the busy
    market whose opportunities stay open. Wall time, and CPU time, which other work on the machine does not lengthen.
    """
    return asyncio.run(_published(folder, books))


async def _published(folder: Path, books: list[Book]) -> dict[str, Any]:
    from benchmarks.bench_book_sessions import binance, segments

    part, now = segments(folder)[0], NOW_NS
    bus = CountingBus()
    engine = Engine(Scanner(TradingTerms(uniform_fee_bps=0), BUSY), bus, clock_ns=lambda: now)
    sessions = [binance(part)[0] for _ in VENUES]
    for session, venue in zip(sessions, VENUES, strict=True):
        session.books["BTC-USDT"].venue = venue
    for book in books:
        book.ts_ingest_ns = now
        engine.set_book(book)
    engine.evaluate()
    await engine.flush()
    n_busy, wall, cpu = engine.n_open, [], []
    for step in range(len(part["frames"]) + SHIFT * len(VENUES)):
        for i, session in enumerate(sessions):
            if not 0 <= step - i * SHIFT < len(part["frames"]):
                continue
            now += 200_000
            before, began, began_cpu = bus.n_written, time.perf_counter_ns(), time.process_time_ns()
            for output in session.received(part["frames"][step - i * SHIFT], now):
                if type(output) is Book:
                    engine.scanner.mark(output)
                    engine.evaluate()
                    await engine.flush()
            if bus.n_written > before:
                wall.append((time.perf_counter_ns() - began) / 1000)
                cpu.append((time.process_time_ns() - began_cpu) / 1000)
    p99 = statistics.quantiles(wall, n=100)[98]
    return {"published_frames": len(wall), "published_n_open": n_busy, "frame_to_published_p50_us": round(statistics.median(wall)),
            "frame_to_published_p99_ms": round(p99 / 1000, 3), "meets_1_ms": p99 < 1000,
            "frame_to_published_cpu_p99_ms": round(statistics.quantiles(cpu, n=100)[98] / 1000, 3)}  # fmt: skip


class CountingBus(MemoryBus):
    """Counts what was put into its feeds."""

    n_written = 0

    async def append(self, topic: str, payload: bytes) -> None:
        """As the bus does it."""
        self.n_written += 1
        await super().append(topic, payload)


def arrays(books: list[Book]) -> list[Floats]:
    """Levels as (symbol, venue, level), best first."""
    shape = (SYMBOLS, len(VENUES), LEVELS)
    sides = (
        [[-k for k in b.ask_keys[::-1]] for b in books],
        [b.ask_sizes[::-1] for b in books],
        [b.bid_keys[::-1] for b in books],
        [b.bid_sizes[::-1] for b in books],
    )
    return [np.array(side, dtype=np.float64).reshape(shape) for side in sides]


def full_scan(levels: list[Floats], fees: Floats) -> Floats:
    """Net edge of every ordered venue pair at the fixed size, vectorised; shape (symbols, venues, venues)."""
    ask, ask_size, bid, bid_size = levels
    quantity = 3000.0 / ask[:, :, 0].min(axis=1)[:, None, None]

    def vwap(price: Floats, size: Floats) -> Floats:
        before = np.cumsum(size, axis=2) - size
        take = np.clip(quantity - before, 0.0, size)
        filled = take.sum(axis=2)
        priced: Floats = np.where(filled >= quantity[:, :, 0] * (1 - 1e-12), (price * take).sum(axis=2) / quantity[:, :, 0], np.nan)
        return priced

    buy, sell = vwap(ask, ask_size), vwap(bid, bid_size)
    gross = (sell[:, None, :] / buy[:, :, None] - 1.0) * 100.0
    net: Floats = gross - (fees[:, None] + fees[None, :]) * 100.0 - 0.02 - 5.0 / (buy[:, :, None] * quantity) * 100.0
    return net


def best_of(call: Callable[[], Any]) -> float:
    """Least CPU microseconds of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent) * 1e6


def real_update(folder: Path) -> dict[str, Any]:
    """Engine against decode + apply of the real BTCUSDT frames: one venue is real, thirteen stand beside it."""
    from benchmarks.bench_book_sessions import binance, segments

    parts = segments(folder)[:4]
    frames = sum(len(part["frames"]) for part in parts)
    decode: list[float] = []
    both: list[float] = []
    for _ in range(ROUNDS):
        for with_engine, into in ((False, decode), (True, both)):
            into.append(sum(_drive(*binance(part), with_engine) for part in parts) / frames * 1e6)
    decode_us, both_us = min(decode), min(both)
    share = (both_us - decode_us) / decode_us
    return {"decode_apply_us": round(decode_us, 2), "engine_us_on_real": round(both_us - decode_us, 2),
            "engine_share_of_decode": round(share, 3), "meets_25_percent": share <= 0.25}  # fmt: skip


def _drive(session: Any, frames: list[str], with_engine: bool) -> float:
    rng, scanner, now = random.Random(1), Scanner(TradingTerms(), ArbitrageParams()), NOW_NS
    book = session.books["BTC-USDT"]
    mid = (book.bid_keys[-1] - book.ask_keys[-1]) / 2
    for venue in VENUES[1:]:
        other = Book(venue, "BTC-USDT")
        fill(other, rng, mid)
        scanner.set_book(other)
    scanner.set_book(book)
    gc.collect()
    began = time.process_time()
    for frame in frames:
        now += 1_000
        for output in session.received(frame, now):
            if with_engine and type(output) is Book:
                scanner.mark(output)
                scanner.evaluate(now)
    return time.process_time() - began


def triangles(n: int) -> dict[str, Any]:
    """Best triangle of one changed symbol by the index against enumeration of simple cycles up to length 4, n symbols."""
    rng = random.Random(2)
    names = ["USDT", "BTC", "ETH", "BNB", *(f"A{i}" for i in range(40))]
    symbols: list[str] = [f"{b}-{a}" for a, b in combinations(names[:4], 2)]
    symbols += [f"{b}-{a}" for b in names[4:] for a in ("USDT", "BTC")][: n - len(symbols)]
    rates: dict[str, dict[str, float]] = {a: {} for a in names}
    for symbol in symbols:
        base, quote = symbol.split("-")
        rates[base][quote], rates[quote][base] = (rate := rng.lognormvariate(0, 0.001)), 0.999 / rate
    index = {s: [t for t in find_triangles(symbols) if any(leg.symbol == s for leg in t.legs)] for s in symbols}
    changed = symbols[10]

    def by_index() -> float:
        return max(rates[a][b] * rates[b][c] * rates[c][a] for a, b, c in (t.assets for t in index[changed]))

    def enumerate_all() -> float:
        best = 0.0
        for start in names:
            stack: list[tuple[str, tuple[str, ...], float]] = [(start, (start,), 1.0)]
            while stack:
                at, path, product = stack.pop()
                for target, rate in rates[at].items():
                    if target == start and len(path) > 2:
                        best = max(best, product * rate)
                    elif target > start and target not in path and len(path) < 4:
                        stack.append((target, (*path, target), product * rate))
        return best

    ours, theirs = best_of(lambda: [by_index() for _ in range(1000)]) / 1000, best_of(enumerate_all)
    return {"triangle_symbols": len(symbols), "triangle_us": round(ours, 2), "enumeration_up_to_4_us": round(theirs),
            "ratio_triangles": round(theirs / ours), "meets_1000x": theirs / ours >= 1000}  # fmt: skip


def sizes(books: list[Book]) -> dict[str, Any]:
    """The walk against a level-by-level rule in Decimal on the pairs that cross."""
    costs = Costs(0.0001, 0.0001, 0.02, 0.0, 1.0)
    pairs = [(a, b) for s in range(40) for a in books[14 * s : 14 * s + 14] for b in books[14 * s : 14 * s + 14]]
    pairs = [(a, b) for a, b in pairs if a is not b and b.bid_keys[-1] > -a.ask_keys[-1] * 1.0005][:200]
    exact = [([(Decimal(repr(p)), Decimal(repr(q))) for p, q in a.asks(LEVELS)],
              [(Decimal(repr(p)), Decimal(repr(q))) for p, q in b.bids(LEVELS)]) for a, b in pairs]  # fmt: skip
    ours = best_of(lambda: [best_size(a.ask_keys, a.ask_sizes, b.bid_keys, b.bid_sizes, costs) for a, b in pairs])
    theirs = best_of(lambda: [_greedy(asks, bids) for asks, bids in exact])
    return {"pairs": len(pairs), "walk_us": round(ours / len(pairs), 2), "decimal_greedy_us": round(theirs / len(pairs), 1),
            "ratio_walk": round(theirs / ours, 1)}  # fmt: skip


def _greedy(asks: list[tuple[Decimal, Decimal]], bids: list[tuple[Decimal, Decimal]]) -> Decimal:
    fee, i, j, profit = Decimal("0.0001"), 0, 0, Decimal(0)
    have, want = asks[0][1], bids[0][1]
    while i < len(asks) and j < len(bids) and (gain := bids[j][0] * (1 - fee) - asks[i][0] * (1 + fee)) > 0:
        take = min(have, want)
        profit, have, want = profit + gain * take, have - take, want - take
        if not have:
            i += 1
            have = asks[i][1] if i < len(asks) else have
        if not want:
            j += 1
            want = bids[j][1] if j < len(bids) else want
    return profit


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    rng = random.Random(1)
    books, _ = market(rng)
    levels, fees = arrays(books), np.array([TradingTerms().taker_fee(v) for v in VENUES])
    scan_us = best_of(lambda: full_scan(levels, fees))
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()
    update_us, p99_us, n_open = incremental(books, rng, TradingTerms(), ArbitrageParams())
    busy = incremental(books, rng, TradingTerms(uniform_fee_bps=0), BUSY, 200_000)
    figures = {"bench": "arbitrage", "update_us": round(update_us, 2), "update_p99_us": round(p99_us, 1), "n_open": n_open,
               "busy_update_us": round(busy[0], 1), "busy_update_p99_us": round(busy[1], 1), "busy_n_open": busy[2],
               "numpy_full_scan_us": round(scan_us), "ratio_full_scan": round(scan_us / update_us), 
               "meets_300x": scan_us >= 300 * update_us,
               **triangles(57), **sizes(books)}  # fmt: skip
    if asked.data is not None:
        figures |= real_update(asked.data) | frame_to_published(asked.data, market(random.Random(3))[0])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
