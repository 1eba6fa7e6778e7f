"""Backfills of exchange bars into landing files: plan, batches, resumption, failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import stamina

from altforecast.errors import InputError, StorageError, UnknownNameError
from altforecast.tables import BAR_GAPS, BARS
from altforecast.types import Quality, Series, Timeframe, Window
from altforecast_io import backfill
from altforecast_io.backfill import Progress, Span, backfill_bars, landing_name, merged, plan_backfill
from altforecast_io.exchanges import connection
from altforecast_io.lake import Lake, Scope
from altforecast_io.landing import landing_files, landing_provenance, read_landing, remove_landing
from altforecast_io.provenance import Provenance
from altforecast_sandbox.market import Market
from tests.stand_in import NOON, StandIn, running

H1, M15 = Timeframe.H1, Timeframe.M15
BTC, ETH = "BTC-USDT", "ETH-USDT"
SERIES = Series("binance", BTC)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(7)


@pytest.fixture
def outside(market: Market) -> Iterator[StandIn]:
    connection._MARKETS.clear()
    stamina.set_testing(True, attempts=2, cap=True)
    with running(market) as stand_in:
        yield stand_in
    stamina.set_testing(False)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", "sandbox")


def run(outside: StandIn, lake: Lake, *, symbols: tuple[str, ...] = (BTC,), timeframes: tuple[Timeframe, ...] = (H1,),
        start: datetime = START, end: datetime = NOON, seen: list[Progress] | None = None) -> backfill.Backfill:  # fmt: skip
    settings = outside.settings(lake.root.parent)
    progress = seen.append if seen is not None else None
    return backfill_bars(settings, lake, "binance", symbols, timeframes, start, end, progress=progress, clock=outside.clock)


def truth(outside: StandIn, start: datetime, symbol: str = BTC, timeframe: Timeframe = H1) -> list[datetime]:
    """Open times of the bars that the venue has."""
    found = outside.market.candles(symbol, timeframe, start, NOON, "binance", now=NOON)
    times = pl.Series(found.ts_ms).cast(pl.Datetime("ms", "UTC"))
    return [at for at in times if at + timeframe.duration <= NOON]


def take_in(lake: Lake) -> None:
    """What the bars asset does: landing files into the table."""
    files = landing_files(lake.root)
    rows = read_landing(files)
    provenance = Provenance("bars", "test", "test", "sandbox", NOON)
    scope = Scope(Window(rows["ts"].min(), rows["ts"].max() + timedelta(days=1)), (H1,))  # type: ignore[arg-type, operator]
    lake.replace("bars", rows, scope, provenance)
    remove_landing(files)


def test_backfill_bars_lands_every_closed_bar_once(outside: StandIn, lake: Lake) -> None:
    seen: list[Progress] = []
    done = run(outside, lake, symbols=(BTC, ETH), timeframes=(H1, M15), seen=seen)
    rows = BARS.conform(read_landing(landing_files(lake.root)))
    for (symbol, timeframe), part in rows.partition_by("symbol", "timeframe", as_dict=True).items():
        assert part["ts"].to_list() == truth(outside, START, symbol=str(symbol), timeframe=Timeframe(timeframe))
    assert rows.n_unique(["symbol", "timeframe"]) == 4
    assert done.n_rows == rows.height
    assert not done.failures
    assert {p.span.series.symbol for p in seen} == {BTC, ETH}
    assert all(a.done_until <= b.done_until for a, b in pairwise(seen) if a.span == b.span)


def test_backfill_bars_files_name_their_source(outside: StandIn, lake: Lake) -> None:
    run(outside, lake)
    (path,) = landing_files(lake.root)
    assert path.stem == "ccxt-binance-BTC-USDT-1h-20260101T000000-20260301T120000"
    provenance = landing_provenance(path)
    assert provenance is not None
    assert (provenance.asset, provenance.environment, provenance.inputs[0].kind) == ("bars", "sandbox", "exchange")
    assert provenance.n_rows == read_landing(path).height


def test_backfill_bars_again_asks_nothing(outside: StandIn, lake: Lake) -> None:
    run(outside, lake)
    asked = len(outside.requests)
    again = run(outside, lake)
    assert again.spans == []
    assert len(outside.requests) == asked
    take_in(lake)
    assert run(outside, lake).spans == []


def test_backfill_bars_fetches_only_what_is_missing(outside: StandIn, lake: Lake) -> None:
    run(outside, lake, start=datetime(2026, 2, 1, tzinfo=UTC), end=datetime(2026, 2, 10, tzinfo=UTC))
    take_in(lake)
    done = run(outside, lake)
    take_in_rows = read_landing(landing_files(lake.root))
    held = lake.read("bars", H1)
    both = pl.concat([held, take_in_rows])
    assert both["ts"].sort().to_list() == truth(outside, START)
    assert done.n_rows == take_in_rows.height


def test_backfill_bars_replaces_feed_down_placeholders(outside: StandIn, lake: Lake) -> None:
    run(outside, lake, start=datetime(2026, 2, 1, tzinfo=UTC), end=datetime(2026, 2, 3, tzinfo=UTC))
    files = landing_files(lake.root)
    is_hole = pl.col("ts").is_between(datetime(2026, 2, 1, 5, tzinfo=UTC), datetime(2026, 2, 1, 9, tzinfo=UTC))
    frozen = read_landing(files).with_columns(quality=pl.when(is_hole).then(pl.lit(Quality.FEED_DOWN.value)).otherwise("quality"))
    provenance = Provenance("bars", "test", "test", "sandbox", NOON)
    scope = Scope(Window(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)), (H1,))
    lake.replace("bars", frozen, scope, provenance)
    remove_landing(files)
    run(outside, lake, start=datetime(2026, 2, 1, tzinfo=UTC), end=datetime(2026, 2, 3, tzinfo=UTC))
    assert read_landing(landing_files(lake.root))["ts"].dt.hour().to_list() == [5, 6, 7, 8, 9]


def test_plan_backfill_skips_holes_judged_quiet(lake: Lake) -> None:
    at = [datetime(2026, 2, 1, h, tzinfo=UTC) for h in (0, 4)]
    rows = [(at[0], BTC, "binance", "1h", at[1], 4, "quiet", "asked 1 of 3 times", at[1])]
    gaps = pl.DataFrame(rows, schema=BAR_GAPS.schema, orient="row")
    scope = Scope(Window(at[0], at[1]), (H1,))
    lake.replace("bar_gaps", gaps, scope, Provenance("bar_gaps", "test", "test", "sandbox", NOON))
    assert plan_backfill(lake, "binance", [BTC], [H1], at[0], at[1], NOON) == []
    (span,) = plan_backfill(lake, "binance", [BTC], [H1], at[0], at[1] + timedelta(hours=2), NOON)
    assert (span.start, span.end) == (at[1], at[1] + timedelta(hours=2))


def test_plan_backfill_ends_with_the_last_closed_bar(lake: Lake) -> None:
    (span,) = plan_backfill(lake, "gateio", [BTC], [H1], START, NOON + timedelta(days=9), NOON)
    assert (span.series.exchange, span.end) == ("gate", NOON.replace(minute=0, second=0))


@pytest.mark.parametrize(("venue", "start", "error"), [("mtgox", START, UnknownNameError), ("binance", NOON, InputError)])
def test_plan_backfill_wrong_input_names_it(venue: str, start: datetime, error: type[Exception], lake: Lake) -> None:
    with pytest.raises(error):
        plan_backfill(lake, venue, [BTC], [H1], start, NOON, NOON)


def test_backfill_bars_goes_on_where_a_fault_ended_it(outside: StandIn, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "BATCH_ROWS", 500)

    def spoil(progress: Progress) -> None:
        if progress.n_rows == 1000:
            outside.fault("binance", "server_error", path="klines")

    settings = outside.settings(lake.root.parent)
    done = backfill_bars(settings, lake, "binance", [BTC], [H1], START, NOON, progress=spoil, clock=outside.clock)
    assert done.n_rows == 1000
    assert "ExchangeNotAvailable" in done.failures[0][1]
    assert "2026-01-01" in done.notes()[0]
    outside.board.clear()
    again = run(outside, lake)
    assert again.spans[0].start == START + timedelta(hours=1000)
    rows = read_landing(landing_files(lake.root))
    assert rows["ts"].sort().to_list() == truth(outside, START)


def test_backfill_bars_one_bad_symbol_does_not_stop_the_rest(outside: StandIn, lake: Lake) -> None:
    done = run(outside, lake, symbols=("NOPE-USDT", BTC))
    assert [(s.series.symbol, "not traded on binance" in why) for s, why in done.failures] == [("NOPE-USDT", True)]
    assert read_landing(landing_files(lake.root))["symbol"].unique().to_list() == [BTC]


def test_backfill_bars_ended_by_a_person_keeps_what_was_read(outside: StandIn, lake: Lake) -> None:
    def end(progress: Progress) -> None:
        raise KeyboardInterrupt

    settings = outside.settings(lake.root.parent)
    with pytest.raises(KeyboardInterrupt):
        backfill_bars(settings, lake, "binance", [BTC], [H1], START, NOON, progress=end, clock=outside.clock)
    assert read_landing(landing_files(lake.root)).height == 1000


def test_backfill_bars_unreachable_venue_is_reported(outside: StandIn, lake: Lake) -> None:
    outside.fault("binance", "server_error")
    done = run(outside, lake)
    assert len(done.failures) == 1
    assert done.n_rows == 0


def test_backfill_bars_refusing_disk_ends_it(outside: StandIn, lake: Lake) -> None:
    (lake.root / "landing").mkdir()
    (lake.root / "landing" / "bars").symlink_to("/proc", target_is_directory=True)
    with pytest.raises(StorageError):
        run(outside, lake)


KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from altforecast_io import backfill
from altforecast_io.lake import Lake
from altforecast_io.settings import Settings
backfill.BATCH_ROWS = 1
def tell(progress):
    print(progress.n_rows, flush=True)
settings = Settings.load(base=Path(sys.argv[1]), environment="sandbox", exchange_base_urls_text="binance=" + sys.argv[2])
now = datetime.fromisoformat(sys.argv[3])
backfill.backfill_bars(settings, Lake(Path(sys.argv[1]) / "lake", "sandbox"), "binance", ["BTC-USDT"], [backfill.Timeframe("15m")],
    datetime(2025, 10, 1, tzinfo=UTC), now, progress=tell, clock=lambda: now)
"""


