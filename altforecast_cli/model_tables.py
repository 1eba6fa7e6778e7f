"""Models as tables on the screen, and the same as values for JSON.

What belongs here: what a person sees of a model. What does not: the commands (`models`) and the figures (`altforecast_io.model_card`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from altforecast.promotion import compare_losses
from altforecast_io.model_card import model_metrics, model_params
from altforecast_io.store.models import Model, ModelEvent

Row = Mapping[str, Any]
_SCORES = ("skill_climatology", "skill_har", "dm_t", "coverage80", "coverage95")
_AS_PERCENT = ("skill_climatology", "skill_har", "coverage80", "coverage95")


def summary(model: Model, role: str) -> dict[str, Any]:
    """A model in one line; a score that is not known is None."""
    metrics = model_metrics(model)
    return {
        "version": model.version, "role": role, "family": model.family, "trained_at": model.trained_at.isoformat(),
        "train_until": model.train_until.isoformat(), "n_rows": model.n_rows, **{score: metrics.get(score) for score in _SCORES},
        "mlflow_version": model.mlflow_version,
    }  # fmt: skip


def comparison(first: Model, second: Model) -> dict[str, Any]:
    """Two models of one horizon side by side; `losses` says whose are smaller on the days that both forecast."""
    found = compare_losses(first.report, second.report)
    losses: dict[str, Any] = {"n_days": found.n_days, "difference": _known(found.difference), "t": _known(found.t)}
    losses["words"] = "no day in common" if found.n_days == 0 else (
        f"{first.version} is {'better' if found.difference < 0 else 'worse' if found.difference > 0 else 'equal'}: "
        f"{-found.difference:+.3%} of climatology's loss over {found.n_days} days, t {found.t:.1f}"
    )  # fmt: skip
    return {"versions": [first.version, second.version], "rows": _beside(first, second), "losses": losses}


def _beside(first: Model, second: Model) -> list[dict[str, Any]]:
    found = []
    for kind, pair in (
        ("score", (model_metrics(first), model_metrics(second))),
        ("parameter", (model_params(first), model_params(second))),
    ):
        names = dict.fromkeys([*pair[0], *pair[1]])
        wanted = [n for n in names if kind == "parameter" or n in _SCORES or n.startswith("direction.") or n == "n_forecasts"]
        found += [{"kind": kind, "name": name, "values": [side.get(name) for side in pair]} for name in wanted]
    return found


def card(model: Model, history: Sequence[ModelEvent], role: str) -> dict[str, Any]:
    """Everything about a model; history newest first. `verdicts`: the newest judgement of the log, before one those of training, which
    stand in `goals` afterwards."""
    events = [
        {"at": e.at and e.at.isoformat(), "event": e.event.value, "actor": e.actor, "reason": e.reason, "verdicts": list(e.verdicts)}
        for e in history
    ]
    return {
        **summary(model, role), "horizon": model.horizon, "folder": model.folder, "dagster_run_id": model.dagster_run_id,
        "mlflow_run_id": model.mlflow_run_id, "parameters": model_params(model), "metrics": model_metrics(model),
        **{name: list(model.report.get(name) or []) for name in ("quarters", "goals", "verdicts")},
        **{name: dict(model.report.get(name) or {}) for name in ("files", "lake_versions")}, "events": events,
    }  # fmt: skip


def print_horizons(console: Console, horizons: Iterable[Row]) -> None:
    """One table per horizon, headed by who answers; scores: skill over climatology and HAR-S, its t, coverage. Fits 80 columns."""
    for found in horizons:
        who = found["champion"] or ("the baseline HAR-S-FHS" if found["models"] else "nobody")
        console.print(f"[bold]{found['horizon']}[/bold]: {who} answers", soft_wrap=True)
        head = ("version", "role", "clim.", "HAR-S", "DM t", "80 %", "95 %", "MLflow")
        rows = [(m["version"], m["role"], *(_briefly(s, m[s]) for s in _SCORES), _shown("", m["mlflow_version"])) for m in found["models"]]
        _print(console, head, rows, 0) if rows else console.print("  no model trained yet")
        _print_mirror(console, found.get("mlflow"))


def _print_mirror(console: Console, mirror: Row | None) -> None:
    if mirror is None:
        return
    if "fault" in mirror:
        console.print(f"  MLflow does not answer: {mirror['fault']}", style="yellow", markup=False, soft_wrap=True)
    elif not mirror["agrees"]:
        console.print(f"  MLflow's aliases differ from the log: {mirror['aliases'] or 'none'}", style="yellow", markup=False)


def print_comparison(console: Console, found: Row) -> None:
    """Scores first, then what the models were made of; equal parameters are left out."""
    rows = [
        (row["name"], *(_shown(row["name"], value) for value in row["values"]))
        for row in found["rows"]
        if row["kind"] == "score" or row["values"][0] != row["values"][1]
    ]
    _print(console, ("", *found["versions"]), rows)
    console.print(found["losses"]["words"], markup=False, soft_wrap=True)


def print_card(console: Console, found: Row) -> None:
    """A model's page."""
    console.print(f"[bold]{found['version']}[/bold] {found['role']}: {found['horizon']} ahead, {found['family']}", soft_wrap=True)
    _print(console, ("parameter", "value"), [(k, v[:80]) for k, v in found["parameters"].items()])
    _print(console, ("score", "value"), [(k, _shown(k, v)) for k, v in found["metrics"].items() if "." not in k or k.startswith("dir")])
    if found["quarters"]:
        head = ("quarter", "n", "over climatology", "over HAR-S", "80 %", "95 %")
        _print(console, head, [(str(f["group"]), f"{f['n']:,}", *(_shown(s, f.get(s)) for s in _AS_PERCENT)) for f in found["quarters"]])
    _print_verdicts(console, found["goals"])
    _print_verdicts(console, found["verdicts"])
    _print(console, ("at", "event", "by", "reason"), [((e["at"] or "")[:19], e["event"], e["actor"], e["reason"]) for e in found["events"]])


