"""What follows a training: the gate decides, MLflow is told, the walk forward of a new champion goes into the lake.

What belongs here: the order of these steps and their account. What does not: the rules (`altforecast.promotion`), how a decision is
written down (`altforecast_io.model_decisions`) and training (`training`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from altforecast.forecast_packs import BASELINE, LIGHTGBM
from altforecast.forecast_params import HORIZONS
from altforecast.types import Window
from altforecast_io.lake import PartFile, Scope, months_between, next_month
from altforecast_io.provenance import Input, Provenance
from altforecast_io.store import models
from altforecast_io.store.models import Event
from altforecast_pipelines.build import turn
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import walk_path

Say = Callable[[str], None]
GATE = "gate"
_DECIDED = {Event.PROMOTED, Event.CHALLENGER, Event.REJECTED, Event.FORCED}
BASELINE_WALK_KEPT = timedelta(days=7)
"""Baselines are trained every night; their past changes little, and writing it anew every night would be most of the night's rows."""
EVENTS_LOOKED_AT = 500
"""Newest entries of a horizon's log among which the decision on a candidate is looked for."""


@dataclass(frozen=True)
class Step:
    """What was decided about one horizon."""

    horizon: str
    champion: str
    """Version, or `baseline`."""
    decided: str = ""
    """Version that the gate looked at in this run."""
    outcome: str = ""
    reason: str = ""


def decide(house: House, horizon: str, family: str = LIGHTGBM) -> Step:
    """Hold the newest candidate of a family against the gate, once; writes the outcome into the log of models."""
    from altforecast_io.model_decisions import judge

    newest = undecided(house, horizon, family)
    if newest is None:
        return Step(horizon, _champion(house, horizon))
    decision = judge(house.store, newest)
    event = {"promoted": Event.PROMOTED, "challenger": Event.CHALLENGER, "rejected": Event.REJECTED}[decision.outcome]
    verdicts = [verdict._asdict() for verdict in decision.verdicts]
    models.add_event(house.store, models.ModelEvent(horizon, newest.version, event, GATE, decision.reason, verdicts))
    return Step(horizon, _champion(house, horizon), newest.version, decision.outcome, decision.reason)


def undecided(house: House, horizon: str, family: str = LIGHTGBM) -> models.Model | None:
    """The newest candidate of a family, where nobody has decided about it; older ones that were never decided are superseded."""
    candidates = models.newest_models(house.store, horizon, 1, family)
    decided = {e.version for e in models.newest_events(house.store, horizon, EVENTS_LOOKED_AT) if e.event in _DECIDED}
    return candidates[0] if candidates and candidates[0].version not in decided else None


def _champion(house: House, horizon: str) -> str:
    live = models.champion(house.store, horizon)
    return live.version if live else "baseline"


def tell_mlflow(house: House, horizon: str, say: Say) -> list[str]:
    """Register what MLflow lacks and put its aliases right; returns what could not be done, which the next training tries again."""
    from altforecast_io.model_decisions import mirror
    from altforecast_io.model_registry import open_registry

    done = mirror(house.store, open_registry(house.settings), house.settings.models_dir, horizon)
    for version in done.registered:
        say(f"{version}: registered with MLflow")
    for change in done.changes:
        moved = " (somebody had moved it by hand)" if change.by_hand else ""
        say(f"{horizon}: alias {change.alias}: {change.was or 'nobody'} -> {change.now or 'nobody'}{moved}")
    return [f"{horizon}: {fault}" for fault in done.faults]


# ---- walk forward of who answers


def walked_model(house: House, name: str, horizon: str, origin: str | None = None) -> str | None:
    """The model whose walk forward a table of the lake holds; None where it holds none."""
    columns = ["horizon", "model", "forecaster", *(["origin"] if origin else [])]
    rows = house.lake.read(name, HORIZONS[horizon][0], columns=columns).lazy().filter(pl.col("horizon") == horizon)
    if origin:
        rows = rows.filter(pl.col("origin") == origin)
    found = rows.select(pl.col("model").unique()).collect()["model"].to_list()
    return str(found[0]) if len(found) == 1 else None


def write_walk(house: House, horizon: str, provenance: Provenance) -> tuple[list[PartFile], list[pl.DataFrame]]:
    """Put the champion's walk forward in place of the one before it; nothing where it stands already or no file waits.

    Where there never was a champion the newest baseline's stands, of HAR-S and climatology alone, renewed after BASELINE_WALK_KEPT.
    """
    standing = walked_model(house, "walk_forward_forecasts", horizon)
    model = models.champion(house.store, horizon) or _walked_baseline(house, horizon, standing)
    path = walk_path(house, horizon, model.version) if model else None
    if model is None or path is None or not path.exists() or standing == model.version:
        return [], []
    rows = pl.read_parquet(path)
    record = Provenance(**{**vars(provenance), "inputs": (Input("source", f"walk forward of {model.version}", model.data_hash[:16]),)})
    return replace_horizon(house, "walk_forward_forecasts", horizon, rows, pl.lit(True), record), [rows]


def _walked_baseline(house: House, horizon: str, standing: str | None) -> models.Model | None:
    """The newest baseline, where nothing stands or a baseline's grown old; a former champion's past stays."""
    known = models.newest_models(house.store, horizon, family=BASELINE, with_reports=False)
    old = next((m for m in known if m.version == standing), None)
    if not known or (standing is not None and (old is None or known[0].trained_at - old.trained_at < BASELINE_WALK_KEPT)):
        return None
    return known[0]


def replace_horizon(house: House, name: str, horizon: str, rows: pl.DataFrame, mine: pl.Expr, provenance: Provenance) -> list[PartFile]:
    """Replace all rows of one horizon for which `mine` holds, month by month; rows of other horizons stay."""
    timeframe, written = HORIZONS[horizon][0], []
    files = house.lake.files(name, timeframe)
    starts = {f.start for f in files} | set(_months(rows))
    for month in sorted(starts):
        with turn(house.lake, name):
            known = house.lake.read(name, timeframe, month, next_month(month))
            kept = known.filter(~((pl.col("horizon") == horizon) & mine))
            new = rows.filter(pl.col("ts").is_between(month, next_month(month), closed="left"))
            if new.height or kept.height < known.height:
                written += house.lake.replace(
                    name, pl.concat([kept, new]), Scope(Window(month, next_month(month)), (timeframe,)), provenance
                )
    return written


def _months(rows: pl.DataFrame) -> list[datetime]:
    if rows.is_empty():
        return []
    first, last = rows["ts"].min(), rows["ts"].max()
    return months_between(Window(first, last + timedelta(milliseconds=1)))  # type: ignore[arg-type, operator] # the end is not in it
