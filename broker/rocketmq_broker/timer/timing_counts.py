"""How many timer messages wait, by topic: the file ``config/timermetrics`` and the answer to GET_TIMER_METRICS."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

import msgspec

from rocketmq_broker.durable import DurableTable, TableError
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.topics import DataVersion

FILE_NAME: Final = "timermetrics"


class TopicTiming(msgspec.Struct, rename={"timestamp": "timeStamp"}):
    """``timestamp``: of the last change, in ms."""

    count: int = 0
    timestamp: int = 0


class TimingCounts:
    """Used on the loop. The saved numbers are those of the last `capture`, which belongs to a checkpoint."""

    def __init__(self, files: FileSystem, directory: Path, clock: Clock, executor: Executor) -> None:
        self._clock = clock
        self._table = DurableTable(files, directory / FILE_NAME, lambda: self._captured, executor)
        self.topics: dict[str, TopicTiming] = {}
        self.data_version = DataVersion()
        self._captured = self.encode()

    def load(self) -> None:
        """Read the file; blocking. Raises TableError."""
        self.adopt(self._table.load())

    def adopt(self, raw: dict[str, Any]) -> None:
        """Take what a file, or a master's answer, says. Raises TableError; nothing is changed then."""
        try:
            version = msgspec.convert(raw.get("dataVersion") or {}, DataVersion, strict=False)
            topics = msgspec.convert(raw.get("timingCount") or {}, dict[str, TopicTiming], strict=False)
        except msgspec.ValidationError as error:
            raise TableError(f"{self._table.path}: {error}: repair the file, or remove it to count anew") from error
        self.topics, self.data_version = topics, version
        self._captured = self.encode()

    def add(self, topic: str, change: int) -> None:
        """``change`` more messages for ``topic`` wait."""
        timing = self.topics.get(topic)
        if timing is None:
            timing = self.topics[topic] = TopicTiming()
        timing.count += change
        timing.timestamp = self._clock.now_ms()

    def clear(self) -> None:
        """Nothing waits; what does will be counted again."""
        self.topics.clear()

    @property
    def total(self) -> int:
        """Of all topics."""
        return sum(max(timing.count, 0) for timing in self.topics.values())

    def encode(self) -> bytes:
        """The JSON of the wire, topics for which nothing waits left out."""
        waiting = {topic: timing for topic, timing in self.topics.items() if timing.count > 0}
        return msgspec.json.encode({"dataVersion": self.data_version, "timingCount": waiting})

    def capture(self) -> None:
        """Note the numbers of now for the next `save`."""
        self.topics = {topic: timing for topic, timing in self.topics.items() if timing.count > 0}
        self.data_version = self.data_version.next(self._clock.now_ms())
        self._captured = self.encode()

    async def save(self) -> None:
        """Write what was captured. Raises OSError."""
        await self._table.save()
