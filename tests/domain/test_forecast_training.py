"""Trainings leave evidence out of sample, whatever the history; calendars, tables, versions and refusals."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from altforecast.bar_grid import BarGrid, bar_grid
from altforecast.errors import InputError, UnknownNameError
from altforecast.forecast_features import build_features
from altforecast.forecast_folds import newest_folds
from altforecast.forecast_params import BoosterParams, FoldParams, LiveParams, ModelParams
from altforecast.forecast_scores import pinball_loss
from altforecast.forecast_tables import QUANTILES, WALK_FORWARD_FORECASTS
from altforecast.forecast_targets import return_ahead
from altforecast.forecast_training import Training, data_hash, past_frame, train_baseline, train_candidate
from altforecast.types import Timeframe
from tests.domain.forecast_panel import panel

HOUR, DAY = 3_600_000, 86_400_000
FEW = FoldParams(min_own_rows=500)
SMALL = BoosterParams(rounds=5, leaves=7, min_rows=200)
PARAMS = ModelParams(SMALL, SMALL, SMALL, SMALL, min_own_rows=1500, max_rows=4000)
AT = int(datetime(2026, 11, 21, 14, 30, 59, tzinfo=UTC).timestamp() * 1000)
PAIR = ("BTC-USDT", "ETH-USDT")


def grid_of(days: int, symbols: tuple[str, ...] = PAIR, timeframe: Timeframe = Timeframe.H1) -> BarGrid:
    return bar_grid(panel(days, symbols=symbols, timeframe=timeframe), timeframe)


def folds_after(days: float, horizon: int = 1, n_series: int = 2, first: int = 1_672_531_200_000) -> Any:
    ts = first + HOUR * np.arange(round(days * 24), dtype=np.int64)
    return newest_folds(ts, np.full(len(ts), n_series), horizon, HOUR)


@pytest.mark.parametrize(
    ("days", "name", "n"),
    [(1400, "quarter", 4), (300, "quarter", 3), (150, "quarter", 1), (120, "week", 8), (60, "month", 2), (42, "week", 3), (25, "day", 4)],
)
def test_newest_folds_takes_the_longest_step_that_history_allows(days: int, name: str, n: int) -> None:
    """2023 begins on a Sunday: quarters from April on, Mondays from the 2nd of January."""
    found = folds_after(days)
    assert (found.name, len(found.folds)) == (name, n)
    assert found.folds[-1].test_stop == 1_672_531_200_000 + days * DAY
    for fold, following in zip(found.folds, [*found.folds[1:], None], strict=True):
        assert fold.train_until == fold.test_start - 3 * HOUR
        assert following is None or following.test_start == fold.test_stop
        start = datetime.fromtimestamp(fold.test_start / 1000, UTC)
        assert start.hour == 0
        assert name != "week" or start.weekday() == 0
        assert name not in ("month", "quarter") or start.day == 1
        assert name != "quarter" or start.month in (1, 4, 7, 10)


def test_newest_folds_needs_rows_before_a_fold() -> None:
    assert folds_after(21, n_series=1) is None, "500 rows are not 1,000"
    assert folds_after(41, n_series=1) is None
    found = folds_after(42, n_series=2)
    assert (found.folds[0].test_start - 1_672_531_200_000) / HOUR * 2 >= 1000


@pytest.fixture(scope="module")
def candidate() -> Training:
    grid = grid_of(200)
    lines: list[str] = []
    made = train_candidate(grid, build_features(grid), "4h", AT, params=PARAMS, fold_params=FEW, progress=lines.append)
    assert lines[0] == "4h: 2 folds (quarter), 4,800 bars of 2 series"
    assert "4h: fold 2 of 2" in lines
    assert lines[-1] == f"4h: last fit of the lightgbm models on {made.pack.info.n_rows:,} rows"
    return made


def test_train_candidate_says_what_it_is(candidate: Training) -> None:
    info = candidate.pack.info
    assert info.version == f"4h-20261121T1430-{info.data_hash[:6]}"
    assert (info.family, info.horizon, info.trained_at, info.mixed) == ("lightgbm", "4h", AT, ("har", "scale", "shape"))
    assert info.parts == info.mixed
    assert info.features == build_features(grid_of(40), 1).names
    grid = grid_of(200)
    assert info.train_until == grid.ts[-1] - 8 * HOUR, "closed one horizon before the end, as in every fold"
    steady, late = 4800 - 8 - 11, 3840 - 30 - 8 - 2 * 11 - 4
    assert info.n_rows == steady + late, "eleven bars are no half day, at the start and behind the hole; four labels end in the hole"
    assert info.train_from == grid.ts[11]
    assert candidate.pack.bundle is not None
    assert candidate.pack.bundle.platt is not None


def test_the_table_is_json_of_the_scored_rows(candidate: Training) -> None:
    table = json.loads(json.dumps(candidate.table, allow_nan=False))
    assert table["calendar"] == "quarter"
    assert len(table["folds"]) == 2
    assert table["scored_from"] == table["folds"][0][1] + (table["folds"][1][2] - table["folds"][0][1]) // 4
    assert table["first"] >= table["scored_from"]
    assert {"mix", "har", "climatology"} <= set(table["forecasters"])
    assert [v["goal"][:2] for v in table["verdicts"]] == ["F1", "F2", "F3", "F4", "F4", "F4"], "the published goals of 4h"
    mine = table["forecasters"]["mix"]
    assert table["verdicts"][0]["is_met"] is (mine["skill_climatology"] >= 0.048)
    assert table["verdicts"][0]["reached"] == f"{mine['skill_climatology']:.2%}"
    assert table["parameters"] == json.loads(json.dumps(asdict(PARAMS)))
    past = candidate.past
    assert past is not None
    rows = past.ts >= table["scored_from"]
    known = ~np.isnan(past.outcome[rows]) & ~np.isnan(past.quantiles["mix"][rows]).any(axis=2)
    loss = pinball_loss(past.outcome[rows][known], past.quantiles["mix"][rows][known]).mean()
    assert table["forecasters"]["mix"]["loss"] == pytest.approx(float(loss), rel=1e-6)


def test_residuals_are_out_of_sample(candidate: Training) -> None:
    """Outcome over the sigma of the walk forward, unknown before the first fold and where the outcome is still to come."""
    pack, past, grid = candidate.pack, candidate.past, grid_of(200)
    assert past is not None
    stored = pack.residuals
    assert stored.ts[-1] == grid.ts[-1]
    before = stored.ts < candidate.table["folds"][0][1]
    outcome = return_ahead(grid.close, 4)
    for part, sigma in (("har", past.sigma["har"]), ("scale", past.sigma["scale"])):
        values = stored.values[part]
        assert np.isnan(values[before]).all()
        np.testing.assert_allclose(values[~before], outcome[-len(past.ts) :] / sigma, rtol=1e-6)
        assert np.isnan(values[-4:]).all()
        np.testing.assert_array_equal(stored.pending[part], sigma[-4:])
        assert 0.8 < np.nanstd(values) < 2.0
    assert stored.values["shape"].shape == (*stored.values["har"].shape, 9)
    assert stored.pending["shape"].shape == (4, 2, 9)


@pytest.mark.parametrize(("days", "calendar"), [(120, "week"), (28, "day")])
def test_short_histories_have_residuals_too(days: int, calendar: str) -> None:
    """120 days are those of the demo."""
    made = train_baseline(grid_of(days), "1h", AT, fold_params=FEW)
    assert made.table["calendar"] == calendar
    assert made.pack.info.version.startswith("har-1h-20261121T1430-")
    values = made.pack.residuals.values["har"]
    assert (~np.isnan(values)).sum() > 0.1 * values.size
    assert 0.8 < np.nanstd(values) < 2.0
    assert set(made.pack.residuals.values) == {"har", "climatology"}
    assert made.pack.bundle is None


def test_a_history_without_folds_trains_all_the_same() -> None:
    made = train_baseline(grid_of(24), "1h", AT, fold_params=FEW)
    assert made.past is None
    assert made.table == {}
    assert np.isnan(made.pack.residuals.values["har"]).all(), "never a residual in sample"
    assert (~np.isnan(made.pack.residuals.values["climatology"])).any()


def test_too_few_bars_are_refused_with_their_number() -> None:
    with pytest.raises(InputError, match=r"bars: 1h: too few bars .*1,000 are needed, got 399"):
        train_baseline(grid_of(10), "1h", AT)
    grid = grid_of(10)
    with pytest.raises(InputError, match="1,000 are needed"):
        train_candidate(grid, build_features(grid), "24h", AT)


def test_wrong_arguments_are_refused() -> None:
    grid = grid_of(60)
    features = build_features(grid)
    with pytest.raises(UnknownNameError, match="horizon"):
        train_baseline(grid, "2h", AT)
    with pytest.raises(InputError, match="bars of 15m"):
        train_baseline(grid, "15m", AT)
    with pytest.raises(UnknownNameError, match="family"):
        train_candidate(grid, features, "1h", AT, family="oracle")
    with pytest.raises(InputError, match="features"):
        train_candidate(grid, build_features(grid, 24), "1h", AT)


def test_the_same_bars_give_the_same_pack_and_other_bars_another_hash() -> None:
    grid = grid_of(60)
    made, again = (train_baseline(grid, "1h", AT, fold_params=FEW).pack for _ in range(2))
    assert made.info == again.info
    assert made.har.as_dict() == again.har.as_dict()
    close = grid.close.copy()
    close[-1, 0] *= 1.0001
    assert data_hash(replace(grid, close=close)) != made.info.data_hash
    assert data_hash(replace(grid, series=tuple(reversed(grid.series)))) != made.info.data_hash


def test_quarter_hours_train_too() -> None:
    made = train_baseline(grid_of(40, timeframe=Timeframe.M15), "15m", AT, fold_params=FEW)
    assert made.pack.info.horizon == "15m"
    assert (~np.isnan(made.pack.residuals.values["har"])).any()


def test_limits_of_a_live_walk_are_kept() -> None:
    live = LiveParams(max_quarters=1, min_test_days=20, burn_in_days=5)
    made = train_baseline(grid_of(210), "1h", AT, fold_params=FEW, live=live)
    assert len(made.table["folds"]) == 1
    assert made.table["scored_from"] == made.table["folds"][0][1] + 5 * DAY


def test_past_frame_are_the_rows_of_the_walk(candidate: Training) -> None:
    past = candidate.past
    assert past is not None
    since = int(past.ts[-48])
    rows = past_frame(past, Timeframe.H1, "4h", "v1", since)
    assert rows.schema == WALK_FORWARD_FORECASTS.schema
    assert rows["forecaster"].unique().sort().to_list() == ["champion", "climatology", "har"]
    assert rows.height == 3 * 2 * 48
    assert rows["ts"].dt.epoch("ms").min() == since
    mine = rows.filter((pl.col("forecaster") == "champion") & (pl.col("symbol") == "ETH-USDT"))
    np.testing.assert_allclose(mine.select(QUANTILES).to_numpy(), past.quantiles["mix"][-48:, 1], rtol=1e-6)
    assert mine["p_up"].null_count() == 0
    assert rows.filter(pl.col("forecaster") == "har")["p_up"].null_count() == 96
    assert (mine["known_at"] - mine["ts"]).dt.total_hours().unique().to_list() == [1]
    assert (mine["target_ts"] - mine["ts"]).dt.total_hours().unique().to_list() == [5]
    assert past_frame(past, Timeframe.H1, "4h", "v1", int(past.ts[-1]) + HOUR).is_empty()


def test_past_frame_of_a_baseline_has_no_champion() -> None:
    made = train_baseline(grid_of(60), "1h", AT, fold_params=FEW)
    assert made.past is not None
    rows = past_frame(made.past, Timeframe.H1, "1h", made.pack.info.version, 0)
    assert rows["forecaster"].unique().sort().to_list() == ["climatology", "har"]
