"""A price chart as SVG: candles, volume, axis labels; no library.

What belongs here: geometry and markup from rows. What does not: reading bars, HTTP, interactive charts (the dashboard).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 12, 78, 34, 28
VOLUME_SHARE = 0.18
"""Share of the plot's height at its foot that volume bars may use."""
UP, DOWN, PROVISIONAL, GRID, INK = "#1a9b6c", "#d1495b", "#c98a00", "#d9dee5", "#44505e"
N_LINES = 5


def price_chart(bars: Sequence[Mapping[str, Any]], title: str) -> str:
    """SVG of bars in time order (`ts`, `open`, `high`, `low`, `close`, `volume`, `quality`); a note when there are none."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="21" font-size="15" fill="{INK}">{escape(title)}</text>'
    )
    body = _plot(bars) if bars else f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle" fill="{INK}">no bars</text>'
    return f"{head}{body}</svg>"


def _plot(bars: Sequence[Mapping[str, Any]]) -> str:
    low, high = min(b["low"] for b in bars), max(b["high"] for b in bars)
    pad = (high - low) * 0.05 or abs(high) * 0.01 or 1.0
    low, high = low - pad, high + pad
    step = (WIDTH - LEFT - RIGHT) / len(bars)

    def y(price: float) -> float:
        return float(TOP + (high - price) / (high - low) * (HEIGHT - TOP - BOTTOM))

    largest = max((b["volume"] or 0.0 for b in bars), default=0.0)
    marks = [_grid(low, high, y), _times(bars, step)]
    for i, bar in enumerate(bars):
        marks.append(_candle(bar, LEFT + (i + 0.5) * step, max(step * 0.7, 0.5), y, largest))
    marks.append(_last(bars[-1]["close"], y))
    return "".join(marks)


def _candle(bar: Mapping[str, Any], x: float, width: float, y: Any, largest: float) -> str:
    colour = PROVISIONAL if bar.get("quality") == "provisional" else UP if bar["close"] >= bar["open"] else DOWN
    top, bottom = y(max(bar["open"], bar["close"])), y(min(bar["open"], bar["close"]))
    left = x - width / 2
    parts = [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(bar["high"]):.1f}" y2="{y(bar["low"]):.1f}" stroke="{colour}"/>',
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(bottom - top, 0.8):.1f}" fill="{colour}"/>',
    ]
    if largest > 0 and bar["volume"]:
        height = bar["volume"] / largest * (HEIGHT - TOP - BOTTOM) * VOLUME_SHARE
        foot = HEIGHT - BOTTOM - height
        parts.append(f'<rect x="{left:.1f}" y="{foot:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}" opacity="0.25"/>')
    return "".join(parts)


def _grid(low: float, high: float, y: Any) -> str:
    lines = []
    for i in range(N_LINES):
        price = low + (high - low) * (i + 0.5) / N_LINES
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(price):.1f}" y2="{y(price):.1f}" stroke="{GRID}"/>'
            f'<text x="{WIDTH - RIGHT + 6}" y="{y(price) + 4:.1f}" fill="{INK}">{format_price(price)}</text>'
        )
    return "".join(lines)


def _times(bars: Sequence[Mapping[str, Any]], step: float) -> str:
    picked = sorted({0, len(bars) // 3, 2 * len(bars) // 3, len(bars) - 1})
    anchors = {0: "start", len(bars) - 1: "end"}
    return "".join(
        f'<text x="{LEFT + (i + 0.5) * step:.1f}" y="{HEIGHT - 9}" text-anchor="{anchors.get(i, "middle")}" fill="{INK}">'
        f"{_time(bars[i]['ts'])}</text>"
        for i in picked
    )


def _time(ts: datetime) -> str:
    return ts.strftime("%Y-%m-%d") if (ts.hour, ts.minute) == (0, 0) else ts.strftime("%m-%d %H:%M")


def _last(close: float, y: Any) -> str:
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(close):.1f}" y2="{y(close):.1f}" stroke="{INK}" stroke-dasharray="3 3"/>'
        f'<rect x="{WIDTH - RIGHT + 2}" y="{y(close) - 9:.1f}" width="{RIGHT - 4}" height="18" fill="{INK}"/>'
        f'<text x="{WIDTH - RIGHT + 6}" y="{y(close) + 4:.1f}" fill="#ffffff">{format_price(close)}</text>'
    )


def format_price(price: float) -> str:
    """A price with as many decimals as its size asks for: about five digits in all."""
    if price == 0 or not math.isfinite(price):
        return "0"
    decimals = min(10, max(0, 4 - math.floor(math.log10(abs(price)))))
    return f"{price:,.{decimals}f}"
