"""Report lines in their exact form, arrows hand-computed, staleness, partitions, texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from altforecast.regime import classify_regime
from altforecast.reports import SPANS, arrow_of, direct_report, market_doctor, market_report, market_text, report_line
from altforecast.tables import MARKET_REPORT, TS
from altforecast.tables import REGIME as REGIME_TABLE
from altforecast.types import Arrow, Metric

HOUR = timedelta(hours=1)
START = datetime(2025, 1, 1, tzinfo=UTC)
EVER = datetime(2000, 1, 1, tzinfo=UTC)
STEPS = {"15m": 1, "1h": 4, "4h": 16}


def metric_bars(seed: int, hours: int, metrics: tuple[Metric, ...] = tuple(Metric)) -> pl.DataFrame:
    """15m walks and the 1h and 4h bars that they make."""
    rng, frames = np.random.default_rng(seed), []
    for metric in metrics:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.002, hours * 4)))
        for timeframe, step in STEPS.items():
            ts = [START + timedelta(minutes=15 * k) for k in range(0, hours * 4, step)]
            frames.append(pl.DataFrame({"ts": ts, "metric": metric.value, "timeframe": timeframe, "close": close[step - 1 :: step]}))
    return pl.concat(frames).with_columns(pl.col("ts").cast(TS))


def hourly(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(pl.col("timeframe") == "1h").drop("timeframe")


def test_report_line_exact_form() -> None:
    arrows = {"15m": "up", "1h": "down", "4h": "flat", "24h": "up"}
    assert report_line("TOTAL3", arrows) == "TOTAL3: ⬆ 15m ⬇ 1h → 4h ⬆ 24h"


def test_report_line_unknown_and_changes() -> None:
    assert report_line("BTC", {"1h": "up"}) == "BTC: ? 15m ⬆ 1h ? 4h ? 24h"
    with_changes = report_line("BTC", {"15m": "flat", "1h": "up", "4h": "up", "24h": "down"}, {"15m": 0.0, "24h": -2.14, "4h": None})
    assert with_changes == "BTC: → 15m +0.0% ⬆ 1h ⬆ 4h ⬇ 24h -2.1%"


@pytest.mark.parametrize(
    ("z", "arrow"),
    [
        (0.2501, Arrow.UP),
        (0.25, Arrow.FLAT),
        (-0.25, Arrow.FLAT),
        (-0.26, Arrow.DOWN),
        (None, Arrow.UNKNOWN),
        (float("nan"), Arrow.UNKNOWN),
    ],
)
def test_arrow_of_edges(z: float | None, arrow: Arrow) -> None:
    assert arrow_of(z) is arrow


def test_arrow_of_normal_changes_are_flat_a_fifth_of_the_time() -> None:
    z = np.random.default_rng(1).normal(size=20_000)
    assert np.mean([arrow_of(v) is Arrow.FLAT for v in z]) == pytest.approx(0.197, abs=0.01)


def test_market_report_equals_numpy() -> None:
    bars = metric_bars(2, 1200)
    found = market_report(bars, REGIME_TABLE.empty(), EVER)
    row = found.filter((pl.col("metric") == "TOTAL3") & (pl.col("ts") == START + 1001 * HOUR)).row(0, named=True)
    log = np.log(bars.filter((pl.col("metric") == "TOTAL3") & (pl.col("timeframe") == "15m"))["close"].to_numpy())
    at = 1002 * 4 - 1  # the last 15m bar closed when hour 1001 closes
    at4 = (at + 1) // 16 * 16 - 1  # the last 4h bar closed by then
    for span, change in {
        "15m": log[at] - log[at - 1],
        "1h": log[at] - log[at - 4],
        "4h": log[at4] - log[at4 - 16],
        "24h": log[at] - log[at - 96],
    }.items():
        assert row[f"change_{span}_pct"] == pytest.approx(100 * np.expm1(change))
    quarter_hours = np.diff(log)[:at][-2880:]
    assert row["z_15m"] == pytest.approx((log[at] - log[at - 1]) / quarter_hours.std(ddof=1))
    assert row["arrow_15m"] == arrow_of(row["z_15m"]).value
    assert row["line"] == report_line("TOTAL3", {s: row[f"arrow_{s}"] for s in SPANS})
    assert (row["regime"], row["is_degraded"]) == ("unknown", False)
    assert found.filter(pl.col("ts") == START + 1001 * HOUR).height == 6


def test_market_report_stale_and_missing_print_question_marks() -> None:
    last = START + 999 * HOUR
    bars = metric_bars(3, 1000, (Metric.BTC, Metric.TOTAL3))
    late_quarters = (pl.col("metric") == "BTC") & (pl.col("timeframe") == "15m") & (pl.col("ts") >= last + timedelta(minutes=30))
    found = market_report(bars.filter(~late_quarters), REGIME_TABLE.empty(), EVER)
    rows = {r["metric"]: r for r in found.filter(pl.col("ts") == last).iter_rows(named=True)}
    assert rows["BTC"]["line"].startswith("BTC: ? 15m ")
    assert "?" not in rows["BTC"]["line"].removeprefix("BTC: ? 15m ")
    assert rows["ETHBTC"]["line"] == "ETHBTC: ? 15m ? 1h ? 4h ? 24h"
    assert (rows["BTC"]["is_degraded"], rows["TOTAL3"]["is_degraded"]) == (True, False)
    one_late = (pl.col("metric") == "BTC") & (pl.col("timeframe") == "15m") & (pl.col("ts") == last + timedelta(minutes=45))
    bridged = market_report(bars.filter(~one_late), REGIME_TABLE.empty(), last)
    assert not bridged.filter(pl.col("metric") == "BTC")["is_degraded"][0]


def test_market_report_four_hour_arrow_is_stale_after_six_hours() -> None:
    bars = metric_bars(4, 1000, (Metric.BTC,)).filter((pl.col("timeframe") != "4h") | (pl.col("ts") < START + 980 * HOUR))
    found = market_report(bars, REGIME_TABLE.empty(), START + 979 * HOUR).filter(pl.col("metric") == "BTC")
    # The last 4h bar closed at hour 980; rows are known one hour after their ts.
    assert found["arrow_4h"].to_list()[:8].count("unknown") == 1
    assert found["arrow_4h"][7] == "unknown"


def test_market_report_by_month_equals_all_at_once() -> None:
    bars = metric_bars(5, 2300, (Metric.BTC, Metric.USDT_D))
    regime = classify_regime(hourly(bars), EVER)
    whole = market_report(bars, regime, EVER)
    edges = [datetime(2025, m, 1, tzinfo=UTC) for m in (1, 2, 3, 4)] + [START + 2300 * HOUR]
    parts = []
    for begin, end in pairwise(edges):
        seen = bars.filter(pl.col("ts").is_between(begin - timedelta(days=33), end, closed="left"))
        parts.append(market_report(seen, regime.filter(pl.col("ts").is_between(begin, end)), begin, end=end))
    assert pl.concat(parts).equals(whole)


def test_market_report_is_causal() -> None:
    bars, cut = metric_bars(6, 1100, (Metric.BTC,)), START + 1000 * HOUR
    close = pl.col("ts") + pl.col("timeframe").replace_strict({"15m": 15, "1h": 60, "4h": 240}) * timedelta(minutes=1)
    bent = bars.with_columns(close=pl.when(close > cut).then(pl.col("close") * 1.3).otherwise("close"))
    before, after = (market_report(b, REGIME_TABLE.empty(), EVER) for b in (bars, bent))
    assert before.filter(pl.col("known_at") <= cut).equals(after.filter(pl.col("known_at") <= cut))
    assert not before.equals(after)


def test_market_report_empty() -> None:
    bars = metric_bars(7, 16)
    assert market_report(bars.clear(), REGIME_TABLE.empty(), EVER).equals(MARKET_REPORT.empty())
    assert market_report(bars, REGIME_TABLE.empty(), datetime(2030, 1, 1, tzinfo=UTC)).equals(MARKET_REPORT.empty())


@pytest.fixture(scope="module")
def one_hour() -> tuple[pl.DataFrame, dict[str, object]]:
    bars = metric_bars(8, 1000)
    bars = bars.with_columns(
        close=pl.when((pl.col("metric") == "BTC") & (pl.col("ts") >= START + 999 * HOUR)).then(pl.col("close") * 1.25).otherwise("close")
    )
    bars = bars.filter((pl.col("metric") != "USDT.D") | (pl.col("ts") < START + 990 * HOUR))
    regime = classify_regime(hourly(bars), EVER)
    rows = market_report(bars, regime, START + 999 * HOUR)
    return rows, regime.row(-1, named=True)


def test_market_text_has_all_metrics_in_order_and_the_regime(one_hour: tuple[pl.DataFrame, dict[str, object]]) -> None:
    lines = market_text(*one_hour).split("\n")
    assert [line.partition(":")[0] for line in lines] == [*(m.value for m in Metric), "Regime"]
    assert ", degraded)" in lines[-1]
    assert market_text(MARKET_REPORT.empty(), None).endswith("Regime: unknown")


def test_direct_report_tells_time_changes_and_reasons(one_hour: tuple[pl.DataFrame, dict[str, object]]) -> None:
    text = direct_report(*one_hour)
    assert text.startswith("Market at 2025-02-11 16:00 UTC")
    assert "⬆ 1h +2" in text.split("BTC: ")[1].split("\n")[0]
    assert "Missing or stale: USDT.D" in text
    assert direct_report(MARKET_REPORT.empty(), None).startswith("No market report yet")


def test_market_doctor_names_the_unusual_and_the_missing(one_hour: tuple[pl.DataFrame, dict[str, object]]) -> None:
    text = market_doctor(*one_hour)
    unusual = text.split("Unusual:\n")[1].split("\n")[0]
    assert unusual.startswith("- BTC is up ")
    assert "- USDT.D: missing, stale or too little history for 15m, 1h, 4h, 24h." in text
    assert "- Regime without USDT.D." in text


def test_market_doctor_quiet_market_and_empty() -> None:
    assert "nothing to examine" in market_doctor(MARKET_REPORT.empty(), None)
    bars = metric_bars(9, 1000)
    regime = classify_regime(hourly(bars), EVER)
    rows = market_report(bars, regime, START + 999 * HOUR).with_columns(
        pl.col("^z_.*$") * 0.01, pl.col("^arrow_.*$").map_elements(lambda _: "flat", return_dtype=pl.String)
    )
    quiet = regime.row(-1, named=True) | {"pending_state": regime["state"][-1]}
    text = market_doctor(rows, quiet)
    assert "Nothing unusual" in text
    assert "All inputs are fresh." in text
