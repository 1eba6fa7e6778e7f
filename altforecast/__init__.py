"""Pure market logic of AltForecast: numbers in, numbers out.

What belongs here: definitions, formulas and schemas of the market domain. What does not: files, network,
clocks, environment variables and frameworks (they live in altforecast_io and the applications).
"""

CODE_VERSION = "2026.11.3"
"""Version of every number-changing definition in this package; recorded in the provenance of each lake file."""
