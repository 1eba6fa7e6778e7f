"""What is written down about a trained model: parameters, scores, tables, plots.

What belongs here: a model's report as names, numbers and texts. What does not: where they go (`model_registry`, the command line) and how
they were measured (`altforecast.forecast_summary`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from altforecast_io.forecast_report import plots
from altforecast_io.store.models import Model

Report = Mapping[str, Any]
TABLES = ("quarters", "symbols", "deciles")
"""Lists of the report that have one row per group."""


def model_params(model: Model) -> dict[str, str]:
    """What a model was made of; nested parameters get dotted names, values are cut to 500 characters.

    Of lake files there is one `lake.<table>` per table and length of bars; each file by itself is in the report and in tables/lake_files.
    """
    values = {
        "version": model.version, "horizon": model.horizon, "family": model.family, "n_rows": model.n_rows, "data_hash": model.data_hash,
        "code_version": model.code_version, "train_from": model.train_from.isoformat(), "train_until": model.train_until.isoformat(),
        "trained_at": model.trained_at.isoformat(), **dict(_flat("", model.report.get("parameters") or {})),
        **_lake_params(model.report.get("lake_versions") or {}),
    }  # fmt: skip
    return {key: str(value)[:500] for key, value in values.items()}


def model_metrics(model: Model) -> dict[str, float]:
    """Every score of every forecaster as `<forecaster>.<score>`, of the model itself without a prefix; unknown ones are left out."""
    report, found = model.report, dict[str, Any]()
    best = report.get("best")
    for name, row in (report.get("forecasters") or {}).items():
        found |= {f"{name}.{score}": value for score, value in row.items()}
        found |= row if name == best else {}
    direction = report.get("direction") or {}
    found |= {f"direction.{score}": value for score, value in direction.items()}
    found["n_forecasts"] = report.get("n")
    return {key: value for key, value in found.items() if _is_number(value)}


def model_files(model: Model) -> dict[str, str]:
    """File name -> text: the whole report as JSON, folds, scores by forecaster, quarter, symbol and decile, verdicts, the goals
    held against it before the gate did and lake files as CSV, plots as SVG."""
    report = model.report
    found = {"report.json": orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()}
    baselines = [{"forecaster": name, **row} for name, row in (report.get("forecasters") or {}).items()]
    tables = {"forecasters": baselines, "verdicts": report.get("verdicts") or [], "goals": report.get("goals") or []}
    tables["lake_files"] = [{"part": part, "data_version": version} for part, version in (report.get("lake_versions") or {}).items()]
    tables |= {"folds": _folds(report), **{name: report.get(name) or [] for name in TABLES}}
    found |= {f"tables/{name}.csv": _csv(rows) for name, rows in tables.items() if rows}
    return found | {f"plots/{name}": text for name, text in model_plots(model.horizon, report).items()}


def model_plots(horizon: str, report: Report) -> dict[str, str]:
    """File name -> SVG: coverage over time, skill by quarter, reliability of P(up) where there is one; empty without folds."""
    if not report.get("quarters") or report.get("coverage_days") is None:
        return {}
    known = [row for row in report["quarters"] if row.get("skill_har") is not None]
    weeks = [week for week in report["coverage_days"] if week[1] is not None]
    table = {**report, "quarters": known, "coverage_days": weeks}
    if not (report.get("direction") or {}).get("reliability"):
        table.pop("direction", None)
    return plots({"horizons": {horizon: table}}, "plot") if known else {}


def _folds(report: Report) -> list[dict[str, str]]:
    """Bar opens in UTC: the last that taught, the first tested, the first after the test."""
    names = ("train_until", "test_start", "test_stop")
    moments = ([datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in fold] for fold in report.get("folds") or ())
    return [dict(zip(names, fold, strict=True)) for fold in moments]


def _flat(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), part)
    elif prefix:
        yield prefix, value


def _lake_params(versions: Mapping[str, str]) -> dict[str, str]:
    """`lake.<table>.<bars>` (MLflow's names know no @) -> how many months, which, and a digest of their versions; a lone part
    says its own version."""
    tables: dict[str, list[tuple[str, str]]] = {}
    for part, version in versions.items():
        name, _, month = part.rpartition("@")
        tables.setdefault(name or part, []).append((month, version))
    return {f"lake.{name.replace('@', '.')}": _months(found) for name, found in tables.items()}


def _months(parts: Sequence[tuple[str, str]]) -> str:
    if len(parts) == 1:
        return parts[0][1]
    months = sorted(month for month, _ in parts)
    digest = hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()[:16]
    return f"{len(parts)} months {months[0]} to {months[-1]}, digest {digest}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
