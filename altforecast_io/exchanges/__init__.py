"""Exchanges through ccxt: one way to open a venue, read its markets and its bars.

What belongs here: everything that ccxt is needed for. What does not: suppliers with plain HTTP APIs (`sources`).
"""
