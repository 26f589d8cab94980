"""Ordered pops: one batch of a queue is out at a time, and what follows waits until all of it is acknowledged or visible again.

Unlike plain pops the group's offset stays at the first message that is not acknowledged, and messages that come again come from
the queue itself. State per (topic, group, queue) is Apache's ``config/consumerOrderInfo.json`` (ConsumerOrderInfoManager).
"""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

import msgspec

from rocketmq_broker.durable import DurableTable, TableError
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem

UNUSED_MS_MAX: Final = 24 * 3_600_000
ORDERED_QUEUES_MAX: Final = 100_000
_SEPARATOR: Final = "@"


class OrderInfo(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The batch of one queue that is out. ``deltas`` holds the first offset and the differences to it; ``acked`` is a bit mask."""

    pop_time: int
    invisible_time: int | None = msgspec.field(name="i", default=None)
    deltas: list[int] = msgspec.field(name="o", default_factory=list)
    next_visible: dict[int, int] = msgspec.field(name="ot", default_factory=dict)
    counts: dict[int, int] = msgspec.field(name="oc", default_factory=dict)
    used_ms: int = msgspec.field(name="l", default=0)
    acked: int = msgspec.field(name="cm", default=0)
    attempt_id: str | None = msgspec.field(name="a", default=None)

    def offsets(self) -> list[int]:
        """Queue offsets of the batch, ascending."""
        return self.deltas[:1] + [self.deltas[0] + delta for delta in self.deltas[1:]]

    def is_acked(self, index: int) -> bool:
        """Whether message ``index`` of the batch is done with."""
        return bool(self.acked >> index & 1)

    def visible_ms(self) -> int:
        """When the last message that is still out comes back; 0 when all are acknowledged."""
        latest = 0
        usual = self.pop_time + (self.invisible_time or 0)
        for index, offset in enumerate(self.offsets()):
            if not self.is_acked(index):
                latest = max(latest, self.next_visible.get(offset, usual))
        return latest

    def first_open(self) -> int:
        """The first offset that is not acknowledged; the one after the batch when all are."""
        offsets = self.offsets()
        for index, offset in enumerate(offsets):
            if not self.is_acked(index):
                return offset
        return offsets[-1] + 1


class OrderedQueues:
    """See the module. Keys are (group, topic) and queue id."""

    def __init__(self, files: FileSystem, directory: Path, clock: Clock, executor: Executor) -> None:
        self._clock = clock
        self._table = DurableTable(files, directory / "consumerOrderInfo.json", self.encode, executor)
        self.infos: dict[tuple[str, str], dict[int, OrderInfo]] = {}

    def load(self) -> None:
        """Read the file; blocking. Raises TableError."""
        raw: dict[str, Any] = self._table.load()
        try:
            table = msgspec.convert(raw.get("table") or {}, dict[str, dict[int, OrderInfo]], strict=False)
        except msgspec.ValidationError as error:
            raise TableError(f"{self._table.path}: {error}: repair the file, or restore its .bak") from error
        for key, infos in table.items():
            topic, _, group = key.partition(_SEPARATOR)
            self.infos[group, topic] = {queue_id: info for queue_id, info in infos.items() if info.deltas}

    def encode(self) -> bytes:
        """Content of the file."""
        table = {f"{topic}{_SEPARATOR}{group}": infos for (group, topic), infos in self.infos.items()}
        return msgspec.json.encode({"table": table})

    async def save_if_dirty(self) -> None:
        """Write what changed since the last time. Raises OSError."""
        await self._table.save_if_dirty()

    def find(self, group: str, topic: str, queue_id: int) -> OrderInfo | None:
        """The batch that is out, or the last one."""
        infos = self.infos.get((group, topic))
        return None if infos is None else infos.get(queue_id)

    def blocked_until_ms(self, group: str, topic: str, queue_id: int, attempt_id: str | None) -> int:
        """When the queue may be popped again; 0 for now, as for the attempt that has its batch already."""
        info = self.find(group, topic, queue_id)
        if info is None or (attempt_id is not None and attempt_id == info.attempt_id):
            return 0
        until_ms = info.visible_ms()
        return until_ms if until_ms > self._clock.now_ms() else 0

    def depart(
        self,
        group: str,
        topic: str,
        queue_id: int,
        offsets: list[int],
        pop_time_ms: int,
        invisible_ms: int,
        attempt_id: str | None,
    ) -> dict[int, int]:
        """A batch is handed out; returns offset → how often it was handed out before, for those that were."""
        infos = self.infos.setdefault((group, topic), {})
        older = infos.get(queue_id)
        counts: dict[int, int] = {}
        if older is not None:
            if older.attempt_id is not None and older.attempt_id == attempt_id:
                # The same attempt asks again, because the answer was lost: that is no further attempt.
                counts = {offset: older.counts[offset] for offset in offsets if offset in older.counts}
            else:
                known = {offset for index, offset in enumerate(older.offsets()) if not older.is_acked(index)}
                counts = {offset: older.counts.get(offset, 0) + 1 for offset in offsets if offset in known}
        first = offsets[0]
        infos[queue_id] = OrderInfo(
            pop_time=pop_time_ms,
            invisible_time=invisible_ms,
            deltas=[first, *(offset - first for offset in offsets[1:])],
            counts=counts,
            used_ms=pop_time_ms,
            attempt_id=attempt_id,
        )
        self._table.touch()
        return counts

    def acknowledge(self, group: str, topic: str, queue_id: int, offset: int, pop_time_ms: int) -> int | None:
        """A message is done with; the group's new offset, ``None`` when the handle is not valid any more."""
        found = self._out(group, topic, queue_id, offset, pop_time_ms)
        if found is None:
            return None
        info, index = found
        info.acked |= 1 << index
        return info.first_open()

    def prolong(self, group: str, topic: str, queue_id: int, offset: int, pop_time_ms: int, visible_ms: int) -> bool:
        """The message comes back at ``visible_ms``; False when the handle is not valid any more."""
        found = self._out(group, topic, queue_id, offset, pop_time_ms)
        if found is None:
            return False
        found[0].next_visible[offset] = visible_ms
        return True

    def clear(self, group: str, topic: str, queue_id: int) -> None:
        """The group's offset was reset."""
        infos = self.infos.get((group, topic))
        if infos is not None and infos.pop(queue_id, None) is not None:
            self._table.touch()

    def forget_topic(self, topic: str) -> None:
        """The topic was deleted."""
        self._forget([key for key in self.infos if key[1] == topic])

    def forget_group(self, group: str) -> None:
        """The group was deleted."""
        self._forget([key for key in self.infos if key[0] == group])

    def forget_unused(self) -> None:
        """Forget what nobody used for a day, and the oldest beyond `ORDERED_QUEUES_MAX`."""
        before = self._clock.now_ms() - UNUSED_MS_MAX
        everything = sorted(
            (info.used_ms, key, queue_id) for key, infos in self.infos.items() for queue_id, info in infos.items()
        )
        for number, (used_ms, key, queue_id) in enumerate(everything):
            if used_ms >= before and len(everything) - number <= ORDERED_QUEUES_MAX:
                break
            del self.infos[key][queue_id]
            self._table.touch()
        self._forget([key for key, infos in self.infos.items() if not infos])

    def _out(
        self, group: str, topic: str, queue_id: int, offset: int, pop_time_ms: int
    ) -> tuple[OrderInfo, int] | None:
        info = self.find(group, topic, queue_id)
        if info is None or info.pop_time != pop_time_ms:
            return None
        offsets = info.offsets()
        if offset not in offsets:
            return None
        index = offsets.index(offset)
        if info.is_acked(index):
            return None
        info.used_ms = self._clock.now_ms()
        self._table.touch()
        return info, index

    def _forget(self, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            del self.infos[key]
            self._table.touch()
