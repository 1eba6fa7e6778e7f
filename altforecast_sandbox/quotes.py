"""How the same market looks on each venue: a few basis points apart, with its own share of the volume and its quiet minutes.

What belongs here: turning paths into one venue's minute bars. What does not: the wire form of a venue (`exchanges`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from altforecast_sandbox.coins import CROSS, CROSS_AMOUNT_DIGITS, CROSS_PRICE_DIGITS, Pair
from altforecast_sandbox.grids import Flags, Grid, Ints
from altforecast_sandbox.incidents import MINUTES, Incident
from altforecast_sandbox.paths import CoinDay

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VenueHabits:
    """How a venue differs from the largest one."""

    volume_share: float
    offset_bps: float
    """Size of the price difference."""
    quiet_frac: float = 0.0
    """Share of minutes in which a middling pair does not trade."""
    omits_quiet: bool = False
    """Whether a minute without a trade has no bar at all (otherwise it is flat with volume 0)."""


HABITS: Mapping[str, VenueHabits] = MappingProxyType(
    {
        "binance": VenueHabits(1.0, 0.0),
        "okx": VenueHabits(0.35, 1.5),
        "bybit": VenueHabits(0.40, 1.5),
        "gate": VenueHabits(0.15, 2.5),
        "kucoin": VenueHabits(0.10, 2.5, 0.01, omits_quiet=True),
        "bitget": VenueHabits(0.20, 2.0),
        "mexc": VenueHabits(0.12, 3.0, 0.04),
        "htx": VenueHabits(0.08, 3.0, 0.01),
        "kraken": VenueHabits(0.05, 4.0, 0.15),
        "coinbase": VenueHabits(0.25, 3.0, 0.05, omits_quiet=True),
        "bitfinex": VenueHabits(0.03, 4.0, 0.20, omits_quiet=True),
        "cryptocom": VenueHabits(0.10, 3.0, 0.02),
        "bingx": VenueHabits(0.06, 3.0, 0.02),
        "bitstamp": VenueHabits(0.02, 4.0, 0.25),
    }
)
REFERENCE_VENUE = "binance"
_DOLLAR_BPS = 4.0
_LONG_MIN, _SHORT_MIN = 540.0, 37.0


def minute_grid(seed: int, day: int, pair: Pair, venue: str, path: CoinDay, incidents: tuple[Incident, ...]) -> Grid:
    """One day of a coin's minute bars on a venue, in ticks and lots (pairs against USDT or USD; the cross is `cross_grid`)."""
    habits = HABITS[venue]
    log_price = path.log_price + _offset_log(seed, day, pair, venue, habits.offset_bps)
    ticks = 10.0**pair.price_digits
    level = np.exp(log_price)
    marks = np.maximum(np.rint(level * ticks), 1.0).astype(np.int64)
    open_, close = marks[:-1].copy(), marks[1:].copy()
    tall, short = np.maximum(open_, close), np.minimum(open_, close)
    high = np.rint(tall * np.exp(path.wick_up)).astype(np.int64)
    low = np.maximum(np.rint(short * np.exp(-path.wick_down)), 1.0).astype(np.int64)
    coins = path.turnover_usdt * habits.volume_share / level[1:]
    volume = np.maximum(np.rint(coins * 10.0**pair.amount_digits), 1.0).astype(np.int64)
    grid = Grid(open_, high, low, close, volume, np.ones(MINUTES, dtype=np.bool_))
    return _with_gaps(grid, _quiet_minutes(seed, day, pair, venue, incidents), habits.omits_quiet, _outage_minutes(venue, incidents))


def cross_grid(eth: Grid, btc: Grid, eth_digits: int, btc_digits: int, eth_amount_digits: int) -> Grid:
    """ETH-BTC minute bars from the two USDT pairs of the same venue: open and close are exact quotients, rounded to the tick."""
    scale = 10.0 ** (CROSS_PRICE_DIGITS + btc_digits - eth_digits)
    open_ = np.rint(eth.open / btc.open * scale).astype(np.int64)
    close = np.rint(eth.close / btc.close * scale).astype(np.int64)
    volume = np.rint(eth.volume * 0.06 * 10.0 ** (CROSS_AMOUNT_DIGITS - eth_amount_digits)).astype(np.int64)
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    return Grid(open_, high, low, close, volume, eth.exists & btc.exists)


def dollar_log(day: int) -> Floats:
    """Log price of one USDT in US dollars at the 1,441 minute marks of a day."""
    minute = day * MINUTES + np.arange(MINUTES + 1)
    wave = np.sin(minute * (2 * np.pi / 8_777.0)) + 0.6 * np.sin(minute * (2 * np.pi / 613.0))
    return np.asarray(-1e-4 + wave * _DOLLAR_BPS * 1e-4, dtype=np.float64)


def _offset_log(seed: int, day: int, pair: Pair, venue: str, size_bps: float) -> Floats:
    if size_bps == 0.0 and pair.quote == "USDT":
        return np.zeros(MINUTES + 1)
    minute = day * MINUTES + np.arange(MINUTES + 1)
    phase = np.random.default_rng([seed, _number(venue), _number(pair.symbol)]).uniform(0, 2 * np.pi, 3)
    wave = 0.6 * np.sin(minute * (2 * np.pi / _LONG_MIN) + phase[0]) + 0.4 * np.sin(minute * (2 * np.pi / _SHORT_MIN) + phase[1])
    offset = size_bps * 1e-4 * (wave + 0.5 * np.sin(phase[2]))
    return np.asarray(offset + dollar_log(day) if pair.quote == "USD" else offset, dtype=np.float64)


def _number(name: str) -> int:
    """A fixed number for a name (Python's own hash differs between processes)."""
    return zlib.crc32(name.encode())


def _quiet_minutes(seed: int, day: int, pair: Pair, venue: str, incidents: tuple[Incident, ...]) -> Flags:
    quiet = np.zeros(MINUTES, dtype=np.bool_)
    frac = HABITS[venue].quiet_frac * (0.2 if pair.base == "BTC" else 1.0)
    if frac > 0:
        quiet |= np.random.default_rng([seed, day, _number(venue), _number(pair.symbol)]).random(MINUTES) < frac
    for halt in (i for i in incidents if i.kind == "halt" and i.scope.split("-")[0] == pair.base):
        quiet[halt.first_minute : halt.first_minute + halt.n_minutes] = True
    quiet[0] = False
    return quiet


def _outage_minutes(venue: str, incidents: tuple[Incident, ...]) -> Flags:
    out = np.zeros(MINUTES, dtype=np.bool_)
    for outage in (i for i in incidents if i.kind == "outage" and i.scope == venue):
        out[outage.first_minute : outage.first_minute + outage.n_minutes] = True
    return out


def _with_gaps(grid: Grid, quiet: Flags, omits_quiet: bool, out: Flags) -> Grid:
    """Quiet minutes stand still at the last traded close with volume 0 (or are missing); outage minutes are missing."""
    exists = ~out & ~quiet if omits_quiet else ~out
    if not quiet.any():
        return Grid(grid.open, grid.high, grid.low, grid.close, grid.volume, exists)
    last_trade: Ints = np.maximum.accumulate(np.where(quiet, 0, np.arange(MINUTES)))
    still = grid.close[last_trade]
    open_, high, low, close = (np.where(quiet, still, values) for values in (grid.open, grid.high, grid.low, grid.close))
    return Grid(open_, high, low, close, np.where(quiet, 0, grid.volume), exists)


def is_cross(symbol: str) -> bool:
    """Whether a symbol is priced from two others."""
    return symbol == CROSS
