"""One family of models trained for all horizons in a run, and the account that the run leaves.

What belongs here: turns, order, words for the run's log, metadata. What does not: a single training (`training`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
import orjson

from altforecast.forecast_params import HORIZONS
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import Lesson, classroom, teach, training_turn

HORIZONS_TAG = "altforecast/horizons"
"""Run tag with horizons as a JSON list; without it all of them are trained."""


def teach_all(house: House, context: dg.AssetExecutionContext, family: str) -> list[Lesson]:
    """Train every horizon of the run in turn, shortest bars first; what happens is told in the run's log line by line.

    A failing horizon fails the run; the ones before it are kept and are not trained again by the next run.
    """
    found = []
    for horizon in wanted(context.run.tags.get(HORIZONS_TAG)):
        with training_turn(house, context.log.info):
            lesson = teach(house, classroom(house, context.run_id), horizon, family, context.run_id, context.log.info)
        context.log.info(f"{horizon}: {lesson.note or f'kept {lesson.version}'}")
        found.append(lesson)
    return found


def wanted(tag: str | None) -> list[str]:
    """Horizons that a run is about; names that are none are left out."""
    named = orjson.loads(tag) if tag else list(HORIZONS)
    return [horizon for horizon in HORIZONS if horizon in named]


def account(lessons: Sequence[Lesson]) -> dg.MaterializeResult[Any]:
    """Metadata: versions, notes and the scores of the walk forward."""
    rows = [_scores(lesson) for lesson in lessons]
    return dg.MaterializeResult(
        metadata={
            "trained": sum(not lesson.note for lesson in lessons),
            "versions": joined((lesson.horizon, lesson.version or "none") for lesson in lessons),
            "notes": joined((lesson.horizon, lesson.note) for lesson in lessons if lesson.note),
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
