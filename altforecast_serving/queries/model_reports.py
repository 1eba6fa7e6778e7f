"""Figures of a model's report, whatever part of it is there.

What belongs here: reading the JSON that training leaves (tables of `altforecast.forecast_summary` and verdicts), tolerant of what
a young panel or an older version lacks. What does not: the log of models (`models`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from altforecast_serving.queries.lake import moment

Report = Mapping[str, Any]


def _part(report: Report, name: str) -> Mapping[str, Any]:
    found = report.get(name)
    return found if isinstance(found, Mapping) else {}


def _rows(report: Report, name: str) -> list[Any]:
    found = report.get(name)
    return found if isinstance(found, list) else []


def _number(row: Mapping[str, Any], name: str) -> float | None:
    found = row.get(name)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) and found == found else None


def _time(report: Report, name: str) -> datetime | None:
    found = _number(report, name)
    return None if found is None else moment(int(found))


def direction_of(report: Report) -> Mapping[str, Any]:
    """The direction table of the test; empty where there is none."""
    return _part(report, "direction")


def best_of(report: Report) -> Mapping[str, Any]:
    """Figures of the forecaster that the model answers with; empty where the report has none."""
    return _part(_part(report, "forecasters"), str(report.get("best", "")))


def walk_forward_of(report: Report) -> dict[str, Any] | None:
    """What the model was worth on bars that it did not know; None without a test."""
    best = best_of(report)
    if not best:
        return None
    return {**_skills(best), "test_from": _time(report, "first"), "test_to": _time(report, "last")}


def _skills(row: Mapping[str, Any]) -> dict[str, float | None]:
    plain = {name: _number(row, name) for name in ("skill_climatology", "skill_har", "dm_t")}
    return {**plain, "coverage_80": _number(row, "coverage80"), "coverage_95": _number(row, "coverage95")}


def scores_of(report: Report) -> dict[str, Any]:
    """The figures of a model in one line; null where the report lacks them."""
    direction, n = direction_of(report), _number(report, "n")
    return {
        **_skills(best_of(report)), **{name: _number(direction, name) for name in ("brier_skill", "ece", "accuracy", "majority")},
        "test_from": _time(report, "first"), "test_to": _time(report, "last"), "n": None if n is None else int(n),
    }  # fmt: skip


def count_gates(report: Report) -> tuple[int, int]:
    """Gates of the report, and how many are met."""
    gates = _gates(report)
    return len(gates), sum(gate["is_met"] for gate in gates)


def _gates(report: Report) -> list[dict[str, Any]]:
    rows = [row for row in _rows(report, "verdicts") if isinstance(row, Mapping)]
    words = ("goal", "horizon", "reached", "gate", "aim")
    return [{**{word: str(row.get(word, "")) for word in words}, "is_met": row.get("is_met") is True} for row in rows]


def report_card(report: Report) -> dict[str, Any]:
    """The tables of a model card; empty where the report has none."""
    forecasters = _part(report, "forecasters")
    return {
        "best": report.get("best"),
        "forecasters": [_forecaster(name, row) for name, row in forecasters.items() if isinstance(row, Mapping)],
        **{name: [_group(row) for row in _rows(report, name)] for name in ("symbols", "quarters", "deciles")},
        "coverage_weeks": [
            {"ts": moment(int(at)), "n": int(n), "coverage_80": covered, "coverage_95": None}
            for at, covered, n in _rows(report, "coverage_days") if covered is not None
        ],
        "reliability": [
            {"n": int(n), "mean_probability": p, "happened_frac": happened} for n, p, happened in _rows(direction_of(report), "reliability")
        ],
        "direction": {k: v for k, v in direction_of(report).items() if k != "reliability"} or None,
        "folds": [_fold(row) for row in _rows(report, "folds")],
        "gates": _gates(report), "parameters": dict(_part(report, "parameters")),
        "files": {str(name): str(digest) for name, digest in _part(report, "files").items()},
    }  # fmt: skip


def _fold(row: Any) -> dict[str, Any]:
    """Training leaves three moments [ms]."""
    if isinstance(row, Mapping):
        return dict(row)
    return {name: moment(int(at)) for name, at in zip(("train_until", "test_start", "test_stop"), row, strict=False)}


def _forecaster(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "loss": _number(row, "loss"), "dm_p": _number(row, "dm_p"), **_skills(row)}


def _group(row: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: _number(row, name) for name in ("skill_climatology", "skill_har")}
    covered = {"coverage_80": _number(row, "coverage80"), "coverage_95": _number(row, "coverage95")}
    return {"group": str(row.get("group", "")), "n": int(_number(row, "n") or 0), **figures, **covered}
