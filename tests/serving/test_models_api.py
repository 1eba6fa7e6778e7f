"""Models through the API: who answers, who might, and the card of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from altforecast.forecast_params import HORIZONS
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store, open_store
from altforecast_io.store.models import Event, add_event, add_model
from altforecast_serving.app import create_app
from altforecast_serving.lineage import Envelope
from altforecast_serving.routes.forecast_models import HorizonModels, ModelCard
from tests.serving import forecast_rows as made


@pytest.fixture
def store(make_settings: Callable[..., Settings]) -> Iterator[Store]:
    settings = make_settings()
    settings.make_folders()
    with closing(open_store(settings.database_url, settings.environment)) as opened:
        yield opened


@pytest.fixture
def api(store: Store, make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    """An app over the store of the fixture above and an empty lake."""
    with TestClient(create_app(make_settings()), raise_server_exceptions=False) as client:
        yield client


def _models(client: TestClient) -> dict[str, HorizonModels]:
    body = Envelope[list[HorizonModels]].model_validate(client.get("/api/models").json())
    return {row.horizon: row for row in body.data}


def test_list_models_none_yet(api: TestClient) -> None:
    body = api.get("/api/models").json()
    assert [row["horizon"] for row in body["data"]] == list(HORIZONS)
    assert {row["answering"] for row in body["data"]} == {None}
    assert body["data"][0]["note"].startswith("nothing is trained yet")
    assert body["warnings"][0].startswith("nothing is trained yet")


def test_list_models_follows_the_log(api: TestClient, store: Store) -> None:
    made.add_models(store, has_champion=False)
    first = api.get("/api/models")
    assert api.get("/api/models", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    version, shadow = made.version_of("1h", "champion"), "1h-20250702T1200-aaaaaa"
    for name in (version, shadow):
        add_model(store, made.model("1h", "champion", version=name, trained_at=made.TRAINED_AT + timedelta(days=name == shadow)))
    add_event(store, made.event("1h", version, Event.PROMOTED, "all gates are met"))
    add_event(store, made.event("1h", shadow, Event.CHALLENGER, "coverage of the worst quarter"))
    hour = _models(api)["1h"]
    assert hour.champion is not None
    assert hour.challenger is not None
    assert (hour.answering, hour.note, hour.champion.version, hour.challenger.version) == ("champion", None, version, shadow)
    assert [(line.version, line.role) for line in hour.newest] == [
        (shadow, "challenger"), (version, "champion"), (f"har-{version[:-6]}fedcba", "baseline"),
    ]  # fmt: skip
    assert [event.event for event in hour.events] == ["challenger", "promoted"]
    assert (hour.champion.n_gates, hour.champion.n_gates_met, hour.champion.scores.skill_har) == (2, 1, 0.009)
    assert _models(api)["4h"].answering == "baseline"


def test_list_models_roll_back_to_the_former_champion(api: TestClient, store: Store) -> None:
    former, version = "1h-20250601T1200-bbbbbb", made.version_of("1h", "champion")
    for name in (former, version):
        add_model(store, made.model("1h", "champion", version=name))
        add_event(store, made.event("1h", name, Event.PROMOTED, "all gates are met"))
    add_event(store, made.event("1h", former, Event.ROLLED_BACK, "skill over HAR-S -0.9 %"))
    hour = _models(api)["1h"]
    assert hour.champion is not None
    assert (hour.answering, hour.champion.version) == ("champion", former)
    assert hour.note is not None
    assert hour.note.startswith(f"{version} was rolled back")
    assert hour.note.endswith(f"{former} answers again")
    assert {line.version: line.role for line in hour.newest}[version] == "former champion"


def test_list_models_candidates_do_not_drown_in_baselines(api: TestClient, store: Store) -> None:
    add_model(store, made.model("1h", "champion"))
    for day in range(1, 20):
        add_model(store, made.model("1h", "har", version=f"har-{day}", trained_at=made.TRAINED_AT + timedelta(days=day)))
    assert [line.version for line in _models(api)["1h"].newest] == ["har-19", made.version_of("1h", "champion")]


def test_read_model_card(api: TestClient, store: Store) -> None:
    made.add_models(store)
    version = made.version_of("1h", "champion")
    card = Envelope[ModelCard].model_validate(api.get(f"/api/models/{version}").json()).data
    assert (card.role, card.mlflow_run_id, card.mlflow_version, card.best) == ("champion", "mlflow-run-1", 3, "mix")
    assert [row.name for row in card.forecasters] == ["mix", "har", "climatology"]
    assert (card.deciles[0].group, card.symbols[0].coverage_80, card.quarters[0].n) == ("0", 0.795, 9000)
    assert [gate.is_met for gate in card.gates] == [True, False]
    assert (card.reliability[0].n, card.coverage_weeks[0].coverage_80) == (1800, 0.79)
    assert card.files == {"manifest.json": "ab" * 32}
    assert card.direction is not None
    assert "reliability" not in card.direction
    assert [event.event for event in card.events] == ["promoted"]


@pytest.mark.parametrize(
    "report",
    [{}, {"best": "mix"}, {"forecasters": {"mix": {"dm_t": None}}, "best": "mix"}, {"symbols": None, "direction": [], "verdicts": [{}]},
     {"coverage_days": [[1719792000000.0, None, 7]], "deciles": [{"group": 3}]}],
)  # fmt: skip
def test_read_model_card_of_a_young_panel(api: TestClient, store: Store, report: dict[str, object]) -> None:
    add_model(store, replace(made.model("1h", "champion"), report=report))
    version = made.version_of("1h", "champion")
    card = Envelope[ModelCard].model_validate(api.get(f"/api/models/{version}").json()).data
    assert card.scores.skill_har is None
    assert api.get("/api/models").status_code == 200


def test_read_model_unknown(api: TestClient, store: Store) -> None:
    made.add_models(store)
    response = api.get("/api/models/1h-dreamt")
    assert response.status_code == 404
    assert made.version_of("1h", "champion") in response.json()["allowed"]
