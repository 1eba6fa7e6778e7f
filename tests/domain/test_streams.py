"""The delivery ledger: what is expected, and how each stream is judged.

What belongs here: `altforecast.streams`. What does not: counting deliveries in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from altforecast.streams import InLake, Received, StreamState, StreamStatus, delivery_ledger, expected_streams, ledger_start, presence
from altforecast.types import Metric, Series, Timeframe

NOW = datetime(2026, 11, 21, 10, 5, tzinfo=UTC)
H = timedelta(hours=1)
LAST = datetime(2026, 11, 21, 9, tzinfo=UTC)
BTC = Series("binance", "BTC-USDT")
DOMINANCE = Series("cryptocap", "BTC.D")


def got(opens: Iterable[datetime]) -> Received:
    found = frozenset(opens)
    return Received(len(found), 0, 0, NOW, found)


def hours(*ago: int) -> set[datetime]:
    """Opens of the hours before the last closed one (0 is the last closed)."""
    return {LAST - n * H for n in ago}


def line(series: Series, opens: Iterable[datetime], filled: Iterable[datetime] = (), now: datetime = NOW) -> StreamStatus:
    key = (series, Timeframe.H1)
    received = {key: got(opens)} if opens else {}
    found = delivery_ledger(received, {key: InLake(frozenset(), frozenset(filled))}, now)
    return next(s for s in found if (s.series, s.timeframe) == key)


def test_expected_streams_six_metrics_on_four_timeframes() -> None:
    streams = expected_streams()
    assert len(streams) == 24
    assert {metric for metric, _, _ in streams} == set(Metric)
    assert {tf.value for _, _, tf in streams} == {"15m", "1h", "4h", "1d"}


def test_expected_streams_btc_from_another_venue() -> None:
    series = {s for metric, s, _ in expected_streams("COINBASE:BTCUSD") if metric is Metric.BTC}
    assert series == {Series("coinbase", "BTC-USD")}


def test_delivery_ledger_of_nothing_is_never_seen() -> None:
    ledger = delivery_ledger({}, {}, NOW)
    assert len(ledger) == 24
    assert {s.state for s in ledger} == {StreamState.NEVER_SEEN}
    assert all(s.newest_ts is None and s.missing == () and s.expected_next_at > NOW for s in ledger)


def test_delivery_ledger_all_delivered_is_on_time() -> None:
    found = line(BTC, hours(0, 1, 2))
    assert (found.state, found.n_expected, found.missing) == (StreamState.ON_TIME, 3, ())
    assert found.newest_ts == LAST
    assert found.expected_next_at == LAST + 2 * H
    assert found.n_received == 3


def test_delivery_ledger_newest_within_its_grace_is_on_time() -> None:
    found = line(BTC, hours(1, 2), now=LAST + H + timedelta(seconds=119))
    assert (found.state, found.missing) == (StreamState.ON_TIME, (LAST,))


def test_delivery_ledger_newest_after_its_grace_is_late() -> None:
    found = line(BTC, hours(1, 2), now=LAST + H + timedelta(seconds=120))
    assert found.state is StreamState.LATE
    assert found.expected_next_at == LAST + H


def test_delivery_ledger_hole_of_an_exchange_series_is_missing() -> None:
    found = line(BTC, hours(0, 1, 4))
    assert (found.state, found.missing) == (StreamState.MISSING, (LAST - 3 * H, LAST - 2 * H))
    assert found.is_repairable


def test_delivery_ledger_hole_of_an_index_series_is_flagged() -> None:
    found = line(DOMINANCE, hours(0, 2))
    assert (found.state, found.missing, found.is_repairable) == (StreamState.FLAGGED, (LAST - H,), False)


def test_delivery_ledger_filled_hole_is_repaired() -> None:
    found = line(BTC, hours(0, 3), filled=hours(1, 2))
    assert (found.state, found.missing, found.repaired) == (StreamState.REPAIRED, (), (LAST - 2 * H, LAST - H))


def test_delivery_ledger_half_filled_hole_is_still_missing() -> None:
    found = line(BTC, hours(0, 3), filled=hours(1))
    assert (found.state, found.missing, found.repaired) == (StreamState.MISSING, (LAST - 2 * H,), (LAST - H,))


def test_delivery_ledger_stream_that_stopped_long_ago() -> None:
    found = line(DOMINANCE, {LAST - 1000 * H})
    assert (found.state, len(found.missing), found.n_expected) == (StreamState.FLAGGED, 96, 96)
    assert found.newest_ts == LAST - 1000 * H


def test_delivery_ledger_history_alone_is_no_delivery() -> None:
    found = line(BTC, (), filled=hours(0, 1, 2))
    assert (found.state, found.newest_ts, found.missing) == (StreamState.NEVER_SEEN, LAST, ())


def test_delivery_ledger_does_not_ask_for_bars_before_the_first() -> None:
    assert line(BTC, hours(0), filled=hours(5, 6)).state is StreamState.ON_TIME


def test_delivery_ledger_delivered_and_filled_counts_as_delivered() -> None:
    assert line(BTC, hours(0, 1), filled=hours(0, 1)).repaired == ()


@pytest.mark.parametrize("timeframe", [Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1])
def test_ledger_start_is_the_open_of_a_closed_bar(timeframe: Timeframe) -> None:
    newest = ledger_start(NOW, timeframe, 1)
    assert newest + timeframe.duration <= NOW < newest + 2 * timeframe.duration
    assert ledger_start(NOW, timeframe, 3) == newest - 2 * timeframe.duration


def test_presence_tells_alerts_from_fillings() -> None:
    bars = pl.DataFrame(
        {"ts": [LAST, LAST - H, LAST], "symbol": ["BTC-USDT", "BTC-USDT", "BTC.D"], "exchange": ["binance", "binance", "cryptocap"],
         "timeframe": ["1h"] * 3, "source": ["tradingview", "ccxt", "import"]}
    )  # fmt: skip
    found = presence(bars)
    assert found[(BTC, Timeframe.H1)] == InLake(frozenset({LAST}), frozenset({LAST - H}))
    assert found[(DOMINANCE, Timeframe.H1)] == InLake(frozenset(), frozenset({LAST}))
    assert presence(bars.clear()) == {}
