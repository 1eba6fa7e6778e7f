"""Keeping a task alive: which errors are worth another try, and how long to wait before it.

What belongs here: supervision, delays, the classification of errors. What does not: what the tasks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum

import structlog

from altforecast.errors import BusyError, StorageError

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
Work = Callable[[Callable[[], None]], Awaitable[None]]
"""A task; it calls its argument after each piece of good data, which resets the delays."""
log = structlog.get_logger(__name__)


class Verdict(StrEnum):
    """What an error means for its task."""

    RETRY = "retry"
    """The outside failed; it may work again later."""
    BUG = "bug"
    """We failed; going on would hide it, so the process ends."""


def classify(error: BaseException) -> Verdict:
    """Storage, network and time-out errors are tried again; everything else is a bug."""
    return Verdict.RETRY if isinstance(error, StorageError | BusyError | OSError | TimeoutError) else Verdict.BUG


def backoff(jitter: Callable[[], float], first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S) -> Iterator[float]:
    """Endless delays [s]: each doubles the one before up to `longest_s`, of which `jitter()` in [0, 1) takes off up to a half."""
    full = first_s
    while True:
        yield full * (1.0 - jitter() / 2.0)
        full = min(full * 2.0, longest_s)


async def supervise(
    name: str,
    work: Work,
    *,
    delays: Callable[[], Iterator[float]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run `work` until it returns, again after each error that is worth a retry; a bug is raised.

    delays: makes a fresh sequence of delays, at the start and after good data; a sequence that ends raises the error.
    """
    waits = delays()

    def reset() -> None:
        nonlocal waits
        waits = delays()

    while True:
        try:
            return await work(reset)
        except Exception as error:
            wait = next(waits, None)
            if classify(error) is Verdict.BUG or wait is None:
                raise
            log.warning("task_failed", task=name, error=f"{type(error).__name__}: {error}", retry_in_s=round(wait, 2))
            await sleep(wait)
