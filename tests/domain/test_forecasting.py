"""Forecasts from a pack are those of the walk forward: same quantiles, no future, the same one by one, and a reason where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import numpy as np
import polars as pl
import pytest

from altforecast.bar_grid import BarGrid, bar_grid
from altforecast.errors import InputError
from altforecast.forecast_features import FeatureMatrix, build_features
from altforecast.forecast_packs import Pack
from altforecast.forecast_params import HORIZONS, MODELS, BoosterParams, FoldParams, ModelParams
from altforecast.forecast_tables import QUANTILES
from altforecast.forecast_training import train_baseline, train_candidate
from altforecast.forecasting import forecast_bars, renew_calibration, renewal_ts, warmup_bars
from altforecast.types import Timeframe
from altforecast.walk_forward import PastForecasts, Span, forecast_past
from tests.domain.forecast_panel import panel

HOUR, DAY = 3_600_000, 86_400_000
QUARTER = int(datetime(2023, 7, 1, tzinfo=UTC).timestamp() * 1000)
"""Packs are trained at this boundary."""
SMALL = BoosterParams(rounds=5, leaves=7, min_rows=200)
FEW = FoldParams(min_own_rows=500)
BARS = panel(194)
GRID = bar_grid(BARS, Timeframe.H1)
FEATURES = build_features(GRID)
LAST = int(GRID.ts[-1])


def params_of(horizon: str) -> ModelParams:
    return replace(MODELS[horizon], scale=SMALL, scale_own=SMALL, shape=SMALL, direction=SMALL, min_own_rows=1500, max_rows=4000)


def before(bars: pl.DataFrame, moment: int) -> BarGrid:
    return bar_grid(bars.filter(pl.col("ts").dt.epoch("ms") < moment), Timeframe.H1)


@dataclass(frozen=True)
class Made:
    """Packs of one horizon trained at the quarter, and the walk forward of the quarter."""

    past: PastForecasts
    model: Pack
    baseline: Pack


@cache
def packs(name: str) -> tuple[Pack, Pack]:
    """Model and baseline of one horizon, trained at the quarter."""
    old = before(BARS, QUARTER)
    model = train_candidate(old, build_features(old), name, QUARTER, params=params_of(name), fold_params=FEW).pack
    return model, train_baseline(old, name, QUARTER, fold_params=FEW).pack


@pytest.fixture(scope="module", params=["1h", "24h"])
def made(request: pytest.FixtureRequest) -> Made:
    name = request.param
    past = forecast_past(GRID, Span(HORIZONS[name][1], QUARTER), FEATURES, params_of(name), fold_params=FEW)
    return Made(past, *packs(name))


@pytest.fixture(scope="module")
def hourly() -> tuple[Pack, Pack]:
    """Model and baseline of 1h."""
    return packs("1h")


def calibrations(pack: Pack, grid: BarGrid, features: FeatureMatrix | None = None) -> pl.DataFrame:
    return pl.concat([renew_calibration(pack, grid, at, features) for at in range(QUARTER, int(grid.ts[-1]) + 1, DAY)])


def matrix(rows: pl.DataFrame, forecaster: str, grid: BarGrid, columns: tuple[str, ...] = QUANTILES) -> np.ndarray:
    """Values of one forecaster as (time since the quarter, series, columns)."""
    found = np.full((len(grid.ts[grid.ts >= QUARTER]), len(grid.series), len(columns)), np.nan)
    place = {name: n for n, name in enumerate(grid.series)}
    mine = rows.filter(pl.col("forecaster") == forecaster)
    at = ((mine["ts"].dt.epoch("ms") - QUARTER) // HOUR).to_numpy()
    found[at, [place[key] for key in mine.select("symbol", "exchange").iter_rows()]] = mine.select(columns).fill_null(np.nan).to_numpy()
    return found


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    """To single precision; quantiles near 0 to a millionth of the widest one beside them."""
    assert (np.isnan(found) == np.isnan(wanted)).all()
    assert (~np.isnan(found)).mean() > 0.95
    width = np.abs(wanted).max(axis=-1, keepdims=True)
    assert np.nanmax(np.abs(found - wanted) / width) < 1e-6


def test_forecast_bars_gives_the_quantiles_of_the_walk_forward(made: Made) -> None:
    """Trained at a quarter's start, calibrated daily and applied: what the evaluation says of this quarter."""
    champion = forecast_bars(made.model, GRID, QUARTER, calibrations(made.model, GRID, FEATURES), LAST, "champion", FEATURES)
    plain = forecast_bars(made.baseline, GRID, QUARTER, calibrations(made.baseline, GRID), LAST, "har")
    exists = ~np.isnan(GRID.close[GRID.ts >= QUARTER])[:, :, None]
    for rows, forecaster, name in ((champion, "champion", "mix"), (plain, "har", "har"), (plain, "climatology", "climatology")):
        assert_close(matrix(rows, forecaster, GRID), np.where(exists, made.past.quantiles[name], np.nan))
    assert made.past.p_up is not None
    assert made.past.p_base is not None
    said = np.stack([made.past.p_up, made.past.p_base, made.past.sigma["scale"]], axis=-1)
    assert_close(matrix(champion, "champion", GRID, ("p_up", "p_base", "sigma")), said)
    np.testing.assert_allclose(matrix(plain, "har", GRID, ("sigma",))[:, :, 0], made.past.sigma["har"], rtol=1e-6)


