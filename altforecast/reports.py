"""Report lines with arrows, and the texts made of them: market report, direct report, market doctor.

What belongs here: how metric closes become the table `market_report`, and its words. What does not: the regime (`regime`), where texts
are sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
import polars as pl

from altforecast.changes import HOUR_MS, Change, Ints, closes_on, grid_of, hours_between, read_change
from altforecast.params import REPORT, ReportParams
from altforecast.regime import STATE_WORDS, explain_regime
from altforecast.tables import MARKET_REPORT, TS
from altforecast.types import Arrow, Metric, Timeframe

SPANS = ("15m", "1h", "4h", "24h")
"""Spans of the report line in printed order; 24h is the rolling change of hourly closes, not the calendar day."""
SOURCES: Mapping[str, tuple[Timeframe, int]] = MappingProxyType(
    {"15m": (Timeframe.M15, 1), "1h": (Timeframe.H1, 1), "4h": (Timeframe.H4, 1), "24h": (Timeframe.H1, 24)}
)
"""Bars that each span is read from, and how many of them it covers."""
GLYPHS: Mapping[Arrow, str] = MappingProxyType({Arrow.UP: "⬆", Arrow.DOWN: "⬇", Arrow.FLAT: "→", Arrow.UNKNOWN: "?"})


def market_report(
    metric_bars: pl.DataFrame, regime: pl.DataFrame, start: datetime, params: ReportParams = REPORT, end: datetime | None = None
) -> pl.DataFrame:
    """Table `market_report`: six rows per hour from `start` to the newest hourly bar, or to `end` (excluded) where it is given.

    metric_bars: columns ts (open), metric, timeframe, close [own unit], long form, in any order, of 15m, 1h and 4h bars, reaching back
    sd_days + 2 days before start. regime: table `regime` of the same hours; an hour without a row reads "unknown". An arrow is
    unknown where the newest closed bar is older than stale_bars of its timeframe or has too little history. No row depends on rows
    before it, so windows need no carry. Empty bars: empty table. Raises InputError for a naive start or end and for bars off
    their grid. Method: docs/methods/regime.md.
    """
    hourly = metric_bars.filter(pl.col("timeframe") == Timeframe.H1.value)
    hours = hours_between(start, end, hourly, not hourly.filter(pl.col("ts") < start).is_empty())
    if not len(hours):
        return MARKET_REPORT.empty()
    read = {span: _changes(metric_bars, hours, span, params) for span in SPANS}
    frames = [_metric_frame(metric, hours, {s: read[s][metric] for s in SPANS}, params) for metric in Metric]
    states = regime.select("ts", regime="state")
    joined = pl.concat(frames).join(states, on="ts", how="left").with_columns(pl.col("regime").fill_null("unknown"))
    return MARKET_REPORT.conform(joined.with_columns(known_at=(pl.col("ts") + timedelta(hours=1)).cast(TS)))


def arrow_of(z: float | None, params: ReportParams = REPORT) -> Arrow:
    """Arrow of a z-score [sd]: up above flat_z, down below -flat_z, flat between, unknown for null and NaN."""
    if z is None or math.isnan(z):
        return Arrow.UNKNOWN
    return Arrow.UP if z > params.flat_z else Arrow.DOWN if z < -params.flat_z else Arrow.FLAT


def report_line(metric: str, arrows: Mapping[str, str], changes: Mapping[str, float | None] | None = None) -> str:
    """The line as people read it: `TOTAL3: ⬆ 15m ⬇ 1h → 4h ⬆ 24h`.

    arrows: value of Arrow by span; a span that is not there prints "?". changes: change by span [%], printed behind each span
    where given (`⬆ 24h +2.1%`).
    """
    words = []
    for span in SPANS:
        change = changes.get(span) if changes else None
        tail = "" if change is None else f" {change:+.1f}%"
        words.append(f"{GLYPHS[Arrow(arrows.get(span, Arrow.UNKNOWN))]} {span}{tail}")
    return f"{metric}: {' '.join(words)}"


def market_text(rows: pl.DataFrame, regime: Mapping[str, object] | None) -> str:
    """All report lines of one hour and the regime below them.

    rows: `market_report` rows of one hour, any order; metrics without a row print "?" everywhere. regime: the `regime` row of that
    hour as a mapping, None where there is none.
    """
    by_metric = {row["metric"]: row["line"] for row in rows.iter_rows(named=True)}
    lines = [by_metric.get(m.value, report_line(m.value, {})) for m in Metric]
    return "\n".join([*lines, _regime_line(regime)])


def direct_report(rows: pl.DataFrame, regime: Mapping[str, object] | None) -> str:
    """The market text with its time, the changes behind the arrows and why the regime is what it is; arguments as `market_text`."""
    if rows.is_empty():
        return "No market report yet: no hourly bar of any metric has arrived."
    by_metric = {row["metric"]: row for row in rows.iter_rows(named=True)}
    lines = [_line_with_changes(m, by_metric.get(m.value)) for m in Metric]
    why = explain_regime(regime) if regime is not None else []
    return "\n".join([f"Market at {_moment(rows)}", "", *lines, "", _regime_line(regime), *why])


def market_doctor(rows: pl.DataFrame, regime: Mapping[str, object] | None, params: ReportParams = REPORT) -> str:
    """What is unusual in one hour and which inputs are missing; arguments as `market_text`.

    Unusual: a change beyond unusual_z standard deviations, the largest first; timeframes of a metric that disagree in full (both arrows up
    and down, none flat); a regime about to change. Says so where nothing is.
    """
    if rows.is_empty():
        return "Market doctor: nothing to examine, no market report has been made yet."
    unusual = [*_unusual_changes(rows, params), *_pending_change(regime)]
    missing = _missing_inputs(rows, regime)
    first = f"Market doctor, {_moment(rows)}. {_regime_line(regime)}"
    body = unusual or ["Nothing unusual: no change is beyond " + f"{params.unusual_z:g} standard deviations of its last 30 days."]
    data = missing or ["All inputs are fresh."]
    note = "Regimes have told risk apart, not returns: use them to size and to widen, not to predict."
    return "\n".join(
        [first, "", "Unusual:" if unusual else "Diagnosis:", *(f"- {s}" for s in body), "", "Data:", *(f"- {s}" for s in data), "", note]
    )


def _changes(metric_bars: pl.DataFrame, hours: Ints, span: str, params: ReportParams) -> dict[Metric, Change]:
    """Change of each metric over one span at the close of each hour."""
    timeframe, n_bars = SOURCES[span]
    bars, step = metric_bars.filter(pl.col("timeframe") == timeframe.value), timeframe.ms
    if bars.is_empty():
        none = np.full(len(hours), np.nan)
        return dict.fromkeys(Metric, Change(none, none))
    grid = grid_of(bars, step)
    closed = hours + HOUR_MS
    at = closed // step - 1 - grid.origin_ms // step
    lag = (closed % step) / step
    window = params.sd_days * 24 * HOUR_MS // step
    return {
        m: read_change(closes_on(grid, bars, m), at, lag, n_bars, window, params.stale_bars, params.min_history_frac) for m in Metric
    }  # fmt: skip


def _metric_frame(metric: Metric, hours: Ints, changes: Mapping[str, Change], params: ReportParams) -> pl.DataFrame:
    """Rows of one metric, without the regime."""
    frame = pl.DataFrame({"ts": pl.Series(hours).cast(TS), "metric": [metric.value] * len(hours)}).with_columns(
        *(pl.Series(f"change_{s}_pct", 100.0 * np.expm1(c.log)).fill_nan(None) for s, c in changes.items()),
        *(pl.Series(f"z_{s}", c.z).fill_nan(None) for s, c in changes.items()),
    )
    arrows = {s: [arrow_of(z, params).value for z in frame[f"z_{s}"].to_list()] for s in SPANS}
    lines = [report_line(metric.value, dict(zip(SPANS, four, strict=True))) for four in zip(*arrows.values(), strict=True)]
    is_unknown = pl.any_horizontal(pl.col(f"arrow_{s}") == Arrow.UNKNOWN.value for s in SPANS)
    named = frame.with_columns(pl.Series("line", lines), *(pl.Series(f"arrow_{s}", a) for s, a in arrows.items()))
    return named.with_columns(is_degraded=is_unknown)


def _moment(rows: pl.DataFrame) -> str:
    return str(rows["known_at"].sort().dt.strftime("%Y-%m-%d %H:%M UTC")[-1])


def _line_with_changes(metric: Metric, row: Mapping[str, object] | None) -> str:
    if row is None:
        return report_line(metric.value, {})
    changes = {s: float(str(row[f"change_{s}_pct"])) for s in SPANS if row[f"change_{s}_pct"] is not None}
    return report_line(metric.value, {s: str(row[f"arrow_{s}"]) for s in SPANS}, changes)


def _regime_line(regime: Mapping[str, object] | None) -> str:
    if regime is None:
        return "Regime: unknown"
    score = regime["score"]
    value = "no score" if score is None else f"score {float(str(score)):+.2f}"
    degraded = ", degraded" if regime["is_degraded"] else ""
    return f"Regime: {STATE_WORDS[str(regime['state'])]} ({value}{degraded})"


def _unusual_changes(rows: pl.DataFrame, params: ReportParams) -> list[str]:
    found: list[tuple[float, str]] = []
    for row in rows.sort("metric").iter_rows(named=True):
        for span in SPANS:
            z, change = row[f"z_{span}"], row[f"change_{span}_pct"]
            if z is not None and abs(z) > params.unusual_z:
                way = "up" if z > 0 else "down"
                found.append((-abs(z), f"{row['metric']} is {way} {abs(change):.2f}% over {span}, {abs(z):.1f} standard deviations."))
        arrows = {row[f"arrow_{s}"] for s in SPANS}
        if arrows == {Arrow.UP.value, Arrow.DOWN.value}:
            found.append((0.0, f"{row['metric']} points both ways: {row['line'].partition(': ')[2]}."))
    return [text for _, text in sorted(found)]


def _pending_change(regime: Mapping[str, object] | None) -> list[str]:
    if regime is None or regime["pending_state"] == regime["state"]:
        return []
    asked, now = STATE_WORDS[str(regime["pending_state"])], STATE_WORDS[str(regime["state"])]
    return [f"The regime is {now}, but the score has asked for {asked} for {regime['pending_bars']} h."]


def _missing_inputs(rows: pl.DataFrame, regime: Mapping[str, object] | None) -> list[str]:
    by_metric = {row["metric"]: row for row in rows.iter_rows(named=True)}
    said = []
    for metric in Metric:
        row = by_metric.get(metric.value)
        gone = [s for s in SPANS if row is None or row[f"arrow_{s}"] == Arrow.UNKNOWN.value]
        if gone:
            said.append(f"{metric.value}: missing, stale or too little history for {', '.join(gone)}.")
    if regime is None:
        said.append("Regime: no row for this hour.")
    elif regime["missing"]:
        said.append(f"Regime without {str(regime['missing']).replace(',', ', ')}.")
    return said
