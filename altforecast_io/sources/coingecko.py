"""CoinGecko's global figures: dominance of BTC and total market value.

What belongs here: CoinGecko's address, key, error bodies and shape. What does not: the call itself (`http`) and the
merging with other suppliers (`market_context`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from altforecast_io.http import Failure, HttpClient, Service, ServiceError
from altforecast_io.settings import Settings
from altforecast_io.sources.readings import Reading, number

NAME = "coingecko"
_PLAN_CODES = {10002, 10005, 10010, 10011}
_TOO_OLD_CODE = 10012


def service(settings: Settings, attempts: int = 3) -> Service:
    """CoinGecko as the settings have it; a key travels in the header that belongs to the host (Pro or Demo)."""
    url = settings.context_btc_dominance_url
    headers = {}
    if settings.coingecko_api_key is not None:
        is_pro = (urlsplit(url).hostname or "").startswith("pro-")
        headers["x-cg-pro-api-key" if is_pro else "x-cg-demo-api-key"] = settings.coingecko_api_key.get_secret_value()
    timeout = settings.context_http_timeout_sec
    return Service(
        NAME, url, headers, timeout_s=timeout, connect_timeout_s=timeout, attempts=attempts, wait_max_s=10, retry_timeout_s=30,
        classify=classify,
    )  # fmt: skip


def classify(_status: int, body: bytes) -> Failure | None:
    """Failure class by CoinGecko's error code, whatever the status; None where the body carries none of those we know."""
    code = _error_code(body)
    if code in _PLAN_CODES:
        return Failure.AUTH
    # history older than the plan allows comes as 401, and is no matter of the key
    return Failure.BAD_REQUEST if code == _TOO_OLD_CODE else None


def _error_code(body: bytes) -> int | None:
    if b"error_code" not in body[:1000]:
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    status = answer.get("status") or (answer.get("error") or {}).get("status") if isinstance(answer, dict) else None
    code = status.get("error_code") if isinstance(status, dict) else None
    return code if isinstance(code, int) else None


async def global_(http: HttpClient, settings: Settings, now: datetime, *, attempts: int = 3) -> list[Reading]:
    """Readings `btc_dominance_pct` [%] and `total_market_cap_usd` [USD]; a figure that is missing or null is left out.

    Raises ServiceError, also when the answer has neither figure.
    """
    answer = await http.get_json(service(settings, attempts))
    readings = parse_global(answer, now)
    if not readings:
        raise ServiceError(NAME, Failure.TRANSIENT, "answered without the global figures")
    return readings


def parse_global(answer: Any, now: datetime) -> list[Reading]:
    """Readings in a `/global` answer; anything malformed counts as missing. Without `updated_at` the reading is of now."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict):
        return []
    seconds = number(data.get("updated_at"))
    ts = now if seconds is None or not 0 < seconds < 1e11 else min(datetime.fromtimestamp(seconds, UTC), now)
    figures = {
        "btc_dominance_pct": number(_inside(data, "market_cap_percentage", "btc")),
        "total_market_cap_usd": number(_inside(data, "total_market_cap", "usd")),
    }
    return [Reading(ts, name, value, None, NAME, now) for name, value in figures.items() if value is not None and value > 0]


def _inside(data: dict[str, Any], outer: str, inner: str) -> Any:
    found = data.get(outer)
    return found.get(inner) if isinstance(found, dict) else None
