"""The route that shows transfer terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from altforecast.trading_terms import TransferTerms
from altforecast_io.settings import Settings
from altforecast_io.store.transfers import save_terms
from altforecast_serving.app import create_app
from tests.serving.live_rows import NOW

NOW_MS = int(NOW.timestamp() * 1000)
OLD_MS = NOW_MS - int(timedelta(hours=25).total_seconds() * 1000)


@pytest.fixture
def client(make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    settings = make_settings(book_venues="kucoin,htx,bitget,kraken")
    with TestClient(create_app(settings), raise_server_exceptions=False) as made:
        services = made.app.state.services  # type: ignore[attr-defined]
        services.clock = lambda: NOW
        save_terms(services.store, "kucoin", [
            TransferTerms("kucoin", "LTC", "LTC", 0.001, 0.01, False, False, None, NOW_MS),
            TransferTerms("kucoin", "TWIN", "ETH", None, None, None, None, "0x11", NOW_MS),
        ])  # fmt: skip
        save_terms(services.store, "bitget", [TransferTerms("bitget", "LTC", "LTC", 0.001, 0.01, True, True, None, OLD_MS)])
        yield made


def get(client: TestClient, **params: Any) -> dict[str, Any]:
    response = client.get("/api/arbitrage/transfers", params=params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_list_transfers_shows_terms_and_what_is_not_known(client: TestClient) -> None:
    answer = get(client)
    assert [(r["venue"], r["coin"], r["is_withdrawal_open"], r["is_stale"]) for r in answer["data"]] == [
        ("bitget", "LTC", True, True), ("kucoin", "LTC", False, False), ("kucoin", "TWIN", None, False),
    ]  # fmt: skip
    assert answer["data"][2] == {
        "venue": "kucoin", "coin": "TWIN", "network": "ETH", "fee": None, "minimum": None, "is_withdrawal_open": None,
        "is_deposit_open": None, "contract": "0x11", "fetched_at": "2026-11-21T12:00:00Z", "is_stale": False,
    }  # fmt: skip
    assert answer["warnings"] == [
        "tell no terms without a key, so WITHDRAW_COST_USDT is assumed for them: kraken", "have not answered yet (job transfer_terms): htx",
    ]  # fmt: skip


def test_list_transfers_filters(client: TestClient) -> None:
    assert [r["coin"] for r in get(client, venue="KuCoin", coin="ltc")["data"]] == ["LTC"]
    assert get(client, venue="kucoin")["warnings"] == []
    assert get(client, venue="okx")["warnings"] == ["tell no terms without a key, so WITHDRAW_COST_USDT is assumed for them: okx"]
    assert get(client, limit=1)["warnings"][0] == "2 more networks: raise limit or filter"


@pytest.mark.parametrize(("params", "status"), [({"venue": "nowhere"}, 404), ({"coin": "a b"}, 422), ({"limit": 0}, 422)])
def test_list_transfers_refuses(client: TestClient, params: dict[str, Any], status: int) -> None:
    assert client.get("/api/arbitrage/transfers", params=params).status_code == status
