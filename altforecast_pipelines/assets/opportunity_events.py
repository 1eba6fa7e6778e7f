"""The asset `opportunity_events`: what the scanner told, taken in from landing files.

What belongs here: the asset and its checks. What does not: taking in (`altforecast_pipelines.arbitrage`) and the scanner.
"""

from altforecast_pipelines.arbitrage import landed_asset
from altforecast_pipelines.checks import no_future, unique_keys

opportunity_events = landed_asset(
    "opportunity_events",
    checks=(unique_keys("opportunity_events"), no_future("opportunity_events")),
    doc="The realtime process writes a landing file every 10 s at most; a file taken in twice changes nothing.",
)
