"""Plain counters that the request processors add to; rings, rates and metrics are made of them elsewhere.

Only integers and floats, only additions, each counter fetched once and kept: a counter costs the hot path tens of nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from rocketmq_common import names

# Apache's put latency and message size bounds are its own; these are the buckets of rocketmq_message_size (bytes).
MESSAGE_SIZE_BOUNDS = (1024, 4096, 512 * 1024, 1 << 20, 2 << 20, 4 << 20)
SMALL_SIZE_MAX = MESSAGE_SIZE_BOUNDS[0]
# Keys are client input; beyond this many entries everything new is counted under one name.
COUNTERS_MAX = 200_000
OTHER = "other"


class TopicCounters:
    """Of one topic: messages and stored body bytes put, messages refused, messages by size."""

    __slots__ = ("_larger_counts", "put_failed", "put_nums", "put_size")

    def __init__(self) -> None:
        self.put_nums = 0
        self.put_size = 0
        self.put_failed = 0
        # By bucket; those of at most `SMALL_SIZE_MAX` bytes are not counted a second time, and most topics have no others.
        self._larger_counts: list[int] | None = None

    def note_put(self, size: int, count: int = 1) -> None:
        """Count ``count`` messages put, of ``size`` body bytes together."""
        self.put_nums += count
        self.put_size += size
        if size > SMALL_SIZE_MAX * count:
            self.note_larger(size // count, count)

    def note_larger(self, size: int, count: int = 1) -> None:
        """Count ``count`` messages of more than `SMALL_SIZE_MAX` bytes, ``size`` each, in the histogram."""
        if self._larger_counts is None:
            self._larger_counts = [0] * (len(MESSAGE_SIZE_BOUNDS) + 1)
        self._larger_counts[bisect_left(MESSAGE_SIZE_BOUNDS, size)] += count

    def size_counts(self) -> list[int]:
        """Messages put by size: per bound of `MESSAGE_SIZE_BOUNDS`, and those above all."""
        counts = [0] * (len(MESSAGE_SIZE_BOUNDS) + 1) if self._larger_counts is None else self._larger_counts.copy()
        counts[0] = self.put_nums - sum(counts)
        return counts


class GroupCounters:
    """Of one (group, topic): messages and bytes delivered, pull requests, messages sent back, dead letters."""

    __slots__ = ("dlq_nums", "get_nums", "get_requests", "get_size", "send_back_nums")

    def __init__(self) -> None:
        self.get_nums = 0
        self.get_size = 0
        self.get_requests = 0
        self.send_back_nums = 0
        self.dlq_nums = 0


class BrokerStatistics:
    """All counters of a broker. Totals are of everything, system topics included."""

    def __init__(self) -> None:
        self.topics: dict[str, TopicCounters] = {}
        self.groups: dict[tuple[str, str], GroupCounters] = {}
        self._forgotten = [0, 0, 0, 0]
        self.delayed_nums = 0
        self.delay_lateness_ms_max = 0.0
        self.loop_lag_ms = 0.0
        self.loop_lag_ms_max = 0.0
        self.auto_created_topic_count = 0

    @property
    def put_nums(self) -> int:
        """Messages put since the start."""
        return self._forgotten[0] + sum(counters.put_nums for counters in self.topics.values())

    @property
    def put_size(self) -> int:
        """Body bytes put since the start."""
        return self._forgotten[1] + sum(counters.put_size for counters in self.topics.values())

    @property
    def put_failed(self) -> int:
        """Messages refused by the store since the start, deleted topics not counted."""
        return sum(counters.put_failed for counters in self.topics.values())

    @property
    def get_nums(self) -> int:
        """Messages delivered since the start."""
        return self._forgotten[2] + sum(counters.get_nums for counters in self.groups.values())

    @property
    def get_size(self) -> int:
        """Record bytes delivered since the start."""
        return self._forgotten[3] + sum(counters.get_size for counters in self.groups.values())

    def topic(self, topic: str) -> TopicCounters:
        """The counters of ``topic``, made if need be; keep them rather than asking each time."""
        counters = self.topics.get(topic)
        if counters is None:
            if len(self.topics) >= COUNTERS_MAX:
                topic = OTHER
            counters = self.topics.setdefault(topic, TopicCounters())
        return counters

    def group(self, group: str, topic: str) -> GroupCounters:
        """The counters of ``group`` on ``topic``, made if need be."""
        key = (group, topic)
        counters = self.groups.get(key)
        if counters is None:
            if names.is_light_queue(topic):
                # Thousands of them, each read by one: counted together, as Apache does.
                key = (names.LIGHT_QUEUE_PREFIX if names.is_light_queue(group) else group, names.LIGHT_QUEUE_PREFIX)
            if key not in self.groups and len(self.groups) >= COUNTERS_MAX:
                key = (OTHER, OTHER)
            counters = self.groups.setdefault(key, GroupCounters())
        return counters

    def note_loop_lag(self, lag_ms: float) -> None:
        """A timer of the event loop fired this much late."""
        self.loop_lag_ms = max(lag_ms, 0.0)
        if lag_ms > self.loop_lag_ms_max:
            self.loop_lag_ms_max = lag_ms

    def forget_topic(self, topic: str) -> None:
        """The topic was deleted."""
        counters = self.topics.pop(topic, None)
        if counters is not None:
            self._forgotten[0] += counters.put_nums
            self._forgotten[1] += counters.put_size
        self._forget_groups(lambda key: key[1] == topic)

    def forget_group(self, group: str) -> None:
        """The group was deleted."""
        self._forget_groups(lambda key: key[0] == group)

    def _forget_groups(self, matches: Callable[[tuple[str, str]], bool]) -> None:
        for key in [key for key in self.groups if matches(key)]:
            counters = self.groups.pop(key)
            self._forgotten[2] += counters.get_nums
            self._forgotten[3] += counters.get_size
