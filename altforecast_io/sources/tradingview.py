"""TradingView alerts: bytes in, one checked bar out.

What belongs here: the wire contract of alert bodies and who may send them. What does not: HTTP (serving.routes.webhook) and
storage (`store.inbox`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NoReturn

from altforecast.errors import AltForecastError, InputError, UnknownNameError
from altforecast.symbols import METRIC_TIMEFRAMES, parse_timeframe, parse_tradingview_symbol
from altforecast.types import Metric, Series, Timeframe

MAX_BYTES = 8192
"""Largest body read; TradingView's own messages stay far below."""
EARLY = timedelta(seconds=5)
"""How early a bar may be reported closed: the difference of two honest clocks."""
SANDBOX_TOKEN = "sandbox-demo-token"
"""Secret of a sandbox without one of its own; public on purpose, never valid for live data."""
SOURCE_IPS = ("52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7")
"""Addresses that TradingView publishes for its webhooks (help article 43000529348)."""
FIELDS: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker"),
    "timeframe": ("tf", "interval", "timeframe"),
    "ts": ("t", "time", "timestamp", "ts"),
    "closes_at": ("tc", "time_close"),
    "open": ("o", "open"),
    "high": ("h", "high"),
    "low": ("l", "low"),
    "close": ("c", "close"),
    "volume": ("vol", "volume"),
}
"""Every accepted spelling of a field, the one we ship first."""
TOKEN_FIELDS = ("token", "secret")

