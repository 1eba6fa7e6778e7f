"""Event times of venues that write them as text.

What belongs here: text to milliseconds. What does not: times that are numbers already.
"""

from __future__ import annotations

from datetime import datetime


def milliseconds(text: str) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time with zone (more than six decimals are cut); None for an empty text.

    Raises ValueError for another text, or one without a zone.
    """
    if not text:
        return None
    if len(text) > 27 and text.endswith("Z"):
        text = text[:26] + "Z"
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return int(moment.timestamp() * 1000)
