"""Turning what a query found into bytes: ETag, 304, formats, and a bounded cache of rendered answers.

What belongs here: how an answer is put on the wire. What does not: finding rows (`queries`), naming their origin (`lineage`).
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum

import orjson
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from altforecast.errors import InputError
from altforecast_serving.lineage import JSON_OPTIONS, Answer, envelope, lineage_of

CACHE_CONTROL = "no-cache"
"""Keep it, but ask before using it: the answer to the question is a 304 of a few hundred bytes."""
MAX_CACHED_ANSWERS = 256
MAX_CACHED_BYTES = 128 * 1024
"""Larger answers are rendered each time."""
MAX_HELD_BYTES = 8 * 1024 * 1024
"""All bodies together; beyond it the answer used longest ago goes, and is rendered again when asked."""


class Format(StrEnum):
    """How rows are written."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv; charset=utf-8",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


@dataclass(frozen=True)
class Rendered:
    """One finished body with the headers that belong to it."""

    body: bytes
    headers: dict[str, str]
    media_type: str


class AnswerCache:
    """Rendered answers by question and data version; the one used longest ago goes first."""

    def __init__(self) -> None:
        self._held: OrderedDict[Hashable, Rendered] = OrderedDict()
        self._n_bytes = 0

    def get(self, key: Hashable) -> Rendered | None:
        """The answer, if it is still held."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: Hashable, rendered: Rendered) -> None:
        """Hold an answer unless it is large."""
        if len(rendered.body) > MAX_CACHED_BYTES:
            return
        replaced = self._held.pop(key, None)
        self._n_bytes += len(rendered.body) - (len(replaced.body) if replaced else 0)
        self._held[key] = rendered
        while len(self._held) > MAX_CACHED_ANSWERS or self._n_bytes > MAX_HELD_BYTES:
            _, oldest = self._held.popitem(last=False)
            self._n_bytes -= len(oldest.body)


def asked_format(request: Request, wanted: Format | None) -> Format:
    """Format of `?format=`, else of the Accept header, else JSON."""
    if wanted is not None:
        return wanted
    accepted = request.headers.get("accept", "")
    if "text/csv" in accepted:
        return Format.CSV
    return Format.ARROW if "application/vnd.apache.arrow" in accepted else Format.JSON


def etag_of(question: Hashable, version: Hashable) -> str:
    """Weak validator of a question under a data version."""
    digest = hashlib.blake2b(repr((question, version)).encode(), digest_size=12)
    return f'W/"{digest.hexdigest()}"'


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the caller holds this very answer (If-None-Match)."""
    sent = request.headers.get("if-none-match", "")
    return sent.strip() == "*" or etag in (tag.strip() for tag in sent.split(","))


def render(answer: Answer, environment: str, fmt: Format = Format.JSON) -> Rendered:
    """The body of an answer; CSV and Arrow carry the rows alone, with their lineage in headers."""
    if fmt is Format.JSON:
        return Rendered(orjson.dumps(envelope(answer, environment), option=JSON_OPTIONS), {}, MEDIA_TYPES[fmt])
    if not isinstance(answer.data, pl.DataFrame):
        raise InputError("format", fmt.value, "only rows have this format", [Format.JSON.value])
    return Rendered(_table_bytes(answer.data, fmt), _lineage_headers(answer, environment), MEDIA_TYPES[fmt])


def _table_bytes(frame: pl.DataFrame, fmt: Format) -> bytes:
    buffer = io.BytesIO()
    if fmt is Format.CSV:
        frame.write_csv(buffer, datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ")
    else:
        # Oldest layout: readers that do not know Arrow's string views can open it.
        frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
    return buffer.getvalue()


def _lineage_headers(answer: Answer, environment: str) -> dict[str, str]:
    lineage = lineage_of(answer)
    values = {
        "X-Environment": environment,
        "X-Run-Id": lineage["run_id"],
        "X-Data-Version": lineage["data_version"],
        "X-Known-At": lineage["known_at"].isoformat() if lineage["known_at"] else None,
        "X-Provisional": "true" if answer.is_provisional else "false",
        "X-Next-Cursor": answer.next_cursor,
        "X-Warnings": "; ".join(answer.warnings).encode("ascii", "replace").decode() or None,
    }
    return {name: str(value) for name, value in values.items() if value}


def as_response(rendered: Rendered, etag: str) -> Response:
    """A finished body as a response that may be kept and revalidated."""
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "Vary": "Accept, Accept-Encoding", **rendered.headers}
    return Response(rendered.body, 200, headers, rendered.media_type)


def not_modified(etag: str) -> Response:
    """304: the caller's copy is still right."""
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": CACHE_CONTROL})


def unkept(answer: Answer, environment: str) -> Response:
    """An answer about this moment: rendered each time, kept by nobody."""
    rendered = render(answer, environment)
    return Response(rendered.body, 200, {"Cache-Control": "no-store"}, rendered.media_type)


async def answered(
    request: Request,
    cache: AnswerCache,
    question: Hashable,
    version: Hashable,
    find: Callable[[], Awaitable[Answer]],
    environment: str,
    fmt: Format = Format.JSON,
) -> tuple[Response, str]:
    """The response to a question under a data version, and where it came from: `unchanged`, `cache` or `fresh`."""
    key = (question, fmt, version)
    etag = etag_of((question, fmt, environment), version)
    if is_unchanged(request, etag):
        return not_modified(etag), "unchanged"
    rendered = cache.get(key)
    if rendered is not None:
        return as_response(rendered, etag), "cache"
    rendered = render(await find(), environment, fmt)
    cache.put(key, rendered)
    return as_response(rendered, etag), "fresh"
