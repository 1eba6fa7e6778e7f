"""A day of incidents in four minutes: which stream faults strike which venue when, and how detections are judged afterwards.

What belongs here: the script and the judgement, both pure. What does not: starting processes and posting faults
(`benchmarks.bench_incident_day`) and the faults themselves (`stream_faults`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RECOVERY_S = 12.0
"""How long after a fault a venue may still be rebuilding its connection: backoff, connect, snapshot."""
SLACK_MS = 250
"""How far times of detection and truth may lie apart: two processes, one event loop each."""
SHORTEST_MS = 50
"""Shorter plants need not be found."""
MARKET_MOVES = frozenset({"reconnect_moved"})
"""Faults that move every venue's market at once: while books follow one after the other, edges are real but not planted."""


@dataclass(frozen=True)
class Incident:
    """One fault of the script, as it is posted to `/_faults` at a time after the start."""

    at_s: float
    service: str
    kind: str
    value: float = 0.0
    times: int | None = None
    lasts_s: float = 0.0
    """When it is removed again; 0 for faults that strike and are over."""

    @property
    def body(self) -> dict[str, Any]:
        """JSON for `/_faults`."""
        return {"service": self.service, "kind": self.kind, "value": self.value, "times": self.times}


SCRIPT = (
    Incident(15, "okx", "gap", times=1),
    Incident(20, "bybit", "dropped_frame", times=1),
    Incident(26, "kucoin", "gap", times=2),
    Incident(32, "binance", "crossed", times=4),
    Incident(40, "kraken", "silence", 15),
    Incident(46, "bitget", "checksum_error", times=1),
    Incident(52, "htx", "garbage", times=1),
    Incident(58, "binance", "midnight_rotation"),
    Incident(66, "gate", "dropped_frame", times=1),
    Incident(72, "mexc", "flap", 3, times=4),
    Incident(90, "bybit", "slow_clock", 30, lasts_s=12),
    Incident(106, "coinbase", "refuse_subscription", lasts_s=12),
    Incident(107, "coinbase", "midnight_rotation"),
    Incident(124, "kucoin", "subscribe_limit", times=2),
    Incident(125, "kucoin", "midnight_rotation"),
    Incident(138, "cryptocom", "reconnect_moved", 0.015),
    Incident(150, "bitstamp", "silence", 20),
    Incident(156, "bitfinex", "gap", times=1),
    Incident(160, "kraken", "checksum_error", times=1),
    Incident(164, "bingx", "garbage", times=1),
    Incident(168, "okx", "crossed", times=5),
    Incident(174, "cryptocom", "dropped_frame", times=1),
    Incident(178, "coinbase", "gap", times=1),
    Incident(182, "mexc", "dropped_frame", times=1),
    Incident(190, "binance", "rate_limit", 2, times=3),
    Incident(191, "binance", "midnight_rotation"),
    Incident(200, "htx", "gap", times=1),
    Incident(206, "bitstamp", "gap", times=1),
    Incident(212, "bitget", "midnight_rotation"),
    Incident(220, "gate", "crossed", times=3),
)
LENGTH_S = 240.0


@dataclass(frozen=True)
class Detection:
    """One opportunity as it was published: legs as (venue, symbol, side), times [ms since 1970]."""

    legs: tuple[tuple[str, str, str], ...]
    opened_ms: int
    closed_ms: int | None
    net_edge_pct: float


@dataclass(frozen=True)
class Verdict:
    """What was found of what was there, and what was claimed besides."""

    n_plants: int
    """Longer than SHORTEST_MS, both ends inside the watch, no leg's venue disturbed."""
    found: int
    missed: list[Mapping[str, Any]] = field(default_factory=list)
    n_disturbed: int = 0
    """Plants left out because a leg's venue was disturbed meanwhile."""
    n_short: int = 0
    n_detections: int = 0
    true: int = 0
    """Detections that are a plant."""
    beside: int = 0
    """Detections that use a price of a plant together with another venue: real, not planned."""
    moved: int = 0
    """Detections while the whole market jumped."""
    false: list[Detection] = field(default_factory=list)
    delays_ms: list[int] = field(default_factory=list)
    """Publication of the plant to detection, of those found; negative where another frame opened it first."""

    @property
    def recall(self) -> float | None:
        """Share of plants found; None without plants."""
        return self.found / self.n_plants if self.n_plants else None

    @property
    def precision(self) -> float | None:
        """Share of detections that are real; None without detections."""
        return 1.0 - len(self.false) / self.n_detections if self.n_detections else None


