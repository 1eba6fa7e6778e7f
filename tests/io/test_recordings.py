"""Recordings: what is written can be read, whatever happened to the writer; foreign forms give the same frames."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altforecast.errors import InputError
from altforecast_io.foreign_recordings import read_foreign
from altforecast_io.recordings import (
    DIRECTIONS,
    Frame,
    RecordingWriter,
    answer_of,
    body_payload,
    decode_frame,
    encode_frame,
    encode_frames,
    first_needed,
    prune_recordings,
    read_range,
    read_recording,
    recording_files,
    unread_bytes,
)

HOUR_NS = 3_600_000_000_000
NOON_NS = 1_717_243_200_000_000_000
FRAMES = [
    Frame(NOON_NS, "okx", "okx-1", "begin", "BTC-USDT,ETH-USDT"),
    Frame(NOON_NS + 1, "okx", "okx-1", "open", "wss://ws.okx.com:8443/ws/v5/public"),
    Frame(NOON_NS + 2, "okx", "okx-1", "sent", '{"op": "subscribe"}'),
    Frame(NOON_NS + 3, "okx", "okx-1", "received", '{"a":\n "b\\n\\\\"}'),
    Frame(NOON_NS + 3, "htx", "1", "received", b"\x1f\x8b\x00\n\xff"),
    Frame(NOON_NS + 4, "binance", "2", "body", body_payload("depth BTC-USDT", 200, b'{"bids":\n []}')),
    Frame(NOON_NS + 5, "okx", "okx-1", "received", ""),
    Frame(NOON_NS + 6, "okx", "okx-1", "close", "closed with code 1006"),
]


def write(folder: Path, frames: list[Frame]) -> Path:
    with RecordingWriter(folder, frames[0].recv_ns) as writer:
        writer.write(frames)
    return writer.path


@given(
    st.builds(
        Frame,
        st.integers(0, 2**62),
        st.sampled_from(["okx", "kraken_v1"]),
        st.from_regex(r"[A-Za-z0-9:_.-]{1,12}", fullmatch=True),
        st.sampled_from(DIRECTIONS),
        st.one_of(st.text(), st.binary(), st.text(alphabet="\\n\n\r ")),
    )
)
def test_decode_frame_gives_what_was_encoded(frame: Frame) -> None:
    line = encode_frame(frame)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_frame(line[:-1]) == frame
    assert encode_frames([frame, frame]) == line * 2


@pytest.mark.parametrize("line", [b"", b"12 okx#1 recv x", b"x okx#1 sent y", b"1 okx#1 sent/b64 ?", b"1 okx#1 sent/xyz aa"])
def test_decode_frame_refuses_other_lines(line: bytes) -> None:
    with pytest.raises(InputError, match="recording line"):
        decode_frame(line)


def test_answer_of_splits_status_key_and_body() -> None:
    for body in (b'{"a":\n1}', b"", b"\xff\xfe\n"):
        frame = Frame(1, "okx", "1", "body", body_payload("depth A-B", 429, body))
        answer = answer_of(decode_frame(encode_frame(frame)[:-1]))
        assert (answer.key, answer.status, answer.body) == ("depth A-B", 429, body)
    with pytest.raises(InputError, match="body frame"):
        answer_of(Frame(1, "okx", "1", "body", "no status"))


def test_read_recording_gives_what_was_written(tmp_path: Path) -> None:
    path = write(tmp_path, FRAMES)
    assert path.name == "20240601T120000.000000000Z.rec.zst"
    assert list(read_recording(path)) == FRAMES
    assert write(tmp_path, FRAMES) != path


def test_read_recording_of_a_killed_writer_reads_up_to_the_last_flush(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, NOON_NS)
    writer.write(FRAMES[:4])
    writer.flush()
    whole = writer.path.read_bytes()
    writer.write([Frame(NOON_NS + i, "okx", "1", "received", os.urandom(400)) for i in range(200)])
    writer.flush()
    assert list(read_recording(writer.path))[:4] == FRAMES[:4]
    torn = tmp_path / "20240601T130000.000000000Z.rec.zst"
    for tail in (b"", writer.path.read_bytes()[len(whole) : len(whole) + 5000], bytes(4096), b"\xff" * 100):
        torn.write_bytes(whole + tail)
        found = list(read_recording(torn))
        assert found[:4] == FRAMES[:4]
        assert len(found) < 204
    writer.abandon()


def test_unread_bytes_tells_a_broken_block_from_an_end_that_was_never_written(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path, NOON_NS) as writer:
        for start in range(0, 2000, 100):
            writer.write([Frame(NOON_NS + i, "okx", "1", "received", f'{{"seq":{i * 7919 % 104729}}}') for i in range(start, start + 100)])
            writer.flush()
    whole = writer.path.read_bytes()
    assert unread_bytes(writer.path) == 0
    damaged = tmp_path / "20240601T130000.000000000Z.rec.zst"
    damaged.write_bytes(whole[: len(whole) // 2])
    assert unread_bytes(damaged) == 0
    middle = len(whole) // 3
    damaged.write_bytes(whole[:middle] + b"\xff" * 40 + whole[middle + 40 :])
    assert 0 < unread_bytes(damaged) <= len(whole)
    assert len(list(read_recording(damaged))) < 2000


def test_read_foreign_cryptofeed_refuses_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "OKX.ws.1.0"
    path.write_bytes(b"\x28\xb5\x2f\xfd\xff\xfe")
    with pytest.raises(InputError, match="no text"):
        list(read_foreign("cryptofeed", path, "okx"))


def test_read_recording_refuses_other_files(tmp_path: Path) -> None:
    other = tmp_path / "x.rec.zst"
    for content in (b"", b"hello", gzip.compress(b"hello")):
        other.write_bytes(content)
        with pytest.raises(InputError, match="no recording"):
            list(read_recording(other))


def hourly(folder: Path) -> None:
    """Three hours; one connection lives through all of them, another begins in the second."""
    for hour in range(3):
        at = NOON_NS + hour * HOUR_NS
        known = [("okx", 0)] + ([("kraken", 1)] if hour == 2 else [])
        frames = [Frame(at, venue, "1", "since", str(NOON_NS + began * HOUR_NS)) for venue, began in known] if hour else []
        frames += [Frame(at, ("okx", "kraken", "okx")[hour], "1", "begin" if hour < 2 else "received", "A-B")]
        frames += [Frame(at + m * 60_000_000_000, "okx", "1", "received", f"{hour}:{m}") for m in (10, 50)]
        write(folder, frames)


def test_recording_files_are_in_order_and_pass_others_over(tmp_path: Path) -> None:
    hourly(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad.rec.zst").write_text("x")
    files = recording_files(tmp_path)
    assert [f.first_ns for f in files] == [NOON_NS, NOON_NS + HOUR_NS, NOON_NS + 2 * HOUR_NS]
    assert all(f.n_bytes == f.path.stat().st_size for f in files)
    assert recording_files(tmp_path / "missing") == []


def test_read_range_cuts_by_time_over_files(tmp_path: Path) -> None:
    hourly(tmp_path)
    files = recording_files(tmp_path)
    found = list(read_range(files, NOON_NS + HOUR_NS // 2, NOON_NS + HOUR_NS + HOUR_NS // 2))
    assert [f.payload for f in found if f.direction == "received"] == ["0:50", "1:10"]
    assert len(list(read_range(files))) == 12


def test_first_needed_reaches_back_to_the_begin_of_every_open_connection(tmp_path: Path) -> None:
    hourly(tmp_path)
    files = recording_files(tmp_path)
    assert first_needed(files, NOON_NS + 2 * HOUR_NS + 1) == 0
    assert first_needed(files[1:], NOON_NS + 2 * HOUR_NS + 1) == 0
    assert first_needed(files, NOON_NS) == 0
    assert first_needed([], NOON_NS) == 0


def test_prune_recordings_by_age_and_size_keeps_the_newest(tmp_path: Path) -> None:
    hourly(tmp_path)
    assert prune_recordings(tmp_path, NOON_NS, 10**9) == []
    assert [p.name[:11] for p in prune_recordings(tmp_path, NOON_NS + 1, 10**9)] == ["20240601T12"]
    assert len(prune_recordings(tmp_path, 0, 1)) == 1
    assert prune_recordings(tmp_path, NOON_NS * 2, 0) == []
    assert len(recording_files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("venue", "name", "directions", "symbols"),
    [
        ("binance", "BINANCE.ws.1.0", {"begin": 1, "open": 1, "body": 4, "received": 261}, "NKN-USDT,BLZ-ETH,LRC-BTC,RUNE-EUR"),
        ("okx", "OKX.ws.1.0", {"begin": 1, "open": 1, "sent": 3, "received": 410}, "BTC-USD-220527,UNI-USD-SWAP,BTC-USDT"),
        ("kucoin", "KUCOIN.http.0.0", {"begin": 1, "open": 1, "body": 10, "sent": 13, "received": 4721}, "ANKR-BTC,NRG-BTC,BSV-USDT"),
    ],
)
def test_read_foreign_cryptofeed_joins_the_files_of_a_venue(
    real_data: Path, venue: str, name: str, directions: dict[str, int], symbols: str
) -> None:
    frames = list(read_foreign("cryptofeed", real_data / "recordings" / "cryptofeed" / name, venue))
    counts: dict[str, int] = {}
    for frame in frames:
        counts[frame.direction] = counts.get(frame.direction, 0) + 1
    assert counts == directions
    assert [f.recv_ns for f in frames] == sorted(f.recv_ns for f in frames)
    assert frames[0].direction == "begin"
    assert str(frames[0].payload).startswith(symbols)


def test_read_foreign_keeps_every_digit_of_the_time(tmp_path: Path) -> None:
    (tmp_path / "KRAKEN.ws.0").write_text("wss://ws.kraken.com <-> 1618678132.3858151\n1618678132.8258188: {}\n\n")
    frames = list(read_foreign("cryptofeed", tmp_path / "KRAKEN.ws.0", "kraken", ("BTC-USD",)))
    assert [(f.recv_ns, f.venue, f.direction, f.payload) for f in frames] == [
        (1618678132385815100, "kraken_v1", "begin", "BTC-USD"),
        (1618678132385815100, "kraken_v1", "open", "wss://ws.kraken.com"),
        (1618678132825818800, "kraken_v1", "received", "{}"),
    ]


def test_read_foreign_hftbacktest_tells_answers_from_frames(real_data: Path) -> None:
    path = real_data / "recordings" / "hftbacktest" / "spot" / "btcusdt_20240808.gz"
    frames = list(read_foreign("hftbacktest", path, "binance"))
    assert (len(frames), frames[0].payload) == (31_494, "BTC-USDT")
    assert [answer_of(f).body[:15] for f in frames if f.direction == "body"] == [b'{"lastUpdateId"']


def test_read_foreign_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "A.ws.0").write_text("hello\n")
    for form, words in (("cryptofeed", "cryptofeed's form"), ("hftbacktest", "hftbacktest's form"), ("tardis", "unknown; allowed")):
        with pytest.raises(InputError, match=words):
            list(read_foreign(form, tmp_path / "A.ws.0", "binance"))
    (tmp_path / "B.ws.0").write_text("1.5: {}\n")
    with pytest.raises(InputError, match="--symbols"):
        list(read_foreign("cryptofeed", tmp_path / "B.ws.0", "gate"))
