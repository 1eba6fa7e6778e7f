"""Which timeframes, months and series a run has to rebuild, worked out from what arrived.

What belongs here: the plan of a run and its JSON form (it travels in the run tag `altforecast/scope`). What does not:
reading the inbox or the lake, and rebuilding anything (`build`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import month_start, next_month

SCOPE_TAG = "altforecast/scope"
TRIGGER_TAG = "altforecast/trigger"
MAX_SERIES = 200
"""A part that names more series than this is rebuilt for all series: the plan stays small and the work is the same."""
MAX_STARTS = 3
"""Different first months per timeframe in one plan; each costs a rewrite of the months it shares with the others."""


@dataclass(frozen=True)
class Touched:
    """Bars of one series that arrived: their timeframe and the first and last open among them."""

    timeframe: Timeframe
    series: Series
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Part:
    """Whole months of one timeframe, of the named series or of all (None)."""

    timeframe: Timeframe
    window: Window
    series: frozenset[Series] | None = None


@dataclass(frozen=True)
class Plan:
    """What one run takes in and rebuilds.

    `inbox_to` is the newest inbox row that the run takes (0: none), `landing` the landing files it takes by name: of
    `bars` exactly the months of these arrivals are written. `derived` are the parts of all other tables to rebuild.
    """

    derived: tuple[Part, ...] = ()
    inbox_to: int = 0
    landing: tuple[str, ...] = ()

    @property
    def window(self) -> Window | None:
        """From the first to the end of the last month of the plan; None for an empty plan."""
        parts = self.derived
        return Window(min(p.window.start for p in parts), max(p.window.end for p in parts)) if parts else None


def plan_arrivals(touched: Iterable[Touched], newest: datetime, inbox_to: int = 0, landing: Iterable[str] = ()) -> Plan:
    """Plan for bars that arrived, in time or late.

    Bars: exactly the months touched. Derived tables: from the first month touched to that of `newest` (the newest bar of
    the lake or of the arrivals, whichever is later), because on-balance volume and levels carry every earlier bar; only
    the touched series and timeframes. A bar of the current month therefore rebuilds the current month alone.
    """
    first_month: dict[tuple[Timeframe, Series], datetime] = {}
    for t in touched:
        start, key = month_start(t.first), (t.timeframe, t.series)
        first_month[key] = min(start, first_month.get(key, start))
        newest = max(newest, t.last)
    end = next_month(newest)
    parts = [_part(tf, Window(start, end), series) for (tf, start), series in sorted(_by_start(first_month).items(), key=_order)]
    return Plan(tuple(parts), inbox_to, tuple(landing))


def _by_start(first_month: dict[tuple[Timeframe, Series], datetime]) -> dict[tuple[Timeframe, datetime], set[Series]]:
    """Series by timeframe and first month; a timeframe with many first months is rebuilt from the earliest for all of them."""
    starts: dict[Timeframe, set[datetime]] = {}
    for (timeframe, _), start in first_month.items():
        starts.setdefault(timeframe, set()).add(start)
    grouped: dict[tuple[Timeframe, datetime], set[Series]] = {}
    for (timeframe, series), start in first_month.items():
        known = starts[timeframe]
        grouped.setdefault((timeframe, start if len(known) <= MAX_STARTS else min(known)), set()).add(series)
    return grouped


def plan_range(window: Window, timeframes: Iterable[Timeframe], inbox_to: int = 0, landing: Iterable[str] = ()) -> Plan:
    """Plan that rebuilds everything in a range of months: all series of the given timeframes."""
    return Plan(tuple(Part(timeframe, window) for timeframe in timeframes), inbox_to, tuple(landing))


def union(plans: Iterable[Plan], end: datetime | None = None) -> Plan:
    """One plan that rebuilds what all the plans rebuild, each timeframe to its latest end or to `end`, whichever is later.

    Arrivals are left out. A timeframe of which one plan rebuilds all series is rebuilt for all.
    """
    by_timeframe: dict[Timeframe, list[Part]] = {}
    for part in (p for plan in plans for p in plan.derived):
        by_timeframe.setdefault(part.timeframe, []).append(part)
    return Plan(tuple(p for tf in sorted(by_timeframe, key=lambda t: t.ms) for p in _union_of_timeframe(tf, by_timeframe[tf], end)))


def _union_of_timeframe(timeframe: Timeframe, parts: list[Part], end: datetime | None) -> list[Part]:
    last = max(p.window.end for p in parts)
    last = max(last, end) if end else last
    if any(p.series is None for p in parts):
        return [Part(timeframe, Window(min(p.window.start for p in parts), last))]
    first_month: dict[tuple[Timeframe, Series], datetime] = {}
    for part in parts:
        for series in part.series or ():
            start = part.window.start
            first_month[timeframe, series] = min(start, first_month.get((timeframe, series), start))
    return [_part(tf, Window(start, last), series) for (tf, start), series in sorted(_by_start(first_month).items(), key=_order)]


def covers(plan: Plan, other: Plan) -> bool:
    """Whether a plan rebuilds everything that another one rebuilds."""
    return all(any(_covers_part(mine, part) for mine in plan.derived) for part in other.derived)


def _covers_part(mine: Part, other: Part) -> bool:
    is_inside = mine.window.start <= other.window.start and other.window.end <= mine.window.end
    has_series = mine.series is None or (other.series is not None and other.series <= mine.series)
    return mine.timeframe is other.timeframe and is_inside and has_series


def _order(item: tuple[tuple[Timeframe, datetime], set[Series]]) -> tuple[int, datetime]:
    (timeframe, month), _ = item
    return timeframe.ms, month


def _part(timeframe: Timeframe, window: Window, series: set[Series]) -> Part:
    return Part(timeframe, window, None if len(series) > MAX_SERIES else frozenset(series))


def encode_plan(plan: Plan) -> str:
    """JSON text of a plan, for a run tag."""
    body = {
        "derived": [_encode_part(p) for p in plan.derived],
        "inbox_to": plan.inbox_to,
        "landing": plan.landing,
    }
    return orjson.dumps(body).decode()


def decode_plan(text: str) -> Plan:
    """The plan that `encode_plan` wrote; raises ValueError or KeyError on anything else."""
    body = orjson.loads(text)
    return Plan(
        derived=tuple(_decode_part(p) for p in body["derived"]),
        inbox_to=int(body["inbox_to"]),
        landing=tuple(body["landing"]),
    )


def _encode_part(part: Part) -> list[object]:
    series = None if part.series is None else sorted([s.exchange, s.symbol] for s in part.series)
    return [part.timeframe.value, part.window.start.strftime("%Y-%m"), part.window.end.strftime("%Y-%m"), series]


def _decode_part(raw: list[object]) -> Part:
    timeframe, start, end, series = raw
    window = Window(*(datetime.strptime(str(m), "%Y-%m").replace(tzinfo=UTC) for m in (start, end)))
    names = None if series is None else frozenset(Series(*pair) for pair in series)  # type: ignore[attr-defined]
    return Part(Timeframe(str(timeframe)), window, names)
