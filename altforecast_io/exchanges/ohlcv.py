"""Closed bars of one series from one venue, page by page, with everything the venue held back said aloud.

What belongs here: our own pagination and the shape of a fetched bar. What does not: what to fetch and where to keep it
(`backfill`), judging holes (`gaps`).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from altforecast.bars import resample
from altforecast.tables import BARS, TS
from altforecast.types import Quality, Series, Timeframe
from altforecast_io.exchanges.connection import VenueClient
from altforecast_io.exchanges.venues import base_timeframe
from altforecast_io.http import Failure, ServiceError

MAX_PAGES = 20_000
"""Pages of one series in one call; reaching it is reported as cut."""
SOURCE = "ccxt"
Row = tuple[int, float, float, float, float, float | None]


@dataclass
class FetchReport:
    """What one fetch met; filled while its pages are read."""

    series: Series
    timeframe: Timeframe
    n_pages: int = 0
    n_rows: int = 0
    n_duplicates: int = 0
    n_forming: int = 0
    n_refused: int = 0
    """Rows off the time grid, or with missing, non-finite, non-positive or disordered prices."""
    n_missing: int = 0
    """Bars missing between the first and the last one."""
    history_starts_at: datetime | None = None
    """Set where the venue gave nothing for the beginning of what was asked."""
    history_reason: str = ""
    """`reach`: the venue gives only its newest bars; `start`: nothing earlier (listing or halt)."""
    is_cut: bool = False
    """The cap on pages ended the fetch."""
    holes: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Half-open spans without bars between the first and the last one, at most 10 000 kept."""

    def notes(self) -> list[str]:
        """Plain sentences for people; empty when all went well."""
        series = f"{self.series.exchange} {self.series.symbol} {self.timeframe}"
        why = {"reach": "the venue gives only its newest bars", "start": "listing or halt"}.get(self.history_reason, "")
        said = []
        if self.history_starts_at:
            said.append(f"{series}: history not available before {self.history_starts_at:%Y-%m-%d %H:%M} UTC ({why})")
        if self.n_missing:
            said.append(f"{series}: {self.n_missing} bars missing in {len(self.holes)} holes")
        if self.n_refused:
            said.append(f"{series}: {self.n_refused} rows refused as malformed")
        if self.is_cut:
            said.append(f"{series}: stopped after {self.n_pages} pages; fetch again to go on")
        return said


def parse_rows(raw: Iterable[Sequence[Any]], timeframe: Timeframe) -> tuple[list[Row], int]:
    """Well-formed rows in order of time (equal times kept), and the number of rows refused.

    A row is refused when it is off the time grid, or its prices are missing, not finite, not positive or disordered, or its
    volume is negative; a missing volume is None. Numbers pass through their decimal text.
    """
    rows, refused = [], 0
    for item in raw:
        row = _parse_row(item, timeframe)
        if row is None:
            refused += 1
        else:
            rows.append(row)
    return sorted(rows, key=lambda r: r[0]), refused


def _parse_row(item: Sequence[Any], timeframe: Timeframe) -> Row | None:
    try:
        ts = int(item[0])
        prices = [float(str(value)) for value in item[1:5]]
        volume = None if item[5] is None else float(str(item[5]))
    except (TypeError, ValueError, IndexError):
        return None
    o, h, low, c = prices
    is_sound = all(math.isfinite(p) and p > 0 for p in prices) and low <= min(o, c) and h >= max(o, c)
    is_sound = is_sound and (volume is None or (math.isfinite(volume) and volume >= 0)) and ts % timeframe.ms == 0
    return (ts, o, h, low, c, volume) if is_sound else None


def bars_frame(rows: Sequence[Row], series: Series, timeframe: Timeframe, received_at: datetime) -> pl.DataFrame:
    """Rows as a frame of table bars. Quality: quiet when flat without volume, observed when received within two bars of the
    close, else backfilled. No rows give an empty frame."""
    names = ["ts", "open", "high", "low", "close", "volume"]
    types = {"ts": pl.Int64(), **dict.fromkeys(names[1:], pl.Float64())}
    frame = pl.DataFrame(list(rows), schema=types, orient="row").with_columns(pl.col("ts").cast(pl.Datetime("ms", "UTC")))
    return stamp(frame, series, timeframe, received_at)


