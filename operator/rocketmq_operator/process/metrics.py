"""What the operator counts, as Prometheus families."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rocketmq_common.exposition import COUNTER, GAUGE, HISTOGRAM, Family

DURATION_BOUNDS_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0)
PREFIX = "rocketmq_operator"


class ReconcileMetrics:
    """Passes by kind and result, and how long they took."""

    def __init__(self) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def observe(self, kind: str, result: str, seconds: float) -> None:
        """One pass ended; ``result`` is success or error."""
        self.results[kind, result] += 1
        buckets = self._buckets.setdefault(kind, [0] * (len(DURATION_BOUNDS_SECONDS) + 1))
        buckets[bisect_left(DURATION_BOUNDS_SECONDS, seconds)] += 1
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    def families(self) -> Iterator[Family]:
        """Two families."""
        passes = Family(COUNTER, f"{PREFIX}_reconcile_total", "Passes over objects.", {}, ("kind", "result"))
        for labels, count in sorted(self.results.items()):
            passes.add(labels, count)
        yield passes
        times = Family(HISTOGRAM, f"{PREFIX}_reconcile_duration_seconds", "Duration of passes.", {}, ("kind",))
        for kind, buckets in sorted(self._buckets.items()):
            times.add_histogram((kind,), DURATION_BOUNDS_SECONDS, buckets, self._seconds[kind])
        yield times


def gauge(name: str, text: str, value: float) -> Family:
    """A family of one value."""
    family = Family(GAUGE, f"{PREFIX}_{name}", text, {})
    family.add((), value)
    return family


def labelled(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Family:
    """A counter by labels."""
    family = Family(COUNTER, f"{PREFIX}_{name}", text, {}, labels)
    for key, value in sorted(values):
        family.add(key, value)
    return family
