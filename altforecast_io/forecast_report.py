"""The evaluation of forecasts as a page to read: Markdown tables and plots as SVG files beside it.

What belongs here: wording and drawing. What does not: figures (`altforecast.forecast_summary`) and goals
(`altforecast.forecast_gates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from altforecast.errors import StorageError

Table = Mapping[str, Any]
_NAMES = {
    "climatology": "climatology (own quantiles, 180 days)", "ewma": "EWMA-FHS", "har_pooled": "HAR-S-FHS, pooled",
    "har_own": "HAR-S-FHS, own", "har": "HAR-S-FHS, averaged", "scale": "boosted scale, FHS", "shape": "boosted shape",
    "mix": "mix (mean of quantiles)",
}  # fmt: skip
_WIDTH, _HEIGHT, _MARGIN = 640, 260, 44
_SPACE = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
_INK, _GRID, _LINE, _GOAL = "#333", "#ddd", "#1f6feb", "#d1242f"


def write_report(result: Table, path: Path) -> None:
    """Write the page and, per horizon, `<name>-<horizon>-coverage.svg`, `-quarters.svg` and, with direction, `-reliability.svg`.

    Raises StorageError where the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, text in plots(result, path.stem).items():
            (path.parent / file).write_text(text)
        path.write_text(report_text(result, path.stem))
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def report_text(result: Table, stem: str) -> str:
    """The page as Markdown. stem: start of the names of the plots."""
    inputs = result["inputs"]
    until = inputs["test_to"][:10] if inputs["test_to"] else "the end of the bars"
    missed = [v for v in result["verdicts"] if not v["is_met"]]
    lines = [
        "# What the forecasts are worth", "",
        "Written by `make evaluate`. Walk forward: quarterly refits, labels purged by one horizon and embargoed by another, calibration",
        f"from matured out-of-sample residuals only. Test from {inputs['test_from'][:10]} to {until}.", "",
        f"Configurations tried on these data so far, this one included: **{result['n_tried']}** ([list](forecast-configurations.md),",
        "which also says which of them were scored on these test quarters before the choice). Skill is 1 - loss / loss of the",
        "reference, loss the mean pinball loss over nine levels (half the CRPS). Reference of F2: per series the better of the pooled and",
        "the own HAR-S-FHS, chosen with hindsight.", "",
        f"Files: {', '.join(inputs['files'])}. {len(inputs['symbols'])} symbols.", "",
        "## Goals", "",
        f"**{len(missed)} of {len(result['verdicts'])} gates are missed.**" if missed else "All gates are met.", "",
        *_table(("goal", "horizon", "reached", "gate", "verdict", "beyond the gate"), [_verdict(v) for v in result["verdicts"]]), "",
        *_look_ahead(result["look_ahead"]),
        *(f"- {name} was not evaluated: {reason}" for name, reason in sorted(result["skipped"].items())), "",
    ]  # fmt: skip
    for name, table in _in_order(result["horizons"]):
        lines += _horizon(name, table, stem)
    return "\n".join(lines).rstrip() + "\n"


def _verdict(v: Table) -> tuple[str, ...]:
    return v["goal"], v["horizon"], v["reached"], v["gate"], "met" if v["is_met"] else "**missed**", v["aim"]


def _in_order(horizons: Mapping[str, Table]) -> list[tuple[str, Table]]:
    order = ("15m", "1h", "4h", "24h")
    return [(name, horizons[name]) for name in order if name in horizons]


def _look_ahead(found: Mapping[str, Table]) -> list[str]:
    lines = []
    for timeframe, test in sorted(found.items()):
        changed = ", ".join(test["changed"]) or "none"
        lines.append(
            f"- F7, bars of {timeframe}: after changing every price and volume from two moments on ({test['bars']:,} bars), of"
            f" {test['columns']} feature columns these moved before them: {changed}."
        )
    return lines


