"""Prometheus metrics of one engine, for the operator, in a registry of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ipa_app.engine.board import Report
from ipa_app.errors import UserError

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of an engine. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._waiting = Gauge("ipa_waiting", "Requests waiting for their turn.", registry=self._registry)
        self._drawing = Gauge("ipa_drawing", "Requests being drawn.", registry=self._registry)
        self._phases = Histogram(
            "ipa_phase_seconds",
            "Seconds that requests spent in each phase.",
            ["phase"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._ended = Counter(
            "ipa_requests", "Requests that ended: done, stopped or failed.", ["outcome"], registry=self._registry
        )
        self._refused = Counter(
            "ipa_refused",
            "Requests that were turned away or could not be drawn, by the key of the message.",
            ["reason"],
            registry=self._registry,
        )
        self._watch_process(psutil.Process())
        device = Gauge("ipa_device_memory_bytes", "GPU memory used by PyTorch.", registry=self._registry)
        device.set_function(device_memory)

    def _watch_process(self, process: psutil.Process) -> None:
        files = process.num_handles if hasattr(process, "num_handles") else process.num_fds
        for name, meaning, number in (
            ("ipa_memory_bytes", "Memory used by this process.", lambda: process.memory_info().rss),
            ("ipa_threads", "Threads of this process.", process.num_threads),
            ("ipa_open_files", "Files and connections open in this process.", files),
        ):
            Gauge(name, meaning, registry=self._registry).set_function(number)

    def watch(self, *, waiting: Callable[[], float], drawing: Callable[[], float]) -> None:
        """Set where the numbers of requests come from."""
        self._waiting.set_function(waiting)
        self._drawing.set_function(drawing)

    def watch_replicas(self, reports: Callable[[], Sequence[Report]]) -> None:
        """Set where the numbers of processes elsewhere come from."""
        self._registry.register(_Replicas(reports))

    def phase_took(self, phase: str, seconds: float) -> None:
        """Record the duration of a phase that has ended."""
        self._phases.labels(phase).observe(seconds)

    def ended(self, error: Exception | None) -> str:
        """Count a request that ended, and return its outcome in a word that reveals nothing of what was asked for.

        Args:
            error: what it ended with; None if it has its pictures.
        """
        if isinstance(error, UserError):
            self._ended.labels("failed").inc()
            self._count_refusal(error)
            return error.message.key
        outcome = "stopped" if error else "done"
        self._ended.labels(outcome).inc()
        return outcome

    @contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """Count refusals raised inside the block, by the key of their message."""
        try:
            yield
        except UserError as error:
            self._count_refusal(error)
            raise

    def _count_refusal(self, error: UserError) -> None:
        self._refused.labels(error.message.key or "plain").inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Replicas(Collector):
    """Collects the reports of the replicas of a cluster that are present."""

    def __init__(self, reports: Callable[[], Sequence[Report]]) -> None:
        self._reports = reports

    def collect(self) -> Iterable[Metric]:
        """Yield their metrics; none if there are no replicas."""
        reports = self._reports()
        if not reports:
            return
        drawing = GaugeMetricFamily("ipa_replica_drawing", "Requests that a replica is working on.", labels=["replica"])
        drawn = CounterMetricFamily("ipa_replica_drawn", "Requests that a replica has finished.", labels=["replica"])
        memory = GaugeMetricFamily("ipa_replica_memory_bytes", "Memory used by a replica.", labels=["replica"])
        device = GaugeMetricFamily(
            "ipa_replica_device_memory_bytes", "GPU memory used by PyTorch in a replica.", labels=["replica"]
        )
        for each in reports:
            drawing.add_metric([each.replica], each.drawing)
            drawn.add_metric([each.replica], each.drawn)
            memory.add_metric([each.replica], each.memory)
            device.add_metric([each.replica], each.device_memory)
        yield from (drawing, drawn, memory, device)


def device_memory() -> float:
    """Return the bytes that PyTorch has reserved on the GPU. Never imports it, and works while it is being imported."""
    cuda = sys.modules.get("torch.cuda")
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda.memory_reserved() if cuda and is_initialized and is_initialized() else 0
