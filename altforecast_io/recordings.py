"""Recordings: every frame of every connection as it passed, in append-only compressed logs.

What belongs here: the form of a line and of a file, writing and reading them, which files hold a range, retention. What
does not: where frames come from (`realtime.recorder`), recordings of others (`foreign_recordings`), replaying (`replay`).

A file is zstd; its text is one header line, then one line per frame, in the order in which frames passed:
`recv_ns venue#connection direction payload`. Directions: `begin` (a session was made; payload: its symbols, comma
separated), `open` (address), `sent`, `received`, `body` (key, status and body of an HTTP answer, a line break between),
`close` (why), and `since`, with which a file starts for every connection that was open already (when it began, ns).
A direction ends in `/b64` where the payload was binary, in `/esc` where backslashes and line breaks of a text are escaped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, NamedTuple, Self

import zstandard

from altforecast.errors import InputError

Direction = Literal["begin", "open", "sent", "received", "body", "close", "since"]
DIRECTIONS: tuple[Direction, ...] = ("begin", "open", "sent", "received", "body", "close", "since")
HEADER = b"# altforecast recording 1\n"
LEVEL = 1
"""On real frames level 1 is smaller than level 3 (246 against 254 bytes per Binance frame) at six tenths of its time."""
SUFFIX = ".rec.zst"
READ_BYTES = 1 << 14
MAX_LINE_BYTES = 64 << 20
"""A line longer than this is no frame: the file is damaged."""
_NAME = re.compile(r"^(\d{8}T\d{6})\.(\d{9})Z(?:-\d+)?\.rec\.zst$")
_ESCAPED = re.compile(r"\\[n\\]")
_BY_NAME: dict[bytes, Direction] = {name.encode(): name for name in DIRECTIONS}


class Frame(NamedTuple):
    """One thing that passed on one connection."""

    recv_ns: int
    """Our clock [ns since 1970]."""
    venue: str
    conn: str
    """Name of the connection within the venue; no blanks."""
    direction: Direction
    payload: str | bytes


class Answer(NamedTuple):
    """What a `body` frame says."""

    key: str
    status: int
    body: bytes


def body_payload(key: str, status: int, body: bytes) -> str | bytes:
    """Payload of a `body` frame; text where the body is UTF-8."""
    head = f"{key}\n{status}\n"
    try:
        return head + body.decode()
    except UnicodeDecodeError:
        return head.encode() + body


def answer_of(frame: Frame) -> Answer:
    """The answer in a `body` frame; raises InputError when the payload is not of that form."""
    raw = frame.payload.encode() if isinstance(frame.payload, str) else frame.payload
    parts = raw.split(b"\n", 2)
    if len(parts) != 3 or not parts[1].isdigit():
        raise InputError("body frame", raw[:60].decode(errors="replace"), "not key, status and body on lines of their own")
    return Answer(parts[0].decode(), int(parts[1]), parts[2])


def encode_frame(frame: Frame) -> bytes:
    """The line of a frame, line break included."""
    recv_ns, venue, conn, direction, payload = frame
    if not isinstance(payload, str):
        return f"{recv_ns} {venue}#{conn} {direction}/b64 ".encode() + base64.b64encode(payload) + b"\n"
    if "\n" in payload:
        direction, payload = f"{direction}/esc", payload.replace("\\", "\\\\").replace("\n", "\\n")  # type: ignore[assignment]
    return f"{recv_ns} {venue}#{conn} {direction} {payload}\n".encode("utf-8", "surrogatepass")


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """The lines of many frames; as `encode_frame`, at half its time for plain text."""
    heads: dict[tuple[str, str, Direction], bytes] = {}
    parts: list[bytes] = []
    for frame in frames:
        recv_ns, venue, conn, direction, payload = frame
        if not isinstance(payload, str) or "\n" in payload:
            parts.append(encode_frame(frame))
            continue
        head = heads.get((venue, conn, direction))
        if head is None:
            head = heads[venue, conn, direction] = f" {venue}#{conn} {direction} ".encode()
        parts += (b"%d" % recv_ns, head, payload.encode("utf-8", "surrogatepass"), b"\n")
    return b"".join(parts)


def decode_frame(line: bytes) -> Frame:
    """The frame of a line without its break; raises InputError when it is none."""
    try:
        recv_ns, who, how, raw = line.split(b" ", 3)
        venue, _, conn = who.decode().partition("#")
        direction = _BY_NAME.get(how)
        if direction is not None:
            return Frame(int(recv_ns), venue, conn, direction, raw.decode("utf-8", "surrogatepass"))
        direction, form = _BY_NAME[how[:-4]], how[-4:]
        if form == b"/b64":
            return Frame(int(recv_ns), venue, conn, direction, base64.b64decode(raw, validate=True))
        if form == b"/esc":
            return Frame(int(recv_ns), venue, conn, direction, _ESCAPED.sub(_unescape, raw.decode("utf-8", "surrogatepass")))
        raise ValueError("unknown direction")
    except (ValueError, KeyError) as error:
        raise InputError("recording line", line[:80].decode(errors="replace"), f"is no frame: {error}") from None


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match.group() == "\\n" else "\\"


class RecordingWriter:
    """One file being written; not thread-safe. Every method raises OSError when the disk refuses; then the file is given up.

    What was written before the last `flush` can be read whatever happens to the process.
    """

    def __init__(self, folder: Path, first_ns: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = _free_name(folder, first_ns)
        self._file: BinaryIO = self.path.open("xb")
        self._zstd = zstandard.ZstdCompressor(level=LEVEL).stream_writer(self._file, closefd=False)
        self.n_bytes = 0
        """Size on disk as of the last flush."""
        self._zstd.write(HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def write(self, frames: Iterable[Frame]) -> None:
        """Append frames."""
        self._zstd.write(encode_frames(frames))

    def flush(self) -> None:
        """End the block and hand it to the system: from here on it is readable."""
        self._zstd.flush(zstandard.FLUSH_BLOCK)
        self._file.flush()
        self.n_bytes = self._file.tell()

    def close(self) -> None:
        """End the file; the second call does nothing."""
        if self._file.closed:
            return
        try:
            self._zstd.flush(zstandard.FLUSH_FRAME)
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Let go of a file that the disk refused; never raises."""
        try:
            self._file.close()
        except OSError:
            return


