"""Which models there are, which of them answers, and what became of the others.

What belongs here: reading the model log of the store, and its rows as answers. What does not: forecasts (`forecasts`), the reports'
figures (`model_reports`) and the rules of promotion (`altforecast.promotion`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from sqlalchemy import func, select

from altforecast.errors import UnknownNameError
from altforecast.forecast_packs import BASELINE
from altforecast.forecast_params import HORIZONS
from altforecast_io.store import models as log
from altforecast_io.store.engine import Store
from altforecast_io.store.models import Event, Model, ModelEvent
from altforecast_io.store.schema import model_events, models
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.model_reports import Report, count_gates, report_card, scores_of

BASELINE_ANSWERS = "the baseline HAR-S-FHS answers"
NO_CHAMPION = f"no champion yet: {BASELINE_ANSWERS}"
NOTHING_TRAINED = (
    "nothing is trained yet: the job train_models does it by itself, minutes after the first start, where Dagster runs and the bars suffice"
)
_DECIDES = (Event.PROMOTED, Event.FORCED, Event.ROLLED_BACK)
MAX_CANDIDATES = 5
MAX_EVENTS = 10
MAX_READ = 40
"""Models and log entries of a horizon that are read: older ones are found by their version only."""
MAX_MODELS_HELD = 16
"""Models whose reports are kept parsed (about 200 kB each); the one used longest ago goes first."""


@dataclass(frozen=True)
class HorizonLog:
    """The log of one horizon at one moment."""

    champion: Model | None
    challenger: Model | None
    newest: tuple[Model, ...]
    events: tuple[ModelEvent, ...]
    """Newest first."""

    @property
    def decided(self) -> ModelEvent | None:
        """The entry that made the present champion, or sent the last one away; None where none did, or long ago."""
        return next((event for event in self.events if event.event in _DECIDES), None)

    def note(self) -> str | None:
        """Why a baseline answers, or that a roll-back brought the champion; None for a champion that was promoted."""
        decided = self.decided
        if decided is None or decided.event is not Event.ROLLED_BACK:
            return None if self.champion is not None else NO_CHAMPION if self.newest else NOTHING_TRAINED
        gone = next((e.version for e in self.events if e.event in (Event.PROMOTED, Event.FORCED)), None)
        answers = BASELINE_ANSWERS if decided.version is None else f"{decided.version} answers again"
        at = f"{decided.at:%Y-%m-%d %H:%M} UTC" if decided.at else "an unknown day"
        return f"{gone or 'the champion'} was rolled back on {at} because {decided.reason}: {answers}"


class ModelLog:
    """The model log of one store, read by many requests at once; what is kept is bounded and renewed when the log grows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._version: Hashable = None
        self._horizons: dict[str, HorizonLog] = {}
        self._models: OrderedDict[str, Model | None] = OrderedDict()

    def version(self) -> Hashable:
        """Changes with every entry of the log, every trained model and every registration; raises StorageError."""
        counted = select(func.count(), func.max(models.c.registered_at)).select_from(models)
        with self._store.read() as connection:
            newest = connection.execute(select(func.max(model_events.c.id))).scalar()
            n_models, registered_at = connection.execute(counted).one()
        found = (newest or 0, n_models, registered_at)
        with self._lock:
            if found != self._version:
                self._version, self._horizons, self._models = found, {}, OrderedDict()
        return found

    def horizon(self, name: str) -> HorizonLog:
        """What the log says of one horizon, as of the last call of `version`; raises StorageError."""
        with self._lock:
            version, held = self._version, self._horizons.get(name)
        if held is not None:
            return held
        found = HorizonLog(
            log.champion(self._store, name), log.challenger(self._store, name),
            tuple(log.newest_models(self._store, name, MAX_READ)), tuple(log.newest_events(self._store, name, MAX_READ)),
        )  # fmt: skip
        with self._lock:
            if self._version == version:  # else the log has grown while it was read
                self._horizons[name] = found
        return found

    def model(self, version: str) -> Model | None:
        """One model with its report; None for an unknown version. Raises StorageError."""
        with self._lock:
            if version in self._models:
                self._models.move_to_end(version)
                return self._models[version]
            seen = self._version
        try:
            found: Model | None = log.find_model(self._store, version)
        except UnknownNameError:
            found = None
        with self._lock:
            if self._version == seen:
                self._models[version] = found
            while len(self._models) > MAX_MODELS_HELD:
                self._models.popitem(last=False)
        return found


