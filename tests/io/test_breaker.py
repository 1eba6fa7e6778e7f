"""The circuit breaker: transitions, bounded probes, gauges."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from altforecast_io.breaker import Breaker, BreakerOpenError, State


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker, error: Exception | None = None) -> None:
    with pytest.raises(type(error or OSError())), breaker.guard():
        raise error or OSError()


def succeed(breaker: Breaker) -> None:
    with breaker.guard():
        pass


def gauge(name: str, breaker: Breaker) -> float | None:
    return REGISTRY.get_sample_value(name, {"name": breaker.name})


def test_guard_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker("t_opens", Hand(), max_failures=3)
    for _ in range(5):
        fail(breaker)
        fail(breaker)
        succeed(breaker)
    assert breaker.state is State.CLOSED
    for _ in range(3):
        fail(breaker)
    assert breaker.state is State.OPEN
    assert gauge("breaker_state", breaker) == 2
    assert gauge("breaker_failures", breaker) == 3
    assert gauge("breaker_opened_total", breaker) == 1


def test_guard_refuses_without_calling_while_open() -> None:
    hand = Hand()
    breaker = Breaker("t_refuses", hand, max_failures=1, open_s=30)
    fail(breaker)
    hand.now += 12
    called = False
    with pytest.raises(BreakerOpenError) as caught, breaker.guard():
        called = True
    assert not called
    assert caught.value.retry_after_s == pytest.approx(18)
    assert gauge("breaker_refused_total", breaker) == 1


def test_guard_lets_one_of_fifty_probes_through() -> None:
    hand = Hand()
    breaker = Breaker("t_probes", hand, max_failures=1, open_s=30, max_probes=1)
    fail(breaker)
    hand.now += 30
    called, refused = [], []

    async def probe(k: int) -> None:
        try:
            with breaker.guard():
                called.append(k)
                await asyncio.sleep(0.01)
        except BreakerOpenError:
            refused.append(k)

    async def storm() -> None:
        await asyncio.gather(*(probe(k) for k in range(50)))

    asyncio.run(storm())
    assert len(called) == 1
    assert len(refused) == 49
    assert breaker.state is State.CLOSED
    assert gauge("breaker_state", breaker) == 0


def test_guard_reopens_after_failed_probe_and_rests_anew() -> None:
    hand = Hand()
    breaker = Breaker("t_reopens", hand, max_failures=3, open_s=30)
    for _ in range(3):
        fail(breaker)
    hand.now += 30
    assert breaker.state is State.HALF_OPEN
    fail(breaker)
    assert breaker.state is State.OPEN
    hand.now += 29
    assert breaker.state is State.OPEN
    hand.now += 1
    assert breaker.state is State.HALF_OPEN
    succeed(breaker)
    assert breaker.state is State.CLOSED


def test_guard_gives_slot_of_cancelled_probe_back() -> None:
    hand = Hand()
    breaker = Breaker("t_cancelled", hand, max_failures=1, open_s=1)
    fail(breaker)
    hand.now += 1

    async def cancelled() -> None:
        async def hang() -> None:
            with breaker.guard():
                await asyncio.sleep(60)

        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert breaker.state is State.HALF_OPEN
    succeed(breaker)
    assert breaker.state is State.CLOSED


def test_guard_ignores_outcome_from_before_the_last_change() -> None:
    hand = Hand()
    breaker = Breaker("t_late", hand, max_failures=1, open_s=1)
    late = breaker.guard()
    late.__enter__()
    fail(breaker)
    assert late.__exit__(None, None, None) in (None, False)
    assert breaker.state is State.OPEN


def test_guard_counts_only_errors_that_mean_down() -> None:
    breaker = Breaker("t_counts", Hand(), max_failures=1, counts=lambda error: isinstance(error, OSError))
    fail(breaker, ValueError("our own mistake"))
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.OPEN
