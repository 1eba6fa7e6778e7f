"""The code location: everything that Dagster is told.

What belongs here: putting the registries together. What does not: any definition of its own.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from altforecast_io.settings import Settings  # noqa: E402
from altforecast_pipelines.arbitrage_sensors import arbitrage_sensor  # noqa: E402
from altforecast_pipelines.assets import GROUPS  # noqa: E402
from altforecast_pipelines.forecast_sensors import FORECAST_SENSORS  # noqa: E402
from altforecast_pipelines.jobs import JOBS  # noqa: E402
from altforecast_pipelines.resources import House  # noqa: E402
from altforecast_pipelines.schedules import SCHEDULES  # noqa: E402
from altforecast_pipelines.sensors import SENSORS  # noqa: E402


def build_definitions(load_settings: Callable[[], Settings] = Settings.load, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions; `overrides` replaces resources by key (tests give a House of their own)."""
    modules = [module for group in GROUPS.values() for module in group]
    return dg.Definitions(
        assets=dg.load_assets_from_modules(modules),
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=(*SENSORS, arbitrage_sensor, *FORECAST_SENSORS),
        resources={"house": House(load_settings), **(overrides or {})},
        executor=dg.in_process_executor,
    )


defs = build_definitions()
