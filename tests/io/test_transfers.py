"""Withdrawal terms: the stand-ins' answers through ccxt's real classes, the store, and what the scanner makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from altforecast.errors import InputError
from altforecast.opportunities import RiskFlag
from altforecast.trading_terms import TradingTerms, TransferTerms
from altforecast_io.exchanges import connection
from altforecast_io.exchanges.connection import open_venue
from altforecast_io.exchanges.transfers import fetch_transfer_terms, read_currencies
from altforecast_io.store.engine import Store
from altforecast_io.store.transfers import all_terms, save_terms
from altforecast_sandbox.market import Market
from tests.io.conftest import NOW
from tests.stand_in import StandIn, running

NOW_MS = int(NOW.timestamp() * 1000)


@pytest.fixture(scope="module")
def outside() -> Iterator[StandIn]:
    connection._MARKETS.clear()
    with running(Market(7)) as stand_in:
        yield stand_in


def fetch(outside: StandIn, home: Path, venue: str) -> list[TransferTerms]:
    async def run() -> list[TransferTerms]:
        async with open_venue(venue, outside.settings(home), outside.clock, random.Random(1)) as client:
            return await fetch_transfer_terms(client)

    return anyio.run(run)


@pytest.mark.parametrize(("venue", "suspended"), [("kucoin", "LTC"), ("htx", "DOGE"), ("bitget", "SOL")])
def test_fetch_transfer_terms_of_keyless_venues(outside: StandIn, tmp_path: Path, venue: str, suspended: str) -> None:
    terms = {(t.coin, t.network): t for t in fetch(outside, tmp_path, venue)}
    btc = terms["BTC", "BTC"]
    assert (btc.fee, btc.minimum, btc.is_withdrawal_open, btc.is_deposit_open) == (0.0001, 0.001, True, True)
    assert (terms["USDT", "TRX"].fee, terms["USDT", "ETH"].fee) == (1.0, 3.0)
    shut = terms[suspended, suspended]
    assert (shut.is_withdrawal_open, shut.is_deposit_open) == (False, False)
    assert abs(btc.ts_ms - int(outside.clock().timestamp() * 1000)) < 60_000


def test_fetch_transfer_terms_twins_are_told_apart(outside: StandIn, tmp_path: Path) -> None:
    terms = TradingTerms()
    terms.set_transfers([*fetch(outside, tmp_path, "kucoin"), *fetch(outside, tmp_path, "bitget")])
    assert terms.transfer("TWIN", "kucoin", "bitget", NOW_MS).is_other_coin
    assert not terms.transfer("LINK", "kucoin", "bitget", NOW_MS).is_other_coin
    assert RiskFlag.WITHDRAWAL_CLOSED in terms.transfer("LTC", "kucoin", "bitget", NOW_MS).flags
    assert RiskFlag.DEPOSIT_CLOSED in terms.transfer("SOL", "kucoin", "bitget", NOW_MS).flags


def test_fetch_transfer_terms_refuses_venues_that_need_a_key(outside: StandIn, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a key"):
        fetch(outside, tmp_path, "okx")


def test_read_currencies_unknown_fee_stays_unknown() -> None:
    found = read_currencies("x", {"ABC": {"networks": {"ERC20": {"network": "ERC20"}}}, "DEF": {"networks": None}}, 5)
    assert found == [TransferTerms("x", "ABC", "ETH", None, None, None, None, None, 5)]


def test_save_terms_replaces_the_venue_and_reads_back_exactly(store: Store) -> None:
    one = TransferTerms("kucoin", "ABC", "ETH", 0.1 + 0.2, None, True, None, "0xAa", NOW_MS)
    other = TransferTerms("htx", "ABC", "ETH", 1.0, 2.0, False, True, None, NOW_MS)
    assert all_terms(store) == []
    assert save_terms(store, "kucoin", [one, other]) == 1
    assert save_terms(store, "htx", [other]) == 1
    assert all_terms(store) == [other, one]
    later = TransferTerms("kucoin", "DEF", "TRX", None, None, None, None, None, NOW_MS + int(timedelta(hours=1).total_seconds()))
    assert save_terms(store, "kucoin", [later]) == 1
    assert save_terms(store, "kucoin", []) == 0
    assert all_terms(store) == [other, later]
