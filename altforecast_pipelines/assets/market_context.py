"""The asset `market_context`: outside figures, added to what is there.

What belongs here: the asset and the merge with earlier readings. What does not: asking suppliers (`altforecast_io.market_context`).
"""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from altforecast.tables import MARKET_CONTEXT
from altforecast.types import Window
from altforecast_io.lake import Scope, month_start, next_month
from altforecast_pipelines.build import Built, summary, turn
from altforecast_pipelines.checks import check_specs, no_future, results, unique_keys
from altforecast_pipelines.resources import House
from altforecast_pipelines.table_assets import account, shared_options

CHECKS = (unique_keys("market_context"), no_future("market_context"))
DOC = "A supplier that fails leaves no row: a missing figure is missing, never 0. Readings cannot be fetched for the past."


@dg.asset(check_specs=check_specs("market_context", CHECKS), pool="context", **shared_options("market_context", "market", DOC))  # type: ignore[untyped-decorator]
def market_context(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> Iterator[dg.MaterializeResult[Any]]:
    """Ask every supplier once and keep its readings."""
    from altforecast_io.market_context import fetch_market_context

    readings, states = fetch_market_context(house.settings, house.clock)
    built = add_readings(house, readings, context.run_id)
    sources = {s.name: f"{s.state} {s.detail}".strip() for s in states}
    yield dg.MaterializeResult(
        metadata={**account(built), "sources": sources}, check_results=list(results(house, "market_context", built, CHECKS))
    )


def add_readings(house: House, readings: pl.DataFrame, run_id: str) -> Built:
    """Readings into the months of their own times; the first delivery of a reading stays."""
    began = perf_counter()
    if readings.is_empty():
        return Built("market_context")
    window = Window(month_start(readings["ts"].min()), next_month(readings["ts"].max()))  # type: ignore[arg-type]
    with turn(house.lake, "market_context"):
        known = house.lake.read("market_context", None, window.start, window.end)
        both = pl.concat([known, readings]).unique(MARKET_CONTEXT.key, keep="first", maintain_order=True)
        parts = house.lake.replace("market_context", both, Scope(window), house.provenance("market_context", run_id))
    return summary("market_context", [both], parts, perf_counter() - began)
