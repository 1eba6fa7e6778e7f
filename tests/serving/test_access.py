"""Who may do what, how often, and what is told and logged about it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
import structlog
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from altforecast.errors import BusyError, EnvironmentMismatchError, InputError, SchemaError, StorageError, UnknownNameError
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
from altforecast_serving.app import create_app
from altforecast_serving.errors import ForbiddenError, RateLimitedError, UnauthorizedError, status_of
from altforecast_serving.limits import TokenBuckets, caller_address
from tests.serving.conftest import SECRET, START
from tests.serving.test_bars import alert


@pytest.fixture
def loud() -> Iterator[None]:
    """Logging as structlog ships it, whatever other tests configured."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_read_settings_is_open_and_writing_needs_admin(empty: TestClient, make_key: Callable[..., str]) -> None:
    rows = empty.get("/api/settings").json()["data"]
    assert {r["key"] for r in rows} >= {"streams.grace_s"}
    url = "/api/settings/streams.grace_s"
    assert empty.put(url, json={"value": 60}).status_code == 401
    assert empty.put(url, json={"value": 60}, headers={"X-API-Key": make_key("write")}).status_code == 403
    admin = {"Authorization": f"Bearer {make_key('admin')}"}
    written = empty.put(url, json={"value": 60}, headers=admin)
    assert (written.status_code, written.json()["data"]["version"]) == (200, 1)
    assert written.json()["data"]["updated_by"] == "key:tester"
    assert next(r for r in empty.get("/api/settings").json()["data"] if r["key"] == "streams.grace_s")["value"] == 60


def test_write_setting_refuses_bad_values_names_and_versions(empty: TestClient, make_key: Callable[..., str]) -> None:
    admin = {"X-API-Key": make_key("admin")}
    bad = empty.put("/api/settings/streams.grace_s", json={"value": "soon"}, headers=admin)
    assert (bad.status_code, bad.json()["field"]) == (422, "streams.grace_s")
    assert empty.put("/api/settings/no.such", json={"value": 1}, headers=admin).status_code == 404
    late = empty.put("/api/settings/streams.grace_s", json={"value": 50, "expected_version": 7}, headers=admin)
    assert (late.status_code, late.json()["error"]) == (409, "version_conflict")


def test_keys_live_from_creation_to_revocation(empty: TestClient, make_key: Callable[..., str]) -> None:
    admin = {"X-API-Key": make_key("admin")}
    made = empty.post("/api/keys", json={"name": "reader", "scopes": ["read"]}, headers=admin)
    assert made.status_code == 201
    secret, key_id = made.json()["data"]["secret"], made.json()["data"]["id"]
    listed = empty.get("/api/keys", headers=admin)
    assert secret not in listed.text
    assert [k["name"] for k in listed.json()["data"]] == ["tester", "reader"]
    assert empty.get("/api/stats", headers={"X-API-Key": secret}).status_code == 200
    assert empty.delete(f"/api/keys/{key_id}", headers=admin).json()["data"]["revoked_at"]
    assert empty.get("/api/stats", headers={"X-API-Key": secret}).status_code == 401
    assert empty.delete("/api/keys/999", headers=admin).status_code == 404


def test_unknown_key_is_refused_even_where_none_is_needed(empty: TestClient) -> None:
    response = empty.get("/api/stats", headers={"X-API-Key": "afk_wrong"})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "afk_wrong" not in response.text


def test_closed_api_asks_for_a_key(make_settings: Callable[..., Settings], make_key: Callable[..., str]) -> None:
    with TestClient(create_app(make_settings(api_requires_key=True))) as client:
        assert client.get("/api/bars").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/bars", headers={"X-API-Key": make_key("read")}).status_code == 200


def test_rate_limit_answers_429_with_retry_after(make_settings: Callable[..., Settings], make_key: Callable[..., str]) -> None:
    with TestClient(create_app(make_settings(rate_limit_per_minute=3))) as client:
        assert [client.get("/api/evidence").status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = client.get("/api/evidence")
        assert refused.json()["error"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 21
        assert client.get("/api/evidence", headers={"X-API-Key": make_key("read")}).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.post("/webhook", content=orjson.dumps(alert(START))).status_code == 200
        assert "http_rate_limited_total 2.0" in client.get("/metrics").text


def test_token_buckets_refill_evenly() -> None:
    now = [0.0]
    buckets = TokenBuckets(60, lambda: now[0])
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0)
    assert buckets.take("b") == 0.0
    now[0] = 2.5
    assert [buckets.take("a"), buckets.take("a")] == [0.0, 0.0]
    assert buckets.take("a") == pytest.approx(0.5)


def test_token_buckets_are_bounded() -> None:
    buckets = TokenBuckets(1, lambda: 0.0, max_callers=3)
    for name in "abcd":
        assert buckets.take(name) == 0.0
    assert len(buckets) == 3
    assert buckets.take("d") > 0
    assert buckets.take("a") == 0.0


def test_caller_address_believes_only_our_proxies() -> None:
    assert caller_address("9.9.9.9", "1.1.1.1", ()) == "9.9.9.9"
    assert caller_address("10.0.0.1", "6.6.6.6, 1.1.1.1", ("10.0.0.1",)) == "1.1.1.1"
    assert caller_address("10.0.0.1", "1.1.1.1, 10.0.0.2", ("10.0.0.1", "10.0.0.2")) == "1.1.1.1"
    assert caller_address("10.0.0.1", "", ("10.0.0.1",)) == "10.0.0.1"


def test_caller_address_of_proxy_networks() -> None:
    networks = ("172.18.0.0/16", "fd00::/8")
    assert caller_address("172.18.0.5", "6.6.6.6, 1.1.1.1", networks) == "1.1.1.1"
    assert caller_address("::ffff:172.18.0.5", "1.1.1.1, 172.18.0.9", networks) == "1.1.1.1"
    assert caller_address("fd00::1", "2001:db8::7", networks) == "2001:db8::7"
    assert caller_address("172.19.0.5", "1.1.1.1", networks) == "172.19.0.5"
    assert caller_address("testclient", "1.1.1.1", networks) == "testclient"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownNameError("metric", "x", "unknown"), 404), (UnknownNameError("timeframe", "x", "unknown"), 422),
        (InputError("a", 1, "bad"), 422),
        (UnauthorizedError("no"), 401), (ForbiddenError("no"), 403), (RateLimitedError(1.0), 429), (BusyError("full"), 503),
        (StorageError("gone"), 503), (SchemaError("bug"), 500),
    ],
)  # fmt: skip
def test_status_of_each_error(error: InputError, status: int) -> None:
    assert status_of(error) == status


