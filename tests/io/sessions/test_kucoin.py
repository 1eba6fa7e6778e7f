"""The session of KuCoin on hand-written frames: token, numbers, pings, refusals."""

from __future__ import annotations

import json

import pytest

from altforecast_io.exchanges.sessions.kucoin import BULLET, KucoinSession, open_session
from altforecast_io.exchanges.sessions.session import FaultReason, Fetch, Open, Send
from tests.io.sessions.frames import SECOND, faults, is_changed
from tests.io.sessions.scripts import NOW, kucoin_delta, kucoin_rest, script


def bullet(endpoint: str = "wss://ws-api-spot.kucoin.com/", **more: object) -> bytes:
    server = {"endpoint": endpoint, "pingInterval": 18000, "pingTimeout": 10000, "encrypt": True, "protocol": "websocket"}
    return json.dumps({"code": "200000", "data": {"token": "a/b=", "instanceServers": [server]}, **more}).encode()


def test_begin_asks_for_a_token_and_opens_where_it_says() -> None:
    session = open_session(["BTC-USDT"])
    assert session.begin() == (Fetch(BULLET, "https://api.kucoin.com/api/v1/bullet-public", "POST"),)
    assert session.answered(BULLET, 200, bullet(), NOW) == (Open("wss://ws-api-spot.kucoin.com/?token=a%2Fb%3D&connectId=books"),)


@pytest.mark.parametrize("endpoint", ["wss://ws-api-spot.kucoin.com/endpoint", "ws://127.0.0.1:9/kucoin/endpoint"])
def test_answered_token_of_a_stand_in_stays_there(endpoint: str) -> None:
    session = open_session(["BTC-USDT"], "http://127.0.0.1:9/kucoin")
    (output,) = session.answered(BULLET, 200, bullet(endpoint), NOW)
    assert isinstance(output, Open)
    assert output.url.startswith("ws://127.0.0.1:9/kucoin/endpoint?token=")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (0, b"", FaultReason.DISCONNECTED),
        (503, b"", FaultReason.DISCONNECTED),
        (429, b"", FaultReason.LIMITED),
        (200, b'{"code":"429000","msg":"too many requests"}', FaultReason.LIMITED),
        (200, b"<html>", FaultReason.BAD_FRAME),
        (200, bullet("file:///etc/passwd"), FaultReason.BAD_FRAME),
        (200, bullet("wss://[broken"), FaultReason.BAD_FRAME),
    ],
)
def test_answered_no_token_is_a_fault(status: int, body: bytes, reason: FaultReason) -> None:
    assert faults(open_session(["BTC-USDT"]).answered(BULLET, status, body, NOW)) == [(reason, None)]


def test_received_price_zero_moves_the_number_only() -> None:
    made = script("kucoin")
    assert is_changed(made.session.received(kucoin_delta(2, (("0", "0"),), (("0", "5"),)), NOW))
    book = made.session.books["BTC-USDT"]
    assert (book.best_ask, book.sequence) == (100.20, 1002)


def test_tick_pings_in_half_the_time_that_the_token_allows() -> None:
    session = open_session(["BTC-USDT"])
    session.answered(BULLET, 200, bullet(), NOW)
    session.opened(NOW)
    session.received(kucoin_delta(1, (), ()), NOW)
    session.answered("BTC-USDT", 200, kucoin_rest(), NOW)
    assert not session.tick(NOW + 8 * SECOND)
    (ping,) = session.tick(NOW + 9 * SECOND)
    assert isinstance(ping, Send)
    assert json.loads(ping.payload)["type"] == "ping"
    assert not session.received('{"id":"1","type":"pong"}', NOW)


def subscribed(session: KucoinSession) -> list[str]:
    return [json.loads(frame.payload)["topic"] for frame in session.opened(NOW) if isinstance(frame, Send)]


def test_received_refused_market_leaves_the_others() -> None:
    session = open_session(["BTC-USDT", "FOO-BTC", "ETH-USDT"])
    assert subscribed(session) == ["/market/level2:BTC-USDT,FOO-BTC,ETH-USDT"]
    assert not session.received('{"id":"x","type":"welcome"}', NOW)
    outputs = session.received('{"id":"1","type":"error","code":404,"data":"topic /market/level2:FOO-BTC is not found"}', NOW)
    assert faults(outputs) == [(FaultReason.REFUSED, "FOO-BTC")]
    again = [json.loads(output.payload) for output in outputs if isinstance(output, Send)]
    assert [frame["topic"] for frame in again] == ["/market/level2:BTC-USDT,ETH-USDT"]
    assert again[0]["id"] == "2"


def test_received_refusal_of_nobody_in_particular_ends_the_connection() -> None:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    session.opened(NOW)
    outputs = session.received('{"id":"1","type":"error","code":415,"data":"type is not supported"}', NOW)
    assert faults(outputs) == [(FaultReason.REFUSED, None)]


def test_answered_unknown_market_is_refused() -> None:
    session = open_session(["BTC-USDT"])
    session.opened(NOW)
    session.received(kucoin_delta(1, (), ()), NOW)
    body = b'{"code":"900001","msg":"symbol not exists"}'
    assert faults(session.answered("BTC-USDT", 200, body, NOW)) == [(FaultReason.REFUSED, "BTC-USDT")]


def test_received_refusal_that_repeats_the_whole_topic_asks_for_each_half() -> None:
    session = open_session(["BTC-USDT", "FOO-BTC", "ETH-USDT"])
    subscribed(session)
    refusal = '{"id":"%s","type":"error","code":404,"data":"topic /market/level2:%s is not found"}'
    outputs = session.received(refusal % ("1", "BTC-USDT,FOO-BTC,ETH-USDT"), NOW)
    assert not faults(outputs)
    again = [json.loads(output.payload) for output in outputs if isinstance(output, Send)]
    assert [frame["topic"] for frame in again] == ["/market/level2:BTC-USDT", "/market/level2:FOO-BTC,ETH-USDT"]
    outputs = session.received(refusal % (again[1]["id"], "FOO-BTC,ETH-USDT"), NOW)
    again = [json.loads(output.payload) for output in outputs if isinstance(output, Send)]
    assert faults(session.received(refusal % (again[0]["id"], "FOO-BTC"), NOW)) == [(FaultReason.REFUSED, "FOO-BTC")]
    assert not session.received(f'{{"id":"{again[1]["id"]}","type":"ack"}}', NOW)


def test_received_too_many_topics_is_a_limit() -> None:
    session = open_session(["BTC-USDT", "ETH-USDT"])
    session.opened(NOW)
    told = '{"id":"1","type":"error","code":509,"data":"exceed max subscription count limitation of 400 per session"}'
    assert faults(session.received(told, NOW)) == [(FaultReason.LIMITED, None)]
