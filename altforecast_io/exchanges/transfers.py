"""Withdrawal terms of a venue, per coin and network, through ccxt.

What belongs here: asking, and reading ccxt's answer. What does not: keeping the terms (`store.transfers`), choosing a way
between venues (`altforecast.trading_terms`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from altforecast.errors import InputError
from altforecast.trading_terms import TransferTerms, network_name
from altforecast_io.exchanges.connection import VenueClient

KEYLESS = ("kucoin", "htx", "bitget", "whitebit")
"""Venues that tell withdrawal fees without a key; the others need one, or tell none (kraken, coinbase, bitfinex)."""


async def fetch_transfer_terms(client: VenueClient) -> list[TransferTerms]:
    """Every coin and network of an open venue that tells them without a key, sorted.

    Raises InputError for a venue that does not, ServiceError where it cannot be asked. A network without a fee is kept with
    None: unknown is not free.
    """
    if client.venue.slug not in KEYLESS:
        raise InputError("exchange", client.venue.slug, "tells no withdrawal fees without a key", KEYLESS)
    answer = await client.call("fetch_currencies")
    return read_currencies(client.venue.slug, answer, client.now_ms())


def read_currencies(venue: str, currencies: Mapping[str, Any], ts_ms: int) -> list[TransferTerms]:
    """Terms of ccxt's currency structures; of two chains of one network the cheaper open one stays."""
    found: dict[tuple[str, str], TransferTerms] = {}
    for coin, currency in sorted(currencies.items()):
        for name, network in sorted((currency.get("networks") or {}).items()):
            terms = _terms(venue, coin, name, network, ts_ms)
            known = found.get((coin, terms.network))
            if known is None or _rank(terms) < _rank(known):
                found[coin, terms.network] = terms
    return [found[key] for key in sorted(found)]


def _rank(terms: TransferTerms) -> tuple[bool, bool, float]:
    return terms.is_withdrawal_open is False, terms.fee is None, terms.fee or 0.0


def _terms(venue: str, coin: str, name: str, network: Mapping[str, Any], ts_ms: int) -> TransferTerms:
    limits = (network.get("limits") or {}).get("withdraw") or {}
    return TransferTerms(
        venue=venue,
        coin=coin,
        network=network_name(str(network.get("network") or name)),
        fee=_number(network.get("fee")),
        minimum=_number(limits.get("min")),
        is_withdrawal_open=network.get("withdraw"),
        is_deposit_open=network.get("deposit"),
        contract=_contract(network.get("info")),
        ts_ms=ts_ms,
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _contract(raw: Any) -> str | None:
    """The contract address as the venue prints it; HTX prints none."""
    text = raw.get("contractAddress") if isinstance(raw, Mapping) else None
    return str(text) if text else None
