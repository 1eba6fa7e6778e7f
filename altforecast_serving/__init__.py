"""The outside of AltForecast: REST API, dashboard and pictures over lake and store.

What belongs here: HTTP, answers and their lineage. What does not: market formulas (`altforecast`), disk and network code
(`altforecast_io`), writing lake tables (pipelines).
"""
