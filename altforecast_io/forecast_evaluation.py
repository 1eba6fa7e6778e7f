"""Evaluating forecasts on bar files: read them, walk forward horizon by horizon, keep the tables as JSON.

What belongs here: files, their sums and the order of work. What does not: computing (`altforecast.walk_forward`,
`altforecast.forecast_summary`) and the readable report (`altforecast_io.forecast_report`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from altforecast.bar_grid import bar_grid
from altforecast.bar_signals import signals_from_bars
from altforecast.direction_strategies import strategy_table
from altforecast.errors import InputError, StorageError, UnknownNameError
from altforecast.forecast_features import build_features
from altforecast.forecast_gates import judge
from altforecast.forecast_params import CALIBRATION, FOLDS, HORIZONS, MODELS
from altforecast.forecast_summary import strongest_feature, summarise
from altforecast.forecast_targets import return_ahead
from altforecast.look_ahead import Columns, changed_columns
from altforecast.table_schema import TS
from altforecast.types import Timeframe
from altforecast.walk_forward import PastForecasts, Span, forecast_past

COLUMNS = ("ts", "symbol", "open", "high", "low", "close", "volume", "exchange", "timeframe")
TABLES = 2
"""Grows when the tables of a horizon change, so that a resumed run does not keep older ones."""
LOOK_AHEAD_SERIES, LOOK_AHEAD_BARS = 4, 3000
Progress = Callable[[str], None]


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate and how."""

    test_from: datetime
    test_to: datetime | None = None
    symbols: tuple[str, ...] = ()
    """Only these; empty = all."""
    horizons: tuple[str, ...] = tuple(HORIZONS)
    baselines_only: bool = False
    threads: int = 1
    n_tried: int = 1
    """Configurations ever tried on these data, this one included."""
    resume: bool = False
    """Keep the horizons that the JSON file already has for the same data, options and parameters."""


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files given, and in place of a folder all its Parquet and CSV files, sorted by name."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.name.endswith((".parquet", ".csv", ".csv.gz"))) if path.is_dir() else [path]
        found += inside
    return found


def read_bars(paths: Sequence[Path]) -> pl.DataFrame:
    """The documented columns of all files, each bar once (the first file wins), plus quality and known_at where every file has them.

    Parquet or CSV (optionally .gz). Raises InputError for a file that cannot be read or lacks a column, and without files.
    """
    if not paths:
        raise InputError("bars", "", "no file given")
    frames = [_read(path) for path in paths]
    optional = [c for c in ("quality", "known_at") if all(c in frame.columns for frame in frames)]
    bars = pl.concat([frame.select(*COLUMNS, *optional) for frame in frames])
    return bars.unique(["symbol", "exchange", "timeframe", "ts"], keep="first", maintain_order=True)


