"""What an answer rests on, and the envelope that says so.

What belongs here: the envelope, its models and how provenance becomes lineage. What does not: finding rows, HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import orjson
import polars as pl
from pydantic import BaseModel, Field

from altforecast_io.lake import PartFile
from altforecast_io.provenance import Provenance

T = TypeVar("T")
JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY
_NEXT_ROW = b',{"ts":'
"""Where one row ends and the next begins; no text value can hold it, as quotes in values are escaped."""
MAX_PARTS = 24
"""Parts named in one answer: the newest ones; `n_parts` says how many there were."""


class PartLineage(BaseModel):
    """One lake file that an answer rests on; open it with `/api/lineage/{part}`."""

    part: str = Field(examples=["bars@1h@2025-08"])
    data_version: str = Field(description="content hash of the file's rows")
    run_id: str = Field(description="run that wrote it")
    written_at: datetime


class Lineage(BaseModel):
    """Where an answer comes from: the newest part it rests on, and the list of all."""

    run_id: str | None = Field(description="run that wrote the newest part; null when nothing of the lake is in the answer")
    data_version: str | None
    known_at: datetime | None = Field(description="first moment at which the newest row of the answer could be known")
    code_version: str | None
    written_at: datetime | None
    n_parts: int
    parts: list[PartLineage]
    is_provisional: bool = Field(description="some rows are acknowledged but not yet in the lake")


class Envelope(BaseModel, Generic[T]):
    """Body of every successful answer under /api."""

    data: T
    lineage: Lineage
    environment: str = Field(description="live or sandbox", examples=["live"])
    count: int = Field(description="rows in `data` (1 for a single object)")
    next_cursor: str | None = Field(description="give it back as `cursor` for the next page; null on the last page")
    warnings: list[str] = Field(description="what a reader should know: empty lake, missing inputs, how to fill it")


@dataclass(frozen=True)
class Answer:
    """What a query found: rows (a frame or plain data), the parts they rest on, and what to say about them."""

    data: pl.DataFrame | list[Any] | dict[str, Any] | None
    parts: Sequence[tuple[PartFile, Provenance]] = ()
    known_at: datetime | None = None
    is_provisional: bool = False
    next_cursor: str | None = None
    warnings: list[str] = field(default_factory=list)
    json_rows: list[bytes] | None = None
    """The rows of `data` as JSON texts, where they are at hand."""

    @property
    def count(self) -> int:
        """Rows of the answer; 1 for an object, 0 for none."""
        if isinstance(self.data, pl.DataFrame):
            return self.data.height
        if isinstance(self.data, dict) and "latest" in self.data:
            return int(self.data["latest"] is not None)
        return len(self.data) if isinstance(self.data, list) else int(self.data is not None)


def lineage_of(answer: Answer) -> dict[str, Any]:
    """The `lineage` object of an answer."""
    named = sorted(answer.parts, key=lambda pair: (pair[0].month, pair[1].written_at))
    newest = named[-1][1] if named else None
    return {
        "run_id": newest.run_id if newest else None,
        "data_version": newest.data_version if newest else None,
        "known_at": answer.known_at,
        "code_version": newest.code_version if newest else None,
        "written_at": newest.written_at if newest else None,
        "n_parts": len(named),
        "parts": [_part(part, record) for part, record in reversed(named[-MAX_PARTS:])],
        "is_provisional": answer.is_provisional,
    }


def _part(part: PartFile, record: Provenance) -> dict[str, Any]:
    return {"part": part.name, "data_version": record.data_version, "run_id": record.run_id, "written_at": record.written_at}


def envelope(answer: Answer, environment: str) -> dict[str, Any]:
    """The success envelope, ready for JSON; frames become lists of objects."""
    return {
        "data": _data(answer),
        "lineage": lineage_of(answer),
        "environment": environment,
        "count": answer.count,
        "next_cursor": answer.next_cursor,
        "warnings": answer.warnings,
    }


def _data(answer: Answer) -> Any:
    if answer.json_rows is not None:
        return orjson.Fragment(b"[" + b",".join(answer.json_rows) + b"]")
    return answer.data.to_dicts() if isinstance(answer.data, pl.DataFrame) else answer.data


def json_rows(frame: pl.DataFrame) -> list[bytes]:
    """Each row of a frame, whose first column is ts, as the JSON object that answers show.

    Written at once and then cut: the encoder gives each object of its own a buffer of several kB.
    """
    first, *others = orjson.dumps(frame.to_dicts(), option=JSON_OPTIONS)[1:-1].split(_NEXT_ROW)
    return [first, *(_NEXT_ROW[1:] + other for other in others)] if first else []


def newest_known(times: Iterable[datetime | None]) -> datetime | None:
    """The latest of the known times, None when there is none."""
    return max((t for t in times if t is not None), default=None)