def find_models(models_of: ModelLog) -> Answer:
    """Per horizon: champion, challenger, newest candidates with the newest baseline, newest entries of the log."""
    rows = [_horizon_row(name, models_of.horizon(name)) for name in HORIZONS]
    is_empty = not any(row["newest"] for row in rows)
    return Answer(rows, warnings=[NOTHING_TRAINED] if is_empty else [])


def _horizon_row(name: str, held: HorizonLog) -> dict[str, Any]:
    return {
        "horizon": name, "answering": _answering(held), "note": held.note(),
        "champion": _line(held.champion, held) if held.champion else None,
        "challenger": _line(held.challenger, held) if held.challenger else None,
        "newest": [_line(model, held) for model in _shown(held.newest)],
        "events": [asdict(event) for event in held.events[:MAX_EVENTS]],
    }  # fmt: skip


def _answering(held: HorizonLog) -> str | None:
    if held.champion is not None:
        return "champion"
    return "baseline" if held.newest else None


def _shown(newest: Sequence[Model]) -> list[Model]:
    """Candidates must not drown in the baselines, of which there is one a day."""
    candidates = [model for model in newest if model.family != BASELINE][:MAX_CANDIDATES]
    baselines = [model for model in newest if model.family == BASELINE][:1]
    return sorted(candidates + baselines, key=lambda model: model.trained_at, reverse=True)


def _line(model: Model, held: HorizonLog) -> dict[str, Any]:
    n_gates, n_met = count_gates(_judged(model, held))
    plain = {
        "version": model.version, "horizon": model.horizon, "family": model.family, "role": _role(model, held),
        "trained_at": model.trained_at, "train_from": model.train_from, "train_until": model.train_until, "n_rows": model.n_rows,
        "data_hash": model.data_hash, "code_version": model.code_version, "dagster_run_id": model.dagster_run_id,
        "mlflow_run_id": model.mlflow_run_id, "mlflow_version": model.mlflow_version, "registered_at": model.registered_at,
    }  # fmt: skip
    return {**plain, "scores": scores_of(model.report), "n_gates": n_gates, "n_gates_met": n_met}


def _judged(model: Model, held: HorizonLog) -> Report:
    """The report with the verdicts of the newest judgement: they are in the log, not in what training left."""
    verdicts = next((list(e.verdicts) for e in held.events if e.version == model.version and e.verdicts), None)
    return model.report if verdicts is None else {**model.report, "verdicts": verdicts}


def _role(model: Model, held: HorizonLog) -> str:
    if model.family == BASELINE:
        return "baseline"
    for role, now in (("champion", held.champion), ("challenger", held.challenger)):
        if now is not None and now.version == model.version:
            return role
    was = any(e.version == model.version and e.event in (Event.PROMOTED, Event.FORCED) for e in held.events)
    return "former champion" if was else "candidate"


def find_model_card(models_of: ModelLog, version: str) -> Answer:
    """Everything that is known of one model; raises UnknownNameError that lists the newest versions."""
    model = models_of.model(version)
    if model is None:
        known = [m.version for name in HORIZONS for m in _shown(models_of.horizon(name).newest)]
        raise UnknownNameError("version", version, "no such model", known)
    held = models_of.horizon(model.horizon)
    events = [asdict(event) for event in held.events if event.version == version]
    return Answer({**_line(model, held), **report_card(_judged(model, held)), "events": events})
