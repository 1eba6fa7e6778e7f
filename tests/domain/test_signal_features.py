"""Features of signals count what was known at each bar's close, and nothing that came later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from altforecast.bar_grid import BarGrid, bar_grid
from altforecast.errors import InputError
from altforecast.feature_table import BAR_COLUMNS, FEATURE_NAMES, FEATURES, SIGNAL_COLUMNS
from altforecast.forecast_features import build_features, feature_frame
from altforecast.forecast_params import feature_params
from altforecast.look_ahead import Columns, changed_columns
from altforecast.nearest_levels import nearest_levels
from altforecast.signal_features import SignalFrames, signal_columns
from altforecast.table_schema import TS
from altforecast.types import Timeframe
from tests.domain.forecast_panel import START_MS, panel
from tests.domain.signal_world import signal_world

HOUR, DAY = 3_600_000, 86_400_000
BARS = panel(60)
GRID = bar_grid(BARS, Timeframe.H1)
SIGNALS = signal_world(BARS)
CUT = START_MS + 45 * DAY
NAMES = {column.name for column in SIGNAL_COLUMNS}
Leak = Callable[[SignalFrames], SignalFrames]


def columns(bars: pl.DataFrame, leak: Leak = lambda s: s) -> Columns:
    grid = bar_grid(bars, Timeframe.H1)
    matrix = build_features(grid, signals=leak(signal_world(bars)))
    return {"ts": grid.ts, **{name: matrix.values[:, :, i] for i, name in enumerate(matrix.names)}}


def of(grid: BarGrid, **frames: pl.DataFrame) -> dict[str, np.ndarray]:
    """Signal columns of hand-made frames, broadcast to the grid."""
    shape = len(grid.ts), len(grid.series)
    return {name: np.broadcast_to(v, shape) for name, v in signal_columns(grid, SignalFrames(**frames), slice(0, None))}


def small_grid(bars: int = 300, symbols: tuple[str, ...] = ("BTC-USDT", "ETH-USDT"), close: float = 100.0) -> BarGrid:
    shape = (bars, len(symbols))
    ts = START_MS + HOUR * np.arange(bars, dtype=np.int64)
    flat = np.full(shape, close)
    return BarGrid(Timeframe.H1, ts, ts + HOUR, tuple((s, "binance") for s in symbols), flat, flat, flat, flat, flat)


def closes_at(bar: int, late_ms: int = 0) -> int:
    """The close of a bar of the small grid [ms]."""
    return START_MS + (bar + 1) * HOUR + late_ms


def frame(rows: list[dict[str, Any]], *times: str) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col(times or ("ts", "known_at")).cast(TS))


# ---- the whole matrix


def test_build_features_gives_exactly_the_columns_of_the_table() -> None:
    for signals in (None, SIGNALS):
        matrix = build_features(GRID, 48, signals)
        assert matrix.names == FEATURE_NAMES
        rows = feature_frame(GRID, matrix)
        assert rows.schema == FEATURES.schema
        assert rows.height == BARS.filter(pl.col("ts").dt.epoch("ms") >= GRID.ts[-48]).height
    assert len(set(FEATURE_NAMES)) == len(BAR_COLUMNS) + len(SIGNAL_COLUMNS) == 111
    assert all(c.dtype == pl.Float32 and c.nullable and c.unit and c.meaning for c in (*BAR_COLUMNS, *SIGNAL_COLUMNS))


def test_build_features_without_signals_leave_their_columns_missing() -> None:
    empty = SignalFrames(*(getattr(SIGNALS, name).clear() for name in SignalFrames.__dataclass_fields__))
    for signals in (None, SignalFrames(), empty):
        values = build_features(GRID, 5, signals).values
        assert np.isnan(values[:, :, len(BAR_COLUMNS) :]).all()
        assert not np.isnan(values[-1, 0, : len(BAR_COLUMNS)]).any()


def test_build_features_with_signals_are_known_and_finite() -> None:
    values = build_features(GRID, 20 * 24, SIGNALS).values
    assert not np.isinf(values).any()
    share = dict(zip(FEATURE_NAMES, (~np.isnan(values)).mean(axis=(0, 1)), strict=True))
    assert all(name.startswith("level_") for name in NAMES if share[name] < 0.5)


@pytest.mark.parametrize("hours", [0, 61, 167])
def test_no_column_sees_the_future(hours: int) -> None:
    assert changed_columns(columns, BARS, CUT + hours * HOUR, np.random.default_rng(hours)) == {}


def test_every_signal_column_depends_on_the_bars_before() -> None:
    """A column that never moves would pass the test above for the wrong reason."""
    found = changed_columns(lambda b: {**columns(b), "ts": columns(b)["ts"] - 10 * DAY}, BARS, CUT, np.random.default_rng(1))
    assert NAMES - set(found) == set()


def test_signal_columns_month_by_month_equal_those_at_once() -> None:
    bars = panel(80)
    grid, signals = bar_grid(bars, Timeframe.H1), signal_world(bars)
    whole = build_features(grid, signals=signals).values
    back = feature_params(Timeframe.H1).lookback_bars + 1
    for first, last in ((34 * 24, 41 * 24), (59 * 24 + 7, 66 * 24), (73 * 24, 80 * 24)):
        begin, end = (pl.lit(int(START_MS + at * HOUR)).cast(TS) for at in (first - back, last))
        part = bar_grid(bars.filter(pl.col("ts").is_between(begin, end, closed="left")), Timeframe.H1)
        read = {n: f.filter((pl.col("known_at") > begin) & (pl.col("ts") < end)) for n, f in vars(signals).items()}
        short = build_features(part, last - first, SignalFrames(**read)).values
        for at, name in enumerate(FEATURE_NAMES):
            np.testing.assert_allclose(short[:, :, at], whole[first:last, :, at], rtol=1e-3, atol=1e-4, err_msg=name)


# ---- injected leaks


def _moved(name: str, **columns: pl.Expr) -> Leak:
    return lambda s: replace(s, **{name: getattr(s, name).with_columns(**columns)})


def _survivors(s: SignalFrames) -> SignalFrames:
    confirmed = s.divergences.filter(pl.col("status") == "confirmed")  # type: ignore[union-attr]
    return replace(s, divergences=s.divergences.join(confirmed, on="id", how="semi"))  # type: ignore[union-attr]


HOURS8 = pl.duration(hours=8)
CONTEXT = "fear_greed|btc_dominance|total_market_cap"
_RATE = pl.col("funding_rate")
LEAKS: dict[str, tuple[str, Leak]] = {
    "divergence joined by its second pivot": ("divergence", _moved("divergences", known_at=pl.col("p2_ts"), active_at=pl.col("p2_ts"))),
    "end of a divergence known at its start": ("divergence", _moved("divergences", known_at=pl.col("active_at"))),
    "only divergences that will be confirmed": ("divergence", _survivors),
    "level joined by its first touch": ("level", _moved("levels", known_at=pl.col("first_touch_ts"))),
    "levels as they look at the end": ("level", _moved("levels", price=pl.col("price").last().over("id"))),
    "indicators of the next bar": ("", _moved("indicators", ts=pl.col("ts") - pl.duration(hours=1), known_at=pl.col("ts"))),
    "regime of two hours later": ("regime", _moved("regime", known_at=pl.col("known_at") - pl.duration(hours=2))),
    "regime smoothed around its hour": ("regime", _moved("regime", score=pl.col("score").rolling_mean(5, center=True))),
    "regime scaled by the whole sample": ("regime", _moved("regime", z_total3=pl.col("z_total3") / pl.col("z_total3").std())),
    "sentiment joined by its day": (CONTEXT, _moved("market_context", known_at=pl.col("ts") - pl.duration(days=1))),
    "market cap filled backward": (
        CONTEXT, _moved("market_context", value=pl.col("value").shift(-1).over("name").fill_null(pl.col("value")))),
    "funding of the next settlement": ("funding", _moved("funding_rates", known_at=pl.col("known_at") - HOURS8)),
    "funding scaled by the whole sample": ("funding", _moved("funding_rates", funding_rate=_RATE - _RATE.mean())),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_changed_columns_catches_leaks_through_signals(name: str) -> None:
    prefix, leak = LEAKS[name]
    for hours in range(0, 96, 7):  # a leak of five hours shows only where something happens within them
        found = changed_columns(lambda b: columns(b, leak), BARS, CUT + hours * HOUR, np.random.default_rng(hours))
        if found:
            break
    assert found
    assert set(found) <= {n for n in NAMES if any(part in n for part in prefix.split("|"))}


# ---- divergences


def _event(event: str, status: str, bar: int, active_bar: int, kind: str = "regular_bullish", symbol: str = "BTC-USDT") -> dict[str, Any]:
    return {"symbol": symbol, "exchange": "binance", "timeframe": "1h", "id": event, "kind": kind, "status": status,
            "active_at": closes_at(active_bar), "known_at": closes_at(bar)}  # fmt: skip


def test_divergence_columns_count_from_known_to_end() -> None:
    rows = [_event("a", "active", 10, 10), _event("a", "confirmed", 20, 10), _event("b", "active", 12, 12, "hidden_bearish"),
            _event("c", "active", 5, 5, symbol="SOL-USDT")]  # fmt: skip
    found = of(small_grid(), divergences=frame(rows, "active_at", "known_at"))
    active, confirmed, age = (found[f"divergence_{n}"][:, 0] for n in ("active_bullish", "confirmed_bullish_day", "bars_bullish"))
    assert np.isnan(active[:10]).all()
    assert active[10:22].tolist() == [1.0] * 10 + [0.0, 0.0]
    assert confirmed[18:46].tolist() == [0.0] * 2 + [1.0] * 24 + [0.0] * 2
    assert age[10:13].tolist() == [0.0, 1.0, 2.0]
    assert age[178] == 168.0
    assert np.isnan(age[179])
    bearish = found["divergence_active_bearish"][:, 0]
    assert bearish[[11, 12, 179, 180]].tolist() == [0.0, 1.0, 1.0, 0.0]  # never ended: not counted beyond a week
    assert np.isnan(found["divergence_active_bullish"][:, 1]).all()  # nothing was ever known of ETH


def test_divergence_columns_need_only_the_end_of_an_event() -> None:
    """Where the rows begin in the middle of an event, its end says when it began."""
    found = of(small_grid(), divergences=frame([_event("a", "invalidated", 20, -30)], "active_at", "known_at"))
    assert np.isnan(found["divergence_active_bullish"][19, 0])
    assert found["divergence_active_bullish"][20, 0] == 0.0
    assert found["divergence_bars_bullish"][20, 0] == 50.0


def test_divergence_columns_ignore_other_timeframes() -> None:
    rows = frame([_event("a", "active", 10, 10)], "active_at", "known_at").with_columns(timeframe=pl.lit("15m"))
    assert np.isnan(of(small_grid(), divergences=rows)["divergence_active_bullish"]).all()


# ---- levels and indicators


def _level(level: str, event: str, bar: int, price: float, touches: int = 1, late_ms: int = 0) -> dict[str, Any]:
    return {"symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h", "id": level, "event": event, "price": price,
            "n_touches": touches, "last_touch_ts": closes_at(bar) - HOUR, "known_at": closes_at(bar, late_ms)}  # fmt: skip


def _indicators(grid: BarGrid, atr: float | None = 2.0) -> pl.DataFrame:
    rows = [{"ts": int(t), "symbol": "BTC-USDT", "exchange": "binance", "timeframe": "1h", "atr_14": atr, "adx_14": 25.0, "macd_hist": 1.0,
             "ema_20": 99.0, "ema_50": 104.0, "known_at": int(t) + HOUR} for t in grid.ts]  # fmt: skip
    return frame(rows)


def test_level_columns_give_the_nearest_live_levels() -> None:
    grid = small_grid()
    rows = [_level("a", "opened", 10, 110.0), _level("b", "opened", 20, 106.0, 4), _level("b", "evicted", 30, 106.0, 4),
            _level("c", "opened", 10, 100.0, 2), _level("d", "opened", 12, 90.0), _level("e", "opened", 40, 102.0, late_ms=1)]  # fmt: skip
    found = {k: v[:, 0] for k, v in of(grid, levels=frame(rows, "last_touch_ts", "known_at"), indicators=_indicators(grid)).items()}
    assert np.isnan(found["level_above_distance"][9])
    assert found["level_above_distance"][[10, 20, 29, 30, 40, 41]].tolist() == [5.0, 3.0, 3.0, 5.0, 5.0, 1.0]
    assert found["level_above_touches"][20] == 4.0
    assert found["level_below_distance"][[10, 50]].tolist() == [0.0, 0.0]
    assert found["level_below_touches"][50] == 2.0
    assert found["level_below_strength"][60] == pytest.approx(2 * 0.5 ** (50 / 500))


def test_level_columns_forget_levels_without_a_row_for_a_month() -> None:
    grid = small_grid(800)
    found = of(grid, levels=frame([_level("a", "opened", 10, 110.0)], "last_touch_ts", "known_at"), indicators=_indicators(grid))
    assert found["level_above_distance"][754, 0] == 5.0
    assert np.isnan(found["level_above_distance"][755, 0])


def test_indicator_columns_are_in_atr() -> None:
    grid = small_grid()
    found = of(grid, indicators=_indicators(grid))
    assert [found[n][5, 0] for n in ("adx", "macd_hist", "ema_20_distance", "ema_50_distance")] == [0.25, 0.5, 0.5, -2.0]
    assert np.isnan(found["adx"][:, 1]).all()
    for atr in (0.0, None):
        flat = of(grid, indicators=_indicators(grid, atr))
        assert np.isnan(flat["macd_hist"]).all()
        assert flat["adx"][5, 0] == 0.25


def test_indicator_columns_leave_out_rows_that_came_after_their_bar() -> None:
    grid = small_grid()
    late = _indicators(grid).with_columns(pl.col("known_at") + pl.duration(milliseconds=1))
    assert np.isnan(of(grid, indicators=late)["adx"]).all()


@pytest.mark.parametrize("seed", range(5))
def test_nearest_levels_equal_a_plain_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, bars, first, max_age = 60, 50, 7, 12
    closes = np.where(rng.random(bars) < 0.1, np.nan, rng.normal(100, 5, bars))
    slots, levels = np.sort(rng.integers(-5, bars + 5, n)), rng.integers(0, 9, n)
    values = np.column_stack([rng.normal(100, 5, n), rng.integers(1, 9, n), slots]).astype(float)
    is_end = rng.random(n) < 0.1
    found = nearest_levels(closes, slots, levels, values, is_end, 9, first, max_age)
    for bar in range(first, bars):
        seen = [max((r for r in range(n) if levels[r] == k and slots[r] <= bar), default=None) for k in range(9)]
        over = {levels[r] for r in range(n) if is_end[r] and slots[r] <= bar}
        live = [values[r] for k, r in enumerate(seen) if r is not None and k not in over and bar - slots[r] <= max_age]
        for side, mine in ((0, [v for v in live if v[0] > closes[bar]]), (1, [v for v in live if v[0] <= closes[bar]])):
            best = min(mine, key=lambda v: abs(v[0] - closes[bar]), default=np.full(3, np.nan))
            np.testing.assert_array_equal(found[bar - first, side], best)


# ---- regime and market context


def _hours(states: list[str], first: int = 0) -> pl.DataFrame:
    z = dict.fromkeys(("z_total3", "z_total2", "z_btc_d", "z_usdt_d", "z_ethbtc"), 0.5)
    return frame([{"ts": closes_at(first + i) - HOUR, "score": 0.1 * i, "state": s, **z, "known_at": closes_at(first + i)}
                  for i, s in enumerate(states)])  # fmt: skip


def test_regime_columns_hold_the_newest_state_for_three_hours() -> None:
    found = of(small_grid(), regime=_hours(["neutral"] * 5 + ["risk_on"] * 5 + ["risk_off"]))
    state, bars = found["regime_state"][:, 0], found["regime_bars"][:, 0]
    assert state[[0, 4, 5, 9, 10, 13]].tolist() == [0.0, 0.0, 1.0, 1.0, -1.0, -1.0]
    assert np.isnan(state[14])
    assert np.isnan(bars[:5]).all()  # began before the rows do
    assert bars[[5, 9, 10, 12]].tolist() == [0.0, 4.0, 0.0, 2.0]
    assert np.isnan(bars[14])
    assert found["regime_z_btc_d"][3, 1] == 0.5


def test_regime_bars_end_at_a_month() -> None:
    found = of(small_grid(900), regime=_hours(["risk_on"] * 900))
    assert np.isnan(found["regime_bars"][719, 0])
    assert found["regime_bars"][[720, 899], 0].tolist() == [720.0, 720.0]


def test_regime_columns_do_not_go_back_to_rows_that_came_late() -> None:
    rows = pl.concat([_hours(["risk_on"], 5), _hours(["risk_off"], 3).with_columns(known_at=pl.lit(closes_at(6)).cast(TS))])
    assert of(small_grid(), regime=rows)["regime_state"][[5, 6, 7], 0].tolist() == [1.0, 1.0, 1.0]


def test_context_columns_are_changes_of_what_was_known() -> None:
    rows = [{"ts": closes_at(24 * d), "name": n, "value": v * (1 + 0.01 * d), "known_at": closes_at(24 * d, 1)}
            for d in range(9) for n, v in (("fear_greed", 50.0), ("btc_dominance_pct", 60.0), ("total_market_cap_usd", 2e12))]  # fmt: skip
    found = {k: v[:, 0] for k, v in of(small_grid(), market_context=frame(rows)).items()}
    assert np.isnan(found["fear_greed"][0])  # known a millisecond after the close
    assert found["fear_greed"][[1, 24, 25]].tolist() == [50.0, 50.0, 50.5]
    assert found["btc_dominance_change_day"][25] == pytest.approx(0.6)
    assert found["total_market_cap_change_day"][49] == pytest.approx(np.log(1.02 / 1.01))
    assert np.isnan(found["fear_greed_change_week"][168])
    assert found["fear_greed_change_week"][169] == pytest.approx(3.5)
    assert not np.isnan(found["fear_greed"][240])
    assert np.isnan(found["fear_greed"][241])  # two days after the last reading


# ---- funding


def _settled(symbol: str, rates: list[float], exchange: str = "binance", hours: int | None = 8, first: int = 7) -> pl.DataFrame:
    step = hours or 8
    rows = [{"ts": closes_at(first + i * step), "symbol": symbol, "exchange": exchange, "funding_rate": r, "interval_h": hours,
             "known_at": closes_at(first + i * step, 60_000)} for i, r in enumerate(rates)]  # fmt: skip
    return frame(rows).with_columns(pl.col("interval_h").cast(pl.Int64))


def test_funding_columns_know_a_settlement_one_bar_later() -> None:
    found = {k: v[:, 0] for k, v in of(small_grid(), funding_rates=_settled("BTC-USDT-PERP", [1e-4, 2e-4, 6e-4])).items()}
    assert np.isnan(found["funding_rate"][7])
    assert found["funding_rate"][[8, 15, 16, 24]] == pytest.approx([1.0, 1.0, 2.0, 6.0])
    assert found["funding_mean_day"][[8, 16, 24]] == pytest.approx([1.0, 1.5, 3.0])
    assert np.isnan(found["funding_rate"][48])  # a day after the last one
    assert np.isnan(found["market_funding"]).all()  # fewer than three series
    assert np.isnan(found["funding_z"]).all()


def test_funding_is_given_for_eight_hours() -> None:
    found = of(small_grid(), funding_rates=_settled("BTC-USDT-PERP", [1e-4] * 3, hours=2))
    assert found["funding_rate"][10, 0] == pytest.approx(4.0)
    assert of(small_grid(), funding_rates=_settled("BTC-USDT-PERP", [1e-4], hours=None))["funding_rate"][10, 0] == pytest.approx(1.0)


def test_funding_comes_from_the_nearest_perpetual_that_is_fresh() -> None:
    frames = [_settled("BTC-USDT-PERP", [1e-4]), _settled("BTC-USDT-PERP", [2e-4] * 9, "bybit"), _settled("1000PEPE-USDT-PERP", [3e-4]),
              _settled("ETH-USDC-PERP", [5e-4]), _settled("ETH-USDT-PERP", [4e-4])]  # fmt: skip
    found = of(small_grid(symbols=("BTC-USDT", "ETH-USDT", "PEPE-USDT")), funding_rates=pl.concat(frames))
    assert found["funding_rate"][10] == pytest.approx([1.0, 4.0, 3.0])
    assert found["market_funding"][10, 0] == pytest.approx(8.0 / 3)
    assert found["funding_rate"][40, 0] == pytest.approx(2.0)  # binance is a day old, bybit is not


def test_funding_z_is_over_thirty_days() -> None:
    rates = [1e-4, 3e-4] * 15 + [5e-4]
    found = of(small_grid(), funding_rates=_settled("BTC-USDT-PERP", rates))
    bps = 1e4 * np.array(rates)
    assert found["funding_z"][8 + 30 * 8, 0] == pytest.approx((5.0 - bps.mean()) / bps.std())
    assert np.isnan(found["funding_z"][8 + 18 * 8, 0])
    flat = of(small_grid(), funding_rates=_settled("BTC-USDT-PERP", [1e-4] * 30))
    assert flat["funding_z"][8 + 29 * 8, 0] == pytest.approx(0.0, abs=1e-5)


def test_signal_columns_refuse_timeframes_without_forecasts() -> None:
    grid = replace(small_grid(), timeframe=Timeframe.D1)
    with pytest.raises(InputError, match="no forecasts"):
        next(signal_columns(grid, SignalFrames(), slice(0, None)))