def test_forecast_bars_from_the_warm_up_alone_is_nearly_the_same(hourly: tuple[Pack, Pack]) -> None:
    """A grid that begins with the warm-up differs by rounding; where a float32 feature falls on the other side of a split, a leaf."""
    model, baseline = hourly
    cut = before(BARS.filter(pl.col("ts").dt.epoch("ms") >= QUARTER - (warmup_bars(Timeframe.H1) + 4) * HOUR), LAST + 1)
    for pack, role in ((model, "champion"), (baseline, "har")):
        whole = forecast_bars(pack, GRID, QUARTER, calibrations(pack, GRID, FEATURES), LAST, role, FEATURES)
        short = forecast_bars(pack, cut, QUARTER, calibrations(pack, cut), LAST, role)
        ratio = matrix(short, role, GRID)[:, :, 0] / matrix(whole, role, GRID)[:, :, 0]
        assert np.mean(np.abs(ratio - 1) < 1e-6) > 0.995
        np.testing.assert_allclose(ratio, 1, atol=0.02)


def test_forecast_bars_one_by_one_is_all_at_once(hourly: tuple[Pack, Pack]) -> None:
    for pack, role in zip(hourly, ("challenger", "har"), strict=True):
        daily = calibrations(pack, GRID, FEATURES)
        together = forecast_bars(pack, GRID, LAST - 29 * HOUR, daily, LAST, role, FEATURES)
        single = []
        for ts in range(LAST - 29 * HOUR, LAST + 1, HOUR):
            known = daily.filter(pl.col("ts").dt.epoch("ms") == renewal_ts(ts))
            grid = before(BARS, ts + HOUR)
            features = FeatureMatrix(FEATURES.names, FEATURES.values[: len(grid.ts)], grid.known_at)
            single.append(forecast_bars(pack, grid, ts, known, LAST, role, features))
        parts = pl.concat(single).sort(together.columns[:6])
        numbers = [name for name, dtype in together.schema.items() if dtype.is_float()]
        assert parts.drop(numbers).equals(together.sort(together.columns[:6]).drop(numbers))
        np.testing.assert_allclose(
            parts.select(numbers).to_numpy(), together.sort(together.columns[:6]).select(numbers).to_numpy(), rtol=1e-6, atol=1e-9
        )


