"""Response models of the arbitrage routes.

What belongs here: fields, units, meanings. What does not: handlers and parameters (`arbitrage`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class OutcomeResponse(BaseModel):
    """What the same trade was worth a delay after birth."""

    delay_ms: int
    outcome: str = Field(description="captured | gone | not_live")
    net_edge_pct: float | None
    profit_usdt: float | None


class OpportunityResponse(BaseModel):
    """One opportunity; figures of a live one are of its newest event, of a closed one of its opening."""

    model_config = ConfigDict(extra="allow")

    id: str
    status: Literal["live", "closed"]
    ts: datetime = Field(description="newest event (live) or close")
    type: str = Field(description="spatial | triangular")
    symbol: str
    buy_exchange: str
    sell_exchange: str
    sell_symbol: str
    net_edge_pct: float | None = Field(description="at the fixed size [%]; null where the opening was lost")
    peak_edge_pct: float
    expected_profit_usdt: float | None = Field(description="at the fixed size [USDT]")
    optimal_qty: float | None = Field(description="size of the highest profit [base]")
    optimal_profit_usdt: float | None = Field(description="at that size [USDT]")
    edge_curve: list[tuple[float, float]] = Field(description="(notional USDT, net edge %), ascending")
    risk_flags: list[str]
    capture_chance: float | None = Field(None, description="calibrated chance that the edge is still there after the usual delay (live)")
    opened_at: datetime
    lifetime_ms: int | None = Field(description="age (live) or lifetime (closed) [ms]")
    closed_at: datetime | None = None
    reason: str | None = Field(None, description="why it closed")
    outcomes: list[OutcomeResponse] = Field([], description="what was left of it later (closed)")


class BookMeta(BaseModel):
    """What is known about the book itself."""

    model_config = ConfigDict(extra="allow")

    seq_id: int | None = Field(description="the venue's number of the last update")
    checksum_ok: bool | None = Field(description="null where none was checked")
    lag_ms: float | None
    state: str
    n_updates: int


class BookResponse(BaseModel):
    """OrderBookSnapshot."""

    exchange: str
    symbol: str
    bids: list[tuple[float, float]] = Field(description="(price, size), best first")
    asks: list[tuple[float, float]]
    ts_event: datetime | None
    ts_ingest: datetime | None
    is_healthy: bool
    age_ms: int | None = Field(description="since the last update")
    meta: BookMeta


class EdgeResponse(BaseModel):
    """One ordered venue pair."""

    model_config = ConfigDict(extra="allow")

    symbol: str
    buy_exchange: str
    sell_exchange: str
    net_edge_pct: float | None = Field(description="at the fixed size [%]; null where a book is too thin")


class SpreadsResponse(BaseModel):
    """The newest coherent cut for one symbol."""

    ts: datetime | None
    symbol: str | None
    symbols: list[str] = Field(description="symbols that the cut holds")
    venues: list[str] = Field(description="venues that have a live book of the symbol")
    edges: list[EdgeResponse]


class FaultResponse(BaseModel):
    """What went wrong last."""

    reason: str
    symbol: str | None
    detail: str
    at: datetime


class VenueResponse(BaseModel):
    """One venue."""

    model_config = ConfigDict(extra="allow")

    venue: str
    feed: str = Field(description="native | ccxt | off")
    state: str = Field(description="connecting | syncing | live | suspect | backoff | off")
    n_symbols: int
    n_live: int
    n_connections: int
    messages_per_s: float | None
    lag_ms: float | None
    age_ms: float | None
    reconnects: dict[str, int] = Field(description="number by reason")
    gaps: int
    last_fault: FaultResponse | None
    taker_fee_bps: float | None
    symbols: dict[str, str] = Field(description="state of each book")
    note: str


class StatResponse(BaseModel):
    """Statistics of one value of one dimension."""

    model_config = ConfigDict(extra="allow")

    ts: datetime = Field(description="what was known before this moment is counted")
    dimension: str
    key: str
    n: int
    median_lifetime_ms: float | None
    p90_lifetime_ms: float | None
    median_birth_edge_pct: float | None
    profit_usdt: float


class TransferResponse(BaseModel):
    """What a venue says of one coin on one network; null where it does not say."""

    venue: str
    coin: str
    network: str
    fee: float | None = Field(description="for a withdrawal [coins]")
    minimum: float | None = Field(description="smallest withdrawal [coins]")
    is_withdrawal_open: bool | None
    is_deposit_open: bool | None
    contract: str | None = Field(description="address of the coin's contract: tells coins of one ticker apart")
    fetched_at: datetime
    is_stale: bool = Field(description="older than TRANSFER_TERMS_MAX_AGE_HOURS: opportunities get the flag transfer_stale")
