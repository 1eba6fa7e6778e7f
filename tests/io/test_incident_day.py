"""The judgement of the incident day: what counts as found, as real and as false."""

from __future__ import annotations

from typing import Any

from altforecast_sandbox.faults import KINDS
from altforecast_sandbox.incident_day import RECOVERY_S, SCRIPT, Detection, Incident, disturbances, judge
from altforecast_sandbox.stream_faults import STREAM_KINDS

BEGAN = 1_700_000_000_000
BUY, SELL = ("okx", "BTC-USDT", "ask"), ("gate", "BTC-USDT", "bid")


def plant(start_s: float, end_s: float | None, buy: tuple[str, str, str] = BUY, sell: tuple[str, str, str] = SELL) -> dict[str, Any]:
    legs = [{"venue": venue, "symbol": symbol, "side": side} for venue, symbol, side in (buy, sell)]
    return {"legs": legs, "start_ms": BEGAN + round(start_s * 1000), "end_ms": None if end_s is None else BEGAN + round(end_s * 1000)}


def seen(start_s: float, end_s: float | None, *legs: tuple[str, str, str]) -> Detection:
    end = None if end_s is None else BEGAN + round(end_s * 1000)
    return Detection(legs or (BUY, SELL), BEGAN + round(start_s * 1000), end, 0.1)


def test_judge_found_missed_short_and_still_open_plants() -> None:
    plants = [plant(1, 2), plant(5, 6), plant(8, 8.03), plant(9, None)]
    verdict = judge(plants, [seen(1.004, 2.1)], (), BEGAN)
    assert (verdict.n_plants, verdict.found, verdict.n_short, verdict.recall) == (2, 1, 1, 0.5)
    assert verdict.missed == [plants[1]]
    assert verdict.delays_ms == [4]
    assert (verdict.true, verdict.false, verdict.precision) == (1, [], 1.0)


def test_judge_other_direction_or_other_time_is_not_the_plant() -> None:
    backwards = seen(1.1, 1.9, ("gate", "BTC-USDT", "ask"), ("okx", "BTC-USDT", "bid"))
    verdict = judge([plant(1, 2)], [backwards, seen(30, 31)], (), BEGAN)
    assert (verdict.found, verdict.true, verdict.beside) == (0, 0, 1)
    assert [d.opened_ms for d in verdict.false] == [BEGAN + 30_000]
    assert verdict.precision == 0.5


def test_judge_a_third_venue_beside_a_plant_is_real_and_elsewhere_is_false() -> None:
    beside = seen(1.2, 1.8, BUY, ("bybit", "BTC-USDT", "bid"))
    elsewhere = seen(1.2, 1.8, ("mexc", "ETH-USDT", "ask"), ("bybit", "ETH-USDT", "bid"))
    verdict = judge([plant(1, 2)], [beside, elsewhere], (), BEGAN)
    assert (verdict.beside, verdict.false) == (1, [elsewhere])


def test_judge_plants_of_disturbed_venues_are_left_out_and_claims_are_not_excused() -> None:
    script = (Incident(10, "okx", "gap", times=1),)
    inside, after = plant(11, 12), plant(10 + RECOVERY_S + 1, 10 + RECOVERY_S + 2)
    claim = seen(10.2, 10.6, BUY, ("kraken", "SOL-USDT", "bid"))
    verdict = judge([inside, after], [claim], script, BEGAN)
    assert (verdict.n_plants, verdict.n_disturbed, verdict.found) == (1, 1, 0)
    assert verdict.false == [claim]


def test_judge_a_jump_of_the_market_explains_what_was_not_planted() -> None:
    script = (Incident(10, "okx", "reconnect_moved"),)
    verdict = judge([], [seen(11, 12), seen(60, 61)], script, BEGAN)
    assert (verdict.moved, len(verdict.false)) == (1, 1)


def test_disturbances_last_as_long_as_their_fault() -> None:
    found = disturbances((Incident(1, "mexc", "flap", 3, times=4), Incident(2, "kraken", "silence", 15)), BEGAN)
    assert [(end - start) / 1000 for _, start, end, _ in found] == [12 + RECOVERY_S, 15 + RECOVERY_S]


def test_script_names_faults_that_exist() -> None:
    assert {incident.kind for incident in SCRIPT} <= {*KINDS, *STREAM_KINDS}
    assert len({incident.service for incident in SCRIPT}) == 14
