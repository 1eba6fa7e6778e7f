"""The record behind a number: which run wrote it, from what, and from what that came.

What belongs here: finding provenance by data version, part name or inbox id, and following its inputs. What does not: the
envelope of other answers (`altforecast_serving.lineage`).
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import func, select

from altforecast.errors import UnknownNameError
from altforecast.tables import TABLES
from altforecast.types import Timeframe
from altforecast_io.lake import Lake, PartFile
from altforecast_io.landing import landing_files, landing_provenance, landings_log
from altforecast_io.provenance import Provenance, decode
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import inbox
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.lake import LakeReader

MAX_DEPTH = 5
MAX_RECORDS = 200
"""Records in one answer; what lies beyond is named but not opened (`is_cut`)."""
MAX_NAMED = 50
"""Deliveries named in the record of a range of them."""
MAX_INBOX_ID = 2**62
_PART = re.compile(r"^([a-z_]{1,40})(?:@([0-9a-z]{2,3}))?@(\d{4}-\d{2})$")
_RANGE = re.compile(r"^inbox[ :](\d{1,18})\.\.(\d{1,18})$")
_LANDING = re.compile(r"^(?:import|ccxt|latest|events|cuts)-[A-Za-z0-9._-]{1,180}$")
"""Beginnings of the names of landing files, by who wrote them."""
_VERSION = re.compile(r"^[0-9a-f]{16}$")
SPELLINGS = (
    "a data version (16 hex digits)", "a part name (bars@1h@2024-01)", "inbox:<id>", "inbox:<first>..<last>", "a landing file's name",
)  # fmt: skip


def find_lineage(reader: LakeReader, store: Store, name: str, depth: int) -> Answer:
    """The record of `name` with its inputs opened `depth` levels deep; raises UnknownNameError for an unknown one."""
    budget = [MAX_RECORDS]
    record = _open(reader, store, name, "", depth, budget)
    if record is None:
        raise UnknownNameError("id", name, "nothing has this id", SPELLINGS)
    warnings = [f"more than {MAX_RECORDS} inputs: the rest is named but not opened"] if budget[0] <= 0 else []
    return Answer(record, known_at=None, warnings=warnings)


def _open(reader: LakeReader, store: Store, name: str, version: str, depth: int, budget: list[int]) -> dict[str, Any] | None:
    """A record as plain data; None where nothing has this name."""
    budget[0] -= 1
    if (span := _RANGE.match(name)) is not None:
        return _inbox_span(store, name, int(span[1]), int(span[2]))
    if name.startswith("inbox:"):
        return _inbox_record(store, name)
    landed = _landing_record(reader.lake, name)
    if landed is not None:
        return landed
    found = _by_version(reader.lake, name) if _VERSION.match(name) else _by_part(reader, name, version)
    if found is None:
        return None
    inputs = [_input(reader, store, asdict(i), depth - 1, budget) for i in found.inputs]
    record = {**asdict(found), "id": found.data_version, "kind": "lake", "inputs": inputs}
    record["is_current"] = _is_current(reader, found)
    return record


def _input(reader: LakeReader, store: Store, given: dict[str, Any], depth: int, budget: list[int]) -> dict[str, Any]:
    can_open = given["kind"] in ("lake", "inbox") or _LANDING.match(given["name"]) is not None
    if depth < 0 or budget[0] <= 0 or not can_open:
        return {**given, "record": None, "is_cut": can_open}
    return {**given, "record": _open(reader, store, given["name"], given["data_version"], depth, budget), "is_cut": False}


def parse_part(lake: Lake, name: str) -> PartFile | None:
    """The part with this name, whether its file exists or not; None for what is no part name."""
    match = _PART.match(name)
    if match is None or match[1] not in TABLES or TABLES[match[1]].by_timeframe != (match[2] is not None):
        return None
    if match[2] is not None and match[2] not in {tf.value for tf in Timeframe}:
        return None
    try:
        month = datetime.strptime(f"{match[3]}-01+0000", "%Y-%m-%d%z")
    except ValueError:
        return None
    return lake.part(match[1], match[2] or "", month)


def _by_part(reader: LakeReader, name: str, version: str) -> Provenance | None:
    """The present record of a part, or the one that had `version` when the part has been rewritten since."""
    part = parse_part(reader.lake, name)
    present = reader.provenance(part) if part is not None else None
    if present is not None and version in ("", present.data_version):
        return present
    return _logged(reader.lake.root / "provenance" / f"{part.table}.jsonl", version) or present if part is not None and version else present


def _by_version(lake: Lake, version: str) -> Provenance | None:
    logs = (lake.root / "provenance" / f"{table}.jsonl" for table in TABLES)
    return next((found for log in logs if (found := _logged(log, version)) is not None), None)


def _logged(log: Path, version: str) -> Provenance | None:
    """Newest line of a provenance log with this data version."""
    needle = f'"data_version":"{version}"'.encode()
    found = None
    try:
        with log.open("rb") as lines:
            for line in lines:
                # Inputs carry versions too: only a line whose own version it is counts.
                if needle in line and (record := orjson.loads(line)).get("data_version") == version:
                    found = record
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return _decoded(found) if found is not None else None


def _decoded(record: dict[str, Any]) -> Provenance:
    return decode(orjson.dumps(record).decode())


def _landing_record(lake: Lake, name: str) -> dict[str, Any] | None:
    """What a delivered file of bars came from: the imported file, or the venue and span that was fetched."""
    if _LANDING.match(name) is None:
        return None
    name = name.removesuffix(".parquet")
    needle = orjson.dumps({"part": name})[1:-1]
    try:
        with landings_log(lake.root).open("rb") as lines:
            found = next((decode(line.decode()) for line in lines if needle in line), None)
    except FileNotFoundError:
        found = None
    found = found or next((p for f in _waiting(lake, name) if (p := landing_provenance(f)) is not None), None)
    if found is None:
        return None
    inputs = [{**asdict(i), "record": None, "is_cut": False} for i in found.inputs]
    return {**asdict(found), "id": name, "kind": "landing", "inputs": inputs}


def _waiting(lake: Lake, name: str) -> list[Path]:
    return [file for table in TABLES for file in landing_files(lake.root, table, name) if file.stem == name]


def _is_current(reader: LakeReader, record: Provenance) -> bool:
    part = parse_part(reader.lake, record.part)
    present = reader.provenance(part) if part is not None else None
    return present is not None and present.data_version == record.data_version


def _inbox_record(store: Store, name: str) -> dict[str, Any] | None:
    """One acknowledged delivery: where it came from and which run built it; its raw body is not shown."""
    text = name.removeprefix("inbox:")
    if not text.isascii() or not text.isdigit() or int(text) > MAX_INBOX_ID:
        return None
    c = inbox.c
    shown = (c.id, c.kind, c.metric, c.exchange, c.symbol, c.timeframe, c.ts, c.open, c.high, c.low, c.close, c.volume)
    more = (c.is_revision, c.n_duplicates, c.received_at, c.built_at, c.built_run_id)
    with store.read() as connection:
        row = connection.execute(select(*shown, *more).where(c.id == int(text))).one_or_none()
    if row is None:
        return None
    values = {str(column): value for column, value in row._asdict().items()}
    return {**values, "id": name, "kind": "inbox", "source": row.kind, "inputs": []}


def _inbox_span(store: Store, name: str, first: int, last: int) -> dict[str, Any] | None:
    """A range of deliveries: how many, from when to when, and the names of the first of them."""
    c = inbox.c
    inside = c.id.between(first, last)
    with store.read() as connection:
        counted = select(func.count(), func.min(c.received_at), func.max(c.received_at)).where(inside)
        n_rows, since, until = connection.execute(counted).one()
        ids = connection.execute(select(c.id).where(inside).order_by(c.id).limit(MAX_NAMED)).scalars().all()
    if not n_rows:
        return None
    named = [{"kind": "inbox", "name": f"inbox:{i}", "data_version": "", "record": None, "is_cut": True} for i in ids]
    return {"id": name, "kind": "inbox", "n_rows": n_rows, "received_from": since, "received_to": until, "inputs": named}
