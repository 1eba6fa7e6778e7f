"""Training in the pipelines: the bars that teach, turns, what is kept of a training and what is cleared away.

What belongs here: reading, the lock, files and rows of a trained model. What does not: fitting (`altforecast.forecast_training`), who
becomes champion (`promotions`) and Dagster (`assets`).

Order of writes: walk forward, model folder (put in place at once), row of the store, event. Killed in between, a training leaves files
without a row; the next one removes them. Nothing reads a model that has no row.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from altforecast import CODE_VERSION
from altforecast.errors import InputError, UnknownNameError
from altforecast.forecast_packs import BASELINE, LIGHTGBM
from altforecast.forecast_params import FOLDS, HORIZONS
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import write_parquet_atomically
from altforecast_io.store import models
from altforecast_pipelines.features import INDEX_VENUE, READS, priced_bars, read_signals
from altforecast_pipelines.forecasts import MAX_SERIES
from altforecast_pipelines.resources import House

if TYPE_CHECKING:
    from altforecast.bar_grid import BarGrid
    from altforecast.forecast_features import FeatureMatrix
    from altforecast.forecast_training import Training

MAX_SLOTS = 1_500_000
"""Slots (bars x series) that one training reads at most; beyond it the oldest bars are left out. About 1.5 GB of features."""
MAX_VERSIONS = 400
"""Lake files named in a model's report, the newest of each table first; 400 are eight years of everything that features read."""
WALK_FORWARD_DAYS = 180
"""Newest days of a walk forward that are kept for the lake."""
BASELINES_KEPT, CANDIDATES_KEPT = 5, 12
"""Newest model folders kept per horizon, besides champion and challenger; rows and reports of older ones stay in the store."""
DIGEST = 16
"""Characters of a digest of bars that people are shown."""
RETRY_HOLDS = timedelta(days=1)
"""A run repeated later than this trains everything: what its first attempt finished is old by then."""
Say = Callable[[str], None]


