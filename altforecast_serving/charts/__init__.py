"""Pictures drawn as text, without a library.

What belongs here: pure functions from rows to SVG. What does not: reading rows, HTTP.
"""
