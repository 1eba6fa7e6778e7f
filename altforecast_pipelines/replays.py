"""The job that replays a recording under a grid of sizes, thresholds and fees, in one pass.

What belongs here: its configuration, the table it leaves. What does not: replaying (`altforecast_io.replay_runs`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from altforecast_io.lake import write_parquet_atomically
from altforecast_pipelines.launcher import hold_while_alive
from altforecast_pipelines.resources import House

FOLDER = "replays"
"""Folder of the lake that holds one file per run; no table, because no run follows from another."""
SHOWN = (
    "size_usdt", "threshold_pct", "fees_bps", "opportunities", "profit_usdt", "optimal_profit_usdt", "median_lifetime_ms",
    "capture_500ms_frac",
)  # fmt: skip
TEXTS = ("fees_bps", "digest", "source")
COUNTS = ("opportunities", "closed", "frames")


class GridConfig(dg.Config):
    """What to replay and under which choices; an empty list stands for what the settings say."""

    source: str
    """A file, a folder or a range FROM..TO of this environment's recordings."""
    format: str = ""
    """cryptofeed | hftbacktest for somebody else's recording, which then needs `venue`."""
    venue: str = ""
    symbols: list[str] = Field(default_factory=list)
    sizes_usdt: list[float] = Field(default_factory=list)
    thresholds_pct: list[float] = Field(default_factory=list)
    fees_bps: list[str] = Field(default_factory=list)
    """Each as `binance=7.5,okx=8`."""


@dg.op(pool="upkeep", description="Replay a recording under every combination of sizes, thresholds and fees.")
def replay_choices(context: dg.OpExecutionContext, config: GridConfig, house: dg.ResourceParam[House]) -> None:
    from altforecast_io.replay_runs import find_recording, grid
    from altforecast_io.replay_runs import replay_choices as run

    hold_while_alive(house.settings.dagster_home, context.run_id)
    recorded = find_recording(house.settings, config.source, config.format, config.venue, config.symbols)
    account, rows = run(house.settings, recorded, grid(config.sizes_usdt, config.thresholds_pct, config.fees_bps))
    frame = result_frame(rows, account.digest, account.n_frames, config.source)
    path = house.lake.root / FOLDER / f"{context.run_id}.parquet"
    write_parquet_atomically(path, frame, {})
    context.add_output_metadata(
        {
            "frames": account.n_frames,
            "book_updates": sum(account.updates.values()),
            "digest": account.digest,
            "file": str(path.relative_to(house.lake.root)),
            "results": dg.MetadataValue.md(markdown(rows)),
        }
    )


def result_frame(rows: Sequence[dict[str, Any]], digest: str, n_frames: int, source: str) -> pl.DataFrame:
    """One row per choice, with what it rests on."""
    full = [row | {"digest": digest, "frames": n_frames, "source": Path(source).name} for row in rows]
    types = {name: pl.String() if name in TEXTS else pl.Int64() if name in COUNTS else pl.Float64() for name in full[0]}
    return pl.DataFrame(full, schema=types)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The columns that decide, as a Markdown table."""
    lines = ["| " + " | ".join(SHOWN) + " |", "|" + "---|" * len(SHOWN)]
    lines += ["| " + " | ".join("configured" if row[c] is None else f"{row[c]}" for c in SHOWN) + " |" for row in rows]
    return "\n".join(lines)


@dg.job(executor_def=dg.in_process_executor)
def replay_grid() -> None:
    """Replay a recording under a grid of choices; the result is in the run's metadata and under `replays/` of the lake."""
    replay_choices()
