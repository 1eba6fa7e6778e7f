"""Forecasts, outcomes, health and models as the pipelines would write them, by hand and true to the tables.

What belongs here: their making. What does not: tests. The outcomes are the real ones of the bars; quantiles are those of a normal law.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from altforecast.forecast_params import HORIZONS
from altforecast.forecast_scores import LEVELS, pinball_loss
from altforecast.forecast_tables import FORECAST_CALIBRATIONS, FORECAST_OUTCOMES, FORECASTS, QUANTILES
from altforecast.tables import TABLES
from altforecast.types import Timeframe
from altforecast_io.lake import Lake
from altforecast_io.store.engine import Store
from altforecast_io.store.models import Event, Model, ModelEvent, add_event, add_model, set_registered
from tests.serving.conftest import put

TRAINED_AT = datetime(2025, 7, 1, 12, tzinfo=UTC)
N_BARS = 200
"""Newest bars of each series that have forecasts."""
FORECASTERS = ("champion", "har", "climatology")
_Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
_WIDTH = {"champion": 1.0, "challenger": 1.05, "har": 1.1, "climatology": 1.4}
"""Standard deviations against the right one: the wider, the worse."""


def version_of(horizon: str, forecaster: str) -> str:
    """Version of the model behind a forecaster."""
    name = f"{horizon}-20250701T1200-{'abcdef' if forecaster == 'champion' else 'fedcba'}"
    return name if forecaster in ("champion", "challenger") else f"har-{name}"


def forecast_rows(bars: pl.DataFrame, horizon: str, forecaster: str, *, reason: str | None = None) -> pl.DataFrame:
    """Rows of one forecaster at every bar; with a reason there are no quantiles."""
    timeframe, ahead = HORIZONS[horizon]
    sigma = 0.01 * sqrt(ahead) * _WIDTH[forecaster]
    says_p_up = forecaster in ("champion", "challenger") and reason is None
    wave = pl.Series([0.50 + 0.03 * np.sin(i) for i in range(bars.height)])
    quantiles = {name: pl.lit(None if reason else sigma * float(z)) for name, z in zip(QUANTILES, _Z, strict=True)}
    frame = bars.select("ts", "symbol", "exchange", "timeframe", pl.col("close").alias("price"), "known_at").with_columns(
        horizon=pl.lit(horizon), forecaster=pl.lit(forecaster), target_ts=pl.col("ts") + (ahead + 1) * timeframe.duration,
        sigma=pl.lit(None if reason else sigma), p_up=wave if says_p_up else pl.lit(None), p_base=pl.lit(0.5 if says_p_up else None),
        model=pl.lit(version_of(horizon, forecaster)), calibrated_at=pl.col("ts").dt.truncate("1d"), reason=pl.lit(reason, pl.String),
        **quantiles,
    )  # fmt: skip
    return FORECASTS.conform(frame.select(pl.col(name).cast(dtype) for name, dtype in FORECASTS.schema.items()))


def outcome_rows(forecasts: pl.DataFrame, bars: pl.DataFrame, origin: str = "live") -> pl.DataFrame:
    """What followed each forecast of one series, where the bars reach that far."""
    ahead = HORIZONS[forecasts["horizon"][0]][1]
    followed = bars.sort("ts").select("ts", outcome=(pl.col("close").shift(-ahead) / pl.col("close")).log())
    rows = forecasts.filter(pl.col("sigma").is_not_null()).join(followed, "ts").filter(pl.col("outcome").is_not_null())
    outcome, q = rows["outcome"].to_numpy(), rows.select(QUANTILES).to_numpy().astype(np.float64)
    pit = [float(np.interp(x, edges, LEVELS, left=0.0, right=1.0)) for x, edges in zip(outcome, q, strict=True)]
    frame = rows.with_columns(
        origin=pl.lit(origin), loss=pl.Series(pinball_loss(outcome, q)), pit=pl.Series(pit, dtype=pl.Float64),
        is_in_80=pl.Series((outcome >= q[:, 2]) & (outcome <= q[:, 6])), is_in_95=pl.Series((outcome >= q[:, 0]) & (outcome <= q[:, 8])),
        is_up=pl.col("outcome") > 0, known_at=pl.col("target_ts"),
    )  # fmt: skip
    return FORECAST_OUTCOMES.conform(frame.select(pl.col(name).cast(dtype) for name, dtype in FORECAST_OUTCOMES.schema.items()))


def calibration_rows(forecasts: pl.DataFrame) -> pl.DataFrame:
    """The calibrations that these forecasts name, with 1000 own and 9000 pooled residuals."""
    used = forecasts.select("symbol", "exchange", "timeframe", "horizon", "model", "calibrated_at", "forecaster").unique()
    frame = used.rename({"calibrated_at": "ts"}).with_columns(
        part=pl.col("forecaster").replace_strict({"champion": "scale", "challenger": "scale"}, default=pl.col("forecaster")),
        n_own=pl.lit(1000), n_pooled=pl.lit(9000), window_start=pl.col("ts") - timedelta(days=240), known_at=pl.col("ts"),
        **{name: pl.lit(float(z)) for name, z in zip(QUANTILES, _Z, strict=True)},
    )  # fmt: skip
    return FORECAST_CALIBRATIONS.conform(frame.select(pl.col(name).cast(dtype) for name, dtype in FORECAST_CALIBRATIONS.schema.items()))


def health_rows(days: list[datetime], forecasters: tuple[str, ...] = FORECASTERS) -> pl.DataFrame:
    """A good month of every forecaster, as of each of these midnights."""
    rows = [
        {
            "ts": day, "horizon": horizon, "forecaster": forecaster, "model": version_of(horizon, forecaster), "window_days": 30, "n": 5000,
            "skill_climatology": 0.06, "skill_har": 0.008, "dm_t": -4.5, "coverage_80": 0.802, "coverage_95": 0.949, "brier_skill": None,
            "ece": None, "verdict": "ok", "reason": "coverage and skill are within bounds", "known_at": day + timedelta(minutes=5),
        }
        for day in days for horizon in HORIZONS for forecaster in forecasters
    ]  # fmt: skip
    schema = TABLES["model_health"].schema
    return pl.DataFrame(rows, schema=schema)


def report(horizon: str, *, is_direction_proven: bool | None = None) -> dict[str, Any]:
    """Report of a candidate; by default direction is proven up to 4h ahead, as it was measured."""
    proven = horizon != "24h" if is_direction_proven is None else is_direction_proven
    skill, first, last = {"skill_climatology": 0.065, "skill_har": 0.009, "dm_t": -9.1, "dm_p": 1e-9}, 1719792000000, 1751320800000
    figures = {"loss": 0.0011, **skill, "coverage80": 0.801, "coverage95": 0.948}
    group = {"n": 9000, "coverage80": 0.795, "coverage95": 0.945, "skill_climatology": 0.06, "skill_har": 0.007}
    return {
        "n": 36000, "n_moments": 9000, "n_outcomes": 36100, "first": first, "last": last, "best": "mix",
        "forecasters": {"mix": figures, "har": {**figures, "skill_har": None, "dm_t": None}, "climatology": figures},
        "symbols": [{"group": "BTC-USDT binance", **group}], "quarters": [{"group": "2025Q1", **group}],
        "deciles": [{"group": 0, **group}], "coverage_days": [[float(first), 0.79, 700]], "breaches": {"series": 4, "dependent": 0},
        "direction": {
            "n": 36000, "accuracy": 0.519 if proven else 0.502, "accuracy_interval": [0.514, 0.524] if proven else [0.485, 0.52],
            "majority": 0.504 if proven else 0.519, "brier_skill": 0.0014 if proven else -0.002, "ece": 0.0095,
            "reliability": [[1800, 0.48, 0.485], [1800, 0.52, 0.517]],
        },
        "verdicts": [
            {"goal": "F1 skill over climatology", "horizon": horizon, "reached": "6.50%", "gate": "≥ 6.2%", "is_met": True, "aim": "aim"},
            {"goal": "F4 worst quarter", "horizon": horizon, "reached": "5.0 pp", "gate": "≤ 4 pp", "is_met": False, "aim": ""},
        ],
        "parameters": {"seed": 1, "max_rows": 100000}, "files": {"manifest.json": "ab" * 32},
    }  # fmt: skip


def model(horizon: str, forecaster: str, **changes: Any) -> Model:
    """The model behind a forecaster; of a baseline with a report of its own."""
    is_boosted = forecaster in ("champion", "challenger")
    values: dict[str, Any] = {
        "version": version_of(horizon, forecaster), "horizon": horizon, "family": "lightgbm" if is_boosted else "baseline",
        "folder": f"{horizon}/{version_of(horizon, forecaster)}", "trained_at": TRAINED_AT, "train_from": TRAINED_AT - timedelta(days=400),
        "train_until": TRAINED_AT - timedelta(days=1), "n_rows": 30000, "data_hash": "3f9a2c" * 6, "code_version": "2026.11.1",
        "dagster_run_id": "run-7", "report": report(horizon) if is_boosted else {**report(horizon), "best": "har"},
    }  # fmt: skip
    return Model(**(values | changes))


def add_models(store: Store, *, has_champion: bool = True) -> None:
    """A baseline of each horizon, and a registered champion where wanted."""
    for horizon in HORIZONS:
        add_model(store, model(horizon, "har"))
        if has_champion:
            version = version_of(horizon, "champion")
            add_model(store, model(horizon, "champion"))
            set_registered(store, version, "mlflow-run-1", 3)
            add_event(store, event(horizon, version, Event.PROMOTED, "all gates are met"))


def event(horizon: str, version: str | None, kind: Event, reason: str) -> ModelEvent:
    """One entry of the log, made by the gate shortly after the training."""
    return ModelEvent(horizon, version, kind, "gate", reason, at=TRAINED_AT + timedelta(minutes=5))


def fill_forecasts(lake: Lake, *, forecasters: tuple[str, ...] = FORECASTERS, n_bars: int = N_BARS, has_past: bool = True) -> None:
    """Forecasts of the newest bars of every series of the lake but indices, with calibrations, outcomes and health."""
    for timeframe in sorted({tf for tf, _ in HORIZONS.values()}, key=lambda tf: tf.ms):
        said, past, followed = [], [], []
        for series_bars in lake.read("bars", timeframe).partition_by("symbol", "exchange"):
            if series_bars["exchange"][0] != "cryptocap":
                for horizon in (name for name, (tf, _) in HORIZONS.items() if tf == timeframe):
                    for forecaster in forecasters:
                        rows = forecast_rows(series_bars.tail(n_bars), horizon, forecaster)
                        earlier = forecast_rows(series_bars.head(n_bars), horizon, forecaster)
                        said.append(rows)
                        past.append(earlier)
                        followed += [outcome_rows(rows, series_bars), outcome_rows(earlier, series_bars, "walk_forward")]
        _write(lake, timeframe, said, past if has_past else [], followed if has_past else [])
    days = [datetime(2025, 7, day, tzinfo=UTC) for day in range(20, 28)]
    put(lake, "model_health", health_rows(days, forecasters), run_id="run-9")


def _write(lake: Lake, timeframe: Timeframe, said: list[pl.DataFrame], past: list[pl.DataFrame], followed: list[pl.DataFrame]) -> None:
    tables = {"forecasts": said, "forecast_calibrations": [calibration_rows(pl.concat(said))] if said else []}
    for name, frames in {**tables, "walk_forward_forecasts": past, "forecast_outcomes": followed}.items():
        if frames:
            put(lake, name, pl.concat(frames), timeframe, run_id="run-8")
