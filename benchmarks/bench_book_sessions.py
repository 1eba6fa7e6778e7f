"""Order book sessions: decode, apply and the best 50 levels on real Binance frames, against ccxt.pro and cryptofeed.

What belongs here: CPU per message of handlers alone, all in one run, and of the other venues' sessions on the same
changes in their own wire form. What does not: sockets (`bench_realtime`).
Run: python -m benchmarks.bench_book_sessions --data <folder with recordings/> [--cryptofeed-python <interpreter>]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from altforecast.books import Book
from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_io.exchanges.sessions.session import Fault, Session

ROUNDS = 5
PER_SEGMENT = 1000
TOP = 50
GC_THRESHOLDS = (50_000, 50, 100)
"""As the realtime process runs; the same for every variant in this interpreter."""
Segment = dict[str, Any]


def lines(folder: Path) -> Iterator[str]:
    """Depth frames and the snapshot of the two BTCUSDT files, in order."""
    for path in sorted((folder / "recordings" / "hftbacktest" / "spot").glob("btcusdt_*.gz")):
        with gzip.open(path, "rt") as stored:
            for line in stored:
                text = line.rstrip("\n").partition(" ")[2]
                if "@depth" in text[:40] or '"lastUpdateId"' in text[:20]:
                    yield text


def segments(folder: Path) -> list[Segment]:
    """Parts of 1,000 messages, each with a snapshot of 1,000 levels before it, so that no variant runs off its book."""
    found: list[Segment] = []
    early: list[dict[str, Any]] = []
    sides: dict[str, dict[str, str]] = {}
    last = 0
    for text in lines(folder):
        data = json.loads(text)
        if "lastUpdateId" in data:
            sides, last = {"b": dict(data["bids"]), "a": dict(data["asks"])}, data["lastUpdateId"]
            for change in early:
                last = _apply(sides, change, last)
        elif not sides:
            early.append(data["data"])
        elif data["data"]["u"] > last:
            if not found or len(found[-1]["frames"]) == PER_SEGMENT:
                found.append({"snapshot": _snapshot(sides, last), "frames": []})
            last = _apply(sides, data["data"], last)
            found[-1]["frames"].append(text)
            found[-1]["last"] = last
    return found


def _apply(sides: dict[str, dict[str, str]], data: dict[str, Any], last: int) -> int:
    if data["u"] <= last:
        return last
    for name, side in sides.items():
        for price, size in data[name]:
            if float(size):
                side[price] = size
            else:
                side.pop(price, None)
    return int(data["u"])


def _snapshot(sides: dict[str, dict[str, str]], last: int) -> Segment:
    bids = sorted(sides["b"].items(), key=lambda row: -float(row[0]))[:1000]
    asks = sorted(sides["a"].items(), key=lambda row: float(row[0]))[:1000]
    return {"lastUpdateId": last, "bids": bids, "asks": asks}


def ours(session: Session, frames: list[str] | list[bytes]) -> float:
    """CPU seconds of one session over frames, with the best 50 levels after each."""
    began = time.process_time()
    for frame in frames:
        for output in session.received(frame, 1):
            if type(output) is Book:
                output.top(TOP)
            elif isinstance(output, Fault):
                raise SystemExit(f"{session.venue}: {output}")
    return time.process_time() - began


def binance(segment: Segment) -> tuple[Session, list[str]]:
    """A session with the snapshot in place."""
    session = open_session("binance", ["BTC-USDT"])
    session.opened(0)
    session.tick(3_000_000_000)
    session.answered("BTCUSDT", 200, json.dumps(segment["snapshot"]).encode(), 3_000_000_000)
    return session, segment["frames"]


def ccxt_class() -> Any:
    """An exchange that knows one market and never touches the network."""
    import ccxt.pro

    exchange = ccxt.pro.binance()
    market = {"id": "BTCUSDT", "lowercaseId": "btcusdt", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "spot": True, "type": "spot"}
    exchange.set_markets([exchange.safe_market_structure(market)])
    return exchange


async def ccxt(exchange: Any, segment: Segment) -> tuple[float, Any]:
    """CPU seconds of ccxt.pro over a segment (orjson, `handle_message`, slices of 50), and its last best levels."""
    import orjson

    client = exchange.client("wss://stream.binance.com:9443/ws")
    start = segment["snapshot"]
    sides = {name: [[float(p), float(q)] for p, q in start[name]] for name in ("bids", "asks")}
    book = exchange.order_book({**sides, "nonce": start["lastUpdateId"]}, 1000)
    exchange.orderbooks = {"BTC/USDT": book}
    began = time.process_time()
    for frame in segment["frames"]:
        exchange.handle_message(client, orjson.loads(frame)["data"])
        book["bids"][:TOP], book["asks"][:TOP]
    spent = time.process_time() - began
    if book["nonce"] != segment["last"]:
        raise SystemExit("ccxt did not reach the end of the frames")
    return spent, [[list(row[:2]) for row in book[side][:TOP]] for side in ("bids", "asks")]


def cryptofeed(interpreter: str, parts: list[Segment]) -> dict[str, Any] | None:
    """The same frames in an interpreter that has cryptofeed; None where none is given."""
    if not interpreter:
        return None
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "segments.json"
        stored.write_text(json.dumps(parts))
        script = Path(__file__).with_name("cryptofeed_books.py")
        done = subprocess.run([interpreter, str(script), str(stored), str(ROUNDS)], capture_output=True, text=True, check=True, timeout=300)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(parts: list[Segment], interpreter: str) -> dict[str, Any]:
    """All variants over all segments: microseconds per message, ratios, and whether the last best levels agree."""
    exchange, n = ccxt_class(), sum(len(part["frames"]) for part in parts)
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(sum(ours(*binance(part)) for part in parts))
        theirs.append(sum(asyncio.run(ccxt(exchange, part))[0] for part in parts))
    session, frames = binance(parts[-1])
    ours(session, frames)
    book = session.books["BTC-USDT"]
    top = [[list(row) for row in side] for side in (book.bids(TOP), book.asks(TOP))]
    other = cryptofeed(interpreter, parts)
    us, them = min(mine) / n * 1e6, min(theirs) / n * 1e6
    figures: dict[str, Any] = {
        "bench": "book_sessions", "messages": n, "changes_per_message": round(_changes(parts) / n, 1),
        "session_us": round(us, 1), "ccxt_us": round(them, 1), "ratio_to_ccxt": round(them / us, 2),
        "agrees_with_ccxt": top == asyncio.run(ccxt(exchange, parts[-1]))[1], "meets_3x_ccxt": them / us >= 3,
    }  # fmt: skip
    if other is None:
        return figures | {"cryptofeed_us": "not run"}
    feed_us, alone_us = (other[name] / n * 1e6 for name in ("seconds", "handler_seconds"))
    return figures | {
        "cryptofeed_us": round(feed_us, 1), "cryptofeed_without_export_us": round(alone_us, 1),
        "ratio_to_cryptofeed": round(feed_us / us, 2), "ratio_to_cryptofeed_without_its_export": round(alone_us / us, 2),
        "agrees_with_cryptofeed": top == other["top"], "meets_2x_cryptofeed": feed_us / us >= 2,
    }  # fmt: skip


def _changes(parts: list[Segment]) -> int:
    return sum(len(data["b"]) + len(data["a"]) for part in parts for data in (json.loads(frame)["data"] for frame in part["frames"]))


def elsewhere(part: Segment) -> dict[str, float]:
    """Microseconds per message of the other sessions on the changes of one segment, in each venue's own wire form."""
    found = {}
    for venue, make in WIRES.items():
        best = min(ours(*make(part)) for _ in range(ROUNDS))
        found[f"{venue}_us"] = round(best / len(part["frames"]) * 1e6, 1)
    return found


