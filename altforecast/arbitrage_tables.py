"""Registry of the lake tables that rest on order books.

What belongs here: columns of events, opportunities, outcomes, statistics and book cuts. What does not: tables that rest
on bars (`tables`) and how rows are computed.
"""

from __future__ import annotations

from altforecast.table_schema import Table

ARBITRAGE_TABLES: tuple[Table, ...] = ()
