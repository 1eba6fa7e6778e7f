"""Planted opportunities: moments at which known venues quote known prices that leave a known profit after fees.

What belongs here: plans, what they pin, what they are worth. What does not: publishing them (`streams.planting`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from altforecast.errors import InputError, UnknownNameError
from altforecast.symbols import VENUES
from altforecast_sandbox.coins import COINS
from altforecast_sandbox.order_flow import OrderFlow, Pin
from altforecast_sandbox.resting import RestingBook

TAKER_FEE_BPS: Mapping[str, float] = MappingProxyType(
    {
        "binance": 10, "okx": 10, "bybit": 10, "gate": 10, "kucoin": 10, "bitget": 10, "mexc": 5, "htx": 20,
        "kraken": 40, "coinbase": 120, "bitfinex": 0, "cryptocom": 50, "bingx": 10, "bitstamp": 40,
    }
)  # fmt: skip
"""The fees at which edges are stated."""
_HOUR_MS = 3_600_000
_LIFETIME_MS = (30.0, 30_000.0)
_EDGE_BPS = (6.0, 40.0)
_MONEY_USDT = (500.0, 20_000.0)
_TRIANGLE_SHARE = 0.25
_TRIANGLES = (
    (("BTC-USDT", "ask"), ("ETH-BTC", "ask"), ("ETH-USDT", "bid")),
    (("ETH-USDT", "ask"), ("ETH-BTC", "bid"), ("BTC-USDT", "bid")),
)
_TRIANGLE_VENUES = ("binance", "okx", "bybit", "mexc", "bitfinex", "kucoin")
_SPATIAL_VENUES = tuple(venue for venue in VENUES if TAKER_FEE_BPS[venue] <= 20)
MOST_PER_HOUR = 3_600.0


@dataclass(frozen=True)
class Leg:
    """One trade: against the best ask (buying) or the best bid (selling) of a book."""

    venue: str
    symbol: str
    side: str


@dataclass(frozen=True)
class Plant:
    """One opportunity in [start, end): legs in trading order; two on two venues, or three on one."""

    start_ms: int
    end_ms: int
    legs: tuple[Leg, ...]
    edge_bps: float
    """Net of taker fees, at least: prices are rounded in favour of the trade."""
    money_usdt: float
    """For how much the best levels hold."""

    def __post_init__(self) -> None:
        for leg in self.legs:
            if leg.venue not in TAKER_FEE_BPS:
                raise UnknownNameError("venue", leg.venue, "unknown venue", TAKER_FEE_BPS)
        if len(self.legs) not in (2, 3) or any(leg.side not in ("ask", "bid") for leg in self.legs):
            raise InputError("legs", self.legs, "two or three, each of side ask or bid")
        if self.end_ms <= self.start_ms:
            raise InputError("end_ms", self.end_ms, f"must be after start_ms {self.start_ms}")
        if not self.money_usdt > 0 or not math.isfinite(self.edge_bps):
            raise InputError("money_usdt", self.money_usdt, "must be positive, and edge_bps finite")

    @property
    def kind(self) -> str:
        """`spatial` or `triangular`."""
        return "spatial" if len(self.legs) == 2 else "triangular"

    @property
    def fees_bps(self) -> float:
        """Sum of the taker fees."""
        return sum(TAKER_FEE_BPS[leg.venue] for leg in self.legs)


def spatial(start_ms: int, end_ms: int, symbol: str, buy: str, sell: str, edge_bps: float, money_usdt: float = 5_000.0) -> Plant:
    """Buy at one venue, sell at another."""
    return Plant(start_ms, end_ms, (Leg(buy, symbol, "ask"), Leg(sell, symbol, "bid")), edge_bps, money_usdt)


def triangular(
    start_ms: int, end_ms: int, venue: str, edge_bps: float, money_usdt: float = 5_000.0, legs: Sequence[tuple[str, str]] = _TRIANGLES[0]
) -> Plant:
    """Three trades on one venue that end in the currency they began with; `legs` are (symbol, side) in trading order."""
    return Plant(start_ms, end_ms, tuple(Leg(venue, symbol, side) for symbol, side in legs), edge_bps, money_usdt)


def pins_of(plant: Plant, flows: Sequence[OrderFlow], ms: int, usdt_price: Callable[[str], float]) -> list[Pin]:
    """The best prices and sizes that make the opportunity, one per leg; asks are rounded down and bids up.

    usdt_price: price of a coin in USDT, for sizes.
    """
    gross = (plant.fees_bps + plant.edge_bps) * 1e-4
    mids = [flow.quote(ms)[0] for flow in flows]
    if plant.kind == "spatial":
        mids = [math.sqrt(mids[0] * mids[1])] * 2
    # fees of three trades multiply; a little more than their sum is needed
    share = math.log1p(gross + (plant.fees_bps * 1e-4) ** 2) / len(flows)
    pins = []
    for leg, flow, mid in zip(plant.legs, flows, mids, strict=True):
        scale = 10.0**flow.pair.price_digits
        ticks = math.floor(mid * math.exp(-share) * scale) if leg.side == "ask" else math.ceil(mid * math.exp(share) * scale)
        lots = math.ceil(plant.money_usdt / usdt_price(flow.pair.base) * 10.0**flow.pair.amount_digits)
        pins.append(Pin(max(ticks, 1), max(lots, 1)))
    return pins


def truth(plant: Plant, books: Sequence[RestingBook]) -> dict[str, Any]:
    """What the legs' books really offer now: best prices, sizes and edges [percent] at the stated fees.

    `net_edge_pct` is gross minus the sum of fees for two legs and exact for three; `exact_edge_pct` is what remains of the
    money, fees taken from what each trade brings. Both hold for any size up to the smallest best level.
    """
    prices, sizes, left = [], [], 1.0
    for leg, book in zip(plant.legs, books, strict=True):
        ticks = book.ask_ticks[0] if leg.side == "ask" else book.bid_ticks[-1]
        lots = (book.asks if leg.side == "ask" else book.bids)[ticks]
        price = ticks / 10.0**book.price_digits
        prices.append(price)
        sizes.append(lots / 10.0**book.amount_digits)
        left *= (price if leg.side == "bid" else 1 / price) * (1 - TAKER_FEE_BPS[leg.venue] * 1e-4)
    exact = (left - 1) * 100
    net = (prices[1] / prices[0] - 1) * 100 - plant.fees_bps / 100 if plant.kind == "spatial" else exact
    return {"prices": prices, "sizes": sizes, "net_edge_pct": net, "exact_edge_pct": exact}


def plants_of_hour(seed: int, hour: int, per_hour: float) -> list[Plant]:
    """The plan of one hour (hours since 1970), by start; plants of one book never overlap. The same for the same arguments."""
    rng = random.Random(f"plants {seed} {hour}")
    drawn = sorted((_drawn(rng, hour * _HOUR_MS) for _ in range(_count(rng, per_hour))), key=lambda p: p.start_ms)
    taken: dict[tuple[str, str], int] = {}
    kept = []
    for plant in drawn:
        books = [(leg.venue, leg.symbol) for leg in plant.legs]
        if all(taken.get(book, 0) <= plant.start_ms for book in books):
            kept.append(plant)
            taken.update(dict.fromkeys(books, plant.end_ms))
    return kept


def _count(rng: random.Random, mean: float) -> int:
    """How many of a Poisson process of this mean fall into the hour."""
    n, at = 0, rng.expovariate(1.0)
    while at < min(mean, MOST_PER_HOUR):
        n, at = n + 1, at + rng.expovariate(1.0)
    return n


def _drawn(rng: random.Random, hour_ms: int) -> Plant:
    lifetime, edge, money = (_log_uniform(rng, *bounds) for bounds in (_LIFETIME_MS, _EDGE_BPS, _MONEY_USDT))
    start = hour_ms + rng.randrange(_HOUR_MS)
    end = start + round(lifetime)
    if rng.random() < _TRIANGLE_SHARE:
        return triangular(start, end, rng.choice(_TRIANGLE_VENUES), edge, money, rng.choice(_TRIANGLES))
    buy, sell = rng.sample(_SPATIAL_VENUES, 2)
    return spatial(start, end, f"{rng.choice(COINS).code}-USDT", buy, sell, edge, money)


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())
