"""The streaming sides of all venues, one module each.

What belongs here: finding them. What does not: their wire forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType

from altforecast.symbols import VENUES
from altforecast_sandbox.streams.wire import StreamService


def _found() -> Mapping[str, StreamService]:
    names = [(venue, f"altforecast_sandbox.streams.{venue}") for venue in VENUES]
    return MappingProxyType({venue: import_module(name).STREAM for venue, name in names if find_spec(name) is not None})


STREAMS = _found()
"""Venue -> its streaming side."""
