"""The coins of the sandbox market: price, supply, risk and how they are quoted.

What belongs here: invented constants per coin and derived pairs. What does not: anything that moves with time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coin:
    """One coin against USDT; its log price swings around `anchor_usdt`."""

    code: str
    name: str
    anchor_usdt: float
    supply: float
    """Circulating coins; constant, so caps move with prices alone."""
    beta: float
    """Sensitivity to the common factor."""
    idio_sd: float
    """Own daily volatility in calm times [log return]."""
    turnover_usdt: float
    """Mean daily turnover on the largest venue [USDT]."""
    price_digits: int
    amount_digits: int


COINS = (
    Coin("BTC", "Bitcoin", 92_000.0, 19.95e6, 1.00, 0.004, 1.6e9, 2, 5),
    Coin("ETH", "Ethereum", 3_300.0, 120.7e6, 1.20, 0.014, 1.2e9, 2, 4),
    Coin("BNB", "BNB", 880.0, 139.0e6, 0.90, 0.013, 2.0e8, 2, 3),
    Coin("SOL", "Solana", 160.0, 553.0e6, 1.40, 0.021, 5.0e8, 2, 3),
    Coin("XRP", "XRP", 2.3, 60.1e9, 1.15, 0.024, 4.0e8, 4, 1),
    Coin("DOGE", "Dogecoin", 0.19, 151.0e9, 1.45, 0.026, 2.0e8, 5, 0),
    Coin("ADA", "Cardano", 0.62, 36.5e9, 1.30, 0.023, 1.0e8, 4, 1),
    Coin("AVAX", "Avalanche", 21.0, 426.0e6, 1.45, 0.025, 7.0e7, 2, 2),
    Coin("LINK", "Chainlink", 16.5, 697.0e6, 1.35, 0.023, 9.0e7, 2, 2),
    Coin("LTC", "Litecoin", 96.0, 76.5e6, 1.05, 0.017, 5.0e7, 2, 3),
    Coin("TRX", "TRON", 0.29, 94.7e9, 0.60, 0.012, 6.0e7, 4, 1),
    Coin("DOT", "Polkadot", 4.1, 1.63e9, 1.35, 0.024, 4.0e7, 3, 2),
)
COIN_INDEX = {coin.code: i for i, coin in enumerate(COINS)}
CROSS = "ETH-BTC"
CROSS_PRICE_DIGITS = 5
CROSS_AMOUNT_DIGITS = 4
USD_COINS = ("BTC", "ETH", "SOL", "XRP", "LTC")
"""Coins that some venues also quote in US dollars."""


@dataclass(frozen=True)
class Pair:
    """How one symbol is quoted; the same on every venue."""

    symbol: str
    price_digits: int
    amount_digits: int

    @property
    def base(self) -> str:
        """Code of the coin that is traded."""
        return self.symbol.split("-")[0]

    @property
    def quote(self) -> str:
        """Code of the currency it is paid in."""
        return self.symbol.split("-")[1]


def _pairs() -> dict[str, Pair]:
    pairs = [Pair(f"{c.code}-USDT", c.price_digits, c.amount_digits) for c in COINS]
    pairs.append(Pair(CROSS, CROSS_PRICE_DIGITS, CROSS_AMOUNT_DIGITS))
    for code in USD_COINS:
        coin = COINS[COIN_INDEX[code]]
        pairs.append(Pair(f"{code}-USD", coin.price_digits, coin.amount_digits))
    return {pair.symbol: pair for pair in pairs}


PAIRS = _pairs()
"""Every tradable symbol by its canonical name."""
