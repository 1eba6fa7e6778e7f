"""Supervision: what is retried, how long it waits, when it gives up.

What belongs here: `realtime.supervise` and `realtime.health`. What does not: the tasks that are supervised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice

import pytest

from altforecast.errors import BusyError, InputError, StorageError
from realtime.health import LAG_LIMIT_MS, LAG_SAMPLES, Health, watch_loop
from realtime.supervise import Verdict, backoff, classify, supervise


@pytest.mark.parametrize(
    "error", [StorageError("full"), BusyError("queue"), ConnectionResetError(), TimeoutError(), OSError(28, "no space")]
)
def test_classify_outside_failures_are_retried(error: Exception) -> None:
    assert classify(error) is Verdict.RETRY


@pytest.mark.parametrize("error", [ValueError(), KeyError("x"), InputError("a", 1, "bad"), ZeroDivisionError(), AssertionError()])
def test_classify_everything_else_is_a_bug(error: Exception) -> None:
    assert classify(error) is Verdict.BUG


def test_backoff_doubles_to_its_cap() -> None:
    assert list(islice(backoff(lambda: 0.0, 1.0, 5.0), 5)) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_backoff_jitter_takes_off_at_most_half() -> None:
    assert list(islice(backoff(lambda: 1.0, 1.0, 5.0), 4)) == [0.5, 1.0, 2.0, 2.5]


class Sleeper:
    """Sleeps no time and writes down how long it should have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        """Remember."""
        self.slept.append(seconds)


@pytest.mark.anyio
async def test_supervise_retries_with_growing_delays_until_it_returns() -> None:
    calls = 0
    sleeper = Sleeper()

    async def work(_: Callable[[], None]) -> None:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise StorageError("gone")

    await supervise("t", work, delays=lambda: backoff(lambda: 0.0, 1.0, 30.0), sleep=sleeper)
    assert sleeper.slept == [1.0, 2.0, 4.0]


@pytest.mark.anyio
async def test_supervise_good_data_resets_the_delays() -> None:
    calls = 0
    sleeper = Sleeper()

    async def work(is_good: Callable[[], None]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            is_good()
        if calls < 5:
            raise ConnectionResetError

    await supervise("t", work, delays=lambda: backoff(lambda: 0.0, 1.0, 30.0), sleep=sleeper)
    assert sleeper.slept == [1.0, 2.0, 1.0, 2.0]


@pytest.mark.anyio
async def test_supervise_bug_is_raised_at_once() -> None:
    sleeper = Sleeper()

    async def work(_: Callable[[], None]) -> None:
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        await supervise("t", work, delays=lambda: backoff(lambda: 0.0), sleep=sleeper)
    assert sleeper.slept == []


@pytest.mark.anyio
async def test_supervise_delays_that_end_raise_the_error() -> None:
    async def work(_: Callable[[], None]) -> None:
        raise StorageError("gone")

    def twice() -> Iterator[float]:
        return iter((0.0, 0.0))

    with pytest.raises(StorageError):
        await supervise("t", work, delays=twice, sleep=Sleeper())


@pytest.mark.anyio
async def test_supervise_cancellation_ends_it() -> None:
    async def work(_: Callable[[], None]) -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(supervise("t", work, delays=lambda: backoff(lambda: 0.0)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_health_worst_lag_is_forgotten_after_a_minute() -> None:
    health = Health(datetime(2026, 1, 1, tzinfo=UTC))
    health.is_started = lambda: True
    health.note_lag(0.0)
    assert health.worst_lag_ms == 0
    health.note_lag(LAG_LIMIT_MS + 1)
    assert not health.health()["loop"]["ok"]
    for _ in range(LAG_SAMPLES):
        health.note_lag(-0.1)
    assert health.health()["loop"] == {"ok": True, "lag_ms": 0.0, "phase": "running", "start_lag_ms": 0.0}


def test_health_delays_of_the_start_are_told_apart() -> None:
    health = Health(datetime(2026, 1, 1, tzinfo=UTC))
    health.note_lag(900.0)
    assert health.health()["loop"] == {"ok": True, "lag_ms": 0.0, "phase": "starting", "start_lag_ms": 900.0}
    health.is_started = lambda: True
    health.note_lag(30.0)
    health.note_lag(LAG_LIMIT_MS + 1)
    assert health.health()["loop"] == {"ok": False, "lag_ms": LAG_LIMIT_MS + 1, "phase": "running", "start_lag_ms": 900.0}


@pytest.mark.anyio
async def test_watch_loop_sees_a_blocked_loop() -> None:
    health = Health(datetime(2026, 1, 1, tzinfo=UTC))
    health.is_started = lambda: True
    ticks = 0

    async def blocked_sleep(_: float) -> None:
        nonlocal ticks
        ticks += 1
        if ticks > 3:
            raise asyncio.CancelledError
        await asyncio.sleep(0.12)

    with pytest.raises(asyncio.CancelledError):
        await watch_loop(health, blocked_sleep)
    assert health.worst_lag_ms >= 15
