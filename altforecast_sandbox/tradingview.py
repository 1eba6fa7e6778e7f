"""TradingView as a sender: posts the alerts of every closed bar to a webhook, with its deadline, its resends and its mistakes.

What belongs here: delivery. What does not: what an alert says (`alerts`), and any receiver.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType

import aiohttp

from altforecast_sandbox.alerts import Alert, Rendered, Style, closed_alerts, render_alert
from altforecast_sandbox.clock import Clock, ScaledClock, parse_moment, real_clock
from altforecast_sandbox.market import Market

DEADLINE_S = 3.0
RESEND_DELAY_S = 5.0
MOST_RESENDS = 3
_NO_RESEND_STATUS = 504
_PARALLEL = 24
_POLL_S = 0.5
_MOST_HELD = 1000


@dataclass(frozen=True)
class Mistakes:
    """What goes wrong on the way, each for every n-th alert (0: never)."""

    duplicate_every: int = 0
    """Delivered twice, byte for byte."""
    interval_1_every: int = 0
    """Says interval 1, as plain price alerts do."""
    text_every: int = 0
    """An undefined number breaks the JSON, so it comes as text/plain."""
    drop_every: int = 0
    """Never sent: alerts are not replayed."""
    late_every: int = 0
    """Held back until the next batch."""
    is_shuffled: bool = False
    """A batch is delivered in reverse order, one at a time."""


@dataclass(frozen=True)
class Delivery:
    """What became of one alert: the status of each attempt, 0 for a timeout or a refused connection."""

    alert: Alert
    statuses: tuple[int, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver answered 2xx in the end."""
        return 200 <= self.statuses[-1] < 300


@dataclass
class AlertSender:
    """Posts alerts like TradingView: IPv4, 3 s deadline, on a 5xx (not 504) again after 5 s, at most three times.

    Use as an async context manager. `secret` goes into each body; a secret in the path is part of `target_url`. Neither is
    logged. `counts` holds sent, accepted, refused, resent, duplicated, dropped and late alerts.
    """

    target_url: str
    secret: str
    market: Market
    clock: Clock = real_clock
    style: Style = Style.PINE
    mistakes: Mistakes = field(default_factory=Mistakes)
    resend_delay_s: float = RESEND_DELAY_S
    deadline_s: float = DEADLINE_S
    counts: Counter[str] = field(default_factory=Counter)
    _session: aiohttp.ClientSession | None = None
    _number: int = 0
    _held: list[Alert] = field(default_factory=list)

    async def __aenter__(self) -> AlertSender:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(family=socket.AF_INET, limit=_PARALLEL),
            timeout=aiohttp.ClientTimeout(total=self.deadline_s),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, alert: Alert) -> Delivery:
        """Delivers one alert, resends included; never raises for what the receiver does."""
        self._number += 1
        rendered = self._render(alert)
        delivery = await self._deliver(alert, rendered)
        if self._strikes(self.mistakes.duplicate_every):
            self.counts["duplicated"] += 1
            await self._deliver(alert, rendered)
        return delivery

    async def send_closed(self, after: datetime, until: datetime) -> list[Delivery]:
        """Delivers every alert whose bar closes in (after, until], at most 24 at the same time."""
        return await self.send_all(closed_alerts(self.market, after, until))

    async def send_all(self, alerts: Sequence[Alert]) -> list[Delivery]:
        """Delivers a batch: first the alerts held back from the last one, then these, less those now dropped or held back."""
        batch = [*self._held, *self._sorted_out(alerts)]
        if self.mistakes.is_shuffled:
            return [await self.send(alert) for alert in reversed(batch)]
        gate = asyncio.Semaphore(_PARALLEL)

        async def one(alert: Alert) -> Delivery:
            async with gate:
                return await self.send(alert)

        return list(await asyncio.gather(*(one(alert) for alert in batch)))

    async def run(self, stop: asyncio.Event, after: datetime | None = None) -> None:
        """Delivers alerts as bars close by the clock, until `stop` is set; starts with bars that close after `after` (now)."""
        done = after or self.clock()
        while not stop.is_set():
            now = self.clock()
            await self.send_closed(done, now)
            done = now
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _POLL_S)

    def _sorted_out(self, alerts: Sequence[Alert]) -> list[Alert]:
        now: list[Alert] = []
        self._held = []
        for alert in alerts:
            self._number += 1
            if self._strikes(self.mistakes.drop_every):
                self.counts["dropped"] += 1
            elif self._strikes(self.mistakes.late_every) and len(self._held) < _MOST_HELD:
                self.counts["late"] += 1
                self._held.append(alert)
            else:
                now.append(alert)
        return now

    def _strikes(self, every: int) -> bool:
        return every > 0 and self._number % every == 0

    def _render(self, alert: Alert) -> Rendered:
        if self._strikes(self.mistakes.text_every):
            return render_alert(alert, self.secret, Style.TEXT)
        return render_alert(alert, self.secret, self.style, "1" if self._strikes(self.mistakes.interval_1_every) else None)

    async def _deliver(self, alert: Alert, rendered: Rendered) -> Delivery:
        statuses = [await self._post(rendered)]
        while 500 <= statuses[-1] != _NO_RESEND_STATUS and len(statuses) <= MOST_RESENDS:
            await asyncio.sleep(self.resend_delay_s)
            self.counts["resent"] += 1
            statuses.append(await self._post(rendered))
        delivery = Delivery(alert, tuple(statuses))
        self.counts["sent"] += 1
        self.counts["accepted" if delivery.is_accepted else "refused"] += 1
        return delivery

    async def _post(self, rendered: Rendered) -> int:
        if self._session is None:
            raise RuntimeError("AlertSender is used outside `async with`")
        headers = {"Content-Type": rendered.content_type, "User-Agent": "Go-http-client/1.1"}
        try:
            async with self._session.post(self.target_url, data=rendered.body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status
        except (TimeoutError, aiohttp.ClientError):
            return 0


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Command line of the sender."""
    parser = argparse.ArgumentParser(prog="altforecast_sandbox.tradingview", description="Posts simulated TradingView alerts.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--url", required=True, help="webhook to post to")
    parser.add_argument("--secret", required=True, help="secret in each body")
    parser.add_argument("--after", type=parse_moment, help="also deliver bars that closed after this moment, ISO 8601")
    parser.add_argument("--style", type=Style, choices=list(Style), default=Style.PINE)
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per second")
    for name in ("duplicate", "drop", "late"):
        parser.add_argument(f"--{name}-every", type=int, default=0, help=f"{name} every n-th alert")
    return parser.parse_args(words)


async def serve(words: list[str]) -> None:
    """Posts alerts until SIGTERM or SIGINT, then prints what was delivered."""
    chosen = parse_arguments(words)
    clock = real_clock if chosen.speed == 1.0 else ScaledClock(real_clock(), real_clock(), chosen.speed)
    mistakes = Mistakes(duplicate_every=chosen.duplicate_every, drop_every=chosen.drop_every, late_every=chosen.late_every)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AlertSender(chosen.url, chosen.secret, Market(chosen.seed), clock, chosen.style, mistakes) as sender:
        await sender.run(stop, chosen.after)
    print(", ".join(f"{name} {count}" for name, count in sorted(sender.counts.items())) or "nothing was due")


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