def test_nothing_made_before_a_cut_changes_with_the_future(hourly: tuple[Pack, Pack]) -> None:
    cut = QUARTER + 8 * DAY
    rng = np.random.default_rng(1)
    late = pl.col("ts").dt.epoch("ms") >= cut
    noise = pl.Series(np.exp(rng.normal(0, 0.1, BARS.height)))
    changed = BARS.with_columns(
        pl.when(late).then(pl.col(c) * noise).otherwise(pl.col(c)) for c in ("open", "high", "low", "close", "volume")
    )
    for pack, role in zip(hourly, ("champion", "har"), strict=True):
        found = []
        for bars in (BARS, changed):
            grid = bar_grid(bars, Timeframe.H1)
            features = build_features(grid)
            daily = calibrations(pack, grid, features).filter(pl.col("ts").dt.epoch("ms") < cut)
            rows = forecast_bars(pack, grid, QUARTER, daily, LAST, role, features).filter(pl.col("ts").dt.epoch("ms") < cut)
            found.append((daily, rows))
        assert found[0][0].equals(found[1][0])
        assert found[0][1].equals(found[1][1])
        assert found[0][1]["reason"].null_count() > 500


def test_a_second_call_gives_the_same_rows(hourly: tuple[Pack, Pack]) -> None:
    model, _ = hourly
    first, again = (renew_calibration(model, GRID, QUARTER + DAY, FEATURES) for _ in range(2))
    assert first.equals(again)
    rows = [forecast_bars(model, GRID, LAST - 2 * HOUR, first, 7, "champion", FEATURES) for _ in range(2)]
    assert rows[0].equals(rows[1])
    assert rows[0]["calibrated_at"].dt.epoch("ms").unique().to_list() == [QUARTER + DAY]
    assert (rows[0]["target_ts"] - rows[0]["ts"]).unique().to_list() == [rows[0]["target_ts"][0] - rows[0]["ts"][0]]
    assert (rows[0]["target_ts"][0] - rows[0]["ts"][0]).total_seconds() == 7200, "open of the bar to the close of the next one"


def test_renew_calibration_counts_only_what_had_matured(hourly: tuple[Pack, Pack]) -> None:
    """The outcome of the newest bar of a day is known at its own close plus the horizon, not before."""
    _, baseline = hourly
    at = QUARTER + 2 * DAY
    whole, alone = renew_calibration(baseline, GRID, at), renew_calibration(baseline, before(BARS, at + HOUR), at)
    assert whole.equals(alone)
    pool = alone.filter((pl.col("symbol") == "*") & (pl.col("part") == "har")).row(0, named=True)
    own = alone.filter((pl.col("symbol") != "*") & (pl.col("part") == "har"))
    assert own["n_own"].sum() == pool["n_own"] == pool["n_pooled"]
    late = renew_calibration(baseline, GRID, at + HOUR).filter((pl.col("symbol") == "*") & (pl.col("part") == "har"))
    assert late["n_own"][0] == pool["n_own"] + 4, "one more hour of four series"
    assert alone["known_at"].dt.epoch("ms").unique().to_list() == [at + HOUR]


def test_renew_calibration_before_the_end_of_the_training(hourly: tuple[Pack, Pack]) -> None:
    """A pack trained in the afternoon calibrates the bars since midnight without the residuals of the day."""
    _, baseline = hourly
    early = renew_calibration(baseline, GRID, QUARTER - DAY)
    count = early.filter((pl.col("symbol") == "*") & (pl.col("part") == "har"))["n_own"][0]
    values = baseline.residuals.values["har"]
    assert count == (~np.isnan(values[baseline.residuals.ts <= QUARTER - DAY - HOUR])).sum()


def with_symbol(symbol: str, first: int, seed: int = 9) -> pl.DataFrame:
    """The bars with one more series that begins at `first`."""
    extra = panel(194, symbols=(symbol,), seed=seed).filter(pl.col("ts").dt.epoch("ms") >= first)
    return pl.concat([BARS, extra]).sort("symbol", "exchange", "ts")


