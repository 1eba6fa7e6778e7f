"""The asset `evidence`: measured worth of each kind of signal, as of the start of every month.

What belongs here: which months and timeframes are due, and the call. What does not: shares, intervals and verdicts
(`altforecast.outcomes`).
"""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from altforecast.tables import EVIDENCE
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import Scope, months_between, next_month
from altforecast_pipelines.build import CHUNK_ROWS, MarketStep
from altforecast_pipelines.checks import no_future, unique_keys
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import Plan
from altforecast_pipelines.table_assets import table_asset

FRESH_DAYS = 40
"""A timeframe without outcomes in this many days before a month gets no new rows: the rows before still hold."""

HISTORY = timedelta(days=366 * 30)
"""Evidence rests on everything before its month."""


def due(house: House, plan: Plan) -> Sequence[Scope]:
    """One scope per window: months after the first rebuilt one (evidence counts outcomes known before a month begins), up to
    the present; the first month itself only where it has no evidence yet."""
    now = house.clock()
    wanted: dict[Window, list[Timeframe]] = {}
    for part in plan.derived:
        end = min(next_month(part.window.end), next_month(now))
        start = part.window.start if _is_missing(house, part.timeframe, part.window) else next_month(part.window.start)
        if start < end:
            wanted.setdefault(Window(start, end), []).append(part.timeframe)
    return [Scope(window, tuple(dict.fromkeys(timeframes))) for window, timeframes in wanted.items()]


def _is_missing(house: House, timeframe: Timeframe, window: Window) -> bool:
    rows = house.lake.read("evidence", None, window.start, next_month(window.start), columns=("timeframe",))
    return timeframe.value not in set(rows["timeframe"])


def compute(house: House, scope: Scope) -> pl.DataFrame:
    """Evidence at each month start of the scope; rows of other timeframes in these months are handed back as they were."""
    others = house.lake.read("evidence", None, scope.window.start, scope.window.end)
    frames = [others.filter(~pl.col("timeframe").is_in([t.value for t in scope.timeframes]))]
    for timeframe in scope.timeframes:
        frames += _of_timeframe(house, timeframe, scope.window)
    return pl.concat(frames)


def _of_timeframe(house: House, timeframe: Timeframe, window: Window) -> list[pl.DataFrame]:
    from altforecast.level_evidence import level_evidence
    from altforecast.outcomes import evidence as divergence_evidence

    outcomes = house.lake.read("divergence_outcomes", timeframe, end=window.end)
    months = [m for m in months_between(window) if outcomes.filter(pl.col("ts").is_between(m - timedelta(days=FRESH_DAYS), m)).height]
    touches = bounces(house, timeframe, window) if months else None
    found = [divergence_evidence(outcomes, timeframe, month) for month in months]
    found += [level_evidence(touches, timeframe, month) for month in months if touches is not None]
    return [frame.select(EVIDENCE.schema.names()) for frame in found]


def bounces(house: House, timeframe: Timeframe, window: Window) -> pl.DataFrame:
    """Matured touches of all levels before the window's end; series by series in groups that fit into memory."""
    from altforecast.level_evidence import level_bounces

    lake, end = house.lake, window.end
    sizes = (
        lake.read("bars", timeframe, end=end, columns=["symbol", "exchange"])
        .group_by("exchange", "symbol")
        .len()
        .sort("exchange", "symbol")
    )
    frames: list[pl.DataFrame] = []
    group: list[Series] = []
    held = 0
    for exchange, symbol, n in [*sizes.iter_rows(), (None, None, CHUNK_ROWS)]:
        if group and held + n > CHUNK_ROWS:
            inputs = [lake.read(name, timeframe, None, end, group) for name in ("levels", "bars", "indicators")]
            frames.append(level_bounces(inputs[0], inputs[1], inputs[2], timeframe))
            group, held = [], 0
        group.append(Series(exchange or "", symbol or ""))
        held += n
    return pl.concat(frames)


STEP = MarketStep("evidence", {"divergence_outcomes": (tuple(Timeframe), HISTORY), "levels": (tuple(Timeframe), HISTORY)}, due, compute)
evidence = table_asset(
    STEP,
    group="evidence",
    checks=(unique_keys("evidence"), no_future("evidence")),
    doc="Counted at the start of each month over everything known by then, so a signal is shown with what was known before it.",
    fresh=False,
)
