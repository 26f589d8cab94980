"""How long requests take, as histograms."""

from __future__ import annotations

LATENCY_BOUNDS_MS = (1, 3, 5, 7, 10, 100, 1000, 2000, 3000)


class LatencyBuckets:
    """A histogram over `LATENCY_BOUNDS_MS`; the last count is of everything slower."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, ms: float, times: int = 1) -> None:
        """Count one value ``times`` times."""
        self.sum_ms += ms * times
        if ms <= 1:
            self.counts[0] += times
            return
        for index, bound in enumerate(LATENCY_BOUNDS_MS):
            if ms <= bound:
                self.counts[index] += times
                return
        self.counts[-1] += times
