"""`POST /webhook` in one small app: bounds, who may send, statuses and bodies.

What belongs here: `altforecast_serving.routes.webhook`. What does not: the running process (tests/realtime).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from altforecast_io.settings import Settings
from altforecast_io.sources.tradingview import SANDBOX_TOKEN
from altforecast_io.store import inbox
from altforecast_io.store.engine import Store, open_store
from altforecast_serving.errors import install_error_handlers
from altforecast_serving.routes import webhook

NOW = datetime(2026, 1, 1, 16, 0, 1, tzinfo=UTC)
MS = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1000)
SECRET = "a-secret-of-the-tests"
BODY: dict[str, Any] = {
    "v": 1, "token": SECRET, "symbol": "CRYPTOCAP:USDT.D", "tf": "240", "t": MS, "o": "4.61", "h": "4.70", "l": "4.58", "c": "4.66",
}  # fmt: skip


class Door:
    """The route in an app of its own, over a real store and writer."""

    def __init__(self, folder: Path) -> None:
        self.store: Store = open_store(f"sqlite:///{folder}/store.sqlite", "live")
        self.writer = inbox.InboxWriter(self.store)
        self.writer.start()

    def client(self, peer: str = "52.89.214.238", **settings: Any) -> TestClient:
        """A sender at `peer`, with these settings."""
        app = FastAPI()
        app.include_router(webhook.router)
        install_error_handlers(app)
        app.state.inbox, app.state.clock = self.writer, lambda: NOW
        app.state.settings = Settings.load(**{"secret_webhook_token": SECRET, "base": Path("unused"), **settings})
        return TestClient(app, client=(peer, 50_000))

    def rows(self) -> list[inbox.InboxRow]:
        """What is in the store."""
        return inbox.tail(self.store)


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.chdir(tmp_path)
    made = Door(tmp_path)
    yield made
    made.writer.stop()
    made.store.close()


def test_webhook_stored_duplicate_revision(door: Door) -> None:
    client = door.client()
    answers = [client.post("/webhook", json=BODY | changes) for changes in ({}, {"c": 4.660}, {"c": "4.67"})]
    assert [a.status_code for a in answers] == [200, 200, 200]
    assert [(a.json()["status"], a.json()["id"]) for a in answers] == [("stored", 1), ("duplicate", 1), ("revision", 2)]
    assert set(answers[0].json()) == {"status", "id", "request_id"}
    assert [str(r.close) for r in door.rows()] == ["4.66", "4.67"]


def test_webhook_text_body_and_path_secret(door: Door) -> None:
    text = f"symbol=CRYPTOCAP:USDT.D tf=4h time={MS} o=4.61 h=4.7 l=4.58 c=4.66"
    answer = door.client().post(f"/webhook/{SECRET}", content=text, headers={"Content-Type": "text/plain; charset=utf-8"})
    assert answer.json()["status"] == "stored"


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_webhook_content_type_is_ignored(door: Door, content_type: str) -> None:
    assert door.client().post("/webhook", content=json.dumps(BODY), headers={"Content-Type": content_type}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [({"c": "NaN"}, "c", "NaN"), ({"l": "-4.58"}, "l", "-4.58"), ({"tf": "1"}, "tf", "1"),
     ({"symbol": "NASDAQ:AAPL"}, "symbol", "NASDAQ:AAPL"), ({"t": MS + 14_400_000}, "t", str(MS + 14_400_000)), ({"h": 4}, "h", "4")],
)  # fmt: skip
def test_webhook_unusable_names_field_and_value(door: Door, changes: dict[str, Any], field: str, value: str) -> None:
    answer = door.client().post("/webhook", json=BODY | changes)
    body = answer.json()
    assert (answer.status_code, body["field"], body["value"]) == (422, field, value)
    assert set(body) == {"error", "detail", "request_id", "field", "value", "allowed"}
    assert SECRET not in answer.text
    assert door.rows() == []


def test_webhook_unknown_timeframe_lists_allowed(door: Door) -> None:
    body = door.client().post("/webhook", json=BODY | {"tf": "3h"}).json()
    assert (body["error"], body["allowed"]) == ("unknown_name", ["15m", "1h", "4h", "1d"])


@pytest.mark.parametrize("value", ["\ud800", "\x00", "'; DROP TABLE inbox; --", "é" * 500])
def test_webhook_strange_texts_are_answered(door: Door, value: str) -> None:
    answer = door.client().post("/webhook", content=json.dumps(BODY | {"symbol": value}))
    assert (answer.status_code, answer.json()["field"]) == (422, "symbol")
    assert len(answer.text) < 2000
    assert door.client().post("/webhook", content=json.dumps(BODY | {"note": value})).status_code == 200


@pytest.mark.parametrize("path", ["/webhook", "/webhook/wrong", f"/webhook/{SECRET}x"])
def test_webhook_wrong_secret(door: Door, path: str) -> None:
    answer = door.client().post(path, json=BODY | {"token": "wrong"})
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert SECRET not in answer.text
    assert door.rows() == []


def test_webhook_live_without_secret_takes_nothing(door: Door) -> None:
    for token in ("", SANDBOX_TOKEN, SECRET):
        answer = door.client(secret_webhook_token=None).post("/webhook", json=BODY | {"token": token})
        assert (answer.status_code, answer.json()["detail"]) == (401, "SECRET_WEBHOOK_TOKEN is not set: no alert can be accepted")


def test_webhook_sandbox_without_secret_takes_the_known_one(door: Door) -> None:
    client = door.client(secret_webhook_token=None, environment="sandbox")
    assert client.post("/webhook", json=BODY | {"token": SANDBOX_TOKEN}).status_code == 200
    assert client.post("/webhook", json=BODY | {"token": "other"}).status_code == 401


def test_webhook_too_large_announced(door: Door) -> None:
    answer = door.client().post("/webhook", content=b" " * 8193)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


def test_webhook_too_large_in_chunks_is_not_read_to_the_end(door: Door) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 4096

    answer = door.client().post("/webhook", content=endless())
    assert answer.status_code == 413


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 400, "1e3"])
def test_webhook_lying_content_length(door: Door, length: str) -> None:
    answer = door.client().post("/webhook", content=json.dumps(BODY), headers={"Content-Length": length})
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize(
    ("peer", "allowed", "status"),
    [("52.89.214.238", "52.89.214.238", 200), ("::ffff:52.89.214.238", "52.89.214.0/24", 200), ("10.1.2.3", "52.89.214.238", 403),
     ("10.1.2.3", "10.0.0.0/8", 200), ("testclient", "10.0.0.0/8", 403)],
)  # fmt: skip
def test_webhook_address_list(door: Door, peer: str, allowed: str, status: int) -> None:
    assert door.client(peer, webhook_allowed_ips=(allowed,)).post("/webhook", json=BODY).status_code == status


@pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", 200), ("10.9.9.9", 403)])
def test_webhook_forwarded_address_only_from_our_proxy(door: Door, peer: str, status: int) -> None:
    client = door.client(peer, webhook_allowed_ips=("52.89.214.238",), trusted_proxies=("127.0.0.1",))
    answer = client.post("/webhook", json=BODY, headers={"X-Forwarded-For": "1.1.1.1, 52.89.214.238"})
    assert answer.status_code == status
    assert [r.source_ip for r in door.rows()] == (["52.89.214.238"] if status == 200 else [])


def test_webhook_forwarded_address_from_a_proxy_network(door: Door) -> None:
    client = door.client("172.18.0.5", webhook_allowed_ips=("52.89.214.238",), trusted_proxies=("172.18.0.0/16",))
    assert client.post("/webhook", json=BODY, headers={"X-Forwarded-For": "52.89.214.238, 172.18.0.9"}).status_code == 200
    assert [r.source_ip for r in door.rows()] == ["52.89.214.238"]


def test_webhook_store_closed_asks_for_a_resend(door: Door) -> None:
    door.writer.stop()
    answer = door.client().post("/webhook", json=BODY)
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["error"]) == (503, "5", "busy")


def test_webhook_get_is_not_allowed(door: Door) -> None:
    assert door.client().get("/webhook").status_code == 405


@pytest.mark.parametrize(("early_ms", "status"), [(5000, 200), (1000, 422)])
def test_webhook_early_limit_is_a_setting(door: Door, early_ms: int, status: int) -> None:
    client = door.client(webhook_early_ms=early_ms)
    client.app.state.clock = lambda: NOW - timedelta(seconds=3)  # type: ignore[attr-defined]
    assert client.post("/webhook", json=BODY).status_code == status


def test_webhook_outcomes_are_counted(door: Door) -> None:
    def counted(status: str) -> float:
        return webhook.ALERTS.labels(status)._value.get()

    before = counted("stored"), counted("invalid_input")
    door.client().post("/webhook", json=BODY)
    door.client().post("/webhook", json=BODY | {"o": 0})
    assert (counted("stored"), counted("invalid_input")) == (before[0] + 1, before[1] + 1)
