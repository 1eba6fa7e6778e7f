"""The running realtime process under load, bad input, a full disk and the end of its life.

What belongs here: what only a real process can prove. What does not: rules of the route (tests/serving/test_webhook.py).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from altforecast_io.lake import Lake
from altforecast_io.store import heartbeats
from altforecast_io.store.engine import open_store
from tests.realtime.conftest import REPOSITORY, SECRET, Realtime, alert_body

pytestmark = [pytest.mark.slow]


def post(realtime: Realtime, body: bytes, path: str = "/webhook") -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", realtime.port, timeout=15)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Senders:
    """64 keep-alive connections that post distinct alerts, and remember what was acknowledged."""

    def __init__(self, realtime: Realtime, count: int) -> None:
        self.work = iter([alert_body(n) for n in range(count)])
        self.url = f"{realtime.url}/webhook"
        self.acknowledged: dict[int, bytes] = {}
        self.unanswered: list[bytes] = []
        self.statuses: Counter[int] = Counter()

    async def run(self) -> None:
        """Post until the work is done or the other side is gone."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(10)) as session:
            await asyncio.gather(*(self._one(session) for _ in range(64)))

    async def _one(self, session: aiohttp.ClientSession) -> None:
        for body in self.work:
            try:
                async with session.post(self.url, data=body) as answer:
                    content = await answer.json()
                    self.statuses[answer.status] += 1
                    if answer.status == 200:
                        self.acknowledged[content["id"]] = body
            except (aiohttp.ClientError, TimeoutError):
                self.unanswered.append(body)
                return


def opens(bodies: list[bytes]) -> Counter[int]:
    return Counter(json.loads(body)["t"] for body in bodies)


@pytest.mark.anyio
async def test_kill_9_during_64_senders_loses_no_acknowledged_alert(realtime: Realtime) -> None:
    process = await asyncio.to_thread(realtime.start)
    senders = Senders(realtime, 20_000)
    running = asyncio.create_task(senders.run())
    while len(senders.acknowledged) < 500:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    await running
    await asyncio.to_thread(process.wait)
    assert senders.unanswered, "the process was killed in the middle of the work"

    rows = await asyncio.to_thread(realtime.rows)
    stored = {row.id: round(row.ts.timestamp() * 1000) for row in rows}
    assert {i: stored.get(i) for i in senders.acknowledged} == {i: json.loads(b)["t"] for i, b in senders.acknowledged.items()}
    assert max(Counter(stored.values()).values()) == 1

    await asyncio.to_thread(realtime.start)
    for body in senders.unanswered:
        status, _ = await asyncio.to_thread(post, realtime, body)
        assert status == 200
    everything = opens([*senders.acknowledged.values(), *senders.unanswered])
    after = Counter(round(row.ts.timestamp() * 1000) for row in await asyncio.to_thread(realtime.rows))
    assert everything.keys() <= after.keys()
    assert max(after.values()) == 1
    assert await asyncio.to_thread(realtime.stop) == 0
    assert await asyncio.to_thread(bars_in_the_lake, realtime) == after


