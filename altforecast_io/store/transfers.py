"""Withdrawal terms in the operational store, the newest of each venue, coin and network.

What belongs here: writing and reading them. What does not: asking venues (`exchanges.transfers`), judging age
(`altforecast.trading_terms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select

from altforecast.trading_terms import TransferTerms
from altforecast_io.store.engine import Store
from altforecast_io.store.schema import transfer_terms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def save_terms(store: Store, venue: str, terms: Sequence[TransferTerms]) -> int:
    """Replace all terms of a venue by its newest answer, at once; the number of rows.

    An empty answer changes nothing: a venue that lists no coins has told nothing. Raises StorageError.
    """
    rows = [_row(one) for one in terms if one.venue == venue]
    if not rows:
        return 0
    with store.write() as connection:
        store.lock(connection, "transfers")
        connection.execute(delete(transfer_terms).where(transfer_terms.c.exchange == venue))
        connection.execute(insert(transfer_terms), rows)
    return len(rows)


def answered_at(store: Store) -> dict[str, datetime]:
    """When each venue answered last; venues that never did are absent."""
    newest = select(transfer_terms.c.exchange, func.max(transfer_terms.c.fetched_at)).group_by(transfer_terms.c.exchange)
    with store.read() as connection:
        return {row[0]: row[1] for row in connection.execute(newest)}


def all_terms(store: Store, venue: str | None = None, coin: str | None = None) -> list[TransferTerms]:
    """Every known row, or those of a venue or coin, by venue, coin and network; empty before the first answer."""
    asked = select(transfer_terms).order_by(transfer_terms.c.exchange, transfer_terms.c.coin, transfer_terms.c.network)
    if venue is not None:
        asked = asked.where(transfer_terms.c.exchange == venue)
    if coin is not None:
        asked = asked.where(transfer_terms.c.coin == coin)
    with store.read() as connection:
        rows = connection.execute(asked).all()
    return [
        TransferTerms(
            r.exchange, r.coin, r.network, _float(r.fee), _float(r.minimum), r.is_withdrawal_open, r.is_deposit_open, r.contract,
            (r.fetched_at - _EPOCH) // _MS,
        )
        for r in rows
    ]  # fmt: skip


def _row(terms: TransferTerms) -> dict[str, Any]:
    return {
        "exchange": terms.venue, "coin": terms.coin, "network": terms.network, "fee": _text(terms.fee), "minimum": _text(terms.minimum),
        "is_withdrawal_open": terms.is_withdrawal_open, "is_deposit_open": terms.is_deposit_open, "contract": terms.contract,
        "fetched_at": _EPOCH + terms.ts_ms * _MS,
    }  # fmt: skip


def _text(value: float | None) -> str | None:
    return None if value is None else repr(value)


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)
