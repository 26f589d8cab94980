"""A store with its loop in the test's hand: posted calls wait until the test pumps them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import FileSystem, RealFiles
from rocketmq_common.records import StoredMessage, decode_messages
from rocketmq_store.appending import NewMessage
from rocketmq_store.settings import FlushDiskType, StoreSettings
from rocketmq_store.statuses import AppendResult, BatchResult, PutStatus, RecoveryReport
from rocketmq_store.store import MessageStore

WAIT_S = 20.0
SMALL: dict[str, Any] = {
    "commit_log_segment_size": 1 << 16,
    "consume_queue_segment_size": 2000,
    "index_slot_count": 97,
    "index_entry_count": 400,
}


def unique_key(number: int) -> str:
    return f"7F0000010001{number:020X}"


def properties(number: int, tag: str = "TagA", keys: str | None = None) -> bytes:
    text = f"UNIQ_KEY\x01{unique_key(number)}\x02TAGS\x01{tag}\x02KEYS\x01{keys or f'k{number}'}\x02"
    return text.encode()


class Harness:
    """Opens stores on one directory, one after another."""

    def __init__(self, root: Path, *, sync: bool = False, files: FileSystem | None = None, **settings: Any) -> None:
        self.root = root
        self.clock = ManualClock()
        self.files = files if files is not None else RealFiles()
        self.settings = StoreSettings(
            root=str(root),
            flush_disk_type=FlushDiskType.SYNC_FLUSH if sync else FlushDiskType.ASYNC_FLUSH,
            **{**SMALL, **settings},
        )
        self.posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.fatal: list[BaseException] = []
        self.store = self.make()
        self.acknowledged: list[int] = []

    def make(self) -> MessageStore:
        return MessageStore(
            self.settings,
            post=self.posted.put,
            fatal=self.fatal.append,
            files=self.files,
            clock=self.clock,
        )

    def open(self) -> RecoveryReport:
        self.store = self.make()
        return self.store.open()

    def close(self) -> None:
        self.pump()
        self.store.close()

    def abandon(self) -> None:
        """What a kill leaves: threads end, nothing is flushed or marked clean."""
        self.store.abandon()

    def pump(self) -> None:
        """Run what was posted to the loop."""
        while True:
            try:
                call = self.posted.get_nowait()
            except queue.Empty:
                return
            call()

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, "condition did not come true"
            try:
                self.posted.get(timeout=0.01)()
            except queue.Empty:
                continue

    def put(self, number: int, queue_id: int = 0, topic: str = "T", size: int = 32, **fields: Any) -> AppendResult:
        """Append message ``number``; its body begins with the number."""
        fields.setdefault("properties", properties(number))
        body = f"{number}:".encode().ljust(size, b"x")
        return self.store.append(NewMessage(topic, queue_id, body, **fields))

    def put_ok(self, number: int, queue_id: int = 0, topic: str = "T", **fields: Any) -> AppendResult:
        result = self.put(number, queue_id, topic, **fields)
        assert result.status is PutStatus.PUT_OK, result
        return result

    def put_batch(self, numbers: range, queue_id: int = 0, topic: str = "T", size: int = 32) -> BatchResult:
        entries = [BatchEntry(0, f"{number}:".encode().ljust(size, b"x"), properties(number)) for number in numbers]
        return self.store.append_batch(NewMessage(topic, queue_id, encode_batch(entries)))

    def flush(self) -> None:
        """Wait until everything written is durable."""
        written = self.store.positions.written
        self.clock.advance(1000)
        self.store.flush()
        self.wait(lambda: self.store.positions.flushed >= written)

    def checkpoint(self) -> None:
        """Wait until a checkpoint covers everything dispatched."""
        self.flush()
        self.clock.advance(20_000)
        self.store.flush()
        dispatched = self.store.positions.dispatched
        self.wait(lambda: self.store.statistics().checkpoint_offset >= dispatched)

    def messages(self, topic: str = "T", queue_id: int = 0) -> list[StoredMessage]:
        """All visible messages of a queue, read as a consumer would."""
        bounds = self.store.queue_bounds(topic, queue_id)
        if bounds is None:
            return []
        offset, found = bounds.min_offset, []
        while offset < bounds.max_offset:
            got = self.store.get_messages(topic, queue_id, offset, 32)
            for buffer in got.buffers:
                found += list(decode_messages(buffer))
            assert got.next_offset > offset, got
            offset = got.next_offset
        return found

    def numbers(self, topic: str = "T", queue_id: int = 0) -> list[int]:
        """The numbers of a queue's messages, after checking that their offsets are dense and their checksums right."""
        found = self.messages(topic, queue_id)
        bounds = self.store.queue_bounds(topic, queue_id)
        if bounds is not None:
            assert [m.queue_offset for m in found] == list(range(bounds.min_offset, bounds.max_offset))
        return [int(m.body.partition(b":")[0]) for m in found]

    def find(self, number: int, topic: str = "T") -> list[int]:
        """Numbers of the messages that the unique key of ``number`` finds."""
        result = self.store.query(topic, unique_key(number), 32)
        return [int(m.body.partition(b":")[0]) for record in result.records for m in decode_messages(record)]
