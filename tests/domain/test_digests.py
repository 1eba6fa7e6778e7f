"""Wording and choice of the digest."""

from __future__ import annotations

from typing import Any

import pytest

from altforecast.digests import SHOWN, Found, Thresholds, better_of, digest_text, found_in, worth_telling


def found(name: str = "a", **changes: Any) -> Found:
    values: dict[str, Any] = {
        "id": name, "type": "spatial", "symbol": "BTC-USDT", "buy_exchange": "okx", "sell_exchange": "kraken", "edge_pct": 0.31,
        "profit_usdt": 1234.4, "lifetime_ms": None, "flags": (),
    }  # fmt: skip
    return Found(**(values | changes))


def test_digest_text_names_venues_edge_profit_life_and_risks() -> None:
    text = digest_text([found(), found("b", lifetime_ms=950, flags=("thin", "new_flag"))], 300, "live")
    assert text.splitlines() == [
        "Arbitrage, last 5 min: 2 above the thresholds",
        "BTC-USDT okx → kraken: 0.31 %, 1,234 USDT, open",
        "BTC-USDT okx → kraken: 0.31 %, 1,234 USDT, lived 950 ms; thin book, new flag",
    ]


@pytest.mark.parametrize(("ms", "words"), [(1500, "1.5 s"), (90_000, "1.5 min")])
def test_digest_text_spans(ms: int, words: str) -> None:
    assert f"lived {words}" in digest_text([found(lifetime_ms=ms)], 300, "live")


def test_digest_text_of_a_triangle_names_its_venue_once() -> None:
    assert "A>B>C>A okx: " in digest_text([found(type="triangular", symbol="A>B>C>A", sell_exchange="okx")], 300, "live")


def test_digest_text_of_the_sandbox_says_so_first() -> None:
    assert digest_text([found()], 300, "sandbox").startswith("SANDBOX, nothing here is real.")


def test_digest_text_of_a_short_interval_counts_seconds() -> None:
    assert digest_text([found()], 10, "live").startswith("Arbitrage, last 10 s: 1 above")


def test_digest_text_empty() -> None:
    assert digest_text([], 300, "live") == ""


def test_digest_text_is_bounded() -> None:
    lines = digest_text([found(str(i)) for i in range(500)], 300, "live").splitlines()
    assert len(lines) == SHOWN + 2
    assert lines[-1] == f"and {500 - SHOWN} more"


def test_worth_telling_needs_both_thresholds() -> None:
    at_least = Thresholds(0.2, 5.0)
    rows = [found("low edge", edge_pct=0.1), found("low profit", profit_usdt=4.0), found("b", profit_usdt=6.0), found("c", profit_usdt=9.0)]
    assert [f.id for f in worth_telling(rows, at_least)] == ["c", "b"]


def test_better_of_keeps_the_best_moment_and_every_flag() -> None:
    best = better_of(found(profit_usdt=9.0, flags=("thin",)), found(profit_usdt=2.0, flags=("edge_too_good",), lifetime_ms=700))
    assert (best.profit_usdt, best.flags, best.lifetime_ms) == (9.0, ("thin", "edge_too_good"), 700)


def test_found_in_takes_the_better_profit_and_flags_in_both_forms() -> None:
    row = {
        "id": "a", "type": "spatial", "symbol": "BTC-USDT", "buy_exchange": "okx", "sell_exchange": "kraken", "net_edge_pct": 0.3,
        "expected_profit_usdt": 5.0, "optimal_profit_usdt": 40.0, "risk_flags": "thin,edge_too_good",
    }  # fmt: skip
    assert found_in(row).profit_usdt == 40.0
    assert found_in(row).flags == found_in(row | {"risk_flags": ["thin", "edge_too_good"]}).flags == ("thin", "edge_too_good")
    with pytest.raises(KeyError):
        found_in({"id": "a"})


def test_found_in_counts_the_edge_of_the_best_size_where_the_fixed_one_does_not_earn() -> None:
    row = {
        "id": "a", "type": "spatial", "symbol": "BTC-USDT", "buy_exchange": "okx", "sell_exchange": "kraken", "net_edge_pct": -100.0,
        "peak_edge_pct": 0.4, "expected_profit_usdt": 0.0, "optimal_profit_usdt": 12.0, "risk_flags": "thin",
    }  # fmt: skip
    assert (found_in(row).edge_pct, found_in(row).profit_usdt) == (0.4, 12.0)
    assert found_in({**row, "net_edge_pct": 0.1}).edge_pct == 0.1