def _horizon(name: str, table: Table, stem: str) -> list[str]:
    made, outcomes = table["n"], table["n_outcomes"]
    rows = sorted(table["forecasters"].items(), key=lambda item: list(_NAMES).index(item[0]))
    dependent, series = table["breaches"]["dependent"], table["breaches"]["series"]
    head = ("forecaster", "skill over climatology", "skill over HAR-S", "95 % interval (weeks resampled)", "DM t", "80 %", "95 %")
    return [
        f"## {name} ahead", "",
        f"{made:,} forecasts at {table['n_moments']:,} moments, {_day(table['first'])} to {_day(table['last'])}; {outcomes - made:,}",
        "further outcomes are left out because at least one forecaster had too little history for them.", "",
        *_table(head, [_forecaster(key, row) for key, row in rows]), "",
        f"95 % breaches depend on each other (Christoffersen, 5 %) for {dependent} of {series} series.", "",
        *_groups("quarter", table["quarters"]), *_groups("volatility decile (0 = calmest)", table["deciles"]),
        *_groups("symbol", table["symbols"]), *_direction(table.get("direction")), *_strategy(table.get("strategy")),
        *(f"![{words}]({stem}-{name}-{kind}.svg)" for kind, words in _kinds(table)), "",
    ]  # fmt: skip


def _forecaster(key: str, row: Table) -> tuple[str, ...]:
    low, high = row["skill_har_interval"]
    interval = "" if low is None else f"{100 * low:+.2f} to {100 * high:+.2f} %"
    against_har = _pct(row["skill_har"]), interval, f"{row['dm_t']:.1f}"
    return _NAMES[key], _pct(row["skill_climatology"]), *against_har, _pct(row["coverage80"], 1), _pct(row["coverage95"], 1)


def _groups(word: str, rows: Sequence[Table]) -> list[str]:
    head = (word, "n", "skill over climatology", "skill over HAR-S", "80 %", "95 %")
    return [*_table(head, [_group(row) for row in rows]), ""]


def _group(row: Table) -> tuple[str, ...]:
    skills = _pct(row["skill_climatology"]), _pct(row["skill_har"])
    return str(row["group"]), f"{row['n']:,}", *skills, _pct(row["coverage80"], 1), _pct(row["coverage95"], 1)


def _direction(found: Table | None) -> list[str]:
    if found is None:
        return []
    low, high = found["accuracy_interval"]
    top_low, top_high = found["top_interval"]
    words = "" if low > found["majority"] else " No directional edge:"
    ic = "not enough series" if found["rank_ic"] is None else f"{found['rank_ic']:.4f} (t {found['rank_ic_t']:.1f})"
    return [
        f"**Direction.**{words} accuracy {_pct(found['accuracy'], 1)} [{_pct(low, 1)}, {_pct(high, 1)}] (days resampled) against",
        f"{_pct(found['majority'], 1)} for always naming the more frequent side; strongest tenth {_pct(found['top_accuracy'], 1)}",
        f"[{_pct(top_low, 1)}, {_pct(top_high, 1)}], {found['top_gain_bps']:.1f} bps before costs. Cross-section RankIC {ic}. P(up): Brier",
        f"skill {_pct(found['brier_skill'])} over the base rate known before each quarter, ECE {_pct(found['ece'])}, 98 % of values in",
        f"{found['p_up_range'][0]:.3f}-{found['p_up_range'][1]:.3f}.", "",
    ]  # fmt: skip