class Classroom:
    """What all trainings of one run read, kept between its steps."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._grids: dict[Timeframe, BarGrid | None] = {}
        self._features: dict[Timeframe, FeatureMatrix] = {}
        self._versions: dict[Timeframe, dict[str, str]] = {}
        self.new: list[str] = []
        """Versions of the candidates trained in this run."""

    def grid(self, timeframe: Timeframe) -> BarGrid | None:
        """Bars of the priced series with the longest history; None without bars."""
        if timeframe not in self._grids:
            self._grids[timeframe] = read_grid(self.house, timeframe)
            self._versions[timeframe] = lake_versions(self.house, timeframe, self._grids[timeframe])
        return self._grids[timeframe]

    def features(self, timeframe: Timeframe) -> FeatureMatrix:
        """Features of the whole grid; raises InputError without bars."""
        from altforecast.forecast_features import build_features

        grid = self.grid(timeframe)
        if grid is None:
            raise InputError("bars", 0, f"no usable bar of {timeframe.value}")
        if timeframe not in self._features:
            self._features.clear()  # one length of bars at a time: a matrix takes up to 1.5 GB
            start, end = (datetime.fromtimestamp(int(grid.ts[i]) / 1000, UTC) for i in (0, -1))
            signals = read_signals(self.house, timeframe, Window(start, end + timeframe.duration))
            self._features[timeframe] = build_features(grid, None, signals)
        return self._features[timeframe]

    def versions(self, timeframe: Timeframe, with_features: bool) -> dict[str, str]:
        """Lake files that taught, with their data versions: bars alone, or also what features read; at most MAX_VERSIONS."""
        found = self._versions.get(timeframe, {})
        return {name: version for name, version in found.items() if with_features or name.startswith("bars@")}


def lake_versions(house: House, timeframe: Timeframe, grid: BarGrid | None) -> dict[str, str]:
    """Files of the lake that cover a grid, with their data versions, in order of table and month; the newest MAX_VERSIONS of them."""
    if grid is None:
        return {}
    start, end = (datetime.fromtimestamp(int(grid.ts[at]) / 1000, UTC) for at in (0, -1))
    files = [
        file
        for name, (timeframes, _) in READS.items()
        for file in house.lake.files(name, timeframe if timeframes else None, start, end + timeframe.duration)
    ]
    newest = sorted(files, key=lambda file: file.start)[-MAX_VERSIONS:]
    return {file.name: file.provenance().data_version for file in sorted(newest, key=lambda file: (file.table, file.start))}


def classroom(house: House, run_id: str) -> Classroom:
    """The classroom of a run; a process runs one run at a time, what an earlier one left goes."""
    if run_id not in house.classrooms:
        house.classrooms.clear()
        house.classrooms[run_id] = Classroom(house)
    return house.classrooms[run_id]


def read_grid(house: House, timeframe: Timeframe) -> BarGrid | None:
    """The newest MAX_SLOTS slots of the MAX_SERIES series with the longest history; None without bars."""
    from altforecast.bar_grid import bar_grid

    counted = bar_counts(house, timeframe)
    if counted.is_empty():
        return None
    chosen = [Series(exchange, symbol) for symbol, exchange in counted[:MAX_SERIES].select("symbol", "exchange").iter_rows()]
    newest: datetime = counted["newest"].max()  # type: ignore[assignment]
    start = newest - timeframe.duration * (MAX_SLOTS // len(chosen) - 1)
    return bar_grid(priced_bars(house, timeframe, Window(start, newest + timeframe.duration), chosen), timeframe)


def bar_counts(house: House, timeframe: Timeframe) -> pl.DataFrame:
    """Bars of each priced series, most first: symbol, exchange, n, newest."""
    bars = house.lake.read("bars", timeframe, columns=["symbol", "exchange", "ts"]).filter(pl.col("exchange") != INDEX_VENUE)
    counted = bars.group_by("symbol", "exchange").agg(pl.len().alias("n"), pl.col("ts").max().alias("newest"))
    return counted.sort("n", "symbol", "exchange", descending=[True, False, False])


def bars_needed(n_series: int, horizon: str) -> int:
    """Bars of all series together from which a baseline of a horizon can learn."""
    return FOLDS.min_train_rows + 2 * HORIZONS[horizon][1] * max(n_series, 1)


# ---- turns


@contextmanager
def training_turn(house: House, say: Say) -> Iterator[None]:
    """The right to train: one training at a time, a second waits; a killed one gives it up at once. Clears what it left."""
    folder = house.settings.models_dir
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another training is at work; waiting until it is done")
            fcntl.flock(file, fcntl.LOCK_EX)
        for name in clear_leftovers(house):
            say(f"removed {name}, which a killed training left")
        yield


def clear_leftovers(house: House) -> list[str]:
    """Remove files of trainings that never got a row in the store; their names."""
    found = []
    for path in sorted(p for horizon in HORIZONS for p in (house.settings.models_dir / horizon).glob("*")):
        version = path.name.removesuffix(WALK_SUFFIX) if path.is_file() else path.name
        if not _has_row(house, version):
            _remove(path)
            found.append(path.name)
    return found


def _has_row(house: House, version: str) -> bool:
    try:
        models.find_model(house.store, version)
    except UnknownNameError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def prune(house: House, horizon: str) -> list[str]:
    """Remove the files of old models that nobody uses; their versions. Rows, reports and events stay."""
    in_use = {m.version for m in (models.champion(house.store, horizon), models.challenger(house.store, horizon)) if m}
    known = models.newest_models(house.store, horizon, limit=500, with_reports=False)
    baselines = [m for m in known if m.family == BASELINE]
    candidates = [m for m in known if m.family != BASELINE]
    old = [m for m in (*baselines[BASELINES_KEPT:], *candidates[CANDIDATES_KEPT:]) if m.version not in in_use]
    gone = [m for m in old if (house.settings.models_dir / m.folder).exists()]
    for model in gone:
        _remove(house.settings.models_dir / model.folder)
        _remove(walk_path(house, model.horizon, model.version))
    return [m.version for m in gone]


# ---- what is kept

WALK_SUFFIX = ".walk_forward.parquet"


def walk_path(house: House, horizon: str, version: str) -> Path:
    """Where a model's forecasts of the past wait: a candidate's for its promotion, a baseline's for a horizon without a champion."""
    return house.settings.models_dir / horizon / f"{version}{WALK_SUFFIX}"


@dataclass(frozen=True)
class Lesson:
    """What became of one horizon in a run."""

    horizon: str
    version: str = ""
    note: str = ""
    """Why nothing was trained; empty where something was."""
    table: dict[str, object] = field(default_factory=dict)
    data_hash: str = ""
    """Digest of the bars that taught the version; empty without one."""


def families(house: House) -> tuple[str, ...]:
    """Boosted models that are trained and held against the gate, in this order: LightGBM, then the challenger's family if one is set."""
    wanted = house.settings.challenger_family
    return (LIGHTGBM,) if wanted == "none" else (LIGHTGBM, wanted)


def trained_on(house: House, horizon: str, family: str, data_hash: str) -> models.Model | None:
    """A model of these very bars, made by this code, whose files are still there."""
    for model in models.newest_models(house.store, horizon, family=family, with_reports=False):
        same = (model.data_hash, model.code_version) == (data_hash, CODE_VERSION)
        if same and (house.settings.models_dir / model.folder).is_dir():
            return model
    return None


