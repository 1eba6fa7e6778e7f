"""Measurements: each script compares with a named reference in the same run and prints JSON lines.

What belongs here: speed and memory. What does not: correctness (tests).
"""