def _data(part: Segment) -> list[dict[str, Any]]:
    return [json.loads(frame)["data"] for frame in part["frames"]]


def _started(venue: str) -> Session:
    session = open_session(venue, ["BTC-USDT"])
    session.opened(0)
    session.tick(3_000_000_000)
    return session


def gate(part: Segment) -> tuple[Session, list[str]]:
    """`spot.obu`: a whole frame, then changes."""
    session, start = _started("gate"), part["snapshot"]
    frame = lambda **result: json.dumps({"channel": "spot.obu", "event": "update", "result": {"s": "ob.BTC_USDT.50", "t": 1, **result}})  # noqa: E731
    session.received(frame(full=True, u=start["lastUpdateId"], b=start["bids"], a=start["asks"]), 1)
    return session, [frame(U=d["U"], u=d["u"], b=d["b"], a=d["a"]) for d in _data(part)]


def bybit(part: Segment) -> tuple[Session, list[str]]:
    """`orderbook.50`: a snapshot, then changes."""
    session, start = _started("bybit"), part["snapshot"]
    frame = lambda kind, u, b, a: json.dumps(  # noqa: E731
        {"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": 1, "data": {"s": "BTCUSDT", "b": b, "a": a, "u": u, "seq": 1}}
    )
    session.received(frame("snapshot", 100, start["bids"], start["asks"]), 1)
    return session, [frame("delta", 101 + i, d["b"], d["a"]) for i, d in enumerate(_data(part))]


