"""The asset `book_cuts`: order books at regular times, taken in from landing files.

What belongs here: the asset and its checks. What does not: taking in (`altforecast_pipelines.arbitrage`) and the books.
"""

from altforecast_pipelines.arbitrage import landed_asset
from altforecast_pipelines.checks import no_future, unique_keys

book_cuts = landed_asset(
    "book_cuts",
    checks=(unique_keys("book_cuts"), no_future("book_cuts")),
    doc="Only books that were live at the cut have a row. Taken in once an hour: a month of cuts is the largest file of the lake.",
)
