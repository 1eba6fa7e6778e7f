"""One family of models trained for all horizons in a run, and the account that the run leaves.

What belongs here: turns, order, words for the run's log, metadata. What does not: a single training (`training`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
import orjson
from dagster._core.storage.tags import PARENT_RUN_ID_TAG

from altforecast.forecast_params import HORIZONS
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import DIGEST, Lesson, classroom, teach, training_turn

MAX_ATTEMPTS = 10
"""Attempts that are looked back on; Dagster makes three by itself, a person may make more."""
HORIZONS_TAG = "altforecast/horizons"
"""Run tag with horizons as a JSON list; without it all of them are trained."""


def teach_all(house: House, context: dg.AssetExecutionContext, family: str) -> list[Lesson]:
    """Train every horizon of the run in turn, shortest bars first; what happens is told in the run's log line by line.

    A failing horizon fails the run; the ones before it are kept and are not trained again by the next run on the same bars, nor by a
    retry of this run on newer ones.
    """
    found, attempts = [], earlier_attempts(context.instance, context.run)
    for horizon in wanted(context.run.tags.get(HORIZONS_TAG)):
        with training_turn(house, context.log.info):
            lesson = teach(house, classroom(house, context.run_id), horizon, family, context.run_id, context.log.info, attempts)
        context.log.info(f"{horizon}: {lesson.note or f'kept {lesson.version}'}")
        found.append(lesson)
    return found


def earlier_attempts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Ids of the failed runs that a run repeats, back to the first; one that succeeded is repeated for new models, so it ends this."""
    found: set[str] = set()
    parent = run.tags.get(PARENT_RUN_ID_TAG)
    while parent and parent not in found and len(found) < MAX_ATTEMPTS:
        before = instance.get_run_by_id(parent)
        if before is None or before.is_success:
            break
        found.add(parent)
        parent = before.tags.get(PARENT_RUN_ID_TAG)
    return found


def wanted(tag: str | None) -> list[str]:
    """Horizons that a run is about; names that are none are left out."""
    named = orjson.loads(tag) if tag else list(HORIZONS)
    return [horizon for horizon in HORIZONS if horizon in named]


def beside_the_training_set(instance: dg.DagsterInstance, lessons: Sequence[Lesson]) -> dict[str, str]:
    """Digest of the bars by horizon, where they are not those that the newest `training_set` names: bars came or a retry read anew."""
    event = instance.get_latest_materialization_event(dg.AssetKey("training_set"))
    tags = event.asset_materialization.tags if event and event.asset_materialization else None
    named = (tags or {}).get("dagster/data_version", "").split("-")
    return joined((x.horizon, x.data_hash[:DIGEST]) for x in lessons if x.data_hash and x.data_hash[:DIGEST] not in named)


def account(context: dg.AssetExecutionContext, lessons: Sequence[Lesson]) -> dg.MaterializeResult[Any]:
    """Metadata: versions, notes, digests of the bars and the scores of the walk forward.

    Digests that `training_set` does not name are set apart and warned of: Dagster's lineage would otherwise say that it taught.
    """
    others = beside_the_training_set(context.instance, lessons)
    for horizon, digest in others.items():
        context.log.warning(f"{horizon}: taught by bars {digest}, which are not those of the newest training_set")
    rows = [_scores(lesson) for lesson in lessons]
    return dg.MaterializeResult(
        metadata={
            "trained": sum(not lesson.note for lesson in lessons),
            "versions": joined((lesson.horizon, lesson.version or "none") for lesson in lessons),
            "notes": joined((lesson.horizon, lesson.note) for lesson in lessons if lesson.note),
            "digests": joined((lesson.horizon, lesson.data_hash[:DIGEST]) for lesson in lessons if lesson.data_hash),
            "digests_not_of_training_set": others,
            "walk_forward": dg.MetadataValue.md(_markdown([row for row in rows if row])),
        }
    )


def joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One text per horizon, of all families."""
    found: dict[str, list[str]] = {}
    for horizon, text in pairs:
        found.setdefault(horizon, []).append(text)
    return {horizon: ", ".join(dict.fromkeys(texts)) for horizon, texts in found.items()}


def _scores(lesson: Lesson) -> dict[str, str]:
    table: Any = lesson.table
    best = (table.get("forecasters") or {}).get(table.get("best")) if table else None
    if not best:
        return {}
    shown = {"skill over climatology": "skill_climatology", "skill over HAR-S": "skill_har", "80 %": "coverage80", "95 %": "coverage95"}
    figures = {word: f"{best[name]:.2%}" if best.get(name) is not None else "unknown" for word, name in shown.items()}
    return {"horizon": lesson.horizon, "forecasts": f"{table['n']:,}", **figures, "folds": f"{len(table['folds'])} ({table['calendar']})"}


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return "no walk forward"
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)])