def _read(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, try_parse_dates=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError("bars", path.name, f"cannot be read ({str(error).splitlines()[0][:120]})") from error
    missing = [c for c in COLUMNS if c not in frame.columns]
    if missing:
        raise InputError("bars", path.name, f"lacks the columns {', '.join(missing)}", COLUMNS)
    if not isinstance(frame.schema["ts"], pl.Datetime):
        raise InputError("ts", str(frame.schema["ts"]), f"{path.name}: must be a time")
    times = [_utc(frame, c) for c in ("ts", "known_at") if c in frame.columns]
    numbers = [pl.col(c).cast(pl.Float64) for c in ("open", "high", "low", "close", "volume")]
    texts = [pl.col(c).cast(pl.String) for c in ("symbol", "exchange", "timeframe", "quality") if c in frame.columns]
    return frame.with_columns(*times, *numbers, *texts)


def _utc(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A time without a zone is UTC, one of another zone is converted."""
    zone = getattr(frame.schema[name], "time_zone", None)
    return (pl.col(name).dt.replace_time_zone("UTC") if zone is None else pl.col(name).dt.convert_time_zone("UTC")).cast(TS)


def evaluate(paths: Sequence[Path], options: EvaluationOptions, out: Path, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Evaluate and write `out` after each horizon, so that a stopped run loses one horizon at most; returns what was written.

    Horizons whose bar length is not among the bars, or whose history is too short, are listed under `skipped` with the reason.
    Raises InputError for unknown horizons or symbols or when no horizon could be evaluated, StorageError where `out` cannot be written.
    """
    unknown = [h for h in options.horizons if h not in HORIZONS]
    if unknown:
        raise UnknownNameError("horizons", unknown[0], "no such horizon", HORIZONS)
    paths = files_of(paths)
    bars = _chosen(read_bars(paths), options.symbols)
    result = _frame(paths, options, bars)
    if options.resume:
        result["horizons"] = _earlier(out, result, options)
    for name in options.horizons:
        if name not in result["horizons"]:
            _evaluate_one(name, bars, options, result, lambda text, name=name: progress(f"{name}: {text}"))  # type: ignore[misc]
            _write(out, result)
    if not result["horizons"]:
        raise InputError("bars", ", ".join(p.name for p in paths), f"nothing could be evaluated: {result['skipped']}")
    result["horizons"] = {name: result["horizons"][name] for name in HORIZONS if name in result["horizons"]}
    _leak_checks(bars, options, result, progress)
    result["verdicts"] = [verdict._asdict() for verdict in judge(result["horizons"], result["look_ahead"])]
    _write(out, result)
    return result


def _chosen(bars: pl.DataFrame, symbols: tuple[str, ...]) -> pl.DataFrame:
    known = set(bars["symbol"].unique().to_list())
    missing = [s for s in symbols if s not in known]
    if missing:
        raise UnknownNameError("symbols", missing[0], "not among the bars", sorted(known))
    return bars.filter(pl.col("symbol").is_in(symbols)) if symbols else bars


def _frame(paths: Sequence[Path], options: EvaluationOptions, bars: pl.DataFrame) -> dict[str, Any]:
    """What the figures depend on: two runs with the same `inputs` give the same horizons."""
    inputs = {
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        "symbols": sorted(bars["symbol"].unique().to_list()), "test_from": options.test_from.isoformat(),
        "test_to": None if options.test_to is None else options.test_to.isoformat(),
        "parameters": {"calibration": asdict(CALIBRATION), "folds": asdict(FOLDS)},
        "threads": options.threads, "n_tried": options.n_tried, "tables": TABLES,
    }  # fmt: skip
    return {"inputs": inputs, "n_tried": options.n_tried, "horizons": {}, "skipped": {}, "look_ahead": {}, "verdicts": []}


def _earlier(out: Path, result: dict[str, Any], options: EvaluationOptions) -> dict[str, Any]:
    try:
        found = json.loads(out.read_text())
        is_same = found["inputs"] == json.loads(json.dumps(result["inputs"]))
        kept = {h: table for h, table in found["horizons"].items() if table["parameters"] == _parameters(h, options)}
        for table in kept.values():
            for row in table["forecasters"].values():
                row.update({key: float("nan") for key, value in row.items() if value is None})
        return kept if is_same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _parameters(name: str, options: EvaluationOptions) -> dict[str, Any]:
    """What the models of a horizon are made of, as JSON gives it back; empty without models."""
    return {} if options.baselines_only else dict(json.loads(json.dumps(asdict(MODELS[name]))))


def _evaluate_one(name: str, bars: pl.DataFrame, options: EvaluationOptions, result: dict[str, Any], progress: Progress) -> None:
    timeframe, horizon = HORIZONS[name]
    if not (bars["timeframe"] == timeframe.value).any():
        result["skipped"][name] = f"no bars of {timeframe.value}"
        return
    stop = options.test_to or datetime.max.replace(tzinfo=UTC)
    seen = bars.filter((pl.col("timeframe") == timeframe.value) & (pl.col("ts") < stop))
    try:
        grid = bar_grid(seen, timeframe)
        span = Span(horizon, _ms(options.test_from), None if options.test_to is None else _ms(options.test_to))
        params = None if options.baselines_only else MODELS[name]
        features = None if params is None else build_features(grid)
        past = forecast_past(grid, span, features, params, options.threads, progress)
        table = summarise(past, "har" if params is None else "mix")
        result["horizons"][name] = {**table, **_strategy(past, options), "parameters": _parameters(name, options)}
    except InputError as error:
        result["skipped"][name] = str(error)
        return


def _strategy(past: PastForecasts, options: EvaluationOptions) -> dict[str, Any]:
    """What trading on the direction would have earned; nothing without a direction or with too few days to judge."""
    if past.score is None:
        return {}
    try:
        return {"strategy": strategy_table(past, options.n_tried)}
    except InputError as error:
        return {"strategy": {"reason": str(error)}}


def _leak_checks(bars: pl.DataFrame, options: EvaluationOptions, result: dict[str, Any], progress: Progress) -> None:
    """F7 once per bar length of the horizons that were evaluated with models."""
    if options.baselines_only:
        return
    for name in result["horizons"]:
        timeframe = HORIZONS[name][0]
        if timeframe.value not in result["look_ahead"]:
            progress(f"{timeframe.value}: look-ahead test")
            result["look_ahead"][timeframe.value] = look_ahead_test(bars.filter(pl.col("timeframe") == timeframe.value), timeframe)


def look_ahead_test(bars: pl.DataFrame, timeframe: Timeframe, seed: int = 1) -> dict[str, Any]:
    """F7: columns of the feature matrix that moved before two cuts (newest bars of BTC and a few more series), and the single feature that
    orders the next bar's returns best (all series): more than a few percent would be too good to be true. Divergences, levels and
    indicators are computed from the bars; `columns` counts those that hold a value, a column without any proves nothing."""
    is_leader = pl.col("symbol").str.starts_with("BTC-")  # without BTC the features of the leader would hold nothing
    names = bars.select("symbol", "exchange").unique().sort(~is_leader, "symbol", "exchange").head(LOOK_AHEAD_SERIES)
    mine = bars.join(names, on=["symbol", "exchange"], how="semi").sort("ts")
    recent = mine.filter(pl.col("ts") > pl.col("ts").max() - pl.duration(milliseconds=LOOK_AHEAD_BARS * timeframe.ms))
    times = recent["ts"].dt.epoch("ms").unique().sort()
    changed: set[str] = set()
    tested = {name for name, values in feature_columns(recent, timeframe).items() if name != "ts" and not np.isnan(values).all()}
    cuts = [int(times[len(times) * part // 10]) for part in (5, 8)]
    for cut in cuts:
        changed |= set(changed_columns(lambda frame: feature_columns(frame, timeframe), recent, cut, np.random.default_rng(seed)))
    grid = bar_grid(bars, timeframe)
    matrix = build_features(grid, None, signals_from_bars(bars, timeframe))
    strongest = strongest_feature(matrix, return_ahead(grid.close, 1), grid.ts)
    return {
        "columns": len(tested), "cuts": cuts, "bars": recent.height, "changed": sorted(changed),
        "strongest": strongest and list(strongest),
    }  # fmt: skip


def feature_columns(bars: pl.DataFrame, timeframe: Timeframe) -> Columns:
    """The feature matrix as arrays by name, with `ts`, as `look_ahead.changed_columns` wants it; with the signals that bars give."""
    grid = bar_grid(bars, timeframe)
    matrix = build_features(grid, None, signals_from_bars(bars, timeframe))
    return {"ts": grid.ts, **{name: matrix.values[:, :, i] for i, name in enumerate(matrix.names)}}


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _write(out: Path, result: dict[str, Any]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        part.write_text(json.dumps(_without_nan(result), indent=1, sort_keys=True, allow_nan=False, default=_plain))
        os.replace(part, out)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}") from error


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: null."""
    if isinstance(value, dict):
        return {str(key): _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