@pytest.mark.slow
def test_backfill_bars_killed_goes_on_behind_the_last_file(outside: StandIn, lake: Lake) -> None:
    start = datetime(2025, 10, 1, tzinfo=UTC)
    outside.fault("binance", "latency", value=0.2, path="klines")
    command = [sys.executable, "-c", KILLED, str(lake.root.parent), f"{outside.url}/binance", NOON.isoformat()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    while int(process.stdout.readline() or b"3000") < 3000:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    before = read_landing(landing_files(lake.root))
    assert 3000 <= before.height < 14_000
    outside.board.clear()
    again = run(outside, lake, timeframes=(M15,), start=start)
    assert again.spans[0].start == before["ts"].max() + timedelta(minutes=15)  # type: ignore[operator]
    rows = read_landing(landing_files(lake.root))
    assert rows["ts"].sort().to_list() == truth(outside, start, timeframe=M15)
    assert [p for p in (lake.root / "landing" / "bars").iterdir() if p.suffix != ".parquet"] == []


def test_landing_name_keeps_spot_and_perpetual_apart() -> None:
    perpetual = landing_name(Series("binance", "BTC-USDT-PERP"), H1, START, NOON)
    assert not perpetual.startswith(landing_name(SERIES, H1))


def test_merged_joins_what_is_near() -> None:
    spans = [Span(SERIES, H1, START + timedelta(hours=a), START + timedelta(hours=b)) for a, b in ((10, 12), (0, 2), (3, 5), (11, 11.5))]
    joined = merged(spans, within_bars=1)
    assert [((s.start - START) / timedelta(hours=1), (s.end - START) / timedelta(hours=1)) for s in joined] == [(0, 5), (10, 12)]
