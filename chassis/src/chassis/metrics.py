"""Prometheus metrics of one service: totals over all its workers, and `process_*` of the whole process tree."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chassis import losses, process

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.registry import Collector

# Seconds. Ready answers take under 1 ms; 0.3 is the latency objective and 10 the deadline.
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "OTHER"})

SERVER_ERRORS = (500, 503, 504)
"""Counted from 0: a counter that comes into being with its first event has no increase yet, so no rate would show the
first error, and a query for errors would be empty instead of 0.
"""


class Pool(Protocol):
    """What `watch_pool` needs to know of a connection pool."""

    def stats(self) -> dict[str, int]:
        """`size`, `in_use`, `available`, `waiting`: numbers of connections and of waiting callers."""


class Metrics:
    """The metrics of one application.

    Each instance has a registry of its own, so tests can build many. With many workers (`PROMETHEUS_MULTIPROC_DIR`
    is set by `chassis.gunicorn`) values live in files of that directory and `exposition` adds them up.
    """

    def __init__(self, *, service: str, version: str, commit: str) -> None:
        # prometheus_client picks single or multi-process mode when it is imported; gunicorn's configuration, which
        # runs first, must have set the directory by then. So it is imported here and nowhere else.
        import prometheus_client as prometheus

        from chassis import metrics_files

        metrics_files.install()
        self._prometheus = prometheus
        self._labels = (service, version, commit)
        self._multiprocess = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._samplers: list[Callable[[], None]] = []
        self._collectors: list[Collector] = []
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self.service = service
        self.registry = prometheus.CollectorRegistry()
        self._requests = self.counter(
            f"{service}_http_requests_total", "HTTP requests answered", ("method", "endpoint", "status")
        )
        self._durations = self.histogram(
            f"{service}_http_request_duration_seconds", "Time to answer, seconds", ("method", "endpoint")
        )
        self._errors = self.counter("app_errors_total", "Errors on our side by type", ("service", "type"))
        self.expect_errors("unavailable", "deadline-exceeded")

    # --- making metrics ---

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A counter; its value is the sum over the workers."""
        return self._prometheus.Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = (), *, over_workers: str = "livesum") -> Gauge:
        """A gauge; `over_workers` says how live workers' values become one: `livesum`, `livemax`, `livemin` …"""
        return self._prometheus.Gauge(name, text, labels, registry=self.registry, multiprocess_mode=over_workers)  # type: ignore[arg-type]

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = DURATION_BUCKETS
    ) -> Histogram:
        """A histogram with upper bounds `buckets`."""
        return self._prometheus.Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    def collector(self, collector: Collector) -> None:
        """Add a collector whose values are worked out at each scrape, in the worker that answers it."""
        self._collectors.append(collector)

    # --- counting from 0 ---

    def expect_requests(self, method: str, endpoint: str) -> None:
        """Let the `SERVER_ERRORS` of an endpoint be there before the first of them. A series takes 1.2 KB, so this is
        not for every status.
        """
        for status in SERVER_ERRORS:
            self._requests.labels(method, endpoint, status)

    def expect_errors(self, *kinds: str) -> None:
        """The same for kinds of `app_errors_total`."""
        for kind in kinds:
            self._errors.labels(self.service, kind)

    # --- recording ---

    def request(self, method: str, endpoint: str, status: int, duration_s: float) -> None:
        """Count one answered request. `endpoint` is a route's name, never a path; odd methods become `OTHER`."""
        key = (method, endpoint, status)
        children = self._children.get(key)
        if children is None:
            if method not in METHODS:
                return self.request("OTHER", endpoint, status, duration_s)
            children = (self._requests.labels(method, endpoint, status), self._durations.labels(method, endpoint))
            self._children[key] = children
        children[0].inc()
        children[1].observe(duration_s)
        return None

    def tally(self) -> Tally:
        """Another way to count requests, for a thread that cannot spend on each what `request` costs."""
        return Tally(self._requests, self._durations)

    def count_error(self, kind: str) -> None:
        """Count an error on our side in `app_errors_total`; `kind` is a class name or a problem's slug."""
        self._errors.labels(self.service, kind).inc()

    # --- sampling ---

    def sampler(self, function: Callable[[], None]) -> None:
        """Call `function` at each `sample`: it sets gauges that would cost too much to keep true all the time."""
        self._samplers.append(function)

    def sample(self) -> None:
        """Refresh the sampled gauges; the background thread does it."""
        for function in self._samplers:
            function()

    def watch_pool(self, pool: Pool) -> None:
        """Report `db_pool_connections{state}` and `db_pool_size` of `pool`."""
        connections = self.gauge("db_pool_connections", "Database connections of the pools by state", ("state",))
        size = self.gauge("db_pool_size", "Most database connections that the pools may hold")

        def read() -> None:
            stats = pool.stats()
            connections.labels("in_use").set(stats["in_use"])
            connections.labels("available").set(stats["available"])
            size.set(stats["size"])

        self.sampler(read)
        read()

    # --- answering ---

    def exposition(self) -> tuple[bytes, str]:
        """The text for Prometheus and its content type."""
        return self._text(), self._prometheus.CONTENT_TYPE_LATEST

    def samples(self, *names: str) -> Iterator[tuple[str, dict[str, str], float]]:
        """(name, labels, value) of the samples of those names, totals over all workers.

        Reads the files of all workers: for pages that people look at, not for every request.
        """
        if self._multiprocess:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = self._prometheus.CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry = self.registry
        for family in registry.collect():
            for sample in family.samples:
                if sample.name in names:
                    yield sample.name, sample.labels, sample.value

    def _text(self) -> bytes:
        registry = self._prometheus.CollectorRegistry()
        if self._multiprocess:
            from prometheus_client.multiprocess import MultiProcessCollector

            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        for collector in [_Facts(*self._labels), *self._collectors]:
            registry.register(collector)
        text = self._prometheus.generate_latest(registry)
        if not self._multiprocess:
            text += self._prometheus.generate_latest(self.registry)
        return text


