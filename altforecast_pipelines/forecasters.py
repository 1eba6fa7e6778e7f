"""Who speaks at a bar close: champion, challenger and the newest usable baseline of each horizon, loaded once per process.

What belongs here: choosing and loading packs, and what a pack that cannot be loaded says instead. What does not: forecasting
(`forecasts`), training (`training`), MLflow, which is never asked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from altforecast.errors import AltForecastError
from altforecast.forecast_packs import BASELINE, Pack
from altforecast.forecast_params import HORIZONS
from altforecast.types import Timeframe
from altforecast_io.store import models
from altforecast_pipelines.resources import House

CHAMPION, CHALLENGER, HAR, CLIMATOLOGY = "champion", "challenger", "har", "climatology"
BASELINES_TRIED = 10
"""Newest models of a horizon among which a usable baseline is looked for."""


@dataclass(frozen=True)
class Forecaster:
    """One voice: its role, horizon and model, and the pack or why there is none."""

    role: str
    """champion | challenger | har; har also speaks for climatology."""
    horizon: str
    version: str
    pack: Pack | None
    fault: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Values of the column `forecaster` that it writes."""
        return (HAR, CLIMATOLOGY) if self.role == HAR else (self.role,)


def forecasters(house: House, timeframe: Timeframe | None = None) -> list[Forecaster]:
    """All voices of the horizons made from bars of a length (None: of all); packs no longer in use leave the memory."""
    wanted = [name for name, (tf, _) in HORIZONS.items() if timeframe in (None, tf)]
    found = [one for horizon in wanted for one in _of_horizon(house, horizon)]
    used = {one.version for one in found}
    for version in [v for v, pack in house.packs.items() if pack.info.horizon in wanted and v not in used]:
        del house.packs[version]
    return found


def speakers(house: House, timeframe: Timeframe) -> list[tuple[str, models.Model]]:
    """Role and newest model of each voice, from the log alone: no file is read."""
    found: list[tuple[str, models.Model]] = []
    for horizon in (name for name, (tf, _) in HORIZONS.items() if tf is timeframe):
        chosen = {CHAMPION: models.champion(house.store, horizon), CHALLENGER: models.challenger(house.store, horizon)}
        baselines = models.newest_models(house.store, horizon, 1, family=BASELINE, with_reports=False)
        found += [(role, model) for role, model in chosen.items() if model is not None] + [(HAR, model) for model in baselines]
    return found


def _of_horizon(house: House, horizon: str) -> Iterator[Forecaster]:
    for role, chosen in ((CHAMPION, models.champion(house.store, horizon)), (CHALLENGER, models.challenger(house.store, horizon))):
        if chosen is not None:
            yield _load(house, role, chosen)
    first: Forecaster | None = None
    for model in _baselines(house, horizon):
        one = _load(house, HAR, model)
        first = first or one
        if one.pack is not None:
            yield one
            return
    if first is not None:
        yield first


def _baselines(house: House, horizon: str) -> list[models.Model]:
    """Newest first."""
    return models.newest_models(house.store, horizon, BASELINES_TRIED, family=BASELINE, with_reports=False)


def _load(house: House, role: str, model: models.Model) -> Forecaster:
    """The pack from memory or from its files; whatever is wrong with the files becomes the fault, never an error of the run."""
    from altforecast_io.model_files import load_pack

    try:
        if model.version not in house.packs:
            house.packs[model.version] = load_pack(house.settings.models_dir / model.folder, with_models=model.family != BASELINE)
    except (AltForecastError, ImportError, OSError) as error:
        return Forecaster(role, model.horizon, model.version, None, f"model {model.version} cannot be loaded: {error}")
    return Forecaster(role, model.horizon, model.version, house.packs[model.version])
