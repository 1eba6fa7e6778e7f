"""Alert bodies of TradingView: what is accepted, what is refused and how it is said.

What belongs here: `altforecast_io.sources.tradingview`. What does not: HTTP and storage.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from altforecast.errors import AltForecastError, InputError, UnknownNameError
from altforecast.types import Metric, Series, Timeframe
from altforecast_io.sources.tradingview import Alert, BodyTooLargeError, TokenError, check_token, decimal_text, parse_alert

SECRET = "correct-horse-battery"
OPEN = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = OPEN + timedelta(hours=4)
MS = int(OPEN.timestamp() * 1000)
BODY: dict[str, Any] = {
    "v": 1, "token": SECRET, "symbol": "CRYPTOCAP:USDT.D", "tf": "240", "t": MS, "tc": MS + 14_400_000,
    "o": "4.61", "h": "4.70", "l": "4.58", "c": "4.66", "vol": None, "src": "pine6",
}  # fmt: skip


def parse(body: bytes | str, path_token: str | None = None, now: datetime = NOW, **changes: Any) -> Alert:
    raw = body if isinstance(body, bytes) else body.encode()
    return parse_alert(raw, secret=SECRET, path_token=path_token, now=now, tv_btc_symbol="BINANCE:BTCUSDT", **changes)


def changed(**fields: Any) -> str:
    return json.dumps({k: v for k, v in {**BODY, **fields}.items() if v != "<absent>"})


def refused(body: bytes | str, path_token: str | None = None, **changes: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        parse(body, path_token, **changes)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.value)
    return caught.value


def test_parse_alert_payload_version_1() -> None:
    alert = parse(changed())
    assert (alert.metric, alert.series, alert.timeframe) == (Metric.USDT_D, Series("cryptocap", "USDT.D"), Timeframe.H4)
    assert (alert.ts, alert.received_at) == (OPEN, NOW)
    assert (alert.open, alert.high, alert.low, alert.close) == (Decimal("4.61"), Decimal("4.70"), Decimal("4.58"), Decimal("4.66"))
    assert alert.volume is None
    assert SECRET not in alert.raw
    assert json.loads(alert.raw)["src"] == "pine6"


@pytest.mark.parametrize("symbol", ["CRYPTOCAP:BTC.D", "CRYPTOCAP:TOTAL2", "CRYPTOCAP:TOTAL3", "BINANCE:BTCUSDT", "BINANCE:ETHBTC"])
def test_parse_alert_every_documented_symbol(symbol: str) -> None:
    expected = {"BTC.D": Metric.BTC_D, "TOTAL2": Metric.TOTAL2, "TOTAL3": Metric.TOTAL3, "BTCUSDT": Metric.BTC, "ETHBTC": Metric.ETHBTC}
    assert parse(changed(symbol=symbol)).metric is expected[symbol.split(":")[1]]


@pytest.mark.parametrize(
    ("spelling", "timeframe"),
    [("15", "15m"), ("15m", "15m"), ("60", "1h"), ("60m", "1h"), ("1h", "1h"), ("1H", "1h"), ("240", "4h"), ("4h", "4h"), ("4H", "4h"),
     ("D", "1d"), ("1D", "1d"), ("1d", "1d"), ("24h", "1d"), ("1440", "1d"), (60, "1h")],
)  # fmt: skip
def test_parse_alert_every_interval_spelling(spelling: Any, timeframe: str) -> None:
    midnight = OPEN.replace(hour=0)
    body = changed(tf=spelling, t=int(midnight.timestamp() * 1000), tc="<absent>")
    assert parse(body, now=midnight + timedelta(days=1)).timeframe == timeframe


@pytest.mark.parametrize("time", [MS, str(MS), MS // 1000, str(MS // 1000), "2026-01-01T12:00:00Z", "2026-01-01T13:00:00+01:00"])
def test_parse_alert_every_time_spelling(time: Any) -> None:
    assert parse(changed(t=time)).ts == OPEN


def test_parse_alert_placeholder_json() -> None:
    body = json.dumps(
        {"ticker": "USDT.D", "exchange": "CRYPTOCAP_DLY", "interval": "240", "time": "2026-01-01T12:00:00Z", "open": "4.61",
         "high": "4.7", "low": 4.58, "close": 4.66, "volume": "n/a"}
    )  # fmt: skip
    alert = parse(body, SECRET)
    assert alert.series == Series("cryptocap", "USDT.D")
    assert alert.close == Decimal("4.66")
    assert alert.content_hash == parse(changed()).content_hash


def test_parse_alert_key_value_text() -> None:
    body = f"symbol=CRYPTOCAP:USDT.D tf=240 time=2026-01-01T12:00:00Z o=4.61 h=4.70, l=4.58; c=4.66\nvol=NaN token={SECRET}"
    alert = parse(body)
    assert alert.content_hash == parse(changed()).content_hash
    assert SECRET not in alert.raw


def test_parse_alert_volume_kept_exactly() -> None:
    alert = parse(changed(symbol="BINANCE:BTCUSDT", o=95000, h=95100.5, l="94000.00000001", c=95000, vol="1250.123456789012345678"))
    assert alert.volume == Decimal("1250.123456789012345678")
    assert alert.low == Decimal("94000.00000001")
    assert alert.high == Decimal("95100.5")


@pytest.mark.parametrize("field", ["o", "h", "l", "c"])
@pytest.mark.parametrize(
    "value", ["NaN", "nan", "Infinity", "-Infinity", "", "n/a", None, True, [1], "1e999", "-4.6", "0", "1" * 40, "0x10"]
)
def test_parse_alert_price_refused(field: str, value: Any) -> None:
    error = refused(changed(**{field: value}))
    assert error.field == field


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ["c", "vol"])
def test_parse_alert_bare_word_refused(word: str, field: str) -> None:
    body = changed(**{field: "@"}).replace('"@"', word)
    assert refused(body).field == field


@pytest.mark.parametrize("value", [None, "", "na", "n/a", "NaN", "null"])
def test_parse_alert_undefined_volume_is_none(value: Any) -> None:
    assert parse(changed(vol=value)).volume is None


@pytest.mark.parametrize("value", ["-1", "Infinity", "much", {}])
def test_parse_alert_volume_refused(value: Any) -> None:
    assert refused(changed(vol=value)).field == "vol"


def test_parse_alert_high_below_low() -> None:
    assert refused(changed(h="4.5", l="4.6")).field == "h"


@pytest.mark.parametrize("field", ["o", "c"])
@pytest.mark.parametrize("value", ["4.71", "4.57"])
def test_parse_alert_price_outside_range(field: str, value: str) -> None:
    assert refused(changed(**{field: value})).field == field


def test_parse_alert_unknown_symbol_lists_known() -> None:
    error = refused(changed(symbol="BINANCE:ETHUSD"))
    assert isinstance(error, UnknownNameError)
    assert "CRYPTOCAP:TOTAL3" in error.allowed
    assert error.value == "BINANCE:ETHUSD"


@pytest.mark.parametrize("timeframe", ["1", "5", "1M", "W", "3h", "", None, {}])
def test_parse_alert_unknown_timeframe_lists_known(timeframe: Any) -> None:
    error = refused(changed(tf=timeframe))
    assert error.field == "tf"
    assert error.allowed == ("15m", "1h", "4h", "1d")


def test_parse_alert_interval_1_says_why() -> None:
    assert "indicator alert" in refused(changed(tf="1")).reason


@pytest.mark.parametrize(
    "time", [MS + 60_000, "yesterday", "2026-01-01T12:00:00", 12, True, None, [], MS * 1000, "1999-01-01T00:00:00Z", -MS]
)
def test_parse_alert_time_refused(time: Any) -> None:
    assert refused(changed(t=time, tc="<absent>")).field == "t"


def test_parse_alert_future_bar() -> None:
    assert "future" in refused(changed(), now=OPEN - timedelta(hours=5)).reason


def test_parse_alert_unclosed_bar() -> None:
    assert "not closed" in refused(changed(), now=NOW - timedelta(seconds=6)).reason


def test_parse_alert_clock_skew_allowed() -> None:
    assert parse(changed(), now=NOW - timedelta(seconds=5)).ts == OPEN


def test_parse_alert_late_bar_accepted() -> None:
    assert parse(changed(), now=NOW + timedelta(days=30)).ts == OPEN


def test_parse_alert_close_time_contradicts_timeframe() -> None:
    assert refused(changed(tc=MS + 3_600_000)).field == "tc"


def test_parse_alert_unknown_version() -> None:
    assert refused(changed(v=2)).field == "v"


@pytest.mark.parametrize(("field", "named"), [("o", "open"), ("symbol", "symbol"), ("tf", "timeframe"), ("t", "ts"), ("c", "close")])
def test_parse_alert_missing_field_is_named(field: str, named: str) -> None:
    assert refused(changed(**{field: "<absent>"})).field == named


@pytest.mark.parametrize(
    "body",
    [b"", b"   ", b"[]", b'"text"', b"{", b'{"o":1,"o":2}', b"\xff\xfe{\x00}\x00", changed().encode("utf-16"), b"just words",
     b'{"a":' * 1500,  b"symbol=\x00", b'{"o": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_parse_alert_body_refused(body: bytes) -> None:
    refused(body, SECRET)


def test_parse_alert_too_large() -> None:
    with pytest.raises(BodyTooLargeError):
        parse(b" " * 8193)


@pytest.mark.parametrize("token", ["wrong", "", "correct-horse-batter", None, 7, {}])
def test_parse_alert_wrong_secret(token: Any) -> None:
    with pytest.raises(TokenError) as caught:
        parse(changed(token=token))
    assert SECRET not in str(caught.value)


def test_parse_alert_missing_secret() -> None:
    with pytest.raises(TokenError):
        parse(changed(token="<absent>"))


def test_parse_alert_wrong_path_token_wins_over_right_body() -> None:
    with pytest.raises(TokenError):
        parse(changed(), "wrong")


def test_parse_alert_right_path_token_does_not_excuse_wrong_body() -> None:
    with pytest.raises(TokenError):
        parse(changed(token="wrong"), SECRET)


def test_parse_alert_secret_in_another_field_is_hidden() -> None:
    assert SECRET not in parse(changed(src=f"by {SECRET}")).raw
    refused(changed(symbol=SECRET))


def test_check_token_empty_secret_opens_nothing() -> None:
    with pytest.raises(TokenError):
        check_token("", "")


def test_content_hash_ignores_spelling_but_not_value() -> None:
    same = parse(changed(o=4.61, h="4.7000"))
    assert same.content_hash == parse(changed()).content_hash
    assert parse(changed(vol="0")).content_hash != same.content_hash


@pytest.mark.parametrize(("value", "text"), [("4.70", "4.7"), ("100", "100"), ("1E+2", "100"), ("0.00", "0"), ("1E-8", "0.00000001")])
def test_decimal_text_is_plain_and_short(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


def test_parse_alert_bodies_seen_in_public(real_data: Path) -> None:
    """Four published alert bodies: none is a bar of ours; each is refused by name, none crashes."""
    fixture = json.loads((real_data / "fixtures/tradingview/alert_bodies.json").read_text())
    fields = []
    for entry in fixture["bodies"]:
        body = json.loads(entry["body"]) if entry["body"].startswith("{") else entry["body"]
        if isinstance(body, dict):
            body.pop("secret", None)
        fields.append(refused(json.dumps(body) if isinstance(body, dict) else body, SECRET).field)
    assert fields == ["timeframe", "open", "ticker", "symbol"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(list(BODY)), json_values, max_size=4))
def test_parse_alert_never_fails_otherwise(fields: dict[str, Any]) -> None:
    """Whatever a field holds, the answer is a bar or one of our errors."""
    try:
        alert = parse(json.dumps({**BODY, **fields}))
    except AltForecastError:
        return
    assert alert.low <= alert.open <= alert.high
    alert.raw.encode()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_parse_alert_any_bytes(body: bytes) -> None:
    with pytest.raises(AltForecastError):
        parse(body, SECRET)
