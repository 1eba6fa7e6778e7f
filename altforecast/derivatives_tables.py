"""Registry of the lake tables about derivatives.

What belongs here: columns of settled funding. What does not: how rows are checked (`funding_rates`) and where they come from.
"""

from __future__ import annotations

from altforecast.table_schema import F64, I64, STR, TS, Column, Table

FUNDING_RATES = Table(
    "funding_rates", "Settled funding of perpetual contracts; longs pay shorts where it is above 0", "one settlement",
    ("symbol", "exchange", "ts"), ("symbol", "exchange", "ts"),
    (
        Column("ts", TS, "UTC", "moment of the settlement by the schedule (the supplier's time to the nearest minute)"),
        Column("symbol", STR, "", "canonical symbol of the contract, BASE-QUOTE-PERP"),
        Column("exchange", STR, "", "venue slug"),
        Column("funding_rate", F64, "fraction of the position per interval", "what longs paid; 0.0001 is 1 bp"),
        Column("interval_h", I64, "h", "hours since the settlement before; null where that is not known", True),
        Column("source", STR, "", "who delivered it: import"),
        Column("known_at", TS, "UTC", "first moment at which the row could be known: a minute after the settlement"),
    ),
    by_timeframe=False,
)  # fmt: skip

DERIVATIVES_TABLES = (FUNDING_RATES,)
