"""Imports that a long-lived process makes once, so that its first run is as fast as the others.

What belongs here: the heavy modules of the domain. What does not: using them (a process that forks later must not have).
"""


def warm_up() -> None:
    """Import TA-Lib and the compiled scans."""
    import talib  # noqa: F401

    import altforecast.level_scan
    import altforecast.level_touches
    import altforecast.signal_scan  # noqa: F401
