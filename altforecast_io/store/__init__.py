"""The operational store: what must survive a restart and is not a lake table.

What belongs here: engine, schema, migrations and one query file per noun. What does not: derived market data (the lake)
and framework code.
"""
