"""What is done with bars that passed the checks: merging deliveries, resampling, naming holes.

What belongs here: rules over frames of the tables `bars`, `bar_revisions` and `bar_gaps`. What does not: refusing or
repairing single rows (`bar_checks`) and reading files. Method: docs/methods/bars.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from altforecast.errors import InputError
from altforecast.params import CLEAN, CleanParams
from altforecast.tables import BAR_GAPS, BAR_REVISIONS, BARS, TS
from altforecast.types import GapKind, Quality, Timeframe

SPARSE_VENUES = frozenset({"kraken", "coinbase", "bitstamp", "bitfinex", "gemini", "cryptocom"})
"""Venues that print no bar when nothing traded."""

_NUMBERED_KEY = ["_series", "ts"]
_PRICES = ["open", "high", "low", "close"]
_CONTENT = [*_PRICES, "volume"]


def merge(old: pl.DataFrame, new: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One bar per key out of two deliveries, and every value that lost, as rows of `bar_revisions`.

    Both frames have the schema of `bars`, any order, and may repeat keys. Precedence within one key:
    1. a traded bar beats a `quiet` placeholder, that beats a `feed_down` one, whenever they came;
    2. then the later `received_at` wins; at the same instant the larger (open, high, low, close, volume);
    3. a delivery that repeats the value before it in this order, or only lacks its volume, changes nothing.
    The rule looks at the set of rows alone: `merge(a, b)` equals `merge(b, a)`, and merging the inputs into the result again
    leaves the bars as they are (either input alone too, where volumes are known, but for `received_at`: a value that came,
    was replaced and came back then counts from its first coming). `superseded_at` is when the next value reached us, pushed
    1 ms on where two lost values of one bar would share it. An empty frame on either side gives the other.
    """
    both = pl.concat([old.select(BARS.schema.names()), new.select(BARS.schema.names())]).with_columns(_series_number())
    is_contested = both.select(_NUMBERED_KEY).is_duplicated()
    values = _values(both.filter(is_contested)) if is_contested.any() else both.clear()
    winners = values.filter(_starts_key().shift(-1, fill_value=True))
    bars = pl.concat([both.filter(~is_contested), winners.select(both.columns)]).sort(_NUMBERED_KEY)
    return bars.select(BARS.schema.names()), _revisions(values)


def _series_number() -> pl.Expr:
    """Rank of (symbol, exchange, timeframe): sorts like the three texts, many times faster."""
    return pl.struct("symbol", "exchange", "timeframe").rank("dense").alias("_series")


def _starts_key() -> pl.Expr:
    """Whether a row of a sorted frame has another key than the row before."""
    return pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift(1)) for c in _NUMBERED_KEY)


def _values(rows: pl.DataFrame) -> pl.DataFrame:
    """Distinct values of contested bars, sorted by key, each key's winner last."""
    rank = pl.col("quality").replace_strict({Quality.FEED_DOWN.value: 0, Quality.QUIET.value: 1}, default=2, return_dtype=pl.Int8)
    ordered = rows.with_columns(rank.alias("_rank")).sort(*_NUMBERED_KEY, "_rank", "received_at", *_CONTENT)
    return _one_per_run(_one_per_run(ordered))


def _one_per_run(ordered: pl.DataFrame) -> pl.DataFrame:
    """Neighbours of one value become one row: with volume before without, traded before placeholder, then the earliest.

    Applied twice, because a row without volume may stand between two equal ones with it.
    """
    volume = pl.col("volume")
    is_other = pl.any_horizontal(
        *(pl.col(c).ne_missing(pl.col(c).shift(1)) for c in [*_NUMBERED_KEY, *_PRICES]),
        volume.ne_missing(volume.shift(1)) & (volume.is_not_null() | pl.col("_rank").ne_missing(pl.col("_rank").shift(1))),
    )
    runs = ordered.with_columns(is_other.cum_sum().alias("_run"), volume.is_null().alias("_poor"))
    first = runs.sort("_run", "_poor", "_rank", "received_at", "source", descending=[False, False, True, False, False])
    return first.filter(pl.col("_run").ne_missing(pl.col("_run").shift(1))).drop("_run", "_poor")


