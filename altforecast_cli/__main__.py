"""`python -m altforecast_cli` is `altforecast`.

What belongs here: nothing but the call. What does not: everything else.
"""

from altforecast_cli.main import app

app()
