"""Forecasts at bar closes: once, at any pace, with faults of models and holes in bars."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from altforecast.forecast_outcomes import forecast_outcomes
from altforecast.forecast_tables import FORECASTS, QUANTILES
from altforecast_io.store import models
from altforecast_pipelines.forecasts import add_rows
from altforecast_pipelines.resources import House
from tests.pipelines.forecast_house import (
    DAY,
    HOUR,
    TRAINED,
    copied,
    failed_checks,
    forecast,
    hourly,
    logs,
    materialised,
    promote,
    put_bars,
    run,
    said,
    train_baselines,
    up_to,
)

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return hourly()


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory, bars: pl.DataFrame) -> House:
    """Baselines of 1h and 4h and a candidate of 1h, trained at TRAINED; tests work on copies."""
    from altforecast_io.settings import Settings

    settings = Settings.load(base=tmp_path_factory.mktemp("school") / "home", fetch_exchange_bars=False)
    settings.make_folders()
    house = House(lambda: settings)
    up_to(house, bars, TRAINED)
    train_baselines(house)
    run(house, "train_models", "test", ("candidates",), ["1h"])
    house.store.close()
    return house


@pytest.fixture
def house(school: House, tmp_path: Path) -> House:
    """A copy of the school."""
    return copied(school, tmp_path / "home")


@pytest.fixture
def make_copy(school: House, tmp_path: Path) -> Callable[[str], House]:
    """Copies by name."""
    return lambda name: copied(school, tmp_path / name)


def stamps(house: House) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for name in ("forecasts", "forecast_calibrations") for p in
                  (house.lake.root / name).rglob("*.parquet"))  # fmt: skip


def of(rows: pl.DataFrame, **values: str) -> pl.DataFrame:
    return rows.filter(*(pl.col(name) == value for name, value in values.items()))


def test_baselines_answer_while_there_is_no_champion(house: House, bars: pl.DataFrame) -> None:
    result = forecast(house)
    found = said(house)
    assert set(found.select("horizon", "forecaster").iter_rows()) == {(h, f) for h in ("1h", "4h") for f in ("har", "climatology")}
    assert found["reason"].null_count() == found.height
    assert found.select(pl.any_horizontal(pl.col(QUANTILES).is_null()).any()).item() is False
    newest = found.filter(pl.col("ts") == TRAINED - HOUR)
    assert newest.height == 4 * 4
    assert newest["known_at"].unique().to_list() == [house.clock()]
    assert dict(newest.select("horizon", (pl.col("target_ts") - pl.col("ts"))).iter_rows()) == {"1h": 2 * HOUR, "4h": 5 * HOUR}
    assert failed_checks(result) == []
    record = house.lake.files("forecasts", "1h")[-1].provenance()
    assert {i.kind for i in record.inputs} == {"lake", "model"}
    assert {i.name for i in record.inputs} >= {"bars@1h@2023-01", "bars@1h@2023-02", "bars@1h@2023-03"}


def test_the_same_bars_again_write_nothing(house: House) -> None:
    forecast(house)
    before = stamps(house)
    again = materialised(forecast(house))
    assert stamps(house) == before
    assert again["forecasts"]["dagster/row_count"] == again["forecast_calibrations"]["dagster/row_count"] == 0


def test_bar_by_bar_says_what_all_at_once_says(make_copy: Callable[[str], House], bars: pl.DataFrame) -> None:
    slow, fast = make_copy("slow"), make_copy("fast")
    for each in (slow, fast):
        promote(each)
    for hours in (0, 1, 25, 27):
        up_to(slow, bars, TRAINED + hours * HOUR)
        forecast(slow)
        assert said(slow)["ts"].max() == TRAINED + (hours - 1) * HOUR
    up_to(fast, bars, TRAINED + 27 * HOUR)
    forecast(fast)
    assert of(said(fast), forecaster="champion", horizon="1h").height > 4 * 27
    assert_frame_equal(said(slow).drop("known_at"), said(fast).drop("known_at"), rel_tol=1e-5)
    calibrations = [each.lake.read("forecast_calibrations").drop("known_at") for each in (slow, fast)]
    assert_frame_equal(*calibrations, rel_tol=1e-5)
    catching_up = fast.lake.read("forecast_outcomes").filter(pl.col("origin") == "live")
    assert catching_up.is_empty()  # all made up for after the outcome
    live = slow.lake.read("forecast_outcomes").filter(pl.col("origin") == "live")
    followed = live.join(said(slow), on=FORECASTS.key, suffix="_said")
    assert followed.filter(pl.col("horizon") == "1h")["ts"].unique().sort().to_list() == [TRAINED + n * HOUR for n in (-1, 0, 24)]
    assert followed.filter(pl.col("known_at_said") >= pl.col("target_ts")).is_empty()
    assert slow.lake.read("forecast_calibrations")["ts"].n_unique() == 3


def test_rows_are_never_rewritten(house: House, bars: pl.DataFrame) -> None:
    forecast(house)
    first = said(house)
    revised = bars.with_columns(pl.col("open", "high", "low", "close") * 1.5)
    up_to(house, revised, TRAINED + 2 * HOUR)
    forecast(house)
    assert said(house).filter(pl.col("ts") < TRAINED).equals(first)


def test_catching_up_is_bounded(house: House, bars: pl.DataFrame) -> None:
    late = hourly(82).filter(pl.col("ts") >= bars["ts"].max())
    up_to(house, pl.concat([bars.filter(pl.col("ts") < late["ts"].min()), late]), TRAINED + 20 * DAY)
    forecast(house)
    assert said(house)["ts"].min() == TRAINED + 20 * DAY - HOUR - 14 * DAY


def test_a_late_series_gets_its_forecasts_when_its_bars_come(house: House, bars: pl.DataFrame) -> None:
    late = (pl.col("symbol") == "ETH-USDT") & (pl.col("ts") >= TRAINED)
    up_to(house, bars.filter(~late), TRAINED + 2 * HOUR)
    forecast(house)
    before = said(house)
    assert of(before, symbol="ETH-USDT")["ts"].max() == TRAINED - HOUR
    up_to(house, bars, TRAINED + 2 * HOUR)
    forecast(house)
    after = said(house)
    assert of(after, symbol="ETH-USDT")["ts"].max() == TRAINED + HOUR
    assert after.filter(pl.col("symbol") != "ETH-USDT").equals(before.filter(pl.col("symbol") != "ETH-USDT"))


def test_a_young_series_says_what_it_lacks(house: House, bars: pl.DataFrame) -> None:
    young = of(bars, symbol="BTC-USDT").with_columns(pl.lit("NEW-USDT").alias("symbol"))
    fifty = young.filter((pl.col("ts") >= TRAINED - 50 * HOUR) & (pl.col("ts") < TRAINED))
    newborn = fifty.tail(3).with_columns(pl.lit("BABY-USDT").alias("symbol"))
    up_to(house, pl.concat([bars, fifty, newborn]), TRAINED)
    promote(house)
    result = forecast(house)
    found = said(house).filter(pl.col("ts") == TRAINED - HOUR)
    assert failed_checks(result) == []
    assert of(found, symbol="NEW-USDT", forecaster="har")["q500"].null_count() == 0
    baby = of(found, symbol="BABY-USDT", forecaster="har")
    assert baby["q500"].null_count() == baby.height == 2
    assert all("3 bars" in reason for reason in baby["reason"])


def test_a_gap_while_the_feed_was_down(house: House, bars: pl.DataFrame) -> None:
    down = (pl.col("symbol") == "ETH-USDT") & pl.col("ts").is_between(TRAINED - 30 * HOUR, TRAINED - 26 * HOUR)
    down |= (pl.col("symbol") == "ETH-USDT") & (pl.col("ts") == TRAINED + HOUR)
    told = bars.with_columns(pl.when(down).then(pl.lit("feed_down")).otherwise("quality").alias("quality"))
    up_to(house, told, TRAINED + 4 * HOUR)
    forecast(house)
    mine = of(said(house), symbol="ETH-USDT", forecaster="har", horizon="1h").sort("ts").tail(4)
    assert mine["q500"].is_null().to_list() == [False, True, False, False]
    assert "feed was down" in str(mine["reason"][1])
    assert house.lake.read("forecast_outcomes").filter(pl.col("target_ts") == TRAINED + 2 * HOUR, pl.col("symbol") == "ETH-USDT").is_empty()


def test_a_corrupt_model_says_so_and_har_answers(house: House, bars: pl.DataFrame) -> None:
    version = promote(house)
    forecast(house)
    assert of(said(house), forecaster="champion")["model"].unique().to_list() == [version]
    fresh = House(lambda: house.settings, house.clock)
    texts = sorted((house.settings.models_dir / "1h" / version).glob("*"), key=lambda p: -p.stat().st_size)
    texts[0].write_bytes(texts[0].read_bytes()[:-20])
    up_to(fresh, bars, TRAINED + HOUR)
    result = forecast(fresh)
    newest = said(fresh).filter(pl.col("ts") == TRAINED, pl.col("horizon") == "1h")
    silent = of(newest, forecaster="champion")
    assert silent.height == 4
    assert silent["q500"].null_count() == 4
    assert all(version in reason and "cannot be loaded" in reason for reason in silent["reason"])
    assert of(newest, forecaster="har")["q500"].null_count() == 0
    assert failed_checks(result) == ["forecasts.models_are_usable"]
    assert f"model {version} cannot be loaded" in logs(fresh, result)


def test_the_newest_usable_baseline_answers(house: House, bars: pl.DataFrame) -> None:
    old = models.newest_models(house.store, "1h", family="baseline")[0]
    up_to(house, bars, TRAINED + DAY)
    train_baselines(house, ["1h"])
    new = models.newest_models(house.store, "1h", family="baseline")[0]
    assert new.version != old.version
    for path in (house.settings.models_dir / new.folder).iterdir():
        path.unlink()
    result = forecast(house)
    assert of(said(house), horizon="1h")["model"].unique().to_list() == [old.version]
    assert failed_checks(result) == []


def test_nights_without_candidates_clear_old_baselines_away(house: House, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("altforecast_pipelines.training.BASELINES_KEPT", 1)
    old = models.newest_models(house.store, "1h", family="baseline")[0]
    up_to(house, bars, TRAINED + DAY)
    train_baselines(house, ["1h"])
    new = models.newest_models(house.store, "1h", family="baseline")[0]
    assert not (house.settings.models_dir / old.folder).exists()
    assert (house.settings.models_dir / new.folder).is_dir()
    assert models.find_model(house.store, old.version).report == old.report


def test_mlflow_is_never_asked(school: House, tmp_path: Path) -> None:
    house = copied(school, tmp_path / "home", mlflow_uri_override=UNREACHABLE)
    promote(house)
    result = forecast(house)
    assert failed_checks(result) == []
    assert of(said(house), forecaster="champion")["q500"].null_count() == 0


def test_index_series_are_not_forecast(house: House, bars: pl.DataFrame) -> None:
    index = of(bars, symbol="BTC-USDT").with_columns(pl.lit("TOTAL").alias("symbol"), pl.lit("cryptocap").alias("exchange"))
    up_to(house, pl.concat([bars, index]), TRAINED)
    forecast(house)
    assert "TOTAL" not in said(house)["symbol"].to_list()


def test_too_many_series_are_named(house: House, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("altforecast_pipelines.forecasts.MAX_SERIES", 3)
    result = forecast(house)
    assert said(house)["symbol"].n_unique() == 3
    assert "not forecast, too many series: XRP-USDT binance 1h" in logs(house, result)


def test_outcomes_follow_and_late_bars_are_made_up_for(house: House, bars: pl.DataFrame) -> None:
    forecast(house)
    hole = (pl.col("symbol") == "BTC-USDT") & (pl.col("ts") == TRAINED)
    up_to(house, bars.filter(~hole), TRAINED + 3 * HOUR)
    forecast(house)
    is_live = pl.col("origin") == "live"  # baselines leave their walk forward too
    found = house.lake.read("forecast_outcomes").filter(is_live)
    missed = (pl.col("symbol") == "BTC-USDT") & (pl.col("target_ts") == TRAINED + HOUR)
    assert found.filter(missed).is_empty()
    up_to(house, bars, TRAINED + 4 * HOUR)
    forecast(house)
    after = house.lake.read("forecast_outcomes").filter(is_live)
    assert after.filter(missed)["horizon"].unique().sort().to_list() == ["1h", "4h"]
    assert after.join(found, on=found.columns, how="semi", nulls_equal=True).height == found.height
    btc = of(bars, symbol="BTC-USDT").filter(pl.col("ts").is_between(TRAINED - HOUR, TRAINED)).sort("ts")["close"]
    mine = of(after.filter(missed), horizon="1h", forecaster="har")["outcome"].item()
    assert mine == pytest.approx(float((btc / btc.shift(1)).log()[1]))


def test_a_champion_that_fails_is_rolled_back(house: House, bars: pl.DataFrame) -> None:
    version = promote(house)
    up_to(house, bars, TRAINED + 30 * HOUR)
    forecast(house)
    made = said(house).filter(pl.col("horizon") == "1h", pl.col("ts") >= TRAINED).with_columns(pl.col("ts").add(HOUR).alias("known_at"))
    known = forecast_outcomes(made, bars, "live")
    spoiled = [
        known.with_columns(
            pl.col("ts", "target_ts", "known_at") - timedelta(hours=30 * n),
            pl.when(pl.col("forecaster") == "champion").then(pl.col("loss") * 1.1).otherwise("loss").alias("loss"),
        )
        for n in range(2, 14)
    ]
    add_rows(house, "forecast_outcomes", pl.concat(spoiled), house.provenance("forecast_outcomes", "test"))
    models.add_event(house.store, models.ModelEvent("1h", version, models.Event.PROMOTED, "gate", "long ago", at=TRAINED - 20 * DAY))
    up_to(house, bars, TRAINED + 48 * HOUR)
    put_bars(house, bars.filter(pl.col("known_at") <= TRAINED + 48 * HOUR))
    result = forecast(house)
    newest = models.newest_events(house.store, "1h")[0]
    assert (newest.event, newest.version, newest.actor) == (models.Event.ROLLED_BACK, None, "health")
    assert "skill over HAR-S" in newest.reason
    assert "rolled back" in logs(house, result)
    assert models.champion(house.store, "1h") is None
    health = house.lake.read("model_health").filter(pl.col("forecaster") == "champion", pl.col("verdict") == "roll_back")
    assert health["model"].unique().to_list() == [version]
    up_to(house, bars, TRAINED + 49 * HOUR)
    forecast(house)
    newest_bar = said(house).filter(pl.col("ts") == TRAINED + 48 * HOUR)
    assert set(newest_bar["forecaster"]) == {"har", "climatology"}
    assert len([e for e in models.newest_events(house.store, "1h") if e.event is models.Event.ROLLED_BACK]) == 1
