"""Recordings that others made, read as frames of ours: cryptofeed's and hftbacktest's raw files.

What belongs here: their line forms, which symbols they hold, what order their files have. What does not: our own form
(`recordings`) and replaying (`replay`). A `body` frame carries the address that was asked as its key, for a recording does not
know the keys of today's sessions; hftbacktest has no address either, its key is empty.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import orjson

from altforecast.errors import InputError
from altforecast.symbols import parse_symbol
from altforecast_io.exchanges.sessions import kraken_v1
from altforecast_io.exchanges.sessions.joined import JoinedSession
from altforecast_io.exchanges.sessions.registry import open_session
from altforecast_io.exchanges.sessions.session import Session
from altforecast_io.recordings import Frame, body_payload

SESSION_NAMES = {"kraken": "kraken_v1"}
"""Session that speaks the protocol of cryptofeed's time, where today's differs."""
_RECEIVED = re.compile(r"^(\d+(?:\.\d+)?): ")
_OTHER = re.compile(r"^((?:wss|https)://\S+) (<->|<-|->) (\d+(?:\.\d+)?)(?:: )?")
_CONFIGURATION = "configuration: "
_OKX_BOOKS = re.compile(r'"channel":"books","instId":"([^"]+)"')
_BINANCE_STREAM = re.compile(r"([a-z0-9]+)@depth")
_UNASKED = re.compile(r'\{"stream":"[a-z0-9]+@(?!depth|bookTicker)')
"""Binance's trades and bars; best quotes are kept, the replay compares books with them."""
WHOLE_LEVELS = 1_000_000
"""More levels than any snapshot shows."""
HFT_MAX_HEAD = 200
"""Lines looked at for the symbols of an hftbacktest file."""


def read_foreign(form: str, path: Path, venue: str, symbols: tuple[str, ...] = ()) -> Iterator[Frame]:
    """Frames of a foreign recording in time order, ties by file order; the first is a `begin` with its symbols.

    form: cryptofeed (path: any of the files of one venue; those beside it with the same beginning belong to it) | hftbacktest
    (path: a file, or a folder of files that follow each other). symbols: canonical symbols of the session; default: what the
    recording itself names.
    Raises InputError on an unknown form or a file that is not of it.
    """
    try:
        reader = FORMS[form]
    except KeyError:
        raise InputError("format", form, f"unknown; allowed: {', '.join(FORMS)}") from None
    return (frame for frame in reader(path, venue, symbols) if not _is_unasked(frame))


def open_foreign_session(venue: str, symbols: Sequence[str]) -> Session:
    """The session of a foreign recording, which holds one snapshot of each book and no second one when it is asked for.

    Sessions that join changes to a snapshot therefore take that snapshot for the whole book instead of renewing it when the price
    walks towards its end; everything else is as it is live.
    """
    session = cast("Session", kraken_v1.open_session(symbols)) if venue == "kraken_v1" else open_session(venue, symbols)
    if isinstance(session, JoinedSession):
        whole = type(session.__class__.__name__, (session.__class__,), {"snapshot_levels": WHOLE_LEVELS})
        session = whole(symbols)
    return session


def _is_unasked(frame: Frame) -> bool:
    """Whether a frame belongs to a stream that today's session would not have subscribed to and may not know."""
    return frame.direction == "received" and _UNASKED.match(str(frame.payload[:60])) is not None


def _cryptofeed(path: Path, venue: str, symbols: tuple[str, ...]) -> Iterator[Frame]:
    name = SESSION_NAMES.get(venue, venue)
    if not path.is_file():
        raise InputError("file", str(path), "is no file; name one file of the venue")
    files = sorted(path.parent.glob(f"{path.name.partition('.')[0]}.*"))
    try:
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line]
    except UnicodeDecodeError:
        raise InputError("file", path.name, "is no text, and so no recording in cryptofeed's form") from None
    frames = [frame for line in lines if (frame := _cryptofeed_frame(line, name)) is not None]
    if not frames:
        raise InputError("file", path.name, "holds no frame in cryptofeed's form")
    frames.sort(key=lambda f: f.recv_ns)
    found = symbols or _configured(lines) or _named(venue, lines)
    if not found:
        raise InputError("symbols", "", "the recording does not name them; give --symbols")
    yield Frame(frames[0].recv_ns, name, "1", "begin", ",".join(found))
    yield from frames


def _cryptofeed_frame(line: str, venue: str) -> Frame | None:
    received = _RECEIVED.match(line)
    if received is not None:
        return Frame(_ns(received.group(1)), venue, "1", "received", line[received.end() :])
    other = _OTHER.match(line)
    if other is None:
        return None
    url, how, at = other.groups()
    rest = line[other.end() :]
    if how == "<->":
        return Frame(_ns(at), venue, "1", "open", url)
    if how == "<-":
        return Frame(_ns(at), venue, "1", "sent", rest)
    return Frame(_ns(at), venue, "1", "body", body_payload(url, 200, rest.encode()))


def _ns(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


def _configured(lines: Iterable[str]) -> tuple[str, ...]:
    """Spot symbols of the configuration that cryptofeed writes into its file."""
    for line in lines:
        if line.startswith(_CONFIGURATION):
            names = orjson.loads(line.removeprefix(_CONFIGURATION)).get("l2_book", [])
            return tuple(n for n in names if n.count("-") == 1)
    return ()


def _named(venue: str, lines: Iterable[str]) -> tuple[str, ...]:
    """Symbols that subscriptions name, where there is no configuration."""
    text = "\n".join(line for line in lines if line.startswith("wss://"))
    if venue == "okx":
        return tuple(dict.fromkeys(_OKX_BOOKS.findall(text)))
    if venue == "binance":
        return tuple(dict.fromkeys(parse_symbol(n) for n in _BINANCE_STREAM.findall(text)))
    return ()


def _hftbacktest(path: Path, venue: str, symbols: tuple[str, ...]) -> Iterator[Frame]:
    paths = sorted(path.glob("*.gz")) if path.is_dir() else [path]
    if not paths:
        raise InputError("folder", str(path), "holds no *.gz file")
    names = symbols or _hft_symbols(paths[0])
    for i, (recv_ns, text) in enumerate(line for each in paths for line in _hft_lines(each)):
        if i == 0:
            yield Frame(recv_ns, venue, "1", "begin", ",".join(names))
            yield Frame(recv_ns, venue, "1", "open", "")
        if text.startswith('{"lastUpdateId"'):
            yield Frame(recv_ns, venue, "1", "body", body_payload("", 200, text.encode()))
        else:
            yield Frame(recv_ns, venue, "1", "received", text)


def _hft_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                at, _, text = line.rstrip("\n").partition(" ")
                yield int(at), text
    except (OSError, EOFError, ValueError) as error:
        raise InputError("file", str(path), f"is not in hftbacktest's form: {error}") from None


def _hft_symbols(path: Path) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for i, (_, text) in enumerate(_hft_lines(path)):
        if i == HFT_MAX_HEAD:
            break
        if match := re.match(r'\{"stream":"([a-z0-9]+)@depth', text):
            names.setdefault(parse_symbol(match.group(1)))
    if not names:
        raise InputError("symbols", "", f"the first {HFT_MAX_HEAD} lines name none; give --symbols")
    return tuple(names)


FORMS: Mapping[str, Callable[[Path, str, tuple[str, ...]], Iterator[Frame]]] = {"cryptofeed": _cryptofeed, "hftbacktest": _hftbacktest}
