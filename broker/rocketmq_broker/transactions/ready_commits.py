"""What commits will store, kept from the half messages on, so that most of them read nothing.

The log has it too: whatever is not here, after a start or because it is large or much is undecided, is read from there.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import AppendResult, PutStatus
from rocketmq_store.store import MessageStore

# Kept at once; beyond it the oldest are forgotten. About 20 MiB at most, with bodies and properties of this size.
READY_COUNT_MAX: Final = 8192
READY_SIZE_MAX: Final = 2048

# What `MessageStore.append_plain` takes: the first fields of `NewMessage`, in their order.
Parts = tuple[str, int, bytes, bytes, int, int, int, bytes, int]


class Commit(NamedTuple):
    """``parts`` are those of the message as consumers will get it; only ``producer_group`` may end the transaction."""

    parts: Parts
    producer_group: str


class ReadyCommits:
    """The commits of the youngest undecided transactions by the queue offset of their half message."""

    def __init__(self, count_max: int = READY_COUNT_MAX) -> None:
        self._count_max = count_max
        self._commits: OrderedDict[int, Commit] = OrderedDict()
        # What was kept; ``None`` when it must be read.
        self.find = self._commits.get

    def keep(self, queue_offset: int, commit: Commit) -> None:
        """Remember what the half message at this offset turns into, unless it is large."""
        parts = commit[0]
        if len(parts[2]) + len(parts[3]) <= READY_SIZE_MAX:
            self._commits[queue_offset] = commit
            if len(self._commits) > self._count_max:
                self._commits.popitem(last=False)

    def drop(self, queue_offset: int) -> None:
        """The half message is done with, or no longer the newest copy."""
        self._commits.pop(queue_offset, None)

    def clear(self) -> None:
        """Forget everything."""
        self._commits.clear()


def append_parts(store: MessageStore, parts: Parts, prepared_offset: int = 0) -> AppendResult:
    """`MessageStore.append`, the short way if it is open."""
    place = store.append_plain(*parts, prepared_offset)
    if place is None:
        return store.append(NewMessage(*parts, prepared_offset))
    positions = store.positions
    return AppendResult(PutStatus.PUT_OK, *place, positions.written, positions.store_timestamp_ms)
