"""Past forecasts are made with what was known: by calendar, by perturbation, and against shuffled features."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from altforecast.bar_grid import BarGrid, bar_grid, bar_variance
from altforecast.baselines import HarFitter, har_design
from altforecast.errors import InputError
from altforecast.forecast_features import FeatureMatrix, build_features
from altforecast.forecast_gates import judge
from altforecast.forecast_params import CALIBRATION, MODELS, BoosterParams, FoldParams, ModelParams
from altforecast.forecast_scores import LEVELS, pinball_loss, skill
from altforecast.forecast_summary import REFERENCE, strongest_feature, summarise
from altforecast.forecast_targets import log_variance_ahead, walk_forward_folds
from altforecast.look_ahead import Columns, changed_columns
from altforecast.types import Timeframe
from altforecast.walk_forward import PastForecasts, Span, forecast_past
from tests.domain.forecast_panel import panel

SMALL = BoosterParams(rounds=15, leaves=7, min_rows=200)
PARAMS = ModelParams(SMALL, SMALL, SMALL, SMALL, min_own_rows=1500, max_rows=4000)
TEST_FROM = int(datetime(2023, 4, 1, tzinfo=UTC).timestamp() * 1000)
BARS = panel(200)
GRID = bar_grid(BARS, Timeframe.H1)
HOUR = 3_600_000
LEARNING = FoldParams(min_own_rows=500)


def past_of(grid: BarGrid, horizon: int = 4, with_models: bool = True) -> PastForecasts:
    features = build_features(grid) if with_models else None
    return forecast_past(grid, Span(horizon, TEST_FROM), features, PARAMS if with_models else None, fold_params=LEARNING)


@pytest.fixture(scope="module")
def past() -> PastForecasts:
    return past_of(GRID)


def test_forecast_past_answers_for_every_bar_of_the_test(past: PastForecasts) -> None:
    assert past.ts[0] == TEST_FROM
    assert set(past.quantiles) == {"climatology", "ewma", "har_pooled", "har_own", "har", "scale", "shape", "mix"}
    exists = ~np.isnan(GRID.close[GRID.ts >= TEST_FROM])
    settled = exists & np.roll(exists, 20, axis=0)
    for name, values in past.quantiles.items():
        assert values.shape == (*past.outcome.shape, len(LEVELS))
        assert not np.isnan(values[24:][settled[24:]]).any(), name
        assert (np.diff(values[24:][settled[24:]], axis=-1) >= 0).all(), name


def test_forecast_past_of_baselines_is_the_same_without_models(past: PastForecasts) -> None:
    plain = past_of(GRID, with_models=False)
    assert set(plain.quantiles) == {"climatology", "ewma", "har_pooled", "har_own", "har"}
    assert plain.score is None
    for name, values in plain.quantiles.items():
        np.testing.assert_array_equal(values, past.quantiles[name])


def test_forecast_past_calibrates_learned_parts_on_their_own_window(past: PastForecasts) -> None:
    params = replace(PARAMS, residual_days=20)
    short = forecast_past(GRID, Span(4, TEST_FROM), build_features(GRID), params, fold_params=LEARNING)
    for name in ("ewma", "har", "har_pooled", "har_own", "climatology"):
        np.testing.assert_array_equal(short.quantiles[name], past.quantiles[name])
    for name in ("scale", "shape", "mix"):
        np.testing.assert_array_equal(short.quantiles[name][:240], past.quantiles[name][:240], "no more than 20 days are known yet")
        assert not np.array_equal(short.quantiles[name][-240:], past.quantiles[name][-240:], equal_nan=True)
    assert max(params.residual_days for params in MODELS.values()) <= CALIBRATION.residual_days, "packs keep no more residuals"


def test_forecast_past_does_not_see_the_future() -> None:
    """Every quantile, sigma, score and probability made before the cut is bit-identical once all later bars are changed."""

    def everything(bars: pl.DataFrame) -> Columns:
        made = past_of(bar_grid(bars, Timeframe.H1), horizon=1)
        assert made.score is not None
        assert made.p_up is not None
        return {"ts": made.ts, "score": made.score, "p_up": made.p_up, **{f"q_{k}": v for k, v in made.quantiles.items()}, **made.sigma}

    bars = panel(150)
    assert changed_columns(everything, bars, TEST_FROM + 40 * 24 * HOUR, np.random.default_rng(1)) == {}


def test_forecast_past_purges_labels_that_touch_the_test() -> None:
    """Bars from one horizon before the test on must not reach the models of that test, only its inputs."""
    horizon = 24
    cut = TEST_FROM - horizon * HOUR  # the labels of training rows end at or before this moment
    late = (GRID.ts >= cut)[:, None]
    changed = replace(GRID, close=np.where(late, GRID.close * 1.5, GRID.close), high=np.where(late, GRID.high * 1.6, GRID.high))
    stop = int(np.searchsorted(GRID.ts, walk_forward_folds(GRID.ts, horizon, HOUR, 90)[0].train_until, side="right"))
    fits = [HarFitter(har_design(g, horizon), log_variance_ahead(bar_variance(g), horizon), g.series).fit(stop) for g in (GRID, changed)]
    np.testing.assert_array_equal(fits[0].slope, fits[1].slope)


def test_forecast_past_without_information_gains_nothing() -> None:
    """Features shuffled over time teach nothing: skill over HAR-S within 0.5 percent, and not above 0.2."""
    features = build_features(GRID)
    order = np.random.default_rng(1).permutation(len(GRID.ts))
    shuffled = replace(features, values=features.values[order])
    made = forecast_past(GRID, Span(1, TEST_FROM), shuffled, PARAMS, fold_params=LEARNING)
    known = ~np.isnan(made.outcome) & ~np.isnan(made.quantiles["scale"]).any(axis=-1)
    losses = [pinball_loss(made.outcome[known], made.quantiles[name][known]) for name in ("scale", "har")]
    assert -0.005 < skill(*losses) < 0.002


def test_forecast_past_refuses_a_test_without_history() -> None:
    for when in (TEST_FROM - HOUR, int(GRID.ts[-1]) + HOUR):
        with pytest.raises(InputError, match="test_from"):
            forecast_past(GRID, Span(1, when))
    with pytest.raises(InputError, match="to test on"):
        forecast_past(bar_grid(panel(20), Timeframe.H1), Span(1, TEST_FROM))


def test_first_fold_says_the_base_rate_and_later_ones_are_calibrated(past: PastForecasts) -> None:
    assert past.p_up is not None
    assert past.p_base is not None
    first = past.ts < int(datetime(2023, 7, 1, tzinfo=UTC).timestamp() * 1000)
    known = ~np.isnan(past.p_up)
    np.testing.assert_array_equal(past.p_up[known & first[:, None]], past.p_base[known & first[:, None]])
    assert ((past.p_up[known] > 0.3) & (past.p_up[known] < 0.7)).all()


def test_summarise_agrees_with_the_scores_it_is_made_of(past: PastForecasts) -> None:
    table = summarise(past, "mix")
    picked = ~np.isnan(past.outcome)
    for values in past.quantiles.values():
        picked &= ~np.isnan(values).any(axis=-1)
    loss = {name: pinball_loss(past.outcome[picked], values[picked]) for name, values in past.quantiles.items()}
    column = np.nonzero(picked)[1]
    better = [min(("har_own", "har_pooled"), key=lambda name, c=c: loss[name][column == c].sum()) for c in range(4)]  # type: ignore[misc]
    reference = np.array([loss[better[c]][i] for i, c in enumerate(column)])
    assert table["forecasters"]["mix"]["skill_har"] == pytest.approx(skill(loss["mix"], reference), rel=1e-9)
    assert table["forecasters"]["mix"]["skill_climatology"] == pytest.approx(skill(loss["mix"], loss["climatology"]), rel=1e-9)
    assert REFERENCE not in table["forecasters"]
    assert table["n"] == picked.sum()
    low, high = table["forecasters"]["mix"]["skill_har_interval"]
    assert low < table["forecasters"]["mix"]["skill_har"] < high
    with pytest.raises(InputError, match="no such forecaster"):
        summarise(past, "oracle")


def test_daily_losses_add_up_to_the_losses_of_the_table(past: PastForecasts) -> None:
    table = summarise(past, "mix")
    losses, rows = table["losses"], table["forecasters"]
    assert set(losses) == {"day", "n", REFERENCE, *rows}
    assert sum(losses["n"]) == table["n"]
    assert all(day % 86_400_000 == 0 for day in losses["day"])
    assert losses["day"] == sorted(set(losses["day"]))
    for name, row in rows.items():
        assert sum(losses[name]) / table["n"] == pytest.approx(row["loss"], rel=1e-12)
    assert 1.0 - sum(losses["mix"]) / sum(losses[REFERENCE]) == pytest.approx(rows["mix"]["skill_har"], rel=1e-9)


def test_judge_needs_skill_and_significance_and_reports_both() -> None:
    group = [{"group": "a", "n": 9, "coverage80": 0.815, "coverage95": 0.95, "skill_climatology": 0.1, "skill_har": 0.01}]
    mine = {"skill_climatology": 0.0621, "skill_har": 0.009, "dm_t": -2.9, "dm_p": 0.004, "coverage80": 0.802, "coverage95": 0.961}
    table = {"best": "mix", "forecasters": {"mix": mine}, "symbols": group, "quarters": group, "deciles": group}
    met = {v.goal: v.is_met for v in judge({"1h": table})}
    assert met["F1 skill over climatology"]
    assert not met["F2 skill over HAR-S"], "t of -2.9 is not below -3"
    assert not met["F3 coverage 80 / 95 %"], "95 % is off by 1.1 pp"
    assert met["F4 worst symbol"]
    day = {v.goal: v for v in judge({"24h": table})}
    assert day["F2 skill over HAR-S"].is_met
    assert day["F2 skill over HAR-S"].aim == "aim"


def test_judge_fails_features_that_see_too_much() -> None:
    proofs = {
        "1h": {"columns": 70, "changed": [], "strongest": ["rsi", -0.03]},
        "15m": {"columns": 70, "changed": ["a"], "strongest": None},
    }
    assert [v.is_met for v in judge({}, proofs)] == [True, False]
    assert not judge({}, {"1h": {"columns": 70, "changed": [], "strongest": ["leak", 0.11]}})[0].is_met


def test_strongest_feature_finds_a_leak() -> None:
    rng = np.random.default_rng(1)
    outcome = rng.normal(size=(600, 8))
    outcome[5, 2] = np.nan
    values = np.stack([rng.normal(size=(600, 8)), -outcome + 2 * rng.normal(size=(600, 8))], axis=-1).astype(np.float32)
    matrix = FeatureMatrix(("noise", "leak"), values, np.arange(600))
    found = strongest_feature(matrix, outcome, np.arange(600))
    assert found is not None
    assert found[0] == "leak"
    assert found[1] < -0.3
    assert strongest_feature(matrix, np.full((600, 8), np.nan), np.arange(600)) is None