def coinbase(part: Segment) -> tuple[Session, list[str]]:
    """`l2_data`: one object per change."""
    session, start = _started("coinbase"), part["snapshot"]

    def frame(kind: str, n: int, bids: Any, asks: Any) -> str:
        rows = [("bid", p, q) for p, q in bids] + [("offer", p, q) for p, q in asks]
        stamp = "2023-11-14T22:13:20.123456Z"
        updates = [{"side": s, "event_time": stamp, "price_level": p, "new_quantity": q} for s, p, q in rows]
        events = [{"type": kind, "product_id": "BTC-USDT", "updates": updates}]
        return json.dumps({"channel": "l2_data", "client_id": "", "timestamp": stamp, "sequence_num": n, "events": events})

    session.received(frame("snapshot", 0, start["bids"], start["asks"]), 1)
    return session, [frame("update", 1 + i, d["b"], d["a"]) for i, d in enumerate(_data(part))]


def kucoin(part: Segment) -> tuple[Session, list[str]]:
    """`/market/level2` on a snapshot over REST."""
    session, start = _started("kucoin"), part["snapshot"]
    session._lines["BTC-USDT"].window.max_levels = 2000  # type: ignore[attr-defined]  # the other segments' depth, not its own 200
    data = {"sequence": str(start["lastUpdateId"]), "bids": start["bids"], "asks": start["asks"]}
    session.answered("BTC-USDT", 200, json.dumps({"code": "200000", "data": data}).encode(), 1)

    def frame(d: dict[str, Any]) -> str:
        changes = {name: [[p, q, str(d["u"])] for p, q in d[key]] for name, key in (("bids", "b"), ("asks", "a"))}
        body = {"changes": changes, "sequenceStart": d["U"], "sequenceEnd": d["u"], "symbol": "BTC-USDT", "time": 1}
        return json.dumps({"type": "message", "topic": "/market/level2:BTC-USDT", "subject": "trade.l2update", "data": body})

    return session, [frame(d) for d in _data(part)]


def mexc(part: Segment) -> tuple[Session, list[bytes]]:
    """Protobuf of `aggre.depth`, written by ccxt's message classes."""
    from ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2 import PushDataV3ApiWrapper

    session = _started("mexc")
    session.answered("BTCUSDT", 200, json.dumps(part["snapshot"]).encode(), 1)

    def frame(d: dict[str, Any]) -> bytes:
        message = PushDataV3ApiWrapper(channel="spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT", symbol="BTCUSDT", sendTime=1)
        depths = message.publicAggreDepths
        depths.fromVersion, depths.toVersion = str(d["U"]), str(d["u"])
        for side, key in ((depths.bids, "b"), (depths.asks, "a")):
            for price, size in d[key]:
                side.add(price=price, quantity=size)
        return bytes(message.SerializeToString())

    return session, [frame(d) for d in _data(part)]


WIRES: dict[str, Callable[[Segment], tuple[Session, Any]]] = {
    "gate": gate,
    "bybit": bybit,
    "coinbase": coinbase,
    "kucoin": kucoin,
    "mexc": mexc,
}


def kraken_us(folder: Path) -> float:
    """Microseconds per message with its checksum, on the recorded frames of v1 (1 to 4 changes each)."""
    from altforecast_io.exchanges.sessions.kraken_v1 import open_session as open_v1

    with (folder / "recordings" / "cryptofeed" / "KRAKEN.ws.50.0").open() as stored:
        texts = [line.rstrip("\n").partition(": ")[2] for line in stored if '"book-1000"' in line and ": [" in line]
    names = ["WAVES-EUR", "XMR-USD", "KSM-BTC", "GRT-ETH", "SC-EUR", "ETH-CHF", "OCEAN-BTC", "OMG-USD", "BTC-CHF", "ADA-BTC"]
    first = [text for text in texts if '"as"' in text]
    changes = [text for text in texts if '"as"' not in text]
    best = 1e9
    for _ in range(ROUNDS):
        session = open_v1(names, depth=1000)
        session.opened(0)
        for text in first:
            session.received(text, 1)
        best = min(best, ours(session, changes))
    return round(best / len(changes) * 1e6, 1)


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("ALTFORECAST_REAL_DATA", ""), help="folder of the real data")
    parser.add_argument("--cryptofeed-python", default="", help="an interpreter with cryptofeed, to compare with it too")
    chosen = parser.parse_args()
    if not chosen.data:
        raise SystemExit("--data or ALTFORECAST_REAL_DATA must name the folder of the real data")
    folder = Path(chosen.data)
    parts = segments(folder)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    print(json.dumps(compare(parts, chosen.cryptofeed_python)))
    print(json.dumps({"bench": "book_sessions_wires", **elsewhere(parts[0]), "kraken_v1_recording_us": kraken_us(folder)}))


if __name__ == "__main__":
    main()