def disturbances(script: Iterable[Incident], began_ms: int) -> list[tuple[str, int, int, str]]:
    """(venue, from, to, kind) [ms since 1970]: when a venue's books were disturbed, with the time to recover."""
    found = []
    for incident in script:
        start = began_ms + round(incident.at_s * 1000)
        length = incident.lasts_s or (incident.value if incident.kind == "silence" else 0.0)
        if incident.kind == "flap":
            length = incident.value * (incident.times or 1)
        found.append((incident.service, start, start + round((length + RECOVERY_S) * 1000), incident.kind))
    return found


def judge(plants: Sequence[Mapping[str, Any]], detections: Sequence[Detection], script: Iterable[Incident], began_ms: int) -> Verdict:
    """Compare what `/_truth` says with what was published.

    plants: rows of `/_truth`. A detection is true when its legs are those of a plant that was there at the same time.
    """
    troubled = disturbances(script, began_ms)
    due, n_disturbed, n_short = [], 0, 0
    for plant in plants:
        if plant["end_ms"] is None or plant["start_ms"] < began_ms:
            continue
        if plant["end_ms"] - plant["start_ms"] <= SHORTEST_MS:
            n_short += 1
        elif _is_troubled({leg["venue"] for leg in plant["legs"]}, plant["start_ms"], plant["end_ms"], troubled):
            n_disturbed += 1
        else:
            due.append(plant)
    hits = [next((d for d in detections if _is(plant, d)), None) for plant in due]
    missed = [plant for plant, hit in zip(due, hits, strict=True) if hit is None]
    delays = [hit.opened_ms - plant["start_ms"] for plant, hit in zip(due, hits, strict=True) if hit is not None]
    judged = [d for d in detections if d.opened_ms >= began_ms]
    kinds = [_kind(d, plants, troubled) for d in judged]
    return Verdict(
        n_plants=len(due), found=len(due) - len(missed), missed=missed, n_disturbed=n_disturbed, n_short=n_short,
        n_detections=len(judged), true=kinds.count("true"), beside=kinds.count("beside"), moved=kinds.count("moved"),
        false=[d for d, kind in zip(judged, kinds, strict=True) if kind == "false"], delays_ms=delays,
    )  # fmt: skip


def _kind(detection: Detection, plants: Sequence[Mapping[str, Any]], troubled: Sequence[tuple[str, int, int, str]]) -> str:
    if any(_is(plant, detection) for plant in plants):
        return "true"
    at_the_time = [plant for plant in plants if _overlaps(plant, detection)]
    pinned = {(leg["venue"], leg["symbol"]) for plant in at_the_time for leg in plant["legs"]}
    if any((venue, symbol) in pinned for venue, symbol, _ in detection.legs):
        return "beside"
    is_moved = any(kind in MARKET_MOVES and start <= detection.opened_ms <= end for _, start, end, kind in troubled)
    return "moved" if is_moved else "false"


def _is(plant: Mapping[str, Any], detection: Detection) -> bool:
    return set(detection.legs) == {(leg["venue"], leg["symbol"], leg["side"]) for leg in plant["legs"]} and _overlaps(plant, detection)


def _overlaps(plant: Mapping[str, Any], detection: Detection) -> bool:
    ended = plant["end_ms"]
    starts_in_time = ended is None or detection.opened_ms <= ended + SLACK_MS
    return starts_in_time and (detection.closed_ms is None or detection.closed_ms >= plant["start_ms"] - SLACK_MS)


def _is_troubled(venues: set[str], start_ms: int, end_ms: int, troubled: Sequence[tuple[str, int, int, str]]) -> bool:
    return any((venue in venues or kind in MARKET_MOVES) and start_ms <= end and end_ms >= start for venue, start, end, kind in troubled)
