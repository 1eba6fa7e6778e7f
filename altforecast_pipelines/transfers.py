"""The job that asks venues what it costs to take a coin off them, and when it runs.

What belongs here: which venues are due, the op, its account. What does not: asking (`altforecast_io.exchanges.transfers`),
what the scanner makes of the answer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from altforecast_io.exchanges.venues import TELLS_TRANSFERS
from altforecast_io.settings import Settings
from altforecast_io.store.transfers import answered_at, save_terms
from altforecast_pipelines.instance import QUIET
from altforecast_pipelines.resources import House

DUE_AFTER = timedelta(minutes=57)
"""A venue is asked again when its answer is this old."""
NEEDS_KEY = "needs a key"


class TransferTermsConfig(dg.Config):
    """Whom to ask."""

    venues: list[str] = Field(default_factory=list)
    """Empty stands for every venue of BOOK_VENUES that answers without a key."""


@dg.op(pool="exchanges", description="Withdrawal fees, networks and states of BOOK_VENUES that tell them without a key, into the store.")
def fetch_transfer_terms(context: dg.OpExecutionContext, config: TransferTermsConfig, house: dg.ResourceParam[House]) -> None:
    from altforecast_io.exchanges.transfers import ask_venues

    found: dict[str, str] = {}
    rows = 0
    wanted = config.venues or keyless(house.settings)
    for answer in ask_venues(house.settings, wanted, house.clock) if wanted else ():
        if answer.failure:
            context.log.warning(f"{answer.venue}: {answer.failure}")
            found[answer.venue] = answer.failure
            continue
        rows += save_terms(house.store, answer.venue, answer.terms)
        found[answer.venue] = f"{len(answer.terms)} networks of {len({t.coin for t in answer.terms})} coins"
    others = {venue: NEEDS_KEY for venue in house.settings.book_venues if venue not in TELLS_TRANSFERS}
    context.add_output_metadata({"rows": rows, "venues": {**found, **others}})


@dg.job(executor_def=dg.in_process_executor, config=QUIET)
def transfer_terms() -> None:
    """Ask venues for the terms of transfers; the newest answer of each venue stays."""
    fetch_transfer_terms()


@dg.schedule(
    job=transfer_terms,
    cron_schedule="3-59/5 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Hourly per venue; a venue that failed is asked again at the next look, five minutes later.",
)
def transfer_terms_schedule(context: dg.ScheduleEvaluationContext, house: dg.ResourceParam[House]) -> dg.RunRequest | dg.SkipReason:
    """A run for the venues whose answers are missing or an hour old."""
    if not house.settings.arbitrage_enable:
        return dg.SkipReason("ARBITRAGE_ENABLE is off")
    now = house.clock()
    venues = due(keyless(house.settings), answered_at(house.store), now)
    if not venues:
        return dg.SkipReason("no venue is due")
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time.isoformat()}", run_config=config_of(venues))


def keyless(settings: Settings) -> list[str]:
    """Venues whose books are kept and that tell their terms without a key, in the order of BOOK_VENUES."""
    return [venue for venue in settings.book_venues if venue in TELLS_TRANSFERS]


def due(venues: Sequence[str], answered: Mapping[str, datetime], now: datetime) -> list[str]:
    """Those that never answered or whose answer is DUE_AFTER old."""
    return [venue for venue in venues if venue not in answered or now - answered[venue] >= DUE_AFTER]


def config_of(venues: Sequence[str]) -> dict[str, Any]:
    """Run configuration that asks these venues alone."""
    return QUIET | {"ops": {"fetch_transfer_terms": {"config": {"venues": list(venues)}}}}
