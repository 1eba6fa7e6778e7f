"""Withdrawal terms of a venue, per coin and network, through ccxt.

What belongs here: asking, and reading ccxt's answer. What does not: keeping the terms (`store.transfers`), choosing a way
between venues (`altforecast.trading_terms`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from altforecast.errors import AltForecastError, InputError
from altforecast.trading_terms import TransferTerms, network_name
from altforecast_io.clock import Clock, utc_now
from altforecast_io.exchanges.connection import VenueClient, open_venue
from altforecast_io.exchanges.venues import TELLS_TRANSFERS
from altforecast_io.settings import Settings


@dataclass(frozen=True)
class Asked:
    """What one venue answered."""

    venue: str
    terms: list[TransferTerms]
    failure: str = ""
    """Why there are no terms."""


def ask_venues(settings: Settings, venues: Iterable[str], clock: Clock = utc_now) -> list[Asked]:
    """Terms of several venues at once, in the order given; a venue that fails is told and does not stop the others.

    Must not be called inside an event loop.
    """

    async def ask_all() -> list[Asked]:
        return list(await asyncio.gather(*(_ask(settings, venue, clock) for venue in venues)))

    return asyncio.run(ask_all())


async def _ask(settings: Settings, venue: str, clock: Clock) -> Asked:
    try:
        async with open_venue(venue, settings, clock) as client:
            terms = await fetch_transfer_terms(client)
    except AltForecastError as error:
        return Asked(venue, [], str(error))
    return Asked(venue, terms, "" if terms else "the venue listed no coins")


async def fetch_transfer_terms(client: VenueClient) -> list[TransferTerms]:
    """Every coin and network of an open venue that tells them without a key, sorted.

    Raises InputError for a venue that does not, ServiceError where it cannot be asked. A network without a fee is kept with
    None: unknown is not free.
    """
    if client.venue.slug not in TELLS_TRANSFERS:
        raise InputError("exchange", client.venue.slug, "tells no withdrawal fees without a key", TELLS_TRANSFERS)
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
