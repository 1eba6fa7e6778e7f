"""What each kind of signal has been worth, as measured in our own lake.

What belongs here: the newest evidence rows and their lookup. What does not: measuring (pipelines).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from altforecast.tables import EVIDENCE
from altforecast_io.lake import PartFile
from altforecast_io.provenance import Provenance
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.lake import LakeReader, scan
from altforecast_serving.queries.rows import latest, not_built

KEY = ("timeframe", "signal", "oscillator", "kind")
SHOWN = (
    "n", "n_control", "hit_frac", "base_frac", "lift_pp", "ci_low_pp", "ci_high_pp", "p_value", "is_significant", "verdict", "known_at",
)  # fmt: skip
NOT_MEASURED = "not measured yet: too few matured events in this lake"
Evidence = dict[tuple[str, ...], dict[str, Any]]
Parts = list[tuple[PartFile, Provenance]]


def newest_evidence(reader: LakeReader) -> tuple[pl.DataFrame, Parts]:
    """The newest row of each signal kind and timeframe, with the parts they come from."""
    frames = []
    seen: pl.DataFrame | None = None
    for paths in reader.walk("evidence", [], None, None, newest_first=True):
        frames.append(scan(paths, pl.lit(True)))
        keys = pl.concat(frames).select(KEY).unique()
        # An older month that adds no kind of signal ends the walk: kinds are never taken out of the measurement.
        if seen is not None and keys.height == seen.height:
            break
        seen = keys
    rows = pl.concat(frames) if frames else EVIDENCE.empty()
    newest = rows.sort("ts").group_by(KEY, maintain_order=True).last().sort(KEY)
    return newest, reader.rests_on("evidence", [], newest)


def evidence_by_kind(rows: pl.DataFrame) -> Evidence:
    """Evidence objects as they stand beside signals, by (timeframe, signal, oscillator, kind)."""
    return {tuple(r[k] for k in KEY): {c: r[c] for c in SHOWN} for r in rows.to_dicts()}


def find_evidence(reader: LakeReader, timeframe: str | None, signal: str | None) -> Answer:
    """The newest evidence rows, of one timeframe or signal if given."""
    rows, parts = newest_evidence(reader)
    if timeframe is not None:
        rows = rows.filter(pl.col("timeframe") == timeframe)
    if signal is not None:
        rows = rows.filter(pl.col("signal") == signal)
    warnings = [] if reader.lake.files("evidence") else [not_built("evidence")]
    return Answer(rows, parts, latest(rows, "known_at"), warnings=warnings)
