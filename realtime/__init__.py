"""The always-on process: takes what arrives, keeps it, and hosts the API beside it.

What belongs here: tasks, their owners, policies and ends. What does not: anything derived from bars (the pipelines) and
anything that a restart would lose.
"""
