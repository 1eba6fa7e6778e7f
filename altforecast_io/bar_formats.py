"""Which published layout a bar file has: column names and file names become one mapping.

What belongs here: headers, aliases and file-name hints of the formats we know. What does not: opening files (`bar_files`)
and judging rows (`altforecast.bar_checks`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from altforecast.bar_checks import PRICES, CheckOptions
from altforecast.errors import AltForecastError
from altforecast.symbols import CRYPTOCAP, RESERVE_VENUES, VENUES, parse_symbol, parse_timeframe, parse_venue

BINANCE_HEADER = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count", "taker_buy_volume",
    "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_TIME = ("ts", "time", "timestamp", "unix", "date", "datetime", "open_time", "open time")
_ALIASES = {
    "symbol": ("symbol", "ticker", "pair"),
    "exchange": ("exchange", "venue"),
    "timeframe": ("timeframe", "interval", "tf"),
    "recorded_at": ("recorded_at",),
    "volume": ("volume", "vol"),
}
_FIELD = re.compile(r"^(?P<symbol>[A-Za-z0-9/_-]+)_(?P<field>open|high|low|close|volume)$")
_TRADINGVIEW = re.compile(r"^(?P<exchange>[A-Za-z0-9]+)_(?P<ticker>[A-Za-z0-9.]+), ?(?P<tf>\d+|\d?[A-Za-z]+)\b")
_KNOWN_VENUES = frozenset({*VENUES, *RESERVE_VENUES, "binanceus", "gateio", "huobi", "okex", "poloniex", "bittrex"})


class RefusedFileError(AltForecastError):
    """A whole file cannot be imported; `reason` is the stable name, `detail` what was seen."""

    code = "refused_file"

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True)
class Hints:
    """What the user said (wins over the file) about every row of a file."""

    symbol: str | None = None
    exchange: str | None = None
    timeframe: str | None = None


@dataclass(frozen=True)
class Layout:
    """How to read one file: source column per candidate column, constants for the rest, and what the format implies."""

    format: str
    columns: dict[str, str]
    constants: dict[str, str] = field(default_factory=dict)
    options: CheckOptions = field(default_factory=CheckOptions)
    notes: tuple[str, ...] = ()


def find_layout(header: Sequence[str], name: str, hints: Hints, prefix_line: str = "") -> Layout:
    """Layout of a file with these columns; raises RefusedFileError where it holds no bars or does not say whose.

    name: file name, read for symbol, venue and timeframe where no column and no hint gives them.
    prefix_line: a line before the header (CryptoDataDownload puts its address there). The timeframe may stay open.
    """
    layout = _of_format(list(header), name, prefix_line)
    return _completed(layout, name, hints, list(header))


def is_binance_row(fields: Sequence[str]) -> bool:
    """Whether a first line is a headerless Binance kline: twelve numbers."""
    return len(fields) == len(BINANCE_HEADER) and all(re.fullmatch(r"-?\d+(\.\d+)?", f.strip()) for f in fields)


def _of_format(header: list[str], name: str, prefix_line: str) -> Layout:
    lower = {h.strip().lower(): h for h in header}
    if list(lower)[:7] == list(BINANCE_HEADER[:7]):
        constants = {"exchange": "binance"}
        return Layout("binance_klines", _prices(lower) | {"time": lower["open_time"]}, constants, CheckOptions(units=("ms", "us")))
    if "unix" in lower and ("cryptodatadownload" in prefix_line.lower() or any(h.startswith("volume ") for h in lower)):
        return _cryptodatadownload(lower, name)
    time = next((lower[t] for t in _TIME if t in lower), None)
    if time is None or not _has_values(lower):
        raise RefusedFileError("not_a_bars_file", f"no time and price columns among: {', '.join(header)[:200]}")
    match = _TRADINGVIEW.match(name)
    if match and list(lower)[:5] == ["time", *PRICES]:
        return _tradingview(lower, match)
    return _generic(lower, time)


def _prices(lower: dict[str, str]) -> dict[str, str]:
    return {c: lower[c] for c in (*PRICES, "volume") if c in lower}


def _has_values(lower: dict[str, str]) -> bool:
    return "close" in lower or any((m := _FIELD.match(h)) and m["field"] == "close" for h in lower)


def _cryptodatadownload(lower: dict[str, str], name: str) -> Layout:
    columns = _prices(lower) | {"time": lower["unix"], "symbol": lower.get("symbol", "")}
    volumes = [h for h in lower if h.startswith("volume")]
    if volumes:
        columns["volume"] = lower[volumes[0]]
    venue = name.split("_")[0]
    options = CheckOptions(units=("s", "ms"))
    return Layout("cryptodatadownload", {k: v for k, v in columns.items() if v}, {"exchange": venue}, options)


def _tradingview(lower: dict[str, str], match: re.Match[str]) -> Layout:
    constants = {"exchange": match["exchange"], "symbol": match["ticker"], "timeframe": match["tf"]}
    options = CheckOptions(units=("s",), ends_unfinished=True, may_lack_volume=True)
    return Layout("tradingview_chart", _prices(lower) | {"time": lower["time"]}, constants, options)


def _generic(lower: dict[str, str], time: str) -> Layout:
    columns = _prices(lower) | {"time": time}
    for target, names in _ALIASES.items():
        found = next((lower[n] for n in names if n in lower), None)
        if found is not None:
            columns.setdefault(target, found)
    constants = {}
    for key, original in lower.items():
        match = _FIELD.match(key)
        if match and match["field"] not in columns:
            columns[match["field"]] = original
            constants["symbol"] = match["symbol"]
    is_own = {"symbol", "exchange", "timeframe"} <= set(columns)
    return Layout("own_columns" if is_own else "ticker_time", columns, constants)


def _completed(layout: Layout, name: str, hints: Hints, header: list[str]) -> Layout:
    """Constants from the user and from the file name; refuses where symbol or exchange stays unknown."""
    columns, constants, notes = dict(layout.columns), dict(layout.constants), list(layout.notes)
    from_name = _name_hints(name)
    for key in ("symbol", "exchange", "timeframe"):
        said = getattr(hints, key)
        if said is not None:
            columns.pop(key, None)
            constants[key] = said
        elif key not in columns and key not in constants and key in from_name:
            constants[key] = from_name[key]
            notes.append(f"{key} {from_name[key]} taken from the file name")
    ignored = [h for h in header if h not in columns.values() and not h.startswith("__")]
    if ignored and layout.format in ("own_columns", "ticker_time"):
        notes.append(f"ignored columns: {', '.join(ignored)[:200]}")
    for key in ("symbol", "exchange"):
        if key not in columns and key not in constants:
            raise RefusedFileError(f"unknown_{key}", f"neither a column nor the file name tells the {key}: give --{key}")
    return replace(layout, columns=columns, constants=constants, notes=tuple(notes))


def _name_hints(name: str) -> dict[str, str]:
    """Symbol, exchange and timeframe among the parts of a file name such as `Binance_BTCUSDT_1h.csv`."""
    stem = re.sub(r"(\.(csv|parquet|pq|gz|zip|txt))+$", "", name, flags=re.IGNORECASE)
    found: dict[str, str] = {}
    for part in re.split(r"[-_ ,.]+", stem):
        if part.lower() in _KNOWN_VENUES:
            found.setdefault("exchange", parse_venue(part))
        elif part.lower() == CRYPTOCAP:
            found.setdefault("exchange", CRYPTOCAP)
        elif not part.isdigit() and _is_timeframe(part):
            found.setdefault("timeframe", parse_timeframe(part).value)
        elif _is_symbol(part):
            found.setdefault("symbol", parse_symbol(part))
    return found


def _is_timeframe(text: str) -> bool:
    try:
        parse_timeframe(text)
    except AltForecastError:
        return False
    return True


def _is_symbol(text: str) -> bool:
    try:
        parse_symbol(text)
    except AltForecastError:
        return False
    return len(text) >= 6
