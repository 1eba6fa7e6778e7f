"""The session of MEXC on hand-written frames: protobuf by hand against the library, subscriptions, refusals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altforecast.books import BookState
from altforecast_io.exchanges.sessions.mexc import open_session
from altforecast_io.exchanges.sessions.mexc_wire import read_depth
from altforecast_io.exchanges.sessions.session import FaultReason, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed
from tests.io.sessions.scripts import NOW, chunk, mexc_delta, script, varint


def test_opened_asks_for_one_market_a_frame() -> None:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    assert session.begin() == (Open("wss://wbs-api.mexc.com/ws"),)
    frames = [json.loads(output.payload) for output in session.opened(NOW) if isinstance(output, Send)]
    assert [frame["params"] for frame in frames] == [
        ["spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"],
        ["spot@public.aggre.depth.v3.api.pb@100ms@ETHUSDT"],
    ]


@pytest.fixture(scope="module")
def wrapper() -> object:
    """The message class that ccxt ships, as an independent encoder."""
    messages = pytest.importorskip("ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2")
    return messages.PushDataV3ApiWrapper


decimals = st.decimals(min_value="0.00000001", max_value="99999999", places=8).map(lambda d: format(d, "f"))
rows = st.lists(st.tuples(decimals, decimals), max_size=12)


@given(bids=rows, asks=rows, first=st.integers(1, 2**62), width=st.integers(0, 500), sent=st.integers(0, 2**62))
def test_read_depth_reads_what_the_library_writes(
    wrapper: type, bids: list[tuple[str, str]], asks: list[tuple[str, str]], first: int, width: int, sent: int
) -> None:
    message = wrapper(channel="c", symbol="BTCUSDT", sendTime=sent, createTime=5, symbolId="x")
    depths = message.publicAggreDepths
    depths.eventType, depths.fromVersion, depths.toVersion = "e", str(first), str(first + width)
    for side, levels in ((depths.bids, bids), (depths.asks, asks)):
        for price, size in levels:
            side.add(price=price, quantity=size)
    read = read_depth(message.SerializeToString())
    assert read is not None
    assert (read.symbol, read.ts_event_ms or 0, read.first, read.last) == ("BTCUSDT", sent, first, first + width)
    assert read.bids == [(float(price), float(size)) for price, size in bids]
    assert read.asks == [(float(price), float(size)) for price, size in asks]


def test_read_depth_other_messages_and_field_orders() -> None:
    assert read_depth(chunk(1, "c") + chunk(314, b"deals")) is None
    swapped = chunk(1, chunk(2, "2.5") + chunk(1, "100.5"))
    more = varint(9 << 3 | 1) + bytes(8) + varint(10 << 3 | 5) + bytes(4)
    read = read_depth(chunk(3, "BTCUSDT") + more + chunk(313, swapped + chunk(4, "7") + chunk(5, "9")))
    assert read is not None
    assert (read.asks, read.first, read.last, read.ts_event_ms) == ([(100.5, 2.5)], 7, 9, None)


def test_read_depth_refuses_every_cut_frame() -> None:
    whole = mexc_delta(1, (("100.10", "2.000"),), (("100.20", "3.000"),))
    start = whole.index(varint(313 << 3 | 2))
    for end in range(start + 1, len(whole)):
        with pytest.raises(ValueError, match=r"protobuf|no price|version"):
            read_depth(whole[:end])


def test_read_depth_refuses_numbers_without_end_and_versions_backwards() -> None:
    with pytest.raises(ValueError, match="no end"):
        read_depth(b"\xff" * 20)
    with pytest.raises(ValueError, match="versions 9 to 7"):
        read_depth(chunk(313, chunk(4, "9") + chunk(5, "7")))


def test_received_versions_may_cover_several_numbers() -> None:
    made = script("mexc")
    assert is_changed(made.session.received(mexc_delta(2, (("99.80", "1"),), (), width=30), NOW))
    assert made.session.books["BTC-USDT"].sequence == 1031
    assert is_changed(made.session.received(mexc_delta(32, (), ()), NOW))


def test_received_answers_refusals_and_pings() -> None:
    made = script("mexc")
    name = "spot@public.aggre.depth.v3.api.pb@100ms@ETHUSDT"
    assert not made.session.received(json.dumps({"id": 0, "code": 0, "msg": name}), NOW)
    assert not made.session.received('{"id":0,"code":0,"msg":"PONG"}', NOW)
    sent = [output for output in made.session.tick(NOW + 15 * SECOND) if isinstance(output, Send)]
    assert [output.payload for output in sent] == ['{"method":"PING"}']
    blocked = json.dumps({"id": 0, "code": 0, "msg": f"Not Subscribed successfully! [{name}].  Reason: Blocked! "})
    assert faults(made.session.received(blocked, NOW)) == [(FaultReason.REFUSED, "ETH-USDT")]
    assert made.session.books["BTC-USDT"].state is BookState.LIVE