def test_a_new_listing_takes_the_pool(hourly: tuple[Pack, Pack]) -> None:
    """50 bars old, unknown to the pack and to the calibration of the morning: forecast all the same, by the pooled parts."""
    first = LAST - 49 * HOUR
    grid = bar_grid(with_symbol("NEW-USDT", first), Timeframe.H1)
    for pack, role in zip(hourly, ("champion", "har"), strict=True):
        morning = renew_calibration(pack, GRID, renewal_ts(LAST))
        assert "NEW-USDT" not in morning["symbol"].to_list()
        rows = forecast_bars(pack, grid, LAST, morning, LAST, role).filter(
            (pl.col("symbol") == "NEW-USDT") & (pl.col("forecaster") == role)
        )
        assert rows["reason"].to_list() == [None]
        assert (np.diff(rows.select(QUANTILES).to_numpy()[0]) > 0).all()
        later = renew_calibration(pack, grid, renewal_ts(LAST)).filter(pl.col("symbol") == "NEW-USDT")
        pool = renew_calibration(pack, grid, renewal_ts(LAST)).filter(pl.col("symbol") == "*")
        assert later.select("part", *QUANTILES).equals(pool.select("part", *QUANTILES)), "fewer than 50 residuals of its own"


def test_a_series_too_young_says_how_many_bars_are_needed(hourly: tuple[Pack, Pack]) -> None:
    model, baseline = hourly
    grid = bar_grid(with_symbol("NEW-USDT", LAST - 4 * HOUR), Timeframe.H1)
    for pack, role in ((model, "champion"), (baseline, "har")):
        daily = renew_calibration(pack, grid, renewal_ts(LAST))
        rows = forecast_bars(pack, grid, LAST - 9 * HOUR, daily, LAST, role).filter(
            (pl.col("symbol") == "NEW-USDT") & (pl.col("forecaster") == role)
        )
        assert rows.height == 5, "none before its first bar"
        assert rows["reason"][-1] == "5 bars of history, 12 are needed"
        assert rows.select(*QUANTILES, "sigma", "p_up", "p_base").null_count().row(0) == (5,) * 12
    climatology = forecast_bars(baseline, grid, LAST, renew_calibration(baseline, grid, renewal_ts(LAST)), LAST, "har").filter(
        (pl.col("symbol") == "NEW-USDT") & (pl.col("forecaster") == "climatology")
    )
    assert climatology["reason"].to_list() == [None], "quantiles of all series need no bar of its own"


def test_a_gap_of_the_feed_is_a_reason_not_a_guess(hourly: tuple[Pack, Pack]) -> None:
    start, stop = LAST - 30 * HOUR, LAST - 3 * HOUR
    gap = (pl.col("symbol") == "ETH-USDT") & pl.col("ts").dt.epoch("ms").is_between(start, stop)
    bars = BARS.with_columns(pl.when(gap).then(pl.lit("feed_down")).otherwise(pl.lit("observed")).alias("quality"))
    grid = bar_grid(bars, Timeframe.H1)
    for pack, role in zip(hourly, ("champion", "har"), strict=True):
        rows = forecast_bars(pack, grid, LAST - 5 * HOUR, renew_calibration(pack, grid, renewal_ts(LAST)), LAST, role)
        mine = rows.filter((pl.col("forecaster") == role) & (pl.col("symbol") == "ETH-USDT"))
        assert mine["reason"].to_list()[:3] == ["no bar: the feed was down or the market was quiet"] * 3
        assert mine["price"].to_list()[:3] == [None] * 3
        assert mine["reason"].to_list()[3:] == [f"{n} of the newest 24 bars are known, 12 are needed" for n in (1, 2, 3)]
        assert rows.filter((pl.col("forecaster") == role) & (pl.col("symbol") == "BTC-USDT"))["reason"].null_count() == 6
        calibration = renew_calibration(pack, grid, LAST).filter((pl.col("symbol") == "ETH-USDT") & (pl.col("part") == pack.info.parts[-1]))
        whole = renew_calibration(pack, GRID, LAST).filter((pl.col("symbol") == "ETH-USDT") & (pl.col("part") == pack.info.parts[-1]))
        assert whole["n_own"][0] - calibration["n_own"][0] == 28 + 1 + 2, "the gap, the bar before it, two too poor to forecast from"


