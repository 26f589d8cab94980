"""Latencies in bounded memory: buckets that grow by 2 %, so that every percentile is right to 2 %."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

GROWTH = math.log(1.02)
SMALLEST_MS = 0.001


class Histogram:
    """Counts of values in ms; can be added up and sent between processes."""

    __slots__ = ("counts", "max_ms", "sum_ms", "total")

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.total = 0
        self.sum_ms = 0.0
        self.max_ms = 0.0

    def add(self, ms: float, times: int = 1) -> None:
        """Count ``ms``, ``times`` times; values below a microsecond count as one."""
        bucket = int(math.log(max(ms, SMALLEST_MS) / SMALLEST_MS) / GROWTH)
        self.counts[bucket] += times
        self.total += times
        self.sum_ms += ms * times
        if ms > self.max_ms:
            self.max_ms = ms

    def merge(self, other: Histogram) -> None:
        """Add the counts of ``other``."""
        self.counts.update(other.counts)
        self.total += other.total
        self.sum_ms += other.sum_ms
        self.max_ms = max(self.max_ms, other.max_ms)

    def percentile(self, share: float) -> float:
        """The value in ms below which ``share`` (0 to 1) of the values lie; 0 when there are none."""
        if not self.total:
            return 0.0
        wanted = share * self.total
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(SMALLEST_MS * math.exp((bucket + 1) * GROWTH), self.max_ms)
        return self.max_ms

    def summary(self) -> Mapping[str, float]:
        """Average, percentiles and maximum in ms, rounded to microseconds."""
        average = self.sum_ms / self.total if self.total else 0.0
        values = {
            "avg_ms": average,
            "p50_ms": self.percentile(0.5),
            "p95_ms": self.percentile(0.95),
            "p99_ms": self.percentile(0.99),
            "p999_ms": self.percentile(0.999),
            "max_ms": self.max_ms,
        }
        return {name: round(value, 3) for name, value in values.items()}