class Tally:
    """Counts requests in plain memory; `flush` takes them over into the metrics. Used by one thread, an event loop.

    Three numbers in files mapped into memory are a fifth of what a cached answer costs the edge; here they are a
    twentieth. The price is that a worker that is killed takes with it what was counted since the last flush.
    """

    def __init__(self, requests: Counter, durations: Histogram) -> None:
        self._requests = requests
        self._durations = durations
        self._bounds = list(DURATION_BUCKETS)
        self._entries: dict[tuple[str, str, int], _Entry] = {}

    def request(self, method: str, endpoint: str, status: int, duration_s: float) -> None:
        """As `Metrics.request`."""
        entry = self._entries.get((method, endpoint, status))
        if entry is None:
            known = method if method in METHODS else "OTHER"
            entry = _Entry(self._requests.labels(known, endpoint, status), self._durations.labels(known, endpoint))
            if known == method:  # what clients make up is not remembered
                self._entries[(method, endpoint, status)] = entry
            else:
                entry.add(duration_s, bisect_left(self._bounds, duration_s))
                entry.flush()
                return
        entry.add(duration_s, bisect_left(self._bounds, duration_s))

    def flush(self) -> None:
        """Take over what was counted. To be called every second or so, before `exposition`, and at the end."""
        for entry in self._entries.values():
            if entry.count:
                entry.flush()


class _Entry:
    """The requests of one method, endpoint and status since the last flush."""

    __slots__ = ("_buckets", "_counter", "_histogram", "_sum_s", "count")

    def __init__(self, counter: Any, histogram: Any) -> None:
        self._counter = counter
        self._histogram = histogram
        self._sum_s = 0.0
        self._buckets = [0] * (len(DURATION_BUCKETS) + 1)
        self.count = 0

    def add(self, duration_s: float, bucket: int) -> None:
        self.count += 1
        self._sum_s += duration_s
        self._buckets[bucket] += 1

    def flush(self) -> None:
        self._counter.inc(self.count)
        # The library has no way to observe many at once; what it does for one is to add to these two.
        self._histogram._sum.inc(self._sum_s)  # noqa: SLF001
        for number, count in enumerate(self._buckets):
            if count:
                self._histogram._buckets[number].inc(count)  # noqa: SLF001
                self._buckets[number] = 0
        self.count = 0
        self._sum_s = 0.0


class _Facts:
    """`build_info`, `app_uptime_seconds` and `process_*`: read at each scrape, so no dead worker leaves them behind."""

    def __init__(self, service: str, version: str, commit: str) -> None:
        self._service, self._version, self._commit = service, version, commit

    def collect(self) -> Any:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        build = GaugeMetricFamily("build_info", "What is running", labels=("version", "commit"))
        build.add_metric((self._version, self._commit), 1)
        yield build
        tree = process.tree_usage()
        yield GaugeMetricFamily(
            "app_uptime_seconds", "Seconds since the service started", time.time() - tree.start_time_s
        )
        yield CounterMetricFamily(
            "process_cpu_seconds", "CPU time of the master and all workers there ever were, seconds", tree.cpu_s
        )
        yield CounterMetricFamily(
            "app_workers_lost", "Workers that died without being told to end", losses.OF_THIS_SERVICE.count
        )
        yield GaugeMetricFamily("process_start_time_seconds", "Start of the master, Unix time", tree.start_time_s)
        for name, text, value in (
            (
                "process_resident_memory_bytes",
                "Resident memory of master and workers, shared pages once",
                tree.resident_bytes,
            ),
            ("process_virtual_memory_bytes", "Virtual memory, summed over master and workers", tree.virtual_bytes),
            ("process_open_fds", "Open file descriptors, summed over master and workers", tree.open_fds),
            ("process_max_fds", "Limit of open file descriptors, summed over master and workers", tree.max_fds),
        ):
            yield GaugeMetricFamily(name, text, value)
