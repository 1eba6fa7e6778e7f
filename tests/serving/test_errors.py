"""The error body of inputs that a route's own parameters refuse."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize(
    ("url", "field", "value"),
    [("/api/bars?limit=0", "limit", "0"), ("/api/bars?foo=1", "foo", "1"), ("/api/divergences?status=weird", "status", "weird")],
)
def test_refused_parameter_names_field_and_value(empty: TestClient, url: str, field: str, value: str) -> None:
    answer = empty.get(url)
    body = answer.json()
    assert (answer.status_code, body["field"], body["value"]) == (422, field, value)
    assert ("active" in body["allowed"]) == (field == "status")
