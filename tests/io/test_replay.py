"""Replay: oracles of real recordings, the same digest everywhere, and what a recording of our own gives back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from altforecast.books import Book, BookState
from altforecast.errors import InputError
from altforecast.opportunities import OpportunityEvent
from altforecast_io.exchanges.sessions.session import Fault, FaultReason, Fetch, Open, Output
from altforecast_io.foreign_recordings import open_foreign_session, read_foreign
from altforecast_io.recordings import Frame, RecordingWriter, body_payload, read_recording
from altforecast_io.replay import Replay, subject
from altforecast_io.replay_runs import Choice, Harvest, find_recording, grid, make_scanner, parse_fees, recordings_dir, replay_choices
from altforecast_io.settings import Settings
from tests.domain.opportunity_lives import life

S = 1_000_000_000
T0 = 1_717_243_200 * S
BINANCE_DIGEST = "9aaa411c082e19116f66ed6293a898a55350a8947c09b3f2b477b35e4dfd830f"
FEES = {"alpha": 0.0, "beta": 0.0}


class Quotes:
    """A venue whose frames are `bid ask`; a frame `gap` breaks it, `late` asks REST; books are one level of size 50."""

    def __init__(self, venue: str, symbols: Sequence[str]) -> None:
        self.venue = venue
        self.books = {s: Book(venue, s) for s in symbols}
        self.ticks: list[int] = []

    def begin(self) -> Sequence[Output]:
        return (Open("wss://x"),)

    def opened(self, _: int) -> Sequence[Output]:
        return ()

    def received(self, payload: str | bytes, recv_ns: int) -> Sequence[Output]:
        if payload == "late":
            return (Fetch("depth", "https://api.x.com/depth?symbol=BTC-USDT&limit=5"),)
        if payload == "gap":
            self.books["BTC-USDT"].clear(BookState.SUSPECT)
            return (Fault(FaultReason.GAP, "BTC-USDT", "expected 2, got 4"),)
        bid, ask = map(float, str(payload).split())
        book = self.books["BTC-USDT"]
        book.load([(bid, 50.0)], [(ask, 50.0)])
        book.state, book.ts_ingest_ns, book.n_updates = BookState.LIVE, recv_ns, book.n_updates + 1
        return (book,)

    def answered(self, key: str, status: int, body: bytes, recv_ns: int) -> Sequence[Output]:
        assert (key, status) == ("depth", 200)
        return self.received(body.decode(), recv_ns)

    def tick(self, now_ns: int) -> Sequence[Output]:
        self.ticks.append(now_ns)
        return ()


def frames(*rows: tuple[float, str, str, str]) -> list[Frame]:
    """Rows of (seconds, venue, direction, payload), each venue begun and opened at the start."""
    venues = list(dict.fromkeys(row[1] for row in rows))
    head = [Frame(T0, v, "1", d, p) for v in venues for d, p in (("begin", "BTC-USDT"), ("open", "wss://x"))]  # type: ignore[arg-type]
    return head + [Frame(T0 + int(at * S), v, "1", d, p) for at, v, d, p in rows]  # type: ignore[arg-type]


CROSSING = frames(
    (0.1, "alpha", "received", "100 101"),
    (0.2, "beta", "received", "100 101"),
    (0.3, "beta", "received", "103 104"),
    (0.9, "beta", "received", "102 103"),
    (2.0, "beta", "received", "100 101"),
    (9.0, "alpha", "received", "100 101"),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(base=tmp_path)


def replayed(settings: Settings, rows: list[Frame], choice: Choice | None = None) -> tuple[Replay, list[OpportunityEvent]]:
    events: list[OpportunityEvent] = []
    scanner = make_scanner(settings, choice or Choice(threshold_pct=0.5, fees_bps=FEES))
    replay = Replay(Quotes, [scanner], on_event=lambda _, e: events.append(e))
    replay.run(rows)
    return replay, events


def test_replay_finds_what_the_books_offer(settings: Settings) -> None:
    replay, events = replayed(settings, CROSSING)
    told = [(e.kind.value, e.ts_ms - T0 // 1_000_000, e.opportunity.buy_exchange) for e in events]
    assert told[0] == ("opened", 301, "alpha")
    closed = next(e for e in events if e.kind.value == "closed")
    assert closed.ts_ms - closed.opened_ms == 1700
    captures = {c.delay_ms: c.profit_usdt for e in events for c in e.captures}
    assert captures[100] is not None
    assert captures[100] > captures[1000] > 0  # type: ignore[operator]
    assert replay.account.as_dict()["book_updates"] == 6


def test_replay_follows_costs_and_thresholds(settings: Settings) -> None:
    assert replayed(settings, CROSSING, Choice(threshold_pct=3.0, fees_bps=FEES))[1] == []
    assert replayed(settings, CROSSING, Choice(threshold_pct=0.5, fees_bps={"alpha": 100.0, "beta": 100.0}))[1] == []


def test_replay_withdraws_books_after_fault_and_close(settings: Settings) -> None:
    for end in (("received", "gap"), ("close", "1006")):
        rows = frames(*((0.1, v, "received", p) for v, p in (("alpha", "100 101"), ("beta", "103 104"))), (0.5, "beta", *end))
        rows += [Frame(T0 + S, "beta", "1", "received", "110 111")]
        replay, events = replayed(settings, rows)
        assert [e.kind.value for e in events][:2] == ["opened", "closed"]
        assert replay.account.n_unjoined == 1
        again = [Frame(T0 + 2 * S, "beta", "1", "begin", "BTC-USDT"), Frame(T0 + 2 * S, "beta", "1", "received", "100 101")]
        assert replay.run(again).n_unjoined == 1
        assert len(replay.books) == 2


def test_replay_ticks_once_a_second_of_the_recording(settings: Settings) -> None:
    replay, _ = replayed(settings, CROSSING)
    session = replay._lines["alpha", "1"].session
    assert isinstance(session, Quotes)
    assert session.ticks == [T0 + i * S for i in range(1, 10)]


def test_replay_gives_held_answers_to_who_asks_for_them(settings: Settings) -> None:
    body = body_payload("https://old.x.com/api/v1/book/btcusdt", 200, b"100 101")
    early = frames((0.1, "alpha", "body", body), (0.5, "alpha", "received", "late"), (1.5, "alpha", "received", "100 102"))  # type: ignore[arg-type]
    late = frames((0.1, "alpha", "received", "late"), (0.5, "alpha", "body", body))  # type: ignore[arg-type]
    known = frames((0.1, "alpha", "received", "late"), (0.5, "alpha", "body", "depth\n200\n100 101"))
    assert [replayed(settings, rows)[0].account.as_dict()["book_updates"] for rows in (early, late, known)] == [2, 1, 1]


def test_replay_without_begin_takes_the_symbols_given(settings: Settings) -> None:
    bare = [f for f in CROSSING if f.direction != "begin"]
    assert replayed(settings, bare)[0].account.n_unjoined == 6
    told = Replay(Quotes, [make_scanner(settings, Choice(threshold_pct=0.5, fees_bps=FEES))], symbols=["BTC-USDT"]).run(bare)
    assert told.digest == replayed(settings, CROSSING)[0].account.digest


def test_digest_tells_every_difference_apart(settings: Settings) -> None:
    base = replayed(settings, CROSSING)[0].account.digest
    assert replayed(settings, CROSSING)[0].account.digest == base
    moved = [*CROSSING[:-1], CROSSING[-1]._replace(recv_ns=CROSSING[-1].recv_ns + 1, payload="100 101.5")]
    dearer = Choice(threshold_pct=0.5, fees_bps={"alpha": 1.0})
    assert len({base, replayed(settings, moved)[0].account.digest, replayed(settings, CROSSING, dearer)[0].account.digest}) == 3


def test_subject_of_addresses_of_every_time() -> None:
    asked = ("https://a.b/depth?symbol=BTCUSDT&limit=1000", "https://a.b/api/v2/order_book/btcusdt/", "https://a.b/l2?symbol=BTC-USDT")
    assert {subject(url) for url in asked} == {"btcusdt"}


def test_replay_choices_gives_one_row_per_choice(settings: Settings, tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "recs", T0) as writer:
        writer.write(CROSSING)
    recorded = replace(find_recording(settings, str(tmp_path / "recs")), open_session=Quotes)
    account, rows = replay_choices(settings, recorded, grid([1000.0, 3000.0], [0.5, 3.0], ["alpha=0,beta=0"]))
    assert [(r["size_usdt"], r["threshold_pct"], r["opportunities"]) for r in rows] == [
        (1000.0, 0.5, 1), (1000.0, 3.0, 0), (3000.0, 0.5, 1), (3000.0, 3.0, 0),
    ]  # fmt: skip
    assert rows[2]["profit_usdt"] > rows[0]["profit_usdt"] > 0
    assert rows[0]["capture_100ms_frac"] == 1.0
    assert rows[0]["capture_5000ms_frac"] == 0.0
    assert account.n_frames == len(CROSSING)


def test_harvest_counts_every_capture_once() -> None:
    harvest = Harvest()
    for event in life("a", 1_000_000, 800):
        harvest.add(event)
    row = harvest.as_dict()
    assert (row["opportunities"], row["closed"], row["median_lifetime_ms"], row["profit_usdt"]) == (1, 1, 800.0, 2.0)


def test_find_recording_of_a_range_reads_what_came_before_without_counting_it(settings: Settings) -> None:
    folder = recordings_dir(settings)
    hour = 3600 * S
    with RecordingWriter(folder, T0) as writer:
        writer.write(CROSSING)
    later = [Frame(T0 + hour, "alpha", "1", "since", str(T0)), Frame(T0 + hour + S, "alpha", "1", "received", "105 106")]
    with RecordingWriter(folder, T0 + hour) as writer:
        writer.write(later)
    recorded = replace(find_recording(settings, "2024-06-01T13:00..2024-06-01T14:00"), open_session=Quotes)
    account, _ = replay_choices(settings, recorded, [])
    assert (account.n_frames, account.n_unjoined, account.as_dict()["book_updates"]) == (2, 0, 1)
    alone = Replay(Quotes).run(read_recording(sorted(folder.iterdir())[1]))
    assert alone.n_unjoined == 1


def test_find_recording_says_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    for source, words in (("nowhere", "no file"), (str(tmp_path), "no recording"), ("2024-01-01..2024-01-02", "no recording of it")):
        with pytest.raises(InputError, match=words):
            find_recording(settings, source)
    with pytest.raises(InputError, match="--venue"):
        find_recording(settings, "x", "cryptofeed")
    with pytest.raises(InputError, match="--format only"):
        find_recording(settings, str(tmp_path), venue="okx")
    with pytest.raises(InputError, match="start must lie before its end, got '2024-01-02T00:00:00"):
        find_recording(settings, "2024-01-02..2024-01-01")


def test_parse_fees_and_grid_refuse_nonsense() -> None:
    assert parse_fees("Binance=7.5, okx=8") == {"binance": 7.5, "okx": 8.0}
    for text in ("binance", "binance=x", "binance=-1"):
        with pytest.raises(InputError, match="fees"):
            parse_fees(text)
    assert grid((), (), ()) == [Choice()]
    with pytest.raises(InputError, match="grid"):
        grid([float(i + 1) for i in range(201)], (), ())


# ---- real recordings

ORACLES = [
    ("kraken", "cryptofeed/KRAKEN.ws.50.0", {"right": 4269, "wrong": 0}, None, 4279),
    ("okx", "cryptofeed/OKX.ws.1.0", {"right": 290, "wrong": 0}, None, 290),
    ("bitget", "cryptofeed/BITGET.ws.1.0", {"right": 443, "wrong": 0}, None, 443),
    ("binance", "cryptofeed/BINANCE.ws.1.0", {"right": 0, "wrong": 0}, {"compared": 141, "equal": 141}, 176),
    ("binance", "hftbacktest/spot", {"right": 0, "wrong": 0}, {"compared": 6492, "equal": 6490}, 6493),
]


@pytest.mark.parametrize(("venue", "name", "checksums", "quotes", "updates"), ORACLES)
def test_replay_of_real_frames_reaches_every_oracle(
    real_data: Path, venue: str, name: str, checksums: dict[str, int], quotes: dict[str, int] | None, updates: int
) -> None:
    form = name.partition("/")[0]
    account = Replay(open_foreign_session).run(read_foreign(form, real_data / "recordings" / name, venue)).as_dict()
    assert (account["checksums"], account["best_quotes"], account["book_updates"]) == (checksums, quotes, updates)
    assert (account["faults"], account["sequence_gaps"], account["crossed"], account["frames_unjoined"]) == ({}, 0, 0, 0)
    if form == "hftbacktest":
        assert account["digest"] == BINANCE_DIGEST


def test_replay_of_our_own_recording_gives_the_digest_of_its_source(real_data: Path, tmp_path: Path) -> None:
    source = list(read_foreign("cryptofeed", real_data / "recordings/cryptofeed/OKX.ws.1.0", "okx"))
    with RecordingWriter(tmp_path, source[0].recv_ns) as writer:
        writer.write(source)
    direct = Replay(open_foreign_session).run(source)
    assert Replay(open_foreign_session).run(read_recording(writer.path)).digest == direct.digest


TWO_VENUES = """
import sys
from pathlib import Path
from altforecast_io.foreign_recordings import open_foreign_session, read_foreign
from altforecast_io.replay_runs import Choice, Recorded, replay_choices
from altforecast_io.settings import Settings

