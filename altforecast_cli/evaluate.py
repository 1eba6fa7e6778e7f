"""`altforecast evaluate`: what forecasts from bar files would have been worth.

What belongs here: the command and its table of verdicts. What does not: the evaluation (`altforecast_io.forecast_evaluation`) and
the report (`altforecast_io.forecast_report`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table


def evaluate(
    bars: Annotated[
        list[Path], typer.Option(metavar="PATH...", help="files or folders of Parquet or CSV bars in the columns of the table bars")
    ],
    test_from: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="first day of the test, UTC")],
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="where all tables go")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH...]", help="more bar files")] = None,
    test_to: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="end of the test (exclusive), UTC")] = None,
    symbols: Annotated[str, typer.Option(help="only these symbols, separated by commas")] = "",
    horizons: Annotated[str, typer.Option(help="horizons, separated by commas")] = "15m,1h,4h,24h",
    baselines_only: Annotated[bool, typer.Option("--baselines-only", help="without boosted models")] = False,
    threads: Annotated[int, typer.Option(min=1, help="threads of the boosted models")] = 1,
    tried: Annotated[int, typer.Option(min=1, help="configurations ever tried on these data, for the report")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="keep horizons that FILE already has for the same inputs")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="write the readable report (Markdown, plots beside it)")] = None,
) -> None:
    """Walk forward over bar files and hold the forecasts against the goals F1 to F7."""
    from altforecast_io.forecast_evaluation import EvaluationOptions
    from altforecast_io.forecast_evaluation import evaluate as run
    from altforecast_io.forecast_report import write_report

    console = Console(stderr=True, highlight=False)
    options = EvaluationOptions(
        test_from.replace(tzinfo=UTC), None if test_to is None else test_to.replace(tzinfo=UTC), _words(symbols), _words(horizons),
        baselines_only, threads, tried, resume,
    )  # fmt: skip
    with console.status("reading bars") as status:
        result = run([*bars, *(more or [])], options, json_file, status.update)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("goal", "horizon", "reached", "gate", ""):
        table.add_column(name)
    for verdict in result["verdicts"]:
        style = None if verdict["is_met"] else "red"
        words = "met" if verdict["is_met"] else "MISSED"
        table.add_row(verdict["goal"], verdict["horizon"], verdict["reached"], verdict["gate"], words, style=style)
    Console().print(table)
    for horizon, reason in result["skipped"].items():
        console.print(f"{horizon}: not evaluated, {reason}", style="yellow", markup=False)
    if report is not None:
        write_report(result, report)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
