"""Counters for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from noisereel.serve.store import Store

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.submitted = Counter("noisereel_jobs_submitted", "Jobs accepted", ["model"], registry=self.registry)
        self.ended = Counter("noisereel_jobs_ended", "Jobs that ended, by how", ["model", "state"], registry=self.registry)
        self.deaths = Counter("noisereel_worker_deaths", "Worker processes that died", registry=self.registry)
        self.sampling = Histogram(
            "noisereel_sampling_seconds", "Sampling, of a batch", ["model"], registry=self.registry, buckets=_SECONDS
        )
        self.jobs = Gauge("noisereel_jobs", "Jobs on record, by state", ["state"], registry=self.registry)
        self.listeners = Gauge("noisereel_event_streams", "Open streams of events", registry=self.registry)

    def text(self, store: Store, listeners: int) -> bytes:
        """In Prometheus' format."""
        counts = store.counts()
        for state in ("queued", "in_progress", "completed", "failed"):
            self.jobs.labels(state).set(counts.get(state, 0))
        self.listeners.set(listeners)
        return generate_latest(self.registry)
