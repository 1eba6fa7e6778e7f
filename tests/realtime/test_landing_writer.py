"""The landing writer: rows on disk after the interval, kept while the disk refuses, bounded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from altforecast.books import Book, BookState
from altforecast.errors import StorageError
from altforecast.opportunity_history import cut_rows, event_frame
from altforecast_io.landing import landing_files, read_landing
from realtime import landing_writer
from realtime.landing_writer import LandingWriter
from tests.domain.opportunity_lives import lives

pytestmark = pytest.mark.anyio
NOW = datetime(2024, 6, 1, tzinfo=UTC)
EVENTS = lives(1_717_200_000_000, 1_717_243_200_000, 30)


def make(root: Path, **options: float) -> LandingWriter:
    return LandingWriter(root, lambda: NOW, **options)  # type: ignore[arg-type]


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object, **__: object) -> Path:
        raise StorageError("no space left")

    monkeypatch.setattr(landing_writer, "write_landing", write)


async def test_writer_lands_events_and_cuts(tmp_path: Path) -> None:
    writer = make(tmp_path)
    book = Book("okx", "BTC-USDT")
    book.load([(1.0, 2.0)], [(3.0, 4.0)])
    book.state = BookState.LIVE
    for event in EVENTS:
        writer.note(event)
    writer.note_cut(cut_rows([book], 1_717_243_200_000_000_000))
    assert writer.n_waiting == len(EVENTS) + 1
    await writer.close()
    assert writer.n_waiting == 0
    assert read_landing(landing_files(tmp_path, "opportunity_events"), "opportunity_events").equals(event_frame(EVENTS))
    assert read_landing(landing_files(tmp_path, "book_cuts"), "book_cuts")["ask_prices"].to_list() == [[3.0]]
    await writer.close()
    assert len(landing_files(tmp_path, "opportunity_events")) == 1


async def test_writer_keeps_rows_while_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = make(tmp_path, max_rows=len(EVENTS) + 2)
    for event in EVENTS:
        writer.note(event)
    with monkeypatch.context() as patched:
        refuse(patched)
        await writer.flush()
        assert writer.health() == {"ok": False, "rows_waiting": len(EVENTS), "rows_lost": 0, "error": "no space left"}
        for event in EVENTS[:5]:
            writer.note(event)
        await writer.flush()
    assert writer.health()["rows_lost"] == 3
    await writer.flush()
    assert writer.health() == {"ok": True, "rows_waiting": 0, "rows_lost": 3}
    landed = read_landing(landing_files(tmp_path, "opportunity_events"), "opportunity_events")
    assert landed.height == event_frame([*EVENTS[3:], *EVENTS[:5]]).height


async def test_writer_writes_every_interval_or_when_a_file_is_full(tmp_path: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            writer.note(EVENTS[0])
        if len(slept) == 25:
            for event in EVENTS[1:12]:
                writer.note(event)
        await asyncio.sleep(0)

    writer = LandingWriter(tmp_path, lambda: NOW, interval_s=10.0, rows_per_file=10, sleep=sleep)
    task = asyncio.create_task(writer.run())
    sizes: dict[int, int] = {}
    while len(slept) < 30:
        await asyncio.sleep(0.001)
        sizes[len(landing_files(tmp_path, "opportunity_events"))] = len(slept)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sizes[0] <= 21
    assert max(sizes) == 2


async def test_writer_cancelled_while_writing_loses_nothing(tmp_path: Path) -> None:
    writer = make(tmp_path)
    for event in EVENTS:
        writer.note(event)
    task = asyncio.create_task(writer.flush())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await writer.close()
    assert read_landing(landing_files(tmp_path, "opportunity_events"), "opportunity_events").height == event_frame(EVENTS).height


async def test_writer_puts_files_together_when_nobody_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing_writer, "FILES_BEFORE_COMPACTION", 10)
    writer = make(tmp_path)
    for event in EVENTS[:25]:
        writer.note(event)
        await writer.flush()
    assert len(landing_files(tmp_path, "opportunity_events")) < 10
    assert read_landing(landing_files(tmp_path, "opportunity_events"), "opportunity_events").height == 25


async def test_writer_compaction_refused_writes_no_row_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise StorageError("no space left")

    monkeypatch.setattr(landing_writer, "FILES_BEFORE_COMPACTION", 1)
    monkeypatch.setattr(landing_writer, "compact_landing", refused)
    writer = make(tmp_path)
    for event in EVENTS:
        writer.note(event)
    await writer.flush()
    await writer.flush()
    assert writer.n_waiting == 0
    landed = read_landing(landing_files(tmp_path, "opportunity_events"), "opportunity_events")
    assert landed.height == event_frame(EVENTS).height


async def test_writer_one_table_refused_is_not_hidden_by_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = landing_writer.write_landing

    def write(root: Path, name: str, frame: object, *, table: str) -> Path:
        if table == "opportunity_events":
            raise StorageError("no space left")
        return real(root, name, frame, table=table)  # type: ignore[arg-type]

    monkeypatch.setattr(landing_writer, "write_landing", write)
    writer, book = make(tmp_path), Book("okx", "BTC-USDT")
    book.load([(1.0, 2.0)], [(3.0, 4.0)])
    book.state = BookState.LIVE
    writer.note(EVENTS[0])
    writer.note_cut(cut_rows([book], 1_717_243_200_000_000_000))
    await writer.flush()
    assert len(landing_files(tmp_path, "book_cuts")) == 1
    assert writer.health()["ok"] is False
    assert writer.n_waiting == 1


async def test_writer_a_bug_counts_the_rows_it_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr(landing_writer, "write_landing", broken)
    writer = make(tmp_path)
    writer.note(EVENTS[0])
    with pytest.raises(ZeroDivisionError):
        await writer.flush()
    assert writer.n_lost == 1
