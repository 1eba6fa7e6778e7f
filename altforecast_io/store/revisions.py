"""When a delivery repeats what its bar already holds, and when it says something new.

What belongs here: that rule. What does not: reading and writing rows (`inbox`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

RESEND_WINDOW = timedelta(minutes=2)
"""So long after a delivery the same content may still be its resend: the sender tries again for some seconds only."""


@dataclass(slots=True)
class HeldRow:
    """One row of a bar; id 0 and `values` until it is inserted."""

    id: int
    content: str
    received_at: datetime
    values: dict[str, Any] | None = None


def repeated(held: Sequence[HeldRow], *, content: str, received_at: datetime) -> HeldRow | None:
    """The row (of one bar, oldest first) that a delivery repeats; None where it says something new.

    The newest content is always a repetition; an older one is a late resend within RESEND_WINDOW and a revision after it.
    """
    row = next((r for r in reversed(held) if r.content == content), None)
    if row is None or row is held[-1] or received_at - row.received_at <= RESEND_WINDOW:
        return row
    return None
