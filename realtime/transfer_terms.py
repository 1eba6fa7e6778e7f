"""Transfer terms of the engine: taken over from the store while the process runs.

What belongs here: looking for newer answers and handing them on. What does not: asking venues (a pipeline job does),
what terms mean (`altforecast.trading_terms`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from altforecast.trading_terms import TradingTerms, TransferTerms
from altforecast_io.store.engine import Store
from altforecast_io.store.transfers import all_terms, answered_at

REFRESH_S = 60.0
"""How often the store is looked at."""
log = structlog.get_logger(__name__)


async def keep_transfer_terms(
    store: Store,
    terms: TradingTerms,
    is_good: Callable[[], None] = lambda: None,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Take over every newer answer of a venue, within a minute, until cancelled. `is_good` is called after each look.

    Rows are read and handed on only where a venue answered since: new terms make the scanner look at everything again.
    What was known stays while the store cannot be read; its age then raises `transfer_stale`. Raises StorageError.
    """
    known: dict[str, datetime] = {}
    while True:
        answered, rows = await asyncio.to_thread(_newer, store, known)
        if rows is not None:
            known = answered
            terms.set_transfers(rows)
            log.info("transfer_terms_taken_over", rows=len(rows), venues=sorted(answered))
        is_good()
        await sleep(REFRESH_S)


def _newer(store: Store, known: dict[str, datetime]) -> tuple[dict[str, datetime], list[TransferTerms] | None]:
    """When each venue answered, and all rows where that is not what is known."""
    answered = answered_at(store)
    return answered, all_terms(store) if answered != known else None