def test_forecast_bars_without_calibration_says_so(hourly: tuple[Pack, Pack]) -> None:
    _, baseline = hourly
    for calibration in (renew_calibration(baseline, GRID, QUARTER + DAY).clear(), renew_calibration(baseline, GRID, QUARTER + 9 * DAY)):
        rows = forecast_bars(baseline, before(BARS, QUARTER + 2 * DAY), QUARTER + 2 * DAY - HOUR, calibration, LAST, "har")
        assert rows["calibrated_at"].null_count() == rows.height == 8
        assert all("no calibration" in reason for reason in rows["reason"])


def test_a_pack_does_not_forecast_what_taught_it(hourly: tuple[Pack, Pack]) -> None:
    model, _ = hourly
    calibration = renew_calibration(model, GRID, QUARTER - DAY, FEATURES)
    rows = forecast_bars(model, GRID, QUARTER - 5 * HOUR, calibration, LAST, "champion", FEATURES).filter(pl.col("symbol") == "BTC-USDT")
    assert rows["reason"].str.contains("learned from bars up to").fill_null(False).to_list()[:4] == [True, True, True, False]


def test_no_bars_to_forecast_is_an_empty_frame(hourly: tuple[Pack, Pack]) -> None:
    model, _ = hourly
    assert forecast_bars(model, GRID, LAST + HOUR, renew_calibration(model, GRID, QUARTER), 0, "champion").is_empty()


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("role", lambda model, base: forecast_bars(base, GRID, LAST, renew_calibration(base, GRID, QUARTER), 0, "champion")),
        ("role", lambda model, base: forecast_bars(model, GRID, LAST, renew_calibration(base, GRID, QUARTER), 0, "har")),
        ("grid", lambda model, base: renew_calibration(base, replace(GRID, timeframe=Timeframe.M15), QUARTER)),
        ("grid", lambda model, base: renew_calibration(base, before_cut(QUARTER + DAY), QUARTER + 2 * DAY)),
        ("features", lambda model, base: renew_calibration(model, GRID, LAST, build_features(GRID, 24))),
        ("features", lambda model, base: renew_calibration(model, GRID, LAST, replace(FEATURES, names=("x", *FEATURES.names[1:])))),
        ("pack", lambda model, base: renew_calibration(replace(model, bundle=None), GRID, LAST)),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(hourly: tuple[Pack, Pack], field: str, call: Callable[[Pack, Pack], object]) -> None:
    with pytest.raises(InputError) as caught:
        call(*hourly)
    assert caught.value.field == field


def before_cut(first: int) -> BarGrid:
    """The bars from a moment on."""
    return bar_grid(BARS.filter(pl.col("ts").dt.epoch("ms") >= first), Timeframe.H1)


def test_newer_features_do_not_disturb_an_older_pack(hourly: tuple[Pack, Pack]) -> None:
    model, _ = hourly
    wider = np.concatenate([np.zeros((*FEATURES.values.shape[:2], 1), dtype=np.float32), FEATURES.values], axis=2)
    newer = FeatureMatrix(("brand_new", *FEATURES.names), wider, FEATURES.known_at)
    calibration = renew_calibration(model, GRID, renewal_ts(LAST), FEATURES)
    assert renew_calibration(model, GRID, renewal_ts(LAST), newer).equals(calibration)
    plain, other = (forecast_bars(model, GRID, LAST, calibration, 0, "champion", given) for given in (FEATURES, newer))
    assert plain.equals(other)