def _revisions(values: pl.DataFrame) -> pl.DataFrame:
    ended = _starts_key().shift(-1, fill_value=True)
    following = [pl.col("received_at").shift(-1).alias("_next_at"), pl.col("source").shift(-1).alias("superseded_by")]
    losers = values.with_columns(*following, ended.alias("_is_winner")).filter(~pl.col("_is_winner"))
    n = pl.int_range(pl.len()).over(_NUMBERED_KEY)
    at = (pl.max_horizontal("_next_at", "received_at").dt.epoch("ms") - n).cum_max().over(_NUMBERED_KEY) + n
    stamped = losers.with_columns(at.cast(TS).alias("superseded_at"))
    return stamped.select(BAR_REVISIONS.schema.names()).sort(BAR_REVISIONS.sort)


def resample(bars: pl.DataFrame, to_timeframe: Timeframe) -> pl.DataFrame:
    """Bars of a longer timeframe built from shorter ones: first open, highest high, lowest low, last close, sum of volume.

    bars: schema of `bars`, one timeframe that divides the target; raises InputError otherwise. Holes inside a bucket are
    quiet slots; a series' last bucket is dropped unless its last slot is there, and its first bucket unless its first slot is.
    Volume is null where any part is null. Quality: feed_down if a part is, quiet if all are, otherwise backfilled if a part is.
    An empty frame gives an empty frame.
    """
    source = _only_timeframe(bars, to_timeframe)
    if source is None:
        return BARS.empty()
    ms, step = to_timeframe.ms, source.ms
    epoch = pl.col("ts").dt.epoch("ms")
    keyed = bars.sort(BARS.sort).with_columns((epoch - epoch % ms).alias("_bucket"))
    built = keyed.group_by("symbol", "exchange", "_bucket", maintain_order=True).agg(_aggregates())
    series = ["symbol", "exchange"]
    starts_late = (pl.col("_first") != pl.col("_bucket")) & (pl.col("_bucket") == pl.col("_bucket").min().over(series))
    ends_early = (pl.col("_last") + step != pl.col("_bucket") + ms) & (pl.col("_bucket") == pl.col("_bucket").max().over(series))
    whole = built.filter(~(starts_late | ends_early))
    named = whole.with_columns(
        pl.col("_bucket").cast(TS).alias("ts"),
        (pl.col("_bucket") + ms).cast(TS).alias("known_at"),
        pl.lit(to_timeframe.value).alias("timeframe"),
    )
    return named.select(BARS.schema.names()).sort(BARS.sort)


def _only_timeframe(bars: pl.DataFrame, to_timeframe: Timeframe) -> Timeframe | None:
    found = sorted(bars["timeframe"].unique().to_list())
    if not found:
        return None
    source = Timeframe(found[0])
    if len(found) > 1 or source.ms > to_timeframe.ms or to_timeframe.ms % source.ms:
        raise InputError(
            "timeframe", ",".join(found), f"cannot be resampled to {to_timeframe.value}: one timeframe that divides it is needed"
        )
    return source


def _aggregates() -> list[pl.Expr]:
    quality = pl.col("quality")
    is_down, is_quiet = quality == Quality.FEED_DOWN.value, quality == Quality.QUIET.value
    return [
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
        pl.when(pl.col("volume").null_count() == 0).then(pl.col("volume").sum()).alias("volume"),
        pl.when(is_down.any()).then(pl.lit(Quality.FEED_DOWN.value))
        .when(is_quiet.all()).then(pl.lit(Quality.QUIET.value))
        .when((quality == Quality.BACKFILLED.value).any()).then(pl.lit(Quality.BACKFILLED.value))
        .otherwise(pl.lit(Quality.OBSERVED.value)).alias("quality"),
        pl.col("source").last(), pl.col("received_at").max(),
        pl.col("ts").first().dt.epoch("ms").alias("_first"), pl.col("ts").last().dt.epoch("ms").alias("_last"),
    ]  # fmt: skip


@dataclass(frozen=True)
class _Group:
    """Slots in which the series of one market printed a bar: sorted times [ms] and how many series printed at each."""

    exchange: str
    label: str
    times: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def printed(self, start: int, end: int) -> int:
        """Slots in [start, end) in which any series printed."""
        return int(np.searchsorted(self.times, end) - np.searchsorted(self.times, start))

    def witnesses(self, start: int, end: int) -> int:
        """Most series that printed in one slot of [start, end)."""
        low, high = np.searchsorted(self.times, [start, end])
        return int(self.counts[low:high].max(initial=0))