_EARLIEST = datetime(2009, 1, 3, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNDEFINED = frozenset({"", "na", "n/a", "nan", "null", "none"})
_PAIR = re.compile(r'([A-Za-z_]+)\s*[=:]\s*("[^"]*"|[^\s,;&"]+)')
_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?")
_LARGEST = Decimal("1e18")
_SMALLEST = Decimal("1e-18")
_HIDDEN = "***"


class TokenError(AltForecastError):
    """The secret of an alert is missing or wrong; the text never says which one was expected or given."""

    code = "unauthorized"


class BodyTooLargeError(InputError):
    """The body is longer than the limit."""

    code = "too_large"


@dataclass(frozen=True)
class Alert:
    """One closed bar as TradingView reported it; prices in the quote unit of the symbol (percent points for dominances)."""

    metric: Metric
    series: Series
    timeframe: Timeframe
    ts: datetime
    """Open of the bar."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    received_at: datetime
    raw: str
    """The body without its secret."""

    @property
    def content_hash(self) -> str:
        """32 hex digits, equal for equal values however they were spelled (`4.70` and `4.7`)."""
        values = (self.open, self.high, self.low, self.close, self.volume)
        return hashlib.blake2b("|".join(map(decimal_text, values)).encode(), digest_size=16).hexdigest()


def decimal_text(value: Decimal | None) -> str:
    """Shortest plain spelling of a number, `4.7` for `4.70`; empty for None."""
    if value is None:
        return ""
    plain = format(value, "f")
    return (plain.rstrip("0").rstrip(".") or "0") if "." in plain else plain


def parse_alert(
    body: bytes,
    *,
    secret: str,
    path_token: str | None,
    now: datetime,
    tv_btc_symbol: str,
    max_bytes: int = MAX_BYTES,
    early: timedelta = EARLY,
) -> Alert:
    """The bar in an alert body: JSON (our payload or placeholders) or `key=value` text, whatever its content type says.

    The secret is taken from `path_token` and/or the body; each one that is given must be right. Prices are kept as decimals;
    an undefined volume (null, empty, `n/a`, quoted `NaN`) is None, an undefined price is refused. A bar is accepted from
    `early` before its close on. Raises BodyTooLargeError, TokenError, and InputError (field, value, allowed) for the rest.
    Contract: docs/operations/tradingview.md.
    """
    if len(body) > max_bytes:
        raise BodyTooLargeError("body", f"{len(body)} bytes", f"longer than {max_bytes} bytes")
    if path_token is not None:
        check_token(path_token, secret)
    text = _decode(body)
    fields = _read_json(text) if text.lstrip().startswith("{") else _read_text(text)
    tokens = [str(fields.pop(name)) for name in TOKEN_FIELDS if name in fields]
    for token in tokens:
        check_token(token, secret)
    if not tokens and path_token is None:
        raise TokenError("no secret in the path or in the field token")
    try:
        return _alert(fields, secret, now, tv_btc_symbol, early)
    except InputError as error:
        raise _without(secret, error) from None


def check_token(given: str, secret: str) -> None:
    """Raise TokenError unless both are equal; takes the same time for every wrong value of any length."""
    digests = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, secret))
    if not hmac.compare_digest(*digests) or not secret:
        raise TokenError("wrong secret")


def _decode(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("body", f"{len(body)} bytes", f"not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise InputError("body", "", "is empty")
    if "\x00" in text:
        raise InputError("body", f"{len(body)} bytes", "holds a NUL character")
    return text


def _read_json(text: str) -> dict[str, Any]:
    try:
        found = _DECODER.decode(text)
    except RecursionError:
        raise InputError("body", f"{len(text)} characters", "nested too deeply") from None
    except InputError:
        raise
    except ValueError as error:
        # The text itself may hold the secret, so only the place of the error is shown.
        place = f"character {getattr(error, 'pos', 0)}"
        raise InputError("body", f"{len(text)} characters", f"not valid JSON ({place}); quote every placeholder") from None
    if not isinstance(found, dict):
        raise InputError("body", type(found).__name__, "must be a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for spelled, value in pairs:
        key = spelled.lower()
        if key in found:
            raise InputError(key[:40], _HIDDEN, "is given twice")
        found[key] = value
    return found


class _Undefined(str):
    """NaN or Infinity as a bare word, which is not JSON."""


# Made once: `json.loads` and `json.dumps` with options build a new coder on every call.
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_Undefined, object_pairs_hook=_once)
_ENCODER = json.JSONEncoder(default=str)


def _read_text(text: str) -> dict[str, Any]:
    pairs = [(key, value.strip('"')) for key, value in _PAIR.findall(text)]
    if not pairs:
        raise InputError("body", f"{len(text)} characters", "neither a JSON object nor key=value pairs")
    return _once(pairs)


def _alert(fields: dict[str, Any], secret: str, now: datetime, tv_btc_symbol: str, early: timedelta) -> Alert:
    if str(fields.get("v", 1)) != "1":
        raise InputError("v", fields["v"], "unknown payload version", ["1"])
    metric, series = _market(fields, tv_btc_symbol)
    timeframe = _timeframe(fields)
    ts = _opened_at(fields, timeframe, now, early)
    opened, high, low, close = (_price(fields, name) for name in ("open", "high", "low", "close"))
    _check_order(fields, opened, high, low, close)
    return Alert(metric, series, timeframe, ts, opened, high, low, close, _volume(fields), now, _dump(fields, secret))


def _dump(fields: dict[str, Any], secret: str) -> str:
    # Escaped to ASCII: lone surrogates and NUL are legal in JSON, but not in a database text.
    return _ENCODER.encode(fields).replace(secret, _HIDDEN)


def _take(fields: dict[str, Any], name: str) -> tuple[str, Any]:
    spellings = FIELDS[name]
    spelling = next((s for s in spellings if s in fields), None)
    if spelling is None:
        raise InputError(name, None, f"is missing (spellings: {', '.join(spellings)})")
    return spelling, fields[spelling]


def _market(fields: dict[str, Any], tv_btc_symbol: str) -> tuple[Metric, Series]:
    spelling, ticker = _take(fields, "symbol")
    if not isinstance(ticker, str) or not ticker.strip() or len(ticker) > 64:
        raise InputError(spelling, ticker, "must be a symbol such as CRYPTOCAP:USDT.D")
    exchange = fields.get("exchange")
    name = f"{exchange}:{ticker}" if isinstance(exchange, str) and exchange.strip() and ":" not in ticker else ticker
    try:
        return _known_market(name, tv_btc_symbol)
    except InputError as error:
        raise UnknownNameError(spelling, ticker, error.reason, error.allowed) from None


_known_market = lru_cache(maxsize=256)(parse_tradingview_symbol)


def _timeframe(fields: dict[str, Any]) -> Timeframe:
    spelling, value = _take(fields, "timeframe")
    allowed = [t.value for t in METRIC_TIMEFRAMES]
    try:
        found = parse_timeframe(value)
    except InputError:
        raise UnknownNameError(spelling, value, "unknown timeframe", allowed) from None
    if found not in METRIC_TIMEFRAMES:
        hint = "metrics have no such timeframe (price alerts and Range charts always send 1: use an indicator alert)"
        raise UnknownNameError(spelling, value, hint, allowed)
    return found


def _opened_at(fields: dict[str, Any], timeframe: Timeframe, now: datetime, early: timedelta) -> datetime:
    spelling, value = _take(fields, "ts")
    ts = _time(spelling, value)
    if (ts - _EPOCH) % timeframe.duration:
        raise InputError(spelling, value, f"is not the open of a {timeframe.value} bar")
    closes_at = ts + timeframe.duration
    _check_close(fields, closes_at)
    if ts > now + timeframe.duration:
        raise InputError(spelling, value, f"lies more than one {timeframe.value} bar in the future")
    if closes_at > now + early:
        raise InputError(spelling, value, "this bar has not closed yet (use the alert option Once Per Bar Close)")
    return ts


def _check_close(fields: dict[str, Any], closes_at: datetime) -> None:
    spelling = next((s for s in FIELDS["closes_at"] if s in fields), None)
    if spelling is None or str(fields[spelling]).strip().lower() in _UNDEFINED:
        return
    if _time(spelling, fields[spelling]) != closes_at:
        raise InputError(spelling, fields[spelling], "is not open time plus timeframe")


def _time(field: str, value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        _not_a_time(field, value)
    spelled = str(value).strip()
    if re.fullmatch(r"\d{9,16}", spelled):
        return _epoch_time(field, value, int(spelled))
    if not re.match(r"\d{4}-\d\d-\d\d", spelled):
        _not_a_time(field, value)
    try:
        moment = datetime.fromisoformat(spelled)
    except ValueError:
        _not_a_time(field, value)
    if moment.tzinfo is None:
        raise InputError(field, value, "has no time zone (append Z for UTC)")
    return _plausible(field, value, moment.astimezone(UTC))


def _epoch_time(field: str, value: Any, number: int) -> datetime:
    # Seconds stay below 1e11 until the year 5138, milliseconds have been above it since 1973.
    ms = number * 1000 if number < 10**11 else number
    if ms >= 10**14:
        raise InputError(field, value, "is neither seconds nor milliseconds since 1970")
    return _plausible(field, value, _EPOCH + timedelta(milliseconds=ms))


def _plausible(field: str, value: Any, moment: datetime) -> datetime:
    if moment < _EARLIEST:
        raise InputError(field, value, "lies before 2009, when there was no market")
    return moment


def _not_a_time(field: str, value: Any) -> NoReturn:
    raise InputError(field, value, "must be a time: ISO 8601 with zone, or seconds or milliseconds since 1970")


def _number(field: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InputError(field, value, "must be a number")
    spelled = str(value).strip()
    if not _NUMBER.fullmatch(spelled):
        raise InputError(field, value, "must be a plain finite number")
    try:
        return Decimal(spelled)
    except InvalidOperation:
        raise InputError(field, value, "must be a number") from None


def _price(fields: dict[str, Any], name: str) -> Decimal:
    spelling, value = _take(fields, name)
    number = _number(spelling, value)
    if not _SMALLEST <= number < _LARGEST:
        raise InputError(spelling, value, "a price must be above zero and below 1e18")
    return number


def _volume(fields: dict[str, Any]) -> Decimal | None:
    spelling = next((s for s in FIELDS["volume"] if s in fields), None)
    value = None if spelling is None else fields[spelling]
    is_bare_word = isinstance(value, _Undefined)
    if spelling is None or value is None or (isinstance(value, str) and value.strip().lower() in _UNDEFINED and not is_bare_word):
        return None
    number = _number(spelling, value)
    if number != 0 and not _SMALLEST <= number < _LARGEST:
        raise InputError(spelling, value, "a volume must be zero or above, and below 1e18")
    return number


def _check_order(fields: dict[str, Any], opened: Decimal, high: Decimal, low: Decimal, close: Decimal) -> None:
    if high < low:
        raise InputError(_take(fields, "high")[0], high, f"is below the low {low}")
    for name, value in (("open", opened), ("close", close)):
        if not low <= value <= high:
            raise InputError(_take(fields, name)[0], value, f"lies outside low..high ({low}..{high})")


def _without(secret: str, error: InputError) -> InputError:
    shown = str(error.value).replace(secret, _HIDDEN) if secret in str(error.value) else error.value
    return type(error)(error.field, shown, error.reason, error.allowed)
