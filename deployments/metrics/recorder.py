"""What a process counts: metrics of the catalogue, with bounded labels, into shared values."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from itertools import product

from prometheus_client.mmap_dict import mmap_key
from prometheus_client.utils import floatToGoString

from deployments.metrics.catalogue import MOST_VALUES, OTHER, Label, Metric, MetricKind
from deployments.metrics.shared_values import SharedValues

Labels = tuple[str, ...]


class Metrics:
    """Of this process, for any thread. values: None counts nothing."""

    def __init__(self, values: SharedValues | None = None) -> None:
        self._values = values
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, Labels], tuple[str, ...]] = {}
        self._seen: dict[tuple[str, str], set[str]] = {}

    def add(self, counter: Metric, *labels: str, amount: float = 1.0) -> None:
        """labels: values in the order of the catalogue."""
        if self._values is not None:
            (key,) = self._keys_of(counter, labels)
            self._values.add(_file(counter, MetricKind.COUNTER), key, amount)

    def begin(self, counter: Metric, *labels: str) -> None:
        """At 0 with every value of the labels that are not given, so that the first of each is an
        increase, too."""
        for others in product(*(label.values for label in counter.labels[len(labels) :])):
            self.add(counter, *labels, *others, amount=0.0)

    def show(self, gauge: Metric, *labels: str, value: float) -> None:
        """As it is now."""
        if self._values is not None:
            (key,) = self._keys_of(gauge, labels)
            self._values.put(_file(gauge, MetricKind.GAUGE), key, value)

    def observe(self, histogram: Metric, *labels: str, value: float) -> None:
        """One more value."""
        if self._values is not None:
            total, *buckets = self._keys_of(histogram, labels)
            file = _file(histogram, MetricKind.HISTOGRAM)
            self._values.add(file, total, value)
            self._values.add(file, buckets[bisect_left(histogram.buckets, value)], 1.0)

    def _keys_of(self, metric: Metric, given: Labels) -> tuple[str, ...]:
        """One, or of a histogram that of the sum and those of its buckets. For an unknown value
        of a label, those of `other`."""
        keys = self._keys.get((metric.name, given))
        if keys is not None:
            return keys
        with self._lock:
            pairs = zip(metric.labels, given, strict=True)
            values = tuple(self._bounded(metric, label, value) for label, value in pairs)
            keys = keys_of(metric, values)
            if metric.kind is MetricKind.HISTOGRAM and self._values is not None:
                for key in keys:  # a bucket that is missing would be taken for a part of the next
                    self._values.add(_file(metric, metric.kind), key, 0.0)
            if values == given:  # others may be without end
                self._keys[metric.name, given] = keys
        return keys

    def _bounded(self, metric: Metric, label: Label, value: str) -> str:
        if label.values:
            return value if value in label.values else OTHER
        seen = self._seen.setdefault((metric.name, label.name), set())
        if len(seen) < MOST_VALUES:
            seen.add(value)
        return value if value in seen else OTHER


def keys_of(metric: Metric, values: Labels) -> tuple[str, ...]:
    """As prometheus_client names the samples of a metric in its files."""
    names = [label.name for label in metric.labels]
    if metric.kind is not MetricKind.HISTOGRAM:
        name = f"{metric.name}_total" if metric.kind is MetricKind.COUNTER else metric.name
        return (mmap_key(metric.name, name, names, list(values), metric.help),)
    bounds = [floatToGoString(bound) for bound in (*metric.buckets, math.inf)]
    bucket, with_bound = f"{metric.name}_bucket", [*names, "le"]
    return (
        mmap_key(metric.name, f"{metric.name}_sum", names, list(values), metric.help),
        *(mmap_key(metric.name, bucket, with_bound, [*values, b], metric.help) for b in bounds),
    )


def _file(metric: Metric, wanted: MetricKind) -> str:
    if metric.kind is not wanted:
        raise ValueError(f"{metric.name} is a {metric.kind}, no {wanted}")
    return f"gauge_{metric.across}" if wanted is MetricKind.GAUGE else str(wanted)