def opened(venue, symbols):
    session = open_foreign_session("binance", symbols)
    session.venue = venue
    for book in session.books.values():
        book.venue = venue
    return session

def both():
    held = []
    for frame in read_foreign("hftbacktest", Path(sys.argv[1]), "binance"):
        while held and held[0].recv_ns <= frame.recv_ns:
            yield held.pop(0)
        if "bookTicker" not in str(frame.payload[:60]):
            yield frame._replace(venue="alpha")
            held.append(frame._replace(venue="beta", recv_ns=frame.recv_ns + 700_000_000))

choices = [Choice(1000.0, 0.001, {"alpha": 0.0, "beta": 0.0})]
settings = Settings.load(base=Path(sys.argv[2]), slippage_bps=0.0, withdraw_cost_usdt=0.0)
account, rows = replay_choices(settings, Recorded(both(), opened), choices)
print(account.digest, account.n_events["opened"], account.n_events["closed"])
"""


def digests(real_data: Path, tmp_path: Path) -> Iterator[str]:
    for seed in ("0", "12345"):
        command = [sys.executable, "-c", TWO_VENUES, str(real_data / "recordings/hftbacktest/spot/btcusdt_20240808.gz"), str(tmp_path)]
        yield subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}).stdout


def test_replay_gives_the_same_digest_in_every_process(real_data: Path, tmp_path: Path) -> None:
    first, second = digests(real_data, tmp_path)
    assert first == second
    assert int(first.split()[1]) > 20


def test_replay_command_prints_the_account(real_data: Path, tmp_path: Path) -> None:
    words = ["replay", str(real_data / "recordings/cryptofeed/OKX.ws.1.0"), "--format", "cryptofeed", "--venue", "okx"]
    env = os.environ | {"ALTFORECAST_HOME": str(tmp_path)}
    run = [sys.executable, "-m", "altforecast_cli", *words]
    verified = subprocess.run([*run, "--verify"], capture_output=True, text=True, check=True, env=env)
    assert json.loads(verified.stdout)["checksums"] == {"right": 290, "wrong": 0}
    shown = subprocess.run([*run, "--json", str(tmp_path / "a.json")], capture_output=True, text=True, check=True, env=env)
    assert json.loads((tmp_path / "a.json").read_bytes())["digest"] in shown.stdout
    missing = subprocess.run([sys.executable, "-m", "altforecast_cli", "replay", "nowhere"], capture_output=True, text=True, env=env)
    assert missing.returncode == 2