def trained_by(house: House, horizon: str, family: str, run_ids: Collection[str]) -> models.Model | None:
    """The newest model that one of these runs made, by this code, within RETRY_HOLDS, whose files are still there."""
    since = house.clock() - RETRY_HOLDS
    for model in models.newest_models(house.store, horizon, family=family, with_reports=False) if run_ids else []:
        is_theirs = model.dagster_run_id in run_ids and model.code_version == CODE_VERSION and model.trained_at >= since
        if is_theirs and (house.settings.models_dir / model.folder).is_dir():
            return model
    return None


def teach(
    house: House, room: Classroom, horizon: str, family: str, run_id: str, say: Say, attempts: Collection[str] = ()
) -> Lesson:  # fmt: skip
    """Train one horizon and keep it, unless a model of these very bars exists; too few bars are a note, not an error.

    attempts: earlier runs that this one repeats; what they finished is not trained again, although bars may have come since.
    """
    from altforecast.forecast_training import data_hash, train_baseline, train_candidate

    done = trained_by(house, horizon, family, attempts)
    if done is not None:
        why = f"{done.version} was finished by run {done.dagster_run_id[:8]}, which this one repeats"
        return Lesson(horizon, done.version, why, data_hash=done.data_hash)
    timeframe = HORIZONS[horizon][0]
    grid = room.grid(timeframe)
    if grid is None:
        return Lesson(horizon, note=f"no bar of {timeframe.value} yet")
    same = trained_on(house, horizon, family, data_hash(grid))
    if same is not None:
        return Lesson(horizon, same.version, f"{same.version} was trained on these very bars already", data_hash=same.data_hash)
    now = round(house.clock().timestamp() * 1000)
    try:
        if family == BASELINE:
            training = train_baseline(grid, horizon, now, progress=say)
        else:
            training = train_candidate(grid, room.features(timeframe), horizon, now, threads=1, family=family, progress=say)
    except InputError as error:
        return Lesson(horizon, note=str(error))
    model = keep(house, training, grid, run_id, room.versions(timeframe, family != BASELINE))
    return Lesson(horizon, model.version, table=dict(model.report), data_hash=model.data_hash)


def keep(house: House, training: Training, grid: BarGrid, run_id: str, versions: Mapping[str, str]) -> models.Model:
    """Files first, then the row, then the event; raises StorageError. versions: of the lake files that taught."""
    from altforecast_io.model_files import file_sums, save_pack

    info = training.pack.info
    folder = Path(info.horizon) / info.version
    (house.settings.models_dir / info.horizon).mkdir(parents=True, exist_ok=True)
    if training.past is not None:
        write_parquet_atomically(walk_path(house, info.horizon, info.version), _walked(training, grid), {})
    save_pack(training.pack, house.settings.models_dir / folder)
    report = {**training.table, "files": file_sums(house.settings.models_dir / folder), "lake_versions": dict(versions)}
    model = models.Model(
        info.version, info.horizon, info.family, folder.as_posix(), _moment(info.trained_at), _moment(info.train_from),
        _moment(info.train_until), info.n_rows, info.data_hash, info.code_version, run_id, report,
    )  # fmt: skip
    models.add_model(house.store, model)
    reason = f"{info.n_rows:,} rows of {len(grid.series)} series, {model.train_from:%Y-%m-%d} to {model.train_until:%Y-%m-%d}"
    models.add_event(house.store, models.ModelEvent(info.horizon, info.version, models.Event.TRAINED, "dagster", reason))
    return model


def _walked(training: Training, grid: BarGrid) -> pl.DataFrame:
    """The newest part of the walk forward as rows of walk_forward_forecasts, of bars that exist, with the prices they count from."""
    import numpy as np

    from altforecast.forecast_training import past_frame

    assert training.past is not None
    info = training.pack.info
    since = int(grid.ts[-1]) - WALK_FORWARD_DAYS * 86_400_000
    rows = past_frame(training.past, grid.timeframe, info.horizon, info.version, since)
    row, column = np.nonzero(~np.isnan(grid.close))
    prices = pl.DataFrame(
        {
            "ts": grid.ts[row], "symbol": np.array([s for s, _ in grid.series])[column],
            "exchange": np.array([e for _, e in grid.series])[column], "price": grid.close[row, column],
        }
    ).with_columns(pl.col("ts").cast(rows.schema["ts"]))  # fmt: skip
    return rows.drop("price").join(prices, on=["ts", "symbol", "exchange"], how="inner").select(rows.columns)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
