"""Sessions: one venue's order book protocol each, without any I/O.

What belongs here: frames in, books and frames out. What does not: sockets, clocks, tasks (`realtime.feeds`).
"""
