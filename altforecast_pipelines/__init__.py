"""Dagster, and only here: assets, checks, sensors, schedules and how runs are started.

What belongs here: thin framework code. What does not: formulas (altforecast) and disk or network access (altforecast_io).
"""
