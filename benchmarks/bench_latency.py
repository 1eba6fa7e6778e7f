"""Seconds from an alert in the inbox to new indicators, divergences and levels in the lake, with real Dagster processes.

What belongs here: processes, alerts, stop-watch. What does not: the webhook itself (bench_webhook).
Run: `python benchmarks/bench_latency.py [--events 12] [--launcher default|warm|celery] [--broker URL]`. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from altforecast.symbols import METRIC_TIMEFRAMES, metric_series  # noqa: E402
from altforecast.tables import BARS  # noqa: E402
from altforecast.types import Metric, Timeframe  # noqa: E402
from altforecast_io.dagster_home import write_dagster_home  # noqa: E402
from altforecast_io.lake import Lake, month_start  # noqa: E402
from altforecast_io.landing import write_landing  # noqa: E402
from altforecast_io.settings import Settings  # noqa: E402
from altforecast_io.sources.tradingview import Alert  # noqa: E402
from altforecast_io.store import inbox  # noqa: E402
from altforecast_io.store.engine import Store, open_store  # noqa: E402
from benchmarks.stand_ins import free_port  # noqa: E402

DAYS = 60
WATCHED = ("indicators", "divergences", "levels")
TIMEOUT_S = 90.0


def bars(end: datetime) -> pl.DataFrame:
    """Seeded random walks of the six metrics on four timeframes up to `end`."""
    random = np.random.default_rng(7)
    frames = []
    for metric in Metric:
        series = metric_series(metric)
        for timeframe in METRIC_TIMEFRAMES:
            last = datetime.fromtimestamp(end.timestamp() // (timeframe.ms / 1000) * (timeframe.ms / 1000), UTC)
            n = int(timedelta(days=DAYS) / timeframe.duration)
            close = 100 * np.exp(np.cumsum(random.normal(0, 0.002, n)))
            open_ = np.append(100.0, close[:-1])
            ts = [last - timeframe.duration * (n - i) for i in range(n)]
            frames.append(
                pl.DataFrame(
                    {
                        "ts": ts, "symbol": series.symbol, "exchange": series.exchange, "timeframe": timeframe.value, "open": open_,
                        "high": np.maximum(open_, close) * 1.001, "low": np.minimum(open_, close) * 0.999, "close": close,
                        "volume": random.uniform(1, 9, n), "quality": "backfilled", "source": "import", "received_at": end,
                        "known_at": [t + timeframe.duration for t in ts],
                    },
                    schema=BARS.schema,
                )
            )  # fmt: skip
    return pl.concat(frames)


def send(store: Store, ts: datetime, n: int) -> None:
    """Six 15m alerts of one bar close, in one commit."""
    price = Decimal(100) + Decimal(n) / 10
    now = datetime.now(UTC)
    inbox.append(store, [inbox.Delivery(alert(metric, ts, price, now)) for metric in Metric])


def alert(metric: Metric, ts: datetime, price: Decimal, now: datetime) -> Alert:
    """One alert."""
    return Alert(
        metric=metric, series=metric_series(metric), timeframe=Timeframe.M15, ts=ts, open=price, high=price + 1, low=price - 1,
        close=price, volume=Decimal(5), received_at=now, raw="{}",
    )  # fmt: skip


@contextlib.contextmanager
def processes(home: Path, settings: Settings, worker: bool, environment: dict[str, str]) -> Iterator[None]:
    """Code server, daemon and (with a queue) a worker."""
    port = free_port()
    workspace = home / "workspace.yaml"
    workspace.write_text(f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: altforecast}}\n")
    env = {
        **os.environ,
        **environment,
        "DAGSTER_HOME": str(settings.dagster_home),
        "ALTFORECAST_HOME": str(home),
        "PYTHONPATH": str(REPOSITORY),
    }
    python = sys.executable
    commands = [
        [python, "-m", "dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(port), "-m", "altforecast_pipelines.definitions"],
        [python, "-m", "altforecast_pipelines.daemon", "run", "-w", str(workspace)],
    ]
    if worker:
        commands.append([python, "-m", "altforecast_pipelines.worker"])
    running = []
    try:
        for i, command in enumerate(commands):
            log = (home / f"process{i}.log").open("w")
            running.append(subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=log, stderr=log))
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(settings: Settings, n_events: int, pause_s: float) -> list[float]:
    """Seconds per event; the first one (cold caches) is left out."""
    lake = Lake(settings.lake_dir, settings.environment)
    store = open_store(settings.database_url, settings.environment)
    newest = lake.hot("bars", "15m")["ts"].max()
    assert isinstance(newest, datetime)
    taken = []
    for n in range(n_events + 1):
        ts = newest + timedelta(minutes=15) * (n + 1)
        parts = [lake.part(name, "15m", month_start(ts)) for name in WATCHED]
        before = [p.stamp() if p.path.exists() else None for p in parts]
        began = time.monotonic()
        send(store, ts, n)
        while any((p.stamp() if p.path.exists() else None) == b for p, b in zip(parts, before, strict=True)):
            if time.monotonic() - began > TIMEOUT_S:
                raise TimeoutError(f"event {n}: nothing after {TIMEOUT_S} s")
            time.sleep(0.01)
        taken.append(time.monotonic() - began)
        time.sleep(pause_s)
    store.close()
    return taken[1:]


def main() -> None:
    """Seed a lake, start the processes, send alerts, print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=12)
    arguments.add_argument("--pause", type=float, default=3.0)
    arguments.add_argument("--broker", default="", help="Celery broker URL; empty: the default without a broker")
    arguments.add_argument("--keep", default="", help="folder to work in and keep")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(given.keep or temporary)
        home.mkdir(parents=True, exist_ok=True)
        broker = given.broker.replace("HOME", str(home))
        settings = Settings.load(base=home, celery_broker_url=broker, fetch_exchange_bars=False)
        settings.make_folders()
        start = datetime.now(UTC) - timedelta(minutes=15 * (given.events + 3))
        write_landing(settings.lake_dir, "seed", bars(start))
        from altforecast_pipelines.ingest import run_backfill

        run_backfill(settings)
        write_dagster_home(settings)
        environment = {"CELERY_BROKER_URL": broker, "FETCH_EXCHANGE_BARS": "false", "CONTEXT_ENABLE": "false"}
        with processes(home, settings, worker=True, environment=environment):
            taken = measure(settings, given.events, given.pause)
    result = {
        "benchmark": "latency", "launcher": broker.split(":")[0] or "default", "events": len(taken),
        "median_s": round(statistics.median(taken), 3),
        "p95_s": round(sorted(taken)[int(0.95 * (len(taken) - 1))], 3),
        "max_s": round(max(taken), 3),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
