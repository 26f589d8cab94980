"""Small stores for replication tests: a writer thread that the test plays itself, segments that roll early."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rocketmq_common.clock import Clock
from rocketmq_store.appending import NewMessage
from rocketmq_store.settings import FlushDiskType, StoreSettings
from rocketmq_store.statuses import AppendResult, PutStatus
from rocketmq_store.store import MessageStore

SEGMENT_SIZE = 1 << 14
WAIT_MAX_S = 20.0


def unexpected(error: BaseException) -> None:
    """The disk of a test does not fail unless the test says so."""
    raise AssertionError(f"fatal: {error!r}") from error


def settings_for(root: Path, *, is_sync: bool = False, segment_size: int = SEGMENT_SIZE, **more: Any) -> StoreSettings:
    """Settings of a store that takes a few kilobytes."""
    return StoreSettings(
        root=str(root),
        commit_log_segment_size=segment_size,
        consume_queue_segment_size=20 * 100,
        index_slot_count=64,
        index_entry_count=256,
        message_size_max=4096,
        flush_disk_type=FlushDiskType.SYNC_FLUSH if is_sync else FlushDiskType.ASYNC_FLUSH,
        **more,
    )


class StoreOfTest:
    """A store outside any loop: what its threads post is run by `run_until`."""

    def __init__(self, root: Path, *, is_sync: bool = False, clock: Clock | None = None, **more: Any) -> None:
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.store = MessageStore(
            settings_for(root, is_sync=is_sync, **more), post=self._posted.put, fatal=unexpected, clock=clock
        )
        self.store.open()

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Play the writer thread until ``condition`` holds."""
        deadline = time.monotonic() + WAIT_MAX_S
        while not condition():
            assert time.monotonic() < deadline, "the store did not get there in time"
            try:
                self._posted.get(timeout=0.05)()
            except queue.Empty:
                continue

    def flush(self) -> None:
        """Wait until everything written is durable."""
        end = self.store.positions.written
        self.store.flush()
        self.run_until(lambda: self.store.positions.flushed >= end)

    def close(self) -> None:
        """End its threads."""
        self.store.close()


def put(
    store: MessageStore, number: int, *, topic: str = "t", queue_id: int = 0, body_size: int = 100, tag: str = "TagA"
) -> AppendResult:
    """Store one message whose body is told by ``number``."""
    body = (f"message {number} ".encode() * (body_size // 8 + 1))[:body_size]
    properties = f"KEYS\x01k{number}\x02UNIQ_KEY\x01u{number}\x02TAGS\x01{tag}\x02".encode()
    result = store.append(NewMessage(topic, queue_id, body, properties))
    assert result.status is PutStatus.PUT_OK, result
    return result


def log_bytes(store: MessageStore, start: int | None = None, end: int | None = None) -> bytes:
    """The raw log from ``start`` to ``end``, by default all of it."""
    position = store.log_min_offset if start is None else start
    end = store.positions.written if end is None else end
    parts = []
    while position < end:
        part = store.commit_log_slice(position, end - position)
        assert part is not None, position
        parts.append(bytes(part))
        position += len(part)
    return b"".join(parts)


def queues_of(store: MessageStore) -> dict[tuple[str, int], list[tuple[int, int, int]]]:
    """Every queue's visible entries."""
    found = {}
    for topic in store.topics():
        for queue_id in store.queue_ids(topic):
            bounds = store.queue_bounds(topic, queue_id)
            assert bounds is not None
            queue = store.queue(topic, queue_id)
            found[topic, queue_id] = [queue.unit(offset) for offset in range(bounds.min_offset, bounds.max_offset)]
    return found
