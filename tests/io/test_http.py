"""The outgoing HTTP client against real servers that fail in every way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import REGISTRY

from altforecast_io.http import Backoff, Failure, HttpClient, Service, ServiceError, classify, parse_retry_after, sanitise

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Wire:
    """A server that answers from a list, then always with the last answer."""

    def __init__(self, *answers: Handler) -> None:
        self.answers, self.requests = list(answers), list[web.Request]()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.answers[min(len(self.requests), len(self.answers)) - 1](request)


def text(body: str, status: int = 200, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def disconnect(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"data":')
    assert request.transport is not None
    request.transport.close()
    return response


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return web.Response(text="{}")


def ask(wire: Wire, times: int = 1, ttl_s: float = 0.0, path: str = "/v1/x", client: Any = None, **service: Any) -> list[Any]:
    """Answers (or errors) of several calls one after the other."""

    async def run() -> list[Any]:
        app = web.Application()
        app.router.add_get("/{tail:.*}", wire)
        found: list[Any] = []
        async with TestServer(app) as server, HttpClient(clock=lambda: NOW, **(client or {})) as http:
            given = {"wait_initial_s": 0.001, "wait_max_s": 2.0, "timeout_s": 2.0, **service}
            target = Service("wire", str(server.make_url("/")), **given)
            for _ in range(times):
                try:
                    found.append(await http.get_json(target, path, ttl_s=ttl_s))
                except ServiceError as error:
                    found.append(error)
        return found

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "failure"),
    [(200, None), (204, None), (400, "bad_request"), (401, "auth"), (402, "quota"), (403, "auth"), (404, "bad_request"), (408, "transient"),
     (429, "transient"), (451, "auth"), (500, "transient"), (503, "transient"), (301, "bad_request")],
)  # fmt: skip
def test_classify_status(status: int, failure: str | None) -> None:
    assert classify(status) == failure


@pytest.mark.parametrize("broken", [text("oops", 503), text('{"a": [1, 2', 200), text("<html>Just a moment", 200), disconnect])
def test_get_json_repeats_transient_failures(broken: Handler) -> None:
    wire = Wire(broken, broken, text('{"a": 1}'))
    assert ask(wire) == [{"a": 1}]
    assert len(wire.requests) == 3


@pytest.mark.parametrize(
    ("status", "failure"), [(400, Failure.BAD_REQUEST), (401, Failure.AUTH), (402, Failure.QUOTA), (404, Failure.BAD_REQUEST)]
)
def test_get_json_never_repeats_other_failures(status: int, failure: Failure) -> None:
    wire = Wire(text("no", status))
    (error,) = ask(wire)
    assert isinstance(error, ServiceError)
    assert (error.failure, error.status, error.service) == (failure, status, "wire")
    assert len(wire.requests) == 1


def test_get_json_gives_up_after_its_attempts() -> None:
    wire = Wire(text("down", 500))
    labels = {"service": "wire", "outcome": "transient"}
    before = REGISTRY.get_sample_value("outgoing_http_total", labels) or 0
    (error,) = ask(wire, attempts=3)
    assert REGISTRY.get_sample_value("outgoing_http_total", labels) == before + 3
    assert isinstance(error, ServiceError)
    assert error.failure is Failure.TRANSIENT
    assert len(wire.requests) == 3


def test_get_json_timeout_is_transient() -> None:
    (error,) = ask(Wire(slow), timeout_s=0.05, attempts=1)
    assert isinstance(error, ServiceError)
    assert error.failure is Failure.TRANSIENT
    assert "in time" in error.detail


def test_get_json_unreachable_is_transient() -> None:
    async def run() -> None:
        async with HttpClient() as http:
            await http.get_json(Service("gone", "http://127.0.0.1:1", attempts=1))

    with pytest.raises(ServiceError, match="could not be reached") as caught:
        asyncio.run(run())
    assert caught.value.failure is Failure.TRANSIENT


def test_get_json_refuses_oversized_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("altforecast_io.http.MAX_BODY_BYTES", 1000)
    (error,) = ask(Wire(text("[" + "1," * 5000 + "1]")), attempts=1)
    assert isinstance(error, ServiceError)
    assert "longer than" in error.detail


def test_get_json_does_not_follow_redirects() -> None:
    (error,) = ask(Wire(text("", 302, Location="http://127.0.0.1:1/")))
    assert isinstance(error, ServiceError)
    assert error.status == 302


def test_get_json_obeys_retry_after() -> None:
    wire = Wire(text("slow down", 429, Retry_After="1"), text("1"))
    loop_times: list[float] = []

    async def timed(request: web.Request) -> web.StreamResponse:
        loop_times.append(asyncio.get_running_loop().time())
        return await wire(request)

    assert ask(Wire(timed)) == [1]
    assert loop_times[1] - loop_times[0] >= 0.95


def test_get_json_hands_on_a_retry_after_beyond_its_cap() -> None:
    wire = Wire(text("slow down", 429, Retry_After="3600"))
    (error,) = ask(wire)
    assert isinstance(error, ServiceError)
    assert error.retry_after_s == 3600
    assert len(wire.requests) == 1


def test_get_json_caches_good_answers_for_their_time() -> None:
    hand = [100.0]
    wire = Wire(text("1"), text("2"))
    client = {"monotonic": lambda: hand[0]}
    assert ask(wire, times=3, ttl_s=60, client=client) == [1, 1, 1]
    assert len(wire.requests) == 1


def test_get_json_forgets_after_its_time() -> None:
    hand = [100.0]
    wire = Wire(text("1"))

    async def twice() -> list[Any]:
        app = web.Application()
        app.router.add_get("/{tail:.*}", wire)
        async with TestServer(app) as server, HttpClient(monotonic=lambda: hand[0]) as http:
            service = Service("wire", str(server.make_url("/")))
            first = await http.get_json(service, "x", ttl_s=60)
            hand[0] += 60.5
            return [first, await http.get_json(service, "x", ttl_s=60)]

    assert asyncio.run(twice()) == [1, 1]
    assert len(wire.requests) == 2


def test_get_json_never_caches_failures() -> None:
    wire = Wire(text("", 500), text("7"))
    first, second = ask(wire, times=2, ttl_s=60, attempts=1)
    assert isinstance(first, ServiceError)
    assert second == 7


def test_get_json_shares_one_fetch_among_waiting_callers() -> None:
    wire = Wire(text("5"))

    async def run() -> list[Any]:
        app = web.Application()
        app.router.add_get("/{tail:.*}", wire)
        async with TestServer(app) as server, HttpClient() as http:
            service = Service("wire", str(server.make_url("/")))
            return list(await asyncio.gather(*(http.get_json(service, "x", ttl_s=60) for _ in range(20))))

    assert asyncio.run(run()) == [5] * 20
    assert len(wire.requests) == 1


def test_get_json_limits_calls_per_service() -> None:
    times: list[float] = []

    async def stamp(_: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        return web.Response(text="1")

    ask(Wire(stamp), times=4, max_calls=2, per_s=0.4)
    assert times[2] - times[0] >= 0.15
    assert times[3] - times[0] >= 0.35


def test_get_json_keeps_secrets_out_of_errors_and_logs() -> None:
    secret = "s3cr3t-value"
    with structlog.testing.capture_logs() as logs:
        found = ask(Wire(text("no", 500), disconnect), path=f"v1/x?api_key={secret}&q=btc", attempts=2, headers={"X-Api-Key": secret})
    said = repr(logs) + repr([(str(e), repr(e), e.__cause__) for e in found])
    assert secret not in said
    assert "api_key=***" in said
    assert secret not in repr(Service("x", "http://x", {"k": secret}))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h.io/a?b=1", "https://h.io/a?b=1"),
        ("https://h.io/bot123:AbC/getMe", "https://h.io/bot***/getMe"),
        ("https://h.io/x?x_cg_demo_api_key=K&signature=S&q=1", "https://h.io/x?x_cg_demo_api_key=***&signature=***&q=1"),
        ("https://h.io/hook/0123456789abcdef0123456789abcdef", "https://h.io/hook/***"),
        ("https://h.io/api/v3/klines?symbol=BTCUSDT", "https://h.io/api/v3/klines?symbol=BTCUSDT"),
    ],
)
def test_sanitise_url(url: str, shown: str) -> None:
    assert sanitise(url) == shown


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), ("0.5", 0.5), ("-3", 0.0), ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0), ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
     (None, None), ("", None), ("soon", None)],
)  # fmt: skip
def test_parse_retry_after_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


def test_backoff_jitters_fully_below_a_growing_ceiling() -> None:
    rng = random.Random(5)
    waits = [_series(Backoff(0.5, 8.0, rng, lambda _: True), 8) for _ in range(200)]
    for step, ceiling in enumerate([0.5, 1, 2, 4, 8, 8, 8, 8]):
        drawn = [w[step] for w in waits]
        assert 0 <= min(drawn) < ceiling * 0.1
        assert ceiling * 0.9 < max(drawn) <= ceiling


def _series(backoff: Backoff, n: int) -> list[float]:
    return [float(backoff(ValueError())) for _ in range(n)]
