"""Every table that features read, made of bars alone: whatever is changed in the bars reaches every column.

What belongs here: stand-ins for suppliers (funding, sentiment, market caps) that follow the prices. What does not: expected values.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from altforecast.bar_signals import signals_from_bars
from altforecast.regime import classify_regime
from altforecast.signal_features import SignalFrames
from altforecast.types import Timeframe

MINUTE = pl.duration(minutes=1)


def signal_world(bars: pl.DataFrame) -> SignalFrames:
    """All frames, from hourly bars of BTC, ETH, SOL and XRP."""
    wide = bars.pivot("symbol", index="ts", values="close").sort("ts").drop_nulls()
    own = signals_from_bars(bars, Timeframe.H1)
    return replace(own, regime=_regime(wide), market_context=_context(wide), funding_rates=_funding(wide))


def _regime(wide: pl.DataFrame) -> pl.DataFrame:
    btc, eth, sol, xrp = (pl.col(f"{base}-USDT") for base in ("BTC", "ETH", "SOL", "XRP"))
    metrics = {
        "TOTAL3": sol + xrp, "TOTAL2": eth + sol + xrp, "BTC.D": btc / (btc + eth + sol + xrp), "USDT.D": xrp / (btc + eth),
        "ETHBTC": eth / btc,
    }  # fmt: skip
    long = wide.select("ts", *(value.alias(name) for name, value in metrics.items())).unpivot(
        index="ts", variable_name="metric", value_name="close"
    )
    return classify_regime(long, wide["ts"].min())  # type: ignore[arg-type]


def _context(wide: pl.DataFrame) -> pl.DataFrame:
    """One reading a day of each, from the closes of the day, known a minute after midnight."""
    days = wide.group_by_dynamic("ts", every="1d").agg(pl.exclude("ts").last()).with_columns(pl.col("ts") + pl.duration(days=1))
    total = pl.sum_horizontal(pl.exclude("ts"))
    readings = {
        "fear_greed": 50 + pl.col("ETH-USDT") % 50,
        "btc_dominance_pct": 100 * pl.col("BTC-USDT") / total,
        "total_market_cap_usd": total,
    }
    long = days.select("ts", *(value.alias(name) for name, value in readings.items())).unpivot(index="ts", variable_name="name")
    return long.with_columns(known_at=pl.col("ts") + MINUTE)


def _funding(wide: pl.DataFrame) -> pl.DataFrame:
    """Every 8 hours, from the return of the bars before."""
    settled = wide.with_columns(pl.col("ts") + pl.duration(hours=1)).filter(pl.col("ts").dt.hour() % 8 == 0)
    rates = settled.select("ts", (pl.exclude("ts").log().diff().clip(-0.1, 0.1) * 0.01).name.suffix("-PERP")).drop_nulls()
    long = rates.unpivot(index="ts", variable_name="symbol", value_name="funding_rate")
    return long.with_columns(exchange=pl.lit("binance"), interval_h=pl.lit(8), known_at=pl.col("ts") + MINUTE)
