"""From a step to a Dagster asset: description, partitions, schema, checks, metadata.

What belongs here: everything that all table assets share. What does not: the computation of any table (`assets`).
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from html import escape
from typing import Any

import dagster as dg
import polars as pl

from altforecast import CODE_VERSION
from altforecast.tables import table
from altforecast.types import Window
from altforecast_io.lake import next_month
from altforecast_pipelines import due
from altforecast_pipelines.build import Built, MarketStep, Step, build
from altforecast_pipelines.checks import Check, check_specs, results
from altforecast_pipelines.partitions import MONTHLY, ONE_RUN
from altforecast_pipelines.resources import House
from altforecast_pipelines.scope import SCOPE_TAG, Plan, decode_plan, plan_range

FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=2))
"""Bars close every 15 minutes at least; two hours without a build is worth a warning."""
PLOT_WIDTH_PX, PLOT_HEIGHT_PX, PLOT_BARS = 480, 90, 60
PREVIEW_COLUMNS = 10


def plan_of(context: dg.AssetExecutionContext, house: House) -> Plan:
    """The plan in the run's tag; without one (a backfill, a click in the UI) everything in the run's months."""
    text = context.run.tags.get(SCOPE_TAG)
    if text:
        return decode_plan(text)
    keys = context.partition_key_range
    start = MONTHLY.time_window_for_partition_key(keys.start).start
    last = MONTHLY.time_window_for_partition_key(keys.end).start
    return plan_range(Window(start, next_month(last)), house.lake.timeframes("bars"))


def table_asset(
    step: Step | MarketStep, *, group: str, checks: Sequence[Check] = (), doc: str = "", fresh: bool = True
) -> dg.AssetsDefinition:
    """The asset that rebuilds one table by its step; asset key = table name = folder of the lake."""
    checked = tuple(checks)

    @dg.asset(  # type: ignore[untyped-decorator]
        name=step.table,
        deps=list(step.reads),
        check_specs=check_specs(step.table, checked),
        **shared_options(step.table, group, doc, fresh),
    )
    def asset(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
        plan = plan_of(context, house)
        built = build(step, house, plan, context.run_id)
        due.finish(house, context.run_id, step.table)
        yield dg.MaterializeResult(metadata=account(built), check_results=list(results(house, step.table, built, checked)))

    made: dg.AssetsDefinition = asset
    return made


def shared_options(name: str, group: str, doc: str = "", fresh: bool = True) -> dict[str, Any]:
    """Options that every table asset has."""
    return {
        "description": describe(name, doc),
        "group_name": group,
        "partitions_def": MONTHLY,
        "backfill_policy": ONE_RUN,
        "code_version": CODE_VERSION,
        "kinds": {"polars", "parquet"},
        "metadata": {"dagster/column_schema": column_schema(name)},
        "freshness_policy": FRESH if fresh else None,
    }


def describe(name: str, doc: str = "") -> str:
    """Markdown of an asset: meaning, grain, key, and what its module adds."""
    spec = table(name)
    return f"{spec.meaning}.\n\nOne row: {spec.grain}. Key: {', '.join(spec.key)}.{f'{chr(10)}{chr(10)}{doc}' if doc else ''}"


def column_schema(name: str) -> dg.TableSchema:
    """Columns as the UI shows them, from the schema registry."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                str(c.dtype),
                f"{c.meaning} [{c.unit}]" if c.unit else c.meaning,
                constraints=dg.TableColumnConstraints(nullable=c.nullable),
            )
            for c in table(name).columns
        ]
    )


def account(built: Built) -> Mapping[str, Any]:
    """Metadata of a materialization: rows, files, seconds, last rows and a small plot; bounded in size whatever was built."""
    metadata: dict[str, Any] = {
        "dagster/row_count": built.n_rows,
        "files": len(built.parts),
        "seconds": round(built.seconds, 4),
    }
    if built.parts:
        metadata["newest_file"] = built.parts[-1].name
    if built.n_rows:
        metadata["preview"] = dg.MetadataValue.md(preview(built.preview))
        metadata["rows_by_month"] = dg.MetadataValue.md(plot(built.rows_by_month))
    return metadata


def preview(frame: pl.DataFrame) -> str:
    """Markdown table of the first columns of a few rows."""
    shown = frame.select(frame.columns[:PREVIEW_COLUMNS])
    lines = ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * shown.width]
    lines += ["| " + " | ".join(_cell(v) for v in row) + " |" for row in shown.iter_rows()]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = f"{value:%Y-%m-%d %H:%M}" if hasattr(value, "strftime") else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text[:40].replace("|", "/")


def plot(counts: Mapping[str, int]) -> str:
    """Markdown image: one bar per month, newest PLOT_BARS months."""
    newest = list(counts.items())[-PLOT_BARS:]
    svg = "".join(_plot_lines(newest))
    data = base64.b64encode(svg.encode()).decode()
    return f"![rows by month](data:image/svg+xml;base64,{data})"


def _plot_lines(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    top = max((n for _, n in counts), default=0) or 1
    step = PLOT_WIDTH_PX / max(len(counts), 1)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{PLOT_WIDTH_PX}" height="{PLOT_HEIGHT_PX}" role="img">'
    for i, (month, n) in enumerate(counts):
        height = n / top * (PLOT_HEIGHT_PX - 20)
        x, y, width = i * step, PLOT_HEIGHT_PX - 15 - height, max(step - 1, 1)
        yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="#4a7"/>'
        if i in (0, len(counts) - 1):
            yield f'<text x="{min(i * step, PLOT_WIDTH_PX - 45):.0f}" y="{PLOT_HEIGHT_PX - 3}" font-size="10">{escape(month)}</text>'
    yield "</svg>"
