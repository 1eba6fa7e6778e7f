"""The inbox: alerts that are acknowledged once they are durable, and read by the pipelines in order.

What belongs here: appending, the group-commit writer, reading and marking. What does not: the wire format of alerts
(`sources.tradingview`) and what bars mean (the pipelines).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import structlog
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import OperationalError

from altforecast.errors import AltForecastError, BusyError, StorageError
from altforecast.streams import Received, Stream
from altforecast.types import Metric, Series, Timeframe
from altforecast_io.sources.tradingview import Alert, decimal_text
from altforecast_io.store.engine import Store
from altforecast_io.store.revisions import HeldRow, repeated
from altforecast_io.store.schema import inbox

Status = Literal["stored", "duplicate", "revision"]
MAX_BATCH = 256
"""Alerts per commit: enough that one disk flush serves every waiting sender."""
MAX_QUEUE = 4096
"""Alerts waiting for a commit; the next one is refused with BusyError."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Receipt:
    """Proof that an alert is durable: `duplicate` points to the row that already held it."""

    id: int
    status: Status


@dataclass(frozen=True)
class Delivery:
    """One alert and the address it came from."""

    alert: Alert
    source_ip: str | None = None


@dataclass(frozen=True)
class InboxRow:
    """One row of the inbox: one content of one bar; of several for the same bar the highest id is the newest."""

    id: int
    kind: str
    metric: Metric
    series: Series
    timeframe: Timeframe
    ts: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    is_revision: bool
    n_duplicates: int
    raw: str
    received_at: datetime
    source_ip: str | None
    built_at: datetime | None
    built_run_id: str | None


@dataclass(frozen=True)
class Pending:
    """What waits for the pipelines; ids and time are None when nothing does."""

    n_rows: int
    first_id: int | None
    last_id: int | None
    oldest_received_at: datetime | None


def append(store: Store, deliveries: Sequence[Delivery]) -> list[Receipt]:
    """Store deliveries in one transaction, in order; returns one receipt each. Durable on return, or nothing is.

    The newest content of a bar again is a `duplicate` (counted, no new row), and so is an older content within RESEND_WINDOW
    of its receipt: a late resend must not undo a correction. Anything else for a known bar is a `revision`, also a content
    that the bar had before.
    Raises StorageError.
    """
    with store.write() as connection:
        # Ids must become visible in order, or a reader that follows them would pass over a slower writer's rows.
        store.lock(connection, "inbox")
        return _append(connection, deliveries)


def _append(connection: Connection, deliveries: Sequence[Delivery]) -> list[Receipt]:
    known = _known(connection, {_key(d.alert) for d in deliveries})
    new: list[HeldRow] = []
    outcomes: list[tuple[HeldRow, Status]] = []
    repeats: dict[int, int] = defaultdict(int)
    for delivery in deliveries:
        held = known[_key(delivery.alert)]
        row = repeated(held, content=delivery.alert.content_hash, received_at=delivery.alert.received_at)
        if row is None:
            row = _new_row(held, delivery)
            outcomes.append((row, "revision" if held else "stored"))
            held.append(row)
            new.append(row)
            continue
        outcomes.append((row, "duplicate"))
        if row.values is None:
            repeats[row.id] += 1
        else:
            row.values["n_duplicates"] += 1
    for row, new_id in zip(new, _insert(connection, [row.values for row in new if row.values]), strict=True):
        row.id = new_id
    _count_repeats(connection, repeats)
    return [Receipt(row.id, status) for row, status in outcomes]


def _new_row(held: Sequence[HeldRow], delivery: Delivery) -> HeldRow:
    content, received_at = delivery.alert.content_hash, delivery.alert.received_at
    recurrence = sum(r.content == content for r in held)
    return HeldRow(0, content, received_at, _values(delivery, content, recurrence, is_revision=bool(held)))


def _key(alert: Alert) -> tuple[Any, ...]:
    return (alert.series.exchange, alert.series.symbol, alert.timeframe.value, alert.ts)


_FIND = (
    select(inbox.c.id, inbox.c.content_hash, inbox.c.received_at, inbox.c.exchange, inbox.c.symbol, inbox.c.timeframe, inbox.c.ts)
    .where(inbox.c.ts.in_(bindparam("opens", expanding=True)))
    .order_by(inbox.c.id)
)
_INSERT = insert(inbox).returning(inbox.c.id, sort_by_parameter_order=True)
_REPEAT = update(inbox).where(inbox.c.id == bindparam("row_id")).values(n_duplicates=inbox.c.n_duplicates + bindparam("more"))


