"""Pages of rows of one table by series, timeframe and time: from memory where that reaches, else from month files.

What belongs here: the paging that bars, indicators and pivots share. What does not: what is special to one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from altforecast.tables import table
from altforecast.types import Quality, Series, Timeframe
from altforecast_io.lake import HOT_ROWS
from altforecast_serving.lineage import Answer, json_rows
from altforecast_serving.queries.cursors import encode_cursor
from altforecast_serving.queries.lake import HotTable, LakeReader, beyond, one_series

EMPTY_LAKE = "the lake holds no bars yet: fill it with `altforecast import PATH` or `altforecast backfill`, or see `make demo`"


@dataclass(frozen=True)
class Question:
    """Which rows: hashable, so that it can be the key of a cache."""

    table: str
    timeframes: tuple[Timeframe, ...]
    series: Series | None = None
    exchange: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    limit: int = 100
    newest_first: bool = True
    after: tuple[datetime | str, ...] | None = None
    qualities: tuple[str, ...] = ()
    include_provisional: bool = True

    @property
    def sort(self) -> tuple[str, ...]:
        """Order of the page: by time, then by the rest of the table's key."""
        return sort_of(self.table)


def sort_of(name: str) -> tuple[str, ...]:
    """Columns that order pages of a table: ts first."""
    return ("ts", *(c for c in table(name).sort if c != "ts"))


def find_rows(reader: LakeReader, question: Question, metrics: dict[Series, str], fresh: pl.DataFrame | None = None) -> Answer:
    """The page that the question asks for; reads files where memory does not reach.

    fresh: rows not yet in the lake, which take the place of lake rows with the same key.
    """
    answer = quick_rows(reader, question, metrics, fresh, may_load=True)
    if answer is not None:
        return answer
    predicate = _predicate(question) if question.series is None else _predicate(question) & one_series(question.series)
    start, end = _bounds(question)
    n_rows = question.limit + 1 + (fresh.height if fresh is not None else 0)
    rows = reader.page(
        question.table, question.timeframes, predicate, question.sort, n_rows, start=start, end=end, newest_first=question.newest_first
    )
    return _answer(reader, question, _merged(rows, fresh, question), metrics, has_fresh=fresh is not None)


def quick_rows(
    reader: LakeReader, question: Question, metrics: dict[Series, str], fresh: pl.DataFrame | None = None, *, may_load: bool = False
) -> Answer | None:
    """The same page when the newest rows in memory are enough for it, else None; no rows are read from disk unless `may_load`."""
    if not table(question.table).is_hot:
        return None
    loaded = []
    for timeframe in question.timeframes:
        hot = reader.hot(question.table, timeframe) if may_load else reader.hot_if_loaded(question.table, timeframe)
        if hot is None:
            return None
        loaded.append(hot)
    needed = question.limit + 1 + (fresh.height if fresh is not None else 0)
    if question.series is None:
        rows = pl.concat([t.frame for t in loaded]).filter(_predicate(question))
        is_enough = needed <= HOT_ROWS and question.newest_first and _is_open_ended(question)
    else:
        held = loaded[0].of(question.series)
        if _is_plain(question) and (fresh is None or fresh.is_empty()):
            is_enough = loaded[0].is_complete(question.series) or held.height >= needed
            return _plain_answer(reader, loaded[0], question, question.series, metrics) if is_enough else None
        rows = held.filter(_predicate(question))
        is_enough = loaded[0].is_complete(question.series) or _reaches(held, rows, question, needed)
    return _answer(reader, question, _merged(rows, fresh, question), metrics, has_fresh=fresh is not None) if is_enough else None


def _plain_answer(reader: LakeReader, hot: HotTable, question: Question, series: Series, metrics: dict[Series, str]) -> Answer:
    """The newest rows of one series, with their JSON ready made."""
    answer = _answer(reader, question, hot.newest_first(series, question.limit + 1), metrics, has_fresh=False)
    texts = hot.json_rows(series, lambda rows: json_rows(with_metric(rows, metrics, series)))
    return replace(answer, json_rows=texts[: question.limit])


def _is_plain(question: Question) -> bool:
    """Whether simply the newest rows are asked for: answered by slices, without starting the query engine."""
    return question.newest_first and question.start is None and _is_open_ended(question)


def _is_open_ended(question: Question) -> bool:
    return question.end is None and question.after is None and not question.qualities


def _reaches(held: pl.DataFrame, rows: pl.DataFrame, question: Question, needed: int) -> bool:
    """Whether the rows in memory hold everything that the page needs."""
    start, _ = _bounds(question)
    if start is not None and start >= held["ts"][0]:
        return True
    return question.newest_first and rows.height >= needed


