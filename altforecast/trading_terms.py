"""What a trade and a transfer cost on each venue, and whether one ticker means one coin.

What belongs here: taker fees, withdrawal terms per coin and network, identity of coins, the cheapest way between two venues.
What does not: asking venues for their terms (`altforecast_io.exchanges.transfers`) and what books are worth (`arbitrage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from altforecast.opportunities import RiskFlag

DEFAULT_FEE_BPS = 20.0
"""Taker fee of a venue that is not in the table: the highest common one, so that no edge is invented [bps]."""
MS_PER_HOUR = 3_600_000


class FeeBasis(NamedTuple):
    """A taker fee [bps] and where it comes from."""

    bps: float
    basis: str


TAKER_FEES: Mapping[str, FeeBasis] = MappingProxyType(
    {
        "binance": FeeBasis(10, "several independent sources agree"),
        "okx": FeeBasis(10, "three sources agree; regional entities are higher"),
        "bybit": FeeBasis(10, "third-party sources"),
        "gate": FeeBasis(10, "the venue's fee pages; announcement of 2026-04-09"),
        "kucoin": FeeBasis(10, "class A coins; B and C may be 20 and 30"),
        "htx": FeeBasis(20, "ccxt's static value"),
        "mexc": FeeBasis(5, "the venue's learn page"),
        "bitget": FeeBasis(10, "third-party sources"),
        "kraken": FeeBasis(40, "two sources; some still print 26"),
        "coinbase": FeeBasis(120, "sources conflict (60 to 120): read it per account"),
        "bitfinex": FeeBasis(0, "announced zero-fee policy; start date not verified"),
        "cryptocom": FeeBasis(50, "ccxt's static value"),
        "bingx": FeeBasis(10, "ccxt's static value"),
        "bitstamp": FeeBasis(40, "ccxt's static value; small volumes may be free"),
        "whitebit": FeeBasis(10, "ccxt's static value"),
    }
)
"""Lowest tier of each venue, before discounts."""

MAJORS = frozenset(
    {
        "BTC", "ETH", "SOL", "XRP", "DOGE", "LTC", "BNB", "ADA", "AVAX", "LINK", "TRX", "DOT", "BCH", "XLM", "ATOM", "ETC",
        "USDT", "USDC", "DAI", "FDUSD", "EUR", "USD", "GBP",
    }
)  # fmt: skip
"""Tickers that mean the same coin on every venue that we know; any other needs proof by contract or network."""

_NETWORKS: Mapping[str, str] = MappingProxyType(
    {
        "ETHEREUM": "ETH", "ERC20": "ETH", "TRON": "TRX", "TRC20": "TRX", "BEP20": "BSC", "BNBSMARTCHAIN": "BSC", "BITCOIN": "BTC",
        "SOLANA": "SOL", "SPL": "SOL", "POLYGON": "MATIC", "ARBITRUM": "ARB", "ARBITRUMONE": "ARB", "ARBONE": "ARB", "OPTIMISM": "OP",
        "AVAXC": "AVAX", "AVALANCHE": "AVAX", "CCHAIN": "AVAX", "AVAXCCHAIN": "AVAX", "RIPPLE": "XRP", "LITECOIN": "LTC",
        "DOGECOIN": "DOGE",
    }
)  # fmt: skip


def network_name(spelling: str) -> str:
    """One name for a network however a venue spells it: `ERC20`, `Ethereum` and `eth` are `ETH`."""
    bare = "".join(c for c in spelling.upper() if c.isalnum())
    return _NETWORKS.get(bare, bare)


@dataclass(frozen=True, slots=True)
class TransferTerms:
    """What a venue says of one coin on one network; amounts in coins, None where it does not say."""

    venue: str
    coin: str
    network: str
    """By `network_name`."""
    fee: float | None
    minimum: float | None
    is_withdrawal_open: bool | None
    is_deposit_open: bool | None
    contract: str | None
    ts_ms: int
    """When the venue said so [ms since 1970]."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The way of a coin from one venue to another."""

    network: str | None
    """None where no common network is known."""
    fee: float | None
    """Withdrawal fee [coins]; None where unknown: the assumed cost is taken, never zero."""
    minimum: float
    """Smallest withdrawal [coins]; 0 where none is known."""
    flags: tuple[RiskFlag, ...]
    is_other_coin: bool = False
    """Proven: the two venues mean different coins. Such books are never compared."""
    ts_ms: int | None = None
    """Age of the older side's terms; None where none are known."""


