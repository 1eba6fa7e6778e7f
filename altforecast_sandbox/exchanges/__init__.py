"""The venues' REST services, one module per venue, as the real ccxt classes read them.

What belongs here: wire forms. What does not: the market behind them (`market`) and their faults (`faults`).
"""