def _bounds(question: Question) -> tuple[datetime | None, datetime | None]:
    """Bounds of ts, the lower one raised to an ascending cursor, so that fewer months are read."""
    at = question.after[0] if question.after else None
    if isinstance(at, datetime) and not question.newest_first:
        return (at if question.start is None else max(question.start, at)), question.end
    return question.start, question.end


def _predicate(question: Question) -> pl.Expr:
    wanted = pl.lit(True) if question.exchange is None else pl.col("exchange") == question.exchange
    if question.start is not None:
        wanted &= pl.col("ts") >= question.start
    if question.end is not None:
        wanted &= pl.col("ts") < question.end
    if question.after is not None:
        at = question.after[0]
        # Stated apart from the cursor's own comparison because only this form lets a reader skip row groups.
        wanted &= pl.col("ts") <= at if question.newest_first else pl.col("ts") >= at
        wanted &= beyond(question.sort, question.after, newest_first=question.newest_first)
    return wanted & pl.col("quality").is_in(list(question.qualities)) if question.qualities else wanted


def _merged(rows: pl.DataFrame, fresh: pl.DataFrame | None, question: Question) -> pl.DataFrame:
    """Lake rows with fresh ones in place of or beside them, in order, one more than the page holds."""
    if fresh is not None and fresh.height:
        rows = pl.concat([rows.join(fresh, on=question.sort, how="anti"), fresh.filter(_predicate(question))])
    return rows.sort(question.sort, descending=question.newest_first).head(question.limit + 1)


def _answer(reader: LakeReader, question: Question, rows: pl.DataFrame, metrics: dict[Series, str], *, has_fresh: bool) -> Answer:
    page = rows.head(question.limit)
    settled = _settled(page) if has_fresh else page
    return Answer(
        data=with_metric(page, metrics, question.series),
        parts=reader.rests_on(question.table, question.timeframes, settled),
        known_at=latest(page, "known_at"),
        is_provisional=settled.height < page.height,
        next_cursor=encode_cursor([page[c][-1] for c in question.sort]) if rows.height > question.limit else None,
        warnings=why_empty(reader, question) if page.is_empty() else [],
    )


def _settled(page: pl.DataFrame) -> pl.DataFrame:
    """Rows that come from the lake."""
    if "quality" not in page.columns:
        return page
    return page.filter(pl.col("quality") != Quality.PROVISIONAL.value)


def why_empty(reader: LakeReader, question: Question) -> list[str]:
    """What to tell a reader who gets no rows: an empty lake, a series without this timeframe, or a table not built yet."""
    known = reader.series()
    if not known:
        return [EMPTY_LAKE]
    series = question.series
    if series is not None and not set(question.timeframes) & set(known.get(series, [])):
        there = ", ".join(tf.value for tf in known.get(series, [])) or "none"
        return [f"no bars of {series.symbol} on {series.exchange} at this timeframe; there are: {there}"]
    if question.table != "bars" and not any(reader.lake.files(question.table, tf) for tf in question.timeframes):
        return [not_built(question.table)]
    return []


def not_built(name: str) -> str:
    """What to tell a reader when a derived table has no rows yet."""
    return f"{name} have not been built yet: start Dagster (`altforecast up`) or run `altforecast backfill`"


def latest(frame: pl.DataFrame, column: str) -> datetime | None:
    """Newest time of a column, None for an empty frame."""
    value = frame[column].max() if frame.height else None
    return value if isinstance(value, datetime) else None


def with_metric(frame: pl.DataFrame, metrics: dict[Series, str], series: Series | None = None) -> pl.DataFrame:
    """The frame with a column `metric` after ts: the metric that the series carries, or null.

    series: given where all rows are of one series, which is cheaper.
    """
    if series is not None:
        only = pl.Series("metric", [metrics.get(series)], pl.String()).new_from_index(0, frame.height)
        return frame.clone().insert_column(1, only)
    names = {f"{s.exchange}|{s.symbol}": name for s, name in metrics.items()}
    keys = pl.col("exchange") + "|" + pl.col("symbol")
    column = keys.replace_strict(list(names), list(names.values()), default=None, return_dtype=pl.String()).alias("metric")
    return frame.with_columns(column).select("ts", "metric", *_rest(frame.columns))


def _rest(columns: Sequence[str]) -> list[str]:
    return [c for c in columns if c not in ("ts", "metric")]
