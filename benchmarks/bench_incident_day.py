"""The day of incidents: the sandbox's venues fail by script while opportunities are planted; what did realtime find and claim?

What belongs here: processes, posting faults, collecting events. What does not: the script and the judgement
(`altforecast_sandbox.incident_day`).
Run: python -m benchmarks.bench_incident_day [--feed native|ccxt] [--plants-per-hour 3600] [--json FILE]; about five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import websockets

from altforecast_sandbox.coins import COINS
from altforecast_sandbox.incident_day import LENGTH_S, SCRIPT, Detection, Incident, judge
from benchmarks.stand_ins import cpu_s, get_json, post_json, realtime, rss_mb, sandbox

WARM_UP_S, AFTER_S = 20.0, 12.0
VARIABLES = {
    "BOOK_SYMBOLS": ",".join([f"{coin.code}-USDT" for coin in COINS] + ["ETH-BTC"]),
    # Edges as planted: net of fees alone, at a size that the thinnest plant holds.
    "TARGET_SIZE_USDT": "400", "SLIPPAGE_BPS": "0", "WITHDRAW_COST_USDT": "0", "MIN_NET_EDGE_PCT": "0.05", "LOG_LEVEL": "WARNING",
}  # fmt: skip


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--feed", choices=("native", "ccxt"), default="native")
    parser.add_argument("--plants-per-hour", type=float, default=3600)
    parser.add_argument("--book-rate", type=float, default=0.3)
    parser.add_argument("--json", type=Path, help="also write everything that was missed or false there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        words = ["--plants-per-hour", str(asked.plants_per_hour), "--book-rate", str(asked.book_rate)]
        variables = {**VARIABLES, "BOOK_FEEDS": f"all={asked.feed}"}
        with sandbox(words, home / "sandbox.log") as there, realtime(home, there["venues"], variables) as (base, pid):
            found, detail = asyncio.run(_day(there, base, pid))
    if asked.json is not None:
        asked.json.write_text(json.dumps(detail, indent=1))
    print(json.dumps({"bench": "incident_day", "feed": asked.feed, **found}))


async def _day(there: Mapping[str, Any], base: str, pid: int) -> tuple[dict[str, Any], dict[str, Any]]:
    events: list[dict[str, Any]] = []
    listener = asyncio.create_task(_listen(f"ws{base.removeprefix('http')}/ws/opportunities", events))
    await asyncio.sleep(WARM_UP_S)
    began, cpu = round(time.time() * 1000), cpu_s(pid)
    await _play(SCRIPT, there["faults"])
    venues = (await asyncio.to_thread(get_json, f"{base}/api/venues"))["data"]
    took = time.time() - began / 1000
    cores, memory = (cpu_s(pid) - cpu) / took, rss_mb(pid)
    truth = await asyncio.to_thread(get_json, there["truth"])
    await asyncio.sleep(1.0)
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    found = detections(events)
    verdict = judge(truth["plants"], found, SCRIPT, began)
    delays = sorted(verdict.delays_ms)
    return {
        "incidents": len(SCRIPT), "plants": verdict.n_plants, "found": verdict.found, "recall": verdict.recall,
        "plants_while_disturbed": verdict.n_disturbed, "plants_shorter_than_50_ms": verdict.n_short,
        "detections": verdict.n_detections, "planted": verdict.true, "beside_a_plant": verdict.beside,
        "while_the_market_jumped": verdict.moved, "false": len(verdict.false), "precision": verdict.precision,
        "delay_median_ms": statistics.median(delays) if delays else None,
        "delay_p99_ms": delays[int(len(delays) * 0.99)] if delays else None,
        "books_live_at_the_end": sum(v["n_live"] for v in venues), "books": sum(v["n_symbols"] for v in venues),
        "reconnects": sum(sum(v["reconnects"].values()) for v in venues),
        "realtime_cores": round(cores, 3), "realtime_rss_mb": round(memory),
    }, {"missed": verdict.missed, "false": [asdict(d) for d in verdict.false], "venues": venues}  # fmt: skip


async def _play(script: Iterable[Incident], faults_url: str) -> None:
    """Post each fault at its time; faults that last are cleared when they are over."""
    began = time.monotonic()
    actions = [(i.at_s, i) for i in script] + [(i.at_s + i.lasts_s, None) for i in script if i.lasts_s]
    for at_s, incident in sorted(actions, key=lambda action: action[0]):
        await asyncio.sleep(max(began + at_s - time.monotonic(), 0.0))
        if incident is None:
            await asyncio.to_thread(_clear, faults_url)
        else:
            await asyncio.to_thread(post_json, faults_url, incident.body)
    await asyncio.sleep(max(began + LENGTH_S + AFTER_S - time.monotonic(), 0.0))


def _clear(faults_url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(faults_url, method="DELETE"), timeout=10).close()


async def _listen(url: str, events: list[dict[str, Any]]) -> None:
    async for socket in websockets.connect(url, max_size=None):
        async for text in socket:
            message = json.loads(text)
            events.extend(message.get("open", []))
            events.extend(message.get("events", []))
            if message.get("dropped"):
                raise RuntimeError(f"{message['dropped']} events were dropped: the judgement would be wrong")


def detections(events: Iterable[Mapping[str, Any]]) -> list[Detection]:
    """One per opportunity, in order of opening."""
    found: dict[str, Detection] = {}
    for row in events:
        known = found.get(row["id"])
        opened = _ms(row["opened_at"]) if known is None else known.opened_ms
        closed = _ms(row["ts"]) if row["event"] == "closed" else None
        edge = max(row["net_edge_pct"], known.net_edge_pct if known else row["net_edge_pct"])
        found[row["id"]] = Detection(legs_of(row), opened, closed, edge)
    return sorted(found.values(), key=lambda d: d.opened_ms)


def legs_of(row: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Venue, symbol and side of each trade; a triangle is named by its assets, `USDT>BTC>ETH>USDT`."""
    if row["type"] == "spatial":
        return (row["buy_exchange"], row["symbol"], "ask"), (row["sell_exchange"], row["sell_symbol"], "bid")
    assets = row["symbol"].split(">")
    known = set(VARIABLES["BOOK_SYMBOLS"].split(","))
    legs = []
    for have, want in pairwise(assets):
        is_bought = f"{want}-{have}" in known
        legs.append((row["buy_exchange"], f"{want}-{have}" if is_bought else f"{have}-{want}", "ask" if is_bought else "bid"))
    return tuple(legs)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


if __name__ == "__main__":
    main()
