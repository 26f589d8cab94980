"""What metrics and tests are told of transactions; plain additions only."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# Apache's bounds from 5 s to a day, which its metric gives in seconds under a name that says milliseconds; and shorter ones.
FINISH_BOUNDS_MS: Final = (1, 10, 100, 1000, 5000, 60_000, 600_000, 3_600_000, 43_200_000, 86_400_000)
# Topics are client input; beyond this many everything new is counted under one name.
TOPICS_MAX: Final = 100_000
OTHER: Final = "other"


class TransactionCounters:
    """Since the start: commits and rollbacks by real topic, questions sent, transactions given up, time from half to end."""

    def __init__(self) -> None:
        self.commits: dict[str, int] = {}
        self.rollbacks: dict[str, int] = {}
        self.check_nums = 0
        self.unanswerable_nums = 0
        self.given_up_nums = 0
        self.refused_nums = 0
        self.finish_counts = [0] * (len(FINISH_BOUNDS_MS) + 1)
        self.finish_ms_sum = 0

    def committed(self, topic: str, elapsed_ms: int) -> None:
        """A commit of a transaction that took this long."""
        _add(self.commits, topic)
        self.finish_counts[bisect_left(FINISH_BOUNDS_MS, elapsed_ms)] += 1
        self.finish_ms_sum += elapsed_ms

    def rolled_back(self, topic: str) -> None:
        """A rollback."""
        _add(self.rollbacks, topic)


def _add(counts: dict[str, int], topic: str) -> None:
    if topic not in counts and len(counts) >= TOPICS_MAX:
        topic = OTHER
    counts[topic] = counts.get(topic, 0) + 1