def _free_name(folder: Path, first_ns: int) -> Path:
    moment = datetime.fromtimestamp(first_ns // 1_000_000_000, UTC)
    stem = f"{moment:%Y%m%dT%H%M%S}.{first_ns % 1_000_000_000:09d}Z"
    path, n = folder / f"{stem}{SUFFIX}", 1
    while path.exists():
        path, n = folder / f"{stem}-{n}{SUFFIX}", n + 1
    return path


def read_recording(path: Path) -> Iterator[Frame]:
    """Frames of one file in order, up to the last whole line that can be read: a torn end is where the file ends.

    Raises InputError when the file is no recording or a line inside it is no frame.
    """
    lines = _lines(path)
    if next(lines, b"") + b"\n" != HEADER:
        raise InputError("file", path.name, "is no recording of ours (name its form with --format where it is somebody else's)")
    for line in lines:
        yield decode_frame(line)


def _lines(path: Path) -> Iterator[bytes]:
    rest = b""
    for text in _texts(path):
        *whole, rest = (rest + text).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise InputError("file", path.name, f"holds a line longer than {MAX_LINE_BYTES} bytes")
        yield from whole


def _texts(path: Path) -> Iterator[bytes]:
    """Pieces of the text, up to the first block that cannot be unpacked."""
    unpack = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            try:
                text = unpack.decompress(chunk)
            except zstandard.ZstdError:
                yield _salvaged(path, done, chunk)
                return
            yield text
            done += len(chunk)


def unread_bytes(path: Path) -> int:
    """Bytes behind the first block that cannot be unpacked; 0 for a whole file and for one whose end was never written."""
    unpack = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            try:
                unpack.decompress(chunk)
            except zstandard.ZstdError:
                return path.stat().st_size - done
            done += len(chunk)
    return 0


def _salvaged(path: Path, done: int, chunk: bytes) -> bytes:
    """What can be unpacked of a piece with a broken block: the whole blocks before it, found byte by byte."""
    unpack = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    with path.open("rb") as file:
        for _ in range(done // READ_BYTES):
            unpack.decompress(file.read(READ_BYTES))
    found = b""
    for i in range(len(chunk)):
        try:
            found += unpack.decompress(chunk[i : i + 1])
        except zstandard.ZstdError:
            break
    return found


@dataclass(frozen=True)
class RecordingFile:
    """One file of a recording folder."""

    path: Path
    first_ns: int
    """Time of its first frame, from its name."""
    n_bytes: int


def recording_files(folder: Path) -> list[RecordingFile]:
    """Recordings of a folder, oldest first; other files are passed over, a missing folder is empty."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        match = _NAME.match(path.name)
        if match is not None:
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue
            seconds = datetime.strptime(match.group(1), "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
            found.append(RecordingFile(path, int(seconds) * 1_000_000_000 + int(match.group(2)), size))
    return sorted(found, key=lambda f: (f.first_ns, f.path.name))


def read_range(files: Sequence[RecordingFile], start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Frame]:
    """Frames with start <= recv_ns < end over all files, file after file; whole files outside the range are not opened.

    What belongs to sessions that began before is in the files before (`first_needed`).
    """
    for i, file in enumerate(files):
        if end_ns is not None and file.first_ns >= end_ns:
            return
        if start_ns is not None and i + 1 < len(files) and files[i + 1].first_ns <= start_ns:
            continue
        for frame in read_recording(file.path):
            if (start_ns is None or frame.recv_ns >= start_ns) and (end_ns is None or frame.recv_ns < end_ns):
                yield frame


def first_needed(files: Sequence[RecordingFile], start_ns: int) -> int:
    """Position of the file with which reading has to begin so that every connection of `start_ns` is known from its begin.

    Where older files are gone it is the oldest that is left: what cannot be joined is counted by the replay.
    """
    if not files:
        return 0
    at = max((i for i, f in enumerate(files) if f.first_ns <= start_ns), default=0)
    began = min(_begins(files[at].path), default=files[at].first_ns)
    return max((i for i, f in enumerate(files[: at + 1]) if f.first_ns <= began), default=0)


def _begins(path: Path) -> Iterator[int]:
    for frame in read_recording(path):
        if frame.direction != "since":
            return
        yield int(frame.payload)


def prune_recordings(folder: Path, older_than_ns: int, max_bytes: int) -> list[Path]:
    """Remove recordings that began before a time, then the oldest until all together fit; the newest file always stays.

    Returns what was removed. Raises OSError when the disk refuses.
    """
    files = recording_files(folder)
    total, removed = sum(f.n_bytes for f in files), []
    for file in files[:-1]:
        if file.first_ns >= older_than_ns and total <= max_bytes:
            break
        file.path.unlink(missing_ok=True)
        total -= file.n_bytes
        removed.append(file.path)
    return removed
