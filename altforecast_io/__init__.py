"""Everything that touches disk or network; no web or orchestration framework.

What belongs here: settings, logs, lake, store, sources, exchanges. What does not: market formulas (altforecast) and
framework code (the applications).
"""
