"""Answers about the present say when they no longer are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from altforecast_serving.lineage import Answer
from altforecast_serving.queries.freshness import Freshness, in_words

NOW = datetime(2025, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "words"),
    [(timedelta(days=447, hours=3), "447 days"), (timedelta(hours=47), "47 hours"), (timedelta(minutes=3), "3 minutes")],
)
def test_in_words_largest_unit(age: timedelta, words: str) -> None:
    assert in_words(age) == words


def test_noted_only_where_old_and_about_now() -> None:
    allowed = timedelta(hours=2)
    old, new = Answer([], known_at=NOW - timedelta(days=3)), Answer([], known_at=NOW - allowed)
    assert Freshness(NOW, allowed).noted(old).warnings == ["newest bar is 3 days old"]
    assert Freshness(NOW, allowed).noted(old, newest=NOW).warnings == []
    assert Freshness(NOW, allowed).noted(new).warnings == []
    assert Freshness(NOW, allowed, is_about_now=False).noted(old).warnings == []
    assert Freshness(NOW, allowed).noted(Answer([])).warnings == []


@pytest.mark.parametrize("url", ["/api/bars/BTC/1h", "/api/levels/BTC/1h", "/api/divergences", "/api/regime", "/api/report"])
def test_routes_warn_of_an_old_lake(client: TestClient, url: str) -> None:
    client.app.state.services.clock = lambda: datetime(2026, 11, 21, tzinfo=UTC)  # type: ignore[attr-defined]
    body = client.get(url).json()
    assert any(w.startswith("newest bar is 4") and w.endswith("days old") for w in body["warnings"]), body["warnings"]


def test_health_tells_the_age_of_the_lake(client: TestClient) -> None:
    client.app.state.services.clock = lambda: datetime(2026, 11, 21, tzinfo=UTC)  # type: ignore[attr-defined]
    lake = client.get("/health").json()["components"]["lake"]
    assert lake["is_stale"] is True
    assert lake["age_s"] > 400 * 86_400