def bars_in_the_lake(realtime: Realtime) -> Counter[int]:
    """Opens of the BTC bars after the pipelines have built what the inbox holds."""
    environment = os.environ | {"ALTFORECAST_HOME": str(realtime.home)}
    command = [sys.executable, "-m", "altforecast_cli", "backfill"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    bars = Lake(realtime.home / "lake", "live").read("bars", "15m", columns=["ts"])
    return Counter(bars["ts"].dt.epoch("ms").to_list())


@pytest.mark.anyio
async def test_sigterm_during_64_senders_stops_clean(realtime: Realtime) -> None:
    process = await asyncio.to_thread(realtime.start)
    senders = Senders(realtime, 20_000)
    running = asyncio.create_task(senders.run())
    while len(senders.acknowledged) < 500:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert time.monotonic() - began < 15
    await running
    assert not realtime.is_listening()
    assert not Path(f"/proc/{process.pid}").exists()
    ids = {row.id for row in await asyncio.to_thread(realtime.rows)}
    assert senders.acknowledged.keys() <= ids
    assert set(senders.statuses) <= {200, 503}
    assert not Path(f"{realtime.home}/store/altforecast.sqlite-wal").exists(), "the last connection closed the store"


def test_sigterm_does_not_wait_for_an_unfinished_request(realtime: Realtime) -> None:
    process = realtime.start()
    with socket.create_connection(("127.0.0.1", realtime.port)) as half:
        half.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 15
    assert realtime.rows() == []


def test_bad_bodies_store_nothing_and_say_why(realtime: Realtime) -> None:
    realtime.start()
    ahead = json.loads(alert_body())["t"] + 10 * 900_000
    cases: list[tuple[bytes, str, int, str | None, str | None]] = [
        (b"{not json", f"/webhook/{SECRET}", 422, "body", None),
        (alert_body().decode().encode("utf-16"), f"/webhook/{SECRET}", 422, "body", None),
        (b"\xff\xfe\xfa", f"/webhook/{SECRET}", 422, "body", None),
        (b"x" * 200_000, "/webhook", 413, "body", None),
        (alert_body(token="wrong"), "/webhook", 401, None, None),
        (alert_body(token=SECRET[:-1]), "/webhook", 401, None, None),
        (alert_body(), "/webhook/wrong", 401, None, None),
        (alert_body(t=ahead), "/webhook", 422, "t", str(ahead)),
        (alert_body(l="-1"), "/webhook", 422, "l", "-1"),
        (alert_body(c="NaN"), "/webhook", 422, "c", "NaN"),
        (alert_body(c="@").replace(b'"@"', b"NaN"), "/webhook", 422, "c", "NaN"),
        (alert_body(h="1e400"), "/webhook", 422, "h", "1e400"),
        (alert_body(symbol=f"x{SECRET}"), "/webhook", 422, "symbol", "x***"),
        (b'{"a":' * 1000, f"/webhook/{SECRET}", 422, "body", None),
        (b"", f"/webhook/{SECRET}", 422, "body", None),
    ]
    for body, path, status, field, value in cases:
        got_status, answer = post(realtime, body, path)
        assert (got_status, answer.get("field")) == (status, field), (body[:60], answer)
        assert value is None or answer["value"] == value
        assert SECRET not in str(answer)
    assert post(realtime, alert_body())[0] == 200
    assert realtime.stop() == 0
    assert len(realtime.rows()) == 1
    written = realtime.everything_written()
    assert "alert_refused" in written
    assert SECRET not in written
    assert SECRET not in realtime.rows()[0].raw


def test_full_disk_acknowledges_nothing_and_keeps_old_data(realtime: Realtime) -> None:
    """A limit on file size stands for the disk: the write fails in the middle, as it does when the disk is full."""
    process = realtime.start()
    assert post(realtime, alert_body(0))[0] == 200
    before = realtime.rows()
    wal = Path(f"{realtime.home}/store/altforecast.sqlite-wal")
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size + 10, resource.RLIM_INFINITY))
    refused = [post(realtime, alert_body(n, note="x" * 5000)) for n in range(1, 6)]
    assert {status for status, _ in refused} == {503}
    assert {answer["error"] for _, answer in refused} == {"storage_failed"}
    assert realtime.rows() == before
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert [post(realtime, alert_body(n, note="x" * 5000))[0] for n in range(1, 6)] == [200] * 5
    assert realtime.stop() == 0
    assert len(realtime.rows()) == 6


def test_heartbeat_is_written_and_health_is_told(realtime: Realtime) -> None:
    process = realtime.start()
    store = open_store(realtime.database_url, "live")
    deadline = time.monotonic() + 20
    while not heartbeats.all_beats(store) and time.monotonic() < deadline:
        time.sleep(0.1)
    (beat,) = heartbeats.all_beats(store)
    store.close()
    assert (beat.name, beat.detail["pid"]) == ("realtime", process.pid)
    assert realtime.stop() == 0


def test_memory_stays_below_300_mb(realtime: Realtime) -> None:
    process = realtime.start()
    for n in range(50):
        assert post(realtime, alert_body(n))[0] == 200
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) / 1024 < 300
    realtime.stop()


def test_port_taken_ends_with_one_line(realtime: Realtime) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", realtime.port))
        other.listen()
        assert realtime.launch().wait(60) == 2
    assert realtime.output.read_text().splitlines()[-1].startswith(f"error: PORT: cannot listen on 127.0.0.1:{realtime.port}")


def test_store_of_another_environment_is_refused(realtime: Realtime) -> None:
    open_store(realtime.database_url, "sandbox").close()
    assert realtime.launch().wait(60) == 2
    assert "belongs to environment sandbox" in realtime.output.read_text()
    assert not realtime.is_listening()


def test_wrong_setting_ends_with_one_line(realtime: Realtime) -> None:
    assert realtime.launch(LOG_LEVEL="LOUD").wait(60) == 2
    assert realtime.output.read_text().startswith("error: LOG_LEVEL")


def test_import_loads_no_orchestration_or_ml() -> None:
    code = "import sys, realtime.app; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {"dagster", "mlflow", "lightgbm", "numba", "pandas", "ccxt", "talib", "matplotlib", "altforecast_pipelines"} == set()
    assert "altforecast_serving" in loaded
