"""Withdrawal terms as venues told them: why an opportunity is flagged.

What belongs here: reading them from the store, their age, what is not known. What does not: choosing a way between venues
(`altforecast.trading_terms`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from altforecast.trading_terms import TransferTerms
from altforecast_io.exchanges.venues import TELLS_TRANSFERS
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store
from altforecast_io.store.transfers import all_terms, answered_at
from altforecast_serving.lineage import Answer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find_transfers(store: Store, settings: Settings, venue: str | None, coin: str | None, limit: int, now: datetime) -> Answer:
    """Rows by venue, coin and network, at most `limit`; warnings say what is left out and which venues tell nothing."""
    found = all_terms(store, venue, coin)
    rows = [_row(terms, settings.transfer_terms_max_age_hours, now) for terms in found[:limit]]
    warnings = [f"{len(found) - limit} more networks: raise limit or filter"] if len(found) > limit else []
    return Answer(
        rows, known_at=max((row["fetched_at"] for row in rows), default=None), warnings=[*warnings, *_unknown(store, settings, venue)]
    )


def _row(terms: TransferTerms, max_age_hours: float, now: datetime) -> dict[str, Any]:
    fetched_at = _EPOCH + timedelta(milliseconds=terms.ts_ms)
    return {
        "venue": terms.venue, "coin": terms.coin, "network": terms.network, "fee": terms.fee, "minimum": terms.minimum,
        "is_withdrawal_open": terms.is_withdrawal_open, "is_deposit_open": terms.is_deposit_open, "contract": terms.contract,
        "fetched_at": fetched_at, "is_stale": now - fetched_at > timedelta(hours=max_age_hours),
    }  # fmt: skip


def _unknown(store: Store, settings: Settings, venue: str | None) -> list[str]:
    """Why nothing is known of venues that are followed, or of the one asked for."""
    venues = [venue] if venue is not None else list(settings.book_venues)
    keyed = [v for v in venues if v not in TELLS_TRANSFERS]
    told = answered_at(store)
    silent = [v for v in venues if v in TELLS_TRANSFERS and v not in told]
    texts = [f"tell no terms without a key, so WITHDRAW_COST_USDT is assumed for them: {', '.join(keyed)}"] if keyed else []
    return [*texts, *([f"have not answered yet (job transfer_terms): {', '.join(silent)}"] if silent else [])]
