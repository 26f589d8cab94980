"""Plain counters of the timer service; metrics are made of them elsewhere."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Final

LATENESS_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 60_000)
SAMPLES: Final = 11


class TimerCounters:
    """By topic: messages put into the wheel and delivered. Lateness is in ms from due time to delivery."""

    __slots__ = (
        "_samples",
        "dequeued",
        "enqueued",
        "lateness_counts",
        "lateness_ms_max",
        "lateness_ms_sum",
        "recalled_nums",
    )

    def __init__(self) -> None:
        self.enqueued: dict[str, int] = {}
        self.dequeued: dict[str, int] = {}
        self.recalled_nums = 0
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=SAMPLES)
        self.lateness_counts = [0] * (len(LATENESS_BOUNDS_MS) + 1)
        self.lateness_ms_sum = 0
        self.lateness_ms_max = 0

    def sample(self, now_s: float) -> None:
        """Note the totals of a monotonic time, about once a second, for `rates`."""
        self._samples.append((now_s, sum(self.enqueued.values()), sum(self.dequeued.values())))

    def rates(self) -> tuple[float, float]:
        """Messages put into the wheel, and delivered, per second over the last ten seconds or so."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        (first_s, *first), (last_s, *last) = self._samples[0], self._samples[-1]
        seconds = max(last_s - first_s, 0.001)
        return (last[0] - first[0]) / seconds, (last[1] - first[1]) / seconds

    def note_enqueued(self, topic: str) -> None:
        """A message, or a recall, was put into the wheel."""
        self.enqueued[topic] = self.enqueued.get(topic, 0) + 1

    def note_dequeued(self, topic: str, late_ms: int) -> None:
        """A message was delivered."""
        self.dequeued[topic] = self.dequeued.get(topic, 0) + 1
        self.lateness_counts[bisect_left(LATENESS_BOUNDS_MS, late_ms)] += 1
        self.lateness_ms_sum += late_ms
        if late_ms > self.lateness_ms_max:
            self.lateness_ms_max = late_ms

    def forget_topic(self, topic: str) -> None:
        """The topic was deleted."""
        self.enqueued.pop(topic, None)
        self.dequeued.pop(topic, None)
