"""Streams: the WebSocket side of every venue's stand-in.

What belongs here: wire forms of order books, one file per venue, and what they share. What does not: REST candles (`exchanges`).
"""