def print_decision(console: Console, answer: Row) -> None:
    """What was decided and what MLflow made of it."""
    _print_verdicts(console, answer.get("verdicts") or [])
    style = "red" if "error" in answer else None
    console.print(answer.get("reason") or f"{answer['version']} is in MLflow", style=style, markup=False, soft_wrap=True)
    mirror = answer.get("mlflow") or {}
    for change in mirror.get("changes", ()):
        words = ", moved by hand before" if change["by_hand"] else ""
        console.print(f"MLflow: {change['alias']} stands on {change['now'] or 'nothing'} (was {change['was'] or 'nothing'}{words})")
    for fault in mirror.get("faults", ()):
        console.print(f"MLflow: not told yet, {fault}", style="yellow", markup=False, soft_wrap=True)


def _print_verdicts(console: Console, verdicts: Sequence[Row]) -> None:
    if verdicts:
        rows = [(v["goal"], v["reached"], v["gate"], "met" if v["is_met"] else "MISSED") for v in verdicts]
        _print(console, ("rule", "reached", "asked", ""), rows)


def _print(console: Console, head: Sequence[str], rows: Iterable[Sequence[str]], gap: int = 1) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0))
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=name in ("version", "role"))
    for row in rows:
        table.add_row(*row, style="red" if row[-1] == "MISSED" else None)
    console.print(table)


def _shown(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2%}" if name in _AS_PERCENT else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _briefly(name: str, value: float | None) -> str:
    """A score in at most six places, so that names of 28 characters and all scores fit 80 columns."""
    if value is None or name not in _AS_PERCENT:
        return "-" if value is None else f"{value:.1f}"
    return f"{value:.1%}" if name.startswith("coverage") else f"{value:.2%}"


def _known(value: float) -> float | None:
    return value if value == value else None
