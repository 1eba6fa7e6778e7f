"""`uvicorn altforecast_serving.main_api:app`: the API alone, without the realtime engine.

What belongs here: re-exporting the app. What does not: building it (`app`). It is built when first asked for, so that
importing this module reads no settings.
"""

from __future__ import annotations

from functools import cache

from fastapi import FastAPI

from altforecast_io.logs import configure_logs
from altforecast_io.settings import Settings
from altforecast_serving.app import create_app


@cache
def _app() -> FastAPI:
    settings = Settings.load()
    configure_logs(settings.log_level, settings.log_dir, "api")
    return create_app(settings)


def __getattr__(name: str) -> FastAPI:
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