def _known(connection: Connection, keys: set[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[HeldRow]]:
    """Rows in id order, for each key."""
    found: dict[tuple[Any, ...], list[HeldRow]] = {key: [] for key in keys}
    # By open time alone: streams close together, and SQLite uses no index for a list of whole keys.
    for row_id, content, received_at, *key in connection.execute(_FIND, {"opens": list({key[-1] for key in keys})}):
        if tuple(key) in found:
            found[tuple(key)].append(HeldRow(row_id, content, received_at))
    return found


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> list[int]:
    return list(connection.execute(_INSERT, rows).scalars()) if rows else []


def _count_repeats(connection: Connection, repeats: Mapping[int, int]) -> None:
    if repeats:
        connection.execute(_REPEAT, [{"row_id": row_id, "more": n} for row_id, n in repeats.items()])


def _values(delivery: Delivery, content: str, recurrence: int, *, is_revision: bool) -> dict[str, Any]:
    alert = delivery.alert
    return {
        "kind": "tradingview", "metric": alert.metric.value, "exchange": alert.series.exchange, "symbol": alert.series.symbol,
        "timeframe": alert.timeframe.value, "ts": alert.ts, "open": decimal_text(alert.open), "high": decimal_text(alert.high),
        "low": decimal_text(alert.low), "close": decimal_text(alert.close),
        "volume": None if alert.volume is None else decimal_text(alert.volume), "content_hash": content, "recurrence": recurrence,
        "is_revision": is_revision, "n_duplicates": 0, "raw": alert.raw, "received_at": alert.received_at,
        "source_ip": delivery.source_ip,
    }  # fmt: skip


# ---- the writer


@dataclass(frozen=True)
class _Waiting:
    delivery: Delivery
    future: asyncio.Future[Receipt]
    loop: asyncio.AbstractEventLoop


class InboxWriter:
    """One thread that commits alerts in groups; `submit` returns when the alert is durable.

    Bounds: `max_queue` alerts wait (then BusyError), `max_batch` share a commit. `stop` finishes what waits.
    """

    def __init__(self, store: Store, *, max_queue: int = MAX_QUEUE, max_batch: int = MAX_BATCH) -> None:
        self._store = store
        self._max_batch = max_batch
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(max_queue)
        self._thread = threading.Thread(target=self._run, name="inbox-writer", daemon=True)
        self._is_open = False

    def start(self) -> None:
        """Start the thread; alerts are taken from now on."""
        self._is_open = True
        self._thread.start()

    def stop(self, deadline_s: float = 5.0) -> bool:
        """Take no more, commit what waits, end the thread; False when the deadline passed first. Blocks."""
        was_open, self._is_open = self._is_open, False
        try:
            if was_open:
                self._queue.put(None, timeout=deadline_s)
        except queue.Full:
            return False
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        if self._thread.is_alive():
            return False
        self._refuse_rest()
        return True

    def _refuse_rest(self) -> None:
        """Answer those who came between the last look at the queue and its end; nobody waits for ever."""
        while not self._queue.empty():
            late = self._queue.get_nowait()
            if late is not None:
                _answer([late], [BusyError("the inbox is not open")])

    @property
    def depth(self) -> int:
        """Alerts waiting for a commit."""
        return self._queue.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether alerts can be stored."""
        return self._is_open and self._thread.is_alive()

    async def submit(self, alert: Alert, source_ip: str | None = None) -> Receipt:
        """Wait until the alert is durable; raises BusyError when full or stopped, StorageError when it was not stored."""
        if not self.is_alive:
            raise BusyError("the inbox is not open")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        try:
            self._queue.put_nowait(_Waiting(Delivery(alert, source_ip), future, loop))
        except queue.Full:
            raise BusyError(f"the inbox queue is full ({self._queue.maxsize} alerts wait)") from None
        return await future

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, is_last = self._gather(first)
            self._commit(batch)
            if is_last:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        while len(batch) < self._max_batch:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            outcomes: Sequence[Receipt | Exception] = append(self._store, [w.delivery for w in batch])
        except Exception as error:  # every waiting sender must get an answer, whatever went wrong
            if len(batch) > 1 and not _is_refusal(error):
                # One bad row must not fail its neighbours.
                for waiting in batch:
                    self._commit([waiting])
                return
            log.error("inbox commit failed", rows=len(batch), error=str(error))
            outcomes = [error if isinstance(error, AltForecastError) else StorageError(f"inbox: {type(error).__name__}")] * len(batch)
        _answer(batch, outcomes)


def _is_refusal(error: Exception) -> bool:
    """Whether the database as a whole refused (full, locked, gone), so that single rows would fare no better."""
    return isinstance(error, StorageError) and isinstance(error.__cause__, OperationalError)


def _answer(batch: Sequence[_Waiting], outcomes: Sequence[Receipt | Exception]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Receipt], Receipt | Exception]]] = defaultdict(list)
    for waiting, outcome in zip(batch, outcomes, strict=True):
        by_loop[waiting.loop].append((waiting.future, outcome))
    for loop, answers in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, answers)


def _resolve(answers: Iterable[tuple[asyncio.Future[Receipt], Receipt | Exception]]) -> None:
    for future, outcome in answers:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


# ---- reading and marking


def tail(store: Store, after_id: int = 0, limit: int = 1000) -> list[InboxRow]:
    """Up to `limit` rows with a higher id, in id order; following the last id seen misses no row."""
    with store.read() as connection:
        query = select(inbox).where(inbox.c.id > after_id).order_by(inbox.c.id).limit(limit)
        return [_row(r) for r in connection.execute(query).mappings()]


def last_id(store: Store) -> int:
    """Highest id in the inbox, 0 when empty."""
    with store.read() as connection:
        return connection.execute(select(func.max(inbox.c.id))).scalar() or 0


def unbuilt(store: Store, limit: int = 10_000) -> list[InboxRow]:
    """Up to `limit` newest rows that no pipeline run has built yet, in id order: the provisional bars."""
    query = select(inbox).where(inbox.c.built_at.is_(None)).order_by(inbox.c.id.desc()).limit(limit)
    with store.read() as connection:
        return [_row(r) for r in connection.execute(query).mappings()][::-1]


def pending(store: Store) -> Pending:
    """How much waits for the pipelines."""
    query = select(func.count(), func.min(inbox.c.id), func.max(inbox.c.id), func.min(inbox.c.received_at))
    with store.read() as connection:
        return Pending(*connection.execute(query.where(inbox.c.built_at.is_(None))).one())


def mark_built(store: Store, up_to_id: int, run_id: str) -> int:
    """Mark all unbuilt rows up to `up_to_id` as built by `run_id` now; returns how many. Raises StorageError."""
    change = update(inbox).where(inbox.c.built_at.is_(None), inbox.c.id <= up_to_id)
    with store.write() as connection:
        return connection.execute(change.values(built_at=store.clock(), built_run_id=run_id)).rowcount


def received(store: Store, since: datetime) -> dict[Stream, Received]:
    """Deliveries for bars that opened at or after `since`, and the newest open before it, per stream that ever came."""
    stream = (inbox.c.exchange, inbox.c.symbol, inbox.c.timeframe)
    recent = select(*stream, inbox.c.ts, inbox.c.n_duplicates, inbox.c.is_revision, inbox.c.received_at).where(inbox.c.ts >= since)
    older = select(*stream, func.max(inbox.c.ts).label("ts"), func.max(inbox.c.received_at).label("received_at"))
    with store.read() as connection:
        rows = _by_stream(connection.execute(recent).mappings())
        newest_before = _by_stream(connection.execute(older.where(inbox.c.ts < since).group_by(*stream)).mappings())
    return {stream: _received(rows.get(stream, []), newest_before.get(stream, [])) for stream in {*rows, *newest_before}}


def _by_stream(rows: Iterable[RowMapping]) -> dict[Stream, list[RowMapping]]:
    found: dict[Stream, list[RowMapping]] = defaultdict(list)
    for row in rows:
        found[(Series(row["exchange"], row["symbol"]), Timeframe(row["timeframe"]))].append(row)
    return found


def _received(recent: Sequence[RowMapping], before: Sequence[RowMapping]) -> Received:
    n_duplicates = sum(r["n_duplicates"] for r in recent)
    return Received(
        n_received=len(recent) + n_duplicates,
        n_duplicates=n_duplicates,
        n_revisions=sum(r["is_revision"] for r in recent),
        last_received_at=max(r["received_at"] for r in (*recent, *before)),
        opens=frozenset(r["ts"] for r in (*recent, *before)),
    )


def prune(store: Store, received_before: datetime) -> int:
    """Delete rows that are built and were received before a time; returns how many. Unbuilt rows always stay."""
    old = delete(inbox).where(inbox.c.built_at.is_not(None), inbox.c.received_at < received_before)
    with store.write() as connection:
        return connection.execute(old).rowcount


def _row(row: RowMapping) -> InboxRow:
    fields: dict[str, Any] = dict(row)
    del fields["content_hash"], fields["recurrence"]
    fields["series"] = Series(fields.pop("exchange"), fields.pop("symbol"))
    fields["metric"] = Metric(row["metric"])
    fields["timeframe"] = Timeframe(row["timeframe"])
    fields |= {name: Decimal(row[name]) for name in ("open", "high", "low", "close")}
    fields["volume"] = None if row["volume"] is None else Decimal(row["volume"])
    return InboxRow(**fields)
