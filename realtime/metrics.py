"""What this process counts of books, connections and opportunities, in the default Prometheus registry.

What belongs here: names, units and buckets of metrics. What does not: counting (`board`, `arbitrage`) and showing (serving).
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

MD_LAG = Histogram(
    "md_lag_ms",
    "Delay of order book updates above the smallest delay of the last ten minutes, sampled four times a second [ms]",
    ["venue"],
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000),
)
RECONNECTS = Counter("ws_reconnects_total", "Connections made anew, by reason", ["venue", "reason"])
GAPS = Counter("orderbook_gap_events", "Holes in a venue's sequence, by venue", ["venue"])
BOOK_AGE = Gauge("book_age_ms", "Age of the newest update of a venue's most silent live book [ms]", ["venue"])
CROSSED = Counter("crossed_total", "Books withdrawn because they stayed crossed", ["venue"])
LOOP_LAG = Gauge("loop_lag_ms", "Longest delay of the event loop in the last minute [ms]")
DROPPED = Counter("dropped_total", "Messages dropped because a bounded queue was full, by its strategy", ["strategy"])
OPPORTUNITIES = Gauge("opportunities_detected_per_minute", "Opportunities opened in the last minute [1/min]")
NET_EDGE = Histogram(
    "net_edge_distribution",
    "Net edge of opportunities when they opened [percent]",
    buckets=(0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0),
)
CHANCE_BRIER = Gauge("capture_chance_brier", "Brier score of the capture chances that were given; 0 is perfect")
CHANCE_BASE_BRIER = Gauge("capture_chance_base_brier", "Brier score of always saying the overall rate instead")
CHANCE_OUTCOMES = Gauge("capture_chance_outcomes", "Opportunities whose given capture chance came true or not [count]")
MESSAGES = Counter("book_messages_total", "Frames received from a venue's streams", ["venue"])
LIVE_BOOKS = Gauge("live_books", "Books that may be used", ["venue"])
EVALUATIONS = Counter("scan_evaluations_total", "Evaluations of changed books")
EVALUATION_SECONDS = Histogram(
    "scan_evaluation_seconds",
    "Length of one evaluation of changed books [s]",
    buckets=(5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05),
)
