"""What is due to be forecast from the bars of one length, and the rows that say it.

What belongs here: series and bars that wait, the bars read for them, calibrations that are missing, forecasts, adding rows to tables
whose rows are never rewritten. What does not: who speaks (`forecasters`), the numbers (`altforecast.forecasting`), Dagster (`assets`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import polars as pl

from altforecast.errors import AltForecastError
from altforecast.feature_table import SIGNAL_COLUMNS
from altforecast.forecast_params import HORIZONS
from altforecast.forecast_tables import FORECAST_CALIBRATIONS, FORECASTS
from altforecast.tables import table
from altforecast.types import Series, Timeframe, Window
from altforecast_io.lake import PartFile, Scope, month_start, next_month
from altforecast_io.provenance import Input, Provenance
from altforecast_pipelines.build import Built, summary, turn
from altforecast_pipelines.features import INDEX_VENUE, TIMEFRAMES, read_months, read_signals
from altforecast_pipelines.forecasters import Forecaster, forecasters, speakers
from altforecast_pipelines.resources import House

if TYPE_CHECKING:
    from altforecast.bar_grid import BarGrid
    from altforecast.forecast_features import FeatureMatrix

MAX_SERIES = 64
"""Series forecast per length of bars: those with the longest history; the others are named in a warning of the run."""
CATCH_UP = timedelta(days=14)
"""Bars older than this before the newest one are not forecast any more, and a series without a bar since has ended."""
AT_BAR_CLOSE = "bar_close"
"""Trigger of the runs that the sensor starts."""
_BAR = ("symbol", "exchange")
_OF_GRID = (*_BAR, "timeframe", "ts", "open", "high", "low", "close", "volume", "known_at", "quality")


@dataclass(frozen=True)
class Due:
    """Bars from `first` [ms] on that a forecaster has not spoken of, for at least one series."""

    forecaster: Forecaster
    first: int
    waiting: pl.DataFrame
    """The series that wait: symbol, exchange, newest, first."""


def newest_bars(house: House, timeframe: Timeframe) -> pl.DataFrame:
    """Newest open of every priced series that is still alive: symbol, exchange, newest; empty without bars."""
    found = house.lake.hot("bars", timeframe).lazy().filter(pl.col("exchange") != INDEX_VENUE)
    newest = found.group_by(_BAR).agg(pl.col("ts").max().alias("newest")).collect()
    return newest.filter(pl.col("newest") > pl.col("newest").max() - CATCH_UP).sort(_BAR)


def chosen_series(house: House, timeframe: Timeframe) -> tuple[pl.DataFrame, list[str]]:
    """`newest_bars` of at most MAX_SERIES series, longest history first, and the names of those left out."""
    alive = newest_bars(house, timeframe)
    if alive.height <= MAX_SERIES:
        return alive, []
    counted = house.lake.read("bars", timeframe, columns=[*_BAR, "ts"]).group_by(_BAR).len()
    ranked = alive.join(counted, on=_BAR, how="left").sort("len", *_BAR, descending=[True, False, False], nulls_last=True)
    left_out = [f"{symbol} {exchange}" for symbol, exchange in ranked[MAX_SERIES:].select(_BAR).iter_rows()]
    return ranked[:MAX_SERIES].select(alive.columns).sort(_BAR), left_out


def spoken_until(house: House, timeframe: Timeframe) -> pl.DataFrame:
    """Newest bar that each forecaster spoke of: symbol, exchange, horizon, forecaster, spoken."""
    said = house.lake.hot("forecasts", timeframe).lazy()
    return said.group_by(*_BAR, "horizon", "forecaster").agg(pl.col("ts").max().alias("spoken")).collect()


def waiting_series(series: pl.DataFrame, spoken: pl.DataFrame, horizon: str, forecaster: str, earliest: int) -> pl.DataFrame:
    """Series with bars from `earliest` [ms] on that a forecaster has not spoken of: symbol, exchange, newest, first of those bars."""
    mine = spoken.filter((pl.col("horizon") == horizon) & (pl.col("forecaster") == forecaster))
    both = series.join(mine, on=_BAR, how="left")
    start = pl.lit(earliest).cast(both.schema["newest"])
    first = pl.max_horizontal(pl.col("spoken").dt.offset_by(HORIZONS[horizon][0].value), start)
    return both.with_columns(first.alias("first")).filter(pl.col("newest") >= pl.col("first")).select(*_BAR, "newest", "first")


def is_waiting(house: House) -> bool:
    """Whether a forecaster of the log has bars to speak of; loads no model."""
    for timeframe in TIMEFRAMES:
        series = newest_bars(house, timeframe)
        spoken = spoken_until(house, timeframe)
        voices = speakers(house, timeframe) if series.height else []
        back = _ms(series["newest"].max()) - CATCH_UP // timedelta(milliseconds=1) if series.height else 0
        for name, model in voices:
            earliest = max(back, _ms(model.train_until) + timeframe.ms)
            if waiting_series(series, spoken, model.horizon, name, earliest).height:
                return True
    return False


class Refresh:
    """Everything that one run says from the bars of one length; bars and features are read once, at their first use."""

    def __init__(self, house: House, timeframe: Timeframe) -> None:
        """Look what is due; reads the hot files and the log of models."""
        self.house, self.timeframe = house, timeframe
        self.series, self.left_out = chosen_series(house, timeframe)
        self.voices = forecasters(house, timeframe) if self.series.height else []
        self.spoken = spoken_until(house, timeframe)
        self.dues = [due for voice in self.voices if (due := self._due(voice)) is not None]
        self.faults = [voice.fault for voice in self.voices if voice.fault]

    def _due(self, voice: Forecaster) -> Due | None:
        """From the first bar that a series waits for; bars that the model may have learned from are never due."""
        newest = _ms(self.series["newest"].max())
        earliest = newest - CATCH_UP // timedelta(milliseconds=1)
        if voice.pack is not None:
            earliest = max(earliest, voice.pack.info.train_until + self.timeframe.ms)
        waiting = waiting_series(self.series, self.spoken, voice.horizon, voice.names[-1], earliest)
        return Due(voice, _ms(waiting["first"].min()), waiting) if waiting.height else None

    # ---- what it rests on

    @cached_property
    def first(self) -> int:
        """First bar that must be answered for [ms]: the first that is due, or older where a calibration has to catch up."""
        starts = [due.first for due in self.dues]
        bars = {due.forecaster.horizon: HORIZONS[due.forecaster.horizon][1] for due in self.dues}
        for due, days in self.missing:
            if due.forecaster.pack is not None and days:
                starts.append(int(due.forecaster.pack.residuals.ts[-1]) - bars[due.forecaster.horizon] * self.timeframe.ms)
        return min(starts)

    @cached_property
    def window(self) -> Window:
        """Times of the bars that are read."""
        from altforecast.forecasting import warmup_bars

        start = self.first - (warmup_bars(self.timeframe) + 1) * self.timeframe.ms
        return Window(_moment(start), _moment(_ms(self.series["newest"].max()) + 1))

    @cached_property
    def grid(self) -> BarGrid:
        """The bars of the chosen series."""
        from altforecast.bar_grid import bar_grid

        wanted = [Series(exchange, symbol) for symbol, exchange in self.series.select(_BAR).iter_rows()]
        return bar_grid(read_months(self.house, "bars", self.timeframe, self.window, _OF_GRID, wanted), self.timeframe)

    @cached_property
    def features(self) -> FeatureMatrix | None:
        """Features of all bars from `first` on; None where only baselines speak."""
        from altforecast.forecast_features import build_features

        used = {n for due in self.dues if due.forecaster.pack and due.forecaster.pack.bundle for n in due.forecaster.pack.info.features}
        if not used:
            return None
        last = (int(self.grid.ts[-1]) - self.first) // self.timeframe.ms + 1
        reads = any(column.name in used for column in SIGNAL_COLUMNS)
        signals = read_signals(self.house, self.timeframe, self.window, _moment(self.first)) if reads else None
        return build_features(self.grid, last, signals)

    # ---- calibrations

    @cached_property
    def calibrations(self) -> pl.DataFrame:
        """Stored calibrations of the days that are due."""
        days = [_moment(day) for due in self.dues for day in self._days(due)]
        if not days:
            return FORECAST_CALIBRATIONS.empty()
        return self.house.lake.read("forecast_calibrations", self.timeframe, min(days), max(days) + timedelta(milliseconds=1))

    def _days(self, due: Due) -> list[int]:
        """First instants of the days [ms] that the bars due lie in."""
        from altforecast.forecasting import renewal_ts

        first, newest = renewal_ts(due.first), _ms(self.series["newest"].max())
        return list(range(first, newest + 1, 86_400_000))

    @cached_property
    def missing(self) -> list[tuple[Due, list[int]]]:
        """Days [ms] of which a forecaster has no calibration yet."""
        known = {(model, _ms(ts)) for model, ts in self.calibrations.select("model", "ts").unique().iter_rows()}
        usable = [due for due in self.dues if due.forecaster.pack is not None]
        return [(due, [day for day in self._days(due) if (due.forecaster.version, day) not in known]) for due in usable]

    def renewed(self) -> pl.DataFrame:
        """Rows of forecast_calibrations for the missing days; a pack whose residuals do not reach gives none and a fault."""
        from altforecast.forecasting import renew_calibration

        frames = [FORECAST_CALIBRATIONS.empty()]
        for due, days in self.missing:
            try:
                frames += [renew_calibration(_pack(due), self.grid, day, self.features) for day in days]
            except AltForecastError as error:
                self.faults.append(f"{due.forecaster.version}: no calibration: {error}")
        rows = pl.concat(frames)
        self.calibrations = pl.concat([self.calibrations, rows])
        return rows

    # ---- forecasts

    def forecasts(self, made_at: datetime) -> pl.DataFrame:
        """Rows of forecasts for everything that is due, none that was said before."""
        if not self.dues:
            return FORECASTS.empty()
        rows = pl.concat([self._said(due, made_at) for due in self.dues])
        waiting = pl.concat(
            [
                due.waiting.with_columns(pl.lit(due.forecaster.horizon).alias("horizon"), pl.lit(name).alias("forecaster"))
                for due in self.dues
                for name in due.forecaster.names
            ]
        )
        mine = rows.join(waiting, on=[*_BAR, "horizon", "forecaster"], how="inner").filter(pl.col("ts").is_between("first", "newest"))
        return mine.select(FORECASTS.schema.names())

    def _said(self, due: Due, made_at: datetime) -> pl.DataFrame:
        from altforecast.forecasting import forecast_bars

        voice = due.forecaster
        if voice.pack is None:
            return silent_rows(self.grid, due, voice.fault, made_at)
        try:
            return forecast_bars(voice.pack, self.grid, due.first, self.calibrations, _ms(made_at), voice.role, self.features)
        except AltForecastError as error:
            self.faults.append(f"{voice.version}: {error}")
            return silent_rows(self.grid, due, f"model {voice.version}: {error}", made_at)


def _pack(due: Due) -> Any:
    return due.forecaster.pack


def silent_rows(grid: BarGrid, due: Due, reason: str, made_at: datetime) -> pl.DataFrame:
    """Rows of forecasts without quantiles: one for each bar that exists from due.first on, each with the reason."""
    import numpy as np

    voice, (timeframe, bars) = due.forecaster, HORIZONS[due.forecaster.horizon]
    row, column = np.nonzero(~np.isnan(grid.close) & (grid.ts >= due.first)[:, None])
    said = pl.DataFrame(
        {
            "ts": grid.ts[row], "symbol": [grid.series[c][0] for c in column], "exchange": [grid.series[c][1] for c in column],
            "target_ts": grid.ts[row] + (bars + 1) * timeframe.ms, "price": grid.close[row, column],
        }
    )  # fmt: skip
    constant = {"timeframe": timeframe.value, "horizon": voice.horizon, "model": voice.version, "reason": reason, "known_at": made_at}
    alike = [pl.lit(value).alias(name) for name, value in constant.items()]
    frames = [said.with_columns(pl.lit(name).alias("forecaster"), *alike) for name in voice.names]
    return pl.concat(frames).select(
        (pl.col(name) if name in (*said.columns, *constant, "forecaster") else pl.lit(None).alias(name)).cast(dtype)
        for name, dtype in FORECASTS.schema.items()
    )


# ---- tables whose rows are never rewritten


def add_rows(house: House, name: str, rows: pl.DataFrame, provenance: Provenance, inputs: Iterable[Input] = ()) -> Built:
    """Add rows to the months of their times; a key that is there already keeps its row. Without new rows nothing is written."""
    began = perf_counter()
    written: list[PartFile] = []
    added: list[pl.DataFrame] = []
    record = Provenance(**{**vars(provenance), "inputs": tuple(inputs)})
    for (timeframe, _), part in _by_file(rows):
        month = month_start(_moment(_ms(part["ts"].min())))
        with turn(house.lake, name):
            known = house.lake.read(name, timeframe or None, month, next_month(month))
            new = part.join(known.select(table(name).key), on=table(name).key, how="anti") if known.height else part
            if new.height:
                scope = Scope(Window(month, next_month(month)), (Timeframe(timeframe),) if timeframe else ())
                written += house.lake.replace(name, pl.concat([known, new]), scope, record)
        added.append(new)
    return summary(name, added, written, perf_counter() - began)


def _by_file(rows: pl.DataFrame) -> Sequence[tuple[tuple[str, str], pl.DataFrame]]:
    timeframe = pl.col("timeframe") if "timeframe" in rows.columns else pl.lit("")
    keyed = rows.with_columns(timeframe.alias("_timeframe"), pl.col("ts").dt.strftime("%Y-%m").alias("_month"))
    groups = keyed.partition_by("_timeframe", "_month", as_dict=True, include_key=False, maintain_order=True)
    return [((str(key[0]), str(key[1])), frame) for key, frame in groups.items()]


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def newest_of(times: pl.Series) -> datetime | None:
    """The latest of some times; None for an empty column."""
    newest = times.max()
    return newest if isinstance(newest, datetime) else None
