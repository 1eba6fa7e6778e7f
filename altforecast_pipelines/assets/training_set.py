"""The asset `training_set`: the bars that a training of this moment would learn from, named and counted.

What belongs here: the account of the bars that teach. What does not: reading them (`altforecast_pipelines.training`). Nothing is
written: models learn from `bars` and from features computed like the table `features`; the digest says exactly from which.
"""

from typing import Any

import dagster as dg

from altforecast import CODE_VERSION
from altforecast.forecast_params import HORIZONS
from altforecast_pipelines.features import TIMEFRAMES
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.resources import House
from altforecast_pipelines.training import DIGEST, bars_needed, classroom

DOC = (
    "Bars that teach, by length: series, span, rows with a known outcome for each horizon, digest. Its data version is that digest: "
    "models of the same digest are not trained twice."
)


@dg.asset(deps=["features", "bars"], group_name="models", description=DOC, code_version=CODE_VERSION, kinds={"polars"})
def training_set(context: dg.AssetExecutionContext, house: dg.ResourceParam[House]) -> dg.MaterializeResult[Any]:
    """Read and describe."""
    hold_while_alive(house.settings.dagster_home, context.run_id)
    room = classroom(house, context.run_id)
    rows = [row for timeframe in TIMEFRAMES for row in _account(room, timeframe)]
    digest = "-".join(dict.fromkeys(row["digest"] for row in rows)) or "empty"
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest),
        metadata={"horizons": dg.MetadataValue.md(markdown(rows)), "dagster/row_count": sum(row["rows"] for row in rows)},
    )


def _account(room: Any, timeframe: Any) -> list[dict[str, Any]]:
    import numpy as np

    from altforecast.forecast_targets import return_ahead
    from altforecast.forecast_training import data_hash

    grid = room.grid(timeframe)
    if grid is None:
        return []
    span = " to ".join(f"{np.datetime64(int(grid.ts[i]), 'ms'):.16}" for i in (0, -1))
    digest = data_hash(grid)[:DIGEST]
    return [
        {
            "horizon": name, "bars": timeframe.value, "series": len(grid.series), "span": span, "digest": digest,
            "rows": int((~np.isnan(return_ahead(grid.close, ahead))).sum()), "needed": bars_needed(len(grid.series), name),
        }
        for name, (tf, ahead) in HORIZONS.items() if tf is timeframe
    ]  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; a line of words without any."""
    if not rows:
        return "no bars yet"
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join(
        [*lines, *("| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()) + " |" for row in rows)]
    )
