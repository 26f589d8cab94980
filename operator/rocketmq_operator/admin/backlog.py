"""What is left in a broker's queues, counted from its statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocketmq_common import javajson, names
from rocketmq_operator.admin.access import BrokerSilent

_DELAYS = "scheduleMessageOffset_"


class Backlog:
    """Messages by (topic, group or "" for topics without a reader, queue id)."""

    def __init__(self) -> None:
        self.left: dict[tuple[str, str, int], int] = {}
        self._read: set[str] = set()

    def add_consumption(self, body: Mapping[str, Any]) -> None:
        """Body of GET_BROKER_CONSUME_STATS: every group with offsets."""
        for entry in body.get("consumeStatsList") or ():
            for group, tables in entry.items():
                for stats in tables or ():
                    self.add_group(group, stats)

    def add_group(self, group: str, stats: Mapping[str, Any]) -> None:
        """One Java ConsumeStats."""
        if names.is_system_group(group):
            return
        for key, row in (stats.get("offsetTable") or {}).items():
            topic, queue_id = _queue(key)
            self._read.add(topic)
            left = int(row.get("brokerOffset") or 0) - max(int(row.get("consumerOffset") or 0), 0)
            if left > 0:
                self.left[topic, group, queue_id] = left

    def has_reader(self, topic: str) -> bool:
        """Whether some group has offsets in a topic."""
        return topic in self._read

    def add_unread(self, topic: str, stats: Mapping[str, Any]) -> None:
        """Body of GET_TOPIC_STATS_INFO of a topic that no group reads: all that it holds is left."""
        for key, row in (stats.get("offsetTable") or {}).items():
            left = int(row.get("maxOffset") or 0) - int(row.get("minOffset") or 0)
            if left > 0:
                self.left[topic, "", _queue(key)[1]] = left

    def by_topic(self) -> dict[str, int]:
        """Sums under ``topic@group``, or ``topic`` where nobody reads."""
        sums: dict[str, int] = {}
        for (topic, group, _), left in self.left.items():
            name = f"{topic}@{group}" if group else topic
            sums[name] = sums.get(name, 0) + left
        return dict(sorted(sums.items()))


def pending_delays(table: Mapping[str, Any]) -> int:
    """Delayed messages that are not due, from runtime info: ``offset,end`` by level, and the timer's own count."""
    total = int(table.get("timerCongestNum") or 0)
    for key, value in table.items():
        if key.startswith(_DELAYS):
            offset, _, end = str(value).partition(",")
            try:
                total += max(int(end) - max(int(offset), 0), 0)
            except ValueError as error:
                raise BrokerSilent(f"runtime info {key}={value} is not understood") from error
    return total


def _queue(key: Any) -> tuple[str, int]:
    fields = key.as_dict() if hasattr(key, "as_dict") else javajson.loads(key)
    return str(fields["topic"]), int(fields["queueId"])
