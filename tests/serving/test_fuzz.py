"""No request that the OpenAPI describes, and no abuse of it, brings a server error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_io.store import keys
from altforecast_io.store.engine import open_store
from altforecast_serving.app import create_app
from tests.serving.conftest import SECRET, fill
from tests.serving.forecast_rows import add_models, fill_forecasts

EXAMPLES = 12
"""Per operation: enough to meet each kind of bad value, few enough for every run of the tests."""


def _home_settings(home: Path) -> Settings:
    return Settings.load(base=home, database_url_override="", secret_webhook_token=SECRET, rate_limit_per_minute=1_000_000)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    chosen = _home_settings(tmp_path_factory.mktemp("fuzz"))
    chosen.make_folders()
    lake = Lake(chosen.lake_dir, chosen.environment)
    fill(lake)
    fill_forecasts(lake, n_bars=40)
    store = open_store(chosen.database_url, chosen.environment)
    add_models(store)
    secret = keys.create(store, "fuzzer", ["admin"]).secret
    store.close()
    with TestClient(create_app(chosen), raise_server_exceptions=False) as client:
        yield client, secret


# Described by an app that is never started: nothing is read or written at import.
schema = schemathesis.openapi.from_dict(create_app(_home_settings(Path("unused"))).openapi())


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_described_requests_never_fail_the_server(case: schemathesis.Case, fuzzed: tuple[TestClient, str]) -> None:
    client, secret = fuzzed
    given_body = {} if isinstance(case.body, schemathesis.core.NotSet) else _body(case.body)
    headers = {name: value for name, value in (case.headers or {}).items() if value.isascii() and value.isprintable()}
    response = client.request(case.method, case.formatted_path, params=case.query, headers={**headers, "X-API-Key": secret}, **given_body)
    assert response.status_code < 500, response.text
    if response.status_code >= 400 and case.path != "/apidocs/{name}":
        assert set(response.json()) >= {"error", "detail", "request_id"}


def _body(body: Any) -> dict[str, Any]:
    return {"content": body if isinstance(body, bytes) else str(body)} if isinstance(body, bytes | str) else {"json": body}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@seed(20261121)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(
        [
            "/api/bars",
            "/api/divergences",
            "/api/bars/{}/{}",
            "/api/levels/{}/{}",
            "/api/lineage/{}",
            "/api/regime",
            "/chart/test",
            "/api/forecasts/{}",
            "/api/forecasts/{}/track-record",
            "/api/models/{}",
        ]
    ),
    parts=st.tuples(TEXT, TEXT),
    query=st.dictionaries(
        st.sampled_from(["from", "to", "cursor", "limit", "metric", "exchange", "timeframe", "as_of", "order"]), TEXT, max_size=4
    ),
)
def test_wild_requests_never_fail_the_server(
    fuzzed: tuple[TestClient, str], path: str, parts: tuple[str, str], query: dict[str, str]
) -> None:
    from urllib.parse import quote

    client, _ = fuzzed
    url = path.format(*(quote(p, safe="") or "x" for p in parts))
    assert client.get(url, params=query).status_code < 500
