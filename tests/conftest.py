"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine may be slow at any moment, and the gate must say the same thing twice: no deadlines, fixed examples.
settings.register_profile("gate", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("gate")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real market data; the test is skipped where it is not given."""
    given = os.environ.get("ALTFORECAST_REAL_DATA")
    if not given:
        pytest.skip("ALTFORECAST_REAL_DATA is not set: no real market data here")
    folder = Path(given).resolve()
    if not (folder / "bars").is_dir():
        pytest.fail(f"ALTFORECAST_REAL_DATA={given} has no folder 'bars'")
    return folder


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY
