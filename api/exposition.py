"""/metrics: the figures as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bottle import response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from artifacts import Shelf
from metrics import BUCKETS_MS, INFINITE, METRICS, PREFIX, SUM, Metric
from store import ALL, Closures, Figures, Lane, Store, WorkerSeen

#: One value of a metric: its labels' values, and it.
Sample = tuple[tuple[str, ...], float]


class Exposition:
    """The one route that Prometheus asks."""

    def __init__(self, store: Store, shelf: Shelf, version: str) -> None:
        """Keep the parts; nothing is opened."""
        self._store = store
        self._shelf = shelf
        self._version = version

    def metrics(self) -> bytes:
        """All figures, in Prometheus' text format."""
        figures, queues = self._store.figures(), self._store.stats()
        lanes, closures, counters = self._store.lanes(), self._store.closures(), self._store.counters()
        gauges = dict(_gauges(figures, queues, lanes, closures, self._store.workers()))
        gauges |= {"build": [((self._version,), 1)], "free_disk_bytes": [((), self._shelf.free_bytes())]}
        moves = {"leases_lost": counters.get("takeovers", 0), "stale_writes_refused": counters.get("stale_refused", 0)}
        counted = figures.counted | moves
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
        registry = CollectorRegistry()
        registry.register(_Families(gauges, counted))
        return generate_latest(registry)


class _Families(Collector):
    """What prometheus_client asks for the values: every name of METRICS, whether it has a value yet or not."""

    def __init__(self, gauges: Mapping[str, Iterable[Sample]], counted: Mapping[str, int]) -> None:
        self._gauges = gauges
        self._counted = counted

    def collect(self) -> Iterator[Family]:
        series = _by_metric(self._counted)
        for name, metric in METRICS.items():
            if metric.kind == "gauge":
                yield _gauge(name, metric, self._gauges.get(name, ()))
            elif metric.kind == "counter":
                yield _counter(name, metric, series.get(name, {}))
            else:
                yield _histogram(name, metric, series.get(name, {}))


def _by_metric(counted: Mapping[str, int]) -> dict[str, dict[tuple[str, ...], int]]:
    """The fields by metric; what no metric of this release is called, another release wrote."""
    found: dict[str, dict[tuple[str, ...], int]] = {}
    for field, number in counted.items():
        name, *labels = field.split("|")
        extra = METRICS[name].kind == "histogram" if name in METRICS else 0
        if name in METRICS and len(labels) == len(METRICS[name].labels) + extra:
            found.setdefault(name, {})[tuple(labels)] = number
    return found


def _gauge(name: str, metric: Metric, samples: Iterable[Sample]) -> Family:
    family = GaugeMetricFamily(PREFIX + name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _counter(name: str, metric: Metric, series: Mapping[tuple[str, ...], int]) -> Family:
    family = CounterMetricFamily(PREFIX + name, metric.help, labels=metric.labels)
    for labels, value in series.items():
        family.add_metric(labels, value)
    return family


def _histogram(name: str, metric: Metric, series: Mapping[tuple[str, ...], int]) -> Family:
    family = HistogramMetricFamily(PREFIX + name, metric.help, labels=metric.labels)
    for labels in dict.fromkeys(labels[:-1] for labels in series):
        buckets, total = [], 0
        for bound in (*map(str, BUCKETS_MS), INFINITE):
            total += series.get((*labels, bound), 0)
            buckets.append(("+Inf" if bound == INFINITE else str(int(bound) / 1000), total))
        family.add_metric(labels, buckets, series.get((*labels, SUM), 0) / 1000)
    return family


def _gauges(
    figures: Figures,
    queues: Mapping[str, Mapping[str, int]],
    lanes: Mapping[str, Lane],
    closures: Closures,
    workers: Sequence[WorkerSeen],
) -> Iterator[tuple[str, Sequence[Sample]]]:
    states = [((queue, state), number) for queue, counts in queues.items() for state, number in counts.items()]
    yield "jobs", [(labels, number) for labels, number in states if labels[1] not in ("completed", "failed")]
    yield "queue_oldest_age_seconds", [((queue,), age / 1000) for queue, age in figures.oldest_ms.items()]
    yield "queue_paused", [((queue,), int(bool({queue, ALL} & closures.paused.keys()))) for queue in queues]
    yield "workers", [((), len(workers))]
    busy = sum(len(worker.jobs) for worker in workers)
    yield "slots", [(("busy",), busy), (("free",), max(0, sum(worker.slots for worker in workers) - busy))]
    ages = [((worker.name,), worker.beat_age_ms / 1000) for worker in workers]
    yield "worker_heartbeat_age_seconds", ages
    yield "webhook_pending", [((name,), lane.pending) for name, lane in lanes.items()]
    yield "webhook_exhausted", [((name,), lane.exhausted) for name, lane in lanes.items()]
    yield "webhook_lag_seconds", [((name,), lane.lag_ms / 1000) for name, lane in lanes.items()]
    yield "dead_letters", [((), figures.dead)]
    yield "kept_bytes", [((), figures.kept_bytes)]
    yield "redis_memory_bytes", [((), figures.memory_bytes)]
