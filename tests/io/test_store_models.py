"""Trained models and the log of who is in use, on both databases.

What belongs here: `altforecast_io.store.models`. What does not: MLflow and the rules of promotion.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from altforecast.errors import InputError, UnknownNameError
from altforecast_io.store import models
from altforecast_io.store.engine import Store
from altforecast_io.store.models import Event, Model, ModelEvent
from tests.io.conftest import NOW


def model(version: str, horizon: str = "1h", **changes: Any) -> Model:
    values: dict[str, Any] = {
        "version": version, "horizon": horizon, "family": "lightgbm", "folder": f"{horizon}/{version}", "trained_at": NOW,
        "train_from": NOW - timedelta(days=120), "train_until": NOW - timedelta(days=1), "n_rows": 2_000_000_000_000,
        "data_hash": "3f9a2c", "code_version": "12", "dagster_run_id": "run", "report": {"n": 5},
    }  # fmt: skip
    return Model(**(values | changes))


def event(what: Event, version: str | None, horizon: str = "1h", **changes: Any) -> ModelEvent:
    return ModelEvent(horizon, version, what, "gate", "because", **changes)


def test_add_model_comes_back_as_it_was(store: Store) -> None:
    report = {"losses": {"mix": np.array([0.5, 0.25])}, "skill": float("nan"), "words": "≤ 2 pp"}
    assert models.add_model(store, model("a", report=report))
    found = models.find_model(store, "a")
    assert found == model("a", report={"losses": {"mix": [0.5, 0.25]}, "skill": None, "words": "≤ 2 pp"})
    assert found.trained_at.tzinfo is not None


def test_add_model_twice_keeps_the_first(store: Store) -> None:
    assert models.add_model(store, model("a"))
    assert not models.add_model(store, model("a", data_hash="other"))
    assert models.find_model(store, "a").data_hash == "3f9a2c"


def test_find_model_unknown(store: Store) -> None:
    with pytest.raises(UnknownNameError, match="version: no such model, got 'b'"):
        models.find_model(store, "b")


def test_newest_models_by_training_then_version(store: Store) -> None:
    for version, horizon, days in (("a", "1h", 2), ("b", "1h", 1), ("c", "4h", 0), ("d", "1h", 1)):
        models.add_model(store, model(version, horizon, trained_at=NOW - timedelta(days=days)))
    assert [m.version for m in models.newest_models(store)] == ["c", "d", "b", "a"]
    assert [m.version for m in models.newest_models(store, "1h", limit=2)] == ["d", "b"]
    assert models.newest_models(store, "24h") == []


def test_set_registered_notes_where_mlflow_keeps_it(store: Store, hand: Any) -> None:
    models.add_model(store, model("a"))
    hand.now = NOW + timedelta(minutes=1)
    models.set_registered(store, "a", "run7", 3)
    found = models.find_model(store, "a")
    assert (found.mlflow_run_id, found.mlflow_version, found.registered_at) == ("run7", 3, hand.now)
    with pytest.raises(UnknownNameError):
        models.set_registered(store, "b", "run7", 3)


def test_log_keeps_order_and_content(store: Store, hand: Any) -> None:
    first = models.add_event(store, event(Event.TRAINED, "a"))
    hand.now = NOW - timedelta(hours=1)  # a clock set back changes no order
    second = models.add_event(store, event(Event.CHALLENGER, "a", verdicts=[{"goal": "F1", "is_met": False}]))
    assert second > first
    newest = models.newest_events(store, "1h")
    assert [e.event for e in newest] == [Event.CHALLENGER, Event.TRAINED]
    assert newest[0].verdicts == [{"goal": "F1", "is_met": False}]
    assert newest[0].at == hand.now
    assert models.newest_events(store, "4h") == []
    assert [e.id for e in models.newest_events(store, limit=1)] == [second]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_add_event_without_reason_is_refused(store: Store, reason: str) -> None:
    with pytest.raises(InputError, match="reason: must not be empty"):
        models.add_event(store, ModelEvent("1h", "a", Event.FORCED, "cli:ann", reason))
    assert models.newest_events(store) == []


def roles(store: Store, horizon: str = "1h") -> tuple[str | None, str | None]:
    found = models.champion(store, horizon), models.challenger(store, horizon)
    return found[0] and found[0].version, found[1] and found[1].version


def test_roles_follow_the_log(store: Store) -> None:
    for version in ("a", "b", "c"):
        models.add_model(store, model(version))
    story: list[tuple[Event, str | None, tuple[str | None, str | None]]] = [
        (Event.TRAINED, "a", (None, None)), (Event.REGISTERED, "a", (None, None)), (Event.REJECTED, "a", (None, None)),
        (Event.CHALLENGER, "a", (None, "a")), (Event.PROMOTED, "a", ("a", None)), (Event.CHALLENGER, "b", ("a", "b")),
        (Event.REJECTED, "c", ("a", "b")), (Event.REGISTERED, "c", ("a", "b")), (Event.REJECTED, "b", ("a", None)),
        (Event.CHALLENGER, "b", ("a", "b")), (Event.CHALLENGER, "c", ("a", "c")), (Event.FORCED, "c", ("c", None)),
        (Event.ROLLED_BACK, "a", ("a", None)), (Event.ROLLED_BACK, None, (None, None)),
    ]  # fmt: skip
    assert roles(store) == (None, None)
    for what, version, expected in story:
        models.add_event(store, event(what, version))
        assert roles(store) == expected, what
    assert roles(store, "4h") == (None, None)


def test_horizons_have_their_own_champions(store: Store) -> None:
    for horizon in ("1h", "24h"):
        models.add_model(store, model(horizon + "-a", horizon))
        models.add_event(store, event(Event.PROMOTED, horizon + "-a", horizon))
    models.add_event(store, event(Event.ROLLED_BACK, None, "24h"))
    assert (roles(store, "1h"), roles(store, "24h")) == (("1h-a", None), (None, None))


def test_champion_whose_row_is_gone_is_an_error_not_a_baseline(store: Store) -> None:
    models.add_event(store, event(Event.PROMOTED, "ghost"))
    with pytest.raises(UnknownNameError, match="ghost"):
        models.champion(store, "1h")


def test_was_champion(store: Store) -> None:
    for what, version in ((Event.CHALLENGER, "a"), (Event.PROMOTED, "b"), (Event.FORCED, "c"), (Event.PROMOTED, "d")):
        models.add_event(store, event(what, version))
    assert [models.was_champion(store, v) for v in ("a", "b", "c", "unknown")] == [False, True, True, False]


def test_log_is_shared_between_processes(reopen: Callable[[], Store]) -> None:
    mine, theirs = reopen(), reopen()
    models.add_model(mine, model("a"))
    models.add_event(mine, event(Event.PROMOTED, "a", at=datetime(2026, 1, 1, tzinfo=UTC)))
    assert roles(theirs) == ("a", None)
    assert models.newest_events(theirs)[0].at == datetime(2026, 1, 1, tzinfo=UTC)
