"""A lake and store with forecasts of every kind, as the pipelines leave them, for the browser.

What belongs here: rows by the tables' schemas, seeded. What does not: tests, and how real forecasts are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from altforecast import CODE_VERSION
from altforecast.forecast_params import HORIZONS
from altforecast.forecast_scores import LEVELS, pinball_loss
from altforecast.forecast_tables import QUANTILES
from altforecast.tables import TABLES
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import Lake, Scope
from altforecast_io.provenance import Provenance
from altforecast_io.settings import Settings
from altforecast_io.store.engine import open_store
from altforecast_io.store.models import Event, Model, ModelEvent, add_event, add_model, set_registered

BTC, ETH, SOL, YOUNG = (Series("binance", name) for name in ("BTC-USDT", "ETH-USDT", "SOL-USDT", "YOUNG-USDT"))
SERIES = (BTC, ETH, SOL)
CHAMPION, REJECTED, BASELINE = "1h-20261101T0000-3f9a2c", "1h-20261115T0000-77aa01", "har-1h-20261120T0000-51c0de"
N_BARS = {Timeframe.M15: 1056, Timeframe.H1: 960}
SPREAD = 0.004
"""Standard deviation of an hour's return."""
MLFLOW_RUN = "9d1f0c8a7b6e5d4c3b2a190817263544"
Frame = pl.DataFrame
NORMAL = NormalDist()
_WIDTH = {"champion": 1.0, "har": 1.05, "climatology": 1.35}
"""How much too wide each forecaster is."""


def build(settings: Settings, now: datetime, *, has_champion: bool = True, late: timedelta = timedelta(0)) -> None:
    """Fill lake and store: three series with a history, one too young, champion at 1h only (or nowhere).

    late: how long before `now` the newest forecast was made.
    """
    settings.make_folders()
    lake = Lake(settings.lake_dir, settings.environment)
    bars = {tf: _bars(tf, now) for tf in N_BARS}
    for timeframe, frame in bars.items():
        _put(lake, "bars", frame, now, timeframe)
        _put_forecasts(lake, frame, timeframe, now, now - late, has_champion)
    _put(lake, "model_health", _health(now, has_champion), now)
    _put_models(settings, now, has_champion)


def _put(lake: Lake, name: str, frame: Frame, now: datetime, *timeframes: Timeframe) -> None:
    rows = _typed(name, frame)
    record = Provenance(name, "run-forecasts", CODE_VERSION, lake.environment, now, ())
    first: Any = rows["ts"].min()
    window = Window(first.replace(day=1, hour=0, minute=0), (now.replace(day=28) + timedelta(days=5)).replace(day=1, hour=0, minute=0))
    lake.replace(name, rows, Scope(window, timeframes), record)


def _typed(name: str, frame: Frame) -> Frame:
    return frame.select(pl.col(c).cast(t) for c, t in TABLES[name].schema.items())


