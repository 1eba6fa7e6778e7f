"""Where a file of the lake came from, as carried inside the file itself.

What belongs here: the provenance record and its encoding. What does not: writing files (`lake`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import orjson
import polars as pl

METADATA_KEY = "altforecast"


@dataclass(frozen=True)
class Input:
    """One file, inbox range or outside request that a result rests on."""

    kind: str
    """`lake` | `inbox` | `import` | `exchange` | `source`."""
    name: str
    """Part name such as `bars@1h@2024-01`, or a description of the outside input."""
    data_version: str = ""


@dataclass(frozen=True)
class Provenance:
    """Who wrote a file, with which code, from which inputs, when."""

    asset: str
    run_id: str
    code_version: str
    environment: str
    written_at: datetime
    inputs: tuple[Input, ...] = ()
    data_version: str = ""
    part: str = ""
    n_rows: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> str:
        """JSON text for the file's key-value metadata."""
        return orjson.dumps(asdict(self)).decode()


def decode(text: str) -> Provenance:
    """The record that `encode` wrote; raises ValueError on anything else."""
    raw = orjson.loads(text)
    raw["inputs"] = tuple(Input(**i) for i in raw["inputs"])
    raw["written_at"] = datetime.fromisoformat(raw["written_at"])
    return Provenance(**raw)


def data_version(frame: pl.DataFrame) -> str:
    """Content hash of a frame: 16 hex digits, equal for equal values in equal order, whatever wrote them."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr(list(frame.schema.items())).encode())
    for series in frame.iter_columns():
        for chunk in _content(series):
            digest.update(chunk)
    return digest.hexdigest()


def _content(series: pl.Series) -> Iterator[bytes]:
    """Bytes that determine the values; runs of equal text are counted once, because symbols repeat by the thousand."""
    if series.null_count():
        yield series.is_null().to_numpy().tobytes()
    if series.dtype == pl.String:
        runs = series.rle().struct.unnest()
        yield runs["len"].to_numpy().tobytes()
        yield "\x1f".join(v or "" for v in runs["value"].to_list()).encode()
    elif series.dtype == pl.List:
        yield series.list.len().fill_null(0).to_numpy().tobytes()
        yield from _content(series.explode(empty_as_null=False, keep_nulls=False))
    elif len(series):
        filled = series.to_physical().fill_null(False if series.dtype == pl.Boolean else 0)
        yield filled.to_numpy().tobytes()
