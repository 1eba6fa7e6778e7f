"""Suppliers of data that is not exchange market data: one file per supplier.

What belongs here: their wire formats and clients. What does not: exchanges (`exchanges`) and storage.
"""