def _bars(timeframe: Timeframe, now: datetime) -> Frame:
    """One path in quarters of an hour per series, so that both lengths of bars tell the same story; ends with the last full bar."""
    quarter, step = Timeframe.M15.duration, timeframe.ms // Timeframe.M15.ms
    first = datetime.fromtimestamp(now.timestamp() // 3600 * 3600, UTC) - N_BARS[Timeframe.H1] * Timeframe.H1.duration
    n_steps = (now - first) // quarter
    frames = []
    for seed, series in enumerate((*SERIES, YOUNG)):
        rng = np.random.default_rng(seed)
        walk = np.cumsum(rng.normal(0, SPREAD / 2, n_steps))
        close = (101_000.0, 2_500.0, 150.0, 1.2)[seed] * np.exp(walk)[step - 1 :: step]
        n = min(50 if series == YOUNG else N_BARS[timeframe], len(close) - 1)
        opened, closed = close[-n - 1 : -1], close[-n:]
        frames.append(pl.DataFrame({
            "ts": [first + i * timeframe.duration for i in range(len(close) - n, len(close))], "open": opened, "close": closed,
            "high": np.maximum(opened, closed) * 1.001, "low": np.minimum(opened, closed) * 0.999, "volume": rng.uniform(1.0, 9.0, n),
        }).with_columns(symbol=pl.lit(series.symbol), exchange=pl.lit(series.exchange)))  # fmt: skip
    return pl.concat(frames).with_columns(
        timeframe=pl.lit(timeframe.value), quality=pl.lit("observed"), source=pl.lit("import"), received_at=pl.lit(now),
        known_at=pl.col("ts") + timeframe.duration,
    )  # fmt: skip


def _put_forecasts(lake: Lake, bars: Frame, timeframe: Timeframe, now: datetime, newest: datetime, has_champion: bool) -> None:
    said, came = [], []
    for horizon, (its_bars, ahead) in HORIZONS.items():
        if its_bars is not timeframe:
            continue
        for forecaster in ("champion", "har", "climatology"):
            if forecaster != "champion" or (has_champion and horizon == "1h"):
                rows = _forecasts(bars, timeframe, horizon, ahead, forecaster)
                said.append(rows.filter(pl.col("known_at") <= newest))
                came.append(_outcomes(rows, ahead, now))
    everything, outcomes = pl.concat(said), pl.concat(came).drop_nulls("outcome")
    made = _typed("forecasts", everything)
    live_from = now - timedelta(days=9)
    young = _too_young(bars, timeframe)
    _put(lake, "forecasts", pl.concat([made.filter(pl.col("ts") >= live_from), young]), now, timeframe)
    _put(lake, "walk_forward_forecasts", made.filter(pl.col("ts") < live_from), now, timeframe)
    origin = pl.when(pl.col("ts") >= live_from).then(pl.lit("live")).otherwise(pl.lit("walk_forward"))
    _put(lake, "forecast_outcomes", outcomes.with_columns(origin.alias("origin")), now, timeframe)
    _put(lake, "forecast_calibrations", _calibrations(everything), now, timeframe)


def _forecasts(bars: Frame, timeframe: Timeframe, horizon: str, ahead: int, forecaster: str) -> Frame:
    rows = bars.filter(pl.col("symbol") != YOUNG.symbol).sort("symbol", "ts").with_columns(
        (pl.col("close").shift(-ahead).over("symbol") / pl.col("close")).log().alias("outcome"))  # fmt: skip
    sigma = SPREAD * (ahead * timeframe.ms / Timeframe.H1.ms) ** 0.5 * _WIDTH[forecaster]
    is_boosted = forecaster == "champion"
    p_up = 0.5 + 0.02 * np.sin(np.arange(rows.height))
    return rows.with_columns(
        horizon=pl.lit(horizon), forecaster=pl.lit(forecaster), target_ts=pl.col("known_at") + ahead * timeframe.duration,
        price=pl.col("close"), sigma=pl.lit(sigma), p_up=pl.Series(p_up) if is_boosted else pl.lit(None),
        p_base=pl.lit(0.502 if is_boosted else None), model=pl.lit(CHAMPION if is_boosted else BASELINE.replace("1h", horizon)),
        calibrated_at=pl.col("ts").dt.truncate("1d"), reason=pl.lit(None), known_at=pl.col("known_at") + timedelta(seconds=2),
        **{name: pl.lit(float(NORMAL.inv_cdf(level)) * sigma) for name, level in zip(QUANTILES, LEVELS, strict=True)},
    )  # fmt: skip


def _too_young(bars: Frame, timeframe: Timeframe) -> Frame:
    last = bars.filter(pl.col("symbol") == YOUNG.symbol).sort("ts").tail(1)
    names = [h for h, (tf, _) in HORIZONS.items() if tf is timeframe]
    nothing = {name: pl.lit(None, pl.Float64) for name in ("sigma", "p_up", "p_base", *QUANTILES)}
    rows = pl.concat(
        [last.with_columns(horizon=pl.lit(h), target_ts=pl.col("known_at") + HORIZONS[h][1] * timeframe.duration) for h in names]
    )
    return _typed("forecasts", rows.with_columns(
        forecaster=pl.lit("har"), price=pl.col("close"), model=pl.lit(BASELINE), calibrated_at=pl.lit(None),
        reason=pl.lit("50 bars of history, 120 are needed"), **nothing,
    ))  # fmt: skip


def _outcomes(rows: Frame, ahead: int, now: datetime) -> Frame:
    q = rows.select(QUANTILES).to_numpy()
    outcome = rows["outcome"].to_numpy()
    loss = np.where(np.isnan(outcome), 0.0, pinball_loss(np.nan_to_num(outcome), q))
    in80, in95 = ((outcome > q[:, a]) & (outcome < q[:, -1 - a]) for a in (2, 0))
    pit = np.vectorize(NORMAL.cdf)(np.nan_to_num(outcome / rows["sigma"].to_numpy()))
    return rows.with_columns(
        loss=pl.Series(loss), pit=pl.Series(np.nan_to_num(pit)), is_in_80=pl.Series(in80), is_in_95=pl.Series(in95),
        is_up=pl.col("outcome") > 0, known_at=pl.col("target_ts"),
    )  # fmt: skip


def _calibrations(rows: Frame) -> Frame:
    daily = rows.filter(pl.col("ts") == pl.col("ts").dt.truncate("1d")).filter(pl.col("forecaster") != "climatology")
    part = pl.when(pl.col("forecaster") == "champion").then(pl.lit("scale")).otherwise(pl.lit("har"))
    values = {name: pl.lit(float(NORMAL.inv_cdf(level))) for name, level in zip(QUANTILES, LEVELS, strict=True)}
    return daily.with_columns(
        part=part, n_own=pl.lit(5760), n_pooled=pl.lit(190_080), window_start=pl.col("ts") - timedelta(days=240), **values
    )


def _health(now: datetime, has_champion: bool) -> Frame:
    who = [(h, f) for h in HORIZONS for f in ("champion", "har", "climatology") if f != "champion" or (has_champion and h == "1h")]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return pl.DataFrame([_health_row(midnight - timedelta(days=days), *one, days) for one in who for days in range(8)])


def _health_row(midnight: datetime, horizon: str, forecaster: str, days: int) -> dict[str, Any]:
    skill = {"champion": 0.008 + 0.001 * (days % 3), "har": 0.0, "climatology": -0.06}[forecaster]
    return {
        "ts": midnight, "horizon": horizon, "forecaster": forecaster, "model": CHAMPION if forecaster == "champion" else BASELINE,
        "window_days": 30, "n": 600, "skill_climatology": 0.06 + skill, "skill_har": skill, "dm_t": -3.4, "coverage_80": 0.801,
        "coverage_95": 0.949, "brier_skill": 0.001, "ece": 0.009, "verdict": "ok", "reason": "skill and coverage are within their limits",
        "known_at": midnight + timedelta(minutes=5),
    }  # fmt: skip


def report(skill_har: float) -> dict[str, Any]:
    """A report as training leaves it."""
    best = {"loss": 0.00121, "skill_climatology": 0.066, "skill_har": skill_har, "dm_t": -7.2, "dm_p": 1e-9, **_COVERED}
    har = {**best, "loss": 0.00122, "skill_climatology": 0.058, "skill_har": -0.001, "dm_t": 1.2}
    groups = [
        {"group": f"{2024 + i // 4}Q{i % 4 + 1}", "n": 70_000, **_COVERED, "skill_climatology": 0.06 + 0.004 * (i % 3),
         "skill_har": skill_har + 0.002 * (i % 3 - 1)} for i in range(2, 9)
    ]  # fmt: skip
    return {
        "n": 490_000, "first": 1_719_792_000_000, "last": 1_774_400_000_000, "best": "mix", "forecasters": {"mix": best, "har": har},
        "symbols": [{**groups[0], "group": "BTC-USDT binance"}, {**groups[1], "group": "ETH-USDT binance"}], "quarters": groups,
        "deciles": [{**groups[0], "group": str(i)} for i in range(10)], "breaches": {"series": 33, "dependent": 3},
        "coverage_days": [[1_719_446_400_000.0 + 604_800_000 * i, 0.8 + 0.02 * float(np.sin(i)), 5000] for i in range(90)],
        "direction": _DIRECTION, "folds": [[1_711_929_600_000, 1_719_792_000_000, 1_727_740_800_000]],
        "parameters": {"n_trees": 150, "n_leaves": 31},
    }  # fmt: skip


_COVERED = {"coverage80": 0.801, "coverage95": 0.949}
_DIRECTION: Mapping[str, Any] = {
    "n": 480_000, "accuracy": 0.519, "accuracy_interval": [0.515, 0.523], "majority": 0.504, "top_accuracy": 0.541,
    "top_interval": [0.53, 0.55], "top_gain_bps": 4.0, "rank_ic": 0.022, "rank_ic_t": 11.7, "brier_skill": 0.0014, "ece": 0.0095,
    "p_up_range": [0.45, 0.55],
    "reliability": [[24_000, 0.46 + 0.004 * i, 0.462 + 0.004 * i + 0.004 * float(np.cos(i))] for i in range(20)],
}  # fmt: skip


def _gates(skill_har: float) -> list[dict[str, Any]]:
    rows = [
        ("F1 skill over climatology", "6.60%", "≥ 6.2%", True, "aim not reached"),
        ("F2 skill over HAR-S", f"{skill_har:+.2%}, t -7.2", "> 0, t < -3", skill_har > 0, ""),
        ("F3 coverage 80 / 95 %", "80.1% / 94.9%", "within 1.0 pp", True, "aim"),
    ]
    names = ("goal", "reached", "gate", "is_met", "aim")
    return [{"horizon": "1h", **dict(zip(names, row, strict=True))} for row in rows]


def _put_models(settings: Settings, now: datetime, has_champion: bool) -> None:
    store = open_store(settings.database_url, settings.environment)
    try:
        for horizon in HORIZONS:
            add_model(store, _model(BASELINE.replace("1h", horizon), now, 1, horizon=horizon, family="baseline"))
        add_model(store, _model(REJECTED, now, 5, report=report(-0.002)))
        if has_champion:
            add_model(store, _model(CHAMPION, now, 20, report=report(0.0081)))
            set_registered(store, CHAMPION, MLFLOW_RUN, 3)
        for days, horizon, version, event, reason, verdicts in _log(has_champion):
            actor = "health" if event is Event.ROLLED_BACK else "gate"
            add_event(store, ModelEvent(horizon, version, event, actor, reason, verdicts, now - timedelta(days=days)))
    finally:
        store.close()


def _model(version: str, now: datetime, age_days: int, **other: Any) -> Model:
    values = {
        "version": version, "horizon": "1h", "family": "lightgbm", "folder": f"{version}", "trained_at": now - timedelta(days=age_days),
        "train_from": datetime(2023, 1, 1, tzinfo=UTC), "train_until": now - timedelta(days=1), "n_rows": 812_000,
        "data_hash": "3f9a2cbb0e7d41aa", "code_version": CODE_VERSION, "dagster_run_id": "run-train",
    }  # fmt: skip
    return Model(**{**values, **other})


def _log(has_champion: bool) -> list[tuple[int, str, str | None, Event, str, list[dict[str, Any]]]]:
    """(days ago, horizon, version, event, reason, verdicts), oldest first."""
    promoted = [
        (19, "1h", CHAMPION, Event.CHALLENGER, "challenger: a rule is missed", _gates(0.0)),
        (12, "1h", CHAMPION, Event.PROMOTED, "promoted: all 3 rules are met", _gates(0.0081)),
    ]  # fmt: skip
    return [
        *(promoted if has_champion else []),
        (5, "1h", REJECTED, Event.REJECTED, "rejected: skill over HAR-S -0.20 % is not above 0", _gates(-0.002)),
        (3, "4h", None, Event.ROLLED_BACK, "skill over HAR-S -0.9 % in 30 days", []),
    ]
