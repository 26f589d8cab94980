"""Making stored messages visible: queue entry, then watcher, then a note for the index, in log order.

With ASYNC_FLUSH the append does this itself. With SYNC_FLUSH or a replication bound the append leaves a note here, and
`advance` works off the notes that have become readable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.index import BUILD_BATCH_COUNT, PENDING_COUNT_MAX, Index, KeyHashes
from rocketmq_store.positions import Positions
from rocketmq_store.preparation import NO_ROOM_ERRNOS
from rocketmq_store.queue_table import QueueTable

# queue, queue offset (-1: not queued), physical offset, size, tags code, store timestamp ms, properties, transaction bits.
PendingDispatch = tuple[ConsumeQueue, int, int, int, int, int, bytes, int]


class Dispatcher:
    """Used by the writer thread only."""

    def __init__(
        self,
        queues: QueueTable,
        index: Index,
        positions: Positions,
        *,
        index_enabled: bool,
        on_index_stalled: Callable[[OSError | None], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._queues = queues
        self.index = index
        self._positions = positions
        self._index_enabled = index_enabled
        # Told when notes pile up because the disk is full, and with None when they no longer do.
        self._on_index_stalled = on_index_stalled
        self._fatal = fatal
        self.index_failure: OSError | None = None
        self.pending: deque[PendingDispatch] = deque()
        # Reached, the append builds a part of the index itself, so that the notes stay bounded.
        self.index_pending_max = PENDING_COUNT_MAX if index_enabled else 1

    def advance(self) -> int:
        """Dispatch every note below the readable bound; return how many there were. A disk error is fatal."""
        positions = self._positions
        readable = positions.readable
        pending = self.pending
        count = 0
        note_index = self.index.pending.append
        while pending:
            queue, queue_offset, physical_offset, size, tags_code, timestamp, properties, transaction = pending[0]
            if physical_offset + size > readable:
                break
            if queue_offset >= 0:
                try:
                    queue.put(queue_offset, physical_offset, size, tags_code)
                except OSError as error:
                    # The place was allocated by the append, so this is no full disk.
                    self._fatal(error)
                    return count
            pending.popleft()
            count += 1
            positions.dispatched = physical_offset + size
            if properties and transaction != 12:
                note_index((physical_offset, timestamp, queue.topic_hash, properties))
                if len(self.index.pending) >= self.index_pending_max:
                    self.build_index()
            if queue_offset >= 0:
                queue.end = queue_offset + 1
                if not queue.is_dirty:
                    self._queues.mark_dirty(queue)
                watcher = queue.watcher
                if watcher is not None:
                    watcher(queue, queue_offset, tags_code, timestamp, physical_offset)
        if not pending and readable == positions.written:
            positions.dispatched = readable
        return count

    def forget_topic(self, topic: str) -> None:
        """Messages of a deleted topic that still wait are never dispatched; their records expire with the log."""
        self._forget(lambda queue: queue.topic == topic)

    def forget_queue(self, queue: ConsumeQueue) -> None:
        """The same for one queue, which begins anew."""
        self._forget(lambda other: other is queue)

    def _forget(self, is_meant: Callable[[ConsumeQueue], bool]) -> None:
        if any(is_meant(note[0]) for note in self.pending):
            kept = [note if not is_meant(note[0]) else (note[0], -1, *note[2:6], b"", note[7]) for note in self.pending]
            self.pending.clear()
            self.pending.extend(kept)

    def index_at_once(self, hashes: KeyHashes, physical_offsets: Sequence[int], timestamp_ms: int) -> bool:
        """Index a batch as it is appended; ``False`` when it must be noted: older notes, a full disk."""
        index = self.index
        if not self._index_enabled:
            return True
        # Entries are made in the order of the log. A few notes are worked off here, many by the index builder.
        if len(index.pending) > BUILD_BATCH_COUNT or (index.pending and self.build_index()):
            return False
        try:
            index.put_hashes(hashes, physical_offsets, timestamp_ms)
        except OSError as error:
            if error.errno not in NO_ROOM_ERRNOS:
                self._fatal(error)
            return False
        return True

    def build_index(self, count_max: int = 0) -> int:
        """Work off index notes (0: a batch); return how many are left. Without index they are thrown away."""
        if not self._index_enabled:
            self.index.pending.clear()
            return 0
        try:
            left = self.index.build_pending(count_max or BUILD_BATCH_COUNT)
        except OSError as error:
            if error.errno not in NO_ROOM_ERRNOS:
                self._fatal(error)
                return len(self.index.pending)
            # The notes stay, to be indexed when there is room; meanwhile they must not grow without bound.
            left = len(self.index.pending)
            if self.index_failure is None and left >= self.index_pending_max:
                self.index_failure = error
                self._on_index_stalled(error)
            return left
        if self.index_failure is not None:
            self.index_failure = None
            self._on_index_stalled(None)
        return left
