"""Fees, transfers and identity of coins."""

from __future__ import annotations

import pytest

from altforecast.opportunities import RiskFlag
from altforecast.symbols import VENUES
from altforecast.trading_terms import TAKER_FEES, TradingTerms, TransferTerms, network_name

NOW_MS = 1_700_000_000_000


def row(venue: str, network: str = "ETH", coin: str = "ABC", **changes: object) -> TransferTerms:
    values: dict[str, object] = {"fee": 1.0, "minimum": 5.0, "is_withdrawal_open": True, "is_deposit_open": True, "contract": "0xAa"}
    return TransferTerms(venue=venue, coin=coin, network=network, ts_ms=NOW_MS, **(values | changes))  # type: ignore[arg-type]


def terms(*rows: TransferTerms) -> TradingTerms:
    made = TradingTerms()
    made.set_transfers(rows)
    return made


def test_taker_fee_order_of_choice() -> None:
    assert set(VENUES) <= set(TAKER_FEES)
    assert TradingTerms().taker_fee("kraken") == 0.0040
    assert TradingTerms(uniform_fee_bps=7).taker_fee("kraken") == 0.0007
    assert TradingTerms({"kraken": 16}, uniform_fee_bps=7).taker_fee("kraken") == 0.0016


@pytest.mark.parametrize("spelling", ["ERC20", "erc-20", "Ethereum", "ETH"])
def test_network_name(spelling: str) -> None:
    assert network_name(spelling) == "ETH"


def test_transfer_takes_the_cheapest_open_common_network() -> None:
    known = terms(row("a", "ETH", fee=5.0), row("a", "TRX", fee=1.0), row("a", "SOL", fee=0.1), row("b", "ETH"), row("b", "TRX"))
    way = known.transfer("ABC", "a", "b", NOW_MS)
    assert (way.network, way.fee, way.flags) == ("TRX", 1.0, ())
    known = terms(row("a", "ETH", fee=5.0), row("a", "TRX", fee=1.0), row("b", "ETH"), row("b", "TRX", is_deposit_open=False))
    assert known.transfer("ABC", "a", "b", NOW_MS).network == "ETH"


@pytest.mark.parametrize(
    ("out", "into", "flag"),
    [
        (row("a", is_withdrawal_open=False), row("b"), RiskFlag.WITHDRAWAL_CLOSED),
        (row("a"), row("b", is_deposit_open=False), RiskFlag.DEPOSIT_CLOSED),
        (row("a", fee=None), row("b"), RiskFlag.TRANSFER_COST_UNKNOWN),
        (row("a"), row("b", "SOL"), RiskFlag.TRANSFER_COST_UNKNOWN),
        (row("a", contract=None, network="ETH"), row("b"), RiskFlag.ASSET_UNMATCHED),
    ],
)
def test_transfer_flags(out: TransferTerms, into: TransferTerms, flag: RiskFlag) -> None:
    assert flag in terms(out, into).transfer("ABC", "a", "b", NOW_MS).flags


def test_transfer_unknown_is_never_free() -> None:
    way = TradingTerms().transfer("ABC", "a", "b", NOW_MS)
    assert way.fee is None
    assert set(way.flags) == {RiskFlag.TRANSFER_COST_UNKNOWN, RiskFlag.ASSET_UNMATCHED}
    assert TradingTerms().transfer("BTC", "a", "b", NOW_MS).flags == (RiskFlag.TRANSFER_COST_UNKNOWN,)


def test_transfer_stale_terms_flagged() -> None:
    known = terms(row("a"), row("b"))
    assert known.transfer("ABC", "a", "b", NOW_MS + 24 * 3_600_000).flags == ()
    assert known.transfer("ABC", "a", "b", NOW_MS + 24 * 3_600_000 + 1).flags == (RiskFlag.TRANSFER_STALE,)


@pytest.mark.parametrize(
    ("one", "other", "is_other"),
    [("0xAa", "0xaA", False), ("0xAa", "0xBb", True), ("EPjFW", "epjfw", True), (None, "0xBb", False)],
)
def test_transfer_tells_coins_apart_by_contract(one: str | None, other: str, is_other: bool) -> None:
    way = terms(row("a", contract=one), row("b", contract=other)).transfer("ABC", "a", "b", NOW_MS)
    assert way.is_other_coin is is_other


def test_set_transfers_replaces_what_was_answered_before() -> None:
    known = terms(row("a"), row("b"))
    assert known.transfer("ABC", "a", "b", NOW_MS).fee == 1.0
    before = known.revision
    known.set_transfers([row("a", fee=3.0), row("b")])
    assert known.transfer("ABC", "a", "b", NOW_MS).fee == 3.0
    assert known.revision == before + 1
