"""`python -m realtime`: settings, logs, signals, loop.

What belongs here: the process around `app.run`. What does not: what runs in it.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
import uvloop

from altforecast.errors import AltForecastError
from altforecast_io.logs import configure_logs
from altforecast_io.settings import Settings
from realtime.app import run


async def _run_until_signal(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop)


def main() -> int:
    """Run until SIGTERM or SIGINT; 0 for a clean stop, 2 for one of our errors at start, 1 for a bug."""
    try:
        settings = Settings.load()
        configure_logs(settings.log_level, settings.log_dir, "realtime")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run_until_signal(settings))
    except Exception as error:
        causes = _causes(error)
        if not all(isinstance(cause, AltForecastError) for cause in causes):
            structlog.get_logger("realtime").exception("realtime_failed")
            return 1
        for cause in causes:
            print(f"error: {cause}", file=sys.stderr)
        return 2
    return 0


def _causes(error: Exception) -> list[Exception]:
    """The errors inside a group of groups, or the error itself."""
    return [cause for inner in error.exceptions for cause in _causes(inner)] if isinstance(error, ExceptionGroup) else [error]


if __name__ == "__main__":
    sys.exit(main())
