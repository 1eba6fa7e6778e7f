"""The `altforecast` command line.

What belongs here: parsing words, calling the floor below, showing the answer. What does not: logic of its own.
"""
