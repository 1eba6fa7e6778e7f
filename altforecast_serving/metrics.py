"""Prometheus metrics of one app, in a registry of its own.

What belongs here: names, labels and rendering. What does not: when they are counted (the access log, the health query).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of one app; labels are bounded (route templates, never raw paths)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("http_requests_total", "HTTP requests answered", ("method", "route", "status"), registry=self.registry)
        self.seconds = Histogram("http_request_seconds", "Time to answer [s]", ("route",), buckets=SECONDS, registry=self.registry)
        self.limited = Counter("http_rate_limited_total", "Requests refused by the rate limit", registry=self.registry)
        self.cached = Counter("answer_cache_total", "Answers by where they came from", ("outcome",), registry=self.registry)
        self._gauges: dict[str, Gauge] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One answered request."""
        self.requests.labels(method if method in METHODS else "OTHER", route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def set_gauge(self, name: str, meaning: str, value: float | None) -> None:
        """Set a gauge, created on first use; None sets NaN (not known)."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, meaning, registry=self.registry)
        self._gauges[name].set(float("nan") if value is None else value)

    def set_labelled(self, name: str, meaning: str, labels: Mapping[str, str], value: float | None) -> None:
        """Set one value of a gauge with labels (always the same ones, with few values); None sets NaN."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, meaning, tuple(labels), registry=self.registry)
        self._gauges[name].labels(**labels).set(float("nan") if value is None else value)

    def clear_labelled(self, name: str) -> None:
        """Forget all values of a gauge, so that those which are no longer set do not go on; nothing where it does not exist."""
        if name in self._gauges:
            self._gauges[name].clear()

    def render(self) -> bytes:
        """Prometheus text format: this app's metrics, then those of the process (outgoing calls, bus, books) that it does not have."""
        return generate_latest(_Both(self.registry, REGISTRY))


class _Both:
    """Two registries as one; a name that the first one has is not repeated."""

    def __init__(self, first: CollectorRegistry, second: CollectorRegistry) -> None:
        self._first, self._second = first, second

    def collect(self) -> Iterator[Metric]:
        """Every metric once."""
        seen = set()
        for metric in self._first.collect():
            seen.add(metric.name)
            yield metric
        yield from (metric for metric in self._second.collect() if metric.name not in seen)
