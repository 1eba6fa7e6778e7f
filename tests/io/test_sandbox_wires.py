"""The order book wires of the stand-ins, read by readers that share nothing with them."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from importlib import import_module
from typing import Any

import pytest

from altforecast.symbols import ccxt_symbol
from altforecast_sandbox.exchanges.desk import Refusal
from altforecast_sandbox.resting import RestingBook
from altforecast_sandbox.streams.hub import FlowOptions
from altforecast_sandbox.streams.sent_window import SentWindow
from altforecast_sandbox.streams.wire import OWN_ADDRESS, StreamService, Wire
from tests.io.stream_clients import ccxt_pro, shown_rows, stand_in, true_rows, until
from tests.io.wire_readers import READERS, START_MS, Htx, Joined, Reader, deep_book, step, true_top

PATHS = {"kucoin": "/endpoint?token=sandbox-token&connectId=c", "htx": "/feed"}
JOINS = {
    "kucoin": ("GET /api/v3/market/orderbook/level2", {"symbol": "BTC-USDT"}),
    "mexc": ("GET /api/v3/depth", {"symbol": "BTCUSDT", "limit": "5000"}),
}


def service(venue: str) -> StreamService:
    found: StreamService = import_module(f"altforecast_sandbox.streams.{venue}").STREAM
    return found


def connected(venue: str, books: dict[str, RestingBook]) -> Wire:
    return service(venue).connect(books, PATHS.get(venue, "/"), START_MS)


def say(wire: Wire, message: Any) -> list[Any]:
    frames = wire.received(message if isinstance(message, str) else json.dumps(message), START_MS)
    return [json.loads(gzip.decompress(f) if isinstance(f, bytes) else f) for f in frames]


def subscribed(venue: str, book: RestingBook) -> tuple[Wire, Reader]:
    make, name = READERS[venue]
    wire, reader = connected(venue, {book.symbol: book, "ETH-USDT": deep_book("ETH-USDT")}), make()
    for message in reader.subscribe(name):
        for frame in wire.received(json.dumps(message), START_MS):
            reader.read(frame)
    return wire, reader


def join(venue: str, wire: Wire, reader: Reader, book: RestingBook) -> None:
    if isinstance(reader, Htx):
        for frame in wire.received(json.dumps(reader.ask("btcusdt")), START_MS):
            reader.read(frame)
    elif isinstance(reader, Joined):
        route, query = JOINS[venue]
        body = service(venue).requests({book.symbol: book}, lambda: START_MS)[route](query)
        told = body.get("data", body)
        reader.join(int(told.get("sequence", told.get("lastUpdateId"))), told["bids"], told["asks"])


@pytest.mark.parametrize("venue", READERS)
def test_wire_replayed_gives_the_true_window_after_every_change(venue: str) -> None:
    book, draw = deep_book(), random.Random(1)
    wire, reader = subscribed(venue, book)
    assert list(wire.following.symbols) == ["BTC-USDT"]
    n_frames = 0
    for i in range(300):
        change = step(book, draw)
        for frame in wire.changed(book, change):
            reader.read(frame)
            n_frames += 1
        if i == 20:
            join(venue, wire, reader, book)
        if i >= 20 or not isinstance(reader, Joined | Htx):
            assert reader.top() == true_top(book, reader.depth)
            if reader.is_window:
                assert len(reader.bids) == len(reader.asks) == reader.depth
    assert n_frames > 150
    if venue in ("bitget", "bitfinex"):
        assert reader.n_checked > 200


@pytest.mark.parametrize("venue", [v for v in READERS if v not in ("kucoin", "mexc")])
def test_wire_second_connection_starts_from_the_present(venue: str) -> None:
    book, draw = deep_book(), random.Random(3)
    for _ in range(40):
        step(book, draw)
    wire, reader = subscribed(venue, book)
    join(venue, wire, reader, book)
    assert reader.top() == true_top(book, reader.depth)


@pytest.mark.parametrize("venue", READERS)
def test_wire_unsubscribe_ends_following(venue: str) -> None:
    wire, _ = subscribed(venue, deep_book())
    ends: dict[str, Any] = {
        "gate": {"id": 1, "channel": "spot.obu", "event": "unsubscribe", "payload": ["ob.BTC_USDT.50"]},
        "kucoin": {"id": "1", "type": "unsubscribe", "topic": "/market/level2:BTC-USDT", "response": True},
        "bitget": {"op": "unsubscribe", "args": [{"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}]},
        "mexc": {"method": "UNSUBSCRIPTION", "params": ["spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"]},
        "htx": {"unsub": "market.btcusdt.mbp.150", "id": "4"},
        "coinbase": {"type": "unsubscribe", "product_ids": ["BTC-USDT"], "channel": "level2"},
        "bitfinex": {"event": "unsubscribe", "chanId": 17_001},
        "cryptocom": {"id": 2, "method": "unsubscribe", "params": {"channels": ["book.BTC_USDT.50"]}},
        "bingx": {"id": "w", "reqType": "unsub", "dataType": "BTC-USDT@depth100"},
    }
    (answer,) = say(wire, ends[venue])
    assert not wire.following.symbols
    assert "error" not in json.dumps(answer)


WRONG: dict[str, tuple[Any, dict[str, Any]]] = {
    "gate": (
        {"id": 5, "channel": "spot.obu", "event": "subscribe", "payload": ["ob.NO_USDT.50"]},
        {"id": 5, "error": {"code": 2, "message": "unknown currency pair: NO_USDT"}, "result": {"status": "fail"}},
    ),
    "kucoin": (
        {"id": "5", "type": "subscribe", "topic": "/market/level2:NO-USDT"},
        {"id": "5", "type": "error", "code": 404, "data": "topic /market/level2:NO-USDT is not found"},
    ),
    "bitget": (
        {"op": "subscribe", "args": [{"instType": "SPOT", "channel": "books", "instId": "NOUSDT"}]},
        {"event": "error", "code": 30001, "msg": "instType:SPOT,channel:books,instId:NOUSDT doesn't exist"},
    ),
    "mexc": (
        {"method": "SUBSCRIPTION", "params": ["spot@public.aggre.depth.v3.api.pb@100ms@NOUSDT"]},
        {"code": 0, "msg": "Not Subscribed successfully! [spot@public.aggre.depth.v3.api.pb@100ms@NOUSDT].  Reason： Blocked! "},
    ),
    "htx": (
        {"sub": "market.nousdt.mbp.150", "id": "5"},
        {"id": "5", "status": "error", "err-code": "bad-request", "err-msg": "invalid mbp.150.symbol nousdt"},
    ),
    "coinbase": (
        {"type": "subscribe", "product_ids": ["NO-USD"], "channel": "level2"},
        {"type": "error", "message": "failure to subscribe, invalid product_id: NO-USD"},
    ),
    "bitfinex": (
        {"event": "subscribe", "channel": "book", "symbol": "tNOUST"},
        {"event": "error", "code": 10300, "msg": "symbol: invalid", "symbol": "tNOUST"},
    ),
    "cryptocom": (
        {"id": 5, "method": "subscribe", "params": {"channels": ["book.NO_USDT.50"]}},
        {"id": 5, "code": 40003, "message": "Unknown symbol", "channel": "book.NO_USDT.50"},
    ),
    "bingx": (
        {"id": "x", "reqType": "sub", "dataType": "NO-USDT@depth100"},
        {"id": "x", "code": 109425, "msg": "NO-USDT not exist, please verify it"},
    ),
}


@pytest.mark.parametrize("venue", READERS)
def test_wire_unknown_symbol_is_refused_and_not_followed(venue: str) -> None:
    asked, told = WRONG[venue]
    wire = connected(venue, {"BTC-USDT": deep_book()})
    (answer,) = say(wire, asked)
    assert {key: answer[key] for key in told} == told
    assert not wire.following.symbols


ODD = [
    '{"op":1,"method":[],"type":{},"event":0}',
    '{"op":"subscribe","args":[7,{"instId":[]}],"method":"SUBSCRIPTION","params":7,"type":"subscribe","channel":"level2","product_ids":[[]]}',
    '{"event":"subscribe","channel":"spot.obu","payload":[7,[]],"sub":[],"dataType":7,"method":"subscribe","params":{"channels":[7]}}',
    '{"event":"subscribe","channel":"book","symbol":[],"len":[],"req":{}}',
]


@pytest.mark.parametrize("venue", READERS)
@pytest.mark.parametrize("payload", ["", "{", "[]", "17", '"text"', "{}", *ODD])
def test_wire_garbage_changes_nothing(venue: str, payload: str) -> None:
    wire = connected(venue, {"BTC-USDT": deep_book()})
    wire.received(payload, START_MS)
    wire.received(payload.encode(), START_MS)
    assert not wire.following.symbols


PINGS: dict[str, tuple[Any, Any]] = {
    "gate": ({"time": 1, "channel": "spot.ping"}, {"time": START_MS // 1000, "channel": "spot.pong", "event": "", "result": None}),
    "kucoin": ({"id": "8", "type": "ping"}, {"id": "8", "type": "pong", "timestamp": START_MS * 1000}),
    "mexc": ({"method": "PING"}, {"id": 0, "code": 0, "msg": "PONG"}),
    "htx": ({"ping": 18}, {"pong": 18}),
    "bitfinex": ({"event": "ping", "cid": 4}, {"event": "pong", "ts": START_MS, "cid": 4}),
}


@pytest.mark.parametrize("venue", PINGS)
def test_wire_ping_is_answered(venue: str) -> None:
    asked, told = PINGS[venue]
    assert say(connected(venue, {}), asked) == [told]


def test_bitget_ping_is_a_plain_text() -> None:
    assert connected("bitget", {}).received("ping", START_MS) == ("pong",)


def test_beat_venue_pings_come_when_due() -> None:
    for venue, after_ms in (("htx", 5_000), ("bingx", 5_000), ("cryptocom", 30_000)):
        wire = connected(venue, {})
        assert not wire.beat(START_MS + after_ms - 1)
        (frame,) = wire.beat(START_MS + after_ms)
        told = json.loads(gzip.decompress(frame) if isinstance(frame, bytes) else frame)
        assert "ping" in told or told["method"] == "public/heartbeat"
        assert not wire.beat(START_MS + after_ms + 999)


def test_beat_quiet_books_are_kept_alive_in_sequence() -> None:
    for venue, after_ms in (("cryptocom", 5_000), ("bitfinex", 15_000), ("coinbase", 1_000)):
        book = deep_book()
        wire, reader = subscribed(venue, book)
        (frame,) = wire.beat(START_MS + after_ms)
        reader.read(frame)
        for more in wire.changed(book, step(book, random.Random(4))):
            reader.read(more)
        assert reader.top() == true_top(book, reader.depth)


def test_kucoin_token_is_needed_and_bullet_names_the_stand_in() -> None:
    stream = service("kucoin")
    bullet = stream.requests({}, lambda: START_MS)["POST /api/v1/bullet-public"]({OWN_ADDRESS: "http://127.0.0.1:9/kucoin"})
    assert bullet["data"]["instanceServers"][0]["endpoint"] == "ws://127.0.0.1:9/kucoin/endpoint"
    token = bullet["data"]["token"]
    greeted = stream.connect({}, f"/endpoint?token={token}&connectId=abc", START_MS).opened()
    assert json.loads(greeted[0]) == {"id": "abc", "type": "welcome"}
    turned_away = stream.connect({}, "/endpoint?token=other", START_MS)
    assert json.loads(turned_away.opened()[0])["code"] == 401
    assert say(turned_away, READERS["kucoin"][0]().subscribe("BTC-USDT")[0])[0]["code"] == 401


@pytest.mark.parametrize("venue", JOINS)
def test_requests_unknown_symbol_is_refused(venue: str) -> None:
    route, query = JOINS[venue]
    with pytest.raises(Refusal):
        service(venue).requests({"BTC-USDT": deep_book()}, lambda: START_MS)[route](query | {"symbol": "NO"})


def test_requests_depth_is_the_one_asked_for() -> None:
    book = deep_book()
    depth = service("mexc").requests({"BTC-USDT": book}, lambda: START_MS)["GET /api/v3/depth"]
    assert (len(depth({"symbol": "BTCUSDT"})["bids"]), len(depth({"symbol": "BTCUSDT", "limit": "7"})["asks"])) == (100, 7)
    level2 = service("kucoin").requests({"BTC-USDT": book}, lambda: START_MS)["GET /api/v1/market/orderbook/level2_{depth}"]
    assert len(level2({"symbol": "BTC-USDT", "depth": "20"})["data"]["bids"]) == 20
    with pytest.raises(Refusal):
        level2({"symbol": "BTC-USDT", "depth": "21"})


def test_htx_incremental_books_are_served_on_the_feed_alone() -> None:
    wire = service("htx").connect({"BTC-USDT": deep_book()}, "/ws", START_MS)
    assert say(wire, {"sub": "market.btcusdt.mbp.150", "id": "1"})[0]["status"] == "error"


@pytest.mark.parametrize("venue", ["bitget", "bitfinex"])
def test_spoil_checksum_breaks_the_check_and_nothing_else(venue: str) -> None:
    book = deep_book()
    wire, reader = subscribed(venue, book)
    spoil = service(venue).spoil_checksum
    assert spoil is not None
    (*frames, last) = wire.changed(book, step(book, random.Random(5)))
    for frame in frames:
        assert json.loads(spoil(frame)) == json.loads(frame)
        reader.read(frame)
    with pytest.raises(AssertionError):
        reader.read(spoil(last))
    assert spoil('{"event":"subscribe"}') == '{"event":"subscribe"}'


def test_bitfinex_flags_and_limits() -> None:
    books = {f"{name}-USDT": deep_book(f"{name}-USDT") for name in (chr(65 + i) * 3 for i in range(26))}
    wire = connected("bitfinex", books)
    assert json.loads(wire.opened()[0])["version"] == 2
    assert say(wire, {"event": "conf", "flags": "x"}) == [{"event": "conf", "status": "FAILED", "msg": "flags: invalid"}]
    plain = say(wire, {"event": "subscribe", "channel": "book", "symbol": "tAAAUST"})
    assert (plain[0]["len"], len(plain[1])) == ("25", 2)
    assert say(wire, {"event": "subscribe", "channel": "book", "symbol": "tAAAUST"})[0]["code"] == 10301
    say(wire, {"event": "conf", "flags": 32_768 + 65_536})
    book = books["AAA-USDT"]
    frames = [json.loads(f) for f in wire.changed(book, step(book, random.Random(7)))]
    assert frames
    assert [frame[2:] for frame in frames] == [[2 + i, book.ts_ms] for i in range(len(frames))]
    codes = [say(wire, {"event": "subscribe", "channel": "book", "symbol": f"t{name}"})[0].get("code") for name in _markets(books)[1:]]
    assert codes == [None] * 24 + [10305]


def _markets(books: dict[str, RestingBook]) -> list[str]:
    return [symbol.split("-")[0] + "UST" for symbol in books]


def test_mexc_thirty_channels_per_connection() -> None:
    books = {f"{name}-USDT": deep_book(f"{name}-USDT", 5) for name in (f"C{i:02d}" for i in range(31))}
    wire = connected("mexc", books)
    topics = [f"spot@public.aggre.depth.v3.api.pb@100ms@{s.replace('-', '')}" for s in books]
    say(wire, {"method": "SUBSCRIPTION", "params": topics[:30]})
    assert len(wire.following.symbols) == 30
    (answer,) = say(wire, {"method": "SUBSCRIPTION", "params": topics[30:]})
    assert "maximum limit is 30" in answer["msg"]
    assert len(wire.following.symbols) == 30


def test_cryptocom_without_updates_every_change_is_a_snapshot() -> None:
    book = deep_book()
    wire = connected("cryptocom", {"BTC-USDT": book})
    say(wire, {"id": 1, "method": "subscribe", "params": {"channels": ["book.BTC_USDT.10"]}})
    told = json.loads(wire.changed(book, step(book, random.Random(1)))[0])["result"]
    assert (told["channel"], len(told["data"][0]["bids"])) == ("book", 10)


def test_moved_deep_changes_move_no_window() -> None:
    book = deep_book()
    window = SentWindow(book, 50)
    deepest = book.top_bids(400)[-1][0]
    book.bids[deepest] += 1
    assert window.moved(book) == ((), ())


FAST = FlowOptions(book_rate=8.0)


@pytest.mark.anyio
@pytest.mark.parametrize("venue", READERS)
async def test_wire_real_ccxt_class_reaches_the_true_top_twenty(venue: str) -> None:
    symbols = ["BTC-USDT", "DOGE-USDT"]
    async with stand_in(FAST) as server, ccxt_pro(venue, server.base_url) as exchange:

        async def watched(symbol: str) -> None:
            for _ in range(8):
                await asyncio.wait_for(exchange.watch_order_book(ccxt_symbol(symbol)), 20)

        def is_equal(symbol: str) -> bool:
            return shown_rows(exchange.orderbooks[ccxt_symbol(symbol)]) == true_rows(server.book(venue, symbol))

        await asyncio.gather(*map(watched, symbols))
        server.stop_flow()
        for symbol in symbols:
            await until(lambda symbol=symbol: is_equal(symbol))  # type: ignore[misc]
            assert shown_rows(exchange.orderbooks[ccxt_symbol(symbol)]) == true_rows(server.book(venue, symbol))


@pytest.mark.anyio
@pytest.mark.parametrize("venue", ["bitget", "bitfinex"])
async def test_wire_real_ccxt_class_notices_a_spoiled_checksum(venue: str) -> None:
    from ccxt.base.errors import ChecksumError, UnsubscribeError

    async with stand_in(FAST) as server, ccxt_pro(venue, server.base_url) as exchange:

        async def watched(n: int) -> None:
            for _ in range(n):
                await asyncio.wait_for(exchange.watch_order_book("BTC/USDT"), 20)

        await watched(3)
        server.fault(venue, "checksum_error", times=1)
        # of bitget's two errors the acknowledged end of the subscription comes first
        with pytest.raises(UnsubscribeError if venue == "bitget" else ChecksumError):
            await watched(100)
