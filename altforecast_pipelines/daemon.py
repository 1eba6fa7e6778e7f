"""The Dagster daemon with a sensor loop that does not sleep between ticks.

What belongs here: the one constant that Dagster offers no setting for. What does not: anything else about the daemon.
Dagster's loop over sensors lasts at least 5 s, so an alert that comes right after a tick waits up to 5 s for the next one. Our
inbox sensor waits inside its tick, so the loop may go round at once. Start: `python -m altforecast_pipelines.daemon run -w workspace.yaml`.
"""

import dagster._daemon.sensor as sensor_daemon
from dagster._daemon.cli import create_dagster_daemon_cli

LOOP_S = 0.2


def main() -> None:
    """Run Dagster's own command line of the daemon."""
    sensor_daemon.MIN_INTERVAL_LOOP_TIME = LOOP_S  # type: ignore[assignment]
    create_dagster_daemon_cli()()


if __name__ == "__main__":
    main()
