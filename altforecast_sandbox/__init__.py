"""Stand-ins for everything outside: a seeded market and the services that would report it.

What belongs here: invented data and servers that speak the wire contracts of real services. What does not: our own
product code; of it only `altforecast` (names and types) is imported.
"""