def find_gaps(bars: pl.DataFrame, timeframe: Timeframe, params: CleanParams = CLEAN) -> pl.DataFrame:
    """Every run of missing bars between two bars of a series, with the likely cause, as rows of `bar_gaps`.

    bars: schema of `bars`, rows of other timeframes are ignored; holes before the first and after the last bar of a series
    are not seen. Witnesses are the other series of the same exchange and market (spot or perpetual; all of the exchange where
    there is none) that printed shortly before the hole. No witness printed during the hole: `feed_down`. Witnesses printed in
    at least half of it and it is short: `quiet` (no trade, or a halt of this symbol). A few bars on a venue that prints none
    without a trade: `quiet`. Anything else: `unknown`. Only bars that open before `end_ts` are looked at, so the verdict is
    final at `known_at` = close of the bar after the hole. An empty frame gives an empty frame.
    """
    rows = bars.filter(pl.col("timeframe") == timeframe.value).select("symbol", "exchange", pl.col("ts").dt.epoch("ms").alias("at"))
    numbered = rows.with_columns(pl.struct("symbol", "exchange").rank("dense").alias("_series")).sort("_series", "at")
    is_same = pl.col("_series") == pl.col("_series").shift(1)
    start = pl.when(is_same).then(pl.col("at").shift(1) + timeframe.ms).alias("start")
    holes = numbered.with_columns(start).filter(pl.col("at") > pl.col("start")).drop("_series")
    if holes.is_empty():
        return BAR_GAPS.empty()
    groups = _groups(rows.filter(pl.col("exchange").is_in(holes["exchange"].unique().to_list())).unique())
    found = list(_judged(holes, groups, timeframe, params))
    return pl.DataFrame(found, schema=BAR_GAPS.schema, orient="row").sort(BAR_GAPS.sort)


def _judged(
    holes: pl.DataFrame, groups: dict[tuple[str, str], _Group], timeframe: Timeframe, params: CleanParams
) -> Iterator[tuple[object, ...]]:
    for symbol, exchange, end, start in holes.iter_rows():
        near, wide = groups[exchange, _market(symbol)], groups[exchange, ""]
        kind, evidence = _verdict(start, end, near, wide, timeframe.ms, params)
        n_bars = (end - start) // timeframe.ms
        yield start, symbol, exchange, timeframe.value, end, n_bars, kind.value, evidence, end + timeframe.ms


def _market(symbol: str) -> str:
    return "perpetual" if symbol.endswith("-PERP") else "spot"


def _groups(rows: pl.DataFrame) -> dict[tuple[str, str], _Group]:
    market = pl.when(pl.col("symbol").str.ends_with("-PERP")).then(pl.lit("perpetual")).otherwise(pl.lit("spot")).alias("market")
    near = rows.with_columns(market).group_by("exchange", "market", "at").len()
    wide = rows.with_columns(pl.lit("").alias("market")).group_by("exchange", "market", "at").len()
    found = {}
    for (exchange, label), part in pl.concat([near, wide]).sort("at").partition_by("exchange", "market", as_dict=True).items():
        times, counts = part["at"].to_numpy(), part["len"].cast(pl.Int64).to_numpy()
        found[str(exchange), str(label)] = _Group(str(exchange), str(label), times, counts)
    return found


def _verdict(start: int, end: int, near: _Group, wide: _Group, ms: int, params: CleanParams) -> tuple[GapKind, str]:
    n_bars = (end - start) // ms
    seen_from = start - params.gap_peer_lookback_bars * ms
    group = near if near.witnesses(seen_from, start) > 1 else wide
    n_witnesses = group.witnesses(seen_from, start) - 1
    name = f"{group.label} series of {group.exchange}".strip()
    is_small_and_sparse = group.exchange in SPARSE_VENUES and n_bars <= params.gap_sparse_max_bars
    if n_witnesses < 1:
        if is_small_and_sparse:
            return GapKind.QUIET, f"{group.exchange} prints no bar without a trade; no other series to compare"
        return GapKind.UNKNOWN, f"no other series of {group.exchange} to compare"
    printed = group.printed(start, end)
    if not printed:
        return GapKind.FEED_DOWN, f"all {n_witnesses} other {name} are missing too"
    share = f"other {name} printed in {printed} of {n_bars} slots"
    if is_small_and_sparse:
        return GapKind.QUIET, f"{share}; {group.exchange} prints no bar without a trade"
    if 2 * printed < n_bars:
        return GapKind.UNKNOWN, f"{share}: partly the feed, partly this symbol"
    if n_bars * ms > params.gap_quiet_max_hours * 3_600_000:
        return GapKind.UNKNOWN, f"{share}, but the hole is too long for a quiet market: symbol halted or pages lost"
    return GapKind.QUIET, f"{share}: no trade or a halt of this symbol"
