"""What assets and sensors get handed: settings, clock, lake and store of this environment.

What belongs here: opening them once per process. What does not: reading or writing through them.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from altforecast import CODE_VERSION
from altforecast_io.clock import Clock, utc_now
from altforecast_io.lake import Lake
from altforecast_io.provenance import Provenance
from altforecast_io.settings import Settings
from altforecast_io.store.engine import Store, open_store

if TYPE_CHECKING:
    from altforecast.forecast_packs import Pack
    from altforecast_pipelines.due import Progress
    from altforecast_pipelines.forecasts import Refresh
    from altforecast_pipelines.training import Classroom


class House:
    """Settings, clock, lake and store of one environment; each is opened at its first use and kept (resource key `house`)."""

    def __init__(self, load_settings: Callable[[], Settings] = Settings.load, clock: Clock = utc_now) -> None:
        self._load_settings = load_settings
        self.clock = clock
        self.progress: dict[str, Progress] = {}
        """What the run of this process has built so far (`due`)."""
        self.packs: dict[str, Pack] = {}
        """Loaded models by version, those in use only (`forecasters`)."""
        self.refreshes: dict[str, list[Refresh]] = {}
        """What the forecasting run of this process has read and is about to say (`forecasts`)."""
        self.classrooms: dict[str, Classroom] = {}
        """What the training run of this process has read (`training`)."""

    @cached_property
    def settings(self) -> Settings:
        """Effective settings."""
        return self._load_settings()

    @cached_property
    def lake(self) -> Lake:
        """The environment's lake."""
        return Lake(self.settings.lake_dir, self.settings.environment)

    @cached_property
    def store(self) -> Store:
        """The environment's operational store."""
        return open_store(self.settings.database_url, self.settings.environment)

    def provenance(self, asset: str, run_id: str) -> Provenance:
        """The record for what one asset writes in one run."""
        return Provenance(asset, run_id, CODE_VERSION, self.settings.environment, self.clock())