def _strategy(found: Table | None) -> list[str]:
    """Trading on the score: in numbers whether there is an edge after costs."""
    if found is None or "reason" in found:
        return [] if found is None else [f"Trading on the score was not judged: {found['reason']}.", ""]
    words = "An edge after costs." if found["is_edge"] else "No edge after costs:"
    head = (
        "trading on the score",
        "before costs, bps of capital per day",
        "Sharpe ratio a year",
        "after costs, bps per day",
        "Sharpe ratio a year",
    )
    rows = [
        (r["name"], f"{r['gross_bps_per_day']:.1f}", _number(r["gross_sharpe_year"]), f"{r['net_bps_per_day']:.1f}",
         _number(r["net_sharpe_year"])) for r in found["strategies"]
    ]  # fmt: skip
    return [
        f"**{words}** best of {len(rows)} strategies over {found['n_days']} days at {found['cost_bps_per_side']:.0f} bps a side:",
        f"{found['best']}, deflated Sharpe {_number(found['deflated_sharpe'])} for {found['n_tries']} tries (a claim needs more than",
        f"0.95), probability of overfitting {_number(found['pbo'])} (less than 0.20).", "", *_table(head, rows), "",
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "unknown" if value is None or value != value else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _pct(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"


def _day(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def _kinds(table: Table) -> list[tuple[str, str]]:
    kinds = [("coverage", "weekly coverage of the 80 % interval"), ("quarters", "skill over HAR-S by quarter")]
    return [*kinds, ("reliability", "reliability of P(up)")] if "direction" in table else kinds


def plots(result: Table, stem: str) -> dict[str, str]:
    """File name -> SVG."""
    found = {}
    for name, table in _in_order(result["horizons"]):
        weeks = [(week, covered) for week, covered, n in table["coverage_days"] if n >= 100]
        labels = (_day(weeks[0][0]), _day(weeks[-1][0])) if weeks else ("", "")
        found[f"{stem}-{name}-coverage.svg"] = _drawing(f"{name}: weekly coverage of the 80 % interval", weeks, [(0.8, 0.8)], labels)
        quarters = [(float(i), row["skill_har"]) for i, row in enumerate(table["quarters"])]
        ends = (table["quarters"][0]["group"], table["quarters"][-1]["group"])
        found[f"{stem}-{name}-quarters.svg"] = _drawing(f"{name}: skill over HAR-S by quarter", quarters, [(0.0, 0.0)], ends)
        if "direction" in table:
            points = [(p, happened) for _, p, happened in table["direction"]["reliability"]]
            span = (points[0][0], points[-1][0])
            words = (f"P(up) {span[0]:.3f}", f"{span[1]:.3f}")
            found[f"{stem}-{name}-reliability.svg"] = _drawing(f"{name}: share of rises by stated P(up)", points, [span], words)
    return found


def _drawing(title: str, points: Sequence[tuple[float, float]], goal: Sequence[tuple[float, float]], ends: tuple[str, str]) -> str:
    """One line with its goal line (its height at the left and at the right end)."""
    if not points:
        return f'<svg {_SPACE}><text x="20" y="20">{title}: nothing to show</text></svg>\n'
    xs, ys = [x for x, _ in points], [y for _, y in points] + [y for pair in goal for y in pair]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    pad = 0.08 * (y1 - y0) or 0.01
    y0, y1 = y0 - pad, y1 + pad

    def at(x: float, y: float) -> str:
        across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        return f"{_MARGIN + across * (_WIDTH - 2 * _MARGIN):.1f},{_HEIGHT - _MARGIN - (y - y0) / (y1 - y0) * (_HEIGHT - 2 * _MARGIN):.1f}"

    ticks = [y0 + (y1 - y0) * part / 4 for part in range(5)]
    heights = [(y, at(x0, y).split(",")[1]) for y in ticks]
    grid = [f'<polyline points="{at(x0, y)} {at(x1, y)}" stroke="{_GRID}"/>' for y, _ in heights]
    grid += [f'<text fill="{_INK}" stroke="none" x="2" y="{height}">{100 * y:.1f} %</text>' for y, height in heights]
    goals = [f'<polyline points="{at(x0, left)} {at(x1, right)}" stroke="{_GOAL}" stroke-dasharray="4"/>' for left, right in goal]
    dots = "".join('<circle cx="{}" cy="{}" r="2" fill="{}"/>'.format(*at(x, y).split(","), _LINE) for x, y in points)
    line = f'<polyline points="{" ".join(at(x, y) for x, y in points)}" stroke="{_LINE}"/>'
    bottom = f'y="{_HEIGHT - 20}"'
    return "\n".join([
        f'<svg {_SPACE} font-family="sans-serif" font-size="10" fill="none" role="img">', f"<title>{title}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>', f'<g fill="{_INK}" stroke="none">',
        f'<text x="{_MARGIN}" y="20" font-size="13">{title}</text><text x="{_MARGIN}" {bottom}>{ends[0]}</text>',
        f'<text x="{_WIDTH - _MARGIN}" {bottom} text-anchor="end">{ends[1]}</text></g>', *grid, *goals, line, dots, "</svg>", "",
    ])  # fmt: skip
