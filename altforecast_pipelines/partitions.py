"""Time partitions: one key per month, from the first Bitcoin bars to the current month.

What belongs here: the partition definition and the way from run tags to months. What does not: timeframes and symbols,
which are rows.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from altforecast.types import Window
from altforecast_io.lake import month_start, next_month

FIRST_MONTH = datetime(2010, 1, 1, tzinfo=UTC)
MONTHLY = dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, timezone="UTC", end_offset=1)
"""The current, unfinished month is included (end_offset=1)."""
ONE_RUN = dg.BackfillPolicy.single_run()
"""A backfill of any range is one run: the work per month is small, the start of a run is not."""
KEY_FORMAT = "%Y-%m-%d"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def month_key(moment: datetime) -> str:
    """Partition key of the month that holds `moment`."""
    return month_start(moment).strftime(KEY_FORMAT)


def range_tags(window: Window) -> dict[str, str]:
    """Run tags that make one run cover all months of a window (whole months, end excluded)."""
    last = month_start(window.end - timedelta(milliseconds=1))
    return {RANGE_START_TAG: month_key(window.start), RANGE_END_TAG: month_key(last)}


def clip(window: Window, now: datetime) -> Window:
    """The months of a window that are partitions: none before FIRST_MONTH, none after the current month."""
    return Window(max(month_start(window.start), FIRST_MONTH), min(window.end, next_month(now)))
