"""cryptofeed's Binance handler over the frames of `bench_book_sessions`, in an interpreter that has cryptofeed.

What belongs here: that one measurement; nothing of this project is imported. What does not: our sessions, ccxt.
Run: <python with cryptofeed> benchmarks/cryptofeed_books.py <segments.json> <rounds>
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from decimal import Decimal
from typing import Any


def best_levels(side: Any) -> list[Any]:
    """The best 50 levels the cheapest way: one by one, as only whole sides can be had as a list."""
    return [side.index(i) for i in range(min(50, len(side)))]


def feed(with_export: bool) -> Any:
    """The handler with its symbols given, so that nothing is fetched, and with or without the export as its callback."""
    from cryptofeed.defines import L2_BOOK
    from cryptofeed.exchanges.binance import Binance
    from cryptofeed.symbols import Symbols

    Symbols.set("BINANCE", {"BTC-USDT": "BTCUSDT"}, {"instrument_type": {"BTC-USDT": "spot"}, "tick_size": {}})

    async def export(book: Any, _: float) -> None:
        best_levels(book.book.bids)
        best_levels(book.book.asks)

    async def nothing(book: Any, _: float) -> None:
        """The handler alone."""

    return Binance(symbols=["BTC-USDT"], channels=[L2_BOOK], callbacks={L2_BOOK: export if with_export else nothing})


async def play(handler: Any, segment: dict[str, Any]) -> float:
    """CPU seconds of one segment."""
    from cryptofeed.types import OrderBook

    sides = {name: {Decimal(p): Decimal(q) for p, q in segment["snapshot"][name]} for name in ("bids", "asks")}
    handler._l2_book["BTC-USDT"] = OrderBook("BINANCE", "BTC-USDT", max_depth=0, **sides)
    handler.last_update_id["BTC-USDT"] = segment["snapshot"]["lastUpdateId"]
    began = time.process_time()
    for frame in segment["frames"]:
        await handler.message_handler(frame, None, 0.0)
    spent = time.process_time() - began
    if handler.last_update_id.get("BTC-USDT") != segment["last"]:
        raise SystemExit("cryptofeed did not reach the end of the frames")
    return spent


def main() -> None:
    """Print one JSON line: best CPU seconds over the rounds, and the last best levels."""
    with open(sys.argv[1]) as stored:
        segments = json.load(stored)
    rounds, seconds = int(sys.argv[2]), {}
    for name, with_export in (("seconds", True), ("handler_seconds", False)):
        handler = feed(with_export)
        seconds[name] = min(sum(asyncio.run(play(handler, segment)) for segment in segments) for _ in range(rounds))
    book = handler._l2_book["BTC-USDT"].book
    levels = [[[float(x) for x in row[:2]] for row in best_levels(side)] for side in (book.bids, book.asks)]
    print(json.dumps({**seconds, "top": levels}))


if __name__ == "__main__":
    main()
