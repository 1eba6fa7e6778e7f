"""A circuit breaker that stops calls to a failing service and lets a bounded number of probes through later.

What belongs here: the three states and their gauges. What does not: retries and failure classes (`http`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from prometheus_client import Counter, Gauge

from altforecast.errors import BusyError

STATE = Gauge("breaker_state", "0 closed, 1 half open, 2 open", ["name"])
FAILURES = Gauge("breaker_failures", "Failures in a row", ["name"])
OPENED = Counter("breaker_opened_total", "How often the breaker opened", ["name"])
REFUSED = Counter("breaker_refused_total", "Calls that an open breaker refused", ["name"])
COLLECTORS = (STATE, FAILURES, OPENED, REFUSED)
"""What an app registers to show the breakers of its process."""


class State(IntEnum):
    """Closed lets all calls through, open none, half open at most `max_probes` at once."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerOpenError(BusyError):
    """The breaker refused the call; `retry_after_s` says when a probe may be tried."""

    code = "breaker_open"

    def __init__(self, name: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{name}: not called, it failed too often; next try in {retry_after_s:.0f} s")


class Breaker:
    """One breaker per outside service; not thread-safe, use it from one event loop or one thread.

    monotonic: injected clock [s]. max_failures: failures in a row that open it. open_s: rest before a probe [s].
    max_probes: calls let through at once while half open; one success closes, one failure opens again.
    counts: which errors mean that the service is down; others (a bad request of ours) leave the state alone.
    """

    def __init__(
        self, name: str, monotonic: Callable[[], float], *, max_failures: int = 5, open_s: float = 30.0, max_probes: int = 1,
        counts: Callable[[Exception], bool] = lambda _error: True,
    ) -> None:  # fmt: skip
        self.name, self.max_failures, self.open_s, self.max_probes = name, max_failures, open_s, max_probes
        self._monotonic, self._counts = monotonic, counts
        self._state, self._failures, self._probes, self._opened_at, self._epoch = State.CLOSED, 0, 0, 0.0, 0
        self._show()

    @property
    def state(self) -> State:
        """Where the breaker stands now; an open one becomes half open by the passing of time alone."""
        if self._state is State.OPEN and self._monotonic() - self._opened_at >= self.open_s:
            self._move(State.HALF_OPEN)
        return self._state

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run one call under the breaker; raises BreakerOpenError instead of calling when it may not pass.

        A cancelled call counts neither way and gives its probe slot back; the outcome of a call that began before
        the last change of state is ignored.
        """
        epoch = self._enter()
        try:
            yield
        except Exception as error:
            self._leave(epoch, failed=self._counts(error))
            raise
        except BaseException:
            self._leave(epoch, failed=None)
            raise
        else:
            self._leave(epoch, failed=False)

    def _enter(self) -> int:
        state = self.state
        if state is State.OPEN or (state is State.HALF_OPEN and self._probes >= self.max_probes):
            REFUSED.labels(self.name).inc()
            raise BreakerOpenError(self.name, max(0.0, self._opened_at + self.open_s - self._monotonic()))
        self._probes += state is State.HALF_OPEN
        return self._epoch

    def _leave(self, epoch: int, failed: bool | None) -> None:
        if epoch != self._epoch:
            return
        if self._state is State.HALF_OPEN:
            self._probes -= 1
        if failed is None:
            return
        self._failures = self._failures + 1 if failed else 0
        if failed and (self._state is State.HALF_OPEN or self._failures >= self.max_failures):
            self._opened_at = self._monotonic()
            OPENED.labels(self.name).inc()
            self._move(State.OPEN)
        elif not failed and self._state is State.HALF_OPEN:
            self._move(State.CLOSED)
        self._show()

    def _move(self, state: State) -> None:
        self._state, self._probes, self._epoch = state, 0, self._epoch + 1
        self._show()

    def _show(self) -> None:
        STATE.labels(self.name).set(self._state)
        FAILURES.labels(self.name).set(self._failures)
