"""What a replay is asked for: which recording, which costs and sizes, and what opportunities were worth under each.

What belongs here: finding the frames, making scanners, summing up events. What does not: driving sessions (`replay`) and asking
people or Dagster (callers).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from altforecast.errors import InputError
from altforecast.opportunities import OpportunityEvent, OpportunityEventKind
from altforecast.params import ARBITRAGE, ArbitrageParams
from altforecast.scanner import Scanner
from altforecast.symbols import parse_symbol, parse_venue
from altforecast.trading_terms import TradingTerms
from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_io.foreign_recordings import open_foreign_session, read_foreign
from altforecast_io.recordings import Frame, first_needed, read_range, read_recording, recording_files, unread_bytes
from altforecast_io.replay import OpenSession, Replay
from altforecast_io.replay_account import ReplayAccount
from altforecast_io.settings import Settings

_RANGE = re.compile(r"^(\d{4}-\d\d-\d\d(?:T[\d:.]+)?)Z?\.\.(\d{4}-\d\d-\d\d(?:T[\d:.]+)?)Z?$")
MAX_GRID = 200
"""Scanners driven in one pass."""


def recordings_dir(settings: Settings) -> Path:
    """Folder in which the realtime process records."""
    return settings.home / "recordings"


@dataclass(frozen=True)
class Recorded:
    """The frames of a replay and how their sessions are opened."""

    frames: Iterator[Frame]
    open_session: OpenSession
    count_from_ns: int = 0
    symbols: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """Our own files among what is read: damage in them is told."""


def find_recording(settings: Settings, source: str, form: str = "", venue: str = "", symbols: Sequence[str] = ()) -> Recorded:
    """The frames that a source names: a file, a folder of recordings, or a range FROM..TO (UTC) of this environment's recordings.

    form: empty for our own recordings, otherwise cryptofeed | hftbacktest, and `venue` names whose frames they are.
    Raises InputError where there is nothing to read.
    """
    wanted = tuple(parse_symbol(s) for s in symbols)
    if form:
        if not venue:
            raise InputError("--venue", "", f"needed with --format {form}: whose frames are they?")
        return Recorded(read_foreign(form, Path(source), parse_venue(venue), wanted), open_foreign_session)
    if venue:
        raise InputError("--venue", venue, "says whose frames somebody else's recording holds: needed with --format only")
    known = wanted or settings.book_symbols
    span = _RANGE.match(source)
    if span is not None:
        return _range(settings, _moment(span.group(1)), _moment(span.group(2)), known)
    path = Path(source)
    if path.is_dir():
        files = recording_files(path)
        if not files:
            raise InputError("folder", source, "holds no recording")
        return Recorded(read_range(files), open_session, 0, known, tuple(f.path for f in files))
    if not path.is_file():
        raise InputError("recording", source, "is no file, no folder and no range such as 2026-08-01..2026-08-02T12:00")
    return Recorded(read_recording(path), open_session, 0, known, (path,))


def _range(settings: Settings, start_ns: int, end_ns: int, symbols: tuple[str, ...]) -> Recorded:
    files = recording_files(recordings_dir(settings))
    inside = [f for f in files if f.first_ns < end_ns]
    shown = f"{_shown(start_ns)}..{_shown(end_ns)}"
    if start_ns >= end_ns:
        raise InputError("range", shown, "its start must lie before its end")
    if not inside:
        raise InputError("range", shown, f"no recording of it in {recordings_dir(settings)}")
    needed = inside[first_needed(inside, start_ns) :]
    return Recorded(read_range(needed, None, end_ns), open_session, start_ns, symbols, tuple(f.path for f in needed))


def _shown(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%dT%H:%M:%S}"


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("range", text, "is no time such as 2026-08-01T12:00") from None
    return int(moment.replace(tzinfo=UTC).timestamp() * 1_000_000_000)


@dataclass(frozen=True)
class Choice:
    """Costs and sizes of one scanner; None keeps what the settings say."""

    size_usdt: float | None = None
    threshold_pct: float | None = None
    fees_bps: Mapping[str, float] | None = None
    """Taker fees of the venues named; the others keep theirs."""

    def label(self) -> dict[str, Any]:
        """For tables."""
        fees = ",".join(f"{v}={f:g}" for v, f in sorted((self.fees_bps or {}).items()))
        return {"size_usdt": self.size_usdt, "threshold_pct": self.threshold_pct, "fees_bps": fees or None}


def parse_fees(text: str) -> dict[str, float]:
    """Fees of `binance=7.5,okx=8` [bps]; raises InputError."""
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        venue, _, fee = part.partition("=")
        try:
            found[parse_venue(venue)] = float(fee)
        except ValueError:
            raise InputError("fees", part, "not of the form venue=bps") from None
        if not 0 <= found[parse_venue(venue)] <= 1000:
            raise InputError("fees", part, "must be between 0 and 1000 bps")
    return found


def grid(sizes: Sequence[float], thresholds: Sequence[float], fees: Sequence[str]) -> list[Choice]:
    """Every combination, each list in its order; an empty list stands for what the settings say. Raises InputError above MAX_GRID."""
    parsed = [parse_fees(f) or None for f in fees]
    choices = [Choice(*values) for values in product(sizes or (None,), thresholds or (None,), parsed or (None,))]
    if len(choices) > MAX_GRID:
        raise InputError("grid", len(choices), f"more than {MAX_GRID} combinations")
    return choices


def make_scanner(settings: Settings, choice: Choice) -> Scanner:
    """The scanner of the live system under a choice; transfer costs are the assumed ones, for a recording does not hold terms."""
    params: ArbitrageParams = replace(
        ARBITRAGE,
        target_size_usdt=settings.target_size_usdt if choice.size_usdt is None else choice.size_usdt,
        min_net_edge_pct=settings.min_net_edge_pct if choice.threshold_pct is None else choice.threshold_pct,
        slippage_bps=settings.slippage_bps,
        withdraw_cost_usdt=settings.withdraw_cost_usdt,
        sane_edge_pct=settings.sane_edge_pct,
        stale_after_ms=settings.book_stale_after_sec * 1000,
        max_skew_ms=float(settings.book_max_skew_ms),
    )
    fees = {**settings.taker_fees_bps, **(choice.fees_bps or {})}
    return Scanner(TradingTerms(fees, settings.taker_fee_bps, settings.transfer_terms_max_age_hours), params)


@dataclass
class Harvest:
    """What the opportunities of one scanner came to; memory grows by one number per closed opportunity."""

    n_opened: int = 0
    profit_usdt: float = 0.0
    """Sum at birth, at the fixed size."""
    optimal_profit_usdt: float = 0.0
    lifetimes_ms: list[int] = field(default_factory=list)
    n_known: Counter[int] = field(default_factory=Counter)
    n_captured: Counter[int] = field(default_factory=Counter)
    captured_usdt: Counter[int] = field(default_factory=Counter)
    _seen: dict[str, int] = field(default_factory=dict)
    """Captures counted so far, of opportunities whose captures are not complete."""

    def add(self, event: OpportunityEvent) -> None:
        """One event."""
        one = event.opportunity
        if event.kind is OpportunityEventKind.OPENED:
            self.n_opened += 1
            self.profit_usdt += one.expected_profit_usdt
            self.optimal_profit_usdt += one.optimal_profit_usdt
        elif event.kind is OpportunityEventKind.CLOSED:
            self.lifetimes_ms.append(event.ts_ms - event.opened_ms)
        for capture in event.captures[self._seen.get(one.id, 0) :]:
            self.n_known[capture.delay_ms] += 1
            if capture.profit_usdt is not None and capture.profit_usdt > 0:
                self.n_captured[capture.delay_ms] += 1
                self.captured_usdt[capture.delay_ms] += capture.profit_usdt  # type: ignore[assignment]
        if event.captures:
            self._seen[one.id] = len(event.captures)
        if event.reason and len(event.captures) == len(ARBITRAGE.capture_ms):
            self._seen.pop(one.id, None)

    def as_dict(self) -> dict[str, Any]:
        """One row of a table."""
        row: dict[str, Any] = {
            "opportunities": self.n_opened,
            "closed": len(self.lifetimes_ms),
            "profit_usdt": round(self.profit_usdt, 6),
            "optimal_profit_usdt": round(self.optimal_profit_usdt, 6),
            "median_lifetime_ms": float(median(self.lifetimes_ms)) if self.lifetimes_ms else None,
        }
        for delay in ARBITRAGE.capture_ms:
            known = self.n_known[delay]
            row[f"capture_{delay}ms_frac"] = self.n_captured[delay] / known if known else None
            row[f"profit_{delay}ms_usdt"] = round(float(self.captured_usdt[delay]), 6)
        return row


def replay_choices(
    settings: Settings, recorded: Recorded, choices: Sequence[Choice], on_event: Callable[[int, OpportunityEvent], None] | None = None
) -> tuple[ReplayAccount, list[dict[str, Any]]]:
    """One pass over the recording under every choice: the account, and one row of results per choice."""
    harvests = [Harvest() for _ in choices]

    def note(i: int, event: OpportunityEvent) -> None:
        harvests[i].add(event)
        if on_event is not None:
            on_event(i, event)

    scanners = [make_scanner(settings, choice) for choice in choices]
    replay = Replay(recorded.open_session, scanners, symbols=recorded.symbols, coalesce_ms=settings.scan_coalesce_ms, on_event=note)
    account = replay.run(recorded.frames, recorded.count_from_ns)
    account.bytes_unread = sum(unread_bytes(path) for path in recorded.files)
    return account, [choice.label() | harvest.as_dict() for choice, harvest in zip(choices, harvests, strict=True)]