def test_unknown_path_and_method_have_the_one_body(empty: TestClient) -> None:
    for response, code in ((empty.get("/nope"), "not_found"), (empty.delete("/api/bars"), "method_not_allowed")):
        assert response.json()["error"] == code
        assert response.json()["request_id"] == response.headers["x-request-id"]


def test_bug_answers_500_with_the_one_body_and_logs_the_trace(client: TestClient, loud: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from altforecast_serving.queries import lake

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(lake.LakeReader, "version", broken)
    with capture_logs() as logs:
        response = client.get("/api/stats")
    assert response.status_code == 500
    assert "secret detail" not in response.text
    failed = next(entry for entry in logs if entry["event"] == "request_failed")
    assert "secret detail" in failed["trace"]
    assert failed["request_id"] == response.json()["request_id"]


def test_access_log_names_the_route_and_never_the_secret(client: TestClient, loud: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        body = {k: v for k, v in alert(START).items() if k != "token"}
        assert client.post(f"/webhook/{SECRET}", content=orjson.dumps(body)).status_code == 200
        assert client.post("/webhook/wrong-secret-here", content=orjson.dumps(body)).status_code == 401
        client.get("/api/bars/BTC/1h?limit=1", headers={"X-API-Key": "afk_notakey"})
    text = str(logs) + "".join(r.getMessage() for r in caplog.records if not r.name.startswith("httpx"))
    assert SECRET not in text
    assert "wrong-secret-here" not in text
    assert "afk_notakey" not in text
    assert next(entry["route"] for entry in logs if entry["event"] == "request") == "/webhook/{token}"


def test_request_id_of_the_caller_is_kept(empty: TestClient) -> None:
    given = "0f8fad5bd9cb469fa16570867728950e"
    assert empty.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] == given
    assert empty.get("/healthz", headers={"X-Request-ID": "x" * 5000}).headers["x-request-id"] != "x" * 5000


def test_large_answers_are_packed_on_request(client: TestClient) -> None:
    assert client.get("/api/bars/BTC/1h", headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in client.get("/healthz", headers={"Accept-Encoding": "gzip"}).headers


def test_documentation_pages_name_no_foreign_host(empty: TestClient) -> None:
    for url in ("/docs", "/redoc", "/apidocs/page.js", "/apidocs/page.css"):
        response = empty.get(url)
        assert response.status_code == 200
        assert "http://" not in response.text
        assert "https://" not in response.text
    assert "default-src 'none'" in empty.get("/docs").headers["content-security-policy"]
    assert empty.get("/apidocs/..%2fapp.py").status_code == 404


def test_openapi_documents_every_route_of_the_mission(empty: TestClient) -> None:
    paths = empty.get("/openapi.json").json()["paths"]
    wanted = {
        "/healthz", "/health", "/metrics", "/webhook", "/config/validate", "/chart/test", "/api/bars", "/api/bars/{metric}/{timeframe}",
        "/api/metrics/stats", "/api/divergences", "/api/stats", "/api/indicators/{metric}/{timeframe}", "/api/pivots/{metric}/{timeframe}",
        "/api/levels/{metric}/{timeframe}", "/api/regime", "/api/report", "/api/evidence", "/api/streams", "/api/lineage/{id}",
        "/api/symbols", "/api/settings", "/api/keys",
    }  # fmt: skip
    assert wanted <= set(paths)
    document = Path(__file__).parents[2] / "docs" / "api.md"
    text = document.read_text()
    assert [path for path in wanted if path not in text] == []


def test_app_refuses_a_lake_of_the_other_environment(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    settings.make_folders()
    Lake(settings.lake_dir, "sandbox")
    with pytest.raises(EnvironmentMismatchError), TestClient(create_app(settings)):
        pass


def test_main_api_reads_no_settings_on_import() -> None:
    code = "import sys, altforecast_serving.main_api; print('altforecast_serving.app' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2], env={"PORT": "not a port", "PATH": ""},
    )  # fmt: skip
    assert result.stdout.strip() == "True", result.stderr