def stamp(frame: pl.DataFrame, series: Series, timeframe: Timeframe, received_at: datetime) -> pl.DataFrame:
    """A frame of ts, open, high, low, close, volume with the other columns of table bars, in table order."""
    close_at = pl.col("ts") + timedelta(milliseconds=timeframe.ms)
    received = pl.lit(received_at).cast(pl.Datetime("ms", "UTC"))
    is_quiet = (pl.col("volume") == 0) & (pl.col("high") == pl.col("low"))
    is_fresh = received <= close_at + timedelta(milliseconds=2 * timeframe.ms)
    quality = pl.when(is_quiet).then(pl.lit(Quality.QUIET.value)).when(is_fresh).then(pl.lit(Quality.OBSERVED.value))
    return frame.with_columns(
        symbol=pl.lit(series.symbol), exchange=pl.lit(series.exchange), timeframe=pl.lit(timeframe.value), source=pl.lit(SOURCE),
        quality=quality.otherwise(pl.lit(Quality.BACKFILLED.value)), received_at=received, known_at=close_at,
    ).select(BARS.schema.names())  # fmt: skip


async def fetch_bars(
    client: VenueClient, symbol: str, timeframe: Timeframe, start: datetime, end: datetime,
    *, report: FetchReport | None = None, max_pages: int = MAX_PAGES,
) -> AsyncIterator[pl.DataFrame]:  # fmt: skip
    """Closed bars with start <= ts < end as frames of table bars, in time order, one per page, no bar twice.

    Closed is judged by the venue's clock. A timeframe that the venue lacks is built from the longest native one.
    Raises UnknownNameError for a symbol that is not traded there and ServiceError when retries are over; frames given
    before that stay valid. `report` collects what was missing, doubled or refused.
    """
    report = report or FetchReport(Series(client.venue.slug, symbol), timeframe)
    now_ms = client.now_ms()
    first = -(-_ms(start) // timeframe.ms) * timeframe.ms
    stop = min(-(-_ms(end) // timeframe.ms) * timeframe.ms, now_ms - now_ms % timeframe.ms)
    base = base_timeframe(client.venue, timeframe)
    pages = Pages(client, client.market(symbol), base, report, max_pages).read(first, stop)
    frames = _frames(pages, client, report.series, base)
    async for frame in frames if base is timeframe else _built(frames, report, timeframe, stop):
        if frame.height:
            report.n_rows += frame.height
            yield frame


class Pages:
    """The pagination of one fetch: moves a cursor from page to page and never goes back."""

    def __init__(self, client: VenueClient, market: str, timeframe: Timeframe, report: FetchReport, max_pages: int) -> None:
        self.client, self.market, self.timeframe, self.report, self.max_pages = client, market, timeframe, report, max_pages
        self.window_ms = client.venue.max_bars * timeframe.ms

    async def read(self, first: int, stop: int) -> AsyncIterator[list[Row]]:
        """Rows of each page with first <= ts < stop [ms], ascending, none repeated."""
        cursor, last = first, None
        while cursor < stop:
            if self.report.n_pages >= self.max_pages:
                self.report.is_cut = True
                return
            page = await self._page(cursor)
            rows = self._fresh(page, cursor, stop)
            if not rows:
                following = await self._following(cursor, page, stop, is_first=last is None)
                if following is None:
                    return
                cursor = following
                continue
            self._note_start(rows, page, first) if last is None else self._note_hole(last + self.timeframe.ms, rows[0][0])
            self._note_holes(rows)
            yield rows
            last = rows[-1][0]
            cursor = last + self.timeframe.ms

    async def _page(self, since: int) -> list[Row]:
        try:
            raw = await self._ask(self.timeframe, since)
        except ServiceError as error:
            reach = self._reach()
            if error.failure is not Failure.BAD_REQUEST or reach is None or since >= reach:
                raise
            # some venues refuse what lies beyond their reach instead of answering from its edge
            raw = await self._ask(self.timeframe, reach)
        rows, refused = parse_rows(raw, self.timeframe)
        self.report.n_refused += refused
        return rows

    async def _ask(self, timeframe: Timeframe, since: int) -> list[Sequence[Any]]:
        self.report.n_pages += 1
        return list(await self.client.call("fetch_ohlcv", self.market, timeframe.value, since, self.client.venue.max_bars))

    def _reach(self) -> int | None:
        bars = self.client.venue.history_bars
        now = self.client.now_ms()
        return None if bars is None else now - now % self.timeframe.ms - (bars - 1) * self.timeframe.ms

    def _fresh(self, page: list[Row], cursor: int, stop: int) -> list[Row]:
        now = self.client.now_ms()
        unique = {row[0]: row for row in page}
        self.report.n_duplicates += len(page) - len(unique)
        self.report.n_forming += sum(ts + self.timeframe.ms > now for ts in unique)
        return [row for ts, row in unique.items() if cursor <= ts < stop]

    async def _following(self, cursor: int, page: list[Row], stop: int, *, is_first: bool) -> int | None:
        """Where to go on after a page without news: the next day that has bars, or None at the end."""
        if (page and page[0][0] >= stop) or not (is_first or self.client.venue.is_windowed):
            return None
        ahead = cursor + (self.window_ms if self.client.venue.is_windowed else self.timeframe.ms)
        if self.timeframe is Timeframe.D1:
            return ahead if self.client.venue.is_windowed else None
        if ahead >= stop:
            return None
        day, day_ms = cursor - cursor % Timeframe.D1.ms, Timeframe.D1.ms
        while day < stop and self.report.n_pages < self.max_pages:
            days, _ = parse_rows(await self._ask(Timeframe.D1, day), Timeframe.D1)
            later = [ts for ts, *_ in days if ts + day_ms > ahead]
            if not self.client.venue.is_windowed:
                return later[0] if later and later[0] > cursor else None
            if later:
                return max(ahead, later[0])
            day += self.client.venue.max_bars * day_ms
        return None

    def _note_start(self, rows: list[Row], page: list[Row], first: int) -> None:
        if rows[0][0] <= first:
            return
        is_newest = page[-1][0] + 2 * self.timeframe.ms >= self.client.now_ms()
        usual = min(self.client.venue.max_bars, self.client.venue.default_bars, self.client.venue.history_bars or 10**9)
        reach = self._reach()
        is_reach = (is_newest and len(page) >= usual - 1) or (reach is not None and abs(rows[0][0] - reach) <= 2 * self.timeframe.ms)
        self.report.history_starts_at = _utc(rows[0][0])
        self.report.history_reason = "reach" if is_reach else "start"

    def _note_holes(self, rows: list[Row]) -> None:
        for before, after in pairwise(rows):
            self._note_hole(before[0] + self.timeframe.ms, after[0])

    def _note_hole(self, start: int, end: int) -> None:
        if end > start:
            self.report.n_missing += (end - start) // self.timeframe.ms
            if len(self.report.holes) < 10_000:
                self.report.holes.append((_utc(start), _utc(end)))


async def _frames(
    pages: AsyncIterator[list[Row]], client: VenueClient, series: Series, timeframe: Timeframe
) -> AsyncIterator[pl.DataFrame]:
    async for rows in pages:
        yield bars_frame(rows, series, timeframe, _utc(client.now_ms()))


async def _built(frames: AsyncIterator[pl.DataFrame], report: FetchReport, timeframe: Timeframe, stop: int) -> AsyncIterator[pl.DataFrame]:
    """Frames of a longer timeframe; a bar is given once every bar inside it has been read."""
    rest = BARS.empty()
    async for frame in frames:
        rest = pl.concat([rest, frame])
        edge = _utc(_ms(_newest(rest, "ts")) // timeframe.ms * timeframe.ms)
        done, rest = rest.filter(pl.col("ts") < edge), rest.filter(pl.col("ts") >= edge)
        yield _longer(done, report, timeframe)
    yield _longer(rest.filter(pl.col("ts") < _utc(stop)), report, timeframe)


def _longer(bars: pl.DataFrame, report: FetchReport, timeframe: Timeframe) -> pl.DataFrame:
    if report.history_reason == "reach" and report.history_starts_at is not None:
        # the venue cut the first long bar somewhere inside: its open and extremes are not the venue's
        whole_from = _utc(-(-_ms(report.history_starts_at) // timeframe.ms) * timeframe.ms)
        bars = bars.filter(pl.col("ts") >= whole_from)
    if bars.is_empty():
        return bars
    low = bars["ts"].dt.truncate(timeframe.value).min()
    high = _utc(_ms(_newest(bars, "ts")) // timeframe.ms * timeframe.ms + timeframe.ms)
    # venues of this kind print no bar without a trade; a neighbour on each side tells `resample` that the edges were read
    before = bars.head(1).with_columns(ts=pl.lit(low).cast(TS) - timedelta(milliseconds=1))
    after = bars.tail(1).with_columns(ts=pl.lit(high).cast(TS))
    longer = resample(pl.concat([before, bars, after]), timeframe).filter((pl.col("ts") >= low) & (pl.col("ts") < high))
    prices = longer.select("ts", "open", "high", "low", "close", "volume")
    return stamp(prices, report.series, timeframe, _newest(bars, "received_at"))


def _newest(frame: pl.DataFrame, column: str) -> datetime:
    found = frame[column].max()
    assert isinstance(found, datetime)
    return found


def _ms(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def _utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