@dataclass
class TradingTerms:
    """Fees and transfers for the scanner. Answers are kept until `set_transfers` replaces what they rest on."""

    fees_bps: Mapping[str, float] = field(default_factory=dict)
    """Chosen taker fees per venue [bps]; they win over `uniform_fee_bps`, which wins over the table."""
    uniform_fee_bps: float | None = None
    max_age_hours: float = 24.0
    """Transfer terms older than this are flagged."""

    def __post_init__(self) -> None:
        self._terms: dict[tuple[str, str], dict[str, TransferTerms]] = {}
        self._ways: dict[tuple[str, str, str], Transfer] = {}
        self.revision = 0
        """Counts changes, so that a holder of answers knows when to ask again."""

    def taker_fee(self, venue: str) -> float:
        """Taker fee of a venue as a fraction; a venue that nobody knows pays `DEFAULT_FEE_BPS`."""
        chosen = self.fees_bps.get(venue, self.uniform_fee_bps)
        if chosen is None:
            chosen = TAKER_FEES[venue].bps if venue in TAKER_FEES else DEFAULT_FEE_BPS
        return chosen / 1e4

    def set_transfers(self, terms: Iterable[TransferTerms]) -> None:
        """Replace all that is known of transfers; of two rows for one venue, coin and network the later stays."""
        self._terms.clear()
        for one in terms:
            self._terms.setdefault((one.venue, one.coin), {})[one.network] = one
        self._ways.clear()
        self.revision += 1

    def transfer(self, coin: str, source: str, target: str, now_ms: int) -> Transfer:
        """The cheapest open way of `coin` from venue `source` to venue `target`, with what speaks against it."""
        key = (coin, source, target)
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = _way(coin, self._terms.get((source, coin), {}), self._terms.get((target, coin), {}))
        if way.ts_ms is not None and now_ms - way.ts_ms > self.max_age_hours * MS_PER_HOUR:
            flags = (*way.flags, RiskFlag.TRANSFER_STALE)
            return Transfer(way.network, way.fee, way.minimum, flags, way.is_other_coin, way.ts_ms)
        return way


def _way(coin: str, source: Mapping[str, TransferTerms], target: Mapping[str, TransferTerms]) -> Transfer:
    is_same = _is_same_coin(coin, source, target)
    unmatched = () if is_same else (RiskFlag.ASSET_UNMATCHED,)
    is_other = is_same is False
    ts_ms = min((t.ts_ms for t in (*source.values(), *target.values())), default=None)
    common = [(source[n], target[n] if target else None) for n in sorted(source) if not target or n in target]
    if not common:
        return Transfer(None, None, 0.0, (*unmatched, RiskFlag.TRANSFER_COST_UNKNOWN), is_other, ts_ms)
    ranked = sorted(common, key=lambda pair: (_is_shut(*pair), pair[0].fee is None, pair[0].fee or 0.0, pair[0].network))
    out, into = ranked[0]
    flags = [*unmatched]
    if out.fee is None:
        flags.append(RiskFlag.TRANSFER_COST_UNKNOWN)
    if out.is_withdrawal_open is False:
        flags.append(RiskFlag.WITHDRAWAL_CLOSED)
    if into is not None and into.is_deposit_open is False:
        flags.append(RiskFlag.DEPOSIT_CLOSED)
    return Transfer(out.network, out.fee, out.minimum or 0.0, tuple(flags), is_other, ts_ms)


def _is_shut(out: TransferTerms, into: TransferTerms | None) -> bool:
    return out.is_withdrawal_open is False or (into is not None and into.is_deposit_open is False)


def _is_same_coin(coin: str, source: Mapping[str, TransferTerms], target: Mapping[str, TransferTerms]) -> bool | None:
    """True or False where proven by contracts on a common network (or a well-known ticker), None where nothing tells."""
    pairs = [(source[n].contract, target[n].contract) for n in source if n in target]
    compared = [_contract(a) == _contract(b) for a, b in pairs if a and b]
    if compared:
        return any(compared)
    if coin in MAJORS:
        return True
    # without a contract a coin of its own chain is known by the chain's name
    return True if coin in source and coin in target else None


def _contract(text: str) -> str:
    """Hexadecimal addresses are written in either case; others (Solana, Tron) mean what they say."""
    return text.lower() if text.lower().startswith("0x") else text
